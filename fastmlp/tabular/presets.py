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
    dropout : float
        Share of the hidden units that are left out of each update.
    """

    n_nets: int
    hidden: tuple[int, ...] = (128, 128)
    lr: float = 0.002
    alpha: float = 1e-4
    batch_size: int = 200
    epochs: int = 200
    patience: int = 20
    updates: int = 400
    dropout: float = 0.0


# Widths and rate were compared on inner splits of public tables; alpha, batch_size and epochs are the defaults of
# scikit-learn's MLPClassifier.
# "best": compared on two inner splits of each of ten tables (up to 2,000 rows, 2026-12-01). Ratios of the loss to that
# of "balanced", geometric mean without leaf_id, and leaf_id alone: dropout 0.1 and rate 0.001 with twice the patience
# 0.997 and 0.75; dropout 0.1 alone 1.003 and 0.73; width 256 0.999 and 0.84; three layers 0.999 and 1.2; beta2 of 0.95
# 1.001 and 0.94; weight decay of 0.05 1.000 and 0.96; a rate that is cut at plateaus 1.001 and 1.02; 24 nets 0.995 and
# 0.88.
PRESETS = {
    "fast": Preset(n_nets=2),
    "balanced": Preset(n_nets=8),
    "best": Preset(n_nets=24, lr=0.001, epochs=400, patience=40, updates=800, dropout=0.1),
}
