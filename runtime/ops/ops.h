/* Ops: the local API. One UNIX socket (mode 0600, no token asked) and one TCP address (a token
 * always asked, Host and Origin checked). Speaks HTTP and WebSocket through libwebsockets as a
 * server, and NDJSON itself where the first byte on the UNIX socket is '{'. Talks to connections
 * through views and orders of runtime.h, to frames through deliver.h. Loop thread only; blocks on
 * nothing.
 *
 * GET  /v1/connections            GET  /v1/connections/NAME        GET /v1/connections/NAME/journal
 * GET  /v1/history (states of hours)                          GET /v1/connections/NAME/history
 * PUT  /v1/connections/NAME       DELETE /v1/connections/NAME
 * POST /v1/connections/NAME/{stop,start,restart,send}              POST /v1/reload
 * GET  /v1/attach (WebSocket)     GET  /v1/events (NDJSON)         POST /v1/ack?consumer=NAME
 * GET  /v1/store                  GET  /metrics                  GET /v1/summary
 * GET  /v1/watch (server-sent events; watch.c documents them)
 * GET  / (the dashboard, open)     GET  /v1/token (its scope)
 * GET  /healthz                   GET  /readyz                     POST /v1/upgrade (UNIX socket)
 *
 * /healthz: the loop turns. /readyz: configuration and store were taken, and it is not on its way out; of the daemon,
 * never of its connections, so that a standby whose connections are stopped is ready. /v1/summary is of those. */
#ifndef HOLDFAST_OPS_OPS_H
#define HOLDFAST_OPS_OPS_H

#include <uv.h>

#include "deliver/deliver.h"
#include "runtime.h"
#include "store/thread.h"

struct ops; /* opaque */

/* Each includes the ones before. Consume: attach, acknowledge and send. Operate: stop, start,
 * reload. */
enum ops_scope { OPS_READ = 1, OPS_CONSUME, OPS_OPERATE };

struct ops_token {
    struct secret *secret;   /* ops takes its own reference */
    enum ops_scope scope;
    const char *consumer;    /* NULL: any; else the only name it may use. Copied */
};

#define OPS_TOKENS_MAX 32

/* What is wrong with something that was asked for; printable, no secrets. */
struct ops_problem {
    char what[1300];    /* what the gate says is long */
    char where[128];    /* path of a JSON key, a connection's name, or "" */
    char expected[256]; /* or "" */
};
#define OPS_PROBLEMS_MAX 16
struct ops_problems {
    struct ops_problem items[OPS_PROBLEMS_MAX];
    uint32_t count; /* beyond the last item: so many more */
};
void ops_problem_add(struct ops_problems *p, const char *where, const char *expected,
                     const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Listeners of an earlier process and the lock on its socket; -1: none. */
struct ops_listeners {
    int unix_fd, unix_lock_fd, http_fd;
};
#define OPS_LISTENERS_NONE ((struct ops_listeners){ -1, -1, -1 })

/* `expected` of an upgrade that failed. */
#define OPS_UPGRADE_GOES_ON "what ran goes on"

struct ops_reload {
    const char *policy; /* borrowed; NULL: all */
    bool unproven;      /* what changed is not proven first */
    bool now;           /* nor tried on a share first, not even what was taken back */
    bool again;         /* a text that was taken back is tried again */
    const char *adopt, *take_back; /* borrowed: end the trial of this policy, and nothing else; NULL: none */
    uint64_t ticket;    /* out: of the ops_reload_answer() to come */
};
enum ops_reloaded { OPS_RELOAD_REFUSED, OPS_RELOAD_DONE, OPS_RELOAD_LATER };

/* How a connection is put. */
struct ops_put {
    bool unproven;     /* what it would run is not proven first */
    uint64_t ticket;   /* out: of the ops_put_answer() to come */
    const char *proof; /* out; static: what is known of what it runs, "" or "proven" "not fully proven" "unproven" "runs already" */
};
#define OPS_PUT_LATER 0

/* What the last reload came to, and the one that is under way. */
struct ops_reload_view {
    const char *doing;      /* static: "nothing" "reading" "proving" "building" "swapping" */
    uint32_t done, of;      /* connections: building, swapping */
    bool refused;           /* the last one was: files on disk are others than what runs */
    uint64_t ended_wall_ms; /* 0: there was none yet */
    const char *text;       /* borrowed until return: lines; refused: why, "" otherwise or what it warned of */
    uint64_t taken_total, refused_total;
};

struct ops_upgrade {
    const char *binary;  /* absolute; NULL: the one that runs now, as it is on disk */
    bool cold;           /* even though sessions are lost */
    uint64_t within_ms;  /* for each of: check, take over; 0: the default */
};

struct ops_options {
    const char *unix_path;   /* NULL: no UNIX socket */
    const char *http;        /* "127.0.0.1:7600", "[::1]:7600"; port 0: any. NULL: no TCP */
    const struct ops_token *tokens;
    uint32_t token_count;    /* none: TCP answers /healthz and /readyz alone */
    const struct ops_listeners *adopted; /* descriptors moved, also on failure; must listen at the
                                          * addresses above; NULL: none */
    uint32_t clients_max;    /* connected at once; 0: 1024 */
    uint64_t head_ms;        /* from connect to a whole request or first line; 0: 10 s */
    uint64_t idle_ms; /* of a client that asks for nothing; attachments are never idle; 0: 60 s */
    size_t
        queue_bytes_max; /* lines queued for one attachment before it counts as slow; 0: 256 KiB */
    uint32_t watch_events_max; /* kept for watchers, at most 4096; 0: that many */
    const char *version;     /* of holdfast; static; or NULL */
    void *self;              /* of the functions below; all but log may be NULL */
    void (*log)(void *self, enum log_level level, const char *text);
    /* Reads policies and configuration again. Problems: lines of text. LATER: ops_reload_answer() follows. */
    enum ops_reloaded (*reload)(void *self, struct ops_reload *wish, struct buffer *problems);
    /* Adds a connection, or changes one that was added so. Returns 201 added, 200 changed, 202 will be
     * replaced once its link is closed, or 4xx with problems; or OPS_PUT_LATER: ops_put_answer() follows, with one of
     * these. `json`: borrowed until return. */
    int (*put)(void *self, const char *name, const void *json, size_t len, struct ops_put *how,
               struct ops_problems *problems);
    /* JSON: those that are being proven, and those that were refused. NULL: there are none ever. */
    bool (*puts_view)(void *self, struct buffer *out);
    /* 202, or 4xx with problems. */
    int (*remove)(void *self, const char *name, struct ops_problems *problems);
    /* Begins an upgrade. 202: ops_upgrade_answer() follows; or 4xx with problems. */
    int (*upgrade)(void *self, const struct ops_upgrade *wish, struct ops_problems *problems);
    /* How the store is doing; false: it is in memory, where nothing can go wrong. Never waits. */
    bool (*store)(void *self, struct store_health *out);
    /* Versions of policies that were taken back, while their text is still in its file: how many, and (unless NULL) as a
     * JSON array. */
    uint32_t (*taken_back)(void *self, struct buffer *out);
    /* Lines of the log that were left out so far. */
    uint64_t (*log_left_out)(void *self);
    /* False: nothing can be reloaded. */
    bool (*reload_view)(void *self, struct ops_reload_view *out);
    /* NULL: ready as soon as it listens. */
    bool (*ready)(void *self);
};

/* Listens when it returns. NULL with a sentence; the loop must then still run until it is empty, or
 * what was begun is leaked. runtime, deliver: borrowed until ops_close() is done; deliver_pump() is
 * called before each poll, so that the driver may but need not. */
struct ops *ops_create(uv_loop_t *loop, struct runtime *rt, struct deliver *d,
                       const struct ops_options *options, char *why, size_t why_bytes);
/* Detaches all, closes every socket. `closed` (may be NULL) is called once all of it is gone, from
 * the loop, which must go on running until then; `ops` is freed before. */
void ops_close(struct ops *ops, void (*closed)(void *to), void *to);

/* --- before the end, or a handover ----------------------------------------------------------------- */

#define OPS_SHUTTING_DOWN  "shutting down"
#define OPS_BEING_UPGRADED "holdfast is being upgraded"

/* From now on nobody attaches or gives orders: `why` (a sentence; copied) is the answer, with "try again".
 * `accept` false: whoever connects waits in the listener's queue, for this process or the next. */
void ops_suspend(struct ops *ops, const char *why, bool accept);
/* Takes ops_suspend() back. */
void ops_resume(struct ops *ops);
/* Detaches all consumers: they get what is queued, then the sentence of ops_suspend(), then the end. */
void ops_let_go(struct ops *ops);
/* All of that, and every answer under way, was written, or its reader does not read. */
bool ops_is_quiet(const struct ops *ops);
/* Borrowed: for handing over. */
struct ops_listeners ops_listeners(const struct ops *ops);
/* Somebody else has the listeners now: ops_close() leaves the socket's file alone. */
void ops_leave_listeners(struct ops *ops);
/* To those who asked for a reload and have a ticket up to this one, if still there. `problems`: lines of text, borrowed. */
void ops_reload_answer(struct ops *ops, uint64_t ticket, bool done, const struct buffer *problems);
/* To who put it, if still there: what put() would have returned. */
void ops_put_answer(struct ops *ops, uint64_t ticket, const char *name, int status, const char *proof,
                    const struct ops_problems *problems);
/* To who asked for the upgrade, if still there. `why` NULL: `pid` with `version` took over. */
void ops_upgrade_answer(struct ops *ops, const char *why, long pid, const char *version);

/* A connection's journal has a new entry (runtime_observer.journal): for /v1/watch. */
void ops_journaled(struct ops *ops, struct handle conn, const char *name, const struct journal_entry *entry);

/* As listened on: "127.0.0.1:43211"; "" without TCP. */
const char *ops_http_address(const struct ops *ops);
/* Clients connected now, for status. */
uint32_t ops_clients(const struct ops *ops);

#endif
