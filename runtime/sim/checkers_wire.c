/* Checkers of what is seen on the wire: I2 session starts, I4 and I5 dead and living peers. Judged from
 * the world's bytes and clocks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/duration.h"
#include "base/text.h"
#include "sim/checkers_internal.h"

/* ---- I2 ---------------------------------------------------------------------------------------------- */

static struct checked_account *account_of(struct checkers *k, uint64_t account)
{
    for (uint32_t i = 0; i < k->account_count; i++) {
        if (k->accounts[i].account == account) return &k->accounts[i];
    }
    k->accounts = realloc(k->accounts, (k->account_count + 1) * sizeof *k->accounts);
    ASSERT(k->accounts != NULL);
    struct checked_account *a = &k->accounts[k->account_count++];
    *a = (struct checked_account){ .account = account };
    return a;
}

static int64_t wall_shift(const struct checkers *k)
{
    return (int64_t)world_clock(k->world).wall_ms - (int64_t)world_now_ms(k->world);
}

void checkers_start_sent(struct checkers *k, struct handle conn)
{
    struct checked *c = checkers__find(k, conn);
    struct engine_view v;
    if (!c || !engine_get(k->engine, conn, &v)) return;
    const struct budget_plan *plan = &v.plan->budgets[BUDGET_START];
    struct checked_account *a = account_of(k, v.account);
    c->counts.starts++;
    uint64_t now = world_now_ms(k->world), longest = 0;
    for (uint32_t i = 0; i < plan->window_count; i++) {
        if (plan->windows[i].ms > longest) longest = plan->windows[i].ms;
    }
    uint32_t old = 0;
    while (old < a->count && a->starts[old].world_ms + longest < now) old++;
    if (old) memmove(a->starts, a->starts + old, (a->count - old) * sizeof *a->starts);
    a->count -= old;
    if (a->count == a->capacity) {
        a->capacity = a->capacity ? a->capacity * 2 : 16;
        a->starts = realloc(a->starts, a->capacity * sizeof *a->starts);
        ASSERT(a->starts != NULL);
    }
    a->starts[a->count++] = (struct checked_start){ .world_ms = now,
                                                    .boot = world_boot_number(k->world),
                                                    .wall_shift_ms = wall_shift(k) };
    if (!plan->on) return;
    for (uint32_t i = 0; i < plan->window_count; i++) {
        uint64_t span = plan->windows[i].ms;
        uint32_t used = 0;
        for (uint32_t j = 0; j < a->count; j++) {
            if (a->starts[j].world_ms + span > now + a->starts[j].aged_ms) used++;
        }
        if (used <= plan->windows[i].count) continue;
        char text[DURATION_TEXT_MAX];
        checkers__violated(k, "I2", c, "%u session starts within %s, %u are allowed", used,
                           duration_format(span, text), plan->windows[i].count);
    }
}

void checkers__starts_restored(struct checkers *k)
{
    const int64_t shift = wall_shift(k);
    const uint64_t boot = world_boot_number(k->world);
    for (uint32_t i = 0; i < k->account_count; i++) {
        struct checked_account *a = &k->accounts[i];
        for (uint32_t j = 0; j < a->count; j++) {
            struct checked_start *s = &a->starts[j];
            if (s->boot == boot || shift <= s->wall_shift_ms) continue;
            const uint64_t aged = (uint64_t)(shift - s->wall_shift_ms);
            if (aged > s->aged_ms) s->aged_ms = aged;
        }
    }
}

/* ---- I4 ---------------------------------------------------------------------------------------------- */

static uint64_t most_of_limits(const struct plan *p)
{
    uint64_t most = p->limits_ms.resolve;
    const uint64_t others[] = { p->limits_ms.connect, p->limits_ms.secure, p->limits_ms.upgrade,
                                p->limits_ms.greeting };
    for (int i = 0; i < 4; i++) {
        if (others[i] > most) most = others[i];
    }
    return most;
}

/* World time by which a link that is dead since now must be given up; 0: nobody promised. */
static uint64_t bound_of(const struct engine_view *v, enum link_state state,
                         const struct stream_view *s, uint64_t now, char *why, size_t why_bytes)
{
    const struct plan *p = v->plan;
    uint64_t bound = 0;
    if (state == LINK_READY || state == LINK_DRAINING) {
        uint64_t last = s->last_arrival_ms ? s->last_arrival_ms : s->opened_ms;
        uint64_t silence = p->silence_ms ? last + p->silence_ms : 0, beat = 0;
        if (p->beat.on && p->beat.answered) {
            uint64_t every = v->beat_interval_ms ? v->beat_interval_ms : p->beat.every_ms;
            uint32_t dead = p->beat.dead ? p->beat.dead : 1;
            bool sooner = p->beat.within_ms && p->beat.within_ms < every;
            beat = now + every + (sooner ? p->beat.within_ms : every) * dead;
        }
        if (!silence && !beat) return 0;
        bound = silence > beat ? silence : beat;
        if (bound < now) bound = now;
        snprintf(why, why_bytes, silence > beat ? "silence" : "beat");
        if (p->backlog.full == BACKLOG_HOLD) bound += p->backlog.hold_ms;
        if (state == LINK_DRAINING) bound += p->limits_ms.drain;
    } else {
        bound = now + most_of_limits(p);
        snprintf(why, why_bytes, "stage limit");
    }
    return bound + p->limits_ms.close + 50;
}

void checkers__on_dead(void *self, const struct stream_view *stream)
{
    struct checkers *k = self;
    if (!k->engine || !stream->link) return;
    for (uint32_t i = 0; i < k->count; i++) {
        struct checked *c = k->items[i];
        if (c->gone || strcmp(c->name, stream->owner.connection) != 0) continue;
        struct engine_view v;
        if (!engine_get(k->engine, c->conn, &v)) return;
        enum link_state state = LINK_NONE;
        for (int l = 0; l < 2; l++) {
            if (v.link_generation[l] == stream->owner.generation) state = v.link_state[l];
        }
        if (state == LINK_NONE || state == LINK_CLOSED) return;
        struct death d = { .link = stream->link,
                           .dead_ms = stream->dead_ms,
                           .frozen_ms = world_frozen_ms(k->world),
                           .conn = c->conn,
                           .generation = stream->owner.generation };
        uint64_t now = world_now_ms(k->world);
        d.due_ms = bound_of(&v, state, stream, now, d.why, sizeof d.why);
        if (!d.due_ms) return;
        /* A ping that was late because the machine did not run is lag too. */
        if (strcmp(d.why, "silence") == 0) d.frozen_ms = stream->arrival_frozen_ms;
        if (k->death_count == k->death_capacity) {
            k->death_capacity = k->death_capacity ? k->death_capacity * 2 : 16;
            k->deaths = realloc(k->deaths, k->death_capacity * sizeof *k->deaths);
            ASSERT(k->deaths != NULL);
        }
        k->deaths[k->death_count] = d;
        world_check_at(k->world, d.due_ms, CHECK_DEAD, k->death_count++);
        return;
    }
}

void checkers__check_dead(struct checkers *k, uint64_t index)
{
    ASSERT(index < k->death_count);
    struct death *d = &k->deaths[index];
    struct stream_view s;
    if (!world_stream_of(k->world, d->link, &s) || !s.descriptor || s.dead_ms != d->dead_ms) return;
    /* Loop lag: a machine that did not run cannot notice. */
    uint64_t frozen = world_frozen_ms(k->world) - d->frozen_ms;
    if (frozen) {
        d->frozen_ms += frozen;
        d->due_ms += frozen;
        world_check_at(k->world, d->due_ms, CHECK_DEAD, index);
        return;
    }
    struct checked *c = checkers__find(k, d->conn);
    struct engine_view v;
    if (!c || !engine_get(k->engine, d->conn, &v)) return;
    for (int i = 0; i < 2 && !d->drained; i++) {
        /* Replaced meanwhile: its successor serves, and the drain limit bounds what is left of it. */
        if (v.link_generation[i] != d->generation || v.link_generation[0] == d->generation) continue;
        d->drained = true;
        d->due_ms = world_now_ms(k->world) + v.plan->limits_ms.drain + v.plan->limits_ms.close;
        world_check_at(k->world, d->due_ms, CHECK_DEAD, index);
        return;
    }
    for (int i = 0; i < 2; i++) {
        if (v.link_generation[i] != d->generation) continue;
        enum link_state state = v.link_state[i];
        /* What was under way when it died still came: it may have ended a greeting, and it was a pulse. */
        if (strcmp(d->why, "stage limit") != 0) {
            if (s.last_arrival_ms <= d->dead_ms) continue;
            if (state == LINK_CLOSING) state = LINK_READY;
        }
        if (state != LINK_READY && state != LINK_DRAINING) continue;
        uint64_t from = s.last_arrival_ms > d->dead_ms ? s.last_arrival_ms : d->dead_ms;
        d->due_ms = bound_of(&v, state, &s, from, d->why, sizeof d->why);
        if (d->due_ms == 0) return;
        if (d->due_ms <= world_now_ms(k->world)) break;
        world_check_at(k->world, d->due_ms, CHECK_DEAD, index);
        return;
    }
    char text[DURATION_TEXT_MAX];
    checkers__violated(k, "I4", c, "link %u is dead for %s and still open; bound by %s",
                       d->generation,
                       duration_format(world_now_ms(k->world) - d->dead_ms, text), d->why);
}

/* ---- I5 ---------------------------------------------------------------------------------------------- */

void checkers_beat_answer(struct checkers *k, struct handle conn, uint32_t generation)
{
    struct checked *c = checkers__find(k, conn);
    for (int i = 0; c && i < 2; i++) {
        if (c->links[i].generation != generation) continue;
        c->links[i].answer_ms = world_clock(k->world).mono_ms;
    }
}

void checkers__on_ending(struct checkers *k, struct checked *c, const struct effect *fx)
{
    const struct cause *cause = &fx->journal.cause;
    if (cause->kind != CAUSE_SILENCE && cause->kind != CAUSE_BEAT) return;
    struct engine_view v;
    if (!engine_get(k->engine, c->conn, &v)) return;
    for (int i = 0; i < 2; i++) {
        if (c->links[i].generation == 0) continue;
        if (fx->generation && c->links[i].generation != fx->generation) continue;
        struct stream_view s;
        bool standing = world_stream_of(k->world, c->links[i].link, &s);
        if (cause->kind == CAUSE_SILENCE && standing && s.last_arrival_ms) {
            uint64_t quiet = world_now_ms(k->world) - s.last_arrival_ms;
            if (quiet < v.plan->silence_ms) {
                checkers__violated(k, "I5", c, "ended by silence, and bytes came %llu ms ago",
                                   (unsigned long long)quiet);
            }
        }
        if (cause->kind == CAUSE_BEAT && v.beat_sent_ms && v.plan->beat.dead <= 1 &&
            c->links[i].answer_ms > v.beat_sent_ms) {
            checkers__violated(k, "I5", c, "ended by a beat that was answered");
        }
        return;
    }
}
