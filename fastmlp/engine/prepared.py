"""PreparedSteps: training steps on single batches of any size, with tables and buffers that are made once.

A run of many steps makes its arrays anew for each native call, which does not matter for thousands of steps. Between
the steps that a caller drives one by one, only addresses, the number of rows and the hyperparameters change. Everything
else is made once: the plan, for batches of up to ``capacity`` rows, and the arrays of each argument of the kernel. On
top of that, `NativeStep` of the extension module sets the addresses without Python code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .._common.arithmetic import ceil_div
from .._common.mapped import address_of
from .._common.threads import choose_threads, most_threads
from .._common.tuning import tuned
from .._common.validation import Array
from .._kernels.cpu import engine as kernels
from .._kernels.cpu import loss_operations, operations, table
from .._kernels.cpu.team import Team
from .cpu_plan import CpuPlan
from .denominators import loss_denominators
from .features import dtype_name, source_of
from .native import has_native, native
from .support import hyperparameters, work_of
from .watch import hyperparameter_settings, structure_settings

if TYPE_CHECKING:
    from ..losses import Loss
    from ..modules import Module
    from ..optim import Optimizer
    from ..training.batches import TrainingData
    from .session import Session
    from .storage import Weights

__all__ = ["PreparedInference", "PreparedSteps", "blend", "blend_places", "native_inference", "native_step"]

_FIRST = np.zeros(1, np.int64)  # the bound of a single batch, for sums
_MOST_AHEAD = 256  # steps whose hyperparameters are computed at once
_BRIEF = 100_000  # floating-point operations of a call that keeps the GIL, whose release would take as long
_FEATURE_COLUMNS = table.FORWARD, table.SOURCE, table.SOURCE_ROW
_INFERENCE_ROWS = 256  # rows of `PreparedInference` at once
# Tables of operations: a step, the forward pass, and a step from a gradient of the outputs.
_STEP, _FORWARD, _BACKWARD = range(3)


class PreparedSteps:
    """Steps on single batches, with the weights of an engine.

    Parameters
    ----------
    weights : Weights
    loss : Loss
    capacity : int
        Most rows of a batch.
    source : str
        Name of the dtype of the first batch's features.
    by_index : bool
        Whether the targets of the first batch are class indices.
    threads : int, optional
        Number of threads of each step. None chooses it by the rows of the batch.

    Attributes
    ----------
    version : int
        Changes when a further call is prepared.
    rows_alone : int
        Most rows whose step takes one thread.
    rows_brief : int
        Most rows whose step is too short for a release of the GIL.
    pending : ndarray of int64, of shape (1,)
        Number of rows of the last forward pass whose `backward` is to come, 0 for none.
    """

    def __init__(
        self, weights: Weights, loss: Loss, capacity: int, source: str, by_index: bool, threads: int | None = None
    ) -> None:
        optimizer = weights.optimizer
        assert optimizer is not None
        self._weights, self._loss, self._optimizer = weights, loss, optimizer
        self.capacity, self.dtype = capacity, weights.dtype
        self._row_work = max(1.0, work_of(weights.layers, 1))
        self._threads = choose_threads(threads, self._row_work * capacity, capacity).count
        self._fewest = self._threads if threads is not None else 1
        self.rows_alone = capacity if self._threads == 1 else 0
        if self._fewest < self._threads:
            self.rows_alone = ceil_div(2 * tuned("flops_per_thread"), int(self._row_work)) - 1
        self.rows_brief = int(_BRIEF / self._row_work)
        plan = CpuPlan(weights.layers, weights, loss, optimizer, capacity, source, by_index, self._threads)
        self._plan, self.dropouts = plan, plan.dropouts
        self.width, self.outputs = int(plan.ops[0, table.OUT]), int(plan.ops[-1, table.IN])
        self.classes = self.outputs if loss.target_kind == "labels" else 0
        limit = float(np.finfo(self.dtype).max)
        low, high = loss.target_range
        self.target_range = max(low, -limit), min(high, limit)
        self.index_factor, self.row_factor = loss.row_count(1), loss.row_count(self.outputs)
        self.weighs_classes = loss.weighs_targets
        # Addresses by number of the dtype, and by whether targets are class indices; those of kinds that occurred.
        self.gathers: dict[int, int] = {}
        self.targets: dict[bool, tuple[int, int]] = {}
        self.feature_columns = _FEATURE_COLUMNS
        self.columns = table.FORWARD, table.LOSS, table.ORDER, table.TARGET, table.SAMPLE_WEIGHT, table.KEY
        self.order = np.arange(capacity)
        self.weighted = np.zeros(capacity + 1, np.int64)  # numbers of the rows of weight above 0
        self.bounds, self.ends, self.counts = np.zeros(2, np.int64), np.ones(1, np.int64), np.zeros(1, np.int64)
        self.losses, self.penalties, self.denominators = np.zeros(1), np.zeros(1), np.ones(1)
        self.hyperparams = hyperparameters(optimizer, 1)[1]
        self.target_buffer = np.zeros(capacity * self.outputs, self.dtype)
        self.pending = np.zeros(1, np.int64)
        self._squares = np.zeros(2 * len(plan.work_items))
        self._control = np.zeros(kernels.CONTROLS, np.int64)
        # By table, number of threads and thread.
        self.calls: dict[tuple[int, int, int], Callable[[], Any]] = {}
        first, last = plan.ops[0], plan.ops[-1]
        first[table.BOUNDS] = last[table.BOUNDS] = address_of(self.bounds)
        first[table.STEPS] = 0
        last[table.LOSS_DENOMINATORS] = address_of(self.denominators)
        for op, _ in plan.dropouts:
            plan.ops[op, table.COUNTS] = address_of(self.counts)
        self.tables, self._run_params = [plan.ops], [plan.run_params]
        self.step_call = self._call(_STEP, 1, 0)
        self.forward_call: Callable[[], Any] | None = None
        self.backward_call: Callable[[], Any] | None = None
        self.inference: PreparedInference | None = None
        self.version = 0

    def _call(self, which: int, threads: int, thread: int) -> Callable[[], Any]:
        """Return the kernel's call by one of ``threads`` threads."""
        key = which, threads, thread
        if key not in self.calls:
            plan, weights = self._plan, self._weights
            self.calls[key] = kernels.train.bind(
                thread, threads, self.tables[which], plan.numbers, plan.params, plan.work_items,
                plan.splits_for(threads), self._run_params[which], plan.clip_params, self.hyperparams, self.bounds,
                self.ends, self.losses, self.penalties, self._squares, self._control, plan.work, weights.data, 1,
            )  # fmt: skip
        return self.calls[key]

    def launch(self, which: int, rows: int) -> int:
        """Run the kernel on the current batch; return the number of updates made."""
        threads = min(self._threads, max(self._fewest, most_threads(rows * self._row_work, rows)))
        self._control[:] = 0
        calls = [self._call(which, threads, thread) for thread in range(threads)]
        try:
            self._run_params[which][kernels.STRIPE] = ceil_div(rows, threads)
            return int(Team(threads).run(lambda thread: calls[thread](), self._control))
        finally:
            self._run_params[which][kernels.STRIPE] = self.capacity  # of a call by one thread

    def _gather(self, source: str) -> int:
        number = np.dtype(source).num
        if number not in self.gathers:
            self.gathers[number] = self._plan.gather_address(source)
        return self.gathers[number]

    def _loss_addresses(self, by_index: bool) -> tuple[int, int]:
        if by_index not in self.targets:
            self.targets[by_index] = self._plan.loss_addresses(self._loss, by_index)
        return self.targets[by_index]

    def admit(self, X: Array, by_index: bool) -> None:
        """Prepare native steps on features of this dtype and targets of this kind, before the first of them."""
        source = dtype_name(X, self.dtype)
        self._gather(source)
        self._loss_addresses(by_index)
        self._prepare_inference().admit(np.dtype(source))

    def _set_features(self, which: int, X: Array, index: Array) -> tuple[Any, ...]:
        """Set the addresses of a batch's features; return the arrays that must live until the kernel returns."""
        X, order, source = source_of(X, index, self.dtype)
        first = self.tables[which][0]
        first[table.FORWARD], first[table.ORDER] = self._gather(source), address_of(order)
        first[table.SOURCE], first[table.SOURCE_ROW] = address_of(X), X.strides[0] // X.itemsize
        self.bounds[1] = len(index)
        return X, order

    def _set_dropouts(self, which: int, seed: int | None, step: int) -> None:
        self.counts[0] = step
        for op, dropout in self.dropouts:
            key = dropout.seed if seed is None else seed
            self.tables[which][op, table.KEY : table.KEY + 2] = key & 0xFFFFFFFF, key >> 32

    def step(self, rows: TrainingData, seed: int | None, step: int, l2: float) -> tuple[Array, Array, Array]:
        """Make a step on all rows, at most ``capacity``; see `Engine.run` for the arguments and the result."""
        index = self.order[: len(rows)] if rows.index is None else rows.index
        alive = self._set_features(_STEP, rows.X, index)
        target = np.ascontiguousarray(rows.y)
        weight = None if rows.weight is None else np.ascontiguousarray(rows.weight, np.float64)
        last = self.tables[_STEP][-1]
        last[table.FORWARD], last[table.LOSS] = self._loss_addresses(target.ndim == 1)
        last[table.ORDER], last[table.TARGET] = address_of(index), address_of(target)
        last[table.SAMPLE_WEIGHT] = 0 if weight is None else address_of(weight)
        self.denominators[0], total = self._weigh(target, weight, index)
        self.pending[0] = 0
        result = self._update(_STEP, len(index), seed, step, l2 / total if l2 else 0.0)
        del alive
        return result

    def _weigh(self, target: Array, weight: Array | None, index: Array) -> tuple[float, float]:
        """Return the loss's denominator, and the sum of the sample weights, of a batch of the rows ``index``."""
        denominators = loss_denominators(self._loss, target, weight, index, np.array([0, len(index)]))
        total = len(index) if weight is None else float(np.add.reduceat(weight[index], _FIRST)[0])
        return float(denominators[0]), total

    def weigh(self, target: Array, weight: Array | None, rows: int, some: bool) -> tuple[float, float] | None:
        """Return `_weigh` of the first rows, or with ``some`` of those of ``weighted``; None if a sum overflows."""
        index = (self.weighted if some else self.order)[:rows]
        with np.errstate(over="ignore"):
            if weight is None or self.weighs_classes:
                denominator, total = self._weigh(target, weight, index)
            else:
                total = float(np.add.reduceat(weight[index] if some else weight, _FIRST)[0])
                denominator = (self.index_factor if target.ndim == 1 and self.classes else self.row_factor) * total
        return (denominator, total) if math.isfinite(total) else None

    # ------------------------------------------------------------------------ gradients of the caller

    def _prepare_gradients(self) -> None:
        """Make the tables of a forward pass and of a step from a gradient, which use the activations of a step's."""
        if self.forward_call is not None:
            return
        ops = self._plan.ops
        for function in (operations.emit, loss_operations.given_gradient):
            twin = ops.copy()
            twin[-1, table.FORWARD] = function.address(self.dtype)
            self.tables.append(twin)
            self._run_params.append(self._plan.run_params.copy())
        self._run_params[_FORWARD][kernels.TRAINING] = 0
        self._run_params[_FORWARD][kernels.STRIPE] = self.capacity
        self._run_params[_BACKWARD][kernels.FIRST_OPERATION] = len(ops) - 1
        self.forward_call, self.backward_call = self._call(_FORWARD, 1, 0), self._call(_BACKWARD, 1, 0)
        self.version += 1

    def forward(self, X: Array, seed: int | None, step: int) -> Array:
        """Return the outputs (N, O) of checked features in training mode, and keep the activations for `backward`."""
        self._prepare_gradients()
        self.pending[0] = 0
        alive = self._set_features(_FORWARD, X, self.order[: len(X)])
        self._set_dropouts(_FORWARD, seed, step)
        out: Array = np.empty((len(X), self.outputs), self.dtype)
        self.tables[_FORWARD][-1, table.TARGET] = address_of(out)
        self.launch(_FORWARD, len(X))
        del alive
        self.pending[0] = len(X)
        return out

    def backward(self, gradient: Array, seed: int | None, step: int, l2: float) -> tuple[Array, Array, Array]:
        """Make a step from the gradient (N, O) of the last `forward`'s outputs; the loss of the result is 0 or NaN."""
        gradient, rows = np.ascontiguousarray(gradient, self.dtype), len(gradient)
        self.bounds[1] = rows
        last = self.tables[_BACKWARD][-1]
        last[table.TARGET], last[table.ORDER] = address_of(gradient), address_of(self.order)
        result = self._update(_BACKWARD, rows, seed, step, l2 / rows if l2 else 0.0)
        self.pending[0] = 0
        return result

    def infer(self, X: Array) -> Array:
        """Return the outputs (N, O) of checked features in evaluation mode; keeps what `backward` needs."""
        return self._prepare_inference().run(X)

    def _prepare_inference(self) -> PreparedInference:
        if self.inference is None:
            self.inference = PreparedInference(self._weights)
            self.version += 1
        return self.inference

    def _update(self, which: int, rows: int, seed: int | None, step: int, penalty: float) -> tuple[Array, Array, Array]:
        rates, self.hyperparams[...] = hyperparameters(self._optimizer, 1)
        self._set_dropouts(which, seed, step)
        self.losses[0], self.penalties[0] = np.nan, penalty
        done = self.launch(which, rows)
        self._optimizer.steps += done
        for _, dropout in self.dropouts:
            dropout.set_position(seed, step + done)
        return self.losses.copy(), rates, self.penalties[:done].copy()


class PreparedInference:
    """Outputs of a model for a few rows on one thread, with tables and buffers that are made once.

    Parameters
    ----------
    weights : Weights
    """

    def __init__(self, weights: Weights) -> None:
        self.dtype, self.capacity = weights.dtype, _INFERENCE_ROWS
        self.rows_brief = int(_BRIEF / max(1.0, work_of(weights.layers, 1) / 3))
        source = str(self.dtype)
        plan = CpuPlan(weights.layers, weights, None, None, self.capacity, source, True, 1)
        self._plan, self.table, self.gathers = plan, plan.ops, {self.dtype.num: int(plan.ops[0, table.FORWARD])}
        self.width, self.outputs = int(plan.ops[0, table.OUT]), int(plan.ops[-1, table.IN])
        self.feature_columns, self.target_column = _FEATURE_COLUMNS, table.TARGET
        self._order, self.bounds = np.arange(self.capacity), np.zeros(2, np.int64)
        plan.run_params[kernels.STRIPE] = self.capacity
        first, last = plan.ops[0], plan.ops[-1]
        first[table.BOUNDS] = last[table.BOUNDS] = address_of(self.bounds)
        first[table.ORDER], first[table.STEPS] = address_of(self._order), 0
        none, nothing = np.zeros(0), np.zeros(0, np.int64)
        self.call = kernels.train.bind(
            0, 1, plan.ops, plan.numbers, plan.params, plan.work_items, plan.splits_for(1),
            plan.run_params, np.zeros(3), np.zeros((1, 1)), self.bounds, nothing, none, none, none,
            np.zeros(kernels.CONTROLS, np.int64), plan.work, weights.data, 1,
        )  # fmt: skip

    def admit(self, source: np.dtype[Any]) -> int:
        """Return the address of the function that gathers features of this dtype, which native code then takes too."""
        if source.num not in self.gathers:
            self.gathers[source.num] = self._plan.gather_address(str(source))
        return self.gathers[source.num]

    def run(self, X: Array) -> Array:
        """Return the outputs (N, O) of checked features."""
        out: Array = np.empty((len(X), self.outputs), self.dtype)
        first, last = self.table[0], self.table[-1]
        for start in range(0, len(X), self.capacity):
            rows = np.arange(start, min(start + self.capacity, len(X)))
            block, order, source = source_of(X, rows, self.dtype)
            first[table.FORWARD], first[table.ORDER] = self.admit(np.dtype(source)), address_of(order)
            first[table.SOURCE], first[table.SOURCE_ROW] = address_of(block), block.strides[0] // block.itemsize
            last[table.TARGET], self.bounds[1] = address_of(out[start:]), len(rows)
            self.call()
        first[table.ORDER] = address_of(self._order)
        return out


def blend_places(source: Weights, target: Weights) -> Array:
    """Return (offset in source.data, offset in target.data, size) of the parameters of two models, int64 (P, 3)."""
    sizes = [source.size(row) for row in range(len(source.params))]
    places = np.stack([source.params[:, 0], target.params[:, 0], np.array(sizes, np.int64)], 1)
    return np.ascontiguousarray(places)


def blend(source: Array, target: Array, places: Array, share: float) -> None:
    """Compute target += share (source - target) on parts of two flat arrays, see `blend_places`; 1 copies them."""
    if has_native():
        native.blend(source, target, places, share)
        return
    for at, to, size in places:
        new, old = source[at : at + size], target[to : to + size]
        old[:] = new if share == 1 else old + source.dtype.type(share) * (new - old)


class HyperparameterBlocks:
    """Hyperparameters of the coming steps, computed for more steps at once the longer no setting changes."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer, self._structure = optimizer, optimizer.settings()
        self._size = 1

    def following(self, unchanged: bool) -> tuple[int, Array, Array, native.Watch | None] | None:
        """Return (first step, rates (S,), numbers (S, H), watch) from the optimizer's next step on.

        The result is None if the plan does not fit the settings. ``unchanged``: the steps of the last block are made.
        """
        if self._optimizer.settings() != self._structure:
            return None
        found = hyperparameter_settings(self._optimizer)
        self._size = min(2 * self._size, _MOST_AHEAD) if unchanged and found is not None else 1
        rates, numbers = hyperparameters(self._optimizer, self._size)
        return self._optimizer.steps, rates, numbers, None if found is None else native.Watch(*found)


def native_step(
    session: Session, model: Module, loss: Loss, optimizer: Optimizer, check: bool
) -> native.NativeStep | None:
    """Return the native path of a session's prepared steps, or None if the session has none.

    ``check``: whether to check the values of the inputs.
    """
    found = structure_settings(model, session.engine.layers, loss, optimizer) if has_native() else None
    if found is None:
        return None
    blocks = HyperparameterBlocks(optimizer)
    return native.NativeStep(
        session, session.engine.prepared, model, loss, optimizer, native.Watch(*found), blocks.following, check
    )


def native_inference(prepared: PreparedInference, check: bool) -> native.NativeInference | None:
    """Return the native path of an inference, or None without the extension module."""
    return native.NativeInference(prepared, check) if has_native() else None
