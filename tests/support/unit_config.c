/* modules: config policy bind engine frame crypto base */
/* The configuration as a Lua module: load(path) gives what was read as tables. */
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

static void push_value(lua_State *L, const struct value *v)
{
    size_t len;
    const char *bytes;
    switch (v->kind) {
    case VALUE_BOOL: lua_pushboolean(L, v->boolean); return;
    case VALUE_NUMBER: lua_pushnumber(L, v->number); return;
    case VALUE_STRING: lua_pushlstring(L, v->string.bytes, v->string.len); return;
    case VALUE_FUNCTION: lua_pushliteral(L, "<function>"); return;
    case VALUE_NIL: lua_pushnil(L); return;
    case VALUE_SECRET:
        bytes = secret_bytes(v->secret, &len);
        lua_newtable(L);
        lua_pushstring(L, secret_name(v->secret)), lua_setfield(L, -2, "secret");
        lua_pushlstring(L, bytes, len), lua_setfield(L, -2, "bytes");
        return;
    case VALUE_TABLE:
        lua_newtable(L);
        for (uint32_t i = 0; i < v->table->count; i++) {
            push_value(L, &v->table->pairs[i].key);
            push_value(L, &v->table->pairs[i].value);
            lua_rawset(L, -3);
        }
    }
}

static void set_text(lua_State *L, const char *key, const char *text)
{
    if (!text) return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static void push_problems(lua_State *L, const struct problems *p)
{
    char text[1024];
    lua_newtable(L);
    for (uint32_t i = 0; i < p->count; i++) {
        lua_pushstring(L, problem_format(&p->items[i], text, sizeof text));
        lua_rawseti(L, -2, (int)i + 1);
    }
}

static void push_config(lua_State *L, const struct config *c)
{
    lua_newtable(L);
    set_text(L, "path", c->path), set_text(L, "store", c->store_path);
    /* What differs from the default. */
    if (c->prove_ms != CONFIG_PROVE_MS) {
        lua_pushnumber(L, (lua_Number)c->prove_ms);
        lua_setfield(L, -2, "prove_ms");
    }
    if (!c->watch) {
        lua_pushboolean(L, false);
        lua_setfield(L, -2, "watch");
    }
    if (c->store_journal_age_ms) {
        lua_pushnumber(L, (lua_Number)c->store_journal_age_ms);
        lua_setfield(L, -2, "journal_age_ms");
    }
    set_text(L, "unix", c->listen.unix_path);
    if (c->listen.http) {
        set_text(L, "http_host", c->listen.http_host);
        lua_pushinteger(L, c->listen.http_port), lua_setfield(L, -2, "http_port");
    }
    lua_newtable(L);
    for (uint32_t i = 0; i < c->listen.token_count; i++) {
        struct value v = value_secret(c->listen.tokens[i].secret);
        push_value(L, &v);
        value_clear(&v);
        lua_pushinteger(L, c->listen.tokens[i].scopes), lua_setfield(L, -2, "scopes");
        set_text(L, "consumer", c->listen.tokens[i].consumer);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "tokens");
    lua_newtable(L);
    for (uint32_t i = 0; i < c->policy_path_count; i++) {
        lua_pushstring(L, c->policy_paths[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "policies");
    lua_newtable(L);
    lua_pushnumber(L, c->trial.share), lua_setfield(L, -2, "share");
    lua_pushnumber(L, (lua_Number)c->trial.watch_ms), lua_setfield(L, -2, "watch_ms");
    lua_pushboolean(L, c->trial.rehearse), lua_setfield(L, -2, "rehearse");
    lua_setfield(L, -2, "trial");
    lua_newtable(L);
    for (uint32_t i = 0; i < c->connection_count; i++) {
        const struct config_connection *k = &c->connections[i];
        lua_newtable(L);
        set_text(L, "name", k->name), set_text(L, "policy", k->policy),
            set_text(L, "file", k->file);
        set_text(L, "owner", k->owner), set_text(L, "ca_file", k->ca_file),
            set_text(L, "proxy", k->proxy);
        set_text(L, "proxy_authorization", k->proxy_authorization);
        lua_pushinteger(L, k->trial), lua_setfield(L, -2, "trial");
        lua_pushboolean(L, k->plain), lua_setfield(L, -2, "plain");
        lua_pushinteger(L, (lua_Integer)k->line), lua_setfield(L, -2, "line");
        push_value(L, &k->settings), lua_setfield(L, -2, "settings");
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "connections");
}

/* load(path) -> config or nil, problems as text */
static int l_load(lua_State *L)
{
    struct config c;
    struct problems problems;
    problems_init(&problems);
    bool ok = config_load(luaL_checkstring(L, 1), "lua", &c, &problems);
    if (ok) {
        push_config(L, &c);
        config_deinit(&c);
    } else {
        lua_pushnil(L);
    }
    push_problems(L, &problems);
    problems_deinit(&problems);
    return 2;
}

static int l_setenv(lua_State *L)
{
    if (lua_isnoneornil(L, 2)) {
        unsetenv(luaL_checkstring(L, 1));
    } else {
        setenv(luaL_checkstring(L, 1), luaL_checkstring(L, 2), 1);
    }
    return 0;
}

static const luaL_Reg functions[] = {
    { "load", l_load },
    { "setenv", l_setenv },
    { NULL, NULL },
};

int luaopen_unit_config(lua_State *L);
int luaopen_unit_config(lua_State *L)
{
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
