"""Library of compiled kernels: choice of the instruction-set level, check and loading."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..fingerprint import fingerprint

__all__ = ["FOLDER", "LEVEL_BYTES", "Library", "fault", "host_level", "level_for", "library", "library_file", "reason"]

FOLDER = Path(__file__).parent
# Bytes of a vector register by level.
LEVEL_BYTES = {"x86-64-v3": 32, "x86-64-v4": 64, "aarch64": 16}
_SUFFIX = ".dll" if os.name == "nt" else ".so"
REALS = ("float32", "float64")
SOURCES = ("uint8", "float32", "float64")


def library_file(level: str, folder: Path = FOLDER) -> Path:
    """Return the path of a level's library; its description is beside it, with the suffix .json."""
    return folder / f"fastmlp-{level}{_SUFFIX}"


class Library:
    """Loaded library.

    Parameters
    ----------
    path : Path
    native : module
        The extension module that calls kernels.
    """

    def __init__(self, path: Path, native: Any) -> None:
        self.path, self._native = path, native
        self.description: dict[str, str] = json.loads(path.with_suffix(".json").read_text())
        self._functions = ctypes.CDLL(str(path))

    def address(self, name: str) -> int | None:
        """Return the address of ``fastmlp_<name>``, or None if the library has no such function."""
        found = getattr(self._functions, f"fastmlp_{name}", None)
        return None if found is None else ctypes.cast(found, ctypes.c_void_p).value

    def kernel(self, name: str, arguments: Iterable[tuple[str, int]], result: str | None) -> Any:
        """Return a kernel, to be called with NumPy arrays, or None if the library does not have it."""
        elements = {element for element, _ in arguments}
        versions = {}
        for real in REALS if "real" in elements else ("",):
            for source in SOURCES if "source" in elements else ("",):
                address = self.address("_".join(filter(None, (name, real, source))))
                if address is None:
                    return None
                versions[real, source] = address
        return self._native.Kernel(name, arguments, result, versions)


class _Choice(NamedTuple):
    library: Library | None
    reason: str  # why this library, or why none


def host_level() -> str | None:
    """Return the best instruction-set level of this processor, empty if it has none; None if that is not known."""
    try:
        from . import native  # type: ignore[attr-defined]
    except ImportError:
        return None
    return str(native.level())


def level_for(vector_bytes: int, best: str) -> str | None:
    """Return the level with vectors of this width on a processor whose best level is ``best``; None if it has none."""
    usable = [best] if best == "aarch64" else [level for level in ("x86-64-v3", "x86-64-v4") if level <= best]
    return next((level for level in usable if LEVEL_BYTES[level] == vector_bytes), None)


def library(vector_bytes: int) -> Library | None:
    """Return the library for vectors of this width, or None if the JIT compiles the kernels."""
    return _choose(vector_bytes).library


def reason(vector_bytes: int) -> str:
    """Return why `library` returns what it does, as a clause."""
    return _choose(vector_bytes).reason


@functools.cache
def _choose(vector_bytes: int) -> _Choice:
    if os.environ.get("FASTMLP_JIT", "").strip() not in ("", "0"):
        return _Choice(None, "FASTMLP_JIT is set")
    try:
        from . import native  # type: ignore[attr-defined]
    except ImportError:
        return _Choice(None, "the package was installed without compiled kernels")
    level = level_for(vector_bytes, native.level())
    if level is None:
        return _Choice(None, f"no level of compiled kernels has vectors of {vector_bytes} bytes on this processor")
    path = library_file(level)
    if not path.is_file():
        return _Choice(None, f"the package was installed without compiled kernels for {level}")
    found = fault(path)
    if found:
        return _Choice(None, found)
    return _Choice(Library(path, native), f"compiled for {level}")


def fault(path: Path) -> str:
    """Return what is wrong with a library, as a clause; nothing if it may be loaded."""
    try:
        described = json.loads(path.with_suffix(".json").read_text())
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        return f"{path} cannot be read ({error})"
    if described.get("sha256") != digest:
        return f"{path} is damaged: its digest is not the one of the build"
    # In a checkout the sources may change after the build.
    if (FOLDER.parents[2] / "setup.py").is_file() and described.get("sources") != fingerprint(FOLDER.parent / "cpu"):
        return f"{path} was built from other sources; build it again by python -m fastmlp._kernels.compiled.build"
    return ""
