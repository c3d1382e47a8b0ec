"""The scripts in examples/ run."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_deep_q_learning(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dqn.py", "--steps", "1200"])
    names = runpy.run_path(str(EXAMPLES / "dqn.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12 and lines[-2].split()[1] == "episodes" and lines[-1].startswith("episodes played")
    agent = names["Agent"](0)
    returns, _ = names["train"](agent, 1200, 0)
    assert agent.stepper.trainer.steps == 600 and sum(returns) <= 1200
    states = np.zeros((1, 4), np.float32)
    assert not (agent.target(states) == agent.values(states)).all()


# Lines that each tutorial prints; the scripts run in processes of their own, as some register classes.
TUTORIALS = {
    "backpropagation": ["largest difference of a gradient: [0-9.]+e-1[0-9]", "passed: True"],
    "images": ["saved .*curves.png", "accuracy  0.9"],
    "mixed_table": ["accuracy on new rows: 0.[89]", "predicts the same: True"],
    "scikit_learn": ["fastmlp +accuracy 0.9", "same labels: True"],
    "online": ["batch 3000: accuracy on the last 500 batches 0.9"],
    "surrogate": ["with 240 points: mean error outside 0.0"],
    "export": ["fastmlp as (\\d), and it is \\1|there is no C compiler"],
    "resume": ["weights of a run without a stop: True"],
    "own_parts": ["passed: True", "predicts the same: True"],
}


@pytest.mark.parametrize("name", [path.stem for path in sorted(EXAMPLES.glob("*.py")) if path.stem != "dqn"])
@pytest.mark.skipif(sys.platform == "win32", reason="kills a process")
def test_tutorials(name, tmp_path):
    if name == "mixed_table":
        pytest.importorskip("pandas")
    if name in ("mixed_table", "scikit_learn", "online"):
        pytest.importorskip("sklearn")
    if name == "images":
        pytest.importorskip("matplotlib")
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    for line in TUTORIALS[name]:
        assert re.search(line, done.stdout), done.stdout


def test_the_agent_in_pytorch_makes_the_same_updates(monkeypatch):
    torch = pytest.importorskip("torch")
    names = runpy.run_path(str(EXAMPLES / "dqn.py"))
    ours, theirs = names["Agent"](0), names["torch_agent"](0)
    weights = ours.stepper.trainer.model.state_dict()
    for net in (theirs.net, theirs.target):
        net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    rng, memory = np.random.default_rng(0), names["Memory"](100)
    for _ in range(100):
        state, after = rng.normal(size=(2, 4))
        memory.add(state, int(rng.integers(2)), 1.0, after, rng.random() < 0.2)
    for _ in range(5):
        batch = memory.draw(rng, names["BATCH"])
        ours.learn(*batch)
        theirs.learn(*batch)
    states = rng.normal(size=(9, 4)).astype(np.float32)
    np.testing.assert_allclose(ours.values(states), theirs.values(states), 1e-3, 1e-4)
    with torch.no_grad():
        expected = theirs.target(torch.from_numpy(states)).numpy()
    np.testing.assert_allclose(ours.target(states), expected, 1e-3, 1e-4)
