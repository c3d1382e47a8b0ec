"""With vectors of other widths than the host's, the engine and the modules compute what NumPy does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fastmlp._kernels.cpu.host import LANES

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
