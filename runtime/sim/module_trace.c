/* Traces in tests: what a simulated connection recorded, as the bytes of a trace file; and replays of such
 * bytes, whoever recorded them. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "sim/module_internal.h"
#include "trace/compare.h"

/* s:recorded(name[, last_ms]): the bytes, or nil and why */
static int l_recorded(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    const struct sim_conn *c = sim__check_conn(s, L, 2);
    uint64_t last_ms = (uint64_t)luaL_optnumber(L, 3, 0);
    char why[200] = "nothing runs";
    struct buffer out;
    buffer_init(&out, 0);
    bool ok = s->runtime && runtime_trace(s->runtime, c->handle, last_ms, "the simulator", &out, why, sizeof why);
    if (ok) lua_pushlstring(L, (const char *)out.data, out.len);
    else lua_pushnil(L);
    buffer_deinit(&out);
    if (ok) return 1;
    lua_pushstring(L, why);
    return 2;
}

static void push_count(lua_State *L, const char *key, uint64_t n)
{
    lua_pushnumber(L, (double)n);
    lua_setfield(L, -2, key);
}

/* replay(bytes, { policy =, lua = }): totals, or nil and why */
static int l_replay(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len), *policy = NULL, *lua = NULL;
    char why[600];
    if (lua_istable(L, 2)) {
        lua_getfield(L, 2, "policy");
        policy = luaL_optstring(L, -1, NULL);
        lua_getfield(L, 2, "lua");
        lua = luaL_optstring(L, -1, NULL);
    }
    struct trace_file t;
    struct replay_totals totals;
    bool ok = trace_file_open(&t, bytes, len, why, sizeof why);
    uint32_t segments = ok ? t.segment_count : 0;
    uint64_t dropped = ok ? t.dropped : 0;
    if (ok) {
        struct replay_options options = { .trace = &t, .policy_path = policy, .lua_path = lua };
        ok = replay_all(&options, &totals, why, sizeof why);
        trace_file_deinit(&t);
    }
    if (!ok) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    char hash[20];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)totals.hash);
    lua_newtable(L);
    push_count(L, "steps", totals.steps);
    push_count(L, "steps_equal", totals.steps_equal);
    push_count(L, "hooks", totals.hooks);
    push_count(L, "hooks_run", totals.hooks_run);
    push_count(L, "hooks_equal", totals.hooks_equal);
    push_count(L, "first_other_step", totals.first_other_step);
    push_count(L, "segments", segments);
    push_count(L, "dropped", dropped);
    lua_pushstring(L, hash);
    lua_setfield(L, -2, "hash");
    lua_pushstring(L, totals.was);
    lua_setfield(L, -2, "was");
    lua_pushstring(L, totals.is);
    lua_setfield(L, -2, "is");
    return 1;
}

static void push_text(lua_State *L, const char *key, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

/* On top of the stack: the list. */
static void on_decided(void *self, const struct decision *d, const struct clock *at, const char *file)
{
    lua_State *L = self;
    struct effect fx = { .kind = FX_JOURNAL, .journal = *d };
    char words[PARTED_TEXT_MAX];
    lua_createtable(L, 0, 12);
    push_count(L, "at", at->wall_ms);
    push_text(L, "cause", d->cause.name);
    push_text(L, "kind", cause_kind_name(d->cause.kind));
    push_text(L, "stage", stage_name(d->cause.stage));
    push_text(L, "by", cause_by_name(d->cause.by));
    if (d->cause.close_code != CLOSE_CODE_NONE) {
        lua_pushnumber(L, d->cause.close_code);
        lua_setfield(L, -2, "close");
    }
    if (d->cause.http_status) push_count(L, "http", (uint64_t)d->cause.http_status);
    push_text(L, "verdict", decision_verdict(d));
    push_text(L, "drop", drop_name(d->drop));
    push_text(L, "pace", pace_name(d->pace));
    push_count(L, "delay", d->delay_ms);
    push_count(L, "attempt", d->attempt);
    push_count(L, "line", d->line);
    push_text(L, "file", file);
    push_text(L, "words", effect_words(&fx, file, words));
    lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
}

static void push_parted(lua_State *L, const struct comparison *c)
{
    static const char *const how[] = { "never", "effect", "hook", "earlier", "refused" };
    char was[PARTED_TEXT_MAX], is[PARTED_TEXT_MAX];
    lua_createtable(L, 0, 6);
    push_text(L, "how", how[c->parted]);
    push_count(L, "at", c->at.wall_ms);
    push_count(L, "step", c->number);
    bool effect = c->parted == PARTED_EFFECT;
    push_text(L, "was", effect ? effect_words(c->has_was ? &c->was_effect : NULL, c->was_file, was) : c->was);
    push_text(L, "is", effect ? effect_words(c->has_is ? &c->is_effect : NULL, c->is_file, is) : c->is);
    if (effect) push_text(L, "event", event_name(c->event));
    if (c->parted == PARTED_HOOK) push_text(L, "hook", c->name[0] ? c->name : hook_name(c->hook));
    if (c->parted == PARTED_EARLIER) push_count(L, "earlier", c->earlier_ms);
}

/* compare(bytes, { policy =, lua = }): { decisions =, parted = or nil, steps =, steps_equal =, ... }, or nil and
 * why */
static int l_compare(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len), *policy = NULL, *lua = NULL;
    char why[600];
    lua_settop(L, 2);
    if (lua_istable(L, 2)) {
        lua_getfield(L, 2, "policy");
        policy = luaL_optstring(L, -1, NULL);
        lua_getfield(L, 2, "lua");
        lua = luaL_optstring(L, -1, NULL);
    }
    struct trace_file t;
    struct comparison c;
    if (!trace_file_open(&t, bytes, len, why, sizeof why)) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    lua_newtable(L);
    push_text(L, "connection", t.connection);
    lua_newtable(L);
    bool ok = replay_compare(&t, policy, lua, on_decided, L, &c, why, sizeof why);
    lua_setfield(L, -2, "decisions");
    trace_file_deinit(&t);
    if (!ok) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    push_count(L, "steps", c.totals.steps);
    push_count(L, "steps_equal", c.totals.steps_equal);
    push_count(L, "hooks", c.totals.hooks);
    push_count(L, "hooks_run", c.totals.hooks_run);
    push_count(L, "hooks_equal", c.totals.hooks_equal);
    if (c.parted == PARTED_NEVER) return 1;
    push_parted(L, &c);
    lua_setfield(L, -2, "parted");
    return 1;
}

/* unpacked(bytes): what stands in it, for tests that look for what must not. */
static int l_unpacked(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    char why[200];
    struct trace_file t;
    if (!trace_file_open(&t, bytes, len, why, sizeof why)) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    lua_pushlstring(L, (const char *)t.bytes.data, t.bytes.len);
    trace_file_deinit(&t);
    return 1;
}

const luaL_Reg sim__trace_methods[] = { { "recorded", l_recorded }, { NULL, NULL } };
const luaL_Reg sim__trace_functions[] = { { "replay", l_replay }, { "compare", l_compare }, { "unpacked", l_unpacked }, { NULL, NULL } };
