/* Plan: a policy's tables as plain C, compiled by policy/ for one connection (its `tune` applied). Read
 * only while the engine holds it; whoever compiled it keeps it until the connection was given another
 * plan or is gone.
 *
 * Glossary
 *   drop     what the next attempt must do without: RESUME nothing, FRESH the session, RENEW also the
 *            fetched values. Merging keeps the stronger.
 *   pace     NORMAL backoff, SLOW minutes, STOP until an operator or new credentials come.
 *   climb    a rule that raises the verdict after repeated mild failures
 */
#ifndef HOLDFAST_ENGINE_PLAN_H
#define HOLDFAST_ENGINE_PLAN_H

#include "engine/cause.h"

#define PLAN_FLOOR_MS_MIN 250 /* the engine's own minimum between two attempts (I3) */
#define PLAN_WINDOWS_MAX 4
#define PLAN_NAME_MAX 32
#define PLAN_NOTE_MAX 160

enum drop { DROP_RESUME, DROP_FRESH, DROP_RENEW };
enum pace { PACE_NORMAL, PACE_SLOW, PACE_STOP };
enum jitter { JITTER_NONE, JITTER_FULL, JITTER_EQUAL }; /* full: U[0,d]; equal: d/2 + U[0,d/2] */
enum beat_first { BEAT_SPREAD, BEAT_AT_ONCE, BEAT_AFTER }; /* first beat: U[0,1) of every, 0, or every */
enum replay { REPLAY_SESSION, REPLAY_UNACKED, REPLAY_NONE };
enum backlog_full { BACKLOG_DROP_OLDEST, BACKLOG_HOLD };
enum budget_kind { BUDGET_START, BUDGET_DIAL, BUDGET_CALL, BUDGET_SEND, BUDGET_COUNT };

struct span_ms {
    uint64_t low, high; /* the engine draws in [low, high] */
};

struct code_range {
    int64_t low, high; /* both included */
};

/* AND across what is set, OR inside each list. An unset list has count 0. */
struct cause_matcher {
    bool any;                     /* matches everything */
    struct code_range *close;     /* owned by the plan, as all pointers here */
    uint32_t close_count;
    struct code_range *http;
    uint32_t http_count;
    struct code_range *code;
    uint32_t code_count;
    uint32_t stages;              /* bit 1 << enum stage; 0: any */
    char (*causes)[CAUSE_NAME_MAX];
    uint32_t cause_count;
    char *reason;                 /* substring; only beside close, http, code or cause. NULL: any */
    char *header_name;            /* header `name` has exactly the value; NULL: any */
    char *header_value;
    int8_t session;               /* 1: the attempt meant to resume, 0: it did not, -1: either */
    uint64_t under_ms;            /* link younger than this; 0: any age */
    uint32_t by;                  /* bit 1 << enum cause_by; 0: any */
};

struct classify_rule {
    struct cause_matcher match;
    enum drop drop;
    enum pace pace;
    bool has_delay;
    struct span_ms delay;         /* instead of the backoff's draw; clamped from below by it (I3) */
    bool delay_from_retry_after;  /* cause.retry_after_ms, clamped; `otherwise` when there is none */
    struct span_ms otherwise;
    bool has_otherwise;
    bool has_pace_span;           /* `pace = { "30s", "10m" }`: a slow ladder of its own */
    struct span_ms pace_span;
    bool counts;                  /* raises the failure counter; default true */
    bool planned;                 /* free of backoff if the link had settled; allows a handover */
    char drop_fetch[PLAN_NAME_MAX]; /* mark one fetched value old; "" none */
    char as[CAUSE_NAME_MAX];      /* rename the cause; "" none */
    char note[PLAN_NOTE_MAX];     /* for people; "" none */
    uint32_t line;                /* in the policy file */
};

struct climb_rule {
    struct cause_matcher *on;     /* any one */
    uint32_t on_count;
    uint32_t times;               /* the times-th occurrence already gets `to` */
    uint64_t within_ms;           /* 0: consecutive, cleared when settled; else a sliding window */
    enum drop to;
    enum pace pace;
    bool has_pace_span;
    struct span_ms pace_span;
    char note[PLAN_NOTE_MAX];
    uint32_t line;
};

#define CLIMB_RULES_MAX 8    /* the engine keeps one counter each */
#define CLIMB_TIMES_MAX 16   /* and this many instants each for `within` */

struct window {
    uint32_t count;
    uint64_t ms;
};

struct budget_plan {
    bool on;
    struct window windows[PLAN_WINDOWS_MAX];
    uint32_t window_count;
    uint64_t gap_ms;    /* least time between two in one lane */
    double operators;   /* share kept for people, 0 to 0.5 */
    uint32_t beats;     /* SEND only: kept free for beats */
};

struct plan {
    char platform[PLAN_NAME_MAX];
    char file[128];          /* of the policy, as shown in the journal */
    uint32_t version;        /* of the policy */
    struct {
        uint64_t prepare, call, resolve, connect, secure, upgrade, greeting, close, drain;
    } limits_ms;             /* all above 0 */
    uint64_t ping_ms;        /* alive.ping; 0: we send none */
    uint64_t silence_ms;     /* alive.silence; 0: never judged */
    bool promised;           /* the platform promised keep-alives: silence alone proves death */
    struct {
        bool on;             /* a beat is used at all */
        uint64_t every_ms, least_ms, most_ms; /* conn:set{beat} is clamped to [least, most] */
        enum beat_first first;
        uint64_t within_ms;  /* an answer is due so long after its beat; 0: until the next one is */
        bool answered;       /* the platform answers beats: unanswered ones are judged */
        uint32_t dead;       /* so many unanswered in a row prove death, at least 1 */
    } beat;
    struct {
        uint64_t first_ms, most_ms, floor_ms, settle_ms;
        double factor;
        enum jitter jitter;
    } backoff;
    struct {
        uint64_t first_ms, most_ms;
        double factor;
    } slow;
    struct budget_plan budgets[BUDGET_COUNT];
    struct {
        bool on;             /* the policy keeps sessions at all */
        uint64_t age_ms;     /* since it was last in use; 0: no bound */
        uint64_t life_ms;    /* since it began; 0: no bound */
        enum replay replay;
        uint64_t replay_for_ms; /* what is replayed is no older; 0: no bound */
    } session;
    uint32_t overlap;        /* 0 or 1 */
    uint64_t retire_after_ms; /* 0: never */
    double retire_jitter;    /* 0 to 0.9 */
    uint16_t close_keep, close_final;
    struct classify_rule *classify; /* owned */
    uint32_t classify_count;
    struct climb_rule *climb;       /* owned; at most CLIMB_RULES_MAX */
    uint32_t climb_count;
    bool has_greet, has_on_ended, has_on_beat, has_on_frame;
    struct {
        uint64_t bytes_max, age_ms, hold_ms;
        enum backlog_full full;
    } backlog;
};

/* A plan of the engine's own defaults (section 6 of the design): what a policy that sets nothing gets. */
void plan_defaults(struct plan *p);
/* Frees what the plan owns, not the struct. */
void plan_deinit(struct plan *p);
const char *drop_name(enum drop d);
const char *pace_name(enum pace p);
const char *budget_name(enum budget_kind b);

#endif
