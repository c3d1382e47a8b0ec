"""Session: runs of the engine for a trainer, and synchronization of the engine's numbers with the user's arrays.

A parameter or optimizer state exists twice: as the user's array, and in the layout of the engine. Four methods of
`Session` keep the two copies consistent:

- `sync_to_engine` reads the arrays before a step, unless the engine's numbers are current;
- `sync_to_user` writes the engine's numbers into the arrays if the engine is ahead;
- `detach` calls `sync_to_user` and makes the next step read the arrays again, so that every change takes effect;
- `share`, between two calls of `Trainer.step`, leaves the newer numbers with the engine until an array is read. The
  dicts of the arrays (`SharedDict`) then call `detach` at the first access. A caller that keeps a reference to an array
  can access it without the dict. While such a reference exists, which a weak reference detects, each step reads and
  writes all arrays.

An estimator's parameters are always referenced, by the views in its attributes. `mirror_parameters` shares the
optimizer's state alone: native steps then write the parameters into the user's arrays, and read these if they differ
from what was written. Any other call of the session ends that by `detach`.

A lock serializes steps and synchronizations of several threads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .._common.threads import choose_threads, thread_limit
from .._common.validation import Array
from .._kernels.cpu.jit import DISABLED
from ..losses import Loss
from ..modules import Module
from ..modules.arrays import SharedDict
from ..optim import Optimizer
from .native import native
from .prepared import blend, blend_places
from .runner import STAGED, Engine
from .support import Pieces, Unsupported, layers_of, settings, work_of

if TYPE_CHECKING:
    from ..training.batches import BatchSampler, TrainingData
    from .storage import Weights

__all__ = ["Session", "native_infer", "open_session"]

_log = logging.getLogger("fastmlp")

_TURN = 0.02  # seconds of steps in a native call; between calls, progress, callbacks and Ctrl-C are handled
_FEW_ROWS = 256  # below this number of rows, packing the weights would cost as much as inference


class Session:
    """Runs of training steps in native calls; the numbers stay with the engine until an array is read.

    Parameters
    ----------
    model, loss, optimizer
    requested : int or None
        Number of threads; None chooses it by the work of a step.

    Attributes
    ----------
    threads : int
    chunk : int or None
        Steps in a native call; None chooses a number that takes about 20 ms. Results do not depend on it.
    lock : RLock
        Held during steps and synchronizations.
    shared : list of SharedDict
        Dictionaries of arrays that call `detach` on access; empty if the user may have read or changed an array since
        the last step.
    mirror : Mirror or None
        Parameters that native steps write into the user's arrays, see `mirror_parameters`.

    Raises
    ------
    Unsupported
        If the engine does not support the model, the loss or the optimizer.
    """

    def __init__(self, model: Module, loss: Loss, optimizer: Optimizer, requested: int | None, batch: int) -> None:
        engine: Any
        if model.backend_name == "cuda":
            from .gpu import GpuEngine

            self.threads = 1
            engine = GpuEngine(model, loss, optimizer, batch, model.backend.machine())
        else:
            self.threads = choose_threads(requested, work_of(layers_of(model), batch), batch).count
            engine = Engine(model, loss, optimizer, self.threads, batch, requested is not None)
        self.engine: Engine = engine  # or a GpuEngine, which has the same methods
        self.chunk: int | None = None
        self._key = (model, loss, optimizer, requested, batch)
        self._limit = thread_limit()
        self._place = (model.backend_name, model.precision)
        self._settings = settings(self.engine.layers, loss, optimizer)
        self.lock = threading.RLock()
        # _current: the engine's numbers are at least as new as the arrays. _ahead: they are newer.
        self._current, self._ahead = True, False
        self.shared: list[SharedDict] = []
        self._held: tuple[SharedDict, str] | None = None  # last array found with an outside reference
        self.mirror: native.Mirror | None = None
        self._reserved = 1
        self._step_seconds, self._compiles = 0.0, model.backend_name == "cuda"

    def fits(self, *key: Any) -> bool:
        """Return whether the session is valid for these arguments, their current settings and the limit of threads."""
        return self._limit == thread_limit() and self._is_valid(*key)

    def _is_valid(self, *key: Any) -> bool:
        if any(a is not b and a != b for a, b in zip(self._key, key, strict=True)):
            return False
        if self._place != (key[0].backend_name, key[0].precision):
            return False
        return self._settings == settings(self.engine.layers, key[1], key[2])

    def fits_steps(self, *key: Any) -> bool:
        """Return whether single batches can be trained for this (model, loss, optimizer, threads, batch).

        In contrast to `fits`, the number of threads and the size of the batch do not matter on the CPU.
        """
        return self._is_valid(*key) if self._place[0] == "cuda" else self._is_valid(*key[:3], *self._key[3:])

    def makes(self, rows: TrainingData, accumulate: int) -> bool:
        """Return whether the engine supports steps of ``accumulate`` batches on these rows.

        The CPU engine needs memory for few of the batches; the GPU engine needs memory for all of them.
        """
        return self.engine.has_room(rows, accumulate)

    def close(self) -> None:
        """Call `detach`, and release what the engine keeps of the data."""
        self.detach()
        self.engine.close()

    @property
    def mean_threads(self) -> float:
        """Mean number of threads since `begin_fit`."""
        return self.engine.active.mean if isinstance(self.engine, Engine) else 1.0

    def begin_fit(self) -> None:
        """Begin a new mean of the number of threads."""
        if isinstance(self.engine, Engine):
            self.engine.active.restart()

    def cut(self, pieces: Pieces | None) -> None:
        """Compute batches in pieces from now on, or in one piece for None."""
        self.engine.pieces = pieces

    @property
    def gradient_size(self) -> int:
        """Number of elements that a reducer adds."""
        return self.engine.weights.gradient_size

    @property
    def is_current(self) -> bool:
        """Whether no array was read or changed since the last step or the last `sync_to_engine`."""
        return self._current

    # --------------------------------------------------------------------------------- the arrays

    def sync_to_engine(self) -> None:
        """Read the arrays if the user may have changed them."""
        with self.lock:
            if self.mirror is not None:
                self.detach()
            if not self._current:
                self.engine.load()  # if another session of the model is ahead, the read makes it write first
                self._current = True

    def sync_to_user(self) -> None:
        """Write the engine's numbers into the arrays; the engine stays current until `detach`."""
        with self.lock:
            if self._ahead:
                weights = self.engine.weights
                weights.unload() if self.mirror is None else weights.unload_states()
                self._ahead = False

    def detach(self) -> None:
        """Call `sync_to_user`, and read the arrays again before the next step."""
        with self.lock:
            self.sync_to_user()
            self._current = False
            for arrays in self.shared:
                arrays.unshare()
            self.shared, self.mirror = [], None

    def invalidate(self) -> None:
        """Discard the engine's numbers; shared arrays are written first, since the caller overwrites them."""
        with self.lock:
            if not self.shared:
                self._ahead = False
            self.detach()

    def share(self) -> None:
        """Leave the numbers with the engine until an array is read; `detach` if an array is referenced elsewhere."""
        with self.lock:
            if self.shared or not self._current:
                return
            self.shared = [self.engine.optimizer.state]  # type: ignore[union-attr]
            for arrays, _, _ in self.engine.weights.entries():
                if arrays is not self.shared[-1]:
                    self.shared.append(arrays)
            for arrays in self.shared:  # before arrays are dropped, so that readers in other threads wait for the lock
                arrays.share(self.detach)
            self._ahead = True  # of the dropped arrays
            if self._is_held():
                self.detach()

    def mirror_parameters(self) -> bool:
        """Leave the optimizer's state with the engine until it is read, and let native steps write the parameters.

        Return False, without a change, if an array of the state is referenced elsewhere, or without native code.
        """
        with self.lock:
            if self.mirror is not None:
                return True
            self.detach()
            self.sync_to_engine()
            self.mirror = self.engine.weights.mirror()
            if self.mirror is None:
                return False
            self.shared = [self.engine.optimizer.state]  # type: ignore[union-attr]
            self.shared += {id(arrays): arrays for arrays, _, _ in self.engine.weights.entries()}.values()
            for arrays in self.shared:
                arrays.share(self.detach)
            self._ahead = True
            empty = self.engine.model.backend.empty
            if not all(arrays.drop(name, empty) for arrays, name in self.engine.weights.states()):
                self.detach()
            return self.mirror is not None

    def _is_held(self) -> bool:
        """Return whether an array is referenced elsewhere; drop the arrays up to the first such array."""
        empty = self.engine.model.backend.empty
        if self._held is not None and not self._held[0].drop(self._held[1], empty):
            return True
        self._held = None
        for arrays, name, _ in self.engine.weights.entries():
            if not arrays.drop(name, empty):
                self._held = arrays, name
                return True
        return False

    # -------------------------------------------------------------------------------------- steps

    def run(self, rows: TrainingData, index: Array, bounds: Array, *options: Any) -> tuple[Array, Array, Array]:
        """Call `Engine.run` with these arguments on the current numbers of the arrays."""
        with self.lock:
            self.sync_to_engine()
            try:
                began = time.perf_counter()
                result = self.engine.run(rows, index, bounds, *options)
                if not self._compiles:  # the first call on a GPU compiles, which would distort the time of a step
                    self._step_seconds = (time.perf_counter() - began) / (len(bounds) - 1)
                self._compiles = False
            finally:
                self._current = self._ahead = True  # threads stop at barriers only, so no step is partial
        return result

    def steps_at_once(self, rows: TrainingData, size: int) -> int:
        """Return the number of steps of the next native call."""
        if self.chunk is not None:
            return self.chunk
        if not self._step_seconds:
            return 1
        most = max(1, int(_TURN / self._step_seconds))
        if not self.engine.reads_in_place(rows.X):
            most = max(1, min(most, STAGED // (size * rows.X.shape[1] * self.engine.dtype.itemsize)))
        return most

    def take(self, order: BatchSampler, rows: TrainingData, size: int, most: int) -> tuple[Array, Array]:
        """Return (row indices, bounds) of the batches of the next native call."""
        steps = min(most, self.steps_at_once(rows, size))
        if self._place[0] != "cuda":  # no prefetch, since all cores compute steps
            return order.take(size, steps)
        index, bounds = order.take(size, steps, True, most)
        # Prefetch only once the time of a step is known.
        left = min(steps, most - (len(bounds) - 1)) if self._step_seconds else 0
        self.engine.follow = (lambda: order.peek(size, left)[0]) if left > 0 else None  # type: ignore[attr-defined]
        return index, bounds

    def reserve(self, rows: int) -> None:
        """Set the least number of rows for which later single steps are prepared."""
        self._reserved = max(self._reserved, rows)

    def step(self, rows: TrainingData, seed: int | None, step: int, l2: float) -> tuple[Array, Array, Array]:
        """Make one step on all these rows; see `Engine.run` for the arguments and the result."""
        if self._place[0] == "cuda":
            return self.run(rows, np.arange(len(rows)), np.array([0, len(rows)]), seed, step, l2)
        with self.lock:
            self.sync_to_engine()
            try:
                prepared = self.engine.prepare(max(len(rows), self._reserved), rows.X, rows.y.ndim == 1)
                return prepared.step(rows, seed, step, l2)
            finally:
                self._current = self._ahead = True

    def forward(self, X: Array, seed: int | None, step: int) -> Array:
        """Return the outputs of checked features in training mode, and keep the activations for `backward`."""
        with self.lock:
            self.sync_to_engine()
            return self.engine.prepare(max(len(X), self._reserved), X).forward(X, seed, step)

    @property
    def outputs(self) -> int:
        """Number of columns of the model's outputs; after `forward`."""
        assert self.engine.prepared is not None
        return self.engine.prepared.outputs

    @property
    def pending(self) -> int:
        """Number of rows of the last `forward` whose `backward` is to come, 0 for none."""
        prepared = getattr(self.engine, "prepared", None)
        return 0 if prepared is None else int(prepared.pending[0])

    def backward(self, gradient: Array, seed: int | None, step: int, l2: float) -> tuple[Array, Array, Array]:
        """Make a step from a gradient of the last `forward`'s outputs, see `Engine.run`."""
        assert self.engine.prepared is not None
        with self.lock:
            self.sync_to_engine()
            try:
                return self.engine.prepared.backward(gradient, seed, step, l2)
            finally:
                self._current = self._ahead = True

    def infer_few(self, X: Array) -> Array:
        """Return the outputs of checked features in evaluation mode on one thread."""
        with self.lock:
            self.sync_to_engine()
            return self.engine.prepare(self._reserved, X).infer(X)

    def blend_into(self, target: Weights, share: float) -> tuple[Array, Array, Array]:
        """Compute target += share (weights - target), and return the first three arguments of `prepared.blend`."""
        with self.lock:
            self.sync_to_engine()
            arguments = self.engine.weights.data, target.data, blend_places(self.engine.weights, target)
            blend(*arguments, share)
        return arguments

    def infer(self, x: Array) -> Array:
        """Return the model's outputs for checked features."""
        with self.lock:
            self.sync_to_engine()
            return self.engine.infer(x)

    def weights_are_finite(self) -> bool:
        """Return whether all parameters are finite."""
        with self.lock:
            self.sync_to_engine()
            return self.engine.weights.finite()


def native_infer(model: Module, rows: int) -> Callable[[Array], Array] | None:
    """Return a function for the outputs of many rows on all processors; None if the model itself is as fast."""
    if rows < _FEW_ROWS or model.backend_name != "numba" or DISABLED:
        return None
    try:
        layers = layers_of(model)
    except Unsupported:
        return None
    limit = choose_threads(None, work_of(layers, rows) / 3, rows)
    return Engine(model, None, None, limit.count, 1).infer


def open_session(model: Module, loss: Loss, optimizer: Optimizer, requested: int | None, batch: int) -> Session | None:
    """Open a session; return None if jitting is disabled or the GPU is simulated, whatever the model.

    Raises
    ------
    Unsupported
        If the engine does not support the model, the loss or the optimizer.
    """
    simulated = model.backend_name == "cuda" and model.backend.machine() is None
    if DISABLED or simulated:  # both are debugging modes, so no warning
        _log.info("Training goes module by module: %s.", "the GPU is simulated" if simulated else "jitting is disabled")
        return None
    return Session(model, loss, optimizer, requested, batch)
