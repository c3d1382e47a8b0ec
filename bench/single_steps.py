"""Compare training steps and predictions that Python drives one by one: fastmlp, PyTorch (eager), JAX and scikit-learn.

    python bench/single_steps.py [--rounds N] [--only TEXT]

Each contender of a step returns the loss of its batch as a Python number. All alternate in one process, on one thread;
medians and minima over the rounds are printed in microseconds per call.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sklearn.neural_network
import torch
from threadpoolctl import threadpool_limits

import fastmlp as fm

CASES = {
    "8-16-1 tanh, batch 1, SGD": ((8, 16, 1), "tanh", 1, "sgd"),
    "30-64-64-2 relu, batch 32, Adam": ((30, 64, 64, 2), "relu", 32, "adam"),
}
SIZES, ROWS = (30, 64, 64, 2), 32  # of the estimators
RATES = {"sgd": 0.01, "adam": 0.001}


def batch_of(sizes: tuple[int, ...], rows: int) -> tuple[Any, Any]:
    """Return features, and class indices or numbers."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, sizes[0]), dtype=np.float32)
    if sizes[-1] > 1:
        return x, rng.integers(0, sizes[-1], rows)
    return x, rng.standard_normal((rows, 1), dtype=np.float32)


def trainer_of(sizes: tuple[int, ...], activation: str, optimizer: str) -> fm.Trainer:
    """Return a new trainer of fastmlp."""
    model = fm.MLP(sizes[0], sizes[1:-1], sizes[-1], activation=activation, rng=0)
    loss = fm.CrossEntropyLoss() if sizes[-1] > 1 else fm.MSELoss()
    return fm.Trainer(model, loss, {"sgd": fm.SGD, "adam": fm.Adam}[optimizer](RATES[optimizer]))


def with_fastmlp(sizes: tuple[int, ...], activation: str, rows: int, optimizer: str) -> dict[str, Callable[[], Any]]:
    """Return a step, one without checks of values, and one from a gradient that is computed here."""
    x, y = batch_of(sizes, rows)
    checked, unchecked, own = (trainer_of(sizes, activation, optimizer) for _ in range(3))
    fast, stepper = unchecked.stepper(rows, check=False), own.stepper(rows)
    one_hot = np.eye(sizes[-1], dtype=np.float32)[y] if sizes[-1] > 1 else y

    def from_gradient() -> None:
        stepper.backward(stepper.forward(x) - one_hot)

    weighted, weights = trainer_of(sizes, activation, optimizer), np.random.default_rng(2).uniform(0.5, 2, rows)
    return {
        "fastmlp": lambda: checked.step(x, y), "fastmlp, check=False": lambda: fast.step(x, y),
        "fastmlp, own gradient": from_gradient, "fastmlp, sample weights": lambda: weighted.step(x, y, weights),
    }  # fmt: skip


def with_torch(sizes: tuple[int, ...], activation: str, rows: int, optimizer: str) -> Callable[[], float]:
    """Return a step of PyTorch."""
    x, y = map(torch.from_numpy, batch_of(sizes, rows))
    kind = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[activation]
    layers = [layer for a, b in zip(sizes, sizes[1:]) for layer in (torch.nn.Linear(a, b), kind())]
    net = torch.nn.Sequential(*layers[:-1])
    update = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer](net.parameters(), RATES[optimizer])
    loss = torch.nn.CrossEntropyLoss() if sizes[-1] > 1 else torch.nn.MSELoss()

    def step() -> float:
        update.zero_grad()
        value = loss(net(x), y)
        value.backward()
        update.step()
        return value.item()

    return step


def with_jax(sizes: tuple[int, ...], activation: str, rows: int, optimizer: str) -> Callable[[], float]:
    """Return a step of JAX."""
    x, y = batch_of(sizes, rows)
    rng, h = np.random.default_rng(1), {"tanh": jnp.tanh, "relu": jax.nn.relu}[activation]
    params = [(jnp.asarray(0.1 * rng.standard_normal(pair), jnp.float32), jnp.zeros(pair[1]))
              for pair in zip(sizes, sizes[1:])]  # fmt: skip
    zeros = jax.tree.map(jnp.zeros_like, params)

    def loss(params: Any, x: Any, y: Any) -> Any:
        for weight, bias in params[:-1]:
            x = h(x @ weight + bias)
        x = x @ params[-1][0] + params[-1][1]
        if sizes[-1] > 1:
            return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean()
        return ((x - y) ** 2).mean()

    @jax.jit
    def update(state: Any, x: Any, y: Any) -> Any:
        params, first, second, count = state
        value, grad = jax.value_and_grad(loss)(params, x, y)
        if optimizer == "sgd":
            return (jax.tree.map(lambda p, g: p - RATES["sgd"] * g, params, grad), first, second, count), value
        count += 1
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grad)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, grad)
        scale, bias = 1 - 0.9**count, 1 - 0.999**count
        params = jax.tree.map(
            lambda p, m, v: p - RATES["adam"] * (m / scale) / (jnp.sqrt(v / bias) + 1e-8), params, first, second
        )
        return (params, first, second, count), value

    state = (params, zeros, zeros, jnp.float32(0))

    def step() -> float:
        nonlocal state
        state, value = update(state, x, y)
        return float(value)

    return step


def with_estimators() -> dict[str, dict[str, Callable[[], Any]]]:
    """Return calls of fastmlp's and scikit-learn's classifier: `partial_fit`, and predictions of one row."""
    x, y = batch_of(SIZES, ROWS)
    kinds = {"fastmlp": fm.MLPClassifier, "scikit-learn": sklearn.neural_network.MLPClassifier}
    learners, fitted = (
        {name: kind(SIZES[1:-1], random_state=0).partial_fit(x, y, classes=[0, 1]) for name, kind in kinds.items()}
        for _ in range(2)
    )
    one = x[:1]
    predictions = {
        f"{name}, {method}": functools.partial(getattr(model, method), one)
        for name, model in fitted.items()
        for method in ("predict", "predict_proba")
    }

    def learn_and_predict(model: Any) -> None:
        model.predict(one)
        model.partial_fit(x, y)

    title = f"MLPClassifier {'-'.join(map(str, SIZES))} relu, Adam"
    return {
        f"{title}: partial_fit, {ROWS} rows": {
            name: lambda model=model: model.partial_fit(x, y) for name, model in learners.items()
        },
        f"{title}: one row": predictions,
        f"{title}: predict of one row and partial_fit": {
            name: lambda model=model: learn_and_predict(model) for name, model in learners.items()
        },
    }


def compare(title: str, contenders: dict[str, Callable[[], Any]], rounds: int, count: int) -> None:
    """Call the contenders in turns, and print the times of a call."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, call in contenders.items():
            began = time.perf_counter()
            for _ in range(count):
                call()
            if number:  # the first round warms up
                taken[name].append((time.perf_counter() - began) / count * 1e6)
    print(title)
    for name, values in taken.items():
        print(f"  {name:28} median {statistics.median(values):7.1f}, minimum {min(values):7.1f} us")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--only", default="", help="part of the titles of the cases to run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        for title, case in CASES.items():
            if arguments.only in title:
                contenders = {**with_fastmlp(*case), "PyTorch": with_torch(*case), "JAX": with_jax(*case)}
                compare(title, contenders, arguments.rounds, 300)
        for title, contenders in with_estimators().items():
            if arguments.only in title:
                compare(title, contenders, arguments.rounds, 50)


if __name__ == "__main__":
    main()
