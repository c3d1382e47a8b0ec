"""Comparison of analytic gradients with numerical ones."""

from __future__ import annotations

from .check import check_gradients
from .report import GradientReport

__all__ = ["GradientReport", "check_gradients"]
