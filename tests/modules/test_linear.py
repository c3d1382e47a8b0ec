import numpy as np
import pytest
from checks import C, assert_matches, eps, linear_bound, product_bound

import fastmlp as fm

# Sizes around the tiles' rows and columns, and the smallest.
SHAPES = [(1, 1, 1), (1, 7, 5), (5, 6, 7), (6, 8, 16), (7, 9, 17), (13, 15, 11), (12, 16, 12), (33, 100, 10)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.sampled
def test_forward_and_backward(backend, rng, dtype, shape, bias):
    n, i, o = shape
    layer = fm.Linear(i, o, bias, dtype=dtype, rng=0)
    x, dy = rng.normal(size=(n, i)).astype(dtype), rng.normal(size=(n, o)).astype(dtype)
    y, dx = layer.forward(x), layer.backward(dy)
    assert y.dtype == dx.dtype == dtype and y.flags["C_CONTIGUOUS"] and dx.flags["C_CONTIGUOUS"]

    X, DY = x.astype(float), dy.astype(float)
    W = np.asarray(layer.params["weight"], float)
    b = np.asarray(layer.params["bias"], float) if bias else None
    ref = X @ W.T if b is None else X @ W.T + b
    assert_matches(ref, y, linear_bound(X, W, b, dtype), "y")
    assert_matches(DY @ W, dx, product_bound(DY, W, dtype), "dx")
    assert_matches(DY.T @ X, layer.grads["weight"], product_bound(DY.T, X, dtype), "dW")
    if bias:
        assert_matches(DY.sum(0), layer.grads["bias"], product_bound(DY.T, np.ones((n, 1)), dtype)[:, 0], "db")
    else:
        assert list(layer.params) == list(layer.grads) == ["weight"]


def test_backward_overwrites(backend, rng):
    layer = fm.Linear(4, 3, rng=0)
    layer.forward(rng.normal(size=(5, 4)))
    dy = rng.normal(size=(5, 3))
    layer.backward(dy)
    first = np.array(layer.grads["weight"])
    assert layer.backward(dy, need_dx=False) is None
    np.testing.assert_array_equal(layer.grads["weight"], first)


def test_an_empty_batch(backend):
    layer = fm.Linear(4, 3, rng=0)
    assert layer.forward(np.empty((0, 4))).shape == (0, 3)
    assert layer.backward(np.empty((0, 3))).shape == (0, 4)
    assert not np.asarray(layer.grads["weight"]).any() and not np.asarray(layer.grads["bias"]).any()


@pytest.mark.parametrize("layout", ["fortran", "strided", "reversed", "read-only", "unaligned", "big-endian"])
def test_any_memory_layout(backend, rng, dtype, layout):
    layer = fm.Linear(9, 7, dtype=dtype, rng=0)
    x, dy = rng.normal(size=(6, 9)).astype(dtype), rng.normal(size=(6, 7)).astype(dtype)
    ref, dref = layer.forward(x), layer.backward(dy)
    grads = {name: np.array(grad) for name, grad in layer.grads.items()}
    # Older NumPy versions multiply such arrays without BLAS, so that their last bits differ.
    scale = 0 if backend == "numba" else 2 * C * eps(dtype) * 9 * max(np.abs(x).max(), 1) * max(np.abs(dy).max(), 1)
    assert_matches(ref, layer.forward(_laid_out(x, layout)), scale)
    assert_matches(dref, layer.backward(_laid_out(dy, layout)), scale)
    for name, grad in grads.items():
        assert_matches(grad, layer.grads[name], scale)


def _laid_out(x, layout):
    if layout == "fortran":
        return np.asfortranarray(x)
    if layout == "strided":
        wide = np.full((2 * x.shape[0], 3 * x.shape[1]), np.nan, x.dtype)
        wide[::2, ::3] = x
        return wide[::2, ::3]
    if layout == "reversed":
        return x[::-1, ::-1].copy()[::-1, ::-1]
    if layout == "read-only":
        x = x.copy()
        x.flags.writeable = False
        return x
    if layout == "big-endian":
        return x.astype(x.dtype.newbyteorder(">"))
    raw = np.empty(x.nbytes + 1, np.uint8)
    view = raw[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    assert not view.flags.aligned
    return view


def test_the_inputs_stay_as_they_are(backend, rng):
    layer = fm.Linear(9, 7, rng=0)
    x, dy = rng.normal(size=(6, 9)).astype(np.float32), rng.normal(size=(6, 7)).astype(np.float32)
    before, dbefore = x.copy(), dy.copy()
    layer.forward(x)
    layer.backward(dy)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(dy, dbefore)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float16, np.float64, list])
def test_any_real_dtype(backend, rng, kind):
    values = rng.integers(0, 2, size=(6, 9))
    layer = fm.Linear(9, 7, rng=0)
    ref = layer.forward(values.astype(np.float32))
    x = values.tolist() if kind is list else values.astype(kind)
    y = layer.forward(x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(ref, y)


def test_weights_are_a_function_of_seed_and_layer(backend):
    first, again, other = fm.Linear(5, 4, rng=7), fm.Linear(5, 4, rng=7), fm.Linear(5, 4, rng=7, layer=1)
    np.testing.assert_array_equal(first.params["weight"], again.params["weight"])
    assert (np.asarray(first.params["weight"]) != np.asarray(other.params["weight"])).all()
    double = fm.Linear(5, 4, rng=7, dtype=np.float64)
    np.testing.assert_array_equal(first.params["weight"], np.asarray(double.params["weight"], np.float32))
    unseeded = fm.Linear(5, 4)
    np.testing.assert_array_equal(unseeded.params["weight"], fm.Linear(5, 4, rng=unseeded.seed).params["weight"])
    generators = [fm.Linear(5, 4, rng=np.random.default_rng(3)).seed for _ in range(2)]
    assert generators[0] == generators[1]


def test_backward_before_forward(backend):
    with pytest.raises(RuntimeError, match=r"Linear.backward was called before forward"):
        fm.Linear(3, 2).backward(np.zeros((1, 2)))


def test_infer_keeps_nothing(backend, rng):
    layer = fm.Linear(3, 2, rng=0)
    x = rng.normal(size=(4, 3))
    y = layer.infer(x)
    with pytest.raises(RuntimeError):
        layer.backward(y)
    np.testing.assert_array_equal(y, layer.forward(x))
