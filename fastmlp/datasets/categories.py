"""Lookup of texts among known categories or labels, and report of unknown ones."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .._common.errors import DataError, DataWarning, warn_user

__all__ = ["UnknownValues", "find_categories", "parse_bool"]

_TRUTH = dict.fromkeys(("true", "t", "yes", "y", "on", "1", "1.0"), True) | dict.fromkeys(
    ("false", "f", "no", "n", "off", "0", "0.0"), False
)
# A column is an error if this share of its values, and at least this number, are unknown.
_NEARLY_ALL, _TOO_MANY = 0.9, 10
_SHOWN = 5


def parse_bool(text: str | None) -> bool | None:
    """Parse a boolean: true, t, yes, y, on, 1 or their opposites in any case; return None for other texts."""
    return None if text is None else _TRUTH.get(text.lower())


def find_categories(texts: Sequence[str | None], categories: Sequence[str]) -> np.ndarray:
    """Return the indices of texts in a list of categories, int64 (rows,), -1 for texts that are not in it.

    If the categories are booleans in any spelling, a text with the same truth value matches too.

    Examples
    --------
    >>> find_categories(["a", "c", None], ["a", "b"])
    array([ 0, -1, -1])
    """
    index = {category: place for place, category in enumerate(categories)}
    truths = {parse_bool(category): place for place, category in enumerate(categories)}
    booleans = len(truths) == len(categories) and None not in truths
    if booleans and (len(categories) == 2 or categories[0] in ("True", "False")):
        found = {text: index.get(text, truths.get(parse_bool(text), -1)) for text in set(texts) if text is not None}
    else:
        found = {text: index.get(text, -1) for text in set(texts) if text is not None}
    return np.fromiter((found[text] if text is not None else -1 for text in texts), np.int64, len(texts))


@dataclass
class UnknownValues:
    """Values of a table that are absent from the training data, collected by column for one warning.

    Parameters
    ----------
    source : str
        Name of the table.
    strict : bool
        Whether a column with nearly only such values is an error.
    """

    source: str
    strict: bool
    _columns: dict[str, _UnknownCells] = field(default_factory=dict, init=False)

    def add(self, label: str, name: str, texts: Sequence[str | None], known: np.ndarray, categories: list[str]) -> None:
        """Count the cells of a column, or of some rows of it, that are not ``known``."""
        column = self._columns.setdefault(name, _UnknownCells(label, categories))
        column.odd.update(texts[place] for place in np.flatnonzero(~known).tolist())
        column.rows += len(texts)
        column.cells += len(texts) - texts.count(None)

    def report(self) -> None:
        """Warn once about all unknown values of the table.

        Raises
        ------
        DataError
            If ``strict`` and nearly all cells of a column are unknown.
        """
        found = [text for name, column in self._columns.items() if (text := column.describe(name, self.strict))]
        if found:
            shown = _join_examples(found[:_SHOWN], len(found))
            warn_user(
                f"{self.source}: values that training did not see have only zeros as features: {shown}.", DataWarning
            )


@dataclass
class _UnknownCells:
    label: str
    categories: list[str]
    odd: collections.Counter[str | None] = field(default_factory=collections.Counter)
    rows: int = 0
    cells: int = 0

    def describe(self, name: str, strict: bool) -> str | None:
        """Return a phrase about the unknown cells, None if there are none."""
        empty, texts = self.odd[None], [text for text, _ in self.odd.most_common() if text is not None]
        unknown = sum(self.odd.values()) - empty
        examples = _join_examples([repr(text[:40]) for text in texts[:_SHOWN]], len(texts))
        if strict and unknown >= max(_TOO_MANY, _NEARLY_ALL * self.cells):
            expected = _join_examples([repr(name[:40]) for name in self.categories[:_SHOWN]], len(self.categories))
            raise DataError(
                f"{self.label} holds values that training did not see in {unknown} of {self.rows} rows: {examples}; "
                f"expected {expected}."
            )
        if not unknown + empty:
            return None
        if empty:
            examples = f"{examples}, empty cells" if examples else "empty cells"
        return f"column {name!r} in {unknown + empty} of {self.rows} rows ({examples})"


def _join_examples(shown: list[str], count: int) -> str:
    return ", ".join(shown) + (f" and {count - len(shown)} more" if count > len(shown) else "")
