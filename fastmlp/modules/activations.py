"""Element-wise activations: y = h(x), dx = dy h'(x); at kinks h' has PyTorch's value."""

from __future__ import annotations

from typing import Any, Literal

from ..validation import Array, as_number
from .base import Module

__all__ = [
    "ELU",
    "GELU",
    "Activation",
    "Identity",
    "LeakyReLU",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Tanh",
    "activation_from_name",
]


class Activation(Module):
    """Base of the activations: ``kind`` names the function for the kernels, ``alpha`` is its one number."""

    kind: str = "identity"
    alpha: float = 0.0
    # Whether the first or second derivative jumps at 0: central differences across it say nothing.
    has_kink = False

    def __init__(self) -> None:
        super().__init__()

    def _compute(self, x: Array, keep: bool) -> Array:
        out: Array = self.backend.empty(x.shape, x.dtype)
        self.backend.activation_forward(self.kind, self.alpha, x, out)
        if keep:
            self._saved = (x, out)
        return out

    def _gradient(self, dy: Array, need_dx: bool) -> Array | None:
        if not need_dx:
            return None
        assert self._saved is not None
        x, y = self._saved
        dx: Array = self.backend.empty(x.shape, x.dtype)
        self.backend.activation_backward(self.kind, self.alpha, dy, x, y, dx)
        return dx


class Identity(Activation):
    """h(x) = x, in a new array."""

    kind = "identity"


class ReLU(Activation):
    """h(x) = max(x, 0); h'(0) = 0 (Nair and Hinton, ICML 2010)."""

    kind = "relu"
    has_kink = True


class LeakyReLU(Activation):
    """h(x) = x where x > 0, else negative_slope x; h'(0) = negative_slope (Maas et al., ICML 2013).

    Parameters
    ----------
    negative_slope : float
        Any finite number.

    Raises
    ------
    ValueError
        If it is not one.
    """

    kind = "leaky_relu"
    has_kink = True

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.alpha = self.negative_slope = as_number(negative_slope, "negative_slope")

    def config(self) -> dict[str, Any]:
        """The slope."""
        return {"type": "LeakyReLU", "negative_slope": self.negative_slope}


class ELU(Activation):
    """h(x) = x where x > 0, else alpha (exp(x) - 1) (Clevert et al., arXiv:1511.07289).

    Parameters
    ----------
    alpha : float
        Any finite number; h'(0) = alpha.

    Raises
    ------
    ValueError
        If it is not one.
    """

    kind = "elu"
    has_kink = True

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = as_number(alpha, "alpha")

    def config(self) -> dict[str, Any]:
        """Alpha."""
        return {"type": "ELU", "alpha": self.alpha}


class Tanh(Activation):
    """h(x) = tanh(x)."""

    kind = "tanh"


class Sigmoid(Activation):
    """h(x) = 1 / (1 + exp(-x))."""

    kind = "sigmoid"


class GELU(Activation):
    """h(x) = x Phi(x), Phi the normal distribution function (Hendrycks and Gimpel, arXiv:1606.08415).

    Parameters
    ----------
    approximate : {"none", "tanh"}
        ``"tanh"`` takes x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 instead.

    Raises
    ------
    ValueError
        If it is neither.
    """

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f"approximate is {approximate!r}; expected 'none' or 'tanh'.")
        self.approximate = approximate
        self.kind = "gelu" if approximate == "none" else "gelu_tanh"

    def config(self) -> dict[str, Any]:
        """The approximation."""
        return {"type": "GELU", "approximate": self.approximate}


class SiLU(Activation):
    """h(x) = x / (1 + exp(-x)) (Elfwing et al., arXiv:1702.03118)."""

    kind = "silu"


class Softplus(Activation):
    """h(x) = log(1 + exp(x)), without PyTorch's threshold, above which it is x (Dugas et al., NIPS 2000)."""

    kind = "softplus"


_NAMES: dict[str, type[Activation]] = {
    "identity": Identity,
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "gelu": GELU,
    "silu": SiLU,
    "softplus": Softplus,
}


def activation_from_name(name: str) -> Activation:
    """A new activation.

    Parameters
    ----------
    name : str
        In lower case, as `MLP` lists them.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name == "gelu_tanh":
        return GELU("tanh")
    if name not in _NAMES:
        names = ", ".join(map(repr, [*_NAMES, "gelu_tanh"]))
        raise ValueError(f"activation is {name!r}; expected one of {names}.")
    return _NAMES[name]()
