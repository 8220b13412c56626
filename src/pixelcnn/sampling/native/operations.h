/* The operations, see pixelcnn/operations: their numbers, and what pointwise ones compute, in floating point or, if
 * compiled with EXACT, on the grid. A new pointwise one is a number in the enum and a case in `apply_to_features`. */

enum {
    PRODUCT, SUM, GATE, GLU, CONCAT_ELU, POSITION, KEEP_KEYS, KEEP_VALUES, ATTENTION, UPSAMPLE, SCALE, ACTIVATION, CONCAT,
    NORM
};

enum { ELU, SILU, GELU };                            /* `count` of an ACTIVATION */
enum { RMS, PONO };                                  /* `count` of a NORM */

#ifdef EXACT
/* Adding and subtracting 1.5 * 2^(52 - bits) rounds to multiples of 2^-bits, ties to even. */
#define ON_GRID(x, bits) (((x) + 0x1.8p52 / (1LL << (bits))) - 0x1.8p52 / (1LL << (bits)))

static const double *heads, *tails;                  /* tables of exponentials, see arithmetic/grid.py */

void set_tables(const double *head, const double *tail) { heads = head, tails = tail; }

static ALWAYS double held(double x, double limit) { return x > limit ? limit : x < -limit ? -limit : x; }

static ALWAYS double exp_negative(double t)
{
    int64_t i = (int64_t)(t < 31.999 ? t * 4096 : 131071);
    return ON_GRID(heads[i >> 6] * tails[i & 63], 28);
}

static ALWAYS double sigmoid(double x)
{
    double upper = ON_GRID(1 / (1 + exp_negative(fabs(x))), 24);
    return x < 0 ? 1 - upper : upper;
}

static ALWAYS double tanh_on_grid(double x)
{
    double e = exp_negative(2 * fabs(x)), y = ON_GRID((1 - e) / (1 + e), 24);
    return x < 0 ? -y : y;
}

/* target = unit(sign * a, b), each of `columns` columns. */
static ALWAYS void units(const int64_t kind, real *target, const real *a, const real *b, real sign, int64_t columns)
{
    for (int64_t c = 0; c < columns; c++) {
        double x = sign * a[c];
        target[c] = kind == CONCAT_ELU ? (x > 0 ? x : ON_GRID(exp_negative(fabs(x)) - 1, 12))
                    : kind == GLU      ? ON_GRID(x * sigmoid(b[c]), 12)
                                       : ON_GRID(tanh_on_grid(x) * sigmoid(b[c]), 12);
    }
}

static void scale_columns(real *target, const real *x, const real *factors, int64_t columns)
{
    for (int64_t c = 0; c < columns; c++) target[c] = held(ON_GRID(x[c] * factors[c], 12), 1024);
}

/* See operations/norm.py: sums are exact. */
static void norm_columns(const int64_t kind, real *target, const real *x, int64_t columns)
{
    double mean = 0, sum = 0;
    if (kind == PONO) {
        for (int64_t c = 0; c < columns; c++) mean += held(x[c], 1024);
        mean = ON_GRID(mean / (double)columns, 12);
    }
    for (int64_t c = 0; c < columns; c++) {
        target[c] = held(held(x[c], 1024) - mean, 1024);
        sum += target[c] * target[c];
    }
    const double root = sqrt(sum / (double)columns + 0x1p-16);
    for (int64_t c = 0; c < columns; c++) target[c] = ON_GRID(target[c] / root, 12);
}

/* See operations/activation.py. */
static void activate_columns(const int64_t kind, real *target, const real *x, int64_t columns)
{
    const double linear = 26145 / 16384.0, cubic = 1169 / 16384.0;
    for (int64_t c = 0; c < columns; c++) {
        double a = x[c], b = a;
        if (kind == GELU) b = held(a, 8), b = ON_GRID(b * (ON_GRID(b * b, 12) * cubic + linear), 12);
        target[c] = kind != ELU ? ON_GRID(a * sigmoid(b), 12) : a > 0 ? a : ON_GRID(exp_negative(fabs(a)) - 1, 12);
    }
}

/* See `attend` in operations/attention.py: sums are exact, so their order does not matter. */
static void attend(const real *query, const real *keys, int64_t per_feature, const real *values, int64_t per_pixel,
                   real *out, int64_t size, int64_t seen, real *scores)
{
    const double scale = (double)(((int64_t)sqrt((double)((1LL << 30) / size)) + 1) / 2) / 16384;
    double top = -INFINITY, sum = 0;
    for (int64_t p = 0; p < seen; p++) scores[p] = 0;
    for (int64_t k = 0; k < size; k++)
        for (int64_t p = 0; p < seen; p++) scores[p] += query[k] * keys[k * per_feature + p];
    for (int64_t p = 0; p < seen; p++) {
        scores[p] = ON_GRID(held(ON_GRID(scores[p], 12), 1024) * scale, 12);
        top = scores[p] > top ? scores[p] : top;
    }
    for (int64_t p = 0; p < seen; p++) sum += scores[p] = ON_GRID(exp_negative(top - scores[p]), 16);
    for (int64_t c = 0; c < size; c++) out[c] = 0;
    for (int64_t p = 0; p < seen; p++)
        for (int64_t c = 0; c < size; c++) out[c] += scores[p] * values[p * per_pixel + c];
    for (int64_t c = 0; c < size; c++) out[c] = ON_GRID(out[c] / sum, 12);
}

#else
/* exp for floats between -87 and 87, to about one unit in the last place. */
static ALWAYS vec exponential(vec x)
{
    if (sizeof(real) == sizeof(double)) {
        for (int lane = 0; lane < LANES; lane++) x[lane] = exp(x[lane]);
        return x;
    }
    const real shift = 12582912;                     /* 1.5 * 2^23: rounds to integers, which the low bits then hold */
    vec shifted = x * (real)1.44269504088896341 + shift, n = shifted - shift;
    vec r = x - n * (real)0.693359375 + n * (real)2.12194440e-4;
    vec y = (vec){0} + (real)1.9875691500e-4;
    y = y * r + (real)1.3981999507e-3;
    y = y * r + (real)8.3334519073e-3;
    y = y * r + (real)4.1665795894e-2;
    y = y * r + (real)1.6666665459e-1;
    y = y * r + (real)5.0000001201e-1;
    y = y * r * r + r + 1;
    typedef int32_t bits __attribute__((vector_size(VECTOR_BYTES)));
    return y * (vec)(((bits)shifted << 23) + (127 << 23));
}

static ALWAYS vec unit(const int64_t kind, vec a, vec b)
{
    vec one = (vec){0} + 1;
    if (kind == CONCAT_ELU)                          /* max(a, 0) + min(exp(a) - 1, 0) */
        return positive(a) - positive(one - exponential(clamped(a, 80)));
    vec inverse = exponential(clamped((vec){0} - b, 80)) + one; /* of the sigmoid of b */
    if (kind == GLU) return a / inverse;
    vec e = exponential(clamped(a + a, 40));
    return (e - one) / ((e + one) * inverse);        /* tanh(a) is (e - 1) / (e + 1): one division for both */
}

/* target = unit(sign * a, b), each of `columns` columns. */
static ALWAYS void units(const int64_t kind, real *target, const real *a, const real *b, real sign, int64_t columns)
{
    for (int64_t c = 0; c < columns; c += LANES) {
        if (columns - c >= LANES) {
            *(loose *)(target + c) = unit(kind, sign * *(const loose *)(a + c), *(const loose *)(b + c));
            continue;
        }
        /* what is read past the end is not stored */
        store(target + c, unit(kind, sign * *(const loose *)(a + c), *(const loose *)(b + c)), columns - c);
    }
}

static void scale_columns(real *target, const real *x, const real *factors, int64_t columns)
{
    for (int64_t c = 0; c < columns; c++) target[c] = x[c] * factors[c];
}

/* See operations/norm.py. */
static void norm_columns(const int64_t kind, real *target, const real *x, int64_t columns)
{
    real mean = 0, sum = 0;
    if (kind == PONO) {
        for (int64_t c = 0; c < columns; c++) mean += x[c];
        mean /= (real)columns;
    }
    for (int64_t c = 0; c < columns; c++) sum += (x[c] - mean) * (x[c] - mean);
    const real root = (real)sqrt((double)(sum / (real)columns) + 0x1p-16);
    for (int64_t c = 0; c < columns; c++) target[c] = (x[c] - mean) / root;
}

static ALWAYS vec activation(const int64_t kind, vec a)
{
    vec one = (vec){0} + 1, b = clamped(a, 80);
    if (kind == ELU) return positive(a) - positive(one - exponential(b));
    if (kind == GELU) {                              /* 1 + tanh(y) is twice the sigmoid of 2 y */
        b = clamped(a, 8);
        b = b * (((vec){0} + (real)0.0713548162726009) * b * b + (real)1.5957691216057308);
    }
    return a / (exponential((vec){0} - b) + one);
}

static void activate_columns(const int64_t kind, real *target, const real *x, int64_t columns)
{
    for (int64_t c = 0; c < columns; c += LANES)     /* what is read past the end is not stored */
        store(target + c, kind == ELU    ? activation(ELU, *(const loose *)(x + c))
                          : kind == SILU ? activation(SILU, *(const loose *)(x + c))
                                         : activation(GELU, *(const loose *)(x + c)), columns - c);
}

static ALWAYS vec larger(vec a, vec b)
{
    return (vec)(((__typeof__(a > b))a & (a > b)) | ((__typeof__(a > b))b & ~(a > b)));
}

/* out = softmax(query keys / sqrt(size)) values, for one head over the first `seen` pixels, at least one; `scores` has
 * room for a multiple of BLOCK. The softmax's sum has BLOCK partial sums, that of the values 4, on every machine. */
static void attend(const real *query, const real *keys, int64_t per_feature, const real *values, int64_t per_pixel,
                   real *out, int64_t size, int64_t seen, real *scores)
{
    const real scale = (real)(1 / sqrt((double)size));
    const int64_t end = (seen + BLOCK - 1) / BLOCK * BLOCK;
    vec tops = (vec){0} - INFINITY, sums[VECTORS];
    for (int64_t p = 0; p < end; p += BLOCK) {
        UNROLL
        for (int v = 0; v < VECTORS; v++) sums[v] = (vec){0};
        for (int64_t k = 0; k < size; k++) {
            vec value = query[k] - (vec){0};
            UNROLL
            for (int v = 0; v < VECTORS; v++)
                sums[v] = fused(value, *(const loose *)(keys + k * per_feature + p + v * LANES), sums[v]);
        }
        UNROLL
        for (int v = 0; v < VECTORS; v++) *(loose *)(scores + p + v * LANES) = sums[v] * scale;
    }
    for (int64_t p = seen; p < end; p++) scores[p] = -INFINITY;
    for (int64_t p = 0; p < end; p += LANES) tops = larger(*(const loose *)(scores + p), tops);
    real top = tops[0], sum = 0, parts[BLOCK];
    for (int64_t lane = 1; lane < LANES; lane++)
        if (tops[lane] > top) top = tops[lane];
    for (int64_t p = 0; p < end; p += LANES)
        *(loose *)(scores + p) = exponential(clamped(*(const loose *)(scores + p) - top, 80));
    for (int64_t p = seen; p < end; p++) scores[p] = 0;
    UNROLL
    for (int v = 0; v < VECTORS; v++) sums[v] = (vec){0};
    for (int64_t p = 0; p < end; p += BLOCK)
        UNROLL
        for (int v = 0; v < VECTORS; v++) sums[v] += *(const loose *)(scores + p + v * LANES);
    UNROLL
    for (int v = 0; v < VECTORS; v++) *(loose *)(parts + v * LANES) = sums[v];
    for (int64_t k = 0; k < BLOCK; k++) sum += parts[k];
    for (int64_t c = 0; c < size; c += LANES) {
        vec found[4] = {{0}, {0}, {0}, {0}};
        for (int64_t p = 0; p < seen; p += 4)        /* may include up to 3 further pixels, whose scores are 0 */
            UNROLL
            for (int q = 0; q < 4; q++)
                found[q] = fused(scores[p + q] - (vec){0}, *(const loose *)(values + (p + q) * per_pixel + c), found[q]);
        vec y = ((found[0] + found[1]) + (found[2] + found[3])) / sum;
        for (int64_t lane = 0; lane < LANES && c + lane < size; lane++) out[c + lane] = y[lane];
    }
}
#endif

/* One colour group of one row of features: the target from the source x and the residual y, each from its column 0. */
static ALWAYS void apply_to_features(const struct plan *plan, const struct op *op, real *target, const real *x,
                                     const real *y)
{
    const int64_t first = op->column, columns = op->columns, half = columns / 2;
    switch (op->kind) {
    case SUM:
        for (int64_t c = 0; c < columns; c++) target[c] = x[first + c] + y[first + c];
        return;
    case GATE: units(GATE, target, x + 2 * first, x + 2 * first + columns, 1, columns); return;
    case GLU: units(GLU, target, x + 2 * first, x + 2 * first + columns, 1, columns); return;
    case CONCAT_ELU:
        units(CONCAT_ELU, target, x + first / 2, x, 1, half);
        units(CONCAT_ELU, target + half, x + first / 2, x, -1, half);
        return;
    case SCALE: scale_columns(target, x + first, plan->weights + op->weights, columns); return;
    case NORM: norm_columns(op->count, target, x + first, columns); return;
    case ACTIVATION: activate_columns(op->count, target, x + first, columns); return;
    case CONCAT:                                     /* `count` columns of x from `runs`, then those of y from `bias` */
        memcpy(target, x + op->runs, op->count * sizeof(real));
        memcpy(target + op->count, y + op->bias, (columns - op->count) * sizeof(real));
        return;
    }
}
