"""The scripts in examples/ run."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_deep_q_learning(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dqn.py", "--steps", "1200"])
    names = runpy.run_path(str(EXAMPLES / "dqn.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11 and lines[-1].split()[1] == "episodes"
    agent = names["Agent"](0)
    returns, _ = names["train"](agent, 1200, 0)
    assert agent.stepper.trainer.steps == 600 and sum(returns) <= 1200
    states = np.zeros((1, 4), np.float32)
    assert not (agent.target(states) == agent.values(states)).all()


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
