"""History: what was measured while a model trained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, overload

__all__ = ["KEYS", "History", "Record"]

# The keys of a record, in the order of a line of metrics.jsonl.
KEYS = ("step", "epoch", "train_loss", "val_loss", "val_accuracy", "lr", "seconds")

Record = dict[str, Any]


class History:
    """The evaluations of one `Trainer.fit`, in order; ``history["val_loss"]`` is a list over all of them.

    A record is a dict with the keys

    - ``step``: updates made by the trainer so far, over all its fits
    - ``epoch``: passes over the training rows so far, a float (0.4 is two fifths into the first)
    - ``train_loss``: mean batch loss since the record before, over batches that have a class of weight above 0
    - ``val_loss``, ``val_accuracy``: on the validation set; None without one, and the accuracy also None
      for regression
    - ``lr``: the learning rate of the last update
    - ``seconds``: wall-clock time since `fit` began

    ``len(history)`` counts records, ``history[-1]`` is the last one, iteration goes over the records.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, record: Record) -> None:
        """Add one evaluation.

        Raises
        ------
        ValueError
            If its keys are not those of a record.
        """
        if tuple(record) != KEYS:
            raise ValueError(f"A record has the keys {', '.join(record)}; expected {', '.join(KEYS)}.")
        self.records.append(record)

    @overload
    def __getitem__(self, key: str) -> list[Any]: ...
    @overload
    def __getitem__(self, key: int) -> Record: ...
    def __getitem__(self, key: str | int) -> list[Any] | Record:
        if isinstance(key, str):
            if key not in KEYS:
                raise KeyError(f"A history has no {key!r}; expected one of {', '.join(KEYS)}.")
            return [record[key] for record in self.records]
        return self.records[key]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    @property
    def last(self) -> Record | None:
        """The last record, None before the first evaluation."""
        return self.records[-1] if self.records else None

    def keys(self) -> tuple[str, ...]:
        """The names of the columns."""
        return KEYS

    def to_dict(self) -> dict[str, list[Any]]:
        """A list for each key, as a data frame takes them."""
        return {key: self[key] for key in KEYS}

    def __repr__(self) -> str:
        return f"History({len(self)} evaluations, last: {json.dumps(self.last)})"
