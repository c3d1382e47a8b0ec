"""Tables that are packed once into the cache folder, and folders of tables."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest

from fastmlp._common.errors import DataError, DataWarning
from fastmlp.datasets import load, pack_cache
from fastmlp.datasets.pack_cache import cache_folder, is_large, load_mapped
from fastmlp.datasets.row_file import map_rows
from fastmlp.io.files import try_lock

ROWS = 300


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, rng):
    """A folder with arrays, in one file and in shards; the cache is beside it."""
    monkeypatch.setenv("FASTMLP_DATA", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    X = rng.normal(size=(ROWS, 3)).astype(np.float32)
    y = np.arange(ROWS) % 3
    np.save("n_X.npy", X), np.save("n_y.npy", y), np.save("labels.npy", y)
    np.save("wide.npy", np.column_stack([X, y]))
    for name in ("pairs", "shards", "bytes"):
        os.mkdir(name)
    for number, rows in enumerate((slice(0, 90), slice(90, 91), slice(91, ROWS))):
        np.save(f"pairs/part-{number}_X.npy", X[rows]), np.save(f"pairs/part-{number}_y.npy", y[rows])
        np.save(f"shards/part-{number}.npy", X[rows])
        np.save(f"bytes/part-{number}.npy", (abs(X[rows]) * 9).astype(np.uint8))
    return work


def mapped(*arguments, **options):
    """The data set, without the warning that says where it is packed."""
    said = []
    return load_mapped(*arguments, announce=said.append, **options), said


def assert_same(comp, ref):
    for a, b in zip(comp, ref, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    for name in ("task", "classes", "feature_names", "image_shape", "preprocessing"):
        assert getattr(comp, name) == getattr(ref, name), name


def test_a_table_is_packed_once(folder):
    with pytest.warns(
        DataWarning, match=r"n_X.npy \(0 MiB\) is packed into .*work|cache.*, which is mapped from now on"
    ):
        comp = load("n_X.npy", mapped=True)
    assert_same(comp, load("n_X.npy"))
    assert isinstance(comp.X, np.memmap) and comp.name == "n_X.npy" and comp.digest is not None
    assert_same(load("n_X.npy", mapped=True), comp)
    assert [path.name for path in cache_folder().iterdir()] == [os.path.basename(os.path.dirname(comp.X.filename))]


def test_options_have_folders_of_their_own_and_changes_replace_them(folder):
    (first, said), (other, _) = mapped(folder / "n_X.npy"), mapped(folder / "n_X.npy", seed=1)
    assert len(said) == 1 and first.digest != other.digest and len(list(cache_folder().iterdir())) == 2
    labels = np.load("n_y.npy")[::-1]
    np.save("n_y.npy", labels)
    os.utime("n_y.npy", (1, 1))
    comp, said = mapped(folder / "n_X.npy")
    assert len(said) == 1 and len(list(cache_folder().iterdir())) == 2
    assert_same(comp, load("n_X.npy"))


FOLDERS = {
    "pairs": ({}, "n_X.npy", {}),
    "shards": ({"target": "../labels.npy"}, "n_X.npy", {}),
    "labels beside": ({"target": "labels.npy"}, "n_X.npy", {}),
    "bytes": ({"target": "../labels.npy"}, None, {}),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders_of_arrays(folder, case):
    options, ref, _ = FOLDERS[case]
    name = case
    if case == "labels beside":
        name = "shards"
        os.rename("labels.npy", "shards/labels.npy")
    in_memory = load(name, **options)
    comp, _ = mapped(folder / name, **options)
    assert_same(comp, in_memory)
    if ref is not None:
        assert_same(comp, load(ref))
    else:
        assert comp.X.dtype == np.uint8 and comp.preprocessing is None
    assert comp.name == name


def test_folders_of_parquet_files(folder, rng):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(rng.normal(size=(ROWS, 9)), columns=list("abcdefghi"))
    frame["color"], frame["y"] = rng.choice(["red", "green"], ROWS), np.arange(ROWS) % 3
    frame.to_parquet("all.parquet")
    os.mkdir("table")
    for number, part in enumerate((frame[:100], frame[100:101], frame[101:])):
        part.to_parquet(f"table/part-{number:05d}.parquet", index=False)
    for file in ("_SUCCESS", "_metadata.parquet", ".part-00000.parquet.crc"):
        (folder / "table" / file).write_bytes(b"")
    ref = load("all.parquet")
    assert_same(load("table"), ref)
    assert_same(mapped(folder / "table")[0], ref)
    assert_same(load("table", test="all.parquet"), load("all.parquet", test="table"))


def test_files_that_are_large(folder, monkeypatch):
    assert is_large(folder / "shards") and not is_large(folder / "n_X.npy") and not is_large(folder / "gone.csv")
    assert is_large(folder / "n_X.npy", "shards")
    comp, _ = mapped(folder / "n_X.npy")
    assert not is_large(folder.parent / "cache" / "packed" / os.listdir(cache_folder())[0])
    monkeypatch.setattr(pack_cache, "LARGE", 100)
    np.savez("n.npz", X=comp.X, y=comp.y)
    assert is_large(folder / "n_X.npy") and not is_large(folder / "n.npz")


@pytest.mark.skipif(sys.platform == "win32", reason="files are not locked there")
def test_a_second_process_waits(folder):
    comp, _ = mapped(folder / "n_X.npy")
    name = os.listdir(cache_folder())[0]
    os.rename(cache_folder() / name, folder / "elsewhere")
    lock = try_lock(cache_folder() / f"{name}.lock")

    def finish():
        os.rename(folder / "elsewhere", cache_folder() / name)
        lock.close()

    timer = threading.Timer(0.1, finish)
    timer.start()
    again, said = mapped(folder / "n_X.npy")
    timer.join()
    assert said == [f"{folder / 'n_X.npy'} is being packed by another process."]
    assert_same(again, comp)


def test_unfinished_folders_of_a_table_before_its_change(folder):
    mapped(folder / "n_X.npy")
    old = cache_folder() / os.listdir(cache_folder())[0]
    old.rename(f"{old}.packing")
    lock = try_lock(cache_folder() / f"{old.name}.packing" / "lock")
    os.utime("n_X.npy", (1, 1))
    mapped(folder / "n_X.npy")
    if sys.platform != "win32":
        assert len(os.listdir(cache_folder())) == 2  # another process writes to it
    lock.close()
    os.utime("n_X.npy", (2, 2))
    mapped(folder / "n_X.npy")
    assert len(os.listdir(cache_folder())) == 1


# ------------------------------------------------------------------------------------------ errors


def test_mapped_is_for_tables(folder):
    with pytest.raises(TypeError, match="mapped=True is for tables; expected mapped=False for digits"):
        load("digits", mapped=True)
    with pytest.raises(TypeError, match="mapped=True centers targets"):
        load("n_X.npy", mapped=True, center_target=False)
    with pytest.raises(TypeError, match="has no option 'map'"):
        load("n_X.npy", map=True)


def test_shards_that_do_not_fit(folder):
    np.save("short.npy", np.arange(ROWS - 1) % 3)
    np.save("long.npy", np.arange(ROWS + 1) % 3)
    for labels in ("short", "long"):
        with pytest.raises(DataError, match=rf"{labels}.npy has shape \(.*; expected \({ROWS},\), one target for each"):
            load("shards", target=f"../{labels}.npy")
    with pytest.raises(DataError, match="gone.npy cannot be read: No such file"):
        mapped(folder / "shards", target="gone.npy")
    np.save("shards/part-3.npy", np.zeros((2, 5)))
    with pytest.raises(DataError, match=r"part-3.npy has 5 columns .* expected the 3 columns of shards/part-0.npy"):
        load("shards", target="../labels.npy")
    os.unlink("pairs/part-1_y.npy")
    with pytest.raises(DataError, match="part-1_y.npy cannot be read: No such file"):
        mapped(folder / "pairs")
    assert not any(path.is_dir() for path in cache_folder().iterdir())


def test_a_shard_is_missing(folder):
    os.unlink("pairs/part-1_X.npy"), os.unlink("pairs/part-1_y.npy")
    with pytest.warns(DataWarning, match="files with the numbers 0 to 2, but none with 1; a file may be missing"):
        load("pairs")
    for number in (0, 2):
        for kind in "Xy":
            os.rename(f"pairs/part-{number}_{kind}.npy", f"pairs/part-{number:03d}-of-004_{kind}.npy")
    with pytest.raises(DataError, match="pairs/part-001-of-004_X.npy is missing; expected 4 files, as their names say"):
        load("pairs")


def test_rows_in_a_temporary_file(folder, rng):
    X = rng.normal(size=(10, 3))
    np.save("rows.npy", X)
    whole = np.load("rows.npy", mmap_mode="r")
    assert map_rows(iter([whole[:4], whole[4:]]), folder, "rows", whole) is whole
    for parts in ([whole[:4], X[4:]], [X[:4], whole[4:]], [whole[:0], X]):
        comp = map_rows(iter(parts), folder, "rows", whole)
        np.testing.assert_array_equal(comp, X)
        assert isinstance(comp, np.memmap) and not comp.flags.writeable
    with pytest.raises(DataError, match="rows has no rows"):
        map_rows(iter([X[:0]]), folder, "rows")
    assert not [name for name in os.listdir(folder) if name.endswith(".rows")] or sys.platform == "win32"
