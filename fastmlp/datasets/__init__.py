"""Named data sets and tables from files: ``X, y, X_test, y_test = load("digits")``."""

from __future__ import annotations

from .dataset import Dataset
from .loading import available, load
from .pack import pack
from .preprocessing import apply_preprocessing

__all__ = ["Dataset", "apply_preprocessing", "available", "load", "pack"]
