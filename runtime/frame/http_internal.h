/* HTTP/1.1 heads and bodies, as far as an upgrade needs them: shared by upgrade.c and request.c
 * alone. Bounded, and the same result however the bytes are cut. */
#ifndef HOLDFAST_FRAME_HTTP_INTERNAL_H
#define HOLDFAST_FRAME_HTTP_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

#define HTTP_ACCEPT_BYTES 29 /* Sec-WebSocket-Accept, and NUL */

enum http_head {
    HTTP_HEAD_MORE,
    HTTP_HEAD_DONE, /* `head` ends with the blank line; a NUL follows it, not counted */
    HTTP_HEAD_OVER, /* no blank line within the limit */
    HTTP_HEAD_NUL,  /* a NUL byte in it */
    HTTP_HEAD_MEMORY,
};
/* Moves bytes into `head` up to the blank line. `head` must allow bytes_max + 1 bytes. */
enum http_head http__read_head(struct buffer *head, const uint8_t *bytes, size_t len, size_t *at,
                               size_t bytes_max);

struct http_field {
    const char *name;  /* borrowed from the head, as is the value; trimmed, not NUL-terminated */
    size_t name_len;
    const char *value;
    size_t value_len;
};
enum http_line { HTTP_LINE_FIELD, HTTP_LINE_BAD, HTTP_LINE_END };
/* The field at *at, which begins at 0 (the first line is skipped) and moves on. BAD: no name, a name
 * that is no token, a folded line, a stray CR. */
enum http_line http__next_field(const char *head, size_t len, size_t *at, struct http_field *out);
bool http__field_is(const struct http_field *f, const char *name);
/* Is `token` among the comma-separated items of the value? Ignores case. */
bool http__field_lists(const struct http_field *f, const char *token);
bool http__is_token(const char *text, size_t len);
/* Digits only; false for anything else and for more than 18 of them. */
bool http__parse_length(const char *text, size_t len, uint64_t *out);

enum http_body {
    HTTP_BODY_MORE,
    HTTP_BODY_DONE,
    HTTP_BODY_FULL, /* bytes_max reached, more was to come */
    HTTP_BODY_BAD,  /* broken chunk framing, or out of memory */
};
struct http_chunks {
    uint64_t left;
    uint8_t state;
};
/* `left`: Content-Length still to come, UINT64_MAX for a body that the stream's end ends. */
enum http_body http__read_plain(struct buffer *body, uint64_t *left, const uint8_t *bytes,
                                size_t len, size_t *at, size_t bytes_max);
enum http_body http__read_chunks(struct buffer *body, struct http_chunks *c, const uint8_t *bytes,
                                 size_t len, size_t *at, size_t bytes_max);

/* False when the digest library refuses. */
bool http__accept_of(const char *key, char out[HTTP_ACCEPT_BYTES]);

#endif
