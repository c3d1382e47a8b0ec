"""Options that commands share, and the parser that reports mistakes in one line."""

from __future__ import annotations

import argparse
import difflib
import importlib
import math
import re
from typing import Any, NoReturn

from .._kernels import BACKENDS

__all__ = [
    "INTERRUPTED",
    "NOTE",
    "Parser",
    "UsageError",
    "add_backend_option",
    "add_data_options",
    "add_format_options",
    "as_options",
    "at_least",
    "config_arguments",
    "number",
    "widths",
]

INTERRUPTED = 130  # the exit code after Ctrl-C, as shells have it
NOTE = "fastmlp: note: "  # begins a line on standard error that is no error
_WIDEST = 10**8  # of a layer: the size of a matrix between two such layers is still a number to NumPy
_CLOSE = 0.8  # similarity, from 0 to 1, of an unknown option to one that is meant
_SEPARATORS = {"tab": "\t", "\\t": "\t"}
# Arguments of `fastmlp.load`, as its messages name them: drop=, header=False, separator=';'.
_ARGUMENT = re.compile(
    r"\b(decimal|drop|dtype|header|index|separator|target|task|test|test_size)=('[^']*'|True|False|\w+|)"
)


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

    @property
    def switches(self) -> set[str]:
        """The names of the values that are set by options without a value."""
        return {action.dest for action in self._option_string_actions.values() if action.nargs == 0}

    def switch(self, name: str, on: bool) -> list[str]:
        """The argument that switches an option on or off: none where it is off unless it is given."""
        if on:
            return [f"--{name}"]
        return [f"--no-{name}"] if f"--no-{name}" in self._option_string_actions else []

    def refuse(self, unknown: list[str]) -> NoReturn:
        """Leave because of arguments that the command does not have."""
        name = next((text for text in unknown if text.startswith("-")), unknown[0]).partition("=")[0]
        near = self._closest(name.lstrip("-").replace("_", "-"))
        hint = f"did you mean {near}?" if near else self.hint
        self.error(f"unrecognized arguments: {' '.join(unknown)}{f'; {hint}' if hint else ''}")

    def _closest(self, name: str) -> str | None:
        """The option of nearly the same letters, or the only one that begins with them."""
        spellings: dict[str, str] = {}
        for spelling in self._option_string_actions:
            spellings.setdefault(spelling.lstrip("-").replace("_", "-"), spelling)
        near = difflib.get_close_matches(name, spellings, 1, _CLOSE)
        if near:
            return spellings[near[0]]
        begun = [spelling for other, spelling in spellings.items() if other.startswith(name)]
        alone = len({self._option_string_actions[spelling].dest for spelling in begun}) == 1
        return begun[0] if alone and len(name) > 2 else None


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


def as_options(text: str) -> str:
    """A message of `fastmlp.load` with its arguments as options of a command: ``drop=`` as ``--drop``."""

    def option(found: re.Match[str]) -> str:
        name, value = found[1].replace("_", "-"), found[2]
        if value in ("True", "False"):
            return f"--{name}" if value == "True" else f"--no-{name}"
        if name == "separator":  # in quotes, as some of them mean something to a shell
            value = "tab" if value == r"'\t'" else value
        else:
            value = value.strip("'")
        return f"--{name} {value}".rstrip()

    return _ARGUMENT.sub(option, text)


def config_arguments(path: str, parser: Parser) -> list[str]:
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
            found += parser.switch(name, value)
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


def add_data_options(
    parser: argparse.ArgumentParser, default: str | None, default_text: str, *, to_train: bool = True
) -> None:
    """--dataset, --data-dir, and the options of tables; those that decide what is learnt only ``to_train``."""
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
    if to_train:
        group.add_argument(
            "--task", choices=("auto", "classification", "regression"), help="of a table (default: auto)"
        )
        group.add_argument("--drop", type=_columns, metavar="COLUMN,...", help="of a table: columns to leave out")
        group.add_argument(
            "--index",
            action=argparse.BooleanOptionalAction,
            help="of a table: leave out the first column, labels of the rows (default: if only it has no name)",
        )
    add_format_options(group, header="as the lines look" if to_train else "as in training")


def add_format_options(parser: argparse._ActionsContainer, *, header: str) -> None:
    """--header, which is by default what ``header`` says, --separator and --decimal: how a text table is written."""
    parser.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help=f"of a .csv or .tsv table: the first line names the columns, or is a row (default: {header})",
    )
    parser.add_argument(
        "--separator",
        type=_separator,
        metavar="CHAR",
        help="between fields of a .csv or .tsv table; tab for a tab (default: as the lines look)",
    )
    parser.add_argument(
        "--decimal",
        choices=(".", ","),
        metavar="MARK",
        help="in numbers of a .csv or .tsv table: a point or a comma (default: as they look)",
    )


def _columns(text: str) -> list[str]:
    """The argparse type of a list of columns."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _separator(text: str) -> str:
    """The argparse type of one character."""
    character = _SEPARATORS.get(text, text)
    if len(character) != 1 or character in '"\r\n':
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not one character, or tab")
    return character
