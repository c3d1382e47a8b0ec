"""Mapped files: which arrays are in them, and the advice about their reads."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

import fastmlp as fm
from fastmlp._common.mapped import AHEAD, SINGLE_PAGES, MappedFiles, mapping_of
from fastmlp.training import fit as fits

ROWS, WIDTH = 60, 5
needs_advice = pytest.mark.skipif(not hasattr(mmap.mmap, "madvise"), reason="the system takes no advice")


class RecordedMap(mmap.mmap):
    """A mapped file that records the advice about it."""

    def __init__(self, *args, **kwargs):
        self.calls = []

    def madvise(self, advice, *span):
        self.calls.append(advice)
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
    return lambda count: monkeypatch.setattr(fits, "available_memory", lambda: count)


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
    def refuse(self, advice):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(RecordedMap, "madvise", refuse)
    with MappedFiles([mapped_rows(tmp_path, X)]).advised(SINGLE_PAGES):
        pass


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
    rows = mapped_rows(tmp_path, X)
    seen = []

    class Look(fm.Callback):
        def on_step(self, trainer, step, loss):
            seen.append(mapping_of(rows).calls[-1])

    callbacks = [Look(), fm.SaveState(tmp_path / "state", every_steps=5)]
    comp.fit(rows, y, validation=(rows, y), batch_size=8, epochs=2, rng=0, callbacks=callbacks)
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
        trainer().fit(rows, y, callbacks=fail)
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
    made.fit(*arrays[:2], sample_weight=arrays[2], epochs=1)
    for array in arrays:
        assert mapping_of(array).calls == [mmap.MADV_RANDOM, mmap.MADV_NORMAL] * 2  # also around the evaluation


def test_memory_is_not_measured_for_rows_in_memory(X, y, monkeypatch):
    monkeypatch.setattr(fits, "available_memory", lambda: pytest.fail("not needed"))
    trainer().fit(X, y, epochs=1)
