"""BatchSampler: orders drawn on demand or in advance by other threads."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from fastmlp._common.philox import LargeOrder, shuffle_order
from fastmlp.training import batches
from fastmlp.training.batches import BatchSampler


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_drawn_ahead_it_is_the_same(rows):
    found = []
    for ahead in (False, True):
        order = BatchSampler()
        order.start(42, rows, rows)
        taken = [order.take(3, steps, ahead) for steps in (1, 5, 2, 40)]
        order.start(43, rows, rows)  # orders drawn ahead for the other seed must be discarded
        taken += [order.take(4, 30, ahead), pickle.loads(pickle.dumps(order)).take(4, 30, ahead)]
        found.append(taken)
    for (ref, ref_bounds), (comp, bounds) in zip(*found, strict=True):
        assert comp.dtype == ref.dtype and np.array_equal(ref, comp) and np.array_equal(ref_bounds, bounds)


def test_going_back_to_an_epoch():
    """As after a divergence, whose epochs are made again."""
    ref, comp = BatchSampler(), BatchSampler()
    for order, ahead in ((ref, False), (comp, True)):
        order.start(1, 10, 10)
        order.take(10, 5, ahead)
        order.position = (1, 4)
    assert np.array_equal(ref.take(5, 6)[0], comp.take(5, 6, True)[0])


@pytest.mark.parametrize("first", [2, 7])
def test_what_comes_next_is_what_comes(first):
    """Whatever was asked for before; and asking changes nothing."""
    asked, plain = BatchSampler(), BatchSampler()
    for order in (asked, plain):
        order.start(3, 20, 20)
        order.take(3, first)
    position = asked.position
    seen, bounds = asked.peek(3, 9)
    assert asked.position == position and len(bounds) == 10
    assert pickle.loads(pickle.dumps(asked)).position == position
    index, taken = asked.take(3, 5, True, 9)
    assert index is seen and taken is bounds
    for one, other in zip((index, taken), plain.take(3, 9), strict=True):
        np.testing.assert_array_equal(one, other)
    assert asked.position == plain.position


@pytest.mark.parametrize("change", ["fewer steps", "another size", "another seed", "elsewhere"])
def test_what_comes_next_is_found_anew_after_a_change(change):
    asked, plain = BatchSampler(), BatchSampler()
    for order in (asked, plain):
        order.start(3, 20, 20)
    asked.peek(3, 9)
    for order in (asked, plain):
        if change == "another seed":
            order.start(4, 20, 20)
        elif change == "elsewhere":
            order.position = (1, 6)
    size, most = 4 if change == "another size" else 3, 8 if change == "fewer steps" else 9
    np.testing.assert_array_equal(asked.take(size, 5, True, most)[0], plain.take(size, 5)[0])
    np.testing.assert_array_equal(asked.take(size, 5)[0], plain.take(size, 5)[0])


def test_without_compiled_kernels_numpy_draws_the_order(monkeypatch):
    monkeypatch.setattr(batches, "has_native", lambda: False)
    assert batches._drawer.__wrapped__() is shuffle_order


@pytest.mark.parametrize("rows", [1, 5, 1500])
def test_a_whole_epoch_is_that_of_its_batches(rows):
    ref, comp = BatchSampler(), BatchSampler()
    for seed, count in ((3, rows), (3, rows), (3, rows + 1), (None, rows), (3, rows)):
        for sampler in (ref, comp):
            sampler.start(seed, count, count)
        np.testing.assert_array_equal(comp.take_epoch(), ref.take(2, (count + 1) // 2)[0])
        assert comp.place == ref.place
    if rows > 3:
        comp.take(2, 1)
        before = comp.place
        assert comp.take_epoch() is None and comp.place == before


@pytest.mark.parametrize("rows", [1, 2, 63, 500, 5000])
def test_an_order_of_many_rows_is_the_same(monkeypatch, rows):
    monkeypatch.setattr(LargeOrder, "PART", 64)
    monkeypatch.setattr(LargeOrder, "BLOCK", 512)
    ref, comp = shuffle_order(5, 2, rows), LargeOrder(5, 2, rows)
    for start, stop in ((0, rows), (rows // 3, rows // 2), (rows, rows), (0, 1)):
        np.testing.assert_array_equal(ref[start:stop], comp[start:stop], strict=True)


@pytest.mark.parametrize("seed", [3, None])
def test_batches_of_many_rows_are_the_same(monkeypatch, seed):
    ref, comp = BatchSampler(), BatchSampler()
    ref.start(seed, 100, 100)
    refs = [ref.take(7, 20) for _ in range(3)]
    monkeypatch.setattr(batches, "_LARGE", 10)
    monkeypatch.setattr(LargeOrder, "PART", 32)
    comp.start(seed, 100, 100)
    assert comp.take_epoch() is None
    for pair in refs:
        for one, other in zip(pair, comp.take(7, 20), strict=True):
            np.testing.assert_array_equal(one, other, strict=True)
        comp = pickle.loads(pickle.dumps(comp))
