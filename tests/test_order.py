"""The order in which training takes rows, drawn when it is needed or ahead by other threads."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from fastmlp.batches import Order


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_drawn_ahead_it_is_the_same(rows):
    found = []
    for ahead in (False, True):
        order = Order()
        order.start(42, rows, rows)
        taken = [order.take(3, steps, ahead) for steps in (1, 5, 2, 40)]
        order.start(43, rows, rows)  # what was drawn for the other seed is of no use
        taken += [order.take(4, 30, ahead), pickle.loads(pickle.dumps(order)).take(4, 30, ahead)]
        found.append(taken)
    for (ref, ref_bounds), (comp, bounds) in zip(*found, strict=True):
        assert comp.dtype == ref.dtype and np.array_equal(ref, comp) and np.array_equal(ref_bounds, bounds)


def test_going_back_to_an_epoch():
    """As after a divergence, whose epochs are made again."""
    ref, comp = Order(), Order()
    for order, ahead in ((ref, False), (comp, True)):
        order.start(1, 10, 10)
        order.take(10, 5, ahead)
        order.position = (1, 4)
    assert np.array_equal(ref.take(5, 6)[0], comp.take(5, 6, True)[0])
