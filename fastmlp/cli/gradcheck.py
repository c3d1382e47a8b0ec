"""``fastmlp gradcheck``: comparison of all gradients with central differences."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import losses, modules
from .._common.errors import BackendError
from .._kernels import BACKENDS, use_backend
from ..gradcheck import GradientReport, check_gradients
from ..losses.cross_entropy import CrossEntropyLoss
from ..losses.mse import MSELoss
from ..modules.config import module_types
from .options import at_least, number

__all__ = ["add_parser"]

# (module or None, loss or None, x, targets, sample weight)
_Case = tuple[Any, Any, np.ndarray, Any, Any]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "gradcheck",
        help="check all gradients against finite differences",
        description="Compare the gradients of every module, every loss and several small networks with central "
        "differences in float64. The exit code is 1 if any of them disagrees.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--backend",
        choices=list(BACKENDS),
        action="append",
        help="backend to check; may be repeated (default: all available)",
    )
    parser.add_argument(
        "--tolerance",
        type=number(0, above=True),
        default=1e-6,
        metavar="T",
        help="largest relative error (default: 1e-6)",
    )
    parser.add_argument(
        "--seed", type=at_least(0, 2**64 - 1), default=0, metavar="N", help="seed of the inputs (default: 0)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    failed = checked = 0
    print(f"{'backend':8s} {'name':58s} {'entries':>8s} {'at kinks':>9s} {'worst error':>12s}")
    for name in args.backend or BACKENDS:
        try:
            with use_backend(name):
                for label, case in _cases(args.seed):
                    report = _check(case, args.tolerance, args.seed)
                    entries = sum(array.checked for array in report.arrays)
                    checked, failed = checked + 1, failed + (not report.passed)
                    print(
                        f"{name:8s} {label:58s} {entries:8d} {report.kinks:9d} {report.max_error:12.1e}"
                        f"  {'ok' if report.passed else 'FAILED'}",
                        flush=True,
                    )
                    for failure in report.failures:
                        print(f"         {failure}")
        except BackendError as error:
            if args.backend:
                raise
            print(f"{name:8s} skipped: {error}")
    print(f"{checked - failed} of {checked} pass at {args.tolerance:g}")
    return 1 if failed or not checked else 0


def _check(case: _Case, tolerance: float, seed: int) -> GradientReport:
    module, loss, x, targets, weight = case
    first, second = (loss, None) if module is None else (module, loss)
    return check_gradients(
        first,
        second,
        x,
        targets,
        sample_weight=weight,
        tolerance=tolerance,
        rng=seed,
        raise_on_failure=False,
    )


def _cases(seed: int) -> Iterator[tuple[str, _Case]]:
    generator = np.random.default_rng(seed)
    rows, width = 7, 5
    x = generator.standard_normal((rows, width))
    labels = generator.integers(0, width, rows)
    soft = generator.dirichlet(np.ones(width), rows)
    other = generator.standard_normal((rows, width))
    weight = generator.uniform(0.5, 2, rows)
    double: dict[str, Any] = {"dtype": np.float64}

    single = [
        example
        for kind in module_types().values()
        for example in kind.examples_of_width(width, np.dtype(np.float64), np.random.default_rng(seed))
    ]
    for module in single:
        yield _label(module), (module, None, x, None, None)

    binary = (other > 0).astype(np.float64)
    targets_of = {"unit": binary, "counts": other**2, "numbers": other}
    alone: list[tuple[losses.Loss, np.ndarray, Any]] = [
        (example, soft + 0.1 if example.takes_probabilities else x, targets)
        for kind in losses.loss_types()
        for example in kind.examples()
        for targets in ([labels, soft] if example.target_kind == "labels" else [targets_of[example.target_kind]])
    ]
    for loss, inputs, targets in alone:
        kind = ", soft targets" if targets is soft else ""
        yield _label(loss) + kind, (None, loss, inputs, targets, None)
        yield _label(loss) + kind + ", weighted", (None, loss, inputs, targets, weight)

    for activation in ("elu", "relu", "tanh"):
        sizes = generator.integers(6, 12, 4).tolist()
        # The default initializer draws biases other than 0, so that no unit without input is at the kink of a ReLU.
        net = modules.MLP(width, sizes, width, activation, rng=seed, **double)
        name = f"MLP {'-'.join(map(str, (width, *sizes, width)))} {activation} + CrossEntropyLoss"
        yield name, (net, CrossEntropyLoss(), x, labels, weight)
    net = modules.MLP(width, [8, 8, 8, 8], 2, "gelu", layer_norm=True, dropout=0.2, rng=seed, **double)
    yield "MLP 5-8-8-8-8-2 gelu, LayerNorm, Dropout + MSELoss", (net, MSELoss(), x, other[:, :2], None)


def _label(thing: modules.Module | losses.Loss) -> str:
    """Its type, and the arguments that are not at their defaults."""
    config, parameters = thing.config(), inspect.signature(type(thing)).parameters
    shown = [
        f"{name}={'[...]' if isinstance(config[name], list) else config[name]}"
        for name, parameter in parameters.items()
        if name in config and name not in ("dtype", "rng") and parameter.default not in (parameter.empty, config[name])
    ]
    arguments = ", ".join(shown)
    return type(thing).__name__ + (f"({arguments})" if arguments else "")
