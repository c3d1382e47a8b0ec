"""Dropout with masks that are a function of (seed, layer, step, row, column)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._common.random import Rng, as_seed
from .._common.validation import Array, as_integer, as_number
from .base import Module
from .lowering import PlanBuilder
from .onnx_node import Node

__all__ = ["Dropout"]


class Dropout(Module):
    """Zero each element with probability p and scale the rest by 1 / (1 - p), in training only.

    Evaluation is the identity. The mask of a step is the same on every backend
    (Srivastava et al., JMLR 15, 2014).

    Parameters
    ----------
    p : float
        From 0 to 1.
    rng : int, numpy.random.Generator or None
        Seed of the masks, kept as ``seed``; None draws one. `Trainer.fit` sets its own seed.

    Attributes
    ----------
    layer : int
        Index of the module among the Dropouts of the outermost `Sequential`.
    step : int
        Step of the next mask; incremented by each `forward` in training.
    first_row : int
        Number of the input's first row among the rows of the mask; above 0 for a part of a batch.

    Raises
    ------
    ValueError
        If an argument is invalid.

    Examples
    --------
    >>> import fastmlp as fm
    >>> layer = fm.Dropout(0.5, rng=0)
    >>> layer.training
    True
    >>> layer.eval()([[1.0, 2.0]])
    array([[1., 2.]])
    """

    torch = "Dropout"
    passes_through = True
    first_row = 0

    def __init__(self, p: float = 0.5, *, rng: Rng = None) -> None:
        super().__init__()
        self.p = as_number(p, "p", 0, 1)
        self.seed = as_seed(rng)
        self.layer = 0
        self.step = 0
        self._frozen = False

    def set_position(self, seed: int | None = None, step: int | None = None) -> None:
        """Set the seed, the step of the next mask, or both.

        Raises
        ------
        ValueError
            If ``seed`` is not a valid seed, or ``step`` is negative.
        """
        if seed is not None:
            self.seed = as_seed(seed)
        if step is not None:
            self.step = as_integer(step, "step", 0)

    @contextlib.contextmanager
    def freeze(self) -> Iterator[None]:
        """Use the same mask for each `forward` inside the ``with`` block."""
        before, self._frozen = self._frozen, True
        try:
            yield
        finally:
            self._frozen = before

    def _compute(self, x: Array, keep: bool) -> Array:
        position = (self.seed, self.layer, self.step, self.first_row) if keep and self.training else None
        if keep:
            self._saved = (x, position)
        if position is None:
            return x
        if not self._frozen:
            self.step += 1
        return self._mask(x, position)

    def _gradient(self, dy: Array, need_dx: bool) -> Array | None:
        if not need_dx:
            return None
        assert self._saved is not None
        position = self._saved[1]
        return dy if position is None else self._mask(dy, position)

    def _mask(self, x: Array, position: tuple[int, int, int, int]) -> Array:
        *place, first = position
        if first:
            whole = np.concatenate([np.zeros((first, x.shape[1]), x.dtype), self.backend.to_numpy(x)])
            x = self.backend.from_numpy(whole)
        out: Array = self.backend.empty(x.shape, x.dtype)
        self.backend.dropout(x, self.p, *place, out)
        return out[first:]

    def lower(self, builder: PlanBuilder) -> None:
        """Append a dropout operation, whose masks depend on this module."""
        builder.dropout(self.p, self)

    def settings(self) -> tuple[Any, ...]:
        """Return the probability."""
        return (self.p,)

    def onnx_nodes(self) -> list[Node]:
        """Return no nodes: evaluation is the identity."""
        return []

    def torch_arguments(self) -> dict[str, Any]:
        """Return the probability."""
        return {"p": self.p}

    @classmethod
    def examples_of_width(cls, width: int, dtype: np.dtype[Any], rng: np.random.Generator) -> list[Module]:
        """Return a module whose probability is not the default."""
        return [cls(0.4, rng=rng)]

    def config(self) -> dict[str, Any]:
        """Return the probability and the seed."""
        return {"type": "Dropout", "p": self.p, "rng": self.seed}
