"""Reader of the 8 x 8 handwritten digits that the package includes."""

from __future__ import annotations

from importlib import resources

import numpy as np

from .dataset import Dataset

__all__ = ["load_digits"]


def load_digits() -> Dataset:
    """Read the handwritten digits of UCI (see ``data/digits.txt`` for source and license).

    Returns
    -------
    Dataset
        1,437 training and 360 test images; `X` uint8 (N, 64) with values 0 to 16, `y` int64 (N,).
    """
    source = resources.files(__package__) / "data" / "digits.npz"
    with source.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        images, labels = archive["images"], archive["labels"].astype(np.int64)
        train, test = archive["train"].astype(np.int64), archive["test"].astype(np.int64)
    return Dataset(
        images[train],
        labels[train],
        images[test],
        labels[test],
        name="digits",
        task="classification",
        classes=tuple("0123456789"),
        image_shape=(1, 8, 8),
    )
