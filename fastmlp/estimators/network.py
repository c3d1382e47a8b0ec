"""Network: the model behind an estimator, whose ``coefs_`` and ``intercepts_`` are views of its weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._kernels import use_backend
from ..modules import MLP, Linear
from ..validation import Array

__all__ = ["ACTIVATIONS", "Network", "initial_weights"]

# Names that scikit-learn gives, or that are short for a module, and the module's.
ACTIVATIONS = {
    "identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu", "elu": "elu", "gelu": "gelu",
    "gelu_tanh": "gelu_tanh", "leaky_relu": "leaky_relu", "silu": "silu", "softplus": "softplus",
}  # fmt: skip


def initial_weights(
    widths: Sequence[int], activation: str, random_state: np.random.RandomState, dtype: np.dtype[Any]
) -> tuple[list[Array], list[Array]]:
    """Coefficients (I, O) and intercepts (O,) of each layer, drawn as scikit-learn draws them.

    Uniform in +-sqrt(6 / (I + O)), or sqrt(2 / (I + O)) for the logistic function (Glorot and Bengio, AISTATS 2010).
    """
    coefs, intercepts = [], []
    for inputs, outputs in itertools.pairwise(widths):
        bound = np.sqrt((2.0 if activation == "logistic" else 6.0) / (inputs + outputs))
        coefs.append(random_state.uniform(-bound, bound, (inputs, outputs)).astype(dtype, copy=False))
        intercepts.append(random_state.uniform(-bound, bound, outputs).astype(dtype, copy=False))
    return coefs, intercepts


class Network:
    """A model with the given weights.

    Parameters
    ----------
    coefs, intercepts : list of ndarray
        Of each layer, (I, O) and (O,).
    rest : dict or None
        Further arrays of the model's state, those of LayerNorms; None where they start anew.
    backend : str or None
        None for the current one.

    Attributes
    ----------
    model : MLP
    coefs, intercepts : list of ndarray
        Its weights: on the CPU views, so that a change of one is a change of the other.
    """

    def __init__(
        self,
        coefs: Sequence[Array],
        intercepts: Sequence[Array],
        *,
        activation: str,
        dropout: float,
        layer_norm: bool,
        backend: str | None,
        rest: dict[str, Array] | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> None:
        coefs = [np.asarray(coef) for coef in coefs]
        widths = [coefs[0].shape[0], *(coef.shape[1] for coef in coefs)]
        arguments: dict[str, Any] = {
            "init": "zeros",
            "dropout": dropout,
            "layer_norm": layer_norm,
            "dtype": coefs[0].dtype if dtype is None else dtype,
            "rng": 0,
        }
        parts = (widths[0], widths[1:-1], widths[-1], ACTIVATIONS[activation])
        if backend is None:
            self.model = MLP(*parts, **arguments)
        else:
            with use_backend(backend):
                self.model = MLP(*parts, **arguments)
        self.linears = [module for module in self.model.modules() if isinstance(module, Linear)]
        self.coefs: list[Array] = []
        self.intercepts: list[Array] = []
        state = self.model.state_dict()
        state.update(rest or {})
        self.model.load_state_dict(state)
        self.load(coefs, intercepts)

    def load(self, coefs: Sequence[Any], intercepts: Sequence[Any]) -> None:
        """Take over other weights of the same shapes.

        Raises
        ------
        ValueError
            If a shape differs.
        """
        for linear, coef, intercept in zip(self.linears, coefs, intercepts, strict=True):
            linear.load_state_dict({"weight": np.asarray(coef).T, "bias": np.asarray(intercept)})
        self.refresh()

    def refresh(self) -> None:
        """Make the views again; of arrays on a GPU copies, in which nothing can be changed, as it would not be seen."""
        move = self.model.backend.to_numpy
        self.coefs = [move(linear.params["weight"]).T for linear in self.linears]
        self.intercepts = [move(linear.params["bias"]) for linear in self.linears]
        if self.model.backend_name == "cuda":
            for array in (*self.coefs, *self.intercepts):
                array.flags.writeable = False

    def shows(self, coefs: Sequence[Any], intercepts: Sequence[Any]) -> bool:
        """Whether these lists hold the views."""
        return all(map(_same, coefs, self.coefs)) and all(map(_same, intercepts, self.intercepts))

    def rest(self) -> dict[str, Array]:
        """The arrays that are in neither list."""
        own = {id(linear) for linear in self.linears}
        return {
            prefix + name: np.array(self.model.backend.to_numpy(array))
            for prefix, module in self.model._named_modules()
            if id(module) not in own
            for name, array in module.params.items()
        }


def _same(a: Any, b: Any) -> bool:
    return a is b
