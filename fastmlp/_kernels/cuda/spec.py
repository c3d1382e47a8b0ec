"""Compile-time parameters of the persistent kernel."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Spec"]


class Spec(NamedTuple):
    """Compile-time parameters of the persistent kernel.

    Attributes
    ----------
    dtype : str
        Dtype of the model.
    loss : str
        Name of the loss.
    from_logits, by_index : bool
        For a classwise loss: whether inputs are logits, and whether targets are class indices.
    kinds : tuple of str
        Names of the activations.
    rule : str
        Name of the optimizer's formula.
    jobs : tuple of int
        Kinds of the optional jobs, see `table`.
    wide : bool
        Whether any product uses wide tiles.
    precision : str
        Precision of the products.
    blocks_per_sm : int
        Number of blocks per multiprocessor.
    async_copy : bool
        Whether the GPU supports async copies to shared memory.
    augments : bool
        Whether the run augments rows.
    columns : tuple of str
        Names of the functions by column.
    """

    dtype: str
    loss: str
    from_logits: bool
    by_index: bool
    kinds: tuple[str, ...]
    rule: str
    jobs: tuple[int, ...]
    wide: bool
    precision: str
    blocks_per_sm: int
    async_copy: bool
    augments: bool
    columns: tuple[str, ...] = ()
