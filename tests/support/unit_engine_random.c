/* modules: engine base */
/* Random schedules for the engine, driven and checked here and not in Lua, so that a million of them can
 * be run: a platform that refuses, hangs, dies, lies and recovers, operators and policies that interfere.
 *
 * After every step, from the outside: I1 (descriptors), I2 (session starts), I3 (the floor between
 * attempts), I8 (deadline, cause, what is next), legal moves. Then the platform is healed, and every
 * connection has to be up within the bound that the engine computed (I6). In some schedules the process is
 * killed and comes back with what its disk holds, in a boot of the machine or after one. At last all are removed: each
 * send was answered exactly once, and nothing is due. A schedule is a function of its seed alone. */
#include <lauxlib.h>
#include <lua.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buffer.h"
#include "base/rng.h"
#include "engine/engine.h"

#define BOTS 3
#define OPEN_MAX 8 /* above what I1 allows, so that breaking it is seen and not lost */
#define ITEMS_MAX 1024
#define PLANS_MAX 512
#define SENDS_MAX 8192
#define STEPS_MAX 200000
#define TRACE_LINES 60
#define WALL_MS UINT64_C(1700000000000)
#define START_COUNT 6
#define START_WINDOW_MS 120000
#define START_GAP_MS 2000
#define START_KEPT 1 /* for people: 0.2 of START_COUNT */
#define LATENCY_MS 5
#define WRITES_MAX 4096

enum item_kind {
    AT_PREPARED, AT_STORED, AT_STAGE, AT_GREET, AT_CLOSED, AT_CLOSE_ANSWERED, AT_BEAT, AT_HEARD,
    AT_DRAINED, AT_VERDICT, AT_START, AT_MEDDLE, AT_KILLED,
};

/* What happens later; first due, first in. */
struct item {
    uint64_t at_ms, order, ticket;
    enum item_kind kind;
    uint32_t bot, generation;
    int stage;
};

/* What went to the disk, in order; what was answered is there, of what was not a first part may be. */
struct written {
    struct effect fx;
    uint32_t boot;
    int64_t wall_ahead_ms;
    bool failed;
};

struct open_link {
    uint32_t generation; /* 0: free */
    uint64_t last_byte_ms;
};

struct bot {
    struct handle h;
    bool removed, handover, planned, attempted, cut, reserve;
    uint64_t last_attempt_ms, decided_ms, not_before_ms;
    uint32_t decided_generation;
    struct open_link open[OPEN_MAX];
};

struct trace_line {
    uint64_t at_ms;
    const char *what, *more; /* static */
    uint32_t bot, generation;
    bool effect;
};

struct world {
    uint64_t seed, random, now_ms, boot_ahead_ms, boot_began_ms, lag_ms;
    uint32_t boot, kills;
    struct written writes[WRITES_MAX];
    uint32_t write_count, write_durable;
    int64_t wall_ahead_ms;
    bool faulty, cuts;
    struct engine *e;
    struct effect_list out;
    struct plan plans[PLANS_MAX];
    uint32_t plan_count;
    struct bot bots[BOTS];
    struct item items[ITEMS_MAX]; /* a heap */
    uint32_t item_count;
    uint64_t order;
    uint64_t starts[START_COUNT]; /* boot times of the last ones; a machine that slept ages its windows */
    uint32_t start_count;
    uint8_t answers[SENDS_MAX];
    uint32_t send_count;
    uint64_t steps, readies, hash;
    uint32_t moves[CONN_STATE_COUNT]; /* bits of states that were entered from here */
    struct trace_line trace[TRACE_LINES];
    uint64_t traced;
    char why[512];                /* what the first step that broke a promise broke; "" none */
    enum engine_plant plant;
    uint32_t mishear;             /* 1: a send's answer is overheard, 2: heard twice; shows the checkers */
};

static void broken(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void broken(struct world *w, const char *format, ...)
{
    va_list args;
    size_t n = strlen(w->why);
    if (n) snprintf(w->why + n, sizeof w->why - n, "; ");
    else snprintf(w->why, sizeof w->why, "t=%llu ", (unsigned long long)w->now_ms);
    n = strlen(w->why);
    va_start(args, format);
    vsnprintf(w->why + n, sizeof w->why - n, format, args);
    va_end(args);
}

/* 0 to n - 1 */
static uint32_t draw(struct world *w, uint32_t n)
{
    w->random += UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)((rng_mix(w->random) >> 32) * n >> 32);
}

static bool bad(struct world *w, uint32_t percent)
{
    return w->faulty && draw(w, 100) < percent;
}

/* --- what is due ----------------------------------------------------------------------------------- */

static bool earlier(const struct item *a, const struct item *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->order < b->order;
}

static void later(struct world *w, uint64_t ms, struct item item)
{
    if (w->item_count == ITEMS_MAX) {
        broken(w, "%d things wait: more and more is asked for", ITEMS_MAX);
        return;
    }
    item.at_ms = w->now_ms + ms;
    item.order = w->order++;
    uint32_t i = w->item_count++;
    for (; i && earlier(&item, &w->items[(i - 1) / 2]); i = (i - 1) / 2) w->items[i] = w->items[(i - 1) / 2];
    w->items[i] = item;
}

static struct item take(struct world *w)
{
    struct item first = w->items[0], last = w->items[--w->item_count];
    uint32_t i = 0;
    for (uint32_t k = 1; k < w->item_count; i = k, k = 2 * i + 1) {
        if (k + 1 < w->item_count && earlier(&w->items[k + 1], &w->items[k])) k++;
        if (!earlier(&w->items[k], &last)) break;
        w->items[i] = w->items[k];
    }
    w->items[i] = last;
    return first;
}

/* --- plans and causes ------------------------------------------------------------------------------ */

static struct cause cause_of(enum cause_kind kind, int close_code)
{
    struct cause c = cause_make(STAGE_NONE, kind, BY_PEER, NULL);
    c.close_code = close_code;
    return c;
}

static struct cause any_cause(struct world *w)
{
    struct cause c;
    switch (draw(w, 8)) {
    case 0: return cause_of(CAUSE_CLOSED, 4001);
    case 1: return cause_of(CAUSE_CLOSED, 4002);
    case 2: return cause_of(CAUSE_CLOSED, 4003);
    case 3: return cause_of(CAUSE_CLOSED, 1006);
    case 4: return cause_of(CAUSE_EOF, CLOSE_CODE_NONE);
    case 5: return cause_make(STAGE_NONE, CAUSE_RESET, BY_NETWORK, NULL);
    case 6:
        c = cause_of(CAUSE_UPGRADE_REFUSED, CLOSE_CODE_NONE);
        c.http_status = 429;
        c.retry_after_ms = 0;
        return c;
    default: return cause_make(STAGE_CONNECTING, CAUSE_REFUSED, BY_PEER, NULL);
    }
}

static struct cause named(enum cause_kind kind, const char *name)
{
    struct cause c = cause_of(kind, CLOSE_CODE_NONE);
    cause_rename(&c, name);
    return c;
}

/* The rules of all plans; read only, so they are nobody's. */
static struct code_range close_4001 = { 4001, 4001 }, close_4002 = { 4002, 4002 }, close_4003 = { 4003, 4003 },
                         http_429 = { 429, 429 };
static char reconnect[1][CAUSE_NAME_MAX] = { "reconnect" }, invalid[1][CAUSE_NAME_MAX] = { "invalid" };
static struct classify_rule classify[] = {
    { .match = { .close = &close_4001, .close_count = 1, .session = -1 }, .drop = DROP_FRESH, .counts = true },
    { .match = { .close = &close_4002, .close_count = 1, .session = -1 }, .drop = DROP_RENEW, .pace = PACE_SLOW,
      .counts = true },
    { .match = { .causes = reconnect, .cause_count = 1, .session = -1 }, .planned = true, .has_delay = true,
      .counts = true },
    { .match = { .causes = invalid, .cause_count = 1, .session = -1 }, .drop = DROP_FRESH, .has_delay = true,
      .delay = { 0, 5000 }, .counts = true },
    { .match = { .close = &close_4003, .close_count = 1, .session = -1 }, .has_delay = true },
    { .match = { .http = &http_429, .http_count = 1, .session = -1 }, .delay_from_retry_after = true,
      .has_otherwise = true },
};
static struct cause_matcher in_greeting = { .session = 1, .stages = 1u << STAGE_GREETING };
static struct cause_matcher young = { .session = -1, .under_ms = 2000 };
static struct climb_rule climb[] = {
    { .on = &in_greeting, .on_count = 1, .times = 3, .to = DROP_FRESH },
    { .on = &young, .on_count = 1, .times = 4, .to = DROP_RENEW, .pace = PACE_SLOW },
};

static struct plan *make_plan(struct world *w)
{
    if (w->plan_count == PLANS_MAX) return &w->plans[PLANS_MAX - 1];
    struct plan *p = &w->plans[w->plan_count++];
    plan_defaults(p);
    snprintf(p->file, sizeof p->file, "random.lua");
    p->ping_ms = draw(w, 2) * 20000;
    p->promised = draw(w, 3) == 0;
    p->overlap = draw(w, 2);
    p->has_greet = true;
    p->has_on_ended = draw(w, 3) == 0;
    p->retire_after_ms = draw(w, 3) == 0 ? 90000 : 0;
    p->retire_jitter = 0.3;
    if (draw(w, 2) == 0) {
        p->beat.on = p->beat.answered = true;
        p->beat.every_ms = 15000;
        p->beat.least_ms = 1000;
        p->beat.first = (enum beat_first)draw(w, 3);
    }
    p->backoff.settle_ms = p->backoff.most_ms = 20000;
    p->backoff.jitter = (enum jitter)draw(w, 3);
    p->slow.first_ms = 20000;
    p->slow.most_ms = 40000;
    p->session.on = true;
    p->session.replay = (enum replay)draw(w, 3);
    if (draw(w, 3) == 0) p->session.replay_for_ms = 1000 + draw(w, 600000);
    p->session.age_ms = draw(w, 2) * 100000;
    p->budgets[BUDGET_START] = (struct budget_plan){ .on = true, .windows = { { START_COUNT, START_WINDOW_MS } },
                                                     .window_count = 1, .gap_ms = START_GAP_MS,
                                                     .operators = 0.2 };
    p->budgets[BUDGET_SEND] = (struct budget_plan){ .on = true, .windows = { { 20, 10000 } }, .window_count = 1,
                                                    .beats = 3 };
    if (draw(w, 3) == 0) {
        p->budgets[BUDGET_DIAL] = (struct budget_plan){ .on = true, .windows = { { 10, 60000 } }, .window_count = 1 };
    }
    p->classify = classify;
    p->classify_count = sizeof classify / sizeof classify[0];
    p->climb = climb;
    p->climb_count = sizeof climb / sizeof climb[0];
    return p;
}

/* --- one step, and its checks ------------------------------------------------------------------------ */

static struct clock clock_of(const struct world *w)
{
    uint64_t time_ms = w->now_ms + w->boot_ahead_ms; /* since the beginning, whatever any clock says */
    return (struct clock){ w->now_ms, time_ms - w->boot_began_ms,
                           (uint64_t)((int64_t)(WALL_MS + time_ms) + w->wall_ahead_ms) };
}

static struct event event_of(const struct world *w, enum event_kind kind, uint32_t bot, uint32_t generation)
{
    struct event ev;
    memset(&ev, 0, sizeof ev);
    ev.kind = kind;
    ev.conn = w->bots[bot].h;
    ev.generation = generation;
    ev.at = clock_of(w);
    return ev;
}

static struct open_link *open_find(struct bot *b, uint32_t generation)
{
    for (int i = 0; generation && i < OPEN_MAX; i++) {
        if (b->open[i].generation == generation) return &b->open[i];
    }
    return NULL;
}

static void trace(struct world *w, bool effect, const char *what, const char *more, uint32_t bot,
                  uint32_t generation)
{
    w->trace[w->traced++ % TRACE_LINES] = (struct trace_line){ w->now_ms, what, more, bot, generation, effect };
}

static void dialled(struct world *w, struct bot *b, uint32_t generation)
{
    int open = 0, most = b->handover ? 2 : 1;
    struct open_link *to = NULL;
    for (int i = 0; i < OPEN_MAX; i++) {
        if (b->open[i].generation) open++;
        else if (!to) to = &b->open[i];
    }
    if (open + 1 > most) broken(w, "I1: %d descriptors", open + 1);
    if (to) *to = (struct open_link){ generation, w->now_ms };
}

static void started(struct world *w, struct bot *b)
{
    uint64_t boot_ms = w->now_ms + w->boot_ahead_ms;
    uint64_t last_ms = w->starts[(w->start_count + START_COUNT - 1) % START_COUNT];
    uint64_t window_ms = w->starts[w->start_count % START_COUNT];
    if (w->start_count && boot_ms - last_ms < START_GAP_MS) broken(w, "I2: two starts within the gap");
    if (w->start_count >= START_COUNT && boot_ms - window_ms <= START_WINDOW_MS) {
        broken(w, "I2: %d starts over the window", START_COUNT + 1);
    }
    const uint32_t others = START_COUNT - START_KEPT;
    uint64_t own_ms = w->starts[(w->start_count + START_KEPT) % START_COUNT];
    if (!b->reserve && w->start_count >= others && boot_ms - own_ms <= START_WINDOW_MS) {
        broken(w, "I2: a start of the share for people that nobody wished for");
    }
    b->reserve = false;
    w->starts[w->start_count++ % START_COUNT] = boot_ms;
}

static void answered(struct world *w, struct bot *b, uint64_t id, bool starts)
{
    if (w->mishear == 1 && id == 7) return;
    if (w->mishear == 2 && id == 7) w->answers[id - 1]++;
    if (id == 0 || id > w->send_count) {
        broken(w, "an answer for a send that nobody asked for: %llu", (unsigned long long)id);
    } else if (w->answers[id - 1]++) {
        broken(w, "send %llu is answered twice", (unsigned long long)id);
    }
    if (starts) started(w, b);
}

static void prepared(struct world *w, struct bot *b)
{
    if (b->attempted && !b->planned && w->now_ms - b->last_attempt_ms < PLAN_FLOOR_MS_MIN) {
        broken(w, "I3: attempts %llu ms apart", (unsigned long long)(w->now_ms - b->last_attempt_ms));
    }
    if (w->now_ms < b->not_before_ms) {
        broken(w, "I3: an attempt %llu ms before the decided delay is over",
               (unsigned long long)(b->not_before_ms - w->now_ms));
    }
    b->attempted = true;
    b->last_attempt_ms = w->now_ms;
    b->planned = false;
}

static void written(struct world *w, const struct effect *fx)
{
    if (w->write_count == WRITES_MAX) {
        broken(w, "%d writes since the last start", WRITES_MAX);
        return;
    }
    w->writes[w->write_count++] = (struct written){ *fx, w->boot, w->wall_ahead_ms, false };
    /* A permit used later than it was stored for, after a suspend in the middle of a dial, is stored anew while the
     * start frame leaves. A kill within that one write loses it; nothing here waits for it, so it is taken as done. */
    if (fx->kind == FX_STORE && fx->store.kind == STORE_PERMIT && fx->store.budget == BUDGET_START && fx->store.no_answer) {
        w->write_durable = w->write_count;
    }
}

static void carry_out(struct world *w, const struct effect *fx, uint32_t bot)
{
    struct bot *b = &w->bots[bot];
    struct item item = { .bot = bot, .generation = fx->generation };
#define LATER(ms, ...) later(w, ms, (item.kind = __VA_ARGS__, item))
    switch (fx->kind) {
    case FX_PREPARE:
        prepared(w, b);
        if (!bad(w, 5)) LATER(draw(w, 50), AT_PREPARED);
        break;
    case FX_STORE:
        item.ticket = fx->store.ticket;
        written(w, fx);
        if (fx->store.kind == STORE_PERMIT && fx->store.budget == BUDGET_START) b->reserve = fx->store.reserve;
        if (!fx->store.no_answer && !bad(w, 5)) LATER(draw(w, 30), AT_STORED);
        break;
    case FX_DIAL:
        dialled(w, b, fx->generation);
        item.stage = STAGE_CONNECTING;
        if (!bad(w, 8)) LATER(draw(w, 20), AT_STAGE);
        break;
    case FX_GREET:
        if (!bad(w, 8)) LATER(draw(w, 60), AT_GREET);
        break;
    case FX_CLOSE:
        if (!bad(w, 20)) LATER(draw(w, 40), AT_CLOSE_ANSWERED);
        break;
    case FX_ABORT:
        if (!bad(w, 3)) LATER(0, AT_CLOSED);
        break;
    case FX_BEAT:
        if (!bad(w, 5)) LATER(LATENCY_MS, AT_BEAT);
        break;
    case FX_PING:
        if (!bad(w, 5)) LATER(LATENCY_MS, AT_HEARD);
        break;
    case FX_DRAIN: LATER(1, AT_DRAINED); break;
    case FX_ASK_ENDED:
        if (!bad(w, 10)) LATER(draw(w, 200), AT_VERDICT);
        break;
    case FX_READY: w->readies++; break;
    case FX_JOURNAL: {
        b->planned = fx->journal.planned;
        /* What is told about one ending is one decision, however often it gets stronger. */
        if (b->decided_generation != fx->generation) {
            b->decided_ms = w->now_ms;
            b->cut = w->cuts;
        }
        b->decided_generation = fx->generation;
        bool free = b->cut || fx->journal.delay_ms == ENGINE_NEVER;
        b->not_before_ms = free ? 0 : b->decided_ms + fx->journal.delay_ms;
        break;
    }
    case FX_STATE:
        /* A planted bug may bend the table of moves before it breaks what it is about. */
        if (engine_planted(w->e) == PLANT_NONE && !conn_move_is_legal(fx->state.from, fx->state.to)) {
            broken(w, "illegal move %s -> %s", conn_state_name(fx->state.from), conn_state_name(fx->state.to));
        }
        w->moves[fx->state.from] |= 1u << fx->state.to;
        break;
    case FX_REFUSE: answered(w, b, fx->refuse.send_id, false); break;
    case FX_REMOVED: b->removed = true; break;
    default: break;
    }
#undef LATER
}

static void check_view(struct world *w, struct handle h)
{
    struct engine_view v;
    if (!engine_get(w->e, h, &v) || v.state == CONN_STOPPED || v.state == CONN_UP) return;
    const char *state = conn_state_name(v.state);
    if (v.deadline_ms == ENGINE_NEVER) broken(w, "I8: %s without a deadline", state);
    else if (v.deadline_ms < w->now_ms) broken(w, "I8: %s with a deadline in the past", state);
    if (!v.next || !v.next[0]) broken(w, "I8: %s, and nobody knows what is next", state);
    if (v.state == CONN_WAITING && v.cause.kind == CAUSE_NONE && v.attempts_total) {
        broken(w, "I8: waiting without a cause");
    }
}

static uint32_t bot_of(const struct world *w, struct handle h)
{
    uint32_t i = 0;
    while (i < BOTS && !handle_equal(w->bots[i].h, h)) i++;
    return i;
}

static void step(struct world *w, const struct event *ev)
{
    w->steps++;
    /* People, new numbers and a machine that slept may cut a delay short; then the floor alone counts. */
    w->cuts = ev->kind == EV_START_REQUESTED || ev->kind == EV_RESTART_REQUESTED || ev->kind == EV_STOP_REQUESTED ||
              ev->kind == EV_SHUTDOWN_REQUESTED || ev->kind == EV_POLICY_SWAPPED || ev->kind == EV_CLOCK_JUMPED;
    if (w->cuts) {
        struct bot *b = &w->bots[bot_of(w, ev->conn)];
        b->not_before_ms = 0;
        b->cut = true;
    }
    trace(w, false, event_name(ev->kind), "", bot_of(w, ev->conn), ev->generation);
    engine_step(w->e, ev, &w->out);
    for (uint32_t i = 0; i < w->out.count; i++) {
        const struct effect *fx = &w->out.items[i];
        uint32_t bot = bot_of(w, fx->conn);
        trace(w, true, effect_name(fx->kind), fx->kind == FX_STATE ? conn_state_name(fx->state.to) : "", bot,
              fx->generation);
        uint64_t mixed[4] = { w->now_ms, fx->kind, bot, fx->generation };
        w->hash = rng_mix(w->hash ^ hash_bytes(mixed, sizeof mixed));
        if (bot == BOTS) {
            broken(w, "%s for nobody", effect_name(fx->kind));
            continue;
        }
        if (fx->kind == FX_SEND) {
            bool starts = ev->kind == EV_SEND_REQUESTED && ev->send.starts_session &&
                          ev->send.send_id == fx->send.send_id;
            answered(w, &w->bots[bot], fx->send.send_id, starts);
        }
        carry_out(w, fx, bot);
    }
    check_view(w, ev->conn);
}

static void tell(struct world *w, enum event_kind kind, uint32_t bot, uint32_t generation)
{
    struct event ev = event_of(w, kind, bot, generation);
    step(w, &ev);
}

static void tell_cause(struct world *w, enum event_kind kind, uint32_t bot, uint32_t generation, struct cause cause)
{
    struct event ev = event_of(w, kind, bot, generation);
    ev.cause = cause;
    step(w, &ev);
}

/* The descriptor is gone, once. */
static void closed(struct world *w, uint32_t bot, uint32_t generation, struct cause cause)
{
    struct open_link *l = open_find(&w->bots[bot], generation);
    if (!l) return;
    l->generation = 0;
    tell_cause(w, EV_LINK_CLOSED, bot, generation, cause);
}

static void announce(struct world *w, uint32_t bot, uint32_t generation, const char *name, uint64_t wait_ms)
{
    struct event ev = event_of(w, EV_ENDING_ANNOUNCED, bot, generation);
    ev.ending.cause = named(CAUSE_ENDED, name);
    ev.ending.wait_ms = wait_ms;
    step(w, &ev);
}

static void send(struct world *w, uint32_t bot, uint32_t generation, enum send_kind by, bool starts)
{
    if (w->send_count == SENDS_MAX) return;
    struct event ev = event_of(w, EV_SEND_REQUESTED, bot, generation);
    ev.send.send_id = ++w->send_count;
    ev.send.bytes = 10;
    ev.send.by = by;
    ev.send.starts_session = starts;
    step(w, &ev);
}

/* --- the platform, the operators ------------------------------------------------------------------------ */

static void prepare_done(struct world *w, uint32_t bot, uint32_t generation)
{
    struct event ev;
    if (bad(w, 15)) {
        tell_cause(w, EV_ATTEMPT_FAILED, bot, generation, cause_of(CAUSE_CALL, CLOSE_CODE_NONE));
        return;
    }
    if (bad(w, 5)) {
        ev = event_of(w, EV_BUDGET_TOLD, bot, 0);
        ev.budget_told.budget = BUDGET_START;
        ev.budget_told.left = draw(w, 2);
        ev.budget_told.reset_ms = draw(w, 30000);
        step(w, &ev);
    }
    if (bad(w, 5)) tell(w, EV_SESSION_CHANGED, bot, 0); /* gone */
    tell(w, EV_PREPARED, bot, generation);
}

static void stage(struct world *w, const struct item *item)
{
    if (!open_find(&w->bots[item->bot], item->generation)) return;
    if (bad(w, 5)) {
        tell_cause(w, EV_DIAL_FAILED, item->bot, item->generation, any_cause(w));
        return;
    }
    if (bad(w, 2)) {
        closed(w, item->bot, item->generation, any_cause(w));
        return;
    }
    if (item->stage == STAGE_GREETING) {
        tell(w, EV_UPGRADED, item->bot, item->generation);
        return;
    }
    struct event ev = event_of(w, EV_STAGE_REACHED, item->bot, item->generation);
    struct item next = *item;
    ev.stage.stage = (enum stage)next.stage++;
    step(w, &ev);
    if (!bad(w, 3)) later(w, draw(w, 20), next);
}

static void greeting(struct world *w, uint32_t bot, uint32_t generation)
{
    struct bot *b = &w->bots[bot];
    struct engine_view v;
    if (!open_find(b, generation)) return;
    if (!engine_get(w->e, b->h, &v)) return;
    if (!v.session_present || bad(w, 3)) send(w, bot, generation, SEND_GREETING, true);
    if (!open_find(b, generation)) return;
    if (bad(w, 25)) {
        tell_cause(w, EV_PEER_CLOSED, bot, generation, any_cause(w));
        return;
    }
    if (bad(w, 10)) announce(w, bot, generation, "invalid", draw(w, 3) * 500);
    if (!open_find(b, generation)) return;
    struct event ev = event_of(w, EV_SESSION_CHANGED, bot, 0);
    ev.session_changed.present = true;
    ev.session_changed.saved_wall_ms = ev.at.wall_ms;
    step(w, &ev);
    tell(w, EV_GREETED, bot, generation);
}

static void verdict(struct world *w, uint32_t bot, uint32_t generation)
{
    struct event ev = event_of(w, EV_VERDICT_GIVEN, bot, generation);
    ev.verdict.given = w->faulty && draw(w, 2) == 0;
    ev.verdict.drop = (enum drop)draw(w, 2);
    ev.verdict.has_delay = draw(w, 2) == 0;
    ev.verdict.failed = draw(w, 5) == 0;
    step(w, &ev);
}

/* Any event of any generation that no driver would send now. */
static void nonsense(struct world *w, uint32_t bot, uint32_t generation, uint32_t newest)
{
    static const enum event_kind kinds[] = { EV_PREPARED, EV_ATTEMPT_FAILED, EV_UPGRADED, EV_DRAINED,
                                             EV_VERDICT_GIVEN, EV_STORED, EV_GREETING_PROGRESSED, EV_BEAT_SET,
                                             EV_STAGE_REACHED, EV_RETIRE_SET };
    enum event_kind kind = kinds[draw(w, sizeof kinds / sizeof kinds[0])];
    if ((kind == EV_PREPARED || kind == EV_UPGRADED) && generation == newest) return;
    struct event ev = event_of(w, kind, bot, draw(w, 3) + generation);
    switch (kind) {
    case EV_ATTEMPT_FAILED: ev.cause = cause_of(CAUSE_CALL, CLOSE_CODE_NONE); break;
    case EV_VERDICT_GIVEN: ev.verdict.given = true; break;
    /* Of nobody: a store that says "on disk" of what is not there is no store. */
    case EV_STORED: ev.store.ticket = UINT32_MAX + (uint64_t)draw(w, 9); break;
    case EV_BEAT_SET: ev.beat_set.interval_ms = draw(w, 30000); break;
    case EV_RETIRE_SET: ev.retire_set.after_ms = draw(w, 300000); break;
    case EV_STAGE_REACHED: ev.stage.stage = STAGE_CONNECTING; break;
    default: break;
    }
    step(w, &ev);
}

static void meddle_with(struct world *w, uint32_t bot)
{
    struct bot *b = &w->bots[bot];
    struct engine_view v;
    struct event ev;
    if (b->removed || !engine_get(w->e, b->h, &v)) return;
    uint32_t links = (v.link_generation[0] != 0) + (v.link_generation[1] != 0);
    uint32_t g = links ? v.link_generation[draw(w, links)] : v.generation;
    if (!g) g = v.generation;
    uint32_t what = draw(w, 24);
    switch (what) {
    case 0:
        tell(w, EV_STOP_REQUESTED, bot, 0);
        later(w, draw(w, 5000), (struct item){ .kind = AT_START, .bot = bot });
        break;
    case 1: tell(w, EV_RESTART_REQUESTED, bot, 0); break;
    case 2:
        ev = event_of(w, EV_START_REQUESTED, bot, 0);
        ev.start.spend_reserve = draw(w, 2);
        step(w, &ev);
        break;
    case 3:
        ev = event_of(w, EV_POLICY_SWAPPED, bot, 0);
        ev.policy_swapped.plan = make_plan(w);
        b->handover = b->handover || ev.policy_swapped.plan->overlap;
        step(w, &ev);
        break;
    case 4:
        w->boot_ahead_ms += draw(w, 100000);
        ev = event_of(w, EV_CLOCK_JUMPED, bot, 0);
        ev.clock_jumped.suspended_ms = draw(w, 100000);
        step(w, &ev);
        break;
    case 5: w->wall_ahead_ms = ((int64_t)draw(w, 2000) - 1000) * 3600000; break;
    case 6:
    case 7:
    case 8:
        if (links) announce(w, bot, g, "reconnect", draw(w, 2) * 1000);
        break;
    case 9:
    case 10:
    case 11:
        if (links) tell_cause(w, EV_PEER_CLOSED, bot, g, any_cause(w));
        break;
    case 12: tell_cause(w, EV_LIMIT_CROSSED, bot, g, cause_of(CAUSE_PROTOCOL, 1002)); break;
    case 13: tell(w, EV_BEAT_ASKED, bot, g); break;
    case 14:
        for (int i = 0; i < 5; i++) send(w, bot, 0, SEND_CONSUMER, false);
        break;
    case 15: closed(w, bot, g, any_cause(w)); break;
    case 16:
        tell(w, EV_SHUTDOWN_REQUESTED, bot, 0);
        tell(w, EV_START_REQUESTED, bot, 0);
        break;
    case 17:
    case 18: tell(w, EV_HELD_BACK, bot, 0); break;
    case 19:
        ev = event_of(w, EV_LET_GO, bot, 0);
        ev.let_go.within_ms = draw(w, 2) ? draw(w, 60000) : 0;
        step(w, &ev);
        break;
    default: nonsense(w, bot, g, v.generation);
    }
}

/* The disk as a new process finds it: permits that were not given back, and the platform's last word. */
static void recover(struct world *w)
{
    static const struct written none;
    struct written told = none;
    uint32_t kept = 0, end = w->write_durable + draw(w, w->write_count - w->write_durable + 1);
    for (uint32_t i = 0; i < end; i++) {
        struct written x = w->writes[i];
        if (x.failed) continue;
        x.fx.store.ticket = 0; /* the next process counts from 1 */
        if (x.fx.store.kind == STORE_TOLD) told = x;
        if (x.fx.store.kind == STORE_PERMIT) w->writes[kept++] = x;
        for (uint32_t k = 0; x.fx.store.kind == STORE_PERMIT_RETURN && k < kept; k++) {
            if (w->writes[k].fx.store.boot_ms != x.fx.store.boot_ms || w->writes[k].boot != x.boot ||
                w->writes[k].fx.store.budget != x.fx.store.budget) continue;
            w->writes[k] = w->writes[--kept];
            break;
        }
    }
    for (uint32_t i = 0; i + 1 < kept; i++) { /* in any order */
        uint32_t k = i + draw(w, kept - i);
        struct written x = w->writes[i];
        w->writes[i] = w->writes[k];
        w->writes[k] = x;
    }
    if (told.boot) w->writes[kept++] = told;
    w->write_count = w->write_durable = kept;
}

static void populate(struct world *w)
{
    struct engine_options options = { w->seed + w->kills, 8, 256, 32 };
    w->e = engine_create(&options);
    ASSERT(w->e != NULL);
    engine_plant(w->e, w->plant);
    for (uint32_t i = 0; i < w->write_count; i++) {
        const struct effect *x = &w->writes[i].fx;
        bool same = w->writes[i].boot == w->boot;
        if (x->store.kind == STORE_TOLD) {
            engine_restore_told(w->e, x->store.account, x->store.budget, x->store.left, x->store.lanes, same,
                                x->store.until_wall_ms, x->store.until_boot_ms, clock_of(w));
        } else {
            engine_restore_permit(w->e, x->store.account, x->store.budget, x->store.lane, same, x->store.wall_ms,
                                  x->store.boot_ms, clock_of(w));
        }
    }
    const struct plan *plan = make_plan(w);
    for (uint32_t i = 0; i < BOTS; i++) {
        struct handle taken;
        char name[8];
        snprintf(name, sizeof name, "bot%u", i + 1);
        struct engine_add add = { .name = name, .identity = i + 1, .account = 7, .lane = 1, .plan = plan,
                                  .session_present = draw(w, 2) == 0, .session_saved_wall_ms = WALL_MS,
                                  .at = clock_of(w) };
        memset(&w->bots[i], 0, sizeof w->bots[i]);
        enum engine_add_result added = engine_add(w->e, &add, &w->bots[i].h, &taken);
        ASSERT(added == ENGINE_ADDED);
        w->bots[i].handover = plan->overlap;
        tell(w, EV_START_REQUESTED, i, 0);
    }
}

static void killed(struct world *w)
{
    bool reboot = draw(w, 3) == 0;
    w->kills++;
    engine_destroy(w->e);
    recover(w);
    w->item_count = 0;
    for (uint32_t i = 0; i < w->send_count; i++) w->answers[i] = 1; /* there is nobody left to be answered */
    w->boot_ahead_ms += draw(w, 3000);
    for (uint32_t i = 0; i < w->write_count; i++) {
        /* A wall clock set forward ages what was stored in another boot: nobody can know better, so it is not. */
        const struct written *x = &w->writes[i];
        if ((reboot || x->boot != w->boot) && x->wall_ahead_ms < w->wall_ahead_ms) w->wall_ahead_ms = x->wall_ahead_ms;
    }
    if (reboot) {
        w->boot++;
        w->boot_began_ms = w->now_ms + w->boot_ahead_ms - draw(w, 5) * 100;
    }
    populate(w);
    later(w, 100, (struct item){ .kind = AT_MEDDLE });
    later(w, draw(w, 30000), (struct item){ .kind = AT_KILLED });
}

static void heard(struct world *w, uint32_t bot, uint32_t generation)
{
    struct open_link *l = open_find(&w->bots[bot], generation);
    if (l) l->last_byte_ms = w->now_ms;
}

static void happen(struct world *w, const struct item *item)
{
    struct bot *b = &w->bots[item->bot];
    struct event ev;
    switch (item->kind) {
    case AT_PREPARED: prepare_done(w, item->bot, item->generation); break;
    case AT_STORED:
        ev = event_of(w, bad(w, 10) ? EV_STORE_FAILED : EV_STORED, item->bot, 0);
        ev.store.ticket = item->ticket;
        for (uint32_t i = 0; i < w->write_count; i++) {
            if (w->writes[i].fx.store.kind != STORE_PERMIT || w->writes[i].fx.store.ticket != item->ticket) continue;
            if (ev.kind == EV_STORED && i >= w->write_durable) w->write_durable = i + 1;
            /* What failed may be on the disk all the same. */
            if (ev.kind == EV_STORE_FAILED) w->writes[i].failed = draw(w, 2);
        }
        step(w, &ev);
        break;
    case AT_STAGE: stage(w, item); break;
    case AT_GREET: greeting(w, item->bot, item->generation); break;
    case AT_CLOSE_ANSWERED:
        if (open_find(b, item->generation) && bad(w, 20)) {
            tell_cause(w, EV_PEER_CLOSED, item->bot, item->generation, cause_of(CAUSE_CLOSED, 4001));
        }
        closed(w, item->bot, item->generation, cause_make(STAGE_NONE, CAUSE_NONE, BY_US, NULL));
        break;
    case AT_CLOSED:
        closed(w, item->bot, item->generation, cause_make(STAGE_NONE, CAUSE_NONE, BY_US, NULL));
        break;
    case AT_BEAT:
        heard(w, item->bot, item->generation);
        tell(w, EV_BEAT_ANSWERED, item->bot, item->generation);
        break;
    case AT_HEARD: heard(w, item->bot, item->generation); break;
    case AT_DRAINED: {
        struct open_link *l = open_find(b, item->generation);
        ev = event_of(w, EV_DRAINED, item->bot, item->generation);
        if (l) ev.drained.pulse.last_byte_ms = l->last_byte_ms;
        step(w, &ev);
        break;
    }
    case AT_VERDICT: verdict(w, item->bot, item->generation); break;
    case AT_START: tell(w, EV_START_REQUESTED, item->bot, 0); break;
    case AT_MEDDLE:
        if (!w->faulty) break;
        meddle_with(w, draw(w, BOTS));
        later(w, draw(w, 4000), *item);
        break;
    case AT_KILLED:
        if (w->faulty) killed(w);
        break;
    }
}

static void deadline(struct world *w, struct handle h)
{
    uint32_t bot = bot_of(w, h), n = 0;
    if (bot == BOTS) {
        broken(w, "a deadline of nobody");
        return;
    }
    struct event ev = event_of(w, EV_DEADLINE_PASSED, bot, 0);
    for (int i = 0; i < OPEN_MAX && n < 2; i++) {
        const struct open_link *l = &w->bots[bot].open[i];
        if (!l->generation) continue;
        ev.deadline.generation[n] = l->generation;
        ev.deadline.pulse[n++].last_byte_ms = l->last_byte_ms;
    }
    step(w, &ev);
}

/* --- a schedule ---------------------------------------------------------------------------------------------- */

/* The name of a state that is not good yet, or NULL: everybody who is wanted is up. */
static const char *not_up(const struct world *w)
{
    struct engine_view v;
    for (int i = 0; i < BOTS; i++) {
        if (engine_get(w->e, w->bots[i].h, &v) && v.wanted && v.state != CONN_UP) return conn_state_name(v.state);
    }
    return NULL;
}

/* What is due first happens first. Ends early when a promise broke, or all are up and that is enough. */
static void run(struct world *w, uint64_t ms, bool until_up)
{
    uint64_t till_ms = w->now_ms + ms;
    for (uint32_t i = 0; !w->why[0]; i++) {
        if (until_up && !not_up(w)) return;
        if (i == STEPS_MAX) {
            broken(w, "the engine does not come to rest");
            return;
        }
        uint64_t at_ms = w->item_count ? w->items[0].at_ms : UINT64_MAX, due_ms = engine_deadline_ms(w->e);
        if (due_ms != ENGINE_NEVER) due_ms += w->lag_ms;
        if (at_ms <= till_ms && at_ms <= due_ms) {
            if (at_ms > w->now_ms) w->now_ms = at_ms;
            struct item item = take(w);
            happen(w, &item);
        } else if (due_ms <= till_ms && due_ms != ENGINE_NEVER) {
            if (due_ms > w->now_ms) w->now_ms = due_ms;
            struct handle h = engine_due(w->e, w->now_ms);
            if (!handle_is_none(h)) deadline(w, h);
        } else {
            w->now_ms = till_ms;
            return;
        }
    }
}

static void heal(struct world *w)
{
    uint64_t bound_ms = 0;
    w->faulty = false;
    w->lag_ms = 0;
    for (int i = 0; i < BOTS; i++) {
        uint64_t ms = engine_recovery_bound_ms(w->e, w->bots[i].h, clock_of(w));
        if (ms != ENGINE_NEVER && ms > bound_ms) bound_ms = ms;
    }
    run(w, bound_ms, true);
    if (not_up(w)) broken(w, "I6: still %s after %llu ms", not_up(w), (unsigned long long)bound_ms);
}

static void remove_all(struct world *w)
{
    for (uint32_t i = 0; i < BOTS; i++) tell(w, EV_REMOVE_REQUESTED, i, 0);
    run(w, 20000, false);
    if (w->why[0]) return;
    for (uint32_t i = 0; i < w->send_count; i++) {
        if (!w->answers[i]) broken(w, "send %u was never answered", i + 1);
    }
    for (uint32_t i = 0; i < BOTS; i++) {
        if (!w->bots[i].removed) broken(w, "bot %u is not gone", i);
    }
    if (engine_deadline_ms(w->e) != ENGINE_NEVER) broken(w, "nobody is left, and something is due");
}

static void schedule(struct world *w, uint64_t seed, uint64_t fault_ms, enum engine_plant plant,
                     uint32_t mishear)
{
    memset(w, 0, sizeof *w);
    w->mishear = mishear;
    w->seed = seed;
    w->random = rng_mix(seed);
    w->now_ms = 1000;
    w->boot = 1;
    w->faulty = true;
    w->plant = plant;
    populate(w);
    if (draw(w, 3) == 0) later(w, draw(w, 60000), (struct item){ .kind = AT_KILLED });
    later(w, 100, (struct item){ .kind = AT_MEDDLE });
    w->lag_ms = draw(w, 4) == 0 ? draw(w, 3000) : 0;
    run(w, fault_ms, false);
    if (!w->why[0]) heal(w);
    if (!w->why[0]) remove_all(w);
    engine_destroy(w->e);
    w->e = NULL;
}

static void push_story(lua_State *L, const struct world *w)
{
    struct buffer b;
    buffer_init(&b, 0);
    uint64_t first = w->traced > TRACE_LINES ? w->traced - TRACE_LINES : 0;
    for (uint64_t i = first; i < w->traced; i++) {
        const struct trace_line *t = &w->trace[i % TRACE_LINES];
        buffer_printf(&b, "  t=%llu bot%u#%u %s%s%s%s\n", (unsigned long long)t->at_ms, t->bot + 1, t->generation,
                      t->effect ? "    -> " : "", t->what, t->more[0] ? " " : "", t->more);
    }
    lua_pushlstring(L, b.len ? (const char *)b.data : "", b.len);
    buffer_deinit(&b);
}

/* run{ first=, last=, ms=, plant=, mishear= }: { schedules=, steps=, readies=, starts=, sends=, kills=, hash=, moves = { ["up ->
 * closing"] = true } }, and of the first that broke a promise: seed=, why=, story= */
static int l_run(lua_State *L)
{
    static const char *const plants[] = { "none", "I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", NULL };
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "first");
    lua_getfield(L, 1, "last");
    lua_getfield(L, 1, "ms");
    lua_getfield(L, 1, "plant");
    lua_getfield(L, 1, "mishear");
    uint64_t first = (uint64_t)luaL_checknumber(L, 2), last = (uint64_t)luaL_checknumber(L, 3);
    uint64_t fault_ms = (uint64_t)luaL_optnumber(L, 4, 240000);
    enum engine_plant plant = (enum engine_plant)luaL_checkoption(L, 5, "none", plants);
    uint32_t mishear = (uint32_t)luaL_optinteger(L, 6, 0);
    struct world *w = calloc(1, sizeof *w);
    ASSERT(w != NULL);
    uint32_t moves[CONN_STATE_COUNT] = { 0 };
    uint64_t count = 0, steps = 0, readies = 0, starts = 0, sends = 0, kills = 0, hash = 0;
    for (uint64_t seed = first; seed <= last && !w->why[0]; seed++) {
        schedule(w, seed, fault_ms, plant, mishear);
        count++;
        steps += w->steps;
        readies += w->readies;
        starts += w->start_count;
        sends += w->send_count;
        kills += w->kills;
        hash = rng_mix(hash ^ w->hash);
        for (int i = 0; i < CONN_STATE_COUNT; i++) moves[i] |= w->moves[i];
    }
    lua_newtable(L);
    lua_pushnumber(L, (double)count), lua_setfield(L, -2, "schedules");
    lua_pushnumber(L, (double)steps), lua_setfield(L, -2, "steps");
    lua_pushnumber(L, (double)readies), lua_setfield(L, -2, "readies");
    lua_pushnumber(L, (double)starts), lua_setfield(L, -2, "starts");
    lua_pushnumber(L, (double)sends), lua_setfield(L, -2, "sends");
    lua_pushnumber(L, (double)kills), lua_setfield(L, -2, "kills");
    char text[24];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    lua_pushstring(L, text), lua_setfield(L, -2, "hash");
    lua_newtable(L);
    for (int i = 0; i < CONN_STATE_COUNT; i++) {
        for (int k = 0; k < CONN_STATE_COUNT; k++) {
            if (!(moves[i] & 1u << k)) continue;
            lua_pushfstring(L, "%s -> %s", conn_state_name((enum conn_state)i), conn_state_name((enum conn_state)k));
            lua_pushboolean(L, 1);
            lua_rawset(L, -3);
        }
    }
    lua_setfield(L, -2, "moves");
    if (w->why[0]) {
        lua_pushnumber(L, (double)w->seed), lua_setfield(L, -2, "seed");
        lua_pushstring(L, w->why), lua_setfield(L, -2, "why");
        push_story(L, w);
        lua_setfield(L, -2, "story");
    }
    free(w);
    return 1;
}

/* Every legal move of a connection, by name. */
static int l_legal_moves(lua_State *L)
{
    int n = 0;
    lua_newtable(L);
    for (int i = 0; i < CONN_STATE_COUNT; i++) {
        for (int k = 0; k < CONN_STATE_COUNT; k++) {
            if (!conn_move_is_legal((enum conn_state)i, (enum conn_state)k)) continue;
            lua_pushfstring(L, "%s -> %s", conn_state_name((enum conn_state)i), conn_state_name((enum conn_state)k));
            lua_rawseti(L, -2, ++n);
        }
    }
    return 1;
}

static int l_mark_hits(lua_State *L)
{
    lua_pushnumber(L, (double)mark_hits(luaL_checkstring(L, 1)));
    return 1;
}

int luaopen_unit_engine_random(lua_State *L);
int luaopen_unit_engine_random(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "run", l_run }, { "legal_moves", l_legal_moves }, { "mark_hits", l_mark_hits }, { NULL, NULL }
    };
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
