"""Validation of arguments and arrays.

The functions return the argument as an array of the requested dtype, without a copy if it already is one. A
`ValueError` names the value seen and the value expected.
"""

from __future__ import annotations

import contextlib
import math
import numbers
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from .mapped import Facts, file_identity

__all__ = [
    "Array",
    "SparseRows",
    "as_class_indices",
    "as_distributions",
    "as_dtype",
    "as_elementwise_targets",
    "as_features",
    "as_float",
    "as_gradient",
    "as_integer",
    "as_number",
    "as_real_array",
    "as_sample_weight",
    "as_state",
    "as_vector",
    "finite_features",
    "keep_finite",
    "require_finite",
    "require_finite_once",
    "require_rows",
    "sparse_rows",
]

Array = npt.NDArray[Any]

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_CHUNK = 1 << 20  # elements checked at once, so that a memory-mapped array is never in memory as a whole


# ------------------------------------------------------------------------------------ single values


def as_integer(value: object, name: str, minimum: int = 1) -> int:
    """Return ``value`` as an int of at least ``minimum``; raise ValueError for bools and floats."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < minimum:
        raise ValueError(f"{name} is {value!r}; expected an integer of at least {minimum}.")
    return int(value)


def as_number(
    value: object,
    name: str,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return ``value`` as a finite float from ``low`` to ``high``; an open end of the range is excluded."""
    real = isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))
    number = float(value) if real else math.nan  # type: ignore[arg-type]
    inside = low <= number <= high and math.isfinite(number)
    if not inside or (open_low and number == low) or (open_high and number == high):
        lower = "" if low == -math.inf else f" {'above' if open_low else 'of at least'} {low:g}"
        upper = "" if high == math.inf else f"{' and' if lower else ''} {'below' if open_high else 'at most'} {high:g}"
        raise ValueError(f"{name} is {value!r}; expected a finite number{lower}{upper}.")
    return number


def as_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return ``dtype`` as a NumPy dtype, which must be float32 or float64."""
    if dtype is not None:  # np.dtype(None) is float64
        with contextlib.suppress(TypeError):
            found = np.dtype(dtype)
            if found in (_FLOAT32, _FLOAT64):
                return found
    raise ValueError(f"dtype is {dtype!r}; expected float32 or float64.")


# ------------------------------------------------------------------------------------------- arrays


def as_real_array(values: object, what: str) -> Array:
    """Return ``values`` as an array of bools, integers or floats, of any shape."""
    # The first use of np.ma imports numpy.ma, which takes longer than a prediction for a few rows.
    if type(values) is not np.ndarray and isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(f"{what} is a masked array with masked entries; expected no masked entry.")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{what} is not a rectangular array of numbers: {error}") from error
    if array.dtype.kind in "biuf":
        return array
    if hasattr(values, "tocsr"):
        raise ValueError(f"{what} is a sparse {type(values).__name__}; expected a dense array, as toarray() gives it.")
    if hasattr(type(values), "columns") and hasattr(values, "__array__"):
        return _of_frame(values, what)
    raise ValueError(f"{what} has dtype {array.dtype}; expected bools, integers or floats.")


def _of_frame(frame: Any, what: str) -> Array:
    """Return the numbers of a data frame whose columns have no common NumPy dtype, such as pandas' nullable dtypes."""
    columns: dict[Any, Array] = {}
    for name in frame.columns:
        if name in columns:  # frame[name] gives both columns
            raise ValueError(f"{what} has two columns {name!r}; expected distinct names, or one dtype for all columns.")
        column = columns[name] = np.asarray(frame[name])
        if column.ndim == 1 and column.dtype.kind not in "biuf":
            raise ValueError(f"{what} has column {name!r} of dtype {column.dtype}; expected bools, integers or floats.")
    return np.column_stack(list(columns.values()))


def as_float(array: Array, dtype: np.dtype[Any], what: str) -> Array:
    """Return ``array`` in ``dtype``; raise ValueError for a finite number that ``dtype`` cannot represent."""
    try:
        # The cast itself sets the overflow flag, so that no second pass over the numbers is needed.
        with np.errstate(over="raise", invalid="ignore"):
            return array.astype(dtype, copy=False)
    except FloatingPointError:
        lost = np.isfinite(array) & ~np.isfinite(_cast(array, dtype))
    _refuse_size(array, np.unravel_index(int(np.argmax(lost)), lost.shape), dtype, what)


def _cast(array: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(dtype, copy=False)


def _refuse_size(array: Array, index: tuple[Any, ...], dtype: np.dtype[Any], what: str) -> NoReturn:
    limit = f"{np.finfo(dtype).max:.4g}"
    raise ValueError(
        f"{what} is {array[index]!s}{_place(index)}; expected numbers of {dtype}, at most {limit} in size."
    )


def _place(index: tuple[Any, ...]) -> str:
    if len(index) == 2:
        return f" at row {index[0]}, column {index[1]}"
    return f" at index {', '.join(map(str, index))}" if index else ""


def _is_array(values: Any) -> bool:
    """Whether ``values`` is a NumPy array or an array on a GPU, which are used without conversion."""
    return type(values) is np.ndarray or hasattr(values, "copy_to_host")


def as_features(x: Any, width: int | None, dtype: np.dtype[Any] | None, where: str, raw: bool = False) -> Array:
    """Return a batch ``x (N, width)`` in ``dtype``.

    Parameters
    ----------
    x : array-like
    width : int or None
        None admits any number of columns.
    dtype : numpy.dtype or None
        None keeps float32 and float64 and converts narrower dtypes to float32.
    where : str
        Name of the caller, for messages.
    raw : bool
        Whether uint8 is returned unchanged.

    Raises
    ------
    ValueError
        If ``x`` has another shape or no numbers, or a number that ``dtype`` cannot represent.

    Examples
    --------
    >>> as_features([[1, 2]], 2, None, "f").dtype
    dtype('float32')
    """
    if _is_array(x) and (x.dtype == dtype or (dtype is None and x.dtype in (_FLOAT32, _FLOAT64))):
        array: Array = x
    else:
        array = as_real_array(x, f"{where}: x")
        if dtype is None:
            wide = array.dtype.kind == "f" and array.dtype.itemsize >= 8
            array = as_float(array, _FLOAT64 if wide else _FLOAT32, f"{where}: x")
        elif not (raw and array.dtype == np.uint8):
            array = as_float(array, dtype, f"{where}: x")
    shape = array.shape
    if len(shape) != 2 or (shape[1] != width if width is not None else shape[1] == 0):
        expected = f"(N, {'features' if width is None else width})"
        what = where if where.endswith(": X") else f"{where}: x"
        raise ValueError(f"{what} has shape {shape}; expected {expected}.")
    return array


class SparseRows:
    """SciPy sparse matrix whose rows are returned as dense arrays.

    Parameters
    ----------
    matrix : sparse array or matrix of shape (N, features)
        Converted to CSR format, without a copy if it has that format.
    """

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix.tocsr()
        self.shape, self.dtype = self.matrix.shape, self.matrix.dtype

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> Array:
        """Return the rows of a slice or an array of row numbers as a dense array (M, features)."""
        dense: Array = self.matrix[rows].toarray()
        return dense


def sparse_rows(X: Any, width: int | None, what: str) -> SparseRows | None:
    """Return a SciPy sparse matrix (N, width) as `SparseRows`, or None if ``X`` is not sparse."""
    if not isinstance(X, SparseRows) and not hasattr(X, "tocsr"):
        return None
    rows = X if isinstance(X, SparseRows) else SparseRows(X)
    if rows.dtype.kind not in "biuf":
        raise ValueError(f"{what} has dtype {rows.dtype}; expected bools, integers or floats.")
    if len(rows.shape) != 2 or rows.shape[1] != (rows.shape[1] if width is None else width):
        raise ValueError(f"{what} has shape {rows.shape}; expected (N, {'features' if width is None else width}).")
    return rows


def finite_features(X: Any, width: int | None, dtype: np.dtype[Any] | None, what: str) -> Array:
    """Return ``X (N, width)`` in its own dtype without a copy, after a check that all numbers are finite in ``dtype``.

    A SciPy sparse matrix is returned as `SparseRows`. A mapped file is not read again if it has not changed since a
    check in this process.
    """
    rows = sparse_rows(X, width, what)
    if rows is not None:
        require_finite(rows.matrix.data, f"{what}: a stored number", dtype)
        return rows  # type: ignore[return-value]
    array = as_real_array(X, what)
    array = as_features(array, width, array.dtype, what)
    require_finite_once(array, what, dtype)
    return array


def require_finite_once(array: Array, what: str, dtype: np.dtype[Any] | None = None) -> None:
    """Call `require_finite`, but not for a mapped file that has not changed since a check in this process."""
    identity = file_identity(array)
    if identity is None or (identity, dtype) not in _finite_files:
        require_finite(array, what, dtype)
        _finite_files.keep(None if identity is None else (identity, dtype), True)


def keep_finite(array: Array) -> None:
    """Note that an array in a mapped file is known to be finite, in its own dtype and wider ones."""
    identity = file_identity(array)
    if identity is not None:
        for dtype in (None, _FLOAT64, *([_FLOAT32] if array.dtype != _FLOAT64 else [])):
            _finite_files.keep((identity, dtype), True)


_finite_files = Facts()


def as_gradient(dy: Any, shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> Array:
    """Return the gradient ``dy`` in ``dtype``, which must have the shape of the last result of forward."""
    if _is_array(dy) and dy.dtype == dtype:
        array: Array = dy
    else:
        what = f"{where}.backward: dy"
        array = as_float(as_real_array(dy, what), dtype, what)
    if array.shape != shape:
        raise ValueError(
            f"{where}.backward expected dy of shape {shape}, that of the last forward's result, got {array.shape}."
        )
    return array


def as_vector(values: object, length: int | None, what: str, *, positive: bool = False) -> Array:
    """Return finite numbers ``(length,)`` in float64; with ``positive`` they must be at least 0."""
    array = as_float(as_real_array(values, what), _FLOAT64, what)
    if array.ndim != 1 or (length is not None and len(array) != length):
        expected = "(n,)" if length is None else f"({length},)"
        raise ValueError(f"{what} has shape {array.shape}; expected {expected}.")
    bad = ~np.isfinite(array) | (array < 0 if positive else False)
    if bad.any():
        first = int(np.argmax(bad))
        expected = "finite numbers of at least 0" if positive else "finite numbers"
        raise ValueError(f"{what} is {array[first]} at index {first}; expected {expected}.")
    return array


def as_sample_weight(sample_weight: object, rows: int) -> Array:
    """Return sample weights ``(N,)`` in float64; they must be finite and at least 0, with a finite sum above 0."""
    weights = as_vector(sample_weight, rows, "sample_weight", positive=True)
    with np.errstate(over="ignore"):
        total = float(weights.sum())
    if not 0 < total < math.inf:
        raise ValueError(f"sample_weight sums to {total:g} over {rows} rows; expected a finite sum above 0.")
    return weights


def as_state(value: object, current: Array, name: str) -> Array:
    """Return ``value`` in the dtype of the array ``current`` that it is to replace; the shapes must be equal."""
    array = as_real_array(value, name)
    if array.shape != current.shape:
        raise ValueError(f"{name} has shape {array.shape}; expected {current.shape}.")
    return as_float(array, current.dtype, name)


def require_rows(rows: int, what: str) -> None:
    """Raise ValueError if ``rows`` is 0."""
    if rows < 1:
        raise ValueError(f"{what} has no rows; expected at least one.")


def require_finite(array: Array, what: str, dtype: np.dtype[Any] | None = None) -> None:
    """Raise ValueError if a number is not finite, also after a cast to ``dtype``.

    The check proceeds in blocks, so that memory stays bounded.
    """
    if array.dtype.kind != "f":
        return
    step = max(1, _CHUNK // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), step):
        block = array[start : start + step]
        finite = np.isfinite(block if dtype is None else _cast(block, dtype))
        if not finite.all():
            index = np.unravel_index(int(np.argmin(finite)), finite.shape)
            index = (start + index[0], *index[1:])
            if dtype is not None and np.isfinite(array[index]):
                _refuse_size(array, index, dtype, what)
            raise ValueError(f"{what} is {array[index]}{_place(index)}; expected finite numbers.")


# ------------------------------------------------------------------------------------------ targets


def as_class_indices(y: Array, rows: int, classes: int, where: str) -> Array:
    """Return class indices ``(N,)`` in int64, each from 0 to C - 1."""
    if y.dtype.kind == "f":
        raise ValueError(
            f"{where} expected integer class indices, got {y.dtype}; pass one-hot (N, C) for soft targets."
        )
    _require_target_shape(y, (rows, classes), where, alternative=(rows,))
    if rows and (int(y.min()) < 0 or int(y.max()) >= classes):
        row = int(np.argmax((y < 0) | (y >= classes)))
        raise ValueError(
            f"{where} expected class indices from 0 to {classes - 1} (C = {classes}), got {y[row]} at row {row}."
        )
    return y.astype(np.int64, copy=False)


def as_distributions(y: Array, shape: tuple[int, int], dtype: np.dtype[Any], where: str) -> Array:
    """Return one-hot or soft targets ``(N, C)`` in ``dtype``; they must be finite and at least 0."""
    _require_target_shape(y, shape, where, alternative=shape[:1])
    return _require_range(y, 0.0, math.inf, dtype, where)


def as_elementwise_targets(
    y: Array,
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    where: str,
    low: float = -math.inf,
    high: float = math.inf,
) -> Array:
    """Return finite targets of the outputs' shape in ``dtype``, from ``low`` to ``high``; ``(N,)`` fits ``(N, 1)``."""
    if y.ndim == 1 and shape == (len(y), 1):
        y = y[:, None]
    _require_target_shape(y, shape, where)
    return _require_range(y, low, high, dtype, where)


def _require_range(y: Array, low: float, high: float, dtype: np.dtype[Any], where: str) -> Array:
    cast = as_float(y, dtype, f"{where}: y")
    good = np.isfinite(cast)
    if low > -math.inf:
        good &= cast >= low
    if high < math.inf:
        good &= cast <= high
    if not good.all():
        row, column = (int(i) for i in np.unravel_index(int(np.argmin(good)), good.shape))
        limits = "" if low == -math.inf else f" of at least {low:g}"
        limits = limits if high == math.inf else f" from {low:g} to {high:g}"
        raise ValueError(
            f"{where} expected finite targets{limits}, got {y[row, column]} at row {row}, column {column}."
        )
    return cast


def _require_target_shape(
    y: Array, shape: tuple[int, ...], where: str, alternative: tuple[int, ...] | None = None
) -> None:
    if y.shape != shape and y.shape != alternative:
        _refuse_target_shape(y.shape, shape, where, alternative)


def _refuse_target_shape(
    seen: tuple[int, ...], outputs: tuple[int, ...], where: str, alternative: tuple[int, ...] | None
) -> NoReturn:
    choices = [str(shape) for shape in (alternative, outputs) if shape is not None]
    if alternative is None and outputs[1] == 1:
        choices.insert(0, str(outputs[:1]))
    raise ValueError(
        f"{where} expected targets of shape {' or '.join(choices)} for outputs of shape {outputs}, got {seen}."
    )
