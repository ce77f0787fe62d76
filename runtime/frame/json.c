/* The JSON scanner: one pass over a message, no recursion, no allocation, no tree. It checks all of
 * RFC 8259 and, on the way, lifts the values whose path leads through the keys of json_paths.
 *
 * Two ways: a quick one over an index of the tokens, which only ever says yes, and the careful one here,
 * byte by byte, which has the last word and knows where a fault is. Never changes a text before it is
 * known to be whole: a malformed one is handed on as it came. */
#include "frame/json.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/assert.h"
#include "frame/json_internal.h"

/* A shorter text is read before it is indexed. */
#define QUICK_BYTES_MIN 512u
#define WHOLE_DIGITS_MAX 18 /* they fit */

struct scanner {
    const uint8_t *at, *end;
    uint32_t controls;  /* not 0: white space other than blanks was seen outside strings */
    bool too_deep;
    struct json_watch watch;
    uint64_t objects[JSON_DEPTH_MAX / 64]; /* a bit per open container: object, not array */
};

_Static_assert(JSON_DEPTH_MAX % 64 == 0, "whole words of bits");

/* Inlined into one loop: the scanner's members then live in registers (twice as fast). */
#define HOT static inline __attribute__((always_inline))
HOT bool scan_text(struct scanner *s);
HOT bool scan_value(struct scanner *s, bool *opened);
HOT bool scan_key(struct scanner *s);
HOT bool scan_closing(struct scanner *s, bool *more);
HOT bool container_open(struct scanner *s, bool object);
static enum json_way way_of(size_t len);
static enum json_result careful(uint8_t *data, size_t len, const struct json_paths *paths,
                                struct field_value *values, size_t *fault_out);
static void controls_blank(uint8_t *data, size_t len);

enum json_result json_scan(uint8_t *data, size_t len, const struct json_paths *paths,
                           struct field_value *values, size_t *fault_out)
{
    return json__scan_by(way_of(len), data, len, false, paths, values, fault_out);
}

enum json_result json_scan_utf8(uint8_t *data, size_t len, const struct json_paths *paths,
                                struct field_value *values)
{
    return json__scan_by(way_of(len), data, len, true, paths, values, NULL);
}

enum json_result json__scan_by(enum json_way way, uint8_t *data, size_t len, bool utf8, const struct json_paths *paths,
                               struct field_value *values, size_t *fault_out)
{
    ASSERT(json__way_is_here(way));
#ifdef JSON_INDEX
    bool controls = false;
    if (way != JSON_WAY_CAREFUL && json__quick(way, data, len, utf8, paths, values, &controls)) {
        if (controls) controls_blank(data, len);
        return JSON_OK;
    }
#else
    (void)utf8;
#endif
    return careful(data, len, paths, values, fault_out);
}

static enum json_way way_of(size_t len)
{
    enum json_way way = JSON_WAYS - 1;
    if (len < QUICK_BYTES_MIN) return JSON_WAY_CAREFUL;
    while (!json__way_is_here(way)) way--;
    return way;
}

#ifndef JSON_INDEX
bool json__way_is_here(enum json_way way)
{
    return way == JSON_WAY_CAREFUL;
}
#endif

static enum json_result careful(uint8_t *data, size_t len, const struct json_paths *paths,
                                struct field_value *values, size_t *fault_out)
{
    struct scanner s;
    s.at = data;
    s.end = data + len;
    s.controls = 0;
    s.too_deep = false;
    json__watch_start(&s.watch, paths, values);
    if (scan_text(&s)) {
        if (s.controls) controls_blank(data, len);
        return JSON_OK;
    }
    if (fault_out) *fault_out = (size_t)(s.at - data);
    /* Raw text of objects and arrays may hold line ends, which were not made blank. */
    for (uint32_t i = 0; paths && i < paths->count; i++) {
        if (values[i].kind == FIELD_OTHER) values[i].kind = FIELD_ABSENT;
    }
    return s.too_deep ? JSON_TOO_DEEP : JSON_MALFORMED;
}

HOT void space_skip(struct scanner *s)
{
    while (s->at < s->end && *s->at <= ' ') {
        uint8_t c = *s->at;
        if (c != ' ') {
            if (c != '\n' && c != '\r' && c != '\t') return;
            s->controls = 1;
        }
        s->at++;
    }
}

/* Takes `c`, and nothing but it: neither has blanks around it in what machines write. */
HOT bool is_between(struct scanner *s, uint8_t c)
{
    if (s->end - s->at < 2 || s->at[0] != c || s->at[1] <= ' ') return false;
    s->at++;
    return true;
}

/* As json__string_end(). Keys and identifiers end within the first bytes. */
HOT struct json_string string_end(const uint8_t *p, const uint8_t *end)
{
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), blank = _mm_set1_epi8(' ');
    for (unsigned i = 0; i < 2 && end - p >= 16; i++, p += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i stop = _mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash));
        /* Signed: what is not ASCII is below a blank too. */
        int mask = _mm_movemask_epi8(_mm_or_si128(stop, _mm_cmplt_epi8(bytes, blank)));
        if (!mask) continue;
        p += __builtin_ctz((unsigned)mask);
        if (*p == '"') return (struct json_string){ p, false };
        break;
    }
#endif
    return json__string_end(p, end);
}

/* False at a fault, which is then at s->at; so in all that return bool below. */
HOT bool scan_text(struct scanner *s)
{
    space_skip(s);
    for (bool more = true; more;) {
        bool opened = false;
        if (!scan_value(s, &opened)) return false;
        if (opened) continue;
        if (!scan_closing(s, &more)) return false;
    }
    space_skip(s);
    return s->at == s->end;
}

/* One value, or the opening of one that is not empty, with its first key. */
HOT bool scan_value(struct scanner *s, bool *opened)
{
    const uint8_t *p = s->at, *end = s->end;
    if (p == end) return false;
    switch (*p) {
    case '"': {
        struct json_string string = string_end(p + 1, end);
        s->at = string.at;
        if (string.at == end || *string.at != '"') return false;
        s->at++;
        if (s->watch.hit) json__lift_string(&s->watch, p + 1, (size_t)(string.at - p - 1), string.escaped);
        return true;
    }
    case '{':
    case '[': {
        bool object = *p == '{';
        if (!container_open(s, object)) return false;
        space_skip(s);
        if (s->at == end) return false;
        if (*s->at == (object ? '}' : ']')) return true; /* scan_closing() takes it */
        *opened = true;
        return object ? scan_key(s) : true;
    }
    case 't':
    case 'f':
    case 'n': {
        size_t len = *p == 'f' ? 5 : 4, left = (size_t)(end - p);
        if (left < len) return false;
        bool ok = *p == 't'   ? memcmp(p, "true", 4) == 0
                  : *p == 'n' ? memcmp(p, "null", 4) == 0
                              : memcmp(p, "false", 5) == 0;
        if (!ok) return false;
        s->at += len;
        if (s->watch.hit) json__lift_word(&s->watch, p, len);
        return true;
    }
    default: {
        /* Not 0, no sign, no point: most numbers, and one pass is enough. */
        const uint8_t *digit = p, *most = end - p > WHOLE_DIGITS_MAX ? p + WHOLE_DIGITS_MAX : end;
        int64_t whole = 0;
        for (; digit < most && (uint8_t)(*digit - '0') <= 9; digit++) whole = whole * 10 + (*digit - '0');
        if (digit < most && *p != '0' && digit > p && (*digit == ',' || *digit == '}' || *digit == ']')) {
            s->at = digit;
            if (s->watch.hit) json__lift_integer(&s->watch, p, (size_t)(digit - p), whole);
            return true;
        }
        const uint8_t *stop = json__number_end(p, end);
        if (!stop) return false;
        s->at = stop;
        if (s->watch.hit) json__lift_number(&s->watch, p, (size_t)(stop - p));
        return true;
    }
    }
}

/* A key and its colon, up to the value. */
HOT bool scan_key(struct scanner *s)
{
    const uint8_t *key = s->at + 1;
    if (s->at == s->end || *s->at != '"') return false;
    struct json_string string = string_end(key, s->end);
    s->at = string.at;
    if (string.at == s->end || *string.at != '"') return false;
    s->at++;
    if (s->watch.depth == s->watch.watched) {
        json__watch_found(&s->watch, key, (size_t)(string.at - key), string.escaped);
    }
    if (is_between(s, ':')) return true;
    space_skip(s);
    if (s->at == s->end || *s->at != ':') return false;
    s->at++;
    space_skip(s);
    return true;
}

/* After a value: closes all that ends here. *more: another value follows, its key is read. */
HOT bool scan_closing(struct scanner *s, bool *more)
{
    s->watch.hit = 0;
    while (s->watch.depth) {
        uint32_t top = s->watch.depth - 1;
        bool object = s->objects[top / 64] >> (top % 64) & 1;
        if (is_between(s, ',')) return object ? scan_key(s) : true;
        space_skip(s);
        if (s->at == s->end) return false;
        if (*s->at == ',') {
            s->at++;
            space_skip(s);
            return object ? scan_key(s) : true;
        }
        if (*s->at != (object ? '}' : ']')) return false;
        s->at++;
        json__watch_close(&s->watch, s->at);
    }
    *more = false;
    return true;
}

HOT bool container_open(struct scanner *s, bool object)
{
    uint32_t depth = s->watch.depth;
    if (depth == JSON_DEPTH_MAX) {
        s->too_deep = true;
        return false;
    }
    uint64_t bit = (uint64_t)1 << (depth % 64);
    uint64_t *word = &s->objects[depth / 64];
    *word = object ? *word | bit : *word & ~bit;
    json__watch_open(&s->watch, s->at, object);
    s->at++;
    return true;
}

/* The text is valid, so a control byte can only be white space outside strings. */
static void controls_blank(uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) data[i] = data[i] < ' ' ? ' ' : data[i];
}
