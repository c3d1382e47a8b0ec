"""FewRows: outputs of a small model for a few rows in one native call."""

from __future__ import annotations

import threading

import numpy as np

from .._common.validation import Array
from .._kernels.cpu import jit
from ..modules import Module
from .native import has_native, native
from .prepared import PreparedInference, native_inference
from .storage import Weights
from .support import Unsupported, layers_of
from .watch import module_settings, parameter_arrays

__all__ = ["FewRows"]

_MOST_PARAMETERS = 1 << 15  # above, the comparison of the weights takes as long as the calls that it saves


class FewRows:
    """Outputs of a model in evaluation mode, from a copy of its weights that is made anew if the weights change.

    The module path takes a few microseconds of Python code for each layer, several times the kernel's time for a single
    row of a small model. The copy is compared with the arrays in each call, so that every change takes effect.

    Parameters
    ----------
    model : Module
    """

    def __init__(self, model: Module) -> None:
        self._model = model
        self._calls = 0
        self._lock = threading.Lock()
        self._settings: native.Watch | None = None  # None before the tables are made
        self._arrays: native.Watch | None = None
        self._weights: Weights | None = None
        self._native: native.NativeInference | None = None
        self._is_stale = False  # whether the copy of the weights is older than what `_arrays` compares with
        # Without the library, the kernel would be compiled for a few rows.
        supported = has_native() and jit.LIBRARY is not None and not jit.DISABLED and model.backend_name == "numba"
        self._is_refused = not supported or model.num_parameters > _MOST_PARAMETERS

    def run(self, X: Array) -> Array | None:
        """Return the outputs (N, O), or None if the model has to compute them.

        The rows are checked: None for features of another kind, or with numbers that are not finite.
        """
        if self._is_refused:
            return None
        with self._lock:
            if self._native is None or self._settings is None or not self._settings.unchanged():
                self._calls += 1
                if self._calls % 2 or not self._prepare():  # not for a single call
                    return None
            if self._arrays is None or not self._arrays.unchanged():
                self._note_arrays()  # the copy is made by the next call, if there is one before the next change
                return None
            assert self._native is not None and self._weights is not None
            if self._is_stale:
                self._weights.load()
                self._is_stale = False
            return self._native.run(X)  # type: ignore[no-any-return]

    def _prepare(self) -> bool:
        """Make the tables; return whether the engine supports the model."""
        model = self._model
        try:
            layers = layers_of(model)
        except Unsupported:
            self._is_refused = True
            return False
        settings = module_settings(model, layers)
        if settings is None or model.dtype is None or model.backend_name != "numba":
            self._is_refused = True
            return False
        self._weights = Weights(layers, None, model.dtype)
        self._note_arrays()
        self._weights.allocate()
        self._is_stale = False
        prepared = PreparedInference(self._weights)
        prepared.admit(np.dtype(np.float32))
        prepared.admit(np.dtype(np.float64))
        self._settings, self._native = native.Watch(*settings), native_inference(prepared, True)
        return True

    def _note_arrays(self) -> None:
        found = parameter_arrays(self._model)
        self._arrays, self._is_stale = None if found is None else native.Watch(*found), True
