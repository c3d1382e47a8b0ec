"""Options that commands share, and the parser that reports mistakes in one line."""

from __future__ import annotations

import argparse
import difflib
import importlib
import math
from typing import Any, NoReturn

from .._kernels import BACKENDS

__all__ = [
    "INTERRUPTED",
    "Parser",
    "UsageError",
    "add_backend_option",
    "add_data_options",
    "at_least",
    "config_arguments",
    "number",
    "widths",
]

INTERRUPTED = 130  # the exit code after Ctrl-C, as shells have it
_WIDEST = 10**8  # of a layer: the size of a matrix between two such layers is still a number to NumPy


class UsageError(ValueError):
    """Options that do not fit each other; exit code 2."""


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one line.

    Attributes
    ----------
    where, hint : str
        What its messages begin with: the name of a file of options; and what those of unknown options end with.
    """

    where = hint = ""

    def error(self, message: str) -> NoReturn:
        """Print it and leave with code 2."""
        self.exit(2, f"fastmlp: error: {self.where}{message} (see {self.prog} --help)\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's; of an option that there is not, the command's own parser tells the nearest."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            getattr(found, "parser", self).refuse(unknown)
        return found

    @property
    def destinations(self) -> dict[str, str]:
        """The name of the value that each spelling of an option sets."""
        return {spelling: action.dest for spelling, action in self._option_string_actions.items()}

    def refuse(self, unknown: list[str]) -> NoReturn:
        """Leave because of arguments that nobody takes."""
        name = next((text for text in unknown if text.startswith("-")), unknown[0]).partition("=")[0]
        near = difflib.get_close_matches(name, self._option_string_actions, 1)
        hint = f"did you mean {near[0]}?" if near else self.hint
        self.error(f"unrecognized arguments: {' '.join(unknown)}{f'; {hint}' if hint else ''}")


def at_least(minimum: int, most: int = 2**63 - 1) -> Any:
    """The argparse type of an integer from ``minimum`` to ``most``."""

    def integer(text: str) -> int:
        try:
            value = int(text)
        except ValueError:  # also: more digits than Python reads
            value = most + 1 if text.isdecimal() else minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not an integer of at least {minimum}")
        if value > most:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is too large; expected at most {most}")
        return value

    return integer


def number(low: float, *, above: bool = False, below: float = math.inf) -> Any:
    """The argparse type of a finite number from ``low`` (or above it), and below ``below``."""

    def real(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low <= value < below) or (above and value == low):
            limits = f"{'above' if above else 'of at least'} {low:g}"
            limits += f" and below {below:g}" if below < math.inf else ""
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number {limits}")
        return value

    return real


def config_arguments(path: str) -> list[str]:
    """The options in a TOML file: ``lr = 0.1`` for ``--lr 0.1``, a list for ``--hidden``, true for ``--quiet``."""
    try:
        import tomllib
    except ImportError:  # Python 3.10
        tomllib = importlib.import_module("tomli")
    try:
        with open(path, "rb") as stream:
            values = tomllib.load(stream)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}.") from error
    found: list[str] = []
    for name, value in values.items():
        option = f"--{name}"
        if isinstance(value, dict) or name in ("config", "resume"):
            raise UsageError(f"{path} has {name!r}; expected options of fastmlp train, each with its value.")
        if isinstance(value, bool):
            found += [option] if value else []
        else:
            found.append(f"{option}={','.join(map(str, value)) if isinstance(value, list) else value}")
    return found


def widths(text: str) -> tuple[int, ...]:
    """The argparse type of hidden layers: ``100``, ``50,40,50``, or nothing at all."""
    integer = at_least(1, _WIDEST)
    return tuple(integer(part) for part in text.split(",")) if text.strip() else ()


def add_backend_option(parser: argparse._ActionsContainer) -> None:
    """--backend."""
    parser.add_argument(
        "--backend", choices=list(BACKENDS), help="what computes (default: FASTMLP_BACKEND, else numba)"
    )


def add_data_options(parser: argparse.ArgumentParser, default: str | None, default_text: str) -> None:
    """--dataset, --data-dir, and the options of tables."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--dataset",
        default=default,
        metavar="NAME|FILE",
        help="digits, cifar10, mnist, fashion-mnist, or a table: .csv, .tsv, .parquet, .npz, .npy "
        f"(default: {default_text})",
    )
    group.add_argument("--data-dir", "--data_dir", metavar="DIR", help="where the files of a named set are, or go")
    group.add_argument("--target", metavar="COLUMN", help="of a table: the column to predict (default: the last)")
    group.add_argument("--test", metavar="FILE", help="of a table: the file of the test rows")
    group.add_argument(
        "--test-size",
        type=number(0, above=True, below=1),
        metavar="SHARE",
        help="of a table without --test: the share of rows to test on (default: 0.2)",
    )
    group.add_argument("--task", choices=("auto", "classification", "regression"), help="of a table (default: auto)")
