"""Simulated GPU with small tiles, a replacement for `fastmlp._kernels.cuda.machine.Machine` on `simt.Machine`."""

from __future__ import annotations

import sys
import threading

import numpy as np
import simt
import tensor_cores

from fastmlp._kernels.cuda import (
    augmenting,
    block_reduce,
    columns,
    dispatch,
    elementwise,
    gathering,
    grid,
    jobs,
    linear,
    parts,
    results,
    rows,
    steps,
    tensor,
    tiles,
)
from fastmlp._kernels.cuda.jit import device
from fastmlp._kernels.cuda.runtime import cuda
from fastmlp._kernels.cuda.table import LISTS
from fastmlp._kernels.cuda.tiles import Geometry

NAMES = "data labels targets row_weights order work weights ints reals results".split()

REPLACED = [
    (tensor, "multiply_tf32", simt.multiply_tf32), (tensor, "multiply_bf16", simt.multiply_bf16),
    (tensor, "round_tf32", tensor_cores.round_tf32), (tensor, "pack_bf16", tensor_cores.pack_bf16),
    (tensor, "low_bf16", tensor_cores.low_bf16), (tensor, "high_bf16", tensor_cores.high_bf16),
    (tensor, "load2", simt.load2), (tiles, "load4", simt.load4),
    (gathering, "load4", simt.load4), (gathering, "store4", simt.store4),
    (tiles, "copy16", simt.copy16), (tiles, "copy8", simt.copy8), (tiles, "copy4", simt.copy4),
    (tiles, "commit", simt.commit), (tiles, "wait2", simt.wait2), (tiles, "wait0", simt.wait0),
    (tiles, "_number", simt.number), (tiles, "_threads", simt.threads), (tiles, "_divide", simt.divide),
    (parts, "vector", simt.vector), (parts, "load4", simt.load4), (parts, "store4", simt.store4),
    (parts, "_count", simt.count), (steps, "vector", simt.vector), (steps, "matrix", simt.matrix),
]  # fmt: skip


@device
def wait_for_all(control, turn):
    cuda.cg.this_grid().sync()


class Simulated:
    """GPU with tiles of 4 x 4 and 8 x 8."""

    narrow, wide, each_item = Geometry(2, 2, 2), Geometry(2, 4, 4), 2
    wide_dtypes, blocks_per_sm, copies_later = ("float32", "float64"), 2, True
    header = LISTS

    def __init__(self, blocks=2, grid_size=None, room=1 << 40):
        self.blocks, self.grid_size, self._room = blocks, grid_size or blocks, room
        modules = [
            steps, dispatch, results, linear, parts, gathering, augmenting, tiles, tensor, jobs, block_reduce, grid,
            rows, elementwise, columns, sys.modules[__name__],
        ]  # fmt: skip
        self._machine = simt.Machine(modules, REPLACED)
        self.lock = threading.RLock()
        self.launches, self._asked, self._sent, self.sent_ahead = 0, [], {}, None

    def room(self):
        return self._room

    capacity = room

    def empty(self, shape, dtype):
        # NaN reveals reads of uninitialized memory.
        return np.full(shape, np.nan, dtype)

    zeros = empty  # only used for parameters, which are all written

    def finite(self, arrays):
        return all(np.isfinite(self.download(array)).all() for array in arrays)

    def upload(self, array):
        return np.array(array)

    def put(self, name, lists, dtype):
        return np.concatenate([np.asarray(array, dtype).reshape(-1) for array in lists])

    def send(self, name, slot, rows, index, dtype):
        """Copy into memory that queued work may use; `run` executes the queue later."""
        rows = np.array(rows if index is None else rows[index], dtype)
        kept = self._sent.get((name, slot))
        if kept is None or kept.size < rows.size or kept.dtype != dtype:
            kept = self._sent[name, slot] = np.empty(rows.size, dtype)
        view = kept[: rows.size].reshape(rows.shape)
        view[...] = rows
        return view

    def assign(self, target, source):
        self._work()
        assert target.shape == source.shape and target.ndim == 1
        if hasattr(target, "copy_to_device"):  # an array of Numba's simulator
            target.copy_to_device(source)
        else:
            target[:] = self.download(source)

    def download(self, array):
        self._work()
        return array.copy_to_host() if hasattr(array, "copy_to_host") else np.array(array)

    def run(self, spec, arguments, blocks):
        self._asked.append((self._kernel(spec), arguments, min(blocks, self.grid_size)))
        self.launches += 1

    def _kernel(self, spec):
        return steps.steps_kernel(spec, self.narrow, self.wide, wait_for_all, self.each_item, self.header)

    def _work(self):
        """Execute the queued kernels."""
        while self._asked:
            kernel, arguments, blocks = self._asked.pop(0)
            self._machine.run(kernel, blocks, self.narrow.threads, arguments, NAMES)


class WithTensorCores(Simulated):
    """GPU with tiles of 16 x 16 and 32 x 32, for two warps with one or four fragments each."""

    narrow, wide = Geometry(8, 2, 16), Geometry(8, 4, 16)
