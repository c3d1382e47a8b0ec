"""Saved models: complete round trips, and no damage to older files by failures."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from activations import EXAMPLES
from safetensors.numpy import load_file, save_file

import fastmlp as fm
from fastmlp.io.files import LineFile, atomic_write
from fastmlp.modules.saving import model_info

X = np.random.default_rng(0).standard_normal((9, 6)).astype(np.float32)

MODELS = {
    "linear": lambda dtype: fm.Linear(6, 3, bias=False, dtype=dtype, rng=0),
    "logistic": lambda dtype: fm.MLP(6, [], 3, dtype=dtype, rng=0),
    "mlp": lambda dtype: fm.MLP(
        6,
        [5, 4],
        3,
        fm.ELU(1.5),
        dropout=0.2,
        layer_norm=True,
        normalize=fm.Normalize.fit(X, dtype=dtype),
        dtype=dtype,
        rng=0,
    ),  # fmt: skip
    "nested": lambda dtype: fm.Sequential(
        fm.Sequential(fm.Linear(6, 4, dtype=dtype, rng=0), fm.GELU("tanh")),
        fm.LayerNorm(4, eps=1e-3, affine=False, dtype=dtype),
        *(make() for make in EXAMPLES.values()),
        fm.Linear(4, 2, dtype=dtype, rng=1),
        fm.Softmax(),
    ),  # fmt: skip
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_models_come_back(make, dtype, tmp_path):
    model = make(dtype)
    model.classes, model.task = ["a", "b", "c"], "classification"
    path = tmp_path / "m.safetensors"
    fm.save(model, path)
    loaded = fm.load_model(path)
    assert np.array_equal(loaded.infer(X), model.infer(X))
    assert np.array_equal(loaded.forward(X), loaded.infer(X))  # Dropout is inactive in a loaded model
    assert type(loaded) is type(model) and loaded.config() == model.config()
    assert loaded.dtype == dtype and loaded.classes == ["a", "b", "c"] and loaded.task == "classification"
    assert sorted(load_file(path)) == sorted(model.state_dict())
    assert loaded.train() is loaded and loaded.training


def test_the_file_describes_itself(tmp_path):
    model = fm.MLP(6, [5], 3, rng=0)
    model.classes = np.arange(3)  # NumPy's numbers are saved as Python's
    recipe = {"columns": [{"name": "a", "median": 1.5}]}
    fm.save(model, tmp_path / "one", preprocessing=recipe)
    info = model_info(str(tmp_path / "one"))
    assert info["classes"] == [0, 1, 2] and info["preprocessing"] == recipe and info["format_version"] == 1
    assert info["dtype"] == "float32" and info["model"]["type"] == "MLP"
    assert info["fastmlp_version"] == fm.__version__
    fm.save(model, tmp_path / "two", preprocessing=recipe)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with pytest.raises(ValueError, match="classes cannot be saved"):
        model.classes = [object()]
        fm.save(model, tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with pytest.raises(ValueError, match="expected a module, got dict"):
        fm.save(model.state_dict(), tmp_path / "one")


def test_a_loaded_model_takes_the_current_backend(tmp_path):
    fm.save(fm.MLP(6, [5], 3, rng=0), tmp_path / "m")
    with fm.use_backend("numpy"):
        assert fm.load_model(tmp_path / "m").backend_name == "numpy"


# ---------------------------------------------------------------------------------- damaged files


def saved(tmp_path, **changes):
    """A file whose metadata or tensors are changed."""
    path = tmp_path / "m.safetensors"
    model = fm.MLP(6, [5], 3, rng=0)
    fm.save(model, path)
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    tensors = load_file(path)
    tensors = changes.pop("tensors", lambda tensors: tensors)(tensors)
    metadata = {**header["__metadata__"], "sha256": None, **changes}  # None removes the entry
    save_file(tensors, path, {key: value for key, value in metadata.items() if value is not None})
    return path


def linear(**arguments):
    return json.dumps({"type": "Linear", **arguments})


DAMAGE = {
    "another format": ({"format": "pt"}, "was not saved by fastmlp: its format is 'pt'"),
    "no format": ({"format": None}, "was not saved by fastmlp: its format is None"),
    "newer": ({"format_version": "2"}, "format version '2', this fastmlp reads up to 1"),
    "no version": ({"format_version": None}, "format version ''"),
    "odd version": ({"format_version": "one"}, "format version 'one'"),
    "no model": ({"model": None}, "not complete"),
    "no JSON": ({"model": "{"}, "not complete"),
    "deep JSON": ({"model": "[" * 100_000}, "not complete"),
    "a list": ({"model": "[]"}, r"its model is \[\]"),
    "odd classes": ({"classes": '"ab"'}, "its classes is 'ab'"),
    "unknown type": ({"model": '{"type": "Popen"}'}, "'Popen'"),
    "missing argument": ({"model": linear(in_features=6)}, "cannot be loaded"),
    "odd argument": ({"model": linear(in_features=6, out_features="x")}, "cannot be loaded"),
    "other names": ({"model": linear(in_features=6, out_features=3)}, "does not fit Linear"),
    "huge": ({"model": linear(in_features=10**15, out_features=10**15)}, "cannot be loaded"),
    "fewer tensors": ({"tensors": lambda t: dict(list(t.items())[1:])}, "does not fit MLP: missing '0.bias'"),
    "more tensors": ({"tensors": lambda t: {**t, "x": X}}, "unexpected 'x'"),
    "other shapes": (
        {"tensors": lambda t: {**t, "0.bias": np.zeros(4)}},
        r"0.bias has shape \(4,\); expected \(5,\)",
    ),
}


@pytest.mark.parametrize("changes, message", DAMAGE.values(), ids=DAMAGE)
def test_damaged_and_foreign_files(changes, message, tmp_path):
    path = saved(tmp_path, **changes)
    with pytest.raises(fm.ModelFileError, match=message) as error:
        fm.load_model(path)
    assert str(path) in str(error.value) and len(str(error.value)) < 400


def test_truncated_files(tmp_path):
    path = saved(tmp_path)
    data = path.read_bytes()
    for size in {0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1}:
        path.write_bytes(data[:size])
        with pytest.raises(fm.ModelFileError, match="damaged or not a safetensors file"):
            fm.load_model(path)
    for size in (2**63, 2**64 - 1, len(data)):  # invalid header sizes
        path.write_bytes(size.to_bytes(8, "little") + data[8:])
        with pytest.raises(fm.ModelFileError, match="damaged or not a safetensors file"):
            fm.load_model(path)
    for bit in range(0, 8 * 200, 7):  # in the header a flipped bit is an error or harmless, never another exception
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with contextlib.suppress(fm.ModelFileError):
            fm.load_model(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(fm.ModelFileError, match="damaged or not a safetensors file"):
        fm.load_model(path)
    path.write_bytes(b"\x80\x04pickle" * 100)
    with pytest.raises(fm.ModelFileError, match="damaged or not a safetensors file"):
        model_info(path)


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        fm.load_model(tmp_path / "nowhere")
    with pytest.raises(fm.ModelFileError, match=r"has no model\.safetensors; expected a run folder or a saved model"):
        fm.load_model(tmp_path)


# ---------------------------------------------------------------------------------- failing writes


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    model = fm.Linear(6, 3)
    with pytest.raises(OSError) as error:
        fm.save(model, tmp_path / "file" / "m.safetensors")
    assert "m.safetensors" in str(error.value)
    with pytest.raises(FileNotFoundError):
        fm.save(model, tmp_path / "missing" / "m.safetensors")
    with pytest.raises(OSError):
        fm.save(model, tmp_path)
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    resource = pytest.importorskip("resource")  # POSIX
    path = tmp_path / "m.safetensors"
    fm.save(fm.Linear(6, 3, rng=0), path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError) as error:
            fm.save(fm.Linear(600, 300, rng=0), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.filename == str(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["m.safetensors"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_device_is_written_to_and_not_replaced():
    with pytest.raises(OSError, match="No space left"):
        fm.save(fm.Linear(6, 3), "/dev/full")
    assert not os.path.isfile("/dev/full")


def test_an_exception_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as stream:
        stream.write(b"new")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["f"]


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with atomic_write(tmp_path / "link") as stream:
        stream.write(b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"


def test_lines_are_whole_or_absent(tmp_path):
    resource = pytest.importorskip("resource")
    lines = LineFile(tmp_path / "l")
    lines.write("a" * 2000)
    lines.write("b" * 2000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(OSError):
            lines.write("c" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    lines.write("d")
    lines.close()
    assert (tmp_path / "l").read_text() == "a" * 2000 + "\n" + "b" * 2000 + "\nd\n"


SAVE_FOREVER = """
import sys, fastmlp as fm
path = sys.argv[1]
models = [fm.Linear(300, 300, rng=seed) for seed in range(2)]
fm.save(models[0], path)
print("ready", flush=True)
while True:
    for model in models:
        fm.save(model, path)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_process_leaves_a_whole_file(tmp_path):
    path = tmp_path / "m.safetensors"
    environment = {**os.environ, "PYTHONPATH": str(Path(fm.__file__).parents[1]), "FASTMLP_BACKEND": "numpy"}
    for delay in (0.01, 0.03):
        with subprocess.Popen(
            [sys.executable, "-c", SAVE_FOREVER, str(path)], env=environment, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        assert fm.load_model(path).num_parameters == 300 * 301
