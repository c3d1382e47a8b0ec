"""No loss of digits before centering: times, coordinates, identifiers, labels."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal

import numpy as np
import pytest
from checks import assert_matches

from fastmlp._common.errors import DataError, DataWarning
from fastmlp.datasets import apply_preprocessing, load
from fastmlp.datasets.columns import array_column
from fastmlp.datasets.fitting import centering_offset

pandas = pytest.importorskip("pandas")

ROWS = 60
SPREAD = np.random.default_rng(1).permutation(ROWS).astype(float)  # exact in any dtype
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
KINDS = ("t.csv", "t.tsv", "t.parquet", "t.npz", "t.npy")
# Values that float32 cannot tell apart, and what float64 makes of them: exact differences but for the last.
COLUMNS = {
    "times": 1_700_000_000.25 + SPREAD,
    "coordinates": -5_800_000.125 + SPREAD / 1024,
    "whole": (2**40 + SPREAD).astype(np.int64),
    "beyond 2^53": 2**60 + 1 + SPREAD.astype(np.int64),
    "below -2^53": -(2**60) - 1 + SPREAD.astype(np.int64),
    "beyond int64": np.uint64(2**63) + SPREAD.astype(np.uint64),
}


def write(folder, kind, x, y):
    """A table of one feature and a target."""
    path = folder / kind
    if kind == "t.npz":
        np.savez(path, X=x[:, None], y=y)
    elif kind == "t.npy":
        np.save(path, x[:, None])
        np.save(folder / "y.npy", y)
    else:
        frame = pandas.DataFrame({"x": x, "y": y})
        if kind == "t.parquet":
            pytest.importorskip("pyarrow")
            frame.to_parquet(path, index=False)
        else:
            frame.to_csv(path, index=False, sep="\t" if kind == "t.tsv" else ",")
    return path, {"target": "y.npy"} if kind == "t.npy" else {}


def exact(column):
    """The values as Python's numbers, which do not round differences of integers."""
    return np.array(column.tolist(), dtype=object)


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_features_are_centered_before_they_are_rounded(tmp_path, kind, column, dtype):
    path, options = write(tmp_path, kind, column, np.arange(ROWS) % 2)
    data = load(path, dtype=dtype, test_size=0.5, **options)
    (spec,) = data.preprocessing["columns"]
    offset = spec["offset"]
    # float64 alone holds what it can hold.
    assert (offset != 0) == (dtype == "float32" or abs(float(column[0])) > 2**53)
    assert type(offset) is (float if column.dtype.kind == "f" else int) or offset == 0
    ref = np.sort((exact(column) - offset).astype(float))
    comp = np.concatenate([data.X, data.X_test])[:, 0]
    assert comp.dtype == dtype and len(set(comp.tolist())) == ROWS
    assert_matches(ref, np.sort(comp.astype(float)), np.finfo(dtype).eps * np.abs(ref))
    # New rows go the same way, also after a way through JSON.
    record = json.loads(json.dumps(data.preprocessing))
    again = apply_preprocessing(path, record)
    np.testing.assert_array_equal(np.sort(again[:, 0]), np.sort(comp))


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_targets_are_centered_before_they_are_rounded(tmp_path, kind, column, dtype):
    path, options = write(tmp_path, kind, SPREAD, column)
    options |= {"task": "regression", "dtype": dtype, "test_size": 0.5}
    beyond = abs(float(column[0])) > 2**53
    with pytest.warns(DataWarning, match="center_target=True subtracts") if beyond else contextlib.nullcontext():
        plain = load(path, **options)
    assert plain.y.dtype == np.float64 and "target_offset" not in plain.preprocessing
    assert_matches(np.sort(column.astype(float)), np.sort(np.concatenate([plain.y, plain.y_test])))
    data = load(path, center_target=True, **options)
    offset = data.preprocessing.get("target_offset", 0)
    assert (offset != 0) == (dtype == "float32" or beyond)
    ref = np.sort((exact(column) - offset).astype(float))
    assert_matches(ref, np.sort(np.concatenate([data.y, data.y_test])))


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize(
    "values",
    [
        SPREAD,
        SPREAD / 7,
        1e4 + SPREAD,  # float32 rounds to thousandths
        np.full(5, 1.7e9),
        np.array([1.7e9 + 1 / 3]),
        np.array([0.1, 0.2, 1e30]),
        np.array([np.nan, 1.0, 2.0]),
        np.arange(2000, 2020),
        np.array([5], np.uint8),
    ],
    ids=range(9),
)
def test_columns_that_need_no_offset(values, dtype):
    assert centering_offset(array_column(values, "x"), dtype) == 0


def test_an_offset_where_most_values_are_the_same():
    """Half of the times are one: the interquartile range is 0, and the standard deviation tells."""
    values = np.r_[np.full(40, 1.7e9), 1.7e9 + np.arange(20)]
    assert centering_offset(array_column(values, "x"), FLOAT32) == 1.7e9
    assert centering_offset(array_column(values, "x"), FLOAT64) == 0


def test_whole_numbers_that_the_dtype_holds_are_not_centered(tmp_path):
    path, _ = write(tmp_path, "t.csv", 10_000_000 + SPREAD.astype(int), np.arange(ROWS) % 2)
    data = load(path)
    assert data.preprocessing["columns"][0]["offset"] == 0 and data.X.min() >= 10_000_000


def test_pixels_are_not_centered(tmp_path):
    """They are flipped and compared with each other."""
    images = np.full((20, 2, 2), 1.1)
    images[3] += 1e-9
    np.savez(tmp_path / "t.npz", X=images, y=np.arange(20) % 2)
    data = load(tmp_path / "t.npz")
    assert data.image_shape == (1, 2, 2) and (data.X == np.float32(1.1)).all()


def test_gaps_in_a_centered_column_get_the_median(tmp_path):
    frame = pandas.DataFrame({"x": 2**60 + SPREAD.astype(np.int64), "y": np.arange(ROWS) % 2})
    frame = frame.astype({"x": "Int64"})
    frame.loc[[0, 1], "x"] = None
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = load(tmp_path / "t.csv", test=tmp_path / "t.csv")
    assert data.X[:2].tolist() == [[0], [0]] and data.preprocessing["columns"][0]["missing"]
    ref = (exact(frame["x"][2:]) - data.preprocessing["columns"][0]["offset"]).astype(float)
    assert_matches(ref, data.X[2:, 0])
    np.testing.assert_array_equal(apply_preprocessing(frame, data.preprocessing), data.X)


def test_targets_of_float32_stay_float32(tmp_path):
    path, options = write(tmp_path, "t.npz", SPREAD, np.float32(1) / (1 + SPREAD.astype(np.float32)))
    assert load(path, **options).y.dtype == np.float32


def test_bytes_with_a_target_that_needs_an_offset(tmp_path):
    path, options = write(tmp_path, "t.npz", SPREAD.astype(np.uint8), 1.7e9 + SPREAD / 7)
    data = load(path, center_target=True, **options)
    assert data.X.dtype == np.float32 and data.preprocessing["target_offset"] > 1.6e9
    assert load(path, **options).X.dtype == np.uint8


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_too_large(tmp_path, dtype):
    for x, y in ((SPREAD * 1e40, np.arange(ROWS) % 2), (SPREAD, SPREAD * 1e40)):  # as feature, as target
        path, _ = write(tmp_path, "t.csv", x, y)
        if dtype == "float64":
            data = load(path, dtype=dtype)
            assert max(np.abs(data.X).max(), np.abs(data.y).max()) > 1e41
        else:
            with pytest.raises(
                DataError, match="too large for float32; scale .*, or read the table with dtype='float64'"
            ):
                load(path, dtype=dtype)


@pytest.mark.parametrize(("unit", "dtype"), [(1e-40, "float32"), (1e-200, "float64")])
def test_targets_too_close_together(tmp_path, unit, dtype):
    path, _ = write(tmp_path, "t.csv", SPREAD, SPREAD * unit)
    with pytest.raises(DataError, match=f"is the target and differs by .*, too little for {dtype}; scale it"):
        load(path, dtype=dtype)
    if dtype == "float32":
        assert len(set(load(path, dtype="float64").y)) == 48


def test_a_number_too_large_in_new_rows(tmp_path):
    data = load(write(tmp_path, "t.csv", SPREAD, np.arange(ROWS) % 2)[0])
    with pytest.raises(DataError, match="1e\\+40, too large for float32 as in training; scale the column"):
        apply_preprocessing(pandas.DataFrame({"x": [1e40]}), data.preprocessing)


LABELS = {
    "2^53": [2**53, 2**53 + 1, 2**53 + 2, 2**53 + 3],
    "18 digits": [123456789012345678, 123456789012345679, 123456789012345680],
    "negative": [-(2**62) - 1, -(2**62), 2**62],
    "uint64": [2**63, 2**63 + 1, 2**64 - 1],
    "small": [-1, 0, 7],
}
TEXTS = {"beyond 64 bits": [2**64, 2**64 + 1], "25 digits": [10**24, 10**24 + 1], "below 64 bits": [-(10**24), 5]}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("kind", KINDS)
def test_integers_keep_their_value_as_labels(tmp_path, kind, labels):
    y = np.array([labels[i % len(labels)] for i in range(ROWS)], np.uint64 if min(labels) >= 0 else np.int64)
    path, options = write(tmp_path, kind, SPREAD, y)
    data = load(path, task="classification", test_size=0.5, **options)
    assert data.classes == tuple(map(str, sorted(labels)))
    names = np.array(data.classes)
    found = sorted(names[np.concatenate([data.y, data.y_test])].tolist())
    assert found == sorted(map(str, y.tolist()))


@pytest.mark.parametrize("labels", [*(LABELS | TEXTS).values()], ids=LABELS | TEXTS)
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("source", ["csv", "parquet", "frame"])
def test_integers_keep_their_value_as_categories(tmp_path, labels, gaps, source):
    values = [labels[i % len(labels)] for i in range(ROWS)]
    if gaps:
        values[:2] = [None, None]
    within = max(map(abs, labels)) < 2**63
    dtype = ("Int64" if within else "UInt64") if max(labels) < 2**64 and min(labels) >= -(2**63) else object
    frame = pandas.DataFrame({"c": pandas.array(values, dtype=dtype), "x": SPREAD, "y": np.arange(ROWS) % 2})
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    data = load(path, categorical=["c"], test=path)
    names = [f"c={label}" for label in sorted(labels)] + ["c=<missing>"] * gaps
    assert data.feature_names == (*names, "x")
    rows = path
    if source == "parquet":
        pytest.importorskip("pyarrow")
        if dtype is object:
            frame["c"] = [None if value is None else Decimal(value) for value in values]
        rows = tmp_path / "t.parquet"
        frame.to_parquet(rows, index=False)
    elif source == "frame":
        rows = frame
    encoded = apply_preprocessing(rows, json.loads(json.dumps(data.preprocessing)))
    np.testing.assert_array_equal(encoded, data.X)
    seen = [data.feature_names[place] for place in encoded[:, :-1].argmax(axis=1)]
    assert seen == ["c=<missing>" if value is None else f"c={value}" for value in values]


def test_integers_beyond_64_bits_are_numbers_too(tmp_path):
    x = [10**24 + int(s) for s in SPREAD]
    frame = pandas.DataFrame({"x": pandas.Series(x, dtype=object), "y": np.arange(ROWS) % 2})
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = load(tmp_path / "t.csv", test=tmp_path / "t.csv")
    ref = (np.array(x, dtype=object) - data.preprocessing["columns"][0]["offset"]).astype(float)
    assert_matches(ref, data.X[:, 0])
    assert data.feature_names == ("x",)


def test_floats_as_categories_are_written_as_integers_are(tmp_path):
    """1 in training is 1.0 in a frame with gaps."""
    (tmp_path / "t.csv").write_text("c,y\n1,a\n2,b\n1,a\n2,b\n")
    record = load(tmp_path / "t.csv", categorical=["c"]).preprocessing
    frame = pandas.DataFrame({"c": [1.0, 2.0]})
    assert apply_preprocessing(frame, record).tolist() == [[1, 0], [0, 1]]
