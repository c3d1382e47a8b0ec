"""Compilation of kernels to object code by Numba and LLVM: all of one instruction-set level, or a single one.

    python -m fastmlp._kernels.compiled.objects FOLDER PART PARTS

compiles every PARTS-th kernel from number PART on, and writes its object files to FOLDER. The environment decides the
level: see `build`, which sets it.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llvmlite import binding
from numba import carray, cfunc
from numba.core import types

from ..cpu.declare import REALS, Argument, versions

if TYPE_CHECKING:
    from ..cpu import every, jit, numba_jit
    from ..cpu.native import bytes_at, integers_at, numbers_at, singles_at, words_at
else:
    from ..jitted import every, jit, numba_jit
    from ..jitted.native import bytes_at, integers_at, numbers_at, singles_at, words_at

__all__ = ["compile_declared", "compile_part"]

_ADDRESS = {
    "int64": integers_at, "float64": numbers_at, "float32": singles_at, "uint8": bytes_at,
    "uint32": words_at,
}  # fmt: skip
_POINTER: Any = types.CPointer  # type: ignore[attr-defined]
_SLOTS = types.void(_POINTER(types.int64), _POINTER(types.float64))


def _read(argument: Argument, slot: int) -> tuple[str, int]:
    """Return (expression for an argument, next slot) in the source of an entry, see `_entry`."""
    kind, size = argument
    if size == 0:
        read = {"int64": "i[{0}]", "uint64": "uint64(i[{0}])", "float64": "f[{0}]"}
        return read.get(kind, f"{kind}(f[{{0}}])").format(slot), slot + 1
    shape = ", ".join(f"i[{slot + 1 + axis}]" for axis in range(size))
    return f"carray({kind}_at(i[{slot}]), {shape if size == 1 else f'({shape})'})", slot + 1 + size


def _entry(declared: jit.Declared, real: str, source: str) -> Callable[..., None]:
    """Return the function of two pointers to the same slots that calls a kernel, see `declare`."""
    slot, values = 0, []
    for argument in declared.arguments:
        element = {"real": real, "source": source}.get(argument.element, argument.element)
        value, slot = _read(Argument(element, argument.dimensions), slot)
        values.append(value)
    call = f"function({', '.join(values)})"
    if declared.result is not None:
        call = f"{'i' if declared.result.element == 'int64' else 'f'}[{slot}] = {call}"
    slots = f"i, f = carray(integers, {slot + 1}), carray(floats, {slot + 1})"
    text = f"def entry(integers, floats):\n    {slots}\n    {call}\n"
    space: dict[str, Any] = {
        "function": numba_jit.compile_once(declared.function), "carray": carray, "uint64": types.uint64,
        "float32": types.float32,
        **{f"{kind}_at": at for kind, at in _ADDRESS.items()},
    }  # fmt: skip
    exec(text, space)
    entry: Callable[..., None] = space["entry"]
    return entry


def _functions() -> Iterator[tuple[str, Any, Callable[..., Any]]]:
    """Yield (symbol, signature, function) of each function of the library."""
    every.declare_all()
    for name, declared in sorted(jit.KERNELS.items()):
        for (real, source), suffix in versions(declared.arguments).items():
            yield f"fastmlp_{name}{suffix}", _SLOTS, _entry(declared, real, source)
    for name, function in sorted(jit.FUNCTION_POINTERS.items()):
        for real in REALS:
            yield f"fastmlp_{name}_{real}", numba_jit.signature_of_types(function.arguments, real), function.function


def _module(symbol: str, signature: Any, function: Callable[..., Any], machine: Any) -> Any:
    """Return the LLVM module of a function, in which the only exported name is ``symbol``."""
    compiled = cfunc(signature, pipeline_class=numba_jit.KernelCompiler, **numba_jit.OPTIONS)(function)
    module = binding.parse_assembly(compiled.inspect_llvm())
    for one in [*module.functions, *module.global_variables]:
        if one.is_declaration:
            continue
        if one.name == compiled.native_name:
            one.name = symbol
        else:
            one.linkage = "internal"
    _remove_error_paths(module, machine)
    module.verify()
    if "numba_unpickle" in {one.name for one in module.functions}:
        raise RuntimeError(f"The kernel {symbol} can raise an exception, which a compiled kernel must not.")
    return module


def _remove_error_paths(module: Any, machine: Any) -> None:
    """Remove the code that handles exceptions of called functions that cannot raise any.

    Numba optimizes a function before its callers are known, and must assume another definition of each callee.
    """
    passes = binding.create_new_module_pass_manager()
    passes.add_ipsccp_pass()
    passes.add_simplify_cfg_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_strip_dead_prototype_pass()
    passes.run(module, binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(3)))


def compile_declared(
    function: Callable[..., Any], made_with: tuple[Any, ...], name: str, dtypes: tuple[str, str], machine: Any
) -> bytes:
    """Return the object code of one version of a declared function.

    Parameters
    ----------
    function : function
        The function as declared by `jit.kernel` or `jit.function_pointer`, in a module of `_kernels.cpu`.
    made_with : tuple
        Arguments of the function that makes it, if it is not at the top of its module.
    name : str
        Name of the declaration.
    dtypes : (str, str)
        Dtypes that stand for "real" and "source"; "" where there is no such argument.
    machine : llvmlite.binding.TargetMachine
    """
    module = importlib.import_module(f"{every.__package__}.{function.__module__.rpartition('.')[2]}")
    if made_with:
        getattr(module, function.__qualname__.partition(".")[0])(*made_with)
    symbol = "_".join(filter(None, ("fastmlp", name, *dtypes)))
    if name in jit.KERNELS:
        made = _SLOTS, _entry(jit.KERNELS[name], *dtypes)
    else:
        pointer = jit.FUNCTION_POINTERS[name]
        made = numba_jit.signature_of_types(pointer.arguments, dtypes[0]), pointer.function
    code: bytes = machine.emit_object(_module(symbol, *made, machine))
    return code


def compile_part(folder: Path, part: int, parts: int) -> None:
    """Write the object files of every ``parts``-th kernel from number ``part`` on to ``folder``."""
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=os.environ["NUMBA_CPU_NAME"], features="", opt=3, reloc="pic", codemodel="default"
    )
    for number, (symbol, signature, function) in enumerate(_functions()):
        if number % parts == part:
            (folder / f"{symbol}.o").write_bytes(machine.emit_object(_module(symbol, signature, function, machine)))
            gc.freeze()  # the compiler keeps most of its objects: searching them again takes a fifth of the time


if __name__ == "__main__":
    compile_part(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
