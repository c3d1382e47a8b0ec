"""Life cycle of arrays and threads: reads see the last step, and writes take effect."""

from __future__ import annotations

import contextlib
import copy
import io
import operator
import os
import pickle
import signal
import threading
import zlib
from unittest import mock

import numpy as np
import pytest
from same_steps import modules_only

import fastmlp as fm
from fastmlp.callbacks.progress import ProgressBar

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("the engine runs jitted only", allow_module_level=True)

BATCH = 13
generator = np.random.default_rng(5)
X, Y = generator.integers(0, 10, (33, 9)).astype(np.float32), generator.integers(0, 3, 33)
ONE = X[:BATCH], Y[:BATCH]


@pytest.fixture(autouse=True)
def on_numba():
    with fm.use_backend("numba"):
        yield


def trainer_of(optimizer=None, loss=None, **kwargs):
    kwargs = {"dropout": 0.2, "normalize": fm.Normalize(np.full(9, 4.5), np.full(9, 3.0)), "rng": 0, **kwargs}
    return fm.Trainer(fm.MLP(9, [12], 3, "tanh", **kwargs), loss or fm.CrossEntropyLoss(), optimizer or fm.Adam(0.01))


def bits(trainer):
    """All that training changes, array by array as a checksum."""
    state = trainer.optimizer.state_dict()["state"]
    arrays = trainer.model.state_dict()
    arrays |= {f"{kind} of {name}": array for name in state for kind, array in state[name].items()}
    sums = {name: zlib.crc32(array.tobytes()) for name, array in arrays.items()}
    return {"steps": (trainer.steps, trainer.optimizer.steps), **sums}


def fit(trainer, *, x=X, y=Y, **options):
    trainer.fit(x, y, **{"batch_size": BATCH, "rng": 3, "threads": 1, **options})
    return trainer


def assert_near(ref, comp, tolerance=1e-4):
    for name, array in ref.model.state_dict().items():
        np.testing.assert_allclose(comp.model.state_dict()[name], array, tolerance, tolerance, err_msg=name)


# ----------------------------------------------------------------------------- looking between two steps


def from_file(trainer, folder):
    fm.save(trainer.model, folder / "model")
    return fm.load_model(folder / "model")[1].params["weight"]


LOOKS = {
    "item": lambda t, _: t.model[1].params["weight"],
    "get": lambda t, _: t.model[1].params.get("weight"),
    "items": lambda t, _: next(iter(t.model[1].params.items()))[1],
    "values": lambda t, _: next(iter(t.model[1].params.values())),
    "dict": lambda t, _: dict(t.model[1].params)["weight"],
    "stars": lambda t, _: {**t.model[1].params}["weight"],
    "keywords": lambda t, _: (lambda **arrays: arrays["weight"])(**t.model[1].params),
    "or": lambda t, _: (t.model[1].params | {})["weight"],
    "ror": lambda t, _: ({} | t.model[1].params)["weight"],
    "update": lambda t, _: operator.ior({}, t.model[1].params)["weight"],
    "copy": lambda t, _: t.model[1].params.copy()["weight"],
    "getter": lambda t, _: operator.itemgetter("weight")(t.model[1].params),
    "copy.copy": lambda t, _: copy.copy(t.model[1].params)["weight"],
    "deepcopy": lambda t, _: copy.deepcopy(t.model[1].params)["weight"],
    "pickle": lambda t, _: pickle.loads(pickle.dumps(t.model[1].params))["weight"],
    "state_dict": lambda t, _: t.model.state_dict()["1.weight"],
    "named_parameters": lambda t, _: dict(t.model.named_parameters())["1.weight"],
    "model-deepcopy": lambda t, _: copy.deepcopy(t.model)[1].params["weight"],
    "model-pickle": lambda t, _: pickle.loads(pickle.dumps(t.model))[1].params["weight"],
    "trainer-deepcopy": lambda t, _: copy.deepcopy(t).model[1].params["weight"],
    "trainer-pickle": lambda t, _: pickle.loads(pickle.dumps(t)).model[1].params["weight"],
    "file": from_file,
}
STATES = {
    "state": lambda o: o.state["1.weight"]["exp_avg"],
    "state_dict": lambda o: o.state_dict()["state"]["1.weight"]["exp_avg"],
    "deepcopy": lambda o: copy.deepcopy(o).state["1.weight"]["exp_avg"],
    "pickle": lambda o: pickle.loads(pickle.dumps(o)).state["1.weight"]["exp_avg"],
}


@pytest.mark.parametrize("look", [*LOOKS.values(), *STATES.values()], ids=[*LOOKS, *(f"o-{name}" for name in STATES)])
def test_every_way_to_look_shows_the_last_step(look, tmp_path):
    ref, comp = trainer_of(), trainer_of()
    held = [*dict(ref.model.named_parameters()).values()]
    for number in range(3):
        for _ in range(2):
            ref.step(*ONE)
            comp.step(*ONE)
        if look in STATES.values():
            np.testing.assert_array_equal(look(comp.optimizer), ref.optimizer.state["1.weight"]["exp_avg"])
        else:
            np.testing.assert_array_equal(look(comp, tmp_path), held[0])
        assert comp.steps == comp.optimizer.steps == 2 * number + 2
    assert bits(ref) == bits(comp)
    np.testing.assert_array_equal(ref.model.infer(X), comp.model.infer(X))


def test_arrays_held_from_before_are_the_models_and_so_are_changes_to_them():
    ref, comp = trainer_of(), trainer_of()
    held = [dict(trainer.model.named_parameters())["1.weight"] for trainer in (ref, comp)]
    with modules_only():
        ref.step(*ONE)
    comp.step(*ONE)
    moments = [trainer.optimizer.state["4.weight"]["exp_avg_sq"] for trainer in (ref, comp)]
    for number in range(6):
        ref.step(*ONE)
        comp.step(*ONE)
        for one, other in (held, moments):
            np.testing.assert_allclose(other, one, 1e-4, 1e-6)
        for array in (*held, *moments):
            array *= 1.5
        for trainer in (ref, comp):
            trainer.model[4].params["bias"] = [number, 0, -number]
    assert_near(ref, comp)
    assert ref._session is None and comp._session is not None


HOLDS = {
    "array": lambda t: t.model[1].params["weight"],
    "view": lambda t: t.model[1].params["weight"].T,
    "view of a view": lambda t: t.model[1].params["weight"].T[2:4][:, ::2],
    "memoryview": lambda t: memoryview(t.model[1].params["weight"]),
    "list": lambda t: [t.model[1].params["weight"]],
}


@pytest.mark.parametrize("hold", HOLDS.values(), ids=HOLDS)
def test_steps_synchronize_as_long_as_an_array_is_held(hold):
    ref, comp = trainer_of(), trainer_of()
    for trainer in (ref, comp):
        trainer.step(*ONE)
    loaded = mock.Mock(wraps=comp._session.engine.load)
    comp._session.engine.load = loaded
    for count in (0, 3, 0):  # loads in three steps
        held = hold(comp) if count else None
        loaded.reset_mock()
        for _ in range(3):
            ref.step(*ONE)
            comp.step(*ONE)
            if held is not None:
                assert bits(ref) == bits(comp)
                np.testing.assert_array_equal(held, hold(ref))
        assert loaded.call_count == count
        held = None
        comp.step(*ONE)
        ref.step(*ONE)
    assert bits(ref) == bits(comp)


def test_parameters_that_are_views_of_one_array_stay_its():
    ref, comp = trainer_of(), trainer_of()
    flat = np.concatenate([array.ravel() for _, array in comp.model.named_parameters()])
    place, names = 0, [name for name, _ in comp.model.named_parameters()]
    for module in comp.model.modules():
        for name, array in list(module.params.items()):
            module.params.replace(name, flat[place : place + array.size].reshape(array.shape))
            place += array.size
    for _ in range(3):
        ref.step(*ONE)
        comp.step(*ONE)
        state = ref.model.state_dict()
        np.testing.assert_array_equal(flat, np.concatenate([state[name].ravel() for name in names]))


@pytest.mark.parametrize("held", ["params", "state", "kinds"])
def test_dicts_held_from_before_show_the_last_step_and_take_changes(held):
    ref, comp = trainer_of(), trainer_of()
    get = {
        "params": lambda t: t.model[1].params,
        "state": lambda t: t.optimizer.state,
        "kinds": lambda t: t.optimizer.state["1.weight"],
    }[held]
    read = {
        "params": lambda d: d["weight"],
        "state": lambda d: d["1.weight"]["exp_avg"],
        "kinds": lambda d: d["exp_avg"],
    }
    for trainer in (ref, comp):
        trainer.step(*ONE)
    dicts = [get(trainer) for trainer in (ref, comp)]
    ref_array = read[held](dicts[0])  # a reference held during all steps
    for _ in range(3):
        for trainer, arrays in zip((ref, comp), dicts, strict=True):
            trainer.step(*ONE)
            trainer.step(*ONE)
            read[held](arrays)[...] *= 1.5
        np.testing.assert_array_equal(read[held](dicts[1]), ref_array)
    assert bits(ref) == bits(comp)


CHANGES = [
    lambda o: o.state.clear(),
    lambda o: setattr(o, "state", {}),
    lambda o: o.state.pop("1.weight"),
    lambda o: o.state.update({"1.bias": {kind: 2 * array for kind, array in o.state["1.bias"].items()}}),
]


def test_a_state_that_is_cleared_or_set_between_two_steps_counts():
    ref, comp = trainer_of(), trainer_of()
    for trainer in (ref, comp):
        with modules_only() if trainer is ref else contextlib.nullcontext():
            for change in CHANGES:
                trainer.step(*ONE)
                trainer.step(*ONE)
                change(trainer.optimizer)
            trainer.step(*ONE)
    assert_near(ref, comp)
    for name, kinds in ref.optimizer.state.items():
        for kind, array in kinds.items():
            np.testing.assert_allclose(comp.optimizer.state[name][kind], array, 1e-4, 1e-6)


def test_views_of_values_and_items_show_the_last_step():
    ref, comp = trainer_of(), trainer_of()
    for trainer in (ref, comp):
        trainer.step(*ONE)
    params = comp.model[1].params
    values, items, iterator = params.values(), params.items(), iter(params.items())
    for trainer in (ref, comp):
        trainer.step(*ONE)
    for array in (dict(items)["weight"], next(iter(values)), next(iterator)[1]):
        np.testing.assert_array_equal(array, ref.model[1].params["weight"])


def test_a_reader_in_another_thread_does_not_disturb_the_steps():
    ref, comp = trainer_of(), trainer_of()
    seen, ends = set(), threading.Event()

    def read():
        while not ends.is_set():
            seen.update((name, array.shape, array.dtype) for name, array in comp.model.state_dict().items())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(40):
            ref.step(*ONE)
            comp.step(*ONE)
    finally:
        ends.set()
        reader.join()
    assert bits(ref) == bits(comp)
    assert seen <= {(name, array.shape, array.dtype) for name, array in ref.model.state_dict().items()}


def test_a_step_after_fit_and_a_fit_after_steps_go_on():
    ref, comp = trainer_of(), trainer_of()
    for trainer in (ref, comp):
        with modules_only() if trainer is ref else contextlib.nullcontext():
            for _ in range(2):
                fit(trainer, max_steps=4, threads=2)
                trainer.step(*ONE)
                trainer.step(X[:5], Y[:5])
                fit(trainer, max_steps=3, threads=None)
    assert ref.steps == comp.steps == 18
    assert_near(ref, comp)


def test_two_trainers_of_one_model_take_turns():
    ref, comp = trainer_of(fm.SGD(0.1), dropout=0.0), trainer_of(fm.SGD(0.1), dropout=0.0)
    other = fm.Trainer(comp.model, fm.CrossEntropyLoss(), fm.SGD(0.1))
    losses = [ref.step(*ONE) for _ in range(6)]
    assert [trainer.step(*ONE) for trainer in (comp, other) * 3] == losses


class Fails(fm.Constant):
    """A schedule of the user's with a fault in it."""

    failing = False

    def __call__(self, step):
        if self.failing:
            raise ArithmeticError("no rate")
        return super().__call__(step)


def test_an_error_in_a_step_takes_none_back():
    ref, comp = (trainer_of(fm.Adam(Fails(0.01))) for _ in range(2))
    for trainer in (ref, comp):
        trainer.step(X, Y)
        trainer.step(X, Y)
    comp.optimizer.schedule.failing = True
    with pytest.raises(ArithmeticError, match="no rate"):
        comp.step(X, Y)
    assert bits(ref) == bits(comp)
    comp.optimizer.schedule.failing = False
    comp.step(X, Y)
    ref.step(X, Y)
    assert bits(ref) == bits(comp)


# -------------------------------------------------------------------------------------------- callbacks


class Listener:
    """Calls ``act(trainer)`` at one event."""

    def __init__(self, event, act):
        setattr(self, event, lambda trainer, *rest: act(trainer))


@pytest.mark.parametrize("event", ["on_fit_begin", "on_step", "on_evaluation"])
def test_listeners_see_the_weights_of_now_and_what_they_change_counts(event):
    ref, comp = trainer_of(), trainer_of()
    seen = {ref: [], comp: []}

    def act(trainer):
        seen[trainer].append(trainer.model.state_dict()["1.weight"])
        trainer.model[1].params["weight"] *= 0.9

    for trainer in (ref, comp):
        with modules_only() if trainer is ref else contextlib.nullcontext():
            fit(trainer, max_steps=8, eval_every=2, callbacks=[Listener(event, act)])
    assert len(seen[ref]) == len(seen[comp]) == {"on_fit_begin": 1, "on_evaluation": 4, "on_step": 8}[event]
    for one, other in zip(seen[ref], seen[comp], strict=True):
        np.testing.assert_allclose(other, one, 1e-4, 1e-5)
    assert_near(ref, comp)


def test_progress_is_told_between_native_calls():
    steps, stream, trainer = [], io.StringIO(), trainer_of()
    trainer._open_session(1, BATCH).chunk = 7
    tell = Listener("on_progress", lambda t: steps.append(t.steps))
    fit(trainer, max_steps=20, eval_every=10, callbacks=[tell, ProgressBar(stream)])
    assert steps == [7, 10, 17, 20]
    assert "/20" in stream.getvalue()


def test_weights_looked_at_in_on_progress_are_those_of_now():
    trainer, seen = trainer_of(), {}
    trainer._open_session(1, BATCH).chunk = 3
    look = Listener("on_progress", lambda t: seen.update({t.steps: t.model.state_dict()["1.weight"]}))
    fit(trainer, max_steps=9, eval_every=9, callbacks=[look])
    for steps, comp in seen.items():
        np.testing.assert_array_equal(comp, fit(trainer_of(), max_steps=steps).model[1].params["weight"])


def test_training_may_stop_between_native_calls():
    trainer = trainer_of()
    trainer._open_session(1, BATCH).chunk = 2
    fit(trainer, max_steps=20, eval_every=20, callbacks=[Listener("on_progress", lambda t: t.stop())])
    assert trainer.steps == 2 and bits(trainer) == bits(fit(trainer_of(), max_steps=2))


# ----------------------------------------------------------------------------------------- how runs end


@pytest.mark.parametrize("event", [None, "on_step", "on_evaluation"])
@pytest.mark.parametrize("before", [0, 3])
def test_a_run_that_diverges_restores_the_last_good_weights(event, before):
    def spoil(trainer):
        if trainer.steps >= before + 8:
            trainer.model[1].params["weight"][0, 0] = np.inf

    rate = 0.01 if event else fm.StepDecay(0.01, before + 6, 1e32)
    ref, comp = (trainer_of(fm.SGD(rate, 0.9)) for _ in range(2))
    for trainer in (ref, comp):
        for _ in range(before):
            trainer.step(*ONE)
    with pytest.raises(fm.DivergenceError):
        fit(comp, max_steps=40, eval_every=2, callbacks=[Listener(event, spoil)] if event else [])
    assert comp.steps == comp.optimizer.steps > before
    assert bits(fit(ref, max_steps=comp.steps - before)) == bits(comp)


def test_one_that_only_counts_steps_keeps_no_copies_and_what_is_restored_is_the_same(monkeypatch):
    """`looks_at_model` of a progress bar is False: nothing is kept apart for it, and nothing is lost."""
    monkeypatch.setattr(fm.SGD, "state_dict", lambda self: pytest.fail("the state was copied"))
    rate = fm.StepDecay(0.01, 6, 1e32)
    seen = []

    class Counter(fm.Callback):
        may_change_model = looks_at_model = False

        def on_progress(self, trainer):
            seen.append(trainer.steps)

    ref, comp = (trainer_of(fm.SGD(rate, 0.9)) for _ in range(2))
    for trainer, callbacks in ((ref, []), (comp, [Counter(), fm.ProgressBar(io.StringIO())])):
        with pytest.raises(fm.DivergenceError):
            fit(trainer, max_steps=40, eval_every=2, callbacks=callbacks)
    assert seen and ref.steps == comp.steps > 0
    monkeypatch.undo()
    assert bits(ref) == bits(comp)


def test_what_a_listener_changed_after_the_last_good_evaluation_goes_too():
    def enlarge(trainer, record):
        if record["step"] == 4:
            trainer.model[4].params["weight"][...] = 3e38  # still finite

    ref, comp = trainer_of(fm.SGD(0.1)), trainer_of(fm.SGD(0.1))
    for trainer in (ref, comp):
        with modules_only() if trainer is ref else contextlib.nullcontext(), pytest.raises(fm.DivergenceError):
            fit(trainer, max_steps=40, eval_every=2, callbacks=[enlarge])
    assert ref.steps == comp.steps == 4
    assert_near(ref, comp)


def test_a_run_that_diverges_at_once_leaves_everything_as_it_was():
    ref, comp = trainer_of(), trainer_of()
    for trainer in (ref, comp):
        for _ in range(5):
            trainer.step(*ONE)
    comp.optimizer.schedule = fm.Constant(1e38)
    with pytest.raises(fm.DivergenceError):
        fit(comp, threads=None, max_steps=40)
    assert bits(ref) == bits(comp)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_leaves_the_weights_of_the_last_step():
    trainer = trainer_of()
    trainer._open_session(2, BATCH).chunk = 4
    kill = Listener("on_progress", lambda t: t.steps == 14 and os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, threads=2, max_steps=40, eval_every=10, callbacks=[kill])
    assert trainer.steps == 14 and bits(trainer) == bits(fit(trainer_of(), max_steps=14))
    assert bits(fit(trainer, max_steps=6)) == bits(fit(trainer_of(), max_steps=20))


def test_ctrl_c_in_a_step_leaves_the_weights_of_the_one_before(monkeypatch):
    ref, comp = trainer_of(), trainer_of()
    for trainer in (ref, comp):
        for _ in range(3):
            trainer.step(*ONE)
    comp._path.native = None
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setitem(comp._session.engine.prepared.calls, (0, 1, 0), mock.Mock(side_effect=KeyboardInterrupt))
        comp.step(*ONE)
    assert bits(ref) == bits(comp)
    assert comp.step(*ONE) == ref.step(*ONE)


# ------------------------------------------------------------------------- parameters in the arrays and the engine


@pytest.fixture
def mirrored():
    """Two trainers after a step, the second one with mirrored parameters."""
    from fastmlp.engine import native

    if native.native is None:
        pytest.skip("the package was installed without a C compiler")
    trainers = [trainer_of() for _ in range(2)]
    for trainer in trainers:
        for _ in range(2):
            trainer.step(*ONE)
    assert trainers[1]._session.mirror_parameters() and trainers[1]._session.mirror is not None
    return trainers


def parameters_of(trainer):
    """The arrays without a synchronization."""
    return {
        (prefix, name): module.params.local(name)
        for prefix, module in trainer.model.named_modules()
        for name in module.params
    }


def test_mirrored_parameters_are_current_after_each_step(mirrored):
    ref, comp = mirrored
    held = parameters_of(comp)
    for _ in range(3):
        ref.step(*ONE)
        comp.step(*ONE)
        expected = ref.model.state_dict()
        for (prefix, name), array in held.items():
            np.testing.assert_array_equal(array, expected[prefix + name])
    assert comp._session.mirror is not None
    assert bits(ref) == bits(comp)
    assert comp._session.mirror is None  # the state was read


@pytest.mark.parametrize("end", [lambda t: None, lambda t: t._session.detach(), lambda t: t.model.infer(X)])
def test_changes_of_mirrored_parameters_count(end, mirrored):
    ref, comp = mirrored
    held = parameters_of(comp)
    for number in range(3):
        for (prefix, name), array in held.items():
            array *= 1.25 + number
            ref.model.load_state_dict({**ref.model.state_dict(), prefix + name: array})
        end(comp)
        for _ in range(2):
            assert comp.step(*ONE) == ref.step(*ONE)
        comp._session.mirror_parameters()
    assert bits(ref) == bits(comp)


def test_no_mirror_while_the_state_is_held(mirrored):
    ref, comp = mirrored
    held = comp.optimizer.state["1.weight"]["exp_avg"]
    assert not comp._session.mirror_parameters() and comp._session.mirror is None
    for trainer in mirrored:
        trainer.step(*ONE)
    np.testing.assert_array_equal(held, ref.optimizer.state["1.weight"]["exp_avg"])
    del held
    assert bits(ref) == bits(comp)


def test_read_only_parameters_take_the_general_path(mirrored):
    ref, comp = mirrored
    held = parameters_of(comp)
    for array in held.values():
        array.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        comp.step(*ONE)
    for array in held.values():
        array.flags.writeable = True
