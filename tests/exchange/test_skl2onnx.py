"""skl2onnx: labels, probabilities and regressions equal those of the estimators."""

from __future__ import annotations

import numpy as np
import pytest

import fastmlp as fm

skl2onnx = pytest.importorskip("skl2onnx")
runtime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore")  # of fits that are too short, and of skl2onnx's own

X = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
UP = (X[:, 0] > 0).astype(int)
TARGETS = {
    "one class": np.zeros(30, int),
    "one text": np.array(["only"] * 30),
    "one class as a column": np.full((30, 1), 7),
    "binary": UP + 3,
    "negative": UP - 1,
    "bools": UP.astype(bool),
    "whole floats": UP * 2.0,
    "texts": np.array(["no", "yes"])[UP],
    "objects": np.array(["nö", "yes"], object)[UP],
    "three": np.arange(30) % 3,
    "three texts": np.array(["a", "b", "c"])[np.arange(30) % 3],
    "labels": (X > 0).astype(int),
    "a label that never comes": (X > [0, 9, 0]).astype(int),
    "labels that always come": np.ones((30, 2), int),
    "one label": (X[:, :1] > 0).astype(int),
}


@pytest.fixture(autouse=True)
def registered():
    fm.register_skl2onnx()


def converted(net, x=X, **options):
    """(declared shapes, outputs by name) of the graph of an estimator."""
    graph = skl2onnx.to_onnx(net, x[:1], options={id(net): options} if options else None)
    session = runtime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    shapes = {output.name: output.shape for output in session.get_outputs()}
    return shapes, dict(zip(shapes, session.run(None, {"X": x}), strict=True))


@pytest.mark.parametrize("nocl", [False, True])
@pytest.mark.parametrize("name", TARGETS)
def test_labels_and_probabilities(name, nocl):
    net = fm.MLPClassifier((4,), max_iter=3, random_state=0).fit(X, TARGETS[name])
    ref, shares = net.predict(X), net.predict_proba(X)
    shapes, found = converted(net, zipmap=False, nocl=nocl)
    if nocl and ref.ndim == 1:
        ref = np.searchsorted(net.classes_, ref)
    np.testing.assert_array_equal(found["label"], ref)
    assert found["label"].dtype == (object if ref.dtype.kind in "OU" else np.int64)
    np.testing.assert_allclose(found["probabilities"], shares, 1e-5, 1e-6)
    for output, shape in shapes.items():  # as declared: ONNX Runtime only warns where they differ
        assert shape[1:] == list(found[output].shape[1:])


@pytest.mark.parametrize("name", ["binary", "texts", "three", "labels"])
def test_zipmaps(name):
    net = fm.MLPClassifier((4,), max_iter=3, random_state=0).fit(X, TARGETS[name])
    ref = net.predict_proba(X)
    _, found = converted(net, zipmap=True)
    rows = [list(row.values()) for row in found["output_probability"]]
    np.testing.assert_allclose(rows, ref, 1e-5, 1e-6)
    assert list(found["output_probability"][0]) == net.classes_.tolist()
    np.testing.assert_array_equal(found["output_label"], net.predict(X))


def test_what_a_graph_cannot_have():
    net = fm.MLPClassifier((4,), max_iter=1, random_state=0)
    with pytest.raises(ValueError, match="two for the one class 'only'; convert with options=.*'zipmap': F"):
        skl2onnx.to_onnx(net.fit(X, TARGETS["one text"]), X[:1])
    with pytest.raises(ValueError, match=r"The classes are \[9223372036854775808, 9.*; expected strings or numbers"):
        converted(net.fit(X, UP.astype(np.uint64) + 2**63), zipmap=False)


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("outputs", [None, 1, 2])
@pytest.mark.parametrize("declared", [np.float32, np.float64, np.int64])
def test_regressions(outputs, loss, declared):
    y = np.abs(X[:, 0] if outputs is None else X[:, :outputs])
    net = fm.MLPRegressor(loss, (4,), max_iter=3, random_state=0).fit(X, y)
    x = X.astype(declared)
    shapes, found = converted(net, x)
    assert shapes["variable"][1] == found["variable"].shape[1] == (outputs or 1)
    assert found["variable"].dtype == (np.float64 if declared == np.float64 else np.float32)
    np.testing.assert_allclose(found["variable"], net.predict(x).reshape(30, -1), 1e-5, 1e-6)
