"""``fastmlp info``: versions, backend, processor, threads and folders."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
from pathlib import Path
from typing import Any

from .. import __version__
from .._kernels import BACKENDS, get_backend
from ..datasets.fetch import data_folder
from ..errors import BackendError
from .runs import version_of

__all__ = ["add_parser", "kernel_cache"]

_PACKAGES = ("numpy", "numba", "llvmlite", "safetensors", "tqdm", "pooch", "matplotlib", "pandas", "pyarrow")


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "info",
        help="versions, backend, processor and folders",
        description="Print what fastmlp finds on this machine.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    lines = [("fastmlp", f"{__version__} in {Path(__file__).parents[1]}")]
    lines.append(("python", f"{platform.python_version()} on {platform.platform()}"))
    lines += [(package, version_of(package) or "not installed") for package in _PACKAGES]
    lines += [("backend", _backend()), ("cpu", _processor()), ("vectors", _vectors())]
    lines += [("threads", _threads()), ("kernel cache", kernel_cache())]
    lines.append(("data folder", _data_folder()))
    for name, value in lines:
        print(f"{name:13s} {value}")
    return 0


def _backend() -> str:
    chosen = os.environ.get("FASTMLP_BACKEND")
    why = f"FASTMLP_BACKEND={chosen}" if chosen else "the default"
    try:
        return f"{get_backend().name} ({why}; there are {', '.join(BACKENDS)})"
    except BackendError as error:
        return f"none ({why}): {error}"


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _vectors() -> str:
    try:
        host = importlib.import_module("fastmlp._kernels.cpu.host")
    except (BackendError, ImportError) as error:
        return f"unknown: {error}"
    return f"{host.VECTOR_BYTES} bytes: {host.LANES[4]} float32 or {host.LANES[8]} float64"


def _threads() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _cgroup_quota()
    limit = "no cgroup quota" if quota is None else f"cgroup quota of {quota:g}"
    return f"{os.cpu_count()} processors, {usable} usable by this process, {limit}; training uses 1 for now"


def _cgroup_quota() -> float | None:
    """Processors that the control group grants, of version 2 or 1; None without a limit."""
    for file, period_file in (
        ("/sys/fs/cgroup/cpu.max", None),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    ):
        if not os.path.isfile(file):
            continue
        fields = Path(file).read_text().split()
        if period_file is not None:
            fields += Path(period_file).read_text().split()
        if len(fields) == 2 and fields[0] not in ("max", "-1"):
            return int(fields[0]) / int(fields[1])
    return None


def kernel_cache() -> str:
    """Where compiled kernels are kept."""
    folder = os.environ.get("NUMBA_CACHE_DIR")
    if folder:
        return f"{folder} (NUMBA_CACHE_DIR)"
    beside = Path(__file__).parents[1] / "_kernels" / "cpu" / "__pycache__"
    if os.access(beside if beside.exists() else beside.parent, os.W_OK):
        return str(beside)
    return "numba's own for this user: the package's folder is not writable"


def _data_folder() -> str:
    folder = data_folder(None)
    why = "FASTMLP_DATA" if os.environ.get("FASTMLP_DATA") else "the platform's cache"
    return f"{folder} ({why}{'' if folder.exists() else '; not there yet'})"
