"""Loss and gradient of the L-BFGS objective."""

import numpy as np
import pytest
from checks import assert_matches
from scipy import sparse
from threadpoolctl import threadpool_info

from fastmlp._common.validation import SparseRows
from fastmlp.estimators import lbfgs
from fastmlp.estimators.network import Network, initial_weights
from fastmlp.losses.bce import BCEWithLogitsLoss
from fastmlp.losses.cross_entropy import CrossEntropyLoss
from fastmlp.losses.mse import MSELoss
from fastmlp.losses.poisson import PoissonLoss
from fastmlp.training.batches import check_rows
from fastmlp.training.module_steps import ModuleSteps

LOSSES = {
    "classes": (CrossEntropyLoss(), 3, lambda rng: rng.integers(0, 3, 11)),
    "labels": (BCEWithLogitsLoss(reduction="rows"), 3, lambda rng: rng.integers(0, 2, (11, 3)).astype(float)),
    "numbers": (MSELoss(reduction="rows", half=True), 2, lambda rng: rng.normal(size=(11, 2))),
    "counts": (PoissonLoss(reduction="rows"), 1, lambda rng: rng.poisson(2, (11, 1)).astype(float)),
}


@pytest.mark.sampled
@pytest.mark.parametrize("few", [0, 1 << 60], ids=["engine", "modules"])
@pytest.mark.parametrize("block", [1 << 21, 24], ids=["whole", "blocks of rows"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_gradient(name, weighted, block, few, rng, monkeypatch):
    monkeypatch.setattr(lbfgs, "_SMALL_WORK", few)
    monkeypatch.setattr(lbfgs, "_BLOCK", block)
    monkeypatch.setattr(lbfgs, "_ROWS", 1)
    loss, outputs, targets = LOSSES[name]
    weights = initial_weights([5, 8, outputs], "tanh", np.random.RandomState(0), np.dtype(np.float64))
    network = Network(*weights, activation="tanh", dropout=0.0, layer_norm=True, backend=None)
    weight = rng.uniform(0, 2, 11) * (np.arange(11) != 3) if weighted else None
    rows = check_rows(rng.normal(size=(11, 5)), targets(rng), weight, network.model, loss, "fit")
    objective = lbfgs.Objective(network, loss, rows, 0.3, 1.0, 0.0)
    assert isinstance(objective.steps, ModuleSteps) == (few > 0)
    network.model.train()
    theta = objective.start()
    value, comp = objective(theta)
    step = np.cbrt(np.finfo(float).eps)
    ref = np.array([(objective(theta + step * e)[0] - objective(theta - step * e)[0]) / (2 * step)
                    for e in np.eye(len(theta))])  # fmt: skip
    # The rule of the gradient check: relative 1e-6, with a floor for what rounding makes of the difference.
    floor = np.maximum(1e-3 * np.abs(comp).max(), 10 * np.finfo(float).eps * abs(value) / step / 1e-6)
    assert (np.abs(comp - ref) <= 1e-6 * np.maximum(np.maximum(np.abs(comp), np.abs(ref)), floor)).all()


@pytest.mark.parametrize("few", [0, 1 << 60], ids=["engine", "modules"])
def test_a_loss_that_is_not_finite(few, rng, monkeypatch):
    """Neither a number nor an error: SciPy ends the search."""
    monkeypatch.setattr(lbfgs, "_SMALL_WORK", few)
    weights = initial_weights([5, 8, 1], "relu", np.random.RandomState(0), np.dtype(np.float64))
    network = Network(*weights, activation="relu", dropout=0.0, layer_norm=False, backend=None)
    loss = MSELoss(reduction="rows", half=True)
    rows = check_rows(rng.normal(size=(11, 5)), rng.normal(size=(11, 1)), None, network.model, loss, "fit")
    objective = lbfgs.Objective(network, loss, rows, 0.0, 1.0, 0.0)
    theta = objective.start()
    ref = objective(theta)
    with np.errstate(over="ignore", invalid="ignore"):
        value, gradient = objective(theta * 1e200)
    assert not np.isfinite(value) and np.isnan(gradient).all()
    comp = objective(theta)
    assert comp[0] == ref[0] and (comp[1] == ref[1]).all()


KINDS = {
    "Fortran order": np.asfortranarray,
    "int16": lambda X: X.astype(np.int16),
    "uint8": lambda X: np.abs(X).astype(np.uint8),
    "sparse": sparse.csr_array,
    "sparse, too large to be dense": sparse.csc_array,
}


@pytest.mark.parametrize("name", KINDS)
def test_features_that_the_engine_does_not_read_in_place(name, rng, monkeypatch):
    """They are converted once, not at each evaluation; a large sparse matrix block by block."""
    monkeypatch.setattr(lbfgs, "_SMALL_WORK", 0)
    large = name.endswith("dense")
    monkeypatch.setattr(lbfgs, "_DENSE", 0 if large else 1 << 20)
    X = KINDS[name](np.round(rng.normal(size=(300, 5)) * 3))
    y, results = rng.integers(0, 3, 300), []
    for given in (X.toarray() if sparse.issparse(X) else X.astype(float, order="C"), X):
        weights = initial_weights([5, 8, 3], "tanh", np.random.RandomState(0), np.dtype(np.float64))
        network = Network(*weights, activation="tanh", dropout=0.0, layer_norm=False, backend=None)
        rows = check_rows(given, y, None, network.model, CrossEntropyLoss(), "fit")
        objective = lbfgs.Objective(network, CrossEntropyLoss(), rows, 0.3, 1.0, 0.0)
        network.model.train()
        results.append(objective(objective.start()))
        objective.close()
    assert isinstance(objective.steps, ModuleSteps) == large
    if not large:
        monkeypatch.setattr(SparseRows, "__getitem__", None)  # the matrix must not be read again
        assert objective(objective.start())[0] == results[1][0]
        objective.close()
    (ref, ref_gradient), (comp, gradient) = results
    assert_matches(np.array(ref), np.array(comp), 1e-12)
    assert_matches(ref_gradient, gradient, 1e-12)


def test_blas_has_its_threads_back_after_fits_at_the_same_time():
    """The one that ends first must not lift the limit, nor the last one keep it."""

    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before = threads()
    first, second = lbfgs._one_blas_thread(), lbfgs._one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(threads()) == {1}
    second.__exit__(None, None, None)
    assert threads() == before
