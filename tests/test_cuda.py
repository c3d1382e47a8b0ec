"""The CUDA backend as a whole; its operations are in tests/kernels, with those of the other backends."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from checks import assert_matches, eps, linear_bound
from compiled import COMPILED, SIMULATED

import fastmlp as fm

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


@pytest.mark.skipif("cuda" in COMPILED, reason="there is a GPU, or its simulator")
def test_without_a_gpu_the_error_says_what_is_missing():
    with pytest.raises(fm.BackendError, match="needs (an NVIDIA GPU and its driver|numba_cuda)"):
        fm.Linear(2, 2).to("cuda")
