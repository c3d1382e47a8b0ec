"""Loss: base class of the losses, with checks, reduction and weights; the kernels compute the losses of rows.

The loss l_i of row i is multiplied by row_scale_i = s_i / n, where s is ``sample_weight`` (1 by default) and n the
denominator. The value is thus sum_i s_i l_i / n. If n is 0, value and gradient are 0.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar, TypeVar

import numpy as np

from .._common.validation import (
    Array,
    as_elementwise_targets,
    as_features,
    as_real_array,
    as_sample_weight,
    require_rows,
)
from .._kernels import get_backend
from .._kernels.has_backend import HasBackend

__all__ = ["Loss", "runs_kernel"]

F = TypeVar("F", bound=Callable[..., Any])
# Range of targets, by ``target_kind``.
_RANGES = {
    "labels": (0.0, math.inf), "unit": (0.0, 1.0), "counts": (0.0, math.inf), "numbers": (-math.inf, math.inf),
}  # fmt: skip
_COMPUTE = ("forward", "backward", "forward_backward", "_run")


def runs_kernel(call: F) -> F:
    """Mark a ``_call`` that only runs the formula of ``kernel``, see `Loss.uses_kernel`."""
    call.runs_kernel = True  # type: ignore[attr-defined]
    return call


class Loss(HasBackend):
    """Base class of the losses.

    Attributes
    ----------
    task : str
        Task of a model trained with the loss: "classification", "binary" or "regression".

    Examples
    --------
    >>> import fastmlp as fm
    >>> isinstance(fm.MSELoss(), fm.Loss), fm.MSELoss().task
    (True, 'regression')
    """

    task: str = "regression"
    # Kind of targets: "labels" (class indices), "unit" (numbers from 0 to 1), "counts" (at least 0) or "numbers".
    target_kind: ClassVar[str] = "numbers"
    # Name of the formula: a file of `_kernels.formulas.losses`.
    kernel: str
    # Attributes that are the parameters a and b of the formula; None is passed as -1.
    number_names: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def examples(cls) -> list[Loss]:
        """Return instances that together vary every argument of the class, for 5 columns if the number matters."""
        return [cls()]

    def __init__(self) -> None:
        super().__init__()
        # Row scales of the last batch without sample weights, cached since most batches have the same size.
        self._equal: Array = np.empty(0, np.float32)

    def to(self, backend: str) -> Loss:
        """Move to another backend in place; return the loss.

        Raises
        ------
        BackendError
            If the backend is not available.
        """
        self.backend: ModuleType = get_backend(backend)
        return self

    def forward(self, x: Any, y: Any, sample_weight: Any = None, *, denominator: float | None = None) -> float:
        """Compute the loss of outputs ``x`` and targets ``y``.

        Parameters
        ----------
        x : array-like of shape (N, C)
            Outputs of the model, with N at least 1.
        y : array-like
            Targets, as the class describes them.
        sample_weight : array-like of shape (N,), optional
            Weights s of the rows, at least 0. The value is sum(s l) / sum(s).
        denominator : float, optional
            Divisor of the sum of the rows' losses, if the rows are part of a larger set; see `denominator`.

        Returns
        -------
        float
            Loss, summed over rows in float64.

        Raises
        ------
        ValueError
            If shapes, dtypes or values do not match.
        """
        return self._run(x, y, sample_weight, value=True, denominator=denominator)[0]

    __call__ = forward

    def backward(self, x: Any, y: Any, sample_weight: Any = None) -> Array:
        """Compute the gradient of `forward` with respect to ``x``; parameters and errors are those of `forward`.

        Returns
        -------
        ndarray of shape (N, C)
            Gradient in float64 if ``x`` is float64, else in float32.
        """
        dx: Array = self._run(x, y, sample_weight, gradient=True)[1]
        return dx

    def forward_backward(
        self, x: Any, y: Any, sample_weight: Any = None, *, denominator: float | None = None
    ) -> tuple[float, Array]:
        """Compute (`forward`, `backward`) in one pass over ``x``; parameters and errors are those of `forward`."""
        return self._run(x, y, sample_weight, value=True, gradient=True, denominator=denominator)

    def _run(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        *,
        value: bool = False,
        gradient: bool = False,
        denominator: float | None = None,
    ) -> tuple[float, Any]:
        backend = self.backend
        x = backend.from_numpy(as_features(x, None, None, type(self).__name__))
        rows = x.shape[0]
        require_rows(rows, f"{type(self).__name__}: x")
        target = self.check_targets(y, x)
        row_scale = backend.from_numpy(self._row_scale(target, sample_weight, x.dtype, denominator))
        losses = backend.empty((rows,), x.dtype) if value else None
        dx = backend.empty(x.shape, x.dtype) if gradient else None
        self._call(x, backend.from_numpy(target), row_scale, losses, dx)
        total = float(backend.to_numpy(losses).sum(dtype=np.float64)) if value else math.nan
        return total, dx

    def _row_scale(self, target: Array, sample_weight: Any, dtype: np.dtype[Any], denominator: float | None) -> Array:
        rows = len(target)
        weights = None if sample_weight is None else as_sample_weight(sample_weight, rows)
        if denominator is None:
            denominator = self._denominator(target, weights)
        denominator = denominator or math.inf  # if all weights are 0, the row scales are 0
        if weights is not None:
            return (weights / denominator).astype(dtype)
        scale = 1 / denominator
        equal = self._equal
        if equal.shape != (rows,) or equal.dtype != dtype or (rows and equal[0] != equal.dtype.type(scale)):
            self._equal = equal = np.full(rows, scale, dtype)
        return equal

    def denominator(self, y: Any, sample_weight: Any = None) -> float:
        """Return the divisor of the weighted sum of the rows' losses in `forward`.

        Parameters
        ----------
        y : array-like
            Targets as returned by `check_targets`.
        sample_weight : array-like of shape (N,), optional

        Returns
        -------
        float
            At least 0. Losses of blocks b of rows combine as sum(value_b denominator_b) / sum(denominator_b).

        Raises
        ------
        ValueError
            If the weights are invalid for `forward`.
        """
        y = as_real_array(y, f"{type(self).__name__}: y")
        return self._denominator(y, None if sample_weight is None else as_sample_weight(sample_weight, len(y)))

    def _denominator(self, target: Array, weights: Array | None) -> float:
        """Return `row_count` times the number of rows, or times the sum of their weights."""
        columns = target.shape[1] if target.ndim == 2 else 1
        of_targets = self.target_weights(target)
        if of_targets is not None:
            weights = of_targets if weights is None else of_targets * weights
        return self.row_count(columns) * (len(target) if weights is None else float(weights.sum()))

    def target_weights(self, target: Array) -> Array | None:
        """Return the weights (N,) of the rows by their checked targets; None if all are 1."""
        return None

    @property
    def weighs_targets(self) -> bool:
        """Whether `target_weights` may return weights."""
        return type(self).target_weights is not Loss.target_weights

    @property
    def takes_probabilities(self) -> bool:
        """Whether the outputs of the model must be probabilities."""
        return False

    @property
    def may_ignore_rows(self) -> bool:
        """Whether a target can have weight 0."""
        return False

    def row_count(self, columns: int) -> float:
        """Return the contribution of a row to the denominator: its number of elements, for the mean over elements."""
        return float(columns)

    def check_targets(self, y: Any, outputs: Array) -> Array:
        """Check targets and cast them, at most once, to the form of the kernels for outputs (N, C).

        Raises
        ------
        ValueError
            If ``y`` is not of the kind that the class requires, or has another number of rows.
        """
        where = type(self).__name__
        y = as_real_array(y, f"{where}: y")
        return as_elementwise_targets(y, outputs.shape, outputs.dtype, where, *self.target_range)

    @property
    def target_range(self) -> tuple[float, float]:
        """Smallest and largest target; for classes, those of the numbers of soft targets."""
        return _RANGES[self.target_kind]

    @property
    def numbers(self) -> tuple[float, float]:
        """Both parameters of the formula; 0 for an unused one."""
        values = (getattr(self, name) for name in self.number_names)
        a, b, *_ = *(-1.0 if value is None else float(value) for value in values), 0.0, 0.0
        return a, b

    def column_weight(self, columns: int, dtype: np.dtype[Any]) -> Array | None:
        """Return weights (columns,) of the outputs' columns in ``dtype``; None if all are 1."""
        return None

    def settings(self) -> tuple[Any, ...]:
        """Return all public attributes, on which the engine's tables depend; a change makes the engine rebuild them."""
        return tuple(
            value.tobytes() if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
            if not name.startswith("_") and name != "backend"
        )

    @property
    def uses_kernel(self) -> bool:
        """Whether the formula ``kernel`` computes the whole loss: no class overrides the computation."""
        kind = type(self)
        own = any(getattr(kind, name) is not getattr(Loss, name) for name in _COMPUTE)
        return not own and hasattr(kind._call, "runs_kernel")

    def _call(self, x: Array, target: Array, *rest: Any) -> None:
        """Run the kernel; ``rest`` is row_scale, losses and dx."""
        raise NotImplementedError(f"{type(self).__name__} has no kernel.")

    def kink_sides(self, x: Array, target: Array) -> Array | None:
        """Return the side of a kink on which each element lies, as signs; None for a smooth loss."""
        return None

    def config(self) -> dict[str, Any]:
        """Return the type and the arguments that rebuild the loss, read from attributes; JSON-serializable."""
        names = inspect.signature(type(self)).parameters
        values = {name: getattr(self, name) for name in names if hasattr(self, name)}
        arguments = {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in values.items()}
        return {"type": type(self).__name__, **arguments}

    def __repr__(self) -> str:
        arguments = (f"{name}={value!r}" for name, value in self.config().items() if name != "type")
        return f"{type(self).__name__}({', '.join(arguments)})"
