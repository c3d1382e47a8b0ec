"""Augmentation: training batches changed at random before the model sees them, a new way at each step.

Every change is a function of (seed, step, row of the batch, column), never of call order or threads. What is here
works on whole batches in NumPy and says what is meant; the engine does the same, row by row, while it gathers a batch
(`_kernels.cpu.augment`). An epoch that trains on changed rows reports the loss of those.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._common.philox import FLIP, MIXUP, normals, philox4x32
from .._common.validation import Array, as_integer, as_number
from ..modules import Module, Normalize

__all__ = ["Augmentation", "Augmentations", "GaussianNoise", "HorizontalFlip", "Mixup", "as_list"]

_WORD = 2**32
_EXPECTED = "HorizontalFlip, Mixup and GaussianNoise, one of each at most"


class Augmentation:
    """Base of what `Trainer.fit` takes as ``augment``."""

    def config(self) -> dict[str, Any]:
        """The type and the arguments; fit for JSON."""
        raise NotImplementedError

    def __repr__(self) -> str:
        arguments = (f"{name}={value!r}" for name, value in self.config().items() if name != "type")
        return f"{type(self).__name__}({', '.join(arguments)})"


class HorizontalFlip(Augmentation):
    """Turns images left to right, each with probability p.

    Parameters
    ----------
    shape : sequence of int
        The image that a row of features is, flattened in C order: (height, width), (channels, height, width), or
        (height, width, channels) with ``axis=1``: by default the last dimension is turned. See `Dataset.image_shape`.
    p : float
        From 0 to 1.
    axis : int
        Which of the dimensions is the width.

    Raises
    ------
    ValueError
        If an argument is not as described.
    """

    def __init__(self, shape: Sequence[int], p: float = 0.5, axis: int = -1) -> None:
        if isinstance(shape, (str, bytes)) or not hasattr(shape, "__iter__"):
            raise ValueError(f"shape is {shape!r}; expected that of an image, such as (channels, height, width).")
        self.shape = tuple(as_integer(size, "shape") for size in shape)
        self.p = as_number(p, "p", 0, 1)
        dimensions = len(self.shape)
        if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)) or not -dimensions <= axis < dimensions:
            raise ValueError(f"axis is {axis!r}; expected a dimension of the image {self.shape}.")
        self.axis = int(axis) % dimensions

    @property
    def threshold(self) -> int:
        """Random words below it turn a row."""
        return math.floor(self.p * _WORD)

    @property
    def strides(self) -> tuple[int, int]:
        """(pixels, numbers of a pixel) of a line: what is reversed are runs of that many pixels."""
        return self.shape[self.axis], math.prod(self.shape[self.axis + 1 :])

    def apply(self, x: Array, seed: int, step: int) -> Array:
        """x (N, features) with some of its rows turned."""
        words = philox4x32((0, np.arange(len(x)), step % _WORD, FLIP << 24), seed)[0]
        pixels, numbers = self.strides
        lines = x.reshape(len(x), -1, pixels, numbers)
        turned = (words < self.threshold)[:, None, None, None]
        return np.where(turned, lines[:, :, ::-1], lines).reshape(x.shape)

    def config(self) -> dict[str, Any]:
        """The shape, the probability and the axis."""
        return {"type": "HorizontalFlip", "shape": list(self.shape), "p": self.p, "axis": self.axis}


class Mixup(Augmentation):
    """Trains on mixtures: s x + (1 - s) x', and the targets likewise, x' another row of the batch.

    The share s is drawn from the distribution Beta(alpha, alpha), one for each batch, and the partners are the rows of
    the batch, moved on by a random number of places (Zhang et al., mixup, ICLR 2018, arXiv:1710.09412). Class indices
    become rows of shares, with the loss and its reduction of such; sample weights mix in the same way.

    Parameters
    ----------
    alpha : float
        At least 1e-6; the larger, the more equal the shares. 0.1 to 0.4 in the paper's image sets.

    Raises
    ------
    ValueError
        If it is not as described.
    """

    def __init__(self, alpha: float = 0.2) -> None:
        # Powers of 1 / alpha lose their last digits below.
        self.alpha = as_number(alpha, "alpha", 1e-6)

    def draw(self, seed: int, steps: Array, rows: Array) -> tuple[Array, Array]:
        """Shares, and by how many places the rows move on, at some steps, whose batches have ``rows``."""
        share, shift, _, _ = philox4x32((0, 0, steps % _WORD, MIXUP << 24), seed)
        places = 1 + shift.astype(np.int64) % np.maximum(1, rows - 1)
        return self._quantiles((share + 0.5) / _WORD), np.where(rows > 1, places, 0)

    def _quantiles(self, u: Array) -> Array:
        """Quantiles of Beta(alpha, alpha), by interpolation."""
        values, powers = self._distribution
        t: Array = np.interp(np.minimum(u, 1 - u), values, powers) ** (1 / min(self.alpha, 1))
        return np.where(u < 0.5, t, 1 - t)

    @functools.cached_property
    def _distribution(self) -> tuple[Array, Array]:
        """The distribution's values at points t of its lower half, and v = t^a, with a = alpha but not above 1.

        The density, (t (1-t))^(alpha-1) dt, has a pole at 0 where alpha < 1; in v it is (1-t)^(alpha-1) dv / a then.
        """
        powers = np.linspace(0, 0.5 ** min(self.alpha, 1), 8193)
        t = powers ** (1 / min(self.alpha, 1))
        density = (4 * t * (1 - t) if self.alpha > 1 else 1 - t) ** (self.alpha - 1)
        values = np.append(0, np.cumsum(density[1:] + density[:-1]))
        return values * (0.5 / values[-1]), powers

    def config(self) -> dict[str, Any]:
        """alpha."""
        return {"type": "Mixup", "alpha": self.alpha}


class GaussianNoise(Augmentation):
    """Adds noise from a normal distribution to every feature (Bishop, 1995, doi:10.1162/neco.1995.7.1.108).

    Parameters
    ----------
    std : float
        Standard deviation, at least 0, in the scale of what the model's first layer takes: where the model begins
        with `Normalize`, in that of its results.

    Raises
    ------
    ValueError
        If it is not as described.
    """

    def __init__(self, std: float = 0.1) -> None:
        self.std = as_number(std, "std", 0)

    def column_std(self, model: Module, width: int, dtype: np.dtype[Any]) -> Array:
        """The standard deviation (width,) of each raw feature."""
        first = next(iter(module for module in model.modules() if not list(module.children())), None)
        with np.errstate(over="ignore"):
            std = np.full(width, self.std, dtype)
            if isinstance(first, Normalize):
                std *= np.abs(first.backend.to_numpy(first.buffers["scale"]))
        # The largest number that is drawn stays finite then, whatever it is added to.
        if not (std <= np.finfo(dtype).max / 64).all():
            raise ValueError(f"std is {self.std:g}; expected noise whose numbers {dtype} can hold.")
        return std

    def config(self) -> dict[str, Any]:
        """The standard deviation."""
        return {"type": "GaussianNoise", "std": self.std}


class Augmentations:
    """What one fit does to its batches: flips, then mixtures, then noise, whatever their order in the list.

    Parameters
    ----------
    given : Augmentation, iterable of Augmentation or None
        Not more than one of a kind.
    model : Module
    width, outputs : int
        Columns of the features, and of the model's outputs.
    dtype : numpy.dtype

    Attributes
    ----------
    flip, mixup, noise : Augmentation or None
    std : ndarray of shape (width,) or None
        Of the noise, by raw feature.

    Raises
    ------
    ValueError
        If there is something else, one of a kind twice, or images of another size.
    """

    def __init__(self, given: Any, model: Module, width: int, outputs: int, dtype: np.dtype[Any]) -> None:
        found: dict[type, Any] = {}
        for one in as_list(given):
            if type(one) not in (HorizontalFlip, Mixup, GaussianNoise) or type(one) in found:
                raise ValueError(f"augment holds {one!r}; expected {_EXPECTED}.")
            found[type(one)] = one
        self.flip: HorizontalFlip | None = found.get(HorizontalFlip)
        self.mixup: Mixup | None = found.get(Mixup)
        self.noise: GaussianNoise | None = found.get(GaussianNoise)
        self.outputs, self.dtype = outputs, dtype
        if self.flip is not None and math.prod(self.flip.shape) != width:
            raise ValueError(
                f"HorizontalFlip is for images of shape {self.flip.shape}, {math.prod(self.flip.shape)} numbers; "
                f"the rows have {width}."
            )
        self.std = None if self.noise is None else self.noise.column_std(model, width, dtype)

    def __bool__(self) -> bool:
        return (self.flip or self.mixup or self.noise) is not None

    def config(self) -> list[dict[str, Any]]:
        """What there is, in the order in which it happens."""
        return [one.config() for one in (self.flip, self.mixup, self.noise) if one is not None]

    def apply(
        self, x: Array, y: Array, weight: Array | None, seed: int, step: int
    ) -> tuple[Array, Array, Array | None]:
        """(x, y, weight) of a batch as it is trained on at a step."""
        x = x.astype(self.dtype, copy=False)
        if self.flip is not None:
            x = self.flip.apply(x, seed, step)
        if self.mixup is not None:
            shares, shifts = self.mixup.draw(seed, np.array([step]), np.array([len(x)]))
            mix = functools.partial(_mix, share=shares[0], shift=int(shifts[0]))
            if y.dtype.kind == "i":
                indices, y = y, np.zeros((len(y), self.outputs), self.dtype)
                y[np.arange(len(y)), indices] = 1
            x, y, weight = mix(x), mix(y), None if weight is None else mix(weight)
        if self.std is not None:
            x = x + self.std * normals(seed, step, *x.shape).astype(self.dtype)
        return x, y, weight


def as_list(augment: Any) -> list[Any]:
    """What is given as ``augment``: one, several, or None, as a list."""
    if augment is None:
        return []
    if isinstance(augment, Augmentation):
        return [augment]
    if isinstance(augment, (str, bytes, type)) or not hasattr(augment, "__iter__"):
        raise ValueError(f"augment is {augment!r}; expected a list of {_EXPECTED}.")
    return list(augment)


def _mix(rows: Array, share: float, shift: int) -> Array:
    mixed: Array = rows.dtype.type(share) * rows + rows.dtype.type(1 - share) * np.roll(rows, -shift, axis=0)
    return mixed
