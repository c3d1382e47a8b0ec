"""The CUDA backend in training and inference; tests/kernels covers its operations."""

from __future__ import annotations

import copy
import importlib
import pickle
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from checks import assert_matches, eps, linear_bound, product_bound
from compiled import COMPILED, NATIVE, SIMULATED

import fastmlp as fm
from fastmlp._kernels import get_backend
from fastmlp.cli import main

here = pytest.mark.skipif("cuda" not in COMPILED, reason="needs a GPU, or NUMBA_ENABLE_CUDASIM=1")
STEPS = 2 if SIMULATED else 10


def trained(backend, optimizer, **options):
    """Weights after some steps, and probabilities."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(10, 5)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    with fm.use_backend(backend):
        model = fm.MLP(5, [6], 2, rng=1, **options)
        trainer = fm.Trainer(model, fm.CrossEntropyLoss(label_smoothing=0.1), optimizer)
        trainer.fit(x, y, batch_size=4, max_steps=STEPS, rng=3, validation=(x, y))
        return trainer, x


def as_far_as(single, exact):
    """A bound on the error of one float32 program from that of another, NumPy's: some times as large, and some eps."""
    return 4 * np.abs(single - exact).max() + 4 * eps(np.float32) * np.abs(exact).max()


@pytest.mark.skipif(not SIMULATED, reason="of Numba's simulator")
def test_threads_that_ask_at_once_share_an_array(monkeypatch):
    simulator = importlib.import_module("numba.cuda.simulator.kernelapi")
    shared, barrier = simulator.FakeCUDAShared(0), threading.Barrier(8)

    def later(*arguments, empty=np.empty):
        time.sleep(0.01)  # gives other threads time to call meanwhile
        return empty(*arguments)

    def ask(_):
        barrier.wait()
        return shared.array(3, simulator.types.float32)

    monkeypatch.setattr(np, "empty", later)
    one = shared.array(3, simulator.types.float32)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert all(array is found[0] for array in found) and found[0] is not one


@here
@pytest.mark.parametrize("options", [{}, {"dropout": 0.4}], ids=["plain", "dropout"])
@pytest.mark.parametrize("make", [lambda: fm.SGD(0.1, momentum=0.9), lambda: fm.Adam(0.01, clip_norm=1.0)])
def test_training_is_that_of_the_reference(make, options):
    ref, x = trained("numpy", make(), dtype=np.float64, **options)
    single, _ = trained("numpy", make(), **options)
    comp, _ = trained("cuda", make(), **options)
    state, rounded = comp.model.state_dict(), single.model.state_dict()
    for name, weight in ref.model.state_dict().items():
        assert type(state[name]) is np.ndarray
        assert_matches(weight, state[name], as_far_as(rounded[name], weight), name)
    probabilities = ref.predict_proba(x)
    assert_matches(probabilities, comp.predict_proba(x), as_far_as(single.predict_proba(x), probabilities))
    losses = [np.array(trainer.history["val_loss"]) for trainer in (ref, comp, single)]
    assert_matches(losses[0], losses[1], as_far_as(losses[2], losses[0]))


@here
def test_arrays_live_on_the_gpu_and_come_back(tmp_path):
    trainer, x = trained("cuda", fm.Adam(0.01))
    model = trainer.model
    assert all(hasattr(array, "copy_to_host") for _, array in model.named_parameters())
    assert all(hasattr(a, "copy_to_host") for kinds in trainer.optimizer.state.values() for a in kinds.values())
    outputs = np.asarray(model.infer(x))
    fm.save(model, tmp_path / "m.safetensors")
    loaded = fm.load_model(tmp_path / "m.safetensors")
    twins = [loaded.to("cuda"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for twin in twins:
        assert np.asarray(twin.infer(x)).tobytes() == outputs.tobytes()
    copy.deepcopy(trainer.optimizer).step(_with_gradients(model, x))
    weights = model.state_dict()
    model.to("numpy")
    for name, array in model.named_parameters():
        assert type(array) is np.ndarray and array.tobytes() == weights[name].tobytes()


def _with_gradients(model, x):
    twin = copy.deepcopy(model).train()
    twin.backward(np.ones_like(np.asarray(twin.forward(x))))
    return twin


@here
def test_arrays_of_the_gpu_are_taken_as_they_are():
    with fm.use_backend("cuda") as backend:
        layer = fm.Linear(3, 2, rng=0)
        x = backend.from_numpy(np.ones((4, 3), np.float32))
        y = layer.forward(x)
        loss, dy = fm.MSELoss().forward_backward(y, np.zeros((4, 2)))
        layer.backward(dy)
    assert loss > 0 and hasattr(dy, "copy_to_host")
    on_host = copy.deepcopy(layer).to("numpy")
    state = {name: array.astype(np.float64) for name, array in on_host.state_dict().items()}
    ones = np.ones((4, 3))
    ref, bound = (
        ones @ state["weight"].T + state["bias"],
        linear_bound(ones, state["weight"], state["bias"], np.float32),
    )
    assert_matches(ref, np.asarray(y), bound)
    assert_matches(ref, on_host.forward(x), bound)


@pytest.fixture
def engine(monkeypatch):
    """Whole runs of steps, whatever there is: on a GPU, or by threads that are simulated; counts the launches."""
    backend, launches = get_backend("cuda"), []
    machine = backend.machine()
    if machine is None:
        pytest.importorskip("greenlet")
        from simulated import Simulated

        machine = Simulated(3)
        monkeypatch.setattr(backend, "machine", lambda: machine)
    if SIMULATED or NATIVE:
        monkeypatch.setattr("fastmlp.engine.session._TURN", 60)  # simulated steps are slow
    run = type(machine).run

    def counted(self, *arguments):
        launches.append(1)
        return run(self, *arguments)

    monkeypatch.setattr(type(machine), "run", counted)
    return launches


def fitted(backend, *callbacks, dtype=np.float64, data=None, **options):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(9 if SIMULATED else 14, 5))
    data = (x, (x[:, 0] > 0).astype(np.int64)) if data is None else data
    with fm.use_backend(backend):
        model = fm.MLP(5, [6], 2, "tanh", layer_norm=True, dropout=0.2, dtype=dtype, rng=1)
        trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.Adam(0.05, clip_norm=1.0), l2=0.1, average=0.9)
    options = {"batch_size": 4, "epochs": 3, "rng": 3, "validation": (data[0][:3], data[1][:3]), **options}
    trainer.fit(*data, callbacks=callbacks, **options)
    return trainer


def assert_same_state(ref, comp, bound=1e-9):
    for one, other in ((ref, comp), (ref.averaged_model(), comp.averaged_model())):
        state = getattr(other, "model", other).state_dict()
        for name, array in getattr(one, "model", one).state_dict().items():
            assert_matches(array, state[name], bound * (1 + np.abs(array)), name)


@here
def test_whole_epochs_in_one_launch(engine):
    comp, ref = fitted("cuda"), fitted("numpy")
    assert_same_state(ref, comp)
    assert len(engine) <= 5  # one launch measures the time of a step
    for key in ("train_loss", "val_loss", "val_accuracy"):
        assert_matches(np.array(ref.history[key]), np.array(comp.history[key]), 1e-9)
    assert all(hasattr(array, "copy_to_host") for _, array in comp.model.named_parameters())


@here
def test_parameter_groups_train_module_by_module(engine):
    x = np.random.default_rng(5).normal(size=(9, 5))
    y = (x[:, 0] > 0).astype(np.int64)

    def trainer(backend):
        groups = [{"params": "*.bias", "lr": 0.0}, {"params": "0.weight", "lr_scale": 0.1}]
        with fm.use_backend(backend):
            model = fm.MLP(5, [6], 2, "tanh", dtype=np.float64, rng=1)
            return fm.Trainer(model, fm.CrossEntropyLoss(), fm.Adam(0.05, param_groups=groups))

    ref, comp = trainer("numpy"), trainer("cuda")
    ref.fit(x, y, batch_size=4, epochs=2, rng=3)
    with pytest.warns(fm.PerformanceWarning, match="the engine for GPUs has no param_groups"):
        comp.fit(x, y, batch_size=4, epochs=2, rng=3)
    for name, array in ref.model.state_dict().items():
        assert_matches(array, comp.model.state_dict()[name], 1e-9, name)


@here
def test_changed_rows_and_steps_of_several_batches(engine):
    for options in ({"augment": [fm.Mixup(), fm.GaussianNoise()]}, {"accumulate": 2}):
        options |= {"epochs": 1, "batch_size": 7, "validation": None}
        assert_same_state(fitted("numpy", **options), fitted("cuda", **options))
    assert engine


@here
def test_what_has_no_room_goes_module_by_module(engine, monkeypatch):
    monkeypatch.setattr("fastmlp.engine.gpu.GpuEngine.has_room", lambda self, rows, accumulate: accumulate == 1)
    options = {"epochs": 1, "batch_size": 7, "validation": None, "accumulate": 2}
    with pytest.warns(fm.PerformanceWarning, match="all rows of a step would have to be in memory at once"):
        comp = fitted("cuda", **options)
    assert_same_state(fitted("numpy", **options), comp)
    assert not engine


@here
def test_callbacks_see_the_weights_and_may_change_them(engine):
    class Shrink(fm.Callback):
        def on_step(self, trainer, step, loss):
            with_backend = trainer.model.backend
            for _, array in trainer.model.named_parameters():
                with_backend.scale(array, 0.9, array)

    assert_same_state(fitted("numpy", Shrink()), fitted("cuda", Shrink()))


@here
def test_stopped_and_resumed(engine, tmp_path):
    ref = fitted("cuda", fm.EarlyStopping(9))

    def stop(trainer, record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted("cuda", fm.EarlyStopping(9), fm.SaveState(tmp_path / "state"), stop)
    assert_same_state(ref, fitted("cuda", fm.EarlyStopping(9), resume=tmp_path / "state"), 0)


@here
def test_a_divergence_leaves_the_last_good_weights(engine):
    x = np.random.default_rng(0).normal(size=(12, 5))
    states = []
    for backend in ("numpy", "cuda"):
        with fm.use_backend(backend):
            model = fm.Sequential(fm.Linear(5, 5, dtype=np.float64, rng=0))
            trainer = fm.Trainer(model, fm.MSELoss(), fm.SGD(1e60))
        with pytest.raises(fm.DivergenceError, match="keeps the weights of step"):
            trainer.fit(x, 2 * x, batch_size=4, epochs=9, rng=0)
        states.append((trainer.steps, model.state_dict()))
    assert states[0][0] == states[1][0]
    for name, array in states[0][1].items():
        assert_matches(array, states[1][1][name], 1e-9 * np.abs(array))


@here
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 257, 600])
def test_numbers_are_finite(size, dtype):
    machine = get_backend("cuda").machine()
    if machine is None:
        pytest.skip("Numba's simulator keeps no arrays between launches")
    numbers = np.full(size, np.finfo(dtype).max)
    there, others = machine.upload(numbers), machine.upload(np.zeros(3, dtype))
    assert machine.finite([there, others])
    for place in {0, size // 2, size - 1}:
        for wrong in (np.nan, np.inf, -np.inf):
            numbers[place] = wrong
            machine.assign(there, numbers)
            assert not machine.finite([others, there]) and not machine.finite([there, others]), (place, wrong)
        numbers[place] = 0
    machine.assign(there, numbers)
    assert machine.finite([there, others])


@here
def test_single_steps(engine):
    x = np.random.default_rng(0).normal(size=(7, 5))
    trainers = []
    for backend in ("numpy", "cuda"):
        with fm.use_backend(backend):
            trainers.append(fm.Trainer(fm.MLP(5, [4], 2, dtype=np.float64, rng=0), fm.MSELoss(), fm.SGD(0.1, 0.9)))
    for i in range(4):
        losses = [trainer.step(x, x[:, :2]) for trainer in trainers]
        assert_matches(losses[0], losses[1], 1e-12)
        if i == 2:  # state is read and changed between steps
            for trainer in trainers:
                trainer.model.load_state_dict({k: 0.5 * a for k, a in trainer.model.state_dict().items()})
    for name, array in trainers[0].model.state_dict().items():
        assert_matches(array, trainers[1].model.state_dict()[name], 1e-12)
    assert len(engine) == 4


@here
def test_precisions(monkeypatch):
    """They go with the model, and are that of its Linear layers alone; the simulator has no tensor cores."""
    model = fm.MLP(3, [4], 2, rng=0)
    with pytest.raises(fm.BackendError, match="There is no precision 'fp16'; expected one of 'float32', 'bf16x6', "):
        model.to("cuda", precision="fp16")
    with pytest.raises(fm.BackendError, match="'bf16' needs the backend 'cuda'; this is 'numpy'"):
        model.to("numpy", precision="bf16")
    backend = get_backend("cuda")
    if SIMULATED:
        with pytest.raises(fm.BackendError, match="'tf32' needs a GPU; Numba's simulator has no tensor cores"):
            model.to("cuda", precision="tf32")
        assert model.precision == "float32"
    monkeypatch.setattr(backend, "check", lambda precision: None)
    with pytest.raises(ValueError, match="'tf32' is for float32 modules; this one is float64"):
        fm.MLP(3, [4], 2, dtype=np.float64, rng=0).to("cuda", precision="tf32")
    model.to("cuda", precision="tf32")
    assert {module.precision for module in model.modules()} == {"tf32"}
    arrays = [array for _, array in model.named_parameters()]
    assert pickle.loads(pickle.dumps(model)).precision == copy.deepcopy(model).precision == "tf32"
    assert model.to("cuda").precision == "tf32" and model.to(precision="bf16").precision == "bf16"
    assert all(a is b for a, (_, b) in zip(arrays, model.named_parameters(), strict=True))
    trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.SGD(), precision="tf32")
    assert trainer.model.precision == "tf32" and model.backend_name == "cuda"
    assert model.to("numpy").precision == "float32" and model.to("cuda").precision == "float32"


@here
def test_the_command_line(engine, tmp_path, capsys):
    generator = np.random.default_rng(0)
    X = generator.normal(size=(20, 3))
    np.savez(tmp_path / "t.npz", X=X, y=(X[:, 0] > 0).astype(np.int64))
    states = []
    for backend in ("numpy", "cuda"):
        options = ["--backend", backend, "--dtype", "float64", "--hidden", "4", "--batch-size", "3", "--epochs", "2"]
        options += ["--accumulate", "2", "--noise", "0.1", "--no-progress", "--out", str(tmp_path / backend)]
        assert main(["train", "--dataset", str(tmp_path / "t.npz"), *options]) == 0
        out, err = capsys.readouterr()
        assert f"backend    {backend}, seed 42" in out, (out, err)
        states.append(fm.load_model(tmp_path / backend / "model.safetensors").state_dict())
    assert engine
    for name, array in states[0].items():
        assert_matches(array, states[1][name], 1e-9 * (1 + np.abs(array)), name)


@here
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_estimators(solver, engine):
    pytest.importorskip("sklearn")
    generator = np.random.default_rng(0)
    X = generator.normal(size=(12, 4))
    labels, numbers = np.array(["no", "yes"])[(X[:, 0] > 0).astype(int)], X[:, :2] - X[:, 2:]
    options = {"hidden_layer_sizes": (5,), "solver": solver, "max_iter": 3, "batch_size": 5, "random_state": 0}
    for kind, targets in ((fm.MLPClassifier, labels), (fm.MLPRegressor, numbers)):
        found = []
        for backend in ("numpy", "cuda"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # ignores the convergence warning after three passes
                found.append(kind(backend=backend, **options).fit(X, targets))
        ref, comp = found
        assert_matches(ref.loss_, comp.loss_, 1e-9)
        for one, other in zip(ref.coefs_ + ref.intercepts_, comp.coefs_ + comp.intercepts_, strict=True):
            assert_matches(one, other, 1e-9)
        if kind is fm.MLPClassifier:
            assert (ref.predict(X) == comp.predict(X)).all()
            assert_matches(ref.predict_proba(X), comp.predict_proba(X), 1e-9)
        else:
            assert_matches(ref.predict(X), comp.predict(X), 1e-9)
        twin = pickle.loads(pickle.dumps(comp))
        assert twin.predict(X).tobytes() == comp.predict(X).tobytes()
        with pytest.raises(ValueError, match="read-only"):  # the arrays are copies of weights on the GPU
            comp.coefs_[0][...] = 0
        ref.coefs_[0] = comp.coefs_[0] = 0 * ref.coefs_[0]
        answers = [(one.predict_proba if kind is fm.MLPClassifier else one.predict)(X) for one in found]
        assert_matches(*answers, 1e-9)
    assert bool(engine) == (solver != "lbfgs")


def on_gpu(test):
    return pytest.mark.gpu(pytest.mark.skipif(SIMULATED or "cuda" not in COMPILED, reason="needs a GPU")(test))


@on_gpu
@pytest.mark.parametrize("precision", ["bf16x6", "tf32", "bf16"])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 1, 1), (63, 65, 64), (200, 300, 129)])
def test_products_on_tensor_cores(precision, rows, inputs, outputs):
    """Within the rule of the precision; and not by less than float32's where factors are rounded: they do run there."""
    generator = np.random.default_rng(0)
    x, dy = generator.standard_normal((rows, inputs)), generator.standard_normal((rows, outputs))
    x, dy = x.astype(np.float32), dy.astype(np.float32)
    layer = fm.Linear(inputs, outputs, rng=0)
    state = {name: array.astype(np.float64) for name, array in layer.state_dict().items()}
    layer.to("cuda", precision=precision)
    y = np.asarray(layer.forward(x))
    dx = np.asarray(layer.backward(dy))
    ones = np.ones((rows, 1))
    results = {
        "y": (x @ state["weight"].T + state["bias"], y, product_bound(x, state["weight"].T, precision)),
        "dx": (dy @ state["weight"], dx, product_bound(dy, state["weight"], precision)),
        "dw": (dy.T.astype(np.float64) @ x, layer.grads["weight"], product_bound(dy.T, x, precision)),
        "db": (dy.sum(axis=0, dtype=np.float64), layer.grads["bias"], product_bound(dy.T, ones, np.float32)[:, 0]),
    }
    for name, (ref, comp, bound) in results.items():
        assert_matches(ref, np.asarray(comp), bound + 4 * eps(np.float32) * np.abs(ref), name)
    if rows > 1 and precision != "bf16x6":
        exact = x.astype(np.float64) @ state["weight"].T + state["bias"]
        assert np.abs(y - exact).max() > 8 * np.abs(layer.to("numpy").forward(x) - exact).max()


@on_gpu
@pytest.mark.skipif(NATIVE, reason="minutes, where each instruction of tensor cores is a call")
@pytest.mark.parametrize("precision", ["bf16x6", "tf32", "bf16"])
@pytest.mark.parametrize("hidden", [[64, 64], [600, 600]])
def test_training_on_tensor_cores(precision, hidden, engine):
    """Ten steps in one launch beside those module by module, which round the same factors; and bit-equal twice."""
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((2000, 70)).astype(np.float32), generator.integers(0, 5, 2000)
    states = []
    for by_modules in (False, False, True):
        with fm.use_backend("cuda"):
            model = fm.MLP(70, hidden, 5, rng=0)
            trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.SGD(0.05), precision=precision)
            if by_modules:
                trainer._open_session = lambda *arguments: None
            trainer.fit(x, y, batch_size=1000, max_steps=10, rng=1)
        states.append(model.state_dict())
    assert engine
    for name, array in states[0].items():
        assert array.tobytes() == states[1][name].tobytes()
        # The order of float32 sums differs; over ten steps this contributes more than the rounding of factors.
        bound = 2e-5 if precision == "bf16x6" else eps(precision)
        assert_matches(states[2][name], array, bound * np.abs(array).max(), name)


@on_gpu
@pytest.mark.skipif(NATIVE, reason="minutes, where each barrier is some hundred switches of threads")
@pytest.mark.parametrize("optimizer", [lambda: fm.SGD(0.1, 0.9), lambda: fm.Adam(0.01)], ids=["sgd", "adam"])
def test_five_hundred_steps_stray_no_further_than_one_ulp_does(optimizer, engine):
    """As the engine's on the CPU do: beside the reference's curve, and those from weights that differ by an ulp."""
    generator = np.random.default_rng(0)
    X, y = generator.standard_normal((200, 12)).astype(np.float32), generator.integers(0, 4, 200)

    def curve(backend, ulps=None):
        with fm.use_backend("numpy"):
            model = fm.MLP(12, [16, 16], 4, "tanh", rng=0)
        if ulps is not None:
            for _, array in model.named_parameters():
                array[...] = np.nextafter(array, ulps.choice(np.array([-np.inf, np.inf], np.float32), array.shape))
        trainer = fm.Trainer(model.to(backend), fm.CrossEntropyLoss(), optimizer())
        history = trainer.fit(X, y, batch_size=32, max_steps=500, eval_every=1, rng=5)
        return np.array(history["train_loss"])

    ref = curve("numpy")
    assert ref[-20:].mean() < 0.5 * ref[0]
    bounds = [curve("numpy", np.random.default_rng(seed)) - ref for seed in range(4)]
    comp = curve("cuda") - ref
    assert engine
    assert np.abs(comp).max() <= max(np.abs(bound).max() for bound in bounds)
    assert np.sqrt((comp**2).mean()) <= max(np.sqrt((bound**2).mean()) for bound in bounds)


@pytest.mark.skipif("cuda" in COMPILED, reason="there is a GPU, or its simulator")
def test_without_a_gpu_the_error_says_what_is_missing():
    with pytest.raises(fm.BackendError, match="needs (an NVIDIA GPU and its driver|numba_cuda)"):
        fm.Linear(2, 2).to("cuda")
