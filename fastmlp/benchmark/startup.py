"""What a first prediction and an installation cost: processes from their start, and bytes on the disk."""

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
    """Milliseconds from the start of a process to its first prediction of a saved 64-64-64-4: medians, in turns.

    ``numpy`` is the time of ``import numpy`` alone, which the others' are without; what is not installed is left out.
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
    medians = {name: statistics.median(taken[1:]) for name, taken in times.items()}  # the first reads from the disk
    return {name: ms - (medians["numpy"] if name != "numpy" else 0) for name, ms in medians.items()}


def _prepare(folder: Path) -> list[str]:
    """Save the model in each form; the names of those that can be started."""
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
            warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript itself
            torch.jit.save(torch.jit.trace(to_torch(model), torch.zeros(1, 64)), folder / "model.pt")
        names.append("torch")
    return names


def installed_sizes() -> dict[str, int]:
    """Bytes of what has to be installed beside NumPy: this package with and without numba, and others."""
    package = Path(__file__).parents[1]
    kinds = (".py", ".so", ".pyd", ".typed", ".npz", ".gz")
    ours = sum(p.stat().st_size for p in package.rglob("*") if p.is_file() and p.name.endswith(kinds))
    least = ours + _size("safetensors")
    sizes = {f"{OURS} to predict": least, f"{OURS} to train": least}
    sizes[f"{OURS} to train"] += sum(map(_size, ("numba", "llvmlite", "pooch", "tqdm", "platformdirs", "requests")))
    for name in ("onnxruntime", "torch"):
        if size := _size(name):
            sizes[name] = size
    return sizes


def _size(name: str) -> int:
    """Of an installed distribution's own files; 0 if there is none."""
    try:
        files = importlib.metadata.distribution(name).files or []
    except importlib.metadata.PackageNotFoundError:
        return 0
    paths = [Path(str(file.locate())) for file in files if "__pycache__" not in file.parts]
    return sum(path.stat().st_size for path in paths if path.is_file())
