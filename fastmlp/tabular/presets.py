"""Presets of the estimators for tables: constants of the networks and of their training."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True)
class Preset:
    """Constants of an ensemble.

    Attributes
    ----------
    n_nets : int
    hidden : tuple of int
        Widths of the hidden layers.
    lr : float
        Learning rate of Adam.
    alpha : float
        L2 penalty, as scikit-learn's MLPClassifier.
    batch_size : int
    epochs : int
        Most epochs.
    patience : int
        Epochs without a lower loss of the held-out rows after which a net is complete.
    updates : int
        Least number of updates in ``patience`` epochs; ``epochs`` have at least five times as many. Without it, nets
        for small sets would stop too early.
    """

    n_nets: int
    hidden: tuple[int, ...] = (128, 128)
    lr: float = 0.002
    alpha: float = 1e-4
    batch_size: int = 200
    epochs: int = 200
    patience: int = 20
    updates: int = 400
    cut: float | None = None
    beta2: float = 0.999
    weight_decay: float = 0.0
    dropout: float = 0.0


# Widths and rate were compared on inner splits of public tables; alpha, batch_size and epochs are the defaults of
# scikit-learn's MLPClassifier.
PRESETS = {"fast": Preset(n_nets=2), "balanced": Preset(n_nets=8)}
