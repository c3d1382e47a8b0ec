"""Saved estimators whose class is not known beforehand."""

from __future__ import annotations

import os

from .._common.errors import ModelFileError
from .base import BaseTabular
from .classifier import TabularClassifier
from .regressor import TabularRegressor
from .saving import ensemble_info

__all__ = ["load_estimator"]

_CLASSES: dict[str, type[BaseTabular]] = {kind.__name__: kind for kind in (TabularClassifier, TabularRegressor)}


def load_estimator(path: str | os.PathLike[str]) -> BaseTabular:
    """Load a saved TabularClassifier or TabularRegressor.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    TabularClassifier or TabularRegressor

    Raises
    ------
    ModelFileError, OSError
        As `TabularClassifier.load`.
    """
    kind = ensemble_info(path)["estimator"]
    if kind not in _CLASSES:
        raise ModelFileError(f"{path} is a {kind}; expected {' or '.join(_CLASSES)}, or a newer fastmlp.")
    return _CLASSES[kind].load(path)
