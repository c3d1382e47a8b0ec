"""Fixtures of the pytest benchmarks: both CPU backends, one thread, and the layer shapes."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from fastmlp._kernels import get_backend

# (batch, inputs, outputs): layers of the CIFAR-10 experiment with one and with three hidden layers, and small layers.
SHAPES = [(200, 3072, 100), (200, 100, 10), (100, 3072, 50), (100, 50, 40), (32, 64, 64), (1, 64, 64)]


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    """Backend module."""
    return get_backend(request.param)


@pytest.fixture(params=SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def shape(request):
    """(N, I, O)."""
    return request.param


@pytest.fixture(autouse=True)
def one_thread():
    """Run BLAS on one thread, like the kernels."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def draw():
    """Function that draws float32 numbers of order 1, the same in every run."""
    rng = np.random.default_rng(20201115)
    return lambda *shape: rng.normal(size=shape).astype(np.float32)


@pytest.fixture(autouse=True)
def grouped(request):
    """Put each case into a group of its own, so that a table compares backends only."""
    benchmark = request.getfixturevalue("benchmark")
    name = request.node.name
    for backend in ("numpy", "numba"):
        name = name.replace(f"[{backend}-", "[").replace(f"-{backend}]", "]").replace(f"[{backend}]", "")
    benchmark.group = name
