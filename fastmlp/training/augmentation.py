"""Augmentation: random transformations of the training batches.

A transformation is a function of (seed, step, row of the batch, column), independent of call order and threads. This
module is the NumPy reference on whole batches; the engine applies the same transformations row by row while it gathers
a batch (`_kernels.cpu.augment`). The training loss is that of the transformed rows.
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
    """Base class of the augmentations that `Trainer.fit` accepts as ``augment``."""

    def config(self) -> dict[str, Any]:
        """Return the type and the arguments as a dict for JSON."""
        raise NotImplementedError

    def __repr__(self) -> str:
        arguments = (f"{name}={value!r}" for name, value in self.config().items() if name != "type")
        return f"{type(self).__name__}({', '.join(arguments)})"


class HorizontalFlip(Augmentation):
    """Flip each image left to right with probability p.

    Parameters
    ----------
    shape : sequence of int
        Shape of the image of which a row of features is the flattened form (C order): (height, width), (channels,
        height, width), or (height, width, channels) with ``axis=1``. See `Dataset.image_shape`.
    p : float
        Probability, from 0 to 1.
    axis : int
        Dimension of the width.

    Raises
    ------
    ValueError
        If an argument is out of range or of another type.

    Examples
    --------
    >>> import numpy as np
    >>> HorizontalFlip((1, 1, 3), p=1.0).apply(np.array([[1.0, 2.0, 3.0]]), seed=0, step=0)
    array([[3., 2., 1.]])
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
        """Bound below which a 32-bit random word flips a row."""
        return math.floor(self.p * _WORD)

    @property
    def strides(self) -> tuple[int, int]:
        """(pixels of a line, numbers per pixel): runs of this many pixels are reversed."""
        return self.shape[self.axis], math.prod(self.shape[self.axis + 1 :])

    def apply(self, x: Array, seed: int, step: int) -> Array:
        """Return x (N, features) with some of its rows flipped."""
        words = philox4x32((0, np.arange(len(x)), step % _WORD, FLIP << 24), seed)[0]
        pixels, numbers = self.strides
        lines = x.reshape(len(x), -1, pixels, numbers)
        flipped = (words < self.threshold)[:, None, None, None]
        return np.where(flipped, lines[:, :, ::-1], lines).reshape(x.shape)

    def config(self) -> dict[str, Any]:
        """Return the type, the shape, the probability and the axis."""
        return {"type": "HorizontalFlip", "shape": list(self.shape), "p": self.p, "axis": self.axis}


class Mixup(Augmentation):
    """Train on mixtures of rows: s x + (1 - s) x', with x' another row of the batch (mixup).

    The share s is drawn from Beta(alpha, alpha), once for each batch. The partners x' are the rows of the batch, rolled
    by a random number of rows (Zhang et al., mixup, ICLR 2018, arXiv:1710.09412). Targets and sample weights are mixed
    in the same way; class indices become rows of class probabilities, for which the loss has its own reduction.

    Parameters
    ----------
    alpha : float
        At least 1e-6; larger values give more equal shares. The paper uses 0.1 to 0.4 for ImageNet.

    Raises
    ------
    ValueError
        If ``alpha`` is out of range.

    Examples
    --------
    >>> Mixup(0.2)
    Mixup(alpha=0.2)
    """

    def __init__(self, alpha: float = 0.2) -> None:
        # Smaller values: powers of 1 / alpha lose their last digits.
        self.alpha = as_number(alpha, "alpha", 1e-6)

    def draw(self, seed: int, steps: Array, rows: Array) -> tuple[Array, Array]:
        """Return (shares, shifts in rows) of the steps ``steps``, whose batches have ``rows`` rows."""
        share, shift, _, _ = philox4x32((0, 0, steps % _WORD, MIXUP << 24), seed)
        places = 1 + shift.astype(np.int64) % np.maximum(1, rows - 1)
        return self._quantiles((share + 0.5) / _WORD), np.where(rows > 1, places, 0)

    def _quantiles(self, u: Array) -> Array:
        """Return quantiles of Beta(alpha, alpha) by interpolation."""
        values, powers = self._distribution
        t: Array = np.interp(np.minimum(u, 1 - u), values, powers) ** (1 / min(self.alpha, 1))
        return np.where(u < 0.5, t, 1 - t)

    @functools.cached_property
    def _distribution(self) -> tuple[Array, Array]:
        """Distribution function at points t of the lower half, and v = t^a at these points, with a = min(alpha, 1).

        The density (t (1-t))^(alpha-1) dt has a pole at 0 if alpha < 1; in terms of v it is (1-t)^(alpha-1) dv / a.
        """
        powers = np.linspace(0, 0.5 ** min(self.alpha, 1), 8193)
        t = powers ** (1 / min(self.alpha, 1))
        density = (4 * t * (1 - t) if self.alpha > 1 else 1 - t) ** (self.alpha - 1)
        values = np.append(0, np.cumsum(density[1:] + density[:-1]))
        return values * (0.5 / values[-1]), powers

    def config(self) -> dict[str, Any]:
        """Return the type and alpha."""
        return {"type": "Mixup", "alpha": self.alpha}


class GaussianNoise(Augmentation):
    """Add normally distributed noise to each feature (Bishop, 1995, doi:10.1162/neco.1995.7.1.108).

    Parameters
    ----------
    std : float
        Standard deviation, at least 0. It is in units of the features, or of the normalized features if the model
        begins with `Normalize`.

    Raises
    ------
    ValueError
        If ``std`` is out of range.

    Examples
    --------
    >>> GaussianNoise(0.1)
    GaussianNoise(std=0.1)
    """

    def __init__(self, std: float = 0.1) -> None:
        self.std = as_number(std, "std", 0)

    def column_std(self, model: Module, width: int, dtype: np.dtype[Any]) -> Array:
        """Return the standard deviation of the noise of each raw feature, shape (width,)."""
        first = next(iter(module for module in model.modules() if not list(module.children())), None)
        with np.errstate(over="ignore"):
            std = np.full(width, self.std, dtype)
            if isinstance(first, Normalize):
                std *= np.abs(first.backend.to_numpy(first.buffers["scale"]))
        # The factor 64 leaves room for the largest draw and for the feature to which it is added.
        if not (std <= np.finfo(dtype).max / 64).all():
            raise ValueError(f"std is {self.std:g}; expected noise whose numbers {dtype} can hold.")
        return std

    def config(self) -> dict[str, Any]:
        """Return the type and the standard deviation."""
        return {"type": "GaussianNoise", "std": self.std}


class Augmentations:
    """Augmentations of one fit, applied in the order flip, mixup, noise whatever their order in the list.

    Parameters
    ----------
    given : Augmentation, iterable of Augmentation or None
        At most one of each type.
    model : Module
    width, outputs : int
        Numbers of features, and of columns of the model's outputs.
    dtype : numpy.dtype
        Dtype of the augmented batches.

    Attributes
    ----------
    flip, mixup, noise : Augmentation or None
    std : ndarray of shape (width,) or None
        Standard deviation of the noise of each raw feature.

    Raises
    ------
    ValueError
        If an entry has another type, a type occurs twice, or the images have another size than the rows.
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
                f"expected a shape of {width} numbers."
            )
        self.std = None if self.noise is None else self.noise.column_std(model, width, dtype)

    def __bool__(self) -> bool:
        return (self.flip or self.mixup or self.noise) is not None

    def config(self) -> list[dict[str, Any]]:
        """Return the configs of the augmentations in the order of their application."""
        return [one.config() for one in (self.flip, self.mixup, self.noise) if one is not None]

    def apply(
        self, x: Array, y: Array, weight: Array | None, seed: int, step: int
    ) -> tuple[Array, Array, Array | None]:
        """Return the augmented (x, y, weight) of the batch of a step."""
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
    """Return the argument ``augment`` (None, one augmentation, or several) as a list."""
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
