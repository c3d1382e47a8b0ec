"""OnlineFit: calls of `partial_fit` on the prepared steps of an estimator's trainer.

A call with all checks looks at each parameter, makes a fit with its listeners, and copies all arrays to the engine and
back, which takes as long as many steps of a small net. What depends on the parameters and the model is the same in the
next call, so that only their identity is compared, and the rows are checked by the native step.
"""

from __future__ import annotations

import copy
import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from .._common.validation import Array
from ..engine.native import has_native, native
from .solver import FitMonitor

if TYPE_CHECKING:
    from ..engine.session import Session
    from ..training.trainer import Trainer
    from .base import BaseMLP
    from .network import Network

__all__ = ["OnlineFit", "prepare_online_fit"]

_AUTO = 200  # most rows of a batch with batch_size="auto"
_MOST_STEPS = 8  # of a call; a run of the engine makes more of them sooner
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_IMMUTABLE = (type(None), bool, int, float, str, np.generic)
# Attributes that a call depends on besides the parameters.
_ATTRIBUTES = (
    "_network", "_trainer", "_optimizer", "_seeded_by", "_label_binarizer", "classes_", "n_features_in_", "n_outputs_",
    "out_activation_", "coefs_", "intercepts_",
)  # fmt: skip
_CHANGED = ("loss_", "n_iter_", "t_", "best_loss_", "_no_improvement_count")  # attributes that an epoch changes


class OnlineFit:
    """Calls of `partial_fit` for rows in plain arrays, as long as no parameter changes.

    Parameters
    ----------
    estimator : BaseMLP
        Fitted, with parameters that `_are_plain` accepts.
    session : Session
        Its trainer's.
    """

    def __init__(self, estimator: BaseMLP, session: Session) -> None:
        self._session, self._weights = session, session.engine.weights
        self._network: Network = estimator._network
        self._trainer: Trainer = estimator._trainer
        self._batch = estimator.batch_size
        self._shuffle = bool(estimator.shuffle)
        self._class_weights = estimator._weights_of_classes()
        self._saved = np.empty_like(self._weights.data)
        parameters = {name: getattr(estimator, name) for name in estimator._get_param_names()}
        self._lists = [(name, value, copy.copy(value)) for name, value in parameters.items() if _is_list(value)]
        values = estimator.__dict__
        names = [*parameters, *(name for name in _ATTRIBUTES if name in values)]
        self._watch = native.Watch([(values, name, values[name]) for name in names], [(values, len(values))], [])

    def _is_valid(self, estimator: BaseMLP) -> bool:
        """Return whether a call would be as the last one, for rows of the same kind."""
        return (
            self._watch.unchanged()
            and self._trainer._session is self._session
            and self._network.has_views(estimator.coefs_, estimator.intercepts_)
            and all(value == before for _, value, before in self._lists)
        )

    def learn(self, estimator: BaseMLP, X: Any, y: Any, sample_weight: Any, classes: Any) -> bool:
        """Train for one epoch over some rows; return False, without an effect, if the call needs all checks."""
        if not (self._is_valid(estimator) and type(X) is np.ndarray and type(y) is np.ndarray):
            return False
        if X.ndim != 2 or X.dtype not in _FLOATS or not 0 < len(X) == len(y):
            return False
        rows = len(X)
        size = min(_AUTO, rows) if self._batch == "auto" else self._batch
        if size > rows or rows > _MOST_STEPS * size or not estimator._has_classes(classes):
            return False
        target = estimator._encode_plain(y)
        weight = self._weight_of(target, sample_weight) if target is not None else None
        if target is None or (weight is None and not (sample_weight is None and self._class_weights is None)):
            return False
        if not self._session.mirror_parameters():
            return False
        before = self._state_of(estimator)
        try:
            made = self._make_epoch(estimator, X, y, target, weight, size)
        except KeyboardInterrupt:  # `held_interrupts` would take longer than a step
            self._restore(estimator, before)
            warnings.warn("Training interrupted by user.", stacklevel=3)
            return True
        if not made:  # the checks of the usual way say what is wrong, and leave the weights as a fit does
            self._restore(estimator, before)
        return made

    def _weight_of(self, target: Array, sample_weight: Any) -> Array | None:
        """Return the product of sample and class weights, float64; None if there is none, or one is not above 0."""
        weight: Array | None = None
        if sample_weight is not None:
            plain = type(sample_weight) is np.ndarray and sample_weight.dtype in _FLOATS
            if not plain or sample_weight.shape != (len(target),):
                return None
            weight = sample_weight.astype(np.float64, copy=False)
        if self._class_weights is not None:
            index = target if target.ndim == 1 else target[:, 0].astype(np.int64)
            balance = self._class_weights[index]
            weight = balance if weight is None else weight * balance
        return None if weight is None or not (weight > 0).all() else weight

    def _state_of(self, est: BaseMLP) -> tuple[Any, ...]:
        """Return what an epoch changes, for `_restore`; the arrays are copied."""
        np.copyto(self._saved, self._weights.data)
        trainer, values = self._trainer, est.__dict__
        counters = trainer.steps, trainer.optimizer.steps, trainer._order.place
        return *counters, [values[name] for name in _CHANGED], len(est.loss_curve_)

    def _restore(self, est: BaseMLP, state: tuple[Any, ...]) -> None:
        trainer, session = self._trainer, self._session
        made = trainer.steps != state[0]
        trainer.steps, trainer.optimizer.steps, trainer._order.place, values, epochs = state
        est.__dict__.update(zip(_CHANGED, values, strict=True))
        del est.loss_curve_[epochs:]
        if made and session.mirror is not None:
            np.copyto(self._weights.data, self._saved)
            session.mirror.write()

    def _make_epoch(self, est: BaseMLP, X: Array, y: Array, target: Array, weight: Array | None, size: int) -> bool:
        trainer, session, rows = self._trainer, self._session, len(X)
        native_steps, prepared = trainer._path.native, session.engine.prepared
        if native_steps is None or prepared is None or native_steps.prepared is not prepared:
            return False
        est._set_loss_constant(y.reshape(len(y), -1), weight)
        trainer._order.start(trainer.seed if self._shuffle else None, rows, rows)
        index = trainer._order.take_epoch()
        if index is None:
            return False
        X, target = X.take(index, 0), target.take(index, 0)
        if weight is not None:
            weight = weight.take(index)
        losses: list[float] = []
        penalties: list[float] = []
        for start in range(0, rows, size):
            batch = slice(start, start + size)
            loss = native_steps.fit(trainer, X[batch], target[batch], None if weight is None else weight[batch])
            if loss is None:
                return False
            losses.append(loss)
            penalties.append(float(prepared.penalties[0]))
        scale = est._loss_scale, est._loss_constant
        monitor = FitMonitor(est, est._optimizer, scale, rows, size, None, True, est._no_improvement_count)
        mean = monitor.mean_loss(losses, penalties)
        finite = math.isfinite(mean) and math.isfinite(sum(losses))
        if not (finite and session.mirror is not None and session.mirror.finite()):
            return False
        est.n_iter_, est.loss_ = 0, mean
        monitor.end_epoch(trainer, None)
        est._no_improvement_count = monitor.no_improvement_count
        if est.layer_norm:
            est._rest = self._network.other_arrays()
        return True

    def infer(self, estimator: BaseMLP, X: Array) -> Array | None:
        """Return the outputs of a few rows with the engine's weights, None if these or the rows need all checks."""
        path = self._trainer._path
        if path.native is None or not self._session.shared or not self._is_valid(estimator):
            return None
        return path.native.infer(self._trainer, X)  # type: ignore[no-any-return]


def prepare_online_fit(estimator: BaseMLP, X: Any) -> OnlineFit | None:
    """Return the prepared calls that may follow a `partial_fit` for the rows X; None if they need all checks."""
    if not (has_native() and type(X) is np.ndarray and X.ndim == 2 and X.dtype in _FLOATS and _are_plain(estimator)):
        return None
    trainer, network = estimator.__dict__.get("_trainer"), estimator.__dict__.get("_network")
    if trainer is None or network is None or network.model.backend_name != "numba":
        return None
    rows = min(len(X), _AUTO if estimator.batch_size == "auto" else estimator.batch_size)
    session = trainer._open_session(None, rows, single=True)
    if session is None:
        return None
    prepared = session.engine.prepare(rows, X, trainer.loss.target_kind == "labels")
    prepared.admit(X, trainer.loss.target_kind == "labels")
    trainer._path.connect(session, network.model, trainer.loss, trainer.optimizer)
    return None if trainer._path.native is None else OnlineFit(estimator, session)


def _are_plain(estimator: BaseMLP) -> bool:
    """Return whether calls depend on the parameters' identity alone, and nothing listens to or augments them."""
    if any(getattr(estimator, name) for name in ("early_stopping", "progress_bar", "verbose")):
        return False
    if any(getattr(estimator, name) is not None for name in ("augment", "callbacks", "scoring")):
        return False
    if not estimator._takes_plain_rows() or estimator._optimizer.schedule != "constant":
        return False  # a change of the rate would read the optimizer's arrays
    if hasattr(estimator, "feature_names_in_"):  # arrays have none, which is a warning
        return False
    names = set(estimator._get_param_names()) - {"random_state"}  # whose identity counts
    values = (getattr(estimator, name) for name in names)
    return all(isinstance(value, _IMMUTABLE) or _is_list(value) for value in values)


def _is_list(value: Any) -> bool:
    """Return whether a value is a list, tuple or dict of values that cannot change."""
    if type(value) is dict:
        return all(isinstance(one, _IMMUTABLE) for one in value.values())
    return type(value) in (list, tuple) and all(isinstance(one, _IMMUTABLE) for one in value)
