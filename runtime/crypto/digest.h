/* Digests and base64. Pure: bytes in, bytes out. */
#ifndef HOLDFAST_CRYPTO_DIGEST_H
#define HOLDFAST_CRYPTO_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA1_BYTES 20

/* False when the library refuses (out of memory, or a provider without SHA-1). */
bool digest_sha1(const void *data, size_t len, uint8_t out[SHA1_BYTES]);

/* Bytes of text that `len` bytes become, without the NUL. */
#define BASE64_TEXT_BYTES(len) (((len) + 2) / 3 * 4)

/* Standard alphabet, with padding, NUL-terminated. `out` holds BASE64_TEXT_BYTES(len) + 1 bytes.
 * Returns the length of the text. */
size_t base64_encode(const void *data, size_t len, char *out);
/* Strict: standard alphabet, padding as it must be, no white space, no left-over bits. False for
 * anything else and when the bytes do not fit. `out` may be as small as the result. */
bool base64_decode(const char *text, size_t len, uint8_t *out, size_t out_bytes, size_t *out_len);

#endif
