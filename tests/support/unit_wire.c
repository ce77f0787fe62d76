/* modules: top trace cli net ops deliver store engine policy bind config peer frame crypto base */
/* The whole runtime on real sockets, as a Lua module: the net host, a memory store, deliver and the
 * runtime, with peers served by libwebsockets, fault relays (wire_relay.h) and raw scripted servers
 * (net_far_end.h, threads of their own), all in one process and on one loop. The loop runs when Lua says
 * turn(). The friendly face is wire_world.lua. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include "wire_raw.h"
#pragma GCC diagnostic pop

#include "base/proxy.h"
#include "base/rng.h"
#include "base/text.h"
#include "frame/inflate.h"
#include "net/net.h"
#include "ops/peer_port.h"
#include "wire_relay.h"
#include "wire_value.h"
#include "wire_view.h"

#define WIRE_MT "unit.wire"
#define MANY 64
#define MESSAGES_MAX 512
#define SOCKETS_SEEN_MAX 64
#define LOG_BYTES_MAX 65536
#define CLOSE_TURNS_MAX 2000

struct wire_note {
    uint64_t at_ms;
    struct handle conn;
    uint32_t generation;
    enum effect_kind kind;
    enum conn_state from, to;
    uint16_t code;
    uint64_t delay_ms;
    struct decision *decision; /* owned; JOURNAL */
};

struct wire_message {
    uint64_t at_ms;
    struct handle conn;
    uint32_t generation;
    bool inbound, text;
    char *data; /* owned */
    size_t len;
};

struct wire_conn {
    char name[64];
    struct handle handle;
};

struct wire_consumer {
    struct handle handle;
    struct buffer lines; /* owned */
    bool paused, attached;
    char gone[128];
};

struct wire {
    uv_loop_t loop;
    uv_timer_t bound;
    uv_prepare_t prepare;
    uv_idle_t busy;
    struct net *net;
    struct store_memory *store;
    struct deliver *deliver;
    struct proxy_env proxies;
    struct runtime *rt;
    uint64_t seed;
    struct policy_version *policies[MANY];
    char policy_paths[MANY][320];
    int policy_count;
    struct peer_server *peers[MANY];
    int peer_count;
    struct relay *relays[MANY];
    int relay_count;
    struct far_end *raws[MANY];
    int raw_count;
    int silent[2 * MANY];
    int silent_count;
    struct wire_conn conns[MANY];
    int conn_count;
    struct wire_consumer *consumers[MANY];
    int consumer_count;
    struct wire_note *notes; /* owned */
    uint32_t note_count, note_capacity;
    struct wire_message messages[MESSAGES_MAX];
    uint64_t message_count;
    struct buffer log;       /* the newest lines, for failures */
    uint16_t watched;        /* port whose client descriptors are counted; 0: none */
    int sockets_most;
    struct buffer sockets_rows; /* the kernel's, when they were the most */
    uv_timer_t pulse;        /* every few milliseconds while the loop is watched */
    uint64_t pulse_ns, gap_ns;
    bool net_closed, shut;
};

static struct wire *check_wire(lua_State *L)
{
    struct wire **box = luaL_checkudata(L, 1, WIRE_MT);
    luaL_argcheck(L, *box != NULL, 1, "it is closed");
    return *box;
}

static uint64_t now_ms(struct wire *w)
{
    struct clock c;
    struct host h = net_host(w->net);
    h.ops->clock(h.self, &c);
    return c.mono_ms;
}

static int check_index(lua_State *L, int at, int count)
{
    int i = (int)luaL_checknumber(L, at);
    luaL_argcheck(L, i >= 1 && i <= count, at, "no such thing");
    return i - 1;
}

static double field_number(lua_State *L, int index, const char *key, double otherwise)
{
    lua_getfield(L, index, key);
    double n = luaL_optnumber(L, -1, otherwise);
    lua_pop(L, 1);
    return n;
}

static bool field_bool(lua_State *L, int index, const char *key)
{
    lua_getfield(L, index, key);
    bool b = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return b;
}

/* ---- the driver --------------------------------------------------------------------------------------- */

static void wire_tick(struct runtime *rt)
{
    runtime_tick(rt);
}

static uint64_t wire_deadline(struct runtime *rt)
{
    return runtime_deadline_ms(rt);
}

static void on_stored(void *to, uint64_t ticket, bool ok)
{
    struct wire *w = to;
    runtime_stored(w->rt, ticket, ok);
}

static void on_busy(uv_idle_t *idle)
{
    (void)idle;
}

/* Once per turn, right before the loop would wait. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct wire *w = prepare->data;
    if (!w->rt) return;
    store_memory_poll(w->store, on_stored, w);
    if (store_memory_is_idle(w->store)) uv_idle_stop(&w->busy);
    else uv_idle_start(&w->busy, on_busy);
}

static void on_bound(uv_timer_t *t)
{
    (void)t;
}

/* Sockets that are connected, or connecting, to the port and that a descriptor holds. The kernel's list may name one twice
 * when others come and go while it is read; so by inode. `rows`: what was seen, for who has to explain it. */
static int sockets_to(uint16_t port, struct buffer *rows)
{
    char line[512];
    unsigned long inodes[SOCKETS_SEEN_MAX];
    int count = 0;
    FILE *f = fopen("/proc/self/net/tcp", "r");
    if (!f) return -1;
    buffer_clear(rows);
    while (count < SOCKETS_SEEN_MAX && fgets(line, sizeof line, f)) {
        unsigned remote;
        unsigned long inode;
        if (sscanf(line, " %*d: %*x:%*x %*x:%x %*x %*x:%*x %*x:%*x %*x %*u %*d %lu", &remote, &inode) != 2 ||
            remote != port || inode == 0)
            continue;
        int i = 0;
        while (i < count && inodes[i] != inode) i++;
        if (i < count) continue;
        inodes[count++] = inode;
        buffer_append_text(rows, line);
    }
    fclose(f);
    return count;
}

static void watch(struct wire *w)
{
    if (!w->watched) return;
    struct buffer rows;
    buffer_init(&rows, 0);
    int n = sockets_to(w->watched, &rows);
    if (n > w->sockets_most) {
        w->sockets_most = n;
        buffer_clear(&w->sockets_rows);
        if (rows.len) buffer_append(&w->sockets_rows, rows.data, rows.len);
    }
    buffer_deinit(&rows);
}

/* ---- what the runtime shows ------------------------------------------------------------------------------ */

static void note(struct wire *w, const struct wire_note *n)
{
    if (w->note_count == w->note_capacity) {
        w->note_capacity = w->note_capacity ? w->note_capacity * 2 : 256;
        w->notes = realloc(w->notes, w->note_capacity * sizeof *w->notes);
        ASSERT(w->notes != NULL);
    }
    w->notes[w->note_count++] = *n;
}

static void on_step(void *self, const struct event *ev, const struct effect_list *effects)
{
    struct wire *w = self;
    (void)ev;
    for (uint32_t i = 0; i < effects->count; i++) {
        const struct effect *fx = &effects->items[i];
        struct wire_note n = { .at_ms = now_ms(w), .conn = fx->conn, .generation = fx->generation,
                               .kind = fx->kind };
        switch (fx->kind) {
        case FX_STATE:
            n.from = fx->state.from;
            n.to = fx->state.to;
            break;
        case FX_CLOSE: n.code = fx->close.code; break;
        case FX_JOURNAL:
            n.decision = malloc(sizeof *n.decision);
            ASSERT(n.decision != NULL);
            *n.decision = fx->journal;
            break;
        case FX_DIAL:
        case FX_ABORT:
        case FX_BEAT:
        case FX_READY:
        case FX_SETTLED: break;
        default: continue;
        }
        note(w, &n);
    }
    watch(w);
}

static void on_log(void *self, enum log_level level, const char *connection, const char *text)
{
    static const char *const levels[] = { "alarm", "warning", "info", "debug" };
    struct wire *w = self;
    if (w->log.len > LOG_BYTES_MAX) buffer_clear(&w->log);
    buffer_printf(&w->log, "%llu %s %s: %s\n", (unsigned long long)now_ms(w), levels[level],
                  connection ? connection : "-", text);
}

static void on_message(void *self, struct handle conn, uint32_t generation, bool inbound, bool text,
                       const void *data, size_t len)
{
    struct wire *w = self;
    struct wire_message *m = &w->messages[w->message_count++ % MESSAGES_MAX];
    free(m->data);
    *m = (struct wire_message){ now_ms(w), conn, generation, inbound, text, malloc(len + 1), len };
    ASSERT(m->data != NULL);
    if (len) memcpy(m->data, data, len);
}

/* The table of variables at the top of the stack. */
static const char *variable_get(void *self, const char *name)
{
    lua_State *L = self;
    lua_getfield(L, -1, name);
    const char *value = lua_tostring(L, -1);
    lua_pop(L, 1); /* the table keeps it */
    return value;
}

/* ---- opening and closing --------------------------------------------------------------------------------- */

static int l_new(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    double seed = field_number(L, 1, "seed", 1);
    double consumer_bytes = field_number(L, 1, "consumer_bytes", 0);
    struct wire **box = lua_newuserdata(L, sizeof *box);
    *box = NULL;
    luaL_getmetatable(L, WIRE_MT);
    lua_setmetatable(L, -2);
    struct wire *w = calloc(1, sizeof *w);
    ASSERT(w != NULL);
    *box = w;
    w->seed = (uint64_t)seed;
    char why[256];
    lua_getfield(L, 1, "environment");
    if (lua_istable(L, -1) && !proxy_env_read(&w->proxies, variable_get, L, why, sizeof why)) {
        return luaL_error(L, "%s", why);
    }
    lua_pop(L, 1);
    buffer_init(&w->log, 0);
    buffer_init(&w->sockets_rows, 0);
    uv_loop_init(&w->loop);
    uv_timer_init(&w->loop, &w->bound);
    uv_prepare_init(&w->loop, &w->prepare);
    uv_idle_init(&w->loop, &w->busy);
    uv_timer_init(&w->loop, &w->pulse);
    w->pulse.data = w;
    w->prepare.data = w;
    uv_prepare_start(&w->prepare, on_prepare);
    uv_unref((uv_handle_t *)&w->prepare);
    w->net = net_create(&w->loop, &runtime_host_sink, NULL);
    w->store = store_memory_create();
    struct deliver_options delivery = { .epoch = 1, .consumer_bytes_max = (size_t)consumer_bytes };
    w->deliver = deliver_create(&delivery);
    struct runtime_options options = { .seed = w->seed,
                                       .host = net_host(w->net),
                                       .store = store_memory_store(w->store),
                                       .deliver = w->deliver,
                                       .proxies = &w->proxies,
                                       .connections_max = MANY,
                                       .observer = { .self = w, .step = on_step, .log = on_log,
                                                     .message = on_message } };
    w->rt = runtime_create(&options);
    ASSERT(w->rt != NULL);
    net_set_runtime(w->net, w->rt, wire_tick, wire_deadline);
    return 1;
}

static void on_net_closed(void *data)
{
    struct wire *w = data;
    w->net_closed = true;
}

static bool relays_pending(const struct wire *w)
{
    for (int i = 0; i < w->relay_count; i++) {
        if (w->relays[i]->pending) return true;
    }
    return false;
}

static void turn(struct wire *w, uint64_t ms)
{
    uv_update_time(&w->loop);
    /* Repeating: one that is due before the loop polls would leave it to wait for ever. */
    if (ms) uv_timer_start(&w->bound, on_bound, ms, ms);
    uv_run(&w->loop, ms ? UV_RUN_ONCE : UV_RUN_NOWAIT);
    uv_timer_stop(&w->bound);
    watch(w);
}

/* w:close(): { tasks=, loop=, relays= }: what was left that should not be. */
static int l_close(lua_State *L)
{
    struct wire **box = luaL_checkudata(L, 1, WIRE_MT);
    struct wire *w = *box;
    if (!w) return 0;
    *box = NULL;
    bool down = false;
    if (!w->shut) runtime_shutdown(w->rt);
    for (int i = 0; i < 200 && !(down = runtime_is_down(w->rt)); i++) turn(w, 20);
    uint64_t links = net_counts(w->net).links;
    runtime_destroy(w->rt);
    w->rt = NULL;
    net_close(w->net, on_net_closed, w);
    for (int i = 0; i < w->relay_count; i++) relay_close(w->relays[i]);
    for (int i = 0; i < w->peer_count; i++) peer_server_close(w->peers[i]);
    for (int i = 0; i < CLOSE_TURNS_MAX && (!w->net_closed || relays_pending(w)); i++) turn(w, 10);
    bool relays = relays_pending(w);
    for (int i = 0; i < w->peer_count; i++) peer_server_free(w->peers[i]);
    for (int i = 0; i < w->relay_count; i++) free(w->relays[i]);
    for (int i = 0; i < w->raw_count; i++) {
        far_end_free(w->raws[i]);
        pthread_mutex_destroy(&w->raws[i]->lock);
        free(w->raws[i]);
    }
    for (int i = 0; i < w->silent_count; i++) close(w->silent[i]);
    deliver_destroy(w->deliver);
    store_memory_destroy(w->store);
    uint32_t tasks = 0;
    for (int i = 0; i < w->policy_count; i++) {
        tasks += policy_tasks_alive(w->policies[i]);
        policy_unref(w->policies[i]);
    }
    for (int i = 0; i < w->consumer_count; i++) {
        buffer_deinit(&w->consumers[i]->lines);
        free(w->consumers[i]);
    }
    for (uint32_t i = 0; i < w->note_count; i++) free(w->notes[i].decision);
    free(w->notes);
    for (int i = 0; i < MESSAGES_MAX; i++) free(w->messages[i].data);
    buffer_deinit(&w->log);
    buffer_deinit(&w->sockets_rows);
    proxy_env_deinit(&w->proxies);
    uv_close((uv_handle_t *)&w->bound, NULL);
    uv_close((uv_handle_t *)&w->prepare, NULL);
    uv_close((uv_handle_t *)&w->busy, NULL);
    uv_close((uv_handle_t *)&w->pulse, NULL);
    for (int i = 0; i < 100 && uv_loop_alive(&w->loop); i++) uv_run(&w->loop, UV_RUN_NOWAIT);
    bool loop_closed = uv_loop_close(&w->loop) == 0;
    bool net_closed = w->net_closed;
    free(w);
    lua_newtable(L);
    set_bool(L, "down", down);
    set_number(L, "links", (double)links);
    set_number(L, "tasks", tasks);
    set_bool(L, "relays", relays);
    set_bool(L, "net_closed", net_closed);
    set_bool(L, "loop_closed", loop_closed);
    return 1;
}

static int l_turn(lua_State *L)
{
    struct wire *w = check_wire(L);
    turn(w, (uint64_t)luaL_checknumber(L, 2));
    for (int i = 0; i < w->peer_count; i++) {
        const char *error = peer_error(peer_server_peer(w->peers[i]));
        if (error) return luaL_error(L, "peer %d: %s", i + 1, error);
    }
    return 0;
}

/* w:shutdown(): asks once; whether all is down. */
static int l_shutdown(lua_State *L)
{
    struct wire *w = check_wire(L);
    if (!w->shut) runtime_shutdown(w->rt);
    w->shut = true;
    lua_pushboolean(L, runtime_is_down(w->rt));
    return 1;
}

static int l_now(lua_State *L)
{
    lua_pushnumber(L, (double)now_ms(check_wire(L)));
    return 1;
}

/* ---- far ends -------------------------------------------------------------------------------------------- */

/* w:peer(name, { tls=, names=, starts=, ends= }, options): number, url, CA in PEM */
static int l_peer(lua_State *L)
{
    struct wire *w = check_wire(L);
    const char *name = luaL_checkstring(L, 2);
    luaL_checktype(L, 3, LUA_TTABLE);
    if (w->peer_count == MANY) return luaL_error(L, "too many peers");
    struct value options = lua_istable(L, 4) ? wire_to_value(L, 4, 0) : value_table();
    lua_getfield(L, 3, "names");
    struct peer_port_options po = { .peer = name,
                                    .tls = field_bool(L, 3, "tls"),
                                    .certs = { .names = lua_tostring(L, -1),
                                               .starts_in_s = (long)field_number(L, 3, "starts", 0),
                                               .ends_in_s = (long)field_number(L, 3, "ends", 0) },
                                    .lua_path = "lua",
                                    .options = &options,
                                    .seed = w->seed };
    char why[1024] = "";
    struct peer_server *s = peer_server_create(&w->loop, &po, why, sizeof why);
    value_clear(&options);
    if (!s) return luaL_error(L, "%s", why);
    w->peers[w->peer_count++] = s;
    const struct buffer *ca = peer_server_ca(s);
    lua_pushnumber(L, w->peer_count);
    lua_pushstring(L, peer_server_url(s));
    lua_pushlstring(L, (const char *)ca->data, ca->len);
    return 3;
}

/* w:control(peer, verb, argument): the answer */
static int l_control(lua_State *L)
{
    struct wire *w = check_wire(L);
    struct peer_server *s = w->peers[check_index(L, 2, w->peer_count)];
    struct value argument = lua_isnoneornil(L, 4) ? value_nil() : wire_to_value(L, 4, 0);
    struct value answer = value_nil();
    char why[512] = "";
    bool ok = peer_control(peer_server_peer(s), luaL_checkstring(L, 3), &argument, &answer, why,
                           sizeof why);
    value_clear(&argument);
    if (!ok) return luaL_error(L, "%s", why);
    wire_push_value(L, &answer);
    value_clear(&answer);
    return 1;
}

/* w:relay(port, listen at or nil): number, port */
static int l_relay(lua_State *L)
{
    struct wire *w = check_wire(L);
    uint16_t target = (uint16_t)luaL_checknumber(L, 2);
    if (w->relay_count == MANY) return luaL_error(L, "too many relays");
    uint16_t at = (uint16_t)luaL_optnumber(L, 3, 0);
    w->relays[w->relay_count++] = relay_create(&w->loop, target, at);
    lua_pushnumber(L, w->relay_count);
    lua_pushnumber(L, w->relays[w->relay_count - 1]->port);
    return 2;
}

static int l_relay_target(lua_State *L)
{
    struct wire *w = check_wire(L);
    w->relays[check_index(L, 2, w->relay_count)]->target = (uint16_t)luaL_checknumber(L, 3);
    return 0;
}

/* w:relay_set(number, faults) */
static int l_relay_set(lua_State *L)
{
    struct wire *w = check_wire(L);
    struct relay *r = w->relays[check_index(L, 2, w->relay_count)];
    luaL_checktype(L, 3, LUA_TTABLE);
    struct relay_faults f = {
        .mute = field_bool(L, 3, "mute"),
        .reset = field_bool(L, 3, "reset"),
        .black_hole = field_bool(L, 3, "black_hole"),
        .trickle = field_bool(L, 3, "trickle"),
        .drop = { field_bool(L, 3, "drop_up"), field_bool(L, 3, "drop_down") },
        .corrupt = { field_bool(L, 3, "corrupt_up"), field_bool(L, 3, "corrupt_down") },
        .reset_after = { (int64_t)field_number(L, 3, "reset_up", RELAY_NEVER),
                         (int64_t)field_number(L, 3, "reset_down", RELAY_NEVER) },
        .fin_after_down = (int64_t)field_number(L, 3, "fin_down", RELAY_NEVER),
        .delay_ms = (uint64_t)field_number(L, 3, "delay", 0),
        .times = (int64_t)field_number(L, 3, "times", RELAY_NEVER),
    };
    r->faults = f;
    if (field_bool(L, 3, "live")) {
        for (struct relay_conn *c = r->conns; c; c = c->next) c->faults = f;
    }
    if (field_bool(L, 3, "refuse")) relay_refuse(r);
    else if (!r->listener && !relay_listen(r)) return luaL_error(L, "cannot listen again");
    return 0;
}

/* w:relay_end(number, reset) */
static int l_relay_end(lua_State *L)
{
    struct wire *w = check_wire(L);
    relay_end_all(w->relays[check_index(L, 2, w->relay_count)], lua_toboolean(L, 3));
    return 0;
}

static int l_relay_stats(lua_State *L)
{
    struct wire *w = check_wire(L);
    const struct relay *r = w->relays[check_index(L, 2, w->relay_count)];
    lua_newtable(L);
    set_number(L, "accepted", r->accepted);
    set_number(L, "open", r->open);
    set_number(L, "open_most", r->open_most);
    set_number(L, "up", (double)r->bytes[RELAY_UP]);
    set_number(L, "down", (double)r->bytes[RELAY_DOWN]);
    set_number(L, "asked", r->proxy.asked);
    set_number(L, "tunnels", r->proxy.tunnels);
    set_text(L, "targets", r->proxy.targets);
    set_text(L, "said", r->proxy.said);
    return 1;
}

/* w:relay_proxy(number, { authorization=, answer= }): it is an HTTP proxy from now on. */
static int l_relay_proxy(lua_State *L)
{
    struct wire *w = check_wire(L);
    struct relay_proxy *p = &w->relays[check_index(L, 2, w->relay_count)]->proxy;
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_getfield(L, 3, "authorization");
    lua_getfield(L, 3, "answer");
    snprintf(p->authorization, sizeof p->authorization, "%s", luaL_optstring(L, -2, ""));
    snprintf(p->answer, sizeof p->answer, "%s", luaL_optstring(L, -1, ""));
    p->on = true;
    return 0;
}

/* w:pretend(name, address): the resolver's answer from now on. */
static int l_pretend(lua_State *L)
{
    struct wire *w = check_wire(L);
    const char *address = luaL_checkstring(L, 3);
    net_pretend_addresses(w->net, luaL_checkstring(L, 2), &address, 1);
    return 0;
}

/* w:raw({ tls=, v6=, asks_client=, names=, chain=, starts=, ends= }, { { verb, bytes }, ... }): number, port, CA in
 * PEM, the list that revokes its certificate. See net_far_end.h for the verbs, wire_raw.h for the rest. */
static int l_raw(lua_State *L)
{
    struct wire *w = check_wire(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checktype(L, 3, LUA_TTABLE);
    int count = (int)lua_objlen(L, 3);
    if (w->raw_count == MANY || count > FAR_END_STEPS_MAX) return luaL_error(L, "too many");
    lua_getfield(L, 2, "names");
    lua_getfield(L, 2, "chain"); /* the table keeps the texts */
    struct wire_raw_options options = { .tls = field_bool(L, 2, "tls"), .v6 = field_bool(L, 2, "v6"),
                                        .asks_client = field_bool(L, 2, "asks_client"),
                                        .names = lua_tostring(L, -2), .chain = lua_tostring(L, -1),
                                        .starts_in_s = (long)field_number(L, 2, "starts", 0),
                                        .ends_in_s = (long)field_number(L, 2, "ends", 0) };
    struct far_end *s = calloc(1, sizeof *s);
    ASSERT(s != NULL);
    if (!wire_raw_listen(s, options.v6)) {
        free(s);
        return luaL_error(L, "cannot listen");
    }
    pthread_mutex_init(&s->lock, NULL);
    s->go = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
    struct buffer ca, revoked;
    buffer_init(&ca, 0);
    buffer_init(&revoked, 0);
    if (options.tls) s->context = wire_raw_context(&options, &ca, &revoked);
    s->step_count = count;
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, 3, i + 1);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        size_t len = 0;
        const char *bytes = lua_tolstring(L, -1, &len);
        snprintf(s->steps[i].verb, sizeof s->steps[i].verb, "%s", lua_tostring(L, -2));
        if (bytes) {
            s->steps[i].bytes = malloc(len + 1);
            ASSERT(s->steps[i].bytes != NULL);
            memcpy(s->steps[i].bytes, bytes, len + 1);
            s->steps[i].len = len;
        }
        lua_pop(L, 3);
    }
    w->raws[w->raw_count++] = s;
    s->running = true;
    if (pthread_create(&s->thread, NULL, far_end_main, s) != 0) abort();
    lua_pushnumber(L, w->raw_count);
    lua_pushnumber(L, s->port);
    lua_pushlstring(L, (const char *)ca.data, ca.len);
    lua_pushlstring(L, (const char *)revoked.data, revoked.len);
    buffer_deinit(&ca);
    buffer_deinit(&revoked);
    return 4;
}

/* w:raw_go(number): one connection that stands at a step "go" goes on. */
static int l_raw_go(lua_State *L)
{
    struct wire *w = check_wire(L);
    uint64_t one = 1;
    if (write(w->raws[check_index(L, 2, w->raw_count)]->go, &one, sizeof one) < 0) abort();
    return 0;
}

/* w:raw_saw(number): a list of { received=, notes= }, one per connection */
static int l_raw_saw(lua_State *L)
{
    struct wire *w = check_wire(L);
    struct far_end *s = w->raws[check_index(L, 2, w->raw_count)];
    lua_newtable(L);
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < s->link_count; i++) {
        lua_newtable(L);
        lua_pushlstring(L, s->links[i].received, s->links[i].received_len);
        lua_setfield(L, -2, "received");
        set_text(L, "notes", s->links[i].notes);
        lua_rawseti(L, -2, i + 1);
    }
    pthread_mutex_unlock(&s->lock);
    return 1;
}

/* w:silent_port(): its backlog is full, so that nothing answers a SYN. */
static int l_silent_port(lua_State *L)
{
    struct wire *w = check_wire(L);
    struct far_end s = { 0 };
    if (!far_end_listen(&s, 1)) return luaL_error(L, "cannot listen");
    close(s.stop);
    w->silent[w->silent_count++] = s.listener;
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(s.port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    for (int i = 0; i < 4; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)!connect(fd, (struct sockaddr *)&at, sizeof at);
        w->silent[w->silent_count++] = fd;
    }
    lua_pushnumber(L, s.port);
    return 1;
}

/* w:silent_end(): silent ports are free again. */
static int l_silent_end(lua_State *L)
{
    struct wire *w = check_wire(L);
    for (int i = 0; i < w->silent_count; i++) close(w->silent[i]);
    w->silent_count = 0;
    return 0;
}

/* A port on which nobody listens. */
static int l_free_port(lua_State *L)
{
    struct far_end s = { 0 };
    if (!far_end_listen(&s, 1)) return luaL_error(L, "cannot listen");
    close(s.stop);
    close(s.listener);
    lua_pushnumber(L, s.port);
    return 1;
}

static int l_watch(lua_State *L)
{
    struct wire *w = check_wire(L);
    w->watched = (uint16_t)luaL_checknumber(L, 2);
    w->sockets_most = 0;
    return 0;
}

static void on_pulse(uv_timer_t *t)
{
    struct wire *w = t->data;
    uint64_t now_ns = uv_hrtime();
    if (w->pulse_ns && now_ns - w->pulse_ns > w->gap_ns) w->gap_ns = now_ns - w->pulse_ns;
    w->pulse_ns = now_ns;
}

/* w:watch_loop(): from now on a timer is due every 2 ms. w:longest_gap(): the most ms that it was kept waiting,
 * what specs do between two turns included. */
static int l_watch_loop(lua_State *L)
{
    struct wire *w = check_wire(L);
    w->pulse_ns = w->gap_ns = 0;
    uv_timer_start(&w->pulse, on_pulse, 2, 2);
    return 0;
}

static int l_longest_gap(lua_State *L)
{
    struct wire *w = check_wire(L);
    uv_timer_stop(&w->pulse);
    lua_pushnumber(L, (double)w->gap_ns / 1e6);
    return 1;
}

static int l_sockets_most(lua_State *L)
{
    struct wire *w = check_wire(L);
    lua_pushnumber(L, w->sockets_most);
    lua_pushlstring(L, w->sockets_rows.len ? (const char *)w->sockets_rows.data : "", w->sockets_rows.len);
    return 2;
}

/* ---- connections -------------------------------------------------------------------------------------------- */

static int raise_problems(lua_State *L, struct problems *p)
{
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (uint32_t i = 0; i < p->count; i++) {
        char line[768];
        if (p->items[i].warning) continue;
        luaL_addstring(&b, problem_format(&p->items[i], line, sizeof line));
        luaL_addchar(&b, '\n');
    }
    luaL_pushresult(&b);
    problems_deinit(p);
    return lua_error(L);
}

static struct policy_version *policy_of(lua_State *L, struct wire *w, const char *path)
{
    for (int i = 0; i < w->policy_count; i++) {
        if (strcmp(w->policy_paths[i], path) == 0) return w->policies[i];
    }
    if (w->policy_count == MANY) luaL_error(L, "too many policies");
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    char name[64];
    text_copy(name, sizeof name, base, strcspn(base, "."));
    struct problems problems;
    problems_init(&problems);
    struct policy_load load = { .name = name, .path = path, .lua_path = "lua", .version = 1,
                                .seed = w->seed };
    struct policy_version *v = policy_load(&load, &problems);
    if (!v) raise_problems(L, &problems);
    problems_deinit(&problems);
    snprintf(w->policy_paths[w->policy_count], sizeof w->policy_paths[0], "%s", path);
    w->policies[w->policy_count++] = v;
    return v;
}

/* w:add(name, policy path, settings, ca_file or nil, stopped, proxy). proxy: { host=, port=,
 * authorization= }, true: the environment's, nil: none */
static int l_add(lua_State *L)
{
    struct wire *w = check_wire(L);
    const char *name = luaL_checkstring(L, 2), *path = luaL_checkstring(L, 3);
    luaL_checktype(L, 4, LUA_TTABLE);
    const char *ca_file = luaL_optstring(L, 5, NULL);
    if (w->conn_count == MANY) return luaL_error(L, "too many connections");
    struct policy_version *v = policy_of(L, w, path);
    struct problems problems;
    problems_init(&problems);
    struct value settings = wire_to_value(L, 4, 0);
    struct policy_build *build = policy_build_create(v, &settings, "the test", &problems);
    value_clear(&settings);
    if (!build) return raise_problems(L, &problems);
    problems_deinit(&problems);
    struct connection_spec spec = { .name = name, .build = build, .ca_file = ca_file };
    spec.proxy_of_environment = lua_isboolean(L, 7) && lua_toboolean(L, 7);
    if (lua_istable(L, 7)) {
        lua_getfield(L, 7, "host"); /* the table keeps the texts */
        lua_getfield(L, 7, "authorization");
        spec.proxy = (struct host_proxy){ lua_tostring(L, -2), (uint16_t)field_number(L, 7, "port", 0),
                                          lua_tostring(L, -1) };
        lua_pop(L, 2);
    }
    char why[512] = "";
    struct handle h = runtime_add(w->rt, &spec, why, sizeof why);
    if (handle_is_none(h)) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    struct wire_conn *c = &w->conns[w->conn_count++];
    text_copy(c->name, sizeof c->name, name, strlen(name));
    c->handle = h;
    if (!lua_toboolean(L, 6)) runtime_start(w->rt, h);
    lua_pushboolean(L, true);
    return 1;
}

static struct wire_conn *check_conn(struct wire *w, lua_State *L, int index)
{
    const char *name = luaL_checkstring(L, index);
    for (int i = w->conn_count; i-- > 0;) {
        if (strcmp(w->conns[i].name, name) == 0) return &w->conns[i];
    }
    luaL_error(L, "there is no connection \"%s\"", name);
    return NULL;
}

static int l_order(lua_State *L)
{
    static const char *const verbs[] = { "start", "stop", "restart", "remove", NULL };
    struct wire *w = check_wire(L);
    struct handle h = check_conn(w, L, 2)->handle;
    switch (luaL_checkoption(L, 3, NULL, verbs)) {
    case 0: runtime_start(w->rt, h); break;
    case 1: runtime_stop(w->rt, h); break;
    case 2: runtime_restart(w->rt, h); break;
    default: runtime_remove(w->rt, h);
    }
    return 0;
}

/* w:swap(name, policy path, settings): as a reload does */
static int l_swap(lua_State *L)
{
    struct wire *w = check_wire(L);
    struct handle h = check_conn(w, L, 2)->handle;
    luaL_checktype(L, 4, LUA_TTABLE);
    struct policy_version *v = policy_of(L, w, luaL_checkstring(L, 3));
    struct problems problems;
    problems_init(&problems);
    struct value settings = wire_to_value(L, 4, 0);
    struct policy_build *build = policy_build_create(v, &settings, "the test", &problems);
    value_clear(&settings);
    if (!build) return raise_problems(L, &problems);
    problems_deinit(&problems);
    runtime_swap(w->rt, h, build);
    return 0;
}

static int l_view(lua_State *L)
{
    struct wire *w = check_wire(L);
    struct connection_view v;
    if (!runtime_view(w->rt, check_conn(w, L, 2)->handle, &v)) return 0;
    push_view(L, &v);
    return 1;
}

/* w:bound(name): ms within which it is up once the network is well; nil: there is none */
static int l_bound(lua_State *L)
{
    struct wire *w = check_wire(L);
    struct connection_outlook o;
    if (!runtime_outlook(w->rt, check_conn(w, L, 2)->handle, &o)) return 0;
    if (o.recovery_bound_ms == ENGINE_NEVER) return 0;
    lua_pushnumber(L, (double)o.recovery_bound_ms);
    return 1;
}

static int l_state(lua_State *L)
{
    struct wire *w = check_wire(L);
    struct engine_view v;
    if (!engine_get(runtime_engine(w->rt), check_conn(w, L, 2)->handle, &v)) return 0;
    lua_pushstring(L, conn_state_name(v.state));
    return 1;
}

static int l_journal(lua_State *L)
{
    struct wire *w = check_wire(L);
    push_journal(L, w->rt, check_conn(w, L, 2)->handle);
    return 1;
}

static int l_session(lua_State *L)
{
    struct wire *w = check_wire(L);
    struct handle h = check_conn(w, L, 2)->handle;
    struct buffer out;
    buffer_init(&out, 0);
    bool ok = runtime_session_json(w->rt, h, &out);
    lua_pushlstring(L, ok ? (const char *)out.data : "", ok ? out.len : 0);
    buffer_deinit(&out);
    return 1;
}

/* w:notes(name): { { at=, what="dial"|"state"|"close"|"abort"|"decision"|"beat"|"ready", ... }, ... } */
static int l_notes(lua_State *L)
{
    struct wire *w = check_wire(L);
    struct handle h = check_conn(w, L, 2)->handle;
    int count = 0;
    lua_newtable(L);
    for (uint32_t i = 0; i < w->note_count; i++) {
        const struct wire_note *n = &w->notes[i];
        if (!handle_equal(n->conn, h)) continue;
        lua_newtable(L);
        set_number(L, "at", (double)n->at_ms);
        set_number(L, "generation", n->generation);
        set_text(L, "what", n->kind == FX_JOURNAL ? "decision" : effect_name(n->kind));
        if (n->kind == FX_STATE) {
            set_text(L, "from", conn_state_name(n->from));
            set_text(L, "to", conn_state_name(n->to));
        }
        if (n->kind == FX_CLOSE) set_number(L, "code", n->code);
        if (n->decision) {
            push_said(L, n->decision);
            lua_setfield(L, -2, "decision");
        }
        lua_rawseti(L, -2, ++count);
    }
    return 1;
}

/* w:messages(name, "in" or "out"): oldest first, the newest few hundred of all connections */
static int l_messages(lua_State *L)
{
    struct wire *w = check_wire(L);
    struct handle h = check_conn(w, L, 2)->handle;
    bool inbound = strcmp(luaL_checkstring(L, 3), "in") == 0;
    uint64_t first = w->message_count > MESSAGES_MAX ? w->message_count - MESSAGES_MAX : 0;
    int count = 0;
    lua_newtable(L);
    for (uint64_t i = first; i < w->message_count; i++) {
        const struct wire_message *m = &w->messages[i % MESSAGES_MAX];
        if (!handle_equal(m->conn, h) || m->inbound != inbound) continue;
        lua_newtable(L);
        set_number(L, "at", (double)m->at_ms);
        set_number(L, "generation", m->generation);
        lua_pushlstring(L, m->data, m->len);
        lua_setfield(L, -2, "data");
        lua_rawseti(L, -2, ++count);
    }
    return 1;
}

static int l_log(lua_State *L)
{
    struct wire *w = check_wire(L);
    lua_pushlstring(L, (const char *)w->log.data, w->log.len);
    return 1;
}

static int l_counts(lua_State *L)
{
    struct wire *w = check_wire(L);
    struct net_counts c = net_counts(w->net);
    lua_newtable(L);
    set_number(L, "links", c.links);
    set_number(L, "calls", c.calls);
    set_number(L, "handshakes", (double)c.handshakes);
    set_number(L, "resumed", (double)c.handshakes_resumed);
    set_number(L, "lookups", (double)c.lookups);
    set_number(L, "lookups_shared", (double)c.lookups_shared);
    set_number(L, "lag", (double)net_lag_ms(w->net));
    uint32_t tasks = 0;
    for (int i = 0; i < w->policy_count; i++) tasks += policy_tasks_alive(w->policies[i]);
    set_number(L, "tasks", tasks);
    return 1;
}

/* ---- consumers ---------------------------------------------------------------------------------------------- */

static bool on_write(void *self, const void *lines, size_t len)
{
    struct wire_consumer *c = self;
    return !c->paused && buffer_append(&c->lines, lines, len);
}

static void on_detached(void *self, const char *why)
{
    struct wire_consumer *c = self;
    c->attached = false;
    text_copy(c->gone, sizeof c->gone, why, strlen(why));
}

static void wake(struct wire *w)
{
    struct host h = net_host(w->net);
    h.ops->wake(h.self);
}

/* w:attach(line): number */
static int l_attach(lua_State *L)
{
    struct wire *w = check_wire(L);
    size_t len;
    const char *line = luaL_checklstring(L, 2, &len), *why = NULL;
    if (w->consumer_count == MANY) return luaL_error(L, "too many consumers");
    struct wire_consumer *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    buffer_init(&c->lines, 0);
    w->consumers[w->consumer_count++] = c;
    struct attach attach;
    attach_init(&attach);
    struct buffer scratch;
    buffer_init(&scratch, 0);
    struct deliver_sink sink = { .self = c, .write = on_write, .detached = on_detached };
    bool ok = attach_parse_json(line, len, &attach, &scratch, &why);
    if (ok) {
        attach.can_send = true;
        c->handle = deliver_attach(w->deliver, &attach, &sink, &why);
        ok = c->attached = !handle_is_none(c->handle);
    }
    buffer_deinit(&scratch);
    if (!ok) return luaL_error(L, "%s", why ? why : "refused");
    wake(w);
    lua_pushnumber(L, w->consumer_count);
    return 1;
}

static int l_input(lua_State *L)
{
    struct wire *w = check_wire(L);
    struct wire_consumer *c = w->consumers[check_index(L, 2, w->consumer_count)];
    size_t len;
    const char *lines = luaL_checklstring(L, 3, &len);
    if (!c->attached) return luaL_error(L, "not attached: %s", c->gone);
    deliver_input(w->deliver, c->handle, lines, len);
    wake(w);
    return 0;
}

static int l_pause(lua_State *L)
{
    struct wire *w = check_wire(L);
    struct wire_consumer *c = w->consumers[check_index(L, 2, w->consumer_count)];
    c->paused = lua_toboolean(L, 3);
    if (!c->paused && c->attached) deliver_resume(w->deliver, c->handle);
    wake(w);
    return 0;
}

/* w:take(number): the lines that came, whether it is attached, or why not */
static int l_take(lua_State *L)
{
    struct wire *w = check_wire(L);
    struct wire_consumer *c = w->consumers[check_index(L, 2, w->consumer_count)];
    lua_pushlstring(L, (const char *)c->lines.data, c->lines.len);
    buffer_clear(&c->lines);
    lua_pushboolean(L, c->attached);
    lua_pushstring(L, c->gone);
    return 3;
}

static int l_fd_count(lua_State *L)
{
    int count = -1; /* the one that reads the folder */
    DIR *folder = opendir("/proc/self/fd");
    for (struct dirent *e; (e = readdir(folder)) != NULL;) count += e->d_name[0] != '.';
    closedir(folder);
    lua_pushnumber(L, count);
    return 1;
}

/* wire.write(path, text): for policies and CA files; not writable by others. */
static int l_write(lua_State *L)
{
    size_t len;
    const char *path = luaL_checkstring(L, 1), *text = luaL_checklstring(L, 2, &len);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, len) != (ssize_t)len) return luaL_error(L, "cannot write %s", path);
    close(fd);
    return 0;
}

/* wire.deflate("zlib-stream" or "zstd-stream", { text, or a number of blanks, ... }): each message compressed,
 * all of one stream */
static int l_deflate(lua_State *L)
{
    enum inflate_mode mode;
    luaL_argcheck(L, inflate_mode_parse(luaL_checkstring(L, 1), &mode), 1, "no such mode");
    luaL_checktype(L, 2, LUA_TTABLE);
    int count = (int)lua_objlen(L, 2);
    struct deflate *d = deflate_create(mode);
    lua_createtable(L, count, 0);
    for (int i = 1; i <= count; i++) {
        struct buffer out;
        buffer_init(&out, 0);
        lua_rawgeti(L, 2, i);
        size_t len = lua_type(L, -1) == LUA_TNUMBER ? (size_t)lua_tonumber(L, -1) : lua_objlen(L, -1);
        void *blanks = lua_type(L, -1) == LUA_TNUMBER ? malloc(len) : NULL;
        if (blanks) memset(blanks, ' ', len);
        if (!deflate_message(d, blanks ? blanks : lua_tostring(L, -1), len, &out)) abort();
        free(blanks);
        lua_pop(L, 1);
        lua_pushlstring(L, (const char *)out.data, out.len);
        lua_rawseti(L, -2, i);
        buffer_deinit(&out);
    }
    deflate_destroy(d);
    return 1;
}

static double memory_kib(const char *key)
{
    char line[128];
    double kib = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, key, strlen(key)) == 0) kib = strtod(line + strlen(key) + 1, NULL);
    }
    if (f) fclose(f);
    return kib;
}

/* wire.memory_mark(): MiB in use now; the peak counts from here. nil: the system does not tell. */
static int l_memory_mark(lua_State *L)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, "5", 1) == 1;
    if (fd >= 0) close(fd);
    if (!ok) return 0;
    lua_pushnumber(L, memory_kib("VmRSS") / 1024);
    return 1;
}

static int l_memory_peak(lua_State *L)
{
    lua_pushnumber(L, memory_kib("VmHWM") / 1024);
    return 1;
}

int luaopen_unit_wire(lua_State *L);

int luaopen_unit_wire(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "new", l_new }, { "secret", l_secret }, { "decode", l_decode }, { "fd_count", l_fd_count },
        { "write", l_write }, { "deflate", l_deflate }, { "memory_mark", l_memory_mark },
        { "memory_peak", l_memory_peak }, { NULL, NULL }
    };
    static const luaL_Reg methods[] = {
        { "close", l_close }, { "turn", l_turn }, { "now", l_now },
        { "shutdown", l_shutdown }, { "peer", l_peer },
        { "control", l_control }, { "relay", l_relay }, { "relay_set", l_relay_set },
        { "relay_target", l_relay_target },
        { "relay_proxy", l_relay_proxy }, { "pretend", l_pretend },
        { "relay_end", l_relay_end }, { "relay_stats", l_relay_stats }, { "raw", l_raw },
        { "raw_saw", l_raw_saw }, { "raw_go", l_raw_go }, { "silent_end", l_silent_end }, { "bound", l_bound }, { "silent_port", l_silent_port }, { "free_port", l_free_port },
        { "watch", l_watch }, { "watch_loop", l_watch_loop }, { "longest_gap", l_longest_gap },
        { "swap", l_swap }, { "sockets_most", l_sockets_most }, { "add", l_add },
        { "order", l_order }, { "view", l_view }, { "state", l_state }, { "journal", l_journal },
        { "session", l_session }, { "notes", l_notes }, { "messages", l_messages }, { "log", l_log },
        { "counts", l_counts }, { "attach", l_attach }, { "input", l_input }, { "pause", l_pause },
        { "take", l_take }, { NULL, NULL }
    };
    luaL_newmetatable(L, WIRE_SECRET_MT);
    lua_pushcfunction(L, l_secret_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newmetatable(L, WIRE_MT);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 2);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
