"""Report of `check_gradients`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

__all__ = ["ArrayCheck", "GradientReport"]


@dataclass
class ArrayCheck:
    """Comparisons for one array (a parameter, or ``x``) or for the random directions.

    Attributes
    ----------
    name : str
        Name of the array, or "directions".
    size, checked : int
        Number of entries, and of comparisons made.
    kinks, unchecked : int
        Number of differences across a kink, and of entries left out because they lie on a kink.
    error, analytic, numerical : float
        Error and both derivatives of the worst comparison.
    index : tuple of int
        Index of the worst comparison; empty for a direction.
    """

    name: str
    size: int
    checked: int = 0
    kinks: int = 0
    unchecked: int = 0
    error: float = 0.0
    index: tuple[int, ...] = ()
    analytic: float = math.nan
    numerical: float = math.nan

    def add(self, index: tuple[int, ...], analytic: float, numerical: float, error: float) -> None:
        """Count one comparison, and store it if it is the worst so far (NaN is worse than any number)."""
        self.checked += 1
        if self.checked == 1 or error > self.error or (math.isnan(error) and not math.isnan(self.error)):
            self.error, self.index, self.analytic, self.numerical = error, index, analytic, numerical

    def __str__(self) -> str:
        where = f"{self.name}[{', '.join(map(str, self.index))}]" if self.index else self.name
        return f"{where}: analytic {self.analytic:.10g}, numerical {self.numerical:.10g}, error {self.error:.3g}"


@dataclass
class GradientReport:
    """Result of `check_gradients`; ``print(report)`` shows a table.

    Attributes
    ----------
    arrays : list of ArrayCheck
        One for each parameter, one for ``x``, and one named "directions".
    tolerance : float
        Largest error accepted.

    Examples
    --------
    >>> import fastmlp as fm
    >>> model = fm.MLP(3, [4], 2, dtype="float64", rng=0)
    >>> report = fm.check_gradients(model, fm.MSELoss(), [[1.0, 2.0, 3.0]], [[0.0, 1.0]])
    >>> report.passed
    True
    """

    tolerance: float
    arrays: list[ArrayCheck] = field(default_factory=list)

    @property
    def max_error(self) -> float:
        """Largest error, NaN if an error is NaN."""
        return float(np.max([array.error for array in self.arrays]))

    @property
    def kinks(self) -> int:
        """Number of differences across a kink, which were repeated with a smaller step or another direction."""
        return sum(array.kinks for array in self.arrays)

    @property
    def unchecked(self) -> int:
        """Number of entries that were not checked because they lie on a kink."""
        return sum(array.unchecked for array in self.arrays)

    @property
    def failures(self) -> list[ArrayCheck]:
        """Arrays whose gradient disagrees, or of which no entry could be checked."""
        return [a for a in self.arrays if not a.error <= self.tolerance or (a.size and not a.checked)]

    @property
    def passed(self) -> bool:
        """Whether all gradients agree."""
        return not self.failures

    def __str__(self) -> str:
        rows = [["array", "checked", "of", "at kinks", "unchecked", "error"]]
        for a in self.arrays:
            counts = (a.checked, a.size, a.kinks, a.unchecked)
            rows.append([a.name, *map(str, counts), f"{a.error:.2e}"])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        verdict = "agree" if self.passed else "DISAGREE"
        return "\n".join([*lines, f"Gradients {verdict} at tolerance {self.tolerance:g}."])
