"""The IDX reader: all element types, and damaged files."""

from __future__ import annotations

import contextlib
import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastmlp._common.errors import DataError
from fastmlp.datasets.idx import read_idx


@pytest.mark.parametrize("code", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("zipped", [False, True])
def test_every_type_comes_back(tmp_path, idx_bytes, code, zipped):
    array = np.arange(24).reshape(2, 3, 4).astype(code)
    path = tmp_path / "values"
    path.write_bytes(gzip.compress(idx_bytes(array)) if zipped else idx_bytes(array))
    read = read_idx(path)
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype and read.dtype.isnative
    assert read.flags.c_contiguous and read.flags.writeable


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda raw: raw[:-3],
            "holds 21 bytes after its header, expected 24 for dimensions 2 x 3 x 4 of uint8",
        ),
        (lambda raw: raw + b"12345", "holds 29 bytes after its header, expected 24"),
        (lambda raw: raw[:9], "ends within its header: 9 bytes, expected 16"),
        (lambda raw: raw[:3], "not an IDX file: it begins with 00 00 08"),
        (lambda raw: b"", "begins with nothing"),
        (lambda raw: b"\1" + raw[1:], "begins with 01 00 08 03"),
        (lambda raw: raw[:2] + b"\x0a" + raw[3:], "begins with 00 00 0a 03"),
        (lambda raw: raw[:3] + b"\0" + raw[4:], "has 0 dimensions"),
        (lambda raw: raw[:3] + b"\xff" + raw[4:], "has 255 dimensions"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_damage_is_named(tmp_path, idx_bytes, change, words, zipped):
    raw = change(idx_bytes(np.zeros((2, 3, 4), np.uint8)))
    path = tmp_path / "values"
    path.write_bytes(gzip.compress(raw) if zipped else raw)
    with pytest.raises(DataError, match=words) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_idx(tmp_path / "none")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)


def test_gzip_cut_anywhere_is_damage(tmp_path, idx_bytes):
    rng = np.random.default_rng(0)
    raw = gzip.compress(idx_bytes(rng.integers(0, 256, (40, 5), dtype=np.uint8)))
    path = tmp_path / "values.gz"
    for cut in range(len(raw)):
        path.write_bytes(raw[:cut])
        with pytest.raises(DataError):
            read_idx(path)


def test_gzip_with_any_flipped_byte_is_damage_or_the_same(tmp_path, idx_bytes):
    array = np.random.default_rng(0).integers(0, 256, (10, 5), dtype=np.uint8)
    raw = gzip.compress(idx_bytes(array), mtime=0)
    path = tmp_path / "values.gz"
    for place in range(len(raw)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 0x55]) + raw[place + 1 :])
        # Some bytes of gzip's own header (its time, the system) mean nothing here.
        with contextlib.suppress(DataError):
            np.testing.assert_array_equal(read_idx(path), array)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("idx") / "values"


@pytest.mark.slow
@settings(deadline=None, derandomize=True, database=None, max_examples=300)
@given(
    code=st.sampled_from([8, 9, 11, 12, 13, 14]),
    dimensions=st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 3), min_size=1, max_size=8),
    body=st.binary(max_size=40),
    zipped=st.booleans(),
)
@example(code=8, dimensions=[2**31, 28, 28], body=b"", zipped=False)
@example(code=8, dimensions=[2**31 - 1], body=b"ab", zipped=True)
@example(code=14, dimensions=[0, *[2**32 - 1] * 7], body=b"", zipped=False)
def test_headers_never_allocate_what_is_not_there(scratch, code, dimensions, body, zipped):
    raw = struct.pack(f">HBB{len(dimensions)}I", 0, code, len(dimensions), *dimensions) + body
    _read_in_little_memory(scratch, gzip.compress(raw) if zipped else raw)


@pytest.mark.slow
@settings(deadline=None, derandomize=True, database=None, max_examples=300)
@given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda b: b"\x1f\x8b\x08" + b))
def test_random_bytes_never_crash(scratch, raw):
    _read_in_little_memory(scratch, raw)


def _read_in_little_memory(path, raw):
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        read_idx(path)
    except DataError as error:
        assert str(path) in str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 << 20
