"""Simulator that runs CUDA kernels as Python, all blocks of a grid at once, and detects races.

Numba's simulator runs one block after the other, so that a grid whose blocks wait for each other hangs. Here each
thread is a greenlet that runs until it waits for its warp, its block or the grid, or for a matrix product of its warp
(which orders no memory accesses). Each access to an array is recorded with the barriers that the thread has passed. It
is an error if two threads access an element, at least one of them writes, and no barrier separates the accesses,
whatever the order of execution was. Reads of uninitialized local or shared memory and indices out of bounds are errors
too.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
import operator
import sys
from types import SimpleNamespace

import numpy as np
from greenlet import getcurrent, greenlet
from numba.core.types import Number
from tensor_cores import WARP, of_warp


class Race(AssertionError):
    """Two threads access an element, at least one of them writes, and no barrier separates the accesses."""


class Watched:
    """Array with checked accesses; ``space`` is "global" or "shared", and "local" that of a `Local`.

    What is noted of an element is noted under its place: its number, counted row by row.
    """

    def __init__(self, array, name, space="global", written=True):
        self.array, self.name, self.space = array, name, space
        self.shape, self.size, self.dtype, self.ndim = array.shape, array.size, array.dtype, array.ndim
        assert array.flags.c_contiguous
        self.flat = array.reshape(-1)
        self.written = None if written else bytearray(array.size)
        self.writes, self.reads = {}, {}

    def place(self, index):
        """Return the flat position of an index."""
        # Hot path: most of a test's time is spent here and in `read` and `write`.
        if not isinstance(index, tuple):
            if self.ndim == 1 and 0 <= index < self.size:
                return int(index)
        elif len(index) == self.ndim == 2:
            (i, j), (rows, columns) = index, self.shape
            if 0 <= i < rows and 0 <= j < columns:
                return int(i) * columns + int(j)
        elif len(index) == self.ndim == 3:
            (i, j, k), (planes, rows, columns) = index, self.shape
            if 0 <= i < planes and 0 <= j < rows and 0 <= k < columns:
                return (int(i) * rows + int(j)) * columns + int(k)
        raise IndexError(f"{self.name}[{index}] of shape {self.shape}, by {_me()}")

    def __getitem__(self, index):
        return self.read(self.place(index))

    def __setitem__(self, index, value):
        self.write(self.place(index), value)

    def read(self, place):
        if self.written is not None and not self.written[place]:
            raise AssertionError(f"{self._named(place)} is read by {_me()} but was never written")
        me = _running.thread
        seen = me.seen or me.look()
        other = self.writes.get(place)
        if other is not None and other is not seen:
            self._compare(place, other, me)
        reads = self.reads.get(place)
        if reads is None:
            self.reads[place] = {me: seen}
        else:
            reads[me] = seen
        return self.flat[place]

    def write(self, place, value):
        if self.written is not None:
            self.written[place] = True
        me = _running.thread
        seen = me.seen or me.look()
        other = self.writes.get(place)
        if other is not None and other is not seen:
            self._compare(place, other, me)
        for other in self.reads.pop(place, {}).values():
            if other is not seen:
                self._compare(place, other, me)
        self.writes[place] = seen
        self.flat[place] = value

    def _compare(self, place, other, me):
        if other.name != me.name and not me.after(other):
            raise Race(f"{self._named(place)}: {me} and {other.name} have not waited for each other")

    def _named(self, place):
        return f"{self.name}{[int(i) for i in np.unravel_index(place, self.shape)]}"

    def __len__(self):
        return len(self.array)


_running = SimpleNamespace(thread=None)


def _me():
    return _running.thread


class _Seen(SimpleNamespace):
    """Thread that accessed an element, with the barriers that it had passed."""


class _Thread:
    def __init__(self, block, place, dim):
        self.block, self.threadIdx = block, SimpleNamespace(**dict(zip("xyz", place, strict=True)))
        self.number = place[0] + dim[0] * (place[1] + dim[1] * place[2])
        self.name = (block.number, self.number)
        self.of_grid = self.of_block = self.of_warp = 0  # numbers of barriers passed
        self.waits_for = self.seen = None
        self.operands, self.product = None, None  # of a matrix product of the warp
        self.copies, self.groups = [], []  # async copies that are still pending
        self.knows = {}  # by block: the barrier up to which its accesses are ordered before this thread

    def look(self):
        """Return the record of the thread's accesses, a new one after each barrier."""
        self.seen = _Seen(name=self.name, grid=self.of_grid, block=self.of_block, warp=self.of_warp)
        return self.seen

    def pass_barrier(self, kind):
        self.waits_for = self.seen = None
        self.of_grid += kind == "grid"
        self.of_block += kind in ("grid", "block")
        self.of_warp += 1

    def after(self, other):
        """Whether a common barrier separates the access ``other`` from the present."""
        if self.of_grid > other.grid:
            return True
        if self.knows.get(other.name[0], 0) > other.block:
            return True
        same_block = other.name[0] == self.name[0]
        if same_block and self.of_block > other.block:
            return True
        return same_block and other.name[1] // WARP == self.number // WARP and self.of_warp > other.warp

    def wait(self, what):
        self.waits_for = what
        getcurrent().parent.switch()

    def __repr__(self):
        return f"thread {self.number} of block {self.block.number}"


class _Module:
    """Replacement for the module ``numba.cuda`` inside of kernels."""

    def __init__(self, grid, dim):
        self.gridDim = SimpleNamespace(**dict(zip("xyz", grid, strict=True)))
        self.blockDim = SimpleNamespace(**dict(zip("xyz", dim, strict=True)))
        self.shared, self.local = SimpleNamespace(array=self._shared), SimpleNamespace(array=self._local)
        self.cg = SimpleNamespace(this_grid=lambda: SimpleNamespace(sync=lambda: _me().wait("grid")))
        self.warpsize = WARP

    threadIdx = property(lambda self: _me().threadIdx)
    blockIdx = property(lambda self: _me().block.blockIdx)

    def syncthreads(self):
        _me().wait("block")

    def syncwarp(self, mask=0xFFFFFFFF):
        _me().wait("warp")

    def grid(self, dimensions):
        assert dimensions == 1
        return self.blockIdx.x * self.blockDim.x + self.threadIdx.x

    def gridsize(self, dimensions):
        assert dimensions == 1
        return self.gridDim.x * self.blockDim.x

    def _shared(self, shape, dtype, alignment=None):
        frame = sys._getframe(1)
        key, arrays = (frame.f_code, frame.f_lasti), _me().block.arrays
        if key not in arrays:
            name = f"shared array of line {frame.f_lineno}"
            arrays[key] = Watched(np.empty(shape, _numpy(dtype)), name, "shared", written=False)
        return arrays[key]

    def _local(self, shape, dtype, alignment=None):
        return Local(shape, _numpy(dtype))


def _numpy(dtype):
    return np.dtype(getattr(dtype, "name", dtype))


class Local:
    """Local array of a thread, which checks indices and reads of uninitialized elements."""

    space = "local"

    def __init__(self, shape, dtype):
        # A dict lookup is the fast path of most accesses.
        self.values, self.kind = dict(_nothing(shape)), dtype.type

    def __getitem__(self, index):
        value = self.values.get(index, self)
        if value is None or value is self:
            raise self._wrong(index)
        return value

    def __setitem__(self, index, value):
        if index not in self.values:
            raise self._wrong(index)
        self.values[index] = value if type(value) is self.kind else self.kind(value)

    def _wrong(self, index):
        if index in self.values:
            return AssertionError(f"local array[{index}] is read by {_me()} but was never written")
        return IndexError(f"local array[{index}] of {len(self.values)} elements, by {_me()}")


@functools.cache
def _nothing(shape):
    """Values by index, None for uninitialized elements."""
    if isinstance(shape, tuple) and len(shape) > 1:
        return dict.fromkeys(np.ndindex(*shape))
    return dict.fromkeys(range(*np.atleast_1d(shape)))


class Part(Watched):
    """Part of a vector as an array of another shape."""

    def __init__(self, whole, first, shape):
        self.whole, self.first, self.space = whole, int(first), whole.space
        self.shape, self.size, self.ndim = tuple(map(int, shape)), math.prod(map(int, shape)), len(shape)
        self.name, self.dtype = f"{whole.name}[{self.first}:]", whole.dtype
        assert self.first >= 0 and self.size >= 0 and self.first + self.size <= whole.size, f"{self.name} {self.shape}"

    def read(self, place):
        return self.whole.read(self.first + place)

    def write(self, place, value):
        self.whole.write(self.first + place, value)

    def __len__(self):
        return self.shape[0]


def vector(array, first, size):
    return Part(array, first, (size,))


def matrix(array, first, rows, columns):
    return Part(array, first, (rows, columns))


def number():
    """Return the number of the thread in its block."""
    return _me().threadIdx.x


def threads():
    """Return the number of threads of a block."""
    return len(_me().block.threads)


def _later(one, other):
    return {block: max(one.get(block, 0), other.get(block, 0)) for block in {*one, *other}}


def count(array):
    """Increment a counter atomically and return its old value; orders accesses like a release-acquire operation."""
    place = 0
    while isinstance(array, Part):
        array, place = array.whole, place + array.first
    me = _me()
    me.knows = _later(me.knows, me.block.counted.get(place, {}))
    me.block.counted[place] = _later(me.knows, {me.block.number: me.of_block})
    array.array[place] += 1
    return int(array.array[place]) - 1


def divide(a, b):
    """Reinterpret 32 bits."""
    return np.uint32(int(a) // int(b))


def _loader(count):
    def load(array, at):
        """Access several consecutive elements, whose first index must be a multiple of their number."""
        at = int(at)
        assert at % count == 0 and 0 <= at <= array.size - count, f"{array.name}[{at}] is read {count} at a time"
        return tuple(array.read(at + i) for i in range(count))

    return load


load2, load4 = _loader(2), _loader(4)


def store4(array, at, *values):
    at = int(at)
    assert at % 4 == 0 and 0 <= at <= array.size - 4, f"{array.name}[{at}] is written four at a time"
    for i, value in enumerate(values):
        array.write(at + i, value)


# ------------------------------------------------------------------------------------ copies for later


def _copier(size):
    def copy(shared, to, source, at, count):
        """Copy when the thread waits for it, the latest time allowed; until then the content is undefined."""
        some = size // shared.dtype.itemsize
        to, at, count = int(to), int(at), int(count) // shared.dtype.itemsize
        assert shared.space == "shared" and to % some == 0 and 0 <= count <= some
        assert count == 0 or at % some == 0, f"{source.name}[{at}] is copied {some} at a time"
        for i in range(some):
            shared[to + i] = np.nan
            shared.written[to + i] = False
        _me().copies.append((shared, to, source, at, count, some))

    return copy


copy16, copy8, copy4 = map(_copier, (16, 8, 4))


def commit():
    me = _me()
    me.groups.append(me.copies)
    me.copies = []


def _waiter(left):
    def wait():
        me = _me()
        while len(me.groups) > left:
            for shared, to, source, at, count, some in me.groups.pop(0):
                for i in range(some):
                    shared[to + i] = source[at + i] if i < count else 0

    return wait


wait2, wait0 = map(_waiter, (2, 0))


# --------------------------------------------------------------------------------------- tensor cores


def _multiply(kind, *operands):
    me = _me()
    me.operands = kind, operands
    me.wait("tensor")
    return me.product


def multiply_tf32(*operands):
    return _multiply("tf32", *operands)


def multiply_bf16(*operands):
    return _multiply("bf16", *operands)


class Machine:
    """Runner of kernels; ``modules`` use ``cuda``, ``replaced`` lists other functions (module, name, function)."""

    def __init__(self, modules, replaced=()):
        self.modules, self.replaced = modules, replaced

    def run(self, kernel, grid, dim, args, names=None):
        """Run kernel[grid, dim](*args) on NumPy arrays."""
        grid, dim = (tuple(np.atleast_1d(x).tolist()) for x in (grid, dim))
        grid, dim = grid + (1,) * (3 - len(grid)), dim + (1,) * (3 - len(dim))
        module = _Module(grid, dim)
        watched = [
            Watched(a, names[i] if names else f"argument {i}") if isinstance(a, np.ndarray) else a
            for i, a in enumerate(args)
        ]
        with self._as_python(module, type(kernel)):
            self._run(_plain(kernel), watched, grid, dim)

    def _run(self, function, args, grid, dim):
        def body():
            function(*args)

        with np.errstate(all="ignore"):  # GPUs do not warn about floating-point exceptions
            quiet = contextvars.copy_context()
        alive, blocks, counted = [], [], {}
        for number, place in enumerate(np.ndindex(*grid[::-1])):
            block = SimpleNamespace(
                number=number,
                blockIdx=SimpleNamespace(**dict(zip("xyz", place[::-1], strict=True))),
                arrays={},
                counted=counted,
            )
            block.threads = [_Thread(block, at[::-1], dim) for at in np.ndindex(*dim[::-1])]
            blocks.append(block)
            for thread in block.threads:
                run = greenlet(body)
                run.thread, run.gr_context = thread, quiet.copy()
                alive.append(run)
        while alive:
            for run in alive:
                if run.thread.waits_for is None:
                    _running.thread = run.thread
                    run.switch()
            alive = [run for run in alive if not run.dead]
            ended = sum(len(block.threads) for block in blocks) - len(alive)
            if not self._release([run.thread for run in alive], ended):
                waiting = {str(run.thread): run.thread.waits_for for run in alive}
                raise AssertionError(f"{ended} threads have ended and these wait forever: {waiting}")

    @staticmethod
    def _release(threads, ended):
        """Resume the threads whose barrier is complete, and return whether there were any or all have ended."""
        groups = {}
        for thread in threads:
            groups.setdefault(("warp", thread.block.number, thread.number // WARP), []).append(thread)
            groups.setdefault(("block", thread.block.number, 0), []).append(thread)
        if threads:
            groups["grid", 0, 0] = threads
        gone = not threads
        for (kind, *_), members in groups.items():
            full = len(members[0].block.threads)
            if kind == "block" and len(members) < full or kind == "grid" and ended:
                continue
            if kind == "warp" and all(thread.waits_for == "tensor" for thread in members):
                of_warp(members)
                for thread in members:
                    thread.waits_for = None
                gone = True
            if all(thread.waits_for == kind for thread in members):
                gone = True
                knows = {}
                if kind == "block":  # a block barrier shares the knowledge of all threads
                    for thread in members:
                        knows = _later(knows, thread.knows)
                for thread in members:
                    thread.knows = knows or thread.knows
                    thread.pass_barrier(kind)
        return gone

    @contextlib.contextmanager
    def _as_python(self, module, kind):
        calls, old = (kind.__call__, Number.__call__), [vars(one)["cuda"] for one in self.modules]
        # Properties avoid extra calls, which take half of the run time.
        kind.__call__ = property(operator.attrgetter("py_func"))
        Number.__call__ = property(lambda self: getattr(np, self.name))
        functions = [vars(one).get(name) for one, name, _ in self.replaced]
        for one in self.modules:
            one.cuda = module
        for one, name, other in self.replaced:
            setattr(one, name, other)
        try:
            yield
        finally:
            kind.__call__, Number.__call__ = calls
            for (one, name, _), what in zip(self.replaced, functions, strict=True):
                setattr(one, name, what)
            for one, what in zip(self.modules, old, strict=True):
                one.cuda = what


def _plain(function):
    return getattr(function, "py_func", function)
