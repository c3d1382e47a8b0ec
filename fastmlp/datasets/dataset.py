"""Dataset: training and test arrays with their metadata."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from .._common.errors import DataError

__all__ = ["Dataset", "Task"]

Task = Literal["classification", "regression"]


class Dataset(tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]):
    """Data set with a training and a test part; unpacks as ``X, y, X_test, y_test``.

    The values are those of the source. Scaling is the task of the model's first module (`Normalize`), which is saved
    with the weights. Columns of a table are centered only if ``X`` would lose digits otherwise.

    Attributes
    ----------
    X, X_test : ndarray of shape (N, features)
        Features, C-contiguous; uint8 for image sets, float32 for tables.
    y, y_test : ndarray of shape (N,)
        Classification: int64 indices into `classes`. Regression: float64, or float32 if the source has no more
        precision.
    name : str
        Name of the data set, or of the table's file.
    task : {"classification", "regression"}
    classes : tuple of str or None
        Class names in the order of the indices; None for regression.
    feature_names : tuple of str or None
        Names of the columns of `X`, if the source has names.
    image_shape : tuple of int or None
        ``(channels, height, width)`` of a row of `X`, if rows are images.
    preprocessing : dict or None
        JSON-able record of the conversion of a table's columns to `X`, see `apply_preprocessing`; None if `X` is raw.
    digest : str or None
        Digest of the four arrays, if it is known without reading them: that of a packed folder.

    Raises
    ------
    DataError
        If the arrays do not fit each other.

    Examples
    --------
    >>> import fastmlp as fm
    >>> X, y, X_test, y_test = data = fm.load("digits")
    >>> data
    <Dataset 'digits': classification in 10 classes; X (1437, 64) uint8, y (1437,) int64, X_test (360, 64) uint8, \
y_test (360,) int64>
    """

    name: str
    task: Task
    classes: tuple[str, ...] | None
    feature_names: tuple[str, ...] | None
    image_shape: tuple[int, int, int] | None
    preprocessing: dict[str, Any] | None
    digest: str | None

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
        digest: str | None = None,
    ) -> Dataset:
        for part, rows, targets in (("training", X, y), ("test", X_test, y_test)):
            if rows.ndim != 2 or targets.shape != (len(rows),):
                raise DataError(
                    f"{name}: the {part} part has examples of shape {rows.shape} and targets of shape "
                    f"{targets.shape}; expected (N, features) and (N,)."
                )
        if X.shape[1] != X_test.shape[1]:
            raise DataError(f"{name}: the test part has {X_test.shape[1]} features; expected {X.shape[1]}.")
        self = super().__new__(cls, (X, y, X_test, y_test))
        self.name = name
        self.task = task
        self.classes = classes
        self.feature_names = feature_names
        self.image_shape = image_shape
        self.preprocessing = preprocessing
        self.digest = digest
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[np.ndarray, ...], dict[str, Any]]:
        # Tuple subclasses are copied and unpickled through __new__, which needs the keywords.
        return tuple(self), dict(self.__dict__)

    @property
    def X(self) -> np.ndarray:
        """Training features, shape (N, features)."""
        return self[0]

    @property
    def y(self) -> np.ndarray:
        """Training targets, shape (N,)."""
        return self[1]

    @property
    def X_test(self) -> np.ndarray:
        """Test features, shape (N, features)."""
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
