"""Network: the model behind an estimator, whose ``coefs_`` and ``intercepts_`` are views of its weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .._common.validation import Array
from .._kernels import use_backend
from ..modules import MLP, Linear, Module, activation_names

__all__ = ["ACTIVATIONS", "Network", "initial_weights"]


class _Activations(Mapping[str, str]):
    """The activations by scikit-learn's name, or the module's where it has none; those that users register too."""

    def __getitem__(self, name: str) -> str:
        if name not in tuple(self):
            raise KeyError(name)
        return "sigmoid" if name == "logistic" else name

    def __iter__(self) -> Iterator[str]:
        return ("logistic" if name == "sigmoid" else name for name in activation_names())

    def __len__(self) -> int:
        return len(activation_names())


ACTIVATIONS = _Activations()


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
    activation, dropout, layer_norm
        See `MLPClassifier`.
    rest : dict or None
        Further arrays of the model, as `rest` gave them; those that are not there start anew.
    backend : str or None
        None for the current one.
    dtype : numpy.dtype, optional
        Default: float32 if the first coefficients are, else float64.

    Attributes
    ----------
    model : MLP
    key : tuple
        What it was made of, the weights aside.
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
        shapes = [np.shape(coef) for coef in coefs]
        widths = [shapes[0][0], *(shape[1] for shape in shapes)]
        dtype = _dtype_of(coefs) if dtype is None else dtype
        self.key = (activation, dropout, layer_norm, backend, dtype, shapes)
        arguments: dict[str, Any] = {
            "init": "zeros",
            "dropout": dropout,
            "layer_norm": layer_norm,
            "dtype": dtype,
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
        for place, module in self._others():
            state = module.state_dict()
            module.load_state_dict({name: (rest or {}).get(f"{place}.{name}", state[name]) for name in state})
        self.load(coefs, intercepts)

    @classmethod
    def of(cls, estimator: Any, dtype: np.dtype[Any] | None = None) -> Network:
        """That of a fitted estimator, by its parameters as they are now."""
        return cls(
            estimator.coefs_, estimator.intercepts_, activation=estimator.activation, dropout=float(estimator.dropout),
            layer_norm=bool(estimator.layer_norm), backend=estimator.backend, rest=estimator.__dict__.get("_rest"),
            dtype=dtype,
        )  # fmt: skip

    def fits(self, estimator: Any) -> bool:
        """Whether `of` would make one that differs from it in the weights only."""
        coefs = estimator.coefs_
        made_of = (estimator.activation, float(estimator.dropout), bool(estimator.layer_norm), estimator.backend)
        return self.key == (*made_of, _dtype_of(coefs), [np.shape(coef) for coef in coefs])

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
        """The arrays that are in neither list, by their module's place among those that have such, and their name."""
        move = self.model.backend.to_numpy
        return {
            f"{place}.{name}": np.array(move(array))
            for place, module in self._others()
            for name, array in module.params.items()
        }

    def _others(self) -> Iterator[tuple[int, Module]]:
        """The modules with parameters that are no Linears: LayerNorms. Dropouts do not count."""
        own = {id(linear) for linear in self.linears}
        return enumerate(module for module in self.model.modules() if len(module.params) and id(module) not in own)


def _same(a: Any, b: Any) -> bool:
    return a is b


def _dtype_of(coefs: Sequence[Any]) -> np.dtype[Any]:
    return np.dtype(np.float32 if getattr(coefs[0], "dtype", None) == np.float32 else np.float64)
