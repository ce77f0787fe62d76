/* JSON as it arrives: one pass that checks a message to its end, lifts the wanted fields and makes it
 * safe to hand over verbatim. Never builds a tree; policies get trees through bind/.
 *
 * Correct on escapes, nesting, duplicate keys (the last wins, as in every common parser), any key
 * order, numbers beyond 2^53 (text is kept), invalid UTF-8, truncation. */
#ifndef HOLDFAST_FRAME_JSON_H
#define HOLDFAST_FRAME_JSON_H

#include "frame/rules.h"

#define JSON_DEPTH_MAX 512

enum json_result {
    JSON_OK,
    JSON_MALFORMED, /* fields found before the fault are still filled, and may be used for matching */
    JSON_TOO_DEEP,
};

/* Compiled field paths: build once per frame_rules. */
struct json_paths {
    struct {
        const char *part[FIELD_DEPTH_MAX]; /* borrowed from frame_rules */
        uint8_t part_len[FIELD_DEPTH_MAX];
        uint8_t depth;
    } field[FIELDS_MAX];
    uint32_t count;
    uint8_t depth_max;
};
void json_paths_init(struct json_paths *p, const struct frame_rules *rules);

/* Checks `data` and fills values[0..paths->count). White-space control bytes (tab, CR, LF) outside
 * strings become spaces in place, so that the text fits one NDJSON line. A string with a raw control
 * byte is malformed. *fault_out: offset of the first fault. */
enum json_result json_scan(uint8_t *data, size_t len, const struct json_paths *paths,
                           struct field_value *values, size_t *fault_out);
/* Decodes a STRING field (between the quotes) to UTF-8; returns the length, or -1 when `out` is too
 * small. Lone surrogates become U+FFFD. */
long json_string_decode(const struct field_value *v, char *out, size_t out_bytes);
/* Equality of a STRING field with decoded bytes, without decoding when there is no escape. */
bool json_string_equal(const struct field_value *v, const char *text, size_t len);

#endif
