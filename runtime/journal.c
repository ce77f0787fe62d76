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
#define WHOLE_MAX 800

static struct journal_entry *entry_new(struct runtime *rt, struct rt_conn *c, uint32_t generation,
                                       int kind);

const char *cause_text(const struct cause *cause, char *out, size_t out_bytes)
{
    char codes[96] = "";
    int n = 0;
    if (cause->kind == CAUSE_NONE) {
        snprintf(out, out_bytes, "nothing yet");
        return out;
    }
    if (cause->close_code != CLOSE_CODE_NONE && cause->kind == CAUSE_CLOSED) {
        n += snprintf(codes + n, sizeof codes - (size_t)n, " %d", cause->close_code);
    }
    if (cause->http_status) {
        n += snprintf(codes + n, sizeof codes - (size_t)n, " HTTP %d", cause->http_status);
    }
    if (cause->code) {
        n += snprintf(codes + n, sizeof codes - (size_t)n, " (%lld)", (long long)cause->code);
    }
    snprintf(out, out_bytes, "%s%s by %s at %s%s%s", cause->name, codes, cause_by_name(cause->by),
             stage_name(cause->stage), cause->reason[0] ? ": " : "", cause->reason);
    return out;
}

void rt_log(struct runtime *rt, enum log_level level, const struct rt_conn *c, const char *format,
            ...)
{
    if (!rt->options.observer.log) return;
    char raw[600];
    va_list args;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    struct buffer text;
    buffer_init(&text, 4096);
    if (text_printable(&text, raw, strlen(raw)) && buffer_append_char(&text, 0)) {
        rt->options.observer.log(rt->options.observer.self, level, c ? c->name : NULL,
                                 (const char *)text.data);
    }
    buffer_deinit(&text);
}

static struct journal_entry *entry_new(struct runtime *rt, struct rt_conn *c, uint32_t generation,
                                       int kind)
{
    uint32_t most = rt->options.journal_entries;
    if (!c->journal) {
        c->journal = calloc(most, sizeof *c->journal);
        ASSERT(c->journal != NULL);
    }
    struct journal_entry **slot = &c->journal[c->journal_next];
    if (!*slot) {
        *slot = malloc(sizeof **slot);
        ASSERT(*slot != NULL);
    }
    c->journal_next = (c->journal_next + 1) % most;
    if (c->journal_count < most) c->journal_count++;
    struct journal_entry *e = *slot;
    memset(e, 0, sizeof *e);
    e->wall_ms = rt_clock(rt).wall_ms;
    e->generation = generation;
    e->kind = kind;
    text_copy(e->file, sizeof e->file, c->build->build->plan.file,
              strlen(c->build->build->plan.file));
    return e;
}

void rt_journal_note(struct runtime *rt, struct rt_conn *c, uint32_t generation, int kind,
                     const char *format, ...)
{
    struct journal_entry *e = entry_new(rt, c, generation, kind);
    va_list args;
    va_start(args, format);
    vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
}

void rt_journal_state(struct runtime *rt, struct rt_conn *c, const struct effect *fx)
{
    struct journal_entry *e = entry_new(rt, c, fx->generation, JOURNAL_STATE);
    struct clock now = rt_clock(rt);
    char whole[WHOLE_MAX], cause[300] = "", next[96] = "", delay[DURATION_TEXT_MAX];
    e->from = fx->state.from;
    e->to = fx->state.to;
    if (fx->state.cause.kind != CAUSE_NONE && fx->state.to != CONN_UP) {
        char text[280];
        snprintf(cause, sizeof cause, " on %s", cause_text(&fx->state.cause, text, sizeof text));
    }
    if (fx->state.next_ms != ENGINE_NEVER) {
        struct engine_view view;
        uint64_t wait_ms = fx->state.next_ms > now.mono_ms ? fx->state.next_ms - now.mono_ms : 0;
        snprintf(next, sizeof next, "; %s in %s",
                 engine_get(rt->engine, c->self, &view) && view.next ? view.next : "next",
                 duration_format(wait_ms, delay));
    }
    snprintf(whole, sizeof whole, "%s -> %s%s%s", conn_state_name(fx->state.from),
             conn_state_name(fx->state.to), cause, next);
    text_copy(e->text, sizeof e->text, whole, strlen(whole));
    /* The decision before it said why and for how long; the log keeps to what an operator acts on. */
    bool told = fx->state.to == CONN_UP || fx->state.to == CONN_STOPPED || fx->state.to == CONN_QUEUED;
    rt_log(rt, told ? LOG_INFO : LOG_DEBUG, c, "link=%u %s", fx->generation, whole);
}

void rt_journal_decision(struct runtime *rt, struct rt_conn *c, const struct effect *fx)
{
    static const char *const by[] = { [DECIDED_BY_RULE] = "rule", [DECIDED_BY_HOOK] = "on_ended",
                                      [DECIDED_BY_CLIMB] = "climb", [DECIDED_BY_ENGINE] = "engine",
                                      [DECIDED_BY_OPERATOR] = "operator" };
    const struct decision *d = &fx->journal;
    struct journal_entry *e = entry_new(rt, c, fx->generation, JOURNAL_DECISION);
    char whole[WHOLE_MAX], delay[DURATION_TEXT_MAX], where[160] = "", cause[280];
    e->decision = *d;
    if (d->line) snprintf(where, sizeof where, " (%s:%u)", e->file, d->line);
    if (d->pace == PACE_STOP) {
        snprintf(whole, sizeof whole, "%s: stop by %s%s%s%s",
                 cause_text(&d->cause, cause, sizeof cause), by[d->by], where,
                 d->note[0] ? ": " : "", d->note);
    } else {
        snprintf(whole, sizeof whole, "%s: %s, %s pace, wait %s%s by %s%s%s%s",
                 cause_text(&d->cause, cause, sizeof cause), drop_name(d->drop), pace_name(d->pace),
                 duration_format(d->delay_ms, delay), d->clamped ? " (clamped)" : "", by[d->by],
                 where, d->note[0] ? ": " : "", d->note);
    }
    text_copy(e->text, sizeof e->text, whole, strlen(whole));
    /* What a person asked for alarms nobody. */
    bool alarm = d->pace == PACE_STOP && d->by != DECIDED_BY_OPERATOR;
    rt_log(rt, alarm ? LOG_ALARM : LOG_INFO, c, "link=%u %s", fx->generation, whole);
}

void rt_journal_free(struct rt_conn *c)
{
    for (uint32_t i = 0; i < c->journal_count; i++) free(c->journal[i]);
    free(c->journal);
}

bool runtime_journal(const struct runtime *rt, struct handle conn, uint32_t index,
                     struct journal_entry *out)
{
    const struct rt_conn *c = rt_conn_get(rt, conn);
    if (!c || index >= c->journal_count) return false;
    uint32_t most = rt->options.journal_entries;
    *out = *c->journal[(c->journal_next + most - 1 - index) % most];
    return true;
}
