"""Seeds: how `rng` arguments become numbers, and which numbers a layer's weights are drawn from."""

from __future__ import annotations

import secrets

import numpy as np

from .philox import INIT, derive_seed

__all__ = ["Rng", "as_seed", "layer_generator"]

Rng = int | np.random.Generator | None


def as_seed(rng: Rng) -> int:
    """The 64-bit seed that ``rng`` stands for.

    Parameters
    ----------
    rng : int, numpy.random.Generator or None
        A seed from 0 to 2**64 - 1; a Generator, from which one is drawn; None draws one from the
        operating system (whoever calls records it, so that the run can be repeated).

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if rng is None:
        return secrets.randbits(64)
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(0, 2**64, dtype=np.uint64))
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool) and 0 <= rng < 2**64:
        return int(rng)
    raise ValueError(f"rng is {rng!r}; expected an integer from 0 to 2**64 - 1, a numpy Generator or None.")


def layer_generator(seed: int, layer: int) -> np.random.Generator:
    """The generator of one layer's first weights: a function of the seed and the layer's index alone."""
    return np.random.Generator(np.random.Philox(key=derive_seed(seed, INIT, layer)))
