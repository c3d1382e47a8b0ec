"""The page of a report: one HTML file that needs no network."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .._common.installed import library
from ..io.files import atomic_write
from ..training.calibration import reliability
from . import figures
from .run import RunReport
from .scores import class_scores, confusion_matrix

__all__ = ["write_report"]

_MOST_OUTPUTS = 4  # of a regression, with a figure each
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 0 auto; padding: 0 1rem 3rem; }
h1 { font-size: 1.6rem; } h2 { border-bottom: 1px solid #ddd; padding-bottom: .2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; margin: .6rem 0; } .wide { overflow-x: auto; }
th, td { padding: .2rem .7rem; text-align: left; border-bottom: 1px solid #eee; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f5f5f5; padding: .6rem; overflow-x: auto; } .columns { display: flex; flex-wrap: wrap; gap: 2rem;
  align-items: flex-start; }
details { margin: .6rem 0; } summary { cursor: pointer; }
"""


def write_report(runs: Sequence[RunReport], path: str | os.PathLike[str]) -> None:
    """Write a report of one run or several as a single HTML file.

    Parameters
    ----------
    runs : sequence of RunReport
        At least one; several are drawn into the same curves.
    path : path-like
        The file, about 5 MB, since Plotly's script is in it. It is written whole or not at all.

    Raises
    ------
    BackendError
        If Plotly is not installed.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.reports import RunReport, write_report
    >>> history = {"epoch": [1.0, 2.0], "train_loss": [0.9, 0.5], "val_loss": [0.8, 0.6]}
    >>> run = RunReport("first", "regression", {"": history}, {"loss": 0.6}, np.zeros(3), np.ones((3, 1)))
    >>> write_report([run], "report.html")
    """
    library("plotly", 'pip install "fastmlp[report]"')
    title = "Training run" if len(runs) == 1 else f"{len(runs)} training runs"
    parts = [
        f"<h1>{title}: {html.escape(', '.join(run.name for run in runs))}</h1>",
        *_overview(runs),
        *_all_curves(runs),
    ]
    for run in runs:
        parts.append(f"<h2>{html.escape(run.name)}</h2>")
        parts += _details(run)
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>{title}</title><style>{_STYLE}</style>'
        f"<script>{_script()}</script></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )
    with atomic_write(path) as stream:
        stream.write(page.encode("utf-8"))


def _script() -> str:
    import plotly.offline

    text: str = plotly.offline.get_plotlyjs()
    return text


def _overview(runs: Sequence[RunReport]) -> Iterator[str]:
    """Scores of the runs, one row each."""
    yield "<h2>Scores on the test rows</h2>"
    names = list(dict.fromkeys(name for run in runs for name in run.scores))
    rows = []
    for run in runs:
        cells: list[Any] = [run.name, *(run.scores.get(name, math.nan) for name in names)]
        if run.classes:
            cells.append(reliability(run.targets, run.predictions).error)
        rows.append(cells)
    yield _table(["run", *names, *(["calibration error"] if runs[0].classes else [])], rows)


def _all_curves(runs: Sequence[RunReport]) -> Iterator[str]:
    yield "<h2>Curves</h2>"
    for metric in ("loss", "accuracy", "lr"):
        figure = figures.curves(list(runs), metric)
        if figure is not None:
            yield _figure(figure)
    if all(run.classes for run in runs):
        yield _figure(figures.calibration(list(runs)))


def _details(run: RunReport) -> Iterator[str]:
    if run.command:
        yield f"<p>The command that repeats the run:</p><pre>{html.escape(run.command)}</pre>"
    yield f'<div class="columns">{_pairs(run.configuration)}{_pairs(run.origin)}</div>'
    if run.classes:
        yield _figure(figures.confusion(run))
        counts = confusion_matrix(run.targets, run.labels, len(run.classes))
        rows = [[name, *scores] for name, scores in zip(run.classes, class_scores(counts), strict=True)]
        table = _table(["class", "precision", "recall", "F1", "rows"], rows)
        opened = " open" if len(rows) <= 20 else ""
        yield f"<details{opened}><summary>Scores by class</summary>{table}</details>"
    else:
        for output in range(min(run.predictions.shape[1], _MOST_OUTPUTS)):
            yield _figure(figures.residuals(run, output))
    if run.weights:
        yield _figure(figures.histograms(run.weights, "Weights by layer", "weight"))
    if run.activations:
        yield _figure(figures.histograms(run.activations, "Outputs of the layers on test rows", "output"))


def _figure(figure: Any) -> str:
    text: str = figure.to_html(
        full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}
    )
    return text


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in pairs)
    return f"<table>{rows}</table>"


def _table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return f"<td>{html.escape(value)}</td>"
    if isinstance(value, int):
        return f'<td class="number">{value:,}</td>'
    return f'<td class="number">{"-" if math.isnan(value) else format(value, ".4f")}</td>'
