"""Steps by the engine, compared with steps module by module."""

from __future__ import annotations

import contextlib
from unittest import mock

import numpy as np
from checks import assert_matches

import fastmlp as fm

TOLERANCE = {"float32": 1e-4, "float64": 1e-10}  # relative to an array's largest magnitude


def modules_only():
    return mock.patch("fastmlp.engine.session.open_session", return_value=None)


def arrays_of(trainer):
    state = trainer.optimizer.state
    kept = {f"{kind} of {name}": np.array(array) for name in state for kind, array in state[name].items()}
    return {**trainer.model.state_dict(), **kept}


def assert_same_steps(model, loss, optimizer, data, *, batch=13, steps=10, threads=1, weight=None, l2=0.0, **more):
    """Compare after 1 and ``steps`` steps; ``model``, ``loss`` and ``optimizer`` are factories."""
    results = []
    for way in (modules_only, contextlib.nullcontext):
        trainer = fm.Trainer(model(), loss(), optimizer(), l2=l2)
        options = {
            "sample_weight": weight,
            "batch_size": batch,
            "threads": threads,
            "eval_every": 3,
            **more,
        }
        with way():
            first = trainer.fit(*data, max_steps=1, rng=3, **options)["train_loss"]
            after_one = arrays_of(trainer)
            rest = trainer.fit(*data, max_steps=steps - 1, **options)["train_loss"]
        assert (trainer._session is None) == (way is modules_only)
        results.append((after_one, arrays_of(trainer), first + rest, trainer.steps, trainer.optimizer.steps))
    ref, comp = results
    tolerance = TOLERANCE[str(trainer.model.dtype)]
    assert comp[3:] == ref[3:] == (steps, steps)
    assert_matches(ref[2], comp[2], tolerance * np.abs(ref[2]), "losses")
    for one, other, after in zip(ref[:2], comp[:2], (1, steps), strict=True):
        assert one.keys() == other.keys()
        for name, array in one.items():
            assert_matches(array, other[name], tolerance * np.abs(array).max(), f"{name} after {after}")
