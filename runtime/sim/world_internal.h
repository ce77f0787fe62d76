/* What the files of the world share. */
#ifndef HOLDFAST_SIM_WORLD_INTERNAL_H
#define HOLDFAST_SIM_WORLD_INTERNAL_H

#include "base/slots.h"
#include "frame/upgrade.h"
#include "frame/ws.h"
#include "sim/idmap.h"
#include "sim/queue.h"
#include "sim/world.h"

#define WORLD_MONO_START_MS ((uint64_t)1000000)
#define WORLD_BOOT_START_MS ((uint64_t)1000000)
#define WORLD_WINDOW_BYTES ((size_t)64 << 10)
#define WORLD_SEGMENT_BYTES_MAX ((size_t)16 << 10)
#define WORLD_READ_BYTES_MAX ((size_t)64 << 10)
#define WORLD_DRAIN_BYTES_MAX ((size_t)256 << 10)
#define WORLD_RETRANSMIT_MS 200
#define WORLD_SERVER_CLOSE_MS 5000
#define WORLD_SPIN_MAX 1000000u
#define WORLD_STREAMS_MAX 65536u
#define WORLD_NEVER UINT64_MAX

/* One direction of a stream. */
struct pipe {
    struct buffer out;      /* owned: written, not sent: the window is full */
    struct buffer wire;     /* owned: sent, in flight */
    struct buffer in;       /* owned: arrived, not read */
    uint64_t last_arrival_ms;
    uint64_t segments;      /* draws so far */
    uint64_t bytes_total;   /* arrived */
    uint64_t parked;        /* bytes at the front of `wire` that a black hole swallowed */
    bool parked_fin;
    bool hole;
    bool fin_wanted, fin_sent, fin_waits, fin_arrived, reset_arrived;
    uint64_t cut_left;      /* bytes until the stream is cut; WORLD_NEVER */
    bool cut_resets;
    uint64_t gap_ms;        /* before what follows the last segment */
    uint64_t trickle_ms;
    uint64_t extra_ms;
};

enum server_state {
    SERVER_NONE,    /* not connected yet, or over */
    SERVER_HEAD,    /* reads a request */
    SERVER_ASKED,   /* the peer will answer */
    SERVER_OPEN,    /* WebSocket */
    SERVER_CLOSING, /* sent a close frame, waits for the other's */
    SERVER_ENDING,  /* FIN sent */
};

struct stream {
    struct handle self;
    uint64_t link;          /* the runtime's id */
    uint64_t serial;        /* for draws: never reused */
    struct link_owner owner;
    char *host;             /* owned */
    uint16_t port;
    bool tls;
    uint32_t server;        /* 0: none yet */
    /* our side */
    enum stage stage;
    unsigned step;          /* of the dial */
    bool descriptor;
    bool opened;            /* link_opened was told */
    bool close_told_soon;   /* a CLOSED happening is queued, or was told */
    bool closed_told;
    uint64_t reads;         /* draws so far */
    bool reading;
    bool readable_queued;
    bool over_high;         /* link_write() queued more than the low mark: tell writable later */
    bool finishing;
    bool ended;             /* `cause` is to be told before closed */
    struct cause cause;
    struct pipe up, down;
    /* the far side */
    enum server_state server_state;
    bool deaf;
    bool far_gone;          /* half-open: that machine is no more */
    uint16_t close_code;    /* to tell the peer */
    bool over_queued;
    bool was_open;          /* the peer knows it as a WebSocket */
    struct request_reader request;
    bool request_ready;     /* `request` is initialised */
    struct ws_decoder ws;
    bool ws_ready;
    uint32_t struck[FAULT_COUNT]; /* id of the lasting fault of a kind that holds it */
    uint64_t opened_ms, last_arrival_ms, dead_ms;
    uint64_t arrival_frozen_ms; /* how long the machine had been frozen by then, in all */
};

struct call {
    struct handle self;
    uint64_t id;            /* the runtime's */
    uint64_t serial;
    char *method, *url, *host, *target, *headers, *body; /* owned */
    size_t body_len;
    bool tls;
    uint32_t server;
    unsigned step;
    enum stage stage;
    uint64_t body_bytes_max;
    bool asked;             /* the peer has it */
    bool over;              /* CALL_DONE is queued */
    /* the answer */
    int status;
    char *head;             /* owned */
    struct buffer answer;   /* owned */
    struct cause cause;
};

struct mute;
struct world_store;

struct server {
    uint32_t number;
    char name[64];
    bool tls;
    struct world *world;
    struct server_ops ops;
    void *self;
    struct idmap timers;    /* timer id to the order of its happening */
    struct mute *mute;      /* owned, or NULL */
    uint64_t upgrades_total, requests_total, messages_total;
};

void world__mute_destroy(struct mute *m); /* NULL is allowed */

struct name_entry {
    char *name; /* owned */
    uint32_t server;
};

struct identity_count {
    uint64_t identity;
    uint32_t open, most;
};

struct world {
    struct world_options options;
    struct trace trace;
    struct queue queue;
    struct machine machine;
    bool booted;
    uint64_t now_ms;
    /* clocks */
    uint64_t boots;          /* of the machine; a crash of the process is none */
    uint64_t boot_at_ms;     /* world time at which the last one began */
    bool power_off;          /* the next world_boot() is one */
    uint64_t asleep_ms;      /* mono lost to suspends of this boot, those over */
    int64_t wall_shift_ms;
    uint64_t frozen_since_ms, frozen_until_ms; /* equal: it runs */
    bool sleeping;           /* the freeze is a suspend */
    uint64_t frozen_total_ms;
    bool wake;               /* host_ops.wake was called */
    bool stopped;
    uint32_t spins;
    uint64_t steps;
    /* network */
    struct slots streams, calls;
    struct idmap links, call_ids;
    uint64_t next_serial;
    struct server **servers; /* owned */
    uint32_t server_count;
    struct name_entry *names; /* owned */
    uint32_t name_count;
    struct fault_table faults;
    struct idmap identities; /* identity to index + 1 */
    struct identity_count *identity_counts; /* owned */
    uint32_t identity_count, identity_capacity;
    uint32_t descriptors;
    uint64_t randoms;        /* draws of host_ops.random */
    struct world_store *store; /* owned */
    void (*on_dead)(void *self, const struct stream_view *stream);
    void *on_dead_self;
    struct buffer scratch;   /* owned */
};

/* world.c */
uint64_t world__put(struct world *w, uint64_t at_ms, enum happening_kind kind, struct handle who,
                    uint64_t a, uint64_t b);
/* The machine's clocks begin anew, if it was off. */
void world__power_on(struct world *w);
/* One way, jitter drawn. */
uint64_t world__latency_ms(const struct world *w, uint64_t serial, uint64_t purpose, uint64_t n);
struct server *world__server(const struct world *w, uint32_t number);
/* 0: no such name. */
uint32_t world__resolve(const struct world *w, const char *name);
struct fault_subject world__subject(const struct world *w, const char *host, uint32_t server,
                                    const char *connection, uint32_t what, enum stage stage);
void *world__alloc(size_t bytes);
char *world__copy(const char *text, size_t len);

/* link.c: our side */
extern const struct host_ops world__host_ops;
struct stream *world__stream_get(const struct world *w, struct handle h);
void world__link_on_dial(struct world *w, struct stream *s);
void world__link_on_readable(struct world *w, struct stream *s);
void world__link_on_writable(struct world *w, struct stream *s);
void world__link_on_drain(struct world *w, struct stream *s);
void world__link_on_closed(struct world *w, struct stream *s);
/* Bytes or an end arrived: they are told soon. */
void world__link_stir(struct world *w, struct stream *s);
/* Closes the descriptor; closed is told soon. */
void world__link_let_go(struct world *w, struct stream *s);

/* stream.c: both directions */
void world__stream_pump(struct world *w, struct stream *s, bool up);
void world__stream_on_arrive(struct world *w, struct stream *s, bool up, uint64_t len);
void world__stream_on_fin(struct world *w, struct stream *s, bool up);
void world__stream_on_reset(struct world *w, struct stream *s, bool up);
/* A RST on its way; what was queued is gone. */
void world__stream_reset(struct world *w, struct stream *s, bool up);
void world__stream_strike(struct world *w, struct stream *s, struct fault *f);
void world__stream_release(struct world *w, struct stream *s, enum fault_kind kind);
/* Lasting faults that are on when a stream begins. */
void world__stream_strike_new(struct world *w, struct stream *s);
void world__stream_set_dead(struct world *w, struct stream *s);
void world__stream_free_if_over(struct world *w, struct stream *s);
void world__stream_view(const struct stream *s, struct stream_view *out);

/* server.c: the far side */
void world__server_accept(struct world *w, struct stream *s);
void world__server_on_bytes(struct world *w, struct stream *s);
void world__server_on_end(struct world *w, struct stream *s);  /* FIN or RST from us */
void world__server_on_over(struct world *w, struct stream *s);
void world__server_on_limit(struct world *w, struct stream *s);
void world__server_on_timer(struct world *w, struct server *server, uint64_t timer, uint64_t order);
/* The stream ended for the server; the peer is told soon. */
void world__server_over(struct world *w, struct stream *s, uint16_t code);
void world__server_garbage(struct world *w, struct stream *s, uint64_t bytes);
void world__server_respond(struct world *w, struct stream *s, int status, const char *headers,
                     const void *body, size_t len);

/* Puts bytes on the way to the client; false when the server cannot speak any more. */
bool world__server_write(struct world *w, struct stream *s, const struct buffer *bytes);

/* store.c */
struct world_store *world__store_create(struct world *w);
void world__store_destroy(struct world_store *s);
/* What was submitted until now goes to the disk as one piece. */
void world__store_flush(struct world *w);
void world__store_on_due(struct world *w, uint64_t number, bool again);
/* The process is gone, maybe in the middle of a write; with `power` the machine is. */
void world__store_gone(struct world *w, bool power);
void world__store_corrupt(struct world *w, uint64_t bytes);

/* call.c: HTTP calls */
bool world__call_start(void *self, uint64_t id, const struct http_request *request);
void world__call_cancel(void *self, uint64_t id);
void world__call_on_step(struct world *w, struct call *c, uint64_t kind);
void world__call_on_done(struct world *w, struct call *c);
void world__call_respond(struct world *w, struct call *c, int status, const char *headers,
                   const void *body, size_t len);
struct call *world__call_get(const struct world *w, struct handle h);
void world__call_free(struct world *w, struct call *c);


/* Ids given to peers: streams as they are, calls with the top bit. */
/* In the index, which stays small: a peer's Lua holds ids as doubles, exact below 2^53. */
#define WORLD_CALL_ID ((uint64_t)1 << 31)

#endif
