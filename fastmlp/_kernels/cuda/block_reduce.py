"""A block's threads fold their values into one by halving in shared memory: always in the same order."""

from __future__ import annotations

import functools

from .jit import called
from .runtime import cuda

__all__ = ["block_reduce"]


@functools.cache
def block_reduce(threads, larger=False):
    """A device function (value, shared) -> the sum of all threads' values, or the largest, to each of them.

    ``threads`` is a power of two, the size of the block and of ``shared``.
    """

    @called
    def reduce(value, shared):
        i = cuda.threadIdx.x
        shared[i] = value
        cuda.syncthreads()
        half = threads // 2
        while half > 0:
            if i < half:
                other = shared[i + half]
                if not larger:
                    shared[i] += other
                elif other > shared[i]:
                    shared[i] = other
            cuda.syncthreads()
            half //= 2
        reduced = shared[0]
        cuda.syncthreads()  # the next fold may write there
        return reduced

    return reduce
