/* AES-128-CBC on OpenSSL's EVP. Both contexts are made once and only started anew for each message: that
 * allocates nothing. */
#include "crypto/aes.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

struct aes_cbc {
    EVP_CIPHER_CTX *in, *out; /* owned; they hold the key and wipe it */
    uint8_t iv[AES_BLOCK_BYTES];
};

struct aes_cbc *aes_cbc_create(const uint8_t key[16], const uint8_t iv[AES_BLOCK_BYTES])
{
    struct aes_cbc *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    memcpy(a->iv, iv, sizeof a->iv);
    a->in = EVP_CIPHER_CTX_new();
    a->out = EVP_CIPHER_CTX_new();
    if (a->in && a->out && EVP_DecryptInit_ex(a->in, EVP_aes_128_cbc(), NULL, key, iv) == 1 &&
        EVP_EncryptInit_ex(a->out, EVP_aes_128_cbc(), NULL, key, iv) == 1 &&
        /* Padding is done here: EVP's own holds a block back and forbids working in place. */
        EVP_CIPHER_CTX_set_padding(a->in, 0) == 1 && EVP_CIPHER_CTX_set_padding(a->out, 0) == 1) {
        return a;
    }
    aes_cbc_destroy(a);
    return NULL;
}

void aes_cbc_destroy(struct aes_cbc *a)
{
    if (!a) return;
    EVP_CIPHER_CTX_free(a->in);
    EVP_CIPHER_CTX_free(a->out);
    free(a);
}

bool aes_cbc_start(struct aes_cbc *a)
{
    return EVP_EncryptInit_ex(a->out, NULL, NULL, NULL, a->iv) == 1;
}

bool aes_cbc_blocks(struct aes_cbc *a, uint8_t *data, size_t len)
{
    int n = 0;
    ASSERT(len % AES_BLOCK_BYTES == 0);
    if (len > INT32_MAX) return false;
    return EVP_EncryptUpdate(a->out, data, &n, data, (int)len) == 1 && (size_t)n == len;
}

size_t aes_cbc_encrypt(struct aes_cbc *a, const uint8_t *data, size_t len, uint8_t *out)
{
    size_t whole = AES_CBC_BYTES(len);
    if (out != data) memcpy(out, data, len);
    memset(out + len, (int)(whole - len), whole - len);
    return aes_cbc_start(a) && aes_cbc_blocks(a, out, whole) ? whole : 0;
}

bool aes_cbc_decrypt(struct aes_cbc *a, const uint8_t *data, size_t len, uint8_t *out, size_t *out_len)
{
    int n = 0;
    *out_len = 0;
    if (len == 0 || len % AES_BLOCK_BYTES || len > INT32_MAX) return false;
    if (EVP_DecryptInit_ex(a->in, NULL, NULL, NULL, a->iv) != 1) return false;
    if (EVP_DecryptUpdate(a->in, out, &n, data, (int)len) != 1 || (size_t)n != len) return false;
    uint8_t pad = out[len - 1];
    if (pad == 0 || pad > AES_BLOCK_BYTES) return false;
    for (size_t i = len - pad; i < len; i++) {
        if (out[i] != pad) return false;
    }
    *out_len = len - pad;
    return true;
}
