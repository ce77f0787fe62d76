/* The test host: busted inside a process of our own, so that sanitizers and valgrind see all of it.
 * Usage: runner SPEC... (files or folders). HOLDFAST_BUILD names the folder with unit/NAME.so. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>

static const char boot[] =
    "local build = os.getenv 'HOLDFAST_BUILD' or 'build/test'\n"
    "package.cpath = build .. '/?.so;' .. package.cpath\n"
    "package.path = './lua/?.lua;./lua/?/init.lua;./tests/support/?.lua;' .. package.path\n"
    "require 'busted.runner' { standalone = false, output = os.getenv 'HOLDFAST_OUTPUT' or 'utfTerminal' }\n";

int main(int argc, char **argv)
{
    lua_State *L = luaL_newstate();
    if (!L) return 1;
    luaL_openlibs(L);
    lua_createtable(L, argc, 1);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    lua_setglobal(L, "arg");
    if (luaL_dostring(L, boot) != 0) {
        fprintf(stderr, "runner: %s\n", lua_tostring(L, -1));
        lua_close(L);
        return 2;
    }
    lua_close(L);
    return 0;
}
