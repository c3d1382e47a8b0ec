"""Choices that are measured or derived for a processor never change a result."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fastmlp as fm
from fastmlp._common.tuning import CHOICES, override
from fastmlp.training.tune import measure

VALUES = {
    "flops_per_thread": (1000, 10**12),
    "rows_per_thread": (1, 1000),
    "batch_block": (8, 37, 10**5),
    "panel_prefetch": (0, 1),
    "weight_prefetch": (0, 1),
}


def weights_after(dtype, threads, **choices):
    """Weights after some steps, with batches of several blocks and weights beyond the caches next to the processor."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 40)).astype(dtype), rng.integers(0, 3, 300)
    with override(**choices):
        model = fm.MLP(40, [330, 150], 3, "tanh", dtype=dtype, rng=0)
        trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.Adam(0.01, clip_norm=0.5), l2=1e-3)
        trainer.fit(X, y, batch_size=150, max_steps=4, rng=0, threads=threads)
        outputs = trainer.predict_proba(X)
    return [*trainer.model.state_dict().values(), outputs]


def test_every_choice_is_tested():
    assert VALUES.keys() == CHOICES.keys()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_a_choice(dtype):
    ref = weights_after(dtype, 1)
    for name, values in VALUES.items():
        for value in values:
            for threads in (None, 1, 2):
                comp = weights_after(dtype, threads, **{name: value})
                assert all(map(np.array_equal, comp, ref)), (name, value, threads)


def test_bits_do_not_depend_on_choices_together():
    ref = weights_after(np.float32, 1)
    for values in list(itertools.product(*VALUES.values()))[::7]:
        comp = weights_after(np.float32, 3, **dict(zip(VALUES, values, strict=True)))
        assert all(map(np.array_equal, comp, ref)), values


def test_measurements():
    found, running = measure(0.02)
    assert set(found) <= set(CHOICES) and running > 0
    for name, one in found.items():
        assert CHOICES[name].lowest <= one.value <= CHOICES[name].highest and one.reason
