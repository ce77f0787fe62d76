/* require(): modules of lua/ and files beside the policy, each run once per state, each frozen.
 * Never leaves those two folders: a name is letters, digits, `_` and `-` with single dots between.
 */
#include "policy/sandbox_internal.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

#define NAME_MAX_BYTES 80

#ifndef HOLDFAST_PREFIX
#define HOLDFAST_PREFIX "/usr/local"
#endif

static bool name_to_path(const char *name, char *out)
{
    size_t len = strlen(name);
    bool part = false; /* inside a part that has a letter */
    if (len == 0 || len > NAME_MAX_BYTES) return false;
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '_' || (c == '-' && part);
        if (letter) {
            out[i] = c;
            part = true;
        } else if ((c == '.' || c == '/') && part) {
            out[i] = '/';
            part = false;
        } else {
            return false;
        }
    }
    out[len] = 0;
    return part;
}

static const char *library_folder(const struct sandbox *s)
{
    if (s->lua_path) return s->lua_path;
    const char *set = getenv("HOLDFAST_LUA");
    if (set && set[0]) return set;
    if (access(HOLDFAST_PREFIX "/share/holdfast/lua/holdfast.lua", R_OK) == 0) {
        return HOLDFAST_PREFIX "/share/holdfast/lua";
    }
    return "lua";
}

/* Loads `path` onto the stack as a function; `keep`: the module's name when its text is the policy's own. 1 loaded, 0 no such file, -1 with `error`. Never
 * raises while the file's text is held. */
static int load(lua_State *L, struct sandbox *s, const char *path, const char *shown, const char *keep,
                char *error, size_t error_bytes)
{
    struct buffer text;
    char chunk[512];
    int result = -1;
    const struct policy_source *given = keep ? sandbox__given(s, keep) : NULL;
    if (given ? false : (keep && s->given) || access(path, F_OK) != 0) return 0;
    buffer_init(&text, 0);
    snprintf(chunk, sizeof chunk, "@%s", shown);
    if (given ? buffer_append(&text, given->text, given->len)
              : sandbox_read_file(path, &text, error, error_bytes)) {
        if (keep) sandbox__keep_source(s, keep, text.data, text.len);
        s->text_hash = rng_mix(s->text_hash ^ hash_bytes(text.data, text.len));
        result = luaL_loadbufferx(L, (const char *)text.data, text.len, chunk, "t") == 0 ? 1 : -1;
        if (result < 0) {
            const char *why = lua_tostring(L, -1);
            text_copy(error, error_bytes, why, strlen(why));
        }
    }
    buffer_deinit(&text);
    return result;
}

int sandbox__l_require(lua_State *L)
{
    struct sandbox *s = sandbox_of(L);
    const char *name = luaL_checkstring(L, 1);
    char file[NAME_MAX_BYTES + 1], path[1024], shown[512], error[400];
    lua_settop(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->loaded_ref);
    lua_pushvalue(L, 1);
    lua_rawget(L, 2);
    if (lua_toboolean(L, -1)) return 1;
    if (lua_isboolean(L, -1)) {
        return luaL_error(L, "require: `%s` requires itself, through others perhaps", name);
    }
    lua_settop(L, 2);
    if (strlen(name) != lua_objlen(L, 1) || !name_to_path(name, file)) {
        return luaL_error(
            L, "require: not a module name: only letters, digits, `_`, `-`, single dots");
    }
    if (s->call) return luaL_error(L, "require: only while a file is loading, at its top");
    snprintf(path, sizeof path, "%s/%s.lua", library_folder(s), file);
    snprintf(shown, sizeof shown, "lua/%s.lua", file);
    int found = load(L, s, path, shown, NULL, error, sizeof error);
    if (found == 0 && s->beside) {
        snprintf(path, sizeof path, "%s/%s.lua", s->beside, file);
        found = load(L, s, path, path, name, error, sizeof error);
    }
    if (found == 0) {
        return luaL_error(L, "require: no module `%s` in lua/ or beside this file", name);
    }
    if (found < 0) return luaL_error(L, "require: %s", error);
    lua_pushvalue(L, 1);
    lua_pushboolean(L, 0);
    lua_rawset(L, 2);
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushboolean(L, 1);
    }
    if (lua_istable(L, -1)) sandbox__freeze(L, -1, name);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, -2);
    lua_rawset(L, 2);
    return 1;
}
