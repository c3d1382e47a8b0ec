"""Reader of CIFAR-10 in its official Python layout: six batches pickled by Python 2."""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from pathlib import Path

import numpy as np

from .._common.errors import DataError
from .dataset import Dataset
from .fetch import data_folder, fetch
from .plain_pickle import as_uint8_matrix, read_plain_pickle
from .registry import Source

__all__ = ["load_cifar10"]

_FOLDER = "cifar-10-batches-py"
_ARCHIVE = "cifar-10-python.tar.gz"
_TRAINING = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = "test_batch"
_META = "batches.meta"
# An official batch has 31 MB; the limit keeps a small archive from filling the memory.
_LARGEST_BATCH = 1 << 28


def load_cifar10(source: Source, data_dir: str | os.PathLike[str] | None, *, download: bool) -> Dataset:
    """Read CIFAR-10.

    The search order is: batch files in the data folder, batch files in its folder ``cifar-10-batches-py``, and
    ``cifar-10-python.tar.gz``, which is read without extraction. If none exists, the archive is downloaded into the
    data folder.

    Parameters
    ----------
    source : Source
        Entry of the registry.
    data_dir : path-like or None
        See `data_folder`.
    download : bool
        Whether a missing archive may be downloaded.

    Returns
    -------
    Dataset
        `X` uint8 (N, 3072), each row three 32 x 32 planes (red, green, blue); `y` int64 (N,).

    Raises
    ------
    DataError
        If a file is missing or damaged, or is not a batch of CIFAR-10.
    """
    root = data_folder(data_dir)
    for folder in (root, root / _FOLDER):
        if any((folder / file).is_file() for file in (*_TRAINING, _TEST)):
            files = _read_folder(folder)
            place = f"{folder}{os.sep}"
            break
    else:
        archive = fetch(source, _ARCHIVE, root, download=download)
        files = _read_archive(archive)
        place = f"{archive}: "
    parts = [_read_batch(files.pop(file), f"{place}{file}", len(source.classes)) for file in (*_TRAINING, _TEST)]
    meta = files.get(_META)
    return Dataset(
        np.concatenate([X for X, _ in parts[:-1]]),
        np.concatenate([y for _, y in parts[:-1]]),
        parts[-1][0].copy(),  # the matrix may be a read-only view of the file's bytes
        parts[-1][1],
        name=source.name,
        task="classification",
        classes=source.classes if meta is None else _class_names(meta, f"{place}{_META}", source.classes),
        image_shape=source.image_shape,
    )


def _read_folder(folder: Path) -> dict[str, bytes]:
    files = {}
    for file in (*_TRAINING, _TEST, _META):
        path = folder / file
        try:
            size = path.stat().st_size
            if size > _LARGEST_BATCH:
                raise DataError(f"{path} has {size} bytes; a batch of CIFAR-10 has about 31 million.")
            files[file] = path.read_bytes()
        except FileNotFoundError as error:
            if file != _META:
                raise DataError(f"{path} is missing; expected it beside the other batches.") from error
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    return files


def _read_archive(path: Path) -> dict[str, bytes]:
    wanted = {f"{_FOLDER}/{file}": file for file in (*_TRAINING, _TEST, _META)}
    files: dict[str, bytes] = {}
    try:
        # A single pass, since a seek backwards would unpack from the start again.
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                file = wanted.get(member.name.removeprefix("./"))
                if file is None or file in files:
                    continue
                if not member.isreg() or member.size > _LARGEST_BATCH:
                    raise DataError(
                        f"{path}: {member.name} is not a regular file of a batch's size (31 million bytes)."
                    )
                content = archive.extractfile(member)
                files[file] = b"" if content is None else content.read()
            while stream.read(1 << 20):  # gzip checks its checksum at the end of the stream
                pass
    except DataError:
        raise
    # MemoryError and OverflowError: a tar header may claim any length.
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, MemoryError, OverflowError) as error:
        reason = f"{error}".rstrip(".") or type(error).__name__
        raise DataError(f"{path} is truncated or damaged ({reason}); expected a tar.gz archive.") from error
    for member_name, file in wanted.items():
        if file not in files and file != _META:
            raise DataError(f"{path} has no {member_name}; expected the six batches of CIFAR-10.")
    return files


def _entry(batch: object, key: str, source: str) -> object:
    if not isinstance(batch, dict):
        raise DataError(f"{source} holds a {type(batch).__name__}, expected a dict with {key}.")
    for name in (key.encode(), key):  # bytes if written by Python 2, text if by Python 3
        if name in batch:
            value: object = batch[name]
            return value
    raise DataError(f"{source} has no entry {key}; a batch of CIFAR-10 has data and labels.")


def _read_batch(content: bytes, source: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    batch = read_plain_pickle(content, source)
    X = as_uint8_matrix(_entry(batch, "data", source), source, 3072)
    labels = _entry(batch, "labels", source)
    if type(labels) is not list or any(type(label) is not int for label in labels):
        raise DataError(f"{source}: labels are not a list of int, expected one int for each image.")
    if len(labels) != len(X) or not labels:
        raise DataError(f"{source} has {len(labels)} labels for {len(X)} images; expected one for each.")
    wrong = [label for label in labels if not 0 <= label < classes]
    if wrong:
        raise DataError(f"{source} has a label {str(wrong[0])[:40]}, expected 0 to {classes - 1}.")
    return X, np.array(labels, np.int64)


def _class_names(content: bytes, source: str, known: tuple[str, ...]) -> tuple[str, ...]:
    names = _entry(read_plain_pickle(content, source), "label_names", source)
    if type(names) is not list or len(names) != len(known) or any(type(n) not in (bytes, str) for n in names):
        raise DataError(f"{source}: label_names is not a list of {len(known)} names.")
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names)
