/* Schema: the pass over one policy. Knows how to read each kind of value and how to say what is
 * wrong with it; what the keys are stands in schema_tables.c. No Lua, no files, no clock. */
#include "policy/schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "policy/schema_internal.h"

static void report(struct schema *s, bool warning, const char *path, uint32_t line,
                   const char *format, va_list args);
static void one(struct schema *s, const struct key *k, const struct value *v, void *base);
static void unknown_keys(struct schema *s, const struct key *keys, const struct value *table);
static void integer_store(void *to, size_t width, int64_t n);
static void text_store(struct schema *s, const struct key *k, const struct value *v, char *to);
static bool compile(struct schema *s, uint32_t version);
static void tables(struct schema *s);

bool schema_check(const struct value *policy, const char *file, struct problems *problems)
{
    struct policy_build scratch = { 0 };
    struct schema s = {
        .policy = policy,
        .policy_file = file,
        .settings_file = file,
        .out = &scratch,
        .problems = problems,
    };
    bool ok = compile(&s, 0);
    schema_build_deinit(&scratch);
    return ok;
}

bool schema_check_settings(const struct value *policy, const struct value *settings,
                           const char *file, struct problems *problems)
{
    struct policy_build scratch = { 0 };
    struct schema s = {
        .policy = policy,
        .settings = settings,
        .policy_file = "the policy",
        .settings_file = file,
        .out = &scratch,
        .problems = problems,
    };
    bool ok = compile(&s, 0);
    schema_build_deinit(&scratch);
    return ok;
}

bool schema_build(const struct value *policy, const char *policy_file, const struct value *settings,
                  const char *settings_file, uint32_t version, struct policy_shape **shared,
                  struct policy_build *out, struct problems *problems)
{
    *out = (struct policy_build){ .version = out->version };
    struct schema s = {
        .policy = policy,
        .settings = settings,
        .policy_file = policy_file,
        .settings_file = settings_file,
        .shared = shared,
        .out = out,
        .problems = problems,
    };
    bool ok = compile(&s, version);
    if (!ok) schema_build_deinit(out);
    return ok;
}

void schema_build_deinit(struct policy_build *b)
{
    shape__unref(b->shape);
    value_clear(&b->options);
    free(b->hosts);
    *b = (struct policy_build){ .version = b->version };
}

static const char *type_of(const struct key *k, char *out, size_t out_bytes)
{
    static const char *const plain[] = {
        [KEY_BOOL] = "boolean", [KEY_INTEGER] = "integer", [KEY_NUMBER] = "number", [KEY_DURATION] = "duration",
        [KEY_SPAN] = "span", [KEY_SIZE] = "size", [KEY_TEXT] = "string", [KEY_NAME] = "string",
        [KEY_FUNCTION] = "function", [KEY_TABLE] = "table", [KEY_CUSTOM] = "custom",
    };
    size_t len = 0;
    out[0] = 0;
    for (uint32_t i = 0; k->words && k->words[i] && len < out_bytes; i++) {
        len += (size_t)snprintf(out + len, out_bytes - len, "%s\"%s\"", i ? "|" : "", k->words[i]);
    }
    if (!k->words) snprintf(out, out_bytes, "%s%s", plain[k->type], k->flags & KEY_OFF ? "|false" : "");
    return out;
}

static void each_key(const struct key *keys, const char *above,
                     void (*visit)(void *, const struct schema_key *), void *context)
{
    for (const struct key *k = keys; k && k->name; k++) {
        char path[128], below[140], type[160];
        snprintf(path, sizeof path, "%s%s%s", above, above[0] ? "." : "", k->name);
        const struct schema_key told = { .path = path, .about = k->about, .standard = k->standard,
                                         .type = type_of(k, type, sizeof type) };
        visit(context, &told);
        if (!k->keys) continue;
        const char *rows = k->type == KEY_TABLE ? "" : k->flags & KEY_NAMED ? ".*" : "[]";
        snprintf(below, sizeof below, "%s%s", path, rows);
        each_key(k->keys, below, visit, context);
    }
}

void schema_each_key(void (*visit)(void *context, const struct schema_key *key), void *context)
{
    each_key(schema__root, "", visit, context);
}

static bool compile(struct schema *s, uint32_t version)
{
    uint32_t errors_before = s->problems->errors, problems_before = s->problems->count;
    struct policy_build *b = s->out;
    b->options = value_table();
    if (s->policy->kind != VALUE_TABLE) {
        schema__error(s, "a policy file returns holdfast.policy { ... }");
        return false;
    }
    s->line = s->policy->line;
    schema__overlay(s);
    s->shape = shape__find(s);
    bool known = s->shape != NULL;
    if (!known) tables(s);
    b->shape = s->shape;
    schema__settle_options(s);
    if (!known) schema__cross(s);
    bool ok = s->problems->errors == errors_before;
    if (ok && !known && !frame_rules_prepare(&s->shape->rules)) {
        schema__error(s, "the paths of frames.take could not be compiled");
        ok = false;
    }
    if (ok && !known) {
        text_copy(s->shape->plan.file, sizeof s->shape->plan.file, s->policy_file, strlen(s->policy_file));
        s->shape->plan.version = version;
        /* What is unwise in it is said to each connection that has it. */
        if (s->problems->count == problems_before) shape__share(s);
    }
    b->plan = &s->shape->plan;
    b->rules = &s->shape->rules;
    b->every = s->shape->every;
    b->every_count = s->shape->every_count;
    b->fetch = s->shape->fetch;
    b->fetch_count = s->shape->fetch_count;
    value_clear(&s->tables);
    value_clear(&s->direct.values);
    value_clear(&s->tune.values);
    return ok;
}

static void tables(struct schema *s)
{
    struct policy_shape *shape = s->shape = shape__create();
    plan_defaults(&shape->plan);
    shape->rules.message_bytes_max = SCHEMA_MESSAGE_BYTES;
    shape->rules.send_bytes_max = SCHEMA_SEND_BYTES;
    schema__merge(s);
    schema__take(s);
    schema__keys(s, schema__root, &s->tables, shape);
    const struct value *of = value_get(value_get(&s->tables, "session"), "of");
    const struct value *lane = value_get(value_get(value_get(&s->tables, "budgets"), "start"), "lane");
    if (of) shape->session_of = value_copy(of);
    if (lane) shape->lane = value_copy(lane);
}

/* --- where we are -------------------------------------------------------------------------------
 */

void schema__enter(struct schema *s, const char *name, uint32_t index, const struct value *v)
{
    ASSERT(s->depth < SCHEMA_DEPTH_MAX);
    size_t len = strlen(s->path);
    s->stack[s->depth].path_len = len;
    s->stack[s->depth].line = s->line;
    s->depth++;
    char part[80];
    if (name) {
        snprintf(part, sizeof part, "%s%.64s", len ? "." : "", name);
    } else {
        snprintf(part, sizeof part, "[%u]", index);
    }
    text_copy(s->path + len, sizeof s->path - len, part, strlen(part));
    if (v && v->line) s->line = v->line;
}

void schema__leave(struct schema *s)
{
    ASSERT(s->depth > 0);
    s->depth--;
    s->path[s->stack[s->depth].path_len] = 0;
    s->line = s->stack[s->depth].line;
}

/* --- what is wrong ------------------------------------------------------------------------------
 */

void schema__error(struct schema *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    report(s, false, s->path, s->line, format, args);
    va_end(args);
}

void schema__warn(struct schema *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    report(s, true, s->path, s->line, format, args);
    va_end(args);
}

/* The line of the value at a path such as "alive.silence", or of the nearest table above it. */
static uint32_t line_of(const struct schema *s, const char *path)
{
    const struct value *v = &s->tables;
    uint32_t line = v->line;
    while (*path) {
        char name[64];
        size_t n = strcspn(path, ".");
        text_copy(name, sizeof name, path, n);
        v = value_get(v, name);
        if (!v) break;
        if (v->line) line = v->line;
        path += n + (path[n] == '.');
    }
    return line;
}

void schema__error_at(struct schema *s, const char *a, const char *b, const char *format, ...)
{
    const char *file;
    uint32_t line;
    char key[128];
    const char *at = a;
    if (b && !schema__origin(s, a, &file, &line, key) && schema__origin(s, b, &file, &line, key)) {
        at = b;
    }
    va_list args;
    va_start(args, format);
    report(s, false, at, line_of(s, at), format, args);
    va_end(args);
}

void schema__warn_at(struct schema *s, const char *a, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    report(s, true, a, line_of(s, a), format, args);
    va_end(args);
}

static void report(struct schema *s, bool warning, const char *path, uint32_t line,
                   const char *format, va_list args)
{
    char text[400], key[128];
    const char *file = s->policy_file;
    vsnprintf(text, sizeof text, format, args);
    text_copy(key, sizeof key, path, strlen(path));
    bool set_by_connection = s->in_settings;
    if (s->in_settings) {
        file = s->settings_file;
    } else {
        set_by_connection = schema__origin(s, path, &file, &line, key);
    }
    /* The policy's own warnings were given when it was loaded. */
    if (warning && s->settings && !set_by_connection) return;
    problems_add(s->problems, warning, file, line, key, "%s", text);
}

/* Is the path within what a connection set? */
static bool theirs(const struct schema *s)
{
    char key[128];
    const char *file;
    uint32_t line;
    return s->in_settings || schema__origin(s, s->path, &file, &line, key);
}

const char *schema__describe(const struct schema *s, const struct value *v, char out[96])
{
    switch (v->kind) {
    case VALUE_NIL: return strcpy(out, "nothing");
    case VALUE_BOOL: return strcpy(out, v->boolean ? "true" : "false");
    case VALUE_NUMBER: snprintf(out, 96, "the number %.14g", v->number); return out;
    case VALUE_STRING:
        if (theirs(s)) return strcpy(out, "a text"); /* it could be a secret in the wrong place */
        snprintf(out, 96, "\"%.60s%s\"", v->string.bytes, v->string.len > 60 ? "..." : "");
        return out;
    case VALUE_SECRET: return strcpy(out, "a secret");
    case VALUE_TABLE: return strcpy(out, "a table");
    case VALUE_FUNCTION: return strcpy(out, "a function");
    }
    return strcpy(out, "something else");
}

void schema__unknown(struct schema *s, const char *name, const char *const *names, size_t count)
{
    const char *near = text_nearest(name, names, count);
    if (near) {
        schema__error(s, "unknown key; did you mean `%s`?", near);
        return;
    }
    char list[300] = "";
    size_t used = 0;
    for (size_t i = 0; i < count && used < sizeof list - 40; i++) {
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", names[i]);
    }
    schema__error(s, "unknown key; known here: %s", list);
}

bool schema__is_list(struct schema *s, const struct value *v, const char *of, uint32_t most)
{
    char text[96];
    if (v->kind != VALUE_TABLE) {
        schema__error(s, "expected a list of %s, got %s", of, schema__describe(s, v, text));
        return false;
    }
    uint32_t count = value_length(v);
    if (count != v->table->count) {
        schema__error(s, "expected a list of %s, without named keys or holes", of);
        return false;
    }
    if (count > most) {
        schema__error(s, "has %u items, at most %u are possible", count, most);
        return false;
    }
    return true;
}

/* --- one table ----------------------------------------------------------------------------------
 */

void schema__keys(struct schema *s, const struct key *keys, const struct value *table, void *base)
{
    char text[96];
    if (table->kind != VALUE_TABLE) {
        schema__error(s, "expected a table, got %s", schema__describe(s, table, text));
        return;
    }
    unknown_keys(s, keys, table);
    for (const struct key *k = keys; k->name; k++) {
        const struct value *v = value_get(table, k->name);
        if (!v && k->flags & KEY_REQUIRED) {
            schema__enter(s, k->name, 0, NULL);
            schema__error(s, "is missing: %s", k->about);
            schema__leave(s);
        }
        if (!v) continue;
        schema__enter(s, k->name, 0, v);
        one(s, k, v, base);
        schema__leave(s);
    }
}

static void unknown_keys(struct schema *s, const struct key *keys, const struct value *table)
{
    const char *names[64];
    size_t count = 0;
    for (const struct key *k = keys; k->name; k++) {
        ASSERT(count < sizeof names / sizeof names[0]);
        names[count++] = k->name;
    }
    for (uint32_t i = 0; i < table->table->count; i++) {
        const struct value_pair *p = &table->table->pairs[i];
        if (p->key.kind == VALUE_NUMBER) {
            schema__enter(s, NULL,
                          p->key.number > 0 && p->key.number < 1e6 ? (uint32_t)p->key.number : 0,
                          &p->value);
            schema__error(s, "a value without a name; this table has named keys only");
            schema__leave(s);
            continue;
        }
        const char *name = value_text(&p->key);
        bool known = false;
        bool whole = strlen(name) == p->key.string.len; /* a NUL inside makes another key */
        for (size_t k = 0; whole && k < count && !known; k++) known = strcmp(names[k], name) == 0;
        if (known) continue;
        schema__enter(s, name, 0, &p->value);
        schema__unknown(s, name, names, count);
        schema__leave(s);
    }
}

static void one(struct schema *s, const struct key *k, const struct value *v, void *base)
{
    char text[96];
    void *to = k->width ? (char *)base + k->at : NULL;
    union {
        uint64_t whole;
        int64_t integer;
        double number;
        struct span_ms span;
    } got;
    switch (k->type) {
    case KEY_BOOL:
        if (v->kind != VALUE_BOOL) {
            schema__error(s, "expected true or false, got %s", schema__describe(s, v, text));
        } else if (to) {
            *(bool *)to = v->boolean;
        }
        return;
    case KEY_INTEGER:
        if (schema__integer(s, v, k->low, k->high, &got.integer) && to) {
            integer_store(to, k->width, got.integer);
        }
        return;
    case KEY_NUMBER:
        if (schema__number(s, v, k->low, k->high, &got.number) && to) *(double *)to = got.number;
        return;
    case KEY_DURATION:
        if (k->flags & KEY_OFF && v->kind == VALUE_BOOL && !v->boolean) {
            *(uint64_t *)to = 0;
            return;
        }
        if (schema__duration(s, v, k->low, k->high, &got.whole) && to) *(uint64_t *)to = got.whole;
        return;
    case KEY_SPAN:
        if (schema__span(s, v, k->low, k->high, &got.span) && to) *(struct span_ms *)to = got.span;
        return;
    case KEY_SIZE:
        if (schema__size(s, v, k->low, k->high, &got.whole) && to) *(uint64_t *)to = got.whole;
        return;
    case KEY_TEXT: text_store(s, k, v, to); return;
    case KEY_NAME: schema__name(s, v, to, k->width); return;
    case KEY_WORD: {
        int index = schema__word(s, v, k->words);
        if (index >= 0 && to) *(unsigned *)to = (unsigned)index;
        return;
    }
    case KEY_FUNCTION:
        if (v->kind != VALUE_FUNCTION) {
            schema__error(s, "expected a function, got %s", schema__describe(s, v, text));
        } else if (to) {
            *(bool *)to = true;
        }
        return;
    case KEY_TABLE: schema__keys(s, k->keys, v, to ? to : base); return;
    case KEY_CUSTOM: k->custom(s, v, to ? to : base); return;
    }
}

static void integer_store(void *to, size_t width, int64_t n)
{
    if (width == sizeof(uint16_t)) {
        *(uint16_t *)to = (uint16_t)n;
    } else {
        ASSERT(width == sizeof(uint32_t));
        *(uint32_t *)to = (uint32_t)n;
    }
}

static void text_store(struct schema *s, const struct key *k, const struct value *v, char *to)
{
    char text[96];
    if (v->kind != VALUE_STRING) {
        schema__error(s, "expected a text, got %s", schema__describe(s, v, text));
    } else if (!text_is_utf8(v->string.bytes, v->string.len) ||
               memchr(v->string.bytes, 0, v->string.len)) {
        schema__error(s, "expected a text in UTF-8");
    } else if (k->high > 0 && (double)v->string.len > k->high) {
        schema__error(s, "is %zu bytes long, at most %.0f are possible", v->string.len, k->high);
    } else if (to) {
        text_copy(to, k->width, v->string.bytes, v->string.len);
    }
}
