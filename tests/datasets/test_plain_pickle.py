"""The safe pickle reader: it calls nothing, and checks sizes before it allocates memory."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp._common.errors import DataError
from fastmlp.datasets.plain_pickle import as_uint8_matrix, read_plain_pickle

MATRIX = np.arange(12, dtype=np.uint8).reshape(3, 4)


def read(raw):
    return read_plain_pickle(raw, "made")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_as_python_3_pickles_them(protocol, order):
    batch = read(pickle.dumps({b"data": np.array(MATRIX, order=order), "labels": [1, -2, 300]}, protocol))
    np.testing.assert_array_equal(as_uint8_matrix(batch[b"data"], "made", 4), MATRIX)
    assert batch["labels"] == [1, -2, 300]


def test_arrays_as_python_2_pickled_them(python2_pickle):
    batch = read(python2_pickle({"data": MATRIX, "labels": [3, 70000], "long": "x" * 300}))
    np.testing.assert_array_equal(as_uint8_matrix(batch[b"data"], "made", 4), MATRIX)
    assert batch[b"labels"] == [3, 70000] and batch[b"long"] == b"x" * 300


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data_comes_back(protocol):
    value = {"a": [1, (2, 3), (), ("x",), None, True, False, -(2**40)], "b": {"c": []}, "d": "ü" * 300}
    value["again"] = value["a"]
    assert read(pickle.dumps(value, protocol)) == value


class Foreign:
    def __init__(self, callable, *arguments):
        self.parts = callable, arguments

    def __reduce__(self):
        return self.parts


@pytest.mark.parametrize("protocol", [2, 4])
def test_foreign_names_are_refused_by_name_and_not_called(tmp_path, protocol):
    trace = tmp_path / "called"
    raw = pickle.dumps({"data": Foreign(os.system, f"touch {trace}")}, protocol)
    with pytest.raises(DataError, match=rf"made .*names {os.system.__module__}\.system"):
        read(raw)
    assert not trace.exists()
    pickle.loads(raw)
    assert trace.exists()  # the file was a working attack


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy.f2py", "_reconstruct"),
        ("numpy", "ndarray.tofile"),
    ],
)
def test_only_the_names_of_arrays_are_admitted(module, name):
    with pytest.raises(DataError, match=f"names {module}.{name}, and only NumPy arrays are admitted"):
        read(f"\x80\x02c{module}\n{name}\n.".encode("latin-1"))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x80",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x01N.",
        b"\x80\x06N.",
        b"not a pickle",
        b"\x80\x02(.",
        b"\x80\x02(N(Nu.",
        b"\x80\x02h\x05.",
        b"\x80\x02q\x05.",
        b"\x80\x02N(Ne.",
        b"\x80\x02}(Nu.",
        b"\x80\x02}(]Nu.",
        b"\x80\x02Nt.",
        b"\x80\x02NNR.",
        b"\x80\x02N)R.",
        b"\x80\x02]Nb.",
        b"\x80\x02Nb.",
        b"\x80\x04NN\x93.",
        b"\x80\x02)\x81.",
        b"\x80\x02(ios\nsystem\n.",
        b"\x80\x02P1\n.",
        b"\x80\x02cnumpy\nndarray\nK\x05\x85R.",
        b"\x80\x02cnumpy\ndtype\n)R.",
        b"\x80\x02c" + b"x" * 300 + b"\ny\n.",
        b"\x80\x02T\xff\xff\xff\xffxx.",
        b"\x80\x04\x95\x10\0\0\0\0\0\0",
    ],
)
def test_damaged_pickles(raw):
    with pytest.raises(DataError, match="made is not a batch of CIFAR-10"):
        read(raw)


def test_cut_at_every_byte(python2_pickle):
    for raw in (python2_pickle({"data": MATRIX, "labels": [1, 2, 3]}), pickle.dumps({"data": MATRIX}, 4)):
        for cut in range(len(raw)):
            with pytest.raises(DataError):
                read(raw[:cut])


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"


def array_pickle(shape, dtype=b"u1", values=b"U\x02ab", fortran=b"\x89"):
    made = b"cnumpy\ndtype\nU" + bytes([len(dtype)]) + dtype + b"K\x00K\x01\x87R"
    return b"\x80\x02" + RECONSTRUCT + b"(K\x01" + shape + made + fortran + values + b"tb."


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (array_pickle(b"K\x01K\x02\x86", b"O8"), "dtype O8, expected uint8"),
        (array_pickle(b"K\x01K\x02\x86", b"f8"), "dtype f8, expected uint8"),
        (array_pickle(b"K\x02K\x02\x86"), "holds 2 bytes, expected 4 bytes"),
        (array_pickle(b"K\x01K\x01\x86"), r"shape \(1, 1\), expected \(rows, 2\)"),
        (array_pickle(b"K\x02\x85"), "no shape of two sizes"),
        (array_pickle(b"K\x02"), "no shape of two sizes"),
        (array_pickle(b"J\xff\xff\xff\xffJ\xfe\xff\xff\xff\x86"), "no shape of two sizes"),
        (array_pickle(b"\x88K\x02\x86"), "no shape of two sizes"),
        (array_pickle(b"J\xff\xff\xff\x7fK\x02\x86"), "expected 4294967294 bytes"),
        (array_pickle(b"\x8a\x10" + b"\x7f" * 16 + b"K\x02\x86"), "holds 2 bytes"),
        (array_pickle(b"K\x01K\x02\x86", values=b"]"), "holds a list, expected 2 bytes"),
        (b"\x80\x02" + RECONSTRUCT + b".", "dtype no name"),
        (b"\x80\x02" + RECONSTRUCT + b"(K\x01K\x02NNNtb.", "dtype no name"),
        (b"\x80\x02].", "type list, expected a uint8 array"),
        (b"\x80\x02cnumpy\nndarray\n.", "expected a uint8 array"),
    ],
)
def test_other_arrays_are_refused(raw, words):
    with pytest.raises(DataError, match=words):
        as_uint8_matrix(read(raw), "made", 2)


@pytest.mark.slow
def test_small_files_that_would_fill_the_memory_of_an_unpickler():
    bombs = [
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a memo of two thousand million places
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",  # a bytearray of a terabyte
        b"\x80\x05\x8e" + struct.pack("<Q", 1 << 62) + b".",
        b"\x80\x02" + RECONSTRUCT.replace(b"K\x00\x85", b"J\xff\xff\xff\x7f\x85") + b".",
        array_pickle(b"J\xff\xff\xff\x7fK\x02\x86"),
        # One long text, encoded a thousand times.
        b"\x80\x02c_codecs\nencode\nq\x00X"
        + struct.pack("<I", 60000)
        + b"a" * 60000
        + b"q\x01"
        + b"U\x06latin1q\x02]"
        + b"h\x00h\x01h\x02\x86Ra" * 1000
        + b".",
        b"\x80\x02" + b"(" * 100000 + b".",
        b"\x80\x02]" + b"\x85" * 100000 + b".",
    ]
    for raw in bombs:
        tracemalloc.start()
        try:
            as_uint8_matrix(read(raw), "made", 2)
        except DataError:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 12 << 20, raw[:40]


@pytest.mark.slow
def test_deeply_nested_keys_are_refused():
    with pytest.raises(DataError):
        read(b"\x80\x02})" + b"\x85" * 200000 + b"Ns.")


@pytest.mark.slow
@settings(deadline=None, derandomize=True, database=None, max_examples=500)
@given(st.data())
def test_flipped_bytes_never_crash(data):
    raw = bytearray(array_pickle(b"K\x01K\x02\x86"))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        as_uint8_matrix(read(bytes(raw)), "made", 2)
    except DataError as error:
        assert str(error).startswith("made")


@pytest.mark.slow
@settings(deadline=None, derandomize=True, database=None, max_examples=500)
@given(st.lists(st.sampled_from(b"}](.tea)uscRbNKhqUTJ\x85\x86\x87\x88\x93\x94\x8a\x00\x01\n"), max_size=40))
def test_random_opcodes_never_crash(codes):
    with contextlib.suppress(DataError):
        read(b"\x80\x02" + bytes(codes))


def test_the_made_python_2_pickle_is_one_that_python_reads(python2_pickle):
    batch = pickle.Unpickler(io.BytesIO(python2_pickle({"labels": [1, 2]})), encoding="bytes").load()
    assert batch == {b"labels": [1, 2]}
