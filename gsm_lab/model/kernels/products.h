/* Matrix products with weights, and their gradients: c = a b + base.

   What stands on the right is laid out first, once for all rows: in panels, groups of columns that are read in the order
   in which they lie in memory. Where the processor has a matrix unit, what stands on the left is laid out, too, and
   tiles.h multiplies; elsewhere a tile of the result, TALL rows of WIDE columns, is summed in the registers of vectors.
   Either way every number is summed in one order, wherever its tile lies: a row's result does not depend on the rows
   beside it. GSM_LAB_MATRIX_UNIT=0 in the environment leaves the matrix unit alone.

   Source: Goto and van de Geijn 2008, doi:10.1145/1356052.1356053. */

#if defined(__AVX512F__) || defined(__aarch64__)
#define TALL 8 /* 32 registers: 24 for sums */
enum { PIECES = 3 };
#else
#define TALL 6
enum { PIECES = 2 };
#endif
#if defined(__AVX512F__)
enum { PIECE = 16 };
#elif defined(__AVX__)
enum { PIECE = 8 };
#else
enum { PIECE = 4 };
#endif
enum { WIDE = PIECES * PIECE, AHEAD = 6 };
typedef float piece __attribute__((vector_size(PIECE * sizeof(float)), aligned(4), may_alias));

/* What a product is added to: rows of so many numbers, or one row for all (0). Nothing where `begin` is absent. */
typedef struct {
    const float *begin;
    num row;
} Base;

static const Base NOTHING = {NULL, 0};

/* Numbers that will be needed soon. */
typedef struct {
    const float *begin;
    num count;
} Soon;

static const Soon NONE_SOON = {NULL, 0};

static int has_unit = 0; /* whether products go through the matrix unit */

num uses_matrix_unit(void) { return has_unit; }

#if defined(__AMX_BF16__) && defined(__AVX512BW__) && defined(__linux__)
#include "tiles.h"

__attribute__((constructor)) static void find_unit(void) {
    const char *wanted = getenv("GSM_LAB_MATRIX_UNIT");
    has_unit = (!wanted || strcmp(wanted, "0")) && may_use_tiles();
}

#define HAS_TILES
#endif

/* A thread says when it begins to multiply and when it ends; what the unit holds is then no longer saved for it. */
static void begin_products(void) {
#ifdef HAS_TILES
    if (has_unit) begin_tiles();
#endif
}

static void end_products(void) {
#ifdef HAS_TILES
    if (has_unit) _tile_release();
#endif
}

/* How far apart rows of so many numbers are kept: numbers that are a power of two apart share one place in the cache. */
num apart(num count) { return padded(count) + LANES; }

/* A few numbers, where a call of memcpy would take longer than the copying. */
static inline void copy(float *to, const float *from, num count) {
    num at = 0;
    for (; at + PIECE <= count; at += PIECE) *(piece *)(to + at) = *(const piece *)(from + at);
    for (; at < count; at++) to[at] = from[at];
}

/* What is multiplied from the left: the k-th number of row i is begin[i row + k step]. */
typedef struct {
    const float *begin;
    num row, step;
} Left;

/* c (tall, pieces) = a b + base; `tall` and `pieces` are known to the compiler. */
static inline __attribute__((always_inline)) void tile(const num tall, const num pieces, num depth, Left left,
                                                       const float *b, Base base, float *c, num c_row) {
    const float *a = left.begin;
    const num a_row = left.row, a_step = left.step;
    piece sums[TALL][PIECES];
#pragma GCC unroll 8
    for (num i = 0; i < tall; i++)
#pragma GCC unroll 3
        for (num j = 0; j < pieces; j++) {
            __builtin_prefetch(c + i * c_row + j * PIECE, 1);
            sums[i][j] = (piece){};
        }
    for (num k = 0; k < depth; k++, a += a_step, b += pieces * PIECE) {
        piece right[PIECES];
#pragma GCC unroll 3
        for (num j = 0; j < pieces; j++) {
            __builtin_prefetch(b + (AHEAD * pieces + j) * PIECE);
            right[j] = *(const piece *)(b + j * PIECE);
        }
#pragma GCC unroll 8
        for (num i = 0; i < tall; i++) {
            const float number = a[i * a_row];
#pragma GCC unroll 3
            for (num j = 0; j < pieces; j++) sums[i][j] += number * right[j];
        }
    }
    if (base.begin)
#pragma GCC unroll 8
        for (num i = 0; i < tall; i++)
#pragma GCC unroll 3
            for (num j = 0; j < pieces; j++) sums[i][j] += *(const piece *)(base.begin + i * base.row + j * PIECE);
#pragma GCC unroll 8
    for (num i = 0; i < tall; i++)
#pragma GCC unroll 3
        for (num j = 0; j < pieces; j++) *(piece *)(c + i * c_row + j * PIECE) = sums[i][j];
}

/* The same for 1 to TALL rows. */
static inline __attribute__((always_inline)) void rows_of_tile(num tall, const num pieces, num depth, Left a,
                                                               const float *b, Base base, float *c, num c_row) {
    switch (tall) {
        case 1: tile(1, pieces, depth, a, b, base, c, c_row); return;
        case 2: tile(2, pieces, depth, a, b, base, c, c_row); return;
        case 3: tile(3, pieces, depth, a, b, base, c, c_row); return;
        case 4: tile(4, pieces, depth, a, b, base, c, c_row); return;
        case 5: tile(5, pieces, depth, a, b, base, c, c_row); return;
        case 6: tile(6, pieces, depth, a, b, base, c, c_row); return;
#if TALL > 6
        case 7: tile(7, pieces, depth, a, b, base, c, c_row); return;
        case 8: tile(8, pieces, depth, a, b, base, c, c_row); return;
#endif
    }
}

/* The same for 1 to WIDE columns. */
static void some_tile(num tall, num columns, num depth, Left a, const float *b, Base base, float *c, num c_row) {
    const num pieces = (columns + PIECE - 1) / PIECE;
    if (columns % PIECE) {
        float edge[TALL * WIDE];
        for (num i = 0; base.begin && i < tall; i++)
            copy(edge + i * WIDE, base.begin + i * base.row, columns);
        some_tile(tall, pieces * PIECE, depth, a, b, base.begin ? (Base){edge, WIDE} : NOTHING, edge, WIDE);
        for (num i = 0; i < tall; i++) copy(c + i * c_row, edge + i * WIDE, columns);
    } else if (pieces == PIECES)
        rows_of_tile(tall, PIECES, depth, a, b, base, c, c_row);
    else if (pieces == 2)
        rows_of_tile(tall, 2, depth, a, b, base, c, c_row);
    else
        rows_of_tile(tall, 1, depth, a, b, base, c, c_row);
}

static num num_panels(num n) { return (n + WIDE - 1) / WIDE; }

/* The columns of a panel of n columns that begins with this one. */
static num columns_from(num first, num n) {
    num wide = WIDE;
#ifdef HAS_TILES
    if (has_unit) wide = 2 * SIDE;
#endif
    return first + wide < n ? wide : n - first;
}

/* The numbers in a row of the panel that begins with this column. */
static num panel_row(num first, num n) { return (columns_from(first, n) + PIECE - 1) / PIECE * PIECE; }

/* Room for b (k, n) in panels; what is read ahead of them counts for nothing, but may lie behind their end. */
static num panels_size(num n, num k) {
#ifdef HAS_TILES
    if (has_unit) return slabs_size(n, k);
#endif
    return padded(num_panels(n) * WIDE * k);
}

/* The panel that begins with this column. */
static const float *panel_at(const float *panels, num first, num k) {
#ifdef HAS_TILES
    if (has_unit) return panels + slabs_size(first, k);
#endif
    return panels + first * k;
}

/* Room for m rows of k numbers on the left of a product. */
static num left_size(num m, num k) {
#ifdef HAS_TILES
    if (has_unit) return slabs_size(m, k);
#endif
    (void)m, (void)k;
    return 0;
}

/* Four numbers of each of four rows, turned about. */
static inline void turn_square(const float *from, num from_row, float *to, num to_row) {
    typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
    const four a = *(const four *)from, b = *(const four *)(from + from_row);
    const four c = *(const four *)(from + 2 * from_row), d = *(const four *)(from + 3 * from_row);
    *(four *)to = (four){a[0], b[0], c[0], d[0]};
    *(four *)(to + to_row) = (four){a[1], b[1], c[1], d[1]};
    *(four *)(to + 2 * to_row) = (four){a[2], b[2], c[2], d[2]};
    *(four *)(to + 3 * to_row) = (four){a[3], b[3], c[3], d[3]};
}

/* Panel number so-and-so of b (k, n), dense, or `across`: of the transpose of b (n, k). `panels` is where the first is. */
static void lay_panel(num n, num k, const float *b, int across, num number, float *panels) {
    const num first = number * WIDE, columns = columns_from(first, n), row = panel_row(first, n);
    float *panel = panels + first * k;
    if (columns < row) memset(panel, 0, (size_t)(row * k) * sizeof(float));
    if (!across) {
        for (num at = 0; at < k; at++) copy(panel + at * row, b + at * n + first, columns);
        return;
    }
    for (num from = 0; from < k; from += LANES) {
        const num to = from + LANES < k ? from + LANES : k;
        num column = 0;
        for (; column + 4 <= columns; column += 4) {
            const float *of = b + (first + column) * k;
            num at = from;
            for (; at + 4 <= to; at += 4) turn_square(of + at, k, panel + at * row + column, row);
            for (; at < to; at++)
                for (num i = 0; i < 4; i++) panel[at * row + column + i] = of[i * k + at];
        }
        for (; column < columns; column++)
            for (num at = from; at < to; at++) panel[at * row + column] = b[(first + column) * k + at];
    }
}

/* Row number so-and-so of b (k, n), put into the panels; in the order of their numbers. */
static void lay_row(num n, num k, const float *numbers, num number, float *panels) {
#ifdef HAS_TILES
    if (has_unit) {
        lay_row_in_slabs(n, k, numbers, number, panels);
        return;
    }
#endif
    num first = 0;
    for (; first + WIDE <= n; first += WIDE)
        copy(panels + first * k + number * WIDE, numbers + first, WIDE);
    if (first < n) {
        const num row = panel_row(first, n);
        float *rest = panels + first * k + number * row;
        for (num at = 0; at < row; at++) rest[at] = first + at < n ? numbers[first + at] : 0.0f;
    }
}

/* How many parts b (k, n) is laid out in, and each of them: of b, dense, or `across`, of the transpose of b (n, k). */
static num num_parts(num n) {
#ifdef HAS_TILES
    if (has_unit) return sides_of(n);
#endif
    return num_panels(n);
}

static void lay_part(num n, num k, const float *b, int across, num number, float *panels) {
#ifdef HAS_TILES
    if (has_unit) {
        lay_side_of_weights(n, k, b, across, number, panels);
        return;
    }
#endif
    lay_panel(n, k, b, across, number, panels);
}

/* All panels, by one thread. */
static void lay_panels(num n, num k, const float *b, int across, float *panels) {
    for (num number = 0; number < num_parts(n); number++) lay_part(n, k, b, across, number, panels);
}

/* All panels, by all threads together. */
static void share_panels(num n, num k, const float *b, int across, float *panels) {
#pragma omp for schedule(static) nowait
    for (num number = 0; number < num_parts(n); number++) lay_part(n, k, b, across, number, panels);
}

/* What stands on the left, rows of so many numbers: as it is, or laid out in `room`, which has `left_size`. */
typedef struct {
    const float *begin;
    num row;
} Rows;

static Rows lay_left(num m, num k, const float *a, num a_row, float *room) {
#ifdef HAS_TILES
    if (has_unit) {
        for (num i = 0; i < m; i += SIDE)
            lay_side(m - i < SIDE ? m - i : SIDE, k, a + i * a_row, a_row, side_at(room, i, k));
        return (Rows){room, 0};
    }
#endif
    (void)m, (void)k, (void)room;
    return (Rows){a, a_row};
}

/* The same of some columns, from `first` on: those that the unit multiplies at once. Where there is none, nothing. */
static void lay_left_part(num m, num first, num columns, num k, const float *a, num a_row, float *room) {
#ifdef HAS_TILES
    if (has_unit)
        for (num i = 0; i < m; i += SIDE)
            lay_side(m - i < SIDE ? m - i : SIDE, columns, a + i * a_row, a_row, side_at(room, i, k) + first / DEEP * STEP);
#endif
    (void)m, (void)first, (void)columns, (void)k, (void)a, (void)a_row, (void)room;
}

/* Room for, and what was laid out of, the rows from this one on: a multiple of 32. */
static float *left_at(float *room, num first, num k) { return room + left_size(first, k); }

static Rows rows_at(Rows rows, num first, num k) {
    return (Rows){rows.begin + (has_unit ? left_size(first, k) : first * rows.row), rows.row};
}

/* What `lay_left` gives of all rows, when each part was laid out in its room. */
static Rows as_laid(const float *a, num a_row, const float *room) {
    return has_unit ? (Rows){room, 0} : (Rows){a, a_row};
}

/* The columns of one panel of c = a b + base: a has m rows, c rows of c_row numbers; the first that reads a. */
static void product_panel(num m, num columns, num k, Rows a, const float *panel, Base base, float *c, num c_row,
                          int is_first, Soon soon) {
#ifdef HAS_TILES
    if (has_unit) {
        product_of_slabs(m, columns, slabs_of(k), (const dword *)a.begin, (const dword *)panel, base, c, c_row, soon);
        return;
    }
#endif
    (void)soon;
    for (num i = 0; i < m; i += TALL) {
        for (num ahead = i + TALL; is_first && ahead < i + 2 * TALL && ahead < m; ahead++) fetch(a.begin + ahead * a.row, k);
        some_tile(m - i < TALL ? m - i : TALL, columns, k, (Left){a.begin + i * a.row, a.row, 1}, panel,
                  base.begin ? (Base){base.begin + i * base.row, base.row} : NOTHING, c + i * c_row, c_row);
    }
}

/* c (m, n) = a b + base, with b (k, n) in panels, and a and c in rows of a_row and c_row numbers; `room` as in
   `lay_left`. */
static void product(num m, num n, num k, const float *a, num a_row, float *room, const float *panels, Base base, float *c,
                    num c_row) {
    const Rows rows = lay_left(m, k, a, a_row, room);
    for (num j = 0, columns; j < n; j += columns) {
        columns = columns_from(j, n);
        product_panel(m, columns, k, rows, panel_at(panels, j, k), base.begin ? (Base){base.begin + j, base.row} : NOTHING,
                      c + j, c_row, j == 0, NONE_SOON);
    }
}

/* The same of some columns, from `first` on: the first of a panel. */
static void product_columns(num m, num first, num columns, num k, Rows a, const float *panels, float *c, num c_row) {
    for (num j = 0, some; j < columns; j += some) {
        some = columns_from(j, columns);
        product_panel(m, some, k, a, panel_at(panels, first + j, k), NOTHING, c + j, c_row, 0, NONE_SOON);
    }
}

/* Room for m columns of k numbers that stand on the left of a product as rows. */
static num across_size(num m, num k) {
#ifdef HAS_TILES
    if (has_unit) return slabs_size(m, k);
#endif
    return (m + TALL - 1) / TALL * padded(TALL * k);
}

/* The columns of a (k, m), in rows of a_row numbers, as they stand on the left. */
static Rows lay_across(num m, num k, const float *a, num a_row, float *room) {
#ifdef HAS_TILES
    if (has_unit) {
        for (num i = 0; i < m; i += SIDE)
            lay_side_across(m - i < SIDE ? m - i : SIDE, k, a + i, a_row, side_at(room, i, k));
        return (Rows){room, 0};
    }
#endif
    for (num i = 0; i < m; i += TALL) {
        const num tall = m - i < TALL ? m - i : TALL;
        float *strip = room + i / TALL * padded(TALL * k);
        for (num at = 0; at < k; at++)
            if (tall == TALL) memcpy(strip + at * TALL, a + at * a_row + i, TALL * sizeof(float));
            else copy(strip + at * TALL, a + at * a_row + i, tall);
    }
    return (Rows){room, 0};
}

/* c (m, n) += a^T b, or, at first, = a^T b, with a's columns laid out. */
static void add_product(num m, num n, num k, Rows a, const float *panels, int is_begun, float *c, num c_row) {
#ifdef HAS_TILES
    if (has_unit) {
        for (num j = 0, columns; j < n; j += columns) {
            columns = columns_from(j, n);
            product_panel(m, columns, k, a, panel_at(panels, j, k), is_begun ? (Base){c + j, c_row} : NOTHING, c + j, c_row, 0,
                          NONE_SOON);
        }
        return;
    }
#endif
    for (num i = 0; i < m; i += TALL)
        for (num j = 0; j < n; j += WIDE) {
            float *own = c + i * c_row + j;
            some_tile(m - i < TALL ? m - i : TALL, columns_from(j, n), k, (Left){a.begin + i / TALL * padded(TALL * k), 1, TALL},
                      panels + j * k, is_begun ? (Base){own, c_row} : NOTHING, own, c_row);
        }
}

/* Columns that are laid out at a time to be multiplied at once, while they are in the cache. */
enum { COLUMNS = 32 };

/* The same with a (k, m) in rows of a_row numbers; `room` has `across_size` of COLUMNS. */
static void add_product_across(num m, num n, num k, const float *a, num a_row, const float *panels, int is_begun, float *c,
                               num c_row, float *room) {
    for (num i = 0; i < m; i += COLUMNS) {
        const num some = m - i < COLUMNS ? m - i : COLUMNS;
        add_product(some, n, k, lay_across(some, k, a + i, a_row, room), panels, is_begun, c + i * c_row, c_row);
    }
}
