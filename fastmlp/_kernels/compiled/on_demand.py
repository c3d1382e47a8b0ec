"""Kernels that Numba compiles when they are first called, where no compiled library has them.

The object code is the same as in a library, and is kept on disk for other processes (`object_files`). LLVM loads it
into the process, so Numba is imported only if something has to be compiled.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ..._common.errors import BackendError, PerformanceWarning, warn_user
from ..cpu.host import VECTOR_BYTES
from ..fingerprint import fingerprint
from .library import FOLDER, library, reason
from .object_files import cache_folder, load_object, save_object

__all__ = ["code_of_host", "function_address", "sources", "watch_compilation"]

_lock = threading.RLock()  # concurrent first requests must compile only one version
_addresses: dict[tuple[str, str], int] = {}
_watching: list[Callable[[str], None]] = []


@contextlib.contextmanager
def watch_compilation(started: Callable[[str], None]) -> Iterator[None]:
    """Call ``started`` with the name of each function that is compiled inside the block, before its compilation."""
    _watching.append(started)
    try:
        yield
    finally:
        _watching.remove(started)


def function_address(symbol: str, names: str, compile_function: Callable[[Any], bytes]) -> int:
    """Return the address of a function, which is compiled unless this process or an earlier one did it.

    Parameters
    ----------
    symbol : str
        Name of the function.
    names : str
        What distinguishes the function from others of that name and of the same sources, see `jit.captured_names`.
    compile_function : function
        Function that returns the object code for LLVM's target machine.

    Raises
    ------
    BackendError
        If Numba is needed and cannot be imported.
    """
    found = _addresses.get((symbol, names))
    if found is not None:
        return found
    with _lock:
        if (symbol, names) not in _addresses:
            _addresses[symbol, names] = _loaded(symbol, _object_code(symbol, names, compile_function))
        return _addresses[symbol, names]


def _object_code(symbol: str, names: str, compile_function: Callable[[Any], bytes]) -> bytes:
    key = f"{names} {code_of_host()}"
    code = load_object(symbol, sources(), key)
    if code is None:
        _announce()
        for started in tuple(_watching):
            started(symbol)
        try:
            code = compile_function(_machine())
        except ImportError as error:
            raise BackendError(
                f"The kernel {symbol} is not in the compiled library, and Numba cannot compile it ({error}): "
                "pip install numba."
            ) from error
        save_object(symbol, sources(), key, code)
    return code


@functools.cache
def _announce() -> None:
    """Warn, once in a process, that the first use of kernels takes long, unless the environment chose that."""
    chosen = any(os.environ.get(name, "").strip() not in ("", "0") for name in ("FASTMLP_JIT", "FASTMLP_LANES"))
    if library(VECTOR_BYTES) is None and not chosen:
        folder = cache_folder()
        kept = "no folder is writable, so each process does so" if folder is None else f"they are kept in {folder}"
        warn_user(
            f"Numba compiles the kernels when they are first used, for about 20 s in all; {kept}. There are no "
            f"compiled kernels: {reason(VECTOR_BYTES)}.",
            PerformanceWarning,
        )


def sources() -> str:
    """Return the fingerprint of the sources of the kernels."""
    return fingerprint(FOLDER.parent / "cpu")


@functools.cache
def code_of_host() -> str:
    """Return what object code depends on beside the sources: processor, vector width, versions of the compiler."""
    metadata = importlib.import_module("importlib.metadata")  # imports many modules, which only compilation needs
    versions = []
    for name in ("numba", "llvmlite"):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    return f"{', '.join(versions)}, {VECTOR_BYTES}-byte vectors, {' '.join(_processor())}"


@functools.cache
def _processor() -> tuple[str, str]:
    """Return the names of the processor and of its features, which Numba's environment variables override."""
    binding = _binding()
    name = os.environ.get("NUMBA_CPU_NAME") or binding.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = "" if os.environ.get("NUMBA_CPU_NAME") else binding.get_host_cpu_features().flatten()
    return str(name), str(features)


@functools.cache
def _binding() -> Any:
    try:
        binding: Any = importlib.import_module("llvmlite.binding")
    except ImportError as error:
        raise BackendError(f"The kernels need Numba and llvmlite ({error}): pip install numba.") from error
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding


@functools.cache
def _machine() -> Any:
    cpu, features = _processor()
    target = _binding().Target.from_default_triple()
    return target.create_target_machine(cpu=cpu, features=features, opt=3, reloc="pic", codemodel="default")


@functools.cache
def _engine() -> Any:
    binding = _binding()
    machine = binding.Target.from_default_triple().create_target_machine(opt=3, jit=True)
    return binding.create_mcjit_compiler(binding.parse_assembly(""), machine)


def _loaded(symbol: str, code: bytes) -> int:
    engine = _engine()
    engine.add_object_file(_binding().ObjectFileRef.from_data(code))
    engine.finalize_object()
    return int(engine.get_function_address(symbol))
