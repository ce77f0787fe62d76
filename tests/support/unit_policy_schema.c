/* modules: policy engine frame crypto base */
/* The schema as a Lua module: Lua tables become values, problems, plans and rules become tables. */
#include <lauxlib.h>
#include <lua.h>
#include <string.h>

#include "base/assert.h"
#include "policy/lines.h"
#include "policy/schema.h"
#include "policy/schema_internal.h"

#define SECRET_MT "unit.secret"

/* --- Lua to values ------------------------------------------------------------------------------- */

static struct value to_value(lua_State *L, int index)
{
    if (index < 0) index = lua_gettop(L) + index + 1;
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        return value_bool(lua_toboolean(L, index));
    case LUA_TNUMBER:
        return value_number(lua_tonumber(L, index));
    case LUA_TSTRING: {
        size_t len;
        const char *text = lua_tolstring(L, index, &len);
        return value_bytes(text, len);
    }
    case LUA_TFUNCTION:
        return (struct value){ .kind = VALUE_FUNCTION };
    case LUA_TUSERDATA:
        return value_secret(*(struct secret **)luaL_checkudata(L, index, SECRET_MT));
    case LUA_TTABLE: {
        struct value v = value_table();
        /* Positions first: order is by position there, and by whatever pairs gives elsewhere. */
        size_t count = lua_objlen(L, index);
        for (size_t i = 1; i <= count; i++) {
            lua_rawgeti(L, index, (int)i);
            if (!lua_isnil(L, -1)) value_append(&v, to_value(L, -1));
            lua_pop(L, 1);
        }
        lua_pushnil(L);
        while (lua_next(L, index)) {
            if (lua_type(L, -2) == LUA_TSTRING) {
                size_t key_len;
                const char *key = lua_tolstring(L, -2, &key_len);
                value_set(&v, key, to_value(L, -1));
                if (strlen(key) != key_len) { /* value_set() takes text without NUL */
                    struct value *last = &v.table->pairs[v.table->count - 1].key;
                    value_clear(last);
                    *last = value_bytes(key, key_len);
                }
            }
            lua_pop(L, 1);
        }
        return v;
    }
    default:
        return value_nil();
    }
}

static int l_secret(lua_State *L)
{
    size_t len;
    const char *name = luaL_checkstring(L, 1), *bytes = luaL_checklstring(L, 2, &len);
    struct secret **box = lua_newuserdata(L, sizeof *box);
    *box = secret_create(name, bytes, len);
    luaL_getmetatable(L, SECRET_MT);
    lua_setmetatable(L, -2);
    return 1;
}

static int l_secret_gc(lua_State *L)
{
    secret_unref(*(struct secret **)luaL_checkudata(L, 1, SECRET_MT));
    return 0;
}

/* --- results to Lua -------------------------------------------------------------------------------- */

static void set_integer(lua_State *L, const char *key, double n)
{
    lua_pushnumber(L, n);
    lua_setfield(L, -2, key);
}

static void set_text(lua_State *L, const char *key, const char *text)
{
    if (!text || !text[0]) return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static void set_true(lua_State *L, const char *key, bool yes)
{
    if (!yes) return;
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, key);
}

static void set_span(lua_State *L, const char *key, const struct span_ms *span)
{
    lua_newtable(L);
    lua_pushnumber(L, (double)span->low), lua_rawseti(L, -2, 1);
    lua_pushnumber(L, (double)span->high), lua_rawseti(L, -2, 2);
    lua_setfield(L, -2, key);
}

static void push_problems(lua_State *L, const struct problems *p)
{
    char text[1024];
    lua_newtable(L);
    for (uint32_t i = 0; i < p->count; i++) {
        lua_newtable(L);
        set_text(L, "file", p->items[i].file);
        set_text(L, "key", p->items[i].key);
        set_text(L, "text", p->items[i].text);
        set_integer(L, "line", p->items[i].line);
        set_true(L, "warning", p->items[i].warning);
        set_text(L, "whole", problem_format(&p->items[i], text, sizeof text));
        lua_rawseti(L, -2, (int)i + 1);
    }
}

static void push_ranges(lua_State *L, const char *key, const struct code_range *r, uint32_t count)
{
    if (!count) return;
    lua_newtable(L);
    for (uint32_t i = 0; i < count; i++) {
        lua_pushfstring(L, "%d-%d", (int)r[i].low, (int)r[i].high);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, key);
}

static void push_cause_matcher(lua_State *L, const struct cause_matcher *m)
{
    lua_newtable(L);
    set_true(L, "any", m->any);
    push_ranges(L, "close", m->close, m->close_count);
    push_ranges(L, "http", m->http, m->http_count);
    push_ranges(L, "code", m->code, m->code_count);
    if (m->stages) set_integer(L, "stages", m->stages);
    if (m->by) set_integer(L, "by", m->by);
    if (m->cause_count) {
        lua_newtable(L);
        for (uint32_t i = 0; i < m->cause_count; i++) {
            lua_pushstring(L, m->causes[i]);
            lua_rawseti(L, -2, (int)i + 1);
        }
        lua_setfield(L, -2, "causes");
    }
    set_text(L, "reason", m->reason);
    set_text(L, "header_name", m->header_name);
    set_text(L, "header_value", m->header_value);
    set_integer(L, "session", m->session);
    if (m->under_ms) set_integer(L, "under", (double)m->under_ms);
}

static void push_matchers(lua_State *L, const struct frame_rules *r, const struct frame_matchers *m)
{
    lua_newtable(L);
    for (uint32_t i = 0; i < m->count; i++) {
        lua_newtable(L);
        for (uint32_t j = 0; j < m->items[i].field_count; j++) {
            const struct field_match *f = &m->items[i].fields[j];
            lua_newtable(L);
            for (uint32_t k = 0; k < f->want_count; k++) {
                const struct field_want *w = &f->wants[k];
                if (w->kind == WANT_STRING) lua_pushlstring(L, w->text, w->len);
                if (w->kind == WANT_BOOL) lua_pushboolean(L, w->boolean);
                if (w->kind == WANT_NULL) lua_pushliteral(L, "<null>");
                if (w->kind == WANT_PRESENT) lua_pushliteral(L, "<present>");
                if (w->kind == WANT_RANGE && w->low == w->high) lua_pushnumber(L, (double)w->low);
                if (w->kind == WANT_RANGE && w->low != w->high)
                    lua_pushfstring(L, "%d..%d", (int)w->low, (int)w->high);
                lua_rawseti(L, -2, (int)k + 1);
            }
            lua_setfield(L, -2, r->fields[f->field].name);
        }
        lua_rawseti(L, -2, (int)i + 1);
    }
}

static void set_matchers(lua_State *L, const char *key, const struct frame_rules *r,
                         const struct frame_matchers *m)
{
    if (!m->count) return;
    push_matchers(L, r, m);
    lua_setfield(L, -2, key);
}

static void push_plan(lua_State *L, const struct plan *p)
{
    lua_newtable(L);
    set_text(L, "platform", p->platform);
    set_text(L, "file", p->file);
    set_integer(L, "version", p->version);
    lua_newtable(L);
#define LIMIT(name) set_integer(L, #name, (double)p->limits_ms.name)
    LIMIT(prepare), LIMIT(call), LIMIT(resolve), LIMIT(connect), LIMIT(secure), LIMIT(upgrade);
    LIMIT(greeting), LIMIT(close), LIMIT(drain);
    lua_setfield(L, -2, "limits");
    set_integer(L, "ping", (double)p->ping_ms);
    set_integer(L, "silence", (double)p->silence_ms);
    set_true(L, "promised", p->promised);
    lua_newtable(L);
    set_true(L, "on", p->beat.on), set_true(L, "answered", p->beat.answered);
    set_integer(L, "every", (double)p->beat.every_ms), set_integer(L, "least", (double)p->beat.least_ms);
    set_integer(L, "most", (double)p->beat.most_ms), set_integer(L, "first", p->beat.first);
    set_integer(L, "dead", p->beat.dead);
    lua_setfield(L, -2, "beat");
    lua_newtable(L);
    set_integer(L, "first", (double)p->backoff.first_ms), set_integer(L, "most", (double)p->backoff.most_ms);
    set_integer(L, "floor", (double)p->backoff.floor_ms), set_integer(L, "settle", (double)p->backoff.settle_ms);
    set_integer(L, "factor", p->backoff.factor), set_integer(L, "jitter", p->backoff.jitter);
    lua_setfield(L, -2, "backoff");
    lua_newtable(L);
    set_integer(L, "first", (double)p->slow.first_ms), set_integer(L, "most", (double)p->slow.most_ms);
    set_integer(L, "factor", p->slow.factor);
    lua_setfield(L, -2, "slow");
    lua_newtable(L);
    for (int i = 0; i < BUDGET_COUNT; i++) {
        const struct budget_plan *b = &p->budgets[i];
        if (!b->on) continue;
        lua_newtable(L);
        set_integer(L, "gap", (double)b->gap_ms), set_integer(L, "operators", b->operators);
        set_integer(L, "beats", b->beats);
        for (uint32_t k = 0; k < b->window_count; k++) {
            struct span_ms pair = { b->windows[k].count, b->windows[k].ms };
            char key[8];
            key[0] = (char)('1' + k), key[1] = 0;
            set_span(L, key, &pair);
        }
        lua_setfield(L, -2, budget_name((enum budget_kind)i));
    }
    lua_setfield(L, -2, "budgets");
    lua_newtable(L);
    set_true(L, "on", p->session.on), set_integer(L, "age", (double)p->session.age_ms);
    set_integer(L, "life", (double)p->session.life_ms);
    set_integer(L, "replay", p->session.replay);
    lua_setfield(L, -2, "session");
    set_integer(L, "overlap", p->overlap);
    set_integer(L, "retire_after", (double)p->retire_after_ms), set_integer(L, "retire_jitter", p->retire_jitter);
    set_integer(L, "close_keep", p->close_keep), set_integer(L, "close_final", p->close_final);
    set_true(L, "has_greet", p->has_greet), set_true(L, "has_on_ended", p->has_on_ended);
    set_true(L, "has_on_beat", p->has_on_beat), set_true(L, "has_on_frame", p->has_on_frame);
    lua_newtable(L);
    set_integer(L, "most", (double)p->backlog.bytes_max), set_integer(L, "age", (double)p->backlog.age_ms);
    set_integer(L, "hold", (double)p->backlog.hold_ms), set_integer(L, "full", p->backlog.full);
    lua_setfield(L, -2, "backlog");
    lua_newtable(L);
    for (uint32_t i = 0; i < p->classify_count; i++) {
        const struct classify_rule *r = &p->classify[i];
        lua_newtable(L);
        push_cause_matcher(L, &r->match), lua_setfield(L, -2, "match");
        set_text(L, "drop", drop_name(r->drop)), set_text(L, "pace", pace_name(r->pace));
        if (r->has_delay) set_span(L, "delay", &r->delay);
        if (r->has_otherwise) set_span(L, "otherwise", &r->otherwise);
        if (r->has_pace_span) set_span(L, "pace_span", &r->pace_span);
        set_true(L, "retry_after", r->delay_from_retry_after);
        set_true(L, "counts", r->counts), set_true(L, "planned", r->planned);
        set_text(L, "drop_fetch", r->drop_fetch), set_text(L, "as", r->as), set_text(L, "note", r->note);
        set_integer(L, "line", r->line);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "classify");
    lua_newtable(L);
    for (uint32_t i = 0; i < p->climb_count; i++) {
        const struct climb_rule *r = &p->climb[i];
        lua_newtable(L);
        lua_newtable(L);
        for (uint32_t k = 0; k < r->on_count; k++) {
            push_cause_matcher(L, &r->on[k]);
            lua_rawseti(L, -2, (int)k + 1);
        }
        lua_setfield(L, -2, "on");
        set_integer(L, "times", r->times), set_integer(L, "within", (double)r->within_ms);
        set_text(L, "to", drop_name(r->to)), set_text(L, "pace", pace_name(r->pace));
        if (r->has_pace_span) set_span(L, "pace_span", &r->pace_span);
        set_text(L, "note", r->note), set_integer(L, "line", r->line);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "climb");
}

static void push_rules(lua_State *L, const struct frame_rules *r)
{
    lua_newtable(L);
    set_integer(L, "codec", r->codec);
    lua_newtable(L);
    for (uint32_t i = 0; i < r->field_count; i++) set_text(L, r->fields[i].name, r->fields[i].path);
    lua_setfield(L, -2, "take");
    set_true(L, "deliver_all", r->deliver_all), set_true(L, "accept_all", r->accept_all);
    set_matchers(L, "deliver", r, &r->deliver), set_matchers(L, "inspect", r, &r->inspect);
    set_matchers(L, "accept", r, &r->accept), set_matchers(L, "start", r, &r->start);
    set_matchers(L, "beat_asked", r, &r->beat_asked), set_matchers(L, "beat_answer", r, &r->beat_answer);
    lua_newtable(L);
    for (uint32_t i = 0; i < r->ends_count; i++) {
        lua_newtable(L);
        push_matchers(L, r, &r->ends[i].match), lua_setfield(L, -2, "match");
        set_text(L, "cause", r->ends[i].cause), set_integer(L, "after", (double)r->ends[i].after_ms);
        set_integer(L, "line", r->ends[i].line);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "ends");
    lua_newtable(L);
    for (uint32_t i = 0; i < r->remember_count; i++) {
        set_text(L, r->remember[i].key, r->fields[r->remember[i].field].name);
    }
    lua_setfield(L, -2, "remember");
    if (r->dedupe.on) {
        lua_newtable(L);
        for (uint32_t i = 0; i < r->dedupe.by_count; i++) {
            lua_pushstring(L, r->fields[r->dedupe.by[i]].name);
            lua_rawseti(L, -2, (int)i + 1);
        }
        set_integer(L, "over", (double)r->dedupe.over_ms), set_integer(L, "most", r->dedupe.most);
        lua_setfield(L, -2, "dedupe");
    }
    if (r->ack_count) {
        lua_newtable(L);
        for (uint32_t i = 0; i < r->ack_count; i++) {
            const struct ack_rule *a = &r->acks[i];
            lua_newtable(L);
            if (a->match.count) set_matchers(L, "on", r, &a->match);
            set_integer(L, "when", a->when), set_text(L, "frame", a->frame);
            set_integer(L, "within", (double)a->within_ms);
            set_true(L, "at_risk", a->at_risk), set_true(L, "anywhere", a->anywhere);
            lua_rawseti(L, -2, (int)i + 1);
        }
        lua_setfield(L, -2, "ack");
    }
    set_integer(L, "message", (double)r->message_bytes_max), set_integer(L, "send", (double)r->send_bytes_max);
}

static void push_value(lua_State *L, const struct value *v)
{
    switch (v->kind) {
    case VALUE_BOOL: lua_pushboolean(L, v->boolean); return;
    case VALUE_NUMBER: lua_pushnumber(L, v->number); return;
    case VALUE_STRING: lua_pushlstring(L, v->string.bytes, v->string.len); return;
    case VALUE_SECRET: lua_pushfstring(L, "<secret %s>", secret_name(v->secret)); return;
    case VALUE_FUNCTION: lua_pushliteral(L, "<function>"); return;
    case VALUE_NIL: lua_pushnil(L); return;
    case VALUE_TABLE:
        lua_newtable(L);
        for (uint32_t i = 0; i < v->table->count; i++) {
            push_value(L, &v->table->pairs[i].key);
            push_value(L, &v->table->pairs[i].value);
            lua_rawset(L, -3);
        }
    }
}

static void set_print(lua_State *L, const char *key, uint64_t print)
{
    lua_pushfstring(L, "%p", (void *)(uintptr_t)print);
    lua_setfield(L, -2, key);
}

static void push_build(lua_State *L, const struct policy_build *b)
{
    lua_newtable(L);
    push_plan(L, b->plan), lua_setfield(L, -2, "plan");
    push_rules(L, b->rules), lua_setfield(L, -2, "rules");
    push_value(L, &b->options), lua_setfield(L, -2, "options");
    lua_newtable(L);
    for (uint32_t i = 0; i < b->host_count; i++) {
        lua_pushstring(L, b->hosts[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "hosts");
    if (b->identity) set_print(L, "identity", b->identity);
    if (b->account) set_print(L, "account", b->account);
    if (b->session_of) set_print(L, "session_of", b->session_of);
    set_integer(L, "lane", (double)b->lane);
    lua_newtable(L);
    for (uint32_t i = 0; i < b->every_count; i++) {
        set_span(L, b->every[i].name, &b->every[i].every);
    }
    lua_setfield(L, -2, "every");
    lua_newtable(L);
    for (uint32_t i = 0; i < b->fetch_count; i++) {
        const struct fetch_rule *f = &b->fetch[i];
        lua_newtable(L);
        set_integer(L, "keep", (double)f->keep_ms), set_integer(L, "gap", (double)f->gap_ms);
        set_true(L, "stale", f->stale), set_true(L, "by_account", f->by_account);
        lua_setfield(L, -2, f->name);
    }
    lua_setfield(L, -2, "fetch");
}

/* --- functions -------------------------------------------------------------------------------------- */

/* { policy = table, text = source for the lines, settings = table, settings_text, settings_line } */
struct input {
    struct value policy, settings;
    bool has_settings;
};

static void input_read(lua_State *L, struct input *in)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_getfield(L, 1, "policy");
    lua_getfield(L, 1, "settings");
    lua_getfield(L, 1, "text");
    lua_getfield(L, 1, "settings_text");
    in->policy = to_value(L, 2);
    in->has_settings = !lua_isnil(L, 3);
    in->settings = to_value(L, 3);
    if (lua_isstring(L, 4)) {
        lines_annotate(&in->policy, lua_tostring(L, 4), lua_objlen(L, 4), "holdfast.policy", 1);
    }
    if (lua_isstring(L, 5)) {
        lines_annotate(&in->settings, lua_tostring(L, 5), lua_objlen(L, 5), "connection", 1);
    }
}

static void input_clear(struct input *in)
{
    value_clear(&in->policy);
    value_clear(&in->settings);
}

/* check(input) -> ok, problems */
static int l_check(lua_State *L)
{
    struct input in;
    struct problems problems;
    input_read(L, &in);
    problems_init(&problems);
    bool ok = in.has_settings
                  ? schema_check_settings(&in.policy, &in.settings, "holdfast.lua", &problems)
                  : schema_check(&in.policy, "policies/x.lua", &problems);
    ASSERT(ok == (problems.errors == 0));
    lua_pushboolean(L, ok);
    push_problems(L, &problems);
    problems_deinit(&problems);
    input_clear(&in);
    return 2;
}

/* build(input) -> build or nil, problems */
static int l_build(lua_State *L)
{
    struct input in;
    struct problems problems;
    struct policy_build b = { 0 };
    input_read(L, &in);
    problems_init(&problems);
    if (!in.has_settings) in.settings = value_table();
    bool ok = schema_build(&in.policy, "policies/x.lua", &in.settings, "holdfast.lua", 7, NULL, &b, &problems);
    ASSERT(ok == (problems.errors == 0));
    if (ok) {
        push_build(L, &b);
        schema_build_deinit(&b);
    } else {
        lua_pushnil(L);
    }
    push_problems(L, &problems);
    problems_deinit(&problems);
    input_clear(&in);
    return 2;
}

/* allowed(hosts, url, plain) -> true, or false and why */
static int l_allowed(lua_State *L)
{
    char *hosts[16];
    struct policy_build b = { .hosts = hosts };
    lua_settop(L, 3);
    for (; b.host_count < 16 && b.host_count < lua_objlen(L, 1); b.host_count++) {
        lua_rawgeti(L, 1, (int)b.host_count + 1);
        hosts[b.host_count] = (char *)(uintptr_t)lua_tostring(L, -1);
    }
    const char *why = NULL;
    bool ok = policy_url_allowed(&b, luaL_checkstring(L, 2), lua_toboolean(L, 3), &why);
    lua_pushboolean(L, ok);
    if (!ok) lua_pushstring(L, why);
    return ok ? 1 : 2;
}

/* lines(table, text, anchor, nth) or lines(table, text, line): the table with each value's line:
 * { line = n, [key] = ... } */
static void push_lines(lua_State *L, const struct value *v)
{
    if (v->kind != VALUE_TABLE) {
        lua_pushinteger(L, (lua_Integer)v->line);
        return;
    }
    lua_newtable(L);
    set_integer(L, "line", v->line);
    for (uint32_t i = 0; i < v->table->count; i++) {
        push_value(L, &v->table->pairs[i].key);
        push_lines(L, &v->table->pairs[i].value);
        lua_rawset(L, -3);
    }
}

static int l_lines(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    struct value v = to_value(L, 1);
    if (lua_type(L, 3) == LUA_TNUMBER) {
        lines_annotate_at(&v, text, len, (uint32_t)lua_tointeger(L, 3));
    } else {
        lines_annotate(&v, text, len, luaL_checkstring(L, 3), (uint32_t)luaL_optinteger(L, 4, 1));
    }
    push_lines(L, &v);
    value_clear(&v);
    return 1;
}

static int l_public_is_valid(lua_State *L)
{
    lua_pushboolean(L, public_pattern_is_valid(luaL_checkstring(L, 1)));
    return 1;
}

static int l_public_match(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    long n = public_pattern_match(luaL_checkstring(L, 1), bytes, len);
    if (n < 0) return 0;
    lua_pushlstring(L, bytes, (size_t)n);
    return 1;
}

/* matchers({ take names }, table) -> compiled, or nil and an error: what conn:await does */
static int l_matchers(lua_State *L)
{
    struct frame_rules r = { 0 };
    struct frame_matchers m;
    char error[256] = "";
    lua_settop(L, 2);
    for (; r.field_count < lua_objlen(L, 1); r.field_count++) {
        lua_rawgeti(L, 1, (int)r.field_count + 1);
        strncpy(r.fields[r.field_count].name, lua_tostring(L, -1), RULE_NAME_MAX - 1);
    }
    struct value v = to_value(L, 2);
    bool ok = schema_frame_matchers(&v, &r, &m, error, sizeof error);
    value_clear(&v);
    if (!ok) {
        lua_pushnil(L);
        lua_pushstring(L, error);
        return 2;
    }
    push_matchers(L, &r, &m);
    frame_matchers_deinit(&m);
    return 1;
}

/* keys(): every key of the tables, as { path = { standard, about, type, order } } */
static void keys_visit(void *context, const struct schema_key *key)
{
    lua_State *L = context;
    lua_Integer order = lua_tointeger(L, 1) + 1;
    lua_pushinteger(L, order);
    lua_replace(L, 1);
    lua_newtable(L);
    set_integer(L, "order", (double)order);
    set_text(L, "standard", key->standard);
    set_text(L, "about", key->about);
    set_text(L, "type", key->type);
    lua_setfield(L, -2, key->path);
}

static int l_keys(lua_State *L)
{
    lua_settop(L, 0);
    lua_pushinteger(L, 0); /* counts in place */
    lua_newtable(L);
    schema_each_key(keys_visit, L);
    return 1;
}

static const luaL_Reg functions[] = {
    { "secret", l_secret },
    { "check", l_check },
    { "build", l_build },
    { "allowed", l_allowed },
    { "lines", l_lines },
    { "public_is_valid", l_public_is_valid },
    { "public_match", l_public_match },
    { "matchers", l_matchers },
    { "keys", l_keys },
    { NULL, NULL },
};

int luaopen_unit_policy_schema(lua_State *L);
int luaopen_unit_policy_schema(lua_State *L)
{
    luaL_newmetatable(L, SECRET_MT);
    lua_pushcfunction(L, l_secret_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
