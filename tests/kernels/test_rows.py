"""Softmax, losses, normalization, dropout and optimizer updates of each backend against the reference."""

from __future__ import annotations

import functools

import loss_zoo
import numpy as np
import pytest
from checks import C, assert_matches, eps, floor
from compiled import COMPILED, SIMULATED, operations
from optimizers import EXAMPLES

from fastmlp._kernels import formulas, reference, use_backend
from fastmlp.optim.base import columns as columns_of

SHAPES = [(1, 1), (1, 7), (2, 8), (3, 15), (5, 16), (9, 17), (4, 33), (2, 100), (3, 1000)]
if SIMULATED:
    SHAPES = [(1, 1), (2, 8), (9, 17)]


@pytest.fixture(params=SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def shape(request):
    return request.param


@pytest.fixture
def run(compiled):
    """What the reference makes of inputs in float64, and each backend of the inputs as they are."""
    return functools.partial(_run, compiled)


def _run(compiled, operation, inputs, outputs):
    ref = [None if a is None else a.astype(np.float64) for a in outputs]
    comp = [None if a is None else a.copy() for a in outputs]
    floats = [a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a for a in inputs]
    getattr(reference, operation)(*floats, *ref)
    getattr(compiled, operation)(*inputs, *comp)
    return ref, comp


def bound(dtype, terms, size):
    """C eps sqrt(terms) size: a sum of so many terms of that size in all."""
    return C * eps(dtype) * np.sqrt(terms) * size + floor(dtype)


def blank(shape, dtype):
    return np.full(shape, np.nan, dtype)


def test_softmax(run, shape, dtype, rng):
    x = (rng.normal(size=shape) * 4).astype(dtype)
    (ref,), (comp,) = run("softmax_forward", [x], [blank(shape, dtype)])
    # exp multiplies a relative error of its argument by the magnitude of the argument.
    spread = np.abs(x - x.max(axis=1, keepdims=True)).astype(np.float64)
    assert_matches(ref, comp, bound(dtype, shape[1], ref * (1 + spread)))
    dy = rng.normal(size=shape).astype(dtype)
    (ref,), (comp,) = run("softmax_backward", [dy, comp], [blank(shape, dtype)])
    size = np.abs(dy) + np.abs(dy).max(axis=1, keepdims=True)
    assert_matches(ref, comp, bound(dtype, shape[1], size.astype(np.float64)))


def test_softmax_of_huge_and_infinite_logits(run, dtype):
    x = np.array([[1e4, -1e4, 0.0], [-np.inf, 0.0, 0.0], [3e38, -3e38, 3e38]], dtype)
    (ref,), (comp,) = run("softmax_forward", [x], [blank(x.shape, dtype)])
    np.testing.assert_array_equal(ref, [[1, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]])
    np.testing.assert_array_equal(comp, ref)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("operation", ["cross_entropy", "cross_entropy_probabilities"])
@pytest.mark.sampled
def test_cross_entropy(run, operation, soft, weighted, smoothing, shape, dtype, rng):
    n, classes = shape
    x = rng.normal(size=shape) * 4 if operation == "cross_entropy" else rng.uniform(0.01, 1, shape)
    x = x.astype(dtype)
    target = rng.uniform(size=shape).astype(dtype) if soft else rng.integers(0, classes, n)
    class_weight = rng.uniform(0.5, 2, classes).astype(dtype) if weighted else None
    row_scale = rng.uniform(0.1, 1, n).astype(dtype)
    inputs = [x, target, class_weight, smoothing, row_scale]
    ref, comp = run(operation, inputs, [blank(n, dtype), blank(shape, dtype)])
    mass = (target.sum(axis=1) + 1 if soft else np.ones(n)) * 2 * row_scale.astype(np.float64)
    range_ = np.abs(x).max() * 2 + np.log(classes) + 1
    assert_matches(ref[0], comp[0], bound(dtype, classes, mass * range_))
    slopes = mass[:, None] * (range_ if operation == "cross_entropy" else 1 / x.astype(np.float64))
    assert_matches(ref[1], comp[1], bound(dtype, classes, slopes))
    for keep in (0, 1):  # either output alone is the same
        outputs = [blank(n, dtype), blank(shape, dtype)]
        outputs[1 - keep] = None
        _, alone = run(operation, inputs, outputs)
        assert alone[keep].tobytes() == comp[keep].tobytes()


def test_cross_entropy_of_minus_infinity_where_the_target_is_zero(run, dtype):
    x = np.array([[-np.inf, 1.0, 2.0]], dtype)
    ones = np.ones(1, dtype)
    for target in (np.array([2]), np.array([[0, 0, 1]], dtype)):
        ref, comp = run("cross_entropy", [x, target, None, 0.0, ones], [blank(1, dtype), blank((1, 3), dtype)])
        assert np.isfinite(comp[0]).all() and np.isfinite(comp[1]).all()
        assert_matches(ref[0], comp[0], bound(dtype, 3, 4.0))
        assert_matches(ref[1], comp[1], bound(dtype, 3, 4.0))


@pytest.mark.parametrize("name", loss_zoo.FROM_LOGITS)
@pytest.mark.sampled
def test_every_loss(run, name, shape, dtype, rng):
    n, columns = shape
    with use_backend("numpy"):
        loss = loss_zoo.make(name)
    x = (rng.normal(size=shape) * 2).astype(dtype)
    target = loss_zoo.targets_of(name, rng, *shape)
    target = target if target.ndim == 1 else target.astype(dtype)
    weighted = loss.column_weight(loss_zoo.COLUMNS, dtype) is not None
    weight = rng.uniform(0.5, 2, columns).astype(dtype) if weighted else None
    row_scale = rng.uniform(0.1, 1, n).astype(dtype)
    size = (1 + np.abs(x.astype(np.float64))) ** 2 * 2
    if loss.kernel == "poisson":  # includes the effect of an error of x on exp(x)
        size = (1 + np.abs(x)) * np.exp(x.astype(np.float64)) + size
    if formulas.sums_over_classes(loss.kernel):
        operation = "classwise_loss"
        # Terms of a class are of the order of log p, derivatives and their errors of the order of the loss's number.
        size = np.full(shape, (np.abs(x).max() * 2 + np.log(columns) + 1) * (1 + abs(loss.numbers[1])))
        size *= 2 if target.ndim == 1 else 2 * (target.sum(axis=1, keepdims=True) + 1)
        size /= columns  # the targets of a row sum to 1
        slopes = size * columns
    else:
        operation, slopes = "elementwise_loss", size
        x.flat[0] = target.flat[0]  # covers a kink
    inputs = [loss.kernel, x, target, weight, loss.numbers, row_scale]
    ref, comp = run(operation, inputs, [blank(n, dtype), blank(shape, dtype)])
    assert_matches(ref[0], comp[0], bound(dtype, columns, size.sum(axis=1)))
    assert_matches(ref[1], comp[1], bound(dtype, columns if operation == "classwise_loss" else 1, slopes))
    for keep in (0, 1):  # either output alone is the same
        outputs = [blank(n, dtype), blank(shape, dtype)]
        outputs[1 - keep] = None
        _, alone = run(operation, inputs, outputs)
        assert alone[keep].tobytes() == comp[keep].tobytes()


@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm(run, affine, shape, dtype, rng):
    n, columns = shape
    x = rng.normal(size=shape).astype(dtype)
    w, b = (rng.normal(size=columns).astype(dtype), rng.normal(size=columns).astype(dtype)) if affine else (None, None)
    outputs = [blank(n, dtype), blank(n, dtype), blank(shape, dtype)]
    ref, comp = run("layer_norm_forward", [x, w, b, 1e-5], outputs)
    size = np.abs(x).max(axis=1).astype(np.float64)
    assert_matches(ref[0], comp[0], bound(dtype, columns, size))
    # 1 / sqrt(var + eps) inherits the relative error of var + eps, which includes that of the mean.
    assert_matches(ref[1], comp[1], bound(dtype, columns, ref[1] * (1 + size * ref[1])))
    scale = (1 if w is None else np.abs(w)) * (size * ref[1])[:, None] ** 2 + (0 if b is None else np.abs(b)) + 1
    assert_matches(ref[2], comp[2], bound(dtype, columns, scale))
    dy = rng.normal(size=shape).astype(dtype)
    outputs = [blank(shape, dtype)] + ([blank(columns, dtype), blank(columns, dtype)] if affine else [None, None])
    grad, comp = run("layer_norm_backward", [dy, x, w, *comp[:2]], outputs)
    g = np.abs(dy).max() * (1 if w is None else np.abs(w).max())
    z = np.maximum(1, (size * ref[1]))[:, None]
    assert_matches(grad[0], comp[0], bound(dtype, columns, ref[1][:, None] * g * z**2))
    if affine:
        assert_matches(grad[1], comp[1], bound(dtype, n, n * np.abs(dy).max() * z.max()))
        assert_matches(grad[2], comp[2], bound(dtype, n, n * np.abs(dy).max()))


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.bool_, np.float32, np.float64])
@pytest.mark.sampled
def test_normalize(run, kind, shape, dtype, rng):
    x = rng.integers(0, 255, shape).astype(kind)
    mean, scale = rng.uniform(0, 255, shape[1]).astype(dtype), rng.uniform(1, 9, shape[1]).astype(dtype)
    (ref,), (comp,) = run("normalize", [x, mean, scale], [blank(shape, dtype)])
    assert_matches(ref, comp, bound(dtype, 1, np.abs(ref)))


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.999, 1.0])
@pytest.mark.sampled
def test_dropout_has_the_same_mask_on_every_backend(compiled, rate, shape, dtype, rng):
    x = rng.normal(size=shape).astype(dtype)
    outputs = [np.full(shape, np.nan, dtype)]
    ref, comp = outputs[0].copy(), outputs[0].copy()
    arguments = (x, rate, 0xFEDCBA9876543210, 3, 2**32 + 5)
    reference.dropout(*arguments, ref)
    compiled.dropout(*arguments, comp)
    np.testing.assert_array_equal(comp, ref)


def test_dropout_keeps_its_share_and_depends_on_every_part_of_its_key(compiled):
    # The simulator runs each CUDA thread as a system thread; those for 400 rows take minutes.
    x = np.ones((8 if SIMULATED else 400, 250), np.float32)
    backend = compiled

    def mask(seed, layer, step):
        out = np.empty_like(x)
        backend.dropout(x, 0.25, seed, layer, step, out)
        return out > 0

    ref = mask(1, 0, 0)
    share, same = 0.75, 0.75**2 + 0.25**2

    def four_deviations(p):
        return 4 * np.sqrt(p * (1 - p) / x.size)

    assert abs(ref.mean() - share) < four_deviations(share)
    for other in (mask(2, 0, 0), mask(1 << 32, 0, 0), mask(1, 1, 0), mask(1, 0, 1)):
        assert abs((other == ref).mean() - same) < four_deviations(same)


@pytest.mark.parametrize("step", [1, 8])
@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.sampled
def test_updates(compiled, name, step, shape, dtype, rng):
    optimizer = EXAMPLES[name]()
    numbers = tuple(columns_of(optimizer.numbers(np.array([0.1]), step), 1)[0].tolist())
    grad, param = rng.normal(size=shape).astype(dtype), rng.normal(size=shape).astype(dtype)
    # States in this range have a positive centered variance.
    states = [None if kind is None else rng.uniform(0.3, 0.4, shape).astype(dtype) for kind in optimizer.kinds]
    ref = [None if array is None else array.astype(np.float64) for array in (*states, param)]
    comp = [None if array is None else array.copy() for array in (*states, param)]
    reference.optimizer_update(optimizer.kernel, numbers, grad.astype(np.float64), tuple(ref[:-1]), ref[-1])
    compiled.optimizer_update(optimizer.kernel, numbers, grad, tuple(comp[:-1]), comp[-1])
    for r, c in zip(ref, comp, strict=True):
        if r is not None:
            size = np.abs(r) + np.abs(grad) ** 2 + np.abs(grad) + 4  # a few roundings of terms of these sizes
            assert_matches(r, c, bound(dtype, 4, size))


def test_clipping_helpers(compiled, run, shape, dtype, rng):
    grad = rng.normal(size=shape).astype(dtype)
    ref = float(np.sum(grad.astype(np.float64) ** 2))
    assert_matches(ref, compiled.sum_of_squares(grad), bound(np.dtype(np.float64), grad.size, ref))
    for operation in ("clip", "scale"):
        (expected,), (comp,) = run(operation, [grad, 0.3], [blank(shape, dtype)])
        assert_matches(expected, comp, bound(dtype, 1, np.abs(expected)))
    in_place = grad.copy()
    compiled.clip(in_place, 0.3, in_place)
    assert np.abs(in_place).max() <= dtype.type(0.3)


@pytest.mark.parametrize("name", ["numpy", *COMPILED])
def test_a_probability_of_zero_gives_finite_gradients(name, dtype):
    """Softmax's backward multiplies them by that 0; an infinity would make NaN of the whole row."""
    x, weight = np.array([[1, 0]], dtype), np.array([1, 1e6], dtype)
    losses, dx = blank(1, dtype), blank((1, 2), dtype)
    operations(name).cross_entropy_probabilities(x, np.array([1]), weight, 0.0, np.ones(1, dtype), losses, dx)
    assert np.isfinite(losses).all() and np.isfinite(dx).all()
