"""Gather of an augmented batch: random flips, mixtures and noise, row by row.

`training.augmentation` defines the operation in NumPy for whole batches. Here, each row is first read to scratch and
augmented in the units of the data set, then normalized and written to its panels. Each thread uses only the scratch of
its first row.
"""

from __future__ import annotations

import functools

import numpy as np

from ..._common import arithmetic
from ..._common.philox import FLIP as FLIP_WORDS
from ..._common.philox import NOISE as NOISE_WORDS
from .arithmetic import ceil_div
from .jit import carray, function_pointer, inline
from .native import integers_at, reals_at
from .operations import ALL, POINTERS, mixing, read_ahead
from .panels import offset_of
from .random import WORDS, normal_pair, philox_words, random_words
from .simd import element, keep_first, lanes, load, load_as, reverse, set_element, store
from .table import (
    BOUNDS,
    CAPACITY,
    COUNTS,
    FLIP,
    KEY,
    MEAN,
    NOISE,
    ORDER,
    OUT,
    PIXEL,
    PIXELS,
    SCALE,
    SCRATCH,
    SHARES,
    SOURCE,
    SOURCE_ROW,
    Y,
)  # fmt: skip

__all__ = ["gather_augmented", "row_room", "scratch"]


def row_room(width):
    """Return the elements of a row in scratch, rounded up to whole blocks of random words."""
    return arithmetic.ceil_div(width, WORDS) * WORDS


def scratch(width):
    """Return the elements of scratch for a row, its mixing partner and a block of random words."""
    return 2 * row_room(width) + WORDS


@inline
def _turn_line(data, at, line, pixel, work, to):
    """Copy a line of an image with its pixels in reverse order."""
    unit = lanes(work)
    if pixel == 1 and line >= unit:
        for c in range(0, line - unit, unit):
            store(work, to + c, reverse(load_as(data, at + line - unit - c, work)))
        store(work, to + line - unit, reverse(load_as(data, at, work)))
        return
    source = at + line - pixel
    target = to
    while target < to + line:
        for i in range(pixel):
            set_element(work, target + i, element(data, source + i))
        source -= pixel
        target += pixel


@inline
def _fetch(data, at, width, table, r, step, work, to):
    """Set work[to ..] = data[at .. at + width] in work's dtype, flipped if the row's random word is below FLIP."""
    turned = False
    if table[FLIP] > 0:
        words = philox_words(
            np.uint64(0), np.uint64(r), np.uint64(step), np.uint64(FLIP_WORDS << 24), np.uint64(table[KEY]),
            np.uint64(table[KEY + 1]),
        )  # fmt: skip
        turned = words[0] < np.uint64(table[FLIP])
    unit = lanes(work)
    if turned:
        line = table[PIXELS] * table[PIXEL]
        start = 0
        while start < width:
            _turn_line(data, at + start, line, table[PIXEL], work, to + start)
            start += line
    else:
        whole = width - width % unit
        for c in range(0, whole, unit):
            store(work, to + c, load_as(data, at + c, work))
        for c in range(whole, width):  # memory after the row's end may not be readable
            set_element(work, to + c, element(data, at + c))


@inline
def _add_noise(work, at, width, deviations, words, table, r, step):
    """Add deviations z to work[at .. at + width], with z as in `philox.normals`."""
    unit, half = lanes(work), WORDS // 2
    for block in range(0, width, WORDS):
        random_words(work, words, block // 4, r, step, NOISE_WORDS << 24, table[KEY], table[KEY + 1])
        for i in range(0, min(half, width - block), unit):
            first, second = normal_pair(work, words + i)
            c = block + i
            store(work, at + c, load(work, at + c) + load(deviations, c) * first)
            if c + half < width:
                store(work, at + c + half, load(work, at + c + half) + load(deviations, c + half) * second)


@functools.cache
def gather_augmented(source):
    """Return a function like `operations.gather`'s that flips, mixes and adds noise as the table specifies."""
    pointer_of = POINTERS[source]

    @function_pointer.made_with(source)
    def gather_rows(work_p, weights_p, table_p, numbers_p, first, last, extra):
        work, weights, table = carray(work_p, ALL), carray(weights_p, ALL), carray(table_p, ALL)
        order, bounds = carray(integers_at(table[ORDER]), ALL), carray(integers_at(table[BOUNDS]), ALL)
        data = carray(pointer_of(table[SOURCE]), ALL)
        deviations = carray(reals_at(table[NOISE], work_p), ALL)
        width, rows, row, unit = table[OUT], table[CAPACITY], table[SOURCE_ROW], lanes(work)
        mean, scale, batch, n = table[MEAN], table[SCALE], bounds[extra], bounds[extra + 1] - bounds[extra]
        room = ceil_div(width, WORDS) * WORDS
        at = table[SCRATCH] + first * (2 * room + WORDS)
        step = carray(integers_at(table[COUNTS]), ALL)[extra] & 0xFFFFFFFF
        read_ahead(data, table, order, bounds, first, last, extra)
        for r in range(first, last):
            _fetch(data, order[batch + r] * row, width, table, r, step, work, at)
            if table[SHARES] != 0:
                share, other = mixing(table, extra, n, r)
                _fetch(data, order[batch + other] * row, width, table, other, step, work, at + room)
                rest = work.dtype.type(1 - share)
                for c in range(at, at + width, unit):
                    store(work, c, load(work, c) * work.dtype.type(share) + load(work, c + room) * rest)
            if table[NOISE] != 0:
                _add_noise(work, at, width, deviations, at + 2 * room, table, r, step)
            for c in range(0, width, unit):
                v = load(work, at + c)
                if mean >= 0:
                    v = v - load(weights, mean + c)
                if scale >= 0:
                    v = v / keep_first(load(weights, scale + c), width - c, 1.0)
                store(work, offset_of(work, table[Y], rows, width, r, c), keep_first(v, width - c, 0.0))

    return gather_rows
