"""TabularClassifier and TabularRegressor."""

from __future__ import annotations

import pickle

import joblib
import numpy as np
import pytest
from checks import assert_matches
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastmlp as fm
from fastmlp import ColumnEncoder
from fastmlp.tabular import base, encoder
from fastmlp.tabular.presets import PRESETS

pd = pytest.importorskip("pandas")

FAST = {"n_nets": 2, "hidden_layer_sizes": (16,), "max_iter": 30, "learning_rate_init": 0.01}
REASON = "a repeated row changes the batches and the held-out rows"
XFAIL = {"check_sample_weight_equivalence_on_dense_data": REASON}


def table(rows=400, seed=0):
    """A frame of all kinds of columns, labels and values that follow from them."""
    generator = np.random.default_rng(seed)
    size, color = generator.normal(size=rows), generator.choice(["red", "green", "blue"], rows)
    day = pd.Timestamp("2024-01-01") + pd.to_timedelta(generator.integers(0, 700, rows), unit="D")
    frame = pd.DataFrame({"size": size, "color": color, "day": day, "flag": generator.random(rows) < 0.5})
    score = size + (color == "red") - (color == "blue") + frame["flag"] * 0.5
    frame.loc[generator.random(rows) < 0.1, "size"] = np.nan
    frame.loc[generator.random(rows) < 0.1, "color"] = None
    return frame, np.where(score > 0, "yes", "no"), score.to_numpy()


@parametrize_with_checks(
    [fm.TabularClassifier("fast", max_iter=60), fm.TabularRegressor("fast", max_iter=60)],
    expected_failed_checks=lambda estimator: XFAIL,
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_mixed_columns_with_missing_values():
    frame, labels, values = table()
    train, test = slice(0, 300), slice(300, 400)
    classifier = fm.TabularClassifier("fast", random_state=0).fit(frame[train], labels[train])
    assert classifier.score(frame[test], labels[test]) > 0.8
    regressor = fm.TabularRegressor("fast", random_state=0).fit(frame[train], values[train])
    assert regressor.score(frame[test], values[test]) > 0.7
    assert classifier.feature_names_in_.tolist() == ["size", "color", "day", "flag"]
    shuffled = frame[["flag", "day", "size", "color"]]
    assert_matches(classifier.predict_proba(frame[test]), classifier.predict_proba(shuffled[test]))


@pytest.mark.parametrize("threads", [2, 3])
def test_results_depend_on_the_seed_alone(threads):
    frame, labels, _ = table(150)
    ref = fm.TabularClassifier(**FAST, random_state=3, threads=1).fit(frame, labels).predict_proba(frame)
    comp = fm.TabularClassifier(**FAST, random_state=3, threads=threads).fit(frame, labels).predict_proba(frame)
    other = fm.TabularClassifier(**FAST, random_state=4, threads=1).fit(frame, labels).predict_proba(frame)
    assert_matches(ref, comp)
    assert not np.array_equal(ref, other)


def test_one_thread_in_a_worker_thread(monkeypatch):
    frame, labels, _ = table(60)
    found = []

    def fit_many(*arguments, threads, **options):
        found.append(threads)
        return fm.fit_many(*arguments, threads=threads, **options)

    monkeypatch.setattr(base, "fit_many", fit_many)
    models = [fm.TabularClassifier(**FAST, random_state=0), fm.TabularClassifier(**FAST, random_state=0, threads=2)]
    for model in models:
        model.fit(frame, labels)
    ref = models[0].predict_proba(frame)

    def comp(model):
        return model.fit(frame, labels).predict_proba(frame)

    for result in joblib.Parallel(2, backend="threading")(joblib.delayed(comp)(model) for model in models):
        assert_matches(ref, result)
    assert found[:2] == [None, 2] and sorted(found[2:]) == [1, 2]


def test_predictions_are_means_over_the_nets():
    frame, labels, values = table(120)
    classifier = fm.TabularClassifier(**FAST, random_state=0).fit(frame, labels)
    features = classifier.encoder_.transform_to_inputs(frame)
    outputs = [net.infer(features).astype(np.float64) for net in classifier.nets_]
    ref = np.mean([np.exp(o) / np.exp(o).sum(axis=1, keepdims=True) for o in outputs], axis=0)
    assert_matches(ref, classifier.predict_proba(frame), 1e-5)
    regressor = fm.TabularRegressor(**FAST, random_state=0).fit(frame, values)
    outputs = [net.infer(features)[:, 0].astype(np.float64) for net in regressor.nets_]
    assert_matches(np.mean(outputs, axis=0) * values.std() + values.mean(), regressor.predict(frame), 1e-4)


def test_nets_hold_out_other_rows_of_each_class():
    frame = table(200)[0]
    labels = np.where(np.arange(200) < 20, "rare", "common")
    model = fm.TabularClassifier(**{**FAST, "n_nets": 10}, random_state=0).fit(frame, labels)
    oof = model.oof_predict_proba_
    assert oof.shape == (200, 2) and np.isfinite(oof).all()
    assert_matches(np.ones(200), oof.sum(axis=1), 1e-12)
    two = fm.TabularClassifier(**FAST, random_state=0).fit(frame, labels).oof_predict_proba_
    held = np.isfinite(two[:, 0])
    assert held.sum() == 40 and (held & (labels == "rare")).sum() == 4
    without = fm.TabularClassifier(**FAST, validation_fraction=0).fit(frame, labels)
    assert without.oof_predict_proba_ is None


def test_several_targets():
    frame, _, values = table(200)
    both = np.column_stack([values, 100 - 5 * values])
    model = fm.TabularRegressor("fast", random_state=0).fit(frame, both)
    assert model.predict(frame).shape == (200, 2) == model.oof_prediction_.shape
    assert model.score(frame, both) > 0.7


def test_weights_of_rows_and_classes():
    frame, labels, _ = table(300)
    options = {**FAST, "random_state": 0}
    ref = fm.TabularClassifier(**options).fit(frame, labels, sample_weight=np.where(labels == "yes", 3.0, 1.0))
    comp = fm.TabularClassifier(**options, class_weight={"yes": 3.0}).fit(frame, labels)
    assert_matches(ref.predict_proba(frame), comp.predict_proba(frame))
    plain = fm.TabularClassifier(**options).fit(frame, labels)
    yes = comp.classes_.tolist().index("yes")
    assert comp.predict_proba(frame)[:, yes].mean() > plain.predict_proba(frame)[:, yes].mean()


def test_pickle_clone_and_cross_validation():
    frame, labels, _ = table(200)
    model = fm.TabularClassifier(**FAST, random_state=0).fit(frame, labels)
    ref = model.predict_proba(frame)
    assert_matches(ref, pickle.loads(pickle.dumps(model)).predict_proba(frame))
    assert_matches(ref, clone(model).fit(frame, labels).predict_proba(frame))
    assert cross_val_score(model, frame, labels, cv=3).mean() > 0.7


@pytest.mark.parametrize("labels", [["no", "yes"], [1, 7], [2.0, 3.0], [False, True], np.array(["a", "b"], object)])
def test_a_saved_classifier(tmp_path, labels):
    frame, answers, _ = table(150)
    y = np.asarray(labels)[(answers == "yes").astype(int)]
    model = fm.TabularClassifier(**FAST, random_state=0, encoder=fm.ColumnEncoder(bins=8)).fit(frame, y)
    model.save(tmp_path / "model.safetensors")
    comp = fm.TabularClassifier.load(tmp_path / "model.safetensors")
    assert_matches(model.predict_proba(frame), comp.predict_proba(frame))
    assert comp.classes_.dtype == model.classes_.dtype and comp.predict(frame).tolist() == model.predict(frame).tolist()
    ref = {**model.get_params(), "hidden_layer_sizes": [16]}  # JSON has no tuples
    assert str(comp.get_params()) == str(ref) and comp.feature_names_in_.tolist() == list(frame)
    assert comp.encoder_.summary() == model.encoder_.summary() and comp.oof_predict_proba_ is None
    first = (tmp_path / "model.safetensors").read_bytes()
    comp.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == first


def test_a_file_with_nets_on_encoded_columns(tmp_path, monkeypatch):
    """Files without a smallest number of coded bins, in which all nets are MLPs."""
    frame, labels, _ = table(150)
    state = ColumnEncoder.state
    with monkeypatch.context() as patch:
        patch.setattr(encoder, "FEWEST_CODED", 1 << 30)
        patch.setattr(ColumnEncoder, "state", lambda one: {k: v for k, v in state(one).items() if k != "fewest_coded"})
        model = fm.TabularClassifier(**FAST, random_state=0).fit(frame, labels)
        model.save(tmp_path / "model.safetensors")
        ref = model.predict_proba(frame)
    assert isinstance(model.nets_[0], fm.MLP)
    assert_matches(ref, fm.TabularClassifier.load(tmp_path / "model.safetensors").predict_proba(frame))


def test_columns_without_a_dense_part():
    rng = np.random.default_rng(0)
    X = {"level": rng.choice(list("abcdefghij"), 200)}
    y = np.isin(X["level"], list("abcde"))
    model = fm.TabularClassifier(**FAST, random_state=0).fit(X, y)
    assert isinstance(model.nets_[0][0], fm.BinnedLinear) and model.score(X, y) == 1
    assert_matches(model.predict_proba({"level": ["new"]})[0], model.predict_proba({"level": ["other"]})[0])


def test_an_encoder_of_another_class():
    """Its transform is what the nets read."""

    class Doubled(ColumnEncoder):
        def transform(self, X):
            return 2 * super().transform(X)

    frame, labels, _ = table(100)
    model = fm.TabularClassifier(**FAST, random_state=0, encoder=Doubled()).fit(frame, labels)
    assert isinstance(model.nets_[0], fm.MLP)
    assert_matches(model.predict_proba(frame[:9]), model.predict_proba(frame)[:9])


def test_a_saved_regressor(tmp_path):
    frame, _, values = table(150)
    for y in (values, np.column_stack([values, -values])):
        model = fm.TabularRegressor(**FAST, random_state=np.random.RandomState(0)).fit(frame, y)
        model.save(tmp_path / "model.safetensors")
        assert_matches(model.predict(frame), fm.TabularRegressor.load(tmp_path / "model.safetensors").predict(frame))


def test_files_that_cannot_be_loaded(tmp_path):
    frame, labels, _ = table(60)
    path, other = tmp_path / "model.safetensors", tmp_path / "net.safetensors"
    with pytest.raises(NotFittedError):
        fm.TabularClassifier().save(path)
    fm.TabularClassifier(**FAST).fit(frame, labels).save(path)
    with pytest.raises(fm.ModelFileError, match="is a TabularClassifier; expected a TabularRegressor"):
        fm.TabularRegressor.load(path)
    fm.save(fm.MLP(2, [3], 1), other)
    with pytest.raises(fm.ModelFileError, match="is no saved estimator for tables"):
        fm.TabularClassifier.load(other)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(fm.ModelFileError, match="damaged"):
        fm.TabularClassifier.load(path)
    with pytest.raises(FileNotFoundError):
        fm.TabularClassifier.load(tmp_path / "none")


def test_a_time_limit():
    frame, labels, _ = table(200)
    model = fm.TabularClassifier("fast", max_iter=10**6, n_iter_no_change=10**6, time_limit=0.2).fit(frame, labels)
    assert 1 <= model.n_iter_ < 10**6


def test_constant_columns_and_few_rows():
    model = fm.TabularClassifier("fast", max_iter=5, random_state=0).fit({"a": [1.0] * 4}, ["x", "x", "x", "y"])
    assert model.predict({"a": [1.0, 2.0]}).tolist() == ["x", "x"]
    single = fm.TabularRegressor("fast", max_iter=5).fit({"a": [1.0]}, [3.0])
    assert_matches([3.0], single.predict({"a": [None]}), 1.0)


def test_nets_for_few_rows_have_a_least_number_of_updates():
    frame, labels, _ = table(100)
    preset = PRESETS["fast"]  # 90 training rows are one batch
    model = fm.TabularClassifier("fast", random_state=0).fit(frame, labels)
    assert model.n_iter_ > preset.updates > preset.epochs
    given = fm.TabularClassifier("fast", random_state=0, n_iter_no_change=2, max_iter=50).fit(frame, labels)
    assert given.n_iter_ <= 50


def test_presets():
    assert PRESETS["balanced"].n_nets > PRESETS["fast"].n_nets
    frame, labels, _ = table(100)
    model = fm.TabularClassifier("fast", random_state=0, max_iter=2, encoder=fm.ColumnEncoder(bins=4)).fit(
        frame, labels
    )
    assert len(model.nets_) == 2 and model.encoder_.bins == 4
    with pytest.raises(ValueError, match="preset"):
        fm.TabularClassifier("slow").fit(frame, labels)


@pytest.mark.parametrize("encoder", [None, fm.ColumnEncoder(bins=4)])
def test_best_has_dropout_in_training_only(encoder):
    frame, labels, _ = table(100)
    model = fm.TabularClassifier("best", random_state=0, n_nets=2, max_iter=3, encoder=encoder).fit(frame, labels)
    for net in model.nets_:
        dropouts = [module for module in net.modules() if isinstance(module, fm.Dropout)]
        assert [module.p for module in dropouts] == [PRESETS["best"].dropout] * 2
    assert np.array_equal(model.predict_proba(frame), model.predict_proba(frame))
    again = fm.TabularClassifier("best", random_state=0, n_nets=2, max_iter=3, encoder=encoder, threads=1)
    assert np.array_equal(model.predict_proba(frame), again.fit(frame, labels).predict_proba(frame))


@pytest.mark.parametrize(
    "y, message", [([1.5, 2.5, 3.5], "Unknown label type"), (["a", None, "b"], "NaN or None"), ([1, 2], "inconsistent")]
)
def test_errors_of_targets(y, message):
    with pytest.raises(ValueError, match=message):
        fm.TabularClassifier("fast").fit({"a": [1.0, 2.0, 3.0]}, y)
