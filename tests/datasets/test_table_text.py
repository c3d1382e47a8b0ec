"""CSV, TSV and Parquet tables as data sets."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fastmlp._common.errors import DataError, DataWarning
from fastmlp.datasets import apply_preprocessing, load

pandas = pytest.importorskip("pandas")


def people(rows=60):
    rng = np.random.default_rng(5)
    return pandas.DataFrame(
        {
            "age": rng.integers(18, 80, rows),
            "height": rng.normal(170, 10, rows).round(2),
            "city": rng.choice(["Oslo", "Bergen", "Tromsø"], rows),
            "member": rng.choice([True, False], rows),
            "price": rng.normal(100, 20, rows).round(3),
            "kind": rng.choice(["b", "a"], rows),
        }
    )


@pytest.mark.parametrize("name", ["people.csv", "people.tsv", "people.parquet", "PEOPLE.CSV"])
def test_classification_with_the_last_column_as_target(written, name):
    frame = people()
    data = load(written(frame, name))
    assert (data.name, data.task, data.classes) == (name, "classification", ("a", "b"))
    assert data.feature_names == (
        "age", "height", "city=Bergen", "city=Oslo", "city=Tromsø", "member=False", "member=True", "price",
    )  # fmt: skip
    assert data.X.shape == (48, 8) and data.X_test.shape == (12, 8)
    assert data.X.dtype == np.float32 and data.y.dtype == np.int64 and data.X.flags.c_contiguous
    # Every row of the file is in one of the parts, as it stands there.
    rows = np.concatenate([np.c_[data.X, data.y], np.c_[data.X_test, data.y_test]])
    expected = np.c_[
        frame["age"], frame["height"], frame["city"] == "Bergen", frame["city"] == "Oslo",
        frame["city"] == "Tromsø", ~frame["member"], frame["member"], frame["price"], frame["kind"] == "b",
    ].astype(np.float32)  # fmt: skip
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)])


@pytest.mark.parametrize("target", ["price", 4, -2, "4"])
def test_regression_by_name_or_index(written, target):
    data = load(written(people()), target=target)
    assert data.task == "regression" and data.classes is None and data.y.dtype == np.float64
    assert "price" not in data.feature_names and data.feature_names[-1] == "kind=b"


def test_splits_are_deterministic_and_stratified(written):
    path = written(pandas.DataFrame({"x": np.arange(100.0), "y": ["a"] * 80 + ["b"] * 20}))
    first, again, other = load(path), load(path), load(path, seed=1)
    np.testing.assert_array_equal(first.X, again.X)
    assert not np.array_equal(first.X, other.X)
    for data in (first, other):
        assert np.bincount(data.y_test).tolist() == [16, 4]
    assert len(load(path, test_size=0.5).X) == 50


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.arange(40) % 2, "classification"),
        (np.arange(40) % 4, "classification"),
        (np.arange(40) % 5, "regression"),  # more than one value for ten rows
        (np.arange(400) % 20, "classification"),
        (np.arange(400) % 21, "regression"),
        ([0, 1, 1], "classification"),
        ((np.arange(40) % 2) + 0.5, "regression"),
        ((np.arange(40) % 2).astype(float), "regression"),
        (np.arange(40) % 2 == 0, "classification"),
        (["u", "v"] * 20, "classification"),
    ],
)
def test_the_task_is_told_by_the_target(written, values, expected):
    path = written(pandas.DataFrame({"x": np.arange(float(len(values))), "y": values}))
    assert load(path).task == expected


def test_the_task_may_be_chosen(written):
    path = written(pandas.DataFrame({"x": np.arange(20.0), "y": np.arange(20) % 12}))
    data = load(path, task="classification")
    assert data.classes == tuple(map(str, range(12)))  # by value: "10" after "9"
    assert load(path, task="regression").task == "regression"
    floats = written(pandas.DataFrame({"x": np.arange(20.0), "y": [1.0, 2.5] * 10}), "floats.csv")
    assert load(floats, task="classification").classes == ("1", "2.5")
    for wrong in ("ranking", None):
        with pytest.raises(DataError, match="task is"):
            load(path, task=wrong)
    with pytest.raises(DataError, match=r"'kind' holds .*must be numbers"):
        load(written(people()), task="regression")


def test_columns_of_numbers_as_categories(written):
    frame = pandas.DataFrame({"zip": [10, 9, None, 10] * 10, "x": np.arange(40.0), "y": ["a", "b"] * 20})
    data = load(written(frame), categorical=["zip"])
    assert data.feature_names == ("zip=9", "zip=10", "zip=<missing>", "x")
    np.testing.assert_array_equal(data.X[:, :3].sum(axis=1), 1)
    assert load(written(frame), categorical=[0]).feature_names == data.feature_names
    with pytest.raises(DataError, match="categorical is 'all'"):
        load(written(frame), categorical="all")
    with pytest.raises(DataError, match=r"no column 'y' \(categorical\); its columns are zip, x"):
        load(written(frame), categorical=["y"])


def test_columns_may_be_dropped(written):
    assert load(written(people()), drop=["city", 0]).feature_names[0] == "height"
    with pytest.raises(DataError, match=r"no column 'town' \(drop\)"):
        load(written(people()), drop=["town"])
    with pytest.raises(DataError, match="no column beside the target"):
        load(written(people()), drop=["age", "height", "city", "member", "price"])


def test_missing_values_and_categories_come_from_the_training_part_only(written):
    train = written("n,c,y\n1,a,0\n,b,1\n3,,0\n100,a,1\n", "train.csv")
    test = written("n,c,y\n,new,1\n7,,0\n8,b,1\n", "test.csv")
    with pytest.warns(DataWarning, match=r"test.csv: .*column 'c' in 1 of 3 rows \('new'\)"):
        data = load(train, test=test)
    assert data.feature_names == ("n", "c=a", "c=b", "c=<missing>")
    np.testing.assert_array_equal(data.X, [[1, 1, 0, 0], [3, 0, 1, 0], [3, 0, 0, 1], [100, 1, 0, 0]])
    np.testing.assert_array_equal(data.X_test, [[3, 0, 0, 0], [7, 0, 0, 1], [8, 0, 1, 0]])
    assert data.y_test.tolist() == [1, 0, 1]


def test_a_category_missing_in_the_test_part_only_gives_zeros(written):
    train, test = written("c,y\na,0\nb,1\n", "train.csv"), written("c,y\n,1\n", "test.csv")
    with pytest.warns(DataWarning, match=r"column 'c' in 1 of 1 rows \(empty cells\)"):
        np.testing.assert_array_equal(load(train, test=test).X_test, [[0, 0]])


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ("n,y\n1,5\n", "label '5', which is none of the 2 classes of training"),
        ("m,y\n1,0\n", "lacks the column 'n'"),
        ("n,z\n1,0\n", r"no column 'y' \(target\)"),
        ("n,y\n1,\n2,0\n", "missing in 1 of 2 rows"),
        ("n,y\nabc,0\n", "column 'n' holds 'abc', expected numbers"),
    ],
)
def test_a_second_file_that_does_not_fit(written, test, words):
    with pytest.raises(DataError, match=words) as caught:
        load(written("n,y\n1,0\n2,1\n"), test=written(test, "test.csv"))
    assert "test.csv" in str(caught.value)


@pytest.mark.filterwarnings("ignore::fastmlp.DataWarning")  # some of these first lines are guesses
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "has no rows"),
        ("a,b\n1,2\n3\n", r"line 3: 1 fields, expected 2"),
        ("a,b\n1,2\n3,4,5\n", r"line 3: 3 fields, expected 2"),
        ("a,b\n1,2,3\n4,5,6\n", r"line 2: 3 fields, expected 2"),
        ("a,a\n1,2\n", "2 columns named 'a'"),
        ("a,b\n1,x\n2,x\n", "one class only, x"),
        ("a,b\n1,2.5\n2,2.5\n", "is 2.5 in every row"),
        ("a,b\n1,2\n", "has one class only, 2"),
        ("a,b\n1,x\n2,y\n3,\n4,\n", "'b' is the target and is missing in 2 of 4 rows"),
        ("a,b\ninf,x\n2,y\n3,x\n", r"column 'a' holds inf \(1 such rows\)"),
        ("a,b\n1,x\n-inf,y\n-inf,x\n3,y\n", r"column 'a' holds -inf"),
        ("a,b\n1,0.5\n2,inf\n", "'b' is the target and holds an infinity"),
        ("a,b\n1e300,x\n2,y\n1e300,x\n2,y\n", "too large for float32"),
        ("a,b\n,x\n,y\n", "'a' has no value in the training part"),
        ('a,b\n"1,2\n3,4\n', "cannot be read as a table"),
        (b"a,b\n1,\xff\n", r"not UTF-8 text"),
        (b"\x00\x01\x02\x03", "people.csv"),
        (b"PK\x03\x04\xff\xfe", "not UTF-8 text"),
        ("b\nx\ny\n", "no column beside the target"),
    ],
)
def test_damaged_tables(written, text, words):
    with pytest.raises(DataError, match=words) as caught:
        load(written(text))
    assert "people.csv" in str(caught.value)


def test_an_unknown_target_lists_the_columns(written):
    for target in ("cost", 6, -7, "6", 1.5):
        with pytest.raises(DataError, match="its columns are age, height, city, member, price, kind"):
            load(written(people()), target=target)


def test_identifiers_are_not_one_hot_encoded(written):
    frame = pandas.DataFrame({"id": [f"p{i}" for i in range(2000)], "y": ["a", "b"] * 1000})
    with pytest.raises(DataError, match=r"'id' has 1600 categories; expected at most 1000.*drop="):
        load(written(frame))


def test_a_file_without_column_names(written):
    path = written("1,2,0\n3,4,1\n5,6,0\n7,8,1\n")
    data = load(path)
    assert data.feature_names == ("column_0", "column_1") and len(data.X) + len(data.X_test) == 4
    assert load(path, header=True, target=0, task="regression").feature_names == ("2", "0")
    assert load(written("a,b,c\nd,e,f\na,e,f\nd,b,c\n"), header=False).classes == ("c", "f")


def test_a_byte_order_mark_and_spaces_are_no_part_of_names(written):
    data = load(written(b"\xef\xbb\xbfa, b, y\n1, u, p\n2, v, q\n3, u, p\n"), test_size=0.34)
    assert data.feature_names == ("a", "b=u", "b=v") and data.classes == ("p", "q")


def test_paths(tmp_path, written, monkeypatch):
    path = written(people())
    assert load(str(path)).name == "people.csv"
    assert load("people.csv", data_dir=tmp_path).name == "people.csv"
    monkeypatch.chdir(tmp_path)
    assert load("people.csv").name == "people.csv"
    with pytest.raises(DataError, match="does not exist"):
        load("other.csv")
    (tmp_path / "people.xyz").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"not a table; expected a name that ends in \.csv"):
        load("people.xyz")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="folder.csv has no table; expected tables of one kind"):
        load("folder.csv")


def test_a_categorical_column_of_numbers_in_a_frame(written):
    data = load(written("c,y\n3,a\n1,b\n3,a\n1,b\n"), categorical=["c"])
    frame = pandas.DataFrame({"c": pandas.Categorical([3, 1, None, 2])})
    with pytest.warns(DataWarning, match=r"The frame: .*column 'c' in 2 of 4 rows \('2', empty cells\)"):
        rows = apply_preprocessing(frame, data.preprocessing)
    np.testing.assert_array_equal(rows, [[0, 1], [1, 0], [0, 0], [0, 0]])


@pytest.mark.parametrize(("module", "name"), [("pandas", "people.csv"), ("pyarrow", "people.parquet")])
def test_without_the_extra(written, monkeypatch, module, name):
    path = written(people(), name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=rf"{module}.*pip install fastmlp\[tables\]"):
        load(path)


def test_other_options_are_refused(written):
    with pytest.raises(DataError, match="dtype is 'float16'"):
        load(written(people()), dtype="float16")
    with pytest.raises(DataError, match="test_size is 2"):
        load(written(people()), test_size=2)
