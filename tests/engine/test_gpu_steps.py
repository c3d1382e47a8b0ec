"""The persistent CUDA kernel in the simulator: equal to the modules' steps, without races and stray accesses."""

from __future__ import annotations

import itertools
from functools import partial

import loss_zoo
import numpy as np
import pytest
from activations import EXAMPLES

import fastmlp as fm
from fastmlp.training.batches import check_rows

pytest.importorskip("numba_cuda")
pytest.importorskip("greenlet")

from optimizers import EXAMPLES as OPTIMIZER_EXAMPLES
from same_gpu_steps import assert_same_steps, batches_of, rows_of
from simulated import Simulated, WithTensorCores

from fastmlp._kernels.cuda import table
from fastmlp._kernels.cuda.machine import Machine
from fastmlp._kernels.cuda.steps import TABLES
from fastmlp._kernels.cuda.tiles import NARROW, WIDE_TILES, buffers
from fastmlp.engine.gpu import GpuEngine


@pytest.fixture(autouse=True)
def on_numpy():
    with fm.use_backend("numpy"):
        yield


def kinds_of(plan):
    return {int(kind) for kind in plan.jobs[:, table.KIND]}


def linear(inputs, outputs, dtype="float64", bias=True):
    return fm.Linear(inputs, outputs, bias, dtype=dtype, rng=inputs)


def between(*modules, dtype="float64"):
    return fm.Sequential(linear(5, 4, dtype), *modules, linear(4, 3, dtype))


def scaling(width, dtype="float64"):
    return fm.Normalize(np.linspace(-1, 1, width), np.linspace(2, -0.5, width), dtype)


MODELS = {
    "linear": lambda d: linear(5, 3, d),
    "no bias": lambda d: fm.Sequential(linear(5, 4, d, False), fm.Tanh(), linear(4, 3, d, False)),
    "deep": lambda d: fm.MLP(5, [4, 7, 3], 3, "elu", dtype=d, rng=0),
    "scaled": lambda d: fm.Sequential(fm.Normalize(np.ones(5), np.full(5, 2.0), d), linear(5, 3, d)),
    "scaled outputs": lambda d: fm.Sequential(fm.MLP(5, [4], 3, "tanh", dtype=d, rng=0), scaling(3, d)),
    "scaled between": lambda d: between(scaling(4, d), fm.Tanh(), scaling(4, d), fm.LayerNorm(4, dtype=d), dtype=d),
    "scaled twice": lambda d: fm.Sequential(scaling(5, d), scaling(5, d), linear(5, 3, d)),
    "scaled after dropout": lambda d: fm.Sequential(fm.Dropout(0.3), scaling(5, d), linear(5, 3, d)),
    "norm": lambda d: fm.MLP(5, [6, 4], 3, "silu", layer_norm=True, dtype=d, rng=0),
    "plain norm first": lambda d: fm.Sequential(fm.LayerNorm(5, affine=False, dtype=d), linear(5, 3, d)),
    "norm first": lambda d: fm.Sequential(fm.LayerNorm(5, dtype=d), linear(5, 3, d)),
    "dropout": lambda d: fm.MLP(5, [9, 6], 3, "relu", dropout=0.4, dtype=d, rng=0),
    "dropout first": lambda d: fm.Sequential(fm.Dropout(0.3), linear(5, 3, d)),
    "dropout of all": lambda d: between(fm.Dropout(1.0), dtype=d),
    "softmax": lambda d: between(fm.Softmax(), dtype=d),
    "activations": lambda d: fm.Sequential(fm.GELU(), between(fm.Tanh(), fm.ELU(0.7), dtype=d), fm.Softplus()),
    "nothing trained": lambda d: fm.Sequential(fm.LayerNorm(5, affine=False, dtype=d), fm.Softmax()),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", MODELS)
def test_every_module(name, dtype):
    data = rows_of(classes=5 if name == "nothing trained" else 3)
    assert_same_steps(lambda: MODELS[name](dtype), fm.CrossEntropyLoss, partial(fm.SGD, 0.1, 0.9), data)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_activation(name):
    assert_same_steps(lambda: between(EXAMPLES[name]()), fm.CrossEntropyLoss, fm.SGD, rows_of())


@pytest.mark.sampled
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "sample_weight"])
@pytest.mark.parametrize("name", loss_zoo.NAMES)
def test_every_loss(name, weighted):
    generator = np.random.default_rng(1)
    X, y = generator.standard_normal((11, 5)), loss_zoo.targets_of(name, generator, 11)
    weight = generator.uniform(0.1, 2, len(X)) * (np.arange(len(X)) != 4) if weighted else None
    last = [] if name in loss_zoo.FROM_LOGITS else [fm.Softmax()]

    def model():
        return fm.Sequential(fm.MLP(5, [4], 5, "tanh", dtype="float64", rng=0), *last)

    assert_same_steps(model, partial(loss_zoo.make, name), partial(fm.SGD, 0.02, 0.9), (X, y), weight=weight)


LOSSES = {
    "a weight of 0": partial(fm.CrossEntropyLoss, class_weight=[0, 2, 0], label_smoothing=0.1),
    "no weight": partial(fm.CrossEntropyLoss, class_weight=[0, 0, 0]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_classes_that_are_ignored(name):
    model = partial(fm.MLP, 5, [4], 3, "tanh", dtype="float64", rng=0)
    assert_same_steps(model, LOSSES[name], partial(fm.SGD, 0.1, 0.9), rows_of())


OPTIMIZERS = {**OPTIMIZER_EXAMPLES, "schedule": partial(OPTIMIZER_EXAMPLES["adam 0"], lr=fm.Cosine(0.02, 8))}
CLIPS = {"": {}, "value": {"clip_value": 0.01}, "norm": {"clip_norm": 0.05}, "far norm": {"clip_norm": 1e3}}


@pytest.mark.sampled
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name, clip):
    def make():
        optimizer = OPTIMIZERS[name](**CLIPS[clip])
        optimizer.steps = 4  # start at the fifth step: formulas may depend on the step number
        return optimizer

    model = partial(fm.MLP, 5, [6], 3, "tanh", layer_norm=True, dtype="float64", rng=0)
    plan = assert_same_steps(model, fm.CrossEntropyLoss, make, rows_of(), l2=0.3, average=0.9)
    assert (table.UPDATE in kinds_of(plan)) == ("norm" in clip)


CHANGES = {
    "flip": lambda shape: [fm.HorizontalFlip(shape)],
    "always": lambda shape: [fm.HorizontalFlip(shape, 1)],
    "mixup": lambda shape: [fm.Mixup(0.5)],
    "noise": lambda shape: [fm.GaussianNoise(0.2)],
    "all": lambda shape: [fm.HorizontalFlip(shape), fm.Mixup(0.5), fm.GaussianNoise(0.2)],
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("source", [np.uint8, np.float32])
def test_rows_that_are_changed_at_random(name, source):
    X, y = np.random.default_rng(0).integers(0, 10, (11, 9)).astype(source), np.arange(11) % 3
    normalize = fm.Normalize(np.linspace(0, 1, 9), np.linspace(1, 3, 9), "float64")
    model = partial(fm.MLP, 9, [6], 3, "tanh", normalize=normalize, dtype="float64", rng=0)
    assert_same_steps(model, fm.CrossEntropyLoss, fm.SGD, (X, y), augment=CHANGES[name]((3, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 15, 16, 17, 31, 33, 70])
def test_changed_rows_of_all_widths(width):
    """In float32, whose noise has polynomials of its own; 32 columns have their random words between them."""
    data = rows_of(5, width)
    model = partial(fm.MLP, width, [3], 3, "tanh", rng=0)
    assert_same_steps(model, fm.CrossEntropyLoss, fm.SGD, data, batch=3, augment=CHANGES["all"]((width, 1)))


@pytest.mark.parametrize(("shape", "axis"), [((2, 3, 4), -1), ((2, 3, 4), 1), ((2, 3, 4), 0), ((12, 2), 1)])
def test_images_are_turned(shape, axis):
    model = partial(fm.MLP, 24, [3], 3, "tanh", dtype="float64", rng=0)
    augment = [fm.HorizontalFlip(shape, axis=axis)]
    assert_same_steps(model, fm.CrossEntropyLoss, fm.SGD, rows_of(9, 24), batch=4, augment=augment)


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "sample_weight"])
@pytest.mark.parametrize("name", loss_zoo.FROM_LOGITS)
def test_mixed_targets(name, weighted):
    """Some rows of weight 0 with them: these are in no batch."""
    generator = np.random.default_rng(1)
    X, y = generator.standard_normal((11, 5)), loss_zoo.targets_of(name, generator, 11)
    weight = generator.uniform(0.1, 2, len(X)) * (np.arange(len(X)) % 5 > 0) if weighted else None
    model = partial(fm.MLP, 5, [6], 5, "tanh", dtype="float64", rng=0)
    loss = partial(loss_zoo.make, name)
    assert_same_steps(model, loss, partial(fm.SGD, 0.02), (X, y), weight=weight, augment=[fm.Mixup(0.5)])


SUMS = {
    "plain": ({}, fm.SGD, {}),
    "clip_norm": ({}, partial(fm.SGD, 0.5, clip_norm=0.05), {"l2": 0.5}),
    "dropout": ({"dropout": 0.3}, fm.SGD, {}),
    "changes": ({}, fm.SGD, {"augment": CHANGES["all"]((5,))}),
}


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "sample_weight"])
@pytest.mark.parametrize("name", SUMS)
def test_steps_that_are_sums_of_batches(name, weighted):
    """23 rows in steps of 3 batches of 4: the last step has two of them and a short one."""
    layers, optimizer, options = SUMS[name]
    model = partial(fm.MLP, 5, [6], 3, "tanh", dtype="float64", rng=0, **layers)
    loss = partial(fm.CrossEntropyLoss, class_weight=[0.5, 2.0, 1.0])
    weight = np.random.default_rng(1).uniform(0.1, 2, 23) if weighted else None
    assert_same_steps(model, loss, optimizer, rows_of(23), batch=4, accumulate=3, weight=weight, **options)


@pytest.mark.parametrize("step", [5, 2**31 - 1], ids=["later", "beyond 32 bits"])
def test_random_numbers_of_later_steps(step, monkeypatch):
    """In three launches, of which each is one step of 2 batches of 6."""
    monkeypatch.setattr("fastmlp.engine.gpu._PIECE", 12 * 5 * 8)
    model = partial(fm.MLP, 5, [4], 3, "tanh", dropout=0.3, dtype="float64", rng=0)
    machine, augment = Simulated(), CHANGES["all"]((5,))
    monkeypatch.setattr(machine, "room", lambda: 100)
    options = {"machine": machine, "augment": augment, "accumulate": 2, "step": step}
    assert_same_steps(model, fm.CrossEntropyLoss, fm.SGD, rows_of(31), **options)
    assert machine.launches == 3


def test_dropouts_of_different_seeds():
    """Without a seed of the run each draws by its own."""
    layers = (fm.Dropout(0.4, rng=1), fm.Tanh(), fm.Dropout(0.3, rng=2**64 - 1))
    assert_same_steps(lambda: between(*layers), fm.CrossEntropyLoss, fm.SGD, rows_of(), seed=None)


@pytest.mark.slow
def test_how_many_rows_a_step_of_several_batches_may_have():
    model = fm.MLP(5, [6], 3, rng=0)
    rows = check_rows(*rows_of(40), None, model, fm.CrossEntropyLoss(), "test")
    machine = Simulated(room=10_000)
    engine = GpuEngine(model, fm.CrossEntropyLoss(), fm.SGD(), 4, machine)
    plan, work = engine.plan, engine._work
    assert not engine.has_room(rows, 9) and engine.has_room(rows, 1)
    machine._room = 1 << 20
    assert engine.has_room(rows, 9) and engine.plan is plan and engine._work is work
    for accumulate, count in ((9, 36), (50, 40), (1, 4)):  # capped at the 40 rows
        bounds = np.array([0, count])
        engine.run(rows, np.arange(40), bounds, 7, 0, 0.0, None, accumulate)
        assert engine.plan.batch == count and engine.plan.work == engine._work.size
    # Earlier steps must not change the plan, because the plan determines the order of all sums.
    assert engine.plan.stages.tobytes() == plan.stages.tobytes()


def test_memory_that_there_is_not(monkeypatch):
    """Leaves an engine that asks for it again, instead of working in what it had."""
    model = fm.MLP(5, [6], 3, rng=0)
    rows = check_rows(*rows_of(40), None, model, fm.CrossEntropyLoss(), "test")
    machine = Simulated()
    engine = GpuEngine(model, fm.CrossEntropyLoss(), fm.SGD(), 4, machine)
    empty, arguments = machine.empty, (rows, np.arange(40), np.array([0, 36]), 7, 0, 0.0, None, 9)

    def full(shape, dtype):
        raise MemoryError

    monkeypatch.setattr(machine, "empty", full)
    for _ in range(2):
        with pytest.raises(MemoryError):
            engine.run(*arguments)
    monkeypatch.setattr(machine, "empty", empty)
    assert np.isfinite(engine.run(*arguments)[0]).all() and engine._work.size == engine.plan.work


SHAPES = [
    ([1, 1, 1], 1, 3), ([5, 9, 3], 6, 11), ([17, 9, 4], 5, 7), ([4, 4, 4, 2], 40, 45), ([33, 8, 5], 9, 10),
    ([9, 17, 16, 3], 16, 21), ([33, 24, 20, 3], 6, 7),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("blocks", "kind", "clip_norm"),
    [(1, "float64", None), (3, "float32", 0.05), (8, "float64", 0.05), (64, "float64", None)],
)
@pytest.mark.parametrize(("widths", "batch", "rows"), SHAPES)
def test_shapes_and_numbers_of_blocks(widths, batch, rows, blocks, kind, clip_norm):
    """Parts of products, wide tiles, chains of all layers and none: whatever the plan chooses."""
    model = partial(fm.MLP, widths[0], widths[1:-1], widths[-1], "tanh", dtype=kind, rng=0)
    data = rows_of(rows, widths[0], widths[-1])
    machine = Simulated(blocks, grid_size=min(blocks, 4))
    optimizer = partial(fm.Adam, 0.01, clip_norm=clip_norm)
    assert_same_steps(model, fm.CrossEntropyLoss, optimizer, data, batch=batch, machine=machine, l2=0.1)


TENSOR_SHAPES = {  # widths, batch, rows, multiprocessors, whether tiles are wide
    "chain": ([9, 17, 33, 5], 20, 40, 4, False),
    "parts": ([130, 18, 5], 17, 19, 64, False),
    "wide": ([33, 40, 5], 33, 33, 1, True),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "precision"),
    [*itertools.product(TENSOR_SHAPES, ["tf32", "bf16"]), ("wide", "bf16x6"), ("wide", "float32")],
)
def test_tensor_cores(name, precision):
    """And FMAs, whose slices lie otherwise in tiles of 32 x 32 than in smaller ones."""
    widths, batch, rows, blocks, wide = TENSOR_SHAPES[name]
    model = partial(fm.MLP, widths[0], widths[1:-1], widths[-1], "tanh", rng=0)
    machine = WithTensorCores(blocks, grid_size=min(2, blocks))
    data, options = rows_of(rows, widths[0], widths[-1]), {"batch": batch, "machine": machine, "precision": precision}
    plan = assert_same_steps(model, fm.CrossEntropyLoss, partial(fm.SGD, 0.05), data, l2=0.1, **options)
    assert plan.wide == wide
    chained = plan.stages[:, table.KIND] == table.CHAIN
    assert {"chain": chained[0], "parts": (plan.jobs[:, table.SPLITS] > 1).any(), "wide": wide}[name]


def test_all_kinds_of_stages_are_tried():
    """The shapes above make every kind of job that a net of Linears can have."""
    seen = set()
    for widths, batch, blocks in (([33, 24, 20, 3], 6, 64), ([9, 17, 16, 3], 16, 3), ([4, 4, 4, 2], 40, 8)):
        model = fm.MLP(widths[0], widths[1:-1], widths[-1], "tanh", rng=0)
        plan = GpuEngine(model, fm.CrossEntropyLoss(), fm.SGD(), batch, Simulated(blocks)).plan
        for stage in plan.stages:
            for job in plan.jobs[stage[table.FIRST_JOB] : stage[table.LAST_JOB]]:
                seen.add(
                    (int(stage[table.KIND]), int(job[table.KIND]), bool(job[table.WIDE]), bool(job[table.SPLITS] > 1))
                )
    for kind in (table.FORWARD, table.DELTA, table.WEIGHTS):
        assert (table.SPREAD, kind, True, False) in seen, kind
        assert (table.SPREAD, kind, False, True) in seen, kind
    assert (table.CHAIN, table.FORWARD, False, False) in seen and (table.CHAIN, table.DELTA, False, False) in seen


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_wide_tiles_only_where_a_block_has_room_for_them(name):
    """48 KiB of shared memory: slices of both matrices, tables, results of rows, and sums in float64."""
    machine = Simulated(8)
    machine.narrow, machine.wide, machine.wide_dtypes = NARROW, WIDE_TILES, Machine.wide_dtypes
    model = fm.MLP(700, [700, 700], 3, dtype=name, rng=0)
    plan = GpuEngine(model, fm.CrossEntropyLoss(), fm.SGD(), 512, machine).plan
    tiles = [NARROW, WIDE_TILES] if plan.wide else [NARROW]
    size = max(2 * buffers(name, tile) * tile.depth * tile.tile for tile in tiles) + NARROW.side**2 + NARROW.tile
    assert size * np.dtype(name).itemsize + 8 * NARROW.threads + 8 * TABLES <= 48 << 10
    assert plan.wide == (name == "float32")


@pytest.mark.slow
def test_a_gpu_that_copies_at_once():
    """As those before compute capability 8.0."""
    machine = WithTensorCores(4, grid_size=2)
    machine.copies_later = False
    data, model = rows_of(40, 9, 5), partial(fm.MLP, 9, [17, 20], 5, "tanh", rng=0)
    assert_same_steps(model, fm.CrossEntropyLoss, partial(fm.SGD, 0.05), data, batch=33, machine=machine)


def test_a_longer_launch_header():
    """As in measurements, whose barrier writes into the header."""
    machine = Simulated()
    machine.header = table.LISTS + 5
    model = partial(fm.MLP, 5, [6], 3, "tanh", dtype="float64", rng=0)
    assert_same_steps(model, fm.CrossEntropyLoss, partial(fm.SGD, 0.1), rows_of(), machine=machine)


@pytest.mark.slow
def test_bits_do_not_depend_on_the_grid():
    X, y = rows_of(21, 9)
    results = []
    for size in (1, 2, 5, 8):
        model = fm.MLP(9, [17, 6], 3, "gelu", layer_norm=True, rng=0)
        optimizer, loss = fm.Adam(0.01, clip_norm=0.1), fm.CrossEntropyLoss()
        engine = GpuEngine(model, loss, optimizer, 8, Simulated(8, grid_size=size))
        losses, _, penalties = engine.run(check_rows(X, y, None, model, loss, "test"), *batches_of(21, 8), 7, 0, 0.1)
        engine.weights.unload()
        arrays = [*model.state_dict().values(), losses, penalties]
        results.append(b"".join(array.tobytes() for array in arrays))
    assert results[1:] == results[:1] * 3


@pytest.mark.sampled
@pytest.mark.parametrize("features", [5, 8], ids=["one by one", "four at once"])
@pytest.mark.parametrize("source", ["uint8", "float32", "int16"])
def test_features_of_other_kinds(source, features):
    X = np.random.default_rng(0).integers(0, 9, (11, features)).astype(source)
    normalize = fm.Normalize(np.full(features, 4.0), np.linspace(1, 3, features), "float64")
    model = partial(fm.MLP, features, [4], 3, "tanh", normalize=normalize, dtype="float64", rng=0)
    machine = WithTensorCores() if features == 8 else Simulated()
    assert_same_steps(model, fm.CrossEntropyLoss, fm.SGD, (X, rows_of()[1]), machine=machine)


@pytest.mark.slow
@pytest.mark.parametrize("augment", [(), CHANGES["all"]((5,))], ids=["as they are", "changed"])
def test_rows_that_do_not_fit_on_the_gpu(augment, monkeypatch):
    """They go there piece by piece."""
    monkeypatch.setattr("fastmlp.engine.gpu._PIECE", 2 * 6 * 5 * 8)
    data = rows_of(31)
    weight = np.random.default_rng(1).uniform(0.5, 2, 31)
    machine = Simulated(room=100)
    model = partial(fm.MLP, 5, [4], 3, "tanh", dropout=0.3, dtype="float64", rng=0)
    options = {"weight": weight, "l2": 0.2, "augment": augment}
    assert_same_steps(model, fm.CrossEntropyLoss, partial(fm.Adam, 0.1), data, machine=machine, **options)
    assert machine.launches == 3
    whole = Simulated()
    assert_same_steps(model, fm.CrossEntropyLoss, partial(fm.Adam, 0.1), data, machine=whole, **options)
    assert whole.launches == 1


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "sample_weight"])
def test_row_numbers_that_are_there_before_the_launch(weighted, monkeypatch):
    """While a run's steps are made those of the next are sent; somebody else's in between are not taken for them."""
    monkeypatch.setattr("fastmlp.engine.gpu._MANY", 1)
    X, y = rows_of(30)
    weight = np.arange(30) % 4.0 if weighted else None
    orders = [np.random.default_rng(i).permutation(22) for i in range(5)]
    bounds, machine, found = np.array([0, 6, 12, 18, 22]), Simulated(), []
    for sends in (False, True):
        model, loss, optimizer = fm.MLP(5, [4], 3, dtype="float64", rng=0), fm.CrossEntropyLoss(), fm.SGD(0.1)
        engine = GpuEngine(model, loss, optimizer, 6, machine)
        rows = check_rows(X, y, weight, model, loss, "test")
        other = GpuEngine(fm.MLP(5, [4], 3, dtype="float64", rng=0), loss, fm.SGD(0.1), 6, machine)
        for number, order in enumerate(orders):
            if sends and number + 1 < len(orders):
                engine.follow = lambda number=number: orders[number + 1]
            engine.run(rows, order, bounds, 7, 4 * number)
            there = machine.sent_ahead
            assert (there is not None and there.given is orders[number + 1]) == (sends and number < 4)
            if sends and number == 2:
                other.follow = lambda: orders[0]
                other.run(rows, orders[4], bounds, 7, 0)
        engine.weights.unload()
        found.append(b"".join(array.tobytes() for array in model.state_dict().values()))
    assert found[0] == found[1]


def run_twice(weights, rooms, sends):
    """Two runs in the same order, of the same object, of rows that differ; the last one's weights."""
    model, loss, optimizer = fm.MLP(5, [4], 3, dtype="float64", rng=0), fm.CrossEntropyLoss(), fm.SGD(0.1)
    machine = Simulated()
    engine, order, bounds = GpuEngine(model, loss, optimizer, 6, machine), np.arange(20), np.array([0, 6, 12, 18, 20])
    for weight, room in zip(weights, rooms, strict=True):
        X, y = rows_of(len(weight))
        if sends:
            engine.follow = lambda: order
        machine._room = room
        engine.run(check_rows(X, y, weight, model, loss, "test"), order, bounds, 7, 0)
    engine.weights.unload()
    return b"".join(array.tobytes() for array in model.state_dict().values())


@pytest.mark.slow
@pytest.mark.parametrize("second", ["elsewhere", "fewer rows", "no room"])
def test_row_numbers_of_other_rows_are_not_taken_for_these(second, monkeypatch):
    """As after a fit that was stopped, and another one with the same seed, whose rows of no weight are others."""
    monkeypatch.setattr("fastmlp.engine.gpu._MANY", 1)
    first = np.repeat([0.0, 1.0], [10, 20])
    weights = first, {"elsewhere": first[::-1].copy(), "fewer rows": np.ones(20), "no room": first}[second]
    rooms = 1 << 40, 100 if second == "no room" else 1 << 40
    assert run_twice(weights, rooms, True) == run_twice(weights, rooms, False)


@pytest.mark.parametrize("room", [1 << 40, 100])
def test_a_loss_that_is_not_finite_ends_the_run(room, monkeypatch):
    monkeypatch.setattr("fastmlp.engine.gpu._PIECE", 2 * 6 * 5 * 8)
    X, _ = rows_of(30)
    X[20] = 1e200
    model, loss, optimizer = fm.MLP(5, [4], 2, dtype="float64", rng=0), fm.MSELoss(), fm.SGD(0.01)
    engine = GpuEngine(model, loss, optimizer, 6, Simulated(3, room=room))
    rows = check_rows(X, X[:, :2].copy(), None, model, loss, "test")
    losses, _, penalties = engine.run(rows, np.arange(30), np.arange(0, 31, 6), 7, 0)
    assert len(losses) == 4 and np.isfinite(losses[:3]).all() and not np.isfinite(losses[3])
    assert len(penalties) == optimizer.steps == 3
    engine.weights.unload()
    assert all(np.isfinite(array).all() for array in model.state_dict().values())
