/* Faults that a test puts into its world, takes out again, and heals. */
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "sim/module_internal.h"

const char *sim__field_text(lua_State *L, int index, const char *key, const char *otherwise)
{
    lua_getfield(L, index, key);
    const char *text = lua_isnil(L, -1) ? otherwise : luaL_checkstring(L, -1);
    lua_pop(L, 1); /* the table keeps the string */
    return text;
}

double sim__field_number(lua_State *L, int index, const char *key, double otherwise)
{
    lua_getfield(L, index, key);
    double n = luaL_optnumber(L, -1, otherwise);
    lua_pop(L, 1);
    return n;
}

/* s:fault(kind, { host=, peer=, connection=, what=, probability=, times=, ms=, bytes=, stage=, status=,
 * headers=, body= }) */
static int l_fault(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct fault f;
    memset(&f, 0, sizeof f);
    const char *name = luaL_checkstring(L, 2);
    if (!fault_parse(name, &f.kind)) return luaL_error(L, "no fault is called \"%s\"", name);
    luaL_checktype(L, 3, LUA_TTABLE);
    bool links_alone = fault_is_of_streams(f.kind) && f.kind != FAULT_BLACK_HOLE &&
                       f.kind != FAULT_SLOW;
    const char *what = sim__field_text(L, 3, "what", links_alone ? "link" : "any");
    if (strcmp(what, "link") == 0) f.what = FAULT_ON_LINKS;
    else if (strcmp(what, "call") == 0) f.what = FAULT_ON_CALLS;
    else if (strcmp(what, "any") == 0) f.what = FAULT_ON_LINKS | FAULT_ON_CALLS;
    else return luaL_error(L, "what is \"%s\": link, call or any", what);
    const char *stage = sim__field_text(L, 3, "stage", "none");
    if (!stage_parse(stage, &f.stage)) return luaL_error(L, "no stage is called \"%s\"", stage);
    f.probability = sim__field_number(L, 3, "probability", 1);
    f.times = (uint32_t)sim__field_number(L, 3, "times", (double)FAULT_TIMES_EVER);
    f.ms = (uint64_t)sim__field_number(L, 3, "ms", 0);
    f.bytes = (uint64_t)sim__field_number(L, 3, "bytes", 0);
    f.status = (int)sim__field_number(L, 3, "status", 503);
    const char *text = sim__field_text(L, 3, "host", "");
    text_copy(f.host, sizeof f.host, text, strlen(text));
    text = sim__field_text(L, 3, "peer", "");
    text_copy(f.peer, sizeof f.peer, text, strlen(text));
    text = sim__field_text(L, 3, "connection", "");
    text_copy(f.connection, sizeof f.connection, text, strlen(text));
    const char *headers = sim__field_text(L, 3, "headers", NULL), *body = sim__field_text(L, 3, "body", NULL);
    if (headers) f.headers = sim__copy(headers, strlen(headers));
    if (body) f.body = sim__copy(body, strlen(body));
    checkers_fault(s->checkers);
    lua_pushnumber(L, world_fault(s->world, &f));
    return 1;
}

static int l_fault_off(lua_State *L)
{
    lua_pushboolean(L, world_fault_off(sim__check(L, 1)->world, (uint32_t)luaL_checknumber(L, 2)));
    return 1;
}

static int l_fault_hits(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    lua_pushnumber(L, (double)world_fault_hits(s->world, (uint32_t)luaL_checknumber(L, 2)));
    return 1;
}

/* s:heal(check): every fault off; with `check`, I6 is due. The latest bound, in ms. */
static int l_heal(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    world_heal(s->world);
    lua_pushnumber(L, lua_toboolean(L, 2) ? (double)checkers_heal(s->checkers) : 0);
    return 1;
}

static int l_mark_hits(lua_State *L)
{
#ifdef HOLDFAST_TEST
    lua_pushnumber(L, (double)mark_hits(luaL_checkstring(L, 1)));
    return 1;
#else
    return luaL_error(L, "marks are compiled into test builds only");
#endif
}

const luaL_Reg sim__fault_methods[] = {
    { "fault", l_fault }, { "fault_off", l_fault_off }, { "fault_hits", l_fault_hits }, { "heal", l_heal }, { NULL, NULL }
};

const luaL_Reg sim__fault_functions[] = { { "mark_hits", l_mark_hits }, { NULL, NULL } };
