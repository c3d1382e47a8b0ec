"""Benchmarks of `fastmlp bench`: training steps of fastmlp, PyTorch, JAX and scikit-learn.

All contenders get the same data, initial weights, batches and number of threads. Each must first agree with the
NumPy backend in float64. Then the contenders are timed in alternation, and the medians over the rounds are compared.
"""

from __future__ import annotations

from .cases import CASES, Case
from .runner import Settings, run

__all__ = ["CASES", "Case", "Settings", "run"]
