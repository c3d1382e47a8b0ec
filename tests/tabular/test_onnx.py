"""ONNX files of the estimators for tables, run by ONNX Runtime."""

import numpy as np
import pandas as pd
import pytest
from checks import assert_matches

import fastmlp as fm

from .test_asked import FAST, labels, made, table

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def feeds(encoder, X):
    found = {}
    for name, encoding in zip(encoder.column_names(), encoder.encodings_):
        column = X[name]
        if encoding.kind == "number":
            found[str(name)] = column.to_numpy(np.float64).reshape(-1, 1)
        else:
            texts = ["" if pd.isna(value) else str(value).strip() for value in column.tolist()]
            found[str(name)] = np.array(texts, object).reshape(-1, 1)
    return found


def run(model, X, path):
    model.export_onnx(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, feeds(model.encoder_, X))


@pytest.mark.parametrize("encoder", [None, fm.ColumnEncoder(bins=4), fm.ColumnEncoder(bins=0, min_frequency=30)])
@pytest.mark.parametrize("calibrate", [False, True])
def test_classifier(encoder, calibrate, tmp_path):
    X, value = table()
    model = fm.TabularClassifier(**FAST, encoder=encoder, calibrate=calibrate).fit(X, labels(value))
    new = pd.concat([X, table(50, 5)[0].assign(town="new", pair=None, color="violet")], ignore_index=True)
    found = run(model, new, tmp_path / "model.onnx")
    assert_matches(model.predict_proba(new), found[1], 1e-5)
    assert found[0].tolist() == model.predict(new).tolist()


def test_labels_are_numbers(tmp_path):
    X, value = table()
    model = fm.TabularClassifier(**FAST).fit(X, (value > 0).astype(int) * 7)
    found = run(model, X, tmp_path / "model.onnx")
    assert found[0].dtype == np.int64 and np.array_equal(found[0], model.predict(X))


@pytest.mark.parametrize("outputs", [1, 2])
def test_regressor(outputs, tmp_path):
    X, value = table()
    y = value * 100 + 5 if outputs == 1 else np.stack([value, -3 * value], axis=1)
    model = fm.TabularRegressor(**FAST).fit(X, y)
    (found,) = run(model, X, tmp_path / "model.onnx")
    ref = model.predict(X).reshape(len(X), -1)
    assert_matches(ref, found, 1e-6 * np.abs(ref).max())


def test_columns_of_one_kind(tmp_path):
    rng = np.random.default_rng(0)
    towns = pd.DataFrame({"town": rng.choice([f"t{n}" for n in range(20)], 200)})
    numbers = pd.DataFrame({"x": rng.normal(size=200).round(1), "constant": 1.0})
    for X in (towns, numbers, pd.DataFrame({"constant": np.ones(200)})):
        model = fm.TabularClassifier(**FAST).fit(X, rng.choice(["a", "b"], 200))
        assert_matches(model.predict_proba(X), run(model, X, tmp_path / "model.onnx")[1], 1e-5)


def test_errors(tmp_path):
    X, value = table()
    dated = X.assign(day=pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(len(X)), unit="D"))
    model = fm.TabularClassifier(**FAST).fit(dated, labels(value))
    with pytest.raises(ValueError, match="Column 'day' holds dates"):
        model.export_onnx(tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
    with pytest.raises(ValueError, match="not fitted"):
        fm.TabularRegressor().export_onnx(tmp_path / "model.onnx")
    model, _, _ = made("classifier")
    with pytest.raises(OSError):
        model.export_onnx(tmp_path / "no" / "model.onnx")
