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
    uint64_t attempt_ms;      /* how long one address may take while others follow; 0:
                               * NET_ATTEMPT_MS. The last one is bounded by the engine's limit alone. */
    uint64_t ca_look_ms;      /* how often CA files are looked at for a change; 0: NET_CA_LOOK_MS */
    uint32_t pool_threads;    /* libuv's pool, half of which may look up names; 0: NET_POOL_THREADS.
                               * Has no effect after the process used the pool, or when
                               * UV_THREADPOOL_SIZE is set. */
};

#define NET_RESOLVE_TTL_MS 5000
#define NET_CA_LOOK_MS 10000
#define NET_POOL_THREADS 16
/* The one exception to "a host keeps no stage timer": otherwise a black-holed first address would eat
 * the engine's whole limit, each time, for ever. */
#define NET_ATTEMPT_MS 3000
#define NET_DEADLINE_NEVER UINT64_MAX

/* Before anything else of OpenSSL in the process, once: buffers of TLS records from a pool (blocks.c). False:
 * they come from malloc(), as without this call. */
bool net_memory_begin(void);
/* It keeps more than it has to. Costs nothing to ask. */
bool net_memory_is_full(void);
/* Gives pages of it back which nobody used since the call before, a piece of them. In so many milliseconds it is to be
 * called again; 0: no more, until it is full again. The host does it by itself. */
uint32_t net_memory_rest(void);
/* `sink`: borrowed until net_close() is done. `options`: borrowed until return, may be NULL. NULL
 * when memory is out. Call it before the loop first runs. */
struct net *net_create(uv_loop_t *loop, const struct host_sink *sink,
                       const struct net_options *options);

/* Links with this CA file will be dialled (NULL: the system's CAs alone): begins to read it, off the loop. May come
 * before the loop first runs. */
void net_trust_soon(struct net *net, const char *ca_file);
/* CA files may have changed: looks at them now instead of after ca_look_ms. */
void net_trust_look(struct net *net);

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

#ifdef HOLDFAST_TEST
/* Makes `name` resolve to these address literals from now on, for specs: what a name server would have
 * to be asked for. */
void net_pretend_addresses(struct net *net, const char *name, const char *const *addresses,
                           uint32_t count);
#endif

/* What host.h leaves open
 *   - link_closed follows link_ended by itself, in the same turn: an end needs no abort. Queued bytes
 *     get one more try when the peer ended in order.
 *   - after link_abort() comes link_closed alone; link_finish() before link_opened is an abort.
 *   - link_finish() ends with link_ended (the peer's EOF) and link_closed.
 *   - link_drained comes in every stage, also while reading is off (nothing is read then), but not
 *     when the link ended first.
 *   - link_write() gathers: bytes leave at the end of the turn, several writes as one.
 *   - while reading is off, an end or reset is not told: it is found when reading is on again.
 *   - the loop ends by itself when no link, call or deadline is left: a daemon has handles of its own.
 *
 * The stage in causes of links: RESOLVING, CONNECTING, SECURING as reached; UPGRADING for whatever
 * ends a link after link_opened (the runtime knows better and may write over it).
 * In causes of calls: PREPARING before anything, then likewise; READY once the request is under way.
 * `code` of a RESOLVE cause is libuv's (UV_EAI_*). */

#endif
