"""Mapped files: which arrays are in them, and the advice about their reads."""

from __future__ import annotations

import gc
import io
import mmap
import os
import weakref
from concurrent import futures

import numpy as np
import pytest

import fastmlp as fm
from fastmlp._common import digests, mapped, validation
from fastmlp._common.digests import array_digests
from fastmlp._common.mapped import AHEAD, SINGLE_PAGES, Facts, MappedFiles, file_identity, mapping_of
from fastmlp.training import row_order

ROWS, WIDTH = 60, 5
needs_advice = pytest.mark.skipif(not hasattr(mmap.mmap, "madvise"), reason="the system takes no advice")


class RecordedMap(mmap.mmap):
    """A mapped file that records the advice about it."""

    def __init__(self, *args, **kwargs):
        self.calls = []

    def madvise(self, advice, *span):
        self.calls.append((advice, *span) if span else advice)
        super().madvise(advice, *span)


def mapped_rows(folder, X, name="x"):
    path = folder / name
    path.write_bytes(X.tobytes())
    with path.open("r+b") as stream:
        return np.ndarray(X.shape, X.dtype, RecordedMap(stream.fileno(), 0))


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)


@pytest.fixture
def y():
    return np.arange(ROWS) % 3


@pytest.fixture
def available(monkeypatch):
    """Sets the bytes of free memory."""
    return lambda count: monkeypatch.setattr(mapped, "available_memory", lambda: count)


def test_arrays_in_mapped_files(tmp_path, X):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for array in (mapped, np.asarray(mapped), mapped[3:, ::2].T, mapped.view(np.uint8)):
        assert mapping_of(array) is mapping_of(mapped) is not None
    with (tmp_path / "x.npy").open("rb") as stream:
        mapping = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    assert mapping_of(np.frombuffer(mapping, np.uint8)) is mapping
    assert mapping_of(np.asarray(memoryview(mapping)[4:])) is mapping


@pytest.mark.parametrize("other", [None, [1.0], np.zeros(3), np.frombuffer(b"abc", np.uint8), np.zeros((2, 2))[1:]])
def test_arrays_in_memory(other):
    assert mapping_of(other) is None and MappedFiles([other]).nbytes == 0


@needs_advice
def test_advice_within_a_block(tmp_path, X):
    rows = mapped_rows(tmp_path, X)
    mapping, files = mapping_of(rows), MappedFiles([rows, rows[2:], None, X])
    assert files.nbytes == rows.nbytes + rows[2:].nbytes
    with files.advised(SINGLE_PAGES):
        with files.advised(SINGLE_PAGES), files.advised(AHEAD):
            assert mapping.calls == [mmap.MADV_RANDOM, mmap.MADV_NORMAL]
        assert mapping.calls[2:] == [mmap.MADV_RANDOM]
    assert mapping.calls[3:] == [mmap.MADV_NORMAL]
    with files.advised(AHEAD):
        pass
    with pytest.raises(KeyError), files.advised(SINGLE_PAGES):
        raise KeyError
    assert mapping.calls[4:] == [mmap.MADV_RANDOM, mmap.MADV_NORMAL]


def test_advice_that_the_system_lacks(tmp_path, X, monkeypatch):
    rows = mapped_rows(tmp_path, X)
    monkeypatch.delattr(mmap, "MADV_RANDOM", raising=False)
    monkeypatch.delattr(mmap, "MADV_NORMAL", raising=False)
    with MappedFiles([rows]).advised(SINGLE_PAGES):
        assert mapping_of(rows).calls == []


@needs_advice
def test_advice_that_the_system_refuses(tmp_path, X, monkeypatch):
    def refuse(self, advice, *span):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(RecordedMap, "madvise", refuse)
    files = MappedFiles([mapped_rows(tmp_path, X)])
    with files.advised(SINGLE_PAGES):
        files.read(0, ROWS)


def test_reads_of_rows_of_a_named_file(tmp_path, monkeypatch):
    """All bytes of the rows are read, at their place behind the header; a file that is gone is no error."""
    np.save(tmp_path / "x.npy", np.arange(6000.0).reshape(1000, 6))
    rows, seen = np.load(tmp_path / "x.npy", mmap_mode="r")[100:], []

    class Recorded(io.FileIO):
        def readinto(self, buffer):
            count = super().readinto(buffer)
            seen.append(bytes(buffer[:count]))
            return count

    monkeypatch.setattr(mapped.io, "FileIO", Recorded)
    monkeypatch.setattr(mapped, "_READ", 1000)
    files = MappedFiles([rows])
    files.read(3, 50)
    assert b"".join(seen) == rows[3:50].tobytes() and len(seen[0]) == 1000
    files.close()
    (tmp_path / "x.npy").unlink() if os.name == "posix" else None
    files.read(0, 10)
    files.close()


@needs_advice
def test_reads_of_rows(tmp_path):
    """The span begins at a page and ends with the rows; arrays in memory, and columns one by one, are left out."""
    rows = mapped_rows(tmp_path, np.zeros((3000, WIDTH), np.float32))
    row, page, calls = 4 * WIDTH, mmap.PAGESIZE, mapping_of(rows).calls

    def span(start, stop):
        return mmap.MADV_WILLNEED, start // page * page, stop - start // page * page

    for first, last in ((0, 1), (1000, 2000), (2999, 3000)):
        MappedFiles([rows, np.zeros((3000, 2))]).read(first, last)
        assert calls == [span(first * row, last * row)]
        calls.clear()
    MappedFiles([rows]).read(5, 5)
    MappedFiles([rows.reshape(WIDTH, 3000).T]).read(0, 10)
    assert calls == []
    MappedFiles([rows[2000:], rows[::2, 1:3], rows[:, 0]]).read(10, 20)
    assert calls == [
        span(2010 * row, 2020 * row), span(20 * row + 4, 38 * row + 12), span(10 * row, 19 * row + 4)
    ]  # fmt: skip


def trainer():
    return fm.Trainer(fm.MLP(WIDTH, [4], 3, rng=0), fm.CrossEntropyLoss(), fm.Adam(0.01))


def bits(made):
    return b"".join(array.tobytes() for array in made.model.state_dict().values())


@needs_advice
@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("free", [0, ROWS * WIDTH * 4 - 1, None])
def test_shuffled_rows_of_a_file_larger_than_memory(tmp_path, X, y, available, backend, free):
    """Steps read single pages; evaluations, and the fingerprint of a saved state, read ahead."""
    available(free)
    with fm.use_backend(backend):
        ref, comp = trainer(), trainer()
    ref.fit(X, y, batch_size=8, epochs=2, rng=0)
    options = {"batch_size": 8, "epochs": 2, "rng": 0, "shuffle": "full"}
    rows = mapped_rows(tmp_path, X)
    seen = []

    class Look(fm.Callback):
        def on_step(self, trainer, step, loss):
            seen.append(mapping_of(rows).calls[-1])

    callbacks = [Look(), fm.SaveState(tmp_path / "state", every_steps=5)]
    comp.fit(rows, y, validation=(rows, y), callbacks=callbacks, **options)
    assert bits(ref) == bits(comp)
    assert set(seen) == {mmap.MADV_RANDOM} and mapping_of(rows).calls[-1] == mmap.MADV_NORMAL
    # At the beginning; around the fingerprint, two evaluations and the end.
    assert mapping_of(rows).calls == [mmap.MADV_RANDOM, mmap.MADV_NORMAL] * 4


@needs_advice
def test_advice_ends_with_a_fit_that_fails(tmp_path, X, y, available):
    available(0)
    rows = mapped_rows(tmp_path, X)

    def fail(trainer, record):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        trainer().fit(rows, y, shuffle="full", callbacks=fail)
    assert mapping_of(rows).calls[-1] == mmap.MADV_NORMAL


@needs_advice
@pytest.mark.parametrize("free, options", [(ROWS * WIDTH * 4, {}), (0, {"shuffle": False})])
def test_no_advice_where_reading_ahead_is_right(tmp_path, X, y, available, free, options):
    """The file fits into the memory, or its rows are read in their order."""
    available(free)
    rows = mapped_rows(tmp_path, X)
    trainer().fit(rows, y, epochs=2, **options)
    assert mapping_of(rows).calls == []


@needs_advice
def test_targets_and_weights_in_mapped_files(tmp_path, X, available):
    available(0)
    targets, weights = X[:, :2].copy(), np.ones(ROWS)
    made = fm.Trainer(fm.MLP(WIDTH, [4], 2, rng=0), fm.MSELoss(), fm.Adam(0.01))
    arrays = [mapped_rows(tmp_path, array, str(i)) for i, array in enumerate((X, targets, weights))]
    made.fit(*arrays[:2], sample_weight=arrays[2], epochs=1, shuffle="full")
    for array in arrays:
        assert mapping_of(array).calls == [mmap.MADV_RANDOM, mmap.MADV_NORMAL] * 2  # also around the evaluation


def windowed(monkeypatch):
    """Windows of 8 blocks of a row."""
    monkeypatch.setattr(row_order, "BLOCK_NUMBERS", WIDTH)
    monkeypatch.setattr(row_order, "WINDOW", 8)


class AtOnce:
    """Executor without threads."""

    def __init__(self, *args, **kwargs):
        pass

    def submit(self, function, *args):
        function(*args)

    def shutdown(self, **options):
        pass


@needs_advice
def test_windows_of_a_file_larger_than_memory(tmp_path, X, y, available, monkeypatch):
    """The blocks of a window are read before its rows are used, and those of the next one, as far as there is room."""
    windowed(monkeypatch)
    monkeypatch.setattr(futures, "ThreadPoolExecutor", AtOnce)
    X = np.repeat(X, 20, axis=0)  # 1200 rows of 20 bytes: 150 windows of 8 rows
    y = np.repeat(y, 20)
    ref = trainer()
    ref.fit(X, y, batch_size=16, epochs=2, rng=0, shuffle="windows")
    window = 8 * WIDTH * X.itemsize
    once = 2 * len(X)  # rows of two epochs
    for free, ref_reads in ((X.nbytes - 1, once), (4 * window, once), (2 * window, once), (window, 0), (None, 0)):
        available(free)
        rows, comp = mapped_rows(tmp_path, X), trainer()
        comp.fit(rows, y, batch_size=16, epochs=2, rng=0)
        assert comp.order.kind == "windows" and bits(comp) == bits(ref)
        calls = mapping_of(rows).calls
        reads = [call[1:] for call in calls if not isinstance(call, int)]
        assert len(reads) == ref_reads
        assert {call for call in calls if isinstance(call, int)} == {mmap.MADV_RANDOM, mmap.MADV_NORMAL}


@needs_advice
def test_the_data_are_released_after_a_fit(tmp_path, X, y, available, monkeypatch):
    """Also if the fit ends within an epoch, which the next one continues, with its own reads."""
    windowed(monkeypatch)
    available(X.nbytes - 1)
    rows, made = mapped_rows(tmp_path, X), trainer()
    mapping = weakref.ref(mapping_of(rows))
    options = {"batch_size": 8, "max_steps": 2, "rng": 0, "shuffle": "windows"}
    made.fit(rows, y, **options)
    del rows
    gc.collect()
    assert mapping() is None
    rows = mapped_rows(tmp_path, X)
    made.fit(rows, y, **options)
    assert any(not isinstance(call, int) for call in mapping_of(rows).calls)


@needs_advice
def test_blocks_of_rows_of_positive_weight(tmp_path, X, y, available, monkeypatch):
    windowed(monkeypatch)
    available(X.nbytes - 1)
    weight = (np.arange(ROWS) % 3 > 0).astype(float)
    rows, ref, comp = mapped_rows(tmp_path, X), trainer(), trainer()
    for made, data in ((ref, X), (comp, rows)):
        made.fit(data, y, sample_weight=weight, batch_size=8, epochs=2, rng=0, shuffle="windows")
    assert bits(ref) == bits(comp)
    reads = [call for call in mapping_of(rows).calls if not isinstance(call, int)]
    assert reads and all(start + length <= rows.nbytes for _, start, length in reads)


@pytest.mark.parametrize("shuffle", ["full", "windows", False])
def test_an_order_that_is_asked_for_is_kept(tmp_path, X, y, available, shuffle):
    available(0)
    made = trainer()
    made.fit(mapped_rows(tmp_path, X), y, epochs=1, shuffle=shuffle)
    assert made.order.kind == (shuffle or "none") and not made.order.reason


def test_the_order_of_a_resumed_fit(tmp_path, X, y, available, monkeypatch):
    """The memory that was free at its beginning counts, not what is free now."""
    windowed(monkeypatch)
    rows, ref = mapped_rows(tmp_path, X), trainer()
    ref.fit(X, y, batch_size=8, epochs=4, rng=3, shuffle="windows")
    available(0)

    def fail(trainer, record):
        if trainer.steps >= 16:
            raise RuntimeError("killed")

    save = fm.SaveState(tmp_path / "state")
    with pytest.raises(RuntimeError):
        trainer().fit(rows, y, batch_size=8, epochs=4, rng=3, callbacks=[save, fail])
    available(10**9)
    comp = trainer()
    comp.fit(rows, y, batch_size=8, epochs=4, resume=tmp_path / "state", callbacks=save)
    assert str(comp.order) == "windows of 8 blocks of 1 rows (as in the fit that is resumed)"
    assert bits(ref) == bits(comp)
    with pytest.raises(fm.ResumeError, match='its shuffle is "windows", here it is "full"'):
        trainer().fit(rows, y, batch_size=8, epochs=4, resume=tmp_path / "state", shuffle="full")


def test_memory_is_not_measured_for_rows_in_memory(X, y, monkeypatch):
    monkeypatch.setattr(mapped, "available_memory", lambda: pytest.fail("not needed"))
    trainer().fit(X, y, epochs=1)


# ----------------------------------------------------------------------------- what is known about files


@pytest.fixture
def stored(tmp_path, rng):
    """A file of rows, and labels."""
    path = tmp_path / "stored.npy"
    np.save(path, rng.normal(size=(300, 4)).astype(np.float32))
    return path


def test_the_identity_of_an_array_in_a_file(stored):
    X = np.load(stored, mmap_mode="r")
    ref = file_identity(X)
    assert ref is not None and ref == file_identity(np.load(stored, mmap_mode="r")) == file_identity(np.asarray(X))
    others = [X[1:], X[::2], X[:, 1:], X.T, X.view(np.int32), X[5:]]
    identities = [file_identity(other) for other in others]
    assert None not in identities and len({ref, *identities}) == len(others) + 1
    assert file_identity(X[5:]) == file_identity(np.load(stored, mmap_mode="r")[2:][3:])
    for other in (np.array(X), np.load(stored, mmap_mode="r+"), np.load(stored, mmap_mode="c"), None, [1.0]):
        assert file_identity(other) is None
    os.utime(stored, (1, 1))
    assert file_identity(X) != ref
    stored.unlink()
    assert file_identity(X) is None


def test_a_file_is_checked_once_until_it_changes(stored, monkeypatch):
    checked = []

    def check(array, what, dtype):
        checked.append(array.shape)
        require(array, what, dtype)

    require = validation.require_finite
    monkeypatch.setattr(validation, "require_finite", check)
    for dtype in (np.dtype(np.float32), None):  # a number may be finite in one dtype only
        for _ in range(3):
            validation.finite_features(np.load(stored, mmap_mode="r"), 4, dtype, "X")
    assert len(checked) == 2
    validation.finite_features(np.load(stored, mmap_mode="r")[1:], 4, None, "X")
    validation.finite_features(np.load(stored, mmap_mode="r+"), 4, None, "X")
    validation.finite_features(np.load(stored), 4, None, "X")
    assert len(checked) == 5
    X = np.load(stored)
    X[7, 2] = np.nan
    np.save(stored, X)
    for _ in range(2):  # what is wrong is not kept
        with pytest.raises(ValueError, match="row 7"):
            validation.finite_features(np.load(stored, mmap_mode="r"), 4, None, "X")


def test_the_digests_of_a_file_are_those_of_its_rows(stored, monkeypatch):
    monkeypatch.setattr(digests, "BLOCK", 1000)
    X = np.load(stored, mmap_mode="r")
    ref = array_digests(np.array(X))
    assert len(ref) == -(-X.nbytes // 1000)
    assert array_digests(X) == array_digests(X) == array_digests(np.asfortranarray(X)) == ref
    assert array_digests(X[:, ::-1]) == array_digests(np.array(X)[:, ::-1]) != ref
    np.save(stored, np.array(X)[::-1])
    X = np.load(stored, mmap_mode="r")
    assert array_digests(X) == array_digests(np.array(X)) != ref
    assert array_digests(np.array(3.0)) == array_digests(np.array([3.0])) and array_digests(X[:0]) == []


def test_few_facts_are_kept():
    facts = Facts()
    facts.keep(None, 1)
    for number in range(100):
        facts.keep(number, number)
    assert len(facts) == Facts.MOST and facts.get(99) == 99 and 0 not in facts


def test_paths_in_the_place_of_arrays(tmp_path, rng):
    X, y = rng.normal(size=(90, 4)).astype(np.float32), np.arange(90) % 3
    np.save(tmp_path / "X.npy", X), np.save(tmp_path / "y.npy", y), np.save(tmp_path / "w.npy", y + 1.0)
    paths = [tmp_path / "X.npy", str(tmp_path / "y.npy"), tmp_path / "w.npy"]
    results = []
    for data in ([X, y, y + 1.0], paths):
        trainer = fm.Trainer(fm.MLP(4, [5], 3, rng=0), fm.CrossEntropyLoss(), fm.Adam(0.01))
        trainer.fit(data[0], data[1], sample_weight=data[2], validation=tuple(data), epochs=2, rng=0)
        results.append((
            list(trainer.evaluate(*data).values()), trainer.predict(data[0]).tolist(),
            trainer.predict_proba(data[0]).tolist(), [record["val_loss"] for record in trainer.history.records],
        ))  # fmt: skip
    assert results[0] == results[1]
    with pytest.raises(fm.DataError, match=r"fit: X is the path 'rows.csv'; expected an array, or the path of a .npy"):
        trainer.fit("rows.csv", y)
    with pytest.raises(fm.DataError, match="gone.npy cannot be read: No such file"):
        trainer.predict(tmp_path / "gone.npy")
