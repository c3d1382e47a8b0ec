"""Predictor: a frozen model that starts and answers fast, with kernels compiled ahead of time."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from .._common.outputs import answers_of
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
from .._kernels.aot import extension
from ..modules import Module
from ..modules.lowering import iter_layers
from ..modules.saving import find_model, load_model
from .plan import activation_step, lower

__all__ = ["Predictor"]

_DENSE = 1 << 20  # numbers of a sparse matrix that are made dense at once


class Predictor:
    """The forward pass of a frozen model: ``p(x)`` are its outputs, `predict` and `predict_proba` what they mean.

    It copies the weights, so that training the model further does not change it, computes in the model's dtype and
    behaves as in evaluation (Dropout does nothing). Rows are independent of each other: a row's outputs are the same to
    the bit alone, in a batch, and for any number of threads. Several threads may call it at once; calls with more
    than some microseconds of work release the GIL.

    Parameters
    ----------
    model : Module or path-like
        A model, the file of a saved one, or the folder of a run.
    threads : int, optional
        How many may share a call of many rows; None takes as many as are usable. A single row is shared only where
        this says more than one: the helpers then stay awake for a while after each call, for the next.

    Attributes
    ----------
    instructions : str
        What computes: ``"baseline"``, ``"avx2"``, ``"avx512"``, ``"neon"`` or ``"scalar"``, the kernels compiled ahead
        of time; or the backend of the module API (``"numba"``, ``"numpy"``), where the package was installed without a
        compiler or the model has modules of other makers.
    dtype : numpy.dtype or None
    in_width, out_width : int or None
    task, classes
        The model's, see `Module`.

    Raises
    ------
    ValueError
        If ``model`` or ``threads`` is something else.
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
        aot = extension()
        if isinstance(model, (str, os.PathLike)):
            path = find_model(Path(model))
            if aot is None:
                model = load_model(path)
            else:
                with use_backend("numpy"):  # which brings nothing along
                    model = load_model(path)
        elif not isinstance(model, Module):
            raise ValueError(f"Predictor expected a model or the path of one, got {type(model).__name__}.")
        count = usable_threads().count if threads is None else as_integer(threads, "threads")
        self.dtype, self.in_width, self.out_width = model.dtype, model.in_width, model.out_width
        self.task, self.classes = model.task, model.classes
        steps = None if aot is None else lower(model, aot.activations(), aot.columns())
        self._model: Module | None = None
        self._plan: Any = _refuse
        self._gate: Any = None  # from logits to probabilities
        if aot is None or steps is None:
            self._model = copy.deepcopy(model).eval()
            self.instructions = model.backend_name
        else:
            self._plan = aot.Plan(self.in_width, self.dtype, steps, count, 1 if threads is None else count)
            self.instructions = aot.instructions()
        last = [module for _, module in iter_layers(model, evaluation=True)][-1:]
        self._needs_gate = not (last and last[0].gives_probabilities)
        if self._needs_gate and self.task in ("classification", "binary") and self._model is None:
            assert aot is not None
            gate: tuple[Any, ...] = ("softmax", self.out_width)
            if self.task == "binary":
                gate = activation_step(self.out_width, aot.activations().index("sigmoid"))
            self._gate = aot.Plan(self.out_width, self.dtype, [gate])

    def __call__(self, x: Any, out: Array | None = None) -> Array:
        """The model's outputs (logits, for a classifier without Softmax).

        Parameters
        ----------
        x : array-like or sparse matrix of shape (N, in_width), or array-like of shape (in_width,)
            Any real dtype and memory layout; a single row gives a single row. Arrays of the model's dtype and of
            uint8 are read as they are; a matrix of SciPy's is made dense some rows at a time.
        out : ndarray, optional
            Of the outputs' shape and dtype: written and returned.

        Returns
        -------
        ndarray of shape (N, out_width) or (out_width,)

        Raises
        ------
        ValueError
            If ``x`` or ``out`` has another shape, ``out`` another dtype, or ``x`` a finite number that the model's
            dtype cannot hold.
        """
        y = self._plan(x, out)
        if y is None:
            return self._convert(x, out)
        fast: Array = y
        return fast

    def predict(self, x: Any) -> Array:
        """The model's answers.

        Parameters
        ----------
        x : array-like or sparse matrix of shape (N, in_width)

        Returns
        -------
        ndarray
            Classification: class indices (N,), or labels if the model has ``classes``. Binary: 0 or 1, or labels.
            Regression: the outputs. A single column comes as (N,).

        Raises
        ------
        ValueError
            If the model has no ``task``, a number is not finite, and as calling it.
        """
        return answers_of(self._batch(x, "predict"), self._task("predict"), self.classes)

    def predict_proba(self, x: Any) -> Array:
        """Probabilities (N, C) of the classes, or (N, O) of the positive answers for binary tasks.

        Raises
        ------
        ValueError
            If the model has no ``task`` or is for regression, and as `predict`.
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
        """Outputs for rows of finite numbers: of NaN there is no answer."""
        return self(finite_features(x, self.in_width, self.dtype, f"{what}: X"))

    def _convert(self, x: Any, out: Array | None) -> Array:
        """What the kernels do not take as it is."""
        rows = None
        if type(x) is not np.ndarray:  # of one `_outputs` looks at all
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
        if self.dtype is not None:  # found here, it is named by its place in the whole matrix
            as_float(rows.matrix.data, self.dtype, "Predictor: x: a stored number")
        step = max(1, _DENSE // max(1, rows.shape[1]))
        starts = range(0, max(1, len(rows)), step)  # without rows there are outputs of none
        return np.concatenate([self._outputs(rows[start : start + step]) for start in starts])

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Predictor cannot be pickled; save or pickle the model and make a Predictor of it again.")

    def __repr__(self) -> str:
        return f"Predictor({self.in_width} to {self.out_width}, {self.dtype}, {self.instructions})"


def _refuse(x: Any, out: Any = None) -> None:
    """In the place of a plan, where there is none."""
