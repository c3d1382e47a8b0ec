"""Tables of NumPy arrays: npz, and pairs of npy files."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp._common.errors import DataError
from fastmlp.datasets import load
from fastmlp.io.array_files import read_npy, read_npz

RNG = np.random.default_rng(3)
X = RNG.normal(size=(40, 3))
LABELS = np.arange(40) % 3
VALUES = RNG.normal(size=40)


def test_npz_with_a_test_part(tmp_path):
    np.savez(tmp_path / "a.npz", X=X[:30], y=VALUES[:30], X_test=X[30:], y_test=VALUES[30:], other=[1])
    data = load(tmp_path / "a.npz")
    np.testing.assert_array_equal(data.X, X[:30].astype(np.float32))
    np.testing.assert_array_equal(data.y_test, VALUES[30:])
    assert data.task == "regression" and data.y.dtype == np.float64
    assert data.feature_names is None and data.image_shape is None
    with pytest.raises(DataError, match="test part of its own"):
        load(tmp_path / "a.npz", test=tmp_path / "a.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_that_is_split(tmp_path, save):
    save(tmp_path / "a.npz", X=X.astype(np.float32), y=LABELS)
    data = load(tmp_path / "a.npz", test_size=0.25)
    assert len(data.X_test) == 10 and data.classes == ("0", "1", "2") and data.y.dtype == np.int64


@pytest.mark.parametrize("shape", [(40, 784), (40, 28, 28), (40, 1, 28, 28)])
def test_bytes_stay_bytes(tmp_path, shape):
    images = RNG.integers(0, 256, shape, dtype=np.uint8)
    np.savez(tmp_path / "a.npz", X=images, y=LABELS)
    data = load(tmp_path / "a.npz")
    assert data.X.dtype == np.uint8 and data.X.shape == (32, 784) and data.preprocessing is None
    assert data.image_shape == (None if len(shape) == 2 else (1, 28, 28))


def test_orders_and_byte_orders(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.asfortranarray(X).astype(">f8"), y=VALUES.astype(">f4"))
    np.savez(tmp_path / "b.npz", X=X, y=VALUES.astype("f4"))
    for ours, theirs in zip(load(tmp_path / "a.npz"), load(tmp_path / "b.npz"), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == np.float32


def test_labels_as_strings_and_columns(tmp_path):
    np.savez(tmp_path / "a.npz", X=X, y=np.array(["u", "v"] * 20)[:, None])
    assert load(tmp_path / "a.npz").classes == ("u", "v")
    np.savez(tmp_path / "a.npz", X=X > 0, y=np.array([b"u", b"v"] * 20))
    data = load(tmp_path / "a.npz")
    assert data.classes == ("u", "v") and data.X.dtype == np.uint8


def test_missing_numbers_get_the_training_median(tmp_path):
    rows = np.array([[1.0], [np.nan], [3.0], [100.0]])
    np.savez(tmp_path / "a.npz", X=rows, y=[0, 1, 0, 1], X_test=[[np.nan], [5.0]], y_test=[0, 1])
    data = load(tmp_path / "a.npz")
    assert data.X.ravel().tolist() == [1, 3, 3, 100] and data.X_test.ravel().tolist() == [3, 5]


def test_pairs_of_npy_files(tmp_path):
    np.save(tmp_path / "set_X.npy", X)
    np.save(tmp_path / "set_y.npy", LABELS)
    np.save(tmp_path / "new_X.npy", X[:5])
    np.save(tmp_path / "new_y.npy", LABELS[:5])
    first, second = load(tmp_path / "set_X.npy"), load(tmp_path / "set_X.npy", target="set_y.npy")
    third = load(tmp_path / "set_X.npy", target=str(tmp_path / "set_y.npy"))
    for ours, again, once_more in zip(first, second, third, strict=True):
        np.testing.assert_array_equal(ours, again)
        np.testing.assert_array_equal(ours, once_more)
    assert len(load(tmp_path / "set_X.npy", test=tmp_path / "new_X.npy").X_test) == 5
    np.save(tmp_path / "alone.npy", np.c_[X, LABELS])
    data = load(tmp_path / "alone.npy", target=-1, task="classification")
    assert data.X.shape == (32, 3) and data.classes == ("0", "1", "2")
    with pytest.raises(DataError, match=r"alone.npy needs a target.*alone_y.npy"):
        load(tmp_path / "alone.npy")
    with pytest.raises(DataError, match=r"none.npy cannot be read: No such file"):
        load(tmp_path / "alone.npy", target="none.npy")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"X": X}, "has the arrays X; expected X and y"),
        ({"y": LABELS}, "has the arrays y; expected X and y"),
        ({"X": X, "y": LABELS, "X_test": X}, "perhaps X_test and y_test"),
        ({"X": X, "y": LABELS[:5]}, r"\[y\] has shape \(5,\); expected \(40,\)"),
        ({"X": X, "y": np.eye(40)}, r"\[y\] has shape \(40, 40\)"),
        ({"X": X[:, 0], "y": LABELS}, r"\[X\] has shape \(40,\)"),
        ({"X": X.astype(str), "y": LABELS}, "expected numbers"),
        ({"X": X + 1j, "y": LABELS}, "dtype complex128"),
        ({"X": X, "y": LABELS * 0}, r"\[y\] has one class only, 0|0 in every row"),
        ({"X": X[:0], "y": LABELS[:0]}, "is empty"),
        ({"X": np.where(X > 1, np.inf, X), "y": LABELS}, "column [012] holds inf"),
        ({"X": X, "y": np.where(X[:, 0] > 1, np.nan, VALUES)}, r"missing in \d+ of 40 rows"),
        ({"X": X, "y": LABELS, "X_test": X[:, :2], "y_test": LABELS}, "lacks the column '2'"),
        ({"X": X, "y": LABELS, "X_test": X[:3], "y_test": [0, 1, 7]}, "label '7'"),
        ({"X": np.zeros(40, [("a", "f8")]), "y": LABELS}, "expected booleans, real numbers or strings"),
        ({"X": X, "y": np.zeros(40, "M8[s]")}, "expected booleans, real numbers or strings"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=words) as caught:
        load(tmp_path / "a.npz")
    assert "a.npz" in str(caught.value)


@pytest.mark.parametrize("key", ["X", "y"])
def test_objects_are_never_unpickled(tmp_path, key):
    arrays = {"X": X, "y": LABELS} | {key: np.array([print] * 40, dtype=object)}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=rf"\[{key}\] holds Python objects"):
        load(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", arrays[key])
    with pytest.raises(DataError, match=r"b\.npy holds Python objects"):
        load(tmp_path / "b.npy", target=0)


def npy_bytes(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def test_truncated_and_oversized_npy(tmp_path):
    whole, path = npy_bytes(np.c_[X, LABELS]), tmp_path / "a.npy"
    for raw in (*(whole[:cut] for cut in range(0, len(whole), 7)), whole + b"x", b"text"):
        path.write_bytes(raw)
        with pytest.raises(DataError, match=r"a\.npy"):
            load(path, target=-1)
    path.write_bytes(whole + b"123")
    with pytest.raises(DataError, match="holds 1283 bytes of values, expected 1280"):
        load(path, target=-1)


def test_truncated_and_corrupt_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, X=X, y=LABELS)
    whole = path.read_bytes()
    for cut in range(0, len(whole), 11):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"a\.npz"):
            load(path)
    place = whole.index(b"X.npy") + 60
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
    with pytest.raises(DataError, match=r"a\.npz"):
        load(path)


def giant_npy():
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776, 8), }"
    header = header.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 16


def test_headers_never_allocate_what_is_not_there(tmp_path):
    (tmp_path / "a.npy").write_bytes(giant_npy())
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("X.npy", giant_npy())
    # An archive whose directory claims a terabyte.
    raw = (tmp_path / "a.npz").read_bytes()
    size = struct.pack("<I", len(giant_npy()))
    (tmp_path / "b.npz").write_bytes(raw.replace(size, b"\xf0\xff\xff\xff"))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="expected 70368744177664"):
            read_npy(tmp_path / "a.npy")
        with pytest.raises(DataError, match="expected 70368744177664"):
            read_npz(tmp_path / "a.npz", ("X",))
        with pytest.raises(DataError, match=r"b\.npz"):
            read_npz(tmp_path / "b.npz", ("X",))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("npy")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required:UserWarning")
@settings(deadline=None, derandomize=True, database=None, max_examples=300)
@given(places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_flipped_bytes_never_crash(scratch, suffix, places):
    path = scratch / f"a.{suffix}"
    if suffix == "npy":
        whole = bytearray(npy_bytes(X[:4]))
    else:
        out = io.BytesIO()
        np.savez_compressed(out, X=X[:4], y=LABELS[:4])
        whole = bytearray(out.getvalue())
    for place, value in places:
        whole[place % len(whole)] = value
    path.write_bytes(whole)
    try:
        read_npy(path) if suffix == "npy" else read_npz(path, ("X", "y"))
    except DataError as error:
        assert str(path) in str(error)
