/* Text helpers. Pure; owns nothing. */
#include "base/text.h"

#include <stdarg.h>
#include <string.h>

#include "base/assert.h"

#define NAME_BYTES_MAX 63

/* Length of the well-formed UTF-8 sequence at p, 0 when there is none. */
static size_t utf8_sequence(const uint8_t *p, size_t len)
{
    if (p[0] < 0x80) return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4) return 0;
    size_t need = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (len < need) return 0;
    uint8_t low = 0x80, high = 0xbf;
    if (p[0] == 0xe0) low = 0xa0;
    if (p[0] == 0xed) high = 0x9f;
    if (p[0] == 0xf0) low = 0x90;
    if (p[0] == 0xf4) high = 0x8f;
    if (p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < need; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
    }
    return need;
}

void text_join(char *out, size_t out_bytes, ...)
{
    ASSERT(out_bytes > 0);
    size_t at = 0;
    va_list args;
    va_start(args, out_bytes);
    for (const char *text; (text = va_arg(args, const char *));) {
        size_t len = strlen(text);
        if (len > out_bytes - 1 - at) len = out_bytes - 1 - at;
        memcpy(out + at, text, len);
        at += len;
    }
    va_end(args);
    out[at] = 0;
}

const char *text_decimal(int64_t number, char out[TEXT_DECIMAL_MAX])
{
    char digits[TEXT_DECIMAL_MAX];
    size_t at = sizeof digits, len = 0;
    uint64_t left = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    do digits[--at] = (char)('0' + left % 10);
    while (left /= 10);
    if (number < 0) out[len++] = '-';
    memcpy(out + len, digits + at, sizeof digits - at);
    out[len + sizeof digits - at] = 0;
    return out;
}

size_t text_copy(char *out, size_t out_bytes, const char *text, size_t len)
{
    ASSERT(out_bytes > 0);
    size_t n = len < out_bytes - 1 ? len : out_bytes - 1;
    if (n < len) {
        while (n > 0 && ((uint8_t)text[n] & 0xc0) == 0x80) n--;
    }
    if (n) memcpy(out, text, n);
    out[n] = 0;
    return n;
}

static size_t edit_distance(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b);
    if (la > NAME_BYTES_MAX || lb > NAME_BYTES_MAX) return SIZE_MAX;
    size_t row[NAME_BYTES_MAX + 1];
    for (size_t j = 0; j <= lb; j++) row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            size_t best = row[j] + 1 < row[j - 1] + 1 ? row[j] + 1 : row[j - 1] + 1;
            row[j] = change < best ? change : best;
        }
    }
    return row[lb];
}

const char *text_nearest(const char *name, const char *const *names, size_t count)
{
    const char *best = NULL;
    size_t best_distance = strlen(name) / 2 + 1;
    if (best_distance > 3) best_distance = 3;
    for (size_t i = 0; i < count; i++) {
        size_t d = edit_distance(name, names[i]);
        if (d > best_distance || (best && d >= best_distance)) continue;
        best_distance = d;
        best = names[i];
    }
    return best;
}

bool text_glob(const char *pattern, const char *text)
{
    const char *star = NULL, *resume = NULL;
    while (*text) {
        if (*pattern == '*') {
            star = pattern++;
            resume = text;
        } else if (*pattern == '?' || *pattern == *text) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star + 1;
            text = ++resume;
        } else {
            return false;
        }
    }
    while (*pattern == '*') pattern++;
    return *pattern == 0;
}

bool text_is_utf8(const void *data, size_t len)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < len;) {
        size_t n = utf8_sequence(p + i, len - i);
        if (n == 0) return false;
        i += n;
    }
    return true;
}

/* ASCII that JSON writes as it is. */
static bool is_plain(uint8_t c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

#define EIGHT(byte) ((uint64_t)(byte) * 0x0101010101010101u)

/* Eight bytes at once; a high bit where one is below a space, or 0x7f and above. Behind such a one others may look so. */
static uint64_t unprintable(uint64_t x)
{
    return ((x - EIGHT(0x20)) | (x + EIGHT(1)) | x) & EIGHT(0x80);
}

static bool are_plain(const uint8_t *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof x);
    const uint64_t quote = x ^ EIGHT('"'), back = x ^ EIGHT('\\');
    return !(unprintable(x) | (((quote - EIGHT(1)) | (back - EIGHT(1))) & EIGHT(0x80)));
}

static size_t plain_run(const uint8_t *p, size_t len)
{
    size_t run = 0;
    while (len - run >= 8 && are_plain(p + run)) run += 8;
    while (run < len && is_plain(p[run])) run++;
    return run;
}

bool text_json_string(struct buffer *out, const void *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = data;
    bool ok = buffer_append_char(out, '"');
    for (size_t i = 0; ok && i < len;) {
        const size_t run = plain_run(p + i, len - i);
        if (run) { /* most texts are one: a call for each byte took four times as long */
            ok = buffer_append(out, p + i, run);
            i += run;
            continue;
        }
        size_t n = utf8_sequence(p + i, len - i);
        if (n == 0) {
            ok = buffer_append_text(out, "\xef\xbf\xbd");
            i++;
            continue;
        }
        if (p[i] == '"' || p[i] == '\\') {
            ok = buffer_append_char(out, '\\') && buffer_append_char(out, (char)p[i]);
        } else if (p[i] == '\n') {
            ok = buffer_append_text(out, "\\n");
        } else if (p[i] < 0x20 || p[i] == 0x7f) {
            char code[6] = { '\\', 'u', '0', '0', digits[p[i] >> 4], digits[p[i] & 15] };
            ok = buffer_append(out, code, sizeof code);
        } else {
            ok = buffer_append(out, p + i, n);
        }
        i += n;
    }
    return ok && buffer_append_char(out, '"');
}

static size_t printable_run(const uint8_t *p, size_t len)
{
    size_t run = 0;
    for (uint64_t x; len - run >= 8; run += 8) {
        memcpy(&x, p + run, sizeof x);
        if (unprintable(x)) break;
    }
    while (run < len && p[run] >= 0x20 && p[run] < 0x7f) run++;
    return run;
}

bool text_printable(struct buffer *out, const void *data, size_t len)
{
    const uint8_t *p = data;
    bool ok = true;
    for (size_t i = 0; ok && i < len;) {
        const size_t run = printable_run(p + i, len - i);
        if (run) { /* as in text_json_string() */
            ok = buffer_append(out, p + i, run);
            i += run;
            continue;
        }
        size_t n = utf8_sequence(p + i, len - i);
        bool control = p[i] < 0x20 || p[i] == 0x7f || (n == 2 && p[i] == 0xc2 && p[i + 1] < 0xa0);
        if (n == 0 || control) {
            for (size_t k = 0; ok && k < (n ? n : 1); k++) ok = buffer_printf(out, "\\x%02x", p[i + k]);
            i += n ? n : 1;
            continue;
        }
        ok = buffer_append(out, p + i, n);
        i += n;
    }
    return ok;
}

bool text_equal_ignoring_case(const char *a, const char *b, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t x = (uint8_t)a[i], y = (uint8_t)b[i];
        if (x >= 'A' && x <= 'Z') x |= 0x20;
        if (y >= 'A' && y <= 'Z') y |= 0x20;
        if (x != y) return false;
    }
    return true;
}
