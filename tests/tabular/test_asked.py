"""Estimators for tables: eval_set, scoring, partial_fit, calibration, and compiled predictions of single rows."""

import pickle

import numpy as np
import pandas as pd
import pytest
from checks import assert_matches
from sklearn.inspection import permutation_importance
from sklearn.metrics import roc_auc_score

import fastmlp as fm
from fastmlp.tabular.compiled import CompiledEnsemble

FAST = {"preset": "fast", "random_state": 0, "max_iter": 12}


def table(rows=240, seed=0, missing=True):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "size": rng.normal(size=rows) * 3,
            "count": rng.integers(0, 5, rows),
            "color": rng.choice(["red", "green", "blue"], rows),
            "town": rng.choice([f"town {n}" for n in range(12)], rows),
            "flag": rng.choice([True, False], rows),
            "pair": rng.choice(["a", "b"], rows),
        }
    )
    value = frame["size"] + 2 * (frame["color"] == "red") - frame["count"] * 0.5
    if missing:
        frame.loc[::7, "size"] = np.nan
        frame.loc[::11, "color"] = None
    return frame, value.to_numpy()


def labels(value):
    return np.where(value > 0.3, "yes", "no")


def made(kind):
    X, value = table()
    if kind == "classifier":
        return fm.TabularClassifier(**FAST).fit(X, labels(value)), X, labels(value)
    return fm.TabularRegressor(**FAST).fit(X, value), X, value


def weights(model):
    return [array for net in model.nets_ for array in net.state_dict().values()]


def assert_same_weights(ref, comp):
    assert all(np.array_equal(a, b) for a, b in zip(weights(ref), weights(comp), strict=True))


# ------------------------------------------------------------------------------------------- eval_set


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_eval_set_takes_the_place_of_held_out_rows(kind):
    (X, value), (X_val, value_val) = table(), table(80, 1)
    cls = fm.TabularClassifier if kind == "classifier" else fm.TabularRegressor
    y, y_val = (labels(value), labels(value_val)) if kind == "classifier" else (value, value_val)
    losses = []

    def callbacks(number, trainer):
        return [lambda trainer, record: losses.append((number, record["val_loss"]))]

    ref = cls(**FAST, threads=1).fit(X, y, eval_set=(X_val, y_val), callbacks=callbacks)
    assert (ref.oof_predict_proba_ if kind == "classifier" else ref.oof_prediction_) is None
    found = ref.predict_proba(X_val) if kind == "classifier" else ref.predict(X_val)
    # The mean of the nets is at least as good as the nets on average (the loss is convex).
    best = np.mean([min(loss for number, loss in losses if number == net) for net in (0, 1)])
    if kind == "classifier":
        loss = -np.log(found[np.arange(80), (y_val == "yes").astype(int)]).mean()
    else:
        loss = np.mean((found - y_val) ** 2) / np.var(y)
    assert loss <= best + 1e-6
    assert_same_weights(ref, cls(**FAST, threads=2).fit(X, y, eval_set=[(X_val, y_val)]))


def test_errors_of_eval_set():
    X, value = table()
    model, y = fm.TabularClassifier(**FAST), labels(value)
    for eval_set, message in (
        (X, "eval_set is a DataFrame; expected"),
        ((X, y, y), "eval_set is a tuple"),
        ((X, y[:-1]), "inconsistent numbers of samples"),
        ((X, np.full(len(X), "other")), "y has the label 'other'; expected one of"),
        ((X.drop(columns="size"), y), "The column 'size' is missing"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(X, y, eval_set=eval_set)
    with pytest.raises(ValueError, match="y has 2 outputs; expected 1"):
        fm.TabularRegressor(**FAST).fit(X, value, eval_set=(X, np.stack([value, value], axis=1)))


# -------------------------------------------------------------------------------------------- scoring


def test_scoring_keeps_the_epoch_of_the_best_score():
    (X, value), (X_val, value_val) = table(), table(80, 1)
    y, y_val, scores = labels(value), labels(value_val), []

    def scorer(estimator, features, targets):
        scores.append(roc_auc_score(targets == "yes", estimator.predict_proba(features)[:, 1]))
        return scores[-1]

    model = fm.TabularClassifier(**FAST, n_nets=1, scoring=scorer, n_iter_no_change=4)
    model.fit(X, y, eval_set=(X_val, y_val))
    assert len(scores) == model.n_iter_ and len(scores) - 1 - int(np.argmax(scores)) <= 4
    assert roc_auc_score(y_val == "yes", model.predict_proba(X_val)[:, 1]) == pytest.approx(max(scores))
    named = fm.TabularClassifier(**FAST, n_nets=1, scoring="roc_auc", n_iter_no_change=4)
    assert_same_weights(model, named.fit(X, y, eval_set=(X_val, y_val)))


def test_scoring_of_a_regression_and_names():
    X, value = table()
    ref = fm.TabularRegressor(**FAST).fit(X, value)
    # On held-out rows r2 grows where the loss falls.
    assert_same_weights(ref, fm.TabularRegressor(**FAST, scoring="r2").fit(X, value))
    with pytest.raises(ValueError, match="scoring"):
        fm.TabularRegressor(scoring="rr2").fit(X, value)


# ---------------------------------------------------------------------------------------- calibration


def test_calibration():
    X, value = table(400)
    noisy = np.random.default_rng(3).normal(size=400) * 2
    y = labels(value + noisy)
    ref = fm.TabularClassifier(**FAST).fit(X, y)
    model = fm.TabularClassifier(**FAST, calibrate=True).fit(X, y)
    assert_same_weights(ref, model)
    assert ref.temperature_ == 1 and model.temperature_ != 1
    logs = np.log(ref.predict_proba(X)) / model.temperature_
    expected = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    assert_matches(expected, model.predict_proba(X), 1e-9)
    assert np.array_equal(ref.predict(X), model.predict(X))

    def loss(found):
        return np.nanmean(-np.log(found[np.arange(400), (y == "yes").astype(int)]))

    assert loss(model.oof_predict_proba_) <= loss(ref.oof_predict_proba_)


def test_calibration_by_eval_set_and_in_files(tmp_path):
    (X, value), (X_val, value_val) = table(), table(80, 1)
    model = fm.TabularClassifier(**FAST, calibrate=True).fit(X, labels(value), eval_set=(X_val, labels(value_val)))
    assert model.temperature_ != 1
    model.save(tmp_path / "model.safetensors")
    loaded = fm.TabularClassifier.load(tmp_path / "model.safetensors")
    assert loaded.temperature_ == model.temperature_
    assert np.array_equal(loaded.predict_proba(X), model.predict_proba(X))


# ---------------------------------------------------------------------------------------- partial_fit


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_partial_fit_learns_with_the_encoder_of_the_first_rows(kind):
    X, value = table(300, missing=False)
    y = labels(value) if kind == "classifier" else value
    cls = fm.TabularClassifier if kind == "classifier" else fm.TabularRegressor
    first = {"classes": ["no", "yes"]} if kind == "classifier" else {}

    def train(threads):
        model = cls("fast", random_state=0, threads=threads)
        model.partial_fit(X[:150], y[:150], **first)
        state = model.encoder_.state()
        for _ in range(15):
            model.partial_fit(X[:150], y[:150])
            model.partial_fit(X[150:].assign(color="violet"), y[150:])
        assert model.encoder_.state() == state and model.n_iter_ == 31
        return model

    model = train(1)
    assert model.score(X, y) > 0.7
    assert_same_weights(model, train(2))


def test_partial_fit_goes_on_from_a_fit():
    model, X, y = made("classifier")
    before = [array.copy() for array in weights(model)]
    model.predict(X)
    again = pickle.loads(pickle.dumps(model))
    model.partial_fit(X, y)
    assert model.oof_predict_proba_ is None
    assert not all(np.array_equal(a, b) for a, b in zip(before, weights(model), strict=True))
    assert_same_weights(model, again.partial_fit(X, y))
    assert not np.array_equal(model.predict_proba(X), made("classifier")[0].predict_proba(X))


def test_errors_of_partial_fit():
    X, value = table()
    y = labels(value)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        fm.TabularClassifier(**FAST).partial_fit(X, y)
    with pytest.raises(ValueError, match="class_weight is 'balanced', which needs all rows"):
        fm.TabularClassifier(**FAST, class_weight="balanced").partial_fit(X, y, ["no", "yes"])
    model = fm.TabularClassifier(**FAST).partial_fit(X, y, ["no", "yes"])
    with pytest.raises(ValueError, match="is not the same as on last call"):
        model.partial_fit(X, y, ["no", "maybe"])
    with pytest.raises(ValueError, match="y has the label 'maybe'"):
        model.partial_fit(X, np.full(len(X), "maybe"))


# ----------------------------------------------------------------------------------- compiled predictions


ROWS = [
    {"size": 1.5, "count": 2, "color": "red", "town": "town 3", "flag": True, "pair": "a"},
    {"size": None, "count": 0, "color": None, "town": "town 11", "flag": False, "pair": "b"},
    {"size": float("nan"), "count": 4.0, "color": " blue ", "town": "elsewhere", "flag": True, "pair": None},
    {"size": -1e300, "count": np.int64(3), "color": "", "town": np.str_("town 1"), "flag": np.True_, "pair": "c"},
    {"size": [2.0], "count": (1,), "color": np.array(["green"]), "town": ["town 2"], "flag": [False], "pair": ["a"]},
    {"size": "2.5", "count": 1, "color": "green", "town": "town 2", "flag": False, "pair": "a"},  # general path
]


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_a_row_has_the_inputs_of_the_encoder(kind, row):
    model, X, y = made(kind)
    compiled = model.compiled_predict()
    one = {name: np.atleast_1d(np.asarray(value)).tolist() for name, value in row.items()}
    ref = model._encode(pd.DataFrame(one))
    assert np.array_equal(ref, compiled.encode(row))
    assert np.array_equal(ref, compiled.encode({**row, "another": 3}))
    if kind == "classifier":
        assert_matches(model.predict_proba(one), model.compiled_predict_proba()(row), 1e-6)
        assert np.array_equal(model.predict(one), compiled(row))
    else:
        assert_matches(model.predict(one), compiled(row), 1e-6)


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_frames_series_and_several_rows(kind):
    model, X, y = made(kind)
    compiled = model.compiled_predict_proba() if kind == "classifier" else model.compiled_predict()
    ref = model.predict_proba(X) if kind == "classifier" else model.predict(X)
    assert_matches(ref, compiled(X), 1e-6)
    for row in range(12):
        assert np.array_equal(model._encode(X.iloc[[row]]), compiled.encode(X.iloc[[row]]))
        assert np.array_equal(model._encode(X.iloc[[row]]), compiled.encode(X.iloc[row]))
    assert_matches(ref[:5], compiled(X[:5].to_dict("list")), 1e-6)


def test_wide_codes_and_columns_of_one_kind():
    """Codes that stay dense, an encoder without dense columns, dates, and columns without names."""
    rng = np.random.default_rng(0)
    texts = {"town": rng.choice([f"t{n}" for n in range(20)], 200)}
    for X, row in (
        ({"x": rng.normal(size=200).round(1)}, {"x": 0.3}),
        (texts, {"town": "t3"}),
        ({"day": pd.date_range("2024-01-01", periods=200)}, {"day": pd.Timestamp("2024-02-03")}),
        (rng.normal(size=(200, 3)), rng.normal(size=(1, 3))),
    ):
        y = rng.choice([0, 1], 200)
        for encoder in (None, fm.ColumnEncoder(bins=4)):
            model = fm.TabularClassifier(**FAST, encoder=encoder).fit(X, y)
            one = {name: [value] for name, value in row.items()} if isinstance(row, dict) else row
            assert_matches(model.predict_proba(one), model.compiled_predict_proba()(row), 1e-6)


def test_errors_of_compiled_predictions():
    model, X, y = made("classifier")
    compiled = model.compiled_predict()
    with pytest.raises(ValueError, match="The column 'size' is missing"):
        compiled({"color": "red"})
    with pytest.raises(ValueError, match="infinity"):
        compiled({**ROWS[0], "size": float("inf")})
    with pytest.raises(ValueError, match="expected a number as in the training rows"):
        compiled({**ROWS[0], "size": "large"})
    assert isinstance(compiled, CompiledEnsemble)
    ref = compiled(ROWS[0])
    model.fit(X, y[::-1])
    assert np.array_equal(ref, compiled(ROWS[0]))  # a frozen copy
    with pytest.raises(ValueError, match="not fitted"):
        fm.TabularClassifier().compiled_predict()


# -------------------------------------------------------------------------------------- with scikit-learn


def test_permutation_importance_and_several_outputs():
    model, X, y = made("classifier")
    importance = permutation_importance(model, X, y, n_repeats=2, random_state=0).importances_mean
    assert importance[0] == importance.max() and len(importance) == X.shape[1]
    X, value = table(missing=False)
    several = fm.TabularRegressor(**FAST).fit(X, np.stack([value, -value], axis=1))
    assert several.predict(X).shape == (240, 2) and several.score(X, np.stack([value, -value], axis=1)) > 0.5
    assert_matches(several.predict(X[:1]), several.compiled_predict()(X[:1]), 1e-6)


def test_compiled_predictions_of_a_file_that_was_loaded_on_another_backend(tmp_path):
    model, X, _ = made("classifier")
    model.save(tmp_path / "model.safetensors")
    with fm.use_backend("numpy"):
        loaded = fm.TabularClassifier.load(tmp_path / "model.safetensors")
    assert_matches(model.predict_proba(X), loaded.compiled_predict_proba()(X), 1e-6)
