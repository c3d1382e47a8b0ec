# The frozen forward pass of `fastmlp.Predictor`: its steps, and the checks of a call's arrays.

import numpy as np

cdef enum:
    BLOCK_BYTES = 262144     # of a block's two buffers: about a quarter of a common L2
    MOST_BLOCK_ROWS = 192
    TILE_MULTIPLE = 12       # rows of a block: a multiple of the rows of all tiles

cdef double KEEP_GIL = 4e4       # multiply-adds of a call below which the GIL stays: about as long as handing it over
cdef double SHARED_ROW = 5e4     # multiply-adds of one row from which on threads share it
cdef double SHARED_WORK = 1e6    # of all rows, for each thread: some ten microseconds, as long as waking one


cdef class Plan:
    """Forward pass of a frozen MLP.

    Parameters
    ----------
    inputs : int
        Columns of x.
    dtype : numpy.dtype
        float32 or float64.
    lanes : int
        Numbers in a vector.
    linear, convert : int
        Addresses of `cpu.inference.linear` and `convert_bytes`.
    steps : sequence of tuple
        ``("linear", inputs, width, weight in panels, bias, lowest, activation, alpha)``, ``("binned", dense inputs,
        width, weight in panels, bias, address of `cpu.inference.binned_rows`, bins, rows)``, ``("activation", width,
        activation, alpha)`` or ``("row", width, function, first, second, number)``, whose widths fit each other.
        Activations and functions of a row are addresses, an activation of 0 is none. Arrays are flat, padded to whole
        panels of columns, and copied.
    threads : int
        Most threads that share a call of many rows.
    row_threads : int
        Most threads that share a single row.
    """

    cdef Net net
    cdef readonly object dtype
    cdef int typenum
    cdef list arrays
    cdef public Py_ssize_t threads, row_threads
    cdef Py_ssize_t *firsts

    def __cinit__(self, Py_ssize_t inputs, dtype, Py_ssize_t lanes, linear, convert, steps, Py_ssize_t threads=1,
                  Py_ssize_t row_threads=1):
        self.dtype = np.dtype(dtype)
        self.typenum = cnp.NPY_FLOAT64 if self.dtype == np.float64 else cnp.NPY_FLOAT32
        self.arrays = []
        self.threads, self.row_threads = threads, row_threads
        self.net.size, self.net.lanes = self.dtype.itemsize, lanes
        self.net.linear, self.net.convert = <linear_t> <uintptr_t> linear, <convert_t> <uintptr_t> convert
        self.net.steps = <Step *> malloc(max(1, len(steps)) * sizeof(Step))
        self.firsts = <Py_ssize_t *> malloc((len(steps) + 1) * sizeof(Py_ssize_t))
        if self.net.steps == NULL or self.firsts == NULL:
            raise MemoryError()
        self.net.inputs = self.net.outputs = inputs
        self.net.stride = _round_up(inputs, 2 * lanes)
        self.firsts[0] = 0
        for step in steps:
            self._add(step)
        cdef Py_ssize_t room = BLOCK_BYTES // (2 * self.net.stride * self.net.size)
        self.net.block = max(1, min(MOST_BLOCK_ROWS, room) // TILE_MULTIPLE) * TILE_MULTIPLE

    def __dealloc__(self):
        free(self.net.steps)
        free(self.firsts)

    cdef const char *_keep(self, array):
        """Return the address of an aligned copy of an array, which lives as long as the plan."""
        raw = np.empty(array.nbytes + 64, np.uint8)
        start = -raw.ctypes.data % 64
        place = raw[start : start + array.nbytes].view(self.dtype)
        place[...] = array
        self.arrays.append(place)
        return <const char *> cnp.PyArray_DATA(place)

    cdef int _add(self, tuple described) except -1:
        cdef Step *step = &self.net.steps[self.net.count]
        cdef Py_ssize_t chunks = 1
        step.inputs = self.net.outputs
        step.number, step.lowest, step.activation, step.function = 0.0, 0.0, NULL, NULL
        kind = described[0]
        if kind == "linear":
            step.kind = LINEAR
            _, step.inputs, step.width, weight, bias, step.lowest, address, step.number = described
            step.activation = <activation_t> <uintptr_t> address
            step.first, step.second = self._keep(weight), self._keep(bias)
            self.net.work += <double> step.width * step.inputs
            chunks = _round_up(step.width, 2 * PANELS_AT_ONCE * self.net.lanes) // (2 * PANELS_AT_ONCE * self.net.lanes)
        elif kind == "binned":
            step.kind, step.lowest = BINNED, -np.inf
            _, step.inputs, step.width, weight, bias, address, bins, rows = described
            step.binned, step.coded = <binned_t> <uintptr_t> address, len(bins)
            step.first, step.second, step.rows = self._keep(weight), self._keep(bias), self._keep(rows)
            self.arrays.append(np.array(bins, np.int64))
            step.bins = <const int64_t *> cnp.PyArray_DATA(<cnp.ndarray> self.arrays[len(self.arrays) - 1])
            self.net.work += <double> step.width * (step.inputs + 2 * step.coded)
        elif kind == "activation":
            step.kind = ACTIVATION
            _, step.width, address, step.number = described
            step.activation = <activation_t> <uintptr_t> address
        else:
            step.kind = ROW
            _, step.width, address, first, second, step.number = described
            step.function = <row_t> <uintptr_t> address
            step.first, step.second = self._keep(first), self._keep(second)
        self.net.outputs = step.width
        self.net.stride = max(self.net.stride, _round_up(step.width, 2 * self.net.lanes))
        self.net.count += 1
        self.firsts[self.net.count] = self.firsts[self.net.count - 1] + chunks
        return 0

    def __call__(self, x, out=None):
        """Return the outputs (N, O) for x (N, I), or None if x or out are not arrays that can be read or written as they are.

        Taken are arrays of the plan's dtype or uint8, of any strides, in native byte order; out has to be contiguous
        and apart from x.
        """
        cdef cnp.ndarray array, result
        cdef int kind
        cdef cnp.npy_intp shape[2]
        if type(x) is not np.ndarray:
            return None
        array = x
        kind = cnp.PyArray_TYPE(array)
        if not self._reads(array, kind):
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
                    or not cnp.PyArray_ISCARRAY(result) or np.may_share_memory(array, result)):
                return None
        self._compute(array, kind, <char *> cnp.PyArray_DATA(result))
        return result

    cdef bint _reads(self, cnp.ndarray array, int kind):
        """Whether the plan reads an array as it is: the shape, the dtype, the byte order and the alignment."""
        if cnp.PyArray_NDIM(array) != 2 or cnp.PyArray_DIM(array, 1) != self.net.inputs:
            return False
        if (kind != self.typenum and kind != cnp.NPY_UINT8) or not cnp.PyArray_ISNOTSWAPPED(array):
            return False
        return kind != self.typenum or not <uintptr_t> cnp.PyArray_DATA(array) % self.net.size

    cdef int _compute(self, cnp.ndarray array, int kind, char *out) except -1:
        """Write the outputs (N, O) for an array that has been checked."""
        cdef Job job
        cdef void *memory = NULL
        cdef Py_ssize_t threads
        if cnp.PyArray_DIM(array, 0) == 0:
            return 0
        job.net = &self.net
        job.x = <const char *> cnp.PyArray_DATA(array)
        job.row_bytes, job.column_bytes = cnp.PyArray_STRIDE(array, 0), cnp.PyArray_STRIDE(array, 1)
        job.as_bytes = kind == cnp.NPY_UINT8
        job.out = out
        job.rows = cnp.PyArray_DIM(array, 0)
        job.next = job.done = job.failed = 0
        job.firsts = self.firsts
        job.by_panels = job.rows == 1 and self.row_threads > 1 and self.net.work >= SHARED_ROW
        if job.by_panels:
            threads = self.row_threads
            job.chunks = self.firsts[self.net.count]
            memory = malloc(2 * self.net.stride * self.net.size + 64)
            if memory == NULL:
                raise MemoryError()
            job.buffers = _aligned(memory)
        else:
            threads = min(self.threads, 1 + <Py_ssize_t> (self.net.work * <double> job.rows / SHARED_WORK))
            job.chunks = (job.rows + self.net.block - 1) // self.net.block
        try:
            if job.by_panels:
                _gather(&job, 0, job.buffers)
            _run(&job, threads, self.net.work * job.rows < KEEP_GIL)
            if job.by_panels:
                memcpy(
                    job.out, _buffer_after(&self.net, self.net.count, job.buffers), self.net.outputs * self.net.size)
        finally:
            free(memory)
        return 0


def mean_of(list plans, x):
    """Return the mean outputs (N, O) of plans of the same widths for x (N, I), float64, in the order of the plans.

    x is as in `Plan.__call__`; the result is None for an array that the plans cannot read.
    """
    cdef Plan plan = plans[0]
    cdef cnp.npy_intp shape[2]
    cdef cnp.ndarray array, some, result
    cdef Py_ssize_t i, k, size, count = len(plans)
    cdef double *total
    if type(x) is not np.ndarray:
        return None
    array = x
    cdef int kind = cnp.PyArray_TYPE(array)
    if not plan._reads(array, kind):
        return None
    shape[0], shape[1] = cnp.PyArray_DIM(array, 0), plan.net.outputs
    size = shape[0] * shape[1]
    some = cnp.PyArray_EMPTY(2, shape, plan.typenum, 0)
    result = cnp.PyArray_ZEROS(2, shape, cnp.NPY_FLOAT64, 0)
    total = <double *> cnp.PyArray_DATA(result)
    for k in range(count):
        plan = plans[k]
        plan._compute(array, kind, <char *> cnp.PyArray_DATA(some))
        if plan.typenum == cnp.NPY_FLOAT64:
            for i in range(size):
                total[i] += (<double *> cnp.PyArray_DATA(some))[i]
        else:
            for i in range(size):
                total[i] += (<float *> cnp.PyArray_DATA(some))[i]
    for i in range(size):
        total[i] /= count
    return result
