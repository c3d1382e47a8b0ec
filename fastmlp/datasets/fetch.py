"""Data folder, and download of missing files."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .._common.errors import DataError
from .._common.installed import is_installed
from .registry import Source

__all__ = ["data_folder", "fetch"]

_ENVIRONMENT = "FASTMLP_DATA"
_SECONDS = 30  # timeout of the server


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """Return the folder in which data sets are searched and into which they are downloaded.

    Parameters
    ----------
    data_dir : path-like or None
        The folder. None: the environment variable FASTMLP_DATA, else the cache folder of the platform.

    Returns
    -------
    Path
        The folder, which may not exist.
    """
    chosen = data_dir if data_dir is not None else os.environ.get(_ENVIRONMENT)
    if chosen:
        return Path(os.path.expanduser(chosen)).absolute()
    return Path(_pooch(f"set {_ENVIRONMENT} to a folder").os_cache("fastmlp"))


def fetch(source: Source, file: str, folder: Path, *, download: bool) -> Path:
    """Download a file of a data set into a folder, unless the folder has it.

    The file gets its name when it is complete and its checksum is right. An existing file is used without a check of
    its checksum.

    Parameters
    ----------
    source : Source
        Entry of the registry with address and checksums.
    file : str
        Name of the file in the entry.
    folder : Path
        Destination; created if it does not exist.
    download : bool
        Whether a missing file may be downloaded.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DataError
        If the file is missing and cannot or must not be downloaded; the message gives the destination.
    """
    path = folder / file
    if path.exists():
        return path
    url = source.base_url + file
    if not download:
        raise DataError(
            f"{source.name}: {path} is missing and download=False; put {file} (from {url}) there or allow the download."
        )
    pooch = _pooch(f"put {file} (from {url}) at {path}")
    progress = is_installed("tqdm") and sys.stderr is not None and sys.stderr.isatty()
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # pooch logs hashes and folders at level INFO
    try:
        pooch.retrieve(
            url,
            known_hash=source.checksums[file],
            fname=file,
            path=folder,
            downloader=pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 16, timeout=_SECONDS),
        )
    except (ValueError, OSError) as error:  # exceptions of requests derive from OSError
        raise DataError(
            f"{source.name}: {file} is missing and could not be downloaded from {url} "
            f"({_reason(error, url)}); put that file at {path}."
        ) from error
    finally:
        logger.setLevel(level)
    return path


def _pooch(instead: str) -> Any:
    try:
        return importlib.import_module("pooch")
    except ImportError as error:
        raise DataError(f"Downloading needs the package pooch (pip install pooch); or {instead}.") from error


def _reason(error: Exception, url: str) -> str:
    """Return a short reason of a failed download; the messages of requests contain the whole chain of causes."""
    exceptions = importlib.import_module("requests.exceptions")
    if isinstance(error, exceptions.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, exceptions.Timeout):
        return f"no answer within {_SECONDS} s"
    if isinstance(error, exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, exceptions.ConnectionError):
        return f"no connection to {urlsplit(url).netloc}"
    if type(error) is ValueError and "hash" in str(error):
        return "the downloaded file has the wrong checksum"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {str(error)[:120]}"
