"""Write one file of every saved format, with the answers of what was saved: python make.py FOLDER.

The files beside this script were written by fastmlp at commit 1760404 (2026-11-30). They stay as they are, since
`test_saved_files` asserts that later versions read them; a new format gets a further folder.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np

import fastmlp as fm
from fastmlp import cli

ACTIVATIONS = ["identity", "relu", "leaky_relu", "elu", "tanh", "sigmoid", "gelu", "gelu_tanh", "silu", "softplus"]


def rows(count=12, seed=7, dtype=np.float32):
    """(X (N, 5), labels (N,), numbers (N,)) of a fixed seed."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(count, 5)).astype(dtype)
    return X, (X[:, 0] + X[:, 1] > 0).astype(np.int64), X[:, 0] - 2 * X[:, 2]


def model(dtype):
    """Every kind of module and activation."""
    X = rows(dtype=dtype)[0]
    layers = [fm.Normalize(X.mean(axis=0), X.std(axis=0), dtype=dtype)]
    width = 5
    for number, name in enumerate(ACTIVATIONS):
        layers.append(fm.Linear(width, 4, bias=number % 2 == 0, dtype=dtype, rng=number))
        layers.append(fm.MLP(4, [], 4, activation=name, dtype=dtype, rng=0) if number == 0 else activation(name))
        width = 4
    layers += [fm.LayerNorm(4, dtype=dtype), fm.Dropout(0.25), fm.Linear(4, 3, dtype=dtype, rng=99), fm.Softmax()]
    made = fm.Sequential(*layers)
    made.task, made.classes = "classification", ["a", "b", "c"]
    return made.eval()


def activation(name):
    from fastmlp.modules.activations import activation_from_name

    return activation_from_name(name)


def trainer():
    """A trainer on the NumPy backend, whose bits do not depend on the processor's vectors."""
    with fm.use_backend("numpy"):
        net = fm.MLP(5, [6], 2, activation="tanh", dropout=0.1, layer_norm=True, rng=3)
        return fm.Trainer(net, fm.CrossEntropyLoss(), fm.Adam(1e-2))


class Stop(fm.Callback):
    """Stop a fit at a step."""

    def __init__(self, step):
        self.step = step

    def on_step(self, trainer, step, loss):
        if step == self.step:
            raise KeyboardInterrupt


def estimators():
    X, labels, numbers = rows(60)
    text = np.array(["no", "yes"])[labels]
    options = {"hidden_layer_sizes": (6,), "max_iter": 4, "random_state": 0}
    made = {
        "classifier": fm.MLPClassifier(**options).fit(X, text),
        "regressor": fm.MLPRegressor(**options, early_stopping=True, solver="sgd").fit(X, numbers),
        "lbfgs": fm.MLPRegressor(**options, solver="lbfgs", activation="tanh").fit(X, numbers),
        "partial": fm.MLPClassifier(**options, dropout=0.2).partial_fit(X, text, classes=["no", "yes"]),
    }
    return made


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    X, labels, _ = rows()
    answers = {}
    for dtype in (np.float32, np.float64):
        name = f"model-{np.dtype(dtype).name}"
        made = model(dtype)
        fm.save(made, folder / f"{name}.safetensors", preprocessing={"columns": [], "note": "kept"})
        answers[name] = made.infer(X.astype(dtype))
    for name, made in estimators().items():
        (folder / f"{name}.pickle").write_bytes(pickle.dumps(made, protocol=4))
        answers[name] = made.predict(X)
    one = trainer()
    with contextlib.suppress(KeyboardInterrupt):
        one.fit(X, labels, batch_size=4, epochs=4, validation=(X, labels), rng=5,
                callbacks=[fm.EarlyStopping(50), fm.SaveState(folder / "training.safetensors"), Stop(7)])  # fmt: skip
    answers["training, step"] = np.array(one.steps)
    whole = trainer()
    whole.fit(X, labels, batch_size=4, epochs=4, validation=(X, labels), rng=5, callbacks=[fm.EarlyStopping(50)])
    for name, array in whole.model.state_dict().items():
        answers[f"training, {name}"] = array
    (folder / "table.csv").write_text(
        "size,kind,price\n" + "".join(f"{i / 7:.3f},{'ab'[i % 2]},{i * 3 + (i % 2) * 5}\n" for i in range(40))
    )
    for name, arguments in {
        "run": ["--dataset", "digits", "--hidden", "8"],
        "run-table": ["--dataset", "table.csv", "--target", "price", "--hidden", "4"],
    }.items():
        with contextlib.redirect_stdout(io.StringIO()), contextlib.chdir(folder):
            code = cli.main(["train", *arguments, "--epochs", "1", "--quiet", "--out", name])
        assert code in (0, None), code
        (folder / name / "curves.png").unlink()
    np.savez(folder / "answers.npz", **answers)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
