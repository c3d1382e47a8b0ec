# Reads of mapped files that fail: the file became shorter after it was mapped, or the disk reports an error. The system
# then sends SIGBUS, which ends the process. For guarded ranges of addresses a handler puts a page of zeros in the place
# of the one that cannot be read, and counts it; the caller looks at the count and raises an exception.

cdef extern from * nogil:
    """
    #if defined(__unix__) || defined(__APPLE__)
    #include <signal.h>
    #include <stdint.h>
    #include <sys/mman.h>
    #include <unistd.h>

    #define MOST_RANGES 256

    static struct range {
        volatile uintptr_t first, last;   /* last is behind the range; 0 where the slot is free */
        volatile long faults;
        volatile uintptr_t lowest;        /* address of the first page that could not be read */
    } ranges[MOST_RANGES];
    static struct sigaction before_guard;
    static long page_bytes = 0;
    static volatile int given_back = 0;

    static void on_bus_error(int number, siginfo_t *info, void *context) {
        uintptr_t at = (uintptr_t) info->si_addr;
        (void) context;
        for (int i = 0; i < MOST_RANGES; i++) {
            if (ranges[i].last && ranges[i].first <= at && at < ranges[i].last) {
                uintptr_t page = at & ~(uintptr_t) (page_bytes - 1);
                if (mmap((void *) page, (size_t) page_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANON | MAP_FIXED, -1, 0) == MAP_FAILED) break;
                if (!ranges[i].faults || page < ranges[i].lowest) ranges[i].lowest = page;
                __atomic_fetch_add(&ranges[i].faults, 1, __ATOMIC_SEQ_CST);
                return;
            }
        }
        /* Not ours: the read is repeated, and handled as before. A handler of before that comes back here, as one that was
           set in between has this one as its own predecessor, would do so for ever. */
        if (given_back++) signal(number, SIG_DFL);
        else sigaction(number, &before_guard, NULL);
    }

    static int guard(uintptr_t first, uintptr_t size) {
        struct sigaction action, now;
        for (int i = 0; i < MOST_RANGES; i++) {
            if (ranges[i].last) continue;
            page_bytes = sysconf(_SC_PAGESIZE);
            ranges[i].first = first & ~(uintptr_t) (page_bytes - 1);
            ranges[i].faults = 0;
            ranges[i].last = first + size;
            if (sigaction(SIGBUS, NULL, &now) == 0 && now.sa_sigaction != on_bus_error) {
                before_guard = now;
                given_back = 0;
                action.sa_sigaction = on_bus_error;
                action.sa_flags = SA_SIGINFO | SA_ONSTACK;
                sigemptyset(&action.sa_mask);
                sigaction(SIGBUS, &action, NULL);
            }
            return i;
        }
        return -1;
    }

    static void unguard(int slot) { ranges[slot].last = 0; }
    static long faults_of(int slot) { return __atomic_load_n(&ranges[slot].faults, __ATOMIC_SEQ_CST); }
    static uintptr_t lowest_of(int slot) { return ranges[slot].lowest; }
    #else
    static int guard(uintptr_t first, uintptr_t size) { (void) first; (void) size; return -1; }
    static void unguard(int slot) { (void) slot; }
    static long faults_of(int slot) { (void) slot; return 0; }
    static uintptr_t lowest_of(int slot) { (void) slot; return 0; }
    #endif
    """
    int guard(uintptr_t first, uintptr_t size)
    void unguard(int slot)
    long faults_of(int slot)
    uintptr_t lowest_of(int slot)


cdef class GuardedRange:
    """Range of addresses of a mapped file in which a failed read gives zeros, until `release`.

    On Windows, and for more ranges than there are slots, nothing is guarded.

    Parameters
    ----------
    address, size : int
        First byte and number of bytes.
    """

    cdef int _slot
    cdef uintptr_t _first

    def __cinit__(self, uintptr_t address, uintptr_t size):
        self._first = address
        self._slot = guard(address, size) if size else -1

    def __dealloc__(self):
        self.release()

    def failed(self):
        """Return (number of pages that could not be read, position of the first of them in the range)."""
        cdef long count = faults_of(self._slot) if self._slot >= 0 else 0
        cdef uintptr_t lowest
        if not count:
            return 0, 0
        lowest = lowest_of(self._slot)
        return count, lowest - self._first if lowest > self._first else 0

    cpdef release(self):
        """Guard the range no longer."""
        if self._slot >= 0:
            unguard(self._slot)
            self._slot = -1
