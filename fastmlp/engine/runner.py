"""Engine: runs of training steps and batch inference on the CPU."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from .._common.arithmetic import ceil_div
from .._common.mapped import address_of, mapping_of
from .._common.validation import Array
from .._kernels.cpu import engine as kernels
from .._kernels.cpu import table
from .._kernels.cpu.team import Team
from ..losses import Loss
from ..modules import Module
from ..optim import Optimizer
from .active_threads import ActiveThreads
from .cpu_plan import CpuPlan
from .denominators import loss_denominators
from .features import dtype_name, reads_in_place, source_of
from .prepared import PreparedSteps
from .storage import Weights
from .support import Pieces, hyperparameters, layers_of, require_loss, rule

if TYPE_CHECKING:
    from ..training.augmentation import Augmentations
    from ..training.batches import TrainingData

__all__ = ["STAGED", "Engine"]

_INFERENCE_ROWS = 96  # rows per thread: the activations of a few layers fit in its caches
_STAGED_ROWS = 4096
_SPARE_ROWS = 1024  # most rows for which prepared steps have room in advance
STAGED = 1 << 26  # bytes of features converted at once if kernels cannot read them in place
_NO_NUMBERS = np.zeros((1, 1))


class Engine:
    """Engine of a model on the CPU, which holds the numbers in the layout of the kernels.

    Parameters
    ----------
    model : Module
    loss : Loss or None
        None for inference only, together with ``optimizer``.
    optimizer : Optimizer or None
    threads : int
    batch : int
        Maximal number of rows of a batch.
    fixed : bool
        Whether all runs take that number of threads, also while other processes use the processors.

    Raises
    ------
    Unsupported
        If the engine does not support the model, the loss or the optimizer.
    """

    def __init__(
        self,
        model: Module,
        loss: Loss | None,
        optimizer: Optimizer | None,
        threads: int,
        batch: int,
        fixed: bool = False,
    ) -> None:
        self.layers = layers_of(model)
        if loss is not None and optimizer is not None:
            require_loss(loss)
            rule(optimizer)
        assert model.dtype is not None
        self.model, self.loss, self.optimizer, self.dtype = model, loss, optimizer, model.dtype
        self.threads, self.batch = threads, batch
        self.weights = Weights(self.layers, optimizer, self.dtype, batch)
        self._loss_constant()
        if optimizer is not None:
            optimizer.prepare(model)
        self.weights.allocate()
        self.active = ActiveThreads(threads, fixed)
        self.pieces: Pieces | None = None  # of the batches of `run`
        self._plan: CpuPlan | None = None
        self._key: tuple[Any, ...] | None = None
        self._inference: dict[str, CpuPlan] = {}
        self.prepared: PreparedSteps | None = None
        # Atomic operations need 8-byte alignment; each entry has its own cache line.
        self._control = np.zeros(kernels.CONTROLS, np.int64)

    def _loss_constant(self) -> None:
        weight = None if self.loss is None else self.loss.column_weight(self.model.out_width or 1, self.dtype)
        if weight is not None:
            self.weights.constants[-1, "class weight"] = self.weights.constant(weight)

    def load(self) -> None:
        """Copy the user's arrays into the engine."""
        if self.optimizer is not None:
            self.optimizer.prepare(self.model)
        self.weights.load()

    def close(self) -> None:
        """Release nothing: the threads of a run are back in their pool."""

    def prepare(self, rows: int, X: Any = None, by_index: bool = True, threads: int | None = None) -> PreparedSteps:
        """Return the prepared steps for batches of at least ``rows`` rows.

        If a batch is larger than all before, the tables and buffers are made anew, with room for further rows. See
        `PreparedSteps` for the other arguments, which only matter then.
        """
        prepared = self.prepared
        if prepared is None or prepared.capacity < rows:
            if prepared is not None:
                rows = max(rows, min(2 * prepared.capacity, prepared.capacity + _SPARE_ROWS))
            assert self.loss is not None
            source = dtype_name(X, self.dtype)
            self.prepared = prepared = PreparedSteps(self.weights, self.loss, rows, source, by_index, threads)
        return prepared

    @staticmethod
    def reads_in_place(X: Any) -> bool:
        """Return whether kernels can read the features without a copy."""
        return reads_in_place(X)

    def has_room(self, rows: TrainingData, accumulate: int) -> bool:
        """Return whether a step of ``accumulate`` batches converts no features, or at most `STAGED` bytes of them."""
        size = self.batch * accumulate * rows.X.shape[1] * self.dtype.itemsize
        return accumulate == 1 or self.reads_in_place(rows.X) or size <= STAGED

    # -------------------------------------------------------------------------------------- training

    def run(
        self,
        rows: TrainingData,
        index: Array,
        bounds: Array,
        seed: int | None,
        step: int,
        l2: float = 0.0,
        augment: Augmentations | None = None,
        accumulate: int = 1,
    ) -> tuple[Array, Array, Array]:
        """Make one step for each range index[bounds[s]:bounds[s + 1]] of the rows.

        Parameters
        ----------
        rows : TrainingData
        index : ndarray of int64
            Row numbers.
        bounds : ndarray of int64, of shape (steps + 1,)
        seed : int or None
            Seed of the Dropout masks and of ``augment``; None takes the seeds of the Dropouts.
        step : int
            Number of the first step, for the Dropout masks and ``augment``.
        l2 : float
            See `Trainer`.
        augment : Augmentations, optional
        accumulate : int
            Maximal number of batches of a step, each of at most ``batch`` rows; the step uses the sum of their
            gradients.

        Returns
        -------
        ndarray of float64
            Losses of the steps. If the last loss is not finite, its step and all later steps were not made.
        ndarray of float64
            Learning rates.
        ndarray of float64
            Penalties, which the losses do not include.
        """
        assert self.optimizer is not None and self.loss is not None
        steps = len(bounds) - 1
        index = index if rows.index is None else rows.index[index]
        X, gather_order, source = source_of(rows.X, index, self.dtype)
        plan = self._prepare(source, rows.y.ndim == 1, augment, accumulate > 1)
        target = np.ascontiguousarray(rows.y)
        weight = None if rows.weight is None else np.ascontiguousarray(rows.weight, np.float64)
        mixed = augment is not None and augment.mixup is not None
        denominators = loss_denominators(self.loss, target, weight, index, bounds, mixed)
        of_rows = np.diff(bounds) if weight is None else np.add.reduceat(weight[index], bounds[:-1])
        penalties = l2 / of_rows if l2 else np.zeros(steps)
        rates, hyperparams = hyperparameters(self.optimizer, steps)
        if accumulate == 1:
            firsts, ends = np.arange(steps), np.ones(steps, np.int64)
            counts = step + firsts
        else:
            bounds, firsts, ends, counts = _batches(bounds, self.batch, accumulate, step)
            denominators = np.repeat(denominators, np.diff(np.append(firsts, len(ends))))
        losses = np.full(len(ends), np.nan)
        first, last = plan.ops[0], plan.ops[-1]
        first[table.SOURCE], first[table.SOURCE_ROW] = address_of(X), X.strides[0] // X.itemsize
        first[table.ORDER], first[table.BOUNDS] = address_of(gather_order), address_of(bounds)
        first[table.STEPS] = 0 if mapping_of(X) is None else len(ends)
        last[table.ORDER], last[table.BOUNDS] = address_of(index), address_of(bounds)
        last[table.TARGET], last[table.LOSS_DENOMINATORS] = address_of(target), address_of(denominators)
        last[table.SAMPLE_WEIGHT] = 0 if weight is None else address_of(weight)
        drawn = None
        if augment is not None:
            assert seed is not None
            first[table.KEY : table.KEY + 2] = seed & 0xFFFFFFFF, seed >> 32
            first[table.COUNTS] = address_of(counts)
            if augment.mixup is not None:
                drawn = augment.mixup.draw(seed, counts, np.diff(bounds))  # referenced until the kernel returns
                first[table.SHARES], first[table.SHIFTS] = map(address_of, drawn)
                last[table.SHARES], last[table.SHIFTS] = map(address_of, drawn)
        for op, dropout in plan.dropouts:
            key = dropout.seed if seed is None else seed
            plan.ops[op, table.KEY : table.KEY + 2] = key & 0xFFFFFFFF, key >> 32
            plan.ops[op, table.COUNTS] = address_of(counts)
        count, began, running = self.active.count, time.perf_counter(), [0.0] * self.active.count
        done = self._launch(plan, count, hyperparams, bounds, ends, losses, penalties, running)
        self.active.record(int(bounds[-1]), time.perf_counter() - began, sum(running))
        self.optimizer.steps += done
        for _, dropout in plan.dropouts:
            dropout.set_position(seed, (step + done) * accumulate)
        made = min(done + 1, steps)
        return np.add.reduceat(losses, firsts)[:made], rates, penalties[:done]

    def _prepare(self, source: str, by_index: bool, augment: Augmentations | None, accumulates: bool) -> CpuPlan:
        """Return a plan for such data, the last one if it fits."""
        key = (source, by_index, accumulates, self.pieces, self.optimizer and self.optimizer.clip_norm)
        plan = self._plan
        if plan is None or key != self._key or plan.augment is not augment:
            plan = CpuPlan(
                self.layers, self.weights, self.loss, self.optimizer, self.batch, source, by_index, self.threads,
                augment, accumulates, self.pieces,
            )  # fmt: skip
            self._plan, self._key = plan, key
        return plan

    def renew_plan(self) -> None:
        """Make the tables of the next run anew, with the choices of `tuning` that hold then."""
        self._plan = None

    def _launch(
        self,
        plan: CpuPlan,
        threads: int,
        hyperparams: Array,
        bounds: Array,
        ends: Array,
        losses: Array,
        penalties: Array,
        running: list[float] | None = None,
    ) -> int:
        """Run the kernel on ``threads`` threads; ``running`` receives the processor time of each, in seconds."""
        self._control[:] = 0
        squares = np.zeros(2 * len(plan.work_items))
        fixed = (
            threads, plan.ops, plan.numbers, plan.params, plan.work_items, plan.splits_for(threads),
            plan.run_params, plan.clip_params, hyperparams, bounds, ends, losses, penalties, squares, self._control,
            plan.work, self.weights.data, 1,
        )  # fmt: skip

        def work(thread: int) -> int:
            began = time.thread_time()
            steps = int(kernels.train(thread, *fixed))
            if running is not None:
                running[thread] = time.thread_time() - began
            return steps

        return int(Team(threads).run(work, self._control))

    # ------------------------------------------------------------------------------------- inference

    def infer(self, X: Array) -> Array:
        """Return the outputs (N, C) of checked features, as the model's `infer`."""
        rows = len(X)
        if not self.reads_in_place(X) and rows > _STAGED_ROWS:  # bounds the memory of the conversion
            return np.concatenate([self.infer(X[at : at + _STAGED_ROWS]) for at in range(0, rows, _STAGED_ROWS)])
        X, order, source = source_of(X, np.arange(rows), self.dtype)
        plan = self._inference.get(source)
        if plan is None:
            batch = _INFERENCE_ROWS * self.threads
            plan = CpuPlan(self.layers, self.weights, None, None, batch, source, True, self.threads)
            plan.clip_params = np.zeros(3)
            self._inference[source] = plan
        blocks = max(1, ceil_div(rows, plan.batch))
        block = max(1, ceil_div(rows, blocks))
        plan.run_params[kernels.STRIPE] = ceil_div(block, self.threads)
        bounds = np.append(np.arange(0, rows, block), rows)
        out: Array = np.empty((rows, plan.ops[-1, table.IN]), self.dtype)
        first, last = plan.ops[0], plan.ops[-1]
        first[table.SOURCE], first[table.SOURCE_ROW] = address_of(X), X.strides[0] // X.itemsize
        first[table.ORDER] = address_of(order)
        first[table.STEPS] = 0 if mapping_of(X) is None else len(bounds) - 1
        first[table.BOUNDS] = last[table.BOUNDS] = address_of(bounds)
        last[table.TARGET] = address_of(out)
        self._launch(plan, self.threads, _NO_NUMBERS, bounds, np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
        return out


def _batches(bounds: Array, size: int, most: int, step: int) -> tuple[Array, Array, Array, Array]:
    """Split steps into batches of ``size``: (bounds, first batch of each step, flags of last batches, batch numbers).

    Random numbers depend on the number of a batch: the number of the step times ``most``, plus the index of the batch
    in the step.
    """
    of_stretch = ceil_div(np.diff(bounds), size)
    stops = np.cumsum(of_stretch)
    firsts = stops - of_stretch
    stretch = np.repeat(np.arange(len(firsts)), of_stretch)
    place = np.arange(stops[-1]) - firsts[stretch]
    ends = np.zeros(stops[-1], np.int64)
    ends[stops - 1] = 1
    return np.append(bounds[stretch] + size * place, bounds[-1]), firsts, ends, (step + stretch) * most + place
