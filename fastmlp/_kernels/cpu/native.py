"""Low-level operations of the engine: calls by address, atomics, prefetching and the processor's float mode.

Each operation is one or two LLVM instructions. None has a NumPy definition, so the engine requires the JIT.
"""

from __future__ import annotations

import mmap
import os
import platform
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

__all__ = [
    "atomic_add", "atomic_load", "atomic_store", "bytes_at", "call_address", "flush_denormals", "integers_at", "invoke",
    "numbers_at", "pause", "pointer", "prefetch", "prefetch_to_read", "reals_at", "restore_float_mode", "singles_at",
    "will_need", "yield_processor",
]  # fmt: skip

_X86 = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
_ARM = platform.machine().lower() in ("aarch64", "arm64")
_INT = ir.IntType(64)


def _data(context: Any, builder: Any, array_type: Any, array: Any, index_type: Any = None, index: Any = None) -> Any:
    """Return a pointer to element ``index`` of an array."""
    data = context.make_array(array_type)(context, builder, array).data
    if index is None:
        return data
    return builder.gep(data, [context.cast(builder, index, index_type, types.intp)])


@intrinsic
def pointer(typing, a, i):
    """Return a pointer to element ``i`` of the flat array ``a``; a pointer is cheaper to pass than an array."""

    def generate(context, builder, signature, args):
        return _data(context, builder, signature.args[0], args[0], signature.args[1], args[1])

    return types.CPointer(a.dtype)(a, i), generate


def call_address(context: Any, builder: Any, address_type: Any, address: Any, values: list[Any]) -> Any:
    """Generate the call of a void function at an address, see `jit.addressed`."""
    function = ir.FunctionType(ir.VoidType(), [value.type for value in values])
    target = context.cast(builder, address, address_type, types.int64)
    builder.call(builder.inttoptr(target, function.as_pointer()), values)
    return context.get_dummy_value()


@intrinsic
def invoke(typing, address, work, weights, table, numbers, first, last, extra):
    """Call the function at ``address``, see `jit.addressed`, with four pointers and three integers."""
    sig = types.void(address, work, weights, table, numbers, first, last, extra)

    def generate(context, builder, signature, args):
        integers = [context.cast(builder, args[i], signature.args[i], types.int64) for i in (5, 6, 7)]
        return call_address(context, builder, signature.args[0], args[0], [*args[1:5], *integers])

    return sig, generate


def _array_at(dtype):
    """Return an intrinsic that converts an address to a pointer, for use with `numba.carray`."""

    @intrinsic
    def at(typing, address):
        def generate(context, builder, signature, args):
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        return types.CPointer(dtype)(types.int64), generate

    at.__name__ = f"{dtype}_at"  # kernels that capture the intrinsic are cached by this name
    return at


integers_at = _array_at(types.int64)
numbers_at = _array_at(types.float64)
bytes_at = _array_at(types.uint8)
singles_at = _array_at(types.float32)


@intrinsic
def reals_at(typing, address, like):
    """Convert an address to a pointer of ``like``'s type."""

    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return like(types.int64, like), generate


def _prefetching(name, writes):
    """Return an intrinsic that prefetches the cache line of element ``i``, for writing or for reading."""

    @intrinsic
    def ask(typing, a, i):
        def generate(context, builder, signature, args):
            pointer = _data(context, builder, signature.args[0], args[0], signature.args[1], args[1])
            number = ir.IntType(32)
            kinds = [pointer.type, number, number, number]
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0"
            )
            builder.call(function, [pointer, *(ir.Constant(number, x) for x in (writes, 2, 1))])
            return context.get_dummy_value()

        return types.void(a, i), generate

    ask.__name__ = name
    return ask


prefetch = _prefetching("prefetch", 1)  # takes the line from other cores
prefetch_to_read = _prefetching("prefetch_to_read", 0)  # into L2


_PAGE = mmap.PAGESIZE


@intrinsic
def will_need(typing, address, size):
    """Tell the system to read ``size`` bytes of a mapped file ahead, without blocking this thread."""

    def generate(context, builder, signature, args):
        if os.name == "posix":
            first = builder.and_(args[0], ir.Constant(_INT, -_PAGE))
            length = builder.sub(builder.add(args[0], args[1]), first)
            advice = ir.Constant(ir.IntType(32), mmap.MADV_WILLNEED)
            byte = ir.IntType(8).as_pointer()
            function = ir.FunctionType(ir.IntType(32), [byte, _INT, ir.IntType(32)])
            madvise = cgutils.get_or_insert_function(builder.module, function, "madvise")
            builder.call(madvise, [builder.inttoptr(first, byte), length, advice])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


# ---------------------------------------------------------------------------------------- atomics


@intrinsic
def atomic_add(typing, a, i, x):
    """Add x to a[i] of an int64 array with sequential consistency; return the old value."""

    def generate(context, builder, signature, args):
        pointer = _data(context, builder, signature.args[0], args[0], signature.args[1], args[1])
        value = context.cast(builder, args[2], signature.args[2], types.int64)
        return builder.atomic_rmw("add", pointer, value, "seq_cst")

    return types.int64(a, i, x), generate


@intrinsic
def atomic_load(typing, a, i):
    """Load a[i] of an int64 array with acquire semantics."""

    def generate(context, builder, signature, args):
        pointer = _data(context, builder, signature.args[0], args[0], signature.args[1], args[1])
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(a, i), generate


@intrinsic
def atomic_store(typing, a, i, x):
    """Store x to a[i] of an int64 array with release semantics."""

    def generate(context, builder, signature, args):
        pointer = _data(context, builder, signature.args[0], args[0], signature.args[1], args[1])
        value = context.cast(builder, args[2], signature.args[2], types.int64)
        builder.store_atomic(value, pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(a, i, x), generate


@intrinsic
def pause(typing):
    """Tell the processor that the thread is in a spin loop."""

    def generate(context, builder, signature, args):
        if _X86:
            function = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function, "llvm.x86.sse2.pause"), [])
        elif _ARM:
            _control(builder, "llvm.aarch64.hint", ir.Constant(ir.IntType(32), 1))  # the hint 1 is YIELD
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def yield_processor(typing):
    """Let another thread run on this processor."""

    def generate(context, builder, signature, args):
        name = "SwitchToThread" if os.name == "nt" else "sched_yield"
        function = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, function, name), [])
        return context.get_dummy_value()

    return types.void(), generate


# ------------------------------------------------------------------------------------- float mode
# A denormal number costs a hundred cycles on many processors. Bits 15 and 6 of x86's MXCSR flush denormal results and
# operands to zero; bit 24 of ARM's FPCR does both.


def _control(builder: Any, name: str, argument: Any) -> None:
    function = ir.FunctionType(ir.VoidType(), [argument.type])
    builder.call(cgutils.get_or_insert_function(builder.module, function, name), [argument])


@intrinsic
def flush_denormals(typing):
    """Flush denormal numbers to zero in this thread from now on; return the previous mode."""

    def generate(context, builder, signature, args):
        if _X86:
            place = cgutils.alloca_once(builder, ir.IntType(32))
            bytes_at = builder.bitcast(place, ir.IntType(8).as_pointer())
            _control(builder, "llvm.x86.sse.stmxcsr", bytes_at)
            before = builder.load(place)
            builder.store(builder.or_(before, ir.Constant(ir.IntType(32), 0x8040)), place)
            _control(builder, "llvm.x86.sse.ldmxcsr", bytes_at)
            return builder.zext(before, _INT)
        if _ARM:
            function = ir.FunctionType(_INT, [])
            before = builder.call(cgutils.get_or_insert_function(builder.module, function, "llvm.aarch64.get.fpcr"), [])
            _control(builder, "llvm.aarch64.set.fpcr", builder.or_(before, ir.Constant(_INT, 1 << 24)))
            return before
        return ir.Constant(_INT, 0)

    return types.int64(), generate


@intrinsic
def restore_float_mode(typing, mode):
    """Restore the mode returned by `flush_denormals`."""

    def generate(context, builder, signature, args):
        if _X86:
            place = cgutils.alloca_once(builder, ir.IntType(32))
            builder.store(builder.trunc(args[0], ir.IntType(32)), place)
            _control(builder, "llvm.x86.sse.ldmxcsr", builder.bitcast(place, ir.IntType(8).as_pointer()))
        elif _ARM:
            _control(builder, "llvm.aarch64.set.fpcr", args[0])
        return context.get_dummy_value()

    return types.void(types.int64), generate
