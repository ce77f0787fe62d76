/* modules: policy bind engine frame crypto base */
/* What a policy file means, asked of the plan that the engine gets: open(path, settings text) -> a plan, with
 * (a setting "secret:TEXT" is a secret)
 *   plan:decide{ stage =, kind =, name =, close =, http =, code =, age =, session =, retry_after =, reason =, head = }
 *     -> words of the verdict, "fresh 1s to 5s uncounted", and the climbs that count such an ending
 *   plan:numbers() -> the plan's numbers, durations as text
 *   plan:backlog() -> { most, age, hold_for, full }
 *   plan:keeps(other) -> does a stored session of one serve the other, are they one identity, one account */
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "engine/engine_internal.h"
#include "policy/policy.h"
#include "policy/sandbox.h"

#define PLAN_MT "unit.policy_plan"
#define EXACT_MAX 32

/* Nothing rounded: in the largest unit of which it is a whole number. */
static const char *exact(uint64_t ms, char out[EXACT_MAX])
{
    static const struct { const char *name; uint64_t ms; } units[] = { { "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 } };
    for (int i = 0; i < 4 && ms; i++) {
        if (ms % units[i].ms) continue;
        snprintf(out, EXACT_MAX, "%llu%s", (unsigned long long)(ms / units[i].ms), units[i].name);
        return out;
    }
    snprintf(out, EXACT_MAX, ms ? "%llums" : "0s", (unsigned long long)ms);
    return out;
}

static bool settings_read(const char *text, struct value *out)
{
    char error[256];
    struct sandbox_options options = { .name = "settings", .lua_path = "lua" };
    struct sandbox *s = sandbox_create(&options);
    bool ok = sandbox_run(s, text, strlen(text), "settings", error, sizeof error) == CALL_OK &&
              sandbox_to_value(sandbox_lua(s), -1, out, error, sizeof error);
    sandbox_destroy(s);
    return ok;
}

/* A text that begins with "secret:" is one. */
static void make_secrets(struct value *settings)
{
    for (uint32_t i = 0; settings->kind == VALUE_TABLE && i < settings->table->count; i++) {
        const char *key = value_text(&settings->table->pairs[i].key), *text = value_text(&settings->table->pairs[i].value);
        if (!key || !text || strncmp(text, "secret:", 7) != 0) continue;
        struct secret *secret = secret_create(key, text + 7, strlen(text + 7));
        value_clear(&settings->table->pairs[i].value);
        settings->table->pairs[i].value = value_secret(secret);
        secret_unref(secret);
    }
}

static int l_open(lua_State *L)
{
    struct policy_load load = { .name = "x", .path = luaL_checkstring(L, 1), .lua_path = "lua", .version = 1 };
    struct value settings = value_nil();
    struct problems problems;
    char text[1024] = "?";
    if (!settings_read(luaL_checkstring(L, 2), &settings)) return luaL_error(L, "settings");
    make_secrets(&settings);
    problems_init(&problems);
    struct policy_version *v = policy_load(&load, &problems);
    struct policy_build *b = v ? policy_build_create(v, &settings, "holdfast.lua", &problems) : NULL;
    policy_unref(v); /* the build holds its own */
    value_clear(&settings);
    if (!b && problems.count) problem_format(&problems.items[0], text, sizeof text);
    problems_deinit(&problems);
    if (!b) return luaL_error(L, "%s", text);
    *(struct policy_build **)lua_newuserdata(L, sizeof(struct policy_build *)) = b;
    luaL_getmetatable(L, PLAN_MT);
    lua_setmetatable(L, -2);
    return 1;
}

static struct policy_build *check(lua_State *L, int index)
{
    return *(struct policy_build **)luaL_checkudata(L, index, PLAN_MT);
}

static int l_gc(lua_State *L)
{
    policy_build_destroy(check(L, 1));
    return 0;
}

/* ---- endings --------------------------------------------------------------------------------------------- */

static double number(lua_State *L, const char *key, double otherwise)
{
    lua_getfield(L, 2, key);
    double n = lua_isnumber(L, -1) ? lua_tonumber(L, -1) : otherwise;
    lua_pop(L, 1);
    return n;
}

static const char *word(lua_State *L, const char *key, const char *otherwise)
{
    lua_getfield(L, 2, key);
    const char *text = lua_isstring(L, -1) ? lua_tostring(L, -1) : otherwise;
    lua_pop(L, 1); /* the table keeps it */
    return text;
}

static struct cause cause_of(lua_State *L)
{
    enum stage stage = STAGE_READY;
    enum cause_kind kind = CAUSE_NONE;
    const char *name = word(L, "kind", "failed");
    if (!stage_parse(word(L, "stage", "ready"), &stage)) luaL_error(L, "stage");
    for (int i = 1; i < CAUSE_KIND_COUNT; i++) {
        if (strcmp(cause_kind_name((enum cause_kind)i), name) == 0) kind = (enum cause_kind)i;
    }
    if (kind == CAUSE_NONE) luaL_error(L, "no such kind: %s", name);
    struct cause c = cause_make(stage, kind, BY_PEER, word(L, "reason", NULL));
    if (word(L, "name", NULL)) cause_rename(&c, word(L, "name", NULL));
    c.close_code = (int32_t)number(L, "close", CLOSE_CODE_NONE);
    c.http_status = (int32_t)number(L, "http", 0);
    c.code = (int64_t)number(L, "code", 0);
    c.age_ms = (uint64_t)number(L, "age", 0);
    c.head = word(L, "head", NULL);
    c.head_len = c.head ? strlen(c.head) : 0;
    lua_getfield(L, 2, "session");
    c.session = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return c;
}

static void say_span(struct buffer *out, const char *before, struct span_ms span)
{
    char low[EXACT_MAX], high[EXACT_MAX], text[2 * EXACT_MAX + 8];
    exact(span.low, low);
    exact(span.high, high);
    snprintf(text, sizeof text, span.low == span.high ? "%s" : "%s to %s", low, high);
    buffer_append_text(out, before);
    buffer_append_text(out, text);
}

static int l_decide(lua_State *L)
{
    const struct plan *p = check(L, 1)->plan;
    luaL_checktype(L, 2, LUA_TTABLE);
    struct cause c = cause_of(L);
    const struct verdict v = verdict_classify(p, &c);
    struct buffer out;
    buffer_init(&out, 0);
    buffer_append_text(&out, v.pace == PACE_STOP ? "stop" : v.drop == DROP_RESUME && v.pace == PACE_SLOW ? "slow" : drop_name(v.drop));
    if (v.pace == PACE_SLOW && v.drop != DROP_RESUME) buffer_append_text(&out, " slow");
    if (v.pace == PACE_STOP && v.drop != DROP_RESUME) buffer_append_text(&out, " and drops");
    if (v.has_pace_span) say_span(&out, ", ladder ", v.pace_span);
    if (v.has_delay) say_span(&out, ", after ", v.delay);
    if (v.from_retry_after) buffer_append_text(&out, ", after what it says");
    if (v.from_retry_after && v.has_otherwise) say_span(&out, " or ", v.otherwise);
    if (v.drop_fetch[0]) {
        buffer_append_text(&out, ", without ");
        buffer_append_text(&out, v.drop_fetch);
    }
    if (!v.counts) buffer_append_text(&out, ", uncounted");
    if (v.planned) buffer_append_text(&out, ", planned");
    if (strcmp(c.name, word(L, "name", cause_kind_name(c.kind))) != 0) {
        buffer_append_text(&out, ", as ");
        buffer_append_text(&out, c.name);
    }
    if (v.by == DECIDED_BY_RULE && v.note[0]) buffer_append_text(&out, ", with a note");
    for (uint32_t i = 0; i < p->climb_count; i++) {
        const struct climb_rule *r = &p->climb[i];
        bool matched = false;
        for (uint32_t k = 0; k < r->on_count && !matched; k++) matched = cause_matches(&r->on[k], &c);
        if (!matched) continue;
        char text[160], within[EXACT_MAX];
        snprintf(text, sizeof text, "; %u times%s%s: %s%s", r->times, r->within_ms ? " in " : "",
                 r->within_ms ? exact(r->within_ms, within) : "",
                 r->pace == PACE_NORMAL ? drop_name(r->to) : pace_name(r->pace),
                 r->pace != PACE_NORMAL && r->to != DROP_RESUME ? " and drops" : "");
        buffer_append_text(&out, text);
        if (r->has_pace_span) say_span(&out, ", ladder ", r->pace_span);
        if (r->note[0]) buffer_append_text(&out, ", told");
    }
    lua_pushlstring(L, (const char *)out.data, out.len);
    buffer_deinit(&out);
    return 1;
}

/* ---- numbers --------------------------------------------------------------------------------------------- */

static void say(lua_State *L, const char *key, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static void say_ms(lua_State *L, const char *key, uint64_t ms)
{
    char text[EXACT_MAX];
    if (ms) say(L, key, exact(ms, text));
}

static void say_number(lua_State *L, const char *key, double n)
{
    lua_pushnumber(L, n);
    lua_setfield(L, -2, key);
}

static const char *ladder(char out[96], uint64_t first, double factor, uint64_t most)
{
    char a[EXACT_MAX], b[EXACT_MAX];
    snprintf(out, 96, "%s * %g to %s", exact(first, a), factor, exact(most, b));
    return out;
}

static void say_budgets(lua_State *L, const struct plan *p)
{
    char text[256], span[EXACT_MAX];
    for (int k = 0; k < BUDGET_COUNT; k++) {
        const struct budget_plan *b = &p->budgets[k];
        if (!b->on) continue;
        int n = 0;
        for (uint32_t i = 0; i < b->window_count; i++) {
            n += snprintf(text + n, sizeof text - (size_t)n, "%s%u in %s", i ? ", " : "", b->windows[i].count,
                          exact(b->windows[i].ms, span));
        }
        if (b->gap_ms) n += snprintf(text + n, sizeof text - (size_t)n, ", %s apart", exact(b->gap_ms, span));
        if (b->operators > 0) n += snprintf(text + n, sizeof text - (size_t)n, ", %g for people", b->operators);
        if (b->beats) n += snprintf(text + n, sizeof text - (size_t)n, ", %u for beats", b->beats);
        say(L, budget_name((enum budget_kind)k), text);
    }
}

static int l_numbers(lua_State *L)
{
    static const char *const jitters[] = { "none", "full", "equal" };
    static const char *const firsts[] = { "spread", "at_once", "after" };
    static const char *const replays[] = { "session", "unacked", "none" };
    const struct policy_build *b = check(L, 1);
    const struct plan *p = b->plan;
    char text[96];
    lua_newtable(L);
    say_ms(L, "prepare", p->limits_ms.prepare), say_ms(L, "call", p->limits_ms.call);
    say_ms(L, "resolve", p->limits_ms.resolve), say_ms(L, "connect", p->limits_ms.connect);
    say_ms(L, "secure", p->limits_ms.secure), say_ms(L, "upgrade", p->limits_ms.upgrade);
    say_ms(L, "greeting", p->limits_ms.greeting), say_ms(L, "close", p->limits_ms.close);
    say_ms(L, "drain", p->limits_ms.drain);
    say_ms(L, "ping", p->ping_ms), say_ms(L, "silence", p->silence_ms);
    if (p->promised) say(L, "promised", "true");
    if (p->beat.on) {
        say_ms(L, "beat", p->beat.every_ms), say_ms(L, "beat_least", p->beat.least_ms);
        say_ms(L, "beat_most", p->beat.most_ms), say_ms(L, "beat_within", p->beat.within_ms);
        say(L, "beat_first", firsts[p->beat.first]);
        if (p->beat.answered) say_number(L, "beat_dead", p->beat.dead);
    }
    say(L, "backoff", ladder(text, p->backoff.first_ms, p->backoff.factor, p->backoff.most_ms));
    say_ms(L, "floor", p->backoff.floor_ms), say_ms(L, "settle", p->backoff.settle_ms);
    say(L, "jitter", jitters[p->backoff.jitter]);
    say(L, "slow", ladder(text, p->slow.first_ms, p->slow.factor, p->slow.most_ms));
    say_budgets(L, p);
    if (p->session.on) {
        say_ms(L, "session_age", p->session.age_ms), say_ms(L, "session_life", p->session.life_ms);
    }
    say(L, "replay", replays[p->session.replay]);
    say_ms(L, "replay_for", p->session.replay_for_ms);
    if (p->overlap) say_number(L, "overlap", p->overlap);
    say_ms(L, "retire", p->retire_after_ms);
    if (p->retire_after_ms) say_number(L, "retire_jitter", p->retire_jitter);
    say_number(L, "close_keep", p->close_keep), say_number(L, "close_final", p->close_final);
    say_number(L, "message_bytes", (double)b->rules->message_bytes_max);
    say_number(L, "send_bytes", (double)b->rules->send_bytes_max);
    if (b->rules->dedupe.on) {
        say_ms(L, "dedupe", b->rules->dedupe.over_ms);
        say_number(L, "dedupe_most", b->rules->dedupe.most);
    }
    if (b->rules->join.on) {
        say_ms(L, "join", b->rules->join.within_ms);
        say_number(L, "join_parts", b->rules->join.parts), say_number(L, "join_bytes", (double)b->rules->join.bytes);
    }
    for (uint32_t i = 0; i < b->rules->ack_count; i++) {
        snprintf(text, sizeof text, "ack_%u", i + 1);
        say_ms(L, text, b->rules->acks[i].within_ms);
    }
    for (uint32_t i = 0; i < b->rules->ends_count; i++) {
        snprintf(text, sizeof text, "ends_%s", b->rules->ends[i].cause);
        say_ms(L, text, b->rules->ends[i].after_ms);
    }
    for (uint32_t i = 0; i < b->fetch_count; i++) {
        const struct fetch_rule *f = &b->fetch[i];
        char span[EXACT_MAX], what[256];
        int n = snprintf(what, sizeof what, f->keep_ms ? "kept %s" : "kept for one attempt", exact(f->keep_ms, span));
        if (f->gap_ms) n += snprintf(what + n, sizeof what - (size_t)n, ", %s apart", exact(f->gap_ms, span));
        if (f->pause_ms) n += snprintf(what + n, sizeof what - (size_t)n, ", %s after a failure", exact(f->pause_ms, span));
        if (f->renew.high) {
            n += snprintf(what + n, sizeof what - (size_t)n, ", renewed %s", exact(f->renew.low, span));
            n += snprintf(what + n, sizeof what - (size_t)n, " to %s before its end", exact(f->renew.high, span));
        }
        if (f->stale) snprintf(what + n, sizeof what - (size_t)n, ", an old one serves");
        snprintf(text, sizeof text, "fetch_%s", f->name);
        say(L, text, what);
    }
    for (uint32_t i = 0; i < b->every_count; i++) {
        snprintf(text, sizeof text, "every_%s", b->every[i].name);
        say_ms(L, text, b->every[i].every.high);
    }
    return 1;
}

static int l_backlog(lua_State *L)
{
    const struct plan *p = check(L, 1)->plan;
    lua_newtable(L);
    say_number(L, "most", (double)p->backlog.bytes_max);
    say_ms(L, "age", p->backlog.age_ms), say_ms(L, "hold_for", p->backlog.hold_ms);
    say(L, "full", p->backlog.full == BACKLOG_HOLD ? "hold" : "drop_oldest");
    return 1;
}

static int l_keeps(lua_State *L)
{
    const struct policy_build *a = check(L, 1), *b = check(L, 2);
    lua_pushboolean(L, a->session_of == b->session_of);
    lua_pushboolean(L, a->identity == b->identity);
    lua_pushboolean(L, a->account == b->account);
    lua_pushboolean(L, a->lane == b->lane);
    return 4;
}

static const luaL_Reg functions[] = { { "open", l_open }, { NULL, NULL } };
static const luaL_Reg methods[] = { { "decide", l_decide }, { "numbers", l_numbers }, { "backlog", l_backlog }, { "keeps", l_keeps }, { NULL, NULL } };

int luaopen_unit_policy_plan(lua_State *L);
int luaopen_unit_policy_plan(lua_State *L)
{
    luaL_newmetatable(L, PLAN_MT);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
