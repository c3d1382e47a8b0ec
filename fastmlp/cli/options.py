"""Options shared by the commands, and the parser that reports mistakes in one line."""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
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
    "add_json_option",
    "as_options",
    "at_least",
    "config_arguments",
    "given_options",
    "number",
    "print_json",
    "widths",
]

INTERRUPTED = 130  # exit code after Ctrl-C, as in shells
NOTE = "fastmlp: note: "  # prefix of lines on standard error that are not errors
_WIDEST = 10**8  # units of a layer; the size of a matrix between two such layers still fits int64
_CLOSE = 0.8  # least similarity, from 0 to 1, of an unknown option and a suggestion
_SEPARATORS = {"tab": "\t", "\\t": "\t"}
# Arguments of `fastmlp.load` in its messages, for example drop=, header=False, separator=';'.
_ARGUMENT = re.compile(
    r"\b(decimal|drop|dtype|header|index|separator|target|task|test|test_size)=('[^']*'|True|False|\w+|)"
)


class UsageError(ValueError):
    """Options that contradict each other; exit code 2."""


class Parser(argparse.ArgumentParser):
    """Parser that reports a mistake in one line.

    Attributes
    ----------
    prefix : str
        Start of its messages, for options from a file the name of the file.
    hint : str
        End of its messages about unknown options without a suggestion.
    """

    prefix = hint = ""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with code 2."""
        self.exit(2, f"fastmlp: error: {self.prefix}{message} (see {self.prog} --help)\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments like argparse; suggest the closest option of the command for an unknown one."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            getattr(found, "parser", self).refuse(unknown)
        return found

    @property
    def destinations(self) -> dict[str, str]:
        """Destination of each spelling of an option."""
        return {spelling: action.dest for spelling, action in self._option_string_actions.items()}

    @property
    def switches(self) -> set[str]:
        """Destinations of the options without a value."""
        return {action.dest for action in self._option_string_actions.values() if action.nargs == 0}

    def switch(self, name: str, on: bool) -> list[str]:
        """Return the arguments that switch an option on or off; an option that is off by default needs none for off."""
        if on:
            return [f"--{name}"]
        return [f"--no-{name}"] if f"--no-{name}" in self._option_string_actions else []

    def refuse(self, unknown: list[str]) -> NoReturn:
        """Exit with an error about arguments that the command does not have."""
        name = next((text for text in unknown if text.startswith("-")), unknown[0]).partition("=")[0]
        near = self._closest(name.lstrip("-").replace("_", "-"))
        hint = f"did you mean {near}?" if near else self.hint
        self.error(f"unrecognized arguments: {' '.join(unknown)}{f'; {hint}' if hint else ''}")

    def _closest(self, name: str) -> str | None:
        """Return a similar option, or the only one that starts with ``name``."""
        spellings: dict[str, str] = {}
        for spelling in self._option_string_actions:
            spellings.setdefault(spelling.lstrip("-").replace("_", "-"), spelling)
        near = difflib.get_close_matches(name, spellings, 1, _CLOSE)
        if near:
            return spellings[near[0]]
        begun = [spelling for other, spelling in spellings.items() if other.startswith(name)]
        alone = len({self._option_string_actions[spelling].dest for spelling in begun}) == 1
        return begun[0] if alone and len(name) > 2 else None


def at_least(minimum: int, maximum: int = 2**63 - 1) -> Any:
    """Return an argparse type for integers from ``minimum`` to ``maximum``."""

    def integer(text: str) -> int:
        try:
            value = int(text)
        except ValueError:  # also raised for more digits than Python converts
            value = maximum + 1 if text.isdecimal() else minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not an integer of at least {minimum}")
        if value > maximum:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is too large; expected at most {maximum}")
        return value

    return integer


def number(low: float, *, above: bool = False, below: float = math.inf) -> Any:
    """Return an argparse type for finite numbers >= ``low`` (with ``above``: > ``low``) and < ``below``."""

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
    """Replace the arguments in a message of `fastmlp.load` by options of a command: ``drop=`` by ``--drop``."""

    def option(found: re.Match[str]) -> str:
        name, value = found[1].replace("_", "-"), found[2]
        if value in ("True", "False"):
            return f"--{name}" if value == "True" else f"--no-{name}"
        if name == "separator":  # keeps its quotes, as some separators are special characters of a shell
            value = "tab" if value == r"'\t'" else value
        else:
            value = value.strip("'")
        return f"--{name} {value}".rstrip()

    return _ARGUMENT.sub(option, text)


def config_arguments(path: str, parser: Parser) -> list[str]:
    """Read options from a TOML file: ``lr = 0.1`` for ``--lr 0.1``, a list for ``--hidden``, true for ``--quiet``."""
    try:
        import tomllib
    except ImportError:  # Python 3.10
        tomllib = importlib.import_module("tomli")
    try:
        with open(path, "rb") as stream:
            values = tomllib.load(stream)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error
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


def add_json_option(parser: Any, text: str) -> None:
    """Add --json, after which nothing but JSON is printed to the standard output."""
    parser.add_argument("--json", action="store_true", help=text)


def print_json(**values: Any) -> None:
    """Print an object as one line of JSON; numbers that are not finite become null."""
    text = json.dumps(_finite(values), allow_nan=False)
    print(text, flush=True)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def given_options(args: argparse.Namespace) -> set[str]:
    """Return the destinations of the options that were given to a command, with or without their default value."""
    nothing = object()
    blank = dict.fromkeys(vars(args.parser.parse_args([])), nothing)
    arguments = getattr(args, "arguments", args.argv[1:])  # with those of a file of options
    found = vars(args.parser.parse_args(arguments, argparse.Namespace(**blank)))
    return {name for name, value in found.items() if value is not nothing and name in blank}


def widths(text: str) -> tuple[int, ...]:
    """Convert the text of --hidden: ``100``, ``50,40,50``, or an empty text for no hidden layers."""
    integer = at_least(1, _WIDEST)
    return tuple(integer(part) for part in text.split(",")) if text.strip() else ()


def add_backend_option(parser: argparse._ActionsContainer) -> None:
    """Add --backend."""
    parser.add_argument(
        "--backend",
        choices=list(BACKENDS),
        help="compute backend (default: the environment variable FASTMLP_BACKEND, or numba)",
    )


def add_data_options(
    parser: argparse.ArgumentParser, default: str | None, default_text: str, *, to_train: bool = True
) -> None:
    """Add --dataset, --data-dir and the options of tables; ``to_train`` includes those that only training needs."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--dataset",
        default=default,
        metavar="NAME|FILE",
        help="digits, cifar10, mnist, fashion-mnist, or a table: .csv, .tsv, .parquet, .npz, .npy, a folder of such, "
        f"or a packed folder (default: {default_text})",
    )
    group.add_argument(
        "--data-dir",
        "--data_dir",
        metavar="DIR",
        help="folder of the files of a named data set; missing files are downloaded into it",
    )
    add_table_options(parser.add_argument_group("tables (--dataset FILE)"), to_train=to_train)


def add_table_options(group: argparse._ActionsContainer, *, to_train: bool = True) -> None:
    """Add the options of tables; ``to_train`` includes those that only training needs."""
    group.add_argument("--target", metavar="COLUMN", help="column to predict (default: the last)")
    group.add_argument("--test", metavar="FILE", help="file with the test rows")
    group.add_argument(
        "--test-size",
        type=number(0, above=True, below=1),
        metavar="SHARE",
        help="share of the rows to test on, without --test (default: 0.2)",
    )
    if to_train:
        group.add_argument(
            "--task",
            choices=("auto", "classification", "regression"),
            help="(default: auto, by the values of the target)",
        )
        group.add_argument("--drop", type=_columns, metavar="COLUMN,...", help="columns to leave out")
        group.add_argument(
            "--index",
            action=argparse.BooleanOptionalAction,
            help="leave out the first column as row labels (default: if it is the only column without a name)",
        )
    add_format_options(group, header="detected" if to_train else "as in training")


def add_format_options(parser: argparse._ActionsContainer, *, header: str) -> None:
    """Add --header, --separator and --decimal; ``header`` describes the default of --header."""
    parser.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help=f".csv and .tsv: whether the first line has the column names (default: {header})",
    )
    parser.add_argument(
        "--separator",
        type=_separator,
        metavar="CHAR",
        help=".csv and .tsv: character between fields, or the word tab (default: detected)",
    )
    parser.add_argument(
        "--decimal",
        choices=(".", ","),
        metavar="MARK",
        help=".csv and .tsv: decimal mark (default: detected)",
    )


def _columns(text: str) -> list[str]:
    """Convert the text of --drop to a list of columns."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _separator(text: str) -> str:
    """Convert the text of --separator to one character."""
    character = _SEPARATORS.get(text, text)
    if len(character) != 1 or character in '"\r\n':
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not one character or the word tab")
    return character
