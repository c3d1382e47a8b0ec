"""Exceptions and warnings of fastmlp.

Each exception derives from the built-in exception of the same meaning, so that ``except ValueError`` catches it. The
command line prints an exception or a warning as one line on standard error.
"""

from __future__ import annotations

import warnings

__all__ = [
    "BackendError",
    "DataError",
    "DataWarning",
    "DivergenceError",
    "GradientCheckError",
    "MappedFileError",
    "ModelFileError",
    "PerformanceWarning",
    "RankError",
    "ResumeError",
    "warn_user",
]


class DataError(ValueError):
    """A data set or its file is missing, damaged or does not fit the arguments."""


class DataWarning(UserWarning):
    """The format of a table was guessed, or the table holds values that are absent from the training data."""


class MappedFileError(DataError):
    """A file that is mapped instead of read has changed, or its disk has failed."""


class ModelFileError(ValueError):
    """A saved model is damaged, was written by a later version, or is not a fastmlp model."""


class ResumeError(ValueError):
    """A training state belongs to a fit with other data, arguments or components."""


class RankError(RuntimeError):
    """Another rank of a fit raised an exception; the message names the rank and its host."""


class BackendError(RuntimeError):
    """A backend is unknown, or cannot run on this machine."""


class DivergenceError(ArithmeticError):
    """A loss or a weight is not finite; the model keeps the weights of the last finite evaluation."""


class GradientCheckError(AssertionError):
    """An analytic gradient disagrees with central differences."""


class PerformanceWarning(UserWarning):
    """A computation takes a slower path than usual; the message gives the reason."""


def warn_user(text: str, category: type[Warning]) -> None:
    """Warn with ``text``, attributed to the first line of the call stack outside of fastmlp."""
    import inspect  # here, since it adds milliseconds to the import of fastmlp

    package = __name__.partition(".")[0]
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    # `stacklevel` 1 is the frame of this function.
    warnings.warn(text, category, stacklevel=level)
