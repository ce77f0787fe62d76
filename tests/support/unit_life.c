/* modules: engine base */
/* engine/life as a Lua module: judge{ facts } -> verdict, evidence. */
#include <lauxlib.h>
#include <lua.h>
#include <string.h>

#include "engine/blame.h"
#include "engine/life.h"

static uint64_t number(lua_State *L, const char *key, uint64_t absent)
{
    lua_getfield(L, 1, key);
    uint64_t n = lua_isnil(L, -1) ? absent : (uint64_t)luaL_checknumber(L, -1);
    lua_pop(L, 1);
    return n;
}

static bool flag(lua_State *L, const char *key)
{
    lua_getfield(L, 1, key);
    bool on = lua_toboolean(L, -1) != 0;
    lua_pop(L, 1);
    return on;
}

/* blame{ kind, stage, by, name, reason, http, code, close, note, planned } -> name */
static int l_blame(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *texts[6];
    static const char *const keys[] = { "kind", "stage", "by", "name", "reason", "note" };
    for (int i = 0; i < 6; i++) {
        lua_getfield(L, 1, keys[i]);
        texts[i] = lua_tostring(L, -1);
    }
    enum stage stage = STAGE_READY;
    enum cause_kind kind = CAUSE_NONE;
    enum cause_by by = BY_US;
    if (texts[1] && !stage_parse(texts[1], &stage)) return luaL_error(L, "no stage %s", texts[1]);
    for (int k = 0; texts[0] && k < CAUSE_KIND_COUNT; k++)
        if (strcmp(texts[0], cause_kind_name((enum cause_kind)k)) == 0) kind = (enum cause_kind)k;
    for (int b = BY_PEER; texts[2] && b <= BY_OPERATOR; b++)
        if (strcmp(texts[2], cause_by_name((enum cause_by)b)) == 0) by = (enum cause_by)b;
    struct cause cause = cause_make(stage, kind, by, texts[4]);
    if (texts[3]) cause_rename(&cause, texts[3]);
    cause.http_status = (int32_t)number(L, "http", 0);
    cause.code = (int64_t)number(L, "code", 0);
    cause.close_code = (int32_t)number(L, "close", 0) ? (int32_t)number(L, "close", 0) : CLOSE_CODE_NONE;
    lua_pushstring(L, blame_name(blame_of(&cause, flag(L, "planned"), texts[5] ? texts[5] : "")));
    return 1;
}

static int l_kinds(lua_State *L)
{
    lua_newtable(L);
    for (int k = CAUSE_NONE + 1; k < CAUSE_KIND_COUNT; k++) {
        lua_pushstring(L, cause_kind_name((enum cause_kind)k));
        lua_rawseti(L, -2, k);
    }
    return 1;
}

static int l_judge(lua_State *L)
{
    struct { struct life life; char behind[64]; } box;
    memset(&box, '#', sizeof box);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "down");
    const char *down = lua_tostring(L, -1);
    struct life_facts f = {
        .now_ms = number(L, "now", 0),
        .up = !down,
        .down = down,
        .ready_ms = number(L, "ready", 0),
        .last_byte_ms = number(L, "byte", 0),
        .last_event_ms = number(L, "event", 0),
        .event_here = !flag(L, "elsewhere"),
        .last_pong_ms = number(L, "pong", 0),
        .last_answer_ms = number(L, "answer", 0),
        .ping_since_ms = number(L, "ping_since", 0),
        .beat_since_ms = number(L, "beat_since", 0),
        .beat_due_ms = number(L, "beat_due", 0),
        .beats_missed = (uint32_t)number(L, "missed", 0),
        .beats_dead = (uint32_t)number(L, "dead", 1),
        .silence_ms = number(L, "silence", 0),
        .silence_due_ms = number(L, "silence_due", UINT64_MAX),
        .promised = flag(L, "promised"),
        .round_trip_known = number(L, "round_trip", UINT64_MAX) != UINT64_MAX,
        .round_trip_ms = number(L, "round_trip", 0),
        .loop_delay_ms = number(L, "loop_delay", 0),
        .paused = flag(L, "paused"),
        .kernel = number(L, "repeats", UINT64_MAX) != UINT64_MAX,
        .kernel_repeats = (uint32_t)number(L, "repeats", 0),
        .kernel_unacked = (uint32_t)number(L, "unacked", 0),
    };
    life_judge(&f, &box.life);
    if (life_verdict(&f) != box.life.verdict) return luaL_error(L, "another verdict without words");
    for (size_t i = 0; i < sizeof box.behind; i++)
        if (box.behind[i] != '#') return luaL_error(L, "written past the evidence");
    lua_pushstring(L, life_name(box.life.verdict));
    lua_pushstring(L, box.life.evidence);
    return 2;
}

static const luaL_Reg functions[] = { { "judge", l_judge }, { "blame", l_blame }, { "kinds", l_kinds }, { NULL, NULL } };

int luaopen_unit_life(lua_State *L);
int luaopen_unit_life(lua_State *L)
{
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
