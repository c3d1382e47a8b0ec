"""CpuPlan: tables and working memory by which the CPU kernels run a model, for a maximal batch size."""

from __future__ import annotations

import math
import mmap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._common.tuning import tuned
from .._common.validation import Array
from .._kernels.cpu import augment as augmented
from .._kernels.cpu import binned, columns, elementwise, loss_operations, losses, operations, table, updates
from .._kernels.cpu.engine import (
    ACCUMULATE,
    ALL_PIECES,
    BATCH_BLOCK,
    BIAS_PANEL,
    FIRST_PIECE,
    FLAT,
    FLAT_SIZE,
    ITEM_COLUMNS,
    LOSSES,
    MOST_LEVELS,
    NEAR,
    OWN_GRADIENT,
    PIECE_LOSSES,
    PIECES,
    REDUCER,
    RUN_PARAMS,
    SCRATCH,
    SCRATCH_SIZE,
    SLOT,
    SUM,
    TABLE_BLOCK,
    TRAINING,
    UPDATE,
    WEIGHT_BLOCK,
)  # fmt: skip
from .._kernels.cpu.host import LANES, VECTOR_BYTES, l1_bytes
from .._kernels.cpu.loss_operations import LOSS_SCRATCH
from .._kernels.cpu.panels import round_up
from .._kernels.cpu.products import MAX_BLOCK_ROWS
from .._kernels.cpu.random import WORDS
from .._kernels.formulas import output_suffices, sums_over_classes
from .._kernels.formulas.optimizers import MOST_NUMBERS
from .._kernels.reference import probability_floor
from ..losses import Loss
from ..modules.lowering import Layer, Masks
from ..optim import Optimizer
from .storage import Arena, Weights
from .support import Pieces, rule

if TYPE_CHECKING:
    from ..training.augmentation import Augmentations

__all__ = ["CpuPlan", "derived_batch_block"]

_PAGE = 4096
_MOST_PANELS = 4  # panels of inputs in a block of weights
_L1_LEFT = 14 << 10  # bytes of L1 reserved for a block of weights, beside one panel of A and one of B
_GROUP_BYTES = 1 << 18  # bytes of output gradients in cache during a pass over the inputs
_NEAR = 1 << 19  # bytes of weights and their state that stay in L2 with a single thread


def derived_batch_block() -> int:
    """Return the rows of the batch for which a panel of A, one of B and a block of weights fit in L1."""
    return (l1_bytes() - _L1_LEFT) // 2 // (2 * VECTOR_BYTES)


class _Backward(NamedTuple):
    """Gradient functions of an operation.

    ``dx`` computes the gradient of the input, and with ``in_place`` it may overwrite the gradient of the output. It is
    None if both are equal.
    ``gradient`` computes the gradients of the parameters of an operation that is not a matrix product.
    """

    dx: Any
    gradient: Any = None
    in_place: bool = True


class CpuPlan:
    """Tables and working memory of the CPU kernels for batches of up to ``batch`` rows; a `PlanBuilder`.

    Parameters
    ----------
    layers : list of Layer
    weights : Weights
    loss : Loss or None
        None for inference.
    optimizer : Optimizer or None
        None for inference.
    batch : int
    source : str
        Name of the dtype in which features are gathered.
    by_index : bool
        Whether targets are class indices.
    threads : int
    augment : Augmentations or None
    accumulates : bool
        Whether a step may accumulate the gradients of several batches.
    pieces : Pieces or None
        The pieces of a batch that this process computes; None for batches in one piece.

    Attributes
    ----------
    ops, numbers, work_items : ndarray
        See `_kernels.cpu.table` and `_kernels.cpu.engine`.
    params : ndarray
        Those of the weights, with the offsets of this plan's gradients.
    work : ndarray
        Activations, gradients and scratch.
    """

    def __init__(
        self,
        layers: list[Layer],
        weights: Weights,
        loss: Loss | None,
        optimizer: Optimizer | None,
        batch: int,
        source: str,
        by_index: bool,
        threads: int,
        augment: Augmentations | None = None,
        accumulates: bool = False,
        pieces: Pieces | None = None,
    ) -> None:
        self.weights, self.dtype, self.threads, self.batch = weights, weights.dtype, threads, batch
        self._arena = Arena(self.dtype)
        self.params = weights.params.copy()
        self.capacity = batch
        if batch * 2 * VECTOR_BYTES % _PAGE == 0:  # a panel stride of whole pages would cause conflict misses in L1
            self.capacity = batch + 1
        self._ops: list[list[int]] = []
        self._numbers: list[list[float]] = []
        self._backwards: dict[int, _Backward] = {}
        self._layers, self._index = layers, 0
        self._source, self.augment = source, augment
        self._trains = loss is not None
        self.dropouts: list[tuple[int, Masks]] = []
        # Width and offset of the value of the last operation, and whether that operation is a matrix product.
        self._width = self._value = 0
        self._after_product = False
        self._gather()
        self._lower()
        if loss is None:
            self._add(table.ROWS, self._width, X=self._value, FORWARD=operations.emit.address(self.dtype))
        else:
            self._loss(loss, by_index)
            self._backward()
        self.run_params = np.zeros(RUN_PARAMS, np.int64)
        self._items(optimizer)
        if optimizer is not None:
            self._training(optimizer, accumulates, pieces)
        self.ops = np.array(self._ops, np.int64)
        self.numbers = np.array(self._numbers, np.float64)
        self.work = self._arena.array()

    # ------------------------------------------------------------------------------------ operations

    def _add(self, kind: int, width: int, /, *numbers: float, **columns: int) -> list[int]:
        """Append an operation whose output has ``width`` columns; return its row of the table."""
        row = [-1] * table.COLUMNS
        row[table.FORWARD] = row[table.BACKWARD] = row[table.GRADIENT] = row[table.OWN] = row[table.REFRESH] = 0
        row[table.KIND], row[table.CAPACITY], row[table.OUT] = kind, self.capacity, width
        row[table.IN] = width
        for name, value in columns.items():
            row[getattr(table, name)] = int(value)
        self._ops.append(row)
        self._numbers.append([*numbers, *[0.0] * (table.NUMBERS - len(numbers))])
        self._after_product = False
        if row[table.Y] >= 0:
            self._value, self._width = row[table.Y], width
        return row

    def _gather(self) -> None:
        width = next(layer.module.in_width for layer in self._layers if layer.module.in_width is not None)
        op = self._add(
            table.ROWS, width, Y=self._arena.matrix(self.capacity, width),
            FORWARD=self.gather_address(self._source), MEAN=-1, SCALE=-1, PAGE=mmap.PAGESIZE,
        )  # fmt: skip
        if self.augment is not None:
            self._augment(op, self.augment, width)

    def gather_address(self, source: str) -> int:
        """Return the address of the function that gathers features of a dtype."""
        gather = operations.gather if self.augment is None else augmented.gather_augmented
        return int(gather(source).address(self.dtype))

    def _augment(self, op: list[int], augment: Augmentations, width: int) -> None:
        op[table.SCRATCH] = self._arena.allocate(self.capacity * augmented.scratch(width))
        op[table.FLIP] = op[table.NOISE] = op[table.SHARES] = 0
        if augment.flip is not None:
            op[table.FLIP], (op[table.PIXELS], op[table.PIXEL]) = augment.flip.threshold, augment.flip.strides
        if augment.std is not None:
            self._deviations: Array = np.zeros(augmented.row_room(width), self.dtype)  # padded to whole vectors
            self._deviations[:width] = augment.std
            op[table.NOISE] = self._deviations.ctypes.data

    def _lower(self) -> None:
        for index, layer in enumerate(self._layers):
            self._index = index
            layer.module.lower(self)

    def _row_of(self, name: str | None) -> int:
        """Return the row in params of a parameter of the module that is being lowered; -1 for None."""
        return -1 if name is None else self.weights.rows[self._index, name]

    def _offset_of(self, name: str | None) -> int:
        """Return the offset in weights of a parameter or buffer of that module; -1 for None."""
        if name is None:
            return -1
        row = self.weights.rows.get((self._index, name))
        return self.weights.constants[self._index, name] if row is None else int(self.weights.params[row, 0])

    # ------------------------------------------------------------------------- methods of `PlanBuilder`

    def linear(self, outputs: int, weight: str, bias: str | None) -> None:
        """Append a matrix product; see `PlanBuilder` for this method and the following ones."""
        op = self._add(
            table.LINEAR, outputs, IN=self._width, X=self._value, Y=self._arena.matrix(self.capacity, outputs),
            WEIGHT=self._row_of(weight), BIAS=self._row_of(bias),
            TRANSPOSED=self.weights.copies.get((self._index, weight), -1), AHEAD=tuned("panel_prefetch"),
        )  # fmt: skip
        op[table.PRE] = op[table.Y]
        self._after_product = True

    def binned_linear(self, outputs: int, bins: Array, weight: str, table_name: str, bias: str | None) -> None:
        """Append the separation of the dense inputs, their product, and the rows of the table, which add to it."""
        dense, rows = self._width - len(bins), int(bins[:, 1].sum())
        self._bins = np.ascontiguousarray(bins, np.int64)
        columns = {
            "BINS": self._bins.ctypes.data, "BINS_COUNT": len(bins),
            "CELLS": self._arena.allocate(2 * len(bins) * self.capacity),
        }  # fmt: skip
        self._add(
            table.ROWS, dense, IN=self._width, X=self._value, Y=self._arena.matrix(self.capacity, dense),
            FORWARD=binned.split.address(self.dtype), **columns,
        )  # fmt: skip
        self.linear(outputs, weight, bias)
        self._add(
            table.PANELS, outputs, IN=rows, X=self._value, Y=self._value, WEIGHT=self._row_of(table_name),
            FORWARD=binned.panel_forward.address(self.dtype), REFRESH=binned.panel_sums.address(self.dtype),
            TABLE=self._offset_of(table_name), SUMS=self._arena.matrix(round_up(rows, self.dtype), outputs), **columns,
        )  # fmt: skip
        self._backwards[len(self._ops) - 1] = _Backward(None, binned.panel_gradient)

    def activation(self, kind: str, alpha: float) -> None:
        """Append an activation: the epilogue of the previous product, or else a separate operation."""
        of_output = output_suffices(kind, alpha)
        fused = self._after_product
        if fused:
            op, self._after_product = self._ops[-1], False
            if not of_output:
                op[table.PRE] = self._arena.matrix(self.capacity, self._width)
        else:
            op = self._add(
                table.PANELS, self._width, PRE=self._value, X=self._value,
                Y=self._arena.matrix(self.capacity, self._width),
            )  # fmt: skip
        self._numbers[-1][0] = alpha
        if kind != "identity" or not fused:
            op[table.FORWARD] = operations.activation_forward.address(self.dtype)
            op[table.ACTIVATION] = elementwise.forward_function(kind).address(self.dtype)
            op[table.DERIVATIVE] = elementwise.backward_function(kind, of_output).address(self.dtype)
            self._backwards[len(self._ops) - 1] = _Backward(operations.activation_backward)

    def normalize(self, mean: str, scale: str) -> None:
        """Append a normalization by column, which the first module leaves to the gather operation."""
        places = self._offset_of(mean), self._offset_of(scale)
        if self._index == 0:
            ones = (self._layers[0].module.buffers[scale] == 1).all()
            self._ops[0][table.MEAN], self._ops[0][table.SCALE] = places[0], -1 if ones else places[1]
            return
        self._add(
            table.PANELS, self._width, X=self._value, Y=self._arena.matrix(self.capacity, self._width),
            FORWARD=operations.normalize_forward.address(self.dtype), MEAN=places[0], SCALE=places[1],
        )  # fmt: skip
        self._backwards[len(self._ops) - 1] = _Backward(operations.normalize_backward)

    def columns(self, kind: str, first: str, second: str | None = None) -> None:
        """Append a function by column; both parameters of each column are kept until the gradients are computed."""
        rows = [self.weights.rows.get((self._index, name), -1) for name in (first, second) if name is not None]
        y = self._arena.matrix(self.capacity, self._width)
        kept = self._arena.allocate(2 * round_up(self._width, self.dtype)) if self._trains and rows[0] >= 0 else -1
        self._add(
            table.PANELS, self._width, X=self._value, Y=y, SCRATCH=kept, WEIGHT=rows[0], BIAS=(*rows, -1)[1],
            FORWARD=columns.panel_forward(kind).address(self.dtype), FIRST=self._offset_of(first),
            SECOND=self._offset_of(second),
        )  # fmt: skip
        gradient = columns.panel_gradient(kind) if kept >= 0 else None
        self._backwards[len(self._ops) - 1] = _Backward(columns.panel_backward(kind), gradient, in_place=kept < 0)

    def layer_norm(self, eps: float, weight: str | None, bias: str | None) -> None:
        """Append a normalization by row, with memory for the statistics."""
        room = round_up(self._width, self.dtype)
        y, scratch = self._arena.matrix(self.capacity, self._width), self._arena.allocate(self.capacity * room)
        op = self._add(
            table.ROWS, self._width, eps, X=self._value, Y=y, SCRATCH=scratch,
            FORWARD=operations.layer_norm_forward.address(self.dtype), MEANS=self._arena.allocate(self.capacity),
            RSTDS=self._arena.allocate(self.capacity), WEIGHT=self._row_of(weight), BIAS=self._row_of(bias),
        )  # fmt: skip
        op[table.ROW_SIZE], op[table.WEIGHT_OFFSET], op[table.BIAS_OFFSET] = (
            room, self._offset_of(weight), self._offset_of(bias),
        )  # fmt: skip
        self._backwards[len(self._ops) - 1] = _Backward(
            operations.layer_norm_backward, operations.layer_norm_gradient, in_place=False
        )

    def softmax(self) -> None:
        """Append a softmax, with scratch memory for two rows."""
        room = 2 * round_up(self._width, self.dtype)
        y, scratch = self._arena.matrix(self.capacity, self._width), self._arena.allocate(self.capacity * room)
        self._add(
            table.ROWS, self._width, X=self._value, Y=y, SCRATCH=scratch, ROW_SIZE=room,
            FORWARD=operations.softmax_forward.address(self.dtype),
        )  # fmt: skip
        self._backwards[len(self._ops) - 1] = _Backward(operations.softmax_backward)

    def dropout(self, rate: float, masks: Masks) -> None:
        """Append a dropout, with scratch memory for random words; inference omits it."""
        if not self._trains:
            return
        y, factor = self._arena.matrix(self.capacity, self._width), 1 / (1 - rate) if rate < 1 else 0.0
        self._add(
            table.ROWS, self._width, factor, X=self._value, Y=y, SCRATCH=self._arena.allocate(self.capacity * WORDS),
            FORWARD=operations.dropout_forward.address(self.dtype), LAYER=masks.layer,
            THRESHOLD=math.floor(rate * 2**32),
        )  # fmt: skip
        self.dropouts.append((len(self._ops) - 1, masks))
        self._backwards[len(self._ops) - 1] = _Backward(operations.dropout_backward)

    # -------------------------------------------------------------------------------- loss, backward

    def loss_addresses(self, loss: Loss, by_index: bool) -> tuple[int, int]:
        """Return the addresses of the loss's operation and function; ``by_index``: targets are class indices."""
        mixed = self.augment is not None and self.augment.mixup is not None
        if sums_over_classes(loss.kernel):
            plain = by_index and not mixed and loss.column_weight(self._width, self.dtype) is None
            way = losses.way_of(loss.kernel, not loss.takes_probabilities, plain and not loss.numbers[0])
            operation = loss_operations.classwise(by_index, mixed)
            function = losses.classwise_function(loss.kernel, way)
        else:
            operation, function = loss_operations.elementwise(mixed), losses.elementwise_function(loss.kernel)
        return operation.address(self.dtype), function.address(self.dtype)

    def _loss(self, loss: Loss, by_index: bool) -> None:
        dtype, width, numbers = self.dtype, self._width, loss.numbers
        if sums_over_classes(loss.kernel) and loss.takes_probabilities:
            numbers = numbers[0], probability_floor(dtype)
        weight = self.weights.constants.get((-1, "class weight"), -1)
        self.row_losses = self._arena.allocate(self.capacity)
        operation, function = self.loss_addresses(loss, by_index)
        self._add(
            table.ROWS, width, *numbers, X=self._value, DX=self._arena.matrix(self.capacity, width),
            FORWARD=operation, LOSS=function, ROW_LOSSES=self.row_losses, CLASS_WEIGHT=weight, SAMPLE_WEIGHT=0,
            SCRATCH=self._arena.allocate(self.capacity * LOSS_SCRATCH * round_up(width, dtype)),
        )  # fmt: skip

    def _backward(self) -> None:
        """Set the destinations of gradients, from the loss down to the first operation that has parameters."""
        last = len(self._ops) - 1
        gradient = self._ops[last][table.DX]
        trained = [o for o in range(last) if self._ops[o][table.WEIGHT] >= 0]
        lowest = trained[0] if trained else last
        above: list[int] | None = None
        for o in range(last - 1, lowest - 1, -1):
            op, backward = self._ops[o], self._backwards.get(o)
            op[table.DY] = op[table.DX] = gradient
            in_place = backward is not None and backward.in_place
            if op[table.KIND] == table.LINEAR or o > lowest:
                dx = None if backward is None else backward.dx
                op[table.BACKWARD] = 0 if dx is None else dx.address(self.dtype)
            if op[table.KIND] == table.LINEAR:
                address, in_place = op[table.BACKWARD], False
                if address and above is not None and above[table.KIND] == table.LINEAR:
                    above[table.EPILOGUE] = o
                else:
                    op[table.OWN] = int(address != 0)
            elif op[table.WEIGHT] >= 0:
                assert backward is not None
                op[table.GRADIENT] = backward.gradient.address(self.dtype)
            if not in_place:
                op[table.DX] = self._arena.matrix(self.capacity, op[table.IN]) if o > lowest else -1
            gradient, above = op[table.DX], op

    # --------------------------------------------------------------------------------------- phase 2

    def _items(self, optimizer: Optimizer | None) -> None:
        """Partition the parameters into work items, in an order that does not depend on the number of threads."""
        panel = 2 * LANES[self.dtype.itemsize]
        items: list[tuple[int, ...]] = []
        costs: list[int] = []
        for o, op in enumerate(self._ops):
            if optimizer is None or op[table.WEIGHT] < 0:
                continue
            inputs, outputs = op[table.IN], op[table.OUT]
            panels = range(0, outputs, panel)
            if op[table.KIND] == table.LINEAR:
                height, start = _MOST_PANELS * panel, len(items)
                # The panels of a group share a block of the inputs while it is in cache.
                wide = max(1, _GROUP_BYTES // (self.batch * 2 * VECTOR_BYTES))
                for group in range(0, len(panels), wide):
                    for first in range(0, inputs, height):
                        for column in panels[group : group + wide]:
                            stop = min(inputs, first + height)
                            place = start + first // height * len(panels) + column // panel
                            items.append((WEIGHT_BLOCK, o, column, first, stop, place))
                            costs.append((stop - first + 4) * min(panel, round_up(outputs - column, self.dtype)))
                if op[table.BIAS] >= 0:
                    for column in panels:
                        items.append((BIAS_PANEL, o, column, 0, 1, len(items)))
                        costs.append(4 * panel)
            elif op[table.REFRESH]:
                for column in panels:
                    for row, count, _ in self._bins.tolist():
                        items.append((TABLE_BLOCK, o, column, row, row + count, len(items)))
                        costs.append((count // 4 + 12) * min(panel, round_up(outputs - column, self.dtype)))
            else:
                for column in panels:
                    for which in (0, 1) if op[table.BIAS] >= 0 else (0,):
                        items.append((OWN_GRADIENT, o, column, which, which + 1, len(items)))
                        costs.append(8 * panel)
        self.work_items = np.array(self._with_numbers(items, optimizer), np.int64).reshape(len(items), ITEM_COLUMNS)
        self._costs = np.concatenate([[0], np.cumsum(costs)]) if costs else np.zeros(1)
        self._splits: dict[int, Array] = {}

    def _with_numbers(self, items: list[tuple[int, ...]], optimizer: Optimizer | None) -> list[tuple[int, ...]]:
        """Return the items with the offset of the update's numbers among those of a step."""
        if optimizer is None or not optimizer.param_groups:
            return [(*item, 0) for item in items]
        names = self.weights.names()
        groups, found = optimizer.groups_of(names), []
        for item in items:
            kind, op = item[0], self._ops[item[1]]
            is_bias = kind == BIAS_PANEL or (kind == OWN_GRADIENT and item[3] == 1)
            row = op[table.BIAS] if is_bias else op[table.WEIGHT]
            found.append((*item, MOST_NUMBERS * groups[names[row]]))
        return found

    def splits_for(self, threads: int) -> Array:
        """Return the bounds of the work items of each of ``threads`` threads, int64 (threads + 1,)."""
        if threads not in self._splits:
            self._splits[threads] = self._split(threads)
        return self._splits[threads]

    def _split(self, threads: int) -> Array:
        shares = np.arange(threads + 1) / threads * self._costs[-1]
        splits: Array = np.abs(self._costs[:, None] - shares[None, :]).argmin(axis=0).astype(np.int64)
        splits[0], splits[-1] = 0, len(self.work_items)
        return splits

    def _training(self, optimizer: Optimizer, accumulates: bool, pieces: Pieces | None) -> None:
        panel = 2 * LANES[self.dtype.itemsize]
        longest = max((item[4] - item[3] for item in self.work_items.tolist()), default=0)
        block = max(_MOST_PANELS * panel, MAX_BLOCK_ROWS, longest) * panel
        run_params = self.run_params
        run_params[TRAINING] = 1
        run_params[UPDATE] = updates.update_function(rule(optimizer)).address(self.dtype)
        run_params[LOSSES] = self.row_losses
        slots = 1 if pieces is None else (pieces.end - pieces.first).bit_length()
        run_params[SLOT], run_params[SCRATCH_SIZE] = block, slots * block
        run_params[SCRATCH] = self._arena.allocate(self.threads * slots * block)
        share = 0.0 if optimizer.average is None else 1 - optimizer.average
        self.clip_params = np.array([optimizer.clip_value or 0.0, optimizer.clip_norm or 0.0, share])
        run_params[ACCUMULATE] = int(accumulates)
        run_params[BATCH_BLOCK] = tuned("batch_block", derived_batch_block())
        run_params[NEAR] = _NEAR if tuned("weight_prefetch") else 1 << 62
        if optimizer.clip_norm is not None or accumulates:
            self._reserve_gradients()
        if pieces is not None:
            self._cut(pieces, accumulates)

    def _cut(self, pieces: Pieces, accumulates: bool) -> None:
        """Set the parameters of pieces, whose gradients are apart from the sums over the batches of a step."""
        run_params, sums = self.run_params, self.params[0, -1]
        self._reserve_gradients()
        places = self.params[:, -1]
        run_params[PIECES], run_params[FIRST_PIECE] = pieces.end - pieces.first, pieces.first
        run_params[ALL_PIECES] = pieces.total
        run_params[REDUCER], run_params[FLAT] = pieces.reducer, places[0]
        run_params[FLAT_SIZE] = self.weights.gradient_size
        run_params[SUM] = sums - places[0] if accumulates else 0
        self.piece_losses = np.zeros(MOST_LEVELS + 2)
        run_params[PIECE_LOSSES] = self.piece_losses.ctypes.data

    def _reserve_gradients(self) -> None:
        """Reserve memory for the gradients of all parameters, whose offsets are the last column of ``params``."""
        for row in range(len(self.params)):
            self.params[row, -1] = self._arena.allocate(self.weights.size(row))
