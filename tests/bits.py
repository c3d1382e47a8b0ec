"""Hashes of trained nets, to compare two checkouts bit by bit on one machine.

    python tests/bits.py > before.json            # in one checkout
    python tests/bits.py --against before.json    # in the other: lists differences and exits with 1

Each case is a fit on the Numba backend. The hash covers the final weights, the optimizer's state, the losses and the
outputs. Bits depend on the vector width (`fastmlp info`) and on the versions of Numba and LLVM, so hashes of different
machines may differ. Hashes for one thread and for two threads are always equal.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

import fastmlp as fm
from fastmlp.modules import activation_names

OPTIMIZERS = {
    "sgd": lambda **more: fm.SGD(0.05, weight_decay=1e-3, **more),
    "momentum": lambda **more: fm.SGD(0.02, momentum=0.9, nesterov=True, **more),
    "adam": lambda **more: fm.Adam(3e-3, **more),
    "adamw": lambda **more: fm.AdamW(3e-3, **more),
    "rmsprop": lambda **more: fm.RMSprop(1e-3, momentum=0.5, centered=True, **more),
    "adagrad": lambda **more: fm.Adagrad(1e-2, lr_decay=1e-3, **more),
}
LOSSES = {
    "cross_entropy": lambda: fm.CrossEntropyLoss(label_smoothing=0.1, class_weight=[1.0, 2.0, 0.5]),
    "probabilities": lambda: fm.CrossEntropyLoss(from_logits=False),
    "bce": lambda: fm.BCEWithLogitsLoss(pos_weight=2.0),
    "mse": lambda: fm.MSELoss(half=True, reduction="rows"),
    "l1": lambda: fm.L1Loss(),
    "huber": lambda: fm.HuberLoss(0.5),
    "log_cosh": lambda: fm.LogCoshLoss(),
    "quantile": lambda: fm.QuantileLoss(0.3),
    "poisson": lambda: fm.PoissonLoss(),
}


def data(dtype):
    """(X (97, 21), class labels (97,), numbers from 0 to 1 (97, 3))."""
    rng = np.random.default_rng(11)
    X = rng.normal(size=(97, 21)).astype(dtype)
    labels = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0.5)
    return X, labels, (1 / (1 + np.exp(-X[:, :3]))).astype(dtype)


def fit(dtype, *, activation="relu", loss="cross_entropy", optimizer="sgd", clip=None, threads=1, layers=None, **more):
    """The hash of one fit."""
    X, labels, numbers = data(dtype)
    net = fm.MLP(21, [35, 18], 3, activation=activation, dtype=dtype, rng=1, **(layers or {}))
    parts = [fm.Normalize(X.mean(axis=0), X.std(axis=0), dtype=dtype), net]
    if loss == "probabilities":
        parts.append(fm.Softmax())
    model = fm.Sequential(*parts)
    target = labels if loss in ("cross_entropy", "probabilities") else numbers
    trainer = fm.Trainer(model, LOSSES[loss](), OPTIMIZERS[optimizer](clip_norm=clip), l2=1e-4 if clip else 0.0)
    history = trainer.fit(X, target, batch_size=16, epochs=3, threads=threads, rng=2, **more)
    digest = hashlib.sha256()
    for array in trainer.model.state_dict().values():
        digest.update(array.tobytes())
    for arrays in trainer.optimizer.state_dict()["state"].values():
        for kind in sorted(arrays, key=lambda kind: {"mean": "exp_avg", "square": "exp_avg_sq"}.get(kind, kind)):
            digest.update(arrays[kind].tobytes())
    digest.update(np.array([record["train_loss"] for record in history]).tobytes())
    digest.update(trainer.model.infer(X).tobytes())
    return digest.hexdigest()[:16]


def cases():
    """name: arguments of `fit` beside dtype and threads."""
    found = {}
    for activation in activation_names():
        found[f"activation {activation}"] = {"activation": activation}
    for loss in LOSSES:
        found[f"loss {loss}"] = {"loss": loss, "activation": "tanh"}
    for optimizer in OPTIMIZERS:
        found[f"optimizer {optimizer}"] = {"optimizer": optimizer}
        found[f"optimizer {optimizer}, clipped"] = {"optimizer": optimizer, "clip": 0.5}
    found["layers"] = {"layers": {"layer_norm": True, "dropout": 0.2}, "optimizer": "adam"}
    found["accumulated"] = {"accumulate": 2, "optimizer": "adam"}
    found["mixed"] = {"augment": [fm.Mixup(0.3), fm.GaussianNoise(0.1)], "optimizer": "momentum"}
    found["flipped"] = {"augment": [fm.HorizontalFlip((1, 7, 3)), fm.GaussianNoise(0.1)]}
    return found


def hashes():
    """name of a case: its hash; that of two threads must be the same."""
    found = {}
    for dtype in (np.float32, np.float64):
        for name, arguments in cases().items():
            one, two = (fit(dtype, threads=threads, **arguments) for threads in (1, 2))
            assert one == two, f"{name}: the bits of one thread are not those of two"
            found[f"{np.dtype(dtype).name}: {name}"] = one
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, metavar="FILE", help="hashes of another checkout")
    args = parser.parse_args()
    found = hashes()
    if args.against is None:
        print(json.dumps(found, indent=1))
        return 0
    before = json.loads(args.against.read_text())
    other = [name for name in before if found.get(name) != before[name]]
    print("\n".join(f"differs: {name}" for name in other) or f"all {len(before)} are equal")
    return bool(other)


if __name__ == "__main__":
    sys.exit(main())
