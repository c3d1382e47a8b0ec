"""``fastmlp compare``: a table of several runs, and their curves in one picture."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from .._common.errors import ModelFileError
from ..callbacks.history import KEYS, History, Record
from .curves import draw_comparison
from .options import add_json_option, print_json
from .runs import CONFIG, METRICS, read_config

__all__ = ["add_parser", "history_of", "print_ranking"]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "compare",
        help="compare runs in a table and a picture",
        description="Print a table of runs, the best first, and draw their curves in one picture. Runs are ranked by "
        "their best loss on the test rows.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders of fastmlp train")
    add_json_option(parser, "print one line of JSON with the best evaluation of each run, and draw no picture")
    parser.add_argument("--out", default="compare.png", metavar="FILE", help="picture to write (default: compare.png)")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    names = list(dict.fromkeys(args.runs))
    histories = {name: history_of(Path(name).expanduser()) for name in names}
    if args.json:
        print_json(runs=[{"run": name, **record} for name, record in rank(histories)])
        return 0
    print_ranking(histories)
    data = [_data_of(Path(name).expanduser()) for name in names]
    # Ensembles encode the columns in their own way, so that the rows are the same if the targets are.
    shas = (
        {targets for _, _, targets in data} if any(_is_ensemble(Path(name).expanduser()) for name in names) else set()
    )
    if len(shas or {sha for _, sha, _ in data}) > 1:
        shown = ", ".join(dict.fromkeys(name for name, _, _ in data))
        print(f"\nThe runs use different data ({shown}), so their losses are not comparable.")
    missing = draw_comparison(histories, Path(args.out))
    print(f"\nno {args.out}: {missing}" if missing else f"\nsaved {args.out}")
    return 0


def _data_of(folder: Path) -> tuple[str, str, str]:
    """Return the name of the data set of a run, its fingerprint, and that of its targets."""
    try:
        config = read_config(folder / CONFIG)
        of_data = config["dataset"]
        return Path(config["data"]["dataset"]).name, str(of_data["sha256"]), str(of_data.get("targets_sha256"))
    except (OSError, ValueError, KeyError):
        return "unknown", "unknown", "unknown"


def _is_ensemble(folder: Path) -> bool:
    try:
        return "estimator" in read_config(folder / CONFIG)
    except (OSError, ValueError):
        return False


def history_of(folder: Path) -> History:
    """Read the metrics of a run.

    Raises
    ------
    ModelFileError
        If the folder is not a run folder, the run has not reached an evaluation, or its metrics are damaged.
    """
    path = folder / METRICS
    if not path.is_file():
        raise ModelFileError(f"{folder} has no {METRICS}; expected a run folder of fastmlp train.")
    history = History()
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if "net" in record:  # a net of an ensemble, whose last line is that of all nets
                continue
            if tuple(record) != KEYS or not all(_is_number(record[key]) for key in KEYS):
                raise ValueError(f"a line has {line[:40]!r}")
            history.append(record)
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: {error}.") from error
    if not len(history):
        raise ModelFileError(f"{folder} has no metrics yet; expected a run that reached an evaluation.")
    if None in history["val_loss"]:
        raise ModelFileError(f"{path} has no validation losses; expected a run of fastmlp train.")
    return history


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def rank(histories: dict[str, History]) -> list[tuple[str, Record]]:
    """Return the names of the runs and their best evaluations, the least test loss first."""

    def loss(record: Record) -> float:
        return (
            math.inf if math.isnan(record["val_loss"]) else record["val_loss"]
        )  # NaN compares as neither smaller nor larger

    def best(history: History) -> Record:
        return min(history, key=loss)

    found = [(name, best(history)) for name, history in histories.items()]
    return sorted(found, key=lambda item: loss(item[1]))


def print_ranking(histories: dict[str, History]) -> None:
    """Print a line for each run, ordered by the best test loss."""
    width = max(len("run"), *map(len, histories))
    print(f"{'run':{width}}   best loss  at step  val acc   last loss     steps  seconds")
    for name, record in rank(histories):
        last = histories[name][-1]
        accuracy = "-" if record["val_accuracy"] is None else f"{record['val_accuracy']:.4f}"
        print(
            f"{name:{width}} {record['val_loss']:11.5f} {record['step']:8d} {accuracy:>8} {last['val_loss']:11.5f} "
            f"{last['step']:9d} {last['seconds']:8.1f}"
        )
