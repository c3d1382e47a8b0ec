"""``fastmlp export``: conversion of a saved model for other programs."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from ..io.files import atomic_write
from ..modules import Module
from ..modules.saving import find_model, is_ensemble, load_model, model_info
from .ensembles import SavedEnsemble
from .options import NOTE, UsageError

__all__ = ["add_parser"]

_OF_ENSEMBLES = ("c", "onnx")  # formats of an ensemble for tables, which include its encoder
_SUFFIX = {"onnx": ".onnx", "torch": ".pt", "c": ".c", "npz": ".npz"}


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "export",
        help="write a saved model as ONNX, PyTorch, C or NumPy",
        description="Write a saved model as ONNX, as a PyTorch state_dict, as one C99 file, or as NumPy arrays. "
        "The input scaling is included.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument("model", metavar="RUN_OR_MODEL", help="run folder of fastmlp train, or saved model")
    parser.add_argument("--to", choices=sorted(_SUFFIX), required=True, help="format to write")
    parser.add_argument(
        "--out", metavar="FILE", help="file to write (default: next to the model, with the suffix of the format)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    source = find_model(args.model)
    ensemble = is_ensemble(source)
    if ensemble and args.to not in _OF_ENSEMBLES:
        raise UsageError(
            f"--to is {args.to}; expected {' or '.join(_OF_ENSEMBLES)} for {source}, an ensemble for tables."
        )
    model = SavedEnsemble(str(source)).estimator if ensemble else load_model(source)
    out = Path(os.path.expanduser(args.out)) if args.out else source.with_suffix(_SUFFIX[args.to])
    if not args.force and out.exists():
        raise FileExistsError(f"{out} exists; give another --out, or --force to overwrite it.")
    if ensemble:
        getattr(model, f"export_{args.to}")(out)
        hint = "an input (N, 1) for each column." if args.to == "onnx" else _hint("c", out)
        print(f"{out}: {out.stat().st_size} bytes; {hint}")
        return 0
    _write(model, args.to, out)
    print(f"{out}: {out.stat().st_size} bytes; {_hint(args.to, out)}")
    note = _offsets(model_info(source)["preprocessing"])
    if note:
        print(f"{NOTE}{note}", file=sys.stderr)
    return 0


def _offsets(preprocessing: dict[str, Any] | None) -> str | None:
    """Describe the offsets that the caller of an exported model must subtract and add; None if there are none."""
    record = preprocessing or {}
    columns = [f"{spec['name']} {spec['offset']}" for spec in record.get("columns", ()) if spec.get("offset")]
    target = record.get("target_offset", 0)
    texts = [f"subtract these offsets from the columns: {', '.join(columns)}"] if columns else []
    texts += [f"add {target} to the output"] if target else []
    return "for the exported model, " + "; ".join(texts) + "." if texts else None


def _write(model: Module, form: str, out: Path) -> None:
    if form == "torch":
        made = importlib.import_module("fastmlp.exchange.pytorch").to_torch(model)
        torch = importlib.import_module("torch")
        with atomic_write(out) as stream:
            torch.save(made.state_dict(), stream)
        return
    getattr(importlib.import_module(f"fastmlp.exchange.{form}"), f"export_{form}")(model, out)


def _hint(form: str, out: Path) -> str:
    return {
        "onnx": "input x (N, I), output y (N, O), opset 20.",
        "torch": f"net.load_state_dict(torch.load({out.name!r}, weights_only=True)).",
        "c": f"cc -std=c99 -O2 -c {out.name}, link with -lm.",
        "npz": f"numpy.load({out.name!r}).",
    }[form]
