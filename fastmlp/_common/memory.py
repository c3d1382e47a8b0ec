"""Memory that the process may use.

Nothing is cached, since the free memory changes all the time.
"""

from __future__ import annotations

import os
from pathlib import Path

from .cgroups import ControlGroup, control_groups

__all__ = ["available_memory", "format_bytes"]

_MEMINFO = Path("/proc/meminfo")
_LIMITS = {1: ("memory.limit_in_bytes",), 2: ("memory.max", "memory.high")}
_USAGES = {1: "memory.usage_in_bytes", 2: "memory.current"}


def available_memory() -> int | None:
    """Return the bytes that the process may still use without swapping, or None if the system does not tell.

    On Linux, this is the minimum of MemAvailable and of what the limits of the control groups leave. Cached contents of
    files count as available, since the system discards them. On other systems it is half of the physical memory, if
    `os.sysconf` knows that.

    Examples
    --------
    >>> available = available_memory()
    >>> available is None or available > 0
    True
    """
    bounds = [_of_machine(), *map(_of_group, control_groups("memory"))]
    return min((bound for bound in bounds if bound is not None), default=None)


def _of_machine() -> int | None:
    fields = _read_fields(_MEMINFO)
    if "MemAvailable:" in fields:
        return fields["MemAvailable:"] << 10  # the file has KiB
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):  # Windows; or a system that does not know the names
        return None


def _of_group(group: ControlGroup) -> int | None:
    """Return the bytes that the limits of one control group leave, None without a limit."""
    folder, version = group
    limits = [limit for name in _LIMITS[version] if (limit := _read_number(folder / name)) is not None]
    usage = _read_number(folder / _USAGES[version])
    if not limits or usage is None:
        return None
    fields = _read_fields(folder / "memory.stat")
    prefix = "total_" if "total_active_file" in fields else ""  # version 1: with the groups below, as the usage is
    cached = sum(fields.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))
    return max(0, min(limits) - max(0, usage - cached))


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such group, or "max"
        return None


def _read_fields(path: Path) -> dict[str, int]:
    """Return the numbers of a file whose lines begin with a name and a number."""
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}


def format_bytes(count: int) -> str:
    """Return a number of bytes as text.

    Examples
    --------
    >>> format_bytes(3 << 30), format_bytes(150 << 20)
    ('3.0 GiB', '150 MiB')
    """
    return f"{count / 2**30:.1f} GiB" if count >= 1 << 30 else f"{count / 2**20:.0f} MiB"
