"""BinnedLinear beside the Linear on its dense code: results, gradients, engine, Predictor, exports, edges, errors."""

from functools import partial

import numpy as np
import pytest
from checks import assert_matches, linear_bound, product_bound
from compiled import NATIVE, SIMULATED
from same_steps import assert_same_steps, modules_only

import fastmlp as fm
from fastmlp._kernels.reference_binned import sums_and_rows
from fastmlp.inference.kernels import inference_kernels

BINS, LEVELS, DENSE = (4, 1, 37), (3, 5), 3
on_cpu = pytest.mark.skipif(SIMULATED or NATIVE, reason="no kernels for GPUs")
widths = pytest.mark.parametrize("outputs", [1, 8, 17, 40])


@pytest.fixture(autouse=True)
def backends_with_kernels(request):
    """Skip the cases of a GPU beside those of the other backends."""
    if getattr(request.node, "callspec", None) and request.node.callspec.params.get("backend") == "cuda":
        pytest.skip("no kernels for GPUs")


def layer_of(outputs, dtype, bias=True):
    return fm.BinnedLinear(DENSE, BINS, outputs, bias, levels=LEVELS, dtype=dtype, rng=0)


def model_of(outputs, dtype):
    return fm.Sequential(layer_of(outputs, dtype), fm.ReLU(), fm.Linear(outputs, 3, dtype=dtype, rng=1))


def positions(rng, rows, dtype):
    """Rows with positions inside, outside and at the edges of the bins, and levels that there are and are not."""
    dense, coded = rng.normal(size=(rows, DENSE)), rng.uniform(-1, 1.2, (rows, len(BINS))) * BINS
    coded[::4] = np.round(coded[::4])
    coded[1::8] = BINS
    return np.concatenate([dense, coded, rng.integers(-1, 6, (rows, len(LEVELS)))], axis=1).astype(dtype)


def test_code():
    layer = fm.BinnedLinear(1, [2, 3], 4, levels=[2], rng=0)
    x = [[7, 0, 0.5, 0], [8, 1.25, 3, 1], [9, -1, 4, 2], [0, 2, 1, -1], [0, 0, 0, 0.5]]
    ref = [
        [7, 0, 0, 0.5, 0, 0, 1, 0],
        [8, 1, 0.25, 1, 1, 1, 0, 1],
        [9, 0, 0, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 0],
    ]
    np.testing.assert_array_equal(layer.code(x), np.array(ref, np.float32))


@on_cpu
@widths
@pytest.mark.parametrize("rows", [0, 1, 23])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_on_the_dense_code(backend, outputs, rows, bias, dtype, rng):
    layer = layer_of(outputs, dtype, bias)
    linear, x = layer.to_linear(), positions(rng, rows, dtype)
    dy = rng.normal(size=(rows, outputs)).astype(dtype)
    code = layer.code(x).astype(np.float64)
    state = {name: array.astype(np.float64) for name, array in linear.state_dict().items()}
    weight, b = state["weight"], state.get("bias")
    assert_matches(code @ weight.T + (0 if b is None else b), layer.forward(x), linear_bound(code, weight, b, dtype))
    layer.backward(dy, need_dx=False)
    comp = np.concatenate([layer.grads["weight"], layer.grads["table"]], axis=1)
    assert_matches(dy.T.astype(np.float64) @ code, comp, product_bound(dy.T, code, dtype))
    if bias:
        np.testing.assert_allclose(layer.grads["bias"], dy.sum(axis=0), atol=1e-5)


@on_cpu
def test_weights_are_those_of_a_linear(dtype):
    theirs = fm.Linear(DENSE + sum(BINS) + sum(LEVELS), 5, dtype=dtype, rng=0).state_dict()
    for name, array in layer_of(5, dtype).to_linear().state_dict().items():
        np.testing.assert_array_equal(array, theirs[name])


@on_cpu
def test_gradients(backend, rng):
    x = positions(rng, 6, np.float64)
    x[:, DENSE:] = np.floor(x[:, DENSE:]) + 0.25  # away from the kinks
    report = fm.check_gradients(layer_of(5, np.float64), x=x)
    assert report.passed and report.unchecked == 0


@on_cpu
def test_gradient_of_positions(backend, dtype):
    """At an edge from above, 0 outside and for levels."""
    layer = fm.BinnedLinear(1, [2], 1, levels=[2], dtype=dtype, rng=0)
    layer.params["table"] = [[2.0, 3.0, 5.0, 7.0]]
    x = np.array([[0, p, 1] for p in (-0.5, 0, 0.5, 1, 1.5, 2, 2.5)], dtype)
    layer.forward(x)
    dx = layer.backward(np.ones((7, 1), dtype))
    np.testing.assert_array_equal(dx[:, 1:], [[g, 0] for g in (0, 2, 2, 3, 3, 3, 0)])


@on_cpu
def test_nan_and_infinity(backend, dtype):
    layer = fm.BinnedLinear(1, [2], 1, False, levels=[2], dtype=dtype, rng=0)
    layer.params["weight"], layer.params["table"] = [[1.0]], [[2.0, 3.0, 5.0, 7.0]]
    x = np.array([[0, np.nan, 0], [0, 1, np.nan], [0, np.inf, 1], [0, -np.inf, -np.inf]], dtype)
    np.testing.assert_array_equal(layer.infer(x), [[np.nan], [2], [12], [0]])


def test_sums_and_rows(rng):
    """The running sums have one addition after the other."""
    layer = layer_of(4, np.float32)
    table, bins = layer.state_dict()["table"], layer._bins
    ref = np.zeros((table.shape[1], 2, 4), np.float32)
    for first, count, is_binned in bins:
        total = np.zeros(4, np.float32)
        for k in range(first, first + count):
            ref[k, 0], ref[k, 1] = (total, table[:, k]) if is_binned else (table[:, k], 0)
            total = total + table[:, k]
    np.testing.assert_array_equal(sums_and_rows(table, bins), ref)


@on_cpu
@widths
@pytest.mark.parametrize("options", [{}, {"l2": 0.1}, {"threads": 2}], ids=str)
def test_engine(outputs, options, dtype, rng):
    data = positions(rng, 40, dtype), rng.integers(0, 3, 40)
    optimizer = partial(fm.Adam, 0.01, clip_norm=0.5 if options else None)
    assert_same_steps(partial(model_of, outputs, dtype), fm.CrossEntropyLoss, optimizer, data, **options)


@on_cpu
def test_engine_after_changed_weights_and_in_single_steps(rng):
    """The sums follow a change of the table between two steps, also in steps of accumulated batches."""
    x, y = positions(rng, 40, np.float32), rng.integers(0, 3, 40)
    results = []
    for context in (modules_only, pytest.MonkeyPatch.context):
        with context():
            trainer = fm.Trainer(model_of(17, np.float32), fm.CrossEntropyLoss(), fm.SGD(0.1))
            losses = [trainer.step(x, y), trainer.step(x[:3], y[:3])]
            trainer.model[0].params["table"] *= np.float32(0.5)
            losses += [trainer.step(x, y)]
            losses += trainer.fit(x, y, epochs=2, batch_size=8, accumulate=2, rng=0)["train_loss"]
            results.append((np.array(losses), trainer.model.infer(x)))
    (ref, ref_outputs), (comp, outputs) = results
    assert_matches(ref, comp, 1e-5 * np.abs(ref))
    assert_matches(ref_outputs, outputs, 1e-4 * np.abs(ref_outputs).max())


@on_cpu
def test_bits_for_any_number_of_threads(rng):
    data = positions(rng, 200, np.float32), rng.integers(0, 3, 200)
    states = []
    for threads in (1, 2, 3):
        trainer = fm.Trainer(model_of(40, np.float32), fm.CrossEntropyLoss(), fm.Adam(0.01), l2=0.01)
        trainer.fit(*data, batch_size=64, epochs=3, threads=threads, rng=0)
        states.append([array.tobytes() for array in trainer.model.state_dict().values()])
    assert states[0] == states[1] == states[2]


@on_cpu
def test_same_losses_as_the_dense_code(rng):
    x, y = positions(rng, 200, np.float64), rng.integers(0, 3, 200)
    losses = []
    for first, features in ((layer_of(17, np.float64), x), (layer_of(17, np.float64).to_linear(), None)):
        features = layer_of(17, np.float64).code(x) if features is None else features
        model = fm.Sequential(first, fm.ReLU(), fm.Linear(17, 3, dtype=np.float64, rng=1))
        trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.Adam(0.01), l2=0.1)
        losses.append(np.array(trainer.fit(features, y, epochs=4, batch_size=32, rng=0)["train_loss"]))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-9)


@on_cpu
@widths
def test_predictor(outputs, dtype, rng):
    with fm.use_backend("numpy"):
        model = model_of(outputs, dtype).eval()
    x = positions(rng, 23, dtype)
    ref, predictor = model.infer(x), fm.Predictor(model)
    assert inference_kernels() is None or predictor.instructions != "numpy"
    comp = predictor(x)
    assert_matches(ref, comp, 256 * np.finfo(dtype).eps * (1 + np.abs(ref).max()))
    np.testing.assert_array_equal([predictor(row) for row in x], comp)
    np.testing.assert_array_equal(fm.Predictor(model, threads=2)(x[:1]), comp[:1])
    whole = np.abs(np.floor(x)).astype(np.uint8)
    np.testing.assert_array_equal(predictor(whole), predictor(whole.astype(dtype)))
    np.testing.assert_array_equal(predictor(np.asfortranarray(x)), comp)


@on_cpu
def test_c(dtype, tmp_path, rng):
    from exchange.test_c import CC, outputs

    if CC is None:
        pytest.skip("no C compiler")
    with fm.use_backend("numpy"):
        model = model_of(9, dtype).eval()
    x = positions(rng, 23, dtype)
    ref = model.infer(x)
    assert_matches(ref, outputs(model, x, tmp_path), 256 * np.finfo(dtype).eps * (1 + np.abs(ref).max()))


@on_cpu
@pytest.mark.parametrize("levels", [LEVELS, ()], ids=str)
def test_onnx(levels, tmp_path, rng):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from exchange.test_onnx import outputs

    with fm.use_backend("numpy"):
        model = fm.Sequential(fm.BinnedLinear(DENSE, BINS, 9, levels=levels, rng=0), fm.ReLU()).eval()
    x = positions(rng, 23, np.float32)[:, : DENSE + len(BINS) + len(levels)]
    if levels:
        x[:, -1] += np.float32(0.5)  # the level below
    ref = model.infer(x)
    fm.export_onnx(model, tmp_path / "m.onnx")
    assert_matches(ref, outputs(tmp_path / "m.onnx", x), 256 * np.finfo(np.float32).eps * (1 + np.abs(ref).max()))


def test_layers_before(rng):
    """Not in the engine: module by module, which a warning says once."""
    model = fm.Sequential(fm.Linear(4, 3, rng=0), fm.BinnedLinear(2, [3], 2, rng=1))
    x, y = rng.normal(size=(20, 4)), rng.integers(0, 2, 20)
    trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.SGD(0.1))
    with fm.use_backend("numpy"), pytest.warns(fm.PerformanceWarning, match="not the first one that has parameters"):
        trainer.fit(x, y, epochs=1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, [2], 3), "dense_features is 0"),
        ((1, [], 3), "both empty"),
        ((1, [2, 0], 3), r"bins\[1\] is 0"),
        ((1, 2, 3), "bins is 2; expected a sequence"),
        ((1, [2.5], 3), r"bins\[0\] is 2.5"),
        ((1, [1 << 25], 3), "at most 16777216"),
        ((1, [2], 0), "out_features is 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        fm.BinnedLinear(*arguments)


@pytest.mark.skipif(not SIMULATED, reason="needs the simulator of a GPU")
def test_refused_on_a_gpu():
    with fm.use_backend("cuda"), pytest.raises(fm.BackendError, match="no kernels for GPUs"):
        layer_of(3, np.float32).infer(np.zeros((1, 8)))
