/* RFC 6455, outbound: frames in their shortest form, masked when the host gives a mask. Owns
 * nothing; never draws a mask itself. */
#include "frame/ws.h"

#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "frame/ws_internal.h"

#define REASON_BYTES_MAX (WS_CONTROL_BYTES_MAX - 2)

static size_t write_header(uint8_t *out, enum ws_opcode opcode, bool fin, size_t len, bool masked);
static size_t utf8_prefix(const char *text, size_t len);

bool ws_encode(struct buffer *out, enum ws_opcode opcode, bool fin, const void *payload, size_t len,
               const uint8_t mask[4])
{
    ASSERT(opcode <= 0xf);
    bool control = (opcode & 0x8) != 0;
    if (control && (!fin || len > WS_CONTROL_BYTES_MAX)) return false;
    if (len > SIZE_MAX - WS_HEADER_BYTES_MAX) return false;

    uint8_t header[WS_HEADER_BYTES_MAX];
    size_t header_len = write_header(header, opcode, fin, len, mask != NULL);
    if (mask) {
        memcpy(header + header_len, mask, 4);
        header_len += 4;
    }
    if (!buffer_reserve(out, header_len + len)) return false;

    uint8_t *to = out->data + out->len;
    memcpy(to, header, header_len);
    if (len) memcpy(to + header_len, payload, len);
    if (mask) ws__mask(to + header_len, len, mask, 0);
    out->len += header_len + len;
    return true;
}

bool ws_encode_close(struct buffer *out, uint16_t code, const char *reason, const uint8_t mask[4])
{
    uint8_t payload[WS_CONTROL_BYTES_MAX];
    if (code == 0) return ws_encode(out, WS_CLOSE, true, NULL, 0, mask);
    payload[0] = (uint8_t)(code >> 8);
    payload[1] = (uint8_t)code;
    char text[REASON_BYTES_MAX + 1];
    size_t len = 0;
    if (reason) {
        len = text_copy(text, sizeof text, reason, strlen(reason));
        /* A reason that is not UTF-8 would make the peer answer 1007 and drop our code. */
        len = utf8_prefix(text, len);
        memcpy(payload + 2, text, len);
    }
    return ws_encode(out, WS_CLOSE, true, payload, 2 + len, mask);
}

static size_t write_header(uint8_t *out, enum ws_opcode opcode, bool fin, size_t len, bool masked)
{
    uint8_t mask_bit = masked ? 0x80 : 0;
    out[0] = (uint8_t)((fin ? 0x80 : 0) | opcode);
    if (len < 126) {
        out[1] = mask_bit | (uint8_t)len;
        return 2;
    }
    if (len <= 0xffff) {
        out[1] = mask_bit | 126;
        out[2] = (uint8_t)(len >> 8);
        out[3] = (uint8_t)len;
        return 4;
    }
    out[1] = mask_bit | 127;
    for (int i = 0; i < 8; i++) out[2 + i] = (uint8_t)((uint64_t)len >> (56 - 8 * i));
    return 10;
}

/* The longest well-formed prefix. */
static size_t utf8_prefix(const char *text, size_t len)
{
    struct utf8_state s;
    size_t good = 0;
    utf8_start(&s);
    for (size_t i = 0; i < len; i++) {
        if (!utf8_feed(&s, (const uint8_t *)text + i, 1)) break;
        if (utf8_end(&s)) good = i + 1;
    }
    return good;
}

void ws__mask(uint8_t *bytes, size_t len, const uint8_t mask[4], uint64_t phase)
{
    uint8_t key[8];
    uint64_t key_word, w[4];
    for (size_t i = 0; i < sizeof key; i++) key[i] = mask[(phase + i) & 3];
    memcpy(&key_word, key, sizeof key);

    size_t i = 0;
    for (; len - i >= sizeof w; i += sizeof w) {
        memcpy(w, bytes + i, sizeof w);
        for (int k = 0; k < 4; k++) w[k] ^= key_word;
        memcpy(bytes + i, w, sizeof w);
    }
    for (; len - i >= 8; i += 8) {
        memcpy(w, bytes + i, 8);
        w[0] ^= key_word;
        memcpy(bytes + i, w, 8);
    }
    for (; i < len; i++) bytes[i] ^= key[i & 3];
}
