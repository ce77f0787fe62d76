/* Protobuf messages as JSON objects and back, by a layout that a policy gives; it knows no platform.
 * Pure: nothing is kept between calls.
 *
 *   fields present on the wire become members, in the layout's order; maps are there even when empty
 *   64-bit integers above 2^53 are decimal strings in JSON, and exact on the wire; both are taken back
 *   the member of a `json` field is the JSON itself; what is none (and all of `bytes`) travels as base64 in
 *     a member NAME_base64
 *   a `map` is a repeated message of a key and a value, both text: an object
 *   fields that the layout does not name, or that came in another wire type, are left out of the JSON;
 *     protobuf_echo() keeps them
 *
 * Glossary
 *   change   one field of an echo: replaced, or appended after those of its number */
#ifndef HOLDFAST_FRAME_PROTOBUF_H
#define HOLDFAST_FRAME_PROTOBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "frame/rules.h"

#define PROTOBUF_FIELDS_MAX 32
#define PROTOBUF_NUMBER_MAX ((1u << 29) - 1)

/* The text is the word in a layout. */
#define PROTOBUF_KIND_MAP(X)                                                                      \
    X(UINT64, "uint64") X(INT64, "int64") X(SINT64, "sint64") X(UINT32, "uint32") X(INT32, "int32") \
    X(SINT32, "sint32") X(BOOL, "bool") X(FIXED64, "fixed64") X(SFIXED64, "sfixed64")             \
    X(FIXED32, "fixed32") X(SFIXED32, "sfixed32") X(DOUBLE, "double") X(FLOAT, "float")           \
    X(STRING, "string") X(BYTES, "bytes") X(JSON, "json") X(MAP, "map")

enum protobuf_kind {
#define X(name, text) PROTOBUF_##name,
    PROTOBUF_KIND_MAP(X)
#undef X
};

struct protobuf_field {
    uint32_t number;
    enum protobuf_kind kind;
    bool required;        /* a message without it is malformed */
    uint32_t key, value;  /* MAP: the numbers inside */
    char name[RULE_NAME_MAX];
};

struct protobuf_layout {
    struct protobuf_field fields[PROTOBUF_FIELDS_MAX]; /* numbers rise, names differ */
    uint32_t count;
};

enum protobuf_result {
    PROTOBUF_OK,
    PROTOBUF_MALFORMED,
    PROTOBUF_TOO_BIG, /* over the limit of `out`, or memory is out */
};

enum protobuf_change_kind { PROTOBUF_REPLACE, PROTOBUF_APPEND };

struct protobuf_change {
    uint32_t number;
    enum protobuf_change_kind kind;
    const uint8_t *bytes; /* borrowed: one whole field or more of that number, with their tags */
    size_t len;
};

/* Index by name, or -1. */
int protobuf_layout_field(const struct protobuf_layout *layout, const char *name, size_t len);

/* Appends the message as one JSON object in one line; nothing when it is not OK. */
enum protobuf_result protobuf_to_json(const struct protobuf_layout *layout, const uint8_t *data,
                                      size_t len, struct buffer *out);
/* Appends the message that a JSON object describes; nothing when it is not OK. `text` may be changed in
 * place as by json_scan(). *why_out (may be NULL) is then a constant text for people. */
enum protobuf_result protobuf_from_json(const struct protobuf_layout *layout, uint8_t *text,
                                        size_t len, struct buffer *out, const char **why_out);
/* Content of the last field of this number that is of wire type 2: borrowed from `data`. False when there
 * is none, or the message is malformed. */
bool protobuf_bytes(const uint8_t *data, size_t len, uint32_t number, const uint8_t **out,
                    size_t *out_len);
/* Appends the message as it came, byte for byte, but for the changes. A replaced field stands where its
 * last one stood, appended ones behind the last of their number; one that was absent stands before the
 * first of a higher number. Each number at most once in `changes`. */
enum protobuf_result protobuf_echo(const uint8_t *data, size_t len,
                                   const struct protobuf_change *changes, uint32_t count,
                                   struct buffer *out);

/* Pieces for those who make changes. False over the limit. */
bool protobuf_put_bytes(struct buffer *out, uint32_t number, const void *data, size_t len);
bool protobuf_put_pair(struct buffer *out, const struct protobuf_field *map, const void *key,
                       size_t key_len, const void *value, size_t value_len);

extern const struct codec_ops protobuf_codec_ops; /* frame/codec.h */

#endif
