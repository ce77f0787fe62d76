/* The matcher: backtracking as the Lua 5.1 manual defines it. Owns no memory, so that it may raise
 * at any step; every step is counted. */
#include "policy/pattern.h"

#include <lauxlib.h>
#include <string.h>

#include "policy/sandbox.h"

#define CAPTURE_OPEN     (-1)
#define CAPTURE_POSITION (-2)
#define UNITS_PER_LOOK   1024
#define COST_STEP        2 /* one character, one item */
#define COST_MATCH       3 /* and its call */

void pattern_init(struct pattern_match *m, lua_State *L, const char *source, size_t source_len,
                  const char *pattern, size_t pattern_len)
{
    memset(m, 0, sizeof *m);
    m->L = L;
    m->source = source;
    m->source_end = source + source_len;
    m->pattern_end = pattern + pattern_len;
}

void pattern_settle(struct pattern_match *m)
{
    uint32_t units = m->units < UINT32_MAX ? (uint32_t)m->units : UINT32_MAX;
    m->units = 0;
    sandbox_spend(m->L, units);
}

static void step(struct pattern_match *m, size_t units)
{
    m->units += units;
    if (m->units >= UNITS_PER_LOOK) pattern_settle(m);
}

/* A set is walked for each character. */
static size_t step_cost(const char *p, const char *end)
{
    return COST_STEP + (size_t)(end - p) / 4;
}

/* The end of the single-character class that begins at p. */
static const char *class_end(struct pattern_match *m, const char *p)
{
    if (*p++ == '%') {
        if (p >= m->pattern_end) luaL_error(m->L, "malformed pattern (ends with '%%')");
        return p + 1;
    }
    if (p[-1] != '[') return p;
    if (p < m->pattern_end && *p == '^') p++;
    do { /* a ']' that comes first is an item */
        if (p >= m->pattern_end) luaL_error(m->L, "malformed pattern (missing ']')");
        if (*p++ == '%' && p < m->pattern_end) p++;
    } while (p >= m->pattern_end || *p != ']');
    return p + 1;
}

/* The C locale's classes, whatever the process set. */
static int in_class(int c, int class)
{
    int yes, up = c >= 'A' && c <= 'Z', low = c >= 'a' && c <= 'z', digit = c >= '0' && c <= '9';
    switch (class | 0x20) {
    case 'a': yes = up || low; break;
    case 'c': yes = c < 32 || c == 127; break;
    case 'd': yes = digit; break;
    case 'g': yes = c > 32 && c < 127; break;
    case 'l': yes = low; break;
    case 'p': yes = c > 32 && c < 127 && !up && !low && !digit; break;
    case 's': yes = c == ' ' || (c >= 9 && c <= 13); break;
    case 'u': yes = up; break;
    case 'w': yes = up || low || digit; break;
    case 'x': yes = digit || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); break;
    case 'z': yes = c == 0; break; /* deprecated, still in 5.1 */
    default: return class == c;
    }
    return class >= 'A' && class <= 'Z' ? !yes : yes;
}

/* `p` at '[', `last` at ']'. */
static int in_set(int c, const char *p, const char *last)
{
    int found = 1;
    if (p[1] == '^') {
        found = 0;
        p++;
    }
    while (++p < last) {
        if (*p == '%') {
            p++;
            if (in_class(c, (unsigned char)*p)) return found;
        } else if (p[1] == '-' && p + 2 < last) {
            p += 2;
            if ((unsigned char)p[-2] <= c && c <= (unsigned char)*p) return found;
        } else if ((unsigned char)*p == c) {
            return found;
        }
    }
    return !found;
}

static int in_single(int c, const char *p, const char *end)
{
    switch (*p) {
    case '.': return 1;
    case '%': return in_class(c, (unsigned char)p[1]);
    case '[': return in_set(c, p, end - 1);
    default: return (unsigned char)*p == c;
    }
}

static const char *match_balance(struct pattern_match *m, const char *s, const char *p)
{
    if (p + 1 >= m->pattern_end) luaL_error(m->L, "unbalanced pattern");
    if (s >= m->source_end || *s != *p) return NULL;
    int open = *p, close = p[1], nesting = 1;
    while (++s < m->source_end) {
        step(m, COST_STEP / 2);
        if (*s == close) {
            if (--nesting == 0) return s + 1;
        } else if (*s == open) {
            nesting++;
        }
    }
    return NULL;
}

static const char *expand_most(struct pattern_match *m, const char *s, const char *p,
                               const char *end)
{
    ptrdiff_t i = 0;
    size_t cost = step_cost(p, end);
    while (s + i < m->source_end && in_single((unsigned char)s[i], p, end)) {
        step(m, cost);
        i++;
    }
    for (; i >= 0; i--) {
        const char *found = pattern_match(m, s + i, end + 1);
        if (found) return found;
    }
    return NULL;
}

static const char *expand_least(struct pattern_match *m, const char *s, const char *p,
                                const char *end)
{
    size_t cost = step_cost(p, end);
    for (;;) {
        const char *found = pattern_match(m, s, end + 1);
        if (found) return found;
        if (s >= m->source_end || !in_single((unsigned char)*s, p, end)) return NULL;
        step(m, cost);
        s++;
    }
}

static const char *capture_open(struct pattern_match *m, const char *s, const char *p, int what)
{
    if (m->captures >= PATTERN_CAPTURES_MAX) luaL_error(m->L, "too many captures");
    m->capture[m->captures].start = s;
    m->capture[m->captures].len = what;
    m->captures++;
    const char *found = pattern_match(m, s, p);
    if (!found) m->captures--;
    return found;
}

static const char *capture_close(struct pattern_match *m, const char *s, const char *p)
{
    int i = m->captures - 1;
    while (i >= 0 && m->capture[i].len != CAPTURE_OPEN) i--;
    if (i < 0) luaL_error(m->L, "invalid pattern capture");
    m->capture[i].len = s - m->capture[i].start;
    const char *found = pattern_match(m, s, p);
    if (!found) m->capture[i].len = CAPTURE_OPEN;
    return found;
}

static const char *match_back(struct pattern_match *m, const char *s, int digit)
{
    int i = digit - '1';
    if (i < 0 || i >= m->captures || m->capture[i].len == CAPTURE_OPEN) {
        luaL_error(m->L, "invalid capture index");
    }
    ptrdiff_t len = m->capture[i].len;
    if (len < 0) return NULL; /* a position capture has no text */
    sandbox_spend(m->L, (uint32_t)(len / 16));
    if (m->source_end - s < len || memcmp(m->capture[i].start, s, (size_t)len) != 0) return NULL;
    return s + len;
}

static int at_frontier(struct pattern_match *m, const char *s, const char *p, const char *end)
{
    int before = s == m->source ? 0 : (unsigned char)s[-1];
    int here = s == m->source_end ? 0 : (unsigned char)*s;
    return !in_set(before, p, end - 1) && in_set(here, p, end - 1);
}

const char *pattern_match(struct pattern_match *m, const char *s, const char *p)
{
    if (++m->depth > PATTERN_DEPTH_MAX) luaL_error(m->L, "pattern too complex");
    step(m, COST_MATCH);
    for (;;) { /* a tail call of the manual's definition is one turn */
        step(m, COST_STEP);
        if (p >= m->pattern_end) break;
        if (*p == '(') {
            s = p + 1 < m->pattern_end && p[1] == ')' ? capture_open(m, s, p + 2, CAPTURE_POSITION)
                                                      : capture_open(m, s, p + 1, CAPTURE_OPEN);
            break;
        }
        if (*p == ')') {
            s = capture_close(m, s, p + 1);
            break;
        }
        if (*p == '$' && p + 1 == m->pattern_end) {
            if (s != m->source_end) s = NULL;
            break;
        }
        if (*p == '%' && p + 1 < m->pattern_end) {
            if (p[1] == 'b') {
                s = match_balance(m, s, p + 2);
                if (!s) break;
                p += 4;
                continue;
            }
            if (p[1] == 'f') {
                p += 2;
                if (p >= m->pattern_end || *p != '[') {
                    luaL_error(m->L, "missing '[' after '%%f' in pattern");
                }
                const char *end = class_end(m, p);
                step(m, (size_t)(end - p) / 2);
                if (!at_frontier(m, s, p, end)) {
                    s = NULL;
                    break;
                }
                p = end;
                continue;
            }
            if (p[1] >= '0' && p[1] <= '9') {
                s = match_back(m, s, p[1]);
                if (!s) break;
                p += 2;
                continue;
            }
        }
        const char *end = class_end(m, p);
        step(m, (size_t)(end - p) / 2);
        int here = s < m->source_end && in_single((unsigned char)*s, p, end);
        char suffix = end < m->pattern_end ? *end : 0;
        if (suffix == '?') {
            const char *found = here ? pattern_match(m, s + 1, end + 1) : NULL;
            if (found) {
                s = found;
                break;
            }
            p = end + 1;
        } else if (suffix == '*') {
            s = expand_most(m, s, p, end);
            break;
        } else if (suffix == '+') {
            s = here ? expand_most(m, s + 1, p, end) : NULL;
            break;
        } else if (suffix == '-') {
            s = expand_least(m, s, p, end);
            break;
        } else if (here) {
            s++;
            p = end;
        } else {
            s = NULL;
            break;
        }
    }
    m->depth--;
    return s;
}

void pattern_push(struct pattern_match *m, int i, const char *start, const char *end)
{
    if (i >= m->captures) {
        if (i != 0) luaL_error(m->L, "invalid capture index");
        lua_pushlstring(m->L, start, (size_t)(end - start));
        return;
    }
    ptrdiff_t len = m->capture[i].len;
    if (len == CAPTURE_OPEN) luaL_error(m->L, "unfinished capture");
    if (len == CAPTURE_POSITION) {
        lua_pushinteger(m->L, m->capture[i].start - m->source + 1);
    } else {
        lua_pushlstring(m->L, m->capture[i].start, (size_t)len);
    }
}

int pattern_push_all(struct pattern_match *m, const char *start, const char *end)
{
    int count = m->captures == 0 && start ? 1 : m->captures;
    luaL_checkstack(m->L, count + 4, "too many captures");
    for (int i = 0; i < count; i++) pattern_push(m, i, start, end);
    return count;
}
