"""Column indices of the tables that drive the persistent kernel of `steps`.

``ops`` has one row per operation of the model, in forward order, and one for the loss. ``jobs`` lists the computations
on operations. ``stages`` lists the range of jobs between two grid barriers. Offsets count elements of ``work`` or
``weights``.
"""

from __future__ import annotations

__all__ = [
    "ACTIVATE", "ACTIVATE_BACK", "ACTIVATION", "ALPHA", "AVERAGE_PLANE", "BELOW", "BIAS", "CHAIN", "CHECKS",
    "BY_COLUMN", "BY_COLUMN_BACK", "CHUNK", "CLIPS", "COLUMN_GRADIENT", "FIRST", "FORMULA", "SECOND", "CLIP_NORM",
    "CLIP_VALUE", "CONTROL", "COUNTER", "COUNTERS", "DATA", "DELTA", "DEVIATIONS", "DROP", "DROP_BACK", "FACTOR",
    "FIRST_JOB", "FIRST_STEP", "FORWARD", "FROM", "GATHER", "GATHERED", "GRADIENTS", "HYPER", "IN", "JOB_COLUMNS",
    "JOB_COUNT", "KEY", "KIND", "LAST_JOB", "LAYER", "LISTS", "LOSS", "MEAN", "MEANS", "METERS", "NEW_SHARE",
    "NORM", "NORMALIZE", "NORMALIZE_BACK", "NORM_BACK", "NORM_GRADIENT", "NUMBERS", "OP", "OP_COLUMNS", "OP_COUNT",
    "OUT", "PARTS", "PIXEL", "PIXELS", "PLANE", "PORTION", "PORTIONS", "PRE", "ROW_COUNT", "RSTDS", "SCALE", "SEED",
    "SHARES", "SHIFT", "SOFTMAX", "SOFTMAX_BACK", "SPLITS", "SPREAD", "SQUARES", "STAGE_COLUMNS", "STAGE_COUNT",
    "STEPS", "SUMS", "SUM_COUNT", "THRESHOLD", "TILES", "TURN", "UPDATE", "WEIGHT", "WEIGHTS", "WIDE", "G", "X",
    "Y",
]  # fmt: skip

# Columns of ops.
IN, OUT = 0, 1  # widths
X, PRE, Y = 2, 3, 4  # offsets in work: input (or DATA for the gathered batch), pre-activation, output
G = 5  # offset in work: gradient with respect to PRE, or to Y of an operation without an activation
ACTIVATION = 6  # index of the activation in Spec.kinds; -1 for none
BELOW = 7  # index of the operation whose G the backward job of this one writes; -1 for none
WEIGHT, BIAS = 8, 9  # offsets in weights; -1 for none
# First operation: offsets in weights of the mean that is subtracted from the data and of the factor that follows; -1
# for none.
MEAN, SCALE = 10, 11
MEANS, RSTDS = 12, 13  # layer norm: offsets in work of the rows' statistics
SHIFT, FACTOR = 12, 13  # later normalization: offsets in weights of the mean and of 1 / scale
FIRST, SECOND, FORMULA = 12, 13, 14  # function by column: offsets in weights of a and b (or a); index in Spec.columns
LAYER, THRESHOLD, SEED = 12, 13, 14  # dropout: layer number, threshold of random words, seed
OP_COLUMNS = 15

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

# Entries of ``clip_params`` (in the model's dtype): bounds of values and of the norm, 0 for none; 1 - d of the weight
# average.
CLIP_VALUE, CLIP_NORM, NEW_SHARE = range(3)
CLIPS = 3
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
METERS = 12

# Packed arguments of a launch of S steps, one array per dtype:
# - ints (int64): header, counter of the grid barrier (in a separate cache line), run_params, ops, jobs, stages,
#   bounds (S + 1), counters, shifts of mixed rows (S * PORTIONS), order;
# - reals (the model's dtype): clip_params, normalizers (S), penalties (S), numbers, hyperparameters (S * H), shares of
#   mixed rows (S * PORTIONS), standard deviations of the noise (I);
# - results (float64, written by the kernel): number of completed steps, losses (S), penalties (S), sums, parts.
STEPS, ROW_COUNT, OP_COUNT, JOB_COUNT, STAGE_COUNT, HYPER, SUM_COUNT, COUNTERS, SHARES, DEVIATIONS = range(10)
CONTROL, LISTS = 16, 32
