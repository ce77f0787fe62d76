/* Digests by kind and HMAC, on OpenSSL's EVP. Keeps nothing. */
#include "crypto/hmac.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/assert.h"

static const EVP_MD *method(enum digest_kind kind)
{
    switch (kind) {
    case DIGEST_MD5: return EVP_md5();
    case DIGEST_SHA1: return EVP_sha1();
    case DIGEST_SHA256: return EVP_sha256();
    case DIGEST_SHA512: return EVP_sha512();
    }
    return NULL;
}

size_t digest_bytes(enum digest_kind kind, const void *data, size_t len,
                    uint8_t out[DIGEST_BYTES_MAX])
{
    unsigned n = 0;
    if (!EVP_Digest(data, len, out, &n, method(kind), NULL)) return 0;
    ASSERT(n <= DIGEST_BYTES_MAX);
    return n;
}

size_t hmac_bytes(enum digest_kind kind, const void *key, size_t key_len, const void *data,
                  size_t len, uint8_t out[DIGEST_BYTES_MAX])
{
    unsigned n = 0;
    if (key_len > INT32_MAX) return 0;
    if (!HMAC(method(kind), key, (int)key_len, data, len, out, &n)) return 0;
    ASSERT(n <= DIGEST_BYTES_MAX);
    return n;
}
