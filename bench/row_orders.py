"""Test accuracy by the order of the rows, on MNIST sorted by class.

    python bench/row_orders.py --data-dir data
    python bench/row_orders.py --data-dir data --out bench/results/row-orders-DATE.json

A net of 784-256-10 trains on the rows sorted by class, the worst case for an order that mixes near rows only. Windows
of fewer rows show what the default windows do in a set that has as many times more rows than MNIST.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

import fastmlp as fm
from fastmlp._common.processor import processor
from fastmlp.training import row_order

WIDTH = 784
# Order, blocks of a window, and rows of a block. The first windows are the default.
ORDERS = {
    "full": ("full", 64, 512),
    "windows of 64 blocks of 512 rows": ("windows", 64, 512),
    "windows of 64 blocks of 64 rows": ("windows", 64, 64),
    "windows of 64 blocks of 8 rows": ("windows", 64, 8),
    "windows of 8 blocks of 4096 rows": ("windows", 8, 4096),
    "windows of 8 blocks of 512 rows": ("windows", 8, 512),
    "windows of 8 blocks of 64 rows": ("windows", 8, 64),
    "none": (False, 64, 512),
}


def train(data: Any, order: str, seed: int, epochs: int) -> list[float]:
    """Return the test accuracies after each epoch; ``data`` is (X, y, X_test, y_test)."""
    X, y, *held_out = data
    shuffle, row_order.WINDOW, block = ORDERS[order]
    row_order.BLOCK_NUMBERS = block * WIDTH
    model = fm.MLP(WIDTH, [256], 10, normalize=fm.Normalize.fit(X, "mean-image"), rng=seed)
    trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.Adam(1e-3))
    history = trainer.fit(X, y, validation=held_out, batch_size=128, epochs=epochs, shuffle=shuffle, rng=seed)
    return [float(value) for value in history["val_accuracy"]]


def main() -> None:
    """Train with each order and seed, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder of the files of MNIST")
    parser.add_argument("--epochs", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--out", help="the JSON file")
    args = parser.parse_args()
    X, y, X_test, y_test = fm.load("mnist", data_dir=args.data_dir)
    by_class = np.argsort(y, kind="stable")
    data = np.float32(X[by_class]) / 255, y[by_class], np.float32(X_test) / 255, y_test
    results = {}
    for order in ORDERS:
        results[order] = [train(data, order, seed, args.epochs) for seed in range(args.seeds)]
        last = [accuracies[-1] for accuracies in results[order]]
        print(f"{order:<34} {statistics.mean(last):.4f}  ({', '.join(f'{accuracy:.4f}' for accuracy in last)})")
    if args.out:
        record = {"date": time.strftime("%Y-%m-%d"), "processor": processor(), "test accuracy by epoch": results}
        Path(args.out).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
