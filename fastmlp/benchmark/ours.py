"""Contender fastmlp: `Trainer.fit`."""

from __future__ import annotations

import time
from typing import Any

from .._common.threads import choose_threads
from .._common.validation import Array
from ..training.trainer import Trainer
from .cases import SEED, Case, Data
from .contender import Contender

__all__ = ["Ours", "step_latency"]


class Ours(Contender):
    """`Trainer.fit` without validation, on shuffled rows.

    The trainer draws the order of the rows; for a new trainer it equals the order of `batches`.
    """

    def __init__(self, case: Case, data: Data, weights: list[Array], threads: int) -> None:
        super().__init__(case, data, weights, threads)
        self._data = data
        # An upper bound, as for the peers: small networks run on one thread, others too on a busy machine.
        self._threads = None if choose_threads(None, case.useful_operations, case.batch).count <= threads else threads
        model = case.model(data)
        names = [name for name, _ in model.named_parameters()]
        model.load_state_dict({**model.state_dict(), **dict(zip(names, weights, strict=True))})
        self._trainer = Trainer(model, case.make_loss(), case.make_optimizer(), precision=self.precision)

    def _fit(self, steps: int, eval_every: int) -> Any:
        return self._trainer.fit(
            self._data.X,
            self._data.y,
            batch_size=self.case.batch,
            max_steps=steps,
            eval_every=eval_every,
            rng=SEED,
            threads=self._threads,
            drop_last=True,
        )

    def losses(self, order: Array) -> list[float]:
        """Run the first steps and return their losses."""
        return list(self._fit(len(order), 1)["train_loss"])

    def weights(self) -> list[Array]:
        """Return copies of the parameters."""
        state = self._trainer.model.state_dict()
        return [state[name] for name, _ in self._trainer.model.named_parameters()]

    def seconds(self, order: Array) -> float:
        """Time the second half of a fit, since the data are checked once per fit.

        A half has at least one epoch, the default interval of evaluations: each evaluation checks and copies all
        weights.
        """
        steps = max(len(order), self.case.rows // self.case.batch)
        first, second = self._fit(2 * steps, steps)["seconds"]
        return float(second - first) * len(order) / steps


def step_latency(case: Case, data: Data, steps: int) -> list[float]:
    """Time ``steps`` calls of `Trainer.step` on prepared batches, in seconds, after as many calls for warm-up."""
    trainer = Trainer(case.model(data), case.make_loss(), case.make_optimizer())
    rows = [slice(start, start + case.batch) for start in range(0, case.rows - case.batch + 1, case.batch)]
    ready = [(data.X[some], data.y[some]) for some in rows[:256]]
    times = []
    for number in range(2 * steps):
        x, y = ready[number % len(ready)]
        start = time.perf_counter()
        trainer.step(x, y)
        times.append(time.perf_counter() - start)
    return times[steps:]
