/* Which rows can never be reached: those of whose endings an earlier row takes each one. Compares what two
 * matchers ask for; a shadow that only several rows cast together goes unnoticed. */
#include <string.h>

#include "policy/schema_internal.h"
#include "base/text.h"

/* Every code of b is in one of a's ranges. */
static bool ranges_cover(const struct code_range *a, uint32_t a_count, const struct code_range *b, uint32_t b_count)
{
    if (a_count == 0) return true;
    if (b_count == 0) return false;
    for (uint32_t i = 0; i < b_count; i++) {
        int64_t from = b[i].low;
        for (bool moved = true; moved && from <= b[i].high;) {
            moved = false;
            for (uint32_t k = 0; k < a_count; k++) {
                if (from < a[k].low || from > a[k].high) continue;
                from = a[k].high + 1;
                moved = true;
            }
        }
        if (from <= b[i].high) return false;
    }
    return true;
}

static bool bits_cover(uint32_t a, uint32_t b)
{
    return a == 0 || (b != 0 && (b & ~a) == 0);
}

static bool names_cover(const struct cause_matcher *a, const struct cause_matcher *b)
{
    if (a->cause_count == 0) return true;
    for (uint32_t i = 0; i < b->cause_count; i++) {
        bool found = false;
        for (uint32_t k = 0; k < a->cause_count && !found; k++) found = strcmp(a->causes[k], b->causes[i]) == 0;
        if (!found) return false;
    }
    return b->cause_count > 0;
}

static bool header_covers(const struct cause_matcher *a, const struct cause_matcher *b)
{
    if (!a->header_name) return true;
    if (!b->header_name || strlen(a->header_name) != strlen(b->header_name)) return false;
    return text_equal_ignoring_case(a->header_name, b->header_name, strlen(a->header_name)) &&
           strcmp(a->header_value, b->header_value) == 0;
}

bool schema__covers(const struct cause_matcher *a, const struct cause_matcher *b)
{
    if (a->any) return true;
    return !b->any && ranges_cover(a->close, a->close_count, b->close, b->close_count) &&
           ranges_cover(a->http, a->http_count, b->http, b->http_count) &&
           ranges_cover(a->code, a->code_count, b->code, b->code_count) && bits_cover(a->stages, b->stages) &&
           bits_cover(a->by, b->by) && names_cover(a, b) &&
           (!a->reason || (b->reason && strstr(b->reason, a->reason))) && header_covers(a, b) &&
           (a->session < 0 || a->session == b->session) && (!a->under_ms || (b->under_ms && b->under_ms <= a->under_ms));
}
