"""Activation parameters changed between two fits: the second fit uses the new value."""

from __future__ import annotations

import numpy as np
import pytest
from activations import EXAMPLES
from checks import assert_matches
from same_steps import modules_only

import fastmlp as fm
from fastmlp.modules.activations import activation_types

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("the engine runs jitted only", allow_module_level=True)

# (name in EXAMPLES, argument): a different value of the argument
CHANGES = {
    (name, argument): other.config()[argument]
    for name, make in EXAMPLES.items()
    for other in make().examples()
    for argument, value in make().config().items()
    if other.config()[argument] != value
}


def outputs(name, argument=None, value=None):
    """Of a model after two fits, the argument changed between them."""
    X, y = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 3
    with fm.use_backend("numba"):
        model = fm.MLP(5, [7, 6], 3, EXAMPLES[name](), dtype=np.float64, rng=0)
        trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.SGD(0.1, 0.9))
        options = {"batch_size": 8, "max_steps": 6, "rng": 1, "threads": 1}
        trainer.fit(X, y, **options)
        session = trainer._session
        for module in model:
            if argument is not None and isinstance(module, fm.modules.Activation):
                setattr(module, argument, value)
        trainer.fit(X, y, **options)
        assert (trainer._session is None) == (session is None)
        return trainer.predict_proba(X), session


@pytest.mark.parametrize(("name", "argument"), CHANGES)
def test_a_changed_parameter_counts(name, argument):
    value = CHANGES[name, argument]
    comp, session = outputs(name, argument, value)
    assert session is not None
    with modules_only():
        ref, _ = outputs(name, argument, value)
    unchanged, _ = outputs(name)
    assert_matches(ref, comp, 1e-10)
    assert np.abs(comp - unchanged).max() > 1e-6


def test_each_parameter_is_changed():
    arguments = {(kind.__name__, name) for kind in activation_types() for name in kind().config() if name != "type"}
    assert {(EXAMPLES[name]().config()["type"], argument) for name, argument in CHANGES} == arguments
