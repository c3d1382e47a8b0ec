"""Networks of the estimators for tables, and the inputs that they read."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._common.validation import Array
from .._kernels import get_backend
from ..modules import MLP, Linear, Module, Sequential
from ..modules.activations.relu import ReLU
from ..modules.binned_linear import BinnedLinear
from ..modules.dropout import Dropout
from .encoder import ColumnEncoder
from .encodings import BINS, DENSE, LEVELS, InputColumn

__all__ = ["coded_inputs", "input_places", "make_network", "network_inputs", "reads_positions"]


def coded_inputs(encoder: ColumnEncoder) -> list[InputColumn]:
    """Return the inputs of a network with a `BinnedLinear`; empty if a network reads encoded columns."""
    # A subclass may encode in another way, and BinnedLinear has no kernels for GPUs.
    if type(encoder) is not ColumnEncoder or get_backend().name == "cuda":
        return []
    inputs = encoder.inputs()
    return inputs if any(one.kind != DENSE for one in inputs) else []


def make_network(
    encoder: ColumnEncoder, hidden: Sequence[int], outputs: int, seed: int, dropout: float = 0.0
) -> Sequential:
    """Return a network of rectified units for the `network_inputs` of a fitted encoder.

    It is an MLP on the encoded columns, or the same function with a `BinnedLinear` if columns have many bins or levels.
    """
    inputs = coded_inputs(encoder)
    if not inputs:
        return MLP(max(1, len(encoder.get_feature_names_out())), hidden, outputs, dropout=dropout, rng=seed)
    dense, bins, levels = ([one.size for one in inputs if one.kind == kind] for kind in (DENSE, BINS, LEVELS))
    first, *widths = *hidden, outputs
    modules: list[Module] = [BinnedLinear(max(1, len(dense)), bins, first, levels=levels, rng=seed)]
    for layer, (before, after) in enumerate(itertools.pairwise((first, *widths)), 1):
        modules.append(ReLU())
        if dropout:
            modules.append(Dropout(dropout, rng=seed))
        modules.append(Linear(before, after, rng=seed, layer=layer))
    return Sequential(*modules)


def reads_positions(network: Module) -> bool:
    """Return whether a network, such as that of a saved file, reads positions instead of encoded columns."""
    return any(isinstance(module, BinnedLinear) for module in network.modules())


def network_inputs(encoder: ColumnEncoder, X: Any, positions: bool) -> Array:
    """Return the encoded columns of a table, or with ``positions`` the inputs of a `BinnedLinear`.

    A column of zeros stands for dense columns where there are none.
    """
    features: Array = encoder.transform_to_inputs(X) if positions else encoder.transform(X)
    needs_column = encoder.inputs()[0].kind != DENSE if positions else not features.shape[1]
    return np.pad(features, ((0, 0), (1, 0))) if needs_column else features


def input_places(encoder: ColumnEncoder, positions: bool) -> tuple[list[list[int]], int]:
    """Return the places of each column of a table among the `network_inputs`, and the number of these."""
    kinds: list[int] = []
    places: list[range] = []
    for encoding in encoder.encodings_:
        inputs = [one.kind for one in encoding.inputs(encoder.fewest_coded_)] if positions else [DENSE] * encoding.width
        places.append(range(len(kinds), len(kinds) + len(inputs)))
        kinds += inputs
    # Dense columns come first, bins next, levels last; a column of zeros before them if there are no dense ones.
    empty = int(not kinds or (positions and DENSE not in kinds))
    order: list[int] = (np.argsort(np.argsort(kinds, kind="stable"), kind="stable") + empty).tolist() if kinds else []
    return [[order[place] for place in one] for one in places], len(kinds) + empty
