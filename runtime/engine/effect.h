/* Effects: orders from the engine, carried out in order by dispatch.c. Plain data. */
#ifndef HOLDFAST_ENGINE_EFFECT_H
#define HOLDFAST_ENGINE_EFFECT_H

#include "base/slots.h"
#include "engine/cause.h"
#include "engine/plan.h"

#define CONN_STATE_MAP(X)                                                                          \
    X(STOPPED, "stopped") X(WAITING, "waiting") X(QUEUED, "queued") X(PREPARING, "preparing")      \
    X(LINKING, "linking") X(UP, "up") X(CLOSING, "closing")

enum conn_state {
#define X(name, text) CONN_##name,
    CONN_STATE_MAP(X)
#undef X
    CONN_STATE_COUNT
};

/* Link states are the stages RESOLVING to CLOSING of engine/cause.h, plus NONE and CLOSED. */
#define LINK_STATE_MAP(X)                                                                          \
    X(NONE, "none") X(RESOLVING, "resolving") X(CONNECTING, "connecting") X(SECURING, "securing")  \
    X(UPGRADING, "upgrading") X(GREETING, "greeting") X(READY, "ready") X(DRAINING, "draining")    \
    X(CLOSING, "closing") X(CLOSED, "closed")

enum link_state {
#define X(name, text) LINK_##name,
    LINK_STATE_MAP(X)
#undef X
    LINK_STATE_COUNT
};

#define EFFECT_MAP(X)                                                                              \
    X(PREPARE, "prepare")       /* run fetch/prepare; answer PREPARED or ATTEMPT_FAILED */         \
    X(DIAL, "dial")             /* open a link to the prepared address */                          \
    X(GREET, "greet")           /* run greet; answer GREETED or ENDING_ANNOUNCED */                \
    X(READY, "ready")           /* the greeting was accepted: release queued work */               \
    X(SETTLED, "settled")       /* ready for `settle`: counters were cleared */                    \
    X(BEAT, "beat")             /* run on_beat and send what it answers */                         \
    X(PING, "ping")             /* a WebSocket ping */                                             \
    X(DRAIN, "drain")           /* read what the kernel holds, then DRAINED */                     \
    X(SEND, "send")             /* put the bytes of send_id on the wire */                         \
    X(REFUSE, "refuse")         /* answer send_id: not sent, and why */                            \
    X(CLOSE, "close")           /* send a close frame (code), flush; LINK_CLOSED follows in the end */ \
    X(ABORT, "abort")           /* close the descriptor now; LINK_CLOSED follows */                \
    X(CANCEL, "cancel")         /* end calls and coroutines of this generation */                  \
    X(ASK_ENDED, "ask ended")   /* call on_ended with the cause; answer VERDICT_GIVEN */           \
    X(DROP_SESSION, "drop session")                                                                \
    X(DROP_FETCHED, "drop fetched") /* name: one, "" all of the connection's */                    \
    X(STORE, "store")           /* a durable write; answer STORED or STORE_FAILED with the ticket */ \
    X(GAP, "gap")               /* a hole in the stream, for consumers */                          \
    X(STATE, "state")           /* the connection's state changed, for consumers and logs */       \
    X(JOURNAL, "journal")       /* a decision with cause, wish, clamp and outcome */               \
    X(ALARM, "alarm")           /* for people: something is wrong beyond this connection */        \
    X(REMOVED, "removed")       /* the handle is free */

enum effect_kind {
#define X(name, text) FX_##name,
    EFFECT_MAP(X)
#undef X
    EFFECT_KIND_COUNT
};

enum store_kind {
    STORE_PERMIT,        /* reserve a permit of `budget`, counted until wall_ms and boot_ms: its latest use */
    STORE_PERMIT_RETURN, /* it was not used; the values are those it was reserved with */
    STORE_TOLD,          /* what the platform said of `budget`, less what was claimed since */
};

enum refuse_why {
    REFUSE_NOT_UP,      /* retry: true */
    REFUSE_QUEUE_FULL,  /* retry: true */
    REFUSE_LINK_ENDED,  /* it waited, and the link ended; retry: true */
    REFUSE_TOO_LONG,    /* never: over sizes.send (said by the driver too) */
    REFUSE_NO_PERMIT,   /* a session start without a permit */
    REFUSE_REMOVED,
};

struct decision {
    struct cause cause;         /* stored copy: no head, no body */
    enum drop drop;             /* outcome */
    enum pace pace;
    bool planned;
    uint32_t attempt;           /* failures in a row, this one included */
    uint64_t wish_low_ms, wish_high_ms; /* what rule or hook asked for */
    uint64_t backoff_ms;        /* what the backoff drew */
    uint64_t delay_ms;          /* outcome, after clamps */
    bool clamped;
    enum { DECIDED_BY_RULE, DECIDED_BY_HOOK, DECIDED_BY_CLIMB, DECIDED_BY_ENGINE, DECIDED_BY_OPERATOR } by;
    uint32_t line;              /* of the rule, hook or climb in plan.file; 0: none */
    char note[PLAN_NOTE_MAX];
};

struct effect {
    enum effect_kind kind;
    struct handle conn;
    uint32_t generation; /* of the attempt or link concerned; 0: the connection */
    union {
        struct { bool needs_start; } prepare;             /* the attempt will start a session */
        struct { bool asked; } beat;
        struct { uint64_t send_id; } send;
        struct { uint64_t send_id; enum refuse_why why; bool retry; } refuse;
        struct { uint16_t code; char reason[64]; } close;
        struct cause ask_ended;
        struct { char name[PLAN_NAME_MAX]; } drop_fetched;
        struct {
            uint64_t ticket;
            enum store_kind kind;
            enum budget_kind budget;
            uint64_t account;
            int64_t lane;
            uint64_t wall_ms, boot_ms;
            bool no_answer;      /* nobody waits for it */
            bool reserve;        /* PERMIT: of the share that is kept for people */
            int64_t left;        /* TOLD; -1: only lanes are known */
            uint32_t lanes;      /* TOLD; 0: not told */
            uint64_t until_wall_ms, until_boot_ms; /* TOLD: `left` counts until then */
        } store;
        struct { char cause[CAUSE_NAME_MAX]; bool certain; } gap;
        struct {
            enum conn_state from, to;
            struct cause cause;   /* kind NONE when there is none */
            uint64_t next_ms;     /* mono deadline of what happens next; ENGINE_NEVER */
        } state;
        struct decision journal;
        struct { char text[PLAN_NOTE_MAX]; } alarm;
    };
};

#define EFFECTS_MAX 48

struct effect_list {
    struct effect items[EFFECTS_MAX];
    uint32_t count;
};

const char *effect_name(enum effect_kind kind);
const char *conn_state_name(enum conn_state s);
const char *link_state_name(enum link_state s);
const char *refuse_text(enum refuse_why why);

#endif
