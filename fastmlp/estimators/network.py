"""Network: model of an estimator, with views of the weights in scikit-learn's layout."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._common.validation import Array
from .._kernels import use_backend
from ..modules import MLP, Linear, Module, activation_names

if TYPE_CHECKING:
    from ..engine.few_rows import FewRows

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
    """Draw the initial coefficients (I, O) and intercepts (O,) of each layer, as scikit-learn does.

    They are uniform in +-sqrt(6 / (I + O)), or +-sqrt(2 / (I + O)) for the logistic function (Glorot and Bengio,
    AISTATS 2010).
    """
    coefs, intercepts = [], []
    for inputs, outputs in itertools.pairwise(widths):
        bound = np.sqrt((2.0 if activation == "logistic" else 6.0) / (inputs + outputs))
        coefs.append(random_state.uniform(-bound, bound, (inputs, outputs)).astype(dtype, copy=False))
        intercepts.append(random_state.uniform(-bound, bound, outputs).astype(dtype, copy=False))
    return coefs, intercepts


class Network:
    """MLP with given weights, and views of them in scikit-learn's layout.

    Parameters
    ----------
    coefs, intercepts : list of ndarray
        Weights (I, O) and biases (O,) of each layer.
    activation, dropout, layer_norm
        See `MLPClassifier`.
    rest : dict or None
        Further arrays of the model, from `other_arrays`. Missing ones keep their initial values.
    backend : str or None
        None for the current one.
    dtype : numpy.dtype, optional
        Default: float32 if the first coefficients have that dtype, else float64.

    Attributes
    ----------
    model : MLP
    key : tuple
        Arguments of the constructor except the weights.
    coefs, intercepts : list of ndarray
        Views of the weights on the CPU, so that a change through one of them changes the model. On a GPU they are
        read-only copies.
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
        self._parameters: tuple[Any, ...] = ()
        self._few_rows: FewRows | None = None
        self.linears = [module for module in self.model.modules() if isinstance(module, Linear)]
        self.coefs: list[Array] = []
        self.intercepts: list[Array] = []
        for place, module in self._other_modules():
            state = module.state_dict()
            module.load_state_dict({name: (rest or {}).get(f"{place}.{name}", state[name]) for name in state})
        self.load(coefs, intercepts)

    def infer_few(self, X: Array) -> Array | None:
        """Return the outputs of a few rows by native code, which checks the rows; None if the model has to."""
        if self._few_rows is None:
            from ..engine.few_rows import FewRows  # may import Numba

            self._few_rows = FewRows(self.model)
        return self._few_rows.run(X)

    @classmethod
    def from_estimator(cls, estimator: Any, dtype: np.dtype[Any] | None = None) -> Network:
        """Create the network of a fitted estimator with its present parameters."""
        network = cls(
            estimator.coefs_, estimator.intercepts_, activation=estimator.activation, dropout=float(estimator.dropout),
            layer_norm=bool(estimator.layer_norm), backend=estimator.backend, rest=estimator.__dict__.get("_rest"),
            dtype=dtype,
        )  # fmt: skip
        network._parameters = _parameters_of(estimator)
        return network

    def matches(self, estimator: Any) -> bool:
        """Whether the network of the estimator would differ from this one in its weights only."""
        if self.has_views(estimator.coefs_, estimator.intercepts_):
            if self._parameters and all(map(_same, self._parameters, _parameters_of(estimator))):  # the usual case
                return True
        coefs = estimator.coefs_
        made_of = (estimator.activation, float(estimator.dropout), bool(estimator.layer_norm), estimator.backend)
        return self.key == (*made_of, _dtype_of(coefs), [np.shape(coef) for coef in coefs])

    def load(self, coefs: Sequence[Any], intercepts: Sequence[Any]) -> None:
        """Copy weights of the same shapes into the model.

        Raises
        ------
        ValueError
            If a shape differs.
        """
        for linear, coef, intercept in zip(self.linears, coefs, intercepts, strict=True):
            linear.load_state_dict({"weight": np.asarray(coef).T, "bias": np.asarray(intercept)})
        self.refresh()

    def refresh(self) -> None:
        """Renew the views; arrays on a GPU are copied, read-only since a change would not reach the model."""
        move = self.model.backend.to_numpy
        self.coefs = [move(linear.params["weight"]).T for linear in self.linears]
        self.intercepts = [move(linear.params["bias"]) for linear in self.linears]
        if self.model.backend_name == "cuda":
            for array in (*self.coefs, *self.intercepts):
                array.flags.writeable = False

    def has_views(self, coefs: Sequence[Any], intercepts: Sequence[Any]) -> bool:
        """Whether these lists contain the views."""
        if len(coefs) != len(self.coefs) or len(intercepts) != len(self.intercepts):
            return False
        return all(map(_same, coefs, self.coefs)) and all(map(_same, intercepts, self.intercepts))

    def other_arrays(self) -> dict[str, Array]:
        """Return the arrays that are neither coefficients nor intercepts, by index of the module and name."""
        move = self.model.backend.to_numpy
        # `local`, since between two fits the arrays are current, also where a session shares the optimizer's state.
        return {
            f"{place}.{name}": np.array(move(module.params.local(name)))
            for place, module in self._other_modules()
            for name in module.params
        }

    def _other_modules(self) -> Iterator[tuple[int, Module]]:
        """Enumerate the modules with parameters other than Linear, such as LayerNorm."""
        own = {id(linear) for linear in self.linears}
        return enumerate(module for module in self.model.modules() if len(module.params) and id(module) not in own)


def _same(a: Any, b: Any) -> bool:
    return a is b


def _parameters_of(estimator: Any) -> tuple[Any, ...]:
    """Return the parameters on which a network depends, which have immutable values."""
    return estimator.activation, estimator.dropout, estimator.layer_norm, estimator.backend


def _dtype_of(coefs: Sequence[Any]) -> np.dtype[Any]:
    return np.dtype(np.float32 if getattr(coefs[0], "dtype", None) == np.float32 else np.float64)
