"""Cost of each training feature: microseconds per step compared with a plain fit, medians of interleaved fits.

Usage: python bench/features.py [JSON]
"""

from __future__ import annotations

import datetime
import io
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import fastmlp as fm

ROUNDS = 9
# inputs, hidden layers, classes, rows, batch, epochs
CASES = {"tabular": (30, (64, 64), 2, 8000, 32, 8), "mnist": (784, (512, 512), 10, 12800, 128, 2)}


class Quiet(fm.Callback):
    """Callback at evaluations that does nothing, like a progress bar without output."""

    may_change_model = False

    def on_evaluation(self, trainer, record):
        pass


class Terminal(io.StringIO):
    """Stream that a progress bar takes for a terminal."""

    def isatty(self):
        return True


class EachStep(fm.Callback):
    """Callback after each step, which makes the trainer return to Python every time."""

    def on_step(self, trainer, step, loss):
        pass


def features(folder, inputs):
    """Return {name: (options of the model, of the optimizer, of the trainer, of fit)}."""
    return {
        "plain": ({}, {}, {}, {}),
        "plain again": ({}, {}, {}, {}),
        "callback at evaluations": ({}, {}, {}, {"callbacks": [Quiet()]}),
        "early stopping": ({}, {}, {}, {"callbacks": [fm.EarlyStopping(1000, monitor="train_loss")]}),
        "progress, lines": ({}, {}, {}, {"callbacks": [fm.ProgressBar(open("/dev/null", "w"))]}),
        "progress, bar": ({}, {}, {}, {"callbacks": [fm.ProgressBar(Terminal(), lines=False)]}),
        "metrics file": ({}, {}, {}, {"callbacks": [fm.MetricsFile(folder / "metrics")]}),
        "state saved": ({}, {}, {}, {"callbacks": [fm.SaveState(folder / "state")]}),
        "models saved": ({}, {}, {}, {"callbacks": [fm.ModelCheckpoint(folder, monitor="train_loss")]}),
        "callback at each step": ({}, {}, {}, {"callbacks": [EachStep()]}),
        "schedule": ({}, {"lr": fm.Cosine(1e-3, 10000)}, {}, {}),
        "l2": ({}, {}, {"l2": 1e-4}, {}),
        "average of weights": ({}, {}, {"average": 0.999}, {}),
        "clip_norm": ({}, {"clip_norm": 1.0}, {}, {}),
        "dropout": ({"dropout": 0.1}, {}, {}, {}),
        "layer_norm": ({"layer_norm": True}, {}, {}, {}),
        "noise": ({}, {}, {}, {"augment": [fm.GaussianNoise(0.1)]}),
        "mixup": ({}, {}, {}, {"augment": [fm.Mixup(0.2)]}),
        "flips": ({}, {}, {}, {"augment": [fm.HorizontalFlip((2, inputs // 2))]}),
    }


def measure(inputs, hidden, classes, rows, batch, epochs):
    """Return the microseconds per step of each feature."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, inputs)).astype(np.float32)
    y = (X @ rng.normal(size=(inputs, classes))).argmax(axis=1)
    with tempfile.TemporaryDirectory() as name:
        made = features(Path(name), inputs)
        times = {feature: [] for feature in made}
        for _ in range(1 + ROUNDS):
            for feature, (model, optimizer, options, fit) in made.items():
                net = fm.MLP(inputs, hidden, classes, rng=0, **model)
                trainer = fm.Trainer(net, fm.CrossEntropyLoss(), fm.Adam(**optimizer), **options)
                began = time.perf_counter()
                trainer.fit(X, y, batch_size=batch, epochs=epochs, rng=0, threads=2, **fit)
                times[feature].append((time.perf_counter() - began) / trainer.steps * 1e6)
    return {feature: statistics.median(found[1:]) for feature, found in times.items()}


def main():
    found = {}
    for case, arguments in CASES.items():
        found[case] = measure(*arguments)
        plain = found[case]["plain"]
        print(f"{case}: microseconds per step, and the ratio to a plain step")
        for feature, value in found[case].items():
            print(f"  {feature:24} {value:9.1f} {value / plain:6.2f}", flush=True)
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w") as stream:
            json.dump({"date": str(datetime.date.today()), "us_per_step": found}, stream, indent=1)


if __name__ == "__main__":
    main()
