/* Sends: at once, later in order, or refused; each is answered exactly once. The driver holds the
 * bytes, here are only ids. Waiting sends end with their link. */
#include <stdlib.h>

#include "engine/engine_internal.h"

static void refuse(struct step *s, uint64_t send_id, enum refuse_why why);
static void send_now(struct step *s, struct link *l, uint64_t send_id);
static bool session_start_allowed(struct step *s, struct link *l);
static bool queue_push(struct engine *e, struct conn *c, uint64_t send_id, enum send_kind by);
static uint64_t queue_pop(struct engine *e, struct conn *c);

void sends_init(struct engine *e)
{
    for (uint32_t i = 0; i < e->options.sends_max; i++) {
        e->sends[i].next = i + 1 < e->options.sends_max ? i + 1 : SEND_NONE;
    }
    e->sends_free = e->options.sends_max ? 0 : SEND_NONE;
}

void send_requested(struct step *s)
{
    struct conn *c = s->c;
    const uint64_t id = s->ev->send.send_id;
    const enum send_kind by = s->ev->send.by;
    struct link *l = s->ev->generation ? link_find(c, s->ev->generation)
                                       : link_of_role(c, ROLE_MAIN);
    const bool alive = l && link_alive(l);
    if (c->removing) {
        refuse(s, id, REFUSE_REMOVED);
        return;
    }
    if (s->ev->send.starts_session && c->plan->budgets[BUDGET_START].on) {
        if (!alive || l->state < LINK_GREETING) {
            refuse(s, id, by == SEND_CONSUMER ? REFUSE_NOT_UP : REFUSE_LINK_ENDED);
            return;
        }
        if (!session_start_allowed(s, l)) {
            MARK("a session start without a permit was refused");
            refuse(s, id, REFUSE_NO_PERMIT);
            if (by == SEND_CONSUMER) return;
            /* What is stored is no session that this policy can resume: it goes, and the next
             * attempt takes a permit, or this would go on for ever. */
            if (l->state == LINK_GREETING) {
                c->wants_start = true;
                if (c->session_present) fx(s, FX_DROP_SESSION, 0);
                c->session_present = false;
            }
            struct cause cause = cause_make(STAGE_NONE, CAUSE_FAILED, BY_US,
                                            "a session start without a permit");
            cause_rename(&cause, "no_permit");
            conn_link_ends(s, l, &cause, END_CLOSE, 0);
            return;
        }
        send_now(s, l, id);
        return;
    }

    switch (by) {
    case SEND_GREETING:
        if (alive && l->state >= LINK_GREETING) send_now(s, l, id);
        else refuse(s, id, REFUSE_LINK_ENDED);
        return;
    case SEND_HOOK:
        /* An acknowledgement belongs on the link that brought the frame, also while it drains. */
        if (l && (l->state == LINK_GREETING || l->state == LINK_DRAINING)) {
            send_now(s, l, id);
            return;
        }
        if (!alive || l->state != LINK_READY) {
            refuse(s, id, s->ev->generation ? REFUSE_LINK_ENDED : REFUSE_NOT_UP);
            return;
        }
        break;
    case SEND_CONSUMER:
        if (!alive) {
            refuse(s, id, REFUSE_NOT_UP);
            return;
        }
        break;
    }
    /* Nobody overtakes: while something waits, what comes later waits too. */
    if (l->state == LINK_READY && c->sends_count == c->sends_doomed &&
        send_ledger_free_at(&l->sends, &c->plan->budgets[BUDGET_SEND], s->now) <= s->now) {
        send_now(s, l, id);
        return;
    }
    if (!queue_push(s->e, c, id, by)) refuse(s, id, REFUSE_QUEUE_FULL);
}

void send_dropped(struct step *s, uint64_t send_id)
{
    struct conn *c = s->c;
    struct engine *e = s->e;
    uint32_t before = SEND_NONE;
    uint32_t place = 0;
    for (uint32_t i = c->sends_head; i != SEND_NONE; before = i, i = e->sends[i].next, place++) {
        if (e->sends[i].send_id != send_id) continue;
        if (before == SEND_NONE) c->sends_head = e->sends[i].next;
        else e->sends[before].next = e->sends[i].next;
        if (c->sends_tail == i) c->sends_tail = before;
        e->sends[i].next = e->sends_free;
        e->sends_free = i;
        e->sends_used--;
        c->sends_count--;
        if (place < c->sends_doomed) c->sends_doomed--;
        return;
    }
}

void sends_doom(struct conn *c, enum refuse_why why)
{
    c->sends_doomed = c->sends_count;
    c->sends_why = why;
}

void sends_tick(struct step *s)
{
    struct conn *c = s->c;
    uint32_t room = SEND_SLICE_MAX;
    if (s->out->count + room > EFFECTS_MAX) room = EFFECTS_MAX - s->out->count;
    while (c->sends_doomed && room) {
        c->sends_doomed--;
        room--;
        refuse(s, queue_pop(s->e, c), c->sends_why);
    }
    struct link *l = link_of_role(c, ROLE_MAIN);
    if (!l || l->state != LINK_READY || c->sends_doomed) return;
    while (c->sends_count && room) {
        if (send_ledger_free_at(&l->sends, &c->plan->budgets[BUDGET_SEND], s->now) > s->now) return;
        room--;
        send_now(s, l, queue_pop(s->e, c));
    }
}

uint64_t sends_deadline(const struct conn *c, uint64_t now)
{
    if (c->sends_doomed) return now;
    if (!c->sends_count) return ENGINE_NEVER;
    const struct link *l = link_of_role(c, ROLE_MAIN);
    if (!l || l->state != LINK_READY) return ENGINE_NEVER;
    return send_ledger_free_at(&l->sends, &c->plan->budgets[BUDGET_SEND], now);
}

bool sends_restore(struct engine *e, struct conn *c, uint64_t send_id, enum send_kind by)
{
    return queue_push(e, c, send_id, by);
}

/* An attempt that began as a resume may never send the start frame: it is dialled again instead. */
static bool session_start_allowed(struct step *s, struct link *l)
{
    struct conn *c = s->c;
    if (c->permit.generation == l->generation && c->permit.state == PERMIT_HELD) {
        permit_spend(s);
        return true;
    }
    return PLANTED(s->e, PLANT_I2_START_WITHOUT_PERMIT);
}

static void refuse(struct step *s, uint64_t send_id, enum refuse_why why)
{
    struct effect *f = fx(s, FX_REFUSE, s->ev->generation);
    f->refuse.send_id = send_id;
    f->refuse.why = why;
    f->refuse.retry = why == REFUSE_NOT_UP || why == REFUSE_QUEUE_FULL || why == REFUSE_LINK_ENDED;
}

static void send_now(struct step *s, struct link *l, uint64_t send_id)
{
    send_ledger_note(&l->sends, &s->c->plan->budgets[BUDGET_SEND], s->now);
    fx(s, FX_SEND, l->generation)->send.send_id = send_id;
}

static bool queue_push(struct engine *e, struct conn *c, uint64_t send_id, enum send_kind by)
{
    if (c->sends_count - c->sends_doomed >= e->options.sends_per_connection_max) return false;
    if (e->sends_free == SEND_NONE) return false;
    uint32_t i = e->sends_free;
    e->sends_free = e->sends[i].next;
    e->sends_used++;
    e->sends[i] = (struct queued_send){ send_id, by, SEND_NONE };
    if (c->sends_tail == SEND_NONE) c->sends_head = i;
    else e->sends[c->sends_tail].next = i;
    c->sends_tail = i;
    c->sends_count++;
    ASSERT(e->sends_used <= e->options.sends_max);
    return true;
}

static uint64_t queue_pop(struct engine *e, struct conn *c)
{
    uint32_t i = c->sends_head;
    ASSERT(i != SEND_NONE);
    ASSERT(c->sends_count > 0);
    uint64_t send_id = e->sends[i].send_id;
    c->sends_head = e->sends[i].next;
    if (c->sends_head == SEND_NONE) c->sends_tail = SEND_NONE;
    e->sends[i].next = e->sends_free;
    e->sends_free = i;
    e->sends_used--;
    c->sends_count--;
    return send_id;
}
