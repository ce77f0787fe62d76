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

/* Compiled field paths: a tree of keys, built once per frame_rules by frame_rules_prepare(). Holds its
 * own copies, so it may be moved; about 2 KB, shared by all links of a policy. */
#define JSON_NODES_MAX (1 + FIELDS_MAX * FIELD_DEPTH_MAX)
struct json_paths {
    struct json_node {
        uint16_t key_at; /* into keys */
        uint8_t key_len;
        uint8_t child;   /* first child, 0: none (node 0 is the root) */
        uint8_t next;    /* next sibling, 0: none */
        uint8_t first;   /* byte of the key */
        uint16_t fields; /* a bit per field whose path ends here */
        uint16_t below;  /* bits of all fields here and further down */
    } nodes[JSON_NODES_MAX];
    char keys[FIELDS_MAX * FIELD_PATH_MAX];
    uint32_t count;      /* fields */
    uint32_t node_count;
};
/* 1 to FIELD_DEPTH_MAX parts that are not empty, with dots between, within FIELD_PATH_MAX. */
bool json_path_is_valid(const char *path);
/* False when one of the paths is not valid. */
bool json_paths_init(struct json_paths *p, const struct frame_rules *rules);

/* Checks `data` and fills values[0..paths->count). White-space control bytes (tab, CR, LF) outside
 * strings become spaces in place, so that the text fits one NDJSON line; a text that is not JSON_OK
 * keeps its bytes as they came. A string with a raw control byte is malformed.
 * `values`: borrow from `data`. Of a text that is not JSON_OK, only scalars are lifted, so that a value
 * never holds a control byte. `paths`, `fault_out`: may be NULL.
 * *fault_out: where the first fault is, or where the token that holds it begins; at most `len`. */
enum json_result json_scan(uint8_t *data, size_t len, const struct json_paths *paths,
                           struct field_value *values, size_t *fault_out);
/* The same of bytes that are known to be UTF-8, as those of a text message are. */
enum json_result json_scan_utf8(uint8_t *data, size_t len, const struct json_paths *paths,
                                struct field_value *values);
/* Decodes a STRING field (between the quotes) to UTF-8; returns the length, or -1 when `out` is too
 * small. Lone surrogates become U+FFFD. */
long json_string_decode(const struct field_value *v, char *out, size_t out_bytes);
/* Equality of a STRING field with decoded bytes, without decoding when there is no escape. */
bool json_string_equal(const struct field_value *v, const char *text, size_t len);

#endif
