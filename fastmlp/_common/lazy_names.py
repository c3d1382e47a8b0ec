"""Public names of a package, written once in its ``__init__.pyi`` and imported when they are first used."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

__all__ = ["import_name", "read_names"]


def read_names(init: str) -> dict[str, tuple[str, str]]:
    """Return {name: (its file, the library without which it cannot be used or "")} for a package.

    Parameters
    ----------
    init : str
        Path of the package's ``__init__.py``. Lines ``from .file import name as name`` of the ``.pyi`` file beside it
        are read, with ``# needs library`` after them where one is needed.
    """
    return {
        name: (file, library)
        for file, name, library in re.findall(
            r"^from \.([\w.]+) import (\w+) as \2(?:  # needs (\w+))?$",
            Path(init).with_suffix(".pyi").read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    }


def import_name(package: str, names: dict[str, tuple[str, str]], name: str) -> Any:
    """Return one of the `read_names` of a package; for its ``__getattr__``.

    Raises
    ------
    AttributeError
        If the package has no such name.
    """
    if name not in names:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{names[name][0]}", package), name)
