/* JSON strings as values: decoding and comparing. The strings were checked by json_scan(), so nothing
 * here can fail but for room. */
#include "frame/json.h"

#include <string.h>

#include "base/assert.h"
#include "frame/json_internal.h"

static uint32_t hex4(const uint8_t *p);
static size_t utf8_put(uint32_t c, uint8_t out[4]);

long json_string_decode(const struct field_value *v, char *out, size_t out_bytes)
{
    const uint8_t *at = v->text, *end = v->text + v->len;
    size_t used = 0;
    while (at < end) {
        const uint8_t *stop = v->escaped ? memchr(at, '\\', (size_t)(end - at)) : NULL;
        if (!stop) stop = end;
        size_t run = (size_t)(stop - at);
        if (run > out_bytes - used) return -1;
        memcpy(out + used, at, run);
        used += run;
        at = stop;
        if (at == end) break;
        uint8_t bytes[4];
        size_t n = json__unescape(&at, end, bytes);
        if (n > out_bytes - used) return -1;
        memcpy(out + used, bytes, n);
        used += n;
    }
    return (long)used;
}

bool json_string_equal(const struct field_value *v, const char *text, size_t len)
{
    if (!v->escaped) return v->len == len && (len == 0 || memcmp(v->text, text, len) == 0);
    const uint8_t *at = v->text, *end = v->text + v->len;
    while (at < end) {
        uint8_t bytes[4];
        size_t n = 1;
        if (*at == '\\') {
            n = json__unescape(&at, end, bytes);
        } else {
            bytes[0] = *at++;
        }
        if (n > len || memcmp(bytes, text, n) != 0) return false;
        text += n;
        len -= n;
    }
    return len == 0;
}

size_t json__unescape(const uint8_t **at, const uint8_t *end, uint8_t out[4])
{
    const uint8_t *p = *at;
    ASSERT(end - p >= 2 && p[0] == '\\');
    *at = p + 2;
    switch (p[1]) {
    case 'b': out[0] = '\b'; return 1;
    case 'f': out[0] = '\f'; return 1;
    case 'n': out[0] = '\n'; return 1;
    case 'r': out[0] = '\r'; return 1;
    case 't': out[0] = '\t'; return 1;
    case 'u': break;
    default: out[0] = p[1]; return 1; /* quote, backslash, slash */
    }
    ASSERT(end - p >= 6);
    *at = p + 6;
    uint32_t c = hex4(p + 2);
    if (c >= 0xd800 && c <= 0xdbff && end - p >= 12 && p[6] == '\\' && p[7] == 'u') {
        uint32_t low = hex4(p + 8);
        if (low >= 0xdc00 && low <= 0xdfff) {
            *at = p + 12;
            return utf8_put(0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00), out);
        }
    }
    if (c >= 0xd800 && c <= 0xdfff) c = 0xfffd;
    return utf8_put(c, out);
}

static uint32_t hex4(const uint8_t *p)
{
    uint32_t c = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t digit = p[i] <= '9' ? p[i] - (uint32_t)'0' : (p[i] | 0x20u) - 'a' + 10;
        c = c << 4 | digit;
    }
    return c;
}

static size_t utf8_put(uint32_t c, uint8_t out[4])
{
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (uint8_t)(0xc0 | c >> 6);
        out[1] = (uint8_t)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (uint8_t)(0xe0 | c >> 12);
        out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | c >> 18);
    out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (c & 0x3f));
    return 4;
}
