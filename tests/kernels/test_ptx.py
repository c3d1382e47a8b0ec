"""All CUDA kernels compile without a GPU, and float32 kernels contain no float64 arithmetic."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from compiled import ARCHITECTURE, SIMULATED, a_gpu_to_compile_for, compiling

import fastmlp as fm
from fastmlp._kernels import formulas
from fastmlp._kernels.reference import ACTIVATIONS
from fastmlp.modules.config import module_types
from fastmlp.training.augmentation import Augmentations
from fastmlp.training.batches import check_rows

pytestmark = pytest.mark.skipif(SIMULATED, reason="the simulator compiles nothing")
T = np.float32
X, V, N = np.ones((5, 7), T), np.ones(7, T), np.ones(5, T)
W, B, Y = np.ones((3, 7), T), np.ones(3, T), np.ones((5, 3), T)
INDEX = np.zeros(5, np.int64)

NUMBERS = (0.1, 0.9, 0.1, 0.9, 0.1, 0.1, 0.9, 1.0)
OF_CLASSES = [kind for kind in formulas.names("losses") if formulas.sums_over_classes(kind)]
OF_CLASS = [(INDEX, None, (0.0, 0.5)), (X, V, (0.1, 0.5))]
CALLS = {
    "linear_forward": [(X, W, B, Y), (X, W, None, Y)],
    "linear_backward": [(Y, X, W, X, W, B)],
    "linear_activation_forward": [(X, W, B, kind, 1.0, Y, Y) for kind in ACTIVATIONS],
    "activation_backward": [(kind, 1.0, X, X, X, X) for kind in ACTIVATIONS],
    "softmax_forward": [(X, X)],
    "softmax_backward": [(X, X, X)],
    "layer_norm_forward": [(X, V, V, 1e-5, N, N, X), (X, None, None, 1e-5, N, N, X)],
    "layer_norm_backward": [(X, X, V, N, N, X, V, V)],
    "columns_forward": [(kind, X, V, V, X) for kind in formulas.names("columns")],
    "columns_backward": [(kind, X, X, V, None, X, V, None) for kind in formulas.names("columns")],
    "normalize": [(X, V, V, X), (X.astype(np.uint8), V, V, X)],
    "dropout": [(X, 0.5, 1 << 40, 1, 1, X)],
    "cross_entropy": [(X, INDEX, None, 0.0, N, N, X), (X, X, V, 0.1, N, N, X)],
    "cross_entropy_probabilities": [(X, INDEX, None, 0.0, N, N, X)],
    "classwise_loss": [(kind, X, *given, N, N, X) for kind in OF_CLASSES for given in OF_CLASS],
    "elementwise_loss": [
        (kind, X, X, V, (0.5, 1.0), N, N, X) for kind in formulas.names("losses") if kind not in OF_CLASSES
    ],
    "optimizer_update": [
        (kind, NUMBERS[: len(found.NUMBERS)], X, (X,) * len(found.STATES), X)
        for kind in formulas.names("optimizers")
        for found in [formulas.find("optimizers", kind)]
    ],
    "scale": [(X, 2.0, X)],
    "add_scaled": [(X, 2.0, X)],
    "clip": [(X, 2.0, X)],
}


def ptx_of(kernel, types, architecture):
    cuda = importlib.import_module("fastmlp._kernels.cuda.runtime").cuda
    with compiling():
        return cuda.compile_ptx(kernel.py_func, types, cc=architecture)[0]


@pytest.fixture(scope="module")
def compiler():
    """Compiles what the operations would launch; gives the backend and the list of (kernel, PTX)."""
    pytest.importorskip("numba_cuda")
    names = ("backend", "columns", "elementwise", "products", "rows", "updates")
    modules = [importlib.import_module(f"fastmlp._kernels.cuda.{name}") for name in names]
    found = []

    def launch(kernel, blocks, threads, *args):
        types = tuple(numba.typeof(a) for a in args)
        found.append((kernel.py_func.__name__, ptx_of(kernel, types, ARCHITECTURE)))

    with pytest.MonkeyPatch.context() as patch, a_gpu_to_compile_for():
        for module in modules[1:]:
            patch.setattr(module, "launch", launch)
        patch.setattr(modules[0], "from_numpy", lambda array: array)
        patch.setattr(modules[0], "empty", np.empty)
        try:
            modules[0].scale(X, 2.0, X)
        except Exception as error:
            if "nvrtc" not in str(error).lower() and "nvvm" not in str(error).lower():
                raise
            pytest.skip(f"the compiler's libraries are not there: {str(error).splitlines()[0]}")
        found.clear()
        yield modules[0], found


def sums_of_rows():
    """A kernel that is made anew each time, with it what it calls."""
    cuda = importlib.import_module("fastmlp._kernels.cuda.runtime").cuda

    @cuda.jit(device=True)
    def clipped(x, limit):
        if x > limit:
            x = limit
        return x

    @cuda.jit
    def kernel(x, y, limit):
        row = cuda.grid(1)
        if row >= x.shape[0]:
            return
        total = y[row]
        for i in range(min(x.shape[1], 7)):
            if x[row, i] < 0:
                continue
            total += clipped(x[row, i] * total, limit)
            limit = clipped(limit + total, limit)
        y[row] = total

    return kernel


def test_the_same_code_as_by_numbas_own_compiler(compiler):
    cuda = importlib.import_module("fastmlp._kernels.cuda.runtime").cuda
    types = numba.float32[:, ::1], numba.float32[::1], numba.float32
    ref = cuda.compile_ptx(sums_of_rows().py_func, types, cc=ARCHITECTURE)[0]
    comp = ptx_of(sums_of_rows(), types, ARCHITECTURE)
    # Names contain a counter of earlier compilations.
    ref, comp = (re.sub(r"_ZN\w+", "", ptx).splitlines() for ptx in (ref, comp))
    assert len(ref) > 60 and comp == ref


@pytest.mark.parametrize("operation", CALLS)
def test_compiles_without_float64_or_spills(compiler, operation):
    backend, found = compiler
    for arguments in CALLS[operation]:
        getattr(backend, operation)(*arguments)
    assert found
    for name, ptx in found:
        assert ".visible .entry" in ptx, name
        assert not re.search(r"\.f64", ptx), f"{name} computes in float64"
        assert not re.search(r"(ld|st)\.local", ptx), f"{name} keeps its sums in memory"
    found.clear()


@pytest.mark.parametrize("precision", ["bf16x6", "tf32", "bf16"])
def test_products_on_tensor_cores(compiler, precision):
    backend, found = compiler
    there = backend.with_precision(precision)
    assert there.precision == precision and there.name == "cuda" and there.scale is backend.scale
    there.linear_forward(X, W, None, Y)
    there.linear_activation_forward(X, W, B, "relu", 0.0, Y, Y)
    there.linear_backward(Y, X, W, X, W, B)
    products = [ptx for name, ptx in found if name == "multiply"]
    assert len(products) == 4
    for ptx in products:
        # 4 fragments for slices of 16 inner steps, with all loops unrolled.
        assert len(re.findall(INSTRUCTIONS[precision], ptx)) == {"tf32": 8, "bf16": 4, "bf16x6": 24}[precision]
        assert not re.search(r"\.f64|(ld|st)\.local|fma\.rn\.f32", ptx)
    found.clear()


INSTRUCTIONS = {
    "tf32": r"mma\.sync\.aligned\.m16n8k8\.row\.col\.f32\.tf32\.tf32\.f32",
    "bf16": r"mma\.sync\.aligned\.m16n8k16\.row\.col\.f32\.bf16\.bf16\.f32",
}
INSTRUCTIONS["bf16x6"] = INSTRUCTIONS["bf16"]


def by_column(width):
    """A layer for each formula of `columns`, whose name its class has."""
    kinds = [kind for kind in module_types().values() if kind.__name__.lower() in formulas.names("columns")]
    return [one for kind in kinds for one in kind.examples_of_width(width, np.dtype(T), np.random.default_rng(0))]


PERSISTENT = {  # model, optimizer, multiprocessors, precision
    "all layers": (
        lambda: fm.Sequential(
            fm.MLP(9, [300], 3, layer_norm=True, dropout=0.1, rng=0),
            fm.Normalize(np.ones(3), np.ones(3)),
            *by_column(3),
        ),
        lambda: fm.Adam(clip_norm=1.0),
        132,
        "float32",
    ),
    "wide tiles": (lambda: fm.MLP(9, [300, 300], 3, rng=0), fm.SGD, 4, "float32"),
    "two blocks": (lambda: fm.MLP(9, [60, 60], 3, rng=0), fm.Adam, 8, "float32"),
    "tf32": (lambda: fm.MLP(9, [300, 300], 3, rng=0), fm.SGD, 4, "tf32"),
    "bf16": (lambda: fm.MLP(9, [300, 300], 3, rng=0), fm.SGD, 4, "bf16"),
    "bf16x6": (lambda: fm.MLP(9, [300, 300], 3, rng=0), fm.SGD, 4, "bf16x6"),
    "changed rows": (lambda: fm.MLP(9, [60], 3, rng=0), fm.SGD, 132, "float32"),
}


@pytest.mark.parametrize("name", PERSISTENT)
def test_the_persistent_kernel(compiler, name, tmp_path):
    """A multiprocessor has room for a block of it, and the barrier of the grid waits."""
    pytest.importorskip("greenlet")
    simulated, gpu, steps, machine = map(
        importlib.import_module,
        ("simulated", "fastmlp.engine.gpu", "fastmlp._kernels.cuda.steps", "fastmlp._kernels.cuda.machine"),
    )
    launches = []

    class Recorder(simulated.Simulated):
        narrow, wide, each_item = steps.NARROW, steps.WIDE_TILES, steps.EACH_ITEM
        wide_dtypes, blocks_per_sm = machine.Machine.wide_dtypes, machine.Machine.blocks_per_sm

        def run(self, spec, arguments, blocks):
            launches.append((spec, arguments))

    make, optimizer, blocks, precision = PERSISTENT[name]
    with fm.use_backend("numpy"):
        model, loss = make(), fm.CrossEntropyLoss()
        engine = gpu.GpuEngine(model, loss, optimizer(), 512, Recorder(blocks))
        engine.precision = precision
        rows = check_rows(np.ones((512, 9), T), np.zeros(512, np.int64), None, model, loss, "test")
        changes = [fm.HorizontalFlip((3, 3)), fm.Mixup(), fm.GaussianNoise()] if name == "changed rows" else ()
        augment = Augmentations(changes, model, 9, 3, np.dtype(T)) or None
        engine.run(rows, np.arange(512), np.array([0, 512]), 7, 0, 0.1, augment)
    [(spec, arguments)] = launches
    assert spec.precision == precision and spec.wide == (name not in ("all layers", "two blocks", "changed rows"))
    assert spec.augments == (name == "changed rows")
    assert spec.blocks_per_sm == (2 if name == "two blocks" else 1) and (spec.jobs != ()) == (name == "all layers")
    types = tuple(numba.typeof(a) for a in arguments)
    kernel = steps.steps_kernel(spec)
    ptx = ptx_of(kernel, types, (9, 0))
    assert ".visible .entry" in ptx and not re.search(r"(ld|st)\.local", ptx)
    for access in (
        r"ld\.global\.v4\.f32",
        r"st\.global\.v4\.f32",
        r"cp\.async\.cg\.shared\.global \[%\w+\], \[%\w+\], 16,",
    ):
        assert re.search(access, ptx), access  # 16 bytes at a time
    assert not re.search(r"ld\.global[.\w]* [^;]*;\s*st\.shared\.f32", ptx), "factors by way of registers"
    if precision == "float32":
        assert "ld.shared.v4.f32" in ptx
    else:
        # 4 fragments of a narrow tile and 16 of a wide tile for slices of 16 inner steps, for three kinds of products.
        of_slices = {"tf32": 20 * 2, "bf16": 20, "bf16x6": 20 * 6}[precision]
        assert len(re.findall(INSTRUCTIONS[precision], ptx)) == 3 * of_slices
    assert not re.search(r"\b(atom|red)[.\w]*\.f(16|32|64)", ptx), "sums of floats whose order is by chance"
    assert not re.search(r"fma\.rn\.f64", ptx), "products in float64"
    assert not re.search(r"ld\.global\.nc", ptx), "read through a cache that other blocks' writes do not reach"
    # The barrier counts the block's arrival and then polls the counter in a loop.
    count, polls = (
        ptx.index("red.release.gpu.global.add.u64"),
        [m.start() for m in re.finditer(r"ld\.acquire\.gpu\.b64", ptx)],
    )
    assert count < polls[0]
    after = re.search(r"bra\s+(\$L__BB\d+_\d+);", ptx[polls[-1] :])
    assert polls[0] < ptx.index(f"\n{after[1]}:") < polls[-1]
    # Prefer the ptxas that is installed with the compiler: another version may be too old for its PTX.
    ptxas = next((str(p) for p in _nvidia() if p.name == "ptxas"), None) or shutil.which("ptxas")
    if ptxas is None:
        pytest.skip("there is no ptxas")
    (tmp_path / "steps.ptx").write_text(ptx)
    limit = kernel.targetoptions["max_registers"]
    limits = [] if limit is None else [f"-maxrregcount={limit}"]
    command = [ptxas, "-arch=sm_90", "-v", *limits, "-o", str(tmp_path / "steps.cubin"), str(tmp_path / "steps.ptx")]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    registers, shared = (int(re.search(rf"(\d+) {what}", told.stderr)[1]) for what in ("registers", "bytes smem"))
    assert spec.blocks_per_sm * registers * steps.NARROW.threads <= 1 << 16 and shared <= 48 << 10


def _nvidia():
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations if spec else ():
        yield from Path(folder).glob("*/bin/*")


KEPT = """
import importlib
import sys
from types import SimpleNamespace

import numba
import numpy as np

there = SimpleNamespace(compute_capability=(8, 0))
for name in ("dispatcher", "compiler"):
    importlib.import_module(f"numba.cuda.{name}").get_current_device = lambda: there
importlib.import_module("numba.cuda.codegen").devices.get_context = lambda *_: SimpleNamespace(device=there)
dispatcher = importlib.import_module("numba.cuda.dispatcher")
dispatcher._Kernel.bind = lambda self: self._codelibrary.get_asm_strs(cc=(8, 0, ""))

from fastmlp._kernels.cuda import products, steps

types = tuple(numba.typeof(np.ones(shape, np.float32)) for shape in ((3, 2), (2, 4), 4, (3, 4)))
for transposed in (False, True):
    kernel = products._kernel(False, transposed, np.dtype("float32"))
    compiled = kernel.compile((*types[:3], numba.types.boolean, types[3]))
    found = compiled._codelibrary.get_asm_strs(cc=(8, 0, ""))[0]
    print(sum(kernel._cache_hits.values()), len(found), "entry" in found)
spec = steps.Spec("float32", "cross_entropy", True, True, ("relu",), "adam", (), False, "float32", 1, True, False)
for changes in (
    {}, {"kinds": ("relu", "tanh")}, {"precision": "tf32"}, {"dtype": "float64"}, {"wide": True}, {"blocks_per_sm": 2},
    {"augments": True},
):
    print(steps.steps_kernel(spec._replace(**changes))._cache._described)
print(steps.steps_kernel(spec, header=64)._cache._described)
"""


def test_kernels_are_kept_for_other_processes(compiler, tmp_path):
    """By what they capture, which has the same name there; what is damaged is compiled again."""

    def run():
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        command = [sys.executable, "-W", "ignore", "-c", KEPT]
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stderr
        lines = told.stdout.splitlines()
        return [line.split() for line in lines[:2]], lines[2:]

    [one, other], names = run()
    assert one[0] == other[0] == "0" and one[2] == other[2] == "True" and one[1] != other[1]
    assert len(set(names)) == 8
    kept = sorted(tmp_path.glob("*/*.nbc"))
    assert len(kept) == 2
    assert run() == ([["1", *one[1:]], ["1", *other[1:]]], names)
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    # A damaged entry also invalidates the index: the next process misses the other entry and saves it again.
    seen = [[line[0] for line in run()[0]] for _ in range(3)]
    assert "0" in seen[0] and seen[2] == ["1", "1"], seen
