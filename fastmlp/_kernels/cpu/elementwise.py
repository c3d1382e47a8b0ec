"""Loops over flat arrays: the activations, and what the other element-wise kernels share."""

from __future__ import annotations

import functools
import math

import numba
from numba import carray
from numba.core import types

from .jit import addressed, inline, kernel
from .native import call_address
from .simd import fma, full_like, greater, lanes, less, load, load_tail, negative, operation, store, store_tail, where
from .vecmath import exp, expm1, log1p_unit, normal_cdf, normal_pdf, sigmoid, tanh

__all__ = [
    "activation", "activation_at", "activation_backward", "activation_forward", "apply", "clamp", "load_some",
    "map_backward", "map_elements", "slope", "slope_of_output", "softplus", "store_some",
]  # fmt: skip


@inline
def load_some(a, i, count):
    """``count`` elements from i on, then zeros; a whole vector wherever it fits."""
    if count == lanes(a):
        return load(a, i)
    return load_tail(a, i, count)


@inline
def store_some(a, i, v, count):
    """Write the first ``count`` lanes."""
    if count == lanes(a):
        store(a, i, v)
    else:
        store_tail(a, i, v, count)


@inline
def clamp(v, bound):
    """v, not beyond +-bound; NaN stays."""
    upper, lower = full_like(v, bound), full_like(v, -bound)
    v = where(greater(v, upper), upper, v)
    return where(less(v, lower), lower, v)


# ------------------------------------------------------------------------------------- functions
# h(v, alpha), and its slope(v, y, alpha) with y = h(v): the formulas are those of `reference`.


@inline
def _identity(v, alpha):
    return v


@inline
def _identity_slope(v, y, alpha):
    return full_like(v, 1.0)


@inline
def _relu(v, alpha):
    return where(less(v, 0.0), full_like(v, 0.0), v)


@inline
def _relu_slope(v, y, alpha):
    return where(greater(v, 0.0), full_like(v, 1.0), 0.0)


@inline
def _leaky_relu(v, alpha):
    return where(greater(v, 0.0), v, v * alpha)


@inline
def _leaky_relu_slope(v, y, alpha):
    return where(greater(v, 0.0), full_like(v, 1.0), alpha)


@inline
def _elu(v, alpha):
    return where(greater(v, 0.0), v, expm1(v) * alpha)


@inline
def _elu_slope(v, y, alpha):
    return where(greater(v, 0.0), full_like(v, 1.0), exp(v) * alpha)


@inline
def _tanh(v, alpha):
    return tanh(v)


@inline
def _tanh_slope(v, y, alpha):
    return (1.0 - y) * (1.0 + y)


@inline
def _sigmoid(v, alpha):
    return sigmoid(v)


@inline
def _sigmoid_slope(v, y, alpha):
    return y * (1.0 - y)


@inline
def _gelu(v, alpha):
    return v * normal_cdf(v)


@inline
def _gelu_slope(v, y, alpha):
    return fma(v, normal_pdf(v), normal_cdf(v))


_TANH_GELU = math.sqrt(2 / math.pi)
_TANH_GELU_CUBE = 0.044715


@inline
def _tanh_gelu_gate(v):
    return sigmoid((v + v * v * v * _TANH_GELU_CUBE) * (2.0 * _TANH_GELU))


@inline
def _tanh_gelu(v, alpha):
    return v * _tanh_gelu_gate(v)


@inline
def _tanh_gelu_slope(v, y, alpha):
    gate, rest = _tanh_gelu_gate(v), _tanh_gelu_gate(negative(v))
    return gate + v * gate * rest * (2.0 * _TANH_GELU) * fma(v * v, 3.0 * _TANH_GELU_CUBE, 1.0)


@inline
def _silu(v, alpha):
    return v * sigmoid(v)


@inline
def _silu_slope(v, y, alpha):
    return sigmoid(v) * fma(v, sigmoid(negative(v)), 1.0)


@inline
def softplus(v):
    """log(1 + e^v)."""
    size = where(less(v, 0.0), v, negative(v))
    return where(less(v, 0.0), full_like(v, 0.0), v) + log1p_unit(exp(size))


@inline
def _softplus(v, alpha):
    return softplus(v)


@inline
def _softplus_slope(v, y, alpha):
    return sigmoid(v)


# ----------------------------------------------------------------------------------------- loops


@inline
def map_elements(h, alpha, x, out):
    n, width = x.size, lanes(x)
    for i in range(0, n, width):
        count = min(width, n - i)
        store_some(out, i, h(load_some(x, i, count), alpha), count)


@inline
def map_backward(slope, alpha, dy, x, y, dx):
    n, width = x.size, lanes(x)
    for i in range(0, n, width):
        count = min(width, n - i)
        v, result = load_some(x, i, count), load_some(y, i, count)
        store_some(dx, i, load_some(dy, i, count) * slope(v, result, alpha), count)


_FUNCTIONS = {
    "identity": (_identity, _identity_slope),
    "relu": (_relu, _relu_slope),
    "leaky_relu": (_leaky_relu, _leaky_relu_slope),
    "elu": (_elu, _elu_slope),
    "tanh": (_tanh, _tanh_slope),
    "sigmoid": (_sigmoid, _sigmoid_slope),
    "gelu": (_gelu, _gelu_slope),
    "gelu_tanh": (_tanh_gelu, _tanh_gelu_slope),
    "silu": (_silu, _silu_slope),
    "softplus": (_softplus, _softplus_slope),
}


def activation(kind):
    """The function h(v, alpha) of an activation, to be inlined into a kernel."""
    return _FUNCTIONS[kind][0]


def slope(kind):
    """The function h'(v, alpha) given as slope(v, y, alpha) with y = h(v)."""
    return _FUNCTIONS[kind][1]


@inline
def _relu_slope_of_output(v, y, alpha):
    return where(greater(y, 0.0), full_like(y, 1.0), 0.0)


@inline
def _leaky_relu_slope_of_output(v, y, alpha):
    return where(greater(y, 0.0), full_like(y, 1.0), alpha)


@inline
def _elu_slope_of_output(v, y, alpha):
    return where(greater(y, 0.0), full_like(y, 1.0), y + alpha)


_SLOPES_OF_OUTPUT = {
    "identity": _identity_slope,
    "relu": _relu_slope_of_output,
    "leaky_relu": _leaky_relu_slope_of_output,
    "elu": _elu_slope_of_output,
    "tanh": _tanh_slope,
    "sigmoid": _sigmoid_slope,
}


def slope_of_output(kind, alpha):
    """`slope` as a function that needs y only, None where there is none: then x need not be kept."""
    if kind in ("leaky_relu", "elu") and not alpha > 0:  # y no longer tells the sign of x
        return None
    return _SLOPES_OF_OUTPUT.get(kind)


# One kernel for each activation, made when it is first asked for: nobody waits for the compilation of ten.


@functools.cache
def activation_forward(kind):
    """The kernel out (N, C) = h(x), x (N, C)."""
    h = activation(kind)

    @kernel
    def forward(alpha, x, out):
        map_elements(h, alpha, x, out)

    return forward


@functools.cache
def activation_backward(kind):
    """The kernel dx (N, C) = dy h'(x); dy, x and y = h(x) (N, C)."""
    h = slope(kind)

    @kernel
    def backward(alpha, dy, x, y, dx):
        map_backward(h, alpha, dy, x, y, dx)

    return backward


# And once for those that other kernels call by address, so that these are not compiled anew for each activation.


@functools.cache
def activation_at(kind, itemsize):
    """What `apply` takes for an activation of floats of so many bytes: an address, without the JIT a function."""
    if numba.config.DISABLE_JIT:
        return functools.partial(map_elements, activation(kind))
    return _by_address(kind).address(f"float{8 * itemsize}")


@functools.cache
def _by_address(kind):
    h = activation(kind)

    def forward(alpha, x, out, size):
        map_elements(h, alpha, carray(x, size), carray(out, size))

    return addressed(forward, _of_elements)


def _of_elements(real):
    return types.float64, types.CPointer(real), types.CPointer(real), types.int64


def apply(function, alpha, x, out):
    """out (N, C) = h(x), x (N, C)."""
    function(alpha, x, out)


@operation(apply, lambda *args: types.none, types.Integer, types.Float, types.Array, types.Array)
def _lower_apply(context, builder, sig, values):
    x, out = (context.make_array(sig.args[i])(context, builder, values[i]) for i in (2, 3))
    given = [context.cast(builder, values[1], sig.args[1], types.float64), x.data, out.data, x.nitems]
    return call_address(context, builder, sig.args[0], values[0], given)
