"""Plots of loss and accuracy over the epochs, for one run or several."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from ..callbacks.history import History, Record
from ..io.files import atomic_write

__all__ = ["draw_comparison", "draw_curves", "draw_nets", "short_names"]

_lock = threading.Lock()  # matplotlib is not made for several threads
_LONGEST = 40  # characters of a name in a legend
_TRAIN, _VALIDATION = "#1f77b4", "#d62728"


def draw_curves(history: History, title: str, path: Path) -> str | None:
    """Draw the curves of a run: a panel for the losses, and one for the accuracy if it was measured.

    Parameters
    ----------
    history : History
        Metrics of the run.
    title : str
        Title of the picture.
    path : Path
        PNG file to write, at 150 dots per inch.

    Returns
    -------
    str or None
        None, or the reason why no picture was drawn.
    """
    if not len(history):
        return "no evaluation was reached"
    with _lock:
        return _draw_curves(history, title, path)


def _draw_curves(history: History, title: str, path: Path) -> str | None:
    with_accuracy = history["val_accuracy"][0] is not None
    axes = _panels(with_accuracy)
    if axes is None:
        return _NO_MATPLOTLIB
    figure, panels = axes
    style = {**_markers(history), "linewidth": 1.6}
    epochs = history["epoch"]

    losses = panels[0]
    losses.plot(epochs, history["train_loss"], color=_TRAIN, label="train", **style)
    if history["val_loss"][0] is not None:
        losses.plot(epochs, history["val_loss"], color=_VALIDATION, label="validation", **style)
    losses.set_ylabel("loss")
    losses.set_title("Loss")
    if with_accuracy:
        accuracies = history["val_accuracy"]
        best = max(range(len(accuracies)), key=accuracies.__getitem__)
        label = f"validation (best {accuracies[best]:.4f} at epoch {epochs[best]:.4g})"
        panels[1].plot(epochs, accuracies, color=_VALIDATION, label=label, **style)
        panels[1].set_ylabel("accuracy")
        panels[1].set_title("Accuracy")
    _save(figure, panels, title, path, integer_ticks=epochs[-1] >= 5)
    return None


def draw_nets(nets: list[list[Record]], title: str, path: Path) -> str | None:
    """Draw the held-out losses of the nets of an ensemble, and their accuracies; return as `draw_curves`."""
    if not all(nets):
        return "no evaluation was reached"
    metrics = [name for name in ("val_loss", "val_accuracy") if nets[0][0][name] is not None] or ["train_loss"]
    axes = _panels(len(metrics) > 1)
    if axes is None:
        return _NO_MATPLOTLIB
    figure, panels = axes
    for panel, metric in zip(panels, metrics, strict=True):
        label = {"val_loss": "held-out loss", "val_accuracy": "held-out accuracy", "train_loss": "training loss"}[
            metric
        ]
        for number, records in enumerate(nets):
            epochs = [record["epoch"] for record in records]
            panel.plot(epochs, [record[metric] for record in records], linewidth=1.2, label=f"net {number + 1}")
        panel.set_ylabel(label)
        panel.set_title(label.capitalize())
    _save(figure, panels, title, path, integer_ticks=True)
    return None


def draw_comparison(histories: dict[str, History], path: Path) -> str | None:
    """Draw the test losses and accuracies of several runs; return None, or the reason why no picture was drawn."""
    with_accuracy = any(history["val_accuracy"][0] is not None for history in histories.values())
    axes = _panels(with_accuracy)
    if axes is None:
        return _NO_MATPLOTLIB
    figure, panels = axes
    for number, (name, history) in enumerate(zip(short_names(list(histories)), histories.values(), strict=True)):
        style = {"color": f"C{number % 10}", "linewidth": 1.6, "linestyle": ("-", "--", ":", "-.")[number // 10 % 4]}
        style |= _markers(history)
        panels[0].plot(history["epoch"], history["val_loss"], label=name, **style)
        if with_accuracy and history["val_accuracy"][0] is not None:
            panels[1].plot(history["epoch"], history["val_accuracy"], label=name, **style)
    for panel, metric in zip(panels, ("loss", "accuracy"), strict=False):
        panel.set_ylabel(f"validation {metric}")
        panel.set_title(metric.capitalize())
    longest = max(history["epoch"][-1] for history in histories.values())
    _save(figure, panels, None, path, integer_ticks=longest >= 5)
    return None


def short_names(names: list[str]) -> list[str]:
    """Return the paths of runs without the folders that all of them have, and at most _LONGEST characters long.

    A legend of long names leaves no room for the curves.
    """
    common = os.path.commonpath([os.path.abspath(os.path.dirname(name) or ".") for name in names])
    relative = [os.path.relpath(name, common) for name in names]
    return [name if len(name) <= _LONGEST else "..." + name[3 - _LONGEST :] for name in relative]


def _markers(history: History) -> dict[str, Any]:
    """Return plot options that mark the points of a short history, as a single point draws no line."""
    return {"marker": "o" if len(history) <= 30 else None, "markersize": 3.5}


_NO_MATPLOTLIB = 'pip install "fastmlp[plot]"'


def _panels(two: bool) -> tuple[Any, Any] | None:
    """Return (figure, panels); None without matplotlib."""
    try:
        # pyplot would select a window system and keep a reference to every figure.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(10 if two else 5.6, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, 2 if two else 1, squeeze=False)[0]


def _save(figure: Any, panels: Any, title: str | None, path: Path, *, integer_ticks: bool) -> None:
    """Label the axes, add legends and the title, and write the file."""
    for panel in panels:
        panel.set_xlabel("epoch")
        panel.xaxis.get_major_locator().set_params(integer=integer_ticks)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    if title is not None:
        figure.suptitle(title, fontsize=11)
    with atomic_write(path) as stream:
        figure.savefig(stream, format="png")
