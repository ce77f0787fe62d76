/* modules: deliver store engine frame crypto base */
/* deliver/ and the memory store as a Lua module: consumers with sinks that keep what they are
 * given, a port that writes down its orders. */
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>

#include "deliver/deliver.h"
#include "frame/json.h"
#include "store/store.h"

#define BOX "unit.deliver"
#define READERS_MAX 64

struct reader {
    struct handle h;
    struct buffer got;
    size_t room;      /* bytes taken before the sink refuses */
    uint32_t writes;
    char detached[128];
};

struct box {
    struct deliver *d;
    struct reader readers[READERS_MAX]; /* never reused, so that ids stay plain */
    uint32_t reader_count;
    struct buffer orders;  /* lines for Lua, fields separated by \t */
    struct buffer kept;    /* likewise: what the keeper was told; a line of a stream comes last */
    bool answer_inside;
    bool replies;
};

static struct box *check_box(lua_State *L)
{
    return luaL_checkudata(L, 1, BOX);
}

static struct handle check_handle(lua_State *L, int at)
{
    return handle_unpack((uint64_t)luaL_checknumber(L, at));
}

static struct reader *check_reader(lua_State *L)
{
    struct box *b = check_box(L);
    lua_Integer i = luaL_checkinteger(L, 2);
    luaL_argcheck(L, i >= 1 && i <= (lua_Integer)b->reader_count, 2, "no such reader");
    return &b->readers[i - 1];
}

static uint64_t field_u64(lua_State *L, int at, const char *key, uint64_t otherwise)
{
    if (!lua_istable(L, at)) return otherwise;
    lua_getfield(L, at, key);
    uint64_t v = lua_isnil(L, -1) ? otherwise : (uint64_t)lua_tonumber(L, -1);
    lua_pop(L, 1);
    return v;
}

static bool field_bool(lua_State *L, int at, const char *key, bool otherwise)
{
    if (!lua_istable(L, at)) return otherwise;
    lua_getfield(L, at, key);
    bool v = lua_isnil(L, -1) ? otherwise : lua_toboolean(L, -1);
    lua_pop(L, 1);
    return v;
}

static bool sink_write(void *self, const void *lines, size_t len)
{
    struct reader *r = self;
    if (len == 0 || ((const char *)lines)[len - 1] != '\n') abort();
    if (len > r->room) return false;
    r->room -= len;
    r->writes++;
    return buffer_append(&r->got, lines, len);
}

static void sink_detached(void *self, const char *why)
{
    struct reader *r = self;
    strncpy(r->detached, why, sizeof r->detached - 1);
}

static void port_send(void *self, const char *connection, uint64_t send_id, const void *frame,
                      size_t len, bool text)
{
    struct box *b = self;
    buffer_printf(&b->orders, "send\t%s\t%.0f\t%s\t%.*s\n", connection, (double)send_id,
                  text ? "text" : "bytes", (int)len, (const char *)frame);
    if (b->answer_inside) deliver_send_answer(b->d, send_id, NULL, false);
}

static void port_send_dropped(void *self, uint64_t send_id)
{
    struct box *b = self;
    buffer_printf(&b->orders, "dropped\t%.0f\n", (double)send_id);
}

static void port_acked(void *self, const char *connection, const char *consumer, uint64_t epoch,
                       uint64_t offset)
{
    struct box *b = self;
    buffer_printf(&b->orders, "acked\t%s\t%s\t%.0f\t%.0f\n", connection, consumer, (double)epoch,
                  (double)offset);
}

static void port_reply(void *self, const char *connection, const char *consumer, uint64_t epoch,
                       uint64_t offset, const void *frame, size_t len, bool text)
{
    struct box *b = self;
    buffer_printf(&b->orders, "reply\t%s\t%s\t%.0f\t%.0f\t%s\t%.*s\n", connection, consumer,
                  (double)epoch, (double)offset, text ? "text" : "bytes", (int)len,
                  (const char *)frame);
}

static void keeper_event(void *self, const char *connection, bool gap, uint64_t epoch,
                         uint64_t offset, uint64_t wall_ms, const void *line, size_t len)
{
    struct box *b = self;
    buffer_printf(&b->kept, "%s\t%s\t%.0f\t%.0f\t%.0f\t", gap ? "gap" : "frame", connection,
                  (double)epoch, (double)offset, (double)wall_ms);
    buffer_append(&b->kept, line, len);
}

static void keeper_trim(void *self, const char *connection, uint64_t epoch, uint64_t offset)
{
    struct box *b = self;
    buffer_printf(&b->kept, "trim\t%s\t%.0f\t%.0f\n", connection, (double)epoch, (double)offset);
}

static void keeper_consumer(void *self, const char *name, const void *patterns, size_t len,
                            uint64_t wall_ms)
{
    struct box *b = self;
    buffer_printf(&b->kept, "consumer\t%s\t%.0f\t%.*s\n", name, (double)wall_ms, (int)len,
                  (const char *)patterns);
}

static void keeper_consumer_gone(void *self, const char *name)
{
    struct box *b = self;
    buffer_printf(&b->kept, "gone\t%s\n", name);
}

static void keeper_cursor(void *self, const char *consumer, const char *connection, uint64_t epoch,
                          uint64_t offset, uint64_t wall_ms)
{
    struct box *b = self;
    buffer_printf(&b->kept, "cursor\t%s\t%s\t%.0f\t%.0f\t%.0f\n", consumer, connection,
                  (double)epoch, (double)offset, (double)wall_ms);
}

/* kept(): what the keeper was told since the last look */
static int l_kept(lua_State *L)
{
    struct box *b = check_box(L);
    lua_pushlstring(L, (const char *)b->kept.data, b->kept.len);
    buffer_clear(&b->kept);
    return 1;
}

static int l_unkeep(lua_State *L)
{
    deliver_set_keeper(check_box(L)->d, NULL);
    return 0;
}

/* restore(what, ...): one row as the store hands it out */
static int l_restore(lua_State *L)
{
    static const char *const kinds[] = { "epoch", "frame", "gap", "consumer", "cursor", "done",
                                         NULL };
    struct deliver *d = check_box(L)->d;
    int kind = luaL_checkoption(L, 2, NULL, kinds);
    size_t len = 0;
#define U64(at) ((uint64_t)luaL_checknumber(L, at))
    switch (kind) {
    case 0: deliver_restore_epoch(d, luaL_checkstring(L, 3), U64(4), U64(5), U64(6)); break;
    case 1:
    case 2: {
        const char *line = luaL_checklstring(L, 7, &len);
        deliver_restore_event(d, luaL_checkstring(L, 3), kind == 2, U64(4), U64(5), U64(6), line,
                              len);
        break;
    }
    case 3: {
        const char *patterns = luaL_checklstring(L, 5, &len);
        deliver_restore_consumer(d, luaL_checkstring(L, 3), patterns, len, U64(4));
        break;
    }
    case 4:
        deliver_restore_cursor(d, luaL_checkstring(L, 3), luaL_checkstring(L, 4), U64(5), U64(6),
                               U64(7));
        break;
    default: deliver_restore_done(d, lua_toboolean(L, 3));
    }
#undef U64
    return 0;
}

/* cursor(stream, consumer): epoch, offset */
static int l_cursor(lua_State *L)
{
    uint64_t epoch, offset;
    const char *consumer = luaL_checkstring(L, 3);
    if (!deliver_cursor(check_box(L)->d, check_handle(L, 2), consumer, &epoch, &offset)) return 0;
    lua_pushnumber(L, (double)epoch);
    lua_pushnumber(L, (double)offset);
    return 2;
}

static int l_new(lua_State *L)
{
    struct deliver_options options = {
        .epoch = field_u64(L, 1, "epoch", 3),
        .consumer_bytes_max = field_u64(L, 1, "consumer_bytes", 0),
        .consumers_max = (uint32_t)field_u64(L, 1, "consumers", 0),
        .named_age_ms = field_u64(L, 1, "named_age", 0),
        .wall_ms = field_u64(L, 1, "wall", 0),
        .store = field_bool(L, 1, "keeps", false) ? "sqlite" : NULL,
    };
    bool keeps = field_bool(L, 1, "keeps", false);
    bool replies = field_bool(L, 1, "replies", false);
    struct box *b = lua_newuserdata(L, sizeof *b);
    memset(b, 0, sizeof *b);
    luaL_getmetatable(L, BOX);
    lua_setmetatable(L, -2);
    b->d = deliver_create(&options);
    buffer_init(&b->orders, 0);
    buffer_init(&b->kept, 0);
    struct deliver_port port = { .self = b, .send = port_send, .send_dropped = port_send_dropped,
                                 .acked = port_acked, .reply = replies ? port_reply : NULL };
    deliver_set_port(b->d, &port);
    struct deliver_keeper keeper = { .self = b, .event = keeper_event, .trim = keeper_trim,
                                     .consumer = keeper_consumer,
                                     .consumer_gone = keeper_consumer_gone,
                                     .cursor = keeper_cursor };
    if (keeps) deliver_set_keeper(b->d, &keeper);
    return 1;
}

static int l_gc(lua_State *L)
{
    struct box *b = check_box(L);
    deliver_destroy(b->d);
    b->d = NULL;
    for (uint32_t i = 0; i < b->reader_count; i++) buffer_deinit(&b->readers[i].got);
    b->reader_count = 0;
    buffer_deinit(&b->orders);
    buffer_deinit(&b->kept);
    return 0;
}

static struct deliver_limits check_limits(lua_State *L, int at)
{
    struct deliver_limits limits = {
        .bytes_max = field_u64(L, at, "bytes", 64 << 20),
        .age_ms = field_u64(L, at, "age", 24 * 3600 * 1000),
        .full = field_bool(L, at, "hold", false) ? BACKLOG_HOLD : BACKLOG_DROP_OLDEST,
    };
    return limits;
}

static int l_stream(lua_State *L)
{
    struct box *b = check_box(L);
    struct deliver_limits limits = check_limits(L, 3);
    struct handle h = deliver_stream_add(b->d, luaL_checkstring(L, 2), &limits);
    if (handle_is_none(h)) return 0;
    lua_pushnumber(L, (double)handle_pack(h));
    return 1;
}

static int l_remove(lua_State *L)
{
    deliver_stream_remove(check_box(L)->d, check_handle(L, 2));
    return 0;
}

/* append(stream, data, { wall =, bytes = true, take = { { "op", "op" }, ... } }) */
static int l_append(lua_State *L)
{
    struct box *b = check_box(L);
    struct handle h = check_handle(L, 2);
    size_t len;
    const char *text = luaL_checklstring(L, 3, &len);
    struct frame_rules rules;
    memset(&rules, 0, sizeof rules);
    struct field_value values[FIELDS_MAX];
    memset(values, 0, sizeof values);
    if (lua_istable(L, 4)) {
        lua_getfield(L, 4, "take");
        for (int i = 1; lua_istable(L, -1) && i <= (int)lua_objlen(L, -1); i++) {
            lua_rawgeti(L, -1, i);
            lua_rawgeti(L, -1, 1);
            lua_rawgeti(L, -2, 2);
            strncpy(rules.fields[i - 1].name, lua_tostring(L, -2), RULE_NAME_MAX - 1);
            strncpy(rules.fields[i - 1].path, lua_tostring(L, -1), FIELD_PATH_MAX - 1);
            rules.field_count++;
            lua_pop(L, 3);
        }
        lua_pop(L, 1);
    }
    uint8_t *copy = malloc(len + 1);
    memcpy(copy, text, len);
    struct json_paths paths;
    json_paths_init(&paths, &rules);
    bool bytes = field_bool(L, 4, "bytes", false);
    bool ok = !bytes && json_scan(copy, len, &paths, values, NULL) == JSON_OK;
    struct deliver_frame frame = { .data = copy, .len = len, .json = ok, .malformed = !bytes && !ok,
                                   .rules = &rules, .fields = rules.field_count ? values : NULL,
                                   .wall_ms = field_u64(L, 4, "wall", 1795341600123) };
    uint64_t offset = 0;
    enum deliver_result result = deliver_append(b->d, h, &frame, &offset);
    free(copy);
    if (result != DELIVER_OK) return 0;
    lua_pushnumber(L, (double)offset);
    return 1;
}

static int l_has_room(lua_State *L)
{
    struct box *b = check_box(L);
    lua_pushboolean(L, deliver_has_room(b->d, check_handle(L, 2), (size_t)luaL_checknumber(L, 3)));
    return 1;
}

static int l_gap(lua_State *L)
{
    struct box *b = check_box(L);
    deliver_gap(b->d, check_handle(L, 2), luaL_checkstring(L, 3), lua_toboolean(L, 4),
                (uint64_t)luaL_optnumber(L, 5, 1795341600500));
    return 0;
}

static int l_state(lua_State *L)
{
    struct box *b = check_box(L);
    struct handle h = check_handle(L, 2);
    const char *name = luaL_checkstring(L, 3);
    struct deliver_state state = { .since_wall_ms = field_u64(L, 4, "since", 1795341600000),
                                   .next_wall_ms = field_u64(L, 4, "next", 0),
                                   .attempt = (uint32_t)field_u64(L, 4, "attempt", 0),
                                   .next = "" };
    struct cause cause;
    for (int s = 0; s < CONN_STATE_COUNT; s++) {
        if (strcmp(conn_state_name(s), name) == 0) state.state = (enum conn_state)s;
    }
    if (field_bool(L, 4, "cause", false)) {
        cause = cause_make(STAGE_READY, CAUSE_CLOSED, BY_PEER, "\"bye\"\n");
        cause.close_code = 4009;
        cause.age_ms = 1500;
        state.cause = &cause;
    }
    if (state.next_wall_ms) state.next = "dial";
    deliver_state(b->d, h, &state);
    return 0;
}

static int l_attach(lua_State *L)
{
    struct box *b = check_box(L);
    luaL_argcheck(L, b->reader_count < READERS_MAX, 1, "too many readers");
    struct reader *r = &b->readers[b->reader_count];
    struct attach a;
    const char *why = NULL;
    attach_init(&a);
    static const char *const keys[] = { "consumer", "connection", "from", "states", "gaps" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        lua_getfield(L, 2, keys[i]);
        if (lua_istable(L, -1)) {
            for (int k = 1; !why && k <= (int)lua_objlen(L, -1); k++) {
                lua_rawgeti(L, -1, k);
                attach_set(&a, keys[i], lua_tostring(L, -1), &why);
                lua_pop(L, 1);
            }
        } else if (!lua_isnil(L, -1)) {
            attach_set(&a, keys[i], lua_tostring(L, -1), &why);
        }
        if (why) goto refused;
    }
    a.can_send = field_bool(L, 2, "can_send", true);
    r->room = field_u64(L, 2, "room", SIZE_MAX);
    buffer_init(&r->got, 0);
    struct deliver_sink sink = { .self = r, .write = sink_write, .detached = sink_detached };
    r->h = deliver_attach(b->d, &a, &sink, &why);
    if (handle_is_none(r->h)) {
        buffer_deinit(&r->got);
        goto refused;
    }
    lua_pushinteger(L, (lua_Integer)++b->reader_count);
    return 1;
refused:
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

static int l_parse(lua_State *L)
{
    size_t len;
    const char *line = luaL_checklstring(L, 1, &len), *why = NULL;
    struct attach a;
    struct buffer scratch;
    buffer_init(&scratch, 0);
    bool ok = attach_parse_json(line, len, &a, &scratch, &why);
    if (!ok) {
        buffer_deinit(&scratch);
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    lua_newtable(L);
    if (a.consumer) lua_pushstring(L, a.consumer), lua_setfield(L, -2, "consumer");
    lua_newtable(L);
    for (uint32_t i = 0; i < a.pattern_count; i++)
        lua_pushstring(L, a.patterns[i]), lua_rawseti(L, -2, (int)i + 1);
    lua_setfield(L, -2, "patterns");
    if (a.has_from) lua_pushinteger(L, a.from), lua_setfield(L, -2, "from");
    lua_pushnumber(L, (double)a.epoch), lua_setfield(L, -2, "epoch");
    lua_pushnumber(L, (double)a.offset), lua_setfield(L, -2, "offset");
    lua_pushboolean(L, a.states), lua_setfield(L, -2, "states");
    lua_pushboolean(L, a.gaps), lua_setfield(L, -2, "gaps");
    buffer_deinit(&scratch);
    return 1;
}

static int l_read(lua_State *L)
{
    struct reader *r = check_reader(L);
    lua_pushlstring(L, (const char *)r->got.data, r->got.len);
    buffer_clear(&r->got);
    lua_pushinteger(L, (lua_Integer)r->writes);
    r->writes = 0;
    return 2;
}

static int l_room(lua_State *L)
{
    check_reader(L)->room = (size_t)luaL_checknumber(L, 3);
    return 0;
}

static int l_detached(lua_State *L)
{
    struct reader *r = check_reader(L);
    if (!r->detached[0]) return 0;
    lua_pushstring(L, r->detached);
    return 1;
}

static int l_input(lua_State *L)
{
    size_t len;
    struct reader *r = check_reader(L);
    const char *text = luaL_checklstring(L, 3, &len);
    deliver_input(check_box(L)->d, r->h, text, len);
    return 0;
}

static int l_resume(lua_State *L)
{
    struct reader *r = check_reader(L);
    deliver_resume(check_box(L)->d, r->h);
    return 0;
}

static int l_detach(lua_State *L)
{
    struct reader *r = check_reader(L);
    deliver_detach(check_box(L)->d, r->h);
    return 0;
}

static int l_pump(lua_State *L)
{
    struct box *b = check_box(L);
    lua_pushboolean(L, deliver_wants_pump(b->d));
    deliver_pump(b->d);
    return 1;
}

/* pieces = box:expire(wall_ms [, pieces at most]) */
static int l_expire(lua_State *L)
{
    int pieces = 1;
    const int most = (int)luaL_optinteger(L, 3, 1000);
    while (deliver_expire(check_box(L)->d, (uint64_t)luaL_checknumber(L, 2)) && pieces < most) pieces++;
    lua_pushinteger(L, pieces);
    return 1;
}

/* more, wanted = box:rest() */
static int l_rest(lua_State *L)
{
    struct deliver *d = check_box(L)->d;
    lua_pushboolean(L, deliver_rest(d));
    lua_pushboolean(L, deliver_wants_rest(d));
    return 2;
}

static int l_view(lua_State *L)
{
    struct deliver_stream_view v;
    if (!deliver_stream_get(check_box(L)->d, check_handle(L, 2), &v)) return 0;
    lua_newtable(L);
#define PUT(name) lua_pushnumber(L, (double)v.name), lua_setfield(L, -2, #name)
    PUT(frames);
    PUT(bytes);
    PUT(first_offset);
    PUT(last_offset);
    PUT(appended_total);
    PUT(dropped_total);
    PUT(gaps_total);
    PUT(consumers);
#undef PUT
    return 1;
}

static int l_consumers(lua_State *L)
{
    struct box *b = check_box(L);
    struct deliver_consumer_view v;
    lua_newtable(L);
    for (uint32_t i = 0, n = 1; deliver_consumer_next(b->d, &i, &v); i++, n++) {
        lua_newtable(L);
        lua_pushstring(L, v.name), lua_setfield(L, -2, "name");
        lua_pushboolean(L, v.attached), lua_setfield(L, -2, "attached");
        lua_pushnumber(L, (double)v.lag), lua_setfield(L, -2, "lag");
        lua_pushnumber(L, (double)v.since_wall_ms), lua_setfield(L, -2, "since");
        lua_pushnumber(L, (double)v.connections), lua_setfield(L, -2, "connections");
        lua_pushnumber(L, (double)v.oldest_wall_ms), lua_setfield(L, -2, "oldest");
        lua_rawseti(L, -2, (int)n);
    }
    return 1;
}

/* positions(consumer): "a 3.4 of 9 lag 5 since 1795341600123", ... */
static int l_positions(lua_State *L)
{
    struct box *b = check_box(L);
    struct deliver_position_view v;
    const void *at = NULL;
    lua_newtable(L);
    for (int n = 1; deliver_position_next(b->d, luaL_checkstring(L, 2), &at, &v); n++) {
        lua_pushfstring(L, "%s %f.%f of %f lag %f since %f%s", v.connection, (double)v.epoch,
                        (double)v.offset, (double)v.last_offset, (double)v.lag,
                        (double)v.oldest_wall_ms, v.configured ? "" : " not configured");
        lua_rawseti(L, -2, n);
    }
    return 1;
}

static int l_forget(lua_State *L)
{
    lua_pushboolean(L, deliver_consumer_forget(check_box(L)->d, luaL_checkstring(L, 2)));
    return 1;
}

static int l_ack_lines(lua_State *L)
{
    struct box *b = check_box(L);
    size_t len;
    const char *name = luaL_checkstring(L, 2), *text = luaL_checklstring(L, 3, &len);
    struct buffer errors;
    buffer_init(&errors, 0);
    bool known;
    uint32_t count = deliver_ack_lines(b->d, name, text, len, &errors, &known);
    if (known) lua_pushinteger(L, (lua_Integer)count);
    else lua_pushnil(L);
    lua_pushlstring(L, (const char *)errors.data, errors.len);
    buffer_deinit(&errors);
    return 2;
}

static int l_orders(lua_State *L)
{
    struct box *b = check_box(L);
    lua_pushlstring(L, (const char *)b->orders.data, b->orders.len);
    buffer_clear(&b->orders);
    return 1;
}

static int l_answer(lua_State *L)
{
    struct box *b = check_box(L);
    deliver_send_answer(b->d, (uint64_t)luaL_checknumber(L, 2), luaL_optstring(L, 3, NULL),
                        lua_toboolean(L, 4));
    return 0;
}

static int l_answer_inside(lua_State *L)
{
    check_box(L)->answer_inside = lua_toboolean(L, 2);
    return 0;
}

static void http_answered(void *to, const char *why, bool retry)
{
    struct box *b = to;
    buffer_printf(&b->orders, "answered\t%s\t%s\n", why ? why : "sent", retry ? "retry" : "final");
}

static int l_send(lua_State *L)
{
    struct box *b = check_box(L);
    size_t len;
    const char *frame = luaL_checklstring(L, 3, &len), *why;
    uint64_t id =
        deliver_send(b->d, luaL_checkstring(L, 2), frame, len, true, http_answered, b, &why);
    if (id) lua_pushnumber(L, (double)id);
    else lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

static int l_send_drop(lua_State *L)
{
    deliver_send_drop(check_box(L)->d, (uint64_t)luaL_checknumber(L, 2));
    return 0;
}

struct answers {
    lua_State *L;
    int count;
    struct store *again; /* submit once more from inside the first answer */
};

static void store_answer(void *to, uint64_t ticket, bool ok)
{
    struct answers *a = to;
    lua_pushnumber(a->L, ok ? (double)ticket : -1);
    lua_rawseti(a->L, -2, ++a->count);
    if (!a->again) return;
    struct store_request request = { .op = STORE_OP_SESSION, .ticket = 999, .connection = "a" };
    a->again->ops->submit(a->again->self, &request);
    a->again = NULL;
}

/* store(count): submits tickets 0..count-1, then two polls: both lists of answers, idle before,
 * after */
static int l_store(lua_State *L)
{
    struct store_memory *m = store_memory_create();
    struct store s = store_memory_store(m);
    lua_Integer count = luaL_checkinteger(L, 1);
    for (lua_Integer i = 0; i < count; i++) {
        struct store_request request = { .op = STORE_OP_PERMIT, .ticket = (uint64_t)i,
                                         .connection = "a" };
        if (!s.ops->submit(s.self, &request)) return luaL_error(L, "refused");
    }
    bool idle_before = store_memory_is_idle(m);
    struct answers a = { L, 0, &s };
    lua_newtable(L);
    store_memory_poll(m, store_answer, &a);
    a = (struct answers){ L, 0, NULL };
    lua_newtable(L);
    store_memory_poll(m, store_answer, &a);
    lua_pushboolean(L, idle_before);
    lua_pushboolean(L, store_memory_is_idle(m));
    lua_pushstring(L, s.ops->kind(s.self));
    store_memory_destroy(m);
    return 5;
}

static const luaL_Reg methods[] = { { "stream", l_stream },
                                    { "remove", l_remove },
                                    { "append", l_append },
                                    { "has_room", l_has_room },
                                    { "gap", l_gap },
                                    { "state", l_state },
                                    { "attach", l_attach },
                                    { "read", l_read },
                                    { "room", l_room },
                                    { "detached", l_detached },
                                    { "input", l_input },
                                    { "resume", l_resume },
                                    { "detach", l_detach },
                                    { "pump", l_pump },
                                    { "expire", l_expire },
                                    { "rest", l_rest },
                                    { "view", l_view },
                                    { "consumers", l_consumers },
                                    { "positions", l_positions },
                                    { "forget", l_forget },
                                    { "ack_lines", l_ack_lines },
                                    { "orders", l_orders },
                                    { "kept", l_kept },
                                    { "unkeep", l_unkeep },
                                    { "restore", l_restore },
                                    { "cursor", l_cursor },
                                    { "answer", l_answer },
                                    { "answer_inside", l_answer_inside },
                                    { "send", l_send },
                                    { "send_drop", l_send_drop },
                                    { "close", l_gc },
                                    { "__gc", l_gc },
                                    { NULL, NULL } };

int luaopen_unit_deliver(lua_State *L);
int luaopen_unit_deliver(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "new", l_new }, { "parse", l_parse }, { "store", l_store }, { NULL, NULL }
    };
    luaL_newmetatable(L, BOX);
    luaL_register(L, NULL, methods);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
