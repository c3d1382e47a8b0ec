"""Fits of several trainers at once: the bits, errors and interruptions of single fits."""

from __future__ import annotations

import io
import os
import signal
import threading

import numpy as np
import pytest
from checks import assert_matches

import fastmlp as fm
from fastmlp._common.parallel import run_jobs
from fastmlp._common.threads import thread_limit, usable_threads
from fastmlp.training import batches

X = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)
WEIGHT = np.random.default_rng(1).integers(0, 3, 60).astype(float)
FOLDS = np.array_split(np.random.default_rng(2).permutation(60), 3)
OPTIONS = {"epochs": 3, "batch_size": 8}


def make(seed=0, lr=0.01, **options):
    model = fm.MLP(6, [5], 3, dropout=0.1, rng=seed)
    return fm.Trainer(model, fm.CrossEntropyLoss(), fm.Adam(lr), **options)


def bits(trainer):
    state = trainer.optimizer.state
    arrays = [array for name in state for array in state[name].values()]
    return b"".join(array.tobytes() for array in [*trainer.model.state_dict().values(), *arrays])


def curve(history):
    return [[record["step"], record["train_loss"], record["val_loss"] or 0.0] for record in history]


def require_equal(refs, comps, histories):
    for ref, comp, history in zip(refs, comps, histories, strict=True):
        assert bits(comp) == bits(ref) and comp.seed == ref.seed and comp.steps == ref.steps
        assert history is comp.history
        assert_matches(curve(ref.history), curve(history))


# ---------------------------------------------------------------------------------------------- results


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("threads", [None, 1, 3, 8])
def test_the_bits_of_single_fits(backend, threads):
    with fm.use_backend(backend):
        refs, comps = ([make(k, 0.01 * (k + 1), l2=0.1 * k) for k in range(5)] for _ in range(2))
        for k, ref in enumerate(refs):
            ref.fit(X, Y, **OPTIONS, validation=(X[:9], Y[:9]), sample_weight=WEIGHT, rng=k)
        histories = fm.fit_many(
            comps, X, Y, **OPTIONS, validation=(X[:9], Y[:9]), sample_weight=WEIGHT, threads=threads,
            each=[{"rng": k} for k in range(5)],
        )  # fmt: skip
    require_equal(refs, comps, histories)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_folds_without_a_copy(weighted, sparse):
    rows = pytest.importorskip("scipy.sparse").csr_array(X) if sparse else X
    weight = WEIGHT if weighted else None
    refs, comps, each = [make() for _ in FOLDS], [make() for _ in FOLDS], []
    for ref, fold in zip(refs, FOLDS, strict=True):
        rest = np.setdiff1d(np.arange(60), fold)
        held_out = (rows[fold], Y[fold], *(() if weight is None else (weight[fold],)))
        ref.fit(
            rows[rest], Y[rest], **OPTIONS, rng=3, validation=held_out,
            sample_weight=None if weight is None else weight[rest],
        )  # fmt: skip
        each.append({"rows": rest, "validation_rows": fold})
    histories = fm.fit_many(comps, rows, Y, **OPTIONS, rng=3, sample_weight=weight, each=each)
    require_equal(refs, comps, histories)


def test_rows_may_repeat():
    index = np.random.default_rng(3).integers(0, 60, 60)
    ref, comp = make(), make()
    ref.fit(X[index], Y[index], **OPTIONS, rng=0)
    fm.fit_many([comp], X, Y, **OPTIONS, rng=0, each=[{"rows": index}])
    assert bits(comp) == bits(ref)


def test_early_stopping_is_that_of_each():
    refs, comps = ([make(k, (0.3, 0.001)[k]) for k in range(2)] for _ in range(2))
    held_out, stops = (X[:20], Y[:20]), [fm.EarlyStopping(2) for _ in range(4)]
    for ref, stop in zip(refs, stops, strict=False):
        ref.fit(X, Y, validation=held_out, callbacks=stop, epochs=20, rng=0)
    each = [{"callbacks": [stop]} for stop in stops[2:]]
    histories = fm.fit_many(comps, X, Y, validation=held_out, epochs=20, rng=0, each=each, threads=2)
    require_equal(refs, comps, histories)
    assert [stop.best_step for stop in stops[:2]] == [stop.best_step for stop in stops[2:]]
    assert stops[2].stopped and len(histories[0]) < len(histories[1])
    assert [comp.restored for comp in comps] == [ref.restored for ref in refs]


def test_a_generator_draws_a_seed_for_each():
    comps = [make() for _ in range(6)]
    fm.fit_many(comps, X, Y, epochs=1, rng=np.random.default_rng(5), threads=3)
    rng = np.random.default_rng(5)
    assert [comp.seed for comp in comps] == [int(rng.integers(0, 2**64, dtype=np.uint64)) for _ in comps]


def test_no_trainers():
    assert fm.fit_many([], X, Y) == []


def test_a_further_fit_continues_and_takes_all_threads(monkeypatch):
    refs, comps = ([make(k) for k in range(3)] for _ in range(2))
    for ref in refs:
        ref.fit(X, Y, epochs=1, rng=0)
        ref.fit(X, Y, epochs=1)
    fm.fit_many(comps, X, Y, epochs=1, rng=0, threads=2)
    histories = fm.fit_many(comps[:2], X, Y, epochs=1, threads=2)
    histories.append(comps[2].fit(X, Y, epochs=1))
    require_equal(refs, comps, histories)
    wide = [fm.Trainer(fm.MLP(6, [900, 900], 3, rng=0), fm.CrossEntropyLoss(), fm.SGD(0.01)) for _ in range(2)]
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "2")
    monkeypatch.setattr("fastmlp._common.threads._affinity", lambda: 2)
    fm.fit_many(wide, X, Y, max_steps=1, batch_size=60, threads=2)
    alone = wide[0].threads
    wide[0].fit(X, Y, max_steps=1, batch_size=60)
    assert (alone, wide[0].threads) == (1, min(2, os.cpu_count() or 1))


# ------------------------------------------------------------------------------------------ one data set


def test_rows_are_checked_once_and_shared(monkeypatch):
    checked, used = [], []

    def finite_features(rows, *rest):
        checked.append(rows)
        return rows

    monkeypatch.setattr(batches, "finite_features", finite_features)
    trainers, held_out = [make(k) for k in range(4)], (X[:9], Y[:9])
    fit_checked = fm.Trainer.fit_checked
    monkeypatch.setattr(
        fm.Trainer, "fit_checked", lambda self, train, *rest, **named: (
            used.append(train), fit_checked(self, train, *rest, **named)
        )[1],
    )  # fmt: skip
    each = [{"rows": FOLDS[0]}, {"rows": FOLDS[1]}, {}, {"validation": None, "validation_rows": FOLDS[2]}]
    fm.fit_many(trainers, X, Y, validation=held_out, epochs=1, each=each)
    assert [len(rows) for rows in checked] == [60, 9, 60]  # those of `validation_rows` are not rounded
    assert all(train.X is X and train.y is used[0].y for train in used) and len(used) == 4


def test_a_mapped_file(tmp_path):
    np.save(tmp_path / "X.npy", X)
    refs, comps = ([make(k) for k in range(2)] for _ in range(2))
    for ref in refs:
        ref.fit(X, Y, **OPTIONS, rng=0, validation=(X, Y))
    path = tmp_path / "X.npy"
    histories = fm.fit_many(comps, path, Y, **OPTIONS, rng=0, validation=(path, Y))
    require_equal(refs, comps, histories)


# ------------------------------------------------------------------------------------ errors of single fits


def test_a_divergence_does_not_end_the_others():
    rates = (0.01, 1e30, 0.02, 1e35)
    refs, comps = ([make(k, rate) for k, rate in enumerate(rates)] for _ in range(2))
    for number in (0, 2):
        refs[number].fit(X, Y, **OPTIONS, rng=0)
    message = r"^trainers\[1\]: Training diverged: .* 2 of 4 fits failed \(1, 3\), the others are complete.$"
    with pytest.raises(fm.DivergenceError, match=message):
        fm.fit_many(comps, X, Y, **OPTIONS, rng=0, threads=2)
    require_equal(refs[::2], comps[::2], [comp.history for comp in comps[::2]])
    initial = make(1).model.state_dict().values()
    for ref, comp in zip(initial, comps[1].model.state_dict().values(), strict=True):
        assert_matches(ref, comp)


def test_errors_are_returned():
    comps = [make(0), make(1, 1e30)]
    history, error = fm.fit_many(comps, X, Y, **OPTIONS, rng=0, return_errors=True)
    assert history is comps[0].history and isinstance(error, fm.DivergenceError) and "fits failed" not in str(error)


def test_an_error_of_a_callback():
    def fail(trainer, record):
        raise KeyError("no such metric")

    comps = [make(0), make(1)]
    with pytest.raises(KeyError, match=r"no such metric. 1 of 2 fits failed \(0\)"):
        fm.fit_many(comps, X, Y, **OPTIONS, each=[{"callbacks": fail}, {}])
    assert comps[1].steps == 24


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_ends_all(threads):
    comps, begun = [make(k) for k in range(4)], threading.Barrier(threads)

    def press(trainer, record):
        if len(trainer.history) == 1:
            begun.wait(60)
            if trainer is comps[0]:
                os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fm.fit_many(comps, X, Y, epochs=10**6, callbacks=press, threads=threads, rng=0)
    assert signal.getsignal(signal.SIGINT) is handler
    assert [comp.steps > 0 for comp in comps[:2]] == [True, threads == 2] and comps[2].steps == comps[3].steps == 0
    for comp in comps[:threads]:  # each has whole steps, and can go on
        ref = make(comps.index(comp))
        ref.fit(X, Y, max_steps=comp.steps, rng=0)
        for one, other in zip(ref.model.state_dict().values(), comp.model.state_dict().values(), strict=True):
            assert_matches(one, other)
    histories = fm.fit_many(comps, X, Y, epochs=1, rng=0)
    assert [len(history) for history in histories] == [1] * 4


def test_an_exception_that_ends_the_process_ends_all():
    def leave(trainer, record):
        raise SystemExit(3)

    comps = [make(k) for k in range(3)]
    with pytest.raises(SystemExit):
        fm.fit_many(comps, X, Y, epochs=10**6, threads=2, each=[{}, {"callbacks": leave}, {}])
    assert comps[2].steps == 0


def test_fits_are_resumed(tmp_path):
    def stop(trainer, record):
        if record["step"] == 16:
            raise OSError("no room")

    refs, comps = ([make(k) for k in range(3)] for _ in range(2))
    for k, ref in enumerate(refs):
        ref.fit(X, Y, **OPTIONS, rng=k)
    paths = [tmp_path / f"{k}.safetensors" for k in range(3)]
    each = [{"rng": k, "callbacks": [fm.SaveState(path), stop]} for k, path in enumerate(paths)]
    errors = fm.fit_many(comps, X, Y, **OPTIONS, each=each, return_errors=True)
    assert [str(error) for error in errors] == ["no room"] * 3
    each = [{"resume": path, "callbacks": [fm.SaveState(path)]} for path in paths]
    comps = [make(k + 7) for k in range(3)]
    fm.fit_many(comps, X, Y, **OPTIONS, each=each)
    assert [bits(comp) for comp in comps] == [bits(ref) for ref in refs]


# ----------------------------------------------------------------------------------------- wrong arguments


def test_shared_objects():
    one, other = make(0), make(1)
    with pytest.raises(ValueError, match=r"trainers\[0\] and trainers\[2\] share the same trainer"):
        fm.fit_many([one, other, one], X, Y)
    with pytest.raises(ValueError, match="share the same model, or a part of it"):
        fm.fit_many([one, fm.Trainer(one.model, fm.CrossEntropyLoss(), fm.SGD())], X, Y)
    part = fm.Sequential(fm.Linear(6, 6, rng=0), one.model)
    with pytest.raises(ValueError, match="share the same model, or a part of it"):
        fm.fit_many([one, fm.Trainer(part, fm.CrossEntropyLoss(), fm.SGD())], X, Y)
    with pytest.raises(ValueError, match="share the same optimizer"):
        fm.fit_many([one, fm.Trainer(other.model, fm.CrossEntropyLoss(), one.optimizer)], X, Y)
    cosine, plateau = fm.Cosine(0.1, 10), fm.ReduceOnPlateau(0.1)
    fm.fit_many([make(k, cosine) for k in range(2)], X, Y, epochs=1)
    with pytest.raises(ValueError, match="share the same schedule, which has a state"):
        fm.fit_many([make(k, plateau) for k in range(2)], X, Y)


def test_shared_callbacks():
    stop = fm.EarlyStopping()
    with pytest.raises(ValueError, match="Trainers 0 and 1 share a EarlyStopping"):
        fm.fit_many([make(0), make(1)], X, Y, callbacks=stop)
    with pytest.raises(ValueError, match="ProgressBar on the same stream"):
        fm.fit_many([make(0), make(1)], X, Y, each=[{"callbacks": fm.ProgressBar()} for _ in range(2)])
    streams = [io.StringIO(), io.StringIO()]
    each = [{"callbacks": fm.ProgressBar(stream)} for stream in streams]
    fm.fit_many([make(0), make(1)], X, Y, epochs=2, each=each)
    assert [stream.getvalue().count("\n") for stream in streams] == [2, 2]
    seen = []
    fm.fit_many([make(0), make(1)], X, Y, epochs=2, callbacks=(one for one in [lambda *both: seen.append(both)]))
    assert len(seen) == 4


@pytest.mark.parametrize(
    "options, message",
    [
        ({"epoch": 3}, "fit_many got the option 'epoch'; expected some of validation, batch_size"),
        ({"rows": FOLDS[0]}, "fit_many got the option 'rows'.* give it in each"),
        ({"each": [{}]}, "each has 1 entries; expected one for each of the 2 trainers"),
        ({"each": [{}, None]}, r"each\[1\] is None; expected a dict"),
        ({"each": [{}, {"threads": 2}]}, r"each\[1\] got the option 'threads'.*fit_many has it"),
        ({"each": [{}, {"batch_size": 0}]}, "batch_size is 0"),
        ({"each": [{}, {"rng": -1}]}, "rng is -1"),
        ({"each": [{"rows": [60]}, {}]}, "rows has the number 60; expected numbers from 0 to 59"),
        ({"each": [{"rows": [-1]}, {}]}, "rows has the number -1"),
        ({"each": [{"rows": X[:, 0] > 0}, {}]}, r"dtype bool; .* np.flatnonzero\(mask\)"),
        ({"each": [{"validation_rows": []}, {}]}, "validation_rows has shape"),
        ({"each": [{"validation": (X, Y), "validation_rows": [0]}, {}]}, "both validation and validation_rows"),
        ({"threads": 0}, "threads is 0"),
        ({"validation": X}, "validation is not a pair"),
        ({"callbacks": [3]}, "callbacks holds 3"),
    ],
)
def test_wrong_options_are_seen_before_the_first_step(options, message):
    trainers = [make(0), make(1)]
    with pytest.raises(TypeError if {"epoch", "rows"} & set(options) else ValueError, match=message):
        fm.fit_many(trainers, X, Y, **options)
    assert [trainer.steps for trainer in trainers] == [0, 0]


def test_what_is_no_trainer():
    with pytest.raises(ValueError, match=r"trainers\[1\] is 3; expected a Trainer"):
        fm.fit_many([make(), 3], X, Y)


def test_unfit_rows():
    bad = X.copy()
    bad[7, 2] = np.nan
    with pytest.raises(ValueError, match="fit_many: X .*row 7"):
        fm.fit_many([make(0), make(1)], bad, Y)


# ---------------------------------------------------------------------------------------------- threads


def test_jobs_share_the_threads():
    assert run_jobs([thread_limit] * 3, 7) == [2, 2, 2] and thread_limit() is None
    assert run_jobs([lambda: usable_threads().count] * 2, 2) == [1, 1]


def test_jobs_run_in_the_context():
    with fm.use_backend("numpy"):
        made = run_jobs([lambda: fm.Linear(2, 2, rng=0).backend_name] * 4, 2)
    assert made == ["numpy"] * 4


@pytest.mark.usefixtures("interruptible")
def test_jobs_inside_jobs_end_too():
    inner, begun = [make(k) for k in range(2)], threading.Barrier(3)

    def press(trainer, record):
        if len(trainer.history) == 1:
            begun.wait(60)
            if trainer is inner[0]:
                os.kill(os.getpid(), signal.SIGINT)

    def fit():
        make(5).fit(X, Y, epochs=10**6, callbacks=press)

    jobs = [fit, lambda: fm.fit_many(inner, X, Y, epochs=10**6, callbacks=press, threads=2)]
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, 2)
    assert all(trainer.steps for trainer in inner)
