"""Columns of the engine's integer tables.

A model is a list of operations, one row of ``ops`` each, in the order of the forward pass: GATHER, the operations of
the modules, and LOSS or EMIT. Offsets of matrices count elements of ``work`` or ``weights``.
"""

from __future__ import annotations

from ..op_columns import (
    BIAS,
    FIRST,
    IN,
    LAYER,
    MEAN,
    MEANS,
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
    "ACTIVATION", "AHEAD", "AVERAGE", "BACKWARD", "BIAS", "BIAS_OFFSET", "BINS", "BINS_COUNT", "BOUNDS", "CAPACITY",
    "CELLS", "CLASS_WEIGHT", "COLUMNS", "COUNTS", "DERIVATIVE", "DX", "DY", "EPILOGUE", "FIRST", "FLIP", "FORWARD",
    "GRADIENT", "IN", "KEY", "KIND", "LAYER", "LINEAR", "LOSS", "LOSS_DENOMINATORS", "MEAN", "MEANS", "NOISE",
    "NUMBERS", "ORDER", "OUT", "OWN", "PAGE", "PANELS", "PARAM_COLUMNS", "PIXEL", "PIXELS", "PRE", "REFRESH", "ROWS",
    "ROW_LOSSES", "ROW_SIZE", "RSTDS", "SAMPLE_WEIGHT", "SCALE", "SCRATCH", "SECOND", "SHARES", "SHIFTS", "SOURCE",
    "SOURCE_ROW", "STEPS", "SUMS", "TABLE", "TARGET", "THRESHOLD", "TRANSPOSED", "WEIGHT", "WEIGHT_OFFSET", "X", "Y",
]  # fmt: skip

# Kinds of operations: products, which the engine computes itself; functions of one panel; functions of rows.
LINEAR, PANELS, ROWS = range(3)

# Columns of all operations, after those of `op_columns`:
# - KIND; CAPACITY: rows for which each matrix of activations has room;
# - DY, DX: offsets in work of the gradients with respect to Y and X; DX is -1 if not needed;
# - FORWARD, BACKWARD: addresses of functions, 0 for none; for a LINEAR, those of its activation;
# - GRADIENT: address of a function that computes the gradients of its parameters, 0 for none;
# - ACTIVATION, DERIVATIVE: addresses of the functions that FORWARD and BACKWARD of an activation call, see
#   `elementwise`;
# - EPILOGUE: operation whose BACKWARD is applied to each panel of this LINEAR's DX, -1 for none;
# - TRANSPOSED: transposed copy of the weight in weights: panels over I, O rows; -1 for no copy;
# - SCRATCH: offset in work of the scratch memory of a function of rows or by column;
# - OWN: whether a LINEAR calls its own BACKWARD, because no other operation's epilogue does;
# - AHEAD: whether a LINEAR prefetches the next panel of its weights;
# - REFRESH: address of a function that recomputes what follows from some rows of the weight, 0 for none.
(
    KIND, CAPACITY, DY, DX, FORWARD, BACKWARD, GRADIENT, ACTIVATION, DERIVATIVE, EPILOGUE, TRANSPOSED, SCRATCH, OWN,
    AHEAD, REFRESH,
) = range(OWN_COLUMNS, OWN_COLUMNS + 15)  # fmt: skip

# Columns whose meaning depends on the operation.
_FREE = OWN_COLUMNS + 15
# A GATHER: the source of the rows; bytes of the system's pages; steps of this run, if the source is a file and the next
# batch is to be read ahead, else 0.
SOURCE, SOURCE_ROW, ORDER, BOUNDS, PAGE, STEPS = range(_FREE, _FREE + 6)
# A loss has ORDER and BOUNDS too. LOSS: address of its function, see `losses`.
TARGET, SAMPLE_WEIGHT, LOSS_DENOMINATORS, ROW_LOSSES, CLASS_WEIGHT, LOSS = range(_FREE + 6, _FREE + 12)
# An augmented GATHER, see `augment`: random words below FLIP flip a row; pixels per line; numbers per pixel; the
# address of the noise's deviations, or 0.
FLIP, PIXELS, PIXEL, NOISE = range(_FREE + 6, _FREE + 10)
# An augmented GATHER and a dropout: the two words of the key, and the address of the numbers of this run's batches.
KEY, COUNTS = _FREE + 12, _FREE + 14
# An augmented GATHER and a mixed LOSS: addresses of the shares and shifts of this run's batches; 0 without mixing.
SHARES, SHIFTS = _FREE + 15, _FREE + 16
# A function of rows: elements of SCRATCH for each row. A layer normalization: offsets of its parameters in weights.
ROW_SIZE, WEIGHT_OFFSET, BIAS_OFFSET = range(_FREE, _FREE + 3)
# A BinnedLinear, see `binned`: address of the bins and number of coded columns; offsets of the cells and the sums in
# work, and of the table in weights.
BINS, BINS_COUNT, CELLS, SUMS, TABLE = range(_FREE, _FREE + 5)
COLUMNS = 48

NUMBERS = 8  # columns of ``numbers``, the function-specific floats

# Columns of ``params``: the offset of the array in weights, followed by the offsets of the optimizer's state arrays.
AVERAGE = 4  # moving average of the array
PARAM_COLUMNS = 6  # the last column: the gradient in work, for clipping by norm or accumulation
