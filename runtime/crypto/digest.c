/* Digests on OpenSSL's EVP, and a base64 that is strict where EVP_DecodeBlock is not (it takes
 * white space and counts padding as bytes). Owns nothing. */
#include "crypto/digest.h"

#include <openssl/evp.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int sextet(char c);

bool digest_sha1(const void *data, size_t len, uint8_t out[SHA1_BYTES])
{
    return EVP_Digest(data, len, out, NULL, EVP_sha1(), NULL) == 1;
}

size_t base64_encode(const void *data, size_t len, char *out)
{
    const uint8_t *p = data;
    size_t n = 0;
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        uint32_t w = (uint32_t)p[i] << 16;
        if (left > 1) w |= (uint32_t)p[i + 1] << 8;
        if (left > 2) w |= p[i + 2];
        out[n++] = alphabet[w >> 18];
        out[n++] = alphabet[w >> 12 & 63];
        out[n++] = left > 1 ? alphabet[w >> 6 & 63] : '=';
        out[n++] = left > 2 ? alphabet[w & 63] : '=';
    }
    out[n] = 0;
    return n;
}

bool base64_decode(const char *text, size_t len, uint8_t *out, size_t out_bytes, size_t *out_len)
{
    size_t n = 0;
    *out_len = 0;
    if (len % 4) return false;
    for (size_t i = 0; i < len; i += 4) {
        bool last = i + 4 == len;
        int pad = 0;
        if (last && text[i + 3] == '=') pad = text[i + 2] == '=' ? 2 : 1;
        uint32_t w = 0;
        for (int k = 0; k < 4; k++) {
            int v = k >= 4 - pad ? 0 : sextet(text[i + (size_t)k]);
            if (v < 0) return false;
            w = w << 6 | (uint32_t)v;
        }
        if (pad && (w & (pad == 1 ? 0xffu : 0xffffu))) return false;
        for (int k = 0; k < 3 - pad; k++) {
            if (n == out_bytes) return false;
            out[n++] = (uint8_t)(w >> (16 - 8 * k));
        }
    }
    *out_len = n;
    return true;
}

static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+') return 62;
    if (c == '/') return 63;
    return -1;
}
