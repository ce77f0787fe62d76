/* Engine: decides for every connection when to prepare, dial, beat, judge, close and wait. One event
 * in, a bounded list of effects out. Pure: no I/O, no clock (each event carries `at`), no Lua, no
 * callback, no allocation after engine_create() and engine_add() (a policy swap may grow a ledger).
 *
 * Glossary: design.md section 2 and 4; engine/plan.h, event.h, effect.h.
 *   attempt     one try to come up: prepare, dial, greet. Its number is the generation.
 *   generation  counts attempts of a connection from 1; link, calls, coroutines and timers of an attempt
 *               carry it. An event of a generation that is over is counted and dropped, here only.
 *   identity    at most one connection may own one (I1): engine_add() refuses the second.
 *   account     whose budgets; connections with the same account share one ledger.
 */
#ifndef HOLDFAST_ENGINE_ENGINE_H
#define HOLDFAST_ENGINE_ENGINE_H

#include "engine/effect.h"
#include "engine/event.h"

#define ENGINE_NEVER UINT64_MAX
/* Of turns: at least so many attempts are begun in each ENGINE_TURN_MS, if so many wait. */
#define ENGINE_TURN_PLACES 256u
#define ENGINE_TURN_MS 1000u

/* What the driver promises
 *   - Effects are carried out in order; what follows from them comes as later events, never inside.
 *   - FX_PREPARE may be answered by TURN_AWAITED first: so many other attempts are under way that this one is
 *     not begun yet. TURN_GIVEN follows, in the order of asking; until then no limit of a stage runs.
 *   - FX_PREPARE is answered by PREPARED or ATTEMPT_FAILED, FX_GREET by GREETED (at once without a hook)
 *     or ENDING_ANNOUNCED, FX_ASK_ENDED by VERDICT_GIVEN, FX_DRAIN by DRAINED after the events of what was
 *     drained, FX_STORE by STORED or STORE_FAILED with its ticket unless no_answer. Each has a limit here.
 *   - FX_CANCEL ends what runs for that generation: no answer is expected any more, and a late one is
 *     dropped as stale.
 *   - Each FX_DIAL is followed by LINK_CLOSED exactly once; until then the descriptor counts as open.
 *     FX_ABORT may come after DIAL_FAILED and may be repeated; FX_CLOSE may come after the peer's close.
 *   - Each SEND_REQUESTED is answered by one FX_SEND or FX_REFUSE, unless SEND_DROPPED took it back.
 *     Generation 0 means the link that serves; greet and hooks name theirs.
 *   - Head and body of a cause in FX_ASK_ENDED are good until the next step.
 *   - After FX_REMOVED no effect names the handle; sends requested since are the driver's to answer. */

struct engine; /* opaque */

struct engine_options {
    uint64_t seed;           /* of every draw */
    uint32_t connections_max;
    uint32_t sends_max;      /* queued sends over all connections */
    uint32_t sends_per_connection_max;
};

struct engine_add {
    const char *name;        /* borrowed until return; at most 63 bytes; seeds the draws */
    uint64_t identity;       /* fingerprint of (platform, identity options) */
    uint64_t account;        /* fingerprint of (platform, account options) */
    int64_t lane;            /* value of budgets.start.lane for this connection, 0 without */
    const struct plan *plan; /* borrowed until another plan or FX_REMOVED */
    bool session_present;
    uint64_t session_saved_wall_ms, session_begun_wall_ms; /* begun 0: not known */
    struct clock at;
};

enum engine_add_result { ENGINE_ADDED, ENGINE_IDENTITY_TAKEN, ENGINE_FULL };

struct engine *engine_create(const struct engine_options *options); /* owned; NULL without memory */
void engine_destroy(struct engine *e);
/* The new connection is STOPPED; EV_START_REQUESTED starts it. `*taken_by_out` names the owner of the
 * identity on ENGINE_IDENTITY_TAKEN. */
enum engine_add_result engine_add(struct engine *e, const struct engine_add *add,
                                  struct handle *conn_out, struct handle *taken_by_out);
/* What an earlier process stored: a permit (STORE_PERMIT, not returned), or what the platform told (the last
 * STORE_TOLD). Before the connections of the account start; in any order; may allocate, bounded for an
 * account. `same_boot`: boot_ms is of the boot that `now` is of, and believed; otherwise only wall time is
 * known. False without memory or for a budget that no ledger keeps. */
bool engine_restore_permit(struct engine *e, uint64_t account, enum budget_kind budget, int64_t lane,
                           bool same_boot, uint64_t wall_ms, uint64_t boot_ms, struct clock now);
bool engine_restore_told(struct engine *e, uint64_t account, enum budget_kind budget, int64_t left,
                         uint32_t lanes, bool same_boot, uint64_t until_wall_ms,
                         uint64_t until_boot_ms, struct clock now);

/* `out` is cleared first. Effects are valid until the caller's list is used again. */
void engine_step(struct engine *e, const struct event *ev, struct effect_list *out);
/* Earliest mono deadline of all connections; ENGINE_NEVER when nothing is due. */
uint64_t engine_deadline_ms(const struct engine *e);
/* A connection whose deadline is at or before `mono_ms`: those that serve before all others, each earliest first;
 * HANDLE_NONE when none is. The driver answers with EV_DEADLINE_PASSED for it, until none is left. */
struct handle engine_due(const struct engine *e, uint64_t mono_ms);
/* Those that engine_due() gives next when nothing comes in between, up to ENGINE_WARM_MAX; how many. What their steps
 * will look at is asked for ahead: it is in no cache when many are due. */
#define ENGINE_WARM_MAX 16
uint32_t engine_warm(const struct engine *e, uint64_t mono_ms, struct handle out[ENGINE_WARM_MAX]);

/* When the account's next permit of `budget` is free, how many are left now in the tightest window, and what
 * holds the next one up. For refusals, status and checkers. */
enum budget_hold {
    BUDGET_HOLD_NONE,
    BUDGET_HOLD_WINDOW, /* a window is full */
    BUDGET_HOLD_GAP,    /* the gap in its lane, or those who asked before */
    BUDGET_HOLD_TOLD,   /* the platform said so */
};
const char *budget_hold_name(enum budget_hold hold);
struct budget_view {
    uint64_t next_ms; /* mono; now or earlier: at once */
    uint32_t left;
    uint32_t used;    /* in the longest window */
    enum budget_hold hold;
    uint64_t window_ms;       /* HOLD_WINDOW: which one, and what it allows */
    uint32_t window_count;
    uint32_t reserve_left;    /* left when the share for people may be used too */
    uint64_t reserve_next_ms; /* mono; likewise */
};
/* What is true of one connection now (I8): for status, policies and checkers. Plain copy. */
struct engine_view {
    enum conn_state state;
    uint64_t since_mono_ms, since_wall_ms;
    uint64_t deadline_ms;     /* mono; ENGINE_NEVER only in STOPPED and in UP without limits */
    const char *next;         /* what happens at the deadline: "dial", "greeting limit" ... static */
    struct cause cause;       /* of the last ending; kind NONE before the first */
    struct decision decision; /* the last one */
    uint32_t generation;      /* newest attempt */
    uint32_t link_generation[2]; /* of open links, newest first; 0: none */
    enum link_state link_state[2];
    uint64_t link_since_ms[2];
    uint32_t failed;          /* failures in a row */
    uint32_t sends_queued;
    bool session_present;
    bool start_permit;        /* the newest attempt holds one */
    bool settled;
    bool wanted;              /* not stopped by anybody */
    bool stop_is_fatal;       /* stopped by a verdict, not by a person */
    uint64_t beats_sent, beats_answered, beat_interval_ms, beat_sent_ms;
    uint64_t last_round_trip_ms;  /* of the last answered beat; 0 none */
    uint64_t ready_ms;            /* mono: when the serving link became ready; 0: none serves */
    uint64_t beat_answered_ms;    /* mono: the last one's answer; 0 */
    bool beat_pending;            /* the one of beat_sent_ms is not answered */
    uint64_t beat_due_ms;         /* mono: when it is judged, or the next is sent */
    uint32_t beats_missed;        /* in a row */
    uint64_t ping_since_ms;       /* mono: pings since then are unanswered, by the pulse of the last step; 0 */
    uint64_t silence_due_ms;      /* mono: when silence is judged; ENGINE_NEVER */
    uint64_t stale_events;    /* dropped because their generation was over */
    uint64_t attempts_total, ready_total;
    uint64_t account, identity;
    const struct plan *plan;
    bool queued;              /* for a budget: which one it waits for longest, and how that stands */
    enum budget_kind queued_for;
    struct budget_view queue;
    bool held;                /* the next attempt was put off: the host answers nobody */
    bool awaits_turn;         /* the attempt is not begun yet: too many others are under way */
    bool spend_reserve;       /* an operator's wish for the next session start */
};
/* The few words of it that each step and hook asks for. */
struct engine_brief {
    enum conn_state state;
    const char *next;      /* borrowed until the next step */
    uint32_t generation;   /* newest attempt */
    uint32_t failed;       /* failures in a row */
    bool settled, wanted, stop_is_fatal, session_present, start_permit, queued;
};
/* The connection of this identity; HANDLE_NONE: nobody's. */
struct handle engine_owner(const struct engine *e, uint64_t identity);
/* False when the handle is stale. */
bool engine_get(const struct engine *e, struct handle conn, struct engine_view *out);
bool engine_get_brief(const struct engine *e, struct handle conn, struct engine_brief *out);
bool engine_budget(const struct engine *e, struct handle conn, enum budget_kind budget,
                   struct clock now, struct budget_view *out);
/* A permit for one HTTP call by `budgets.call` of the connection's account, spent when true; without the
 * budget always true. Not durable: a platform that counts calls over a restart tells it by a 429. False:
 * `*wait_ms_out` is when the next one is free, from now. */
bool engine_call(struct engine *e, struct handle conn, struct clock now, uint64_t *wait_ms_out);
/* How long the plan's rules would wait after this cause, for a call that ends nothing when it fails. 0: they
 * say nothing of a time; ENGINE_NEVER: a stop. `draw`: 64 random bits. */
uint64_t engine_pause_ms(const struct plan *p, const struct cause *cause, uint64_t draw);
/* The bound of I6: how long after the network is well and credentials are good the connection needs at
 * most to be up, from what the plan and the ledger say now. Milliseconds. */
uint64_t engine_recovery_bound_ms(const struct engine *e, struct handle conn, struct clock now);

/* A hash of all that decides what the connection does next, instants and draws apart: for explorers, which
 * enter a state once. 0: the handle is stale. */
uint64_t engine_shape(const struct engine *e, struct handle conn);

/* The table of legal moves; the simulator fails when a legal move was never taken. */
bool conn_move_is_legal(enum conn_state from, enum conn_state to);
bool link_move_is_legal(enum link_state from, enum link_state to);

#ifdef HOLDFAST_TEST
/* Planted bugs, one per invariant, so that each checker is seen to catch something. */
enum engine_plant {
    PLANT_NONE,
    PLANT_I1_DIAL_BEFORE_CLOSED,   /* dials while the old descriptor is open */
    PLANT_I2_START_WITHOUT_PERMIT, /* grants starts over the budget */
    PLANT_I3_NO_FLOOR,             /* takes a zero delay at its word, resets backoff on open */
    PLANT_I4_DEAF_TO_SILENCE,      /* never judges silence or beats */
    PLANT_I5_EVENTS_AS_PULSE,      /* judges by business frames instead of bytes */
    PLANT_I6_GIVES_UP,             /* stops after some failures */
    PLANT_I7_ACK_BEFORE_SAFE,      /* used by the driver: see dispatch */
    PLANT_I8_NO_DEADLINE,          /* enters WAITING without a deadline */
};
void engine_plant(struct engine *e, enum engine_plant plant);
enum engine_plant engine_planted(const struct engine *e);
#endif

#endif
