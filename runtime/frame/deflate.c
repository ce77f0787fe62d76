/* Transport compression, for peers and tests. Owns one zlib or zstd context per link. */
#include <limits.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "base/assert.h"
#include "frame/inflate.h"

#define ROOM_BYTES_MIN ((size_t)256)

struct deflate {
    enum inflate_mode mode;
    z_stream zlib;
    ZSTD_CCtx *zstd;
};

static bool write_zlib(struct deflate *d, const void *data, size_t len, struct buffer *out);
static bool write_zstd(struct deflate *d, const void *data, size_t len, struct buffer *out);
static bool make_room(struct buffer *out);

struct deflate *deflate_create(enum inflate_mode mode)
{
    ASSERT(mode == INFLATE_ZLIB_STREAM || mode == INFLATE_ZSTD_STREAM);
    struct deflate *d = calloc(1, sizeof *d);
    if (!d) return NULL;
    d->mode = mode;
    if (mode == INFLATE_ZLIB_STREAM) {
        if (deflateInit(&d->zlib, Z_DEFAULT_COMPRESSION) != Z_OK) goto fail_context;
    } else {
        d->zstd = ZSTD_createCCtx();
        if (!d->zstd) goto fail_context;
    }
    return d;

fail_context:
    free(d);
    return NULL;
}

void deflate_destroy(struct deflate *d)
{
    if (!d) return;
    if (d->mode == INFLATE_ZLIB_STREAM) deflateEnd(&d->zlib);
    ZSTD_freeCCtx(d->zstd);
    free(d);
}

bool deflate_message(struct deflate *d, const void *data, size_t len, struct buffer *out)
{
    size_t start = out->len;
    if (len == 0) return false;
    bool ok = d->mode == INFLATE_ZLIB_STREAM ? write_zlib(d, data, len, out)
                                             : write_zstd(d, data, len, out);
    if (!ok) out->len = start;
    return ok;
}

static bool write_zlib(struct deflate *d, const void *data, size_t len, struct buffer *out)
{
    z_stream *z = &d->zlib;
    if (len > UINT_MAX) return false;
    /* Room for all of it: zlib writes a second flush marker when the first just fills the output. */
    if (!buffer_reserve(out, deflateBound(z, len) + ROOM_BYTES_MIN)) return false;
    z->next_in = (Bytef *)data;
    z->avail_in = (uInt)len;
    do {
        if (!make_room(out)) return false;
        size_t room = out->capacity - out->len;
        if (room > UINT_MAX) room = UINT_MAX;
        z->next_out = out->data + out->len;
        z->avail_out = (uInt)room;
        int result = deflate(z, Z_SYNC_FLUSH);
        out->len += room - z->avail_out;
        if (result != Z_OK && result != Z_BUF_ERROR) return false;
    } while (z->avail_out == 0);
    return z->avail_in == 0;
}

static bool write_zstd(struct deflate *d, const void *data, size_t len, struct buffer *out)
{
    ZSTD_inBuffer in = { data, len, 0 };
    size_t left;
    do {
        if (!make_room(out)) return false;
        ZSTD_outBuffer to = { out->data, out->capacity, out->len };
        left = ZSTD_compressStream2(d->zstd, &to, &in, ZSTD_e_flush);
        out->len = to.pos;
        if (ZSTD_isError(left)) return false;
    } while (left > 0);
    return true;
}

static bool make_room(struct buffer *out)
{
    if (out->capacity - out->len >= ROOM_BYTES_MIN) return true;
    if (buffer_reserve(out, ROOM_BYTES_MIN)) return true;
    return out->capacity > out->len || buffer_reserve(out, 1);
}
