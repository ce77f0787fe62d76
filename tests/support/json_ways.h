/* The ways through a JSON text, side by side: what the careful scanner says, all others must. */
#ifndef HOLDFAST_TESTS_JSON_WAYS_H
#define HOLDFAST_TESTS_JSON_WAYS_H

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "frame/json_internal.h"

struct json_said {
    uint8_t *data; /* owned; of exactly its length, so that a byte read past it is found */
    struct field_value values[FIELDS_MAX];
    enum json_result result;
    size_t fault;
};

static inline struct json_said json_say(enum json_way way, bool utf8, const void *text, size_t len,
                                        const struct json_paths *paths)
{
    struct json_said said;
    memset(&said, 0, sizeof said);
    said.data = malloc(len ? len : 1);
    if (!said.data) abort();
    if (len) memcpy(said.data, text, len);
    said.result = json__scan_by(way, said.data, len, utf8, paths, said.values, &said.fault);
    return said;
}

static inline bool json_value_is(const struct field_value *a, const uint8_t *of_a, const struct field_value *b,
                                 const uint8_t *of_b)
{
    if (a->kind != b->kind) return false;
    if (a->kind == FIELD_ABSENT) return true;
    if (a->text - of_a != b->text - of_b || a->len != b->len) return false;
    if (a->kind == FIELD_BOOL) return a->boolean == b->boolean;
    if (a->kind == FIELD_STRING) return a->escaped == b->escaped;
    return a->kind != FIELD_INTEGER || a->integer == b->integer;
}

/* NULL, or what differs. */
static inline const char *json_ways_differ(const void *text, size_t len, const struct json_paths *paths)
{
    struct json_said want = json_say(JSON_WAY_CAREFUL, false, text, len, paths);
    const char *wrong = NULL;
    for (enum json_way way = JSON_WAY_CAREFUL + 1; way < JSON_WAYS && !wrong; way++) {
        if (!json__way_is_here(way)) continue;
        for (int utf8 = 0; utf8 < 2 && !wrong; utf8++) {
            if (utf8 && !text_is_utf8(text, len)) continue;
            struct json_said said = json_say(way, utf8, text, len, paths);
            if (said.result != want.result) wrong = "the result";
            else if (said.result != JSON_OK && said.fault != want.fault) wrong = "the place of the fault";
            else if (len && memcmp(said.data, want.data, len) != 0) wrong = "the bytes afterwards";
            for (uint32_t i = 0; paths && !wrong && i < paths->count; i++) {
                if (!json_value_is(&said.values[i], said.data, &want.values[i], want.data)) wrong = "a field";
            }
            free(said.data);
        }
    }
    free(want.data);
    return wrong;
}

#endif
