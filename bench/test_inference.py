"""Predictions of a frozen model: ``pytest bench/ --benchmark-only``.

``fastmlp bench --inference`` compares them with other libraries.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.inference.kernels import inference_kernels

NETS = [(64, 64, 64, 4), (30, 64, 64, 2), (784, 512, 512, 10)]


@pytest.mark.skipif(inference_kernels() is None, reason="no compiled kernels here")
@pytest.mark.parametrize("rows", [1, 10_000])
@pytest.mark.parametrize("sizes", NETS, ids=lambda sizes: "-".join(map(str, sizes)))
def test_predictor(benchmark, sizes, rows):
    with fm.use_backend("numpy"):
        model = fm.MLP(sizes[0], sizes[1:-1], sizes[-1], rng=0)
    x = np.random.default_rng(0).normal(size=(rows, sizes[0])).astype(np.float32)
    y = benchmark(fm.Predictor(model), x)
    np.testing.assert_allclose(y, model.infer(x), rtol=1e-3, atol=1e-5)
