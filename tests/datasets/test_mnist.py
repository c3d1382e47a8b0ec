"""MNIST and Fashion-MNIST from files on disk."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from fastmlp._common.errors import DataError
from fastmlp.datasets import load


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("nested", [False, True])
def test_files_are_found_and_read(tmp_path, write_mnist, mnist_arrays, name, zipped, nested):
    write_mnist(tmp_path / name if nested else tmp_path, zipped=zipped)
    data = load(name, data_dir=tmp_path, download=False)
    images, labels, test_images, test_labels = mnist_arrays
    np.testing.assert_array_equal(data.X, images.reshape(30, 784))
    np.testing.assert_array_equal(data.y, labels)
    np.testing.assert_array_equal(data.X_test, test_images.reshape(12, 784))
    np.testing.assert_array_equal(data.y_test, test_labels)
    assert data.X.dtype == np.uint8 and data.y.dtype == np.int64
    assert data.X.flags.c_contiguous and data.X.flags.writeable
    assert (data.name, data.image_shape, data.task) == (name, (1, 28, 28), "classification")
    assert data.classes[9] == ("9" if name == "mnist" else "Ankle boot") and len(data.classes) == 10


def test_the_environment_variable_names_the_folder(tmp_path, monkeypatch, write_mnist):
    write_mnist(tmp_path / "elsewhere" / "mnist")
    monkeypatch.setenv("FASTMLP_DATA", str(tmp_path / "elsewhere"))
    assert len(load("mnist", download=False).X) == 30


def test_the_two_sets_are_never_mixed(tmp_path, write_mnist):
    write_mnist(tmp_path / "mnist")
    with pytest.raises(DataError, match=r"fashion-mnist.train-images-idx3-ubyte.gz is missing"):
        load("fashion-mnist", data_dir=tmp_path, download=False)


def test_a_missing_file_is_named_with_its_place(tmp_path, write_mnist):
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError) as caught:
        load("mnist", data_dir=tmp_path, download=False)
    assert str(tmp_path / "t10k-labels-idx1-ubyte.gz") in str(caught.value)
    assert "download=False" in str(caught.value)


@pytest.mark.parametrize(
    ("place", "change", "words"),
    [
        (0, lambda a: a[:, :27], r"uint8 values of shape \(30, 27, 28\), expected uint8 \(N, 28, 28\)"),
        (0, lambda a: a.astype(np.int16), "int16 values"),
        (0, lambda a: a[:29], "30 labels, expected one for each of the 29 images"),
        (1, lambda a: a[:5], "5 labels, expected one for each of the 30 images"),
        (1, lambda a: a + np.uint8(1), "label 10, expected 0 to 9"),
        (1, lambda a: a.astype(np.int32), r"int32 values of shape \(30,\), expected uint8"),
        (3, lambda a: a[:, None], r"uint8 values of shape \(12, 1\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, write_mnist, mnist_arrays, place, change, words):
    arrays = list(mnist_arrays)
    arrays[place] = change(arrays[place])
    write_mnist(tmp_path, arrays=arrays)
    with pytest.raises(DataError, match=words) as caught:
        load("mnist", data_dir=tmp_path, download=False)
    assert str(tmp_path) in str(caught.value)


def test_no_images_at_all_is_an_error(tmp_path, write_mnist, mnist_arrays):
    write_mnist(tmp_path, arrays=[array[:0] for array in mnist_arrays])
    with pytest.raises(DataError, match="at least one"):
        load("mnist", data_dir=tmp_path, download=False)


def test_a_truncated_gzip_is_named(tmp_path, write_mnist):
    path = write_mnist(tmp_path) / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"train-images.*truncated"):
        load("mnist", data_dir=tmp_path, download=False)


def test_trailing_bytes_are_refused(tmp_path, write_mnist):
    path = write_mnist(tmp_path) / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"x"))
    with pytest.raises(DataError, match="holds 13 bytes after its header, expected 12"):
        load("mnist", data_dir=tmp_path, download=False)
