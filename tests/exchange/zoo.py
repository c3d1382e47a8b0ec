"""Models that travel, with their outputs in float64 and a bound on the error of a program that computes them."""

from __future__ import annotations

import numpy as np
from activations import EXAMPLES, curve
from checks import C, MLPReference, eps

import fastmlp as fm
from fastmlp._kernels import use_backend


def activated(name, dtype, rng):
    """(model of two hidden layers with an example of the activations, x, outputs, bound)."""
    with use_backend("numpy"):
        activation = EXAMPLES[name]()
        model = fm.MLP(7, [19, 12], 4, activation=activation, dtype=dtype, rng=5)
    x = rng.normal(size=(11, 7)).astype(dtype)
    state = {name: array.astype(np.float64) for name, array in model.state_dict().items()}
    names = [name for name in state if name.endswith("weight")]
    layers = [(state[name], state[name.replace("weight", "bias")]) for name in names]
    ref = MLPReference(layers, curve(activation.kind, activation.alpha), x.astype(np.float64), dtype)
    return model, x, ref.y, ref.y_bound


def everything(dtype, rng):
    """A model with every module that is no activation, x, outputs and a bound."""
    with use_backend("numpy"):
        scaling = fm.Normalize(rng.normal(size=9), rng.uniform(1, 3, 9), dtype)
        model = fm.Sequential(
            scaling, fm.Linear(9, 21, bias=False, dtype=dtype, rng=1), fm.LayerNorm(21, dtype=dtype), fm.Tanh(),
            fm.Dropout(0.5, rng=1), fm.Identity(),
            fm.Sequential(fm.Linear(21, 5, dtype=dtype, rng=2), fm.LayerNorm(5, 1e-3, affine=False, dtype=dtype)),
            fm.Softmax(),
        )  # fmt: skip
    model.load_state_dict(
        {
            name: array if name.startswith("0.") else array + rng.normal(size=array.shape) / 10
            for name, array in model.state_dict().items()
        }
    )
    x = rng.normal(size=(13, 9)).astype(dtype)
    state = {name: array.astype(np.float64) for name, array in model.state_dict().items()}
    z = _scaled((x - state["0.mean"]) / state["0.scale"] @ state["1.weight"].T, 1e-5)
    z = np.tanh(z * state["2.weight"] + state["2.bias"])
    z = np.exp(_scaled(z @ state["6.0.weight"].T + state["6.0.bias"], 1e-3))
    # Sums of at most 21 terms of order 1 in three layers, none of which makes an error more than twice as large.
    return model.eval(), x, z / z.sum(axis=1, keepdims=True), 8 * C * eps(dtype) * np.sqrt(21)


def _scaled(z, eps):
    return (z - z.mean(axis=1, keepdims=True)) / np.sqrt(z.var(axis=1, keepdims=True) + eps)
