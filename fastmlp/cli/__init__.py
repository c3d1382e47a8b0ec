"""The command line: ``fastmlp train``, ``compare``, ``sweep``, ``evaluate``, ``predict`` and more, see `_COMMANDS`.

Exit codes: 0, 1 for a run that failed, 2 for bad usage, 130 after Ctrl-C. A user's mistake is one line on standard
error; with ``FASTMLP_TRACEBACK=1`` it comes with its traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from .. import __version__
from .._common.errors import BackendError, DataError, DivergenceError, PerformanceWarning
from .options import INTERRUPTED, NOTE, Parser, UsageError, as_options

__all__ = ["main"]

_COMMANDS = ("train", "compare", "sweep", "evaluate", "predict", "export", "gradcheck", "info", "bench", "warmup")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Its arguments; default: those of the process.

    Returns
    -------
    int
        The exit code.
    """
    for name in ("stdout", "stderr"):  # None where the shell has closed it
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = Parser(prog="fastmlp", description="Train and run multilayer perceptrons.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"fastmlp {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    # The others' files would take longer to import than `info` or `compare` to run.
    named = arguments[:1] if arguments and arguments[0] in _COMMANDS else _COMMANDS
    for name in named:
        importlib.import_module(f".{name}", __name__).add_parser(commands)
    for of_command in commands.choices.values():
        of_command.set_defaults(parser=of_command)
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    try:
        args = parser.parse_args(arguments)
    except SystemExit as exit_:  # --help and bad usage
        return int(exit_.code or 0)
    try:
        args.argv = arguments
        with warnings.catch_warnings():
            warnings.showwarning = _shown_by(warnings.showwarning)
            code: int = args.run(args)
        sys.stdout.flush()
        return code
    except SystemExit as exit_:  # bad usage in a file of options
        return int(exit_.code or 0)
    except BrokenPipeError:
        # Whoever read the output has gone, as `| head` does. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _fail("interrupted.", INTERRUPTED)
    except (BackendError, DivergenceError, ImportError, MemoryError, OSError, ValueError) as error:
        if os.environ.get("FASTMLP_TRACEBACK", "") not in ("", "0"):
            raise
        return _fail(_describe(error), 2 if isinstance(error, UsageError) else 1)


def _shown_by(others: Any) -> Any:
    """What shows warnings: of slow ways a line without a place in the code, others as before."""

    def show(message: Any, category: type[Warning], *place: Any) -> None:
        if issubclass(category, PerformanceWarning):
            print(f"{NOTE}{message}", file=sys.stderr)
        else:
            others(message, category, *place)

    return show


def _fail(text: str, code: int = 1) -> int:
    print(f"fastmlp: error: {text}", file=sys.stderr)
    return code


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return (
            f"{error.filename or repr('')}: {error.strerror}." if error.filename is not None else f"{error.strerror}."
        )
    if isinstance(error, MemoryError):
        return f"not enough memory. {error}".strip()
    text = " ".join(str(error).splitlines()) or type(error).__name__
    return as_options(text) if isinstance(error, DataError) else text
