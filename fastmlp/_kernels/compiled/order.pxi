# Order of the rows of an epoch.

from libc.stdlib cimport free, malloc, qsort

cdef extern from * nogil:
    """
    typedef struct { uint64_t key; int64_t row; } drawn_row;

    /* First two words of Philox4x32-10 of a counter, the first one in the upper half. */
    static uint64_t philox_key(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t key0, uint32_t key1) {
        for (int i = 0; i < 10; i++) {
            uint64_t product0 = (uint64_t) 0xD2511F53u * c0, product1 = (uint64_t) 0xCD9E8D57u * c2;
            uint32_t next0 = (uint32_t) (product1 >> 32) ^ c1 ^ key0, next2 = (uint32_t) (product0 >> 32) ^ c3 ^ key1;
            c1 = (uint32_t) product1;
            c3 = (uint32_t) product0;
            c0 = next0;
            c2 = next2;
            key0 += 0x9E3779B9u;
            key1 += 0xBB67AE85u;
        }
        return (uint64_t) c0 << 32 | c1;
    }
    static int by_key(const void *one, const void *other) {
        const drawn_row *a = (const drawn_row *) one, *b = (const drawn_row *) other;
        if (a->key != b->key) return a->key < b->key ? -1 : 1;
        return a->row < b->row ? -1 : 1;
    }
    """
    ctypedef struct drawn_row:
        uint64_t key
        int64_t row
    uint64_t philox_key(uint64_t c0, uint64_t c1, uint64_t c2, uint64_t c3, uint64_t key0, uint64_t key1)
    int by_key(const void *one, const void *other)


def shuffle_order(uint64_t seed, uint64_t epoch, Py_ssize_t rows, uint64_t purpose):
    """Return `philox.shuffle_order` of few rows, int64 (N,); ``purpose`` is the upper word of the counters."""
    cdef cnp.npy_intp shape[1]
    cdef cnp.ndarray order
    cdef int64_t *numbers
    cdef Py_ssize_t i
    cdef drawn_row *drawn = <drawn_row *> malloc(max(1, rows) * sizeof(drawn_row))
    if drawn is NULL:
        raise MemoryError()
    for i in range(rows):
        drawn[i].row = i
        drawn[i].key = philox_key(i, <uint64_t> i >> 32, epoch, purpose, seed & 0xFFFFFFFF, seed >> 32)
    qsort(drawn, rows, sizeof(drawn_row), by_key)
    shape[0] = rows
    order = cnp.PyArray_EMPTY(1, shape, cnp.NPY_INT64, 0)
    numbers = <int64_t *> cnp.PyArray_DATA(order)
    for i in range(rows):
        numbers[i] = drawn[i].row
    free(drawn)
    return order
