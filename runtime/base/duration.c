/* Durations, sizes and time stamps as text. Pure; reads no clock. */
#include "base/duration.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/text.h"

#define YEAR_10000_MS 253402300800000u

static const char *timestamp_format_far(uint64_t wall_ms, char out[TIMESTAMP_TEXT_MAX]);

/* A decimal number at the start of text, then blanks; the unit's start in *rest. */
static bool number_parse(const char *text, size_t len, double *value, const char **rest)
{
    char digits[32];
    size_t n = 0;
    bool any = false, dot = false;
    while (n < len && n < sizeof digits - 1) {
        if (text[n] >= '0' && text[n] <= '9') {
            any = true;
        } else if (text[n] == '.' && !dot) {
            dot = true;
        } else {
            break;
        }
        digits[n] = text[n];
        n++;
    }
    if (!any) return false;
    digits[n] = 0;
    *value = strtod(digits, NULL);
    while (n < len && text[n] == ' ') n++;
    *rest = text + n;
    return true;
}

struct unit {
    const char *name;
    double factor;
};

static bool unit_apply(const struct unit *units, const char *rest, size_t rest_len, double value,
                       double most, uint64_t *out)
{
    for (; units->name; units++) {
        if (strlen(units->name) != rest_len || memcmp(units->name, rest, rest_len) != 0) continue;
        double product = value * units->factor;
        if (!(product >= 0) || product > most) return false;
        *out = (uint64_t)llround(product);
        return true;
    }
    return false;
}

bool duration_parse(const char *text, size_t len, uint64_t *ms_out)
{
    static const struct unit units[] = { { "ms", 1 },          { "s", 1000 },
                                         { "m", 60 * 1000 },   { "h", 3600 * 1000 },
                                         { "d", 86400 * 1000 }, { NULL, 0 } };
    double value;
    const char *rest;
    if (!number_parse(text, len, &value, &rest)) return false;
    return unit_apply(units, rest, len - (size_t)(rest - text), value, (double)DURATION_MS_MAX,
                      ms_out);
}

bool size_parse(const char *text, size_t len, uint64_t *bytes_out)
{
    static const struct unit units[] = { { "", 1 },
                                         { "B", 1 },
                                         { "kB", 1000 },
                                         { "MB", 1000 * 1000 },
                                         { "KiB", 1024 },
                                         { "MiB", 1024 * 1024 },
                                         { "GiB", 1024 * 1024 * 1024 },
                                         { NULL, 0 } };
    double value;
    const char *rest;
    if (!number_parse(text, len, &value, &rest)) return false;
    return unit_apply(units, rest, len - (size_t)(rest - text), value, 0x1p50, bytes_out);
}

const char *duration_format(uint64_t ms, char out[DURATION_TEXT_MAX])
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = { { "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 } };
    char whole[TEXT_DECIMAL_MAX];
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (ms < units[i].ms) continue;
        uint64_t tenths = (ms * 10 + units[i].ms / 2) / units[i].ms;
        const char part[3] = { '.', (char)('0' + tenths % 10), 0 };
        text_join(out, DURATION_TEXT_MAX, text_decimal((int64_t)(tenths / 10), whole), tenths % 10 ? part : "",
                  units[i].name, NULL);
        return out;
    }
    if (ms == 0) return memcpy(out, "0s", 3);
    text_join(out, DURATION_TEXT_MAX, text_decimal((int64_t)ms, whole), "ms", NULL);
    return out;
}

static char *digits(char *at, uint32_t number, unsigned count)
{
    for (unsigned i = count; i-- > 0; number /= 10) at[i] = (char)('0' + number % 10);
    return at + count;
}

/* "12m": thousands of connections are told of in one answer, and printf() would be most of its time. */
static char *amount(char *at, uint64_t number, char unit)
{
    char reversed[20];
    unsigned count = 0;
    do reversed[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count) *at++ = reversed[--count];
    *at++ = unit;
    *at = 0;
    return at;
}

const char *duration_span(uint64_t ms, char out[DURATION_TEXT_MAX])
{
    const uint64_t s = ms / 1000, m = s / 60, h = m / 60, d = h / 24;
    if (ms < 10000) {
        const uint64_t tenths = (ms + 50) / 100;
        amount(amount(out, tenths / 10, '.'), tenths % 10, 's');
    } else if (m == 0) {
        amount(out, s, 's');
    } else {
        char *at = d ? amount(out, d, 'd') : h ? amount(out, h, 'h') : amount(out, m, 'm');
        *at++ = ' ';
        if (d) amount(at, h % 24, 'h');
        else if (h) amount(at, m % 60, 'm');
        else amount(at, s % 60, 's');
    }
    return out;
}

/* Each line of a log, a journal and a stream has one: the C library's way takes ten times as long. */
const char *timestamp_format(uint64_t wall_ms, char out[TIMESTAMP_TEXT_MAX])
{
    if (wall_ms >= YEAR_10000_MS) return timestamp_format_far(wall_ms, out);
    const uint32_t second = (uint32_t)(wall_ms / 1000 % 86400);
    /* Days since the 1st of March 0000, so that the leap day is the last of a year; years of 400 repeat. */
    const uint32_t days = (uint32_t)(wall_ms / 86400000) + 719468, of_era = days % 146097;
    const uint32_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    const uint32_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const uint32_t march_month = (5 * of_year + 2) / 153, month = march_month < 10 ? march_month + 3 : march_month - 9;
    const uint32_t day = of_year - (153 * march_month + 2) / 5 + 1;
    const uint32_t year = days / 146097 * 400 + year_of_era + (month <= 2);
    char *at = digits(out, year, 4);
    *at++ = '-';
    at = digits(at, month, 2);
    *at++ = '-';
    at = digits(at, day, 2);
    *at++ = 'T';
    at = digits(at, second / 3600, 2);
    *at++ = ':';
    at = digits(at, second / 60 % 60, 2);
    *at++ = ':';
    at = digits(at, second % 60, 2);
    *at++ = '.';
    at = digits(at, (uint32_t)(wall_ms % 1000), 3);
    *at++ = 'Z';
    *at = 0;
    return out;
}

static const char *timestamp_format_far(uint64_t wall_ms, char out[TIMESTAMP_TEXT_MAX])
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    ASSERT(gmtime_r(&seconds, &tm) != NULL);
    size_t n = strftime(out, TIMESTAMP_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, TIMESTAMP_TEXT_MAX - n, ".%03uZ", (unsigned)(wall_ms % 1000));
    return out;
}
