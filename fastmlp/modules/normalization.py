"""Normalization: Normalize scales columns by fixed numbers, LayerNorm standardizes rows and has trained parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .._common.validation import (
    Array,
    as_dtype,
    as_float,
    as_integer,
    as_number,
    as_real_array,
    as_vector,
    require_finite_once,
    require_rows,
)
from .base import Module
from .lowering import PlanBuilder
from .onnx_node import Node

__all__ = ["LayerNorm", "Normalize"]

_CHUNK = 1 << 18  # elements of a block of Normalize.fit


class Normalize(Module):
    """Input scaling by column, saved with the model: y = (x - mean) / scale.

    The module has no trained parameters. As the first module of a model it reads uint8 without conversion.

    Parameters
    ----------
    mean, scale : array-like of shape (I,)
        Finite numbers, kept as buffers; scale must not be 0.
    dtype : float32 or float64

    Raises
    ------
    ValueError
        If lengths differ, a number is not finite in ``dtype``, or a scale is 0 in ``dtype``.

    Examples
    --------
    >>> import fastmlp as fm
    >>> scaling = fm.Normalize.fit([[0.0, 10.0], [2.0, 30.0]], kind="standard")
    >>> scaling([[1.0, 30.0]])
    array([[0., 1.]], dtype=float32)
    """

    takes_raw = True
    torch = "Normalize"

    def __init__(self, mean: npt.ArrayLike, scale: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> None:
        mean = as_vector(mean, None, "mean")
        scale = as_vector(scale, len(mean), "scale")
        width = as_integer(len(mean), "the length of mean")
        number = as_dtype(dtype)
        super().__init__(number, width, width)
        buffers = {"mean": as_float(mean, number, "mean"), "scale": as_float(scale, number, "scale")}
        self._check_buffers(buffers)
        self.set_arrays({}, buffers)

    def _check_buffers(self, buffers: Mapping[str, Array]) -> None:
        for name, values in buffers.items():
            bad = ~np.isfinite(values) | (values == 0 if name == "scale" else False)
            if bad.any():
                column = int(np.argmax(bad))
                expected = "a finite number" + (" that is not 0" if name == "scale" else "")
                raise ValueError(f"{name} is {values[column]} at column {column}; expected {expected}.")

    @classmethod
    def fit(
        cls, X: Any, kind: Literal["standard", "mean-image"] = "standard", dtype: npt.DTypeLike = np.float32
    ) -> Normalize:
        """Build the module from the statistics of training data.

        Parameters
        ----------
        X : array-like of shape (N, I)
            Finite numbers of any real dtype. Rows are read in blocks, so the array may be memory-mapped.
        kind : {"standard", "mean-image"}
            ``"standard"``: mean and standard deviation (over N) of each column; the scale of a constant column is 1.
            ``"mean-image"``: mean of each column, and scale 1.
        dtype : float32 or float64
            dtype of the module; sums are float64.

        Raises
        ------
        ValueError
            If ``X`` has another rank, no rows, or an entry that is not finite.
        """
        if kind not in ("standard", "mean-image"):
            raise ValueError(f"kind is {kind!r}; expected 'standard' or 'mean-image'.")
        X = as_real_array(X, "Normalize.fit: X")
        if X.ndim != 2 or X.shape[1] == 0:
            raise ValueError(f"Normalize.fit expected X of shape (N, features), got {X.shape}.")
        require_rows(len(X), "Normalize.fit: X")
        require_finite_once(X, "Normalize.fit: X")
        # Subtracting the first row makes a constant column sum to exactly 0, so that its mean is exact.
        first = X[0].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # the constructor rejects results that are not finite
            mean = first + sum((block - first).sum(axis=0) for block in _blocks(X)) / len(X)
            scale = np.ones_like(mean)
            if kind == "standard":
                std = np.sqrt(sum(((block - mean) ** 2).sum(axis=0) for block in _blocks(X)) / len(X))
                spread = ~(std < np.finfo(as_dtype(dtype)).tiny)
                scale[spread] = std[spread]
        return cls(mean, scale, dtype)

    def _compute(self, x: Array, keep: bool) -> Array:
        out: Array = self.backend.empty(x.shape, self.dtype)
        self.backend.normalize(x, self.buffers["mean"], self.buffers["scale"], out)
        if keep:
            self._saved = (x,)
        return out

    def _gradient(self, dy: Array, need_dx: bool) -> Array | None:
        if not need_dx:
            return None
        dx: Array = self.backend.empty(dy.shape, self.dtype)
        # dx = dy / scale is the same operation with mean 0.
        zero = self.backend.zeros(dy.shape[1:], self.dtype)
        self.backend.normalize(dy, zero, self.buffers["scale"], dx)
        return dx

    def lower(self, builder: PlanBuilder) -> None:
        """Append a normalization by column."""
        builder.normalize("mean", "scale")

    def settings(self) -> tuple[Any, ...]:
        """Return mean and scale."""
        return tuple(self.backend.to_numpy(array).tobytes() for array in self.buffers.values())

    def onnx_nodes(self) -> list[Node]:
        """Return Sub and Div nodes."""
        arrays = self.state_dict()
        return [Node("Sub", 7, (arrays["mean"],)), Node("Div", 7, (arrays["scale"],))]

    def torch_arguments(self) -> dict[str, Any]:
        """Return mean and scale."""
        return self.state_dict()

    @classmethod
    def examples_of_width(cls, width: int, dtype: np.dtype[Any], rng: np.random.Generator) -> list[Module]:
        """Return a module with random statistics."""
        return [cls(rng.standard_normal(width), rng.uniform(1, 3, width), dtype)]

    def config(self) -> dict[str, Any]:
        """Return width and dtype; mean and scale are in `state_dict`."""
        return {"type": "Normalize", "features": self.in_width, "dtype": str(self.dtype)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Normalize:
        """Build a module with mean 0 and scale 1."""
        features = as_integer(config["features"], "features")
        return cls(np.zeros(features), np.ones(features), config.get("dtype", np.float32))


def _blocks(X: Array) -> Iterator[Array]:
    step = max(1, _CHUNK // X.shape[1])
    for start in range(0, len(X), step):
        yield X[start : start + step].astype(np.float64)


class LayerNorm(Module):
    """Layer normalization by row: y = (x - mean) / sqrt(var + eps) weight + bias (Ba et al., arXiv:1607.06450).

    The variance has the denominator I, without Bessel's correction.

    Parameters
    ----------
    features : int
        Width I of a row.
    eps : float
        Above 0.
    affine : bool
        Whether there are ``weight``, initially ones, and ``bias``, initially zeros.
    dtype : float32 or float64

    Raises
    ------
    ValueError
        If an argument is invalid.

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.LayerNorm(3)([[1.0, 2.0, 3.0]]).round(3)
    array([[-1.225,  0.   ,  1.225]], dtype=float32)
    """

    torch = "LayerNorm"

    def __init__(
        self, features: int, eps: float = 1e-5, affine: bool = True, *, dtype: npt.DTypeLike = np.float32
    ) -> None:
        self.features = as_integer(features, "features")
        super().__init__(as_dtype(dtype), self.features, self.features)
        self.eps = as_number(eps, "eps", 0, open_low=True)
        self.affine = bool(affine)
        if affine:
            self.set_arrays(
                {"weight": np.ones(self.features, self.dtype), "bias": np.zeros(self.features, self.dtype)},
                {},
            )

    def _compute(self, x: Array, keep: bool) -> Array:
        backend, rows = self.backend, x.shape[0]
        out: Array = backend.empty(x.shape, self.dtype)
        mean, rstd = backend.empty((rows,), self.dtype), backend.empty((rows,), self.dtype)
        weight, bias = self.params.get("weight"), self.params.get("bias")
        backend.layer_norm_forward(x, weight, bias, self.eps, mean, rstd, out)
        if keep:
            self._saved = (x, mean, rstd)
        return out

    def _gradient(self, dy: Array, need_dx: bool) -> Array | None:
        assert self._saved is not None
        x, mean, rstd = self._saved
        dx: Array = self.backend.empty(x.shape, self.dtype)
        self.backend.layer_norm_backward(
            dy, x, self.params.get("weight"), mean, rstd, dx, self.grads.get("weight"), self.grads.get("bias")
        )
        self.has_gradients = True
        return dx if need_dx else None

    def lower(self, builder: PlanBuilder) -> None:
        """Append a normalization by row."""
        builder.layer_norm(self.eps, *(("weight", "bias") if self.affine else (None, None)))

    def settings(self) -> tuple[Any, ...]:
        """Return eps."""
        return (self.eps,)

    def onnx_nodes(self) -> list[Node]:
        """Return a LayerNormalization node, which always has weights."""
        arrays = self.state_dict()
        one, zero = np.ones(self.features), np.zeros(self.features)
        constants = (arrays.get("weight", one), arrays.get("bias", zero))
        return [Node("LayerNormalization", 17, constants, {"axis": -1, "epsilon": self.eps})]

    def torch_arguments(self) -> dict[str, Any]:
        """Return width, eps and affine."""
        return {"normalized_shape": self.features, "eps": self.eps, "elementwise_affine": self.affine}

    @classmethod
    def examples_of_width(cls, width: int, dtype: np.dtype[Any], rng: np.random.Generator) -> list[Module]:
        """Return modules with and without trained arrays."""
        return [cls(width, affine=affine, dtype=dtype) for affine in (True, False)]

    def config(self) -> dict[str, Any]:
        """Return width, eps, affine and dtype."""
        return {
            "type": "LayerNorm",
            "features": self.features,
            "eps": self.eps,
            "affine": self.affine,
            "dtype": str(self.dtype),
        }
