"""A GPU of tiny tiles, whose kernels `simt.Machine` runs: in the place of `fastmlp._kernels.cuda.machine.Machine`."""

from __future__ import annotations

import sys

import numpy as np
from simt import Machine

from fastmlp._kernels.cuda import elementwise, grid, halving, jobs, rows, steps, tiles
from fastmlp._kernels.cuda.runtime import cuda, device
from fastmlp._kernels.cuda.tiles import Geometry

NAMES = (
    "data order bounds labels targets row_weights normalizers hyper penalties clips ops numbers jobs stages meters "
    "work weights sums losses parts done control"
).split()


@device
def wait_for_all(control, turn):
    cuda.cg.this_grid().sync()


class Simulated:
    """Tiles of 4 x 4 and 8 x 8."""

    narrow, wide, each_item = Geometry(2, 2, 2), Geometry(2, 4, 4), 2

    def __init__(self, blocks=2, grid_size=None, room=1 << 40):
        self.blocks, self.grid_size, self._room = blocks, grid_size or blocks, room
        self._machine = Machine([steps, tiles, jobs, halving, grid, rows, elementwise, sys.modules[__name__]])
        self.launches = 0

    def room(self):
        return self._room

    def zeros(self, shape, dtype):
        # What nobody has written is noticed.
        return np.full(shape, np.nan, dtype)

    def upload(self, array):
        return np.array(array)

    def put(self, name, array):
        return np.array(array)

    def assign(self, target, source):
        assert target.shape == source.shape and target.ndim == 1
        if hasattr(target, "copy_to_device"):  # of Numba's simulator
            target.copy_to_device(source)
        else:
            target[:] = self.download(source)

    def download(self, array):
        return array.copy_to_host() if hasattr(array, "copy_to_host") else np.array(array)

    def run(self, spec, arguments):
        kernel = steps.steps_kernel(spec, self.narrow, self.wide, wait_for_all, self.each_item)
        self._machine.run(kernel, self.grid_size, self.narrow.threads, arguments, NAMES)
        self.launches += 1
