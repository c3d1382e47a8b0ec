"""Column indices of the tables that drive the persistent kernel of `steps`.

``ops`` has one row per operation of the model, in forward order, and one for the loss. ``jobs`` lists the computations
on operations. ``stages`` lists the range of jobs between two grid barriers. Offsets count elements of ``work`` or
``weights``.
"""

from __future__ import annotations

from ..op_columns import (
    BIAS,
    CLIP_NORM,
    CLIP_VALUE,
    CLIPS,
    FIRST,
    IN,
    LAYER,
    MEAN,
    MEANS,
    NEW_SHARE,
    OUT,
    OWN_COLUMNS,
    PRE,
    RSTDS,
    SCALE,
    SECOND,
    THRESHOLD,
    WEIGHT,
    X,
    Y,
)  # fmt: skip

__all__ = [
    "ACTIVATE", "ACTIVATE_BACK", "ACTIVATION", "ALPHA", "AVERAGE_PLANE", "BELOW", "BIAS", "BY_COLUMN", "BY_COLUMN_BACK",
    "CHAIN", "CHECKS", "CHUNK", "CLIPS", "CLIP_NORM", "CLIP_VALUE", "COLUMN_GRADIENT", "CONTROL", "COUNTER", "COUNTERS",
    "DATA", "DELTA", "DEVIATIONS", "DROP", "DROP_BACK", "FIRST", "FIRST_JOB", "FIRST_STEP", "FORMULA", "FORWARD",
    "FROM", "G", "GATHER", "GATHERED", "GATHER_MEAN", "GATHER_SCALE", "GRADIENTS", "HYPER", "IN", "JOB_COLUMNS",
    "JOB_COUNT", "KEY", "KIND", "LAST_JOB", "LAYER", "LISTS", "LOSS", "MEAN", "MEANS", "NEW_SHARE", "NORM", "NORMALIZE",
    "NORMALIZE_BACK", "NORM_BACK", "NORM_GRADIENT", "NUMBERS", "OP", "OP_COLUMNS", "OP_COUNT", "OUT", "PARTS", "PIXEL",
    "PIXELS", "PLANE", "PORTION", "PORTIONS", "PRE", "ROW_COUNT", "RSTDS", "RUN_PARAMS", "SCALE", "SECOND", "SEED",
    "SHARES", "SOFTMAX", "SOFTMAX_BACK", "SPLITS", "SPREAD", "SQUARES", "STAGE_COLUMNS", "STAGE_COUNT", "STEPS", "SUMS",
    "SUM_COUNT", "THRESHOLD", "TILES", "TURN", "UPDATE", "WEIGHT", "WEIGHTS", "WIDE", "X", "Y",
]  # fmt: skip

# Columns of ops after those of `op_columns`. X of the first operation is DATA: the gathered batch.
G = OWN_COLUMNS  # offset in work: gradient with respect to PRE, or to Y of an operation without an activation
ACTIVATION = OWN_COLUMNS + 1  # index of the activation in Spec.kinds; -1 for none
BELOW = OWN_COLUMNS + 2  # index of the operation whose G the backward job of this one writes; -1 for none
# First operation: offsets in weights of the mean that is subtracted from the data and of the factor that follows; -1
# for none.
GATHER_MEAN, GATHER_SCALE = OWN_COLUMNS + 3, OWN_COLUMNS + 4
FORMULA = OWN_COLUMNS + 5  # function by column: index in Spec.columns
SEED = OWN_COLUMNS + 5  # dropout: seed
OP_COLUMNS = OWN_COLUMNS + 6

DATA = -2

# Columns of ``numbers``, parallel to ``ops``. Column 0: alpha of an activation, eps of a layer norm or 1 / (1 - p) of a
# dropout. The loss uses both columns.
ALPHA, NUMBERS = 0, 2

# Columns of jobs.
KIND, OP = 0, 1
TILES = 2  # number of tiles along the columns of the result; the rows are those of the batch, or OUT for WEIGHTS
SPLITS, CHUNK = 3, 4  # split-K: number of splits and inner steps per split; 1 and 0 without split-K
PARTS = 5  # split-K: offset in work of the partial sums
WIDE = 6  # whether the product uses wide tiles
COUNTER = 7  # split-K: index of the counter of finished splits of the first tile
SUMS = 8  # jobs of gradients: index of the sums of squares of the first tile or item
FROM = 9  # SPREAD stage: block that takes the first item, computed for full batches
JOB_COLUMNS = 10

# Kinds of jobs on rows of the batch.
FORWARD, DELTA, LOSS, ACTIVATE, ACTIVATE_BACK, DROP, DROP_BACK, NORM, NORM_BACK, SOFTMAX, SOFTMAX_BACK = range(11)
# Kinds of jobs on weights.
WEIGHTS, NORM_GRADIENT, UPDATE = range(11, 14)
# Gathering of the next batch, concurrent with the update of the weights.
GATHER = 14
# More kinds of jobs on rows of the batch.
NORMALIZE, NORMALIZE_BACK, BY_COLUMN, BY_COLUMN_BACK = range(15, 19)
# Another kind of job on weights.
COLUMN_GRADIENT = 19

# Columns of stages.
# Values of KIND: each tile of each job separately, or all jobs in turn for a stretch of rows. The kernel uses KIND as a
# factor, so the values must be 0 and 1.
SPREAD, CHAIN = 0, 1
FIRST_JOB, LAST_JOB = 1, 2
CHECKS = 3  # whether the stage requires a finite loss
SQUARES = 4  # whether the stage clips the gradient's norm, given the sums of squares of the stage before
STAGE_COLUMNS = 5

# Entries of ``run_params`` (int64):
# - PLANE: number of parameters, also the distance between planes of states;
# - AVERAGE_PLANE: offset of the weight average;
# - GRADIENTS: offset in work of stored gradients;
# - KEY: seed of the augmentation; FIRST_STEP: number of the launch's first step;
# - GATHERED, GATHERED + 1: offsets in work of a batch's features, used by alternating steps;
# - PORTION: rows of a portion, the unit of random numbers; PORTIONS: maximum number of portions per step;
# - TURN: threshold of random words for flips; PIXELS: pixels per line; PIXEL: values per pixel.
PLANE, AVERAGE_PLANE, GRADIENTS, KEY, FIRST_STEP, GATHERED = range(6)
PORTION, PORTIONS, TURN, PIXELS, PIXEL = range(7, 12)
RUN_PARAMS = 12

# Packed arguments of a launch of S steps, one array per dtype:
# - ints (int64): header, counter of the grid barrier (in a separate cache line), run_params, ops, jobs, stages,
#   bounds (S + 1), counters, shifts of mixed rows (S * PORTIONS), order;
# - reals (the model's dtype): clip_params, denominators (S), penalties (S), numbers, hyperparameters (S * H), shares of
#   mixed rows (S * PORTIONS), standard deviations of the noise (I);
# - results (float64, written by the kernel): number of completed steps, losses (S), penalties (S), sums, parts.
STEPS, ROW_COUNT, OP_COUNT, JOB_COUNT, STAGE_COUNT, HYPER, SUM_COUNT, COUNTERS, SHARES, DEVIATIONS = range(10)
CONTROL, LISTS = 16, 32
