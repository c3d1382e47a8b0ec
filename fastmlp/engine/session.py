"""Session: the engine's hold on a trainer's model and optimizer, and how their arrays are lent and given back."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from .._common.threads import choose_threads
from .._common.validation import Array
from ..losses import Loss
from ..modules import Module
from ..modules.arrays import ArrayDict
from ..optim import Optimizer
from .runner import STAGED, Engine
from .support import Unsupported, layers_of, settings, work_of

if TYPE_CHECKING:
    from ..training.batches import BatchSampler, TrainingData

__all__ = ["Session", "native_infer", "open_session"]

_log = logging.getLogger("fastmlp")

_TURN = 0.02  # seconds of steps between two turns of progress, callbacks and Ctrl-C
_FEW_ROWS = 256  # of which laying out the weights would cost as much as the outputs
_UNSHARED = 2  # what getrefcount tells of an array that only its dict holds


class Session:
    """Runs steps in native calls; the numbers stay with the engine until somebody asks for an array.

    Parameters
    ----------
    model, loss, optimizer
    requested : int or None
        Threads; None chooses by the work of a step.

    Attributes
    ----------
    threads : int
    chunk : int or None
        Steps in a native call; None: as many as take some hundredths of a second. It changes no result.

    Raises
    ------
    Unsupported
        If the engine does not know the model, the loss or the optimizer.
    """

    def __init__(self, model: Module, loss: Loss, optimizer: Optimizer, requested: int | None, batch: int) -> None:
        engine: Any
        if model.backend_name == "cuda":
            from .gpu import GpuEngine

            self.threads = 1
            engine = GpuEngine(model, loss, optimizer, batch, model.backend.machine())
        else:
            self.threads = choose_threads(requested, work_of(layers_of(model), batch)).count
            engine = Engine(model, loss, optimizer, self.threads, batch)
        self.engine: Engine = engine  # or what has its methods
        self.chunk: int | None = None
        self._key = (model, loss, optimizer, requested, batch)
        self._place = (model.backend_name, model.precision)
        self._settings = settings(self.engine.layers, loss, optimizer)
        self._holds, self._ahead, self._lent = True, False, False
        modules = [layer.module for layer in self.engine.layers]
        self._dicts: list[Any] = [module.params for module in modules if len(module.params)]
        self._step_seconds, self._compiles = 0.0, model.backend_name == "cuda"
        self._whole: tuple[Array, Array] = (np.arange(0), np.zeros(2, np.int64))

    def fits(self, *key: Any) -> bool:
        """Whether this session is for just these arguments, on the model's backend as they are now."""
        if any(a is not b and a != b for a, b in zip(self._key, key, strict=True)):
            return False
        if self._place != (key[0].backend_name, key[0].precision):
            return False
        return self._settings == settings(self.engine.layers, key[1], key[2])

    def makes(self, rows: TrainingData, accumulate: int) -> bool:
        """Whether the engine makes such steps, of ``accumulate`` batches.

        It takes the memory of few of these batches, on a GPU of all if there is room.
        """
        return self.engine.has_room(rows, accumulate)

    def close(self) -> None:
        """Give the arrays back and end the threads."""
        self.release()
        self.engine.close()

    # --------------------------------------------------------------------------------- the arrays

    def hold(self) -> None:
        """Take the arrays' numbers, where the user may have changed them."""
        if not self._holds:
            for params in self._dicts:
                if isinstance(params, _Lent):  # by another session of the same model
                    params._recall()
            self.engine.load()
            self._holds = True

    def give_back(self) -> None:
        """Write the numbers into the user's arrays; the engine's stay valid until the user changes his."""
        if self._ahead:
            self.engine.weights.unload()
            self._ahead = False

    def release(self) -> None:
        """`give_back`, and whatever the user does to the arrays counts from now on."""
        self.give_back()
        self._holds = False
        if self._lent:
            for params in self._dicts:
                params.__class__ = ArrayDict
            self.engine.optimizer.sync_before_access(None)  # type: ignore[union-attr]
            self._lent = False

    def discard(self) -> None:
        """Forget the engine's numbers: those in the user's arrays count."""
        self._ahead = False
        self.release()

    def lend(self) -> None:
        """Between two calls of `Trainer.step`: leave the numbers with the engine until an array is asked for.

        Where somebody holds an array already, nobody would ask: then they are given back at once.
        """
        if self._lent:  # still: nobody has got hold of one since
            return
        if self._shared():
            self.release()
            return
        for params in self._dicts:
            params.__class__ = _Lent
            params._recall = self.release
        self.engine.optimizer.sync_before_access(self.release)  # type: ignore[union-attr]
        self._lent = True

    def _shared(self) -> bool:
        for params in self._dicts:
            for name in dict.keys(params):
                if sys.getrefcount(dict.__getitem__(params, name)) > _UNSHARED:
                    return True
        for arrays in self.engine.optimizer.unsynced_state.values():  # type: ignore[union-attr]
            for name in arrays:
                if sys.getrefcount(arrays[name]) > _UNSHARED:
                    return True
        return False

    # -------------------------------------------------------------------------------------- steps

    def run(self, rows: TrainingData, index: Array, bounds: Array, *options: Any) -> tuple[Array, Array, Array]:
        """`Engine.run`, whose arguments these are, on the arrays' present numbers."""
        self.hold()
        try:
            began = time.perf_counter()
            result = self.engine.run(rows, index, bounds, *options)
            if not self._compiles:  # in the first call there; it says nothing of a step's time
                self._step_seconds = (time.perf_counter() - began) / (len(bounds) - 1)
            self._compiles = False
        except BaseException:
            self._ahead = True  # threads stop at barriers only: no step is half made
            raise
        self._ahead = True
        return result

    def steps_at_once(self, rows: TrainingData, size: int) -> int:
        """How many steps to make in the next native call."""
        if self.chunk is not None:
            return self.chunk
        if not self._step_seconds:
            return 1
        most = max(1, int(_TURN / self._step_seconds))
        if not self.engine.reads_in_place(rows.X):
            most = max(1, min(most, STAGED // (size * rows.X.shape[1] * self.engine.dtype.itemsize)))
        return most

    def take(self, order: BatchSampler, rows: TrainingData, size: int, most: int) -> tuple[Array, Array]:
        """(row numbers, bounds) of the batches of the next native call."""
        steps = min(most, self.steps_at_once(rows, size))
        if self._place[0] != "cuda":  # all cores are at work on the steps
            return order.take(size, steps)
        index, bounds = order.take(size, steps, True, most)
        # As soon as it is known how long a step takes.
        left = min(steps, most - (len(bounds) - 1)) if self._step_seconds else 0
        self.engine.follow = (lambda: order.peek(size, left)[0]) if left > 0 else None  # type: ignore[attr-defined]
        return index, bounds

    def whole(self, rows: int) -> tuple[Array, Array]:
        """(row numbers, bounds) of one batch of all rows."""
        if len(self._whole[0]) != rows:
            self._whole = np.arange(rows), np.array([0, rows])
        return self._whole

    def infer(self, x: Array) -> Array:
        """The model's outputs for checked features."""
        self.hold()
        return self.engine.infer(x)

    def weights_are_finite(self) -> bool:
        """Whether all parameters are."""
        self.hold()
        return self.engine.weights.finite()


class _Lent(ArrayDict):
    """Arrays whose numbers the engine has: to read one brings them back."""

    _recall: Callable[[], None]


def _recalling(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._recall()  # the class is then ArrayDict again
        return getattr(self, name)(*args, **kwargs)

    method.__name__ = name
    return method


# __iter__ too: dict(params) and {**params} go by it once it is not dict's own.
for _name in ("__getitem__", "__setitem__", "__iter__", "__eq__", "__ne__", "__or__", "__ror__", "__repr__",
              "__reduce__", "get", "items", "values", "copy", "update"):  # fmt: skip
    setattr(_Lent, _name, _recalling(_name))


def native_infer(model: Module, rows: int) -> Callable[[Array], Array] | None:
    """What gives the outputs of many rows on all processors; None where the model's own way is as good."""
    if rows < _FEW_ROWS or model.backend_name != "numba" or numba.config.DISABLE_JIT:
        return None
    try:
        layers = layers_of(model)
    except Unsupported:
        return None
    limit = choose_threads(None, work_of(layers, rows) / 3)
    return Engine(model, None, None, limit.count, 1).infer


def open_session(model: Module, loss: Loss, optimizer: Optimizer, requested: int | None, batch: int) -> Session | None:
    """A session, or None where none can be had whatever the model: jitting is disabled, or the GPU is simulated.

    Raises
    ------
    Unsupported
        If the engine does not know the model, the loss or the optimizer.
    """
    simulated = model.backend_name == "cuda" and model.backend.machine() is None
    if numba.config.DISABLE_JIT or simulated:  # chosen for debugging
        _log.info("Training goes module by module: %s.", "the GPU is simulated" if simulated else "jitting is disabled")
        return None
    return Session(model, loss, optimizer, requested, batch)
