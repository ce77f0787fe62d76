/* States of a connection: derived from the facts (its links, its attempt, its wishes) after each
 * event, so that no handler can leave the two apart. conn_enter() alone writes the state. Also
 * the one deadline that follows from the same facts (I8). */
#include "engine/engine_internal.h"

#define BIT(state) (1u << CONN_##state)

/* To add a move: here, and a schedule in the simulator that takes it. */
static const uint32_t legal_moves[CONN_STATE_COUNT] = {
    [CONN_STOPPED] = BIT(WAITING) | BIT(QUEUED) | BIT(PREPARING),
    [CONN_WAITING] = BIT(STOPPED) | BIT(QUEUED) | BIT(PREPARING),
    [CONN_QUEUED] = BIT(STOPPED) | BIT(PREPARING),
    [CONN_PREPARING] = BIT(STOPPED) | BIT(WAITING) | BIT(QUEUED) | BIT(LINKING) | BIT(CLOSING),
    [CONN_LINKING] = BIT(UP) | BIT(CLOSING),
    [CONN_UP] = BIT(CLOSING) | BIT(PREPARING) | BIT(LINKING),
    [CONN_CLOSING] = BIT(STOPPED) | BIT(WAITING) | BIT(QUEUED),
};

static void conn_enter(struct step *s, enum conn_state to);

bool conn_move_is_legal(enum conn_state from, enum conn_state to)
{
    ASSERT((unsigned)from < CONN_STATE_COUNT);
    ASSERT((unsigned)to < CONN_STATE_COUNT);
    return (legal_moves[from] & 1u << to) != 0;
}

/* The state that follows from the facts, entered when it is another one. */
void conn_update(struct step *s)
{
    struct conn *c = s->c;
    if (c->fatal || !c->wanted) {
        attempt_cancel(s);
        attempt_unqueue(s);
        c->attempt_at_ms = ENGINE_NEVER;
        c->spend_reserve = false;
        for (int i = 0; i < 2; i++) {
            struct link *l = conn_link(c, i);
            if (!link_alive(l) && l->state != LINK_DRAINING) continue;
            fx(s, FX_CANCEL, l->generation);
            permit_give_back(s, l->generation);
            link_close(s, l, c->plan->close_keep, c->cause.name);
            sends_doom(c, REFUSE_LINK_ENDED);
        }
    }
    const struct link *main = link_of_role(c, ROLE_MAIN);
    uint32_t open = links_open(c);
    if (PLANTED(s->e, PLANT_I1_DIAL_BEFORE_CLOSED) && open == 1) open = 0;
    enum conn_state to;
    if (main && main->state == LINK_READY) to = CONN_UP;
    else if (c->attempt.phase != ATTEMPT_NONE) to = CONN_PREPARING;
    else if (main && link_alive(main)) to = CONN_LINKING;
    else if (open) to = CONN_CLOSING;
    else if (!c->wanted || c->fatal) to = CONN_STOPPED;
    else if (c->queued) to = CONN_QUEUED;
    else to = CONN_WAITING;
    if (to == c->state) return;
    /* The planted bug forgets the open descriptor, but breaks nothing else. */
    if (PLANTED(s->e, PLANT_I1_DIAL_BEFORE_CLOSED) && !conn_move_is_legal(c->state, to) &&
        conn_move_is_legal(c->state, CONN_CLOSING))
        conn_enter(s, CONN_CLOSING);
    conn_enter(s, to);
}

uint64_t conn_deadline(const struct engine *e, const struct conn *c, uint64_t now,
                       const char **next)
{
    const struct plan *p = c->plan;
    uint64_t at = ENGINE_NEVER;
    *next = "nothing";
    if (PLANTED(e, PLANT_I8_NO_DEADLINE) && c->state == CONN_WAITING) return at;
    if (c->judging.pending)
        at = earlier(at, c->judging.since_ms + ASK_LIMIT_MS, next, "verdict limit");
    if (c->attempt.phase == ATTEMPT_PREPARING)
        at = earlier(at, c->attempt.since_ms + p->limits_ms.prepare, next, "prepare limit");
    if (c->attempt.phase == ATTEMPT_STORING)
        at = earlier(at, c->attempt.since_ms + p->limits_ms.prepare, next, "store limit");
    if (c->attempt.phase == ATTEMPT_TURN)
        at = earlier(at, c->attempt.since_ms + TURN_LIMIT_MS, next, "turn");
    if (conn_may_begin(e, c)) {
        if (c->queued) at = earlier(at, c->queue_at_ms, next, "budget");
        else at = earlier(at, c->attempt_at_ms, next, "dial");
    }
    for (int i = 0; i < 2; i++) {
        const char *label = *next;
        uint64_t link_at = link_deadline(c, conn_link(c, i), &label);
        at = earlier(at, link_at, next, label);
    }
    return earlier(at, sends_deadline(c, now), next, "sends");
}

static void conn_enter(struct step *s, enum conn_state to)
{
    struct conn *c = s->c;
    ASSERT(conn_move_is_legal(c->state, to) || PLANTED(s->e, PLANT_I1_DIAL_BEFORE_CLOSED));
    struct effect *f = fx(s, FX_STATE, c->generation);
    f->state.from = c->state;
    f->state.to = to;
    f->state.cause = c->cause;
    if (to == CONN_UP) f->state.cause.kind = CAUSE_NONE;
    f->state.next_ms = ENGINE_NEVER; /* set when the step is over */
    c->state = to;
    c->since_mono_ms = s->now;
    c->since_wall_ms = s->at.wall_ms;
}
