/* Protobuf to JSON: what hooks, rules and consumers see of a binary message. Copies each byte once, keeps
 * nothing, trusts nothing. */
#include "frame/protobuf_internal.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "crypto/digest.h"
#include "frame/json.h"

#define EXACT_IN_JSON ((uint64_t)1 << 53)

static bool message_read(const struct protobuf_layout *layout, const uint8_t *data, size_t len,
                         struct protobuf__item *last);
static bool entry_read(const struct protobuf_field *field, const struct protobuf__item *item,
                       struct protobuf__item *key, struct protobuf__item *value);
static bool member_write(const struct protobuf_field *field, const struct protobuf__item *item,
                         struct buffer *out);
static bool map_write(const struct protobuf_field *field, const uint8_t *data, size_t len,
                      struct buffer *out);

int protobuf_layout_field(const struct protobuf_layout *layout, const char *name, size_t len)
{
    for (uint32_t i = 0; i < layout->count; i++) {
        const char *known = layout->fields[i].name;
        if (strlen(known) == len && memcmp(known, name, len) == 0) return (int)i;
    }
    return -1;
}

enum protobuf_result protobuf_to_json(const struct protobuf_layout *layout, const uint8_t *data,
                                      size_t len, struct buffer *out)
{
    struct protobuf__item last[PROTOBUF_FIELDS_MAX]; /* by layout; wire WIRE_END: not there */
    size_t before = out->len;
    ASSERT(layout->count <= PROTOBUF_FIELDS_MAX);
    if (!message_read(layout, data, len, last)) return PROTOBUF_MALFORMED;
    bool ok = buffer_append_char(out, '{'), first = true;
    for (uint32_t i = 0; ok && i < layout->count; i++) {
        const struct protobuf_field *field = &layout->fields[i];
        if (field->kind != PROTOBUF_MAP && last[i].wire == WIRE_END) continue;
        ok = first || buffer_append_char(out, ',');
        first = false;
        if (!ok) break;
        ok = field->kind == PROTOBUF_MAP ? map_write(field, data, len, out)
                                         : member_write(field, &last[i], out);
    }
    if (ok && buffer_append_char(out, '}')) return PROTOBUF_OK;
    out->len = before;
    return PROTOBUF_TOO_BIG;
}

/* The index of a field in the layout, or -1 when it is not there or came in another wire type. */
static int field_of(const struct protobuf_layout *layout, const struct protobuf__item *item)
{
    for (uint32_t i = 0; i < layout->count && layout->fields[i].number <= item->number; i++) {
        if (layout->fields[i].number != item->number) continue;
        return protobuf__wire_of(layout->fields[i].kind) == item->wire ? (int)i : -1;
    }
    return -1;
}

/* Of a field that came more than once the last counts, as protobuf says. */
static bool message_read(const struct protobuf_layout *layout, const uint8_t *data, size_t len,
                         struct protobuf__item *last)
{
    struct protobuf__reader r = protobuf__read(data, len);
    struct protobuf__item item, key, value;
    enum protobuf_step step;
    for (uint32_t i = 0; i < layout->count; i++) last[i].wire = WIRE_END;
    while ((step = protobuf__next(&r, &item)) == STEP_FIELD) {
        int i = field_of(layout, &item);
        if (i < 0) continue;
        const struct protobuf_field *field = &layout->fields[i];
        if (field->kind == PROTOBUF_MAP && !entry_read(field, &item, &key, &value)) return false;
        last[i] = item;
    }
    for (uint32_t i = 0; step == STEP_END && i < layout->count; i++) {
        if (layout->fields[i].required && last[i].wire == WIRE_END) return false;
    }
    return step == STEP_END;
}

static bool entry_read(const struct protobuf_field *field, const struct protobuf__item *item,
                       struct protobuf__item *key, struct protobuf__item *value)
{
    struct protobuf__reader r = protobuf__read(item->bytes, item->len);
    struct protobuf__item inner;
    enum protobuf_step step;
    key->len = value->len = 0;
    key->bytes = value->bytes = item->bytes;
    while ((step = protobuf__next(&r, &inner)) == STEP_FIELD) {
        if (inner.wire != WIRE_BYTES) continue;
        if (inner.number == field->key) *key = inner;
        if (inner.number == field->value) *value = inner;
    }
    return step == STEP_END;
}

static bool name_write(const char *name, const char *suffix, struct buffer *out)
{
    return buffer_append_char(out, '"') && buffer_append_text(out, name) &&
           buffer_append_text(out, suffix) && buffer_append_text(out, "\":");
}

static bool unsigned_write(uint64_t n, struct buffer *out)
{
    return buffer_printf(out, n > EXACT_IN_JSON ? "\"%" PRIu64 "\"" : "%" PRIu64, n);
}

static bool signed_write(int64_t n, struct buffer *out)
{
    bool exact = n <= (int64_t)EXACT_IN_JSON && n >= -(int64_t)EXACT_IN_JSON;
    return buffer_printf(out, exact ? "%" PRId64 : "\"%" PRId64 "\"", n);
}

static bool real_write(double n, int digits, struct buffer *out)
{
    return isfinite(n) ? buffer_printf(out, "%.*g", digits, n) : buffer_append_text(out, "null");
}

static int64_t unzigzag(uint64_t n)
{
    return (int64_t)(n >> 1) ^ -(int64_t)(n & 1);
}

static bool bytes_write(const char *name, const uint8_t *data, size_t len, struct buffer *out)
{
    size_t text = BASE64_TEXT_BYTES(len);
    if (!name_write(name, "_base64", out) || !buffer_append_char(out, '"') ||
        !buffer_reserve(out, text + 1)) {
        return false;
    }
    out->len += base64_encode(data, len, (char *)out->data + out->len);
    return buffer_append_char(out, '"');
}

/* What json_scan() takes alone is a level deeper in the message. A text with less than the deepest nesting in
 * all its brackets, nearly every one, needs no second look. */
static bool fits_inside(uint8_t *before, size_t len)
{
    size_t opened = 0;
    for (size_t i = 1; i <= len; i++) opened += before[i] == '{' || before[i] == '[';
    if (opened < JSON_DEPTH_MAX) return true;
    uint8_t was = *before;
    *before = '[';
    bool ok = json_scan(before, len + 2, NULL, NULL, NULL) == JSON_OK;
    *before = was;
    return ok;
}

/* JSON for as long as it is JSON that can stand inside an object; else base64 under another name. */
static bool json_write(const char *name, const uint8_t *data, size_t len, struct buffer *out)
{
    size_t before = out->len;
    if (!name_write(name, "", out)) return false;
    if (!buffer_append(out, data, len) || !buffer_append_char(out, ']')) return false;
    uint8_t *colon = out->data + out->len - len - 2;
    if (json_scan(colon + 1, len, NULL, NULL, NULL) == JSON_OK && fits_inside(colon, len)) {
        out->len--;
        return true;
    }
    out->len = before;
    return bytes_write(name, data, len, out);
}

static bool member_write(const struct protobuf_field *field, const struct protobuf__item *item,
                         struct buffer *out)
{
    double wide;
    float narrow;
    uint32_t low = (uint32_t)item->bits;
    if (field->kind == PROTOBUF_JSON) return json_write(field->name, item->bytes, item->len, out);
    if (field->kind == PROTOBUF_BYTES) return bytes_write(field->name, item->bytes, item->len, out);
    if (!name_write(field->name, "", out)) return false;
    switch (field->kind) {
    case PROTOBUF_UINT64:
    case PROTOBUF_FIXED64: return unsigned_write(item->bits, out);
    case PROTOBUF_INT64:
    case PROTOBUF_SFIXED64: return signed_write((int64_t)item->bits, out);
    case PROTOBUF_SINT64: return signed_write(unzigzag(item->bits), out);
    case PROTOBUF_UINT32:
    case PROTOBUF_FIXED32: return unsigned_write(low, out);
    case PROTOBUF_INT32:
    case PROTOBUF_SFIXED32: return signed_write((int32_t)low, out);
    case PROTOBUF_SINT32: return signed_write((int32_t)unzigzag(low), out);
    case PROTOBUF_BOOL: return buffer_append_text(out, item->bits ? "true" : "false");
    case PROTOBUF_DOUBLE:
        memcpy(&wide, &item->bits, sizeof wide);
        return real_write(wide, 17, out);
    case PROTOBUF_FLOAT:
        memcpy(&narrow, &low, sizeof narrow);
        return real_write((double)narrow, 9, out);
    case PROTOBUF_STRING: return text_json_string(out, item->bytes, item->len);
    case PROTOBUF_BYTES:
    case PROTOBUF_JSON:
    case PROTOBUF_MAP: break;
    }
    ASSERT(!"a kind without a way to write it");
    return false;
}

static bool map_write(const struct protobuf_field *field, const uint8_t *data, size_t len,
                      struct buffer *out)
{
    struct protobuf__reader r = protobuf__read(data, len);
    struct protobuf__item item, key, value;
    bool first = true;
    if (!name_write(field->name, "", out) || !buffer_append_char(out, '{')) return false;
    while (protobuf__next(&r, &item) == STEP_FIELD) {
        if (item.number != field->number || item.wire != WIRE_BYTES) continue;
        bool whole = entry_read(field, &item, &key, &value);
        ASSERT(whole); /* message_read() saw it */
        if (!first && !buffer_append_char(out, ',')) return false;
        first = false;
        if (!text_json_string(out, key.bytes, key.len) || !buffer_append_char(out, ':') ||
            !text_json_string(out, value.bytes, value.len)) {
            return false;
        }
    }
    return buffer_append_char(out, '}');
}
