"""Tensor-core operations on NumPy arrays, for `simt`."""

from __future__ import annotations

import math
import struct

import numpy as np

WARP = 32


def rounded(x, bits):
    """Round off the lowest ``bits`` of the mantissas of float32 numbers, ties away from zero."""
    words = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    near = ((words + (1 << bits >> 1)) >> bits << bits).astype(np.uint32).view(np.float32)
    return np.where(np.isfinite(x), near, x).astype(np.float32)


def toward_zero(x):
    """Truncate float64 numbers to float32, as tensor cores do with sums."""
    near = x.astype(np.float32)
    return np.where(np.abs(near.astype(np.float64)) > np.abs(x), np.nextafter(near, np.float32(0)), near)


def round_tf32(v):
    """Apply `rounded` to a single number."""
    if not math.isfinite(v):
        return np.float32(v)
    (word,) = struct.unpack("I", struct.pack("f", v))
    return np.uint32(word + 0x1000 >> 13 << 13).view(np.float32)


def pack_bf16(low, high):
    """Round two float32 numbers to bf16 (nearest, ties to even) and pack them."""
    halves = []
    for v, word in zip((low, high), struct.unpack("2I", struct.pack("2f", low, high)), strict=True):
        if math.isfinite(v):
            word += 0x7FFF + (word >> 16 & 1)
        halves.append(0x7FFF if math.isnan(v) else word >> 16)
    return np.uint32(halves[0] | halves[1] << 16)


def low_bf16(word):
    return np.uint32(int(word) << 16 & 0xFFFF0000).view(np.float32)


def high_bf16(word):
    return np.uint32(int(word) & 0xFFFF0000).view(np.float32)


def of_warp(threads):
    """Compute an `mma.sync` for the 32 threads of a warp, by the fragment layouts of the PTX ISA."""
    kinds = {thread.operands[0] for thread in threads}
    assert len(threads) == WARP and len(kinds) == 1, "not all threads of a warp multiply"
    kind = kinds.pop()
    words = 1 if kind == "tf32" else 2
    steps = 8 * words
    given = [thread.operands[1] for thread in sorted(threads, key=lambda thread: thread.number)]
    factors, sums = _elements(kind, [numbers[:6] for numbers in given]), np.array([numbers[6:] for numbers in given])
    g, t = np.divmod(np.arange(WARP), 4)
    left, right, result = np.zeros((16, steps)), np.zeros((steps, 8)), np.zeros((16, 8))
    row, column = (g[:, None] + [0, 0, 8, 8], 2 * t[:, None] + [0, 1, 0, 1])
    result[row, column] = sums
    inner = words * t[:, None] + np.arange(words)
    for i in range(4):
        left[g[:, None] + 8 * (i % 2), inner + steps // 2 * (i // 2)] = factors[:, i]
    for i in range(2):
        right[inner + steps // 2 * i, g[:, None]] = factors[:, 4 + i]
    with np.errstate(all="ignore"):
        result = toward_zero(left @ right + result)[row, column]
    for thread in threads:
        thread.product = tuple(result[thread.number % WARP])


def _elements(kind, words):
    """Unpack words (32, 6) to numbers (32, 6, 1 or 2)."""
    if kind == "tf32":
        found = np.array(words, np.float32)
        assert ((rounded(found, 13) == found) | ~np.isfinite(found)).all(), "a factor is no tf32"
        return found[..., None]
    words = np.array(words, np.uint32)
    return np.stack([words << 16, words & 0xFFFF0000], axis=-1).view(np.float32)
