"""Gradients of all modules, losses and optimizers against PyTorch's autograd in float64.

Both sides round. The tolerance is a few eps of the largest term of a result, times the square root of the number of
terms, see `close`.
"""

import inspect

import numpy as np
import pytest
from activations import EXAMPLES
from optimizers import own_arguments, remake

import fastmlp as fm
from fastmlp.optim import optimizer_types

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra named peers)")

EPS = float(np.finfo(np.float64).eps)
# 1x1, and widths around the tile's rows (6, 8, 12) and columns (16) and one off.
SHAPES = [(1, 1, 1), (1, 5, 7), (6, 8, 16), (7, 9, 17), (5, 7, 15), (13, 11, 12), (12, 13, 6)]
F64 = np.float64


def close(ours, theirs, terms=1, size=1.0):
    """|ours - theirs| <= 8 eps sqrt(terms) max(size, |theirs|)."""
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else np.asarray(theirs)
    assert np.shape(ours) == theirs.shape
    bound = 8 * EPS * np.sqrt(terms) * np.maximum(size, np.abs(theirs).max(initial=0.0, where=np.isfinite(theirs)))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound)


def tensor(array):
    return torch.tensor(np.asarray(array), dtype=torch.float64, requires_grad=True)


def both(module, twin, x, dy, terms=1, size=1.0):
    """Run forward and backward on both sides and compare all there is."""
    X = tensor(x)
    Y = twin(X)
    Y.backward(torch.tensor(dy))
    close(module.forward(x), Y, terms, size)
    close(module.backward(dy), X.grad, terms, size)
    theirs = dict(twin.named_parameters()) if isinstance(twin, torch.nn.Module) else {}
    ours = dict(module.named_gradients())
    assert set(ours) == set(theirs)
    for name, grad in ours.items():
        close(grad, theirs[name].grad, terms * len(x), size)


def copy_to(module, twin):
    twin.load_state_dict({name: torch.tensor(array) for name, array in module.state_dict().items()})
    return twin


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_linear(backend, rng, shape, bias):
    n, i, o = shape
    module = fm.Linear(i, o, bias, dtype=F64, rng=0)
    twin = copy_to(module, torch.nn.Linear(i, o, bias, dtype=torch.float64))
    both(module, twin, rng.normal(size=(n, i)), rng.normal(size=(n, o)), terms=i + o, size=8)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.sampled
def test_activations(backend, rng, name, scale):
    """Exact zeros and the kinks are among the inputs: there the slope is PyTorch's."""
    module = EXAMPLES[name]()
    arguments = {key: value for key, value in module.config().items() if key != "type"}
    twin = getattr(torch.nn, module.torch)(**arguments, **module.torch_options)
    x = scale * rng.normal(size=(7, 17))
    x[0, :4] = [0.0, -0.0, scale, -scale]
    x[1, : len(module.kinks)] = module.kinks
    # PyTorch computes derivatives of SiLU and GELU (tanh form) from terms up to |x|.
    both(module, twin, x, rng.normal(size=x.shape), size=max(1.0, float(np.abs(x).max()) ** 2))


@pytest.mark.parametrize("columns", [1, 2, 8, 17])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_softmax(backend, rng, columns, scale):
    x, dy = scale * rng.normal(size=(6, columns)), rng.normal(size=(6, columns))
    both(fm.Softmax(), torch.nn.Softmax(dim=1), x, dy, terms=columns)


def test_softmax_with_minus_infinity(backend, rng):
    x = rng.normal(size=(6, 5))
    x[rng.random(x.shape) < 0.4] = -np.inf
    x[:, 2] = 0.5
    both(fm.Softmax(), torch.nn.Softmax(dim=1), x, rng.normal(size=x.shape), terms=5)


@pytest.mark.parametrize("columns", [1, 2, 7, 16, 17])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm(backend, rng, columns, affine):
    module = fm.LayerNorm(columns, affine=affine, dtype=F64)
    for array in module.params.values():
        array[...] = rng.normal(size=columns)
    twin = torch.nn.LayerNorm(columns, elementwise_affine=affine, dtype=torch.float64)
    x = rng.normal(size=(6, columns))
    # 1 / sqrt(var + eps) amplifies every rounding error, twice in backward.
    spread = 1 / np.sqrt(x.var(axis=1).min() + 1e-5)
    both(module, copy_to(module, twin), x, rng.normal(size=x.shape), columns, 4 * max(1, spread) ** 2)


def test_dropout(backend, rng):
    """Given our mask, the gradient is autograd's."""
    module = fm.Dropout(0.3, rng=0)
    x, dy = rng.normal(size=(6, 9)), rng.normal(size=(6, 9))
    with module.freeze():
        mask = torch.tensor(module.forward(np.ones((6, 9))))
        both(module, lambda X: X * mask, x, dy)


def test_normalize(backend, rng):
    mean, scale = rng.normal(size=9), rng.uniform(0.5, 2, 9)
    module = fm.Normalize(mean, scale, dtype=F64)
    twin = lambda X: (X - torch.tensor(mean)) / torch.tensor(scale)  # noqa: E731
    both(module, twin, rng.normal(size=(6, 9)), rng.normal(size=(6, 9)), size=4)


HIDDEN = [(), (1,), (6,), (7, 5), (8, 9), (16, 17, 15), (11, 12, 13)]


@pytest.mark.parametrize("hidden", HIDDEN, ids=str)
@pytest.mark.parametrize("name", ["relu", "elu", "tanh", "gelu"])
def test_models_with_their_loss(backend, rng, hidden, name):
    model = fm.MLP(9, hidden, 4, name, dtype=F64, rng=2)
    kinds = {"relu": torch.nn.ReLU, "elu": torch.nn.ELU, "tanh": torch.nn.Tanh, "gelu": torch.nn.GELU}
    layers = []
    for module in model:
        if isinstance(module, fm.Linear):
            layers.append(torch.nn.Linear(module.in_width, module.out_width, dtype=torch.float64))
        else:
            layers.append(kinds[name]())
    twin = copy_to(model, torch.nn.Sequential(*layers))
    x, y = rng.normal(size=(13, 9)), rng.integers(0, 4, 13)
    x[3] = 0.0
    X = tensor(x)
    value = torch.nn.functional.cross_entropy(twin(X), torch.tensor(y))
    value.backward()
    ours, dy = fm.CrossEntropyLoss().forward_backward(model.forward(x), y)
    terms = 9 + sum(hidden)
    close(ours, value, terms)
    close(model.backward(dy), X.grad, terms)
    for key, parameter in twin.named_parameters():
        close(dict(model.named_gradients())[key], parameter.grad, terms)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (6, 7), (12, 16), (13, 17)], ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.sampled
def test_cross_entropy(backend, rng, shape, scale, soft, smoothing, weighted):
    n, c = shape
    x = scale * rng.normal(size=shape)
    y = rng.uniform(size=shape) if soft else rng.integers(0, c, n)
    weight = rng.uniform(0.5, 2, c) if weighted else None
    X = tensor(x)
    theirs = torch.nn.functional.cross_entropy(
        X, torch.tensor(y), None if weight is None else torch.tensor(weight), label_smoothing=smoothing
    )
    theirs.backward()
    loss = fm.CrossEntropyLoss(class_weight=weight, label_smoothing=smoothing)
    close(loss.forward(x, y), theirs, c, scale)
    close(loss.backward(x, y), X.grad, c, 2 * c)


def test_cross_entropy_with_minus_infinity(backend, rng):
    x, y = rng.normal(size=(6, 5)), np.full(6, 2)
    x[rng.random(x.shape) < 0.4] = -np.inf
    x[:, 2] = 0.5
    X = tensor(x)
    theirs = torch.nn.functional.cross_entropy(X, torch.tensor(y))
    theirs.backward()
    close(fm.CrossEntropyLoss().forward(x, y), theirs, 5)
    close(fm.CrossEntropyLoss().backward(x, y), X.grad, 5)


def by_rows(loss):
    """Summed over elements, averaged over rows."""
    return lambda x, y: loss(x, y) / len(x)


LOSSES = {
    "mse": (fm.MSELoss, torch.nn.MSELoss),
    "l1": (fm.L1Loss, torch.nn.L1Loss),
    "huber": (lambda: fm.HuberLoss(0.7), lambda: torch.nn.HuberLoss(delta=0.7)),
    "huber default": (fm.HuberLoss, torch.nn.HuberLoss),
    "huber rows": (lambda: fm.HuberLoss(reduction="rows"), lambda: by_rows(torch.nn.HuberLoss(reduction="sum"))),
    "bce": (fm.BCEWithLogitsLoss, torch.nn.BCEWithLogitsLoss),
    "bce weighted": (
        lambda: fm.BCEWithLogitsLoss(pos_weight=3.0),
        lambda: torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0, dtype=torch.float64)),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(1, 1), (6, 1), (7, 8), (13, 17)], ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.sampled
def test_elementwise_losses(backend, rng, name, shape, scale):
    make, twin = LOSSES[name]
    x = scale * rng.normal(size=shape)
    y = rng.uniform(size=shape) if name.startswith("bce") else scale * rng.normal(size=shape)
    if not name.startswith("bce"):
        x.flat[0] = y.flat[0]
    X = tensor(x)
    theirs = twin()(X, torch.tensor(y))
    theirs.backward()
    close(make().forward(x, y), theirs, x.size)
    close(make().backward(x, y), X.grad)


IN_TORCH = [kind for kind in optimizer_types().values() if hasattr(torch.optim, kind.__name__)]
OPTIMIZERS = [made for kind in IN_TORCH for made in (kind(), *kind.examples())]


def test_pytorch_has_these_optimizers():
    assert {fm.SGD, fm.Adam, fm.AdamW, fm.RMSprop, fm.Adagrad} <= set(IN_TORCH)


@pytest.mark.parametrize("kind", IN_TORCH)
def test_defaults_of_optimizers(kind):
    theirs = inspect.signature(getattr(torch.optim, kind.__name__)).parameters
    assert own_arguments(kind) == {name: theirs[name].default for name in own_arguments(kind)}


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("clip", [None, 0.5])
def test_optimizers(backend, rng, optimizer, clip):
    """Ten steps from the same start with the same gradients."""
    model = fm.Sequential(fm.Linear(5, 7, dtype=F64, rng=0), fm.Tanh(), fm.Linear(7, 1, dtype=F64, rng=1))
    model.backward(np.ones_like(model.forward(np.ones((2, 5)))))
    theirs = {key: tensor(array) for key, array in model.named_parameters()}
    options = {name: getattr(optimizer, name) for name in own_arguments(type(optimizer))}
    twin = getattr(torch.optim, type(optimizer).__name__)(theirs.values(), lr=optimizer.current_lr, **options)
    ours = remake(optimizer, clip_norm=clip)
    path = max(float(np.abs(array).max()) for _, array in model.named_parameters())
    for _ in range(10):
        before = {key: array.copy() for key, array in model.named_parameters()}
        for key, grad in model.named_gradients():
            grad[...] = rng.normal(size=grad.shape)
            theirs[key].grad = torch.tensor(grad)
        if clip:
            torch.nn.utils.clip_grad_norm_(theirs.values(), clip)
        twin.step()
        ours.step(model)
        path += max(float(np.abs(array - before[key]).max()) for key, array in model.named_parameters())
        for key, array in model.named_parameters():
            close(array, theirs[key], terms=10, size=path)


SCHEDULES = {
    "step": (lambda: fm.StepDecay(0.1, 3, 0.5), lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.5)),
    "exponential": (
        lambda: fm.Exponential(0.1, 0.9),
        lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9),
    ),
    "cosine": (
        lambda: fm.Cosine(0.1, 20, final=0.01),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20, eta_min=0.01),
    ),
    "one-cycle": (
        lambda: fm.OneCycle(0.1, 21),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=21, cycle_momentum=False),
    ),
    "warm-up": (
        lambda: fm.LinearWarmup(0.1, 5, start=0.2),
        lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.2, total_iters=5),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name):
    make, twin = SCHEDULES[name]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler, schedule = twin(optimizer), make()
    for step in range(21):
        # PyTorch multiplies step by step, so its error grows with the number of steps.
        assert schedule(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=4 * EPS * (step + 8))
        if step < 20:
            optimizer.step()
            scheduler.step()


def test_plateau(rng):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    options = {"factor": 0.5, "patience": 2, "threshold": 0.01, "cooldown": 1}
    twin = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, min_lr=0.05, **options)
    schedule = fm.ReduceOnPlateau(1.0, min_lr=0.05, **options)
    for loss in 1 / np.sqrt(np.arange(1, 60)) + 0.1 * rng.random(59):
        twin.step(loss)
        schedule.update(loss)
        assert schedule(0) == optimizer.param_groups[0]["lr"]
