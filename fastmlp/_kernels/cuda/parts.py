"""Split-K products: several blocks compute partial sums of a tile, and the last block to finish adds them up.

The order of the additions is that of the splits, so the result does not depend on which block finishes last.
"""

from __future__ import annotations

import functools

import numba
import numpy as np

from .assembly import instruction, load4, store4, vector
from .jit import device
from .runtime import SIMULATED, cuda
from .tiles import U, quotient

__all__ = ["adding_up", "size_of_part"]

if not SIMULATED:
    # acq_rel: the block's earlier writes become visible, and so do the partial sums of blocks that counted before.
    _count = instruction(
        "atom.acq_rel.gpu.global.add.u64 $0, [$1], 1;", "=l,l,~{memory}", ("first",), ("int64",), False
    )


def size_of_part(geometry, with_ones):
    """Return the number of elements of one split's partial sums, with those of the bias's gradient if ``with_ones``."""
    return geometry.threads * geometry.each * (geometry.each + (1 if with_ones else 0))


@functools.cache
def adding_up(dtype, geometry, with_ones):
    """Return f(on, smem, sums, ones, first, counter, splits, split, thread) that reduces the partial sums of a tile.

    The function returns whether this block is the last of the tile to finish. In the last block, ``sums (EACH, EACH)``
    and ``ones (EACH,)`` are then the totals over all splits. Partial sums are exchanged through work[first ..].
    counters[counter] counts finished splits and is not reset between steps.
    """
    EACH, THREADS, SIZE = geometry.each, geometry.threads, size_of_part(geometry, with_ones)
    AT_ONCE = 4 if EACH <= 4 else 1  # splits that are loaded before they are added, to overlap the latencies
    scalar, zero = numba.from_dtype(np.dtype(dtype)), np.dtype(dtype).type(0)
    ROWS = EACH + (1 if with_ones else 0)
    READ = AT_ONCE * ROWS
    vec4 = EACH % 4 == 0

    @device
    def offset_of(first, split, row, thread):
        return U(first) + U(split) * U(SIZE) + (U(row * THREADS) + U(thread)) * U(EACH)

    @device
    def write(on, at, values, i):
        if vec4:
            for j in range(0, EACH, 4):
                store4(on.work, at + U(j), values[i, j], values[i, j + 1], values[i, j + 2], values[i, j + 3])
        else:
            for j in range(EACH):
                on.work[at + U(j)] = values[i, j]

    @device
    def read(on, at, values, i):
        if vec4:
            for j in range(0, EACH, 4):
                values[i, j], values[i, j + 1], values[i, j + 2], values[i, j + 3] = load4(on.work, at + U(j))
        else:
            for j in range(EACH):
                values[i, j] = on.work[at + U(j)]

    @device
    def run(on, smem, sums, ones, first, counter, splits, split, thread):
        some, share = cuda.local.array((READ, EACH), scalar), cuda.local.array((1, EACH), scalar)
        for i in range(EACH):
            write(on, offset_of(first, split, i, thread), sums, i)
            share[0, i] = ones[i]
        if with_ones:
            write(on, offset_of(first, split, EACH, thread), share, 0)
        cuda.syncthreads()
        if thread == 0:
            smem.count[0] = _count(vector(on.counters, counter, 1))
        cuda.syncthreads()
        count = smem.count[0]
        if count - quotient(count, splits) * splits != splits - 1:
            return False
        for i in range(EACH):
            ones[i] = zero
            for j in range(EACH):
                sums[i, j] = zero
        for s in range(0, splits, AT_ONCE):
            for p in range(AT_ONCE):
                if s + p < splits:
                    for i in range(ROWS):
                        read(on, offset_of(first, s + p, i, thread), some, p * ROWS + i)
            for p in range(AT_ONCE):
                if s + p < splits:
                    for j in range(EACH):
                        for i in range(EACH):
                            sums[i, j] += some[p * ROWS + i, j]
                        if with_ones:
                            ones[j] += some[p * ROWS + EACH, j]
        return True

    return run
