"""``fastmlp export``: a saved model for another program."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from ..io.files import atomic_write
from ..modules import Module
from ..modules.saving import find_model, load_model, model_info
from .options import NOTE

__all__ = ["add_parser"]

_SUFFIX = {"onnx": ".onnx", "torch": ".pt", "c": ".c", "npz": ".npz"}


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "export",
        help="write a saved model for another program",
        description="Write a saved model as ONNX, as a state_dict of PyTorch, as one file of C99, "
        "or as NumPy arrays. The input scaling is part of it.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument("model", metavar="RUN", help="a run folder, or a saved model")
    parser.add_argument("--to", choices=sorted(_SUFFIX), required=True, help="the form")
    parser.add_argument("--out", metavar="FILE", help="(default: beside the model, with the form's ending)")
    parser.add_argument("--force", action="store_true", help="overwrite FILE")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    source = find_model(args.model)
    model = load_model(source)
    out = Path(os.path.expanduser(args.out)) if args.out else source.with_suffix(_SUFFIX[args.to])
    if not args.force and out.exists():
        raise FileExistsError(f"{out} exists; give another --out, or --force to overwrite it.")
    _write(model, args.to, out)
    print(f"{out}: {out.stat().st_size} bytes; {_hint(args.to, out)}")
    note = _offsets(model_info(source)["preprocessing"])
    if note:
        print(f"{NOTE}{note}", file=sys.stderr)
    return 0


def _offsets(preprocessing: dict[str, Any] | None) -> str | None:
    """What the program that takes the model has to subtract and to add, as float32 cannot hold the sums."""
    record = preprocessing or {}
    columns = [f"{spec['name']} {spec['offset']}" for spec in record.get("columns", ()) if spec.get("offset")]
    target = record.get("target_offset", 0)
    texts = [f"the model takes these columns less a number each: {', '.join(columns)}"] if columns else []
    texts += [f"it gives the target less {target}"] if target else []
    return "; ".join(texts) + "." if texts else None


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
