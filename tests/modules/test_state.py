"""state_dict, load_state_dict, assignment to parameters, and moving between backends."""

import numpy as np
import pytest

import fastmlp as fm


@pytest.fixture
def model(backend):
    return fm.MLP(4, [6], 3, rng=0)


def test_a_state_is_a_copy(model):
    state = model.state_dict()
    assert all(type(array) is np.ndarray for array in state.values())
    state["0.weight"][...] = 7
    assert (np.asarray(model[0].params["weight"]) != 7).all()


def test_loading_is_in_place(model, rng):
    weight = model[0].params["weight"]
    state = {name: rng.normal(size=array.shape) for name, array in model.state_dict().items()}
    model.load_state_dict(state)
    assert model[0].params["weight"] is weight and weight.dtype == np.float32
    np.testing.assert_array_equal(weight, state["0.weight"].astype(np.float32))


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda s: s.pop("2.bias"), "missing '2.bias', unexpected nothing"),
        (lambda s: s.update(extra=np.zeros(1)), "missing nothing, unexpected 'extra'"),
        (
            lambda s: s.update({"2.weight": np.zeros((6, 3))}),
            r"2.weight has shape \(6, 3\); expected \(3, 6\)",
        ),
        (lambda s: s.update({"2.bias": np.array(["a", "b", "c"])}), "2.bias has dtype <U1"),
        (lambda s: s.update({"2.bias": np.zeros(3, complex)}), "2.bias has dtype complex128"),
        (lambda s: s.update({"2.bias": [1, [2], 3]}), "2.bias is not a rectangular array"),
    ],
)
def test_a_bad_state_changes_nothing(model, change, text):
    before = model.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    change(state)
    with pytest.raises(ValueError, match=text):
        model.load_state_dict(state)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_assignment_copies_and_checks(model):
    weight = model[0].params["weight"]
    model[0].params["weight"] = np.ones((6, 4), np.float64, order="F")
    assert model[0].params["weight"] is weight and (np.asarray(weight) == 1).all()
    if isinstance(weight, np.ndarray):  # arrays of a GPU have no arithmetic
        model[0].params["weight"] += 1
        assert (weight == 2).all()
    model[0].params.update(bias=range(6))
    assert np.asarray(model[0].params["bias"]).tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"weight has shape \(4, 6\); expected \(6, 4\)"):
        model[0].params["weight"] = np.ones((4, 6))
    with pytest.raises(KeyError, match="no array 'gamma'; expected one of weight, bias"):
        model[0].params["gamma"] = np.ones(3)


def test_arrays_neither_come_nor_go(model):
    params = model[0].params
    weight = params["weight"]
    params |= {"weight": np.ones((6, 4))}
    assert params["weight"] is weight and (np.asarray(weight) == 1).all()
    for change in (
        lambda: params.pop("bias"),
        lambda: params.popitem(),
        lambda: params.clear(),
        lambda: params.setdefault("gamma", 1),
        lambda: params.__delitem__("bias"),
    ):
        with pytest.raises(TypeError, match=r"arrays of a module are fixed \(weight, bias\)"):
            change()
    assert list(params) == ["weight", "bias"]


def test_numbers_beyond_the_dtype_change_nothing(model):
    before = model.state_dict()
    state = {name: array + 1.0 for name, array in before.items()} | {"2.bias": np.array([0, 1e300, 0])}
    with pytest.raises(ValueError, match=r"2\.bias is 1e[+]300 at index 1; expected numbers of float32"):
        model.load_state_dict(state)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_to_another_backend(backend, rng):
    model = fm.MLP(4, [6], 3, rng=0)
    x, dy = rng.normal(size=(5, 4)), rng.normal(size=(5, 3))
    model.forward(x)
    assert model.to("numpy") is model
    assert all(m.backend_name == "numpy" for m in model.modules())
    with pytest.raises(RuntimeError, match="before forward"):
        model.backward(dy)
    with pytest.raises(fm.BackendError, match="no backend 'tpu'"):
        model.to("tpu")


def test_a_module_keeps_the_backend_it_was_made_with(backend):
    layer = fm.Linear(2, 2)
    with fm.use_backend("numpy"):
        assert layer.backend_name == backend and fm.Linear(2, 2).backend_name == "numpy"
