"""CIFAR-10 in its official layout: folders, the archive, and damaged files."""

from __future__ import annotations

import gzip
import os
import pickle
import tarfile

import numpy as np
import pytest

from fastmlp._common.errors import DataError
from fastmlp.datasets import load


def check(data, batches):
    train, test = list(batches.values())[:5], batches["test_batch"]
    np.testing.assert_array_equal(data.X, np.concatenate([X for X, _ in train]))
    np.testing.assert_array_equal(data.y, np.concatenate([y for _, y in train]))
    np.testing.assert_array_equal(data.X_test, test[0])
    np.testing.assert_array_equal(data.y_test, test[1])
    for array, dtype in zip(data, (np.uint8, np.int64) * 2, strict=True):
        assert array.dtype == dtype and array.flags.c_contiguous and array.flags.writeable
    assert (data.name, data.task, data.image_shape) == ("cifar10", "classification", (3, 32, 32))


@pytest.mark.parametrize("place", ["", "cifar-10-batches-py"])
def test_folders(tmp_path, write_cifar, cifar_batches, place):
    write_cifar(tmp_path / place)
    data = load("cifar10", data_dir=tmp_path, download=False)
    check(data, cifar_batches)
    assert data.classes == tuple(f"kind{i}" for i in range(10))


def test_the_archive_is_read_in_place(tmp_path, cifar_archive, cifar_batches):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(cifar_archive())
    check(load("cifar10", data_dir=tmp_path, download=False), cifar_batches)
    assert os.listdir(tmp_path) == ["cifar-10-python.tar.gz"]


def test_batches_that_python_3_wrote_anew(tmp_path, cifar_batches):
    for protocol, (name, (X, y)) in zip((2, 3, 4, 5, 2, 4), cifar_batches.items(), strict=True):
        (tmp_path / name).write_bytes(pickle.dumps({"data": X, "labels": y}, protocol))
    data = load("cifar10", data_dir=tmp_path, download=False)
    check(data, cifar_batches)
    assert data.classes[0] == "airplane" and data.classes[-1] == "truck"


def test_a_missing_batch_is_named(tmp_path, write_cifar):
    write_cifar(tmp_path, data_batch_3=None)
    with pytest.raises(DataError, match=r"data_batch_3 is missing"):
        load("cifar10", data_dir=tmp_path, download=False)


def test_an_absent_set_says_where_to_put_the_archive(tmp_path):
    with pytest.raises(DataError) as caught:
        load("cifar10", data_dir=tmp_path, download=False)
    assert str(tmp_path / "cifar-10-python.tar.gz") in str(caught.value)


X = np.zeros((3, 3072), np.uint8)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({"labels": [1, 2, 3]}, "no entry data"),
        ({"data": X}, "no entry labels"),
        ([X, [1, 2, 3]], "holds a list, expected a dict"),
        ("text", "holds a (bytes|str), expected a dict"),
        ({"data": X, "labels": [1, 2]}, "has 2 labels for 3 images"),
        ({"data": X[:0], "labels": []}, "has 0 labels for 0 images"),
        ({"data": X, "labels": [1, 2, 10]}, "label 10, expected 0 to 9"),
        ({"data": X, "labels": [1, 2, -1]}, "label -1, expected 0 to 9"),
        ({"data": X, "labels": [1, 2, True]}, "not a list of int"),
        ({"data": X, "labels": [1, 2, "3"]}, "not a list of int"),
        ({"data": X, "labels": (1, 2, 3)}, "not a list of int"),
        ({"data": X, "labels": X[:, 0]}, "not a list of int"),
        ({"data": [0], "labels": [1]}, "type list, expected a uint8 array"),
        ({"data": X.astype(np.float32), "labels": [1, 2, 3]}, "dtype f4, expected uint8"),
        ({"data": X[:, :100], "labels": [1, 2, 3]}, r"shape \(3, 100\), expected \(rows, 3072\)"),
        ({"data": X.ravel(), "labels": [1]}, "no shape of two sizes"),
    ],
)
def test_wrong_batches_are_named(tmp_path, write_cifar, batch, words):
    write_cifar(tmp_path, data_batch_2=pickle.dumps(batch, 4))
    with pytest.raises(DataError, match=words) as caught:
        load("cifar10", data_dir=tmp_path, download=False)
    assert str(tmp_path / "data_batch_2") in str(caught.value)


def test_truncated_batches(tmp_path, write_cifar, cifar_files):
    whole = cifar_files["test_batch"]
    for cut in (0, 1, 10, 100, 1000, len(whole) // 2, len(whole) - 100, len(whole) - 1):
        write_cifar(tmp_path, test_batch=whole[:cut])
        with pytest.raises(DataError, match="test_batch"):
            load("cifar10", data_dir=tmp_path, download=False)


def test_a_foreign_global_is_refused_by_name(tmp_path, write_cifar):
    trace = tmp_path / "called"
    write_cifar(tmp_path, data_batch_1=f"\x80\x02cos\nsystem\nU\x06touch \x85R.{trace}".encode("latin-1"))
    with pytest.raises(DataError, match=r"data_batch_1 .*names os\.system"):
        load("cifar10", data_dir=tmp_path, download=False)
    assert not trace.exists()


@pytest.mark.parametrize(
    "meta", [{"label_names": ["a"]}, {"label_names": 5}, {"num_vis": 3072}, {"label_names": [1] * 10}]
)
def test_wrong_class_names(tmp_path, write_cifar, python2_pickle, meta):
    write_cifar(tmp_path, **{"batches.meta": python2_pickle(meta)})
    with pytest.raises(DataError, match=r"batches\.meta.*label_names"):
        load("cifar10", data_dir=tmp_path, download=False)


def test_a_giant_file_is_not_read(tmp_path, write_cifar):
    write_cifar(tmp_path)
    with (tmp_path / "data_batch_1").open("r+b") as stream:
        stream.truncate(1 << 40)  # sparse
    with pytest.raises(DataError, match="about 31 million"):
        load("cifar10", data_dir=tmp_path, download=False)


def archived(tmp_path, raw):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(raw)
    return load("cifar10", data_dir=tmp_path, download=False)


def test_truncated_archives(tmp_path, cifar_archive):
    whole = cifar_archive()
    for cut in (
        0,
        1,
        20,
        500,
        len(whole) // 3,
        len(whole) // 2,
        len(whole) - 200,
        len(whole) - 9,
        len(whole) - 1,
    ):
        with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz"):
            archived(tmp_path, whole[:cut])


def test_a_flipped_byte_in_the_archive(tmp_path, cifar_archive):
    whole = cifar_archive()
    for place in (len(whole) // 2, len(whole) - 6):  # in the data, in the checksum
        with pytest.raises(DataError, match="truncated or damaged"):
            archived(tmp_path, whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])


def test_an_archive_that_is_none(tmp_path):
    with pytest.raises(DataError, match="truncated or damaged"):
        archived(tmp_path, b"<html>not found</html>")
    with pytest.raises(DataError, match=r"truncated or damaged|has no"):
        archived(tmp_path, gzip.compress(b"no tar at all" * 100))


def test_members_outside_the_folder_are_passed_over(tmp_path, cifar_archive, cifar_batches):
    escape = tarfile.TarInfo("../../escaped")
    absolute = tarfile.TarInfo(str(tmp_path / "absolute"))
    near = tarfile.TarInfo("cifar-10-batches-py/../data_batch_1")
    escape.size = absolute.size = near.size = 4
    data = archived(tmp_path, cifar_archive([(escape, b"evil"), (absolute, b"evil"), (near, b"evil")]))
    check(data, cifar_batches)
    assert os.listdir(tmp_path) == ["cifar-10-python.tar.gz"]
    assert not (tmp_path.parent.parent / "escaped").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_a_batch_must_be_a_regular_file(tmp_path, cifar_archive, kind):
    link = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
    link.type, link.linkname = kind, "/etc/passwd"
    with pytest.raises(DataError, match="not a regular file"):
        archived(tmp_path, cifar_archive([(link, b"")]))


def test_a_batch_missing_from_the_archive(tmp_path, cifar_archive, cifar_files):
    del cifar_files["data_batch_4"]
    with pytest.raises(DataError, match="has no cifar-10-batches-py/data_batch_4"):
        archived(tmp_path, cifar_archive(files=cifar_files))


def test_a_member_that_claims_a_giant_size(tmp_path, cifar_files):
    info = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
    info.size = 1 << 50
    with pytest.raises(DataError, match="regular file of a batch's size"):
        archived(tmp_path, gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + b"tiny".ljust(1024, b"\0")))
