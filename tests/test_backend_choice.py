"""Choice of the backend of modules: `use_backend`, `set_backend`, FASTMLP_BACKEND, numba."""

import importlib.util
import threading

import numpy as np
import pytest

import fastmlp as fm
from fastmlp import _kernels


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.setattr(_kernels, "_process_wide", None)
    monkeypatch.delenv("FASTMLP_BACKEND", raising=False)


def current():
    return fm.ReLU().backend_name


def in_a_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_numba_is_the_default():
    assert current() == fm.MSELoss().backend_name == "numba"


def test_the_order_of_the_choices(monkeypatch):
    monkeypatch.setenv("FASTMLP_BACKEND", "numpy")
    assert current() == fm.MSELoss().backend_name == "numpy"
    fm.set_backend("numba")
    assert current() == "numba"
    with fm.use_backend("numpy"):
        assert current() == "numpy"
        with fm.use_backend("numba"):
            assert current() == "numba"
        assert current() == "numpy"
    assert current() == "numba"


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv("FASTMLP_BACKEND", "")
    assert current() == "numba"


def test_threads():
    """`set_backend` holds in every thread, `use_backend` in its own."""
    fm.set_backend("numpy")
    assert in_a_thread(current) == "numpy"
    with fm.use_backend("numba"):
        assert in_a_thread(current) == "numpy"


def test_an_error_leaves_the_block_and_the_choice():
    with pytest.raises(ZeroDivisionError), fm.use_backend("numpy"):
        raise ZeroDivisionError
    assert current() == "numba"


@pytest.mark.parametrize("name", ["CUDA", "NumPy", "tpu"])
def test_a_backend_that_is_not_there(monkeypatch, name):
    message = rf"There is no backend '{name}'; expected one of 'numpy', 'numba'"
    fm.set_backend("numpy")
    for choose in (fm.set_backend, fm.get_backend, fm.ReLU().to, fm.MSELoss().to):
        with pytest.raises(fm.BackendError, match=message):
            choose(name)
    with pytest.raises(fm.BackendError, match=message), fm.use_backend(name):
        pass
    assert current() == "numpy"
    monkeypatch.setattr(_kernels, "_process_wide", None)
    monkeypatch.setenv("FASTMLP_BACKEND", name)
    with pytest.raises(fm.BackendError, match=message):
        fm.Linear(2, 2)


def test_a_backend_whose_package_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("fastmlp._kernels._has_library", lambda: False)
    with pytest.raises(fm.BackendError, match="backend 'numba' needs numba, which is not installed: pip install numba"):
        fm.set_backend("numba")


def test_compiled_kernels_need_no_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("fastmlp._kernels._has_library", lambda: True)
    assert fm.get_backend().name == "numba"


def test_both_backends_give_one_result(rng):
    x, results = rng.normal(size=(5, 4)), []
    for name in ("numpy", "numba"):
        with fm.use_backend(name):
            results.append(fm.MLP(4, [6], 3, "tanh", dtype=np.float64, rng=0).forward(x))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-13, atol=1e-15)
