/* modules: net frame crypto engine base */
/* ws_echo_client inside a spec's process, so that sanitizers see it: echo.run(URL, CA_FILE) gives its
 * exit status. */
#include <lauxlib.h>
#include <lua.h>

int ws_echo_client_main(int argc, char **argv);
int luaopen_unit_net_echo(lua_State *L);

#define main ws_echo_client_main
#include "ws_echo_client.c"
#undef main

static int l_run(lua_State *L)
{
    char name[] = "ws_echo_client";
    char *argv[] = { name, (char *)luaL_checkstring(L, 1), (char *)luaL_optstring(L, 2, NULL), NULL };
    lua_pushinteger(L, ws_echo_client_main(argv[2] ? 3 : 2, argv));
    return 1;
}

int luaopen_unit_net_echo(lua_State *L)
{
    lua_newtable(L);
    lua_pushcfunction(L, l_run);
    lua_setfield(L, -2, "run");
    return 1;
}
