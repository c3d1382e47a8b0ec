"""Contender: one way to make the steps of a case, and where to find those that there are."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable

from .._common.installed import is_installed
from .._common.validation import Array
from .cases import Case, Data

__all__ = ["OURS", "PEERS", "Contender", "find", "missing"]

OURS = "fastmlp"

# name: (module here, class, the package that it needs)
PEERS = {
    "torch": ("with_torch", "Eager", "torch"),
    "torch.compile": ("with_torch", "Compiled", "torch"),
    "jax": ("with_jax", "Jax", "jax"),
    "scikit-learn": ("with_sklearn", "ScikitLearn", "sklearn"),
}


class Contender:
    """A model in training, from the case's first weights on.

    Parameters
    ----------
    case : Case
    data : Data
    weights : list of array
        See `first_weights`; copied.
    threads : int
        How many it may use.
    """

    precision = "float32"  # of products; others on a GPU

    def __init__(self, case: Case, data: Data, weights: list[Array], threads: int) -> None:
        self.case = case

    @classmethod
    def refuses(cls, case: Case) -> str | None:
        """Why it cannot do the arithmetic of a case; None where it can."""
        return None

    def losses(self, order: Array) -> list[float]:
        """Make the first steps, on the rows of `batches`; the loss of each."""
        raise NotImplementedError(f"{type(self).__name__} makes no steps.")

    def weights(self) -> list[Array]:
        """Copies of the arrays as they are now, of the shapes of `first_weights`."""
        raise NotImplementedError(f"{type(self).__name__} has no weights.")

    def ready(self, order: Array) -> Callable[[], object]:
        """A call that makes one step for each row of ``order`` and returns when all are made.

        What is done here before the call (copies of ``order``, compilation) is not timed.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be timed.")

    def seconds(self, order: Array) -> float:
        """How long these steps take."""
        call = self.ready(order)
        start = time.perf_counter()
        call()
        return time.perf_counter() - start


def missing(name: str) -> str | None:
    """Why a peer cannot take part here; None where it can."""
    package = PEERS[name][2]
    if not is_installed(package):
        return 'not installed: pip install "fastmlp[peers]"'
    return None


def find(name: str) -> type[Contender]:
    """The class of a contender."""
    module, kind, _ = ("ours", "Ours", "") if name == OURS else PEERS[name]
    found: type[Contender] = getattr(importlib.import_module(f".{module}", __package__), kind)
    return found
