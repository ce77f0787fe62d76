/* MD5 on OpenSSL's EVP: method and context are fetched once, so that a message costs no allocation. */
#include "crypto/md5.h"

#include <openssl/evp.h>
#include <stdlib.h>

struct md5 {
    EVP_MD *method;   /* owned */
    EVP_MD_CTX *ctx;  /* owned */
};

struct md5 *md5_create(void)
{
    struct md5 *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->method = EVP_MD_fetch(NULL, "MD5", NULL);
    m->ctx = EVP_MD_CTX_new();
    if (m->method && m->ctx && EVP_DigestInit_ex2(m->ctx, m->method, NULL) == 1) return m;
    md5_destroy(m);
    return NULL;
}

void md5_destroy(struct md5 *m)
{
    if (!m) return;
    EVP_MD_CTX_free(m->ctx);
    EVP_MD_free(m->method);
    free(m);
}

bool md5_start(struct md5 *m)
{
    return EVP_DigestInit_ex2(m->ctx, NULL, NULL) == 1;
}

bool md5_feed(struct md5 *m, const void *data, size_t len)
{
    return EVP_DigestUpdate(m->ctx, data, len) == 1;
}

bool md5_hex(struct md5 *m, char out[MD5_HEX_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (EVP_DigestFinal_ex(m->ctx, digest, &n) != 1 || 2 * n != MD5_HEX_BYTES) return false;
    for (unsigned i = 0; i < n; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    return true;
}
