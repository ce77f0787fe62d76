/* Digests by kind and HMAC over them. Pure: bytes in, bytes out. */
#ifndef HOLDFAST_CRYPTO_HMAC_H
#define HOLDFAST_CRYPTO_HMAC_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_BYTES_MAX 64

enum digest_kind { DIGEST_MD5, DIGEST_SHA1, DIGEST_SHA256, DIGEST_SHA512 };

/* The digest's length in bytes, or 0 when the library refuses it (a provider without MD5, memory).
 */
size_t digest_bytes(enum digest_kind kind, const void *data, size_t len,
                    uint8_t out[DIGEST_BYTES_MAX]);
size_t hmac_bytes(enum digest_kind kind, const void *key, size_t key_len, const void *data,
                  size_t len, uint8_t out[DIGEST_BYTES_MAX]);

#endif
