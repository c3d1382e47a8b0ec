"""Rows given by a path instead of an array."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .._common.errors import DataError
from .array_files import map_npy

if TYPE_CHECKING:
    import numpy as np

__all__ = ["open_rows", "open_rows_and_targets", "open_validation"]

Part = Literal["training", "test"]


def open_rows(rows: Any, what: str) -> Any:
    """Map the rows whose path is given instead of an array; return other values unchanged.

    Parameters
    ----------
    rows : array-like or path-like
        Path of a ``.npy`` file, of a folder of such files, which are joined in the order of their names, or of a packed
        folder, whose test rows are used.
    what : str
        Name of the argument, for messages.

    Raises
    ------
    DataError
        As `map_npy`, or if the path is that of something else, or the files of a folder do not fit each other.

    Examples
    --------
    >>> open_rows([[1.0]], "X")
    [[1.0]]
    """
    return _open(rows, what, "test")[0] if isinstance(rows, (str, os.PathLike)) else rows


def open_rows_and_targets(X: Any, y: Any, where: str, part: Part = "training", names: str = "X y") -> tuple[Any, Any]:
    """Map the rows and the targets whose paths are given instead of arrays.

    Parameters
    ----------
    X : array-like or path-like
        See `open_rows`.
    y : array-like, path-like or None
        None takes the targets of the folder ``X``: of a packed folder, or of ``part_y.npy`` beside each ``part_X.npy``.
    where : str
        Name of the caller, for messages.
    part : {"training", "test"}
        Part of a packed folder.
    names : str
        Names of the arguments, for messages.

    Raises
    ------
    DataError
        As `open_rows`, or if there are no targets or twice.

    Examples
    --------
    >>> open_rows_and_targets([[1.0]], [2.0], "fit")
    ([[1.0]], [2.0])
    """
    name_X, name_y = names.split()
    if not isinstance(X, (str, os.PathLike)):
        return X, open_rows(y, f"{where}: {name_y}")
    rows, targets = _open(X, f"{where}: {name_X}", part)
    if targets is None and y is None:
        raise DataError(f"{where}: {name_y} is None, and {str(X)!r} has no targets; expected an array, or a path.")
    if targets is not None and y is not None:
        raise DataError(f"{where}: {str(X)!r} has targets; expected {name_y}=None, which takes these.")
    return rows, targets if y is None else open_rows(y, f"{where}: {name_y}")


def open_validation(validation: Any) -> tuple[Any, Any, Any] | None:
    """Return (X, y, sample_weight or None) of the argument ``validation`` of `Trainer.fit`; None without rows.

    Parameters
    ----------
    validation : (X, y), (X, y, sample_weight), path-like or None
        Each may be a path; one alone stands for rows and targets, those of the test part for a packed folder.

    Raises
    ------
    ValueError
        If it is something else, besides the errors of `open_rows`.

    Examples
    --------
    >>> open_validation(([[1.0]], [2.0]))
    ([[1.0]], [2.0], None)
    """
    if validation is None:
        return None
    if isinstance(validation, (str, os.PathLike)):
        return *open_rows_and_targets(validation, None, "validation", "test"), None
    if not isinstance(validation, (tuple, list)) or len(validation) not in (2, 3):
        seen = f"{len(validation)} entries" if isinstance(validation, (tuple, list)) else type(validation).__name__
        raise ValueError(f"validation is not a pair (X, y), or (X, y, sample_weight); got {seen}.")
    X, y, weight = (open_rows(rows, "validation") for rows in (*validation, None)[:3])
    return X, y, weight


def _open(given: Any, what: str, part: Part) -> tuple[np.ndarray, np.ndarray | None]:
    path = Path(os.path.expanduser(given))
    if path.suffix.lower() == ".npy" and not path.is_dir():
        return map_npy(path), None
    if path.is_dir():
        # Not imported without need, as the start of a small fit takes about as long.
        from ..datasets.pack_cache import load_joined
        from ..datasets.packed import is_packed, open_packed

        if not is_packed(path):
            return load_joined(path)
        data = open_packed(path)
        return (data.X, data.y) if part == "training" else (data.X_test, data.y_test)
    raise DataError(
        f"{what} is the path {str(given)!r}; expected an array, or the path of a .npy file, of a folder of such files, "
        "or of a packed folder. fastmlp.load reads other tables, and maps their arrays with mapped=True."
    )
