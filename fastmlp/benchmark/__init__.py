"""What `fastmlp bench` measures: training steps of fastmlp beside those of PyTorch, JAX and scikit-learn.

All contenders have the same data, first weights, batches and number of threads. Each first has to agree with
the NumPy backend in float64; then they take turns in one run, and medians of the rounds are compared.
"""

from __future__ import annotations

from .cases import CASES, Case
from .runner import Settings, run

__all__ = ["CASES", "Case", "Settings", "run"]
