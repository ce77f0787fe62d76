/* WKProto, one end of one link: which packet may come when, and the keys, which live from CONNACK to the link's
 * end. A wrong order cannot be said: nothing but CONNECT is written before CONNACK, and nothing is read then
 * but CONNACK. The key pair is made of random bytes given from outside and never leaves this struct.
 *
 * Glossary
 *   client   the end that sends CONNECT: holdfast
 *   server   the other one: peers that play the platform, and specs */
#ifndef HOLDFAST_FRAME_WKPROTO_H
#define HOLDFAST_FRAME_WKPROTO_H

#include "frame/codec.h"
#include "frame/wkproto_json.h"

enum wk_stage {
    WK_STAGE_NEW,        /* before CONNECT */
    WK_STAGE_CONNECTING, /* CONNECT is written (client), or was read (server) */
    WK_STAGE_OPEN,       /* CONNACK said Success */
    WK_STAGE_OVER,       /* refused, kicked, or the stream is broken */
};

struct wkproto {
    enum wk_side side;
    enum wk_stage stage;
    uint8_t asked;         /* version in CONNECT */
    uint8_t version;       /* in force */
    uint8_t seed[WK_SEED_BYTES]; /* private key; wiped at CONNACK */
    bool seeded;
    struct {               /* server */
        uint8_t latest;    /* version */
        bool plain;        /* encryption is off */
        char salt[WK_SALT_BYTES + 1];
        char client_key[64];
    } server;
    struct wk_keys *keys;  /* owned; NULL before CONNACK and when payloads are plain */
    struct buffer in;      /* owned: message bytes not yet handed out */
    size_t in_at;
    struct buffer json;    /* owned: the packet at hand */
    struct buffer work;    /* owned: one sealed payload */
    const char *broken;    /* why nothing more is read, or NULL */
    uint64_t packets, faults; /* read; those with a `fault` in their JSON */
};

void wkproto_init(struct wkproto *w, enum wk_side side);
void wkproto_deinit(struct wkproto *w); /* wipes keys */
void wkproto_seed(struct wkproto *w, const uint8_t seed[WK_SEED_BYTES]);
bool wkproto_feed(struct wkproto *w, const uint8_t *bytes, size_t len, size_t bytes_max);
enum codec_result wkproto_next(struct wkproto *w, struct codec_item *item);
/* As codec_ops.encode; `w` NULL: only checks, as a client. Appends several packets when called several times:
 * one WebSocket message may carry many. */
bool wkproto_encode(struct wkproto *w, uint8_t *json, size_t len, struct buffer *out, char *why,
                    size_t why_bytes);

extern const struct codec_ops wkproto_codec_ops;

#endif
