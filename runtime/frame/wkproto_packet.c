/* WKProto layouts, and the two loops that read and write them. The order of rows is the order on the wire. */
#include "frame/wkproto_packet.h"

#include <string.h>

#include "base/assert.h"

#define ROW(field, wire, when) { WK_F_##field, WK_##wire, WK_##when }

static const struct wk_row rows_connect[] = {
    ROW(VERSION, U8, ALWAYS), ROW(DEVICE_FLAG, U8, ALWAYS), ROW(DEVICE_ID, STR, ALWAYS),
    ROW(UID, STR, ALWAYS), ROW(TOKEN, STR, ALWAYS), ROW(CLIENT_TIMESTAMP, I64, ALWAYS),
    ROW(CLIENT_KEY, STR, ALWAYS),
};
/* A rejecting CONNACK of the rebuilt server ends with a node_id although it names no version: what stands
 * behind the salt is read only where the version says so, and ignored otherwise. */
static const struct wk_row rows_connack[] = {
    ROW(SERVER_VERSION, U8, IF_SERVER_VERSION), ROW(TIME_DIFF, I64, ALWAYS), ROW(REASON_CODE, U8, ALWAYS),
    ROW(SERVER_KEY, STR, ALWAYS), ROW(SALT, STR, ALWAYS), ROW(NODE_ID, U64, FROM_4),
};
static const struct wk_row rows_send[] = {
    ROW(SETTING, U8, ALWAYS), ROW(CLIENT_SEQ, U32, ALWAYS), ROW(CLIENT_MSG_NO, STR, ALWAYS),
    ROW(STREAM_NO, STR, IF_STREAM), ROW(CHANNEL_ID, STR, ALWAYS), ROW(CHANNEL_TYPE, U8, ALWAYS),
    ROW(EXPIRE, U32, FROM_3), ROW(MSG_KEY, STR, ALWAYS), ROW(TOPIC, STR, IF_TOPIC),
    ROW(PAYLOAD, REST, ALWAYS),
};
static const struct wk_row rows_sendack[] = {
    ROW(MESSAGE_ID, I64, ALWAYS), ROW(CLIENT_SEQ, U32, ALWAYS), ROW(MESSAGE_SEQ, SEQ, ALWAYS),
    ROW(REASON_CODE, U8, ALWAYS), ROW(CLIENT_MSG_NO, STR, IF_LEFT),
};
static const struct wk_row rows_recv[] = {
    ROW(SETTING, U8, ALWAYS), ROW(MSG_KEY, STR, ALWAYS), ROW(FROM_UID, STR, ALWAYS),
    ROW(CHANNEL_ID, STR, ALWAYS), ROW(CHANNEL_TYPE, U8, ALWAYS), ROW(EXPIRE, U32, FROM_3),
    ROW(CLIENT_MSG_NO, STR, ALWAYS), ROW(STREAM_FLAG, U8, IF_STREAM), ROW(STREAM_NO, STR, IF_STREAM),
    ROW(STREAM_ID, U64, IF_STREAM), ROW(MESSAGE_ID, I64, ALWAYS), ROW(MESSAGE_SEQ, SEQ, ALWAYS),
    ROW(TIMESTAMP, I32, ALWAYS), ROW(TOPIC, STR, IF_TOPIC), ROW(PAYLOAD, REST, ALWAYS),
};
static const struct wk_row rows_recvack[] = { ROW(MESSAGE_ID, I64, ALWAYS), ROW(MESSAGE_SEQ, SEQ, ALWAYS) };
static const struct wk_row rows_disconnect[] = { ROW(REASON_CODE, U8, ALWAYS), ROW(REASON, STR, ALWAYS) };
static const struct wk_row rows_sub[] = {
    ROW(SETTING, U8, ALWAYS), ROW(SUB_NO, STR, ALWAYS), ROW(CHANNEL_ID, STR, ALWAYS),
    ROW(CHANNEL_TYPE, U8, ALWAYS), ROW(ACTION, U8, ALWAYS), ROW(PARAM, STR, ALWAYS),
};
static const struct wk_row rows_suback[] = {
    ROW(SUB_NO, STR, ALWAYS), ROW(CHANNEL_ID, STR, ALWAYS), ROW(CHANNEL_TYPE, U8, ALWAYS),
    ROW(ACTION, U8, ALWAYS), ROW(REASON_CODE, U8, ALWAYS),
};
static const struct wk_row rows_event[] = {
    ROW(EVENT_ID, STR, ALWAYS), ROW(EVENT_TYPE, STR, ALWAYS), ROW(EVENT_TIMESTAMP, I64, ALWAYS),
    ROW(DATA, REST, ALWAYS),
};

#define LAYOUT(rows) { rows, sizeof rows / sizeof *rows }
static const struct {
    const struct wk_row *rows;
    size_t count;
} layouts[WK_TYPE_COUNT] = {
    [WK_CONNECT] = LAYOUT(rows_connect), [WK_CONNACK] = LAYOUT(rows_connack),
    [WK_SEND] = LAYOUT(rows_send),       [WK_SENDACK] = LAYOUT(rows_sendack),
    [WK_RECV] = LAYOUT(rows_recv),       [WK_RECVACK] = LAYOUT(rows_recvack),
    [WK_DISCONNECT] = LAYOUT(rows_disconnect), [WK_SUB] = LAYOUT(rows_sub),
    [WK_SUBACK] = LAYOUT(rows_suback),   [WK_EVENT] = LAYOUT(rows_event),
};

struct cursor {
    const uint8_t *at, *end;
};

static bool take_number(struct cursor *c, size_t bytes, uint64_t *out);
static bool take_text(struct cursor *c, struct wk_text *out);
static size_t number_bytes(unsigned wire, unsigned version);
static bool put_number(struct buffer *out, uint64_t number, size_t bytes);
static bool put_row(const struct wk_row *row, const struct wk_packet *p, unsigned version,
                    struct buffer *out, const char **why);
static size_t put_length(size_t len, uint8_t out[4]);

enum wk_split wk_split(const uint8_t *bytes, size_t len, struct wk_head *out, const char **why)
{
    if (len == 0) return WK_SPLIT_HALF;
    memset(out, 0, sizeof *out);
    out->type = bytes[0] >> 4;
    out->flags = bytes[0] & 15;
    if (out->type == 0) {
        *why = "a packet of type 0, which is reserved";
        return WK_SPLIT_BROKEN;
    }
    out->body_at = out->size = 1;
    if (out->type == WK_PING || out->type == WK_PONG) return WK_SPLIT_WHOLE;
    size_t body = 0;
    for (unsigned i = 0;; i++) {
        if (i == 4) {
            *why = "a packet's length has more than 4 bytes";
            return WK_SPLIT_BROKEN;
        }
        if (out->body_at == len) return WK_SPLIT_HALF;
        uint8_t b = bytes[out->body_at++];
        body |= (size_t)(b & 127) << (7 * i);
        if (b < 128) break;
    }
    if (body > WK_BODY_BYTES_MAX) {
        *why = "a packet of more than 1 MiB";
        return WK_SPLIT_BROKEN;
    }
    out->size = out->body_at + body;
    return out->size <= len ? WK_SPLIT_WHOLE : WK_SPLIT_HALF;
}

bool wk_packet_read(const struct wk_head *head, const uint8_t *body, unsigned version,
                    struct wk_packet *out, const char **why)
{
    size_t count;
    const struct wk_row *rows = wk_layout(head->type, &count);
    struct cursor c = { body, body + (head->size - head->body_at) };
    memset(out, 0, sizeof *out);
    out->type = head->type;
    out->flags = head->flags;
    *why = "a packet's body is shorter than its fields";
    for (size_t i = 0; i < count; i++) {
        const struct wk_row *row = &rows[i];
        if (row->when == WK_IF_LEFT ? c.at == c.end : !wk_row_is_on(row, out, version)) continue;
        if (row->field == WK_F_NODE_ID && c.at == c.end) continue;
        if (row->wire == WK_REST) {
            out->text[row->field] = (struct wk_text){ c.at, (size_t)(c.end - c.at) };
            c.at = c.end;
        } else if (row->wire == WK_STR) {
            if (!take_text(&c, &out->text[row->field])) {
                if (row->when == WK_IF_LEFT) continue;
                return false;
            }
        } else {
            uint64_t n;
            if (!take_number(&c, number_bytes(row->wire, version), &n)) return false;
            if (row->wire == WK_I32) n = (uint64_t)(int64_t)(int32_t)(uint32_t)n;
            out->number[row->field] = n;
        }
        out->have |= (uint64_t)1 << row->field;
    }
    *why = NULL;
    return true;
}

bool wk_packet_write(const struct wk_packet *p, unsigned version, struct buffer *out, const char **why)
{
    size_t count, before = out->len;
    const struct wk_row *rows = wk_layout(p->type, &count);
    ASSERT(p->flags < 16);
    *why = "out of memory";
    if (!buffer_append_char(out, (char)(p->type << 4 | p->flags))) return false;
    if (p->type == WK_PING || p->type == WK_PONG) {
        *why = NULL;
        return true;
    }
    /* Room for the longest length; the body moves up when it needs less. */
    size_t length_at = out->len, body_at = length_at + 4;
    if (!buffer_append(out, "\0\0\0\0", 4)) goto fail;
    for (size_t i = 0; i < count; i++) {
        if (rows[i].when == WK_IF_LEFT ? !wk_has(p, rows[i].field) : !wk_row_is_on(&rows[i], p, version)) continue;
        if (!put_row(&rows[i], p, version, out, why)) goto fail;
    }
    size_t body = out->len - body_at;
    if (body > WK_BODY_BYTES_MAX) {
        *why = "the packet is longer than 1 MiB";
        goto fail;
    }
    size_t bytes = put_length(body, out->data + length_at);
    memmove(out->data + length_at + bytes, out->data + body_at, body);
    out->len = length_at + bytes + body;
    *why = NULL;
    return true;

fail:
    out->len = before;
    return false;
}

const struct wk_row *wk_layout(unsigned type, size_t *count_out)
{
    ASSERT(type > 0 && type < WK_TYPE_COUNT);
    *count_out = layouts[type].count;
    return layouts[type].rows;
}

bool wk_row_is_on(const struct wk_row *row, const struct wk_packet *p, unsigned version)
{
    if (p->type == WK_CONNACK) {
        /* Without the flag nobody knows the version: then it is one that has no node_id. */
        if (!(p->flags & WK_FLAG_HAS_SERVER_VERSION)) return row->when == WK_ALWAYS;
        if (row->when == WK_FROM_4) return p->number[WK_F_SERVER_VERSION] >= 4;
    }
    uint64_t setting = p->number[WK_F_SETTING];
    switch ((enum wk_when)row->when) {
    case WK_ALWAYS: return true;
    case WK_FROM_3: return version >= 3;
    case WK_FROM_4: return version >= 4;
    case WK_IF_SERVER_VERSION: return true;
    case WK_IF_STREAM: return version >= 2 && version < 5 && setting & WK_SETTING_STREAM;
    case WK_IF_TOPIC: return (setting & WK_SETTING_TOPIC) != 0;
    case WK_IF_LEFT: return wk_has(p, row->field);
    }
    return false;
}

const char *wk_type_name(unsigned type)
{
#define WK_TYPE_NAME(value, id, name) [value] = name,
    static const char *const names[WK_TYPE_COUNT] = { WK_TYPE_MAP(WK_TYPE_NAME) };
    return type < WK_TYPE_COUNT ? names[type] : NULL;
}

const char *wk_field_name(unsigned field)
{
#define WK_FIELD_NAME(id, form, name) name,
    static const char *const names[] = { WK_FIELD_MAP(WK_FIELD_NAME) };
    ASSERT(field < WK_FIELD_COUNT);
    return names[field];
}

enum wk_form wk_field_form(unsigned field)
{
#define WK_FIELD_FORM(id, form, name) WK_##form,
    static const uint8_t forms[] = { WK_FIELD_MAP(WK_FIELD_FORM) };
    ASSERT(field < WK_FIELD_COUNT);
    return forms[field];
}

size_t wk_decimal(uint64_t number, char out[WK_DECIMAL_BYTES])
{
    char digits[WK_DECIMAL_BYTES];
    bool negative = number >> 63;
    uint64_t rest = negative ? (uint64_t)0 - number : number;
    size_t n = 0, at = 0;
    do digits[n++] = (char)('0' + rest % 10);
    while (rest /= 10);
    if (negative) out[at++] = '-';
    while (n > 0) out[at++] = digits[--n];
    return at;
}

/* --- reading ------------------------------------------------------------------------------------------ */

static bool take_number(struct cursor *c, size_t bytes, uint64_t *out)
{
    if ((size_t)(c->end - c->at) < bytes) return false;
    uint64_t n = 0;
    for (size_t i = 0; i < bytes; i++) n = n << 8 | *c->at++;
    *out = n;
    return true;
}

static bool take_text(struct cursor *c, struct wk_text *out)
{
    uint64_t len;
    struct cursor from = *c;
    if (!take_number(&from, 2, &len) || len > WK_TEXT_BYTES_MAX) return false;
    if ((size_t)(from.end - from.at) < len) return false;
    *out = (struct wk_text){ from.at, (size_t)len };
    c->at = from.at + len;
    return true;
}

static size_t number_bytes(unsigned wire, unsigned version)
{
    switch ((enum wk_wire)wire) {
    case WK_U8: return 1;
    case WK_U32:
    case WK_I32: return 4;
    case WK_U64:
    case WK_I64: return 8;
    case WK_SEQ: return version >= 6 ? 8 : 4;
    case WK_STR:
    case WK_REST: break;
    }
    ASSERT(false);
    return 0;
}

/* --- writing ------------------------------------------------------------------------------------------ */

static bool put_number(struct buffer *out, uint64_t number, size_t bytes)
{
    uint8_t b[8];
    for (size_t i = 0; i < bytes; i++) b[i] = (uint8_t)(number >> (8 * (bytes - 1 - i)));
    return buffer_append(out, b, bytes);
}

static bool put_row(const struct wk_row *row, const struct wk_packet *p, unsigned version,
                    struct buffer *out, const char **why)
{
    const struct wk_text *text = &p->text[row->field];
    if (row->wire == WK_REST) return buffer_append(out, text->len ? (const void *)text->at : "", text->len);
    if (row->wire == WK_STR) {
        if (text->len > WK_TEXT_BYTES_MAX) {
            *why = "a text is longer than 32767 bytes";
            return false;
        }
        return put_number(out, text->len, 2) && buffer_append(out, text->len ? (const void *)text->at : "", text->len);
    }
    return put_number(out, p->number[row->field], number_bytes(row->wire, version));
}

static size_t put_length(size_t len, uint8_t out[4])
{
    size_t n = 0;
    ASSERT(len <= WK_BODY_BYTES_MAX);
    /* No length byte for an empty body, as both official encoders have it; no packet has one. */
    while (len > 0) {
        uint8_t b = len & 127;
        len >>= 7;
        out[n++] = (uint8_t)(len ? b | 128 : b);
    }
    return n;
}
