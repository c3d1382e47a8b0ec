"""Optimizers: formulas and defaults are PyTorch's.

g is the gradient of a parameter p, t the number of the step from 1; each class states its update.
The arguments that all of them take are those of `Optimizer`.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from .optimizer import Optimizer
from .schedules import Schedule
from .validation import Array, as_number

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "KeepGradient", "Optimizer", "RMSprop"]


class SGD(Optimizer):
    """g += weight_decay p; v = momentum v + g; p -= lr (g + momentum v where nesterov, else v).

    Sutskever et al., ICML 2013, in PyTorch's form: there v holds no lr, so that a change of lr acts at once.

    Parameters
    ----------
    momentum : float
        At least 0; 0 keeps no state.
    nesterov : bool
        Needs a momentum above 0.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, clip_norm=clip_norm, clip_value=clip_value)
        self.momentum = as_number(momentum, "momentum", 0)
        self.nesterov = bool(nesterov)
        if self.nesterov and not self.momentum:
            raise ValueError(f"nesterov needs a momentum above 0, got {momentum!r}.")

    def _initial_state(self, backend: ModuleType, param: Array) -> dict[str, Array]:
        return {"velocity": backend.zeros(param.shape, param.dtype)} if self.momentum else {}

    def _update(self, backend: ModuleType, gradient: Array, lr: float, state: dict[str, Array], param: Array) -> None:
        backend.sgd(gradient, lr, self.momentum, self.weight_decay, self.nesterov, state.get("velocity"), param)


class Adam(Optimizer):
    """g += weight_decay p; m = b1 m + (1 - b1) g; s = b2 s + (1 - b2) g^2;
    p -= lr m / (1 - b1^t) / (sqrt(s / (1 - b2^t)) + eps) (Kingma and Ba, arXiv:1412.6980).

    Parameters
    ----------
    betas : pair of float
        b1 and b2, from 0 to below 1.
    eps : float
        At least 0.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    # Whether weight decay shrinks p by itself instead of being added to g (`AdamW`).
    _decoupled = False

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, clip_norm=clip_norm, clip_value=clip_value)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ValueError(f"betas is {betas!r}; expected two numbers.")
        first, second = (as_number(beta, f"betas[{i}]", 0, 1, open_high=True) for i, beta in enumerate(betas))
        self.betas = (first, second)
        self.eps = as_number(eps, "eps", 0)

    def _initial_state(self, backend: ModuleType, param: Array) -> dict[str, Array]:
        return {kind: backend.zeros(param.shape, param.dtype) for kind in ("mean", "square")}

    def _update(self, backend: ModuleType, gradient: Array, lr: float, state: dict[str, Array], param: Array) -> None:
        first, second = self.betas
        decay, decoupled = self.weight_decay, self._decoupled
        mean, square = state["mean"], state["square"]
        backend.adam(gradient, lr, first, second, self.eps, decay, decoupled, self.steps, mean, square, param)


class AdamW(Adam):
    """p *= 1 - lr weight_decay, then `Adam`'s update without decay.

    Loshchilov and Hutter, arXiv:1711.05101; parameters and errors are those of `Adam`.
    """

    _decoupled = True

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, clip_norm=clip_norm, clip_value=clip_value)


class RMSprop(Optimizer):
    """g += weight_decay p; s = alpha s + (1 - alpha) g^2; u = g / (sqrt(s) + eps); p -= lr u.

    Centred, s is less m^2 with m = alpha m + (1 - alpha) g; with momentum, v = momentum v + u and p -= lr v
    (Hinton's lecture 6e, and Graves, arXiv:1308.0850).

    Parameters
    ----------
    alpha : float
        From 0 to 1.
    eps, momentum : float
        At least 0.
    centered : bool
        Whether g is divided by an estimate of its standard deviation instead of its root mean square.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    def __init__(
        self,
        lr: float | Schedule = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, clip_norm=clip_norm, clip_value=clip_value)
        self.alpha = as_number(alpha, "alpha", 0, 1)
        self.eps = as_number(eps, "eps", 0)
        self.momentum = as_number(momentum, "momentum", 0)
        self.centered = bool(centered)

    def _initial_state(self, backend: ModuleType, param: Array) -> dict[str, Array]:
        kinds = ["square"] + ["mean"] * self.centered + ["velocity"] * bool(self.momentum)
        return {kind: backend.zeros(param.shape, param.dtype) for kind in kinds}

    def _update(self, backend: ModuleType, gradient: Array, lr: float, state: dict[str, Array], param: Array) -> None:
        mean, velocity = state.get("mean"), state.get("velocity")
        decay, momentum = self.weight_decay, self.momentum
        backend.rmsprop(gradient, lr, self.alpha, self.eps, decay, momentum, state["square"], mean, velocity, param)


class Adagrad(Optimizer):
    """g += weight_decay p; s += g^2; p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps).

    Duchi et al., JMLR 12, 2011.

    Parameters
    ----------
    lr_decay, eps, initial_accumulator_value : float
        At least 0; the last is s before the first step.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    def __init__(
        self,
        lr: float | Schedule = 1e-2,
        lr_decay: float = 0.0,
        eps: float = 1e-10,
        initial_accumulator_value: float = 0.0,
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, clip_norm=clip_norm, clip_value=clip_value)
        self.lr_decay = as_number(lr_decay, "lr_decay", 0)
        self.eps = as_number(eps, "eps", 0)
        self.initial_accumulator_value = as_number(initial_accumulator_value, "initial_accumulator_value", 0)

    def _initial_state(self, backend: ModuleType, param: Array) -> dict[str, Array]:
        total = np.full(param.shape, self.initial_accumulator_value, param.dtype)
        return {"total": backend.from_numpy(total)}

    def _update(self, backend: ModuleType, gradient: Array, lr: float, state: dict[str, Array], param: Array) -> None:
        rate = lr / (1 + (self.steps - 1) * self.lr_decay)
        backend.adagrad(gradient, rate, self.eps, self.weight_decay, state["total"], param)


class KeepGradient(Optimizer):
    """Leaves the parameters alone and keeps g in the state, as ``gradient``: for who updates them by other means."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def _initial_state(self, backend: ModuleType, param: Array) -> dict[str, Array]:
        return {"gradient": backend.zeros(param.shape, param.dtype)}

    def _update(self, backend: ModuleType, gradient: Array, lr: float, state: dict[str, Array], param: Array) -> None:
        backend.scale(gradient, 1.0, state["gradient"])
