/* Random: OpenSSL's generator for the host table. What is asked for in a few bytes, as the mask of each frame, comes
 * from a store of them: one call of the generator costs as much as the rest of a small frame. Bytes that were given
 * are wiped. Keys never come from the store. */
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <string.h>
#include <sys/random.h>

#include "base/assert.h"
#include "net/net_internal.h"

static void draw(void *out, size_t len);

void net__random(struct net *net, void *out, size_t len)
{
    struct random_store *s = &net->random;
    ASSERT(len <= 1 << 20);
    if (len > RANDOM_FEW_BYTES) {
        draw(out, len);
        return;
    }
    if (s->left < len) {
        draw(s->bytes, sizeof s->bytes);
        s->left = sizeof s->bytes;
    }
    s->left -= len;
    memcpy(out, s->bytes + s->left, len);
    OPENSSL_cleanse(s->bytes + s->left, len);
}

static void draw(void *out, size_t len)
{
    if (RAND_bytes(out, (int)len) == 1) return;
    for (size_t at = 0; at < len;) {
        ssize_t got = getrandom((uint8_t *)out + at, len - at, 0);
        ASSERT(got > 0 || errno == EINTR); /* a kernel without random numbers: nothing to go on with */
        if (got > 0) at += (size_t)got;
    }
}
