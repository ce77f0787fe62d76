/* Rows of `classify` and `climb`: matchers over causes, and what follows from them. Compiles them into
 * the plan; judges no cause. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "policy/schema_internal.h"

#define MINUTE 60000.0
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

static void any(struct schema *s, const struct value *v, void *base);
static void close_codes(struct schema *s, const struct value *v, void *base);
static void statuses(struct schema *s, const struct value *v, void *base);
static void codes(struct schema *s, const struct value *v, void *base);
static void stages(struct schema *s, const struct value *v, void *base);
static void causes(struct schema *s, const struct value *v, void *base);
static void reason(struct schema *s, const struct value *v, void *base);
static void header(struct schema *s, const struct value *v, void *base);
static void with_session(struct schema *s, const struct value *v, void *base);
static void by(struct schema *s, const struct value *v, void *base);
static void verdict(struct schema *s, const struct value *v, void *base);
static void delay(struct schema *s, const struct value *v, void *base);
static void delay_from(struct schema *s, const struct value *v, void *base);
static void otherwise(struct schema *s, const struct value *v, void *base);
static void pace(struct schema *s, const struct value *v, void *base);
static void drop_fetch(struct schema *s, const struct value *v, void *base);
static void climb_on(struct schema *s, const struct value *v, void *base);
static void climb_to(struct schema *s, const struct value *v, void *base);
static void climb_pace(struct schema *s, const struct value *v, void *base);
static void matcher_check(struct schema *s, const struct value *row, const struct cause_matcher *m);
static void row_check(struct schema *s, const struct value *row, const struct classify_rule *r);

static const char *const stage_words[] = {
#define X(name, text) text,
    STAGE_MAP(X)
#undef X
    NULL
};
static const char *const by_words[] = { "peer", "network", "us", "policy", "operator", NULL };
static const char *const verdict_words[] = { "resume", "fresh", "renew", "slow", "stop", NULL };
static const char *const pace_words[] = { "normal", "slow", "stop", NULL };
static const char *const retry_words[] = { "retry_after", NULL };

_Static_assert(BY_OPERATOR == 4 && DROP_RENEW == 2 && PACE_STOP == 2, "words stand in their order");

#define ROW(type, member) offsetof(struct type, member), sizeof(((struct type *)0)->member)
#define MATCH(text, function, what) { text, KEY_CUSTOM, .custom = function, .about = what }
#define MATCHER_KEYS                                                                              \
    MATCH("any", any, "true: matches everything"),                                                \
    MATCH("close", close_codes, "close codes: 4004, \"4900-4913\", or a list"),                   \
    MATCH("http", statuses, "HTTP statuses, likewise"),                                           \
    MATCH("code", codes, "the platform's own error codes, likewise"),                             \
    MATCH("stage", stages, "where it ended, one or a list"),                                      \
    MATCH("cause", causes, "the cause's name, one or a list"),                                    \
    MATCH("reason", reason, "a part of its text; only beside close, http, code or cause"),        \
    MATCH("header", header, "{ [\"name\"] = \"value\" } of an HTTP answer"),                      \
    MATCH("session", with_session, "the attempt meant to resume"),                                \
    { "under", KEY_DURATION, 0, 1, DAY, NULL, NULL, NULL, ROW(cause_matcher, under_ms), NULL,     \
      "the link was younger than this" },                                                         \
    MATCH("by", by, "who ended it: peer, network, us, policy, operator")

static const struct key matcher_keys[] = { MATCHER_KEYS, { .name = NULL } };

_Static_assert(offsetof(struct classify_rule, match) == 0, "matcher keys fill a row's front");

const struct key schema__classify_row[] = {
    MATCHER_KEYS,
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
    { "on", KEY_CUSTOM, KEY_REQUIRED, .custom = climb_on, .keys = matcher_keys,
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

/* --- classify ----------------------------------------------------------------------------------- */

void schema__classify(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    struct plan *p = &s->out->plan;
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
        closed = closed || r->match.any;
        if (!one) schema__leave(s);
    }
    if (!closed) {
        schema__warn(s, "no row matches everything: end with { any = true, verdict = \"resume\" }");
    }
}

static void row_check(struct schema *s, const struct value *row, const struct classify_rule *r)
{
    matcher_check(s, row, &r->match);
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
        schema__error(s, "stop for whatever happens would end connections for mere network trouble");
    }
}

static void matcher_check(struct schema *s, const struct value *row, const struct cause_matcher *m)
{
    uint32_t set = 0;
    for (const struct key *k = matcher_keys; k->name; k++) {
        if (value_get(row, k->name)) set++;
    }
    if (set == 0) {
        schema__error(s, "matches nothing: name what it is about, or any = true");
    } else if (m->any && set > 1) {
        schema__error(s, "`any` stands alone; leave it away to match the rest");
    }
    if (m->reason && !m->close && !m->http && !m->code && !m->causes) {
        schema__error(s, "reason alone never classifies; put it beside close, http, code or cause");
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

/* --- climb -------------------------------------------------------------------------------------- */

void schema__climb(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    struct plan *p = &s->out->plan;
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
    schema__keys(s, matcher_keys, v, m);
    if (v->kind == VALUE_TABLE) matcher_check(s, v, m);
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

/* --- the keys of a matcher over causes ----------------------------------------------------------- */

static void any(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    if (v->kind != VALUE_BOOL || !v->boolean) {
        schema__error(s, "can only be true");
        return;
    }
    m->any = true;
}

/* 4004 or "4900-4913" */
static bool range_read(struct schema *s, const struct value *v, double low, double high,
                       struct code_range *out)
{
    char text[96];
    if (v->kind == VALUE_NUMBER) {
        if (!schema__integer(s, v, low, high, &out->low)) return false;
        out->high = out->low;
        return true;
    }
    const char *p = value_text(v);
    long long a = 0, b = 0;
    int used = 0;
    if (!p || strspn(p, "0123456789- ") != v->string.len || v->string.len > 40 ||
        sscanf(p, "%lld - %lld%n", &a, &b, &used) != 2 || (size_t)used != v->string.len) {
        schema__error(s, "expected a number or a range such as \"4900-4913\", got %s",
                      schema__describe(s, v, text));
        return false;
    }
    if ((double)a < low || (double)b > high) {
        schema__error(s, "%s is outside %.0f to %.0f", schema__describe(s, v, text), low, high);
        return false;
    }
    if (a > b) {
        schema__error(s, "the range %s is the wrong way round", schema__describe(s, v, text));
        return false;
    }
    *out = (struct code_range){ a, b };
    return true;
}

static void ranges_read(struct schema *s, const struct value *v, double low, double high,
                        struct code_range **out, uint32_t *count_out)
{
    bool list = v->kind == VALUE_TABLE;
    if (list && !schema__is_list(s, v, "codes", SCHEMA_WANTS_MAX)) return;
    uint32_t count = list ? value_length(v) : 1;
    if (count == 0) schema__error(s, "names no code");
    *out = schema__alloc(count, sizeof **out);
    for (uint32_t i = 1; i <= count; i++) {
        const struct value *item = list ? value_at(v, i) : v;
        if (list) schema__enter(s, NULL, i, item);
        if (range_read(s, item, low, high, &(*out)[*count_out])) (*count_out)++;
        if (list) schema__leave(s);
    }
}

static void close_codes(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    ranges_read(s, v, 1000, 4999, &m->close, &m->close_count);
}

static void statuses(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    ranges_read(s, v, 100, 999, &m->http, &m->http_count);
}

static void codes(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    ranges_read(s, v, -0x1p53, 0x1p53, &m->code, &m->code_count);
}

/* One word or a list of them, as bits. */
static uint32_t words_read(struct schema *s, const struct value *v, const char *const *words)
{
    bool list = v->kind == VALUE_TABLE;
    if (list && !schema__is_list(s, v, "words", SCHEMA_WANTS_MAX)) return 0;
    uint32_t bits = 0, count = list ? value_length(v) : 1;
    if (count == 0) schema__error(s, "names nothing");
    for (uint32_t i = 1; i <= count; i++) {
        const struct value *item = list ? value_at(v, i) : v;
        if (list) schema__enter(s, NULL, i, item);
        int word = schema__word(s, item, words);
        if (word >= 0) bits |= (uint32_t)1 << word;
        if (list) schema__leave(s);
    }
    return bits;
}

static void stages(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    m->stages = words_read(s, v, stage_words);
}

static void by(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    m->by = words_read(s, v, by_words);
}

/* One letter added, lost, changed, or two swapped: a slip of the hand, not another name. */
static bool is_slip(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b), i = 0;
    while (a[i] && a[i] == b[i]) i++;
    if (la == lb + 1) return strcmp(a + i + 1, b + i) == 0;
    if (lb == la + 1) return strcmp(a + i, b + i + 1) == 0;
    if (la != lb || la < 4 || i == la) return false;
    if (strcmp(a + i + 1, b + i + 1) == 0) return true;
    return a[i + 1] && a[i] == b[i + 1] && a[i + 1] == b[i] && strcmp(a + i + 2, b + i + 2) == 0;
}

static const char *const kinds[] = {
#define X(name, text) text,
    CAUSE_KIND_MAP(X)
#undef X
};

/* The names that frames.ends and `as` give. A hook may give others with conn:fail(), which no table
 * shows; so a name is refused only when it looks like a slip in one that is known. */
static void cause_check(struct schema *s, const char *name)
{
    const char *slip = NULL;
    for (size_t i = 1; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i], name) == 0) return;
        if (is_slip(name, kinds[i])) slip = kinds[i];
    }
    const struct value *lists[] = { value_get(value_get(&s->tables, "frames"), "ends"),
                                    value_get(&s->tables, "classify") };
    const char *keys[] = { "cause", "as" };
    for (size_t l = 0; l < 2; l++) {
        uint32_t count = value_length(lists[l]);
        for (uint32_t i = 0; i <= count; i++) { /* 0: the table is itself the one row */
            const struct value *row = i ? value_at(lists[l], i) : lists[l];
            const char *known = value_get_text(row, keys[l]);
            if (!known) continue;
            if (strcmp(known, name) == 0) return;
            if (is_slip(name, known)) slip = known;
        }
    }
    if (slip) schema__error(s, "no cause is named \"%s\"; did you mean \"%s\"?", name, slip);
}

static void causes(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    bool list = v->kind == VALUE_TABLE;
    if (list && !schema__is_list(s, v, "names", SCHEMA_WANTS_MAX)) return;
    uint32_t count = list ? value_length(v) : 1;
    if (count == 0) schema__error(s, "names nothing");
    m->causes = schema__alloc(count, sizeof *m->causes);
    for (uint32_t i = 1; i <= count; i++) {
        const struct value *item = list ? value_at(v, i) : v;
        if (list) schema__enter(s, NULL, i, item);
        if (schema__name(s, item, m->causes[m->cause_count], CAUSE_NAME_MAX)) {
            cause_check(s, m->causes[m->cause_count]);
            m->cause_count++;
        }
        if (list) schema__leave(s);
    }
}

static void reason(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    char text[96];
    if (v->kind != VALUE_STRING || v->string.len == 0 || v->string.len >= CAUSE_REASON_MAX ||
        strlen(v->string.bytes) != v->string.len) {
        schema__error(s, "expected a text of 1 to %d bytes, got %s", CAUSE_REASON_MAX - 1,
                      schema__describe(s, v, text));
        return;
    }
    m->reason = strdup(v->string.bytes);
    ASSERT(m->reason != NULL);
}

static void header(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    const char *name = NULL, *wanted = NULL;
    if (v->kind == VALUE_TABLE && v->table->count == 1) {
        name = value_text(&v->table->pairs[0].key);
        wanted = value_text(&v->table->pairs[0].value);
    }
    if (!name || !wanted || !schema__is_name(name, 64) || strpbrk(wanted, "\r\n")) {
        schema__error(s, "expected one header and its value: { [\"name\"] = \"value\" }");
        return;
    }
    m->header_name = strdup(name);
    m->header_value = strdup(wanted);
    ASSERT(m->header_name != NULL && m->header_value != NULL);
}

static void with_session(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    char text[96];
    if (v->kind != VALUE_BOOL) {
        schema__error(s, "expected true or false, got %s", schema__describe(s, v, text));
        return;
    }
    m->session = v->boolean ? 1 : 0;
}
