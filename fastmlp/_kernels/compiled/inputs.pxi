# Checks of a caller's arrays and settings, and the addresses of features.

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
