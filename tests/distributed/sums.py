"""On each rank: sums of arrays beside the sum by a binary tree of all ranks' arrays, and shared values."""

import numpy as np
from mpi4py import MPI

from fastmlp._common.group import tree_sum
from fastmlp.distributed import mpi, mpi_group

group = mpi(timeout=60)
assert group is mpi() and (group.rank, group.size) == (MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size)


def given(size, dtype, rank):
    numbers = np.random.default_rng([size, rank])
    # of many magnitudes, so that each order of the sum has other bits
    return (numbers.standard_normal(size) * 10.0 ** numbers.integers(-4, 5, size)).astype(dtype)


chain_differs = False
for dtype, block in ((np.float32, 1 << 30), (np.float64, 1 << 30), (np.float32, 1 << 12)):
    mpi_group._BLOCK = block  # bytes of a message: of several messages an array too
    for size in (0, 1, 2, 3, 7, 1000, 9001, 50_001):
        parts = [given(size, dtype, rank) for rank in range(group.size)]
        slots = [given(3, np.float64, 100 + rank) for rank in range(group.size)]
        array, slot = parts[group.rank].copy(), slots[group.rank].copy()
        group.sum(array, slot)
        assert array.tobytes() == tree_sum(parts).tobytes(), (dtype, size)
        assert slot.tobytes() == tree_sum(slots).tobytes(), (dtype, size)
        chain_differs |= sum(parts[1:], parts[0]).tobytes() != array.tobytes()
assert chain_differs == (group.size > 2)

address = group.reducer("float32")
assert (address == 0) == (group.size == 1) and address == group.reducer(np.float32)
assert group.share({"rank": group.rank}) == {"rank": 0}
assert group.share_bytes(b"abc" if group.rank == 0 else None) == b"abc"
assert group.share_bytes(bytes(10_000) if group.rank == 0 else None) == bytes(10_000)
assert group.share_bytes(b"" if group.rank == 0 else None) == b""
assert group.local_size == group.size
if group.rank == 0:
    print("right")
