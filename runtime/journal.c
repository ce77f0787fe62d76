/* Journal: every state change and decision in words, with the policy line that made it; kept per
 * connection in a bounded ring, newest first for readers. Nothing secret can be in it: causes carry
 * printable text of the peer and of us only. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/duration.h"
#include "base/text.h"
#include "runtime_internal.h"

/* A line before it is cut for the journal; the log gets it whole, with the note at its end. */
#define JOURNAL_FIRST 8u /* places of a young journal */
#define WHOLE_MAX 800

#define TEXT_MAX sizeof((struct journal_entry *)NULL)->text

/* What a decision holds besides texts. */
struct packed_decision {
    uint64_t wish_low_ms, wish_high_ms, backoff_ms, delay_ms, retry_after_ms, age_ms;
    int64_t code;
    int32_t close_code, http_status;
    uint32_t attempt, line, cause_line;
    uint8_t drop, pace, by, stage, kind, cause_by;
    bool planned, clamped, session;
};

/* Entries are kept packed, each as long as its own words: a busy connection has many of them. */
struct rt_entry {
    uint64_t wall_ms;
    uint32_t generation;
    uint8_t kind, from, to;
    bool has_decision : 1, given_up : 1;
    uint32_t len; /* of what follows */
    char bytes[]; /* NUL-ended: file, text; decision: struct packed_decision, cause name, reason, note */
};

static void entry_add(struct runtime *rt, struct rt_conn *c, uint32_t generation, int kind,
                      const struct effect *fx, const char *text);
static void entry_push(struct runtime *rt, struct rt_conn *c, struct rt_entry *e); /* e: moved */

const char *cause_text(const struct cause *cause, char *out, size_t out_bytes)
{
    char closed[TEXT_DECIMAL_MAX], status[TEXT_DECIMAL_MAX], code[TEXT_DECIMAL_MAX];
    const bool was_closed = cause->close_code != CLOSE_CODE_NONE && cause->kind == CAUSE_CLOSED;
    if (cause->kind == CAUSE_NONE) {
        text_join(out, out_bytes, "nothing yet", NULL);
        return out;
    }
    text_join(out, out_bytes, cause->name, was_closed ? " " : "", was_closed ? text_decimal(cause->close_code, closed) : "",
              cause->http_status ? " HTTP " : "", cause->http_status ? text_decimal(cause->http_status, status) : "",
              cause->code ? " (" : "", cause->code ? text_decimal(cause->code, code) : "", cause->code ? ")" : "", " by ",
              cause_by_name(cause->by), " at ", stage_name(cause->stage), cause->reason[0] ? ": " : "", cause->reason, NULL);
    return out;
}

/* raw: changed. */
static void emit(struct runtime *rt, enum log_level level, const struct rt_conn *c, char *raw, size_t raw_bytes,
                 const struct log_facts *facts)
{
    const struct runtime_observer *o = &rt->options.observer;
    if (c) rt_hide(rt, c, raw, raw_bytes);
    struct buffer *text = &rt->scratch_line;
    buffer_clear(text);
    if (text_printable(text, raw, strlen(raw)) && buffer_append_char(text, 0)) {
        const char *name = c ? c->name : NULL;
        if (facts && o->log_about) o->log_about(o->self, level, name, (const char *)text->data, facts);
        else if (o->log) o->log(o->self, level, name, (const char *)text->data);
    }
}

static bool logs(const struct runtime *rt, enum log_level level)
{
    const struct runtime_observer *o = &rt->options.observer;
    return (o->log || o->log_about) && (!o->logs || o->logs(o->self, level));
}

void rt_log(struct runtime *rt, enum log_level level, const struct rt_conn *c, const char *format,
            ...)
{
    if (!rt->options.observer.log || !logs(rt, level)) return;
    char raw[600];
    va_list args;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    emit(rt, level, c, raw, sizeof raw, NULL);
}

/* As rt_log(), of "link=G TEXT". */
static void log_about(struct runtime *rt, enum log_level level, const struct rt_conn *c, const char *text,
                      const struct log_facts *facts)
{
    char raw[WHOLE_MAX + 24];
    char generation[TEXT_DECIMAL_MAX];
    text_join(raw, sizeof raw, "link=", text_decimal(facts->generation, generation), " ", text, NULL);
    emit(rt, level, c, raw, sizeof raw, facts);
}

static bool put_text(struct buffer *b, const char *text)
{
    return buffer_append(b, text, strlen(text) + 1);
}

static bool put_decision(struct buffer *b, const struct decision *d)
{
    struct packed_decision p;
    memset(&p, 0, sizeof p);
    p.wish_low_ms = d->wish_low_ms;
    p.wish_high_ms = d->wish_high_ms;
    p.backoff_ms = d->backoff_ms;
    p.delay_ms = d->delay_ms;
    p.retry_after_ms = d->cause.retry_after_ms;
    p.age_ms = d->cause.age_ms;
    p.code = d->cause.code;
    p.close_code = d->cause.close_code;
    p.http_status = d->cause.http_status;
    p.attempt = d->attempt;
    p.line = d->line;
    p.cause_line = d->cause.line;
    p.drop = (uint8_t)d->drop;
    p.pace = (uint8_t)d->pace;
    p.by = (uint8_t)d->by;
    p.stage = (uint8_t)d->cause.stage;
    p.kind = (uint8_t)d->cause.kind;
    p.cause_by = (uint8_t)d->cause.by;
    p.planned = d->planned;
    p.clamped = d->clamped;
    p.session = d->cause.session;
    return buffer_append(b, &p, sizeof p) && put_text(b, d->cause.name) &&
           put_text(b, d->cause.reason) && put_text(b, d->note);
}

/* `at` moves behind the text. */
static void get_text(const char **at, char *out, size_t out_bytes)
{
    size_t len = strlen(*at);
    text_copy(out, out_bytes, *at, len);
    *at += len + 1;
}

static void get_decision(const char *at, struct decision *d)
{
    struct packed_decision p;
    memcpy(&p, at, sizeof p);
    at += sizeof p;
    d->wish_low_ms = p.wish_low_ms;
    d->wish_high_ms = p.wish_high_ms;
    d->backoff_ms = p.backoff_ms;
    d->delay_ms = p.delay_ms;
    d->cause.retry_after_ms = p.retry_after_ms;
    d->cause.age_ms = p.age_ms;
    d->cause.code = p.code;
    d->cause.close_code = p.close_code;
    d->cause.http_status = p.http_status;
    d->attempt = p.attempt;
    d->line = p.line;
    d->cause.line = p.cause_line;
    d->drop = p.drop;
    d->pace = p.pace;
    d->by = p.by;
    d->cause.stage = p.stage;
    d->cause.kind = p.kind;
    d->cause.by = p.cause_by;
    d->planned = p.planned;
    d->clamped = p.clamped;
    d->cause.session = p.session;
    get_text(&at, d->cause.name, sizeof d->cause.name);
    get_text(&at, d->cause.reason, sizeof d->cause.reason);
    get_text(&at, d->note, sizeof d->note);
}

static void entry_add(struct runtime *rt, struct rt_conn *c, uint32_t generation, int kind,
                      const struct effect *fx, const char *text)
{
    char shown[TEXT_MAX];
    struct buffer *b = &rt->scratch_note;
    buffer_clear(b);
    /* A peer's words, or a hook's, must not move a cursor. */
    bool ok = text_printable(b, text, strlen(text));
    text_copy(shown, sizeof shown, ok && b->len ? (const char *)b->data : "", b->len);
    buffer_clear(b);
    ok = put_text(b, c->build->build->plan->file) && put_text(b, shown);
    if (kind == JOURNAL_DECISION) ok = ok && put_decision(b, &fx->journal);
    struct rt_entry *e = malloc(sizeof *e + b->len);
    ASSERT(ok && e != NULL);
    *e = (struct rt_entry){ .wall_ms = rt_clock(rt).wall_ms,
                            .generation = generation,
                            .kind = (uint8_t)kind,
                            .has_decision = kind == JOURNAL_DECISION,
                            .len = (uint32_t)b->len };
    if (kind == JOURNAL_STATE) {
        e->from = (uint8_t)fx->state.from;
        e->to = (uint8_t)fx->state.to;
        e->given_up = c->history.count && c->history.marks[c->history.count - 1].state == HISTORY_GIVEN_UP;
    }
    memcpy(e->bytes, b->data, b->len);
    entry_push(rt, c, e);
    struct journal_entry told = { .generation = generation, .kind = kind, .from = e->from, .to = e->to,
                                  .given_up = e->given_up,
                                  .cause_kind = kind == JOURNAL_STATE ? fx->state.cause.kind : CAUSE_NONE };
    text_copy(told.file, sizeof told.file, c->build->build->plan->file, strlen(c->build->build->plan->file));
    memcpy(told.text, shown, sizeof told.text);
    rt_keep_journal(rt, c, e->wall_ms, &told);
    if (!rt->options.observer.journal) return;
    told.wall_ms = e->wall_ms;
    if (kind == JOURNAL_DECISION) told.decision = fx->journal;
    rt->options.observer.journal(rt->options.observer.self, c->self, c->name, &told);
}

static void entry_push(struct runtime *rt, struct rt_conn *c, struct rt_entry *e)
{
    uint32_t most = rt->options.journal_entries;
    if (c->journal_count == c->journal_capacity && c->journal_capacity < most) {
        /* Not wrapped around yet: entries stand in order from 0. */
        uint32_t capacity = c->journal_capacity ? c->journal_capacity * 2 : JOURNAL_FIRST;
        if (capacity > most) capacity = most;
        c->journal = realloc(c->journal, capacity * sizeof *c->journal);
        ASSERT(c->journal != NULL);
        memset(c->journal + c->journal_count, 0, (capacity - c->journal_count) * sizeof *c->journal);
        c->journal_next = c->journal_count;
        c->journal_capacity = capacity;
    }
    free(c->journal[c->journal_next]);
    c->journal[c->journal_next] = e;
    c->journal_next = (c->journal_next + 1) % c->journal_capacity;
    if (c->journal_count < c->journal_capacity) c->journal_count++;
}

static uint8_t state_of(const struct value *entry, const char *key)
{
    const char *name = value_get_text(entry, key);
    for (int i = 0; name && i < CONN_STATE_COUNT; i++) {
        if (strcmp(conn_state_name((enum conn_state)i), name) == 0) return (uint8_t)i;
    }
    return CONN_STOPPED;
}

static bool is_true(const struct value *v)
{
    return v && v->kind == VALUE_BOOL && v->boolean;
}

void rt_journal_restore(struct runtime *rt, struct rt_conn *c, uint64_t wall_ms, const struct value *entry)
{
    const char *file = value_get_text(entry, "file"), *text = value_get_text(entry, "text");
    double kind = value_get_number(entry, "kind", JOURNAL_NOTE);
    struct buffer b;
    buffer_init(&b, 0);
    ASSERT(put_text(&b, file ? file : "") && put_text(&b, text ? text : ""));
    struct rt_entry *e = malloc(sizeof *e + b.len);
    ASSERT(e != NULL);
    *e = (struct rt_entry){ .wall_ms = wall_ms,
                            .generation = (uint32_t)value_get_number(entry, "link", 0),
                            .kind = kind == JOURNAL_STATE || kind == JOURNAL_ALARM || kind == JOURNAL_HOOK
                                        ? (uint8_t)kind
                                        : (uint8_t)JOURNAL_NOTE,
                            .from = state_of(entry, "from"),
                            .to = state_of(entry, "to"),
                            .given_up = is_true(value_get(entry, "given_up")),
                            .len = (uint32_t)b.len };
    memcpy(e->bytes, b.data, b.len);
    buffer_deinit(&b);
    entry_push(rt, c, e);
}

void rt_journal_note(struct runtime *rt, struct rt_conn *c, uint32_t generation, int kind,
                     const char *format, ...)
{
    char text[TEXT_MAX * 2];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    rt_hide(rt, c, text, sizeof text);
    entry_add(rt, c, generation, kind, NULL, text);
}

void rt_journal_state(struct runtime *rt, struct rt_conn *c, const struct effect *fx)
{
    struct clock now = rt_clock(rt);
    char whole[WHOLE_MAX], cause[300] = "", next[96] = "", delay[DURATION_TEXT_MAX];
    if (fx->state.cause.kind != CAUSE_NONE && fx->state.to != CONN_UP) {
        char text[280];
        text_join(cause, sizeof cause, " on ", cause_text(&fx->state.cause, text, sizeof text), NULL);
    }
    struct engine_brief brief;
    const bool known = engine_get_brief(rt->engine, c->self, &brief);
    if (fx->state.next_ms != ENGINE_NEVER) {
        uint64_t wait_ms = fx->state.next_ms > now.mono_ms ? fx->state.next_ms - now.mono_ms : 0;
        text_join(next, sizeof next, "; ", known && brief.next ? brief.next : "next", " in ", duration_format(wait_ms, delay), NULL);
    }
    text_join(whole, sizeof whole, conn_state_name(fx->state.from), " -> ", conn_state_name(fx->state.to), cause, next, NULL);
    const bool given_up = fx->state.to == CONN_STOPPED && known && brief.stop_is_fatal;
    history_add(&c->history, now.wall_ms, given_up ? HISTORY_GIVEN_UP : (uint8_t)fx->state.to, (uint8_t)fx->state.cause.kind);
    entry_add(rt, c, fx->generation, JOURNAL_STATE, fx, whole);
    /* The decision before it said why and for how long; the log keeps to what an operator acts on. */
    bool told = fx->state.to == CONN_UP || fx->state.to == CONN_STOPPED || fx->state.to == CONN_QUEUED;
    enum log_level level = told ? LOG_INFO : LOG_DEBUG;
    if (!logs(rt, level)) return;
    struct log_facts facts = { .kind = "state", .generation = fx->generation, .cause = &fx->state.cause,
                               .from = conn_state_name(fx->state.from), .to = conn_state_name(fx->state.to) };
    if (known) {
        struct engine_view view;
        facts.next = fx->state.next_ms != ENGINE_NEVER && brief.next ? brief.next : NULL;
        facts.next_in_ms = fx->state.next_ms > now.mono_ms ? fx->state.next_ms - now.mono_ms : 0;
        if ((fx->state.to == CONN_WAITING || fx->state.to == CONN_STOPPED) && engine_get(rt->engine, c->self, &view))
            facts.verdict = rt_verdict_of(&view.decision);
    }
    log_about(rt, level, c, whole, &facts);
}

void rt_journal_decision(struct runtime *rt, struct rt_conn *c, const struct effect *fx)
{
    static const char *const by[] = { [DECIDED_BY_RULE] = "rule", [DECIDED_BY_HOOK] = "on_ended",
                                      [DECIDED_BY_CLIMB] = "climb", [DECIDED_BY_ENGINE] = "engine",
                                      [DECIDED_BY_OPERATOR] = "operator" };
    const struct decision *d = &fx->journal;
    char whole[WHOLE_MAX], delay[DURATION_TEXT_MAX], where[160] = "", cause[280], line[TEXT_DECIMAL_MAX];
    cause_text(&d->cause, cause, sizeof cause);
    if (d->line) text_join(where, sizeof where, " (", c->build->build->plan->file, ":", text_decimal(d->line, line), ")", NULL);
    if (d->pace == PACE_STOP) {
        text_join(whole, sizeof whole, cause, ": stop by ", by[d->by], where, d->note[0] ? ": " : "", d->note, NULL);
    } else {
        text_join(whole, sizeof whole, cause, ": ", drop_name(d->drop), ", ", pace_name(d->pace), " pace, wait ",
                  duration_format(d->delay_ms, delay), d->clamped ? " (clamped)" : "", " by ", by[d->by], where,
                  d->note[0] ? ": " : "", d->note, NULL);
    }
    entry_add(rt, c, fx->generation, JOURNAL_DECISION, fx, whole);
    /* What a person asked for alarms nobody. */
    bool alarm = d->pace == PACE_STOP && d->by != DECIDED_BY_OPERATOR;
    struct log_facts facts = { .kind = "decision", .generation = fx->generation, .cause = &d->cause,
                               .whose = blame_name(blame_of(&d->cause, d->planned, d->note)),
                               .verdict = rt_verdict_of(d),
                               .next = d->pace == PACE_STOP ? NULL : "dial",
                               .next_in_ms = d->delay_ms };
    log_about(rt, alarm ? LOG_ALARM : LOG_INFO, c, whole, &facts);
}

void rt_journal_free(struct rt_conn *c)
{
    for (uint32_t i = 0; i < c->journal_count; i++) free(c->journal[i]);
    free(c->journal);
    history_clear(&c->history);
}

void runtime_note(struct runtime *rt, struct handle conn, const char *text)
{
    struct rt_conn *c = rt_conn_get(rt, conn);
    if (c) rt_journal_note(rt, c, 0, JOURNAL_NOTE, "%s", text);
}

bool runtime_journal(const struct runtime *rt, struct handle conn, uint32_t index,
                     struct journal_entry *out)
{
    const struct rt_conn *c = rt_conn_get(rt, conn);
    if (!c || index >= c->journal_count) return false;
    uint32_t most = c->journal_capacity;
    const struct rt_entry *e = c->journal[(c->journal_next + most - 1 - index) % most];
    const char *at = e->bytes;
    memset(out, 0, sizeof *out);
    out->wall_ms = e->wall_ms;
    out->generation = e->generation;
    out->kind = e->kind;
    out->from = e->from;
    out->to = e->to;
    out->given_up = e->given_up;
    get_text(&at, out->file, sizeof out->file);
    get_text(&at, out->text, sizeof out->text);
    if (e->has_decision) get_decision(at, &out->decision);
    ASSERT(at <= e->bytes + e->len);
    return true;
}
