"""``fastmlp completion``: completion of commands and options by the shell."""

from __future__ import annotations

import argparse
from typing import Any

from .._common.installed import library

__all__ = ["add_parser"]

_SHELLS = ("bash", "zsh", "tcsh")


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "completion",
        help="print a script that completes commands and options in a shell",
        description="Print a script for a shell, which then completes commands, options and their choices. "
        'This needs shtab: pip install "fastmlp[completion]".',
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument("shell", choices=_SHELLS, help="bash, zsh or tcsh")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    from . import make_parser

    shtab = library("shtab", 'pip install "fastmlp[completion]"')
    print(shtab.complete(make_parser(), args.shell))
    return 0
