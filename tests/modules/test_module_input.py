"""Bad arrays into every module: one or two sentences that name what was seen and what was expected."""

import numpy as np
import pytest

import fastmlp as fm

MODULES = {
    "Linear": lambda: fm.Linear(4, 3, rng=0),
    "ReLU": fm.ReLU,
    "Softmax": fm.Softmax,
    "LayerNorm": lambda: fm.LayerNorm(4),
    "Normalize": lambda: fm.Normalize(np.zeros(4), np.ones(4)),
    "Dropout": lambda: fm.Dropout(rng=0),
    "Sequential": lambda: fm.Sequential(fm.Linear(4, 3, rng=0), fm.ReLU()),
    "MLP": lambda: fm.MLP(4, [5], 3, rng=0),
}
WITH_WIDTH = ["Linear", "LayerNorm", "Normalize", "Sequential", "MLP"]


class Uncomputable:
    def __repr__(self):
        return "Uncomputable"


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("method", ["forward", "infer"])
def test_wrong_rank(backend, name, method):
    for shape in [(4,), (2, 3, 4), ()]:
        with pytest.raises(ValueError) as error:
            getattr(MODULES[name](), method)(np.zeros(shape))
        assert str(error.value).startswith(f"{name} expected x of shape (N, ")
        assert str(error.value).endswith(f"got {shape}.")


@pytest.mark.parametrize("name", WITH_WIDTH)
def test_wrong_width(backend, name):
    with pytest.raises(ValueError, match=rf"^{name} expected x of shape \(N, 4\), got \(5, 3\)\.$"):
        MODULES[name]().forward(np.zeros((5, 3)))


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(
    "x, dtype",
    [
        (np.full((2, 4), None), "object"),
        (np.full((2, 4), "1"), "<U1"),
        (np.full((2, 4), 1j), "complex128"),
        (np.zeros((2, 4), "M8[s]"), r"datetime64\[s\]"),
        (np.zeros((2, 4), "f4,f4"), r"\[\('f0'"),
        ([[Uncomputable()] * 4], "object"),
        (None, "object"),
    ],
)
def test_not_numbers(backend, name, x, dtype):
    with pytest.raises(ValueError, match=rf"{name}: x has dtype {dtype}.*; expected bools, integers or floats"):
        MODULES[name]().forward(x)


@pytest.mark.parametrize("name", MODULES)
def test_ragged_lists(backend, name):
    with pytest.raises(ValueError, match=f"{name}: x is not a rectangular array of numbers"):
        MODULES[name]().forward([[1, 2, 3, 4], [1, 2]])


def test_masked_entries_are_not_numbers(backend):
    x = np.ma.masked_array(np.ones((2, 4)), mask=[[0, 0, 0, 1], [0, 0, 0, 0]])
    with pytest.raises(ValueError, match="masked array with masked entries"):
        fm.ReLU().forward(x)
    assert (fm.ReLU().forward(np.ma.masked_array(np.ones((2, 4)))) == 1).all()


@pytest.mark.parametrize("name", MODULES)
def test_bad_gradients(backend, name):
    module = MODULES[name]()
    y = module.forward(np.ones((5, 4)))
    for dy in (np.zeros((5, y.shape[1] + 1)), np.zeros((1, y.shape[1])), np.zeros(y.shape[1]), 1.0):
        shapes = (str(y.shape), str(np.shape(dy)))
        with pytest.raises(ValueError) as error:
            module.backward(dy)
        assert str(error.value).startswith(f"{name}.backward expected dy of shape ")
        assert all(shape in str(error.value) for shape in shapes)
    with pytest.raises(ValueError, match=f"{name}.backward: dy has dtype object"):
        module.backward(np.full(y.shape, None))


@pytest.mark.parametrize("name", MODULES)
def test_layouts_simply_work(backend, name, rng):
    x = rng.normal(size=(6, 4)).astype(np.float32)
    module = MODULES[name]().eval()
    ref = module.forward(x)
    read_only = x.copy()
    read_only.flags.writeable = False
    for other in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], x[::-1].copy()[::-1], read_only):
        y = module.forward(other)
        np.testing.assert_array_equal(ref, y)
        assert y.flags.c_contiguous and y.flags.writeable
        module.backward(np.asfortranarray(y))


@pytest.mark.parametrize("name", MODULES)
def test_nan_goes_through(backend, name):
    """A module computes what it is given; data are checked where they come in (Trainer)."""
    module = MODULES[name]().eval()
    x = np.ones((2, 4), np.float32)
    x[0, 0] = np.nan
    y = module.forward(x)
    assert np.isnan(y[0]).any() and np.isfinite(y[1]).all()


@pytest.mark.parametrize("name", MODULES)
def test_no_rows(backend, name):
    module = MODULES[name]()
    y = module.forward(np.empty((0, 4), np.float32))
    assert y.shape[0] == 0 and module.backward(y).shape == (0, 4)


def test_float64_beyond_float32_is_inf(backend):
    assert fm.Identity().forward(np.full((1, 1), 1e300)).dtype == np.float64
    layer = fm.Normalize([0.0], [1.0])
    assert layer.forward(np.full((1, 1), 1e300)).tolist() == [[np.inf]]


@pytest.mark.parametrize("features", [0, -3, 2.0, True, "4", None, np.nan])
def test_bad_sizes(features):
    with (
        fm.use_backend("numpy"),
        pytest.raises(ValueError, match=r"in_features is .*; expected an integer of at least 1"),
    ):
        fm.Linear(features, 3)
