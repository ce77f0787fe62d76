/* Endings: a link or an attempt is over. Here it is taken out of service, once, and handed to the
 * verdict; whatever else is heard of the same ending afterwards may only raise it. */
#include "engine/engine_internal.h"

static void link_ends_again(struct step *s, struct link *l, const struct cause *cause,
                            enum end_how how);
static bool replaced_while_up(struct step *s, struct link *l, const struct cause *cause,
                              enum end_how how);
static void take_out(struct step *s, struct link *l, const struct cause *cause, enum end_how how,
                     uint64_t wait_ms);
static struct cause completed(const struct step *s, const struct link *l,
                              const struct cause *cause);
static uint16_t code_for(const struct conn *c, const struct cause *cause);
static void note_heard(struct step *s, const struct link *l);

void conn_link_ends(struct step *s, struct link *l, const struct cause *cause, enum end_how how,
                    uint64_t wait_ms)
{
    struct conn *c = s->c;
    ASSERT(l->state != LINK_NONE);
    ASSERT(cause->kind != CAUSE_NONE);
    if (l->state == LINK_CLOSING) {
        link_ends_again(s, l, cause, how);
        return;
    }
    if (!link_alive(l) || l->role == ROLE_OLD) {
        /* It was replaced: its ending was judged when the replacement was planned. What it still brings is
         * taken until the peer closes, if the policy says so of such an announcement. */
        take_out(s, l, cause, how, l->state == LINK_DRAINING ? wait_ms : 0);
        return;
    }
    const struct cause whole = completed(s, l, cause);
    if (replaced_while_up(s, l, &whole, how)) return;

    /* A session ages from the moment that it was last in use, not from its start. */
    if (l->state == LINK_READY && c->session_present &&
        s->at.wall_ms > c->session_saved_wall_ms)
        c->session_saved_wall_ms = s->at.wall_ms;

    if (l->state == LINK_READY) note_heard(s, l);
    const bool settled = l->settled;
    const enum link_role role = l->role;
    const struct link *main = link_of_role(c, ROLE_MAIN);
    const bool successor = role == ROLE_NEXT && main && main->state == LINK_READY;
    take_out(s, l, &whole, how, wait_ms);
    permit_give_back(s, l->generation);
    if (role == ROLE_MAIN) {
        sends_doom(c, REFUSE_LINK_ENDED);
        struct link *old = link_of_role(c, ROLE_OLD);
        if (old && old->state == LINK_DRAINING) {
            /* It has nothing to wait for any more, and the next dial waits for it. */
            MARK("the successor died while the old link was draining");
            fx(s, FX_CANCEL, old->generation);
            link_close(s, old, c->plan->close_keep, "replaced");
        }
        struct link *next = link_of_role(c, ROLE_NEXT);
        if (next && link_alive(next)) {
            MARK("the old link died while its successor was on its way");
            next->role = ROLE_MAIN;
            l->role = ROLE_OLD;
        } else if (c->attempt.phase != ATTEMPT_NONE) {
            l->role = ROLE_OLD;
        }
    }
    if (!c->wanted) return;
    if (role == ROLE_MAIN && c->doomed) {
        c->doomed = false;
        c->fatal = true;
        return;
    }
    if (l->retiring && c->judging.generation == l->generation) {
        judge_more(s, &whole, l->generation);
        return;
    }
    if (l->retiring) {
        /* Its successor's failure was judged since then, and may wait in a queue already: that is over. */
        MARK("a link died whose successor had failed");
        attempt_unqueue(s);
    }
    judge_begin(s, &whole, l->generation, settled, successor);
}

void conn_attempt_fails(struct step *s, const struct cause *cause)
{
    struct conn *c = s->c;
    ASSERT(c->attempt.phase != ATTEMPT_NONE);
    struct cause whole = *cause;
    if (whole.stage == STAGE_NONE) whole.stage = STAGE_PREPARING;
    whole.session = session_valid(c, s->at) && !c->wants_start;
    whole.age_ms = 0;
    const struct link *main = link_of_role(c, ROLE_MAIN);
    const bool successor = main && main->state == LINK_READY;
    attempt_cancel(s);
    if (!c->wanted) return;
    judge_begin(s, &whole, c->generation, false, successor);
}

void conn_broken(struct step *s, const char *what)
{
    struct conn *c = s->c;
    struct cause cause = cause_make(STAGE_NONE, CAUSE_INTERNAL, BY_US, what);
    MARK("a broken assertion was kept to one connection");
    if (c->state == CONN_QUEUED) {
        /* Nothing is open and nothing runs: it may go on waiting for its budget. */
        fx_alarm(s, "an assertion about this connection broke while it was queued");
        return;
    }
    attempt_cancel(s);
    attempt_unqueue(s);
    for (int i = 0; i < 2; i++) {
        struct link *l = conn_link(c, i);
        if (l->state == LINK_NONE) continue;
        fx(s, FX_CANCEL, l->generation);
        permit_give_back(s, l->generation);
        link_abort(s, l);
    }
    sends_doom(c, REFUSE_LINK_ENDED);
    fx_alarm(s, "an assertion about this connection broke: its link was aborted");
    if (!c->wanted) return;
    c->failed++;
    c->slow_count++;
    uint64_t delay = backoff_slow_ms(c->plan, NULL, c->slow_count,
                                     conn_draw(s, c->generation, DRAW_SLOW, 2));
    uint64_t floor = backoff_floor_ms(c->plan);
    judge_directly(s, &cause, DECIDED_BY_ENGINE, PACE_SLOW, delay > floor ? delay : floor, what);
}

void conn_end_all(struct step *s, const struct cause *cause, uint16_t close_code)
{
    struct conn *c = s->c;
    attempt_cancel(s);
    attempt_unqueue(s);
    c->attempt_at_ms = ENGINE_NEVER;
    c->judging.pending = false;
    c->doomed = false;
    for (int i = 0; i < 2; i++) {
        struct link *l = conn_link(c, i);
        if (l->state == LINK_NONE) continue;
        if (l->state == LINK_READY) note_heard(s, l);
        if (l->state != LINK_CLOSING) {
            fx(s, FX_CANCEL, l->generation);
            permit_give_back(s, l->generation);
        }
        link_close(s, l, close_code, cause->name);
    }
    sends_doom(c, REFUSE_LINK_ENDED);
}

/* An announcement and the close code that follows are one ending; our own code echoed is no
 * news. */
static void link_ends_again(struct step *s, struct link *l, const struct cause *cause,
                            enum end_how how)
{
    struct conn *c = s->c;
    const bool echo = cause->kind == CAUSE_CLOSED && l->close_code &&
                      cause->close_code == (int32_t)l->close_code;
    const bool says_why = cause->kind == CAUSE_CLOSED || cause->kind == CAUSE_ENDED ||
                          cause->kind == CAUSE_FAILED;
    if (says_why && !echo && c->judging.generation == l->generation) {
        struct cause whole = *cause;
        whole.stage = c->judging.cause.stage;
        whole.session = c->judging.cause.session;
        whole.age_ms = c->judging.cause.age_ms;
        judge_more(s, &whole, l->generation);
    }
    ASSERT(how != END_GONE); /* said once, of a link that was not closing */
    if (how == END_ABORT) {
        if (l->closing != CLOSE_ABORTED) link_abort(s, l);
    } else if (cause->kind == CAUSE_CLOSED) {
        link_close(s, l, c->plan->close_keep, c->cause.name);
    }
}

/* A planned ending of a link that serves: where the policy allows, its successor comes first. */
static bool replaced_while_up(struct step *s, struct link *l, const struct cause *cause,
                              enum end_how how)
{
    struct conn *c = s->c;
    if (how != END_ANNOUNCED || !c->wanted || c->plan->overlap == 0) return false;
    if (l->state != LINK_READY || l->role != ROLE_MAIN) return false;
    struct cause named = *cause;
    const struct verdict v = verdict_classify(c->plan, &named);
    if (!v.planned || v.pace != PACE_NORMAL) return false;
    if (l->retiring) return true; /* said again; it is on its way */
    if (links_open(c) != 1 || c->attempt.phase != ATTEMPT_NONE || c->doomed) return false;
    MARK("handover begins");
    l->retiring = true;
    judge_begin(s, cause, l->generation, l->settled, false);
    return true;
}

static void take_out(struct step *s, struct link *l, const struct cause *cause, enum end_how how,
                     uint64_t wait_ms)
{
    fx(s, FX_CANCEL, l->generation);
    switch (how) {
    case END_ANNOUNCED:
        if (wait_ms) link_peer_wait(s, l, wait_ms);
        else link_close(s, l, code_for(s->c, cause), cause->name);
        return;
    case END_CLOSE:
        link_close(s, l, code_for(s->c, cause), cause->name);
        return;
    case END_ABORT:
        link_abort(s, l);
        return;
    case END_GONE:
        link_enter(s, l, LINK_CLOSING);
        l->closing = CLOSE_ABORTED;
        l->closing_since_ms = s->now;
        return;
    }
    ASSERT(!"end_how");
}

/* What only the engine knows: how old the link is, whether it meant to resume, how far it came. */
static struct cause completed(const struct step *s, const struct link *l, const struct cause *cause)
{
    struct cause whole = *cause;
    const bool before_upgrade = l->state < LINK_GREETING;
    const bool told = whole.stage >= STAGE_RESOLVING && whole.stage <= STAGE_UPGRADING;
    if (!before_upgrade || !told) whole.stage = link_stage_of(l);
    whole.session = l->session;
    whole.age_ms = s->now - l->dialed_ms;
    return whole;
}

/* In boot time: the platform goes on while the machine sleeps. */
static void note_heard(struct step *s, const struct link *l)
{
    uint64_t silent_ms = s->now - l->stall.last_in_ms;
    if (s->ev->kind == EV_CLOCK_JUMPED) silent_ms += s->ev->clock_jumped.suspended_ms;
    s->c->heard_boot_ms = s->at.boot_ms > silent_ms ? s->at.boot_ms - silent_ms : 0;
}

/* The frame path names the code where the standard does (1002, 1007, 1009); else the policy's. */
static uint16_t code_for(const struct conn *c, const struct cause *cause)
{
    const bool ours = cause->kind == CAUSE_PROTOCOL || cause->kind == CAUSE_TOO_BIG ||
                      cause->kind == CAUSE_INFLATE;
    if (ours && cause->close_code >= 1000 && cause->close_code <= 4999)
        return (uint16_t)cause->close_code;
    return c->plan->close_keep;
}
