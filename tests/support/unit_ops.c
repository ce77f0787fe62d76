/* modules: ops deliver frame crypto engine base */
/* ops/ as a Lua module: the real server on a real loop, real sockets, and a runtime that is only a
 * list of names. The loop runs when Lua says step(). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/text.h"
#include "frame/ws.h"
#include "ops/ops.h"
#include "ops/ops_internal.h"

#define BOX "unit.ops"
#define CONNECTIONS_MAX 20000

/* --- the runtime ------------------------------------------------------------------------------ */

struct runtime {
    char names[CONNECTIONS_MAX][64];
    uint32_t count;
    struct buffer orders;
};

const char *runtime_store_kind(const struct runtime *rt)
{
    (void)rt;
    return "memory";
}

struct handle runtime_find(const struct runtime *rt, const char *name)
{
    for (uint32_t i = 0; i < rt->count; i++)
        if (strcmp(rt->names[i], name) == 0) return (struct handle){ i, 1 };
    return HANDLE_NONE;
}

bool runtime_next(const struct runtime *rt, uint32_t *index, struct handle *conn_out)
{
    *conn_out = (struct handle){ *index, 1 };
    return *index < rt->count;
}

bool runtime_view(const struct runtime *rt, struct handle conn, struct connection_view *out)
{
    if (conn.index >= rt->count) return false;
    memset(out, 0, sizeof *out);
    memcpy(out->name, rt->names[conn.index], sizeof out->name);
    return true;
}

bool runtime_view_facts(const struct runtime *rt, struct handle conn, struct connection_view *out)
{
    return runtime_view(rt, conn, out);
}

bool runtime_view_json(const struct connection_view *view, struct buffer *out)
{
    return buffer_append_text(out, "{\"name\":") &&
           text_json_string(out, view->name, strlen(view->name)) &&
           buffer_append_text(out, ",\"state\":\"up\"}");
}

bool runtime_outlook(const struct runtime *rt, struct handle conn, struct connection_outlook *out)
{
    (void)rt, (void)conn, (void)out;
    return false;
}

bool runtime_journal(const struct runtime *rt, struct handle conn, uint32_t index,
                     struct journal_entry *out)
{
    (void)rt;
    (void)conn;
    if (index >= 3) return false;
    memset(out, 0, sizeof *out);
    out->wall_ms = 1795341600123;
    out->generation = 7;
    out->kind = index == 0 ? JOURNAL_DECISION : index == 1 ? JOURNAL_STATE : JOURNAL_NOTE;
    out->from = CONN_UP;
    out->to = CONN_WAITING;
    out->decision.cause = cause_make(STAGE_READY, CAUSE_EOF, BY_PEER, "gone");
    out->decision.delay_ms = 1400;
    strcpy(out->text, "a \"text\"");
    strcpy(out->file, "policies/chatter.lua");
    return true;
}

bool runtime_history(const struct runtime *rt, struct handle conn, const struct history_mark **marks, uint32_t *count)
{
    /* 2026-11-22T10:00:00.123Z, and what followed. */
    static const struct history_mark all[] = { { 1795341600, 123, CONN_UP, CAUSE_NONE },
                                               { 1795341700, 0, CONN_WAITING, CAUSE_EOF },
                                               { 1795341701, 5, HISTORY_GIVEN_UP, CAUSE_CLOSED },
                                               { 1795341800, 0, HISTORY_UNKNOWN, CAUSE_NONE } };
    *marks = all;
    *count = conn.index == 0 ? 4 : 0;
    return conn.index < rt->count;
}

bool runtime_trace(struct runtime *rt, struct handle conn, uint64_t last_ms, const char *recorded_by, struct buffer *out,
                   char *why, size_t why_bytes)
{
    (void)rt, (void)conn, (void)last_ms, (void)recorded_by, (void)out;
    snprintf(why, why_bytes, "nothing is recorded here");
    return false;
}

uint64_t history_at_ms(const struct history_mark *m)
{
    return (uint64_t)m->at_s * 1000 + m->at_ms;
}

const char *history_state_name(uint8_t state)
{
    return state == HISTORY_GIVEN_UP ? "given_up" : state == HISTORY_UNKNOWN ? "unknown" : conn_state_name((enum conn_state)state);
}

const struct runtime_counts *runtime_counts(const struct runtime *rt)
{
    static const struct runtime_counts none;
    (void)rt;
    return &none;
}

const char *runtime_verdict_name(uint32_t index)
{
    static const char *const names[] = { "resume", "fresh", "renew", "slow", "stop" };
    return names[index];
}

const char *hook_name(enum hook h)
{
    (void)h;
    return "greet";
}

bool runtime_budget(const struct runtime *rt, struct handle conn, enum budget_kind budget, struct budget_view *out)
{
    (void)rt, (void)conn, (void)budget, (void)out;
    return false;
}

bool runtime_weather_json(const struct runtime *rt, struct buffer *out)
{
    (void)rt;
    return buffer_append_text(out, "[]");
}

uint32_t runtime_weather(const struct runtime *rt, struct weather_front out[WEATHER_FRONTS_MAX])
{
    (void)rt, (void)out;
    return 0;
}

bool runtime_trial_next(const struct runtime *rt, uint32_t *index, struct runtime_trial *out)
{
    (void)rt, (void)index, (void)out;
    return false;
}

uint32_t runtime_count(const struct runtime *rt)
{
    return rt->count;
}

struct runtime_turns runtime_turns(const struct runtime *rt)
{
    (void)rt;
    return (struct runtime_turns){ .waiting = 40, .under_way = 256, .waited_total = 90 };
}

struct runtime_held runtime_held(const struct runtime *rt)
{
    (void)rt;
    return (struct runtime_held){ 0 };
}

bool runtime_loop_delay(const struct runtime *rt, struct host_loop_delay *out)
{
    (void)rt, (void)out;
    return false;
}

void runtime_clock_told(const struct runtime *rt)
{
    (void)rt;
}

static void order(struct runtime *rt, const char *verb, struct handle conn)
{
    buffer_printf(&rt->orders, "%s %s\n", verb, rt->names[conn.index]);
}

void runtime_start(struct runtime *rt, struct handle conn)
{
    order(rt, "start", conn);
}

bool runtime_start_reserve(struct runtime *rt, struct handle conn, char *why, size_t why_bytes)
{
    order(rt, "start with the reserve of", conn);
    snprintf(why, why_bytes, "nothing is left: the next one comes at noon");
    return conn.index != 1;
}

void runtime_stop(struct runtime *rt, struct handle conn)
{
    order(rt, "stop", conn);
}

void runtime_restart(struct runtime *rt, struct handle conn)
{
    order(rt, "restart", conn);
}

/* --- the box ---------------------------------------------------------------------------------- */

struct box {
    uv_loop_t loop;
    struct runtime rt;
    struct deliver *d;
    struct ops *ops;
    uint64_t send_id;
    bool answers;
    bool reload_ok, ready, closed;
    struct buffer log;
};

static struct box *check_box(lua_State *L)
{
    return *(struct box **)luaL_checkudata(L, 1, BOX);
}

static void port_send(void *self, const char *connection, uint64_t send_id, const void *frame,
                      size_t len, bool text)
{
    struct box *b = self;
    buffer_printf(&b->rt.orders, "send %s %s %.*s\n", connection, text ? "text" : "bytes", (int)len,
                  (const char *)frame);
    b->send_id = send_id;
    if (b->answers) deliver_send_answer(b->d, send_id, NULL, false);
}

static void port_send_dropped(void *self, uint64_t send_id)
{
    struct box *b = self;
    (void)send_id;
    buffer_append_text(&b->rt.orders, "dropped\n");
}

static void box_log(void *self, enum log_level level, const char *text)
{
    struct box *b = self;
    buffer_printf(&b->log, "%d %s\n", (int)level, text);
}

static enum ops_reloaded box_reload(void *self, struct ops_reload *wish, struct buffer *problems)
{
    struct box *b = self;
    buffer_printf(&b->rt.orders, "reload %s%s\n", wish->policy ? wish->policy : "all",
                  wish->unproven ? " unproven" : "");
    if (!b->reload_ok) buffer_append_text(problems, "a.lua:3: \"x\" is unknown\nsecond\n");
    return b->reload_ok ? OPS_RELOAD_DONE : OPS_RELOAD_REFUSED;
}

static bool box_ready(void *self)
{
    return ((struct box *)self)->ready;
}

static int box_upgrade(void *self, const struct ops_upgrade *wish, struct ops_problems *problems)
{
    struct box *b = self;
    buffer_printf(&b->rt.orders, "upgrade %s %s %d\n", wish->binary ? wish->binary : "itself",
                  wish->cold ? "cold" : "warm", (int)wish->within_ms);
    if (b->reload_ok) return 202;
    ops_problem_add(problems, "", "another time", "not now");
    return 409;
}

static void box_closed(void *to)
{
    ((struct box *)to)->closed = true;
}

static const char *field_text(lua_State *L, int at, const char *key)
{
    lua_getfield(L, at, key);
    const char *text = lua_tostring(L, -1);
    lua_pop(L, 1);
    return text;
}

static lua_Number field_number(lua_State *L, int at, const char *key, lua_Number otherwise)
{
    lua_getfield(L, at, key);
    lua_Number n = lua_isnil(L, -1) ? otherwise : lua_tonumber(L, -1);
    lua_pop(L, 1);
    return n;
}

/* new { unix =, http =, tokens = { { "bytes", scope, consumer }, ... }, ... } */
static int l_new(lua_State *L)
{
    struct box **slot = lua_newuserdata(L, sizeof *slot);
    *slot = NULL;
    struct box *b = calloc(1, sizeof *b);
    uv_loop_init(&b->loop);
    buffer_init(&b->rt.orders, 0);
    buffer_init(&b->log, 0);
    b->answers = b->reload_ok = b->ready = true;
    struct deliver_options deliver_options = {
        .epoch = 3, .consumer_bytes_max = (size_t)field_number(L, 1, "consumer_bytes", 0) };
    b->d = deliver_create(&deliver_options);
    struct deliver_port port = { .self = b, .send = port_send, .send_dropped = port_send_dropped };
    deliver_set_port(b->d, &port);

    struct ops_token tokens[OPS_TOKENS_MAX];
    struct ops_options options = {
        .unix_path = field_text(L, 1, "unix"), .http = field_text(L, 1, "http"), .tokens = tokens,
        .clients_max = (uint32_t)field_number(L, 1, "clients", 0),
        .watch_events_max = (uint32_t)field_number(L, 1, "watch_events_max", 0),
        .head_ms = (uint64_t)field_number(L, 1, "head_ms", 0),
        .idle_ms = (uint64_t)field_number(L, 1, "idle_ms", 0),
        .queue_bytes_max = (size_t)field_number(L, 1, "queue", 0),
        .self = b, .log = box_log, .reload = box_reload, .ready = box_ready, .upgrade = box_upgrade };
    struct ops_listeners adopted = OPS_LISTENERS_NONE;
    lua_getfield(L, 1, "adopted");
    if (lua_istable(L, -1)) {
        int at = lua_gettop(L);
        adopted.unix_fd = (int)field_number(L, at, "unix", -1);
        adopted.unix_lock_fd = (int)field_number(L, at, "lock", -1);
        adopted.http_fd = (int)field_number(L, at, "http", -1);
        options.adopted = &adopted;
    }
    lua_pop(L, 1);
    lua_getfield(L, 1, "tokens");
    for (int i = 1; lua_istable(L, -1) && i <= (int)lua_objlen(L, -1); i++) {
        lua_rawgeti(L, -1, i);
        lua_rawgeti(L, -1, 1), lua_rawgeti(L, -2, 2), lua_rawgeti(L, -3, 3);
        size_t len;
        const char *bytes = lua_tolstring(L, -3, &len);
        tokens[i - 1] =
            (struct ops_token){ secret_create("token", bytes, len),
                                (enum ops_scope)lua_tointeger(L, -2), lua_tostring(L, -1) };
        options.token_count++;
        lua_pop(L, 4);
    }
    lua_pop(L, 1);
    char why[256];
    b->ops = ops_create(&b->loop, &b->rt, b->d, &options, why, sizeof why);
    for (uint32_t i = 0; i < options.token_count; i++) secret_unref(tokens[i].secret);
    *slot = b;
    luaL_getmetatable(L, BOX);
    lua_setmetatable(L, -2);
    if (b->ops) return 1;
    lua_pushnil(L);
    lua_pushstring(L, why);
    lua_pushvalue(L, -3);
    return 3; /* nil, why, and the box, to be closed */
}

/* Whether all of it went: the loop ended with nothing open. */
static int l_close(lua_State *L)
{
    struct box **slot = luaL_checkudata(L, 1, BOX);
    struct box *b = *slot;
    if (!b) return 0;
    if (b->ops) ops_close(b->ops, box_closed, b);
    else b->closed = true; /* it never was, or is closed already */
    uv_run(&b->loop, UV_RUN_DEFAULT);
    deliver_destroy(b->d);
    bool clean = b->closed && uv_loop_close(&b->loop) == 0;
    buffer_deinit(&b->rt.orders);
    buffer_deinit(&b->log);
    free(b);
    *slot = NULL;
    lua_pushboolean(L, clean);
    return 1;
}

/* box:close_beside() -> how many files were opened beside the closing, how many of them were closed by others,
 * whether a file can be opened afterwards. */
static int l_close_beside(lua_State *L)
{
    struct box *b = check_box(L);
    int fds[64], opened = 0, lost = 0;
    ops_close(b->ops, box_closed, b);
    b->ops = NULL;
    for (int i = 0; i < 64; i++) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (fd >= 0) fds[opened++] = fd;
        uv_run(&b->loop, UV_RUN_NOWAIT);
    }
    for (int i = 0; i < opened; i++) {
        if (close(fds[i]) != 0) lost++;
    }
    while (!b->closed) uv_run(&b->loop, UV_RUN_ONCE);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    lua_pushinteger(L, opened);
    lua_pushinteger(L, lost);
    lua_pushboolean(L, fd >= 0);
    if (fd >= 0) close(fd);
    return 3;
}

static int l_step(lua_State *L)
{
    struct box *b = check_box(L);
    lua_Integer turns = luaL_optinteger(L, 2, 1);
    for (lua_Integer i = 0; i < turns; i++) uv_run(&b->loop, UV_RUN_NOWAIT);
    return 0;
}

/* Connections of the runtime, each with a stream. */
static int l_add(lua_State *L)
{
    struct box *b = check_box(L);
    const char *name = luaL_checkstring(L, 2);
    strncpy(b->rt.names[b->rt.count++], name, 63);
    struct deliver_limits limits = { .bytes_max = 64 << 20, .age_ms = 86400000 };
    lua_pushnumber(L, (double)handle_pack(deliver_stream_add(b->d, name, &limits)));
    return 1;
}

static int l_append(lua_State *L)
{
    struct box *b = check_box(L);
    size_t len;
    const char *data = luaL_checklstring(L, 3, &len);
    struct deliver_frame frame = { .data = (const uint8_t *)data, .len = len, .json = true,
                                   .wall_ms = 1795341600123 };
    uint64_t offset;
    deliver_append(b->d, handle_unpack((uint64_t)luaL_checknumber(L, 2)), &frame, &offset);
    lua_pushnumber(L, (double)offset);
    return 1;
}

static int l_held(lua_State *L)
{
    struct deliver_stream_view v;
    deliver_stream_get(check_box(L)->d, handle_unpack((uint64_t)luaL_checknumber(L, 2)), &v);
    lua_pushnumber(L, (double)v.frames);
    lua_pushnumber(L, (double)v.consumers);
    return 2;
}

static int take_text(lua_State *L, struct buffer *b)
{
    lua_pushlstring(L, (const char *)b->data, b->len);
    buffer_clear(b);
    return 1;
}

static int l_orders(lua_State *L)
{
    return take_text(L, &check_box(L)->rt.orders);
}

static int l_log(lua_State *L)
{
    return take_text(L, &check_box(L)->log);
}

static int l_set(lua_State *L)
{
    struct box *b = check_box(L);
    const char *key = luaL_checkstring(L, 2);
    bool value = lua_toboolean(L, 3);
    if (strcmp(key, "answers") == 0) b->answers = value;
    if (strcmp(key, "reload_ok") == 0) b->reload_ok = value;
    if (strcmp(key, "ready") == 0) b->ready = value;
    return 0;
}

static int l_answer(lua_State *L)
{
    struct box *b = check_box(L);
    deliver_send_answer(b->d, b->send_id, luaL_optstring(L, 2, NULL), lua_toboolean(L, 3));
    return 0;
}

static int l_address(lua_State *L)
{
    lua_pushstring(L, ops_http_address(check_box(L)->ops));
    return 1;
}

/* Clients whose answer is being made over several turns. */
static int l_gathering(lua_State *L)
{
    lua_Integer n = 0;
    for (const struct client *c = check_box(L)->ops->clients; c; c = c->next) n += c->gather != NULL;
    lua_pushinteger(L, n);
    return 1;
}

static int l_clients(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)ops_clients(check_box(L)->ops));
    return 1;
}

/* --- plain sockets ---------------------------------------------------------------------------- */

/* connect(path) or connect("127.0.0.1:port"): a descriptor */
static int l_connect(lua_State *L)
{
    const char *to = luaL_checkstring(L, 1);
    int small = (int)luaL_optinteger(L, 2, 0);
    struct sockaddr_storage at;
    socklen_t len;
    memset(&at, 0, sizeof at);
    const char *colon = strrchr(to, ':');
    if (to[0] == '/') {
        struct sockaddr_un *un = (struct sockaddr_un *)&at;
        un->sun_family = AF_UNIX;
        strncpy(un->sun_path, to, sizeof un->sun_path - 1);
        len = sizeof *un;
    } else if (to[0] == '[') {
        uv_ip6_addr("::1", atoi(colon + 1), (struct sockaddr_in6 *)&at);
        len = sizeof(struct sockaddr_in6);
    } else {
        uv_ip4_addr("127.0.0.1", atoi(colon + 1), (struct sockaddr_in *)&at);
        len = sizeof(struct sockaddr_in);
    }
    int fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (small) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (connect(fd, (struct sockaddr *)&at, len) != 0) {
        lua_pushnil(L);
        lua_pushstring(L, strerror(errno));
        close(fd);
        return 2;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    lua_pushinteger(L, fd);
    return 1;
}

static int l_write(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    lua_pushnumber(L, (lua_Number)send((int)luaL_checkinteger(L, 1), bytes, len, MSG_NOSIGNAL));
    return 1;
}

/* read(fd): bytes ("" when none), or nil at the end or after a reset */
static int l_read(lua_State *L)
{
    char bytes[1 << 18];
    ssize_t n = recv((int)luaL_checkinteger(L, 1), bytes, sizeof bytes, 0);
    if (n > 0) lua_pushlstring(L, bytes, (size_t)n);
    else if (n < 0 && errno == EAGAIN) lua_pushliteral(L, "");
    else lua_pushnil(L);
    return 1;
}

static int l_shut(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);
    struct linger reset = { 1, 0 };
    if (lua_toboolean(L, 2)) setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
    return 0;
}

static int l_mode(lua_State *L)
{
    struct stat st;
    if (lstat(luaL_checkstring(L, 1), &st) != 0) return 0;
    lua_pushinteger(L, (lua_Integer)(st.st_mode & 0777));
    return 1;
}

/* A socket file that nobody listens on. */
static int l_stale(lua_State *L)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    strncpy(un.sun_path, luaL_checkstring(L, 1), sizeof un.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(fd, (struct sockaddr *)&un, sizeof un);
    if (lua_toboolean(L, 2)) {
        listen(fd, 1);
        lua_pushinteger(L, fd);
        return 1;
    }
    close(fd);
    return 0;
}

static int l_ws_frame(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    static const uint8_t mask[4] = { 1, 2, 3, 4 };
    struct buffer out;
    buffer_init(&out, 0);
    ws_encode(&out, (enum ws_opcode)luaL_checkinteger(L, 1),
              lua_isnoneornil(L, 3) || lua_toboolean(L, 3), bytes, len, mask);
    lua_pushlstring(L, (const char *)out.data, out.len);
    buffer_deinit(&out);
    return 1;
}

/* ws_messages(bytes): list of texts, close code or nil, close reason, unconsumed rest of the bytes
 */
static int l_ws_messages(lua_State *L)
{
    size_t len, used;
    const char *bytes = luaL_checklstring(L, 1, &len);
    uint8_t *copy = malloc(len + 1), *at = copy;
    struct ws_decoder d;
    struct ws_item item;
    memcpy(copy, bytes, len);
    ws_decoder_init(&d, WS_CLIENT, 64 << 20);
    lua_newtable(L);
    int list = lua_gettop(L), count = 0;
    for (bool more = true; more;) {
        enum ws_item_kind kind = ws_decode(&d, at, len, &used, &item);
        at += used;
        len -= used;
        if (kind == WS_ITEM_MESSAGE) {
            lua_pushlstring(L, (const char *)item.data, item.len);
            lua_rawseti(L, list, ++count);
        } else if (kind == WS_ITEM_CLOSE) {
            lua_pushinteger(L, item.close_code);
            lua_pushlstring(L, (const char *)item.data, item.len);
            break;
        } else if (kind == WS_ITEM_ERROR) {
            more = false;
            lua_pushinteger(L, -1);
            lua_pushstring(L, ws_error_text(item.error));
        } else {
            more = kind != WS_ITEM_MORE;
        }
    }
    ws_decoder_deinit(&d);
    free(copy);
    return lua_gettop(L) - list + 1;
}

static int l_suspend(lua_State *L)
{
    ops_suspend(check_box(L)->ops, luaL_checkstring(L, 2), lua_toboolean(L, 3));
    return 0;
}

static int l_resume(lua_State *L)
{
    ops_resume(check_box(L)->ops);
    return 0;
}

static int l_let_go(lua_State *L)
{
    ops_let_go(check_box(L)->ops);
    return 0;
}

static int l_quiet(lua_State *L)
{
    lua_pushboolean(L, ops_is_quiet(check_box(L)->ops));
    return 1;
}

/* -> { unix =, lock =, http = }: copies, as another process would get them; ours leaves the file alone. */
static int l_hand_over(lua_State *L)
{
    struct ops_listeners l = ops_listeners(check_box(L)->ops);
    lua_newtable(L);
    const struct {
        const char *name;
        int fd;
    } all[] = { { "unix", l.unix_fd }, { "lock", l.unix_lock_fd }, { "http", l.http_fd } };
    for (size_t i = 0; i < 3; i++) {
        if (all[i].fd < 0) continue;
        lua_pushinteger(L, fcntl(all[i].fd, F_DUPFD_CLOEXEC, 3));
        lua_setfield(L, -2, all[i].name);
    }
    ops_leave_listeners(check_box(L)->ops);
    return 1;
}

/* upgraded(why or nil) */
static int l_upgraded(lua_State *L)
{
    ops_upgrade_answer(check_box(L)->ops, luaL_optstring(L, 2, NULL), 77, "2.0");
    return 0;
}

/* b:journal(count): so many entries of connection 0, long ones, are told at once. */
static int l_journal(lua_State *L)
{
    struct box *b = check_box(L);
    struct journal_entry e;
    memset(&e, 0, sizeof e);
    e.kind = JOURNAL_NOTE;
    memset(e.text, 'x', sizeof e.text - 1);
    for (int i = 0; i < luaL_checkint(L, 2); i++) ops_journaled(b->ops, (struct handle){ 0, 1 }, "bot", &e);
    return 0;
}

static const luaL_Reg methods[] = {
    { "suspend", l_suspend }, { "resume", l_resume }, { "let_go", l_let_go }, { "quiet", l_quiet },
    { "hand_over", l_hand_over }, { "upgraded", l_upgraded },
    { "journal", l_journal }, { "close", l_close }, { "close_beside", l_close_beside },
    { "step", l_step }, { "add", l_add }, { "append", l_append },
    { "held", l_held }, { "orders", l_orders }, { "gathering", l_gathering }, { "log", l_log }, { "set", l_set },
    { "answer", l_answer }, { "address", l_address }, { "clients", l_clients }, { "__gc", l_close },
    { NULL, NULL }
};

int luaopen_unit_ops(lua_State *L);
int luaopen_unit_ops(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "new", l_new }, { "connect", l_connect }, { "write", l_write }, { "read", l_read },
        { "shut", l_shut }, { "mode", l_mode }, { "stale", l_stale }, { "ws_frame", l_ws_frame },
        { "ws_messages", l_ws_messages }, { NULL, NULL }
    };
    luaL_newmetatable(L, BOX);
    luaL_register(L, NULL, methods);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
