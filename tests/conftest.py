"""Fixtures shared by all tests: backends and the random seed."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from compiled import BACKENDS, COMPILED, operations

from fastmlp._kernels import use_backend

_DTYPES = "float32", "float64"
# Tests of the number of threads do not depend on values that were measured on this machine.
os.environ.setdefault("FASTMLP_TUNING", "off")


_COMPILE = """
import numpy, fastmlp
model = fastmlp.MLP(4, [5], 3, dtype={dtype!r}, rng=0)
trainer = fastmlp.Trainer(model, fastmlp.CrossEntropyLoss(), fastmlp.SGD(0.1))
trainer.fit(numpy.eye(4), [0, 1, 2, 0], epochs=1, rng=0)
"""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist starts its workers
def pytest_sessionstart(session):
    """Compile the largest kernels once, for the cache: without it each worker would compile them at the same time."""
    if not hasattr(session.config, "workerinput") and getattr(session.config.option, "numprocesses", None):
        running = [subprocess.Popen([sys.executable, "-c", _COMPILE.format(dtype=one)]) for one in _DTYPES]
        for one in running:
            one.wait()


@pytest.hookimpl(tryfirst=True)  # before pytest deselects slow tests
def pytest_collection_modifyitems(items):
    """Mark the cases of a ``sampled`` test as slow that show no new value of any of its parameters.

    What is left takes each value of each parameter at least once; all combinations run in CI.
    """
    seen = collections.defaultdict(set)
    for item in items:
        if item.get_closest_marker("sampled"):
            values = {(name, id(value)) for name, value in item.callspec.params.items()}
            known = seen[item.nodeid.partition("[")[0]]
            if values <= known:
                item.add_marker(pytest.mark.slow)
            known |= values


@pytest.fixture(params=COMPILED)
def compiled(request):
    """The operations of each compiled backend."""
    return operations(request.param)


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Runs the test on each backend: modules made inside it belong to that one."""
    with use_backend(request.param):
        yield request.param


@pytest.fixture
def rng():
    """A generator that starts the same in every test."""
    return np.random.default_rng(20201115)


@pytest.fixture(params=[np.float32, np.float64], ids=_DTYPES)
def dtype(request):
    """Both dtypes that modules have."""
    return np.dtype(request.param)


@pytest.fixture
def interruptible():
    """Python's own handler of SIGINT, for this process and those that the test starts.

    A shell that starts the tests in the background, and some CI systems, have the signal ignored.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
