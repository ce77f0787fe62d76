/* UTF-8, checked as it arrives: an error is known at the first byte that cannot be right, however
 * the bytes are cut. Owns nothing. ASCII and whole sequences take the fast way; only a sequence
 * that the end of the input cuts goes byte by byte through the state. */
#include <string.h>

#include "frame/ws.h"

/* state: continuation bytes still to come, then the range that the next one must lie in. */
#define OPEN(need, low, high) ((uint32_t)(need) | (uint32_t)(low) << 8 | (uint32_t)(high) << 16)
#define BETWEEN 0u
#define BAD UINT32_MAX
#define HIGH_BITS 0x8080808080808080u

static uint32_t step(uint32_t state, uint8_t byte);
static size_t whole_sequence(const uint8_t *p, size_t len);
static const uint8_t *skip_ascii(const uint8_t *p, const uint8_t *end);
static const uint8_t *skip_three_byte(const uint8_t *p, const uint8_t *end);

void utf8_start(struct utf8_state *s)
{
    s->state = BETWEEN;
}

bool utf8_feed(struct utf8_state *s, const uint8_t *bytes, size_t len)
{
    uint32_t state = s->state;
    if (len == 0) return state != BAD;
    const uint8_t *p = bytes, *end = bytes + len;

    for (;;) {
        while (state != BETWEEN) {
            if (state == BAD || p == end) {
                s->state = state;
                return state != BAD;
            }
            state = step(state, *p++);
        }
        p = skip_ascii(p, end);
        p = skip_three_byte(p, end);
        size_t n = 1;
        while (p < end && (n = whole_sequence(p, (size_t)(end - p))) > 1) p += n;
        if (p == end) break;
        /* An ASCII byte after a run of sequences, or one that is wrong or cut: the state knows. */
        state = step(state, *p++);
    }
    s->state = BETWEEN;
    return true;
}

bool utf8_end(const struct utf8_state *s)
{
    return s->state == BETWEEN;
}

static uint32_t step(uint32_t state, uint8_t byte)
{
    if (state == BETWEEN) {
        if (byte < 0x80) return BETWEEN;
        if (byte < 0xc2 || byte > 0xf4) return BAD;
        if (byte < 0xe0) return OPEN(1, 0x80, 0xbf);
        if (byte == 0xe0) return OPEN(2, 0xa0, 0xbf); /* lower ones are overlong */
        if (byte == 0xed) return OPEN(2, 0x80, 0x9f); /* higher ones are surrogates */
        if (byte < 0xf0) return OPEN(2, 0x80, 0xbf);
        if (byte == 0xf0) return OPEN(3, 0x90, 0xbf);
        if (byte == 0xf4) return OPEN(3, 0x80, 0x8f); /* at most U+10FFFF */
        return OPEN(3, 0x80, 0xbf);
    }
    uint8_t need = state & 0xff, low = state >> 8 & 0xff, high = state >> 16 & 0xff;
    if (byte < low || byte > high) return BAD;
    return need == 1 ? BETWEEN : OPEN(need - 1, 0x80, 0xbf);
}

/* Length of the well-formed sequence of two to four bytes at p; 0 when it is wrong or cut, 1 for
 * ASCII. */
static size_t whole_sequence(const uint8_t *p, size_t len)
{
    if (p[0] < 0x80) return 1;
    if (p[0] >= 0xe0 && p[0] < 0xf0) {
        if (len < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80) return 0;
        if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)) return 0;
        return 3;
    }
    if (p[0] < 0xe0) return p[0] >= 0xc2 && len >= 2 && (p[1] & 0xc0) == 0x80 ? 2 : 0;
    if (p[0] > 0xf4 || len < 4) return 0;
    if ((p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80) return 0;
    if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) return 0;
    return 4;
}

static const uint8_t *skip_ascii(const uint8_t *p, const uint8_t *end)
{
    uint64_t w[4];
    while (end - p >= 32) {
        memcpy(w, p, sizeof w);
        if ((w[0] | w[1] | w[2] | w[3]) & HIGH_BITS) break;
        p += 32;
    }
    while (end - p >= 8) {
        memcpy(w, p, 8);
        if (w[0] & HIGH_BITS) break;
        p += 8;
    }
    while (p < end && *p < 0x80) p++;
    return p;
}

/* Runs of U+0800 to U+FFFF: most of what people write in Chinese, Japanese and Korean. */
static const uint8_t *skip_three_byte(const uint8_t *p, const uint8_t *end)
{
    while (end - p >= 4) {
        /* Four bytes, because the compiler makes one load of them; the last is not looked at. */
        uint32_t w = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                     (uint32_t)p[3] << 24;
        if ((w & 0x00c0c0f0) != 0x008080e0) break;
        if ((w & 0x200f) == 0x0000 || (w & 0x200f) == 0x200d) break; /* overlong, surrogate */
        p += 3;
    }
    return p;
}
