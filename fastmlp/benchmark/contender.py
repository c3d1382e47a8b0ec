"""Contenders of the training benchmark: their interface, and the table that finds them."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable

from .._common.installed import is_installed
from .._common.validation import Array
from .cases import Case, Data

__all__ = ["OURS", "PEERS", "Contender", "find", "missing"]

OURS = "fastmlp"

# name: (module of this package, class, required package)
PEERS = {
    "torch": ("with_torch", "Eager", "torch"),
    "torch.compile": ("with_torch", "Compiled", "torch"),
    "jax": ("with_jax", "Jax", "jax"),
    "scikit-learn": ("with_sklearn", "ScikitLearn", "sklearn"),
}


class Contender:
    """Base class of contenders: a model that is trained from the initial weights of a case.

    Parameters
    ----------
    case : Case
        Network and training configuration.
    data : Data
        Rows and targets.
    weights : list of array
        Initial weights, see `first_weights`; they are copied.
    threads : int
        Largest number of threads.
    """

    precision = "float32"  # of matrix products; others exist on a GPU only

    def __init__(self, case: Case, data: Data, weights: list[Array], threads: int) -> None:
        self.case = case

    @classmethod
    def refuses(cls, case: Case) -> str | None:
        """Return the reason why a case is not supported, or None if it is."""
        return None

    def losses(self, order: Array) -> list[float]:
        """Run the first steps on the rows of `batches`, and return the loss of each step."""
        raise NotImplementedError(f"{type(self).__name__} does not implement losses().")

    def weights(self) -> list[Array]:
        """Return copies of the current weights, in the shapes of `first_weights`."""
        raise NotImplementedError(f"{type(self).__name__} does not implement weights().")

    def ready(self, order: Array) -> Callable[[], object]:
        """Return a function that runs one step for each row of ``order``.

        The preparation (copies of ``order``, compilation) is not timed; the function returns after the last step.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement ready().")

    def seconds(self, order: Array) -> float:
        """Return the seconds that the steps of ``order`` take."""
        call = self.ready(order)
        start = time.perf_counter()
        call()
        return time.perf_counter() - start


def missing(name: str) -> str | None:
    """Return the reason why a peer cannot be timed on this machine, or None if it can."""
    package = PEERS[name][2]
    if not is_installed(package):
        return 'not installed: pip install "fastmlp[peers]"'
    return None


def find(name: str) -> type[Contender]:
    """Return the class of a contender."""
    module, kind, _ = ("ours", "Ours", "") if name == OURS else PEERS[name]
    found: type[Contender] = getattr(importlib.import_module(f".{module}", __package__), kind)
    return found
