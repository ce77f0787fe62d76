/* What both indexes of a JSON text ask of 64 bytes: which of them are escaped, which quotes begin and end strings. */
#ifndef HOLDFAST_FRAME_JSON_BITS_H
#define HOLDFAST_FRAME_JSON_BITS_H

#include "frame/json_internal.h"

#ifdef JSON_INDEX
#include <immintrin.h>

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
static inline bool escapes_are_good(const struct json_bits *x, uint32_t at, uint64_t escaped)
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

/* First bytes of numbers and words. `string`: a bit for each byte from an opening quote to before the closing one. */
HOT uint64_t bare_starts(struct json_bits *x, const struct block *b, uint64_t quote, uint64_t string)
{
    x->string = (uint64_t)((int64_t)string >> 63);
    x->bad |= b->control & string;
    x->controls |= b->space & b->control & ~string;
    uint64_t bare = ~(b->op | b->space | quote);
    uint64_t starts = bare & ~(bare << 1 | x->bare);
    x->bare = bare >> 63;
    return starts & ~string;
}

/* Four bytes as a word that is read from memory (little-endian: this is x86). */
#define WORD(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

/* All bits from an odd one to before the next. */
#define WITHIN(bits) ((uint64_t)_mm_cvtsi128_si64(_mm_clmulepi64_si128(_mm_set_epi64x(0, (int64_t)(bits)), _mm_set1_epi8(-1), 0)))

#endif
#endif
