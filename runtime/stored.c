/* Stored: requests to the store whose answer somebody waits for, and a connection's session and keep, which are handed
 * over when they have changed. */
#include "base/assert.h"
#include "base/failpoint.h"
#include "runtime_internal.h"

bool rt_store_submit(struct runtime *rt, struct rt_conn *c, uint32_t generation,
                     uint64_t engine_ticket, uint64_t offset, struct store_request *request)
{
    struct handle h;
    struct rt_store *w = slots_alloc(&rt->stores, &h);
    if (!w) return false;
    *w = (struct rt_store){ .self = h,
                            .conn = c->self,
                            .generation = generation,
                            .engine_ticket = engine_ticket,
                            .offset = offset };
    request->ticket = handle_pack(h);
    request->connection = c->name;
    if (rt->options.store.ops->submit(rt->options.store.self, request)) return true;
    slots_free(&rt->stores, h);
    return false;
}

void runtime_stored(struct runtime *rt, uint64_t ticket, bool ok)
{
    struct handle h = handle_unpack(ticket);
    struct rt_store *found = slots_get(&rt->stores, h);
    if (!found) return;
    FAILPOINT("stored");
    struct rt_store w = *found;
    slots_free(&rt->stores, h);
    struct rt_conn *c = rt_conn_get(rt, w.conn);
    if (!c) return;
    if (w.engine_ticket) {
        struct event ev = rt_event(ok ? EV_STORED : EV_STORE_FAILED, w.conn, w.generation);
        ev.store.ticket = w.engine_ticket;
        rt_post(rt, &ev);
    } else {
        rt_acks_stored(rt, c, w.offset, ok);
    }
    rt_pump(rt);
    rt->options.host.ops->wake(rt->options.host.self);
}

static void store_table(struct runtime *rt, const struct rt_conn *c, enum store_op op,
                        const struct value *table, bool hurries)
{
    struct buffer *json = &rt->scratch_text;
    struct store_request request = {
        .op = op, .hurries = hurries, .connection = c->name, .wall_ms = rt_clock(rt).wall_ms
    };
    buffer_clear(json);
    FAILPOINT("session");
    if (op == STORE_OP_SESSION) request.account = c->build->build->session_of;
    if (table->table->count || op == STORE_OP_KEEP) {
        ASSERT(value_to_json(table, json));
        request.bytes = json->data;
        request.len = json->len;
    }
    rt->options.store.ops->submit(rt->options.store.self, &request);
}

uint64_t rt_session_begun_ms(const struct value *session)
{
    double begun = value_get_number(session, SESSION_BEGUN, 0);
    return begun > 0 && begun < 0x1p53 ? (uint64_t)begun : 0;
}

/* Part of the session, so that it is kept and dropped with it. What a hook makes of it is put right. */
static void session_begun(struct runtime *rt, struct rt_conn *c)
{
    if (!c->session_told_present) c->session_begun_wall_ms = rt_clock(rt).wall_ms;
    if (c->session_begun_wall_ms == 0) return; /* began before anybody asked: not known */
    if (rt_session_begun_ms(&c->session) == c->session_begun_wall_ms) return;
    value_set(&c->session, SESSION_BEGUN, value_number((double)c->session_begun_wall_ms));
    c->session_dirty = true;
}

void rt_session_flush(struct runtime *rt, struct rt_conn *c)
{
    bool present = c->session.table->count > 0;
    if (present && c->build->build->plan->session.life_ms) session_begun(rt, c);
    if (c->session_dirty || present != c->session_told_present) {
        /* Whoever dies before a new one is on disk starts another: a start and a gap, where how far it got costs a
         * few frames twice. */
        store_table(rt, c, STORE_OP_SESSION, &c->session, present != c->session_told_present);
        c->session_dirty = false;
    }
    if (c->keep_dirty) {
        store_table(rt, c, STORE_OP_KEEP, &c->keep, false);
        c->keep_dirty = false;
    }
    if (present == c->session_told_present) return;
    c->session_told_present = present;
    struct event ev = rt_event(EV_SESSION_CHANGED, c->self, 0);
    ev.session_changed.present = present;
    ev.session_changed.saved_wall_ms = rt_clock(rt).wall_ms;
    ev.session_changed.begun_wall_ms = present ? c->session_begun_wall_ms : 0;
    rt_post(rt, &ev);
}
