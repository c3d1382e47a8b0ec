"""Options of ``fastmlp train`` for several ranks, and how a command ends on all of them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from .._common.errors import RankError
from .._common.group import Group, is_power_of_two
from .._common.threads import usable_threads
from ..training.ranks import describe
from .options import INTERRUPTED, NOTE, UsageError, at_least, number

__all__ = ["add_rank_options", "describe_ranks", "open_group", "run_on_ranks"]

# Variables that mpiexec or srun sets for each rank, one of them at least: PMI, PMIx, Open MPI, MVAPICH, Slurm.
_STARTED = ("PMI_RANK", "PMI_FD", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "SLURM_STEP_ID")


def add_rank_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run on several ranks."""
    ranks = parser.add_argument_group("several processes")
    ranks.add_argument(
        "--distributed",
        action="store_true",
        help="train on all ranks of MPI: mpiexec -n 4 fastmlp train ... --distributed",
    )
    ranks.add_argument(
        "--pieces",
        type=_pieces,
        metavar="N",
        help="pieces of a batch, a power of two that the number of ranks divides; the result depends on it, not on the "
        "ranks. off: one for each rank (default with --distributed: at least 64 rows each)",
    )
    ranks.add_argument(
        "--timeout",
        type=number(0, above=True),
        metavar="SECONDS",
        help="end the run if a rank waits longer for others (default: no end)",
    )


def _pieces(text: str) -> int | str:
    if text == "off":
        return text
    value = at_least(1)(text)
    if not is_power_of_two(value):
        raise argparse.ArgumentTypeError(f"{text} is no power of two; expected 1, 2, 4, 8 and so on, or off")
    return int(value)


def open_group(args: argparse.Namespace) -> Group | None:
    """Return the group of all ranks, None without --distributed.

    Raises
    ------
    UsageError
        If the command was not started by mpiexec, or --timeout is given without --distributed.
    """
    if not args.distributed:
        if args.timeout is not None:
            raise UsageError("--timeout is for runs with --distributed.")
        return None
    from ..distributed.mpi_group import mpi

    if not any(name in os.environ for name in _STARTED):
        command = " ".join(["fastmlp", *args.argv])
        raise UsageError(f"--distributed needs ranks, which mpiexec starts: mpiexec -n 4 {command}")
    group = mpi(args.timeout)
    usable, processors = usable_threads().count, os.cpu_count() or 1
    if usable == 1 < processors // group.local_size and args.threads is None:
        note = f"{group.name} is bound to one of {processors} processors; Open MPI frees it by the option bind-to none."
        print(f"{NOTE}{note}", file=sys.stderr, flush=True)
    return group


def run_on_ranks(group: Group, job: Callable[[], int]) -> int:
    """Return the exit code of ``job()``, of which rank 0 alone reports an error that all ranks know of.

    Another exception ends the processes of all ranks.
    """
    try:
        return job()
    except KeyboardInterrupt:
        if group.rank == 0 or not group.parted:
            raise
        return INTERRUPTED
    except RankError:
        if group.rank == 0:
            raise
        return 1
    except Exception as error:
        if group.size > 1 and not group.parted:
            group.abort(describe(error))
        if group.rank == 0:
            raise
        return 1


def describe_ranks(group: Group | None, threads: int | None, pieces: Any) -> str:
    """Return the line of the header about ranks and pieces; empty for a run in one piece."""
    if pieces is None:
        return ""
    ranks = "" if group is None else f"{group.size} rank{'s' if group.size > 1 else ''} x {threads} "
    ranks += f"thread{'s' if threads != 1 else ''}, " if ranks else ""
    cut = "one piece of each batch for each rank" if pieces == "off" else f"batches in {pieces} pieces"
    return f"ranks      {ranks}{cut}\n"
