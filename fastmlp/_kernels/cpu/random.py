"""Vectorized Philox: the words of `philox.philox4x32` for 8 consecutive counters, and numbers made from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from ..._common import philox
from ..._common.philox import KEY_STEPS, MULTIPLIERS, ROUNDS, philox4x32
from .host import LANES
from .jit import inline
from .simd import VectorType, fma, full_like, negative, operation, splat, square_root
from .vecmath import cos_half_pi, log, sin_half_pi

__all__ = ["WORDS", "keep_at_least", "normal_pair", "philox_words", "random_words", "word_bits"]

_COUNTERS = 8  # two AVX2 vectors for each of the four words, to hide the latency of the multiplications
WORDS = 4 * _COUNTERS

_LOW = 0xFFFFFFFF

philox_words = inline(philox.philox_words)


def random_words(a: np.ndarray, i: int, block: int, row: int, step: int, last: int, key0: int, key1: int) -> None:
    """Write the words of counters (block .. block + 7, row, step, last) to a[i .. i + 32].

    Each word overwrites an element as an unsigned integer of the element's width. Word w of counter block + k is at
    4 k + w.
    """
    counter = (np.arange(block, block + _COUNTERS, dtype=np.uint64), row, step, last)
    words = np.stack(philox4x32(counter, int(key1) << 32 | int(key0)), axis=1).ravel()
    a[i : i + WORDS].view(f"u{a.itemsize}")[:] = words


@operation(random_words, lambda a, *rest: types.none, types.Array, *[types.Integer] * 7)
def _lower_random_words(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    wide = ir.VectorType(ir.IntType(64), _COUNTERS)

    def same(value: int) -> Any:
        return ir.Constant(wide, [value] * _COUNTERS)

    def argument(number: int) -> Any:
        scalar = context.cast(builder, values[number], sig.args[number], types.uint64)
        # LLVM must see that the upper half is zero, or each product would take three multiplications.
        scalar = builder.and_(scalar, ir.Constant(scalar.type, _LOW))
        return splat(builder, wide, scalar)

    c0 = builder.and_(builder.add(argument(2), ir.Constant(wide, list(range(_COUNTERS)))), same(_LOW))
    c1, c2, c3, key0, key1 = (argument(number) for number in range(3, 8))
    half, low = same(32), same(_LOW)
    for _ in range(ROUNDS):
        product0, product1 = builder.mul(c0, same(MULTIPLIERS[0])), builder.mul(c2, same(MULTIPLIERS[1]))
        c0, c1 = builder.xor(builder.xor(builder.lshr(product1, half), c1), key0), builder.and_(product1, low)
        c2, c3 = builder.xor(builder.xor(builder.lshr(product0, half), c3), key1), builder.and_(product0, low)
        key0 = builder.and_(builder.add(key0, same(KEY_STEPS[0])), low)
        key1 = builder.and_(builder.add(key1, same(KEY_STEPS[1])), low)

    element = ir.IntType(sig.args[0].dtype.bitwidth)
    words = [c0, c1, c2, c3]
    if element.width == 32:
        words = [builder.trunc(word, ir.VectorType(element, _COUNTERS)) for word in words]

    def zipped(x: Any, y: Any) -> Any:
        count = x.type.count
        order = [index for pair in range(count) for index in (pair, count + pair)]
        return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), 2 * count), order))

    together = zipped(zipped(words[0], words[2]), zipped(words[1], words[3]))
    data = context.make_array(sig.args[0])(context, builder, values[0]).data
    address = builder.gep(data, [context.cast(builder, values[1], sig.args[1], types.intp)])
    builder.store(together, builder.bitcast(address, together.type.as_pointer()), align=element.width // 8)
    return context.get_dummy_value()


def keep_at_least(v: np.ndarray, a: np.ndarray, i: int, threshold: int) -> np.ndarray:
    """Zero the lanes of ``v`` whose word of `random_words` in a[i ..] is below ``threshold``, which is below 2**32."""
    words = a[i : i + len(v)].view(f"u{a.itemsize}")
    return np.where(words >= threshold, v, v.dtype.type(0))


@operation(keep_at_least, lambda v, *rest: v, VectorType, types.Array, types.Integer, types.Integer)
def _lower_keep_at_least(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    vector = sig.return_type
    data = context.make_array(sig.args[1])(context, builder, values[1]).data
    address = builder.gep(data, [context.cast(builder, values[2], sig.args[2], types.intp)])
    words = builder.load(builder.bitcast(address, vector.llvm_int.as_pointer()), align=vector.dtype.bitwidth // 8)
    bound = context.cast(builder, values[3], sig.args[3], types.uint64)
    element = vector.llvm_int.element
    bound = builder.trunc(bound, element) if element.width < 64 else bound
    kept = builder.icmp_unsigned(">=", words, splat(builder, vector.llvm_int, bound))
    return builder.select(kept, values[0], ir.Constant(vector.llvm, None))


def word_bits(a: np.ndarray, i: int, low: int, count: int) -> np.ndarray:
    """Return ``count`` bits (at most 24), from bit ``low`` on, of the words of `random_words` in a[i ..], as floats."""
    unit = LANES[a.itemsize]
    words = a[i : i + unit].view(f"u{a.itemsize}")
    return (words.astype(np.int64) >> low & (1 << count) - 1).astype(a.dtype)


@operation(word_bits, lambda a, *rest: VectorType(a.dtype), types.Array, types.Integer, types.Integer, types.Integer)
def _lower_word_bits(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    vector = sig.return_type
    kind = vector.llvm_int.element
    data = context.make_array(sig.args[0])(context, builder, values[0]).data
    address = builder.gep(data, [context.cast(builder, values[1], sig.args[1], types.intp)])
    words = builder.load(builder.bitcast(address, vector.llvm_int.as_pointer()), align=vector.dtype.bitwidth // 8)

    def number(place: int) -> Any:
        wide = context.cast(builder, values[place], sig.args[place], types.int64)
        return builder.trunc(wide, kind) if kind.width < 64 else wide

    mask = builder.sub(builder.shl(ir.Constant(kind, 1), number(3)), ir.Constant(kind, 1))
    bits = builder.and_(
        builder.lshr(words, splat(builder, vector.llvm_int, number(2))), splat(builder, vector.llvm_int, mask)
    )
    return builder.sitofp(bits, vector.llvm)


@inline
def normal_pair(a, i):
    """Return two vectors of standard normal numbers from the words in a[i ..] and a[i + WORDS / 2 ..].

    The numbers belong to the columns of the words, see `philox.normals`.
    """
    # With f = t - pi / 4: sqrt(-2 log u) cos t = sqrt(-log u) (cos f - sin f), and sqrt(-2 log u) sin t is
    # sqrt(-log u) (cos f + sin f).
    radius = square_root(negative(log(fma(word_bits(a, i, 8, 24), 2.0**-24, 2.0**-24))))
    angle = i + WORDS // 2
    f = word_bits(a, angle, 8, 22) * 2.0**-22 - 0.5
    cosine, sine = cos_half_pi(f), sin_half_pi(f)
    one = full_like(f, 1.0)
    first = fma(word_bits(a, angle, 31, 1), -2.0, one) * radius
    second = fma(word_bits(a, angle, 30, 1), -2.0, one) * radius
    return first * (cosine - sine), second * (cosine + sine)
