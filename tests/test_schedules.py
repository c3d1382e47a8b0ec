import json
import math

import pytest

import fastmlp as fm

SCHEDULES = [
    fm.Constant(0.1),
    fm.StepDecay(0.1, 3),
    fm.Exponential(0.1, 0.9, every=2),
    fm.Cosine(0.1, 10, final=0.01),
    fm.OneCycle(0.1, 10),
    fm.LinearWarmup(fm.Cosine(0.1, 10), 3, start=0.1),
    fm.ReduceOnPlateau(0.1),
]


def test_values():
    assert [fm.Constant(0.5)(step) for step in range(2)] == [0.5, 0.5]
    assert [fm.StepDecay(1, 2, 0.5)(step) for step in range(5)] == [1, 1, 0.5, 0.5, 0.25]
    assert fm.Exponential(1, 0.81, every=2)(1) == pytest.approx(0.9)
    cosine = fm.Cosine(1, 4, final=0.2)
    assert [cosine(step) for step in (0, 2, 4, 9)] == pytest.approx([1, 0.6, 0.2, 0.2])
    warm = fm.LinearWarmup(fm.StepDecay(1, 2, 0.5), 4, start=0.2)
    assert [warm(step) for step in range(8)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 0.5, 0.5])
    assert fm.LinearWarmup(2.0, 2)(1) == 1


def test_one_cycle_ends():
    schedule = fm.OneCycle(1.0, 10)
    assert schedule(0) == pytest.approx(1 / 25) and schedule(2) == pytest.approx(1)
    assert schedule(9) == pytest.approx(1 / 25e4) and schedule(99) == schedule(9)
    for steps in (1, 2, 3):
        assert all(math.isfinite(fm.OneCycle(1.0, steps, pct_start=0.5)(step)) for step in range(steps))


def test_plateau():
    schedule = fm.ReduceOnPlateau(1.0, factor=0.5, patience=1, cooldown=1, min_lr=0.3)
    rates = []
    for loss in [1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]:
        schedule.update(loss)
        rates.append(schedule(0))
    #       best  best  bad 1 cut   cool  bad 1 cut   cool  bad 1
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3]
    schedule.update(float("nan"))  # counts as bad
    again = fm.ReduceOnPlateau(1.0, factor=0.5, patience=1, cooldown=1, min_lr=0.3)
    again.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    assert again.state_dict() == schedule.state_dict()


def test_a_wrapped_plateau():
    schedule = fm.LinearWarmup(fm.ReduceOnPlateau(1.0, patience=0), 2)
    schedule.update(1.0)
    schedule.update(1.0)
    assert schedule(5) == 0.1
    again = fm.LinearWarmup(fm.ReduceOnPlateau(1.0, patience=0), 2)
    again.load_state_dict(schedule.state_dict())
    assert again(5) == 0.1


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_config_and_state(schedule):
    config = json.loads(json.dumps(schedule.config()))
    assert config.pop("type") == type(schedule).__name__
    if "schedule" in config:
        inner = config["schedule"]
        config["schedule"] = getattr(fm, inner.pop("type"))(**inner)
    again = type(schedule)(**config)
    again.load_state_dict(schedule.state_dict())
    assert [again(step) for step in range(15)] == [schedule(step) for step in range(15)]
    assert all(type(schedule(step)) is float for step in range(15))
    with pytest.raises(ValueError, match="schedule's state has"):
        again.load_state_dict({"nonsense": 1})


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: fm.Constant(-1), "lr is -1; expected a finite number of at least 0"),
        (lambda: fm.Constant(True), "lr is True"),
        (lambda: fm.StepDecay(0.1, 0), "every is 0; expected an integer of at least 1"),
        (lambda: fm.StepDecay(0.1, 2, 0), "factor is 0; expected a finite number above 0"),
        (lambda: fm.Exponential(0.1, -1), "decay is -1"),
        (lambda: fm.Cosine(0.1, 2.5), "steps is 2.5"),
        (lambda: fm.OneCycle(0.1, 10, pct_start=2), "pct_start is 2"),
        (lambda: fm.LinearWarmup("x", 2), "lr is 'x'"),
        (lambda: fm.ReduceOnPlateau(0.1, factor=1.0), "factor is 1.0; expected .* below 1"),
        (lambda: fm.ReduceOnPlateau(0.1, patience=-1), "patience is -1"),
    ],
)
def test_bad_arguments(make, text):
    with pytest.raises(ValueError, match=text):
        make()
