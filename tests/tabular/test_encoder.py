"""ColumnEncoder: the encoding of each kind of column against a plain computation."""

from __future__ import annotations

import datetime
import decimal
import json

import numpy as np
import pytest
from checks import assert_matches
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastmlp import BinnedLinear, ColumnEncoder
from fastmlp.tabular.encodings import BINS, DENSE, LEVELS

pd = pytest.importorskip("pandas")

F32 = 1e-6


def numbers(values, bins=0, **options):
    encoder = ColumnEncoder(bins=bins, **options).fit({"x": values})
    return encoder, encoder.transform({"x": values})


@parametrize_with_checks([ColumnEncoder(), ColumnEncoder(bins=0, min_frequency=3)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_scaled_numbers():
    values = np.array([1.0, 2.0, 4.0, 8.0, 100.0, np.nan])
    encoder, comp = numbers(values)
    filled = np.where(np.isnan(values), 4.0, values)
    low, high = np.quantile(filled, [0.25, 0.75])
    z = (filled - 4.0) / (high - low)
    assert_matches(np.column_stack([z / np.sqrt(1 + (z / 3) ** 2), np.isnan(values)]), comp, F32)
    assert encoder.get_feature_names_out().tolist() == ["x", "x_missing"]
    assert np.abs(comp[:, 0]).max() < 3


def test_numbers_of_one_value_mostly():
    """Where the quartiles are equal, half the range is the scale."""
    _, comp = numbers(np.array([0.0] * 9 + [4.0]))
    z = np.array([0.0] * 9 + [2.0])
    assert_matches((z / np.sqrt(1 + (z / 3) ** 2))[:, None], comp, F32)


@pytest.mark.parametrize("values", [[2.0] * 5, [np.nan] * 5, [5e-324, 0.0, 0.0]])
def test_columns_that_say_nothing(values):
    encoder, comp = numbers(np.array(values), bins=4)
    assert comp.shape == (len(values), 0) and "left out" in encoder.summary()


def test_a_constant_with_missing_values_is_an_indicator():
    encoder, comp = numbers(np.array([3.0, np.nan, 3.0]))
    assert encoder.get_feature_names_out().tolist() == ["x_missing"]
    assert_matches([[0], [1], [0]], comp)


def test_piecewise_linear_code():
    values = np.arange(9.0)
    encoder, comp = numbers(values, bins=4)
    edges = np.array(encoder.encodings_[0].edges)
    assert len(edges) == 5 and edges[0] == 0 and edges[-1] == 8
    ref = [[np.clip((x - a) / (b - a), 0, 1) for a, b in zip(edges, edges[1:])] for x in values]
    assert_matches(ref, comp[:, 1:], F32)
    assert_matches([[0] * 4, [1] * 4], encoder.transform({"x": [-50.0, 50.0]})[:, 1:])


def test_a_frequent_value_leaves_bins_to_the_others():
    values = np.concatenate([np.zeros(1000), np.linspace(1, 2, 100)])
    encoder, _ = numbers(values, bins=8)
    assert len(encoder.encodings_[0].edges) == 5


def test_categories():
    X = {"c": ["b", "a", "c", "b", "a", "rare", None, "c"]}
    encoder = ColumnEncoder(min_frequency=2).fit(X)
    assert encoder.get_feature_names_out().tolist() == ["c_a", "c_b", "c_c", "c_(rare)", "c_(missing)"]
    ref = np.eye(5)[[1, 0, 2, 1, 0, 3, 4, 2]]
    assert_matches(ref, encoder.transform(X))
    assert_matches(np.eye(5)[[3, 4, 0]], encoder.transform({"c": ["unseen", None, "a"]}))


def test_two_levels_are_one_column_of_signs():
    encoder = ColumnEncoder().fit({"c": ["a", "b"] * 5})
    assert_matches([[1], [-1], [0], [0]], encoder.transform({"c": ["a", "b", "unseen", None]}))


def test_the_most_frequent_levels_are_kept():
    encoder = ColumnEncoder(max_levels=2).fit({"c": list("aaabbcc") + ["d"]})
    assert encoder.encodings_[0].levels == ("a", "b") and encoder.encodings_[0].rare


def test_dates():
    values = pd.to_datetime(["2020-02-29 13:30", "2021-12-31", None, "1969-12-28 00:00:01"], format="ISO8601")
    encoder = ColumnEncoder(bins=0).fit({"when": values})
    parts = dict(encoder.encodings_[0].parts)
    assert set(parts) == {"year", "month", "day", "weekday", "day of year", "hour", "seconds", "days"}
    frame = pd.DataFrame({"when": values})
    ref = {
        "year": values.year, "month": values.month, "day": values.day, "weekday": values.day_of_week,
        "day of year": values.day_of_year, "hour": values.hour,
    }  # fmt: skip
    for part, column in ref.items():
        single = ColumnEncoder(bins=0).fit({"x": np.array(column, float)}).transform({"x": np.array(column, float)})
        names = encoder.get_feature_names_out().tolist()
        place = names.index(f"when_{part.replace(' ', '_')}")
        assert_matches(single[:, 0], encoder.transform(frame)[:, place], F32)
    assert sum(name.endswith("_missing") for name in encoder.get_feature_names_out()) == 1


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([True, False, None, True], dtype="boolean"), pd.Series([1, 2, None, 4], dtype="Int64"),
        pd.Series([1.5, None, 2.5, 3.5], dtype="Float32"), pd.Series(["a", "b", None, "a"], dtype="string"),
        pd.Series(["a", "b", None, "a"], dtype="category"), pd.Series([1, 2.5, None, "x"], dtype=object),
        pd.Series([1, 2, 1, 2], dtype="category"), pd.to_timedelta(pd.Series([1, 2, None, 4]), unit="h"),
        pd.Series(pd.period_range("2020-01", periods=4, freq="M")),
        pd.Series(pd.date_range("2020-01-01", periods=4, tz="Europe/Berlin")), pd.Series([b"a", b"b", b"a", b"b"]),
    ],
    ids=lambda column: str(column.dtype),
)  # fmt: skip
def test_dtypes_of_pandas(column):
    frame = pd.DataFrame({"x": column})
    encoder = ColumnEncoder(min_frequency=1).fit(frame)
    comp = encoder.transform(frame)
    assert np.isfinite(comp).all() and len(set(map(tuple, comp.tolist()))) > 1
    assert encoder.transform(frame.iloc[[2]]).shape == (1, comp.shape[1])


def test_frames_of_other_libraries():
    polars, pyarrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    data = {"a": [1.0, 2.0, 3.0, None], "b": ["x", "y", "x", "y"]}
    ref = ColumnEncoder(bins=2).fit_transform(pd.DataFrame(data))
    for X in (polars.DataFrame(data), pyarrow.table(data), data):
        assert_matches(ref, ColumnEncoder(bins=2).fit_transform(X))


def test_columns_in_another_order_and_of_another_dtype():
    frame = pd.DataFrame({"a": [1, 2, 3, 4], "b": ["1", "2", "1", "2"], "c": [0.5, 1.5, 2.5, 9.0]})
    encoder = ColumnEncoder(bins=2).fit(frame)
    ref = encoder.transform(frame)
    other = pd.DataFrame(
        {"more": [0] * 4, "c": ["0.5", "1.5", "2.5", "9"], "b": [1, 2, 1, 2], "a": [1.0, 2.0, 3.0, 4.0]}
    )
    assert_matches(ref, encoder.transform(other))
    assert_matches(encoder.transform({"a": [np.nan], "b": [None], "c": [None]})[:, 0], [0.0])


def test_arrays():
    matrix = np.array([[1.0, 0.0], [2.0, np.nan], [3.0, 1.0]])
    encoder = ColumnEncoder(bins=0).fit(matrix)
    assert encoder.get_feature_names_out().tolist() == ["x0", "x1", "x1_missing"]
    objects = np.array([["a", 1.0], ["b", 2.0], ["a", 3.0]], dtype=object)
    assert ColumnEncoder(bins=0).fit(objects).get_feature_names_out().tolist() == ["x0_a", "x1"]


@pytest.mark.parametrize(
    "X, message",
    [
        ({"a": [1.0, np.inf]}, r"Column 'a' has inf \(infinity\) in row 1; expected finite numbers"),
        ({"b": ["x", "y"]}, "The column 'a' is missing; expected the columns of the training rows, such as 'a'"),
        ({"a": ["x", "y"]}, "Column 'a' has values such as 'x'; expected a number as in the training rows"),
        (np.zeros((2, 3)), "X has 3 features, but ColumnEncoder is expecting 1 features as input"),
    ],
)
def test_errors_of_new_rows(X, message):
    encoder = ColumnEncoder().fit({"a": [1.0, 2.0, 3.0]})
    with pytest.raises(ValueError, match=message):
        encoder.transform(X)


@pytest.mark.parametrize(
    "X, error, message",
    [
        ({"a": [1j, 2j]}, ValueError, "Column 'a' has complex numbers"),
        ({"a": [[1], [2]]}, ValueError, "Column 'a' has a list in a row"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ValueError, "two columns named 'a'"),
        (pd.DataFrame({"a": [object(), object()]}), TypeError, "Column 'a' has a value of type object"),
        (pd.DataFrame({"a": []}), ValueError, "0 sample"),
        (3, ValueError, None),
    ],
)
def test_errors_of_training_rows(X, error, message):
    with pytest.raises(error, match=message):
        ColumnEncoder().fit(X)


def test_infinite_numbers_in_texts_of_new_rows():
    encoder = ColumnEncoder().fit({"x": [1.0, 2.0, 3.0]})
    with pytest.raises(ValueError, match="'x' has inf .infinity. in row 1"):
        encoder.transform({"x": ["1", "inf"]})


@pytest.mark.parametrize("largest", [1.0, 1e300, np.finfo(np.float64).max])
def test_numbers_far_apart(largest):
    rows = ColumnEncoder().fit_transform({"x": [-largest, -largest, 0.0, largest, largest], "y": [0, 1, 2, 3, 4]})
    assert np.isfinite(rows).all()


def test_summary_describes_the_encoding():
    columns = {"some": [1.0, 1.0, np.nan, 1.0], "two": ["a", "a", "b", "b"], "same": ["a"] * 4}
    _, some, two, same = ColumnEncoder().fit(columns).summary().splitlines()
    assert "indicator of missing numbers" in some and "one column of signs" in two and "left out" in same


def test_summary_names_identifiers():
    rows = 60
    frame = pd.DataFrame({"id": [f"u{i}" for i in range(rows)], "row": np.arange(rows), "x": np.arange(rows) % 7.0})
    lines = ColumnEncoder().fit(frame).summary().splitlines()
    assert [("identifier" in line) for line in lines] == [False, True, True, False]


@settings(max_examples=30)
@given(st.data())
def test_any_table_survives_json(data):
    rows = data.draw(st.integers(1, 30))
    kinds = st.sampled_from(["number", "text", "mixed"])
    columns = {}
    for name in "abc"[: data.draw(st.integers(1, 3))]:
        values = {
            "number": st.one_of(st.none(), st.floats(-1e300, 1e300)),
            "text": st.one_of(st.none(), st.sampled_from(["x", "y", "z z", ""])),
            "mixed": st.one_of(st.integers(0, 2), st.sampled_from(["0", "1.0", "x"])),
        }[data.draw(kinds)]
        columns[name] = data.draw(st.lists(values, min_size=rows, max_size=rows))
    frame = pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in columns.items()})
    encoder = ColumnEncoder(bins=4).fit(frame)
    ref = encoder.transform(frame)
    assert np.isfinite(ref).all() and ref.shape == (rows, len(encoder.get_feature_names_out()))
    comp = ColumnEncoder.from_state(json.loads(json.dumps(encoder.state())))
    assert_matches(ref, comp.transform(frame))
    assert comp.summary() == encoder.summary()


def test_inputs_of_a_binned_linear(rng):
    """Their code has the columns of `transform`, in another order."""
    rows = 200
    X = {
        "few": rng.choice(["a", "b", "c"], rows), "many": rng.choice(list("abcdefghijk"), rows),
        "x": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)), "y": rng.integers(0, 5, rows),
        "day": np.datetime64("2024-01-01") + rng.integers(0, 700, rows),
    }  # fmt: skip
    encoder = ColumnEncoder(bins=16).fit(X)
    inputs, features = encoder.inputs(), encoder.transform_to_inputs(X)
    sizes = {kind: [one.size for one in inputs if one.kind == kind] for kind in (DENSE, BINS, LEVELS)}
    assert features.shape == (rows, len(inputs)) and sizes[LEVELS] == [11] and 16 in sizes[BINS]
    layer = BinnedLinear(len(sizes[DENSE]), sizes[BINS], 1, levels=sizes[LEVELS], rng=0)
    ref, comp = encoder.transform(X), layer.code(features)
    assert comp.shape == ref.shape
    # The same columns: sorted by their numbers, with a position's rounding.
    ref, comp = (array[:, np.lexsort(np.round(array, 3))] for array in (ref, comp))
    assert_matches(ref, comp, 4e-6)
    unseen = encoder.transform_to_inputs({**X, "many": np.full(rows, "new")})
    assert (unseen[:, -1] == -1).all()


def test_lists_of_texts_with_nan_have_missing_values():
    """As in a dict of columns that a data frame gives; NumPy makes the text "nan" of such a value."""
    texts = ["red", "blue", float("nan"), None] * 10
    ref = ColumnEncoder().fit(pd.DataFrame({"color": texts}))
    comp = ColumnEncoder().fit({"color": texts})
    assert ref.state() == comp.state() and comp.encodings_[0].missing
    assert np.array_equal(ref.transform({"color": texts}), comp.transform(pd.DataFrame({"color": texts})))


def test_dates_and_decimals_as_objects():
    """As in frames of Parquet files: dates without a time, and decimal numbers."""
    days = [datetime.date(2024, 1, day) for day in range(1, 21)]
    ref = ColumnEncoder().fit(pd.DataFrame({"day": pd.to_datetime(pd.Series(days)), "price": np.arange(20) / 4}))
    frame = pd.DataFrame({"day": [*days[:19], None], "price": [decimal.Decimal(n) / 4 for n in range(20)]})
    comp = ColumnEncoder().fit(frame)
    assert [one.kind for one in comp.encodings_] == [one.kind for one in ref.encodings_] == ["date", "number"]
    assert np.array_equal(ref.transform(frame[:19]), ref.transform(frame[:19].assign(day=pd.to_datetime(frame["day"]))))
    with pytest.raises(TypeError, match="type time; argument must be a string, a date or a real number, the same kind"):
        ColumnEncoder().fit(pd.DataFrame({"at": [datetime.time(3)] * 3}))
