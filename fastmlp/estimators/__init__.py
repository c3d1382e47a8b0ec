"""scikit-learn estimators: `MLPClassifier` and `MLPRegressor`, in the place of scikit-learn's own."""

from __future__ import annotations

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fastmlp.estimators needs scikit-learn, which is not installed: pip install 'fastmlp[sklearn]'."
    ) from error

from .classifier import MLPClassifier as MLPClassifier
from .regressor import MLPRegressor as MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
