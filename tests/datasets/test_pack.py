"""Packed folders: the same data set as from the table, after interruptions too, and errors for damage."""

from __future__ import annotations

import errno
import itertools
import json
import os
import sys

import numpy as np
import pytest

import fastmlp as fm
from fastmlp._common import digests, validation
from fastmlp._common.digests import BlockDigests
from fastmlp._common.errors import DataError, DataWarning
from fastmlp.datasets import chunks, fitting, load, pack, packed
from fastmlp.datasets.packed import open_packed, verify_packed
from fastmlp.io.files import try_lock

pandas = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
ROWS = 400
pack_module = sys.modules["fastmlp.datasets.pack"]  # the package's name is that of the function


@pytest.fixture
def frame(rng):
    """Columns of all kinds: numbers, large integers, texts, booleans, gaps; the last one is the label."""
    frame = pandas.DataFrame({f"f{i}": rng.normal(size=ROWS) for i in range(3)})
    frame["when"] = 1.7e9 + rng.integers(0, 1000, ROWS)
    frame["large"] = 2**60 + rng.integers(0, 1000, ROWS)
    frame["color"] = rng.choice(["red", "green", "01", " x"], ROWS)
    frame["number_at_first"] = ["7"] * 200 + ["text"] * 200
    frame["flag"] = rng.random(ROWS) < 0.5
    frame["gap"] = np.where(rng.random(ROWS) < 0.1, np.nan, rng.normal(size=ROWS))
    frame["whole_with_gaps"] = pandas.array(rng.integers(0, 9, ROWS), "Int64")
    frame.loc[:120, "whole_with_gaps"] = pandas.NA
    frame["label"] = rng.choice(["a", "b", "c"], ROWS)
    return frame


@pytest.fixture
def folder(tmp_path, monkeypatch, frame):
    """A folder with tables in all formats."""
    monkeypatch.chdir(tmp_path)
    frame.to_csv("t.csv", index=False)
    frame.to_csv("german.csv", index=False, sep=";", decimal=",")
    frame.to_csv("labelled.csv")
    frame.to_parquet("t.parquet")
    numbers = frame[["f0", "f1", "f2", "when", "gap"]].to_numpy()
    labels = frame["label"].map({"a": 0, "b": 1, "c": 2}).to_numpy()
    np.save("n_X.npy", numbers), np.save("n_y.npy", labels)
    (
        np.save("images_X.npy", np.abs(numbers[:, [0, 1, 2, 0]] * 9).astype(np.uint8).reshape(ROWS, 2, 2)),
        np.save("images_y.npy", labels),
    )
    np.save("wide.npy", np.column_stack([numbers, labels]))
    np.savez("n.npz", X=numbers.astype(np.float32), y=numbers[:, 0])
    for name, part in (("1", frame[:150]), ("2", frame[150:])):
        os.makedirs("parts", exist_ok=True)
        part.to_csv(f"parts/part{name}.csv", index=False)
    return tmp_path


def assert_same(comp, ref):
    for a, b in zip(comp, ref, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b)
    for name in ("task", "classes", "feature_names", "image_shape", "preprocessing"):
        assert getattr(comp, name) == getattr(ref, name), name


CASES = {
    "csv": ("t.csv", {}),
    "csv with options": ("t.csv", {"target": "f1", "drop": ["color"], "test_size": 0.3, "seed": 3, "dtype": "float64"}),
    "csv, categorical": ("t.csv", {"categorical": ["whole_with_gaps"]}),
    "decimal comma": ("german.csv", {}),
    "row labels": ("labelled.csv", {"index": True}),
    "parquet": ("t.parquet", {}),
    "parquet, regression": ("t.parquet", {"target": "when"}),
    "a pair of arrays": ("n_X.npy", {}),
    "bytes": ("images_X.npy", {}),
    "a matrix": ("wide.npy", {"target": -1}),
    "an archive": ("n.npz", {}),
}


@pytest.mark.filterwarnings("ignore::fastmlp._common.errors.DataWarning")
@pytest.mark.parametrize(
    "case, cells",
    [*itertools.product(CASES, [1 << 23, 700]), *((case, 11) for case in ("csv", "parquet", "a pair of arrays"))],
)
def test_the_data_set_is_that_of_the_table(folder, monkeypatch, case, cells):
    path, options = CASES[case]
    monkeypatch.setattr(chunks, "_CELLS", cells)
    assert pack(path, "out", **options) == (folder / "out").relative_to(folder)
    comp = load("out")
    assert_same(comp, load(path, center_target=True, **options))
    assert isinstance(comp.X, np.memmap) and not comp.X.flags.writeable
    assert sorted(os.listdir("out")) == ["X_test.npy", "X_train.npy", "packed.json", "y_test.npy", "y_train.npy"]
    assert not os.path.exists("out.packing")
    assert sum(size for _, size in verify_packed(folder / "out")) == sum(array.nbytes for array in comp)


@pytest.mark.parametrize("cells", [1 << 21, 900])
@pytest.mark.parametrize("options", [{}, {"target": "f1"}, {"test": True}], ids=str)
def test_a_parquet_table_read_in_chunks_is_that_of_text(folder, monkeypatch, cells, options):
    monkeypatch.setattr(chunks, "_CELLS", cells)
    ref, comp = (
        load(f"t.{kind}", **{key: f"t.{kind}" if value is True else value for key, value in options.items()})
        for kind in ("csv", "parquet")
    )
    assert_same(load("t.parquet", **{**options, "test": "t.parquet"} if "test" in options else options), comp)
    for a, b in zip(ref, comp, strict=True):
        np.testing.assert_array_equal(a, b)
    assert ref.feature_names == comp.feature_names and ref.classes == comp.classes


@pytest.mark.filterwarnings("ignore::fastmlp._common.errors.DataWarning")
@pytest.mark.parametrize("test", ["t.csv", "parts"])
def test_a_test_part_and_folders(folder, monkeypatch, test):
    monkeypatch.setattr(chunks, "_CELLS", 500)
    pack("parts", "out", test=test)
    assert_same(load("out"), load("t.csv", test="t.csv"))
    assert load("out").name == "out"


def test_medians_of_many_rows_are_those_of_a_sample(folder, monkeypatch, rng):
    monkeypatch.setattr(fitting, "SAMPLE_CELLS", 100)
    monkeypatch.setattr(chunks, "_CELLS", 130)
    X = rng.normal(size=(ROWS, 2))
    X[::7, 1] = np.nan
    np.save("s_X.npy", X), np.save("s_y.npy", X[:, 0])
    pack("s_X.npy", "out", test_size=0.1)
    ref = load("s_X.npy", test_size=0.1, center_target=True).preprocessing["columns"]
    comp = load("out").preprocessing["columns"]
    for a, b in zip(ref, comp, strict=True):
        assert abs(a["median"] - b["median"]) < 0.5
        assert {**a, "median": 0} == {**b, "median": 0}


def test_the_digest_depends_on_the_contents(folder):
    pack("n_X.npy", "one"), pack("n_X.npy", "two"), pack("n_X.npy", "three", seed=1)
    one, two, three = (load(name).digest for name in ("one", "two", "three"))
    assert one == two != three and load("n_X.npy").digest is None


# ----------------------------------------------------------------------------------- interruptions


class Killed(BaseException):
    """The end of the process."""


@pytest.mark.filterwarnings("ignore::fastmlp._common.errors.DataWarning")
@pytest.mark.parametrize("path", ["t.csv", "t.parquet", "n_X.npy", "parts"])
@pytest.mark.parametrize("lines", [0, 1, 2, 4])
def test_an_interrupted_run_goes_on(folder, monkeypatch, path, lines):
    monkeypatch.setattr(chunks, "_CELLS", 900)
    for module in (digests, packed, pack_module):
        monkeypatch.setattr(module, "BLOCK", 256)
    seen = []

    def kill(line):
        seen.append(line)
        if len(seen) > lines:
            raise Killed

    with pytest.raises(Killed):
        pack(path, "out", progress=kill)
    assert not os.path.exists("out")
    if os.path.exists("out.packing/X_train.npy"):  # what came after the last record of progress
        with open("out.packing/X_train.npy", "ab") as stream:
            stream.write(b"half a row")
    seen.clear()
    pack(path, "out", progress=seen.append)
    assert ("going on" in seen[0]) == (lines > 1)
    assert_same(load("out"), load(path if path != "parts" else "t.csv", center_target=True))
    assert list(verify_packed(folder / "out"))


@pytest.mark.filterwarnings("ignore::fastmlp._common.errors.DataWarning")
@pytest.mark.parametrize("change", ["table", "option", "progress"])
def test_an_interrupted_run_of_something_else_begins_anew(folder, monkeypatch, change):
    monkeypatch.setattr(chunks, "_CELLS", 900)

    def kill(line):
        if "written" in line:
            raise Killed

    with pytest.raises(Killed):
        pack("t.csv", "out", progress=kill)
    if change == "table":
        frame = pandas.read_csv("t.csv")
        frame["f0"] += 1
        frame.to_csv("t.csv", index=False)
    if change == "progress":
        (folder / "out.packing" / "packing.json").write_text("{")
    options = {"seed": 1} if change == "option" else {}
    pack("t.csv", "out", **options)
    assert_same(load("out"), load("t.csv", **options))


def test_a_full_disk(folder, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            pack("n_X.npy", "out")
    assert not os.path.exists("out")
    pack("n_X.npy", "out")
    assert_same(load("out"), load("n_X.npy"))


def test_a_table_that_changes_meanwhile(folder):
    def change(line):
        if "rows" in line:
            os.utime("n_X.npy", (1, 1))

    with pytest.raises(DataError, match="n_X.npy has changed while it was packed"):
        pack("n_X.npy", "out", progress=change)
    assert not os.path.exists("out") and not os.path.exists("out.packing")


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.filterwarnings("ignore::fastmlp._common.errors.DataWarning")
def test_bad_rows_are_named(folder):
    lines = (folder / "parts" / "part2.csv").read_text().splitlines()
    lines[30] += ",one more"
    (folder / "parts" / "part2.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"part2.csv, line 31: 12 fields, expected 11"):
        pack("parts", "out")
    lines[30] = lines[29].replace(lines[29].split(",")[0], "inf")
    (folder / "parts" / "part2.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"part2.csv: column 'f0' holds inf"):
        pack("parts", "out")
    assert not os.path.exists("out")


def test_bad_tables(folder):
    for call, expected in (
        (lambda: pack("t.csv", "parts"), "parts exists; expected the name of a new folder"),
        (lambda: pack("nothing.csv", "out"), "nothing.csv does not exist; expected a table, or a folder"),
        (lambda: pack("t.csv", "out", dtype="int8"), "dtype is 'int8'"),
        (lambda: pack("t.csv", "out", target="none"), "has no column 'none'"),
        (lambda: pack(".", "out"), "tables of several kinds"),
        (lambda: pack("wide.npy", "out"), "needs a target"),
        (lambda: pack("n_X.npy", "out", separator=";"), "separator=';' is for text tables"),
    ):
        with pytest.raises(DataError, match=expected):
            call()
    np.save("n_y.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"n_y.npy has shape \(3,\); expected \(400,\)"):
        pack("n_X.npy", "out")
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="empty has no table; expected tables of one kind"):
        pack("empty", "out")
    np.save("parts/x_X.npy", np.zeros((3, 2)))
    for name, width in (("a", 2), ("b", 3)):
        (folder / "shards").mkdir(exist_ok=True)
        np.save(f"shards/{name}_X.npy", np.zeros((4, width))), np.save(f"shards/{name}_y.npy", np.arange(4) % 2)
    with pytest.raises(DataError, match=r"b_X.npy has 3 columns .* expected the 2 columns of shards/a_X.npy"):
        pack("shards", "out")


@pytest.mark.parametrize("name", packed.ARRAYS)
def test_a_damaged_folder(folder, name):
    pack("n_X.npy", "out")
    path = folder / "out" / f"{name}.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=f"{name}.npy holds .* bytes of values, expected"):
        open_packed(folder / "out")
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    open_packed(folder / "out")  # sizes only: a digest of all rows would take as long as to read them
    with pytest.raises(DataError, match=rf"{name}.npy is damaged: its bytes 128 to {len(whole)} are not those"):
        list(verify_packed(folder / "out"))
    path.unlink()
    with pytest.raises(DataError, match=f"{name}.npy cannot be read: No such file"):
        open_packed(folder / "out")
    np.save(path, np.zeros((3, 2)))
    with pytest.raises(DataError, match=f"{name}.npy has shape .3, 2. and dtype float64; expected"):
        open_packed(folder / "out")


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda text: "{", "cannot be read"),
        (lambda text: "[]", "has the format 'list'"),
        (lambda text: json.dumps({**json.loads(text), "format": "fastmlp-packed-9"}), "'fastmlp-packed-9'; expected"),
        (lambda text: json.dumps({**json.loads(text), "arrays": {}}), "does not describe X_train"),
        (lambda text: json.dumps({**json.loads(text), "dataset": {}}), "'task' is missing"),
        (lambda text: json.dumps({**json.loads(text), "dataset": None}), "describes no arrays"),
        (lambda text: json.dumps({**json.loads(text), "block": 0}), "damaged: the size of its blocks is 0"),
    ],
)
def test_a_damaged_description(folder, change, expected):
    pack("n_X.npy", "out")
    path = folder / "out" / "packed.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=expected):
        load("out")


def test_load_takes_no_options_of_tables(folder):
    pack("n_X.npy", "out")
    with pytest.raises(TypeError, match="out was packed with its options; expected no target="):
        load("out", target=1)


@pytest.fixture
def forget():
    """A function that forgets the facts about files, as a new process has none."""

    def forget():
        validation._finite_files.clear(), digests.known_digests.clear()

    forget()
    yield forget
    forget()


@pytest.fixture
def reads(monkeypatch):
    """Shapes of the mapped arrays that are read as a whole."""
    seen = []
    require, update = validation.require_finite, digests.BlockDigests.update

    def check(array, *arguments):
        seen.append(array.shape)
        require(array, *arguments)

    def add(self, data):
        seen.append(memoryview(data).nbytes)
        update(self, data)

    monkeypatch.setattr(validation, "require_finite", check)
    monkeypatch.setattr(digests.BlockDigests, "update", add)
    return seen


def fit(X, y, state, **options):
    trainer = fm.Trainer(fm.MLP(X.shape[1], [4], 3, rng=0), fm.CrossEntropyLoss(), fm.Adam(0.01))
    trainer.fit(X, y, batch_size=10, callbacks=[fm.SaveState(state)], rng=1, **{"epochs": 2, **options})
    return trainer


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_another_process_reads_no_file_for_its_checks(folder, forget, reads, dtype):
    """Unless its time has changed; the fingerprint is then the same."""
    pack("n_X.npy", "out", dtype=dtype)
    forget(), reads.clear()
    data = load("out")
    fm.Normalize.fit(data.X, dtype=dtype)
    fit(data.X, data.y, "a.state")
    # The packed numbers may be too large for a model of a narrower dtype.
    assert reads == ([] if dtype == "float32" else [data.X.shape])
    forget(), reads.clear()
    os.utime("out/X_train.npy", (1, 1))
    changed = load("out")
    fit(changed.X, changed.y, "b.state")
    assert data.X.nbytes in reads and data.X.shape in reads
    reads.clear()
    for X, y in ((data.X, data.y), (changed.X, changed.y), (np.array(data.X), np.array(data.y))):
        for state in ("a.state", "b.state"):
            assert fit(X, y, "c.state", resume=state).steps == 64
    y = np.roll(data.y, 1)
    with pytest.raises(fm.ResumeError, match="its training rows is"):
        fit(data.X, y, "c.state", resume="a.state")


def test_folders_of_the_first_format(folder, forget, reads):
    """Their digests are those of whole files, which say nothing of the numbers alone."""
    pack("n_X.npy", "out")
    path = folder / "out" / "packed.json"
    described = json.loads(path.read_text())
    described["format"] = "fastmlp-packed-1"
    for name, entry in described["arrays"].items():
        of_file = BlockDigests()
        of_file.update((folder / "out" / f"{name}.npy").read_bytes())
        del entry["size"], entry["mtime_ns"]
        entry["digests"] = of_file.all()
    path.write_text(json.dumps(described))
    forget(), reads.clear()
    data = load("out")
    assert_same(data, load("n_X.npy"))
    assert sum(size for _, size in verify_packed(folder / "out")) == sum(
        (folder / "out" / f"{name}.npy").stat().st_size for name in packed.ARRAYS
    )
    fit(data.X, data.y, "a.state")
    assert data.X.shape in reads


@pytest.mark.parametrize("sizes", [[0], [1], [5, 5], [10], [3, 20, 1], [7, 0, 13]])
def test_block_digests(sizes, monkeypatch):
    monkeypatch.setattr(digests, "BLOCK", 10)
    data = bytes(range(sum(sizes)))
    ref, comp = [], BlockDigests()
    for start in range(0, len(data), 10):
        one = BlockDigests()
        one.update(data[start : start + 10])
        ref += one.all()
    start = 0
    for size in sizes:
        comp.update(data[start : start + size])
        start += size
    assert comp.all() == ref and len(ref) == -(-len(data) // 10)
    again = BlockDigests(comp.finished)
    again.update(data[len(comp.finished) * 10 :])
    assert again.all() == ref


def test_warnings_about_unknown_categories_come_once(folder, monkeypatch):
    monkeypatch.setattr(chunks, "_CELLS", 900)
    frame = pandas.DataFrame({"a": ["x", "y"] * 50 + ["z"], "b": np.arange(101.0) % 7, "y": [0, 1] * 50 + [0]})
    frame.to_csv("train.csv", index=False)
    frame.assign(a=["x"] * 90 + ["new"] * 11).to_csv("test.csv", index=False)
    with pytest.warns(DataWarning, match="column 'a' in 11 of 101 rows \\('new'\\)") as caught:
        pack("train.csv", "out", test="test.csv")
    assert len(caught) == 1


def test_an_archive_with_a_test_part(folder, rng):
    arrays = {"X": rng.normal(size=(50, 3)), "y": np.arange(50) % 2, "X_test": rng.normal(size=(9, 3))}
    np.savez("both.npz", **arrays, y_test=np.arange(9) % 2)
    pack("both.npz", "out")
    assert_same(load("out"), load("both.npz"))
    with pytest.raises(DataError, match="both.npz has a test part of its own .* expected none by test="):
        pack("both.npz", "other", test="t.csv")
    np.savez("half.npz", **arrays)
    with pytest.raises(DataError, match="half.npz has the arrays X, X_test, y; expected X and y, and perhaps"):
        pack("half.npz", "other")
    (folder / "bad.npz").write_bytes(b"PK no archive")
    with pytest.raises(DataError, match="bad.npz cannot be read as .npz"):
        pack("bad.npz", "other")
    (folder / "archives").mkdir()
    for name in "ab":
        np.savez(f"archives/{name}.npz", **arrays, y_test=np.arange(9) % 2)
    with pytest.raises(DataError, match="a.npz has a test part .* expected only X and y in a folder"):
        pack("archives", "other")
    assert not any("other" in name for name in os.listdir())


@pytest.mark.filterwarnings("ignore::fastmlp._common.errors.DataWarning")
@pytest.mark.parametrize("name", ["X_train.npy", "y_test.npy", "in_train.npy"])
def test_progress_with_a_damaged_file_begins_anew(folder, monkeypatch, name):
    """As after a power failure: a file is shorter than what was recorded."""
    monkeypatch.setattr(chunks, "_CELLS", 900)

    def kill(line):
        if "written" in line:
            raise Killed

    with pytest.raises(Killed):
        pack("t.csv", "out", progress=kill)
    path = folder / "out.packing" / name
    path.write_bytes(path.read_bytes()[:50])
    lines = []
    pack("t.csv", "out", progress=lines.append)
    assert not any("going on" in line for line in lines)
    assert_same(load("out"), load("t.csv"))


@pytest.mark.filterwarnings("ignore::fastmlp._common.errors.DataWarning")
def test_a_mistake_leaves_the_progress_of_before(folder, monkeypatch):
    monkeypatch.setattr(chunks, "_CELLS", 900)

    def kill(line):
        if "written" in line:
            raise Killed

    with pytest.raises(Killed):
        pack("t.csv", "out", progress=kill)
    with pytest.raises(DataError, match="has no column 'nothing'"):
        pack("t.csv", "out", drop=["nothing"])
    lines = []
    pack("t.csv", "out", progress=lines.append)
    assert "going on" in lines[0]


@pytest.mark.skipif(sys.platform == "win32", reason="files are not locked there")
def test_two_processes_do_not_write_to_one_folder(folder):
    (folder / "out.packing").mkdir()
    lock = try_lock(folder / "out.packing" / "lock")
    with pytest.raises(DataError, match="out.packing is in use by another process that packs"):
        pack("n_X.npy", "out")
    lock.close()
    pack("n_X.npy", "out")
    assert_same(load("out"), load("n_X.npy"))
