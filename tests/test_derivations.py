"""docs/derivations.md: its code locations exist, its example is correct, and the code computes its formulas.

The formulas are written here as on the page, with loops over their indices, in float64; those of activations are in
`tests/activations`. Each is compared with the results of the backends, and with the derivative of the definition by a
complex step (the imaginary part of f(x + 1e-100 i), exact to rounding).
"""

from __future__ import annotations

import cmath
import importlib
import inspect
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
from activations import EXAMPLES as ACTIVATIONS
from activations import KINKED, curve
from checks import C, assert_matches, eps, floor, product_bound
from compiled import SIMULATED
from optimizers import EXAMPLES, update

import fastmlp as fm
from fastmlp._common.philox import DROPOUT, philox4x32
from fastmlp._kernels import formulas, get_backend, reference
from fastmlp.losses import Loss
from fastmlp.optim import optimizer_types
from fastmlp.optim.base import columns

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "derivations.md").read_text(encoding="utf-8")
PROSE = re.sub(r"^```.*?^```$", "", PAGE, flags=re.DOTALL | re.MULTILINE)
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.DOTALL | re.MULTILINE))
FLOAT = np.dtype(np.float64)
N, IN, OUT = 4, 3, 5


def entries(shape, entry):
    """The array whose element at each index is ``entry`` of that index."""
    return np.array([entry(*index) for index in np.ndindex(*shape)]).reshape(shape) + 0.0


def add(entry, *sizes):
    """The sum of ``entry`` over all indices below ``sizes``."""
    return sum(entry(*index) for index in itertools.product(*map(range, sizes)))


def delta(i, j):
    return float(i == j)


def bound(terms, size):
    """Of a sum of so many terms that are ``size`` in all."""
    return C * eps(FLOAT) * math.sqrt(terms) * size + floor(FLOAT)


def derivative(f, x):
    """df/dx, entry by entry, for a real function f that also takes complex numbers."""

    def entry(*index):
        moved = x.astype(complex)
        moved[index] += 1e-100j
        return complex(f(moved)).imag / 1e-100

    return entries(x.shape, entry)


def compute(operation, inputs, *shapes):
    """What the current backend's operation writes into arrays of these shapes."""
    outs = [np.full(shape, np.nan) for shape in shapes]
    getattr(get_backend(), operation)(*inputs, *outs)
    return outs[0] if len(outs) == 1 else outs


# ------------------------------------------------------------------------------- the page itself


def resolve(location):
    """The object that a location such as "cpu/rows.py: dropout" names; raises where there is none."""
    path, _, attributes = location.partition(": ")
    if path.startswith("reference."):
        path, attributes = "_kernels/reference.py", path.removeprefix("reference.")
    if path.startswith("tests/"):
        assert (ROOT / path).is_file()
        return path
    path = "_kernels/" + path if path.startswith(("cpu/", "cuda/", "formulas/")) else path
    assert (ROOT / "fastmlp" / path).is_file()
    found = importlib.import_module("fastmlp." + path.removesuffix(".py").replace("/", "."))
    for attribute in attributes.split(".") if attributes else ():
        # vars() rejects inherited attributes: the page must name the base class.
        found = vars(found)[attribute]
    return found


SPANS = set(re.findall(r"`([^`\n]+)`", PROSE))
LOCATIONS = sorted(span for span in SPANS if ".py" in span or "reference" in span)


@pytest.mark.parametrize("location", LOCATIONS)
def test_location_exists(location):
    assert re.fullmatch(r"reference\.\w+|[\w/]+\.py(: \w+(\.\w+)*)?", location)
    assert resolve(location) is not None


def test_every_operation_with_a_gradient_is_on_the_page():
    others = {"empty", "zeros", "from_numpy", "to_numpy", "philox4x32", "ceil_div"}  # create arrays or numbers
    others |= {"sum_of_squares", "scale", "add_scaled", "clip"}  # take gradients
    operations = {n for n, f in vars(reference).items() if inspect.isfunction(f) and not n.startswith("_")}
    assert {f"reference.{name}" for name in operations - others} <= set(LOCATIONS)


def test_every_kernel_with_a_gradient_is_on_the_page():
    for file, pattern in (
        ("linear", ".+ward"),
        ("elementwise", "(forward|backward)_function"),
        ("losses", "(classwise|elementwise)_(function|loss)"),
    ):
        names = [name for name in vars(resolve(f"cpu/{file}.py")) if re.fullmatch(pattern, name)]
        assert names
        assert {f"cpu/{file}.py: {name}" for name in names} <= set(LOCATIONS)
    found = {f"activations/{file}.py: derivative" for file in formulas.names("activations")}
    found |= {f"optimizers/{file}.py: update" for file in formulas.names("optimizers")}
    for file in formulas.names("losses"):
        found.add(f"losses/{file}.py: {'class_term' if formulas.sums_over_classes(file) else 'loss'}")
    assert {f"formulas/{location}" for location in found} <= set(LOCATIONS)
    # Helpers of kernels that the page lists.
    parts = re.compile("(?!.*cross_entropy).+_rows|layer_norm_row_(for|back)ward|normalized|normalize_row|philox_words")
    names = [name for name in resolve("cpu/rows.py: __all__") if not parts.fullmatch(name)]
    assert {f"cpu/rows.py: {name}" for name in names} <= set(LOCATIONS)


def test_every_module_and_loss_is_on_the_page():
    named = {location.partition(": ")[2].partition(".")[0] for location in LOCATIONS}
    public = {name: getattr(fm, name) for name in fm.__all__}
    kinds = {n for n, c in public.items() if inspect.isclass(c) and issubclass(c, (fm.Module, Loss))}
    assert {"Linear", "MSELoss"} <= kinds
    assert kinds - {"Module", "MLP", "Loss"} <= named


def test_every_optimizer_is_on_the_page():
    """With all that computes it."""
    for kind in optimizer_types().values():
        (row,) = re.findall(rf"^\|.*`optim/\w+\.py: {kind.__name__}`.*$", SECTIONS["Optimizers"], flags=re.MULTILINE)
        assert f"`reference._{kind.kernel}`" in row and f"`formulas/optimizers/{kind.kernel}.py: update`" in row
    assert {"cpu/updates.py: update_function", "cuda/rules.py: rule"} <= set(LOCATIONS)


def test_links_within_the_page():
    headings = re.findall(r"^#+ (.+)$", PROSE, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    targets = re.findall(r"\]\(#([^)]+)\)", PROSE)
    assert targets
    assert set(targets) <= anchors


# ------------------------------------------------------------------------------------- the layers


def test_linear(backend, rng):
    x, w, b = rng.normal(size=(N, IN)), rng.normal(size=(OUT, IN)), rng.normal(size=OUT)
    dy = rng.normal(size=(N, OUT))

    def forward(x, w, b):
        return entries((N, OUT), lambda m, n: add(lambda p: x[m, p] * w[n, p], IN) + b[n])

    def loss(x, w, b):
        y = forward(x, w, b)
        return add(lambda m, n: dy[m, n] * y[m, n], N, OUT)

    y = compute("linear_forward", (x, w, b), (N, OUT))
    assert_matches(forward(x, w, b), y, bound(IN, np.abs(x) @ np.abs(w.T) + np.abs(b)))
    dx, dw, db = compute("linear_backward", (dy, x, w), (N, IN), (OUT, IN), (OUT,))

    with_deltas = entries(
        (OUT, IN),
        lambda i, j: add(lambda m, n, p: dy[m, n] * x[m, p] * delta(n, i) * delta(p, j), N, OUT, IN),
    )
    result = entries((OUT, IN), lambda i, j: add(lambda m: dy[m, i] * x[m, j], N))
    for ref in (with_deltas, result, dy.T @ x, derivative(lambda w: loss(x, w, b), w)):
        assert_matches(ref, dw, product_bound(dy.T, x, FLOAT))

    with_deltas = entries((OUT,), lambda i: add(lambda m, n: dy[m, n] * delta(n, i), N, OUT))
    result = entries((OUT,), lambda i: add(lambda m: dy[m, i], N))
    for ref in (with_deltas, result, dy.T @ np.ones(N), derivative(lambda b: loss(x, w, b), b)):
        assert_matches(ref, db, bound(N, np.abs(dy).sum(axis=0)))

    with_deltas = entries(
        (N, IN),
        lambda i, j: add(lambda m, n, p: dy[m, n] * delta(m, i) * delta(p, j) * w[n, p], N, OUT, IN),
    )
    result = entries((N, IN), lambda i, j: add(lambda n: dy[i, n] * w[n, j], OUT))
    for ref in (with_deltas, result, dy @ w, derivative(lambda x: loss(x, w, b), x)):
        assert_matches(ref, dx, product_bound(dy, w, FLOAT))


ALPHA = 0.3


def sigma(x):
    return 1 / (1 + cmath.exp(-x)) if isinstance(x, complex) else 1 / (1 + math.exp(-x))


def positive(x):
    return complex(x).real > 0


@pytest.mark.skipif(SIMULATED, reason="no kernels for GPUs")
def test_binned_linear(backend, rng):
    """One column of BINS bins beside a dense one, and one of as many levels."""
    bins = 4
    layer = fm.BinnedLinear(1, [bins], OUT, levels=[bins], dtype=FLOAT, rng=0)
    table = layer.state_dict()["table"].T
    p, levels = np.array([0.25, 2.5, 3.75, 1.5]), np.array([3, 0, 2, 2])
    dy = rng.normal(size=(N, OUT))
    r, f = np.floor(p).astype(int), p - np.floor(p)
    S = entries((bins, OUT), lambda i, n: add(lambda k: table[k, n], i))
    share = entries((N, OUT), lambda m, n: S[r[m], n] + f[m] * table[r[m], n] + table[bins + levels[m], n])
    state = layer.state_dict()
    x = np.column_stack([rng.normal(size=N), p, levels])
    y = x[:, :1] @ state["weight"].T + state["bias"] + share
    assert_matches(y, layer.forward(x), bound(4, 4 * (np.abs(y) + 1)))
    dx = layer.backward(dy)

    def sums(places):
        return entries((bins, OUT), lambda k, j: add(lambda m: delta(k, places[m]) * dy[m, j], N))

    G = sums(r)
    dT = entries(
        (bins, OUT),
        lambda i, j: add(lambda m: f[m] * delta(i, r[m]) * dy[m, j], N) + add(lambda k: (k > i) * G[k, j], bins),
    )
    ref = np.concatenate([dT, sums(levels)]).T
    assert_matches(ref, layer.grads["table"], bound(N, np.abs(dy).sum()))
    dp = entries((N,), lambda m: add(lambda n: dy[m, n] * table[r[m], n], OUT))
    assert_matches(np.column_stack([dy @ state["weight"], dp, 0 * dp]), dx, bound(OUT, np.abs(dy).sum()))


@pytest.mark.parametrize("kind", formulas.names("activations"))
def test_activation(kind, backend, rng):
    exact = curve(kind, ALPHA)
    x, dy = rng.uniform(-2, 2, (N, OUT)), rng.normal(size=(N, OUT))
    y = compute("activation_forward", (kind, ALPHA, x), (N, OUT))
    assert_matches(exact.h(x), y, bound(4, 2.0))  # all terms are of order 1
    dx = compute("activation_backward", (kind, ALPHA, dy, x, y), (N, OUT))
    by_definition = derivative(lambda x: (dy * exact.h(x)).sum(), x)
    for ref in (dy * exact.slope(x), by_definition):
        assert_matches(ref, dx, bound(4, 2 * np.abs(dy)))


@pytest.mark.parametrize("name", KINKED)
def test_kinks(name, backend):
    """The page states the slope at each; that of `tests/activations` is computed."""
    module = ACTIVATIONS[name]()
    (row,) = re.findall(
        rf"^\|.*\| ([^|]+) \| `formulas/activations/{module.kind}.py: derivative` \|$", SECTIONS["Activations"], re.M
    )
    slopes = {float(x): slope for x, slope in re.findall(r"h'\((-?\d+)\) = ([^$]+)\$", row)}
    assert tuple(sorted(slopes)) == module.kinks
    for kink, slope in slopes.items():
        x = np.array([[kink, kink]])
        dx = compute("activation_backward", (module.kind, module.alpha, np.ones_like(x), x, x), x.shape)
        assert_matches(curve(module.kind, module.alpha).slope(x), dx, bound(1, 2.0))
        assert_matches(x * 0 + (module.alpha if slope == r"\alpha" else float(slope)), dx, bound(1, 2.0))


def softmax(x):
    """Row by row, as the definition reads; takes complex numbers."""
    return entries(x.shape, lambda m, n: np.exp(x[m, n]) / add(lambda k: np.exp(x[m, k]), x.shape[1]))


def test_softmax(backend, rng):
    x, dy = rng.normal(size=(N, OUT)), rng.normal(size=(N, OUT))
    y = compute("softmax_forward", (x,), (N, OUT))
    assert_matches(softmax(x), y, bound(OUT, 4 * y))
    dx = compute("softmax_backward", (dy, y), (N, OUT))
    jacobian = entries((N, OUT), lambda i, j: add(lambda n: dy[i, n] * y[i, n] * (delta(n, j) - y[i, j]), OUT))
    result = entries((N, OUT), lambda i, j: y[i, j] * (dy[i, j] - add(lambda n: dy[i, n] * y[i, n], OUT)))
    by_definition = derivative(lambda x: (dy * softmax(x)).sum(), x)
    size = 4 * y * (np.abs(dy) + (np.abs(dy) * y).sum(axis=1, keepdims=True))
    for ref in (jacobian, result, by_definition):
        assert_matches(ref, dx, bound(OUT, size))


def test_layer_norm(backend, rng):
    x, dy = rng.normal(1, 2, (N, OUT)), rng.normal(size=(N, OUT))
    gamma, beta, epsilon = rng.normal(size=OUT), rng.normal(size=OUT), 0.1

    def normalized(x):
        mu = entries((N,), lambda m: add(lambda k: x[m, k], OUT) / OUT)
        v = entries((N,), lambda m: add(lambda k: (x[m, k] - mu[m]) ** 2, OUT) / OUT)
        return entries((N, OUT), lambda m, k: (x[m, k] - mu[m]) / (v[m] + epsilon) ** 0.5)

    def loss(x, gamma, beta):
        z = normalized(x)
        return add(lambda m, k: dy[m, k] * (gamma[k] * z[m, k] + beta[k]), N, OUT)

    z = normalized(x)
    mean, rstd, y = compute("layer_norm_forward", (x, gamma, beta, epsilon), (N,), (N,), (N, OUT))
    spread = 1 + rstd[:, None] * np.abs(x).max()  # rounding error that remains after centering
    size = np.abs(z * gamma) + np.abs(beta) + np.abs(gamma) * spread
    assert_matches(entries((N, OUT), lambda m, k: gamma[k] * z[m, k] + beta[k]), y, bound(OUT, size))

    dx, dgamma, dbeta = compute("layer_norm_backward", (dy, x, gamma, mean, rstd), (N, OUT), (OUT,), (OUT,))
    rho = entries((N,), lambda m: 1 / math.sqrt(add(lambda k: (x[m, k] - x[m].mean()) ** 2, OUT) / OUT + epsilon))
    g = entries((N, OUT), lambda m, k: dy[m, k] * gamma[k])
    jacobian = entries(
        (N, OUT),
        lambda m, j: add(lambda k: g[m, k] * rho[m] * (delta(k, j) - 1 / OUT - z[m, k] * z[m, j] / OUT), OUT),
    )
    result = entries(
        (N, OUT),
        lambda m, j: (
            rho[m]
            * (g[m, j] - add(lambda k: g[m, k], OUT) / OUT - z[m, j] * add(lambda k: g[m, k] * z[m, k], OUT) / OUT)
        ),
    )
    largest = np.abs(g).max(axis=1, keepdims=True)
    size = rstd[:, None] * spread**2 * largest * (2 + np.abs(z) * np.abs(z).max())
    for ref in (jacobian, result, derivative(lambda x: loss(x, gamma, beta), x)):
        assert_matches(ref, dx, bound(OUT, size))
    result = entries((OUT,), lambda j: add(lambda m: dy[m, j] * z[m, j], N))
    for ref in (result, derivative(lambda gamma: loss(x, gamma, beta), gamma)):
        assert_matches(ref, dgamma, bound(N, (np.abs(dy) * (np.abs(z) + spread)).sum(axis=0)))
    result = entries((OUT,), lambda j: add(lambda m: dy[m, j], N))
    for ref in (result, derivative(lambda beta: loss(x, gamma, beta), beta)):
        assert_matches(ref, dbeta, bound(N, np.abs(dy).sum(axis=0)))


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 1.0])
def test_dropout(rate, backend, rng):
    seed, layer, step = 42, 1, 7
    x, dy = rng.normal(size=(N, OUT)), rng.normal(size=(N, OUT))

    def mask(m, n):
        words = philox4x32((n // 4, m, step, DROPOUT << 24 | layer), seed)
        return 1 / (1 - rate) if int(words[n % 4]) >= math.floor(2**32 * rate) else 0.0

    where = (rate, seed, layer, step)
    for values in (x, dy):
        ref = entries((N, OUT), lambda i, j, values=values: mask(i, j) * values[i, j])
        assert_matches(ref, compute("dropout", (values, *where), (N, OUT)), bound(1, np.abs(ref)))
    rows, columns = 300, 400
    many = compute("dropout", (np.ones((rows, columns)), *where), (rows, columns))
    error = 5 * math.sqrt(rate * (1 - rate) / many.size)  # five standard deviations
    assert abs((many > 0).mean() - (1 - rate)) <= error


def test_normalize(backend, rng):
    x, dy, mu, s = (rng.normal(size=size) for size in ((N, IN), (N, IN), IN, IN))
    module = fm.Normalize(mu, s, dtype=FLOAT)
    ref = entries((N, IN), lambda m, n: (x[m, n] - mu[n]) / s[n])
    assert_matches(ref, module.forward(x), bound(1, np.abs(ref)))
    result = entries((N, IN), lambda i, j: dy[i, j] / s[j])
    by_definition = derivative(lambda x: add(lambda m, n: dy[m, n] * (x[m, n] - mu[n]) / s[n], N, IN), x)
    for ref in (result, by_definition):
        assert_matches(ref, module.backward(dy), bound(1, np.abs(result)))


# ------------------------------------------------------------------------------------- the losses


@pytest.mark.parametrize("from_logits", [True, False], ids=["logits", "probabilities"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
@pytest.mark.parametrize("soft", [False, True], ids=["indices", "rows"])
def test_cross_entropy(soft, weighted, smoothing, from_logits, backend, rng):
    x = rng.normal(size=(N, OUT))
    x = x if from_logits else softmax(x)
    target = rng.uniform(size=(N, OUT)) if soft else np.array([4, 0, 2, 0])  # rows need not sum to 1
    w = rng.uniform(0.5, 2, OUT) if weighted else np.ones(OUT)
    s = rng.uniform(0.5, 2, N) if weighted else np.ones(N)
    t = target if soft else entries((N, OUT), lambda i, j: delta(j, target[i]))
    t = entries((N, OUT), lambda i, j: (1 - smoothing) * t[i, j] + smoothing / OUT)
    n = add(lambda i: s[i] * (1 if soft else w[target[i]]), N)
    r = s / n

    def rows(x):
        if from_logits:
            totals = entries((N,), lambda i: add(lambda k: cmath.exp(x[i, k]), OUT))
            return entries((N,), lambda i: add(lambda k: w[k] * t[i, k] * (cmath.log(totals[i]) - x[i, k]), OUT))
        return entries((N,), lambda i: -add(lambda k: w[k] * t[i, k] * cmath.log(x[i, k]), OUT))

    def value(x):
        losses = rows(x)
        return add(lambda i: r[i] * losses[i], N)

    def by_formula(i, j):
        if from_logits:
            return r[i] * (p[i, j] * add(lambda k: w[k] * t[i, k], OUT) - w[j] * t[i, j])
        return r[i] * -w[j] * t[i, j] / x[i, j]

    p = softmax(x)
    loss = fm.CrossEntropyLoss(class_weight=w if weighted else None, label_smoothing=smoothing, from_logits=from_logits)
    got, dx = loss.forward_backward(x, target, s if weighted else None)
    size = 4 * r[:, None] * (p * (w * t).sum(axis=1, keepdims=True) + w * t / (1 if from_logits else x))
    for ref in (entries((N, OUT), by_formula), derivative(value, x)):
        assert_matches(ref, dx, bound(OUT, size))
    largest = np.abs(x).max() + math.log(OUT) if from_logits else np.abs(np.log(x)).max()
    assert_matches(value(x).real, got, bound(N * OUT, 4 * largest * (r[:, None] * w * t).sum()))


@pytest.mark.parametrize("soft", [False, True], ids=["indices", "rows"])
def test_cross_entropy_as_a_function_of_probabilities(soft, backend, rng):
    x, w, r = rng.normal(size=(N, OUT)), rng.uniform(0.5, 2, OUT), rng.uniform(0.1, 1, N)
    target = rng.uniform(size=(N, OUT)) if soft else np.array([4, 0, 2, 0])
    ref = compute("cross_entropy", [x, target, w, 0.1, r], (N,), (N, OUT))
    comp = compute("classwise_loss", ["cross_entropy", x, target, w, (0.1, 0.0), r], (N,), (N, OUT))
    weights = r * (2.1 * target.sum(axis=1) if soft else 2.1)
    assert_matches(ref[0], comp[0], bound(OUT, weights * (1 + 2 * np.abs(x).max() + math.log(OUT))))
    assert_matches(ref[1], comp[1], bound(OUT, 4 * weights[:, None] + 0 * x))


def test_fused_form_is_both_steps_at_once(backend, rng):
    x, target = rng.normal(size=(N, OUT)), [1, 0, 4, 4]
    module, steps = fm.Softmax(), fm.CrossEntropyLoss(from_logits=False)
    ref = module.backward(steps.backward(module.forward(x), target))
    assert_matches(ref, fm.CrossEntropyLoss().backward(x, target), bound(OUT, 4.0))

    # The underflow example of the page.
    text = " ".join(SECTIONS["Cross-entropy from logits: the fused form"].split())
    assert "logits $(2000, 0)$ and class 1 the fused form gives $(1, -1)$, and the two steps $(0, 0)$" in text
    x, target = np.array([[2000.0, 0.0]]), [1]
    np.testing.assert_array_equal(fm.CrossEntropyLoss().backward(x, target), [[1, -1]])
    np.testing.assert_array_equal(module.backward(steps.backward(module.forward(x), target)), [[0, 0]])


DELTA = 0.7
POSITIVE = np.array([0.5, 1.0, 2.0, 3.0, 1.5])


def absolute(d):
    return d if positive(d) else -d


def softplus(x):
    return cmath.log(1 + cmath.exp(x))


# name: (loss class, l(x, t, j), derivative)
ELEMENTS = {
    "mse": (fm.MSELoss, lambda x, t, j: (x - t) ** 2, lambda x, t, j: 2 * (x - t)),
    "l1": (fm.L1Loss, lambda x, t, j: absolute(x - t), lambda x, t, j: math.copysign(1, x - t)),
    "huber": (
        lambda: fm.HuberLoss(DELTA),
        lambda x, t, j: (x - t) ** 2 / 2 if abs(x - t) <= DELTA else DELTA * (absolute(x - t) - DELTA / 2),
        lambda x, t, j: min(max(x - t, -DELTA), DELTA),
    ),
    "log_cosh": (fm.LogCoshLoss, lambda x, t, j: cmath.log(cmath.cosh(x - t)), lambda x, t, j: math.tanh(x - t)),
    "quantile": (
        lambda: fm.QuantileLoss(0.2),
        lambda x, t, j: 0.2 * (t - x) if positive(t - x) else -0.8 * (t - x),
        lambda x, t, j: -0.2 if positive(t - x) else 0.8,
    ),
    "poisson": (fm.PoissonLoss, lambda x, t, j: cmath.exp(x) - t * x, lambda x, t, j: math.exp(x) - t),
    "bce_with_logits": (
        lambda: fm.BCEWithLogitsLoss(POSITIVE),
        lambda x, t, j: POSITIVE[j] * t * softplus(-x) + (1 - t) * softplus(x),
        lambda x, t, j: (1 - t) * sigma(x) - POSITIVE[j] * t * sigma(-x),
    ),
}


@pytest.mark.parametrize("name", ELEMENTS)
def test_losses_on_single_elements(name, backend, rng):
    make, term, slope = ELEMENTS[name]
    x, t, s = rng.normal(size=(N, OUT)), rng.uniform(size=(N, OUT)), rng.uniform(0.5, 2, N)
    r = s / (OUT * add(lambda i: s[i], N))

    def value(x):
        return add(lambda i, j: r[i] * term(x[i, j], t[i, j], j), N, OUT)

    got, dx = make().forward_backward(x, t, s)
    size = 4 * r[:, None] * POSITIVE.max() * (1 + np.abs(x) + t)
    for ref in (entries((N, OUT), lambda i, j: r[i] * slope(x[i, j], t[i, j], j)), derivative(value, x)):
        assert_matches(ref, dx, bound(1, size))
    assert_matches(complex(value(x)).real, got, bound(N * OUT, (size * (1 + np.abs(x) + t)).sum()))


def test_l1_at_its_kink(backend):
    assert "| $0$ at $d = 0$ |" in SECTIONS["Losses on single elements"]
    np.testing.assert_array_equal(fm.L1Loss().backward([[1.0, 2.0]], [[1.0, 1.0]]), [[0.0, 0.5]])


# --------------------------------------------------------------------------------- the optimizers


@pytest.mark.parametrize("name", EXAMPLES)
def test_optimizer(name, backend, rng):
    optimizer, expected = EXAMPLES[name](), {}
    layer = fm.Linear(OUT, N, bias=False, dtype=FLOAT, rng=0)
    optimizer.prepare(layer)
    kept = {kind: np.array(layer.backend.to_numpy(array)) for kind, array in optimizer.state["weight"].items()}
    states = tuple(kept.get(kind) for kind in optimizer.kinds)
    p = np.array(layer.backend.to_numpy(layer.params["weight"]))
    comp, path = p.copy(), np.abs(p)
    for t in range(1, 9):
        g, before = rng.normal(size=p.shape), p
        p = update(optimizer)(optimizer, t, g, p, expected)
        path = path + np.abs(p - before)
        numbers = columns(optimizer.numbers(np.array([optimizer.schedule(t - 1)]), t), 1)[0]
        get_backend().optimizer_update(optimizer.kernel, tuple(numbers.tolist()), g, states, comp)
        assert_matches(p, comp, bound(t, 8 * path), f"step {t}")
        for kind, state in kept.items():
            assert_matches(expected[kind], state, bound(t, 8 + 4 * np.abs(expected[kind])), f"{kind} of step {t}")


def test_nesterovs_point_ahead(rng):
    optimizer, momentum, rate = fm.SGD(0.1, 0.9, True), 0.9, 0.1
    theta = phi = rng.normal(size=OUT)
    v, state = np.zeros(OUT), {}
    for t in range(1, 6):
        gradient = np.sin(phi - rate * momentum * v)
        theta = update(optimizer)(optimizer, t, np.sin(theta), theta, state)
        v = momentum * v + gradient
        phi = phi - rate * v
        assert_matches(phi - rate * momentum * v, theta, bound(t, 8.0))


def test_bias_correction_of_adam(rng):
    optimizer, state, p = fm.Adam(0.1, (0.8, 0.9), eps=0.0), {}, np.zeros(OUT)
    g = rng.normal(size=OUT) * 10.0 ** np.arange(OUT)
    for t in range(1, 6):  # a constant gradient is its own expectation
        p = update(optimizer)(optimizer, t, g, p, state)
        assert_matches(g * (1 - 0.8**t), state["exp_avg"], bound(t, np.abs(g)))
        assert_matches(g**2 * (1 - 0.9**t), state["exp_avg_sq"], bound(t, g**2))
        assert_matches(-t * 0.1 * np.sign(g), p, bound(t, 4.0))


# ----------------------------------------------------------------------------- the worked example


def printed():
    """The matrices of the page's example, by name."""
    matrices = re.findall(r"(\w+) = \\begin\{bmatrix\}(.*?)\\end\{bmatrix\}", SECTIONS["A worked example"])
    return {
        name: np.array([[float(number) for number in row.split("&")] for row in body.split(r"\\")])
        for name, body in matrices
    }


def test_worked_example():
    page = printed()
    x, w, b = page["X"], page["W"], page["b"][0]
    (targets,) = re.findall(r"targets \$y = \(([\d, ]+)\)\$", SECTIONS["A worked example"])
    targets = [int(target) for target in targets.split(",")]
    rows, inputs, classes = 2, 2, 3

    y = entries((rows, classes), lambda m, n: add(lambda p: x[m, p] * w[n, p], inputs) + b[n])
    p = softmax(y)
    t = entries((rows, classes), lambda i, j: delta(j, targets[i]))
    dy = (p - t) / rows
    losses = entries((1, rows), lambda _, i: -math.log(p[i, targets[i]]))
    ref = {
        "X": x,
        "W": w,
        "b": b[None],
        "Y": y,
        "P": p,
        "l": losses,
        "L": losses.mean(keepdims=True),
        "T": t,
        "dY": dy,
        "dW": entries((classes, inputs), lambda i, j: add(lambda m: dy[m, i] * x[m, j], rows)),
        "db": entries((1, classes), lambda _, i: add(lambda m: dy[m, i], rows)),
        "dX": entries((rows, inputs), lambda i, j: add(lambda n: dy[i, n] * w[n, j], classes)),
    }
    assert page.keys() == ref.keys()
    for name, values in page.items():
        assert_matches(ref[name], values, 0.5001e-4, name)  # four decimals


def test_entries_by_hand():
    by_hand = re.findall(r"\$(d[WbX])_\{?(\d+)\}? = ([^=$]+) = ([^=$]+)\$", SECTIONS["A worked example"])
    assert [name for name, *_ in by_hand] == ["dW", "db", "dX"]
    for name, index, expression, value in by_hand:
        place = tuple(int(digit) for digit in index.rjust(2, "0"))
        assert eval(expression.replace(r"\cdot", "*")) == pytest.approx(float(value), abs=1e-9)
        assert printed()[name][place] == float(value)


def test_example_in_code(backend):
    section, page = SECTIONS["A worked example"], printed()
    (code,) = re.findall(r"^```python\n(.*?)^```$", section, flags=re.DOTALL | re.MULTILINE)
    found = {}
    exec(code, found)
    grads = found["layer"].grads
    got = {"Y": found["y"], "dY": found["dy"], "dX": found["dx"]}
    got |= {"dW": grads["weight"], "db": grads["bias"][None]}
    for name, values in got.items():
        assert_matches(values, page[name], 0.5001e-4, name)
    value, after = (f"{found[name]:.4f}" for name in ("value", "after"))
    assert f"brings the loss from {value} down to {after}." in " ".join(section.split())
    assert re.findall(r"# (\d\.\d{4})", code) == [value, after]
