"""Predictor: inference with a frozen model by compiled kernels."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from .._common.outputs import decode_outputs
from .._common.threads import usable_threads
from .._common.validation import (
    Array,
    SparseRows,
    as_features,
    as_float,
    as_integer,
    as_real_array,
    finite_features,
    sparse_rows,
)
from .._kernels import use_backend
from ..modules import Module
from ..modules.lowering import iter_layers
from ..modules.saving import find_model, load_model
from .kernels import inference_kernels
from .plan import InferencePlan, lower

__all__ = ["Predictor"]

_DENSE = 1 << 20  # most elements of a sparse matrix that are converted to a dense block at once


class Predictor:
    """Forward pass of a frozen model: ``p(x)`` returns the outputs, `predict` labels, `predict_proba` probabilities.

    A Predictor copies the weights, so that further training of the model has no effect on it. It computes in the
    model's dtype and in evaluation mode (Dropout does nothing). The outputs of a row have the same bits alone, in a
    batch and with any number of threads. Several threads may call a Predictor at once; calls of more than a few
    microseconds release the GIL.

    Parameters
    ----------
    model : Module or path-like
        A model, the file of a saved model, or the folder of a run.
    threads : int, optional
        Most threads that share a call with many rows. None: all usable ones. A call with a single row is shared only
        if ``threads`` is given and above 1; the helper threads then spin for a short time after each call.

    Attributes
    ----------
    instructions : str
        Instruction-set level of the kernels that were compiled ahead of time: ``"x86-64-v3"``, ``"x86-64-v4"`` or
        ``"aarch64"``; ``"jit"`` if Numba compiles them. It is the backend of the module API (``"numba"``, ``"numpy"``)
        if the package was installed without a compiler, the processor has no fused multiply-add or the model has
        user-defined modules or activations.
    dtype : numpy.dtype or None
        Dtype of the model.
    in_width, out_width : int or None
        Numbers of inputs and outputs of a row.
    task, classes
        See `Module`.

    Raises
    ------
    ValueError
        If ``model`` or ``threads`` is of another type or out of range.
    ModelFileError, OSError
        As `load_model`.

    Examples
    --------
    >>> import fastmlp as fm, numpy as np
    >>> p = fm.Predictor(fm.MLP(4, [8], 2, rng=0))
    >>> p(np.zeros((3, 4), np.float32)).shape
    (3, 2)
    """

    def __init__(self, model: Module | str | os.PathLike[str], *, threads: int | None = None) -> None:
        kernels = inference_kernels()
        if isinstance(model, (str, os.PathLike)):
            path = find_model(Path(model))
            if kernels is None:
                model = load_model(path)
            else:
                with use_backend("numpy"):  # does not import numba
                    model = load_model(path)
        elif not isinstance(model, Module):
            raise ValueError(f"Predictor expected a model or the path of one, got {type(model).__name__}.")
        count = usable_threads().count if threads is None else as_integer(threads, "threads")
        self.dtype, self.in_width, self.out_width = model.dtype, model.in_width, model.out_width
        self.task, self.classes = model.task, model.classes
        plan = None if kernels is None else lower(kernels, model)
        self._model: Module | None = None
        self._plan: Any = _refuse
        self._gate: Any = None  # plan that converts logits to probabilities
        if kernels is None or plan is None:
            self._model = copy.deepcopy(model).eval()
            self.instructions = model.backend_name
        else:
            self._plan = plan.compile(count, 1 if threads is None else count)
            self.instructions = kernels.instructions
        last = [module for _, module in iter_layers(model, evaluation=True)][-1:]
        self._needs_gate = not (last and last[0].gives_probabilities)
        if self._needs_gate and self.task in ("classification", "binary") and self._model is None:
            assert kernels is not None and self.out_width is not None
            gate = InferencePlan(kernels, self.out_width, self.dtype)
            if self.task == "binary":
                gate.activation("sigmoid", 0.0)
            else:
                gate.softmax()
            self._gate = gate.compile()

    def __call__(self, x: Any, out: Array | None = None) -> Array:
        """Compute the model's outputs (logits, for a classifier without Softmax).

        Parameters
        ----------
        x : array-like or sparse matrix of shape (N, in_width), or array-like of shape (in_width,)
            Inputs in any real dtype and memory layout. Arrays of the model's dtype and of uint8 are not copied. A
            SciPy sparse matrix is converted to dense blocks of rows.
        out : ndarray, optional
            Array for the result, in the shape and dtype of the outputs.

        Returns
        -------
        ndarray of shape (N, out_width) or (out_width,)
            In the model's dtype.

        Raises
        ------
        ValueError
            If ``x`` or ``out`` has another shape, ``out`` another dtype, or ``x`` a finite number that the model's
            dtype cannot represent.
        """
        y = self._plan(x, out)
        if y is None:
            return self._convert(x, out)
        fast: Array = y
        return fast

    def predict(self, x: Any) -> Array:
        """Predict labels or values.

        Parameters
        ----------
        x : array-like or sparse matrix of shape (N, in_width)

        Returns
        -------
        ndarray of shape (N,) or (N, out_width)
            Classification: class indices, or labels if the model has ``classes``. Binary: 0 or 1, or labels.
            Regression: the outputs. A single column is returned as (N,).

        Raises
        ------
        ValueError
            If the model has no ``task``, if a number is not finite, or as ``p(x)``.
        """
        return decode_outputs(self._batch(x, "predict"), self._task("predict"), self.classes)

    def predict_proba(self, x: Any) -> Array:
        """Predict probabilities.

        Parameters
        ----------
        x : array-like or sparse matrix of shape (N, in_width)

        Returns
        -------
        ndarray of shape (N, C) or (N, O)
            Probabilities of the classes, or for binary tasks of the positive class of each output.

        Raises
        ------
        ValueError
            If the model is for regression, or as `predict`.
        """
        task = self._task("predict_proba")
        if task == "regression":
            raise ValueError("The model is for regression; use predict, not predict_proba.")
        outputs = self._batch(x, "predict_proba")
        if not self._needs_gate:
            return outputs
        if self._model is None:
            gated: Array = self._gate(outputs)
            return gated
        backend, there = self._model.backend, self._model.backend.from_numpy(outputs)
        result = backend.empty(there.shape, there.dtype)
        if task == "binary":
            backend.activation_forward("sigmoid", 0.0, there, result)
        else:
            backend.softmax_forward(there, result)
        probabilities: Array = backend.to_numpy(result)
        return probabilities

    def _task(self, what: str) -> str:
        if self.task is None:
            raise ValueError(
                f"{what}: the model does not say what its outputs mean; set model.task to 'classification', "
                "'binary' or 'regression' before the Predictor is made, or call the Predictor for the outputs."
            )
        return self.task

    def _batch(self, x: Any, what: str) -> Array:
        """Compute the outputs of rows; raise ValueError for NaN and infinity, for which no prediction is defined."""
        return self(finite_features(x, self.in_width, self.dtype, f"{what}: X"))

    def _convert(self, x: Any, out: Array | None) -> Array:
        """Compute the outputs of inputs that the kernels do not read directly."""
        rows = None
        if type(x) is not np.ndarray:  # `_outputs` validates ndarrays
            rows = sparse_rows(x, self.in_width, "Predictor: x")
            x = as_real_array(x, "Predictor: x") if rows is None else x
        if rows is not None:
            y = self._of_sparse(rows)
        else:
            y = self._outputs(x[None])[0] if x.ndim == 1 else self._outputs(x)
        if out is None:
            return y
        if not isinstance(out, np.ndarray) or out.shape != y.shape or out.dtype != y.dtype or not out.flags.writeable:
            seen = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
            raise ValueError(f"Predictor expected out to be a writable {y.dtype} array of shape {y.shape}, got {seen}.")
        out[...] = y
        return out

    def _outputs(self, x: Array) -> Array:
        features = as_features(x, self.in_width, self.dtype, "Predictor", raw=True)
        if self._model is None:
            fast: Array = self._plan(np.require(features, requirements=["C", "A"]))
            return fast
        y: Array = self._model.backend.to_numpy(self._model.infer(features))
        return y

    def _of_sparse(self, rows: SparseRows) -> Array:
        if self.dtype is not None:  # check the whole matrix, so that the message gives the index in it
            as_float(rows.matrix.data, self.dtype, "Predictor: x: a stored number")
        step = max(1, _DENSE // max(1, rows.shape[1]))
        starts = range(0, max(1, len(rows)), step)  # at least one block, so that 0 rows give outputs of shape (0, O)
        return np.concatenate([self._outputs(rows[start : start + step]) for start in starts])

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Predictor cannot be pickled; save or pickle the model and make a Predictor of it again.")

    def __repr__(self) -> str:
        return f"Predictor({self.in_width} to {self.out_width}, {self.dtype}, {self.instructions})"


def _refuse(x: Any, out: Any = None) -> None:
    """Return None, as a plan does for inputs that it cannot read; used if there is no plan."""
