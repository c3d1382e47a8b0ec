"""Choices that change the speed of the engine and never a result: their values, and the file of measured ones.

A value comes from the environment variable ``FASTMLP_TUNING``, else from the file that ``fastmlp tune`` wrote for this
processor and this version, else from what the processor reports, else it is a default.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import hashlib
import importlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .errors import BackendError, PerformanceWarning, warn_user
from .processor import identity

__all__ = [
    "CHOICES", "VARIABLE", "Choice", "Value", "file_content", "forget", "override", "tuned", "tuned_value",
    "tuning_file",
]  # fmt: skip

VARIABLE = "FASTMLP_TUNING"
_OFF = "off"


class Choice(NamedTuple):
    """Range of a choice, its default (None: it is derived by the caller), and its meaning in one clause."""

    lowest: int
    highest: int
    default: int | None
    meaning: str


CHOICES = {
    # Below the default, synchronization cost more than a second thread gained on an AMD Zen 4.
    "flops_per_thread": Choice(1_000, 10**12, 1_500_000, "fewest floating-point operations of a step for each thread"),
    # Each thread reads all weights for its rows.
    "rows_per_thread": Choice(1, 10**6, 24, "fewest rows of a step for each of more than two threads"),
    "batch_block": Choice(8, 10**5, None, "rows of a batch whose gradient is summed at once"),
    "panel_prefetch": Choice(0, 1, 1, "1: a product prefetches the next panel of its weights"),
    "weight_prefetch": Choice(0, 1, 1, "1: a single thread prefetches weights for gradients"),
}


class Value(NamedTuple):
    """Value of a choice, and where it comes from."""

    value: int
    source: str


_overrides: contextvars.ContextVar[Mapping[str, int] | None] = contextvars.ContextVar("fastmlp_tuning", default=None)


def tuned(name: str, derived: int | None = None) -> int:
    """Return the value of a choice; ``derived`` is what follows from the processor, where that decides.

    Raises
    ------
    BackendError
        If FASTMLP_TUNING is invalid.

    Examples
    --------
    >>> with override(rows_per_thread=32):
    ...     tuned("rows_per_thread")
    32
    """
    return tuned_value(name, derived).value


def tuned_value(name: str, derived: int | None = None) -> Value:
    """Return the value of `tuned`, with its source."""
    overrides = _overrides.get() or {}
    if name in overrides:
        return Value(overrides[name], "override")
    chosen = _parse(os.environ.get(VARIABLE, ""))
    if chosen is not None:
        if name in chosen:
            return Value(chosen[name], VARIABLE)
        measured = _measured()
        if name in measured:
            return Value(measured[name], "measured")
    if derived is not None:
        return Value(derived, "derived")
    default = CHOICES[name].default
    assert default is not None, f"{name} is derived by its caller"
    return Value(default, "default")


@contextlib.contextmanager
def override(**values: int) -> Iterator[None]:
    """Set choices in the current context, over all other sources."""
    token = _overrides.set({**(_overrides.get() or {}), **values})
    try:
        yield
    finally:
        _overrides.reset(token)


@functools.lru_cache(maxsize=8)
def _parse(text: str) -> dict[str, int] | None:
    """Return the assignments in FASTMLP_TUNING; None if it is "off"."""
    if text.strip() == _OFF:
        return None
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = (piece.strip() for piece in part.partition("="))
        choice = CHOICES.get(name)
        if choice is None:
            raise BackendError(
                f"{VARIABLE} has {part[:40]!r}; expected {_OFF!r}, or NAME=VALUE,... with some of {', '.join(CHOICES)}."
            )
        if not number.isdecimal() or not choice.lowest <= int(number) <= choice.highest:
            raise BackendError(
                f"{VARIABLE} has {part[:40]!r}; expected an integer from {choice.lowest} to {choice.highest}."
            )
        found[name] = int(number)
    return found


# ------------------------------------------------------------------------------------- the file


def tuning_file() -> Path | None:
    """Return the path of the file for this processor and this version; None without a cache folder.

    Nodes of a cluster with a common home folder have files of their own, as the name has a digest of the processor.
    """
    folder = _folder()
    if folder is None:
        return None
    version = importlib.import_module(__package__.partition(".")[0]).__version__
    digest = hashlib.blake2b(json.dumps(identity(), sort_keys=True).encode(), digest_size=8).hexdigest()
    return folder / f"{version}-{digest}.json"


def _folder() -> Path | None:
    try:
        folder = Path(importlib.import_module("platformdirs").user_cache_dir("fastmlp", appauthor=False))
    except ImportError:  # an installation without the packages for training
        return None
    if not folder.is_absolute():  # a user without a home folder
        return None
    return folder / "tuning"


def file_content(values: Mapping[str, int]) -> bytes:
    """Return the content of the file for measured values."""
    return json.dumps({"processor": identity(), "values": dict(values)}, indent=2).encode() + b"\n"


def forget() -> None:
    """Read the file again when a value is needed next."""
    _measured.cache_clear()


@functools.cache
def _measured() -> dict[str, int]:
    """Return the values in the file, none if there is no file; a file that is not one of this processor is reported."""
    folder = _folder()
    if folder is None or not folder.is_dir():
        return {}
    path = tuning_file()
    assert path is not None
    try:
        content: Any = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        return _ignored(path, f"it cannot be read ({error.strerror})")
    except (ValueError, RecursionError):
        return _ignored(path, "it is damaged")
    if not isinstance(content, dict) or not isinstance(content.get("values"), dict):
        return _ignored(path, "it is damaged")
    if content.get("processor") != identity():
        return _ignored(path, "it was measured on another processor")
    values = content["values"]
    for name, value in values.items():
        choice = CHOICES.get(name)
        if choice is None or type(value) is not int or not choice.lowest <= value <= choice.highest:
            return _ignored(path, f"it has the value {str(value)[:40]!r} for {name[:40]!r}")
    return dict(values)


def _ignored(path: Path, why: str) -> dict[str, int]:
    warn_user(f"{path} is ignored, since {why}; run fastmlp tune to write it again.", PerformanceWarning)
    return {}
