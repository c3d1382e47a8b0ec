"""Estimators for tables of mixed columns, and the encoding of their columns."""

from __future__ import annotations

from .._common.installed import is_installed as _is_installed

if not _is_installed("sklearn"):
    raise ImportError("fastmlp.tabular needs scikit-learn, which is not installed: pip install 'fastmlp[sklearn]'.")

from .classifier import TabularClassifier as TabularClassifier
from .encoder import ColumnEncoder as ColumnEncoder
from .regressor import TabularRegressor as TabularRegressor

__all__ = ["ColumnEncoder", "TabularClassifier", "TabularRegressor"]
