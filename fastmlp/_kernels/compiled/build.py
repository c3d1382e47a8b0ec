"""Build of the libraries of compiled kernels, by Numba, LLVM and the system's linker.

    python -m fastmlp._kernels.compiled.build [LEVEL ...] [--out FOLDER]

The default level is the best one of this processor. A library has a description beside it: a JSON file with the
digests of the library and of the sources.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import llvmlite
import numba
from llvmlite import binding

from ..cpu.host import width_of
from ..fingerprint import fingerprint
from .library import FOLDER, LEVEL_BYTES, library_file

__all__ = ["build", "levels_of_host"]


def levels_of_host() -> list[str]:
    """Return the levels of this machine, the best one of its processor last."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return ["aarch64"]
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return []
    width = width_of(binding.get_host_cpu_features())
    return [level for level in ("x86-64-v3", "x86-64-v4") if LEVEL_BYTES[level] <= width]


def build(level: str, out: Path = FOLDER, processes: int | None = None) -> Path:
    """Compile all kernels for one level and link them; return the path of the library.

    Parameters
    ----------
    level : str
        One of `LEVEL_BYTES`.
    out : Path
        Folder of the library.
    processes : int, optional
        Number of processes that compile at the same time (default: one for each processor).

    Raises
    ------
    subprocess.CalledProcessError
        If the compilation or the linker fails.
    """
    processes = processes or os.cpu_count() or 1
    # Without the names of features, Numba would add those of the processor that builds. Without SVML, the functions of
    # a kernel do not depend on a library of Intel's.
    environment = {
        **os.environ, "NUMBA_CPU_NAME": "generic" if level == "aarch64" else level, "NUMBA_CPU_FEATURES": "",
        "NUMBA_DISABLE_INTEL_SVML": "1", "NUMBA_DISABLE_JIT": "0",
        "FASTMLP_LANES": str(LEVEL_BYTES[level] // 4),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(FOLDER.parents[2]), os.environ.get("PYTHONPATH")))),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fastmlp._kernels.compiled.objects", folder]
        running = [
            subprocess.Popen([*command, str(part), str(processes)], env=environment) for part in range(processes)
        ]
        for one in running:
            if one.wait():
                raise subprocess.CalledProcessError(one.returncode, one.args)
        return _link(level, sorted(Path(folder).glob("*.o")), out)


def _link(level: str, objects: Sequence[Path], out: Path) -> Path:
    path = library_file(level, out)
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    strict = [] if sys.platform == "darwin" else ["-Wl,--no-undefined", "-Wl,-z,now", "-Wl,--build-id=none"]
    subprocess.run([*compiler, "-shared", "-o", str(path), *map(str, objects), *strict], check=True)
    description = {
        "level": level, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "sources": fingerprint(FOLDER.parent / "cpu"), "numba": numba.__version__, "llvmlite": llvmlite.__version__,
    }  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(description, indent=1) + "\n")
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m fastmlp._kernels.compiled.build", description=__doc__)
    parser.add_argument("levels", nargs="*", metavar="LEVEL", help=f"one of {', '.join(LEVEL_BYTES)}")
    parser.add_argument("--all", action="store_true", help="compile for all levels of this kind of machine")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the libraries (default: the package's)")
    given = parser.parse_args(arguments)
    unknown = set(given.levels) - set(LEVEL_BYTES)
    if unknown:
        parser.error(f"the level is {min(unknown)!r}; expected one of {', '.join(LEVEL_BYTES)}")
    of_host = levels_of_host()
    if not of_host:
        print(f"fastmlp: there are no compiled kernels for {platform.machine()}.")
        return
    every = ["aarch64"] if of_host == ["aarch64"] else ["x86-64-v3", "x86-64-v4"]
    for level in given.levels or (every if given.all else of_host[-1:]):
        began = time.perf_counter()
        path = build(level, given.out)
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
