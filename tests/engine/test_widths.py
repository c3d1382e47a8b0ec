"""Vector widths other than the host's: the engine and the modules agree with NumPy."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fastmlp._kernels.cpu.host import LANES, l1_bytes

CHILD = """
import numpy as np
import fastmlp as fm
import fastmlp.engine.session as session
from fastmlp._kernels.cpu import host

rng = np.random.default_rng(0)
X, y = rng.standard_normal((150, 19)), rng.integers(0, 5, 150)
found = []
for way in ("engine", "modules", "numpy"):
    if way == "modules":
        session.open_session = lambda *arguments: None
    with fm.use_backend("numpy" if way == "numpy" else "numba"):
        model = fm.MLP(19, [33, 8], 5, activation="elu", layer_norm=True, dropout=0.2, dtype=np.float64, rng=1)
        trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.Adam(lr=1e-2))
    trainer.fit(X, y, batch_size=40, epochs=3, rng=2, threads=2)
    assert (trainer._session is not None) == (way == "engine")
    found.append(model.state_dict())
for comp in found[:2]:
    worst = max(float(np.abs(comp[name] - found[2][name]).max()) for name in comp)
    assert worst < 1e-10, worst
print(host.LANES[4])
"""


@pytest.mark.slow
@pytest.mark.parametrize("lanes", ["4", "16"])
def test_forced_widths(lanes, tmp_path):
    if lanes == "16" and not _has_avx512():
        pytest.skip("this processor has no vectors of 16 lanes")
    if lanes == str(LANES[4]):
        pytest.skip("the width that all other tests have here")
    environment = {**os.environ, "FASTMLP_LANES": lanes, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [lanes]


def _has_avx512() -> bool:
    from llvmlite import binding

    return bool(binding.get_host_cpu_features().get("avx512f"))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"index0": ("1", "Data", "48K")}, 48),
        (
            {
                "index0": ("1", "Instruction", "48K"),
                "index1": ("1", "Data", "32K"),
                "index2": ("2", "Unified", "2048K"),
            },
            32,
        ),
        ({"index0": ("1", "Unified", "40K")}, 40),
        ({"index0": ("1", "Data", "128K")}, 48),
        ({"index0": ("1", "Data", "16K")}, 32),
        ({"index0": ("1", "Data", "much")}, 32),
        ({"index0": ("1", "Data", "")}, 32),
        ({"index0": ("1", "Data"), "index1": ("2", "Data", "40K")}, 32),
        ({}, 32),
    ],
)
def test_the_nearest_cache(told, expected, tmp_path):
    for name, values in told.items():
        (tmp_path / name).mkdir()
        for file, value in zip(("level", "type", "size"), values, strict=False):
            (tmp_path / name / file).write_text(f"{value}\n")
    assert l1_bytes(str(tmp_path)) == expected << 10
    assert l1_bytes(str(tmp_path / "missing")) == 32 << 10
