/* WKProto keys on crypto/. The signature runs in small pieces, so that a message of any size costs no memory. */
#include "frame/wkproto_keys.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "crypto/aes.h"
#include "crypto/digest.h"
#include "crypto/md5.h"
#include "crypto/x25519.h"

/* Whole blocks that are whole base64 groups as well: no rest to carry between pieces. */
#define PIECE_BYTES 768
_Static_assert(PIECE_BYTES % AES_BLOCK_BYTES == 0 && PIECE_BYTES % 3 == 0, "a piece encodes by itself");
_Static_assert(WK_SEED_BYTES == X25519_BYTES, "a seed is a private key");
_Static_assert(WK_KEY_TEXT_BYTES == BASE64_TEXT_BYTES(X25519_BYTES), "a key's text");

struct wk_keys {
    struct aes_cbc *aes; /* owned */
    struct md5 *md5;     /* owned */
};

struct signing {
    struct wk_keys *keys;
    uint8_t piece[PIECE_BYTES + AES_BLOCK_BYTES];
    size_t len;
};

static bool sign_bytes(struct signing *s, const void *bytes, size_t len);
static bool sign_number(struct signing *s, uint64_t number);
static bool sign_piece(struct signing *s, size_t len);

bool wk_public_key(const uint8_t seed[WK_SEED_BYTES], char out[WK_KEY_TEXT_BYTES + 1])
{
    uint8_t public[X25519_BYTES];
    if (!x25519_public(seed, public)) return false;
    return base64_encode(public, sizeof public, out) == WK_KEY_TEXT_BYTES;
}

struct wk_keys *wk_keys_create(const uint8_t seed[WK_SEED_BYTES], struct wk_text theirs, struct wk_text salt,
                               const char **why)
{
    uint8_t public[X25519_BYTES], secret[X25519_BYTES];
    char text[BASE64_TEXT_BYTES(X25519_BYTES) + 1], hex[MD5_HEX_BYTES];
    size_t len = 0;
    struct wk_keys *k = calloc(1, sizeof *k);
    *why = "out of memory";
    if (!k) return NULL;
    bool ok = base64_decode((const char *)theirs.at, theirs.len, public, sizeof public, &len) &&
              len == sizeof public && x25519_shared(seed, public, secret);
    if (!ok) *why = "the other end's key is none";
    if (ok && salt.len < WK_SALT_BYTES) {
        *why = "the salt has less than 16 bytes";
        ok = false;
    }
    if (ok) {
        base64_encode(secret, sizeof secret, text);
        *why = "out of memory";
        k->md5 = md5_create();
        ok = k->md5 && md5_start(k->md5) && md5_feed(k->md5, text, strlen(text)) && md5_hex(k->md5, hex);
    }
    if (ok) {
        /* The key is the first 16 characters of the hexadecimal text, as bytes. */
        k->aes = aes_cbc_create((const uint8_t *)hex, salt.at);
        *why = "out of memory";
        ok = k->aes != NULL;
    }
    explicit_bzero(secret, sizeof secret);
    explicit_bzero(text, sizeof text);
    explicit_bzero(hex, sizeof hex);
    if (ok) {
        *why = NULL;
        return k;
    }
    wk_keys_destroy(k);
    return NULL;
}

void wk_keys_destroy(struct wk_keys *k)
{
    if (!k) return;
    aes_cbc_destroy(k->aes);
    md5_destroy(k->md5);
    free(k);
}

size_t wk_sealed_bytes(size_t plain_bytes)
{
    return BASE64_TEXT_BYTES(AES_CBC_BYTES(plain_bytes));
}

bool wk_seal(struct wk_keys *k, const uint8_t *plain, size_t len, struct buffer *out)
{
    size_t cipher = AES_CBC_BYTES(len), text = BASE64_TEXT_BYTES(cipher);
    buffer_clear(out);
    if (!buffer_reserve(out, text + 1 + cipher)) return false;
    uint8_t *at = out->data + text + 1; /* behind the text that it becomes */
    if (aes_cbc_encrypt(k->aes, len ? plain : (const uint8_t *)"", len, at) != cipher) return false;
    out->len = base64_encode(at, cipher, (char *)out->data);
    ASSERT(out->len == text);
    return true;
}

bool wk_open(struct wk_keys *k, const uint8_t *wire, size_t len, uint8_t *out, size_t *out_len)
{
    size_t cipher = 0;
    if (!base64_decode((const char *)wire, len, out, len, &cipher)) return false;
    return aes_cbc_decrypt(k->aes, out, cipher, out, out_len);
}

/* The order is the platform's; numbers in decimal, joined with nothing between. */
bool wk_sign(struct wk_keys *k, const struct wk_packet *p, char out[WK_MSG_KEY_BYTES])
{
    static const uint8_t recv_fields[] = { WK_F_MESSAGE_ID, WK_F_MESSAGE_SEQ, WK_F_CLIENT_MSG_NO,
                                           WK_F_TIMESTAMP,  WK_F_FROM_UID,    WK_F_CHANNEL_ID,
                                           WK_F_CHANNEL_TYPE, WK_F_PAYLOAD };
    static const uint8_t send_fields[] = { WK_F_CLIENT_SEQ, WK_F_CLIENT_MSG_NO, WK_F_CHANNEL_ID,
                                           WK_F_CHANNEL_TYPE, WK_F_PAYLOAD };
    bool recv = p->type == WK_RECV;
    const uint8_t *fields = recv ? recv_fields : send_fields;
    size_t count = recv ? sizeof recv_fields : sizeof send_fields;
    struct signing s = { .keys = k };
    bool ok = aes_cbc_start(k->aes) && md5_start(k->md5);
    for (size_t i = 0; ok && i < count; i++) {
        enum wk_form form = wk_field_form(fields[i]);
        const struct wk_text *text = &p->text[fields[i]];
        ok = form == WK_NUMBER || form == WK_ID ? sign_number(&s, p->number[fields[i]])
                                                : sign_bytes(&s, text->at, text->len);
    }
    size_t pad = AES_BLOCK_BYTES - s.len % AES_BLOCK_BYTES;
    memset(s.piece + s.len, (int)pad, pad);
    ok = ok && sign_piece(&s, s.len + pad) && md5_hex(k->md5, out);
    explicit_bzero(&s, sizeof s);
    return ok;
}

static bool sign_bytes(struct signing *s, const void *bytes, size_t len)
{
    const uint8_t *from = bytes;
    while (len > 0) {
        size_t n = PIECE_BYTES - s->len < len ? PIECE_BYTES - s->len : len;
        memcpy(s->piece + s->len, from, n);
        s->len += n;
        from += n;
        len -= n;
        if (s->len < PIECE_BYTES) continue;
        if (!sign_piece(s, PIECE_BYTES)) return false;
        s->len = 0;
    }
    return true;
}

static bool sign_number(struct signing *s, uint64_t number)
{
    char text[WK_DECIMAL_BYTES];
    return sign_bytes(s, text, wk_decimal(number, text));
}

static bool sign_piece(struct signing *s, size_t len)
{
    char text[BASE64_TEXT_BYTES(PIECE_BYTES + AES_BLOCK_BYTES) + 1];
    if (!aes_cbc_blocks(s->keys->aes, s->piece, len)) return false;
    return md5_feed(s->keys->md5, text, base64_encode(s->piece, len, text));
}
