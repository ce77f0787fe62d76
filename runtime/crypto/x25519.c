/* X25519 on OpenSSL's EVP. Keeps nothing: each call makes and frees what it needs, which is fine for
 * something that happens once per link. */
#include "crypto/x25519.h"

#include <openssl/evp.h>

static EVP_PKEY *private_key(const uint8_t key[X25519_BYTES])
{
    return EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, key, X25519_BYTES);
}

bool x25519_public(const uint8_t key[X25519_BYTES], uint8_t out[X25519_BYTES])
{
    size_t len = X25519_BYTES;
    EVP_PKEY *ours = private_key(key);
    bool ok = ours && EVP_PKEY_get_raw_public_key(ours, out, &len) == 1 && len == X25519_BYTES;
    EVP_PKEY_free(ours);
    return ok;
}

bool x25519_shared(const uint8_t key[X25519_BYTES], const uint8_t peer_public[X25519_BYTES],
                   uint8_t secret_out[X25519_BYTES])
{
    size_t len = X25519_BYTES;
    EVP_PKEY *ours = private_key(key);
    EVP_PKEY *theirs = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, peer_public, X25519_BYTES);
    EVP_PKEY_CTX *ctx = ours ? EVP_PKEY_CTX_new(ours, NULL) : NULL;
    bool ok = theirs && ctx && EVP_PKEY_derive_init(ctx) == 1 &&
              EVP_PKEY_derive_set_peer(ctx, theirs) == 1 &&
              EVP_PKEY_derive(ctx, secret_out, &len) == 1 && len == X25519_BYTES;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(theirs);
    EVP_PKEY_free(ours);
    return ok;
}
