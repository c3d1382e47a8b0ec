"""Peak memory of training, measured in a new process for each contender."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .cases import CASES, Case, batches, first_weights, make_data
from .contender import OURS, find, missing

__all__ = ["measure"]

_STATUS = Path("/proc/self/status")
_TIMEOUT = 600.0


def measure(case: str = "big", names: Sequence[str] = (OURS, "torch"), threads: int = 1) -> dict[str, Any]:
    """Measure the peak memory of training a case.

    The memory of the process before the model is built is subtracted: imports, a few steps of a small network of the
    same kind, and the data set.

    Parameters
    ----------
    case : str
        Name of the case.
    names : sequence of str
        Names of the contenders.
    threads : int
        Threads of each contender.

    Returns
    -------
    dict
        ``case``; ``weights_and_gradients``, their size in bytes; ``contenders``: for each name ``bytes``, or ``why``
        with the reason if there is no measurement.
    """
    sizes = CASES[case].sizes
    parameters = sum((before + 1) * after for before, after in zip(sizes, sizes[1:]))
    found: dict[str, Any] = {}
    for name in names:
        reason = None if name == OURS else missing(name)
        found[name] = {"why": reason} if reason else _in_a_process(case, name, threads)
    return {"case": case, "weights_and_gradients": 2 * 4 * parameters, "contenders": found}


def _in_a_process(case: str, name: str, threads: int) -> dict[str, Any]:
    code = f"from {__name__} import _child; _child({case!r}, {name!r}, {threads})"
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return {"why": f"took more than {_TIMEOUT:g} s"}
    if done.returncode:
        return {"why": f"failed: {(done.stderr.strip().splitlines() or ['no message'])[-1][:200]}"}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _child(case_name: str, name: str, threads: int) -> None:
    case, kind = CASES[case_name], find(name)
    small = dataclasses.replace(case, sizes=tuple(min(size, 24) for size in case.sizes), batch=8, rows=64)
    _train(small, kind, threads, steps=4)
    print(json.dumps(_train(case, kind, threads, steps=3)))


def _train(case: Case, kind: Any, threads: int, steps: int) -> dict[str, Any]:
    """Train and measure the memory, including buffers that the first steps allocate."""
    data = make_data(case)
    weights = first_weights(case, data)
    order = batches(case, steps)
    _tidy()
    # The contender copies the weights; this copy is freed before the measurement.
    before = _resident() - sum(array.nbytes for array in weights)
    contender = kind(case, data, weights, threads)
    del weights
    _tidy()
    reset = _reset_peak()
    contender.losses(order)
    return {"bytes": _peak() - before, "peak_reset": reset}


def _tidy() -> None:
    """Return freed memory to the system, as steps that reuse it would appear to take none."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def _reset_peak() -> bool:
    """Reset the peak recorded by the operating system to the current size; return whether that worked."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status(key: str) -> int | None:
    found = re.search(rf"^{key}:\s+(\d+) kB$", _STATUS.read_text(), re.M) if _STATUS.is_file() else None
    return None if found is None else 1024 * int(found[1])


def _resident() -> int:
    return _status("VmRSS") or _most_resident()


def _peak() -> int:
    return _status("VmHWM") or _most_resident()


def _most_resident() -> int:
    import resource  # not on Windows

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
