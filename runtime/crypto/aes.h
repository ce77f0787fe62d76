/* AES-128-CBC under one key, every message with the same first vector, as some platforms have it. Not
 * protection but an encoding step: whoever needs secrecy uses TLS below it. */
#ifndef HOLDFAST_CRYPTO_AES_H
#define HOLDFAST_CRYPTO_AES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AES_BLOCK_BYTES 16
/* Bytes that `len` bytes become with their padding. */
#define AES_CBC_BYTES(len) (((len) / AES_BLOCK_BYTES + 1) * AES_BLOCK_BYTES)

struct aes_cbc; /* opaque */

/* NULL when memory is out. The key is wiped with it. */
struct aes_cbc *aes_cbc_create(const uint8_t key[16], const uint8_t iv[AES_BLOCK_BYTES]);
void aes_cbc_destroy(struct aes_cbc *a);
/* PKCS#7. `out` holds AES_CBC_BYTES(len) bytes and may be `data` itself. Returns the length, 0 on failure. */
size_t aes_cbc_encrypt(struct aes_cbc *a, const uint8_t *data, size_t len, uint8_t *out);
/* False for a length that is no multiple of a block, and for bad padding. `out` holds `len` bytes and may
 * be `data` itself. */
bool aes_cbc_decrypt(struct aes_cbc *a, const uint8_t *data, size_t len, uint8_t *out, size_t *out_len);

/* The same in pieces, whose padding is the caller's: start, then whole blocks. */
bool aes_cbc_start(struct aes_cbc *a);
bool aes_cbc_blocks(struct aes_cbc *a, uint8_t *data, size_t len); /* in place */

#endif
