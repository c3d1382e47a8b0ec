"""User-defined losses: those with a formula train in the engine, others module by module."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from same_steps import assert_same_steps
from user_formulas import poly1, quartic

import fastmlp as fm
from fastmlp import losses
from fastmlp._kernels import formulas
from fastmlp.losses import ClasswiseLoss, ElementwiseLoss, loss_types, register_loss

numba = pytest.importorskip("numba")


class QuarticLoss(ElementwiseLoss):
    kernel = "users_quartic"
    numbers = (0.5, 0.0)


class Poly1Loss(ClasswiseLoss):
    kernel = "users_poly1"
    number_names = ("label_smoothing", "amount")

    def __init__(self, amount=0.7, class_weight=None, label_smoothing=0.0):
        super().__init__(class_weight, label_smoothing)
        self.amount = amount


class CubeLoss(ElementwiseLoss):
    """Without a formula: |x - t|^3 by NumPy."""

    def _call(self, x, target, row_scale, losses, dx):
        d = np.asarray(x) - target
        if losses is not None:
            losses[...] = row_scale * (np.abs(d) ** 3).sum(axis=1)
        if dx is not None:
            dx[...] = row_scale[:, None] * 3 * d * np.abs(d)


class WeightedLoss(fm.MSELoss):
    """Another way into a known loss."""

    def forward_backward(self, x, y, sample_weight=None, *, denominator=None):
        value, dx = super().forward_backward(x, y, sample_weight, denominator=denominator)
        return 2 * value, 2 * dx


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The losses above and their formulas, for a test."""
    monkeypatch.setattr(losses._registry, "_types", dict(losses._registry._types))
    monkeypatch.setitem(formulas._registered, "losses", {})
    formulas.register("losses", QuarticLoss.kernel, quartic)
    formulas.register("losses", Poly1Loss.kernel, poly1)
    for kind in (QuarticLoss, Poly1Loss, CubeLoss, WeightedLoss):
        fm.register_loss(kind)


def data(loss):
    generator = np.random.default_rng(2)
    X, labels = generator.standard_normal((33, 9)), generator.integers(0, 3, 33)
    return X, labels if loss.target_kind == "labels" else np.eye(3)[labels]


def trainer_of(loss, lr=0.05, dtype=np.float64):
    return fm.Trainer(fm.MLP(9, [8], 3, "tanh", dtype=dtype, rng=0), loss, fm.SGD(lr))


@pytest.mark.parametrize("kind", [QuarticLoss, Poly1Loss, CubeLoss])
def test_gradients(kind, backend, rng):
    loss = kind()
    x, targets = rng.normal(size=(6, 3)), data(loss)[1][:6]
    assert fm.check_gradients(loss, x=x, targets=targets, sample_weight=rng.uniform(0.1, 1, 6)).passed


def test_values(backend, rng):
    x, index, t = rng.normal(size=(4, 3)), np.array([0, 2, 1, 1]), rng.normal(size=(4, 3))
    assert QuarticLoss().forward(x, t) == pytest.approx(0.5 * ((x - t) ** 4).mean(), rel=1e-14)
    p = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True))[range(4), index]
    assert Poly1Loss().forward(x, index) == pytest.approx((-np.log(p) + 0.7 * (1 - p)).mean(), rel=1e-14)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the engine runs jitted only")
@pytest.mark.parametrize("make", [QuarticLoss, Poly1Loss, lambda: Poly1Loss(0.3, [0.5, 2.0, 1.0], 0.1)])
def test_a_formula_trains_in_the_engine(make, dtype):
    with fm.use_backend("numba"):
        model = lambda: fm.MLP(9, [8], 3, "tanh", dtype=dtype, rng=0)  # noqa: E731
        assert_same_steps(model, make, lambda: fm.SGD(0.1, 0.9), data(make()))


@pytest.mark.parametrize("kind", [CubeLoss, WeightedLoss])
def test_code_trains_module_by_module_and_says_so_once(kind):
    with fm.use_backend("numba"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = trainer_of(kind(), 0.02)
        rows = data(trainer.loss)
        history = trainer.fit(*rows, epochs=30, rng=0)
        trainer.fit(*rows, epochs=1)
    assert history["train_loss"][-1] < 0.5 * history["train_loss"][0]
    [warning] = caught
    assert warning.category is fm.PerformanceWarning
    assert f"the loss {kind.__name__} is not one that the engine knows" in str(warning.message)


@pytest.mark.filterwarnings("ignore::fastmlp.PerformanceWarning")
@pytest.mark.parametrize("kind", [QuarticLoss, Poly1Loss, CubeLoss])
def test_a_fit_is_saved_and_resumed(kind, tmp_path):
    class Kill(fm.Callback):
        def on_step(self, trainer, number, loss):
            if number == 7:
                raise ZeroDivisionError

    def fit(*extra, **options):
        trainer = trainer_of(kind(), dtype=np.float32)
        callbacks = [fm.SaveState(tmp_path / "state", every_steps=1), *extra]
        trainer.fit(*data(trainer.loss), callbacks=callbacks, **{"batch_size": 8, "epochs": 4, "rng": 5, **options})
        return trainer

    ref = fit()
    with pytest.raises(ZeroDivisionError):
        fit(Kill())
    comp = fit(resume=tmp_path / "state", rng=None)
    assert (ref.steps, ref.history["train_loss"]) == (comp.steps, comp.history["train_loss"])
    for name, array in ref.model.state_dict().items():
        np.testing.assert_array_equal(comp.model.state_dict()[name], array)
    fm.save(comp.model, tmp_path / "model")
    X = data(comp.loss)[0].astype(np.float32)
    np.testing.assert_array_equal(fm.load_model(tmp_path / "model").forward(X), comp.model.forward(X))


def test_what_may_be_registered():
    assert {QuarticLoss, Poly1Loss, CubeLoss} <= set(loss_types())
    assert register_loss(QuarticLoss) is QuarticLoss  # registering twice is allowed
    with pytest.raises(ValueError, match="Loss 'MSELoss' already exists; expected another name"):
        register_loss(type("MSELoss", (ElementwiseLoss,), {}))
    with pytest.raises(ValueError, match="Expected a class derived from Loss, got 3"):
        register_loss(3)
    with pytest.raises(ValueError, match="The name 'mse' is taken in losses"):
        formulas.register("losses", "mse", quartic)
    with pytest.raises(ValueError, match="family is 'loss'; expected one of activations, columns, losses, optimizers"):
        formulas.register("loss", "quartic", quartic)
    with pytest.raises(ValueError, match="The formula 'cube' is <class .*; expected a module"):
        formulas.register("losses", "cube", CubeLoss)
