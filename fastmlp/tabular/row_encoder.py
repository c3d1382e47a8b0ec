"""Encoding of a single row by Python's numbers, in microseconds; `ColumnEncoder` is its reference."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from math import isfinite, nan, sqrt
from typing import Any

import numpy as np

from .._common.validation import Array
from .encoder import ColumnEncoder
from .encodings import LARGEST, CategoryEncoding, DateEncoding, NumberEncoding
from .frames import text_of
from .networks import input_places

__all__ = ["RowEncoder"]

Write = Callable[[Any], list[float]]
_SEQUENCES = {list, tuple, np.ndarray}


class _Unusual(Exception):
    """A value is left to `ColumnEncoder`, which converts it or raises an error."""


class RowEncoder:
    """Encoder of single rows to the inputs of a network, see `network_inputs`.

    Parameters
    ----------
    encoder : ColumnEncoder
        A fitted encoder of named columns. Rows with dates are left to it.
    positions : bool
        Whether the network has a `BinnedLinear`.
    """

    def __init__(self, encoder: ColumnEncoder, positions: bool) -> None:
        fewest = encoder.fewest_coded_ if positions else None
        self._columns: list[tuple[Any, Write, list[int]]] = []
        places, width = input_places(encoder, positions)
        self._zeros = [0.0] * width
        self._has_dates = False
        for name, encoding, at in zip(encoder.feature_names_in_, encoder.encodings_, places, strict=True):
            if isinstance(encoding, DateEncoding):
                self._has_dates = True
                continue
            if isinstance(encoding, NumberEncoding):
                write = _number_writer(encoding, fewest)
            else:
                write = _category_writer(encoding, fewest)
            self._columns.append((name, write, at))

    def __call__(self, row: Mapping[Any, Any]) -> Array | None:
        """Return the inputs (1, I) of a row, or None if a column is missing or a value needs `ColumnEncoder`.

        Parameters
        ----------
        row : mapping
            A number, text, bool or None for each name of a column. Other names are ignored.
        """
        if self._has_dates:
            return None
        found = self._zeros.copy()
        try:
            for name, write, at in self._columns:
                value = row[name]
                if type(value) in _SEQUENCES:
                    (value,) = value
                if isinstance(value, np.generic):
                    value = value.item()
                for place, number in zip(at, write(value)):
                    found[place] = number
        except (_Unusual, KeyError, ValueError):  # ValueError: a sequence of several rows
            return None
        return np.array([found], np.float32)


def _number_writer(encoding: NumberEncoding, fewest: int | None) -> Write:
    median, factor, edges = encoding.median, encoding.factor, list(encoding.edges)
    bins = len(edges) - 1
    one_position = fewest is not None and bins >= fewest
    widths = np.diff(edges).tolist()

    def write(value: Any) -> list[float]:
        if type(value) is not float:
            if type(value) is not int and value is not None:
                raise _Unusual
            value = nan if value is None else float(value)
        missing = value != value
        x = median if missing else value
        if not isfinite(x):
            raise _Unusual
        found = []
        if factor:
            z = min(max((x - median) * factor, -LARGEST), LARGEST)
            found.append(z / sqrt(1 + (z / 3) * (z / 3)))
        if encoding.missing:
            found.append(float(missing))
        if one_position:
            place = bisect_right(edges, x, 1, bins) - 1
            found.append(place + min(max((x - edges[place]) / widths[place], 0.0), 1.0))
        elif edges:
            found += [min(max((x - edge) / width, 0.0), 1.0) for edge, width in zip(edges, widths)]
        return found

    return write


def _category_writer(encoding: CategoryEncoding, fewest: int | None) -> Write:
    index = {level: place for place, level in enumerate(encoding.levels)}
    other = len(index) if encoding.rare else -1
    absent = len(index) + encoding.rare if encoding.missing else -1
    codes = range(-1, len(index) + encoding.rare + encoding.missing)
    values = {code: encoding.inputs_of(code, fewest) for code in codes}

    def write(value: Any) -> list[float]:
        kind = type(value)
        if value is None or (kind is float and value != value):
            return values[absent]
        if kind is str:
            text = value.strip() or None
        elif kind is int or kind is float or kind is bool:
            text = text_of(value)
        else:
            raise _Unusual
        return values[absent] if text is None else values[index.get(text, other)]

    return write
