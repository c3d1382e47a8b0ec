"""Loops over flat arrays: the activations, and what the other element-wise kernels share."""

from __future__ import annotations

import functools

import numba
from numba import carray
from numba.core import types

from ..formulas import bind, find
from .jit import addressed, inline, kernel
from .native import call_address
from .simd import (
    absolute,
    copy_sign,
    fma,
    full_like,
    greater,
    lanes,
    less,
    load,
    load_tail,
    negative,
    operation,
    square_root,
    store,
    store_tail,
    where,
)  # fmt: skip
from .vecmath import exp, expm1, log, log1p_unit, normal_cdf, normal_pdf, sigmoid, tanh

__all__ = [
    "VOCABULARY", "activation", "activation_at", "activation_backward", "activation_forward", "apply", "clamp",
    "derivative", "derivative_of_output", "formula",
    "load_some", "map_backward", "map_elements", "softplus", "store_some",
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


@inline
def softplus(v):
    """log(1 + e^v)."""
    size = where(less(v, 0.0), v, negative(v))
    return where(less(v, 0.0), full_like(v, 0.0), v) + log1p_unit(exp(size))


# --------------------------------------------------------------------------------------- formulas
# What the names of `number` mean here.
VOCABULARY = {
    "absolute": absolute, "clamp": clamp, "copy_sign": copy_sign, "exp": exp, "expm1": expm1, "fma": fma,
    "full_like": full_like, "log": log, "log1p_unit": log1p_unit, "normal_cdf": normal_cdf, "normal_pdf": normal_pdf,
    "sigmoid": sigmoid, "softplus": softplus, "square_root": square_root, "tanh": tanh, "where": where,
}  # fmt: skip


@functools.cache
def formula(family, name):
    """The functions of a file of `formulas`, to be inlined into kernels."""
    return bind(find(family, name), VOCABULARY, inline)


def activation(kind):
    """The function h(v, alpha) of an activation, to be inlined into a kernel."""
    return formula("activations", kind)["forward"]


def derivative(kind):
    """The function h'(v, alpha) given as derivative(v, y, alpha) with y = h(v)."""
    return formula("activations", kind)["derivative"]


def derivative_of_output(kind):
    """`derivative` without reading v, for activations that have it (see `output_suffices`)."""
    return formula("activations", kind)["derivative_of_output"]


# ----------------------------------------------------------------------------------------- loops


@inline
def map_elements(h, alpha, x, out):
    n, width = x.size, lanes(x)
    for i in range(0, n, width):
        count = min(width, n - i)
        store_some(out, i, h(load_some(x, i, count), alpha), count)


@inline
def map_backward(derivative, alpha, dy, x, y, dx):
    n, width = x.size, lanes(x)
    for i in range(0, n, width):
        count = min(width, n - i)
        v, result = load_some(x, i, count), load_some(y, i, count)
        store_some(dx, i, load_some(dy, i, count) * derivative(v, result, alpha), count)


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
    h = derivative(kind)

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
