"""Weight initializers of `Linear`: functions ``(shape (O, I), generator, dtype) -> array``.

Every initializer draws in float64 and rounds the result, so that a float32 and a float64 model of the same seed start
with the same numbers. The bias starts at zero, except with `default`. Any callable of this signature is accepted.

Examples
--------
>>> import fastmlp as fm
>>> model = fm.MLP(4, [8], 2, init=fm.init.he_normal, rng=0)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .._common.validation import Array, as_float, as_number

__all__ = [
    "NAMES",
    "Initializer",
    "Normal",
    "default",
    "draw",
    "find",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Initializer = Callable[[tuple[int, int], np.random.Generator, "np.dtype[Any]"], Array]


def _uniform(shape: tuple[int, ...], bound: float, generator: np.random.Generator, dtype: np.dtype[Any]) -> Array:
    return as_float(bound * (2 * generator.random(shape) - 1), dtype, "init: weight")


def _normal(shape: tuple[int, ...], std: float, generator: np.random.Generator, dtype: np.dtype[Any]) -> Array:
    return as_float(std * generator.standard_normal(shape), dtype, "init: weight")


def default(shape: tuple[int, int], generator: np.random.Generator, dtype: np.dtype[Any]) -> Array:
    """U(-1/sqrt(I), 1/sqrt(I)) for weight and bias, as PyTorch's Linear."""
    return _uniform(shape, 1 / math.sqrt(shape[1]), generator, dtype)


def xavier_uniform(shape: tuple[int, int], generator: np.random.Generator, dtype: np.dtype[Any]) -> Array:
    """U(-a, a) with a = sqrt(6 / (I + O)) (Glorot and Bengio, AISTATS 2010)."""
    return _uniform(shape, math.sqrt(6 / (shape[0] + shape[1])), generator, dtype)


def xavier_normal(shape: tuple[int, int], generator: np.random.Generator, dtype: np.dtype[Any]) -> Array:
    """Normal with variance 2 / (I + O) (Glorot and Bengio, AISTATS 2010)."""
    return _normal(shape, math.sqrt(2 / (shape[0] + shape[1])), generator, dtype)


def he_uniform(shape: tuple[int, int], generator: np.random.Generator, dtype: np.dtype[Any]) -> Array:
    """U(-a, a) with a = sqrt(6 / I), for ReLU (He et al., ICCV 2015)."""
    return _uniform(shape, math.sqrt(6 / shape[1]), generator, dtype)


def he_normal(shape: tuple[int, int], generator: np.random.Generator, dtype: np.dtype[Any]) -> Array:
    """Normal with variance 2 / I, for ReLU (He et al., ICCV 2015)."""
    return _normal(shape, math.sqrt(2 / shape[1]), generator, dtype)


def lecun_uniform(shape: tuple[int, int], generator: np.random.Generator, dtype: np.dtype[Any]) -> Array:
    """U(-a, a) with a = sqrt(3 / I) (LeCun et al., Efficient BackProp, 1998)."""
    return _uniform(shape, math.sqrt(3 / shape[1]), generator, dtype)


def lecun_normal(shape: tuple[int, int], generator: np.random.Generator, dtype: np.dtype[Any]) -> Array:
    """Normal with variance 1 / I (LeCun et al., Efficient BackProp, 1998)."""
    return _normal(shape, math.sqrt(1 / shape[1]), generator, dtype)


def zeros(shape: tuple[int, int], generator: np.random.Generator, dtype: np.dtype[Any]) -> Array:
    """All zeros: for a model without hidden layers, or a model whose state is loaded later."""
    return np.zeros(shape, dtype)


def orthogonal(shape: tuple[int, int], generator: np.random.Generator, dtype: np.dtype[Any]) -> Array:
    """Orthonormal rows, or orthonormal columns if O > I (Saxe et al., arXiv:1312.6120)."""
    tall = (max(shape), min(shape))
    q, r = np.linalg.qr(generator.standard_normal(tall))
    # QR alone is not uniform over orthogonal matrices, since LAPACK chooses the signs.
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)
    return np.ascontiguousarray(q if shape[0] >= shape[1] else q.T).astype(dtype)


class Normal:
    """Normal with mean 0 and standard deviation ``std``; ``"normal"`` uses the default of 1e-4.

    Networks with several hidden layers do not train from weights of the default size.

    Parameters
    ----------
    std : float
        At least 0.

    Raises
    ------
    ValueError
        If ``std`` is not a number of at least 0.
    """

    def __init__(self, std: float = 1e-4) -> None:
        self.std = as_number(std, "std", 0)

    def __call__(self, shape: tuple[int, int], generator: np.random.Generator, dtype: np.dtype[Any]) -> Array:
        return _normal(shape, self.std, generator, dtype)

    def __repr__(self) -> str:
        return f"Normal(std={self.std:g})"


NAMES: dict[str, Initializer] = {
    "default": default,
    "normal": Normal(),
    "xavier": xavier_uniform,
    "xavier_uniform": xavier_uniform,
    "xavier_normal": xavier_normal,
    "he": he_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "lecun": lecun_normal,
    "lecun_uniform": lecun_uniform,
    "lecun_normal": lecun_normal,
    "orthogonal": orthogonal,
    "zeros": zeros,
}


def find(init: str | Initializer) -> Initializer:
    """Return the initializer of a name; return a callable unchanged.

    Raises
    ------
    ValueError
        If there is no initializer of that name.
    """
    if callable(init):
        return init
    if not isinstance(init, str) or init not in NAMES:
        raise ValueError(f"init is {init!r}; expected a callable or one of {', '.join(map(repr, NAMES))}.")
    return NAMES[init]


def draw(
    init: str | Initializer,
    shape: tuple[int, int],
    bias: bool,
    generator: np.random.Generator,
    dtype: np.dtype[Any],
) -> dict[str, Array]:
    """Draw the initial ``weight (O, I)`` and, with ``bias``, ``bias (O,)`` of a Linear, in ``dtype``.

    Raises
    ------
    ValueError
        If the initializer does not exist, or returns an array of another shape or with numbers too large for ``dtype``.
    """
    initializer = find(init)
    weight = np.asarray(initializer(shape, generator, dtype))
    if weight.shape != shape or weight.dtype.kind != "f":
        raise ValueError(f"init gave {weight.dtype} of shape {weight.shape}; expected {dtype} of shape {shape}.")
    arrays = {"weight": np.array(as_float(weight, dtype, "init: weight"), order="C")}
    if bias:
        bound = 1 / math.sqrt(shape[1]) if initializer is default else 0.0
        arrays["bias"] = _uniform(shape[:1], bound, generator, dtype) if bound else np.zeros(shape[0], dtype)
    return arrays
