import math

import numpy as np
import pytest

import fastmlp as fm
from fastmlp._common.random import as_seed, layer_generator

OUT, IN = 300, 200
# name: (standard deviation, largest magnitude or None)
EXPECTED = {
    "default": (1 / math.sqrt(3 * IN), 1 / math.sqrt(IN)),
    "normal": (1e-4, None),
    "xavier": (math.sqrt(2 / (IN + OUT)), math.sqrt(6 / (IN + OUT))),
    "xavier_uniform": (math.sqrt(2 / (IN + OUT)), math.sqrt(6 / (IN + OUT))),
    "xavier_normal": (math.sqrt(2 / (IN + OUT)), None),
    "he": (math.sqrt(2 / IN), None),
    "he_uniform": (math.sqrt(2 / IN), math.sqrt(6 / IN)),
    "he_normal": (math.sqrt(2 / IN), None),
    "lecun": (math.sqrt(1 / IN), None),
    "lecun_uniform": (math.sqrt(1 / IN), math.sqrt(3 / IN)),
    "lecun_normal": (math.sqrt(1 / IN), None),
}


@pytest.fixture(autouse=True)
def on_numpy():
    with fm.use_backend("numpy"):
        yield


@pytest.mark.parametrize("name", EXPECTED)
def test_moments(name):
    layer = fm.Linear(IN, OUT, init=name, rng=1)
    weight, (std, largest) = layer.params["weight"].astype(float), EXPECTED[name]
    # With 60000 draws, the standard errors of the standard deviation and the mean are 0.3 % and 0.4 % of the deviation.
    assert weight.std() == pytest.approx(std, rel=0.015)
    assert abs(weight.mean()) < 0.02 * std
    if largest is not None:
        assert np.abs(weight).max() <= largest * (1 + 1e-6)
    assert layer.params["bias"].any() == (name == "default")


def test_default_bias():
    bias = fm.Linear(4, 2000, rng=1).params["bias"]
    assert np.abs(bias).max() <= 0.5 and bias.std() == pytest.approx(1 / math.sqrt(12), rel=0.05)


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (1, 1)], ids=str)
def test_orthogonal(shape):
    weight = fm.Linear(shape[1], shape[0], init="orthogonal", dtype=np.float64, rng=1).params["weight"]
    product = weight @ weight.T if shape[0] <= shape[1] else weight.T @ weight
    np.testing.assert_allclose(product, np.eye(min(shape)), atol=1e-14)


def test_zeros_and_std():
    assert not fm.Linear(3, 4, init="zeros", rng=1).params["weight"].any()
    assert fm.Linear(IN, OUT, init=fm.init.Normal(0.5), rng=1).params["weight"].std() == pytest.approx(0.5, rel=0.015)


@pytest.mark.parametrize("name", [*EXPECTED, "orthogonal"])
def test_float32_is_float64_rounded(name):
    single = fm.Linear(6, 5, init=name, rng=9)
    double = fm.Linear(6, 5, init=name, dtype=np.float64, rng=9)
    for key in single.params:
        np.testing.assert_array_equal(single.params[key], double.params[key].astype(np.float32))
        assert single.params[key].flags.c_contiguous and single.params[key].flags.writeable


def test_a_callable():
    layer = fm.Linear(3, 2, init=lambda shape, generator, dtype: np.full(shape, 0.5, dtype, order="F"), rng=0)
    assert (layer.params["weight"] == 0.5).all() and layer.params["weight"].flags.c_contiguous
    with pytest.raises(ValueError, match=r"init gave float64 of shape \(3, 2\); expected float32 of shape \(2, 3\)"):
        fm.Linear(3, 2, init=lambda shape, generator, dtype: np.zeros(shape[::-1]))


def test_numbers_beyond_the_dtype():
    for init in (fm.init.Normal(1e300), lambda shape, generator, dtype: np.full(shape, 1e300)):
        with pytest.raises(ValueError, match="init: weight is .* at row 0, column 0; expected numbers of float32"):
            fm.Linear(3, 2, init=init, rng=0)


def test_bad_names():
    for init in ("glorot", None, 3):
        with pytest.raises(ValueError, match=f"init is {init!r}; expected a callable or one of 'default', 'normal'"):
            fm.Linear(3, 2, init=init)
    with pytest.raises(ValueError, match="std is -1"):
        fm.init.Normal(-1)


def test_seeds():
    assert as_seed(5) == 5 and as_seed(np.uint64(2**64 - 1)) == 2**64 - 1
    assert as_seed(None) != as_seed(None) and 0 <= as_seed(None) < 2**64
    assert as_seed(np.random.default_rng(1)) == as_seed(np.random.default_rng(1))
    for rng in (-1, 2**64, True, 1.0, "1", np.random.RandomState(1)):
        with pytest.raises(ValueError, match="expected an integer from 0 to 2"):
            as_seed(rng)
    draws = {layer_generator(seed, layer).random() for seed in (0, 1, 2**40) for layer in range(4)}
    assert len(draws) == 12
