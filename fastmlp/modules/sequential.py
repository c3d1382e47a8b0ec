"""Sequential: modules applied in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .._common.validation import Array
from .activations import Activation
from .base import Module, is_plain
from .config import module_from_config
from .dropout import Dropout
from .linear import Linear

__all__ = ["Sequential"]


class Sequential(Module):
    """Modules applied in order; a Linear and the activation after it run as one kernel.

    Parameters
    ----------
    *modules : Module
        At least one module; nested Sequentials are allowed. A module may occur only once.

    Raises
    ------
    ValueError
        If widths of adjacent modules differ, dtypes or backends are mixed, or a module occurs twice.

    Examples
    --------
    >>> import fastmlp as fm
    >>> model = fm.Sequential(fm.Linear(3, 4, rng=0), fm.ReLU(), fm.Linear(4, 2, rng=1))
    >>> model([[1.0, 2.0, 3.0]]).shape
    (1, 2)
    """

    is_container = True

    def __init__(self, *modules: Module) -> None:
        if not modules:
            raise ValueError("Sequential expected at least one module, got none.")
        for index, module in enumerate(modules):
            if not isinstance(module, Module):
                raise ValueError(f"Sequential expected modules, got {module!r} at place {index}.")
        self._modules = modules
        self._tree: list[tuple[str, Module]] | None = None
        super().__init__(backend=modules[0].backend)
        self._check_fit()
        self.takes_raw = modules[0].takes_raw
        dropouts = [module for module in self.modules() if isinstance(module, Dropout)]
        for layer, dropout in enumerate(dropouts):
            dropout.layer = layer
        self._plan = self._make_plan()
        trained = [bool(next(module.named_parameters(), None)) for module in modules]
        # Without need_dx, backward can stop at the first module that has trained parameters.
        self._first_trained = trained.index(True) if True in trained else len(modules)

    def _check_fit(self) -> None:
        """Check that adjacent modules fit each other, and set widths and dtype."""
        modules = list(self.modules())
        names: dict[int, str] = {}
        for prefix, module in self.named_modules():
            name = names.setdefault(id(module), prefix)
            if name != prefix:  # a repeated module would keep one saved input and would not accumulate gradients
                raise ValueError(
                    f"Sequential expected each module once, got the {type(module).__name__} of place {name[:-1]} "
                    f"again at place {prefix[:-1]}; give each place a module of its own."
                )
        backends = {module.backend_name for module in modules[1:]}
        if len(backends) > 1:
            raise ValueError(f"Sequential expected modules of one backend, got {' and '.join(sorted(backends))}.")
        before: tuple[int, Module] | None = None
        for index, module in enumerate(self._modules):
            mixed = module.dtype is not None and self.dtype is not None and module.dtype != self.dtype
            if mixed:
                raise ValueError(f"Sequential expected modules of one dtype, got {self.dtype} and {module.dtype}.")
            self.dtype = module.dtype if self.dtype is None else self.dtype
            if module.in_width is not None:
                if self.out_width not in (None, module.in_width) and before is not None:
                    raise ValueError(
                        f"Sequential: module {before[0]} ({_describe(before[1])}) gives {self.out_width} "
                        f"columns, module {index} ({_describe(module)}) expects {module.in_width}."
                    )
                self.in_width = self.in_width or module.in_width
            if module.out_width is not None:
                self.out_width = module.out_width
                before = (index, module)

    def _make_plan(self) -> list[tuple[Any, Activation | None]]:
        """Pair each Linear with the activation after it; all other modules stand alone, in order."""
        plan: list[tuple[Any, Activation | None]] = []
        for module in self._modules:
            after_linear = bool(plan) and is_plain(plan[-1][0], Linear, "_compute") and plan[-1][1] is None
            if after_linear and isinstance(module, Activation) and is_plain(module, Activation, "_compute"):
                plan[-1] = (plan[-1][0], module)
            else:
                plan.append((module, None))
        return plan

    def _compute(self, x: Array, keep: bool) -> Array:
        if keep:
            self._saved = (x,)
        for module, activation in self._plan:
            x = module._compute(x, keep) if activation is None else module.compute_with(activation, x, keep)
        return x

    def _gradient(self, dy: Array, need_dx: bool) -> Array | None:
        last = 0 if need_dx else self._first_trained
        gradient: Array | None = dy
        for index in range(len(self._modules) - 1, last - 1, -1):
            assert gradient is not None
            gradient = self._modules[index]._gradient(gradient, need_dx or index > last)
        return gradient if need_dx else None

    def children(self) -> list[tuple[str, Module]]:
        """Return the modules with their indices ``"0"``, ``"1"`` and so on as names."""
        return [(str(index), module) for index, module in enumerate(self._modules)]

    def named_modules(self) -> list[tuple[str, Module]]:
        """Return (prefix of the array names, module) of the container and all its descendants, in order."""
        if self._tree is None:  # cached, as the tree is immutable
            self._tree = [("", self)]
            for name, child in self.children():
                self._tree += [(f"{name}.{prefix}", inner) for prefix, inner in child.named_modules()]
        return self._tree

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> Module:
        return self._modules[index]

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules)

    def config(self) -> dict[str, Any]:
        """Return the configs of the modules."""
        return {"type": "Sequential", "modules": [module.config() for module in self._modules]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Sequential:
        """Build each module from its config."""
        return cls(*(module_from_config(inner) for inner in config["modules"]))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._modules))})"


def _describe(module: Module) -> str:
    return f"{type(module).__name__} of {module.in_width} to {module.out_width}"
