"""Ranks of MPI, started by the mpiexec of the package mpich."""

import re
import sys
from pathlib import Path

import pytest

import fastmlp as fm
from fastmlp.cli import main

from .launch import run_ranks

HERE = Path(__file__).parent


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_sums_are_those_of_the_tree(ranks):
    assert run_ranks(ranks, HERE / "sums.py").stdout == "right\n"


def faulty(ranks, folder, rank, what, epochs=4):
    return run_ranks(ranks, HERE / "faults.py", folder, epochs, rank, what, check=False)


@pytest.mark.parametrize(
    ("what", "rank", "after"),
    [
        ("kill", 1, 1),
        ("interrupt", 1, 4),
        *(pytest.param(what, rank, 2, marks=pytest.mark.slow) for what in ("kill", "interrupt") for rank in (0, 1)),
    ],
)
def test_killed_or_interrupted_run_goes_on_to_the_same_bytes(what, rank, after, tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    ref = faulty(1, tmp_path / "whole", 0, "nothing").stdout
    assert ref.startswith("step 32 ")
    broken = faulty(2, tmp_path / "broken", rank, what)
    assert broken.returncode != 0 and "step 32" not in broken.stdout
    if what == "interrupt":
        ends = sorted(line for line in broken.stdout.splitlines() if line.startswith("rank "))
        assert len(ends) == 2 and all("KeyboardInterrupt" in line for line in ends)
        assert ends[0].split(":")[0].removeprefix("rank 0") == ends[1].split(":")[0].removeprefix("rank 1")
    comp = faulty(after, tmp_path / "broken", 0, "nothing")
    assert comp.returncode == 0, comp.stderr
    assert comp.stdout == ref


@pytest.mark.parametrize("rank", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_exception_on_one_rank_names_it_on_the_others(rank, tmp_path):
    done = faulty(2, tmp_path, rank, "raise")
    assert done.returncode != 0
    assert f"rank {rank} at step 16: ValueError a bad callback" in done.stdout
    assert f"rank {1 - rank} at step 16: RankError rank {rank} on " in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_timeout_ends_a_run_with_a_stopped_rank(rank, tmp_path):
    done = faulty(2, tmp_path, rank, "stop")
    assert done.returncode != 0
    assert f"rank {1 - rank} on " in done.stderr and "waited 3 s for other ranks" in done.stderr


def train(ranks, *options, check=True, **more):
    """Run fastmlp train on ranks, in a folder for a run."""
    return run_ranks(ranks, "-m", "fastmlp", "train", "--distributed", "--quiet", *options, check=check, **more)


def test_command_line_has_the_same_model_on_any_ranks_and_resumes(tmp_path):
    options = ["--hidden", "16", "--pieces", "4", "--epochs", "2", "--threads", "1"]
    for ranks in (1, 2):
        train(ranks, *options, "--out", tmp_path / str(ranks))
    ref, comp = ((tmp_path / ranks / "model.safetensors").read_bytes() for ranks in "12")
    assert ref == comp
    assert len((tmp_path / "2" / "metrics.jsonl").read_text().splitlines()) == 2
    done = train(4, "--resume", tmp_path / "2")  # complete: nothing is changed
    assert done.stdout == "" and (tmp_path / "2" / "model.safetensors").read_bytes() == ref


def test_command_line_reports_an_error_once(tmp_path):
    done = train(2, "--dataset", "nothing.csv", "--out", tmp_path / "run", check=False)
    lines = [line for line in done.stderr.splitlines() if "nothing.csv" in line]
    assert done.returncode != 0 and len(lines) == 1 and lines[0].startswith("fastmlp: error: ")
    assert not (tmp_path / "run").exists()


def test_the_page_on_ranks_runs(tmp_path):
    page = (HERE.parents[1] / "docs" / "distributed.md").read_text(encoding="utf-8")
    (script,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "distributed.mpi" in block)
    (tmp_path / "script.py").write_text(script + "import os\nos.write(1, b'%d %d\\n' % (trainer.steps, group.size))\n")
    assert run_ranks(2, "-m", "mpi4py", tmp_path / "script.py").stdout == "12 2\n" * 2


def test_distributed_without_mpiexec_says_how_to_start_it(capsys):
    assert main(["train", "--distributed", "--epochs", "2"]) == 2
    error = capsys.readouterr().err
    assert error.endswith("which mpiexec starts: mpiexec -n 4 fastmlp train --distributed --epochs 2\n")
    assert main(["train", "--timeout", "3"]) == 2
    assert "--timeout is for runs with --distributed" in capsys.readouterr().err


def test_without_mpi4py(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(fm.BackendError, match=r"needs the package mpi4py.*pip install \"fastmlp\[mpi\]\""):
        fm.distributed.mpi()


def test_timeout_is_checked():
    with pytest.raises(ValueError, match="timeout is 0"):
        fm.distributed.mpi(timeout=0)
