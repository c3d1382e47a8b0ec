"""Dataset, the included digits, and the names that `load` accepts."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

from fastmlp._common.errors import DataError
from fastmlp.datasets import Dataset, available, load
from fastmlp.datasets.split import split_rows


def test_digits_are_whole_and_split_as_stated():
    data = load("digits")
    X, y, X_test, y_test = data
    assert (X.shape, y.shape, X_test.shape, y_test.shape) == ((1437, 64), (1437,), (360, 64), (360,))
    assert X.dtype == X_test.dtype == np.uint8 and y.dtype == y_test.dtype == np.int64
    assert X.flags.c_contiguous and X.flags.writeable
    assert (X.min(), X.max()) == (0, 16)
    assert (data.name, data.task, data.image_shape) == ("digits", "classification", (1, 8, 8))
    assert data.classes == tuple("0123456789")
    assert data.X is X and data.y is y and data.X_test is X_test and data.y_test is y_test
    share = np.bincount(y_test) / (np.bincount(y) + np.bincount(y_test))
    assert np.abs(share - 0.2).max() < 0.006


def test_digits_are_those_of_scikit_learn_under_the_stated_recipe():
    source = pytest.importorskip("sklearn.datasets").load_digits()
    train, test = split_rows(1797, 0.2, 0, source.target)
    for array, expected in zip(
        load("digits"),
        (source.data[train], source.target[train], source.data[test], source.target[test]),
        strict=True,
    ):
        np.testing.assert_array_equal(array, expected)


def test_loading_digits_imports_nothing_heavy():
    script = (
        "import sys; from fastmlp.datasets import load; load('digits')\n"
        "print([m for m in ('pandas', 'pyarrow', 'polars', 'pooch', 'tqdm', 'requests', 'sklearn', 'numba')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_repr_says_what_it_is():
    assert repr(load("digits")) == (
        "<Dataset 'digits': classification in 10 classes; X (1437, 64) uint8, y (1437,) int64, "
        "X_test (360, 64) uint8, y_test (360,) int64>"
    )


@pytest.mark.parametrize(
    "remake",
    [copy.copy, copy.deepcopy, lambda data: pickle.loads(pickle.dumps(data))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_copies_keep_arrays_and_attributes(remake):
    data = load("digits")
    again = remake(data)
    assert type(again) is Dataset and again.__dict__ == data.__dict__
    for ours, theirs in zip(again, data, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((3, 2), (4,), (1, 2), (1,)), r"training part .*\(3, 2\).*\(4,\)"),
        (((3, 2), (3,), (1, 2), (1, 1)), r"test part .*\(1, 1\)"),
        (((3, 2), (3,), (1, 5), (1,)), "5 features; expected 2"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(shapes, words):
    with pytest.raises(DataError, match=words):
        Dataset(*(np.zeros(shape) for shape in shapes), name="made", task="regression")


def test_available_names_and_an_unknown_one():
    assert available() == ("digits", "cifar10", "mnist", "fashion-mnist")
    with pytest.raises(DataError, match=r"'imagenet'; known are digits, cifar10, mnist, fashion-mnist.*table"):
        load("imagenet")


def test_options_of_tables_do_not_fit_named_sets():
    with pytest.raises(TypeError, match="digits takes no option 'target'"):
        load("digits", target="y")
    with pytest.raises(TypeError, match="no option 'tarket'"):
        load("x.csv", tarket="y")
