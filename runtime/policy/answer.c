/* Answers of hooks: their shape is checked here, so that dispatch gets what policy.h promises or
 * CALL_BAD_ANSWER. Runs no Lua code; owns nothing. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/duration.h"
#include "base/text.h"
#include "bind/bind.h"
#include "policy/call_internal.h"
#include "policy/sandbox_internal.h"

static bool read_prepare(lua_State *L, struct policy_task *t);
static bool read_fetch(lua_State *L, struct policy_task *t);
static bool read_ended(lua_State *L, struct policy_task *t);
static bool read_frame(lua_State *L, struct policy_task *t);

static bool bad(struct policy_task *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

bool answer__read(lua_State *L, struct policy_task *t)
{
    if (t->context.ended) return true;
    switch (t->context.hook) {
    case HOOK_PREPARE: return read_prepare(L, t);
    case HOOK_FETCH: return read_fetch(L, t);
    case HOOK_ON_ENDED: return read_ended(L, t);
    case HOOK_ON_BEAT:
    case HOOK_ON_ACK: return read_frame(L, t);
    case HOOK_GREET:
    case HOOK_ON_FRAME:
    case HOOK_EVERY: break; /* what they return means nothing */
    }
    return true;
}

static bool bad(struct policy_task *t, const char *format, ...)
{
    char text[320];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(t->answer->error, sizeof t->answer->error, "%s:%u: %s%s%s answered %s",
             policy_path(t->version), t->line, hook_name(t->context.hook),
             t->context.name[0] ? "." : "", t->context.name, text);
    return false;
}

static bool is_text(const struct value *v)
{
    return v->kind == VALUE_STRING || v->kind == VALUE_SECRET;
}

static bool known_keys(struct policy_task *t, const struct value *table, const char *const *known,
                       size_t count)
{
    for (uint32_t i = 0; i < table->table->count; i++) {
        const char *key = value_text(&table->table->pairs[i].key);
        bool found = false;
        for (size_t k = 0; key && k < count; k++) found = found || strcmp(key, known[k]) == 0;
        if (found) continue;
        const char *nearest = key ? text_nearest(key, known, count) : NULL;
        return bad(t, "the unknown key `%.64s`%s%s%s", key ? key : "(a number)",
                   nearest ? "; did you mean `" : "", nearest ? nearest : "", nearest ? "`?" : "");
    }
    return true;
}

static bool kind_is(struct policy_task *t, const struct value *table, const char *key,
                    enum value_kind kind, const char *expected)
{
    const struct value *v = value_get(table, key);
    if (!v || v->kind == kind) return true;
    return bad(t, "`%s` that is not %s", key, expected);
}

static bool has_control(const struct value *v)
{
    size_t len = v->kind == VALUE_STRING ? v->string.len : 0;
    const char *text = v->kind == VALUE_STRING ? v->string.bytes : secret_bytes(v->secret, &len);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) return true;
    }
    return false;
}

static bool good_url(const struct value *v)
{
    size_t len = 0;
    if (!is_text(v)) return false;
    const char *text = v->kind == VALUE_STRING ? v->string.bytes : secret_bytes(v->secret, &len);
    if (v->kind == VALUE_STRING) len = v->string.len;
    return len > 0 && len <= 8192 && !has_control(v) && !memchr(text, ' ', len);
}

static bool read_prepare(lua_State *L, struct policy_task *t)
{
    static const char *const known[] = { "url", "inflate", "headers", "protocol", "plain" };
    char error[128];
    struct value *out = &t->answer->value;
    if (!lua_istable(L, 1))
        return bad(t, "a %s, not a table with `url`", lua_typename(L, lua_type(L, 1)));
    if (!sandbox_to_value(L, 1, out, error, sizeof error)) return bad(t, "%s", error);
    if (!known_keys(t, out, known, sizeof known / sizeof *known)) return false;
    const struct value *url = value_get(out, "url");
    if (!url) return bad(t, "no `url`");
    if (!good_url(url))
        return bad(t, "`url` that is no address (text without spaces, at most 8 KiB)");
    if (!kind_is(t, out, "inflate", VALUE_STRING, "text") ||
        !kind_is(t, out, "protocol", VALUE_STRING, "text") ||
        !kind_is(t, out, "plain", VALUE_BOOL, "true or false") ||
        !kind_is(t, out, "headers", VALUE_TABLE, "a table")) {
        return false;
    }
    const struct value *headers = value_get(out, "headers");
    for (uint32_t i = 0; headers && i < headers->table->count; i++) {
        const struct value_pair *p = &headers->table->pairs[i];
        const char *name = value_text(&p->key);
        if (!name || !bind_header_name_ok(name, p->key.string.len)) {
            return bad(t, "a header name that is none");
        }
        if (!is_text(&p->value) || has_control(&p->value)) {
            return bad(t, "header `%.64s` that is not one line of text", name);
        }
    }
    return true;
}

/* A duration as policies write them; to ms in place. */
static bool read_duration(struct policy_task *t, struct value *v, const char *key, bool clamp)
{
    double ms = -1;
    uint64_t parsed;
    if (v->kind == VALUE_NUMBER) {
        ms = v->number;
    } else if (v->kind == VALUE_STRING && duration_parse(v->string.bytes, v->string.len, &parsed)) {
        ms = (double)parsed;
    }
    if (clamp && ms > (double)DURATION_MS_MAX) ms = (double)DURATION_MS_MAX;
    if (!(ms >= 0 && ms <= (double)DURATION_MS_MAX)) {
        return bad(t, "`%s` that is no duration such as \"5s\"", key);
    }
    value_clear(v);
    *v = value_number(floor(ms));
    return true;
}

static bool read_fetch(lua_State *L, struct policy_task *t)
{
    static const char *const known[] = { "left", "reset", "lanes", "keep" };
    char error[128];
    struct value *value = &t->answer->value, *info = &t->answer->info;
    if (!sandbox_to_value(L, 1, value, error, sizeof error)) return bad(t, "%s", error);
    if (!is_text(value) && value->kind != VALUE_TABLE) {
        return bad(t, "a %s, not text, a secret or a table", lua_typename(L, lua_type(L, 1)));
    }
    if (value->kind == VALUE_STRING && value->string.len == 0) return bad(t, "empty text");
    if (lua_isnil(L, 2)) return true;
    if (!lua_istable(L, 2)) return bad(t, "a second value that is no table");
    if (!sandbox_to_value(L, 2, info, error, sizeof error)) return bad(t, "%s", error);
    if (!known_keys(t, info, known, sizeof known / sizeof *known)) return false;
    struct value *keep = value_get(info, "keep"), *reset = value_get(info, "reset");
    if (keep && !read_duration(t, keep, "keep", true)) return false;
    if (reset && !read_duration(t, reset, "reset", true)) return false;
    for (int i = 0; i < 2; i++) {
        const char *key = i ? "lanes" : "left";
        const struct value *v = value_get(info, key);
        if (v && (v->kind != VALUE_NUMBER || !(v->number >= 0 && v->number <= 1e9))) {
            return bad(t, "`%s` that is no count", key);
        }
    }
    return true;
}

static bool is_verdict(const char *word)
{
    static const char *const words[] = { "resume", "fresh", "renew", "slow", "stop" };
    for (size_t i = 0; word && i < sizeof words / sizeof *words; i++) {
        if (strcmp(word, words[i]) == 0) return true;
    }
    return false;
}

static bool read_delay(struct policy_task *t, struct value *table)
{
    struct value *delay = value_get(table, "delay");
    if (!delay) return true;
    struct value low, high;
    if (delay->kind == VALUE_TABLE) {
        if (value_length(delay) != 2 || delay->table->count != 2) {
            return bad(t, "`delay` that is neither a duration nor a pair");
        }
        low = value_copy(value_at(delay, 1));
        high = value_copy(value_at(delay, 2));
    } else {
        low = value_copy(delay);
        high = value_copy(delay);
    }
    bool ok = read_duration(t, &low, "delay", false) && read_duration(t, &high, "delay", false);
    if (ok && low.number > high.number) ok = bad(t, "`delay` whose pair runs backwards");
    if (ok) {
        value_clear(delay);
        *delay = value_table();
        value_append(delay, low);
        value_append(delay, high);
        return true;
    }
    value_clear(&low);
    value_clear(&high);
    return false;
}

/* Always a table afterwards: { verdict =, delay = { low_ms, high_ms }, note = }, or nil. */
static bool read_ended(lua_State *L, struct policy_task *t)
{
    static const char *const known[] = { "verdict", "delay", "note" };
    char error[128];
    struct value *out = &t->answer->value;
    if (lua_isnil(L, 1)) return true;
    if (!sandbox_to_value(L, 1, out, error, sizeof error)) return bad(t, "%s", error);
    if (out->kind == VALUE_STRING) {
        struct value word = *out;
        *out = value_table();
        value_set(out, "verdict", word);
    }
    if (out->kind != VALUE_TABLE) {
        return bad(t, "a %s, not a verdict", lua_typename(L, lua_type(L, 1)));
    }
    if (!known_keys(t, out, known, sizeof known / sizeof *known)) return false;
    const struct value *verdict = value_get(out, "verdict");
    if (verdict && !is_verdict(value_text(verdict))) {
        return bad(t, "a verdict that is none of resume, fresh, renew, slow, stop");
    }
    if (!kind_is(t, out, "note", VALUE_STRING, "text")) return false;
    return read_delay(t, out);
}

static bool read_frame(lua_State *L, struct policy_task *t)
{
    char error[160];
    if (lua_isnil(L, 1)) return true;
    if (bind_encode_frame(L, 1, &t->context, &t->answer->frame, &t->answer->frame_text, error,
                          sizeof error)) {
        return true;
    }
    return bad(t, "%s", error);
}
