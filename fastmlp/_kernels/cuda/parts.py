"""Products whose inner dimension is split: several blocks compute a tile's parts, and the last of them to be done adds
them up. In the order of the parts, so that who is last changes no bit.
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
    # With what the block's threads have written before; and what others wrote before they counted is seen after.
    _count = instruction(
        "atom.acq_rel.gpu.global.add.u64 $0, [$1], 1;", "=l,l,~{memory}", ("first",), ("int64",), False
    )


def size_of_part(geometry, with_ones):
    """Elements that the threads of a block have between them: their sums, and perhaps shares of a bias's gradient."""
    return geometry.threads * geometry.each * (geometry.each + (1 if with_ones else 0))


@functools.cache
def adding_up(dtype, geometry, with_ones):
    """f(on, smem, sums, ones, first, counter, splits, split, thread): whether this block is the last of a tile's.

    Then its ``sums (EACH, EACH)``, and ``ones (EACH,)``, are those of all parts. They come together in work[first ..],
    and are counted in counters[counter], which goes on from step to step.
    """
    EACH, THREADS, SIZE = geometry.each, geometry.threads, size_of_part(geometry, with_ones)
    AT_ONCE = 4 if EACH <= 4 else 1  # parts that are read before they are added: one read after the other takes longer
    scalar, zero = numba.from_dtype(np.dtype(dtype)), np.dtype(dtype).type(0)
    ROWS = EACH + (1 if with_ones else 0)
    READ = AT_ONCE * ROWS
    vec4 = EACH % 4 == 0

    @device
    def place(first, split, row, thread):
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
            write(on, place(first, split, i, thread), sums, i)
            share[0, i] = ones[i]
        if with_ones:
            write(on, place(first, split, EACH, thread), share, 0)
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
                        read(on, place(first, s + p, i, thread), some, p * ROWS + i)
            for p in range(AT_ONCE):
                if s + p < splits:
                    for j in range(EACH):
                        for i in range(EACH):
                            sums[i, j] += some[p * ROWS + i, j]
                        if with_ones:
                            ones[j] += some[p * ROWS + EACH, j]
        return True

    return run
