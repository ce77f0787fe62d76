/* Lua 5.1 patterns under the instruction budget: a catastrophic pattern is refused like any other
 * endless loop, and recursion is bounded. Matches what LuaJIT's own library matches. */
#ifndef HOLDFAST_POLICY_PATTERN_H
#define HOLDFAST_POLICY_PATTERN_H

#include <lua.h>
#include <stddef.h>

#define PATTERN_CAPTURES_MAX 32
#define PATTERN_DEPTH_MAX    200

struct pattern_match {
    lua_State *L;
    const char *source, *source_end; /* borrowed */
    const char *pattern_end;
    int depth;
    size_t units; /* since the last look at the budget */
    int captures;
    struct {
        const char *start;
        ptrdiff_t len; /* or one of the two marks in pattern.c */
    } capture[PATTERN_CAPTURES_MAX];
};

void pattern_init(struct pattern_match *m, lua_State *L, const char *source, size_t source_len,
                  const char *pattern, size_t pattern_len);
/* The end of the match at `s`, or NULL. May raise: malformed patterns, budget. */
const char *pattern_match(struct pattern_match *m, const char *s, const char *p);
/* Counts the steps since the last look. May raise. */
void pattern_settle(struct pattern_match *m);
/* Pushes capture `i`, or the whole match when there are none and `i` is 0. May raise. */
void pattern_push(struct pattern_match *m, int i, const char *start, const char *end);
/* Pushes all captures (the whole match when there are none and `start` is not NULL). */
int pattern_push_all(struct pattern_match *m, const char *start, const char *end);

#endif
