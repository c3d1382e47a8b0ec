"""Predictions as CSV, on standard output or in a file."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Sequence

from .._common.validation import Array
from ..io.files import atomic_write

__all__ = ["predictions_as_csv", "write_predictions"]


def predictions_as_csv(names: Sequence[str], columns: Sequence[Array], *, heading: bool) -> str:
    """Return columns of predictions as lines of CSV, with a line of names before them if ``heading``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if heading:
        writer.writerow(names)
    # str() of a NumPy number is the shortest text that converts back to the same number.
    writer.writerows(zip(*(map(str, column) for column in columns), strict=True))
    return text.getvalue()


def write_predictions(parts: Iterable[str], path: str | None) -> None:
    """Write texts to a file, whole or not at all, or to standard output if ``path`` is None."""
    if path is None:
        for text in parts:
            sys.stdout.write(text)
    else:
        with atomic_write(path) as stream:
            for text in parts:
                stream.write(text.encode())
