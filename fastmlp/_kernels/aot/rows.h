/* Operations on one row in a buffer whose width is padded to whole vectors; they compute over the true width. */

/* The sum of the lanes, by halves. */
static inline REAL NAME(fold)(VEC v) {
    REAL lanes[LANES];
    memcpy(lanes, &v, sizeof lanes);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return lanes[0];
}

/* a (n) = exp(a - max) / sum; what stands behind n is overwritten. */
static void NAME(softmax)(REAL *a, ptrdiff_t n, ptrdiff_t padded) {
    REAL largest = a[0];
    VEC total = FULL(0), shift;
    for (ptrdiff_t i = 1; i < n; i++)
        if (a[i] > largest || largest != largest) largest = a[i];
    for (ptrdiff_t i = n; i < padded; i++) a[i] = (REAL)-INFINITY;
    shift = FULL(largest);
    for (ptrdiff_t i = 0; i < padded; i += LANES) {
        VEC e = NAME(exp)(NAME(load)(a + i) - shift);
        NAME(store)(a + i, e);
        total += e;
    }
    shift = FULL(NAME(fold)(total));
    for (ptrdiff_t i = 0; i < padded; i += LANES) NAME(store)(a + i, NAME(load)(a + i) / shift);
}

/* a (n) = (a - mean) / sqrt(var + eps) weight + bias; pads of weight and bias are zero. */
static void NAME(layer_norm)(REAL *a, ptrdiff_t n, ptrdiff_t padded, const REAL *weight, const REAL *bias, REAL eps) {
    VEC total = FULL(0), mean, scale;
    for (ptrdiff_t i = n; i < padded; i++) a[i] = 0;
    for (ptrdiff_t i = 0; i < padded; i += LANES) total += NAME(load)(a + i);
    mean = FULL(NAME(fold)(total) / (REAL)n);
    total = FULL(0);
    for (ptrdiff_t i = 0; i < padded; i += LANES) NAME(store)(a + i, NAME(load)(a + i) - mean);
    for (ptrdiff_t i = n; i < padded; i++) a[i] = 0;
    for (ptrdiff_t i = 0; i < padded; i += LANES) total += NAME(load)(a + i) * NAME(load)(a + i);
    scale = FULL(1 / SQRT(NAME(fold)(total) / (REAL)n + eps));
    for (ptrdiff_t i = 0; i < padded; i += LANES)
        NAME(store)(a + i, NAME(load)(a + i) * scale * NAME(load)(weight + i) + NAME(load)(bias + i));
}

/* a (padded) = (a - mean) / scale; pads of scale are one. */
static void NAME(normalize)(REAL *a, ptrdiff_t padded, const REAL *mean, const REAL *scale) {
    for (ptrdiff_t i = 0; i < padded; i += LANES)
        NAME(store)(a + i, (NAME(load)(a + i) - NAME(load)(mean + i)) / NAME(load)(scale + i));
}

/* to (n) from numbers `step` bytes apart: REALs, or bytes. */
static void NAME(gather)(const char *from, ptrdiff_t step, int bytes, ptrdiff_t n, REAL *to) {
    if (bytes && step == 1)
        for (ptrdiff_t i = 0; i < n; i++) to[i] = (REAL)((const unsigned char *)from)[i];
    else if (bytes)
        for (ptrdiff_t i = 0; i < n; i++) to[i] = (REAL)*(const unsigned char *)(from + i * step);
    else
        for (ptrdiff_t i = 0; i < n; i++) memcpy(to + i, from + i * step, sizeof(REAL));
}
