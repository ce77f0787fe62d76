/* What the files of engine/ share. Nobody outside includes this.
 *
 * Glossary, beyond engine.h
 *   step      one call of engine_step(): the event, the connection it concerns, the effects so far.
 *   role      MAIN serves or is meant to; NEXT is the planned successor of a living MAIN; OLD was
 *             replaced or died during a handover and only has to be closed.
 *   alive     a link in RESOLVING to READY: it has not ended yet.
 *   ends      the moment a link's end is known: it enters CLOSING and is judged, once.
 *   claim     a place in a budget, taken in memory before the attempt; stored, it is a permit.
 *
 * The connection's state is derived from facts (its links, its attempt, its wishes) in
 * conn_update(), so that no handler can leave the two apart; conn_enter() alone writes it. */
#ifndef HOLDFAST_ENGINE_INTERNAL_H
#define HOLDFAST_ENGINE_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/slots.h"
#include "engine/engine.h"
#include "engine/heap.h"

#define ASK_LIMIT_MS 1000       /* on_ended's answer; then the tables decide */
#define DRAIN_LIMIT_MS 1000     /* the answer to FX_DRAIN; then the pulse we have is judged */
#define TURN_LIMIT_MS 600000    /* TURN_GIVEN after TURN_AWAITED; then the driver forgot it */
#define ABORT_LIMIT_MS 5000     /* LINK_CLOSED after FX_ABORT; then again, with an alarm */
#define PEER_CLOSE_MS_MAX 60000 /* longest wait for the peer's close after an announced ending */
#define SUSPEND_MS_DEFAULT 60000
#define SUSPEND_DELAY_MS_MAX 600 /* a dial within a second of waking up, prepare included */
#define RETRY_AFTER_MS_MAX ((uint64_t)24 * 3600 * 1000)
#define TOLD_MS_DEFAULT 5000    /* figures told without a reset hold this long */

#define TOLD_MS_MAX (RETRY_AFTER_MS_MAX * 31)
#define RESTORE_AGE_MS_MAX ((uint64_t)400 * 24 * 3600 * 1000) /* longer than any window */

#define LEDGER_COUNT_MAX 4096   /* entries kept per ledger; larger windows count as this large */
#define SEND_SLICE_MAX 16       /* sends answered per step; the rest at once, in further steps */
#define STEP_EFFECTS_MAX 32     /* everything else that one step may order */
#define REFRESH_MAX 64          /* waiters of an account whose deadlines follow each change */
_Static_assert(EFFECTS_MAX >= SEND_SLICE_MAX + STEP_EFFECTS_MAX, "one step always fits");
_Static_assert(CLIMB_RULES_MAX <= 32, "climbs fit one mask");

/* One constant per use: an extra draw in one place moves nothing anywhere else. */
enum draw {
    DRAW_BACKOFF = 1,
    DRAW_SLOW,
    DRAW_DELAY,
    DRAW_RETRY_AFTER,
    DRAW_BEAT,
    DRAW_RETIRE,
    DRAW_SUSPEND,
    DRAW_HOLD,
};

/* --- ledgers (ledger.c): what was used --- */

struct ledger_entry {
    int64_t at;   /* boot ms; restored ones may lie before boot */
    int64_t lane;
};

struct ledger {
    struct ledger_entry *entries; /* owned ring, oldest first */
    uint32_t capacity, head, count;
    bool unsorted;                /* restored entries are not in order yet */
    uint64_t longest_ms;          /* of the windows and gaps seen */
    int64_t told_left;            /* -1: not told */
    int64_t told_until;           /* boot ms */
    int64_t told_stored;          /* `left` as it was last handed to the store; -2: never */
    uint32_t lanes;               /* 0: not told */
    int64_t reserved;             /* boot ms that the newest permit was stored under */
};

void ledger_init(struct ledger *l);
/* Room for what the budget's windows count. False without memory. */
bool ledger_reserve(struct ledger *l, const struct budget_plan *b);
/* At least so much. False without memory. */
bool ledger_room(struct ledger *l, uint32_t capacity);
void ledger_push(struct ledger *l, int64_t at, int64_t lane);
/* In any order; ledger_settle() sorts. Keeps the newest. False without memory. */
bool ledger_restore(struct ledger *l, int64_t at, int64_t lane);
void ledger_settle(struct ledger *l);
const struct ledger_entry *ledger_at(const struct ledger *l, uint32_t i);
/* The first entry that a closed window [now - ms, now] still holds; count when none. */
uint32_t ledger_first(const struct ledger *l, int64_t now, uint64_t window_ms);
int64_t ledger_lane(const struct ledger *l, int64_t value);
/* What is left by the platform's word; INT64_MAX when it said nothing that still counts. */
int64_t ledger_told(const struct ledger *l, int64_t now);
/* Nothing in it can count any more. */
bool ledger_forgotten(const struct ledger *l, int64_t now);

/* --- budgets (budget.c) --- */

/* One connection in an account's queue or among its claims. */
struct budget_node {
    struct budget_node *prev, *next;
    struct conn *conn;
    int64_t lane;
    uint32_t needs; /* bit 1 << enum budget_kind */
    bool reserve;   /* may take of the share for people */
    bool listed;
};

struct budget_list {
    struct budget_node *head, *tail;
    uint32_t count;
};

#define ACCOUNT_BUDGETS BUDGET_SEND /* START, DIAL, CALL; sends are counted per link */

struct account {
    uint64_t id;
    uint32_t refs;
    bool dirty;       /* waiters' deadlines want to be computed again */
    bool unsettled;   /* a ledger is unsorted */
    int64_t now;      /* boot ms, never backwards: a step of wall time refills nothing */
    uint64_t touched; /* by which step or restoring last, counted in the whole engine */
    /* Up to here is what a step looks at that is not about permits: one line of memory. */
    struct ledger ledgers[ACCOUNT_BUDGETS];
    struct budget_list waiting; /* first come, first served; people before all */
    struct budget_list claims;  /* places taken whose use still lies ahead */
};

/* What a permit waits for. */
struct budget_wait {
    int64_t until; /* boot ms; at or before a->now: nothing */
    enum budget_hold hold;
    uint64_t window_ms;
    uint32_t window_count;
};

static inline struct ledger *account_ledger(const struct account *a, int kind)
{
    ASSERT(kind >= 0 && kind < (int)ACCOUNT_BUDGETS);
    return (struct ledger *)&a->ledgers[kind];
}

struct account *account_create(uint64_t id);
void account_destroy(struct account *a);
/* Nobody has it and nothing of it can count any more. */
bool account_forgotten(const struct account *a, uint64_t boot_ms);
/* Room for what the plan's windows count. False without memory. */
bool account_reserve(struct account *a, const struct plan *p);
void account_tick(struct account *a, struct clock at);
/* Boot ms from which `node` may take what it needs; at or before a->now: now. Those before it in
 * the queue come first; a node that is not queued stands behind all. */
int64_t account_free_at(const struct account *a, const struct plan *p,
                        const struct budget_node *node);
void account_wait(struct account *a, struct budget_node *node);
void account_unwait(struct account *a, struct budget_node *node);
void account_claim(struct account *a, struct budget_node *node);
/* Gives back the claims in `needs` without use. */
void account_release(struct account *a, struct budget_node *node, uint32_t needs);
/* The claim of `kind` becomes an entry at this moment. */
void account_spend(struct account *a, struct budget_node *node, enum budget_kind kind);
/* engine_call(), of the account. */
bool account_call(struct account *a, const struct plan *p, struct conn *conn, uint64_t *wait_ms_out);
void account_told(struct account *a, enum budget_kind kind, int64_t left, uint64_t reset_ms,
                  uint32_t lanes);
/* False when figures told since the claim leave no place for it. */
bool account_claim_holds(const struct account *a, const struct budget_plan *b,
                         const struct budget_node *node, enum budget_kind kind);
uint32_t account_claimed(const struct account *a, enum budget_kind kind);
/* How `kind` stands for a node that asks, whether it is queued or not. */
void account_view(const struct account *a, const struct plan *p, enum budget_kind kind,
                  const struct budget_node *node, struct budget_wait *wait_out,
                  struct budget_wait *reserve_wait_out, struct budget_view *out);

/* Sends of one link, on the monotonic clock; starts empty with each link. */
struct send_ledger {
    uint64_t *at; /* owned ring, oldest first */
    uint32_t capacity, head, count;
    uint64_t told_until; /* no sends but beats before; 0 */
};
bool send_ledger_reserve(struct send_ledger *l, const struct budget_plan *b);
void send_ledger_reset(struct send_ledger *l);
void send_ledger_note(struct send_ledger *l, const struct budget_plan *b, uint64_t now);
/* From when one more send that is no beat fits; at or before now: now. */
uint64_t send_ledger_free_at(const struct send_ledger *l, const struct budget_plan *b,
                             uint64_t now);
void send_ledger_view(const struct send_ledger *l, const struct budget_plan *b, uint64_t now,
                      struct budget_view *out);

/* --- connections and links --- */

enum link_role { ROLE_MAIN, ROLE_NEXT, ROLE_OLD };
enum close_phase { CLOSE_NONE, CLOSE_PEER_WAIT, CLOSE_SENT, CLOSE_ABORTED };
enum drain_for { DRAIN_FOR_PROBE = 1, DRAIN_FOR_SILENCE = 2, DRAIN_FOR_BEAT = 4 };

struct stall {
    uint64_t last_in_ms;    /* newest proof of life that we were told */
    uint64_t first_ping_ms; /* first ping since then; 0: none */
    uint64_t last_ping_ms;
    uint32_t draining;      /* bits of enum drain_for; 0: no drain under way */
    uint64_t drain_since_ms;
};

struct beat {
    bool on;
    uint64_t wished_ms;   /* what the policy set, before the plan's clamp; 0: the plan's own */
    uint64_t next_ms;     /* when the next regular one is due, and the last one judged */
    uint64_t sent_ms;     /* the last regular one; 0: none yet */
    bool pending;         /* sent and not answered */
    uint32_t missed;      /* unanswered in a row */
    uint64_t sent, answered, answered_ms, round_trip_ms;
};

struct link {
    enum link_state state; /* NONE: this place is free */
    enum link_role role;
    uint32_t generation;
    uint64_t since_ms;     /* state entered, or its limit re-armed */
    uint64_t dialed_ms;
    uint64_t ready_ms;     /* 0: never */
    bool settled;
    bool session;          /* meant to resume */
    bool retiring;         /* judged as planned, serves until its successor is ready */
    bool alarmed;
    double retire_draw;    /* U[0,1), fixed when it became ready */
    uint64_t retire_at_ms; /* as the policy told of this link; 0: not told */
    enum close_phase closing;
    uint64_t closing_since_ms, peer_wait_ms;
    uint16_t close_code;   /* that we sent; 0 */
    struct stall stall;
    struct beat beat;
    struct send_ledger sends;
};

struct verdict {
    enum drop drop;
    enum pace pace;
    bool has_delay, from_retry_after, has_otherwise, has_pace_span;
    struct span_ms delay, otherwise, pace_span;
    uint32_t pace_step; /* of pace_span's ladder; the count of slow verdicts since the link settled if more */
    bool counts, planned;
    char drop_fetch[PLAN_NAME_MAX];
    char note[PLAN_NOTE_MAX];
    uint32_t line;
    int by; /* DECIDED_BY_* */
};

/* The one ending that is being judged, and after it the last that was. */
struct judging {
    bool pending;          /* on_ended was asked */
    uint64_t since_ms;
    uint32_t generation;   /* of the attempt or link that ended; 0: none yet */
    bool settled;          /* it had settled */
    bool successor;        /* it was a handover's, and the old link lives */
    struct cause cause;
    struct verdict base;   /* from tables or hook */
    struct verdict climb;  /* what the climbs raise; RESUME and NORMAL when nothing */
    uint32_t climbs_seen;  /* rules that counted this ending already */
};

struct climb_state {
    uint32_t count;
    uint64_t at_ms[CLIMB_TIMES_MAX]; /* ring of the last occurrences */
    uint32_t next;
};

/* Of a connection that has troubles: few have at a time, or all at once, and then not for long. */
struct climb_block {
    struct climb_state rules[CLIMB_RULES_MAX];
    struct climb_block *next; /* in the engine's pool */
};

/* HELD: it could be dialled, but the old link, which died meanwhile, is not closed yet. TURN: its work is not begun,
 * because that of so many others is under way. */
enum attempt_phase { ATTEMPT_NONE, ATTEMPT_PREPARING, ATTEMPT_STORING, ATTEMPT_HELD, ATTEMPT_TURN };
enum permit_state { PERMIT_NONE, PERMIT_CLAIMED, PERMIT_STORING, PERMIT_HELD, PERMIT_SPENT };

struct attempt {
    enum attempt_phase phase; /* NONE also once its link was dialled */
    uint64_t since_ms;
    bool handover;            /* began while the old link was up: two descriptors are allowed */
};

struct permit {
    enum permit_state state;
    uint32_t generation;
    uint64_t ticket;
    uint64_t wall_ms, boot_ms; /* what it was stored under: its latest use */
};

#define SEND_NONE UINT32_MAX

struct queued_send {
    uint64_t send_id;
    enum send_kind by;
    uint32_t next; /* index, or SEND_NONE */
};

/* What each step looks at comes first, in the order in which it is looked at: of ten thousand connections none is in
 * a cache when its beat is due. */
struct conn {
    struct handle self;
    const struct plan *plan;
    struct account *account;
    enum conn_state state;
    uint8_t heap;  /* enum heap_kind */
    bool removing;
    bool wanted;   /* nobody stopped it */
    bool fatal;    /* a verdict did */
    bool doomed;   /* a successor met a fatal cause: no further attempt once this link is gone */
    bool planned_next;   /* the next attempt is a planned replacement: exempt from the floor */
    bool attempted;
    bool held;              /* put off; it was due at unheld_at_ms */
    bool queued;            /* its time has come, a budget's has not */
    bool session_present;
    uint64_t deadline_ms;
    const char *next;
    uint32_t generation, failed;
    uint64_t attempt_at_ms; /* when the next attempt may begin; ENGINE_NEVER: none is due */
    uint64_t queue_at_ms;
    struct attempt attempt;
    uint32_t sends_head, sends_tail, sends_count;
    uint32_t sends_doomed; /* so many from the head are to be refused */
    enum refuse_why sends_why;
    struct link links[2];
    struct judging judging;

    char name[64];
    uint64_t stream; /* of its draws */
    uint64_t identity;
    int64_t lane;

    uint64_t since_mono_ms, since_wall_ms;
    struct cause cause;
    struct decision decision;
    uint64_t decided_ms;

    uint32_t slow_count;
    uint64_t last_attempt_ms;
    uint64_t unheld_at_ms;
    struct permit permit;
    struct budget_node wait, claim;
    struct climb_block *climbs; /* owned; NULL: nothing was counted since it settled */
    bool climb_alarmed;     /* since the last settled link */

    uint64_t session_saved_wall_ms, session_begun_wall_ms;
    bool spend_reserve;   /* an operator lets its next session start use the share for people */
    bool wants_start;     /* a greeting tried to start one without a permit: the next has one */
    bool session_known;   /* there was one, or the connection was ready: its loss is a gap */

    uint64_t heard_boot_ms; /* when a link that served was last heard of */
    uint64_t attempts_total, ready_total, stale_events;
};

/* One of its two places for a link. */
static inline struct link *conn_link(const struct conn *c, int place)
{
    ASSERT(place >= 0 && place < 2);
    return (struct link *)&c->links[place];
}

/* Deadlines of links that serve come first, however many others are due: a herd that wants to dial must not make
 * beats late. */
enum heap_kind { HEAP_SERVES, HEAP_OTHERS, HEAP_KINDS };

struct engine {
    struct engine_options options;
    struct slots conns;
    struct heap heaps[HEAP_KINDS];
    uint32_t *heap_at; /* owned: of each connection's place in its heap */
    uint64_t *identities; /* owned; of conns, by place: side by side, because each that is added is compared with all */
    struct account **accounts; /* owned, open addressing, capacity a power of two */
    uint32_t account_count, account_capacity;
    struct queued_send *sends; /* owned pool */
    struct climb_block *climbs; /* owned pool */
    uint32_t sends_free, sends_used;
    uint64_t now_ms, boot_ms;
    uint64_t next_ticket;
    uint64_t stale_events; /* of connections that are gone */
    uint64_t touches;      /* of accounts, by steps and restores */
#ifdef HOLDFAST_TEST
    enum engine_plant plant;
#endif
};

#ifdef HOLDFAST_TEST
#define PLANTED(engine, which) ((engine)->plant == (which))
#else
#define PLANTED(engine, which) false
#endif

struct step {
    struct engine *e;
    struct conn *c;
    const struct event *ev;
    struct clock at;
    uint64_t now; /* at.mono_ms, never backwards */
    struct effect_list *out;
};

/* One broken connection must not end the others: its link is aborted, it goes slow, people are
 * told. */
#define ENSURE_CONN(s, expression)                                                                 \
    do {                                                                                           \
        if (!(expression)) {                                                                       \
            conn_broken(s, #expression);                                                           \
            return;                                                                                \
        }                                                                                          \
    } while (0)

/* The earlier of two deadlines; names `b` in *next when it wins. */
static inline uint64_t earlier(uint64_t a, uint64_t b, const char **next, const char *label)
{
    if (b >= a) return a;
    *next = label;
    return b;
}

/* --- effects and draws (effects.c) */
struct effect *fx(struct step *s, enum effect_kind kind, uint32_t generation);
void fx_alarm(struct step *s, const char *text);
uint64_t conn_draw(const struct step *s, uint32_t generation, enum draw purpose, uint32_t count);
uint64_t span_draw(struct span_ms span, uint64_t draw);

/* --- backoff.c */
uint64_t backoff_floor_ms(const struct plan *p);
/* The bound before jitter after `failed` failures (1: the first). */
uint64_t backoff_bound_ms(const struct plan *p, uint32_t failed);
uint64_t backoff_jittered_ms(const struct plan *p, uint32_t failed, uint64_t draw);
/* The slow ladder's wait for its count-th step, in `span` when it is not NULL. */
uint64_t backoff_slow_ms(const struct plan *p, const struct span_ms *span, uint32_t count,
                         uint64_t draw);

/* --- match.c */
bool cause_matches(const struct cause_matcher *m, const struct cause *c);

/* --- verdict.c */
struct verdict verdict_classify(const struct plan *p, struct cause *cause);
/* True when `more` raised drop or pace. */
bool verdict_raise(struct verdict *v, const struct verdict *more);
/* The end of the attempt or link `generation`; cause is complete. */
void judge_begin(struct step *s, const struct cause *cause, uint32_t generation, bool settled,
                 bool successor);
/* on_ended answered, or its limit passed (answered: false). */
void judge_answer(struct step *s, bool answered);
/* A further cause of an ending that was judged already: it may only raise. */
void judge_more(struct step *s, const struct cause *cause, uint32_t generation);
/* A decision of the engine or an operator itself. */
void judge_directly(struct step *s, const struct cause *cause, int by, enum pace pace,
                    uint64_t delay_ms, const char *note);
void climbs_settled(struct engine *e, struct conn *c);
/* engine.c: of the pool, all zero. */
struct climb_block *climbs_take(struct engine *e);
void climbs_give(struct engine *e, struct climb_block *b);
/* Nothing was counted. */
void climbs_drop(struct engine *e, struct conn *c);

/* --- stall.c */
void stall_begin(struct step *s, struct link *l);
/* When a pending beat is judged; when none is, the next one. */
uint64_t stall_beat_due_ms(const struct plan *p, const struct link *l);
/* When silence is judged, by the newest pulse that was told; ENGINE_NEVER. */
uint64_t stall_silence_due_ms(const struct plan *p, const struct link *l);
void stall_pulse(struct step *s, struct link *l, const struct pulse *pulse);
void stall_tick(struct step *s, struct link *l);
void stall_drained(struct step *s, struct link *l);
void stall_probe(struct step *s, struct link *l);
uint64_t stall_deadline(const struct conn *c, const struct link *l, const char **next);
uint64_t beat_interval_ms(const struct plan *p, const struct link *l);
void beat_begin(struct step *s, struct link *l, uint64_t interval_ms);
void beat_asked(struct step *s, struct link *l);
void beat_answered(struct step *s, struct link *l);

/* --- link.c */
struct link *link_find(struct conn *c, uint32_t generation);
struct link *link_of_role(const struct conn *c, enum link_role role);
uint32_t links_open(const struct conn *c);
bool link_alive(const struct link *l);
void link_enter(struct step *s, struct link *l, enum link_state to);
void link_dial(struct step *s);
void link_stage(struct step *s, struct link *l, enum link_state to);
void link_close(struct step *s, struct link *l, uint16_t code, const char *reason);
void link_abort(struct step *s, struct link *l);
void link_peer_wait(struct step *s, struct link *l, uint64_t wait_ms);
void link_free(struct step *s, struct link *l);
void link_tick(struct step *s, struct link *l);
uint64_t link_deadline(const struct conn *c, const struct link *l, const char **next);
enum stage link_stage_of(const struct link *l);

/* --- ending.c: how links and attempts end */
enum end_how { END_ANNOUNCED, END_CLOSE, END_ABORT, END_GONE };
void conn_link_ends(struct step *s, struct link *l, const struct cause *cause, enum end_how how,
                    uint64_t wait_ms);
void conn_attempt_fails(struct step *s, const struct cause *cause);
void conn_broken(struct step *s, const char *what);
/* Ends everything by somebody's wish; no verdict of the policy is asked. */
void conn_end_all(struct step *s, const struct cause *cause, uint16_t close_code);

/* --- attempt.c: begin, permits, dial */
bool session_valid(const struct conn *c, struct clock at);
/* The next greeting will start a session rather than resume one. */
bool session_starts(const struct conn *c, struct clock at);
bool conn_may_begin(const struct engine *e, const struct conn *c);
void attempt_begin(struct step *s);
void attempt_prepared(struct step *s);
void attempt_stored(struct step *s, bool stored);
void attempt_turn_awaited(struct step *s);
void attempt_turn_given(struct step *s);
void attempt_queue_tick(struct step *s);
void attempt_link_closed(struct step *s);
void attempt_unqueue(struct step *s);
void attempt_cancel(struct step *s);
void permit_give_back(struct step *s, uint32_t generation);
void permit_spend(struct step *s);
/* What the platform told is made durable, when that is news. */
void told_store(struct step *s, enum budget_kind kind);
uint64_t account_deadline(const struct conn *c, int64_t free_at, struct clock at, uint64_t now);

/* --- hold.c */
void hold_back(struct step *s);
void hold_let_go(struct step *s);
/* view.c: the longest wait between two attempts that the plan may draw. */
uint64_t plan_wait_most_ms(const struct plan *p);

/* --- saved.c */
struct walk;
void saved__node(struct walk *w, struct budget_node *n);
void saved__never(struct walk *w, uint64_t *v); /* ENGINE_NEVER is the shortest */

/* --- conn.c */
void conn_step(struct step *s);

/* --- state.c */
void conn_update(struct step *s);
uint64_t conn_deadline(const struct engine *e, const struct conn *c, uint64_t now,
                       const char **next);

/* --- sends.c */
void sends_init(struct engine *e);
void send_requested(struct step *s);
void send_dropped(struct step *s, uint64_t send_id);
/* All that wait now are refused, in slices. */
void sends_doom(struct conn *c, enum refuse_why why);
/* Answers up to a slice: refusals first, then releases. */
void sends_tick(struct step *s);
uint64_t sends_deadline(const struct conn *c, uint64_t now);
/* One that waited in another engine. False: no room. */
bool sends_restore(struct engine *e, struct conn *c, uint64_t send_id, enum send_kind by);

#endif
