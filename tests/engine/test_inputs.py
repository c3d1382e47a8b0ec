"""Inputs of trainers: data of any kind, settings that change between fits, user-defined components."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings

import numpy as np
import pytest
from same_steps import modules_only

import fastmlp as fm

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("the engine runs jitted only", allow_module_level=True)

BATCH = 13
generator = np.random.default_rng(5)
X, Y = generator.integers(0, 10, (33, 9)).astype(np.float32), generator.integers(0, 3, 33)


@pytest.fixture(autouse=True)
def on_numba():
    with fm.use_backend("numba"):
        yield


def trainer_of(optimizer=None, loss=None, features=9, **kwargs):
    kwargs = {"normalize": fm.Normalize(np.full(features, 4.5), np.full(features, 3.0)), "rng": 0, **kwargs}
    model = fm.MLP(features, [12], 3, "tanh", **kwargs)
    return fm.Trainer(model, loss or fm.CrossEntropyLoss(), optimizer or fm.SGD(0.1, 0.9))


def fit(trainer, x=X, y=Y, **options):
    trainer.fit(x, y, **{"batch_size": BATCH, "max_steps": 8, "rng": 3, "threads": 1, **options})
    return trainer


def bits(trainer):
    return {name: array.tobytes() for name, array in trainer.model.state_dict().items()}


def assert_near(ref, comp, tolerance=1e-4):
    for name, array in ref.model.state_dict().items():
        np.testing.assert_allclose(comp.model.state_dict()[name], array, tolerance, tolerance, err_msg=name)


# ------------------------------------------------------------------------------------------------- data


def padded(array):
    """It as a part of a larger array."""
    wide = np.full((50, 30), 77, array.dtype)
    wide[3:36, 4:13] = array
    return wide[3:36, 4:13]


def unaligned(array):
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


DTYPES = ["float32", "float64", "float16", "uint8", "int8", "int64", "uint16", ">f4", ">f8", ">i4", "longdouble"]
LAYOUTS = {
    "contiguous": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "rows-backward": lambda a: a[::-1].copy()[::-1],
    "columns-backward": lambda a: a[:, ::-1].copy()[:, ::-1],
    "part": padded,
    "every-second-row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "every-second-column": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "unaligned": unaligned,
    "read-only": read_only,
    "list": lambda a: a.tolist(),
}


@pytest.fixture(scope="module")
def expected():
    with fm.use_backend("numba"):
        return bits(fit(trainer_of()))


@pytest.mark.parametrize("kind", DTYPES)
def test_dtypes_do_not_matter(kind, expected):
    for layout in ("contiguous", "fortran", "rows-backward", "part"):
        trainer = fit(trainer_of(), LAYOUTS[layout](X.astype(kind)), validation=(X.astype(kind), Y))
        assert trainer._session is not None and bits(trainer) == expected, layout


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_do_not_matter(layout, expected):
    for kind in ("float32", "float64", "uint8"):
        if layout == "unaligned" and kind == "uint8":
            continue
        x = LAYOUTS[layout](X.astype(kind))
        assert bits(fit(trainer_of(), x, validation=(x, Y))) == expected, kind
        np.testing.assert_array_equal(np.asarray(x), X)


def test_mapped_files_do_not_matter(tmp_path, expected):
    for kind in ("float32", "uint8", "int64"):
        np.save(tmp_path / "x.npy", X.astype(kind))
        mapped = np.memmap(tmp_path / "x.raw", kind, "w+", shape=X.shape)
        mapped[:] = X
        for x in (mapped, np.load(tmp_path / "x.npy", mmap_mode="r")):
            assert bits(fit(trainer_of(), x)) == expected


def test_bools_are_numbers_and_repeated_rows_are_rows():
    ref = bits(fit(trainer_of(), (X > 4).astype(np.float32)))
    assert bits(fit(trainer_of(), X > 4)) == ref
    ref = bits(fit(trainer_of(), np.repeat(X[:1], 33, axis=0)))
    assert bits(fit(trainer_of(), np.broadcast_to(X[0], X.shape))) == ref


def test_a_single_column_in_any_layout():
    ref = bits(fit(trainer_of(features=1), X[:, :1].copy()))
    for x in (X[:, 4:5] * 0 + X[:, :1], X[:, :1], np.asfortranarray(X)[:, :1], X.astype(np.uint8)[:, :1]):
        assert bits(fit(trainer_of(features=1), x)) == ref


@pytest.mark.slow
def test_targets_and_weights_in_any_layout(expected):
    for kind in ("int8", "uint8", "int32", ">i8", "bool"):
        y = (Y > 0) if kind == "bool" else Y
        ref = expected if kind != "bool" else bits(fit(trainer_of(), y=(Y > 0).astype(int)))
        assert bits(fit(trainer_of(), y=np.repeat(y.astype(kind), 2)[::2])) == ref
    weight = generator.integers(1, 4, 33).astype(float)
    ref = bits(fit(trainer_of(), sample_weight=weight))
    for other in (weight.astype(">f8"), weight.astype("f4"), weight.tolist(), np.repeat(weight, 2)[::2]):
        assert bits(fit(trainer_of(), sample_weight=other)) == ref
    soft = np.eye(3)[Y]
    ref = bits(fit(trainer_of(), y=soft))
    for other in (soft.astype("f4"), soft.astype(bool), np.asfortranarray(soft), soft.astype(">f4"), soft[::-1][::-1]):
        assert bits(fit(trainer_of(), y=other)) == ref


def test_rows_of_weight_zero_are_left_out(expected):
    weight = np.ones(66)
    weight[1::2] = 0
    x, y = np.full((66, 9), 1e30, np.float32), np.zeros(66, int)
    x[::2], y[::2] = X, Y
    assert bits(fit(trainer_of(), x, y, sample_weight=weight)) == bits(fit(trainer_of(), sample_weight=np.ones(33)))


@pytest.mark.parametrize(
    "options", [{"drop_last": True}, {"shuffle": False}, {"drop_last": True, "shuffle": False}, {"batch_size": 999}]
)
def test_the_order_of_rows_is_the_one_of_modules(options):
    with modules_only():
        ref = fit(trainer_of(), **options)
    comp = fit(trainer_of(), **options)
    assert ref.epoch == comp.epoch and comp._session is not None
    assert_near(ref, comp)


# ----------------------------------------------------------------------------- from one fit to the next


def other_mean(trainer):
    state = trainer.model.state_dict()
    trainer.model.load_state_dict({**state, "0.mean": state["0.mean"] + 2, "0.scale": state["0.scale"] * 0 + 1})


def other_state(trainer):
    trainer.optimizer.load_state_dict(fm.SGD(0.1, 0.9).state_dict())


def other(part, name, value):
    """A change of an attribute; ``part`` finds its owner."""

    def change(trainer):
        assert hasattr(part(trainer), name)
        setattr(part(trainer), name, value)

    return change


CHANGES = {
    "loss": lambda t: setattr(t, "loss", fm.CrossEntropyLoss(label_smoothing=0.3)),
    "optimizer": lambda t: setattr(t, "optimizer", fm.AdamW(0.01)),
    "schedule": other(lambda t: t.optimizer, "schedule", fm.StepDecay(0.1, 3)),
    "momentum": other(lambda t: t.optimizer, "momentum", 0.2),
    "weight_decay": other(lambda t: t.optimizer, "weight_decay", 0.3),
    "clip_norm": other(lambda t: t.optimizer, "clip_norm", 0.01),
    "clip_value": other(lambda t: t.optimizer, "clip_value", 0.001),
    "label_smoothing": other(lambda t: t.loss, "label_smoothing", 0.5),
    "dropout": other(lambda t: t.model[3], "p", 0.9),
    "mean": other_mean,
    "state": other_state,
    "backend": lambda t: (t.model.to("numpy"), t.model.to("numba")),
}


@pytest.mark.parametrize("by_step", [False, True], ids=["fit", "step"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_two_fits_or_steps_counts(change, by_step):
    def train(trainer):
        if by_step:
            trainer.step(X[:BATCH], Y[:BATCH])
        else:
            fit(trainer)

    ref, comp = trainer_of(dropout=0.2), trainer_of(dropout=0.2)
    ref.seed = comp.seed = 3
    for trainer in (ref, comp):
        with modules_only() if trainer is ref else contextlib.nullcontext():
            train(trainer)
            CHANGES[change](trainer)
            train(trainer)
    assert_near(ref, comp)


@pytest.mark.slow
def test_batches_and_dtypes_may_change_from_fit_to_fit():
    ref, comp = trainer_of(), trainer_of()
    for trainer in (ref, comp):
        with modules_only() if trainer is ref else contextlib.nullcontext():
            for size, kind, threads in ((5, "f4", 1), (33, "f8", 2), (1, "u1", 1), (13, "i8", 3), (5, "f4", None)):
                fit(trainer, X.astype(kind), batch_size=size, threads=threads)
            trainer.step(X[:3], Y[:3])
            trainer.step(X[:3].astype(np.uint8), np.eye(3)[Y[:3]], [1, 0, 2])
    assert ref.steps == comp.steps == 42
    assert_near(ref, comp)


def test_dropout_knows_how_far_training_has_come():
    ref, comp = trainer_of(dropout=0.5), trainer_of(dropout=0.5)
    with modules_only():
        fit(ref, rng=7)
    fit(comp, rng=7)
    assert (comp.model[3].seed, comp.model[3].step) == (ref.model[3].seed, ref.model[3].step) == (7, 8)


# ---------------------------------------------------------------------------------- unknown components


class MyTanh(fm.Tanh):
    """The same in a method of its own; those below under another name."""

    def _compute(self, x, keep):
        return super()._compute(x, keep)


class MyLoss(fm.CrossEntropyLoss):
    pass


class MySGD(fm.SGD):
    pass


class MySequential(fm.Sequential):
    pass


STRANGERS = {
    "MyTanh": lambda: (fm.Sequential(fm.Linear(9, 3, rng=0), MyTanh()), fm.CrossEntropyLoss(), fm.SGD(0.1)),
    "MyLoss": lambda: (fm.Sequential(fm.Linear(9, 3, rng=0), fm.Tanh()), MyLoss(), fm.SGD(0.1)),
    "MySGD": lambda: (fm.Sequential(fm.Linear(9, 3, rng=0), fm.Tanh()), fm.CrossEntropyLoss(), MySGD(0.1)),
    "MySequential": lambda: (MySequential(fm.Linear(9, 3, rng=0), fm.Tanh()), fm.CrossEntropyLoss(), fm.SGD(0.1)),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_what_the_engine_does_not_know_goes_by_modules_and_a_warning_says_so_once(name):
    trainer = fm.Trainer(*STRANGERS[name]())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for size in (13, 5, 13):
            fit(trainer, batch_size=size, validation=(X, Y), threads=None)
        trainer.step(X, Y)
        copy.deepcopy(trainer).step(X, Y)
    assert trainer._session is None and trainer.threads == 1
    [warning] = caught
    assert warning.category is fm.PerformanceWarning and issubclass(fm.PerformanceWarning, UserWarning)
    assert str(warning.message).startswith("Training goes module by module, which is slower: the ")
    assert name in str(warning.message) and warning.filename == fit.__code__.co_filename  # caller of Trainer.fit
    known = fm.Sequential(fm.Linear(9, 3, rng=0), fm.Tanh())
    with modules_only():
        ref = fm.Trainer(known, fm.CrossEntropyLoss(), fm.SGD(0.1))
        for size in (13, 5, 13):
            fit(ref, batch_size=size)
        ref.step(X, Y)
    assert bits(ref) == bits(trainer)


def test_the_warning_of_a_single_step_points_to_its_caller():
    trainer = fm.Trainer(*STRANGERS["MyTanh"]())
    with pytest.warns(fm.PerformanceWarning, match="the module MyTanh is not one that the engine knows") as caught:
        trainer.step(X, Y)
    assert caught[0].filename == __file__


def test_rows_that_would_have_to_be_converted_all_at_once(monkeypatch):
    monkeypatch.setattr("fastmlp.engine.runner.STAGED", 100)
    trainer = trainer_of(dropout=0.0)
    wide = X.astype(np.int16)  # a dtype that kernels do not support
    with pytest.warns(fm.PerformanceWarning, match="all rows of a step would have to be in memory at once") as caught:
        for _ in range(2):
            fit(trainer, wide, accumulate=2)
    assert len(caught) == 1 and trainer.threads == 1
    fit(trainer, wide, accumulate=1)  # fits in memory again
    assert trainer._session is not None


def test_another_backend_is_no_news(caplog):
    caplog.set_level(logging.INFO, "fastmlp")
    with fm.use_backend("numpy"):
        trainer = fit(trainer_of())
    fit(trainer_of())
    assert trainer._session is None and caplog.records == []
