"""Seeds: conversion of `rng` arguments, and generators of initial weights."""

from __future__ import annotations

import secrets

import numpy as np

from .philox import INIT, derive_seed

__all__ = ["Rng", "as_seed", "layer_generator"]

Rng = int | np.random.Generator | None


def as_seed(rng: Rng) -> int:
    """Convert ``rng`` to a 64-bit seed.

    Parameters
    ----------
    rng : int, numpy.random.Generator or None
        A seed from 0 to 2**64 - 1. A Generator draws the seed. None takes a seed from the operating system; callers
        record it, so that a run can be repeated.

    Returns
    -------
    int
        From 0 to 2**64 - 1.

    Raises
    ------
    ValueError
        If ``rng`` is of another type or out of range.

    Examples
    --------
    >>> as_seed(7)
    7
    """
    if rng is None:
        return secrets.randbits(64)
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(0, 2**64, dtype=np.uint64))
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool) and 0 <= rng < 2**64:
        return int(rng)
    raise ValueError(f"rng is {rng!r}; expected an integer from 0 to 2**64 - 1, a numpy Generator or None.")


def layer_generator(seed: int, layer: int) -> np.random.Generator:
    """Return the generator of a layer's initial weights, which depends on the seed and the layer's index only."""
    return np.random.Generator(np.random.Philox(key=derive_seed(seed, INIT, layer)))
