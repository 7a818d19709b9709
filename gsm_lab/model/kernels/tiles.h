/* Products in float32 on the matrix unit (AMX) that Intel's server processors have since 2023.

   The unit multiplies numbers of 8 significant bits (bfloat16) and adds in float32, sixteen times as fast as vectors
   multiply float32. A float32 has 24 significant bits: so it is the sum of three such numbers, its parts, large, middle
   and small. Of the nine products of the parts of two numbers, six are added up, the small ones first; the other three
   are together at most 2^-23 of the whole, and mostly below one rounding of a float32. So sums have no larger errors
   than sums in float32 (tests/model/test_products.py), at two to three times their speed while the numbers are in the
   cache. What is no number stays none, but infinite numbers become none, too; below 1e-33 digits are lost, since the unit
   knows no numbers below 1e-38.

   A tile is 16 rows of 64 bytes: from the left 16 rows of 32 numbers, from the right 16 pairs of rows of 16 columns, as
   dwords that hold the two numbers of a pair. A slab is the three tiles of 16 rows (or columns) and 32 numbers that are
   summed over, one for each part. Two sides of 16 are multiplied at a time, so slabs stand in memory as they are read:
   that of the one side, that of the other, both for the next 32 numbers, and so on; then come the next two sides. What
   lies beyond the last number is zero; what lies in rows beyond the last one does not matter, and is not kept.

   Source of the three parts and six products: Henry, Tang and Heinecke 2019, arXiv:1904.06376. */

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SIDE = 16, DEEP = 32, PARTS = 3, TILE = SIDE * SIDE, SLAB = PARTS * TILE, STEP = 2 * SLAB }; /* in dwords, the last 3 */
typedef uint32_t dword;

/* The right to use the unit, which the system gives to processes that ask for it. */
static int may_use_tiles(void) {
    enum { ASK = 0x1023, TILES_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    return syscall(SYS_arch_prctl, ASK, TILES_DATA) == 0;
}

static num slabs_of(num k) { return (k + DEEP - 1) / DEEP; }
static num sides_of(num count) { return (count + SIDE - 1) / SIDE; }

/* Room, in floats, for so many rows or columns of k numbers. */
static num slabs_size(num count, num k) { return (sides_of(count) + 1) / 2 * slabs_of(k) * STEP; }

/* Where the side begins that begins with this row or column. */
static dword *side_at(float *room, num first, num k) {
    return (dword *)room + slabs_size(first / (2 * SIDE) * (2 * SIDE), k) + first / SIDE % 2 * SLAB;
}

/* All tiles are whole. Threads have settings of their own. */
static void begin_tiles(void) {
    struct {
        uint8_t palette, start, none[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } settings __attribute__((aligned(64))) = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) settings.bytes[tile] = 64, settings.rows[tile] = SIDE;
    _tile_loadconfig(&settings);
}

static __mmask16 first_of_16(num count) { return (__mmask16)(count >= 16 ? 0xffff : (1 << (count < 0 ? 0 : count)) - 1); }

/* The parts of 16 numbers, each in the upper half of its dword. */
static inline void part(__m512 numbers, __m512i parts[PARTS]) {
    const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32((int)0xffff0000u);
    parts[0] = _mm512_and_epi32(_mm512_add_epi32(_mm512_castps_si512(numbers), half), upper);
    const __m512 rest = _mm512_sub_ps(numbers, _mm512_castsi512_ps(parts[0]));
    parts[1] = _mm512_and_epi32(_mm512_add_epi32(_mm512_castps_si512(rest), half), upper);
    parts[2] = _mm512_and_epi32(_mm512_castps_si512(_mm512_sub_ps(rest, _mm512_castsi512_ps(parts[1]))), upper);
}

/* 16 dwords of 16 rows, turned about, in place. */
static void turn_tile(dword *tile) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = _mm512_load_si512(tile + i * 16);
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
        a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
        a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        b[i] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0x88);
        b[i + 4] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0xdd);
        b[i + 8] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0x88);
        b[i + 12] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        a[i] = _mm512_shuffle_i32x4(b[i], b[i + 8], 0x88);
        a[i + 4] = _mm512_shuffle_i32x4(b[i + 4], b[i + 12], 0x88);
        a[i + 8] = _mm512_shuffle_i32x4(b[i], b[i + 8], 0xdd);
        a[i + 12] = _mm512_shuffle_i32x4(b[i + 4], b[i + 12], 0xdd);
    }
    for (int i = 0; i < 16; i++) _mm512_store_si512(tile + i * 16, a[i]);
}

/* The slabs of one side: up to 16 rows of k numbers, as they are multiplied from the left. */
static void lay_side(num rows, num k, const float *a, num a_row, dword *slabs) {
    const __m512i uppers = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25,
                                            23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    for (num at = 0; at < k; at += DEEP, slabs += STEP) {
        const __mmask16 low = first_of_16(k - at), high = first_of_16(k - at - 16);
        for (num r = 0; r < rows; r++) {
            __m512i one[PARTS], other[PARTS];
            part(_mm512_maskz_loadu_ps(low, a + r * a_row + at), one);
            part(_mm512_maskz_loadu_ps(high, a + r * a_row + at + 16), other);
            for (int p = 0; p < PARTS; p++)
                _mm512_store_si512(slabs + p * TILE + r * 16, _mm512_permutex2var_epi16(one[p], uppers, other[p]));
        }
    }
}

/* From what is multiplied from one side to what is multiplied, turned about, from the other. */
static void turn_side(num k, dword *slabs) {
    for (num slab = 0; slab < slabs_of(k); slab++, slabs += STEP)
        for (int p = 0; p < PARTS; p++) turn_tile(slabs + p * TILE);
}

/* The slabs of one side: up to 16 columns of k rows, as they are multiplied from the right. */
static void lay_columns(num columns, num k, const float *b, num b_row, dword *slabs) {
    const __mmask16 which = first_of_16(columns);
    for (num at = 0; at < slabs_of(k) * DEEP; at += 2) {
        dword *to = slabs + at / DEEP * STEP + at % DEEP / 2 * SIDE;
        __m512i even[PARTS], odd[PARTS];
        part(at < k ? _mm512_maskz_loadu_ps(which, b + at * b_row) : _mm512_setzero_ps(), even);
        part(at + 1 < k ? _mm512_maskz_loadu_ps(which, b + (at + 1) * b_row) : _mm512_setzero_ps(), odd);
        for (int p = 0; p < PARTS; p++)
            _mm512_store_si512(to + p * TILE, _mm512_or_epi32(_mm512_srli_epi32(even[p], 16), odd[p]));
    }
}

/* The same columns as they are multiplied from the left, where they are rows. */
static void lay_side_across(num columns, num k, const float *a, num a_row, dword *slabs) {
    lay_columns(columns, k, a, a_row, slabs);
    turn_side(k, slabs);
}

/* Side number so-and-so of b (k, n), dense, or `across`: of the transpose of b (n, k); `panels` is where the first is. */
static void lay_side_of_weights(num n, num k, const float *b, int across, num number, float *panels) {
    const num first = number * SIDE, columns = n - first < SIDE ? n - first : SIDE;
    dword *slabs = side_at(panels, first, k);
    if (across) {
        lay_side(columns, k, b + first * k, k, slabs);
        turn_side(k, slabs);
    } else lay_columns(columns, k, b + first, n, slabs);
}

/* Row number so-and-so of b (k, n), as it is multiplied from the right. */
static void lay_row_in_slabs(num n, num k, const float *numbers, num number, float *panels) {
    for (num first = 0; first < n; first += SIDE) {
        dword *slab = side_at(panels, first, k) + number / DEEP * STEP, *to = slab + number % DEEP / 2 * SIDE;
        __m512i parts[PARTS];
        part(_mm512_maskz_loadu_ps(first_of_16(n - first), numbers + first), parts);
        for (int p = 0; p < PARTS; p++) {
            dword *own = to + p * TILE;
            if (number % 2) _mm512_store_si512(own, _mm512_or_epi32(_mm512_load_si512(own), parts[p]));
            else _mm512_store_si512(own, _mm512_srli_epi32(parts[p], 16));
        }
        if (number == k - 1)
            for (num pair = number % DEEP / 2 + 1; pair < SIDE; pair++)
                for (int p = 0; p < PARTS; p++) _mm512_store_si512(slab + p * TILE + pair * SIDE, _mm512_setzero_si512());
    }
}

/* Tiles 0 to 3 += two sides from the left times two from the right; one of each where `tall` or `wide` says so. Meanwhile
   numbers that are needed soon are asked for. */
static inline __attribute__((always_inline)) void sum_tiles(const int tall, const int wide, num slabs, const dword *a,
                                                            const dword *b, Soon soon) {
    const num end = slabs * STEP, lines = (soon.count / 16 + slabs - 1) / slabs;
#define LOAD_LEFT(which)                                                           \
    _tile_loadd(4, a + at + (which) * TILE, 64);                                   \
    if (tall > 1) _tile_loadd(5, a + SLAB + at + (which) * TILE, 64);
#define LOAD_RIGHT(which)                                                          \
    _tile_loadd(6, b + at + (which) * TILE, 64);                                   \
    if (wide > 1) _tile_loadd(7, b + SLAB + at + (which) * TILE, 64);
#define MULTIPLY                                                                   \
    _tile_dpbf16ps(0, 4, 6);                                                       \
    if (wide > 1) _tile_dpbf16ps(1, 4, 7);                                         \
    if (tall > 1) _tile_dpbf16ps(2, 5, 6);                                         \
    if (tall > 1 && wide > 1) _tile_dpbf16ps(3, 5, 7);
    for (num at = 0; at < end; at += STEP) {
        for (num line = 0; line < lines; line++) __builtin_prefetch((soon.begin += 16), 0, 2);
        LOAD_LEFT(2) LOAD_RIGHT(0) MULTIPLY
        LOAD_LEFT(1) MULTIPLY
        LOAD_RIGHT(1) MULTIPLY
        LOAD_LEFT(0) MULTIPLY
        LOAD_RIGHT(2) MULTIPLY
    }
    for (num at = 0; at < end; at += STEP) {
        LOAD_LEFT(0) LOAD_RIGHT(0) MULTIPLY
    }
#undef LOAD_LEFT
#undef LOAD_RIGHT
#undef MULTIPLY
}

/* c = a base, or zero, plus two sides from the left times two from the right; so many rows and columns are kept. */
static inline __attribute__((always_inline)) void product_of_sides(const int tall, const int wide, num rows, num columns,
                                                                   num slabs, const dword *a, const dword *b, Base base,
                                                                   float *c, num c_row, Soon soon) {
    float edge[4 * TILE] __attribute__((aligned(64)));
    const int is_whole = rows == tall * SIDE && columns == wide * SIDE;
    const num row = is_whole ? c_row : 2 * SIDE;
    float *to = is_whole ? c : edge;
    if (base.begin) {
        if (!is_whole) {
            for (num r = 0; r < tall * SIDE; r++)
                for (num j = 0; j < wide * SIDE; j += SIDE)
                    _mm512_store_ps(edge + r * row + j, r < rows ? _mm512_maskz_loadu_ps(first_of_16(columns - j),
                                                                                         base.begin + r * base.row + j)
                                                                 : _mm512_setzero_ps());
            base = (Base){edge, row};
        }
        _tile_loadd(0, base.begin, base.row * 4);
        if (wide > 1) _tile_loadd(1, base.begin + SIDE, base.row * 4);
        if (tall > 1) _tile_loadd(2, base.begin + SIDE * base.row, base.row * 4);
        if (tall > 1 && wide > 1) _tile_loadd(3, base.begin + SIDE * base.row + SIDE, base.row * 4);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    sum_tiles(tall, wide, slabs, a, b, soon);
    _tile_stored(0, to, row * 4);
    if (wide > 1) _tile_stored(1, to + SIDE, row * 4);
    if (tall > 1) _tile_stored(2, to + SIDE * row, row * 4);
    if (tall > 1 && wide > 1) _tile_stored(3, to + SIDE * row + SIDE, row * 4);
    if (is_whole) return;
    for (num j = 0; j < columns; j += SIDE)
        for (num r = 0; r < rows; r++)
            _mm512_mask_storeu_ps(c + r * c_row + j, first_of_16(columns - j), _mm512_load_ps(edge + r * row + j));
}

/* c (m, n) = a b + base, for up to 32 columns. */
static void product_of_slabs(num m, num n, num slabs, const dword *a, const dword *b, Base base, float *c, num c_row,
                             Soon soon) {
    for (num i = 0; i < m; i += 2 * SIDE, a += slabs * STEP, c += 2 * SIDE * c_row) {
        const num rows = m - i < 2 * SIDE ? m - i : 2 * SIDE;
        for (num r = 0; r < rows; r++)
            for (num j = 0; j < n; j += SIDE) __builtin_prefetch(c + r * c_row + j, 1);
        if (rows > SIDE && n > SIDE) product_of_sides(2, 2, rows, n, slabs, a, b, base, c, c_row, soon);
        else if (n > SIDE) product_of_sides(1, 2, rows, n, slabs, a, b, base, c, c_row, soon);
        else if (rows > SIDE) product_of_sides(2, 1, rows, n, slabs, a, b, base, c, c_row, soon);
        else product_of_sides(1, 1, rows, n, slabs, a, b, base, c, c_row, soon);
        if (base.begin) base.begin += 2 * SIDE * base.row;
    }
}
