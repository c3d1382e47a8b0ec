"""What is timed: nets, data and batches, the same ones for every contender."""

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

SEED = 1  # of data, weights and order


@dataclass(frozen=True)
class Case:
    """One net and how it is trained.

    Attributes
    ----------
    name : str
    sizes : tuple of int
        Widths, from the inputs to the outputs.
    activation : str
        After each hidden layer.
    loss : {"cross entropy", "binary cross entropy", "squared error"}
    optimizer : {"SGD", "Adam"}
        With PyTorch's defaults, but for ``momentum`` of SGD.
    batch : int
    lr : float
        Small, so that no contender's numbers run away in the many steps of a timing. After Adam's first steps,
        which change each weight by as much, units switched by rounding would tell all contenders apart at 1e-3.
    momentum : float
    eps : float
        Of Adam. What is added to the root of its squares hides the rounding errors of gradients of that size, which
        the steps would make as large as any other gradient.
    rows : int
        Of the data set.
    uint8 : bool
        Whether the data are bytes, of which a step subtracts the mean of each column; else float32.
    asked : float or None
        How many times as fast as the best peer fastmlp is meant to be.
    kind : str
        What is timed; there is only training so far.
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
    asked: float | None = None
    kind: str = "training"

    @property
    def net(self) -> str:
        """Widths and activation, as ``28-300x5-1 tanh``."""
        groups = ((width, len(list(same))) for width, same in itertools.groupby(self.sizes))
        widths = "-".join(f"{width}x{count}" if count > 1 else str(width) for width, count in groups)
        return f"{widths} {self.activation}"

    @property
    def useful_operations(self) -> int:
        """Of the products of a step: forward, the weights' gradients, and the inputs' but of the first layer."""
        layers = [before * after for before, after in itertools.pairwise(self.sizes)]
        return 2 * self.batch * (3 * sum(layers) - layers[0])

    def model(self, data: Data, dtype: Any = np.float32) -> MLP:
        """The net with its first weights."""
        scaling = None if data.mean is None else Normalize(data.mean, np.ones_like(data.mean), dtype)
        first, *hidden, last = self.sizes
        return MLP(first, hidden, last, self.activation, normalize=scaling, dtype=dtype, rng=SEED)

    def make_loss(self) -> Loss:
        """The loss."""
        kinds: dict[str, type[Loss]] = {
            "cross entropy": CrossEntropyLoss,
            "binary cross entropy": BCEWithLogitsLoss,
            "squared error": MSELoss,
        }
        return kinds[self.loss]()

    def make_optimizer(self) -> Optimizer:
        """The optimizer."""
        if self.optimizer == "Adam":
            return Adam(lr=self.lr, eps=self.eps)
        return SGD(lr=self.lr, momentum=self.momentum)

    @property
    def update(self) -> str:
        """The optimizer's name, and its momentum."""
        return f"{self.optimizer} {self.momentum:g}" if self.momentum else self.optimizer


@dataclass(frozen=True)
class Data:
    """Rows of a case, their targets, and the mean of each column of bytes."""

    X: Array
    y: Array
    mean: Array | None

    @property
    def nbytes(self) -> int:
        """Of all its arrays."""
        return self.X.nbytes + self.y.nbytes + (0 if self.mean is None else self.mean.nbytes)


_BYTES: dict[str, Any] = {"uint8": True, "lr": 1e-4}
_CE, _BCE = "cross entropy", "binary cross entropy"

CASES = {
    case.name: case
    for case in (
        Case("seed", (3072, 100, 10), "elu", _CE, "SGD", 200, asked=2.0, **_BYTES),
        Case("figure1", (3072, 40, 50, 40, 10), "elu", _CE, "SGD", 200, asked=3.0, **_BYTES),
        Case("tabular", (30, 64, 64, 2), "relu", _CE, "Adam", 32, 1e-4, asked=4.0),
        Case("mnist", (784, 512, 512, 10), "relu", _CE, "Adam", 128, 1e-4, asked=1.6),
        Case(
            "higgs", (28, *[300] * 5, 1), "tanh", "binary cross entropy", "SGD", 100, 1e-2, 0.9, rows=20_000, asked=1.4
        ),
        Case("big", (1024, *[2048] * 3, 10), "relu", _CE, "SGD", 1024, 1e-2, rows=8192, asked=1.2),
        Case("one", (8, 16, 1), "tanh", "squared error", "SGD", 1, 1e-2, asked=20.0),
    )
}


def make_data(case: Case) -> Data:
    """Random rows and targets; nothing can be learnt from them, and a step costs the same as on others."""
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
    """Copies of weight (O, I) and bias (O,) of each layer in turn, float32."""
    return [np.array(array) for _, array in case.model(data).named_parameters()]


def batches(case: Case, steps: int) -> Array:
    """The rows of each of the first ``steps`` steps, (steps, batch), in the order that `Trainer.fit` takes them.

    A short last batch of an epoch is left out.
    """
    an_epoch = case.rows // case.batch
    if not an_epoch:
        raise ValueError(f"{case.name} has {case.rows} rows; expected at least a batch of {case.batch}.")
    epochs = [
        np.asarray(shuffle_order(SEED, epoch, case.rows))[: an_epoch * case.batch]
        for epoch in range(ceil_div(steps, an_epoch))
    ]
    return np.concatenate(epochs).reshape(-1, case.batch)[:steps].astype(np.int64)
