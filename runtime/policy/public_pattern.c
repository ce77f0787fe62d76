/* Patterns of `public`: which front part of a secret is no secret. A small subset of Lua's, taken
 * greedily and never given back, so that matching costs one look per byte. */
#include <string.h>

#include "policy/schema_internal.h"

static const char *item_end(const char *p);
static bool item_fits(const char *p, const char *end, unsigned char c);
static bool class_fits(char class, unsigned char c);
static bool set_fits(const char *p, const char *end, unsigned char c);

bool public_pattern_is_valid(const char *pattern)
{
    if (pattern[0] != '^' || strlen(pattern) > 128) return false;
    const char *p = pattern + 1;
    if (!*p) return false;
    while (*p) {
        if (*p == '$' && p[1] == 0) return true;
        if (strchr("()*+?-$]", *p)) return false; /* captures, or a repeat of nothing */
        p = item_end(p);
        if (!p) return false;
        if (*p && strchr("*+?", *p)) p++;
        if (*p == '-') return false; /* lazy repeats; a literal one is %- */
    }
    return true;
}

long public_pattern_match(const char *pattern, const char *bytes, size_t len)
{
    size_t at = 0;
    const char *p = pattern + 1;
    while (*p) {
        if (*p == '$' && p[1] == 0) return at == len ? (long)at : -1;
        const char *end = item_end(p);
        char repeat = *end && strchr("*+?", *end) ? *end : 0;
        size_t most = repeat == '*' || repeat == '+' ? len : 1, taken = 0;
        while (taken < most && at < len && item_fits(p, end, (unsigned char)bytes[at])) {
            at++;
            taken++;
        }
        if (taken == 0 && repeat != '*' && repeat != '?') return -1;
        p = end + (repeat ? 1 : 0);
    }
    return (long)at;
}

/* Behind one item, or NULL when it is not one. */
static const char *item_end(const char *p)
{
    if (*p == '%') {
        bool letter = (p[1] >= 'a' && p[1] <= 'z') || (p[1] >= 'A' && p[1] <= 'Z');
        bool digit = p[1] >= '0' && p[1] <= '9';
        if (p[1] == 0 || digit || (letter && !strchr("adwxlu", p[1]))) return NULL;
        return p + 2;
    }
    if (*p != '[') return p + 1;
    p++;
    if (*p == '^') p++;
    if (*p == ']' || *p == 0) return NULL;
    while (*p && *p != ']') {
        if (*p == '[') return NULL;
        p = item_end(p);
        if (!p) return NULL;
    }
    return *p == ']' ? p + 1 : NULL;
}

static bool item_fits(const char *p, const char *end, unsigned char c)
{
    if (*p == '.') return true;
    if (*p == '%') return class_fits(p[1], c);
    if (*p == '[') return set_fits(p + 1, end - 1, c);
    return (unsigned char)*p == c;
}

static bool class_fits(char class, unsigned char c)
{
    bool lower = c >= 'a' && c <= 'z', upper = c >= 'A' && c <= 'Z', digit = c >= '0' && c <= '9';
    switch (class) {
    case 'a': return lower || upper;
    case 'l': return lower;
    case 'u': return upper;
    case 'd': return digit;
    case 'w': return lower || upper || digit;
    case 'x': return digit || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    default: return (unsigned char)class == c;
    }
}

static bool set_fits(const char *p, const char *end, unsigned char c)
{
    bool negated = *p == '^', found = false;
    if (negated) p++;
    while (p < end) {
        if (*p == '%') {
            found = found || class_fits(p[1], c);
            p += 2;
        } else if (p + 2 < end && p[1] == '-') {
            found = found || (c >= (unsigned char)p[0] && c <= (unsigned char)p[2]);
            p += 3;
        } else {
            found = found || (unsigned char)*p == c;
            p++;
        }
    }
    return found != negated;
}
