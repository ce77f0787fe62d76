/* Protobuf's wire format: varints, tags, lengths. Knows no layout; everything it reads is hostile. */
#include "frame/protobuf_internal.h"

#include "base/assert.h"

#define GROUPS_MAX 32 /* nested */
#define VARINT_BYTES_MAX 10

static bool varint(struct protobuf__reader *r, uint64_t *out);
static enum protobuf_step value(struct protobuf__reader *r, struct protobuf__item *out);
static bool group(struct protobuf__reader *r, uint32_t number);

enum protobuf_step protobuf__next(struct protobuf__reader *r, struct protobuf__item *out)
{
    uint64_t tag;
    ASSERT(r->at <= r->end);
    if (r->at == r->end) return STEP_END;
    *out = (struct protobuf__item){ .start = r->at };
    if (!varint(r, &tag) || tag >> 3 == 0 || tag >> 3 > PROTOBUF_NUMBER_MAX) return STEP_BAD;
    out->number = (uint32_t)(tag >> 3);
    out->wire = (enum protobuf_wire)(tag & 7);
    if (out->wire == WIRE_GROUP) {
        if (!group(r, out->number)) return STEP_BAD;
    } else if (value(r, out) == STEP_BAD) {
        return STEP_BAD;
    }
    out->end = r->at;
    return STEP_FIELD;
}

enum protobuf_wire protobuf__wire_of(enum protobuf_kind kind)
{
    switch (kind) {
    case PROTOBUF_FIXED64:
    case PROTOBUF_SFIXED64:
    case PROTOBUF_DOUBLE: return WIRE_64;
    case PROTOBUF_FIXED32:
    case PROTOBUF_SFIXED32:
    case PROTOBUF_FLOAT: return WIRE_32;
    case PROTOBUF_STRING:
    case PROTOBUF_BYTES:
    case PROTOBUF_JSON:
    case PROTOBUF_MAP: return WIRE_BYTES;
    default: return WIRE_VARINT;
    }
}

bool protobuf__put_varint(struct buffer *out, uint64_t n)
{
    uint8_t bytes[VARINT_BYTES_MAX];
    size_t len = 0;
    for (; n >= 0x80; n >>= 7) bytes[len++] = (uint8_t)(n | 0x80);
    bytes[len++] = (uint8_t)n;
    return buffer_append(out, bytes, len);
}

bool protobuf__put_tag(struct buffer *out, uint32_t number, enum protobuf_wire wire)
{
    ASSERT(number >= 1);
    ASSERT(number <= PROTOBUF_NUMBER_MAX);
    return protobuf__put_varint(out, (uint64_t)number << 3 | wire);
}

bool protobuf_put_bytes(struct buffer *out, uint32_t number, const void *data, size_t len)
{
    size_t before = out->len;
    if (protobuf__put_tag(out, number, WIRE_BYTES) && protobuf__put_varint(out, len) &&
        (len == 0 || buffer_append(out, data, len))) {
        return true;
    }
    out->len = before;
    return false;
}

static size_t varint_bytes(uint64_t n)
{
    size_t len = 1;
    for (; n >= 0x80; n >>= 7) len++;
    return len;
}

bool protobuf_put_pair(struct buffer *out, const struct protobuf_field *map, const void *key,
                       size_t key_len, const void *text, size_t text_len)
{
    size_t before = out->len;
    size_t inner = varint_bytes((uint64_t)map->key << 3) + varint_bytes(key_len) + key_len +
                   varint_bytes((uint64_t)map->value << 3) + varint_bytes(text_len) + text_len;
    ASSERT(map->kind == PROTOBUF_MAP);
    if (protobuf__put_tag(out, map->number, WIRE_BYTES) && protobuf__put_varint(out, inner) &&
        protobuf_put_bytes(out, map->key, key, key_len) &&
        protobuf_put_bytes(out, map->value, text, text_len)) {
        return true;
    }
    out->len = before;
    return false;
}

bool protobuf_bytes(const uint8_t *data, size_t len, uint32_t number, const uint8_t **out,
                    size_t *out_len)
{
    struct protobuf__reader r = protobuf__read(data, len);
    struct protobuf__item item;
    enum protobuf_step step;
    bool found = false;
    while ((step = protobuf__next(&r, &item)) == STEP_FIELD) {
        if (item.number != number || item.wire != WIRE_BYTES) continue;
        *out = item.bytes;
        *out_len = item.len;
        found = true;
    }
    return found && step == STEP_END;
}

/* At most ten bytes, of which the tenth has one bit of the 64. */
static bool varint(struct protobuf__reader *r, uint64_t *out)
{
    if (r->at < r->end && *r->at < 0x80) { /* nearly all of them */
        *out = *r->at++;
        return true;
    }
    uint64_t n = 0;
    for (uint32_t i = 0; i < VARINT_BYTES_MAX && r->at < r->end; i++) {
        uint8_t byte = *r->at++;
        if (i == VARINT_BYTES_MAX - 1 && byte > 1) return false;
        n |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *out = n;
            return true;
        }
    }
    return false;
}

static bool fixed(struct protobuf__reader *r, size_t bytes, uint64_t *out)
{
    if ((size_t)(r->end - r->at) < bytes) return false;
    *out = 0;
    for (size_t i = 0; i < bytes; i++) *out |= (uint64_t)r->at[i] << (8 * i);
    r->at += bytes;
    return true;
}

static enum protobuf_step value(struct protobuf__reader *r, struct protobuf__item *out)
{
    uint64_t len;
    switch (out->wire) {
    case WIRE_VARINT: return varint(r, &out->bits) ? STEP_FIELD : STEP_BAD;
    case WIRE_64: return fixed(r, 8, &out->bits) ? STEP_FIELD : STEP_BAD;
    case WIRE_32: return fixed(r, 4, &out->bits) ? STEP_FIELD : STEP_BAD;
    case WIRE_BYTES:
        if (!varint(r, &len) || len > (uint64_t)(r->end - r->at)) return STEP_BAD;
        out->bytes = r->at;
        out->len = (size_t)len;
        r->at += len;
        return STEP_FIELD;
    default: return STEP_BAD;
    }
}

/* After the tag that opens it, to behind the one that closes it. No recursion: depth is the peer's wish. */
static bool group(struct protobuf__reader *r, uint32_t number)
{
    uint32_t open[GROUPS_MAX], depth = 1;
    open[0] = number;
    while (depth > 0) {
        uint64_t tag;
        struct protobuf__item skipped;
        if (!varint(r, &tag) || tag >> 3 == 0 || tag >> 3 > PROTOBUF_NUMBER_MAX) return false;
        skipped.wire = (enum protobuf_wire)(tag & 7);
        if (skipped.wire == WIRE_END) {
            if (open[--depth] != tag >> 3) return false;
        } else if (skipped.wire == WIRE_GROUP) {
            if (depth == GROUPS_MAX) return false;
            open[depth++] = (uint32_t)(tag >> 3);
        } else if (value(r, &skipped) == STEP_BAD) {
            return false;
        }
    }
    return true;
}
