/* WKProto packets <-> JSON. Both directions walk the layouts of wkproto_packet.c; what differs from packet to
 * packet stands there. */
#include "frame/wkproto_json.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "crypto/digest.h"
#include "frame/json_internal.h"

#define EXACT_MAX ((int64_t)1 << 53) /* beyond it many readers of JSON round */
#define NAMES_BYTES 64                /* room for the names around a payload */

static const struct {
    const char *name;
    uint8_t bit;
} flag_names[] = { { "no_persist", WK_FLAG_NO_PERSIST }, { "red_dot", WK_FLAG_RED_DOT },
                   { "sync_once", WK_FLAG_SYNC_ONCE },   { "dup", WK_FLAG_DUP } };
#define FLAG_COUNT (sizeof flag_names / sizeof *flag_names)

/* A member of an object that json_scan() found valid. */
struct member {
    struct wk_text key; /* between the quotes; no name that we know has an escape */
    enum { STRING, OBJECT, OTHER } kind;
    struct wk_text value; /* STRING: between the quotes */
};
struct members {
    uint8_t *at, *end;
};

static bool put_flags(const struct wk_packet *p, struct buffer *out);
static bool put_number(struct buffer *out, const char *name, uint64_t number, bool id);
static bool put_name(struct buffer *out, const char *name);
static bool put_payload(const struct wk_packet *p, unsigned field, struct wk_keys *keys, struct buffer *out,
                        bool *fault_out);
static const char *open_payload(const struct wk_packet *p, unsigned field, struct wk_keys *keys, uint8_t *out,
                                size_t *len_out);
static bool is_one_json_value(uint8_t *text, size_t len);
static struct members members_of(uint8_t *json, size_t len);
static bool member_next(struct members *m, struct member *out);
static uint8_t *string_end(uint8_t *p);
static uint8_t *value_end(uint8_t *p, const uint8_t *end);
static bool key_is(const struct member *m, const char *name);
static unsigned type_of(uint8_t *json, size_t len);
static bool may_write(enum wk_side side, unsigned type);
static const char *get_flags(const struct member *m, struct wk_packet *out);
static const char *get_row(const struct member *m, const struct wk_row *row, struct wk_packet *out);
static const char *get_base64(const struct member *m, struct wk_text *out);
static bool get_integer(const struct member *m, unsigned wire, uint64_t *out);
static struct wk_text unescaped(struct wk_text raw);
static const char *missing(const struct wk_packet *p);

bool wk_json_write(const struct wk_packet *p, struct wk_keys *keys, struct buffer *out, bool *fault_out)
{
    size_t count;
    const struct wk_row *rows = wk_layout(p->type, &count);
    *fault_out = false;
    if (!buffer_printf(out, "{\"packet\":\"%s\"", wk_type_name(p->type))) return false;
    if (p->type != WK_CONNACK && !put_flags(p, out)) return false;
    if (p->type == WK_CONNACK && !buffer_printf(out, ",\"encrypted\":%s", keys ? "true" : "false")) return false;
    for (size_t i = 0; i < count; i++) {
        unsigned field = rows[i].field;
        const char *name = wk_field_name(field);
        if (!wk_has(p, field)) continue;
        switch (wk_field_form(field)) {
        case WK_NUMBER:
        case WK_ID:
            if (!put_number(out, name, p->number[field], wk_field_form(field) == WK_ID)) return false;
            break;
        case WK_TEXT:
            if (!put_name(out, name) ||
                !text_json_string(out, p->text[field].len ? (const void *)p->text[field].at : "", p->text[field].len)) {
                return false;
            }
            break;
        case WK_HIDDEN: break;
        case WK_PAYLOAD:
            if (!put_payload(p, field, keys, out, fault_out)) return false;
            break;
        }
    }
    return buffer_append_char(out, '}');
}

bool wk_json_read(uint8_t *json, size_t len, enum wk_side side, struct wk_packet *out, char *why,
                  size_t why_bytes)
{
    struct member m;
    memset(out, 0, sizeof *out);
    if (why_bytes) why[0] = 0;
    if (json_scan(json, len, NULL, NULL, NULL) != JSON_OK) {
        snprintf(why, why_bytes, "not valid JSON");
        return false;
    }
    unsigned type = type_of(json, len);
    if (type == 0) {
        snprintf(why, why_bytes, "`packet` must name a packet, such as \"send\"");
        return false;
    }
    if (!may_write(side, type)) {
        snprintf(why, why_bytes, "%s is no packet that a %s sends", wk_type_name(type),
                 side == WK_CLIENT ? "client" : "server");
        return false;
    }
    out->type = (uint8_t)type;
    size_t count;
    const struct wk_row *rows = wk_layout(type, &count);
    struct members all = members_of(json, len);
    while (member_next(&all, &m)) {
        const char *wrong = "no such member in this packet";
        if (key_is(&m, "packet")) continue;
        if (key_is(&m, "flags") && type != WK_CONNACK) wrong = get_flags(&m, out);
        for (size_t i = 0; i < count; i++) {
            unsigned field = rows[i].field;
            const char *name = wk_field_name(field);
            enum wk_form form = wk_field_form(field);
            if (form == WK_HIDDEN && side == WK_CLIENT) continue;
            if (key_is(&m, name)) {
                wrong = get_row(&m, &rows[i], out);
            } else if (form == WK_PAYLOAD && m.key.len == strlen(name) + 7 &&
                       memcmp(m.key.at, name, strlen(name)) == 0 && memcmp(m.key.at + strlen(name), "_base64", 7) == 0) {
                wrong = get_base64(&m, &out->text[field]);
            } else {
                continue;
            }
            out->have |= (uint64_t)1 << field;
        }
        if (wrong) {
            snprintf(why, why_bytes, "%s: `%.*s`: %s", wk_type_name(type), (int)(m.key.len < 40 ? m.key.len : 40),
                     (const char *)m.key.at, wrong);
            return false;
        }
    }
    const char *absent = missing(out);
    if (absent) {
        snprintf(why, why_bytes, "%s: `%s` is missing", wk_type_name(type), absent);
        return false;
    }
    /* The platform reads two of an acknowledgement's flags; the others of the message are not its business. */
    if (type == WK_RECVACK) out->flags &= WK_FLAG_SYNC_ONCE | WK_FLAG_NO_PERSIST;
    return true;
}

/* --- writing ------------------------------------------------------------------------------------------ */

static bool put_flags(const struct wk_packet *p, struct buffer *out)
{
    const char *before = "";
    if (!buffer_append_text(out, ",\"flags\":{")) return false;
    for (size_t i = 0; i < FLAG_COUNT; i++) {
        if (!(p->flags & flag_names[i].bit)) continue;
        if (!buffer_printf(out, "%s\"%s\":true", before, flag_names[i].name)) return false;
        before = ",";
    }
    return buffer_append_char(out, '}');
}

static bool put_number(struct buffer *out, const char *name, uint64_t number, bool id)
{
    char digits[WK_DECIMAL_BYTES];
    int64_t n = (int64_t)number;
    bool quoted = id || n > EXACT_MAX || n < -EXACT_MAX;
    return put_name(out, name) && (!quoted || buffer_append_char(out, '"')) &&
           buffer_append(out, digits, wk_decimal(number, digits)) && (!quoted || buffer_append_char(out, '"'));
}

static bool put_name(struct buffer *out, const char *name)
{
    return buffer_append(out, ",\"", 2) && buffer_append_text(out, name) && buffer_append(out, "\":", 2);
}

/* Decrypted right behind the place where it will stand, so that it is moved once and copied never. */
static bool put_payload(const struct wk_packet *p, unsigned field, struct wk_keys *keys, struct buffer *out,
                        bool *fault_out)
{
    const char *name = wk_field_name(field);
    size_t wire_len = p->text[field].len, len = 0, room = BASE64_TEXT_BYTES(wire_len) + NAMES_BYTES;
    if (!buffer_reserve(out, room + wire_len + 2)) return false;
    uint8_t *plain = out->data + out->len + room;
    const char *fault = open_payload(p, field, keys, plain + 1, &len);
    bool inlined = !(fault && strcmp(fault, "payload") == 0) && is_one_json_value(plain, len);
    plain++;
    *fault_out = fault != NULL;
    /* None of this allocates: it was reserved, and `plain` must not move. */
    size_t capacity = out->capacity;
    bool ok = !fault || buffer_printf(out, ",\"fault\":\"%s\"", fault);
    if (inlined) {
        ok = ok && put_name(out, name);
        if (ok) memmove(out->data + out->len, plain, len);
        out->len += len;
    } else {
        ok = ok && buffer_printf(out, ",\"%s_base64\":\"", name);
        if (ok) out->len += base64_encode(plain, len, (char *)out->data + out->len);
        ok = ok && buffer_append_char(out, '"');
    }
    ASSERT(ok && out->capacity == capacity);
    return ok;
}

/* The payload as the sender wrote it, or its wire bytes when that cannot be told; returns the fault. */
static const char *open_payload(const struct wk_packet *p, unsigned field, struct wk_keys *keys, uint8_t *out,
                                size_t *len_out)
{
    const struct wk_text *wire = &p->text[field];
    const struct wk_text *key = &p->text[WK_F_MSG_KEY];
    char expected[WK_MSG_KEY_BYTES];
    /* The stable server encrypts whatever the setting says, the rebuilt one does not: only trying tells. */
    bool maybe_plain = p->number[WK_F_SETTING] & WK_SETTING_PLAIN;
    *len_out = wire->len;
    if (keys && field == WK_F_PAYLOAD) {
        if (wk_open(keys, wire->at, wire->len, out, len_out)) {
            bool fits = wk_sign(keys, p, expected) && key->len == sizeof expected &&
                        memcmp(key->at, expected, sizeof expected) == 0;
            return fits ? NULL : "msg_key";
        }
        *len_out = wire->len;
    }
    if (wire->len) memcpy(out, wire->at, wire->len);
    return keys && field == WK_F_PAYLOAD && !maybe_plain ? "payload" : NULL;
}

/* `text`: a byte before and one after it are free. */
static bool is_one_json_value(uint8_t *text, size_t len)
{
    if (len == 0 || json_scan(text + 1, len, NULL, NULL, NULL) != JSON_OK) return false;
    if (len < 2 * JSON_DEPTH_MAX - 1) return true;
    /* One level deeper it may be too deep for the packet's own scan. */
    text[0] = '[';
    text[len + 1] = ']';
    return json_scan(text, len + 2, NULL, NULL, NULL) == JSON_OK;
}

/* --- reading ------------------------------------------------------------------------------------------ */

static unsigned type_of(uint8_t *json, size_t len)
{
    struct members all = members_of(json, len);
    struct member m;
    unsigned type = 0;
    while (member_next(&all, &m)) {
        if (!key_is(&m, "packet")) continue;
        type = 0;
        for (unsigned t = 1; m.kind == STRING && t < WK_TYPE_COUNT; t++) {
            const char *name = wk_type_name(t);
            if (m.value.len == strlen(name) && memcmp(m.value.at, name, m.value.len) == 0) type = t;
        }
    }
    return type;
}

static bool may_write(enum wk_side side, unsigned type)
{
    const unsigned client = 1u << WK_CONNECT | 1u << WK_SEND | 1u << WK_RECVACK | 1u << WK_PING | 1u << WK_SUB;
    return (client >> type & 1) == (side == WK_CLIENT);
}

static const char *get_flags(const struct member *m, struct wk_packet *out)
{
    static const char wrong[] = "an object of dup, sync_once, red_dot, no_persist expected";
    if (m->kind != OBJECT) return wrong;
    struct members all = members_of((uint8_t *)m->value.at, m->value.len);
    struct member flag;
    while (member_next(&all, &flag)) {
        bool known = false, on = flag.value.len == 4 && memcmp(flag.value.at, "true", 4) == 0;
        bool off = flag.value.len == 5 && memcmp(flag.value.at, "false", 5) == 0;
        for (size_t i = 0; i < FLAG_COUNT; i++) {
            if (!key_is(&flag, flag_names[i].name)) continue;
            known = true;
            out->flags = (uint8_t)(on ? out->flags | flag_names[i].bit : out->flags & ~flag_names[i].bit);
        }
        if (!known || flag.kind != OTHER || !(on || off)) return wrong;
    }
    return NULL;
}

static const char *get_row(const struct member *m, const struct wk_row *row, struct wk_packet *out)
{
    if (row->wire == WK_REST) {
        /* The value itself; of a string with its quotes. */
        out->text[row->field] = m->value;
        if (m->kind == STRING) out->text[row->field] = (struct wk_text){ m->value.at - 1, m->value.len + 2 };
        return NULL;
    }
    if (row->wire == WK_STR) {
        if (m->kind != STRING) return "a string expected";
        out->text[row->field] = unescaped(m->value);
        return NULL;
    }
    return get_integer(m, row->wire, &out->number[row->field]) ? NULL : "an integer in its range expected";
}

static const char *get_base64(const struct member *m, struct wk_text *out)
{
    size_t len = 0;
    uint8_t *at = (uint8_t *)m->value.at; /* in place: the text is longer than what it says */
    if (m->kind != STRING || !base64_decode((const char *)at, m->value.len, at, m->value.len, &len)) {
        return "base64 expected";
    }
    *out = (struct wk_text){ at, len };
    return NULL;
}

/* A number, or a decimal string, because identifiers beyond 2^53 come as such. */
static bool get_integer(const struct member *m, unsigned wire, uint64_t *out)
{
    const uint8_t *p = m->value.at, *end = p + m->value.len;
    bool negative = p < end && *p == '-';
    uint64_t n = 0;
    if (m->kind == OBJECT) return false;
    if (negative) p++;
    if (p == end || end - p > 20) return false;
    for (; p < end; p++) {
        unsigned digit = (unsigned)(*p - '0');
        if (digit > 9 || n > (UINT64_MAX - digit) / 10) return false;
        n = n * 10 + digit;
    }
    uint64_t most = wire == WK_U8 ? UINT8_MAX : wire == WK_U32 ? UINT32_MAX : wire == WK_I32 ? INT32_MAX
                    : wire == WK_I64 ? INT64_MAX : UINT64_MAX;
    bool has_sign = wire == WK_I32 || wire == WK_I64;
    if (negative ? !has_sign || n > most + 1 : n > most) return false;
    *out = negative ? (uint64_t)0 - n : n;
    return true;
}

/* In place: a decoded string is never longer. */
static struct wk_text unescaped(struct wk_text raw)
{
    uint8_t *begin = (uint8_t *)raw.at, *to = begin;
    const uint8_t *at = raw.at, *end = raw.at + raw.len;
    while (at < end) {
        if (*at != '\\') {
            *to++ = *at++;
            continue;
        }
        uint8_t bytes[4];
        size_t n = json__unescape(&at, end, bytes);
        memcpy(to, bytes, n);
        to += n;
    }
    return (struct wk_text){ begin, (size_t)(to - begin) };
}

static const char *missing(const struct wk_packet *p)
{
    static const struct {
        uint8_t type, field;
    } needed[] = {
        { WK_CONNECT, WK_F_VERSION },    { WK_CONNECT, WK_F_UID },        { WK_CONNECT, WK_F_TOKEN },
        { WK_CONNECT, WK_F_DEVICE_ID },  { WK_SEND, WK_F_CHANNEL_ID },    { WK_SEND, WK_F_CHANNEL_TYPE },
        { WK_SEND, WK_F_PAYLOAD },       { WK_RECVACK, WK_F_MESSAGE_ID }, { WK_RECVACK, WK_F_MESSAGE_SEQ },
        { WK_SUB, WK_F_CHANNEL_ID },     { WK_CONNACK, WK_F_REASON_CODE }, { WK_RECV, WK_F_MESSAGE_ID },
    };
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        if (needed[i].type == p->type && !wk_has(p, needed[i].field)) return wk_field_name(needed[i].field);
    }
    return NULL;
}

/* --- members of an object whose syntax was checked ------------------------------------------------------ */

static uint8_t *spaces_end(uint8_t *p, const uint8_t *end)
{
    while (p < end && *p <= ' ') p++;
    return p;
}

static struct members members_of(uint8_t *json, size_t len)
{
    struct members m = { json, json + len };
    m.at = spaces_end(m.at, m.end);
    if (m.at == m.end || *m.at != '{') m.at = m.end; /* no object, no members */
    else m.at++;
    return m;
}

static bool member_next(struct members *m, struct member *out)
{
    m->at = spaces_end(m->at, m->end);
    if (m->at < m->end && *m->at == ',') m->at = spaces_end(m->at + 1, m->end);
    if (m->at == m->end || *m->at == '}') return false;
    ASSERT(*m->at == '"');
    uint8_t *close = string_end(m->at);
    out->key = (struct wk_text){ m->at + 1, (size_t)(close - m->at) - 1 };
    uint8_t *value = spaces_end(close + 1, m->end);
    ASSERT(*value == ':');
    value = spaces_end(value + 1, m->end);
    ASSERT(value < m->end);
    m->at = value_end(value, m->end);
    out->kind = *value == '"' ? STRING : *value == '{' || *value == '[' ? OBJECT : OTHER;
    out->value = out->kind == STRING ? (struct wk_text){ value + 1, (size_t)(m->at - value) - 2 }
                                     : (struct wk_text){ value, (size_t)(m->at - value) };
    return true;
}

/* The closing quote of the string that begins at `p`. */
static uint8_t *string_end(uint8_t *p)
{
    for (p++; *p != '"'; p++) {
        if (*p == '\\') p++;
    }
    return p;
}

/* Behind the value that begins at `p`. */
static uint8_t *value_end(uint8_t *p, const uint8_t *end)
{
    size_t depth = 0;
    for (; p < end; p++) {
        if (*p == '"') {
            p = string_end(p);
        } else if (*p == '{' || *p == '[') {
            depth++;
        } else if (*p == '}' || *p == ']') {
            if (depth == 0) return p;
            depth--;
        } else {
            if (depth == 0 && (*p == ',' || *p <= ' ')) return p;
            continue;
        }
        if (depth == 0) return p + 1;
    }
    return p;
}

static bool key_is(const struct member *m, const char *name)
{
    return m->key.len == strlen(name) && memcmp(m->key.at, name, m->key.len) == 0;
}
