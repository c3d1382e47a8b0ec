"""Which kernels a process would compile if none were kept, seen in one that may find them kept.

To compile all of them anew, to see that, would take a test half a minute.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

from numba.core import event

from fastmlp._kernels.cpu import jit


@contextlib.contextmanager
def recorded():
    """Gives (the kernels that are asked for inside, what is compiled): lists of texts that are complete afterwards."""
    found, load = SimpleNamespace(kernels=[], compiled=[]), jit._Loading.load_overload

    def noted(self, sig, context):
        _, _, captured, _ = self._index_key(sig, context.codegen())
        found.kernels.append(f"{self._impl.filename_base} {sig} {captured}")
        return load(self, sig, context)

    jit._Loading.load_overload = noted
    try:
        with event.install_recorder("numba:compile") as compiled:
            yield found
    finally:
        jit._Loading.load_overload = load
    found.compiled += [str(record.data["dispatcher"]) for _, record in compiled.buffer if record.is_start]
