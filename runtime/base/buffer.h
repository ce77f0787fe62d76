/* Buffer: a growable run of bytes with a hard limit. Memory stays after buffer_clear(), so that a
 * steady state allocates nothing; buffer_trim() gives it back after a burst. */
#ifndef HOLDFAST_BASE_BUFFER_H
#define HOLDFAST_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    uint8_t *data;    /* owned */
    size_t len;       /* bytes in use */
    size_t capacity;  /* bytes allocated */
    size_t bytes_max; /* hard limit; 0 means BUFFER_BYTES_DEFAULT_MAX */
};

#define BUFFER_BYTES_DEFAULT_MAX ((size_t)1 << 30)

void buffer_init(struct buffer *b, size_t bytes_max);
void buffer_deinit(struct buffer *b);
/* Makes room for `more` bytes after len; false when the limit or memory does not allow it. */
bool buffer_reserve(struct buffer *b, size_t more);
/* All-or-nothing; `data`: borrowed until return. */
bool buffer_append(struct buffer *b, const void *data, size_t len);
bool buffer_append_text(struct buffer *b, const char *text);
bool buffer_append_char(struct buffer *b, char c);
/* printf into the buffer; false (and nothing appended) over the limit. */
bool buffer_printf(struct buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool buffer_append_decimal(struct buffer *b, int64_t number);
/* Drops the first `len` bytes; the rest moves to the front. */
void buffer_consume(struct buffer *b, size_t len);
void buffer_clear(struct buffer *b);
/* Frees the memory when more than `keep` bytes are allocated and nothing is in use. */
void buffer_trim(struct buffer *b, size_t keep);

#endif
