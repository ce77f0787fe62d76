/* Retry-After: how long a server asks us to wait. Pure; reads no clock, minds no locale. */
#include <stdio.h>
#include <string.h>

#include "frame/upgrade.h"

#define SECONDS_DIGITS_MAX 9

static bool parse_seconds(const char *text, uint64_t *ms_out);
static bool parse_date(const char *text, int64_t *seconds_out);
static int64_t days_before(int year, int month, int day);

uint64_t upgrade_retry_after_ms(const char *head, size_t head_len, uint64_t wall_ms)
{
    char text[64];
    uint64_t ms;
    int64_t at_s;
    if (!upgrade_header_get(head, head_len, "Retry-After", text, sizeof text)) return UINT64_MAX;
    if (parse_seconds(text, &ms)) return ms;
    if (!parse_date(text, &at_s)) return UINT64_MAX;
    if (at_s <= 0 || (uint64_t)at_s * 1000 <= wall_ms) return 0;
    return (uint64_t)at_s * 1000 - wall_ms;
}

/* "120", "0.37": up to the next millisecond, so that nobody dials too early. */
static bool parse_seconds(const char *text, uint64_t *ms_out)
{
    size_t whole = strspn(text, "0123456789");
    if (whole == 0 || whole > SECONDS_DIGITS_MAX) return false;
    uint64_t ms = 0;
    for (size_t i = 0; i < whole; i++) ms = ms * 10 + (uint64_t)(text[i] - '0');
    ms *= 1000;

    const char *rest = text + whole;
    if (*rest == '.') {
        size_t decimals = strspn(++rest, "0123456789");
        if (decimals == 0) return false;
        uint64_t unit = 100;
        bool more = false;
        for (size_t i = 0; i < decimals; i++, unit /= 10) {
            ms += (uint64_t)(rest[i] - '0') * unit;
            if (unit == 0 && rest[i] != '0') more = true;
        }
        if (more) ms++;
        rest += decimals;
    }
    *ms_out = ms;
    return *rest == 0;
}

/* The three forms of RFC 9110, 5.6.7: IMF-fixdate, RFC 850, asctime. */
static bool parse_date(const char *text, int64_t *seconds_out)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char month_name[4] = "";
    int day, year, hour, minute, second, end = 0;
    if (sscanf(text, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d GMT%n", &day, month_name, &year,
               &hour, &minute, &second, &end) == 6 && end) {
        /* as it should be */
    } else if (sscanf(text, "%*9[A-Za-z], %2d-%3[A-Za-z]-%2d %2d:%2d:%2d GMT%n", &day, month_name,
                      &year, &hour, &minute, &second, &end) == 6 && end) {
        year += year < 70 ? 2000 : 1900;
    } else if (sscanf(text, "%*3[A-Za-z] %3[A-Za-z] %2d %2d:%2d:%2d %4d%n", month_name, &day, &hour,
                      &minute, &second, &year, &end) == 6 && end) {
        /* asctime */
    } else {
        return false;
    }
    const char *found = strlen(month_name) == 3 ? strstr(names, month_name) : NULL;
    if (text[end] != 0 || !found || (found - names) % 3) return false;
    if (year < 1970 || day < 1 || day > 31 || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
        second < 0 || second > 60) {
        return false;
    }
    int month = (int)(found - names) / 3 + 1;
    *seconds_out = days_before(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    return true;
}

/* Days from 1970-01-01, proleptic Gregorian. Years are counted from March, so that the leap day is
 * the last of one. */
static int64_t days_before(int year, int month, int day)
{
    int y = month <= 2 ? year - 1 : year;
    int month_from_march = (month + 9) % 12;
    int64_t days = (int64_t)y * 365 + y / 4 - y / 100 + y / 400;
    days += (month_from_march * 153 + 2) / 5 + day - 1;
    return days - 719468;
}
