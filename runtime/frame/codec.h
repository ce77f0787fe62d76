/* Codec: between the binary messages of a platform and the JSON text that everything else works on. Inbound,
 * each packet becomes one JSON text: paths are taken from it, rules match it, hooks and consumers get it.
 * Outbound, the JSON text that a hook, a template or a consumer wrote becomes the packet's bytes. So a codec
 * is two pure functions and the state of one link; it decides nothing and knows no clock.
 *
 * Only CODEC_PROTOBUF and CODEC_WKPROTO have one: JSON and bytes need none. */
#ifndef HOLDFAST_FRAME_CODEC_H
#define HOLDFAST_FRAME_CODEC_H

#include "base/buffer.h"
#include "base/value.h"
#include "frame/rules.h"

#define CODEC_RANDOM_BYTES 32

struct codec; /* opaque: of one kind, for one link */

enum codec_result {
    CODEC_MORE,   /* nothing whole is left; a half packet stays inside */
    CODEC_PACKET, /* the item is filled */
    CODEC_BAD,    /* the stream means nothing any more: item->why says why, the link cannot go on */
};

/* Borrowed until the next call with the same codec. */
struct codec_item {
    uint8_t *json; /* valid JSON; NULL: this packet cannot be read, and travels as its raw bytes */
    size_t json_len;
    uint8_t *raw;  /* the packet as it came */
    size_t raw_len;
    const char *why; /* BAD, or a packet without `json` */
    bool fault;    /* its JSON says what is wrong with it: counted as malformed, handled as any other */
};

struct codec_ops {
    bool joins; /* several packets may share a message: their bytes one after the other */
    /* NULL when memory is out. */
    struct codec *(*create)(const struct frame_rules *rules);
    void (*destroy)(struct codec *c); /* wipes what is secret */
    /* CODEC_RANDOM_BYTES unpredictable bytes, once, before all else. NULL: it needs none. */
    void (*random)(struct codec *c, const uint8_t *bytes);
    /* A whole binary message. Copies what it needs; next() then yields its packets. False: over
     * rules->message_bytes_max, or memory is out. */
    bool (*feed)(struct codec *c, const struct frame_rules *rules, const uint8_t *bytes, size_t len);
    enum codec_result (*next)(struct codec *c, const struct frame_rules *rules, struct codec_item *item);
    /* Appends the bytes of one packet. `json` may be changed in place, as in json_scan(). `c` NULL: only
     * checks that it can be written, `out` gets something or nothing. False with a sentence, and `out`
     * as it was. */
    bool (*encode)(struct codec *c, const struct frame_rules *rules, uint8_t *json, size_t len,
                   struct buffer *out, char *why, size_t why_bytes);
    /* For rules->join: the content of the joined field in the packet that next() just filled in; and the
     * same packet with another content. NULL: packets of this codec have no parts. False: memory is out. */
    bool (*part)(struct codec *c, const struct frame_rules *rules, const uint8_t **bytes, size_t *len);
    bool (*whole)(struct codec *c, const struct frame_rules *rules, const uint8_t *bytes, size_t len,
                  struct codec_item *item);
    /* conn:set{ codec = ... }. NULL: there is nothing to set. False with a reason (static text). */
    bool (*set)(struct codec *c, const struct value *settings, const char **why);
};

struct codec {
    const struct codec_ops *ops; /* the first member of every kind's own struct */
};

/* NULL for kinds that need none (JSON, bytes), and for those that are not built in: see codec_is_known(). */
const struct codec_ops *codec_ops_of(enum codec_kind kind);
bool codec_is_known(enum codec_kind kind);

#endif
