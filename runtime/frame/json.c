/* The JSON scanner: one pass over a message, no recursion, no allocation, no tree. It checks all of
 * RFC 8259 and, on the way, lifts the values whose path leads through the keys of json_paths.
 * Bytes in strings go by in words, not one by one; they are most of every message.
 *
 * Never changes a text before it is known to be whole: a malformed one is handed on as it came. */
#include "frame/json.h"

#include <endian.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/assert.h"
#include "frame/json_internal.h"

/* A field that is a whole object or array can be open at these depths only. */
#define CAPTURE_DEPTH_MAX (FIELD_DEPTH_MAX + 1)

struct scanner {
    const uint8_t *at, *end;
    uint32_t controls;  /* not 0: white space other than blanks was seen outside strings */
    uint32_t depth;     /* open objects and arrays */
    uint32_t watched;   /* how many of them, from the root, lie on a path */
    uint32_t hit;       /* node of the key just read; 0: the value is not on a path */
    bool too_deep;
    const struct json_paths *paths; /* NULL: nothing is wanted */
    struct field_value *values;
    uint64_t objects[JSON_DEPTH_MAX / 64]; /* a bit per open container: object, not array */
    uint8_t nodes[CAPTURE_DEPTH_MAX + 1];  /* by depth, up to `watched` */
    struct {
        const uint8_t *start;
        uint32_t fields;
    } capture[CAPTURE_DEPTH_MAX + 1];      /* by depth */
};

struct string_scan {
    const uint8_t *at; /* the closing quote, or the fault: `end` or a byte that is no quote */
    bool escaped;
};

_Static_assert(JSON_DEPTH_MAX % 64 == 0, "whole words of bits");

/* Inlined into one loop: the scanner's members then live in registers (twice as fast). */
#define HOT static inline __attribute__((always_inline))
HOT bool scan_text(struct scanner *s);
HOT bool scan_value(struct scanner *s, bool *opened);
HOT bool scan_key(struct scanner *s);
HOT bool scan_closing(struct scanner *s, bool *more);
HOT bool container_open(struct scanner *s, bool object);
HOT void container_close(struct scanner *s);
static void value_lift(const struct json_paths *paths, uint32_t node, struct field_value *values,
                       struct field_value v);
static void values_absent(struct field_value *values, uint32_t fields);
static const uint8_t *number_end(const uint8_t *p, const uint8_t *end);
static struct string_scan string_end(const uint8_t *p, const uint8_t *end);
HOT const uint8_t *plain_end(const uint8_t *p, const uint8_t *end);
static const uint8_t *utf8_run_end(const uint8_t *p, const uint8_t *end);
static const uint8_t *escape_end(const uint8_t *p, const uint8_t *end);
static void controls_blank(uint8_t *data, size_t len);

enum json_result json_scan(uint8_t *data, size_t len, const struct json_paths *paths,
                           struct field_value *values, size_t *fault_out)
{
    struct scanner s;
    s.at = data;
    s.end = data + len;
    s.controls = s.depth = s.watched = s.hit = 0;
    s.too_deep = false;
    s.paths = paths;
    s.values = values;
    uint32_t count = paths ? paths->count : 0;
    for (uint32_t i = 0; i < count; i++) values[i].kind = FIELD_ABSENT;

    if (scan_text(&s)) {
        if (s.controls) controls_blank(data, len);
        return JSON_OK;
    }
    if (fault_out) *fault_out = (size_t)(s.at - data);
    /* Raw text of objects and arrays may hold line ends, which were not made blank. */
    for (uint32_t i = 0; i < count; i++) {
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
        struct string_scan string = string_end(p + 1, end);
        s->at = string.at;
        if (string.at == end || *string.at != '"') return false;
        s->at++;
        if (s->hit) {
            value_lift(s->paths, s->hit, s->values,
                       (struct field_value){ .kind = FIELD_STRING, .escaped = string.escaped,
                                             .text = p + 1, .len = (size_t)(string.at - p - 1) });
        }
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
        if (s->hit) {
            value_lift(s->paths, s->hit, s->values,
                       (struct field_value){ .kind = *p == 'n' ? FIELD_NULL : FIELD_BOOL,
                                             .boolean = *p == 't',
                                             .text = p, .len = len });
        }
        return true;
    }
    default: {
        const uint8_t *stop = number_end(p, end);
        if (!stop) return false;
        s->at = stop;
        if (s->hit) {
            struct field_value v = { .text = p, .len = (size_t)(stop - p) };
            v.kind = json__number(v.text, v.len, &v.integer);
            value_lift(s->paths, s->hit, s->values, v);
        }
        return true;
    }
    }
}

/* A key and its colon, up to the value. */
HOT bool scan_key(struct scanner *s)
{
    const uint8_t *key = s->at + 1;
    if (s->at == s->end || *s->at != '"') return false;
    struct string_scan string = string_end(key, s->end);
    s->at = string.at;
    if (string.at == s->end || *string.at != '"') return false;
    s->at++;
    if (s->depth == s->watched) {
        s->hit = json__child(s->paths, s->nodes[s->depth], key, (size_t)(string.at - key),
                             string.escaped);
        /* A key that comes again replaces what it held, and all that was found below it. */
        if (s->hit) values_absent(s->values, s->paths->nodes[s->hit].below);
    }
    space_skip(s);
    if (s->at == s->end || *s->at != ':') return false;
    s->at++;
    space_skip(s);
    return true;
}

/* After a value: closes all that ends here. *more: another value follows, its key is read. */
HOT bool scan_closing(struct scanner *s, bool *more)
{
    s->hit = 0;
    while (s->depth) {
        space_skip(s);
        if (s->at == s->end) return false;
        uint32_t top = s->depth - 1;
        bool object = s->objects[top / 64] >> (top % 64) & 1;
        if (*s->at == ',') {
            s->at++;
            space_skip(s);
            return object ? scan_key(s) : true;
        }
        if (*s->at != (object ? '}' : ']')) return false;
        s->at++;
        container_close(s);
    }
    *more = false;
    return true;
}

HOT bool container_open(struct scanner *s, bool object)
{
    if (s->depth == JSON_DEPTH_MAX) {
        s->too_deep = true;
        return false;
    }
    uint64_t bit = (uint64_t)1 << (s->depth % 64);
    uint64_t *word = &s->objects[s->depth / 64];
    *word = object ? *word | bit : *word & ~bit;
    s->depth++;
    if (s->depth <= CAPTURE_DEPTH_MAX) {
        bool wanted = s->hit || (s->depth == 1 && s->paths);
        s->capture[s->depth].start = s->at;
        s->capture[s->depth].fields = s->hit ? s->paths->nodes[s->hit].fields : 0;
        if (object && wanted && s->paths->nodes[s->hit].child) {
            ASSERT(s->watched == s->depth - 1);
            s->watched = s->depth;
            s->nodes[s->depth] = (uint8_t)s->hit;
        }
    }
    s->hit = 0;
    s->at++;
    return true;
}

/* s->at is past the closing bracket. */
HOT void container_close(struct scanner *s)
{
    if (s->depth <= CAPTURE_DEPTH_MAX) {
        uint32_t fields = s->capture[s->depth].fields;
        const uint8_t *start = s->capture[s->depth].start;
        for (; fields; fields &= fields - 1) {
            struct field_value *v = &s->values[__builtin_ctz(fields)];
            *v = (struct field_value){ .kind = FIELD_OTHER, .text = start,
                                       .len = (size_t)(s->at - start) };
        }
        if (s->watched == s->depth) s->watched--;
    }
    s->depth--;
}

static void value_lift(const struct json_paths *paths, uint32_t node, struct field_value *values,
                       struct field_value v)
{
    uint32_t fields = paths->nodes[node].fields;
    for (; fields; fields &= fields - 1) values[__builtin_ctz(fields)] = v;
}

static void values_absent(struct field_value *values, uint32_t fields)
{
    for (; fields; fields &= fields - 1) values[__builtin_ctz(fields)].kind = FIELD_ABSENT;
}

HOT bool is_digit(uint8_t c)
{
    return (uint8_t)(c - '0') <= 9;
}

/* NULL when no number stands here. What follows one is judged by the caller. */
static const uint8_t *number_end(const uint8_t *p, const uint8_t *end)
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

/* From after the opening quote. */
static struct string_scan string_end(const uint8_t *p, const uint8_t *end)
{
    struct string_scan scan = { p, false };
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

/* The text is valid, so a control byte can only be white space outside strings. */
static void controls_blank(uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) data[i] = data[i] < ' ' ? ' ' : data[i];
}
