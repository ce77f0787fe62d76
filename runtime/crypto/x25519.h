/* X25519 (RFC 7748): a key pair from 32 random bytes, and the secret that two ends share. Pure. */
#ifndef HOLDFAST_CRYPTO_X25519_H
#define HOLDFAST_CRYPTO_X25519_H

#include <stdbool.h>
#include <stdint.h>

#define X25519_BYTES 32

/* `key`: any 32 bytes; clamped inside. False when the library refuses (memory, a provider without it). */
bool x25519_public(const uint8_t key[X25519_BYTES], uint8_t out[X25519_BYTES]);
/* False also for a peer's key of small order, whose secret would be all zero. */
bool x25519_shared(const uint8_t key[X25519_BYTES], const uint8_t peer_public[X25519_BYTES],
                   uint8_t secret_out[X25519_BYTES]);

#endif
