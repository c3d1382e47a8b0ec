"""Compiled GPU kernels on disk, for other processes, by numba-cuda's cache, which has no public interface."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from ..fingerprint import fingerprint

__all__ = ["MARK", "Kept"]

# In the name of each file, so that those of other versions of the sources are known without opening them.
MARK = ".fastmlp-"


class Kept:
    """Before one of Numba's `Cache` classes: files of their own for each state of all sources, and no error ever.

    `folder` is that of the sources, `files` the class of Numba's index and data files. Those count the data files: two
    processes that add a version each at the same time take the same number, and then the one's code is found under the
    other's signature. Here a name is made from the key, and the worst is that one entry is lost. A file that is damaged
    counts as one that is not there: the kernel is compiled again, and replaces it.
    """

    folder: ClassVar[Path]
    files: ClassVar[Any]
    _swept: ClassVar[set[str]] = set()

    def __init__(self, function: Any) -> None:
        super().__init__(function)  # type: ignore[call-arg]
        self._version = f"{MARK}{fingerprint(self.folder)}"
        self._cache_file = _checked(self.files)(
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


_DIGEST = 16  # bytes


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()


def _is_whole(path: str) -> bool:
    """Whether a file is there, and ends with the digest of all that comes before."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return False
    return _digest(content[:-_DIGEST]) == content[-_DIGEST:]


@functools.cache
def _checked(files: Any) -> Any:
    class Files(files):
        """Names of data files by their keys, and a digest at each file's end, where unpickling ignores it.

        Damaged machine code would be run: an access violation at each start, until the user finds the file.
        """

        def save(self, key: Any, data: Any) -> None:
            digest = hashlib.blake2b(repr(key).encode(), digest_size=6).digest()
            name = self._data_name(int.from_bytes(digest, "big"))
            self._save_data(name, data)
            self._save_index({**self._load_index(), key: name})

        @contextlib.contextmanager
        def _open_for_write(self, filepath: str) -> Iterator[io.BytesIO]:
            with super()._open_for_write(filepath) as file:
                content = io.BytesIO()
                yield content
                file.write(content.getvalue() + _digest(content.getvalue()))

        def _load_index(self) -> Any:
            return super()._load_index() if _is_whole(self._index_path) else {}

        def _load_data(self, name: str) -> Any:
            if not _is_whole(self._data_path(name)):
                raise FileNotFoundError(name)  # which is a miss
            return super()._load_data(name)

    return Files
