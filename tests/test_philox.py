"""Philox against published words, and the order of the rows against a plain sort."""

from __future__ import annotations

import numpy as np
import pytest

from fastmlp._common import philox
from fastmlp._common.philox import SHUFFLE, normals, philox4x32, shuffle_order
from fastmlp._kernels.cpu.shuffle import shuffle_order as compiled_order


def plain_order(seed, epoch, n):
    """What `shuffle_order` means."""
    rows = np.arange(n, dtype=np.uint64)
    high, low, _, _ = philox4x32((rows & 0xFFFFFFFF, rows >> 32, epoch, SHUFFLE << 24), seed)
    return np.argsort(high << 32 | low, kind="stable")


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    # kat_vectors of Random123, philox4x32-10.
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(counter, key, words):
    assert tuple(map(int, philox4x32(counter, key[0] | key[1] << 32))) == words


@pytest.mark.parametrize("n", [0, 1, 2, 3, 63, 1437, 8191, 8192, 8193, 16384, 50_001])
def test_the_order_is_that_of_one_sort(n):
    for seed, epoch in ((0, 0), (42, 1), (2**64 - 1, 2**32 - 1), (0x9E3779B97F4A7C15, 7)):
        ref, comp = plain_order(seed, epoch, n), shuffle_order(seed, epoch, n)
        assert np.array_equal(ref, compiled_order(seed, epoch, n))
        assert comp.dtype == np.int64 and np.array_equal(ref, comp)


def test_rows_that_share_the_upper_word():
    """Some 30 pairs of half a million rows do."""
    n = 500_000
    ref = plain_order(3, 5, n)
    upper = np.sort(philox._upper_words(3, 5, n))
    assert (upper[1:] == upper[:-1]).sum() > 5
    assert np.array_equal(ref, shuffle_order(3, 5, n)) and np.array_equal(ref, compiled_order(3, 5, n))


def test_more_rows_than_numbers_of_32_bits(monkeypatch):
    monkeypatch.setattr(philox, "shuffle_order", lambda *arguments: arguments)
    assert compiled_order(3, 5, 1 << 32) == (3, 5, 1 << 32)


def test_many_rows_that_share_the_upper_word(monkeypatch):
    """With an upper word of 6 bits all do; the order is then by it, and by the whole word within it."""
    n, seed = 3000, 11
    whole = philox._upper_words
    monkeypatch.setattr(philox, "_upper_words", lambda *args: whole(*args) >> np.uint32(26))
    rows = np.arange(n, dtype=np.uint64)
    high, low, _, _ = philox4x32((rows, 0, 2, SHUFFLE << 24), seed)
    assert np.array_equal(np.argsort(high << 32 | low, kind="stable"), shuffle_order(seed, 2, n))


def test_blocks_do_not_show(monkeypatch):
    ref = philox._upper_words(1, 2, 1000)
    for size in (16, 256, 4096):
        monkeypatch.setattr(philox, "_BLOCK", size)
        assert np.array_equal(ref, philox._upper_words(1, 2, 1000))


def test_normals_are_normal():
    """Moments, tails and correlations of 3.2 million numbers, within 5 of their standard errors."""
    n = 3_200_000
    z = normals(5, 3, 1000, 3200)
    assert z.shape == (1000, 3200) and np.abs(z).max() <= np.sqrt(48 * np.log(2)) + 1e-9
    for power, ref, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs((z**power).mean() - ref) < 5 * np.sqrt(variance / n), power
    for bound, share in ((-1, 0.15865525), (0, 0.5), (0.5, 0.69146246), (2, 0.97724987), (4, 0.99996833)):
        assert abs((z < bound).mean() - share) < 5 * np.sqrt(share * (1 - share) / n), bound
    blocks = z.reshape(1000, 100, 2, 16)  # the two numbers of a pair
    assert abs((blocks[:, :, 0] * blocks[:, :, 1]).mean()) < 5 / np.sqrt(n / 2)
    assert abs((z[:, 1:] * z[:, :-1]).mean()) < 5 / np.sqrt(n) and abs((z[1:] * z[:-1]).mean()) < 5 / np.sqrt(n)


def test_normals_depend_on_the_place_alone():
    z = normals(5, 3, 7, 70)
    assert np.array_equal(z[:3, :33], normals(5, 3, 3, 33))
    assert not np.array_equal(z, normals(5, 4, 7, 70)) and not np.array_equal(z, normals(6, 3, 7, 70))
    assert np.array_equal(z, normals(5, 3 + 2**32, 7, 70))
    assert normals(5, 3, 2, 0).shape == (2, 0)
