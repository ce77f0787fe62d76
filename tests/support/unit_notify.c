/* modules: ops deliver frame crypto engine base */
/* ops/notify.c as a Lua module, with a stand-in for the service manager and a log on a pipe. */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ops/notify.h"

#define BOX     "unit.notify"
#define MANAGER "unit.notify.manager"

int luaopen_unit_notify(lua_State *L);

struct box {
    struct notify n;
    struct log *log;
    int log_read, log_write;
    bool open;
};

struct manager {
    int fd;
    char path[108];
};

/* --- notify ----------------------------------------------------------------------------------- */

static void environment(const char *name, const char *value)
{
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
}

/* notify.open{ socket =, usec =, pid = }: absent ones are not in the environment. */
static int l_open(lua_State *L)
{
    static const char *const names[][2] = { { "socket", "NOTIFY_SOCKET" },
                                            { "usec", "WATCHDOG_USEC" },
                                            { "pid", "WATCHDOG_PID" } };
    int fds[2];
    luaL_checktype(L, 1, LUA_TTABLE);
    struct box *b = lua_newuserdata(L, sizeof *b);
    memset(b, 0, sizeof *b);
    luaL_getmetatable(L, BOX);
    lua_setmetatable(L, -2);
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) return luaL_error(L, "no pipe");
    b->log_read = fds[0];
    b->log_write = fds[1];
    b->log = log_create(
        &(struct log_options){ .fd = fds[1], .level = LOG_INFO, .form = LOG_FORM_LOGFMT });
    for (int i = 0; i < 3; i++) {
        lua_getfield(L, 1, names[i][0]);
        environment(names[i][1], lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    b->open = true;
    lua_pushboolean(L, notify_open(&b->n, b->log));
    for (int i = 0; i < 3; i++) environment(names[i][1], NULL);
    return 2;
}

/* Ends it; what was logged. */
static int l_close(lua_State *L)
{
    struct box *b = luaL_checkudata(L, 1, BOX);
    char text[4096];
    if (!b->open) return 0;
    b->open = false;
    notify_close(&b->n);
    log_destroy(b->log);
    ssize_t len = read(b->log_read, text, sizeof text);
    close(b->log_read);
    close(b->log_write);
    lua_pushlstring(L, text, len > 0 ? (size_t)len : 0);
    return 1;
}

static struct notify *check_notify(lua_State *L)
{
    struct box *b = luaL_checkudata(L, 1, BOX);
    luaL_argcheck(L, b->open, 1, "is closed");
    return &b->n;
}

static int l_ready(lua_State *L)
{
    notify_ready(check_notify(L));
    return 0;
}

static int l_stopping(lua_State *L)
{
    notify_stopping(check_notify(L));
    return 0;
}

static int l_reloading(lua_State *L)
{
    notify_reloading(check_notify(L));
    return 0;
}

static int l_main_pid(lua_State *L)
{
    notify_main_pid(check_notify(L), (long)luaL_checkinteger(L, 2));
    return 0;
}

static int l_status(lua_State *L)
{
    notify_status(check_notify(L), luaL_checkstring(L, 2));
    return 0;
}

static int l_watchdog(lua_State *L)
{
    notify_watchdog(check_notify(L));
    return 0;
}

static int l_next_ms(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)notify_next_ms(check_notify(L)));
    return 1;
}

static const luaL_Reg notify_methods[] = {
    { "close", l_close },       { "ready", l_ready },
    { "stopping", l_stopping }, { "status", l_status },
    { "reloading", l_reloading }, { "main_pid", l_main_pid },
    { "watchdog", l_watchdog }, { "next_ms", l_next_ms },
    { "__gc", l_close },        { NULL, NULL },
};

/* --- the manager ------------------------------------------------------------------------------ */

/* notify.manager(name): a datagram socket at a path or @name. */
static int l_manager(lua_State *L)
{
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    luaL_argcheck(L, len < sizeof a.sun_path, 1, "is too long");
    struct manager *m = lua_newuserdata(L, sizeof *m);
    memset(m, 0, sizeof *m);
    luaL_getmetatable(L, MANAGER);
    lua_setmetatable(L, -2);
    m->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    memcpy(a.sun_path, name, len);
    if (name[0] == '@')
        a.sun_path[0] = 0;
    else
        memcpy(m->path, name, len);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (bind(m->fd, (struct sockaddr *)&a, size) != 0) return luaL_error(L, "%s", strerror(errno));
    return 1;
}

/* The next datagram, or nothing. */
static int l_manager_got(lua_State *L)
{
    struct manager *m = luaL_checkudata(L, 1, MANAGER);
    char text[4096];
    ssize_t len = recv(m->fd, text, sizeof text, 0);
    if (len < 0) return 0;
    lua_pushlstring(L, text, (size_t)len);
    return 1;
}

static int l_manager_close(lua_State *L)
{
    struct manager *m = luaL_checkudata(L, 1, MANAGER);
    if (m->fd < 0) return 0;
    close(m->fd);
    m->fd = -1;
    if (m->path[0]) unlink(m->path);
    return 0;
}

static const luaL_Reg manager_methods[] = {
    { "got", l_manager_got },
    { "close", l_manager_close },
    { "__gc", l_manager_close },
    { NULL, NULL },
};

static int l_pid(lua_State *L)
{
    lua_pushinteger(L, getpid());
    return 1;
}

static const luaL_Reg functions[] = {
    { "open", l_open },
    { "manager", l_manager },
    { "pid", l_pid },
    { NULL, NULL },
};

static void class(lua_State *L, const char *name, const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    luaL_register(L, NULL, methods);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

int luaopen_unit_notify(lua_State *L)
{
    class(L, BOX, notify_methods);
    class(L, MANAGER, manager_methods);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
