"""Reader of MNIST and Fashion-MNIST: four IDX files each, with the same names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from .._common.errors import DataError
from .dataset import Dataset
from .fetch import data_folder, fetch
from .idx import read_idx
from .registry import Source

__all__ = ["load_mnist"]


def load_mnist(source: Source, data_dir: str | os.PathLike[str] | None, *, download: bool) -> Dataset:
    """Read MNIST or Fashion-MNIST.

    The files, optionally gzipped, are searched in the subfolder of the data folder with the name of the set, then in
    the data folder. All four come from one folder, since both sets use the same file names. Missing files are
    downloaded into the folder that contains some of them, else into the subfolder.

    Parameters
    ----------
    source : Source
        Entry of the registry.
    data_dir : path-like or None
        See `data_folder`.
    download : bool
        Whether missing files may be downloaded.

    Returns
    -------
    Dataset
        `X` uint8 (N, 784), `y` int64 (N,).

    Raises
    ------
    DataError
        If a file is missing, damaged, or does not fit the others.
    """
    root = data_folder(data_dir)
    folders = (root / source.name, root)
    held = [sum(_find_file(folder, file) is not None for file in source.checksums) for folder in folders]
    folder = folders[1] if held[1] > held[0] else folders[0]
    X, y = _read_part("train", folder, source, download)
    X_test, y_test = _read_part("t10k", folder, source, download)
    return Dataset(
        X,
        y,
        X_test,
        y_test,
        name=source.name,
        task="classification",
        classes=source.classes,
        image_shape=source.image_shape,
    )


def _find_file(folder: Path, file: str) -> Path | None:
    for name in (file.removesuffix(".gz"), file):
        if (folder / name).is_file():
            return folder / name
    return None


def _read_part(part: str, folder: Path, source: Source, download: bool) -> tuple[np.ndarray, np.ndarray]:
    paths = []
    for file in (f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz"):
        paths.append(_find_file(folder, file) or fetch(source, file, folder, download=download))
    images, labels = (read_idx(path) for path in paths)
    _, height, width = source.image_shape
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (height, width):
        raise DataError(
            f"{paths[0]} holds {images.dtype} values of shape {images.shape}, expected uint8 (N, {height}, {width})."
        )
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise DataError(f"{paths[1]} holds {labels.dtype} values of shape {labels.shape}, expected uint8 (N,).")
    if len(images) != len(labels) or not len(labels):
        raise DataError(
            f"{paths[1]} has {len(labels)} labels, expected one for each of the {len(images)} images "
            f"in {paths[0].name}, at least one."
        )
    if labels.max() >= len(source.classes):
        raise DataError(f"{paths[1]} has a label {labels.max()}, expected 0 to {len(source.classes) - 1}.")
    return images.reshape(len(images), height * width), labels.astype(np.int64)
