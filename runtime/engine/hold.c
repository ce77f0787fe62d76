/* Hold: an attempt that is put off because the host answers nobody, and let go when it answers somebody. Who
 * that concerns is the driver's to know; how long it may last is decided here: never past the longest wait that
 * the plan itself may draw. That wait is what the bound of I6 counts for each try (view.c), so holding back makes
 * no connection later than what was printed. Nor does letting go make one earlier than what was decided (I3). */
#include "engine/engine_internal.h"

/* A rule of the plan may wait for half an hour; nobody is held for so long because of others. */
#define HOLD_MOST_MS 300000

void hold_back(struct step *s)
{
    struct conn *c = s->c;
    uint64_t wait_ms = plan_wait_most_ms(c->plan);
    if (wait_ms > HOLD_MOST_MS) wait_ms = HOLD_MOST_MS;
    const uint64_t most = c->decided_ms + wait_ms;
    if (c->held || c->planned_next || c->attempt.phase != ATTEMPT_NONE) return;
    /* Nor who has none due, and so waits for ever: stopped, in a queue, being judged. */
    if (c->attempt_at_ms >= most || c->attempt_at_ms <= s->now) return;
    /* The later half of what is left: spread, so that those who were held together do not return together. */
    const uint64_t from = c->attempt_at_ms + (most - c->attempt_at_ms) / 2;
    const uint64_t at = rng_range(conn_draw(s, c->generation, DRAW_HOLD, 0), from, most);
    MARK("an attempt is held back");
    ASSERT(at >= c->attempt_at_ms);
    c->held = true;
    c->unheld_at_ms = c->attempt_at_ms;
    c->attempt_at_ms = at;
}

void hold_let_go(struct step *s)
{
    struct conn *c = s->c;
    if (!c->held) return;
    c->held = false;
    if (c->attempt_at_ms == ENGINE_NEVER) return; /* stopped, or in a queue since then */
    uint64_t at = s->now + rng_range(conn_draw(s, c->generation, DRAW_HOLD, 1), 0, s->ev->let_go.within_ms);
    if (at < c->unheld_at_ms) at = c->unheld_at_ms;
    if (at < c->attempt_at_ms) c->attempt_at_ms = at;
}
