/* modules: net engine base */
/* The real host for specs: `net.open{}` makes a loop with a net on it and records every call of the
 * sink as a table; `net.server{}` is the far end (net_far_end.h). Lua helpers: net_world.lua. */
#include <dirent.h>
#include <lauxlib.h>
#include <lua.h>
#include <uv.h>

#include "base/assert.h"
#include "net/net.h"
#include "net_far_end_lua.h"

#define WORLD "unit.net.world"

int luaopen_unit_net(lua_State *L);

struct world {
    lua_State *L;
    uv_loop_t loop;
    uv_timer_t bound;
    struct net *net;
    struct host host;
    int events;          /* registry reference of the list of what happened */
    bool quiet_bytes;    /* bytes are counted and compared with the pattern, not recorded */
    long consume_max;    /* -1: everything; otherwise so many bytes, then reading off */
    char abort_on[24];   /* abort the link from inside this report */
    uint64_t counted, pattern_errors;
    uint64_t send_link, send_at, send_total;
    uint64_t deadline_ms;
    uint64_t ticks, last_tick_ms;
    uint64_t tick_works_ms, tick_waits_ms; /* the next tick: CPU time that it takes, or time that it does not have the CPU */
    int depth;           /* > 0 while an op is being called: the sink must be silent */
    bool closed, timed_out;
};

static struct world *world_of(struct runtime *rt)
{
    struct world *w = (struct world *)(void *)rt;
    ASSERT(w->depth == 0); /* never from inside an op */
    return w;
}

/* ---- the sink: pushes { what, id, ... } to the list -------------------------------------------- */

static void begin(struct world *w, const char *what, uint64_t id)
{
    lua_State *L = w->L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, w->events);
    lua_newtable(L);
    lua_pushstring(L, what);
    lua_setfield(L, -2, "what");
    lua_pushnumber(L, (lua_Number)id);
    lua_setfield(L, -2, "id");
}

static void end(struct world *w, const char *what, uint64_t id)
{
    lua_State *L = w->L;
    lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
    lua_pop(L, 1);
    if (strcmp(what, w->abort_on) == 0) w->host.ops->link_abort(w->host.self, id);
}

static void push_cause(lua_State *L, const struct cause *c)
{
    lua_newtable(L);
    lua_pushstring(L, stage_name(c->stage));
    lua_setfield(L, -2, "stage");
    lua_pushstring(L, cause_kind_name(c->kind));
    lua_setfield(L, -2, "kind");
    lua_pushstring(L, c->name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, c->reason);
    lua_setfield(L, -2, "reason");
    lua_pushnumber(L, (lua_Number)c->code);
    lua_setfield(L, -2, "code");
    lua_pushnumber(L, c->http_status);
    lua_setfield(L, -2, "http_status");
    lua_pushstring(L, cause_by_name(c->by));
    lua_setfield(L, -2, "by");
}

static void sink_stage(struct runtime *rt, uint64_t id, enum stage stage)
{
    struct world *w = world_of(rt);
    begin(w, "stage", id);
    lua_pushstring(w->L, stage_name(stage));
    lua_setfield(w->L, -2, "stage");
    end(w, stage_name(stage), id);
}

static void sink_plain(struct runtime *rt, uint64_t id, const char *what)
{
    struct world *w = world_of(rt);
    begin(w, what, id);
    end(w, what, id);
}

static void sink_opened(struct runtime *rt, uint64_t id)
{
    sink_plain(rt, id, "opened");
}

static void feed(struct world *w)
{
    uint8_t piece[4096];
    while (w->send_at < w->send_total) {
        size_t n = w->send_total - w->send_at;
        if (n > sizeof piece) n = sizeof piece;
        for (size_t i = 0; i < n; i++) piece[i] = far_end_pattern(w->send_at + i);
        if (!w->host.ops->link_write(w->host.self, w->send_link, piece, n)) return;
        w->send_at += n;
    }
}

static size_t sink_bytes(struct runtime *rt, uint64_t id, uint8_t *bytes, size_t len)
{
    struct world *w = world_of(rt);
    size_t used = len;
    if (w->consume_max >= 0 && (size_t)w->consume_max < len) used = (size_t)w->consume_max;
    if (w->consume_max >= 0) w->host.ops->link_read(w->host.self, id, false);
    if (w->quiet_bytes) {
        for (size_t i = 0; i < used; i++) {
            if (bytes[i] != far_end_pattern(w->counted + i)) w->pattern_errors++;
        }
        w->counted += used;
    } else {
        begin(w, "bytes", id);
        lua_pushlstring(w->L, (const char *)bytes, used);
        lua_setfield(w->L, -2, "bytes");
        end(w, "bytes", id);
    }
    memset(bytes, '!', used); /* allowed, and must not show */
    return used;
}

static void sink_writable(struct runtime *rt, uint64_t id)
{
    struct world *w = world_of(rt);
    if (w->send_total && id == w->send_link) feed(w);
    else sink_plain(rt, id, "writable");
}

static void sink_drained(struct runtime *rt, uint64_t id)
{
    sink_plain(rt, id, "drained");
}

static void sink_ended(struct runtime *rt, uint64_t id, const struct cause *cause)
{
    struct world *w = world_of(rt);
    begin(w, "ended", id);
    push_cause(w->L, cause);
    lua_setfield(w->L, -2, "cause");
    end(w, "ended", id);
}

static void sink_closed(struct runtime *rt, uint64_t id)
{
    sink_plain(rt, id, "closed");
}

static void sink_http_done(struct runtime *rt, uint64_t id, const struct http_result *r)
{
    struct world *w = world_of(rt);
    begin(w, "http", id);
    lua_pushboolean(w->L, r->answered);
    lua_setfield(w->L, -2, "answered");
    lua_pushnumber(w->L, r->status);
    lua_setfield(w->L, -2, "status");
    lua_pushlstring(w->L, r->head ? r->head : "", r->head_len);
    lua_setfield(w->L, -2, "head");
    lua_pushlstring(w->L, r->body ? r->body : "", r->body_len);
    lua_setfield(w->L, -2, "body");
    push_cause(w->L, &r->cause);
    lua_setfield(w->L, -2, "cause");
    end(w, "http", id);
}

static const struct host_sink sink = {
    .link_stage = sink_stage,
    .link_opened = sink_opened,
    .link_bytes = sink_bytes,
    .link_writable = sink_writable,
    .link_drained = sink_drained,
    .link_ended = sink_ended,
    .link_closed = sink_closed,
    .http_done = sink_http_done,
};

/* ---- the world --------------------------------------------------------------------------------- */

static uint64_t cpu_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void tick(struct runtime *rt)
{
    struct world *w = world_of(rt);
    struct clock now;
    w->host.ops->clock(w->host.self, &now);
    w->ticks++;
    w->last_tick_ms = now.mono_ms;
    for (uint64_t until_ms = cpu_ms() + w->tick_works_ms; w->tick_works_ms && cpu_ms() < until_ms;) continue;
    if (w->tick_waits_ms) poll(NULL, 0, (int)w->tick_waits_ms);
    w->tick_works_ms = w->tick_waits_ms = 0;
    if (w->deadline_ms <= now.mono_ms) w->deadline_ms = NET_DEADLINE_NEVER;
}

static uint64_t deadline_ms(struct runtime *rt)
{
    return world_of(rt)->deadline_ms;
}

static void on_bound(uv_timer_t *timer)
{
    ((struct world *)timer->data)->timed_out = true;
}

static void on_net_closed(void *data)
{
    ((struct world *)data)->closed = true;
}

static struct world *check_world(lua_State *L)
{
    struct world *w = luaL_checkudata(L, 1, WORLD);
    w->L = L;
    return w;
}

static uint64_t check_id(lua_State *L)
{
    return (uint64_t)luaL_checknumber(L, 2);
}

static int l_open(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct net_options options = { .system_ca_file = field(L, 1, "system_ca_file"),
                                   .resolve_ttl_ms = (uint64_t)number(L, 1, "resolve_ttl_ms", 0),
                                   .attempt_ms = (uint64_t)number(L, 1, "attempt_ms", 0),
                                   .ca_look_ms = (uint64_t)number(L, 1, "ca_look_ms", 0) };
    struct world *w = lua_newuserdata(L, sizeof *w);
    memset(w, 0, sizeof *w);
    luaL_getmetatable(L, WORLD);
    lua_setmetatable(L, -2);
    w->consume_max = -1;
    w->deadline_ms = NET_DEADLINE_NEVER;
    w->L = L;
    uv_loop_init(&w->loop);
    uv_timer_init(&w->loop, &w->bound);
    w->bound.data = w;
    w->net = net_create(&w->loop, &sink, &options);
    ASSERT(w->net != NULL);
    w->host = net_host(w->net);
    net_set_runtime(w->net, (struct runtime *)(void *)w, tick, deadline_ms);
    lua_newtable(L);
    w->events = luaL_ref(L, LUA_REGISTRYINDEX);
    return 1;
}

/* world:step(ms): one pass of the loop, which waits at most so long. Returns whether time was out. */
static int l_step(lua_State *L)
{
    struct world *w = check_world(L);
    uint64_t ms = (uint64_t)luaL_checknumber(L, 2);
    w->timed_out = false;
    uv_update_time(&w->loop);
    /* Repeating: one that is due before the loop polls would leave it to wait for ever. */
    if (ms) uv_timer_start(&w->bound, on_bound, ms, ms);
    uv_run(&w->loop, ms ? UV_RUN_ONCE : UV_RUN_NOWAIT);
    uv_timer_stop(&w->bound);
    lua_pushboolean(L, w->timed_out);
    return 1;
}

/* world:events(): what happened since the last call. */
static int l_events(lua_State *L)
{
    struct world *w = check_world(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, w->events);
    lua_newtable(L);
    lua_rawseti(L, LUA_REGISTRYINDEX, w->events);
    return 1;
}

static int l_link(lua_State *L)
{
    struct world *w = check_world(L);
    uint64_t id = check_id(L);
    struct link_target t = { .host = field(L, 3, "host"),
                             .port = (uint16_t)number(L, 3, "port", 0),
                             .ca_file = field(L, 3, "ca_file"),
                             .proxy = { .host = field(L, 3, "proxy_host"),
                                        .port = (uint16_t)number(L, 3, "proxy_port", 0),
                                        .authorization = field(L, 3, "proxy_authorization") } };
    lua_getfield(L, 3, "tls");
    t.tls = lua_toboolean(L, -1);
    w->depth++;
    lua_pushboolean(L, w->host.ops->link_open(w->host.self, id, &t));
    w->depth--;
    return 1;
}

static int l_write(lua_State *L)
{
    struct world *w = check_world(L);
    size_t len;
    uint64_t id = check_id(L);
    const char *bytes = luaL_checklstring(L, 3, &len);
    w->depth++;
    lua_pushboolean(L, w->host.ops->link_write(w->host.self, id, bytes, len));
    w->depth--;
    return 1;
}

static int l_queued(lua_State *L)
{
    struct world *w = check_world(L);
    lua_pushnumber(L, (lua_Number)w->host.ops->link_queued(w->host.self, check_id(L)));
    return 1;
}

static int l_read(lua_State *L)
{
    struct world *w = check_world(L);
    w->depth++;
    w->host.ops->link_read(w->host.self, check_id(L), lua_toboolean(L, 3));
    w->depth--;
    return 0;
}

static int call_op(lua_State *L, void (*op)(void *, uint64_t))
{
    struct world *w = check_world(L);
    w->depth++;
    op(w->host.self, check_id(L));
    w->depth--;
    return 0;
}

static int l_drain(lua_State *L)
{
    return call_op(L, check_world(L)->host.ops->link_drain);
}

static int l_finish(lua_State *L)
{
    return call_op(L, check_world(L)->host.ops->link_finish);
}

static int l_abort(lua_State *L)
{
    return call_op(L, check_world(L)->host.ops->link_abort);
}

static int l_cancel(lua_State *L)
{
    return call_op(L, check_world(L)->host.ops->http_cancel);
}

static int l_http(lua_State *L)
{
    struct world *w = check_world(L);
    struct http_header headers[16];
    struct http_request r = { .method = field(L, 3, "method"),
                              .url = field(L, 3, "url"),
                              .headers = headers,
                              .body = field(L, 3, "body"),
                              .timeout_ms = (uint64_t)number(L, 3, "timeout_ms", 5000),
                              .body_bytes_max = (uint64_t)number(L, 3, "body_bytes_max", 65536),
                              .ca_file = field(L, 3, "ca_file"),
                              .proxy = { .host = field(L, 3, "proxy_host"),
                                         .port = (uint16_t)number(L, 3, "proxy_port", 0),
                                         .authorization = field(L, 3, "proxy_authorization") } };
    r.body_len = r.body ? strlen(r.body) : 0;
    lua_getfield(L, 3, "headers");
    if (lua_istable(L, -1)) {
        for (lua_pushnil(L); lua_next(L, -2) && r.header_count < 16; lua_pop(L, 1)) {
            headers[r.header_count].name = lua_tostring(L, -2);
            headers[r.header_count++].value = lua_tostring(L, -1);
        }
    }
    w->depth++;
    lua_pushboolean(L, w->host.ops->http_start(w->host.self, check_id(L), &r));
    w->depth--;
    return 1;
}

static int l_wake(lua_State *L)
{
    struct world *w = check_world(L);
    w->depth++;
    w->host.ops->wake(w->host.self);
    w->depth--;
    return 0;
}

static int l_clock(lua_State *L)
{
    struct world *w = check_world(L);
    struct clock c;
    w->host.ops->clock(w->host.self, &c);
    lua_pushnumber(L, (lua_Number)c.mono_ms);
    lua_pushnumber(L, (lua_Number)c.boot_ms);
    lua_pushnumber(L, (lua_Number)c.wall_ms);
    return 3;
}

static int l_random(lua_State *L)
{
    struct world *w = check_world(L);
    char bytes[64];
    size_t len = (size_t)luaL_optinteger(L, 2, sizeof bytes);
    luaL_argcheck(L, len <= sizeof bytes, 2, "too many");
    w->host.ops->random(w->host.self, bytes, len);
    lua_pushlstring(L, bytes, len);
    return 1;
}

/* world:set{ consume_max, quiet_bytes, abort_on, deadline_ms } */
static int l_set(lua_State *L)
{
    struct world *w = check_world(L);
    w->consume_max = (long)number(L, 2, "consume_max", (double)w->consume_max);
    lua_getfield(L, 2, "quiet_bytes");
    if (!lua_isnil(L, -1)) w->quiet_bytes = lua_toboolean(L, -1);
    const char *abort_on = field(L, 2, "abort_on");
    if (abort_on) snprintf(w->abort_on, sizeof w->abort_on, "%s", abort_on);
    double deadline = number(L, 2, "deadline_ms", -1);
    if (deadline >= 0) w->deadline_ms = (uint64_t)deadline;
    w->tick_works_ms = (uint64_t)number(L, 2, "tick_works_ms", 0);
    w->tick_waits_ms = (uint64_t)number(L, 2, "tick_waits_ms", 0);
    return 0;
}

/* world:pretend(name, { address, ... }) */
static int l_pretend(lua_State *L)
{
    struct world *w = check_world(L);
    const char *addresses[8];
    uint32_t count = (uint32_t)lua_objlen(L, 3);
    for (uint32_t i = 0; i < count && i < 8; i++) {
        lua_rawgeti(L, 3, (int)i + 1);
        addresses[i] = lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    net_pretend_addresses(w->net, luaL_checkstring(L, 2), addresses, count);
    return 0;
}

/* world:send_pattern(id, bytes): keeps the link's queue full until all is written. */
static int l_send_pattern(lua_State *L)
{
    struct world *w = check_world(L);
    w->send_link = check_id(L);
    w->send_at = 0;
    w->send_total = (uint64_t)luaL_checknumber(L, 3);
    w->depth++;
    feed(w);
    w->depth--;
    return 0;
}

static int l_counts(lua_State *L)
{
    struct world *w = check_world(L);
    struct net_counts c = net_counts(w->net);
    lua_newtable(L);
#define COUNT(name, value) (lua_pushnumber(L, (lua_Number)(value)), lua_setfield(L, -2, name))
    COUNT("links", c.links);
    COUNT("calls", c.calls);
    COUNT("handshakes", c.handshakes);
    COUNT("handshakes_resumed", c.handshakes_resumed);
    COUNT("lookups", c.lookups);
    COUNT("lookups_shared", c.lookups_shared);
    COUNT("bytes_in", c.bytes_in);
    COUNT("bytes_out", c.bytes_out);
    COUNT("counted", w->counted);
    COUNT("pattern_errors", w->pattern_errors);
    COUNT("ticks", w->ticks);
    COUNT("last_tick_ms", w->last_tick_ms);
    COUNT("lag_ms", net_lag_ms(w->net));
    struct host host = net_host(w->net);
    struct host_loop_delay delay;
    host.ops->loop_delay(host.self, &delay);
    COUNT("delay_last_us", delay.last_us);
    COUNT("delay_worst_us", delay.worst_us);
    COUNT("busy_worst_us", delay.worst_busy_us);
    COUNT("engine_worst_us", delay.part_worst_us[HOST_LOOP_ENGINE]);
    COUNT("engine_busy_worst_us", delay.part_worst_busy_us[HOST_LOOP_ENGINE]);
#undef COUNT
    return 1;
}

/* Closes the net, runs the loop dry; true when nothing was left in it. */
static int l_world_close(lua_State *L)
{
    struct world *w = check_world(L);
    if (!w->net) return 0;
    net_close(w->net, on_net_closed, w);
    w->net = NULL;
    uv_close((uv_handle_t *)&w->bound, NULL);
    for (int i = 0; i < 1000 && uv_run(&w->loop, UV_RUN_ONCE); i++) {
    }
    luaL_unref(L, LUA_REGISTRYINDEX, w->events);
    bool clean = w->closed && uv_loop_close(&w->loop) == 0;
    lua_pushboolean(L, clean);
    return 1;
}

static const luaL_Reg world_methods[] = {
    { "step", l_step },       { "events", l_events },   { "link", l_link },
    { "write", l_write },     { "queued", l_queued },   { "read", l_read },
    { "drain", l_drain },     { "finish", l_finish },   { "abort", l_abort },
    { "cancel", l_cancel },   { "http", l_http },       { "wake", l_wake },
    { "clock", l_clock },     { "random", l_random },   { "set", l_set },
    { "counts", l_counts },   { "close", l_world_close }, { "send_pattern", l_send_pattern },
    { "pretend", l_pretend }, { NULL, NULL },
};

/* ---- the module -------------------------------------------------------------------------------- */

static int l_fd_count(lua_State *L)
{
    int count = -1; /* the one that reads the folder */
    DIR *folder = opendir("/proc/self/fd");
    for (struct dirent *e; (e = readdir(folder)) != NULL;) count += e->d_name[0] != '.';
    closedir(folder);
    lua_pushnumber(L, count);
    return 1;
}

static int l_mark_hits(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)mark_hits(luaL_checkstring(L, 1)));
    return 1;
}

static const luaL_Reg functions[] = {
    { "open", l_open },         { "server", l_server },       { "authority", l_authority },
    { "fd_count", l_fd_count }, { "free_port", l_free_port },
    { "mark_hits", l_mark_hits }, { "silent_port", l_silent_port }, { "close_fds", l_close_fds },
    { NULL, NULL },
};

static void define(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc)
{
    luaL_newmetatable(L, name);
    lua_newtable(L);
    if (methods) luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    if (gc) {
        lua_pushcfunction(L, gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_pop(L, 1);
}

int luaopen_unit_net(lua_State *L)
{
    define(L, WORLD, world_methods, NULL);
    define(L, SERVER, server_methods, l_server_gc);
    define(L, AUTHORITY, NULL, l_authority_gc);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
