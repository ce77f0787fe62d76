/* Dispatch: carries out engine effects through the host table, in order. The same object file in the daemon
 * and in the simulator. Decides nothing and never steps the engine: what follows is posted as events. */
#include <string.h>

#include "base/assert.h"
#include "base/failpoint.h"
#include "base/text.h"
#include "runtime_internal.h"

static void on_ready(struct runtime *rt, struct rt_conn *c, struct rt_link *l);
static void on_send(struct runtime *rt, struct rt_conn *c, const struct effect *fx);
static void on_refuse(struct runtime *rt, struct rt_conn *c, const struct effect *fx);
static void on_store(struct runtime *rt, struct rt_conn *c, const struct effect *fx);
static void on_state(struct runtime *rt, struct rt_conn *c, const struct effect *fx);

void rt_dispatch(struct runtime *rt, const struct effect *fx)
{
    struct rt_conn *c = rt_conn_get(rt, fx->conn);
    ASSERT(c != NULL);
    struct rt_link *l = fx->generation ? rt_link_find(c, fx->generation) : NULL;
    switch (fx->kind) {
    case FX_PREPARE:
        rt->counts.attempts++;
        rt_turn_ask(rt, c, fx->generation);
        break;
    case FX_DIAL:
        rt_link_dial(rt, c, fx->generation);
        break;
    case FX_GREET:
        rt_greet(rt, c, fx->generation);
        break;
    case FX_READY:
        if (l) on_ready(rt, c, l);
        break;
    case FX_SETTLED:
        rt_weather_settled(rt, c);
        rt_log(rt, LOG_DEBUG, c, "link=%u settled", fx->generation);
        break;
    case FX_BEAT:
        if (l && !fx->beat.asked) l->beat_sent_ms = rt_clock(rt).mono_ms;
        rt_beat(rt, c, fx->generation);
        break;
    case FX_PING:
        if (l) rt_link_ping(rt, l);
        break;
    case FX_DRAIN:
        if (l) rt->options.host.ops->link_drain(rt->options.host.self, rt_link_id(l));
        break;
    case FX_SEND:
        on_send(rt, c, fx);
        break;
    case FX_REFUSE:
        on_refuse(rt, c, fx);
        break;
    case FX_CLOSE:
        if (l) rt_link_close(rt, l, fx->close.code, fx->close.reason);
        break;
    case FX_ABORT:
        if (l) rt_link_abort(rt, l);
        break;
    case FX_CANCEL:
        rt_turn_over(rt, c, fx->generation);
        rt_cancel(rt, c, fx->generation, false);
        break;
    case FX_ASK_ENDED:
        rt_ask_ended(rt, c, fx->generation, &fx->ask_ended);
        break;
    case FX_DROP_SESSION:
        value_clear(&c->session);
        c->session = value_table();
        c->session_epoch++;
        c->session_dirty = true;
        rt_session_flush(rt, c);
        break;
    case FX_DROP_FETCHED:
        rt_fetch_drop(rt, c, fx->drop_fetched.name);
        break;
    case FX_STORE:
        on_store(rt, c, fx);
        break;
    case FX_GAP:
        rt_journal_note(rt, c, fx->generation, JOURNAL_NOTE, "gap: %s%s", fx->gap.cause,
                        fx->gap.certain ? "" : " (frames may be missing)");
        if (rt->options.deliver) {
            deliver_gap(rt->options.deliver, c->stream, fx->gap.cause, fx->gap.certain,
                        rt_clock(rt).wall_ms);
        }
        break;
    case FX_STATE:
        on_state(rt, c, fx);
        break;
    case FX_JOURNAL:
        rt_count_ended(rt, &fx->journal);
        rt_journal_decision(rt, c, fx);
        rt_weather_decided(rt, c, fx->generation, &fx->journal);
        rt_trial_decided(rt, c, &fx->journal);
        break;
    case FX_ALARM:
        text_copy(c->warning, sizeof c->warning, fx->alarm.text, strlen(fx->alarm.text));
        c->warning_of = 0;
        rt_journal_note(rt, c, fx->generation, JOURNAL_ALARM, "%s", fx->alarm.text);
        rt_log(rt, LOG_ALARM, c, "%s", fx->alarm.text);
        break;
    case FX_REMOVED:
        rt_log(rt, LOG_INFO, c, "removed");
        rt_conn_free(rt, c);
        break;
    case EFFECT_KIND_COUNT:
        ASSERT(false);
    }
}

static void on_ready(struct runtime *rt, struct rt_conn *c, struct rt_link *l)
{
    l->ready = true;
    rt_turn_over(rt, c, l->generation);
    /* What its own greeting warned of is true of it. */
    if (c->warning_of != l->generation) c->warning[0] = 0;
    rt_count_ready(rt, c);
    rt_weather_ready(rt, c);
    rt_trial_ready(rt, c);
    rt_link_adopt_build(rt, l);
    rt_every_start(rt, c, l->generation);
}

static void on_send(struct runtime *rt, struct rt_conn *c, const struct effect *fx)
{
    struct rt_send *s = slots_get(&rt->sends, handle_unpack(fx->send.send_id));
    if (!s) return;
    struct rt_link *l = rt_link_find(c, fx->generation);
    bool open = l && l->phase == RT_LINK_OPEN && !l->close_sent;
    bool ok = open && rt_link_send(rt, l, s->bytes, s->len, s->text);
    FAILPOINT("sent");
    const char *why = ok ? NULL : open ? "the link is congested" : "the link ended";
    uint64_t deliver_id = s->deliver_id;
    rt_send_free(rt, s);
    if (deliver_id && rt->options.deliver) {
        deliver_send_answer(rt->options.deliver, deliver_id, why, !ok);
    } else if (!ok) {
        rt_journal_note(rt, c, fx->generation, JOURNAL_HOOK, "a hook's send was lost: %s", why);
    }
}

static void on_refuse(struct runtime *rt, struct rt_conn *c, const struct effect *fx)
{
    struct rt_send *s = slots_get(&rt->sends, handle_unpack(fx->refuse.send_id));
    if (!s) return;
    uint64_t deliver_id = s->deliver_id;
    rt_send_free(rt, s);
    if (deliver_id && rt->options.deliver) {
        /* Whoever waited learns what to wait for. */
        bool ours = rt->shutting_down && fx->refuse.retry;
        deliver_send_answer(rt->options.deliver, deliver_id,
                            ours ? "shutting down" : refuse_text(fx->refuse.why), fx->refuse.retry);
    } else {
        rt_journal_note(rt, c, fx->generation, JOURNAL_HOOK, "a hook's send was refused: %s",
                        refuse_text(fx->refuse.why));
    }
}

static void on_store(struct runtime *rt, struct rt_conn *c, const struct effect *fx)
{
    static const enum store_op ops[] = { [STORE_PERMIT] = STORE_OP_PERMIT,
                                         [STORE_PERMIT_RETURN] = STORE_OP_PERMIT_RETURN,
                                         [STORE_TOLD] = STORE_OP_TOLD };
    struct store_request request = {
        .op = ops[fx->store.kind],
        .connection = c->name,
        .budget = fx->store.budget,
        .account = fx->store.account,
        .lane = fx->store.lane,
        .count = fx->store.left,
        .lanes = fx->store.lanes,
        .wall_ms = fx->store.wall_ms,
        .boot_ms = fx->store.boot_ms,
        .until_wall_ms = fx->store.until_wall_ms,
        .until_boot_ms = fx->store.until_boot_ms,
    };
    if (fx->store.reserve) {
        rt_journal_note(rt, c, fx->generation, JOURNAL_NOTE,
                        "takes a session start of the share that is kept for people");
    }
    if (fx->store.no_answer) {
        rt->options.store.ops->submit(rt->options.store.self, &request);
        return;
    }
    FAILPOINT("permit");
    if (rt_store_submit(rt, c, fx->generation, fx->store.ticket, 0, &request)) return;
    struct event ev = rt_event(EV_STORE_FAILED, c->self, fx->generation);
    ev.store.ticket = fx->store.ticket;
    rt_post(rt, &ev);
}

static void on_state(struct runtime *rt, struct rt_conn *c, const struct effect *fx)
{
    rt_journal_state(rt, c, fx);
    rt_count_state(rt, c, fx);
    rt_weather_state(rt, c, fx);
    rt_trial_state(rt, c, fx);
    if (!rt->options.deliver) return;
    struct clock now = rt_clock(rt);
    struct engine_brief brief;
    bool have = engine_get_brief(rt->engine, c->self, &brief);
    uint64_t next_wall_ms = 0;
    if (fx->state.next_ms != ENGINE_NEVER) {
        next_wall_ms = now.wall_ms + (fx->state.next_ms > now.mono_ms ? fx->state.next_ms - now.mono_ms : 0);
    }
    struct deliver_state state = { .state = fx->state.to,
                                   .since_wall_ms = now.wall_ms,
                                   .cause = &fx->state.cause,
                                   .next_wall_ms = next_wall_ms,
                                   .next = have ? brief.next : "",
                                   .attempt = have ? brief.failed : 0 };
    struct engine_view view;
    if (have && brief.queued && engine_get(rt->engine, c->self, &view) && view.queue.hold != BUDGET_HOLD_NONE) {
        state.budget = budget_name(view.queued_for);
        state.held_by = budget_hold_name(view.queue.hold);
        state.left = view.queue.left;
    }
    deliver_state(rt->options.deliver, c->stream, &state);
}
