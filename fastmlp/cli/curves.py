"""curves.png: loss and accuracy over epochs."""

from __future__ import annotations

from pathlib import Path

from ..files import atomic_write
from ..history import History

__all__ = ["draw_curves"]

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
    try:
        # Not pyplot: it would choose a window system and keep every figure.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return 'pip install "fastmlp[plot]"'
    with_accuracy = history["val_accuracy"][0] is not None
    figure = Figure(figsize=(10 if with_accuracy else 5.6, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2 if with_accuracy else 1, squeeze=False)[0]
    marker = "o" if len(history) <= 30 else None
    style = {"marker": marker, "markersize": 3.5, "linewidth": 1.6}
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
    for panel in panels:
        panel.set_xlabel("epoch")
        panel.xaxis.get_major_locator().set_params(integer=epochs[-1] >= 5)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    figure.suptitle(title, fontsize=11)
    with atomic_write(path) as stream:
        figure.savefig(stream, format="png")
    return None
