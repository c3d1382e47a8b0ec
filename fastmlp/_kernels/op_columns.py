"""Columns that the tables of operations of the CPU's and the GPU's engine share, and the entries of ``clip_params``.

A table has one row of integers for each operation of a model. The tables of the backends import these columns and add
their own from OWN_COLUMNS on.
"""

from __future__ import annotations

__all__ = [
    "BIAS", "CLIPS", "CLIP_NORM", "CLIP_VALUE", "FIRST", "IN", "LAYER", "MEAN", "MEANS", "NEW_SHARE", "OUT",
    "OWN_COLUMNS", "PRE", "RSTDS", "SCALE", "SECOND", "THRESHOLD", "WEIGHT", "X", "Y",
]  # fmt: skip

IN, OUT = 0, 1  # widths
X, PRE, Y = 2, 3, 4  # offsets in work: input, pre-activation values, output
WEIGHT, BIAS = 5, 6  # -1 for none; on the CPU rows of ``params``, on the GPU offsets in weights

# Two columns whose meaning depends on the operation.
MEAN, SCALE = (
    7,
    8,
)  # normalization by column: offsets in weights of the mean and of the divisor (on the GPU: the factor)
MEANS, RSTDS = 7, 8  # layer normalization: offsets in work of the rows' statistics
FIRST, SECOND = 7, 8  # function by column: offsets in weights of its numbers a and b; -1 for none
LAYER, THRESHOLD = 7, 8  # dropout: number of the layer, and threshold of the random words

OWN_COLUMNS = 9

# Entries of ``clip_params``: bounds of values and of the norm, 0 for none; 1 - decay of the moving average.
CLIP_VALUE, CLIP_NORM, NEW_SHARE, CLIPS = range(4)
