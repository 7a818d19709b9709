/* The busiest parts of the transformer and its training on a CPU, in float32.

   Every sum here is taken by one thread in one order, so neither the number of threads nor the rows beside a row change a
   bit of it; but gradients of weights are added up by each thread for its own rows: there the number changes the
   rounding. Matrix products are ours, too: with weights (products.h) because a block of rows then stays in the cache from
   one step of a layer to the next, and the weights are laid out once for all blocks, or for all tokens that are sampled;
   those of attention because they are many and small, and because a prompt that several completions share is then read
   once.

   Letters: N tokens (or rows), D width, H query heads, J key-value heads, G = H / J, K head width, W = (H + 2 J) K,
   F hidden width of the feed-forward network, V vocabulary. Arrays are dense and row by row unless a stride is given.
   Rotation: half-split pairs (i, i + K/2), tables of (positions, K) cosines and sines.

   Sources: FlashAttention-2's backward pass from the saved log-sum-exp, arXiv:2307.08691; the exponential is Cephes'
   expf: a polynomial on [-ln 2 / 2, ln 2 / 2] and a shift of the exponent; AdamW, arXiv:1711.05101. */

#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

typedef int64_t num;
typedef float vec __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(64), aligned(4), may_alias));

enum { LANES = 16, ROWS = 8 };

static inline num larger_of(num one, num other) { return one > other ? one : other; }
static inline num padded(num count) { return (count + LANES - 1) / LANES * LANES; }
static inline vec load(const float *from) { return *(const vec *)from; }
static inline void store(float *to, vec what) { *(vec *)to = what; }
static inline vec choose_vec(ivec mask, vec yes, vec no) { return (vec)((mask & (ivec)yes) | (~mask & (ivec)no)); }
static inline vec larger(vec a, vec b) { return choose_vec(a > b, a, b); }

typedef float half_vec __attribute__((vector_size(32)));
typedef float quarter_vec __attribute__((vector_size(16)));
typedef double double_vec __attribute__((vector_size(64)));
typedef int32_t quarter_ivec __attribute__((vector_size(16)));
typedef union {
    vec whole;
    half_vec halves[2];
    quarter_vec quarters[4];
} Parts;

static inline float sum_of(vec x) {
    const Parts parts = {x};
    const half_vec half = parts.halves[0] + parts.halves[1];
    const Parts less = {.halves = {half}};
    const quarter_vec four = less.quarters[0] + less.quarters[1];
    return (four[0] + four[2]) + (four[1] + four[3]);
}

/* The same without rounding to 24 bits. */
static inline double exact_sum_of(vec x) {
    const Parts parts = {x};
    const double_vec sums =
        __builtin_convertvector(parts.halves[0], double_vec) + __builtin_convertvector(parts.halves[1], double_vec);
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

static inline float largest_of(vec x) {
    const Parts parts = {x};
    quarter_vec most = parts.quarters[0];
    for (int part = 1; part < 4; part++) {
        const quarter_ivec is_more = parts.quarters[part] > most;
        most = (quarter_vec)((is_more & (quarter_ivec)parts.quarters[part]) | (~is_more & (quarter_ivec)most));
    }
    const float one = most[0] > most[1] ? most[0] : most[1], other = most[2] > most[3] ? most[2] : most[3];
    return one > other ? one : other;
}

static inline float dot(const float *a, const float *b, num count) {
    vec sums = {};
    float rest = 0.0f;
    num at = 0;
    for (; at + LANES <= count; at += LANES) sums += load(a + at) * load(b + at);
    for (; at < count; at++) rest += a[at] * b[at];
    return sum_of(sums) + rest;
}

/* exp(x), relative error below 2e-7; 0 below -87, infinity above 88; NaN stays NaN. */
static inline vec exp_vec(vec x) {
    const vec round = (vec){} + 12582912.0f; /* 1.5 * 2^23: adding it leaves no fraction */
    ivec zero = x < -87.0f, huge = x > 88.0f;
    vec inside = choose_vec(zero, (vec){} - 87.0f, choose_vec(huge, (vec){} + 88.0f, x));
    vec n = (inside * 1.44269504088896341f + round) - round;
    vec r = inside - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = (vec){} + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    ivec shift = (__builtin_convertvector(n, ivec) + 127) << 23;
    vec result = p * (vec)shift;
    return choose_vec(zero, (vec){}, choose_vec(huge, (vec){} + INFINITY, result));
}

/* A thread's own memory, grown when needed, kept for the next call, freed with the thread: some for what it alone works
   on, and some for what it shares with the threads that it starts. */
enum { OWN, SHARED, NUM_SCRATCHES };
typedef struct {
    float *begin[NUM_SCRATCHES];
    num size[NUM_SCRATCHES];
} Scratch;
static _Thread_local Scratch *scratches = NULL;
static pthread_key_t freed_with_thread;
static pthread_once_t key_made = PTHREAD_ONCE_INIT;

static void free_scratches(void *all) {
    for (int which = 0; which < NUM_SCRATCHES; which++) free(((Scratch *)all)->begin[which]);
    free(all);
}

static void make_key(void) {
    if (pthread_key_create(&freed_with_thread, free_scratches)) abort();
}

static float *scratch(int which, num floats) {
    if (!scratches) {
        pthread_once(&key_made, make_key);
        scratches = calloc(1, sizeof(Scratch));
        if (!scratches || pthread_setspecific(freed_with_thread, scratches)) abort();
    }
    if (floats > scratches->size[which]) {
        free(scratches->begin[which]);
        scratches->size[which] = floats + floats / 2;
        const size_t bytes = (size_t)scratches->size[which] * sizeof(float);
        if (posix_memalign((void **)&scratches->begin[which], 64, bytes)) abort();
        memset(scratches->begin[which], 0, bytes);
    }
    return scratches->begin[which];
}

/* The next numbers of a memory, so that every array begins at a whole vector. */
static float *take(float **left, num floats) {
    float *begin = *left;
    *left += padded(floats);
    return begin;
}

/* How many rows the block has that begins with this one: the last may have fewer than `size`. */
static inline num rows_from(num first, num size, num n_rows) { return first + size < n_rows ? size : n_rows - first; }

/* Ask for numbers that are needed soon, a row or a few ahead of those that are worked on: after a step that left little
   room in the cache the processor is too slow to see by itself that an array is read from one end to the other. What
   only asks is ALWAYS inlined: a compiler may take a call of it for one without effect, and leave it out. */
#define ALWAYS static inline __attribute__((always_inline))

ALWAYS void fetch(const float *from, num count) {
    for (num at = 0; at < count; at += LANES) __builtin_prefetch(from + at);
}

/* The same for a part of several rows. */
ALWAYS void fetch_rows(const float *from, num row, num rows, num count) {
    for (num r = 0; r < rows; r++) fetch(from + r * row, count);
}

/* ---- norms ---------------------------------------------------------------------------------------------------- */

/* One row: total = x + added (no `added`: x itself); out = total / rms(total) * weight. Gives 1 / rms. */
static inline float norm_row(num width, const float *x, const float *added, const float *weight, float eps,
                             float *total, float *out) {
    if (added) {
        for (num at = 0; at < width; at++) total[at] = x[at] + added[at];
        x = total;
    }
    float inverse = 1.0f / sqrtf(dot(x, x, width) / (float)width + eps);
    for (num at = 0; at < width; at++) out[at] = x[at] * inverse * weight[at];
    return inverse;
}

/* One row's dx of the norm alone, plus `passed` (the gradient that goes past it, may be absent). */
static inline void norm_row_backward(num width, const float *dout, const float *total, const float *weight,
                                     float inverse, const float *passed, float *dx) {
    vec dots = {};
    float rest = 0.0f;
    num at = 0;
    for (; at + LANES <= width; at += LANES) dots += load(dout + at) * load(weight + at) * load(total + at);
    for (; at < width; at++) rest += dout[at] * weight[at] * total[at];
    float along = (sum_of(dots) + rest) * inverse * inverse * inverse / (float)width;
    if (passed)
        for (at = 0; at < width; at++) dx[at] = passed[at] + dout[at] * weight[at] * inverse - total[at] * along;
    else
        for (at = 0; at < width; at++) dx[at] = dout[at] * weight[at] * inverse - total[at] * along;
}

/* `norm_row` of every row; inverse_N = 1 / rms. */
void add_norm_forward(num n_rows, num width, const float *x, const float *added, const float *weight, float eps,
                      float *total, float *out, float *inverse) {
#pragma omp parallel for schedule(static)
    for (num n = 0; n < n_rows; n++) {
        num at = n * width;
        inverse[n] = norm_row(width, x + at, added ? added + at : NULL, weight, eps, added ? total + at : NULL, out + at);
    }
}

/* `norm_row_backward` of every row; dweight summed over rows. */
void norm_backward(num n_rows, num width, const float *dout, const float *total, const float *weight,
                   const float *inverse, const float *passed, float *dx, float *dweight) {
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (num n = 0; n < n_rows; n++) {
            num at = n * width;
            norm_row_backward(width, dout + at, total + at, weight, inverse[n], passed ? passed + at : NULL, dx + at);
        }
#pragma omp for schedule(static)
        for (num column = 0; column < width; column += LANES) {
            num last = column + LANES < width ? column + LANES : width;
            float sums[LANES] = {0};
            for (num n = 0; n < n_rows; n++)
                for (num at = column; at < last; at++)
                    sums[at - column] += dout[n * width + at] * total[n * width + at] * inverse[n];
            memcpy(dweight + column, sums, (size_t)(last - column) * sizeof(float));
        }
    }
}

/* ---- SwiGLU --------------------------------------------------------------------------------------------------- */

/* Some numbers of a row: out = silu(gate) * up. */
static inline void swiglu_some(num count, const float *gate, const float *up, float *out) {
    num at = 0;
    for (; at + LANES <= count; at += LANES) {
        vec g = load(gate + at);
        store(out + at, g / (1.0f + exp_vec(-g)) * load(up + at));
    }
    for (; at < count; at++) out[at] = gate[at] / (1.0f + expf(-gate[at])) * up[at];
}

/* Their gradients; `out`, if not absent, gets them once more. */
static inline void swiglu_some_backward(num count, const float *dout, const float *gate, const float *up, float *dgate,
                                        float *dup, float *out) {
    num at = 0;
    for (; at + LANES <= count; at += LANES) {
        vec g = load(gate + at), u = load(up + at), share = 1.0f / (1.0f + exp_vec(-g)), each = load(dout + at);
        if (out) store(out + at, g * share * u);
        store(dup + at, each * g * share);
        store(dgate + at, each * u * share * (1.0f + g * (1.0f - share)));
    }
    for (; at < count; at++) {
        float g = gate[at], share = 1.0f / (1.0f + expf(-g));
        if (out) out[at] = g * share * up[at];
        dup[at] = dout[at] * g * share;
        dgate[at] = dout[at] * up[at] * share * (1.0f + g * (1.0f - share));
    }
}

/* Rows of `both` hold F gates, then F ups. */
void swiglu_forward(num n_rows, num hidden, const float *both, float *out) {
#pragma omp parallel for schedule(static)
    for (num n = 0; n < n_rows; n++) swiglu_some(hidden, both + n * 2 * hidden, both + n * 2 * hidden + hidden, out + n * hidden);
}

void swiglu_backward(num n_rows, num hidden, const float *dout, const float *both, float *dboth) {
#pragma omp parallel for schedule(static)
    for (num n = 0; n < n_rows; n++) {
        const num gate = n * 2 * hidden, up = gate + hidden;
        swiglu_some_backward(hidden, dout + n * hidden, both + gate, both + up, dboth + gate, dboth + up, NULL);
    }
}

/* ---- log-probabilities ---------------------------------------------------------------------------------------- */

/* The sum of exp((logit - most) * scale) over a row, and the row's largest logit. `shares`, if there are any, become
   the terms, with zeros up to the next multiple of LANES. */
static inline float exp_sum(num vocabulary, const float *row, float scale, float *most, float *shares) {
    vec high = (vec){} - INFINITY, sums = {};
    float top = -INFINITY, rest = 0.0f;
    num at = 0;
    for (; at + LANES <= vocabulary; at += LANES) high = larger(load(row + at), high);
    for (; at < vocabulary; at++) top = row[at] > top ? row[at] : top;
    float first = largest_of(high);
    *most = top = first > top ? first : top;
    for (at = 0; at + LANES <= vocabulary; at += LANES) {
        const vec share = exp_vec((load(row + at) - top) * scale);
        if (shares) store(shares + at, share);
        sums += share;
    }
    if (shares && at < vocabulary) store(shares + at, (vec){});
    for (; at < vocabulary; at++) {
        const float share = expf((row[at] - top) * scale);
        if (shares) shares[at] = share;
        rest += share;
    }
    return sum_of(sums) + rest;
}

/* logprob_N = (logit[target] - top) / t - log_total, where log_total_N = log sum exp((logit - top) / t), top_N is the
   largest logit and `scale` = 1 / t; entropy_N, in nats. Top and log_total stay apart: their sum would be rounded. */
void logprob_forward(num n_rows, num vocabulary, const float *logits, const num *targets, float scale, float *logprob,
                     float *top, float *log_totals, float *entropy) {
#pragma omp parallel for schedule(static)
    for (num n = 0; n < n_rows; n++) {
        const float *row = logits + n * vocabulary;
        float most, total = exp_sum(vocabulary, row, scale, &most, NULL), log_total = logf(total);
        logprob[n] = (row[targets[n]] - most) * scale - log_total;
        top[n] = most;
        log_totals[n] = log_total;
        if (!entropy) continue;
        vec sums = {};
        float rest = 0.0f;
        num at = 0;
        for (; at + LANES <= vocabulary; at += LANES) {
            vec gap = (load(row + at) - most) * scale;
            vec share = exp_vec(gap);
            sums += choose_vec(share > 0.0f, share * gap, (vec){});
        }
        for (; at < vocabulary; at++) {
            float gap = (row[at] - most) * scale, share = expf(gap);
            rest += share > 0.0f ? share * gap : 0.0f;
        }
        entropy[n] = log_total - (sum_of(sums) + rest) / total;
    }
}

/* dlogits = dlogprob * scale * (1 at the target - probability). */
void logprob_backward(num n_rows, num vocabulary, const float *logits, const num *targets, float scale,
                      const float *top, const float *log_totals, const float *dlogprob, float *dlogits) {
#pragma omp parallel for schedule(static)
    for (num n = 0; n < n_rows; n++) {
        const float *row = logits + n * vocabulary;
        float *own = dlogits + n * vocabulary, d = dlogprob[n] * scale, most = top[n], log_total = log_totals[n];
        num at = 0;
        for (; at + LANES <= vocabulary; at += LANES)
            store(own + at, exp_vec((load(row + at) - most) * scale - log_total) * -d);
        for (; at < vocabulary; at++) own[at] = expf((row[at] - most) * scale - log_total) * -d;
        own[targets[n]] += d;
    }
}

/* Token v when the uniform falls into [P(0..v-1), P(0..v)) of softmax(row * scale), or the first of the likeliest; and its
   log-probability. */
static num choose_token(num vocabulary, const float *row, double uniform, float scale, num takes_likeliest,
                        float *logprob) {
    float most, *shares = scratch(OWN, padded(vocabulary)), total = exp_sum(vocabulary, row, scale, &most, shares);
    num token = 0;
    if (!takes_likeliest) {
        double sum = 0.0, below = 0.0;
        num at = 0;
        for (; at < vocabulary; at += LANES) sum += exact_sum_of(load(shares + at));
        const double point = uniform * sum;
        for (at = 0; at + LANES < vocabulary; at += LANES) {
            const double above = below + exact_sum_of(load(shares + at));
            if (point < above) break;
            below = above;
        }
        token = at;
        for (const num last = rows_from(at, LANES, vocabulary) + at - 1; token < last; token++)
            if (point < (below += shares[token])) break;
        while (token > 0 && shares[token] == 0.0f) token--; /* only rounding at a vector's end comes here */
    } else {
        while (token + 1 < vocabulary && row[token] != most) token++;
    }
    *logprob = (row[token] - most) * scale - logf(total);
    return token;
}

/* Rows that stand together, with the place of their prompt. */
typedef struct {
    num prompt, first, count;
} Group;

/* Samples that are being written, of at most `longest` tokens, and the rows in work: those of one prompt stand together.
   S samples, R places for rows. */
typedef struct {
    num longest, vocabulary, num_rows, num_ended;
    num takes_likeliest;       /* whether the likeliest tokens are chosen, not by chance */
    float scale;               /* of the logits */
    const double *uniforms;    /* (S, longest): what chooses */
    const unsigned char *ends; /* (V): whether a token ends a sample */
    num *tokens;               /* (S, longest) */
    float *logprobs;           /* (S, longest) */
    num *lengths;              /* (S): of those that have ended */
    unsigned char *finished;   /* (S): whether with a token that ends */
    num *rows;                 /* (R, ROW_SIZE) */
    num *ended;                /* (R, ROW_SIZE): the rows that have ended */
    Group *groups;             /* (R): the rows of one prompt each */
} Writing;

/* What is known of a row: where its prompt is kept, where its own tokens are, its sample, how many tokens it has written,
   and the last of them. */
enum { PROMPT, SLOT, SAMPLE, LENGTH, TOKEN, ROW_SIZE };

static num *row_of_work(const Writing *writing, num row) { return writing->rows + row * ROW_SIZE; }

/* A token for each row from `first` on, from their logits; all threads call this together. */
static void share_choices(Writing *writing, num first, const float *logits) {
#pragma omp for schedule(static)
    for (num n = first; n < writing->num_rows; n++) {
        num *row = row_of_work(writing, n);
        const num at = row[SAMPLE] * writing->longest + row[LENGTH]++;
        row[TOKEN] = choose_token(writing->vocabulary, logits + (n - first) * writing->vocabulary, writing->uniforms[at],
                                  writing->scale, writing->takes_likeliest, writing->logprobs + at);
        writing->tokens[at] = row[TOKEN];
    }
}

/* Take rows that have ended, from `first` on, out of work; the others stay in their order. */
static void end_rows(Writing *writing, num first) {
    num *kept = row_of_work(writing, first), *end = row_of_work(writing, writing->num_rows);
    for (const num *row = kept; row < end; row += ROW_SIZE) {
        const int is_finished = writing->ends[row[TOKEN]];
        if (!is_finished && row[LENGTH] < writing->longest) {
            memmove(kept, row, ROW_SIZE * sizeof(num));
            kept += ROW_SIZE;
            continue;
        }
        writing->lengths[row[SAMPLE]] = row[LENGTH];
        writing->finished[row[SAMPLE]] = (unsigned char)is_finished;
        memcpy(writing->ended + writing->num_ended++ * ROW_SIZE, row, ROW_SIZE * sizeof(num));
    }
    writing->num_rows = (kept - writing->rows) / ROW_SIZE;
}

/* Write a token of each row from `first` on, as these logits (rows, V) have it. */
void write_chosen(Writing *writing, num first, const float *logits) {
#pragma omp parallel
    share_choices(writing, first, logits);
    end_rows(writing, first);
}

/* ---- small products of attention ------------------------------------------------------------------------------ */

/* scores[r][c] = sum over k of rows[r][k] * across[k][c], for ROWS rows and `count` columns, rounded up to LANES. */
static void multiply_across(const float *rows, num depth, const float *across, num stride, num count, float *scores,
                            num score_stride) {
    num c = 0;
    for (; c + 2 * LANES <= padded(count); c += 2 * LANES) {
        vec left[ROWS] = {}, right[ROWS] = {};
        for (num k = 0; k < depth; k++) {
            vec a = load(across + k * stride + c), b = load(across + k * stride + c + LANES);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) {
                left[r] += rows[r * depth + k] * a;
                right[r] += rows[r * depth + k] * b;
            }
        }
        for (int r = 0; r < ROWS; r++) {
            store(scores + r * score_stride + c, left[r]);
            store(scores + r * score_stride + c + LANES, right[r]);
        }
    }
    if (c < count) {
        vec left[ROWS] = {};
        for (num k = 0; k < depth; k++) {
            vec a = load(across + k * stride + c);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) left[r] += rows[r * depth + k] * a;
        }
        for (int r = 0; r < ROWS; r++) store(scores + r * score_stride + c, left[r]);
    }
}

/* sums[r][k] += sum over c < count of weights[r][c] * along[c][k]; depth is a multiple of LANES. */
static void multiply_along(const float *weights, num weight_stride, const float *along, num depth, num count,
                           float *sums) {
    num k = 0;
    for (; k + 2 * LANES <= depth; k += 2 * LANES) {
        vec left[ROWS], right[ROWS];
        for (int r = 0; r < ROWS; r++) left[r] = load(sums + r * depth + k), right[r] = load(sums + r * depth + k + LANES);
        for (num c = 0; c < count; c++) {
            vec a = load(along + c * depth + k), b = load(along + c * depth + k + LANES);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) {
                left[r] += weights[r * weight_stride + c] * a;
                right[r] += weights[r * weight_stride + c] * b;
            }
        }
        for (int r = 0; r < ROWS; r++) store(sums + r * depth + k, left[r]), store(sums + r * depth + k + LANES, right[r]);
    }
    for (; k < depth; k += LANES) {
        vec left[ROWS];
        for (int r = 0; r < ROWS; r++) left[r] = load(sums + r * depth + k);
        for (num c = 0; c < count; c++) {
            vec a = load(along + c * depth + k);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) left[r] += weights[r * weight_stride + c] * a;
        }
        for (int r = 0; r < ROWS; r++) store(sums + r * depth + k, left[r]);
    }
}

/* sums[c][k] += sum over r of weights[r][c] * rows[r][k], for c < count. */
static void add_outer(const float *weights, num weight_stride, const float *rows, num depth, num count, float *sums) {
    num k = 0;
    for (; k + 2 * LANES <= depth; k += 2 * LANES) {
        vec left[ROWS], right[ROWS];
        for (int r = 0; r < ROWS; r++) left[r] = load(rows + r * depth + k), right[r] = load(rows + r * depth + k + LANES);
        for (num c = 0; c < count; c++) {
            vec a = load(sums + c * depth + k), b = load(sums + c * depth + k + LANES);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) {
                a += weights[r * weight_stride + c] * left[r];
                b += weights[r * weight_stride + c] * right[r];
            }
            store(sums + c * depth + k, a);
            store(sums + c * depth + k + LANES, b);
        }
    }
    for (; k < depth; k += LANES) {
        vec left[ROWS];
        for (int r = 0; r < ROWS; r++) left[r] = load(rows + r * depth + k);
        for (num c = 0; c < count; c++) {
            vec a = load(sums + c * depth + k);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) a += weights[r * weight_stride + c] * left[r];
            store(sums + c * depth + k, a);
        }
    }
}

/* ---- attention over texts ------------------------------------------------------------------------------------- */

/* to = the head's vector turned by its position, times scale; zeros from `width` to `depth`. */
static inline void turn(const float *from, const float *cosine, const float *sine, num width, num depth, float scale,
                        float *to) {
    num half = width / 2, k = 0;
    for (; k + LANES <= half; k += LANES) {
        vec a = load(from + k), b = load(from + k + half), c = load(cosine + k), s = load(sine + k);
        store(to + k, (a * c - b * s) * scale);
        store(to + k + half, (b * c + a * s) * scale);
    }
    for (; k < half; k++) {
        to[k] = (from[k] * cosine[k] - from[k + half] * sine[k]) * scale;
        to[k + half] = (from[k + half] * cosine[k] + from[k] * sine[k]) * scale;
    }
    for (k = width; k < depth; k++) to[k] = 0.0f;
}

/* The same the other way round, which is also its gradient. */
static inline void turn_back(const float *from, const float *cosine, const float *sine, num width, float scale,
                             float *to) {
    num half = width / 2, k = 0;
    for (; k + LANES <= half; k += LANES) {
        vec a = load(from + k), b = load(from + k + half), c = load(cosine + k), s = load(sine + k);
        store(to + k, (a * c + b * s) * scale);
        store(to + k + half, (b * c - a * s) * scale);
    }
    for (; k < half; k++) {
        to[k] = (from[k] * cosine[k] + from[k + half] * sine[k]) * scale;
        to[k + half] = (from[k + half] * cosine[k] - from[k] * sine[k]) * scale;
    }
}

/* What attention over texts is told. A tree is a run of tokens that may see each other: a text alone, or a prompt with
   completions behind it. Its segments (begin, length, seen): a token sees its own segment up to itself, and the first
   `seen` tokens of the tree. Begins are counted from the tree's first token. */
typedef struct {
    num heads, kv_heads, width, num_trees;
    const num *tree_begin;    /* (trees + 1), tokens */
    const num *segment_begin; /* (trees + 1), segments */
    const num *segments;      /* (segments, 3) */
    const num *positions;     /* (N) */
    const float *cosines, *sines;
    float scale;
} Texts;

/* The turned queries of one head for ROWS tokens from `token` on; past the last of `rows`, the first again. */
static inline void turn_queries(const Texts *texts, const float *qkv, num head, num token, num rows, float *query) {
    const num width = texts->width, depth = padded(width), stride = (texts->heads + 2 * texts->kv_heads) * width;
    for (num r = 0; r < ROWS; r++) {
        num own = token + (r < rows ? r : 0), place = texts->positions[own] * width;
        turn(qkv + own * stride + head * width, texts->cosines + place, texts->sines + place, width, depth, texts->scale,
             query + r * depth);
    }
}

/* The first numbers of a vector, and `other` in the place of the rest. */
static inline vec first_of(vec x, num count, float other) {
    const ivec lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return choose_vec(lanes < (int32_t)count, x, (vec){} + other);
}

/* The largest of some scores and `high`. */
static inline vec largest_with(const float *scores, num count, vec high) {
    num c = 0;
    for (; c + LANES <= count; c += LANES) high = larger(load(scores + c), high);
    return c < count ? larger(first_of(load(scores + c), count - c, -INFINITY), high) : high;
}

/* Scores to exp(score - top), 0 from the first `count` on; the sums, lane by lane. */
static inline vec exp_with(float *scores, num count, num end, float top, vec sums) {
    num c = 0;
    for (; c + LANES <= count; c += LANES) {
        vec share = exp_vec(load(scores + c) - top);
        store(scores + c, share);
        sums += share;
    }
    if (c < count) {
        vec share = exp_vec(first_of(load(scores + c) - top, count - c, -INFINITY));
        store(scores + c, share);
        sums += share;
        c += LANES;
    }
    for (; c < end; c += LANES) store(scores + c, (vec){});
    return sums;
}

/* Weights of one block of rows, not divided by their sum: those of the `seen` tokens, then those of the own segment.
   The scores stand there; row r sees own tokens up to own_first + r. Gives each row's largest score and sum. */
static void softmax_rows(float *scores, num stride, num rows, num seen, num own_at, num own_first, float *most,
                         float *sums) {
    for (num r = 0; r < rows; r++) {
        float *row = scores + r * stride;
        const num own = own_first + r + 1;
        const float top = largest_of(largest_with(row + own_at, own, largest_with(row, seen, (vec){} - INFINITY)));
        const vec total = exp_with(row, seen, padded(seen), top, (vec){});
        sums[r] = sum_of(exp_with(row + own_at, own, padded(own_first + rows), top, total));
        most[r] = top;
    }
}

void attention_forward(const Texts *texts, const float *qkv, float *out, float *lse) {
    const num heads = texts->heads, kv_heads = texts->kv_heads, width = texts->width, group = heads / kv_heads;
    const num depth = padded(width), stride = (heads + 2 * kv_heads) * width;
#pragma omp parallel for schedule(dynamic, 1)
    for (num task = 0; task < texts->num_trees * kv_heads; task++) {
        num tree = task / kv_heads, j = task % kv_heads;
        num first = texts->tree_begin[tree], count = texts->tree_begin[tree + 1] - first;
        num columns = padded(count) + 2 * LANES;
        float *keys = scratch(OWN, 2 * depth * columns + 2 * ROWS * depth + ROWS * 2 * columns);
        float *values = keys + depth * columns, *query = values + depth * columns, *mixed = query + ROWS * depth;
        float *scores = mixed + ROWS * depth;
        num score_stride = 2 * columns;
        for (num t = 0; t < count; t++) {
            const float *token = qkv + (first + t) * stride;
            const num place = texts->positions[first + t] * width;
            float *turned = query;
            if (t + ROWS < count) fetch(token + ROWS * stride + (heads + j) * width, width);
            if (t + ROWS < count) fetch(token + ROWS * stride + (heads + kv_heads + j) * width, width);
            turn(token + (heads + j) * width, texts->cosines + place, texts->sines + place, width, depth, 1.0f, turned);
            for (num k = 0; k < depth; k++) keys[k * columns + t] = turned[k];
            memcpy(values + t * depth, token + (heads + kv_heads + j) * width, (size_t)width * sizeof(float));
            for (num k = width; k < depth; k++) values[t * depth + k] = 0.0f;
        }
        for (num k = 0; k < depth; k++)
            for (num t = count; t < columns; t++) keys[k * columns + t] = 0.0f;
        for (num s = texts->segment_begin[tree]; s < texts->segment_begin[tree + 1]; s++) {
            num begin = texts->segments[3 * s], length = texts->segments[3 * s + 1], seen = texts->segments[3 * s + 2];
            num own_at = padded(seen);
            for (num g = 0; g < group; g++) {
                num head = j * group + g;
                for (num row = 0; row < length; row += ROWS) {
                    num rows = length - row < ROWS ? length - row : ROWS;
                    float most[ROWS], sums[ROWS];
                    const num token = first + begin + row, next = rows_from(row + ROWS, ROWS, length);
                    fetch_rows(qkv + (token + ROWS) * stride + head * width, stride, next, width);
                    fetch_rows(out + (token * heads + head) * width, heads * width, rows, width);
                    turn_queries(texts, qkv, head, first + begin + row, rows, query);
                    multiply_across(query, depth, keys, columns, seen, scores, score_stride);
                    multiply_across(query, depth, keys + begin, columns, row + rows, scores + own_at, score_stride);
                    softmax_rows(scores, score_stride, rows, seen, own_at, row, most, sums);
                    memset(mixed, 0, (size_t)(ROWS * depth) * sizeof(float));
                    multiply_along(scores, score_stride, values, depth, seen, mixed);
                    multiply_along(scores + own_at, score_stride, values + begin * depth, depth, row + rows, mixed);
                    for (num r = 0; r < rows; r++) {
                        num token = first + begin + row + r;
                        float *to = out + (token * heads + head) * width, share = 1.0f / sums[r];
                        for (num k = 0; k < width; k++) to[k] = mixed[r * depth + k] * share;
                        lse[token * heads + head] = most[r] + logf(sums[r]);
                    }
                }
            }
        }
    }
}

/* Scores into weights (with the saved log-sum-exp), their gradients `slopes` into those of the scores; both 0 where a
   row does not look. */
static void softmax_backward_rows(float *scores, float *slopes, num stride, num rows, num seen, num own_at,
                                  num own_first, const float *lse, const float *delta) {
    for (num r = 0; r < ROWS; r++) {
        float *row = scores + r * stride, *slope = slopes + r * stride;
        num own = r < rows ? own_first + r + 1 : 0, all = r < rows ? seen : 0;
        for (num part = 0; part < 2; part++) {
            num from = part ? own_at : 0, valid = part ? own : all, end = padded(part ? own_first + rows : seen);
            num c = 0;
            for (; c + LANES <= valid; c += LANES) {
                vec share = exp_vec(load(row + from + c) - lse[r]);
                store(row + from + c, share);
                store(slope + from + c, share * (load(slope + from + c) - delta[r]));
            }
            if (c < valid) {
                vec share = exp_vec(first_of(load(row + from + c) - lse[r], valid - c, -INFINITY));
                store(row + from + c, share);
                store(slope + from + c, share * first_of(load(slope + from + c) - delta[r], valid - c, 0.0f));
                c += LANES;
            }
            for (; c < end; c += LANES) store(row + from + c, (vec){}), store(slope + from + c, (vec){});
        }
    }
}

void attention_backward(const Texts *texts, const float *qkv, const float *out, const float *lse, const float *dout,
                        float *dqkv) {
    const num heads = texts->heads, kv_heads = texts->kv_heads, width = texts->width, group = heads / kv_heads;
    const num depth = padded(width), stride = (heads + 2 * kv_heads) * width;
#pragma omp parallel for schedule(dynamic, 1)
    for (num task = 0; task < texts->num_trees * kv_heads; task++) {
        num tree = task / kv_heads, j = task % kv_heads;
        num first = texts->tree_begin[tree], count = texts->tree_begin[tree + 1] - first;
        num columns = padded(count) + 2 * LANES, score_stride = 2 * columns;
        float *keys_across = scratch(OWN, 5 * depth * columns + 3 * ROWS * depth + 2 * ROWS * score_stride);
        float *values_across = keys_across + depth * columns, *keys = values_across + depth * columns;
        float *dkeys = keys + depth * columns, *dvalues = dkeys + depth * columns;
        float *query = dvalues + depth * columns, *upper = query + ROWS * depth, *dquery = upper + ROWS * depth;
        float *scores = dquery + ROWS * depth, *slopes = scores + ROWS * score_stride;
        memset(dkeys, 0, (size_t)(2 * depth * columns) * sizeof(float));
        for (num t = 0; t < count; t++) {
            const float *token = qkv + (first + t) * stride, *value = token + (heads + kv_heads + j) * width;
            const num place = texts->positions[first + t] * width;
            if (t + ROWS < count) fetch(token + ROWS * stride + (heads + j) * width, width);
            if (t + ROWS < count) fetch(value + ROWS * stride, width);
            turn(token + (heads + j) * width, texts->cosines + place, texts->sines + place, width, depth, 1.0f,
                 keys + t * depth);
            for (num k = 0; k < depth; k++) keys_across[k * columns + t] = keys[t * depth + k];
            for (num k = 0; k < depth; k++) values_across[k * columns + t] = k < width ? value[k] : 0.0f;
        }
        for (num k = 0; k < depth; k++)
            for (num t = count; t < columns; t++) keys_across[k * columns + t] = values_across[k * columns + t] = 0.0f;
        for (num s = texts->segment_begin[tree]; s < texts->segment_begin[tree + 1]; s++) {
            num begin = texts->segments[3 * s], length = texts->segments[3 * s + 1], seen = texts->segments[3 * s + 2];
            num own_at = padded(seen);
            for (num g = 0; g < group; g++) {
                num head = j * group + g;
                for (num row = 0; row < length; row += ROWS) {
                    num rows = length - row < ROWS ? length - row : ROWS;
                    float own_lse[ROWS], delta[ROWS];
                    const num block = first + begin + row, later = block + ROWS;
                    const num next = rows_from(row + ROWS, ROWS, length), mixed = heads * width;
                    fetch_rows(qkv + later * stride + head * width, stride, next, width);
                    fetch_rows(out + later * mixed + head * width, mixed, next, width);
                    fetch_rows(dout + later * mixed + head * width, mixed, next, width);
                    fetch_rows(dqkv + block * stride + head * width, stride, rows, width);
                    turn_queries(texts, qkv, head, first + begin + row, rows, query);
                    for (num r = 0; r < ROWS; r++) {
                        num token = first + begin + row + (r < rows ? r : 0);
                        num at = (token * heads + head) * width;
                        memcpy(upper + r * depth, dout + at, (size_t)width * sizeof(float));
                        for (num k = width; k < depth; k++) upper[r * depth + k] = 0.0f;
                        own_lse[r] = lse[token * heads + head];
                        delta[r] = dot(dout + at, out + at, width);
                    }
                    multiply_across(query, depth, keys_across, columns, seen, scores, score_stride);
                    multiply_across(query, depth, keys_across + begin, columns, row + rows, scores + own_at,
                                    score_stride);
                    multiply_across(upper, depth, values_across, columns, seen, slopes, score_stride);
                    multiply_across(upper, depth, values_across + begin, columns, row + rows, slopes + own_at,
                                    score_stride);
                    softmax_backward_rows(scores, slopes, score_stride, rows, seen, own_at, row, own_lse, delta);
                    memset(dquery, 0, (size_t)(ROWS * depth) * sizeof(float));
                    multiply_along(slopes, score_stride, keys, depth, seen, dquery);
                    multiply_along(slopes + own_at, score_stride, keys + begin * depth, depth, row + rows, dquery);
                    add_outer(slopes, score_stride, query, depth, seen, dkeys);
                    add_outer(slopes + own_at, score_stride, query, depth, row + rows, dkeys + begin * depth);
                    add_outer(scores, score_stride, upper, depth, seen, dvalues);
                    add_outer(scores + own_at, score_stride, upper, depth, row + rows, dvalues + begin * depth);
                    for (num r = 0; r < rows; r++) {
                        num token = first + begin + row + r, place = texts->positions[token] * width;
                        turn_back(dquery + r * depth, texts->cosines + place, texts->sines + place, width, texts->scale,
                                  dqkv + token * stride + head * width);
                    }
                }
            }
        }
        for (num t = 0; t < count; t++) {
            num token = first + t, place = texts->positions[token] * width;
            if (t + ROWS < count) fetch(dqkv + (token + ROWS) * stride + (heads + j) * width, width);
            if (t + ROWS < count) fetch(dqkv + (token + ROWS) * stride + (heads + kv_heads + j) * width, width);
            turn_back(dkeys + t * depth, texts->cosines + place, texts->sines + place, width, 1.0f,
                      dqkv + token * stride + (heads + j) * width);
            memcpy(dqkv + token * stride + (heads + kv_heads + j) * width, dvalues + t * depth,
                   (size_t)width * sizeof(float));
        }
    }
}

/* ---- attention of one new token a row ------------------------------------------------------------------------- */

/* What is remembered of prompts and rows, of one layer. Prompts' keys lie across: for every k the places side by side. */
typedef struct {
    num heads, kv_heads, width;
    const num *prompt_lengths; /* (prompts) */
    num prompt_room;           /* places kept for a prompt, a multiple of LANES */
    float *prompt_keys;        /* (prompts, J, K rounded up, prompt_room) */
    float *prompt_values;      /* (prompts, J, prompt_room, K rounded up) */
    num own_room;              /* places kept for a row, a multiple of LANES */
    float *own_keys;           /* (slots, J, own_room, K rounded up) */
    float *own_values;         /* (slots, J, own_room, K rounded up) */
    const float *cosines, *sines;
    float scale;
} Memory;

#if defined(__clang__) || __GNUC__ >= 12
#define MIXED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define MIXED(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif

/* The sums of 16 vectors, in their order; each is taken in the same way. The vectors are lost. */
static inline vec sums_of(vec *x) {
    for (int i = 0; i < 16; i += 2)
        x[i / 2] = MIXED(x[i], x[i + 1], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
                   MIXED(x[i], x[i + 1], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    for (int i = 0; i < 8; i += 2)
        x[i / 2] = MIXED(x[i], x[i + 1], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
                   MIXED(x[i], x[i + 1], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    for (int i = 0; i < 4; i += 2)
        x[i / 2] = MIXED(x[i], x[i + 1], 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) +
                   MIXED(x[i], x[i + 1], 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
    return MIXED(x[0], x[1], 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
           MIXED(x[0], x[1], 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

/* scores[c] = query . keys[c], for c < count; what stands up to the next multiple of LANES is of no use. On the way the
   first `soon` of the keys of `next` are asked for. */
static void own_scores(const float *query, num depth, const float *keys, num count, float *scores, const float *next,
                       num soon) {
    for (num c = 0; c < count; c += LANES) {
        vec sums[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            const float *key = keys + (c + i < count ? c + i : count - 1) * depth;
            if (c + i < soon) fetch(next + (c + i) * depth, depth);
            sums[i] = load(query) * load(key);
            for (num k = LANES; k < depth; k += LANES) sums[i] += load(query + k) * load(key + k);
        }
        store(scores + c, sums_of(sums));
    }
    if (count < soon) fetch(next + count * depth, (soon - count) * depth);
}

/* mixed[k] += sum over c < count of weights[c] * values[c][k]. On the way the first `soon` of the values of `next` are
   asked for. */
static void add_own(const float *weights, const float *values, num depth, num count, float *mixed, const float *next,
                    num soon) {
    for (num k = 0; k < depth; k += LANES) {
        vec a = {}, b = {}, e = {}, d = {};
        num c = 0;
        for (; c + 4 <= count; c += 4) {
            if (c < soon)
                for (num i = c; i < c + 4; i++) fetch(next + i * depth + k, LANES);
            a += weights[c] * load(values + c * depth + k);
            b += weights[c + 1] * load(values + (c + 1) * depth + k);
            e += weights[c + 2] * load(values + (c + 2) * depth + k);
            d += weights[c + 3] * load(values + (c + 3) * depth + k);
        }
        for (; c < count; c++) a += weights[c] * load(values + c * depth + k);
        store(mixed + k, load(mixed + k) + ((a + b) + (e + d)));
    }
    if (count / 4 * 4 < soon) fetch(next + count / 4 * 4 * depth, (soon - count / 4 * 4) * depth);
}

/* How many threads are at work here. */
static num num_threads(void) {
#ifdef _OPENMP
    return omp_get_num_threads();
#else
    return 1;
#endif
}

/* Find the groups of the rows in work: how many there are. */
static num find_groups(Writing *writing) {
    Group *groups = writing->groups;
    num count = 0;
    for (num n = 0; n < writing->num_rows; n++) {
        const num prompt = row_of_work(writing, n)[PROMPT];
        if (!count || groups[count - 1].prompt != prompt) groups[count++] = (Group){prompt, n, 0};
        groups[count - 1].count++;
    }
    return count;
}

/* Where a row's own keys and values begin. */
static inline num own_place(const Memory *memory, const num *row, num j) {
    return (row[SLOT] * memory->kv_heads + j) * memory->own_room * padded(memory->width);
}

/* Keep the key and the value of a row's new token. */
static inline void remember_own(const Memory *memory, const num *row, num j, num position, const float *key,
                                const float *value) {
    const num width = memory->width, depth = padded(width), place = position * width;
    const num at = own_place(memory, row, j) + (row[LENGTH] - 1) * depth;
    turn(key, memory->cosines + place, memory->sines + place, width, depth, 1.0f, memory->own_keys + at);
    for (num k = 0; k < depth; k++) memory->own_values[at + k] = k < width ? value[k] : 0.0f;
}

/* Remember each row's new token, then attend to the prompt, to the row's tokens before, and to itself; all threads call
   this together. qkv (rows, W), out (rows, H K). While a row is worked on, the keys and values of the next are asked
   for, that of the thread's next task behind the last. */
static void share_attention(const Memory *memory, const Writing *writing, num num_groups, const float *qkv, float *out) {
    const Group *groups = writing->groups;
    const num heads = memory->heads, kv_heads = memory->kv_heads, width = memory->width, group = heads / kv_heads;
    const num depth = padded(width), stride = (heads + 2 * kv_heads) * width, tasks = num_groups * kv_heads;
    const num score_stride = memory->prompt_room + memory->own_room + 2 * LANES, threads = num_threads();
#pragma omp for schedule(static, 1)
    for (num task = 0; task < tasks; task++) {
        const Group of = groups[task / kv_heads];
        const num later_task = task + threads;
        const num j = task % kv_heads, prompt = of.prompt, first = of.first, queries = of.count * group;
        const num seen = memory->prompt_lengths[prompt], own_at = padded(seen);
        const int is_last = later_task >= tasks;
        const num later_row = is_last ? first : groups[later_task / kv_heads].first;
        const num later_j = is_last ? j : later_task % kv_heads;
        float *query = scratch(OWN, 2 * ROWS * depth + ROWS * score_stride), *mixed = query + ROWS * depth;
        float *scores = mixed + ROWS * depth;
        const float *prompt_keys = memory->prompt_keys + (prompt * kv_heads + j) * depth * memory->prompt_room;
        const float *prompt_values = memory->prompt_values + (prompt * kv_heads + j) * depth * memory->prompt_room;
        for (num block = 0; block < queries; block += ROWS) {
            const num rows = queries - block < ROWS ? queries - block : ROWS;
            num row_of[ROWS], head_of[ROWS];
            for (num r = 0, row = first + block / group, g = block % group; r < ROWS; r++) {
                row_of[r] = row, head_of[r] = j * group + g;
                if (r + 1 < rows && ++g == group) row++, g = 0; /* past the last, the last again */
            }
            for (num r = 0; r < ROWS; r++) {
                const num place = (seen + row_of_work(writing, row_of[r])[LENGTH] - 1) * width;
                turn(qkv + row_of[r] * stride + head_of[r] * width, memory->cosines + place, memory->sines + place, width,
                     depth, memory->scale, query + r * depth);
            }
            multiply_across(query, depth, prompt_keys, memory->prompt_room, seen, scores, score_stride);
            memset(mixed, 0, (size_t)(ROWS * depth) * sizeof(float));
            float sums[ROWS];
            for (num r = 0; r < rows; r++) {
                const num row = row_of[r], *known = row_of_work(writing, row), own = known[LENGTH];
                const num at = own_place(memory, known, j);
                const int is_end = block + r + 1 == queries;
                const num next = is_end ? later_row : r + 1 < rows ? row_of[r + 1] : first + (block + rows) / group;
                const num *known_next = row_of_work(writing, next);
                const num soon = (is_end ? is_last : next == row) ? 0 : known_next[LENGTH];
                const num later = own_place(memory, known_next, is_end ? later_j : j);
                float *line = scores + r * score_stride, most;
                if (head_of[r] == j * group) {
                    const float *token = qkv + row * stride + (heads + j) * width;
                    remember_own(memory, known, j, seen + own - 1, token, token + kv_heads * width);
                }
                own_scores(query + r * depth, depth, memory->own_keys + at, own, line + own_at,
                           memory->own_keys + later, soon);
                softmax_rows(line, score_stride, 1, seen, own_at, own - 1, &most, sums + r);
                add_own(line + own_at, memory->own_values + at, depth, own, mixed + r * depth,
                        memory->own_values + later, soon);
            }
            multiply_along(scores, score_stride, prompt_values, depth, seen, mixed);
            for (num r = 0; r < rows; r++) {
                float *to = out + (row_of[r] * heads + head_of[r]) * width, share = 1.0f / sums[r];
                for (num k = 0; k < width; k++) to[k] = mixed[r * depth + k] * share;
            }
        }
    }
}

/* Put the keys and values of one layer's prompts (N tokens, as projected) into their rooms. `rooms` says for each
   prompt (room, first token, length). */
void remember_prompts(const Memory *memory, num num_prompts, const num *rooms, const float *qkv) {
    const num heads = memory->heads, kv_heads = memory->kv_heads, width = memory->width;
    const num depth = padded(width), stride = (heads + 2 * kv_heads) * width, room = memory->prompt_room;
#pragma omp parallel for schedule(dynamic, 1)
    for (num task = 0; task < num_prompts * kv_heads; task++) {
        const num *own = rooms + 3 * (task / kv_heads);
        num j = task % kv_heads, base = (own[0] * kv_heads + j) * depth * room;
        float *keys = memory->prompt_keys + base, *values = memory->prompt_values + base, *turned = scratch(OWN, depth);
        for (num t = 0; t < padded(own[2]) && t < room; t++) {
            if (t >= own[2]) {
                for (num k = 0; k < depth; k++) keys[k * room + t] = 0.0f;
                continue;
            }
            const float *token = qkv + (own[1] + t) * stride;
            turn(token + (heads + j) * width, memory->cosines + t * width, memory->sines + t * width, width, depth,
                 1.0f, turned);
            for (num k = 0; k < depth; k++) keys[k * room + t] = turned[k];
            for (num k = 0; k < depth; k++)
                values[t * depth + k] = k < width ? token[(heads + kv_heads + j) * width + k] : 0.0f;
        }
    }
}

#include "products.h"

/* ---- what stands around attention, a block of rows at a time ---------------------------------------------------- */

/* A block's numbers stay in the cache from one product to the next, which saves most of the time that the same steps
   take one after another over all rows. All threads lay out the weights; then each multiplies its own blocks. */

enum { MOST_THREADS = 256 };

static num threads_at_most(void) {
#ifdef _OPENMP
    int threads = omp_get_max_threads();
    return threads < MOST_THREADS ? threads : MOST_THREADS;
#else
    return 1;
#endif
}

static num own_thread(void) {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

/* Rows of a block: few enough to stay in the cache, enough for quick products, and as many blocks for every thread. */
static num block_size(num n_rows, num threads) {
    const num most = 128, share = (n_rows + threads - 1) / threads;
    const num blocks = (share + most - 1) / most;
    return n_rows ? (share + blocks - 1) / blocks : most;
}

/* The rows of blocks through the first half of a layer, the matrix in panels; all threads call this together. */
static void project_blocks(num size, num n_rows, num width, num out_width, const float *x, const float *added,
                           const float *norm, float eps, const float *panels, const float *bias, float *total,
                           float *inverse, float *out) {
    float *left = scratch(OWN, padded(size * width) + left_size(size, width));
    float *normed = take(&left, size * width), *room = left;
    begin_products();
#pragma omp for schedule(static)
    for (num first = 0; first < n_rows; first += size) {
        const num rows = rows_from(first, size, n_rows);
        for (num r = 0; r < rows; r++) {
            const num at = (first + r) * width, ahead = at + 4 * width;
            if (r + 4 < rows) fetch(x + ahead, width), fetch(added ? added + ahead : x + ahead, width);
            inverse[first + r] = norm_row(width, x + at, added ? added + at : NULL, norm, eps,
                                          added ? total + at : NULL, normed + r * width);
        }
        product(rows, out_width, width, normed, width, room, panels, (Base){bias, 0}, out + first * out_width, out_width);
    }
    end_products();
}

/* total = x + added (no `added`: x itself), and the norm of that times a matrix, plus a bias: out (N, W). */
void project_forward(num n_rows, num width, num out_width, const float *x, const float *added, const float *norm,
                     float eps, const float *matrix, const float *bias, float *total, float *inverse, float *out) {
    const num threads = threads_at_most(), size = block_size(n_rows, threads);
    float *panels = scratch(SHARED, panels_size(out_width, width));
#pragma omp parallel num_threads(threads)
    {
        share_panels(out_width, width, matrix, 1, panels);
#pragma omp barrier
        project_blocks(size, n_rows, width, out_width, x, added, norm, eps, panels, bias, total, inverse, out);
    }
}

/* A gradient of weights: the first thread adds its rows to the result itself, every other one to sums of its own. */
typedef struct {
    float *result;
    num size;
    num at; /* in the memory of the other threads */
} Gradient;

/* What each thread has added up, and whether there is anything. */
typedef struct {
    float *begin;
    int is_begun;
} Sums;

static float *own_sums(const Gradient *of, const Sums *mine, num thread) {
    return thread ? mine->begin + of->at : of->result;
}

/* The results: what the first thread has in them, and the others' sums; all threads call this together. */
static void add_up(const Gradient *gradients, num count, const Sums *sums, num threads) {
    enum { CHUNK = 1024 };
#pragma omp barrier
    for (const Gradient *of = gradients; of < gradients + count; of++) {
#pragma omp for schedule(static) nowait
        for (num from = 0; from < of->size; from += CHUNK) {
            const num numbers = from + CHUNK < of->size ? CHUNK : of->size - from;
            float *result = of->result + from;
            if (!sums[0].is_begun) memset(result, 0, (size_t)numbers * sizeof(float));
            for (num thread = 1; thread < threads; thread++)
                if (sums[thread].is_begun)
                    for (num k = 0; k < numbers; k++) result[k] += sums[thread].begin[of->at + from + k];
        }
    }
}

/* A row back through a norm, and what it adds to the gradient of the norm's weights; the normed row, made again. */
static inline void norm_row_again(num width, const float *total, float inverse, const float *norm, const float *dnormed,
                                  const float *passed, float *normed, float *dnorm, float *dx) {
    for (num k = 0; k < width; k++) {
        const float shrunk = total[k] * inverse;
        normed[k] = shrunk * norm[k];
        dnorm[k] += dnormed[k] * shrunk;
    }
    norm_row_backward(width, dnormed, total, norm, inverse, passed, dx);
}

/* The gradients of `project_forward`; dx counts `passed`, the gradient of `total`, which may be absent. */
void project_backward(num n_rows, num width, num out_width, const float *dout, const float *total, const float *inverse,
                      const float *norm, const float *matrix, const float *passed, float *dx, float *dnorm,
                      float *dmatrix, float *dbias) {
    const num threads = threads_at_most(), size = block_size(n_rows, threads), weights = out_width * width;
    const Gradient gradients[] = {{dmatrix, weights, 0}, {dnorm, width, weights}, {dbias, out_width, weights + width}};
    const num of_sums = padded(weights + width + out_width), across = panels_size(width, size);
    const num room_size = larger_of(left_size(size, out_width), across_size(COLUMNS, size)) + padded(width) + padded(size * width);
    Sums sums[MOST_THREADS] = {{NULL, 0}};
    float *panels = scratch(SHARED, panels_size(width, out_width));
#pragma omp parallel num_threads(threads)
    {
        const num thread = own_thread();
        Sums *mine = sums + thread;
        float *left = scratch(OWN, of_sums + across + room_size);
        mine->begin = take(&left, of_sums);
        float *normed_panels = take(&left, across), *dnormed = take(&left, size * width);
        float *normed = take(&left, width), *room = left;
        float *own_dmatrix = own_sums(gradients, mine, thread), *own_dnorm = own_sums(gradients + 1, mine, thread);
        float *own_dbias = own_sums(gradients + 2, mine, thread);
        memset(own_dnorm, 0, (size_t)width * sizeof(float));
        memset(own_dbias, 0, (size_t)out_width * sizeof(float));
        share_panels(width, out_width, matrix, 0, panels);
        begin_products();
#pragma omp barrier
#pragma omp for schedule(static) nowait
        for (num first = 0; first < n_rows; first += size) {
            const num rows = rows_from(first, size, n_rows);
            const float *d = dout + first * out_width;
            product(rows, width, out_width, d, out_width, room, panels, NOTHING, dnormed, width);
            for (num r = 0; r < rows; r++) {
                const num at = (first + r) * width, next = at + width;
                if (r + 1 < rows) fetch(total + next, width), fetch(passed ? passed + next : dx + next, width);
                for (num k = 0; k < out_width; k++) own_dbias[k] += d[r * out_width + k];
                norm_row_again(width, total + at, inverse[first + r], norm, dnormed + r * width,
                               passed ? passed + at : NULL, normed, own_dnorm, dx + at);
                lay_row(width, rows, normed, r, normed_panels);
            }
            add_product_across(out_width, width, rows, d, out_width, normed_panels, mine->is_begun, own_dmatrix, width,
                               room);
            mine->is_begun = 1;
        }
        end_products();
        add_up(gradients, 3, sums, threads);
    }
}

/* Columns of the hidden layer that are worked on together, while they are in the cache; full panels, whatever their width. */
enum { MOST_TOGETHER = 144 };

static num together_from(num first, num hidden) {
    const num most = has_unit ? 128 : MOST_TOGETHER;
    return first + most < hidden ? most : hidden - first;
}

/* The rows of blocks through the second half of a layer, its matrices in panels; all threads call this together. */
static void feed_blocks(num size, num n_rows, num width, num mixed_width, num hidden, const float *x,
                        const float *mixed, const float *out, const float *norm, float eps, const float *gate_up,
                        const float *down, float *total, float *inverse, float *both, float *added) {
    const num gated_row = apart(hidden), room_size = left_size(size, larger_of(larger_of(width, hidden), mixed_width));
    const num both_size = size * apart(2 * MOST_TOGETHER);
    const float *up_panels = gate_up + panels_size(hidden, width);
    float *left = scratch(OWN, padded(size * width) + padded(size * gated_row) + both_size + room_size);
    float *normed = take(&left, size * width), *gated = take(&left, size * gated_row);
    float *further_both = take(&left, both_size), *room = left;
    begin_products();
#pragma omp for schedule(static)
    for (num first = 0; first < n_rows; first += size) {
        const num rows = rows_from(first, size, n_rows);
        float *own = total + first * width;
        product(rows, width, mixed_width, mixed + first * mixed_width, mixed_width, room, out,
                (Base){x + first * width, width}, own, width);
        for (num r = 0; r < rows; r++)
            inverse[first + r] = norm_row(width, own + r * width, NULL, norm, eps, NULL, normed + r * width);
        const Rows from = lay_left(rows, width, normed, width, room);
        for (num j = 0, columns; j < hidden; j += columns) {
            columns = together_from(j, hidden);
            const num row = both ? 2 * columns : apart(2 * columns);
            float *some = both ? both + 2 * (first * hidden + rows * j) : further_both;
            product_columns(rows, j, columns, width, from, gate_up, some, row);
            product_columns(rows, j, columns, width, from, up_panels, some + columns, row);
            for (num r = 0; r < rows; r++, some += row)
                swiglu_some(columns, some, some + columns, gated + r * gated_row + j);
        }
        product(rows, width, hidden, gated, gated_row, room, down, NOTHING, added + first * width, width);
    }
    end_products();
}

/* The panels of gates, then those of ups, of the transpose. */
static void share_gate_up(num width, num hidden, const float *gate_up, float *panels) {
    share_panels(hidden, width, gate_up, 1, panels);
    share_panels(hidden, width, gate_up + hidden * width, 1, panels + panels_size(hidden, width));
}

/* The second half of a layer. total = x + mixed out^T; added = swiglu(norm(total) gate_up^T) down^T.
   mixed (N, M), out (D, M), gate_up (2 F, D), down (D, F). `both` = norm(total) gate_up^T, (N, 2 F) in an order of its
   own, is kept if not absent. */
void feed_forward(num n_rows, num width, num mixed_width, num hidden, const float *x, const float *mixed,
                  const float *out, const float *norm, float eps, const float *gate_up, const float *down, float *total,
                  float *inverse, float *both, float *added) {
    const num out_size = panels_size(width, mixed_width), up_size = 2 * panels_size(hidden, width);
    float *out_panels = scratch(SHARED, out_size + up_size + panels_size(width, hidden));
    float *up_panels = out_panels + out_size, *down_panels = up_panels + up_size;
    const num threads = threads_at_most(), size = block_size(n_rows, threads);
#pragma omp parallel num_threads(threads)
    {
        share_panels(width, mixed_width, out, 1, out_panels);
        share_gate_up(width, hidden, gate_up, up_panels);
        share_panels(width, hidden, down, 1, down_panels);
#pragma omp barrier
        feed_blocks(size, n_rows, width, mixed_width, hidden, x, mixed, out_panels, norm, eps, up_panels, down_panels, total,
                    inverse, both, added);
    }
}

/* Its gradients; dx counts `passed`, the gradient of `total`. */
void feed_forward_backward(num n_rows, num width, num mixed_width, num hidden, const float *dadded, const float *passed,
                           const float *total, const float *inverse, const float *both, const float *mixed,
                           const float *out, const float *norm, const float *gate_up, const float *down, float *dx,
                           float *dmixed, float *dout, float *dnorm, float *dgate_up, float *ddown) {
    const num threads = threads_at_most(), size = block_size(n_rows, threads), together = together_from(0, hidden);
    const num out_size = width * mixed_width, up_size = 2 * hidden * width, down_size = width * hidden;
    const Gradient gradients[] = {{dout, out_size, 0},
                                  {dgate_up, up_size, out_size},
                                  {ddown, down_size, out_size + up_size},
                                  {dnorm, width, out_size + up_size + down_size}};
    const num of_sums = padded(out_size + up_size + down_size + width);
    const num across = panels_size(larger_of(width, mixed_width), size), gated_across = panels_size(together, size);
    const num lefts = left_size(size, larger_of(together, width)), of_columns = across_size(COLUMNS, size);
    const num rows_size = padded(size * width), some_size = size * apart(2 * together);
    const num down_panels_size = panels_size(hidden, width), part_size = panels_size(width, together);
    const num parts_size = 2 * part_size * ((hidden + together - 1) / together);
    float *down_panels = scratch(SHARED, down_panels_size + parts_size + panels_size(mixed_width, width));
    float *up_parts = down_panels + down_panels_size, *out_panels = up_parts + parts_size;
    Sums sums[MOST_THREADS] = {{NULL, 0}};
#pragma omp parallel num_threads(threads)
    {
        const num thread = own_thread();
        Sums *mine = sums + thread;
        float *left = scratch(OWN, of_sums + across + gated_across + 2 * lefts + across_size(width, size) + of_columns +
                                       rows_size + 2 * padded(width) + padded(together) + 2 * some_size);
        mine->begin = take(&left, of_sums);
        float *panels = take(&left, across), *gated_panels = take(&left, gated_across);
        float *d_room = take(&left, lefts), *room = take(&left, lefts);
        float *d_across_room = take(&left, across_size(width, size)), *columns_room = take(&left, of_columns);
        float *dnormed = take(&left, size * width), *normed = take(&left, width), *again = take(&left, width);
        float *gated = take(&left, together), *dgated = take(&left, some_size), *dboth = take(&left, some_size);
        float *own_dout = own_sums(gradients, mine, thread), *own_dup = own_sums(gradients + 1, mine, thread);
        float *own_ddown = own_sums(gradients + 2, mine, thread), *own_dnorm = own_sums(gradients + 3, mine, thread);
        memset(own_dnorm, 0, (size_t)width * sizeof(float));
        share_panels(hidden, width, down, 0, down_panels);
        for (num j = 0; j < hidden; j += together) {
            float *parts = up_parts + j / together * 2 * part_size;
            share_panels(width, together_from(j, hidden), gate_up + j * width, 0, parts);
            share_panels(width, together_from(j, hidden), gate_up + (hidden + j) * width, 0, parts + part_size);
        }
        share_panels(mixed_width, width, out, 0, out_panels);
        begin_products();
#pragma omp barrier
#pragma omp for schedule(static) nowait
        for (num first = 0; first < n_rows; first += size) {
            const num rows = rows_from(first, size, n_rows);
            const float *d = dadded + first * width, *own_mixed = mixed + first * mixed_width;
            const int is_begun = mine->is_begun;
            float *own_dx = dx + first * width;
            for (num r = 0; r < rows; r++) {
                const num at = (first + r) * width;
                for (num k = 0; k < width; k++) normed[k] = total[at + k] * inverse[first + r] * norm[k];
                lay_row(width, rows, normed, r, panels);
            }
            const Rows d_rows = lay_left(rows, width, d, width, d_room);
            const Rows d_across = lay_across(width, rows, d, width, d_across_room);
            for (num j = 0, columns; j < hidden; j += columns) {
                columns = together_from(j, hidden);
                const num row = apart(2 * columns), both_row = 2 * columns, dgated_row = apart(columns);
                const float *some = both + 2 * (first * hidden + rows * j);
                const float *parts = up_parts + j / together * 2 * part_size;
                product_columns(rows, j, columns, width, d_rows, down_panels, dgated, dgated_row);
                for (num r = 0; r < rows; r++) {
                    const float *gate = some + r * both_row;
                    float *dgate = dboth + r * row;
                    if (r + 2 < rows) fetch(gate + 2 * both_row, both_row);
                    swiglu_some_backward(columns, dgated + r * dgated_row, gate, gate + columns, dgate, dgate + columns, gated);
                    lay_row(columns, rows, gated, r, gated_panels);
                }
                add_product(width, columns, rows, d_across, gated_panels, is_begun, own_ddown + j, hidden);
                for (int part = 0; part < 2; part++) {
                    const float *of_part = dboth + part * columns;
                    float *rows_of_sums = own_dup + (part * hidden + j) * width;
                    add_product_across(columns, width, rows, of_part, row, panels, is_begun, rows_of_sums, width,
                                       columns_room);
                    product(rows, width, columns, of_part, row, room, parts + part * part_size,
                            j || part ? (Base){dnormed, width} : NOTHING, dnormed, width);
                }
            }
            for (num r = 0; r < rows; r++) {
                const num at = (first + r) * width, next = at + width;
                if (r + 1 < rows) fetch(total + next, width), fetch(passed + next, width), fetch(dx + next, width);
                norm_row_again(width, total + at, inverse[first + r], norm, dnormed + r * width, passed + at, again,
                               own_dnorm, own_dx + r * width);
            }
            product(rows, mixed_width, width, own_dx, width, room, out_panels, NOTHING, dmixed + first * mixed_width,
                    mixed_width);
            for (num r = 0; r < rows; r++) {
                if (r + 4 < rows) fetch(own_mixed + (r + 4) * mixed_width, mixed_width);
                lay_row(mixed_width, rows, own_mixed + r * mixed_width, r, panels);
            }
            add_product_across(width, mixed_width, rows, own_dx, width, panels, is_begun, own_dout, mixed_width, columns_room);
            mine->is_begun = 1;
        }
        end_products();
        add_up(gradients, 4, sums, threads);
    }
}

/* ---- products that threads share out ------------------------------------------------------------------------------ */

/* Where rows may be few, and the weights many, threads share out the columns of a product and, where there are more
   threads than panels, its rows; each reads its part of the weights only. */

enum { STRIP = 32 };

static num num_strips(num m) { return (m + STRIP - 1) / STRIP; }

/* A strip's part of the panel behind this one: all strips ask for the whole. */
static Soon part_of_next(const float *panel, num wide, num k, num strip, num strips) {
    const num part = panels_size(wide, k) / strips;
    return (Soon){panel + panels_size(wide, k) + strip * part, part};
}

/* A product is shared out in tiles, strip by strip where the panels are read again from a core's own cache, so that a
   thread has most of its rows to itself from one product to the next; else panel by panel, so that each thread reads
   its part of the weights only. */
typedef struct {
    num strips, across, wide, is_near;
} Shares;

static Shares shares_of(num m, num n, num k, num wide) {
    enum { NEAR = 1 << 18 }; /* numbers: 1 MiB */
    return (Shares){num_strips(m), (n + wide - 1) / wide, wide, panels_size(n, k) <= NEAR};
}

static num first_row(Shares shares, num tile) {
    return (shares.is_near ? tile / shares.across : tile % shares.strips) * STRIP;
}

static num first_column(Shares shares, num tile) {
    return (shares.is_near ? tile % shares.across : tile / shares.strips) * shares.wide;
}

/* c = a b + base by all threads together, a laid out. */
static void share_product(num m, num n, num k, Rows a, const float *panels, Base base, float *c, num c_row) {
    const Shares shares = shares_of(m, n, k, columns_from(0, n));
#pragma omp for schedule(static)
    for (num tile = 0; tile < shares.strips * shares.across; tile++) {
        const num i = first_row(shares, tile), j = first_column(shares, tile);
        const Base own = base.begin ? (Base){base.begin + i * base.row + j, base.row} : NOTHING;
        const float *panel = panel_at(panels, j, k);
        const Soon soon = shares.is_near ? NONE_SOON : part_of_next(panel, shares.wide, k, i / STRIP, shares.strips);
        product_panel(rows_from(i, STRIP, m), columns_from(j, n), k, rows_at(a, i, k), panel, own, c + i * c_row + j, c_row, 0,
                      soon);
    }
}

/* The rows of a as they are multiplied from the left, by all threads together. */
static Rows share_left(num m, num k, const float *a, num a_row, float *room) {
#pragma omp for schedule(static)
    for (num i = 0; i < m; i += STRIP) lay_left(rows_from(i, STRIP, m), k, a + i * a_row, a_row, left_at(room, i, k));
    return as_laid(a, a_row, room);
}

/* ---- one new token a row through all layers --------------------------------------------------------------------- */

/* The weights of a layer, in the order in which they are given. */
enum { NORM, QKV, QKV_BIAS, OUT, MLP_NORM, GATE_UP, DOWN, NUM_WEIGHTS };

/* The matrices of one layer in panels, one after another. */
typedef struct {
    num qkv, out, gate_up, down, end;
} Places;

static Places places_of(num width, num mixed_width, num projected, num hidden) {
    const num out = panels_size(projected, width), gate_up = out + panels_size(width, mixed_width);
    const num down = gate_up + 2 * panels_size(hidden, width);
    return (Places){0, out, gate_up, down, down + panels_size(width, hidden)};
}

/* How many numbers the panels of one layer have. */
num layer_panels_size(num width, num mixed_width, num projected, num hidden) {
    return places_of(width, mixed_width, projected, hidden).end;
}

/* The panels of all layers; they serve for as long as the weights stay the same. */
void lay_layers(num n_layers, num width, num mixed_width, num projected, num hidden, const float *const *weights,
                float *panels) {
    const Places at = places_of(width, mixed_width, projected, hidden);
#pragma omp parallel num_threads(threads_at_most())
    for (num layer = 0; layer < n_layers; layer++) {
        const float *const *of = weights + layer * NUM_WEIGHTS;
        float *own = panels + layer * at.end;
        share_panels(projected, width, of[QKV], 1, own + at.qkv);
        share_panels(width, mixed_width, of[OUT], 1, own + at.out);
        share_gate_up(width, hidden, of[GATE_UP], own + at.gate_up);
        share_panels(width, hidden, of[DOWN], 1, own + at.down);
    }
}

/* The same of normed rows; total = x + added, or x where nothing is added. */
static Rows share_normed(num m, num width, const float *x, const float *added, const float *norm, float eps, float *total,
                         float *normed, float *room) {
#pragma omp for schedule(static)
    for (num i = 0; i < m; i += STRIP) {
        const num rows = rows_from(i, STRIP, m);
        for (num at = i * width; at < (i + rows) * width; at += width)
            norm_row(width, x + at, added ? added + at : NULL, norm, eps, added ? total + at : NULL, normed + at);
        lay_left(rows, width, normed + i * width, width, left_at(room, i, width));
    }
    return as_laid(normed, width, room);
}

/* gated = swiglu(a gate_up), the panels of gates standing before those of ups; laid out in `room`, if it has to be. */
static Rows share_gated(num m, num hidden, num k, Rows a, const float *gate_up, float *gated, num gated_row,
                        float *room) {
    enum { SOME = 48 }; /* columns: full panels, whatever their width */
    const Shares shares = shares_of(m, hidden, k, has_unit ? 32 : SOME);
    const float *up_panels = gate_up + panels_size(hidden, k);
#pragma omp for schedule(static)
    for (num tile = 0; tile < shares.strips * shares.across; tile++) {
        float gate[STRIP * SOME] __attribute__((aligned(64))), up[STRIP * SOME] __attribute__((aligned(64)));
        const num i = first_row(shares, tile), j = first_column(shares, tile);
        const num rows = rows_from(i, STRIP, m), columns = rows_from(j, shares.wide, hidden);
        product_columns(rows, j, columns, k, rows_at(a, i, k), gate_up, gate, SOME);
        product_columns(rows, j, columns, k, rows_at(a, i, k), up_panels, up, SOME);
        for (num r = 0; r < rows; r++)
            swiglu_some(columns, gate + r * SOME, up + r * SOME,
                        has_unit ? gate + r * SOME : gated + (i + r) * gated_row + j);
        lay_left_part(rows, j, columns, hidden, gate, SOME, left_at(room, i, hidden));
    }
    return as_laid(gated, gated_row, room);
}

/* All layers for one new token a row; the memories of all have the same sizes. */
typedef struct {
    num n_layers, width, hidden;
    float eps;
    const float *const *weights;
    const float *panels; /* of all layers */
    const Memory *const *memories;
    const float *last_norm, *head, *table; /* the head in panels; the table of vectors of tokens */
    float *work;                           /* room for R (4 D + W + H K) numbers */
    float *logits;                         /* (R, V) */
} Stack;

/* Read the last token of every row, and choose the next one. */
static void step_rows(const Stack *stack, Writing *writing) {
    enum { MOST_ROWS = 256 }; /* at a time, so that they stay in the cache */
    const Memory *of_first = stack->memories[0];
    const num n_rows = writing->num_rows, width = stack->width, hidden = stack->hidden, vocabulary = writing->vocabulary;
    const num mixed_width = of_first->heads * of_first->width;
    const num projected = mixed_width + 2 * of_first->kv_heads * of_first->width;
    const float eps = stack->eps;
    const Places at = places_of(width, mixed_width, projected, hidden);
    const num size = n_rows < MOST_ROWS ? n_rows : MOST_ROWS, gated_row = apart(hidden);
    float *x = stack->work, *total = x + n_rows * width, *later = total + n_rows * width, *added = later + n_rows * width;
    float *qkv = added + n_rows * width, *mixed = qkv + n_rows * projected;
    const num normed_size = padded(size * width), gated_size = padded(size * gated_row);
    const num room_size = left_size(size + STRIP, larger_of(width, mixed_width));
    float *normed = scratch(SHARED, normed_size + gated_size + room_size + left_size(size + STRIP, hidden));
    float *gated = normed + normed_size, *room = gated + gated_size, *gated_room = room + room_size;
    const num num_groups = find_groups(writing);
#pragma omp parallel num_threads(threads_at_most())
    {
        begin_products();
#pragma omp for schedule(static)
        for (num n = 0; n < n_rows; n++)
            memcpy(x + n * width, stack->table + row_of_work(writing, n)[TOKEN] * width, (size_t)width * sizeof(float));
        for (num layer = 0; layer < stack->n_layers; layer++) {
            const float *const *of = stack->weights + layer * NUM_WEIGHTS, *own = stack->panels + layer * at.end;
            const float *before = layer ? later : x, *sum = layer ? total : x;
            for (num first = 0; first < n_rows; first += size) {
                const num m = rows_from(first, size, n_rows), from = first * width;
                const Rows rows = share_normed(m, width, before + from, layer ? added + from : NULL, of[NORM], eps,
                                               total + from, normed, room);
                share_product(m, projected, width, rows, own + at.qkv, (Base){of[QKV_BIAS], 0}, qkv + first * projected,
                              projected);
            }
            share_attention(stack->memories[layer], writing, num_groups, qkv, mixed);
            for (num first = 0; first < n_rows; first += size) {
                const num m = rows_from(first, size, n_rows), from = first * width;
                Rows rows = share_left(m, mixed_width, mixed + first * mixed_width, mixed_width, room);
                share_product(m, width, mixed_width, rows, own + at.out, (Base){sum + from, width}, later + from, width);
                rows = share_normed(m, width, later + from, NULL, of[MLP_NORM], eps, NULL, normed, room);
                rows = share_gated(m, hidden, width, rows, own + at.gate_up, gated, gated_row, gated_room);
                share_product(m, width, hidden, rows, own + at.down, NOTHING, added + from, width);
            }
        }
        for (num first = 0; first < n_rows; first += size) {
            const num m = rows_from(first, size, n_rows), from = first * width;
            const Rows rows = share_normed(m, width, later + from, added + from, stack->last_norm, eps, total + from,
                                           normed, room);
            share_product(m, vocabulary, width, rows, stack->head, NOTHING, stack->logits + first * vocabulary, vocabulary);
        }
        end_products();
        share_choices(writing, 0, stack->logits);
    }
}

/* Write on, until no row is in work, until enough have ended, or for so many tokens. */
void write_on(const Stack *stack, Writing *writing, num most_tokens, num enough) {
    for (num token = 0; token < most_tokens && writing->num_rows && writing->num_ended < enough; token++) {
        step_rows(stack, writing);
        end_rows(writing, 0);
    }
}

/* How many numbers the panels of a matrix (out_width, width) have. */
num matrix_panels_size(num out_width, num width) { return panels_size(out_width, width); }

/* The panels of one matrix (out_width, width). */
void lay_matrix(num out_width, num width, const float *weights, float *panels) {
#pragma omp parallel num_threads(threads_at_most())
    share_panels(out_width, width, weights, 1, panels);
}

/* x (N, D) times a matrix (out_width, D), whose panels are given: out (N, out_width). */
void multiply_laid(num n_rows, num width, num out_width, const float *x, const float *panels, float *out) {
    float *room = scratch(SHARED, left_size(n_rows + STRIP, width));
#pragma omp parallel num_threads(threads_at_most())
    {
        begin_products();
        const Rows rows = share_left(n_rows, width, x, width, room);
        share_product(n_rows, out_width, width, rows, panels, NOTHING, out, out_width);
        end_products();
    }
}

/* ---- the optimiser ---------------------------------------------------------------------------------------------- */

enum { PART = 4096 };

/* The sum of squares of all numbers of several arrays; by parts, so that it is the same with any number of threads. */
double sum_of_squares(num n_arrays, const num *sizes, const float *const *arrays) {
    num n_parts = 0;
    for (num array = 0; array < n_arrays; array++) n_parts += (sizes[array] + PART - 1) / PART;
    double *sums = (double *)scratch(SHARED, 2 * n_parts), sum = 0.0;
#pragma omp parallel
    {
        double *own = sums;
        for (num array = 0; array < n_arrays; array++) {
            const num parts = (sizes[array] + PART - 1) / PART;
#pragma omp for schedule(static) nowait
            for (num part = 0; part < parts; part++) {
                const num left = sizes[array] - part * PART, count = left < PART ? left : PART;
                const float *from = arrays[array] + part * PART;
                own[part] = dot(from, from, count);
            }
            own += parts;
        }
    }
    for (num part = 0; part < n_parts; part++) sum += sums[part];
    return sum;
}

/* What AdamW's step is told. */
typedef struct {
    float scale; /* of the gradients */
    float rate, decay, epsilon;
    float first_new, second, second_new; /* what of each average is new: 1 - first, 1 - second */
    float first_left, second_left; /* 1 - first^t and the root of 1 - second^t, at step t */
} Move;

/* One step of AdamW for several arrays. */
void adamw_step(num n_arrays, const num *sizes, float *const *values, const float *const *gradients,
                float *const *averages, float *const *squares, const Move *move) {
    const Move m = *move;
    const float size = m.rate / m.first_left, kept = 1.0f - m.rate * m.decay;
#pragma omp parallel
    for (num array = 0; array < n_arrays; array++) {
        const float *gradient = gradients[array];
        float *value = values[array], *average = averages[array], *square = squares[array];
#pragma omp for schedule(static) nowait
        for (num part = 0; part < (sizes[array] + PART - 1) / PART; part++) {
            const num end = (part + 1) * PART < sizes[array] ? (part + 1) * PART : sizes[array];
            for (num at = part * PART; at < end; at++) {
                const float g = gradient[at] * m.scale;
                average[at] += (g - average[at]) * m.first_new;
                square[at] = square[at] * m.second + g * g * m.second_new;
                value[at] = value[at] * kept - size * average[at] / (sqrtf(square[at]) / m.second_left + m.epsilon);
            }
        }
    }
}

/* A polynomial a x + b x^3 + c x^5 of singular values, which Newton-Schulz repeats. */
typedef struct {
    float a, b, c;
} Quintic;

/* Matrices (S, L), S <= L, with their singular values pushed to about 1, in place; each by one thread. Every step is
   X <- (a + b G + c G^2) X with G = X X^T: Muon, Jordan et al. 2024 (kellerjordan.github.io/posts/muon). */
void orthogonalise(num count, num rows, num columns, num steps, const Quintic *quintic, float *matrices) {
    const Quintic of = *quintic;
    const num gram_size = padded(rows * rows), size = padded(rows * columns);
    const num lefts = left_size(rows, larger_of(rows, columns));
    const num panels = larger_of(panels_size(rows, columns), larger_of(panels_size(rows, rows), panels_size(columns, rows)));
#pragma omp parallel num_threads(threads_at_most())
    {
        float *left = scratch(OWN, 3 * gram_size + size + lefts + panels);
        float *gram = take(&left, gram_size), *factor = take(&left, gram_size), *power = take(&left, gram_size);
        float *next = take(&left, size), *room = take(&left, lefts), *laid = left;
        begin_products();
#pragma omp for schedule(dynamic, 1)
        for (num number = 0; number < count; number++) {
            float *x = matrices + number * rows * columns;
            const float scale = 1.0f / (sqrtf(dot(x, x, rows * columns)) + 1e-7f);
            for (num at = 0; at < rows * columns; at++) x[at] *= scale;
            for (num step = 0; step < steps; step++) {
                lay_panels(rows, columns, x, 1, laid);
                product(rows, rows, columns, x, columns, room, laid, NOTHING, gram, rows);
                for (num r = 0; r < rows; r++) {
                    for (num k = 0; k < rows; k++) factor[r * rows + k] = of.c * gram[r * rows + k];
                    factor[r * rows + r] += of.b;
                }
                lay_panels(rows, rows, factor, 0, laid);
                product(rows, rows, rows, gram, rows, room, laid, NOTHING, power, rows);
                for (num r = 0; r < rows; r++) power[r * rows + r] += of.a;
                lay_panels(columns, rows, x, 0, laid);
                product(rows, columns, rows, power, rows, room, laid, NOTHING, next, columns);
                memcpy(x, next, (size_t)(rows * columns) * sizeof(float));
            }
        }
        end_products();
    }
}
