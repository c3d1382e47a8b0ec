"""Hash of the sources of kernels."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

__all__ = ["fingerprint"]


@functools.cache
def fingerprint(folder: Path) -> str:
    """Return a hash of all sources that the kernels of a folder are compiled from."""
    digest = hashlib.blake2b(digest_size=8)
    around = folder.parent  # formulas and constants are compiled in from there
    shared = (
        *(around / name for name in ("number.py", "op_columns.py", "polynomials.py", "compiled/objects.py")),
        *around.glob("formulas/**/*.py"),
        *(around.parent / "_common" / name for name in ("arithmetic.py", "philox.py")),
    )
    for path in sorted([*folder.glob("**/*.py"), *shared]):
        digest.update(path.read_bytes())
    return digest.hexdigest()
