import copy
import json

import numpy as np
import pytest
from checks import assert_matches
from optimizers import EXAMPLES, own_arguments, update

import fastmlp as fm
from fastmlp._kernels import formulas
from fastmlp.optim import optimizer_types
from fastmlp.optim.base import columns


def model_of(dtype=np.float64):
    """A model with gradients of its own."""
    model = fm.MLP(4, [5], 3, "tanh", dtype=dtype, rng=0)
    model.backward(np.ones_like(model.forward(np.linspace(-1, 1, 24).reshape(6, 4))))
    return model


def flat(model):
    return np.concatenate([array.ravel() for _, array in model.named_parameters()])


def run(optimizer, model, steps):
    """Each step minimizes sum(sin(p) p), whose gradient the parameters themselves give."""
    for _ in range(steps):
        for (_, param), (_, grad) in zip(model.named_parameters(), model.named_gradients(), strict=True):
            grad[...] = np.sin(param) + param * np.cos(param)
        optimizer.step(model)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.sampled
def test_formula(backend, name, dtype):
    model, optimizer, state = model_of(dtype), EXAMPLES[name](), {}
    p = flat(model).astype(float)
    path = np.abs(p)
    for t in range(1, 9):
        for (_, param), (_, grad) in zip(model.named_parameters(), model.named_gradients(), strict=True):
            grad[...] = np.sin(param) + param * np.cos(param)
        grads = np.concatenate([grad.ravel() for _, grad in model.named_gradients()])
        before = p
        p = update(optimizer)(optimizer, t, grads.astype(float), p, state)
        path = path + np.abs(p - before)
        optimizer.step(model)
        # A few roundings per step, of the parameter and of its update.
        assert_matches(p, flat(model), 8 * t * np.finfo(dtype).eps * path, f"step {t}")
    assert optimizer.steps == 8 and flat(model).dtype == dtype and set(state) == optimizer.state_names


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_gradient_that_is_not_a_number_reaches_the_parameter(backend, name):
    model, optimizer = model_of(), EXAMPLES[name]()
    bias, gradient = model[0].params["bias"], model[0].grads["bias"]
    gradient[1] = np.nan
    optimizer.step(model)
    assert np.isnan(bias).tolist() == [False, True, False, False, False]


@pytest.mark.parametrize("kind", optimizer_types().values(), ids=optimizer_types())
def test_the_class_says_what_it_is(kind):
    """Its examples have each argument at two values, and fit the formula."""
    formula, examples = formulas.find("optimizers", kind.kernel), kind.examples()
    for name, default in own_arguments(kind).items():
        assert any(getattr(example, name) != default for example in examples), name
    for example in examples:
        numbers = columns(example.numbers(np.array([0.1, 0.2]), 3), 2)
        assert numbers.shape == (2, len(formula.NUMBERS)) and numbers.dtype == np.float64
        np.testing.assert_array_equal(columns(example.numbers(np.array([0.2]), 4), 1), numbers[1:])
        there = formula.kept(numbers[0]) if hasattr(formula, "kept") else (True,) * len(formula.STATES)
        ref = tuple(state if kept else None for state, kept in zip(formula.STATES, there, strict=True))
        assert example.kinds == ref


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_saved_state_continues(backend, name):
    model, optimizer = model_of(), EXAMPLES[name]()
    run(optimizer, model, 3)
    state, twin, again = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(model), EXAMPLES[name]()
    run(optimizer, model, 3)
    again.load_state_dict(state)
    run(again, twin, 3)
    np.testing.assert_array_equal(flat(model), flat(twin))
    assert again.steps == 6
    third = copy.deepcopy(again)
    run(again, twin, 1)
    run(third, model, 1)
    np.testing.assert_array_equal(flat(model), flat(twin))


def test_state_is_a_copy(backend):
    model, optimizer = model_of(), fm.Adam()
    optimizer.step(model)
    state = optimizer.state_dict()
    state["state"]["0.weight"]["exp_avg"][...] = 9
    assert (optimizer.state["0.weight"]["exp_avg"] != 9).all()


def test_clip_value(backend):
    model, optimizer = model_of(), fm.SGD(1.0, clip_value=0.25)
    before, grads = flat(model), np.concatenate([g.ravel() for _, g in model.named_gradients()])
    assert np.abs(grads).max() > 0.25
    optimizer.step(model)
    np.testing.assert_allclose(flat(model), before - np.clip(grads, -0.25, 0.25), rtol=0, atol=1e-15)


@pytest.mark.parametrize("most", [0.5, 1e6])
def test_clip_norm(backend, most):
    model, optimizer = model_of(), fm.SGD(1.0, clip_norm=most)
    before, grads = flat(model), np.concatenate([g.ravel() for _, g in model.named_gradients()])
    factor = min(1, most / (np.linalg.norm(grads) + 1e-6))
    optimizer.step(model)
    np.testing.assert_allclose(flat(model), before - factor * grads, rtol=0, atol=1e-14)


def test_clipping_by_value_comes_first(backend):
    model, optimizer = model_of(), fm.SGD(1.0, clip_value=0.25, clip_norm=0.5)
    before, grads = flat(model), np.concatenate([g.ravel() for _, g in model.named_gradients()])
    clipped = np.clip(grads, -0.25, 0.25)
    clipped *= min(1, 0.5 / (np.linalg.norm(clipped) + 1e-6))
    optimizer.step(model)
    np.testing.assert_allclose(flat(model), before - clipped, rtol=0, atol=1e-14)


def test_a_schedule(backend):
    model, optimizer = model_of(), fm.SGD(fm.StepDecay(1.0, every=2, factor=0.5))
    rates = []
    for _ in range(5):
        rates.append(optimizer.current_lr)
        optimizer.step(model)
    assert rates == [1, 1, 0.5, 0.5, 0.25]
    plateau = fm.SGD(fm.ReduceOnPlateau(1.0, patience=0))
    plateau.schedule.update(1.0)
    plateau.schedule.update(1.0)
    assert plateau.current_lr == 0.1
    again = fm.SGD(fm.ReduceOnPlateau(1.0, patience=0))
    again.load_state_dict(plateau.state_dict())
    assert again.current_lr == 0.1


def test_moving_the_model_moves_the_state(backend):
    model, optimizer = model_of(), fm.Adam()
    optimizer.step(model)
    before = optimizer.state["0.weight"]["exp_avg"].copy()
    model.to("numpy")
    optimizer.prepare(model)
    np.testing.assert_array_equal(optimizer.state["0.weight"]["exp_avg"], before)


def test_step_before_backward(backend):
    model = fm.MLP(2, [3], 1, rng=0)
    with pytest.raises(RuntimeError, match=r"step was called before backward: 0\.Linear has no gradient yet"):
        fm.SGD().step(model)
    y = model.forward(np.ones((1, 2)))
    model.backward(y, need_dx=False)
    fm.SGD().step(model)


def test_another_model(backend):
    optimizer = fm.Adam()
    optimizer.step(model_of())
    other = fm.Linear(9, 2, rng=0)
    other.backward(other.forward(np.ones((1, 9))))
    optimizer.step(other)  # other parameter names have a separate state
    wide = fm.Sequential(fm.Linear(9, 2, dtype=np.float64, rng=0))
    wide.backward(wide.forward(np.ones((1, 9))))
    with pytest.raises(ValueError, match=r"exp_avg of 0.weight is float64 \(5, 4\), the parameter float64 \(2, 9\)"):
        optimizer.step(wide)


def test_config_round_trip():
    for make in EXAMPLES.values():
        optimizer = make()
        config = json.loads(json.dumps(optimizer.config()))
        again = getattr(fm, config.pop("type"))(**config)
        assert json.dumps(again.config()) == json.dumps(optimizer.config()) and repr(again)
    assert fm.SGD(fm.Cosine(0.1, 5)).config()["lr"] == {"type": "Cosine", "lr": 0.1, "steps": 5, "final": 0.0}


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: fm.SGD(-1), "lr is -1; expected a finite number of at least 0"),
        (lambda: fm.SGD("0.1"), "lr is '0.1'"),
        (lambda: fm.SGD(float("nan")), "lr is nan"),
        (lambda: fm.SGD(momentum=-0.1), "momentum is -0.1"),
        (lambda: fm.SGD(nesterov=True), "nesterov needs a momentum above 0, got 0.0"),
        (lambda: fm.SGD(clip_norm=0), "clip_norm is 0; expected a finite number above 0"),
        (lambda: fm.SGD(clip_value=-1), "clip_value is -1"),
        (
            lambda: fm.Adam(betas=(0.9, 1.0)),
            r"betas\[1\] is 1.0; expected a finite number of at least 0 and below 1",
        ),
        (lambda: fm.Adam(betas=0.9), "betas is 0.9; expected two numbers"),
        (lambda: fm.Adam(eps=-1e-8), "eps is -1e-08"),
        (lambda: fm.AdamW(weight_decay=-1), "weight_decay is -1"),
        (lambda: fm.RMSprop(alpha=2), "alpha is 2"),
        (lambda: fm.Adagrad(lr_decay=-1), "lr_decay is -1"),
    ],
)
def test_bad_arguments(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda s: s.pop("steps"), "state has .*'schedule', 'state'.; expected schedule, state and steps"),
        (lambda s: s.update(steps=-1), "steps is -1"),
        (
            lambda s: s["state"]["0.weight"].pop("exp_avg"),
            r"0.weight has \['exp_avg_sq'\]; expected \['exp_avg', 'exp_avg_sq'\]",
        ),
        (lambda s: s["state"]["0.weight"].update(exp_avg=["a"]), "exp_avg of 0.weight has dtype <U1"),
        (lambda s: s.update(schedule={"best": 1}), r"schedule's state has \['best'\]"),
    ],
)
def test_a_bad_state_changes_nothing(backend, change, text):
    model, optimizer = model_of(), fm.Adam()
    optimizer.step(model)
    state = optimizer.state_dict()
    change(state)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=text):
        optimizer.load_state_dict(state)
    assert optimizer.steps == before["steps"] and list(optimizer.state) == list(before["state"])
    np.testing.assert_array_equal(optimizer.state["0.weight"]["exp_avg"], before["state"]["0.weight"]["exp_avg"])
