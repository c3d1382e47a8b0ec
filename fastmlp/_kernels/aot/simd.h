/* The SIMD vector of one floating type. Included for float and for double, with REAL, INTEGER, UNSIGNED, BITS and NAME(x)
 * defined.
 *
 * VEC is LANES REALs. Arithmetic is the compiler's (+ - * / on vectors); what it lacks is here, the fused multiply-add
 * above all: nothing is ever contracted to one that is not written as one (-ffp-contract=off). */

#define LANES (VECTOR_BYTES ? VECTOR_BYTES / (BITS / 8) : 1)

#if VECTOR_BYTES
typedef REAL NAME(vec) __attribute__((vector_size(VECTOR_BYTES)));
typedef INTEGER NAME(ints) __attribute__((vector_size(VECTOR_BYTES)));
typedef UNSIGNED NAME(unsigneds) __attribute__((vector_size(VECTOR_BYTES)));
#else
typedef REAL NAME(vec);
typedef INTEGER NAME(ints);
typedef UNSIGNED NAME(unsigneds);
#endif
#define VEC NAME(vec)
#define INTS NAME(ints)

static inline VEC NAME(load)(const REAL *p) { VEC v; memcpy(&v, p, sizeof v); return v; }
static inline void NAME(store)(REAL *p, VEC v) { memcpy(p, &v, sizeof v); }
static inline INTS NAME(bits)(VEC v) { INTS i; memcpy(&i, &v, sizeof i); return i; }
static inline VEC NAME(from_bits)(INTS i) { VEC v; memcpy(&v, &i, sizeof v); return v; }

static inline VEC NAME(full)(REAL a) {
#if VECTOR_BYTES
    return a - (VEC){0};  /* minus: -0.0 stays */
#else
    return a;
#endif
}

/* All bits of a lane where the comparison holds, none where it does not or a side is NaN. */
#if VECTOR_BYTES
#define LESS(a, b) ((a) < (b))
#else
#define LESS(a, b) (-(INTEGER)((a) < (b)))
#endif

static inline VEC NAME(where)(INTS mask, VEC a, VEC b) {
    return NAME(from_bits)((NAME(bits)(a) & mask) | (NAME(bits)(b) & ~mask));
}

#define SIGN ((INTEGER)(BITS == 32 ? INT32_MIN : INT64_MIN))
static inline VEC NAME(absolute)(VEC v) { return NAME(from_bits)(NAME(bits)(v) & ~SIGN); }
static inline VEC NAME(copy_sign)(VEC v, VEC sign) {
    return NAME(from_bits)((NAME(bits)(v) & ~SIGN) | (NAME(bits)(sign) & SIGN));
}

/* a b + c, rounded once. */
static inline VEC NAME(fma)(VEC a, VEC b, VEC c) {
#if defined(FUSED)
    return FUSED(a, b, c);
#elif BITS == 32 && VECTOR_BYTES
    /* The product is exact in double; of the two roundings of the sum the first is at most 2^-29 of an ulp. */
    typedef double wide __attribute__((vector_size(2 * VECTOR_BYTES)));
    wide sum = __builtin_convertvector(a, wide) * __builtin_convertvector(b, wide) + __builtin_convertvector(c, wide);
    return __builtin_convertvector(sum, VEC);
#elif BITS == 32
    return (float)((double)a * (double)b + (double)c);
#else
    /* Dekker's product and Knuth's sum (Numer. Math. 18, 1971): what each rounding lost is added at the end. */
    VEC split = NAME(full)(134217729.0), t = a * split, a1 = t - (t - a), a2 = a - a1, b1, b2, p, lost, sum, part;
    t = b * split, b1 = t - (t - b), b2 = b - b1;
    p = a * b, lost = a2 * b2 - (((p - a1 * b1) - a2 * b1) - a1 * b2);
    sum = p + c, part = sum - p;
    return sum + (lost + ((p - (sum - part)) + (c - part)));
#endif
}

/* One term of a product: fused where the processor can. */
#if defined(FUSED)
#define TERM(a, b, c) FUSED(a, b, c)
#else
#define TERM(a, b, c) ((a) * (b) + (c))
#endif

/* v, or `lowest` where v is less; NaN stays. */
static inline VEC NAME(at_least)(VEC v, VEC lowest) {
#if defined(AT_LEAST)
    return AT_LEAST(lowest, v);
#else
    return NAME(where)(LESS(v, lowest), lowest, v);
#endif
}
