"""Numba types of a vector and of a mask, and the LLVM code of each operation of `cpu.simd`."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.types.containers import UniTuple
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import lower_builtin, lower_cast, models, register_model

from ..host import LANES
from ..simd import (
    INVERSE_ROOT,
    ROUNDING,
    absolute,
    broadcast,
    copy_sign,
    element,
    equal,
    exponent,
    first_lane,
    fma,
    full_like,
    greater,
    keep_first,
    lane_max,
    lane_sum,
    lanes,
    less,
    load,
    load_as,
    load_tail,
    negative,
    polynomial,
    reverse,
    scale_by_power,
    set_element,
    square_root,
    store,
    store_tail,
    where,
)

__all__ = [
    "MaskType", "VectorType", "broadcast_scalar", "call", "element_pointer", "first_lanes", "operation", "splat",
    "typing",
]  # fmt: skip


class VectorType(types.Type):
    """Numba type of a register filled with floats of one dtype."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.lanes = LANES[dtype.bitwidth // 8]
        self.scalar = ir.FloatType() if dtype == types.float32 else ir.DoubleType()
        self.llvm = ir.VectorType(self.scalar, self.lanes)
        self.llvm_int = ir.VectorType(ir.IntType(dtype.bitwidth), self.lanes)
        self.suffix = f"v{self.lanes}f{dtype.bitwidth}"  # as in LLVM's names of intrinsics
        super().__init__(f"vector({dtype} x {self.lanes})")


class MaskType(types.Type):
    """Numba type of the result of a comparison: one bit per lane."""

    def __init__(self, lanes: int) -> None:
        self.llvm = ir.VectorType(ir.IntType(1), lanes)
        super().__init__(f"mask({lanes})")


@register_model(VectorType)
@register_model(MaskType)
class _RegisterModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, fe_type.llvm)


# ------------------------------------------------------------------------ lowering of operations


def call(builder: Any, name: str, result: ir.Type, *values: Any) -> Any:
    """Call a function or an LLVM intrinsic by name; the builder's own methods do not accept vectors."""
    function_type = ir.FunctionType(result, [value.type for value in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), values)


def broadcast_scalar(builder: Any, vector: VectorType, scalar: Any) -> Any:
    """Return a vector with ``scalar`` in every lane."""
    return splat(builder, vector.llvm, scalar)


def splat(builder: Any, kind: Any, scalar: Any) -> Any:
    """Return a vector of the LLVM type ``kind`` with ``scalar`` in every lane."""
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), kind.count), None))


def _integers(vector: VectorType, values: list[int]) -> Any:
    return ir.Constant(vector.llvm_int, values)


def element_pointer(context: Any, builder: Any, sig: Any, values: Any, array: int = 0) -> Any:
    """Return the address of element ``values[array + 1]`` of the array ``values[array]``."""
    data = context.make_array(sig.args[array])(context, builder, values[array]).data
    return builder.gep(data, [context.cast(builder, values[array + 1], sig.args[array + 1], types.intp)])


def _pointer(context: Any, builder: Any, sig: Any, values: Any, kind: ir.Type) -> Any:
    """Return `element_pointer` as a pointer to ``kind``."""
    return builder.bitcast(element_pointer(context, builder, sig, values), kind.as_pointer())


def first_lanes(context: Any, builder: Any, vector: VectorType, count: Any, count_type: Any) -> Any:
    """Return the mask of the first ``count`` lanes."""
    wide = context.cast(builder, count, count_type, types.intp)
    kind = vector.llvm_int.element
    narrow = builder.trunc(wide, kind) if kind.width < wide.type.width else wide
    return builder.icmp_signed(
        "<", _integers(vector, list(range(vector.lanes))), splat(builder, vector.llvm_int, narrow)
    )


def typing(meaning: Callable[..., Any], typer: Callable[..., Any]) -> None:
    """Register the signature of calls of ``meaning`` with Numba; ``typer`` returns None for invalid argument types."""

    @infer_global(meaning)
    class Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            return typer(*args)


def operation(meaning: Callable[..., Any], result: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """Decorate the lowering of ``meaning``; ``result`` maps the argument types to the return type."""

    def typer(*args: Any) -> Any:
        fits = len(args) == len(arguments) and all(map(isinstance, args, arguments))
        return signature(result(*args), *args) if fits else None

    typing(meaning, typer)
    return lower_builtin(meaning, *arguments)


def _vector_of(a: Any, *rest: Any) -> VectorType:
    return VectorType(a.dtype)


def _same(v: Any, *rest: Any) -> Any:
    return v


@operation(load, _vector_of, types.Array, types.Integer)
def _lower_load(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    vector = sig.return_type
    # NumPy guarantees only the alignment of an element.
    return builder.load(_pointer(context, builder, sig, values, vector.llvm), align=vector.dtype.bitwidth // 8)


@operation(load_as, lambda a, i, like: VectorType(like.dtype), types.Array, types.Integer, types.Array)
def _lower_load_as(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    vector, kind = sig.return_type, sig.args[0].dtype
    source = ir.VectorType(context.get_data_type(kind), vector.lanes)
    loaded = builder.load(_pointer(context, builder, sig, values, source), align=kind.bitwidth // 8)
    if isinstance(kind, types.Integer):
        return builder.uitofp(loaded, vector.llvm)
    if kind.bitwidth == vector.dtype.bitwidth:
        return loaded
    cast = builder.fpext if kind.bitwidth < vector.dtype.bitwidth else builder.fptrunc
    return cast(loaded, vector.llvm)


@operation(load_tail, _vector_of, types.Array, types.Integer, types.Integer)
def _lower_load_tail(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    vector = sig.return_type
    pointer = _pointer(context, builder, sig, values, vector.llvm)
    mask = first_lanes(context, builder, vector, values[2], sig.args[2])
    align = ir.Constant(ir.IntType(32), vector.dtype.bitwidth // 8)
    return call(
        builder,
        f"llvm.masked.load.{vector.suffix}.p0",
        vector.llvm,
        pointer,
        align,
        mask,
        ir.Constant(vector.llvm, None),
    )


@operation(store, lambda a, i, v: types.none, types.Array, types.Integer, VectorType)
def _lower_store(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    vector = sig.args[2]
    builder.store(values[2], _pointer(context, builder, sig, values, vector.llvm), align=vector.dtype.bitwidth // 8)
    return context.get_dummy_value()


@operation(store_tail, lambda a, i, v, count: types.none, types.Array, types.Integer, VectorType, types.Integer)
def _lower_store_tail(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    vector = sig.args[2]
    pointer = _pointer(context, builder, sig, values, vector.llvm)
    mask = first_lanes(context, builder, vector, values[3], sig.args[3])
    align = ir.Constant(ir.IntType(32), vector.dtype.bitwidth // 8)
    call(builder, f"llvm.masked.store.{vector.suffix}.p0", ir.VoidType(), values[2], pointer, align, mask)
    return context.get_dummy_value()


@operation(broadcast, _vector_of, types.Array, types.Integer)
def _lower_broadcast(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    vector = sig.return_type
    return broadcast_scalar(builder, vector, builder.load(_pointer(context, builder, sig, values, vector.scalar)))


@operation(element, lambda a, i: a.dtype, types.Array, types.Integer)
def _lower_element(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    return builder.load(_pointer(context, builder, sig, values, context.get_data_type(sig.args[0].dtype)))


@operation(set_element, lambda a, i, x: types.none, types.Array, types.Integer, types.Number)
def _lower_set_element(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    kind = sig.args[0].dtype
    pointer = _pointer(context, builder, sig, values, context.get_data_type(kind))
    builder.store(context.cast(builder, values[2], sig.args[2], kind), pointer)
    return context.get_dummy_value()


@operation(lanes, lambda a: types.intp, types.Array)
def _lower_lanes(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    return context.get_constant(types.intp, LANES[sig.args[0].dtype.bitwidth // 8])


@operation(full_like, _same, VectorType, types.Number)
def _lower_full_like(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    return context.cast(builder, values[1], sig.args[1], sig.return_type)


@lower_cast(types.Number, VectorType)
def _cast_number(context: Any, builder: Any, fromty: Any, toty: Any, value: Any) -> Any:
    return broadcast_scalar(builder, toty, context.cast(builder, value, fromty, toty.dtype))


# ------------------------------------------------------------------------------------ arithmetic
# Operators accept two vectors, or a vector and a scalar, which is cast to the vector's dtype.


def _arithmetic(symbol: Callable[..., Any], instruction: str) -> None:
    def typer(*args: Any) -> Any:
        vectors = [arg for arg in args if isinstance(arg, VectorType)]
        fits = vectors and all(isinstance(arg, (VectorType, types.Number)) for arg in args)
        return signature(vectors[0], vectors[0], vectors[0]) if fits else None

    typing(symbol, typer)

    @lower_builtin(symbol, VectorType, VectorType)
    def lower(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return getattr(builder, instruction)(*values)


for _symbol, _instruction in (
    (operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv"),
):  # fmt: skip
    _arithmetic(_symbol, _instruction)


@operation(operator.neg, _same, VectorType)
@operation(negative, _same, VectorType)
def _lower_negative(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    return builder.fneg(values[0])


@operation(absolute, _same, VectorType)
def _lower_absolute(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    return call(builder, f"llvm.fabs.{sig.return_type.suffix}", sig.return_type.llvm, *values)


@operation(copy_sign, _same, VectorType, VectorType)
def _lower_copy_sign(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    return call(builder, f"llvm.copysign.{sig.return_type.suffix}", sig.return_type.llvm, *values)


@operation(square_root, _same, VectorType)
def _lower_square_root(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    return call(builder, f"llvm.sqrt.{sig.return_type.suffix}", sig.return_type.llvm, *values)


typing(fma, lambda a, b, c: signature(a, a, a, a) if isinstance(a, VectorType) else None)


@lower_builtin(fma, VectorType, VectorType, VectorType)
def _lower_fma(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    return call(builder, f"llvm.fma.{sig.return_type.suffix}", sig.return_type.llvm, *values)


@operation(polynomial, _same, VectorType, UniTuple)
def _lower_polynomial(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    vector = sig.return_type
    scalars = [builder.extract_value(values[1], i) for i in range(sig.args[1].count)]
    terms = [context.cast(builder, scalar, sig.args[1].dtype, vector) for scalar in scalars]
    result = terms.pop()
    while terms:
        result = call(builder, f"llvm.fma.{vector.suffix}", vector.llvm, values[0], result, terms.pop())
    return result


@operation(scale_by_power, _same, VectorType, VectorType)
def _lower_scale_by_power(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    vector = sig.return_type
    mantissa, bias = (23, 127) if vector.dtype == types.float32 else (52, 1023)
    constant = int(
        np.array(ROUNDING[np.dtype(str(vector.dtype))], str(vector.dtype)).view(f"i{vector.dtype.bitwidth // 8}")
    )

    def all_lanes(value: int) -> Any:
        return _integers(vector, [value] * vector.lanes)

    n = builder.sub(builder.bitcast(values[1], vector.llvm_int), all_lanes(constant))
    half = builder.ashr(n, all_lanes(1))
    result = values[0]
    for part in (half, builder.sub(n, half)):
        power = builder.shl(builder.add(part, all_lanes(bias)), all_lanes(mantissa))
        result = builder.fmul(result, builder.bitcast(power, vector.llvm))
    return result


@operation(exponent, _same, VectorType)
def _lower_exponent(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    vector = sig.return_type
    real = np.dtype(str(vector.dtype)).type
    offset = int(real(INVERSE_ROOT).view(f"i{vector.dtype.bitwidth // 8}"))
    bits = builder.sub(builder.bitcast(values[0], vector.llvm_int), _integers(vector, [offset] * vector.lanes))
    n = builder.ashr(bits, _integers(vector, [int(np.finfo(real).nmant)] * vector.lanes))
    return builder.sitofp(n, vector.llvm)


# -------------------------------------------------------------------- comparisons and reductions


def _comparison(meaning: Callable[..., Any], symbol: str) -> None:
    typing(meaning, lambda a, b: signature(MaskType(a.lanes), a, a) if isinstance(a, VectorType) else None)

    @lower_builtin(meaning, VectorType, VectorType)
    def lower(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.fcmp_ordered(symbol, *values)


for _meaning, _text in ((less, "<"), (greater, ">"), (equal, "=="), (operator.lt, "<"), (operator.gt, ">")):
    _comparison(_meaning, _text)


typing(where, lambda mask, a, b: signature(a, mask, a, a) if isinstance(a, VectorType) else None)


@lower_builtin(where, MaskType, VectorType, VectorType)
def _lower_where(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    return builder.select(*values)


typing(keep_first, lambda v, count, x: signature(v, v, count, v) if isinstance(v, VectorType) else None)


@lower_builtin(keep_first, VectorType, types.Integer, VectorType)
def _lower_keep_first(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    mask = first_lanes(context, builder, sig.args[0], values[1], sig.args[1])
    return builder.select(mask, values[0], values[2])


@operation(first_lane, lambda v: v.dtype, VectorType)
def _lower_first_lane(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    return builder.extract_element(values[0], ir.Constant(ir.IntType(32), 0))


@operation(reverse, _same, VectorType)
def _lower_reverse(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    order = list(range(sig.args[0].lanes - 1, -1, -1))
    return builder.shuffle_vector(values[0], values[0], ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order))


def _reduction(meaning: Callable[..., Any], combine: Callable[..., Any]) -> None:
    @operation(meaning, lambda v: v.dtype, VectorType)
    def lower(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        (v,), width = values, sig.args[0].lanes
        while width > 1:
            width //= 2
            halves = [
                ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(at, at + width))) for at in (0, width)
            ]
            left, right = (builder.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), half) for half in halves)
            v = combine(builder, left, right)
        return builder.extract_element(v, ir.Constant(ir.IntType(32), 0))


_reduction(lane_sum, lambda builder, a, b: builder.fadd(a, b))
_reduction(lane_max, lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))
