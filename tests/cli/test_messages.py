"""Options named in messages exist in the command that prints them, and have the promised effect."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.cli import COMMANDS as NAMES
from fastmlp.cli import main, options
from fastmlp.cli.options import Parser, as_options

PACKAGE = Path(fm.__file__).parent
COMMANDS = set(NAMES)
# The commands that can print the messages of a file; those of fastmlp/cli/ are their command's where nothing is said.
PRINTED_BY = {
    "cli/data.py": {"train", "evaluate"},
    "cli/defaults.py": {"train"},
    "cli/ranks.py": {"train"},
    "cli/runs.py": {"train"},
    "cli/sweep_on_dask.py": {"sweep"},
    "cli/train_options.py": {"train"},
    "cli/train_parts.py": {"train"},
    "cli/curves.py": {"train", "compare"},
    "cli/ensembles.py": {"evaluate", "predict"},
    "cli/train_tabular.py": {"train"},
    "datasets/mixed.py": {"train", "evaluate", "predict"},
    "datasets/table.py": {"train", "pack"},
    "datasets/fitting.py": {"train", "pack"},
    "datasets/features.py": {"train", "pack"},
    "datasets/loading.py": {"train"},
    "datasets/train_test.py": {"train", "evaluate"},
    "datasets/source.py": {"train", "evaluate", "pack"},
    "datasets/target.py": {"train", "evaluate", "pack"},
    "datasets/evaluation.py": {"evaluate"},
    "datasets/chunks.py": {"train", "pack"},
    "datasets/pack.py": {"pack"},
    "datasets/split.py": {"train", "evaluate", "pack"},
} | {
    f"datasets/{name}.py": {"train", "evaluate", "predict"}
    for name in ("categories", "columns", "dialect", "preprocessing", "table_files")
}
# Arguments that messages name and no command has: why no command prints them.
ONLY_IN_PYTHON = {
    ("datasets/fetch.py", "download"): "the commands always allow a download",
    ("datasets/features.py", "center_target"): "the commands always center the target",
    ("datasets/loading.py", "center_target"): "the commands always center the target",
    ("datasets/loading.py", "mapped"): "the commands choose it by the size of the table",
    ("datasets/pack_cache.py", "mapped"): "of arrays for a Trainer or an estimator",
    ("io/row_paths.py", "mapped"): "of arrays for a Trainer or an estimator",
    ("callbacks/saving.py", "average"): "train adds this callback only beside an average",
    ("training/trainer.py", "average"): "train asks for averages only where it keeps them",
    ("training/fit_many.py", "each"): "no command calls fit_many",
    ("training/fit.py", "epochs"): "--epochs and --steps exclude each other",
    ("training/fit.py", "max_steps"): "--epochs and --steps exclude each other",
    ("estimators/skl2onnx.py", "target_opset"): "of a function of skl2onnx",
    ("estimators/skl2onnx.py", "options"): "of a function of skl2onnx",
    ("cli/sweep.py", "lr"): "the form of --grid",
}
PRINTING = {"print", "warn_user", "warn", "error", "exit", "_fail", "UsageError", "ArgumentTypeError"}


def parsers():
    """Each command's parser."""
    parser = Parser(prog="fastmlp")
    commands = parser.add_subparsers()
    for name in NAMES:
        importlib.import_module(f"fastmlp.cli.{name}").add_parser(commands)
    return commands.choices


@pytest.fixture(scope="module")
def spellings():
    """The options that each command has."""
    return {name: set(parser.destinations) for name, parser in parsers().items()}


def literals(node):
    """A node's texts, those of f-strings with a placeholder for each value."""
    for part in ast.walk(node):
        if isinstance(part, ast.JoinedStr):
            yield "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in part.values)
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def messages():
    """(file, text) of all that the package raises, warns or prints; of the tables' files every text."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name, tree = path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            called = getattr(node, "func", None)
            word = getattr(called, "id", None) or getattr(called, "attr", None)
            if isinstance(node, ast.Raise) or word in PRINTING:
                yield from ((name, text) for text in literals(node))
            elif name.startswith("datasets/") and isinstance(node, (ast.Constant, ast.JoinedStr)):
                yield from ((name, text) for text in literals(node) if id(node) not in docs)


MESSAGES = sorted(set(messages()))


def docstrings():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)):
                yield ast.get_docstring(node, clean=False)


DOCSTRINGS = set(docstrings())


def printed_by(file):
    if file in PRINTED_BY:
        return PRINTED_BY[file]
    command = file.removeprefix("cli/").removesuffix(".py")
    return {command} & COMMANDS if file.startswith("cli/") else set()


def test_there_is_something_to_look_at():
    texts = " ".join(text for _, text in MESSAGES)
    for seen in ("drop=", "dtype='float64'", "header=False", "give another --out", "separator="):
        assert seen in texts


def test_options_in_messages_exist(spellings):
    """``--xyz`` in a text of a command is one of its options, and no other part of the package names such."""
    option = r"(?<![\w-])--[a-z][a-z-]*"
    for _, text in MESSAGES:  # another command is named with its options
        for command, rest in re.findall(r"fastmlp (\w+) ([^.;,]*)", text):
            assert set(re.findall(option, rest)) <= spellings.get(command, set()), text
    found = [
        (file, name) for file, text in MESSAGES for name in re.findall(option, re.sub(r"fastmlp \w+ [^.;,]*", "", text))
    ]
    assert len(found) > 20
    for file, name in found:
        if file in ("cli/options.py", "cli/__init__.py") or (file, name) == ("cli/sweep.py", "--"):
            continue
        assert file.startswith("cli/"), f"{file} names {name}: messages of the library name arguments, as in drop="
        commands = printed_by(file)
        assert commands, f"{file} names {name}, and PRINTED_BY does not say which command prints it"
        for command in commands:
            assert name in spellings[command], f"{file} names {name}, which fastmlp {command} does not have"


def test_arguments_in_messages_exist_in_python_and_in_the_commands(spellings):
    """``xyz=`` is a parameter of a function, and where a command prints it an option of that command."""
    parameters = {
        argument.arg
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.Lambda))
        for argument in (*node.args.args, *node.args.kwonlyargs)
    }
    found = {
        (file, name, text)
        for file, text in MESSAGES
        if text not in DOCSTRINGS
        for name in re.findall(r"(?<![\w.])([a-z_]+)=(?!=)", text)
    }
    assert len(found) > 10
    for file, name, text in sorted(found):
        if (file, name) in ONLY_IN_PYTHON:
            continue
        assert name in parameters, f"{file} names the argument {name}=, which nothing has: {text!r}"
        if file.startswith(("estimators/", "tabular/")):  # classes for scikit-learn, which no command makes
            continue
        commands = printed_by(file)
        assert commands, f"{file} names {name}=: add it to PRINTED_BY or ONLY_IN_PYTHON, for {text!r}"
        assert name in fm.datasets.table.TABLE_OPTIONS, f"{name}= is no argument of fastmlp.load"
        for command in commands:
            shown = as_options(re.search(rf"\b{name}=('[^']*'|True|False|\w+|)", text)[0])
            option = shown.split()[0]
            assert option in spellings[command], f"{file}: fastmlp {command} prints {shown!r}, which it does not have"


def test_evaluation_learns_nothing(fastmlp, table, monkeypatch):
    """What PRINTED_BY says of the files that learn: evaluate and predict do not call them."""
    assert fastmlp("train", "--plain", "--dataset", table, "--epochs", 1, "--out", "run", "--quiet")[0] == 0

    def learn(*arguments, **options):
        raise AssertionError("a table was learnt from")

    monkeypatch.setattr("fastmlp.datasets.loading.load_table", learn)
    for command in (("evaluate", "run"), ("evaluate", "run", "--dataset", table), ("predict", "run", table)):
        assert fastmlp(*command)[0] == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("leave it out with drop=.", "leave it out with --drop."),
        ("with dtype='float64'.", "with --dtype float64."),
        ("header=True reads, header=False does not", "--header reads, --no-header does not"),
        ("(index=False keeps it)", "(--no-index keeps it)"),
        ("separator=';', separator= and separator='\\t'", "--separator ';', --separator and --separator tab"),
        ("decimal='.' reads points", "--decimal . reads points"),
        ("(target='labels.npy', or", "(--target labels.npy, or"),
        ("expected none by test=.", "expected none by --test."),
        ("test_size=0.5", "--test-size 0.5"),
        ("a y=x, mytarget=3, drop_last=True", "a y=x, mytarget=3, drop_last=True"),
    ],
)
def test_arguments_as_options(text, expected):
    assert as_options(text) == expected


def followed(folder):
    """(what is wrong, the options that its message names, words of the message)."""
    pandas = pytest.importorskip("pandas", reason="tables need the extra")
    rng = np.random.default_rng(0)
    rows = 1500
    label = rng.choice(["p", "q"], rows)

    def write(name, **columns):
        pandas.DataFrame({**columns, "label": label}).to_csv(folder / name, index=False)
        return name

    a = rng.normal(size=rows)
    empty = write("empty.csv", a=a, b=[None] * rows)
    ids = write("ids.csv", id=[f"u{i}" for i in range(rows)], a=a)
    big = write("big.csv", big=10.0 ** rng.uniform(38, 45, rows))
    target = "target.csv"
    pandas.DataFrame({"a": a, "y": a * 1e40}).to_csv(folder / target, index=False)
    plain = write("plain.csv", a=a)
    np.savez(folder / "t.npz", X=a[:, None], y=label, X_test=a[:5, None], y_test=label[:5])
    np.save(folder / "alone.npy", np.c_[a, label == "p"])
    return [
        ([ids], ["--drop", "id"], "leave it out with --drop."),
        ([empty], ["--drop", "b"], "leave it out with --drop."),
        ([big], ["--dtype", "float64"], "or read the table with --dtype float64."),
        ([target], ["--dtype", "float64"], "or read the table with --dtype float64."),
        (["t.npz", "--test", plain], None, "expected none by --test."),
        (["alone.npy"], ["--target", "-1", "--task", "classification"], "a file (--target labels.npy, or"),
    ]


@pytest.mark.slow
def test_following_a_message_helps(fastmlp, folder, monkeypatch):
    monkeypatch.setenv("FASTMLP_BACKEND", "numpy")
    for number, (dataset, more, words) in enumerate(followed(folder)):
        command = ["train", "--plain", "--quiet", "--epochs", 1, "--out", f"r{number}", "--dataset", *dataset]
        code, _, err = fastmlp(*command)
        assert code == 1 and words in err, err
        if more is None:
            command = command[: command.index("--test")]
        assert fastmlp(*command, *(more or ()))[0] == 0


SUGGESTIONS = {
    "--contenders": None,
    "--lerning-rate": "--learning_rate",
    "--batchsize": "--batch-size",
    "--batch_sizes": "--batch-size",
    "--epoch": "--epochs",
    "--hiden": "--hidden",
    "--momentun": "--momentum",
    "--sep": "--separator",
    "--dropp": "--drop",
    "--no-headers": "--no-header",
    "--noheader": "--no-header",
    "--verbose": None,
    "--layers": None,
    "--x": None,
    "--s": None,
    "--ba": None,
}


@pytest.mark.parametrize("given, expected", SUGGESTIONS.items(), ids=SUGGESTIONS)
def test_only_options_that_are_close_are_suggested(fastmlp, given, expected):
    code, _, err = fastmlp("train", given, "3")
    hint = f"; did you mean {expected}?" if expected else ""
    assert code == 2 and err == f"fastmlp: error: unrecognized arguments: {given} 3{hint} (see fastmlp train --help)\n"


def test_no_command_suggests_what_is_far(capsys):
    assert main(["bench", "--contenders", "x"]) == 2
    assert "did you mean" not in capsys.readouterr().err
    assert main(["sweep", "--grid", "lr=1", "--epochs", "3"]) == 2
    assert "options of fastmlp train come after --" in capsys.readouterr().err


def test_notes_are_printed_once_and_other_warnings_passed_on(capsys):
    from fastmlp.cli.data import print_data_warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ValueError), print_data_warnings():
            for _ in range(2):
                warnings.warn("leave it out with drop=", fm.DataWarning, stacklevel=1)
            warnings.warn("another", RuntimeWarning, stacklevel=1)
            raise ValueError
    assert [str(warning.message) for warning in caught] == ["another"]
    assert capsys.readouterr().err == "fastmlp: note: leave it out with --drop\n"


def test_switches():
    train = parsers()["train"]
    assert train.switches >= {"header", "index", "quiet", "flip"} and not train.switches & {"lr", "drop", "hidden"}
    assert train.switch("header", True) == ["--header"] and train.switch("header", False) == ["--no-header"]
    assert train.switch("quiet", True) == ["--quiet"] and train.switch("quiet", False) == []


def test_types_of_options():
    for text in ("", ";;", '"', "\n"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not one character or the word tab"):
            options._separator(text)
    assert options._columns(" a, b,,2") == ["a", "b", "2"]
