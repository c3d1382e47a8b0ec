# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Calls of compiled kernels with NumPy arrays, steps and predictions without Python code, and the processor's level."""

from libc.stdint cimport int64_t, uint64_t, uintptr_t

cimport numpy as cnp

cnp.import_array()

cdef extern from * nogil:
    """
    /* The best level that the processor has and whose registers the operating system saves, as the compiler's runtime
       finds out by CPUID and XGETBV. */
    static const char *best_level(void) {
    #if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
        __builtin_cpu_init();
        int v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi")
              && __builtin_cpu_supports("bmi2");
        if (v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl")) return "x86-64-v4";
        return v3 ? "x86-64-v3" : "";
    #elif defined(__aarch64__)
        return "aarch64";
    #else
        return "";
    #endif
    }
    """
    const char *best_level()

ctypedef void (*entry_t)(int64_t *, double *) noexcept nogil

cdef enum:
    MOST_SLOTS = 64
    MOST_ARGUMENTS = 24

cdef enum:
    INTEGER, REAL, ARRAY

_NUMBERS = {
    "float32": cnp.NPY_FLOAT32, "float64": cnp.NPY_FLOAT64, "int64": cnp.NPY_INT64, "uint8": cnp.NPY_UINT8,
    "uint32": cnp.NPY_UINT32,
}


def level() -> str:
    """Return the best instruction-set level of the processor: x86-64-v3, x86-64-v4, aarch64, or nothing."""
    return best_level().decode()


cdef class Kernel:
    """Kernel of a compiled library, called with numbers and contiguous NumPy arrays.

    Parameters
    ----------
    name : str
    arguments : sequence of (str, int)
        Element type and number of dimensions of each argument, see `cpu.declare`.
    result : str or None
        Element type of the result.
    versions : sequence of (str, str)
        Dtypes that may stand for "real" and "source"; "" where the kernel has no such argument.
    address : function
        Function of two dtypes that returns the address of that version. It is called before the first call of each.

    Raises
    ------
    ValueError
        If the kernel has too many arguments.
    TypeError
        If a call has an argument of another kind.
    """

    cdef readonly str name
    cdef readonly tuple arguments
    cdef dict _versions, _addresses
    cdef object _address
    cdef int _count, _result, _real, _source
    cdef int _kinds[MOST_ARGUMENTS]
    cdef int _dimensions[MOST_ARGUMENTS]
    cdef int _types[MOST_ARGUMENTS]

    def __init__(self, str name, arguments, result, versions, address):
        self.name, self.arguments = name, tuple(arguments)
        if len(self.arguments) > MOST_ARGUMENTS or sum([1 + one[1] for one in self.arguments]) >= MOST_SLOTS:
            raise ValueError(f"{name} has too many arguments; expected at most {MOST_ARGUMENTS} in {MOST_SLOTS} slots.")
        self._versions = {(_NUMBERS.get(real, -1), _NUMBERS.get(source, -1)): (real, source) for real, source in versions}
        self._addresses, self._address = {}, address
        self._count, self._real, self._source = len(self.arguments), -1, -1
        self._result = 0 if result is None else 1 if result == "int64" else 2
        for i, (element, dimensions) in enumerate(self.arguments):
            self._dimensions[i] = dimensions
            self._kinds[i] = ARRAY if dimensions else INTEGER if element in ("int64", "uint64") else REAL
            self._types[i] = _NUMBERS.get(element, -1)
            if dimensions and element == "real" and self._real < 0:
                self._real = i
            if element == "source":
                self._source = i

    def __call__(self, *args):
        cdef int64_t slots[MOST_SLOTS]
        cdef double *floats = <double *> slots
        cdef entry_t entry = NULL
        cdef int slot = self._fill(args, slots, &entry)
        with nogil:
            entry(slots, floats)
        if self._result == 1:
            return slots[slot]
        return floats[slot] if self._result == 2 else None

    def bind(self, *args):
        """Return the call with these arguments as a function without arguments, which reads the arrays anew each time.

        Raises
        ------
        TypeError
            If an argument is of another kind.
        """
        cdef BoundKernel bound = BoundKernel.__new__(BoundKernel)
        bound._result_slot = self._fill(args, bound._slots, &bound._entry)
        bound._arguments, bound._result = args, self._result
        return bound

    cdef int _fill(self, tuple args, int64_t *slots, entry_t *entry) except -1:
        """Write the arguments to ``slots``, and set the function to call; return the slot of the result."""
        cdef double *floats = <double *> slots
        cdef int i, axis, slot = 0, kind, real = -1, source = -1
        cdef cnp.ndarray array
        if len(args) != self._count:
            raise TypeError(f"{self.name} takes {self._count} arguments, got {len(args)}.")
        if self._real >= 0:
            real = _type_of(args[self._real])
        if self._source >= 0:
            source = _type_of(args[self._source])
        address = self._addresses.get((real, source))
        if address is None:
            if (real, source) not in self._versions:
                raise self._wrong(args, self._real if self._source < 0 else self._source)
            address = self._addresses[real, source] = self._address(*self._versions[real, source])
        for i in range(self._count):
            one = args[i]
            if self._kinds[i] == ARRAY:
                if not isinstance(one, cnp.ndarray):
                    raise self._wrong(args, i)
                array = one
                kind = self._types[i]
                if kind < 0:
                    kind = source if i == self._source else real
                if (cnp.PyArray_TYPE(array) != kind or cnp.PyArray_NDIM(array) != self._dimensions[i]
                        or not cnp.PyArray_IS_C_CONTIGUOUS(array)):
                    raise self._wrong(args, i)
                slots[slot] = <int64_t> <uintptr_t> cnp.PyArray_DATA(array)
                for axis in range(self._dimensions[i]):
                    slots[slot + 1 + axis] = cnp.PyArray_DIM(array, axis)
                slot += 1 + self._dimensions[i]
            elif self._kinds[i] == INTEGER:
                slots[slot] = <int64_t> <uint64_t> (one if one >= 0 else one + (1 << 64))
                slot += 1
            else:
                floats[slot] = one
                slot += 1
        entry[0] = <entry_t> <uintptr_t> address
        return slot

    cdef object _wrong(self, args, int i):
        element, dimensions = self.arguments[i]
        found = args[i]
        what = f"{found.dtype} array of shape {found.shape}" if isinstance(found, cnp.ndarray) else type(found).__name__
        return TypeError(
            f"Argument {i} of {self.name} is a {what}; expected a contiguous {element} array of {dimensions} dimensions."
        )


cdef int _type_of(one) except? -1:
    return cnp.PyArray_TYPE(<cnp.ndarray> one) if isinstance(one, cnp.ndarray) else -1


cdef class BoundKernel:
    """Call of a kernel with fixed arguments, made by `Kernel.bind`: a tenth of a microsecond more than the kernel."""

    cdef int64_t _slots[MOST_SLOTS]
    cdef entry_t _entry
    cdef int _result, _result_slot
    cdef tuple _arguments  # keeps the arrays alive

    def __call__(self):
        with nogil:
            self._entry(self._slots, <double *> self._slots)
        if self._result == 1:
            return self._slots[self._result_slot]
        return (<double *> self._slots)[self._result_slot] if self._result == 2 else None


include "inputs.pxi"
include "weights.pxi"
include "step.pxi"
include "job.pxi"
include "helpers.pxi"
include "plan.pxi"
include "faults.pxi"
