/* Host table: what carries out I/O for the runtime. Two hosts implement it: net/ (libuv, OpenSSL,
 * libcurl) and sim/ (virtual clocks and network). Byte streams only: the WebSocket upgrade and framing
 * happen above, in dispatch, with the same object code for both.
 *
 * Rules
 *   - All calls happen on the loop thread. A host never calls the sink from inside one of its own
 *     functions: what follows is delivered later, from the loop.
 *   - Links and calls are named by 64-bit ids chosen by the runtime (packed handles), never reused.
 *   - Each link_open() is answered by link_closed exactly once, whatever happens. After it the id is
 *     dead: nothing else is reported about it.
 *   - A host keeps no retry, keep-alive or stage timer: the engine alone owns time. */
#ifndef HOLDFAST_HOST_H
#define HOLDFAST_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cause.h"
#include "engine/event.h"

struct runtime;

struct host_proxy {
    const char *host; /* NULL: none */
    uint16_t port;
    const char *authorization; /* value of Proxy-Authorization, or NULL; secret */
};

struct link_target {
    const char *host;    /* name or address literal; also SNI and the name to verify */
    uint16_t port;
    bool tls;
    const char *ca_file; /* extra CA bundle (PEM), or NULL: the system's */
    struct host_proxy proxy;
};

struct http_header {
    const char *name;
    const char *value;
};

struct http_request {
    const char *method;        /* GET POST PUT DELETE PATCH */
    const char *url;           /* http(s)://... */
    const struct http_header *headers;
    uint32_t header_count;
    const void *body;
    size_t body_len;
    uint64_t timeout_ms;
    uint64_t body_bytes_max;   /* an answer over it fails with TOO_BIG */
    const char *ca_file;
    struct host_proxy proxy;
    bool follow_redirects;     /* always false today: an address handed out is checked by the runtime */
};

struct http_result {
    bool answered;        /* false: `cause` says why (RESOLVE REFUSED TLS CERTIFICATE TIMEOUT ...) */
    int status;
    const char *head;     /* raw header lines "Name: value\r\n"; borrowed until return */
    size_t head_len;
    const char *body;
    size_t body_len;
    struct cause cause;   /* stage is the one reached; kind NONE when answered */
};

/* How much the host queues for one link before link_write() refuses; above the low mark it reports
 * link_writable once when it is below again. */
#define LINK_WRITE_QUEUE_MAX ((size_t)1 << 20)
#define LINK_WRITE_QUEUE_LOW ((size_t)64 << 10)

/* What the kernel knows of an open link's TCP connection. */
struct host_link_info {
    uint32_t round_trip_us, round_trip_var_us; /* smoothed */
    uint32_t unacked;          /* segments sent and not acknowledged */
    uint32_t repeats;          /* of the oldest of them, in a row, without an answer */
    uint32_t repeats_total;    /* segments sent again in its life */
    uint32_t last_data_ms;     /* ages: data received, data sent, acknowledgement received */
    uint32_t last_sent_ms, last_ack_ms;
};

/* What a turn of the loop consists of. */
#define HOST_LOOP_MAP(X)                                                                           \
    X(FRAMES, "frames")   /* bytes of links, read as the poll reports them */                      \
    X(QUEUED, "queued")   /* links' other turns: reads that were put off, endings */               \
    X(ENGINE, "engine")   /* deadlines, timers, policies' calls that these begin, consumers */     \
    X(DIALS, "dials")     /* steps of links that are not open yet */                               \
    X(WRITES, "writes")   /* what all of these wrote */                                            \
    X(OTHERS, "others")   /* the local API, HTTP calls, the store's answers, files */

enum host_loop_part {
#define X(name, text) HOST_LOOP_##name,
    HOST_LOOP_MAP(X)
#undef X
    HOST_LOOP_PARTS
};

/* How long work kept the loop from looking at its sockets, or a timer came late. */
struct host_loop_delay {
    uint64_t last_us;          /* of the last second in which the loop turned */
    uint64_t worst_us;         /* of the last minute */
    uint64_t part_worst_us[HOST_LOOP_PARTS]; /* likewise, within one turn */
    /* Of CPU time: what this thread did itself. The rest of a delay is the machine's, that ran something else. */
    uint64_t worst_busy_us, part_worst_busy_us[HOST_LOOP_PARTS];
};

struct host_ops {
    void (*clock)(void *self, struct clock *out);
    /* Unpredictable on the real host, drawn from the seed on the simulated one. For masks, nonces. */
    void (*random)(void *self, void *out, size_t len);

    /* `target`: borrowed until return. Reports link_stage(RESOLVING, CONNECTING, SECURING), then
     * link_opened, or link_ended and link_closed. False only when memory or ids are out: then
     * nothing is reported. */
    bool (*link_open)(void *self, uint64_t link, const struct link_target *target);
    /* Copies what the socket does not take at once. False: dead link or over LINK_WRITE_QUEUE_MAX,
     * nothing was taken. */
    bool (*link_write)(void *self, uint64_t link, const void *bytes, size_t len);
    size_t (*link_queued)(void *self, uint64_t link); /* bytes written and not yet taken */
    /* Back-pressure: while off, nothing is read; re-delivers unconsumed bytes when on again. */
    void (*link_read)(void *self, uint64_t link, bool on);
    /* Reads all that is pending now (bounded), delivers it, then reports link_drained. */
    void (*link_drain)(void *self, uint64_t link);
    /* Flushes what was written, then close_notify and FIN; still reads until EOF. link_closed follows
     * when both sides are done; the engine bounds the wait with link_abort. */
    void (*link_finish)(void *self, uint64_t link);
    /* Closes the descriptor now, whatever is pending. link_closed follows. Safe to repeat. */
    void (*link_abort)(void *self, uint64_t link);

    bool (*http_start)(void *self, uint64_t call, const struct http_request *request);
    /* No http_done comes after it. */
    void (*http_cancel)(void *self, uint64_t call);
    /* runtime_deadline_ms() may have changed, or work was queued: call runtime_tick() soon. */
    void (*wake)(void *self);

    /* The rest may be NULL: then nothing is known. */
    /* False: no such link, or its socket does not stand yet. */
    bool (*link_info)(void *self, uint64_t link, struct host_link_info *out);
    void (*loop_delay)(void *self, struct host_loop_delay *out);
    /* Dials wait for this machine rather than for their far ends: no more of them now. */
    bool (*is_behind)(void *self);
    /* Something is about to be written: its memory may be asked for ahead. */
    void (*link_warm)(void *self, uint64_t link);
    /* Monotonic, finer than clock(), for measuring only: nothing may be decided by it. */
    uint64_t (*ticks_us)(void *self);
};

struct host {
    const struct host_ops *ops;
    void *self;
};

/* The runtime's side, given to the host at its creation. All `cause`, `bytes`: borrowed until return. */
struct host_sink {
    void (*link_stage)(struct runtime *rt, uint64_t link, enum stage stage);
    void (*link_opened)(struct runtime *rt, uint64_t link); /* bytes can flow: TLS is done */
    /* May change the bytes in place. Returns how many were consumed; fewer than len only after the
     * runtime called link_read(off): the host keeps the rest. */
    size_t (*link_bytes)(struct runtime *rt, uint64_t link, uint8_t *bytes, size_t len);
    void (*link_writable)(struct runtime *rt, uint64_t link);
    void (*link_drained)(struct runtime *rt, uint64_t link);
    /* Not a word more will be read: EOF, reset, TLS error; or the dial failed (before link_opened). */
    void (*link_ended)(struct runtime *rt, uint64_t link, const struct cause *cause);
    void (*link_closed)(struct runtime *rt, uint64_t link); /* the descriptor is gone */
    void (*http_done)(struct runtime *rt, uint64_t call, const struct http_result *result);
};

extern const struct host_sink runtime_host_sink; /* in dispatch.c */

#endif
