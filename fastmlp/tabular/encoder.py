"""ColumnEncoder: tables of numbers, categories and dates as a matrix for a neural network."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from .._common.validation import Array
from ..datasets.dialect import is_number
from .encodings import FEWEST_CODED, Encoding, InputColumn, encoding_from_state, encoding_state, fit_encoding
from .frames import Categories, Column, Dates, Numbers, empty_column, has_names, read_columns, read_matrix, to_frame

__all__ = ["ColumnEncoder"]

_IDENTIFIER = 0.9  # share of distinct texts from which on a column looks like an identifier
_FEW = 50  # rows below which no column does


class ColumnEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Encoder of the columns of a table for a neural network.

    Numbers are scaled by median and quartiles, clipped smoothly, and accompanied by a piecewise-linear code over
    quantile bins and an indicator of missing numbers. Categories (texts, booleans, categorical columns) become one
    column for each level. Dates become year, month, day, weekday, time of day and days since 1970, as numbers.

    Parameters
    ----------
    bins : int
        Quantile bins of each number; 0 for the scaled number alone.
    min_frequency : int
        Least number of training rows of a level; rarer levels share one code, also with levels that are first seen by
        `transform`.
    max_levels : int
        Most levels of a column; those with fewer rows are rare.

    Attributes
    ----------
    encodings_ : list of NumberEncoding, CategoryEncoding or DateEncoding
        For each column.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Names of the columns, if the table has names.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import ColumnEncoder
    >>> X = {"size": [1.0, 2.0, np.nan, 4.0], "color": ["red", "blue", "red", "blue"]}
    >>> encoder = ColumnEncoder(bins=0).fit(X)
    >>> encoder.get_feature_names_out().tolist()
    ['size', 'size_missing', 'color_blue']
    >>> encoder.transform({"color": ["blue"], "size": [2.0]})
    array([[0., 0., 1.]], dtype=float32)
    """

    _parameter_constraints: dict[str, Any] = {
        "bins": [Interval(Integral, 0, None, closed="left")],
        "min_frequency": [Interval(Integral, 1, None, closed="left")],
        "max_levels": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, bins: int = 32, min_frequency: int = 2, max_levels: int = 256) -> None:
        self.bins, self.min_frequency, self.max_levels = bins, min_frequency, max_levels

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> ColumnEncoder:
        """Fit the encodings to training rows.

        Parameters
        ----------
        X : data frame (pandas or polars), Arrow table, dict of columns, or array-like, of shape (N, columns)
        y : object
            Ignored.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a column has infinite numbers.
        TypeError
            If a column has values that are no numbers, texts, booleans or dates.
        """
        columns, names = self._open(X)
        self.n_features_in_ = len(columns)
        if names is not None and all(isinstance(name, str) for name in names):
            self.feature_names_in_: Array = np.array(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self.encodings_: list[Encoding] = [
            fit_encoding(column, self.bins, self.min_frequency, self.max_levels) for column in columns
        ]
        self.fewest_coded_ = FEWEST_CODED
        self._shares = [float(column.missing().mean()) for column in columns]
        self._identifiers = [_looks_like_identifier(column) for column in columns]
        return self

    def transform(self, X: Any) -> Array:
        """Encode rows.

        Parameters
        ----------
        X : as for `fit`
            Named columns may be in another order, and beside others.

        Returns
        -------
        ndarray of float32, of shape (N, width)

        Raises
        ------
        ValueError
            If a column is missing, or is of another kind than in the training rows.
        """
        columns = self._fitted_columns(X)
        out: Array = np.zeros((len(columns[0].missing()), sum(one.width for one in self.encodings_)), np.float32)
        at = 0
        for column, encoding in zip(columns, self.encodings_, strict=True):
            encoding.write(column, out[:, at : at + encoding.width])  # type: ignore[arg-type]
            at += encoding.width
        return out

    def inputs(self) -> list[InputColumn]:
        """Return the columns of `transform_to_inputs`: dense ones, then those of bins, then those of levels."""
        check_is_fitted(self)
        return sorted(
            (one for encoding in self.encodings_ for one in encoding.inputs(self.fewest_coded_)),
            key=lambda one: one.kind,
        )

    def transform_to_inputs(self, X: Any) -> Array:
        """Encode rows as inputs of a `BinnedLinear`: like `transform`, with a position in place of a long code.

        Parameters and errors are those of `transform`.

        Returns
        -------
        ndarray of float32, of shape (N, inputs)
            The columns that `inputs` describes. A position among bins is the number of the bin plus the fraction of it;
            a level is its number, or -1.
        """
        columns = self._fitted_columns(X)
        kinds = [one.kind for encoding in self.encodings_ for one in encoding.inputs(self.fewest_coded_)]
        found: Array = np.zeros((len(columns[0].missing()), len(kinds)), np.float32)
        at = 0
        for column, encoding in zip(columns, self.encodings_, strict=True):
            width = len(encoding.inputs(self.fewest_coded_))
            encoding.write_inputs(column, found[:, at : at + width], self.fewest_coded_)  # type: ignore[arg-type]
            at += width
        return np.ascontiguousarray(found[:, np.argsort(kinds, kind="stable")])

    def _fitted_columns(self, X: Any) -> list[Column]:
        """Return the columns of a table as those of the training rows."""
        check_is_fitted(self)
        columns, _ = self._open(X, fitted=True)
        pairs = zip(columns, self.encodings_, strict=True)
        return [self._as_fitted(column, encoding, place) for place, (column, encoding) in enumerate(pairs)]

    def _open(self, X: Any, fitted: bool = False) -> tuple[list[Column], list[Any] | None]:
        """Return the columns of a table, in the order of the training rows, and their names."""
        if not has_names(X):
            matrix = read_matrix(X)
            if fitted:
                self._require_width(matrix.shape[1])
            return read_columns(matrix), None
        frame = to_frame(X)
        if fitted and hasattr(self, "feature_names_in_"):
            absent = [name for name in self.feature_names_in_ if name not in frame.columns]
            if absent:
                raise ValueError(
                    f"The column {absent[0]!r} is missing; expected the columns of the training rows, such as "
                    f"{', '.join(map(repr, self.feature_names_in_[:5]))}."
                )
            frame = frame[list(self.feature_names_in_)]
        elif fitted:
            self._require_width(frame.shape[1])
        if not len(frame):
            raise ValueError(f"Found array with 0 sample(s) (shape={frame.shape}) while a minimum of 1 is required.")
        if not frame.shape[1]:
            raise ValueError(f"Found array with 0 feature(s) (shape={frame.shape}) while a minimum of 1 is required.")
        return read_columns(frame), list(frame.columns)

    def _require_width(self, width: int) -> None:
        if width != self.n_features_in_:
            raise ValueError(
                f"X has {width} features, but {type(self).__name__} is expecting {self.n_features_in_} features as "
                "input."
            )

    def _as_fitted(self, column: Column, encoding: Encoding, place: int) -> Column:
        """Return a column as one of the kind of the training rows."""
        if column.kind == encoding.kind:
            return column
        if column.missing().all():
            return empty_column(encoding.kind, len(column.missing()))
        if isinstance(column, Numbers) and encoding.kind == "category":
            return column.as_categories()
        if isinstance(column, Categories) and encoding.kind == "number":
            numbers = column.as_numbers(self.column_names()[place])
            if numbers is not None:
                return numbers
        example = column.values[~column.missing()][0] if not isinstance(column, Categories) else _first_text(column)
        raise ValueError(
            f"Column {self.column_names()[place]!r} has values such as {str(example)!r}; expected a {encoding.kind} as "
            "in the training rows."
        )

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return the names of the encoded columns.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the columns of the table; ``feature_names_in_`` or x0, x1, ... by default.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        names = self.column_names() if input_features is None else list(input_features)
        if len(names) != self.n_features_in_:
            raise ValueError(
                "input_features should have length equal to number of features: "
                f"{self.n_features_in_}, got {len(names)}."
            )
        if input_features is not None and hasattr(self, "feature_names_in_") and names != list(self.feature_names_in_):
            raise ValueError("input_features is not equal to feature_names_in_")
        pairs = zip(names, self.encodings_, strict=True)
        return np.array([label for name, encoding in pairs for label in encoding.names(str(name))], dtype=object)

    def summary(self) -> str:
        """Return a table of the columns: kind, share of missing values and encoding, with columns that look like
        identifiers.
        """
        check_is_fitted(self)
        names = [str(name) for name in self.column_names()]
        width = max(len("column"), *map(len, names))
        lines = [f"{'column':{width}}  {'kind':8}  missing  encoding"]
        for name, encoding, share, odd in zip(names, self.encodings_, self._shares, self._identifiers, strict=True):
            note = " (looks like an identifier)" if odd else ""
            lines.append(f"{name:{width}}  {encoding.kind:8}  {share:6.1%}   {encoding.describe()}{note}")
        return "\n".join(lines)

    def state(self) -> dict[str, Any]:
        """Return the fitted encodings as JSON-able values, see `from_state`."""
        check_is_fitted(self)
        return {
            "names": list(map(str, self.feature_names_in_)) if hasattr(self, "feature_names_in_") else None,
            "columns": [encoding_state(encoding) for encoding in self.encodings_],
            "missing": self._shares, "identifiers": self._identifiers, "parameters": self.get_params(),
            "fewest_coded": self.fewest_coded_,
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ColumnEncoder:
        """Return the encoder of a `state`, also after a round trip through JSON.

        Parameters
        ----------
        state : dict

        Returns
        -------
        ColumnEncoder
        """
        made = cls(**state["parameters"])
        made.encodings_ = [encoding_from_state(one) for one in state["columns"]]
        made.n_features_in_ = len(made.encodings_)
        if state["names"] is not None:
            made.feature_names_in_ = np.array(state["names"], dtype=object)
        made.fewest_coded_ = state.get("fewest_coded", FEWEST_CODED)  # missing in files with encoded columns only
        made._shares, made._identifiers = list(state["missing"]), list(state["identifiers"])
        return made

    def column_names(self) -> list[Any]:
        """Return the names of the columns of a table: those of the training rows, or x0, x1, ..."""
        return list(getattr(self, "feature_names_in_", [f"x{place}" for place in range(self.n_features_in_)]))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _first_text(column: Categories) -> str:
    """Return the first level that is not a number, or else the first one."""
    return next((level for level in column.levels if not is_number(level)), column.levels[0])


def _looks_like_identifier(column: Column) -> bool:
    """Return whether nearly all rows have a category of their own, or numbers count the rows."""
    rows = len(column.missing())
    if rows < _FEW or isinstance(column, Dates):
        return False
    if isinstance(column, Categories):
        return len(column.levels) > _IDENTIFIER * rows
    return bool(np.array_equal(np.diff(column.values), np.ones(rows - 1)))
