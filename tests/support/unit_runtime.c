/* modules: top trace policy bind deliver store engine frame crypto base */
/* The runtime over a host that does nothing by itself: each call of the host table is a line in w:log(),
 * and the spec plays the far end, byte for byte. Also the runtime's own parts: timers, addresses. */
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "policy/sandbox.h"
#include "runtime_internal.h"

#define WORLD_MT  "unit.runtime"
#define TIMERS_MT "unit.runtime.timers"
#define TICKETS_MAX 256

struct box {
    struct runtime *rt;
    struct deliver *deliver;
    struct clock now;
    struct buffer log, written[1024]; /* by link, in order of opening */
    uint64_t links[1024];
    uint32_t link_count;
    uint64_t calls[1024];
    uint32_t call_count;
    size_t queued;      /* what link_queued answers, of any link */
    bool write_fails, open_fails, store_refuses, behind;
    uint64_t tickets[TICKETS_MAX];
    uint32_t ticket_count;
    struct handle consumer;
    struct buffer told;     /* lines to the consumer */
    struct buffer observed; /* lines of the observer's log */
};

static struct box *box_of(lua_State *L)
{
    struct box *b = *(struct box **)luaL_checkudata(L, 1, WORLD_MT);
    if (!b->rt) luaL_error(L, "the runtime is gone");
    return b;
}

static void note(struct box *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(struct box *b, const char *format, ...)
{
    char line[700];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    buffer_printf(&b->log, "%s\n", line);
}

/* ---- host ------------------------------------------------------------------------------------------------ */

static int index_of(const uint64_t *ids, uint32_t count, uint64_t id)
{
    for (uint32_t i = count; i > 0; i--) {
        if (ids[i - 1] == id) return (int)i;
    }
    return 0;
}

static void host_clock(void *self, struct clock *out)
{
    *out = ((struct box *)self)->now;
}

static void host_random(void *self, void *out, size_t len)
{
    (void)self;
    memset(out, 7, len);
}

static bool link_open(void *self, uint64_t link, const struct link_target *target)
{
    struct box *b = self;
    if (b->open_fails) return false;
    ASSERT(b->link_count < 1024);
    b->links[b->link_count++] = link;
    note(b, "open %u %s %s:%u", b->link_count, target->tls ? "tls" : "plain", target->host, target->port);
    return true;
}

static bool link_write(void *self, uint64_t link, const void *bytes, size_t len)
{
    struct box *b = self;
    int i = index_of(b->links, b->link_count, link);
    ASSERT(i > 0);
    ASSERT(len <= LINK_WRITE_QUEUE_MAX);
    if (b->write_fails || b->queued + len > LINK_WRITE_QUEUE_MAX) {
        note(b, "refused %d %zu", i, len);
        return false;
    }
    buffer_append(&b->written[i - 1], bytes, len);
    note(b, "write %d %zu", i, len);
    return true;
}

static size_t link_queued(void *self, uint64_t link)
{
    (void)link;
    return ((struct box *)self)->queued;
}

static void link_read(void *self, uint64_t link, bool on)
{
    struct box *b = self;
    note(b, "read %d %s", index_of(b->links, b->link_count, link), on ? "on" : "off");
}

static void link_drain(void *self, uint64_t link)
{
    struct box *b = self;
    note(b, "drain %d", index_of(b->links, b->link_count, link));
}

static void link_finish(void *self, uint64_t link)
{
    struct box *b = self;
    note(b, "finish %d", index_of(b->links, b->link_count, link));
}

static void link_abort(void *self, uint64_t link)
{
    struct box *b = self;
    note(b, "abort %d", index_of(b->links, b->link_count, link));
}

static bool http_start(void *self, uint64_t call, const struct http_request *request)
{
    struct box *b = self;
    ASSERT(b->call_count < 1024);
    b->calls[b->call_count++] = call;
    note(b, "http %u %s %s headers %u", b->call_count, request->method, request->url,
         request->header_count);
    return true;
}

static void http_cancel(void *self, uint64_t call)
{
    struct box *b = self;
    note(b, "cancel %d", index_of(b->calls, b->call_count, call));
}

static void wake(void *self)
{
    (void)self;
}

static bool is_behind(void *self)
{
    const struct box *b = self;
    return b->behind;
}

static const struct host_ops host = {
    .clock = host_clock, .random = host_random, .link_open = link_open, .link_write = link_write,
    .link_queued = link_queued, .link_read = link_read, .link_drain = link_drain,
    .link_finish = link_finish, .link_abort = link_abort, .http_start = http_start,
    .http_cancel = http_cancel, .wake = wake, .is_behind = is_behind,
};

static bool store_submit(void *self, const struct store_request *request)
{
    static const char *const names[] = {
#define X(name, text) text,
        STORE_OP_MAP(X)
#undef X
    };
    struct box *b = self;
    /* What is written beside each frame and each decision has its own specs. */
    if (request->op == STORE_OP_SEEN || request->op == STORE_OP_JOURNAL) return true;
    if (request->op >= STORE_OP_EVENT && request->op != STORE_OP_FRAMES && request->op < STORE_OP_WISH) return true;
    note(b, "store %s %llu %.*s%s", names[request->op], (unsigned long long)request->offset,
         (int)request->len, request->bytes ? (const char *)request->bytes : "", request->hurries ? " hurries" : "");
    if (b->store_refuses) return false;
    ASSERT(b->ticket_count < TICKETS_MAX);
    if (request->ticket) b->tickets[b->ticket_count++] = request->ticket;
    return true;
}

static const char *store_kind(void *self)
{
    (void)self;
    return "test";
}

static const struct store_ops store = { .submit = store_submit, .kind = store_kind };

static void on_log(void *self, enum log_level level, const char *connection, const char *text)
{
    struct box *b = self;
    buffer_printf(&b->observed, "%d %s %s\n", (int)level, connection ? connection : "-", text);
}

/* ---- the world -------------------------------------------------------------------------------------------- */

static int l_new(lua_State *L)
{
    uint32_t most = (uint32_t)luaL_optinteger(L, 1, 64);
    struct box *b = calloc(1, sizeof *b);
    *(struct box **)lua_newuserdata(L, sizeof b) = b;
    luaL_setmetatable(L, WORLD_MT);
    b->now = (struct clock){ 1000000, 1000000, 1795341600000 };
    buffer_init(&b->log, 0);
    buffer_init(&b->observed, 0);
    buffer_init(&b->told, 0);
    for (int i = 0; i < 1024; i++) buffer_init(&b->written[i], 0);
    struct deliver_options deliver = { .epoch = 1 };
    b->deliver = deliver_create(&deliver);
    struct runtime_options o = { .seed = 1, .host = { &host, b }, .store = { &store, b },
                                 .deliver = b->deliver,
                                 .observer = { .self = b, .log = on_log },
                                 .connections_max = most };
    b->rt = runtime_create(&o);
    ASSERT(b->rt != NULL);
    return 1;
}

static void destroy(struct box *b)
{
    if (!b->rt) return;
    runtime_destroy(b->rt);
    b->rt = NULL;
    deliver_destroy(b->deliver);
}

static int l_destroy(lua_State *L)
{
    destroy(box_of(L));
    return 0;
}

static int l_gc(lua_State *L)
{
    struct box *b = *(struct box **)luaL_checkudata(L, 1, WORLD_MT);
    destroy(b);
    buffer_deinit(&b->log);
    buffer_deinit(&b->observed);
    buffer_deinit(&b->told);
    for (int i = 0; i < 1024; i++) buffer_deinit(&b->written[i]);
    free(b);
    return 0;
}

static struct value settings_read(lua_State *L, const char *text)
{
    char error[256];
    struct value out = value_nil();
    struct sandbox_options options = { .name = "settings", .lua_path = "lua" };
    struct sandbox *s = sandbox_create(&options);
    bool ok = sandbox_run(s, text, strlen(text), "settings", error, sizeof error) == CALL_OK &&
              sandbox_to_value(sandbox_lua(s), -1, &out, error, sizeof error);
    sandbox_destroy(s);
    if (!ok) luaL_error(L, "settings: %s", error);
    return out;
}

/* A build of the policy file at `path` with the settings text; raises with the first problem. A setting
 * named `token` becomes a secret. */
static struct policy_build *build_of(lua_State *L, const char *path, const char *settings_text)
{
    struct policy_load load = { .name = "test", .path = path, .lua_path = "lua", .version = 1 };
    struct value settings = settings_read(L, settings_text);
    struct value *token = value_get(&settings, "token");
    if (token && token->kind == VALUE_STRING) {
        struct secret *s = secret_create("token", token->string.bytes, token->string.len);
        value_set(&settings, "token", value_secret(s));
        secret_unref(s);
    }
    struct problems problems;
    problems_init(&problems);
    struct policy_version *v = policy_load(&load, &problems);
    struct policy_build *b = v ? policy_build_create(v, &settings, "the spec", &problems) : NULL;
    char text[1024] = "";
    if (problems.count) problem_format(&problems.items[0], text, sizeof text);
    policy_unref(v);
    value_clear(&settings);
    problems_deinit(&problems);
    if (!b) luaL_error(L, "%s", text);
    return b;
}

static int l_add(lua_State *L)
{
    struct box *b = box_of(L);
    char why[300];
    struct connection_spec spec = { .name = luaL_checkstring(L, 2),
                                    .build = build_of(L, luaL_checkstring(L, 3), luaL_checkstring(L, 4)),
                                    .plain = lua_toboolean(L, 5),
                                    .owner = luaL_optstring(L, 6, NULL) };
    if (!handle_is_none(runtime_add(b->rt, &spec, why, sizeof why))) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

static int l_swap(lua_State *L)
{
    struct box *b = box_of(L);
    struct policy_build *build = build_of(L, luaL_checkstring(L, 3), luaL_checkstring(L, 4));
    runtime_swap(b->rt, runtime_find(b->rt, luaL_checkstring(L, 2)), build);
    return 0;
}

static int l_order(lua_State *L)
{
    static const char *const names[] = { "start", "stop", "restart", "remove", NULL };
    static void (*const orders[])(struct runtime *, struct handle) = { runtime_start, runtime_stop,
                                                                       runtime_restart, runtime_remove };
    struct box *b = box_of(L);
    orders[luaL_checkoption(L, 3, NULL, names)](b->rt, runtime_find(b->rt, luaL_checkstring(L, 2)));
    return 0;
}

static int l_shutdown(lua_State *L)
{
    runtime_shutdown(box_of(L)->rt);
    return 0;
}

static int l_shutdown_undo(lua_State *L)
{
    runtime_shutdown_undo(box_of(L)->rt);
    return 0;
}

static int l_is_down(lua_State *L)
{
    lua_pushboolean(L, runtime_is_down(box_of(L)->rt));
    return 1;
}

/* w:tick(ms, suspended_ms, wall_step_ms): time passes, then one tick. */
static int l_tick(lua_State *L)
{
    struct box *b = box_of(L);
    uint64_t ms = (uint64_t)luaL_optnumber(L, 2, 0), slept_ms = (uint64_t)luaL_optnumber(L, 3, 0);
    b->now.mono_ms += ms;
    b->now.boot_ms += ms + slept_ms;
    b->now.wall_ms += ms + slept_ms + (uint64_t)(int64_t)luaL_optnumber(L, 4, 0);
    runtime_tick(b->rt);
    return 0;
}

/* -> ms until it, and how many ms ago it was: the loop takes that for its own delay, but for 0, which is "at once" */
static int l_deadline(lua_State *L)
{
    struct box *b = box_of(L);
    uint64_t at = runtime_deadline_ms(b->rt), now = b->now.mono_ms;
    if (at == ENGINE_NEVER) return 0;
    lua_pushnumber(L, at > now ? (double)(at - now) : 0);
    lua_pushnumber(L, at && at < now ? (double)(now - at) : 0);
    return 2;
}

static int l_log(lua_State *L)
{
    struct box *b = box_of(L);
    lua_pushlstring(L, (const char *)b->log.data, b->log.len);
    buffer_clear(&b->log);
    return 1;
}

static int l_observed(lua_State *L)
{
    struct box *b = box_of(L);
    lua_pushlstring(L, (const char *)b->observed.data, b->observed.len);
    buffer_clear(&b->observed);
    return 1;
}

static int l_written(lua_State *L)
{
    struct box *b = box_of(L);
    struct buffer *w = &b->written[luaL_checkinteger(L, 2) - 1];
    lua_pushlstring(L, (const char *)w->data, w->len);
    buffer_clear(w);
    return 1;
}

static uint64_t link_id(struct box *b, lua_State *L)
{
    lua_Integer i = luaL_checkinteger(L, 2);
    luaL_argcheck(L, i >= 1 && (uint32_t)i <= b->link_count, 2, "no such link");
    return b->links[i - 1];
}

static int l_stage(lua_State *L)
{
    struct box *b = box_of(L);
    enum stage stage;
    luaL_argcheck(L, stage_parse(luaL_checkstring(L, 3), &stage), 3, "no stage");
    runtime_host_sink.link_stage(b->rt, link_id(b, L), stage);
    return 0;
}

static int l_opened(lua_State *L)
{
    struct box *b = box_of(L);
    runtime_host_sink.link_opened(b->rt, link_id(b, L));
    return 0;
}

static int l_bytes(lua_State *L)
{
    struct box *b = box_of(L);
    size_t len;
    const char *text = luaL_checklstring(L, 3, &len);
    uint8_t *copy = malloc(len + 1); /* exactly as long, so that a sanitizer sees one byte too many */
    memcpy(copy, text, len);
    copy = realloc(copy, len ? len : 1);
    size_t used = runtime_host_sink.link_bytes(b->rt, link_id(b, L), copy, len);
    free(copy);
    lua_pushinteger(L, (lua_Integer)used);
    return 1;
}

static int l_writable(lua_State *L)
{
    struct box *b = box_of(L);
    runtime_host_sink.link_writable(b->rt, link_id(b, L));
    return 0;
}

static int l_drained(lua_State *L)
{
    struct box *b = box_of(L);
    runtime_host_sink.link_drained(b->rt, link_id(b, L));
    return 0;
}

static int l_ended(lua_State *L)
{
    struct box *b = box_of(L);
    struct cause cause = cause_make(STAGE_CONNECTING, CAUSE_RESET, BY_NETWORK, "reset by the spec");
    runtime_host_sink.link_ended(b->rt, link_id(b, L), &cause);
    return 0;
}

static int l_closed(lua_State *L)
{
    struct box *b = box_of(L);
    runtime_host_sink.link_closed(b->rt, link_id(b, L));
    return 0;
}

/* w:http(call, status, head, body); without a status it got no answer */
static int l_http(lua_State *L)
{
    struct box *b = box_of(L);
    struct http_result r = { .answered = !lua_isnoneornil(L, 3), .status = (int)luaL_optinteger(L, 3, 0) };
    r.cause = cause_make(STAGE_CONNECTING, r.answered ? CAUSE_NONE : CAUSE_TIMEOUT, BY_NETWORK, "no answer");
    r.head = luaL_optlstring(L, 4, "", &r.head_len);
    r.body = luaL_optlstring(L, 5, "", &r.body_len);
    runtime_host_sink.http_done(b->rt, b->calls[luaL_checkinteger(L, 2) - 1], &r);
    return 0;
}

/* w:stored(ok): the oldest write that waits */
static int l_stored(lua_State *L)
{
    struct box *b = box_of(L);
    if (b->ticket_count == 0) return luaL_error(L, "no write waits");
    uint64_t ticket = b->tickets[0];
    memmove(b->tickets, b->tickets + 1, --b->ticket_count * sizeof *b->tickets);
    runtime_stored(b->rt, ticket, lua_toboolean(L, 2));
    return 0;
}

static int l_set(lua_State *L)
{
    static const char *const names[] = { "queued", "write_fails", "open_fails", "behind", "store_refuses", NULL };
    struct box *b = box_of(L);
    switch (luaL_checkoption(L, 2, NULL, names)) {
    case 0: b->queued = (size_t)luaL_checknumber(L, 3); break;
    case 1: b->write_fails = lua_toboolean(L, 3); break;
    case 2: b->open_fails = lua_toboolean(L, 3); break;
    case 3: b->behind = lua_toboolean(L, 3); break;
    default: b->store_refuses = lua_toboolean(L, 3); break;
    }
    return 0;
}

static int l_view(lua_State *L)
{
    struct box *b = box_of(L);
    struct connection_view v;
    if (!runtime_view(b->rt, runtime_find(b->rt, luaL_checkstring(L, 2)), &v)) return 0;
    lua_newtable(L);
    lua_pushstring(L, conn_state_name(v.engine.state)), lua_setfield(L, -2, "state");
    lua_pushstring(L, v.engine.cause.kind ? v.engine.cause.name : ""), lua_setfield(L, -2, "cause");
    lua_pushstring(L, v.engine.cause.reason), lua_setfield(L, -2, "reason");
    lua_pushinteger(L, v.engine.cause.http_status), lua_setfield(L, -2, "http");
    lua_pushinteger(L, v.engine.generation), lua_setfield(L, -2, "generation");
    lua_pushstring(L, v.address), lua_setfield(L, -2, "address");
    lua_pushstring(L, v.engine.next), lua_setfield(L, -2, "next");
    lua_pushnumber(L, (double)v.turn_ahead), lua_setfield(L, -2, "ahead");
    lua_pushnumber(L, (double)v.pulse.bytes_in), lua_setfield(L, -2, "bytes_in");
    lua_pushnumber(L, (double)v.frames_delivered), lua_setfield(L, -2, "delivered");
    lua_pushnumber(L, (double)v.frames_duplicate), lua_setfield(L, -2, "duplicate");
    lua_pushstring(L, v.warning), lua_setfield(L, -2, "warning");
    lua_pushnumber(L, (double)v.backlog.frames), lua_setfield(L, -2, "held");
    return 1;
}

static int l_journal(lua_State *L)
{
    static const char *const kinds[] = { "state", "decision", "alarm", "hook", "note" };
    struct box *b = box_of(L);
    struct handle h = runtime_find(b->rt, luaL_checkstring(L, 2));
    struct journal_entry e;
    lua_newtable(L);
    for (uint32_t i = 0; runtime_journal(b->rt, h, i, &e); i++) {
        lua_newtable(L);
        lua_pushstring(L, kinds[e.kind]), lua_setfield(L, -2, "kind");
        lua_pushstring(L, e.text), lua_setfield(L, -2, "text");
        lua_pushstring(L, e.file), lua_setfield(L, -2, "file");
        lua_pushinteger(L, e.generation), lua_setfield(L, -2, "generation");
        if (e.kind == JOURNAL_DECISION) {
            lua_pushstring(L, e.decision.cause.name), lua_setfield(L, -2, "cause");
            lua_pushstring(L, e.decision.cause.reason), lua_setfield(L, -2, "reason");
            lua_pushinteger(L, e.decision.cause.close_code), lua_setfield(L, -2, "close");
            lua_pushinteger(L, (lua_Integer)e.decision.line), lua_setfield(L, -2, "line");
            lua_pushstring(L, e.decision.note), lua_setfield(L, -2, "note");
            lua_pushnumber(L, (double)e.decision.delay_ms), lua_setfield(L, -2, "delay");
        }
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static int l_session(lua_State *L)
{
    struct box *b = box_of(L);
    struct buffer out;
    buffer_init(&out, 0);
    runtime_session_json(b->rt, runtime_find(b->rt, luaL_checkstring(L, 2)), &out);
    lua_pushlstring(L, (const char *)out.data, out.len);
    buffer_deinit(&out);
    return 1;
}

/* { timers, tasks, calls, sends, links, fetches, queue, journal bytes of one connection } */
static int l_counts(lua_State *L)
{
    struct box *b = box_of(L);
    lua_newtable(L);
    lua_pushinteger(L, b->rt->timers.count), lua_setfield(L, -2, "timers");
    lua_pushinteger(L, b->rt->tasks.count), lua_setfield(L, -2, "tasks");
    lua_pushinteger(L, b->rt->calls.count), lua_setfield(L, -2, "calls");
    lua_pushinteger(L, b->rt->sends.count), lua_setfield(L, -2, "sends");
    lua_pushinteger(L, b->rt->links.count), lua_setfield(L, -2, "links");
    lua_pushinteger(L, b->rt->fetch_count), lua_setfield(L, -2, "fetches");
    lua_pushinteger(L, b->rt->queue_capacity), lua_setfield(L, -2, "queue");
    lua_pushinteger(L, (lua_Integer)runtime_count(b->rt)), lua_setfield(L, -2, "connections");
    lua_pushinteger(L, runtime_turns(b->rt).waiting), lua_setfield(L, -2, "awaiting_turn");
    lua_pushinteger(L, runtime_turns(b->rt).under_way), lua_setfield(L, -2, "under_way");
    return 1;
}

static void on_answered(void *to, const char *why, bool retry)
{
    struct box *b = to;
    note(b, "answer %s%s", why ? why : "sent", retry ? " (retry)" : "");
}

static int l_send(lua_State *L)
{
    struct box *b = box_of(L);
    size_t len;
    const char *why, *frame = luaL_checklstring(L, 3, &len);
    uint64_t id = deliver_send(b->deliver, luaL_checkstring(L, 2), frame, len, true, on_answered, b, &why);
    if (!id) note(b, "refused at once: %s", why);
    return 0;
}

/* w:consume(name): attaches a consumer; what it is told is in w:told(). */
static bool told_write(void *self, const void *lines, size_t len)
{
    return buffer_append(&((struct box *)self)->told, lines, len);
}

static void told_detached(void *self, const char *why)
{
    buffer_printf(&((struct box *)self)->told, "detached: %s\n", why);
}

static int l_consume(lua_State *L)
{
    struct box *b = box_of(L);
    struct deliver_sink sink = { .self = b, .write = told_write, .detached = told_detached };
    struct attach attach;
    const char *why = NULL;
    attach_init(&attach);
    attach.consumer = luaL_checkstring(L, 2);
    b->consumer = deliver_attach(b->deliver, &attach, &sink, &why);
    if (handle_is_none(b->consumer)) return luaL_error(L, "%s", why);
    deliver_pump(b->deliver);
    return 0;
}

static int l_say(lua_State *L)
{
    struct box *b = box_of(L);
    size_t len;
    const char *line = luaL_checklstring(L, 2, &len);
    deliver_input(b->deliver, b->consumer, line, len);
    deliver_input(b->deliver, b->consumer, "\n", 1);
    deliver_pump(b->deliver);
    return 0;
}

static int l_told(lua_State *L)
{
    struct box *b = box_of(L);
    deliver_pump(b->deliver);
    lua_pushlstring(L, (const char *)b->told.data, b->told.len);
    buffer_clear(&b->told);
    return 1;
}

/* ---- the far end ------------------------------------------------------------------------------------------- */

/* The 101 for a request. */
static int l_accept(lua_State *L)
{
    size_t len, used;
    const char *text = luaL_checklstring(L, 1, &len);
    struct request_reader r;
    struct buffer out;
    request_reader_init(&r);
    buffer_init(&out, 0);
    bool ok = request_read(&r, (const uint8_t *)text, len, &used) == UPGRADE_DONE && r.is_upgrade &&
              upgrade_write_accept(&out, r.key, NULL);
    request_reader_deinit(&r);
    if (ok) lua_pushlstring(L, (const char *)out.data, out.len);
    buffer_deinit(&out);
    return ok ? 1 : 0;
}

static int l_frame(lua_State *L)
{
    size_t len;
    const char *payload = luaL_optlstring(L, 2, "", &len);
    struct buffer out;
    buffer_init(&out, 0);
    ws_encode(&out, (enum ws_opcode)luaL_checkinteger(L, 1), true, payload, len, NULL);
    lua_pushlstring(L, (const char *)out.data, out.len);
    buffer_deinit(&out);
    return 1;
}

static int l_close_frame(lua_State *L)
{
    struct buffer out;
    buffer_init(&out, 0);
    ws_encode_close(&out, (uint16_t)luaL_checkinteger(L, 1), luaL_optstring(L, 2, NULL), NULL);
    lua_pushlstring(L, (const char *)out.data, out.len);
    buffer_deinit(&out);
    return 1;
}

/* What a client wrote: { { kind, data or code } ... } */
static int l_decode(lua_State *L)
{
    static const char *const kinds[] = { "more", "message", "ping", "pong", "close", "error" };
    size_t len, at = 0, used;
    const char *text = luaL_checklstring(L, 1, &len);
    uint8_t *copy = malloc(len + 1);
    struct ws_decoder d;
    struct ws_item item;
    memcpy(copy, text, len);
    ws_decoder_init(&d, WS_SERVER, 64 << 20);
    lua_newtable(L);
    for (int n = 1; ws_decode(&d, copy + at, len - at, &used, &item) != WS_ITEM_MORE; n++) {
        at += used;
        lua_newtable(L);
        lua_pushstring(L, kinds[item.kind]), lua_setfield(L, -2, "kind");
        lua_pushlstring(L, (const char *)item.data, item.len), lua_setfield(L, -2, "data");
        lua_pushinteger(L, item.close_code), lua_setfield(L, -2, "code");
        lua_rawseti(L, -2, n);
        if (item.kind == WS_ITEM_ERROR) break;
    }
    ws_decoder_deinit(&d);
    free(copy);
    return 1;
}

/* ---- parts ------------------------------------------------------------------------------------------------- */

/* address(policy path, settings, prepared text, plain) -> { host, port, tls, authority, target, protocol,
 * inflate, shown, headers } or nil, why. A key of `prepared` whose name ends in _secret is one. */
static int l_address(lua_State *L)
{
    struct policy_build *build = build_of(L, luaL_checkstring(L, 1), luaL_checkstring(L, 2));
    struct value prepared = settings_read(L, luaL_checkstring(L, 3));
    struct rt_conn c = { .plain = lua_toboolean(L, 4) };
    char why[300] = "";
    const struct value *hidden = value_get(&prepared, "url_secret");
    for (int i = 0; i < 2; i++) {
        const char *from = i ? "protocol_secret" : "url_secret", *to = i ? "protocol" : "url";
        hidden = value_get(&prepared, from);
        if (!hidden) continue;
        struct secret *s = secret_create(to, hidden->string.bytes, hidden->string.len);
        value_set(&prepared, to, value_secret(s));
        secret_unref(s);
    }
    struct rt_address *a = rt_address_create(&c, build, &prepared, why, sizeof why);
    value_clear(&prepared);
    policy_build_destroy(build);
    if (!a) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    lua_newtable(L);
    lua_pushstring(L, a->host), lua_setfield(L, -2, "host");
    lua_pushinteger(L, a->port), lua_setfield(L, -2, "port");
    lua_pushboolean(L, a->tls), lua_setfield(L, -2, "tls");
    lua_pushstring(L, a->authority), lua_setfield(L, -2, "authority");
    lua_pushstring(L, a->target), lua_setfield(L, -2, "target");
    lua_pushstring(L, a->protocol), lua_setfield(L, -2, "protocol");
    lua_pushinteger(L, a->inflate), lua_setfield(L, -2, "inflate");
    lua_pushstring(L, a->shown), lua_setfield(L, -2, "shown");
    lua_pushinteger(L, (lua_Integer)a->header_count), lua_setfield(L, -2, "headers");
    rt_address_free(a);
    return 1;
}

static int l_timers(lua_State *L)
{
    struct timers *t = lua_newuserdata(L, sizeof *t);
    timers_init(t);
    luaL_setmetatable(L, TIMERS_MT);
    return 1;
}

static int l_timers_gc(lua_State *L)
{
    timers_deinit(luaL_checkudata(L, 1, TIMERS_MT));
    return 0;
}

static int l_timers_add(lua_State *L)
{
    struct timers *t = luaL_checkudata(L, 1, TIMERS_MT);
    timers_add(t, (struct timer){ .due_ms = (uint64_t)luaL_checknumber(L, 2),
                                  .index = (uint32_t)luaL_checkinteger(L, 3) });
    return 0;
}

/* t:arm(armed, due) -> armed */
static int l_timers_arm(lua_State *L)
{
    struct timers *t = luaL_checkudata(L, 1, TIMERS_MT);
    uint64_t armed_ms = (uint64_t)luaL_checknumber(L, 2);
    timers_arm(t, &armed_ms, (struct timer){ .due_ms = (uint64_t)luaL_checknumber(L, 3) });
    lua_pushnumber(L, (double)armed_ms);
    return 1;
}

static int l_timers_take(lua_State *L)
{
    struct timers *t = luaL_checkudata(L, 1, TIMERS_MT);
    struct timer out;
    if (!timers_take(t, (uint64_t)luaL_checknumber(L, 2), &out)) return 0;
    lua_pushnumber(L, (double)out.due_ms);
    lua_pushinteger(L, (lua_Integer)out.index);
    return 2;
}

static int l_timers_next(lua_State *L)
{
    struct timers *t = luaL_checkudata(L, 1, TIMERS_MT);
    if (timers_next_ms(t) == UINT64_MAX) return 0;
    lua_pushnumber(L, (double)timers_next_ms(t));
    return 1;
}

static int l_timers_count(lua_State *L)
{
    struct timers *t = luaL_checkudata(L, 1, TIMERS_MT);
    lua_pushinteger(L, t->count);
    return 1;
}

static int l_marks(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)mark_hits(luaL_checkstring(L, 1)));
    return 1;
}

int luaopen_unit_runtime(lua_State *L);
int luaopen_unit_runtime(lua_State *L)
{
    static const luaL_Reg world[] = {
        { "add", l_add }, { "swap", l_swap }, { "order", l_order }, { "shutdown", l_shutdown },
        { "shutdown_undo", l_shutdown_undo },
        { "is_down", l_is_down }, { "tick", l_tick }, { "deadline", l_deadline }, { "log", l_log },
        { "observed", l_observed }, { "written", l_written }, { "stage", l_stage },
        { "opened", l_opened }, { "bytes", l_bytes }, { "writable", l_writable },
        { "drained", l_drained }, { "ended", l_ended }, { "closed", l_closed }, { "http", l_http },
        { "stored", l_stored }, { "set", l_set }, { "view", l_view }, { "journal", l_journal },
        { "session", l_session }, { "counts", l_counts }, { "send", l_send },
        { "consume", l_consume }, { "say", l_say }, { "told", l_told },
        { "destroy", l_destroy }, { NULL, NULL },
    };
    static const luaL_Reg timers[] = {
        { "add", l_timers_add }, { "arm", l_timers_arm }, { "take", l_timers_take },
        { "next", l_timers_next }, { "count", l_timers_count }, { NULL, NULL },
    };
    static const luaL_Reg module[] = {
        { "new", l_new }, { "accept", l_accept }, { "frame", l_frame }, { "close_frame", l_close_frame },
        { "decode", l_decode }, { "address", l_address }, { "timers", l_timers },
        { "mark_hits", l_marks }, { NULL, NULL },
    };
    luaL_newmetatable(L, WORLD_MT);
    lua_pushcfunction(L, l_gc), lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    luaL_setfuncs(L, world, 0);
    lua_setfield(L, -2, "__index");
    luaL_newmetatable(L, TIMERS_MT);
    lua_pushcfunction(L, l_timers_gc), lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    luaL_setfuncs(L, timers, 0);
    lua_setfield(L, -2, "__index");
    lua_newtable(L);
    luaL_setfuncs(L, module, 0);
    return 1;
}
