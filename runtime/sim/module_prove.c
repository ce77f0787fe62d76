/* What the prover asks of a world beyond what tests do: at which stage a connection is, a print of all that
 * decides what comes next, which lines of a policy have run, and what a policy file wants to be given.
 * Reads; changes nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/rng.h"
#include "policy/version_internal.h"
#include "sim/module_internal.h"

/* ---- lines ------------------------------------------------------------------------------------------- */

/* core.reach(): an empty map, for sim.new{ reach = }. */
static int l_reach(lua_State *L)
{
    struct policy_reach *r = lua_newuserdata(L, sizeof *r);
    memset(r, 0, sizeof *r);
    luaL_getmetatable(L, SIM_REACH_MT);
    lua_setmetatable(L, -2);
    return 1;
}

static void push_lines(lua_State *L, const struct policy_reach *r)
{
    int n = 0;
    lua_newtable(L);
    for (uint32_t line = 1; line < POLICY_REACH_LINES; line++) {
        if (!policy_reach_has(r, line)) continue;
        lua_pushnumber(L, line);
        lua_rawseti(L, -2, ++n);
    }
}

static int l_reach_lines(lua_State *L)
{
    push_lines(L, luaL_checkudata(L, 1, SIM_REACH_MT));
    return 1;
}

/* s:lines(name): { rows = lines of rules, code = lines of hooks } that could be reached. */
static int l_lines(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct sim_conn *c = sim__check_conn(s, L, 2);
    struct policy_reach rows, code;
    memset(&rows, 0, sizeof rows);
    memset(&code, 0, sizeof code);
    if (!c->build) return luaL_error(L, "%s does not run", c->name);
    const struct plan *p = c->build->plan;
    for (uint32_t i = 0; i < p->classify_count; i++) policy_reach_add(&rows, p->classify[i].line);
    for (uint32_t i = 0; i < p->climb_count; i++) policy_reach_add(&rows, p->climb[i].line);
    policy_reach_all(c->build->version, &code);
    lua_newtable(L);
    push_lines(L, &rows);
    lua_setfield(L, -2, "rows");
    push_lines(L, &code);
    lua_setfield(L, -2, "code");
    return 1;
}

/* ---- where a connection is ------------------------------------------------------------------------------ */

static const char *stage_of(struct sim *s, const struct sim_conn *c, struct engine_view *v)
{
    if (!s->runtime || handle_is_none(c->handle)) return "gone";
    if (!engine_get(runtime_engine(s->runtime), c->handle, v)) return "gone";
    if (v->state == CONN_UP) return v->settled ? "settled" : "ready";
    if (v->state == CONN_LINKING && v->link_generation[0]) return link_state_name(v->link_state[0]);
    return conn_state_name(v->state);
}

/* s:stage(name): "waiting", "preparing", "connecting", "greeting", "ready" (up), "settled" (up since long)
 * and so on; "gone" while no process runs. */
static int l_stage(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct engine_view v;
    lua_pushstring(L, stage_of(s, sim__check_conn(s, L, 2), &v));
    return 1;
}

static bool has_stream(struct sim *s, const char *name, struct stream_view *out)
{
    uint32_t index = 0;
    struct stream_view v;
    bool found = false;
    for (; world_stream_next(s->world, &index, &v); index++) {
        if (!v.descriptor || strcmp(v.owner.connection, name) != 0) continue;
        if (!found || v.owner.generation > out->owner.generation) *out = v;
        found = true;
    }
    return found;
}

/* s:stream(name): { dead = since, server = bool } of its newest open socket, or nil. */
static int l_stream(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct stream_view v;
    if (!has_stream(s, sim__check_conn(s, L, 2)->name, &v)) return 0;
    lua_newtable(L);
    if (v.dead_ms) {
        lua_pushnumber(L, (double)v.dead_ms);
        lua_setfield(L, -2, "dead");
    }
    lua_pushboolean(L, v.server_open);
    lua_setfield(L, -2, "server");
    return 1;
}

/* The keys of a table, not what stands there: an id that was drawn makes no other state. */
static uint64_t keys_of(uint64_t print, const struct value *v)
{
    if (v->kind != VALUE_TABLE) return print;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < v->table->count; i++) {
        const char *key = value_text(&v->table->pairs[i].key);
        if (key) sum += rng_mix(hash_text(key) ^ (uint64_t)v->table->pairs[i].value.kind);
    }
    return rng_mix(print ^ sum);
}

/* s:print(name): text that is equal for two connections that go on alike, instants and draws apart. */
static int l_print(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct sim_conn *c = sim__check_conn(s, L, 2);
    struct engine_view v;
    struct stream_view stream;
    char text[64];
    const char *stage = stage_of(s, c, &v);
    uint64_t print = strcmp(stage, "gone") == 0 ? 0 : engine_shape(runtime_engine(s->runtime), c->handle);
    if (print) {
        struct buffer json;
        struct value session;
        buffer_init(&json, 0);
        if (runtime_session_json(s->runtime, c->handle, &json) &&
            sim__json_to_value((const char *)json.data, json.len, &session)) {
            print = keys_of(print, &session);
            value_clear(&session);
        }
        buffer_deinit(&json);
    }
    bool open = has_stream(s, c->name, &stream);
    snprintf(text, sizeof text, "%016llx%s%s%s", (unsigned long long)print, open ? " open" : "",
             open && stream.dead_ms ? " dead" : "", open && !stream.server_open ? " alone" : "");
    lua_pushstring(L, text);
    return 1;
}

/* s:moves(): legal moves of connections that were made, as "queued -> up"; and how many there are. */
static int l_moves(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    uint64_t taken = checkers_moves(s->checkers);
    int n = 0, legal = 0;
    lua_newtable(L);
    for (int from = 0; from < CONN_STATE_COUNT; from++) {
        for (int to = 0; to < CONN_STATE_COUNT; to++) {
            if (from == to || !conn_move_is_legal((enum conn_state)from, (enum conn_state)to)) continue;
            legal++;
            if (!(taken & (uint64_t)1 << (from * CONN_STATE_COUNT + to))) continue;
            lua_pushfstring(L, "%s -> %s", conn_state_name((enum conn_state)from),
                            conn_state_name((enum conn_state)to));
            lua_rawseti(L, -2, ++n);
        }
    }
    lua_pushnumber(L, legal);
    return 2;
}

const luaL_Reg sim__prove_methods[] = {
    { "stage", l_stage }, { "stream", l_stream }, { "print", l_print },
    { "lines", l_lines }, { "moves", l_moves },   { NULL, NULL }
};

/* ---- a policy file ---------------------------------------------------------------------------------------- */

static void push_problems(lua_State *L, const struct problems *problems)
{
    char line[1024];
    int n = 0;
    lua_newtable(L);
    for (uint32_t i = 0; i < problems->count; i++) {
        if (problems->items[i].warning) continue;
        lua_pushstring(L, problem_format(&problems->items[i], line, sizeof line));
        lua_rawseti(L, -2, ++n);
    }
}

/* core.policy(path, lua_path): { name, platform, hash, options = { NAME = { type, ... } }, hosts }, or nil and
 * the problems. */
static int l_policy(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1), *lua_path = luaL_optstring(L, 2, NULL);
    struct problems problems;
    problems_init(&problems);
    struct policy_load load = { .name = "proved", .path = path, .lua_path = lua_path, .version = 1, .seed = 1 };
    struct policy_version *v = policy_load(&load, &problems);
    if (!v) {
        lua_pushnil(L);
        push_problems(L, &problems);
        problems_deinit(&problems);
        return 2;
    }
    problems_deinit(&problems);
    char hash[20];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)policy_text_hash(v));
    lua_newtable(L);
    lua_pushstring(L, policy_platform(v));
    lua_setfield(L, -2, "platform");
    lua_pushstring(L, hash);
    lua_setfield(L, -2, "hash");
    static const char *const keys[] = { "options", "hosts", "backoff", "alive", "session" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct value *value = value_get(policy__tables(v), keys[i]);
        if (!value) continue;
        sim__push_value(L, value);
        lua_setfield(L, -2, keys[i]);
    }
    policy_unref(v);
    return 1;
}

/* core.stopwatch(): milliseconds of real time; no run depends on it, only how many there are. */
static int l_stopwatch(lua_State *L)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    lua_pushnumber(L, (double)t.tv_sec * 1000 + (double)(t.tv_nsec / 1000000));
    return 1;
}

const luaL_Reg sim__prove_functions[] = {
    { "stopwatch", l_stopwatch },
    { "policy", l_policy }, { "reach", l_reach }, { "reach_lines", l_reach_lines }, { NULL, NULL }
};

void sim__prove_open(lua_State *L)
{
    luaL_newmetatable(L, SIM_REACH_MT);
    lua_pop(L, 1);
}
