"""Trainer: the training loop."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._common.arithmetic import ceil_div
from .._common.errors import DivergenceError, MappedFileError
from .._common.group import Group
from .._common.interrupts import held_interrupts
from .._common.random import Rng, as_seed
from .._common.validation import Array, as_integer, as_number
from ..callbacks.history import History, Record
from ..io.mapped_reads import GuardedReads
from ..io.row_paths import open_rows, open_rows_and_targets, open_validation
from ..io.training_state import read_training_state
from ..losses import Loss
from ..modules import Module
from ..optim import Optimizer
from .batches import RowSubset, TrainingData, require_weight
from .evaluation import evaluate_rows
from .fit import Fit
from .fits_over_ranks import FitsOverRanks
from .module_steps import QUIET
from .ranks import require_group, together

if TYPE_CHECKING:
    from ..engine.session import Session
    from .augmentation import Augmentation
    from .row_order import RowOrder

__all__ = ["Trainer"]


class Trainer(FitsOverRanks):
    """Train a model, predict with it and measure it (see `Evaluator`).

    Parameters
    ----------
    model : Module
        Trained in place, on its own backend.
    loss : Loss
        The loss; its task becomes the model's.
    optimizer : Optimizer
        Its state persists over several calls of `fit` and `step`.
    l2 : float
        L2 penalty: l2 / (2 m) times the sum of squares of the weights of all `Linear` layers is added to the loss of
        each batch, with m the number of rows or the sum of their sample weights (scikit-learn's ``alpha``). Biases and
        normalization layers are not penalized, and `evaluate` leaves the penalty out. The optimizer receives it as
        part of the gradient, before clipping.
    average : float, optional
        Decay d, from 0 to below 1, of an exponential moving average of the weights: average = d average + (1 - d) w
        after each update, starting from the initial weights (after Polyak and Juditsky, doi:10.1137/0330046).
        `averaged_model` returns it; training is not affected.
    classes : sequence, optional
        Labels of the classes in the order of their indices. `predict` returns them instead of indices, and they are
        saved with the model.
    precision : {"float32", "bf16x6", "tf32", "bf16"}, optional
        Precision of the matrix products to which the model is moved first, see `Module.to`. All but "float32" need a
        GPU.

    Attributes
    ----------
    steps : int
        Number of updates so far, over all calls.
    epoch : float
        Number of passes over the training rows.
    history : History
        Evaluations of the last `fit`, also of one that ended by an error or an interruption.
    seed : int or None
        Seed of the last `fit`.
    threads : int or None
        Largest number of threads of the last `fit`. A native engine makes the steps if it supports the model, the loss
        and the optimizer; it leaves no ``grads`` in the modules. Otherwise the steps are made module by module on one
        thread, and a `PerformanceWarning` gives the reason once.
    mean_threads : float or None
        Mean number of threads of the last `fit`: less than ``threads`` if other processes used the same processors, as
        a fit whose number of threads was not given then takes fewer threads for a while.
    order : RowOrder or None
        Order of the rows in the last `fit`; ``order.kind`` is "full", "windows" or "none", and ``str(order)`` gives the
        sizes and, if the kind depended on the free memory, the reason.
    last_lr : float
        Learning rate of the last update.
    planned_steps : int
        Number of updates that the last `fit` was to make.
    restored : int or None
        Step whose weights `EarlyStopping` restored.

    Raises
    ------
    ValueError
        If an argument is of another type or out of range, or the number of classes differs from that of the outputs.
    BackendError
        If the model's backend does not support the precision.

    Examples
    --------
    >>> import fastmlp as fm
    >>> X, y, X_test, y_test = fm.load("digits")
    >>> trainer = fm.Trainer(fm.MLP(64, [32], 10, rng=0), fm.CrossEntropyLoss(), fm.Adam(0.01))
    >>> history = trainer.fit(X / 16, y, epochs=5, rng=0)
    >>> trainer.evaluate(X_test / 16, y_test)["accuracy"] > 0.9
    True
    """

    def __init__(
        self,
        model: Module,
        loss: Loss,
        optimizer: Optimizer,
        *,
        classes: Sequence[Any] | None = None,
        l2: float = 0.0,
        average: float | None = None,
        precision: str | None = None,
    ) -> None:
        super().__init__(model, loss, optimizer, l2)
        if average is not None:
            optimizer.average = as_number(average, "average", 0, 1, open_high=True)
        model.task = loss.task
        if classes is not None:
            outputs = {"classification": model.out_width, "binary": 2}.get(loss.task, 0)
            if outputs is not None and len(classes) != outputs:
                raise ValueError(
                    f"classes has {len(classes)} labels; expected {outputs} for a model with "
                    f"{model.out_width} outputs and {type(loss).__name__}."
                )
        if precision is not None:
            model.to(precision=precision)
        if classes is not None:
            model.classes = list(classes)
        self.planned_steps = 0
        self._made: list[tuple[Array, Array]] = []
        self.threads: int | None = None
        self.mean_threads: float | None = None
        self.order: RowOrder | None = None

    @property
    def end(self) -> int:
        """Last step of the running `fit`; outside of a fit, the last step made."""
        return self.steps if self._fit is None else self._fit.end

    @property
    def epoch(self) -> float:
        """Number of passes over the training rows so far."""
        return self._order.epoch

    @property
    def step_losses(self) -> Array:
        """Losses of the updates between the last two evaluations of `fit`, shape (steps,)."""
        return np.concatenate([losses for losses, _ in self._made] or [np.zeros(0)])

    def __repr__(self) -> str:
        return f"Trainer({self.model!r}, {self.loss!r}, {self.optimizer!r}; {self.steps} steps made)"

    @property
    def step_penalties(self) -> Array:
        """L2 penalties contained in `step_losses`, shape (steps,)."""
        return np.concatenate([penalties for _, penalties in self._made] or [np.zeros(0)])

    def averaged_model(self) -> Module:
        """Return a copy of the model with the moving averages of its weights, in evaluation mode.

        Raises
        ------
        ValueError
            If the trainer has no ``average``, or has made no update.
        """
        averages = {name: kinds["average"] for name, kinds in self.optimizer.state.items() if "average" in kinds}
        if self.optimizer.average is None or not averages:
            raise ValueError("There are no averages of the weights; expected a Trainer(average=...) that has trained.")
        twin = copy.deepcopy(self.model)
        move = self.model.backend.to_numpy
        twin.load_state_dict({**twin.state_dict(), **{name: move(array) for name, array in averages.items()}})
        return twin.eval()

    def stop(self) -> None:
        """End the running `fit` after the current step; to be called from callbacks."""
        self._stopping = True

    # ------------------------------------------------------------------------------------ training

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        validation: Sequence[Any] | str | os.PathLike[str] | None = None,
        batch_size: int = 32,
        epochs: int | None = None,
        max_steps: int | None = None,
        eval_every: int | None = None,
        sample_weight: Any = None,
        callbacks: Any = (),
        rng: Rng = None,
        threads: int | None = None,
        shuffle: bool | str = True,
        drop_last: bool = False,
        accumulate: int = 1,
        augment: Augmentation | Iterable[Augmentation] | None = (),
        resume: str | os.PathLike[str] | None = None,
        group: Group | None = None,
        pieces: int | str | None = None,
    ) -> History:
        """Train the model; a second call continues with the optimizer's state.

        Ctrl-C takes effect between two steps and raises KeyboardInterrupt; the model then has the weights of the last
        step, and `history` has the evaluations so far.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (N, features), or path-like
            Features in any real dtype and memory layout, memory-mapped arrays included. Batches are cast to the
            model's dtype. Files are mapped: a .npy file, a folder of .npy files (joined in the order of their names),
            or the training part of a packed folder (see `fastmlp.datasets.pack`).
        y : array-like of shape (N,) or (N, O), or path-like
            Targets, see the loss. None takes those of the folder ``X``: a packed one, or one with ``part_y.npy`` beside
            each ``part_X.npy``.
        validation : (X, y), (X, y, sample_weight) or path of a packed folder, optional
            Rows to evaluate on; of a packed folder the test part.
        batch_size : int
            Rows of a batch. The last batch of an epoch may be smaller.
        epochs, max_steps : int, optional
            Length of this call in epochs or in steps; give one of them. Default: 10 epochs.
        eval_every : int, optional
            Steps from one evaluation to the next. Default: one epoch. The last step is followed by an evaluation too.
        sample_weight : array-like of shape (N,), optional
            Weights of the rows. Rows of weight 0 are left out.
        callbacks : callback or list of callbacks
            See `Callback`; a plain function is called as ``f(trainer, record)`` at each evaluation.
        rng : int, Generator or None
            Seed of the order of the rows, the Dropout masks and the augmentations, which are functions of the seed and
            the epoch or step. None takes the seed of the previous call, or a new one, which is stored as ``seed``.
        threads : int, optional
            Number of threads. None chooses by the work of a step, at most the processors that the process may use
            (affinity, cgroup quota, FASTMLP_NUM_THREADS, OMP_NUM_THREADS). Results do not depend on it.
        shuffle : bool or {"full", "windows"}
            Order of the rows, drawn anew for each epoch. "full": a random order of all rows. "windows": blocks of
            consecutive rows in random order, the rows mixed within windows of 64 blocks, which a disk reads fast. A
            block has about half a million features, such as 512 rows of 784. True is "windows" for rows in mapped
            files that are larger than the free memory, else "full"; in a resumed fit it is the order of the fit before.
            False keeps the order of the data.
        drop_last : bool
            Whether to leave out the last step of an epoch if it has fewer than ``batch_size * accumulate`` rows.
        accumulate : int
            Number of batches of a step. The update uses the gradient over all their rows, as a single larger batch
            would, with the memory of one batch. (On a GPU the batches are computed at once if their memory is small.)
        augment : HorizontalFlip, Mixup or GaussianNoise, a list of them, or None
            Random transformations of the training batches, see `fastmlp.training.augmentation`.
        resume : path-like, optional
            Training state, saved by `SaveState`, from which to continue. With the same data, arguments, model, loss,
            optimizer and callbacks the fit ends with the same bits as an uninterrupted one. ``rng`` may be left out,
            and ``threads`` may differ, as may the number of ranks.
        group : Group, optional
            Ranks that train the model together, see `fastmlp.distributed.mpi`; on the CPU only. All call `fit` with the
            same arguments. Each computes some pieces of each batch, and all end with the same weights, whose bits do
            not depend on the number of ranks. Rank 0 alone calls the callbacks, but those with ``every_rank``.
        pieces : int or "off", optional
            Number of pieces of a batch, a power of two that the number of ranks divides. The gradient of a batch is
            their sum as a binary tree, which has other last bits than the one sum of a fit without pieces and group.
            Default with a group: the largest number that leaves at least 64 rows each. "off" makes one for each rank,
            so that any number of ranks is possible and results depend on it.

        Returns
        -------
        History
            Evaluations of this call.

        Raises
        ------
        ValueError
            If an argument is out of range or the data has another shape or a value that is not finite; the message
            gives its row.
        DivergenceError
            If the loss, or a weight at an evaluation, is not finite. The model and the optimizer are then reset to the
            last evaluation at which all values were finite, or to the beginning of the call.
        ResumeError
            If ``resume`` is the state of a fit with other data, arguments or components.
        ModelFileError, OSError
            If ``resume`` is damaged or cannot be read.
        RankError
            If another rank of the group raised an exception; all leave after the same step.
        MappedFileError
            If a mapped file cannot be read any more, for example as it became shorter. The model is then reset as for a
            DivergenceError.
        """
        require_group(group)
        with contextlib.ExitStack() as stack:
            with together(group):
                X, y = open_rows_and_targets(X, y, "fit")
                sample_weight = open_rows(sample_weight, "fit: sample_weight")
                held_out_rows = open_validation(validation)
                features = X.X if isinstance(X, RowSubset) else X
                reads = stack.enter_context(GuardedReads((features, y, sample_weight, *(held_out_rows or ()))))
                train = self._check(X, y, sample_weight, "fit")
                require_weight(train, self.loss)
                held_out = None
                if held_out_rows is not None:
                    held_out = self._check(*held_out_rows, "validation", measured=True)
                    require_weight(held_out, self.loss)
            return self.fit_checked(
                train, held_out, reads, batch_size=batch_size, epochs=epochs, max_steps=max_steps,
                eval_every=eval_every, callbacks=callbacks, rng=rng, threads=threads, shuffle=shuffle,
                drop_last=drop_last, accumulate=accumulate, augment=augment, resume=resume, group=group, pieces=pieces,
            )  # fmt: skip

    def fit_checked(
        self,
        train: TrainingData,
        held_out: TrainingData | None,
        reads: GuardedReads,
        *,
        rng: Rng,
        threads: int | None,
        resume: str | os.PathLike[str] | None,
        **options: Any,
    ) -> History:
        """Train on rows that were checked.

        Parameters
        ----------
        train : TrainingData
            Training rows.
        held_out : TrainingData or None
            Rows of the validation.
        reads : GuardedReads
            Reads of the mapped files of both.
        rng, threads, resume, **options
            As for `fit`.

        Returns
        -------
        History
        """
        group: Group | None = options.get("group")
        with together(group):
            state = None if resume is None else read_training_state(resume)
            saved_shuffle = None if state is None else state["identity"].get("shuffle")
            fit = Fit(self, train, held_out, saved_shuffle=saved_shuffle, reads=reads, **options)
            if threads is not None:
                as_integer(threads, "threads")
            if state is not None and rng is None:
                rng = state["identity"].get("seed")
            if rng is not None or self.seed is None:
                self.seed = as_seed(rng)
        if group is not None:
            self.seed = group.share(self.seed)
        self.order = fit.order
        self._order.start(None if fit.order.kind == "none" else self.seed, len(train), fit.used, fit.order.block)
        self._order.announce = None if fit.windows_ahead is None else fit.read_block
        self._order.windows_ahead = fit.windows_ahead or 0
        with together(group):
            session = self._session_of(fit, threads)
        self._compare_ranks(fit)
        self.threads = 1 if session is None else session.threads
        self.history = History()
        self.planned_steps, self.restored, self._stopping = fit.planned, None, False
        self._window = (0.0, 0, 0)
        self._fit = fit
        try:
            return self._make_steps(fit, None if state is None else (state, resume), session)
        finally:
            self._fit = self._order.announce = None

    def _make_steps(self, fit: Fit, state: tuple[dict[str, Any], Any] | None, session: Session | None) -> History:
        """Steps and evaluations until the end of ``fit``; ``state`` to go on from, and where it was read."""
        listeners, history = fit.listeners, self.history
        if state is not None:
            with together(fit.group):
                self._resume(fit, *state)
        self.model.train()
        running = self._over_ranks(fit, listeners.running(self, resumed=state is not None))
        with held_interrupts() as check_interrupt, fit.reads_of_steps(), running:
            if session is not None:
                session.detach()  # of earlier steps; and a listener may have changed the weights
                session.begin_fit()
            # Listeners may change the arrays: then these are no copy of the last good ones.
            apart = session is None or fit.may_change_model or fit.looks_at_model
            good = self._snapshot(apart)
            try:
                while self.steps < fit.end and not self._stopping:
                    count = min(fit.every, fit.end - self.steps + self._window[1])
                    with np.errstate(**QUIET):
                        mean = self._run_steps(fit, count, check_interrupt)
                        with together(fit.group):
                            record = self._evaluation(mean, fit, check_interrupt)
                        history.append(record)
                    self._window = (0.0, 0, 0)
                    good = self._snapshot(apart)
                    with self._agreement(fit):
                        listeners.on_evaluation(self, history[-1])
                        if session is not None and listeners.may_change_model:
                            session.detach()
                    if fit.may_change_model:
                        self._share_state(fit)
            except (DivergenceError, MappedFileError) as error:
                self._restore(good)
                kept = f"The model keeps the weights of step {self.steps}"
                hint = "; a smaller learning rate may help" if isinstance(error, DivergenceError) else ""
                raise type(error)(f"{error} {kept}{hint}.") from None
            finally:
                self.mean_threads = 1.0 if session is None else session.mean_threads
                if session is not None:
                    session.close()
                self.model.eval()
        return history

    def _run_steps(self, fit: Fit, count: int, check_interrupt: Callable[[], None]) -> float:
        """Make ``count`` steps, or fewer after `stop`, and return the mean of their losses."""
        self._made = []
        while self._window[1] < count and not self._stopping:
            with self._agreement(fit):
                self._run_some(fit, count - self._window[1])
                check_interrupt()
            if self._is_changed:
                self._share_state(fit)
        total, done, empty = self._window
        return total / max(1, done - empty)

    def _run_some(self, fit: Fit, most: int) -> None:
        """Make the steps of one native call, or one step module by module, at most ``most``."""
        listeners, session = fit.listeners, self._session
        size = fit.size * fit.accumulate
        most = 1 if fit.listens("on_step") else most
        if session is None:
            index, bounds = self._order.take(size, 1)
        elif fit.ranks is not None and fit.ranks.several:
            index, bounds = self._order.take(size, min(most, self._chunk))
        else:
            index, bounds = session.take(self._order, fit.train, size, most)
        steps = self._by_modules(fit.size, fit.ranks) if session is None else session
        arguments = (fit.train, index, bounds, self.seed, self.steps, self.l2, fit.augment or None, fit.accumulate)
        with contextlib.ExitStack() as stack:
            if fit.ranks is not None:
                batches = int(ceil_div(np.diff(bounds), fit.size).sum())
                stack.enter_context(fit.ranks.summing(batches, steps.gradient_size, self.model.dtype))
            losses, penalties = self._advance(steps.run, arguments)
        if session is not None and listeners.listens("on_step"):
            session.detach()  # they may look at the weights, and change them
        fit.reads.check()
        self._made.append((losses, penalties))
        weightless = fit.weightless(index, bounds)
        counted = losses if weightless is None else losses[~weightless[: len(losses)]]
        # A sequential sum, which does not depend on the number of steps per native call.
        total, done, empty = self._window
        total, done = float(np.cumsum(np.append(total, counted))[-1]), done + len(losses)
        self._window = (total, done, empty + len(losses) - len(counted))
        if listeners.listens("on_step"):
            listeners.on_step(self, self.steps, float(losses[-1]))
        if listeners.listens("on_progress"):
            if session is not None and listeners.looks_at_model:
                session.share()
            listeners.on_progress(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_fit": None}

    # ---------------------------------------------------------------------------------- evaluation

    def _evaluation(self, train_loss: float, fit: Fit, check: Callable[[], None]) -> Record:
        session, held_out = self._session, fit.held_out
        infer = None if session is None else session.infer
        with fit.reads_of_passes():  # the held-out rows may be in the file of the training rows
            measured = (
                {}
                if held_out is None
                else evaluate_rows(self.model, self.loss, held_out, None, check, infer, fit.ranks)
            )
        fit.reads.check()
        if session is not None:
            finite = session.weights_are_finite()
        else:
            weights = (self.model.backend.to_numpy(array) for _, array in self.model.named_parameters())
            finite = all(np.isfinite(array).all() for array in weights)
        val_loss = measured.get("loss")
        if not math.isfinite(train_loss):  # the sum of finite losses overflowed
            raise self._diverged(f"after step {self.steps} the mean of the losses is {train_loss}")
        if not finite:
            raise self._diverged(f"after step {self.steps} a weight is not finite")
        if val_loss is not None and not math.isfinite(val_loss):
            raise self._diverged(f"after step {self.steps} the validation loss is {val_loss}")
        self.optimizer.schedule.update(train_loss if val_loss is None else val_loss)
        if session is not None:
            session.sync_to_user()
        return {
            "step": self.steps,
            "epoch": self.epoch,
            "train_loss": train_loss,
            "val_loss": val_loss,
            "val_accuracy": measured.get("accuracy"),
            "lr": self.last_lr,
            "seconds": time.perf_counter() - fit.began,
        }
