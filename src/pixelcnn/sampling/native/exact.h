/* Exact arithmetic, for engine.c compiled with EXACT: integer distributions, the coder's symbols, and teams of threads
 * that fill a group of images together. Everywhere the same bits as in Python. */

#define SLOT_BITS 24

/* A sub-pixel's distribution: the weights whose sums give its frequencies, see frequencies.py. */
struct distribution {
    double total, top;
    const real *params;
    union {
        double sums[MAX_BLOCKS];                     /* of the weights up to each block of levels; not for a mixture */
        struct { double weights[MAX_MIXTURES], means[MAX_MIXTURES], inverses[MAX_MIXTURES]; };
    };
};

static ALWAYS double edge_of(int64_t k, int64_t levels)
{
    return ON_GRID((double)(2 * k + 1) / (double)(levels - 1) - 1, 18);
}

static ALWAYS double logistic(double edge, double mean, double inverse)
{
    return ON_GRID(sigmoid(held(ON_GRID((edge - mean) * inverse, 12), 1024)), 22);
}

/* The mixture of one channel given the earlier levels `x`, which are `apart` apart, see arithmetic/mixture.py. */
static void mix_logistics(const struct plan *plan, const real *raw, const image_level *x, int64_t apart, int64_t channel,
                          struct distribution *d)
{
    const int64_t m = plan->mixtures, channels = plan->channels, levels = plan->levels;
    const real *means = raw + m, *log_scales = means + channels * m, *slopes = log_scales + channels * m;
    const int64_t extra = extra_bits(plan), bits = 12 + mean_bits(plan);
    const double least = min_log_scale(plan), unit = 1.0 / (1LL << mean_bits(plan));
    double top = -INFINITY;
    for (int64_t k = 0; k < m; k++) top = raw[k] > top ? raw[k] : top;
    for (int64_t k = 0; k < m; k++) d->weights[k] = ON_GRID(exp_negative(top - raw[k]), 24);
    for (int64_t c = 0; c <= channel; c++) {
        double largest = 0;
        for (int64_t k = 0; k < m; k++) {
            double log_scale = log_scales[c * m + k], e, mean = means[c * m + k] * unit;
            log_scale = log_scale > 7 ? 7 : log_scale < least ? least : log_scale, e = exp_negative(fabs(log_scale));
            for (int64_t j = 0; j < c; j++) {
                int64_t pair = j * (2 * channels - j - 1) / 2 + c - j - 1;
                mean += tanh_on_grid(slopes[pair * m + k]) * ON_GRID(2.0 * x[j * apart] / (double)(levels - 1) - 1, bits);
            }
            d->means[k] = held(ON_GRID(mean, bits), 4);
            d->inverses[k] = ON_GRID(log_scale > 0 ? e : 1 / e, 20 - extra);
            if (c == channel) continue;
            int64_t level = x[c * apart];
            double above = level == levels - 1 ? 1 : logistic(edge_of(level, levels), d->means[k], d->inverses[k]);
            double below = level == 0 ? 0 : logistic(edge_of(level - 1, levels), d->means[k], d->inverses[k]);
            d->weights[k] *= above - below > 0x1p-22 ? above - below : 0x1p-22;
            largest = d->weights[k] > largest ? d->weights[k] : largest;
        }
        for (int64_t k = 0; k < m && c < channel; k++) d->weights[k] = ON_GRID(d->weights[k] / largest, 24);
    }
    d->total = 0;
    for (int64_t k = 0; k < m; k++) d->total += d->weights[k];
}

static void weigh_levels(const struct plan *plan, const real *params, struct distribution *d)
{
    if (plan->likelihood == BERNOULLI) {
        d->sums[0] = 1 - sigmoid(params[0]), d->total = 1;
        return;
    }
    const int64_t per = PER_BLOCK(plan);
    double top = params[0], sum = 0;
    for (int64_t k = 1; k < plan->levels; k++) top = params[k] > top ? params[k] : top;
    for (int64_t k = 0, b = 0; k < plan->levels; d->sums[b++] = sum)
        for (int64_t end = k + per; k < end && k < plan->levels; k++) sum += exp_negative(top - params[k]);
    d->total = sum, d->top = top, d->params = params;
}

/* The sum of the weights of levels 0 .. k-1, exact in any order. */
static double weight_below(const struct plan *plan, const struct distribution *d, int64_t k)
{
    const int64_t per = PER_BLOCK(plan), blocks = k / per;
    double sum = blocks ? d->sums[blocks - 1] : 0;
    for (int64_t j = blocks * per; j < k; j++) sum += exp_negative(d->top - d->params[j]);
    return sum;
}

/* Start of level k's frequency interval. */
static int64_t start_of(const struct plan *plan, const struct distribution *d, int64_t k)
{
    if (k == 0) return 0;
    if (k == plan->levels) return 1LL << SLOT_BITS;
    double sum = 0;
    if (plan->likelihood != MIXTURE) sum = weight_below(plan, d, k);
    else
        for (int64_t m = 0; m < plan->mixtures; m++)
            sum += d->weights[m] * logistic(edge_of(k - 1, plan->levels), d->means[m], d->inverses[m]);
    return (int64_t)floor(sum / d->total * (double)((1LL << SLOT_BITS) - plan->levels)) + k;
}

/* The rest of a payload to decode, see codec/entropy.py; or where to write the intervals needed to encode one. */
struct coder {
    uint64_t x;
    const uint32_t *words;
    int64_t position, count, failed;
    uint32_t *edges;                                 /* start and stop of each symbol's frequencies; null to decode */
};

/* Encodes symbols with frequency intervals `edges`, the last one first; writes the words and returns how many. */
int64_t encode(const uint32_t *edges, int64_t count, uint32_t *words)
{
    uint64_t x = 1ULL << 32;
    int64_t written = 0;
    for (int64_t k = count - 1; k >= 0; k--) {
        uint64_t start = edges[2 * k], frequency = edges[2 * k + 1] - start;
        if (x >> (64 - SLOT_BITS) >= frequency) words[written++] = (uint32_t)x, x >>= 32;
        x = (x / frequency << SLOT_BITS) + start + x % frequency;
    }
    words[written++] = (uint32_t)x;
    words[written++] = (uint32_t)(x >> 32);
    return written;
}

/* The level whose frequency interval contains the uniform number or, if there is a coder, its next symbol. */
static int64_t choose(const struct plan *plan, const struct distribution *d, double u, struct coder *coder)
{
    const int64_t slot = coder ? (int64_t)(coder->x & ((1 << SLOT_BITS) - 1)) : (int64_t)(u * (1 << SLOT_BITS));
    int64_t low = 0, high = plan->levels;            /* start_of(low) <= slot < start_of(high) */
    int64_t start = 0, stop = 1LL << SLOT_BITS;
    while (high - low > 1) {
        int64_t middle = (low + high) / 2, at_middle = start_of(plan, d, middle);
        if (at_middle <= slot) low = middle, start = at_middle;
        else high = middle, stop = at_middle;
    }
    if (!coder) return low;
    coder->x = (uint64_t)(stop - start) * (coder->x >> SLOT_BITS) + (uint64_t)(slot - start);
    if (coder->x >> 32) return low;
    if (coder->position == coder->count) coder->failed = 1, coder->x |= 1ULL << 32;
    else coder->x = coder->x << 32 | coder->words[coder->position++];
    return low;
}

/* Threads that fill a group of images, each those of its share, with consecutive shares, or each its part of the rows of
 * all: they compute a step's distributions, from which the first one then chooses all levels. */
struct team {
    int64_t members, arrived, meetings;
    const struct share *shares;                      /* one per member */
    struct coder *coder;                             /* the payload to decode; null to draw */
    struct distribution *found;                      /* of the front's pixels, image after image */
    int64_t room;                                    /* number of distributions that each share of images has room for */
};

int64_t distribution_size(void) { return sizeof(struct distribution); }

/* A barrier: returns once all members have arrived. */
static void meet(struct team *team)
{
    int64_t meeting = __atomic_load_n(&team->meetings, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&team->arrived, 1, __ATOMIC_ACQ_REL) == team->members) {
        __atomic_store_n(&team->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&team->meetings, meeting + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int64_t tries = 0; __atomic_load_n(&team->meetings, __ATOMIC_ACQUIRE) == meeting; tries++)
        if (tries > 200000) nanosleep(&(struct timespec){0, 20000}, 0); /* another member has lost its core */
}

/* Chooses the levels of a channel row by row, and image by image within a row. */
static void choose_levels(const struct plan *plan, const struct team *team, int64_t step, int64_t first_row,
                          int64_t end, int64_t channel)
{
    const int64_t area = plan->height * plan->width, shares = team->shares->parts > 1 ? 1 : team->members;
    struct coder *coder = team->coder;
    for (int64_t i = first_row; i < end; i++)
        for (int64_t m = 0; m < shares; m++) {
            const struct share *share = team->shares + m;
            const struct distribution *d = team->found + m * team->room + (i - first_row) * share->count;
            int64_t pixel = i * plan->width + step - plan->slope * i;
            image_level *level = share->images + channel * area + pixel;
            for (int64_t n = 0; n < share->count; n++, d++, level += plan->channels * area)
                if (coder && coder->edges) {
                    uint32_t *edges = coder->edges + 2 * coder->position++;
                    edges[0] = (uint32_t)start_of(plan, d, level[0]);
                    edges[1] = (uint32_t)start_of(plan, d, level[0] + 1);
                } else
                    level[0] = (image_level)choose(
                        plan, d, uniform(share->root, share->first + n, pixel * plan->channels + channel), coder);
        }
}

static void draw(const struct plan *plan, const struct share *share, int64_t step, int64_t first_row, int64_t end,
                 int64_t channel)
{
    const struct slot *output = plan->slots + plan->output, *image = plan->slots;
    const int64_t area = plan->height * plan->width, subpixels = plan->channels * area;
    const int mixture = plan->likelihood == MIXTURE; /* has one output for all channels */
    const int64_t rows = end - first_row, from = start_of_part(share, share->part, rows);
    const int64_t to = start_of_part(share, share->part + 1, rows), skip = from * share->count;
    const real *params = at(output, share, step, first_row) + (mixture ? 0 : channel * plan->params);
    real *seen = at(image, share, step, first_row) + channel * (plan->image_features / plan->channels);
    struct team *team = share->team;
    struct distribution *d = team->found + (share->parts > 1 ? skip : (share - team->shares) * team->room);
    params += SKIPPED(output);
#define LEVELS (share->images + n * subpixels + i * plan->width + step - plan->slope * i)
    for (int64_t i = first_row + from; i < first_row + to; i++)
        for (int64_t n = 0; n < share->count; n++, params += output->stride, d++)
            if (mixture) mix_logistics(plan, params, LEVELS, area, channel, d);
            else weigh_levels(plan, params, d);
    meet(team);
    if (share == team->shares) choose_levels(plan, team, step, first_row, end, channel);
    if (share->parts > 1) {                          /* what others read at once is shown before they go on */
        if (share == team->shares)
            for (int64_t i = first_row; i < end; i++)
                for (int64_t n = 0; n < share->count; n++, seen += image->stride)
                    show(plan, seen, channel, LEVELS[channel * area]);
        meet(team);
        return;
    }
    meet(team);
    for (int64_t i = first_row; i < end; i++)
        for (int64_t n = 0; n < share->count; n++, seen += image->stride)
            show(plan, seen, channel, LEVELS[channel * area]);
#undef LEVELS
}
