/* modules: store base */
/* store/lock.c as a Lua module: locks of this process, and one of another process that ends with it. */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/lock.h"

#define MT "unit.store_lock"

int luaopen_unit_store_lock(lua_State *L);

static const char *const results[] = { "taken", "held", "failed" };

static struct store_lock *check(lua_State *L)
{
    return luaL_checkudata(L, 1, MT);
}

static struct store_lock *box_new(lua_State *L)
{
    struct store_lock *l = lua_newuserdata(L, sizeof *l);
    *l = STORE_LOCK_NONE;
    luaL_getmetatable(L, MT);
    lua_setmetatable(L, -2);
    return l;
}

/* -> lock, "taken"; or nil, result, sentence. */
static int push_result(lua_State *L, struct store_lock *l, enum store_lock_result result,
                       const char *why)
{
    if (result == STORE_LOCK_TAKEN) {
        if (l->fd < 0 || why[0]) return luaL_error(L, "taken without a descriptor, or with a sentence");
        lua_pushstring(L, results[result]);
        return 2;
    }
    if (l->fd >= 0) return luaL_error(L, "not taken, and holds a descriptor");
    lua_pushnil(L);
    lua_pushstring(L, results[result]);
    lua_pushstring(L, why);
    return 3;
}

static int l_try(lua_State *L)
{
    char why[512] = "?";
    const char *path = luaL_checkstring(L, 1);
    struct store_lock *l = box_new(L);
    return push_result(L, l, store_lock_try(l, path, why, sizeof why), why);
}

static int l_wait(lua_State *L)
{
    char why[512] = "?";
    const char *path = luaL_checkstring(L, 1);
    uint64_t ms = (uint64_t)luaL_checknumber(L, 2);
    struct store_lock *l = box_new(L);
    return push_result(L, l, store_lock_wait(l, path, ms, why, sizeof why), why);
}

/* adopt(path, fd): the descriptor is taken over. */
static int l_adopt(lua_State *L)
{
    char why[512] = "?";
    const char *path = luaL_checkstring(L, 1);
    int fd = (int)luaL_checkinteger(L, 2);
    struct store_lock *l = box_new(L);
    return push_result(L, l, store_lock_adopt(l, path, fd, why, sizeof why), why);
}

static int l_release(lua_State *L)
{
    store_lock_release(check(L));
    return 0;
}

static int l_leave(lua_State *L)
{
    store_lock_leave(check(L));
    return 0;
}

/* A copy of the descriptor, as another process would get it. */
static int l_copy(lua_State *L)
{
    lua_pushinteger(L, fcntl(check(L)->fd, F_DUPFD, 0));
    return 1;
}

static int l_close_on_exec(lua_State *L)
{
    lua_pushboolean(L, fcntl(check(L)->fd, F_GETFD) & FD_CLOEXEC);
    return 1;
}

static int l_file(lua_State *L)
{
    lua_pushinteger(L, open(luaL_checkstring(L, 1), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    return 1;
}

static int l_is_open(lua_State *L)
{
    lua_pushboolean(L, fcntl((int)luaL_checkinteger(L, 1), F_GETFD) >= 0);
    return 1;
}

/* other(path, ms): a process that takes the lock, and lives until its standard input ends or, with
 * `ms`, for so long. -> pid, descriptor to close. */
static int l_other(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    int ms = (int)luaL_optinteger(L, 2, 0);
    int go[2], took[2];
    char byte = 0;
    if (pipe2(go, O_CLOEXEC) || pipe2(took, O_CLOEXEC)) return luaL_error(L, "no pipes");
    pid_t pid = fork();
    if (pid < 0) return luaL_error(L, "cannot fork");
    if (pid == 0) {
        char why[512];
        struct store_lock l;
        close(go[1]);
        byte = store_lock_try(&l, path, why, sizeof why) == STORE_LOCK_TAKEN;
        if (write(took[1], &byte, 1) != 1) _exit(2);
        if (ms) poll(NULL, 0, ms);
        else if (read(go[0], &byte, 1) != 0) _exit(3);
        _exit(0);
    }
    close(go[0]);
    close(took[1]);
    ssize_t n = read(took[0], &byte, 1);
    close(took[0]);
    if (n != 1 || !byte) return luaL_error(L, "the other process got no lock");
    lua_pushinteger(L, pid);
    lua_pushinteger(L, go[1]);
    return 2;
}

/* kill(pid, fd): ends the other one as a crash would. */
static int l_kill(lua_State *L)
{
    int status;
    pid_t pid = (pid_t)luaL_checkinteger(L, 1);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    close((int)luaL_checkinteger(L, 2));
    return 0;
}

static int l_pid(lua_State *L)
{
    lua_pushinteger(L, getpid());
    return 1;
}

int luaopen_unit_store_lock(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "release", l_release }, { "leave", l_leave }, { "copy", l_copy },
        { "close_on_exec", l_close_on_exec }, { NULL, NULL }
    };
    static const luaL_Reg functions[] = {
        { "try", l_try }, { "wait", l_wait }, { "adopt", l_adopt }, { "other", l_other },
        { "kill", l_kill }, { "pid", l_pid }, { "file", l_file }, { "is_open", l_is_open }, { NULL, NULL }
    };
    luaL_newmetatable(L, MT);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_release);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
