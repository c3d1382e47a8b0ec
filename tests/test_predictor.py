"""fastmlp.Predictor against the float64 reference, and to the bit against the backend with the same kernels."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from activations import EXAMPLES, curve
from checks import C, MLPReference, assert_matches, elementwise_bound, eps
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import softmax

import fastmlp as fm
from fastmlp._kernels import use_backend
from fastmlp._kernels.cpu import elementwise, inference, jit
from fastmlp.inference.kernels import inference_kernels
from fastmlp.inference.plan import InferencePlan

pytestmark = pytest.mark.skipif(inference_kernels() is None, reason="no compiled kernels here")


def made(*args, **kwargs):
    """A model on the NumPy backend."""
    with use_backend("numpy"):
        return fm.MLP(*args, **{"rng": 3, **kwargs})


def reference(model, activation, x, dtype):
    state = {name: array.astype(np.float64) for name, array in model.state_dict().items()}
    names = [name for name in state if name.endswith("weight")]
    layers = [(state[name], state.get(name.replace("weight", "bias"))) for name in names]
    return MLPReference(layers, activation, x.astype(np.float64), dtype)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.sampled
def test_each_activation(name, dtype, rng):
    activation = EXAMPLES[name]()
    model = made(9, [33, 17], 5, activation=activation, dtype=dtype)
    x = rng.normal(size=(14, 9)).astype(dtype)
    ref = reference(model, curve(activation.kind, activation.alpha), x, dtype)
    assert_matches(ref.y, fm.Predictor(model)(x), ref.y_bound, name)


@pytest.mark.parametrize("name", EXAMPLES)
def test_activations_alone(name, dtype):
    """The whole range of numbers, kinks and specials."""
    top = np.log2(np.finfo(dtype).max)
    sizes = 2.0 ** np.linspace(-top, top - 1, 700)
    near = np.linspace(-120, 120, 4001)
    x = np.concatenate([sizes, -sizes, near, near / 100, [0.0, -0.0, np.inf, -np.inf, np.nan]]).astype(dtype)[None]
    kind, alpha = EXAMPLES[name]().kind, EXAMPLES[name]().alpha
    plan = InferencePlan(inference_kernels(), x.shape[1], dtype)
    plan.activation(kind, alpha)
    comp = plan.compile()(x)
    with use_backend("numba") as backend:
        ref = backend.empty(x.shape, dtype)
        backend.activation_forward(kind, alpha, x, ref)
    # The predictor flushes subnormal inputs and results to zero, and so the gate in x * gate.
    tiny = np.finfo(dtype).tiny * np.clip(np.nan_to_num(np.abs(x.astype(np.float64))), 1, 1000)
    normal = ~((np.abs(ref) < tiny) | (np.abs(x) < np.finfo(dtype).tiny))
    np.testing.assert_array_equal(comp[normal], ref[normal])
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        exact = ref.astype(np.float64)
        bound = elementwise_bound(np.where(np.isfinite(exact), exact, 0), dtype) + tiny
    assert_matches(exact, comp, 2 * bound, name)  # twice, since the kernels of the reference have an error too


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 6, 7, 11, 12, 13, 25, 200])
@pytest.mark.parametrize("widths", [(1, 1), (4, 3), (16, 32, 33), (64, 31, 15, 1), (100, 129, 10)])
@pytest.mark.sampled
def test_widths_around_the_tile(rows, widths, dtype, rng):
    model = made(widths[0], widths[1:-1], widths[-1], activation="relu", dtype=dtype)
    x = rng.normal(size=(rows, widths[0])).astype(dtype)
    ref = reference(model, curve("relu"), x, dtype)
    comp = fm.Predictor(model)(x)
    assert comp.dtype == dtype and comp.flags.c_contiguous
    assert_matches(ref.y, comp, ref.y_bound)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 70), min_size=2, max_size=5), st.integers(1, 30), st.sampled_from([*EXAMPLES]))
def test_any_shape(widths, rows, name):
    activation = EXAMPLES[name]()
    model = made(widths[0], widths[1:-1], widths[-1], activation=activation)
    x = np.random.default_rng(rows).normal(size=(rows, widths[0])).astype(np.float32)
    ref = reference(model, curve(activation.kind, activation.alpha), x, np.float32)
    assert_matches(ref.y, fm.Predictor(model)(x), ref.y_bound)


def test_a_row_has_the_same_bits_in_any_company(dtype, rng):
    model = made(50, [300, 300], 7, activation="tanh", layer_norm=True, dtype=dtype)
    x = rng.normal(size=(700, 50)).astype(dtype)
    ref = fm.Predictor(model, threads=1)(x)
    for threads in (1, 2, 5):
        predictor = fm.Predictor(model, threads=threads)
        np.testing.assert_array_equal(predictor(x), ref)
        for rows in (1, 2, 7, 13):
            np.testing.assert_array_equal(predictor(x[:rows]), ref[:rows])
        for row in (0, 1, 699):
            np.testing.assert_array_equal(predictor(x[row]), ref[row])


def test_every_module(dtype, rng):
    with use_backend("numpy"):
        scaling = fm.Normalize(rng.normal(size=11), rng.uniform(1, 3, 11), dtype=dtype)
        model = fm.Sequential(
            scaling, fm.Tanh(), fm.Linear(11, 37, bias=False, dtype=dtype, rng=1), fm.LayerNorm(37, dtype=dtype),
            fm.Identity(), fm.Dropout(0.5, rng=1), fm.LeakyReLU(0.2),
            fm.Sequential(
                fm.Linear(37, 6, dtype=dtype, rng=2), fm.LayerNorm(6, affine=False, dtype=dtype), fm.Softmax()
            ),
        )  # fmt: skip
    for _, array in model.named_parameters():
        array += rng.normal(size=array.shape).astype(dtype) * 0.1
    x = rng.normal(size=(20, 11)).astype(dtype)
    state = {name: array.astype(np.float64) for name, array in model.state_dict().items()}
    z = np.tanh((x - state["0.mean"]) / state["0.scale"]) @ state["2.weight"].T
    z = _layer_norm(z) * state["3.weight"] + state["3.bias"]
    z = np.where(z > 0, z, 0.2 * z) @ state["7.0.weight"].T + state["7.0.bias"]
    ref = softmax(_layer_norm(z))
    # Sums of at most 37 terms of order 1, in four layers that do not amplify errors.
    assert_matches(ref, fm.Predictor(model)(x), 8 * C * eps(dtype) * np.sqrt(37))


def _layer_norm(z):
    return (z - z.mean(axis=1, keepdims=True)) / np.sqrt(z.var(axis=1, keepdims=True) + 1e-5)


def test_layouts_and_dtypes_of_the_input(dtype, rng):
    with use_backend("numpy"):
        scaling = fm.Normalize(np.ones(6), np.full(6, 2.0), dtype)
    model = made(6, [20], 3, activation="elu", dtype=dtype, normalize=scaling)
    plain = made(6, [20], 3, activation="elu", dtype=dtype)
    pixels = rng.integers(0, 255, (9, 6)).astype(np.uint8)
    for predictor in (fm.Predictor(model), fm.Predictor(plain)):
        ref = predictor(pixels.astype(dtype))
        wide = np.zeros((9, 12), dtype)
        wide[:, ::2] = pixels
        raw = np.zeros(9 * 6 * pixels.itemsize * dtype.itemsize + 1, np.uint8)
        shifted = raw[1:].view(dtype).reshape(9, 6)
        shifted[...] = pixels
        layouts = [
            pixels, pixels[:, :], np.asfortranarray(pixels), wide[:, ::2], np.asfortranarray(pixels.astype(dtype)),
            pixels.astype(np.float64), pixels.astype(np.float32), pixels.astype(np.int16), pixels.tolist(), shifted,
            pixels.astype(dtype.newbyteorder()), pixels[::-1][::-1], np.pad(pixels, 3)[3:-3, 3:-3],
            np.pad(pixels.astype(dtype), 3)[3:-3, 3:-3],
        ]  # fmt: skip
        for number, x in enumerate(layouts):
            np.testing.assert_array_equal(predictor(x), ref, err_msg=str(number))
        np.testing.assert_array_equal(predictor(wide[::-1, ::2]), ref[::-1])


def test_out(rng):
    predictor = fm.Predictor(made(5, [8], 5))
    x = rng.normal(size=(4, 5)).astype(np.float32)
    ref = predictor(x)
    out = np.zeros((4, 5), np.float32)
    assert predictor(x, out) is out and (out == ref).all()
    strided = np.zeros((4, 10), np.float32)
    assert (
        predictor(x, out=strided[:, ::2]) is not None and (strided[:, ::2] == ref).all() and not strided[:, 1::2].any()
    )
    same = x.copy()
    assert predictor(same, out=same) is same and (same == ref).all()
    row = np.zeros(5, np.float32)
    assert predictor(x[0], out=row) is row and (row == ref[0]).all()
    for bad in (np.zeros((3, 5), np.float32), np.zeros((4, 5)), [[0.0] * 5] * 4):
        with pytest.raises(ValueError, match="expected out to be a writable float32 array of shape"):
            predictor(x, out=bad)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        predictor(x, out=out)


def test_bad_input():
    predictor = fm.Predictor(made(5, [8], 2))
    for x, message in [
        (np.zeros((2, 4), np.float32), r"x has shape \(2, 4\); expected \(N, 5\)"),
        (np.zeros(4), r"x has shape \(1, 4\); expected \(N, 5\)"),
        (np.zeros((2, 5, 1)), "x has shape"),
        (np.zeros((2, 5), complex), "complex128"),
        (np.full((2, 5), 1e300), "1e\\+300 at row 0, column 0"),
        ([["a"] * 5], "expected bools, integers or floats"),
    ]:
        with pytest.raises(ValueError, match=message):
            predictor(x)
    with pytest.raises(ValueError, match="threads is 0"):
        fm.Predictor(made(5, [8], 2), threads=0)
    with pytest.raises(ValueError, match="expected a model or the path of one, got int"):
        fm.Predictor(3)
    with pytest.raises(fm.ModelFileError, match="does not exist"):
        fm.Predictor("nothing.safetensors")
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(predictor)
    assert "Predictor(5 to 2, float32" in repr(predictor)


def test_special_numbers_go_their_way(dtype):
    with use_backend("numpy"):
        model = fm.Sequential(fm.Linear(3, 20, dtype=dtype, rng=0), fm.ReLU(), fm.Linear(20, 2, dtype=dtype, rng=1))
    x = np.zeros((15, 3), dtype)
    x[3, 1], x[4, 2] = np.nan, np.inf
    y = fm.Predictor(model)(x)
    assert np.isnan(y[3]).all() and not np.isfinite(y[4]).any()
    assert np.isfinite(np.delete(y, [3, 4], axis=0)).all()
    np.testing.assert_array_equal(fm.Predictor(model)(x[3:4]), y[3:4])


def test_softmax_of_extremes(dtype):
    with use_backend("numpy"):
        model = fm.Sequential(fm.Normalize(np.zeros(3), np.ones(3), dtype), fm.Softmax())
    x = np.array([[1e4, -1e4, 0], [-np.inf, 0, 0], [np.nan, 0, 0]], dtype)
    y = fm.Predictor(model)(x)
    np.testing.assert_array_equal(y[:2], [[1, 0, 0], [0, 0.5, 0.5]])
    assert np.isnan(y[2]).all()


@pytest.mark.parametrize("task", ["classification", "binary", "regression"])
def test_answers_are_those_of_the_trainer(task, rng, tmp_path):
    x = rng.normal(size=(40, 4)).astype(np.float32)
    loss = {"classification": fm.CrossEntropyLoss, "binary": fm.BCEWithLogitsLoss, "regression": fm.MSELoss}[task]()
    labels = np.where(x[:, 0] > 0, 1, 0)
    with use_backend("numpy"):
        trainer = fm.Trainer(fm.MLP(4, [6], 2 if task == "classification" else 1, rng=0), loss, fm.Adam(0.01))
        trainer.fit(x, labels if task != "regression" else x[:, :1], epochs=2, rng=0)
        fm.save(trainer.model, tmp_path / "model.safetensors")
        if task == "classification":
            trainer.model.classes = ["no", "yes"]
    for predictor in (
        fm.Predictor(trainer.model),
        fm.Predictor(tmp_path),
        fm.Predictor(tmp_path / "model.safetensors"),
    ):
        if predictor.classes is None:
            trainer.model.classes = None
        ref, comp = trainer.predict(x), predictor.predict(x)
        assert ref.dtype == comp.dtype and ref.shape == comp.shape
        if task == "regression":
            assert_matches(ref, comp, 1e-5)
            with pytest.raises(ValueError, match="use predict, not predict_proba"):
                predictor.predict_proba(x)
        else:
            np.testing.assert_array_equal(ref, comp)
            assert_matches(trainer.predict_proba(x), predictor.predict_proba(x), 16 * eps(np.float32))


def test_probabilities_of_a_softmax_are_its_own():
    with use_backend("numpy"):
        model = fm.Sequential(fm.Linear(3, 2, rng=0), fm.Softmax(), fm.Dropout(0.5, rng=0))
    model.task = "classification"
    x = np.ones((2, 3), np.float32)
    predictor = fm.Predictor(model)
    np.testing.assert_array_equal(predictor.predict_proba(x), predictor(x))
    with pytest.raises(ValueError, match=r"predict: X has shape \(3,\); expected \(N, 3\)"):
        predictor.predict(x[0])
    for refused in (predictor.predict, predictor.predict_proba):
        with pytest.raises(ValueError, match="X is nan at row 1, column 2; expected finite numbers"):
            refused([[1, 2, 3], [1, 2, np.nan]])
    model.task = None
    with pytest.raises(ValueError, match="does not say what its outputs mean"):
        fm.Predictor(model).predict(x)


def test_it_is_frozen():
    model = made(3, [4], 2)
    predictor = fm.Predictor(model)
    x = np.ones((1, 3), np.float32)
    before = predictor(x).copy()
    for _, array in model.named_parameters():
        array += 1
    np.testing.assert_array_equal(predictor(x), before)


def test_many_threads_at_once(rng):
    model = made(20, [200, 200], 3, activation="silu")
    x = rng.normal(size=(500, 20)).astype(np.float32)
    predictor = fm.Predictor(model, threads=3)
    ref, wrong = predictor(x), []

    def call(number):
        for turn in range(60):
            start = (37 * number + turn) % 490
            rows = 1 if turn % 3 == 0 else 10 if turn % 3 == 1 else 500 - start
            if not (predictor(x[start : start + rows]) == ref[start : start + rows]).all():
                wrong.append((number, turn))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_large_calls_let_other_threads_run(rng):
    predictor = fm.Predictor(made(300, [1000, 1000], 300), threads=1)
    x = rng.normal(size=(2000, 300)).astype(np.float32)
    turns, started = [], threading.Event()

    def count():
        started.set()
        while not done.wait(0.001):
            turns.append(1)

    done = threading.Event()
    other = threading.Thread(target=count)
    other.start()
    started.wait()
    before = len(turns)
    predictor(x)  # tens of milliseconds without Python code
    during = len(turns) - before
    done.set()
    other.join()
    assert during > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_predicts():
    code = (
        "import os, numpy as np, fastmlp as fm\n"
        "p = fm.Predictor(fm.MLP(100, [500, 500], 2, rng=0).to('numpy'), threads=2)\n"
        "x = np.ones((1000, 100), np.float32); ref = p(x); p(x[0])\n"
        "child = os.fork()\n"
        "same = (p(x) == ref).all() and (p(x[0]) == ref[0]).all()\n"
        "if child == 0: os._exit(0 if same else 3)\n"
        "print(same, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert result.stdout.split() == ["True", "0"], result.stderr


def test_denormal_numbers_are_flushed_inside_only():
    predictor = fm.Predictor(made(4, [8], 2))
    predictor(np.full((3, 4), 1e-40, np.float32))
    assert np.float32(1e-40) * np.float32(0.5) != 0


def test_modules_of_other_makers_run_by_themselves():
    class Twice(fm.Module):
        def _compute(self, x, keep):
            return x * 2

    with use_backend("numpy"):
        model = fm.Sequential(fm.Linear(3, 2, rng=0), Twice())
    predictor = fm.Predictor(model)
    x = np.ones((4, 3), np.float32)
    assert predictor.instructions == "numpy"
    np.testing.assert_array_equal(predictor(x), model.infer(x))
    np.testing.assert_array_equal(predictor(x[0]), model.infer(x)[0])


def test_without_the_extension(monkeypatch, rng):
    model = made(5, [7], 3)
    model.task = "classification"
    x = rng.normal(size=(6, 5)).astype(np.float32)
    compiled = fm.Predictor(model)
    monkeypatch.setattr(fm.inference.predictor, "inference_kernels", lambda: None)
    plain = fm.Predictor(model)
    assert plain.instructions == "numpy"
    bound = 32 * eps(np.float32)
    assert_matches(plain(x), compiled(x), bound)
    assert_matches(plain.predict_proba(x), compiled.predict_proba(x), bound)
    np.testing.assert_array_equal(plain.predict(x), compiled.predict(x))
    assert plain(x[0]).shape == (3,)


WITHOUT_NUMBA = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numba", "llvmlite", "pooch", "tqdm", "scipy"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "numba" else real(name, package)
import numpy as np, fastmlp as fm
p_file = sys.argv[1] + '/model.safetensors'
p = fm.Predictor(sys.argv[1])
print(p(np.ones((2, 3), np.float32)).shape, p.predict(np.ones((2, 3))), fm.load_model(p_file).backend_name)
"""


def test_predicting_needs_no_numba(tmp_path):
    model = made(3, [4], 2)
    model.task = "classification"
    fm.save(model, tmp_path / "model.safetensors")
    command = [sys.executable, "-c", WITHOUT_NUMBA, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    words, default = result.stdout.split(), "numpy" if jit.LIBRARY is None else "numba"
    assert words[:2] == ["(2,", "2)"] and words[-1] == default, result.stderr


OUTPUTS = """
import sys, numpy as np, fastmlp as fm
with fm.use_backend("numpy"):
    model = fm.MLP(30, [64, 70], 2, activation="gelu", rng=3)
predictor = fm.Predictor(model)
x = np.random.default_rng(0).normal(size=(50, 30)).astype(np.float32)
assert (predictor(x[7]) == predictor(x)[7]).all()
print(predictor.instructions, predictor(x).tobytes().hex())
"""


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{"FASTMLP_JIT": "1"}, {"FASTMLP_LANES": "4"}, {"FASTMLP_LANES": "8"}], ids=str)
def test_bits_do_not_depend_on_the_width_of_vectors_or_the_compilation(variables):
    """The library, the JIT, and other widths, for which there may be no library."""
    words = [
        subprocess.run(
            [sys.executable, "-c", OUTPUTS], env={**os.environ, **others}, capture_output=True, text=True, check=True
        ).stdout.split()
        for others in ({}, variables)
    ]
    assert words[1][0] == "jit" or "FASTMLP_JIT" not in variables
    assert words[0][1] == words[1][1]


def test_a_wrong_width_of_vectors():
    result = subprocess.run(
        [sys.executable, "-c", OUTPUTS], env={**os.environ, "FASTMLP_LANES": "5"}, capture_output=True, text=True
    )
    assert "BackendError: FASTMLP_LANES is '5', expected 4, 8 or 16" in result.stderr


@pytest.mark.parametrize("rows", [1, 2, 5, 64])
def test_bits_are_those_of_the_backend(rows, dtype, rng):
    """Both compute with the same kernels, the Predictor with all layers for a block of rows before the next."""
    with use_backend("numba"):
        model = fm.Sequential(
            fm.Normalize(rng.normal(size=45), rng.uniform(1, 3, 45), dtype=dtype),
            fm.Linear(45, 130, dtype=dtype, rng=0), fm.ReLU(), fm.LayerNorm(130, dtype=dtype),
            fm.Linear(130, 17, dtype=dtype, rng=1), fm.Tanh(),
            fm.Scale(17, dtype=dtype), fm.Linear(17, 9, bias=False, dtype=dtype, rng=2), fm.Softmax(),
        )  # fmt: skip
        x = rng.normal(size=(rows, 45)).astype(dtype)
        ref = model.infer(x)
    np.testing.assert_array_equal(fm.Predictor(model)(x), ref)


def test_addresses_are_those_of_the_declared_functions(dtype):
    kernels = inference_kernels()
    assert kernels.row_function("softmax_row", dtype) == inference.softmax_row.address(dtype)
    assert kernels.row_function("columns_row", dtype, "scale") == inference.columns_row("scale").address(dtype)
    assert kernels.activation("gelu", dtype) == elementwise.forward_function("gelu").address(dtype)


def test_where_kernels_are_missing(monkeypatch):
    """No extension module; a processor without fused multiply-adds; neither library nor Numba."""
    library = fm.inference.kernels
    monkeypatch.setattr(library, "extension_module", lambda: None)
    assert inference_kernels() is None
    monkeypatch.undo()
    monkeypatch.setattr(library, "host_level", lambda: "")
    assert inference_kernels() is None
    monkeypatch.undo()
    monkeypatch.setattr(jit, "LIBRARY", None)
    assert inference_kernels().instructions == "jit"
    monkeypatch.setattr(library, "is_installed", lambda package: False)
    assert inference_kernels() is None
