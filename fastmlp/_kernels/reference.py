"""Reference backend: every operation in plain NumPy, the specification of all other backends.

Legend for all backends:

    N batch, I inputs, O outputs, C classes (features of a row in general)
    x (N, I)    weight (O, I)    bias (O,)    y (N, O)
    dx          the gradient of the loss with respect to x, of x's shape

Inputs come first and outputs last. An operation writes only its outputs, in their dtype (float32 or float64). An
operation does not check shapes, because the modules have checked them. Each docstring names the arguments that may be
None. ``docs/derivations.md`` derives each gradient.

Losses take ``row_scale (N,)``, the weight of each row divided by the reduction's denominator. They write
``losses (N,)``, each row's scaled share of the loss, and ``dx``; either may be None.
"""

from __future__ import annotations

import math

import numpy as np

from .._common.arithmetic import ceil_div
from .._common.philox import DROPOUT, philox4x32
from . import formulas
from .reference_binned import binned_linear_backward as binned_linear_backward
from .reference_binned import binned_linear_forward as binned_linear_forward

name = "numpy"

# ------------------------------------------------------------------------- arrays of this backend


def empty(shape, dtype):
    """Return an uninitialized array on this backend's device."""
    return np.empty(shape, dtype)


def zeros(shape, dtype):
    """Return an array of zeros on this backend's device."""
    return np.zeros(shape, dtype)


def from_numpy(array):
    """Return ``array`` as an array on this backend's device, without a copy if possible."""
    return array if type(array) is np.ndarray else np.asarray(array)


def to_numpy(array):
    """Return an array of this backend as a NumPy array."""
    return array


def _registered(family, kind, function):
    """Return a function of a registered formula, without floating-point warnings.

    NumPy evaluates both sides of each `where`, and the unused side may overflow.
    """
    return np.errstate(all="ignore")(getattr(formulas.find(family, kind), function))


# ----------------------------------------------------------------------------------------- linear


def linear_forward(x, weight, bias, out):
    """Compute Y = X Wᵀ + b; ``bias`` may be None; out (N, O)."""
    np.matmul(x, weight.T, out=out)
    if bias is not None:
        out += bias


def linear_activation_forward(x, weight, bias, kind, alpha, pre, out):
    """Compute pre = X Wᵀ + b and out = h(pre), both (N, O); ``bias`` and ``pre`` may be None."""
    pre = np.empty_like(out) if pre is None else pre
    linear_forward(x, weight, bias, pre)
    activation_forward(kind, alpha, pre, out)


def linear_backward(dy, x, weight, dx, dweight, dbias):
    """Compute dX = dY W, dW = dYᵀ X and db = the sum of dY over the batch.

    dx (N, I), dweight (O, I), dbias (O,); ``dx`` and ``dbias`` may be None.
    """
    if dx is not None:
        np.matmul(dy, weight, out=dx)
    np.matmul(dy.T, x, out=dweight)
    if dbias is not None:
        np.sum(dy, axis=0, out=dbias)


# ------------------------------------------------------------------------------------ activations
# ``alpha`` is the parameter of some activations: ELU's alpha, LeakyReLU's slope.


def _sigmoid(x):
    e = np.exp(-np.abs(x))  # e^-|x| cannot overflow
    return np.where(x >= 0, 1, e) / (1 + e)


def _softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _normal_cdf(x):
    return (0.5 * _erfc(-x.astype(np.float64) / math.sqrt(2))).astype(x.dtype)


def _normal_pdf(x):
    return np.exp(-0.5 * x * x) / x.dtype.type(math.sqrt(2 * math.pi))


_TANH_GELU = (math.sqrt(2 / math.pi), 0.044715)  # Hendrycks and Gimpel, arXiv:1606.08415


def _tanh_gelu_gate(x):
    """Return (1 + tanh(u)) / 2 = sigmoid(2 u) with u = c (x + k x^3)."""
    c, k = _TANH_GELU
    return _sigmoid(2 * c * (x + k * x * x * x))


def _tanh_gelu_derivative(x):
    c, k = _TANH_GELU
    gate, rest = _tanh_gelu_gate(x), _tanh_gelu_gate(-x)  # rest is 1 - gate without cancellation
    return gate + x * gate * rest * 2 * c * (1 + 3 * k * x * x)


def _mish_derivative(x):
    decay = np.cosh(np.minimum(_softplus(x), 40)) ** -2.0  # 1 - tanh^2, negligible beyond 40
    return np.tanh(_softplus(x)) + x * _sigmoid(x) * decay


# kind: (h(x, alpha), h'(x, y, alpha)), with y = h(x)
_ACTIVATIONS = {
    "identity": (lambda x, a: x, lambda x, y, a: np.ones_like(x)),
    "relu": (lambda x, a: np.where(x < 0, 0, x), lambda x, y, a: np.where(x > 0, 1, 0)),
    "leaky_relu": (lambda x, a: np.where(x > 0, x, a * x), lambda x, y, a: np.where(x > 0, 1, a)),
    "elu": (
        lambda x, a: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))),
        lambda x, y, a: np.where(x > 0, 1, a * np.exp(np.minimum(x, 0))),
    ),
    "tanh": (lambda x, a: np.tanh(x), lambda x, y, a: (1 - y) * (1 + y)),
    "sigmoid": (lambda x, a: _sigmoid(x), lambda x, y, a: y * (1 - y)),
    "gelu": (lambda x, a: x * _normal_cdf(x), lambda x, y, a: _normal_cdf(x) + x * _normal_pdf(x)),
    "gelu_tanh": (lambda x, a: x * _tanh_gelu_gate(x), lambda x, y, a: _tanh_gelu_derivative(x)),
    "silu": (lambda x, a: x * _sigmoid(x), lambda x, y, a: _sigmoid(x) * (1 + x * _sigmoid(-x))),
    "softplus": (lambda x, a: _softplus(x), lambda x, y, a: _sigmoid(x)),
    "mish": (lambda x, a: x * np.tanh(_softplus(x)), lambda x, y, a: _mish_derivative(x)),
    "selu": (
        lambda x, a: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
        lambda x, y, a: 1.0507009873554805 * np.where(x > 0, 1, 1.6732632423543772 * np.exp(np.minimum(x, 0))),
    ),
    "hardswish": (
        lambda x, a: x * ((np.clip(x, -3, 3) + 3) / 6),
        lambda x, y, a: np.where(np.abs(x) < 3, x / 3 + 0.5, (np.clip(x, -3, 3) + 3) / 6),
    ),
}

ACTIVATIONS = tuple(_ACTIVATIONS)


def _activation(kind):
    """Return (h, h') of a built-in kind, or of a user's formula evaluated directly by NumPy."""
    if kind in _ACTIVATIONS:
        return _ACTIVATIONS[kind]
    formula = formulas.find("activations", kind)
    return formula.forward, formula.derivative


def activation_forward(kind, alpha, x, out):
    """Compute out = h(x) element by element; ``kind`` is one of `ACTIVATIONS` or a user-defined activation."""
    np.copyto(out, _activation(kind)[0](x, alpha), casting="same_kind")


def activation_backward(kind, alpha, dy, x, y, dx):
    """Compute dx = dy h'(x), with PyTorch's value at a kink of h; ``y`` is h(x)."""
    np.multiply(dy, _activation(kind)[1](x, y, alpha), out=dx, casting="same_kind")


# ---------------------------------------------------------------------- softmax and normalization


def softmax_forward(x, out):
    """Compute out_ij = exp(x_ij - m_i) / sum_k exp(x_ik - m_i), where m_i is the maximum of row i."""
    np.exp(x - x.max(axis=1, keepdims=True), out=out)
    out /= out.sum(axis=1, keepdims=True)


def softmax_backward(dy, y, dx):
    """Compute dx_ij = y_ij (dy_ij - sum_n dy_in y_in)."""
    np.multiply(y, dy - (dy * y).sum(axis=1, keepdims=True), out=dx)


def layer_norm_forward(x, weight, bias, eps, mean, rstd, out):
    """Compute out = (x - mean) rstd weight + bias by row, with rstd = 1 / sqrt(var + eps).

    The variance is the biased one, divided by C (Ba et al., 2016). ``weight`` and ``bias`` (C,) may both be None. The
    outputs are mean (N,), rstd (N,) and out (N, C).
    """
    np.mean(x, axis=1, out=mean)
    centred = x - mean[:, None]
    np.divide(1, np.sqrt(np.mean(centred * centred, axis=1) + x.dtype.type(eps)), out=rstd)
    np.multiply(centred, rstd[:, None], out=out)
    if weight is not None:
        out *= weight
        out += bias


def layer_norm_backward(dy, x, weight, mean, rstd, dx, dweight, dbias):
    """Compute dx = rstd (g - mean(g) - z mean(g z)) by row, with z = (x - mean) rstd and g = dy weight.

    ``weight``, ``dweight`` and ``dbias`` (C,) may all three be None.
    """
    z = (x - mean[:, None]) * rstd[:, None]
    g = dy if weight is None else dy * weight
    inner = g - g.mean(axis=1, keepdims=True) - z * (g * z).mean(axis=1, keepdims=True)
    np.multiply(rstd[:, None], inner, out=dx)
    if weight is not None:
        np.sum(dy * z, axis=0, out=dweight)
        np.sum(dy, axis=0, out=dbias)


def normalize(x, mean, scale, out):
    """Compute out = (x - mean) / scale by column; x has any real dtype, mean and scale (I,) have out's."""
    np.divide(x.astype(out.dtype, copy=False) - mean, scale, out=out)


# kind: (f(x, a, b), df/dx, df/da, df/db) of a function by column; None if a or b is not trained
_COLUMNS = {
    "scale": (lambda x, a, b: x * a, lambda x, a, b: a, lambda x, a, b: x, None),
}


def columns_forward(kind, x, a, b, out):
    """Compute out = f(x, a, b) by column; a and b (C,) are the numbers of the columns; b may be None."""
    np.copyto(out, _COLUMNS[kind][0](x, a, b), casting="same_kind")


def columns_backward(kind, dy, x, a, b, dx, da, db):
    """Compute dx = dy df/dx, and da and db (C,), the sums of dy df/da and dy df/db over the batch.

    ``b``, ``da`` and ``db`` may be None.
    """
    _, derivative, of_a, of_b = _COLUMNS[kind]
    np.multiply(dy, derivative(x, a, b), out=dx, casting="same_kind")
    for of, gradient in ((of_a, da), (of_b, db)):
        if gradient is not None:
            np.sum(dy * of(x, a, b), axis=0, out=gradient)


def dropout(x, rate, seed, layer, step, out):
    """Compute out = x / (1 - rate) where the element's random word is at least rate 2**32, else 0.

    The word is a function of (seed, layer, step, row, column), see `philox`. The backward pass is the same operation on
    dy. Srivastava et al., JMLR 15 (2014), with the scaling at training time.
    """
    rows, columns = x.shape
    blocks = ceil_div(columns, 4)
    counter = (np.arange(blocks)[None, :], np.arange(rows)[:, None], step & 0xFFFFFFFF, DROPOUT << 24 | layer)
    words = np.stack(philox4x32(counter, seed), axis=-1).reshape(rows, 4 * blocks)[:, :columns]
    keep = words >= np.uint64(math.floor(rate * 2**32))
    np.copyto(out, np.where(keep, x * x.dtype.type(1 / (1 - rate) if rate < 1 else 0), 0))


# ----------------------------------------------------------------------------------------- losses


def _target_weights(target, class_weight, smoothing, x):
    """Return w_j t'_ij with t' = (1 - smoothing) t + smoothing / C, where t is the target as a distribution (N, C)."""
    classes = x.shape[1]
    t = np.eye(classes, dtype=x.dtype)[target] if target.ndim == 1 else target
    t = (1 - smoothing) * t + smoothing / classes
    return t if class_weight is None else t * class_weight


def cross_entropy(x, target, class_weight, smoothing, row_scale, losses, dx):
    """Compute l_i = - sum_j w_j t'_ij log softmax(x_i)_j from logits x (N, C), and its gradient.

    ``target`` is int64 (N,) class indices or floats (N, C); ``class_weight`` (C,) may be None.
    dl_i/dx_ij = softmax(x_i)_j sum_k w_k t'_ik - w_j t'_ij.
    """
    weights = _target_weights(target, class_weight, smoothing, x)
    shifted = x - x.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)
    if losses is not None:
        # Mask terms with target 0: a logit of -inf would give 0 * inf = NaN there.
        terms = np.multiply(weights, np.log(total) - shifted, out=np.zeros_like(x), where=weights != 0)
        np.multiply(row_scale, terms.sum(axis=1), out=losses)
    if dx is not None:
        np.subtract(exponentials / total * weights.sum(axis=1, keepdims=True), weights, out=dx)
        dx *= row_scale[:, None]


def probability_floor(dtype):
    """Return the lower clamp of probabilities.

    The clamp exceeds the smallest normal number by a factor that keeps weight / floor finite.
    """
    return float(np.finfo(dtype).tiny) * 2**24


def cross_entropy_probabilities(x, target, class_weight, smoothing, row_scale, losses, dx):
    """Compute l_i = - sum_j w_j t'_ij log x_ij from probabilities x (N, C) clamped at `probability_floor`."""
    weights = _target_weights(target, class_weight, smoothing, x)
    clamped = np.maximum(x, x.dtype.type(probability_floor(x.dtype)))
    if losses is not None:
        np.multiply(row_scale, -(weights * np.log(clamped)).sum(axis=1), out=losses)
    if dx is not None:
        np.multiply(row_scale[:, None], -weights / clamped, out=dx)


# Terms of classes: (f, f') as functions of the log-probabilities log p (N, C); a is the loss's number.


def _log_loss(log_p, a):
    """Return the term -log p of `cross_entropy`."""
    return -log_p, -np.ones_like(log_p)


def _focal(log_p, gamma):
    """Return -(1 - p)^gamma log p, with 1 - p kept above 0 to allow gamma below 1 (Lin et al. 2017)."""
    rest = np.maximum(-np.expm1(log_p), 1e-37)
    product = np.exp(log_p) * np.maximum(log_p, -1e3)  # p log p, with limit 0 at p = 0
    return -(rest**gamma) * log_p, rest**gamma * (gamma * product / rest - 1)


_CLASS_TERMS = {
    "cross_entropy": _log_loss,
    "focal": _focal,
}


def classwise_loss(kind, x, target, class_weight, numbers, row_scale, losses, dx):
    """Compute l_i = sum_j w_j t'_ij f(log p_ij) with p = softmax(x), from logits x (N, C).

    ``numbers`` are the smoothing and f's a. Targets and weights are as for `cross_entropy`. With the gradients
    s_ij = w_j t'_ij f'(log p_ij), dl_i/dx_ij = s_ij - p_ij sum_k s_ik.
    """
    smoothing, a = numbers
    weights = _target_weights(target, class_weight, smoothing, x)
    shifted = x - x.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    term = _CLASS_TERMS.get(kind) or _registered("losses", kind, "class_term")
    # Mask classes of weight 0: a probability of 0 would give 0 * inf = NaN there.
    values, gradients = (np.multiply(weights, one, out=np.zeros_like(x), where=weights != 0) for one in term(log_p, a))
    if losses is not None:
        np.multiply(row_scale, values.sum(axis=1), out=losses)
    if dx is not None:
        np.subtract(gradients, np.exp(log_p) * gradients.sum(axis=1, keepdims=True), out=dx)
        dx *= row_scale[:, None]


# Terms of elements: (term, derivative with respect to x) of outputs x (N, O) and targets t. w (O,) are the weights of
# the columns, or 1; a and b are the loss's numbers.


def _mse(x, t, w, a, b):
    """Return (x - t)^2."""
    d = x - t
    return d * d, 2 * d


def _l1(x, t, w, a, b):
    """Return |x - t|, with derivative 0 at 0."""
    return np.abs(x - t), np.sign(x - t)


def _huber(x, t, w, delta, b):
    """Return d^2 / 2 if |d| <= delta else delta (|d| - delta / 2), with d = x - t (Huber 1964)."""
    d = x - t
    size = np.abs(d)
    return np.where(size <= delta, 0.5 * d * d, delta * (size - 0.5 * delta)), np.clip(d, -delta, delta)


def _log_cosh(x, t, w, a, b):
    """Return log cosh d = |d| + log1p(e^{-2 |d|}) - log 2, with d = x - t, without overflow."""
    size = np.abs(x - t)
    return size + np.log1p(np.exp(-2 * size)) - math.log(2), np.tanh(x - t)


def _quantile(x, t, w, q, b):
    """Return q d if d > 0 else (q - 1) d, with d = t - x and derivative 0 at 0 (Koenker, Bassett 1978)."""
    d = t - x
    return np.where(d > 0, q * d, (q - 1) * d), np.where(d > 0, -q, np.where(d < 0, 1 - q, d))


def _poisson(x, t, w, a, b):
    """Return e^x - t x, where x is the logarithm of the rate."""
    return np.exp(x) - t * x, np.exp(x) - t


def _bce(x, t, w, a, b):
    """Return w t softplus(-x) + (1 - t) softplus(x)."""
    tail = np.log1p(np.exp(-np.abs(x)))
    terms = w * t * (np.maximum(-x, 0) + tail) + (1 - t) * (np.maximum(x, 0) + tail)
    return terms, (1 - t) * _sigmoid(x) - w * t * _sigmoid(-x)


def _binary_focal(x, t, w, gamma, alpha):
    """Return A r^gamma times `_bce`, with r = t (1 - p) + (1 - t) p and A = alpha t + (1 - alpha) (1 - t).

    A is 1 for alpha < 0.
    """
    (entropy, derivative), p, q = _bce(x, t, 1, 0, 0), _sigmoid(x), _sigmoid(-x)
    missed = np.maximum(t * q + (1 - t) * p, 1e-37)
    weight = missed**gamma * (1 if alpha < 0 else alpha * t + (1 - alpha) * (1 - t))
    return weight * entropy, weight * (derivative + gamma * (1 - 2 * t) * p * q * entropy / missed)


_LOSSES = {
    "bce": _bce,
    "binary_focal": _binary_focal,
    "huber": _huber,
    "l1": _l1,
    "log_cosh": _log_cosh,
    "mse": _mse,
    "poisson": _poisson,
    "quantile": _quantile,
}


def elementwise_loss(kind, x, target, column_weight, numbers, row_scale, losses, dx):
    """Compute l_i = sum_j term(x_ij, t_ij); ``numbers`` are the loss's a and b; ``column_weight`` (O,) may be None."""
    loss = _LOSSES.get(kind) or _registered("losses", kind, "loss")
    weight = x.dtype.type(1) if column_weight is None else column_weight
    terms, derivatives = loss(x, target, weight, *numbers)
    if losses is not None:
        np.multiply(row_scale, terms.sum(axis=1), out=losses)
    if dx is not None:
        np.multiply(row_scale[:, None], derivatives, out=dx)


# ------------------------------------------------------------------------------------- optimizers
# ``param`` and the states are updated in place. A state may be None if the optimizer's settings do not need it. The
# optimizer's ``numbers`` computes the step's numbers.


def _sgd(grad, velocity, param, lr, momentum, weight_decay, nesterov):
    """Apply g += decay param; v = momentum v + g; param -= lr (g + momentum v if nesterov else v)."""
    if weight_decay:
        grad = grad + weight_decay * param
    if velocity is not None:
        velocity *= momentum
        velocity += grad
        grad = grad + momentum * velocity if nesterov else velocity
    param -= lr * grad


def _adam(grad, exp_avg, exp_avg_sq, param, rate, blend1, beta2, blend2, eps, weight_decay, shrink, unroot):
    """Update the moments m and s of g; param -= lr / (1 - beta1^t) m / (sqrt(s / (1 - beta2^t)) + eps).

    rate = lr / (1 - beta1^t), blend = 1 - beta, unroot = 1 / sqrt(1 - beta2^t). Weight decay is either added to g or
    applied as the factor ``shrink`` of param.
    """
    param *= shrink
    if weight_decay:
        grad = grad + weight_decay * param
    exp_avg += blend1 * (grad - exp_avg)
    exp_avg_sq *= beta2
    exp_avg_sq += blend2 * grad * grad
    param -= rate * (exp_avg / (np.sqrt(exp_avg_sq) * unroot + eps))


def _radam(grad, exp_avg, exp_avg_sq, param, rate, blend1, beta2, blend2, eps, weight_decay, shrink, rectification):
    """Update the moments as in `_adam`; param -= rate rectification m / (sqrt(s) + eps).

    If the rectification is 0, param -= rate m.
    """
    param *= shrink
    if weight_decay:
        grad = grad + weight_decay * param
    exp_avg += blend1 * (grad - exp_avg)
    exp_avg_sq *= beta2
    exp_avg_sq += blend2 * grad * grad
    param -= rate * (exp_avg * rectification / (np.sqrt(exp_avg_sq) + eps) if rectification else exp_avg)


def _rmsprop(grad, square_avg, grad_avg, velocity, param, lr, alpha, blend, eps, weight_decay, momentum, centered):
    """Divide g by the root of its mean square, minus the squared mean if centered; blend = 1 - alpha."""
    if weight_decay:
        grad = grad + weight_decay * param
    square_avg *= alpha
    square_avg += blend * grad * grad
    variance = square_avg
    if grad_avg is not None:
        grad_avg += blend * (grad - grad_avg)
        variance = square_avg - grad_avg * grad_avg
    update = grad / (np.sqrt(variance) + eps)
    if velocity is not None:
        velocity *= momentum
        velocity += update
        update = velocity
    param -= lr * update


def _adagrad(grad, total, param, rate, eps, weight_decay):
    """Divide g by the root of the sum of all its squares."""
    if weight_decay:
        grad = grad + weight_decay * param
    total += grad * grad
    param -= rate * (grad / (np.sqrt(total) + eps))


def _lion(grad, exp_avg, param, lr, blend1, blend2, shrink):
    """Compute c = beta1 m + (1 - beta1) g; param -= lr sign(c); m = beta2 m + (1 - beta2) g; blend = 1 - beta."""
    param *= shrink
    param -= lr * np.sign(exp_avg + blend1 * (grad - exp_avg))
    exp_avg += blend2 * (grad - exp_avg)


def _keep_gradient(grad, gradient, param, lr):
    """Copy the gradient to ``gradient``; param does not change."""
    gradient[...] = grad


_OPTIMIZERS = {
    "adagrad": _adagrad,
    "adam": _adam,
    "keep_gradient": _keep_gradient,
    "lion": _lion,
    "radam": _radam,
    "rmsprop": _rmsprop,
    "sgd": _sgd,
}


def optimizer_update(kind, numbers, grad, states, param):
    """Update a parameter with gradient ``grad``; `formulas.optimizers` names ``numbers`` and ``states``."""
    if kind in _OPTIMIZERS:
        _OPTIMIZERS[kind](grad, *states, param, *numbers)
        return
    # A user-defined optimizer: NumPy evaluates its formula directly on arrays, see `number`.
    arrays = (0.0 if state is None else state for state in states)
    param[...], *after = formulas.find("optimizers", kind).update(grad, param, *arrays, numbers)
    for state, new in zip(states, after):
        if state is not None:
            state[...] = new


def sum_of_squares(grad):
    """Return the sum of grad's squares as a Python float, accumulated in float64."""
    flat = grad.ravel().astype(np.float64)
    return float(flat @ flat)


def scale(grad, factor, out):
    """Compute out = factor grad; out may be grad."""
    np.multiply(grad, grad.dtype.type(factor), out=out)


def add_scaled(x, factor, out):
    """Compute out += factor x."""
    out += x.dtype.type(factor) * x


def clip(grad, bound, out):
    """Clip grad to [-bound, bound]; out may be grad."""
    np.clip(grad, -bound, bound, out=out)
