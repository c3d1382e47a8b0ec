"""Recorder of the kernels that a process requests, compiles and saves.

A test can then check the set of kernels without a compilation from scratch, which takes half a minute.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import fastmlp
from fastmlp._kernels import watch_compilation
from fastmlp._kernels.compiled import on_demand


def environment():
    """Return an environment in which a subprocess can import this module and fastmlp, and compiles its kernels."""
    folders = Path(fastmlp.__file__).parents[1], Path(__file__).parent
    return {**os.environ, "FASTMLP_JIT": "1", "PYTHONPATH": os.pathsep.join(map(str, folders))}


@contextlib.contextmanager
def recorded():
    """Record the names of ``kernels`` loaded, of those ``compiled`` and of those ``saved`` inside the block."""
    found = SimpleNamespace(kernels=[], compiled=[], saved=[])

    def loads(symbol, code):
        found.kernels.append(symbol)
        return load(symbol, code)

    def saves(symbol, *arguments):
        found.saved.append(symbol)
        save(symbol, *arguments)

    load, save = on_demand._loaded, on_demand.save_object
    with (
        mock.patch.multiple(on_demand, _loaded=loads, save_object=saves),
        watch_compilation(found.compiled.append),
    ):
        yield found
