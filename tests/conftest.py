"""Fixtures that all tests share: the backends, and one seed for everything random."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from compiled import BACKENDS, COMPILED, operations

import fastmlp as fm
from fastmlp._kernels import use_backend


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


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    """Both dtypes that modules have."""
    return np.dtype(request.param)


@pytest.fixture(scope="session")
def warmed_up(tmp_path_factory):
    """A folder of compiled kernels that `fastmlp warmup` made, variables for processes that use it, what it told."""
    folder = tmp_path_factory.mktemp("kernels")
    variables = {"PYTHONPATH": str(Path(fm.__file__).parents[1]), "NUMBA_CACHE_DIR": str(folder)}
    command = [sys.executable, "-m", "fastmlp", "warmup"]
    told = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=280)
    return SimpleNamespace(folder=folder, variables=variables, told=told)
