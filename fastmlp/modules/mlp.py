"""Multilayer perceptron."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .._common.random import Rng, as_seed
from .._common.validation import as_dtype, as_integer, as_number
from .activations import Activation, activation_from_name
from .base import Module
from .config import module_from_config
from .dropout import Dropout
from .init import Initializer
from .linear import Linear
from .normalization import LayerNorm, Normalize
from .sequential import Sequential

__all__ = ["MLP"]


class MLP(Sequential):
    """Multilayer perceptron: [normalize], per hidden width Linear, [LayerNorm], activation, [Dropout]; a last Linear.

    Parameters
    ----------
    in_features, out_features : int
        Number of columns of x and of the outputs.
    hidden : sequence of int
        Widths of the hidden layers; empty for a linear model (multinomial logistic regression).
    activation : str or Activation
        A name of `fastmlp.modules.activation_names`, such as "relu"; or an activation, of which each hidden layer
        gets a copy.
    init : str or callable
        Weight initializer, see `fastmlp.modules.init`.
    dropout : float
        Probability of each Dropout; 0 for no Dropout.
    layer_norm : bool
        Whether to normalize each hidden layer before its activation.
    bias : bool
        Whether the Linear layers have a bias.
    normalize : Normalize or None
        Input scaling.
    dtype : float32 or float64
    rng : int, numpy.random.Generator or None
        Seed of weights and Dropout masks, kept as ``seed``; None draws one.

    Raises
    ------
    ValueError
        If an argument is invalid, or `normalize` has another width or dtype.

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.MLP(4, [8], 3, rng=0)([[1.0, 2.0, 3.0, 4.0]]).shape
    (1, 3)
    """

    def __init__(
        self,
        in_features: int,
        hidden: Iterable[int],
        out_features: int,
        activation: str | Activation = "relu",
        *,
        init: str | Initializer = "default",
        dropout: float = 0.0,
        layer_norm: bool = False,
        bias: bool = True,
        normalize: Normalize | None = None,
        dtype: npt.DTypeLike = np.float32,
        rng: Rng = None,
    ) -> None:
        in_features = as_integer(in_features, "in_features")
        out_features = as_integer(out_features, "out_features")
        if isinstance(hidden, (str, bytes)) or not isinstance(hidden, Iterable):
            raise ValueError(f"hidden is {hidden!r}; expected a sequence of integers such as [100].")
        widths = [as_integer(width, f"hidden[{place}]") for place, width in enumerate(hidden)]
        dropout = as_number(dropout, "dropout", 0, 1)
        if normalize is not None and not isinstance(normalize, Normalize):
            raise ValueError(f"normalize is {normalize!r}; expected a Normalize or None.")
        template = _as_activation(activation)
        seed = as_seed(rng)
        number = as_dtype(dtype)

        modules: list[Module] = [] if normalize is None else [normalize]
        sizes = [in_features, *widths, out_features]
        for layer, (before, after) in enumerate(itertools.pairwise(sizes)):
            modules.append(Linear(before, after, bias, init=init, dtype=number, rng=seed, layer=layer))
            if layer == len(widths):
                break
            if layer_norm:
                modules.append(LayerNorm(after, dtype=number))
            modules.append(type(template).from_config(template.config()))
            if dropout:
                modules.append(Dropout(dropout, rng=seed))
        super().__init__(*modules)
        self.seed = seed
        self._config = {
            "type": "MLP",
            "in_features": in_features,
            "hidden": widths,
            "out_features": out_features,
            "activation": template.config(),
            "dropout": dropout,
            "layer_norm": bool(layer_norm),
            "bias": bool(bias),
            "normalize": normalize is not None,
            "dtype": str(number),
        }

    def config(self) -> dict[str, Any]:
        """Return the constructor arguments, with the activation as its own config."""
        return dict(self._config)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> MLP:
        """Build a model of zeros; its Normalize, if any, has mean 0 and scale 1."""
        arguments = {name: value for name, value in config.items() if name != "type"}
        if isinstance(arguments.get("activation"), Mapping):
            arguments["activation"] = module_from_config(arguments["activation"])
        scaling = {"features": arguments["in_features"], "dtype": arguments.get("dtype", "float32")}
        arguments["normalize"] = Normalize.from_config(scaling) if arguments.get("normalize") else None
        return cls(**arguments, init="zeros", rng=0)


def _as_activation(activation: str | Activation) -> Activation:
    if isinstance(activation, Activation):
        return activation
    return activation_from_name(activation)
