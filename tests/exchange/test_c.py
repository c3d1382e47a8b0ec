"""C: what export_c writes compiles without a warning, runs under sanitizers and computes what the model computes."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess

import numpy as np
import pytest
from activations import EXAMPLES
from checks import assert_matches
from exchange.zoo import activated, everything

import fastmlp as fm

CC = shutil.which("gcc") or shutil.which("cc")
needs_compiler = pytest.mark.skipif(CC is None, reason="no C compiler")
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-std=c99"]


def outputs(model, x, folder, name="predict"):
    """Of the compiled C, row by row."""
    source, library = folder / f"{name}.c", folder / f"{name}.so"
    fm.export_c(model, source, name)
    subprocess.run([CC, *STRICT, "-O2", "-shared", "-fPIC", source, "-o", library, "-lm"], check=True)
    function = getattr(ctypes.CDLL(str(library)), name)
    y = np.empty((len(x), model.out_width), x.dtype)
    for row in range(len(x)):
        function(x[row].ctypes, y[row].ctypes)
    return y


@pytest.mark.sampled
@needs_compiler
@pytest.mark.parametrize("name", EXAMPLES)
def test_each_activation(name, dtype, tmp_path, rng):
    model, x, ref, bound = activated(name, dtype, rng)
    assert_matches(ref, outputs(model, x, tmp_path), bound)


@needs_compiler
def test_every_other_module(dtype, tmp_path, rng):
    model, x, ref, bound = everything(dtype, rng)
    assert_matches(ref, outputs(model, x, tmp_path, "my_net2"), bound)


@needs_compiler
def test_under_the_sanitizers(tmp_path, rng):
    model, x, ref, bound = everything(np.dtype(np.float32), rng)
    fm.export_c(model, tmp_path / "net.c", "net")
    numbers = ", ".join(f"{value.hex()}f" for value in x.ravel().tolist())
    (tmp_path / "main.c").write_text(
        "#include <stdio.h>\nvoid net(const float *x, float *y);\n"
        f"static const float x[] = {{{numbers}}};\n"
        f"int main(void) {{ float y[{model.out_width}];"
        f" for (int r = 0; r < {len(x)}; r++) {{ net(x + r * {x.shape[1]}, y);"
        f' for (int i = 0; i < {model.out_width}; i++) printf("%.9g\\n", (double)y[i]); }} return 0; }}\n'
    )
    flags = [*STRICT, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run([CC, *flags, tmp_path / "main.c", tmp_path / "net.c", "-o", tmp_path / "a", "-lm"], check=True)
    result = subprocess.run([tmp_path / "a"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert_matches(ref, np.array(result.stdout.split(), np.float64).reshape(ref.shape), bound)


def test_it_needs_nothing(tmp_path):
    model = fm.MLP(3, [4], 2, activation="relu", rng=0)
    fm.export_c(model, tmp_path / "m.c")
    text = (tmp_path / "m.c").read_text()
    assert re.findall(r"#include (.*)", text) == ["<math.h>"]
    assert not re.search(r"malloc|exp|tanh|sqrt", text)
    assert float.fromhex(re.search(r"(-?0x[\w.+-]+)f", text)[1]) == float(model[0].params["weight"][0, 0])


@needs_compiler
def test_infinite_weights_and_no_layers(tmp_path):
    model = fm.Sequential(fm.Linear(2, 2, rng=0))
    model[0].params["weight"] = [[np.inf, 0], [0, 1]]
    x = np.array([[1, 2]], np.float32)
    np.testing.assert_array_equal(outputs(model, x, tmp_path)[0, 0], np.inf)
    scaling = fm.Sequential(fm.Normalize([1, 1], [2, 2]), fm.Dropout(0.5, rng=0))
    np.testing.assert_array_equal(outputs(scaling, x, tmp_path, "scale"), [[0, 0.5]])


def test_what_cannot_be_written(tmp_path):
    class Mine(fm.Module):
        pass

    model = fm.MLP(3, [4], 2, rng=0)
    for arguments, message in [
        ((model, tmp_path / "m.c", "2fast"), "name is '2fast'; expected a C name"),
        ((model, tmp_path / "m.c", "a b"), "name is"),
        ((model, tmp_path / "m.c", "double"), "that is not taken"),
        ((model, tmp_path / "m.c", "linear"), "that is not taken"),
        ((model, tmp_path / "m.c", "expf"), "that is not taken"),
        ((fm.Sequential(fm.ReLU()), tmp_path / "m.c"), "takes any width"),
        ((fm.Sequential(fm.Linear(2, 2, rng=0), Mine()), tmp_path / "m.c"), "there is no C for Mine"),
        (("model", tmp_path / "m.c"), "expected a fastmlp module, got str"),
    ]:
        with pytest.raises(ValueError, match=message):
            fm.export_c(*arguments)
    assert not (tmp_path / "m.c").exists()
