/* Text helpers: names people mistype, patterns, and bytes from peers on their way to a terminal,
 * a log or JSON. */
#ifndef HOLDFAST_BASE_TEXT_H
#define HOLDFAST_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/* Copies at most out_bytes - 1 bytes and ends with NUL; returns the length copied. Cuts on a UTF-8
 * boundary. */
size_t text_copy(char *out, size_t out_bytes, const char *text, size_t len);
/* All texts up to NULL, one behind the other, cut at the end of `out` as snprintf() cuts; always ends with NUL. For
 * lines that every connection writes at every attempt: snprintf() takes ten times as long. */
void text_join(char *out, size_t out_bytes, ...) __attribute__((sentinel));
#define TEXT_DECIMAL_MAX 21
/* Into `out`, which is returned. */
const char *text_decimal(int64_t number, char out[TEXT_DECIMAL_MAX]);
/* The nearest of `names` (count entries) within an edit distance worth suggesting, or NULL. */
const char *text_nearest(const char *name, const char *const *names, size_t count);
/* `*` and `?` only; the whole of `text` must match. Linear in practice, quadratic at worst. */
bool text_glob(const char *pattern, const char *text);
/* True for well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF). */
bool text_is_utf8(const void *data, size_t len);
/* Appends `"..."` with JSON escapes; bytes that are not UTF-8 become U+FFFD. False over the limit. */
bool text_json_string(struct buffer *out, const void *data, size_t len);
/* Appends printable text: control bytes and broken UTF-8 become \xNN, so that a peer's words cannot
 * move a cursor or forge a log line. False over the limit. */
bool text_printable(struct buffer *out, const void *data, size_t len);
/* Case-insensitive ASCII comparison of `len` bytes. */
bool text_equal_ignoring_case(const char *a, const char *b, size_t len);

#endif
