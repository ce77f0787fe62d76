/* Rows of `classify` and `climb`: what follows from an ending. Compiles them into
 * the plan; judges no cause. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "policy/schema_internal.h"

#define MINUTE 60000.0
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

static void verdict(struct schema *s, const struct value *v, void *base);
static void delay(struct schema *s, const struct value *v, void *base);
static void delay_from(struct schema *s, const struct value *v, void *base);
static void otherwise(struct schema *s, const struct value *v, void *base);
static void pace(struct schema *s, const struct value *v, void *base);
static void drop_fetch(struct schema *s, const struct value *v, void *base);
static void climb_on(struct schema *s, const struct value *v, void *base);
static void climb_to(struct schema *s, const struct value *v, void *base);
static void climb_pace(struct schema *s, const struct value *v, void *base);
static void row_check(struct schema *s, const struct value *row, const struct classify_rule *r);
static void shadow_check(struct schema *s, const struct plan *p, const struct classify_rule *r);

static const char *const verdict_words[] = { "resume", "fresh", "renew", "slow", "stop", NULL };
static const char *const pace_words[] = { "normal", "slow", "stop", NULL };
static const char *const retry_words[] = { "retry_after", NULL };

_Static_assert(DROP_RENEW == 2 && PACE_STOP == 2, "words stand in their order");

#define ROW(type, member) offsetof(struct type, member), sizeof(((struct type *)0)->member)

_Static_assert(offsetof(struct classify_rule, match) == 0, "matcher keys fill a row's front");

const struct key schema__classify_row[] = {
    SCHEMA_CAUSE_KEYS,
    { "verdict", KEY_CUSTOM, .custom = verdict, .about = "resume, fresh, renew, slow or stop" },
    { "pace", KEY_CUSTOM, .custom = pace,
      .about = "a pair: a ladder of its own; or slow, stop beside a verdict that drops something" },
    { "delay", KEY_CUSTOM, .custom = delay, .about = "instead of the backoff" },
    { "delay_from", KEY_CUSTOM, .custom = delay_from, .about = "retry_after: as the answer says" },
    { "otherwise", KEY_CUSTOM, .custom = otherwise, .about = "when the answer says nothing" },
    { "counts", KEY_BOOL, 0, 0, 0, NULL, NULL, NULL, ROW(classify_rule, counts), "true",
      "raises the failure counter" },
    { "planned", KEY_BOOL, 0, 0, 0, NULL, NULL, NULL, ROW(classify_rule, planned), "false",
      "free of backoff when the link had settled" },
    { "drop", KEY_CUSTOM, .custom = drop_fetch, .about = "marks one fetched value old" },
    { "as", KEY_NAME, 0, 0, 0, NULL, NULL, NULL, ROW(classify_rule, as), NULL,
      "names the cause anew" },
    { "note", KEY_TEXT, 0, 0, PLAN_NOTE_MAX - 1, NULL, NULL, NULL, ROW(classify_rule, note), NULL,
      "for people" },
    { .name = NULL },
};

const struct key schema__climb_row[] = {
    { "on", KEY_CUSTOM, KEY_REQUIRED, .custom = climb_on, .keys = schema__cause_keys,
      .about = "the endings that are counted" },
    { "times", KEY_INTEGER, KEY_REQUIRED, 2, CLIMB_TIMES_MAX, NULL, NULL, NULL,
      ROW(climb_rule, times), NULL, "the times-th occurrence already gets `to`" },
    { "within", KEY_DURATION, 0, 1000, 7 * DAY, NULL, NULL, NULL, ROW(climb_rule, within_ms),
      "in a row", "counted over a sliding window" },
    { "to", KEY_CUSTOM, .custom = climb_to, .about = "resume, fresh, renew, slow or stop" },
    { "pace", KEY_CUSTOM, .custom = climb_pace, .about = "a pair: a slow ladder of its own" },
    { "note", KEY_TEXT, 0, 0, PLAN_NOTE_MAX - 1, NULL, NULL, NULL, ROW(climb_rule, note), NULL,
      "for people" },
    { .name = NULL },
};

/* --- classify -----------------------------------------------------------------------------------
 */

void schema__classify(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    struct plan *p = &s->shape->plan;
    uint32_t count = value_length(v);
    bool one = count == 0 && v->kind == VALUE_TABLE && v->table->count > 0;
    if (one) count = 1;
    if (!one && !schema__is_list(s, v, "rows", SCHEMA_ROWS_MAX)) return;
    ASSERT(p->classify == NULL); /* plan_defaults() has no rows of its own */
    p->classify = schema__alloc(count, sizeof *p->classify);
    p->classify_count = 0;
    bool closed = false;
    for (uint32_t i = 1; i <= count; i++) {
        const struct value *row = one ? v : value_at(v, i);
        struct classify_rule *r = &p->classify[p->classify_count++];
        r->match.session = -1;
        r->counts = true;
        if (!one) schema__enter(s, NULL, i, row);
        r->line = s->line;
        if (closed) schema__warn(s, "is never reached: a row above matches everything");
        schema__keys(s, schema__classify_row, row, r);
        if (row->kind == VALUE_TABLE) row_check(s, row, r);
        /* A row with a mistake asks for less than was meant. */
        if (!closed && s->problems->errors == 0) shadow_check(s, p, r);
        closed = closed || r->match.any;
        if (!one) schema__leave(s);
    }
    if (!closed) {
        schema__warn(s, "no row matches everything: end with { any = true, verdict = \"resume\" }");
    }
}

/* The first row that fits decides. */
static void shadow_check(struct schema *s, const struct plan *p, const struct classify_rule *r)
{
    for (uint32_t i = 0; &p->classify[i] != r; i++) {
        if (!schema__covers(&p->classify[i].match, &r->match)) continue;
        if (p->classify[i].line) {
            schema__warn(s, "is never reached: row %u, in line %u, matches all of it", i + 1, p->classify[i].line);
        } else {
            schema__warn(s, "is never reached: row %u matches all of it", i + 1);
        }
        return;
    }
}

static void row_check(struct schema *s, const struct value *row, const struct classify_rule *r)
{
    schema__cause_check(s, row, &r->match);
    const struct value *given = value_get(row, "verdict"), *from = value_get(row, "delay_from");
    if (!given && !value_get(row, "pace")) {
        schema__error(s, "has no verdict; possible are resume, fresh, renew, slow, stop");
    }
    if (value_get(row, "otherwise") && !from) {
        schema__error(s, "`otherwise` belongs to delay_from = \"retry_after\"");
    }
    if (value_get(row, "delay") && from) {
        schema__error(s, "delay and delay_from exclude each other; write delay_from and otherwise");
    }
    bool waits = value_get(row, "delay") || from || r->has_pace_span || r->planned;
    if (r->pace == PACE_STOP && waits) {
        schema__error(s, "a stop waits for an operator: delay, pace and planned say nothing here");
    }
    if (r->pace == PACE_STOP && r->match.any) {
        schema__error(s,
                      "stop for whatever happens would end connections for mere network trouble");
    }
}

static void verdict_apply(int word, enum drop *drop, enum pace *pace)
{
    if (word < 0) return;
    if (word <= DROP_RENEW) {
        *drop = (enum drop)word;
    } else {
        *pace = word == 3 ? PACE_SLOW : PACE_STOP;
    }
}

static void verdict(struct schema *s, const struct value *v, void *base)
{
    struct classify_rule *r = base;
    verdict_apply(schema__word(s, v, verdict_words), &r->drop, &r->pace);
}

static void pace_read(struct schema *s, const struct value *v, bool *has, struct span_ms *span,
                      enum pace *pace_out)
{
    if (v->kind == VALUE_STRING && v->string.len > 0 &&
        !(v->string.bytes[0] >= '0' && v->string.bytes[0] <= '9')) {
        int word = schema__word(s, v, pace_words);
        if (word > (int)*pace_out) *pace_out = (enum pace)word;
        return;
    }
    if (!schema__span(s, v, 1000, DAY, span)) return;
    *has = true;
    if (*pace_out < PACE_SLOW) *pace_out = PACE_SLOW;
}

static void pace(struct schema *s, const struct value *v, void *base)
{
    struct classify_rule *r = base;
    pace_read(s, v, &r->has_pace_span, &r->pace_span, &r->pace);
}

static void delay(struct schema *s, const struct value *v, void *base)
{
    struct classify_rule *r = base;
    r->has_delay = schema__span(s, v, 0, DAY, &r->delay);
}

static void delay_from(struct schema *s, const struct value *v, void *base)
{
    struct classify_rule *r = base;
    r->delay_from_retry_after = schema__word(s, v, retry_words) == 0;
}

static void otherwise(struct schema *s, const struct value *v, void *base)
{
    struct classify_rule *r = base;
    r->has_otherwise = schema__span(s, v, 0, DAY, &r->otherwise);
}

static void drop_fetch(struct schema *s, const struct value *v, void *base)
{
    struct classify_rule *r = base;
    if (!schema__name(s, v, r->drop_fetch, sizeof r->drop_fetch)) return;
    const struct value *fetch = value_get(&s->tables, "fetch");
    if (value_get(fetch, r->drop_fetch)) return;
    const char *names[POLICY_FETCH_MAX];
    size_t count = 0;
    for (uint32_t i = 0; fetch && fetch->kind == VALUE_TABLE && i < fetch->table->count; i++) {
        const char *name = value_text(&fetch->table->pairs[i].key);
        if (name && count < POLICY_FETCH_MAX) names[count++] = name;
    }
    const char *near = text_nearest(r->drop_fetch, names, count);
    schema__error(s, "no such name in fetch%s%s%s", near ? "; did you mean \"" : "",
                  near ? near : "", near ? "\"?" : "");
}

/* --- climb --------------------------------------------------------------------------------------
 */

void schema__climb(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    struct plan *p = &s->shape->plan;
    uint32_t count = value_length(v);
    bool one = count == 0 && v->kind == VALUE_TABLE && v->table->count > 0;
    if (one) count = 1;
    if (!one && !schema__is_list(s, v, "rows", CLIMB_RULES_MAX)) return;
    ASSERT(p->climb == NULL);
    p->climb = schema__alloc(count, sizeof *p->climb);
    p->climb_count = 0;
    for (uint32_t i = 1; i <= count; i++) {
        const struct value *row = one ? v : value_at(v, i);
        struct climb_rule *r = &p->climb[p->climb_count++];
        if (!one) schema__enter(s, NULL, i, row);
        r->line = s->line;
        schema__keys(s, schema__climb_row, row, r);
        if (row->kind == VALUE_TABLE && !value_get(row, "to") && !value_get(row, "pace")) {
            schema__error(s, "raises nothing: give it `to` or `pace`");
        }
        if (r->pace == PACE_STOP && r->has_pace_span) {
            schema__error(s, "a stop waits for an operator: pace says nothing here");
        }
        if (!one) schema__leave(s);
    }
}

static void matcher_read(struct schema *s, const struct value *v, struct cause_matcher *m)
{
    m->session = -1;
    schema__keys(s, schema__cause_keys, v, m);
    if (v->kind == VALUE_TABLE) schema__cause_check(s, v, m);
}

static void climb_on(struct schema *s, const struct value *v, void *base)
{
    struct climb_rule *r = base;
    uint32_t count = value_length(v);
    if (count == 0) {
        r->on = schema__alloc(1, sizeof *r->on);
        r->on_count = 1;
        matcher_read(s, v, &r->on[0]);
        return;
    }
    if (!schema__is_list(s, v, "matchers", SCHEMA_WANTS_MAX)) return;
    r->on = schema__alloc(count, sizeof *r->on);
    for (uint32_t i = 1; i <= count; i++) {
        schema__enter(s, NULL, i, value_at(v, i));
        matcher_read(s, value_at(v, i), &r->on[r->on_count++]);
        schema__leave(s);
    }
}

static void climb_to(struct schema *s, const struct value *v, void *base)
{
    struct climb_rule *r = base;
    verdict_apply(schema__word(s, v, verdict_words), &r->to, &r->pace);
}

static void climb_pace(struct schema *s, const struct value *v, void *base)
{
    struct climb_rule *r = base;
    pace_read(s, v, &r->has_pace_span, &r->pace_span, &r->pace);
}
