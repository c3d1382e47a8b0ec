"""Tables for evaluation, which need less than tables for training."""

from __future__ import annotations

import numpy as np
import pytest
from checks import assert_matches

from fastmlp._common.errors import DataError
from fastmlp.datasets import apply_preprocessing, load
from fastmlp.datasets.evaluation import load_as_trained, load_labeled

pandas = pytest.importorskip("pandas")

RNG = np.random.default_rng(3)
FRAME = pandas.DataFrame(
    {"a": RNG.normal(size=60), "c": RNG.choice(["u", "v"], 60), "y": RNG.normal(size=60), "label": ["p", "q", "r"] * 20}
)


@pytest.fixture
def classified(tmp_path):
    FRAME.to_csv(tmp_path / "train.csv", index=False)
    return load(tmp_path / "train.csv", test=tmp_path / "train.csv")


@pytest.fixture
def regressed(tmp_path):
    FRAME.to_csv(tmp_path / "train.csv", index=False)
    return load(tmp_path / "train.csv", target="y", test=tmp_path / "train.csv")


def of(data):
    return {"classes": data.classes, "preprocessing": data.preprocessing}


@pytest.mark.parametrize("rows", [[0], [1, 4, 7], [2, 5], [0, 1], range(60)], ids=str)
@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_rows_of_few_classes(tmp_path, classified, rows, kind):
    """One class, one row, any part: the same features and indices as in training."""
    part, path = FRAME.iloc[list(rows)], tmp_path / f"part.{kind}"
    if kind == "parquet":
        pytest.importorskip("pyarrow")
        part.to_parquet(path, index=False)
    else:
        part.to_csv(path, index=False, sep="," if kind == "csv" else "\t")
    X, y = load_labeled(path, **of(classified))
    np.testing.assert_array_equal(X, classified.X[list(rows)])
    np.testing.assert_array_equal(y, classified.y[list(rows)])


@pytest.mark.parametrize("rows", [[0], [3, 3, 3], [1, 2]], ids=str)
def test_targets_of_few_numbers(tmp_path, regressed, rows):
    FRAME.iloc[rows].to_csv(tmp_path / "part.csv", index=False)
    X, y = load_labeled(tmp_path / "part.csv", **of(regressed))
    np.testing.assert_array_equal(X, regressed.X[rows])
    assert_matches(FRAME["y"].to_numpy()[rows], y)


@pytest.mark.parametrize("rows", [[0], [2, 5, 8], range(60)], ids=str)
def test_a_test_file_of_few_classes(tmp_path, rows):
    """`test=` is a file to evaluate on too."""
    FRAME.to_csv(tmp_path / "train.csv", index=False)
    FRAME.iloc[list(rows)].to_csv(tmp_path / "part.csv", index=False)
    data = load(tmp_path / "train.csv", test=tmp_path / "part.csv")
    assert len(data.y_test) == len(rows)
    data = load(tmp_path / "train.csv", test=tmp_path / "part.csv", target="y")
    assert_matches(FRAME["y"].to_numpy()[list(rows)], data.y_test)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"label": "s"},
            r"column 'label' has the label 's', which is none of the 3 classes of training \(so in 60 of 60",
        ),
        ({"label": [*"pqr" * 19, "p", "q", "s"]}, r"so in 1 of 60 rows\); expected 'p', 'q', 'r'"),
        ({"label": [None, *"pq" * 29, "p"]}, "'label' is the target and is missing in 1 of 60 rows"),
    ],
)
def test_labels_that_are_none(tmp_path, classified, change, words):
    FRAME.assign(**change).to_csv(tmp_path / "part.csv", index=False)
    with pytest.raises(DataError, match=words):
        load_labeled(tmp_path / "part.csv", **of(classified))


def test_a_file_without_rows(tmp_path, classified):
    FRAME[:0].to_csv(tmp_path / "part.csv", index=False)
    with pytest.raises(DataError, match="has no rows"):
        load_labeled(tmp_path / "part.csv", **of(classified))


@pytest.mark.parametrize("value", ["x", np.inf])
def test_targets_that_are_no_numbers(tmp_path, regressed, value):
    frame = FRAME.astype({"y": object})
    frame.loc[3, "y"] = value
    frame.to_csv(tmp_path / "part.csv", index=False)
    with pytest.raises(DataError, match="the target of regression must be numbers|holds an infinity"):
        load_labeled(tmp_path / "part.csv", **of(regressed))


def test_labels_that_look_like_numbers(tmp_path):
    """Texts because of one of them: the others stay texts in a file without that one."""
    frame = pandas.DataFrame({"x": RNG.normal(size=30), "label": ["01", "1", "x"] * 10})
    frame.to_csv(tmp_path / "train.csv", index=False)
    data = load(tmp_path / "train.csv")
    assert data.classes == ("01", "1", "x")
    frame[frame["label"] != "x"].to_csv(tmp_path / "part.csv", index=False)
    assert load_labeled(tmp_path / "part.csv", **of(data))[1].tolist() == [0, 1] * 10
    assert load(tmp_path / "train.csv", test=tmp_path / "part.csv").y_test.tolist() == [0, 1] * 10
    numbers = tuple(map(str, (-1, 0, 2.5, 1e-07)))
    pandas.DataFrame({"x": [1.0] * 4, "label": [2.5, 0, -1, 1e-7]}).to_csv(tmp_path / "part.csv", index=False)
    record = {**data.preprocessing, "columns": data.preprocessing["columns"][:1]}
    assert load_labeled(tmp_path / "part.csv", classes=numbers, preprocessing=record)[1].tolist() == [2, 1, 0, 3]


def test_the_target_by_its_position(tmp_path):
    """A file whose header is not as in training has the target where training had it."""
    FRAME.to_csv(tmp_path / "train.csv", index=False)
    data = load(tmp_path / "train.csv", target="c", test=tmp_path / "train.csv")
    FRAME.to_csv(tmp_path / "bare.csv", index=False, header=False)
    X, y = load_labeled(tmp_path / "bare.csv", header=False, **of(data))
    np.testing.assert_array_equal(X, data.X)
    np.testing.assert_array_equal(y, data.y)
    with pytest.raises(DataError, match=r"no column 'c' \(target\); .*; header=False reads its first line as a row"):
        load_labeled(tmp_path / "bare.csv", **of(data))
    bare = load(tmp_path / "bare.csv", header=False, target=1, test=tmp_path / "bare.csv")
    X, y = load_labeled(tmp_path / "train.csv", header=True, **of(bare))
    np.testing.assert_array_equal(X, bare.X)
    np.testing.assert_array_equal(y, bare.y)


@pytest.mark.parametrize("options", [{}, {"test_size": 0.5}, {"target": "y"}, {"target": "c"}], ids=str)
def test_a_training_file_read_again(tmp_path, options):
    FRAME.to_csv(tmp_path / "train.csv", index=False)
    data = load(tmp_path / "train.csv", center_target=True, **options)
    again = load_as_trained(tmp_path / "train.csv", **of(data), **options)
    for ref, comp in zip(data, again, strict=True):
        np.testing.assert_array_equal(ref, comp)
    # Shrunk to rows of one class, with a category less, it is still encoded as it was.
    FRAME[(FRAME["label"] == "p") & (FRAME["c"] == "u")].to_csv(tmp_path / "train.csv", index=False)
    again = load_as_trained(tmp_path / "train.csv", **of(data), **options)
    assert again.X.shape[1] == data.X.shape[1]


def test_without_a_record(tmp_path):
    """Of a model that was saved without one: numbers beside the target, and no others."""
    frame = FRAME[["a", "y", "label"]]
    frame.to_csv(tmp_path / "t.csv", index=False)
    X, y = load_labeled(tmp_path / "t.csv", classes=("p", "q", "r"), preprocessing=None)
    assert_matches(frame[["a", "y"]].to_numpy(), X)
    assert y.tolist() == [0, 1, 2] * 20
    for change, words in (({"a": [None] + [1.0] * 59}, "an empty cell"), ({"a": ["x"] * 60}, "'x'")):
        frame.assign(**change).to_csv(tmp_path / "t.csv", index=False)
        with pytest.raises(
            DataError, match=f"column 'a' holds {words}; expected numbers, since the model has no record"
        ):
            load_labeled(tmp_path / "t.csv", classes=("p", "q", "r"), preprocessing=None)
    np.savez(tmp_path / "t.npz", X=np.arange(6, dtype=np.uint8)[:, None], y=[2, 2, 2, 2, 2, 2])
    X, y = load_labeled(tmp_path / "t.npz", classes=("0", "1", "2"), preprocessing=None)
    assert X.dtype == np.uint8 and y.tolist() == [2] * 6


def test_a_text_table_for_a_model_of_arrays(tmp_path):
    """By position, whether its first line is names or not; the last column is the target."""
    X = FRAME[["a", "y"]].to_numpy()
    np.savez(tmp_path / "t.npz", X=X, y=np.arange(60) % 3)
    data = load(tmp_path / "t.npz")
    ref = load_labeled(tmp_path / "t.npz", **of(data))
    frame = FRAME[["a", "y"]].assign(k=np.arange(60) % 3)
    for header in (True, False):
        frame.to_csv(tmp_path / "t.csv", index=False, header=header)
        comp = load_labeled(tmp_path / "t.csv", **of(data))
        np.testing.assert_array_equal(comp[0], ref[0])
        np.testing.assert_array_equal(comp[1], ref[1])
        bare = frame[["a", "y"]]
        bare.to_csv(tmp_path / "t.csv", index=False, header=header)
        np.testing.assert_array_equal(apply_preprocessing(tmp_path / "t.csv", data.preprocessing), ref[0])


def test_a_matrix_with_its_target(tmp_path):
    matrix = np.c_[RNG.normal(size=(20, 2)), np.arange(20) % 2]
    np.save(tmp_path / "t.npy", matrix)
    X, y = load_labeled(tmp_path / "t.npy", classes=("0", "1"), preprocessing=None, target="-1")
    np.testing.assert_array_equal(X, matrix[:, :2])
    assert y.tolist() == [0, 1] * 10


def test_the_test_part_of_an_archive(tmp_path):
    X = RNG.normal(size=(20, 2))
    np.savez(tmp_path / "t.npz", X=X, y=np.arange(20) % 2, X_test=X[:3], y_test=[1, 1, 1])
    data = load(tmp_path / "t.npz")
    X_test, y_test = load_labeled(tmp_path / "t.npz", **of(data))
    np.testing.assert_array_equal(X_test, data.X_test)
    assert y_test.tolist() == [1, 1, 1]
