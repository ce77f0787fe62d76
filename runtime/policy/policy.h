/* Policies: Lua files that say how connections of one platform behave.
 *
 * Glossary
 *   version   one loaded policy file in a Lua state of its own. Immutable once loaded, counted by
 *             reference: connections, running tasks and builds each hold one. The state goes with the
 *             last reference.
 *   build     what a version compiles to for one connection's settings: plan, frame rules, options.
 *   task      one running hook that may wait (fetch, prepare, greet, every): a coroutine.
 *
 * Lua is entered through policy_call() and policy_resume() alone; both end in lua_enter(), which holds
 * the only lua_pcall, with traceback, instruction budget and memory cap. Nothing here knows libuv,
 * OpenSSL, libcurl, SQLite or libwebsockets. */
#ifndef HOLDFAST_POLICY_POLICY_H
#define HOLDFAST_POLICY_POLICY_H

#include "base/buffer.h"
#include "base/slots.h"
#include "base/value.h"
#include "engine/cause.h"
#include "engine/event.h"
#include "engine/plan.h"
#include "frame/rules.h"

/* --- errors: every one of a load or build at once, each naming its place ------------------------ */

struct problem {
    char file[256];
    uint32_t line;      /* 0 when not known */
    char key[128];      /* "backoff.first", "classify[3].verdict"; "" for syntax errors */
    char text[256];     /* what is wrong and what was expected, nearest valid name included */
    bool warning;       /* legal and unwise */
};

struct problems {
    struct problem *items; /* owned */
    uint32_t count;        /* errors and warnings */
    uint32_t errors;
};

void problems_init(struct problems *p);
void problems_deinit(struct problems *p);
void problems_add(struct problems *p, bool warning, const char *file, uint32_t line,
                  const char *key, const char *format, ...) __attribute__((format(printf, 6, 7)));
/* "policies/chatter.lua:31: backoff.frist: unknown key; did you mean `first`?" */
const char *problem_format(const struct problem *p, char *out, size_t out_bytes);

/* --- loading ------------------------------------------------------------------------------------ */

struct policy_version; /* opaque */

struct policy_limits {
    /* Per call or resume, in units of about 5 ns: an instruction is one, what C does for a hook
     * costs what it takes. Default 1.5 million (5 to 15 ms); a frame or HTTP body that is handed in
     * adds 6 per byte (of 4 MiB at most), so that big honest ones can be read. */
    uint64_t call_instructions;
    size_t memory_bytes_max;    /* per state; default 16 MiB */
};

/* Which lines of a policy's own file have run. */
#define POLICY_REACH_LINES 4096u
struct policy_reach {
    uint64_t seen[POLICY_REACH_LINES / 64];
};
void policy_reach_add(struct policy_reach *r, uint32_t line);
bool policy_reach_has(const struct policy_reach *r, uint32_t line);

/* A text that a policy was made of: its own file (name ""), or one beside it that it required. */
struct policy_source {
    const char *name;
    const void *text;
    size_t len;
};

struct policy_load {
    const char *name;          /* "discord" */
    const char *path;          /* of the file, as shown to people */
    const char *lua_path;      /* folder of lua/ (holdfast.lua lives there); NULL: built-in search */
    uint32_t version;          /* counted by the caller from 1 */
    struct policy_limits limits; /* zeros: defaults */
    uint64_t seed;             /* for random numbers in policies */
    struct policy_reach *reach; /* borrowed until the version is gone: lines that ran; NULL: nobody asks */
    const struct policy_source *given; /* borrowed until return: instead of all files but those of lua/; NULL */
    uint32_t given_count;
};

/* Reads, compiles, runs and checks the file. Owned (one reference), or NULL with errors in `problems`
 * (warnings may be added either way). */
struct policy_version *policy_load(const struct policy_load *load, struct problems *problems);
struct policy_version *policy_ref(struct policy_version *v);
void policy_unref(struct policy_version *v);
const char *policy_name(const struct policy_version *v);
const char *policy_path(const struct policy_version *v);
uint32_t policy_version_number(const struct policy_version *v);
uint64_t policy_text_hash(const struct policy_version *v);
const char *policy_platform(const struct policy_version *v);
/* The texts as they were read, its own first. False past the end. Borrowed while a reference is held. */
bool policy_source(const struct policy_version *v, uint32_t index, struct policy_source *out);
/* Adds all lines of its hooks that could run. */
void policy_reach_all(struct policy_version *v, struct policy_reach *out);

/* --- building for one connection ----------------------------------------------------------------- */

struct every_task {
    char name[PLAN_NAME_MAX];
    struct span_ms every;
    uint32_t line;
};

struct fetch_rule {
    char name[PLAN_NAME_MAX];
    uint64_t keep_ms;  /* how long a value is good, unless the hook says otherwise; 0: one attempt */
    uint64_t gap_ms;   /* least time between two calls */
    uint64_t pause_ms; /* least time after a call that failed; 0: the attempts' backoff is enough */
    struct span_ms renew; /* called so long before the value's end; 0 to 0: when it is asked for */
    bool stale;        /* an old value may serve while a renewal fails */
    bool by_account;   /* shared by all connections of the account; default true */
    uint32_t line;
};

#define POLICY_EVERY_MAX 8
#define POLICY_FETCH_MAX 8

struct policy_shape; /* opaque: what builds of a version have in common whose tunes are the same */

struct policy_build {
    struct policy_version *version; /* owned reference */
    struct policy_shape *shape;     /* owned reference; holds what the next six tell of */
    const struct plan *plan;
    const struct frame_rules *rules;
    const struct every_task *every;
    uint32_t every_count;
    const struct fetch_rule *fetch;
    uint32_t fetch_count;
    struct value options;           /* checked, defaults filled in; secrets as secrets */
    char *settings;                 /* owned: what it was built of, as JSON; secrets concealed */
    char **hosts;                   /* owned, one block: patterns, the policy's and those of url options */
    uint32_t host_count;
    uint64_t identity, account;     /* fingerprints of (platform, public parts or secret prints) */
    uint64_t session_of;            /* fingerprint of session.of's values: a stored session of another is invalid */
    int64_t lane;
};

/* `settings`: the connection's keys (options of the policy and `tune`), holdfast's own keys removed.
 * `file`: where they were written, for errors (lines come from the values). Owned, or NULL. */
struct policy_build *policy_build_create(struct policy_version *v, const struct value *settings,
                                         const char *file, struct problems *problems);
void policy_build_destroy(struct policy_build *b);
/* What of the settings is laid over the policy's tables, `tune` and options that stand for a table, as JSON of such
 * settings: two connections of a version with the same one behave the same. False: nothing is, or a secret. */
bool policy_overlay_json(const struct policy_version *v, const struct value *settings, struct buffer *out);
/* Is `host` (no port) covered by the build's hosts? "*.example.org" matches one or more labels. */
bool policy_host_allowed(const struct policy_build *b, const char *host);
/* May this address be called or dialled? A good URL, encrypted unless it leads to this machine or the
 * connection says `plain`, on the build's hosts. Else *why is a static sentence that begins with a verb
 * and holds nothing of the address. */
bool policy_url_allowed(const struct policy_build *b, const char *url, bool plain,
                        const char **why);

/* --- calling ------------------------------------------------------------------------------------ */

enum hook { HOOK_FETCH, HOOK_PREPARE, HOOK_GREET, HOOK_ON_BEAT, HOOK_ON_FRAME, HOOK_ON_ENDED,
            HOOK_ON_ACK, HOOK_EVERY };
const char *hook_name(enum hook h);
bool policy_has_hook(const struct policy_version *v, enum hook h);

enum call_result {
    CALL_OK,
    CALL_WAITING,      /* a task waits: see call_answer.wait */
    CALL_RAISED,       /* error text in call_answer.error, begins with file:line */
    CALL_OVER_BUDGET,  /* instructions or memory; likewise */
    CALL_BAD_ANSWER,   /* the hook answered something it may not; likewise */
};

enum wait_kind { WAIT_HTTP, WAIT_FRAME, WAIT_FETCH };

struct call_http {
    char method[8];
    struct buffer url;      /* owned; NUL-terminated text; may hold secrets */
    struct buffer headers;  /* owned; "Name: value\r\n" lines; may hold secrets */
    struct buffer body;     /* owned; may hold secrets */
    uint64_t timeout_ms;    /* 0: limits.call */
};

struct call_wait {
    enum wait_kind kind;
    struct call_http http;         /* HTTP: moved to the caller by call_answer_take or freed with it */
    struct frame_matchers frame;   /* FRAME: owned; over the build's fields */
    struct frame_matchers progress;/* FRAME: owned; empty: none */
    uint64_t within_ms;            /* FRAME: 0: limits.greeting */
    char fetch[PLAN_NAME_MAX];     /* FETCH */
};

struct policy_task; /* opaque */

struct call_answer {
    struct call_wait wait;     /* WAITING */
    /* OK, checked. PREPARE: { url =, inflate =, headers =, protocol =, plain = }, url text or secret.
     * FETCH: text, secret or table. ON_ENDED: nil, or { verdict =, delay = { low_ms, high_ms }, note = }
     * with each key optional. Others: nil. */
    struct value value;
    struct value info;         /* OK, FETCH: nil or { left =, reset = ms, lanes =, keep = ms } */
    struct buffer frame;       /* ON_BEAT, ON_ACK: encoded frame, secrets in; empty: nothing to send */
    bool frame_text;           /* text or binary message */
    uint32_t line;             /* of the hook's definition */
    char error[512];           /* other results: "policies/x.lua:31: ..."; never a secret */
    bool ended;                /* the hook called conn:fail or conn:close: the port was told */
};
void call_answer_init(struct call_answer *a);
void call_answer_deinit(struct call_answer *a);

/* What hooks may ask of the runtime while they run; implemented by dispatch. Nothing of it re-enters
 * Lua. Each returns false with a reason when it cannot be done now. */
struct conn_facts {
    const char *name;
    struct value *options;     /* borrowed; read only */
    struct value *session;     /* borrowed; tables that hooks may change through bind */
    struct value *keep;
    uint32_t generation;
    uint32_t attempt;          /* attempts since the last settled link, this one included */
    uint32_t failed;           /* failures in a row */
    uint32_t links;            /* sockets that are open, this one and one that is closing included */
    bool resuming;             /* this attempt began with a session */
    const struct policy_build *build;
    struct clock now;
};

struct policy_port {
    void *self;
    bool (*facts)(void *self, struct handle conn, struct conn_facts *out); /* false: gone */
    /* Bytes are copied. `text`: kind of WebSocket message. */
    bool (*send)(void *self, struct handle conn, uint32_t generation, enum hook by,
                 const void *bytes, size_t len, bool text, const char **why);
    bool (*set_beat)(void *self, struct handle conn, uint32_t generation, uint64_t interval_ms);
    /* Replace this link, as planned, so long from now. */
    bool (*set_retire)(void *self, struct handle conn, uint32_t generation, uint64_t after_ms);
    /* conn:fail(name, details) and conn:close(why): the link or attempt ends with this cause. */
    void (*end)(void *self, struct handle conn, uint32_t generation, const struct cause *cause);
    void (*gap)(void *self, struct handle conn, const char *why);
    void (*warn)(void *self, struct handle conn, const char *text);
    void (*log)(void *self, struct handle conn, const char *text);
    void (*budget)(void *self, struct handle conn, enum budget_kind budget, int64_t left,
                   uint64_t reset_ms, uint32_t lanes);
    /* After a hook changed conn.session or conn.keep. */
    void (*session_changed)(void *self, struct handle conn);
    void (*keep_changed)(void *self, struct handle conn);
    uint64_t (*random)(void *self, struct handle conn); /* for holdfast.random() */
    /* conn:set{ codec = ... }: a name or a table (keys as secrets). NULL: refused. False with a reason. */
    bool (*set_codec)(void *self, struct handle conn, uint32_t generation,
                      const struct value *codec, const char **why);
    /* A secret was made of others; bytes were made of a secret (a digest), and may be replaced by as many.
     * NULL: nobody asks. */
    void (*secret_made)(void *self, struct handle conn, const struct secret *made);
    void (*digest_made)(void *self, struct handle conn, void *bytes, size_t len);
};

struct policy_call {
    struct policy_version *version; /* borrowed */
    const struct policy_port *port; /* borrowed until the task is over */
    enum hook hook;
    const char *name;               /* FETCH, EVERY: which */
    struct handle conn;
    uint32_t generation;
    const struct cause *cause;      /* ON_ENDED */
    const uint8_t *frame;           /* ON_FRAME, ON_ACK: the message */
    size_t frame_len;
    const struct field_value *fields; /* its taken fields, or NULL */
};

/* Hooks that may not wait never answer CALL_WAITING (waiting in them is CALL_RAISED). On CALL_WAITING
 * `*task_out` is owned by the caller: policy_resume() until it is over, or policy_cancel(). */
enum call_result policy_call(const struct policy_call *call, struct call_answer *answer,
                             struct policy_task **task_out);

struct resume_with {
    enum wait_kind kind;
    /* HTTP: what came. FRAME: the message, or frame NULL when `within` passed. FETCH: the value, or
     * `failed` with the error's text. */
    bool answered;
    int status;
    const char *head; size_t head_len;
    const char *body; size_t body_len;
    uint64_t retry_after_ms;
    const struct cause *cause;        /* HTTP unanswered: why */
    const uint8_t *frame; size_t frame_len;
    const struct field_value *fields;
    const struct value *value;        /* FETCH */
    bool failed;                      /* FETCH: the fetch ended its attempt; the task must be cancelled instead */
};
/* `answer` is cleared first. Anything but CALL_WAITING ends the task: it is freed. */
enum call_result policy_resume(struct policy_task *task, const struct resume_with *with,
                               struct call_answer *answer);
void policy_cancel(struct policy_task *task);
/* Counters for leak checks. */
uint32_t policy_tasks_alive(const struct policy_version *v);
uint32_t policy_references(const struct policy_version *v);

#endif
