/* Requests, options and rows of a store between Lua and C, for the modules that test it. */
#ifndef TESTS_STORE_REQUEST_H
#define TESTS_STORE_REQUEST_H

#include <inttypes.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/core.h"

static inline double store_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* A number, or decimal text for what a Lua number cannot hold; negative text for signed ones. */
static inline uint64_t store_number(lua_State *L, int at)
{
    if (lua_type(L, at) != LUA_TSTRING) {
        lua_Number n = lua_tonumber(L, at);
        return n < 0 ? (uint64_t)(int64_t)n : (uint64_t)n;
    }
    const char *text = lua_tostring(L, at);
    return text[0] == '-' ? (uint64_t)strtoll(text, NULL, 10) : strtoull(text, NULL, 10);
}

static inline void store_push_number(lua_State *L, uint64_t n)
{
    char text[24];
    if (n <= (uint64_t)1 << 53) {
        lua_pushnumber(L, (lua_Number)n);
        return;
    }
    snprintf(text, sizeof text, "%" PRIu64, n);
    lua_pushstring(L, text);
}

static inline void store_push_signed(lua_State *L, int64_t n)
{
    char text[24];
    if (n > -((int64_t)1 << 53) && n < (int64_t)1 << 53) {
        lua_pushnumber(L, (lua_Number)n);
        return;
    }
    snprintf(text, sizeof text, "%" PRId64, n);
    lua_pushstring(L, text);
}

static inline uint64_t store_field(lua_State *L, int at, const char *name)
{
    lua_getfield(L, at, name);
    uint64_t n = store_number(L, -1);
    lua_pop(L, 1);
    return n;
}

/* Borrowed as long as the table holds it. */
static inline const char *store_text(lua_State *L, int at, const char *name, size_t *len)
{
    lua_getfield(L, at, name);
    const char *text = lua_tolstring(L, -1, len);
    lua_pop(L, 1);
    return text;
}

static inline void store_options_read(lua_State *L, int at, struct store_core_options *o)
{
    luaL_checktype(L, at, LUA_TTABLE);
    *o = (struct store_core_options){
        .path = store_text(L, at, "path", NULL), .vfs = store_text(L, at, "vfs", NULL),
        .boot_id = store_text(L, at, "boot", NULL), .wall_ms = store_field(L, at, "wall"),
        .back_in_epoch = store_field(L, at, "back_in_epoch"),
        .boot_ms = store_field(L, at, "boot_ms"), .seed = store_field(L, at, "seed"),
        .journal_age_ms = store_field(L, at, "journal_age"),
        .journal_entries = store_field(L, at, "journal_entries"),
        .event_age_ms = store_field(L, at, "event_age"),
        .permit_age_ms = store_field(L, at, "permit_age"),
    };
    lua_getfield(L, at, "read_only");
    o->read_only = lua_toboolean(L, -1);
    lua_getfield(L, at, "offline");
    o->offline = lua_toboolean(L, -1);
    lua_pop(L, 2);
    if (!o->path) luaL_error(L, "options have a path");
}

static inline const char *store_op_name(enum store_op op)
{
    static const char *const names[] = {
#define X(name, text) text,
        STORE_OP_MAP(X)
#undef X
    };
    return op < STORE_OP_COUNT ? names[op] : "?";
}

/* { "event", connection = , ... }; texts are borrowed from the table. */
static inline void store_request_read(lua_State *L, int at, struct store_request *r)
{
    if (at < 0) at = lua_gettop(L) + at + 1;
    luaL_checktype(L, at, LUA_TTABLE);
    lua_rawgeti(L, at, 1);
    const char *op = luaL_checkstring(L, -1);
    lua_pop(L, 1);
    memset(r, 0, sizeof *r);
    while (r->op < STORE_OP_COUNT && strcmp(store_op_name(r->op), op) != 0) r->op++;
    if (r->op == STORE_OP_COUNT) luaL_error(L, "`%s` is no operation", op);
    r->ticket = store_field(L, at, "ticket");
    lua_getfield(L, at, "hurries");
    r->hurries = lua_toboolean(L, -1);
    lua_pop(L, 1);
    r->connection = store_text(L, at, "connection", NULL);
    r->consumer = store_text(L, at, "consumer", NULL);
    r->budget = (enum budget_kind)store_field(L, at, "budget");
    r->account = store_field(L, at, "account");
    r->lane = (int64_t)store_field(L, at, "lane");
    r->count = (int64_t)store_field(L, at, "count");
    r->lanes = (uint32_t)store_field(L, at, "lanes");
    r->wall_ms = store_field(L, at, "wall");
    r->boot_ms = store_field(L, at, "boot_ms");
    r->until_wall_ms = store_field(L, at, "until_wall");
    r->until_boot_ms = store_field(L, at, "until_boot");
    r->kind = (enum store_event_kind)store_field(L, at, "kind");
    r->epoch = store_field(L, at, "epoch");
    r->offset = store_field(L, at, "offset");
    r->key_high = store_field(L, at, "key_high");
    r->key_low = store_field(L, at, "key_low");
    r->bytes = store_text(L, at, "bytes", &r->len);
    if (!r->bytes) r->len = 0;
}

static inline void store_request_push(lua_State *L, const struct store_request *r)
{
    lua_newtable(L);
    lua_pushstring(L, store_op_name(r->op));
    lua_rawseti(L, -2, 1);
    if (r->connection) lua_pushstring(L, r->connection), lua_setfield(L, -2, "connection");
    if (r->consumer) lua_pushstring(L, r->consumer), lua_setfield(L, -2, "consumer");
    if (r->bytes) lua_pushlstring(L, r->bytes, r->len), lua_setfield(L, -2, "bytes");
#define FIELD(name, value) \
    if (value) store_push_number(L, (uint64_t)(value)), lua_setfield(L, -2, name)
    FIELD("ticket", r->ticket); FIELD("budget", r->budget); FIELD("account", r->account);
    FIELD("lanes", r->lanes); FIELD("wall", r->wall_ms); FIELD("boot_ms", r->boot_ms);
    FIELD("until_wall", r->until_wall_ms); FIELD("until_boot", r->until_boot_ms);
    FIELD("kind", r->kind); FIELD("epoch", r->epoch); FIELD("offset", r->offset);
    FIELD("key_high", r->key_high); FIELD("key_low", r->key_low);
#undef FIELD
    if (r->lane) store_push_signed(L, r->lane), lua_setfield(L, -2, "lane");
    if (r->count) store_push_signed(L, r->count), lua_setfield(L, -2, "count");
}

/* --- rows: each becomes a table at the end of a list in the table on top of the stack --------------------- */

static inline void row_begin(lua_State *L, const char *list)
{
    lua_getfield(L, -1, list);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, list);
    }
    lua_newtable(L);
}
static inline void row_end(lua_State *L)
{
    lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
    lua_pop(L, 1);
}
static inline void row_text(lua_State *L, const char *key, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}
static inline void row_bytes(lua_State *L, const char *key, const void *bytes, size_t len)
{
    lua_pushlstring(L, bytes, len);
    lua_setfield(L, -2, key);
}
static inline void row_number(lua_State *L, const char *key, uint64_t n)
{
    store_push_number(L, n);
    lua_setfield(L, -2, key);
}
static inline void row_signed(lua_State *L, const char *key, int64_t n)
{
    store_push_signed(L, n);
    lua_setfield(L, -2, key);
}
static inline void row_flag(lua_State *L, const char *key, bool on)
{
    lua_pushboolean(L, on);
    lua_setfield(L, -2, key);
}

static inline void row_connection(void *L, const char *name, const void *json, size_t len)
{
    row_begin(L, "connections");
    row_text(L, "name", name);
    row_bytes(L, "json", json, len);
    row_end(L);
}
static inline void row_wish(void *L, const char *connection, bool stopped)
{
    row_begin(L, "wishes");
    row_text(L, "connection", connection);
    row_flag(L, "stopped", stopped);
    row_end(L);
}
static inline void row_session(void *L, const char *connection, uint64_t session_of,
                               uint64_t saved_wall_ms, const void *json, size_t len)
{
    row_begin(L, "sessions");
    row_text(L, "connection", connection);
    row_number(L, "session_of", session_of);
    row_number(L, "wall", saved_wall_ms);
    row_bytes(L, "json", json, len);
    row_end(L);
}
static inline void row_keep(void *L, const char *connection, const void *json, size_t len)
{
    row_begin(L, "keeps");
    row_text(L, "connection", connection);
    row_bytes(L, "json", json, len);
    row_end(L);
}
static inline void row_permit(void *L, uint64_t account, enum budget_kind budget, int64_t lane,
                              bool same_boot, uint64_t wall_ms, uint64_t boot_ms)
{
    row_begin(L, "permits");
    row_number(L, "account", account);
    row_number(L, "budget", budget);
    row_signed(L, "lane", lane);
    row_flag(L, "same_boot", same_boot);
    row_number(L, "wall", wall_ms);
    row_number(L, "boot_ms", boot_ms);
    row_end(L);
}
static inline void row_told(void *L, uint64_t account, enum budget_kind budget, int64_t left,
                            uint32_t lanes, bool same_boot, uint64_t until_wall_ms,
                            uint64_t until_boot_ms)
{
    row_begin(L, "told");
    row_number(L, "account", account);
    row_number(L, "budget", budget);
    row_signed(L, "left", left);
    row_number(L, "lanes", lanes);
    row_flag(L, "same_boot", same_boot);
    row_number(L, "until_wall", until_wall_ms);
    row_number(L, "until_boot", until_boot_ms);
    row_end(L);
}
static inline void row_epoch(void *L, const char *connection, uint64_t epoch, uint64_t after,
                             uint64_t last)
{
    row_begin(L, "epochs");
    row_text(L, "connection", connection);
    row_number(L, "epoch", epoch);
    row_number(L, "after", after);
    row_number(L, "last", last);
    row_end(L);
}
static inline void row_event(void *L, const char *connection, enum store_event_kind kind,
                             uint64_t epoch, uint64_t offset, uint64_t wall_ms, const void *line,
                             size_t len)
{
    row_begin(L, "events");
    row_text(L, "connection", connection);
    row_text(L, "kind", kind == STORE_EVENT_GAP ? "gap" : "frame");
    row_number(L, "epoch", epoch);
    row_number(L, "offset", offset);
    row_number(L, "wall", wall_ms);
    row_bytes(L, "line", line, len);
    row_end(L);
}
static inline void row_consumer(void *L, const char *name, const void *patterns, size_t len,
                                uint64_t wall_ms)
{
    row_begin(L, "consumers");
    row_text(L, "name", name);
    row_bytes(L, "patterns", patterns, len);
    row_number(L, "wall", wall_ms);
    row_end(L);
}
static inline void row_cursor(void *L, const char *consumer, const char *connection, uint64_t epoch,
                              uint64_t offset, uint64_t wall_ms)
{
    row_begin(L, "cursors");
    row_text(L, "consumer", consumer);
    row_text(L, "connection", connection);
    row_number(L, "epoch", epoch);
    row_number(L, "offset", offset);
    row_number(L, "wall", wall_ms);
    row_end(L);
}
static inline void row_seen(void *L, const char *connection, uint64_t key_high, uint64_t key_low,
                            uint64_t offset, uint64_t wall_ms)
{
    row_begin(L, "seen");
    row_text(L, "connection", connection);
    row_number(L, "key_high", key_high);
    row_number(L, "key_low", key_low);
    row_number(L, "offset", offset);
    row_number(L, "wall", wall_ms);
    row_end(L);
}
static inline void row_journal(void *L, const char *connection, uint64_t wall_ms, const void *json,
                               size_t len)
{
    row_begin(L, "journal");
    if (connection) row_text(L, "connection", connection);
    row_number(L, "wall", wall_ms);
    row_bytes(L, "json", json, len);
    row_end(L);
}

/* Pushes the table that the rows go into. */
static inline struct store_visitor store_visitor_to(lua_State *L)
{
    lua_newtable(L);
    return (struct store_visitor){
        .self = L, .connection = row_connection, .wish = row_wish, .session = row_session,
        .keep = row_keep, .permit = row_permit, .told = row_told, .epoch = row_epoch,
        .event = row_event, .consumer = row_consumer, .cursor = row_cursor, .seen = row_seen,
        .journal = row_journal,
    };
}

#endif
