# Work of one call of a `Plan`, without the interpreter: blocks of rows, or groups of panels of a single row, which
# threads take from a counter. The kernels are functions of `cpu.inference`, called by their addresses.

from libc.stdlib cimport free, malloc

cdef extern from * nogil:
    """
    /* Results and operands below the normal range become zero while kernels run: returns the mode to restore. */
    #if defined(__SSE2__) || defined(_M_X64)
    #include <xmmintrin.h>
    static inline uint64_t flush_denormals(void) {
        unsigned before = _mm_getcsr();
        _mm_setcsr(before | 0x8040);
        return before;
    }
    static inline void restore_float_mode(uint64_t before) { _mm_setcsr((unsigned)before); }
    static inline void relax(void) { _mm_pause(); }
    #elif defined(__aarch64__)
    static inline uint64_t flush_denormals(void) {
        uint64_t before;
        __asm__ volatile("mrs %0, fpcr" : "=r"(before));
        __asm__ volatile("msr fpcr, %0" : : "r"(before | (1u << 24)));
        return before;
    }
    static inline void restore_float_mode(uint64_t before) { __asm__ volatile("msr fpcr, %0" : : "r"(before)); }
    static inline void relax(void) { __asm__ volatile("yield"); }
    #else
    static inline uint64_t flush_denormals(void) { return 0; }
    static inline void restore_float_mode(uint64_t before) { (void)before; }
    static inline void relax(void) {}
    #endif

    /* Waiting: threads that share a processor must let each other run. */
    #if defined(_WIN32)
    #define WIN32_LEAN_AND_MEAN
    #include <windows.h>
    static inline void give_way(void) { SwitchToThread(); }
    #else
    #include <sched.h>
    static inline void give_way(void) { sched_yield(); }
    #endif
    static inline void wait_a_little(Py_ssize_t turn) {
        if (turn % 64 == 63) give_way(); else relax();
    }

    /* Sequentially consistent operations; without helpers each call has its counters to itself. */
    #if defined(_MSC_VER) && !defined(__clang__)
    #define HAS_TEAM 0 /* helpers are not written for Windows' threads */
    static inline Py_ssize_t atomic_get(Py_ssize_t *p) { return *p; }
    static inline void atomic_set(Py_ssize_t *p, Py_ssize_t v) { *p = v; }
    static inline Py_ssize_t atomic_add(Py_ssize_t *p, Py_ssize_t v) { Py_ssize_t old = *p; *p += v; return old; }
    static inline int atomic_swap(Py_ssize_t *p, Py_ssize_t from, Py_ssize_t to) {
        int same = *p == from;
        if (same) *p = to;
        return same;
    }
    #else
    #define HAS_TEAM 1
    static inline Py_ssize_t atomic_get(Py_ssize_t *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
    static inline void atomic_set(Py_ssize_t *p, Py_ssize_t v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }
    static inline Py_ssize_t atomic_add(Py_ssize_t *p, Py_ssize_t v) {
        return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);
    }
    static inline int atomic_swap(Py_ssize_t *p, Py_ssize_t from, Py_ssize_t to) {
        return __atomic_compare_exchange_n(p, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    #endif
    """
    const int HAS_TEAM
    uint64_t flush_denormals()
    void restore_float_mode(uint64_t)
    void wait_a_little(Py_ssize_t)
    Py_ssize_t atomic_get(Py_ssize_t *)
    void atomic_set(Py_ssize_t *, Py_ssize_t)
    Py_ssize_t atomic_add(Py_ssize_t *, Py_ssize_t)
    int atomic_swap(Py_ssize_t *, Py_ssize_t, Py_ssize_t)

ctypedef void (*linear_t)(
    const void *a, int64_t lda, const void *weight, const void *bias, double lowest, void *c, int64_t ldc,
    int64_t rows, int64_t k, int64_t width, int64_t first, int64_t last, int64_t unit) noexcept nogil
ctypedef void (*convert_t)(int64_t address, int64_t step, int64_t width, void *row) noexcept nogil
ctypedef void (*activation_t)(double alpha, const void *x, void *y, int64_t size, int64_t size_of_y) noexcept nogil
ctypedef void (*binned_t)(
    const void *a, int64_t lda, int64_t dense, const int64_t *bins, int64_t count, const void *rows, void *c,
    int64_t ldc, int64_t m, int64_t width) noexcept nogil
ctypedef void (*row_t)(
    void *row, const void *first, const void *second, double number, int64_t width) noexcept nogil

cdef enum:
    LINEAR
    BINNED  # a Linear of the dense columns, followed by the rows of the coded ones
    ACTIVATION
    ROW

    PANELS_AT_ONCE = 4  # of a row's layer, for one thread: as many as `cpu.inference.linear` computes together

cdef struct Step:
    int kind
    Py_ssize_t width          # columns of the result
    Py_ssize_t inputs         # columns of the input
    double number             # alpha of the activation, or the number of a function of a row
    double lowest             # of a Linear
    activation_t activation   # of a Linear too, where NULL stands for none
    row_t function
    const char *first         # weights, or the first parameter of a function of a row
    const char *second        # bias, or the second
    binned_t binned
    const int64_t *bins       # of the coded columns, three numbers each
    Py_ssize_t coded          # their number
    const char *rows          # of the table

cdef struct Net:
    Step *steps
    Py_ssize_t count
    Py_ssize_t inputs, outputs
    Py_ssize_t stride         # elements of a row of the buffers: the widest step, padded to whole panels
    Py_ssize_t block          # rows
    Py_ssize_t size           # bytes of a number
    Py_ssize_t lanes
    linear_t linear
    convert_t convert         # of uint8
    double work               # multiply-adds of a row

# `next` and `done` count chunks: blocks of rows, or for a single row groups of panels, of which `firsts[i]` come before
# step i.
cdef struct Job:
    const Net *net
    const char *x
    Py_ssize_t row_bytes, column_bytes
    bint as_bytes             # whether x is uint8
    char *out
    Py_ssize_t rows
    bint by_panels
    char *buffers             # of the single row, which the threads share
    Py_ssize_t chunks
    Py_ssize_t *firsts
    Py_ssize_t next, done, failed


cdef inline Py_ssize_t _round_up(Py_ssize_t n, Py_ssize_t unit) noexcept nogil:
    return (n + unit - 1) // unit * unit


cdef inline void _linear(const Net *net, const Step *step, Py_ssize_t first, Py_ssize_t last, Py_ssize_t rows,
                         const char *a, Py_ssize_t lda, char *c) noexcept nogil:
    """Compute columns first .. last of c (rows, width) = h(a W + b)."""
    cdef Py_ssize_t r, columns
    cdef char *row
    net.linear(
        a, lda, step.first, step.second, step.lowest, c, net.stride, rows, step.inputs, step.width, first, last, 1)
    if step.activation != NULL:
        columns = _round_up(last - first, net.lanes)
        for r in range(rows):
            row = c + (r * net.stride + first) * net.size
            step.activation(step.number, row, row, columns, columns)


cdef inline void _binned(const Net *net, const Step *step, Py_ssize_t rows, const char *a, Py_ssize_t lda,
                         char *c) noexcept nogil:
    """Compute c (rows, width) from the dense and the coded columns of a."""
    _linear(net, step, 0, step.width, rows, a, lda, c)
    step.binned(a, lda, step.inputs, step.bins, step.coded, step.rows, c, net.stride, rows, step.width)


cdef inline bint _writes_elsewhere(const Step *step) noexcept nogil:
    """Return whether the step writes to the other buffer; all others work in place."""
    return step.kind == LINEAR or step.kind == BINNED


cdef inline void _row_step(const Net *net, const Step *step, Py_ssize_t rows, char *a) noexcept nogil:
    """Apply a step other than Linear in place."""
    cdef Py_ssize_t r, columns = _round_up(step.width, net.lanes)
    cdef char *row
    for r in range(rows):
        row = a + r * net.stride * net.size
        if step.kind == ACTIVATION:
            step.activation(step.number, row, row, columns, columns)
        else:
            step.function(row, step.first, step.second, step.number, step.width)


cdef void _gather(const Job *job, Py_ssize_t row, char *to) noexcept nogil:
    """Copy a row of x to a buffer."""
    cdef const Net *net = job.net
    cdef const char *x = job.x + row * job.row_bytes
    cdef Py_ssize_t i
    if job.as_bytes:
        net.convert(<int64_t> <uintptr_t> x, job.column_bytes, net.inputs, to)
    elif job.column_bytes == net.size:
        memcpy(to, x, net.inputs * net.size)
    elif net.size == sizeof(float):
        for i in range(net.inputs):
            memcpy(to + i * sizeof(float), x + i * job.column_bytes, sizeof(float))
    else:
        for i in range(net.inputs):
            memcpy(to + i * sizeof(double), x + i * job.column_bytes, sizeof(double))


cdef inline const char *_source(const Job *job, Py_ssize_t start, Py_ssize_t rows, char *buffer,
                                Py_ssize_t *lda) noexcept nogil:
    """Return rows of x as the first step reads them: in place for a product if possible, otherwise in a buffer."""
    cdef const Net *net = job.net
    cdef Py_ssize_t r
    # A product reads rows at any distance whose columns are neighbors. Other steps work in place.
    if net.count and _writes_elsewhere(&net.steps[0]) and not job.as_bytes and job.column_bytes == net.size:
        if rows == 1 or job.row_bytes % net.size == 0:
            lda[0] = job.row_bytes // net.size
            return job.x + start * job.row_bytes
    for r in range(rows):
        _gather(job, start + r, buffer + r * net.stride * net.size)
    lda[0] = net.stride
    return buffer


cdef void _rows(const Job *job, Py_ssize_t start, Py_ssize_t rows, char *buffer) noexcept nogil:
    """Compute all steps of some rows; ``buffer`` has room for twice as many."""
    cdef const Net *net = job.net
    cdef char *other = buffer + rows * net.stride * net.size
    cdef Py_ssize_t lda = net.stride, i, r
    cdef const char *a = _source(job, start, rows, buffer, &lda)
    cdef char *target
    cdef char *out = job.out + start * net.outputs * net.size
    cdef const Step *step
    for i in range(net.count):
        step = &net.steps[i]
        if _writes_elsewhere(step):
            target = other if a == buffer else buffer
            if step.kind == LINEAR:
                _linear(net, step, 0, step.width, rows, a, lda, target)
            else:
                _binned(net, step, rows, a, lda, target)
            a, lda = target, net.stride
        else:  # a product or `_source` has put the rows into a buffer
            _row_step(net, step, rows, <char *> a)
    for r in range(rows):
        memcpy(out + r * net.outputs * net.size, a + r * lda * net.size, net.outputs * net.size)


cdef char *_buffer_after(const Net *net, Py_ssize_t step, char *buffers) noexcept nogil:
    """Return the one of two buffers that holds a single row before ``step``: each product writes to the other one."""
    cdef Py_ssize_t products = 0, i
    for i in range(step):
        products += _writes_elsewhere(&net.steps[i])
    return buffers + (products % 2) * net.stride * net.size


cdef void _panels(Job *job, Py_ssize_t chunk) noexcept nogil:
    """Compute one chunk of the single row, once the steps before it are done."""
    cdef const Net *net = job.net
    cdef const Step *step
    cdef Py_ssize_t i = 0, turn = 0, first, columns = 2 * PANELS_AT_ONCE * net.lanes
    cdef char *a
    while chunk >= job.firsts[i + 1]:
        i += 1
    while atomic_get(&job.done) < job.firsts[i]:
        wait_a_little(turn)
        turn += 1
    step, a = &net.steps[i], _buffer_after(net, i, job.buffers)
    if step.kind == LINEAR:
        first = (chunk - job.firsts[i]) * columns
        _linear(net, step, first, min(step.width, first + columns), 1, a, net.stride,
                _buffer_after(net, i + 1, job.buffers))
    elif step.kind == BINNED:
        _binned(net, step, 1, a, net.stride, _buffer_after(net, i + 1, job.buffers))
    else:
        _row_step(net, step, 1, a)


cdef inline char *_aligned(void *memory) noexcept nogil:
    return <char *> ((<uintptr_t> memory + 63) // 64 * 64)


cdef void _work(Job *job) noexcept nogil:
    """Take chunks until none is left."""
    cdef const Net *net = job.net
    cdef Py_ssize_t chunk, block = net.block
    cdef uint64_t before = flush_denormals()
    cdef void *memory = NULL
    while True:
        chunk = atomic_add(&job.next, 1)
        if chunk >= job.chunks:
            break
        if job.by_panels:
            _panels(job, chunk)
        else:
            if memory == NULL:
                memory = malloc(2 * min(block, job.rows) * net.stride * net.size + 64)
                if memory == NULL:
                    atomic_set(&job.failed, 1)
                    atomic_add(&job.done, 1)
                    continue
            _rows(job, chunk * block, min(block, job.rows - chunk * block), _aligned(memory))
        atomic_add(&job.done, 1)
    free(memory)
    restore_float_mode(before)
