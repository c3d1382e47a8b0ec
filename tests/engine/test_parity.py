"""Steps of the engine against steps of the modules: one, ten and five hundred."""

from __future__ import annotations

import contextlib
from functools import partial

import loss_zoo
import numpy as np
import pytest
from activations import EXAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizers import EXAMPLES as OPTIMIZER_EXAMPLES
from same_steps import assert_same_steps, modules_only

import fastmlp as fm

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("the engine runs jitted only", allow_module_level=True)

momentum = partial(fm.SGD, 0.1, 0.9)


@pytest.fixture(autouse=True)
def on_numba():
    with fm.use_backend("numba"):
        yield


def rows_of(count=33, features=9, classes=3, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((count, features)), generator.integers(0, classes, count)


def linear(inputs, outputs, dtype, bias=True):
    return fm.Linear(inputs, outputs, bias, dtype=dtype, rng=inputs, layer=outputs)


def between(*modules, width=9):
    """A model with these between two Linears."""
    return lambda d: fm.Sequential(linear(9, width, d), *(make(d) for make in modules), linear(width, 3, d))


ACTIVATIONS = {name: lambda d, make=make: make() for name, make in EXAMPLES.items()}


def norm(affine=True, width=9):
    return lambda d: fm.LayerNorm(width, affine=affine, dtype=d)


def scaling(most, width=9):
    return lambda d: fm.Normalize(np.linspace(-1, 1, width), np.linspace(1, most, width), d)


MODULES = {
    "one-linear": lambda d: linear(9, 3, d),
    "no-bias": lambda d: fm.Sequential(linear(9, 7, d, False), fm.Tanh(), linear(7, 3, d, False)),
    "two-linears": between(),
    "deep": lambda d: fm.MLP(9, [17, 5, 11, 8], 3, "elu", dtype=d, rng=1),
    "everything": lambda d: fm.MLP(
        9, [17, 12], 3, "silu", dropout=0.2, layer_norm=True, normalize=scaling(2)(d), dtype=d, rng=1
    ),
    "norm": between(norm()),
    "norm-then-tanh": between(norm(), ACTIVATIONS["tanh"]),
    "plain-norm": between(norm(False), ACTIVATIONS["tanh"]),
    "norm-first": lambda d: fm.Sequential(norm()(d), linear(9, 3, d)),
    "plain-norm-first": lambda d: fm.Sequential(norm(False)(d), linear(9, 3, d)),
    "norm-last": lambda d: fm.Sequential(linear(9, 3, d), norm(True, 3)(d)),
    "dropout": between(ACTIVATIONS["relu"], lambda d: fm.Dropout(0.4)),
    "dropout-first": lambda d: fm.Sequential(fm.Dropout(0.4), linear(9, 3, d)),
    "dropouts": between(lambda d: fm.Dropout(0.4), ACTIVATIONS["gelu"], lambda d: fm.Dropout(0.1)),
    "dropout-of-all": between(ACTIVATIONS["tanh"], lambda d: fm.Dropout(1.0)),
    "dropout-of-none": between(ACTIVATIONS["tanh"], lambda d: fm.Dropout(0.0)),
    "softmax-between": between(lambda d: fm.Softmax()),
    "mean": lambda d: fm.Sequential(scaling(1)(d), linear(9, 3, d)),
    "mean-and-scale": lambda d: fm.Sequential(scaling(2)(d), linear(9, 8, d), fm.Tanh(), linear(8, 3, d)),
    "scaled-outputs": lambda d: fm.Sequential(linear(9, 3, d), scaling(-4, 3)(d)),
    "scaled-activation": lambda d: fm.Sequential(fm.MLP(9, [8], 3, dtype=d, rng=1), fm.Tanh(), scaling(4, 3)(d)),
    "scaled-between": between(scaling(3)),
    "scaled-then-tanh": between(norm(), scaling(3), ACTIVATIONS["tanh"], scaling(0.5)),
    "scaled-thrice": lambda d: fm.Sequential(scaling(2)(d), scaling(3)(d), scaling(-0.5)(d), linear(9, 3, d)),
    "scaled-after-dropout": lambda d: fm.Sequential(fm.Dropout(0.4), scaling(3)(d), linear(9, 3, d)),
    "scaled-after-identity": lambda d: fm.Sequential(fm.Identity(), fm.Sequential(scaling(3)(d), linear(9, 3, d))),
    "activation-first": lambda d: fm.Sequential(fm.Tanh(), linear(9, 3, d)),
    "activation-last": lambda d: fm.Sequential(linear(9, 3, d), fm.ELU()),
    "two-activations": between(ACTIVATIONS["tanh"], ACTIVATIONS["gelu"]),
    "two-flat-activations": between(ACTIVATIONS["gelu"], ACTIVATIONS["elu-0"], norm(), ACTIVATIONS["leaky_relu"]),
    "without-parameters": between(ACTIVATIONS["identity"], lambda d: fm.Softmax(), norm(False), ACTIVATIONS["silu"]),
    "nested": lambda d: fm.Sequential(
        fm.Sequential(linear(9, 8, d), fm.Sequential(fm.ReLU())), fm.MLP(8, [5], 3, dtype=d, rng=0)
    ),
    "nothing-trained": lambda d: fm.Sequential(norm(False)(d), fm.Softmax()),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", MODULES)
def test_every_module(name, dtype):
    classes = 9 if name == "nothing-trained" else 3
    assert_same_steps(lambda: MODULES[name](dtype), fm.CrossEntropyLoss, momentum, rows_of(classes=classes))


@pytest.mark.sampled
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_after_a_product_and_by_itself(name, dtype):
    make = ACTIVATIONS[name]
    assert_same_steps(lambda: between(make)(dtype), fm.CrossEntropyLoss, momentum, rows_of())
    assert_same_steps(lambda: between(make, norm(), make)(dtype), fm.CrossEntropyLoss, momentum, rows_of())


ALL = {"class_weight": [0.5, 2.0, 1.0], "label_smoothing": 0.2}
CROSS_ENTROPIES = [{}, {"class_weight": ALL["class_weight"]}, {"label_smoothing": 0.2}, ALL]


@pytest.mark.sampled
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "sample_weight"])
@pytest.mark.parametrize("soft", [False, True], ids=["index", "soft"])
@pytest.mark.parametrize("from_logits", [True, False], ids=["logits", "probabilities"])
@pytest.mark.parametrize("options", CROSS_ENTROPIES, ids=["plain", "class_weight", "smoothing", "both"])
def test_cross_entropy(options, from_logits, soft, weighted, dtype):
    X, y = rows_of()
    generator = np.random.default_rng(1)
    y = generator.dirichlet(np.ones(3), len(y)) if soft else y
    weight = generator.uniform(0.1, 2, len(X)) if weighted else None
    last = [] if from_logits else [fm.Softmax()]
    model = lambda: fm.Sequential(linear(9, 8, dtype), fm.Tanh(), linear(8, 3, dtype), *last)  # noqa: E731
    loss = partial(fm.CrossEntropyLoss, from_logits=from_logits, **options)
    assert_same_steps(model, loss, momentum, (X, y), weight=weight)


@pytest.mark.sampled
@pytest.mark.parametrize("batch", [15, 16, 33])
@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.5}], ids=["plain", "clip_norm"])
@pytest.mark.parametrize("outputs", [1, 3, 6, 11, 12, 18, 33, 43])
def test_layers_of_few_outputs(outputs, clip, batch, dtype):
    """The gradient of a panel of few outputs is computed transposed from 16 rows on."""
    model = partial(fm.MLP, 37, [outputs, 19], 3, "tanh", dtype=dtype, rng=0)
    data = rows_of(66, 37)
    assert_same_steps(model, fm.CrossEntropyLoss, partial(fm.SGD, 0.1, 0.9, **clip), data, batch=batch, l2=0.01)


@pytest.mark.parametrize("options", [{}, {"class_weight": np.linspace(0.5, 2, 1000), "label_smoothing": 0.1}])
def test_a_thousand_classes(options, dtype):
    model = partial(fm.MLP, 9, [20], 1000, "tanh", dtype=dtype, rng=0)
    assert_same_steps(model, partial(fm.CrossEntropyLoss, **options), momentum, rows_of(classes=1000))


@pytest.mark.sampled
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "sample_weight"])
@pytest.mark.parametrize("name", loss_zoo.NAMES)
def test_every_loss(name, weighted, dtype):
    generator = np.random.default_rng(2)
    X, y = generator.standard_normal((33, 9)), loss_zoo.targets_of(name, generator, 33)
    weight = generator.uniform(0.1, 2, len(X)) if weighted else None
    last = [] if name in loss_zoo.FROM_LOGITS else [fm.Softmax()]
    model = lambda: fm.Sequential(linear(9, 8, dtype), fm.Tanh(), linear(8, 5, dtype), *last)  # noqa: E731
    assert_same_steps(model, partial(loss_zoo.make, name), lambda: fm.SGD(0.02, 0.9), (X, y), weight=weight)


@pytest.mark.sampled
@pytest.mark.parametrize("name", [*loss_zoo.ELEMENTWISE, "rows"])
def test_losses_of_one_column(name, dtype):
    generator = np.random.default_rng(2)
    y = generator.uniform(size=33) if name == "rows" else loss_zoo.targets_of(name, generator, 33, 1)[:, 0]
    loss = partial(fm.MSELoss, half=True, reduction="rows") if name == "rows" else partial(loss_zoo.make, name)
    model = partial(fm.MLP, 9, [8], 1, "tanh", dtype=dtype, rng=0)
    assert_same_steps(model, loss, lambda: fm.SGD(0.02, 0.9), (generator.standard_normal((33, 9)), y))


OPTIMIZERS = {
    **OPTIMIZER_EXAMPLES,
    **{f"{name}, eps 0": partial(make, eps=0.0) for name, make in OPTIMIZER_EXAMPLES.items() if hasattr(make(), "eps")},
    **{
        f"{name}, clipped": partial(make, lr=fm.Cosine(make().current_lr, 8), clip_norm=0.05, clip_value=0.02)
        for name, make in OPTIMIZER_EXAMPLES.items()
    },
    "clip_value": lambda: fm.SGD(0.5, 0.9, clip_value=0.01),
    "clip_norm": lambda: fm.SGD(0.5, 0.9, clip_norm=0.05),
    "clip_norm-far": lambda: fm.SGD(0.1, clip_norm=1e3),
    "clip-eps-0": lambda: fm.RMSprop(eps=0.0, clip_norm=0.05),
    "step-decay": lambda: fm.SGD(fm.StepDecay(0.2, 3, 0.5)),
    "exponential": lambda: fm.Adam(fm.Exponential(0.02, 0.8)),
    "one-cycle": lambda: fm.SGD(fm.OneCycle(0.2, 9), 0.9),
    "warmup": lambda: fm.Adagrad(fm.LinearWarmup(0.1, 4)),
    "plateau": lambda: fm.SGD(fm.ReduceOnPlateau(0.5, 0.5, patience=0)),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name, dtype):
    model = partial(fm.MLP, 9, [9, 7], 3, "tanh", layer_norm=True, dtype=dtype, rng=0)
    assert_same_steps(model, fm.CrossEntropyLoss, OPTIMIZERS[name], rows_of())


@pytest.mark.sampled
@pytest.mark.parametrize("width", [1, 7, 8, 9, 15, 16, 17, 31, 33])
def test_widths_around_the_panel(width, dtype):
    model = partial(fm.MLP, width, [width, width], width, "gelu", layer_norm=width > 1, dtype=dtype, rng=0)
    for rows, batch in ((33, 13), (700, 520)):
        assert_same_steps(model, fm.CrossEntropyLoss, momentum, rows_of(rows, width, width), batch=batch, threads=2)


@pytest.mark.parametrize("width", [1, 7, 8, 9, 15, 16, 17, 31, 33])
def test_scaled_outputs_of_a_regression(width, dtype):
    """As `fastmlp train` has them: in the targets' unit, which may be a million."""
    X, _ = rows_of(33, width)
    y = 1e6 + 1e5 * np.random.default_rng(width).standard_normal((33, width))
    scales = np.linspace(1e-5, 2e-5, width)

    def model():
        mlp = fm.MLP(width, [9], width, "tanh", normalize=scaling(2, width)(dtype), dtype=dtype, rng=0)
        return fm.Sequential(mlp, fm.Normalize(-1e6 * scales, scales, dtype))

    assert_same_steps(model, fm.MSELoss, lambda: fm.Adam(0.01), (X, y), threads=2)


@pytest.mark.parametrize("batch", [1, 2, 5, 6, 7, 13, 200, 257, 520])
def test_sizes_of_batches(batch, dtype):
    rows = batch + (batch + 1) // 2  # each epoch ends in a short batch
    model = partial(fm.MLP, 9, [12], 3, "tanh", dropout=0.2, dtype=dtype, rng=0)
    threads = 1 if batch == 520 else 2  # one thread, to cover many rows per thread
    assert_same_steps(model, fm.CrossEntropyLoss, momentum, rows_of(rows), batch=batch, threads=threads)


@pytest.mark.sampled
# In the last case, one thread's rows of a layer fill exactly one prefetch distance.
@pytest.mark.parametrize(("rows", "batch", "threads"), [(33, 13, 2), (700, 520, 2), (512, 512, 1)])
def test_sums_of_several_blocks(rows, batch, threads, dtype):
    model = partial(fm.MLP, 600, [530, 270], 300, "tanh", dtype=dtype, rng=0)
    data = rows_of(rows, 600, 300)
    assert_same_steps(model, fm.CrossEntropyLoss, momentum, data, batch=batch, steps=3, threads=threads)


@pytest.mark.slow
@settings(deadline=None, derandomize=True, database=None, max_examples=60)
@given(st.data())
def test_any_model(data):
    """Widths, kinds of modules, batches and threads at random."""
    draw, dtype = data.draw, np.dtype(data.draw(st.sampled_from(["float32", "float64"])))
    widths = draw(st.lists(st.integers(1, 40), min_size=2, max_size=5))
    kinds = [
        draw(st.lists(st.sampled_from([*ACTIVATIONS, "norm", "dropout", "scaling"]), max_size=3)) for _ in widths[2:]
    ]
    special = {
        "norm": lambda width: fm.LayerNorm(width, dtype=dtype),
        "dropout": lambda width: fm.Dropout(0.3),
        "scaling": lambda width: scaling(2, width)(dtype),
    }
    bias, rows, batch = draw(st.booleans()), draw(st.integers(1, 60)), draw(st.integers(1, 60))

    def model():
        modules = [linear(widths[0], widths[1], dtype, bias)]
        for before, after, names in zip(widths[1:], widths[2:], kinds, strict=False):
            modules += [special[n](before) if n in special else ACTIVATIONS[n](dtype) for n in names]
            modules.append(linear(before, after, dtype))
        return fm.Sequential(*modules)

    X, _ = rows_of(rows, widths[0])
    y = np.random.default_rng(rows).standard_normal((rows, widths[-1]))
    assert_same_steps(
        model, fm.MSELoss, lambda: fm.SGD(0.01, 0.9), (X, y), batch=batch, steps=3, threads=draw(st.integers(1, 3))
    )


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [lambda: fm.SGD(0.1, 0.9), lambda: fm.Adam(0.01)], ids=["sgd", "adam"])
def test_five_hundred_steps_stray_no_further_than_one_ulp_does(optimizer):
    X, y = rows_of(200, 12, 4)

    def curve(way, ulps=None):
        model = fm.MLP(12, [16, 16], 4, "tanh", rng=0)
        if ulps is not None:
            for _, array in model.named_parameters():
                array[...] = np.nextafter(array, ulps.choice(np.array([-np.inf, np.inf], np.float32), array.shape))
        trainer = fm.Trainer(model, fm.CrossEntropyLoss(), optimizer())
        with way():
            history = trainer.fit(X.astype(np.float32), y, batch_size=32, max_steps=500, eval_every=1, rng=5, threads=1)
        return np.array(history["train_loss"])

    ref = curve(modules_only)
    assert ref[-20:].mean() < 0.5 * ref[0]
    bounds = [curve(modules_only, np.random.default_rng(seed)) - ref for seed in range(4)]
    comp = curve(contextlib.nullcontext) - ref
    assert np.abs(comp).max() <= max(np.abs(bound).max() for bound in bounds)
    assert np.sqrt((comp**2).mean()) <= max(np.sqrt((bound**2).mean()) for bound in bounds)
