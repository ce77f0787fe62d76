/* Keys that are more than one number: beats, budgets, close codes, fetches and tasks. */
#include <stdio.h>
#include <string.h>

#include "policy/schema_internal.h"

#define MINUTE 60000.0
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

static const char *const per_words[] = { "account", "connection", NULL };
static void per(struct schema *s, const struct value *v, void *base);
static void renew(struct schema *s, const struct value *v, void *base);

const struct key schema__fetch_row[] = {
    { "call", KEY_FUNCTION, KEY_REQUIRED | KEY_FIXED, .about = "a function that yields the value" },
    { "keep", KEY_DURATION, 0, 0, 30 * DAY, NULL, NULL, NULL, offsetof(struct fetch_rule, keep_ms),
      sizeof(uint64_t), "one attempt", "how long a value is good unless the call says so" },
    { "gap", KEY_DURATION, 0, 0, DAY, NULL, NULL, NULL, offsetof(struct fetch_rule, gap_ms),
      sizeof(uint64_t), "0s", "least time between two calls" },
    { "pause", KEY_DURATION, 0, 0, DAY, NULL, NULL, NULL, offsetof(struct fetch_rule, pause_ms),
      sizeof(uint64_t), "0s", "least time after a call that failed, whichever connection asks" },
    { "renew", KEY_CUSTOM, .custom = renew, .standard = "never",
      .about = "so long before its end, or a pair of such, it is fetched anew without being asked for" },
    { "stale", KEY_BOOL, 0, 0, 0, NULL, NULL, NULL, offsetof(struct fetch_rule, stale),
      sizeof(bool), "false", "an old value may serve while a renewal fails" },
    { "per", KEY_CUSTOM, .custom = per, .standard = "account",
      .about = "account: shared by its connections; connection" },
    { .name = NULL },
};

/* { usual, least, most }, or one fixed duration. */
void schema__beat_every(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    struct plan *p = &s->shape->plan;
    uint64_t *to[] = { &p->beat.every_ms, &p->beat.least_ms, &p->beat.most_ms };
    uint64_t got[3];
    if (v->kind != VALUE_TABLE) {
        if (!schema__duration(s, v, 1000, DAY, &got[0])) return;
        for (int i = 0; i < 3; i++) *to[i] = got[0];
        return;
    }
    if (value_length(v) != 3 || v->table->count != 3) {
        schema__error(s, "expected one duration, or { usual, least, most }");
        return;
    }
    for (uint32_t i = 0; i < 3; i++) {
        schema__enter(s, NULL, i + 1, value_at(v, i + 1));
        bool ok = schema__duration(s, value_at(v, i + 1), i == 1 ? 500 : 1000, DAY, &got[i]);
        schema__leave(s);
        if (!ok) return;
    }
    if (got[1] > got[0] || got[0] > got[2]) {
        schema__error(s, "the order is { usual, least, most }, with usual between the other two");
        return;
    }
    for (int i = 0; i < 3; i++) *to[i] = got[i];
}

void schema__beat_asked(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    schema__frame_matchers(s, v, NULL, &s->shape->rules.beat_asked);
}

void schema__beat_answer(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    schema__frame_matchers(s, v, NULL, &s->shape->rules.beat_answer);
}

/* What an endpoint may send: 1000, 1001, and the ranges of libraries and applications. */
void schema__close_code(struct schema *s, const struct value *v, void *base)
{
    int64_t code;
    if (!schema__integer(s, v, 1000, 4999, &code)) return;
    if (code > 1001 && code < 3000) {
        schema__error(s, "%lld may not be sent; possible are 1000, 1001 and 3000 to 4999",
                      (long long)code);
        return;
    }
    *(uint16_t *)base = (uint16_t)code;
}

static void window_read(struct schema *s, const struct value *v, struct budget_plan *b)
{
    int64_t count;
    uint64_t ms;
    if (v->kind != VALUE_TABLE || value_length(v) != 2 || v->table->count != 2) {
        schema__error(s, "expected { count, duration }, such as { 120, \"60s\" }");
        return;
    }
    bool ok = schema__integer(s, value_at(v, 1), 1, 1000000, &count);
    if (!schema__duration(s, value_at(v, 2), 100, 31 * DAY, &ms) || !ok) return;
    b->windows[b->window_count++] = (struct window){ (uint32_t)count, ms };
}

void schema__budget_windows(struct schema *s, const struct value *v, void *base)
{
    struct budget_plan *b = base;
    const struct value *first = value_at(v, 1);
    if (first && first->kind == VALUE_NUMBER) {
        window_read(s, v, b);
        return;
    }
    if (!schema__is_list(s, v, "{ count, duration }", PLAN_WINDOWS_MAX)) return;
    uint32_t count = value_length(v);
    if (count == 0) schema__error(s, "has no window");
    for (uint32_t i = 1; i <= count; i++) {
        schema__enter(s, NULL, i, value_at(v, i));
        window_read(s, value_at(v, i), b);
        schema__leave(s);
    }
    for (uint32_t i = 0; i < b->window_count; i++) {
        for (uint32_t k = 0; k < i; k++) {
            const struct window *x = &b->windows[i], *y = &b->windows[k];
            if (x->ms == y->ms) schema__error(s, "two windows have the same length");
            bool longer = x->ms > y->ms;
            if (longer ? x->count < y->count : x->count > y->count) {
                schema__warn(s, "the longer window allows less than the shorter one");
            }
        }
    }
}

/* "10%" or 0.1 */
void schema__budget_share(struct schema *s, const struct value *v, void *base)
{
    struct budget_plan *b = base;
    char text[96], sign = 0, rest = 0;
    double share = -1;
    if (v->kind == VALUE_NUMBER) share = v->number;
    if (v->kind == VALUE_STRING && v->string.len < 16 && v->string.bytes[0] >= '0' &&
        v->string.bytes[0] <= '9' &&
        sscanf(v->string.bytes, "%lf%c%c", &share, &sign, &rest) == 2 && sign == '%') {
        share /= 100;
    } else if (v->kind == VALUE_STRING) {
        share = -1;
    }
    if (!(share >= 0 && share <= 0.5)) {
        schema__error(s, "expected a share from \"0%%\" to \"50%%\", got %s",
                      schema__describe(s, v, text));
        return;
    }
    b->operators = share;
}

void schema__start_frame(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    schema__frame_matchers(s, v, NULL, &s->shape->rules.start);
}

static void per(struct schema *s, const struct value *v, void *base)
{
    struct fetch_rule *r = base;
    int word = schema__word(s, v, per_words);
    if (word >= 0) r->by_account = word == 0;
}

static void renew(struct schema *s, const struct value *v, void *base)
{
    struct fetch_rule *r = base;
    schema__span(s, v, 1000, DAY, &r->renew);
}

void schema__fetch(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    char text[96];
    struct policy_shape *b = s->shape;
    if (v->kind != VALUE_TABLE) {
        schema__error(s, "expected a table of fetches by name, got %s",
                      schema__describe(s, v, text));
        return;
    }
    for (uint32_t i = 0; i < v->table->count; i++) {
        const struct value *name = &v->table->pairs[i].key, *row = &v->table->pairs[i].value;
        schema__enter(s, value_text(name), i + 1, row);
        if (b->fetch_count == POLICY_FETCH_MAX) {
            schema__error(s, "at most %d fetches are possible", POLICY_FETCH_MAX);
        } else {
            struct fetch_rule *r = &b->fetch[b->fetch_count++];
            *r = (struct fetch_rule){ .by_account = true, .line = s->line };
            schema__name(s, name, r->name, sizeof r->name);
            schema__keys(s, schema__fetch_row, row, r);
        }
        schema__leave(s);
    }
}

/* presence = { "30s", function } */
void schema__every(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    char text[96];
    struct policy_shape *b = s->shape;
    if (v->kind != VALUE_TABLE) {
        schema__error(s, "expected a table of tasks by name, got %s", schema__describe(s, v, text));
        return;
    }
    for (uint32_t i = 0; i < v->table->count; i++) {
        const struct value *name = &v->table->pairs[i].key, *row = &v->table->pairs[i].value;
        const struct value *span = value_at(row, 1), *task = value_at(row, 2);
        schema__enter(s, value_text(name), i + 1, row);
        if (b->every_count == POLICY_EVERY_MAX) {
            schema__error(s, "at most %d tasks are possible", POLICY_EVERY_MAX);
        } else if (!span || !task || task->kind != VALUE_FUNCTION || row->table->count != 2) {
            schema__error(s, "expected { \"30s\", function (conn) ... end }");
        } else {
            struct every_task *t = &b->every[b->every_count++];
            *t = (struct every_task){ .line = s->line };
            schema__name(s, name, t->name, sizeof t->name);
            schema__span(s, span, 1000, 7 * DAY, &t->every);
        }
        schema__leave(s);
    }
}
