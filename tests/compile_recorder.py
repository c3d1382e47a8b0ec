"""Which kernels a process would compile if none were kept, seen in one that may find them kept.

To compile all of them anew, to see that, would take a test half a minute.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from numba.core import event

import fastmlp
from fastmlp._kernels.cpu import jit


def environment():
    """That of a process which imports this."""
    folders = Path(fastmlp.__file__).parents[1], Path(__file__).parent
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}


@contextlib.contextmanager
def recorded():
    """Gives three lists of names, complete afterwards: of the ``kernels`` that are asked for inside, of what is
    ``compiled``, and of the kernels that are ``saved``."""
    found = SimpleNamespace(kernels=[], compiled=[], saved=[])
    load, save = jit._KernelCache.load_overload, jit._KernelCache.save_overload

    def loads(self, sig, context):
        _, _, captured, _ = self._index_key(sig, context.codegen())
        found.kernels.append(f"{self._impl.filename_base} {sig} {captured}")
        return load(self, sig, context)

    def saves(self, sig, data):
        found.saved.append(f"{self._impl.filename_base} {sig}")
        save(self, sig, data)

    with (
        mock.patch.multiple(jit._KernelCache, load_overload=loads, save_overload=saves),
        event.install_recorder("numba:compile") as compiled,
    ):
        yield found
    found.compiled += [str(record.data["dispatcher"]) for _, record in compiled.buffer if record.is_start]
