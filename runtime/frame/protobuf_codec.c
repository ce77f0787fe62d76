/* The protobuf codec of one link: one packet a message, JSON by the policy's layout. Keeps the bytes of the
 * last packet and its JSON, nothing else. */
#include <stdio.h>
#include <stdlib.h>

#include "frame/codec.h"
#include "frame/protobuf.h"

#define KEPT_BYTES 65536
#define JSON_EXTRA_BYTES 4096

struct protobuf_codec {
    struct codec base;
    struct buffer raw, json, whole; /* owned */
    bool waiting;                   /* `raw` was not yielded yet */
};

static struct codec *create(const struct frame_rules *rules)
{
    struct protobuf_codec *p = rules->layout ? calloc(1, sizeof *p) : NULL;
    if (!p) return NULL;
    p->base.ops = codec_ops_of(CODEC_PROTOBUF);
    buffer_init(&p->raw, 0);
    buffer_init(&p->json, 0);
    buffer_init(&p->whole, 0);
    return &p->base;
}

static void destroy(struct codec *c)
{
    struct protobuf_codec *p = (struct protobuf_codec *)c;
    buffer_deinit(&p->raw);
    buffer_deinit(&p->json);
    buffer_deinit(&p->whole);
    free(p);
}

static void forget(struct buffer *b)
{
    buffer_clear(b);
    buffer_trim(b, KEPT_BYTES);
}

static bool feed(struct codec *c, const struct frame_rules *rules, const uint8_t *bytes, size_t len)
{
    struct protobuf_codec *p = (struct protobuf_codec *)c;
    forget(&p->raw);
    forget(&p->whole);
    if (len > rules->message_bytes_max || !buffer_append(&p->raw, bytes, len)) return false;
    p->waiting = true;
    return true;
}

static void fill(struct protobuf_codec *p, const struct frame_rules *rules, struct buffer *packet,
                 struct codec_item *item)
{
    forget(&p->json);
    /* Base64 and escapes take more room than what they stand for. */
    p->json.bytes_max = (size_t)rules->message_bytes_max * 2 + JSON_EXTRA_BYTES;
    enum protobuf_result result = protobuf_to_json(rules->layout, packet->data, packet->len, &p->json);
    *item = (struct codec_item){ .raw = packet->data, .raw_len = packet->len };
    if (result == PROTOBUF_OK) {
        item->json = p->json.data;
        item->json_len = p->json.len;
    } else {
        item->why = result == PROTOBUF_TOO_BIG ? "too long as JSON" : "no message of the policy's layout";
    }
}

static enum codec_result next(struct codec *c, const struct frame_rules *rules, struct codec_item *item)
{
    struct protobuf_codec *p = (struct protobuf_codec *)c;
    if (!p->waiting) return CODEC_MORE;
    p->waiting = false;
    fill(p, rules, &p->raw, item);
    return CODEC_PACKET;
}

static bool encode(struct codec *c, const struct frame_rules *rules, uint8_t *json, size_t len,
                   struct buffer *out, char *why, size_t why_bytes)
{
    const char *reason;
    (void)c;
    if (protobuf_from_json(rules->layout, json, len, out, &reason) == PROTOBUF_OK) return true;
    snprintf(why, why_bytes, "%s", reason);
    return false;
}

static bool part(struct codec *c, const struct frame_rules *rules, const uint8_t **bytes, size_t *len)
{
    struct protobuf_codec *p = (struct protobuf_codec *)c;
    /* An empty field may be left out on the wire. */
    if (!protobuf_bytes(p->raw.data, p->raw.len, rules->join.of, bytes, len)) *len = 0;
    return true;
}

static bool whole(struct codec *c, const struct frame_rules *rules, const uint8_t *bytes, size_t len,
                  struct codec_item *item)
{
    struct protobuf_codec *p = (struct protobuf_codec *)c;
    struct buffer field;
    buffer_init(&field, 0);
    struct protobuf_change change = { .number = rules->join.of, .kind = PROTOBUF_REPLACE };
    bool ok = protobuf_put_bytes(&field, rules->join.of, bytes, len);
    change.bytes = field.data;
    change.len = field.len;
    ok = ok && protobuf_echo(p->raw.data, p->raw.len, &change, 1, &p->whole) == PROTOBUF_OK;
    buffer_deinit(&field);
    if (!ok) return false;
    fill(p, rules, &p->whole, item);
    return true;
}

const struct codec_ops protobuf_codec_ops = {
    .create = create, .destroy = destroy, .feed = feed,   .next = next,
    .encode = encode, .part = part,       .whole = whole,
};
