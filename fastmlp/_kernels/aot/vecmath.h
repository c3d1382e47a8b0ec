/* Elementary functions on VEC: those of cpu/vecmath.py, which explains them, with the same coefficients. */

/* c[0] + v (c[1] + v (...)), each step one fma. */
#define POLYNOMIAL(v, table) NAME(polynomial)(v, table, (int)(sizeof(table) / sizeof(table[0])))
static inline VEC NAME(polynomial)(VEC v, const REAL *c, int count) {
    VEC y = NAME(full)(c[count - 1]);
    for (int i = count - 2; i >= 0; i--) y = NAME(fma)(v, y, NAME(full)(c[i]));
    return y;
}

#define FULL(a) NAME(full)((REAL)(a))
#define K(x) CONSTANT(x)

/* v 2^n with n = rounded - K(rounding), in two factors. */
static inline VEC NAME(scale)(VEC v, VEC rounded) {
    const INTEGER mantissa = BITS == 32 ? 23 : 52, bias = BITS == 32 ? 127 : 1023;
    INTS n = NAME(bits)(rounded) - NAME(bits)(FULL(K(rounding))), half = n >> 1;
    v = v * NAME(from_bits)((INTS)((NAME(unsigneds))(half + bias) << mantissa));
    return v * NAME(from_bits)((INTS)((NAME(unsigneds))(n - half + bias) << mantissa));
}

static inline VEC NAME(reduce)(VEC v, VEC *rounded, VEC *n) {
    *rounded = NAME(fma)(v, FULL(K(log2e)), FULL(K(rounding)));
    *n = *rounded - FULL(K(rounding));
    return NAME(fma)(*n, FULL(-K(ln2_high)), v);
}

static inline VEC NAME(reduce_limited)(VEC v, VEC *rounded) {
    VEC n, r, low = FULL(K(exp_lowest)), high = FULL(K(exp_highest));
    v = NAME(where)(LESS(high, v), high, v);
    v = NAME(where)(LESS(v, low), low, v);
    r = NAME(reduce)(v, rounded, &n);
    return NAME(fma)(n, FULL(-K(ln2_low)), r);
}

static inline VEC NAME(curve)(VEC r) { return r * r * POLYNOMIAL(r, K(exp)); }

static inline VEC NAME(exp)(VEC v) {
    VEC rounded, r = NAME(reduce_limited)(v, &rounded), one = FULL(1);
    return NAME(scale)(NAME(fma)(r, NAME(fma)(r, POLYNOMIAL(r, K(exp)), one), one), rounded);
}

static inline VEC NAME(expm1)(VEC v) {
    VEC rounded, r = NAME(reduce_limited)(v, &rounded), s = NAME(scale)(FULL(0.5), rounded);
    VEC y = NAME(fma)(s, NAME(curve)(r), NAME(fma)(s, r, s - FULL(0.5))) * FULL(2);
    return NAME(where)(LESS(NAME(absolute)(v), FULL(K(identity))), v, y);
}

static inline VEC NAME(tanh)(VEC v) {
    VEC a = NAME(absolute)(v), square = a * a;
    VEC near = NAME(fma)(a * square, POLYNOMIAL(square, K(tanh)), a);
    VEC far = FULL(1) - FULL(2) / (NAME(exp)(a + a) + FULL(1));
    return NAME(copy_sign)(NAME(where)(LESS(a, FULL(0.625)), near, far), v);
}

static inline VEC NAME(sigmoid)(VEC v) {
    VEC one = FULL(1), e = NAME(exp)(-NAME(absolute)(v)), numerator = NAME(where)(LESS(v, FULL(0)), e, one);
    VEC below = one + e, lost = e - (below - one), inverse = one / below, y = numerator * inverse;
    return NAME(fma)(NAME(fma)(-y, lost, NAME(fma)(-y, below, numerator)), inverse, y);
}

static inline VEC NAME(log1p_unit)(VEC v) {
    INTS upper = LESS(FULL(0.5), v);
    VEC f = NAME(where)(upper, (v - FULL(1)) * FULL(0.5), v), s = f / (f + FULL(2)), z = s * s;
    VEC half = f * f * FULL(0.5), rest = NAME(fma)(-s, NAME(fma)(z, POLYNOMIAL(z, K(log1p)), half), half);
    return NAME(where)(upper, (f - (rest - FULL(K(ln2_low)))) + FULL(K(ln2_high)), f - rest);
}

static inline VEC NAME(softplus)(VEC v) {
    return NAME(where)(LESS(v, FULL(0)), FULL(0), v) + NAME(log1p_unit)(NAME(exp)(-NAME(absolute)(v)));
}

static inline VEC NAME(normal_cdf)(VEC v) {
    VEC limit = FULL(K(normal_limit)), a = NAME(absolute)(v), shift = FULL(CDF_SHIFT), one = FULL(1);
    VEC scaled, high, low, rounded, n, r, d, below, lost, inverse, error, t, center, slope, series, series_lost;
    VEC factor, factor_lost, curve, y, outward;
    a = NAME(where)(LESS(limit, a), limit, a);
    scaled = a * FULL(-0.5), high = a * scaled, low = NAME(fma)(a, scaled, -high);
    r = NAME(reduce)(high, &rounded, &n);
    d = NAME(fma)(n, FULL(-K(ln2_low)), low);
    below = a + shift, lost = a - (below - shift), inverse = one / below;
    error = NAME(fma)(-inverse, lost, NAME(fma)(-inverse, below, one));
    t = NAME(fma)(inverse * error, FULL(-2 * CDF_SHIFT), NAME(fma)(inverse, FULL(-2 * CDF_SHIFT), one));
    center = FULL(K(normal_center)), slope = POLYNOMIAL(t, K(normal_slope));
    series = NAME(fma)(t, slope, center), series_lost = NAME(fma)(t, slope, center - series);
    factor = series * inverse;
    factor_lost = NAME(fma)(series_lost, inverse, NAME(fma)(series, inverse, -factor));
    curve = NAME(curve)(r);
    y = NAME(fma)(factor * (r + curve + one), error + d, factor_lost);
    y = NAME(fma)(factor, r, NAME(fma)(factor, curve, y)) + factor;
    outward = NAME(scale)(y, rounded);
    return NAME(where)(LESS(FULL(0), v), one - outward, outward);
}

/* v, not beyond +-bound; NaN stays. */
static inline VEC NAME(clamp)(VEC v, VEC bound) {
    v = NAME(where)(LESS(bound, v), bound, v);
    return NAME(where)(LESS(v, -bound), -bound, v);
}

#define MAP(EXPRESSION)                                                                                              \
    for (ptrdiff_t i = 0; i < count; i += LANES) {                                                                        \
        VEC v = NAME(load)(a + i);                                                                                   \
        NAME(store)(a + i, EXPRESSION);                                                                              \
    }                                                                                                                \
    break;
