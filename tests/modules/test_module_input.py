"""Bad arrays into every module: one or two sentences that name what was seen and what was expected."""

import numpy as np
import pytest
from checks import C, assert_matches, eps

import fastmlp as fm
from fastmlp.modules.activations import activation_types

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
        assert str(error.value).startswith(f"{name}: x has shape {shape}; expected (N, ")


@pytest.mark.parametrize("name", WITH_WIDTH)
def test_wrong_width(backend, name):
    with pytest.raises(ValueError, match=rf"^{name}: x has shape \(5, 3\); expected \(N, 4\)\.$"):
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
    y = np.asarray(fm.ReLU().forward(np.ma.masked_array(np.ones((2, 4)))))
    assert (y == 1).all()


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
        # Older NumPy versions multiply such arrays without BLAS, so that their last bits differ.
        assert_matches(ref, y, 0 if backend == "numba" else 2 * C * eps(np.float32) * 4 * max(1, np.abs(x).max()))
        assert y.flags["C_CONTIGUOUS"]
        if isinstance(y, np.ndarray):  # an array of a GPU is never read-only, and has no such flag
            assert y.flags.writeable
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


@pytest.mark.parametrize("name", WITH_WIDTH)
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_beyond_the_dtype_are_refused(backend, name, order):
    x = np.zeros((40, 4), order=order)
    x[33, 2] = -1e300
    module = MODULES[name]()
    message = "at row 33, column 2; expected numbers of float32, at most 3.403e[+]38 in size"
    for call in (module.forward, module.infer):
        with pytest.raises(ValueError, match=f"^{name}: x is -1e[+]300 {message}"):
            call(x)
    dy = np.zeros((40, module.forward(np.zeros((40, 4))).shape[1]))
    dy[33, 2] = 1e39
    with pytest.raises(ValueError, match=rf"^{name}\.backward: dy is 1e[+]39 {message}"):
        module.backward(dy)
    # What is infinite already goes through, as NaN does, and so does the largest number.
    largest = float(np.finfo(np.float32).max)
    y = np.asarray(fm.Normalize([0.0] * 2, [1.0] * 2).forward([[np.inf, largest]]))
    assert y.tolist() == [[np.inf, largest]]


def test_a_float64_module_takes_float64_s_range(backend):
    assert np.asarray(fm.Identity().forward(np.full((1, 1), 1e300))).tolist() == [[1e300]]
    assert np.asarray(fm.Normalize([0.0], [1.0], dtype=np.float64).forward([[1e300]])).tolist() == [[1e300]]


def test_layers_take_only_their_own_arguments(backend):
    """What PyTorch's layer takes, such as a dim, must not land in an argument of the base."""
    plain = [kind for kind in activation_types() if [*kind().config()] == ["type"]]
    assert fm.ReLU in plain
    for make in (*plain, fm.Softmax):
        with pytest.raises(TypeError):
            make(1)


@pytest.mark.parametrize("features", [0, -3, 2.0, True, "4", None, np.nan])
def test_bad_sizes(features):
    with (
        fm.use_backend("numpy"),
        pytest.raises(ValueError, match=r"in_features is .*; expected an integer of at least 1"),
    ):
        fm.Linear(features, 3)
