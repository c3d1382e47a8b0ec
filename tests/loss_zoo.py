"""All losses of the registry with matching data, for tests of properties that every loss has."""

from __future__ import annotations

import numpy as np

from fastmlp._kernels import use_backend
from fastmlp.losses import loss_types

COLUMNS = 5  # number of columns in `Loss.examples`
SOFT = "-soft"  # suffix of names with class probabilities instead of indices as targets


def _examples():
    with use_backend("numpy"):
        return {
            f"{kind.__name__}-{i}{targets}": (kind, i)
            for kind in loss_types()
            if kind.__module__.startswith("fastmlp.")  # excludes losses registered by tests
            for i in range(len(kind.examples()))
            for targets in (["", SOFT] if kind.target_kind == "labels" else [""])
        }


_EXAMPLES = _examples()
NAMES = tuple(_EXAMPLES)


def make(name):
    """The loss of a name, on the current backend."""
    kind, i = _EXAMPLES[name]
    return kind.examples()[i]


def _those(wanted):
    with use_backend("numpy"):
        return tuple(name for name in NAMES if wanted(make(name)))


OF_CLASSES = _those(lambda loss: loss.target_kind == "labels")
ELEMENTWISE = tuple(name for name in NAMES if name not in OF_CLASSES)
FROM_LOGITS = _those(lambda loss: not loss.takes_probabilities)


def outputs_of(name, rng, rows, columns=COLUMNS):
    """Outputs (rows, columns) of a model for a loss: numbers, or probabilities."""
    x = rng.normal(size=(rows, columns))
    return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) if name not in FROM_LOGITS else x


def targets_of(name, rng, rows, columns=COLUMNS):
    """Targets of the kind that a loss takes."""
    kind = _EXAMPLES[name][0].target_kind
    if kind == "labels" and not name.endswith(SOFT):
        return rng.integers(0, columns, rows)
    draw = {"unit": rng.uniform, "counts": lambda size: rng.poisson(2.0, size), "labels": rng.uniform}
    return draw.get(kind, rng.normal)(size=(rows, columns)).astype(float)
