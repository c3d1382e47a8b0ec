"""Padding stays zero, both copies of the weights agree, and no access leaves its buffer."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from activations import EXAMPLES as ACTIVATIONS
from optimizers import EXAMPLES

import fastmlp as fm
from fastmlp.losses import loss_types

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("the engine runs jitted only", allow_module_level=True)

from fastmlp._kernels.cpu import panels, table  # noqa: E402
from fastmlp._kernels.cpu.host import LANES  # noqa: E402

WIDTHS = (1, 7, 8, 9, 15, 16, 17, 31, 33)
OPTIMIZERS = {
    **{name: partial(make, lr=1e-4) for name, make in EXAMPLES.items() if not hasattr(make(), "eps")},
    **{name: partial(make, lr=1e-4, eps=0.0) for name, make in EXAMPLES.items() if hasattr(make(), "eps")},
    "clip": lambda: fm.RMSprop(1e-4, eps=0.0, clip_norm=0.01, clip_value=0.1),
}


@pytest.fixture(autouse=True)
def on_numba():
    with fm.use_backend("numba"):
        yield


def columns_of(flat, offset, rows, width):
    """(the matrix (rows, width) at ``offset``, all that its panels hold beyond its columns)."""
    unit = LANES[flat.itemsize]
    parts, beyond = [], []
    for start in range(0, width, 2 * unit):
        stride = 2 * unit if width - start > unit else unit
        panel = flat[offset + start * rows :][: rows * stride].reshape(rows, stride)
        parts.append(panel[:, : width - start])
        beyond.append(panel[:, width - start :])
    return np.concatenate(parts, axis=1), np.concatenate(beyond, axis=1)


def assert_clean(engine, plan):
    """Look at every matrix of an engine; returns how many there were."""
    weights, seen = engine.weights, 0
    for op in plan.ops:
        inputs, outputs = op[table.IN], op[table.OUT]
        widths = {"X": inputs, "PRE": outputs, "Y": outputs, "DY": outputs, "DX": inputs}
        for name, width in widths.items():
            offset = op[getattr(table, name)]
            if offset < 0:
                continue
            _, beyond = columns_of(plan.work, offset, op[table.CAPACITY], width)
            assert not beyond.any(), (name, op[table.KIND], width)  # any() also detects NaN
            seen += 1
    for row, (module, prefix, name, shape) in zip(weights.params, weights._entries, strict=True):
        rows = 1 if len(shape) == 1 else panels.round_up(shape[1], weights.dtype)
        for column, place in enumerate(row):
            if place < 0:
                continue
            flat = plan.work if column == table.PARAM_COLUMNS - 1 else weights.data  # the last column: a gradient
            matrix, beyond = columns_of(flat, place, rows, shape[0])
            assert not beyond.any(), (prefix + name, column)
            assert not matrix[shape[-1] if len(shape) == 2 else 1 :].any(), (prefix + name, column)
            seen += 1
            if column == 0:
                comp = matrix[: shape[1]].T if len(shape) == 2 else matrix[0]
                np.testing.assert_array_equal(comp, module.params[name])
    for (index, name), place in weights.copies.items():
        ref = engine.layers[index].module.params[name]
        outputs, inputs = ref.shape
        matrix, beyond = columns_of(weights.data, place, panels.round_up(outputs, weights.dtype), inputs)
        assert not beyond.any() and not matrix[outputs:].any(), index
        np.testing.assert_array_equal(matrix[:outputs], ref)
        seen += 1
    return seen


def trained(model, loss, optimizer, data, *, batch=13, threads=2):
    """(engine, its plan) after a few steps."""
    plans = []

    def look(trainer, record):
        plans.append((trainer._session.engine, trainer._session.engine._plan))

    trainer = fm.Trainer(model, loss, optimizer)
    options = {"batch_size": batch, "max_steps": 5, "eval_every": 5, "rng": 0, "threads": threads}
    trainer.fit(*data, callbacks=[look], **options)  # the third batch has 7 rows
    assert all(np.isfinite(array).all() for array in model.state_dict().values())
    return plans[0]


def rows_of(width, outputs, rows=33):
    generator = np.random.default_rng(width)
    return generator.standard_normal((rows, width)), generator.standard_normal((rows, outputs))


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(name, dtype):
    for width, other in zip(WIDTHS, WIDTHS[3:] + WIDTHS[:3], strict=True):
        model = fm.MLP(width, [other, width], other, ACTIVATIONS[name](), dtype=dtype, rng=0)
        ran = trained(model, fm.MSELoss(), fm.SGD(0.01, 0.9), rows_of(width, other))
        # 5 operations; 3 products with a weight, a bias and their velocities; 2 copies
        assert assert_clean(*ran) >= 3 * 5 + 2 + 3 * 4 + 2


@pytest.mark.sampled
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(optimizer, dtype):
    for width, other in zip(WIDTHS, WIDTHS[4:] + WIDTHS[:4], strict=True):
        model = fm.MLP(width, [other + 1], other, "tanh", layer_norm=True, dtype=dtype, rng=0)
        assert_clean(*trained(model, fm.MSELoss(), OPTIMIZERS[optimizer](), rows_of(width, other)))


@pytest.mark.slow
def test_large_batches(dtype):
    for width, other in zip(WIDTHS, WIDTHS[2:] + WIDTHS[:2], strict=True):
        model = fm.MLP(width, [other, width], other, "softplus", dtype=dtype, rng=0)
        assert_clean(*trained(model, fm.MSELoss(), fm.Adam(1e-3), rows_of(width, other, 700), batch=520))


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_every_module_and_loss(width, dtype):
    X, y = rows_of(width, width)
    scaling = fm.Normalize(np.linspace(1, 2, width), np.linspace(2, 3, width), dtype)
    norms = [fm.LayerNorm(width, dtype=dtype), fm.LayerNorm(width, affine=False, dtype=dtype)]
    scalings = [fm.Normalize(np.full(width, 0.5), np.full(width, 1 / 3), dtype) for _ in range(2)]
    middle = [fm.Softmax(), scalings[0], fm.Dropout(0.5), fm.GELU(), fm.Sigmoid(), *norms, scalings[1], fm.Softplus()]
    for loss in (kind() for kind in loss_types()):
        linears = [fm.Linear(width, width, bias, dtype=dtype, rng=0) for bias in (False, True)]
        model = fm.Sequential(scaling, linears[0], *middle, linears[1], fm.Sigmoid())
        target = y if loss.target_kind == "numbers" else np.abs(y) % 1
        assert_clean(*trained(model, loss, fm.Adam(1e-3), (X, target)))
    probabilities = fm.Sequential(fm.Softplus(), linears[0], fm.Softmax())
    index = np.arange(33) % width
    assert_clean(*trained(probabilities, fm.CrossEntropyLoss(from_logits=False), fm.SGD(0.1), (X, index)))


@pytest.mark.parametrize("source", [np.uint8, np.float32, np.float64, np.int16])
def test_every_source_of_features(source, dtype):
    for width in WIDTHS:
        X, y = rows_of(width, 2)
        X = (X * 50 + 100).astype(source)
        model = fm.Sequential(
            fm.Normalize(np.full(width, 100.0), np.full(width, 50.0), dtype), fm.Linear(width, 2, dtype=dtype, rng=0)
        )
        assert_clean(*trained(model, fm.MSELoss(), fm.SGD(0.01), (X, y)))


# Places arrays directly before or after a protected page.
GUARDED = """
import ctypes, itertools, mmap, sys
import numpy as np
import fastmlp as fm
from fastmlp.engine import storage

PAGE, keep = mmap.PAGESIZE, []
protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int

def guarded(array, before=False):
    array = np.ascontiguousarray(array)
    pages = -(-array.nbytes // PAGE)
    memory = mmap.mmap(-1, (pages + 1) * PAGE)
    start = np.frombuffer(memory, np.uint8).ctypes.data
    if protect(start + (0 if before else pages * PAGE), PAGE, 0):  # PROT_NONE
        raise OSError(ctypes.get_errno(), "mprotect")
    keep.append(memory)
    flat = np.frombuffer(memory, array.dtype, array.size, PAGE if before else pages * PAGE - array.nbytes)
    flat[:] = array.ravel()
    return flat.reshape(array.shape)

def buffers(room, make=storage.Arena.array):
    flat = guarded(make(room))
    assert flat.ctypes.data % 64 == 0
    return flat

storage.Arena.array = buffers  # of the engine's own numbers too
"""
READS_BEYOND = (
    GUARDED
    + """
array = guarded(np.arange(3.0))
print(ctypes.c_double.from_address(array.ctypes.data + 16).value, flush=True)
print(ctypes.c_double.from_address(array.ctypes.data + 24).value, flush=True)
"""
)
TRAINS = (
    GUARDED
    + """
generator = np.random.default_rng(0)
def go(loss, last, X, y, weight, dtype, threads, batch=5):
    width = X.shape[1]
    layers = [fm.Linear(width, 7, dtype=dtype, rng=0), fm.LayerNorm(7, dtype=dtype), fm.GELU(), fm.Dropout(0.1)]
    layers += [fm.Normalize(np.ones(7), np.full(7, 9.0), dtype)]
    model = fm.Sequential(fm.Normalize(np.ones(width), np.full(width, 9.0), dtype), *layers, *last)
    trainer = fm.Trainer(model, loss, fm.Adam(clip_norm=1.0))
    trainer.fit(X, y, sample_weight=weight, validation=(X, y), batch_size=batch, max_steps=6, rng=0, threads=threads)
    assert trainer._session is not None

with fm.use_backend("numba"):
    for width, before in itertools.product((1, 3, 7, 9, 17, 23, 32), (False, True)):
        for source, dtype in itertools.product((np.uint8, np.float32, np.float64), (np.float32, np.float64)):
            X = guarded((generator.uniform(0, 9, (13, width))).astype(source), before)
            weight = guarded(generator.uniform(1, 2, 13), before)
            soft = guarded(generator.dirichlet(np.ones(5), 13).astype(dtype), before)
            index = guarded(np.arange(13) % 5, before)
            to_five = fm.Linear(7, 5, dtype=dtype, rng=0)
            go(fm.CrossEntropyLoss(class_weight=range(1, 6)), [to_five], X, index, weight, dtype, 1)
            go(fm.CrossEntropyLoss(), [to_five], X, soft, weight, dtype, 2)
            go(fm.CrossEntropyLoss(from_logits=False), [to_five, fm.Softmax()], X, soft, None, dtype, 1)
            for loss in (fm.MSELoss(), fm.L1Loss(), fm.HuberLoss(), fm.BCEWithLogitsLoss([1, 2, 3, 4, 5])):
                go(loss, [to_five], X, soft, weight, dtype, 1)
    for width in (7, 24, 33):  # so many rows that there are no second copies of weights
        X, y = guarded(generator.uniform(0, 9, (530, width))), guarded(generator.uniform(0, 9, (530, 5)))
        go(fm.MSELoss(), [fm.Linear(7, 5, dtype=np.float64, rng=0)], X, y, None, np.float64, 2, 520)
print("trained", len(keep))
"""
)


def in_a_process(code, **environment):
    variables = {**os.environ, "PYTHONPATH": str(Path(fm.__file__).parents[1]), **environment}
    return subprocess.run([sys.executable, "-W", "error", "-c", code], env=variables, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="mprotect is POSIX's")
def test_no_access_leaves_its_buffer():
    done = in_a_process(READS_BEYOND)
    assert done.stdout == "2.0\n" and done.returncode < 0, "the guard page does not guard"
    done = in_a_process(TRAINS)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("trained")


def test_the_layout_that_these_tests_take_apart_is_the_one_of_panels(dtype):
    for width, rows in itertools.product(WIDTHS, (1, 5)):
        ref = np.random.default_rng(0).standard_normal((rows, width)).astype(dtype)
        flat = np.full(3 + panels.size(rows, width, dtype), 9, dtype)
        flat[3:] = 0
        panels.pack(ref, flat, 3, rows)
        comp, beyond = columns_of(flat, 3, rows, width)
        np.testing.assert_array_equal(comp, ref)
        assert beyond.shape == (rows, panels.round_up(width, dtype) - width) and not beyond.any()
