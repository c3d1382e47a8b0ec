"""Features of the estimators beyond scikit-learn's, and their use with scikit-learn's tools."""

import copy
import io
import pickle
import warnings
from functools import partial

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import QuantileRegressor
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils._param_validation import InvalidParameterError

import fastmlp as fm
from fastmlp import MLPClassifier, MLPRegressor
from fastmlp._common import mapped
from fastmlp.estimators import base as estimators
from fastmlp.estimators.network import ACTIVATIONS
from fastmlp.modules.activations import activation_types
from fastmlp.training import row_order

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16, np.array(list("abcdefghij"))[y]


def small(**options):
    defaults = {"hidden_layer_sizes": (16,), "max_iter": 5, "random_state": 0, "learning_rate_init": 0.01}
    return MLPClassifier(**{**defaults, **options})


COPIES = {
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "deepcopy": copy.deepcopy,
    "joblib": lambda net: joblib.load(_dumped(net)),
}


def _dumped(net):
    stream = io.BytesIO()
    joblib.dump(net, stream)
    stream.seek(0)
    return stream


@pytest.mark.parametrize("how", COPIES)
def test_copies(how, digits):
    X, y = digits
    net = small(layer_norm=True, dropout=0.1).fit(X, y)
    comp = COPIES[how](net)
    np.testing.assert_array_equal(comp.predict_proba(X), net.predict_proba(X))
    for one in (net, comp):  # both go on in the same way
        one.partial_fit(X, y)
    assert comp.n_iter_ == 1
    comp.coefs_[0][:] = 0
    assert not np.array_equal(comp.predict_proba(X), net.predict_proba(X))


@pytest.mark.slow
def test_skops(digits, tmp_path):
    skops = pytest.importorskip("skops.io")
    X, y = digits
    net = small().fit(X, y)
    data = skops.dumps(net)
    kinds = skops.get_untrusted_types(data=data)
    assert all(kind.startswith(("fastmlp.", "numpy.")) for kind in kinds), kinds
    np.testing.assert_array_equal(skops.loads(data, trusted=kinds).predict_proba(X), net.predict_proba(X))


def test_weights_can_be_set(digits):
    X, y = digits
    net, other = small().fit(X, y), small(random_state=1).fit(X, y)
    assert not np.array_equal(net.predict_proba(X), other.predict_proba(X))
    net.coefs_, net.intercepts_ = other.coefs_, [np.array(b) for b in other.intercepts_]
    np.testing.assert_array_equal(net.predict_proba(X), other.predict_proba(X))
    net.coefs_[1] = np.zeros_like(net.coefs_[1])
    net.intercepts_[1][:] = 0
    np.testing.assert_allclose(net.predict_proba(X), 0.1)


def test_compiled_predict(digits):
    X, y = digits
    labels = (X[:, 10:13] > 0.5).astype(int)
    for net, target in (
        (small(), y),
        (small(), y > "d"),
        (small(), labels),
        (MLPRegressor(hidden_layer_sizes=(8,), max_iter=3), X[:, 0]),
        (MLPRegressor("poisson", (8,), max_iter=3), X[:, :2]),
    ):
        for rows in (X, X.astype(np.float32)):
            predict = net.fit(rows, target).compiled_predict()
            for some in (rows, rows[:1]):
                comp, ref = predict(some), net.predict(some)
                assert comp.shape == ref.shape and comp.dtype == ref.dtype
                if ref.dtype.kind == "f":
                    np.testing.assert_allclose(comp, ref, 1e-5, 1e-5)
                else:
                    np.testing.assert_array_equal(comp, ref)
    with pytest.raises(NotFittedError):
        small().compiled_predict()


def test_class_weight(digits):
    X, y = digits
    keep = (y == "a") | ((y == "b") & (np.arange(len(y)) % 10 == 0))
    X, y = X[keep], y[keep]
    weight = np.where(y == "a", 1.0, 30.0)
    ref = small(shuffle=False).fit(X, y, sample_weight=weight)
    comp = small(shuffle=False, class_weight={"a": 1.0, "b": 30.0}).fit(X, y)
    for a, b in zip(ref.coefs_, comp.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
    balanced = len(y) / 2 / np.where(y == "a", (y == "a").sum(), (y == "b").sum())
    ref, comp = small().fit(X, y, balanced), small(class_weight="balanced").fit(X, y)
    np.testing.assert_allclose(ref.predict_proba(X), comp.predict_proba(X))


@pytest.mark.slow
@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "identity"])
def test_activations(activation, digits):
    assert small(activation=activation, max_iter=30).fit(*digits).score(*digits) > 0.9


@pytest.mark.slow
def test_regression_losses():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    y = X @ [1.0, -2.0, 0.5] + rng.standard_t(2, 400)
    options = {"solver": "lbfgs", "hidden_layer_sizes": (), "alpha": 0.0, "max_iter": 500, "tol": 1e-9}
    for loss in ("absolute_error", "huber", "log_cosh"):
        net = MLPRegressor(loss, **options).fit(X, y)
        np.testing.assert_allclose(net.coefs_[0][:, 0], [1.0, -2.0, 0.5], atol=0.3)
    adam = {"hidden_layer_sizes": (), "alpha": 0.0, "max_iter": 400, "learning_rate_init": 0.02, "random_state": 0}
    for level in (0.1, 0.9):
        net = MLPRegressor("quantile", quantile=level, **adam).fit(X, y)
        ref = QuantileRegressor(quantile=level, alpha=0).fit(X, y)
        assert abs((y < net.predict(X)).mean() - (y < ref.predict(X)).mean()) < 0.03


def test_validation_rows(digits):
    X, y = digits
    net = small(max_iter=10).fit(X[:1000], y[:1000], X_val=X[1000:], y_val=y[1000:])
    assert len(net.validation_loss_curve_) == len(net.loss_curve_) == 10 and net.validation_scores_ is None
    assert net.validation_loss_curve_[-1] < net.validation_loss_curve_[0]
    stopped = small(max_iter=400, early_stopping=True, n_iter_no_change=3, scoring="loss")
    stopped.fit(X[:1000], y[:1000], X_val=X[1000:], y_val=y[1000:])
    scores = stopped.validation_scores_
    assert stopped.n_iter_ < 400 and stopped.best_validation_score_ == max(scores)
    assert scores == [-loss for loss in stopped.validation_loss_curve_]
    # the best weights are there again
    proba = stopped.predict_proba(X[1000:])
    loss = -np.log(proba[np.arange(len(proba)), np.searchsorted(stopped.classes_, y[1000:])]).mean()
    assert loss == pytest.approx(-max(scores))
    with pytest.raises(ValueError, match="fit got one of X_val and y_val"):
        small().fit(X, y, X_val=X)


@pytest.mark.parametrize("scoring", ["f1_macro", lambda net, X, y: float((net.predict(X) == y).mean())])
def test_scorers(scoring, digits):
    pandas = pytest.importorskip("pandas")
    X, y = digits
    frame = pandas.DataFrame(X, columns=[f"p{i}" for i in range(64)])
    net = small(max_iter=30, early_stopping=True, scoring=scoring).fit(frame, y)
    assert 0.5 < net.best_validation_score_ <= 1 and list(net.feature_names_in_) == list(frame.columns)


def test_frames(digits):
    X, y = digits
    ref = small().fit(X, y).predict(X)
    for library in ("pandas", "polars"):
        module = pytest.importorskip(library)
        frame = module.DataFrame({f"p{i}": X[:, i] for i in range(64)})
        net = small().fit(frame, y)
        np.testing.assert_array_equal(net.predict(frame), ref)
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            net.predict(X)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse_rows_are_dense_ones(solver, digits):
    from scipy import sparse

    X, y = digits
    ref = small(solver=solver).fit(X, y)
    for convert in (sparse.csr_matrix, sparse.csc_array):
        comp = small(solver=solver).fit(convert(X), y)
        np.testing.assert_allclose(comp.predict_proba(convert(X)), ref.predict_proba(X), 1e-6, 1e-9)


def test_callbacks_threads_and_backends(digits):
    X, y = digits
    seen = []
    ref = small(callbacks=[lambda trainer, record: seen.append(record["epoch"])], threads=1).fit(X, y)
    assert seen == [1.0, 2.0, 3.0, 4.0, 5.0]
    comp = small(threads=2).fit(X, y)
    assert all((a == b).all() for a, b in zip(ref.coefs_, comp.coefs_, strict=True))
    plain = small(backend="numpy").fit(X, y)
    np.testing.assert_allclose(plain.predict_proba(X), ref.predict_proba(X), 1e-6, 1e-9)


@pytest.mark.slow
def test_augment(digits):
    X, y = digits
    given = [fm.HorizontalFlip((8, 8)), fm.Mixup(0.3), fm.GaussianNoise(0.1)]
    for target in (y, y > "d", (X[:, 10:13] > 0.5).astype(int)):
        made = [small(augment=given, max_iter=20, shuffle=False).fit(X, target) for _ in range(2)]
        assert all((a == b).all() for a, b in zip(made[0].coefs_, made[1].coefs_, strict=True))
        assert made[0].score(X, target) > 0.6
        assert (made[0].coefs_[0] != small(max_iter=20, shuffle=False).fit(X, target).coefs_[0]).any()
    net = MLPRegressor(hidden_layer_sizes=(16,), augment=given, max_iter=20).fit(X, X[:, 20])
    assert clone(net).get_params()["augment"] is not None
    with pytest.raises(ValueError, match="augment is for the solvers sgd and adam, not for lbfgs"):
        small(solver="lbfgs", augment=given).fit(X, y)
    with pytest.raises(ValueError, match="dropout is for the solvers sgd and adam, not for lbfgs"):
        small(solver="lbfgs", dropout=0.1).fit(X, y)
    with pytest.raises(ValueError, match="augment holds 'flip'"):
        small(augment=["flip"]).fit(X, y)


def test_progress_bar(digits, capsys):
    small(progress_bar=True, max_iter=3).fit(*digits, X_val=digits[0], y_val=digits[1])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and lines[-1].startswith("27/27  epoch 3  loss ") and "  val_acc " in lines[-1]


def test_same_seed_same_bits(digits):
    X, y = digits
    made = [small(dropout=0.2).fit(X, y) for _ in range(2)]
    assert all((a == b).all() for a, b in zip(made[0].coefs_, made[1].coefs_, strict=True))


def test_metadata_routing(digits):
    X, y = digits
    weight = np.where(y > "d", 5.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        net = small().set_fit_request(sample_weight=True, X_val=True, y_val=True).set_score_request(sample_weight=True)
        routed = make_pipeline(MinMaxScaler(), net).fit(X, y, sample_weight=weight, X_val=X, y_val=y)
        search = GridSearchCV(
            small().set_fit_request(sample_weight=True).set_score_request(sample_weight=False), {"alpha": [1e-4]}, cv=3
        ).fit(X, y, sample_weight=weight)
        with pytest.raises(ValueError, match=r"\[sample_weight\] are passed but are not explicitly set as requested"):
            GridSearchCV(small(), {"alpha": [1e-4]}, cv=3).fit(X, y, sample_weight=weight)
        partial = small().set_partial_fit_request(sample_weight=True)
        assert partial.get_metadata_routing().partial_fit.requests["sample_weight"] is True
    scaled = MinMaxScaler().fit_transform(X)
    ref = small().fit(scaled, y, sample_weight=weight, X_val=X, y_val=y)
    assert routed[-1].validation_loss_curve_ == ref.validation_loss_curve_
    assert all((a == b).all() for a, b in zip(routed[-1].coefs_, ref.coefs_, strict=True))
    ref = small().fit(X, y, sample_weight=weight)
    assert all((a == b).all() for a, b in zip(search.best_estimator_.coefs_, ref.coefs_, strict=True))


@pytest.mark.slow
def test_pipeline_and_grid_search(digits):
    X, y = digits
    pipeline = make_pipeline(StandardScaler(), small(max_iter=40)).set_output(transform="default")
    grid = {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__dropout": [0.0, 0.3]}
    found = {}
    for backend in ("loky", "threading"):
        with joblib.parallel_config(backend=backend), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[backend] = GridSearchCV(pipeline, grid, n_jobs=2, cv=3).fit(X[:600], y[:600])
    scores = [search.cv_results_["mean_test_score"] for search in found.values()]
    np.testing.assert_array_equal(*scores)
    assert found["loky"].best_score_ > 0.8
    assert clone(pipeline)[-1].get_params() == small(max_iter=40).get_params()


def test_cross_validation_in_threads(digits):
    X, y = digits
    net = small(max_iter=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ref = cross_validate(net, X[:300], y[:300], cv=3, return_train_score=True)
        with joblib.parallel_config(backend="threading", n_jobs=2):
            comp = cross_validate(net, X[:300], y[:300], cv=3, return_train_score=True)
    for name in ("test_score", "train_score"):
        np.testing.assert_array_equal(ref[name], comp[name])


def test_joblib_threads_share(digits):
    X, y = digits

    big = small(hidden_layer_sizes=(512,), batch_size=500, max_iter=1)
    alone = big.fit(X, y)._trainer.threads

    def big_threads(_):
        return small(hidden_layer_sizes=(512,), batch_size=500, max_iter=1).fit(X, y)._trainer.threads

    beside = joblib.Parallel(n_jobs=2, backend="threading")(joblib.delayed(big_threads)(i) for i in range(2))
    assert beside == [1, 1] and alone >= 1


def test_without_convergence_and_by_ctrl_c(digits):
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
        small(max_iter=2).fit(*digits)

    def stop(trainer, record):
        raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="Training interrupted by user"):
        net = small(callbacks=[stop]).fit(*digits)
    assert net.n_iter_ == 1 and net.predict(digits[0]).shape == digits[1].shape


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize(
    "options",
    [{"callbacks": 3}, {"callbacks": ["x"]}, {"callbacks": fm.EarlyStopping}, {"callbacks": iter([])}]
    + [{"augment": iter([fm.Mixup()])}, {"augment": 5}],
)
def test_callbacks_and_augmentations_that_are_none(options, solver, digits):
    (name,) = options
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of MLPClassifier: {name} "):
        small(solver=solver, **options).fit(*digits)


def test_one_callback_and_one_augmentation_need_no_list(digits):
    seen = []
    small(callbacks=lambda trainer, record: seen.append(record["step"]), augment=fm.Mixup()).fit(*digits)
    assert len(seen) == 5


def test_warm_start_with_another_shape(digits):
    net = small(warm_start=True).fit(*digits)
    with pytest.raises(ValueError, match=r"has hidden layers \[16\] and 10 outputs; expected \[8\] and 10"):
        net.set_params(hidden_layer_sizes=(8,)).fit(*digits)


BY_ITSELF = {
    f"{name} by itself": (partial(MLPClassifier, (12,), name, max_iter=5), lambda X, y: y) for name in ACTIVATIONS
}
ONNX = {
    "classes": (lambda: MLPClassifier((12,), max_iter=5), lambda X, y: y),
    "two": (lambda: MLPClassifier((12,), "tanh", max_iter=5), lambda X, y: (y > "d").astype(int)),
    "labels": (lambda: MLPClassifier((12,), "elu", max_iter=5), lambda X, y: (X[:, 10:13] > 0.5).astype(int)),
    "number": (lambda: MLPRegressor(hidden_layer_sizes=(12,), max_iter=5), lambda X, y: X[:, 0]),
    "counts": (lambda: MLPRegressor("poisson", (12,), "softplus", max_iter=5), lambda X, y: X[:, :2]),
    "two layers": (lambda: MLPClassifier((12, 9), "gelu", max_iter=5), lambda X, y: y),
    "gelu_tanh": (lambda: MLPClassifier((12,), "gelu_tanh", layer_norm=True, max_iter=5), lambda X, y: y),
    "silu": (
        lambda: MLPRegressor("huber", (12,), "silu", layer_norm=True, dropout=0.1, max_iter=5),
        lambda X, y: X[:, 0],
    ),
    "linear": (lambda: MLPClassifier((), max_iter=5), lambda X, y: y),
    **BY_ITSELF,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", ONNX)
def test_skl2onnx(case, digits):
    skl2onnx, runtime = pytest.importorskip("skl2onnx"), pytest.importorskip("onnxruntime")
    fm.register_skl2onnx()
    X = digits[0].astype(np.float32)
    make, target = ONNX[case]
    pipeline = make_pipeline(StandardScaler(), make()).fit(X, target(*digits))
    options = {"zipmap": False} if hasattr(pipeline, "predict_proba") else None
    model = skl2onnx.to_onnx(pipeline, X[:1], options=options and {id(pipeline): options})
    found = runtime.InferenceSession(model.SerializeToString()).run(None, {"X": X})
    ref = pipeline.predict(X)
    if options is None:
        np.testing.assert_allclose(found[0].reshape(ref.shape), ref, 1e-4, 1e-4)
    else:
        np.testing.assert_array_equal(found[0], ref)
        np.testing.assert_allclose(found[1], pipeline.predict_proba(X), 1e-4, 1e-5)


@pytest.mark.sampled
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", ["classes", "two", "labels", "counts", "gelu_tanh", "silu", *BY_ITSELF])
def test_skl2onnx_computes_as_its_input_is_declared(case, digits):
    """In whatever dtype the fit was."""
    skl2onnx, runtime = pytest.importorskip("skl2onnx"), pytest.importorskip("onnxruntime")
    fm.register_skl2onnx()
    make, target = ONNX[case]
    X = digits[0][:50]
    net = make().set_params(max_iter=1).fit(X, target(*digits)[:50])
    options = {"options": {id(net): {"zipmap": False}}} if hasattr(net, "predict_proba") else {}
    ref = net.predict_proba(X) if options else net.predict(X)
    # ONNX has the epsilon of LayerNormalization in float32.
    narrow = {kind.onnx[0] for kind in activation_types() if kind.onnx and not kind.onnx_runtime_float64}
    rounded = {*narrow, "LayerNormalization"}
    for declared in (np.float32, np.float64):
        activation = fm.modules.activation_from_name(ACTIVATIONS[net.activation])
        first = 17 if net.layer_norm else (activation.onnx or ("", 1))[1]
        for opset in (*(opset for opset in (9, 12) if opset >= first), None):
            model = skl2onnx.to_onnx(net, X[:1].astype(declared), target_opset=opset, **options)
            found = runtime.InferenceSession(model.SerializeToString()).run(None, {"X": X.astype(declared)})[-1]
            assert found.dtype == declared
            exact = declared == np.float64 and not rounded & {node.op_type for node in model.graph.node}
            np.testing.assert_allclose(found.reshape(ref.shape), ref, *((1e-12, 1e-14) if exact else (1e-4, 1e-5)))


def test_skl2onnx_refuses_what_an_opset_has_not(digits):
    skl2onnx = pytest.importorskip("skl2onnx")
    fm.register_skl2onnx()
    X, y = digits
    for net, opset, needed in (
        (small(layer_norm=True), 15, "LayerNormalization"),
        (small(activation="gelu"), 18, "Gelu"),
    ):
        with pytest.raises(ValueError, match=f"{needed} of this net comes with opset .*, got target_opset={opset}"):
            skl2onnx.to_onnx(net.fit(X, y), X[:1].astype(np.float32), target_opset=opset)


def test_imbalanced_rows_of_weight_zero():
    X, y = make_classification(200, random_state=0)
    weight = (np.arange(200) % 2).astype(float)
    ref = small(shuffle=False).fit(X[1::2], y[1::2])
    comp = small(shuffle=False).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(comp.predict_proba(X), ref.predict_proba(X), 1e-9)
    assert comp.t_ == ref.t_


@pytest.mark.parametrize("way", ["fit", "partial_fit"])
def test_rows_of_a_mapped_file_larger_than_memory(digits, tmp_path, monkeypatch, way):
    X, y = digits
    labels = {"classes": np.unique(y)} if way == "partial_fit" else {}
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    rows = np.load(tmp_path / "x.npy", mmap_mode="r")
    monkeypatch.setattr(row_order, "BLOCK_NUMBERS", X.shape[1])
    monkeypatch.setattr(mapped, "available_memory", lambda: 0)
    made = {}
    for shuffle in (True, "windows", "full", False):
        net = small(shuffle=shuffle, max_iter=2)
        made[shuffle] = getattr(net, way)(rows, y, **labels)
        assert net._trainer.order.kind == {True: "windows", False: "none"}.get(shuffle, shuffle)
    first = {shuffle: net.coefs_[0].tobytes() for shuffle, net in made.items()}
    assert first[True] == first["windows"] and len(set(first.values())) == 3
    monkeypatch.setattr(mapped, "available_memory", lambda: rows.nbytes)
    assert getattr(small(max_iter=2), way)(rows, y, **labels).coefs_[0].tobytes() == first["full"]
    with pytest.raises(ValueError, match="The 'shuffle' parameter .* must be"):
        small(shuffle="some").fit(X, y)


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"early_stopping": True, "scoring": "loss"},
                                     {"solver": "lbfgs"}, {"backend": "numpy"}])  # fmt: skip
def test_uint8_is_used_as_it_is(kind, options, rng, monkeypatch):
    """Without a copy of the rows, also with early stopping; with the results of the same numbers in float64."""
    X = rng.integers(0, 256, (150, 9)).astype(np.uint8)
    y = (X[:, 0] > 127).astype(int)
    net = kind(hidden_layer_sizes=(6,), max_iter=3, random_state=0, **options)
    taken = []
    for module, name in ((fm.Trainer, "fit"), (estimators, "check_rows")):
        kept = getattr(module, name)
        seen = 1 if module is fm.Trainer else 0

        def look(*args, kept=kept, seen=seen, **more):
            taken.append(args[seen])
            return kept(*args, **more)

        monkeypatch.setattr(module, name, look)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ref, comp = clone(net).fit(X.astype(float), y), clone(net).fit(X, y)
    rows = getattr(taken[-1], "X", taken[-1])
    assert rows.dtype == np.uint8 and np.shares_memory(rows, X) and comp.coefs_[0].dtype == np.float64
    for a, b in zip(ref.coefs_ + ref.intercepts_, comp.coefs_ + comp.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)
    for some in (X, X[:1]):
        np.testing.assert_array_equal(ref.predict(some.astype(float)), comp.predict(some))
    more = {"classes": [0, 1]} if kind is MLPClassifier else {}
    if "solver" not in options and "early_stopping" not in options:
        ref, comp = clone(net), clone(net)
        for _ in range(2):
            ref.partial_fit(X.astype(float), y, **more)
            comp.partial_fit(X, y, **more)
        np.testing.assert_array_equal(ref.coefs_[0], comp.coefs_[0])


def test_entries_of_sparse_uint8_are_added_without_overflow():
    """Two entries at one place stand for their sum."""
    sparse = pytest.importorskip("scipy.sparse")
    X = sparse.csr_array((np.full(80, 200, np.uint8), np.tile([0, 0, 1, 2], 20), np.arange(0, 81, 2)), shape=(40, 3))
    y = np.arange(40) % 2
    ref, comp = small().fit(X.astype(float).toarray(), y), small().fit(X, y)
    np.testing.assert_array_equal(ref.coefs_[0], comp.coefs_[0])


def test_paths_of_arrays(tmp_path, rng):
    X, y = rng.normal(size=(60, 3)).astype(np.float32), rng.integers(0, 2, 60)
    np.save(tmp_path / "X.npy", X), np.save(tmp_path / "y.npy", y)
    ref, comp = (
        fm.MLPClassifier((4,), max_iter=3, random_state=0).fit(*data)
        for data in ((X, y), (tmp_path / "X.npy", str(tmp_path / "y.npy")))
    )
    np.testing.assert_array_equal(ref.predict_proba(X), comp.predict_proba(tmp_path / "X.npy"))
    with pytest.raises(fm.DataError, match="fit: y is the path 'y.csv'; expected an array, or the path of a .npy file"):
        comp.fit(X, "y.csv")
