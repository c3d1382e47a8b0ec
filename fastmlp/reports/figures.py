"""Figures of a report, drawn by Plotly."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._common.installed import library
from .._common.validation import Array
from ..training.calibration import reliability
from .run import RunReport
from .scores import confusion_matrix

__all__ = ["calibration", "confusion", "curves", "histograms", "residuals"]

_COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2", "#7f7f7f", "#17becf", "#bcbd22")
_MOST_POINTS = 5000  # of a scatter plot; more make a page slow


def graph_objects() -> Any:
    """Return Plotly's module of figures.

    Raises
    ------
    BackendError
        If Plotly is not installed.
    """
    library("plotly", 'pip install "fastmlp[report]"')
    import plotly.graph_objects

    return plotly.graph_objects


def curves(runs: list[RunReport], metric: str) -> Any:
    """Return the curves of ``metric`` ("loss", "accuracy" or "lr") over the epochs.

    Values on training rows are drawn dashed. The result is None if no run has the metric, or all rates are constant.
    """
    go = graph_objects()
    figure = go.Figure()
    keys = {"loss": ("val_loss", "train_loss"), "accuracy": ("val_accuracy",), "lr": ("lr",)}[metric]
    for number, run in enumerate(runs):
        for place, (net, history) in enumerate(run.histories.items()):
            for key in keys:
                values = history.get(key) or [None]
                if values[0] is None or (metric == "lr" and len(set(values)) == 1):
                    continue
                rows = {"train_loss": "training", "lr": ""}.get(key, "held-out" if net else "test")
                label = " ".join(filter(None, [run.name if len(runs) > 1 else "", net, rows])) or run.name
                color = number if len(runs) > 1 else place if net else len(figure.data)
                line = {"color": _color(color), "dash": _dash(key)}
                mode = "lines+markers" if len(values) < 60 else "lines"
                figure.add_trace(go.Scatter(x=history["epoch"], y=values, name=label, mode=mode, line=line))
    if not figure.data:
        return None
    title = {"loss": "Loss", "accuracy": "Accuracy", "lr": "Learning rate"}[metric]
    return _finished(figure, title, "epoch", {"lr": "learning rate"}.get(metric, metric), unified=True)


def confusion(run: RunReport) -> Any:
    """Return the confusion matrix as shares of the true classes, with the numbers of rows on hovering."""
    go = graph_objects()
    counts = confusion_matrix(run.targets, run.labels, len(run.classes))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    few = len(run.classes) <= 20
    figure = go.Figure(
        go.Heatmap(
            z=shares, x=run.classes, y=run.classes, customdata=counts, colorscale="Blues", zmin=0, zmax=1,
            text=counts if few else None, texttemplate="%{text}" if few else None,
            hovertemplate="true %{y}, predicted %{x}: %{customdata} rows, %{z:.1%}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category", autorange="reversed")
    return _finished(
        figure, "Confusion matrix", "predicted class", "true class", height=min(900, 320 + 24 * len(run.classes))
    )


def calibration(runs: list[RunReport]) -> Any:
    """Return accuracy over confidence, with the diagonal of a calibrated model.

    The areas of the points grow with the numbers of rows.
    """
    go = graph_objects()
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot", "color": "gray"}, name="calibrated")
    )
    for number, run in enumerate(runs):
        found = reliability(run.targets, run.predictions)
        figure.add_trace(
            go.Scatter(
                x=found.confidence, y=found.accuracy, customdata=found.rows, mode="lines+markers",
                marker={"size": 4 + 16 * np.sqrt(found.rows / found.rows.max())},
                line={"color": _color(number)}, name=f"{run.name} (error {found.error:.3f})",
                hovertemplate="confidence %{x:.3f}, accuracy %{y:.3f}, %{customdata} rows",
            )
        )  # fmt: skip
    return _finished(figure, "Calibration", "mean confidence", "accuracy")


def residuals(run: RunReport, output: int) -> Any:
    """Return predictions over targets of one output, with the diagonal."""
    go = graph_objects()
    x = run.targets.reshape(len(run.targets), -1)[:, output]
    y = run.predictions[:, output]
    if len(x) > _MOST_POINTS:
        chosen = np.random.default_rng(0).choice(len(x), _MOST_POINTS, replace=False)
        x, y = x[chosen], y[chosen]
    ends = [float(min(x.min(), y.min())), float(max(x.max(), y.max()))]
    figure = go.Figure(go.Scattergl(x=x, y=y, mode="markers", marker={"size": 5, "opacity": 0.5}, showlegend=False))
    figure.add_trace(go.Scatter(x=ends, y=ends, mode="lines", line={"dash": "dot", "color": "gray"}, showlegend=False))
    name = f" of output {output}" if run.predictions.shape[1] > 1 else ""
    return _finished(figure, f"Predictions{name}", "target", "prediction")


def histograms(values: dict[str, Array], title: str, axis: str) -> Any:
    """Return a histogram for each layer, of equal area."""
    go = graph_objects()
    figure = go.Figure()
    for number, (name, array) in enumerate(values.items()):
        heights, edges = np.histogram(array[np.isfinite(array)], 60, density=True)
        centers = (edges[:-1] + edges[1:]) / 2
        figure.add_trace(
            go.Scatter(x=centers, y=heights, mode="lines", line={"shape": "hvh", "color": _color(number)}, name=name)
        )
    return _finished(figure, title, axis, "density")


def _finished(figure: Any, title: str, x: str, y: str, *, height: int = 420, unified: bool = False) -> Any:
    figure.update_layout(
        title=title, xaxis_title=x, yaxis_title=y, height=height, template="plotly_white",
        showlegend=len(figure.data) > 1, margin={"l": 60, "r": 20, "t": 50, "b": 50},
        # In pixels; the epochs of a short run are far apart.
        hovermode="x unified" if unified else "closest", hoverdistance=-1 if unified else 20,
        legend={"orientation": "h", "y": -0.22},
    )  # fmt: skip
    return figure


def _color(number: int) -> str:
    return _COLORS[number % len(_COLORS)]


def _dash(key: str) -> str:
    return "dash" if key == "train_loss" else "solid"
