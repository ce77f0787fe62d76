/* WKProto packets as JSON text, one object each:
 *
 *   {"packet":"recv","flags":{"red_dot":true},"setting":0,"from_uid":"u_alice","channel_id":"g_5b1e",
 *    "channel_type":2,"expire":0,"client_msg_no":"...","message_id":"1906561204858142721","message_seq":43,
 *    "timestamp":1774915201,"payload":{"type":1,"content":"hello"}}
 *
 * `flags` has those that are set. Identifiers are decimal strings; other numbers are numbers up to 2^53, above it
 * decimal strings. `payload` (`data` of an event) is the JSON itself, or `payload_base64` when it is none.
 * `fault` is there when something is wrong with a message that can still be delivered: "msg_key" when the
 * signature does not fit, "payload" when it cannot be decrypted; then the payload is as it was on the wire. */
#ifndef HOLDFAST_FRAME_WKPROTO_JSON_H
#define HOLDFAST_FRAME_WKPROTO_JSON_H

#include "base/buffer.h"
#include "frame/wkproto_keys.h"
#include "frame/wkproto_packet.h"

enum wk_side { WK_CLIENT, WK_SERVER };

/* Appends the object. `keys`: NULL when payloads are plain. *fault_out: whether `fault` was written. False when
 * memory is out. */
bool wk_json_write(const struct wk_packet *p, struct wk_keys *keys, struct buffer *out, bool *fault_out);

/* Fills a packet that `side` may write from its JSON; texts borrow from `json`, which is changed in place.
 * PAYLOAD and DATA are as the JSON has them: not sealed yet. Members that the packet has not are refused.
 * Hidden fields are read for a server only, which may have to play a bad one. False with a sentence. */
bool wk_json_read(uint8_t *json, size_t len, enum wk_side side, struct wk_packet *out, char *why,
                  size_t why_bytes);

#endif
