"""Parameter groups: each parameter is updated by the numbers of its group, in modules and in the engine."""

import json

import numpy as np
import pytest
from checks import assert_matches
from same_steps import modules_only

import fastmlp as fm
from fastmlp.optim import optimizer_types

KINDS = sorted(optimizer_types())
X = np.random.default_rng(0).normal(size=(64, 6))
Y = np.random.default_rng(1).integers(0, 3, 64)
GROUPS = [{"params": "*.bias", "lr_scale": 0.0}, {"params": ["0.weight"], "lr_scale": 0.25, "weight_decay": 0.3}]


def model(dtype="float64", **options):
    return fm.MLP(6, [8, 7], 3, dtype=dtype, rng=0, **options)


def make(kind, groups=None, **options):
    return optimizer_types()[kind](0.01, param_groups=groups, **options)


def fitted(optimizer, dtype="float64", steps=12, net=None, **options):
    trainer = fm.Trainer(net or model(dtype), fm.CrossEntropyLoss(), optimizer, **options)
    trainer.fit(X, Y, batch_size=16, max_steps=steps, rng=0, threads=1, eval_every=100)
    return dict(trainer.model.named_parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_each_group_has_the_update_of_an_optimizer_with_its_options(kind):
    """On gradients of one step, as later steps see the changes of the other groups."""
    found = {}
    for name, options in (("own", {}), ("scaled", {"weight_decay": 0.3})):
        net = model()
        rate = 0.01 if name == "own" else 0.0025
        optimizer = optimizer_types()[kind](rate, **({"weight_decay": 0.0} | options))
        net.forward(X)
        net.backward(np.cos(X[:, :3]))
        optimizer.step(net)
        found[name] = dict(net.named_parameters())
    net, first = model(), dict(model().named_parameters())
    optimizer = make(kind, GROUPS, weight_decay=0.0)
    net.forward(X)
    net.backward(np.cos(X[:, :3]))
    optimizer.step(net)
    for name, array in net.named_parameters():
        ref = first if name.endswith("bias") else found["scaled" if name == "0.weight" else "own"]
        assert np.array_equal(ref[name], array), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [{}, {"layer_norm": True, "dropout": 0.2}])
def test_the_engine_agrees_with_the_modules(kind, layers):
    options = {"clip_norm": 0.5}
    schedule = fm.Cosine(0.02, steps=12)
    engine = optimizer_types()[kind](schedule, param_groups=GROUPS, **options)
    comp = fitted(engine, net=model(**layers), l2=0.1, average=0.9)
    with modules_only():
        other = optimizer_types()[kind](schedule, param_groups=GROUPS, **options)
        ref = fitted(other, net=model(**layers), l2=0.1, average=0.9)
    for name, array in ref.items():
        assert_matches(array, comp[name], 1e-10, name)
    start = dict(model(**layers).named_parameters())
    assert all(np.array_equal(start[name], comp[name]) for name in comp if name.endswith("bias"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_with_the_options_of_the_optimizer_changes_no_bit(kind):
    ref = fitted(make(kind), "float32")
    for groups in ([], [{"params": "*"}], [{"params": "*.weight", "lr_scale": 1.0}, {"params": "0.bias", "lr": 0.01}]):
        comp = fitted(make(kind, groups), "float32")
        assert all(np.array_equal(ref[name], comp[name]) for name in ref)


def test_threads_and_single_steps():
    ref = fitted(make("adam", GROUPS), "float32")
    trainer = fm.Trainer(model("float32"), fm.CrossEntropyLoss(), make("adam", GROUPS))
    trainer.fit(X, Y, batch_size=16, max_steps=12, rng=0, threads=2, eval_every=100)
    assert all(np.array_equal(ref[name], array) for name, array in trainer.model.named_parameters())
    engine, modules = (fm.Trainer(model(), fm.CrossEntropyLoss(), make("adam", GROUPS)) for _ in range(2))
    for _ in range(5):
        engine.step(X, Y)
    with modules_only():
        for _ in range(5):
            modules.step(X, Y)
    for (name, array), (_, other) in zip(modules.model.named_parameters(), engine.model.named_parameters()):
        assert_matches(array, other, 1e-10, name)


def test_many_fits_and_steppers():
    ref = fitted(make("adam", GROUPS), "float32")
    trainers = [fm.Trainer(model("float32"), fm.CrossEntropyLoss(), make("adam", GROUPS)) for _ in range(3)]
    fm.fit_many(trainers, X, Y, batch_size=16, max_steps=12, rng=0, eval_every=100, each=[{"rng": 0}] * 3)
    for trainer in trainers:
        assert all(np.array_equal(ref[name], array) for name, array in trainer.model.named_parameters())
    one, other = (fm.Trainer(model(), fm.CrossEntropyLoss(), make("adam", GROUPS)) for _ in range(2))
    stepper = other.stepper()
    for _ in range(5):
        one.step(X, Y)
        stepper.step(X, Y)
    for (name, array), (_, again) in zip(one.model.named_parameters(), other.model.named_parameters()):
        assert np.array_equal(array, again), name


def test_groups_that_change_during_training():
    optimizer = make("sgd", [{"params": "*", "lr_scale": 0.0}])
    trainer = fm.Trainer(model(), fm.CrossEntropyLoss(), optimizer)
    start = trainer.model.state_dict()
    trainer.step(X, Y)
    assert all(np.array_equal(start[name], array) for name, array in trainer.model.state_dict().items())
    optimizer.param_groups = [{"params": "0.weight", "lr_scale": 0.0}]
    trainer.step(X, Y)
    changed = {name for name, array in trainer.model.state_dict().items() if not np.array_equal(start[name], array)}
    assert "0.weight" not in changed and len(changed) == 5


def test_binned_linear():
    layers = [fm.BinnedLinear(2, [4, 3], 8, dtype="float64", rng=0), fm.ReLU(), fm.Linear(8, 3, dtype="float64", rng=1)]
    x = np.concatenate([X[:, :2], np.abs(X[:, 2:4])], axis=1)
    net = fm.Sequential(*layers)
    start = net.state_dict()
    trainer = fm.Trainer(net, fm.CrossEntropyLoss(), make("adam", [{"params": "0.table", "lr": 0.0}]))
    trainer.fit(x, Y, batch_size=16, epochs=2, rng=0)
    kept = {name for name, array in net.state_dict().items() if np.array_equal(start[name], array)}
    assert kept == {"0.table"}


def test_resumed_runs(tmp_path):
    def trainer():
        return fm.Trainer(model(), fm.CrossEntropyLoss(), make("adamw", GROUPS))

    ref = trainer()
    ref.fit(X, Y, batch_size=16, max_steps=8, rng=0, eval_every=4, callbacks=fm.SaveState(tmp_path / "state"))

    class Stop(fm.Callback):
        def on_evaluation(self, trainer, record):
            raise KeyboardInterrupt

    first = trainer()
    with pytest.raises(KeyboardInterrupt):
        first.fit(
            X, Y, batch_size=16, max_steps=8, rng=0, eval_every=4, callbacks=[fm.SaveState(tmp_path / "s"), Stop()]
        )
    comp = trainer()
    comp.fit(X, Y, batch_size=16, max_steps=8, rng=0, eval_every=4, resume=tmp_path / "s")
    for (name, array), (_, other) in zip(ref.model.named_parameters(), comp.model.named_parameters()):
        assert np.array_equal(array, other), name
    other = fm.Trainer(model(), fm.CrossEntropyLoss(), make("adamw"))
    with pytest.raises(fm.ResumeError):
        other.fit(X, Y, batch_size=16, max_steps=8, rng=0, eval_every=4, resume=tmp_path / "s")


def test_config_and_repr():
    optimizer = fm.AdamW(0.01, param_groups=[{"params": "*.bias", "betas": [0.5, 0.9]}])
    assert optimizer.param_groups == [{"params": ["*.bias"], "betas": (0.5, 0.9)}]
    assert "param_groups=[{'params': ['*.bias']" in repr(optimizer) and "param_groups" not in repr(fm.AdamW(0.01))
    config = json.loads(json.dumps(optimizer.config()))
    again = fm.AdamW(**{name: value for name, value in config.items() if name != "type"})
    assert again.param_groups == optimizer.param_groups


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"params": "*"}, "param_groups is a dict; expected a list"),
        ([{"lr": 0.1}], r"param_groups\[0\] is .*; expected a dict with 'params'"),
        ([{"params": []}], r"param_groups\[0\] has the params"),
        ([{"params": [3]}], "expected names"),
        ([{"params": "*", "momentun": 0.9}], "has the option 'momentun'; expected .*betas.*weight_decay"),
        ([{"params": "*", "clip_norm": 1}], "has the option 'clip_norm'"),
        ([{"params": "*", "lr": 0.1, "lr_scale": 2}], "both lr and lr_scale"),
        ([{"params": "*", "lr": -1}], "lr is -1"),
        ([{"params": "*", "weight_decay": -1}], "weight_decay is -1"),
        ([{"params": "*", "betas": 3}], "betas is 3; expected two numbers"),
    ],
)
def test_errors_of_groups(groups, message):
    with pytest.raises(ValueError, match=message):
        fm.Adam(0.1, param_groups=groups)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([{"params": "0.weights"}], "names '0.weights', which is no parameter of the model; expected .*'0.weight'"),
        ([{"params": "*.bias"}, {"params": "0.*"}], r"'0.bias' is in param_groups\[0\] and in param_groups\[1\]"),
    ],
)
def test_errors_of_names(groups, message):
    with pytest.raises(ValueError, match=message):
        fitted(fm.Adam(0.1, param_groups=groups))
    net = model()
    net.forward(X)
    net.backward(np.cos(X[:, :3]))
    with pytest.raises(ValueError, match=message):
        fm.Adam(0.1, param_groups=groups).step(net)
