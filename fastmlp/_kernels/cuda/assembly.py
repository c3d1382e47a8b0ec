"""Device functions for PTX instructions and LLVM operations that Numba does not expose."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from .runtime import SIMULATED

__all__ = ["copying", "instruction", "load2", "load4", "matrix", "store4", "vector"]


def instruction(code: str, constraints: str, takes: tuple[str, ...], gives: tuple[str, ...], moves: bool) -> Any:
    """Return a device function that emits one line of inline PTX with LLVM operand constraints.

    Parameters
    ----------
    code, constraints : str
        The PTX text and the LLVM constraints. ``$0`` ... number the results first, then the operands. The constraint
        ``~{memory}`` is a compiler barrier: memory accesses are not reordered across the instruction.
    takes, gives : tuple of str
        Numba type names of the operands and the results. "bits" is a float32 in an integer register. "first" is an
        array operand, passed as the address of its first element. Several results are returned as a tuple.
    moves : bool
        Whether the compiler may move, eliminate or merge the instruction like arithmetic.
    """
    # Imported by name because Numba's simulator has neither module.
    intrinsic = importlib.import_module("numba.cuda.extending").intrinsic
    types, ir = importlib.import_module("numba.cuda.types"), importlib.import_module("llvmlite.ir")
    registers = {
        "float32": ir.FloatType(), "bits": ir.IntType(32), "uint32": ir.IntType(32), "int32": ir.IntType(32),
        "int64": ir.IntType(64),
    }  # fmt: skip
    by_name = {**{name: getattr(types, name) for name in registers if name != "bits"}, "bits": types.float32}
    results = [by_name[name] for name in gives]

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        operands = []
        for name, kind, value in zip(takes, signature.args, arguments, strict=True):
            if name == "first":
                value = context.make_array(kind)(context, builder, value=value).data
            elif name == "bits":
                value = builder.bitcast(value, registers[name])
            operands.append(value)
        given = [registers[name] for name in gives]
        result = given[0] if len(given) == 1 else ir.LiteralStructType(given) if given else ir.VoidType()
        function = ir.FunctionType(result, [operand.type for operand in operands])
        found = builder.call(ir.InlineAsm(function, code, constraints, side_effect=not moves), operands)
        if not given:
            return context.get_dummy_value()
        parts = [found] if len(given) == 1 else [builder.extract_value(found, i) for i in range(len(given))]
        parts = [
            builder.bitcast(part, ir.FloatType()) if name == "bits" else part
            for name, part in zip(gives, parts, strict=True)
        ]
        return parts[0] if len(parts) == 1 else context.make_tuple(builder, signature.return_type, parts)

    def typed(typing_context: Any, *kinds: Any) -> Any:
        wanted = [by_name.get(name, kind) for name, kind in zip(takes, kinds, strict=True)]
        result = results[0] if len(results) == 1 else types.Tuple(results) if results else types.void
        return result(*wanted), build

    # Numba passes *kinds as one tuple, so the signature declares one parameter for each operand.
    names = ["typing_context", *(f"operand_{i}" for i in range(len(takes)))]
    typed.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    )
    return intrinsic(typed)


def together(count: int) -> Any:
    """Return a device function (array, i) that loads ``count`` contiguous elements from index i with a vector load.

    ``i`` must be a multiple of ``count`` and the array must be contiguous and aligned to 16 bytes, as all GPU
    allocations are. Four float64 values take two loads.
    """
    intrinsic = importlib.import_module("numba.cuda.extending").intrinsic
    types, ir = importlib.import_module("numba.cuda.types"), importlib.import_module("llvmlite.ir")

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        first = context.make_array(kind)(context, builder, value=arguments[0]).data
        element = first.type.pointee
        place = builder.bitcast(builder.gep(first, [arguments[1]]), ir.VectorType(element, count).as_pointer())
        found = builder.load(place, align=min(16, count * context.get_abi_sizeof(element)))
        parts = [builder.extract_element(found, ir.Constant(ir.IntType(32), i)) for i in range(count)]
        return context.make_tuple(builder, signature.return_type, parts)

    def typed(typing_context: Any, array: Any, i: Any) -> Any:
        return types.UniTuple(array.dtype, count)(array, types.uint64), build

    return intrinsic(typed)


def four_stored() -> Any:
    """Return a device function (array, i, a, b, c, d) that stores four elements; alignment as in `together`."""
    intrinsic = importlib.import_module("numba.cuda.extending").intrinsic
    types, ir = importlib.import_module("numba.cuda.types"), importlib.import_module("llvmlite.ir")

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first = context.make_array(signature.args[0])(context, builder, value=arguments[0]).data
        element = first.type.pointee
        vector = ir.Constant(ir.VectorType(element, 4), ir.Undefined)
        for i, value in enumerate(arguments[2:]):
            vector = builder.insert_element(vector, value, ir.Constant(ir.IntType(32), i))
        place = builder.bitcast(builder.gep(first, [arguments[1]]), vector.type.as_pointer())
        builder.store(vector, place, align=min(16, 4 * context.get_abi_sizeof(element)))
        return context.get_dummy_value()

    def typed(typing_context: Any, array: Any, i: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
        return types.void(array, types.uint64, *(4 * (array.dtype,))), build

    return intrinsic(typed)


def copying(size: int) -> Any:
    """Return a device function (shared, i, source, j, bytes) that starts an async copy of source[j ..] to shared[i ..].

    The copy writes ``size`` bytes: ``bytes`` bytes from ``source`` and zeros for the rest. If ``bytes`` is 0,
    ``source`` is not read. Both addresses must be multiples of ``size`` bytes. ``cp.async.commit_group`` puts all
    copies started since the previous commit into one group.
    """
    intrinsic = importlib.import_module("numba.cuda.extending").intrinsic
    types, ir = importlib.import_module("numba.cuda.types"), importlib.import_module("llvmlite.ir")
    # .cg bypasses the L1 cache, which is not coherent with writes of other multiprocessors; PTX allows it for 16 bytes
    # only.
    code = f"cp.async.{'cg' if size == 16 else 'ca'}.shared.global [$0], [$1], {size}, $2;"

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = {}
        for at in (0, 2):
            first = context.make_array(signature.args[at])(context, builder, value=arguments[at]).data
            place[at] = builder.gep(first, [arguments[at + 1]])
        address, count = ir.IntType(64), builder.trunc(arguments[4], ir.IntType(32))
        pointer = builder.ptrtoint(place[0], address)
        kind = ir.FunctionType(address, [address])
        to = builder.call(ir.InlineAsm(kind, "cvta.to.shared.u64 $0, $1;", "=l,l", side_effect=False), [pointer])
        kind = ir.FunctionType(ir.VoidType(), [address, address, ir.IntType(32)])
        copy = ir.InlineAsm(kind, code, "l,l,r,~{memory}", side_effect=True)
        builder.call(copy, [to, builder.ptrtoint(place[2], address), count])
        return context.get_dummy_value()

    def typed(typing_context: Any, shared: Any, i: Any, source: Any, j: Any, count: Any) -> Any:
        return types.void(shared, types.uint64, source, types.uint64, types.int64), build

    return intrinsic(typed)


def part(dimensions: int) -> Any:
    """Return a device function (array, first, *shape) that views a vector from index ``first`` on with a given shape.

    Numba's own reshape is not used because it is a function call that computes the strides at run time.
    """
    intrinsic = importlib.import_module("numba.cuda.extending").intrinsic
    types, ir = importlib.import_module("numba.cuda.types"), importlib.import_module("llvmlite.ir")
    populate = importlib.import_module("numba.cuda.np.arrayobj").populate_array

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole = context.make_array(signature.args[0])(context, builder, value=arguments[0])
        made = context.make_array(signature.return_type)(context, builder)
        size = context.get_abi_sizeof(whole.data.type.pointee)
        shape, strides = list(arguments[2:]), [ir.IntType(64)(size)]
        for extent in shape[:0:-1]:
            strides.insert(0, builder.mul(strides[0], extent))
        populate(made, builder.gep(whole.data, [arguments[1]]), shape, strides, size, None)
        return made._getvalue()

    def one(typing_context: Any, array: Any, first: Any, size: Any) -> Any:
        return typed(array), build

    def two(typing_context: Any, array: Any, first: Any, rows: Any, columns: Any) -> Any:
        return typed(array), build

    def typed(array: Any) -> Any:
        return types.Array(array.dtype, dimensions, "C")(array, *(1 + dimensions) * (types.int64,))

    return intrinsic(one if dimensions == 1 else two)


if not SIMULATED:
    load2, load4, store4, vector, matrix = together(2), together(4), four_stored(), part(1), part(2)
else:  # the simulator runs no kernel that uses these functions
    load2 = load4 = store4 = vector = matrix = None
