"""The tables that the persistent kernel of `steps` follows: what their columns mean.

``ops`` has a row for each operation of the model, forward, and one for the loss. ``jobs`` are what is to be done to
them, ``stages`` which jobs a grid does between two of its barriers. Offsets count elements of ``work`` or ``weights``.
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
X, PRE, Y = 2, 3, 4  # input (DATA: the batch's rows, gathered), values before the activation, output; in work
G = 5  # gradient with respect to PRE, or to Y of an operation without an activation
ACTIVATION = 6  # number of the activation in the kernel's list; -1 for none
BELOW = 7  # the operation whose G this one's backward writes; -1 where nobody needs it
WEIGHT, BIAS = 8, 9  # in weights; -1 for none
MEAN, SCALE = 10, 11  # of the first operation: what is taken from the data, and what it is multiplied by then: in
# weights, -1 for none
MEANS, RSTDS = 12, 13  # of a layer norm: its rows' statistics, in work
SHIFT, FACTOR = 12, 13  # of a later normalization: its mean and 1 / scale, in weights
FIRST, SECOND, FORMULA = 12, 13, 14  # of a function by column: its numbers a and b (or a), in weights; its number
LAYER, THRESHOLD, SEED = 12, 13, 14  # of a dropout
OP_COLUMNS = 15

DATA = -2

# ``numbers`` beside ops: an activation's alpha; eps of a layer norm; 1 / (1 - p) of a dropout.
ALPHA, NUMBERS = 0, 2

# Columns of jobs.
KIND, OP = 0, 1
TILES = 2  # of columns of what it computes; of rows there are as many as the batch has, or for WEIGHTS in OUT
SPLITS, CHUNK = 3, 4  # parts of the inner dimension, and the steps of one; 1 and 0 for all of it
PARTS = 5  # where the parts' results come together, in work
WIDE = 6  # whether tiles are the wide ones
COUNTER = 7  # of a split product: the number of its first tile's counter of parts
SUMS = 8  # of jobs of gradients: the number of the first tile's, or item's, sums of squares
FROM = 9  # in a SPREAD stage: the block whose turn it is with the first item, in batches of all rows
JOB_COLUMNS = 10

# Kinds of jobs. Of rows of the batch:
FORWARD, DELTA, LOSS, ACTIVATE, ACTIVATE_BACK, DROP, DROP_BACK, NORM, NORM_BACK, SOFTMAX, SOFTMAX_BACK = range(11)
# of weights:
WEIGHTS, NORM_GRADIENT, UPDATE = range(11, 14)
# and of rows of the next batch, which are brought together while this one's weights change:
GATHER = 14
# Again of rows of the batch:
NORMALIZE, NORMALIZE_BACK, BY_COLUMN, BY_COLUMN_BACK = range(15, 19)
# and again of weights:
COLUMN_GRADIENT = 19

# Columns of stages.
# KIND, with which the kernel multiplies: each tile of each job by itself; or all jobs for a stretch of rows, in turn.
SPREAD, CHAIN = 0, 1
FIRST_JOB, LAST_JOB = 1, 2
CHECKS = 3  # whether the loss has to be finite for this stage to begin
SQUARES = 4  # whether the gradient's norm is clipped by what the stage before has left
STAGE_COLUMNS = 5

# Entries of ``clips`` (of the model's dtype): bounds of values and of the norm, 0 for none; 1 - d of the average.
CLIP_VALUE, CLIP_NORM, NEW_SHARE = range(3)
CLIPS = 3
# Entries of ``meters`` (int64): parameters, and how far apart their states are; how far away the average is; where
# gradients are kept, in work; the seed of changed rows, and the first step's number; the two places in
# work of a batch's features, of which steps take turns; the rows of a portion, by which random numbers go, and how many
# portions a step has at most; the threshold of words that turn a row, the pixels of a line, and a pixel's numbers.
PLANE, AVERAGE_PLANE, GRADIENTS, KEY, FIRST_STEP, GATHERED = range(6)
PORTION, PORTIONS, TURN, PIXELS, PIXEL = range(7, 12)
METERS = 12

# What a launch is given beside the data, in one array of each kind. Of int64: a header, the barrier's counter in a
# cache line of its own, and then meters, ops, jobs, stages, bounds (S + 1), counters, by how many places rows are mixed
# (S * PORTIONS), order. Of the model's dtype: clips, normalizers (S), penalties (S), numbers, hyper (S * H), shares of
# mixtures (S * PORTIONS), the noise's deviations (I). Of float64, which the kernel writes: how many steps
# were made, losses (S), penalties (S), sums, parts.
STEPS, ROW_COUNT, OP_COUNT, JOB_COUNT, STAGE_COUNT, HYPER, SUM_COUNT, COUNTERS, SHARES, DEVIATIONS = range(10)
CONTROL, LISTS = 16, 32
