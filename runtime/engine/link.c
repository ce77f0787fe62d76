/* Links: one socket each, from FX_DIAL to LINK_CLOSED. Every stage has a limit. Why a link ends and
 * what follows is decided elsewhere; here it is carried out. */
#include <string.h>

#include "base/text.h"
#include "engine/engine_internal.h"

#define BIT(state) (1u << LINK_##state)

static const uint32_t legal_moves[LINK_STATE_COUNT] = {
    [LINK_NONE] = BIT(RESOLVING),
    [LINK_RESOLVING] = BIT(CONNECTING) | BIT(CLOSING),
    [LINK_CONNECTING] = BIT(SECURING) | BIT(UPGRADING) | BIT(CLOSING),
    [LINK_SECURING] = BIT(UPGRADING) | BIT(CLOSING),
    [LINK_UPGRADING] = BIT(GREETING) | BIT(CLOSING),
    [LINK_GREETING] = BIT(READY) | BIT(CLOSING),
    [LINK_READY] = BIT(DRAINING) | BIT(CLOSING),
    [LINK_DRAINING] = BIT(CLOSING),
    [LINK_CLOSING] = BIT(CLOSED),
};

static uint64_t stage_limit_ms(const struct plan *p, enum link_state state);
static const char *stage_limit_label(enum link_state state);
static uint64_t retire_at(const struct conn *c, const struct link *l);

bool link_move_is_legal(enum link_state from, enum link_state to)
{
    ASSERT((unsigned)from < LINK_STATE_COUNT);
    ASSERT((unsigned)to < LINK_STATE_COUNT);
    return (legal_moves[from] & 1u << to) != 0;
}

struct link *link_find(struct conn *c, uint32_t generation)
{
    for (int i = 0; i < 2; i++) {
        struct link *l = conn_link(c, i);
        if (l->state != LINK_NONE && l->generation == generation) return l;
    }
    return NULL;
}

struct link *link_of_role(const struct conn *c, enum link_role role)
{
    for (int i = 0; i < 2; i++) {
        struct link *l = conn_link(c, i);
        if (l->state != LINK_NONE && l->role == role) return l;
    }
    return NULL;
}

uint32_t links_open(const struct conn *c)
{
    return (c->links[0].state != LINK_NONE) + (c->links[1].state != LINK_NONE);
}

bool link_alive(const struct link *l)
{
    return l->state >= LINK_RESOLVING && l->state <= LINK_READY;
}

void link_enter(struct step *s, struct link *l, enum link_state to)
{
    ASSERT(link_move_is_legal(l->state, to));
    l->state = to;
    l->since_ms = s->now;
}

void link_dial(struct step *s)
{
    struct conn *c = s->c;
    const struct link *main = link_of_role(c, ROLE_MAIN);
    const uint32_t open = links_open(c);
    /* I1: a second descriptor only for a planned handover. */
    ASSERT(open == 0 || (c->attempt.handover && open == 1) ||
           PLANTED(s->e, PLANT_I1_DIAL_BEFORE_CLOSED));
    struct link *l = c->links[0].state == LINK_NONE ? &c->links[0] : &c->links[1];
    ASSERT(l->state == LINK_NONE);
    struct send_ledger sends = l->sends;
    memset(l, 0, sizeof *l);
    l->sends = sends;
    send_ledger_reset(&l->sends);
    l->generation = c->generation;
    l->dialed_ms = s->now;
    l->session = session_valid(c, s->at) && !c->wants_start;
    l->role = ROLE_MAIN;
    if (main && main->state == LINK_READY) l->role = ROLE_NEXT;
    link_enter(s, l, LINK_RESOLVING);
    fx(s, FX_DIAL, l->generation);
}

/* Stages that the host did not report (an address literal, no TLS) were passed at once. */
void link_stage(struct step *s, struct link *l, enum link_state to)
{
    ASSERT(to <= LINK_GREETING);
    while (l->state < to) {
        enum link_state step_to = (enum link_state)(l->state + 1);
        if (l->state == LINK_CONNECTING && to > LINK_SECURING) step_to = LINK_UPGRADING;
        link_enter(s, l, step_to);
    }
}

void link_close(struct step *s, struct link *l, uint16_t code, const char *reason)
{
    if (l->closing >= CLOSE_SENT) return;
    /* Before the upgrade was accepted there is nobody to say goodbye to. */
    if (link_alive(l) && l->state < LINK_GREETING) {
        link_abort(s, l);
        return;
    }
    if (l->state != LINK_CLOSING) link_enter(s, l, LINK_CLOSING);
    l->closing = CLOSE_SENT;
    l->closing_since_ms = s->now;
    l->close_code = code;
    struct effect *f = fx(s, FX_CLOSE, l->generation);
    f->close.code = code;
    text_copy(f->close.reason, sizeof f->close.reason, reason, strlen(reason));
}

void link_abort(struct step *s, struct link *l)
{
    if (l->state != LINK_CLOSING) link_enter(s, l, LINK_CLOSING);
    l->closing = CLOSE_ABORTED;
    l->closing_since_ms = s->now;
    fx(s, FX_ABORT, l->generation);
}

void link_peer_wait(struct step *s, struct link *l, uint64_t wait_ms)
{
    ASSERT(l->closing == CLOSE_NONE);
    ASSERT(wait_ms > 0);
    link_enter(s, l, LINK_CLOSING);
    l->closing = CLOSE_PEER_WAIT;
    l->closing_since_ms = s->now;
    l->peer_wait_ms = wait_ms < PEER_CLOSE_MS_MAX ? wait_ms : PEER_CLOSE_MS_MAX;
}

void link_free(struct step *s, struct link *l)
{
    ASSERT(l->state == LINK_CLOSING);
    link_enter(s, l, LINK_CLOSED);
    l->state = LINK_NONE;
}

void link_tick(struct step *s, struct link *l)
{
    struct conn *c = s->c;
    const char *label;
    switch (l->state) {
    case LINK_NONE:
    case LINK_CLOSED:
        return;
    case LINK_RESOLVING:
    case LINK_CONNECTING:
    case LINK_SECURING:
    case LINK_UPGRADING:
    case LINK_GREETING:
        if (s->now >= l->since_ms + stage_limit_ms(c->plan, l->state)) {
            struct cause cause = cause_make(link_stage_of(l), CAUSE_TIMEOUT, BY_US,
                                            stage_limit_label(l->state));
            conn_link_ends(s, l, &cause, END_CLOSE, 0);
            return;
        }
        if (l->state == LINK_GREETING) stall_tick(s, l);
        return;
    case LINK_READY:
        if (!l->settled && s->now >= l->ready_ms + c->plan->backoff.settle_ms) {
            l->settled = true;
            if (l->role == ROLE_MAIN) {
                c->failed = c->slow_count = 0;
                climbs_settled(s->e, c);
                fx(s, FX_SETTLED, l->generation);
            }
        }
        stall_tick(s, l);
        if (l->state == LINK_READY && s->now >= retire_at(c, l)) {
            struct cause cause =
                cause_make(STAGE_READY, CAUSE_RETIRED, BY_US, "planned replacement");
            conn_link_ends(s, l, &cause, END_ANNOUNCED, 0);
        }
        return;
    case LINK_DRAINING:
        if (s->now >= l->since_ms + c->plan->limits_ms.drain) {
            fx(s, FX_CANCEL, l->generation);
            link_close(s, l, c->plan->close_keep, "replaced");
        }
        return;
    case LINK_CLOSING:
        if (s->now < link_deadline(c, l, &label)) return;
        if (l->closing == CLOSE_PEER_WAIT) {
            link_close(s, l, c->plan->close_keep, c->cause.name);
        } else {
            if (l->closing == CLOSE_ABORTED && !l->alarmed) {
                l->alarmed = true;
                fx_alarm(s, "an aborted link was not reported closed");
            }
            link_abort(s, l);
        }
        return;
    case LINK_STATE_COUNT:
        break;
    }
    ASSERT(!"link state");
}

uint64_t link_deadline(const struct conn *c, const struct link *l, const char **next)
{
    const struct plan *p = c->plan;
    uint64_t at = ENGINE_NEVER;
    switch (l->state) {
    case LINK_NONE:
    case LINK_CLOSED:
        return ENGINE_NEVER;
    case LINK_RESOLVING:
    case LINK_CONNECTING:
    case LINK_SECURING:
    case LINK_UPGRADING:
    case LINK_GREETING:
        at = earlier(at, l->since_ms + stage_limit_ms(p, l->state), next,
                     stage_limit_label(l->state));
        if (l->state == LINK_GREETING) {
            const char *label = *next;
            uint64_t stall = stall_deadline(c, l, &label);
            at = earlier(at, stall, next, label);
        }
        return at;
    case LINK_READY: {
        const char *label = *next;
        if (!l->settled) at = earlier(at, l->ready_ms + p->backoff.settle_ms, next, "settled");
        at = earlier(at, retire_at(c, l), next, "retire");
        uint64_t stall = stall_deadline(c, l, &label);
        return earlier(at, stall, next, label);
    }
    case LINK_DRAINING:
        return earlier(at, l->since_ms + p->limits_ms.drain, next, "drained");
    case LINK_CLOSING:
        switch (l->closing) {
        case CLOSE_PEER_WAIT:
            return earlier(at, l->closing_since_ms + l->peer_wait_ms, next, "peer's close");
        case CLOSE_SENT:
            return earlier(at, l->closing_since_ms + p->limits_ms.close, next, "close limit");
        case CLOSE_ABORTED:
            return earlier(at, l->closing_since_ms + ABORT_LIMIT_MS, next, "abort limit");
        case CLOSE_NONE:
            break;
        }
        break;
    case LINK_STATE_COUNT:
        break;
    }
    ASSERT(!"link state");
    return ENGINE_NEVER;
}

enum stage link_stage_of(const struct link *l)
{
    switch (l->state) {
    case LINK_RESOLVING: return STAGE_RESOLVING;
    case LINK_CONNECTING: return STAGE_CONNECTING;
    case LINK_SECURING: return STAGE_SECURING;
    case LINK_UPGRADING: return STAGE_UPGRADING;
    case LINK_GREETING: return STAGE_GREETING;
    case LINK_READY: return STAGE_READY;
    case LINK_DRAINING: return STAGE_DRAINING;
    case LINK_CLOSING: return STAGE_CLOSING;
    case LINK_NONE:
    case LINK_CLOSED:
    case LINK_STATE_COUNT: break;
    }
    return STAGE_NONE;
}

static uint64_t stage_limit_ms(const struct plan *p, enum link_state state)
{
    switch (state) {
    case LINK_RESOLVING: return p->limits_ms.resolve;
    case LINK_CONNECTING: return p->limits_ms.connect;
    case LINK_SECURING: return p->limits_ms.secure;
    case LINK_UPGRADING: return p->limits_ms.upgrade;
    case LINK_GREETING: return p->limits_ms.greeting;
    default: break;
    }
    ASSERT(!"no stage");
    return 0;
}

static const char *stage_limit_label(enum link_state state)
{
    switch (state) {
    case LINK_RESOLVING: return "resolve limit";
    case LINK_CONNECTING: return "connect limit";
    case LINK_SECURING: return "secure limit";
    case LINK_UPGRADING: return "upgrade limit";
    case LINK_GREETING: return "greeting limit";
    default: break;
    }
    ASSERT(!"no stage");
    return "";
}

static uint64_t retire_at(const struct conn *c, const struct link *l)
{
    const struct plan *p = c->plan;
    const uint64_t told = l->retire_at_ms ? l->retire_at_ms : ENGINE_NEVER;
    if (l->retiring || c->doomed || l->role != ROLE_MAIN) return ENGINE_NEVER;
    if (!p->retire_after_ms) return told;
    double spread = 1 + p->retire_jitter * (2 * l->retire_draw - 1);
    if (!(spread > 0.1)) spread = 0.1;
    const uint64_t aged = l->ready_ms + (uint64_t)((double)p->retire_after_ms * spread);
    return aged < told ? aged : told;
}
