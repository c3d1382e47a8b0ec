"""Runner of compiled CUDA kernels on the CPU: Numba's LLVM code on the threads of `simt`.

`simt` interprets the Python source of a kernel and thus does not test Numba's types, the passing of arguments and
vector loads. This module compiles the kernel with the GPU's tile sizes. Thread indices, barriers and special
instructions of a GPU are callbacks, and each thread is a greenlet inside of compiled code. The memory order of a GPU is
not simulated; `simt` detects races.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import functools
import importlib
import re
import struct
import time
from types import SimpleNamespace
from unittest import mock

import fake_driver
import llvmlite.binding as llvm
import llvmlite.ir
import numba
import numpy as np
import simt
from compiled import ARCHITECTURE, a_gpu_to_compile_for, compiling
from greenlet import getcurrent
from simulated import Simulated

from fastmlp._kernels.cpu.shuffle import shuffle_order
from fastmlp._kernels.cuda import machine, steps
from fastmlp._kernels.cuda.grid import wait_for_grid

_C = {
    "i32": ctypes.c_uint32, "i64": ctypes.c_int64, "float": ctypes.c_float, "double": ctypes.c_double,
    "ptr": ctypes.c_void_p,
}  # fmt: skip
_kept = []  # keeps objects alive that compiled code uses


# ------------------------------------------------------------------------------------------ callbacks

_launch = {}  # dimensions of the grid and of a block


def _special(register):
    """Return the value of a special register, such as %tid.x."""
    kind, axis = register.split(".")
    return {
        "tid": lambda: getattr(simt._me().threadIdx, axis), "ctaid": lambda: getattr(simt._me().block.blockIdx, axis),
        "ntid": lambda: getattr(_launch["block"], axis), "nctaid": lambda: getattr(_launch["grid"], axis),
    }[kind]  # fmt: skip


def _shared(number, size):
    """Return the address of an array of the block with ``size`` times 8 bytes, a multiple of 16."""
    arrays = simt._me().block.arrays
    if number not in arrays:
        array = np.full(size + 1, np.nan)
        arrays[number] = array, -(-array.ctypes.data // 16) * 16
    return arrays[number][1]


def _arrivals(address):
    """Yield to the other threads, then read the counter that the thread polls."""
    simt._me().wait("poll")
    return ctypes.c_int64.from_address(address).value


def _arrive(address):
    ctypes.c_int64.from_address(address).value += 1


def _count(address):
    number = ctypes.c_int64.from_address(address)
    number.value += 1
    return number.value - 1


def _multiply_tf32(*operands):
    return simt.multiply_tf32(*struct.unpack("6f", struct.pack("6I", *operands[:6])), *operands[6:])


def _give_up():
    raise AssertionError("the barrier of the grid gave up")


INSTRUCTIONS = {
    "ld.acquire.gpu.b64": _arrivals,
    "red.release.gpu.global.add.u64": _arrive,
    "atom.acq_rel.gpu.global.add.u64": _count,
    "mov.u32": lambda: simt._me().threadIdx.x,  # the only special registers read by inline PTX
    "mov.b32": lambda: _launch["block"].x,
    "mov.u64": time.perf_counter_ns,  # the clock
    "cp.async.commit_group": lambda: None,
    "cp.async.wait_group": lambda: None,
    "trap": _give_up,
    "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32": _multiply_tf32,
    "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32": simt.multiply_bf16,
}
# LLVM code instead of callbacks, since these run once per element. Async copies are executed at once; `simt` executes
# them as late as possible.
WRITTEN = {
    "cvta.to.shared.u64": """
        ret i64 %x0""",
    "div.u32": """
        %found = udiv i32 %x0, %x1
        ret i32 %found""",
    "cvt.rna.tf32.f32": """
        %b = bitcast float %x0 to i32
        %exponent = and i32 %b, 2139095040
        %special = icmp eq i32 %exponent, 2139095040
        %near = add i32 %b, 4096
        %cut = and i32 %near, -8192
        %found = select i1 %special, i32 %b, i32 %cut
        ret i32 %found""",
    "shl.b32": """
        %b = shl i32 %x0, 16
        %found = bitcast i32 %b to float
        ret float %found""",
    "and.b32": """
        %b = and i32 %x0, -65536
        %found = bitcast i32 %b to float
        ret float %found""",
    "cvt.rn.bf16x2.f32": """
        %b0 = bitcast float %x0 to i32
        %b1 = bitcast float %x1 to i32
        %last0 = lshr i32 %b0, 16
        %last1 = lshr i32 %b1, 16
        %odd0 = and i32 %last0, 1
        %odd1 = and i32 %last1, 1
        %half0 = add i32 %odd0, 32767
        %half1 = add i32 %odd1, 32767
        %near0 = add i32 %b0, %half0
        %near1 = add i32 %b1, %half1
        %nan0 = fcmp uno float %x0, %x0
        %nan1 = fcmp uno float %x1, %x1
        %is0 = select i1 %nan0, i32 2147418112, i32 %near0
        %is1 = select i1 %nan1, i32 2147418112, i32 %near1
        %low = lshr i32 %is0, 16
        %high = and i32 %is1, -65536
        %found = or i32 %low, %high
        ret i32 %found""",
}


def _copy(size):
    """Return LLVM code that copies bytes and fills the last ones with zeros, without branches."""
    lines = [
        "%to = inttoptr i64 %x0 to ptr",
        "%from = inttoptr i64 %x1 to ptr",
        "%z = alloca i32",
        "store i32 0, ptr %z",
    ]
    for at in range(0, size, 4):
        lines += [
            f"%s{at} = getelementptr i8, ptr %from, i64 {at}", f"%i{at} = icmp ugt i32 %x2, {at}",
            f"%p{at} = select i1 %i{at}, ptr %s{at}, ptr %z", f"%v{at} = load i32, ptr %p{at}",
        ]  # fmt: skip
    for at in range(0, size, 4):
        lines += [f"%t{at} = getelementptr i8, ptr %to, i64 {at}", f"store i32 %v{at}, ptr %t{at}"]
    return "\n".join([*lines, "ret void"])


WRITTEN |= {f"cp.async.{'cg' if size == 16 else 'ca'}.shared.global {size}": _copy(size) for size in (4, 8, 16)}


def _symbol(name, function, result, *arguments):
    """Register a Python function as a symbol of compiled code.

    An exception cannot propagate through compiled code: the runner of the threads raises it, and this thread never
    resumes.
    """

    def call(*given):
        try:
            return function(*given)
        except BaseException as error:
            _kept.append(getcurrent())
            getcurrent().parent.throw(error)

    callback = ctypes.PYFUNCTYPE(result, *arguments)(call)
    _kept.append(callback)
    llvm.add_symbol(name, ctypes.cast(callback, ctypes.c_void_p).value)


def _fields(kinds):
    return type("Fields", (ctypes.Structure,), {"_fields_": [(f"_{i}", _C[kind]) for i, kind in enumerate(kinds)]})


@functools.cache
def _instruction(code, result, kinds):
    """Return (name, text) of an LLVM function that replaces a PTX instruction."""
    name = f"{code} of {', '.join(kinds)}"
    given = [kind for kind in re.findall(r"\w+", result) if kind != "void"]
    head = f'define internal {result} @"{name}"({", ".join(f"{kind} %x{i}" for i, kind in enumerate(kinds))}) {{\n'
    if code in WRITTEN:
        return name, f"{head}{WRITTEN[code]}\n}}\n"
    takes, gives, function = _fields(kinds), _fields(given), INSTRUCTIONS[code]

    def run(results, operands):
        operands = takes.from_address(operands)
        found = function(*(getattr(operands, field) for field, _ in takes._fields_))
        if given:
            into = gives.from_address(results)
            for (field, _), value in zip(gives._fields_, found if len(given) > 1 else [found], strict=True):
                setattr(into, field, value)

    _symbol(f"python {name}", run, None, ctypes.c_void_p, ctypes.c_void_p)
    operands = "{" + ", ".join(kinds) + "}"
    lines = [f"%in = alloca {operands}", f"%out = alloca {result if given else 'i8'}"]
    for i, kind in enumerate(kinds):
        lines.append(f"%p{i} = getelementptr {operands}, ptr %in, i32 0, i32 {i}")
        lines.append(f"store {kind} %x{i}, ptr %p{i}")
    lines.append(f'call void @"python {name}"(ptr %out, ptr %in)')
    lines += [f"%found = load {result}, ptr %out", f"ret {result} %found"] if given else ["ret void"]
    return name, f'declare void @"python {name}"(ptr, ptr)\n{head}' + "\n".join(lines) + "\n}\n"


# -------------------------------------------------------------------------------------------- compiler

_ASM = re.compile(r'call (\{[^}]*\}|\w+) asm\s+(?:sideeffect\s+)?"([^\s;"]+)([^"]*)", "[^"]*"\(([^)]*)\)')
_SHARED = re.compile(r'@"(\w+)" = addrspace\(3\) global \[(\d+) x (\w+)\].*')
_numbers = {}  # number of each shared array


def _for_this_processor(text):
    """Return an LLVM module of a kernel, with GPU instructions replaced by calls."""
    functions = {}

    def instruction(match):
        result, code, rest, operands = match.groups()
        size = re.search(r"\], (\d+), ", rest)
        code = f"{code} {size[1]}" if size else code
        name, written = _instruction(code, result, tuple(re.findall(r"(\w+) %", operands)))
        functions[name] = written
        return f'call {result} @"{name}"({operands})'

    def shared(match):
        number = _numbers.setdefault((text[:300], match[1]), len(_numbers))
        return f'call ptr @"shared array"(i64 {number}, i64 {-(-sizes[match[1]] // 8)})'

    text = _ASM.sub(instruction, text)
    sizes = {name: int(count) * ctypes.sizeof(_C[kind]) for name, count, kind in _SHARED.findall(text)}
    text = re.sub(r'addrspacecast ptr addrspace\(3\) @"(\w+)" to ptr', shared, _SHARED.sub("", text))
    text = re.sub(r"^target .*$", "", text, flags=re.M).replace('@"llvm.nvvm.', '@"nvvm.')
    text = text.replace(" alwaysinline", "")  # inlining takes longer and does not change results
    assert "addrspace(" not in text and " asm " not in text, "something that is not known here"
    return "\n".join([text, 'declare ptr @"shared array"(i64, i64)', *functions.values()])


@functools.cache
def _engine():
    """Return (LLVM target machine, execution engine)."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    # Optimization takes longer than it saves at run time.
    target = llvm.Target.from_default_triple().create_target_machine(cpu=llvm.get_host_cpu_name(), opt=0, jit=True)
    _symbol("shared array", _shared, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    for register in (f"{kind}.{axis}" for kind in ("tid", "ctaid", "ntid", "nctaid") for axis in "xyz"):
        _symbol(f"nvvm.read.ptx.sreg.{register}", _special(register), ctypes.c_int32)
    _symbol("nvvm.barrier0", lambda: simt._me().wait("block"), None)
    return target, llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)


@functools.cache
def _library(name):
    """Replace a function of libdevice, such as expf, by that of the C library."""
    tests = {"isfinite": np.isfinite, "isnan": np.isnan, "isinf": np.isinf}
    if name[:-1] in tests:
        kind = {"d": ctypes.c_double, "f": ctypes.c_float}[name[-1]]
        _symbol(f"__nv_{name}", lambda x: int(tests[name[:-1]](x)), ctypes.c_int32, kind)
    else:
        found = ctypes.CDLL(ctypes.util.find_library("m"))[name]
        llvm.add_symbol(f"__nv_{name}", ctypes.cast(found, ctypes.c_void_p).value)


# llvmlite caches the text of its objects. The GPU compiler expects typed pointers, the host compiler opaque pointers.
# Each text is cached under a separate name, so `tests/kernels/test_ptx.py` needs no second compilation.
_names = {"text": "typed text", "reference": "typed reference"}


@contextlib.contextmanager
def _plain_pointers():
    typed = mock.patch.object(llvmlite.ir.types, "ir_layer_typed_pointers_enabled", False)
    with typed, mock.patch.dict(_names, text="text", reference="reference"):
        yield


def _kept_text(what, make):
    def text(self):
        kept = self.__dict__
        try:
            return kept[_names[what]]
        except KeyError:
            found = kept[_names[what]] = getattr(self, make)()
            return found

    return text


def _clear(self):
    for name in ("typed text", "text"):
        self.__dict__.pop(name, None)


llvmlite.ir._utils._StrCaching.__str__ = _kept_text("text", "_to_string")
llvmlite.ir._utils._StrCaching._clear_string_cache = _clear
llvmlite.ir._utils._StringReferenceCaching.get_reference = _kept_text("reference", "_get_reference")


def compiled(kernel, kinds):
    """Return the address of a kernel compiled for Numba types of its arguments."""
    compile_cuda = importlib.import_module("numba.cuda.compiler").compile_cuda
    target, engine = _engine()
    with compiling(), a_gpu_to_compile_for():
        found = compile_cuda(kernel.py_func, numba.void, kinds, cc=ARCHITECTURE)
    with _plain_pointers():
        texts = [_for_this_processor(str(module)) for module in found.library.modules]
    for text in texts:
        for name in re.findall(r'^declare .*@"__nv_(\w+)"', text, flags=re.M):
            _library(name)
        module = llvm.parse_assembly(text)
        module.triple, module.data_layout = target.triple, str(target.target_data)
        engine.add_module(module)
    engine.finalize_object()
    return engine.get_function_address(found.fndesc.llvm_func_name)


# --------------------------------------------------------------------------------------------- running


def _flat(values, kinds):
    """Return (ctypes type, value) of arguments; an array is (owners, sizes, address, shape, strides)."""
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    for value, kind in zip(values, kinds, strict=True):
        if isinstance(kind, numba.types.Array):
            assert value.flags.c_contiguous and value.ctypes.data % 16 == 0, "not as arrays of a GPU are"
            yield from ((pointer, None), (pointer, None), (integer, value.size), (integer, value.itemsize))
            yield pointer, value.ctypes.data
            yield from ((integer, number) for number in (*value.shape, *value.strides))
        elif isinstance(kind, numba.types.BaseTuple):
            yield from _flat(value, kind.types)
        elif value is None:
            yield pointer, None
        else:
            yield np.ctypeslib.as_ctypes_type({"boolean": "uint8"}.get(kind.name, kind.name)), value


class Machine(simt.Machine):
    """Runner of compiled kernels."""

    def __init__(self):
        super().__init__([])
        self._compiled, self._rounds = {}, 0

    def run(self, kernel, grid, dim, args, names=None):
        kinds = tuple(map(numba.typeof, args))
        if (kernel, kinds) not in self._compiled:
            self._compiled[kernel, kinds] = compiled(kernel, kinds)
        types, values = zip(*_flat(args, kinds), strict=True)
        function = ctypes.PYFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, *types)(self._compiled[kernel, kinds])
        grid, dim = (tuple(np.atleast_1d(size).tolist()) for size in (grid, dim))
        grid, dim = grid + (1,) * (3 - len(grid)), dim + (1,) * (3 - len(dim))
        for what, sizes in (("grid", grid), ("block", dim)):
            _launch[what] = SimpleNamespace(**dict(zip("xyz", sizes, strict=True)))
        answer = ctypes.create_string_buffer(8)  # for the unused return value of a kernel
        running = []

        def body():
            running.append(getcurrent())
            function(ctypes.addressof(answer), *values)

        try:
            self._run(body, (), grid, dim)
        except BaseException:
            _kept.extend(running)  # ending the greenlets would resume them inside of compiled code
            raise

    def _release(self, threads, ended):
        """Resume polling threads too, as long as another thread may still change the counter."""
        polls = [thread for thread in threads if thread.waits_for == "poll"]
        gone = super()._release(threads, ended)
        self._rounds = 0 if gone else self._rounds + 1
        for thread in polls:
            thread.waits_for = None
        return gone or bool(polls and self._rounds < 3)


class Compiled(Simulated):
    """Machine that runs steps with the tile sizes and the barrier of a GPU."""

    narrow, wide, each_item = machine.NARROW, machine.WIDE_TILES, machine.EACH_ITEM
    wide_dtypes, blocks_per_sm = machine.Machine.wide_dtypes, machine.Machine.blocks_per_sm

    def __init__(self, *options):
        super().__init__(*options)
        self._machine = Machine()

    def _kernel(self, spec):
        return steps.steps_kernel(spec, wait=wait_for_grid, header=self.header)


def replace_gpu():
    """Install the fake GPU for the rest of the process."""
    # Compiles Numba's runtime for the host, which fails once pointers of kernels have been typed.
    shuffle_order(0, 0, 1)
    updates = importlib.import_module("fastmlp._kernels.cuda.updates")
    updates._SUM_BLOCKS = 3  # few blocks, so that each block loops over the array
    fake_driver.install(Machine())
