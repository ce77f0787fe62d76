/* What a wire spec may look at: views, causes, decisions, the journal, as Lua tables. */
#ifndef HOLDFAST_TESTS_WIRE_VIEW_H
#define HOLDFAST_TESTS_WIRE_VIEW_H

#include <lauxlib.h>
#include <lua.h>

#include "runtime.h"
#include "wire_why.h"

static void set_number(lua_State *L, const char *key, double n)
{
    lua_pushnumber(L, n);
    lua_setfield(L, -2, key);
}

static void set_text(lua_State *L, const char *key, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static void set_bool(lua_State *L, const char *key, bool b)
{
    lua_pushboolean(L, b);
    lua_setfield(L, -2, key);
}

static void push_cause(lua_State *L, const struct cause *c)
{
    lua_newtable(L);
    set_text(L, "stage", stage_name(c->stage));
    set_text(L, "kind", cause_kind_name(c->kind));
    set_text(L, "name", c->name);
    set_text(L, "by", cause_by_name(c->by));
    if (c->close_code != CLOSE_CODE_NONE) set_number(L, "close", c->close_code);
    if (c->http_status) set_number(L, "http", c->http_status);
    set_number(L, "code", (double)c->code);
    if (c->retry_after_ms != RETRY_AFTER_NONE) {
        set_number(L, "retry_after", (double)c->retry_after_ms);
    }
    set_number(L, "age", (double)c->age_ms);
    set_bool(L, "session", c->session);
    set_text(L, "reason", c->reason);
}

static void push_decision(lua_State *L, const struct decision *d)
{
    static const char *const by[] = { "rule", "hook", "climb", "engine", "operator" };
    lua_newtable(L);
    push_cause(L, &d->cause);
    lua_setfield(L, -2, "cause");
    wire_push_why(L, &d->cause, d);
    set_text(L, "drop", drop_name(d->drop));
    set_text(L, "pace", pace_name(d->pace));
    set_bool(L, "planned", d->planned);
    set_number(L, "attempt", d->attempt);
    set_number(L, "backoff", (double)d->backoff_ms);
    set_number(L, "delay", (double)d->delay_ms);
    set_text(L, "by", by[d->by]);
    set_number(L, "line", d->line);
    set_text(L, "note", d->note);
}

static void push_view(lua_State *L, const struct connection_view *v)
{
    const struct engine_view *e = &v->engine;
    lua_newtable(L);
    set_text(L, "state", conn_state_name(e->state));
    set_number(L, "since", (double)e->since_mono_ms);
    if (e->deadline_ms != ENGINE_NEVER) set_number(L, "deadline", (double)e->deadline_ms);
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
    set_text(L, "link", link_state_name(e->link_state[0]));
    set_number(L, "links", (e->link_generation[0] != 0) + (e->link_generation[1] != 0));
    set_bool(L, "session", e->session_present);
    set_bool(L, "settled", e->settled);
    set_bool(L, "wanted", e->wanted);
    set_bool(L, "fatal", e->stop_is_fatal);
    set_number(L, "beats_sent", (double)e->beats_sent);
    set_number(L, "beats_answered", (double)e->beats_answered);
    set_number(L, "stale", (double)e->stale_events);
    set_text(L, "address", v->address);
    set_text(L, "warning", v->warning);
    set_number(L, "delivered", (double)v->frames_delivered);
    set_number(L, "malformed", (double)v->frames_malformed);
    set_number(L, "other", (double)v->frames_other);
    set_number(L, "held", (double)v->backlog.frames);
    set_number(L, "held_bytes", (double)v->backlog.bytes);
    set_number(L, "appended", (double)v->backlog.appended_total);
    set_number(L, "dropped", (double)v->backlog.dropped_total);
    set_number(L, "gaps", (double)v->backlog.gaps_total);
    set_number(L, "pong", (double)v->pulse.last_pong_ms);
    set_text(L, "life", life_name(v->life.verdict));
    set_text(L, "evidence", v->life.evidence);
    if (v->round_trip_known) {
        set_number(L, "round_trip", (double)v->round_trip_ms);
        set_text(L, "round_trip_of", v->round_trip_of_ping ? "ping" : "beat");
    }
    if (v->kernel_known) {
        set_number(L, "kernel_round_trip_us", v->kernel.round_trip_us);
        set_number(L, "kernel_unacked", v->kernel.unacked);
        set_number(L, "kernel_repeats", v->kernel.repeats);
        set_number(L, "kernel_last_data_ms", v->kernel.last_data_ms);
    }
    if (v->loop_known) set_number(L, "loop_worst_us", (double)v->loop.worst_us);
    set_number(L, "bytes_in", (double)v->pulse.bytes_in);
}

static void push_journal(lua_State *L, const struct runtime *rt, struct handle conn)
{
    static const char *const kinds[] = { "state", "decision", "alarm", "hook", "note" };
    struct journal_entry e;
    lua_newtable(L);
    for (uint32_t i = 0; runtime_journal(rt, conn, i, &e); i++) {
        lua_newtable(L);
        set_number(L, "generation", e.generation);
        set_text(L, "kind", kinds[e.kind]);
        set_text(L, "text", e.text);
        set_text(L, "file", e.file);
        if (e.kind == JOURNAL_DECISION) {
            push_decision(L, &e.decision);
            lua_setfield(L, -2, "decision");
        }
        lua_rawseti(L, -2, (int)i + 1);
    }
}

#endif
