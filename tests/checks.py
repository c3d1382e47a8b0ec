"""The tolerance rule of the tests: largest distance of a result from its float64 reference.

The bounds are derived from error analysis, not fitted to results. They use eps, the machine epsilon of a dtype or of a
precision, and one constant ``C``:

- a product over an inner dimension K: C eps sqrt(K) |a| |b| (the rounding errors of an FMA chain of K terms),
- an elementwise function: C ulp of its value plus the effect of C ulp of its argument,
- a model: these bounds propagated through its layers (`mlp_reference`).

Results below the smallest normal number may be flushed to zero.
"""

from __future__ import annotations

import numpy as np

C = 2.0
# Relative rounding of the factors of a tensor-core product; sums are float32. "bf16x6" must reach float32 accuracy.
FACTORS = {"bf16x6": 2.0**-23, "tf32": 2.0**-10, "bf16": 2.0**-7}


def eps(dtype):
    """Return the sum of the machine epsilons of the dtype and of the float64 reference."""
    return FACTORS[dtype] if dtype in FACTORS else float(np.finfo(dtype).eps + np.finfo(np.float64).eps)


def floor(dtype):
    """Return the largest error caused by flushing to zero."""
    return 4 * float(np.finfo(np.float32 if dtype in FACTORS else dtype).tiny)


def assert_matches(ref, comp, bound=0.0, where=""):
    """Assert equal shapes, and entries within ``bound`` of ``ref``; inf and NaN match themselves."""
    ref, comp = np.asarray(ref, np.float64), np.asarray(comp)
    assert comp.shape == ref.shape, f"{where}: shape {comp.shape}, expected {ref.shape}"
    comp = comp.astype(np.float64)
    special = ~np.isfinite(ref)
    np.testing.assert_array_equal(comp[special], ref[special], err_msg=where)
    bound = np.broadcast_to(np.asarray(bound, np.float64), ref.shape)
    with np.errstate(invalid="ignore"):
        excess = np.where(special, -1.0, np.abs(comp - ref) - bound)
    if not (excess <= 0).all():  # the negation catches NaN in comp
        worst = np.unravel_index(int(np.argmax(np.where(np.isnan(excess), np.inf, excess))), ref.shape)
        raise AssertionError(
            f"{where}{list(map(int, worst))}: {comp[worst]}, expected {ref[worst]} within {bound[worst]:.3g}"
        )


def product_bound(a, b, dtype):
    """Return the bound of the product a (M, K) b (K, N)."""
    return C * eps(dtype) * np.sqrt(a.shape[1]) * (np.abs(a) @ np.abs(b)) + floor(dtype)


def linear_bound(x, weight, bias, dtype):
    """Return the bound of X Wᵀ + b."""
    size = np.abs(x) @ np.abs(weight.T) + (0 if bias is None else np.abs(bias))
    return C * eps(dtype) * np.sqrt(x.shape[1]) * size + floor(dtype)


def elementwise_bound(ref, dtype, argument=0.0):
    """Return the bound of h(x); ``argument`` is |x h'(x)|, the effect of a relative error of x."""
    return C * eps(dtype) * (np.abs(ref) + np.abs(argument)) + floor(dtype)


class Activated:
    """h(x) and h'(x) of a curve of `activations`, with bounds that include that of x."""

    def __init__(self, activation, x, dtype, x_bound=0.0):
        spread = x_bound + C * eps(dtype) * np.abs(x)
        self.y, self.slope = activation.h(x), activation.slope(x)
        if activation.exact:
            spread = x_bound + 0.0 * x
        self.bound = np.abs(self.slope) * spread + activation.curvature * spread**2 / 2
        self.bound = self.bound + C * eps(dtype) * np.abs(self.y) + floor(dtype)
        # Derivatives are of order 1; in the tails they are differences of terms of order 1.
        self.slope_bound = activation.curvature * spread + C * eps(dtype) * np.maximum(1, np.abs(self.slope))
        near = np.any([np.abs(x - kink) < spread for kink in activation.kinks], axis=0)
        self.slope_bound = np.where(near, self.slope_bound + activation.jump, self.slope_bound)
        self.bound = np.where(near, self.bound + activation.jump * spread, self.bound)

    def backward(self, dy, dtype, dy_bound=0.0):
        """Return dy h'(x) and its bound."""
        dx = dy * self.slope
        bound = dy_bound * np.abs(self.slope) + (np.abs(dy) + dy_bound) * self.slope_bound
        return dx, bound + C * eps(dtype) * np.abs(dx) + floor(dtype)


class MLPReference:
    """Float64 outputs and gradients of Linear layers with activations between them, with bounds.

    ``layers`` are (weight, bias or None); ``gradients`` are {name: (array, bound)} under the names of `MLP`.
    """

    def __init__(self, layers, activation, x, dtype):
        self.dtype, self.layers, self.names = dtype, layers, []
        self.saved = []
        bound = np.zeros_like(x)
        for number, (weight, bias) in enumerate(layers):
            pre = x @ weight.T + (0 if bias is None else bias)
            pre_bound = bound @ np.abs(weight.T) + linear_bound(np.abs(x) + bound, weight, bias, dtype)
            last = number == len(layers) - 1
            after = None if last else Activated(activation, pre, dtype, pre_bound)
            self.saved.append((x, bound, after))
            x, bound = (pre, pre_bound) if last else (after.y, after.bound)
        self.y, self.y_bound = x, bound

    def backward(self, dy, dy_bound=0.0):
        gradients = {}
        bound = dy_bound + np.zeros_like(dy)
        for number in range(len(self.layers) - 1, -1, -1):
            weight, bias = self.layers[number]
            x, x_bound, after = self.saved[number]
            if after is not None:
                dy, bound = after.backward(dy, self.dtype, bound)
            size = np.abs(dy) + bound
            spread = bound.T @ (np.abs(x) + x_bound) + np.abs(dy).T @ x_bound
            gradients[f"{2 * number}.weight"] = (
                dy.T @ x,
                spread + product_bound(size.T, np.abs(x) + x_bound, self.dtype),
            )
            if bias is not None:
                ones = np.ones((len(dy), 1))
                gradients[f"{2 * number}.bias"] = (
                    dy.sum(axis=0),
                    bound.sum(axis=0) + product_bound(size.T, ones, self.dtype)[:, 0],
                )
            dy, bound = dy @ weight, bound @ np.abs(weight) + product_bound(size, weight, self.dtype)
        return dy, bound, gradients
