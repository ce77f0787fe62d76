/* Peers of a test: scripted platform servers in the world, and the mute one. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "sim/module_internal.h"

static void on_http(void *self, const struct peer_request *r)
{
    peer_http(self, r);
}

static enum peer_upgrade on_upgrade(void *self, const struct peer_request *r)
{
    return peer_upgrade(self, r);
}

static void on_opened(void *self, uint64_t ws)
{
    peer_opened(self, ws);
}

static void on_message(void *self, uint64_t ws, bool text, const void *data, size_t len)
{
    peer_message(self, ws, text, data, len);
}

static void on_closed(void *self, uint64_t ws, uint16_t code)
{
    peer_closed(self, ws, code);
}

static void on_timer(void *self, uint64_t timer)
{
    peer_timer(self, timer);
}

static const struct server_ops peer_ops = { on_http,    on_upgrade, on_opened,
                                            on_message, on_closed,  on_timer };

/* s:peer(name, url, options): the server's number, or nil and why. */
static int l_peer(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    const char *name = luaL_checkstring(L, 2), *url = luaL_checkstring(L, 3);
    bool tls = strncmp(url, "https:", 6) == 0;
    struct value options = lua_istable(L, 4) ? sim__to_value(L, 4) : value_table();
    uint32_t server = world_add_server(s->world, name, tls);
    s->peers = realloc(s->peers, (s->peer_count + 1) * sizeof *s->peers);
    ASSERT(s->peers != NULL);
    struct sim_peer *p = &s->peers[s->peer_count++];
    *p = (struct sim_peer){ .server = server };
    if (strcmp(name, "mute") == 0) {
        const struct value *echo = value_get(&options, "echo");
        world_server_mute(s->world, server, echo && echo->kind == VALUE_BOOL && echo->boolean,
                          value_get_text(&options, "url"));
        value_clear(&options);
        lua_pushnumber(L, server);
        return 1;
    }
    char why[1024] = "";
    struct peer_options peer = { .name = name,
                                 .lua_path = s->lua_path,
                                 .base_url = url,
                                 .options = &options,
                                 .seed = rng_draw(s->seed, hash_text("peer"), server, 0),
                                 .port = world_server_port(s->world, server) };
    p->peer = peer_create(&peer, why, sizeof why);
    value_clear(&options);
    if (!p->peer) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    world_server_ops(s->world, server, &peer_ops, p->peer);
    lua_pushnumber(L, server);
    return 1;
}

void sim__peers_free(struct sim *s)
{
    for (uint32_t i = 0; i < s->peer_count; i++) {
        if (s->peers[i].peer) peer_destroy(s->peers[i].peer);
    }
    free(s->peers);
}

static struct sim_peer *check_peer(struct sim *s, lua_State *L, int index)
{
    uint32_t server = (uint32_t)luaL_checknumber(L, index);
    for (uint32_t i = 0; i < s->peer_count; i++) {
        if (s->peers[i].server == server) return &s->peers[i];
    }
    luaL_argerror(L, index, "no such peer");
    return NULL;
}

/* s:control(server, verb, argument): true and the answer, or nil and why. */
static int l_control(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct sim_peer *p = check_peer(s, L, 2);
    const char *verb = luaL_checkstring(L, 3);
    if (!p->peer) return luaL_error(L, "a mute peer takes no orders");
    struct value argument = lua_isnoneornil(L, 4) ? value_nil() : sim__to_value(L, 4);
    struct value answer = value_nil();
    char why[512] = "";
    bool ok = peer_control(p->peer, verb, &argument, &answer, why, sizeof why);
    value_clear(&argument);
    if (!ok) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    lua_pushboolean(L, true);
    sim__push_value(L, &answer);
    value_clear(&answer);
    return 2;
}

/* s:peer_error(): the first error of a peer's own script since the last call, or nil. A peer that raised
 * is a broken test, whatever the runtime made of it. */
static int l_peer_error(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    for (uint32_t i = 0; i < s->peer_count; i++) {
        const char *error = s->peers[i].peer ? peer_error(s->peers[i].peer) : NULL;
        if (!error) continue;
        lua_pushstring(L, error);
        return 1;
    }
    return 0;
}

static int l_name(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    const char *name = luaL_checkstring(L, 2);
    world_name(s->world, name, (uint32_t)luaL_optnumber(L, 3, 0));
    return 0;
}

static int l_server(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct server_view v;
    if (!world_server_get(s->world, (uint32_t)luaL_checknumber(L, 2), &v)) return 0;
    lua_newtable(L);
    lua_pushnumber(L, v.streams);
    lua_setfield(L, -2, "streams");
    lua_pushnumber(L, v.ghosts);
    lua_setfield(L, -2, "ghosts");
    lua_pushnumber(L, (double)v.upgrades_total);
    lua_setfield(L, -2, "upgrades");
    lua_pushnumber(L, (double)v.requests_total);
    lua_setfield(L, -2, "requests");
    lua_pushnumber(L, (double)v.messages_total);
    lua_setfield(L, -2, "messages");
    return 1;
}

const luaL_Reg sim__peer_methods[] = {
    { "peer", l_peer }, { "control", l_control }, { "name", l_name }, { "server", l_server },
    { "peer_error", l_peer_error },
    { NULL, NULL }
};
