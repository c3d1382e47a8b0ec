"""Steps of a trainer that the caller drives one by one."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .._common.errors import DivergenceError, PerformanceWarning, warn_user
from .._common.interrupts import held_interrupts
from .._common.validation import Array, as_gradient, as_integer, as_number, finite_features, require_rows
from ..losses import Loss
from ..modules import Module
from ..optim import Optimizer
from .evaluator import Evaluator
from .module_steps import QUIET, ModuleSteps
from .ranks import Ranks
from .step_inputs import as_step_inputs
from .step_path import StepPath

if TYPE_CHECKING:
    from .._kernels.compiled.native import NativeInference, NativeStep
    from ..engine.prepared import PreparedInference
    from ..engine.session import Session
    from ..engine.storage import Weights

__all__ = ["SingleSteps", "Stepper", "TargetNetwork"]

_WITH_ENGINE = ("numba", "cuda")
_FEW_ROWS = 256  # below this number of rows, one thread computes the outputs


class SingleSteps(Evaluator):
    """Base class of `Trainer` that makes steps on single batches; see there for the parameters and attributes."""

    def __init__(self, model: Module, loss: Loss, optimizer: Optimizer, l2: float) -> None:
        super().__init__(model, loss)
        if not isinstance(optimizer, Optimizer):
            raise ValueError(f"{type(self).__name__} expected an Optimizer, got {optimizer!r}.")
        self.optimizer = optimizer
        self.l2 = as_number(l2, "l2", 0)
        self.steps = 0
        self.seed: int | None = None
        self.last_lr = optimizer.current_lr
        # The engine's session, which makes many steps in one native call; None if the engine cannot make the steps.
        self._session: Session | None = None
        self._path = StepPath()
        self._refused: tuple[Any, ...] = ()
        self._slow_reasons: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        if self._session is not None:
            self._session.detach()
        return {**self.__dict__, "_session": None, "_path": StepPath()}

    def _open_session(self, threads: int | None, batch: int, single: bool = False) -> Session | None:
        """Return the engine's session for batches of this size, or None if steps are made module by module.

        ``single``: for steps that are made one by one, see `Session.step`.
        """
        key = (self.model, self.loss, self.optimizer, threads, batch)
        if self._session is not None and (self._session.fits_steps if single else self._session.fits)(*key):
            return self._session
        if self._session is not None:
            self._session.close()
            self._session = self._path.native = None
        subject = (self.model, self.loss, self.optimizer, self.model.backend_name)
        if self.model.backend_name not in _WITH_ENGINE or self._refused == subject:
            return None
        from ..engine.session import open_session  # may import Numba
        from ..engine.support import Unsupported

        try:
            self._session = open_session(*key)
        except Unsupported as reason:
            self._warn_slower(str(reason))
        self._refused = () if self._session else subject
        return self._session

    def _warn_slower(self, reason: str) -> None:
        """Warn once for each reason why steps are made module by module."""
        if reason not in self._slow_reasons:
            self._slow_reasons.add(reason)
            warn_user(f"Training goes module by module, which is slower: {reason}.", PerformanceWarning)

    def _advance(
        self, run: Callable[..., tuple[Array, Array, Array]], arguments: tuple[Any, ...]
    ) -> tuple[Array, Array]:
        """Make steps by ``run``; return their losses and the penalties contained in them."""
        losses, rates, penalties = run(*arguments)
        self.last_lr = float(rates[len(losses) - 1])
        self.steps += len(penalties)
        if len(penalties) < len(losses):
            raise self._diverged(f"the loss of step {self.steps + 1} is {losses[-1]}")
        return losses + penalties, penalties

    def _diverged(self, what: str) -> DivergenceError:
        return DivergenceError(f"Training diverged: {what}, at learning rate {self.last_lr:g}.")

    def step(self, x: Any, y: Any, sample_weight: Any = None) -> float:
        """Make one update on one batch, for online and reinforcement learning.

        Parameters
        ----------
        x, y, sample_weight
            The batch, see `fit`.

        Returns
        -------
        float
            Loss of the batch before the update.

        Raises
        ------
        ValueError
            As `fit`.
        DivergenceError
            If the loss is not finite; the weights are unchanged.
        """
        return self._step_on(self._path, x, y, sample_weight)

    def _step_on(self, path: StepPath, x: Any, y: Any, sample_weight: Any) -> float:
        """Make a step on the fastest path that its inputs and the settings allow."""
        native = path.native
        if native is not None:
            loss = native.step(self, x, y, sample_weight)
            if loss is None:
                loss = self._converted_step(native, x, y, sample_weight)
            if loss is not None:
                return loss
        return self._general_step(path, x, y, sample_weight)

    def _converted_step(self, native: NativeStep, x: Any, y: Any, sample_weight: Any) -> float | None:
        """Make a step of other kinds of inputs, or of several threads, on the native path; None for the general one."""
        dtype = self.model.dtype
        if dtype is None:
            return None
        arrays = as_step_inputs(x, y, sample_weight, dtype, self.loss.target_kind == "labels")
        if arrays is None:
            return None
        with held_interrupts():
            return native.step(self, *arrays, any_threads=True)

    def _by_modules(self, batch: int, ranks: Ranks | None = None) -> ModuleSteps:
        return ModuleSteps(self.model, self.loss, self.optimizer, batch, ranks)

    @contextlib.contextmanager
    def _on_session(self, session: Session, path: StepPath) -> Iterator[None]:
        """Context of a call of the session in Python, after which the native path is prepared."""
        with held_interrupts():
            try:
                session.reserve(path.rows)
                yield
            finally:
                session.share()
        path.connect(session, self.model, self.loss, self.optimizer)

    def _general_step(self, path: StepPath, x: Any, y: Any, sample_weight: Any) -> float:
        """Make a step with all checks in Python, and prepare the native path."""
        batch = self._check(x, y, sample_weight, "step")
        if not self.model.training:
            self.model.train()
        session = self._open_session(None, max(len(batch), path.rows), single=True)
        arguments = (self.seed, self.steps, self.l2)
        if session is None:
            whole = np.arange(len(batch)), np.array([0, len(batch)])
            with np.errstate(**QUIET):
                return float(self._advance(self._by_modules(len(batch)).run, (batch, *whole, *arguments))[0][0])
        with self._on_session(session, path):
            losses, _ = self._advance(session.step, (batch, *arguments))
        return float(losses[0])

    def stepper(self, batch_size: int = 1, *, check: bool = True) -> Stepper:
        """Return an object that makes single steps, also from gradients that the caller computes.

        Parameters
        ----------
        batch_size : int
            Expected number of rows of a batch. A larger batch is possible; the first one takes longer, since buffers
            grow.
        check : bool
            Whether to check that features and targets are finite and in range. Dtypes, shapes and class indices are
            checked in any case. Without the check, only a loss or gradient that is not finite is reported.

        Returns
        -------
        Stepper
            Has `step`, `forward`, `backward`, `infer` and `target_network`, see there. It may alternate with other
            methods of the trainer; all use the same model, optimizer and counters.

        Raises
        ------
        ValueError
            If ``batch_size`` is not a positive integer.

        Examples
        --------
        The loss of a policy gradient, by its gradient with respect to the logits:

        >>> import fastmlp as fm, numpy as np
        >>> trainer = fm.Trainer(fm.MLP(4, [16], 2, rng=0), fm.CrossEntropyLoss(), fm.Adam(0.01))
        >>> stepper = trainer.stepper(batch_size=3)
        >>> states, actions, advantages = np.ones((3, 4)), np.array([0, 1, 0]), np.array([1.0, -1.0, 0.5])
        >>> logits = stepper.forward(states)
        >>> probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        >>> stepper.backward((probabilities - np.eye(2)[actions]) * advantages[:, None] / 3)
        >>> trainer.steps
        1
        """
        return Stepper(self, batch_size, check=check)

    def _features(self, path: StepPath, X: Any, what: str) -> tuple[Array, Session | None]:
        """Return checked features and the session for their number of rows."""
        features = finite_features(X, self.model.in_width, self.model.dtype, what)
        require_rows(len(features), what)
        session = self._open_session(None, max(len(features), path.rows), single=True)
        return features, session if self.model.backend_name == "numba" else None

    def _general_forward(self, path: StepPath, x: Any) -> Array:
        """Compute a forward pass with all checks in Python, and prepare the native path."""
        if not self.model.training:
            self.model.train()
        features, session = self._features(path, x, "forward: x")
        path.pending = None
        if session is None:
            outputs = self._by_modules(len(features)).forward(features, self.seed, self.steps)
            path.pending = outputs.shape
            return outputs
        with self._on_session(session, path):
            outputs = session.forward(features, self.seed, self.steps)
        return outputs

    def _general_backward(self, path: StepPath, gradient: Any) -> None:
        """Make a step from a gradient with all checks in Python."""
        session = None
        shape, arguments = path.pending, (self.l2,)
        if shape is None and self._session is not None and self._session.pending:
            session = self._open_session(None, self._session.pending, single=True)  # a new one if settings changed
            if session is not None and session.pending:
                shape = session.pending, session.outputs
        if shape is None:
            raise RuntimeError("backward was called without a forward before it, or settings have changed since.")
        dtype = self.model.dtype or np.dtype(np.float32)
        gradient = as_gradient(gradient, shape, dtype, "Stepper")
        try:
            if session is None:
                path.pending = None
                with np.errstate(**QUIET):
                    self._advance(self._by_modules(len(gradient)).backward, (gradient, *arguments))
                return
            with held_interrupts():
                try:
                    self._advance(session.backward, (gradient, self.seed, self.steps, *arguments))
                finally:
                    session.share()
        except DivergenceError:
            raise self._diverged(f"the gradient of step {self.steps + 1} is not finite") from None

    def _outputs(self, X: Any, what: str) -> Array:
        session, native = self._session, self._path.native
        # Between single steps the engine has the weights: reading them from the model would end the native path.
        if session is not None and native is not None and session.shared:
            if type(X) is np.ndarray and X.ndim == 2 and 0 < len(X) < _FEW_ROWS:
                outputs = native.infer(self, X)
                return self._general_infer(self._path, X, what) if outputs is None else outputs
        return super()._outputs(X, what)

    def _general_infer(self, path: StepPath, x: Any, what: str = "infer: x") -> Array:
        """Compute outputs in evaluation mode with all checks in Python, and prepare the native path."""
        features, session = self._features(path, x, what)
        if session is None:
            outputs: Array = self.model.backend.to_numpy(self.model.infer(features[:]))
            return outputs
        with self._on_session(session, path):
            outputs = session.infer_few(features)
        return outputs


class Stepper:
    """Single steps of a trainer, for online and reinforcement learning, as `Trainer.stepper` makes them.

    It may alternate with other steppers and the methods of the trainer; all use the same model, optimizer and counters.

    Parameters
    ----------
    trainer : Trainer
    batch_size : int
    check : bool
        See `Trainer.stepper`.

    Attributes
    ----------
    trainer : Trainer

    Raises
    ------
    ValueError
        If an argument is of another type, or ``batch_size`` is not positive.

    Examples
    --------
    >>> import fastmlp as fm, numpy as np
    >>> trainer = fm.Trainer(fm.MLP(4, [16], 2, rng=0), fm.HuberLoss(), fm.Adam(0.01))
    >>> def online(stepper: fm.Stepper, x, y):
    ...     return stepper.step(x, y)
    >>> loss = online(trainer.stepper(), np.ones((1, 4)), np.ones((1, 2)))
    >>> trainer.steps
    1
    """

    def __init__(self, trainer: SingleSteps, batch_size: int = 1, *, check: bool = True) -> None:
        if not isinstance(trainer, SingleSteps):
            raise ValueError(f"Stepper expected a Trainer, got {trainer!r}.")
        self.trainer = trainer
        self._path = StepPath(bool(check), as_integer(batch_size, "batch_size"))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_path": StepPath(self._path.check, self._path.rows)}

    def __repr__(self) -> str:
        return f"Stepper({self.trainer!r}, batch_size={self._path.rows}, check={self._path.check})"

    def step(self, x: Any, y: Any, sample_weight: Any = None) -> float:
        """Make one update on one batch and return its loss, see `Trainer.step`."""
        return self.trainer._step_on(self._path, x, y, sample_weight)

    __call__ = step

    def forward(self, x: Any) -> Array:
        """Compute the outputs in training mode, and keep the values that `backward` needs.

        Parameters
        ----------
        x : array-like or sparse matrix of shape (N, features)

        Returns
        -------
        ndarray of shape (N, O)
            New array in the model's dtype.

        Raises
        ------
        ValueError
            If ``x`` has another shape or a value that is not finite.
        """
        native = self._path.native
        if native is not None:
            outputs = native.forward(self.trainer, x)
            if outputs is not None:
                return outputs  # type: ignore[no-any-return]
        return self.trainer._general_forward(self._path, x)

    def backward(self, grad_outputs: Any) -> None:
        """Make one update from the gradient of a loss with respect to the outputs of the last `forward`.

        The loss is the caller's; that of the trainer is not used. The trainer's L2 penalty and the optimizer's clipping
        apply as in `step`. Reading or changing weights between `forward` and `backward` is possible; another step in
        between is not.

        Parameters
        ----------
        grad_outputs : array-like of shape (N, O)

        Raises
        ------
        RuntimeError
            If there was no `forward` since the last update or change of settings.
        ValueError
            If the gradient has another shape.
        DivergenceError
            If the gradient is not finite; the weights are unchanged.
        """
        native = self._path.native
        if native is None or native.backward(self.trainer, grad_outputs) is None:
            self.trainer._general_backward(self._path, grad_outputs)

    def infer(self, x: Any) -> Array:
        """Compute the outputs in evaluation mode; parameters, result and errors are those of `forward`."""
        native = self._path.native
        if native is not None:
            outputs = native.infer(self.trainer, x)
            if outputs is not None:
                return outputs  # type: ignore[no-any-return]
        return self.trainer._general_infer(self._path, x)

    def target_network(self) -> TargetNetwork:
        """Return a copy of the model that follows it by `TargetNetwork.update`."""
        return TargetNetwork(self)


class TargetNetwork:
    """Copy of a trainer's model whose weights follow the model's when asked, as in deep Q-learning.

    `Stepper.target_network` makes it, with the present weights. It computes in evaluation mode.

    Parameters
    ----------
    stepper : Stepper

    Raises
    ------
    ValueError
        If ``stepper`` is something else.

    Examples
    --------
    >>> import fastmlp as fm, numpy as np
    >>> stepper = fm.Trainer(fm.MLP(4, [16], 2, rng=0), fm.HuberLoss(), fm.Adam(0.01)).stepper()
    >>> target = stepper.target_network()
    >>> loss = stepper.step(np.ones((1, 4)), np.ones((1, 2)))
    >>> target.update(tau=0.005)  # target = 0.005 model + 0.995 target
    >>> target.infer(np.ones((1, 4))).shape
    (1, 2)
    """

    def __init__(self, stepper: Stepper) -> None:
        if not isinstance(stepper, Stepper):
            raise ValueError(f"TargetNetwork expected a Stepper, got {stepper!r}.")
        self._trainer, self._path = stepper.trainer, stepper._path
        self._make(copy.deepcopy(stepper.trainer.model).eval())

    def _make(self, model: Module) -> None:
        """Set the model, and its inference by the engine, None if the engine does not support it."""
        self._model = model
        self._engine: tuple[Weights, PreparedInference] | None = None
        self._native: NativeInference | None = None
        # Prepared steps, and the arguments of `NativeStep.blend` for their weights.
        self._blend: tuple[Any, tuple[Array, Array, Array]] | None = None
        self._lock = threading.Lock()
        session = self._trainer._open_session(None, self._path.rows, single=True)
        if session is None or model.backend_name != "numba":
            return
        from ..engine.prepared import PreparedInference, native_inference
        from ..engine.storage import Weights
        from ..engine.support import layers_of

        assert model.dtype is not None
        weights = Weights(layers_of(model), None, model.dtype)
        weights.allocate()
        prepared = PreparedInference(weights)
        self._engine, self._native = (weights, prepared), native_inference(prepared, self._path.check)

    def __getstate__(self) -> dict[str, Any]:
        return {"_trainer": self._trainer, "_path": StepPath(self._path.check, self._path.rows), "_model": self.model()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._trainer, self._path = state["_trainer"], state["_path"]
        self._make(state["_model"])

    def infer(self, x: Any) -> Array:
        """Compute the outputs (N, O) of features (N, I); errors are those of `Stepper.infer`."""
        with self._lock:
            if self._native is not None:
                outputs = self._native.run(x)
                if outputs is not None:
                    return outputs  # type: ignore[no-any-return]
            features = finite_features(x, self._model.in_width, self._model.dtype, "infer: x")
            require_rows(len(features), "infer: x")
            if self._engine is not None:
                return self._engine[1].run(features)
            found: Array = self._model.backend.to_numpy(self._model.infer(features[:]))
            return found

    __call__ = infer

    def update(self, tau: float = 1.0) -> None:
        """Move the weights toward those of the trainer's model: target = tau model + (1 - tau) target.

        Parameters
        ----------
        tau : float
            From 0 to 1, which copies the weights.

        Raises
        ------
        ValueError
            If ``tau`` is out of range.
        """
        tau = as_number(tau, "tau", 0, 1)
        with self._lock:
            native = self._path.native
            if native is not None and self._blend is not None and self._blend[0] is native.prepared:
                if native.blend(self._trainer, *self._blend[1], tau):
                    return
            self._general_update(tau)

    def _general_update(self, tau: float) -> None:
        trainer, session = self._trainer, None
        if self._engine is not None:
            session = trainer._open_session(None, self._path.rows, single=True)
        if session is not None and self._engine is not None:
            with held_interrupts():
                try:
                    arguments = session.blend_into(self._engine[0], tau)
                finally:
                    session.share()
            if self._path.native is not None:
                self._blend = self._path.native.prepared, arguments
            return
        if self._engine is not None:
            self._engine[0].unload()
        new, old = trainer.model.state_dict(), self._model.state_dict()
        for name, _ in self._model.named_parameters():
            share = old[name].dtype.type(tau)
            old[name] = new[name] if tau == 1 else old[name] + share * (new[name] - old[name])
        self._model.load_state_dict(old)
        if self._engine is not None:
            self._engine[0].load()

    def model(self) -> Module:
        """Return a copy of the target network as a model in evaluation mode."""
        with self._lock:
            if self._engine is not None:
                self._engine[0].unload()
            return copy.deepcopy(self._model)
