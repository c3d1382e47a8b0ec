"""Connection to a Dask cluster."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .._common.errors import BackendError
from .._common.installed import library

__all__ = ["connect", "unprotected", "wait_for_workers"]

_PATIENCE = 60  # seconds to wait for the first worker


def connect(
    address: str | None = None,
    scheduler_file: str | Path | None = None,
    tls: Sequence[str] | None = None,
    timeout: float = 10,
) -> Any:
    """Connect to the scheduler of a Dask cluster.

    Parameters
    ----------
    address : str, optional
        Address of the scheduler, such as ``tcp://10.0.0.1:8786``; this or ``scheduler_file`` is needed.
    scheduler_file : path-like, optional
        File that ``dask scheduler --scheduler-file`` writes.
    tls : (str, str, str), optional
        Files of the authority's certificate, of the own certificate and of its key. Default: those of Dask's
        configuration.
    timeout : float
        Seconds to wait for an answer of the scheduler.

    Returns
    -------
    distributed.Client

    Raises
    ------
    BackendError
        If Dask is not installed, or no scheduler answers.
    OSError
        If a file cannot be read.
    ValueError
        If a file or the address is not what it should be.
    """
    distributed = library("distributed", "pip install 'fastmlp[dask]'")
    for path in (*(tls or ()), *([] if scheduler_file is None else [scheduler_file])):
        with open(path, "rb"):  # Dask waits for a missing file without an end
            pass
    security = None
    if tls is not None:
        authority, certificate, key = tls
        security = distributed.Security(
            tls_ca_file=authority, tls_client_cert=certificate, tls_client_key=key, require_encryption=True
        )
    if scheduler_file is not None:
        try:
            address = json.loads(Path(scheduler_file).read_bytes())["address"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"{scheduler_file} is not a scheduler file; expected the JSON file that dask scheduler writes."
            ) from None
    if "://" not in str(address):
        address = f"{'tcp' if tls is None else 'tls'}://{address}"
    try:
        return distributed.Client(address, security=security, timeout=timeout, set_as_default=False)
    except (OSError, asyncio.TimeoutError, ValueError, TypeError, RuntimeError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise BackendError(
            f"No Dask scheduler answers at {address} ({text[:200]}); expected the address that dask scheduler prints."
        ) from error


def wait_for_workers(client: Any) -> None:
    """Wait for the first worker.

    Raises
    ------
    BackendError
        If no worker has joined after a minute.
    """
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except (OSError, asyncio.TimeoutError) as error:
        address = client.scheduler.address
        raise BackendError(
            f"The Dask cluster at {address} has no workers after {_PATIENCE} s; start them with dask worker {address}."
        ) from error


def unprotected(client: Any) -> str | None:
    """Return a warning if data travel through a network without encryption, else None."""
    for address in (client.scheduler.address, *client.nthreads()):
        parts = urlsplit(address)
        if parts.scheme == "tcp" and not _is_loopback(parts.hostname or ""):
            return (
                f"Dask's connections to {address} are not encrypted, and a scheduler lets every client run code on its "
                "workers; expected TLS, or a network that is closed to others."
            )
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
