"""Contender JAX: a compiled scan over many steps."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from .._common.validation import Array
from .cases import Case, Data
from .contender import Contender

__all__ = ["Jax"]


def _load(threads: int, platform: str | None) -> Any:
    """Import JAX with a thread pool of ``threads`` threads; later calls keep the pool of the first one.

    The environment variable NPROC sets the size of the pool: with
    ``XLA_FLAGS="--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"`` JAX 0.10 still uses all cores.
    """
    before = os.environ.get("NPROC")
    os.environ["NPROC"] = str(threads)
    try:
        jax = importlib.import_module("jax")
        jax.config.update("jax_platforms", platform)
        jax.devices()
    finally:
        os.environ.pop("NPROC")
        if before is not None:
            os.environ["NPROC"] = before
    return jax


class Jax(Contender):
    """`jax.jit` of a `lax.scan` over row indices, with the data set on the device."""

    platform: str | None = "cpu"  # None: the best available platform

    def __init__(self, case: Case, data: Data, weights: list[Array], threads: int) -> None:
        super().__init__(case, data, weights, threads)
        jax = self._jax = _load(threads, self.platform)
        self._data = tuple(jax.device_put(array) for array in (data.X, data.y.astype(self._target_dtype())))
        self._mean = None if data.mean is None else jax.device_put(data.mean)
        params = [jax.numpy.array(array) for array in weights]
        slots = [[jax.numpy.zeros_like(param) for param in params] for _ in range(self._slots())]
        self._state: Any = (params, slots, jax.numpy.zeros((), jax.numpy.float32))
        self._scan = jax.jit(self._steps, donate_argnums=0)
        self._compiled: dict[int, Any] = {}

    def _target_dtype(self) -> type:
        return np.int32 if self.case.loss == "cross entropy" else np.float32

    def _slots(self) -> int:
        """Return the number of state arrays that the optimizer has for each parameter."""
        return 2 if self.case.optimizer == "Adam" else int(self.case.momentum != 0)

    def _loss(self, params: Any, x: Any, target: Any) -> Any:
        jax, jnp = self._jax, self._jax.numpy
        activation = getattr(jax.nn, self.case.activation)
        for number in range(0, len(params) - 2, 2):
            x = activation(x @ params[number].T + params[number + 1])
        x = x @ params[-2].T + params[-1]
        if self.case.loss == "cross entropy":
            # One-hot, as the gradient of indexing is a scatter, which is a slow loop on the CPU.
            return -jnp.mean(jnp.sum(jax.nn.one_hot(target, x.shape[1]) * jax.nn.log_softmax(x), axis=1))
        if self.case.loss == "binary cross entropy":
            return jnp.mean(jax.nn.softplus(x[:, 0]) - target * x[:, 0])
        return jnp.mean((x[:, 0] - target) ** 2)

    def _update(self, params: Any, gradients: Any, slots: Any, count: Any) -> tuple[Any, Any]:
        jnp, case = self._jax.numpy, self.case
        if case.optimizer == "Adam":
            means = [0.9 * mean + 0.1 * g for mean, g in zip(slots[0], gradients)]
            squares = [0.999 * square + 0.001 * g * g for square, g in zip(slots[1], gradients)]
            first, second = 1 - 0.9**count, 1 - 0.999**count
            changes = [(m / first) / (jnp.sqrt(s / second) + case.eps) for m, s in zip(means, squares)]
            slots = [means, squares]
        elif case.momentum:
            changes = [case.momentum * velocity + g for velocity, g in zip(slots[0], gradients)]
            slots = [changes]
        else:
            changes = gradients
        return [param - case.lr * change for param, change in zip(params, changes)], slots

    def _steps(self, state: Any, data: Any, mean: Any, order: Any) -> tuple[Any, Any]:
        jax = self._jax

        def step(state: Any, rows: Any) -> tuple[Any, Any]:
            params, slots, count = state
            x, target = (array.at[rows].get(mode="promise_in_bounds") for array in data)
            if mean is not None:
                x = x.astype(jax.numpy.float32) - mean
            loss, gradients = jax.value_and_grad(self._loss)(params, x, target)
            params, slots = self._update(params, gradients, slots, count + 1)
            return (params, slots, count + 1), loss

        return jax.lax.scan(step, state, order)  # type: ignore[no-any-return]

    def ready(self, order: Array) -> Callable[[], object]:
        """Return the timed function, compiled for this number of steps."""
        rows, steps = self._jax.device_put(order.astype(np.int32)), len(order)
        if steps not in self._compiled:
            self._compiled[steps] = self._scan.lower(self._state, self._data, self._mean, rows).compile()
        compiled = self._compiled[steps]

        def call() -> Any:
            self._state, losses = compiled(self._state, self._data, self._mean, rows)
            self._jax.block_until_ready((self._state, losses))
            return losses

        return call

    def losses(self, order: Array) -> list[float]:
        """Run the first steps and return their losses."""
        losses: Any = self.ready(order)()
        return [float(loss) for loss in losses]

    def weights(self) -> list[Array]:
        """Return copies of the parameters."""
        return [np.array(param) for param in self._state[0]]
