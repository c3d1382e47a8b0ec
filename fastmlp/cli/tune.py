"""``fastmlp tune``: measurement of the choices that affect speed on this processor."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from .._common.errors import BackendError
from .._common.processor import processor
from .._common.tuning import CHOICES, VARIABLE, file_content, forget, tuning_file
from ..io.files import atomic_write
from ..training.tune import measure
from .info import tuning

__all__ = ["add_parser"]

_LEAST = 0.85  # share of the time for which the threads must have run


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    choices = "".join(f"  {name:17s} {choice.meaning}\n" for name, choice in CHOICES.items())
    parser = commands.add_parser(
        "tune",
        help="measure once how this processor trains fastest",
        description="Measure, in about 2 s, from which size of a step several threads are worth\n"
        "while on this processor, and which memory is prefetched best. Later fits use\n"
        "the values, which are kept for this kind of processor in the user's cache\n"
        "folder. "
        "Results do not depend on them.",
        epilog=f"choices:\n{choices}\n"
        f"The environment variable {VARIABLE} overrides values, such as\n"
        f"{VARIABLE}=flops_per_thread=500000,panel_prefetch=0, or ignores the\n"
        f"measured ones ({VARIABLE}=off).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--json", action="store_true", help="print the values as JSON")
    either.add_argument("--reset", action="store_true", help="delete the values measured on this processor")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    path = tuning_file()
    if args.reset:
        return _reset(path)
    began = time.perf_counter()
    found, running = measure()
    seconds = time.perf_counter() - began
    if running < _LEAST:
        raise BackendError(
            f"The threads ran for {running:.0%} of the time only, as other processes use the processors; nothing was "
            "kept. Repeat the command on an idle machine."
        )
    values = {name: one.value for name, one in found.items()}
    kept, problem = _keep(path, values)
    assignments = ",".join(f"{name}={value}" for name, value in values.items())
    if args.json:
        choices = {name: {"value": one.value, "measured": one.reason} for name, one in found.items()}
        document = {
            "processor": processor(), "seconds": round(seconds, 2), "choices": choices,
            "file": None if kept is None else str(kept), "problem": problem,
        }  # fmt: skip
        print(json.dumps(document, indent=2))
        return 0
    print(f"{processor()}, measured in {seconds:.1f} s\n")
    for name, one in found.items():
        print(f"{name:17s} {one.value:<9d} {one.reason}")
    print()
    if kept is None:
        print(f"not kept: {problem}\nto use the values: export {VARIABLE}={assignments}")
    else:
        print(f"kept in {kept}\nin use: {tuning()}")
    return 0


def _keep(path: Path | None, values: dict[str, int]) -> tuple[Path | None, str | None]:
    """Write the values; return (path, None), or (None, reason) if that is not possible."""
    if path is None:
        return None, "the user has no cache folder"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as stream:
            stream.write(file_content(values))
    except OSError as error:
        return None, f"{error.filename or path}: {error.strerror}"
    forget()
    return path, None


def _reset(path: Path | None) -> int:
    try:
        there = path is not None and path.is_file()
        if path is not None:
            path.unlink(missing_ok=True)
    except NotADirectoryError:
        there = False
    forget()
    print(f"deleted {path}" if there else "there are no values measured on this processor")
    return 0
