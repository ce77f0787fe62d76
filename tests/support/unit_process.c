/* modules: base */
/* Processes for specs of the binary: spawned with pipes, read with a deadline, ended by their own id. A
 * process that a spec forgot is killed when its object is collected. */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MT "unit.process"
#define ARGS_MAX 64
#define PIECE 65536

struct process {
    pid_t pid;      /* 0: waited for */
    int in, out, err; /* -1: closed */
    int status;
};

static struct process *check(lua_State *L)
{
    return luaL_checkudata(L, 1, MT);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

static void shut(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* spawn{ args = { path, ... }, env = { "K=V", ... }, cwd = path }: the environment is exactly `env`. */
static int l_spawn(lua_State *L)
{
    const char *args[ARGS_MAX + 1] = { NULL }, *env[ARGS_MAX + 1] = { NULL };
    int in[2], out[2], err[2];
    luaL_checktype(L, 1, LUA_TTABLE);
    struct process *p = lua_newuserdata(L, sizeof *p);
    memset(p, 0, sizeof *p);
    p->in = p->out = p->err = -1;
    luaL_getmetatable(L, MT);
    lua_setmetatable(L, -2);
    int box = lua_gettop(L);
    for (int which = 0; which < 2; which++) {
        const char **list = which ? env : args;
        lua_getfield(L, 1, which ? "env" : "args");
        for (int i = 0; i < ARGS_MAX && lua_istable(L, -1); i++) {
            lua_rawgeti(L, -1, i + 1);
            list[i] = lua_tostring(L, -1); /* kept alive by the table */
            lua_pop(L, 1);
            if (!list[i]) break;
        }
    }
    lua_getfield(L, 1, "cwd");
    const char *cwd = lua_tostring(L, -1);
    luaL_argcheck(L, args[0] != NULL, 1, "args has no program");
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC)) {
        return luaL_error(L, "no pipes: %s", strerror(errno));
    }
    p->pid = fork();
    if (p->pid < 0) return luaL_error(L, "cannot fork: %s", strerror(errno));
    if (p->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(err[1], 2);
        signal(SIGPIPE, SIG_DFL);
        if (cwd && chdir(cwd) != 0) _exit(126);
        execve(args[0], (char *const *)args, (char *const *)env);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    p->in = in[1];
    p->out = out[0];
    p->err = err[0];
    fcntl(p->out, F_SETFL, O_NONBLOCK);
    fcntl(p->err, F_SETFL, O_NONBLOCK);
    lua_settop(L, box);
    return 1;
}

static void push_piece(lua_State *L, int *fd)
{
    static char piece[PIECE];
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    while (*fd >= 0) {
        ssize_t n = read(*fd, piece, sizeof piece);
        if (n > 0) luaL_addlstring(&b, piece, (size_t)n);
        else if (n < 0 && errno == EINTR) continue;
        else {
            if (n == 0 || errno != EAGAIN) shut(fd);
            break;
        }
    }
    luaL_pushresult(&b);
}

/* p:pump(ms) -> out, err, open: waits at most `ms` for more of either. */
static int l_pump(lua_State *L)
{
    struct process *p = check(L);
    struct pollfd fds[2] = { { .fd = p->out, .events = POLLIN }, { .fd = p->err, .events = POLLIN } };
    poll(fds, 2, (int)luaL_checknumber(L, 2));
    push_piece(L, &p->out);
    push_piece(L, &p->err);
    lua_pushboolean(L, p->out >= 0 || p->err >= 0);
    return 3;
}

/* p:ended() -> nil while it runs; exit code; or nil, signal number. */
static int l_ended(lua_State *L)
{
    struct process *p = check(L);
    if (p->pid) {
        pid_t got = waitpid(p->pid, &p->status, WNOHANG);
        if (got == 0) return 0;
        p->pid = 0;
    }
    if (WIFEXITED(p->status)) {
        lua_pushinteger(L, WEXITSTATUS(p->status));
        return 1;
    }
    lua_pushnil(L);
    lua_pushinteger(L, WTERMSIG(p->status));
    return 2;
}

static int l_kill(lua_State *L)
{
    struct process *p = check(L);
    lua_pushboolean(L, p->pid && kill(p->pid, (int)luaL_checkinteger(L, 2)) == 0);
    return 1;
}

static int l_write(lua_State *L)
{
    struct process *p = check(L);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    lua_pushboolean(L, p->in >= 0 && write(p->in, text, len) == (ssize_t)len);
    return 1;
}

static int l_close_input(lua_State *L)
{
    shut(&check(L)->in);
    return 0;
}

static int l_pid(lua_State *L)
{
    lua_pushinteger(L, check(L)->pid);
    return 1;
}

static int l_gc(lua_State *L)
{
    struct process *p = check(L);
    if (p->pid) {
        kill(p->pid, SIGKILL);
        waitpid(p->pid, &p->status, 0);
        p->pid = 0;
    }
    shut(&p->in);
    shut(&p->out);
    shut(&p->err);
    return 0;
}

static int l_now(lua_State *L)
{
    lua_pushnumber(L, now_ms());
    return 1;
}

/* A listener of somebody else: holds the path until the object is collected. listen(path) -> box */
static int l_listen(lua_State *L)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    const char *path = luaL_checkstring(L, 1);
    luaL_argcheck(L, strlen(path) < sizeof at.sun_path, 1, "too long");
    memcpy(at.sun_path, path, strlen(path));
    struct process *p = lua_newuserdata(L, sizeof *p);
    memset(p, 0, sizeof *p);
    p->out = p->err = -1;
    p->in = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    luaL_getmetatable(L, MT);
    lua_setmetatable(L, -2);
    if (bind(p->in, (struct sockaddr *)&at, sizeof at) || listen(p->in, 4)) {
        return luaL_error(L, "cannot listen: %s", strerror(errno));
    }
    return 1;
}

/* A port of this machine that takes connections and never says a word, until the object is collected.
 * listen_silent() -> box, port */
static int l_listen_silent(lua_State *L)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof at;
    struct process *p = lua_newuserdata(L, sizeof *p);
    memset(p, 0, sizeof *p);
    p->out = p->err = -1;
    p->in = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    luaL_getmetatable(L, MT);
    lua_setmetatable(L, -2);
    if (bind(p->in, (struct sockaddr *)&at, sizeof at) || listen(p->in, 4096) ||
        getsockname(p->in, (struct sockaddr *)&at, &len)) {
        return luaL_error(L, "cannot listen: %s", strerror(errno));
    }
    lua_pushinteger(L, ntohs(at.sin_port));
    return 2;
}

/* p:command_line() -> what others see of its arguments. */
static int l_command_line(lua_State *L)
{
    char path[64], text[8192];
    struct process *p = check(L);
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)p->pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text) : 0;
    if (fd >= 0) close(fd);
    lua_pushlstring(L, text, n > 0 ? (size_t)n : 0);
    return 1;
}

static const luaL_Reg methods[] = {
    { "pump", l_pump },   { "ended", l_ended },
    { "kill", l_kill },   { "write", l_write },
    { "pid", l_pid },     { "close_input", l_close_input },
    { "close", l_gc },    { "command_line", l_command_line },
    { NULL, NULL },
};

static const luaL_Reg functions[] = {
    { "spawn", l_spawn },
    { "now_ms", l_now },
    { "listen", l_listen },
    { "listen_silent", l_listen_silent },
    { NULL, NULL },
};

int luaopen_unit_process(lua_State *L);

int luaopen_unit_process(lua_State *L)
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
    luaL_register(L, NULL, functions);
    return 1;
}
