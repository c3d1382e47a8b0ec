"""Kernels at the shapes of the CIFAR-10 experiment and at small ones: ``pytest bench/ --benchmark-only``."""

from __future__ import annotations

import numpy as np
import pytest


def test_linear_forward(benchmark, backend, shape, draw):
    n, inputs, outputs = shape
    x, weight, bias, y = draw(n, inputs), draw(outputs, inputs), draw(outputs), np.empty((n, outputs), np.float32)
    benchmark(backend.linear_forward, x, weight, bias, y)
    np.testing.assert_allclose(y, x @ weight.T + bias, rtol=1e-3, atol=1e-3 * np.sqrt(inputs))


def test_linear_backward(benchmark, backend, shape, draw):
    n, inputs, outputs = shape
    dy, x, weight = draw(n, outputs), draw(n, inputs), draw(outputs, inputs)
    dx, dweight, dbias = np.empty_like(x), np.empty_like(weight), np.empty(outputs, np.float32)
    benchmark(backend.linear_backward, dy, x, weight, dx, dweight, dbias)
    np.testing.assert_allclose(dweight, dy.T @ x, rtol=1e-3, atol=1e-3 * np.sqrt(n))


@pytest.mark.parametrize("size", [(200, 10), (32, 2), (100, 1000)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_softmax_cross_entropy(benchmark, backend, size, draw):
    x, target = draw(*size), np.arange(size[0]) % size[1]
    scale, losses, dx = np.full(size[0], 1 / size[0], np.float32), np.empty(size[0], np.float32), np.empty_like(x)
    benchmark(backend.cross_entropy, x, target, None, 0.0, scale, losses, dx)
    assert abs(dx.sum()) < 1e-4  # softmax minus a distribution: every row sums to 0


@pytest.mark.parametrize("kind", ["relu", "elu", "tanh", "sigmoid", "gelu", "silu", "softplus"])
def test_activation_forward(benchmark, backend, kind, draw):
    x, y = draw(200, 100), np.empty((200, 100), np.float32)
    benchmark(backend.activation_forward, kind, 1.0, x, y)
    assert np.isfinite(y).all()


@pytest.mark.parametrize("kind", ["relu", "elu", "tanh", "gelu"])
def test_activation_backward(benchmark, backend, kind, draw):
    x, dy = draw(200, 100), draw(200, 100)
    y, dx = np.empty_like(x), np.empty_like(x)
    backend.activation_forward(kind, 1.0, x, y)
    benchmark(backend.activation_backward, kind, 1.0, dy, x, y, dx)
    assert np.isfinite(dx).all()
