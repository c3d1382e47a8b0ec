"""Ranks of MPI, started by the mpiexec of the package mpich."""

from pathlib import Path

import pytest

import fastmlp as fm

from .launch import run_ranks

HERE = Path(__file__).parent


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_sums_are_those_of_the_tree(ranks):
    assert run_ranks(ranks, HERE / "sums.py").stdout == "right\n"


def test_timeout_is_checked():
    with pytest.raises(ValueError, match="timeout is 0"):
        fm.distributed.mpi(timeout=0)
