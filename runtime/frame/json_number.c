/* Is a JSON number an integer that fits int64_t, however it was written? Exact: never by way of a
 * double, because identifiers beyond 2^53 are the ordinary case. */
#include "frame/json_internal.h"

#include "base/assert.h"

#define DIGITS_MAX 19            /* of 2^63 */
#define EXPONENT_CAP 1000000000000000 /* above any length of text, far below overflow */

static enum field_kind scaled(const uint8_t *text, const uint8_t *end, bool negative,
                              int64_t *integer_out);
static enum field_kind fit(uint64_t magnitude, bool negative, int64_t *integer_out);

enum field_kind json__number(const uint8_t *text, size_t len, int64_t *integer_out)
{
    ASSERT(len > 0);
    const uint8_t *p = text, *end = text + len;
    bool negative = *p == '-';
    if (negative) p++;
    if (end - p <= DIGITS_MAX) {
        uint64_t magnitude = 0; /* 19 digits stay below 2^64 */
        const uint8_t *q = p;
        while (q < end && (uint8_t)(*q - '0') <= 9) magnitude = magnitude * 10 + (*q++ - '0');
        if (q == end) return fit(magnitude, negative, integer_out);
    }
    return scaled(p, end, negative, integer_out);
}

/* The number is 0.d1d2d3... * 10^point, where d1 is the first digit that is not zero. It is an integer
 * when no digit but zeros comes after the point. */
static enum field_kind scaled(const uint8_t *text, const uint8_t *end, bool negative,
                              int64_t *integer_out)
{
    int64_t point = 0, digits = 0, last = 0; /* last: digits up to the last one that is not zero */
    uint64_t magnitude = 0, kept = 0;        /* kept: of `last` digits */
    bool fraction = false;
    const uint8_t *p = text;
    for (; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            fraction = true;
            continue;
        }
        if (digits == 0 && *p == '0') {
            if (fraction) point--;
            continue;
        }
        if (!fraction) point++;
        digits++;
        if (digits <= DIGITS_MAX) magnitude = magnitude * 10 + (*p - '0');
        if (*p == '0') continue;
        last = digits;
        kept = magnitude;
    }
    if (last == 0) return fit(0, negative, integer_out);
    if (p < end) {
        bool down = *++p == '-';
        if (*p == '-' || *p == '+') p++;
        int64_t exponent = 0;
        for (; p < end; p++) {
            if (exponent < EXPONENT_CAP) exponent = exponent * 10 + (*p - '0');
        }
        point += down ? -exponent : exponent;
    }
    /* So that `kept` holds all of its digits, too: there are at most `point` of them. */
    if (point < last || point > DIGITS_MAX) return FIELD_NUMBER;
    for (; last < point; last++) kept *= 10;
    return fit(kept, negative, integer_out);
}

static enum field_kind fit(uint64_t magnitude, bool negative, int64_t *integer_out)
{
    uint64_t most = negative ? (uint64_t)INT64_MAX + 1 : INT64_MAX;
    if (magnitude > most) return FIELD_NUMBER;
    *integer_out = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return FIELD_INTEGER;
}
