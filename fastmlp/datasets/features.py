"""Choice of a table's features, and the record of their conversion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from .._common.errors import DataError, DataWarning, warn_user
from .._common.sums import deviation
from ..io.scratch import Empty
from .chunks import ChunkedTable
from .columns import Column
from .fitting import centering_offset
from .source import TableSource, resolve_column
from .target import require_variation

__all__ = ["choose_features", "preprocessing_record", "target_offset"]


def choose_features(
    source: TableSource | ChunkedTable,
    every: list[str],
    categorical: Literal["auto"] | Sequence[str | int],
    drop: Sequence[str | int],
    index: bool | None,
) -> tuple[list[str], set[str]]:
    """Return (feature columns, the numeric ones among them to encode as one-hot).

    Parameters
    ----------
    source : TableSource or ChunkedTable
    every : list of str
        Names of all columns.
    categorical, drop, index
        See `fastmlp.datasets.load`.

    Raises
    ------
    DataError
        If there is no such column, or no feature is left.
    """
    path = str(source.path)
    choices = [drop] if isinstance(drop, (str, int)) else drop
    dropped = {resolve_column(choice, every, "drop", path) for choice in choices}
    labels = source.row_labels
    if index:
        dropped.add(every[0])
    elif index is None and labels is not None and labels not in dropped:
        dropped.add(labels)
        warn_user(
            f"{path}: the first column has no name and is left out, as labels of the rows "
            "(index=False keeps it as a feature).",
            DataWarning,
        )
    if source.target_name in dropped:
        raise DataError(
            f"{path}: the column {source.target_name!r} is the target and is dropped; expected one of both."
        )
    names = [name for name in every if name != source.target_name and name not in dropped]
    if not names:
        raise DataError(f"{path} has no column beside the target; expected at least one feature.")
    if isinstance(categorical, str) and categorical != "auto":
        raise DataError(f"categorical is {categorical!r}; expected 'auto' or a list of column names.")
    chosen = () if isinstance(categorical, str) else categorical
    return names, {resolve_column(choice, names, "categorical", path) for choice in chosen}


def preprocessing_record(
    source: TableSource | ChunkedTable, every: list[str], specs: list[dict[str, Any]], dtype: str, offset: float
) -> dict[str, Any]:
    """Return `Dataset.preprocessing` of a table with columns ``every``, features ``specs`` and an offset of targets."""
    record = {
        "columns": specs,
        "all_columns": every,
        "target": source.target_name,
        **source.format._asdict(),
        "dtype": dtype,
    }
    return {**record, "target_offset": offset} if offset else record


def target_offset(target_column: Column, dtype: np.dtype[Any], center: bool, empty: Empty = np.empty) -> float:
    """Return the offset to subtract from the targets, so that a model of ``dtype`` can distinguish them.

    ``empty`` makes arrays with a number for each row.

    Raises
    ------
    DataError
        If the targets are all equal, or too large or too close to each other for ``dtype``.
    """
    require_variation(target_column, None)
    lost_by_float64 = centering_offset(target_column, np.dtype(np.float64), empty)
    if lost_by_float64 and not center:
        warn_user(
            f"{target_column.label}: float64 loses digits of the target; center_target=True subtracts a median of it "
            "before.",
            DataWarning,
        )
    offset = centering_offset(target_column, dtype, empty) if center else 0
    more = ", or read the table with dtype='float64'" if dtype == np.float32 else ""
    largest = max(float(np.abs(block.numbers(offset)).max()) for block in target_column.blocks())
    if largest > float(np.finfo(dtype).max):
        raise DataError(
            f"{target_column.label} is the target and holds {largest:g}, too large for {dtype}; scale it{more}."
        )
    y = target_column.numbers(lost_by_float64)
    if deviation(y) < float(np.finfo(dtype).tiny):  # squares of differences may underflow to 0
        differ = f"differs by {np.ptp(y):g} at most"
        raise DataError(f"{target_column.label} is the target and {differ}, too little for {dtype}; scale it{more}.")
    return offset
