"""Library of compiled kernels: choice of the instruction-set level, check and loading."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ..._common.errors import BackendError
from ..fingerprint import fingerprint

__all__ = [
    "FOLDER", "LEVEL_BYTES", "Library", "UnusableError", "checked_description", "chosen_level", "extension_module",
    "host_level", "kernel_type", "level_for", "library", "library_file", "reason", "usable_levels",
]  # fmt: skip

FOLDER = Path(__file__).parent
# Bytes of a vector register by level.
LEVEL_BYTES = {"x86-64-v3": 32, "x86-64-v4": 64, "aarch64": 16}
_SUFFIX = ".dll" if os.name == "nt" else ".so"


def library_file(level: str, folder: Path = FOLDER) -> Path:
    """Return the path of a level's library; its description is beside it, with the suffix .json."""
    return folder / f"fastmlp-{level}{_SUFFIX}"


class Library:
    """Loaded library.

    Parameters
    ----------
    path : Path
    description : dict of str to str
        The description beside the library, see `build`.
    """

    def __init__(self, path: Path, description: dict[str, str]) -> None:
        self.path, self.description = path, description
        self._functions = ctypes.CDLL(str(path))

    def address(self, name: str) -> int | None:
        """Return the address of ``fastmlp_<name>``, or None if the library has no such function."""
        found = getattr(self._functions, f"fastmlp_{name}", None)
        return None if found is None else ctypes.cast(found, ctypes.c_void_p).value


class UnusableError(Exception):
    """A library that must not be loaded; the message is one clause."""


class _Choice(NamedTuple):
    library: Library | None
    reason: str  # the level of the library, or the reason for none, as a clause


def extension_module() -> ModuleType | None:
    """Return the extension module, or None if the package was installed without it."""
    try:
        return importlib.import_module(".native", __package__)
    except ImportError:
        return None


def kernel_type() -> Any:
    """Return the class of kernels, from the extension module if it was installed, else in Python."""
    native = extension_module()
    return importlib.import_module(".python_calls", __package__).Kernel if native is None else native.Kernel


def host_level() -> str | None:
    """Return the best instruction-set level of this processor, empty if it has none; None if that is not known."""
    native = extension_module()
    return None if native is None else str(native.level())


def usable_levels(best: str) -> list[str]:
    """Return the levels of a processor whose best level is ``best``."""
    return [best] if best == "aarch64" else [level for level in ("x86-64-v3", "x86-64-v4") if level <= best]


def level_for(vector_bytes: int, best: str) -> str | None:
    """Return the level with vectors of this width on a processor whose best level is ``best``; None if it has none."""
    return next((level for level in usable_levels(best) if LEVEL_BYTES[level] == vector_bytes), None)


def chosen_level() -> str | None:
    """Return the level that the environment variable ``FASTMLP_INSTRUCTIONS`` chooses, None without a choice.

    Raises
    ------
    BackendError
        If the processor does not have the level.
    """
    asked, best = os.environ.get("FASTMLP_INSTRUCTIONS", "").strip(), host_level()
    if not asked:
        return None
    usable = list(LEVEL_BYTES) if best is None else usable_levels(best)
    if asked not in usable:
        expected = ", ".join(usable) or "none, as this processor has no such level"
        raise BackendError(f"FASTMLP_INSTRUCTIONS is {asked!r}; expected {expected}.")
    return asked


def library(vector_bytes: int) -> Library | None:
    """Return the library for vectors of this width, or None if the JIT compiles the kernels."""
    return _choose(vector_bytes).library


def reason(vector_bytes: int) -> str:
    """Return the level of the result of `library`, or the reason for None, as a clause."""
    return _choose(vector_bytes).reason


@functools.cache
def _choose(vector_bytes: int) -> _Choice:
    try:
        return _load(vector_bytes)
    except UnusableError as error:
        return _Choice(None, str(error))


def _load(vector_bytes: int) -> _Choice:
    if os.environ.get("FASTMLP_JIT", "").strip() not in ("", "0"):
        raise UnusableError("FASTMLP_JIT is set")
    native = extension_module()
    if native is None:
        raise UnusableError("the package was installed without compiled kernels")
    level = level_for(vector_bytes, native.level())
    if level is None:
        raise UnusableError(f"no level of compiled kernels has vectors of {vector_bytes} bytes on this processor")
    path = library_file(level)
    if not path.is_file():
        raise UnusableError(f"the package was installed without compiled kernels for {level}")
    return _Choice(Library(path, checked_description(path)), level)


def checked_description(path: Path) -> dict[str, str]:
    """Return the description of a library.

    Raises
    ------
    UnusableError
        If the library is damaged, or in a checkout was built from other sources.
    """
    try:
        description: dict[str, str] = json.loads(path.with_suffix(".json").read_text())
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise UnusableError(f"{path} cannot be read ({error})") from error
    if description.get("sha256") != digest:
        raise UnusableError(f"{path} is damaged: its digest is not the one of the build")
    # In a checkout the sources may change after the build.
    if (FOLDER.parents[2] / "setup.py").is_file() and description.get("sources") != fingerprint(FOLDER.parent / "cpu"):
        raise UnusableError(
            f"{path} was built from other sources; build it again by python -m fastmlp._kernels.compiled.build"
        )
    return description
