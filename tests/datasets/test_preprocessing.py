"""apply_preprocessing: new rows in the encoding of the training data."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastmlp._common.errors import DataError, DataWarning
from fastmlp.datasets import apply_preprocessing, load

pandas = pytest.importorskip("pandas")

TRAIN = "n,c,code,flag,y\n1,a,01,true,p\n,b,02,false,q\n3,,01,true,p\n100,a,03,false,q\n"


@pytest.fixture
def record(tmp_path):
    """The preprocessing of a small table, after a way through JSON."""
    (tmp_path / "train.csv").write_text(TRAIN)
    data = load(tmp_path / "train.csv", test=tmp_path / "train.csv", categorical=["code"])
    assert data.feature_names == (
        "n", "c=a", "c=b", "c=<missing>", "code=1", "code=2", "code=3", "flag=False", "flag=True",
    )  # fmt: skip
    return json.loads(json.dumps(data.preprocessing)), data


def test_the_training_rows_come_back(tmp_path, record):
    preprocessing, data = record
    again = apply_preprocessing(tmp_path / "train.csv", preprocessing)
    np.testing.assert_array_equal(again, data.X)
    assert again.dtype == np.float32 and again.flags.c_contiguous
    frame = pandas.read_csv(tmp_path / "train.csv")
    np.testing.assert_array_equal(apply_preprocessing(frame, preprocessing), data.X)


def test_new_rows_in_another_order_with_gaps_and_new_categories(tmp_path, record):
    (tmp_path / "new.tsv").write_text("flag\tcode\tmore\tc\tn\nTRUE\t\tx\tz\t\nmaybe\t2\ty\tb\t7\n")
    with pytest.warns(DataWarning, match=r"'c' in 1 of 2 rows \('z'\), column 'code' .*\(empty cells\), .*'maybe'"):
        rows = apply_preprocessing(str(tmp_path / "new.tsv"), record[0])
    np.testing.assert_array_equal(rows, [[3, 0, 0, 0, 0, 0, 0, 0, 1], [7, 0, 1, 0, 0, 1, 0, 0, 0]])


def test_columns_of_text_stay_text(tmp_path):
    (tmp_path / "train.csv").write_text("c,y\n01,p\nx,q\n1,p\n2,q\n")
    (tmp_path / "new.csv").write_text("c\n01\n1\n")
    data = load(tmp_path / "train.csv", test=tmp_path / "train.csv")
    assert sorted(data.feature_names) == ["c=01", "c=1", "c=2", "c=x"]
    rows = apply_preprocessing(tmp_path / "new.csv", data.preprocessing)
    names = [data.feature_names[place] for place in rows.argmax(axis=1)]
    assert names == ["c=01", "c=1"] and rows.sum() == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("n,c,flag\n1,a,true\n", r"lacks the column 'code'; it has n, c, flag"),
        ("n,c,code,flag\nabc,a,1,true\n", "column 'n' holds 'abc', expected numbers as in training"),
        ("n,c,code,flag\ninf,a,1,true\n", "column 'n' holds inf"),
        ("n,c,code,flag\n1e300,a,1,true\n", "too large for float32"),
        ("n,c,code,flag\n", "no rows"),
        ("", "is empty"),
    ],
)
def test_rows_that_do_not_fit(tmp_path, record, text, words):
    (tmp_path / "new.csv").write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        apply_preprocessing(tmp_path / "new.csv", record[0])
    assert "new.csv" in str(caught.value)


def test_files_without_column_names_go_by_position(tmp_path):
    (tmp_path / "train.csv").write_text("0,1.5,2\n1,3.5,4\n0,5.5,6\n1,7.5,8\n")
    preprocessing = load(tmp_path / "train.csv", target=0).preprocessing
    for text in ("0,10,20\n", "10,20\n"):  # with the target and without
        (tmp_path / "new.csv").write_text(text)
        assert apply_preprocessing(tmp_path / "new.csv", preprocessing).tolist() == [[10, 20]]
    (tmp_path / "new.csv").write_text("1,2,3,4\n")
    with pytest.raises(DataError, match=r"has 4 columns, expected 2 \(or 3 with the target\)"):
        apply_preprocessing(tmp_path / "new.csv", preprocessing)


def test_arrays(tmp_path):
    X = np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 6.0], [7.0, 8.0]])
    np.savez(tmp_path / "a.npz", X=X, y=[0, 1, 0, 1], X_test=X, y_test=[0, 1, 0, 1])
    data = load(tmp_path / "a.npz")
    np.save(tmp_path / "new.npy", X)
    for rows in (X, tmp_path / "new.npy", tmp_path / "a.npz"):
        np.testing.assert_array_equal(apply_preprocessing(rows, data.preprocessing), data.X)
    for wrong, words in ((X[0], "shape"), (X[:, :1], "has 1 columns, expected 2"), (5, "type int")):
        with pytest.raises(DataError, match=words):
            apply_preprocessing(wrong, data.preprocessing)
    np.savez(tmp_path / "b.npz", Z=X)
    with pytest.raises(DataError, match="has no array X"):
        apply_preprocessing(tmp_path / "b.npz", data.preprocessing)
    with pytest.raises(DataError, match="is not a table"):
        apply_preprocessing(tmp_path / "b.txt", data.preprocessing)


def test_float64_is_kept(tmp_path):
    (tmp_path / "train.csv").write_text("n,y\n1e300,a\n2,b\n3,a\n4,b\n")
    data = load(tmp_path / "train.csv", dtype="float64", test=tmp_path / "train.csv")
    assert apply_preprocessing(tmp_path / "train.csv", data.preprocessing)[0, 0] == 1e300


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.pop("columns"),
        lambda p: p.update(columns=5),
        lambda p: p.update(columns=["n"]),
        lambda p: p.update(dtype="nothing"),
        lambda p: p["columns"][0].pop("median"),
        lambda p: p["columns"][1].pop("categories"),
        lambda p: p["columns"][0].pop("name"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path, record, change):
    change(record[0])
    with pytest.raises(DataError, match="not a record of a table"):
        apply_preprocessing(tmp_path / "train.csv", record[0])
    with pytest.raises(DataError, match="not a record of a table"):
        apply_preprocessing(tmp_path / "train.csv", None)
