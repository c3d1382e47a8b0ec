"""Benchmark cases: networks, data and batches, identical for every contender."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._common.arithmetic import ceil_div
from .._common.philox import shuffle_order
from .._common.validation import Array
from ..losses import Loss
from ..losses.bce import BCEWithLogitsLoss
from ..losses.cross_entropy import CrossEntropyLoss
from ..losses.mse import MSELoss
from ..modules import MLP, Normalize
from ..optim import Optimizer
from ..optim.adam import Adam
from ..optim.sgd import SGD

__all__ = ["CASES", "SEED", "Case", "Data", "batches", "first_weights", "make_data"]

SEED = 1  # of the data, the weights and the order of the rows


@dataclass(frozen=True)
class Case:
    """A network and its training configuration.

    Attributes
    ----------
    name : str
        Name of the case, as given to ``fastmlp bench --cases``.
    sizes : tuple of int
        Layer widths, from the inputs to the outputs.
    activation : str
        Activation after each hidden layer.
    loss : {"cross entropy", "binary cross entropy", "squared error"}
        Training loss.
    optimizer : {"SGD", "Adam"}
        Optimizer, with PyTorch's defaults except for ``momentum`` of SGD.
    batch : int
        Rows of a batch.
    lr : float
        Learning rate. It is small so that no contender diverges in the many steps of a timing. Adam's first steps
        change every weight by the learning rate: at 1e-3, units switched on or off by rounding errors would make all
        contenders disagree.
    momentum : float
        Momentum of SGD.
    eps : float
        Adam's ``eps``. It hides rounding errors of gradients of its size, which Adam would scale up to the size of
        any other gradient.
    rows : int
        Rows of the data set.
    uint8 : bool
        Whether the data are uint8, from which each step subtracts the mean of each column; otherwise float32.
    kind : str
        Timed operation; always ``"training"``.
    """

    name: str
    sizes: tuple[int, ...]
    activation: str
    loss: str
    optimizer: str
    batch: int
    lr: float = 1e-3
    momentum: float = 0.0
    eps: float = 1e-8
    rows: int = 10_000
    uint8: bool = False
    kind: str = "training"

    @property
    def net(self) -> str:
        """Widths and activation, for example ``28-300x5-1 tanh``."""
        groups = ((width, len(list(same))) for width, same in itertools.groupby(self.sizes))
        widths = "-".join(f"{width}x{count}" if count > 1 else str(width) for width, count in groups)
        return f"{widths} {self.activation}"

    @property
    def useful_operations(self) -> int:
        """Floating-point operations of the matrix products of a step.

        These are the forward pass, the gradients of all weights, and the gradients of the inputs of all layers but
        the first.
        """
        layers = [before * after for before, after in itertools.pairwise(self.sizes)]
        return 2 * self.batch * (3 * sum(layers) - layers[0])

    def model(self, data: Data, dtype: Any = np.float32) -> MLP:
        """Build the model with its initial weights."""
        scaling = None if data.mean is None else Normalize(data.mean, np.ones_like(data.mean), dtype)
        first, *hidden, last = self.sizes
        return MLP(first, hidden, last, self.activation, normalize=scaling, dtype=dtype, rng=SEED)

    def make_loss(self) -> Loss:
        """Build the loss."""
        kinds: dict[str, type[Loss]] = {
            "cross entropy": CrossEntropyLoss,
            "binary cross entropy": BCEWithLogitsLoss,
            "squared error": MSELoss,
        }
        return kinds[self.loss]()

    def make_optimizer(self) -> Optimizer:
        """Build the optimizer."""
        if self.optimizer == "Adam":
            return Adam(lr=self.lr, eps=self.eps)
        return SGD(lr=self.lr, momentum=self.momentum)

    @property
    def update(self) -> str:
        """Name of the optimizer, with its momentum if it is not 0."""
        return f"{self.optimizer} {self.momentum:g}" if self.momentum else self.optimizer


@dataclass(frozen=True)
class Data:
    """Rows and targets of a case, and the mean of each column if the rows are uint8."""

    X: Array
    y: Array
    mean: Array | None

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.X.nbytes + self.y.nbytes + (0 if self.mean is None else self.mean.nbytes)


_BYTES: dict[str, Any] = {"uint8": True, "lr": 1e-4}
_CE, _BCE = "cross entropy", "binary cross entropy"

CASES = {
    case.name: case
    for case in (
        Case("cifar10", (3072, 100, 10), "elu", _CE, "SGD", 200, **_BYTES),
        Case("figure1", (3072, 40, 50, 40, 10), "elu", _CE, "SGD", 200, **_BYTES),
        Case("tabular", (30, 64, 64, 2), "relu", _CE, "Adam", 32, 1e-4),
        Case("mnist", (784, 512, 512, 10), "relu", _CE, "Adam", 128, 1e-4),
        Case("higgs", (28, *[300] * 5, 1), "tanh", _BCE, "SGD", 100, 1e-2, 0.9, rows=20_000),
        Case("big", (1024, *[2048] * 3, 10), "relu", _CE, "SGD", 1024, 1e-2, rows=8192),
        Case("one", (8, 16, 1), "tanh", "squared error", "SGD", 1, 1e-2),
    )
}


def make_data(case: Case) -> Data:
    """Draw random rows and targets; a training step on them costs the same as on real data."""
    generator = np.random.default_rng(SEED)
    shape, outputs = (case.rows, case.sizes[0]), case.sizes[-1]
    mean = None
    if case.uint8:
        X: Array = generator.integers(0, 256, shape, np.uint8)
        mean = X.mean(axis=0, dtype=np.float64).astype(np.float32)
    else:
        X = generator.standard_normal(shape, np.float32)
    if case.loss == "cross entropy":
        y: Array = generator.integers(0, outputs, case.rows)
    elif case.loss == "binary cross entropy":
        y = generator.integers(0, 2, case.rows).astype(np.float32)
    else:
        y = generator.standard_normal(case.rows, np.float32)
    return Data(X, y, mean)


def first_weights(case: Case, data: Data) -> list[Array]:
    """Return copies of the initial weight (O, I) and bias (O,) of each layer in turn, in float32."""
    return [np.array(array) for _, array in case.model(data).named_parameters()]


def batches(case: Case, steps: int) -> Array:
    """Return the row indices of the first ``steps`` steps, (steps, batch), in the order of `Trainer.fit`.

    A shorter last batch of an epoch is dropped.
    """
    batches_per_epoch = case.rows // case.batch
    if not batches_per_epoch:
        raise ValueError(f"{case.name} has {case.rows} rows; expected at least {case.batch}, the rows of a batch.")
    epochs = [
        np.asarray(shuffle_order(SEED, epoch, case.rows))[: batches_per_epoch * case.batch]
        for epoch in range(ceil_div(steps, batches_per_epoch))
    ]
    return np.concatenate(epochs).reshape(-1, case.batch)[:steps].astype(np.int64)
