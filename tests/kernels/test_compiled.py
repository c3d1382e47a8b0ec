"""The library of compiled kernels: what it contains, what a call refuses, and the same bits as from the JIT."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("nothing is compiled", allow_module_level=True)

from fastmlp._common.errors import BackendError  # noqa: E402
from fastmlp._kernels.compiled import library as libraries  # noqa: E402
from fastmlp._kernels.compiled import python_calls  # noqa: E402
from fastmlp._kernels.cpu import host, jit, rows, shuffle, updates  # noqa: E402
from fastmlp._kernels.cpu.declare import versions  # noqa: E402
from fastmlp._kernels.cpu.host import VECTOR_BYTES  # noqa: E402
from fastmlp._kernels.jitted import shuffle as jitted_shuffle  # noqa: E402

built = pytest.mark.skipif(jit.LIBRARY is None, reason=libraries.reason(VECTOR_BYTES))
BITS = Path(__file__).parents[1] / "bits.py"


def run(*command, **environment):
    """The output of a command in a process with other environment variables."""
    done = subprocess.run(
        [sys.executable, *map(str, command)], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    return done.stdout


@built
def test_each_kernel_is_there_for_both_dtypes():
    """In a process of its own, where no other test has registered a formula."""
    code = "from fastmlp._kernels.cpu import every, jit; every.declare_all(); "
    code += "from fastmlp._kernels.cpu.declare import versions; at = jit.LIBRARY.address; "
    code += "print([n + s for n, d in jit.KERNELS.items() for s in versions(d.arguments).values() if not at(n + s)], "
    code += "[n for n in jit.FUNCTION_POINTERS for d in ('float32', 'float64') if not at(f'{n}_{d}')])"
    assert run("-c", code) == "[] []\n"


@built
@pytest.mark.skipif(shutil.which("nm") is None, reason="there is no nm")
def test_it_exports_kernels_only_and_needs_the_c_library_only():
    listed = subprocess.run(["nm", "-D", jit.LIBRARY.path], capture_output=True, text=True, check=True).stdout
    names = [line.split()[-2:] for line in listed.splitlines()]
    exported = {name for kind, name in names if kind not in "Uw"}
    assert exported and all(name.startswith("fastmlp_") for name in exported)
    needed = {name.partition("@")[0] for kind, name in names if kind == "U"}
    assert needed <= {"madvise", "memcpy", "memmove", "memset", "sched_yield", "sqrt"}


@pytest.mark.parametrize("with_extension", [True, False])
@pytest.mark.parametrize(
    "arguments, expected",
    [
        ((np.ones((2, 3)),), "takes 2 arguments, got 1"),
        ((np.ones((2, 3)), np.ones((2, 3), np.float32)), "Argument 1 .* float32 array"),
        ((np.ones((2, 3)), np.ones((3, 2)).T), r"Argument 1 .* contiguous"),
        ((np.ones((2, 3)), np.ones(6)), "Argument 1 .* of 2 dimensions"),
        ((np.ones((2, 3), np.int64), np.ones((2, 3))), "Argument 0 .* int64 array"),
        (([1.0], np.ones((2, 3))), "Argument 0 .* is a list"),
    ],
)
def test_a_call_with_other_arguments(arguments, expected, with_extension):
    with pytest.raises(TypeError, match=expected):
        kernel("softmax_forward", rows, with_extension)(*arguments)


def kernel(name, module, with_extension):
    """A kernel of the process, called by the extension module, or as without it."""
    if with_extension:
        return getattr(module, name)
    full = f"{module.__name__.rpartition('.')[2]}_{name.lstrip('_')}"
    function, arguments, result = jit.KERNELS[full]
    address = functools.partial(jit._address, function, (), full)
    return python_calls.Kernel(full, arguments, result and result.element, tuple(versions(arguments)), address)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_calls_in_python_give_what_those_of_the_extension_give(dtype, rng):
    x = rng.normal(size=(5, 7)).astype(dtype)
    ref, comp = np.empty_like(x), np.empty_like(x)
    for out, with_extension in ((ref, True), (comp, False)):
        kernel("softmax_forward", rows, with_extension)(x, out)
    assert np.array_equal(ref, comp)
    image = rng.integers(0, 256, (5, 7), np.uint8)
    mean, scale = rng.normal(size=7).astype(dtype), np.ones(7, dtype)
    for out, with_extension in ((ref, True), (comp, False)):
        bound = kernel("normalize", rows, with_extension).bind(image, mean, scale, out)
        image[0, 0] += 1  # arrays are read anew at each call
        assert bound() is None
        image[0, 0] -= 1
    assert np.array_equal(ref, comp)
    assert kernel("sum_of_squares", updates, True)(mean) == kernel("sum_of_squares", updates, False)(mean)


@pytest.mark.parametrize("seed", [0, 3, 2**63, 2**64 - 1])
def test_large_integers_of_calls_in_python(seed, monkeypatch):
    ref = shuffle.shuffle_order(seed, 3, 50)
    monkeypatch.setattr(shuffle, "_draw", kernel("_draw", shuffle, False))
    assert np.array_equal(ref, shuffle.shuffle_order(seed, 3, 50))


@built
def test_integers_above_half_of_the_range_arrive_as_they_are():
    ref = jitted_shuffle.shuffle_order(2**64 - 1, 3, 50)
    assert np.array_equal(ref, shuffle.shuffle_order(2**64 - 1, 3, 50)) and sorted(ref) == list(range(50))


@built
def test_a_damaged_library_is_not_loaded(tmp_path):
    path = tmp_path / jit.LIBRARY.path.name
    shutil.copy(jit.LIBRARY.path, path)
    shutil.copy(jit.LIBRARY.path.with_suffix(".json"), path.with_suffix(".json"))
    assert libraries.checked_description(path) == jit.LIBRARY.description
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(libraries.UnusableError, match="is damaged"):
        libraries.checked_description(path)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(libraries.UnusableError, match="cannot be read"):
        libraries.checked_description(path)


@built
def test_the_sources_have_changed(tmp_path):
    path = tmp_path / jit.LIBRARY.path.name
    shutil.copy(jit.LIBRARY.path, path)
    described = json.loads(jit.LIBRARY.path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**described, "sources": "others"}))
    with pytest.raises(libraries.UnusableError, match="other sources"):
        libraries.checked_description(path)


WITHOUT_NUMBA = """
import sys
import numpy as np
import fastmlp as fm
from fastmlp.estimators import MLPClassifier

X = np.random.default_rng(0).normal(size=(300, 7)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64)
model = fm.MLP(7, [16], 2, activation="tanh", dropout=0.1, layer_norm=True, rng=0)
trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.Adam(1e-2))
trainer.fit(X, y, validation=(X, y), batch_size=32, epochs=3, rng=0)
trainer.step(X[:8], y[:8])
model.infer(X), trainer.evaluate(X, y)
MLPClassifier((8,), max_iter=3).fit(X, y).predict_proba(X)
print(sorted({"numba", "llvmlite"} & set(sys.modules)))
"""


@built
def test_training_does_not_import_numba():
    pytest.importorskip("sklearn")
    assert run("-W", "ignore", "-c", WITHOUT_NUMBA) == "[]\n"


@built
def test_a_registered_formula_is_compiled_by_numba(tmp_path):
    code = "import sys; from fastmlp._kernels import formulas as f, get_backend; import numpy as np; "
    code += "import squareplus; f.register('activations', 'squareplus', squareplus); "
    code += "x = np.ones((2, 3)); get_backend('numba').activation_forward('squareplus', 1.0, x, x); "
    code += "print(x[0, 0] > 1, 'numba' in sys.modules)"
    # In an empty folder of object files: those of an earlier run would be loaded without Numba.
    assert run("-c", code, PYTHONPATH=str(BITS.parent), NUMBA_CACHE_DIR=str(tmp_path)) == "True True\n"


@pytest.mark.parametrize(
    "vector_bytes, best, expected",
    [
        (64, "x86-64-v4", "x86-64-v4"), (32, "x86-64-v4", "x86-64-v3"), (32, "x86-64-v3", "x86-64-v3"),
        (64, "x86-64-v3", None), (16, "x86-64-v4", None), (32, "", None), (16, "aarch64", "aarch64"),
        (32, "aarch64", None),
    ],
)  # fmt: skip
def test_the_level_by_width_and_processor(vector_bytes, best, expected):
    assert libraries.level_for(vector_bytes, best) == expected


@pytest.mark.parametrize("asked, lanes", [("", "8"), ("x86-64-v3", ""), ("x86-64-v3", "8"), ("aarch64", "4")])
def test_the_level_by_choice(asked, lanes, monkeypatch):
    monkeypatch.setenv("FASTMLP_INSTRUCTIONS", asked), monkeypatch.setenv("FASTMLP_LANES", lanes)
    monkeypatch.setattr(libraries, "host_level", lambda: "aarch64" if asked == "aarch64" else "x86-64-v4")
    assert host._vector_bytes() == (16 if asked == "aarch64" else 32)


@pytest.mark.parametrize(
    "asked, lanes, best, expected",
    [
        ("avx2", "", "x86-64-v4", "FASTMLP_INSTRUCTIONS is 'avx2'; expected x86-64-v3, x86-64-v4."),
        ("x86-64-v4", "", "x86-64-v3", "'x86-64-v4'; expected x86-64-v3."),
        ("x86-64-v3", "", "", "expected none, as this processor has no such level."),
        ("x86-64-v3", "", "aarch64", "expected aarch64."),
        ("x86-64-v3", "16", "x86-64-v4", "FASTMLP_LANES is '16' and FASTMLP_INSTRUCTIONS 'x86-64-v3', whose vectors"),
    ],
)
def test_a_level_that_cannot_be_chosen(asked, lanes, best, expected, monkeypatch):
    monkeypatch.setenv("FASTMLP_INSTRUCTIONS", asked), monkeypatch.setenv("FASTMLP_LANES", lanes)
    monkeypatch.setattr(libraries, "host_level", lambda: best)
    with pytest.raises(BackendError, match=re.escape(expected)):
        host._vector_bytes()


def test_the_jit_by_choice():
    code = "from fastmlp._kernels.cpu import jit, host; from fastmlp._kernels.compiled import library as l; "
    code += "print(jit.LIBRARY, l.reason(host.VECTOR_BYTES))"
    assert run("-c", code, FASTMLP_JIT="1") == "None FASTMLP_JIT is set\n"


@built
@pytest.mark.slow
def test_the_bits_are_those_of_the_jit(tmp_path):
    ref = tmp_path / "jit.json"
    ref.write_text(run(BITS, FASTMLP_JIT="1"))
    assert "are equal" in run(BITS, "--against", ref)
