"""Peak rate of the GEMM micro-kernel on operands in L1, the reference for the rate of a training step."""

from __future__ import annotations

import importlib
import threading
import time

import numpy as np

__all__ = ["MicroKernel"]

_PANEL_BYTES = 16384  # of the streamed operand: half of the smallest common L1, as in the blocking of the products


class MicroKernel:
    """Micro-kernel with separate operands for each thread.

    Parameters
    ----------
    threads : int
        Number of threads.
    """

    def __init__(self, threads: int) -> None:
        host = importlib.import_module("fastmlp._kernels.cpu.host")
        self._repeat = importlib.import_module("fastmlp._kernels.cpu.peak").repeat_tile
        rows, columns = host.TILE_ROWS, 2 * host.LANES[4]
        self._k = _PANEL_BYTES // (4 * columns)
        self._operations = 2 * rows * columns * self._k  # of one repetition
        generator = np.random.default_rng(0)
        # Small numbers of both signs keep the growing sums in range.
        self._operands = [
            tuple(
                1e-3 * generator.standard_normal(size, np.float32)
                for size in (rows * self._k, self._k * columns, rows * columns)
            )
            for _ in range(threads)
        ]
        self._repeats = 1
        self._once(self._operands[0], 1)

    def _once(self, operands: tuple[np.ndarray, ...], repeats: int) -> float:
        start = time.perf_counter()
        self._repeat(*operands, self._k, repeats, 1)
        return time.perf_counter() - start

    def rate(self, seconds: float = 0.05) -> float:
        """Return operations per second, summed over threads that run at the same time and are timed separately."""
        while (took := self._once(self._operands[0], self._repeats)) < seconds / 4:
            self._repeats *= 4
        self._repeats = max(1, round(self._repeats * seconds / took))
        rates: list[float] = []
        barrier = threading.Barrier(len(self._operands))

        def work(operands: tuple[np.ndarray, ...]) -> None:
            barrier.wait()
            rates.append(self._operations * self._repeats / self._once(operands, self._repeats))

        workers = [threading.Thread(target=work, args=(operands,)) for operands in self._operands]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(rates)
