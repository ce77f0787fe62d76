/* Events: what happened, told to the engine. Plain data; one event concerns one connection. */
#ifndef HOLDFAST_ENGINE_EVENT_H
#define HOLDFAST_ENGINE_EVENT_H

#include "base/slots.h"
#include "engine/plan.h"

/* Three clocks. Suspend is boot minus mono growing; wall may jump at any time. */
struct clock {
    uint64_t mono_ms; /* CLOCK_MONOTONIC: stands still while the machine sleeps */
    uint64_t boot_ms; /* CLOCK_BOOTTIME: does not */
    uint64_t wall_ms; /* CLOCK_REALTIME: Unix time */
};

/* A link's proof of life, stamped by the driver per read, copied into deadline events. */
struct pulse {
    uint64_t last_byte_ms; /* mono; 0: none yet */
    uint64_t last_pong_ms;
    uint64_t last_frame_ms;
    uint64_t bytes_in, bytes_out;
    uint64_t frames_in, frames_out;
};

#define EVENT_MAP(X)                                                                              \
    /* connection level: generation is 0 */                                                       \
    X(START_REQUESTED, "start requested")   /* operator, or the configuration at first */         \
    X(STOP_REQUESTED, "stop requested")                                                           \
    X(RESTART_REQUESTED, "restart requested")                                                     \
    X(REMOVE_REQUESTED, "remove requested") /* ends with FX_REMOVED */                            \
    X(SHUTDOWN_REQUESTED, "shutdown requested") /* close with keep, do not dial again */          \
    X(POLICY_SWAPPED, "policy swapped")                                                           \
    X(SESSION_CHANGED, "session changed")   /* conn.session became empty or not, or was restored */ \
    X(BUDGET_TOLD, "budget told")           /* conn:budget(): the platform's own figures */       \
    X(CLOCK_JUMPED, "clock jumped")         /* fanned out by the driver, one per connection */    \
    X(HELD_BACK, "held back")               /* the host answers nobody: the next attempt can wait */ \
    X(LET_GO, "let go")                     /* and now it does */                                 \
    X(DEADLINE_PASSED, "deadline passed")                                                         \
    X(SEND_REQUESTED, "send requested")                                                           \
    X(SEND_DROPPED, "send dropped")         /* the consumer took it back or is gone */            \
    X(STORED, "stored")                                                                           \
    X(STORE_FAILED, "store failed")                                                               \
    /* attempt or link level: generation names it; stale ones are counted and dropped */          \
    X(PREPARED, "prepared")                                                                       \
    X(ATTEMPT_FAILED, "attempt failed")     /* fetch or prepare failed, or the address is refused */ \
    X(STAGE_REACHED, "stage reached")       /* resolving -> connecting -> securing -> upgrading */ \
    X(DIAL_FAILED, "dial failed")           /* before the upgrade was accepted */                 \
    X(UPGRADED, "upgraded")                                                                       \
    X(GREETING_PROGRESSED, "greeting progressed") /* conn:await{progress}: re-arms the limit */   \
    X(GREETED, "greeted")                   /* greet ended, or there is none */                   \
    X(BEAT_SET, "beat set")                                                                       \
    X(RETIRE_SET, "retire set")             /* the platform told when it will end this link */    \
    X(BEAT_ASKED, "beat asked")                                                                   \
    X(BEAT_ANSWERED, "beat answered")                                                             \
    X(ENDING_ANNOUNCED, "ending announced") /* frames.ends, conn:fail, conn:close, hook failure */ \
    X(LIMIT_CROSSED, "limit crossed")       /* frame path: protocol, size, inflate, backlog */    \
    X(PEER_CLOSED, "peer closed")           /* a close frame came, or the stream ended */         \
    X(DRAINED, "drained")                   /* answer to FX_DRAIN, with a fresh pulse */          \
    X(VERDICT_GIVEN, "verdict given")       /* answer to FX_ASK_ENDED */                          \
    X(LINK_CLOSED, "link closed")           /* the descriptor is gone: exactly once per FX_DIAL */ \
    X(TURN_AWAITED, "turn awaited")         /* FX_PREPARE is not begun yet: too many attempts are */ \
    X(TURN_GIVEN, "turn given")             /* and now it is */

enum event_kind {
#define X(name, text) EV_##name,
    EVENT_MAP(X)
#undef X
    EVENT_KIND_COUNT
};

enum send_kind {
    SEND_GREETING, /* by greet: always at once, counted */
    SEND_HOOK,     /* by on_frame, every, on_ack */
    SEND_CONSUMER, /* by a bot: queued while greeting, answered exactly once */
};

enum ask_stop_by { STOP_BY_OPERATOR, STOP_BY_REMOVAL };

struct event {
    enum event_kind kind;
    struct handle conn;
    uint32_t generation; /* 0 for connection level */
    struct clock at;
    union {
        struct { bool spend_reserve; } start; /* its next session start may be of the share for people */
        struct { const struct plan *plan; } policy_swapped;
        struct { bool present; uint64_t saved_wall_ms, begun_wall_ms; } session_changed;
        struct {
            enum budget_kind budget;
            int64_t left;          /* -1: not told */
            uint64_t reset_ms;     /* from now; 0: not told */
            uint32_t lanes;        /* 0: not told */
        } budget_told;
        struct { uint64_t suspended_ms; int64_t wall_step_ms; } clock_jumped;
        struct { uint64_t within_ms; } let_go; /* the attempt is drawn from now on until then */
        struct { struct pulse pulse[2]; uint32_t generation[2]; } deadline; /* open links' pulses */
        struct {
            uint64_t send_id;      /* the driver holds the bytes under it */
            uint32_t bytes;
            enum send_kind by;
            bool starts_session;   /* matches budgets.start.frame */
        } send;
        struct { uint64_t ticket; } store;
        struct { enum stage stage; } stage;
        struct { uint64_t interval_ms; } beat_set;
        struct { uint64_t after_ms; } retire_set; /* from now */
        struct cause cause;        /* ATTEMPT_FAILED DIAL_FAILED LIMIT_CROSSED PEER_CLOSED LINK_CLOSED */
        struct { struct cause cause; uint64_t wait_ms; } ending; /* ENDING_ANNOUNCED */
        struct { struct pulse pulse; } drained;
        struct {
            bool given;            /* false: the tables decide */
            enum drop drop;
            enum pace pace;
            bool has_delay;
            struct span_ms delay;
            char note[PLAN_NOTE_MAX];
            uint32_t line;
            bool failed;           /* the hook raised or ran over budget: journaled */
        } verdict;
    };
};

const char *event_name(enum event_kind kind);

#endif
