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
    """A data set or its file is missing, damaged or does not fit the arguments.

    Examples
    --------
    >>> import fastmlp as fm
    >>> try:
    ...     fm.load("table.csv")
    ... except fm.DataError as error:
    ...     print(type(error).__name__)
    DataError
    """


class DataWarning(UserWarning):
    """The format of a table was guessed, or the table holds values that are absent from the training data.

    Examples
    --------
    >>> import warnings
    >>> import fastmlp as fm
    >>> warnings.simplefilter("ignore", fm.DataWarning)
    """


class MappedFileError(DataError):
    """A file that is mapped instead of read has changed, or its disk has failed.

    Examples
    --------
    >>> import fastmlp as fm
    >>> issubclass(fm.MappedFileError, fm.DataError)
    True
    """


class ModelFileError(ValueError):
    """A saved model is damaged, was written by a later version, or is not a fastmlp model.

    Examples
    --------
    >>> import fastmlp as fm
    >>> open("model.safetensors", "w").close()
    >>> try:
    ...     fm.load_model("model.safetensors")
    ... except fm.ModelFileError as error:
    ...     print(type(error).__name__)
    ModelFileError
    """


class ResumeError(ValueError):
    """A training state belongs to a fit with other data, arguments or components.

    Examples
    --------
    >>> import fastmlp as fm
    >>> issubclass(fm.ResumeError, ValueError)
    True
    """


class RankError(RuntimeError):
    """Another rank of a fit raised an exception; the message names the rank and its host.

    Examples
    --------
    >>> import fastmlp as fm
    >>> issubclass(fm.RankError, RuntimeError)
    True
    """


class BackendError(RuntimeError):
    """A backend is unknown, or cannot run on this machine.

    Examples
    --------
    >>> import fastmlp as fm
    >>> try:
    ...     fm.set_backend("tpu")
    ... except fm.BackendError as error:
    ...     print(error)
    There is no backend 'tpu'; expected one of 'numpy', 'numba', 'cuda'.
    """


class DivergenceError(ArithmeticError):
    """A loss or a weight is not finite; the model keeps the weights of the last finite evaluation.

    Examples
    --------
    >>> import numpy as np
    >>> import fastmlp as fm
    >>> trainer = fm.Trainer(fm.MLP(2, [4], 1, rng=0), fm.MSELoss(), fm.SGD(1e30))
    >>> try:
    ...     history = trainer.fit(np.ones((8, 2)), np.ones((8, 1)), epochs=3, rng=0)
    ... except fm.DivergenceError:
    ...     print(all(np.isfinite(array).all() for array in trainer.model.state_dict().values()))
    True
    """


class GradientCheckError(AssertionError):
    """An analytic gradient disagrees with central differences.

    Examples
    --------
    >>> import fastmlp as fm
    >>> issubclass(fm.GradientCheckError, AssertionError)
    True
    """


class PerformanceWarning(UserWarning):
    """A computation takes a slower path than usual; the message gives the reason.

    Examples
    --------
    >>> import warnings
    >>> import fastmlp as fm
    >>> warnings.simplefilter("error", fm.PerformanceWarning)  # a slower path becomes an error
    >>> warnings.simplefilter("default", fm.PerformanceWarning)
    """


def warn_user(text: str, category: type[Warning]) -> None:
    """Warn with ``text``, attributed to the first line of the call stack outside of fastmlp."""
    import inspect  # here, since it adds milliseconds to the import of fastmlp

    package = __name__.partition(".")[0]
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    # `stacklevel` 1 is the frame of this function.
    warnings.warn(text, category, stacklevel=level)
