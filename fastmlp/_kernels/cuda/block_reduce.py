"""Reduction over a thread block by a tree in shared memory, in a fixed order."""

from __future__ import annotations

import functools

from .jit import called
from .runtime import cuda

__all__ = ["block_reduce"]


@functools.cache
def block_reduce(threads, larger=False):
    """Return a device function (value, shared) that gives each thread the sum, or the maximum, over the block.

    ``threads`` is the size of the block and of ``shared``, and must be a power of two.
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
        cuda.syncthreads()  # the next reduction may overwrite shared[0]
        return reduced

    return reduce
