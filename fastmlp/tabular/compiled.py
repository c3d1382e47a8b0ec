"""Frozen ensembles for tables, whose single rows take microseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._common.validation import Array
from .._kernels import use_backend
from ..inference.ensemble import EnsemblePredictor
from ..modules import Module, Sequential, Softmax
from .encoder import ColumnEncoder
from .networks import network_inputs, reads_positions
from .row_encoder import RowEncoder

__all__ = ["CompiledEnsemble"]


class CompiledEnsemble:
    """Frozen copy of an ensemble, which maps rows of a table to answers; it has one thread.

    Parameters
    ----------
    encoder : ColumnEncoder
    nets : sequence of Module
    softmax : bool
        Whether outputs are logits of classes.
    answer : callable
        Converts the mean outputs or probabilities, float64, to the answers.
    """

    def __init__(
        self, encoder: ColumnEncoder, nets: Sequence[Module], softmax: bool, answer: Callable[[Array], Array]
    ) -> None:
        self._encoder, self._answer = encoder, answer
        self._positions = reads_positions(nets[0])
        with use_backend(nets[0].backend_name):
            self._nets = EnsemblePredictor([Sequential(net, Softmax()) if softmax else net for net in nets])
        named = type(encoder) is ColumnEncoder and hasattr(encoder, "feature_names_in_")
        self._encode_row = RowEncoder(encoder, self._positions) if named else None

    def __call__(self, X: Any) -> Array:
        """Return the answers for rows.

        Parameters
        ----------
        X : as for `fit`, or a dict of scalars or a pandas Series for one row
            Rows as dicts, Series and data frames of a single row are encoded without pandas, unless they have dates.

        Returns
        -------
        ndarray with one answer for each row
        """
        return self._answer(self.mean_outputs(self.encode(X)))

    def encode(self, X: Any) -> Array:
        """Return the inputs of the nets for rows, float32 of shape (N, I)."""
        row = X
        if not isinstance(X, Mapping):
            if hasattr(X, "columns") and hasattr(X, "iloc") and len(X) == 1:  # pandas
                row = dict(zip(X.columns.tolist(), X.iloc[0].tolist()))
            elif hasattr(X, "to_dict") and not hasattr(X, "columns"):  # a pandas Series
                row = X = X.to_dict()
        if self._encode_row is not None and isinstance(row, Mapping):
            found = self._encode_row(row)
            if found is not None:
                return found
        return network_inputs(self._encoder, X, self._positions)

    def mean_outputs(self, inputs: Array) -> Array:
        """Return the mean outputs or probabilities of the nets, float64, for encoded rows (N, I)."""
        return self._nets(inputs)
