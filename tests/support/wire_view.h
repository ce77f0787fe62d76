/* What a wire spec may look at: views, causes, decisions, the journal, as Lua tables. */
#ifndef HOLDFAST_TESTS_WIRE_VIEW_H
#define HOLDFAST_TESTS_WIRE_VIEW_H

#include <lauxlib.h>
#include <lua.h>

#include "runtime.h"
#include "sim/module_push.h"
#include "wire_why.h"

/* A decision, with the sentences that `holdfast why` says of it. */
static void push_said(lua_State *L, const struct decision *d)
{
    push_decision(L, d);
    wire_push_why(L, &d->cause, d);
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
        push_said(L, &e->decision);
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
            push_said(L, &e.decision);
            lua_setfield(L, -2, "decision");
        }
        lua_rawseti(L, -2, (int)i + 1);
    }
}

#endif
