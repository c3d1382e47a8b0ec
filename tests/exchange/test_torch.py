"""PyTorch: layers and weights in both directions, and files of weights."""

from __future__ import annotations

import contextlib
import importlib.util

import numpy as np
import pytest
from activations import EXAMPLES
from checks import assert_matches
from exchange.zoo import activated, everything

import fastmlp as fm

torch = pytest.importorskip("torch")
nn = torch.nn


def outputs(net, x):
    with torch.no_grad():
        return net(torch.from_numpy(x)).numpy()


def assert_same_bits(ref, comp):
    assert list(ref) == list(comp)
    for name in ref:
        assert ref[name].dtype == comp[name].dtype and ref[name].tobytes() == comp[name].tobytes(), name


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_activation_there_and_back(name, dtype, rng):
    model, x, ref, bound = activated(name, dtype, rng)
    net = fm.to_torch(model.eval())
    assert not net.training
    assert_matches(ref, outputs(net, x), bound, "to_torch")
    back = fm.from_torch(net)
    assert_same_bits(model.state_dict(), back.state_dict())
    assert_matches(ref, fm.Predictor(back)(x), bound, "from_torch")
    assert [repr(m) for m in back] == [repr(m) for m in model]


def test_every_other_module(dtype, rng):
    model, x, ref, bound = everything(dtype, rng)
    net = fm.to_torch(model)
    assert_same_bits(model.state_dict(), {name: tensor.numpy() for name, tensor in net.state_dict().items()})
    assert_matches(ref, outputs(net, x), bound)
    back = fm.from_torch(net)
    assert_same_bits(model.state_dict(), back.state_dict())
    assert_matches(ref, fm.Predictor(back)(x), bound)
    assert fm.from_torch(net.train()).training


def test_raw_pixels_in_both(rng):
    model = fm.Sequential(fm.Normalize(np.full(4, 100.0), np.full(4, 50.0)), fm.Linear(4, 2, rng=0))
    x = rng.integers(0, 255, (5, 4)).astype(np.uint8)
    assert_matches(model.infer(x), outputs(fm.to_torch(model), x), 1e-5)


def test_layers_of_pytorch(rng):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(6, 8, bias=False), nn.LayerNorm(8, bias=False), nn.SiLU(),
        nn.Sequential(nn.Linear(8, 8), nn.LeakyReLU(0.3)), nn.LayerNorm(8, elementwise_affine=False), nn.Linear(8, 3),
        nn.Softmax(dim=1),
    )  # fmt: skip
    x = rng.normal(size=(5, 6)).astype(np.float32)
    model = fm.from_torch(net.eval())
    # Both are within such a bound of the exact result; logits are of order 1 after sums of 8 terms.
    assert_matches(outputs(net, x), model.infer(x), 64 * np.finfo(np.float32).eps)
    single = fm.from_torch(nn.Linear(3, 2))
    assert len(single) == 1 and single.in_width == 3
    assert fm.to_torch(fm.Linear(3, 2, rng=0))[0].in_features == 3


def repeated():
    """Nets in which a module stands in two places, by name; the names of a parameter that two share."""
    act, linear, inner = nn.Tanh(), nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    a, b = nn.Linear(6, 6), nn.Linear(6, 6)
    b.weight = a.weight
    named = nn.Sequential()
    for name, layer in (("in", nn.Linear(6, 6)), ("act", act), ("mid", nn.Linear(6, 6)), ("act2", act)):
        named.add_module(name, layer)
    return {
        "activation": (nn.Sequential(nn.Linear(6, 6), act, nn.Linear(6, 6), act, nn.Linear(6, 3)), None),
        "named": (named, None),
        "nested": (nn.Sequential(nn.Sequential(nn.Linear(6, 6), act), nn.Sequential(act, nn.Linear(6, 3), act)), None),
        "next to itself": (nn.Sequential(linear, linear), "0.weight and 1.weight"),
        "linear": (nn.Sequential(nn.Linear(6, 6), nn.ReLU(), linear, act, linear), "2.weight and 4.weight"),
        "sequential": (nn.Sequential(inner, act, inner, nn.Sequential(inner)), "0.0.weight and 2.0.weight"),
        "tied weights": (nn.Sequential(a, nn.ReLU(), b), "0.weight and 2.weight"),
        "norm": (nn.Sequential(norm := nn.LayerNorm(6), nn.ReLU(), norm), "0.weight and 2.weight"),
    }


@pytest.mark.parametrize("name", repeated())
def test_a_module_that_stands_in_two_places(name, rng):
    torch.manual_seed(0)
    net, shared = repeated()[name]
    x = rng.normal(size=(5, 6)).astype(np.float32)
    with pytest.warns(UserWarning, match=shared) if shared else contextlib.nullcontext():
        model = fm.from_torch(net.eval())
    ref = [layer for _, layer in net.named_modules(remove_duplicate=False) if not isinstance(layer, nn.Sequential)]
    comp = [type(layer).__name__ for layer in model.modules() if not isinstance(layer, fm.Sequential)]
    assert comp == [type(layer).__name__ for layer in ref]
    assert len({id(layer) for layer in model.modules()}) == len(list(model.modules()))
    # Values and weights are of order 1; each sum has 6 terms.
    assert_matches(outputs(net, x), fm.Predictor(model)(x), 64 * np.finfo(np.float32).eps)
    assert_matches(outputs(net, x), model.infer(x), 64 * np.finfo(np.float32).eps)


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class Block(nn.Sequential):
    def __init__(self, width):
        super().__init__(nn.Linear(width, width), nn.ReLU())


def test_subclasses_of_sequential(rng):
    net, x = nn.Sequential(Block(4), nn.Linear(4, 2)), rng.normal(size=(5, 4)).astype(np.float32)
    assert_matches(outputs(net, x), fm.from_torch(net).infer(x), 64 * np.finfo(np.float32).eps)
    for net, place in ((Residual(nn.Linear(4, 4)), "given"), (nn.Sequential(Residual(nn.Linear(4, 4))), "0")):
        with pytest.raises(ValueError, match=f"layer {place} is a Residual with its own forward"):
            fm.from_torch(net)


@pytest.mark.parametrize(
    "net, message",
    [
        (nn.Sequential(nn.ModuleList([nn.Linear(4, 4)])), "layer 0 is a ModuleList; expected one of Dropout"),
        (nn.ModuleList([nn.Linear(4, 4)]), "layer 0 is a ModuleList"),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))), "layer 0 is a ParametrizedLinear"),
        (nn.Sequential(nn.Linear(4, 4), nn.Conv1d(1, 1, 1)), "layer 1 is a Conv1d; expected one of Dropout"),
        (nn.Sequential(nn.Sequential(nn.BatchNorm1d(3))), "layer 0.0 is a BatchNorm1d"),
        (nn.Sequential(nn.Softplus(beta=2)), "expected Softplus with beta 1"),
        (nn.Sequential(nn.Softmax(dim=0)), "expected Softmax over dimension 1"),
        (nn.Sequential(nn.LayerNorm((2, 3))), "over the last dimension alone"),
        (nn.Sequential(nn.Flatten(0)), "Flatten from dimension 1"),
        (nn.Sequential(nn.Linear(2, 2).half()), "of dtype float16; expected float32 or float64"),
        (nn.Sequential(nn.Linear(2, 3), nn.Linear(4, 2)), "gives 3 columns"),
        (nn.Sequential(), "is empty"),
        ("net", "expected a torch.nn.Module, got str"),
    ],
)
def test_what_cannot_come(net, message):
    with pytest.raises(ValueError, match=message):
        fm.from_torch(net)


def test_what_cannot_go():
    class Mine(fm.Module):
        pass

    with pytest.raises(ValueError, match="PyTorch has no Mine"):
        fm.to_torch(fm.Sequential(fm.Linear(2, 2, rng=0), Mine()))
    with pytest.raises(ValueError, match="expected a fastmlp module, got dict"):
        fm.to_torch({})


class Twice(fm.Sequential):
    """Computes something else than the modules inside it."""

    def _compute(self, x, keep):
        return super()._compute(x, keep) * 2


def test_a_subclass_with_steps_of_its_own_is_no_chain(tmp_path, rng):
    with fm.use_backend("numpy"):
        inner = Twice(fm.Linear(3, 2, rng=0))
        x = rng.normal(size=(4, 3)).astype(np.float32)
        for model in (inner, fm.Sequential(inner, fm.ReLU())):
            np.testing.assert_array_equal(fm.Predictor(model)(x), model.infer(x))
            exports = [lambda net: fm.export_c(net, tmp_path / "m.c"), fm.to_torch]
            if importlib.util.find_spec("onnx"):
                exports.append(lambda net: fm.export_onnx(net, tmp_path / "m.onnx"))
            for export in exports:
                with pytest.raises(ValueError, match="Twice"):
                    export(model)
    assert not list(tmp_path.iterdir())


def test_states_from_files(tmp_path, rng):
    model, net = fm.MLP(4, [5], 2, rng=0), nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    fm.export_npz(fm.from_torch(net), tmp_path / "net.npz")
    fm.save(fm.from_torch(net), tmp_path / "net.safetensors")
    ref = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    for state in (tmp_path / "net.pt", str(tmp_path / "net.npz"), tmp_path / "net.safetensors", net.state_dict()):
        model.load_state_dict({name: array * 0 for name, array in model.state_dict().items()})
        model.load_state_dict(state)
        assert_same_bits(ref, model.state_dict())
    model.load_state_dict(dict(net.named_parameters()))  # which want gradients
    model.load_state_dict({name: tensor.bfloat16() for name, tensor in net.state_dict().items()})
    assert_matches(ref["0.weight"], model.state_dict()["0.weight"], 2.0**-8)


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_bad_files_of_weights(tmp_path, capsys):
    model = fm.MLP(4, [5], 2, rng=0)
    before = model.state_dict()
    torch.save(Evil(), tmp_path / "evil.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"0.weight": torch.zeros(5, 4)}, tmp_path / "part.pt")
    for name in ("rubbish.pt", "rubbish.npz", "rubbish.safetensors"):
        (tmp_path / name).write_bytes(b"\x80\x02rubbish" * 20)
    (tmp_path / "empty.pt").write_bytes(b"")
    fm.export_npz(model, tmp_path / "offset.npz")
    damaged = bytearray((tmp_path / "offset.npz").read_bytes())
    damaged[-6:-2] = b"\xff\xff\xff\x7f"  # where the zip's directory begins
    (tmp_path / "offset.npz").write_bytes(damaged)
    np.savez(tmp_path / "objects.npz", a=np.array([Evil()], dtype=object))
    for name in (
        "evil.pt",
        "list.pt",
        "rubbish.pt",
        "rubbish.npz",
        "rubbish.safetensors",
        "empty.pt",
        "objects.npz",
        "offset.npz",
    ):
        with pytest.raises(fm.ModelFileError, match=f"{name} holds no weights that can be read"):
            model.load_state_dict(tmp_path / name)
    with pytest.raises(ValueError, match="missing '0.bias', '2.weight', '2.bias'"):
        model.load_state_dict(tmp_path / "part.pt")
    with pytest.raises(FileNotFoundError):
        model.load_state_dict(tmp_path / "none.pt")
    assert_same_bits(before, model.state_dict())
    assert "run" not in capsys.readouterr().out
