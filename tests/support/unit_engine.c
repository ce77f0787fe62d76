/* modules: engine base */
/* The engine for busted: events from tables, effects and views as tables. Times are numbers of
 * milliseconds: `at = 5000` sets all three clocks (wall time starts at WALL), or a table
 * { mono =, boot =, wall = } sets each. */
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "engine/engine_internal.h"

#define ENGINE_MT "unit.engine"
#define PLAN_MT "unit.engine.plan"
#define WALL 1700000000000.0

struct engine_box {
    struct engine *e;
    struct effect_list out;
    int plans; /* a table that keeps plans alive */
};

struct plan_box {
    struct plan p;
};

/* --- reading tables */

static double get_number(lua_State *L, int t, const char *key, double otherwise)
{
    lua_getfield(L, t, key);
    double n = lua_isnil(L, -1) ? otherwise : luaL_checknumber(L, -1);
    lua_pop(L, 1);
    return n;
}

static uint64_t get_ms(lua_State *L, int t, const char *key, uint64_t otherwise)
{
    return (uint64_t)get_number(L, t, key, (double)otherwise);
}

static bool get_bool(lua_State *L, int t, const char *key, bool otherwise)
{
    lua_getfield(L, t, key);
    bool b = lua_isnil(L, -1) ? otherwise : lua_toboolean(L, -1);
    lua_pop(L, 1);
    return b;
}

static bool get_text(lua_State *L, int t, const char *key, char *out, size_t bytes)
{
    lua_getfield(L, t, key);
    const char *text = lua_tostring(L, -1);
    if (text) text_copy(out, bytes, text, strlen(text));
    lua_pop(L, 1);
    return text != NULL;
}

static bool get_span(lua_State *L, int t, const char *key, struct span_ms *out)
{
    lua_getfield(L, t, key);
    bool is = lua_istable(L, -1);
    if (is) {
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        out->low = (uint64_t)lua_tonumber(L, -2);
        out->high = (uint64_t)lua_tonumber(L, -1);
        lua_pop(L, 2);
    }
    lua_pop(L, 1);
    return is;
}

static int get_enum(lua_State *L, int t, const char *key, const char *const *names, int otherwise)
{
    lua_getfield(L, t, key);
    int found = otherwise;
    if (!lua_isnil(L, -1)) {
        const char *text = luaL_checkstring(L, -1);
        found = -1;
        for (int i = 0; names[i]; i++) {
            if (strcmp(names[i], text) == 0) found = i;
        }
        if (found < 0) luaL_error(L, "%s: no such name: %s", key, text);
    }
    lua_pop(L, 1);
    return found;
}

static const char *const drops[] = { "resume", "fresh", "renew", NULL };
static const char *const paces[] = { "normal", "slow", "stop", NULL };
static const char *const jitters[] = { "none", "full", "equal", NULL };
static const char *const firsts[] = { "spread", "at_once", "after", NULL };
static const char *const replays[] = { "session", "unacked", "none", NULL };
static const char *const budget_names[] = { "start", "dial", "call", "send", NULL };
static const char *const send_kinds[] = { "greeting", "hook", "consumer", NULL };
static const char *const bys[] = { "peer", "network", "us", "policy", "operator", NULL };
static const char *const stage_names[] = {
#define X(name, text) text,
    STAGE_MAP(X)
#undef X
    NULL
};
static const char *const kind_names[] = {
#define X(name, text) text,
    CAUSE_KIND_MAP(X)
#undef X
    NULL
};
static const char *const event_names[] = {
#define X(name, text) text,
    EVENT_MAP(X)
#undef X
    NULL
};
static const char *const conn_states[] = {
#define X(name, text) text,
    CONN_STATE_MAP(X)
#undef X
    NULL
};
static const char *const link_states[] = {
#define X(name, text) text,
    LINK_STATE_MAP(X)
#undef X
    NULL
};

static struct clock get_clock(lua_State *L, int t, const char *key)
{
    struct clock at = { 0, 0, (uint64_t)WALL };
    lua_getfield(L, t, key);
    if (lua_isnumber(L, -1)) {
        double ms = lua_tonumber(L, -1);
        at = (struct clock){ (uint64_t)ms, (uint64_t)ms, (uint64_t)(WALL + ms) };
    } else if (lua_istable(L, -1)) {
        int c = lua_gettop(L);
        at.mono_ms = get_ms(L, c, "mono", 0);
        at.boot_ms = get_ms(L, c, "boot", at.mono_ms);
        at.wall_ms = get_ms(L, c, "wall", (uint64_t)WALL + at.boot_ms);
    }
    lua_pop(L, 1);
    return at;
}

static struct cause get_cause(lua_State *L, int t)
{
    luaL_checktype(L, t, LUA_TTABLE);
    struct cause c = cause_make(
        (enum stage)get_enum(L, t, "stage", stage_names, STAGE_NONE),
        (enum cause_kind)get_enum(L, t, "kind", kind_names, CAUSE_EOF),
        (enum cause_by)get_enum(L, t, "by", bys, BY_PEER), NULL);
    get_text(L, t, "name", c.name, sizeof c.name);
    get_text(L, t, "reason", c.reason, sizeof c.reason);
    c.close_code = (int32_t)get_number(L, t, "close", CLOSE_CODE_NONE);
    c.http_status = (int32_t)get_number(L, t, "http", 0);
    c.code = (int64_t)get_number(L, t, "code", 0);
    c.session = get_bool(L, t, "session", false);
    c.age_ms = get_ms(L, t, "age", 0);
    double retry = get_number(L, t, "retry_after", -1);
    if (retry >= 0) c.retry_after_ms = (uint64_t)retry;
    lua_getfield(L, t, "head");
    c.head = lua_tolstring(L, -1, &c.head_len); /* the cause table keeps it */
    lua_pop(L, 1);
    return c;
}

static struct cause field_cause(lua_State *L, int t)
{
    lua_getfield(L, t, "cause");
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return cause_make(STAGE_NONE, CAUSE_NONE, BY_US, NULL);
    }
    struct cause c = get_cause(L, lua_gettop(L));
    lua_pop(L, 1);
    return c;
}

/* --- plans */

static void get_ranges(lua_State *L, int t, const char *key, struct code_range **out,
                       uint32_t *count)
{
    lua_getfield(L, t, key);
    if (!lua_isnil(L, -1)) {
        bool one = lua_isnumber(L, -1);
        uint32_t n = one ? 1 : (uint32_t)lua_objlen(L, -1);
        *out = calloc(n ? n : 1, sizeof **out);
        *count = n;
        for (uint32_t i = 0; i < n; i++) {
            if (one) lua_pushvalue(L, -1);
            else lua_rawgeti(L, -1, (int)i + 1);
            if (lua_istable(L, -1)) {
                lua_rawgeti(L, -1, 1);
                lua_rawgeti(L, -2, 2);
                (*out)[i].low = (int64_t)lua_tonumber(L, -2);
                (*out)[i].high = (int64_t)lua_tonumber(L, -1);
                lua_pop(L, 2);
            } else {
                (*out)[i].low = (*out)[i].high = (int64_t)lua_tonumber(L, -1);
            }
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

static uint32_t get_bits(lua_State *L, int t, const char *key, const char *const *names)
{
    uint32_t bits = 0;
    lua_getfield(L, t, key);
    if (!lua_isnil(L, -1)) {
        bool one = lua_isstring(L, -1);
        int n = one ? 1 : (int)lua_objlen(L, -1);
        for (int i = 0; i < n; i++) {
            if (one) lua_pushvalue(L, -1);
            else lua_rawgeti(L, -1, i + 1);
            for (int k = 0; names[k]; k++) {
                if (strcmp(names[k], lua_tostring(L, -1)) == 0) bits |= 1u << k;
            }
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
    return bits;
}

static char *get_owned(lua_State *L, int t, const char *key)
{
    lua_getfield(L, t, key);
    const char *text = lua_tostring(L, -1);
    char *copy = text ? strdup(text) : NULL;
    lua_pop(L, 1);
    return copy;
}

static void get_matcher(lua_State *L, int t, struct cause_matcher *m)
{
    m->any = get_bool(L, t, "any", false);
    get_ranges(L, t, "close", &m->close, &m->close_count);
    get_ranges(L, t, "http", &m->http, &m->http_count);
    get_ranges(L, t, "code", &m->code, &m->code_count);
    m->stages = get_bits(L, t, "stage", stage_names);
    m->by = get_bits(L, t, "by", bys);
    lua_getfield(L, t, "cause");
    if (!lua_isnil(L, -1)) {
        bool one = lua_isstring(L, -1);
        m->cause_count = one ? 1 : (uint32_t)lua_objlen(L, -1);
        m->causes = calloc(m->cause_count, sizeof *m->causes);
        for (uint32_t i = 0; i < m->cause_count; i++) {
            if (one) lua_pushvalue(L, -1);
            else lua_rawgeti(L, -1, (int)i + 1);
            text_copy(m->causes[i], CAUSE_NAME_MAX, lua_tostring(L, -1),
                      strlen(lua_tostring(L, -1)));
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
    m->reason = get_owned(L, t, "reason");
    m->header_name = get_owned(L, t, "header");
    m->header_value = get_owned(L, t, "header_value");
    lua_getfield(L, t, "session");
    m->session = lua_isnil(L, -1) ? -1 : (int8_t)lua_toboolean(L, -1);
    lua_pop(L, 1);
    m->under_ms = get_ms(L, t, "under", 0);
}

static void get_classify(lua_State *L, int t, struct plan *p)
{
    p->classify_count = (uint32_t)lua_objlen(L, t);
    p->classify = calloc(p->classify_count + 1, sizeof *p->classify);
    /* Behind the last row: nobody is to look there. */
    p->classify[p->classify_count].match.any = true;
    p->classify[p->classify_count].pace = PACE_STOP;
    for (uint32_t i = 0; i < p->classify_count; i++) {
        struct classify_rule *r = &p->classify[i];
        lua_rawgeti(L, t, (int)i + 1);
        int row = lua_gettop(L);
        get_matcher(L, row, &r->match);
        r->drop = (enum drop)get_enum(L, row, "drop", drops, DROP_RESUME);
        r->pace = (enum pace)get_enum(L, row, "pace", paces, PACE_NORMAL);
        r->has_delay = get_span(L, row, "delay", &r->delay);
        r->delay_from_retry_after = get_bool(L, row, "retry_after", false);
        r->has_otherwise = get_span(L, row, "otherwise", &r->otherwise);
        r->has_pace_span = get_span(L, row, "pace_span", &r->pace_span);
        r->counts = get_bool(L, row, "counts", true);
        r->planned = get_bool(L, row, "planned", false);
        get_text(L, row, "drop_fetch", r->drop_fetch, sizeof r->drop_fetch);
        get_text(L, row, "as", r->as, sizeof r->as);
        get_text(L, row, "note", r->note, sizeof r->note);
        r->line = (uint32_t)get_number(L, row, "line", 0);
        lua_pop(L, 1);
    }
}

static void get_climb(lua_State *L, int t, struct plan *p)
{
    p->climb_count = (uint32_t)lua_objlen(L, t);
    p->climb = calloc(p->climb_count + 1, sizeof *p->climb);
    for (uint32_t i = 0; i < p->climb_count; i++) {
        struct climb_rule *r = &p->climb[i];
        lua_rawgeti(L, t, (int)i + 1);
        int row = lua_gettop(L);
        lua_getfield(L, row, "on");
        r->on_count = 1;
        r->on = calloc(1, sizeof *r->on);
        get_matcher(L, lua_gettop(L), r->on);
        lua_pop(L, 1);
        r->times = (uint32_t)get_number(L, row, "times", 1);
        r->within_ms = get_ms(L, row, "within", 0);
        r->to = (enum drop)get_enum(L, row, "to", drops, DROP_RESUME);
        r->pace = (enum pace)get_enum(L, row, "pace", paces, PACE_NORMAL);
        r->has_pace_span = get_span(L, row, "pace_span", &r->pace_span);
        get_text(L, row, "note", r->note, sizeof r->note);
        r->line = (uint32_t)get_number(L, row, "line", 0);
        lua_pop(L, 1);
    }
}

static void get_budget(lua_State *L, int t, struct budget_plan *b)
{
    b->on = true;
    b->gap_ms = get_ms(L, t, "gap", 0);
    b->operators = get_number(L, t, "operators", 0);
    b->beats = (uint32_t)get_number(L, t, "beats", 0);
    lua_getfield(L, t, "windows");
    b->window_count = lua_istable(L, -1) ? (uint32_t)lua_objlen(L, -1) : 0;
    for (uint32_t i = 0; i < b->window_count; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        b->windows[i].count = (uint32_t)lua_tonumber(L, -2);
        b->windows[i].ms = (uint64_t)lua_tonumber(L, -1);
        lua_pop(L, 3);
    }
    lua_pop(L, 1);
}

static int l_plan(lua_State *L)
{
    struct plan_box *box = lua_newuserdata(L, sizeof *box);
    struct plan *p = &box->p;
    plan_defaults(p);
    luaL_getmetatable(L, PLAN_MT);
    lua_setmetatable(L, -2);
    if (!lua_istable(L, 1)) return 1;
    const int t = 1;
    text_copy(p->file, sizeof p->file, "test.lua", 8);
    p->ping_ms = get_ms(L, t, "ping", p->ping_ms);
    p->silence_ms = get_ms(L, t, "silence", p->silence_ms);
    p->promised = get_bool(L, t, "promised", false);
    p->overlap = (uint32_t)get_number(L, t, "overlap", 0);
    p->retire_after_ms = get_ms(L, t, "retire_after", 0);
    p->retire_jitter = get_number(L, t, "retire_jitter", 0);
    p->has_on_ended = get_bool(L, t, "on_ended", false);
    p->has_greet = get_bool(L, t, "greet", true);
    lua_getfield(L, t, "limits");
    if (lua_istable(L, -1)) {
        int s = lua_gettop(L);
        p->limits_ms.prepare = get_ms(L, s, "prepare", p->limits_ms.prepare);
        p->limits_ms.resolve = get_ms(L, s, "resolve", p->limits_ms.resolve);
        p->limits_ms.connect = get_ms(L, s, "connect", p->limits_ms.connect);
        p->limits_ms.secure = get_ms(L, s, "secure", p->limits_ms.secure);
        p->limits_ms.upgrade = get_ms(L, s, "upgrade", p->limits_ms.upgrade);
        p->limits_ms.greeting = get_ms(L, s, "greeting", p->limits_ms.greeting);
        p->limits_ms.close = get_ms(L, s, "close", p->limits_ms.close);
        p->limits_ms.drain = get_ms(L, s, "drain", p->limits_ms.drain);
    }
    lua_pop(L, 1);
    lua_getfield(L, t, "beat");
    if (lua_istable(L, -1)) {
        int s = lua_gettop(L);
        p->beat.on = true;
        p->beat.every_ms = get_ms(L, s, "every", 41250);
        p->beat.least_ms = get_ms(L, s, "least", 1000);
        p->beat.most_ms = get_ms(L, s, "most", 120000);
        p->beat.first = (enum beat_first)get_enum(L, s, "first", firsts, BEAT_SPREAD);
        p->beat.answered = get_bool(L, s, "answered", true);
        p->beat.dead = (uint32_t)get_number(L, s, "dead", 1);
        p->beat.within_ms = get_ms(L, s, "within", 0);
    }
    lua_pop(L, 1);
    lua_getfield(L, t, "backoff");
    if (lua_istable(L, -1)) {
        int s = lua_gettop(L);
        p->backoff.first_ms = get_ms(L, s, "first", p->backoff.first_ms);
        p->backoff.most_ms = get_ms(L, s, "most", p->backoff.most_ms);
        p->backoff.floor_ms = get_ms(L, s, "floor", p->backoff.floor_ms);
        p->backoff.settle_ms = get_ms(L, s, "settle", p->backoff.settle_ms);
        p->backoff.factor = get_number(L, s, "factor", p->backoff.factor);
        p->backoff.jitter = (enum jitter)get_enum(L, s, "jitter", jitters, JITTER_FULL);
    }
    lua_pop(L, 1);
    lua_getfield(L, t, "slow");
    if (lua_istable(L, -1)) {
        int s = lua_gettop(L);
        p->slow.first_ms = get_ms(L, s, "first", p->slow.first_ms);
        p->slow.most_ms = get_ms(L, s, "most", p->slow.most_ms);
        p->slow.factor = get_number(L, s, "factor", p->slow.factor);
    }
    lua_pop(L, 1);
    for (int i = 0; i < BUDGET_COUNT; i++) {
        lua_getfield(L, t, "budgets");
        if (lua_istable(L, -1)) {
            lua_getfield(L, -1, budget_names[i]);
            if (lua_istable(L, -1)) get_budget(L, lua_gettop(L), &p->budgets[i]);
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
    lua_getfield(L, t, "session");
    if (lua_istable(L, -1)) {
        int s = lua_gettop(L);
        p->session.on = true;
        p->session.age_ms = get_ms(L, s, "age", 0);
        p->session.life_ms = get_ms(L, s, "life", 0);
        p->session.replay = (enum replay)get_enum(L, s, "replay", replays, REPLAY_SESSION);
        p->session.replay_for_ms = get_ms(L, s, "replay_for", 0);
    }
    lua_pop(L, 1);
    lua_getfield(L, t, "classify");
    if (lua_istable(L, -1)) get_classify(L, lua_gettop(L), p);
    lua_pop(L, 1);
    lua_getfield(L, t, "climb");
    if (lua_istable(L, -1)) get_climb(L, lua_gettop(L), p);
    lua_pop(L, 1);
    return 1;
}

static int l_plan_gc(lua_State *L)
{
    struct plan_box *box = luaL_checkudata(L, 1, PLAN_MT);
    plan_deinit(&box->p);
    return 0;
}

/* --- pushing tables */

static void set_number(lua_State *L, const char *key, double n)
{
    lua_pushnumber(L, n);
    lua_setfield(L, -2, key);
}

/* Absent when it is never. */
static void set_ms(lua_State *L, const char *key, uint64_t ms)
{
    if (ms == ENGINE_NEVER) return;
    set_number(L, key, (double)ms);
}

static void set_text(lua_State *L, const char *key, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static void set_bool(lua_State *L, const char *key, bool b)
{
    lua_pushboolean(L, b);
    lua_setfield(L, -2, key);
}

static void set_cause(lua_State *L, const char *key, const struct cause *c)
{
    if (c->kind == CAUSE_NONE) return;
    lua_newtable(L);
    set_text(L, "kind", cause_kind_name(c->kind));
    set_text(L, "stage", stage_name(c->stage));
    set_text(L, "by", cause_by_name(c->by));
    set_text(L, "name", c->name);
    set_text(L, "reason", c->reason);
    if (c->close_code != CLOSE_CODE_NONE) set_number(L, "close", c->close_code);
    if (c->http_status) set_number(L, "http", c->http_status);
    set_number(L, "age", (double)c->age_ms);
    set_bool(L, "session", c->session);
    lua_setfield(L, -2, key);
}

static void push_decision(lua_State *L, const struct decision *d)
{
    static const char *const by[] = { "rule", "hook", "climb", "engine", "operator" };
    lua_newtable(L);
    set_cause(L, "cause", &d->cause);
    set_text(L, "drop", drop_name(d->drop));
    set_text(L, "pace", pace_name(d->pace));
    set_bool(L, "planned", d->planned);
    set_number(L, "attempt", d->attempt);
    set_number(L, "wish_low", (double)d->wish_low_ms);
    set_number(L, "wish_high", (double)d->wish_high_ms);
    set_number(L, "backoff", (double)d->backoff_ms);
    set_ms(L, "delay", d->delay_ms);
    set_bool(L, "clamped", d->clamped);
    set_text(L, "by", by[d->by]);
    set_number(L, "line", d->line);
    set_text(L, "note", d->note);
}

static void push_effect(lua_State *L, const struct effect *f)
{
    lua_newtable(L);
    set_text(L, "kind", effect_name(f->kind));
    set_number(L, "generation", f->generation);
    set_number(L, "conn", (double)handle_pack(f->conn));
    switch (f->kind) {
    case FX_PREPARE: set_bool(L, "needs_start", f->prepare.needs_start); break;
    case FX_BEAT: set_bool(L, "asked", f->beat.asked); break;
    case FX_SEND: set_number(L, "send_id", (double)f->send.send_id); break;
    case FX_REFUSE:
        set_number(L, "send_id", (double)f->refuse.send_id);
        set_text(L, "why", refuse_text(f->refuse.why));
        set_bool(L, "retry", f->refuse.retry);
        break;
    case FX_CLOSE:
        set_number(L, "code", f->close.code);
        set_text(L, "reason", f->close.reason);
        break;
    case FX_ASK_ENDED: set_cause(L, "cause", &f->ask_ended); break;
    case FX_DROP_FETCHED: set_text(L, "name", f->drop_fetched.name); break;
    case FX_STORE:
        set_text(L, "what", f->store.kind == STORE_PERMIT ? "permit"
                            : f->store.kind == STORE_TOLD ? "told" : "return");
        set_number(L, "lane", (double)f->store.lane);
        set_number(L, "boot_ms", (double)f->store.boot_ms);
        set_bool(L, "reserve", f->store.reserve);
        if (f->store.kind == STORE_TOLD) {
            set_number(L, "left", (double)f->store.left);
            set_number(L, "lanes", f->store.lanes);
            set_number(L, "until_wall", (double)f->store.until_wall_ms);
            set_number(L, "until_boot", (double)f->store.until_boot_ms);
        }
        set_text(L, "budget", budget_name(f->store.budget));
        set_number(L, "ticket", (double)f->store.ticket);
        set_number(L, "account", (double)f->store.account);
        set_number(L, "wall", (double)f->store.wall_ms);
        set_bool(L, "no_answer", f->store.no_answer);
        break;
    case FX_GAP:
        set_text(L, "cause", f->gap.cause);
        set_bool(L, "certain", f->gap.certain);
        break;
    case FX_STATE:
        set_text(L, "from", conn_state_name(f->state.from));
        set_text(L, "to", conn_state_name(f->state.to));
        set_cause(L, "cause", &f->state.cause);
        set_ms(L, "next", f->state.next_ms);
        break;
    case FX_JOURNAL:
        push_decision(L, &f->journal);
        lua_setfield(L, -2, "decision");
        break;
    case FX_ALARM: set_text(L, "text", f->alarm.text); break;
    default: break;
    }
}

/* --- the engine */

static struct engine_box *check_engine(lua_State *L)
{
    struct engine_box *box = luaL_checkudata(L, 1, ENGINE_MT);
    luaL_argcheck(L, box->e, 1, "closed");
    return box;
}

static struct handle check_handle(lua_State *L, int arg)
{
    return handle_unpack((uint64_t)luaL_checknumber(L, arg));
}

static const struct plan *get_plan(lua_State *L, int t, struct engine_box *box)
{
    lua_getfield(L, t, "plan");
    struct plan_box *plan = luaL_checkudata(L, -1, PLAN_MT);
    lua_rawgeti(L, LUA_REGISTRYINDEX, box->plans);
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
    lua_pop(L, 2);
    return &plan->p;
}

static int l_new(lua_State *L)
{
    struct engine_options o = { 1, 64, 256, 32 };
    if (lua_istable(L, 1)) {
        o.seed = get_ms(L, 1, "seed", 1);
        o.connections_max = (uint32_t)get_number(L, 1, "connections", 64);
        o.sends_max = (uint32_t)get_number(L, 1, "sends", 256);
        o.sends_per_connection_max = (uint32_t)get_number(L, 1, "sends_each", 32);
    }
    struct engine_box *box = lua_newuserdata(L, sizeof *box);
    memset(box, 0, sizeof *box);
    luaL_getmetatable(L, ENGINE_MT);
    lua_setmetatable(L, -2);
    lua_newtable(L);
    box->plans = luaL_ref(L, LUA_REGISTRYINDEX);
    box->e = engine_create(&o);
    return 1;
}

static int l_close(lua_State *L)
{
    struct engine_box *box = luaL_checkudata(L, 1, ENGINE_MT);
    if (box->e) {
        engine_destroy(box->e);
        luaL_unref(L, LUA_REGISTRYINDEX, box->plans);
    }
    box->e = NULL;
    return 0;
}

static int l_add(lua_State *L)
{
    struct engine_box *box = check_engine(L);
    char name[64] = "bot";
    struct engine_add add = { 0 };
    struct handle h, taken;
    luaL_checktype(L, 2, LUA_TTABLE);
    get_text(L, 2, "name", name, sizeof name);
    add.name = name;
    add.identity = get_ms(L, 2, "identity", hash_text(name) >> 16);
    add.account = get_ms(L, 2, "account", 7);
    add.lane = (int64_t)get_number(L, 2, "lane", 0);
    add.plan = get_plan(L, 2, box);
    add.session_present = get_bool(L, 2, "session", false);
    add.session_saved_wall_ms = get_ms(L, 2, "session_saved", (uint64_t)WALL);
    add.session_begun_wall_ms = get_ms(L, 2, "session_begun", 0);
    add.at = get_clock(L, 2, "at");
    switch (engine_add(box->e, &add, &h, &taken)) {
    case ENGINE_ADDED: lua_pushnumber(L, (double)handle_pack(h)); return 1;
    case ENGINE_IDENTITY_TAKEN:
        lua_pushnil(L);
        lua_pushstring(L, "identity taken");
        lua_pushnumber(L, (double)handle_pack(taken));
        return 3;
    case ENGINE_FULL: break;
    }
    lua_pushnil(L);
    lua_pushstring(L, "full");
    return 2;
}

static void get_pulse(lua_State *L, int t, struct pulse *p)
{
    memset(p, 0, sizeof *p);
    p->last_byte_ms = get_ms(L, t, "last_byte", 0);
    p->last_frame_ms = get_ms(L, t, "last_frame", 0);
    p->last_pong_ms = get_ms(L, t, "last_pong", 0);
}

static int l_step(lua_State *L)
{
    struct engine_box *box = check_engine(L);
    struct event ev;
    memset(&ev, 0, sizeof ev);
    luaL_checktype(L, 2, LUA_TTABLE);
    const int t = 2;
    ev.kind = (enum event_kind)get_enum(L, t, "kind", event_names, -1);
    ev.conn = handle_unpack(get_ms(L, t, "conn", 0));
    ev.generation = (uint32_t)get_number(L, t, "generation", 0);
    ev.at = get_clock(L, t, "at");
    switch (ev.kind) {
    case EV_START_REQUESTED: ev.start.spend_reserve = get_bool(L, t, "spend_reserve", false); break;
    case EV_POLICY_SWAPPED: ev.policy_swapped.plan = get_plan(L, t, box); break;
    case EV_SESSION_CHANGED:
        ev.session_changed.present = get_bool(L, t, "present", false);
        ev.session_changed.saved_wall_ms = get_ms(L, t, "saved", ev.at.wall_ms);
        ev.session_changed.begun_wall_ms = get_ms(L, t, "begun", 0);
        break;
    case EV_BUDGET_TOLD:
        ev.budget_told.budget = (enum budget_kind)get_enum(L, t, "budget", budget_names, 0);
        ev.budget_told.left = (int64_t)get_number(L, t, "left", -1);
        ev.budget_told.reset_ms = get_ms(L, t, "reset", 0);
        ev.budget_told.lanes = (uint32_t)get_number(L, t, "lanes", 0);
        break;
    case EV_CLOCK_JUMPED: ev.clock_jumped.suspended_ms = get_ms(L, t, "suspended", 0); break;
    case EV_LET_GO: ev.let_go.within_ms = get_ms(L, t, "within", 0); break;
    case EV_DEADLINE_PASSED:
        lua_getfield(L, t, "pulses"); /* { [generation] = pulse } */
        if (lua_istable(L, -1)) {
            int i = 0, p = lua_gettop(L);
            for (lua_pushnil(L); lua_next(L, p); lua_pop(L, 1)) {
                if (i == 2) continue;
                ev.deadline.generation[i] = (uint32_t)lua_tonumber(L, -2);
                get_pulse(L, lua_gettop(L), &ev.deadline.pulse[i++]);
            }
        }
        lua_pop(L, 1);
        break;
    case EV_SEND_REQUESTED:
    case EV_SEND_DROPPED:
        ev.send.send_id = get_ms(L, t, "send_id", 1);
        ev.send.by = (enum send_kind)get_enum(L, t, "by", send_kinds, SEND_CONSUMER);
        ev.send.starts_session = get_bool(L, t, "starts", false);
        ev.send.bytes = 10;
        break;
    case EV_STORED:
    case EV_STORE_FAILED: ev.store.ticket = get_ms(L, t, "ticket", 0); break;
    case EV_STAGE_REACHED:
        ev.stage.stage = (enum stage)get_enum(L, t, "stage", stage_names, 0);
        break;
    case EV_BEAT_SET: ev.beat_set.interval_ms = get_ms(L, t, "interval", 0); break;
    case EV_RETIRE_SET: ev.retire_set.after_ms = get_ms(L, t, "after", 0); break;
    case EV_ATTEMPT_FAILED:
    case EV_DIAL_FAILED:
    case EV_LIMIT_CROSSED:
    case EV_PEER_CLOSED:
    case EV_LINK_CLOSED: ev.cause = field_cause(L, t); break;
    case EV_ENDING_ANNOUNCED:
        ev.ending.cause = field_cause(L, t);
        ev.ending.wait_ms = get_ms(L, t, "wait", 0);
        break;
    case EV_DRAINED:
        lua_getfield(L, t, "pulse");
        if (lua_istable(L, -1)) get_pulse(L, lua_gettop(L), &ev.drained.pulse);
        lua_pop(L, 1);
        break;
    case EV_VERDICT_GIVEN:
        ev.verdict.given = get_bool(L, t, "given", true);
        ev.verdict.failed = get_bool(L, t, "failed", false);
        ev.verdict.drop = (enum drop)get_enum(L, t, "drop", drops, DROP_RESUME);
        ev.verdict.pace = (enum pace)get_enum(L, t, "pace", paces, PACE_NORMAL);
        ev.verdict.has_delay = get_span(L, t, "delay", &ev.verdict.delay);
        get_text(L, t, "note", ev.verdict.note, sizeof ev.verdict.note);
        ev.verdict.line = (uint32_t)get_number(L, t, "line", 0);
        break;
    default: break;
    }
    engine_step(box->e, &ev, &box->out);
    lua_createtable(L, (int)box->out.count, 0);
    for (uint32_t i = 0; i < box->out.count; i++) {
        push_effect(L, &box->out.items[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static int l_deadline(lua_State *L)
{
    uint64_t at = engine_deadline_ms(check_engine(L)->e);
    if (at == ENGINE_NEVER) return 0;
    lua_pushnumber(L, (double)at);
    return 1;
}

static int l_due(lua_State *L)
{
    struct handle h = engine_due(check_engine(L)->e, (uint64_t)luaL_checknumber(L, 2));
    if (handle_is_none(h)) return 0;
    lua_pushnumber(L, (double)handle_pack(h));
    return 1;
}

static int l_warm(lua_State *L)
{
    struct handle due[ENGINE_WARM_MAX];
    uint32_t count = engine_warm(check_engine(L)->e, (uint64_t)luaL_checknumber(L, 2), due);
    lua_newtable(L);
    for (uint32_t i = 0; i < count; i++) {
        lua_pushnumber(L, (double)handle_pack(due[i]));
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static int l_view(lua_State *L)
{
    struct engine_view v;
    if (!engine_get(check_engine(L)->e, check_handle(L, 2), &v)) return 0;
    lua_newtable(L);
    set_text(L, "state", conn_state_name(v.state));
    set_number(L, "since", (double)v.since_mono_ms);
    set_ms(L, "deadline", v.deadline_ms);
    set_text(L, "next", v.next);
    set_cause(L, "cause", &v.cause);
    push_decision(L, &v.decision);
    lua_setfield(L, -2, "decision");
    set_number(L, "generation", v.generation);
    lua_newtable(L);
    for (int i = 0; i < 2; i++) {
        if (!v.link_generation[i]) continue;
        lua_newtable(L);
        set_number(L, "generation", v.link_generation[i]);
        set_text(L, "state", link_state_name(v.link_state[i]));
        lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
    }
    lua_setfield(L, -2, "links");
    set_number(L, "failed", v.failed);
    set_number(L, "sends_queued", v.sends_queued);
    set_bool(L, "session_present", v.session_present);
    set_bool(L, "start_permit", v.start_permit);
    set_bool(L, "settled", v.settled);
    set_bool(L, "wanted", v.wanted);
    set_bool(L, "fatal", v.stop_is_fatal);
    set_number(L, "beats_sent", (double)v.beats_sent);
    set_number(L, "beats_answered", (double)v.beats_answered);
    set_number(L, "beat_answered", (double)v.beat_answered_ms);
    set_number(L, "beat_interval", (double)v.beat_interval_ms);
    set_number(L, "round_trip", (double)v.last_round_trip_ms);
    set_number(L, "stale", (double)v.stale_events);
    set_number(L, "attempts", (double)v.attempts_total);
    set_number(L, "readies", (double)v.ready_total);
    set_bool(L, "spend_reserve", v.spend_reserve);
    set_bool(L, "held", v.held);
    if (v.queued) {
        lua_newtable(L);
        set_text(L, "budget", budget_name(v.queued_for));
        set_text(L, "hold", budget_hold_name(v.queue.hold));
        set_number(L, "left", v.queue.left);
        set_number(L, "next", (double)v.queue.next_ms);
        lua_setfield(L, -2, "queue");
    }
    return 1;
}

static int l_budget(lua_State *L)
{
    struct engine_box *box = check_engine(L);
    struct handle h = check_handle(L, 2);
    struct budget_view v;
    lua_newtable(L);
    int t = lua_gettop(L);
    lua_pushvalue(L, 3);
    lua_setfield(L, t, "budget");
    lua_pushvalue(L, 4);
    lua_setfield(L, t, "at");
    enum budget_kind kind = (enum budget_kind)get_enum(L, t, "budget", budget_names, 0);
    if (!engine_budget(box->e, h, kind, get_clock(L, t, "at"), &v)) return 0;
    lua_newtable(L);
    set_number(L, "next", (double)v.next_ms);
    set_number(L, "left", v.left);
    set_number(L, "used", v.used);
    set_text(L, "hold", budget_hold_name(v.hold));
    set_number(L, "window", (double)v.window_ms);
    set_number(L, "window_count", v.window_count);
    set_number(L, "reserve_left", v.reserve_left);
    set_number(L, "reserve_next", (double)v.reserve_next_ms);
    return 1;
}

static int l_bound(lua_State *L)
{
    struct engine_box *box = check_engine(L);
    struct handle h = check_handle(L, 2);
    lua_newtable(L);
    lua_pushvalue(L, 3);
    lua_setfield(L, -2, "at");
    uint64_t ms = engine_recovery_bound_ms(box->e, h, get_clock(L, lua_gettop(L), "at"));
    if (ms == ENGINE_NEVER) return 0;
    lua_pushnumber(L, (double)ms);
    return 1;
}

/* How many accounts are remembered. */
static int l_accounts(lua_State *L)
{
    lua_pushnumber(L, check_engine(L)->e->account_count);
    return 1;
}

/* call(conn, at) -> whether the account may call now, and otherwise how long it waits. */
static int l_call(lua_State *L)
{
    struct engine_box *box = check_engine(L);
    struct handle h = check_handle(L, 2);
    uint64_t wait_ms;
    lua_newtable(L);
    lua_pushvalue(L, 3);
    lua_setfield(L, -2, "at");
    lua_pushboolean(L, engine_call(box->e, h, get_clock(L, lua_gettop(L), "at"), &wait_ms));
    lua_pushnumber(L, (double)wait_ms);
    return 2;
}

/* restore { account =, budget =, lane =, same_boot =, wall =, boot =, at = } */
static int l_restore(lua_State *L)
{
    struct engine_box *box = check_engine(L);
    bool ok = engine_restore_permit(box->e, get_ms(L, 2, "account", 7),
                                    (enum budget_kind)get_enum(L, 2, "budget", budget_names, 0),
                                    (int64_t)get_number(L, 2, "lane", 0),
                                    get_bool(L, 2, "same_boot", false), get_ms(L, 2, "wall", 0),
                                    get_ms(L, 2, "boot", 0), get_clock(L, 2, "at"));
    lua_pushboolean(L, ok);
    return 1;
}

/* restore_told { account =, budget =, left =, lanes =, same_boot =, until_wall =, until_boot =, at = } */
static int l_restore_told(lua_State *L)
{
    struct engine_box *box = check_engine(L);
    bool ok = engine_restore_told(box->e, get_ms(L, 2, "account", 7),
                                  (enum budget_kind)get_enum(L, 2, "budget", budget_names, 0),
                                  (int64_t)get_number(L, 2, "left", -1),
                                  (uint32_t)get_number(L, 2, "lanes", 0),
                                  get_bool(L, 2, "same_boot", false), get_ms(L, 2, "until_wall", 0),
                                  get_ms(L, 2, "until_boot", 0), get_clock(L, 2, "at"));
    lua_pushboolean(L, ok);
    return 1;
}

static int l_plant(lua_State *L)
{
    static const char *const names[] = { "none", "I1", "I2", "I3", "I4",
                                         "I5",   "I6", "I7", "I8", NULL };
    struct engine_box *box = check_engine(L);
    engine_plant(box->e, (enum engine_plant)luaL_checkoption(L, 2, "none", names));
    return 0;
}

/* --- parts of it */

static int l_matches(lua_State *L)
{
    struct plan p;
    memset(&p, 0, sizeof p);
    p.classify_count = 1;
    p.classify = calloc(1, sizeof *p.classify);
    get_matcher(L, 1, &p.classify[0].match);
    struct cause c = get_cause(L, 2);
    lua_pushboolean(L, cause_matches(&p.classify[0].match, &c));
    plan_deinit(&p);
    return 1;
}

static int l_backoff(lua_State *L)
{
    struct plan_box *box = luaL_checkudata(L, 1, PLAN_MT);
    uint32_t failed = (uint32_t)luaL_checknumber(L, 2);
    lua_pushnumber(L, (double)backoff_bound_ms(&box->p, failed));
    lua_pushnumber(L, (double)backoff_jittered_ms(&box->p, failed,
                                                  rng_mix((uint64_t)luaL_optnumber(L, 3, 0))));
    return 2;
}

static int l_slow(lua_State *L)
{
    struct plan_box *box = luaL_checkudata(L, 1, PLAN_MT);
    struct span_ms span = { (uint64_t)luaL_optnumber(L, 4, 0), (uint64_t)luaL_optnumber(L, 5, 0) };
    lua_pushnumber(L, (double)backoff_slow_ms(&box->p, span.high ? &span : NULL,
                                              (uint32_t)luaL_checknumber(L, 2),
                                              rng_mix((uint64_t)luaL_checknumber(L, 3))));
    return 1;
}

/* pause(plan, cause, seed) -> ms, or nothing where it stops. */
static int l_pause(lua_State *L)
{
    struct plan_box *box = luaL_checkudata(L, 1, PLAN_MT);
    const struct cause c = get_cause(L, 2);
    const uint64_t ms = engine_pause_ms(&box->p, &c, rng_mix((uint64_t)luaL_optnumber(L, 3, 0)));
    if (ms == ENGINE_NEVER) return 0;
    lua_pushnumber(L, (double)ms);
    return 1;
}

static int l_conn_legal(lua_State *L)
{
    int from = luaL_checkoption(L, 1, NULL, conn_states);
    int to = luaL_checkoption(L, 2, NULL, conn_states);
    lua_pushboolean(L, conn_move_is_legal((enum conn_state)from, (enum conn_state)to));
    return 1;
}

static int l_link_legal(lua_State *L)
{
    int from = luaL_checkoption(L, 1, NULL, link_states);
    int to = luaL_checkoption(L, 2, NULL, link_states);
    lua_pushboolean(L, link_move_is_legal((enum link_state)from, (enum link_state)to));
    return 1;
}

static int l_mark_hits(lua_State *L)
{
    lua_pushnumber(L, (double)mark_hits(luaL_checkstring(L, 1)));
    return 1;
}

static int l_names(lua_State *L)
{
    lua_newtable(L);
    for (int i = 0; event_names[i]; i++) {
        if (strcmp(event_name((enum event_kind)i), event_names[i]) != 0) return 0;
        lua_pushstring(L, event_names[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_newtable(L);
    for (int i = 0; i < STAGE_COUNT; i++) {
        enum stage parsed;
        lua_pushboolean(L, stage_parse(stage_names[i], &parsed) && (int)parsed == i);
        lua_setfield(L, -2, stage_name((enum stage)i));
    }
    lua_newtable(L);
    for (int i = 0; i < CAUSE_KIND_COUNT; i++) {
        lua_pushstring(L, cause_kind_name((enum cause_kind)i));
        lua_rawseti(L, -2, i + 1);
    }
    return 3;
}

static int l_make_cause(lua_State *L)
{
    struct cause c = cause_make(STAGE_GREETING, CAUSE_CLOSED, BY_PEER, luaL_optstring(L, 1, NULL));
    if (lua_isstring(L, 2)) cause_rename(&c, lua_tostring(L, 2));
    lua_newtable(L);
    set_cause(L, "cause", &c);
    lua_getfield(L, -1, "cause");
    return 1;
}

static const luaL_Reg engine_methods[] = {
    { "add", l_add },         { "step", l_step },     { "deadline", l_deadline },
    { "due", l_due },         { "warm", l_warm },     { "view", l_view },     { "budget", l_budget },
    { "bound", l_bound },     { "restore", l_restore },
    { "call", l_call },       { "accounts", l_accounts },
    { "restore_told", l_restore_told }, { "plant", l_plant },
    { "close", l_close },     { NULL, NULL },
};

static const luaL_Reg functions[] = {
    { "new", l_new },
    { "plan", l_plan },
    { "matches", l_matches },
    { "backoff", l_backoff },
    { "slow", l_slow },
    { "pause", l_pause },
    { "conn_legal", l_conn_legal },
    { "link_legal", l_link_legal },
    { "mark_hits", l_mark_hits },
    { "names", l_names },
    { "make_cause", l_make_cause },
    { NULL, NULL },
};

int luaopen_unit_engine(lua_State *L);
int luaopen_unit_engine(lua_State *L)
{
    luaL_newmetatable(L, PLAN_MT);
    lua_pushcfunction(L, l_plan_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newmetatable(L, ENGINE_MT);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_close);
    lua_setfield(L, -2, "__gc");
    luaL_register(L, NULL, engine_methods);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
