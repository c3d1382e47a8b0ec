"""Splits: deterministic, stratified, and never empty."""

from __future__ import annotations

import numpy as np
import pytest
from checks import assert_matches
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp._common.errors import DataError
from fastmlp.datasets import split
from fastmlp.datasets.split import split_rows


def test_a_seed_gives_the_same_rows_for_ever():
    train, test = split_rows(10, 0.3, 0)
    assert test.tolist() == [1, 2, 3]
    assert train.tolist() == [0, 4, 5, 6, 7, 8, 9]
    assert split_rows(10, 0.3, 1)[1].tolist() != test.tolist()


@settings(deadline=None, derandomize=True, database=None, max_examples=150)
@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=60),
    size=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**64),
    stratified=st.booleans(),
)
def test_parts_are_disjoint_and_complete(labels, size, seed, stratified):
    _, codes = np.unique(labels, return_inverse=True)
    train, test = split_rows(len(codes), size, seed, codes if stratified else None)
    assert sorted([*train, *test]) == list(range(len(codes)))
    if stratified:
        assert set(codes[train]) == set(codes)
        most = len(codes) - len(set(codes))
        assert len(test) == min(max(1, int(np.ceil(len(codes) * size - 1e-9))), most, len(codes) - 1)
    else:
        assert len(train) and len(test)


@pytest.mark.parametrize("distinct", [1, 3, 10**9])
@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("block", [7, 1000])
def test_the_rows_of_the_smallest_keys_are_chosen(monkeypatch, distinct, classes, block):
    """Of rows with equal keys, the first ones."""
    generator = np.random.default_rng(distinct)
    keys, labels = generator.integers(0, distinct, 90).astype(np.uint64), generator.integers(0, classes, 90)
    blocks = [slice(start, min(90, start + block)) for start in range(0, 90, block)]
    monkeypatch.setattr(split, "_keys", lambda rows, seed: ((part, keys[part]) for part in blocks))
    monkeypatch.setattr(split, "_BLOCK", block)
    comp = split.draw_test_rows(90, 0.3, 0, None if classes == 1 else labels)
    ref = np.zeros(90, bool)
    for label in range(classes):
        rows = np.flatnonzero(labels == label)
        ref[rows[np.argsort(keys[rows], kind="stable")[: comp[rows].sum()]]] = True
    assert_matches(ref, comp)
    assert comp.sum() == 27


def test_each_class_gets_its_share():
    labels = np.repeat([0, 1, 2], [500, 300, 200])
    _, test = split_rows(1000, 0.25, 3, labels)
    assert np.bincount(labels[test]).tolist() == [125, 75, 50]


@pytest.mark.parametrize("size", [0, 1, 1.5, -0.1, "a", None, True, float("nan")])
def test_other_shares_are_refused(size):
    with pytest.raises(DataError, match="test_size is"):
        split_rows(10, size, 0)


@pytest.mark.parametrize("seed", [-1, 0.5, None])
def test_other_seeds_are_refused(seed):
    with pytest.raises(DataError, match="seed is"):
        split_rows(10, 0.2, seed)


def test_one_row_is_too_few():
    with pytest.raises(DataError, match="1 row"):
        split_rows(1, 0.2, 0)
