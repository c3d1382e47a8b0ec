"""GpuPlan: tables of the persistent CUDA kernel for a model, see `_kernels.cuda.table` and `_kernels.cuda.steps`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._common.arithmetic import ceil_div
from .._common.validation import Array
from .._kernels.cuda import table
from .._kernels.cuda.elementwise import variant
from .._kernels.cuda.parts import size_of_part
from .._kernels.formulas import output_suffices
from ..losses import Loss
from ..modules.lowering import Layer, Masks
from ..optim import Optimizer
from .support import Unsupported, state_kinds

__all__ = ["ALIGNED", "GpuPlan", "Layout"]

# A matrix product joins a chain if its tiles but the first have at most _SHORT half tiles of the inner dimension, and
# its first tile at most _LONG, beyond which split-K pays off. A separate stage costs as much as two half tiles.
_SHORT, _LONG = 2, 8
_FEWEST = 2  # half tiles of a split-K part, at least
_WORTH = 3  # splits from which split-K pays off for weight gradients, whose partials are large
ALIGNED = 4
_ALWAYS = {table.FORWARD, table.DELTA, table.WEIGHTS, table.LOSS, table.GATHER}


def _aligned(size: int) -> int:
    return ceil_div(int(size), ALIGNED) * ALIGNED


class Layout:
    """Offsets of parameters, optimizer state and constants in one flat array.

    The parameters form a plane: they are stored in order, row-major, each aligned to ALIGNED elements, since the kernel
    loads four elements at once. Each state of the optimizer has a plane of the same layout.

    Attributes
    ----------
    places : dict of (int, str) to int
        Offsets of parameters by index of the layer and name.
    constants : dict of (int, str) to int
        Offsets of the vectors that plans requested, see `constant`.
    plane : int
        Number of elements of a plane.
    planes : list of (str or None)
        States by plane, after the plane of the parameters; None for an unused plane.
    size : int
        Number of elements of the array.
    """

    def __init__(self, layers: list[Layer], optimizer: Optimizer | None) -> None:
        self.entries: list[tuple[Layer, str, int, int]] = []
        self.places: dict[tuple[int, str], int] = {}
        self.plane = 0
        for index, layer in enumerate(layers):
            for name, array in layer.module.params.items():
                self.entries.append((layer, name, self.plane, int(array.size)))
                self.places[index, name] = self.plane
                self.plane += _aligned(array.size)
        kinds = [] if optimizer is None else state_kinds(optimizer)
        # An unused state keeps its plane if a used state follows, since formulas number the planes.
        while kinds and kinds[-1] is None:
            kinds.pop()
        self.planes: list[str | None] = list(kinds)
        self.size = self.plane * (1 + len(kinds))
        self.constants: dict[tuple[int, str], int] = {}
        self.vectors: list[tuple[int, Array]] = []

    def constant(self, key: tuple[int, str], values: Callable[[], Array]) -> int:
        """Return the offset of a constant vector, by index of the layer and name; all plans share the vector."""
        if key not in self.constants:
            vector = values()
            self.constants[key] = self.size
            self.vectors.append((self.size, vector))
            self.size += _aligned(len(vector))
        return self.constants[key]


class _Jobs(NamedTuple):
    """Kinds of the row jobs of an operation."""

    forward: int
    backward: int


class GpuPlan:
    """Tables of the CUDA kernel for batches of up to ``batch`` rows; a `PlanBuilder`.

    The argument ``on`` is a `_kernels.cuda.machine.Machine`.

    Attributes
    ----------
    ops, numbers, jobs, stages, run_params, clip_params : ndarray
        Arguments of the kernel.
    work, parts, sums : int
        Sizes of the working arrays.
    counters : int
        Number of tiles of split-K products.
    kinds : tuple of str
        Activations by index.
    by_column : tuple of str
        Functions by column, by index.
    extras : tuple of int
        Kinds of jobs that only some networks have.
    wide : bool
        Whether there are wide tiles.
    blocks_per_sm : int
        Number of blocks per multiprocessor.
    blocks : int
        Number of blocks that have work in some stage.
    dropouts : list of (int, Masks)
        Masks with the index of the operation.
    """

    def __init__(
        self, layers: list[Layer], layout: Layout, loss: Loss, optimizer: Optimizer, batch: int, dtype: Any, on: Any
    ) -> None:
        self.batch, self.dtype, self.on, self.layout = batch, np.dtype(dtype), on, layout
        self._half = on.narrow.tile // 2
        self.work = 0
        self.wide, self._may_be_wide = False, str(self.dtype) in on.wide_dtypes
        self._ops: list[list[int]] = []
        self._numbers: list[list[float]] = []
        self._jobs_of: list[_Jobs] = []
        self.dropouts: list[tuple[int, Masks]] = []
        self._activated: list[tuple[list[int], str]] = []
        self.by_column: tuple[str, ...] = ()
        self._lower(layers)
        self.kinds = tuple(sorted({kind for _, kind in self._activated}))
        for op, kind in self._activated:
            op[table.ACTIVATION] = self.kinds.index(kind)
        trained = [o for o, op in enumerate(self._ops) if op[table.WEIGHT] >= 0]
        self._lowest = trained[0] if trained else len(self._ops)
        self._backward(loss)
        before, self.blocks_per_sm = self.work, 1
        self._blocks = on.blocks
        self._plan(trained, optimizer)
        # With few row blocks, one block per multiprocessor is faster, since it has more registers.
        if not self.wide and on.blocks_per_sm > 1 and ceil_div(batch, on.narrow.tile) >= on.blocks:
            self.work, self.blocks_per_sm, self._may_be_wide = before, on.blocks_per_sm, False
            self._blocks = on.blocks_per_sm * on.blocks
            self._plan(trained, optimizer)
        self.ops = np.array(self._ops, np.int64)
        self.stages, self.numbers = np.array(self._stages, np.int64), np.array(self._numbers, self.dtype)
        share = 0.0 if optimizer.average is None else 1 - optimizer.average
        self.clip_params = np.array([optimizer.clip_value or 0.0, optimizer.clip_norm or 0.0, share], self.dtype)
        self.run_params = np.zeros(table.RUN_PARAMS, np.int64)
        self.run_params[table.PLANE] = layout.plane
        self.run_params[table.GATHERED : table.GATHERED + 2] = self._gathered
        if "average" in layout.planes:
            self.run_params[table.AVERAGE_PLANE] = layout.plane * (1 + layout.planes.index("average"))
        if optimizer.clip_norm is not None:
            self.run_params[table.GRADIENTS] = self._allocate(layout.plane)
        self.extras = tuple(sorted({job[table.KIND] for job in self._jobs} - _ALWAYS))
        self.blocks = min(self._blocks, max(self._items(*stage[:3]) for stage in self._stages))
        self._deal()
        self.jobs = np.array(self._jobs, np.int64)
        self.sums = self._sums
        self.parts = ceil_div(batch, on.narrow.tile)

    # ------------------------------------------------------------------------------------ operations

    def _allocate(self, size: int) -> int:
        start = self.work
        self.work += ceil_div(size, 32) * 32
        return start

    def _op(self, inputs: int, outputs: int, x: int, *numbers: float) -> list[int]:
        op = [-1] * table.OP_COLUMNS
        op[table.IN], op[table.OUT], op[table.X] = inputs, outputs, x
        self._ops.append(op)
        self._numbers.append([*numbers, *[0.0] * (table.NUMBERS - len(numbers))])
        return op

    def _lower(self, layers: list[Layer]) -> None:
        width = next(layer.module.in_width for layer in layers if layer.module.in_width is not None)
        assert width is not None
        self._layers, self._width, self._value = layers, width, table.DATA
        self._scaling = -1, -1  # offsets of mean and 1 / scale of a normalization in the gather job
        self._after_product = False
        for index, layer in enumerate(layers):
            self._index = index
            layer.module.lower(self)
        self._end()

    def _begin(self, jobs: _Jobs, outputs: int, *numbers: float) -> list[int]:
        """Append an operation on the value of the last operation."""
        self._end()
        self._jobs_of.append(jobs)
        op = self._op(self._width, outputs, self._value, *numbers)
        self._width = outputs
        return op

    def _end(self) -> None:
        """Allocate the results of the last operation, whose other columns are complete."""
        self._after_product = False
        if not self._ops:
            return
        op = self._ops[-1]
        op[table.Y] = self._value = self._allocate(self.batch * op[table.OUT])
        if op[table.X] == table.DATA:
            assert len(self._ops) == 1
            self._gathered = self._allocate(self.batch * op[table.IN]), self._allocate(self.batch * op[table.IN])
            op[table.GATHER_MEAN], op[table.GATHER_SCALE] = self._scaling

    def _offset_of(self, name: str | None) -> int:
        """Return the offset of a parameter of the module that is being lowered; -1 for None."""
        return -1 if name is None else self.layout.places[self._index, name]

    def _buffer(self, name: str, *, inverse: bool = False) -> int:
        """Return the offset of a buffer of that module, or of its reciprocal, since a division is ten times as slow."""
        module = self._layers[self._index].module

        def values() -> Array:
            found: Array = module.backend.to_numpy(module.buffers[name])
            return 1 / found if inverse else found

        return self.layout.constant((self._index, name), values)

    # ------------------------------------------------------------------------- methods of `PlanBuilder`

    def linear(self, outputs: int, weight: str, bias: str | None) -> None:
        """Append a matrix product; see `PlanBuilder` for this method and the following ones."""
        op = self._begin(_Jobs(table.FORWARD, table.DELTA), outputs)
        op[table.WEIGHT], op[table.BIAS] = self._offset_of(weight), self._offset_of(bias)
        self._after_product = True

    def binned_linear(self, outputs: int, bins: Array, weight: str, table: str, bias: str | None) -> None:
        """Refuse, since there are no kernels for GPUs."""
        raise Unsupported("the module BinnedLinear has no kernels for GPUs")

    def activation(self, kind: str, alpha: float) -> None:
        """Append an activation: the epilogue of the previous product, or else a separate operation."""
        if self._after_product:
            op, self._after_product = self._ops[-1], False
        else:
            op = self._begin(_Jobs(table.ACTIVATE, table.ACTIVATE_BACK), self._width)
        self._numbers[-1][table.ALPHA] = alpha
        self._activated.append((op, variant(kind, alpha)))
        if not output_suffices(kind, alpha):
            op[table.PRE] = self._allocate(self.batch * op[table.OUT])

    def normalize(self, mean: str, scale: str) -> None:
        """Append a normalization by column, which the first module leaves to the gather job."""
        places = self._buffer(mean), self._buffer(scale, inverse=True)
        if self._index == 0:
            self._scaling = places
        else:
            op = self._begin(_Jobs(table.NORMALIZE, table.NORMALIZE_BACK), self._width)
            op[table.MEAN], op[table.SCALE] = places

    def columns(self, kind: str, first: str, second: str | None = None) -> None:
        """Append a function by column, and register its formula in ``by_column``."""
        op = self._begin(_Jobs(table.BY_COLUMN, table.BY_COLUMN_BACK), self._width)
        trained = [self.layout.places.get((self._index, name), -1) for name in (first, second) if name is not None]
        op[table.WEIGHT], op[table.BIAS] = (*trained, -1)[:2]
        op[table.FIRST] = op[table.SECOND] = self._buffer(first) if trained[0] < 0 else trained[0]
        if second is not None:
            op[table.SECOND] = self._buffer(second) if trained[1] < 0 else trained[1]
        self.by_column += () if kind in self.by_column else (kind,)
        op[table.FORMULA] = self.by_column.index(kind)

    def layer_norm(self, eps: float, weight: str | None, bias: str | None) -> None:
        """Append a normalization by row, with memory for the statistics."""
        op = self._begin(_Jobs(table.NORM, table.NORM_BACK), self._width, eps)
        op[table.MEANS], op[table.RSTDS] = self._allocate(self.batch), self._allocate(self.batch)
        op[table.WEIGHT], op[table.BIAS] = self._offset_of(weight), self._offset_of(bias)

    def softmax(self) -> None:
        """Append a softmax."""
        self._begin(_Jobs(table.SOFTMAX, table.SOFTMAX_BACK), self._width)

    def dropout(self, rate: float, masks: Masks) -> None:
        """Append a dropout, whose masks depend on the number of the step."""
        op = self._begin(_Jobs(table.DROP, table.DROP_BACK), self._width, 1 / (1 - rate) if rate < 1 else 0.0)
        op[table.LAYER], op[table.THRESHOLD] = masks.layer, math.floor(rate * 2**32)
        self.dropouts.append((len(self._ops) - 1, masks))

    def _backward(self, loss: Loss) -> None:
        """Append the row of the loss, and set the destinations of gradients."""
        last = len(self._ops) - 1
        for o in range(self._lowest, len(self._ops)):
            self._ops[o][table.G] = self._allocate(self.batch * self._ops[o][table.OUT])
            if o > self._lowest:
                self._ops[o][table.BELOW] = o - 1
        op = self._op(self._width, self._width, table.DATA, *loss.numbers)
        op[table.Y] = self._ops[last][table.Y]
        op[table.BELOW] = last if last >= self._lowest else -1
        weight = loss.column_weight(self._width, np.dtype(np.float64))
        if weight is not None:
            op[table.WEIGHT] = self.layout.constant((-1, "weight"), lambda: weight)

    # -------------------------------------------------------------------------------- jobs and stages

    def _job(self, kind: int, o: int, tiles: int = 1, **columns: int) -> list[int]:
        job = [0] * table.JOB_COLUMNS
        job[table.KIND], job[table.OP], job[table.TILES], job[table.SPLITS] = kind, o, tiles, 1
        for name, value in columns.items():
            job[getattr(table, name)] = int(value)
        return job

    def _items(self, kind: int, first: int, last: int) -> int:
        """Return the number of blocks that a stage can use."""
        if kind == table.CHAIN:
            return ceil_div(self.batch, int(self.on.narrow.tile))
        return max(1, sum(map(self._items_of, self._jobs[first:last])))

    def _items_of(self, job: list[int]) -> int:
        kind, op, tile = job[table.KIND], self._ops[job[table.OP]], int(self.on.narrow.tile)
        if kind == table.UPDATE:
            return ceil_div(self.layout.plane, int(self.on.narrow.threads * self.on.each_item))
        if kind in (table.NORM_GRADIENT, table.COLUMN_GRADIENT):
            return job[table.TILES]
        if kind == table.GATHER:
            return ceil_div(self.batch, tile) * job[table.TILES]
        span = int(self.on.wide.tile) if job[table.WIDE] else tile
        return (
            ceil_div(op[table.OUT] if kind == table.WEIGHTS else self.batch, span)
            * job[table.TILES]
            * job[table.SPLITS]
        )

    def _deal(self) -> None:
        """Set the block of each job's first item, for stages whose items are assigned to the blocks in turn."""
        for _, first, last, *_ in self._stages:
            before = 0
            for job in self._jobs[first:last]:
                job[table.FROM] = before % self.blocks
                before += self._items_of(job)

    def _stage(self, kind: int, jobs: list[list[int]], *, checks: bool = False, squares: bool = False) -> None:
        first = len(self._jobs)
        self._jobs += jobs
        self._stages.append([kind, first, len(self._jobs), int(checks), int(squares)])

    def _rows_jobs(self) -> list[tuple[int, int]]:
        """Return (kind, operation) of all row jobs, in order."""
        forward = [(jobs.forward, o) for o, jobs in enumerate(self._jobs_of)]
        backward = [(self._jobs_of[o].backward, o) for o in range(len(self._jobs_of) - 1, self._lowest, -1)]
        return [*forward, (table.LOSS, len(self._jobs_of)), *backward]

    def _plan(self, trained: list[int], optimizer: Optimizer) -> None:
        self._sums = self.counters = 0
        self._jobs: list[list[int]] = []
        self._stages: list[list[int]] = []
        on, chained = self.on, []
        for kind, o in self._rows_jobs():
            if kind not in (table.FORWARD, table.DELTA):
                chained.append(self._job(kind, o))
                continue
            op = self._ops[o]
            width, inner = (op[table.OUT], op[table.IN]) if kind == table.FORWARD else (op[table.IN], op[table.OUT])
            tiles, halves = ceil_div(width, on.narrow.tile), ceil_div(inner, self._half)
            stretches = ceil_div(self.batch, on.narrow.tile)
            enough = 2 * stretches >= self._blocks  # enough row blocks to occupy all multiprocessors
            large = width > 2 * on.narrow.tile or inner > 4 * self._half
            short = (tiles - 1) * halves <= _SHORT and halves <= _LONG
            if short or (enough and not large):
                chained.append(self._job(kind, o, tiles))
                continue
            if chained:
                self._stage(table.CHAIN, chained)
                chained = []
            self._product(kind, o, width, inner, stretches)
        if chained:
            self._stage(table.CHAIN, chained)
        # Only weight gradients still read the features, which are double-buffered, so the next gather can join them.
        gather = self._job(table.GATHER, 0, ceil_div(self._ops[0][table.IN], on.narrow.tile))
        if trained:
            self._weights(trained, optimizer, gather)
        else:  # the loss is checked in any case
            self._stage(table.SPREAD, [gather], checks=True)

    def _product(self, kind: int, o: int, width: int, inner: int, stretches: int) -> None:
        """Append a row product as a stage of its own."""
        on = self.on
        wide_tiles = ceil_div(width, on.wide.tile)
        if self._may_be_wide and 4 * ceil_div(self.batch, on.wide.tile) * wide_tiles >= 3 * on.blocks:
            self.wide = True
            self._stage(table.SPREAD, [self._job(kind, o, wide_tiles, WIDE=1)])
            return
        tiles, halves = ceil_div(width, on.narrow.tile), ceil_div(inner, self._half)
        splits = max(1, min(self._blocks // (stretches * tiles), halves // _FEWEST))
        chunk = ceil_div(halves, splits) * self._half
        splits = ceil_div(inner, chunk)
        job = self._job(kind, o, tiles, SPLITS=splits, CHUNK=chunk)
        self._split(job, stretches * tiles)
        self._stage(table.SPREAD, [job])

    def _split(self, job: list[int], tiles: int) -> None:
        """Allocate the split-K partials of ``tiles`` tiles, if the product is split."""
        if job[table.SPLITS] > 1:
            size = size_of_part(self.on.narrow, job[table.KIND] == table.WEIGHTS)
            job[table.PARTS], job[table.COUNTER] = self._allocate(tiles * job[table.SPLITS] * size), self.counters
            self.counters += tiles

    def _weights(self, trained: list[int], optimizer: Optimizer, gather: list[int]) -> None:
        """Append the gradients and updates of all parameters, and the clipped update if the norm is clipped."""
        on, jobs = self.on, []
        products = [o for o in trained if self._jobs_of[o].forward == table.FORWARD]

        def tiles_of(o: int, size: int) -> tuple[int, int]:
            return ceil_div(self._ops[o][table.OUT], size), ceil_div(self._ops[o][table.IN], size)

        total = sum(math.prod(tiles_of(o, on.narrow.tile)) for o in products)
        most = ceil_div(self.batch, _FEWEST * self._half)
        splits = min(self._blocks // max(1, total), most)
        splits = splits if splits >= _WORTH else 1
        for o in trained:
            op = self._ops[o]
            if o not in products:
                columns = ceil_div(op[table.IN], on.narrow.side)
                by_column = self._jobs_of[o].forward == table.BY_COLUMN
                kind = table.COLUMN_GRADIENT if by_column else table.NORM_GRADIENT
                jobs.append(self._job(kind, o, columns, SUMS=self._sums))
                self._sums += columns
                continue
            rows, columns = tiles_of(o, on.wide.tile)
            if self._may_be_wide and 4 * rows * columns >= 3 * on.blocks:
                self.wide = True
                jobs.append(self._job(table.WEIGHTS, o, columns, WIDE=1, SUMS=self._sums))
                self._sums += rows * columns
                continue
            rows, columns = tiles_of(o, on.narrow.tile)
            job = self._job(table.WEIGHTS, o, columns, SPLITS=splits, SUMS=self._sums)
            self._split(job, rows * columns)
            jobs.append(job)
            self._sums += rows * columns
        self._stage(table.SPREAD, [*jobs, gather], checks=True)
        if optimizer.clip_norm is not None:
            self._stage(table.SPREAD, [self._job(table.UPDATE, 0)], squares=True)
