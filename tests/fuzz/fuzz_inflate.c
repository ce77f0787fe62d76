/* Any bytes, as a compressed stream; and any text, compressed and back. Input: byte 0 picks mode
 * and purpose, byte 1 how the bytes are cut into WebSocket messages. Claims: never a byte over the
 * limit and never memory for it; after BAD or TOO_BIG nothing but BAD; zlib yields the same text
 * however its bytes are cut; what was compressed comes back. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "frame/inflate.h"

#define MESSAGE_BYTES_MAX 50000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static enum inflate_result feed(struct inflate *i, const uint8_t *data, size_t len,
                                struct buffer *text)
{
    uint8_t *piece = malloc(len ? len : 1), *out;
    size_t out_len;
    ASSERT(piece);
    memcpy(piece, data, len);
    enum inflate_result result = inflate_feed(i, piece, len, &out, &out_len);
    free(piece);
    ASSERT(inflate_memory(i) <= MESSAGE_BYTES_MAX + 1);
    if (result == INFLATE_MESSAGE) {
        ASSERT(out && out_len > 0 && out_len <= MESSAGE_BYTES_MAX);
        ASSERT(buffer_append(text, out, out_len)); /* reads all of it */
    } else {
        ASSERT(!out && out_len == 0);
    }
    return result;
}

static enum inflate_result feed_hostile(enum inflate_mode mode, const uint8_t *data, size_t len,
                                        size_t step, struct buffer *text)
{
    struct inflate *i = inflate_create(mode, MESSAGE_BYTES_MAX);
    enum inflate_result result = INFLATE_MORE;
    ASSERT(i);
    for (size_t at = 0; at < len && result != INFLATE_BAD && result != INFLATE_TOO_BIG;) {
        size_t n = len - at < step ? len - at : step;
        result = feed(i, data + at, n, text);
        at += n;
    }
    if (result == INFLATE_BAD || result == INFLATE_TOO_BIG) {
        ASSERT(feed(i, data, len, text) == INFLATE_BAD);
        ASSERT(inflate_memory(i) == 0);
    }
    inflate_destroy(i);
    return result;
}

static void round_trip(enum inflate_mode mode, const uint8_t *data, size_t len, size_t step)
{
    struct inflate *i = inflate_create(mode, MESSAGE_BYTES_MAX);
    struct deflate *d = deflate_create(mode);
    struct buffer packed, text;
    ASSERT(i && d);
    buffer_init(&packed, 0);
    for (size_t at = 0; at < len;) {
        size_t n = len - at < step ? len - at : step;
        buffer_init(&text, 0);
        packed.len = 0;
        ASSERT(deflate_message(d, data + at, n, &packed));
        ASSERT(feed(i, packed.data, packed.len, &text) == INFLATE_MESSAGE);
        ASSERT(text.len == n && memcmp(text.data, data + at, n) == 0);
        buffer_deinit(&text);
        at += n;
    }
    buffer_deinit(&packed);
    deflate_destroy(d);
    inflate_destroy(i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 3) return 0;
    enum inflate_mode mode = data[0] & 1 ? INFLATE_ZSTD_STREAM : INFLATE_ZLIB_STREAM;
    size_t step = data[1] ? data[1] : 1;
    if (data[0] & 2) {
        round_trip(mode, data + 2, len - 2 < MESSAGE_BYTES_MAX ? len - 2 : MESSAGE_BYTES_MAX, step);
        return 0;
    }
    struct buffer whole, cut;
    buffer_init(&whole, 0);
    buffer_init(&cut, 0);
    enum inflate_result a = feed_hostile(mode, data + 2, len - 2, SIZE_MAX, &whole);
    enum inflate_result b = feed_hostile(mode, data + 2, len - 2, step, &cut);
    /* Only a whole message that is one in both runs can be compared: zstd's is each piece's. */
    if (mode == INFLATE_ZLIB_STREAM && a == INFLATE_MESSAGE && b == INFLATE_MESSAGE) {
        ASSERT(whole.len == cut.len && memcmp(whole.data, cut.data, cut.len) == 0);
    }
    buffer_deinit(&whole);
    buffer_deinit(&cut);
    return 0;
}
