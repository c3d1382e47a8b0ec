"""What a persistent kernel is compiled for."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Spec"]


class Spec(NamedTuple):
    """What a kernel is compiled for.

    ``loss`` is the name of a loss; one of classes is ``from_logits`` or not, its targets ``by_index`` or not;
    ``kinds`` are the activations; ``rule`` the optimizer's formula; ``jobs`` those that not every net has, by their
    kinds; ``wide`` whether any tile is; ``precision`` that of the products; ``beside`` how many blocks share a
    multiprocessor; ``async_copy`` whether the GPU copies to shared memory while a block goes on; ``augments`` whether
    rows are changed at random; ``columns`` the functions by column.
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
    beside: int
    async_copy: bool
    augments: bool
    columns: tuple[str, ...] = ()
