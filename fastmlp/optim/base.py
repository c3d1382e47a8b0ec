"""Optimizer: base of the optimizers, which is all but their formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from .._common.arithmetic import CLIP_EPSILON
from .._common.validation import Array, as_integer, as_number, as_real_array
from .._kernels import get_backend
from .._kernels.formulas import find
from ..modules.base import Module, is_plain
from .schedules import Schedule, as_schedule
from .state import OptimizerState

__all__ = ["Optimizer", "as_betas", "columns"]


class Optimizer:
    """Base of the optimizers.

    Parameters
    ----------
    lr : float or Schedule
        The learning rate, at least 0.
    weight_decay : float
        At least 0; added to the gradient as weight_decay p (but see `AdamW`).
    clip_norm : float, optional
        Scale all gradients together so that their norm is at most this, after `clip_value` (Pascanu et
        al., arXiv:1211.5063).
    clip_value : float, optional
        Clip each entry of the gradients to [-clip_value, clip_value].

    Attributes
    ----------
    state : dict of str to dict of str to array
        By the parameter's name, the arrays that the formula keeps.
    average : float or None
        The decay d of a moving average of the parameters, kept in the state as ``average``: after each step it becomes
        d average + (1 - d) p. See `Trainer`.
    steps : int
        How many steps were taken.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    # The learning rate that the command line takes where none is given; whether parameters change at all.
    usual_lr: ClassVar[float] = 1e-3
    trains: ClassVar[bool] = True
    # The name of the formula, see `_kernels.formulas.optimizers`.
    kernel: str
    # Names of states in files of earlier versions, and the present ones.
    _renamed: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        lr: float | Schedule,
        *,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        self.schedule = as_schedule(lr)
        self.weight_decay = as_number(weight_decay, "weight_decay", 0)
        self.clip_norm = None if clip_norm is None else as_number(clip_norm, "clip_norm", 0, open_low=True)
        self.clip_value = None if clip_value is None else as_number(clip_value, "clip_value", 0, open_low=True)
        self.average: float | None = None
        self._state = OptimizerState()
        self.steps = 0
        # The backend that the state's arrays belong to.
        self._backend_name: str | None = None

    @classmethod
    def examples(cls) -> list[Optimizer]:
        """Optimizers of the class that have between them each of its own arguments at another value than the default.

        Tests of the whole package run with them.
        """
        make: Callable[[], Optimizer] = cls  # each class has defaults for all arguments
        return [make()]

    @property
    def state(self) -> OptimizerState:
        """By the parameter's name, the arrays that the formula keeps."""
        return self._state

    @state.setter
    def state(self, state: Mapping[str, Mapping[str, Array]]) -> None:
        self._state.sync()
        self._state = OptimizerState(state)

    def __getstate__(self) -> dict[str, Any]:
        state, backend = self.state, get_backend(self._backend_name or "numpy")
        # On a GPU they can be no part of a copy; `prepare` takes them back there.
        arrays = {name: {kind: backend.to_numpy(a) for kind, a in kinds.items()} for name, kinds in state.items()}
        name = self._backend_name and "numpy"
        return {**self.__dict__, "_state": arrays, "_backend_name": name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__dict__.pop("_recall", None)  # of files of earlier versions
        self._state = OptimizerState({name: self._present(kinds) for name, kinds in self._state.items()})

    def _present(self, kinds: Mapping[str, Any]) -> dict[str, Any]:
        """States under their present names."""
        return {self._renamed.get(kind, kind): array for kind, array in kinds.items()}

    @property
    def current_lr(self) -> float:
        """The learning rate of the next step."""
        return self.schedule(self.steps)

    def step(self, model: Module) -> None:
        """Clip the gradients of the last `backward` and apply them: parameters change in place.

        Parameters
        ----------
        model : Module
            Any module, a single layer too.

        Raises
        ------
        RuntimeError
            If a module with parameters has had no `backward`.
        ValueError
            If the state belongs to a model with other parameters.
        """
        for prefix, module in model.named_modules():
            if module.params and not module.has_gradients:
                name = f"{prefix}{type(module).__name__}"
                raise RuntimeError(f"step was called before backward: {name} has no gradient yet.")
        self.prepare(model)
        gradients = list(model.named_gradients())
        backend = model.backend
        self._clip(backend, [gradient for _, gradient in gradients])
        rates = np.array([self.current_lr])
        self.steps += 1
        numbers = tuple(self.numbers(rates, self.steps)[0].tolist())
        for (name, param), (_, gradient) in zip(model.named_parameters(), gradients, strict=True):
            self._update(backend, gradient, numbers, self.state[name], param)
            if self.average is not None:
                average = self.state[name]["average"]
                backend.scale(average, self.average, average)
                backend.add_scaled(param, 1 - self.average, average)

    def prepare(self, model: Module) -> None:
        """Make the state of each of the model's parameters what the present settings need, on the model's backend.

        Arrays that are missing begin as before a first step; those that the settings no longer need are dropped.

        Raises
        ------
        ValueError
            If the state of one belongs to a parameter of another shape or dtype.
        """
        backend = model.backend
        if self._backend_name != model.backend_name:
            self._move(backend)
        for name, param in model.named_parameters():
            arrays = self.state.setdefault(name, {})
            if arrays.keys() != self.state_names:
                self._complete(backend, arrays, param)
            for kind, array in arrays.items():
                if array.shape != param.shape or array.dtype != param.dtype:
                    raise ValueError(
                        f"The optimizer's {kind} of {name} is {array.dtype} {array.shape}, the parameter "
                        f"{param.dtype} {param.shape}; make a new optimizer for another model."
                    )

    def _move(self, target: ModuleType) -> None:
        if self._backend_name is not None:
            source = get_backend(self._backend_name)
            for arrays in self.state.values():
                for kind, array in arrays.items():
                    arrays[kind] = target.from_numpy(source.to_numpy(array))
        self._backend_name = str(target.name)

    def _clip(self, backend: ModuleType, gradients: list[Array]) -> None:
        if self.clip_value is not None:
            for gradient in gradients:
                backend.clip(gradient, self.clip_value, gradient)
        if self.clip_norm is not None:
            norm = float(np.sqrt(sum(backend.sum_of_squares(gradient) for gradient in gradients)))
            factor = self.clip_norm / (norm + CLIP_EPSILON)
            if not factor >= 1:  # a norm that is NaN must reach the parameters, not vanish
                for gradient in gradients:
                    backend.scale(gradient, factor, gradient)

    # ------------------------------------------------------------------------------ what a class defines

    def numbers(self, rates: Array, step: int) -> Array:
        """The numbers that the formula takes in steps with learning rates ``rates (S,)``, float64 (S, H).

        Parameters
        ----------
        rates : ndarray of shape (S,)
        step : int
            The number t of the first of these steps, from 1.
        """
        raise NotImplementedError(f"{type(self).__name__} has no numbers.")

    @property
    def kinds(self) -> tuple[str | None, ...]:
        """The names of the states in the formula's order; None for one that these settings do not need."""
        names: tuple[str, ...] = find("optimizers", self.kernel).STATES
        return names

    @property
    def uses_kernel(self) -> bool:
        """Whether the formula ``kernel`` makes the steps: the class has no ``step`` and no ``_update`` of its own."""
        return is_plain(self, Optimizer, "_update", "step")

    def settings(self) -> tuple[Any, ...]:
        """What the engine's tables depend on: where it has changed they are made anew."""
        return self.kinds, self.clip_norm, self.clip_value, self.average

    def _first_state(self, kind: str) -> float:
        """What a state holds before the first step."""
        return 0.0

    # -------------------------------------------------------------------------------- states and updates

    @property
    def state_names(self) -> frozenset[str]:
        """The names of the arrays that are kept for each parameter."""
        kinds = frozenset(kind for kind in self.kinds if kind is not None)
        return kinds | ({"average"} if self.average is not None else frozenset())

    def _complete(self, backend: ModuleType, arrays: dict[str, Array], param: Array) -> None:
        """Give a parameter's state the arrays that it lacks, and take away those that it does not need."""
        for extra in arrays.keys() - self.state_names:
            del arrays[extra]
        for kind in self.kinds:
            if kind is not None and kind not in arrays:
                first = np.full(param.shape, self._first_state(kind), param.dtype)
                arrays[kind] = backend.from_numpy(first)
        if self.average is not None and "average" not in arrays:
            arrays["average"] = backend.zeros(param.shape, param.dtype)
            backend.add_scaled(param, 1.0, arrays["average"])

    def _update(
        self, backend: ModuleType, gradient: Array, numbers: tuple[float, ...], state: dict[str, Array], param: Array
    ) -> None:
        """Run the kernel on one parameter."""
        states = tuple(None if kind is None else state[kind] for kind in self.kinds)
        backend.optimizer_update(self.kernel, numbers, gradient, states, param)

    # -------------------------------------------------------------------------------- saving

    def state_dict(self) -> dict[str, Any]:
        """Steps taken, the schedule's state, and copies of the arrays as NumPy arrays."""
        backend = get_backend(self._backend_name or "numpy")
        arrays = {
            name: {kind: np.array(backend.to_numpy(array)) for kind, array in kinds.items()}
            for name, kinds in self.state.items()
        }
        return {"steps": self.steps, "schedule": self.schedule.state_dict(), "state": arrays}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave; a bad ``state`` changes nothing.

        Raises
        ------
        ValueError
            If it is not the state of such an optimizer.
        """
        if set(state) != {"steps", "schedule", "state"}:
            raise ValueError(f"The optimizer's state has {sorted(state)}; expected schedule, state and steps.")
        steps = as_integer(state["steps"], "steps", 0)
        expected = self.state_names
        arrays: dict[str, dict[str, Array]] = {}
        for name, kinds in state["state"].items():
            kinds = self._present(kinds)
            if set(kinds) != expected:
                raise ValueError(f"The state of {name} has {sorted(kinds)}; expected {sorted(expected)}.")
            arrays[name] = {kind: np.array(as_real_array(array, f"{kind} of {name}")) for kind, array in kinds.items()}
        self.schedule.load_state_dict(state["schedule"])
        self.steps, self.state, self._backend_name = steps, arrays, "numpy"

    def config(self) -> dict[str, Any]:
        """The type and the arguments that make the optimizer again; fit for JSON."""
        hidden = ("schedule", "steps", *(("average",) if self.average is None else ()))
        arguments = {
            name: value for name, value in vars(self).items() if name not in hidden and not name.startswith("_")
        }
        rate = self.schedule.config()
        return {
            "type": type(self).__name__,
            "lr": rate["lr"] if rate["type"] == "Constant" else rate,
            **arguments,
        }

    def __repr__(self) -> str:
        arguments = (f"{name}={value!r}" for name, value in self.config().items() if name != "type")
        return f"{type(self).__name__}({', '.join(arguments)})"


def as_betas(betas: Any) -> tuple[float, float]:
    """A pair of decays of moving averages, each from 0 to below 1.

    Raises
    ------
    ValueError
        If it is not one.
    """
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise ValueError(f"betas is {betas!r}; expected two numbers.")
    first, second = (as_number(beta, f"betas[{i}]", 0, 1, open_high=True) for i, beta in enumerate(betas))
    return first, second


def columns(rates: Array, *rest: Any) -> Array:
    """Rates (S,) and further numbers, each one for all steps or (S,), side by side: float64 (S, 1 + len(rest))."""
    table = np.empty((len(rates), 1 + len(rest)))
    for column, values in enumerate((rates, *rest)):
        table[:, column] = values
    return table
