/* The test host: busted inside a process of our own, so that sanitizers and valgrind see all of it.
 * Usage: runner SPEC... (files or folders). HOLDFAST_BUILD names the folder with unit/NAME.so.
 *
 * Its getaddrinfo() stands before the C library's, for all libraries of the process: a name server cannot be
 * slow on demand, because resolv.conf is the machine's and knows no port but 53. A name late-MS.holdfast.test is
 * 127.0.0.1 after so many milliseconds, in the very thread that asks; all others are the C library's. */
#include <dlfcn.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char boot[] =
    "local build = os.getenv 'HOLDFAST_BUILD' or 'build/test'\n"
    "package.cpath = build .. '/?.so;' .. package.cpath\n"
    "package.path = './lua/?.lua;./lua/?/init.lua;./tests/support/?.lua;' .. package.path\n"
    "require 'busted.runner' { standalone = false, output = os.getenv 'HOLDFAST_OUTPUT' or 'utfTerminal' }\n";

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    unsigned ms;
    int end = 0;
    *(void **)&next = dlsym(RTLD_NEXT, "getaddrinfo");
    if (!next) return EAI_SYSTEM;
    if (!name || sscanf(name, "late-%u.holdfast.test%n", &ms, &end) != 1 || end == 0 || name[end]) {
        return next(name, service, hints, found);
    }
    struct timespec left = { ms / 1000, (long)(ms % 1000) * 1000000 };
    while (nanosleep(&left, &left) != 0) continue;
    return next("127.0.0.1", service, hints, found);
}

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
