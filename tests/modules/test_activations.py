import naive
import numpy as np
import pytest
from checks import Activated, assert_matches

import fastmlp as fm

MODULES = {
    "identity": (fm.Identity, 0.0),
    "relu": (fm.ReLU, 0.0),
    "leaky_relu": (lambda: fm.LeakyReLU(0.2), 0.2),
    "elu": (lambda: fm.ELU(0.7), 0.7),
    "tanh": (fm.Tanh, 0.0),
    "sigmoid": (fm.Sigmoid, 0.0),
    "gelu": (fm.GELU, 0.0),
    "gelu_tanh": (lambda: fm.GELU("tanh"), 0.0),
    "silu": (fm.SiLU, 0.0),
    "softplus": (fm.Softplus, 0.0),
}


def inputs(rng, dtype):
    """Draws of several sizes, exact zeros of both signs, and large values."""
    x = np.concatenate([rng.normal(size=100) * size for size in (1e-4, 1, 10)] + [[0.0, -0.0, 1e4, -1e4, 88, -88]])
    return np.resize(x, (9, 34)).astype(dtype)


@pytest.mark.parametrize("name", MODULES)
def test_forward_and_backward(backend, rng, dtype, name):
    make, alpha = MODULES[name]
    module = make()
    x = inputs(rng, dtype)
    dy = rng.normal(size=x.shape).astype(dtype)
    y, dx = module.forward(x), module.backward(dy)
    assert y.dtype == dx.dtype == dtype and y is not x and not np.shares_memory(x, y)
    curve = naive.curve(name, alpha)
    ref = Activated(curve, x.astype(float), dtype)
    assert_matches(ref.y, y, 0.0 if name in ("identity", "relu") else ref.bound, name)
    dref, bound = ref.backward(dy.astype(float), dtype)
    assert_matches(dref, dx, 0.0 if name in ("identity", "relu") else bound, f"d{name}")
    assert module.backward(dy, need_dx=False) is None


@pytest.mark.parametrize("name", MODULES)
def test_nan_stays_nan(backend, dtype, name):
    x = np.full((1, 3), np.nan, dtype)
    module = MODULES[name][0]()
    assert np.isnan(module.forward(x)).all()
    # At NaN no comparison holds: ReLU's slope may be 0 (as PyTorch has it), others carry it on.
    module.backward(np.ones_like(x))


@pytest.mark.parametrize("name", MODULES)
def test_limits(backend, dtype, name):
    """At +inf: 1 for tanh and sigmoid, else +inf; the gradient of a saturated one is finite."""
    module = MODULES[name][0]()
    with np.errstate(all="ignore"):  # an infinite input is allowed to make NumPy warn
        y = np.asarray(module.forward(np.full((1, 5), np.inf, dtype)))
    assert (y == (1.0 if name in ("tanh", "sigmoid") else np.inf)).all()


@pytest.mark.parametrize("name", MODULES)
def test_names(name):
    with fm.use_backend("numpy"):
        model = fm.MLP(2, [3], 1, name, rng=0)
    assert model[1].kind == name


def test_bad_arguments():
    with fm.use_backend("numpy"):
        with pytest.raises(ValueError, match="alpha is nan; expected a finite number"):
            fm.ELU(float("nan"))
        with pytest.raises(ValueError, match=r"negative_slope is '0.1'"):
            fm.LeakyReLU("0.1")
        with pytest.raises(ValueError, match="approximate is 'erf'; expected 'none' or 'tanh'"):
            fm.GELU("erf")
        with pytest.raises(ValueError, match="activation is 'rellu'; expected one of 'elu', 'gelu'"):
            fm.MLP(2, [3], 1, "rellu")


def test_integers_become_float32(backend):
    y = np.asarray(fm.ReLU().forward([[1, -2]]))
    assert y.dtype == np.float32 and y.tolist() == [[1, 0]]
