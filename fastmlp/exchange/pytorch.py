"""Conversion of torch.nn.Sequential to and from `Sequential`; a round trip preserves all bits of the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import modules as ours
from .._common.errors import warn_user
from .._common.installed import library
from ..inference.plan import require_model
from ..modules.activations import activation_types
from ..modules.lowering import describes
from ..modules.scale import Scale as OurScale

if TYPE_CHECKING:
    import torch
else:
    torch = library("torch", "pip install torch")
nn = torch.nn

__all__ = ["Normalize", "Scale", "from_torch", "to_torch"]


class Normalize(nn.Module):  # type: ignore[misc,name-defined]
    """PyTorch counterpart of `fastmlp.Normalize`: y = (x - mean) / scale by column.

    Parameters
    ----------
    mean, scale : torch.Tensor of shape (I,)
        Registered as buffers. Inputs are cast to their dtype.
    """

    def __init__(self, mean: Any, scale: Any) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, x: Any) -> Any:
        """Return the normalized inputs."""
        return (x.to(self.mean.dtype) - self.mean) / self.scale


class Scale(nn.Module):  # type: ignore[misc,name-defined]
    """y = x weight by column, as `fastmlp.Scale`.

    Parameters
    ----------
    weight : torch.Tensor of shape (I,)
    """

    def __init__(self, weight: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Any) -> Any:
        """The scaled columns."""
        return x * self.weight


def from_torch(module: Any) -> ours.Sequential:
    """Convert a PyTorch module to a model with the same layers and weights.

    A layer that occurs several times is converted once for each occurrence. Layers that share a parameter get separate
    copies: the outputs are equal, but further training changes the copies independently, with a warning.

    Parameters
    ----------
    module : torch.nn.Sequential, or one of its layers
        Layers: Linear, the activations that fastmlp has, Flatten(1), Dropout, LayerNorm and Softmax over the last
        dimension, `Normalize` and `Scale` of this module, and nested Sequentials. Parameters have dtype float32 or
        float64. A Softplus must have beta 1; PyTorch's returns x above its threshold of 20, that of fastmlp
        log(1 + exp(x)) everywhere; they differ by at most 2e-9.

    Returns
    -------
    Sequential
        On the current backend, in the training or evaluation mode of ``module``.

    Raises
    ------
    ValueError
        If a layer has another type, or options that fastmlp does not support; the message names the layer.
    BackendError
        If PyTorch is not installed.

    Warns
    -----
    UserWarning
        If layers share a parameter.

    Examples
    --------
    >>> import fastmlp as fm, torch
    >>> fm.from_torch(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()))
    Sequential(Linear(in_features=3, out_features=2, bias=True, dtype='float32'), ReLU())
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"from_torch expected a torch.nn.Module, got {type(module).__name__}.")
    net = module if isinstance(module, nn.Sequential) else nn.Sequential(module)
    # Layers without parameters take the dtype of the first parameter.
    numbers = (tensor for tensor in net.state_dict().values() if tensor.is_floating_point())
    model = _sequential(net, "", next(numbers, torch.zeros(0)))
    _warn_of_shared_parameters(net)
    return model.train() if module.training else model.eval()


def to_torch(model: ours.Module) -> Any:
    """Convert a model to a torch.nn.Sequential with the same layers, copied weights and equal names of the state.

    Parameters
    ----------
    model : Module
        On any backend. Normalize becomes the `Normalize` of this module.

    Returns
    -------
    torch.nn.Sequential
        On the CPU, in the training or evaluation mode of ``model``.

    Raises
    ------
    ValueError
        If the model has a user-defined module.
    BackendError
        If PyTorch is not installed.

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.to_torch(fm.MLP(3, [4], 2))
    Sequential(
      (0): Linear(in_features=3, out_features=4, bias=True)
      (1): ReLU()
      (2): Linear(in_features=4, out_features=2, bias=True)
    )
    """
    require_model(model, "to_torch")
    made = _made(model if isinstance(model, ours.Sequential) else ours.Sequential(model))
    state = model.state_dict() if isinstance(model, ours.Sequential) else _prefixed(model)
    made.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    made.train(model.training)
    return made


def _prefixed(model: ours.Module) -> dict[str, Any]:
    return {f"0.{name}": array for name, array in model.state_dict().items()}


# --------------------------------------------------------------------------------------- from PyTorch


def _sequential(module: Any, path: str, default: Any) -> ours.Sequential:
    # A subclass that overrides forward may use its layers in another way.
    plain = type(module).forward is nn.Sequential.forward
    _require(plain, path or "given", f"a {type(module).__name__} with its own forward", "a plain Sequential")
    layers = [
        (_sequential if isinstance(layer, nn.Sequential) else _layer)(layer, f"{path}.{name}".lstrip("."), default)
        # named_children yields a layer that occurs twice only once.
        for name, layer in module.named_modules(remove_duplicate=False)
        if name and "." not in name
    ]
    if not layers:
        raise ValueError(f"from_torch: the Sequential {path or 'given'} is empty; expected layers.")
    return ours.Sequential(*layers)


def _warn_of_shared_parameters(net: Any) -> None:
    first: dict[int, str] = {}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        before = first.setdefault(id(parameter), name)
        if before != name:
            warn_user(
                f"from_torch: {before} and {name} are one parameter in PyTorch; here each is a copy of its own, "
                "which further training changes apart.",
                UserWarning,
            )
            return


def _layer(layer: Any, path: str, default: Any) -> ours.Module:
    make = _FROM.get(type(layer))
    activation = _activations().get(type(layer))
    if activation is not None:
        return _activation(activation, layer, path)
    if make is None:
        known = ", ".join(sorted(kind.__name__ for kind in (*_FROM, *_activations())))
        raise ValueError(f"from_torch: layer {path} is a {type(layer).__name__}; expected one of {known}, Sequential.")
    made = make(layer, path, default)
    if made.params or made.buffers:
        state = {name: tensor.numpy(force=True) for name, tensor in layer.state_dict().items()}
        if "bias" in made.params and "bias" not in state:  # LayerNorm(bias=False)
            state["bias"] = np.zeros_like(state["weight"])
        made.load_state_dict(state)
    return made


def _require(right: bool, path: str, seen: object, expected: str) -> None:
    if not right:
        raise ValueError(f"from_torch: layer {path} is {seen}; expected {expected}.")


def _dtype(tensor: Any, path: str) -> np.dtype[Any]:
    name = str(tensor.dtype).removeprefix("torch.")
    _require(name in ("float32", "float64"), path, f"of dtype {name}", "float32 or float64")
    return np.dtype(name)


def _linear(layer: Any, path: str, default: Any) -> ours.Module:
    dtype = _dtype(layer.weight, path)
    arguments = {"in_features": layer.in_features, "out_features": layer.out_features, "bias": layer.bias is not None}
    return ours.Linear.from_config({**arguments, "dtype": dtype})


def _layer_norm(layer: Any, path: str, default: Any) -> ours.Module:
    _require(len(layer.normalized_shape) == 1, path, layer, "a LayerNorm over the last dimension alone")
    affine = bool(layer.elementwise_affine)
    dtype = _dtype(layer.weight if affine else default, path)
    return ours.LayerNorm(layer.normalized_shape[0], layer.eps, affine, dtype=dtype)


def _normalize(layer: Any, path: str, default: Any) -> ours.Module:
    return ours.Normalize(layer.mean.numpy(force=True), layer.scale.numpy(force=True), _dtype(layer.mean, path))


def _activation(kind: type[ours.Activation], layer: Any, path: str) -> ours.Activation:
    for name, expected in kind.torch_expects.items():
        _require(getattr(layer, name) == expected, path, layer, f"{type(layer).__name__} with {name} {expected}")
    arguments = [name for name in kind().config() if name != "type"]
    return kind(**{name: getattr(layer, name) for name in arguments})


def _softmax(layer: Any, path: str, default: Any) -> ours.Module:
    _require(layer.dim in (-1, 1), path, layer, "Softmax over dimension 1")
    return ours.Softmax()


def _flatten(layer: Any, path: str, default: Any) -> ours.Module:
    _require((layer.start_dim, layer.end_dim) == (1, -1), path, layer, "Flatten from dimension 1 on")
    return ours.activation_from_name("identity")


_FROM: dict[type[Any], Callable[[Any, str, Any], ours.Module]] = {
    nn.Linear: _linear,
    nn.Flatten: _flatten,
    nn.Dropout: lambda layer, path, default: ours.Dropout(layer.p),
    nn.LayerNorm: _layer_norm,
    nn.Softmax: _softmax,
    Normalize: _normalize,
    Scale: lambda layer, path, default: OurScale(layer.weight.numel(), dtype=_dtype(layer.weight, path)),
}


def _activations() -> dict[type[Any], type[ours.Activation]]:
    """Return the activation classes by their counterparts in torch.nn."""
    kinds = [kind for kind in activation_types() if kind.torch is not None and describes(kind, "torch")]
    return {getattr(nn, str(kind.torch)): kind for kind in kinds}


# ----------------------------------------------------------------------------------------- to PyTorch


def _made(module: ours.Module) -> Any:
    if module.is_container and describes(module, "is_container"):
        return nn.Sequential(*(_made(inner) for _, inner in module.children()))
    if module.torch is None or not describes(module, "torch"):
        name = type(module).__name__
        raise ValueError(f"to_torch: PyTorch has no {name}; expected fastmlp's own modules, or one with torch.")
    given = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in module.torch_arguments().items()
    }
    made = (_OWN.get(module.torch) or getattr(nn, module.torch))(**given)
    return made if module.dtype is None else made.to(getattr(torch, str(module.dtype)))


_OWN = {kind.__name__: kind for kind in (Normalize, Scale)}
