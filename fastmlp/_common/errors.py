"""The exceptions that fastmlp raises and the warnings that it gives, beside Python's own.

Each derives from the built-in exception that a caller would already catch, so that ``except
ValueError`` keeps working; the command line turns each of them into one line on standard error.
"""

from __future__ import annotations

import warnings

__all__ = [
    "BackendError",
    "DataError",
    "DataWarning",
    "DivergenceError",
    "GradientCheckError",
    "ModelFileError",
    "PerformanceWarning",
    "ResumeError",
    "warn_user",
]


class DataError(ValueError):
    """A data set, or the file that holds it, is not what was expected."""


class DataWarning(UserWarning):
    """A table was read by a guess, or holds values that training did not see; the command line prints it as a note."""


class ModelFileError(ValueError):
    """A saved model is damaged, too new, or not a fastmlp model."""


class ResumeError(ValueError):
    """A training state belongs to another fit than the one that is to go on with it."""


class BackendError(RuntimeError):
    """The backend asked for is unknown or cannot run on this machine."""


class DivergenceError(ArithmeticError):
    """Training produced a loss that is not finite; the model keeps the last good weights."""


class GradientCheckError(AssertionError):
    """An analytic gradient disagrees with central differences."""


class PerformanceWarning(UserWarning):
    """Something is computed in a slower way than usual; the text says why, the command line prints it as a note."""


def warn_user(text: str, category: type[Warning]) -> None:
    """Warn, pointing at the first line outside of this package."""
    import inspect  # which takes milliseconds, for every program that imports this file

    package = __name__.partition(".")[0]
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    # `level` counts from this function, whose own frame is 1.
    warnings.warn(text, category, stacklevel=level)
