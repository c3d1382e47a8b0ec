"""The exceptions that fastmlp raises beside Python's own.

Each derives from the built-in exception that a caller would already catch, so that ``except
ValueError`` keeps working; the command line turns all of them into one line on standard error.
"""

from __future__ import annotations

__all__ = [
    "BackendError",
    "DataError",
    "DataWarning",
    "DivergenceError",
    "GradientCheckError",
    "ModelFileError",
    "ResumeError",
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
