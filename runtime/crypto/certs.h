/* Certificates made on the spot: a CA that lives in memory, and server certificates signed by it. For peers
 * on loopback ports; nothing of it is trusted unless somebody passes the CA's file along. */
#ifndef HOLDFAST_CRYPTO_CERTS_H
#define HOLDFAST_CRYPTO_CERTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"

struct certs {
    struct buffer ca_pem;   /* owned: the CA's certificate */
    struct buffer cert_pem; /* owned: the server's */
    struct buffer key_pem;  /* owned: its private key; wiped */
};

struct certs_options {
    /* Names and addresses of the server's certificate, "DNS:localhost,IP:127.0.0.1"; NULL: these and ::1. */
    const char *names;
    long starts_in_s, ends_in_s; /* validity from now; 0, 0: valid for a week */
};

/* False when OpenSSL fails. */
bool certs_create(struct certs *c, const struct certs_options *options);
void certs_deinit(struct certs *c);

#endif
