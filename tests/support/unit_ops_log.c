/* modules: ops base */
/* The daemon's log as a Lua module: written into a pipe that the spec reads when it likes. */
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "ops/log.h"

#define MT "unit.ops_log"

struct box {
    struct log *log;
    int read_fd, write_fd;
};

static struct box *check(lua_State *L)
{
    return luaL_checkudata(L, 1, MT);
}

/* open(form, level, colours) */
static int l_open(lua_State *L)
{
    struct log_options o = { 0 };
    luaL_argcheck(L, log_form_parse(luaL_checkstring(L, 1), &o.form), 1, "no form");
    int fds[2];
    luaL_argcheck(L, log_level_parse(luaL_checkstring(L, 2), &o.level), 2, "no level");
    o.colours = lua_toboolean(L, 3);
    struct box *b = lua_newuserdata(L, sizeof *b);
    b->log = NULL;
    b->read_fd = b->write_fd = -1;
    luaL_getmetatable(L, MT);
    lua_setmetatable(L, -2);
    if (pipe2(fds, O_CLOEXEC) != 0) return luaL_error(L, "no pipe");
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    b->read_fd = fds[0];
    b->write_fd = o.fd = fds[1];
    b->log = log_create(&o);
    return 1;
}

/* box:line(level, connection or nil, text) */
static int l_line(lua_State *L)
{
    struct box *b = check(L);
    enum log_level level;
    luaL_argcheck(L, log_level_parse(luaL_checkstring(L, 2), &level), 2, "no level");
    log_line(b->log, level, lua_isnil(L, 3) ? NULL : lua_tostring(L, 3), luaL_checkstring(L, 4));
    return 0;
}

/* box:fields(level, connection or nil, text, { { key, text or number }, ... }) */
static int l_fields(lua_State *L)
{
    struct box *b = check(L);
    enum log_level level;
    struct log_field fields[8];
    uint32_t n = 0;
    luaL_argcheck(L, log_level_parse(luaL_checkstring(L, 2), &level), 2, "no level");
    for (; n < lua_objlen(L, 5) && n < 8; n++) {
        lua_rawgeti(L, 5, (int)n + 1);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        fields[n] = (struct log_field){ .key = lua_tostring(L, -2) };
        if (lua_type(L, -1) == LUA_TNUMBER) fields[n].number = (uint64_t)lua_tonumber(L, -1);
        else fields[n].text = lua_tostring(L, -1);
        lua_pop(L, 3); /* the table keeps them */
    }
    log_fields(b->log, level, lua_isnil(L, 3) ? NULL : lua_tostring(L, 3), luaL_checkstring(L, 4), fields, n);
    return 0;
}

/* box:read(ms): what comes within `ms` of the last byte. */
static int l_read(lua_State *L)
{
    struct box *b = check(L);
    static char piece[65536];
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    struct pollfd p = { .fd = b->read_fd, .events = POLLIN };
    while (poll(&p, 1, (int)luaL_checkinteger(L, 2)) > 0) {
        ssize_t n = read(b->read_fd, piece, sizeof piece);
        if (n <= 0) break;
        luaL_addlstring(&out, piece, (size_t)n);
    }
    luaL_pushresult(&out);
    return 1;
}

static int l_close(lua_State *L)
{
    struct box *b = check(L);
    log_destroy(b->log);
    b->log = NULL;
    if (b->write_fd >= 0) close(b->write_fd);
    b->write_fd = -1;
    return 0;
}

static int l_gc(lua_State *L)
{
    struct box *b = check(L);
    l_close(L);
    if (b->read_fd >= 0) close(b->read_fd);
    b->read_fd = -1;
    return 0;
}

static const luaL_Reg methods[] = {
    { "line", l_line }, { "fields", l_fields }, { "read", l_read }, { "close", l_close }, { NULL, NULL },
};

int luaopen_unit_ops_log(lua_State *L);

int luaopen_unit_ops_log(lua_State *L)
{
    signal(SIGPIPE, SIG_IGN);
    if (luaL_newmetatable(L, MT)) {
        lua_newtable(L);
        luaL_register(L, NULL, methods);
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, l_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_newtable(L);
    lua_pushcfunction(L, l_open);
    lua_setfield(L, -2, "open");
    return 1;
}
