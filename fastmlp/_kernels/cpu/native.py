"""Low-level operations of the engine: calls by address, atomics, prefetching and the processor's float mode.

Each operation is one or two LLVM instructions (`lowering.native`). None can be expressed in NumPy, so the engine runs
compiled only.
"""

from __future__ import annotations

from typing import Any

from .jit import lower

__all__ = [
    "as_integers", "atomic_add", "atomic_load", "bytes_at", "call_pointer", "flush_denormals", "integers_at",
    "numbers_at", "pause", "pointer", "prefetch", "prefetch_to_read", "reals_at", "restore_float_mode", "singles_at",
    "will_need", "words_at", "yield_processor",
]  # fmt: skip


def _compiled_only(name: str) -> Any:
    raise NotImplementedError(f"{name} runs in compiled code only.")


def pointer(a: Any, i: int) -> Any:
    """Return a pointer to element ``i`` of the flat array ``a``; a pointer is cheaper to pass than an array."""
    return _compiled_only("pointer")


def as_integers(p: Any) -> Any:
    """Return a pointer to int64 at the address of another pointer."""
    return _compiled_only("as_integers")


def call_pointer(
    address: int, work: Any, weights: Any, table: Any, numbers: Any, first: int, last: int, extra: int
) -> None:
    """Call the function at ``address``, see `jit.function_pointer`, with four pointers and three integers."""
    _compiled_only("call_pointer")


# Conversions of an address to a pointer, for use with `jit.carray`.


def integers_at(address: int) -> Any:
    """Return a pointer to int64."""
    return _compiled_only("integers_at")


def numbers_at(address: int) -> Any:
    """Return a pointer to float64."""
    return _compiled_only("numbers_at")


def bytes_at(address: int) -> Any:
    """Return a pointer to uint8."""
    return _compiled_only("bytes_at")


def singles_at(address: int) -> Any:
    """Return a pointer to float32."""
    return _compiled_only("singles_at")


def words_at(address: int) -> Any:
    """Return a pointer to uint32."""
    return _compiled_only("words_at")


def reals_at(address: int, like: Any) -> Any:
    """Return a pointer of ``like``'s type."""
    return _compiled_only("reals_at")


def prefetch(a: Any, i: int) -> None:
    """Prefetch the cache line of element ``i`` for writing, which takes the line from other cores."""
    _compiled_only("prefetch")


def prefetch_to_read(a: Any, i: int) -> None:
    """Prefetch the cache line of element ``i`` into L2 for reading."""
    _compiled_only("prefetch_to_read")


def will_need(address: int, size: int, page: int) -> None:
    """Tell the system to read ``size`` bytes of a mapped file ahead, without blocking this thread.

    ``page`` is the size of the system's pages.
    """
    _compiled_only("will_need")


def atomic_add(a: Any, i: int, x: int) -> int:
    """Add x to a[i] of an int64 array with sequential consistency; return the old value."""
    return int(_compiled_only("atomic_add"))


def atomic_load(a: Any, i: int) -> int:
    """Load a[i] of an int64 array with acquire semantics."""
    return int(_compiled_only("atomic_load"))


def pause() -> None:
    """Tell the processor that the thread is in a spin loop."""
    _compiled_only("pause")


def yield_processor() -> None:
    """Let another thread run on this processor."""
    _compiled_only("yield_processor")


def flush_denormals() -> int:
    """Flush denormal numbers to zero in this thread from now on; return the previous mode."""
    return int(_compiled_only("flush_denormals"))


def restore_float_mode(mode: int) -> None:
    """Restore the mode returned by `flush_denormals`."""
    _compiled_only("restore_float_mode")


lower("native")
