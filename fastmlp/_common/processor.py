"""Processor and package versions, as shown by `fastmlp info`, saved runs and benchmarks."""

from __future__ import annotations

import platform
import re
from importlib import metadata
from pathlib import Path

__all__ = ["processor", "version_of"]


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of the processor.

    On x86 the family and the model are appended, since virtual machines often hide the name.

    Examples
    --------
    >>> processor()  # doctest: +SKIP
    'AMD EPYC (family 25, model 1)'
    """
    if cpuinfo.is_file():
        text = cpuinfo.read_text(errors="replace")
        name, family, model = (
            found.group(1).strip() if (found := re.search(rf"^{key}\s*:(.*)$", text, re.MULTILINE)) else None
            for key in ("model name", "cpu family", "model")
        )
        if name:
            return f"{name} (family {family}, model {model})" if family and model else name
    return platform.processor() or platform.machine()


def version_of(package: str) -> str | None:
    """Return the version of ``package``, or None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
