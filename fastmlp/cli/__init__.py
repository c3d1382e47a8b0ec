"""Command line of fastmlp, see `COMMANDS`.

Exit codes: 0 for success, 1 for a failed run, 2 for wrong usage, 130 after Ctrl-C. A user's mistake is reported as one
line on standard error; ``FASTMLP_TRACEBACK=1`` adds the traceback.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from .. import __version__
from .._common.errors import BackendError, DataError, DivergenceError, PerformanceWarning, RankError
from .help import EXIT_CODES, finish_help
from .options import INTERRUPTED, NOTE, Parser, UsageError, as_options

__all__ = ["COMMANDS", "ERROR", "EXPECTED", "describe", "main", "make_parser", "print_notes"]

ERROR = "fastmlp: error: "
EXPECTED = BackendError, DivergenceError, ImportError, MemoryError, OSError, RankError, ValueError

COMMANDS = (
    "train", "compare", "report", "sweep", "evaluate", "predict", "pack", "export", "gradcheck", "info",
    "bench", "warmup", "tune", "completion",
)  # fmt: skip
_EPILOG = """examples:
  fastmlp train                                     a first model, on handwritten digits
  fastmlp train --dataset table.csv --target price  a model for a table
  fastmlp evaluate runs/digits-...                  its loss and accuracy on the test rows
  fastmlp COMMAND --help                            options, defaults and examples of a command

"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments of the command; default: those of the process.

    Returns
    -------
    int
        Exit code.
    """
    for name in ("stdout", "stderr"):  # None if the shell has closed the stream
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Only the module of the given command is imported: the others would take longer than `info` or `compare` runs.
    parser = make_parser(arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS)
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    try:
        args = parser.parse_args(arguments)
    except SystemExit as exit_:  # --help or wrong usage
        return int(exit_.code or 0)
    try:
        args.argv = arguments
        with warnings.catch_warnings():
            warnings.showwarning = print_notes(warnings.showwarning)
            code: int = args.run(args)
        sys.stdout.flush()
        return code
    except SystemExit as exit_:  # wrong usage in a file of options
        return int(exit_.code or 0)
    except BrokenPipeError:
        # The reader has closed the pipe, as in `| head`. Without a new stdout, Python reports the error again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _fail("interrupted.", INTERRUPTED)
    except EXPECTED as error:
        if os.environ.get("FASTMLP_TRACEBACK", "") not in ("", "0"):
            raise
        return _fail(describe(error), 2 if isinstance(error, UsageError) else 1)


def make_parser(names: Sequence[str] = COMMANDS) -> Parser:
    """Return the parser of the commands ``names``."""
    parser = Parser(
        prog="fastmlp",
        description="Train and run multilayer perceptrons. 'fastmlp train' trains a first model on a data set of\n"
        "handwritten digits that comes with fastmlp.",
        epilog=_EPILOG + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action="version", version=f"fastmlp {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in names:
        importlib.import_module(f".{name}", __name__).add_parser(commands)
    for name, command in commands.choices.items():
        command.set_defaults(parser=command)
        finish_help(name, command)
    return parser


def print_notes(default: Any) -> Any:
    """Return a ``showwarning`` that prints a PerformanceWarning as one line, and passes others to ``default``."""

    def show(message: Any, category: type[Warning], *place: Any) -> None:
        if issubclass(category, PerformanceWarning):
            print(f"{NOTE}{message}", file=sys.stderr)
        else:
            default(message, category, *place)

    return show


def _fail(text: str, code: int = 1) -> int:
    print(f"{ERROR}{text}", file=sys.stderr)
    return code


def describe(error: Exception) -> str:
    """Return the message of one of the `EXPECTED` errors as one line."""
    if isinstance(error, OSError) and error.strerror:
        return (
            f"{error.filename or repr('')}: {error.strerror}." if error.filename is not None else f"{error.strerror}."
        )
    if isinstance(error, MemoryError):
        return f"not enough memory. {error}".strip()
    text = " ".join(str(error).splitlines()) or type(error).__name__
    return as_options(text) if isinstance(error, DataError) else text
