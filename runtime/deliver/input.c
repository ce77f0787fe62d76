/* Input: the lines that consumers write. Every byte is hostile: a line is bounded, checked to its
 * end as JSON before anything in it is believed, and a bad one is answered and costs nothing else.
 */
#include <string.h>

#include "crypto/digest.h"
#include "deliver/deliver_internal.h"
#include "deliver/envelope.h"

/* What is lifted out of a line. Order and number are those of the paths in input__init(). */
enum item {
    ACK, ACK_CONNECTION, ACK_EPOCH, ACK_OFFSET, ACK_FRAME, ACK_BASE64,
    SEND, SEND_ID, SEND_CONNECTION, SEND_FRAME, SEND_BASE64, ITEM_COUNT
};
static const char *const item_paths[ITEM_COUNT] = {
    "ack", "ack.connection", "ack.epoch", "ack.offset", "ack.frame", "ack.frame_base64",
    "send", "send.id", "send.connection", "send.frame", "send.frame_base64",
};

/* Who wrote the lines: an attachment, or a POST in the name of a consumer. */
struct writer {
    struct attachment *a;    /* or NULL */
    struct consumer *consumer;
    struct buffer *errors;   /* instead of answers, when there is no attachment */
    uint32_t acks;
};

static void line_take(struct deliver *d, struct writer *w, uint8_t *line, size_t len);
static void take_ack(struct deliver *d, struct writer *w, const struct field_value *items);
static void take_send(struct deliver *d, struct writer *w, const struct field_value *items);
static const char *payload_find(struct deliver *d, const struct field_value *json,
                                const struct field_value *base64, const uint8_t **data, size_t *len,
                                bool *text);
static bool name_get(const struct field_value *v, char *out, size_t out_bytes);
static void complain(struct deliver *d, struct writer *w, const char *what, const char *expected);

bool input__init(struct deliver *d)
{
    struct frame_rules rules;
    _Static_assert(ITEM_COUNT <= FIELDS_MAX, "all items fit one scan");
    memset(&rules, 0, sizeof rules);
    rules.field_count = ITEM_COUNT;
    for (int i = 0; i < ITEM_COUNT; i++) {
        memcpy(rules.fields[i].path, item_paths[i], strlen(item_paths[i]) + 1);
        memcpy(rules.fields[i].name, item_paths[i], strlen(item_paths[i]) + 1);
    }
    return json_paths_init(&d->input_paths, &rules);
}

void deliver_input(struct deliver *d, struct handle consumer, const void *bytes, size_t len)
{
    struct attachment *a = attachment__get(d, consumer);
    const uint8_t *at = bytes;
    while (a && len > 0) {
        const uint8_t *end = memchr(at, '\n', len);
        size_t part = end ? (size_t)(end - at) + 1 : len;
        struct writer w = { .a = a, .consumer = a->consumer };
        if (!a->input_skips && !buffer_append(&a->input, at, part)) {
            a->input_skips = true;
            buffer_clear(&a->input);
            complain(d, &w, "the line is too long", "at most 1 MiB");
        }
        if (end && !a->input_skips) {
            line_take(d, &w, a->input.data, a->input.len - 1);
            /* A port that answers may have let the attachment go. */
            a = attachment__get(d, consumer);
        }
        if (a && end) {
            a->input_skips = false;
            buffer_clear(&a->input);
            buffer_trim(&a->input, 4096);
        }
        at += part;
        len -= part;
    }
}

uint32_t deliver_ack_lines(struct deliver *d, const char *consumer, const void *bytes, size_t len,
                           struct buffer *errors, bool *known)
{
    struct writer w = { .consumer = consumer__find(d, consumer), .errors = errors };
    *known = w.consumer != NULL;
    const uint8_t *at = bytes;
    struct buffer line;
    buffer_init(&line, DELIVER_LINE_BYTES_MAX);
    while (w.consumer && len > 0) {
        const uint8_t *end = memchr(at, '\n', len);
        size_t part = end ? (size_t)(end - at) : len;
        buffer_clear(&line);
        if (!buffer_append(&line, at, part))
            complain(d, &w, "the line is too long", "at most 1 MiB");
        else line_take(d, &w, line.data, line.len);
        part += end ? 1 : 0;
        at += part;
        len -= part;
    }
    buffer_deinit(&line);
    return w.acks;
}

static void line_take(struct deliver *d, struct writer *w, uint8_t *line, size_t len)
{
    struct field_value items[ITEM_COUNT];
    size_t fault;
    if (len > 0 && line[len - 1] == '\r') len--;
    if (len == 0) return;
    memset(items, 0, sizeof items);
    if (json_scan(line, len, &d->input_paths, items, &fault) != JSON_OK) {
        complain(d, w, "the line is not JSON", "one JSON object per line");
    } else if (items[ACK].kind == FIELD_OTHER && items[SEND].kind == FIELD_ABSENT) {
        take_ack(d, w, items);
    } else if (items[SEND].kind == FIELD_OTHER && items[ACK].kind == FIELD_ABSENT) {
        take_send(d, w, items);
    } else {
        complain(d, w, "the line says nothing known", "{\"ack\":{...}} or {\"send\":{...}}");
    }
}

static void take_ack(struct deliver *d, struct writer *w, const struct field_value *items)
{
    static const char expected[] = "{\"ack\":{\"connection\":\"...\",\"epoch\":N,\"offset\":N}}";
    const struct field_value *epoch = &items[ACK_EPOCH], *offset = &items[ACK_OFFSET];
    char connection[NAME_BYTES];
    const uint8_t *data = NULL;
    size_t len = 0;
    bool text = false;
    const char *why = NULL;
    if (!name_get(&items[ACK_CONNECTION], connection, sizeof connection))
        why = "ack.connection is no connection's name";
    else if (epoch->kind != FIELD_INTEGER || epoch->integer < 0) why = "ack.epoch is no count";
    else if (offset->kind != FIELD_INTEGER || offset->integer < 0) why = "ack.offset is no count";
    if (why) {
        complain(d, w, why, expected);
        return;
    }
    bool replies = items[ACK_FRAME].kind != FIELD_ABSENT || items[ACK_BASE64].kind != FIELD_ABSENT;
    struct position at = { (uint64_t)epoch->integer, (uint64_t)offset->integer };
    uint64_t acked = 0;
    struct sub *sub = consumer__ack_find(d, w->consumer, connection, at, &acked, &why);
    if (!why && replies) {
        why = payload_find(d, &items[ACK_FRAME], &items[ACK_BASE64], &data, &len, &text);
        if (!why && !d->port.reply) why = "no connection here takes a reply with its ack";
    }
    if (why) {
        complain(d, w, why, expected);
        return;
    }
    w->acks++;
    if (!sub) return;
    if (replies) {
        d->port.reply(d->port.self, sub->stream->name, w->consumer->name, at.epoch, at.offset, data,
                      len, text);
    }
    sub__ack(d, sub, acked);
}

static void take_send(struct deliver *d, struct writer *w, const struct field_value *items)
{
    static const char expected[] =
        "{\"send\":{\"id\":\"...\",\"connection\":\"...\",\"frame\":...}} or \"frame_base64\"";
    char connection[NAME_BYTES], id[SEND_ID_BYTES];
    const uint8_t *data;
    size_t len;
    bool text;
    const char *why = NULL;
    if (!w->a) why = "a send needs an attachment, or POST /v1/connections/NAME/send";
    else if (!name_get(&items[SEND_ID], id, sizeof id))
        why = "send.id is no text of 1 to 128 bytes";
    if (why) {
        complain(d, w, why, expected);
        return;
    }
    /* From here on it has an id, and the answer carries it. */
    if (!name_get(&items[SEND_CONNECTION], connection, sizeof connection))
        why = "send.connection is no connection's name";
    else why = payload_find(d, &items[SEND_FRAME], &items[SEND_BASE64], &data, &len, &text);
    if (why) {
        buffer_clear(&d->scratch);
        if (envelope_refused(&d->scratch, id, why, false)) attachment__answer(d, w->a, &d->scratch);
        return;
    }
    send__from_consumer(d, w->a, id, connection, data, len, text);
}

/* NULL, or what is wrong. JSON is taken as it stands in the line, quotes of a string included. */
static const char *payload_find(struct deliver *d, const struct field_value *json,
                                const struct field_value *base64, const uint8_t **data, size_t *len,
                                bool *text)
{
    if (json->kind != FIELD_ABSENT) {
        if (base64->kind != FIELD_ABSENT) return "frame and frame_base64 exclude each other";
        size_t quote = json->kind == FIELD_STRING;
        *data = json->text - quote;
        *len = json->len + 2 * quote;
        *text = true;
        return NULL;
    }
    if (base64->kind == FIELD_ABSENT) return "there is neither frame nor frame_base64";
    buffer_clear(&d->decoded);
    bool ok = base64->kind == FIELD_STRING && !base64->escaped &&
              buffer_reserve(&d->decoded, base64->len + 1) &&
              base64_decode((const char *)base64->text, base64->len, d->decoded.data,
                            d->decoded.capacity, len);
    if (!ok) return "frame_base64 is not base64";
    *data = d->decoded.data;
    *text = false;
    return NULL;
}

/* A string of 1 to out_bytes - 1 bytes without NUL. */
static bool name_get(const struct field_value *v, char *out, size_t out_bytes)
{
    if (v->kind != FIELD_STRING) return false;
    long len = json_string_decode(v, out, out_bytes - 1);
    if (len <= 0 || memchr(out, 0, (size_t)len)) return false;
    out[len] = 0;
    return true;
}

static void complain(struct deliver *d, struct writer *w, const char *what, const char *expected)
{
    buffer_clear(&d->scratch);
    if (!envelope_error(&d->scratch, what, expected)) return;
    if (w->a) attachment__answer(d, w->a, &d->scratch);
    else buffer_append(w->errors, d->scratch.data, d->scratch.len);
}
