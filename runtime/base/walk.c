/* Walks: numbers and texts into bytes and back. Owns nothing; trusts nothing that it reads. */
#include "base/walk.h"

#include <string.h>

#include "base/assert.h"

struct walk walk_write(struct buffer *out)
{
    ASSERT(out != NULL);
    return (struct walk){ .out = out };
}

struct walk walk_read(const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    return (struct walk){ .begin = at, .at = at, .end = at + len };
}

void walk_fail(struct walk *w, const char *why)
{
    if (w->bad) return;
    w->bad = true;
    w->why = why;
}

bool walk_is_over(const struct walk *w)
{
    return !w->bad && w->at == w->end;
}

static void put(struct walk *w, const void *bytes, size_t len)
{
    if (!w->bad && !buffer_append(w->out, bytes, len)) walk_fail(w, "no room");
}

/* NULL after a fault, and where the bytes end too early. */
static const uint8_t *take(struct walk *w, size_t len)
{
    if (w->bad) return NULL;
    if ((size_t)(w->end - w->at) < len) {
        walk_fail(w, "it ends in the middle");
        return NULL;
    }
    const uint8_t *at = w->at;
    w->at += len;
    return at;
}

void walk_u64(struct walk *w, uint64_t *v)
{
    if (!walk_reads(w)) {
        uint8_t bytes[10];
        size_t n = 0;
        struct buffer *out = w->out;
        /* Most are of one byte, and many stand in a row. */
        if (*v < 0x80 && out->len < out->capacity && !w->bad) {
            out->data[out->len++] = (uint8_t)*v;
            return;
        }
        uint64_t left = *v;
        do {
            bytes[n] = (uint8_t)(left & 0x7f);
            left >>= 7;
            if (left) bytes[n] |= 0x80;
            n++;
        } while (left);
        put(w, bytes, n);
        return;
    }
    uint64_t got = 0;
    for (unsigned shift = 0;; shift += 7) {
        const uint8_t *p = take(w, 1);
        if (!p) break;
        if (shift == 63 && *p > 1) {
            walk_fail(w, "a number that is too large");
            break;
        }
        got |= (uint64_t)(*p & 0x7f) << shift;
        if (!(*p & 0x80)) {
            *v = got;
            return;
        }
    }
    *v = 0;
}

void walk_i64(struct walk *w, int64_t *v)
{
    uint64_t folded = (uint64_t)*v << 1 ^ (uint64_t)(*v >> 63);
    walk_u64(w, &folded);
    if (walk_reads(w)) *v = (int64_t)(folded >> 1 ^ (0 - (folded & 1)));
}

void walk_below(struct walk *w, uint32_t *v, uint32_t limit)
{
    uint64_t wide = *v;
    walk_u64(w, &wide);
    if (!walk_reads(w)) return;
    if (wide >= limit) {
        walk_fail(w, "a number that means nothing");
        wide = 0;
    }
    *v = (uint32_t)wide;
}

static uint64_t narrow(struct walk *w, uint64_t v, uint64_t most)
{
    walk_u64(w, &v);
    if (v <= most) return v;
    walk_fail(w, "a number that is too large");
    return 0;
}

void walk_u32(struct walk *w, uint32_t *v)
{
    *v = (uint32_t)narrow(w, *v, UINT32_MAX);
}

void walk_u16(struct walk *w, uint16_t *v)
{
    *v = (uint16_t)narrow(w, *v, UINT16_MAX);
}

void walk_u8(struct walk *w, uint8_t *v)
{
    *v = (uint8_t)narrow(w, *v, UINT8_MAX);
}

void walk_i32(struct walk *w, int32_t *v)
{
    int64_t wide = *v;
    walk_i64(w, &wide);
    if (wide > INT32_MAX || wide < INT32_MIN) {
        walk_fail(w, "a number that is too large");
        wide = 0;
    }
    *v = (int32_t)wide;
}

void walk_bool(struct walk *w, bool *v)
{
    *v = narrow(w, *v, 1) != 0;
}

void walk_hash(struct walk *w, uint64_t *v)
{
    uint8_t bytes[8];
    if (!walk_reads(w)) {
        for (unsigned i = 0; i < 8; i++) bytes[i] = (uint8_t)(*v >> (8 * i));
        put(w, bytes, sizeof bytes);
        return;
    }
    const uint8_t *p = take(w, 8);
    *v = 0;
    for (unsigned i = 0; p && i < 8; i++) *v |= (uint64_t)p[i] << (8 * i);
}

void walk_double(struct walk *w, double *v)
{
    uint64_t bits;
    _Static_assert(sizeof bits == sizeof *v, "IEEE 754");
    memcpy(&bits, v, sizeof bits);
    walk_hash(w, &bits);
    memcpy(v, &bits, sizeof bits);
}

void walk_count(struct walk *w, uint32_t *count, uint32_t most)
{
    walk_below(w, count, most < UINT32_MAX ? most + 1 : most);
}

void walk_bytes(struct walk *w, const void **bytes, size_t *len)
{
    uint64_t n = *len;
    walk_u64(w, &n);
    if (!walk_reads(w)) {
        if (n) put(w, *bytes, (size_t)n);
        return;
    }
    *bytes = NULL;
    *len = 0;
    if (w->bad || n > (uint64_t)(w->end - w->at)) {
        walk_fail(w, "it ends in the middle");
        return;
    }
    *bytes = take(w, (size_t)n);
    *len = (size_t)n;
}

void walk_text(struct walk *w, char *text, size_t bytes)
{
    const void *at = text;
    size_t len = walk_reads(w) ? 0 : strnlen(text, bytes - 1);
    walk_bytes(w, &at, &len);
    if (!walk_reads(w)) return;
    text[0] = 0;
    if (w->bad) return;
    if (len >= bytes || (len && memchr(at, 0, len))) {
        walk_fail(w, "a text that is too long, or none");
        return;
    }
    if (len) memcpy(text, at, len);
    text[len] = 0;
}

void walk_near(struct walk *w, uint64_t *v, uint64_t near)
{
    int64_t delta = (int64_t)(*v - near);
    walk_i64(w, &delta);
    *v = near + (uint64_t)delta;
}
