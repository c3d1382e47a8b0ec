"""``fastmlp info``: versions, backend, processor, threads and folders of this machine."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import platform
from pathlib import Path
from typing import Any

from .. import __version__
from .._common.errors import BackendError, DataError
from .._common.processor import processor, version_of
from .._common.threads import usable_threads
from .._common.tuning import CHOICES, tuned, tuned_value
from .._kernels import BACKENDS, cache_files, get_backend
from ..datasets.fetch import data_folder
from ..inference.kernels import inference_kernels

__all__ = ["add_parser", "kernel_cache", "tuning"]

# Features of x86 and ARM: those that `host` uses, and others that identify the machine.
_FEATURES = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512vl", "avx512dq", "avx512bw", "neon", "sve")
_PACKAGES = ("numpy", "numba", "llvmlite", "safetensors", "tqdm", "pooch", "matplotlib", "pandas", "pyarrow")


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "info",
        help="describe this machine, or a saved model",
        description="Print the versions, backends, processor features, threads and folders that fastmlp uses on this "
        "machine; or with RUN_OR_MODEL the layers, classes and columns of a saved model.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "model",
        nargs="?",
        metavar="RUN_OR_MODEL",
        help="run folder, or saved model (default: this machine)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.model is not None:
        # Only then, as a description of the machine needs no model.
        return int(importlib.import_module("fastmlp.cli.model_info").describe(args.model))
    lines = [("fastmlp", f"{__version__} in {Path(__file__).parents[1]}")]
    lines.append(("python", f"{platform.python_version()} on {platform.platform()}"))
    lines += [(package, version_of(package) or "not installed") for package in _PACKAGES]
    lines += [("backend", _backend()), ("cpu", processor()), ("features", _features()), ("vectors", _vectors())]
    lines += [
        ("threads", _threads()),
        ("tuning", tuning()),
        ("training", _training()),
        ("predictor", _predictor()),
        ("kernel cache", kernel_cache(count=True)),
    ]
    lines.append(("data folder", _data_folder()))
    for name, value in lines:
        print(f"{name:13s} {value}")
    return 0


def _backend() -> str:
    chosen = os.environ.get("FASTMLP_BACKEND")
    why = f"FASTMLP_BACKEND={chosen}" if chosen else "the default"
    try:
        return f"{get_backend().name} ({why}; available: {', '.join(_usable())})"
    except BackendError as error:
        return f"none ({why}): {error}"


def _usable() -> list[str]:
    names = []
    for name in BACKENDS:
        with contextlib.suppress(BackendError):
            names.append(get_backend(name).name)
    return names


def _features() -> str:
    """Return the instruction sets that llvmlite detects, as far as they affect the speed of kernels."""
    try:
        binding = importlib.import_module("llvmlite.binding")
        found = binding.get_host_cpu_features()
    except (ImportError, RuntimeError) as error:  # RuntimeError: LLVM cannot query this processor
        return f"unknown: {error}"
    return f"{' '.join(name for name in _FEATURES if found.get(name)) or 'none'} ({binding.get_host_cpu_name()})"


def _vectors() -> str:
    try:
        host = importlib.import_module("fastmlp._kernels.cpu.host")
    except (BackendError, ImportError) as error:
        return f"unknown: {error}"
    chosen = [name for name in ("FASTMLP_LANES", "FASTMLP_INSTRUCTIONS") if os.environ.get(name, "").strip()]
    why = " and ".join(chosen) or "from the features"
    return (
        f"{host.VECTOR_BYTES} bytes ({why}): {host.LANES[4]} float32 or {host.LANES[8]} float64; "
        f"tiles of {host.TILE_ROWS} rows x 2 vectors"
    )


def _training() -> str:
    """Describe the kernels of training."""
    try:
        host, library = (
            importlib.import_module(f"fastmlp._kernels.{name}") for name in ("cpu.host", "compiled.library")
        )
    except (BackendError, ImportError) as error:
        return f"unknown: {error}"
    reason = library.reason(host.VECTOR_BYTES)
    if library.library(host.VECTOR_BYTES) is None:
        return f"compiled by Numba: {reason}"
    return f"compiled ahead of time, {reason}"


def _predictor() -> str:
    """Describe the kernels of `fastmlp.Predictor`."""
    library = importlib.import_module("fastmlp._kernels.compiled.library")
    if library.extension_module() is None:
        sources = Path(__file__).parents[2]
        if (sources / "setup.py").is_file():
            return (
                f"not compiled: run python setup.py build_ext --inplace in {sources} (until then it uses the backend)"
            )
        return "not compiled: install a C compiler, then reinstall fastmlp (until then it uses the backend)"
    try:
        kernels = inference_kernels()
    except BackendError as error:
        return f"none: {error}"
    if kernels is None:
        return "the backend: this processor has no fused multiply-adds, or Numba's JIT is disabled or not installed"
    return f"compiled ahead of time, {kernels.instructions}" if kernels.ahead_of_time else "compiled by Numba"


def _threads() -> str:
    try:
        usable, least = usable_threads(), tuned("flops_per_thread")
    except BackendError as error:
        return f"none: {error}"
    return f"{usable}; at most one per {least / 1e6:g} Mflop of a step"


def tuning() -> str:
    """Return the choices that `fastmlp tune` measures, and others of their kind, with the source of each."""
    try:
        derived = {"batch_block": importlib.import_module("fastmlp.engine.cpu_plan").derived_batch_block()}
        values = {name: tuned_value(name, derived.get(name)) for name in CHOICES}
    except (BackendError, ImportError) as error:
        return f"none: {error}"
    return ", ".join(f"{name} {value.value} ({value.source})" for name, value in values.items())


def kernel_cache(count: bool = False) -> str:
    """Return the folder of cached kernels, with ``count`` also the number and the size of its files."""
    folder, files = cache_files()
    if folder is None:
        return "none: no folder is writable, so each process compiles its kernels; set NUMBA_CACHE_DIR to one"
    text = f"{folder}{' (NUMBA_CACHE_DIR)' if os.environ.get('NUMBA_CACHE_DIR') else ''}"
    return f"{text}: {len(files)} files, {_megabytes(files)} MB" if count else text


def _megabytes(files: list[Path]) -> str:
    size = 0
    for file in files:
        with contextlib.suppress(OSError):  # deleted after the folder was listed
            size += file.stat().st_size
    return f"{size / 1e6:.1f}"


def _data_folder() -> str:
    try:
        folder = data_folder(None)
    except DataError as error:  # an installation without the packages for training
        return f"none: {error}"
    why = "FASTMLP_DATA" if os.environ.get("FASTMLP_DATA") else "the platform's cache"
    return f"{folder} ({why}{'' if folder.exists() else '; does not exist yet'})"
