/* The native engine's inner loop: a recorded network, run over the wavefront of a share of the images.
 *
 * `compiler.py` compiles this file for float, for double, and for double with EXACT, where numbers stay on a grid
 * (operations.h, exact.h); `layout.py` lays out the memory and describes the network as a plan. Everything is a matrix
 * product of rows (the front's pixels times the images) with a convolution's taps; bias, ReLU, adding the residual and
 * the write to the next convolution's cache happen while the result is in registers.
 *
 * Each sum runs over k in the same order, however the rows are tiled: an image's numbers depend on the image alone, not
 * on the batch, the threads or the machine's vector width (as long as it fuses multiply and add).
 */

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#ifdef __FMA__
#include <immintrin.h>
#endif

#ifndef REAL
#define REAL float
#endif
#if defined(VECTOR_BYTES)
/* given by the command line */
#elif defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#define ALWAYS inline __attribute__((always_inline))
#ifdef __clang__                                     /* unless unrolled, arrays indexed in a loop stay in memory */
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define PARTS 2                                      /* vectors in a panel: 6 rows of them fill 16 registers */
#ifdef __AVX512F__                                   /* with 32 registers, weights are reused for more rows */
#define ROWS 8
#else
#define ROWS 6
#endif
#define LANES ((int64_t)(VECTOR_BYTES / sizeof(real)))
#define PANEL (PARTS * LANES)                        /* columns in a panel of weights */
#define MAX_VECTORS 8                                /* of a single row in a tile */
#define MAX_RUNS 512
#define MAX_MIXTURES 64
#define BLOCK 16                                     /* partial sums that run side by side, on any machine */
#define VECTORS ((int)(BLOCK / LANES))               /* vectors that hold them */

typedef REAL real;
typedef LEVEL image_level;                            /* how images hold levels, see compiler.py */
typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef real loose __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias)); /* unaligned */

/* Where features are stored. Those of row r of the front at a given time, `up` image rows above, are at
 *     arena + offset + (time mod slots) * per_step + (first + up) * per_row + r * stride      (slots = 0: no ring)
 * where first is the front's uppermost image row. Scratch, which exists only for the current rows, has per_row =
 * per_step = 0; a ring is written for the time step + lead, see schedule.py. Keys and values of attention cover all
 * pixels, image by image, `stride` numbers each: a key's features are `per_row` apart, each for all pixels; the values
 * of pixels are `per_row` apart, each head's features padded to BLOCK, followed by one number per pixel for scores.
 * A map's features cover all pixels, too: per_row and per_step without slots or a ring.
 *
 * In plans with `by_rows` a slot's time is the column, and instead of time slots there are `ring` slots for image rows,
 * of `per_row` numbers each: the pixels of a row, `per_step` apart, and between rows zeros that are never written.
 * If the image's slot has time slots, it has them twice in a row, so that adjacent pixels are adjacent in memory from any
 * slot on; its images are `stride` apart. */
struct slot {
    int64_t offset, stride, per_row, per_step, slots, lead, ring;
};

/* Adjacent numbers that a convolution reads: the features of adjacent taps in one image row, at the time `delay` before
 * the target's (with by_rows, the column `delay` to the left), in the image row at offset `up` from the target's. */
struct run {
    int64_t delay, up, length;
};

enum { BERNOULLI, CATEGORICAL, MIXTURE };

/* One operation of one colour group: target[:, column : column + columns] = ... */
struct op {
    int64_t kind, lead;                              /* computes the front of the time step + lead */
    int64_t source, target, add, residual;           /* slots, -1 for none; a SUM's terms are source and residual,
                                                        an ATTENTION's keys and values are add and residual */
    int64_t column, columns;
    int64_t relu;                                    /* whether a PRODUCT has ReLU, before the residual is added */
    int64_t runs, count;                             /* the first run and their number; count: heads of an ATTENTION */
    int64_t weights, bias;                           /* where the bias starts, and the panels of a PRODUCT, the table
                                                        of a POSITION or the factors of a SCALE */
    int64_t scale;                                   /* if computed a row at a time, the spacing of its rows and
                                                        columns in pixels; otherwise 0 */
    int64_t stride;                                  /* of a PRODUCT's convolution; the factor of an UPSAMPLE */
    int64_t meets;                                   /* whether it reads what other rows got in the same step */
};

struct plan {
    const struct slot *slots;
    const struct run *runs;
    const struct op *ops;                            /* channel by channel */
    const int64_t *ends;                             /* where each channel's operations end */
    const real *weights;
    const int64_t *rows;                             /* first and end of the image rows of each time */
    int64_t slot_count, output;                     /* output: the slot of the raw parameters */
    int64_t channels, height, width, slope, levels, params;
    int64_t likelihood, mixtures;
    int64_t prelude, origin;                         /* steps before the first pixel; `rows` starts at time -origin */
    int64_t reach;                                   /* zero columns to the right that some convolution sees */
    int64_t by_rows;                                 /* a pixel per step in raster order, some operations row by row */
    int64_t image_features;                          /* numbers by which the network reads a pixel, of all channels */
    int64_t embedding;                               /* where the levels' vectors start in `weights`; -1 for none */
};

#define MAX_BLOCKS 256                               /* of levels whose weights are summed up together */
#define PER_BLOCK(plan) (((plan)->levels + MAX_BLOCKS - 1) / MAX_BLOCKS)

/* How fine mixtures are, see `Resolution` in arithmetic/mixture.py. */
static int64_t extra_bits(const struct plan *plan)
{
    int64_t bits = 0;
    for (int64_t most = plan->levels - 1; most >> (8 + bits);) bits++;
    return bits;
}

static int64_t mean_bits(const struct plan *plan) { return extra_bits(plan) > 4 ? extra_bits(plan) - 4 : 0; }
static double min_log_scale(const struct plan *plan) { return -7 - 0.75 * (double)extra_bits(plan); }

struct coder;

/* What one thread fills: images of its own; or, of images that it has in common with others, some of the front's rows. */
struct share {
    real *arena, *scratch;
    image_level *images;                             /* (n, channels, height, width) */
    int64_t count, n, first;                         /* images, the same with copies, index of the first */
    uint64_t root;                                   /* the seed, mixed */
    double temperature, guidance;
    const uint8_t *known;                            /* (channels, height, width): which levels of `images` are given,
                                                        the same for all images; null for none */
    double *evidence;                                /* per image; the log-probability of known levels is added, or of
                                                        drawn ones if none is known; null for neither */
    struct team *team;                               /* EXACT: the threads that fill a group of images together */
    int64_t part, parts;                             /* which part of each front's rows; 0 of 1 unless shares divide them */
};

int64_t panel(void) { return PANEL; }

static uint64_t mix(uint64_t z)                      /* SplitMix64's finaliser, see randomness.py */
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

double uniform(uint64_t root, int64_t image, int64_t subpixel)
{
    const uint64_t gamma = 0x9E3779B97F4A7C15u;
    uint64_t state = mix(root + (uint64_t)(image + 1) * gamma);
    return (double)(mix(state + (uint64_t)(subpixel + 1) * gamma) >> 11) * 0x1p-53;
}

static ALWAYS int64_t modulo(int64_t x, int64_t size) /* in 32 bits: division costs a third */
{
    int32_t rest = (int32_t)x % (int32_t)size;
    return rest < 0 ? rest + size : rest;
}

#ifdef EXACT
/* Where the share's part of so many rows of the front starts; with part + 1, where it ends. */
static ALWAYS int64_t start_of_part(const struct share *share, int64_t part, int64_t rows)
{
    return share->parts > 1 ? rows * part / share->parts : part * rows;
}
#endif

static ALWAYS real *at(const struct slot *slot, const struct share *share, int64_t time, int64_t row)
{
    if (slot->slots) time = modulo(time, slot->slots);
    if (slot->ring) row = modulo(row, slot->ring);
#ifdef EXACT
    if (!slot->per_row) return share->scratch + slot->offset;
#endif
    return share->arena + slot->offset + time * slot->per_step + row * slot->per_row;
}

/* Where an operation finds its first row: `skip` rows of the front belong to other threads, and scratch has none of them. */
#define SKIPPED(slot) ((slot)->per_row ? skip * (slot)->stride : 0)
#define START(slot) (at(slot, share, time, first_row) + SKIPPED(slot))

/* The arguments of a matrix product, for one block of rows. */
struct product {
    const real *starts[MAX_RUNS];
    int64_t lengths[MAX_RUNS];
    int64_t count, stride;
    const real *weights, *bias;
    int64_t panel_size;                              /* numbers in a panel of weights */
    real *target;
    const real *add, *residual;
    int64_t target_stride, add_stride, residual_stride, columns, relu;
};

/* a b + c, rounded once. Written explicitly: when tuned for some processors, GCC does not fuse it where few sums are in
 * flight, and an image drawn alone would get different bits than one drawn with others. */
static ALWAYS vec fused(vec a, vec b, vec c)
{
#if defined(__AVX512F__) && VECTOR_BYTES == 64
    return sizeof(real) == sizeof(float) ? (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c)
                                         : (vec)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__FMA__) && VECTOR_BYTES == 32
    return sizeof(real) == sizeof(float) ? (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c)
                                         : (vec)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined(__FMA__) && VECTOR_BYTES == 16
    return sizeof(real) == sizeof(float) ? (vec)_mm_fmadd_ps((__m128)a, (__m128)b, (__m128)c)
                                         : (vec)_mm_fmadd_pd((__m128d)a, (__m128d)b, (__m128d)c);
#else
    return a * b + c;
#endif
}

static ALWAYS vec positive(vec x)
{
    return (vec)((x > (vec){0}) & (__typeof__(x > (vec){0}))x);
}

static ALWAYS vec clamped(vec x, real limit)
{
    vec low = (vec){0} - limit, high = (vec){0} + limit;
    x = (vec)(((__typeof__(x > low))x & (x > low)) | ((__typeof__(x > low))low & ~(x > low)));
    return (vec)(((__typeof__(x > low))x & (x < high)) | ((__typeof__(x > low))high & ~(x < high)));
}

/* Stores the first `left` numbers of a vector, at least one. */
static ALWAYS void store(real *target, vec y, int64_t left)
{
    if (left >= LANES) {
        *(loose *)target = y;
        return;
    }
    int64_t lane = 0;
    if (left >= LANES / 2) {
        memcpy(target, &y, sizeof(y) / 2);
        lane = LANES / 2;
    }
    for (; lane < left; lane++) target[lane] = y[lane];
}

/* Computes some vectors of the target's columns, the first of which starts a panel. */
static ALWAYS void tile(const int rows, const int vectors, const struct product *p, int64_t row, int64_t first)
{
    vec sums[ROWS][MAX_VECTORS];
    const real *weights = p->weights + first / PARTS * p->panel_size;
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int c = 0; c < vectors; c++) sums[r][c] = *(const loose *)(p->bias + (first + c) * LANES);
    if (p->add) {
        UNROLL
        for (int r = 0; r < rows; r++)
            UNROLL
            for (int c = 0; c < vectors; c++)
                sums[r][c] += *(const loose *)(p->add + (row + r) * p->add_stride + (first + c) * LANES);
    }
    for (int64_t s = 0; s < p->count; s++) {
        const real *x = p->starts[s] + row * p->stride;
        for (int64_t k = 0; k < p->lengths[s]; k++) {
            vec w[MAX_VECTORS];
            UNROLL
            for (int c = 0; c < vectors; c++)
                w[c] = *(const loose *)(weights + c / PARTS * p->panel_size + c % PARTS * LANES);
            UNROLL
            for (int r = 0; r < rows; r++) {
                vec value = x[r * p->stride + k] - (vec){0};
                UNROLL
                for (int c = 0; c < vectors; c++) sums[r][c] = fused(value, w[c], sums[r][c]);
            }
            weights += PANEL;
        }
    }
    const int full = p->columns >= (first + vectors) * LANES;
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int c = 0; c < vectors; c++) {
            int64_t column = (first + c) * LANES;
            real *target = p->target + (row + r) * p->target_stride + column;
            vec y = sums[r][c];
#ifdef EXACT
            y = clamped((y + 0x1.8p40) - 0x1.8p40, 1024); /* to multiples of 2^-12 */
#endif
            if (p->relu) y = positive(y);
            if (p->residual) y += *(const loose *)(p->residual + (row + r) * p->residual_stride + column);
            if (full) *(loose *)target = y;
            else store(target, y, p->columns - column); /* excess is not stored */
        }
}

#define TILE(rows, vectors) \
    static __attribute__((noinline)) void tile_##rows##_##vectors(const struct product *p, int64_t row, int64_t first) \
    { tile(rows, vectors, p, row, first); }
#define UP_TO_4(rows) TILE(rows, 1) TILE(rows, 2) TILE(rows, 3) TILE(rows, 4)
UP_TO_4(1) TILE(1, 5) TILE(1, 6) TILE(1, 7) TILE(1, 8)
UP_TO_4(2) UP_TO_4(3)
#define TABLE(rows) {0, tile_##rows##_1, tile_##rows##_2, tile_##rows##_3, tile_##rows##_4}
#if ROWS > 6
#define MANY(rows) {0, tile_##rows##_1, tile_##rows##_2, tile_##rows##_3}
TILE(7, 1) TILE(7, 2) TILE(8, 1) TILE(8, 2) TILE(4, 3) TILE(5, 3) TILE(6, 3)
#else
#define MANY(rows) {0, tile_##rows##_1, tile_##rows##_2}
#endif
#define UP_TO_2(rows) TILE(rows, 1) TILE(rows, 2)
UP_TO_2(4) UP_TO_2(5) UP_TO_2(6)

static void multiply(const struct product *p, int64_t all)
{
    static void (*const tiles[ROWS + 1][MAX_VECTORS + 1])(const struct product *, int64_t, int64_t) = {
        {0}, {0, tile_1_1, tile_1_2, tile_1_3, tile_1_4, tile_1_5, tile_1_6, tile_1_7, tile_1_8}, TABLE(2), TABLE(3),
        MANY(4), MANY(5), MANY(6),
#if ROWS > 6
        {0, tile_7_1, tile_7_2}, {0, tile_8_1, tile_8_2},
#endif
    };
    static const int64_t most[] = {0, 8, 4, 4};      /* with few rows, more vectors, to have enough sums in flight */
    const int32_t rows = (int32_t)all;               /* 64-bit division costs three times as much */
    const int64_t vectors = (p->columns + LANES - 1) / LANES;
    for (int64_t first = 0, several; first < vectors; first += several) {
        const int64_t rest = vectors - first, usual = rows > 3 ? PARTS : most[rows];
        several = rest < usual || (ROWS > 6 && rest == 3) ? rest : usual;
        const int32_t largest = several > PARTS ? 6 : ROWS, count = (rows + largest - 1) / largest;
        for (int32_t t = 0, row = 0; t < count; t++) { /* tiles as equal as possible: 9 rows are 4 and 5 */
            int32_t size = (rows - row) / (count - t);
            tiles[size][several](p, row, first);
            row += size;
        }
    }
}

#include "operations.h"

/* The channel's level as the network reads it, into the image's slot: scaled to 0..1, or its row of the embedding. */
static ALWAYS void show(const struct plan *plan, real *seen, int64_t channel, int64_t x)
{
    const int64_t size = plan->embedding < 0 ? 1 : plan->image_features / plan->channels;
    const int64_t again = plan->slots->slots * plan->slots->per_step; /* where its time slots are once more */
    if (plan->embedding < 0) {
        real scaled = (real)x / (real)(plan->levels - 1);
#ifdef EXACT
        scaled = ON_GRID(scaled, 12);
#endif
        seen[0] = scaled;
    } else
        memcpy(seen, plan->weights + plan->embedding + (channel * plan->levels + x) * size, size * sizeof(real));
    if (again) memcpy(seen + again, seen, size * sizeof(real));
}

#ifdef EXACT
#include "exact.h"
#endif

/* POSITION, KEEP_KEYS, KEEP_VALUES and ATTENTION: what depends on position, one pixel of one image at a time; the front
 * starts at first_row, and the share's part of it at `start`. */
static void apply_by_position(const struct plan *plan, const struct op *op, const struct share *share, int64_t time,
                           int64_t first_row, int64_t start, int64_t end)
{
    const struct slot *source = plan->slots + op->source, *target = plan->slots + op->target;
    const int64_t columns = op->columns, size = columns / (op->count ? op->count : 1);
    const int64_t padded = (size + BLOCK - 1) / BLOCK * BLOCK; /* size of each head's values */
    const int64_t skip = (start - first_row) * share->n;
    for (int64_t i = start, r = 0; i < end; i++)
        for (int64_t n = 0; n < share->n; n++, r++) {
            int64_t pixel = i * plan->width + time - plan->slope * i;
            const real *x = START(source) + r * source->stride + op->column;
            if (op->kind == KEEP_KEYS || op->kind == KEEP_VALUES) {
                real *kept = share->arena + target->offset + n * target->stride;
                for (int64_t k = 0; k < columns; k++)
                    if (op->kind == KEEP_KEYS) kept[k * target->per_row + pixel] = x[k];
                    else kept[pixel * target->per_row + k / size * padded + k % size] = x[k];
                continue;
            }
            real *y = START(target) + r * target->stride + op->column;
            if (op->kind == POSITION || pixel == 0) {   /* no pixel precedes the first */
                if (op->kind == POSITION) memcpy(y, plan->weights + op->weights + pixel * columns, columns * sizeof(real));
                else memset(y, 0, columns * sizeof(real));
                continue;
            }
            const struct slot *keys = plan->slots + op->add, *values = plan->slots + op->residual;
            const real *key = share->arena + keys->offset + n * keys->stride;
            const real *value = share->arena + values->offset + n * values->stride;
            real *scores = share->arena + values->offset + share->n * values->stride;
            for (int64_t h = 0; h < op->count; h++)
                attend(x + h * size, key + h * size * keys->per_row, keys->per_row, value + h * padded,
                       values->per_row, y + h * size, size, pixel, scores);
        }
}

/* POSITION and UPSAMPLE, for a whole row of `columns` columns. */
static void apply_to_row(const struct plan *plan, const struct op *op, const struct share *share, int64_t row,
                         int64_t columns)
{
    const struct slot *source = plan->slots + op->source, *target = plan->slots + op->target;
    const int64_t block = share->n * target->stride;
    real *y = at(target, share, 0, row);
    for (int64_t j = 0; j < columns; j++, y += block)
        if (op->kind == UPSAMPLE)
            memcpy(y, at(source, share, j / op->stride, row / op->stride), block * sizeof(real));
        else
            for (int64_t n = 0; n < share->n; n++)
                memcpy(y + n * target->stride + op->column, plan->weights + op->weights + (row * columns + j) * op->columns,
                       op->columns * sizeof(real));
}

static void apply(const struct plan *plan, const struct op *op, const struct share *share, int64_t step)
{
    const struct slot *source = plan->slots + op->source, *target = plan->slots + op->target;
    const struct slot *add = op->add < 0 ? 0 : plan->slots + op->add;
    const struct slot *residual = op->residual < 0 ? 0 : plan->slots + op->residual;
    int64_t time = step + op->lead, first_row, end, columns = 1;
    if (plan->by_rows) {
        if (time < 0) return;
        const int32_t row = (int32_t)time / (int32_t)plan->width;
        first_row = row, time -= row * plan->width;
        if (op->scale) {
            if (time || first_row % op->scale) return; /* a row is computed at its first pixel */
            first_row /= op->scale, columns = (plan->width + op->scale - 1) / op->scale;
        }
        end = first_row + 1;
    } else
        first_row = plan->rows[2 * (time + plan->origin)], end = plan->rows[2 * (time + plan->origin) + 1];
#ifdef EXACT
    const int64_t from = start_of_part(share, share->part, end - first_row), skip = from * share->n;
    end = first_row + start_of_part(share, share->part + 1, end - first_row);
#else
    const int64_t from = 0, skip = 0;
#endif
    int64_t rows = (end - first_row - from) * share->n * columns;
    if (rows == 0) return;
    if (op->scale && (op->kind == POSITION || op->kind == UPSAMPLE)) {
        apply_to_row(plan, op, share, first_row, columns);
        return;
    }
    if (op->kind >= POSITION && op->kind <= ATTENTION) {
        apply_by_position(plan, op, share, time, first_row, first_row + from, end);
        return;
    }
    struct product p;
    p.target = START(target) + op->column;
    p.target_stride = target->stride;
    p.add = add ? START(add) + op->column : 0;
    p.add_stride = add ? add->stride : 0;
    p.residual = residual ? START(residual) + op->column : 0;
    p.residual_stride = residual ? residual->stride : 0;
    p.columns = op->columns;
    if (op->kind != PRODUCT) {
        const real *x = START(source), *y = residual ? START(residual) : 0;
        for (int64_t r = 0; r < rows; r++)
            apply_to_features(plan, op, p.target + r * p.target_stride, x + r * source->stride,
                              y + r * p.residual_stride);
        return;
    }
    p.count = op->count;
    p.stride = source->stride;
    p.panel_size = 0;
    for (int64_t s = 0; s < op->count; s++) {
        const struct run *run = plan->runs + op->runs + s;
        p.starts[s] = at(source, share, time - run->delay, first_row * op->stride + run->up) + SKIPPED(source);
        p.lengths[s] = run->length;
        p.panel_size += run->length * PANEL;
    }
    p.weights = plan->weights + op->weights;
    p.bias = plan->weights + op->bias;
    p.relu = op->relu;
    if (op->source || !op->scale) {
        multiply(&p, rows);
        return;
    }
    p.stride = source->per_step * op->stride;        /* the image is stored image by image, features pixel by pixel */
    p.target_stride *= share->n, p.add_stride *= share->n, p.residual_stride *= share->n;
    for (int64_t n = 0; n < share->n; n++) {
        multiply(&p, columns);
        for (int64_t s = 0; s < op->count; s++) p.starts[s] += source->stride;
        p.target += target->stride;
        if (add) p.add += add->stride;
        if (residual) p.residual += residual->stride;
    }
}

#ifndef EXACT
/* The logits of a sub-pixel: those given, or with guidance free + guidance * (given - free), in the network's precision
 * as in the other engines. */
struct logits {
    const real *given, *free;                        /* free: null without guidance */
    real guidance;
};

/* Copies logits first .. first + count - 1, and -INFINITY after them up to a multiple of 8; returns the largest. */
static ALWAYS double copy_logits(const struct logits *l, int64_t first, int64_t count, double *x)
{
    const real *given = l->given + first, *free = l->free ? l->free + first : 0;
    if (free)
        for (int64_t k = 0; k < count; k++) x[k] = free[k] + l->guidance * (given[k] - free[k]);
    else
        for (int64_t k = 0; k < count; k++) x[k] = given[k];
    for (int64_t k = count; k % 8; k++) x[k] = -INFINITY;
    double tops[8], top;
    for (int j = 0; j < 8; j++) tops[j] = x[j];
    for (int64_t k = 8; k < count; k += 8)
        for (int j = 0; j < 8; j++) tops[j] = x[k + j] > tops[j] ? x[k + j] : tops[j];
    top = tops[0];
    for (int j = 1; j < 8; j++) top = tops[j] > top ? tops[j] : top;
    return top;
}

/* x[k] = exp((x[k] - top) / temperature) for `count` numbers of at most `top`, without calls so that compilers use
 * vectors; exp(-700) for what is less. Sums them, eight partial sums side by side. */
static ALWAYS double exponentials(double *x, int64_t count, double top, double temperature)
{
    const double shift = 0x1.8p52;                   /* rounds to integers, which the low bits then hold */
    double sums[8] = {0}, sum = 0;
    for (int64_t k = 0; k < count; k++) {
        double t = (x[k] - top) / temperature, held = t > -700 ? t : -700;
        double shifted = held * 0x1.71547652b82fep0 + shift, n = shifted - shift;
        double r = held - n * 0x1.62e42fefa38p-1 - n * 0x1.ef35793c7673p-45;
        double y = 0x1.6124613a86d09p-33;            /* 1 / 13!, and so on */
        y = y * r + 0x1.1eed8eff8d898p-29;
        y = y * r + 0x1.ae64567f544e4p-26;
        y = y * r + 0x1.27e4fb7789f5cp-22;
        y = y * r + 0x1.71de3a556c734p-19;
        y = y * r + 0x1.a01a01a01a01ap-16;
        y = y * r + 0x1.a01a01a01a01ap-13;
        y = y * r + 0x1.6c16c16c16c17p-10;
        y = y * r + 0x1.1111111111111p-7;
        y = y * r + 0x1.5555555555555p-5;
        y = y * r + 0x1.5555555555555p-3;
        y = y * r + 0.5;
        y = y * r + 1;
        y = y * r + 1;
        int64_t bits;
        double power;
        memcpy(&bits, &shifted, sizeof(bits));
        bits = (int64_t)(((uint64_t)bits << 52) + (1023ULL << 52));
        memcpy(&power, &bits, sizeof(power));
        x[k] = y * power;
    }
    for (int64_t k = count; k % 8; k++) x[k] = 0;
    for (int64_t k = 0; k < count; k += 8)
        for (int j = 0; j < 8; j++) sums[j] += x[k + j];
    for (int j = 0; j < 8; j++) sum += sums[j];
    return sum;
}

/* The softmax of logits divided by a temperature, in blocks of PER_BLOCK levels, by one pass over them. */
struct softmax {
    double tops[MAX_BLOCKS];                         /* the largest logit of each block */
    double sums[MAX_BLOCKS];                         /* of exp((logit - most) / temperature) in each block */
    double most, sum;
};

static void weigh_blocks(const struct plan *plan, const struct logits *l, double temperature, struct softmax *s)
{
    const int64_t per = PER_BLOCK(plan), blocks = (plan->levels + per - 1) / per;
    double x[MAX_BLOCKS + 8];
    s->sum = 0;
    for (int64_t b = 0; b < blocks; b++) {
        int64_t count = b < blocks - 1 ? per : plan->levels - b * per;
        s->tops[b] = copy_logits(l, b * per, count, x);
        if (b == 0 || s->tops[b] > s->most) s->most = s->tops[b];
        s->sums[b] = per == 1 ? 1 : exponentials(x, count, s->tops[b], temperature);
    }
    for (int64_t b = 0; b < blocks; b++) s->sum += s->sums[b] *= exp((s->tops[b] - s->most) / temperature);
}

/* The number of levels k with CDF(k) <= u, computed in double, see likelihoods.py. */
static int64_t level(const struct plan *plan, const struct logits *l, double u, double temperature)
{
    double x[MAX_BLOCKS + 8], below = 0, before = 0;
    if (plan->likelihood == BERNOULLI) {
        copy_logits(l, 0, 1, x);
        return u >= 1 / (1 + exp(x[0] / temperature));
    }
    struct softmax s;
    weigh_blocks(plan, l, temperature, &s);
    const int64_t per = PER_BLOCK(plan), blocks = (plan->levels + per - 1) / per;
    int64_t b = 0, k = 0;
    while (b < blocks - 1 && u >= (below += s.sums[b] / s.sum)) b++, before = below;
    if (per == 1) return b;
    int64_t count = b < blocks - 1 ? per : plan->levels - b * per;
    copy_logits(l, b * per, count, x);
    double share = s.sums[b] / exponentials(x, count, s.tops[b], temperature) / s.sum;
    while (k < count - 1 && u >= (before += x[k] * share)) k++;
    return b * per + k;
}

static double log_sigmoid(double x) { return x < 0 ? x - log1p(exp(x)) : -log1p(exp(-x)); }

/* The mixture of logistics of one channel given the levels of the earlier ones, see models/plusplus.py. */
struct mixture {
    double weights[MAX_MIXTURES];                   /* logits */
    double mean[MAX_MIXTURES], inverse[MAX_MIXTURES];
};

/* A level scaled to 0..1: up to 256 of them in the network's precision, as in the other engines. */
static double scaled_level(const struct plan *plan, int64_t x)
{
    return sizeof(image_level) == 1 ? (double)((real)x / (real)(plan->levels - 1)) : (double)x / (double)(plan->levels - 1);
}

/* The log-probability of a scaled level, 0..1, under one distribution. */
static double term(const struct mixture *mixture, int64_t k, double level, double half)
{
    double x = 2 * level - 1;
    double upper = (x + half - mixture->mean[k]) * mixture->inverse[k];
    double lower = (x - half - mixture->mean[k]) * mixture->inverse[k];
    double width = 2 * half * mixture->inverse[k];   /* upper - lower, in which a large mean would cancel */
    if (level == 0) return log_sigmoid(upper);
    if (level == 1) return log_sigmoid(-lower);
    return log_sigmoid(upper) + log_sigmoid(-lower) + log(-expm1(-width));
}

static void unpack(const struct plan *plan, const real *raw, const image_level *x, int64_t apart, int64_t channel,
                   struct mixture *mixture)
{
    const int64_t m = plan->mixtures, channels = plan->channels;
    const real *means = raw + m, *log_scales = means + channels * m, *slopes = log_scales + channels * m;
    const double half = 1.0 / (plan->levels - 1), unit = 1.0 / (1LL << mean_bits(plan));
    double most = -INFINITY;
    for (int64_t k = 0; k < m; k++) most = fmax(most, raw[k]);
    for (int64_t k = 0; k < m; k++) mixture->weights[k] = raw[k] - most; /* before anything small is added */
    for (int64_t c = 0; c <= channel; c++)
        for (int64_t k = 0; k < m; k++) {
            double mean = means[c * m + k] * unit;
            for (int64_t j = 0; j < c; j++) {
                int64_t pair = j * (2 * channels - j - 1) / 2 + c - j - 1;
                mean += tanh(slopes[pair * m + k]) * (2.0 * scaled_level(plan, x[j * apart]) - 1);
            }
            mixture->mean[k] = mean;
            mixture->inverse[k] = exp(-fmin(fmax(log_scales[c * m + k], min_log_scale(plan)), 100));
            if (c < channel) mixture->weights[k] += term(mixture, k, scaled_level(plan, x[c * apart]), half);
        }
}

/* Replaces logits by weights, proportional to exp(logits / temperature); returns their sum. */
static double weigh(const struct plan *plan, struct mixture *mixture, double temperature)
{
    double most = -INFINITY, sum = 0, *weights = mixture->weights;
    for (int64_t k = 0; k < plan->mixtures; k++) most = fmax(most, weights[k]);
    for (int64_t k = 0; k < plan->mixtures; k++) sum += weights[k] = exp((weights[k] - most) / temperature);
    return sum;
}

static int64_t mixture_level(const struct plan *plan, struct mixture *mixture, double u, double temperature)
{
    const double sum = weigh(plan, mixture, temperature), top = (double)(plan->levels - 1);
    int64_t low = 0, high = plan->levels - 1;        /* the cumulative distribution never falls */
    while (low < high) {
        int64_t middle = (low + high) / 2;
        double below = 0, edge = (2.0 * middle + 1) / top - 1; /* compilers cannot contract this */
        for (int64_t k = 0; k < plan->mixtures; k++) {
            double x = (mixture->mean[k] - edge) * mixture->inverse[k] / temperature;
            below += mixture->weights[k] / sum / (1 + exp(x));
        }
        if (u >= below) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* The log-probability of a level in nats. */
static double log_prob(const struct plan *plan, const struct logits *l, int64_t x)
{
    double own[8];
    if (plan->likelihood == BERNOULLI) {
        copy_logits(l, 0, 1, own);
        return log_sigmoid(x ? own[0] : -own[0]);
    }
    struct softmax s;
    weigh_blocks(plan, l, 1, &s);
    copy_logits(l, x, 1, own);
    return own[0] - s.most - log(s.sum);
}

static double mixture_log_prob(const struct plan *plan, struct mixture *mixture, int64_t x)
{
    const double top = (double)(plan->levels - 1);
    double terms[MAX_MIXTURES], heaviest = -INFINITY, most = -INFINITY, total = 0, sum = 0;
    for (int64_t k = 0; k < plan->mixtures; k++) heaviest = fmax(heaviest, mixture->weights[k]);
    for (int64_t k = 0; k < plan->mixtures; k++) {
        double weight = mixture->weights[k] - heaviest;
        total += exp(weight);
        terms[k] = weight + term(mixture, k, (double)x / top, 1 / top);
        most = fmax(most, terms[k]);
    }
    for (int64_t k = 0; k < plan->mixtures; k++) sum += exp(terms[k] - most);
    return fmin(most + log(sum) - log(total), 0);
}

static void draw(const struct plan *plan, const struct share *share, int64_t step, int64_t first_row, int64_t end,
                 int64_t channel)
{
    const struct slot *output = plan->slots + plan->output, *image = plan->slots;
    const int mixture = plan->likelihood == MIXTURE;  /* has one output for all channels */
    const int64_t area = plan->height * plan->width, size = plan->image_features / plan->channels;
    const real *params = at(output, share, step, first_row) + (mixture ? 0 : channel * plan->params);
    real *seen = at(image, share, step, first_row) + channel * size;
    int64_t copy = share->n > share->count ? share->count : 0; /* rows from an image to its unconditional copy */
    for (int64_t i = first_row; i < end; i++, params += copy * output->stride, seen += copy * image->stride)
        for (int64_t n = 0; n < share->count; n++, params += output->stride, seen += image->stride) {
            int64_t pixel = i * plan->width + step - plan->slope * i, x;
            double u = uniform(share->root, share->first + n, pixel * plan->channels + channel);
            struct logits logits = {params, copy ? params + copy * output->stride : 0, (real)share->guidance};
            struct mixture logistics;
            image_level *levels = share->images + n * plan->channels * area + pixel, *drawn = levels + channel * area;
            if (mixture) unpack(plan, params, levels, area, channel, &logistics);
            if (share->known && share->known[channel * area + pixel]) {
                x = drawn[0];
                share->evidence[n] += mixture ? mixture_log_prob(plan, &logistics, x) : log_prob(plan, &logits, x);
            } else {
                x = mixture ? mixture_level(plan, &logistics, u, share->temperature)
                            : level(plan, &logits, u, share->temperature);
                drawn[0] = (image_level)x;
                if (share->evidence && !share->known) {
                    if (mixture) unpack(plan, params, levels, area, channel, &logistics); /* drawing weighs it */
                    share->evidence[n] += mixture ? mixture_log_prob(plan, &logistics, x) : log_prob(plan, &logits, x);
                }
            }
            show(plan, seen, channel, x);
            if (copy) show(plan, seen + copy * image->stride, channel, x);
        }
}
#endif

/* Writes the zeros that convolutions see beyond the right end of a row, where the ring still holds older pixels. */
static void clear_ended(const struct plan *plan, const struct share *share, int64_t step)
{
    for (int64_t k = 0; k < plan->slot_count; k++) {
        const struct slot *slot = plan->slots + k;
        int64_t time = step + slot->lead;
        if (!slot->slots || time < plan->width) continue;
        int64_t last = plan->slope ? (time - plan->width) / plan->slope : plan->height - 1;
        for (int64_t i = last < plan->height ? last : plan->height - 1; i >= 0; i--) {
            if (time - plan->slope * i >= plan->width + plan->reach) break;
            if (k) memset(at(slot, share, time, i), 0, slot->per_row * sizeof(real));
            for (int64_t n = 0; !k && n < 2 * share->n; n++) /* the image's time slots are there twice */
                memset(at(slot, share, time, i) + n / 2 * slot->stride + n % 2 * slot->slots * slot->per_step, 0,
                       slot->per_step * sizeof(real));
        }
    }
}

/* Runs steps start .. stop-1; the very first step is -prelude. */
void run_steps(const struct plan *plan, const struct share *share, int64_t start, int64_t stop)
{
    for (int64_t step = start; step < stop; step++) {
        const int32_t column = plan->by_rows && step > 0 ? (int32_t)step % (int32_t)plan->width : 0;
        if (!plan->by_rows) clear_ended(plan, share, step);
        for (int64_t channel = 0, k = 0; channel < plan->channels; channel++) {
            for (; k < plan->ends[channel]; k++) {
#ifdef EXACT
                if (share->parts > 1 && plan->ops[k].meets) meet(share->team);
#endif
                if (!column || !plan->ops[k].scale) apply(plan, plan->ops + k, share, step);
            }
            if (step < 0) {
#ifdef EXACT
                if (share->parts > 1) meet(share->team); /* the next step may divide the rows in another way */
#endif
                continue;
            }
            if (plan->by_rows) {
                const int64_t row = (step - column) / plan->width;
                draw(plan, share, column, row, row + 1, channel);
            } else {
                const int64_t *rows = plan->rows + 2 * (step + plan->origin);
                draw(plan, share, step, rows[0], rows[1], channel);
            }
        }
    }
}

/* Copies image `from[k]` of `other` over image `to[k]` of `share` after the steps up to and including `step`: its
 * pixels and those features that later steps read. Both belong to the same network, but may be laid out for different
 * numbers of images; if they are the same share, no index is in both `from` and `to`. */
void copy_images(const struct plan *plan, const struct share *share, const struct plan *others_plan,
                 const struct share *other, int64_t step, const int64_t *from, const int64_t *to, int64_t count)
{
    const int64_t subpixels = plan->channels * plan->height * plan->width;
    const struct slot *image = plan->slots, *others_image = others_plan->slots;
    const int64_t lines = image->ring ? image->ring : plan->height, skew = image->slots ? 0 : plan->slope * image->per_step;
    const int64_t line = (image->slots ? 2 * image->slots : plan->width) * plan->image_features;
    for (int64_t i = 0; i < lines; i++) {
        real *row = share->arena + image->offset + i * (skew + image->per_row);
        real *seen = other->arena + others_image->offset + i * (skew + others_image->per_row);
        for (int64_t k = 0; k < count; k++)
            memcpy(row + to[k] * image->stride, seen + from[k] * others_image->stride, line * sizeof(real));
    }
    for (int64_t k = 0; k < count; k++)
        memcpy(share->images + to[k] * subpixels, other->images + from[k] * subpixels,
               subpixels * sizeof(image_level));
    for (int64_t p = 1; p < plan->slot_count; p++) {
        const struct slot *target = plan->slots + p, *source = others_plan->slots + p;
        const int64_t stride = target->stride, size = stride * sizeof(real);
        if (target->ring) {                                 /* by_rows: all columns of the rows that are kept */
            const int64_t columns = target->per_row / target->per_step;
            for (int64_t k = 0; k < target->ring * columns; k++) {
                real *all = share->arena + target->offset + k * target->per_step;
                real *seen = other->arena + source->offset + k * source->per_step;
                for (int64_t c = 0; c < count; c++) memcpy(all + to[c] * stride, seen + from[c] * stride, size);
            }
            continue;
        }
        if (!target->slots && (!target->per_row || target->per_step)) continue; /* scratch, or alike for all images */
        if (!target->slots) {                               /* keys, values */
            real *all = share->arena + target->offset, *seen = other->arena + source->offset;
            for (int64_t k = 0; k < count; k++) memcpy(all + to[k] * stride, seen + from[k] * stride, size);
            continue;
        }
        const int64_t last = step + target->lead;
        for (int64_t time = last - target->slots + 1; time <= last; time++) {
            if (time + plan->origin < 0) continue;
            const int64_t end = plan->rows[2 * (time + plan->origin) + 1];
            for (int64_t i = plan->rows[2 * (time + plan->origin)]; i < end; i++) {
                real *row = at(target, share, time, i), *seen = at(source, other, time, i);
                for (int64_t k = 0; k < count; k++) memcpy(row + to[k] * stride, seen + from[k] * stride, size);
            }
        }
    }
}

/* A worker's loop: runs each step once `*allowed` exceeds it, counts it in `*done`; a negative `*allowed` ends it. */
void follow(const struct plan *plan, const struct share *share, int64_t steps, const int64_t *allowed, int64_t *done)
{
    for (int64_t step = 0; step < steps; step++) {
        for (int64_t tries = 0;; tries++) {
            int64_t limit = __atomic_load_n(allowed, __ATOMIC_ACQUIRE);
            if (limit < 0) return;
            if (limit > step) break;
            if (tries > 200000) nanosleep(&(struct timespec){0, 20000}, 0);
        }
        run_steps(plan, share, step == 0 ? -plan->prelude : step, step + 1);
        __atomic_store_n(done, step + 1, __ATOMIC_RELEASE);
    }
}
