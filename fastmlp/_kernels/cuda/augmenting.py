"""Gathering of a batch's features with augmentation: horizontal flips, mixing of rows and Gaussian noise.

`training.augmentation` is the reference in NumPy. Random numbers are drawn by portion of a step's rows: each of the
``accumulate`` batches of a step has its own random numbers, as if the batches passed through the model one by one.
"""

from __future__ import annotations

import functools

import numba
import numpy as np

from ..._common.philox import FLIP, NOISE
from .jit import device
from .random import normal, random_words
from .runtime import cuda
from .table import FIRST_STEP, GATHER_MEAN, GATHER_SCALE, IN, KEY, PIXEL, PIXELS, PORTION, PORTIONS, TURN
from .tiles import U, quotient

__all__ = ["augmenting", "counters_of", "mixing"]


@device
def counters_of(on, s, r):
    """Return the random counters of row ``r`` of a step: (row within its portion, number of the portion in the run)."""
    portion = quotient(r, on.run_params[PORTION])
    count = (on.run_params[FIRST_STEP] + s) * on.run_params[PORTIONS] + portion
    return np.uint64(r - portion * on.run_params[PORTION]), np.uint64(count & 0xFFFFFFFF)


@device
def mixing(on, s, rows, r):
    """Return (share of row ``r``, row to mix it with) for a step of ``rows`` rows."""
    size = on.run_params[PORTION]
    portion = quotient(r, size)
    at = U(s * on.run_params[PORTIONS] + portion)
    other, end = r + on.shifts[at], min(rows, (portion + 1) * size)
    return on.shares[at], other - (end - portion * size) if other >= end else other


@functools.cache
def augmenting(dtype, geometry):
    """Return the device function of `gathering.gathering` with augmentation."""
    TILE, THREADS = geometry.tile, geometry.threads
    FOUR = 4  # columns per thread, equal to the words of a counter
    IN_ROW = TILE // FOUR
    T, scalar = np.dtype(dtype).type, numba.from_dtype(np.dtype(dtype))
    one = T(1)
    of_flip, of_noise, zero = np.uint64(FLIP << 24), np.uint64(NOISE << 24), np.uint64(0)
    assert TILE % FOUR == 0 and THREADS % IN_ROW == 0
    number = normal(dtype)

    @device
    def fetch(on, into, first, s, r, c, width):
        """Load columns c .. c + 4 of row ``r``, clamped to the width, flipped if the row's random word says so."""
        turned = False
        if on.run_params[TURN] > 0:
            line, count = counters_of(on, s, r)
            word, _, _, _ = random_words(zero, line, count, of_flip, np.uint64(on.run_params[KEY]))
            turned = word < np.uint64(on.run_params[TURN])
        source, pixels, pixel = on.order[U(first + r)], on.run_params[PIXELS], on.run_params[PIXEL]
        for q in range(FOUR):
            k = min(c + q, width - 1)
            if turned:  # mirror the pixel within its line
                place = quotient(k, pixel)
                within = place - quotient(place, pixels) * pixels
                k += (pixels - 1 - 2 * within) * pixel
            into[q] = T(on.data[U(source), U(k)])

    @device
    def add_noise(on, into, s, r, c, width):
        """Add the noise of `philox.normals`: columns k and k + 16 of 32 share the words k and k + 16."""
        line, count = counters_of(on, s, r)
        block, within = c // 32, c % 32
        at = 8 * block + within % 16 // 4
        seed = np.uint64(on.run_params[KEY])
        a, b, d, e = random_words(np.uint64(at), line, count, of_noise, seed)
        f, g, h, i = random_words(np.uint64(at + 4), line, count, of_noise, seed)
        for q in range(FOUR):
            of_radius = a if q == 0 else b if q == 1 else d if q == 2 else e
            of_angle = f if q == 0 else g if q == 1 else h if q == 2 else i
            deviation = on.deviations[U(min(c + q, width - 1))]
            into[q] = into[q] + deviation * number(of_radius, of_angle, within >= 16)

    @device
    def run(on, s, first, rows, x, row, column):
        values, others = cuda.local.array(FOUR, scalar), cuda.local.array(FOUR, scalar)
        thread, width, mean, scale = cuda.threadIdx.x, on.ops[0, IN], on.ops[0, GATHER_MEAN], on.ops[0, GATHER_SCALE]
        c = column + thread % IN_ROW * FOUR
        last = min(rows, row + TILE) if c < width else 0
        for r in range(row + thread // IN_ROW, last, THREADS // IN_ROW):
            fetch(on, values, first, s, r, c, width)
            if on.shares.size > 0:
                share, other = mixing(on, s, rows, r)
                fetch(on, others, first, s, other, c, width)
                for q in range(FOUR):
                    values[q] = share * values[q] + (one - share) * others[q]
            if on.deviations.size > 0:
                add_noise(on, values, s, r, c, width)
            for q in range(FOUR):
                if c + q < width:
                    v = values[q]
                    if mean >= 0:
                        v = v - on.weights[U(mean + c + q)]
                    if scale >= 0:
                        v = v * on.weights[U(scale + c + q)]
                    on.work[U(x + r * width + c + q)] = v

    return run
