import activations
import numpy as np
import pytest
from activations import EXAMPLES
from checks import Activated, assert_matches

import fastmlp as fm
from fastmlp._kernels import formulas, reference
from fastmlp.modules.activations import activation_types


def inputs(rng, dtype):
    """Draws of several sizes, exact zeros of both signs, and large values."""
    x = np.concatenate([rng.normal(size=100) * size for size in (1e-4, 1, 10)] + [[0.0, -0.0, 1e4, -1e4, 88, -88]])
    return np.resize(x, (9, 34)).astype(dtype)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.sampled
def test_forward_and_backward(backend, rng, dtype, name):
    module = EXAMPLES[name]()
    x = inputs(rng, dtype)
    dy = rng.normal(size=x.shape).astype(dtype)
    y, dx = module.forward(x), module.backward(dy)
    assert y.dtype == dx.dtype == dtype and y is not x and not np.shares_memory(x, y)
    curve = activations.curve(module.kind, module.alpha)
    ref = Activated(curve, x.astype(float), dtype)
    assert_matches(ref.y, y, 0.0 if name in ("identity", "relu") else ref.bound, name)
    dref, bound = ref.backward(dy.astype(float), dtype)
    assert_matches(dref, dx, 0.0 if name in ("identity", "relu") else bound, f"d{name}")
    assert module.backward(dy, need_dx=False) is None


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.sampled
def test_nan_stays_nan(backend, dtype, name):
    x = np.full((1, 3), np.nan, dtype)
    module = EXAMPLES[name]()
    assert np.isnan(module.forward(x)).all()
    # At NaN no comparison holds: ReLU's slope may be 0 (as PyTorch has it), others carry it on.
    module.backward(np.ones_like(x))


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.sampled
def test_limits(backend, dtype, name):
    """At +inf each has a limit; huge numbers give numbers, without a NumPy warning."""
    module = EXAMPLES[name]()
    with np.errstate(all="ignore"):  # an infinite input is allowed to make NumPy warn
        ref = activations.curve(module.kind, module.alpha).h(np.array([[np.inf]]))
        y = np.asarray(module.forward(np.full((1, 5), np.inf, dtype)))
    assert_matches(np.repeat(ref, 5, axis=1), y)
    x = np.array([[1e12, -1e12]], dtype)
    assert np.isfinite([np.asarray(module.forward(x)), np.asarray(module.backward(np.ones_like(x)))]).all()


@pytest.mark.parametrize("name", fm.modules.activation_names())
def test_names(name):
    with fm.use_backend("numpy"):
        model = fm.MLP(2, [3], 1, name, rng=0)
    assert model[1].kind == name


def test_each_is_complete():
    """Its formula, the reference's and the tests' curve exist under its kind, and examples have all its arguments."""
    made = [make() for make in EXAMPLES.values()]
    assert {one.kind for one in made} == set(formulas.names("activations")) == set(reference.ACTIVATIONS)
    assert all(activations.curve(one.kind, one.alpha).curvature >= 0 for one in made)
    for kind in activation_types():
        usual, examples = kind().config(), [example.config() for example in kind.examples()]
        assert usual in examples
        for argument in usual.keys() - {"type"}:
            assert any(config[argument] != usual[argument] for config in examples), (kind, argument)


def test_bad_arguments():
    with fm.use_backend("numpy"):
        with pytest.raises(ValueError, match="alpha is nan; expected a finite number"):
            fm.ELU(float("nan"))
        with pytest.raises(ValueError, match=r"negative_slope is '0.1'"):
            fm.LeakyReLU("0.1")
        with pytest.raises(ValueError, match="approximate is 'erf'; expected 'none' or 'tanh'"):
            fm.GELU("erf")
        with pytest.raises(ValueError, match="activation is 'rellu'; expected one of .*'relu'"):
            fm.MLP(2, [3], 1, "rellu")


def test_integers_become_float32(backend):
    y = np.asarray(fm.ReLU().forward([[1, -2]]))
    assert y.dtype == np.float32 and y.tolist() == [[1, 0]]
