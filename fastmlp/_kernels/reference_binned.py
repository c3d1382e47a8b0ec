"""Operations of `BinnedLinear` in NumPy, by way of the dense code: part of `reference`, whose legend holds here too.

    D dense inputs, then C coded columns; B bins and levels of all coded columns together
    x (N, D + C)    weight (O, D)    table (O, B)    bins (C, 3): first column in the table, number of columns, whether
                                                     they are bins (1) or levels (0)

A coded column of x is a position p. The code of n bins is clip(p - k, 0, 1) for k = 0 .. n - 1, that is (1, ..., 1, f,
0, ..., 0). The code of n levels is 1 for the level floor(p), and 0 for all others; a position outside [0, n) has no
level.
"""

from __future__ import annotations

import numpy as np

from .._common.validation import Array

__all__ = ["binned_code", "binned_linear_backward", "binned_linear_forward", "sums_and_rows"]


def binned_code(x: Array, bins: Array, dense: int) -> Array:
    """Return the dense code (N, D + B) of x (N, D + C), with D = ``dense``."""
    parts = [x[:, :dense]]
    for column, (_, count, is_binned) in enumerate(bins.tolist(), dense):
        distance = x[:, column, None] - np.arange(count, dtype=x.dtype)
        parts.append(np.clip(distance, 0, 1) if is_binned else (distance >= 0) & (distance < 1))
    return np.concatenate(parts, axis=1, dtype=x.dtype)


def binned_linear_forward(x, bins, weight, table, bias, out):
    """Compute Y = code(X) [weight table]ᵀ + b; ``bias`` may be None; out (N, O)."""
    np.matmul(binned_code(x, bins, weight.shape[1]), np.concatenate([weight, table], axis=1).T, out=out)
    if bias is not None:
        out += bias


def binned_linear_backward(dy, x, bins, weight, table, dx, dweight, dtable, dbias):
    """Compute the gradients of `binned_linear_forward`; ``dx`` and ``dbias`` may be None.

    The derivative with respect to a position is that of its bin; at an edge of two bins, it is that of the upper one.
    It is 0 outside [0, n], and for levels.
    """
    dense = weight.shape[1]
    gradient = dy.T @ binned_code(x, bins, dense)
    dweight[...], dtable[...] = gradient[:, :dense], gradient[:, dense:]
    if dbias is not None:
        np.sum(dy, axis=0, out=dbias)
    if dx is not None:
        np.matmul(dy, weight, out=dx[:, :dense])
        for column, (first, count, is_binned) in enumerate(bins.tolist(), dense):
            position = x[:, column]
            inside = (position >= 0) & (position <= count) & bool(is_binned)
            row = first + np.minimum(np.where(inside, position, 0).astype(np.int64), count - 1)
            dx[:, column] = np.where(inside, (dy * table.T[row]).sum(axis=1), 0)


def sums_and_rows(table: Array, bins: Array) -> Array:
    """Return (B, 2, O): the sum of the rows of the bins before each bin of table (O, B), and its row.

    For a level, its row comes first, followed by zeros. A position with the row number r and the fraction f then adds
    [r, 0] + f [r, 1].
    """
    rows = table.T
    made = np.zeros((len(rows), 2, rows.shape[1]), table.dtype)
    for first, count, is_binned in bins.tolist():
        own = rows[first : first + count]
        if is_binned:
            np.cumsum(own[:-1], axis=0, out=made[first + 1 : first + count, 0])  # one addition after the other
        made[first : first + count, 1 if is_binned else 0] = own
    return made
