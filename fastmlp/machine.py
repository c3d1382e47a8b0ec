"""What machine and which packages this is: for `fastmlp info`, saved runs and benchmarks."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

__all__ = ["processor", "version_of"]


def processor() -> str:
    """The processor's name, as far as the system tells."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def version_of(package: str) -> str | None:
    """The version of an installed package, None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
