/* MD5 by OpenSSL's plain functions: EVP of 3.0 allocates a context anew for each message. They are deprecated
 * because MD5 is no protection any more; here it is none. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "crypto/md5.h"

#include <openssl/crypto.h>
#include <openssl/md5.h>
#include <stdlib.h>

_Static_assert(2 * MD5_DIGEST_LENGTH == MD5_HEX_BYTES, "two characters a byte");

struct md5 {
    MD5_CTX ctx;
};

struct md5 *md5_create(void)
{
    return calloc(1, sizeof(struct md5));
}

void md5_destroy(struct md5 *m)
{
    if (m) OPENSSL_cleanse(m, sizeof *m);
    free(m);
}

bool md5_start(struct md5 *m)
{
    return MD5_Init(&m->ctx) == 1;
}

bool md5_feed(struct md5 *m, const void *data, size_t len)
{
    return MD5_Update(&m->ctx, data, len) == 1;
}

bool md5_hex(struct md5 *m, char out[MD5_HEX_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[MD5_DIGEST_LENGTH];
    if (MD5_Final(digest, &m->ctx) != 1) return false;
    for (size_t i = 0; i < sizeof digest; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    return true;
}
