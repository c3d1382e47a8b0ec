"""Optimizer: base class of the optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar, TypeAlias

import numpy as np

from .._common.arithmetic import CLIP_EPSILON
from .._common.validation import Array, as_integer, as_number, as_real_array
from .._kernels import get_backend
from .._kernels.formulas import find
from ..modules.base import Module, is_plain
from .groups import Groups, as_groups, group_of_names, variants
from .schedules import Schedule, as_schedule
from .state import OptimizerState

__all__ = ["Numbers", "Optimizer", "as_betas", "columns"]

# Hyperparameters of a formula: each is one number for all steps, or float64 (S,).
Numbers: TypeAlias = Sequence[float | Array]


class Optimizer:
    """Base class of the optimizers, which implements everything but the formulas.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate, at least 0.
    weight_decay : float
        At least 0. The decay adds weight_decay p to the gradient (unless it is decoupled, as in `AdamW`).
    clip_norm : float, optional
        Maximal norm of all gradients together, which are scaled down to it after `clip_value` (Pascanu et al.,
        arXiv:1211.5063).
    clip_value : float, optional
        Clip each element of the gradients to [-clip_value, clip_value].
    param_groups : list of dict, optional
        Groups of parameters with hyperparameters of their own, see `param_groups`.

    Attributes
    ----------
    state : dict of str to dict of str to array
        Arrays of the optimizer, by name of the parameter and name of the state.
    average : float or None
        Decay d of a moving average of the parameters: after each step average = d average + (1 - d) p. It is kept in
        the state as ``average``. See `Trainer`.
    steps : int
        Number of steps taken.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import fastmlp as fm
    >>> optimizer = fm.Adam(fm.Cosine(0.01, steps=100), clip_norm=1.0)
    >>> optimizer.lr
    0.01
    >>> optimizer.lr = 0.001
    >>> optimizer.steps, optimizer.lr
    (0, 0.001)
    """

    # usual_lr: default of the command line. trains: whether the optimizer changes parameters.
    usual_lr: ClassVar[float] = 1e-3
    trains: ClassVar[bool] = True
    # Name of the formula, see `_kernels.formulas.optimizers`.
    kernel: str
    # Current names of states, by their names in files of earlier versions.
    _renamed: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        lr: float | Schedule,
        *,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        param_groups: Any = None,
    ) -> None:
        self.schedule = as_schedule(lr)
        self.weight_decay = as_number(weight_decay, "weight_decay", 0)
        self.clip_norm = None if clip_norm is None else as_number(clip_norm, "clip_norm", 0, open_low=True)
        self.clip_value = None if clip_value is None else as_number(clip_value, "clip_value", 0, open_low=True)
        self.average: float | None = None
        self._param_groups: Groups = as_groups(param_groups, type(self))
        self._state = OptimizerState()
        self.steps = 0
        # Backend of the state's arrays.
        self._backend_name: str | None = None

    @classmethod
    def examples(cls) -> list[Optimizer]:
        """Return instances that together vary every argument of the class from its default.

        The tests of the package run with these instances.
        """
        make: Callable[[], Optimizer] = cls  # subclasses have defaults for all arguments
        return [make()]

    @property
    def state(self) -> OptimizerState:
        """Arrays of the optimizer, by name of the parameter and name of the state."""
        return self._state

    @state.setter
    def state(self, state: Mapping[str, Mapping[str, Array]]) -> None:
        self._state.sync()
        self._state = OptimizerState(state)

    def __getstate__(self) -> dict[str, Any]:
        state, backend = self.state, get_backend(self._backend_name or "numpy")
        # Arrays on a GPU cannot be pickled; `prepare` moves the copies back.
        arrays = {name: {kind: backend.to_numpy(a) for kind, a in kinds.items()} for name, kinds in state.items()}
        name = self._backend_name and "numpy"
        return {**self.__dict__, "_state": arrays, "_backend_name": name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({"_param_groups": (), **state})  # missing in earlier versions
        self.__dict__.pop("_recall", None)  # present in files of earlier versions
        self._state = OptimizerState({name: self._present(kinds) for name, kinds in self._state.items()})

    def _present(self, kinds: Mapping[str, Any]) -> dict[str, Any]:
        """Return states under their current names."""
        return {self._renamed.get(kind, kind): array for kind, array in kinds.items()}

    @property
    def current_lr(self) -> float:
        """Learning rate of the next step."""
        return self.schedule(self.steps)

    @property
    def lr(self) -> float:
        """Learning rate of the next step; an assigned number or `Schedule` replaces the present schedule."""
        return self.current_lr

    @lr.setter
    def lr(self, lr: float | Schedule) -> None:
        self.schedule = as_schedule(lr)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters with hyperparameters of their own, in the form of PyTorch's ``param_groups``.

        Each group is a dict of ``params``, names of parameters (see `Module.named_parameters`) or patterns such as
        ``"*.bias"``, and of options that replace those of the optimizer for them: its arguments besides clipping;
        ``lr``, a constant rate; or ``lr_scale``, a factor of the optimizer's rate, with its schedule. All other
        parameters have the options of the optimizer. An assigned list replaces the groups.

        Examples
        --------
        >>> import fastmlp as fm
        >>> groups = [{"params": "*.bias", "weight_decay": 0.0}, {"params": ["0.weight"], "lr_scale": 0.1}]
        >>> fm.AdamW(fm.Cosine(0.01, steps=100), weight_decay=0.1, param_groups=groups).param_groups[1]
        {'params': ['0.weight'], 'lr_scale': 0.1}
        """
        return [{**dict(group), "params": list(dict(group)["params"])} for group in self._param_groups]

    @param_groups.setter
    def param_groups(self, groups: Any) -> None:
        self._param_groups = as_groups(groups, type(self))

    def groups_of(self, names: list[str]) -> dict[str, int]:
        """Return the number of each parameter's group, from 1; 0 for those of no group.

        Raises
        ------
        ValueError
            If a group names no parameter, or a parameter is in two groups.
        """
        return group_of_names(self._param_groups, names)

    def numbers_by_group(self, rates: Array, step: int) -> list[Numbers]:
        """Return `numbers` of the parameters of no group, and of those of each group."""
        found = [self.numbers(rates, step)]
        for optimizer, rate, factor in variants(self._param_groups, self):
            own = rates * factor if rate is None else np.full(len(rates), rate)
            found.append(optimizer.numbers(own, step))
        return found

    def step(self, model: Module) -> None:
        """Clip the gradients of the last `backward` and update the parameters in place.

        Parameters
        ----------
        model : Module
            Any module, including a single layer.

        Raises
        ------
        RuntimeError
            If `backward` has not been called for a module with parameters.
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
        tables = self.numbers_by_group(rates, self.steps)
        numbers = [tuple(columns(table, 1)[0].tolist()) for table in tables]
        groups = self.groups_of([name for name, _ in gradients]) if self._param_groups else {}
        for (name, param), (_, gradient) in zip(model.named_parameters(), gradients, strict=True):
            self._update(backend, gradient, numbers[groups.get(name, 0)], self.state[name], param)
            if self.average is not None:
                average = self.state[name]["average"]
                backend.scale(average, self.average, average)
                backend.add_scaled(param, 1 - self.average, average)

    def prepare(self, model: Module) -> None:
        """Create the missing states of each parameter on the model's backend, and remove the unused ones.

        A new state has its initial value.

        Raises
        ------
        ValueError
            If a state belongs to a parameter of another shape or dtype.
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
            if not factor >= 1:  # written so that a NaN norm reaches the parameters
                for gradient in gradients:
                    backend.scale(gradient, factor, gradient)

    # -------------------------------------------------------------------------- defined by subclasses

    def numbers(self, rates: Array, step: int) -> Numbers:
        """Return the hyperparameters of the formula in its order: each a float, or float64 (S,) with one per step.

        Parameters
        ----------
        rates : ndarray of shape (S,)
            Learning rates of the steps.
        step : int
            Number t of the first of these steps, from 1.
        """
        raise NotImplementedError(f"{type(self).__name__} has no numbers.")

    @property
    def kinds(self) -> tuple[str | None, ...]:
        """Names of the states in the order of the formula; None for a state that the settings do not need."""
        names: tuple[str, ...] = find("optimizers", self.kernel).STATES
        return names

    @property
    def uses_kernel(self) -> bool:
        """Whether the formula ``kernel`` computes the steps: the class overrides neither ``step`` nor ``_update``."""
        return is_plain(self, Optimizer, "_update", "step")

    def settings(self) -> tuple[Any, ...]:
        """Return the values that the engine's tables depend on; a change makes the engine rebuild them."""
        return self.kinds, self.clip_norm, self.clip_value, self.average, self._param_groups

    def _first_state(self, kind: str) -> float:
        """Return the initial value of a state."""
        return 0.0

    # -------------------------------------------------------------------------------- states and updates

    @property
    def state_names(self) -> frozenset[str]:
        """Names of the arrays of each parameter."""
        kinds = frozenset(kind for kind in self.kinds if kind is not None)
        return kinds | ({"average"} if self.average is not None else frozenset())

    def _complete(self, backend: ModuleType, arrays: dict[str, Array], param: Array) -> None:
        """Create the missing arrays of a parameter's state, and delete the unused ones."""
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
        """Update one parameter by the kernel."""
        states = tuple(None if kind is None else state[kind] for kind in self.kinds)
        backend.optimizer_update(self.kernel, numbers, gradient, states, param)

    # -------------------------------------------------------------------------------- saving

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps, the state of the schedule, and copies of the arrays as NumPy arrays."""
        backend = get_backend(self._backend_name or "numpy")
        arrays = {
            name: {kind: np.array(backend.to_numpy(array)) for kind, array in kinds.items()}
            for name, kinds in self.state.items()
        }
        return {"steps": self.steps, "schedule": self.schedule.state_dict(), "state": arrays}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a result of `state_dict`; an invalid ``state`` changes nothing.

        Raises
        ------
        ValueError
            If ``state`` does not belong to an optimizer with these settings.
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
        """Return the type and the arguments that rebuild the optimizer; JSON-serializable."""
        hidden = ("schedule", "steps", *(("average",) if self.average is None else ()))
        arguments = {
            name: value for name, value in vars(self).items() if name not in hidden and not name.startswith("_")
        }
        groups = {} if not self._param_groups else {"param_groups": self.param_groups}
        rate = self.schedule.config()
        return {
            "type": type(self).__name__,
            "lr": rate["lr"] if rate["type"] == "Constant" else rate,
            **arguments,
            **groups,
        }

    def __repr__(self) -> str:
        arguments = (f"{name}={value!r}" for name, value in self.config().items() if name != "type")
        return f"{type(self).__name__}({', '.join(arguments)})"


def as_betas(betas: Any) -> tuple[float, float]:
    """Check a pair of decays of moving averages, each from 0 to below 1.

    Raises
    ------
    ValueError
        If ``betas`` is not such a pair.
    """
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise ValueError(f"betas is {betas!r}; expected two numbers.")
    first, second = (as_number(beta, f"betas[{i}]", 0, 1, open_high=True) for i, beta in enumerate(betas))
    return first, second


def columns(numbers: Numbers, steps: int, width: int | None = None) -> Array:
    """Return the hyperparameters of each step as a row, float64 (steps, width); columns beyond them are 0."""
    table = np.zeros((steps, len(numbers) if width is None else width))
    for column, values in enumerate(numbers):
        table[:, column] = values
    return table
