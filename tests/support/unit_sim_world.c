/* modules: sim store frame crypto engine base */
/* The simulated world without a runtime: a sink that writes down what the host reports, a server that
 * writes down what it sees, and both ends' verbs for Lua. Reports are lines in w:log(). */
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/idmap.h"
#include "sim/world.h"
#include "frame/ws.h"

#define WORLD_MT "unit.sim_world"

struct box {
    struct world *w;
    struct buffer log;
    struct buffer seen[64]; /* bytes per link id below 64 */
    uint64_t deadline_ms;   /* mono */
    size_t take_max;        /* link_bytes takes so many, then link_read(off); 0: all */
    enum peer_upgrade answer;
    struct peer_port port;
    uint64_t last_ws, last_request;
    bool server_silent;
};

static struct box *box_of(lua_State *L)
{
    return *(struct box **)luaL_checkudata(L, 1, WORLD_MT);
}

static void note(struct box *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(struct box *b, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    buffer_printf(&b->log, "%llu %s\n", (unsigned long long)world_now_ms(b->w), line);
}

/* The "runtime" of this module is the box itself. */
static struct box *of(struct runtime *rt)
{
    return (struct box *)(void *)rt;
}

static void on_stage(struct runtime *rt, uint64_t link, enum stage stage)
{
    note(of(rt), "stage %llu %s", (unsigned long long)link, stage_name(stage));
}

static void on_opened(struct runtime *rt, uint64_t link)
{
    note(of(rt), "opened %llu", (unsigned long long)link);
}

static size_t on_bytes(struct runtime *rt, uint64_t link, uint8_t *bytes, size_t len)
{
    struct box *b = of(rt);
    size_t take = b->take_max && b->take_max < len ? b->take_max : len;
    if (link < 64) buffer_append(&b->seen[link], bytes, take);
    note(b, "bytes %llu %zu", (unsigned long long)link, take);
    if (take < len) {
        struct host host = world_host(b->w);
        host.ops->link_read(host.self, link, false);
    }
    memset(bytes, 0xee, take); /* host.h: the runtime may change them */
    return take;
}

static void on_writable(struct runtime *rt, uint64_t link)
{
    note(of(rt), "writable %llu", (unsigned long long)link);
}

static void on_drained(struct runtime *rt, uint64_t link)
{
    note(of(rt), "drained %llu", (unsigned long long)link);
}

static void on_ended(struct runtime *rt, uint64_t link, const struct cause *cause)
{
    note(of(rt), "ended %llu %s at %s", (unsigned long long)link, cause->name,
         stage_name(cause->stage));
}

static void on_closed(struct runtime *rt, uint64_t link)
{
    note(of(rt), "closed %llu", (unsigned long long)link);
}

static void on_http(struct runtime *rt, uint64_t call, const struct http_result *r)
{
    if (r->answered) {
        note(of(rt), "http %llu %d %.*s", (unsigned long long)call, r->status, (int)r->body_len,
             r->body);
    } else {
        note(of(rt), "http %llu %s", (unsigned long long)call, r->cause.name);
    }
}

static const struct host_sink sink = { on_stage,   on_opened, on_bytes,  on_writable,
                                       on_drained, on_ended,  on_closed, on_http };

static void on_tick(void *self)
{
    struct box *b = self;
    struct clock now = world_clock(b->w);
    if (b->deadline_ms <= now.mono_ms) {
        b->deadline_ms = UINT64_MAX;
        note(b, "tick mono %llu boot %llu wall %llu", (unsigned long long)now.mono_ms,
             (unsigned long long)now.boot_ms, (unsigned long long)now.wall_ms);
    }
}

static uint64_t on_deadline(void *self)
{
    struct box *b = self;
    return b->deadline_ms;
}

static void on_stored(void *self, uint64_t ticket, bool ok)
{
    note(self, "stored %llu %s", (unsigned long long)ticket, ok ? "ok" : "failed");
}

static void on_owner(void *self, uint64_t link, const struct link_target *target,
                     struct link_owner *out)
{
    (void)self;
    (void)target;
    snprintf(out->connection, sizeof out->connection, "c%llu", (unsigned long long)(link % 10));
    out->identity = 100 + link % 10;
    out->generation = (uint32_t)link;
}

static void srv_http(void *self, const struct peer_request *r)
{
    struct box *b = self;
    b->last_request = r->id;
    note(b, "server http %s %s host %s body %zu", r->method, r->target, r->host, r->body_len);
    if (!b->server_silent) b->port.respond(b->port.self, r->id, 200, "X-A: b\r\n", "fine", 4);
}

static enum peer_upgrade srv_upgrade(void *self, const struct peer_request *r)
{
    struct box *b = self;
    b->last_ws = r->id;
    note(b, "server upgrade %s host %s", r->target, r->host);
    if (b->answer == PEER_ANSWERED) {
        b->port.respond(b->port.self, r->id, 503, "Retry-After: 3\r\n", "busy", 4);
    }
    return b->answer;
}

static void srv_opened(void *self, uint64_t ws)
{
    struct box *b = self;
    b->last_ws = ws;
    note(b, "server opened");
}

static void srv_message(void *self, uint64_t ws, bool text, const void *data, size_t len)
{
    struct box *b = self;
    b->last_ws = ws;
    note(b, "server %s %zu %.*s", text ? "text" : "binary", len, (int)(len < 64 ? len : 64),
         (const char *)data);
}

static void srv_closed(void *self, uint64_t ws, uint16_t code)
{
    (void)ws;
    note(self, "server closed %u", (unsigned)code);
}

static void srv_timer(void *self, uint64_t timer)
{
    note(self, "server timer %llu", (unsigned long long)timer);
}

static const struct server_ops server = { srv_http,    srv_upgrade, srv_opened,
                                          srv_message, srv_closed,  srv_timer };

static struct machine machine_of(struct box *b)
{
    return (struct machine){ .self = b, .sink = &sink, .rt = (struct runtime *)(void *)b,
                             .tick = on_tick, .deadline_ms = on_deadline, .stored = on_stored,
                             .owner = on_owner };
}

static void boot(lua_State *L, struct box *b)
{
    enum store_open result;
    char why[300];
    struct machine m = machine_of(b);
    if (!world_store_open(b->w, &result, why, sizeof why)) luaL_error(L, "%s", why);
    world_boot(b->w, &m);
}

/* new(seed, latency_ms, memory) */
static int l_new(lua_State *L)
{
    struct world_options options = { .wall_ms = 1700000000000u, .latency_ms = 20,
                                     .trace_whole = true };
    options.seed = (uint64_t)luaL_optnumber(L, 1, 1);
    if (lua_isnumber(L, 2)) options.latency_ms = (uint64_t)lua_tonumber(L, 2);
    options.memory_store = lua_toboolean(L, 3);
    struct box *b = calloc(1, sizeof *b);
    struct box **p = lua_newuserdata(L, sizeof *p);
    *p = b;
    luaL_getmetatable(L, WORLD_MT);
    lua_setmetatable(L, -2);
    b->w = world_create(&options);
    b->deadline_ms = UINT64_MAX;
    uint32_t tls = world_add_server(b->w, "tls", true);
    uint32_t plain = world_add_server(b->w, "plain", false);
    uint32_t mute = world_add_server(b->w, "mute", true);
    b->port = world_server_port(b->w, tls);
    world_server_ops(b->w, tls, &server, b);
    world_server_ops(b->w, plain, &server, b);
    world_server_mute(b->w, mute, true, "wss://mute.test/ws");
    world_name(b->w, "a.test", tls);
    world_name(b->w, "plain.test", plain);
    world_name(b->w, "mute.test", mute);
    boot(L, b);
    return 1;
}

static int l_gc(lua_State *L)
{
    struct box **p = luaL_checkudata(L, 1, WORLD_MT);
    if (!*p) return 0;
    world_destroy((*p)->w);
    buffer_deinit(&(*p)->log);
    for (int i = 0; i < 64; i++) buffer_deinit(&(*p)->seen[i]);
    free(*p);
    *p = NULL;
    return 0;
}

static uint64_t id_at(lua_State *L, int index)
{
    return (uint64_t)luaL_checknumber(L, index);
}

static int l_open(lua_State *L)
{
    struct box *b = box_of(L);
    struct link_target t = { .host = luaL_checkstring(L, 3), .port = 443, .tls = true };
    if (lua_isboolean(L, 4)) t.tls = lua_toboolean(L, 4);
    struct host h = world_host(b->w);
    lua_pushboolean(L, h.ops->link_open(h.self, id_at(L, 2), &t));
    return 1;
}

static int l_write(lua_State *L)
{
    struct box *b = box_of(L);
    size_t len;
    const char *bytes = luaL_checklstring(L, 3, &len);
    struct host h = world_host(b->w);
    lua_pushboolean(L, h.ops->link_write(h.self, id_at(L, 2), bytes, len));
    return 1;
}

static int l_queued(lua_State *L)
{
    struct host h = world_host(box_of(L)->w);
    lua_pushnumber(L, (double)h.ops->link_queued(h.self, id_at(L, 2)));
    return 1;
}

static int l_read(lua_State *L)
{
    struct host h = world_host(box_of(L)->w);
    h.ops->link_read(h.self, id_at(L, 2), lua_toboolean(L, 3));
    return 0;
}

static int l_take(lua_State *L)
{
    box_of(L)->take_max = (size_t)luaL_checknumber(L, 2);
    return 0;
}

static int l_do(lua_State *L)
{
    static const char *const names[] = { "drain", "finish", "abort", NULL };
    struct host h = world_host(box_of(L)->w);
    uint64_t id = id_at(L, 2);
    switch (luaL_checkoption(L, 3, NULL, names)) {
    case 0: h.ops->link_drain(h.self, id); break;
    case 1: h.ops->link_finish(h.self, id); break;
    default: h.ops->link_abort(h.self, id); break;
    }
    return 0;
}

static int l_http(lua_State *L)
{
    struct host h = world_host(box_of(L)->w);
    struct http_header header = { "X-Token", "t" };
    struct http_request r = { .method = "GET", .url = luaL_checkstring(L, 3), .headers = &header,
                              .header_count = 1, .timeout_ms = (uint64_t)luaL_optnumber(L, 4, 10000),
                              .body_bytes_max = (uint64_t)luaL_optnumber(L, 5, 1 << 20) };
    lua_pushboolean(L, h.ops->http_start(h.self, id_at(L, 2), &r));
    return 1;
}

static int l_http_cancel(lua_State *L)
{
    struct host h = world_host(box_of(L)->w);
    h.ops->http_cancel(h.self, id_at(L, 2));
    return 0;
}

static int l_run(lua_State *L)
{
    struct box *b = box_of(L);
    static const char *const names[] = { "on", "time", "user", "stopped", "stuck" };
    uint64_t user = 0;
    enum world_ran ran = world_run(b->w, world_now_ms(b->w) + (uint64_t)luaL_checknumber(L, 2), false,
                                   &user);
    lua_pushstring(L, names[ran]);
    lua_pushnumber(L, (double)user);
    return 2;
}

static int l_user_at(lua_State *L)
{
    struct box *b = box_of(L);
    world_user_at(b->w, (uint64_t)luaL_checknumber(L, 2), id_at(L, 3));
    return 0;
}

static int l_deadline(lua_State *L)
{
    struct box *b = box_of(L);
    b->deadline_ms = world_clock(b->w).mono_ms + (uint64_t)luaL_checknumber(L, 2);
    struct host h = world_host(b->w);
    h.ops->wake(h.self);
    return 0;
}

static int l_log(lua_State *L)
{
    struct box *b = box_of(L);
    lua_pushlstring(L, (const char *)b->log.data, b->log.len);
    buffer_clear(&b->log);
    return 1;
}

static int l_seen(lua_State *L)
{
    struct box *b = box_of(L);
    uint64_t id = id_at(L, 2);
    luaL_argcheck(L, id < 64, 2, "below 64");
    lua_pushlstring(L, (const char *)b->seen[id].data, b->seen[id].len);
    buffer_clear(&b->seen[id]);
    return 1;
}

static int l_fault(lua_State *L)
{
    struct box *b = box_of(L);
    struct fault f;
    memset(&f, 0, sizeof f);
    luaL_argcheck(L, fault_parse(luaL_checkstring(L, 2), &f.kind), 2, "fault");
    luaL_checktype(L, 3, LUA_TTABLE);
    const char *text;
#define NUMBER(key, otherwise) (lua_getfield(L, 3, key), luaL_optnumber(L, -1, otherwise))
#define TEXT(key) (lua_getfield(L, 3, key), lua_tostring(L, -1))
    f.ms = (uint64_t)NUMBER("ms", 0);
    f.bytes = (uint64_t)NUMBER("bytes", 0);
    f.status = (int)NUMBER("status", 0);
    f.times = (uint32_t)NUMBER("times", (double)FAULT_TIMES_EVER);
    f.probability = NUMBER("probability", 1);
    f.what = (uint32_t)NUMBER("what", FAULT_ON_LINKS | FAULT_ON_CALLS);
    if ((text = TEXT("host"))) snprintf(f.host, sizeof f.host, "%s", text);
    if ((text = TEXT("connection"))) snprintf(f.connection, sizeof f.connection, "%s", text);
    if ((text = TEXT("peer"))) snprintf(f.peer, sizeof f.peer, "%s", text);
    if ((text = TEXT("stage"))) stage_parse(text, &f.stage);
    if ((text = TEXT("headers"))) f.headers = strdup(text);
    if ((text = TEXT("body"))) f.body = strdup(text);
    lua_pushnumber(L, world_fault(b->w, &f));
    return 1;
}

static int l_fault_off(lua_State *L)
{
    lua_pushboolean(L, world_fault_off(box_of(L)->w, (uint32_t)luaL_checknumber(L, 2)));
    return 1;
}

static int l_heal(lua_State *L)
{
    world_heal(box_of(L)->w);
    return 0;
}

static int l_freeze(lua_State *L)
{
    struct box *b = box_of(L);
    if (lua_toboolean(L, 3)) world_suspend(b->w, (uint64_t)luaL_checknumber(L, 2));
    else world_stall(b->w, (uint64_t)luaL_checknumber(L, 2));
    return 0;
}

static int l_step_wall(lua_State *L)
{
    world_step_wall(box_of(L)->w, (int64_t)luaL_checknumber(L, 2));
    return 0;
}

static int l_clock(lua_State *L)
{
    struct clock c = world_clock(box_of(L)->w);
    lua_pushnumber(L, (double)c.mono_ms);
    lua_pushnumber(L, (double)c.boot_ms);
    lua_pushnumber(L, (double)c.wall_ms);
    return 3;
}

static int l_now(lua_State *L)
{
    lua_pushnumber(L, (double)world_now_ms(box_of(L)->w));
    return 1;
}

/* w:server(verb, ...): the port of the peer, on its newest socket */
static int l_server(lua_State *L)
{
    struct box *b = box_of(L);
    static const char *const verbs[] = { "accept", "answer", "silent", "send", "ping", "close",
                                         "abort", "deaf", "hear", "timer", "timer_stop", NULL };
    size_t len;
    const char *text;
    switch (luaL_checkoption(L, 2, NULL, verbs)) {
    case 0: b->answer = PEER_ACCEPT; break;
    case 1: b->answer = PEER_ANSWERED; break;
    case 2: b->answer = PEER_SILENT; b->server_silent = true; break;
    case 3:
        text = luaL_checklstring(L, 3, &len);
        b->port.ws_send(b->port.self, b->last_ws, true, text, len);
        break;
    case 4: b->port.ws_ping(b->port.self, b->last_ws); break;
    case 5:
        b->port.ws_close(b->port.self, b->last_ws, (uint16_t)luaL_checknumber(L, 3),
                         luaL_optstring(L, 4, NULL));
        break;
    case 6: b->port.ws_abort(b->port.self, b->last_ws); break;
    case 7: b->port.ws_deaf(b->port.self, b->last_ws, true); break;
    case 8: b->port.ws_deaf(b->port.self, b->last_ws, false); break;
    case 9: b->port.timer(b->port.self, id_at(L, 3), (uint64_t)luaL_checknumber(L, 4)); break;
    default: b->port.timer_stop(b->port.self, id_at(L, 3)); break;
    }
    return 0;
}

static enum store_op op_at(lua_State *L, int index)
{
    static const char *const names[] = { "permit", "permit_return", "session", "keep", "event", NULL };
    static const enum store_op ops[] = { STORE_OP_PERMIT, STORE_OP_PERMIT_RETURN, STORE_OP_SESSION,
                                         STORE_OP_KEEP, STORE_OP_EVENT };
    return ops[luaL_checkoption(L, index, NULL, names)];
}

static int l_store(lua_State *L)
{
    struct box *b = box_of(L);
    size_t len = 0;
    const char *bytes = lua_tolstring(L, 5, &len);
    struct store_request r = { .op = op_at(L, 2),
                               .ticket = id_at(L, 3), .connection = luaL_checkstring(L, 4),
                               .bytes = bytes, .len = len, .wall_ms = id_at(L, 3) };
    if (r.op == STORE_OP_EVENT) {
        r.offset = id_at(L, 5);
        r.epoch = world_store_epoch(b->w);
        r.bytes = "{}\n";
        r.len = 3;
    }
    struct store st = world_store(b->w);
    lua_pushboolean(L, st.ops->submit(st.self, &r));
    return 1;
}

static int l_disk(lua_State *L)
{
    struct box *b = box_of(L);
    enum store_op op = op_at(L, 2);
    struct disk_record record;
    struct world_store_counts counts;
    if (op == STORE_OP_PERMIT) {
        world_store_counts(b->w, &counts);
        lua_pushnumber(L, counts.permits);
    } else if (op == STORE_OP_EVENT) {
        lua_pushnumber(L, (double)world_disk_safe(b->w, luaL_checkstring(L, 3)));
    } else if (world_disk_get(b->w, op, luaL_checkstring(L, 3), &record)) {
        lua_pushlstring(L, record.bytes, record.len);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

static int l_crash(lua_State *L)
{
    struct box *b = box_of(L);
    world_unplug(b->w, lua_toboolean(L, 2) ? GONE_POWER : GONE_CRASH);
    return 0;
}

static int l_boot(lua_State *L)
{
    struct box *b = box_of(L);
    boot(L, b);
    return 0;
}

/* w:lost(): what the last boot found missing on disk, or nil. */
static int l_lost(lua_State *L)
{
    lua_pushstring(L, world_store_lost(box_of(L)->w));
    return 1;
}

static int l_counts(lua_State *L)
{
    struct box *b = box_of(L);
    struct world_counts c;
    uint32_t most = 0;
    world_counts(b->w, &c);
    lua_newtable(L);
    lua_pushnumber(L, c.streams), lua_setfield(L, -2, "streams");
    lua_pushnumber(L, c.descriptors), lua_setfield(L, -2, "descriptors");
    lua_pushnumber(L, c.calls), lua_setfield(L, -2, "calls");
    lua_pushnumber(L, c.ghosts), lua_setfield(L, -2, "ghosts");
    lua_pushnumber(L, world_descriptors(b->w, 101, &most)), lua_setfield(L, -2, "of_c1");
    lua_pushnumber(L, most), lua_setfield(L, -2, "most_of_c1");
    return 1;
}

static int l_stream(lua_State *L)
{
    struct stream_view v;
    if (!world_stream_of(box_of(L)->w, id_at(L, 2), &v)) return 0;
    lua_newtable(L);
    lua_pushnumber(L, (double)v.dead_ms), lua_setfield(L, -2, "dead");
    lua_pushnumber(L, (double)v.last_arrival_ms), lua_setfield(L, -2, "last");
    lua_pushnumber(L, (double)v.bytes_in), lua_setfield(L, -2, "bytes_in");
    lua_pushboolean(L, v.server_open), lua_setfield(L, -2, "server_open");
    return 1;
}

static int l_trace(lua_State *L)
{
    struct trace *t = world_trace(box_of(L)->w);
    lua_pushlstring(L, (const char *)t->text.data, t->text.len);
    return 1;
}

/* unit.frame(opcode, payload): a masked client frame */
static int l_frame(lua_State *L)
{
    static const uint8_t mask[4] = { 1, 2, 3, 4 };
    size_t len;
    int opcode = (int)luaL_checknumber(L, 1);
    const char *payload = luaL_checklstring(L, 2, &len);
    struct buffer out;
    buffer_init(&out, 0);
    ws_encode(&out, (enum ws_opcode)opcode, true, payload, len, mask);
    lua_pushlstring(L, (const char *)out.data, out.len);
    buffer_deinit(&out);
    return 1;
}

/* unit.idmap(seed, operations): true when it agrees with a plain array all the way */
static int l_idmap(lua_State *L)
{
    uint64_t seed = id_at(L, 1), operations = id_at(L, 2), state = seed;
    struct idmap m = { 0 };
    uint64_t plain[257] = { 0 };
    bool same = true;
    for (uint64_t i = 0; i < operations && same; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint64_t id = 1 + (state >> 33) % 256, value = 1 + (state >> 20) % 1000;
        if ((state >> 60) & 1) idmap_put(&m, id, value), plain[id] = value;
        else idmap_remove(&m, id), plain[id] = 0;
        uint32_t count = 0;
        for (uint64_t k = 1; k <= 256; k++) {
            same = same && idmap_find(&m, k) == plain[k];
            count += plain[k] != 0;
        }
        same = same && m.count == count;
    }
    idmap_deinit(&m);
    lua_pushboolean(L, same);
    return 1;
}

static const luaL_Reg methods[] = {
    { "open", l_open }, { "write", l_write }, { "queued", l_queued }, { "read", l_read },
    { "take", l_take }, { "link", l_do }, { "http", l_http }, { "http_cancel", l_http_cancel },
    { "run", l_run }, { "user_at", l_user_at }, { "deadline", l_deadline }, { "log", l_log },
    { "seen", l_seen }, { "fault", l_fault }, { "fault_off", l_fault_off }, { "heal", l_heal },
    { "freeze", l_freeze }, { "step_wall", l_step_wall }, { "clock", l_clock }, { "now", l_now },
    { "server", l_server }, { "store", l_store }, { "disk", l_disk }, { "crash", l_crash },
    { "boot", l_boot }, { "lost", l_lost }, { "counts", l_counts }, { "stream", l_stream }, { "trace", l_trace },
    { "destroy", l_gc }, { NULL, NULL }
};

int luaopen_unit_sim_world(lua_State *L);
int luaopen_unit_sim_world(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "new", l_new }, { "frame", l_frame }, { "idmap", l_idmap }, { NULL, NULL }
    };
    luaL_newmetatable(L, WORLD_MT);
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
