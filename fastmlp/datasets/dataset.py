"""Dataset: the four arrays of a data set, and what is known about them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from .._common.errors import DataError

__all__ = ["Dataset", "Task"]

Task = Literal["classification", "regression"]


class Dataset(tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]):
    """A data set in two parts: unpacks as ``X, y, X_test, y_test``.

    The arrays are as the source gives them: nothing is scaled (that is the first module of a model, so that it
    travels with the weights), and of a table only those columns are centered whose digits would be lost otherwise.

    Attributes
    ----------
    X, X_test : ndarray of shape (N, features)
        Examples, C-contiguous; uint8 for image sets, float32 for tables.
    y, y_test : ndarray of shape (N,)
        int64 indices into `classes` for classification; float64 for regression, or float32 where the source has
        no more.
    name : str
        The name it was loaded by (for a table the file's name).
    task : {"classification", "regression"}
    classes : tuple of str or None
        Class names in the order of the indices; None for regression.
    feature_names : tuple of str or None
        One name a column of `X`, where the source names them.
    image_shape : tuple of int or None
        ``(channels, height, width)`` of a row of `X`, where rows are images.
    preprocessing : dict or None
        How a table's columns became `X` (JSON-able; see `apply_preprocessing`), None where `X` is raw.

    Raises
    ------
    DataError
        If the arrays do not fit each other.
    """

    name: str
    task: Task
    classes: tuple[str, ...] | None
    feature_names: tuple[str, ...] | None
    image_shape: tuple[int, int, int] | None
    preprocessing: dict[str, Any] | None

    def __new__(
        cls,
        X: np.ndarray,
        y: np.ndarray,
        X_test: np.ndarray,
        y_test: np.ndarray,
        *,
        name: str,
        task: Task,
        classes: tuple[str, ...] | None = None,
        feature_names: tuple[str, ...] | None = None,
        image_shape: tuple[int, int, int] | None = None,
        preprocessing: dict[str, Any] | None = None,
    ) -> Dataset:
        for part, rows, targets in (("training", X, y), ("test", X_test, y_test)):
            if rows.ndim != 2 or targets.shape != (len(rows),):
                raise DataError(
                    f"{name}: the {part} part has examples of shape {rows.shape} and targets of shape "
                    f"{targets.shape}; expected (N, features) and (N,)."
                )
        if X.shape[1] != X_test.shape[1]:
            raise DataError(f"{name}: the test part has {X_test.shape[1]} features, the training part {X.shape[1]}.")
        self = super().__new__(cls, (X, y, X_test, y_test))
        self.name = name
        self.task = task
        self.classes = classes
        self.feature_names = feature_names
        self.image_shape = image_shape
        self.preprocessing = preprocessing
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[np.ndarray, ...], dict[str, Any]]:
        # A tuple subclass is copied and pickled through __new__, which here needs the keywords too.
        return tuple(self), dict(self.__dict__)

    @property
    def X(self) -> np.ndarray:
        """Training examples, shape (N, features)."""
        return self[0]

    @property
    def y(self) -> np.ndarray:
        """Training targets, shape (N,)."""
        return self[1]

    @property
    def X_test(self) -> np.ndarray:
        """Test examples, shape (N, features)."""
        return self[2]

    @property
    def y_test(self) -> np.ndarray:
        """Test targets, shape (N,)."""
        return self[3]

    def __repr__(self) -> str:
        task: str = self.task
        if self.classes is not None:
            task += f" in {len(self.classes)} classes"
        arrays = ", ".join(
            f"{label} {array.shape} {array.dtype}"
            for label, array in zip(("X", "y", "X_test", "y_test"), self, strict=True)
        )
        return f"<Dataset {self.name!r}: {task}; {arrays}>"
