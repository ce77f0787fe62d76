/* A whole JSON text by bits: its tokens' bytes in a row (a string is its opening quote), 64 of them at a time, and for
 * each question of grammar one operation on 64 bits. What may follow a token depends on it and on whether its
 * container is an object, so only brackets are looked at one by one, and numbers and words.
 *
 * Then the wanted fields: only the objects on their paths are walked; over any other container goes one step, because
 * the first pass knows where it closes. Says yes only to what json.c's careful scanner takes. */
#include "frame/json_bits.h"

#ifdef JSON_INDEX
#include <string.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,bmi,pclmul,popcnt")))

#define DEPTH_MAX 62u /* containers are bits of a word */

struct row {
    const uint8_t *text, *end; /* borrowed */
    uint32_t count;
    uint8_t kinds[JSON_VECTOR_BYTES_MAX + BLOCK];   /* tokens: their first bytes */
    uint16_t places[JSON_VECTOR_BYTES_MAX + BLOCK]; /* of each, in the text */
    uint16_t closes[JSON_VECTOR_BYTES_MAX + 1];     /* of an opening bracket: the token that closes it */
};
_Static_assert(JSON_VECTOR_BYTES_MAX <= UINT16_MAX, "places are 16 bits");

/* ---- the row ------------------------------------------------------------------------------------------- */

AVX512 static void row_fill(struct row *r, struct json_bits *bits_io)
{
    static const uint8_t numbers[BLOCK] = {
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
        32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63,
    };
    const __m512i spaces = _mm512_broadcast_i32x4(_mm_setr_epi8(' ', 100, 100, 100, 17, 100, 113, 2, 100, '\t', '\n', 112, 100,
                                                                '\r', 100, 100));
    const __m512i ops = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ':', '{', ',', '}', 0, 0));
    const __m512i number = _mm512_loadu_si512(numbers), blank = _mm512_set1_epi8(' ');
    struct json_bits x = *bits_io; /* a local: nothing that is stored can be part of it */
    uint32_t count = 0;
    for (uint32_t at = 0; at < x.len; at += BLOCK) {
        __m512i in = x.len - at >= BLOCK
                         ? _mm512_loadu_si512(x.text + at)
                         : _mm512_mask_loadu_epi8(blank, ((uint64_t)1 << (x.len - at)) - 1, x.text + at);
        __m512i low = _mm512_or_si512(in, blank);
        struct block b = {
            .quote = _mm512_cmpeq_epi8_mask(in, _mm512_set1_epi8('"')),
            .backslash = _mm512_cmpeq_epi8_mask(in, _mm512_set1_epi8('\\')),
            .op = _mm512_cmpeq_epi8_mask(low, _mm512_shuffle_epi8(ops, in)),
            .space = _mm512_cmpeq_epi8_mask(in, _mm512_shuffle_epi8(spaces, in)),
            .control = _mm512_cmplt_epu8_mask(in, blank),
            .wide = _mm512_movepi8_mask(in),
        };
        uint64_t quote = quotes_of(&x, &b, at);
        uint64_t string = WITHIN(quote) ^ x.string;
        uint64_t bare = bare_starts(&x, &b, quote, string);
        uint64_t tokens = (b.op & ~string) | bare | (quote & string);
        __m512i found = _mm512_maskz_compress_epi8(tokens, number), base = _mm512_set1_epi16((short)at);
        unsigned more = (unsigned)__builtin_popcountll(tokens);
        _mm512_storeu_si512(r->kinds + count, _mm512_maskz_compress_epi8(tokens, in));
        _mm512_storeu_si512(r->places + count, _mm512_add_epi16(base, _mm512_cvtepu8_epi16(_mm512_castsi512_si256(found))));
        if (more > BLOCK / 2) {
            __m256i rest = _mm512_extracti64x4_epi64(found, 1);
            _mm512_storeu_si512(r->places + count + BLOCK / 2, _mm512_add_epi16(base, _mm512_cvtepu8_epi16(rest)));
        }
        count += more;
    }
    r->count = count;
    *bits_io = x;
}

/* ---- grammar ------------------------------------------------------------------------------------------- */

/* May stand behind a number or a word. */
static const bool over[256] = { [' '] = true, ['\t'] = true, ['\n'] = true, ['\r'] = true,
                                [','] = true, [']'] = true,  ['}'] = true };

/* A number or a word, where the text goes on for 16 bytes and it is nothing unusual. */
HOT bool bare_is_plain(const uint8_t *p)
{
    uint32_t word;
    memcpy(&word, p, sizeof word);
    if ((uint8_t)(*p - '0') <= 9) {
        __m128i digits = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)(const void *)p), _mm_set1_epi8('0'));
        int are = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(digits, _mm_set1_epi8(9)), digits));
        unsigned len = (unsigned)__builtin_ctz(~(unsigned)are);
        return len < 16 && over[p[len]] && (*p != '0' || len == 1);
    }
    if (word == WORD('t', 'r', 'u', 'e') || word == WORD('n', 'u', 'l', 'l')) return over[p[4]];
    return word == WORD('f', 'a', 'l', 's') && p[4] == 'e' && over[p[5]];
}

/* One bit for each of 64 tokens; `carry`: those of the last of the 64 before. */
#define AFTER(bits, carry) ((bits) << 1 | (carry))
#define CARRY(bits) ((bits) >> 63)

/* Where the container of each token is an object, given where that changes. */
struct nest {
    uint64_t open; /* a bit per open container, the innermost is the lowest: object; above all of them a 1 */
    uint32_t depth;
    uint16_t opened[DEPTH_MAX + 2]; /* the tokens, from [1] */
};

/* The brackets of 64 tokens, in order. Every step writes where it opens and where its container closes; what a later
 * one does not overwrite was right. False: one does not match, something is behind the root, or it is too deep. */
HOT bool brackets(struct row *r, struct nest *n, uint32_t first, uint64_t all, uint64_t opening, uint64_t objects,
                  uint64_t *changes_out)
{
    uint64_t changes = 0, wrong = 0;
    for (; all; all &= all - 1) {
        unsigned i = (unsigned)__builtin_ctzll(all);
        uint64_t opens = opening >> i & 1, object = objects >> i & 1;
        uint64_t now = opens ? n->open << 1 | object : n->open >> 1;
        wrong |= ~opens & (n->open ^ object) & 1;
        changes |= ((now ^ n->open) & 1) << i;
        n->opened[n->depth + 1] = (uint16_t)(first + i);
        r->closes[n->opened[n->depth]] = (uint16_t)(first + i);
        n->depth = opens ? n->depth + 1 : n->depth - 1;
        n->open = now;
        if (n->depth - 1 >= DEPTH_MAX) { /* none is open, or too many */
            *changes_out = changes;
            return !wrong && n->depth == 0 && first + i + 1 == r->count;
        }
    }
    *changes_out = changes;
    return !wrong;
}

AVX512 static bool grammar(struct row *r)
{
    struct nest nest = { .open = 1 };
    uint64_t in_object = ~(uint64_t)0; /* all bits: the last token's container is one; as nest.open has it */
    uint64_t brace = 0, comma = 0, key = 0, square = 0, value = 0, ended = 0; /* was the last token such? */
    if (r->count == 0 || (r->kinds[0] | 0x20) != '{') return false; /* [ too */
    nest.opened[0] = JSON_VECTOR_BYTES_MAX; /* around the root is nothing that closes */
    for (uint32_t first = 0; first < r->count; first += BLOCK) {
        uint64_t here = r->count - first >= BLOCK ? ~(uint64_t)0 : ((uint64_t)1 << (r->count - first)) - 1;
        __m512i k = _mm512_loadu_si512(r->kinds + first);
#define ARE(c) _mm512_mask_cmpeq_epi8_mask(here, k, _mm512_set1_epi8(c))
        uint64_t obj = ARE('{'), obj_end = ARE('}'), arr = ARE('['), arr_end = ARE(']');
        uint64_t colons = ARE(':'), commas = ARE(','), strings = ARE('"');
#undef ARE
        uint64_t opening = obj | arr, closing = obj_end | arr_end;
        uint64_t bare = here & ~(opening | closing | colons | commas | strings);
        uint64_t changes;
        if (!brackets(r, &nest, first, opening | closing, opening, obj | obj_end, &changes)) return false;
        in_object ^= WITHIN(changes);

        uint64_t next_key = commas & in_object, next_value = (commas & ~in_object) | colons;
        uint64_t keys = (AFTER(obj, brace) & ~obj_end) | AFTER(next_key, comma);
        uint64_t values = (AFTER(arr, square) & ~arr_end) | AFTER(next_value, value);
        uint64_t ends = ((strings | bare) & ~keys) | closing;
        uint64_t wrong = keys & ~strings;
        wrong |= AFTER(keys, key) ^ colons;
        wrong |= values & ~(strings | bare | opening);
        wrong |= AFTER(ends, ended) & ~(commas | closing);
        if (wrong & here) return false;

        for (; bare; bare &= bare - 1) {
            const uint8_t *p = r->text + r->places[first + (unsigned)__builtin_ctzll(bare)];
            if (r->end - p >= 16 && bare_is_plain(p)) continue;
            if (!json__bare(NULL, p, r->end)) return false;
        }
        in_object = (uint64_t)((int64_t)in_object >> 63);
        brace = CARRY(obj), comma = CARRY(next_key), key = CARRY(keys);
        square = CARRY(arr), value = CARRY(next_value), ended = CARRY(ends);
    }
    return nest.depth == 0;
}

/* ---- fields -------------------------------------------------------------------------------------------- */

/* The string that token `i` begins: between the quotes. */
HOT const uint8_t *string_of(const struct row *r, uint32_t i, size_t *len_out, bool *escaped_out)
{
    const uint8_t *text = r->text + r->places[i] + 1, *quote = r->text + r->places[i + 1] - 1;
    while (*quote != '"') quote--; /* blanks */
    *len_out = (size_t)(quote - text);
    *escaped_out = memchr(text, '\\', *len_out) != NULL;
    return text;
}

/* Of a row whose grammar is good, and whose root is an object on a path. */
static void fields_lift(const struct row *r, struct json_watch *w)
{
    uint32_t i = 0;
    size_t len;
    bool escaped;
    for (;;) {
        /* An opening bracket. */
        json__watch_open(w, r->text + r->places[i], r->kinds[i] == '{');
        if (w->depth != w->watched) i = r->closes[i];
        else i++;
        while (r->kinds[i] != '"') { /* past a value, or before the first key: a comma or what closes */
            if (r->kinds[i] != ',') {
                json__watch_close(w, r->text + r->places[i] + 1);
                if (w->depth == 0) return;
            }
            i++;
        }
        for (;;) {
            const uint8_t *text = string_of(r, i, &len, &escaped);
            json__watch_found(w, text, len, escaped);
            i += 2;
            uint8_t kind = r->kinds[i];
            bool opens = (kind | 0x20) == '{';
            if (opens && w->hit) break;
            if (opens) {
                i = r->closes[i];
            } else if (w->hit && kind == '"') {
                text = string_of(r, i, &len, &escaped);
                json__lift_string(w, text, len, escaped);
            } else if (w->hit) {
                json__bare(w, r->text + r->places[i], r->end);
            }
            i++;
            while (r->kinds[i] != ',') {
                json__watch_close(w, r->text + r->places[i] + 1);
                if (w->depth == 0) return;
                i++;
            }
            i++;
        }
    }
}

bool json__vector(struct json_bits *bits, struct json_watch *w)
{
    struct row r;
    if (bits->len > JSON_VECTOR_BYTES_MAX) return false;
    r.text = bits->text;
    r.end = bits->text + bits->len;
    row_fill(&r, bits);
    /* What an escape means is asked of good ones only. */
    if (bits->bad || bits->string || !grammar(&r)) return false;
    if (w->paths && r.kinds[0] == '{' && w->paths->nodes[0].child) fields_lift(&r, w);
    return true;
}

#endif
