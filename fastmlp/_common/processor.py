"""Processor and package versions, as shown by `fastmlp info`, saved runs and benchmarks."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import platform
import re
from importlib import metadata
from pathlib import Path

__all__ = ["cache_sizes", "identity", "processor", "version_of"]

_CACHES = "/sys/devices/system/cpu/cpu0/cache"
# Fields of /proc/cpuinfo that tell processors apart, on x86 and on ARM.
_FIELDS = (
    "vendor_id", "model name", "cpu family", "model", "stepping",
    "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision",
)  # fmt: skip


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


def cache_sizes(folder: str = _CACHES) -> dict[str, str]:
    """Return the sizes of the first processor's caches as the system writes them, empty if it reports none.

    Examples
    --------
    >>> cache_sizes()  # doctest: +SKIP
    {'L1 Data': '32K', 'L1 Instruction': '32K', 'L2 Unified': '1024K', 'L3 Unified': '32768K'}
    """
    found = {}
    for entry in sorted(Path(folder).glob("index*")):
        try:
            level, kind, size = ((entry / name).read_text().strip() for name in ("level", "type", "size"))
        except (OSError, UnicodeDecodeError):
            continue
        found[f"L{level} {kind}"] = size
    return found


@functools.cache
def identity(cpuinfo: Path = Path("/proc/cpuinfo"), caches: str = _CACHES) -> dict[str, str]:
    """Return what the system reports of the kind of processor: names and numbers, a digest of its features, caches."""
    found = {}
    with contextlib.suppress(OSError), cpuinfo.open(errors="replace") as lines:
        for line in lines:
            name, colon, value = (part.strip() for part in line.partition(":"))
            if not colon:  # the end of the first processor
                break
            if name in _FIELDS:
                found[name] = value
            elif name in ("flags", "Features"):
                found["features"] = hashlib.blake2b(value.encode(), digest_size=8).hexdigest()
    found = found or {"name": platform.processor()}
    return {"machine": platform.machine(), **found, **cache_sizes(caches)}


def version_of(package: str) -> str | None:
    """Return the version of ``package``, or None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
