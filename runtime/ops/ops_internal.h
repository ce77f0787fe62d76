/* What the files of ops/ share; nobody else includes it. */
#ifndef HOLDFAST_OPS_INTERNAL_H
#define HOLDFAST_OPS_INTERNAL_H

#include <libwebsockets.h>

#include "base/assert.h"
#include "base/buffer.h"
#include "ops/ops.h"

#define HEAD_BYTES_MAX 8192
#define BODY_BYTES_MAX ((size_t)1 << 20)
#define TARGET_BYTES_MAX 2048
#define WRITE_BYTES_MAX ((size_t)64 << 10) /* of a plain answer, per turn */
#define CLOSE_WAIT_MS 2000                 /* for a peer's close frame */
#define ANSWER_BYTES_MAX ((size_t)256 << 20)
#define WATCH_EVENTS_MAX 4096u
#define LEAVE_WAIT_MS 1000                 /* for a reader's last lines */

enum client_kind {
    CLIENT_PEEKED, /* UNIX: its first byte is not here yet */
    CLIENT_NDJSON, /* ours on uv_poll */
    CLIENT_HTTP,   /* libwebsockets has the descriptor */
    CLIENT_EVENTS, /* the same, streaming lines */
    CLIENT_WATCH,  /* the same, streaming server-sent events */
    CLIENT_WEBSOCKET,
};

struct token {
    struct secret *secret;
    enum ops_scope scope;
    char consumer[64]; /* "": any */
};

/* A uv handle of its own, because it outlives what it polled by one turn. */
struct poller {
    uv_poll_t handle;
    void *owner; /* NULL once its owner is gone */
    int events;
    uv_poll_cb on_ready;
};

struct client {
    struct ops *ops;
    struct client *next, *prev;
    enum client_kind kind;
    bool tcp;
    int fd;               /* PEEKED, NDJSON; -1 once libwebsockets has it */
    struct poller *poller;
    struct lws *wsi;
    uint64_t active_ms;   /* of the loop's clock */
    uint64_t kill_ms;     /* end it then, whatever it does; 0: not set */
    enum ops_scope scope; /* of the request under way */
    const char *own_consumer; /* the only name allowed, or NULL; borrowed from the token */
    bool closing;         /* flush, then end */
    bool listed;          /* in ops.dirty */
    struct client *dirty_next;

    /* one request */
    char method[8], target[TARGET_BYTES_MAX];
    struct buffer body;
    bool in_request;      /* no answer yet */
    bool waits_body;
    bool last;            /* close after the answer */
    bool at_once;         /* the answer must go out inside this callback: a refused upgrade */
    bool page;            /* the answer is part of the dashboard */
    bool served;          /* had an answer: it may be idle for longer */
    uint64_t send_id;     /* POST .../send that waits for its answer; 0: none */
    bool waits_upgrade;   /* POST /v1/upgrade that does */
    uint64_t waits_reload; /* ticket of a POST /v1/reload that is under way; 0: none */
    uint64_t waits_put;    /* the same of a PUT */

    /* what goes out: LWS_PRE bytes of room first, then bytes; `sent` of them are gone */
    struct buffer out;
    size_t sent;
    bool answering;       /* `out` is the body of an answer */

    /* an attachment */
    struct handle consumer;
    struct attach attach;
    struct buffer query;  /* strings that `attach` borrows */
    bool attach_ok;       /* the upgrade was allowed */
    bool mid_line;        /* WebSocket: the message so far does not end in \n */
    bool blocked;         /* the sink refused: deliver_resume() is due */
    bool leaving;         /* detached: what is queued goes out, then it ends */
    struct watcher *watch; /* owned; WATCH */
    struct gather *gather; /* owned; an answer that is still being made */
    char why[96];         /* why deliver let go, for the close frame */
};

struct listener {
    int fd;               /* -1: none */
    struct poller *poller;
    bool tcp;
};

struct ops {
    uv_loop_t *loop;
    struct runtime *rt;
    struct deliver *deliver;
    struct ops_options options;
    struct token tokens[OPS_TOKENS_MAX];
    uint32_t token_count;
    struct lws_context *lws;
    struct lws_vhost *vhost;
    struct listener unix_listener, tcp_listener;
    struct ops_listeners adopted; /* owned: handed over and not listened on yet */
    char unix_path[108];
    char http_address[64];
    char http_host[64];    /* without port and brackets */
    bool http_any;         /* listens on all addresses */
    int lock_fd;
    dev_t unix_dev;
    ino_t unix_ino;
    struct client *clients;
    uint32_t client_count;
    struct client *adopting;
    struct client *dirty;  /* something to flush or to end, before the loop polls */
    uv_prepare_t prepare;
    uv_timer_t tick;
    uint32_t handles;      /* own ones that are open */
    bool listeners_paused; /* out of descriptors; the tick tries again */
    char suspended[96];    /* why nobody attaches or orders; "": all is well */
    bool accepts;          /* false: who connects waits in the queue */
    struct watch *watch;   /* owned; NULL until somebody watches */
    uint64_t began_ms;     /* of the loop's clock */
    bool closing;
    bool lws_ends; /* lws_end_begin() was called, lws_end_over() not */
    uint32_t close_turns;
    uv_timer_t closer;
    void (*closed)(void *to);
    void *closed_to;
};

/* --- server.c --------------------------------------------------------------------------------- */

void ops__log(struct ops *ops, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Looks after clients' time limits from now on, while there are any. */
void server__tick_start(struct ops *ops);
struct client *client__create(struct ops *ops, int fd, bool tcp);
/* Ends its attachment and its send, forgets it. The descriptor is somebody else's by now. */
void client__destroy(struct client *c);
/* Looks after it before the loop polls. */
void client__touch(struct client *c);
struct poller *poller__open(struct ops *ops, int fd, void *owner, int events, uv_poll_cb on_ready);
/* libuv forgets and adds the descriptor anew with each start, the same events or not. */
void poller__events(struct poller *p, int events, uv_poll_cb on_ready);
void poller__close(struct poller *p);

/* --- listen.c --------------------------------------------------------------------------------- */

bool listen__unix(struct ops *ops, const char *path, char *why, size_t why_bytes);
bool listen__tcp(struct ops *ops, const char *address, char *why, size_t why_bytes);
void listen__pause(struct ops *ops);
void listen__go_on(struct ops *ops);
void listen__close(struct ops *ops);
/* Closes what was handed over and not used. */
void listen__drop_adopted(struct ops *ops);

/* --- leave.c ---------------------------------------------------------------------------------- */

/* True, and answered, when this request cannot be served now. */
bool leave__refuses(struct client *c, bool reads_only, int *result);
/* All that was queued for a client that leaves is written. */
void leave__written(struct client *c);
int leave__post_upgrade(struct client *c, const char *name);

/* --- ndjson.c --------------------------------------------------------------------------------- */

/* Waits for the first byte of a client of the UNIX socket. */
void ndjson__peek(struct client *c);
void ndjson__flush(struct client *c);
/* What is queued and then `lines`, as much as the socket takes now; returns how much of `lines`. Ends nothing: a fault
 * is found by the next flush. */
size_t ndjson__push(struct client *c, const void *lines, size_t len);
void ndjson__end(struct client *c);

/* --- lines.c: what the three kinds of attachment have in common ------------------------------- */

/* False with a sentence: not attached. */
bool lines__attach(struct client *c, const char **why);
void lines__detach(struct client *c);
/* All that was queued is gone. */
void lines__drained(struct client *c);
size_t lines__queued(const struct client *c);

/* --- http.c: libwebsockets' callbacks --------------------------------------------------------- */

extern const struct lws_protocols http__protocols[];
/* Moves the descriptor to libwebsockets. The client may be gone afterwards. */
void http__adopt(struct client *c);
/* From the loop, never from one of libwebsockets' callbacks: the client is gone afterwards, or
 * soon. */
void http__end(struct client *c);
/* Writes the head now and the body when the socket takes it. `body`: copied. */
int http__answer(struct client *c, int status, const char *type, const void *body, size_t len);
/* `body`: moved, with LWS_PRE bytes of room first. */
int http__answer_own(struct client *c, int status, const char *type, struct buffer *body);
int http__refuse(struct client *c, int status, const char *what, const char *expected);
/* Lines until the client goes: a head without a length. */
int http__stream(struct client *c, const char *type);

/* --- api.c ------------------------------------------------------------------------------------ */

/* The head of a request is here; `body_len`: announced, 0 for none. Returns what libwebsockets
 * wants. */
int api__request(struct client *c, uint64_t body_len);
int api__body_done(struct client *c);
/* A connection's JSON with its outlook; 404 when there is none. `kept` and `proof` (may be NULL) are added under
 * these names. */
int api__answer_view(struct client *c, int status, struct handle conn, const char *kept, const char *proof);
/* GET /v1/attach: true when it may become a WebSocket; otherwise it was refused. */
bool api__upgrade(struct client *c);

/* --- manage.c: connections that are added and removed over the API --------------------------- */

#define PUT_BYTES_MAX ((size_t)64 << 10)

int manage__put(struct client *c, const char *name);
int manage__delete(struct client *c, const char *name);
bool manage__puts_json(const struct ops *ops, struct buffer *out);
/* store_view.c */
bool store_view__is_ill(const struct ops *ops);
/* trial_view.c: `"trials":[...],"taken_back":[...]`. */
bool trial_view__json(const struct ops *ops, struct buffer *out);
bool store_view__json(const struct ops *ops, struct buffer *out);
int store_view__get(struct client *c, const char *name);

/* --- reload_view.c --- */
/* False: nothing can be reloaded; `*out` is empty then. */
bool reload_view__get(const struct ops *ops, struct ops_reload_view *out);
bool reload_view__json(const struct ops *ops, struct buffer *out);
int reload_view__post(struct client *c, const char *name);

/* --- consumers: consumers.c ---------------------------------------------------------------------- */

int consumers__list(struct client *c, const char *name);
int consumers__one(struct client *c, const char *name);
int consumers__forget(struct client *c, const char *name);

bool api__query_get(struct client *c, const char *key, char *out, size_t out_bytes);
bool api__query_is_1(struct client *c, const char *key);
/* The next item of the query, decoded: key in `out`, *value behind it. */
bool api__query_next(struct client *c, int *index, char *out, size_t out_bytes, char **value);

/* --- watch.c, summary.c ------------------------------------------------------------------------- */

int watch__get(struct client *c, const char *name);
/* The client is on its way out. */
void watch__gone(struct client *c);
int watch__writeable(struct client *c);
/* True: to be ended. */
bool watch__judge(struct client *c, uint64_t now_ms);
void watch__close(struct ops *ops);
void watch__free(struct ops *ops);
int summary__get(struct client *c, const char *name);
/* What a summary counts: begun with zeroes, told each connection once, then written. */
struct tally {
    uint32_t all, wanted, fatal;
    uint32_t states[CONN_STATE_COUNT], lives[LIFE_COUNT];
    struct connection_view worst;
    int worst_rank; /* 0: none */
    uint64_t worst_ms;
};
void summary__count(struct tally *t, const struct connection_view *view);
bool summary__json(const struct ops *ops, const struct tally *t, struct buffer *out);
uint64_t ops__wall_ms(void);

/* --- dashboard.c -------------------------------------------------------------------------------- */

/* The page, or one of the files that it is made of. */
int dashboard__file(struct client *c, const char *name);
int dashboard__token(struct client *c, const char *name);

/* --- history.c ---------------------------------------------------------------------------------- */

int history__get(struct client *c, const char *name);
int history__one(struct client *c, const char *name);

/* --- metrics.c ---------------------------------------------------------------------------------- */

int metrics__get(struct client *c, const char *name);

/* --- outlook.c -------------------------------------------------------------------------------- */

/* Appends `,"decision":{...},"budgets":{...},"recovers_within_ms":N`, each where there is one. */
bool outlook__json(struct buffer *out, const struct connection_view *view,
                   const struct connection_outlook *outlook);

/* --- guard.c: who may ask for what ------------------------------------------------------------ */

/* 0: allowed, and c->scope says what. Otherwise a status with a sentence. `open`: needs no token.
 */
int guard__check(struct client *c, bool open, const char **what, const char **expected);
bool guard__same(const void *a, size_t a_len, const void *b, size_t b_len);

#endif
