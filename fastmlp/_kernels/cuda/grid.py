"""Grid barrier; all blocks of the grid must be resident at the same time."""

from __future__ import annotations

from ..._common.errors import BackendError
from .assembly import instruction
from .jit import device
from .runtime import SIMULATED, cuda

__all__ = ["most_blocks", "wait_for_grid"]

_POLLS = 1 << 26  # over half a minute; by then some block will never arrive


if not SIMULATED:
    # The release makes the block's earlier writes visible. cuda.threadfence orders more accesses and is slower.
    _arrive = instruction("red.release.gpu.global.add.u64 [$0], 1;", "l,~{memory}", ("first",), (), False)
    # Not cuda.ldcv: the compiler treats its result as loop-invariant and hoists the load out of the loop.
    _arrivals = instruction("ld.acquire.gpu.b64 $0, [$1];", "=l,l,~{memory}", ("first",), ("int64",), False)
    _give_up = instruction("trap;", "~{memory}", (), (), False)


@device
def wait_for_grid(control, turn):
    """Wait until all blocks have arrived ``turn`` times; writes before the barrier are visible after it.

    ``control[0]`` counts arrivals. Cooperative groups are not used because they require linking with a library of the
    CUDA toolkit. A wait that exceeds `_POLLS` polls traps with an error instead of hanging the GPU.
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
    """Return how many blocks of a kernel compiled for ``types`` can be resident at the same time.

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
