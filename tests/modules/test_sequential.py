import copy
import json
import pickle
import types

import numpy as np
import pytest
from activations import EXAMPLES

import fastmlp as fm
from fastmlp.modules import module_from_config


def model_of(dtype, rng=0):
    """Something of everything, nested."""
    return fm.Sequential(
        fm.Normalize(np.arange(6), np.arange(1, 7), dtype=dtype),
        fm.Sequential(fm.Linear(6, 7, dtype=dtype, rng=rng), fm.LayerNorm(7, dtype=dtype), fm.ELU()),
        fm.Dropout(0.3, rng=1),
        fm.Linear(7, 4, dtype=dtype, rng=rng),
        fm.Softmax(),
    )


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (6, 8, 16), (7, 17, 9)], ids=str)
@pytest.mark.sampled
def test_fused_equals_unfused(backend, rng, dtype, name, shape):
    n, i, o = shape
    layers = [(fm.Linear(i, o, dtype=dtype, rng=0), EXAMPLES[name]()) for _ in range(2)]
    (linear, activation), apart = layers[0], fm.Sequential(*layers[1])
    x, dy = rng.normal(size=(n, i)).astype(dtype), rng.normal(size=(n, o)).astype(dtype)
    np.testing.assert_array_equal(activation.forward(linear.forward(x)), apart.forward(x))
    np.testing.assert_array_equal(linear.backward(activation.backward(dy)), apart.backward(dy))
    np.testing.assert_array_equal(linear.grads["weight"], apart[0].grads["weight"])
    np.testing.assert_array_equal(apart.infer(x), apart.forward(x))


def test_two_activations_after_a_linear(backend, rng):
    model = fm.Sequential(fm.Linear(3, 4, rng=0), fm.Tanh(), fm.ReLU())
    x = rng.normal(size=(5, 3))
    expected = np.maximum(fm.Tanh().forward(model[0].forward(x)), 0)
    np.testing.assert_array_equal(model.forward(x), expected)


def test_without_dx_the_gradients_are_the_same(backend, rng, dtype):
    model = model_of(dtype)
    x, dy = rng.integers(0, 255, size=(5, 6)).astype(np.uint8), rng.normal(size=(5, 4))
    with next(m for m in model.modules() if isinstance(m, fm.Dropout)).freeze():
        model.forward(x)
        assert model.backward(dy).shape == (5, 6)
        grads = {name: np.array(grad) for name, grad in model.named_gradients()}
        model.forward(x)
        assert model.backward(dy, need_dx=False) is None
    for name, grad in model.named_gradients():
        np.testing.assert_array_equal(grads[name], grad)


def test_nothing_to_train(backend):
    model = fm.Sequential(fm.ReLU(), fm.Tanh())
    model.forward(np.ones((2, 3)))
    assert model.backward(np.ones((2, 3)), need_dx=False) is None
    assert model.num_parameters == 0


def test_names_and_access(backend):
    model = model_of(np.float32)
    names = ["0.mean", "0.scale", "1.0.weight", "1.0.bias", "1.1.weight", "1.1.bias", "3.weight", "3.bias"]
    assert list(model.state_dict()) == names
    assert [name for name, _ in model.named_parameters()] == names[2:]
    assert [name for name, _ in model.named_gradients()] == names[2:]
    assert len(model) == 5 and model[2].p == 0.3 and [name for name, _ in model.children()] == list("01234")
    assert [type(m).__name__ for m in model][-1] == "Softmax"
    assert model.num_parameters == 7 * 6 + 7 + 14 + 4 * 7 + 4
    assert (model.in_width, model.out_width, model.dtype) == (6, 4, np.float32)
    assert next(model.modules()) is model


def test_modes(backend):
    model = model_of(np.float32)
    assert model.eval() is model and not any(m.training for m in model.modules())
    assert model.train() is model and all(m.training for m in model.modules())


def test_float_input_is_cast_once(backend):
    """An activation first takes float32 or float64; inside a model it follows the model."""
    model = fm.Sequential(fm.ReLU(), fm.Linear(2, 2, dtype=np.float64, rng=0))
    assert model.forward(np.ones((1, 2), np.float32)).dtype == np.float64
    assert model.backward(np.ones((1, 2), np.float32)).dtype == np.float64


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(backend, rng, again):
    model = model_of(np.float32)
    model.classes, model.task = ["a", "b"], "classification"
    x = rng.normal(size=(3, 6))
    twin = again(model)
    np.testing.assert_array_equal(model.infer(x), twin.infer(x))
    assert twin.backend_name == model.backend_name and twin.classes == ["a", "b"]
    twin.params.update({})
    assert dict(twin.named_parameters())["3.bias"] is twin[3].params["bias"]
    twin[3].params["bias"] = [5, 0, 0, 0]
    assert (np.asarray(model.infer(x)) != np.asarray(twin.infer(x))).any()


def test_config_round_trip(backend, rng):
    model = model_of(np.float64)
    twin = module_from_config(json.loads(json.dumps(model.config())))
    twin.load_state_dict(model.state_dict())
    x = rng.normal(size=(3, 6))
    np.testing.assert_array_equal(model.forward(x), twin.forward(x))  # the Dropout's seed went along
    assert repr(twin) == repr(model)


@pytest.mark.parametrize(
    "config, text",
    [
        ({"type": "Conv2d"}, "module of type 'Conv2d'; expected one of .*ReLU"),
        ({"type": "os.system"}, "module of type 'os.system'"),
        ({"type": ["Linear"]}, "module of type"),
        (None, "module of type None"),
        ({"type": "Linear", "in_features": 3}, "Linear cannot be built: TypeError"),
        ({"type": "Linear", "in_features": 3, "out_features": -1}, "out_features is -1"),
        ({"type": "Sequential"}, "Sequential cannot be built: KeyError"),
        ({"type": "Sequential", "modules": [{"type": "Nope"}]}, "module of type 'Nope'"),
        ({"type": "Sequential", "modules": 3}, "Sequential cannot be built"),
        ({"type": "MLP", "in_features": 2, "hidden": "ab", "out_features": 1}, "hidden is 'ab'"),
        ({"type": "Normalize", "features": "x"}, "features is 'x'"),
    ],
)
def test_bad_configs(config, text):
    with fm.use_backend("numpy"), pytest.raises(fm.ModelFileError, match=text):
        module_from_config(config)


def test_what_does_not_fit():
    with fm.use_backend("numpy"):
        linear = fm.Linear(3, 4)
        with pytest.raises(ValueError, match=r"module 0 .Linear of 3 to 4. gives 4 columns, module 2 .Linear of 5"):
            fm.Sequential(linear, fm.ReLU(), fm.Linear(5, 2))
        with pytest.raises(ValueError, match="one dtype, got float32 and float64"):
            fm.Sequential(linear, fm.Linear(4, 2, dtype=np.float64))
        with pytest.raises(ValueError, match="one dtype, got float64 and float32"):
            fm.Sequential(fm.Linear(5, 3, dtype=np.float64), fm.ReLU(), linear)
        for modules, places in [
            ((linear, fm.Sequential(fm.Linear(4, 3), linear)), "the Linear of place 0 again at place 1.1"),
            ((fm.Linear(3, 3), relu := fm.ReLU(), fm.Linear(3, 3), relu), "the ReLU of place 1 again at place 3"),
            ((fm.Sequential(relu), relu), "the ReLU of place 0.0 again at place 1"),
            ((inner := fm.Sequential(fm.Linear(3, 3), relu), inner), "the Sequential of place 0 again at place 1"),
        ]:
            with pytest.raises(ValueError, match=f"each module once, got {places}; give each place a module"):
                fm.Sequential(*modules)
        with pytest.raises(ValueError, match="at least one module, got none"):
            fm.Sequential()
        with pytest.raises(ValueError, match="expected modules, got 3 at place 1"):
            fm.Sequential(linear, 3)
        with pytest.raises(ValueError, match=r"Sequential: x has shape \(5, 2\); expected \(N, 3\)"):
            fm.Sequential(linear, fm.ReLU()).forward(np.zeros((5, 2)))
        with pytest.raises(RuntimeError, match=r"Sequential.backward was called before forward"):
            fm.Sequential(linear).backward(np.zeros((5, 4)))


def test_modules_of_two_backends(backend):
    layer = fm.Linear(3, 4)
    layer.backend = types.SimpleNamespace(name="another")
    with pytest.raises(ValueError, match=rf"modules of one backend, got another and {backend}"):
        fm.Sequential(layer, fm.Linear(4, 2))
