"""Sums of many numbers in float64, in bounded memory and with the bits of NumPy's."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

__all__ = ["deviation", "sum_in_blocks"]

_BLOCK = 1 << 17  # most numbers that are added by one call of NumPy


def sum_in_blocks(count: int, numbers: Callable[[slice], np.ndarray]) -> float:
    """Return the sum of ``count`` numbers, of which ``numbers`` returns slices in float64, in bounded memory.

    The numbers are added in the order of `numpy.sum` of all of them (pairwise), so that the bits are those of NumPy.

    Examples
    --------
    >>> values = np.arange(5.0)
    >>> sum_in_blocks(5, lambda part: values[part])
    10.0
    """

    def add(start: int, stop: int) -> float:
        if stop - start <= _BLOCK:
            return float(np.sum(numbers(slice(start, stop))))
        half = (stop - start) // 2
        middle = start + half - half % 8
        return add(start, middle) + add(middle, stop)

    return add(0, count)


def deviation(values: np.ndarray) -> float:
    """Return the standard deviation of some numbers ``(n,)``, computed in float64 as by `numpy.std`.

    Examples
    --------
    >>> deviation(np.array([1.0, 3.0]))
    1.0
    """
    mean = values.mean(dtype=np.float64)

    def squares(part: slice) -> np.ndarray:
        # The mean is a scalar of NumPy, which NumPy 1 would round to the dtype of the values.
        distances: np.ndarray = np.subtract(values[part], mean, dtype=np.float64)
        distances *= distances
        return distances

    return math.sqrt(sum_in_blocks(len(values), squares) / len(values))
