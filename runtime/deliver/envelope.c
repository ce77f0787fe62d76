/* Envelope: builds lines. Text from outside is escaped here or was proven to be JSON by the frame
 * path; nothing else may put bytes between two line ends. */
#include "deliver/envelope.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "base/duration.h"
#include "base/text.h"
#include "crypto/digest.h"

static bool append_text(struct buffer *out, const char *key, const char *text);
static bool append_time(struct buffer *out, uint64_t wall_ms);
static bool append_clock(struct buffer *out, struct envelope_clock *clock, uint64_t wall_ms);
static bool append_take(struct buffer *out, const struct deliver_frame *frame);
static bool append_field(struct buffer *out, const struct field_value *v, bool is_json);
static bool field_is_shown(const struct field_value *v, bool is_json);
static bool string_body_is_json(const uint8_t *text, size_t len);
static bool append_base64(struct buffer *out, const void *data, size_t len);

/* Inlined, with a length that the compiler knows: a line is made of some twenty of these. */
#define LITERAL(out, text) put(out, text, sizeof(text) - 1)
static inline bool put(struct buffer *out, const void *data, size_t len)
{
    if (len > out->capacity - out->len) return buffer_append(out, data, len);
    memcpy(out->data + out->len, data, len);
    out->len += len;
    return true;
}

bool envelope_event_head(struct buffer *out, const char *connection, uint64_t epoch)
{
    return LITERAL(out, "{\"event\":{\"connection\":") &&
           text_json_string(out, connection, strlen(connection)) &&
           buffer_printf(out, ",\"epoch\":%" PRIu64 ",\"offset\":", epoch);
}

bool envelope_event(struct buffer *out, struct envelope_clock *clock, const char *head,
                    size_t head_len, uint64_t offset, const struct deliver_frame *frame)
{
    /* One growth at most: the frame and its fields may both be long. */
    if (!buffer_reserve(out, head_len + frame->len + ENVELOPE_BYTES_MIN)) return false;
    bool ok = put(out, head, head_len) && buffer_append_decimal(out, (int64_t)offset) &&
              LITERAL(out, ",\"at\":") && append_clock(out, clock, frame->wall_ms);
    if (ok && frame->fields && frame->rules) ok = append_take(out, frame);
    if (!ok) return false;
    if (frame->json && !frame->malformed) {
        return LITERAL(out, ",\"frame\":") && put(out, frame->data, frame->len) &&
               LITERAL(out, "}}\n");
    }
    ok = LITERAL(out, ",\"frame_base64\":") && append_base64(out, frame->data, frame->len);
    if (ok && frame->malformed) ok = LITERAL(out, ",\"malformed\":true");
    return ok && LITERAL(out, "}}\n");
}

bool envelope_gap(struct buffer *out, const struct envelope_gap *gap)
{
    return LITERAL(out, "{\"gap\":{") && append_text(out, "connection", gap->connection) &&
           buffer_printf(out, ",\"epoch\":%" PRIu64 ",\"after\":%" PRIu64 ",\"from\":", gap->epoch,
                         gap->after) &&
           append_time(out, gap->from_wall_ms) && LITERAL(out, ",\"to\":") &&
           append_time(out, gap->to_wall_ms) && LITERAL(out, ",") &&
           append_text(out, "cause", gap->cause) &&
           buffer_printf(out, ",\"certain\":%s}}\n", gap->certain ? "true" : "false");
}

bool envelope_state(struct buffer *out, const char *connection, const struct deliver_state *state)
{
    bool ok = LITERAL(out, "{\"state\":{") && append_text(out, "connection", connection) &&
              LITERAL(out, ",") && append_text(out, "state", conn_state_name(state->state)) &&
              LITERAL(out, ",\"since\":") && append_time(out, state->since_wall_ms) &&
              LITERAL(out, ",\"attempt\":") && buffer_append_decimal(out, state->attempt) && LITERAL(out, ",\"cause\":") &&
              envelope_cause(out, state->cause) && LITERAL(out, ",\"next\":") &&
              append_time(out, state->next_wall_ms);
    if (ok && state->next && state->next[0])
        ok = LITERAL(out, ",") && append_text(out, "what", state->next);
    if (ok && state->budget) {
        ok = LITERAL(out, ",") && append_text(out, "budget", state->budget) && LITERAL(out, ",") &&
             append_text(out, "held_by", state->held_by);
        if (ok && state->left != UINT32_MAX) ok = buffer_printf(out, ",\"left\":%" PRIu32, state->left);
    }
    return ok && LITERAL(out, "}}\n");
}

bool envelope_hello(struct buffer *out, const char *consumer, const char *backlog)
{
    bool ok = LITERAL(out, "{\"hello\":{\"version\":1,\"consumer\":");
    ok =
        ok && (consumer ? text_json_string(out, consumer, strlen(consumer)) : LITERAL(out, "null"));
    return ok && LITERAL(out, ",") && append_text(out, "backlog", backlog) && LITERAL(out, "}}\n");
}

bool envelope_sent(struct buffer *out, const char *id)
{
    return LITERAL(out, "{\"sent\":{") && append_text(out, "id", id) && LITERAL(out, "}}\n");
}

bool envelope_refused(struct buffer *out, const char *id, const char *why, bool retry)
{
    return LITERAL(out, "{\"refused\":{") && append_text(out, "id", id) && LITERAL(out, ",") &&
           append_text(out, "why", why) &&
           buffer_printf(out, ",\"retry\":%s}}\n", retry ? "true" : "false");
}

bool envelope_error(struct buffer *out, const char *what, const char *expected)
{
    return LITERAL(out, "{\"error\":{") && append_text(out, "what", what) && LITERAL(out, ",") &&
           append_text(out, "expected", expected) && LITERAL(out, "}}\n");
}

bool envelope_cause(struct buffer *out, const struct cause *c)
{
    if (!c || c->kind == CAUSE_NONE) return LITERAL(out, "null");
    bool ok = LITERAL(out, "{") && append_text(out, "stage", stage_name(c->stage)) &&
              LITERAL(out, ",") && append_text(out, "kind", cause_kind_name(c->kind)) &&
              LITERAL(out, ",") && append_text(out, "name", c->name) && LITERAL(out, ",") &&
              append_text(out, "by", cause_by_name(c->by));
    if (ok && c->close_code != CLOSE_CODE_NONE)
        ok = LITERAL(out, ",\"close_code\":") && buffer_append_decimal(out, c->close_code);
    if (ok && c->http_status) ok = LITERAL(out, ",\"http_status\":") && buffer_append_decimal(out, c->http_status);
    if (ok && c->code) ok = LITERAL(out, ",\"code\":") && buffer_append_decimal(out, c->code);
    if (ok && c->retry_after_ms != RETRY_AFTER_NONE)
        ok = LITERAL(out, ",\"retry_after_ms\":") && buffer_append_decimal(out, (int64_t)c->retry_after_ms);
    if (ok && c->age_ms) ok = LITERAL(out, ",\"age_ms\":") && buffer_append_decimal(out, (int64_t)c->age_ms);
    if (ok && c->session) ok = LITERAL(out, ",\"session\":true");
    if (ok && c->reason[0]) ok = LITERAL(out, ",") && append_text(out, "reason", c->reason);
    return ok && LITERAL(out, "}");
}

static bool append_text(struct buffer *out, const char *key, const char *text)
{
    return buffer_append_char(out, '"') && buffer_append_text(out, key) && LITERAL(out, "\":") &&
           text_json_string(out, text, strlen(text));
}

static bool append_time(struct buffer *out, uint64_t wall_ms)
{
    char text[TIMESTAMP_TEXT_MAX];
    if (wall_ms == 0) return LITERAL(out, "null");
    timestamp_format(wall_ms, text);
    return buffer_append_char(out, '"') && buffer_append_text(out, text) &&
           buffer_append_char(out, '"');
}

/* As append_time(), with the calendar's part kept from the last call. */
static bool append_clock(struct buffer *out, struct envelope_clock *clock, uint64_t wall_ms)
{
    unsigned ms = (unsigned)(wall_ms % 1000);
    if (wall_ms == 0) return append_time(out, 0);
    if (wall_ms / 1000 != clock->second) {
        char text[TIMESTAMP_TEXT_MAX];
        timestamp_format(wall_ms, text);
        char *dot = strrchr(text, '.');
        ASSERT(dot != NULL);
        size_t len = (size_t)(dot - text) + 1;
        memcpy(clock->text, text, len);
        clock->len = len;
        clock->second = wall_ms / 1000;
    }
    char rest[] = { (char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), 'Z',
                    '"' };
    return LITERAL(out, "\"") && put(out, clock->text, clock->len) && put(out, rest, sizeof rest);
}

static bool append_take(struct buffer *out, const struct deliver_frame *frame)
{
    bool is_json = frame->json && !frame->malformed;
    bool first = true;
    bool ok = LITERAL(out, ",\"take\":{");
    for (uint32_t i = 0; ok && i < frame->rules->field_count; i++) {
        const struct field_value *v = &frame->fields[i];
        if (!field_is_shown(v, is_json)) continue;
        const char *name = frame->rules->fields[i].name;
        const size_t plain_len = frame->rules->fields[i].plain_len;
        ok = (first || LITERAL(out, ",")) &&
             (plain_len ? LITERAL(out, "\"") && put(out, name, plain_len) && LITERAL(out, "\":")
                        : text_json_string(out, name, strlen(name)) && LITERAL(out, ":")) &&
             append_field(out, v, is_json);
        first = false;
    }
    return ok && LITERAL(out, "}");
}

/* Objects and lists stand in the frame itself: here they would double every line of a policy that takes
 * a payload's key for the few frames where it is a scalar. Of a text that is not JSON only those
 * scalars are shown that we can write anew. */
static bool field_is_shown(const struct field_value *v, bool is_json)
{
    if (v->kind == FIELD_ABSENT || v->kind == FIELD_OTHER) return false;
    return is_json || v->kind != FIELD_NUMBER;
}

static bool append_field(struct buffer *out, const struct field_value *v, bool is_json)
{
    switch (v->kind) {
    case FIELD_ABSENT:
    case FIELD_OTHER: break;
    case FIELD_NULL: return LITERAL(out, "null");
    case FIELD_BOOL: return buffer_append_text(out, v->boolean ? "true" : "false");
    case FIELD_INTEGER: return buffer_append_decimal(out, v->integer);
    case FIELD_NUMBER: return buffer_append(out, v->text, v->len);
    case FIELD_STRING:
        if (!is_json && !string_body_is_json(v->text, v->len))
            return text_json_string(out, v->text, v->len);
        return LITERAL(out, "\"") && put(out, v->text, v->len) && LITERAL(out, "\"");
    }
    ASSERT(!"a field that is not shown");
    return false;
}

static bool string_body_is_json(const uint8_t *text, size_t len)
{
    if (!text_is_utf8(text, len)) return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < 0x20 || text[i] == '"') return false;
        if (text[i] != '\\') continue;
        if (++i == len || !memchr("\"\\/bfnrtu", text[i], 9)) return false;
        if (text[i] != 'u') continue;
        for (int k = 0; k < 4; k++) {
            if (++i == len || !memchr("0123456789abcdefABCDEF", text[i], 22)) return false;
        }
    }
    return true;
}

static bool append_base64(struct buffer *out, const void *data, size_t len)
{
    if (len > SIZE_MAX / 2 || !buffer_reserve(out, BASE64_TEXT_BYTES(len) + 3)) return false;
    out->data[out->len++] = '"';
    out->len += base64_encode(data, len, (char *)out->data + out->len);
    out->data[out->len++] = '"';
    return true;
}
