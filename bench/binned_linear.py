"""Compare BinnedLinear with a Linear on the dense code: ``python bench/binned_linear.py [--bins 32] [--threads 1]``.

The net has 20 dense and 20 binned columns and two hidden layers of 128. Steps and predictions alternate between both
nets; the least time of the rounds is printed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import fastmlp as fm

COLUMNS, WIDTH, BATCH, ROWS = 20, 128, 256, 51_200


def net(first: fm.Module) -> fm.Sequential:
    """Return a net with this first layer."""
    hidden, last = fm.Linear(WIDTH, WIDTH, rng=0, layer=1), fm.Linear(WIDTH, 2, rng=0, layer=2)
    return fm.Sequential(first, fm.ReLU(), hidden, fm.ReLU(), last)


def step_seconds(first: fm.Module, X: np.ndarray, y: np.ndarray, threads: int) -> float:
    """Return the seconds of a training step."""
    trainer = fm.Trainer(net(first), fm.CrossEntropyLoss(), fm.Adam(0.002), l2=1e-4)
    trainer.fit(X, y, batch_size=BATCH, max_steps=20, threads=threads, rng=0)
    began, done = time.perf_counter(), trainer.steps
    trainer.fit(X, y, batch_size=BATCH, epochs=2, threads=threads, rng=0)
    return (time.perf_counter() - began) / (trainer.steps - done)


def call_seconds(call: Callable[[], object], repeats: int) -> float:
    """Return the seconds of a call."""
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - began) / repeats


def main() -> None:
    """Print the table of times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bins", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    dense, positions = rng.normal(size=(ROWS, COLUMNS)), rng.uniform(0, options.bins, (ROWS, COLUMNS))
    X, y = np.concatenate([dense, positions], axis=1).astype(np.float32), rng.integers(0, 2, ROWS)
    first = fm.BinnedLinear(COLUMNS, [options.bins] * COLUMNS, WIDTH, rng=0)
    sides = {"Linear": (first.to_linear(), first.code(X)), "BinnedLinear": (first, X)}
    best: dict[str, dict[str, float]] = {}
    for _ in range(options.rounds):
        for name, (layer, features) in sides.items():
            predictor = fm.Predictor(net(layer), threads=1)
            row, many = features[:1].copy(), features[:10_000].copy()
            trained = fm.modules.module_from_config(layer.config())
            trained.load_state_dict(layer.state_dict())
            times = {
                "step": step_seconds(trained, features, y, options.threads),
                "a row": min(call_seconds(lambda p=predictor, x=row: p(x), 300) for _ in range(20)),
                "10,000 rows": call_seconds(lambda p=predictor, x=many: p(x), 2),
            }
            for what, seconds in times.items():
                found = best.setdefault(what, {})
                found[name] = min(found.get(name, np.inf), seconds)
    for what, found in best.items():
        cells = ", ".join(f"{name} {seconds * 1e6:.2f} us" for name, seconds in found.items())
        print(f"{what:12} {cells}, ratio {found['BinnedLinear'] / found['Linear']:.3f}", flush=True)


if __name__ == "__main__":
    main()
