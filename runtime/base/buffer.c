/* Buffer: owns its bytes, doubles when it grows, never beyond its limit. Never shrinks by itself. */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

void buffer_init(struct buffer *b, size_t bytes_max)
{
    memset(b, 0, sizeof *b);
    b->bytes_max = bytes_max ? bytes_max : BUFFER_BYTES_DEFAULT_MAX;
}

void buffer_deinit(struct buffer *b)
{
    free(b->data);
    memset(b, 0, sizeof *b);
}

bool buffer_reserve(struct buffer *b, size_t more)
{
    size_t limit = b->bytes_max ? b->bytes_max : BUFFER_BYTES_DEFAULT_MAX;
    ASSERT(b->len <= b->capacity);
    if (more > limit || b->len > limit - more) return false;
    size_t need = b->len + more;
    if (need <= b->capacity) return true;
    size_t capacity = b->capacity ? b->capacity : 64;
    while (capacity < need) capacity *= 2;
    if (capacity > limit) capacity = limit;
    uint8_t *data = realloc(b->data, capacity);
    if (!data) return false;
    b->data = data;
    b->capacity = capacity;
    return true;
}

bool buffer_append(struct buffer *b, const void *data, size_t len)
{
    if (len == 0) return true;
    if (len > b->capacity - b->len && !buffer_reserve(b, len)) return false;
    memcpy(b->data + b->len, data, len);
    b->len += len;
    return true;
}

bool buffer_append_text(struct buffer *b, const char *text)
{
    return buffer_append(b, text, strlen(text));
}

bool buffer_append_char(struct buffer *b, char c)
{
    if (b->len == b->capacity && !buffer_reserve(b, 1)) return false;
    b->data[b->len++] = (uint8_t)c;
    return true;
}

bool buffer_printf(struct buffer *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    bool ok = len >= 0 && buffer_reserve(b, (size_t)len + 1);
    if (ok) {
        vsnprintf((char *)b->data + b->len, (size_t)len + 1, format, again);
        b->len += (size_t)len;
    }
    va_end(again);
    return ok;
}

bool buffer_append_decimal(struct buffer *b, int64_t number)
{
    static const char pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
                                "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
                                "8081828384858687888990919293949596979899";
    char digits[20];
    size_t n = sizeof digits;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    for (; rest >= 10; rest /= 100) memcpy(digits + (n -= 2), pairs + rest % 100 * 2, 2);
    if (rest || n == sizeof digits) digits[--n] = (char)('0' + rest);
    if (number < 0) digits[--n] = '-';
    return buffer_append(b, digits + n, sizeof digits - n);
}

void buffer_consume(struct buffer *b, size_t len)
{
    ASSERT(len <= b->len);
    if (len == 0) return;
    b->len -= len;
    if (b->len) memmove(b->data, b->data + len, b->len);
}

void buffer_clear(struct buffer *b)
{
    b->len = 0;
}

void buffer_trim(struct buffer *b, size_t keep)
{
    if (b->len || b->capacity <= keep) return;
    free(b->data);
    b->data = NULL;
    b->capacity = 0;
}
