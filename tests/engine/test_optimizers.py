"""All optimizers of the registry in the engine: changed arguments, resumed runs and user-defined optimizers."""

from __future__ import annotations

import json
from types import ModuleType

import numpy as np
import pytest
import qhm
from checks import assert_matches
from optimizers import EXAMPLES, own_arguments, remake
from same_steps import arrays_of, modules_only

import fastmlp as fm
from fastmlp import optim
from fastmlp._kernels import formulas
from fastmlp.optim import optimizer_types

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("the engine runs jitted only", allow_module_level=True)

generator = np.random.default_rng(5)
X, Y = generator.standard_normal((33, 9)), generator.integers(0, 3, 33)


@pytest.fixture(autouse=True)
def on_numba():
    with fm.use_backend("numba"):
        yield


def trainer_of(optimizer, **options):
    model = fm.MLP(9, [7], 3, "tanh", dtype=np.float64, rng=0)
    return fm.Trainer(model, fm.CrossEntropyLoss(), optimizer, **options)


def fit(trainer, **options):
    trainer.fit(X, Y, **{"batch_size": 13, "max_steps": 7, "rng": 3, "threads": 1, **options})
    return trainer


def assert_near(ref, comp):
    for name, array in arrays_of(ref).items():
        assert_matches(array, arrays_of(comp)[name], 1e-10 * np.abs(array).max(), name)


def differ(one, other):
    return any((array != arrays_of(other)[name]).any() for name, array in one.model.state_dict().items())


# ------------------------------------------------------------------------------ arguments that change


def values_of(kind):
    """(argument, an example, what its value is changed to) for each argument, to the default and from it."""
    found = [(name, kind.examples()[0], value) for name, value in (("clip_norm", 0.05), ("clip_value", 0.01))]
    found += [("lr", kind.examples()[0], 3 * kind.examples()[0].current_lr)]
    for name, default in own_arguments(kind).items():
        example = next(one for one in kind.examples() if getattr(one, name) != default)
        found += [(name, example, default), (name, remake(example, **{name: default}), getattr(example, name))]
    return found


CHANGES = [
    pytest.param(name, example, value, id=f"{kind.__name__}-{name}-{value}")
    for kind in optimizer_types().values()
    for name, example, value in values_of(kind)
]


@pytest.mark.parametrize("name, example, value", CHANGES)
@pytest.mark.sampled
def test_an_argument_that_changes_between_two_fits_counts(name, example, value):
    def change(trainer, value):
        if name == "lr":
            trainer.optimizer.schedule = fm.Constant(value)
        else:
            setattr(trainer.optimizer, name, value)
        if name.startswith("initial_"):  # used only when a state is created
            trainer.optimizer.state = {}

    now = example.current_lr if name == "lr" else getattr(example, name)
    with modules_only():
        ref = fit_twice(example, change, value)
    comp, unchanged = fit_twice(example, change, value), fit_twice(example, change, now)
    assert comp._session is not None and ref._session is None
    assert_near(ref, comp)
    assert differ(comp, unchanged)
    for kinds in comp.optimizer.state.values():
        assert set(kinds) == comp.optimizer.state_names
    remake(comp.optimizer).load_state_dict(comp.optimizer.state_dict())


def fit_twice(example, change, value):
    trainer = fit(trainer_of(remake(example)))
    change(trainer, value)
    return fit(trainer)


# ------------------------------------------------------------------------------------ runs that are resumed


class Killed(Exception):
    """In the place of a signal."""


class Kill(fm.Callback):
    def on_step(self, trainer, step, loss):
        if step == 6:
            raise Killed


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_resumed_run_is_the_same_to_the_bit(name, tmp_path):
    def trainer():
        optimizer = EXAMPLES[name](clip_norm=0.5, lr=fm.Cosine(EXAMPLES[name]().current_lr, 12))
        return trainer_of(optimizer, average=0.9)

    ref = fit(trainer(), max_steps=12)
    with pytest.raises(Killed):
        fit(trainer(), max_steps=12, callbacks=[fm.SaveState(tmp_path / "state", every_steps=4), Kill()])
    comp = fit(trainer(), max_steps=12, resume=tmp_path / "state", rng=None)
    assert ref.steps == comp.steps == 12
    for key, array in arrays_of(ref).items():
        assert array.tobytes() == arrays_of(comp)[key].tobytes(), key


# ------------------------------------------------------------------------------------ a user's own


@pytest.fixture
def registries(monkeypatch):
    """Restore the registries after a test."""
    monkeypatch.setattr(optim._registry, "_types", dict(optim._registry._types))
    monkeypatch.setitem(formulas._registered, "optimizers", dict(formulas._registered["optimizers"]))


class QHM(fm.Optimizer):
    kernel = "qhm"

    def __init__(self, lr=0.1, beta=0.9, nu=0.7, **clips):
        super().__init__(lr, **clips)
        self.beta, self.nu = beta, nu

    def numbers(self, rates, step):
        return rates, self.beta, self.nu

    @property
    def kinds(self):
        return ("velocity" if self.nu else None,)


class ByHand(fm.Optimizer):
    """The same without a formula."""

    kinds = ("velocity",)

    def numbers(self, rates, step):
        return (rates,)

    def _update(self, backend, gradient, numbers, state, param):
        state["velocity"] += 0.1 * (gradient - state["velocity"])
        param -= numbers[0] * (0.3 * gradient + 0.7 * state["velocity"])


@pytest.mark.parametrize("nu", [0.7, 0.0])
def test_a_users_formula_trains_in_the_engine(registries, nu, tmp_path):
    formulas.register("optimizers", "qhm", qhm)
    assert fm.register_optimizer(QHM) is QHM and optimizer_types()["qhm"] is QHM
    assert fm.register_optimizer(QHM) is QHM  # registering twice is allowed
    comp = fit(trainer_of(QHM(nu=nu, clip_norm=0.5)), callbacks=[fm.SaveState(tmp_path / "state", every_steps=4)])
    assert comp._session is not None
    with modules_only():
        ref = fit(trainer_of(QHM(nu=nu, clip_norm=0.5)))
    assert_near(ref, comp)
    with fm.use_backend("numpy"):
        assert_near(fit(trainer_of(QHM(nu=nu, clip_norm=0.5))), comp)
    resumed = fit(trainer_of(QHM(nu=nu, clip_norm=0.5)), resume=tmp_path / "state", rng=None)
    for key, array in arrays_of(comp).items():
        assert array.tobytes() == arrays_of(resumed)[key].tobytes(), key
    assert json.loads(json.dumps(comp.optimizer.config()))["beta"] == 0.9


def test_a_users_update_trains_module_by_module_and_a_warning_says_so_once(registries, tmp_path):
    formulas.register("optimizers", "qhm", qhm)
    fm.register_optimizer(ByHand)
    fm.register_optimizer(QHM)
    comp = trainer_of(ByHand(0.1))
    with pytest.warns(fm.PerformanceWarning, match="the optimizer ByHand is not one that the engine knows") as caught:
        fit(comp, callbacks=[fm.SaveState(tmp_path / "state", every_steps=4)])
        fit(comp)
    assert len(caught) == 1 and comp._session is None
    assert_near(fit(fit(trainer_of(QHM()))), comp)
    resumed = trainer_of(ByHand(0.1))
    with pytest.warns(fm.PerformanceWarning):
        fit(resumed, resume=tmp_path / "state", rng=None)
    assert resumed.steps == 7


class Nameless(fm.Optimizer):
    pass


class Unwritten(fm.Optimizer):
    kernel = "unwritten"


class Adam(QHM):
    """Of a name that is taken."""


@pytest.mark.parametrize(
    "kind, formula, text",
    [
        (Nameless, None, "The kernel of Nameless is None. There is no formula 'None' in optimizers; expected one of"),
        (Unwritten, None, "The kernel of Unwritten is 'unwritten'. There is no formula 'unwritten'"),
        (Unwritten, ((), ()), "'unwritten' has 0 states and 0 numbers; expected 1 to 3 states and at most 8"),
        (Unwritten, ("abcd", ()), "has 4 states"),
        (Unwritten, ("a", "123456789"), "has 1 states and 9 numbers"),
        (Adam, None, "Optimizer 'adam' already exists; expected another name"),
        (fm.MLP, None, "Expected a class derived from Optimizer, got <class"),
        (fm.Adam(), None, "Expected a class derived from Optimizer, got Adam"),
    ],
)  # fmt: skip
def test_what_cannot_be_registered(registries, kind, formula, text):
    formulas.register("optimizers", "qhm", qhm)
    if formula is not None:
        module = ModuleType("unwritten")
        module.STATES, module.NUMBERS = formula
        formulas.register("optimizers", "unwritten", module)
    before = optimizer_types()
    with pytest.raises(ValueError, match=text):
        fm.register_optimizer(kind)
    assert optimizer_types() == before
