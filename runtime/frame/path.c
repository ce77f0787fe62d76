/* The frame path of one link: glues framing, decompression, the scanner and the rules. Owns the
 * decoder and the decompressor; the rules are shared. Copies no payload and decides nothing: what a
 * matched rule means is the caller's business. */
#include "frame/path.h"

#include <string.h>

#include "base/assert.h"

static bool codec_is_on(const struct frame_path *p);
static enum path_kind packet(struct frame_path *p, struct path_item *item);
static enum path_kind message(struct frame_path *p, struct path_item *item, bool from_codec, bool utf8);
static bool is_whole(struct frame_path *p, struct path_item *item);
static bool decompress(struct frame_path *p, const struct ws_item *from, struct path_item *item);
static enum path_kind ws_failed(const struct ws_item *from, struct path_item *item);
static void fields_clear(struct field_value *values, uint32_t count);

bool path_init(struct frame_path *p, const struct frame_rules *rules, enum inflate_mode mode)
{
    memset(p, 0, sizeof *p);
    if (!codec_is_known(rules->codec)) return false;
    const struct codec_ops *ops = codec_ops_of(rules->codec);
    if (ops) p->codec = ops->create(rules);
    if (ops && !p->codec) return false;
    if (mode != INFLATE_NONE) {
        p->inflate = inflate_create(mode, (size_t)rules->message_bytes_max);
        if (!p->inflate) {
            if (p->codec) p->codec->ops->destroy(p->codec);
            p->codec = NULL;
            return false;
        }
    }
    ws_decoder_init(&p->ws, WS_CLIENT, (size_t)rules->message_bytes_max);
    path_set_rules(p, rules);
    return true;
}

void path_deinit(struct frame_path *p)
{
    ws_decoder_deinit(&p->ws);
    inflate_destroy(p->inflate);
    if (p->codec) p->codec->ops->destroy(p->codec);
    join_destroy(p->join);
    memset(p, 0, sizeof *p);
}

void path_set_rules(struct frame_path *p, const struct frame_rules *rules)
{
    ASSERT(rules->paths || rules->field_count == 0); /* frame_rules_prepare() was forgotten */
    p->rules = rules;
    p->ws.message_bytes_max = (size_t)rules->message_bytes_max;
    p->ws.carry.bytes_max = (size_t)rules->message_bytes_max; /* else a raised limit would not hold */
}

enum path_kind path_next(struct frame_path *p, uint8_t *bytes, size_t len, size_t *consumed,
                         struct path_item *item)
{
    *consumed = 0;
    if (p->inflate) inflate_trim(p->inflate);
    item->error = PATH_ERROR_NONE;
    item->ws_error = WS_ERROR_NONE;
    item->why = NULL;
    item->fault = false;
    while (!p->over) {
        if (p->packets) {
            /* The last byte of their message was given back: it is at hand whenever this is. */
            if (len == *consumed) return item->kind = PATH_MORE;
            enum path_kind kind = packet(p, item);
            if (kind != PATH_MORE) return kind;
            *consumed += 1;
            continue;
        }
        struct ws_item ws;
        size_t taken = 0;
        enum ws_item_kind kind = ws_decode(&p->ws, bytes + *consumed, len - *consumed, &taken, &ws);
        *consumed += taken;
        ASSERT(*consumed <= len);
        if (kind == WS_ITEM_MORE) return item->kind = PATH_MORE;
        if (kind == WS_ITEM_ERROR) {
            p->over = true;
            return ws_failed(&ws, item);
        }
        item->data = ws.data;
        item->len = ws.len;
        item->text = ws.text;
        item->close_code = kind == WS_ITEM_CLOSE ? ws.close_code : 0;
        switch (kind) {
        case WS_ITEM_PING: return item->kind = PATH_PING;
        case WS_ITEM_PONG: return item->kind = PATH_PONG;
        case WS_ITEM_CLOSE: return item->kind = PATH_CLOSE;
        default: break;
        }
        if (p->inflate && !ws.text && !decompress(p, &ws, item)) {
            if (p->over) return item->kind = PATH_ERROR;
            continue; /* the rest of this message is still to come */
        }
        if (codec_is_on(p) && !item->text) {
            if (!p->codec->ops->feed(p->codec, p->rules, item->data, item->len)) {
                p->over = true;
                item->error = PATH_ERROR_TOO_BIG;
                item->error_close_code = 1009;
                return item->kind = PATH_ERROR;
            }
            ASSERT(*consumed > 0);
            *consumed -= 1;
            p->packets = true;
            continue;
        }
        item->raw = item->data;
        item->raw_len = item->len;
        return message(p, item, false, ws.text);
    }
    *consumed = len; /* after an error the rest means nothing */
    return item->kind = PATH_MORE;
}

enum json_result path_take(const struct frame_path *p, uint8_t *data, size_t len,
                           struct field_value values[FIELDS_MAX])
{
    fields_clear(values, FIELDS_MAX);
    if (p->rules->codec == CODEC_BYTES) return JSON_OK;
    return json_scan(data, len, p->rules->paths, values, NULL);
}

bool path_encodes(const struct frame_path *p)
{
    return codec_is_on(p);
}

bool path_joins(const struct frame_path *p)
{
    return codec_is_on(p) && p->codec->ops->joins;
}

bool path_encodable(const struct frame_rules *rules, uint8_t *json, size_t len, char *why,
                    size_t why_bytes)
{
    const struct codec_ops *ops = codec_ops_of(rules->codec);
    struct buffer out;
    if (!ops) return true;
    buffer_init(&out, 0);
    bool ok = ops->encode(NULL, rules, json, len, &out, why, why_bytes);
    if (out.data) explicit_bzero(out.data, out.len);
    buffer_deinit(&out);
    return ok;
}

bool path_encode(struct frame_path *p, uint8_t *json, size_t len, struct buffer *out, char *why,
                 size_t why_bytes)
{
    ASSERT(codec_is_on(p));
    return p->codec->ops->encode(p->codec, p->rules, json, len, out, why, why_bytes);
}

/* A reload may have brought rules of another codec: this link has no state for it. */
static bool codec_is_on(const struct frame_path *p)
{
    return p->codec && p->codec->ops == codec_ops_of(p->rules->codec);
}

/* Text for all that follows; what cannot be read goes on as the bytes it is. */
static enum path_kind packet_message(struct frame_path *p, const struct codec_item *from,
                                     struct path_item *item)
{
    item->raw = from->raw;
    item->raw_len = from->raw_len;
    item->fault = from->fault;
    item->text = from->json != NULL;
    item->data = from->json ? from->json : from->raw;
    item->len = from->json ? from->json_len : from->raw_len;
    return message(p, item, true, false);
}

/* The next packet of the message that the codec was fed with; MORE: that was the last. */
static enum path_kind packet(struct frame_path *p, struct path_item *item)
{
    struct codec_item from;
    memset(&from, 0, sizeof from);
    while (codec_is_on(p)) {
        enum codec_result result = p->codec->ops->next(p->codec, p->rules, &from);
        if (result == CODEC_MORE) break;
        if (result == CODEC_BAD) {
            p->over = true;
            item->data = NULL;
            item->len = 0;
            item->why = from.why;
            item->error = PATH_ERROR_PROTOCOL;
            item->error_close_code = 1002;
            return item->kind = PATH_ERROR;
        }
        packet_message(p, &from, item);
        if (!p->rules->join.on || !item->json || is_whole(p, item)) return PATH_MESSAGE;
    }
    p->packets = false;
    return PATH_MORE;
}

/* A count that a peer wrote as a number or as digits; -1 for all else. */
static int64_t part_number(const struct field_value *v)
{
    if (v->kind == FIELD_INTEGER) return v->integer;
    if (v->kind != FIELD_STRING || v->len == 0 || v->len > 9) return -1;
    int64_t n = 0;
    for (size_t i = 0; i < v->len; i++) {
        if (v->text[i] < '0' || v->text[i] > '9') return -1;
        n = n * 10 + (v->text[i] - '0');
    }
    return n;
}

/* False: a part, kept or refused. True: a whole message; one that its last part completed then is the item. */
static bool is_whole(struct frame_path *p, struct path_item *item)
{
    const struct frame_rules *r = p->rules;
    const struct codec_ops *ops = p->codec->ops;
    const struct field_value *count = &item->fields[r->join.count], *by = &item->fields[r->join.by];
    if (count->kind == FIELD_ABSENT || count->kind == FIELD_NULL) return true;
    const struct join_limits limits = { r->join.within_ms, r->join.parts, r->join.bytes };
    struct join_part part = { .index = part_number(&item->fields[r->join.index]),
                              .count = part_number(count) };
    if (part.count == 1 && part.index == 0) return true;
    if (by->kind == FIELD_ABSENT || !ops->part) goto refused;
    part.key = by->text;
    part.key_len = by->len;
    const uint8_t *bytes, *whole;
    size_t whole_len;
    if (!ops->part(p->codec, r, &bytes, &part.len)) goto refused;
    part.bytes = part.len ? bytes : NULL;
    if (!p->join) p->join = join_create();
    if (!p->join) goto refused;
    switch (join_add(p->join, &limits, &part, p->now_ms, &whole, &whole_len)) {
    case JOIN_HELD: return false;
    case JOIN_REFUSED: goto refused;
    case JOIN_COMPLETE: break;
    }
    struct codec_item from;
    memset(&from, 0, sizeof from);
    if (!ops->whole(p->codec, r, whole, whole_len, &from)) goto refused;
    packet_message(p, &from, item);
    return true;

refused:
    p->parts_refused++;
    return false;
}

/* item->data is a whole message or a codec's JSON (utf8: framing has checked it): takes its fields and asks the rules. */
static enum path_kind message(struct frame_path *p, struct path_item *item, bool from_codec, bool utf8)
{
    const struct frame_rules *r = p->rules;
    item->kind = PATH_MESSAGE;
    bool json = item->text && (r->codec == CODEC_JSON || from_codec);
    if (json) {
        enum json_result result = utf8 ? json_scan_utf8(item->data, item->len, r->paths, item->fields)
                                       : json_scan(item->data, item->len, r->paths, item->fields, NULL);
        item->json = result == JSON_OK;
    } else {
        fields_clear(item->fields, r->field_count);
        item->json = false;
    }
    item->malformed = !item->json && (r->codec == CODEC_JSON || codec_is_on(p));
    /* Nobody can tell what a broken message was, so it is never kept from the consumers; a hook could
     * not read it. */
    item->deliver = item->malformed || r->deliver_all || frame_match_any(&r->deliver, item->fields);
    item->inspect = !item->malformed && frame_match_any(&r->inspect, item->fields);
    item->beat_asked = frame_match_any(&r->beat_asked, item->fields);
    item->beat_answer = frame_match_any(&r->beat_answer, item->fields);
    item->ends = frame_rules_ends(r, item->fields);
    return PATH_MESSAGE;
}

/* False when the message is not complete yet, or p->over with the item filled. */
static bool decompress(struct frame_path *p, const struct ws_item *from, struct path_item *item)
{
    switch (inflate_feed(p->inflate, from->data, from->len, &item->data, &item->len)) {
    case INFLATE_MESSAGE:
        item->text = true;
        return true;
    case INFLATE_MORE:
        return false;
    case INFLATE_TOO_BIG:
        item->error = PATH_ERROR_TOO_BIG;
        item->error_close_code = 1009;
        break;
    case INFLATE_BAD:
        item->error = PATH_ERROR_INFLATE;
        item->error_close_code = 1007;
        break;
    }
    p->over = true;
    item->data = NULL;
    item->len = 0;
    return false;
}

static enum path_kind ws_failed(const struct ws_item *from, struct path_item *item)
{
    item->data = NULL;
    item->len = 0;
    item->close_code = from->close_code;
    item->ws_error = from->error;
    item->error_close_code = ws_error_close_code(from->error);
    switch (from->error) {
    case WS_ERROR_TOO_BIG: item->error = PATH_ERROR_TOO_BIG; break;
    case WS_ERROR_TEXT_UTF8:
    case WS_ERROR_CLOSE_UTF8: item->error = PATH_ERROR_UTF8; break;
    case WS_ERROR_MEMORY: item->error = PATH_ERROR_MEMORY; break;
    default: item->error = PATH_ERROR_PROTOCOL; break;
    }
    return item->kind = PATH_ERROR;
}

static void fields_clear(struct field_value *values, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) values[i].kind = FIELD_ABSENT;
}
