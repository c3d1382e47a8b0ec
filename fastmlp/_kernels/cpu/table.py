"""Columns of the engine's integer tables.

A model is a list of operations, one row of ``ops`` each, in the order of the forward pass: GATHER, the operations of
the modules, and LOSS or EMIT. Offsets of matrices count elements of ``work`` or ``weights``.
"""

from __future__ import annotations

__all__ = [
    "AHEAD", "AVERAGE", "BACKWARD", "BIAS", "BOUNDS", "CAPACITY", "CLASS_WEIGHT", "COLUMNS", "COUNTS", "DX", "DY",
    "EPILOGUE", "EXTRA", "FIRST", "FLIP", "FORWARD", "GRADIENT", "IN", "KEY", "KIND", "LINEAR", "MEAN", "MEANS",
    "NOISE", "NORMALIZERS", "NUMBERS", "ORDER", "OUT", "OWN", "PAGE", "PANELS", "PARAM_COLUMNS", "PIXEL", "PIXELS",
    "PRE", "ROWS", "ROW_LOSSES", "RSTDS", "SAMPLE_WEIGHT", "SCALE", "SECOND", "SHARES", "SHIFTS", "SOURCE",
    "SOURCE_ROW", "STEPS", "TARGET", "TRANSPOSED", "WEIGHT", "X", "Y",
]  # fmt: skip

# Kinds of operations: products, which the engine computes itself; functions of one panel; functions of rows.
LINEAR, PANELS, ROWS = range(3)

KIND = 0
CAPACITY = 1  # rows for which each matrix of activations has room
IN, OUT = 2, 3  # widths
X, PRE, Y = 4, 5, 6  # input, pre-activation values (equal to Y if not needed), output; in work
DY, DX = 7, 8  # gradients with respect to Y and X; DX is -1 if not needed
FORWARD, BACKWARD = 9, 10  # addresses of functions, 0 for none; for a LINEAR, those of its activation
EPILOGUE = 11  # operation whose BACKWARD is applied to each panel of this LINEAR's DX; -1 for none
WEIGHT, BIAS = 12, 13  # rows of ``params``; -1 for none
TRANSPOSED = 14  # transposed copy of the weight in weights: panels over I, O rows; -1 for no copy
AHEAD = 15  # scratch of a function of rows or by column; in work
OWN = 16  # whether a LINEAR calls its own BACKWARD, because no other operation's epilogue does
EXTRA = 17  # first of the columns with function-specific integers
GRADIENT = 39  # address of a function that computes the gradients of its parameters
COLUMNS = 40

# EXTRA of a GATHER and a LOSS: the source of the rows. MEAN and SCALE, in weights, also belong to a later
# normalization.
SOURCE, SOURCE_ROW, ORDER, BOUNDS, MEAN, SCALE = range(EXTRA, EXTRA + 6)
TARGET, SAMPLE_WEIGHT, NORMALIZERS, ROW_LOSSES, CLASS_WEIGHT = range(EXTRA + 6, EXTRA + 11)
STEPS = EXTRA + 11  # steps of this run, if the source is a file and the next batch is to be read ahead; else 0
PAGE = TARGET  # of a GATHER: bytes of the system's pages
# EXTRA of an augmented GATHER, see `augment`: random words below FLIP flip a row; pixels per line; numbers per pixel;
# the address of the noise's deviations, or 0; the key's two words; the address of the batch numbers of this run.
FLIP, PIXELS, PIXEL, NOISE, KEY, COUNTS = (*range(EXTRA + 12, EXTRA + 17), EXTRA + 18)
# EXTRA of an augmented GATHER and of a mixed LOSS: addresses of the shares and shifts of this run's batches; 0 without
# mixing.
SHARES, SHIFTS = EXTRA + 19, EXTRA + 20
# EXTRA of a layer normalization: the statistics of its rows, in work. Of a dropout: see `operations.dropout_forward`.
MEANS, RSTDS = range(EXTRA, EXTRA + 2)
# EXTRA of a function by column: the offsets of its numbers in weights, -1 for none. AHEAD has room for both numbers of
# each column.
FIRST, SECOND = range(EXTRA, EXTRA + 2)

NUMBERS = 8  # columns of ``numbers``, the function-specific floats

# Columns of ``params``: the offset of the array in weights, followed by the offsets of the optimizer's state arrays.
AVERAGE = 4  # moving average of the array
PARAM_COLUMNS = 6  # the last column: the gradient in work, for clipping by norm or accumulation
