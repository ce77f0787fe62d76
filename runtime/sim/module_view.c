/* What tests look at: views, journals, sessions, budgets, what was dialled, sent, closed and called, the
 * trace. Times are world time in milliseconds unless a name says `wall`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "sim/disk.h"
#include "sim/module_internal.h"
#include "sim/module_push.h"

/* Lines about what many have in common that fail. */
static int l_weather(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct weather_front fronts[WEATHER_FRONTS_MAX];
    char text[WEATHER_TEXT_MAX];
    const uint32_t count = s->runtime ? runtime_weather(s->runtime, fronts) : 0;
    lua_newtable(L);
    for (uint32_t i = 0; i < count; i++) {
        lua_pushstring(L, weather_text(&fronts[i], text));
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

/* Raises when nothing runs, or the connection is being removed. */
static struct sim_conn *running(struct sim *s, lua_State *L, int index)
{
    struct sim_conn *c = sim__check_conn(s, L, index);
    if (!s->runtime || handle_is_none(c->handle)) luaL_error(L, "%s does not run", c->name);
    return c;
}

static int l_view(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct sim_conn *c = running(s, L, 2);
    struct connection_view v;
    if (!runtime_view(s->runtime, c->handle, &v)) return 0;
    const struct engine_view *e = &v.engine;
    lua_newtable(L);
    set_text(L, "name", v.name);
    set_text(L, "state", conn_state_name(e->state));
    set_number(L, "since", (double)world_of_mono(s->world, e->since_mono_ms));
    set_number(L, "since_wall", (double)e->since_wall_ms);
    if (e->deadline_ms != ENGINE_NEVER) {
        set_number(L, "deadline", (double)world_of_mono(s->world, e->deadline_ms));
    }
    set_text(L, "next", e->next ? e->next : "");
    if (e->cause.kind != CAUSE_NONE) {
        push_cause(L, &e->cause);
        lua_setfield(L, -2, "cause");
        push_decision(L, &e->decision);
        lua_setfield(L, -2, "decision");
    }
    set_number(L, "generation", e->generation);
    set_number(L, "failed", e->failed);
    set_number(L, "attempts", (double)e->attempts_total);
    set_number(L, "ready", (double)e->ready_total);
    lua_newtable(L);
    for (int i = 0, n = 0; i < 2; i++) {
        if (!e->link_generation[i]) continue;
        lua_newtable(L);
        set_number(L, "generation", e->link_generation[i]);
        set_text(L, "state", link_state_name(e->link_state[i]));
        set_number(L, "since", (double)world_of_mono(s->world, e->link_since_ms[i]));
        lua_rawseti(L, -2, ++n);
    }
    lua_setfield(L, -2, "links");
    set_number(L, "sends_queued", e->sends_queued);
    set_bool(L, "session_present", e->session_present);
    set_bool(L, "start_permit", e->start_permit);
    set_bool(L, "settled", e->settled);
    set_bool(L, "wanted", e->wanted);
    set_bool(L, "fatal", e->stop_is_fatal);
    set_number(L, "beats_sent", (double)e->beats_sent);
    set_number(L, "beats_answered", (double)e->beats_answered);
    set_number(L, "beat_interval", (double)e->beat_interval_ms);
    if (v.round_trip_known) set_number(L, "round_trip", (double)v.round_trip_ms);
    set_text(L, "life", life_name(v.life.verdict));
    set_text(L, "evidence", v.life.evidence);
    set_number(L, "stale", (double)e->stale_events);
    set_text(L, "policy", v.policy);
    set_number(L, "policy_version", v.policy_version);
    set_text(L, "policy_path", v.policy_path);
    set_text(L, "address", v.address);
    set_text(L, "warning", v.warning);
    set_number(L, "delivered", (double)v.frames_delivered);
    set_number(L, "malformed", (double)v.frames_malformed);
    set_number(L, "duplicate", (double)v.frames_duplicate);
    set_number(L, "parts_refused", (double)v.parts_refused);
    set_number(L, "other", (double)v.frames_other);
    lua_newtable(L);
    set_number(L, "frames", (double)v.backlog.frames);
    set_number(L, "bytes", (double)v.backlog.bytes);
    set_number(L, "first", (double)v.backlog.first_offset);
    set_number(L, "last", (double)v.backlog.last_offset);
    set_number(L, "appended", (double)v.backlog.appended_total);
    set_number(L, "dropped", (double)v.backlog.dropped_total);
    set_number(L, "gaps", (double)v.backlog.gaps_total);
    set_number(L, "consumers", v.backlog.consumers);
    lua_setfield(L, -2, "backlog");
    struct checker_view k;
    if (checkers_get(s->checkers, c->handle, &k)) {
        set_number(L, "endings", (double)k.endings);
        set_number(L, "planned_endings", (double)k.planned_endings);
        set_number(L, "starts", (double)k.starts);
        set_number(L, "handovers", (double)k.handovers);
        set_number(L, "recovery_bound", (double)k.recovery_bound_ms);
    }
    return 1;
}

/* The state alone, or nil: cheap enough to ask after each step. */
static int l_state(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct sim_conn *c = sim__check_conn(s, L, 2);
    struct engine_view v;
    if (!s->runtime || !engine_get(runtime_engine(s->runtime), c->handle, &v)) return 0;
    lua_pushstring(L, conn_state_name(v.state));
    return 1;
}

static int l_view_json(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct sim_conn *c = running(s, L, 2);
    struct connection_view v;
    struct buffer out;
    if (!runtime_view(s->runtime, c->handle, &v)) return 0;
    buffer_init(&out, 0);
    if (runtime_view_json(&v, &out)) lua_pushlstring(L, (const char *)out.data, out.len);
    else lua_pushnil(L);
    buffer_deinit(&out);
    return 1;
}

static int l_session_json(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct sim_conn *c = running(s, L, 2);
    struct buffer out;
    buffer_init(&out, 0);
    bool ok = runtime_session_json(s->runtime, c->handle, &out);
    if (ok) lua_pushlstring(L, (const char *)out.data, out.len);
    else lua_pushnil(L);
    buffer_deinit(&out);
    return 1;
}

static int l_journal(lua_State *L)
{
    static const char *const kinds[] = { "state", "decision", "alarm", "hook", "note" };
    struct sim *s = sim__check(L, 1);
    struct sim_conn *c = running(s, L, 2);
    struct journal_entry e;
    lua_newtable(L);
    for (uint32_t i = 0; runtime_journal(s->runtime, c->handle, i, &e); i++) {
        lua_newtable(L);
        set_number(L, "wall", (double)e.wall_ms);
        set_number(L, "generation", e.generation);
        set_text(L, "kind", kinds[e.kind]);
        set_text(L, "text", e.text);
        set_text(L, "file", e.file);
        if (e.kind == JOURNAL_STATE) {
            set_text(L, "from", conn_state_name(e.from));
            set_text(L, "to", conn_state_name(e.to));
        } else if (e.kind == JOURNAL_DECISION) {
            push_decision(L, &e.decision);
            lua_setfield(L, -2, "decision");
        }
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static int l_budget(lua_State *L)
{
    static const char *const kinds[] = { "start", "dial", "call", "send", NULL };
    struct sim *s = sim__check(L, 1);
    struct sim_conn *c = running(s, L, 2);
    enum budget_kind kind = (enum budget_kind)luaL_checkoption(L, 3, NULL, kinds);
    struct budget_view v;
    struct clock now = world_clock(s->world);
    if (!engine_budget(runtime_engine(s->runtime), c->handle, kind, now, &v)) return 0;
    lua_newtable(L);
    set_number(L, "left", v.left);
    set_number(L, "used", v.used);
    set_number(L, "reserve_left", v.reserve_left);
    lua_pushstring(L, budget_hold_name(v.hold)), lua_setfield(L, -2, "hold");
    if (v.next_ms != ENGINE_NEVER) set_number(L, "next", (double)world_of_mono(s->world, v.next_ms));
    return 1;
}

static int l_recovery_bound(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct sim_conn *c = running(s, L, 2);
    lua_pushnumber(L, (double)engine_recovery_bound_ms(runtime_engine(s->runtime), c->handle,
                                                       world_clock(s->world)));
    return 1;
}

/* ---- lists ----------------------------------------------------------------------------------------- */

static int l_dials(lua_State *L)
{
    struct sim_conn *c = sim__check_conn(sim__check(L, 1), L, 2);
    lua_createtable(L, (int)c->dial_count, 0);
    for (uint32_t i = 0; i < c->dial_count; i++) {
        lua_newtable(L);
        set_number(L, "at", (double)c->dials[i].at_ms);
        set_text(L, "host", c->dials[i].host);
        set_number(L, "generation", c->dials[i].generation);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static int l_closes(lua_State *L)
{
    struct sim_conn *c = sim__check_conn(sim__check(L, 1), L, 2);
    lua_createtable(L, (int)c->close_count, 0);
    for (uint32_t i = 0; i < c->close_count; i++) {
        lua_newtable(L);
        set_number(L, "at", (double)c->closes[i].at_ms);
        set_number(L, "generation", c->closes[i].generation);
        if (c->closes[i].code >= 0) set_number(L, "code", c->closes[i].code);
        else set_bool(L, "aborted", true);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

/* s:wire(name[, direction]): oldest first */
static int l_wire(lua_State *L)
{
    struct sim_conn *c = sim__check_conn(sim__check(L, 1), L, 2);
    const char *way = luaL_optstring(L, 3, NULL);
    uint32_t first = c->wire_count < SIM_WIRE_MAX ? 0 : c->wire_next;
    int n = 0;
    lua_newtable(L);
    for (uint32_t i = 0; i < c->wire_count; i++) {
        const struct sim_message *m = &c->wire[(first + i) % SIM_WIRE_MAX];
        const char *direction = m->inbound ? "in" : "out";
        if (way && strcmp(way, direction) != 0) continue;
        lua_newtable(L);
        set_number(L, "at", (double)m->at_ms);
        set_number(L, "generation", m->generation);
        set_text(L, "direction", direction);
        set_bool(L, "text", m->text);
        lua_pushlstring(L, m->data, m->len);
        lua_setfield(L, -2, "data");
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

static int l_http(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    lua_createtable(L, (int)s->call_count, 0);
    for (uint32_t i = 0; i < s->call_count; i++) {
        const struct sim_call_note *n = &s->calls[i];
        lua_newtable(L);
        set_number(L, "at", (double)n->at_ms);
        set_text(L, "method", n->method);
        set_text(L, "host", n->host);
        set_text(L, "target", n->target);
        set_number(L, "status", n->status);
        if (n->cause[0]) set_text(L, "cause", n->cause);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static int l_descriptors(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct sim_conn *c = sim__check_conn(s, L, 2);
    uint32_t most = 0;
    uint32_t open = world_descriptors(s->world, c->build ? c->build->identity : 0, &most);
    lua_newtable(L);
    set_number(L, "open", open);
    set_number(L, "most", most);
    return 1;
}

static int l_stats(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct world_counts c;
    world_counts(s->world, &c);
    lua_newtable(L);
    set_number(L, "streams", c.streams);
    set_number(L, "descriptors", c.descriptors);
    set_number(L, "calls", c.calls);
    set_number(L, "ghosts", c.ghosts);
    set_number(L, "steps", (double)c.steps);
    set_number(L, "happenings", (double)c.happenings);
    set_number(L, "links_opened", (double)s->links_opened);
    set_number(L, "disk_pending", world_disk_pending(s->world));
    uint32_t tasks = 0;
    for (uint32_t i = 0; i < s->policy_count; i++) {
        tasks += policy_tasks_alive(s->policies[i].version);
    }
    set_number(L, "tasks", tasks);
    set_number(L, "connections", s->runtime ? runtime_count(s->runtime) : 0);
    set_number(L, "trace_lines", (double)world_trace(s->world)->count);
    char hash[20];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)world_trace(s->world)->hash);
    set_text(L, "trace_hash", hash);
    return 1;
}

/* Legal moves of connections that were never taken: { "queued -> up", ... } */
static int l_moves_missing(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    uint64_t taken = checkers_moves(s->checkers);
    int n = 0;
    lua_newtable(L);
    for (int from = 0; from < CONN_STATE_COUNT; from++) {
        for (int to = 0; to < CONN_STATE_COUNT; to++) {
            if (from == to) continue;
            if (!conn_move_is_legal((enum conn_state)from, (enum conn_state)to)) continue;
            if (taken & (uint64_t)1 << (from * CONN_STATE_COUNT + to)) continue;
            lua_pushfstring(L, "%s -> %s", conn_state_name((enum conn_state)from),
                            conn_state_name((enum conn_state)to));
            lua_rawseti(L, -2, ++n);
        }
    }
    return 1;
}

/* s:trace([lines]): all of it when it was asked for, else the newest lines. */
static int l_trace(lua_State *L)
{
    struct trace *t = world_trace(sim__check(L, 1)->world);
    uint32_t most = (uint32_t)luaL_optnumber(L, 2, 0);
    if (t->whole && most == 0) {
        lua_pushlstring(L, (const char *)t->text.data, t->text.len);
        return 1;
    }
    struct buffer out;
    buffer_init(&out, 0);
    trace_tail(t, most ? most : TRACE_RECENT, &out);
    lua_pushlstring(L, (const char *)out.data, out.len);
    buffer_deinit(&out);
    return 1;
}

struct told_list {
    lua_State *L;
    uint32_t permits;
    int told;
};

static void count_permit(void *self, uint64_t account, enum budget_kind budget, int64_t lane,
                         bool same_boot, uint64_t wall_ms, uint64_t boot_ms)
{
    (void)account, (void)budget, (void)lane, (void)same_boot, (void)wall_ms, (void)boot_ms;
    ((struct told_list *)self)->permits++;
}

static void push_told(void *self, uint64_t account, enum budget_kind budget, int64_t left,
                      uint32_t lanes, bool same_boot, uint64_t until_wall_ms, uint64_t until_boot_ms)
{
    struct told_list *list = self;
    lua_State *L = list->L;
    (void)account, (void)same_boot, (void)until_boot_ms;
    lua_newtable(L);
    set_text(L, "budget", budget_name(budget));
    set_number(L, "left", (double)left);
    set_number(L, "lanes", lanes);
    set_number(L, "until_wall", (double)until_wall_ms);
    lua_rawseti(L, -2, ++list->told);
}

static int l_disk(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct sim_conn *c = sim__check_conn(s, L, 2);
    struct disk_record r;
    lua_newtable(L);
    if (world_disk_get(s->world, STORE_OP_SESSION, c->name, &r)) {
        lua_pushlstring(L, r.bytes, r.len);
        lua_setfield(L, -2, "session");
    }
    if (world_disk_get(s->world, STORE_OP_KEEP, c->name, &r)) {
        lua_pushlstring(L, r.bytes, r.len);
        lua_setfield(L, -2, "keep");
    }
    set_number(L, "safe", (double)world_disk_safe(s->world, c->name));
    struct told_list list = { .L = L };
    struct store_visitor v = { .self = &list, .permit = count_permit, .told = push_told };
    lua_newtable(L);
    world_disk_visit(s->world, &v);
    lua_setfield(L, -2, "told");
    set_number(L, "permits", list.permits);
    return 1;
}

/* s:store(): the disk and what is on it, in numbers. */
static int l_store(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct world_store_counts c;
    const struct disk *d = world_disk(s->world);
    world_store_counts(s->world, &c);
    lua_newtable(L);
    set_number(L, "epoch", (double)world_store_epoch(s->world));
    set_bool(L, "was_clean", world_store_was_clean(s->world));
    set_number(L, "pending", world_disk_pending(s->world));
    set_number(L, "transactions", (double)c.transactions);
    set_number(L, "failures", (double)c.failures);
    set_number(L, "cuts", (double)c.cuts);
    set_number(L, "events", c.events);
    set_number(L, "permits", c.permits);
    set_number(L, "consumers", c.consumers);
    set_number(L, "cursors", c.cursors);
    set_number(L, "seen", c.seen);
    set_number(L, "sessions", c.sessions);
    lua_newtable(L);
    struct disk_file_view f;
    for (uint32_t i = 0; d && disk_file_get(d, i, &f); i++) {
        lua_newtable(L);
        set_number(L, "bytes", (double)f.bytes);
        set_number(L, "unsynced", f.unsynced);
        lua_setfield(L, -2, f.name);
    }
    lua_setfield(L, -2, "files");
    if (!d) return 1;
    struct disk_counts n;
    char hash[20];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)disk_hash(d));
    set_text(L, "hash", hash);
    disk_counts(d, &n);
    set_number(L, "writes", (double)n.writes);
    set_number(L, "written_bytes", (double)n.written_bytes);
    set_number(L, "syncs", (double)n.syncs);
    set_number(L, "disk_failures", (double)n.failures);
    set_number(L, "power_cuts", (double)n.cuts);
    return 1;
}

const luaL_Reg sim__view_methods[] = {
    { "view", l_view }, { "state", l_state }, { "view_json", l_view_json },
    { "session_json", l_session_json }, { "journal", l_journal }, { "budget", l_budget },
    { "recovery_bound", l_recovery_bound }, { "weather", l_weather }, { "dials", l_dials }, { "closes", l_closes },
    { "wire", l_wire }, { "http", l_http }, { "descriptors", l_descriptors }, { "stats", l_stats },
    { "moves_missing", l_moves_missing }, { "trace", l_trace }, { "disk", l_disk },
    { "store", l_store }, { NULL, NULL }
};
