"""History of the evaluations of a fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, overload

__all__ = ["KEYS", "History", "Record"]

# The keys of a record, in the order of a line of metrics.jsonl.
KEYS = ("step", "epoch", "train_loss", "val_loss", "val_accuracy", "lr", "seconds")

Record = dict[str, Any]


class History:
    """Evaluations of one `Trainer.fit`, in order.

    A record is a dict with the keys

    - ``step``: number of updates of the trainer so far, over all fits
    - ``epoch``: number of passes over the training rows so far, a float
    - ``train_loss``: mean loss of the batches since the last record, without batches whose classes all have weight 0
    - ``val_loss``, ``val_accuracy``: loss and accuracy on the validation set; None without one, and the accuracy is
      None for regression
    - ``lr``: learning rate of the last update
    - ``seconds``: wall-clock time since the beginning of `fit`

    ``len(history)`` is the number of records and ``history[-1]`` the last one. Iteration yields records.
    ``history["val_loss"]`` is a list with one value for each record.

    Examples
    --------
    >>> import fastmlp as fm
    >>> X, y, X_test, y_test = fm.load("digits")
    >>> trainer = fm.Trainer(fm.MLP(64, [16], 10, rng=0), fm.CrossEntropyLoss(), fm.Adam())
    >>> history = trainer.fit(X / 16, y, epochs=3, rng=0)
    >>> history["epoch"]
    [1.0, 2.0, 3.0]
    """

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, record: Record) -> None:
        """Append a record.

        Raises
        ------
        ValueError
            If the keys are not those of a record.
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
        """Last record, None before the first evaluation."""
        return self.records[-1] if self.records else None

    def keys(self) -> tuple[str, ...]:
        """Return the keys of a record."""
        return KEYS

    def to_dict(self) -> dict[str, list[Any]]:
        """Return a dict with a list for each key, for example for ``pandas.DataFrame``."""
        return {key: self[key] for key in KEYS}

    def __repr__(self) -> str:
        return f"History({len(self)} evaluations, last: {json.dumps(self.last)})"
