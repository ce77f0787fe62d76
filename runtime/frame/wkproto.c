/* WKProto, one end of one link: splits what comes into packets, keeps the order and the keys, makes JSON of
 * packets and packets of JSON. Knows no socket, no clock, and not what a packet means for the connection. */
#include "frame/wkproto.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define KEPT_BYTES ((size_t)16 << 10) /* of each buffer, for the next packet */
#define SEND_PAYLOAD_MAX 32767        /* the official encoder's limit, on the wire */
#define REASON_SUCCESS 1

static enum codec_result broken(struct wkproto *w, struct codec_item *item, const char *why);
static bool unknown_packet(struct wkproto *w, const struct wk_head *head);
static const char *read_order(struct wkproto *w, unsigned type);
static const char *on_connect(struct wkproto *w, const struct wk_packet *p);
static const char *on_connack(struct wkproto *w, const struct wk_packet *p);
static const char *write_order(const struct wkproto *w, unsigned type);
static const char *fill_connect(struct wkproto *w, struct wk_packet *p, char key[WK_KEY_TEXT_BYTES + 1]);
static const char *fill_connack(struct wkproto *w, struct wk_packet *p, char key[WK_KEY_TEXT_BYTES + 1]);
static const char *fill_payload(struct wkproto *w, struct wk_packet *p, char sign[WK_MSG_KEY_BYTES]);
static void set_text(struct wk_packet *p, unsigned field, const void *at, size_t len);

void wkproto_init(struct wkproto *w, enum wk_side side)
{
    memset(w, 0, sizeof *w);
    w->side = side;
    w->server.latest = 5;
    buffer_init(&w->in, 0);
    buffer_init(&w->json, 0);
    buffer_init(&w->work, 0);
}

void wkproto_deinit(struct wkproto *w)
{
    wk_keys_destroy(w->keys);
    buffer_deinit(&w->in);
    buffer_deinit(&w->json);
    buffer_deinit(&w->work);
    explicit_bzero(w, sizeof *w);
}

void wkproto_seed(struct wkproto *w, const uint8_t seed[WK_SEED_BYTES])
{
    memcpy(w->seed, seed, sizeof w->seed);
    w->seeded = true;
}

/* --- reading ------------------------------------------------------------------------------------------ */

bool wkproto_feed(struct wkproto *w, const uint8_t *bytes, size_t len, size_t bytes_max)
{
    buffer_consume(&w->in, w->in_at);
    w->in_at = 0;
    if (w->in.len == 0) buffer_trim(&w->in, KEPT_BYTES);
    /* At most a half packet is left of earlier messages. */
    if (len > bytes_max) return false;
    return buffer_append(&w->in, bytes, len);
}

enum codec_result wkproto_next(struct wkproto *w, struct codec_item *item)
{
    struct wk_head head;
    struct wk_packet p;
    bool fault = false;
    memset(item, 0, sizeof *item);
    buffer_clear(&w->json);
    buffer_trim(&w->json, KEPT_BYTES);
    if (w->broken) return broken(w, item, w->broken);
    uint8_t *at = w->in.len ? w->in.data + w->in_at : NULL;
    switch (wk_split(at, w->in.len - w->in_at, &head, &item->why)) {
    case WK_SPLIT_HALF: return CODEC_MORE;
    case WK_SPLIT_BROKEN: return broken(w, item, item->why);
    case WK_SPLIT_WHOLE: break;
    }
    w->in_at += head.size;
    w->packets++;
    item->raw = at;
    item->raw_len = head.size;
    if (head.type >= WK_TYPE_COUNT) {
        if (!unknown_packet(w, &head)) return broken(w, item, "out of memory");
    } else {
        const char *why = read_order(w, head.type);
        if (why || !wk_packet_read(&head, at + head.body_at, w->version, &p, &why)) return broken(w, item, why);
        if (p.type == WK_CONNECT) why = on_connect(w, &p);
        if (p.type == WK_CONNACK) why = on_connack(w, &p);
        if (p.type == WK_DISCONNECT) w->stage = WK_STAGE_OVER;
        if (!why && !wk_json_write(&p, w->keys, &w->json, &fault)) why = "out of memory";
        if (why) return broken(w, item, why);
    }
    if (fault) w->faults++;
    item->fault = fault;
    item->json = w->json.data;
    item->json_len = w->json.len;
    return CODEC_PACKET;
}

static enum codec_result broken(struct wkproto *w, struct codec_item *item, const char *why)
{
    w->broken = why;
    w->stage = WK_STAGE_OVER;
    item->why = why;
    return CODEC_BAD;
}

/* Types 13 to 15: of a newer server, perhaps. Skipped by their length, and seen. */
static bool unknown_packet(struct wkproto *w, const struct wk_head *head)
{
    return buffer_printf(&w->json, "{\"packet\":\"unknown\",\"type\":%u,\"bytes\":%zu}", head->type,
                         head->size - head->body_at);
}

/* NULL: this packet may come now. */
static const char *read_order(struct wkproto *w, unsigned type)
{
    if (w->side == WK_SERVER) {
        /* Peers judge what a client may do; only what cannot be read at all is refused here. */
        if (type == WK_CONNECT && w->stage != WK_STAGE_NEW) return "a second CONNECT";
        if (type != WK_CONNECT && w->stage == WK_STAGE_NEW) return "a packet before CONNECT";
        return NULL;
    }
    switch (w->stage) {
    case WK_STAGE_NEW: return "a packet before CONNECT was sent";
    case WK_STAGE_CONNECTING:
        return type == WK_CONNACK || type == WK_DISCONNECT ? NULL : "a packet before CONNACK";
    case WK_STAGE_OPEN: break;
    /* What follows a refusal or a kick is read, so that nothing is lost that the server sent before it. */
    case WK_STAGE_OVER: break;
    }
    if (type == WK_CONNACK) return "a second CONNACK";
    return type == WK_CONNECT || type == WK_SEND || type == WK_RECVACK || type == WK_SUB
               ? "a packet that only clients send"
               : NULL;
}

static const char *on_connect(struct wkproto *w, const struct wk_packet *p)
{
    struct wk_text key = p->text[WK_F_CLIENT_KEY];
    uint64_t version = p->number[WK_F_VERSION];
    w->asked = (uint8_t)version;
    w->version = version < w->server.latest ? (uint8_t)version : w->server.latest;
    size_t len = key.len < sizeof w->server.client_key - 1 ? key.len : sizeof w->server.client_key - 1;
    memcpy(w->server.client_key, len ? (const char *)key.at : "", len);
    w->server.client_key[len] = 0;
    w->stage = WK_STAGE_CONNECTING;
    return NULL;
}

static const char *on_connack(struct wkproto *w, const struct wk_packet *p)
{
    const char *why = NULL;
    if (p->number[WK_F_REASON_CODE] != REASON_SUCCESS) {
        w->stage = WK_STAGE_OVER;
    } else {
        /* A server that names no version knows none above 3. */
        unsigned version = w->asked < 3 ? w->asked : 3;
        if (wk_has(p, WK_F_SERVER_VERSION)) version = (unsigned)p->number[WK_F_SERVER_VERSION];
        if (version < 1 || version > WK_VERSION_MAX) return "CONNACK names a version that nobody knows";
        w->version = (uint8_t)version;
        /* No key: encryption is off at this server. */
        if (p->text[WK_F_SERVER_KEY].len > 0) {
            w->keys = wk_keys_create(w->seed, p->text[WK_F_SERVER_KEY], p->text[WK_F_SALT], &why);
            if (!w->keys) return why;
        }
        w->stage = WK_STAGE_OPEN;
    }
    explicit_bzero(w->seed, sizeof w->seed);
    w->seeded = false;
    return NULL;
}

/* --- writing ------------------------------------------------------------------------------------------ */

bool wkproto_encode(struct wkproto *w, uint8_t *json, size_t len, struct buffer *out, char *why,
                    size_t why_bytes)
{
    struct wk_packet p;
    char key[WK_KEY_TEXT_BYTES + 1], sign[WK_MSG_KEY_BYTES];
    enum wk_side side = w ? w->side : WK_CLIENT;
    if (!wk_json_read(json, len, side, &p, why, why_bytes)) return false;
    const char *wrong = w ? write_order(w, p.type) : NULL;
    unsigned version = w ? w->version : WK_VERSION_MAX;
    if (!wrong && p.type == WK_CONNECT) wrong = fill_connect(w, &p, key);
    if (!wrong && p.type == WK_CONNACK) wrong = fill_connack(w, &p, key);
    if (!wrong && wk_has(&p, WK_F_PAYLOAD)) wrong = fill_payload(w, &p, sign);
    if (!wrong && p.number[WK_F_MESSAGE_SEQ] > UINT32_MAX && version < 6) wrong = "message_seq is above 32 bits";
    if (!wrong) wk_packet_write(&p, version, out, &wrong);
    if (wrong) {
        snprintf(why, why_bytes, "%s: %s", wk_type_name(p.type), wrong);
        return false;
    }
    if (w && p.type == WK_CONNECT) {
        w->asked = w->version = (uint8_t)p.number[WK_F_VERSION];
        w->stage = WK_STAGE_CONNECTING;
    } else if (w && p.type == WK_CONNACK) {
        w->stage = p.number[WK_F_REASON_CODE] == REASON_SUCCESS ? WK_STAGE_OPEN : WK_STAGE_OVER;
    }
    return true;
}

/* NULL: this packet may go now. */
static const char *write_order(const struct wkproto *w, unsigned type)
{
    if (w->side == WK_SERVER) {
        if (type == WK_CONNACK) return w->stage == WK_STAGE_CONNECTING ? NULL : "not after a CONNECT";
        if (type == WK_DISCONNECT) return NULL;
        return w->stage == WK_STAGE_OPEN ? NULL : "not before CONNACK";
    }
    switch (w->stage) {
    case WK_STAGE_NEW: return type == WK_CONNECT ? NULL : "nothing but connect may be sent before CONNACK";
    case WK_STAGE_CONNECTING: return "nothing may be sent before CONNACK";
    case WK_STAGE_OPEN: return type == WK_CONNECT ? "this link is connected already" : NULL;
    case WK_STAGE_OVER: break;
    }
    return "the server refused or ended this session";
}

static const char *fill_connect(struct wkproto *w, struct wk_packet *p, char key[WK_KEY_TEXT_BYTES + 1])
{
    uint64_t version = p->number[WK_F_VERSION];
    if (version < 1 || version > WK_VERSION_MAX) return "`version` must be 1 to 6";
    if (!w) return NULL;
    if (!w->seeded || !wk_public_key(w->seed, key)) return "no key pair";
    set_text(p, WK_F_CLIENT_KEY, key, WK_KEY_TEXT_BYTES);
    return NULL;
}

static const char *fill_connack(struct wkproto *w, struct wk_packet *p, char key[WK_KEY_TEXT_BYTES + 1])
{
    const char *why = NULL;
    bool accepted = p->number[WK_F_REASON_CODE] == REASON_SUCCESS;
    if (accepted && w->asked > 3 && !wk_has(p, WK_F_SERVER_VERSION)) {
        p->number[WK_F_SERVER_VERSION] = w->version;
        p->have |= (uint64_t)1 << WK_F_SERVER_VERSION;
    }
    if (wk_has(p, WK_F_SERVER_VERSION)) p->flags = WK_FLAG_HAS_SERVER_VERSION;
    if (!accepted || w->server.plain) return NULL;
    if (!w->seeded || !wk_public_key(w->seed, key)) return "no key pair";
    if (!wk_has(p, WK_F_SERVER_KEY)) set_text(p, WK_F_SERVER_KEY, key, WK_KEY_TEXT_BYTES);
    if (!wk_has(p, WK_F_SALT)) set_text(p, WK_F_SALT, w->server.salt, strlen(w->server.salt));
    struct wk_text theirs = { (const uint8_t *)w->server.client_key, strlen(w->server.client_key) };
    wk_keys_destroy(w->keys);
    w->keys = wk_keys_create(w->seed, theirs, p->text[WK_F_SALT], &why);
    return w->keys ? NULL : why;
}

static const char *fill_payload(struct wkproto *w, struct wk_packet *p, char sign[WK_MSG_KEY_BYTES])
{
    struct wk_text plain = p->text[WK_F_PAYLOAD];
    /* One server line would take it as plain, the other as encrypted. */
    if (p->type == WK_SEND && p->number[WK_F_SETTING] & WK_SETTING_PLAIN) return "setting 16 is not sent";
    if (p->type == WK_SEND && (w && !w->keys ? plain.len : wk_sealed_bytes(plain.len)) > SEND_PAYLOAD_MAX) {
        return "the payload is longer than 32767 bytes on the wire";
    }
    if (!w || !w->keys) return NULL;
    if (!wk_seal(w->keys, plain.at, plain.len, &w->work)) return "out of memory";
    p->text[WK_F_PAYLOAD] = (struct wk_text){ w->work.data, w->work.len };
    if (wk_has(p, WK_F_MSG_KEY)) return NULL; /* a peer that plays a wrong one */
    if (!wk_sign(w->keys, p, sign)) return "cannot sign";
    set_text(p, WK_F_MSG_KEY, sign, WK_MSG_KEY_BYTES);
    return NULL;
}

static void set_text(struct wk_packet *p, unsigned field, const void *at, size_t len)
{
    p->text[field] = (struct wk_text){ at, len };
    p->have |= (uint64_t)1 << field;
}

/* --- as the codec of a link ----------------------------------------------------------------------------- */

struct wk_codec {
    struct codec codec;
    struct wkproto w;
};

static struct wkproto *of(struct codec *c)
{
    return &((struct wk_codec *)c)->w;
}

static struct codec *codec_create(const struct frame_rules *rules)
{
    (void)rules;
    struct wk_codec *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->codec.ops = &wkproto_codec_ops;
    wkproto_init(&c->w, WK_CLIENT);
    return &c->codec;
}

static void codec_destroy(struct codec *c)
{
    wkproto_deinit(of(c));
    free(c);
}

static void codec_random(struct codec *c, const uint8_t *bytes)
{
    wkproto_seed(of(c), bytes);
}

static bool codec_feed(struct codec *c, const struct frame_rules *rules, const uint8_t *bytes, size_t len)
{
    return wkproto_feed(of(c), bytes, len, (size_t)rules->message_bytes_max);
}

static enum codec_result codec_next(struct codec *c, const struct frame_rules *rules, struct codec_item *item)
{
    (void)rules;
    return wkproto_next(of(c), item);
}

static bool codec_encode(struct codec *c, const struct frame_rules *rules, uint8_t *json, size_t len,
                         struct buffer *out, char *why, size_t why_bytes)
{
    (void)rules;
    return wkproto_encode(c ? of(c) : NULL, json, len, out, why, why_bytes);
}

_Static_assert(CODEC_RANDOM_BYTES == WK_SEED_BYTES, "the caller's random bytes are the private key");

const struct codec_ops wkproto_codec_ops = {
    .joins = true,
    .create = codec_create,
    .destroy = codec_destroy,
    .random = codec_random,
    .feed = codec_feed,
    .next = codec_next,
    .encode = codec_encode,
};
