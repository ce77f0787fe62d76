/* MD5 in pieces, for platforms that sign with it. One object digests any number of messages. */
#ifndef HOLDFAST_CRYPTO_MD5_H
#define HOLDFAST_CRYPTO_MD5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MD5_HEX_BYTES 32

struct md5; /* opaque */

/* NULL when memory is out. */
struct md5 *md5_create(void);
void md5_destroy(struct md5 *m);
bool md5_start(struct md5 *m);
bool md5_feed(struct md5 *m, const void *data, size_t len);
/* Lower case, without a NUL. */
bool md5_hex(struct md5 *m, char out[MD5_HEX_BYTES]);

#endif
