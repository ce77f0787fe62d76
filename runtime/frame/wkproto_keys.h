/* WKProto keys of one link: what X25519, the salt and MD5 make of both ends' keys. They exist from CONNACK to
 * the link's end and are wiped with it. An encoding step rather than protection: 64 bits of entropy, one first
 * vector for all messages, nobody authenticated; secrecy is TLS's work. */
#ifndef HOLDFAST_FRAME_WKPROTO_KEYS_H
#define HOLDFAST_FRAME_WKPROTO_KEYS_H

#include "base/buffer.h"
#include "frame/wkproto_packet.h"

#define WK_SEED_BYTES 32
#define WK_KEY_TEXT_BYTES 44 /* base64 of a public key */
#define WK_SALT_BYTES 16
#define WK_MSG_KEY_BYTES 32

struct wk_keys; /* opaque */

/* The public key's text of a private one, NUL-terminated. False when the library fails. */
bool wk_public_key(const uint8_t seed[WK_SEED_BYTES], char out[WK_KEY_TEXT_BYTES + 1]);
/* `theirs`: the other end's public key as text; `salt`: of 16 bytes or more. NULL with static text. */
struct wk_keys *wk_keys_create(const uint8_t seed[WK_SEED_BYTES], struct wk_text theirs, struct wk_text salt,
                               const char **why);
void wk_keys_destroy(struct wk_keys *k); /* NULL is fine */

/* Bytes that a payload has on the wire. */
size_t wk_sealed_bytes(size_t plain_bytes);
/* Fills `out` anew with the wire text of a payload. False when memory is out. */
bool wk_seal(struct wk_keys *k, const uint8_t *plain, size_t len, struct buffer *out);
/* The payload of a wire text; `out` holds `len` bytes and may be the text itself. False: it is none of these
 * keys', and `out` means nothing. */
bool wk_open(struct wk_keys *k, const uint8_t *wire, size_t len, uint8_t *out, size_t *out_len);
/* msg_key of a SEND or RECV, over its fields and the payload's wire text. */
bool wk_sign(struct wk_keys *k, const struct wk_packet *p, char out[WK_MSG_KEY_BYTES]);

#endif
