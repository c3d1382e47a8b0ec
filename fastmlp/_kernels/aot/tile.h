/* The micro-kernels: c (M, V LANES) = max(a (M, K) b (K, V LANES) + bias, lowest), one multiply-add chain in ascending k
 * for each output, whatever M and V are. `b` is a column panel: K rows of V vectors, one behind the other.
 *
 * Rows of `a` are reached as three from each of M / 3 pointers, so that twelve rows need four registers. */

#define ZERO1(i) VEC c##i##0 = FULL(0);
#define ZERO2(i) ZERO1(i) VEC c##i##1 = FULL(0);
#define STEP1(i, a) { VEC x = NAME(full)(a); c##i##0 = TERM(x, b0, c##i##0); }
#define STEP2(i, a) { VEC x = NAME(full)(a); c##i##0 = TERM(x, b0, c##i##0); c##i##1 = TERM(x, b1, c##i##1); }
#define DONE1(i) NAME(store)(c + (i) * ldc, NAME(at_least)(c##i##0 + bias0, low));
#define DONE2(i) DONE1(i) NAME(store)(c + (i) * ldc + LANES, NAME(at_least)(c##i##1 + bias1, low));

#define LOAD1 VEC b0 = NAME(load)(b);
#define LOAD2 LOAD1 VEC b1 = NAME(load)(b + LANES);
#define BIAS1 VEC low = FULL(lowest), bias0 = NAME(load)(bias);
#define BIAS2 BIAS1 VEC bias1 = NAME(load)(bias + LANES);

#define EACH1(X) X(0)
#define EACH2(X) X(0) X(1)
#define EACH3(X) EACH2(X) X(2)
#define EACH6(X) EACH3(X) X(3) X(4) X(5)
#define EACH12(X) EACH6(X) X(6) X(7) X(8) X(9) X(10) X(11)
#define STEPS1(S) S(0, a[0])
#define STEPS2(S) STEPS1(S) S(1, a[lda])
#define STEPS3(S) STEPS2(S) S(2, a[2 * lda])
#define STEPS6(S) STEPS3(S) S(3, a3[0]) S(4, a3[lda]) S(5, a3[2 * lda])
#define STEPS12(S) STEPS6(S) S(6, a6[0]) S(7, a6[lda]) S(8, a6[2 * lda]) S(9, a9[0]) S(10, a9[lda]) S(11, a9[2 * lda])

#define TILE(M, V)                                                                                                   \
    static void NAME(tile##M##x##V)(ptrdiff_t k, const REAL *a, ptrdiff_t lda, const REAL *b, const REAL *bias, REAL lowest,   \
                                    REAL *c, ptrdiff_t ldc) {                                                             \
        const REAL *a3 = a + 3 * lda, *a6 = a + 6 * lda, *a9 = a + 9 * lda;                                          \
        EACH##M(ZERO##V)                                                                                             \
        for (ptrdiff_t p = 0; p < k; p++) {                                                                               \
            LOAD##V STEPS##M(STEP##V)                                                                                \
            b += V * LANES, a++, a3++, a6++, a9++;                                                                   \
        }                                                                                                            \
        BIAS##V EACH##M(DONE##V)                                                                                     \
        (void)a3, (void)a6, (void)a9, (void)lda, (void)ldc;                                                          \
    }

TILE(1, 1) TILE(2, 1) TILE(3, 1) TILE(6, 1)
TILE(1, 2) TILE(2, 2) TILE(3, 2) TILE(6, 2)
#if TILE_ROWS == 12
TILE(12, 1) TILE(12, 2)
#endif

#define ROWS_OF(M, V)                                                                                                \
    for (; rows >= M; rows -= M, a += M * lda, c += M * ldc) NAME(tile##M##x##V)(k, a, lda, b, bias, lowest, c, ldc);
#if TILE_ROWS == 12
#define ALL_ROWS(V) ROWS_OF(12, V) ROWS_OF(6, V) ROWS_OF(3, V) ROWS_OF(2, V) ROWS_OF(1, V)
#else
#define ALL_ROWS(V) ROWS_OF(6, V) ROWS_OF(3, V) ROWS_OF(2, V) ROWS_OF(1, V)
#endif

/* c (rows, V LANES) for one panel and any number of rows. */
static void NAME(panel)(int vectors, ptrdiff_t rows, ptrdiff_t k, const REAL *a, ptrdiff_t lda, const REAL *b, const REAL *bias,
                        REAL lowest, REAL *c, ptrdiff_t ldc) {
    if (vectors == 2) { ALL_ROWS(2) } else { ALL_ROWS(1) }
}

#define EACH4(X) EACH3(X) X(3)
#define ROW_STEP(i)                                                                                                  \
    c##i##0 = TERM(x, NAME(load)(p##i), c##i##0), c##i##1 = TERM(x, NAME(load)(p##i + LANES), c##i##1);              \
    AHEAD(p##i) p##i += 2 * LANES;
#define ROW_DONE(i)                                                                                                  \
    NAME(store)(c + 2 * (i) * LANES, NAME(at_least)(c##i##0 + NAME(load)(bias + 2 * (i) * LANES), low));             \
    NAME(store)(c + (2 * (i) + 1) * LANES, NAME(at_least)(c##i##1 + NAME(load)(bias + (2 * (i) + 1) * LANES), low));

/* One row and four panels at once: eight chains, as many as it takes to hide an addition behind the others. */
static void NAME(four_panels)(ptrdiff_t k, const REAL *a, const REAL *b, const REAL *bias, REAL lowest, REAL *c) {
    const ptrdiff_t panel = 2 * LANES * k;
    const REAL *p0 = b, *p1 = b + panel, *p2 = p1 + panel, *p3 = p2 + panel;
    VEC low = FULL(lowest);
    EACH4(ZERO2)
    for (ptrdiff_t p = 0; p < k; p++) {
        VEC x = NAME(full)(a[p]);
        EACH4(ROW_STEP)
    }
    EACH4(ROW_DONE)
}

/* c for one row and the panels from first on, up to last; the last panel of all may have one vector (`vectors`). */
static void NAME(row)(ptrdiff_t first, ptrdiff_t last, ptrdiff_t panels, int vectors, ptrdiff_t k, const REAL *a, const REAL *b,
                      const REAL *bias, REAL lowest, REAL *c) {
    const ptrdiff_t width = 2 * LANES;
    while (first < last) {
        const ptrdiff_t whole = (last == panels && vectors == 1 ? last - 1 : last) - first, at = first * width;
        if (whole >= 4) {
            NAME(four_panels)(k, a, b + at * k, bias + at, lowest, c + at);
            first += 4;
        } else {
            NAME(panel)(whole ? 2 : 1, 1, k, a, 0, b + at * k, bias + at, lowest, c + at, 0);
            first += 1;
        }
    }
}
