/* Shared between the files of the JSON scanner only. */
#ifndef HOLDFAST_FRAME_JSON_INTERNAL_H
#define HOLDFAST_FRAME_JSON_INTERNAL_H

#include "frame/json.h"

/* The child of `node` whose key is the string's value, or 0. `key`: between the quotes. */
uint32_t json__child(const struct json_paths *p, uint32_t node, const uint8_t *key, size_t len,
                     bool escaped);
/* Classifies a number whose syntax was checked: INTEGER with *integer_out, or NUMBER. */
enum field_kind json__number(const uint8_t *text, size_t len, int64_t *integer_out);
/* Decodes the escape at *at (a backslash of a checked string) to UTF-8, moves *at past it and returns
 * the bytes written, 1 to 4. Takes a surrogate pair as one; a lone surrogate becomes U+FFFD. */
size_t json__unescape(const uint8_t **at, const uint8_t *end, uint8_t out[4]);

#endif
