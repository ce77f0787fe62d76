/* JSON to protobuf: what hooks and consumers send. The text is checked first; then its members are found by
 * walking, without a tree. What does not fit the layout is refused, never guessed. */
#include "frame/protobuf_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "crypto/digest.h"
#include "frame/json.h"

#define TEXT_BYTES_MAX 4096 /* of a map's key or value, decoded */

struct span {
    const uint8_t *at;
    size_t len;
};

struct member {
    struct span name, value; /* the name between its quotes */
};

static const uint8_t *blank_skip(const uint8_t *p, const uint8_t *end);
static bool member_next(const uint8_t **at, const uint8_t *end, struct member *out);
static const char *fields_write(const struct protobuf_layout *layout, struct span object,
                                struct buffer *out);
static const char *field_write(const struct protobuf_field *field, struct span value, bool base64,
                               struct buffer *out);

static const char full[] = "the message is longer than sizes.send";

enum protobuf_result protobuf_from_json(const struct protobuf_layout *layout, uint8_t *text,
                                        size_t len, struct buffer *out, const char **why_out)
{
    size_t before = out->len;
    const char *why = NULL;
    if (json_scan(text, len, NULL, NULL, NULL) != JSON_OK) why = "is no JSON";
    struct span object = { blank_skip(text, text + len), 0 };
    object.len = (size_t)(text + len - object.at);
    if (!why && *object.at != '{') why = "expected an object";
    if (!why) why = fields_write(layout, object, out);
    if (why_out) *why_out = why;
    if (!why) return PROTOBUF_OK;
    out->len = before;
    return why == full ? PROTOBUF_TOO_BIG : PROTOBUF_MALFORMED;
}

/* --- walking valid JSON ------------------------------------------------------------------------- */

static const uint8_t *blank_skip(const uint8_t *p, const uint8_t *end)
{
    while (p < end && *p == ' ') p++; /* json_scan() left no other white space */
    return p;
}

/* `p` is at the opening quote; returns behind the closing one. */
static const uint8_t *string_skip(const uint8_t *p)
{
    for (p++; *p != '"'; p++) {
        if (*p == '\\') p++;
    }
    return p + 1;
}

static const uint8_t *value_skip(const uint8_t *p, const uint8_t *end)
{
    uint32_t depth = 0;
    if (*p == '"') return string_skip(p);
    if (*p != '{' && *p != '[') {
        while (p < end && *p != ',' && *p != '}' && *p != ']' && *p != ' ') p++;
        return p;
    }
    do {
        if (*p == '"') {
            p = string_skip(p);
            continue;
        }
        if (*p == '{' || *p == '[') depth++;
        if (*p == '}' || *p == ']') depth--;
        p++;
    } while (depth > 0);
    return p;
}

/* *at: behind the opening brace, or behind the last member. */
static bool member_next(const uint8_t **at, const uint8_t *end, struct member *out)
{
    const uint8_t *p = blank_skip(*at, end);
    if (*p == ',') p = blank_skip(p + 1, end);
    if (*p == '}') return false;
    ASSERT(*p == '"');
    const uint8_t *behind = string_skip(p);
    out->name = (struct span){ p + 1, (size_t)(behind - p) - 2 };
    p = blank_skip(behind, end);
    ASSERT(*p == ':');
    p = blank_skip(p + 1, end);
    behind = value_skip(p, end);
    out->value = (struct span){ p, (size_t)(behind - p) };
    *at = behind;
    return true;
}

static bool is_null(struct span value)
{
    return value.len == 4 && memcmp(value.at, "null", 4) == 0;
}

/* --- fields --------------------------------------------------------------------------------------- */

/* Which field a member is for, or -1. A name with an escape is none that a layout can have. */
static int field_of(const struct protobuf_layout *layout, struct span name, bool *base64)
{
    static const char suffix[] = "_base64";
    size_t tail = sizeof suffix - 1;
    int i = protobuf_layout_field(layout, (const char *)name.at, name.len);
    *base64 = false;
    if (i >= 0) return layout->fields[i].kind == PROTOBUF_BYTES ? -1 : i;
    if (name.len <= tail || memcmp(name.at + name.len - tail, suffix, tail) != 0) return -1;
    i = protobuf_layout_field(layout, (const char *)name.at, name.len - tail);
    if (i < 0 || (layout->fields[i].kind != PROTOBUF_JSON && layout->fields[i].kind != PROTOBUF_BYTES)) {
        return -1;
    }
    *base64 = true;
    return i;
}

/* In the layout's order, whatever order the members have. */
static const char *fields_write(const struct protobuf_layout *layout, struct span object,
                                struct buffer *out)
{
    struct member found[PROTOBUF_FIELDS_MAX], m;
    bool base64[PROTOBUF_FIELDS_MAX], has[PROTOBUF_FIELDS_MAX] = { false };
    const uint8_t *at = object.at + 1, *end = object.at + object.len;
    while (member_next(&at, end, &m)) {
        bool coded;
        int i = field_of(layout, m.name, &coded);
        if (i < 0) return "a member is no field of frames.layout";
        if (is_null(m.value) && layout->fields[i].kind != PROTOBUF_JSON) continue;
        if (has[i]) return "a field is given twice";
        has[i] = true;
        found[i] = m;
        base64[i] = coded;
    }
    for (uint32_t i = 0; i < layout->count; i++) {
        if (!has[i]) {
            if (layout->fields[i].required) return "a required field is missing";
            continue;
        }
        const char *why = field_write(&layout->fields[i], found[i].value, base64[i], out);
        if (why) return why;
    }
    return NULL;
}

/* A number, or a string that holds one. */
static bool digits_of(struct span value, char out[32])
{
    if (value.len >= 2 && *value.at == '"') value = (struct span){ value.at + 1, value.len - 2 };
    if (value.len == 0 || value.len > 31) return false;
    memcpy(out, value.at, value.len);
    out[value.len] = 0;
    return out[strspn(out, "0123456789-")] == 0 && strchr(out + 1, '-') == NULL;
}

static bool unsigned_read(struct span value, uint64_t most, uint64_t *n)
{
    char text[32], *end;
    if (!digits_of(value, text) || text[0] == '-') return false;
    errno = 0;
    *n = strtoull(text, &end, 10);
    return errno == 0 && *end == 0 && *n <= most;
}

static bool signed_read(struct span value, int64_t least, int64_t most, int64_t *n)
{
    char text[32], *end;
    if (!digits_of(value, text)) return false;
    errno = 0;
    *n = strtoll(text, &end, 10);
    return errno == 0 && end > text && *end == 0 && *n >= least && *n <= most;
}

static const char *put(bool ok)
{
    return ok ? NULL : full;
}

static const char *put_integer(const struct protobuf_field *field, uint64_t bits, struct buffer *out)
{
    enum protobuf_wire wire = protobuf__wire_of(field->kind);
    if (!protobuf__put_tag(out, field->number, wire)) return full;
    if (wire == WIRE_VARINT) return put(protobuf__put_varint(out, bits));
    uint8_t bytes[8];
    for (size_t i = 0; i < 8; i++) bytes[i] = (uint8_t)(bits >> (8 * i));
    return put(buffer_append(out, bytes, wire == WIRE_64 ? 8 : 4));
}

static const char *integer_write(const struct protobuf_field *field, struct span value,
                                 struct buffer *out)
{
    static const char bad[] = "an integer within the field's bounds was expected";
    uint64_t n;
    int64_t i;
    switch (field->kind) {
    case PROTOBUF_UINT64:
    case PROTOBUF_FIXED64:
        return unsigned_read(value, UINT64_MAX, &n) ? put_integer(field, n, out) : bad;
    case PROTOBUF_UINT32:
    case PROTOBUF_FIXED32:
        return unsigned_read(value, UINT32_MAX, &n) ? put_integer(field, n, out) : bad;
    case PROTOBUF_INT64:
    case PROTOBUF_SFIXED64:
        if (!signed_read(value, INT64_MIN, INT64_MAX, &i)) return bad;
        return put_integer(field, (uint64_t)i, out);
    case PROTOBUF_SINT64:
        if (!signed_read(value, INT64_MIN, INT64_MAX, &i)) return bad;
        return put_integer(field, (uint64_t)i << 1 ^ (uint64_t)(i >> 63), out);
    case PROTOBUF_INT32: /* a negative one takes ten bytes, as of every protobuf */
    case PROTOBUF_SFIXED32:
        if (!signed_read(value, INT32_MIN, INT32_MAX, &i)) return bad;
        return put_integer(field, (uint64_t)i, out);
    case PROTOBUF_SINT32:
        if (!signed_read(value, INT32_MIN, INT32_MAX, &i)) return bad;
        return put_integer(field, (uint32_t)((uint32_t)i << 1 ^ (uint32_t)(i >> 31)), out);
    default: ASSERT(!"no kind of integer"); return bad;
    }
}

static const char *real_write(const struct protobuf_field *field, struct span value,
                              struct buffer *out)
{
    char text[64], *end;
    if (value.len == 0 || value.len >= sizeof text) return "a number was expected";
    memcpy(text, value.at, value.len);
    text[value.len] = 0;
    if (!strchr("-0123456789", text[0])) return "a number was expected";
    double wide = strtod(text, &end);
    if (*end) return "a number was expected";
    float narrow = (float)wide;
    uint64_t bits = 0;
    if (field->kind == PROTOBUF_DOUBLE) memcpy(&bits, &wide, sizeof wide);
    else memcpy(&bits, &narrow, sizeof narrow);
    return put_integer(field, bits, out);
}

/* The decoded string's place in `out` is made first: a decoded text is never longer. */
static const char *string_write(const struct protobuf_field *field, struct span value,
                                struct buffer *out)
{
    if (*value.at != '"') return "text was expected";
    struct field_value v = { .kind = FIELD_STRING, .text = value.at + 1, .len = value.len - 2 };
    v.escaped = memchr(v.text, '\\', v.len) != NULL;
    if (!v.escaped) return put(protobuf_put_bytes(out, field->number, v.text, v.len));
    size_t before = out->len;
    /* Behind the longest head that the field can have; then it moves down to its own. */
    if (!buffer_reserve(out, v.len + 16)) return full;
    uint8_t *room = out->data + before + 16;
    long len = json_string_decode(&v, (char *)room, v.len);
    if (len < 0) return "text was expected";
    bool ok = protobuf__put_tag(out, field->number, WIRE_BYTES) &&
              protobuf__put_varint(out, (uint64_t)len);
    ASSERT(ok); /* the room was reserved */
    ASSERT(out->len - before <= 16);
    memmove(out->data + out->len, room, (size_t)len);
    out->len += (size_t)len;
    return NULL;
}

static const char *base64_write(const struct protobuf_field *field, struct span value,
                                struct buffer *out)
{
    static const char bad[] = "base64 was expected";
    if (value.len < 2 || *value.at != '"') return bad;
    size_t text = value.len - 2, len = 0, before = out->len;
    if (!buffer_reserve(out, text + 16)) return full;
    uint8_t *room = out->data + before + 16;
    if (!base64_decode((const char *)value.at + 1, text, room, text, &len)) return bad;
    bool ok = protobuf__put_tag(out, field->number, WIRE_BYTES) &&
              protobuf__put_varint(out, len);
    ASSERT(ok);
    ASSERT(out->len - before <= 16);
    memmove(out->data + out->len, room, len);
    out->len += len;
    return NULL;
}

static bool text_of(struct span value, char *out, size_t *len)
{
    if (value.len < 2 || *value.at != '"') return false;
    struct field_value v = { .kind = FIELD_STRING, .text = value.at + 1, .len = value.len - 2 };
    v.escaped = memchr(v.text, '\\', v.len) != NULL;
    long n = json_string_decode(&v, out, TEXT_BYTES_MAX);
    if (n < 0) return false;
    *len = (size_t)n;
    return true;
}

static const char *map_write(const struct protobuf_field *field, struct span value,
                             struct buffer *out)
{
    if (*value.at != '{') return "an object of texts was expected";
    const uint8_t *at = value.at + 1, *end = value.at + value.len;
    struct member m;
    while (member_next(&at, end, &m)) {
        char key[TEXT_BYTES_MAX], text[TEXT_BYTES_MAX];
        size_t key_len, text_len;
        struct span name = { m.name.at - 1, m.name.len + 2 };
        if (!text_of(name, key, &key_len) || !text_of(m.value, text, &text_len)) {
            return "an object of texts, each of at most 4096 bytes, was expected";
        }
        if (!protobuf_put_pair(out, field, key, key_len, text, text_len)) return full;
    }
    return NULL;
}

static const char *field_write(const struct protobuf_field *field, struct span value, bool base64,
                               struct buffer *out)
{
    if (base64) return base64_write(field, value, out);
    switch (field->kind) {
    case PROTOBUF_BOOL:
        if (*value.at != 't' && *value.at != 'f') return "true or false was expected";
        return put_integer(field, *value.at == 't', out);
    case PROTOBUF_DOUBLE:
    case PROTOBUF_FLOAT: return real_write(field, value, out);
    case PROTOBUF_STRING: return string_write(field, value, out);
    case PROTOBUF_JSON: return put(protobuf_put_bytes(out, field->number, value.at, value.len));
    case PROTOBUF_MAP: return map_write(field, value, out);
    case PROTOBUF_BYTES: ASSERT(!"bytes are given as base64"); return NULL;
    default: return integer_write(field, value, out);
    }
}
