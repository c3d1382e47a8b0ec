"""Callbacks of a fit: early stopping, saved models and states, logs, progress bar."""

from __future__ import annotations

from .base import Callback, CallbackList, as_callbacks
from .early_stopping import BestTracker, EarlyStopping
from .history import History, Record
from .loggers import CSVFile, MetricsFile, TensorBoard
from .progress import ProgressBar
from .saving import ModelCheckpoint, SaveModel, SaveState

__all__ = [
    "CSVFile",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "MetricsFile",
    "ModelCheckpoint",
    "ProgressBar",
    "Record",
    "SaveModel",
    "SaveState",
    "TensorBoard",
    "BestTracker",
    "as_callbacks",
]
