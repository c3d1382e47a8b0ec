"""Parameters of the estimators: each one has an effect, raises an error, or is documented for another solver."""

import inspect
import itertools
import warnings

import numpy as np
import pytest
from checks import assert_matches
from scipy import sparse
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import r2_score
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.utils import compute_class_weight
from sklearn.utils._param_validation import InvalidParameterError

import fastmlp as fm
from fastmlp import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = make_classification(90, 8, n_informative=5, n_classes=3, random_state=0)
LABELS = np.array(["a", "b", "c"])[Y]
SEVERAL = np.stack([Y == 0, Y == 1, X[:, 0] > 0], axis=1).astype(int)
KINDS = {"classifier": (MLPClassifier, Y), "regressor": (MLPRegressor, X[:, 0])}


def small(kind=MLPClassifier, **options):
    return kind(**{"hidden_layer_sizes": (6,), "random_state": 0, "max_iter": 4, "shuffle": False, **options})


def same(one, other):
    pairs = zip([*one.coefs_, *one.intercepts_], [*other.coefs_, *other.intercepts_], strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


# ------------------------------------------------------------------------------------ class weights


@pytest.mark.parametrize("batch", [["b"], ["a", "b"], ["c"], ["a", "b", "c"]])
@pytest.mark.parametrize("weight", [{"c": 5.0}, {"a": 2.0, "b": 0.5, "c": 0.25}, {"a": 0.0}])
def test_partial_fit_weighs_by_label_whatever_a_batch_holds(weight, batch):
    rows = np.isin(LABELS, batch)
    ref, comp = small(), small(class_weight=weight)
    for some in (slice(None), rows, rows):
        ref.partial_fit(X[some], LABELS[some], [weight.get(y, 1.0) for y in LABELS[some]], classes=["a", "b", "c"])
        comp.partial_fit(X[some], LABELS[some], classes=["a", "b", "c"])
    assert same(ref, comp)
    theirs = SGDClassifier(class_weight=weight, random_state=0).partial_fit(X, LABELS, classes=["a", "b", "c"])
    theirs.partial_fit(X[rows], LABELS[rows])  # takes such batches too


@pytest.mark.parametrize("incremental", [False, True])
def test_weights_of_several_labels(incremental):
    weight = [{0: 1.0, 1: 3.0}, {1: 2.0}, {0: 0.5}]
    of_rows = np.prod([[weight[k].get(v, 1.0) for k, v in enumerate(row)] for row in SEVERAL], axis=1)
    batches = [slice(None), SEVERAL[:, 0] == 0] if incremental else [slice(None)]
    ref, comp = small(), small(class_weight=weight)
    for some in batches:
        call = "partial_fit" if incremental else "fit"
        more = {"classes": [0, 1, 2]} if incremental else {}
        getattr(ref, call)(X[some], SEVERAL[some], of_rows[some], **more)
        getattr(comp, call)(X[some], SEVERAL[some], **more)
    assert same(ref, comp)
    if not incremental:
        assert same(ref, small(class_weight=weight).fit(X, sparse.csr_array(SEVERAL)))


@pytest.mark.parametrize("convert", [list, lambda y: y[:, None], "pandas", "object"])
def test_labels_of_many_kinds(convert):
    if convert == "pandas":
        convert = pytest.importorskip("pandas").Series
    convert = {"object": lambda y: y.astype(object)}.get(convert, convert) if isinstance(convert, str) else convert
    ref = small(class_weight={"a": 3.0}).fit(X, LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert same(ref, small(class_weight={"a": 3.0}).fit(X, convert(LABELS)))


@pytest.mark.parametrize(("weight", "y"), [("balanced", Y), ("balanced", SEVERAL), (["balanced", {}, {}], SEVERAL)])
def test_partial_fit_refuses_weights_by_frequency(weight, y):
    """As scikit-learn's own; before it has learnt anything of the rows."""
    net = small(class_weight=weight)
    with pytest.raises(ValueError, match="class_weight='balanced' is not for partial_fit.*pass a dict"):
        net.partial_fit(X, y, classes=[0, 1, 2])
    assert not hasattr(net, "classes_") and not hasattr(net, "coefs_")
    if weight == "balanced" and y is Y:
        found = compute_class_weight("balanced", classes=np.array([0, 1, 2]), y=Y)
        ref = small(class_weight=weight).fit(X, Y)
        assert same(ref, small(class_weight=dict(enumerate(found))).fit(X, Y))


def test_labels_that_the_weights_do_not_name():
    with pytest.raises(ValueError, match=r"The classes, .*'a', 'b', 'c'.*, are not in class_weight"):
        small(class_weight={"d": 1.0}).fit(X, LABELS)


@pytest.mark.parametrize("early", [False, True])
def test_a_class_of_weight_0_is_left_out(early):
    weight = {"a": 0.0}
    options = {"early_stopping": early, "batch_size": 10}
    given = {"X_val": X[:30], "y_val": LABELS[:30]} if early else {}
    ref = small(**options).fit(X, LABELS, sample_weight=(LABELS != "a").astype(float), **given)
    comp = small(class_weight=weight, **options).fit(X, LABELS, **given)
    assert same(ref, comp) and comp.t_ == comp.n_iter_ * (LABELS != "a").sum()
    assert small(class_weight=weight, **options).fit(X, LABELS).n_iter_ >= 1  # its own split
    if early:
        few = np.array(["a"] * 40 + ["b"] * 2 + ["c"] * 2)
        with pytest.raises(ValueError, match="The validation set is too small"):  # only "a" is in it
            small(class_weight=weight, **options, validation_fraction=0.05).fit(X[:44], few)


def test_partial_fit_on_rows_without_weight_learns_nothing():
    only = LABELS == "a"
    net = small(class_weight={"a": 0.0}, solver="sgd")
    net.partial_fit(X[only], LABELS[only], classes=["a", "b", "c"])  # also the first time
    assert net.n_iter_ == 1 and net.t_ == 0 and net.loss_ == 0.0 and net.loss_curve_ == []
    ref = small(solver="sgd").partial_fit(X[~only], LABELS[~only], classes=["a", "b", "c"])
    net.partial_fit(X[~only], LABELS[~only])
    assert same(ref, net)
    net.partial_fit(X[only], LABELS[only])
    assert same(ref, net) and net.t_ == ref.t_ and net.best_loss_ == ref.best_loss_
    with pytest.raises(ValueError, match="sample_weight sums to 0"):
        small(class_weight={"a": 0.0}).fit(X[only], LABELS[only])


# ---------------------------------------------------------------------------------- options by solver

# Ours alone, with a value that has an effect for "adam".
FOR_STEPS = {
    "dropout": 0.1,
    "augment": fm.GaussianNoise(0.1),
    "callbacks": [lambda trainer, record: None],
    "progress_bar": True,
    "scoring": "loss",
}
EVERYWHERE = {"n_nets", "class_weight", "layer_norm", "threads", "backend", "delta", "quantile"}
OF_SOLVERS = {  # scikit-learn's, with the words of its docs
    "batch_size": "lbfgs", "learning_rate": 'solver="sgd"', "learning_rate_init": 'solver="sgd" or "adam"',
    "power_t": 'solver="sgd"', "shuffle": 'solver="sgd" or "adam"', "momentum": 'solver="sgd"',
    "nesterovs_momentum": 'solver="sgd"', "early_stopping": 'solver="sgd" or "adam"',
    "validation_fraction": "early_stopping", "beta_1": 'solver="adam"', "beta_2": 'solver="adam"',
    "epsilon": 'solver="adam"', "n_iter_no_change": 'solver="sgd" or "adam"', "max_fun": 'solver="lbfgs"',
}  # fmt: skip


@pytest.mark.parametrize("name", [*FOR_STEPS, "X_val"])
@pytest.mark.parametrize("kind", KINDS)
def test_lbfgs_refuses_by_name_what_it_does_not_use(kind, name, capsys):
    make, y = KINDS[kind]
    given = {"X_val": X[:9], "y_val": y[:9]} if name == "X_val" else {}
    net = small(make, solver="lbfgs", **({} if given else {name: FOR_STEPS[name]}))
    with pytest.raises(ValueError, match=f"{name} is for the solvers sgd and adam, not for lbfgs"):
        net.fit(X, y, **given)
    assert not hasattr(net, "coefs_")
    net.set_params(solver="adam").fit(X, y, **given)
    assert capsys.readouterr().err.count("\n") == 4 * (name == "progress_bar")


@pytest.mark.parametrize("kind", KINDS)
def test_the_docs_say_what_other_parameters_are_for(kind):
    make, _ = KINDS[kind]
    theirs = set(inspect.signature(TheirClassifier).parameters)
    ours = set(inspect.signature(make).parameters) - theirs - {"loss"}
    assert ours <= set(FOR_STEPS) | EVERYWHERE
    text = inspect.getdoc(make).split("Attributes\n")[0]
    for name, words in OF_SOLVERS.items():
        assert words in _about(name, text), name
    for name in FOR_STEPS:
        assert '"sgd" and "adam" only' in _about(name, text), name


def _about(name, text):
    """What a numpydoc text says of a parameter."""
    lines = text.splitlines()
    (at,) = [i for i, line in enumerate(lines) if name in line.split(" :")[0].split(", ")]
    return " ".join(line.strip() for line in itertools.takewhile(lambda line: line.startswith(" "), lines[at + 1 :]))


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("early", [False, True])
def test_a_scorer_that_is_none(solver, early):
    for kind, y in KINDS.values():
        with pytest.raises(InvalidParameterError, match="scoring is 'no such scorer'; expected 'loss', or one of"):
            small(kind, solver=solver, early_stopping=early, scoring="no such scorer").fit(X, y)


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_verbose_tells_of_each_iteration(solver, capsys):
    net = small(MLPRegressor, solver=solver, verbose=True).fit(X, X[:, 0])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"Iteration {i}" for i in range(1, net.n_iter_ + 1)]
    assert lines[-1] == f"Iteration {net.n_iter_}, loss = {net.loss_:.8f}"
    assert net.n_iter_ == 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "sizes",
    [np.array([5.7]), (5.0,), True, (4, True), ("5",), np.float64(3), [[3, 4]], [[3], [4, 5]], (None,)],
    ids=repr,
)
def test_widths_that_are_no_integers(kind, sizes):
    make, y = KINDS[kind]
    for error in (ValueError, TypeError):  # scikit-learn's is a TypeError
        with pytest.raises(error, match="hidden_layer_sizes"):
            small(make, hidden_layer_sizes=sizes).fit(X, y)


@pytest.mark.parametrize("sizes", [5, np.int64(5), np.array([5, 3], np.uint8), [5, 3], (), range(2, 4)], ids=repr)
def test_widths_that_are_integers(sizes):
    net = small(hidden_layer_sizes=sizes).fit(X, Y)
    widths = [coef.shape[1] for coef in net.coefs_[:-1]]
    assert widths == (list(sizes) if np.ndim(sizes) else [sizes])


@pytest.mark.parametrize("kind", KINDS)
def test_weights_below_zero_are_refused(kind):
    """scikit-learn takes them; docs/scikit-learn.md says that we do not."""
    make, y = KINDS[kind]
    for call in ("fit", "partial_fit"):
        more = {"classes": [0, 1, 2]} if call == "partial_fit" and make is MLPClassifier else {}
        with pytest.raises(ValueError, match="sample_weight is -0.1 at index 0; expected finite numbers of at least 0"):
            getattr(small(make), call)(X, y, np.linspace(-0.1, 1, 90), **more)


# ----------------------------------------------------------------------------- scores that are NaN


@pytest.mark.parametrize("kind", KINDS)
def test_early_stopping_needs_two_rows(kind):
    make, y = KINDS[kind]
    net = small(make, early_stopping=True)
    with pytest.raises(ValueError, match="The validation set is too small: X_val has 1 row; expected at least 2"):
        net.fit(X, y, X_val=X[:1], y_val=y[:1])
    with pytest.raises(ValueError, match="The validation set is too small. Increase 'validation_fraction'"):
        small(MLPRegressor, early_stopping=True).fit(X[:2], X[:2, 0])
    assert np.isfinite(net.fit(X, y, X_val=X[:2], y_val=y[:2]).best_validation_score_)
    assert len(small(make).fit(X, y, X_val=X[:1], y_val=y[:1]).validation_loss_curve_) == 4  # only measured


@pytest.mark.parametrize("kind", KINDS)
def test_a_scorer_of_nan_ends_the_fit(kind):
    make, y = KINDS[kind]
    net = small(make, early_stopping=True, scoring=lambda *rest: float("nan"), n_iter_no_change=3, max_iter=100)
    with pytest.warns(ConvergenceWarning, match="No validation score is a number: the weights are the last ones"):
        net.fit(X, y)
    assert net.n_iter_ == 4 and np.isnan(net.best_validation_score_) and np.isnan(net.validation_scores_).all()
    scores = itertools.chain([np.nan, 0.5, np.nan, 0.7, np.nan, 0.6, np.nan, 0.9], itertools.repeat(np.nan))
    net.set_params(scoring=lambda *rest: next(scores)).fit(X, y)
    assert net.n_iter_ == 12 and net.best_validation_score_ == 0.9


def test_the_score_is_measured_against_the_targets_as_given():
    """float32 rows, and targets that float32 would round."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 3)).astype(np.float32)
    y = 1.7e9 + rows[:, 0].astype(np.float64)
    for scoring in (None, "r2", "loss"):
        net = small(MLPRegressor, early_stopping=True, scoring=scoring, learning_rate_init=1e-9)
        net.fit(rows[50:], y[50:] - 1.7e9, X_val=rows[:50], y_val=y[:50] - 1.7e9)
        net.intercepts_[-1][:] = 1.7e9  # what it says of each row then, to float32
        net.coefs_[-1][:] = 0
        answers = net.predict(rows[:50]).astype(np.float64)
        assert len(np.unique(answers)) == 1
        net.set_params(warm_start=True, max_iter=1).fit(rows[50:], y[50:], X_val=rows[:50], y_val=y[:50])
        ref = r2_score(y[:50], answers)
        if scoring == "loss":
            ref = -0.5 * ((y[:50] - answers) ** 2).mean()
        assert -1 < ref / max(1, abs(ref)) < 0.1
        assert_matches(ref, net.validation_scores_[-1], 1e-6 * abs(ref))


# ------------------------------------------------------------------------------- losses beyond floats


@pytest.mark.parametrize("make", [MLPClassifier, TheirClassifier])
def test_features_that_make_the_loss_overflow(make):
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
        small(make).fit(np.where(X > 2, 1e308, X), Y)


def test_a_loss_that_overflows_in_early_stopping():
    with pytest.warns(ConvergenceWarning, match="The loss of iteration 1 is inf"):
        net = small(early_stopping=True).fit(np.where(X > 2, 1e308, X), Y)
    assert np.isnan(net.best_validation_score_) and all(np.isfinite(coef).all() for coef in net.coefs_)
