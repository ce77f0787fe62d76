/* Net: the real host. Carries out the host table on one libuv loop: links (sockets with or without
 * TLS), name lookups in libuv's pool, HTTP calls on libcurl, clocks, and the one timer that calls the
 * runtime's tick.
 *
 * Words
 *   turn     one pass of the loop; work that ops asked for is done in the next turn, never inside an op
 *   trust    a set of CAs: the system's, or the system's and one more file; loaded off the loop
 *   attempt  one address of a link's target being connected to; a link has one at a time
 *
 * All functions belong to the loop's thread. Several nets may live in one process, one per loop. */
#ifndef HOLDFAST_NET_NET_H
#define HOLDFAST_NET_NET_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "host.h"

struct net;

struct net_options {
    /* PEM bundle of the system's CAs, or NULL: SSL_CERT_FILE, then the usual places. Borrowed until
     * net_create() returns. */
    const char *system_ca_file;
    uint64_t resolve_ttl_ms;  /* how long an answer is used again; 0: NET_RESOLVE_TTL_MS */
    uint32_t pool_threads;    /* libuv's pool, half of which may look up names; 0: NET_POOL_THREADS.
                               * Has no effect after the process used the pool, or when
                               * UV_THREADPOOL_SIZE is set. */
};

#define NET_RESOLVE_TTL_MS 5000
#define NET_POOL_THREADS 16
#define NET_DEADLINE_NEVER UINT64_MAX

/* `sink`: borrowed until net_close() is done. `options`: borrowed until return, may be NULL. NULL
 * when memory is out. Call it before the loop first runs. */
struct net *net_create(uv_loop_t *loop, const struct host_sink *sink,
                       const struct net_options *options);

/* The table for the runtime. Borrowed until net_close(). */
struct host net_host(struct net *net);

/* Who gets the sink's calls, and how its time passes: `tick` does the work that is due,
 * `deadline_ms` tells on the monotonic clock when the next is due (NET_DEADLINE_NEVER: nothing).
 * `rt`: borrowed until net_close(). Must precede the first link and call. */
void net_set_runtime(struct net *net, struct runtime *rt, void (*tick)(struct runtime *rt),
                     uint64_t (*deadline_ms)(struct runtime *rt));

/* Closes every link and call at once and frees `net`; the sink hears nothing of it: a runtime that
 * wants link_closed for each closes them first. `done` (may be NULL) comes from the loop when no
 * handle is left; a name lookup that is already running delays it. Once only. */
void net_close(struct net *net, void (*done)(void *data), void *data);

/* How long callbacks lately kept the loop from polling, or a tick came late, whichever is longer:
 * the largest of the last 10 to 20 seconds. */
uint64_t net_lag_ms(const struct net *net);

struct net_counts {
    uint32_t links;              /* now */
    uint32_t calls;              /* now */
    uint64_t handshakes;         /* TLS handshakes completed by links */
    uint64_t handshakes_resumed; /* of these, with a session of before */
    uint64_t lookups;            /* names given to the resolver */
    uint64_t lookups_shared;     /* asked for while one ran, or answered from the cache */
    uint64_t bytes_in, bytes_out; /* of links, as the runtime sees them */
};
struct net_counts net_counts(const struct net *net);

/* The stage in causes of links: RESOLVING, CONNECTING, SECURING as reached; UPGRADING for whatever
 * ends a link after link_opened (the runtime knows better and may write over it).
 * In causes of calls: PREPARING before anything, then likewise; READY once the request is under way.
 * `code` of a RESOLVE cause is libuv's (UV_EAI_*). */

#endif
