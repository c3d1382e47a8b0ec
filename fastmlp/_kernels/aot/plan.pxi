# The forward pass of a frozen MLP, for one instruction set: included by the extension modules, which differ in the
# compiler's flags alone.
#
# A `Plan` is a list of steps over one row-major buffer of activations per block of rows. Weights are in column
# panels. Blocks of rows are independent, so threads take them from a counter; with a single row they take groups of
# panels instead, layer after layer.

from libc.math cimport INFINITY
from libc.stdint cimport uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

cimport numpy as cnp

import os
import threading

import numpy as np

cnp.import_array()

cdef extern from "kernels.h" nogil:
    const int F32_LANES, F64_LANES, TILE_ROWS, HAS_TEAM
    const char *INSTRUCTIONS
    int IDENTITY, RELU
    const char *ACTIVATIONS
    const char *COLUMNS
    const char *best_instructions()
    uint64_t flush_to_zero()
    void restore_flushing(uint64_t)
    void wait_a_little(Py_ssize_t)
    Py_ssize_t atomic_get(Py_ssize_t *)
    void atomic_set(Py_ssize_t *, Py_ssize_t)
    Py_ssize_t atomic_add(Py_ssize_t *, Py_ssize_t)
    int atomic_swap(Py_ssize_t *, Py_ssize_t, Py_ssize_t)
    void f32_panel(int, Py_ssize_t, Py_ssize_t, const float *, Py_ssize_t, const float *, const float *, float, float *,
                   Py_ssize_t)
    void f64_panel(int, Py_ssize_t, Py_ssize_t, const double *, Py_ssize_t, const double *, const double *, double, double *,
                   Py_ssize_t)
    void f32_row(Py_ssize_t, Py_ssize_t, Py_ssize_t, int, Py_ssize_t, const float *, const float *, const float *, float,
                 float *)
    void f64_row(Py_ssize_t, Py_ssize_t, Py_ssize_t, int, Py_ssize_t, const double *, const double *, const double *, double,
                 double *)
    void f32_activate(int, float, float *, Py_ssize_t)
    void f64_activate(int, double, double *, Py_ssize_t)
    void f32_softmax(float *, Py_ssize_t, Py_ssize_t)
    void f64_softmax(double *, Py_ssize_t, Py_ssize_t)
    void f32_layer_norm(float *, Py_ssize_t, Py_ssize_t, const float *, const float *, float)
    void f64_layer_norm(double *, Py_ssize_t, Py_ssize_t, const double *, const double *, double)
    void f32_normalize(float *, Py_ssize_t, const float *, const float *)
    void f64_normalize(double *, Py_ssize_t, const double *, const double *)
    void f32_by_column(int, float *, Py_ssize_t, const float *, const float *)
    void f64_by_column(int, double *, Py_ssize_t, const double *, const double *)
    void f32_gather(const char *, Py_ssize_t, int, Py_ssize_t, float *)
    void f64_gather(const char *, Py_ssize_t, int, Py_ssize_t, double *)

ctypedef fused real:
    float
    double

cdef enum:
    LINEAR = 0
    ACTIVATION = 1
    LAYER_NORM = 2
    SOFTMAX = 3
    NORMALIZE = 4
    BY_COLUMN = 5

    MOST_STEPS = 4096
    MOST_THREADS = 64
    PANELS_AT_ONCE = 4       # of a row's layer, for one thread: as many as `row` computes together
    BLOCK_BYTES = 262144     # of a block's two buffers: about a quarter of a common L2
    MOST_BLOCK_ROWS = 192
    SPINS = 4096             # looks for work, each some tens of nanoseconds, before a thread sleeps

cdef double KEEP_GIL = 4e4       # multiply-adds of a call below which the GIL stays: about as long as handing it over
cdef double SHARED_ROW = 5e4     # multiply-adds of one row from which on threads share it
cdef double SHARED_WORK = 1e6    # of all rows, for each thread: some ten microseconds, as long as waking one

cdef struct Step:
    int kind
    int activation      # or the function by column
    int vectors         # of the last panel
    Py_ssize_t width    # columns that come out
    Py_ssize_t inputs   # columns that go in
    Py_ssize_t panels
    double number       # alpha, or eps
    const char *first   # weight panels; LayerNorm's weight; Normalize's mean; the first number of each column
    const char *second  # bias; bias; scale; the second

cdef struct Net:
    Step *steps
    Py_ssize_t count
    Py_ssize_t inputs, outputs
    Py_ssize_t stride   # of the buffers: the widest step, padded to panels
    Py_ssize_t block    # rows
    int is_double
    double work         # multiply-adds of a row

# One call's work. `next` and `done` count chunks: blocks of rows, or for a single row groups of panels, of which
# `firsts[i]` come before step i.
cdef struct Job:
    const Net *net
    const char *x
    Py_ssize_t row_bytes, column_bytes
    int as_bytes
    char *out
    Py_ssize_t rows
    int by_panels
    char *buffers       # of the single row, which the threads share
    Py_ssize_t chunks
    Py_ssize_t *firsts
    Py_ssize_t next, done, failed


cdef inline Py_ssize_t _padded(const Net *net, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t panel = 2 * (F64_LANES if net.is_double else F32_LANES)
    return (width + panel - 1) // panel * panel


cdef inline void _linear(const Step *step, Py_ssize_t first, Py_ssize_t last, Py_ssize_t rows, const real *a,
                         Py_ssize_t lda, real *c, Py_ssize_t stride) noexcept nogil:
    """c (rows, panels first to last) = h(a W + b)."""
    cdef const real *weight = <const real *>step.first
    cdef const real *bias = <const real *>step.second
    cdef Py_ssize_t lanes = F32_LANES if real is float else F64_LANES
    cdef Py_ssize_t width = 2 * lanes, k = step.inputs, p, r, vectors, columns
    cdef real lowest = 0 if step.activation == RELU else -INFINITY
    if rows == 1:
        if real is float:
            f32_row(first, last, step.panels, step.vectors, k, a, weight, bias, lowest, c)
        else:
            f64_row(first, last, step.panels, step.vectors, k, a, weight, bias, lowest, c)
    else:
        for p in range(first, last):
            vectors = step.vectors if p == step.panels - 1 else 2
            if real is float:
                f32_panel(vectors, rows, k, a, lda, weight + p * width * k, bias + p * width, lowest, c + p * width,
                          stride)
            else:
                f64_panel(vectors, rows, k, a, lda, weight + p * width * k, bias + p * width, lowest, c + p * width,
                          stride)
    if step.activation != IDENTITY and step.activation != RELU:
        columns = (last - first) * width
        if last == step.panels and step.vectors == 1:
            columns -= lanes
        for r in range(rows):
            _activate(step, c + r * stride + first * width, columns)


cdef inline void _activate(const Step *step, real *a, Py_ssize_t count) noexcept nogil:
    if real is float:
        f32_activate(step.activation, <float>step.number, a, count)
    else:
        f64_activate(step.activation, step.number, a, count)


cdef inline void _by_row(const Step *step, const Net *net, Py_ssize_t rows, real *a) noexcept nogil:
    """A step other than Linear, in place."""
    cdef Py_ssize_t lanes = F32_LANES if real is float else F64_LANES
    # Whole vectors suffice: the second one of a narrow last panel holds nothing.
    cdef Py_ssize_t r, padded = (step.width + lanes - 1) // lanes * lanes
    cdef real *row
    for r in range(rows):
        row = a + r * net.stride
        if step.kind == ACTIVATION:
            _activate(step, row, padded)
        elif step.kind == SOFTMAX:
            if real is float:
                f32_softmax(row, step.width, padded)
            else:
                f64_softmax(row, step.width, padded)
        elif step.kind == LAYER_NORM:
            if real is float:
                f32_layer_norm(row, step.width, padded, <const float *>step.first, <const float *>step.second,
                               <float>step.number)
            else:
                f64_layer_norm(row, step.width, padded, <const double *>step.first, <const double *>step.second,
                               step.number)
        elif step.kind == BY_COLUMN:
            if real is float:
                f32_by_column(step.activation, row, padded, <const float *>step.first, <const float *>step.second)
            else:
                f64_by_column(step.activation, row, padded, <const double *>step.first, <const double *>step.second)
        else:
            if real is float:
                f32_normalize(row, padded, <const float *>step.first, <const float *>step.second)
            else:
                f64_normalize(row, padded, <const double *>step.first, <const double *>step.second)


cdef inline const real *_source(const Job *job, Py_ssize_t start, Py_ssize_t rows, real *buffer,
                                Py_ssize_t *lda) noexcept nogil:
    """Rows of x as the first step takes them: in place where that is a Linear, in a buffer otherwise."""
    cdef const Net *net = job.net
    cdef const char *x = job.x + start * job.row_bytes
    cdef Py_ssize_t r
    # At 0 rows or steps nothing is read; a Linear reads rows of any distance whose columns are neighbours.
    if net.count and net.steps[0].kind == LINEAR and not job.as_bytes and job.column_bytes == sizeof(real):
        if rows == 1 or job.row_bytes % <Py_ssize_t>sizeof(real) == 0:
            lda[0] = job.row_bytes // <Py_ssize_t>sizeof(real)
            return <const real *>x
    for r in range(rows):
        if real is float:
            f32_gather(x + r * job.row_bytes, job.column_bytes, job.as_bytes, net.inputs, buffer + r * net.stride)
        else:
            f64_gather(x + r * job.row_bytes, job.column_bytes, job.as_bytes, net.inputs, buffer + r * net.stride)
    lda[0] = net.stride
    return buffer


cdef void _rows(const Job *job, Py_ssize_t start, Py_ssize_t rows, real *buffer) noexcept nogil:
    """Some rows through all steps; ``buffer`` has room for twice as many."""
    cdef const Net *net = job.net
    cdef real *other = buffer + rows * net.stride
    cdef Py_ssize_t lda = net.stride, i, r
    cdef const real *a = _source(job, start, rows, buffer, &lda)
    cdef real *target
    cdef real *out = <real *>job.out + start * net.outputs
    cdef const Step *step
    for i in range(net.count):
        step = &net.steps[i]
        if step.kind == LINEAR:
            target = other if a == buffer else buffer
            _linear(step, 0, step.panels, rows, a, lda, target, net.stride)
            a, lda = target, net.stride
        else:  # a Linear or `_source` has put the row into a buffer
            _by_row(step, net, rows, <real *>a)
    for r in range(rows):
        memcpy(out + r * net.outputs, a + r * lda, net.outputs * sizeof(real))


cdef void _panels(Job *job, Py_ssize_t chunk) noexcept nogil:
    """One chunk of the single row, once the steps before it are done."""
    cdef const Net *net = job.net
    cdef Py_ssize_t i = 0, turn = 0
    while chunk >= job.firsts[i + 1]:
        i += 1
    while atomic_get(&job.done) < job.firsts[i]:
        wait_a_little(turn)
        turn += 1
    if net.is_double:
        _panel_chunk[double](job, i, chunk - job.firsts[i], <double *>job.buffers)
    else:
        _panel_chunk[float](job, i, chunk - job.firsts[i], <float *>job.buffers)


cdef void _panel_chunk(Job *job, Py_ssize_t i, Py_ssize_t part, real *buffer) noexcept nogil:
    cdef const Net *net = job.net
    cdef const Step *step = &net.steps[i]
    cdef real *other = buffer + net.stride
    cdef Py_ssize_t linears = 0, j, lda = net.stride, first = part * PANELS_AT_ONCE
    # Which buffer holds the row follows from the Linears so far.
    for j in range(i):
        linears += net.steps[j].kind == LINEAR
    cdef real *a = buffer if linears % 2 == 0 else other
    if step.kind == LINEAR:
        _linear(step, first, min(step.panels, first + PANELS_AT_ONCE), 1, a, lda,
                other if a == buffer else buffer, net.stride)
    else:
        _by_row(step, net, 1, a)


cdef void _work(Job *job) noexcept nogil:
    """Take chunks until none is left."""
    cdef Py_ssize_t chunk, block = job.net.block
    cdef uint64_t before = flush_to_zero()
    cdef size_t size = sizeof(double) if job.net.is_double else sizeof(float)
    cdef void *memory = NULL
    cdef char *buffer = NULL
    while True:
        chunk = atomic_add(&job.next, 1)
        if chunk >= job.chunks:
            break
        if job.by_panels:
            _panels(job, chunk)
        else:
            if memory == NULL:
                memory = malloc(2 * min(block, job.rows) * job.net.stride * size + 64)
                if memory == NULL:
                    atomic_set(&job.failed, 1)
                    atomic_add(&job.done, 1)
                    continue
                buffer = <char *>((<uintptr_t>memory + 63) // 64 * 64)
            if job.net.is_double:
                _rows[double](job, chunk * block, min(block, job.rows - chunk * block), <double *>buffer)
            else:
                _rows[float](job, chunk * block, min(block, job.rows - chunk * block), <float *>buffer)
        atomic_add(&job.done, 1)
    free(memory)
    restore_flushing(before)


# ------------------------------------------------------------------------------------------ the team
# Threads that help: one team for the process, used by one call at a time (others then compute alone). A helper
# looks at the posted job for a while after the last one, then sleeps on its lock.

cdef enum:
    ASLEEP = 0
    AWAKE = 1

cdef Py_ssize_t _owned = 0
cdef Py_ssize_t _active = 0
cdef Py_ssize_t _job = 0     # the address of the posted job
cdef Py_ssize_t _states[64]
_locks = []


cdef void _help(Py_ssize_t index) noexcept nogil:
    """Work on posted jobs; return when there was none for a while."""
    cdef Py_ssize_t looks = 0
    cdef Job *job
    while True:
        atomic_add(&_active, 1)  # from here until it is taken back, the owner waits
        job = <Job *>atomic_get(&_job)
        if job != NULL and atomic_get(&job.next) < job.chunks:
            _work(job)
            looks = 0
        atomic_add(&_active, -1)
        looks += 1
        if looks > SPINS:
            atomic_set(&_states[index], ASLEEP)
            # A job posted before this thread was seen asleep is not missed.
            if atomic_get(&_job) == 0 or not atomic_swap(&_states[index], ASLEEP, AWAKE):
                return
            looks = 0
        wait_a_little(looks)


def _serve(Py_ssize_t index, lock):
    while True:
        lock.acquire()
        with nogil:
            _help(index)


cdef int _wake(Py_ssize_t helpers) except -1:
    """Have so many helpers awake, made when first needed."""
    cdef Py_ssize_t i
    while len(_locks) < helpers:
        lock = threading.Lock()
        lock.acquire()
        i = len(_locks)
        _states[i] = ASLEEP
        threading.Thread(target=_serve, args=(i, lock), name=f"fastmlp-predict-{i}", daemon=True).start()
        _locks.append(lock)
    for i in range(helpers):
        if atomic_swap(&_states[i], ASLEEP, AWAKE):
            _locks[i].release()
    return 0


def _after_fork():
    """The child has none of the threads."""
    global _owned, _active, _job
    _locks.clear()
    _owned = _active = _job = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


cdef int _run(Job *job, Py_ssize_t threads, bint keep_gil) except -1:
    cdef Py_ssize_t helpers = min(threads, job.chunks, MOST_THREADS) - 1, turn = 0
    if not HAS_TEAM or helpers < 1 or not atomic_swap(&_owned, 0, 1):
        if keep_gil:
            _work(job)
        else:
            with nogil:
                _work(job)
    else:
        atomic_set(&_job, <Py_ssize_t>job)
        try:
            _wake(helpers)
        except RuntimeError:  # no more threads are to be had: the work is done here
            pass
        finally:  # after Ctrl-C too: helpers may hold the job, which is gone when this returns
            with nogil:
                _work(job)
                while atomic_get(&job.done) < job.chunks:
                    wait_a_little(turn)
                    turn += 1
                atomic_set(&_job, 0)
                while atomic_get(&_active):
                    wait_a_little(turn)
                    turn += 1
                atomic_set(&_owned, 0)
    if job.failed:
        raise MemoryError("Not enough memory for the activations of a block of rows.")
    return 0


# ------------------------------------------------------------------------------------------ the plan


cdef class Plan:
    """The frozen forward pass.

    Parameters
    ----------
    inputs : int
        Columns of x.
    dtype : numpy.dtype
        float32 or float64.
    steps : list of tuple
        ``("linear", weight (O, I), bias (O,) or None, activation code, alpha)``, ``("activation", width, code,
        alpha)``, ``("columns", width, code, first, second or None)``, ``("layer_norm", width, weight or None, bias or None, eps)``, ``("softmax", width)`` and
        ``("normalize", mean, scale)``, whose shapes fit each other; arrays are copied.
    threads : int
        How many may share a call of many rows.
    row_threads : int
        How many may share a single row.
    """

    cdef Net net
    cdef readonly object dtype
    cdef int typenum
    cdef object arrays
    cdef public Py_ssize_t threads, row_threads
    cdef Py_ssize_t *firsts

    def __cinit__(self, Py_ssize_t inputs, dtype, steps, Py_ssize_t threads=1, Py_ssize_t row_threads=1):
        self.dtype = np.dtype(dtype)
        self.typenum = cnp.NPY_FLOAT64 if self.dtype == np.float64 else cnp.NPY_FLOAT32
        self.net.is_double = self.dtype == np.float64
        self.arrays = []
        self.threads, self.row_threads = threads, row_threads
        if len(steps) > MOST_STEPS:
            raise ValueError(f"The model has {len(steps)} steps; expected at most {MOST_STEPS}.")
        self.net.steps = <Step *>malloc(max(1, len(steps)) * sizeof(Step))
        self.firsts = <Py_ssize_t *>malloc((len(steps) + 1) * sizeof(Py_ssize_t))
        if self.net.steps == NULL or self.firsts == NULL:
            raise MemoryError()
        self.net.inputs = self.net.outputs = inputs
        self.net.stride = _padded(&self.net, inputs)
        self.firsts[0] = 0
        for step in steps:
            self._add(step)
        cdef Py_ssize_t room = BLOCK_BYTES // (2 * self.net.stride * self.dtype.itemsize)
        self.net.block = max(1, min(MOST_BLOCK_ROWS, room) // TILE_ROWS) * TILE_ROWS

    def __dealloc__(self):
        free(self.net.steps)
        free(self.firsts)

    cdef const char *_keep(self, array):
        """The array's numbers, aligned and kept as long as the plan."""
        flat = np.ascontiguousarray(array, self.dtype).reshape(-1)
        raw = np.empty(flat.nbytes + 64, np.uint8)
        start = -raw.ctypes.data % 64
        place = raw[start : start + flat.nbytes].view(self.dtype)
        place[...] = flat
        self.arrays.append(place)
        return <const char *>cnp.PyArray_DATA(place)

    def _vector(self, values, Py_ssize_t width, fill):
        """``values`` padded to whole panels."""
        padded = np.full(_padded(&self.net, width), fill, self.dtype)
        if values is not None:
            padded[:width] = values
        return padded

    cdef int _add(self, tuple described) except -1:
        cdef Step *step = &self.net.steps[self.net.count]
        cdef Py_ssize_t lanes = F64_LANES if self.net.is_double else F32_LANES, chunks = 1
        kind = described[0]
        step.activation, step.number, step.panels, step.inputs = IDENTITY, 0.0, 0, self.net.outputs
        step.width = self.net.outputs
        if kind == "linear":
            _, weight, bias, step.activation, step.number = described
            step.kind, step.width, step.inputs = LINEAR, weight.shape[0], weight.shape[1]
            panel, width = 2 * lanes, _padded(&self.net, step.width)
            step.panels = width // panel
            step.vectors = 1 if step.width <= width - lanes else 2
            columns = np.zeros((step.inputs, width), self.dtype)
            columns[:, : step.width] = weight.T
            parts = [columns[:, p * panel : (p + 1) * panel].ravel() for p in range(step.panels)]
            if step.vectors == 1:  # of one vector the last panel is as wide
                parts[len(parts) - 1] = columns[:, width - panel : width - lanes].ravel()
            step.first = self._keep(np.concatenate(parts))
            step.second = self._keep(self._vector(bias, step.width, 0))
            self.net.work += <double>step.width * step.inputs
            chunks = (step.panels + PANELS_AT_ONCE - 1) // PANELS_AT_ONCE
        elif kind == "activation":
            step.kind = ACTIVATION
            _, step.width, step.activation, step.number = described
        elif kind == "layer_norm":
            step.kind = LAYER_NORM
            _, step.width, weight, bias, step.number = described
            step.first = self._keep(self._vector(1 if weight is None else weight, step.width, 0))
            step.second = self._keep(self._vector(bias, step.width, 0))
        elif kind == "softmax":
            step.kind = SOFTMAX
            step.width = described[1]
        elif kind == "normalize":
            step.kind = NORMALIZE
            step.width = len(described[1])
            step.first = self._keep(self._vector(described[1], step.width, 0))
            step.second = self._keep(self._vector(described[2], step.width, 1))
        elif kind == "columns":
            step.kind = BY_COLUMN
            _, step.width, step.activation, first, second = described
            step.first = self._keep(self._vector(first, step.width, 0))
            step.second = self._keep(self._vector(second, step.width, 0))
        else:
            raise ValueError(f"There is no step {kind!r}.")
        self.net.outputs = step.width
        self.net.stride = max(self.net.stride, _padded(&self.net, step.width))
        self.net.count += 1
        self.firsts[self.net.count] = self.firsts[self.net.count - 1] + chunks
        return 0

    def __call__(self, x, out=None):
        """Outputs (N, O) for x (N, I), or None if x or out are not arrays that can be read or written as they are.

        Taken are arrays of the plan's dtype or uint8, of any strides, in native byte order; out has to be contiguous
        and apart from x.
        """
        cdef cnp.ndarray array, result
        cdef int kind
        cdef cnp.npy_intp shape[2]
        cdef Job job
        cdef void *memory = NULL
        cdef Py_ssize_t threads
        if type(x) is not np.ndarray:
            return None
        array = x
        kind = cnp.PyArray_TYPE(array)
        if cnp.PyArray_NDIM(array) != 2 or cnp.PyArray_DIM(array, 1) != self.net.inputs:
            return None
        if (kind != self.typenum and kind != cnp.NPY_UINT8) or not cnp.PyArray_ISNOTSWAPPED(array):
            return None
        if kind == self.typenum and <uintptr_t>cnp.PyArray_DATA(array) % self.dtype.alignment:
            return None
        shape[0], shape[1] = cnp.PyArray_DIM(array, 0), self.net.outputs
        if out is None:
            result = cnp.PyArray_EMPTY(2, shape, self.typenum, 0)
        else:
            if type(out) is not np.ndarray:
                return None
            result = out
            if (cnp.PyArray_NDIM(result) != 2 or cnp.PyArray_TYPE(result) != self.typenum
                    or cnp.PyArray_DIM(result, 0) != shape[0] or cnp.PyArray_DIM(result, 1) != shape[1]
                    or not cnp.PyArray_ISCARRAY(result) or _overlap(array, result)):
                return None
        if shape[0] == 0:
            return result
        job.net = &self.net
        job.x = <const char *>cnp.PyArray_DATA(array)
        job.row_bytes, job.column_bytes = cnp.PyArray_STRIDE(array, 0), cnp.PyArray_STRIDE(array, 1)
        job.as_bytes = kind == cnp.NPY_UINT8
        job.out = <char *>cnp.PyArray_DATA(result)
        job.rows = shape[0]
        job.next = job.done = job.failed = 0
        job.firsts = self.firsts
        job.by_panels = job.rows == 1 and self.row_threads > 1 and self.net.work >= SHARED_ROW
        if job.by_panels:
            threads = self.row_threads
            job.chunks = self.firsts[self.net.count]
            memory = malloc(2 * self.net.stride * self.dtype.itemsize + 64)
            if memory == NULL:
                raise MemoryError()
            job.buffers = <char *>((<uintptr_t>memory + 63) // 64 * 64)
        else:
            threads = min(self.threads, 1 + <Py_ssize_t>(self.net.work * <double>job.rows / SHARED_WORK))
            job.chunks = (job.rows + self.net.block - 1) // self.net.block
        try:
            if job.by_panels:
                self._gather(&job)
            _run(&job, threads, self.net.work * job.rows < KEEP_GIL)
            if job.by_panels:
                self._scatter(&job)
        finally:
            free(memory)
        return result

    cdef void _gather(self, Job *job) noexcept:
        if self.net.is_double:
            f64_gather(job.x, job.column_bytes, job.as_bytes, self.net.inputs, <double *>job.buffers)
        else:
            f32_gather(job.x, job.column_bytes, job.as_bytes, self.net.inputs, <float *>job.buffers)

    cdef void _scatter(self, Job *job) noexcept:
        cdef Py_ssize_t linears = 0, i
        cdef size_t size = self.dtype.itemsize
        for i in range(self.net.count):
            linears += self.net.steps[i].kind == LINEAR
        memcpy(job.out, job.buffers + (linears % 2) * self.net.stride * size, self.net.outputs * size)


cdef bint _overlap(cnp.ndarray x, cnp.ndarray out) except -1:
    """Whether out may be written over what is still to be read."""
    return np.may_share_memory(x, out)


def instructions():
    """What this module was compiled for."""
    return INSTRUCTIONS.decode()


def activations():
    """The names of the activations, whose places are their codes."""
    return tuple(ACTIVATIONS.decode().split())


def columns():
    """The names of the functions by column, whose places are their codes."""
    return tuple(COLUMNS.decode().split())


def best():
    """The name of the extension module that fits this processor best."""
    return best_instructions().decode()
