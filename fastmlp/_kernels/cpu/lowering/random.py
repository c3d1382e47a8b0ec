"""LLVM code of the operations of `cpu.random`."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from ...._common.philox import KEY_STEPS, MULTIPLIERS, ROUNDS
from ..random import COUNTERS, keep_at_least, random_words, word_bits
from .simd import VectorType, element_pointer, operation, splat

__all__: list[str] = []

_LOW = 0xFFFFFFFF


@operation(random_words, lambda a, *rest: types.none, types.Array, *[types.Integer] * 7)
def _lower_random_words(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    wide = ir.VectorType(ir.IntType(64), COUNTERS)

    def same(value: int) -> Any:
        return ir.Constant(wide, [value] * COUNTERS)

    def argument(number: int) -> Any:
        scalar = context.cast(builder, values[number], sig.args[number], types.uint64)
        # LLVM must see that the upper half is zero, or each product would take three multiplications.
        scalar = builder.and_(scalar, ir.Constant(scalar.type, _LOW))
        return splat(builder, wide, scalar)

    c0 = builder.and_(builder.add(argument(2), ir.Constant(wide, list(range(COUNTERS)))), same(_LOW))
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
        words = [builder.trunc(word, ir.VectorType(element, COUNTERS)) for word in words]

    def zipped(x: Any, y: Any) -> Any:
        count = x.type.count
        order = [index for pair in range(count) for index in (pair, count + pair)]
        return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), 2 * count), order))

    together = zipped(zipped(words[0], words[2]), zipped(words[1], words[3]))
    address = element_pointer(context, builder, sig, values)
    builder.store(together, builder.bitcast(address, together.type.as_pointer()), align=element.width // 8)
    return context.get_dummy_value()


@operation(keep_at_least, lambda v, *rest: v, VectorType, types.Array, types.Integer, types.Integer)
def _lower_keep_at_least(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    vector = sig.return_type
    address = element_pointer(context, builder, sig, values, 1)
    words = builder.load(builder.bitcast(address, vector.llvm_int.as_pointer()), align=vector.dtype.bitwidth // 8)
    bound = context.cast(builder, values[3], sig.args[3], types.uint64)
    element = vector.llvm_int.element
    bound = builder.trunc(bound, element) if element.width < 64 else bound
    kept = builder.icmp_unsigned(">=", words, splat(builder, vector.llvm_int, bound))
    return builder.select(kept, values[0], ir.Constant(vector.llvm, None))


@operation(word_bits, lambda a, *rest: VectorType(a.dtype), types.Array, types.Integer, types.Integer, types.Integer)
def _lower_word_bits(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    vector = sig.return_type
    kind = vector.llvm_int.element
    address = element_pointer(context, builder, sig, values)
    words = builder.load(builder.bitcast(address, vector.llvm_int.as_pointer()), align=vector.dtype.bitwidth // 8)

    def number(place: int) -> Any:
        wide = context.cast(builder, values[place], sig.args[place], types.int64)
        return builder.trunc(wide, kind) if kind.width < 64 else wide

    mask = builder.sub(builder.shl(ir.Constant(kind, 1), number(3)), ir.Constant(kind, 1))
    bits = builder.and_(
        builder.lshr(words, splat(builder, vector.llvm_int, number(2))), splat(builder, vector.llvm_int, mask)
    )
    return builder.sitofp(bits, vector.llvm)
