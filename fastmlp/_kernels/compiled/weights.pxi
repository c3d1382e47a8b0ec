# Weights in the layouts of the engine and of the user: blends and copies.

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


cdef class Mirror:
    """Parameters that have the same values in the user's arrays and in the engine, between two steps in native code.

    Parameters
    ----------
    arrays : list of ndarray
        The user's arrays, C-contiguous.
    copied : list of ndarray
        Those of them of which the engine has transposed copies.
    data, places, lanes
        See `copy_panels`; places of ``arrays``, followed by those of ``copied``.
    """

    cdef list _arrays, _read, _contents
    cdef cnp.ndarray _data, _places
    cdef Py_ssize_t _lanes

    def __init__(self, list arrays, list copied, cnp.ndarray data, cnp.ndarray places, lanes):
        self._arrays, self._read, self._contents = arrays, arrays + copied, [array.copy() for array in arrays]
        self._data, self._places, self._lanes = data, places, lanes

    cdef bint writeable(self):
        for array in self._arrays:
            if not cnp.PyArray_ISWRITEABLE(<cnp.ndarray> array):
                return False
        return True

    cdef bint same(self):
        """Whether the user has not changed the arrays since the last step."""
        cdef Py_ssize_t i
        cdef cnp.ndarray array, content
        for i in range(len(self._arrays)):
            array, content = self._arrays[i], self._contents[i]
            if memcmp(cnp.PyArray_DATA(array), cnp.PyArray_DATA(content), cnp.PyArray_NBYTES(array)) != 0:
                return False
        return True

    cdef int keep(self) except -1:
        cdef Py_ssize_t i
        cdef cnp.ndarray array, content
        for i in range(len(self._arrays)):
            array, content = self._arrays[i], self._contents[i]
            memcpy(cnp.PyArray_DATA(content), cnp.PyArray_DATA(array), cnp.PyArray_NBYTES(array))
        return 0

    cpdef read(self):
        """Copy the arrays into the engine."""
        copy_panels(self._read, self._data, self._places, self._lanes, False)
        self.keep()

    cpdef update(self):
        """Copy the arrays into the engine if the user has changed one since the last step."""
        if not self.same():
            self.read()

    cpdef write(self):
        """Copy the engine's parameters into the arrays."""
        copy_panels(self._arrays, self._data, self._places, self._lanes, True)
        self.keep()

    def finite(self) -> bool:
        """Return whether all numbers of the arrays are finite."""
        cdef cnp.ndarray array
        for array in self._arrays:
            if cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT32:
                if not all_finite32(<float *> cnp.PyArray_DATA(array), cnp.PyArray_SIZE(array)):
                    return False
            elif not all_finite64(<double *> cnp.PyArray_DATA(array), cnp.PyArray_SIZE(array)):
                return False
        return True
