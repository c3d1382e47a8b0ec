"""Orders of the rows: windows against a plain definition, and the choice of an order."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from fastmlp._common import mapped
from fastmlp._common.mapped import MappedFiles
from fastmlp._common.philox import BLOCKS, derive_seed, shuffle_order, shuffle_ranges
from fastmlp.training.batches import BatchSampler
from fastmlp.training.row_order import WINDOW, RowOrder, WindowedOrder, choose_order


def plain_order(seed, epoch, rows, block):
    """What `WindowedOrder` means: the full shuffle, stably sorted by the numbers of the windows."""
    blocks = shuffle_order(derive_seed(seed, BLOCKS, 0), epoch, -(-rows // block))
    window_of_block = np.empty(len(blocks), int)
    window_of_block[blocks] = np.arange(len(blocks)) // WINDOW
    full = shuffle_order(seed, epoch, rows)
    return full[np.argsort(window_of_block[full // block], kind="stable")]


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 63, 64, 65, 129, 1000])
@pytest.mark.parametrize("block", [1, 2, 8, 16, 1024])
def test_windows(rows, block):
    for seed, epoch in ((0, 0), (2**64 - 1, 3)):
        ref, order = plain_order(seed, epoch, rows, block), WindowedOrder(seed, epoch, rows, block)
        assert order[0:rows].dtype == np.int64 and np.array_equal(ref, order[0:rows])
        assert np.array_equal(np.sort(ref), np.arange(rows))
        for start, stop in ((0, 1), (rows // 3, rows), (rows // 2, rows // 2 + 3), (rows, rows), (rows - 1, rows + 5)):
            assert np.array_equal(ref[start:stop], order[start:stop]), (start, stop)


def test_large_blocks():
    """Of more rows than the drawing of the keys handles at once."""
    ref = plain_order(5, 1, 300_000, 16384)
    assert np.array_equal(ref, WindowedOrder(5, 1, 300_000, 16384)[0:300_000])


@pytest.mark.parametrize("rows", [1, 100, 1024])
def test_one_window_is_a_full_shuffle(rows):
    assert np.array_equal(shuffle_order(9, 2, rows), WindowedOrder(9, 2, rows, 16)[0:rows])


def test_an_order_depends_on_seed_and_epoch():
    orders = [WindowedOrder(seed, epoch, 500, 8)[0:500].tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert len({tuple(order) for order in orders}) == 3


def test_blocks_stay_in_their_window():
    """A window has the rows of 64 blocks, so that a disk reads megabytes at once."""
    order, size = WindowedOrder(1, 0, 1000, 4)[0:1000], 4 * WINDOW
    for start in range(0, 1000 - size, size):
        assert len(np.unique(order[start : start + size] // 4)) == WINDOW


def test_ranges_of_rows_that_share_the_upper_word():
    """Some pairs of half a million rows do."""
    rows, half = 1 << 19, 1 << 18
    ref = shuffle_order(3, 5, rows)
    assert np.array_equal(ref[ref >= half], shuffle_ranges(3, 5, [(half, rows)]))
    assert np.array_equal(ref, shuffle_ranges(3, 5, [(0, half), (half, rows)]))


def test_rows_beyond_32_bits():
    first = 1 << 33
    comp = shuffle_ranges(0, 0, [(first, first + 16)])
    assert np.array_equal(np.sort(comp), first + np.arange(16))
    assert not np.array_equal(comp - first, shuffle_ranges(0, 0, [(0, 16)]))


def test_windows_are_announced():
    """A window and the next one, before the rows of the first are used."""
    calls = []
    order = WindowedOrder(0, 0, 999, 4, lambda first, last: calls.append((first, last)))
    order[0:10]
    assert len(calls) == 2 * WINDOW
    order[10:200]
    assert len(calls) == 2 * WINDOW
    rest = order[4 * WINDOW : 999]
    assert set(rest) <= {row for first, last in calls[WINDOW:] for row in range(first, last)}
    assert all(0 <= first < last <= 999 for first, last in calls)
    copy = pickle.loads(pickle.dumps(order))
    assert np.array_equal(copy[0:999], order[0:999])


# --------------------------------------------------------------------------------------- sampler


@pytest.mark.parametrize("used", [100, 97])
def test_batches_of_an_order_in_windows(used):
    """The batches of some epochs, taken in pieces, drawn ahead, and after a copy."""
    ref = np.concatenate([plain_order(7, epoch, 100, 1)[:used] for epoch in range(3)])
    for ahead in (False, True):
        sampler, taken = BatchSampler(), []
        sampler.start(7, 100, used, 1)
        for steps in (1, 5, 2, 9):
            taken.append(sampler.take(10, steps, ahead)[0])
            sampler = pickle.loads(pickle.dumps(sampler))
        sampler.peek(10, 20)
        assert np.array_equal(ref[: sum(map(len, taken))], np.concatenate(taken))
        rest, _ = sampler.take(10, 13)
        assert np.array_equal(ref, np.concatenate([*taken, rest]))


def test_another_block_begins_an_epoch():
    sampler = BatchSampler()
    sampler.start(7, 100, 100, 2)
    sampler.take(10, 3)
    sampler.start(7, 100, 100, 2)
    assert sampler.position == (0, 30)
    sampler.start(7, 100, 100, 1)
    assert np.array_equal(sampler.take(100, 1)[0], plain_order(7, 1, 100, 1))
    sampler.start(7, 100, 100)
    assert np.array_equal(sampler.take(100, 1)[0], shuffle_order(7, 2, 100))


def test_places_of_samplers():
    ref, comp = BatchSampler(), BatchSampler()
    ref.start(7, 100, 100, 1)
    ref.take(10, 3)
    comp.place = ref.place
    assert np.array_equal(ref.take(10, 20)[0], comp.take(10, 20)[0])
    comp.place = (7, 100, 100, (0, 30))  # of earlier versions
    assert np.array_equal(comp.take(70, 1)[0], shuffle_order(7, 0, 100)[30:])


# ---------------------------------------------------------------------------------------- choice


IN_MEMORY = MappedFiles([])


@pytest.fixture
def in_a_file(tmp_path, monkeypatch):
    """Makes mapped files of 4 GiB beside some bytes of free memory."""
    path = tmp_path / "x"
    with path.open("wb") as stream:
        stream.truncate(4 << 30)  # takes no space on the disk

    def made(free):
        monkeypatch.setattr(mapped, "available_memory", lambda: free)
        return MappedFiles([np.memmap(path, np.float32, "r")])

    return made


@pytest.mark.parametrize("yes", [True, np.True_])
def test_true_depends_on_the_memory(in_a_file, yes):
    assert choose_order(yes, IN_MEMORY, 784) == RowOrder("full")
    assert choose_order(yes, in_a_file(4 << 30), 784) == RowOrder("full")
    order = choose_order(yes, in_a_file(300 << 20), 784)
    reason = "4.0 GiB in mapped files, 300 MiB of memory free"
    assert order == RowOrder("windows", 512, reason)
    assert str(order) == f"windows of 64 blocks of 512 rows ({reason})"
    assert choose_order(yes, in_a_file(None), 784).reason == "4.0 GiB in mapped files, an unknown amount of memory free"


@pytest.mark.parametrize("saved", ["full", "windows"])
def test_a_resumed_fit_keeps_its_order(in_a_file, saved):
    assert choose_order(True, in_a_file(1 << 20), 784, saved).kind == saved
    assert choose_order(True, IN_MEMORY, 784, saved).kind == saved


def test_a_fit_that_was_not_shuffled_is_another_one():
    assert choose_order(True, IN_MEMORY, 784, "none").kind == "full"


def test_a_given_order(in_a_file):
    for files in (IN_MEMORY, in_a_file(1 << 20)):
        for saved in (None, "full", "windows", "none"):
            assert choose_order("full", files, 784, saved) == RowOrder("full")
            assert choose_order("windows", files, 784, saved) == RowOrder("windows", 512)
            assert choose_order(False, files, 784, saved) == RowOrder("none")
    assert [str(choose_order(given, IN_MEMORY, 784)) for given in ("full", False)] == [
        "all rows shuffled", "not shuffled"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "width, block", [(1, 1 << 19), (2, 1 << 18), (3, 1 << 17), (784, 512), (1 << 19, 1), (1 << 20, 1)]
)
def test_rows_of_a_block(width, block):
    assert choose_order("windows", IN_MEMORY, width).block == block


@pytest.mark.parametrize("bad", ["window", "none", "True", None, 2, 1.0, ["full"], np.array([True, False])])
def test_bad_values(bad):
    with pytest.raises(ValueError, match="shuffle is .*; expected True, False, 'full' or 'windows'"):
        choose_order(bad, IN_MEMORY, 784)
