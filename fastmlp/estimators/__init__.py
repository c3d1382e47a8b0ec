"""Drop-in replacements for scikit-learn's MLPClassifier and MLPRegressor."""

from __future__ import annotations

from .._common.installed import is_installed as _is_installed

if not _is_installed("sklearn"):
    raise ImportError("fastmlp.estimators needs scikit-learn, which is not installed: pip install 'fastmlp[sklearn]'.")

from .classifier import MLPClassifier as MLPClassifier
from .regressor import MLPRegressor as MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
