"""All kernels of the package, for the build of the library of compiled kernels."""

from __future__ import annotations

import importlib
import itertools

from ..formulas import find, names, sums_over_classes
from . import augment, columns, elementwise, inference, loss_operations, losses, operations, updates

__all__ = ["declare_all"]


# Modules whose kernels are all at the top level, and declared by the import.
_PLAIN = ("binned", "engine", "linear", "peak", "rows", "shuffle")


def declare_all() -> None:
    """Fill `jit.KERNELS` and `jit.FUNCTION_POINTERS` for all formulas, dtypes of features and kinds of targets."""
    for name in _PLAIN:
        importlib.import_module(f".{name}", __package__)
    for kind in names("activations"):
        elementwise.forward_function(kind)
        for of_output in (False, True)[: 1 + hasattr(find("activations", kind), "derivative_of_output")]:
            elementwise.backward_function(kind, of_output)
    for kind in names("columns"):
        for make in (
            columns.columns_forward, columns.columns_backward, columns.panel_forward, columns.panel_backward,
            columns.panel_gradient,
            inference.columns_row,
        ):  # fmt: skip
            make(kind)
    for kind in names("losses"):
        if sums_over_classes(kind):
            for from_logits, plain in itertools.product((False, True), repeat=2):
                losses.classwise_function(kind, losses.way_of(kind, from_logits, plain))
        else:
            losses.elementwise_function(kind)
    for mixed in (False, True):
        loss_operations.elementwise(mixed)
        for by_index in (False, True):
            loss_operations.classwise(by_index, mixed)
    for kind in names("optimizers"):
        updates.update_function(kind)
    for source in operations.POINTERS:
        operations.gather(source)
        augment.gather_augmented(source)
