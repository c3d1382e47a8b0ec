"""Module: base class of all modules."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from .._common.validation import Array, as_features, as_gradient, as_state
from .._kernels import PRECISIONS, get_backend
from .._kernels.has_backend import HasBackend
from ..io.states import read_state, tensor_to_numpy
from .arrays import ArrayDict

if TYPE_CHECKING:
    from .lowering import CBody, PlanBuilder
    from .onnx_node import Node

__all__ = ["Module", "is_plain"]

M = TypeVar("M", bound="Module")


class Module(HasBackend):
    """Differentiable part of a model: ``forward(x) -> y`` and ``backward(dy) -> dx``.

    Parameters
    ----------
    params : dict of str to array, optional
        Trained arrays.
    buffers : dict of str to array, optional
        Arrays that are saved but not trained.
    dtype : float32 or float64, optional
    backend : module, optional
        Result of `get_backend`; the current backend by default.

    Attributes
    ----------
    params, grads : dict of str to array
        Trained arrays and the gradients of the last `backward`, under the same names.
    buffers : dict of str to array
        Arrays that are saved but not trained.
    training : bool
        Whether `forward` behaves as in training, see `Dropout`.
    dtype : numpy.dtype or None
        float32 or float64; None for a module without arrays, which accepts both.
    in_width, out_width : int or None
        Number of input and output columns; None if any number is accepted, or if it equals the number of inputs.
    classes : list or None
        Labels of the outputs. Set by `Trainer` and kept in the saved file.
    task : str or None
        "classification", "binary" or "regression". Set by `Trainer` and kept in the saved file.

    Examples
    --------
    >>> import fastmlp as fm
    >>> class Double(fm.Module):
    ...     def _compute(self, x, keep):
    ...         if keep:
    ...             self._saved = (x,)
    ...         return 2 * x
    ...     def _gradient(self, dy, need_dx):
    ...         return 2 * dy
    >>> layer = Double()
    >>> layer([[1.0, 2.0]]), layer.backward([[1.0, 1.0]])
    (array([[2., 4.]]), array([[2., 2.]]))
    """

    classes: list[Any] | None = None
    task: str | None = None
    # Whether forward reads uint8 directly, without conversion to the module's dtype.
    takes_raw = False
    # is_container: the module applies its children in order. passes_through: evaluation returns the input.
    # gives_probabilities: each row of outputs is a probability distribution.
    is_container = False
    passes_through = False
    gives_probabilities = False
    # reads_features: the engine supports the module only where no module before it has parameters.
    reads_features = False
    # Names of the parameters to which an L2 penalty applies.
    penalized: ClassVar[tuple[str, ...]] = ()
    # Names of the parameters of which a row of inputs reads a few entries only.
    tables: ClassVar[tuple[str, ...]] = ()
    # Name of the equivalent PyTorch class, in torch.nn or `exchange.pytorch`, which is built from `torch_arguments`.
    torch: ClassVar[str | None] = None

    def __init__(
        self,
        dtype: np.dtype[Any] | None = None,
        in_width: int | None = None,
        out_width: int | None = None,
        backend: ModuleType | None = None,
    ) -> None:
        super().__init__(backend)
        self.dtype = dtype
        self.in_width = in_width
        self.out_width = out_width
        self.training = True
        self.params = ArrayDict()
        self._grads: ArrayDict | None = None
        self.buffers = ArrayDict()
        self.has_gradients = False
        # Values of the last forward that backward needs: a tuple that begins with x.
        self._saved: tuple[Any, ...] | None = None

    def set_arrays(self, params: Mapping[str, Array], buffers: Mapping[str, Array]) -> None:
        """Replace all arrays, for example by arrays of another dtype, and move them to the module's backend."""
        backend = self.backend
        self.params = ArrayDict({name: backend.from_numpy(array) for name, array in params.items()})
        self._grads = None
        self.buffers = ArrayDict({name: backend.from_numpy(array) for name, array in buffers.items()})

    @property
    def grads(self) -> ArrayDict:
        """Gradients of the last `backward`; zeros before the first call."""
        if self._grads is None:  # allocated on first use: inference and the engine need no gradients
            zeros = self.backend.zeros
            self._grads = ArrayDict({name: zeros(array.shape, array.dtype) for name, array in self.params.items()})
        return self._grads

    # --------------------------------------------------------------------------- forward, backward

    def forward(self, x: Any) -> Array:
        """Compute the outputs and keep the values that `backward` needs.

        Parameters
        ----------
        x : array-like of shape (N, in_width)
            Any real dtype and memory layout. The array is not modified, and it must not change before `backward`.

        Returns
        -------
        ndarray of shape (N, out_width)
            A new C-contiguous array in the module's dtype.

        Raises
        ------
        ValueError
            If ``x`` has another shape, is not an array of real numbers, or contains a finite number that overflows
            in the module's dtype.
        """
        x = self._check_input(x)
        y = self._compute(x, keep=True)
        return self._fresh(y) if y is x else y

    __call__ = forward

    def infer(self, x: Any) -> Array:
        """Compute the outputs as in `eval` mode, without keeping values for `backward`.

        Parameters and errors are those of `forward`.
        """
        x = self._check_input(x)
        y = self._compute(x, keep=False)
        return self._fresh(y) if y is x else y

    def backward(self, dy: Any, *, need_dx: bool = True) -> Array | None:
        """Compute the gradients of the last `forward`; `grads` are overwritten, not accumulated.

        Parameters
        ----------
        dy : array-like of shape (N, out_width)
            Gradient of the loss with respect to the outputs.
        need_dx : bool
            Whether to compute the gradient with respect to the inputs.

        Returns
        -------
        ndarray of shape (N, in_width), or None if ``need_dx`` is False

        Raises
        ------
        RuntimeError
            If `forward` has not been called.
        ValueError
            If the shape of ``dy`` is not that of the last outputs, or `forward` would reject its numbers.
        """
        name = type(self).__name__
        if self._saved is None:
            raise RuntimeError(f"{name}.backward was called before forward; call forward(x) first.")
        x = self._saved[0]
        dtype = x.dtype if self.dtype is None else self.dtype
        width = x.shape[1] if self.out_width is None else self.out_width
        dy = self.backend.from_numpy(as_gradient(dy, (x.shape[0], width), dtype, name))
        dx = self._gradient(dy, need_dx)
        return self._fresh(dx) if dx is dy else dx

    def _check_input(self, x: Any) -> Array:
        x = as_features(x, self.in_width, self.dtype, type(self).__name__, self.takes_raw)
        checked: Array = self.backend.from_numpy(x)
        return checked

    def _fresh(self, x: Array) -> Array:
        out: Array = self.backend.empty(x.shape, x.dtype)
        self.backend.activation_forward("identity", 0.0, x, out)
        return out

    @property
    def last_input(self) -> Array | None:
        """Checked input of the last `forward`; None before the first call."""
        return None if self._saved is None else self._saved[0]

    def _compute(self, x: Array, keep: bool) -> Array:
        """Compute the outputs of checked input; set `_saved` with ``keep``, else behave as in eval mode."""
        raise NotImplementedError(f"{type(self).__name__} has no forward.")

    def _gradient(self, dy: Array, need_dx: bool) -> Array | None:
        """Compute the gradients of checked input, after a forward."""
        raise NotImplementedError(f"{type(self).__name__} has no backward.")

    # ------------------------------------------------------------------------- descriptions for plans and exports
    # A subclass that computes another function must override the descriptions too; see `describes`.

    def lower(self, builder: PlanBuilder) -> None:
        """Append the operations of this module to a plan.

        A model with a module that does not implement `lower` runs module by module, which is slower.
        """
        raise NotImplementedError(f"{type(self).__name__} has no operations of a plan.")

    def settings(self) -> tuple[Any, ...]:
        """Return the values besides parameters that `lower` depends on; a change makes the engine rebuild the plan."""
        return ()

    def onnx_nodes(self) -> list[Node]:
        """Return the ONNX nodes of the module in evaluation mode, to be applied in sequence."""
        raise NotImplementedError(f"{type(self).__name__} has no ONNX.")

    def to_c(self, body: CBody) -> None:
        """Append the module in evaluation mode to a C function; needed only if `lower` does not suffice."""
        raise NotImplementedError(f"{type(self).__name__} has no C.")

    def torch_arguments(self) -> dict[str, Any]:
        """Return the constructor arguments of the class ``torch``; arrays become tensors."""
        return {}

    @classmethod
    def examples_of_width(cls, width: int, dtype: np.dtype[Any], rng: np.random.Generator) -> list[Module]:
        """Return modules of input (N, width), one for each variant, for `fastmlp gradcheck` and the tests."""
        return []

    # -------------------------------------------------------------------------------- the tree

    def children(self) -> list[tuple[str, Module]]:
        """Return the names and modules of the direct children."""
        return []

    def modules(self) -> Iterator[Module]:
        """Iterate over this module and all its descendants, in order."""
        for _, module in self.named_modules():
            yield module

    def named_modules(self) -> list[tuple[str, Module]]:
        """Return (prefix of the array names, module) of this module and all its descendants, in order."""
        return [("", self)]

    def named_parameters(self) -> Iterator[tuple[str, Array]]:
        """Iterate over the names and arrays of the trained parameters; names are PyTorch's (``"0.weight"``)."""
        for prefix, module in self.named_modules():
            for name, array in module.params.items():
                yield prefix + name, array

    def named_gradients(self) -> Iterator[tuple[str, Array]]:
        """Iterate over the names and gradients of the trained parameters, in the order of `named_parameters`."""
        for prefix, module in self.named_modules():
            for name, array in module.grads.items():
                yield prefix + name, array

    @property
    def num_parameters(self) -> int:
        """Number of trained elements."""
        return sum(array.size for _, array in self.named_parameters())

    def train(self: M) -> M:
        """Switch to training mode; return the module."""
        for module in self.modules():
            module.training = True
        return self

    def eval(self: M) -> M:
        """Switch to evaluation mode; return the module."""
        for module in self.modules():
            module.training = False
        return self

    def to(self: M, backend: str | None = None, *, precision: str | None = None) -> M:
        """Move to another backend or precision in place; return the module.

        Parameters
        ----------
        backend : str, optional
            Name of the backend, see `use_backend`; default: the current one.
        precision : {"float32", "bf16x6", "tf32", "bf16"}, optional
            Arithmetic of the matrix products of Linear layers. On a GPU of compute capability 8.0 or higher, all but
            "float32" use the tensor cores. "tf32" (10 bits of mantissa) and "bf16" (7 bits) round the factors.
            "bf16x6" splits each factor into a sum of three bf16 numbers. Its error bounds are those of "float32",
            except for factors below 2**-110 and infinite factors, which give NaN. Accumulation, parameters and all
            other operations are float32. Default: the current precision on the same backend, else "float32".

        Raises
        ------
        BackendError
            If the backend or the precision is not available.
        ValueError
            If the precision is not "float32" and the module is float64.
        """
        name = self.backend_name if backend is None else backend
        if precision is None:
            precision = self.precision if name == self.backend_name else PRECISIONS[0]
        target = get_backend(name, precision)
        if precision != PRECISIONS[0] and any(module.dtype == np.float64 for module in self.modules()):
            raise ValueError(f"The precision {precision!r} is for float32 modules; this one is float64.")
        for module in self.modules():
            groups = (module.params, module._grads or ArrayDict(), module.buffers)
            for arrays in () if module.backend_name == target.name else groups:
                for name, array in arrays.items():
                    arrays.replace(name, target.from_numpy(module.backend.to_numpy(array)))
            module.backend = target
            module._saved = None
        return self

    # -------------------------------------------------------------------------------- saving

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all parameters and buffers as NumPy arrays, under PyTorch's names."""
        return {
            prefix + name: np.array(module.backend.to_numpy(array))
            for prefix, module in self.named_modules()
            for arrays in (module.params, module.buffers)
            for name, array in arrays.items()
        }

    def load_state_dict(self, state: Mapping[str, Any] | str | os.PathLike[str]) -> None:
        """Copy arrays into the module's arrays in place; an invalid ``state`` changes nothing.

        Parameters
        ----------
        state : mapping of str to array-like, or path-like
            Exactly the names and shapes of `state_dict`. Other real dtypes are cast; PyTorch tensors are accepted.
            A path names a file of weights: ``.safetensors``, ``.npz``, or a state_dict saved by ``torch.save``.

        Raises
        ------
        ValueError
            If names or shapes differ, or an array does not hold real numbers.
        ModelFileError, OSError
            If the file holds no weights, or cannot be read.
        """
        if isinstance(state, (str, os.PathLike)):
            state = read_state(state)
        current = self.state_dict()
        missing = [name for name in current if name not in state]
        unknown = [name for name in state if name not in current]
        if missing or unknown:
            raise ValueError(
                f"The state does not fit {type(self).__name__}: missing {_some(missing)}, unexpected {_some(unknown)}."
            )
        checked = {name: as_state(tensor_to_numpy(state[name]), array, name) for name, array in current.items()}
        for prefix, module in self.named_modules():
            module._check_buffers({name: checked[prefix + name] for name in module.buffers})
        for prefix, module in self.named_modules():
            for arrays in (module.params, module.buffers):
                for name in arrays:
                    arrays[name] = checked[prefix + name]

    def _check_buffers(self, buffers: Mapping[str, Array]) -> None:
        """Raise ValueError if ``buffers`` are not valid for the module."""

    def config(self) -> dict[str, Any]:
        """Return the type and the arguments that rebuild the module without its weights; JSON-serializable."""
        return {"type": type(self).__name__}

    @classmethod
    def from_config(cls: type[M], config: Mapping[str, Any]) -> M:
        """Build the module that `config` describes; trained arrays are zeros until a state is loaded."""
        return cls(**{name: value for name, value in config.items() if name != "type"})

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), **self._arrays(self.backend.to_numpy), "_saved": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.update(self._arrays(self.backend.from_numpy))

    def _arrays(self, move: Callable[[Array], Array]) -> dict[str, ArrayDict | None]:
        """Apply ``move`` to parameters, gradients and buffers, since arrays on a GPU cannot be pickled."""
        groups = {"params": self.params, "_grads": self._grads, "buffers": self.buffers}
        return {
            key: None if group is None else ArrayDict({name: move(array) for name, array in group.items()})
            for key, group in groups.items()
        }

    def __repr__(self) -> str:
        arguments = (f"{name}={value!r}" for name, value in self.config().items() if name != "type")
        return f"{type(self).__name__}({', '.join(arguments)})"


def _some(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:4])) or "nothing"
    return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def is_plain(one: object, base: type, *methods: str) -> bool:
    """Return whether the class of ``one`` derives from ``base`` and does not override the given methods."""
    return isinstance(one, base) and all(getattr(type(one), name) is getattr(base, name) for name in methods)
