"""Element-wise loops over flat arrays: activations, and helpers of the other element-wise kernels."""

from __future__ import annotations

import functools

from ..formulas import bind, find
from .calls import call_activation, call_activation_backward, callable_of, signature_of
from .declare import FLOAT, INT, MATRIX
from .jit import carray, function_pointer, inline, kernel
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
    "VOCABULARY", "activation", "activation_backward", "activation_forward", "backward_function", "backward_of",
    "clamp", "derivative", "derivative_of_output", "formula", "forward_function", "forward_of", "load_some",
    "map_backward", "map_columns", "map_elements", "softplus", "store_some",
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


@inline
def map_columns(f, x, a, b, out):
    """Compute out (N, C) = f(x, a, b); a and b (C,) may be empty."""
    rows, columns = out.shape
    width = lanes(out)
    for c in range(0, columns, width):
        count = min(width, columns - c)
        u, v = load_some(a, c, min(count, a.size)), load_some(b, c, min(count, b.size))
        for at in range(c, rows * columns, columns):
            store_some(out, at, f(load_some(x, at, count), u, v), count)


@functools.cache
def forward_function(kind):
    """Return the function by address out = h(x) of an activation."""
    h = activation(kind)

    @function_pointer.made_with(kind, arguments=signature_of("real", "real", numbers=1))
    def forward(alpha, x, out, size, size_of_out):
        map_elements(h, alpha, carray(x, size), carray(out, size))

    return forward


@functools.cache
def backward_function(kind, of_output):
    """Return the function by address dx = dy h'(x) of an activation; ``of_output``: h' is computed from y = h(x)."""
    h = derivative_of_output(kind) if of_output else derivative(kind)

    @function_pointer.made_with(kind, of_output, arguments=signature_of(*["real"] * 4, numbers=1))
    def backward(alpha, dy, x, y, dx, size, size_of_x, size_of_y, size_of_dx):
        map_backward(h, alpha, carray(dy, size), carray(x, size), carray(y, size), carray(dx, size))

    return backward


@functools.cache
def forward_of(kind, itemsize):
    """Return the first argument of `activation_forward` for an activation."""
    return callable_of(forward_function(kind), functools.partial(map_elements, activation(kind)), itemsize)


@functools.cache
def backward_of(kind, itemsize):
    """Return the first argument of `activation_backward` for an activation."""
    return callable_of(backward_function(kind, False), functools.partial(map_backward, derivative(kind)), itemsize)


@kernel(INT, FLOAT, MATRIX, MATRIX)
def activation_forward(function, alpha, x, out):
    """Compute out (N, C) = h(x), x (N, C); ``function`` is a result of `forward_of`."""
    call_activation(function, alpha, x, out)


@kernel(INT, FLOAT, MATRIX, MATRIX, MATRIX, MATRIX)
def activation_backward(function, alpha, dy, x, y, dx):
    """Compute dx (N, C) = dy h'(x); dy, x and y = h(x) (N, C); ``function`` is a result of `backward_of`."""
    call_activation_backward(function, alpha, dy, x, y, dx)
