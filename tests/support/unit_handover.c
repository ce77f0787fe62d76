/* modules: ops deliver frame crypto engine base */
/* ops/handover.c as a Lua module: two ends of a socketpair, and plain descriptors to hand over. */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ops/handover.h"

int luaopen_unit_handover(lua_State *L);

static const char *const kinds[] = {
#define X(name, text) text,
    HANDOVER_KIND_MAP(X)
#undef X
    NULL
};
static const char *const fd_names[] = {
#define X(name, text) text,
    HANDOVER_FD_MAP(X)
#undef X
};

/* pair() -> two descriptors */
static int l_pair(lua_State *L)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return luaL_error(L, "no socketpair");
    lua_pushinteger(L, ends[0]);
    lua_pushinteger(L, ends[1]);
    return 2;
}

static void field(lua_State *L, const char *key, char *out, size_t out_bytes)
{
    lua_getfield(L, 2, key);
    const char *text = lua_tostring(L, -1);
    if (text) strncat(out, text, out_bytes - 1);
    lua_pop(L, 1);
}

/* send(fd, { is =, version =, why =, unix =, http =, store =, fds = { unix = 7 } }) */
static int l_send(lua_State *L)
{
    struct handover_message m;
    lua_getfield(L, 2, "is");
    handover_message_init(&m, (enum handover_kind)luaL_checkoption(L, -1, NULL, kinds));
    lua_pop(L, 1);
    field(L, "version", m.version, sizeof m.version);
    field(L, "why", m.why, sizeof m.why);
    field(L, "unix", m.unix_path, sizeof m.unix_path);
    field(L, "http", m.http, sizeof m.http);
    field(L, "store", m.store, sizeof m.store);
    lua_getfield(L, 2, "fds");
    for (int i = 0; lua_istable(L, -1) && i < HANDOVER_FD_COUNT; i++) {
        lua_getfield(L, -1, fd_names[i]);
        if (lua_isnumber(L, -1)) m.fds[i] = (int)lua_tointeger(L, -1);
        lua_pop(L, 1);
    }
    lua_pushboolean(L, handover_send((int)luaL_checkinteger(L, 1), &m));
    return 1;
}

/* receive(fd) -> message, or nil and "nothing", "ended", "bad" */
static int l_receive(lua_State *L)
{
    static const char *const results[] = { "got", "nothing", "ended", "bad" };
    struct handover_message m;
    enum handover_received r = handover_receive((int)luaL_checkinteger(L, 1), 0, &m);
    if (r != HANDOVER_GOT) {
        for (int i = 0; i < HANDOVER_FD_COUNT; i++) {
            if (m.fds[i] >= 0) return luaL_error(L, "a descriptor in what is no message");
        }
        lua_pushnil(L);
        lua_pushstring(L, results[r]);
        return 2;
    }
    lua_newtable(L);
    const struct {
        const char *key, *text;
    } texts[] = { { "is", kinds[m.kind] }, { "version", m.version }, { "why", m.why },
                  { "unix", m.unix_path }, { "http", m.http }, { "store", m.store } };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        lua_pushstring(L, texts[i].text);
        lua_setfield(L, -2, texts[i].key);
    }
    lua_newtable(L);
    for (int i = 0; i < HANDOVER_FD_COUNT; i++) {
        if (m.fds[i] < 0) continue;
        lua_pushinteger(L, m.fds[i]);
        lua_setfield(L, -2, fd_names[i]);
    }
    lua_setfield(L, -2, "fds");
    return 1;
}

/* raw(fd, bytes [, count of copies of descriptor 0]) */
static int l_raw(lua_State *L)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 64)];
    } control;
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    size_t count = (size_t)luaL_optinteger(L, 3, 0);
    struct iovec part = { .iov_base = (void *)bytes, .iov_len = len };
    struct msghdr packet = { .msg_iov = &part, .msg_iovlen = 1 };
    if (count) {
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        memset(&control, 0, sizeof control);
        packet.msg_control = control.bytes;
        packet.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        struct cmsghdr *head = CMSG_FIRSTHDR(&packet);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int) * count);
        for (size_t i = 0; i < count; i++) memcpy(CMSG_DATA(head) + i * sizeof fd, &fd, sizeof fd);
        lua_pushboolean(L, sendmsg((int)luaL_checkinteger(L, 1), &packet, MSG_NOSIGNAL) == (ssize_t)len);
        close(fd);
        return 1;
    }
    lua_pushboolean(L, sendmsg((int)luaL_checkinteger(L, 1), &packet, MSG_NOSIGNAL) == (ssize_t)len);
    return 1;
}

static int l_close(lua_State *L)
{
    lua_pushboolean(L, close((int)luaL_checkinteger(L, 1)) == 0);
    return 1;
}

/* How many descriptors this process has open. */
static int l_open_count(lua_State *L)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++) count += fcntl(fd, F_GETFD) >= 0;
    lua_pushinteger(L, count);
    return 1;
}

static int l_close_on_exec(lua_State *L)
{
    lua_pushboolean(L, fcntl((int)luaL_checkinteger(L, 1), F_GETFD) & FD_CLOEXEC);
    return 1;
}

/* Whether two descriptors are of one file. */
static int l_same(lua_State *L)
{
    struct stat a, b;
    lua_pushboolean(L, fstat((int)luaL_checkinteger(L, 1), &a) == 0 &&
                           fstat((int)luaL_checkinteger(L, 2), &b) == 0 && a.st_ino == b.st_ino &&
                           a.st_dev == b.st_dev);
    return 1;
}

/* inherited(value or nil) -> descriptor, -1; and whether the variable is gone afterwards. The value names
 * no descriptor of use, so that nothing of this process is closed. */
static int l_inherited(lua_State *L)
{
    const char *value = luaL_optstring(L, 1, NULL);
    if (value) setenv(HANDOVER_VARIABLE, value, 1);
    else unsetenv(HANDOVER_VARIABLE);
    lua_pushinteger(L, handover_inherited());
    lua_pushboolean(L, getenv(HANDOVER_VARIABLE) == NULL);
    return 2;
}

static int l_fail(lua_State *L)
{
    handover_fail((int)luaL_checkinteger(L, 1), luaL_checkstring(L, 2));
    return 0;
}

int luaopen_unit_handover(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "pair", l_pair },   { "send", l_send },     { "receive", l_receive },
        { "raw", l_raw },     { "close", l_close },   { "open_count", l_open_count },
        { "same", l_same },   { "close_on_exec", l_close_on_exec },
        { "fail", l_fail },   { "inherited", l_inherited }, { NULL, NULL }
    };
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
