"""The CUDA simulator: it finds races, stray accesses and uninitialized reads, and accepts correct kernels."""

from __future__ import annotations

import sys

import numba
import numpy as np
import pytest

pytest.importorskip("numba_cuda")
pytest.importorskip("greenlet")

import simt
import tensor_cores

from fastmlp._kernels.cuda.jit import kernel
from fastmlp._kernels.cuda.runtime import cuda

N = 64  # threads of a block, which are two warps


def run(wait, first=0, blocks=1):
    """Each thread writes an element of a shared array and of ``out``, waits, and reads another's of both."""

    @kernel
    def pass_on(out, again):
        t, begin = cuda.threadIdx.x, cuda.blockIdx.x * N
        shared = cuda.shared.array(N, numba.int64)
        if t >= first:
            shared[t] = t
            out[begin + t] = t
        wait()
        again[begin + t] = shared[N - 1 - t] + out[begin + (t + 1) % N]

    out, again = np.zeros(blocks * N, np.int64), np.zeros(blocks * N, np.int64)
    simt.Machine([sys.modules[__name__]]).run(pass_on, blocks, N, (out, again), ("out", "again"))
    return again


@pytest.mark.parametrize("blocks", [1, 3])
def test_who_waits_may_read(blocks):
    ref = np.tile(N - 1 - np.arange(N) + (np.arange(N) + 1) % N, blocks)
    for wait in (lambda: cuda.syncthreads(), lambda: cuda.cg.this_grid().sync()):
        np.testing.assert_array_equal(run(wait, blocks=blocks), ref)


def test_who_does_not_wait_for_the_other_warp_may_not():
    with pytest.raises(simt.Race, match=r"thread \d+ of block 0 and \(0, \d+\) have not waited for each other"):
        run(lambda: cuda.syncwarp())


def test_who_does_not_wait_reads_what_is_not_there_yet():
    with pytest.raises(AssertionError, match="thread 0 of block 0 but was never written"):
        run(lambda: None)


@pytest.mark.parametrize("shape, inside, outside", [(3, 2, (3, -1, (0, 0))), ((2, 3), (1, 2), ((1, 3), (-1, 0), 1))])
def test_a_threads_own_array(shape, inside, outside):
    """Is of its dtype, whatever is written to it, and as strict as the others."""

    @kernel
    def take(out, index, writes):
        own = cuda.local.array(shape, numba.float32)
        if writes:
            own[index] = np.float64(0.1)
        out[0] = own[index]

    def run(*arguments):
        out = np.zeros(1)
        simt.Machine([sys.modules[__name__]]).run(take, 1, 1, (out, *arguments))
        return out[0]

    assert run(inside, True) == np.float32(0.1)
    with pytest.raises(AssertionError, match=r"local array\[.*\] is read by thread 0 .* but was never written"):
        run(inside, False)
    for index in outside:
        for writes in (False, True):
            with pytest.raises(IndexError, match=r"local array\[.*\] of \d elements, by thread 0 of block 0"):
                run(index, writes)


def test_what_nobody_wrote():
    with pytest.raises(AssertionError, match=r"shared array of line \d+\[0\] is read by thread 63"):
        run(lambda: cuda.syncthreads(), first=1)


def one_thread(body, *arrays):
    @kernel
    def call(*given):
        if cuda.threadIdx.x == 0:
            body(*given)

    simt.Machine([sys.modules[__name__]]).run(call, 1, N, arrays, [f"array {i}" for i in range(len(arrays))])


@pytest.mark.parametrize("index", [(0, 3), (2, 0), (-1, 0), (0, -1), 5])
def test_no_index_leaves_an_array(index):
    def body(array):
        array[index] = 1

    array = np.zeros((2, 3))
    with pytest.raises(IndexError, match="array 0"):
        one_thread(body, array)
    assert not array.any()


@pytest.mark.parametrize("at", [2, 8, -4])
def test_four_at_a_time_are_all_in_an_array_and_begin_at_a_fourth(at):
    with pytest.raises(AssertionError, match="is read 4 at a time"):
        one_thread(lambda array: simt.load4(array, at), np.zeros(8))
    with pytest.raises(AssertionError, match="is written four at a time"):
        one_thread(lambda array: simt.store4(array, at, 1, 2, 3, 4), np.zeros(8))


def test_part_of_a_vector_is_the_vector():
    def body(array):
        part = simt.matrix(array, 2, 3, 2)
        part[1, 0] = 7
        part[2, 1] = part[1, 0] + 1
        for index in ((1, 2), (1,), 1):
            with pytest.raises(IndexError):
                part[index] = 9
        with pytest.raises(IndexError):
            array[0, 1] = 9

    array = np.zeros(10)
    one_thread(body, array)
    np.testing.assert_array_equal(array, [0, 0, 0, 0, 7, 0, 0, 8, 0, 0])


def test_two_blocks_that_only_meet_among_themselves():
    @kernel
    def meet(array):
        if cuda.threadIdx.x == 0:
            array[cuda.blockIdx.x] = 1
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            array[1 - cuda.blockIdx.x]

    with pytest.raises(simt.Race, match="array"):
        simt.Machine([sys.modules[__name__]]).run(meet, 2, N, (np.zeros(2),), ("array",))


@pytest.mark.parametrize("bits", [0x3F800FFF, 0x3F801000, 0x3F801001, 0x7F7FFFFF, 0x80000001, 0x7F800000, 0xFFC00001])
def test_one_number_is_rounded_as_many(bits):
    v = np.uint32(bits).view(np.float32)
    np.testing.assert_array_equal(tensor_cores.round_tf32(v), tensor_cores.rounded(v, 13)[()])
