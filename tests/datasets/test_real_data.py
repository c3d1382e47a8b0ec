"""The official files of the data sets, if FASTMLP_TEST_DATA names a folder with them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.datasets import load


def test_mnist(real_data):
    if not (real_data / "mnist").is_dir():
        pytest.skip("the folder of real data has no mnist/")
    data = load("mnist", data_dir=real_data, download=False)
    assert (data.X.shape, data.X_test.shape) == ((60000, 784), (10000, 784))
    assert np.bincount(data.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.y_test[:5].tolist() == [7, 2, 1, 0, 4]
    # Of the unpacked training images with their header, as they have always been published.
    header = bytes.fromhex("00000803 0000ea60 0000001c 0000001c")
    digest = hashlib.md5(header + data.X.tobytes(), usedforsecurity=False).hexdigest()
    assert digest == "6bbc9ace898e44ae57da46a324031adb"


def test_cifar10(real_data):
    if not any(
        (real_data / name).exists() for name in ("cifar-10-batches-py", "cifar-10-python.tar.gz", "data_batch_1")
    ):
        pytest.skip("the folder of real data has no CIFAR-10 in its official layout")
    data = load("cifar10", data_dir=real_data, download=False)
    assert (data.X.shape, data.X_test.shape) == ((50000, 3072), (10000, 3072))
    assert np.bincount(data.y).tolist() == [5000] * 10 and np.bincount(data.y_test).tolist() == [1000] * 10
    assert data.classes[0] == "airplane" and data.classes[9] == "truck"
    # Mean red, green and blue; a copy that went through JPEG agrees to a thousandth.
    means = data.X.reshape(-1, 3, 1024).mean(axis=(0, 2)) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=1e-3)


def test_a_short_run_on_mnist_learns(real_data):
    """300 steps of the command line's net; full runs are in docs/reproduction.md."""
    if not (real_data / "mnist").is_dir():
        pytest.skip("the folder of real data has no mnist/")
    X, y, X_test, y_test = load("mnist", data_dir=real_data, download=False)
    scaling = fm.Normalize(np.zeros(784), np.full(784, 255.0))
    model = fm.MLP(784, [128], 10, normalize=scaling, rng=42)
    trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.Adam(lr=1e-3))
    trainer.fit(X, y, batch_size=128, max_steps=300, rng=42)
    assert trainer.evaluate(X_test, y_test)["accuracy"] > 0.92
