"""Callbacks, errors, early stopping and resumed fits over ranks, which are threads here."""

import copy

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.training.batches import check_rows
from fastmlp.training.evaluation import evaluate_rows
from fastmlp.training.ranks import Ranks

from .launch import on_threads

ROWS = 256
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 8)).astype(np.float32)
Y = (X @ RNG.normal(size=(8, 3)).astype(np.float32)).argmax(axis=1)
BACKENDS = pytest.mark.parametrize("backend", ["numba", "numpy"])


def trainer_of(backend="numba", seed=0):
    with fm.use_backend(backend):
        return fm.Trainer(fm.MLP(8, [12], 3, rng=seed), fm.CrossEntropyLoss(), fm.Adam(0.02))


def fit(trainer, group, **options):
    options = {"batch_size": 32, "epochs": 4, "rng": 1, "pieces": 4, "threads": 1, "validation": (X, Y), **options}
    return trainer.fit(X, Y, group=group, **options)


def weights(trainer):
    return b"".join(array.tobytes() for array in trainer.model.state_dict().values())


def ended(group, trainer, **options):
    """Return what the fit of a rank raises, its weights and its step."""
    try:
        fit(trainer, group, **options)
        error = None
    except BaseException as raised:
        error = raised
    return error, weights(trainer), trainer.steps


class Notes(fm.Callback):
    """Events of a fit."""

    may_change_model = looks_at_model = False

    def __init__(self, every_rank):
        self.every_rank, self.events = every_rank, []

    def on_fit_begin(self, trainer):
        self.events.append("begin")

    def on_evaluation(self, trainer, record):
        self.events.append(record["step"])

    def on_fit_end(self, trainer):
        self.events.append("end")


def test_rank_0_alone_calls_callbacks_but_those_of_every_rank():
    def work(group):
        alone, every = Notes(False), Notes(True)
        fit(trainer_of(), group, epochs=2, callbacks=[alone, every])
        return alone.events, every.events

    found, errors = on_threads(2, work)
    whole = ["begin", 8, 16, "end"]
    assert not errors and found == [(whole, whole), ([], whole)]


@BACKENDS
def test_early_stopping_leaves_the_best_weights_on_all_ranks(backend):
    def work(group):
        trainer = trainer_of(backend)
        stopping = fm.EarlyStopping(2, min_delta=0.05)
        fit(trainer, group, epochs=50, callbacks=stopping if group.rank == 0 else fm.EarlyStopping(2, min_delta=0.05))
        return weights(trainer), trainer.steps, trainer.restored

    (ref,), _ = on_threads(1, work)
    assert 0 < ref[2] < ref[1] < 400
    for ranks in (2, 4):
        found, errors = on_threads(ranks, work)
        assert not errors and found == [ref] * ranks


@BACKENDS
@pytest.mark.parametrize("event", ["on_fit_begin", "on_step", "on_progress", "on_evaluation", "on_fit_end"])
def test_exception_of_a_callback_ends_all_ranks_at_the_same_step(event, backend):
    def work(group):
        callback, calls = fm.Callback(), []

        def fails(*arguments):
            calls.append(1)
            if len(calls) == (1 if event in ("on_fit_begin", "on_fit_end") else 3):
                raise OSError(28, "No space left on device", "run/state")

        setattr(callback, event, fails)
        return ended(group, trainer_of(backend), callbacks=callback, epochs=200 if event == "on_progress" else 4)

    found, _ = on_threads(2, work)
    (own, *state), (other, *others) = found
    assert isinstance(own, OSError) and state == others
    assert isinstance(other, fm.RankError) and str(other).startswith("rank 0 on ")
    assert "No space left on device" in str(other)


@BACKENDS
@pytest.mark.parametrize("rank", [0, 1])
def test_exception_in_the_steps_of_one_rank(rank, backend):
    def work(group):
        trainer = trainer_of(backend)
        whole, calls = trainer._advance, []

        def advance(run, arguments):
            calls.append(1)
            if group.rank == rank and len(calls) == 3:
                raise MemoryError("no room for a batch")
            return whole(run, arguments)

        trainer._advance = advance
        return ended(group, trainer)

    found, _ = on_threads(2, work)
    assert isinstance(found[rank][0], MemoryError) and found[0][1:] == found[1][1:]
    assert isinstance(found[1 - rank][0], fm.RankError) and "no room for a batch" in str(found[1 - rank][0])


@BACKENDS
@pytest.mark.parametrize("rank", [0, 1])
def test_interrupt_of_one_rank_ends_all_at_the_same_step(rank, backend):
    class Interrupts(fm.Callback):
        every_rank, looks_at_model, may_change_model = True, False, False

        def __init__(self, group):
            self.group = group

        def on_evaluation(self, trainer, record):
            if self.group.rank == rank and record["step"] == 16:
                raise KeyboardInterrupt

    found, _ = on_threads(2, lambda group: ended(group, trainer_of(backend), callbacks=Interrupts(group)))
    assert [type(error) for error, *_ in found] == [KeyboardInterrupt] * 2
    assert found[0][1:] == found[1][1:] and found[0][2] == 16


@BACKENDS
@pytest.mark.filterwarnings("ignore:overflow")
def test_divergence_by_the_rows_of_one_rank(backend):
    huge = X.copy()
    huge[-1] = 3e38  # the last row of an epoch in the order of the data, which the last rank has

    def work(group):
        trainer = trainer_of(backend)
        try:
            fit(trainer, group, shuffle=False, epochs=1)
            for _, array in trainer.model.named_parameters():
                array *= 100
            trainer.fit(huge, Y, batch_size=32, epochs=1, pieces=4, group=group, shuffle=False, threads=1)
        except fm.DivergenceError as error:
            return str(error), weights(trainer), trainer.steps
        raise AssertionError

    (ref,), _ = on_threads(1, work)
    assert ref[2] == 8 and "The model keeps the weights of step 8" in ref[0]
    for ranks in (2, 4):
        found, errors = on_threads(ranks, work)
        assert not errors and found == [ref] * ranks


@BACKENDS
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 4), (4, 2)])
def test_resumed_on_another_number_of_ranks(before, after, backend, tmp_path):
    ref = trainer_of(backend)
    fit(ref, None)

    def first(group):
        def stop(trainer, record):
            if record["step"] == 16:
                trainer.stop()

        trainer = trainer_of(backend)
        saves = fm.SaveState(tmp_path / "state") if group.rank == 0 else fm.SaveState("unused")
        fit(trainer, group, callbacks=[saves, stop])
        return trainer.steps

    def second(group):
        trainer = trainer_of(backend, seed=5)
        fit(trainer, group, resume=tmp_path / "state", callbacks=fm.SaveState(tmp_path / "other"))
        return weights(trainer), trainer.steps

    found, errors = on_threads(before, first)
    assert not errors and found == [16] * before
    found, errors = on_threads(after, second)
    assert not errors, errors
    assert found == [(weights(ref), 32)] * after


def test_callbacks_of_rank_0_resume_alone(tmp_path):
    whole = trainer_of()
    fit(whole, None, epochs=6, callbacks=fm.EarlyStopping(2, min_delta=0.02))

    def work(group, epochs, resume):
        trainer = trainer_of()
        callbacks = [Notes(True)]
        if group.rank == 0:
            callbacks += [fm.EarlyStopping(2, min_delta=0.02), fm.SaveState(tmp_path / "state")]
            callbacks += [] if resume else [lambda trainer, record: record["step"] == 16 and trainer.stop()]
        fit(trainer, group, epochs=epochs, callbacks=callbacks, resume=tmp_path / "state" if resume else None)
        return weights(trainer), trainer.steps, trainer.restored

    _, errors = on_threads(2, lambda group: work(group, 6, False))
    assert not errors, errors
    found, errors = on_threads(2, lambda group: work(group, 6, True))
    assert not errors, errors
    assert found == [(weights(whole), whole.steps, whole.restored)] * 2


def test_pieces_are_part_of_the_identity(tmp_path):
    fit(trainer_of(), None, epochs=1, callbacks=fm.SaveState(tmp_path / "state"))
    with pytest.raises(fm.ResumeError, match="its pieces is 4, here it is 8"):
        fit(trainer_of(), None, epochs=1, resume=tmp_path / "state", pieces=8, callbacks=fm.SaveState(tmp_path / "x"))
    with pytest.raises(fm.ResumeError, match="its pieces is 4, here it is null"):
        fit(trainer_of(), None, epochs=1, resume=tmp_path / "state", pieces=None, callbacks=fm.SaveState("x"))


@BACKENDS
@pytest.mark.parametrize(
    ("event", "rank", "steps"), [("on_fit_begin", 0, 0), ("on_step", 1, 3), ("on_evaluation", 1, 8)]
)
def test_a_callback_stops_all_ranks(event, rank, steps, backend):
    def work(group):
        class Stops(fm.Callback):
            every_rank = event != "on_fit_begin"

        def stop(trainer, *arguments):
            if group.rank == rank and trainer.steps == steps:
                trainer.stop()

        callback, trainer = Stops(), trainer_of(backend)
        setattr(callback, event, stop)
        fit(trainer, group, callbacks=callback)
        return trainer.steps, weights(trainer)

    found, errors = on_threads(2, work)
    assert not errors and found == [(steps, found[0][1])] * 2


def test_a_fit_without_pieces_follows_one_with_pieces():
    def work(*others):
        trainer = trainer_of()
        for pieces in others:
            fit(trainer, None, pieces=pieces)
        return weights(trainer)

    twin = trainer_of()
    fit(twin, None, pieces=None)
    assert work(None) == weights(twin)
    fit(twin, None, pieces=4)
    assert work(None, 4) == weights(twin) != work(None, None)


def test_callback_that_changes_the_model_of_rank_0():
    def work(group):
        def halve(trainer, record):
            for _, array in trainer.model.named_parameters():
                array *= 0.5

        trainer = trainer_of()
        fit(trainer, group, callbacks=halve)
        return weights(trainer)

    (ref,), _ = on_threads(1, work)
    found, errors = on_threads(4, work)
    assert not errors and found == [ref] * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": (Y + 1) % 3}, "The ranks differ in training rows: "),
        ({"epochs": 3}, "The ranks differ in steps: 24 here, 32 on rank 0"),
        ({"eval_every": 3}, "The ranks differ in evaluation interval: 3 here, 8 on rank 0"),
    ],
)
def test_ranks_with_other_arguments(change, message):
    def work(group):
        own = change if group.rank == 1 else {}
        options = {"batch_size": 32, "epochs": 4, "rng": 1, "pieces": 4, "threads": 1, **own}
        return trainer_of().fit(X, options.pop("y", Y), group=group, **options)

    found, errors = on_threads(2, work)
    assert len(errors) == 2 and message in str(found[1]) and message in str(found[0])


def test_wrong_arguments():
    with pytest.raises(ValueError, match="pieces is 3; expected a power of two"):
        fit(trainer_of(), None, pieces=3)
    with pytest.raises(ValueError, match="pieces is 'no'"):
        fit(trainer_of(), None, pieces="no")
    with pytest.raises(ValueError, match="group is 5; expected a Group"):
        fit(trainer_of(), 5)
    found, errors = on_threads(2, lambda group: fit(trainer_of(), group, pieces=None))
    assert len(errors) == 2
    assert str(found[0]).startswith("There are 2 ranks, and batches have 1 piece (the default for batches of 32 rows)")


def test_seed_and_weights_are_those_of_rank_0():
    def work(group):
        trainer = trainer_of(seed=group.rank)
        fit(trainer, group, rng=None)
        return weights(trainer), trainer.seed

    found, errors = on_threads(2, work)
    assert not errors and found[0] == found[1]


@pytest.mark.parametrize("loss", [fm.CrossEntropyLoss(label_smoothing=0.1), fm.MSELoss()])
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_evaluation_shares_its_blocks(loss, ranks):
    model = fm.MLP(8, [12], 3, rng=0)
    targets = Y if loss.task == "classification" else X[:, :3]
    rows = check_rows(X, targets, RNG.uniform(0, 2, ROWS), model, loss, "evaluate", measured=True)
    ref = evaluate_rows(model, loss, rows, 20)
    assert evaluate_rows(model, loss, rows, 20, ranks=Ranks(None, None, 32)) == ref

    def work(group):
        seen = []
        twin = copy.deepcopy(model)
        infer = lambda x: seen.append(1) or twin.infer(x)  # noqa: E731
        found = evaluate_rows(twin, loss, rows, 20, infer=infer, ranks=Ranks(group, "off", 32))
        return found, len(seen)

    found, errors = on_threads(ranks, work)
    assert not errors, errors
    assert [measured for measured, _ in found] == [ref] * ranks
    assert sum(count for _, count in found) == 13 and max(count for _, count in found) <= 13 // ranks + 1
