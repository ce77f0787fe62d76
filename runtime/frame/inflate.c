/* Transport decompression. Owns the zlib or zstd context of one link and the message under way.
 * Never allocates much more than bytes_max for a message: output grows as it comes, and the first
 * byte over the limit ends it. */
#include "frame/inflate.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/assert.h"

/* Output memory that stays for the next message; what a burst needed beyond it is given back. */
#define OUT_KEEP_BYTES ((size_t)16 * 1024)
#define OUT_FIRST_BYTES ((size_t)512)
/* Largest zstd window that we let a server ask of us: 8 MiB, what RFC 8878 wants every decoder to
 * support. The library's own default would be 128 MiB, allocated on the word of a frame header. */
#define ZSTD_WINDOW_LOG_MAX 23

struct inflate {
    enum inflate_mode mode;
    size_t bytes_max;
    struct buffer out; /* of the message under way, or handed out; limit bytes_max + 1 */
    bool release;      /* `out` was handed out: clear it on the next call */
    bool dead;         /* after BAD or TOO_BIG */
    uint32_t tail;     /* the last four bytes of this message's input */
    size_t fed;        /* bytes of input of this message */
    z_stream zlib;
    ZSTD_DCtx *zstd;
};

static enum inflate_result feed_zlib(struct inflate *i, const uint8_t *data, size_t len);
static enum inflate_result feed_zstd(struct inflate *i, const uint8_t *data, size_t len);
static bool make_room(struct inflate *i, size_t input_left);
static void note_tail(struct inflate *i, const uint8_t *data, size_t len);

struct inflate *inflate_create(enum inflate_mode mode, size_t bytes_max)
{
    ASSERT(mode == INFLATE_ZLIB_STREAM || mode == INFLATE_ZSTD_STREAM);
    ASSERT(bytes_max < SIZE_MAX);
    struct inflate *i = calloc(1, sizeof *i);
    if (!i) return NULL;
    i->mode = mode;
    i->bytes_max = bytes_max;
    buffer_init(&i->out, bytes_max + 1);
    if (mode == INFLATE_ZLIB_STREAM) {
        if (inflateInit(&i->zlib) != Z_OK) goto fail_context;
    } else {
        i->zstd = ZSTD_createDCtx();
        if (!i->zstd) goto fail_context;
        ZSTD_DCtx_setParameter(i->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
    }
    return i;

fail_context:
    free(i);
    return NULL;
}

void inflate_destroy(struct inflate *i)
{
    if (!i) return;
    if (i->mode == INFLATE_ZLIB_STREAM) inflateEnd(&i->zlib);
    ZSTD_freeDCtx(i->zstd);
    buffer_deinit(&i->out);
    free(i);
}

enum inflate_result inflate_feed(struct inflate *i, const uint8_t *data, size_t len,
                                 uint8_t **out_data, size_t *out_len)
{
    *out_data = NULL;
    *out_len = 0;
    if (i->dead) return INFLATE_BAD;
    inflate_trim(i);
    if (len == 0) return INFLATE_MORE;

    i->fed += len;
    note_tail(i, data, len);
    enum inflate_result result =
        i->mode == INFLATE_ZLIB_STREAM ? feed_zlib(i, data, len) : feed_zstd(i, data, len);
    if (result == INFLATE_BAD || result == INFLATE_TOO_BIG) {
        i->dead = true;
        buffer_deinit(&i->out);
    }
    if (result == INFLATE_MESSAGE) {
        *out_data = i->out.data;
        *out_len = i->out.len;
        i->release = true;
        i->fed = 0;
    }
    return result;
}

void inflate_trim(struct inflate *i)
{
    if (!i->release) return;
    i->release = false;
    buffer_clear(&i->out);
    buffer_trim(&i->out, OUT_KEEP_BYTES);
}

size_t inflate_memory(const struct inflate *i)
{
    return i->out.capacity;
}

bool inflate_mode_parse(const char *name, enum inflate_mode *mode_out)
{
    bool zlib = strcmp(name, "zlib-stream") == 0;
    if (!zlib && strcmp(name, "zstd-stream") != 0) return false;
    *mode_out = zlib ? INFLATE_ZLIB_STREAM : INFLATE_ZSTD_STREAM;
    return true;
}

static enum inflate_result feed_zlib(struct inflate *i, const uint8_t *data, size_t len)
{
    z_stream *z = &i->zlib;
    size_t at = 0;
    bool at_border = false;
    while (at < len || !at_border) {
        if (!make_room(i, len - at)) return INFLATE_BAD;
        size_t room = i->out.capacity - i->out.len;
        size_t piece = len - at;
        if (piece > UINT32_MAX) piece = UINT32_MAX;
        if (room > UINT32_MAX) room = UINT32_MAX;
        z->next_in = (Bytef *)(data + at);
        z->avail_in = (uInt)piece;
        z->next_out = i->out.data + i->out.len;
        z->avail_out = (uInt)room;
        int result = inflate(z, Z_SYNC_FLUSH);
        at += piece - z->avail_in;
        i->out.len += room - z->avail_out;
        if (i->out.len > i->bytes_max) return INFLATE_TOO_BIG;
        /* Z_BUF_ERROR: it could not move, which is only right at the end of the input. The stream's
         * own end is an error too: a link's stream has none. */
        if (result != Z_OK && !(result == Z_BUF_ERROR && at == len)) return INFLATE_BAD;
        /* The marker alone may also lie inside compressed data that a fragment's border happens to
         * cut: zlib tells (bit 7, and no bits pending) that it stands between two blocks. Another
         * call without input would forget that. */
        at_border = (z->data_type & 128) && (z->data_type & 63) == 0;
        if (at == len && z->avail_out > 0) break;
    }
    /* A marker with nothing before it is no message: some writers repeat the marker. */
    bool ended = i->fed >= 4 && i->tail == 0x0000ffff && at_border;
    return ended && i->out.len ? INFLATE_MESSAGE : INFLATE_MORE;
}

static enum inflate_result feed_zstd(struct inflate *i, const uint8_t *data, size_t len)
{
    ZSTD_inBuffer in = { data, len, 0 };
    for (;;) {
        if (!make_room(i, len - in.pos)) return INFLATE_BAD;
        ZSTD_outBuffer out = { i->out.data, i->out.capacity, i->out.len };
        size_t before = in.pos;
        size_t result = ZSTD_decompressStream(i->zstd, &out, &in);
        if (ZSTD_isError(result)) return INFLATE_BAD;
        bool moved = in.pos > before || out.pos > i->out.len;
        i->out.len = out.pos;
        if (i->out.len > i->bytes_max) return INFLATE_TOO_BIG;
        if (in.pos == in.size && out.pos < out.size) break;
        if (!moved) return INFLATE_BAD;
    }
    /* Nothing came out: a frame's head or tail alone, which belongs to the next message. */
    return i->out.len ? INFLATE_MESSAGE : INFLATE_MORE;
}

/* At least one free byte; the one above bytes_max tells too much from just enough. */
static bool make_room(struct inflate *i, size_t input_left)
{
    if (i->out.len < i->out.capacity) return true;
    size_t limit = i->bytes_max + 1;
    ASSERT(i->out.len < limit);
    size_t more = input_left * 4;
    if (more < OUT_FIRST_BYTES) more = OUT_FIRST_BYTES;
    if (more > OUT_KEEP_BYTES) more = OUT_KEEP_BYTES;
    if (more > limit - i->out.len) more = limit - i->out.len;
    return buffer_reserve(&i->out, more);
}

static void note_tail(struct inflate *i, const uint8_t *data, size_t len)
{
    size_t from = len > 4 ? len - 4 : 0;
    for (size_t k = from; k < len; k++) i->tail = i->tail << 8 | data[k];
}
