"""The engine's tables: what the columns of its integer arrays mean.

A model is a list of operations, one row of ``ops`` each, in the order of the forward pass: GATHER, what the
modules do, LOSS or EMIT. Offsets of matrices count elements of ``work`` or ``weights``.
"""

from __future__ import annotations

__all__ = [
    "AHEAD", "AVERAGE", "BACKWARD", "BIAS", "BOUNDS", "CAPACITY", "CLASS_WEIGHT", "COLUMNS", "COUNTS", "DX", "DY",
    "EPILOGUE", "EXTRA", "FIRST", "FLIP", "FORWARD", "GRADIENT", "IN", "KEY", "KIND", "LINEAR", "MEAN", "MEANS",
    "NOISE", "NORMALIZERS", "NUMBERS", "ORDER", "OUT", "OWN", "PANELS", "PARAM_COLUMNS", "PIXEL", "PIXELS", "PRE",
    "ROWS", "ROW_LOSSES", "RSTDS", "SAMPLE_WEIGHT", "SCALE", "SECOND", "SHARES", "SHIFTS", "SOURCE", "SOURCE_ROW",
    "STEPS", "TARGET", "TRANSPOSED", "WEIGHT", "X", "Y",
]  # fmt: skip

# Kinds of operations: products, which the engine makes itself; functions of one panel; functions of rows.
LINEAR, PANELS, ROWS = range(3)

KIND = 0
CAPACITY = 1  # rows that each matrix of activations has room for
IN, OUT = 2, 3  # widths
X, PRE, Y = 4, 5, 6  # input, values before the activation (Y itself where they are not needed), output; in work
DY, DX = 7, 8  # gradients with respect to Y and X; DX is -1 where nobody needs it
FORWARD, BACKWARD = 9, 10  # addresses of functions, 0 for none; a LINEAR's are its activation's
EPILOGUE = 11  # the operation whose BACKWARD follows, panel by panel, on this LINEAR's DX; -1 for none
WEIGHT, BIAS = 12, 13  # rows of ``params``; -1 for none
TRANSPOSED = 14  # the weight's other copy in weights: panels over I, O rows; -1 where DX is not needed
AHEAD = 15  # scratch of a function of rows, or by column: in work
OWN = 16  # whether a LINEAR calls its own BACKWARD, as no other operation's epilogue does
EXTRA = 17  # from here on a function's own integers
GRADIENT = 39  # address of a function that finds its parameters' gradients itself
COLUMNS = 40

# EXTRA of a GATHER and a LOSS: where the rows come from. MEAN and SCALE, in weights, also of a later normalization.
SOURCE, SOURCE_ROW, ORDER, BOUNDS, MEAN, SCALE = range(EXTRA, EXTRA + 6)
TARGET, SAMPLE_WEIGHT, NORMALIZERS, ROW_LOSSES, CLASS_WEIGHT = range(EXTRA + 6, EXTRA + 11)
STEPS = EXTRA + 11  # of this run, where the source is a file and the next batch is to be read ahead; else 0
# Of an augmented GATHER, see `augment`: random words below FLIP turn rows; pixels of a line, numbers of a pixel; the
# address of the noise's deviations, or 0; the key's two words; the address of this run's batches' numbers.
FLIP, PIXELS, PIXEL, NOISE, KEY, COUNTS = (*range(EXTRA + 12, EXTRA + 17), EXTRA + 18)
# Of it and of a mixed LOSS: addresses of the shares and shifts of this run's batches; 0 where nothing is mixed.
SHARES, SHIFTS = EXTRA + 19, EXTRA + 20
# Of a LAYER NORM: its rows' statistics in work. Of a DROPOUT: see `operations.dropout_forward`.
MEANS, RSTDS = range(EXTRA, EXTRA + 2)
# Of a function by column: where its numbers are in weights, -1 for none; its AHEAD is room for both of each column.
FIRST, SECOND = range(EXTRA, EXTRA + 2)

NUMBERS = 8  # columns of ``numbers``: a function's own floats

# Columns of ``params``: the array's place in weights, then those of the optimizer's arrays.
AVERAGE = 4  # the moving average of the array itself
PARAM_COLUMNS = 6  # the last: its gradient in work, where the norm is clipped or batches are added up
