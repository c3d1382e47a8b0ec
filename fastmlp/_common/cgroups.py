"""Control groups of the process (Linux, version 1 or 2), whose limits bound its processors and its memory."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

__all__ = ["ControlGroup", "control_groups"]

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


class ControlGroup(NamedTuple):
    """Folder of a control group, which may not exist, and the version of its files."""

    folder: Path
    version: int


def control_groups(controller: str) -> list[ControlGroup]:
    """Return the groups of the process and all their ancestors for a controller, such as ``"cpu"`` or ``"memory"``.

    The limits of all ancestors bind a group too. In a container the path may be that of the host and not exist; the
    container's own group is then the root.
    """
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except OSError:
        lines = ["0::/", f"1:{controller}:/"]
    groups = []
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        parts = [part for part in path.split("/") if part]
        if ".." in parts:  # the group lies outside of the process's cgroup namespace
            parts = []
        for root in dict.fromkeys((controllers, controller) if controllers else ("", "unified")):
            for depth in range(len(parts) + 1):
                groups.append(ControlGroup(_CGROUPS.joinpath(root, *parts[:depth]), 1 if controllers else 2))
    return groups
