"""Encodings of single columns as columns of a matrix, fitted to the training rows; their state is JSON-able."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .._common.validation import Array
from .frames import Categories, Column, Dates, Numbers

__all__ = [
    "BINS", "DENSE", "FEWEST_CODED", "LARGEST", "LEVELS", "CategoryEncoding", "DateEncoding", "Encoding", "InputColumn",
    "NumberEncoding", "encoding_from_state", "encoding_state", "fit_encoding", "refuse_dates",
]  # fmt: skip

LARGEST = 1e100  # scaled numbers, whose square is finite
_RARE, _MISSING = "(rare)", "(missing)"
# Kinds of input columns, in the order in which BinnedLinear reads them.
DENSE, BINS, LEVELS = range(3)
# Fewest bins or levels of a column for which rows of a table are faster than the product with its code: on Zen 5 and
# 20 columns, a step takes 0.97 of the time with 8 bins, 1.26 with 4.
FEWEST_CODED = 8


class InputColumn(NamedTuple):
    """Column of the inputs of a `BinnedLinear`: its kind, and the number of its bins or levels (1 for DENSE)."""

    kind: int
    size: int = 1


@dataclass(frozen=True)
class NumberEncoding:
    """Scaled number, its piecewise-linear code over quantile bins, and an indicator of missing numbers.

    A number x is scaled to z = (x - median) / (upper - lower quartile), with half the range in place of a distance of
    0, and clipped smoothly to z / sqrt(1 + (z / 3)^2), as in Holzmüller, Grinsztajn and Steinwart, "Better by
    default", 2024. Bin b of the code is (x - lower edge) / (upper edge - lower edge), clipped to [0, 1], as in
    Gorishniy, Rubachev and Babenko, "On embeddings for numerical features in tabular deep learning", 2022.

    Attributes
    ----------
    median, factor : float
        Offset and reciprocal of the scale.
    missing : bool
        Whether training rows lack the number; the code of a missing number is that of the median.
    edges : tuple of float
        Edges of the bins, ascending; none for a column with fewer than two bins.
    """

    median: float
    factor: float
    missing: bool
    edges: tuple[float, ...]

    kind: ClassVar[str] = Numbers.kind

    @classmethod
    def fit(cls, column: Numbers, bins: int) -> NumberEncoding:
        """Return the encoding of the training rows."""
        known = column.values[~np.isnan(column.values)]
        if not len(known):
            return cls(0.0, 0.0, False, ())
        filled = np.where(np.isnan(column.values), np.median(known), column.values)
        # Distances may overflow, and quantiles between numbers that are far apart; their column is left out.
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            low, median, high = np.quantile(filled, [0.25, 0.5, 0.75])
            factor = float(1 / (high - low or 0.5 * (filled.max() - filled.min())))
        edges = _bin_edges(filled, bins)
        return cls(
            float(median),
            factor if np.isfinite(factor) else 0.0,
            len(known) < len(column.values),
            tuple(map(float, edges)) if len(edges) > 2 else (),
        )

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.factor != 0) + int(self.missing) + max(0, len(self.edges) - 1)

    def names(self, name: str) -> list[str]:
        """Return the names of the columns."""
        found = [name] if self.factor else []
        found += [f"{name}_missing"] if self.missing else []
        return found + [f"{name}_bin{number}" for number in range(len(self.edges) - 1)]

    def write(self, column: Numbers, out: Array) -> None:
        """Write the columns of some rows to ``out (N, width)``."""
        x = self._write_dense(column, out)
        if self.edges:
            edges = np.array(self.edges)
            with np.errstate(over="ignore"):
                out[:, self.width - len(edges) + 1 :] = np.clip((x[:, None] - edges[:-1]) / np.diff(edges), 0, 1)

    def inputs(self, fewest: int) -> list[InputColumn]:
        """Return the columns that `write_inputs` writes; codes of ``fewest`` columns or more are one position."""
        bins = max(0, len(self.edges) - 1)
        if bins < fewest:
            return [InputColumn(DENSE)] * self.width
        return [InputColumn(DENSE)] * (self.width - bins) + [InputColumn(BINS, bins)]

    def write_inputs(self, column: Numbers, out: Array, fewest: int) -> None:
        """Write the columns of some rows to ``out (N, inputs)``, with a position among the bins for their code."""
        if len(self.edges) - 1 < fewest:
            self.write(column, out)
            return
        x, edges = self._write_dense(column, out), np.array(self.edges)
        place = np.searchsorted(edges[1:-1], x, side="right")
        with np.errstate(over="ignore"):
            out[:, -1] = place + np.clip((x - edges[place]) / np.diff(edges)[place], 0, 1)

    def _write_dense(self, column: Numbers, out: Array) -> Array:
        """Write scaled number and indicator to the first columns; return the numbers without missing ones."""
        missing = np.isnan(column.values)
        x, at = np.where(missing, self.median, column.values), 0
        if self.factor:
            with np.errstate(over="ignore"):
                z = np.clip((x - self.median) * self.factor, -LARGEST, LARGEST)
            out[:, at] = z / np.sqrt(1 + (z / 3) ** 2)
            at += 1
        if self.missing:
            out[:, at] = missing
        return x

    def describe(self) -> str:
        """Return a phrase for a summary."""
        if not self.factor:
            return "indicator of missing numbers" if self.missing else "constant, left out"
        return f"scaled{f', {len(self.edges) - 1} bins' if self.edges else ''}"


@dataclass(frozen=True)
class CategoryEncoding:
    """One column for each frequent level, one for all rare levels and one for missing values, if there are some.

    A column with two codes in all is one column of +1 and -1. A level that training rows do not have is rare, or has
    zeros everywhere if no level is rare.

    Attributes
    ----------
    levels : tuple of str
        Frequent levels.
    rare : bool
        Whether training rows have levels that are not frequent.
    missing : bool
        Whether values of training rows are missing.
    """

    levels: tuple[str, ...]
    rare: bool
    missing: bool

    kind: ClassVar[str] = Categories.kind

    @classmethod
    def fit(cls, column: Categories, min_frequency: int, max_levels: int) -> CategoryEncoding:
        """Return the encoding of the training rows."""
        counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.levels))
        order = np.argsort(-counts, kind="stable")[:max_levels]
        kept = np.sort(order[counts[order] >= min_frequency])
        return cls(
            tuple(column.levels[place] for place in kept),
            bool(counts.sum() > counts[kept].sum()),
            bool((column.codes < 0).any()),
        )

    @property
    def _codes(self) -> int:
        return len(self.levels) + self.rare + self.missing

    @property
    def width(self) -> int:
        """Number of columns."""
        return {0: 0, 1: 0, 2: 1}.get(self._codes, self._codes)

    def names(self, name: str) -> list[str]:
        """Return the names of the columns."""
        every = [*self.levels, *[_RARE] * self.rare, *[_MISSING] * self.missing]
        return [f"{name}_{level}" for level in every[: self.width]]

    def write(self, column: Categories, out: Array) -> None:
        """Write the columns of some rows to ``out (N, width)``."""
        if not self.width:
            return
        codes = self._levels_of(column)
        out[:] = 0
        if self._codes == 2:
            out[:, 0] = np.array([1.0, -1.0, 0.0])[codes]
            return
        rows = np.flatnonzero(codes >= 0)
        out[rows, codes[rows]] = 1

    def inputs(self, fewest: int) -> list[InputColumn]:
        """Return the columns that `write_inputs` writes."""
        return [InputColumn(LEVELS, self.width)] if self.width >= fewest else [InputColumn(DENSE)] * self.width

    def write_inputs(self, column: Categories, out: Array, fewest: int) -> None:
        """Write the columns of some rows to ``out (N, inputs)``, with the number of a level for its code."""
        if self.width < fewest:
            self.write(column, out)
        else:
            out[:, 0] = self._levels_of(column)

    def inputs_of(self, code: int, fewest: int | None) -> list[float]:
        """Return the columns of one row as `write` gives them, or with ``fewest`` as `write_inputs` does.

        ``code`` is the place of the row's level among those that have codes, -1 for none.
        """
        if not self.width:
            return []
        if fewest is not None and self.width >= fewest:
            return [float(code)]
        if self._codes == 2:
            return [(1.0, -1.0, 0.0)[code]]
        return [float(place == code) for place in range(self.width)]

    def _levels_of(self, column: Categories) -> Array:
        """Return the code of each row, -1 for none."""
        index = {level: place for place, level in enumerate(self.levels)}
        other = len(self.levels) if self.rare else -1
        known = [index.get(level, other) for level in column.levels]
        absent = len(self.levels) + self.rare if self.missing else -1
        codes: Array = np.array([*known, absent], np.int64)[column.codes]
        return codes

    def describe(self) -> str:
        """Return a phrase for a summary."""
        if not self.width:
            return "constant, left out"
        levels = f"{len(self.levels)} levels{' and rare ones' if self.rare else ''}"
        return f"{levels}, {'one column of signs' if self.width == 1 else 'one-hot'}"


@dataclass(frozen=True)
class DateEncoding:
    """Parts of a point in time, each encoded as a number; parts that are constant are left out.

    Attributes
    ----------
    parts : tuple of (str, NumberEncoding)
    """

    parts: tuple[tuple[str, NumberEncoding], ...]

    kind: ClassVar[str] = Dates.kind

    @classmethod
    def fit(cls, column: Dates, bins: int) -> DateEncoding:
        """Return the encoding of the training rows."""
        found = _parts(column.values)
        fitted = [(part, NumberEncoding.fit(Numbers(values), bins)) for part, values in found.items()]
        parts = [(part, encoding) for part, encoding in fitted if encoding.factor]
        # One indicator of a missing date is enough.
        return cls(tuple((part, replace(one, missing=one.missing and not n)) for n, (part, one) in enumerate(parts)))

    @property
    def width(self) -> int:
        """Number of columns."""
        return sum(encoding.width for _, encoding in self.parts)

    def names(self, name: str) -> list[str]:
        """Return the names of the columns."""
        return [label for part, encoding in self.parts for label in encoding.names(f"{name}_{part.replace(' ', '_')}")]

    def write(self, column: Dates, out: Array) -> None:
        """Write the columns of some rows to ``out (N, width)``."""
        found, at = _parts(column.values), 0
        for part, encoding in self.parts:
            encoding.write(Numbers(found[part]), out[:, at : at + encoding.width])
            at += encoding.width

    def inputs(self, fewest: int) -> list[InputColumn]:
        """Return the columns that `write_inputs` writes."""
        return [one for _, encoding in self.parts for one in encoding.inputs(fewest)]

    def write_inputs(self, column: Dates, out: Array, fewest: int) -> None:
        """Write the columns of some rows to ``out (N, inputs)``."""
        found, at = _parts(column.values), 0
        for part, encoding in self.parts:
            width = len(encoding.inputs(fewest))
            encoding.write_inputs(Numbers(found[part]), out[:, at : at + width], fewest)
            at += width

    def describe(self) -> str:
        """Return a phrase for a summary."""
        return ", ".join(part for part, _ in self.parts) or "constant, left out"


Encoding = NumberEncoding | CategoryEncoding | DateEncoding
_KINDS = {"number": NumberEncoding, "category": CategoryEncoding, "date": DateEncoding}


def fit_encoding(column: Column, bins: int, min_frequency: int, max_levels: int) -> Encoding:
    """Return the encoding of a column's training rows."""
    if isinstance(column, Numbers):
        return NumberEncoding.fit(column, bins)
    if isinstance(column, Dates):
        return DateEncoding.fit(column, bins)
    return CategoryEncoding.fit(column, min_frequency, max_levels)


def refuse_dates(name: Any, encoding: Encoding, where: str) -> NumberEncoding | CategoryEncoding:
    """Return an encoding of numbers or categories; raise ValueError for dates, which ``where`` has no type for."""
    if isinstance(encoding, DateEncoding):
        raise ValueError(
            f"Column {name!r} holds dates, which {where} has no type for; expected numbers and categories. Give "
            "the parts of the dates as columns of numbers."
        )
    return encoding


def encoding_state(encoding: Encoding) -> dict[str, Any]:
    """Return the JSON-able state of an encoding."""
    return {"kind": encoding.kind, **asdict(encoding)}


def encoding_from_state(state: dict[str, Any]) -> Encoding:
    """Return the encoding of a state, also after a round trip through JSON."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in state.items() if key != "kind"}
    if state["kind"] == "date":
        parts = ((part, NumberEncoding(**{**one, "edges": tuple(one["edges"])})) for part, one in state["parts"])
        return DateEncoding(tuple(parts))
    made: Encoding = _KINDS[state["kind"]](**values)
    return made


def _bin_edges(values: Array, bins: int) -> Array:
    """Return the ascending edges of at most ``bins`` bins, quantiles of the values; none if ``bins`` is 0.

    A value counts for at most one bin, so that frequent values, such as zeros, leave bins to the others.
    """
    if not bins:
        return np.zeros(0)
    distinct, counts = np.unique(values, return_counts=True)
    reached = np.cumsum(np.minimum(counts, len(values) / bins))
    places = np.searchsorted(reached, np.linspace(0, reached[-1], bins + 1)[1:-1])
    edges: Array = np.unique(np.concatenate([distinct[:1], distinct[places], distinct[-1:]]))
    return edges


def _parts(values: Array) -> dict[str, Array]:
    """Return the parts of points in time as float64, NaN where one is missing."""
    missing = np.isnat(values)
    known = np.where(missing, np.datetime64(0, "s"), values)
    days, months, years = (known.astype(f"datetime64[{unit}]") for unit in "DMY")
    seconds = (known - days).astype(np.int64)
    found = {
        "year": years.astype(np.int64) + 1970,
        "month": (months - years).astype(np.int64) + 1,
        "day": (days - months).astype(np.int64) + 1,
        "weekday": (days.astype(np.int64) + 3) % 7,  # 1970-01-01 was a Thursday; Monday is 0
        "day of year": (days - years).astype(np.int64) + 1,
        "hour": seconds // 3600,
        "seconds": seconds,
        "days": days.astype(np.int64),
    }
    return {part: np.where(missing, np.nan, numbers.astype(np.float64)) for part, numbers in found.items()}
