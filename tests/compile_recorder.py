"""Recorder of the kernels that a process requests, compiles and saves.

A test can then check the set of kernels without a compilation from scratch, which takes half a minute.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from numba.core import event

import fastmlp
from fastmlp._kernels.cpu import numba_jit


def environment():
    """Return an environment in which a subprocess can import this module and fastmlp."""
    folders = Path(fastmlp.__file__).parents[1], Path(__file__).parent
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}


@contextlib.contextmanager
def recorded():
    """Record the names of ``kernels`` requested, functions ``compiled`` and kernels ``saved`` inside the block."""
    found = SimpleNamespace(kernels=[], compiled=[], saved=[])
    load, save = numba_jit._KernelCache.load_overload, numba_jit._KernelCache.save_overload

    def loads(self, sig, context):
        _, _, captured, _ = self._index_key(sig, context.codegen())
        found.kernels.append(f"{self._impl.filename_base} {sig} {captured}")
        return load(self, sig, context)

    def saves(self, sig, data):
        found.saved.append(f"{self._impl.filename_base} {sig}")
        save(self, sig, data)

    with (
        mock.patch.multiple(numba_jit._KernelCache, load_overload=loads, save_overload=saves),
        event.install_recorder("numba:compile") as compiled,
    ):
        yield found
    found.compiled += [str(record.data["dispatcher"]) for _, record in compiled.buffer if record.is_start]
