"""Description of the benchmark machine: processor, versions and commit, without the host name."""

from __future__ import annotations

import importlib
import math
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from .. import __version__
from .._common.processor import processor, version_of
from .._kernels import get_backend

__all__ = ["OtherLoad", "describe", "usable_cores"]

_PACKAGES = ("numpy", "numba", "llvmlite", "torch", "jax", "jaxlib", "onnxruntime", "scikit-learn")


def usable_cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class OtherLoad:
    """Measures how many cores other processes use from the construction on."""

    def __init__(self) -> None:
        self._start = self._now()

    def _now(self) -> tuple[float, float]:
        """Return (wall time, processor time of other processes) in seconds."""
        busy = math.nan
        path = Path("/proc/stat")
        if path.is_file():
            # Fields: user, nice, system, idle, iowait, irq, softirq; user and nice include the guests.
            ticks = [int(field) for field in path.read_text().split("\n", 1)[0].split()[1:8]]
            busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK") - time.process_time()
        return time.perf_counter(), busy

    def cores(self) -> float | None:
        """Return the mean number of cores used by other processes; None if the system does not report it."""
        wall, busy = (now - then for now, then in zip(self._now(), self._start))
        return None if math.isnan(busy) else max(0.0, round(busy / wall, 2))


def describe() -> dict[str, Any]:
    """Return ``machine``, ``versions`` and ``commit`` as JSON types.

    Raises
    ------
    BackendError
        If Numba is not installed.
    """
    get_backend("numba")  # raises BackendError if Numba is missing
    host = importlib.import_module("fastmlp._kernels.cpu.host")
    machine = {
        "cpu": processor(),
        "cores": usable_cores(),
        "processors": os.cpu_count(),
        "lanes": host.LANES[4],
        "tile_rows": host.TILE_ROWS,
        "system": f"{platform.system()} {platform.machine()}",
    }
    versions = {"fastmlp": __version__, "python": platform.python_version()}
    versions.update((package, version) for package in _PACKAGES if (version := version_of(package)))
    return {"machine": machine, "versions": versions, **_commit(Path(__file__).parents[2])}


def _commit(root: Path) -> dict[str, Any]:
    """Return the checked-out commit, and whether files differ from it; None outside a checkout.

    Only a ``.git`` directly in ``root`` counts: an installed package may lie inside the checkout of another project.
    """
    if not (root / ".git").exists() or shutil.which("git") is None:
        return {"commit": None, "modified": None}
    head, changes = (
        subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
        for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--", "fastmlp"))
    )
    if head.returncode or changes.returncode:
        return {"commit": None, "modified": None}
    return {"commit": head.stdout.strip(), "modified": bool(changes.stdout.strip())}
