import ctypes

import numpy as np
import pytest
from checks import assert_matches

import fastmlp as fm
from fastmlp._common.group import Group, is_power_of_two, tree_sum

from .launch import ThreadGroup, on_threads


def by_brackets(parts):
    """The same sum, written out for up to 4 arrays."""
    a, b, c, d = [*parts, None, None, None][:4]
    return {1: lambda: a, 2: lambda: a + b, 3: lambda: (a + c) + b, 4: lambda: (a + b) + (c + d)}[len(parts)]()


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_tree_sum(ranks):
    parts = [np.random.default_rng(rank).standard_normal(100).astype(np.float32) * 10**rank for rank in range(ranks)]
    ref, comp = by_brackets(parts), tree_sum(parts)
    assert ref.tobytes() == comp.tobytes()
    if ranks > 2:
        assert sum(parts[1:], parts[0]).tobytes() != comp.tobytes()  # a chain has other bits


def test_group_of_one():
    group, values = Group(), np.arange(3.0)
    group.sum(values)
    assert_matches(np.arange(3.0), values)
    assert (group.rank, group.size, group.reducer(np.float32)) == (0, 1, 0)
    assert group.share({"a": [1, None]}) == {"a": [1, None]}


def test_reducer_adds_what_is_at_its_addresses():
    def work(group):
        flat, slot = np.full(6, group.rank + 1.0, np.float32), np.full(1, 10.0 * group.rank)
        kind = ctypes.CFUNCTYPE(None, *4 * (ctypes.c_void_p,), *3 * (ctypes.c_int64,))
        kind(group.reducer(np.float32))(flat.ctypes.data, None, None, None, 2, 3, slot.ctypes.data)
        return flat.tolist(), slot.tolist(), group.sums

    results, errors = on_threads(2, work)
    assert not errors
    assert results == [([1, 1, 3, 3, 3, 1], [10], 1), ([2, 2, 3, 3, 3, 2], [10], 1)]


def test_exception_in_the_reducer_is_kept(monkeypatch):
    group, slot = ThreadGroup(0, type("Meeting", (), {"given": [0, 0]})()), np.zeros(1)
    monkeypatch.setattr(group, "_all", lambda value: (_ for _ in ()).throw(KeyboardInterrupt))
    kind = ctypes.CFUNCTYPE(None, *4 * (ctypes.c_void_p,), *3 * (ctypes.c_int64,))
    kind(group.reducer(np.float64))(np.zeros(2).ctypes.data, None, None, None, 0, 2, slot.ctypes.data)
    assert isinstance(group.failure, KeyboardInterrupt) and np.isnan(slot[0])


def test_powers_of_two():
    assert [number for number in range(-1, 20) if is_power_of_two(number)] == [1, 2, 4, 8, 16]


def test_names():
    assert fm.distributed.Group is Group
    assert {"Group", "mpi"} <= set(dir(fm.distributed))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fm.distributed.nothing  # noqa: B018
