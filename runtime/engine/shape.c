/* Shape: one number for all that decides what a connection does next, instants and draws apart. Two
 * connections of one plan and one shape go on alike but for their delays: an explorer needs to enter only
 * one of them. Changes nothing. */
#include "base/rng.h"
#include "engine/engine_internal.h"

#define FEW 4u

static uint64_t mixed(uint64_t shape, uint64_t fact)
{
    return rng_mix(shape ^ (fact + 0x9e3779b97f4a7c15ull));
}

static uint64_t with_link(uint64_t shape, const struct link *l)
{
    if (l->state == LINK_NONE) return mixed(shape, 0);
    shape = mixed(shape, (uint64_t)l->state << 8 | (uint64_t)l->role);
    shape = mixed(shape, (uint64_t)l->settled | (uint64_t)l->session << 1 | (uint64_t)l->retiring << 2 |
                             (uint64_t)(l->ready_ms != 0) << 3 | (uint64_t)l->beat.on << 4 |
                             (uint64_t)(l->close_code != 0) << 5);
    return mixed(shape, (uint64_t)l->closing << 32 | l->beat.missed);
}

uint64_t engine_shape(const struct engine *e, struct handle conn)
{
    const struct conn *c = slots_get(&e->conns, conn);
    if (!c) return 0;
    uint64_t shape = mixed(0, (uint64_t)c->state);
    shape = mixed(shape, (uint64_t)c->wanted | (uint64_t)c->fatal << 1 | (uint64_t)c->doomed << 2 |
                             (uint64_t)c->removing << 3 | (uint64_t)c->planned_next << 4 |
                             (uint64_t)c->attempted << 5 | (uint64_t)c->queued << 6 |
                             (uint64_t)c->session_present << 7 | (uint64_t)c->spend_reserve << 8 |
                             (uint64_t)c->wants_start << 9 | (uint64_t)c->session_known << 10 |
                             (uint64_t)(c->ready_total != 0) << 11 |
                             (uint64_t)(c->attempt_at_ms != ENGINE_NEVER) << 12);
    /* Beyond a few, one failure more only lengthens the wait. */
    shape = mixed(shape, (uint64_t)(c->failed < FEW ? c->failed : FEW) << 32 |
                             (c->slow_count < FEW ? c->slow_count : FEW));
    shape = mixed(shape, (uint64_t)c->attempt.phase << 8 | (uint64_t)c->attempt.handover << 4 |
                             (uint64_t)c->permit.state);
    shape = mixed(shape, (uint64_t)c->judging.pending << 8 | (uint64_t)c->judging.base.drop << 4 |
                             (uint64_t)c->judging.climb.drop);
    for (uint32_t i = 0; i < c->plan->climb_count; i++) shape = mixed(shape, c->climbs ? c->climbs->rules[i].count : 0);
    /* The newer one first: which place a link has says nothing. */
    int newest = c->links[1].state != LINK_NONE &&
                 (c->links[0].state == LINK_NONE || c->links[1].generation > c->links[0].generation);
    shape = with_link(shape, &c->links[newest]);
    shape = with_link(shape, &c->links[!newest]);
    return mixed(shape, c->sends_count);
}
