"""Values absent from the training data: booleans in other spellings, warnings and errors."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from fastmlp._common.errors import DataError, DataWarning
from fastmlp.datasets import apply_preprocessing, load
from fastmlp.datasets.categories import find_categories, parse_bool
from fastmlp.datasets.evaluation import load_labeled

pandas = pytest.importorskip("pandas")

ROWS = 40
FLAG = np.arange(ROWS) % 3 == 0
TRUE = ("True", "TRUE", "true", "t", "T", "yes", "Yes", "Y", "on", "1", "1.0", " true ", "TRUE  ")
FALSE = ("False", "FALSE", "false", "f", "F", "no", "No", "N", "off", "0", "0.0", " false ", "FALSE  ")


def written_flag(folder, true, false, name="t.csv", **more):
    """A table whose first column is a flag in some spelling."""
    frame = pandas.DataFrame({"flag": np.where(FLAG, true, false), "x": np.arange(ROWS) / 2, **more})
    frame["label"] = np.where(np.arange(ROWS) % 2, "v", "u")
    frame.to_csv(folder / name, index=False)
    return folder / name


@pytest.mark.parametrize("spelling", [*zip(TRUE, FALSE, strict=True)], ids=TRUE)
@pytest.mark.parametrize(
    "trained", [("True", "False"), ("yes", "no"), ("Y", "N"), (" TRUE", "FALSE "), (1, 0)], ids=str
)
def test_booleans_in_every_spelling(tmp_path, trained, spelling):
    """Training and new rows spell them differently, in a file and in a frame; numbers 0 and 1 stand for them too."""
    path = written_flag(tmp_path, *trained)
    data = load(path, test=path)
    of_numbers = trained == (1, 0)
    ref = FLAG[:, None] if of_numbers else np.c_[~FLAG, FLAG]
    np.testing.assert_array_equal(data.X[:, : ref.shape[1]], ref)
    new = written_flag(tmp_path, *spelling, name="new.csv")
    frame = pandas.DataFrame({"x": np.arange(ROWS) / 2, "flag": np.where(FLAG, *spelling)})
    for rows in (new, frame, frame.assign(flag=FLAG), frame.assign(flag=FLAG.astype(int))):
        np.testing.assert_array_equal(apply_preprocessing(rows, data.preprocessing), data.X)


def test_what_spells_a_truth():
    for text in TRUE[:10]:
        assert parse_bool(text) is True
    for text in FALSE[:10]:
        assert parse_bool(text) is False
    for text in (None, "", "2", "maybe", "yes!", "None"):
        assert parse_bool(text) is None


@pytest.mark.parametrize(
    ("categories", "texts", "places"),
    [
        (["False", "True"], ["1", "no", "T", "2", None], [1, 0, 1, -1, -1]),
        (["True"], ["1", "0", "yes"], [0, -1, 0]),  # False was not seen
        (["0", "1"], ["TRUE", "1", "f"], [1, 1, 0]),
        (["n", "y"], ["No", "YES"], [0, 1]),
        (["F", "M"], ["f", "0", "F"], [-1, -1, 0]),  # no booleans
        (["F"], ["no"], [-1]),
        (["no", "yes", "maybe"], ["No", "yes"], [-1, 1]),
        (["f", "false"], ["no", "f"], [-1, 0]),  # one truth twice
    ],
)
def test_categories_by_their_truth(categories, texts, places):
    assert find_categories(texts, categories).tolist() == places


def test_labels_are_booleans_too(tmp_path):
    path = tmp_path / "t.csv"
    frame = pandas.DataFrame({"x": np.arange(ROWS) / 2, "y": FLAG})
    frame.to_csv(path, index=False)
    data = load(path)
    assert data.classes == ("False", "True")
    for spelling in zip(TRUE, FALSE, strict=True):
        frame.assign(y=np.where(FLAG, *spelling)).to_csv(path, index=False)
        y = load_labeled(path, classes=data.classes, preprocessing=data.preprocessing)[1]
        np.testing.assert_array_equal(y, FLAG)


def test_spaces_are_no_part_of_a_value(tmp_path):
    """In training and afterwards, in features and labels, in text files, Parquet, frames and arrays."""
    frame = pandas.DataFrame({"city": ["Oslo ", " Oslo", "Bergen", "Bergen  "] * 10, "y": ["u", "u ", " v", "v"] * 10})
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = load(tmp_path / "t.csv", test=tmp_path / "t.csv")
    assert data.feature_names == ("city=Bergen", "city=Oslo") and data.classes == ("u", "v")
    ref = np.array([[0, 1], [0, 1], [1, 0], [1, 0]] * 10)
    np.testing.assert_array_equal(data.X, ref)
    np.testing.assert_array_equal(apply_preprocessing(frame, data.preprocessing), ref)
    np.savez(tmp_path / "t.npz", X=np.arange(40.0)[:, None], y=np.array(frame["y"], dtype="U3"))
    assert load(tmp_path / "t.npz").classes == ("u", "v")
    pytest.importorskip("pyarrow")
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    assert load(tmp_path / "t.parquet").feature_names == data.feature_names


def test_a_cell_of_spaces_is_empty(tmp_path):
    frame = pandas.DataFrame({"city": ["   ", *["Oslo", "Bergen"] * 20], "y": ["u", *["u", "v"] * 20]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert load(tmp_path / "t.csv").feature_names[-1] == "city=<missing>"


def some_unknown(count, total, empty=0):
    cities = ["Rome"] * count + [None] * empty
    return pandas.DataFrame({"city": cities + ["Oslo"] * (total - len(cities)), "x": np.arange(total) / 2})


@pytest.fixture
def record(tmp_path):
    frame = pandas.DataFrame({"city": ["Oslo", "Bergen"] * 20, "x": np.arange(40) / 2, "y": ["u", "u", "v", "v"] * 10})
    frame.to_csv(tmp_path / "train.csv", index=False)
    return load(tmp_path / "train.csv").preprocessing


@pytest.mark.parametrize(
    ("count", "total", "empty", "words"),
    [
        (0, 20, 0, None),
        (1, 20, 0, r"'city' in 1 of 20 rows \('Rome'\)"),
        (17, 20, 0, r"'city' in 17 of 20 rows \('Rome'\)"),
        (0, 20, 3, r"'city' in 3 of 20 rows \(empty cells\)"),
        (0, 20, 20, r"'city' in 20 of 20 rows \(empty cells\)"),
        (2, 20, 3, r"'city' in 5 of 20 rows \('Rome', empty cells\)"),
        (1, 1, 0, r"'city' in 1 of 1 rows \('Rome'\)"),
        (9, 9, 0, r"'city' in 9 of 9 rows \('Rome'\)"),
    ],
)
def test_unknown_values_are_reported(tmp_path, record, count, total, empty, words):
    """Once for a table, with the column, its share and examples; their features are zeros."""
    frame = some_unknown(count, total, empty)
    frame.to_csv(tmp_path / "new.csv", index=False)
    for rows, source in ((frame, "The frame"), (tmp_path / "new.csv", "new.csv")):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            X = apply_preprocessing(rows, record)
        np.testing.assert_array_equal(X[:, :2].sum(axis=1), [0] * (count + empty) + [1] * (total - count - empty))
        assert len(caught) == (words is not None)
        for warning in caught:
            assert warning.category is DataWarning and warning.filename == __file__
            with pytest.raises(ValueError, match=f"{source}: .*{words}"):
                raise ValueError(str(warning.message))


@pytest.mark.parametrize(("count", "total", "empty"), [(10, 10, 0), (18, 20, 0), (10, 60, 50), (40, 40, 0)])
def test_columns_of_nearly_nothing_else_are_refused(tmp_path, record, count, total, empty):
    words = rf"column 'city' holds values that training did not see in {count} of {total} rows: 'Rome'; expected 'Berg"
    frame = some_unknown(count, total, empty)
    with pytest.raises(DataError, match=words):
        apply_preprocessing(frame, record)
    frame.assign(y="u").to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(DataError, match=rf"new\.csv: {words}"):
        load_labeled(tmp_path / "new.csv", classes=("u", "v"), preprocessing=record)
    with pytest.raises(DataError, match=rf"new\.csv: {words}"):
        load(tmp_path / "train.csv", test=tmp_path / "new.csv")


def test_a_long_list_is_cut(record):
    frame = pandas.DataFrame({"city": [f"c{i}" for i in range(30)] + ["Oslo"] * 70, "x": np.arange(100) / 2})
    with pytest.warns(DataWarning, match=r"in 30 of 100 rows \('c0', 'c1', 'c2', 'c3', 'c4' and 25 more\)"):
        apply_preprocessing(frame, record)


def test_rare_categories_of_a_split_are_reported_not_refused(tmp_path):
    """Nearly every value is another one: the test part has hardly any that training has seen."""
    frame = pandas.DataFrame({"name": [f"n{i}" for i in range(100)], "x": np.arange(100) / 2, "y": ["u", "v"] * 50})
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.warns(DataWarning, match="column 'name' in 20 of 20 rows"):
        data = load(tmp_path / "t.csv")
    assert not data.X_test[:, :-1].any()


@pytest.mark.parametrize("text", ["maybe", "2", "x"])
def test_text_is_no_number(tmp_path, text):
    data = load(written_flag(tmp_path, 1, 0))
    frame = pandas.DataFrame({"flag": [text, "yes"], "x": [1.0, 2.0]})
    with pytest.raises(DataError, match=f"column 'flag' holds '{text}', expected numbers as in training"):
        apply_preprocessing(frame, data.preprocessing)


def test_truth_is_no_number_where_training_had_others(tmp_path):
    data = load(written_flag(tmp_path, 1, 2))
    with pytest.raises(DataError, match="column 'flag' holds 'True', expected numbers"):
        apply_preprocessing(pandas.DataFrame({"flag": [True], "x": [1.0]}), data.preprocessing)
