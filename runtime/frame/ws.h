/* RFC 6455 framing, for both roles. Pull style: each call yields at most one item, so a barrier is
 * simply a caller that does not call again yet. Strict: what the RFC forbids is an error, named.
 *
 * An unfragmented frame that lies whole in the caller's bytes is handed out in place, without a
 * copy; only an incomplete frame or a fragmented message is kept in the decoder. */
#ifndef HOLDFAST_FRAME_WS_H
#define HOLDFAST_FRAME_WS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

enum ws_role {
    WS_CLIENT, /* decodes unmasked frames from a server, encodes masked ones */
    WS_SERVER, /* the other way round: the simulator's peers */
};

enum ws_opcode {
    WS_CONTINUATION = 0x0,
    WS_TEXT = 0x1,
    WS_BINARY = 0x2,
    WS_CLOSE = 0x8,
    WS_PING = 0x9,
    WS_PONG = 0xa,
};

enum ws_item_kind {
    WS_ITEM_MORE,    /* everything given was consumed; nothing complete yet */
    WS_ITEM_MESSAGE, /* a whole text or binary message */
    WS_ITEM_PING,
    WS_ITEM_PONG,
    WS_ITEM_CLOSE,   /* after it the decoder yields nothing but WS_ITEM_MORE */
    WS_ITEM_ERROR,   /* the stream is beyond repair; likewise */
};

#define WS_ERROR_MAP(X)                                                                         \
    X(NONE, "none", 0)                                                                          \
    X(RESERVED_BITS, "reserved bits set", 1002)                                                 \
    X(OPCODE, "unknown opcode", 1002)                                                           \
    X(MASKED, "masked frame from a server", 1002)                                               \
    X(UNMASKED, "unmasked frame from a client", 1002)                                           \
    X(CONTROL_FRAGMENTED, "fragmented control frame", 1002)                                     \
    X(CONTROL_TOO_LONG, "control frame over 125 bytes", 1002)                                   \
    X(CONTINUATION_ALONE, "continuation without a start", 1002)                                 \
    X(DATA_INTERLEAVED, "new data frame inside a fragmented message", 1002)                     \
    X(LENGTH_NOT_MINIMAL, "length not in its shortest form", 1002)                              \
    X(LENGTH_TOO_LARGE, "length with the top bit set", 1002)                                    \
    X(CLOSE_LENGTH, "close frame of one byte", 1002)                                            \
    X(CLOSE_CODE, "close code that must not be sent", 1002)                                     \
    X(CLOSE_UTF8, "close reason is not UTF-8", 1007)                                            \
    X(TEXT_UTF8, "text message is not UTF-8", 1007)                                             \
    X(TOO_BIG, "message over the limit", 1009)                                                  \
    X(MEMORY, "out of memory", 1011)

enum ws_error {
#define X(name, text, code) WS_ERROR_##name,
    WS_ERROR_MAP(X)
#undef X
};

struct ws_item {
    enum ws_item_kind kind;
    bool text;             /* MESSAGE: text or binary */
    uint8_t *data;         /* borrowed until the next ws_decode(); payload, unmasked; not NULL for a
                            * MESSAGE, PING or PONG, even of no bytes */
    size_t len;
    uint16_t close_code;   /* CLOSE: 0 when the frame carried none; data/len is then the reason.
                            * ERROR of CLOSE_CODE, CLOSE_UTF8: the code that came */
    enum ws_error error;   /* ERROR */
};

/* Incremental UTF-8 check, fail-fast: an error is known at the first byte that cannot be right. */
struct utf8_state {
    uint32_t state;
};
void utf8_start(struct utf8_state *s);
/* False at the first impossible byte. */
bool utf8_feed(struct utf8_state *s, const uint8_t *bytes, size_t len);
/* True when no sequence is left open. */
bool utf8_end(const struct utf8_state *s);

struct ws_decoder {
    enum ws_role role;
    size_t message_bytes_max;
    struct buffer carry;   /* owned: an incomplete frame, or fragments so far; empty while idle */
    /* The rest is private to ws.c; change at will. */
    uint8_t header[14];
    uint8_t header_len;
    uint8_t header_need;
    bool in_payload;
    bool over;             /* after CLOSE or ERROR */
    uint8_t opcode;
    bool fin;
    uint8_t mask[4];
    uint64_t payload_left;
    uint64_t payload_len;
    uint8_t message_opcode; /* of the fragmented message under way, 0 when none */
    struct utf8_state utf8;
    uint8_t control[125];
    uint8_t control_len;
    bool release;           /* carry was handed out by the last item: clear it on the next call */
};

void ws_decoder_init(struct ws_decoder *d, enum ws_role role, size_t message_bytes_max);
void ws_decoder_deinit(struct ws_decoder *d);
/* Consumes a prefix of `bytes` (which it may change in place) and fills `item`. Call again with the
 * rest until WS_ITEM_MORE, with no bytes left too: that call gives a big message's memory back.
 * Messages over message_bytes_max fail as soon as their length is known. */
enum ws_item_kind ws_decode(struct ws_decoder *d, uint8_t *bytes, size_t len, size_t *consumed,
                            struct ws_item *item);
const char *ws_error_text(enum ws_error error);
/* The close code that tells the peer of this error. */
uint16_t ws_error_close_code(enum ws_error error);
/* May this code travel in a close frame? 1000-1003, 1007-1014, 3000-4999. */
bool ws_close_code_is_valid(uint16_t code);
/* True when no part of an unfinished frame or message is held. For pulse and status. */
bool ws_decoder_is_idle(const struct ws_decoder *d);

#define WS_HEADER_BYTES_MAX 14
/* Appends one frame. `mask`: 4 random bytes from the host for WS_CLIENT, NULL for WS_SERVER.
 * False over the buffer's limit, and for a control frame of more than 125 bytes or without `fin`. */
bool ws_encode(struct buffer *out, enum ws_opcode opcode, bool fin, const void *payload, size_t len,
               const uint8_t mask[4]);
/* Appends a close frame; code 0 sends none, and then no reason. Any other code is sent as it is: the
 * caller chose it. The reason (NULL: none) is cut to 123 bytes and to well-formed UTF-8. */
bool ws_encode_close(struct buffer *out, uint16_t code, const char *reason, const uint8_t mask[4]);

#endif
