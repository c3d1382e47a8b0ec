"""A barrier for all blocks of a grid, which have to run at the same time: at most as many as fit."""

from __future__ import annotations

from .runtime import SIMULATED, cuda, device

__all__ = ["most_blocks", "wait_for_grid"]


@device
def wait_for_grid(control, turn):
    """Wait until all blocks have come here ``turn`` times; what they wrote before is seen after.

    ``control[0]`` counts arrivals. Not cooperative groups: those need a library of the toolkit to link with.
    """
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        cuda.threadfence()
        cuda.atomic.add(control, 0, 1)
        while cuda.ldcv(control, 0) < turn * cuda.gridDim.x:
            pass
        cuda.threadfence()
    cuda.syncthreads()


def most_blocks(kernel, types, threads):
    """How many blocks of a kernel, compiled for such arguments, run at the same time: at most one a multiprocessor."""
    if SIMULATED:
        return 1
    fit = int(kernel.overloads[types].max_cooperative_grid_blocks(threads))
    return min(fit, int(cuda.get_current_device().MULTIPROCESSOR_COUNT))
