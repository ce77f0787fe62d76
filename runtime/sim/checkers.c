/* Checkers of I1, I3, I6 and I8 and of what runs through effects. Owns a record per connection; never
 * changes the world except to stop it. I2, I4 and I5 are in checkers_wire.c, I7 in checkers_frames.c. */
#include "sim/checkers.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/duration.h"
#include "base/text.h"
#include "sim/checkers_internal.h"

static void on_effect(struct checkers *k, struct checked *c, const struct event *ev,
                      const struct effect *fx);
static void check_view(struct checkers *k, struct checked *c);

struct checkers *checkers_create(struct world *w)
{
    struct checkers *k = calloc(1, sizeof *k);
    ASSERT(k != NULL);
    k->world = w;
    world_on_dead(w, checkers__on_dead, k);
    return k;
}

void checkers_destroy(struct checkers *k)
{
    if (!k) return;
    for (uint32_t i = 0; i < k->count; i++) free(k->items[i]);
    free(k->items);
    for (uint32_t i = 0; i < k->account_count; i++) free(k->accounts[i].starts);
    free(k->accounts);
    free(k->deaths);
    checkers__frames_free(k);
    idmap_deinit(&k->by_handle);
    free(k);
}

void checkers_engine(struct checkers *k, const struct engine *e)
{
    k->engine = e;
    checkers__starts_restored(k);
    if (e) return;
    /* Handles of the old engine name nobody any more. */
    k->crashes++;
    idmap_deinit(&k->by_handle);
    for (uint32_t i = k->living_from; i < k->count; i++) k->items[i]->gone = true;
    k->living_from = k->count;
    k->heals++; /* what a heal promised went with the process */
}

struct checked *checkers__find(const struct checkers *k, struct handle conn)
{
    uint64_t at = idmap_find(&k->by_handle, handle_pack(conn));
    return at ? k->items[at - 1] : NULL;
}

static struct checked *get(struct checkers *k, struct handle conn, const char *name)
{
    struct checked *c = checkers__find(k, conn);
    if (c) return c;
    k->items = realloc(k->items, (k->count + 1) * sizeof *k->items);
    ASSERT(k->items != NULL);
    c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    k->items[k->count++] = c;
    c->conn = conn;
    text_copy(c->name, sizeof c->name, name, strlen(name));
    idmap_put(&k->by_handle, handle_pack(conn), k->count);
    return c;
}

void checkers__violated(struct checkers *k, const char *which, const struct checked *c,
                        const char *format, ...)
{
    if (k->violation[0]) return;
    uint64_t now = world_now_ms(k->world);
    int n = snprintf(k->violation, sizeof k->violation, "%s violated at %llu.%03u by %s: ", which,
                     (unsigned long long)(now / 1000), (unsigned)(now % 1000), c ? c->name : "-");
    va_list args;
    va_start(args, format);
    vsnprintf(k->violation + n, sizeof k->violation - (size_t)n, format, args);
    va_end(args);
    text_copy(k->violation_of, sizeof k->violation_of, c ? c->name : "", c ? strlen(c->name) : 0);
    trace_line(world_trace(k->world), now, "%s", k->violation);
    world_stop(k->world);
}

const char *checkers_violation(const struct checkers *k)
{
    return k->violation[0] ? k->violation : NULL;
}

const char *checkers_violation_of(const struct checkers *k)
{
    return k->violation_of;
}

void checkers_clear(struct checkers *k)
{
    k->violation[0] = 0;
    k->violation_of[0] = 0;
}

bool checkers_get(const struct checkers *k, struct handle conn, struct checker_view *out)
{
    const struct checked *c = checkers__find(k, conn);
    if (!c) return false;
    *out = c->counts;
    return true;
}

uint64_t checkers_moves(const struct checkers *k)
{
    return k->moves;
}

/* ---- each step ------------------------------------------------------------------------------------- */

void checkers_step(struct checkers *k, const char *name, const struct event *ev,
                   const struct effect_list *effects)
{
    struct checked *c = get(k, ev->conn, name);
    switch (ev->kind) {
    case EV_START_REQUESTED:
        c->asked_to_run = true;
        c->asked_to_stop = false;
        c->operator_spoke = true;
        break;
    case EV_RESTART_REQUESTED:
        c->asked_to_run = true;
        c->asked_to_stop = false;
        c->operator_spoke = true;
        break;
    case EV_STOP_REQUESTED:
    case EV_REMOVE_REQUESTED:
    case EV_SHUTDOWN_REQUESTED:
        c->asked_to_stop = true;
        c->operator_spoke = true;
        break;
    case EV_POLICY_SWAPPED: {
        /* A backoff that the new numbers do not allow any more is cut to their longest. */
        const struct plan *p = ev->policy_swapped.plan;
        uint64_t most = p->backoff.most_ms > p->backoff.first_ms ? p->backoff.most_ms
                                                                  : p->backoff.first_ms;
        if (most < PLAN_FLOOR_MS_MIN) most = PLAN_FLOOR_MS_MIN;
        if (c->decided && c->decided_ms && c->not_before_ms > c->decided_ms + most) {
            c->not_before_ms = c->decided_ms + most;
        }
        break;
    }
    default: break;
    }
    for (uint32_t i = 0; i < effects->count; i++) {
        if (handle_equal(effects->items[i].conn, ev->conn)) {
            on_effect(k, c, ev, &effects->items[i]);
        } else {
            struct checked *other = checkers__find(k, effects->items[i].conn);
            if (other) on_effect(k, other, ev, &effects->items[i]);
        }
    }
    if (!c->gone) check_view(k, c);
}

/* I3: what starts an attempt, and what it had to wait for. */
static void on_attempt(struct checkers *k, struct checked *c, const struct event *ev,
                       uint32_t generation)
{
    if (generation == c->attempt_generation) return; /* prepare, then dial: one attempt */
    uint64_t now = ev->at.mono_ms;
    struct engine_view v;
    if (!engine_get(k->engine, c->conn, &v)) return;
    uint64_t floor = v.plan->backoff.floor_ms;
    if (floor < PLAN_FLOOR_MS_MIN) floor = PLAN_FLOOR_MS_MIN;

    uint32_t handover_from = 0;
    for (int i = 0; i < 2; i++) {
        bool older = v.link_generation[i] && v.link_generation[i] != generation;
        if (older && (v.link_state[i] == LINK_READY || v.link_state[i] == LINK_DRAINING)) {
            handover_from = v.link_generation[i];
        }
    }
    bool free_of_wait = c->counts.attempts == 0 || c->operator_spoke;
    if (handover_from) {
        if (v.plan->overlap == 0) {
            checkers__violated(k, "I1", c, "a handover, and the policy allows none");
        }
        if (handover_from == c->handover_from && !free_of_wait && now - c->attempt_ms < floor) {
            checkers__violated(k, "I3", c, "two handovers of one link within %llu ms",
                               (unsigned long long)(now - c->attempt_ms));
        }
        c->handover_from = handover_from;
        c->counts.handovers++;
    } else if (!free_of_wait && !c->settled) {
        if (now - c->attempt_ms < floor) {
            checkers__violated(k, "I3", c, "attempts %u and %u start %llu ms apart, the floor is %llu",
                               c->attempt_generation, generation,
                               (unsigned long long)(now - c->attempt_ms),
                               (unsigned long long)floor);
        } else if (c->decided && now < c->not_before_ms) {
            checkers__violated(k, "I3", c, "attempt %u starts %llu ms before its decided delay is over",
                               generation, (unsigned long long)(c->not_before_ms - now));
        }
    }
    c->attempt_generation = generation;
    c->attempt_ms = now;
    c->settled = false;
    c->decided = false;
    c->operator_spoke = false;
    c->counts.attempts++;
}

/* I6: stopped only by a person, or by a verdict with a cause and a rule behind it. */
static void on_stopped(struct checkers *k, struct checked *c, const struct effect *fx)
{
    if (c->asked_to_stop || !c->asked_to_run) return;
    struct engine_view v;
    if (!engine_get(k->engine, c->conn, &v)) return;
    if (fx->state.cause.kind == CAUSE_NONE) {
        checkers__violated(k, "I6", c, "stopped without a cause");
    } else if (v.decision.pace != PACE_STOP || v.decision.by == DECIDED_BY_ENGINE) {
        checkers__violated(k, "I6", c, "stopped by nobody's verdict after %s",
                           fx->state.cause.name);
    } else if (v.decision.by == DECIDED_BY_RULE) {
        bool said = false;
        for (uint32_t i = 0; i < v.plan->classify_count; i++) {
            const struct classify_rule *r = &v.plan->classify[i];
            said = said || (r->pace == PACE_STOP && r->line == v.decision.line);
        }
        if (!said) {
            checkers__violated(k, "I6", c, "stopped after %s, and line %u does not say so",
                               fx->state.cause.name, v.decision.line);
        }
    }
}

static void on_state(struct checkers *k, struct checked *c, const struct effect *fx)
{
    enum conn_state from = fx->state.from, to = fx->state.to;
    bool planted = false; /* a planted bug may move as it likes: its own checker is to catch it */
#ifdef HOLDFAST_TEST
    planted = engine_planted(k->engine) != PLANT_NONE;
#endif
    if (from != to && !planted && !conn_move_is_legal(from, to)) {
        checkers__violated(k, "moves", c, "%s to %s is no legal move", conn_state_name(from),
                           conn_state_name(to));
    }
    k->moves |= (uint64_t)1 << (from * CONN_STATE_COUNT + to);
    if (to == CONN_UP) c->up_since_heal = true;
    if (to == CONN_STOPPED) on_stopped(k, c, fx);
}

static void on_effect(struct checkers *k, struct checked *c, const struct event *ev,
                      const struct effect *fx)
{
    switch (fx->kind) {
    case FX_PREPARE:
    case FX_DIAL:
        on_attempt(k, c, ev, fx->generation);
        break;
    case FX_SETTLED: c->settled = true; break;
    case FX_STATE: on_state(k, c, fx); break;
    case FX_JOURNAL:
        c->counts.endings++;
        if (fx->journal.planned) c->counts.planned_endings++;
        /* What follows an ending that was judged already is the same ending: its delay runs since then. */
        if (!c->decided || c->judged_generation != fx->generation) c->judged_ms = ev->at.mono_ms;
        c->judged_generation = fx->generation;
        c->decided = true;
        c->not_before_ms = c->judged_ms + fx->journal.delay_ms;
        c->decided_ms = fx->journal.pace == PACE_NORMAL &&
                                fx->journal.delay_ms == fx->journal.backoff_ms
                            ? ev->at.mono_ms
                            : 0;
        checkers__on_ending(k, c, fx);
        break;
    case FX_REMOVED:
        c->gone = true;
        idmap_remove(&k->by_handle, handle_pack(c->conn));
        break;
    default: break;
    }
}

/* I8, and the states that may be without a deadline. */
static void check_view(struct checkers *k, struct checked *c)
{
    struct engine_view v;
    if (!engine_get(k->engine, c->conn, &v)) return;
    const char *state = conn_state_name(v.state);
    bool resting = v.state == CONN_STOPPED || v.state == CONN_UP;
    if (v.since_mono_ms == 0 || v.since_wall_ms == 0) {
        checkers__violated(k, "I8", c, "%s since nobody knows when", state);
    } else if (!resting && v.deadline_ms == ENGINE_NEVER) {
        checkers__violated(k, "I8", c, "%s without a deadline", state);
    } else if (!resting && (!v.next || !v.next[0])) {
        checkers__violated(k, "I8", c, "%s without saying what comes next", state);
    } else if (v.state == CONN_WAITING && v.attempts_total > 0 && v.cause.kind == CAUSE_NONE) {
        checkers__violated(k, "I8", c, "waiting without a cause");
    } else if (v.state == CONN_STOPPED && v.wanted && !v.stop_is_fatal) {
        checkers__violated(k, "I6", c, "wanted, and stopped without a fatal cause");
    }
}

/* ---- I1 ------------------------------------------------------------------------------------------------ */

void checkers_link_open(struct checkers *k, struct handle conn, uint32_t generation, uint64_t link,
                        uint64_t identity)
{
    struct checked *c = checkers__find(k, conn);
    if (!c) return;
    c->links[1] = c->links[0];
    c->links[0].generation = generation;
    c->links[0].link = link;
    uint32_t open = world_descriptors(k->world, identity, NULL);
    if (open == 0) return;
    struct engine_view v;
    if (!engine_get(k->engine, conn, &v)) return;
    bool handover = false;
    for (int i = 0; i < 2; i++) {
        bool older = v.link_generation[i] && v.link_generation[i] != generation;
        bool serves = v.link_state[i] == LINK_READY || v.link_state[i] == LINK_DRAINING;
        handover = handover || (older && serves);
    }
    if (open > 1 || !handover || v.plan->overlap == 0) {
        checkers__violated(k, "I1", c, "link %u is dialled while %u of its identity %s open",
                           generation, open, open == 1 ? "is" : "are");
    }
}

/* ---- I6 after a heal ------------------------------------------------------------------------------------ */

uint64_t checkers_heal(struct checkers *k)
{
    uint64_t latest = 0, now = world_now_ms(k->world);
    if (!k->engine) return 0;
    k->heals++;
    for (uint32_t i = 0; i < k->count; i++) {
        struct checked *c = k->items[i];
        struct engine_view v;
        if (c->gone || !engine_get(k->engine, c->conn, &v) || !v.wanted) continue;
        uint64_t bound = engine_recovery_bound_ms(k->engine, c->conn, world_clock(k->world));
        c->counts.recovery_bound_ms = bound;
        c->up_since_heal = false;
        c->heal = k->heals;
        c->heal_frozen_ms = world_frozen_ms(k->world);
        if (bound > latest) latest = bound;
        if (bound > (uint64_t)400 * 24 * 3600 * 1000) {
            checkers__violated(k, "I6", c, "a bound of %llu ms is no bound",
                               (unsigned long long)bound);
            continue;
        }
        world_check_at(k->world, now + bound, CHECK_HEAL | k->heals << 8, handle_pack(c->conn));
    }
    trace_line(world_trace(k->world), now, "all is well: everybody up within %llums",
               (unsigned long long)latest);
    return latest;
}

void checkers_fault(struct checkers *k)
{
    k->heals++; /* what is due belongs to an older heal */
}

static void check_heal(struct checkers *k, uint64_t heal, uint64_t conn)
{
    struct checked *c = checkers__find(k, handle_unpack(conn));
    struct engine_view v;
    if (!c || heal != k->heals || !engine_get(k->engine, c->conn, &v)) return;
    uint64_t frozen = world_frozen_ms(k->world) - c->heal_frozen_ms;
    if (frozen) { /* the machine did not run for a while: that much later */
        c->heal_frozen_ms += frozen;
        world_check_at(k->world, world_now_ms(k->world) + frozen, CHECK_HEAL | heal << 8, conn);
        return;
    }
    if (v.state == CONN_UP || c->up_since_heal || !v.wanted || v.stop_is_fatal) return;
    char bound[DURATION_TEXT_MAX];
    checkers__violated(k, "I6", c, "%s %s after all was well, failed %u times in a row",
                       conn_state_name(v.state),
                       duration_format(c->counts.recovery_bound_ms, bound), v.failed);
}

void checkers_due(struct checkers *k, uint64_t a, uint64_t b)
{
    if (!k->engine) return;
    switch (a & 0xff) {
    case CHECK_HEAL: check_heal(k, a >> 8, b); break;
    case CHECK_DEAD: checkers__check_dead(k, b); break;
    default: ASSERT(!"a check that nobody knows");
    }
}
