"""Steps that the caller drives one by one: the bits of a run, whatever the batches, and all changes take effect."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import signal
import threading
import time
from unittest import mock

import loss_zoo
import numpy as np
import pytest
from checks import assert_matches
from same_steps import modules_only

import fastmlp as fm
from fastmlp.modules.config import module_types
from fastmlp.optim import optimizer_types

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("the engine runs jitted only", allow_module_level=True)

from fastmlp.engine import native, prepared  # noqa: E402
from fastmlp.engine.runner import Engine  # noqa: E402
from fastmlp.training.single_steps import SingleSteps  # noqa: E402

SIZES = (5, 5, 2, 1, 5, 13, 3, 13, 7, 1, 40, 33, 40)  # they shrink, and grow beyond all before
WIDTH = 9


@pytest.fixture(autouse=True)
def on_numba():
    with fm.use_backend("numba"):
        yield


@pytest.fixture(params=["native", "python"])
def way(request):
    """Steps with the extension module, and as without it."""
    if request.param == "native" and native.native is None:
        pytest.skip("the package was installed without a C compiler")
    with by_native_code(request.param == "native"):
        yield request.param


def by_native_code(used):
    return mock.patch.object(native, "native", native.native if used else None)


def by_runs(trainer, x, y, weight=None):
    """The step by an engine that is made for this batch alone, from the arrays to the arrays."""
    rows = trainer._check(x, y, weight, "step")
    trainer.model.train()
    engine = Engine(trainer.model, trainer.loss, trainer.optimizer, 1, len(rows))
    whole = np.arange(len(rows)), np.array([0, len(rows)])
    losses, _ = trainer._advance(engine.run, (rows, *whole, trainer.seed, trainer.steps, trainer.l2))
    engine.weights.unload()
    return float(losses[0])


def state_of(trainer):
    state = trainer.optimizer.state_dict()["state"]
    arrays = trainer.model.state_dict()
    return arrays | {f"{kind} of {name}": array for name in state for kind, array in state[name].items()}


def assert_equal(ref, comp):
    assert (comp.steps, comp.optimizer.steps) == (ref.steps, ref.optimizer.steps)
    assert comp.last_lr == ref.last_lr
    expected, found = state_of(ref), state_of(comp)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@contextlib.contextmanager
def general_steps():
    """Counts the steps that go the general way."""
    general = SingleSteps._general_step
    with mock.patch.object(SingleSteps, "_general_step", autospec=True, side_effect=general) as step:
        yield step


def pair_of(model, loss, optimizer, **options):
    return [fm.Trainer(model(), loss(), optimizer(), **options) for _ in range(2)]


def assert_same_steps(trainers, batches, way, general=None):
    """Equal losses and arrays; ``general``: number of batches for which native code is not enough."""
    ref, comp = trainers
    with general_steps() as counted:
        for batch in batches:
            assert comp.step(*batch) == by_runs(ref, *batch)
    assert_equal(ref, comp)
    if general is not None:
        assert counted.call_count == (general if way == "native" else len(batches))


def features(rng, rows, dtype=np.float32):
    return rng.normal(size=(rows, WIDTH)).astype(dtype)


def plain(dtype=np.float32, outputs=3, **options):
    return lambda: fm.MLP(WIDTH, [7, 12], outputs, "tanh", dtype=dtype, rng=0, **options)


# ------------------------------------------------------------------------------------------- same bits


@pytest.mark.parametrize("name", loss_zoo.NAMES)
def test_losses(name, dtype, way, rng):
    last = [] if name in loss_zoo.FROM_LOGITS else [fm.Softmax()]

    def model():
        return fm.Sequential(fm.MLP(WIDTH, [7], loss_zoo.COLUMNS, "gelu", dtype=dtype, rng=0), *last)

    trainers = pair_of(model, lambda: loss_zoo.make(name), lambda: fm.SGD(0.01, 0.9))
    batches = [(features(rng, rows, dtype), loss_zoo.targets_of(name, rng, rows)) for rows in SIZES]
    assert_same_steps(trainers, batches, way, 3)  # the first ones of 5, 13 and 40 rows


@pytest.mark.parametrize("clips", [{}, {"clip_norm": 0.1, "clip_value": 0.05}], ids=["plain", "clipped"])
@pytest.mark.parametrize("kind", optimizer_types().values(), ids=lambda kind: kind.__name__)
def test_optimizers(kind, clips, dtype, way, rng):
    for example in range(len(kind.examples())):

        def optimizer(example=example):
            made = kind.examples()[example]
            vars(made).update(clips)
            return made

        trainers = pair_of(plain(dtype), fm.CrossEntropyLoss, optimizer, l2=0.1, average=0.9)
        batches = [(features(rng, rows, dtype), rng.integers(0, 3, rows)) for rows in SIZES]
        assert_same_steps(trainers, batches, way, 3)


@pytest.mark.parametrize("kind", module_types().values(), ids=lambda kind: kind.__name__)
def test_layers(kind, dtype, way, rng):
    for example in range(len(kind.examples_of_width(6, dtype, np.random.default_rng(1)))):

        def model(example=example):
            layer = kind.examples_of_width(6, dtype, np.random.default_rng(1))[example]
            if layer.reads_features:
                return fm.Sequential(layer, fm.Linear(layer.out_width, 6, dtype=dtype, rng=0))
            return fm.Sequential(fm.Linear(WIDTH, 6, dtype=dtype, rng=0), layer)

        width = model().in_width
        outputs = model().infer(rng.normal(size=(1, width))).shape[1]
        trainers = pair_of(model, fm.MSELoss, lambda: fm.Adam(0.01))
        sizes = (3, 3, 1, 2)
        batches = [(rng.normal(size=(rows, width)).astype(dtype), rng.normal(size=(rows, outputs))) for rows in sizes]
        assert_same_steps(trainers, batches, way)


def test_wide_layers_with_clipping_by_norm(way, rng, dtype):
    """The sum of the squares does not depend on the order of the blocks, which depends on the largest batch."""
    model = plain(dtype, outputs=150)
    trainers = pair_of(model, fm.MSELoss, lambda: fm.SGD(0.1, clip_norm=0.01), l2=0.3)
    batches = [(features(rng, rows, dtype), rng.normal(size=(rows, 150))) for rows in (700, 3, 700, 1)]
    assert_same_steps(trainers, batches, way)


def test_dropout_and_normalization_with_and_without_a_seed(way, rng):
    normalize = fm.Normalize(np.full(WIDTH, 0.5), np.linspace(1, 2, WIDTH))
    trainers = pair_of(plain(dropout=0.4, layer_norm=True, normalize=normalize), fm.CrossEntropyLoss, fm.RMSprop)
    batches = [(features(rng, rows), rng.integers(0, 3, rows)) for rows in (5, 3, 5)]
    assert_same_steps(trainers, batches, way, 1)
    for trainer in trainers:
        trainer.seed = 2**40 + 3
    assert_same_steps(trainers, batches, way, 1)  # the arrays have been read
    ref, comp = ([(m.seed, m.step) for m in t.model.modules() if isinstance(m, fm.Dropout)] for t in trainers)
    assert ref == comp and comp[0] == (2**40 + 3, 6)
    for module in trainers[0].model.modules(), trainers[1].model.modules():
        for one in module:
            if isinstance(one, fm.Dropout):
                one.set_position(5)
    for trainer in trainers:
        trainer.seed = None
    assert_same_steps(trainers, batches, way, 1)


def kinds_of_features(rng):
    x = rng.integers(0, 9, (12, WIDTH))
    wide = np.zeros((12, 2 * WIDTH), np.float32)
    wide[:, ::2] = x
    readonly = x.astype(np.float32)
    readonly.flags.writeable = False
    return {
        "float32": x.astype("f4"), "float64": x.astype("f8"), "uint8": x.astype("u1"), "int64": x, "list": x.tolist(),
        "fortran": np.asfortranarray(x, "f4"), "columns": wide[:, ::2], "rows": np.repeat(x, 2, 0).astype("f4")[::2],
        "reversed": x.astype("f4")[::-1], "part": np.pad(x, 1).astype("f4")[1:-1, 1:-1],
        "big-endian": x.astype(">f4"), "read-only": readonly, "bool": x > 4, "float16": x.astype("f2"),
        "broadcast": np.broadcast_to(x[:1].astype("f4"), (12, WIDTH)),
    }  # fmt: skip


def test_kinds_of_features(way, rng, dtype):
    trainers = pair_of(plain(dtype), fm.CrossEntropyLoss, fm.Adam)
    kinds = kinds_of_features(rng)
    y = rng.integers(0, 3, 12)
    # By the general path: each dtype that native code reads once. All others are converted.
    general = {"float32", "float64", "uint8"}
    assert_same_steps(trainers, [(x, y) for x in kinds.values()], way, len(general))


TARGETS = {
    "int64": (fm.CrossEntropyLoss, 3, lambda y: y),
    "int32": (fm.CrossEntropyLoss, 3, lambda y: y.astype("i4")),
    "strided": (fm.CrossEntropyLoss, 3, lambda y: np.repeat(y, 2)[::2]),
    "list": (fm.CrossEntropyLoss, 3, lambda y: y.tolist()),
    "soft": (fm.CrossEntropyLoss, 3, lambda y: np.eye(3, dtype="f4")[y]),
    "soft64": (fm.CrossEntropyLoss, 3, lambda y: np.eye(3)[y]),
    "one-hot integers": (fm.CrossEntropyLoss, 3, lambda y: np.eye(3, dtype=int)[y]),
    "(N,)": (fm.MSELoss, 1, lambda y: y.astype("f8")),
    "(N, 1)": (fm.MSELoss, 1, lambda y: y[:, None].astype("f4")),
    "fortran": (fm.MSELoss, 2, lambda y: np.asfortranarray(np.stack([y, -y], 1), "f4")),
    "bool": (fm.BCEWithLogitsLoss, 1, lambda y: y > 0),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_kinds_of_targets(kind, way, rng, dtype):
    loss, outputs, make = TARGETS[kind]
    trainers = pair_of(plain(dtype, outputs), loss, fm.Adam)
    batches = [(features(rng, rows), make(rng.integers(0, 3, rows))) for rows in (6, 6, 3, 1)]
    assert_same_steps(trainers, batches, way)


def test_sample_weights_and_sparse_features_between_others(way, rng):
    sparse = pytest.importorskip("scipy.sparse")
    trainers = pair_of(plain(), lambda: fm.CrossEntropyLoss(class_weight=[1, 2, 3]), fm.Adam, l2=0.2)
    x, y = features(rng, 8), rng.integers(0, 3, 8)
    batches = [
        (x, y), (x, y, np.arange(8.0)), (x, y), (sparse.csr_array(x), y), (x, np.eye(3)[y]), (x, np.eye(3)[y]),
        (x, y, np.full(8, 0.5)), (x, np.eye(3)[y]),
    ]  # fmt: skip
    assert_same_steps(trainers, batches, way)


def weights_of(rng, rows):
    """Sample weights of all kinds, some of which leave rows out."""
    found = rng.uniform(0.1, 3, rows)
    some = np.where(np.arange(rows) % 3 == 1, 0, found)
    return {
        "ones": np.ones(rows), "float64": found, "some": some, "one": np.arange(rows) == rows - 1.0,
        "float32": found.astype("f4"), "int": rng.integers(0, 2, rows) + np.arange(rows) % 2, "list": found.tolist(),
        "strided": np.repeat(found, 2)[::2], "small": np.full(rows, 0.01), "-0": -0.0 * found + (some > 0),
    }  # fmt: skip


@pytest.mark.parametrize("name", loss_zoo.NAMES)
def test_sample_weights(name, dtype, way, rng):
    """The first batch alone takes the general path."""
    last = [] if name in loss_zoo.FROM_LOGITS else [fm.Softmax()]

    def model():
        return fm.Sequential(fm.MLP(WIDTH, [7], loss_zoo.COLUMNS, dropout=0.2, dtype=dtype, rng=0), *last)

    trainers = pair_of(model, lambda: loss_zoo.make(name), lambda: fm.SGD(0.01, 0.9), l2=0.1)
    batches = [
        (features(rng, rows, dtype), loss_zoo.targets_of(name, rng, rows), weight)
        for rows in (37, 20, 5, 2)
        for weight in weights_of(rng, rows).values()
    ]
    assert_same_steps(trainers, batches, way, 1)


@pytest.mark.parametrize("weight", [[1.0, -1], [0.0, 0], [np.nan, 1], [np.inf, 1], [1e308, 1e308], [1.0], [[1.0, 1]]])
def test_bad_sample_weights_change_nothing(weight, way, rng):
    ref, comp = pair_of(plain(), fm.CrossEntropyLoss, fm.Adam)
    x, y = features(rng, 2), rng.integers(0, 3, 2)
    for trainer in (ref, comp):
        trainer.step(x, y)
    for values in (weight, np.array(weight)):
        with pytest.raises(ValueError, match="sample_weight"):
            comp.step(x, y, values)
    assert_equal(ref, comp)


def test_a_batch_of_classes_of_weight_0(way, rng):
    trainers = pair_of(plain(), lambda: fm.CrossEntropyLoss(class_weight=[0, 2, 3]), fm.Adam, l2=0.2)
    x, y = features(rng, 4), rng.integers(0, 3, 4)
    assert_same_steps(trainers, [(x, y), (x, 0 * y), (x, 0 * y, np.arange(4.0)), (x, y)], way, 1)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([[1.0] * WIDTH, [2.0]], [0, 1]), ([["1"] * WIDTH], [0]), ([[1.0] * WIDTH], [3]), ([[1.0] * WIDTH], [0.5]),
        ([[np.nan] * WIDTH], [0]), ([[1e39] * WIDTH], [0]), ([[1.0] * 2], [0]), ([1.0] * WIDTH, [0]),
        ([[1.0] * WIDTH], np.array(0)), ([[1.0] * WIDTH], [2**64]), ([[None] * WIDTH], [0]), ([], []),
    ],
)  # fmt: skip
def test_errors_of_lists_are_those_of_the_general_path(x, y, way, rng):
    ref, comp = pair_of(plain(), fm.CrossEntropyLoss, fm.Adam)
    comp.step(features(rng, 2), rng.integers(0, 3, 2))
    before = state_of(comp)
    with pytest.raises(ValueError) as expected:
        ref.step(x, y)
    with pytest.raises(ValueError) as found:
        comp.step(x, y)
    assert str(found.value) == str(expected.value)
    for name, array in state_of(comp).items():
        np.testing.assert_array_equal(array, before[name])


def test_several_threads(way, rng):
    trainers = pair_of(plain(dropout=0.3), fm.CrossEntropyLoss, lambda: fm.Adam(clip_norm=0.1), l2=0.1)
    trainers[1]._open_session(3, 8, single=True).engine.prepare(13, threads=3)
    batches = [(features(rng, rows), rng.integers(0, 3, rows)) for rows in (8, 13, 1, 2)]
    batches += [(x, y, weight) for x, y in batches[:2] for weight in weights_of(rng, len(y)).values()]
    assert_same_steps(trainers, batches, way, 1)


def test_larger_batches_use_more_threads(rng, monkeypatch):
    monkeypatch.setenv("FASTMLP_TUNING", f"flops_per_thread={6 * 4000}")  # of the work of a row
    monkeypatch.setattr("fastmlp._common.threads.usable_threads", lambda: mock.Mock(count=3, reason=""))
    trainers = pair_of(plain(), fm.CrossEntropyLoss, fm.Adam)
    batches = [(features(rng, rows), rng.integers(0, 3, rows)) for rows in (400, 1, 30, 100, 400)]
    assert_same_steps(trainers, batches, "python")
    threads = {key[1] for key in trainers[1]._session.engine.prepared.calls}
    assert threads == {1, 2, 3} or threads == {1, 3}


def test_steps_of_several_threads_at_once(way, rng):
    """As many as calls, one after the other."""
    trainer = fm.Trainer(plain()(), fm.CrossEntropyLoss(), fm.SGD(0.0))
    x, y = features(rng, 4), rng.integers(0, 3, 4)
    loss = trainer.step(x, y)
    found = []
    threads = [threading.Thread(target=lambda: found.extend(trainer.step(x, y) for _ in range(200))) for _ in range(4)]
    if way == "python":
        threads = threads[:1]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [loss] * 200 * len(threads)
    assert trainer.steps == trainer.optimizer.steps == 1 + len(found)


# -------------------------------------------------------------------------------------- nothing is rebuilt


def test_the_plan_is_made_anew_for_larger_batches_only(way, rng):
    trainer = fm.Trainer(plain()(), fm.CrossEntropyLoss(), fm.Adam())
    with mock.patch.object(prepared, "CpuPlan", side_effect=prepared.CpuPlan) as made:
        plans = []
        for rows in (4, 1, 4, 3, 5, 8, 7, 100, 1):
            trainer.step(features(rng, rows), rng.integers(0, 3, rows))
            plans.append(made.call_count)
    assert plans == [1, 1, 1, 1, 2, 2, 2, 3, 3]


def test_steps_after_a_fit_use_its_session(way, rng):
    trainers = pair_of(plain(dropout=0.2), fm.CrossEntropyLoss, fm.Adam)
    x, y = features(rng, 20), rng.integers(0, 3, 20)
    for trainer in trainers:
        trainer.fit(x, y, batch_size=8, epochs=2, rng=0)
    session = trainers[1]._session
    assert_same_steps(trainers, [(x[:3], y[:3]), (x, y), (x[:4], y[:4])], way)
    assert trainers[1]._session is session
    for trainer in trainers:
        trainer.fit(x, y, batch_size=8, epochs=1)
    assert_equal(*trainers)


# --------------------------------------------------------------------------------------------- changes


def attribute(path, value):
    def change(trainer):
        *owners, name = path.split(".")
        target = trainer
        for owner in owners:
            target = target[int(owner)] if owner.isdigit() else getattr(target, owner)
        setattr(target, name, value(trainer) if callable(value) else value)

    return change


def weigh(trainer):
    trainer.loss.class_weight[...] = [3, 2, 1]


def shift(trainer):
    trainer.model[0].buffers["mean"][...] += 1


def reload(trainer):
    trainer.optimizer.load_state_dict({**trainer.optimizer.state_dict(), "steps": 7})


CHANGES = {
    "lr": attribute("optimizer.lr", 0.5),
    "schedule": attribute("optimizer.schedule", lambda t: fm.Exponential(0.1, 0.5)),
    "lr of the schedule": attribute("optimizer.schedule.lr", 0.3),
    "betas": attribute("optimizer.betas", (0.5, 0.6)),
    "eps": attribute("optimizer.eps", 0.1),
    "weight_decay": attribute("optimizer.weight_decay", 0.1),
    "clip_norm": attribute("optimizer.clip_norm", 0.01),
    "clip_value": attribute("optimizer.clip_value", 0.01),
    "average": attribute("optimizer.average", 0.5),
    "steps": attribute("optimizer.steps", 40),
    "state": attribute("optimizer.state", lambda t: {}),
    "loaded state": reload,
    "other optimizer": attribute("optimizer", lambda t: fm.SGD(0.1, 0.9)),
    "numbers": attribute("optimizer.numbers", lambda t: lambda rates, step: (0.1 * rates, 0.1, 0.9, 0.1, 1.0, 0, 1, 1)),
    "other loss": attribute("loss", lambda t: fm.CrossEntropyLoss(label_smoothing=0.3)),
    "smoothing": attribute("loss.label_smoothing", 0.2),
    "class weights": weigh,
    "other class weights": attribute("loss.class_weight", lambda t: np.array([1.0, 5.0, 2.0])),
    "dropout": attribute("model.3.p", 0.7),
    "activation": attribute("model.2.negative_slope", 0.4),
    "normalization": shift,
    "weights": lambda t: t.model[1].params.update({"weight": 2 * t.model[1].params["weight"]}),
    "l2": attribute("l2", 0.5),
    "seed": attribute("seed", 9),
    "trainer's steps": attribute("steps", 30),
    "evaluation": lambda t: t.model.eval(),
    "backend": lambda t: (t.model.to("numpy"), t.model.to("numba")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_two_steps_counts(change, way, rng):
    def model():
        normalize = fm.Normalize(np.full(WIDTH, 0.5), np.linspace(1, 2, WIDTH))
        return fm.MLP(WIDTH, [7], 3, fm.LeakyReLU(0.1), dropout=0.3, normalize=normalize, rng=0)

    weighs = "class weights" in change
    trainers = pair_of(
        model, lambda: fm.CrossEntropyLoss(class_weight=[1, 2, 3] if weighs else None), lambda: fm.Adam(0.01)
    )
    x, y = features(rng, 6), rng.integers(0, 3, 6)
    assert_same_steps(trainers, [(x, y)] * 4, way)
    before = state_of(trainers[0])
    for trainer in trainers:
        CHANGES[change](trainer)
    assert_same_steps(trainers, [(x, y)] * 3, way)
    untouched, comp = copy.deepcopy(trainers[1]), trainers[1]
    untouched.model.load_state_dict({name: before[name] for name in untouched.model.state_dict()})
    assert comp.model.training


class Halving(fm.Constant):
    """A schedule of the user's, which depends on more than its attributes."""

    rate = 0.1

    def __call__(self, step):
        return Halving.rate * 0.5**step


def test_schedules_of_the_user_are_asked_for_each_step(way, rng):
    trainers = pair_of(plain(), fm.CrossEntropyLoss, lambda: fm.SGD(Halving(1.0)))
    x, y = features(rng, 6), rng.integers(0, 3, 6)
    assert_same_steps(trainers, [(x, y)] * 4, way, 1)
    with mock.patch.object(Halving, "rate", 0.7):
        assert_same_steps(trainers, [(x, y)] * 4, way, 1)


@pytest.mark.parametrize(
    "schedule",
    [
        lambda: fm.Cosine(0.1, 7, 0.01), lambda: fm.OneCycle(0.1, 9), lambda: fm.StepDecay(0.1, 2),
        lambda: fm.LinearWarmup(fm.Exponential(0.1, 0.9), 5), lambda: fm.ReduceOnPlateau(0.1, patience=0),
        lambda: fm.LinearWarmup(fm.ReduceOnPlateau(0.1, patience=0), 3),
    ],
)  # fmt: skip
def test_schedules(schedule, way, rng):
    trainers = pair_of(plain(), fm.CrossEntropyLoss, lambda: fm.RAdam(schedule()))
    x, y = features(rng, 6), rng.integers(0, 3, 6)
    for loss in (1.0, 2.0, 3.0, 0.1):
        assert_same_steps(trainers, [(x, y)] * 5, way)
        for trainer in trainers:
            trainer.optimizer.schedule.update(loss)


def test_many_steps_of_a_schedule(way, rng):
    trainers = pair_of(plain(), fm.CrossEntropyLoss, lambda: fm.Adam(fm.Cosine(0.01, 900)))
    x, y = features(rng, 2), rng.integers(0, 3, 2)
    assert_same_steps(trainers, [(x, y)] * 700, way, 1)


def test_reading_between_steps_and_holding_an_array(way, rng):
    trainers = pair_of(plain(), fm.CrossEntropyLoss, fm.Adam)
    x, y = features(rng, 6), rng.integers(0, 3, 6)
    ref, comp = trainers
    for _ in range(4):
        assert_same_steps(trainers, [(x, y)] * 3, way)
    held = comp.model[0].params["weight"]
    for _ in range(3):
        assert_same_steps(trainers, [(x, y)], way)
        np.testing.assert_array_equal(held, ref.model[0].params["weight"])
        held *= 0.5
        ref.model[0].params["weight"] *= 0.5
    del held
    assert_same_steps(trainers, [(x, y)] * 3, way)


def test_public_types(way, rng):
    trainer = fm.Trainer(plain(outputs=2)(), fm.MSELoss(), fm.Adam())
    assert isinstance(trainer.stepper(), fm.Stepper)
    assert isinstance(trainer.stepper().target_network(), fm.TargetNetwork)
    stepper = fm.Stepper(trainer, 4, check=False)
    assert repr(stepper) == repr(trainer.stepper(4, check=False))
    stepper.step(features(rng, 4), rng.normal(size=(4, 2)))
    target, x = fm.TargetNetwork(stepper), features(rng, 3)
    np.testing.assert_array_equal(target(x), trainer.model.infer(x))
    for kind, wrong in ((fm.Stepper, trainer.model), (fm.TargetNetwork, trainer)):
        with pytest.raises(ValueError, match=f"{kind.__name__} expected a "):
            kind(wrong)
    for size in (0, 1.5, True):
        with pytest.raises(ValueError, match="batch_size"):
            fm.Stepper(trainer, size)


@pytest.mark.parametrize("loss", [fm.CrossEntropyLoss, fm.MSELoss, fm.BCEWithLogitsLoss])
def test_predictions_between_steps(loss, way, rng, dtype):
    """They are those of the model, and leave the prepared path as it is."""
    ref, comp = pair_of(plain(dtype, dropout=0.3, layer_norm=True), loss, fm.Adam)
    labels = loss is fm.CrossEntropyLoss
    x, y = features(rng, 6), rng.integers(0, 3, 6) if labels else rng.integers(0, 2, (6, 3)).astype("f4")
    nan = x.copy()
    nan[2, 3] = np.nan
    others = [x, x[:1], x.astype("f8"), x[:0], x.tolist(), features(rng, 255), features(rng, 257)]
    for number, one in enumerate([*others, nan, x[:, 1:], x[0]]):
        with general_steps() as counted:
            for _ in range(3):
                assert comp.step(x, y) == by_runs(ref, x, y)
                for method in ("predict", "predict_proba")[: 2 if loss is not fm.MSELoss else 1]:
                    try:
                        expected = getattr(ref, method)(one)
                    except ValueError as error:
                        with pytest.raises(ValueError) as found:
                            getattr(comp, method)(one)
                        assert str(found.value) == str(error)
                    else:
                        np.testing.assert_array_equal(getattr(comp, method)(one), expected)
        if way == "native" and 0 < number < 3:
            assert counted.call_count == 0
    assert_equal(ref, comp)


def test_copies_go_on_apart(way, rng):
    trainers = pair_of(plain(dropout=0.1), fm.CrossEntropyLoss, fm.Adam)
    x, y = features(rng, 6), rng.integers(0, 3, 6)
    assert_same_steps(trainers, [(x, y)] * 3, way)
    copies = [copy.deepcopy(trainers[1]), pickle.loads(pickle.dumps(trainers[1]))]
    for twin in copies:
        twin.step(x, y)
    for twin in copies:
        assert_equal(copies[0], twin)
    assert_same_steps(trainers, [(x, y)] * 2, way)
    assert copies[0].steps == 4


# ---------------------------------------------------------------------------------------------- errors


def bad(x, y):
    nan, inf, huge = (np.array(x) for _ in range(3))
    nan[2, 3], inf[4, 0] = np.nan, -np.inf
    huge = np.array(x, np.float64)
    huge[1, 1] = 1e39
    return {
        "nan": (nan, y), "inf": (inf, y), "huge": (huge, y), "narrow": (x[:, 1:], y), "flat": (x[0], y),
        "no rows": (x[:0], y[:0]), "few targets": (x, y[:-1]), "high": (x, y + 2), "low": (x, y - 1),
        "float indices": (x, y.astype(float)), "wide": (x, np.ones((6, 4))), "negative": (x, np.full((6, 3), -1.0)),
        "soft nan": (x, np.full((6, 3), np.nan)), "soft inf": (x, np.full((6, 3), np.inf)),
        "soft huge": (x, np.full((6, 3), 1e39)), "text": (np.full(x.shape, "a"), y),
    }  # fmt: skip


def test_bad_inputs_have_the_same_errors_and_no_effect(way, rng):
    trainers = pair_of(plain(), fm.CrossEntropyLoss, fm.Adam)
    x, y = features(rng, 6), np.array([0, 1, 2, 0, 1, 2])
    assert_same_steps(trainers, [(x, y), (x.astype("f8"), y), (x, np.eye(3)[y]), (x, y)], way)
    for name, batch in bad(x, y).items():
        with pytest.raises(ValueError) as ref:
            trainers[0]._check(*batch, None, "step")
        with pytest.raises(ValueError) as comp:
            trainers[1].step(*batch)
        assert str(comp.value) == str(ref.value), name
    assert_same_steps(trainers, [(x, y)] * 2, way)


@pytest.mark.parametrize(
    "loss, low, high",
    [(fm.BCEWithLogitsLoss, -0.1, 1.1), (fm.PoissonLoss, -0.1, np.inf), (fm.MSELoss, -np.inf, np.nan)],
)
def test_targets_out_of_range(loss, low, high, way, rng):
    trainer = fm.Trainer(plain(outputs=1)(), loss(), fm.Adam())
    x = features(rng, 3)
    for _ in range(2):
        trainer.step(x, np.array([[0.0], [1.0], [0.5]], np.float32))
    for value in (low, high):
        with pytest.raises(ValueError, match="expected finite targets"):
            trainer.step(x, np.array([[0.0], [value], [0.5]], np.float32))
    assert trainer.steps == 2


def test_divergence_leaves_the_weights(way, rng):
    ref, comp = pair_of(plain(outputs=1), fm.MSELoss, fm.Adam)
    x, y = features(rng, 6), np.zeros(6)
    assert_same_steps((ref, comp), [(x, y)] * 3, way)
    with pytest.raises(fm.DivergenceError, match=r"the loss of step 4 is inf, at learning rate 0\.001"):
        comp.step(x, np.full(6, 1e30))
    assert_same_steps((ref, comp), [(x, y)] * 3, way)


def test_an_interrupt_before_the_kernel_has_no_effect(way, rng, monkeypatch):
    """Ctrl-C while the hyperparameters are computed, the only Python code before the kernel."""
    ref, comp = pair_of(plain(), fm.CrossEntropyLoss, lambda: fm.SGD(Halving(1.0)))
    x, y = features(rng, 6), rng.integers(0, 3, 6)
    assert_same_steps((ref, comp), [(x, y)] * 3, way)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Halving, "__call__", mock.Mock(side_effect=KeyboardInterrupt))
        comp.step(x, y)
    assert_same_steps((ref, comp), [(x, y)] * 3, way)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupt_at_any_moment_leaves_whole_steps(rng):
    """The handler raises as Python's own one does, but not before the test is ready for it."""
    if native.native is None:
        pytest.skip("the package was installed without a C compiler")
    ref, comp = pair_of(plain(), fm.CrossEntropyLoss, lambda: fm.Adam(fm.Cosine(0.01, 5000)))
    stepper = comp.stepper(6)
    x, y, gradient = features(rng, 6), rng.integers(0, 3, 6), np.full((6, 3), 1e-3)
    for trainer in (stepper, ref.stepper(6)):
        trainer(x, y)
        trainer.forward(x)
        trainer.backward(gradient)
    armed, ending, caught = False, False, 0

    def handle(number, frame):
        nonlocal armed
        if armed:
            armed = False
            raise KeyboardInterrupt

    def interrupt():
        while not ending:
            time.sleep(3e-4)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, handle)
    kills = threading.Thread(target=interrupt)
    kills.start()
    try:
        while caught < 200:
            try:
                armed = True
                while True:
                    stepper(x, y)
            except KeyboardInterrupt:
                caught += 1
                assert comp.steps == comp.optimizer.steps
    finally:
        ending = True
        kills.join()
        signal.signal(signal.SIGINT, before)
    while ref.steps < comp.steps:
        ref.step(x, y)
    assert_equal(ref, comp)


# ---------------------------------------------------------------------------- gradients of the caller


def loss_by_hand(logits, y, weight):
    """Gradient of the sum of weighted cross-entropies, as in a policy gradient."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return (p - np.eye(logits.shape[1])[y]) * weight[:, None]


def assert_near(ref, comp, tolerance):
    for name, array in state_of(ref).items():
        assert_matches(array, state_of(comp)[name], tolerance * np.abs(array).max(), name)


@contextlib.contextmanager
def general_gradients():
    """Counts the forward and backward passes that go the general way."""
    names = ("_general_forward", "_general_backward", "_general_infer")
    counted = mock.Mock()
    with contextlib.ExitStack() as stack:
        for name in names:
            method = getattr(SingleSteps, name)
            found = stack.enter_context(mock.patch.object(SingleSteps, name, autospec=True, side_effect=method))
            counted.attach_mock(found, name)
        yield counted


GRADIENT_MODELS = {
    "plain": plain,
    "dropout": lambda dtype: plain(dtype, dropout=0.3, layer_norm=True),
    "epilogue at the end": lambda dtype: lambda: fm.Sequential(plain(dtype)(), fm.Scale(3, dtype=dtype), fm.Softmax()),
}


@pytest.mark.parametrize("model", GRADIENT_MODELS)
def test_steps_from_gradients_are_those_of_the_modules(model, way, dtype, rng):
    make = GRADIENT_MODELS[model](dtype)
    trainers = pair_of(make, fm.CrossEntropyLoss, lambda: fm.Adam(0.01, eps=1e-3, clip_norm=1.0), l2=0.3, average=0.9)
    ref, comp = trainers
    for trainer in trainers:
        trainer.seed = 5
    with modules_only():
        modules = ref.stepper()
        modules.forward(features(rng, 1))
    engine = comp.stepper(7)
    with general_gradients() as counted:
        for rows in (5, 5, 1, 7, 2, 9, 1):
            x, y, weight = features(rng, rows), rng.integers(0, 3, rows), rng.normal(size=rows)
            outputs = [stepper.forward(x) for stepper in (modules, engine)]
            assert outputs[1].dtype == dtype and outputs[1].flags.owndata
            assert_matches(*outputs, 1e-5 if dtype == np.float32 else 1e-13, "outputs")
            for stepper, output in zip((modules, engine), outputs):
                stepper.backward(loss_by_hand(output.astype(float), y, weight))
    assert_near(ref, comp, 1e-4 if dtype == np.float32 else 1e-10)
    assert (comp.steps, comp.optimizer.steps, comp.last_lr) == (7, 7, 0.01)
    assert ref._session is None and comp._session is not None
    if way == "native":  # besides all by modules: the first, and the first of more rows than expected
        assert counted._general_forward.call_count == 7 + 2 and counted._general_backward.call_count == 7 + 0


def test_a_gradient_of_a_loss_gives_the_step_of_that_loss(way, dtype, rng):
    trainers = pair_of(plain(dtype, dropout=0.2), fm.MSELoss, fm.SGD)
    ref, comp = trainers
    stepper = comp.stepper()
    for rows in (4, 4, 2, 4):
        x, y = features(rng, rows, dtype), rng.normal(size=(rows, 3)).astype(dtype)
        loss = ref.step(x, y)
        outputs = stepper.forward(x)
        assert_matches(np.array(loss), np.array(np.mean((outputs - y) ** 2)), 1e-5, "loss")
        stepper.backward(2 / y.size * (outputs - y))
    assert_near(ref, comp, 1e-4 if dtype == np.float32 else 1e-10)


def test_both_ways_have_the_same_bits(dtype, rng):
    if native.native is None:
        pytest.skip("the package was installed without a C compiler")
    trainers = pair_of(plain(dtype, dropout=0.2), fm.MSELoss, fm.Adam)
    target = [None, None]
    x, y = features(rng, 6), rng.normal(size=(6, 3))
    for number, trainer in enumerate(trainers):
        with by_native_code(bool(number)):
            stepper = trainer.stepper(check=bool(number))
            target[number] = stepper.target_network()
            for rows in (6, 3, 6, 6, 1):
                outputs = stepper.forward(x[:rows])
                stepper.backward(outputs - y[:rows])
                stepper(x[:rows], y[:rows])
                target[number].update(0.3)
    assert_equal(*trainers)
    for name, array in target[0].model().state_dict().items():
        np.testing.assert_array_equal(target[1].model().state_dict()[name], array)


def test_a_step_takes_the_activations_away(way, rng):
    trainer = fm.Trainer(plain()(), fm.CrossEntropyLoss(), fm.Adam())
    stepper, x, y = trainer.stepper(), features(rng, 4), rng.integers(0, 3, 4)
    gradient = np.ones((4, 3))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="without a forward"):
            stepper.backward(gradient)
        stepper.forward(x)
        with pytest.raises(ValueError, match=r"Stepper.backward expected dy of shape \(4, 3\)"):
            stepper.backward(gradient[1:])
        stepper.backward(gradient)
        with pytest.raises(RuntimeError, match="without a forward"):
            stepper.backward(gradient)
        stepper.forward(x)
        stepper.step(x, y)
        with pytest.raises(RuntimeError, match="without a forward"):
            stepper.backward(gradient)
    stepper.forward(x)
    trainer.optimizer.clip_norm = 0.1
    with pytest.raises(RuntimeError, match="settings have changed"):
        stepper.backward(gradient)


def test_two_steppers_of_a_trainer(way, rng):
    """One prepared its native path before there were forward passes."""
    ref, comp = pair_of(plain(), fm.CrossEntropyLoss, fm.Adam)
    first, second, other = comp.stepper(4), comp.stepper(4), ref.stepper(4)
    x, y = features(rng, 4), rng.integers(0, 3, 4)
    for _ in range(2):
        first(x, y)
        other(x, y)
        outputs = other.forward(x)
        np.testing.assert_array_equal(second.forward(x), outputs)
        first.backward(outputs)
        other.backward(outputs)
        assert comp.step(x, y) == ref.step(x, y)
    assert_equal(ref, comp)


def test_a_gradient_that_is_not_finite_changes_nothing(way, rng):
    for context in (modules_only, contextlib.nullcontext):
        trainer = fm.Trainer(plain()(), fm.CrossEntropyLoss(), fm.Adam(), l2=0.1)
        stepper, x = trainer.stepper(), features(rng, 4)
        with context():
            for _ in range(3):
                stepper.backward(stepper.forward(x))
            before = state_of(trainer)
            gradient = stepper.forward(x)
            gradient[2, 1] = np.inf
            with pytest.raises(
                fm.DivergenceError, match=r"the gradient of step 4 is not finite, at learning rate 0.001"
            ):
                stepper.backward(gradient)
        assert (trainer.steps, trainer.optimizer.steps) == (3, 3)
        for name, array in before.items():
            np.testing.assert_array_equal(state_of(trainer)[name], array)


def test_inference_between_forward_and_backward(way, rng):
    """It sees the present weights, ignores dropout, and leaves the activations alone."""
    ref, comp = pair_of(plain(dropout=0.5), fm.CrossEntropyLoss, fm.Adam)
    steppers = [trainer.stepper() for trainer in (ref, comp)]
    x = features(rng, 5)
    for rows in (5, 2, 5, 3):
        outputs = [stepper.forward(x[:rows]) for stepper in steppers]
        for features_of in (x, x[:1], x.astype("f8"), x.tolist(), np.tile(x, (60, 1))):
            found = steppers[1].infer(features_of)
            assert_matches(comp.model.infer(features_of), found, 1e-5, "outputs")
        for stepper, output in zip(steppers, outputs):
            stepper.backward(output)
    assert_equal(ref, comp)
    comp.model.eval()
    with general_gradients() as counted:
        for _ in range(3):
            steppers[1].infer(x)
    assert counted._general_infer.call_count == (1 if way == "native" else 3)  # the arrays have been read
    assert not comp.model.training


def test_a_stepper_without_checks_takes_the_same_inputs(way, rng):
    trainers = pair_of(plain(), fm.CrossEntropyLoss, fm.Adam)
    stepper = trainers[1].stepper(8, check=False)
    x, y = features(rng, 8), rng.integers(0, 3, 8)
    for batch in [(x, y), (x, y), (x[:3], y[:3]), (x.tolist(), y.tolist()), (x, np.eye(3)[y]), (x, y, np.arange(8))]:
        assert stepper.step(*batch) == by_runs(trainers[0], *batch)
    assert_equal(*trainers)
    for name, batch in bad(x[:6], np.array([0, 1, 2, 0, 1, 2])).items():
        if name not in ("negative", "soft nan", "soft inf", "soft huge"):  # the caller's promise
            with pytest.raises(ValueError):
                stepper.step(*batch)
    assert_equal(*trainers)


def test_buffers_are_made_for_the_expected_rows(way, rng):
    trainer = fm.Trainer(plain()(), fm.CrossEntropyLoss(), fm.Adam())
    stepper = trainer.stepper(50)
    with mock.patch.object(prepared, "CpuPlan", side_effect=prepared.CpuPlan) as made:
        for rows in (1, 50, 3):
            stepper(features(rng, rows), rng.integers(0, 3, rows))
    assert made.call_count == 1
    with pytest.raises(ValueError, match="batch_size is 0"):
        trainer.stepper(0)


def test_target_networks(way, dtype, rng):
    trainer = fm.Trainer(plain(dtype, dropout=0.2)(), fm.MSELoss(), fm.Adam(0.1))
    stepper = trainer.stepper(6)
    x, y = features(rng, 6), rng.normal(size=(6, 3))
    for context in (contextlib.nullcontext, modules_only):
        if context is modules_only:
            trainer = copy.deepcopy(trainer)
            stepper = trainer.stepper(6)
        with context():
            target = stepper.target_network()
            for tau in (0.1, 0.0, 1.0, 0.25, 0.01):
                stepper(x, y)
                before = target.model().state_dict()
                target.update(tau)
                new, share = trainer.model.state_dict(), dtype.type(tau)
                for name, array in target.model().state_dict().items():
                    expected = new[name] if tau == 1 else before[name] + share * (new[name] - before[name])
                    np.testing.assert_array_equal(array, expected)
                assert_matches(target.model().infer(x), target.infer(x), 1e-4, "outputs")
                np.testing.assert_array_equal(target(x), target.infer(x.astype("f8")))
            twin = pickle.loads(pickle.dumps(target))
            np.testing.assert_array_equal(twin(x), target(x))
            before = target(x)
            stepper(x, y)
            np.testing.assert_array_equal(target(x), before)
            assert not target.model().training
            with pytest.raises(ValueError, match="tau is 1.5"):
                target.update(1.5)
            with pytest.raises(ValueError, match="infer: x"):
                target(x[:, 1:])


def test_native_updates_of_a_target_network(rng):
    if native.native is None:
        pytest.skip("the package was installed without a C compiler")
    trainer = fm.Trainer(plain()(), fm.MSELoss(), fm.Adam(0.1))
    stepper = trainer.stepper(6)
    target = stepper.target_network()
    x, y = features(rng, 6), rng.normal(size=(6, 3))
    general = type(target)._general_update
    with mock.patch.object(type(target), "_general_update", autospec=True, side_effect=general) as counted:
        for _ in range(5):
            stepper(x, y)
            target.update(0.3)
    assert counted.call_count == 1


def test_copies_of_a_stepper(way, rng):
    trainer = fm.Trainer(plain()(), fm.CrossEntropyLoss(), fm.Adam())
    stepper, x, y = trainer.stepper(4), features(rng, 4), rng.integers(0, 3, 4)
    stepper(x, y)
    twin = copy.deepcopy(stepper)
    assert twin.trainer is not trainer and twin(x, y) == stepper(x, y)
    assert repr(twin).startswith("Stepper(Trainer(") and twin.trainer.steps == 2
