"""Features of the user in a form that CPU kernels read."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._common.validation import Array

__all__ = ["dtype_name", "reads_in_place", "source_of"]

# Keyed by dtype, since the lookup of a dtype's name is slow.
_IN_PLACE = {np.dtype(name): name for name in ("uint8", "float32", "float64")}


def reads_in_place(X: Any) -> bool:
    """Return whether kernels can read the features without a copy."""
    if not isinstance(X, np.ndarray):  # sparse
        return False
    contiguous = X.strides[1] == X.itemsize or X.shape[1] == 1
    return X.dtype in _IN_PLACE and contiguous and X.strides[0] % X.itemsize == 0


def dtype_name(X: Any, dtype: np.dtype[Any]) -> str:
    """Return the name of the dtype in which kernels read features for a model of this dtype."""
    return _IN_PLACE[X.dtype if reads_in_place(X) else dtype]


def source_of(X: Array, index: Array, dtype: np.dtype[Any]) -> tuple[Array, Array, str]:
    """Return (features, order in which to gather them, name of their dtype) of some rows."""
    if reads_in_place(X):
        return X, index, _IN_PLACE[X.dtype]
    return np.ascontiguousarray(X[index], dtype), np.arange(len(index)), _IN_PLACE[dtype]
