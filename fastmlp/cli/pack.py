"""``fastmlp pack``: conversion of a table of any size to arrays that training maps."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from ..datasets.pack import pack
from ..datasets.packed import ARRAYS, open_packed, verify_packed
from .data import print_data_warnings
from .options import UsageError, add_table_options

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "pack",
        help="convert a table of any size for training",
        description="Convert a table to a folder of arrays, which 'fastmlp train --dataset FOLDER' maps instead of "
        "reading them into memory. The rows, features and preprocessing are those of a training on the table itself. "
        "An interrupted run goes on where it stopped if it is started again.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "table",
        metavar="TABLE",
        help=".csv, .tsv, .parquet, .npz or .npy file, or a folder of such files; with --check a packed folder",
    )
    parser.add_argument("--out", metavar="FOLDER", help="new folder")
    parser.add_argument("--check", action="store_true", help="compare a packed folder with its digests instead")
    parser.add_argument(
        "--dtype", choices=("float32", "float64"), default="float32", help="(default: float32; bytes stay bytes)"
    )
    parser.add_argument("--quiet", action="store_true", help="print no progress")
    add_table_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.check:
        return _check(Path(args.table))
    if args.out is None:
        raise UsageError("--out is missing; expected the name of a new folder.")
    if args.test is not None and args.test_size is not None:
        raise UsageError("--test and --test-size exclude each other.")
    options = {
        key: getattr(args, key)
        for key in ("target", "test", "test_size", "task", "drop", "index", "header", "separator", "decimal")
        if getattr(args, key) is not None
    }
    began = time.perf_counter()

    def progress(line: str) -> None:
        if not args.quiet:
            print(f"{time.perf_counter() - began:7.1f} s  {line}", flush=True)

    try:
        with print_data_warnings():
            folder = pack(args.table, args.out, dtype=args.dtype, progress=progress, **options)
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on from {args.out}.packing", file=sys.stderr)
        raise
    data = open_packed(folder)
    size = sum((folder / f"{name}.npy").stat().st_size for name in ARRAYS)
    print(f"{folder}: {size / 1e6:.1f} MB, X {data.X.shape} {data.X.dtype}, X_test {data.X_test.shape}, {data.task}")
    print(f"to train: fastmlp train --dataset {folder}")
    return 0


def _check(folder: Path) -> int:
    size = 0
    for _, block in verify_packed(folder):
        size += block
    print(f"{folder}: all {size / 1e6:.1f} MB are as packed")
    return 0
