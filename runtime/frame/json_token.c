/* JSON tokens byte by byte: where a number ends, where a string does and whether all in it is allowed.
 * Bytes in strings go by in words, not one by one; they are most of every message. */
#include "frame/json_internal.h"

#include <endian.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define HOT static inline __attribute__((always_inline))
HOT const uint8_t *plain_end(const uint8_t *p, const uint8_t *end);
static const uint8_t *utf8_run_end(const uint8_t *p, const uint8_t *end);
static const uint8_t *escape_end(const uint8_t *p, const uint8_t *end);

HOT bool is_digit(uint8_t c)
{
    return (uint8_t)(c - '0') <= 9;
}

const uint8_t *json__number_end(const uint8_t *p, const uint8_t *end)
{
    if (*p == '-') p++;
    if (p == end || !is_digit(*p)) return NULL;
    if (*p++ != '0') {
        while (p < end && is_digit(*p)) p++;
    }
    if (p < end && *p == '.') {
        p++;
        if (p == end || !is_digit(*p)) return NULL;
        while (p < end && is_digit(*p)) p++;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-')) p++;
        if (p == end || !is_digit(*p)) return NULL;
        while (p < end && is_digit(*p)) p++;
    }
    return p;
}

#define EACH(byte) ((byte) * 0x0101010101010101u)

struct json_string json__string_end(const uint8_t *p, const uint8_t *end)
{
    struct json_string scan = { p, false };
    for (;;) {
        p = scan.at = plain_end(p, end);
        if (p == end || *p == '"' || *p < ' ') return scan;
        if (*p == '\\') {
            scan.escaped = true;
            p = escape_end(p, end);
        } else {
            p = utf8_run_end(p, end);
        }
        if (p == scan.at) return scan;
    }
}

/* The first byte of a string that is a quote, a backslash, a control or not ASCII. */
HOT const uint8_t *plain_end(const uint8_t *p, const uint8_t *end)
{
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\');
    const __m128i blank = _mm_set1_epi8(' ');
    for (; end - p >= 16; p += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i stop = _mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash));
        /* Signed: what is not ASCII is below a blank too. */
        stop = _mm_or_si128(stop, _mm_cmplt_epi8(bytes, blank));
        int mask = _mm_movemask_epi8(stop);
        if (mask) return p + __builtin_ctz((unsigned)mask);
    }
#endif
    for (; end - p >= 8; p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        word = le64toh(word);
        /* The top bit of each such byte. A borrow can only spoil the bytes above one, and the lowest
         * is what counts. */
        uint64_t stop = ((word ^ EACH('"')) - EACH(1)) | ((word ^ EACH('\\')) - EACH(1)) |
                        (word - EACH(' ')) | word;
        stop &= EACH(0x80);
        if (stop) return p + (__builtin_ctzll(stop) >> 3);
    }
    while (p < end && *p >= ' ' && *p < 0x80 && *p != '"' && *p != '\\') p++;
    return p;
}

/* Skips a run of bytes that are not ASCII; returns `p` itself when the first sequence is bad. */
static const uint8_t *utf8_run_end(const uint8_t *p, const uint8_t *end)
{
    while (end - p >= 2 && *p >= 0x80) {
        uint32_t c = (uint32_t)(*p & 0x0f) << 6 | (p[1] & 0x3f); /* without the last 6 or 12 bits */
        if ((p[1] & 0xc0) != 0x80) return p;
        if (*p >= 0xe0 && *p < 0xf0) { /* first, because Chinese text is made of it */
            if (end - p < 3 || (p[2] & 0xc0) != 0x80) return p;
            if (c < 0x800 >> 6 || (c >= 0xd800 >> 6 && c <= 0xdfff >> 6)) return p;
            p += 3;
        } else if (*p < 0xe0) {
            if (*p < 0xc2) return p;
            p += 2;
        } else {
            if (end - p < 4 || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80) return p;
            if (*p > 0xf4 || c < 0x10000 >> 12 || c > 0x10ffff >> 12) return p;
            p += 4;
        }
    }
    return p;
}

/* `p`: a backslash. Returns it again when the escape is bad. */
static const uint8_t *escape_end(const uint8_t *p, const uint8_t *end)
{
    if (end - p < 2) return p;
    switch (p[1]) {
    case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't':
        return p + 2;
    case 'u':
        if (end - p < 6) return p;
        for (int i = 2; i < 6; i++) {
            if (!is_digit(p[i]) && (uint8_t)((p[i] | 0x20) - 'a') > 5) return p;
        }
        return p + 6;
    default:
        return p;
    }
}
