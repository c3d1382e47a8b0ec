"""Cost of a training step as a function of batch size, width and depth, on one thread and on two."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..io.files import atomic_write
from .cases import Case, batches, first_weights, make_data
from .contender import OURS, find
from .machine import usable_cores
from .timing import alternate

__all__ = ["AXES", "draw", "sweep"]

# Values of the swept quantity; the other properties of the case are constant.
AXES: dict[str, tuple[int, ...]] = {
    "batch": (32, 64, 128, 256, 512, 1024, 2048, 4096),
    "width": (16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
    "depth": (1, 2, 3, 4, 6, 8, 12, 16),
}
_NETS = {"batch": "256-256-256-10", "width": "256-width-width-10, batch 128", "depth": "256-256xdepth-10, batch 128"}
_COLORS = ("#1f77b4", "#d62728")


def _case(axis: str, value: int) -> Case:
    width = value if axis == "width" else 256
    depth = value if axis == "depth" else 2
    batch = value if axis == "batch" else 128
    sizes = (256, *[width] * depth, 10)
    return Case(f"{axis} {value}", sizes, "relu", "cross entropy", "SGD", batch, rows=16 * batch)


def sweep(
    axes: Mapping[str, Sequence[int]] | None = None,
    rounds: int = 3,
    seconds: float = 0.1,
    log: Callable[[str], object] = lambda line: None,
) -> list[dict[str, Any]]:
    """Time fastmlp on each network, on one thread and, if there are two cores, on two threads.

    Parameters
    ----------
    axes : mapping of str to sequence of int, optional
        Values of ``"batch"``, ``"width"`` and ``"depth"``; default: `AXES`.
    rounds : int
        Timings of each network.
    seconds : float
        Approximate duration of one timing.
    log : callable
        Called with a line of text after each axis.

    Returns
    -------
    list of dict
        A dict for each network and number of threads, with the keys ``axis``, ``value``, ``threads``, ``us``
        (microseconds of a step), ``quartiles`` and ``gflops``.
    """
    points = []
    kind, threads = find(OURS), (1, 2)[: usable_cores()]
    for axis, values in (axes or AXES).items():
        for value in values:
            case = _case(axis, value)
            data = make_data(case)
            weights = first_weights(case, data)
            contenders = {str(count): kind(case, data, weights, count) for count in threads}
            timed = alternate(contenders, lambda steps, case=case: batches(case, steps), rounds, seconds)  # type: ignore[misc]
            for count in threads:
                numbers = timed[str(count)]
                points.append(
                    {
                        "axis": axis,
                        "value": value,
                        "threads": count,
                        "us": numbers["us"],
                        "quartiles": numbers["quartiles"],
                        "gflops": case.useful_operations / numbers["us"] / 1e3,
                    }
                )
        log(f"growth with {axis}: done")
    return points


def draw(points: Sequence[dict[str, Any]], title: str, path: str | os.PathLike[str]) -> str | None:
    """Draw a panel for each axis; return None, or the reason why no picture was drawn."""
    try:
        # pyplot would select a window system and keep a reference to every figure.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return 'pip install "fastmlp[plot]"'
    axes = list(dict.fromkeys(point["axis"] for point in points))
    figure = Figure(figsize=(4.6 * len(axes), 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for panel, axis in zip(figure.subplots(1, len(axes), squeeze=False)[0], axes, strict=True):
        for threads, color in zip((1, 2), _COLORS):
            line = [point for point in points if (point["axis"], point["threads"]) == (axis, threads)]
            if not line:
                continue
            values = [point["value"] for point in line]
            label = "1 thread" if threads == 1 else f"{threads} threads"
            panel.plot(values, [p["us"] for p in line], "o-", color=color, markersize=3.5, linewidth=1.6, label=label)
            if threads == 1:
                _plot_ideal(panel, axis, line)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(values, [str(value) for value in values], minor=False)
        panel.set_xlabel(axis)
        panel.set_ylabel("microseconds per step")
        panel.set_title(_NETS[axis], fontsize=10)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    figure.suptitle(title, fontsize=11)
    with atomic_write(path) as stream:
        figure.savefig(stream, format="png")
    return None


def _plot_ideal(panel: Any, axis: str, line: Sequence[dict[str, Any]]) -> None:
    """Plot the time of a step if every product ran at the best rate of the line."""
    best = max(point["gflops"] for point in line)
    values = [point["value"] for point in line]
    ideal = [_case(axis, point["value"]).useful_operations / best / 1e3 for point in line]
    panel.plot(values, ideal, ":", color="0.5", linewidth=1.2, label=f"at {best:.0f} Gflop/s")
