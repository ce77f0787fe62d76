/* Frame matchers: tables such as { op = { 7, 9 }, kind = "READY" } compiled over the fields that
 * `frames.take` names. Used by the pass at load and by conn:await at run time; judges no frame. */
#include "policy/schema.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "policy/schema_internal.h"

/* Where faults go: into the problems of a pass, or the first one into a sentence. */
struct faults {
    struct schema *s;
    char *error;
    size_t error_bytes;
    bool any;
};

static void fault(struct faults *f, const char *key, const struct value *v, const char *text);
static void matcher_read(struct faults *f, const struct frame_rules *rules,
                         const struct value *table, const struct key *others,
                         struct frame_matcher *out);
static void match_read(struct faults *f, const char *key, const struct value *v,
                       struct field_match *out);
static bool want_read(struct faults *f, const char *key, const struct value *v,
                      struct field_want *out);
static bool want_table(struct faults *f, const char *key, const struct value *v,
                       struct field_want *out);
static void matchers_read(struct faults *f, const struct frame_rules *rules, const struct value *v,
                          const struct key *others, struct frame_matchers *out);
static bool is_other(const struct key *others, const char *name);

bool schema_frame_matchers(const struct value *table, const struct frame_rules *rules,
                           struct frame_matchers *out, char *error, size_t error_bytes)
{
    struct faults f = { .error = error, .error_bytes = error_bytes };
    *out = (struct frame_matchers){ 0 };
    matchers_read(&f, rules, table, NULL, out);
    if (f.any) frame_matchers_deinit(out);
    return !f.any;
}

void schema__frame_matchers(struct schema *s, const struct value *v, const struct key *others,
                            struct frame_matchers *out)
{
    struct faults f = { .s = s };
    ASSERT(out->items == NULL);
    matchers_read(&f, &s->shape->rules, v, others, out);
}

void frame_matchers_deinit(struct frame_matchers *m)
{
    for (uint32_t i = 0; i < m->count; i++) {
        for (uint32_t j = 0; j < m->items[i].field_count; j++) {
            struct field_match *f = &m->items[i].fields[j];
            for (uint32_t k = 0; k < f->want_count; k++) free(f->wants[k].text);
            free(f->wants);
        }
        free(m->items[i].fields);
    }
    free(m->items);
    *m = (struct frame_matchers){ 0 };
}

static void fault(struct faults *f, const char *key, const struct value *v, const char *text)
{
    if (f->s) {
        if (key) schema__enter(f->s, key, 0, v);
        schema__error(f->s, "%s", text);
        if (key) schema__leave(f->s);
    } else if (!f->any) {
        snprintf(f->error, f->error_bytes, "%s%s%s", key ? key : "", key ? ": " : "", text);
    }
    f->any = true;
}

static void matchers_read(struct faults *f, const struct frame_rules *rules, const struct value *v,
                          const struct key *others, struct frame_matchers *out)
{
    if (v->kind != VALUE_TABLE) {
        fault(f, NULL, v, "expected a matcher, such as { op = 10 }, or a list of them");
        return;
    }
    uint32_t count = value_length(v);
    if (count == 0) {
        out->items = schema__alloc(1, sizeof *out->items);
        out->count = 1;
        matcher_read(f, rules, v, others, &out->items[0]);
        return;
    }
    if (count != v->table->count || count > SCHEMA_ROWS_MAX) {
        fault(f, NULL, v, "expected one matcher or a list of at most 256, not a mixture");
        return;
    }
    out->items = schema__alloc(count, sizeof *out->items);
    for (uint32_t i = 1; i <= count; i++) {
        const struct value *item = value_at(v, i);
        if (f->s) schema__enter(f->s, NULL, i, item);
        if (item->kind != VALUE_TABLE) {
            fault(f, NULL, item, "expected a matcher, such as { op = 10 }");
        } else {
            matcher_read(f, rules, item, others, &out->items[out->count++]);
        }
        if (f->s) schema__leave(f->s);
    }
}

static void matcher_read(struct faults *f, const struct frame_rules *rules,
                         const struct value *table, const struct key *others,
                         struct frame_matcher *out)
{
    const struct value_table *t = table->table;
    out->line = table->line ? table->line : f->s ? f->s->line : 0;
    out->fields = schema__alloc(t->count, sizeof *out->fields);
    for (uint32_t i = 0; i < t->count; i++) {
        const char *key = value_text(&t->pairs[i].key);
        const struct value *v = &t->pairs[i].value;
        if (!key) {
            fault(f, NULL, v, "a matcher has the names of `take` as keys, not positions");
            continue;
        }
        if (is_other(others, key)) continue;
        int field = frame_rules_field(rules, key);
        if (field < 0) {
            const char *names[FIELDS_MAX];
            for (uint32_t k = 0; k < rules->field_count; k++) names[k] = rules->fields[k].name;
            const char *near = text_nearest(key, names, rules->field_count);
            char text[160];
            snprintf(text, sizeof text, "no such name in frames.take%s%s%s",
                     near ? "; did you mean `" : "", near ? near : "", near ? "`?" : "");
            fault(f, key, v, text);
            continue;
        }
        struct field_match *match = &out->fields[out->field_count];
        match->field = (uint8_t)field;
        out->field_count++;
        match_read(f, key, v, match);
    }
    if (out->field_count == 0 && !f->any) {
        fault(f, NULL, table, "the matcher names no field, so it would match everything");
    }
}

static void match_read(struct faults *f, const char *key, const struct value *v,
                       struct field_match *out)
{
    uint32_t count = value_length(v);
    if (count == 0) {
        out->wants = schema__alloc(1, sizeof *out->wants);
        out->want_count = want_read(f, key, v, &out->wants[0]) ? 1 : 0;
        return;
    }
    if (count != v->table->count || count > SCHEMA_WANTS_MAX) {
        fault(f, key, v, "expected one value or a list of at most 64 values");
        return;
    }
    out->wants = schema__alloc(count, sizeof *out->wants);
    for (uint32_t i = 1; i <= count; i++) {
        if (want_read(f, key, value_at(v, i), &out->wants[out->want_count])) out->want_count++;
    }
}

static bool want_read(struct faults *f, const char *key, const struct value *v,
                      struct field_want *out)
{
    switch (v->kind) {
    case VALUE_NUMBER:
        if (v->number != floor(v->number) || fabs(v->number) > 0x1p53) {
            fault(f, key, v, "expected a whole number");
            return false;
        }
        out->kind = WANT_RANGE;
        out->low = out->high = (int64_t)v->number;
        return true;
    case VALUE_STRING:
        out->kind = WANT_STRING;
        out->len = v->string.len;
        out->text = schema__alloc(out->len + 1, 1);
        memcpy(out->text, v->string.bytes, out->len);
        return true;
    case VALUE_BOOL:
        out->kind = WANT_BOOL;
        out->boolean = v->boolean;
        return true;
    case VALUE_TABLE: return want_table(f, key, v, out);
    default:
        fault(f, key, v, "expected a whole number, a text, a boolean, or a list of them");
        return false;
    }
}

/* { present = true }, { null = true }, { from = 3, to = 9 } */
static bool want_table(struct faults *f, const char *key, const struct value *v,
                       struct field_want *out)
{
    const struct value *present = value_get(v, "present"), *null = value_get(v, "null");
    const struct value *from = value_get(v, "from"), *to = value_get(v, "to");
    uint32_t count = v->table->count;
    if (count == 1 && present && present->kind == VALUE_BOOL && present->boolean) {
        out->kind = WANT_PRESENT;
        return true;
    }
    if (count == 1 && null && null->kind == VALUE_BOOL && null->boolean) {
        out->kind = WANT_NULL;
        return true;
    }
    struct field_want low, high;
    if (count == 2 && from && to && from->kind == VALUE_NUMBER && to->kind == VALUE_NUMBER) {
        if (!want_read(f, key, from, &low) || !want_read(f, key, to, &high)) return false;
        if (low.low > high.low) {
            fault(f, key, v, "`from` is above `to`");
            return false;
        }
        *out = (struct field_want){ .kind = WANT_RANGE, .low = low.low, .high = high.low };
        return true;
    }
    fault(f, key, v, "expected { present = true }, { null = true } or { from = 3, to = 9 }");
    return false;
}

static bool is_other(const struct key *others, const char *name)
{
    for (; others && others->name; others++) {
        if (strcmp(others->name, name) == 0) return true;
    }
    return false;
}
