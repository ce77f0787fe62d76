/* Peer port: a peer on a real port, served by libwebsockets, so that the far end of every wire test is
 * independent of our own framing. One TCP listener on a loopback address, TLS or plain. */
#ifndef HOLDFAST_OPS_PEER_PORT_H
#define HOLDFAST_OPS_PEER_PORT_H

#include <uv.h>

#include "crypto/certs.h"
#include "peer/peer.h"

struct peer_port_options {
    const char *peer;            /* "discord" */
    int port;                    /* 0: any free one */
    bool tls;
    struct certs_options certs;  /* of the certificate made on the spot; zeros: a good one */
    const char *lua_path;        /* or NULL */
    const struct value *options; /* of the peer, or NULL */
    uint64_t seed;
    void (*log)(void *self, const char *text); /* the peer's own words; or NULL */
    void *log_self;
};

struct peer_server; /* opaque */

/* Listens when it returns. NULL with a sentence. */
struct peer_server *peer_server_create(uv_loop_t *loop, const struct peer_port_options *options,
                                       char *why, size_t why_bytes);
/* "https://127.0.0.1:9443". Borrowed until peer_server_free(). */
const char *peer_server_url(const struct peer_server *s);
/* The CA that signed the certificate, PEM; empty without TLS. Borrowed likewise. */
const struct buffer *peer_server_ca(const struct peer_server *s);
struct peer *peer_server_peer(struct peer_server *s);
/* Drops everything. Then run the loop until it has nothing left of ours, and free. */
void peer_server_close(struct peer_server *s);
/* Runs the loop as far as it is needed. */
void peer_server_free(struct peer_server *s);

#endif
