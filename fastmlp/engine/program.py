"""Program: a model laid out as the engine's tables, for batches of at most so many rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .._common.validation import Array
from .._kernels.cpu import augment as augmented
from .._kernels.cpu import loss_operations, operations, rules, table
from .._kernels.cpu.engine import (
    ACCUMULATE,
    BATCH_BLOCK,
    BIAS_PANEL,
    ITEM_COLUMNS,
    LOSSES,
    METERS,
    OWN_GRADIENT,
    SCRATCH,
    SCRATCH_SIZE,
    TRAINING,
    UPDATE,
    WEIGHT_BLOCK,
)  # fmt: skip
from .._kernels.cpu.host import LANES, VECTOR_BYTES, l1_bytes
from .._kernels.cpu.loss_operations import LOSS_SCRATCH
from .._kernels.cpu.panels import rounded
from .._kernels.cpu.products import TURNED
from .._kernels.cpu.random import WORDS
from .._kernels.formulas import output_suffices, sums_over_classes
from .._kernels.reference import probability_floor
from ..losses import Loss
from ..modules import Dropout, LayerNorm, Linear, Normalize
from ..modules.activations import Activation
from ..optim import Optimizer
from .storage import Room, Weights
from .support import Layer, rule

if TYPE_CHECKING:
    from ..training.augmentation import Augmentations

__all__ = ["Program"]

_PAGE = 4096
_MOST_PANELS = 4  # of inputs in a block of weights
_L1_LEFT = 14 << 10  # bytes of L1 that the parts of a panel of A and one of B leave to a block of weights
_GROUP_BYTES = 1 << 18  # of gradients of outputs, while the inputs pass by


class Program:
    """Tables and working memory for batches of up to ``batch`` rows.

    Parameters
    ----------
    layers : list of Layer
    weights : Weights
    loss : Loss or None
        None for inference.
    optimizer : Optimizer or None
        None for inference.
    batch : int
    source, by_index
        dtype of the features as they are gathered; whether targets are class indices.
    threads : int
    augment : Augmentations or None
    accumulates : bool
        Whether a step may follow the gradients of several batches.

    Attributes
    ----------
    ops, numbers, items : ndarray
        See `_kernels.cpu.table` and `_kernels.cpu.engine`.
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
    ) -> None:
        self.weights, self.dtype, self.threads, self.batch = weights, weights.dtype, threads, batch
        self._room = Room(self.dtype)
        self.capacity = batch
        if batch * 2 * VECTOR_BYTES % _PAGE == 0:  # panels a multiple of pages apart would share few lines of L1
            self.capacity = batch + 1
        self._ops: list[list[int]] = []
        self._numbers: list[list[float]] = []
        self._backwards: dict[int, Any] = {}
        self._slopes: dict[int, tuple[str, bool]] = {}
        self._layers = layers
        self._source, self.augment = source, augment
        self._trains = loss is not None
        self.dropouts: list[tuple[int, Dropout]] = []
        self._forward()
        if loss is None:
            self._add(table.ROWS, self._width, X=self._value, FORWARD=operations.emit.address(self.dtype))
        else:
            self._loss(loss, by_index)
            self._backward()
        self.meters = np.zeros(METERS, np.int64)
        self._items(optimizer)
        if optimizer is not None:
            self._training(optimizer, accumulates)
        self.ops = np.array(self._ops, np.int64)
        self.numbers = np.array(self._numbers, np.float64)
        self.work = self._room.array()

    # ------------------------------------------------------------------------------------ operations

    def _add(self, kind: int, width: int, /, *numbers: float, **columns: int) -> int:
        """Append an operation that gives ``width`` columns; returns its number."""
        row = [-1] * table.COLUMNS
        row[table.FORWARD] = row[table.BACKWARD] = row[table.GRADIENT] = row[table.OWN] = 0
        row[table.KIND], row[table.CAPACITY], row[table.OUT] = kind, self.capacity, width
        row[table.IN] = width
        for name, value in columns.items():
            row[getattr(table, name)] = int(value)
        self._ops.append(row)
        self._numbers.append([*numbers, *[0.0] * (table.NUMBERS - len(numbers))])
        return len(self._ops) - 1

    def _forward(self) -> None:
        layers, dtype = self._layers, self.dtype
        first = layers[0].module
        mean = scale = -1
        if isinstance(first, Normalize):
            mean = self.weights.constants[0, "mean"]
            scale = -1 if (first.buffers["scale"] == 1).all() else self.weights.constants[0, "scale"]
        width = next(layer.module.in_width for layer in layers if layer.module.in_width is not None)
        self._width, self._value = width, self._room.matrix(self.capacity, width)
        gather = operations.gather if self.augment is None else augmented.gather_augmented
        self._add(
            table.ROWS, width, Y=self._value, FORWARD=gather(self._source).address(dtype), MEAN=mean, SCALE=scale,
        )  # fmt: skip
        if self.augment is not None:
            self._augment(self._ops[-1], self.augment, width)
        fused = False
        for index, (_, module) in enumerate(layers):
            after = layers[index + 1].module if index + 1 < len(layers) else None
            if isinstance(module, Linear):
                self._linear(index, module)
                fused = isinstance(after, Activation)
                if isinstance(after, Activation):
                    self._activate(self._ops[-1], self._numbers[-1], after)
                else:
                    self._ops[-1][table.PRE] = self._ops[-1][table.Y]
            elif isinstance(module, Activation):
                if not fused:
                    self._add(table.PANELS, self._width, PRE=self._value, X=self._value)
                    self._activate(self._ops[-1], self._numbers[-1], module, apart=True)
                fused = False
            elif isinstance(module, Dropout) and not self._trains:
                continue
            elif isinstance(module, Normalize):
                if index > 0:  # else it is part of the gathering
                    self._normalize(index)
            else:
                self._rows(index, module)
            self._value = self._ops[-1][table.Y]
        self._outputs = self._value

    def _augment(self, op: list[int], augment: Augmentations, width: int) -> None:
        op[table.AHEAD] = self._room.take(self.capacity * augmented.scratch(width))
        op[table.FLIP] = op[table.NOISE] = op[table.SHARES] = 0
        if augment.flip is not None:
            op[table.FLIP], (op[table.PIXELS], op[table.PIXEL]) = augment.flip.threshold, augment.flip.strides
        if augment.std is not None:
            self._deviations: Array = np.zeros(augmented.row_room(width), self.dtype)  # as the kernel reads them
            self._deviations[:width] = augment.std
            op[table.NOISE] = self._deviations.ctypes.data

    def _linear(self, index: int, module: Linear) -> None:
        weights = self.weights
        self._add(
            table.LINEAR, module.out_features, IN=module.in_features, X=self._value,
            Y=self._room.matrix(self.capacity, module.out_features), WEIGHT=weights.rows[index, "weight"],
            BIAS=weights.rows.get((index, "bias"), -1), TRANSPOSED=weights.copies.get(index, -1),
        )  # fmt: skip
        self._width = module.out_features

    def _activate(self, op: list[int], numbers: list[float], module: Activation, apart: bool = False) -> None:
        """Put an activation on an operation; ``apart``: it has no product before it."""
        numbers[0] = module.alpha
        of_output = output_suffices(module.kind, module.alpha)
        if apart:
            op[table.Y] = self._room.matrix(self.capacity, self._width)
        else:
            op[table.PRE] = op[table.Y] if of_output else self._room.matrix(self.capacity, self._width)
        if module.kind != "identity" or apart:
            op[table.FORWARD] = operations.activation_forward(module.kind).address(self.dtype)
            self._slopes[len(self._ops) - 1] = (module.kind, of_output)

    def _normalize(self, index: int) -> None:
        constants = self.weights.constants
        op = self._add(
            table.PANELS, self._width, X=self._value, Y=self._room.matrix(self.capacity, self._width),
            FORWARD=operations.normalize_forward.address(self.dtype), MEAN=constants[index, "mean"],
            SCALE=constants[index, "scale"],
        )  # fmt: skip
        self._backwards[op] = operations.normalize_backward

    def _rows(self, index: int, module: Any) -> None:
        width, dtype = self._width, self.dtype
        room = rounded(width, dtype)
        y = self._room.matrix(self.capacity, width)
        if isinstance(module, LayerNorm):
            scratch = self._room.take(self.capacity * room)
            op = self._add(
                table.ROWS, width, module.eps, X=self._value, Y=y, AHEAD=scratch,
                FORWARD=operations.layer_norm_forward.address(dtype), MEANS=self._room.take(self.capacity),
                RSTDS=self._room.take(self.capacity), WEIGHT=self.weights.rows.get((index, "weight"), -1),
                BIAS=self.weights.rows.get((index, "bias"), -1),
            )  # fmt: skip
            extra = [room, -1, -1]
            for place, name in enumerate(("weight", "bias"), 1):
                if name in module.params:
                    extra[place] = int(self.weights.params[self.weights.rows[index, name], 0])
            self._ops[op][table.EXTRA + 2 : table.EXTRA + 5] = extra
            self._backwards[op] = operations.layer_norm_backward
        elif isinstance(module, Dropout):
            factor = 1 / (1 - module.p) if module.p < 1 else 0.0
            op = self._add(
                table.ROWS, width, factor, X=self._value, Y=y, AHEAD=self._room.take(self.capacity * WORDS),
                FORWARD=operations.dropout_forward.address(dtype),
            )  # fmt: skip
            self._ops[op][table.EXTRA + 4] = math.floor(module.p * 2**32)
            self.dropouts.append((op, module))
            self._backwards[op] = operations.dropout_backward
        else:
            scratch = self._room.take(self.capacity * 2 * room)
            op = self._add(
                table.ROWS, width, X=self._value, Y=y, AHEAD=scratch, EXTRA=2 * room,
                FORWARD=operations.softmax_forward.address(dtype),
            )  # fmt: skip
            self._backwards[op] = operations.softmax_backward

    def _loss(self, loss: Loss, by_index: bool) -> None:
        dtype, width = self.dtype, self._width
        mixed = self.augment is not None and self.augment.mixup is not None
        numbers = loss.numbers
        if sums_over_classes(loss.kernel):
            from_logits = not loss.takes_probabilities
            plain = by_index and loss.column_weight(width, dtype) is None and not numbers[0]
            function = loss_operations.classwise(loss.kernel, from_logits, by_index, plain, mixed)
            numbers = numbers if from_logits else (numbers[0], probability_floor(dtype))
        else:
            function = loss_operations.elementwise(loss.kernel, mixed)
        weight = self.weights.constants.get((-1, "class weight"), -1)
        self.row_losses = self._room.take(self.capacity)
        self._add(
            table.ROWS, width, *numbers, X=self._value, DX=self._room.matrix(self.capacity, width),
            FORWARD=function.address(dtype), ROW_LOSSES=self.row_losses, CLASS_WEIGHT=weight,
            AHEAD=self._room.take(self.capacity * LOSS_SCRATCH * rounded(width, dtype)), SAMPLE_WEIGHT=0,
        )  # fmt: skip

    def _backward(self) -> None:
        """Say where gradients go, from the loss down to the first operation that has parameters."""
        last = len(self._ops) - 1
        gradient = self._ops[last][table.DX]
        trained = [o for o in range(last) if self._ops[o][table.WEIGHT] >= 0]
        lowest = trained[0] if trained else last
        above: list[int] | None = None
        for o in range(last - 1, lowest - 1, -1):
            op = self._ops[o]
            op[table.DY] = op[table.DX] = gradient
            kind, address = op[table.KIND], 0
            if o in self._slopes:
                name, of_output = self._slopes[o]
                address = operations.activation_backward(name, of_output).address(self.dtype)
            elif kind == table.PANELS:
                address = self._backwards[o].address(self.dtype)
            if kind == table.LINEAR:
                op[table.BACKWARD] = address
                if address and above is not None and above[table.KIND] == table.LINEAR:
                    above[table.EPILOGUE] = o
                else:
                    op[table.OWN] = int(address != 0)
            elif kind == table.PANELS:
                op[table.BACKWARD] = address
            else:
                op[table.BACKWARD] = self._backwards[o].address(self.dtype) if o > lowest else 0
                if op[table.WEIGHT] >= 0:
                    op[table.GRADIENT] = operations.layer_norm_gradient.address(self.dtype)
            if kind == table.LINEAR or self._backwards.get(o) is operations.layer_norm_backward:
                below = op[table.IN] if kind == table.LINEAR else op[table.OUT]
                op[table.DX] = self._room.matrix(self.capacity, below) if o > lowest else -1
            gradient, above = op[table.DX], op

    # --------------------------------------------------------------------------------------- phase 2

    def _items(self, optimizer: Optimizer | None) -> None:
        """Cut the parameters into pieces, in an order that does not depend on the number of threads."""
        panel = 2 * LANES[self.dtype.itemsize]
        items, costs = [], []
        for o, op in enumerate(self._ops):
            if optimizer is None or op[table.WEIGHT] < 0:
                continue
            inputs, outputs = op[table.IN], op[table.OUT]
            columns = range(0, outputs, panel)
            if op[table.KIND] == table.LINEAR:
                height = _MOST_PANELS * panel
                # All panels of a group meet a stretch of the inputs while it is in the caches.
                wide = max(1, _GROUP_BYTES // (self.batch * 2 * VECTOR_BYTES))
                for group in range(0, len(columns), wide):
                    for first in range(0, inputs, height):
                        for column in columns[group : group + wide]:
                            stop = min(inputs, first + height)
                            items.append((WEIGHT_BLOCK, o, column, first, stop))
                            costs.append((stop - first + 4) * min(panel, rounded(outputs - column, self.dtype)))
                if op[table.BIAS] >= 0:
                    for column in columns:
                        items.append((BIAS_PANEL, o, column, 0, 1))
                        costs.append(4 * panel)
            else:
                for column in columns:
                    for which in (0, 1):
                        items.append((OWN_GRADIENT, o, column, which, which + 1))
                        costs.append(8 * panel)
        self.items = np.array(items, np.int64).reshape(len(items), ITEM_COLUMNS)
        total = np.concatenate([[0], np.cumsum(costs)]) if costs else np.zeros(1)
        shares = np.arange(self.threads + 1) / self.threads * total[-1]
        self.splits = np.abs(total[:, None] - shares[None, :]).argmin(axis=0).astype(np.int64)
        self.splits[0], self.splits[-1] = 0, len(items)

    def _training(self, optimizer: Optimizer, accumulates: bool) -> None:
        panel = 2 * LANES[self.dtype.itemsize]
        block = max(_MOST_PANELS * panel, TURNED) * panel
        meters = self.meters
        meters[TRAINING] = 1
        meters[UPDATE] = rules.update_rule(rule(optimizer)).address(self.dtype)
        meters[LOSSES] = self.row_losses
        meters[SCRATCH], meters[SCRATCH_SIZE] = self._room.take(self.threads * block), block
        share = 0.0 if optimizer.average is None else 1 - optimizer.average
        self.clips = np.array([optimizer.clip_value or 0.0, optimizer.clip_norm or 0.0, share])
        meters[ACCUMULATE] = int(accumulates)
        meters[BATCH_BLOCK] = (l1_bytes() - _L1_LEFT) // 2 // (2 * VECTOR_BYTES)
        if optimizer.clip_norm is not None or accumulates:
            params = self.weights.params
            for row in range(len(params)):
                params[row, -1] = self._room.take(self.weights.size(row))
