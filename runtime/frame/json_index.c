/* The index of a JSON text: where its tokens are, found 64 bytes at a time with a bit per byte, much as
 * simdjson's first stage does. A token is a bracket, comma or colon outside strings, or the first byte of
 * a number or a word. A string is no token of its own when one follows its closing quote at once: who
 * looks at the byte before sees it; otherwise that quote is a token.
 *
 * What a string may not hold is seen here as well; grammar is not. Reads nothing past the text's end.
 * Only for x86-64; elsewhere json.c goes byte by byte. */
#include "frame/json_internal.h"

#ifdef JSON_INDEX
#include <immintrin.h>
#include <string.h>

#define BLOCK 64u

/* A bit per byte, the lowest is the first. */
struct block {
    uint64_t quote, backslash;
    uint64_t op;      /* of { } [ ] , : and of two control bytes, which are no token to anybody */
    uint64_t space;   /* the four that may stand between tokens */
    uint64_t control; /* below a blank */
    uint64_t wide;    /* not ASCII */
};

#define HOT static inline __attribute__((always_inline))

/* Bytes after a backslash that itself is not escaped; *carry: of the block before, for the next. */
HOT uint64_t escaped_of(uint64_t backslash, uint64_t *carry)
{
    const uint64_t even = 0x5555555555555555u;
    uint64_t before = *carry;
    *carry = 0;
    if (!backslash) return before;
    backslash &= ~before;
    uint64_t follows = backslash << 1 | before;
    uint64_t odd_starts = backslash & ~even & ~follows, even_runs;
    *carry = __builtin_add_overflow(odd_starts, backslash, &even_runs);
    return (even ^ even_runs << 1) & follows;
}

/* One \x each; the rest of a \u may lie in blocks to come. */
static bool escapes_are_good(const struct json_bits *x, uint32_t at, uint64_t escaped)
{
    for (; escaped; escaped &= escaped - 1) {
        size_t i = at + (uint32_t)__builtin_ctzll(escaped);
        if (i >= x->len) return false;
        switch (x->text[i]) {
        case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't': break;
        case 'u':
            if (x->len - i < 5) return false;
            for (int k = 1; k < 5; k++) {
                uint8_t c = x->text[i + (size_t)k];
                if ((uint8_t)(c - '0') > 9 && (uint8_t)((c | 0x20) - 'a') > 5) return false;
            }
            break;
        default: return false;
        }
    }
    return true;
}

/* Where tokens are, given the block and a bit for each byte from an opening quote to before the closing one. */
HOT uint64_t tokens_of(struct json_bits *x, const struct block *b, uint64_t quote, uint64_t string)
{
    x->string = (uint64_t)((int64_t)string >> 63);
    x->bad |= b->control & string;
    x->controls |= b->space & b->control & ~string;
    uint64_t bare = ~(b->op | b->space | quote);
    uint64_t starts = bare & ~(bare << 1 | x->bare);
    x->bare = bare >> 63;
    uint64_t op = b->op & ~string;
    /* Of a quote that is the block's last byte nobody knows what follows. */
    return op | (starts & ~string) | (quote & ~string & ~(op >> 1));
}

/* Few texts are wide all through: only from the first such block to the last must they be looked at again. */
HOT void wide_note(struct json_bits *x, const struct block *b, uint32_t at)
{
    if (!b->wide) return;
    if (!x->wide_end) x->wide_at = at;
    x->wide_end = at + BLOCK;
}

HOT uint64_t quotes_of(struct json_bits *x, const struct block *b, uint32_t at)
{
    wide_note(x, b, at);
    uint64_t escaped = escaped_of(b->backslash, &x->escaped);
    if (escaped && !escapes_are_good(x, at, escaped)) x->bad = 1;
    return b->quote & ~escaped;
}

/* --- AVX2 ------------------------------------------------------------------------------------------- */

#define AVX2 __attribute__((target("avx2,bmi,pclmul,popcnt")))

AVX2 HOT struct block block_avx2(const uint8_t *p)
{
    /* By the low four bits: the one byte with them that is of the kind, or one that has others. */
    const __m256i spaces = _mm256_setr_epi8(' ', 100, 100, 100, 17, 100, 113, 2, 100, '\t', '\n', 112, 100, '\r', 100, 100,
                                            ' ', 100, 100, 100, 17, 100, 113, 2, 100, '\t', '\n', 112, 100, '\r', 100, 100);
    const __m256i ops = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ':', '{', ',', '}', 0, 0,
                                         0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ':', '{', ',', '}', 0, 0);
    __m256i in[2];
    struct block b = { 0 };
    for (unsigned i = 0; i < 2; i++) {
        in[i] = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32 * i));
        __m256i low = _mm256_or_si256(in[i], _mm256_set1_epi8(0x20));
#define BITS(v) ((uint64_t)(uint32_t)_mm256_movemask_epi8(v) << (32 * i))
        b.quote |= BITS(_mm256_cmpeq_epi8(in[i], _mm256_set1_epi8('"')));
        b.backslash |= BITS(_mm256_cmpeq_epi8(in[i], _mm256_set1_epi8('\\')));
        b.op |= BITS(_mm256_cmpeq_epi8(low, _mm256_shuffle_epi8(ops, in[i])));
        b.space |= BITS(_mm256_cmpeq_epi8(in[i], _mm256_shuffle_epi8(spaces, in[i])));
        b.control |= BITS(_mm256_cmpeq_epi8(_mm256_min_epu8(in[i], _mm256_set1_epi8(0x1f)), in[i]));
#undef BITS
    }
    b.wide = (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_or_si256(in[0], in[1]));
    return b;
}

AVX2 HOT uint32_t *step_avx2(struct json_bits *x, const uint8_t *p, uint32_t at, uint32_t *out)
{
    struct block b = block_avx2(p);
    uint64_t quote = quotes_of(x, &b, at);
    __m128i product = _mm_clmulepi64_si128(_mm_set_epi64x(0, (int64_t)quote), _mm_set1_epi8(-1), 0);
    uint64_t starts = tokens_of(x, &b, quote, (uint64_t)_mm_cvtsi128_si64(product) ^ x->string);
    unsigned count = (unsigned)__builtin_popcountll(starts);
    uint32_t *end = out + count;
    /* Eight at once, whether there are so many: one branch, and a likely one, for most blocks. */
#define ONE(i) out[i] = at + (uint32_t)__builtin_ctzll(starts | (uint64_t)1 << 63), starts &= starts - 1
    for (; out < end; out += 8) {
        ONE(0), ONE(1), ONE(2), ONE(3);
        ONE(4), ONE(5), ONE(6), ONE(7);
    }
#undef ONE
    return end;
}

/* --- AVX-512, where it can compress bytes ----------------------------------------------------------- */

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi,pclmul,popcnt")))

AVX512 HOT struct block block_avx512(const uint8_t *p)
{
    const __m512i spaces = _mm512_broadcast_i32x4(_mm_setr_epi8(' ', 100, 100, 100, 17, 100, 113, 2, 100, '\t', '\n', 112, 100,
                                                                '\r', 100, 100));
    const __m512i ops = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ':', '{', ',', '}', 0, 0));
    __m512i in = _mm512_loadu_si512(p), low = _mm512_or_si512(in, _mm512_set1_epi8(0x20));
    return (struct block){
        .quote = _mm512_cmpeq_epi8_mask(in, _mm512_set1_epi8('"')),
        .backslash = _mm512_cmpeq_epi8_mask(in, _mm512_set1_epi8('\\')),
        .op = _mm512_cmpeq_epi8_mask(low, _mm512_shuffle_epi8(ops, in)),
        .space = _mm512_cmpeq_epi8_mask(in, _mm512_shuffle_epi8(spaces, in)),
        .control = _mm512_cmplt_epu8_mask(in, _mm512_set1_epi8(0x20)),
        .wide = _mm512_movepi8_mask(in),
    };
}

AVX512 HOT uint32_t *step_avx512(struct json_bits *x, const uint8_t *p, uint32_t at, uint32_t *out)
{
    static const uint8_t places[BLOCK] = {
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
        32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63,
    };
    struct block b = block_avx512(p);
    uint64_t quote = quotes_of(x, &b, at);
    __m128i product = _mm_clmulepi64_si128(_mm_set_epi64x(0, (int64_t)quote), _mm_set1_epi8(-1), 0);
    uint64_t starts = tokens_of(x, &b, quote, (uint64_t)_mm_cvtsi128_si64(product) ^ x->string);
    unsigned count = (unsigned)__builtin_popcountll(starts);
    __m512i found = _mm512_maskz_compress_epi8(starts, _mm512_loadu_si512(places)), base = _mm512_set1_epi32((int)at);
    /* Sixteen at once, likewise. */
#define PART(i)                                                                                                        \
    _mm512_storeu_si512(out + 16 * (i),                                                                                \
                        _mm512_add_epi32(base, _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(found, i))))
    PART(0);
    if (count > 16) PART(1);
    if (count > 32) {
        PART(2);
        PART(3);
    }
#undef PART
    return out + count;
}

/* --- the next part of a text ------------------------------------------------------------------------ */

/* The bits in a local: no token that is stored can be part of them. */
#define FILL(name, step)                                                                            \
    static void name(struct json_index *x)                                                          \
    {                                                                                               \
        struct json_bits bits = x->bits;                                                            \
        uint32_t *out = x->tokens + x->count, at = x->at, left = bits.len - at;                     \
        uint32_t end = left > JSON_INDEX_BYTES ? at + JSON_INDEX_BYTES : bits.len;                  \
        for (; end - at >= BLOCK; at += BLOCK) out = step(&bits, bits.text + at, at, out);          \
        if (at < end) {                                                                             \
            uint8_t last[BLOCK];                                                                    \
            memset(last, ' ', sizeof last);                                                         \
            memcpy(last, bits.text + at, end - at);                                                 \
            out = step(&bits, last, at, out);                                                       \
            at = end;                                                                               \
        }                                                                                           \
        x->bits = bits;                                                                             \
        x->at = at;                                                                                 \
        x->count = (uint32_t)(out - x->tokens);                                                     \
    }
AVX2 FILL(fill_avx2, step_avx2)
AVX512 FILL(fill_avx512, step_avx512)

bool json__way_is_here(enum json_way way)
{
    bool bits = __builtin_cpu_supports("bmi") && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("popcnt");
    switch (way) {
    case JSON_WAY_CAREFUL: return true;
    case JSON_WAY_AVX2: return bits && __builtin_cpu_supports("avx2");
    case JSON_WAY_AVX512:
        return bits && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
    case JSON_WAYS: break;
    }
    return false;
}

void json__index_start(struct json_index *x, enum json_way way, const uint8_t *text, uint32_t len)
{
    x->fill = way == JSON_WAY_AVX512 ? fill_avx512 : fill_avx2;
    x->bits = (struct json_bits){ .text = text, .len = len };
    x->at = x->count = 0;
}

void json__index_more(struct json_index *x, uint32_t next)
{
    ASSERT(next <= x->count);
    x->count -= next;
    ASSERT(x->count < JSON_INDEX_AHEAD);
    memmove(x->tokens, x->tokens + next, x->count * sizeof *x->tokens);
    while (x->count < JSON_INDEX_AHEAD && x->at < x->bits.len) x->fill(x);
    ASSERT(x->count < JSON_INDEX_AHEAD + JSON_INDEX_BYTES);
    uint32_t last = x->count ? x->tokens[x->count - 1] : 0;
    for (uint32_t i = 0; i < JSON_INDEX_AHEAD; i++) x->tokens[x->count + i] = last;
}

#endif
