"""Pictures: loss and accuracy over epochs, of one run or of several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..callbacks.history import History
from ..io.files import atomic_write

__all__ = ["draw_comparison", "draw_curves"]

_TRAIN, _VALIDATION = "#1f77b4", "#d62728"


def draw_curves(history: History, title: str, path: Path) -> str | None:
    """Draw the picture; the reason why there is none, or None where there is one.

    Parameters
    ----------
    history : History
        A panel for the losses, and one for the accuracy if there is any.
    title : str
    path : Path
        A PNG file of 150 dots per inch.
    """
    if not len(history):
        return "no evaluation was reached"
    with_accuracy = history["val_accuracy"][0] is not None
    made = _panels(with_accuracy)
    if made is None:
        return _NO_MATPLOTLIB
    figure, panels = made
    style = {**_marked(history), "linewidth": 1.6}
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
    _finish(figure, panels, title, path, whole=epochs[-1] >= 5)
    return None


def draw_comparison(histories: dict[str, History], path: Path) -> str | None:
    """Draw the test losses, and accuracies where there are any, of several runs; the reason why there is no picture."""
    with_accuracy = any(history["val_accuracy"][0] is not None for history in histories.values())
    made = _panels(with_accuracy)
    if made is None:
        return _NO_MATPLOTLIB
    figure, panels = made
    for place, (name, history) in enumerate(histories.items()):
        style = {"color": f"C{place % 10}", "linewidth": 1.6, "linestyle": ("-", "--", ":", "-.")[place // 10 % 4]}
        style |= _marked(history)
        panels[0].plot(history["epoch"], history["val_loss"], label=name, **style)
        if with_accuracy and history["val_accuracy"][0] is not None:
            panels[1].plot(history["epoch"], history["val_accuracy"], label=name, **style)
    for panel, what in zip(panels, ("loss", "accuracy"), strict=False):
        panel.set_ylabel(f"validation {what}")
        panel.set_title(what.capitalize())
    longest = max(history["epoch"][-1] for history in histories.values())
    _finish(figure, panels, None, path, whole=longest >= 5)
    return None


def _marked(history: History) -> dict[str, Any]:
    """Points, where they are few: a single one would be no line."""
    return {"marker": "o" if len(history) <= 30 else None, "markersize": 3.5}


_NO_MATPLOTLIB = 'pip install "fastmlp[plot]"'


def _panels(two: bool) -> tuple[Any, Any] | None:
    """(figure, its panels); None without matplotlib."""
    try:
        # Not pyplot: it would choose a window system and keep every figure.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(10 if two else 5.6, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, 2 if two else 1, squeeze=False)[0]


def _finish(figure: Any, panels: Any, title: str | None, path: Path, *, whole: bool) -> None:
    """Axes, legends, the title and the file; ``whole``: marks at whole epochs."""
    for panel in panels:
        panel.set_xlabel("epoch")
        panel.xaxis.get_major_locator().set_params(integer=whole)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    if title is not None:
        figure.suptitle(title, fontsize=11)
    with atomic_write(path) as stream:
        figure.savefig(stream, format="png")
