import naive
import numpy as np
import pytest
from checks import C, assert_matches, eps, floor

import fastmlp as fm


def bound_of(x, y, dtype):
    """exp(x - m) is good to a rounding of its argument; the sum gathers C terms."""
    distance = x.max(axis=1, keepdims=True) - x
    distance = np.where(np.isfinite(distance), distance, 0)
    return C * eps(dtype) * y * (1 + distance + np.sqrt(x.shape[1])) + floor(dtype)


@pytest.mark.parametrize("columns", [1, 2, 7, 8, 9, 16, 17, 100])
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.sampled
def test_forward_and_backward(backend, rng, dtype, columns, scale):
    x = (scale * rng.normal(size=(7, columns))).astype(dtype)
    dy = rng.normal(size=x.shape).astype(dtype)
    module = fm.Softmax()
    y, dx = module.forward(x), module.backward(dy)
    X, DY = x.astype(float), dy.astype(float)
    ref = naive.softmax(X)
    bound = bound_of(X, ref, dtype)
    assert_matches(ref, y, bound, "y")
    inner = (DY * ref).sum(axis=1, keepdims=True)
    size = np.abs(DY) + (np.abs(DY) * ref).sum(axis=1, keepdims=True)
    inner_bound = (np.abs(DY) * bound).sum(axis=1, keepdims=True)
    spread = bound * size + ref * inner_bound + C * eps(dtype) * np.sqrt(columns) * ref * size
    assert_matches(ref * (DY - inner), dx, spread + floor(dtype), "dx")


def test_minus_infinity_is_zero(backend, dtype):
    x = np.array([[0, -np.inf, 0], [-np.inf, 5, -np.inf]], dtype)
    module = fm.Softmax()
    assert np.asarray(module.forward(x)).tolist() == [[0.5, 0, 0.5], [0, 1, 0]]
    dx = np.asarray(module.backward(np.ones_like(x)))
    assert not dx.any()


def test_a_row_without_columns():
    with fm.use_backend("numpy"), pytest.raises(ValueError, match=r"shape \(3, 0\); expected \(N, features\)"):
        fm.Softmax().forward(np.empty((3, 0)))


def test_an_empty_batch(backend):
    module = fm.Softmax()
    assert module.forward(np.empty((0, 4))).shape == (0, 4)
    assert module.backward(np.empty((0, 4))).shape == (0, 4)
