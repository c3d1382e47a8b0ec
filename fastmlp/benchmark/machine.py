"""Where a benchmark ran: processor, versions and commit; nothing that names the host."""

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
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class OtherLoad:
    """How many cores other processes have used since this was made; None where the system does not tell."""

    def __init__(self) -> None:
        self._start = self._now()

    def _now(self) -> tuple[float, float]:
        """(wall time, processor time of others) in seconds."""
        busy = math.nan
        path = Path("/proc/stat")
        if path.is_file():
            # user, nice, system; idle, iowait; irq, softirq: guests are counted in the first two.
            ticks = [int(field) for field in path.read_text().split("\n", 1)[0].split()[1:8]]
            busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK") - time.process_time()
        return time.perf_counter(), busy

    def cores(self) -> float | None:
        """Their mean number."""
        wall, busy = (now - then for now, then in zip(self._now(), self._start))
        return None if math.isnan(busy) else max(0.0, round(busy / wall, 2))


def describe() -> dict[str, Any]:
    """``machine``, ``versions`` and ``commit``, fit for JSON; a `BackendError` without Numba."""
    get_backend("numba")  # an error where there is none, which the user can read
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
    """The commit that is checked out, and whether files differ from it; null outside a checkout.

    An installed package may lie inside a checkout of something else.
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
