"""LLVM code of the operations of `cpu.native`."""

from __future__ import annotations

import mmap
import os
import platform
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from .. import native
from .simd import call, element_pointer, operation

__all__ = ["call_address"]

_X86 = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
_ARM = platform.machine().lower() in ("aarch64", "arm64")
_INT = ir.IntType(64)
_pointer: Any = types.CPointer  # type: ignore[attr-defined]


def _void(*arguments: Any) -> Any:
    return types.none


def _integer(*arguments: Any) -> Any:
    return types.int64


def _wide(context: Any, builder: Any, signature: Any, args: Any, *places: int) -> list[Any]:
    """Return arguments as int64."""
    return [context.cast(builder, args[i], signature.args[i], types.int64) for i in places]


@operation(native.pointer, lambda a, i: _pointer(a.dtype), types.Array, types.Integer)
def _lower_pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return element_pointer(context, builder, signature, args)


@operation(native.as_integers, lambda p: _pointer(types.int64), _pointer)
def _lower_as_integers(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.bitcast(args[0], context.get_value_type(signature.return_type))


def call_address(context: Any, builder: Any, address_type: Any, address: Any, values: list[Any]) -> Any:
    """Generate the call of a void function at an address, see `jit.function_pointer`."""
    function = ir.FunctionType(ir.VoidType(), [value.type for value in values])
    target = context.cast(builder, address, address_type, types.int64)
    builder.call(builder.inttoptr(target, function.as_pointer()), values)
    return context.get_dummy_value()


@operation(native.call_pointer, _void, types.Integer, *[_pointer] * 4, *[types.Integer] * 3)
def _lower_call_pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    integers = _wide(context, builder, signature, args, 5, 6, 7)
    return call_address(context, builder, signature.args[0], args[0], [*args[1:5], *integers])


def _conversion(meaning: Callable[..., Any], dtype: Any) -> None:
    @operation(meaning, lambda address: _pointer(dtype), types.Integer)
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (address,) = _wide(context, builder, signature, args, 0)
        return builder.inttoptr(address, context.get_value_type(signature.return_type))


_conversion(native.integers_at, types.int64)
_conversion(native.numbers_at, types.float64)
_conversion(native.bytes_at, types.uint8)
_conversion(native.singles_at, types.float32)
_conversion(native.words_at, types.uint32)


@operation(native.reals_at, lambda address, like: like, types.Integer, _pointer)
def _lower_reals_at(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    (address,) = _wide(context, builder, signature, args, 0)
    return builder.inttoptr(address, context.get_value_type(signature.return_type))


def _prefetching(meaning: Callable[..., Any], writes: int) -> None:
    @operation(meaning, _void, types.Array, types.Integer)
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = ir.IntType(32)
        values = (ir.Constant(number, x) for x in (writes, 2, 1))
        call(builder, "llvm.prefetch.p0", ir.VoidType(), element_pointer(context, builder, signature, args), *values)
        return context.get_dummy_value()


_prefetching(native.prefetch, 1)
_prefetching(native.prefetch_to_read, 0)


@operation(native.will_need, _void, types.Integer, types.Integer, types.Integer)
def _lower_will_need(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    if os.name == "posix":
        address, size, page = _wide(context, builder, signature, args, 0, 1, 2)
        first = builder.and_(address, builder.neg(page))
        length = builder.sub(builder.add(address, size), first)
        advice = ir.Constant(ir.IntType(32), mmap.MADV_WILLNEED)
        call(builder, "madvise", ir.IntType(32), builder.inttoptr(first, ir.IntType(8).as_pointer()), length, advice)
    return context.get_dummy_value()


# ---------------------------------------------------------------------------------------- atomics


@operation(native.atomic_add, _integer, types.Array, types.Integer, types.Integer)
def _lower_atomic_add(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    (value,) = _wide(context, builder, signature, args, 2)
    return builder.atomic_rmw("add", element_pointer(context, builder, signature, args), value, "seq_cst")


@operation(native.atomic_load, _integer, types.Array, types.Integer)
def _lower_atomic_load(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.load_atomic(element_pointer(context, builder, signature, args), "acquire", 8)


@operation(native.pause, _void)
def _lower_pause(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    if _X86:
        call(builder, "llvm.x86.sse2.pause", ir.VoidType())
    elif _ARM:
        call(builder, "llvm.aarch64.hint", ir.VoidType(), ir.Constant(ir.IntType(32), 1))  # the hint 1 is YIELD
    return context.get_dummy_value()


@operation(native.yield_processor, _void)
def _lower_yield_processor(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    call(builder, "SwitchToThread" if os.name == "nt" else "sched_yield", ir.IntType(32))
    return context.get_dummy_value()


# ------------------------------------------------------------------------------------- float mode
# A denormal number costs a hundred cycles on many processors. Bits 15 and 6 of x86's MXCSR flush denormal results and
# operands to zero; bit 24 of ARM's FPCR does both.


@operation(native.flush_denormals, _integer)
def _lower_flush_denormals(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    if _X86:
        place = cgutils.alloca_once(builder, ir.IntType(32))
        address = builder.bitcast(place, ir.IntType(8).as_pointer())
        call(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), address)
        before = builder.load(place)
        builder.store(builder.or_(before, ir.Constant(ir.IntType(32), 0x8040)), place)
        call(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), address)
        return builder.zext(before, _INT)
    if _ARM:
        before = call(builder, "llvm.aarch64.get.fpcr", _INT)
        call(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), builder.or_(before, ir.Constant(_INT, 1 << 24)))
        return before
    return ir.Constant(_INT, 0)


@operation(native.restore_float_mode, _void, types.Integer)
def _lower_restore_float_mode(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    (mode,) = _wide(context, builder, signature, args, 0)
    if _X86:
        place = cgutils.alloca_once(builder, ir.IntType(32))
        builder.store(builder.trunc(mode, ir.IntType(32)), place)
        call(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), builder.bitcast(place, ir.IntType(8).as_pointer()))
    elif _ARM:
        call(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), mode)
    return context.get_dummy_value()
