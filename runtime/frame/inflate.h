/* Transport decompression: zlib-stream and zstd-stream, one context per link, bounded output.
 *
 * zlib-stream: one zlib stream over the whole link; a message is complete when the bytes given so far
 * end with 00 00 FF FF. zstd-stream: one context; each WebSocket message is one message. */
#ifndef HOLDFAST_FRAME_INFLATE_H
#define HOLDFAST_FRAME_INFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

enum inflate_mode {
    INFLATE_NONE,
    INFLATE_ZLIB_STREAM,
    INFLATE_ZSTD_STREAM,
};

enum inflate_result {
    INFLATE_MORE,    /* message not complete yet (zlib-stream over several WebSocket messages) */
    INFLATE_MESSAGE, /* `out` holds one whole message */
    INFLATE_BAD,     /* corrupt: the link cannot go on */
    INFLATE_TOO_BIG, /* over the limit: a bomb, or a limit that is too small */
};

struct inflate; /* opaque */

/* NULL when memory is out. `bytes_max`: most decompressed bytes of one message. */
struct inflate *inflate_create(enum inflate_mode mode, size_t bytes_max);
void inflate_destroy(struct inflate *i);
/* Feeds one WebSocket message; one that yields nothing is INFLATE_MORE. On INFLATE_MESSAGE *out_data is borrowed
 * until the next call. After BAD or TOO_BIG every further call is INFLATE_BAD. */
enum inflate_result inflate_feed(struct inflate *i, const uint8_t *data, size_t len,
                                 uint8_t **out_data, size_t *out_len);
/* The caller is done with the last message: gives the memory that a big one took back at once, not
 * only with the next inflate_feed(). */
void inflate_trim(struct inflate *i);
/* Bytes of output memory held now, beside the library's own context. */
size_t inflate_memory(const struct inflate *i);
/* "zlib-stream", "zstd-stream"; false for any other name. */
bool inflate_mode_parse(const char *name, enum inflate_mode *mode_out);

/* The other direction, for peers and tests. One context per link. */
struct deflate;
struct deflate *deflate_create(enum inflate_mode mode);
void deflate_destroy(struct deflate *d);
/* Appends one compressed message that ends with a flush. False over the buffer's limit (the context
 * is of no use then), and for an empty message, which has no form of its own. */
bool deflate_message(struct deflate *d, const void *data, size_t len, struct buffer *out);

#endif
