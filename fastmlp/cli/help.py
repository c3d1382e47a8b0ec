"""End of each command's help: examples, and the exit codes."""

from __future__ import annotations

import argparse
import textwrap

__all__ = ["EXAMPLES", "EXIT_CODES", "finish_help"]

EXIT_CODES = "exit codes: 0 success, 1 a failed run, 2 wrong usage, 130 after Ctrl-C"
_WIDTH = 78

# Arguments of a command, and what they do.
EXAMPLES: dict[str, list[tuple[str, str]]] = {
    "train": [
        ("", "on handwritten digits"),
        ("--dataset table.csv --target price", "an ensemble"),
        ("--dataset mnist --hidden 512,512 --epochs 20", "one network"),
        ("--resume runs/mnist-20260102-030405", "after an interruption"),
    ],
    "compare": [("run other --out compare.png", "a table and a picture of two runs")],
    "report": [("run other --out report.html", "one page about two runs")],
    "sweep": [
        ("--grid lr=0.001,0.01 --grid hidden=50:100,50 -- --epochs 5", "four runs"),
        ("--grid lr=0.001,0.003,0.01,0.03 --halving 2 -- --epochs 8", "stop weak runs early"),
    ],
    "evaluate": [
        ("run", "loss and accuracy on the test rows of the run"),
        ("run --dataset new.csv", "on all rows of another table"),
    ],
    "predict": [
        ("run new.csv --output predictions.csv", "predictions for the rows of a table"),
        ("run new.csv --proba", "probabilities of the classes"),
    ],
    "pack": [("table.parquet --target price --out packed", "arrays for --dataset packed")],
    "export": [("run --to onnx", "model.onnx"), ("run --to c --out model.c", "one file of C99")],
    "gradcheck": [("", "check all gradients"), ("--backend numpy", "those of the reference alone")],
    "info": [("", "this machine, and the kernels in use"), ("run", "a saved model or a run")],
    "bench": [("--cases tabular,mnist --quick", "two cases, less exactly"), ("--startup", "the time of the first fit")],
    "warmup": [("", "the common kernels"), ("--all", "every kernel")],
    "tune": [
        ("", "measure, and keep the values"),
        ("--json", "the same, for programs"),
        ("--reset", "delete the values of this processor"),
    ],
    "completion": [
        ("bash > ~/.local/share/bash-completion/completions/fastmlp", ""),
        ("zsh > ~/.zfunc/_fastmlp", "with ~/.zfunc in fpath"),
    ],
}


def finish_help(name: str, parser: argparse.ArgumentParser) -> None:
    """Append examples and exit codes to the help of the command ``name``, and keep the lines of its texts."""
    shown = []
    for arguments, note in EXAMPLES[name]:
        shown.append(f"  fastmlp {name} {arguments}".rstrip())
        if note:
            shown.append(f"      {note}")
    parts = [parser.epilog, "examples:\n" + "\n".join(shown), EXIT_CODES]
    parser.epilog = "\n\n".join(part for part in parts if part)
    description = parser.description or ""
    if parser.formatter_class is argparse.HelpFormatter:
        parser.description = textwrap.fill(description, _WIDTH)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
