/* The kernels for one instruction set, chosen by the compiler's flags, for float and for double. */
#ifndef FASTMLP_KERNELS_H
#define FASTMLP_KERNELS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "constants.h" /* written by setup.py */

#if defined(FASTMLP_SCALAR) || !(defined(__GNUC__) || defined(__clang__))
#define VECTOR_BYTES 0
#define TILE_ROWS 6
#define INSTRUCTIONS "scalar"
#elif defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>
#define VECTOR_BYTES 64
#define TILE_ROWS 12
#define INSTRUCTIONS "avx512"
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define VECTOR_BYTES 32
#define TILE_ROWS 6
#define INSTRUCTIONS "avx2"
#elif defined(__aarch64__)
#include <arm_neon.h>
#define VECTOR_BYTES 16
#define TILE_ROWS 12
#define INSTRUCTIONS "neon"
#else
#define VECTOR_BYTES 16
#define TILE_ROWS 6
#define INSTRUCTIONS "baseline"
#endif

/* Lines of a panel that are fetched before they are needed: the four streams of a row come from beyond L2. */
#if VECTOR_BYTES
#define AHEAD(p) __builtin_prefetch((const char *)(p) + FETCH_AHEAD);
#else
#define AHEAD(p)
#endif
#ifndef FETCH_AHEAD
#define FETCH_AHEAD 1024
#endif

#define REAL float
#define INTEGER int32_t
#define UNSIGNED uint32_t
#define BITS 32
#define NAME(x) f32_##x
#define CONSTANT(x) C32_##x
#define SQRT(x) sqrtf(x)
#if VECTOR_BYTES == 64
#define FUSED _mm512_fmadd_ps
#define AT_LEAST _mm512_max_ps
#elif VECTOR_BYTES == 32
#define FUSED _mm256_fmadd_ps
#define AT_LEAST _mm256_max_ps
#elif defined(__aarch64__) && VECTOR_BYTES
#define FUSED(a, b, c) vfmaq_f32(c, a, b)
#elif defined(__SSE2__) && VECTOR_BYTES
#include <emmintrin.h>
#define AT_LEAST _mm_max_ps
#endif
#include "simd.h"
#include "vecmath.h"
#include "activations.h" /* written by setup.py */
#include "tile.h"
#include "rows.h"
#include "again.h"

#define REAL double
#define INTEGER int64_t
#define UNSIGNED uint64_t
#define BITS 64
#define NAME(x) f64_##x
#define CONSTANT(x) C64_##x
#define SQRT(x) sqrt(x)
#if VECTOR_BYTES == 64
#define FUSED _mm512_fmadd_pd
#define AT_LEAST _mm512_max_pd
#elif VECTOR_BYTES == 32
#define FUSED _mm256_fmadd_pd
#define AT_LEAST _mm256_max_pd
#elif defined(__aarch64__) && VECTOR_BYTES
#define FUSED(a, b, c) vfmaq_f64(c, a, b)
#elif defined(__SSE2__) && VECTOR_BYTES
#define AT_LEAST _mm_max_pd
#endif
#include "simd.h"
#include "vecmath.h"
#include "activations.h" /* written by setup.py */
#include "tile.h"
#include "rows.h"
#include "again.h"

#define F32_LANES (VECTOR_BYTES ? VECTOR_BYTES / 4 : 1)
#define F64_LANES (VECTOR_BYTES ? VECTOR_BYTES / 8 : 1)

/* Results below the normal range become zero while a kernel runs: returns what to restore. */
#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
static inline uint64_t flush_to_zero(void) {
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    return before;
}
static inline void restore_flushing(uint64_t before) { _mm_setcsr((unsigned)before); }
static inline void relax(void) { _mm_pause(); }
#elif defined(__aarch64__)
static inline uint64_t flush_to_zero(void) {
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | (1u << 24)));
    return before;
}
static inline void restore_flushing(uint64_t before) { __asm__ volatile("msr fpcr, %0" : : "r"(before)); }
static inline void relax(void) { __asm__ volatile("yield"); }
#else
static inline uint64_t flush_to_zero(void) { return 0; }
static inline void restore_flushing(uint64_t before) { (void)before; }
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
static inline void wait_a_little(ptrdiff_t turn) {
    if (turn % 64 == 63) give_way(); else relax();
}

/* Sequentially consistent operations; without helpers each call has its counters to itself. */
#if defined(_MSC_VER) && !defined(__clang__)
#define HAS_TEAM 0 /* helpers are not written for Windows' threads */
static inline ptrdiff_t atomic_get(ptrdiff_t *p) { return *p; }
static inline void atomic_set(ptrdiff_t *p, ptrdiff_t v) { *p = v; }
static inline ptrdiff_t atomic_add(ptrdiff_t *p, ptrdiff_t v) { ptrdiff_t old = *p; *p += v; return old; }
static inline int atomic_swap(ptrdiff_t *p, ptrdiff_t from, ptrdiff_t to) {
    int same = *p == from;
    if (same) *p = to;
    return same;
}
#else
#define HAS_TEAM 1
static inline ptrdiff_t atomic_get(ptrdiff_t *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
static inline void atomic_set(ptrdiff_t *p, ptrdiff_t v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }
static inline ptrdiff_t atomic_add(ptrdiff_t *p, ptrdiff_t v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }
static inline int atomic_swap(ptrdiff_t *p, ptrdiff_t from, ptrdiff_t to) {
    return __atomic_compare_exchange_n(p, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
#endif

/* The best instruction set that this processor has, by the names that the extension modules have. */
static inline const char *best_instructions(void) {
#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) return "avx512";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
#endif
    return "baseline";
}
#endif
