import copy
import inspect
import json

import loss_zoo
import numpy as np
import pytest
from checks import C, assert_matches, eps, floor
from naive import sigmoid

import fastmlp as fm

SHAPES = [(1, 1), (1, 10), (6, 7), (7, 8), (13, 9), (12, 16), (5, 17), (200, 10)]


def bounds(rows, size, dtype):
    """(of the value, of dx) where each row's terms are of size (N,) and slopes of size (N, C), before 1/n.

    A row gathers its C terms; the rows are added in float64.
    """
    terms, slopes = size
    unit = C * eps(dtype) * np.sqrt(slopes.shape[1])
    return float((rows * terms).sum()) * unit + floor(dtype), rows[:, None] * slopes * unit + floor(dtype)


def cross_entropy(x, t, w, smoothing, s):
    """Value, gradient and the sizes for `bounds`, of soft targets t and row scales s."""
    t = (1 - smoothing) * t + smoothing / x.shape[1]
    weights = t * w
    top = x.max(axis=1, keepdims=True)
    log_p = x - top - np.log(np.exp(x - top).sum(axis=1, keepdims=True))
    value = -(s[:, None] * np.where(weights > 0, weights * log_p, 0)).sum()
    p = np.exp(log_p)
    total = weights.sum(axis=1, keepdims=True)
    dx = s[:, None] * (p * total - weights)
    # The argument of exp(x - m) has the rounding error of x - m, and p |x - m| <= p |log p| + p log C.
    distance = np.where(np.isfinite(x), top - x, 0)
    terms = (weights * (1 + distance + np.log(x.shape[1]))).sum(axis=1)
    return value, dx, (terms, total * p * (1 + distance) + weights)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["indices", "one-hot", "soft"])
@pytest.mark.parametrize("options", ["plain", "all"])
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.sampled
def test_cross_entropy(backend, rng, dtype, shape, kind, options, scale):
    n, c = shape
    x = (scale * rng.normal(size=shape)).astype(dtype)
    indices = rng.integers(0, c, n)
    t = {"indices": np.eye(c)[indices], "one-hot": np.eye(c)[indices], "soft": rng.uniform(size=shape)}[kind]
    t = t.astype(dtype).astype(float)
    w, s, smoothing = np.ones(c), np.ones(n), 0.0
    keywords = {}
    if options == "all":
        w, s, smoothing = rng.uniform(0.5, 2, c), rng.uniform(0, 2, n), 0.1
        keywords = {"class_weight": w, "label_smoothing": smoothing}
    loss = fm.CrossEntropyLoss(**keywords)
    y = indices if kind == "indices" else t
    norm = (s * w[indices]).sum() if kind == "indices" else s.sum()
    value, dx, size = cross_entropy(x.astype(float), t, w, smoothing, s / norm)
    value_bound, dx_bound = bounds(s / norm, size, dtype)
    weight = None if options == "plain" else s
    assert_matches(value, loss.forward(x, y, weight), value_bound, "value")
    got = loss.backward(x, y, weight)
    assert got.dtype == dtype and got.shape == x.shape
    assert_matches(dx, got, dx_bound, "dx")
    both = loss.forward_backward(x, y, weight)
    assert both[0] == loss.forward(x, y, weight) and type(both[0]) is float
    np.testing.assert_array_equal(both[1], got)


@pytest.mark.parametrize("options", [{}, {"class_weight": [1, 2, 3, 4], "label_smoothing": 0.2}])
def test_cross_entropy_of_probabilities(backend, rng, options):
    """Softmax and the loss apart give what the fused form gives, in float64 to 1e-13."""
    x, y = rng.normal(size=(9, 4)), rng.integers(0, 4, 9)
    fused, apart, last = (
        fm.CrossEntropyLoss(**options),
        fm.CrossEntropyLoss(from_logits=False, **options),
        fm.Softmax(),
    )
    p = last.forward(x)
    assert apart.forward(p, y) == pytest.approx(fused.forward(x, y), rel=1e-13)
    np.testing.assert_allclose(last.backward(apart.backward(p, y)), fused.backward(x, y), rtol=0, atol=1e-14)


def test_minus_infinity(backend, dtype):
    """A logit of -inf costs nothing where its target is zero, and everything where it is not."""
    x = np.array([[0, -np.inf, 0], [1, 1, -np.inf]], dtype)
    loss = fm.CrossEntropyLoss()
    assert loss.forward(x, [0, 1]) == pytest.approx(np.log(2), rel=4 * eps(dtype))
    np.testing.assert_allclose(loss.backward(x, [0, 1]), [[-0.25, 0, 0.25], [0.25, -0.25, 0]], rtol=4 * eps(dtype))
    assert loss.forward(x, [1, 1]) == np.inf
    assert np.isfinite(loss.backward(x, [1, 1])).all()


def test_zero_probability_is_clamped(backend, dtype):
    loss = fm.CrossEntropyLoss(from_logits=False)
    p = np.array([[1, 0]], dtype)
    assert loss.forward(p, [1]) == pytest.approx(-np.log(float(np.finfo(dtype).tiny) * 2**24), rel=4 * eps(dtype))
    assert np.isfinite(loss.backward(p, [1])).all()


DELTA = 0.7
ELEMENTWISE = {
    # name: (loss class, (terms, derivatives), magnitude of the intermediate results)
    "mse": (fm.MSELoss, lambda x, t: ((x - t) ** 2, 2 * (x - t)), lambda x, t: (x - t) ** 2),
    "l1": (fm.L1Loss, lambda x, t: (np.abs(x - t), np.sign(x - t)), lambda x, t: np.abs(x - t)),
    "huber": (
        lambda: fm.HuberLoss(DELTA),
        lambda x, t: (
            np.where(np.abs(x - t) <= DELTA, (x - t) ** 2 / 2, DELTA * (np.abs(x - t) - DELTA / 2)),
            np.clip(x - t, -DELTA, DELTA),
        ),
        lambda x, t: DELTA * (np.abs(x - t) + DELTA),
    ),
    "bce": (
        fm.BCEWithLogitsLoss,
        lambda x, t: (t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x), sigmoid(x) - t),
        lambda x, t: t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x),
    ),
    "log_cosh": (
        fm.LogCoshLoss,
        lambda x, t: (np.logaddexp(x - t, t - x) - np.log(2), np.tanh(x - t)),
        lambda x, t: 2 * np.abs(x - t) + np.log(2),
    ),
    "quantile": (
        lambda: fm.QuantileLoss(0.2),
        lambda x, t: (np.maximum(0.2 * (t - x), -0.8 * (t - x)), np.where(t > x, -0.2, 0.8 * (t < x))),
        lambda x, t: np.abs(x - t),
    ),
    "poisson": (
        fm.PoissonLoss,
        lambda x, t: (np.exp(x) - t * x, np.exp(x) - t),
        lambda x, t: (1 + np.abs(x)) * np.exp(x) + np.abs(t * x),
    ),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.sampled
def test_elementwise(backend, rng, dtype, name, shape, weighted):
    make, formula, size = ELEMENTWISE[name]
    loss = make()
    x = rng.normal(size=shape).astype(dtype)
    t = (rng.uniform(size=shape) if name in ("bce", "poisson") else rng.normal(size=shape)).astype(dtype)
    x.flat[0] = t.flat[0]  # the kink of L1, the minimum of other losses
    s = rng.uniform(0, 2, shape[0]) if weighted else np.ones(shape[0])
    rows = s / s.sum() / shape[1]
    X, T = x.astype(float), t.astype(float)
    terms, slopes = formula(X, T)
    value_bound, dx_bound = bounds(rows, (size(X, T).sum(axis=1), 1 + np.abs(slopes)), dtype)
    # x - t has a relative error of one rounding, and so have the terms computed from it.
    weight = s if weighted else None
    assert_matches((rows[:, None] * terms).sum(), loss.forward(x, t, weight), value_bound, "value")
    assert_matches(rows[:, None] * slopes, loss.backward(x, t, weight), dx_bound, "dx")
    if shape[1] == 1:
        assert loss.forward(x, t[:, 0], weight) == loss.forward(x, t, weight)
        np.testing.assert_array_equal(loss.backward(x, t[:, 0], weight), loss.backward(x, t, weight))


@pytest.mark.parametrize("weight", [3.0, [1.0, 2.0, 0.5]])
def test_pos_weight(backend, rng, dtype, weight):
    x, t = rng.normal(size=(6, 3)).astype(dtype), rng.integers(0, 2, (6, 3))
    X, p = x.astype(float), np.asarray(weight, float)
    terms = p * t * np.logaddexp(0, -X) + (1 - t) * np.logaddexp(0, X)
    slopes = (1 - t) * sigmoid(X) - p * t * sigmoid(-X)
    rows = np.full(6, 1 / 18)
    loss = fm.BCEWithLogitsLoss(pos_weight=weight)
    value_bound, dx_bound = bounds(rows, (terms.sum(axis=1), 1 + np.abs(slopes)), dtype)
    assert_matches(terms.mean(), loss.forward(x, t), value_bound)
    assert_matches(slopes / 18, loss.backward(x, t), dx_bound)


def test_large_logits(backend, dtype):
    x = np.array([[1e4], [-1e4]], dtype)
    loss = fm.BCEWithLogitsLoss()
    assert loss.forward(x, [1, 0]) == 0 and not loss.backward(x, [1, 0]).any()
    assert loss.forward(x, [0, 1]) == 1e4 and loss.backward(x, [0, 1]).tolist() == [[0.5], [-0.5]]
    assert fm.CrossEntropyLoss().forward(np.array([[1e4, -1e4]], dtype), [1]) == 2e4


@pytest.mark.parametrize("name", loss_zoo.NAMES)
@pytest.mark.parametrize("weighted", [False, True], ids=["", "sample_weight"])
@pytest.mark.sampled
def test_blocks_combine(backend, rng, name, weighted):
    loss, x, y = loss_zoo.make(name), loss_zoo.outputs_of(name, rng, 10), loss_zoo.targets_of(name, rng, 10)
    s = rng.uniform(0.1, 1, 10) if weighted else None
    total = norm = 0.0
    for rows in (slice(0, 4), slice(4, 5), slice(5, 10)):
        weight = None if s is None else s[rows]
        part = loss.denominator(loss.check_targets(y[rows], x[rows]), weight)
        total, norm = total + loss.forward(x[rows], y[rows], weight) * part, norm + part
    assert total / norm == pytest.approx(loss.forward(x, y, s), rel=1e-14)


@pytest.mark.parametrize("name", loss_zoo.NAMES)
def test_a_weight_of_two_is_the_row_twice(backend, rng, name):
    loss, x, y = loss_zoo.make(name), loss_zoo.outputs_of(name, rng, 10), loss_zoo.targets_of(name, rng, 10)
    s = rng.integers(0, 3, 10)
    s[0] = 1
    twice = np.repeat(np.arange(10), s)
    assert loss.forward(x, y, s) == pytest.approx(loss.forward(x[twice], y[twice]), rel=1e-14)


@pytest.mark.parametrize("name", loss_zoo.NAMES)
def test_config_and_copies(backend, name):
    loss = loss_zoo.make(name)
    config = json.loads(json.dumps(loss.config()))
    again = getattr(fm, config.pop("type"))(**config)
    assert again.config() == loss.config() and again.task == loss.task and again.settings() == loss.settings()
    assert copy.deepcopy(loss).config() == loss.config() and repr(again) == repr(loss)


@pytest.mark.parametrize("kind", sorted({name.partition("-")[0] for name in loss_zoo.NAMES}))
def test_examples_have_each_argument(backend, kind):
    """Tests of all losses are those of all arguments: some example has one that is not None."""
    configs = [loss_zoo.make(name).config() for name in loss_zoo.NAMES if name.startswith(f"{kind}-")]
    for argument in inspect.signature(getattr(fm, kind)).parameters:
        assert any(config[argument] is not None for config in configs), argument


def test_tasks():
    tasks = [fm.CrossEntropyLoss.task, fm.BCEWithLogitsLoss.task, fm.MSELoss.task]
    assert tasks == ["classification", "binary", "regression"]
