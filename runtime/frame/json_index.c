/* The index of a JSON text: where its tokens are, found 64 bytes at a time with a bit per byte, much as
 * simdjson's first stage does. A token is a bracket, comma or colon outside strings, or the first byte of
 * a number or a word. A string is no token of its own when one follows its closing quote at once: who
 * looks at the byte before sees it; otherwise that quote is a token.
 *
 * What a string may not hold is seen here as well; grammar is not. Reads nothing past the text's end.
 * Only for x86-64; elsewhere json.c goes byte by byte. */
#include "frame/json_bits.h"

#ifdef JSON_INDEX
#include <string.h>

/* Where tokens are, given the block and a bit for each byte from an opening quote to before the closing one. */
HOT uint64_t tokens_of(struct json_bits *x, const struct block *b, uint64_t quote, uint64_t string)
{
    uint64_t starts = bare_starts(x, b, quote, string), op = b->op & ~string;
    /* Of a quote that is the block's last byte nobody knows what follows. */
    return op | starts | (quote & ~string & ~(op >> 1));
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
    uint64_t starts = tokens_of(x, &b, quote, WITHIN(quote) ^ x->string);
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

/* --- the next part of a text ------------------------------------------------------------------------ */

/* The bits in a local: no token that is stored can be part of them. */
AVX2 static void fill(struct json_index *x)
{
    struct json_bits bits = x->bits;
    uint32_t *out = x->tokens + x->count, at = x->at, left = bits.len - at;
    uint32_t end = left > JSON_INDEX_BYTES ? at + JSON_INDEX_BYTES : bits.len;
    for (; end - at >= BLOCK; at += BLOCK) out = step_avx2(&bits, bits.text + at, at, out);
    if (at < end) {
        uint8_t last[BLOCK];
        memset(last, ' ', sizeof last);
        memcpy(last, bits.text + at, end - at);
        out = step_avx2(&bits, last, at, out);
        at = end;
    }
    x->bits = bits;
    x->at = at;
    x->count = (uint32_t)(out - x->tokens);
}

bool json__way_is_here(enum json_way way)
{
    bool bits = __builtin_cpu_supports("bmi") && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("popcnt");
    switch (way) {
    case JSON_WAY_CAREFUL: return true;
    case JSON_WAY_AVX2: return bits && __builtin_cpu_supports("avx2");
    case JSON_WAY_AVX512:
        return bits && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
    case JSON_WAYS: break;
    }
    return false;
}

void json__index_start(struct json_index *x, const uint8_t *text, uint32_t len)
{
    x->bits = (struct json_bits){ .text = text, .len = len };
    x->at = x->count = 0;
}

void json__index_more(struct json_index *x, uint32_t next)
{
    ASSERT(next <= x->count);
    x->count -= next;
    ASSERT(x->count < JSON_INDEX_AHEAD);
    memmove(x->tokens, x->tokens + next, x->count * sizeof *x->tokens);
    while (x->count < JSON_INDEX_AHEAD && x->at < x->bits.len) fill(x);
    ASSERT(x->count < JSON_INDEX_AHEAD + JSON_INDEX_BYTES);
    uint32_t last = x->count ? x->tokens[x->count - 1] : 0;
    for (uint32_t i = 0; i < JSON_INDEX_AHEAD; i++) x->tokens[x->count + i] = last;
}

#endif
