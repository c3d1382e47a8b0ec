"""Steps by the persistent CUDA kernel on a simulated GPU, compared with steps module by module."""

from __future__ import annotations

import numpy as np
from checks import assert_matches, eps
from simulated import Simulated

from fastmlp.engine.gpu import GpuEngine
from fastmlp.training.augmentation import Augmentations
from fastmlp.training.batches import check_rows
from fastmlp.training.module_steps import ModuleSteps

TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def rows_of(count=11, features=5, classes=3):
    generator = np.random.default_rng(0)
    return generator.standard_normal((count, features)), generator.integers(0, classes, count)


def batches_of(count, batch, seed=1):
    """Return shuffled row numbers and the bounds of batches, the last one short."""
    return np.random.default_rng(seed).permutation(count), np.append(np.arange(0, count, batch), count)


def assert_same_steps(
    model, loss, optimizer, data, *, batch=6, machine=None, weight=None, l2=0.0, average=None, precision="float32",
    augment=(), accumulate=1, step=0, seed=7
):  # fmt: skip
    """Compare the engine with `ModuleSteps`, and return its plan."""
    machine = machine or Simulated()
    found = []
    for gpu in (False, True):
        net, criterion, rule = model(), loss(), optimizer()
        before = rule.steps
        rule.average = average
        net.train()
        rows = check_rows(*data, weight, net, criterion, "test")
        index, bounds = batches_of(len(rows), batch * accumulate)
        changes = Augmentations(augment, net, rows.X.shape[1], rows.outputs, rows.dtype)
        if gpu:
            steps = GpuEngine(net, criterion, rule, batch, machine)
            steps.precision = precision
        else:
            rule.prepare(net)
            steps = ModuleSteps(net, criterion, rule, batch)
        result = steps.run(rows, index, bounds, seed, step, l2, changes or None, accumulate)
        if gpu:
            steps.weights.unload()
        state = {f"{kind} of {name}": a for name, kinds in rule.state.items() for kind, a in kinds.items()}
        found.append((result, {**net.state_dict(), **state}, rule.steps - before))
    (ref, arrays, count), (comp, ours, ours_count) = found
    tolerance = TOLERANCE[str(net.dtype)] if precision in ("float32", "bf16x6") else 2 * eps(precision)
    assert count == ours_count == len(bounds) - 1
    for one, other in zip(ref, comp, strict=True):
        assert_matches(one, other, tolerance * (1 + np.abs(one)))
    for name, array in arrays.items():
        assert_matches(array, ours[name], tolerance * (1 + np.abs(array).max()), name)
    return steps.plan
