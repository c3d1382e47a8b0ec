"""Start time of a process up to its first prediction, and installed sizes."""

from __future__ import annotations

import importlib.metadata
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from .._common.installed import is_installed
from .._kernels import use_backend
from ..modules import MLP
from ..modules.saving import save
from .contender import OURS

__all__ = ["installed_sizes", "start_times"]

_CODE = {
    "numpy": "import numpy",
    OURS: "import numpy as np, fastmlp; "
    "fastmlp.Predictor('model.safetensors')(np.zeros((1, 64), np.float32))",
    "onnxruntime": "import numpy as np, onnxruntime; "
    "onnxruntime.InferenceSession('model.onnx').run(None, {'x': np.zeros((1, 64), np.float32)})",
    "torch": "import torch; torch.jit.load('model.pt')(torch.zeros(1, 64))",
}  # fmt: skip


def start_times(rounds: int) -> dict[str, float]:
    """Measure the time from the start of a process to its first prediction by a saved 64-64-64-4 network.

    Parameters
    ----------
    rounds : int
        Processes of each library, run in alternation after one for warm-up.

    Returns
    -------
    dict of str to float
        Median milliseconds of each installed library, less those of ``import numpy``, which are under ``"numpy"``.
    """
    with TemporaryDirectory() as folder:
        names = _prepare(Path(folder))
        times: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(rounds + 1):
            for name in names:
                start = time.perf_counter()
                command = [sys.executable, "-W", "ignore", "-c", _CODE[name]]
                subprocess.run(command, cwd=folder, check=True, capture_output=True)
                times[name].append(1e3 * (time.perf_counter() - start))
    medians = {
        name: statistics.median(taken[1:]) for name, taken in times.items()
    }  # the first process reads the files from the disk
    return {name: ms - (medians["numpy"] if name != "numpy" else 0) for name, ms in medians.items()}


def _prepare(folder: Path) -> list[str]:
    """Save the model in the format of each installed library; return the names of these libraries."""
    with use_backend("numpy"):
        model = MLP(64, [64, 64], 4, rng=0).eval()
    save(model, folder / "model.safetensors")
    names = ["numpy", OURS]
    if is_installed("onnxruntime") and is_installed("onnx"):
        from ..exchange.onnx import export_onnx

        export_onnx(model, folder / "model.onnx")
        names.append("onnxruntime")
    if is_installed("torch"):
        import warnings

        import torch

        from ..exchange.pytorch import to_torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is deprecated
            torch.jit.save(torch.jit.trace(to_torch(model), torch.zeros(1, 64)), folder / "model.pt")
        names.append("torch")
    return names


def installed_sizes() -> dict[str, int]:
    """Return the installed bytes of fastmlp, with and without Numba, and of other libraries, each without NumPy."""
    package = Path(__file__).parents[1]
    kinds = (".py", ".so", ".pyd", ".typed", ".npz", ".gz")
    ours = sum(p.stat().st_size for p in package.rglob("*") if p.is_file() and p.name.endswith(kinds))
    to_predict = ours + _size("safetensors")
    sizes = {f"{OURS} to predict": to_predict, f"{OURS} to train": to_predict}
    sizes[f"{OURS} to train"] += sum(map(_size, ("numba", "llvmlite", "pooch", "tqdm", "platformdirs", "requests")))
    for name in ("onnxruntime", "torch"):
        if size := _size(name):
            sizes[name] = size
    return sizes


def _size(name: str) -> int:
    """Return the bytes of the files of a distribution; 0 if it is not installed."""
    try:
        files = importlib.metadata.distribution(name).files or []
    except importlib.metadata.PackageNotFoundError:
        return 0
    paths = [Path(str(file.locate())) for file in files if "__pycache__" not in file.parts]
    return sum(path.stat().st_size for path in paths if path.is_file())
