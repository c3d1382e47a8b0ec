"""Where data sets lie on disk, and how a missing file is downloaded."""

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
_SECONDS = 30  # without an answer from the server


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder in which data sets are looked for and into which they are downloaded.

    Parameters
    ----------
    data_dir : path-like or None
        The caller's choice; else the environment variable FASTMLP_DATA; else the platform's cache.

    Returns
    -------
    Path
        The folder, which need not exist.
    """
    chosen = data_dir if data_dir is not None else os.environ.get(_ENVIRONMENT)
    if chosen:
        return Path(os.path.expanduser(chosen)).absolute()
    return Path(_pooch(f"set {_ENVIRONMENT} to a folder").os_cache("fastmlp"))


def fetch(source: Source, file: str, folder: Path, *, download: bool) -> Path:
    """Download one file of a data set into a folder where it is missing.

    The file gets its name only once it is whole and its checksum is right. A file that already stands
    there is never downloaded over nor checked against the checksum.

    Parameters
    ----------
    source : Source
        The registry's entry: address and checksums.
    file : str
        The file's name in that entry.
    folder : Path
        Where it is to stand; made if need be.
    download : bool
        False forbids the download, so that a missing file is an error.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DataError
        If the file is missing and cannot or must not be downloaded; it says where to put the file.
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
    logger.setLevel("WARNING")  # its lines about hashes and folders would end up among the user's output
    try:
        pooch.retrieve(
            url,
            known_hash=source.checksums[file],
            fname=file,
            path=folder,
            downloader=pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 16, timeout=_SECONDS),
        )
    except (ValueError, OSError) as error:  # every exception of requests is an OSError
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
    """What failed in a few words: the exceptions of requests print their whole cause."""
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
        return "what came has the wrong checksum"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {str(error)[:120]}"
