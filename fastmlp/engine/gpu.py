"""GpuEngine: runs of training steps on the GPU by the persistent kernel."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._common.validation import Array, SparseRows
from .._kernels.cuda import table
from .._kernels.cuda.spec import Spec
from ..losses import Loss
from ..modules import Module
from ..modules.arrays import SharedDict
from ..optim import Optimizer
from .denominators import loss_denominators
from .gpu_plan import GpuPlan, Layout
from .support import Unsupported, hyperparameters, layers_of, require_loss, rule

if TYPE_CHECKING:
    from ..training.augmentation import Augmentations
    from ..training.batches import TrainingData

__all__ = ["GpuEngine"]

_IN_PLACE = (np.uint8, np.float32, np.float64)
_MANY = 1 << 14  # row indices of a launch from which a separate transfer pays off
_SHARE = 4  # fraction 1 / _SHARE of GPU memory for the work of accumulated steps; the data set needs the rest
_PIECE = 1 << 24  # bytes of rows of a launch if the data set does not fit on the GPU


class GpuWeights:
    """Parameters, optimizer state and constants in one array on the GPU; see `Layout`."""

    def __init__(self, machine: Any, layout: Layout, optimizer: Optimizer, dtype: np.dtype[Any]) -> None:
        self.machine, self.layout, self.optimizer, self.dtype = machine, layout, optimizer, dtype
        self.data = machine.zeros(layout.size, dtype)
        self._flat: list[tuple[Any, Any, Any]] = []
        for place, values in layout.vectors:
            self.machine.assign(self.data[place : place + values.size], np.array(values, dtype).ravel())

    def _places(self) -> Iterator[tuple[SharedDict, str, int, int]]:
        """Iterate over (dict of user arrays, name of an array in it, offset in ``data``, size)."""
        for layer, name, place, size in self.layout.entries:
            yield layer.module.params, name, place, size
            for number, kind in enumerate(self.layout.planes, 1):
                if kind is not None:
                    state = self.optimizer.state.local(layer.prefix + name)
                    yield state, kind, place + number * self.layout.plane, size

    def entries(self) -> Iterator[tuple[SharedDict, str, int]]:
        """Iterate over (dict of user arrays, name of an array in it, offset in ``data``)."""
        return (entry[:3] for entry in self._places())

    def _pairs(self) -> Any:
        """Iterate over (flat user array, its view of ``data``); cached, as creating a view is slower than a copy."""
        for number, (arrays, name, place, size) in enumerate(self._places()):
            array = arrays.local(name)
            if number == len(self._flat):
                self._flat.append((lambda: None, None, None))
            if self._flat[number][0]() is not array:  # weak, so that the cache does not keep the array alive
                self._flat[number] = (weakref.ref(array), array.reshape(-1), self.data[place : place + size])
            yield self._flat[number][1:]

    def load(self) -> None:
        """Copy the user's arrays to the GPU."""
        for array, place in self._pairs():
            self.machine.assign(place, array)

    def unload(self) -> None:
        """Copy all parameters and states back into the user's arrays."""
        for array, place in self._pairs():
            self.machine.assign(array, place)

    def finite(self) -> bool:
        """Return whether all parameters are finite."""
        places = [(place, place + size) for _, _, place, size in self.layout.entries]
        return bool(self.machine.finite([self.data[first:last] for first, last in places]))


class SentAhead(NamedTuple):
    """Row indices of a later launch that were sent to the GPU in advance."""

    rows: TrainingData
    given: Array  # the argument of `GpuEngine.run`
    there: Any
    place: int  # index of one of two buffers


class GpuEngine:
    """Engine of a model on the GPU.

    Parameters
    ----------
    model : Module
        A model on the machine's backend.
    loss : Loss
    optimizer : Optimizer
    batch : int
        Maximal number of rows of a batch; a step may accumulate several batches.
    machine : Machine
        See `_kernels.cuda.machine`.

    Attributes
    ----------
    plan : GpuPlan
        Plan for the last requested number of rows.
    follow : callable or None
        Returns the row indices of the next call of `run`; called at most once, while the GPU is busy.

    Raises
    ------
    Unsupported
        If the engine does not support the model, the loss or the optimizer.
    """

    def __init__(self, model: Module, loss: Loss, optimizer: Optimizer, batch: int, machine: Any) -> None:
        self.layers = layers_of(model)
        require_loss(loss)
        assert model.dtype is not None
        self.model, self.loss, self.optimizer, self.dtype = model, loss, optimizer, model.dtype
        self.machine, self.batch, self.precision = machine, batch, model.precision
        self._rule = rule(optimizer)
        if optimizer.param_groups:
            raise Unsupported("the engine for GPUs has no param_groups")
        optimizer.prepare(model)
        layout = Layout(self.layers, optimizer)
        self.plan = self._plan(layout, batch)
        self.weights = GpuWeights(machine, layout, optimizer, self.dtype)
        self.weights.load()
        self._work: Any = None
        self._make_ready(batch)
        # Placeholders for optional arrays.
        self._nothing = {
            "labels": machine.upload(np.zeros(1, np.int64)), "targets": machine.upload(np.zeros((1, 1), self.dtype)),
            "weights": machine.upload(np.zeros(0, self.dtype)), "order": machine.upload(np.zeros(0, np.int64)),
        }  # fmt: skip
        self._rows: tuple[TrainingData, tuple[Any, Any, Any, Any]] | None = None
        self._once: TrainingData | None = None
        self.follow: Callable[[], Array] | None = None

    def _plan(self, layout: Layout, rows: int) -> GpuPlan:
        return GpuPlan(self.layers, layout, self.loss, self.optimizer, rows, self.dtype, self.machine)

    def _rows_of(self, rows: TrainingData, accumulate: int) -> int:
        return self.batch if accumulate == 1 else min(self.batch * accumulate, len(rows))

    def has_room(self, rows: TrainingData, accumulate: int) -> bool:
        """Return whether the GPU has memory for a step of ``accumulate`` batches.

        The batches of a step run as one large batch, which gives the same sum and is fastest. The test uses the total
        memory and not the free memory, since the rounding of the sum depends on the answer.
        """
        if accumulate == 1:
            return True
        plan = self._plan(self.weights.layout, self._rows_of(rows, accumulate))
        return bool(plan.work * self.dtype.itemsize <= self.machine.capacity() // _SHARE)

    def _make_ready(self, count: int) -> None:
        """Prepare a plan and working memory for steps of ``count`` rows; results do not depend on earlier calls."""
        if count != self.plan.batch:
            self.plan = self._plan(self.weights.layout, count)
        size = self.plan.work
        if self._work is None or not size <= self._work.size <= 2 * size:
            self._work = None  # frees the old array first
            self._work = self.machine.empty(size, self.dtype)

    def load(self) -> None:
        """Copy the user's arrays to the GPU."""
        self.optimizer.prepare(self.model)
        self.weights.load()

    def close(self) -> None:
        """Release the data set."""
        self._rows = self._once = self.follow = None
        self.machine.sent_ahead = None  # refers to the rows too

    @staticmethod
    def reads_in_place(X: Any) -> bool:
        """Return True: the engine converts features itself, so the caller need not stage any."""
        return True

    # ---------------------------------------------------------------------------------------- steps

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
        """Make steps as `Engine.run`; for ``accumulate`` > 1, `has_room` must be true."""
        self._make_ready(self._rows_of(rows, accumulate))
        steps = len(bounds) - 1
        given, index = index, index if rows.index is None else rows.index[index]
        mixed = augment is not None and augment.mixup is not None
        denominators = loss_denominators(self.loss, rows.y, rows.weight, index, bounds, mixed)
        of_rows = np.diff(bounds) if rows.weight is None else np.add.reduceat(rows.weight[index], bounds[:-1])
        rates, numbers = hyperparameters(self.optimizer, steps)
        run_params = self.plan.run_params.copy()
        run_params[table.PORTION], run_params[table.PORTIONS] = self.batch, accumulate
        for o, dropout in self.plan.dropouts:
            self.plan.ops[o, table.SEED] = _signed(dropout.seed if seed is None else seed)
        shares, shifts, deviations = self._drawn(augment, seed, bounds, step, accumulate)
        if augment is not None:
            assert seed is not None
            run_params[table.KEY] = _signed(seed)
            if augment.flip is not None:
                run_params[table.TURN] = augment.flip.threshold
                run_params[table.PIXELS], run_params[table.PIXEL] = augment.flip.strides
        losses, penalties, done = np.full(steps, np.nan), np.zeros(steps), 0
        # Do not copy the data set to the device for a single pass; copy it from the second pass on.
        once, self._once = steps == 1 and len(index) == len(rows) and self._once is not rows, rows
        whole = None if once else self._whole(rows)
        pieces = self._pieces(rows, bounds, whole is not None)
        with self.machine.lock:
            ahead = self.machine.sent_ahead
            if ahead is not None and (whole is None or ahead.rows is not rows or ahead.given is not given):
                ahead = None
            data = whole if whole is not None else self._sent(rows, index[: bounds[pieces[0][1]]], 0)
            for number, (first, last) in enumerate(pieces):
                part = index[bounds[first] : bounds[last]]
                run_params[table.FIRST_STEP] = step + first
                results = self._launch(
                    data, part if whole is not None else np.arange(len(part)), bounds[first : last + 1] - bounds[first],
                    denominators[first:last], numbers[first:last], l2 / of_rows[first:last], run_params,
                    None if ahead is None else ahead.there,
                    None if augment is None else (shares[first:last], shifts[first:last], deviations),
                )  # fmt: skip
                try:
                    if whole is not None:
                        self._send_ahead(rows, 0 if ahead is None else 1 - ahead.place)
                    if number + 1 < len(pieces):  # overlaps the transfer of the next piece with this launch
                        data = self._sent(rows, index[bounds[last] : bounds[pieces[number + 1][1]]], (number + 1) % 2)
                finally:  # after an error too, wait for the launch before the lock is released
                    found = self.machine.download(results)
                made = int(found[0])
                losses[first:last], penalties[first:last] = found[1:].reshape(2, -1)
                losses[first + made + 1 : last] = np.nan
                done += made
                if made < last - first:
                    break
        self.optimizer.steps += done
        for _, dropout in self.plan.dropouts:
            dropout.set_position(seed, (step + done) * accumulate)
        return losses[: min(done + 1, steps)], rates, penalties[:done]

    def _drawn(
        self, augment: Augmentations | None, seed: int | None, bounds: Array, step: int, accumulate: int
    ) -> tuple[Array, Array, Array]:
        """Draw the random numbers of augmentations.

        Returns
        -------
        shares : ndarray of shape (S, accumulate)
            Mixup weight of each batch of each step; (S, 0) without mixup.
        shifts : ndarray of int64, of shape (S, accumulate)
            Offset by which the rows of a batch are rotated for mixup; (S, 0) without mixup.
        deviations : ndarray of shape (I,)
            Standard deviations of the noise; (0,) without noise.
        """
        steps = len(bounds) - 1
        shares, shifts, deviations = np.zeros((steps, 0)), np.zeros((steps, 0), np.int64), np.zeros(0)
        if augment is not None and augment.mixup is not None:
            assert seed is not None
            portions = np.arange(accumulate)
            counts = (step + np.arange(steps))[:, None] * accumulate + portions
            rows = np.clip(np.diff(bounds)[:, None] - portions * self.batch, 0, self.batch)
            shares, shifts = augment.mixup.draw(seed, counts, rows)
        if augment is not None and augment.std is not None:
            deviations = augment.std
        return shares, shifts, deviations

    def _send_ahead(self, rows: TrainingData, place: int) -> None:
        """Send the row indices of the next call to one of two buffers while the GPU is busy, if there are many."""
        follow, self.follow, self.machine.sent_ahead = self.follow, None, None
        index = None if follow is None else follow()
        if index is not None and len(index) >= _MANY:
            of_rows = index if rows.index is None else rows.index[index]
            there = self.machine.send("order", place, of_rows, None, np.int64)
            self.machine.sent_ahead = SentAhead(rows, index, there, place)

    def _launch(
        self, data: Any, order: Array, bounds: Array, denominators: Array, numbers: Array, l2: Array, run_params: Array,
        sent: Any, drawn: tuple[Array, Array, Array] | None,
    ) -> Any:  # fmt: skip
        """Start a launch; return the GPU array [number of steps made, losses, penalties], filled when it ends.

        ``sent`` is the order if it is on the GPU already. ``drawn`` is the result of `_drawn`, or None.
        """
        X, labels, targets, weights = data
        machine, plan, steps, loss = self.machine, self.plan, len(bounds) - 1, self.loss
        spec = Spec(
            str(self.dtype), loss.kernel, not loss.takes_probabilities, targets is None,
            plan.kinds, self._rule, plan.extras, plan.wide, self.precision, plan.blocks_per_sm, machine.copies_later,
            drawn is not None, plan.by_column,
        )  # fmt: skip
        sums = 2 * plan.sums if l2.any() or plan.clip_params[table.CLIP_NORM] > 0 else 0
        header = np.zeros(machine.header, np.int64)
        header[table.STEPS], header[table.HYPER] = steps, numbers.shape[1]
        header[table.COUNTERS] = plan.counters
        header[table.ROW_COUNT] = len(order) if sent is None else 0
        header[table.OP_COUNT], header[table.JOB_COUNT] = len(plan.ops), len(plan.jobs)
        header[table.STAGE_COUNT], header[table.SUM_COUNT] = len(plan.stages), sums
        shares, shifts, deviations = drawn or (np.zeros(0), np.zeros(0, np.int64), np.zeros(0))
        header[table.SHARES], header[table.DEVIATIONS] = shares.size, deviations.size
        ints = [header, run_params, plan.ops, plan.jobs, plan.stages, bounds, np.zeros(plan.counters, np.int64), shifts]
        ints += [order] if sent is None else []
        reals = [plan.clip_params, denominators, l2, plan.numbers, numbers, shares, deviations]
        results = machine.put("results", [np.zeros(1 + 2 * steps + sums + plan.parts)], np.float64)
        nothing = self._nothing
        arguments = (
            X, nothing["labels"] if labels is None else labels, nothing["targets"] if targets is None else targets,
            nothing["weights"] if weights is None else weights, nothing["order"] if sent is None else sent,
            self._work, self.weights.data, machine.put("ints", ints, np.int64),
            machine.put("reals", reals, self.dtype), results,
        )  # fmt: skip
        machine.run(spec, arguments, plan.blocks)
        return results[: 1 + 2 * steps]

    # ----------------------------------------------------------------------------------------- rows

    def _whole(self, rows: TrainingData) -> tuple[Any, Any, Any, Any] | None:
        """Return (features, labels, targets, row weights) of all rows on the GPU; None if they do not fit."""
        if self._rows is None or self._rows[0] is not rows:
            self._rows = None
            X = rows.X
            if isinstance(X, SparseRows) or X.size * self._kind(X).itemsize > self.machine.room():
                return None
            upload = self.machine.upload
            self._rows = rows, self._parts_of(lambda array, dtype: upload(array.astype(dtype, copy=False)), rows)
        return self._rows[1]

    def _sent(self, rows: TrainingData, part: Array, slot: int) -> tuple[Any, Any, Any, Any]:
        """Start the transfer of a subset of rows, in their order; the result is as for `_whole`. See `Machine.send`."""
        names = iter(("features", "targets", "row weights"))

        def send(array: Any, dtype: Any) -> Any:
            return self.machine.send(next(names), slot, array, part, dtype)

        return self._parts_of(send, rows)

    def _parts_of(self, move: Any, rows: TrainingData) -> tuple[Any, Any, Any, Any]:
        features, target = move(rows.X, self._kind(rows.X)), move(rows.y, rows.y.dtype)
        weight = None if rows.weight is None else move(rows.weight, self.dtype)
        return (features, target, None, weight) if rows.y.ndim == 1 else (features, None, target, weight)

    def _kind(self, X: Any) -> np.dtype[Any]:
        """Return the dtype of features on the GPU."""
        return np.dtype(X.dtype) if X.dtype in _IN_PLACE else self.dtype

    def _pieces(self, rows: TrainingData, bounds: Array, fits: bool) -> list[tuple[int, int]]:
        """Return (first, last) step of each launch; a single launch if all rows are on the GPU."""
        steps = len(bounds) - 1
        if fits:
            return [(0, steps)]
        size = rows.X.shape[1] * self._kind(rows.X).itemsize * self.plan.batch
        most = max(1, _PIECE // size)
        return [(first, min(first + most, steps)) for first in range(0, steps, most)]

    def infer(self, X: Array) -> Array:
        """Return the outputs (N, C) of checked features, computed by the modules."""
        self.weights.unload()
        outputs: Array = self.model.backend.to_numpy(self.model.infer(X))
        return outputs


def _signed(seed: int) -> Any:
    """Reinterpret a 64-bit seed as int64, the dtype of the tables."""
    return np.uint64(seed).astype(np.int64)
