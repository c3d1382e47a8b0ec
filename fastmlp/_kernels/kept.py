"""Compiled kernels on disk, for other processes: what Numba's caches of CPU and GPU kernels have in common here."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from pathlib import Path
from typing import Any, ClassVar

__all__ = ["MARK", "Kept", "fingerprint"]

# In the name of each file, so that those of other versions of the sources are known without opening them.
MARK = ".fastmlp-"


@functools.cache
def fingerprint(folder: Path) -> str:
    """Hash of the sources of a folder's kernels: Numba itself hashes only the file of the function that it keeps."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted([*folder.glob("*.py"), *folder.parent.glob("*.py")]):  # constants are compiled in from there
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Kept:
    """Before one of Numba's `Cache` classes: files of their own for each state of all sources, and no error ever.

    `folder` is that of the sources, `files` the class of Numba's index and data files. Those count the data files: two
    processes that add a version each at the same time take the same number, and then the one's code is found under the
    other's signature. Here a name is made from the key, and the worst is that one entry is lost.
    """

    folder: ClassVar[Path]
    files: ClassVar[Any]
    _swept: ClassVar[set[str]] = set()

    def __init__(self, function: Any) -> None:
        super().__init__(function)  # type: ignore[call-arg]
        self._version = f"{MARK}{fingerprint(self.folder)}"
        self._cache_file = _named_by_key(self.files)(
            self.cache_path, self._impl.filename_base + self._version, self._impl.locator.get_source_stamp()
        )

    cache_path: Any
    _impl: Any

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What was kept for a signature, or None."""
        try:
            return super().load_overload(sig, target_context)  # type: ignore[misc]
        except Exception:  # unpickling a damaged file can raise anything; it is compiled again, and replaced
            with contextlib.suppress(OSError):
                self.flush()  # type: ignore[attr-defined]
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep it, where that is possible."""
        try:
            self._sweep()  # first, as it makes room
            super().save_overload(sig, data)  # type: ignore[misc]
        except OSError:  # a full disk or a read-only folder costs a compilation next time, no more
            self.disable()  # type: ignore[attr-defined]

    def _sweep(self) -> None:
        """Delete, once in a process, what other versions of the sources left in the folder.

        Their processes may be running still: one that misses a file compiles again.
        """
        if self.cache_path in self._swept:
            return
        self._swept.add(self.cache_path)
        for path in Path(self.cache_path).glob(f"*{MARK}*.nb[ic]*"):
            if f"{self._version}." not in path.name:
                with contextlib.suppress(OSError):  # deleted by another process, in use, or not ours to delete
                    path.unlink()


@functools.cache
def _named_by_key(files: Any) -> Any:
    class Files(files):  # type: ignore[misc]
        def save(self, key: Any, data: Any) -> None:
            digest = hashlib.blake2b(repr(key).encode(), digest_size=6).digest()
            name = self._data_name(int.from_bytes(digest, "big"))
            self._save_data(name, data)
            self._save_index({**self._load_index(), key: name})

    return Files
