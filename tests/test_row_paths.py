"""Paths instead of arrays: folders of arrays, and packed folders."""

from __future__ import annotations

import os

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.datasets import pack_cache

ROWS = 240


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTMLP_DATA", str(tmp_path / "cache"))
    X = rng.normal(size=(ROWS, 4)).astype(np.float32)
    y = (X[:, 0] > 0) + (X[:, 1] > 0).astype(np.int64)
    np.save("n_X.npy", X), np.save("n_y.npy", y)
    for name in ("pairs", "rows", "labels"):
        os.mkdir(name)
    for number, part in enumerate((slice(0, 100), slice(100, 101), slice(101, ROWS))):
        np.save(f"pairs/{number}_X.npy", X[part]), np.save(f"pairs/{number}_y.npy", y[part])
        np.save(f"rows/{number}.npy", X[part]), np.save(f"labels/{number}.npy", y[part])
    return X, y


def trainer():
    return fm.Trainer(fm.MLP(4, [5], 3, rng=0), fm.CrossEntropyLoss(), fm.Adam(0.01))


def results(X, y, X_test, y_test, validation):
    """Return the losses of a fit, and the results of the evaluation."""
    one = trainer()
    one.fit(X, y, validation=validation, epochs=2, rng=0)
    return (
        [record["val_loss"] for record in one.history.records],
        list(one.evaluate(X_test, y_test).values()),
        one.predict(X_test).tolist(),
        one.predict_proba(X_test).tolist(),
    )


def test_folders_of_arrays(folder):
    X, y = folder
    ref = results(X, y, X, y, (X, y))
    with pytest.warns(fm.DataWarning, match="is packed into .*npy, which is mapped from now on") as caught:
        comp = results("rows", "labels", "rows", "labels", ("rows", "labels"))
    assert len(caught) == 2  # the rows and the labels, once each
    assert comp == ref and results("rows", y, "rows", y, (X, "labels")) == ref
    with pytest.warns(fm.DataWarning):
        assert results("pairs", None, "pairs", None, "pairs") == ref
    assert sorted(path.suffix for path in pack_cache.cache_folder().iterdir()) == [".npy"] * 4


def test_a_change_of_a_shard(folder):
    X, y = folder
    with pytest.warns(fm.DataWarning):
        pack_cache.load_joined(pack_cache.Path("rows"))
    np.save("rows/3.npy", X[:3])
    with pytest.warns(fm.DataWarning):
        comp, targets = pack_cache.load_joined(pack_cache.Path("rows"))
    np.testing.assert_array_equal(comp, np.concatenate([X, X[:3]]))
    assert targets is None and len(os.listdir(pack_cache.cache_folder())) == 1


def test_a_packed_folder(folder):
    fm.datasets.pack("n_X.npy", "packed")
    X, y, X_test, y_test = fm.load("packed")
    ref = results(X, y, X_test, y_test, (X_test, y_test))
    assert results("packed", None, "packed", None, "packed") == ref


def test_estimators(folder):
    pytest.importorskip("sklearn")
    fm.datasets.pack("n_X.npy", "packed")
    X, y, X_test, y_test = fm.load("packed")

    def net():
        return fm.MLPClassifier((5,), max_iter=3, early_stopping=True, random_state=0)

    with pytest.warns(UserWarning, match="Maximum iterations"):
        ref = net().fit(X, y, X_val=X_test, y_val=y_test)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        comp = net().fit("packed", X_val="packed")
    np.testing.assert_array_equal(ref.predict_proba(X_test), comp.predict_proba("packed"))
    with pytest.raises(ValueError, match="y"):
        net().fit(X)
    with pytest.raises(fm.DataError, match="fit: y is None, and 'n_X.npy' has no targets"):
        net().fit("n_X.npy")


@pytest.mark.filterwarnings("ignore::fastmlp._common.errors.DataWarning")
def test_mistakes(folder, rng):
    X, y = folder
    fm.datasets.pack("n_X.npy", "packed")
    one = trainer()
    for call, expected in (
        (lambda: one.fit("packed", y), "fit: 'packed' has targets; expected y=None, which takes these"),
        (lambda: one.fit("n_X.npy"), "fit: y is None, and 'n_X.npy' has no targets; expected an array, or a path"),
        (lambda: one.evaluate("labels"), "evaluate: y is None, and 'labels' has no targets"),
        (lambda: one.fit("gone", y), "fit: X is the path 'gone'; expected an array, or the path of a .npy file, of a"),
        (lambda: one.fit(X, y, validation="n_X.npy"), "validation: y is None, and 'n_X.npy' has no targets"),
    ):
        with pytest.raises(fm.DataError, match=expected):
            call()
    for call in (lambda: one.fit(X), lambda: one.evaluate(X)):
        with pytest.raises(ValueError, match=": y is None; expected targets, unless X is the path of a folder"):
            call()


def test_folders_that_do_not_fit(folder, rng):
    X, y = folder
    one = trainer()
    np.save("rows/1.npy", X[:, :3])
    with pytest.raises(
        fm.DataError, match=r"1.npy has shape \(240, 3\) and dtype float32; expected \(N, 4\) and float32"
    ):
        one.fit("rows", y)
    np.save("rows/1.npy", X.astype(np.float64))
    with pytest.raises(
        fm.DataError, match=r"1.npy has shape .* dtype float64; expected \(N, 4\) and float32 as in rows"
    ):
        one.fit("rows", y)
    np.save("rows/1.npy", X[100:101])
    with pytest.warns(fm.DataWarning), pytest.raises(ValueError, match=r"targets of shape \(240,\) .*, got \(9,\)"):
        one.fit("rows", y[:9])
    np.save("pairs/1_y.npy", y[:7])
    with pytest.raises(fm.DataError, match=r"pairs has 246 targets .* expected 240, one"):
        one.fit("pairs")
    os.unlink("pairs/1_y.npy")
    with pytest.raises(fm.DataError, match="1_y.npy cannot be read: No such file"):
        one.fit("pairs")
    os.rename("pairs/1_X.npy", "pairs/1.npy")
    with pytest.raises(fm.DataError, match="1.npy has no targets beside it; expected a name such as 1_X.npy"):
        one.fit("pairs")
    os.mkdir("texts")
    with pytest.raises(fm.DataError, match="texts has no table; expected tables of one kind"):
        one.fit("texts", y)
    for name in "ab":
        with open(f"texts/{name}.csv", "w", encoding="utf-8") as stream:
            stream.write("a,b\n1,2\n")
    with pytest.raises(
        fm.DataError, match="texts has .csv tables; expected .npy files. fastmlp.load reads such folders"
    ):
        one.fit("texts", y)
