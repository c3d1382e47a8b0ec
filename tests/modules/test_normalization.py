import numpy as np
import pytest
from checks import C, assert_matches, eps, floor

import fastmlp as fm


def test_normalize(backend, rng, dtype):
    mean, scale = rng.normal(size=9).astype(dtype), rng.uniform(0.5, 2, 9).astype(dtype)
    module = fm.Normalize(mean, scale, dtype=dtype)
    x, dy = rng.normal(size=(7, 9)).astype(dtype), rng.normal(size=(7, 9)).astype(dtype)
    X, M, S = x.astype(float), mean.astype(float), scale.astype(float)
    # Two roundings, the first relative to the difference.
    ref = (X - M) / S
    assert_matches(ref, module.forward(x), C * eps(dtype) * np.abs(ref) + floor(dtype), "y")
    dref = dy.astype(float) / S
    assert_matches(dref, module.backward(dy), C * eps(dtype) * np.abs(dref) + floor(dtype), "dx")
    assert not module.params and list(module.state_dict()) == ["mean", "scale"]


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int16, np.int64, np.float64])
def test_normalize_takes_raw_dtypes(backend, rng, dtype, kind):
    values = rng.integers(0, 2, size=(6, 9)).astype(kind)
    module = fm.Normalize(np.linspace(0, 1, 9), np.linspace(1, 2, 9), dtype=dtype)
    y = module.forward(values)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, module.forward(values.astype(dtype)))
    strided = np.asfortranarray(values)
    np.testing.assert_array_equal(y, module.forward(strided))


def test_fit_standard(backend, rng):
    X = rng.integers(0, 255, size=(300, 5)).astype(np.uint8)
    X[:, 2] = 77
    module = fm.Normalize.fit(X, dtype=np.float64)
    np.testing.assert_allclose(module.buffers["mean"], X.mean(axis=0), rtol=1e-14)
    std = X.std(axis=0)
    assert module.buffers["mean"][2] == 77 and module.buffers["scale"][2] == 1
    std[2] = 1
    np.testing.assert_allclose(module.buffers["scale"], std, rtol=1e-14)
    assert not np.asarray(module.forward(X))[:, 2].any()


def test_fit_beyond_the_range():
    """Sums that overflow are an error of one sentence, without NumPy's warnings beside it."""
    with fm.use_backend("numpy"):
        with pytest.raises(ValueError, match="mean is 1e[+]300 at index 0; expected numbers of float32"):
            fm.Normalize.fit(np.full((2, 1), 1e300))
        for size in (1e200, 1.5e308):
            with pytest.raises(ValueError, match="(mean|scale) is (-?inf|nan) at index 0; expected finite numbers"):
                fm.Normalize.fit(np.array([[size], [-size]]), dtype=np.float64)


def test_fit_mean_image(backend, rng):
    X = rng.integers(0, 255, size=(300, 5)).astype(np.uint8)
    module = fm.Normalize.fit(X, kind="mean-image")
    np.testing.assert_array_equal(module.buffers["mean"], X.mean(axis=0).astype(np.float32))
    assert (np.asarray(module.buffers["scale"]) == 1).all()


def test_fit_a_constant_column_that_rounds(backend):
    X = np.full((1000, 2), 0.1)
    X[0, 1] = 0.2
    module = fm.Normalize.fit(X, dtype=np.float64)
    assert module.buffers["mean"][0] == 0.1 and module.buffers["scale"][0] == 1
    assert module.buffers["scale"][1] < 1


def test_fit_a_far_off_column(backend, rng):
    """The deviation survives a mean a hundred million times as large."""
    noise = rng.normal(size=(1000, 1))
    module = fm.Normalize.fit(noise + 1e8, dtype=np.float64)
    np.testing.assert_allclose(module.buffers["scale"], noise.std(axis=0), rtol=1e-7)


def test_fit_a_memory_mapped_file(backend, rng, tmp_path):
    X = rng.normal(size=(50, 4))
    np.save(tmp_path / "x.npy", X)
    module = fm.Normalize.fit(np.load(tmp_path / "x.npy", mmap_mode="r"), dtype=np.float64)
    np.testing.assert_array_equal(module.buffers["mean"], fm.Normalize.fit(X, dtype=np.float64).buffers["mean"])


@pytest.mark.parametrize(
    "X, text",
    [
        (np.zeros((0, 3)), "has no rows"),
        (np.zeros(3), r"expected X of shape \(N, features\), got \(3,\)"),
        (np.array([[1, 2], [3, np.nan]]), "is nan at row 1, column 1; expected finite"),
        (np.array([[1, -np.inf]]), "is -inf at row 0, column 1"),
        (np.array([["a"]]), "dtype <U1; expected bools, integers or floats"),
        (np.array([[None]]), "dtype object"),
    ],
)
def test_fit_bad_input(X, text):
    with fm.use_backend("numpy"), pytest.raises(ValueError, match=text):
        fm.Normalize.fit(X)


def test_normalize_bad_arguments():
    with fm.use_backend("numpy"):
        with pytest.raises(ValueError, match=r"scale is 0.0 at column 1; expected a finite number that is not 0"):
            fm.Normalize([0, 0], [1, 0])
        with pytest.raises(ValueError, match=r"scale is 0.0 at column 0"):  # not after rounding either
            fm.Normalize([0.0], [1e-60])
        with pytest.raises(ValueError, match="scale is nan at index 0"):
            fm.Normalize([0.0], [np.nan])
        with pytest.raises(ValueError, match=r"scale has shape \(2,\); expected \(1,\)"):
            fm.Normalize([0.0], [1, 1])
        with pytest.raises(ValueError, match="kind is 'minmax'"):
            fm.Normalize.fit(np.ones((2, 2)), kind="minmax")
        module = fm.Normalize([0, 0], [1, 1])
        with pytest.raises(ValueError, match=r"scale is 0.0 at column 0"):
            module.load_state_dict({"mean": [5, 5], "scale": [0, 1]})
        assert not module.buffers["mean"].any()


@pytest.mark.parametrize("columns", [1, 2, 7, 8, 9, 16, 17, 100])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.sampled
def test_layer_norm(backend, rng, dtype, columns, affine):
    module = fm.LayerNorm(columns, affine=affine, dtype=dtype)
    if affine:
        module.params["weight"] = rng.normal(size=columns)
        module.params["bias"] = rng.normal(size=columns)
    x, dy = rng.normal(size=(6, columns)).astype(dtype), rng.normal(size=(6, columns)).astype(dtype)
    y, dx = module.forward(x), module.backward(dy)

    X, DY = x.astype(float), dy.astype(float)
    w = np.asarray(module.params["weight"], float) if affine else np.ones(columns)
    b = np.asarray(module.params["bias"], float) if affine else np.zeros(columns)
    mean, rstd = X.mean(1, keepdims=True), 1 / np.sqrt(X.var(1, keepdims=True) + 1e-5)
    z, g = (X - mean) * rstd, DY * w
    inner = g - g.mean(1, keepdims=True) - z * (g * z).mean(1, keepdims=True)
    # The mean is good to unit sqrt(C) of the row's size; what rstd makes of that is in every term.
    unit = C * eps(dtype) * np.sqrt(columns)
    z_bound = unit * (1 + np.abs(z)) * (1 + rstd * np.abs(X).max(1, keepdims=True))
    assert_matches(z * w + b, y, z_bound * np.abs(w) + C * eps(dtype) * np.abs(b) + floor(dtype), "y")
    size = np.abs(g).max(1, keepdims=True) * (1 + np.abs(z).max(1, keepdims=True)) ** 2
    relative = z_bound.max(1, keepdims=True)
    assert_matches(rstd * inner, dx, rstd * size * (3 * relative + unit) + floor(dtype), "dx")
    if affine:
        rows = C * eps(dtype) * np.sqrt(len(x))
        bound = (np.abs(DY) * z_bound).sum(0) + rows * (np.abs(DY) * np.abs(z)).sum(0)
        assert_matches((DY * z).sum(0), module.grads["weight"], bound + floor(dtype), "dweight")
        assert_matches(DY.sum(0), module.grads["bias"], rows * np.abs(DY).sum(0) + floor(dtype), "dbias")


def test_layer_norm_of_equal_columns(backend, dtype):
    """The variance is 0; eps keeps the result finite."""
    module = fm.LayerNorm(4, dtype=dtype)
    assert not np.asarray(module.forward(np.full((2, 4), 3.0))).any()
    assert np.isfinite(module.backward(np.ones((2, 4)))).all()


def test_layer_norm_bad_arguments():
    with fm.use_backend("numpy"):
        with pytest.raises(ValueError, match="eps is 0; expected a finite number above 0"):
            fm.LayerNorm(3, eps=0)
        with pytest.raises(ValueError, match="features is 0; expected an integer of at least 1"):
            fm.LayerNorm(0)
