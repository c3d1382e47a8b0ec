# A training step on one batch without Python code between the call and the kernel; see `engine.prepared`.

from cpython.dict cimport PyDict_GetItem, PyDict_Size
from cpython.object cimport PyObject
from libc.math cimport isfinite
from libc.stddef cimport ptrdiff_t
from libc.string cimport memcmp, memcpy

cdef extern from * nogil:
    """
    #include <float.h>
    #include <stddef.h>
    #include <stdint.h>
    #include <string.h>

    /* These loops have no branches, so that compilers vectorize them. */
    static int all_finite32(const float *x, ptrdiff_t n) {
        uint32_t bad = 0;
        for (ptrdiff_t i = 0; i < n; i++) {
            uint32_t bits;
            memcpy(&bits, x + i, 4);
            bad |= (bits & 0x7f800000u) == 0x7f800000u;
        }
        return !bad;
    }
    static int all_finite64(const double *x, ptrdiff_t n) {
        uint64_t bad = 0;
        for (ptrdiff_t i = 0; i < n; i++) {
            uint64_t bits;
            memcpy(&bits, x + i, 8);
            bad |= (bits & 0x7ff0000000000000u) == 0x7ff0000000000000u;
        }
        return !bad;
    }
    static int all_fit32(const double *x, ptrdiff_t n) {  /* finite in float32 */
        int bad = 0;
        for (ptrdiff_t i = 0; i < n; i++) {
            float v = (float) x[i];
            bad |= !(v >= -FLT_MAX) | !(v <= FLT_MAX);
        }
        return !bad;
    }
    static int all_inside32(const float *x, ptrdiff_t n, float low, float high) {
        int bad = 0;
        for (ptrdiff_t i = 0; i < n; i++) bad |= !(x[i] >= low) | !(x[i] <= high);
        return !bad;
    }
    static int all_inside64(const double *x, ptrdiff_t n, double low, double high) {
        int bad = 0;
        for (ptrdiff_t i = 0; i < n; i++) bad |= !(x[i] >= low) | !(x[i] <= high);
        return !bad;
    }
    static int all_indices(const int64_t *x, ptrdiff_t n, int64_t classes) {
        int bad = 0;
        for (ptrdiff_t i = 0; i < n; i++) bad |= (uint64_t) x[i] >= (uint64_t) classes;
        return !bad;
    }
    static void narrow(const double *x, float *y, ptrdiff_t n) { for (ptrdiff_t i = 0; i < n; i++) y[i] = (float) x[i]; }
    static void widen(const float *x, double *y, ptrdiff_t n) { for (ptrdiff_t i = 0; i < n; i++) y[i] = x[i]; }
    /* y += share (x - y). */
    static void blend32(const float *x, float *y, ptrdiff_t n, float share) {
        for (ptrdiff_t i = 0; i < n; i++) y[i] += share * (x[i] - y[i]);
    }
    static void blend64(const double *x, double *y, ptrdiff_t n, double share) {
        for (ptrdiff_t i = 0; i < n; i++) y[i] += share * (x[i] - y[i]);
    }
    """
    bint all_finite32(const float *x, ptrdiff_t n)
    bint all_finite64(const double *x, ptrdiff_t n)
    bint all_fit32(const double *x, ptrdiff_t n)
    bint all_inside32(const float *x, ptrdiff_t n, float low, float high)
    bint all_inside64(const double *x, ptrdiff_t n, double low, double high)
    bint all_indices(const int64_t *x, ptrdiff_t n, int64_t classes)
    void narrow(const double *x, float *y, ptrdiff_t n)
    void widen(const float *x, double *y, ptrdiff_t n)
    void blend32(const float *x, float *y, ptrdiff_t n, float share)
    void blend64(const double *x, double *y, ptrdiff_t n, double share)


cdef class Watch:
    """Attributes and arrays, compared with their values at an earlier time.

    Parameters
    ----------
    attributes : iterable of (dict, str, object)
        Dictionaries of attributes, names in them, and the values, which are compared by identity.
    sizes : iterable of (dict, int)
        Numbers of attributes.
    arrays : iterable of (ndarray, bytes)
        Contiguous arrays and their contents.
    """

    cdef list _dicts, _names, _values, _sized, _arrays, _contents
    cdef list _sizes

    def __init__(self, attributes, sizes, arrays):
        found = list(attributes)
        self._dicts, self._names, self._values = [[one[i] for one in found] for i in range(3)]
        found = list(sizes)
        self._sized, self._sizes = [[one[i] for one in found] for i in range(2)]
        found = list(arrays)
        self._arrays, self._contents = [[one[i] for one in found] for i in range(2)]

    cdef bint same(self):
        cdef Py_ssize_t i
        cdef cnp.ndarray array
        cdef bytes content
        for i in range(len(self._dicts)):
            if PyDict_GetItem(<dict> self._dicts[i], self._names[i]) != <PyObject *> self._values[i]:
                return False
        for i in range(len(self._sized)):
            if PyDict_Size(<dict> self._sized[i]) != <Py_ssize_t> self._sizes[i]:
                return False
        for i in range(len(self._arrays)):
            array, content = self._arrays[i], self._contents[i]
            if memcmp(cnp.PyArray_DATA(array), <const char *> content, len(content)) != 0:
                return False
        return True

    def unchanged(self) -> bool:
        """Return whether all values are those of before."""
        return self.same()


cdef inline int64_t *_row(cnp.ndarray table, Py_ssize_t row):
    return <int64_t *> cnp.PyArray_DATA(table) + row * cnp.PyArray_DIM(table, 1)


cdef bint _is_plain(object value, int dimensions):
    """Whether a value is an array in the machine's byte order with this number of dimensions, and no subclass."""
    return (type(value) is cnp.ndarray and cnp.PyArray_NDIM(<cnp.ndarray> value) == dimensions
            and cnp.PyArray_ISBEHAVED_RO(<cnp.ndarray> value))


cdef bint _is_finite(cnp.ndarray array, int real):
    """Whether all numbers of a matrix (N, I) with contiguous rows are finite in the dtype ``real``."""
    cdef char *at = <char *> cnp.PyArray_DATA(array)
    cdef int kind = cnp.PyArray_TYPE(array)
    cdef Py_ssize_t rows = cnp.PyArray_DIM(array, 0), width = cnp.PyArray_DIM(array, 1), i
    if kind == cnp.NPY_UINT8:
        return True
    if cnp.PyArray_IS_C_CONTIGUOUS(array):
        rows, width = 1, rows * width
    for i in range(rows):
        if kind == cnp.NPY_FLOAT32:
            if not all_finite32(<float *> at, width):
                return False
        elif real == cnp.NPY_FLOAT64:
            if not all_finite64(<double *> at, width):
                return False
        elif not all_fit32(<double *> at, width):
            return False
        at += cnp.PyArray_STRIDE(array, 0)
    return True


cdef enum:
    KNOWN_TYPES = 16  # more than the numbers of the dtypes that kernels read


cdef class Features:
    """Features of a plan: checks them, and sets their addresses in a table of operations.

    Parameters
    ----------
    gathers : dict of int to int
        Addresses of the functions that gather features, by the number of their dtype.
    width, capacity : int
        Number of columns, and most rows.
    dtype : numpy.dtype
        The model's.
    columns : sequence of int
        Columns FORWARD, SOURCE and SOURCE_ROW of the table.
    """

    cdef dict _gathers
    cdef int64_t _known[KNOWN_TYPES]
    cdef int _forward, _source, _source_row, _real
    cdef Py_ssize_t _width, _capacity

    def __init__(self, dict gathers, width, capacity, dtype, columns):
        self._gathers, self._width, self._capacity = gathers, width, capacity
        self._real = cnp.NPY_FLOAT32 if dtype.itemsize == 4 else cnp.NPY_FLOAT64
        self._forward, self._source, self._source_row = columns
        for i in range(KNOWN_TYPES):
            self._known[i] = 0

    cdef Py_ssize_t set(self, object x, int64_t *table, bint check) except -2:
        """Set the addresses; return the number of rows, or -1 if the features are of another kind."""
        cdef cnp.ndarray array
        cdef int kind
        cdef Py_ssize_t rows, item, stride
        if not _is_plain(x, 2):
            return -1
        array = x
        kind, rows, item = cnp.PyArray_TYPE(array), cnp.PyArray_DIM(array, 0), cnp.PyArray_ITEMSIZE(array)
        stride = cnp.PyArray_STRIDE(array, 0)
        if (kind >= KNOWN_TYPES or rows < 1 or rows > self._capacity
                or cnp.PyArray_DIM(array, 1) != self._width
                or (cnp.PyArray_STRIDE(array, 1) != item and self._width != 1) or stride % item):
            return -1
        if self._known[kind] == 0:
            self._known[kind] = self._gathers.get(kind, 0)
            if self._known[kind] == 0:
                return -1
        if check and not _is_finite(array, self._real):
            return -1
        table[self._forward] = self._known[kind]
        table[self._source] = <int64_t> <uintptr_t> cnp.PyArray_DATA(array)
        table[self._source_row] = stride // item
        return rows


cdef class NativeStep:
    """Steps of one trainer on a prepared path; each method takes the trainer, whose counters it updates.

    Each method returns None, without an effect, where the conditions of the prepared path do not hold: inputs of other
    kinds, values that the checks refuse, changed settings, arrays that the user has read, several threads, a loss that
    is not finite. The caller then takes the general path, which handles all cases and reports errors.

    No Python code runs between the kernel and the update of the counters, so that Ctrl-C cannot separate them.

    Parameters
    ----------
    session : object
        `engine.session.Session`, which has the lock, and shares the arrays between two steps.
    prepared : object
        `engine.prepared.PreparedSteps`, whose arrays and functions are used.
    model, loss, optimizer : object
        Those of the trainer.
    watch : Watch
        Settings on which the prepared arrays depend.
    refill : callable
        Function (following: bool) -> (first step, rates (S,), numbers (S, H), Watch or None) or None, which returns
        the hyperparameters of the next steps.
    check : bool
        Whether to check the values of the inputs.
    """

    cdef readonly object prepared
    cdef readonly Watch watch
    cdef readonly int version
    cdef object _session, _lock, _model, _loss, _optimizer, _refill
    cdef dict _targets
    cdef int64_t _known[2]
    cdef int64_t _known_losses[2]
    cdef Features _features
    cdef NativeInference _inference
    cdef dict _optimizer_values, _model_values
    cdef bint _check
    # Kernels, bound or as functions: step, forward pass, and step from a gradient.
    cdef object _step, _forward, _backward
    # First and last operations of the tables of the three kernels.
    cdef int64_t *_first[3]
    cdef int64_t *_last[3]
    cdef int _order, _target, _operation, _loss_column, _sample_weight, _key
    cdef int64_t *_bounds
    cdef int64_t *_counts
    cdef int64_t *_pending
    cdef int64_t _order_address
    cdef double *_denominators
    cdef double *_numbers
    cdef double *_losses
    cdef double *_penalties
    cdef void *_target_buffer
    cdef Py_ssize_t _alone, _brief, _outputs, _classes
    cdef int _real
    cdef double _low, _high, _index_factor, _row_factor
    # Hyperparameters of the steps from _block_first on.
    cdef cnp.ndarray _block, _rates
    cdef Watch _block_watch
    cdef int64_t _block_first, _block_size
    cdef list _dropouts
    cdef list _dropout_rows

    def __init__(self, session, prepared, model, loss, optimizer, Watch watch, refill, bint check):
        cdef cnp.ndarray array
        self._session, self._lock, self.prepared, self.watch = session, session.lock, prepared, watch
        self._refill, self._check = refill, check
        self._model, self._loss, self._optimizer = model, loss, optimizer
        self._optimizer_values, self._model_values = vars(optimizer), vars(model)
        self.version = prepared.version
        self._features = Features(
            prepared.gathers, prepared.width, prepared.capacity, prepared.dtype, prepared.feature_columns
        )
        self._inference = None if prepared.inference is None else NativeInference(prepared.inference, check)
        self._targets = prepared.targets
        self._known[0] = self._known[1] = 0
        self._step, self._forward, self._backward = prepared.step_call, prepared.forward_call, prepared.backward_call
        for i in range(3):
            self._first[i] = self._last[i] = NULL
        for i, table in enumerate(prepared.tables):
            self._first[i], self._last[i] = _row(table, 0), _row(table, len(table) - 1)
        self._operation, self._loss_column, self._order, self._target, self._sample_weight, self._key = prepared.columns
        self._bounds = <int64_t *> cnp.PyArray_DATA(prepared.bounds)
        self._counts = <int64_t *> cnp.PyArray_DATA(prepared.counts)
        self._pending = <int64_t *> cnp.PyArray_DATA(prepared.pending)
        array = prepared.order
        self._order_address = <int64_t> <uintptr_t> cnp.PyArray_DATA(array)
        self._denominators = <double *> cnp.PyArray_DATA(prepared.denominators)
        self._numbers = <double *> cnp.PyArray_DATA(prepared.hyperparams)
        self._losses = <double *> cnp.PyArray_DATA(prepared.losses)
        self._penalties = <double *> cnp.PyArray_DATA(prepared.penalties)
        self._target_buffer = cnp.PyArray_DATA(prepared.target_buffer)
        self._alone, self._brief = prepared.rows_alone, prepared.rows_brief
        self._outputs, self._classes = prepared.outputs, prepared.classes
        self._real = cnp.NPY_FLOAT32 if prepared.dtype.itemsize == 4 else cnp.NPY_FLOAT64
        self._low, self._high = prepared.target_range
        self._index_factor, self._row_factor = prepared.index_factor, prepared.row_factor
        self._block_size = self._block_first = 0
        self._dropouts = [module for _, module in prepared.dropouts]
        self._dropout_rows = [op for op, _ in prepared.dropouts]

    # ------------------------------------------------------------------------------------------- inputs

    cdef Py_ssize_t _set_features(self, object x, int table) except -2:
        """Set the address of the features in a table; return the number of rows, or -1 for the general path."""
        cdef Py_ssize_t rows = self._features.set(x, self._first[table], self._check)
        if rows > self._alone:
            return -1
        self._first[table][self._order] = self._order_address
        self._bounds[1] = rows
        return rows

    cdef void *_numbers_of(self, cnp.ndarray array, Py_ssize_t size):
        """Return the address of a contiguous array's numbers in the model's dtype; NULL if it has another kind."""
        cdef int kind = cnp.PyArray_TYPE(array)
        if not cnp.PyArray_IS_C_CONTIGUOUS(array):
            return NULL
        if kind == self._real:
            return cnp.PyArray_DATA(array)
        if kind == cnp.NPY_FLOAT64:
            narrow(<double *> cnp.PyArray_DATA(array), <float *> self._target_buffer, size)
        elif kind == cnp.NPY_FLOAT32:
            widen(<float *> cnp.PyArray_DATA(array), <double *> self._target_buffer, size)
        else:
            return NULL
        return self._target_buffer

    cdef bint _set_targets(self, object y, Py_ssize_t rows):
        """Set the address of the targets and the function of the loss; return False for the general path."""
        cdef cnp.ndarray array
        cdef void *numbers
        cdef bint by_index = self._classes > 0 and _is_plain(y, 1)
        cdef Py_ssize_t size = rows * self._outputs
        if by_index:
            array = y
            if (cnp.PyArray_TYPE(array) != cnp.NPY_INT64 or cnp.PyArray_DIM(array, 0) != rows
                    or not cnp.PyArray_IS_C_CONTIGUOUS(array)):
                return False
            numbers = cnp.PyArray_DATA(array)
            # Also without checks: the kernel would write outside of its memory.
            if not all_indices(<int64_t *> numbers, rows, self._classes):
                return False
        else:
            if _is_plain(y, 2):
                if cnp.PyArray_DIM(<cnp.ndarray> y, 1) != self._outputs:
                    return False
            elif self._classes > 0 or self._outputs != 1 or not _is_plain(y, 1):
                return False
            array = y
            if cnp.PyArray_DIM(array, 0) != rows:
                return False
            numbers = self._numbers_of(array, size)
            if numbers is NULL or (self._check and not self._inside(numbers, size)):
                return False
        if self._known[by_index] == 0:
            found = self._targets.get(bool(by_index))
            if found is None:
                return False
            self._known[by_index], self._known_losses[by_index] = found
        self._last[0][self._operation] = self._known[by_index]
        self._last[0][self._loss_column] = self._known_losses[by_index]
        self._last[0][self._target] = <int64_t> <uintptr_t> numbers
        self._last[0][self._order] = self._order_address
        self._last[0][self._sample_weight] = 0
        self._denominators[0] = (self._index_factor if by_index else self._row_factor) * rows
        return True

    cdef bint _inside(self, void *numbers, Py_ssize_t size):
        if self._real == cnp.NPY_FLOAT32:
            return all_inside32(<float *> numbers, size, <float> self._low, <float> self._high)
        return all_inside64(<double *> numbers, size, self._low, self._high)

    # -------------------------------------------------------------------------------- hyperparameters

    cdef bint _set_numbers(self, int64_t steps) except -1:
        """Set the optimizer's numbers of the next step; return False for the general path."""
        cdef int64_t place = steps - self._block_first
        cdef bint following = place == self._block_size
        if self._block_size and not (self._block_watch is None or self._block_watch.same()):
            following, place = False, -1
        if place < 0 or place >= self._block_size:
            found = self._refill(following and self._block_size > 0)
            if found is None:
                return False
            first, self._rates, self._block, self._block_watch = found
            self._block_first, self._block_size = first, len(self._rates)
            place = steps - self._block_first
            if place < 0 or place >= self._block_size:
                return False
        memcpy(
            self._numbers, <double *> cnp.PyArray_DATA(self._block) + place * cnp.PyArray_DIM(self._block, 1),
            cnp.PyArray_DIM(self._block, 1) * sizeof(double),
        )
        return True

    cdef int _set_dropouts(self, dict values, int table) except -1:
        """Set the keys of the dropout masks."""
        cdef int64_t *row
        cdef uint64_t key
        self._counts[0] = values["steps"]
        seed = values["seed"]
        for i in range(len(self._dropouts)):
            key = self._dropouts[i].seed if seed is None else seed
            row = self._first[table] + <Py_ssize_t> self._dropout_rows[i] * cnp.PyArray_DIM(self.prepared.tables[0], 1)
            row[self._key], row[self._key + 1] = key & 0xFFFFFFFF, key >> 32
        return 0

    # ------------------------------------------------------------------------------------------ calls

    cdef int64_t _launch(self, object kernel, Py_ssize_t rows) except -1:
        cdef BoundKernel bound
        if type(kernel) is not BoundKernel:
            return kernel()
        bound = kernel
        if rows <= self._brief:
            bound._entry(bound._slots, <double *> bound._slots)
        else:
            with nogil:
                bound._entry(bound._slots, <double *> bound._slots)
        return bound._slots[bound._result_slot]

    cdef bint _ready(self, dict values) except -1:
        """Whether the settings are those of before, and the arrays are shared; with the lock held."""
        if values["model"] is not self._model or values["loss"] is not self._loss:
            return False
        return values["optimizer"] is self._optimizer and self.watch.same() and bool(self._session.shared)

    cdef object _update(self, object trainer, dict values, object kernel, int table, Py_ssize_t rows):
        """Make an update; return its loss, or None."""
        cdef int64_t steps = self._optimizer_values["steps"]
        cdef int64_t made = values["steps"]
        cdef double rate, l2 = values["l2"]
        if not self._set_numbers(steps):
            return None
        if self._dropouts:
            self._set_dropouts(values, table)
        self._penalties[0] = l2 / rows
        if self._launch(kernel, rows) != 1:
            self._block_size = 0  # the learning rates may be those of a schedule that the user mends
            return None
        rate = (<double *> cnp.PyArray_DATA(self._rates))[steps - self._block_first]
        self._optimizer.steps = steps + 1
        trainer.steps = made + 1
        if <double> values["last_lr"] != rate:
            trainer.last_lr = rate
        seed = values["seed"]
        for dropout in self._dropouts:
            if seed is not None:
                dropout.seed = seed
            dropout.step = made + 1
        return self._losses[0] + self._penalties[0]

    def step(self, trainer, x, y):
        """Make a step on one batch and return its loss, or None for the general path."""
        cdef Py_ssize_t rows
        cdef dict values = trainer.__dict__
        self._lock.acquire()
        try:
            if not self._ready(values) or self._model_values["training"] is not True:
                return None
            rows = self._set_features(x, 0)
            if rows < 0 or not self._set_targets(y, rows):
                return None
            self._pending[0] = 0
            return self._update(trainer, values, self._step, 0, rows)
        finally:
            self._lock.release()

    def forward(self, trainer, x):
        """Return the outputs (N, O) and keep the activations for `backward`; None for the general path."""
        cdef Py_ssize_t rows
        cdef dict values = trainer.__dict__
        cdef cnp.npy_intp shape[2]
        cdef cnp.ndarray out
        self._lock.acquire()
        try:
            if self._forward is None or not self._ready(values) or self._model_values["training"] is not True:
                return None
            self._pending[0] = 0
            rows = self._set_features(x, 1)
            if rows < 0:
                return None
            shape[0], shape[1] = rows, self._outputs
            out = cnp.PyArray_EMPTY(2, shape, self._real, 0)
            self._last[1][self._target] = <int64_t> <uintptr_t> cnp.PyArray_DATA(out)
            if self._dropouts:
                self._set_dropouts(values, 1)
            self._launch(self._forward, rows)
            self._pending[0] = rows
            return out
        finally:
            self._lock.release()

    def infer(self, trainer, x):
        """Return the outputs (N, O) in evaluation mode, or None for the general path."""
        cdef dict values = trainer.__dict__
        if self._inference is None:
            return None
        self._lock.acquire()
        try:
            return self._inference.run(x) if self._ready(values) else None
        finally:
            self._lock.release()

    def blend(self, trainer, source, target, places, share):
        """Call `blend` for the weights, and return whether the conditions of the prepared path hold."""
        cdef dict values = trainer.__dict__
        self._lock.acquire()
        try:
            if not self._ready(values):
                return False
            blend(source, target, places, share)
            return True
        finally:
            self._lock.release()

    def backward(self, trainer, gradient):
        """Make a step from the gradient of the last forward's outputs and return True, or None for the general path."""
        cdef Py_ssize_t rows
        cdef void *numbers
        cdef dict values = trainer.__dict__
        self._lock.acquire()
        try:
            rows = self._pending[0]
            if self._backward is None or rows < 1 or rows > self._alone or not self._ready(values) or not _is_plain(gradient, 2):
                return None
            if (cnp.PyArray_DIM(<cnp.ndarray> gradient, 0) != rows
                    or cnp.PyArray_DIM(<cnp.ndarray> gradient, 1) != self._outputs):
                return None
            numbers = self._numbers_of(gradient, rows * self._outputs)
            if numbers is NULL:
                return None
            self._bounds[1] = rows
            self._last[2][self._target] = <int64_t> <uintptr_t> numbers
            self._last[2][self._order] = self._order_address
            if self._update(trainer, values, self._backward, 2, rows) is None:
                return None
            self._pending[0] = 0
            return True
        finally:
            self._lock.release()


cdef class NativeInference:
    """Outputs of a model for a few rows in evaluation mode.

    Parameters
    ----------
    prepared : object
        `engine.prepared.PreparedInference`.
    check : bool
        Whether to check the values of the features.
    """

    cdef object _call
    cdef readonly object prepared
    cdef Features _features
    cdef int64_t *_first
    cdef int64_t *_last
    cdef int64_t *_bounds
    cdef int _target, _real
    cdef bint _check
    cdef Py_ssize_t _outputs

    def __init__(self, prepared, bint check):
        self.prepared, self._call, self._check = prepared, prepared.call, check
        self._features = Features(
            prepared.gathers, prepared.width, prepared.capacity, prepared.dtype, prepared.feature_columns
        )
        self._first, self._last = _row(prepared.table, 0), _row(prepared.table, len(prepared.table) - 1)
        self._bounds = <int64_t *> cnp.PyArray_DATA(prepared.bounds)
        self._target, self._outputs = prepared.target_column, prepared.outputs
        self._real = cnp.NPY_FLOAT32 if prepared.dtype.itemsize == 4 else cnp.NPY_FLOAT64

    cpdef object run(self, object x):
        """Return the outputs (N, O), or None for features of other kinds; the caller holds the lock of the weights."""
        cdef cnp.ndarray out
        cdef Py_ssize_t rows = self._features.set(x, self._first, self._check)
        cdef cnp.npy_intp shape[2]
        cdef BoundKernel bound
        if rows < 0:
            return None
        shape[0], shape[1] = rows, self._outputs
        out = cnp.PyArray_EMPTY(2, shape, self._real, 0)
        self._last[self._target] = <int64_t> <uintptr_t> cnp.PyArray_DATA(out)
        self._bounds[1] = rows
        if type(self._call) is BoundKernel:
            bound = self._call
            bound._entry(bound._slots, <double *> bound._slots)
        else:
            self._call()
        return out


def blend(cnp.ndarray source, cnp.ndarray target, cnp.ndarray places, double share):
    """Compute target += share (source - target) on ranges of two flat arrays of the same dtype; 1 copies the numbers.

    Parameters
    ----------
    source, target : ndarray of float32 or float64
    places : ndarray of int64, of shape (P, 3)
        Offset in the source, offset in the target, and size of each range.
    share : float
    """
    cdef char *x
    cdef char *y
    cdef int64_t *place = <int64_t *> cnp.PyArray_DATA(places)
    cdef Py_ssize_t i, item = cnp.PyArray_ITEMSIZE(source)
    for i in range(cnp.PyArray_DIM(places, 0)):
        x = <char *> cnp.PyArray_DATA(source) + place[0] * item
        y = <char *> cnp.PyArray_DATA(target) + place[1] * item
        if share == 1.0:
            memcpy(y, x, place[2] * item)
        elif item == 4:
            blend32(<float *> x, <float *> y, place[2], <float> share)
        else:
            blend64(<double *> x, <double *> y, place[2], share)
        place += 3


cdef fused number:
    float
    double


cdef void _copy_matrix(
    number *matrix, Py_ssize_t row_stride, Py_ssize_t column_stride, Py_ssize_t inner, Py_ssize_t width,
    number *panels, Py_ssize_t rows, Py_ssize_t lanes, bint unpack,
) noexcept nogil:
    """Copy a matrix (inner, width) to panels of room for ``rows`` rows, or back; strides count elements."""
    cdef Py_ssize_t column = 0, stride, filled, i, j
    cdef number *panel
    cdef number *source
    while column < width:
        stride = 2 * lanes if width - column > lanes else lanes
        filled = min(stride, width - column)
        for i in range(inner):
            panel, source = panels + column * rows + i * stride, matrix + i * row_stride + column * column_stride
            if unpack:
                for j in range(filled):
                    source[j * column_stride] = panel[j]
            else:
                for j in range(filled):
                    panel[j] = source[j * column_stride]
        column += stride


def copy_panels(list arrays, cnp.ndarray data, cnp.ndarray places, Py_ssize_t lanes, bint unpack):
    """Copy arrays to matrices in panels, see `cpu.panels`, or back; return False, without a copy, if one does not fit.

    Parameters
    ----------
    arrays : list of ndarray
        Vectors and matrices in the dtype of ``data``.
    data : ndarray
        Flat array of the panels.
    places : ndarray of int64, of shape (at least A, 5)
        Offset of each array in ``data``, number of rows reserved for it, whether its transpose is stored, and its
        shape, with -1 in the place of a vector's columns.
    lanes : int
        Elements of a vector register.
    unpack : bool
        Whether to copy from the panels to the arrays.
    """
    cdef cnp.ndarray array
    cdef int64_t *place = <int64_t *> cnp.PyArray_DATA(places)
    cdef Py_ssize_t item = cnp.PyArray_ITEMSIZE(data), inner, width, row_stride, column_stride
    cdef void *panels
    for one in arrays:
        if not isinstance(one, cnp.ndarray):
            return False
        array = one
        if (cnp.PyArray_TYPE(array) != cnp.PyArray_TYPE(data) or not cnp.PyArray_ISBEHAVED_RO(array)
                or (unpack and not cnp.PyArray_ISWRITEABLE(array))
                or cnp.PyArray_NDIM(array) != (1 if place[4] < 0 else 2) or cnp.PyArray_DIM(array, 0) != place[3]
                or (place[4] >= 0 and cnp.PyArray_DIM(array, 1) != place[4])):
            return False
        place += 5
    place = <int64_t *> cnp.PyArray_DATA(places)
    for array in arrays:
        if place[4] < 0:
            inner, width = 1, cnp.PyArray_DIM(array, 0)
            row_stride, column_stride = 0, cnp.PyArray_STRIDE(array, 0) // item
        else:
            inner, width = cnp.PyArray_DIM(array, 0), cnp.PyArray_DIM(array, 1)
            row_stride, column_stride = cnp.PyArray_STRIDE(array, 0) // item, cnp.PyArray_STRIDE(array, 1) // item
            if place[2]:
                inner, width, row_stride, column_stride = width, inner, column_stride, row_stride
        panels = cnp.PyArray_BYTES(data) + place[0] * item
        if item == 4:
            _copy_matrix(
                <float *> cnp.PyArray_DATA(array), row_stride, column_stride, inner, width, <float *> panels,
                place[1], lanes, unpack,
            )
        else:
            _copy_matrix(
                <double *> cnp.PyArray_DATA(array), row_stride, column_stride, inner, width, <double *> panels,
                place[1], lanes, unpack,
            )
        place += 5
    return True
