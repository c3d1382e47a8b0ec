"""Mean outputs of several networks for the same rows in one native call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._common.validation import Array
from ..modules import Module
from .kernels import inference_kernels
from .plan import lower
from .predictor import Predictor

__all__ = ["EnsemblePredictor"]


class EnsemblePredictor:
    """Frozen copies of networks of the same widths, with one thread.

    Parameters
    ----------
    models : sequence of Module
        At least one.
    """

    def __init__(self, models: Sequence[Module]) -> None:
        self._predictors = [Predictor(model, threads=1) for model in models]
        kernels = inference_kernels()
        lowered = [] if kernels is None else [lower(kernels, model) for model in models]
        self._plans = [plan.compile() for plan in lowered if plan is not None]
        self._native = kernels if len(self._plans) == len(self._predictors) else None

    def __call__(self, x: Array) -> Array:
        """Return the mean outputs (N, O) for rows x (N, I), float64, added in the order of the networks."""
        found = None if self._native is None else self._native.mean_of(self._plans, x)
        if found is None:
            outputs = [predictor(x) for predictor in self._predictors]
            found = np.add.reduce(outputs, axis=0, dtype=np.float64) / len(outputs)
        mean: Array = found
        return mean
