"""Linear layer on binned columns: two rows of a table for each column in place of a product with its code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .._common.random import Rng, as_seed, layer_generator
from .._common.validation import Array, as_dtype, as_features, as_integer
from .._kernels.reference_binned import binned_code
from . import init as initializers
from .base import Module
from .linear import Linear
from .lowering import PlanBuilder
from .onnx_node import Node

__all__ = ["BinnedLinear"]

_MOST_ROWS = 1 << 24  # of the table; kernels store a row's number as float32


class BinnedLinear(Module):
    """Linear layer on the piecewise-linear code of binned columns and the one-hot code of levels.

    The first ``dense_features`` columns of x are plain inputs. Each of the following columns is a position p:

    - of a column of n bins, the number of a bin plus the fraction of the bin that lies below the value. It stands for
      the n inputs clip(p - k, 0, 1), k = 0 .. n - 1, that is (1, ..., 1, f, 0, ..., 0), the code of Gorishniy, Rubachev
      and Babenko, "On embeddings for numerical features in tabular deep learning", 2022;
    - of a column of n levels, the number of a level. It stands for n inputs, of which the one of the level floor(p) is
      1 and all others are 0. A position outside [0, n), such as -1, is no level: all are 0.

    The outputs and the gradients of the parameters are those of a `Linear` on these inputs (`to_linear`), but the layer
    adds two rows of a table for each column instead of n products (docs/derivations.md). The engine supports it as the
    first layer that has weights; there is no version for GPUs.

    Parameters
    ----------
    dense_features : int
        D, at least 1.
    bins : sequence of int
        Numbers of bins of the columns after the dense ones.
    out_features : int
        O, at least 1.
    bias : bool
        Whether the layer has a ``bias``.
    levels : sequence of int
        Numbers of levels of the columns after the binned ones.
    init : str or callable
        Initializer of the weights of all D + B inputs, see `fastmlp.modules.init`.
    dtype : float32 or float64
    rng : int, numpy.random.Generator or None
        As for `Linear`, whose weights are the same.
    layer : int
        Index of the layer.

    Raises
    ------
    ValueError
        If an argument is invalid.

    Examples
    --------
    >>> import fastmlp as fm
    >>> layer = fm.BinnedLinear(1, [4], 2, rng=0)  # one dense column, and one of four bins
    >>> layer([[0.5, 2.25]]).shape
    (1, 2)
    >>> layer.code([[0.5, 2.25]])
    array([[0.5 , 1.  , 1.  , 0.25, 0.  ]], dtype=float32)
    """

    penalized = ("weight", "table")
    tables = ("table",)
    reads_features = True

    def __init__(
        self,
        dense_features: int,
        bins: Sequence[int],
        out_features: int,
        bias: bool = True,
        *,
        levels: Sequence[int] = (),
        init: str | initializers.Initializer = "default",
        dtype: npt.DTypeLike = np.float32,
        rng: Rng = None,
        layer: int = 0,
    ) -> None:
        self.dense_features = as_integer(dense_features, "dense_features")
        self.bins = _counts(bins, "bins")
        self.levels = _counts(levels, "levels")
        self.out_features = as_integer(out_features, "out_features")
        counts = self.bins + self.levels
        if not counts:
            raise ValueError("bins and levels are both empty; expected at least one coded column, or use Linear.")
        if sum(counts) > _MOST_ROWS:
            raise ValueError(f"bins and levels add up to {sum(counts)}; expected at most {_MOST_ROWS}.")
        super().__init__(as_dtype(dtype), self.dense_features + len(counts), self.out_features)
        assert self.dtype is not None
        self.seed = as_seed(rng)
        kinds = [1] * len(self.bins) + [0] * len(self.levels)
        # First row in the table, number of rows, and whether they are bins, for each coded column.
        self._bins: Array = np.array([np.cumsum((0, *counts))[:-1], counts, kinds], np.int64).T.copy()
        generator = layer_generator(self.seed, as_integer(layer, "layer", 0))
        shape = (self.out_features, self.dense_features + sum(counts))
        drawn = initializers.draw(init, shape, bool(bias), generator, self.dtype)
        weight, table = np.split(drawn.pop("weight"), [self.dense_features], axis=1)
        self.set_arrays({"weight": weight.copy(), "table": table.copy(), **drawn}, {})

    def code(self, x: Any) -> Array:
        """Return the inputs (N, D + B) that x (N, in_width) stands for, a NumPy array."""
        checked = as_features(x, self.in_width, self.dtype, "BinnedLinear.code")
        return binned_code(checked, self._bins, self.dense_features)

    def to_linear(self) -> Linear:
        """Return the Linear that computes the same outputs from `code`, with copies of the parameters."""
        state = self.state_dict()
        weight = np.concatenate([state.pop("weight"), state.pop("table")], axis=1)
        made = Linear(weight.shape[1], self.out_features, "bias" in state, init="zeros", dtype=weight.dtype, rng=0)
        made.load_state_dict({"weight": weight, **state})
        return made

    def _compute(self, x: Array, keep: bool) -> Array:
        params = self.params
        out: Array = self.backend.empty((x.shape[0], self.out_features), self.dtype)
        self.backend.binned_linear_forward(x, self._bins, params["weight"], params["table"], params.get("bias"), out)
        if keep:
            self._saved = (x,)
        return out

    def _gradient(self, dy: Array, need_dx: bool) -> Array | None:
        assert self._saved is not None
        (x,) = self._saved
        params, grads = self.params, self.grads
        dx: Array | None = self.backend.empty(x.shape, self.dtype) if need_dx else None
        self.backend.binned_linear_backward(
            dy, x, self._bins, params["weight"], params["table"], dx, grads["weight"], grads["table"], grads.get("bias")
        )
        self.has_gradients = True
        return dx

    def lower(self, builder: PlanBuilder) -> None:
        """Append a product of the dense inputs and the rows of the coded columns."""
        bias = "bias" if "bias" in self.params else None
        builder.binned_linear(self.out_features, self._bins, "weight", "table", bias)

    def onnx_nodes(self) -> list[Node]:
        """Return the dense code, as a product with one-hot columns that is clipped to [0, 1], and a Gemm node.

        The code of a level k is clip(p + 1 - k, 0, 1) - clip(p - k, 0, 1) of a whole number p, which Floor makes.
        """
        assert self.in_width is not None and self.dtype is not None
        state, dense, width = self.state_dict(), self.dense_features, self.in_width
        largest = np.finfo(self.dtype).max
        selected, offsets, weights = [*range(dense)], [0] * dense, [*state["weight"].T]
        for column, (first, count, is_binned) in enumerate(self._bins.tolist(), dense):
            for k, row in enumerate(state["table"].T[first : first + count]):
                ramps = [(-k, row)] if is_binned else [(-k, -row), (1 - k, row)]
                for offset, weight in ramps:
                    selected.append(column)
                    offsets.append(offset)
                    weights.append(weight)
        clipped = np.arange(len(selected)) >= dense
        bias = (state["bias"],) if "bias" in state else ()
        nodes = [
            Node("Gemm", 7, (np.eye(width)[:, selected], np.array(offsets))),
            Node("Max", 8, (np.where(clipped, 0, -largest),)),
            Node("Min", 8, (np.where(clipped, 1, largest),)),
            Node("Gemm", 7 if bias else 11, (np.array(weights), *bias)),
        ]
        if not self.levels:
            return nodes
        # Positions of levels are rounded down: x + (floor(x) - x) there, and x + 0 elsewhere.
        is_level = np.arange(width) >= width - len(self.levels)
        rounding = [
            Node("Floor", 6), Node("Sub", 7, with_input=True), Node("Mul", 7, (is_level,)),
            Node("Add", 7, with_input=True),
        ]  # fmt: skip
        return rounding + nodes

    @classmethod
    def examples_of_width(cls, width: int, dtype: np.dtype[Any], rng: np.random.Generator) -> list[Module]:
        """Return layers with and without a bias, the second without levels."""
        if width < 4:
            return []
        return [
            cls(width - 3, [3, 1], 3, levels=[2], dtype=dtype, rng=rng),
            cls(width - 1, [2], 3, False, dtype=dtype, rng=rng),
        ]

    def config(self) -> dict[str, Any]:
        """Return the widths, the numbers of bins and levels, whether there is a bias, and the dtype."""
        return {
            "type": "BinnedLinear",
            "dense_features": self.dense_features,
            "bins": list(self.bins),
            "out_features": self.out_features,
            "bias": "bias" in self.params,
            "levels": list(self.levels),
            "dtype": str(self.dtype),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> BinnedLinear:
        """Build a layer of zeros."""
        arguments = {name: value for name, value in config.items() if name != "type"}
        return cls(**arguments, init="zeros", rng=0)


def _counts(values: Sequence[int], name: str) -> tuple[int, ...]:
    try:
        listed = list(values)
    except TypeError:
        raise ValueError(f"{name} is {values!r}; expected a sequence of integers of at least 1.") from None
    return tuple(as_integer(value, f"{name}[{place}]") for place, value in enumerate(listed))
