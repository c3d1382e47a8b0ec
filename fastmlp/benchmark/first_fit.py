"""Time of a process from its start to the end of a first small fit, for fastmlp and other libraries."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .._common.installed import is_installed
from .machine import describe
from .startup import installed_sizes

__all__ = ["CONTENDERS", "FORMAT", "run", "table"]

FORMAT = "startup-1"

_DATA = """
import numpy as np
rng = np.random.default_rng(0)
X, y = rng.standard_normal((1000, 20), dtype=np.float32), rng.integers(0, 3, 1000)
"""
_FIT = (
    _DATA
    + """
import fastmlp as fm
trainer = fm.Trainer(fm.MLP(20, [32], 3, rng=0), fm.CrossEntropyLoss(), fm.Adam(0.001))
trainer.fit(X, y, batch_size=100, epochs=5, rng=0)
"""
)
_SKLEARN = (
    _DATA
    + """
import warnings
from sklearn.neural_network import MLPClassifier
warnings.simplefilter("ignore")  # five epochs do not converge
MLPClassifier((32,), batch_size=100, max_iter=5, random_state=0).fit(X, y)
"""
)
_TORCH = (
    _DATA
    + """
import torch
net = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))
optimizer, loss = torch.optim.Adam(net.parameters()), torch.nn.CrossEntropyLoss()
X, y = torch.from_numpy(X), torch.from_numpy(y)
for _ in range(5):
    for index in torch.randperm(1000).split(100):
        optimizer.zero_grad()
        loss(net(X[index]), y[index]).backward()
        optimizer.step()
"""
)
# With plain SGD, the lightest update.
_JAX = (
    _DATA
    + """
import jax, jax.numpy as jnp
def loss(params, x, y):
    (a, b), (c, d) = params
    p = jax.nn.log_softmax(jax.nn.relu(x @ a + b) @ c + d)
    return -jnp.take_along_axis(p, y[:, None], 1).mean()
@jax.jit
def step(params, x, y):
    gradient = jax.grad(loss)(params, x, y)
    return jax.tree.map(lambda p, g: p - 0.001 * g, params, gradient)
params = [(rng.standard_normal((20, 32)).astype("f4"), np.zeros(32, "f4")),
          (rng.standard_normal((32, 3)).astype("f4"), np.zeros(3, "f4"))]
for _ in range(5):
    for index in np.split(rng.permutation(1000), 10):
        params = step(params, X[index], y[index])
jax.block_until_ready(params)
"""
)
# Without Matplotlib, whose import would take longer than the rest.
_TRAIN = """
import sys
sys.modules["matplotlib"] = None
from fastmlp.cli import main
sys.exit(main(["train", "--epochs", "1", "--quiet", "--out", "run"]))
"""

EMPTY_CACHE = "fastmlp, kernels compiled by Numba"
FILLED_CACHE = f"{EMPTY_CACHE} in an earlier process"
# By name: the packages that must be installed, and the code.
CONTENDERS: dict[str, tuple[tuple[str, ...], str]] = {
    "fastmlp": ((), _FIT),
    "fastmlp train": ((), _TRAIN),
    EMPTY_CACHE: (("numba",), _FIT),
    FILLED_CACHE: (("numba",), _FIT),
    "scikit-learn": (("sklearn",), _SKLEARN),
    "PyTorch": (("torch",), _TORCH),
    "JAX": (("jax",), _JAX),
}


def run(rounds: int, log: Callable[[str], None]) -> dict[str, Any]:
    """Measure all installed contenders in alternation.

    Parameters
    ----------
    rounds : int
        Processes of each, after one for warm-up, except that Numba compiles in an empty cache once.
    log : function of a str
        Called before each round.

    Returns
    -------
    dict
        ``start``: the median seconds of each contender, ``sizes``: installed bytes, and the machine.
    """
    names = [name for name, (packages, _) in CONTENDERS.items() if all(map(is_installed, packages))]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        log(f"round {number} of {rounds}" if number else "warm-up")
        for name in names:
            if name == EMPTY_CACHE and number != 1:
                continue
            taken = _time(name)
            if number:
                seconds[name].append(taken)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    return {
        "format": FORMAT, "date": time.strftime("%Y-%m-%dT%H:%M:%S"), **describe(), "rounds": rounds,
        "cases": [], "start": medians, "sizes": installed_sizes(),
    }  # fmt: skip


def _time(name: str) -> float:
    with TemporaryDirectory() as folder:
        environment = dict(os.environ)
        if name in (EMPTY_CACHE, FILLED_CACHE):
            environment["FASTMLP_JIT"] = "1"
        if name == EMPTY_CACHE:
            environment["NUMBA_CACHE_DIR"] = str(Path(folder, "cache"))
        began = time.perf_counter()
        command = [sys.executable, "-W", "ignore", "-c", CONTENDERS[name][1]]
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        return time.perf_counter() - began


def table(document: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = ["| from the start of a process to the end of a first small fit | s |", "|---|---|"]
    lines += [f"| {name} | {seconds:.2f} |" for name, seconds in document["start"].items()]
    lines += ["", "| installed, without NumPy | MB |", "|---|---|"]
    lines += [f"| {name} | {size / 1e6:.1f} |" for name, size in document["sizes"].items()]
    return "\n".join(lines)
