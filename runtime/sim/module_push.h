/* What the engine says, as fields of the Lua table on top of the stack: for the simulator's views and for the specs that
 * look at the whole runtime. */
#ifndef HOLDFAST_SIM_MODULE_PUSH_H
#define HOLDFAST_SIM_MODULE_PUSH_H

#include <lauxlib.h>
#include <lua.h>

#include "engine/engine.h"

static inline void set_number(lua_State *L, const char *key, double n)
{
    lua_pushnumber(L, n);
    lua_setfield(L, -2, key);
}

static inline void set_text(lua_State *L, const char *key, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static inline void set_bool(lua_State *L, const char *key, bool b)
{
    lua_pushboolean(L, b);
    lua_setfield(L, -2, key);
}

static inline void push_cause(lua_State *L, const struct cause *c)
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
    set_number(L, "line", c->line);
}

static inline void push_decision(lua_State *L, const struct decision *d)
{
    static const char *const by[] = { "rule", "hook", "climb", "engine", "operator" };
    lua_newtable(L);
    push_cause(L, &d->cause);
    lua_setfield(L, -2, "cause");
    set_text(L, "drop", drop_name(d->drop));
    set_text(L, "pace", pace_name(d->pace));
    set_bool(L, "planned", d->planned);
    set_number(L, "attempt", d->attempt);
    set_number(L, "backoff", (double)d->backoff_ms);
    set_number(L, "delay", (double)d->delay_ms);
    set_bool(L, "clamped", d->clamped);
    set_text(L, "by", by[d->by]);
    set_number(L, "line", d->line);
    set_text(L, "note", d->note);
}

#endif
