"""A barrier for all blocks of a grid, which have to run at the same time: at most as many as fit."""

from __future__ import annotations

from ..._common.errors import BackendError
from .assembly import instruction
from .jit import device
from .runtime import SIMULATED, cuda

__all__ = ["most_blocks", "wait_for_grid"]

_POLLS = 1 << 26  # half a minute and more: some block will never come


if not SIMULATED:
    # With what the block's threads have written before. cuda.threadfence would order more than that, and take longer.
    _arrive = instruction("red.release.gpu.global.add.u64 [$0], 1;", "l,~{memory}", ("first",), (), False)
    # Not cuda.ldcv, which the compiler takes for a value that does not change, and reads before the loop.
    _arrivals = instruction("ld.acquire.gpu.b64 $0, [$1];", "=l,l,~{memory}", ("first",), ("int64",), False)
    _give_up = instruction("trap;", "~{memory}", (), (), False)


@device
def wait_for_grid(control, turn):
    """Wait until all blocks have come here ``turn`` times; what they wrote before is seen after.

    ``control[0]`` counts arrivals. Not cooperative groups: those need a library of the toolkit to link with. A wait
    without end is ended, with an error, instead of keeping the GPU.
    """
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        _arrive(control)
        polls = 0
        while _arrivals(control) < turn * cuda.gridDim.x:
            polls += 1
            if polls > _POLLS:
                _give_up()
    cuda.syncthreads()


def most_blocks(kernel, types, threads):
    """How many blocks of a kernel, compiled for such arguments, run at the same time.

    Raises
    ------
    BackendError
        If not even one fits on a multiprocessor.
    """
    if SIMULATED:
        return 1
    fit = int(kernel.overloads[types].max_cooperative_grid_blocks(threads))
    if fit < 1:
        raise BackendError(f"A block of {threads} threads of the training kernel does not fit on this GPU.")
    return fit
