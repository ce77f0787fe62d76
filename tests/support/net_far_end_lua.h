/* The far end as Lua sees it: net.authority(), net.server{} and ports that refuse or keep silent. Part of
 * unit_net.c. */
#ifndef HOLDFAST_TESTS_NET_FAR_END_LUA_H
#define HOLDFAST_TESTS_NET_FAR_END_LUA_H

#include <lauxlib.h>
#include <lua.h>

#include "net_far_end.h"

#define SERVER "unit.net.server"
#define AUTHORITY "unit.net.authority"

struct authority {
    EVP_PKEY *key;
    X509 *certificate;
};

static const char *field(lua_State *L, int at, const char *name)
{
    lua_getfield(L, at, name);
    const char *text = lua_tostring(L, -1);
    lua_pop(L, 1); /* the table keeps it */
    return text;
}

static double number(lua_State *L, int at, const char *name, double otherwise)
{
    lua_getfield(L, at, name);
    double n = lua_isnumber(L, -1) ? lua_tonumber(L, -1) : otherwise;
    lua_pop(L, 1);
    return n;
}

/* ---- authorities and servers ------------------------------------------------------------------- */

/* net.authority(path): a new CA, its certificate written to `path`. */
static int l_authority(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct authority *a = lua_newuserdata(L, sizeof *a);
    luaL_getmetatable(L, AUTHORITY);
    lua_setmetatable(L, -2);
    a->key = EVP_EC_gen("P-256");
    a->certificate = far_end_certificate(a->key, "Test CA", NULL, -3600, 86400, NULL, NULL);
    FILE *file = fopen(path, "w");
    if (!file) return luaL_error(L, "cannot write %s", path);
    PEM_write_X509(file, a->certificate);
    fclose(file);
    return 1;
}

static int l_authority_gc(lua_State *L)
{
    struct authority *a = luaL_checkudata(L, 1, AUTHORITY);
    EVP_PKEY_free(a->key);
    X509_free(a->certificate);
    return 0;
}

static SSL_CTX *server_context(lua_State *L, int at)
{
    struct authority *a = luaL_checkudata(L, -1, AUTHORITY);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    const char *names = field(L, at, "names");
    X509 *leaf = far_end_certificate(key, "leaf", names ? names : "DNS:localhost,IP:127.0.0.1",
                                     (long)number(L, at, "from_s", -3600),
                                     (long)number(L, at, "until_s", 86400), a->certificate, a->key);
    SSL_CTX_use_certificate(context, leaf);
    SSL_CTX_use_PrivateKey(context, key);
    SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_session_id_context(context, (const unsigned char *)"far", 3);
    int most = (int)number(L, at, "tls_most", 0);
    if (most) SSL_CTX_set_max_proto_version(context, most);
    const char *ciphers = field(L, at, "ciphers");
    if (ciphers) SSL_CTX_set_cipher_list(context, ciphers);
    lua_getfield(L, at, "want_client_certificate");
    if (lua_toboolean(L, -1)) {
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    lua_pop(L, 1);
    X509_free(leaf);
    EVP_PKEY_free(key);
    return context;
}

/* net.server{ authority =, names =, ..., { "tls" }, { "write", "hello" }, ... } */
static int l_server(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct far_end *s = lua_newuserdata(L, sizeof *s);
    memset(s, 0, sizeof *s);
    luaL_getmetatable(L, SERVER);
    lua_setmetatable(L, -2);
    pthread_mutex_init(&s->lock, NULL);
    lua_getfield(L, 1, "authority");
    if (!lua_isnil(L, -1)) s->context = server_context(L, 1);
    lua_pop(L, 1);
    s->step_count = (int)lua_objlen(L, 1);
    if (s->step_count > FAR_END_STEPS_MAX) return luaL_error(L, "too many steps");
    for (int i = 0; i < s->step_count; i++) {
        lua_rawgeti(L, 1, i + 1);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        size_t len = 0;
        const char *bytes = lua_tolstring(L, -1, &len);
        snprintf(s->steps[i].verb, sizeof s->steps[i].verb, "%s", lua_tostring(L, -2));
        if (bytes) {
            s->steps[i].bytes = malloc(len + 1);
            memcpy(s->steps[i].bytes, bytes, len + 1);
            s->steps[i].len = len;
        }
        lua_pop(L, 3);
    }
    if (!far_end_listen(s, 16)) return luaL_error(L, "cannot listen: %s", strerror(errno));
    s->running = true;
    if (pthread_create(&s->thread, NULL, far_end_main, s) != 0) abort();
    return 1;
}

static int l_server_port(lua_State *L)
{
    lua_pushnumber(L, ((struct far_end *)luaL_checkudata(L, 1, SERVER))->port);
    return 1;
}

/* server:saw(n): notes and received bytes of its n-th connection; nothing before there is one. */
static int l_server_saw(lua_State *L)
{
    struct far_end *s = luaL_checkudata(L, 1, SERVER);
    int n = (int)luaL_optinteger(L, 2, 1);
    pthread_mutex_lock(&s->lock);
    bool known = n <= s->link_count;
    if (known) {
        lua_pushstring(L, s->links[n - 1].notes);
        lua_pushlstring(L, s->links[n - 1].received ? s->links[n - 1].received : "",
                        s->links[n - 1].received_len);
    }
    pthread_mutex_unlock(&s->lock);
    return known ? 2 : 0;
}

static int l_server_stop(lua_State *L)
{
    far_end_stop(luaL_checkudata(L, 1, SERVER));
    return 0;
}

static int l_server_gc(lua_State *L)
{
    far_end_free(luaL_checkudata(L, 1, SERVER));
    return 0;
}

static const luaL_Reg server_methods[] = {
    { "port", l_server_port },
    { "saw", l_server_saw },
    { "stop", l_server_stop },
    { NULL, NULL },
};

/* A port of loopback that nobody listens on. */
static int l_free_port(lua_State *L)
{
    struct far_end s = { 0 };
    if (!far_end_listen(&s, 1)) return luaL_error(L, "cannot listen");
    close(s.listener);
    close(s.stop);
    lua_pushnumber(L, s.port);
    return 1;
}

/* A port of this address where connecting gets no answer: its queue is full. The descriptors are closed
 * by net.close_fds(). */
static int held_fds[64];
static int held_count;

static int l_silent_port(lua_State *L)
{
    struct sockaddr_in a = { .sin_family = AF_INET };
    socklen_t len = sizeof a;
    inet_pton(AF_INET, luaL_checkstring(L, 1), &a.sin_addr);
    int listener = held_fds[held_count++] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&a, len) != 0 || listen(listener, 0) != 0) return 0;
    getsockname(listener, (struct sockaddr *)&a, &len);
    while (held_count < 60) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        held_fds[held_count++] = fd;
        struct pollfd p = { fd, POLLOUT, 0 };
        if (connect(fd, (struct sockaddr *)&a, len) == 0) continue;
        if (poll(&p, 1, 100) == 0) {
            lua_pushnumber(L, ntohs(a.sin_port));
            return 1;
        }
    }
    return 0;
}

static int l_close_fds(lua_State *L)
{
    (void)L;
    while (held_count > 0) close(held_fds[--held_count]);
    return 0;
}

#endif
