"""Element-wise loops over flat arrays: activations, and helpers of the other element-wise kernels."""

from __future__ import annotations

import functools

from ..formulas import bind, find
from .declare import FLOAT, MATRIX
from .jit import DISABLED, carray, function_pointer, inline, kernel, lower
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
    square_root,
    store,
    store_tail,
    where,
)  # fmt: skip
from .vecmath import exp, expm1, log, log1p_unit, normal_cdf, normal_pdf, sigmoid, tanh

__all__ = [
    "VOCABULARY", "activation", "activation_at", "activation_backward", "activation_forward", "apply",
    "by_address", "clamp", "derivative", "derivative_of_output", "formula",
    "load_some", "map_backward", "map_elements", "softplus", "store_some",
]  # fmt: skip


@inline
def load_some(a, i, count):
    """Load ``count`` elements from i on, followed by zeros; a full count is one plain vector load."""
    if count == lanes(a):
        return load(a, i)
    return load_tail(a, i, count)


@inline
def store_some(a, i, v, count):
    """Store the first ``count`` lanes; a full count is one plain vector store."""
    if count == lanes(a):
        store(a, i, v)
    else:
        store_tail(a, i, v, count)


@inline
def clamp(v, bound):
    """Clamp v to [-bound, bound]; NaN stays NaN."""
    upper, lower = full_like(v, bound), full_like(v, -bound)
    v = where(greater(v, upper), upper, v)
    return where(less(v, lower), lower, v)


@inline
def softplus(v):
    """Return log(1 + e^v)."""
    size = where(less(v, 0.0), v, negative(v))
    return where(less(v, 0.0), full_like(v, 0.0), v) + log1p_unit(exp(size))


# --------------------------------------------------------------------------------------- formulas
# Definitions of the names of `number` for SIMD vectors.
VOCABULARY = {
    "absolute": absolute, "clamp": clamp, "copy_sign": copy_sign, "exp": exp, "expm1": expm1, "fma": fma,
    "full_like": full_like, "log": log, "log1p_unit": log1p_unit, "normal_cdf": normal_cdf, "normal_pdf": normal_pdf,
    "sigmoid": sigmoid, "softplus": softplus, "square_root": square_root, "tanh": tanh, "where": where,
}  # fmt: skip


@functools.cache
def formula(family, name):
    """Return the functions of a file of `formulas`, for inlining into kernels."""
    return bind(find(family, name), VOCABULARY, inline)


def activation(kind):
    """Return the function h(v, alpha) of an activation, for inlining into a kernel."""
    return formula("activations", kind)["forward"]


def derivative(kind):
    """Return the function derivative(v, y, alpha) = h'(v), with y = h(v), of an activation."""
    return formula("activations", kind)["derivative"]


def derivative_of_output(kind):
    """Return `derivative` computed from y alone, for activations that define it (see `output_suffices`)."""
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


# Each activation has its own kernel, created on first use, to avoid compiling all activations at once.


@functools.cache
def activation_forward(kind):
    """Return the kernel out (N, C) = h(x), x (N, C)."""
    h = activation(kind)

    @kernel(FLOAT, MATRIX, MATRIX, made_with=(kind,))
    def forward(alpha, x, out):
        map_elements(h, alpha, x, out)

    return forward


@functools.cache
def activation_backward(kind):
    """Return the kernel dx (N, C) = dy h'(x); dy, x and y = h(x) (N, C)."""
    h = derivative(kind)

    @kernel(FLOAT, MATRIX, MATRIX, MATRIX, MATRIX, made_with=(kind,))
    def backward(alpha, dy, x, y, dx):
        map_backward(h, alpha, dy, x, y, dx)

    return backward


# Other kernels call an activation by address, so they need not be compiled for each activation.


@functools.cache
def activation_at(kind, itemsize):
    """Return the first argument of `apply` for an activation: an address, or a function if jitting is disabled.

    ``itemsize`` is the size of the floats in bytes.
    """
    if DISABLED:
        return functools.partial(map_elements, activation(kind))
    return by_address(kind).address(f"float{8 * itemsize}")


@functools.cache
def by_address(kind):
    """Return the function of an activation that `activation_at` gives the address of."""
    h = activation(kind)

    def forward(alpha, x, out, size):
        map_elements(h, alpha, carray(x, size), carray(out, size))

    return function_pointer(forward, ("float64", "real*", "real*", "int64"), (kind,))


def apply(function, alpha, x, out):
    """Compute out (N, C) = h(x), x (N, C)."""
    function(alpha, x, out)


lower("elementwise")
