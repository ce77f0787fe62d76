/* Matchers: AND across keys, OR inside each list. A cause that lacks what a key asks for (no close
 * code, no HTTP answer, no link) does not match it. */
#include <string.h>

#include "base/text.h"
#include "engine/engine_internal.h"

static bool in_ranges(const struct code_range *ranges, uint32_t count, int64_t value);
static bool header_equals(const struct cause *c, const char *name, const char *value);

bool cause_matches(const struct cause_matcher *m, const struct cause *c)
{
    ASSERT(c->kind != CAUSE_NONE);
    if (m->any) return true;
    if (m->close_count) {
        if (c->close_code == CLOSE_CODE_NONE) return false;
        if (!in_ranges(m->close, m->close_count, c->close_code)) return false;
    }
    if (m->http_count) {
        if (c->http_status == 0) return false;
        if (!in_ranges(m->http, m->http_count, c->http_status)) return false;
    }
    if (m->code_count && !in_ranges(m->code, m->code_count, c->code)) return false;
    if (m->stages && !(m->stages & 1u << c->stage)) return false;
    if (m->by && !(m->by & 1u << c->by)) return false;
    if (m->cause_count) {
        bool named = false;
        for (uint32_t i = 0; i < m->cause_count && !named; i++) {
            named = strncmp(m->causes[i], c->name, CAUSE_NAME_MAX) == 0;
        }
        if (!named) return false;
    }
    if (m->reason && !strstr(c->reason, m->reason)) return false;
    if (m->header_name && !header_equals(c, m->header_name, m->header_value)) return false;
    if (m->session >= 0 && (m->session != 0) != c->session) return false;
    if (m->under_ms) {
        /* Only a link has an age: a failed prepare is no short-lived link. */
        if (c->stage <= STAGE_PREPARING) return false;
        if (c->age_ms >= m->under_ms) return false;
    }
    return true;
}

static bool in_ranges(const struct code_range *ranges, uint32_t count, int64_t value)
{
    for (uint32_t i = 0; i < count; i++) {
        if (value >= ranges[i].low && value <= ranges[i].high) return true;
    }
    return false;
}

static bool header_equals(const struct cause *c, const char *name, const char *value)
{
    size_t name_len = strlen(name);
    size_t value_len = value ? strlen(value) : 0;
    const char *at = c->head;
    const char *end = c->head ? c->head + c->head_len : NULL;
    while (at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        if (!line_end) line_end = end;
        const char *colon = memchr(at, ':', (size_t)(line_end - at));
        if (colon && (size_t)(colon - at) == name_len &&
            text_equal_ignoring_case(at, name, name_len)) {
            const char *from = colon + 1, *to = line_end;
            while (from < to && (*from == ' ' || *from == '\t')) from++;
            while (to > from && (to[-1] == ' ' || to[-1] == '\t' || to[-1] == '\r')) to--;
            const bool same_length = (size_t)(to - from) == value_len;
            if (same_length && memcmp(from, value ? value : "", value_len) == 0) return true;
        }
        at = line_end < end ? line_end + 1 : end;
    }
    return false;
}
