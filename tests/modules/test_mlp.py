import json

import numpy as np
import pytest
from activations import curve
from checks import MLPReference, assert_matches

import fastmlp as fm
from fastmlp.modules import module_from_config


@pytest.mark.parametrize("hidden", [(), (1,), (6, 8), (7, 17, 15)], ids=str)
@pytest.mark.parametrize("name", ["relu", "elu", "tanh", "gelu"])
@pytest.mark.sampled
def test_against_the_reference(backend, rng, dtype, hidden, name):
    """The bound is carried through the layers, forward and backward."""
    model = fm.MLP(9, hidden, 5, name, dtype=dtype, rng=4)
    x, dy = rng.normal(size=(13, 9)).astype(dtype), rng.normal(size=(13, 5)).astype(dtype)
    y, dx = model.forward(x), model.backward(dy)
    linears = [m for m in model if isinstance(m, fm.Linear)]
    layers = [(np.asarray(m.params["weight"], float), np.asarray(m.params["bias"], float)) for m in linears]
    ref = MLPReference(layers, curve(name, 1.0), x.astype(float), dtype)
    assert_matches(ref.y, y, ref.y_bound, "y")
    dref, bound, gradients = ref.backward(dy.astype(float))
    assert_matches(dref, dx, bound, "dx")
    for key, grad in model.named_gradients():
        assert_matches(gradients[key][0], grad, gradients[key][1], key)


def test_layout(backend, rng):
    scaling = fm.Normalize(np.zeros(4), np.ones(4))
    model = fm.MLP(4, [6, 5], 3, "silu", layer_norm=True, dropout=0.1, normalize=scaling, rng=0)
    kinds = ["Linear", "LayerNorm", "SiLU", "Dropout"]
    assert [type(m).__name__ for m in model] == ["Normalize", *kinds, *kinds, "Linear"]
    assert model.takes_raw and model.in_width == 4 and model.out_width == 3
    plain = fm.MLP(4, [], 3, rng=0)
    assert [type(m).__name__ for m in plain] == ["Linear"]
    assert "1.bias" not in fm.MLP(4, [6], 3, bias=False, rng=0).state_dict()


def test_the_seed_decides(backend):
    model, again = fm.MLP(4, [6], 3, dropout=0.5, rng=42), fm.MLP(4, [6], 3, dropout=0.5, rng=42)
    for name, array in model.named_parameters():
        np.testing.assert_array_equal(array, dict(again.named_parameters())[name])
    np.testing.assert_array_equal(model[0].params["weight"], fm.Linear(4, 6, rng=42).params["weight"])
    np.testing.assert_array_equal(model[3].params["weight"], fm.Linear(6, 3, rng=42, layer=1).params["weight"])
    assert model.seed == 42 and model[2].seed == 42
    unseeded = fm.MLP(4, [6], 3)
    twin = fm.MLP(4, [6], 3, rng=unseeded.seed)
    np.testing.assert_array_equal(unseeded[0].params["weight"], twin[0].params["weight"])


def test_an_activation_as_template(backend):
    template = fm.ELU(0.3)
    model = fm.MLP(4, [6, 5], 3, template, rng=0)
    assert [m.alpha for m in model if isinstance(m, fm.ELU)] == [0.3, 0.3]
    assert template not in list(model)


@pytest.mark.parametrize("with_scaling", [True, False])
def test_config_round_trip(backend, rng, with_scaling):
    scaling = fm.Normalize(np.arange(4), np.arange(1, 5), dtype=np.float64) if with_scaling else None
    model = fm.MLP(
        *(4, [6, 5], 3, fm.LeakyReLU(0.3)),
        layer_norm=True,
        dropout=0.1,
        bias=False,
        normalize=scaling,
        dtype=np.float64,
        rng=5,
    )
    twin = module_from_config(json.loads(json.dumps(model.config())))
    assert type(twin) is fm.MLP and twin.config() == model.config()
    twin.load_state_dict(model.state_dict())
    x = rng.normal(size=(3, 4))
    np.testing.assert_array_equal(model.infer(x), twin.infer(x))


@pytest.mark.parametrize(
    "arguments, text",
    [
        ((4, 100, 3), "hidden is 100; expected a sequence of integers"),
        ((4, [2.5], 3), r"hidden\[0\] is 2.5; expected an integer of at least 1"),
        ((4, [True], 3), r"hidden\[0\] is True"),
        ((4, [5, 0], 3), r"hidden\[1\] is 0"),
        ((0, [5], 3), "in_features is 0"),
        ((4, [5], "3"), "out_features is '3'"),
    ],
)
def test_bad_arguments(arguments, text):
    with fm.use_backend("numpy"), pytest.raises(ValueError, match=text):
        fm.MLP(*arguments)


def test_bad_keywords():
    with fm.use_backend("numpy"):
        for keywords, text in [
            ({"dtype": np.float16}, "expected float32 or float64"),
            ({"dtype": "nonsense"}, "dtype is 'nonsense'; expected float32 or float64"),
            ({"dtype": None}, "dtype is None"),
            ({"init": "glorot"}, "init is 'glorot'; expected a callable or one of 'default'"),
            ({"rng": 1.5}, "rng is 1.5"),
            ({"dropout": 2}, "dropout is 2"),
            ({"normalize": True}, "normalize is True; expected a Normalize or None"),
            (
                {"normalize": fm.Normalize([0.0], [1.0])},
                "gives 1 columns, module 1 .Linear of 4 to 5. expects 4",
            ),
        ]:
            with pytest.raises(ValueError, match=text):
                fm.MLP(4, [5], 3, **keywords)
