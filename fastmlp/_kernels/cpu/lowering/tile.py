"""Numba type of a tile, and the LLVM code of each operation of `cpu.tile`."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.types.containers import UniTuple
from numba.core.typing import signature
from numba.extending import lower_builtin, models, register_model

from ..tile import (
    ODD,
    at_least,
    load_tile,
    multiply_add,
    multiply_add_row,
    new_tile,
    store_tile,
    strides,
    transpose_block,
)
from . import simd
from .simd import VectorType

__all__ = ["TileType"]


class TileType(types.Type):
    """Numba type of a tile: ``rows`` x ``vectors`` vectors of one dtype."""

    def __init__(self, dtype: types.Float, rows: int, vectors: int) -> None:
        self.vector = VectorType(dtype)
        self.rows, self.vectors = rows, vectors
        self.llvm = ir.ArrayType(self.vector.llvm, rows * vectors)
        super().__init__(f"tile({dtype} x {rows} x {vectors} x {self.vector.lanes})")


@register_model(TileType)
class _TileModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, fe_type.llvm)


def _index(context: Any, builder: Any, value: Any, kind: Any) -> Any:
    return context.cast(builder, value, kind, types.intp)


class _Memory:
    """Addresses inside one array during the lowering of an operation."""

    def __init__(self, context: Any, builder: Any, array_type: Any, array: Any, vector: VectorType) -> None:
        self.builder, self.vector = builder, vector
        self.data = context.make_array(array_type)(context, builder, array).data
        self.align = vector.dtype.bitwidth // 8  # the only alignment that NumPy guarantees

    def _pointer(self, index: Any, kind: ir.Type) -> Any:
        return self.builder.bitcast(self.builder.gep(self.data, [index]), kind.as_pointer())

    def load(self, index: Any) -> Any:
        return self.builder.load(self._pointer(index, self.vector.llvm), align=self.align)

    def address(self, index: Any) -> Any:
        return self._pointer(index, ir.IntType(8))

    def load_at(self, address: Any, vector: int) -> Any:
        """Load a vector from an address of bytes on, which has ``vector`` others before it."""
        step = vector * self.vector.lanes * self.vector.dtype.bitwidth // 8
        pointer = self.builder.gep(address, [ir.Constant(ir.IntType(64), step)])
        return self.builder.load(self.builder.bitcast(pointer, self.vector.llvm.as_pointer()), align=self.align)

    def broadcast(self, address: Any) -> Any:
        pointer = self.builder.bitcast(address, self.vector.scalar.as_pointer())
        return simd.broadcast_scalar(self.builder, self.vector, self.builder.load(pointer))

    def store(self, index: Any, value: Any) -> None:
        self.builder.store(value, self._pointer(index, self.vector.llvm), align=self.align)

    def _masked(
        self, name: str, result: ir.Type, index: Any, mask: Any, before: tuple[Any, ...], after: tuple[Any, ...]
    ) -> Any:
        align = ir.Constant(ir.IntType(32), self.align)
        pointer = self._pointer(index, self.vector.llvm)
        return simd.call(
            self.builder, f"llvm.masked.{name}.{self.vector.suffix}.p0", result, *before, pointer, align, mask, *after
        )

    def load_masked(self, index: Any, mask: Any) -> Any:
        return self._masked("load", self.vector.llvm, index, mask, (), (ir.Constant(self.vector.llvm, None),))

    def store_masked(self, index: Any, value: Any, mask: Any) -> None:
        self._masked("store", ir.VoidType(), index, mask, (value,), ())


def _type_new_tile(a: Any, rows: Any, vectors: Any) -> Any:
    if not isinstance(rows, types.IntegerLiteral) or not isinstance(vectors, types.IntegerLiteral):
        return None
    return signature(TileType(a.dtype, rows.literal_value, vectors.literal_value), a, rows, vectors)


simd.typing(new_tile, _type_new_tile)


@lower_builtin(new_tile, types.Array, types.IntegerLiteral, types.IntegerLiteral)
def _lower_new_tile(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    return ir.Constant(sig.return_type.llvm, None)


simd.typing(strides, lambda a, row: signature(UniTuple(types.intp, len(ODD)), a, row))


@lower_builtin(strides, types.Array, types.Integer)
def _lower_strides(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    row = _index(context, builder, values[1], sig.args[1])
    found = ir.Constant(context.get_value_type(sig.return_type), ir.Undefined)
    for at, k in enumerate(ODD):
        distance = builder.mul(row, ir.Constant(row.type, k * (sig.args[0].dtype.bitwidth // 8)))
        hidden = builder.asm(ir.FunctionType(row.type, [row.type]), "", "=r,0", [distance], False)
        found = builder.insert_value(found, hidden, at)
    return found


def _row_address(builder: Any, first: Any, distances: Any, r: int) -> Any:
    """Return the address of row ``r`` from that of the first row and the `strides`."""
    if r == 0:
        return first
    power = (r & -r).bit_length() - 1
    distance = builder.extract_value(distances, ODD.index(r >> power))
    return builder.gep(first, [builder.shl(distance, ir.Constant(distance.type, power))])


def _add_product(builder: Any, kind: Any, tile: Any, at: int, a: Any, b: Any) -> Any:
    """Return the tile with a b added to its vector ``at``, by one fused multiply-add."""
    total = builder.extract_value(tile, at)
    total = simd.call(builder, f"llvm.fma.{kind.vector.suffix}", kind.vector.llvm, a, b, total)
    return builder.insert_value(tile, total, at)


@simd.operation(
    multiply_add,
    lambda tile, *rest: tile,
    TileType,
    types.Array,
    types.Integer,
    UniTuple,
    types.Array,
    types.Integer,
)
def _lower_multiply_add(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    kind = sig.return_type
    tile = values[0]
    left = _Memory(context, builder, sig.args[1], values[1], kind.vector)
    right = _Memory(context, builder, sig.args[4], values[4], kind.vector)
    i, p = (_index(context, builder, values[n], sig.args[n]) for n in (2, 5))
    first = left.address(i)
    j = builder.mul(p, ir.Constant(p.type, kind.vectors * kind.vector.lanes))
    columns = [right.load(builder.add(j, ir.Constant(j.type, v * kind.vector.lanes))) for v in range(kind.vectors)]
    for r in range(kind.rows):
        element = left.broadcast(_row_address(builder, first, values[3], r))
        for v in range(kind.vectors):
            tile = _add_product(builder, kind, tile, r * kind.vectors + v, element, columns[v])
    return tile


@simd.operation(
    multiply_add_row,
    lambda tile, *rest: tile,
    TileType,
    types.Array,
    types.Integer,
    UniTuple,
    types.Array,
    types.Integer,
)
def _lower_multiply_add_row(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    kind = sig.return_type
    tile = values[0]
    left = _Memory(context, builder, sig.args[1], values[1], kind.vector)
    right = _Memory(context, builder, sig.args[4], values[4], kind.vector)
    i, j = (_index(context, builder, values[n], sig.args[n]) for n in (2, 5))
    element, first = left.broadcast(left.address(i)), right.address(j)
    for r in range(kind.rows):
        address = _row_address(builder, first, values[3], r)
        for v in range(kind.vectors):
            tile = _add_product(builder, kind, tile, r * kind.vectors + v, element, right.load_at(address, v))
    return tile


@simd.operation(at_least, lambda tile, x: tile, TileType, types.Number)
def _lower_at_least(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    kind, tile = sig.return_type, values[0]
    lowest = context.cast(builder, values[1], sig.args[1], kind.vector)
    for at in range(kind.rows * kind.vectors):
        one = builder.extract_value(tile, at)
        # False for NaN, which therefore stays: one instruction of x86.
        one = builder.select(builder.fcmp_ordered(">", lowest, one), lowest, one)
        tile = builder.insert_value(tile, one, at)
    return tile


_TILE_ARGUMENTS = (TileType, types.Array, types.Integer, types.Integer, types.Integer)


def _places(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    """Return (position in the tile, memory index, mask or None) of each vector of a tile in memory."""
    kind = sig.args[0]
    i, row = (_index(context, builder, values[n], sig.args[n]) for n in (2, 3))
    mask = simd.first_lanes(context, builder, kind.vector, values[4], sig.args[4])
    for r in range(kind.rows):
        start = builder.add(i, builder.mul(row, ir.Constant(row.type, r)))
        for v in range(kind.vectors):
            index = builder.add(start, ir.Constant(i.type, v * kind.vector.lanes))
            yield r * kind.vectors + v, index, mask if v + 1 == kind.vectors else None


@simd.operation(load_tile, lambda tile, *rest: tile, *_TILE_ARGUMENTS)
def _lower_load_tile(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    memory = _Memory(context, builder, sig.args[1], values[1], sig.args[0].vector)
    tile = ir.Constant(sig.return_type.llvm, ir.Undefined)
    for at, index, mask in _places(context, builder, sig, values):
        tile = builder.insert_value(tile, memory.load(index) if mask is None else memory.load_masked(index, mask), at)
    return tile


@simd.operation(store_tile, lambda *rest: types.none, *_TILE_ARGUMENTS)
def _lower_store_tile(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    vector = sig.args[0].vector
    memory = _Memory(context, builder, sig.args[1], values[1], vector)
    places = list(_places(context, builder, sig, values))
    count = _index(context, builder, values[4], sig.args[4])
    whole = builder.icmp_signed("==", count, ir.Constant(count.type, vector.lanes))
    # Masked stores are slow on some AVX2 processors, and only the last panel needs them.
    with builder.if_else(whole, likely=True) as (plain, masked):
        with plain:
            for at, index, _ in places:
                memory.store(index, builder.extract_value(values[0], at))
        with masked:
            for at, index, mask in places:
                value = builder.extract_value(values[0], at)
                if mask is None:
                    memory.store(index, value)
                else:
                    memory.store_masked(index, value, mask)
    return context.get_dummy_value()


@simd.operation(
    transpose_block, lambda *rest: types.none,
    types.Array, types.Integer, types.Integer, types.Array, types.Integer, types.Integer,
)  # fmt: skip
def _lower_transpose_block(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    vector = VectorType(sig.args[0].dtype)
    source = _Memory(context, builder, sig.args[0], values[0], vector)
    target = _Memory(context, builder, sig.args[3], values[3], vector)
    i, row, j, b_row = (_index(context, builder, values[n], sig.args[n]) for n in (1, 2, 4, 5))
    width = vector.lanes

    def at(start: Any, stride: Any, n: int) -> Any:
        return builder.add(start, builder.mul(stride, ir.Constant(stride.type, n)))

    def shuffle(x: Any, y: Any, order: list[int]) -> Any:
        return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), width), order))

    rows = [source.load(at(i, row, r)) for r in range(width)]
    # Recursive transpose: swap off-diagonal squares of side 1, then 2, 4, ...
    side = 1
    while side < width:
        upper = [c if not c & side else c - side + width for c in range(width)]
        lower = [c + side if not c & side else c + width for c in range(width)]
        for r in range(width):
            if not r & side:
                x, y = rows[r], rows[r + side]
                rows[r], rows[r + side] = shuffle(x, y, upper), shuffle(x, y, lower)
        side *= 2
    for c in range(width):
        target.store(at(j, b_row, c), rows[c])
    return context.get_dummy_value()
