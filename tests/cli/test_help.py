"""Help of the commands: examples that parse, exit codes, and lines that fit a terminal."""

import re
import shlex

import pytest

from fastmlp.cli import COMMANDS, make_parser
from fastmlp.cli.help import EXAMPLES, EXIT_CODES


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_every_command_has_examples():
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_parse(name):
    parser = make_parser([name])
    for arguments, _ in EXAMPLES[name]:
        words = shlex.split(arguments.split(" > ")[0])
        assert callable(parser.parse_args([name, *words]).run)


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name, capsys):
    with pytest.raises(SystemExit):
        make_parser([name]).parse_args([name, "--help"])
    text = capsys.readouterr().out
    assert text.rstrip().endswith(EXIT_CODES) and f"examples:\n  fastmlp {name}" in text
    assert max(map(len, text.splitlines())) <= 80
    assert len(re.findall(r"^examples?:", text, re.M)) == 1
