/* World: the simulated host. Virtual clocks, names, TCP streams with latency, windows and arbitrary
 * segments, a TLS stage, HTTP calls, and the servers at the far end; all of it driven by one queue of
 * happenings and by draws from one seed. Knows host.h, never the runtime behind it.
 *
 * Glossary
 *   world time  milliseconds since world_create(); what peers and tests count in
 *   machine     what holdfast runs on: has mono, boot and wall clocks, may sleep or stall
 *   server      whoever answers at the far end: a struct server_ops, usually around a struct peer
 *   stream      one TCP connection, both ends of it
 *   ghost       a stream whose end a fault kept from the server
 *
 * To add a fault: FAULT_MAP in sim/fault.h, the place that asks or world__stream_strike(), one line in
 * tests/unit/sim_world/faults_spec.lua. */
#ifndef HOLDFAST_SIM_WORLD_H
#define HOLDFAST_SIM_WORLD_H

#include "host.h"
#include "peer/peer.h"
#include "sim/fault.h"
#include "sim/trace.h"
#include "store/core.h"

struct world; /* opaque */

struct world_options {
    uint64_t seed;
    uint64_t wall_ms;      /* at world time 0 */
    uint64_t latency_ms;   /* one way; a quarter of it is jitter */
    bool trace_whole;
    bool memory_store;     /* no disk: what is written is kept, or lost in a crash, and never fails to open */
};

struct world *world_create(const struct world_options *options); /* owned; ends on lack of memory */
void world_destroy(struct world *w);
struct host world_host(struct world *w);
struct trace *world_trace(struct world *w);
uint64_t world_now_ms(const struct world *w);
struct clock world_clock(const struct world *w);
/* Mono of the machine to world time, as if it did not sleep until then. ENGINE_NEVER's value stays. */
uint64_t world_of_mono(const struct world *w, uint64_t mono_ms);
uint64_t world_draw(const struct world *w, const char *purpose, uint64_t a, uint64_t b);

/* --- the machine --------------------------------------------------------------------------------- */

/* Whose link this is, for accounting and for faults by connection. */
struct link_owner {
    char connection[64];   /* "" unknown */
    uint64_t identity;     /* 0 unknown */
    uint32_t generation;
};

struct machine {
    void *self;
    const struct host_sink *sink;
    struct runtime *rt;
    void (*tick)(void *self);
    uint64_t (*deadline_ms)(void *self);                     /* mono; 0: at once; UINT64_MAX */
    void (*stored)(void *self, uint64_t ticket, bool ok);
    /* The frame is on disk, or somebody was told so (then `epoch` is 0: the present one). May be NULL. */
    void (*safe)(void *self, const char *connection, uint64_t epoch, uint64_t offset);
    /* Asked once per link_open(); may be NULL. */
    void (*owner)(void *self, uint64_t link, const struct link_target *target,
                  struct link_owner *out);
    /* A happening of kind CHECK is due. */
    void (*check)(void *self, uint64_t a, uint64_t b);
    /* An HTTP call ended (status 0: not answered). */
    void (*called)(void *self, const char *method, const char *host, const char *target, int status,
                   const struct cause *cause);
};
/* Only one at a time. `m`: copied. */
void world_boot(struct world *w, const struct machine *m);
/* A crash leaves the machine running, and its clocks. Without power nobody hears a word, and the next
 * world_boot() is the machine's own: mono and boot time begin anew, wall time goes on. */
enum world_gone {
    GONE_CRASH, /* the kernel ends the streams */
    GONE_POWER, /* nobody says a word */
    GONE_END,   /* in order: after world_store_close() */
};
/* The runtime is gone: nothing is reported any more, unfinished writes to the disk may be lost. */
void world_unplug(struct world *w, enum world_gone how);

enum world_ran {
    RAN_ON,      /* one step was made (only with `one`) */
    RAN_TIME,    /* `until_ms` was reached */
    RAN_USER,    /* a timer of the test: *user_out */
    RAN_STOPPED, /* world_stop() was called from within */
    RAN_STUCK,   /* a million steps without a millisecond: *something* spins */
};
enum world_ran world_run(struct world *w, uint64_t until_ms, bool one, uint64_t *user_out);
/* Ends world_run() after this step: a checker found something. */
void world_stop(struct world *w);
void world_user_at(struct world *w, uint64_t at_ms, uint64_t user);
void world_check_at(struct world *w, uint64_t at_ms, uint64_t a, uint64_t b);

/* Counts the machine's boots from 1: what a boot id is to a real one. */
uint64_t world_boot_number(const struct world *w);

/* The machine does nothing for `ms`, as if the process got no time. */
void world_stall(struct world *w, uint64_t ms);
/* As above, and mono stands still. */
void world_suspend(struct world *w, uint64_t ms);
void world_step_wall(struct world *w, int64_t ms);
bool world_is_frozen(const struct world *w);
/* Milliseconds during which the machine was frozen so far. */
uint64_t world_frozen_ms(const struct world *w);

/* --- the far end --------------------------------------------------------------------------------- */

/* What a server does; see peer/peer.h for each. Any may be NULL: then nothing happens. */
struct server_ops {
    void (*http)(void *self, const struct peer_request *request);
    enum peer_upgrade (*upgrade)(void *self, const struct peer_request *request);
    void (*opened)(void *self, uint64_t ws);
    void (*message)(void *self, uint64_t ws, bool text, const void *data, size_t len);
    void (*closed)(void *self, uint64_t ws, uint16_t code);
    void (*timer)(void *self, uint64_t timer);
};

/* 1.. ; `tls`: what it speaks. world_server_ops() must follow before anybody dials. */
uint32_t world_add_server(struct world *w, const char *name, bool tls);
/* The port functions for this server's peer. */
struct peer_port world_server_port(struct world *w, uint32_t server);
void world_server_ops(struct world *w, uint32_t server, const struct server_ops *ops, void *self);
/* `name` resolves to it from now on; 0: to nothing. */
void world_name(struct world *w, const char *name, uint32_t server);

/* A peer without a word, in C: accepts every upgrade, never speaks unless `echo`. Answers HTTP with
 * 200 and `{"url":"<url>"}` (NULL: 404). Owned by the world. */
void world_server_mute(struct world *w, uint32_t server, bool echo, const char *url);

struct server_view {
    char name[64];
    uint32_t streams;        /* WebSockets open at the server, ghosts included */
    uint32_t ghosts;
    uint64_t upgrades_total, requests_total, messages_total;
};
bool world_server_get(const struct world *w, uint32_t server, struct server_view *out);

/* --- faults ------------------------------------------------------------------------------------------ */

/* Strings in it are moved. Its id. */
uint32_t world_fault(struct world *w, const struct fault *fault);
bool world_fault_off(struct world *w, uint32_t id);
uint64_t world_fault_hits(struct world *w, uint32_t id);
/* Every fault off; packets that a black hole kept are sent again. What is half-open stays so. */
void world_heal(struct world *w);

/* --- looking at streams ---------------------------------------------------------------------------- */

struct stream_view {
    uint64_t link;
    struct link_owner owner;
    char host[128];
    bool tls;
    bool descriptor;            /* open at our side */
    bool server_open;           /* the server believes in it */
    enum stage stage;           /* the last one told */
    uint64_t opened_ms;         /* world time of link_open() */
    uint64_t last_arrival_ms;   /* world time of the last byte in our kernel; 0 none */
    uint64_t arrival_frozen_ms; /* world_frozen_ms() by then, or when it was opened */
    uint64_t dead_ms;           /* world time since when nothing gets through; 0: alive */
    uint64_t bytes_in, bytes_out;
};
bool world_stream_of(const struct world *w, uint64_t link, struct stream_view *out);
/* Iteration as slots_next(). */
bool world_stream_next(const struct world *w, uint32_t *index, struct stream_view *out);
/* Called when a stream dies without a word (black hole, half-open, deaf). `tell` NULL: nobody. */
void world_on_dead(struct world *w, void (*tell)(void *self, const struct stream_view *stream),
                   void *self);
/* Descriptors now open and the most at once, per identity. */
uint32_t world_descriptors(const struct world *w, uint64_t identity, uint32_t *most_out);

struct world_counts {
    uint32_t streams, descriptors, calls, ghosts;
    uint64_t steps, happenings;
};
void world_counts(const struct world *w, struct world_counts *out);

/* --- the store and its disk -------------------------------------------------------------------------- */

/* As store/thread.h, without a thread: what is submitted in one happening is one piece; pieces wait while
 * the disk is busy, and all that wait are one transaction, applied 1 to 10 ms later. What cannot be written
 * stays and is tried again at a pace of its own; meanwhile whoever waits for an answer gets false. */
struct store world_store(struct world *w);
/* Opens what is there; before world_boot(). False with a sentence; `result` says which. After a crash what
 * comes back is compared with what was written: see world_store_lost(). */
bool world_store_open(struct world *w, enum store_open *result, char *why, size_t why_bytes);
/* A start that dies at a drawn place while it opens the store; the next one may be whole. */
void world_store_open_cut(struct world *w, bool power);
bool world_store_visit(struct world *w, const struct store_visitor *v, char *why, size_t why_bytes);
uint64_t world_store_epoch(const struct world *w);
uint64_t world_store_seed(const struct world *w);
bool world_store_was_clean(const struct world *w);
/* Writes what is left and closes in order. False: it could not, and the next start is unclean. */
bool world_store_close(struct world *w);
/* What the last open found missing, or in excess, of all that was applied: NULL when it is as it must be. */
const char *world_store_lost(const struct world *w);
#ifdef HOLDFAST_TEST
/* Frames are said to be safe before they are on disk. */
void world_plant_early_answer(struct world *w);
#endif

/* What is durable. Borrowed until the next write. SESSION or KEEP. */
struct disk_record {
    const void *bytes;
    size_t len;
    uint64_t wall_ms;   /* of the write */
    uint64_t account;   /* as in the request: SESSION has its fingerprint there */
};
bool world_disk_get(const struct world *w, enum store_op op, const char *connection,
                    struct disk_record *out);
/* All that is durable. */
void world_disk_visit(const struct world *w, const struct store_visitor *v);
/* The highest offset of the connection's frames that is durable, of its newest epoch. */
uint64_t world_disk_safe(const struct world *w, const char *connection);
/* Requests not yet on disk. */
uint32_t world_disk_pending(const struct world *w);
/* The disk itself, to look at; NULL with `memory_store`. */
struct disk;
const struct disk *world_disk(const struct world *w);
struct world_store_counts {
    uint64_t transactions, failures, cuts; /* cuts: crashes and power cuts inside a transaction */
    uint32_t events, permits, consumers, cursors, seen, sessions;
};
void world_store_counts(const struct world *w, struct world_store_counts *out);

#endif
