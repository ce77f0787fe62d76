/* test: runs busted in this process, so that specs can `require "holdfast.sim"`. The Lua state here is a
 * full one with all libraries: specs are the operator's own programs, not policies. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "sim/module.h"


static enum cli_exit run(struct cli *cli);

const struct cli_command cli_test = {
    .name = "test",
    .usage = "test [FILES...]",
    .about = "Run busted specs against the simulator: `require \"holdfast.sim\"` works in them",
    .text = "  holdfast test                         the specs below ./spec or ./tests\n"
            "  holdfast test spec/mybot_spec.lua\n\n"
            "A spec makes a world with a policy and a peer, lets virtual time pass and claims what must hold:\n"
            "assert.connection(\"a\").is_up_within \"30s\"; all claims are in lua/holdfast/expect.lua.\n"
            "Busted must be installed: Debian's package lua-busted, or `luarocks install busted`.\n",
    .words_max = CLI_WORDS_ANY,
    .run = run,
};

/* A world of a spec finds the shipped policies unless it names others. */
static const char boot[] =
    "local lua, core = ...\n"
    "package.preload['holdfast.sim_core'] = core\n"
    "package.path = lua .. '/?.lua;' .. lua .. '/?/init.lua;' .. package.path\n"
    "local sim = require 'holdfast.sim'\n"
    "local new = sim.new\n"
    "function sim.new(options)\n"
    "  local o = { lua = lua, policies = (lua:gsub('[^/]+$', 'policies')) }\n"
    "  for k, v in pairs(options or {}) do o[k] = v end\n"
    "  return new(o)\n"
    "end\n"
    "local found, runner = pcall(require, 'busted.runner')\n"
    "if found then require 'holdfast.expect' end\n"
    "if not found then\n"
    "  if tostring(runner):find(\"module 'busted.runner' not found\", 1, true) then return 'missing' end\n"
    "  error(runner, 0)\n"
    "end\n"
    "runner { standalone = false }\n";

static enum cli_exit run(struct cli *cli)
{
    enum cli_exit result = CLI_FAILED;
    lua_State *L = luaL_newstate();
    if (!L) {
        cli_complain("no memory for a Lua state");
        return CLI_FAILED;
    }
    luaL_openlibs(L);
    lua_createtable(L, (int)cli->word_count, 1);
    lua_pushstring(L, "holdfast test");
    lua_rawseti(L, -2, 0);
    for (uint32_t i = 0; i < cli->word_count; i++) {
        lua_pushstring(L, cli->words[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setglobal(L, "arg");

    /* Busted ends the process itself, with its own code, when specs fail or its arguments are wrong. */
    bool loaded = luaL_loadbuffer(L, boot, sizeof boot - 1, "=holdfast test") == 0;
    if (loaded) {
        lua_pushstring(L, files_lua());
        lua_pushcfunction(L, luaopen_holdfast_sim_core);
        loaded = lua_pcall(L, 2, 1, 0) == 0;
    }
    if (!loaded) {
        cli_complain("%s", lua_tostring(L, -1) ? lua_tostring(L, -1) : "busted failed");
    } else if (lua_isstring(L, -1) && strcmp(lua_tostring(L, -1), "missing") == 0) {
        cli_complain("busted is not installed: install Debian's package lua-busted, or run `luarocks install busted`");
    } else {
        result = CLI_OK;
    }
    lua_close(L);
    return result;
}
