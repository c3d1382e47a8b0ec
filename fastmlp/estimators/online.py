"""OnlineMLP: calls of `partial_fit` on the prepared steps of an estimator's trainer.

A call with all checks looks at each parameter and makes a fit with its listeners. What depends on the parameters is the
same in the next call, so that only their identity is compared, and the rows are checked by the native step.
"""

from __future__ import annotations

import copy
import functools
import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator

from .._common.validation import Array
from ..engine.native import has_native, native
from .solver import FitMonitor

if TYPE_CHECKING:
    from ..training.trainer import Trainer
    from .network import Network
    from .solver import Solver

__all__ = ["OnlineMLP", "on_prepared_steps"]

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


class _Prepared(NamedTuple):
    """Parameters and attributes on which calls of `partial_fit` depend.

    Attributes
    ----------
    watch : Watch
        Of the parameters and attributes.
    lists : list of (object, object)
        Lists and dicts among the parameters, and their contents.
    class_weights : ndarray or None
    """

    watch: native.Watch
    lists: list[tuple[Any, Any]]
    class_weights: Array | None


class OnlineMLP(BaseEstimator):  # type: ignore[misc]
    """Base class of `BaseMLP` that makes calls of `partial_fit` with rows in plain arrays."""

    _network: Network
    _trainer: Trainer
    _optimizer: Solver
    _loss_scale: float
    _loss_constant: float
    _no_improvement_count: int
    # None if the next call needs all checks. It exists after a first call, so that the number of attributes is known.
    _online: _Prepared | None

    def _takes_plain_rows(self) -> bool:
        """Return whether `_encode_plain` and `_weights_of_classes` cover the kind of targets."""
        return True

    def _encode_plain(self, y: Array) -> Array | None:
        """Return targets of a further call in the form of the loss, with unchecked numbers; None for other kinds."""
        raise NotImplementedError

    def _weights_of_classes(self) -> Array | None:
        """Return the class weights in the order of the classes; None for no weights."""
        return None

    def _has_classes(self, classes: Any) -> bool:
        """Return whether the argument ``classes`` of a further call says nothing new."""
        return classes is None

    def _set_loss_constant(self, Y: Array, weight: Array | None) -> None:
        """Set ``_loss_constant``, the part of the reported loss that does not depend on the weights."""

    # ---------------------------------------------------------------------------------- preparation

    def _prepare_online(self, X: Any) -> None:
        """Prepare the calls that may follow a call of `partial_fit` for the rows X, unless they need all checks."""
        self._online = None
        if not (has_native() and type(X) is np.ndarray and X.ndim == 2 and X.dtype in _FLOATS and self._is_plain()):
            return
        values = self.__dict__
        if "_trainer" not in values or "_network" not in values:
            return
        rows = min(len(X), _AUTO if self.batch_size == "auto" else self.batch_size)
        if not self._trainer.prepare_epochs(X, rows):
            return
        parameters = {name: getattr(self, name) for name in self._get_param_names()}
        names = [*parameters, *(name for name in _ATTRIBUTES if name in values)]
        watch = native.Watch([(values, name, values[name]) for name in names], [(values, len(values))], [])
        lists = [(value, copy.copy(value)) for value in parameters.values() if _is_list(value)]
        self._online = _Prepared(watch, lists, self._weights_of_classes())

    def _is_plain(self) -> bool:
        """Return whether calls depend on the parameters' identity alone, and nothing listens to or augments them."""
        if any(getattr(self, name) for name in ("early_stopping", "progress_bar", "verbose")):
            return False
        if any(getattr(self, name) is not None for name in ("augment", "callbacks", "scoring")):
            return False
        if self.n_nets > 1:  # whose steps would be those of the first net alone
            return False
        if hasattr(self, "feature_names_in_"):  # arrays have none, which is a warning
            return False
        if self.shuffle == "windows":  # epochs on prepared steps are shuffled fully, or not
            return False
        if not self._takes_plain_rows() or self._optimizer.schedule != "constant":
            return False  # a change of the rate would read the optimizer's arrays
        names = set(self._get_param_names()) - {"random_state"}  # whose identity counts
        values = (getattr(self, name) for name in names)
        return all(isinstance(value, _IMMUTABLE) or _is_list(value) for value in values)

    def _is_unchanged(self) -> bool:
        """Return whether a call would be as the last one, for rows of the same kind."""
        online = self.__dict__.get("_online")
        return (
            online is not None
            and online.watch.unchanged()
            and self._network.has_views(self.coefs_, self.intercepts_)
            and all(value == before for value, before in online.lists)
        )

    # ---------------------------------------------------------------------------------------- calls

    def _continue(self, X: Any, y: Any, sample_weight: Any, classes: Any) -> bool:
        """Train for one epoch over some rows; return False, without an effect, if the call needs all checks."""
        if not (self._is_unchanged() and type(X) is np.ndarray and type(y) is np.ndarray):
            return False
        if X.ndim != 2 or X.dtype not in _FLOATS or y.ndim < 1 or not 0 < len(X) == len(y):
            return False
        rows = len(X)
        size = min(_AUTO, rows) if self.batch_size == "auto" else self.batch_size
        if size > rows or rows > _MOST_STEPS * size or not self._has_classes(classes):
            return False
        target = self._encode_plain(y)
        if target is None:
            return False
        weight = None
        if sample_weight is not None or self._online.class_weights is not None:  # type: ignore[union-attr]
            weight = self._weight_of(target, sample_weight)
            if weight is None:
                return False
        before = [self.__dict__[name] for name in _CHANGED], len(self.loss_curve_)
        try:
            return self._make_epoch(X, y, target, weight, size)
        except KeyboardInterrupt:  # `held_interrupts` would take longer than a step
            self._trainer.undo_epoch()
            self.__dict__.update(zip(_CHANGED, before[0], strict=True))
            del self.loss_curve_[before[1] :]
            warnings.warn("Training interrupted by user.", stacklevel=3)
            return True

    def _weight_of(self, target: Array, sample_weight: Any) -> Array | None:
        """Return the product of sample and class weights, float64; None if it needs checks or one is not above 0."""
        weight: Array | None = None
        if sample_weight is not None:
            plain = type(sample_weight) is np.ndarray and sample_weight.dtype in _FLOATS
            if not plain or sample_weight.shape != (len(target),):
                return None
            weight = sample_weight.astype(np.float64, copy=False)
        assert self._online is not None
        if self._online.class_weights is not None:
            index = target if target.ndim == 1 else target[:, 0].astype(np.int64)
            balance = self._online.class_weights[index]
            weight = balance if weight is None else weight * balance
        return weight if weight is not None and (weight > 0).all() else None

    def _make_epoch(self, X: Array, y: Array, target: Array, weight: Array | None, size: int) -> bool:
        made = self._trainer.make_epoch(X, target, weight, size, bool(self.shuffle))
        if made is None:
            return False
        self._set_loss_constant(y.reshape(len(y), -1), weight)
        of_loss = self._loss_scale, self._loss_constant
        monitor = FitMonitor(self, self._optimizer, of_loss, len(X), size, None, True, self._no_improvement_count)
        loss = monitor.mean_loss(*made)
        if not math.isfinite(loss):  # the fit makes the epoch again, and says so
            self._trainer.undo_epoch()
            return False
        self.n_iter_, self.loss_ = 0, loss
        monitor.end_epoch(self._trainer, None)
        self._no_improvement_count = monitor.no_improvement_count
        if self.layer_norm:
            self._rest = self._network.other_arrays()
        return True

    def _infer_online(self, X: Any) -> Array | None:
        """Return the outputs of a few rows by prepared steps; None if the parameters or the rows need checks."""
        if type(X) is not np.ndarray or X.dtype not in _FLOATS or not self._is_unchanged():
            return None
        return self._trainer.infer_prepared(X)


def on_prepared_steps(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a `partial_fit` to take the prepared steps of the last call first, and to prepare those of the next."""

    @functools.wraps(method)
    def call(self: OnlineMLP, X: Any, y: Any, sample_weight: Any = None, *rest: Any, **named: Any) -> Any:
        if self.__dict__.get("_online") is not None and len(rest) + len(named) <= 1 and named.keys() <= {"classes"}:
            if self._continue(X, y, sample_weight, rest[0] if rest else named.get("classes")):
                return self
        continued = hasattr(self, "coefs_")
        self._online = None
        method(self, X, y, sample_weight, *rest, **named)
        if continued:
            self._prepare_online(X)
        return self

    return call


def _is_list(value: Any) -> bool:
    """Return whether a value is a list, tuple or dict of values that cannot change."""
    if type(value) is dict:
        return all(isinstance(one, _IMMUTABLE) for one in value.values())
    return type(value) in (list, tuple) and all(isinstance(one, _IMMUTABLE) for one in value)
