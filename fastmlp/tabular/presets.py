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
# "best": compared on inner splits of the training part of ten tables (two splits of up to 2,000 rows, one of leaf_id,
# 2026-12-01), 8 nets each. Ratios of the loss to that of "balanced", geometric mean without leaf_id with its standard
# error, and leaf_id alone: dropout 0.1 and rate 0.001 with twice the patience 0.997 (0.004) and 0.75; dropout 0.1 alone
# 1.000 (0.005) and 0.73; width 256 1.007 (0.009) and 0.84; three layers 1.002 (0.006) and 1.22; beta2 of 0.95 1.003
# (0.003) and 0.94; weight decay of 0.05 1.000 (0.001) and 0.96; a rate that is cut at plateaus 1.002 (0.001) and 1.02;
# 24 nets with the constants of "balanced" 0.997 (0.001) and 0.88. The first and the last together were not compared.
PRESETS = {
    "fast": Preset(n_nets=2),
    "balanced": Preset(n_nets=8),
    "best": Preset(n_nets=24, lr=0.001, epochs=400, patience=40, updates=800, dropout=0.1),
}
