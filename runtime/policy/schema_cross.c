/* What one key alone cannot tell: numbers that must fit each other, tables that need a hook, hooks
 * that nothing calls. An error is what would break an invariant or do nothing; a warning is legal
 * and unwise. */
#include <stdio.h>
#include <string.h>

#include "base/duration.h"
#include "policy/schema_internal.h"

static void alive(struct schema *s);
static void beat(struct schema *s);
static void delays(struct schema *s);
static void budgets(struct schema *s);
static void frames(struct schema *s);
static void acks(struct schema *s);
static void backlog(struct schema *s);

static bool has(const struct schema *s, const char *table, const char *key)
{
    const struct value *t = value_get(&s->tables, table);
    return key ? value_get(t, key) != NULL : t != NULL;
}

static bool has_url_option(const struct schema *s)
{
    const struct value *options = value_get(s->policy, "options");
    for (uint32_t i = 0; options && options->kind == VALUE_TABLE && i < options->table->count;
         i++) {
        const char *type = value_get_text(&options->table->pairs[i].value, "type");
        if (type && strcmp(type, "url") == 0) return true;
    }
    return false;
}

void schema__cross(struct schema *s)
{
    struct plan *p = &s->shape->plan;
    p->beat.on = has(s, "beat", NULL);
    p->beat.answered = s->shape->rules.beat_answer.count > 0;
    p->session.on = has(s, "session", NULL);
    alive(s);
    beat(s);
    delays(s);
    budgets(s);
    frames(s);
    backlog(s);
    if (!has(s, "hosts", NULL) && !has_url_option(s)) {
        schema__warn_at(s, "hosts", "is missing, and no option is a url: it may dial nowhere");
    }
    if (!has(s, "identity", NULL)) {
        schema__warn_at(s, "identity", "is missing: two connections with one token go unnoticed");
    }
    if (!has(s, "classify", NULL)) {
        schema__warn_at(s, "classify", "is missing: every ending is taken as \"resume\"");
    }
}

static void alive(struct schema *s)
{
    struct plan *p = &s->shape->plan;
    char a[DURATION_TEXT_MAX], b[DURATION_TEXT_MAX];
    if (p->silence_ms && p->ping_ms && p->silence_ms <= p->ping_ms) {
        schema__error_at(s, "alive.silence", "alive.ping",
                         "silence (%s) must be longer than ping (%s), or a healthy link is killed",
                         duration_format(p->silence_ms, a), duration_format(p->ping_ms, b));
    }
    if (p->silence_ms && !p->ping_ms && !p->promised) {
        schema__error_at(
            s, "alive.silence", "alive.ping",
            "nothing may judge silence: we send no ping and the platform promised none");
    }
    if (!p->silence_ms && p->promised) {
        schema__error_at(s, "alive.promised", "alive.silence",
                         "needs alive.silence: how long may the promised keep-alives stay away?");
    }
    if (!p->silence_ms && !p->beat.answered) {
        schema__error_at(s, "alive.silence", NULL,
                         "nothing would notice a dead peer: set silence, or beat with an answer");
    }
    if (p->limits_ms.call > p->limits_ms.prepare) {
        schema__warn_at(s, "limits.call", "one call may take longer than limits.prepare allows");
    }
    if (p->retire_after_ms && p->retire_after_ms <= p->backoff.settle_ms) {
        schema__error_at(s, "retire.after", "backoff.settle",
                         "retires links before they settle, so that each counts as a failure");
    }
}

static void beat(struct schema *s)
{
    struct plan *p = &s->shape->plan;
    if (p->beat.on && !p->has_on_beat) {
        schema__error_at(s, "beat", NULL,
                         "needs on_beat, the function that yields the beat's frame");
    }
    if (!p->beat.on && p->has_on_beat) {
        schema__warn_at(s, "on_beat", "is never called: there is no beat table");
    }
    if (p->beat.on && has(s, "beat", "dead") && !p->beat.answered) {
        schema__error_at(s, "beat.dead", NULL, "counts unanswered beats: name beat.answer");
    }
    if (p->beat.on && p->beat.within_ms && !p->beat.answered) {
        schema__error_at(s, "beat.within", NULL, "waits for answers: name beat.answer");
    }
    if (p->beat.on && p->beat.every_ms && p->backoff.settle_ms < p->beat.every_ms) {
        schema__warn_at(s, "backoff.settle",
                        "a link settles before its first beat is answered; the interval is longer");
    }
}

static void delays(struct schema *s)
{
    struct plan *p = &s->shape->plan;
    if (p->backoff.first_ms > p->backoff.most_ms) {
        schema__error_at(s, "backoff.first", "backoff.most", "first is above most");
    }
    if (p->backoff.floor_ms > p->backoff.most_ms) {
        schema__error_at(s, "backoff.floor", "backoff.most", "floor is above most");
    }
    if (p->slow.first_ms > p->slow.most_ms) {
        schema__error_at(s, "slow.first", "slow.most", "first is above most");
    }
    if (p->backoff.jitter == JITTER_NONE) {
        schema__warn_at(s, "backoff.jitter",
                        "without jitter all connections return at the same instant");
    }
    if (p->backoff.factor == 1 && p->backoff.first_ms < 1000) {
        schema__warn_at(s, "backoff.factor", "the delay never grows and is under a second");
    }
}

static void budgets(struct schema *s)
{
    static const char *const names[] = { "budgets.start", "budgets.dial", "budgets.call",
                                         "budgets.send" };
    struct plan *p = &s->shape->plan;
    const struct value *all = value_get(&s->tables, "budgets");
    for (int i = 0; i < BUDGET_COUNT; i++) {
        struct budget_plan *b = &p->budgets[i];
        b->on = b->window_count > 0 || b->gap_ms > 0;
        if (!b->on && value_get(all, names[i] + strlen("budgets."))) {
            schema__error_at(s, names[i], NULL, "limits nothing: give it windows or gap");
        }
    }
    const struct budget_plan *send = &p->budgets[BUDGET_SEND];
    for (uint32_t i = 0; i < send->window_count; i++) {
        if (send->beats < send->windows[i].count) continue;
        schema__error_at(s, "budgets.send.beats", "budgets.send.windows",
                         "leaves no send for anything but beats");
        break;
    }
    if (send->beats && !p->beat.on) {
        schema__warn_at(s, "budgets.send.beats", "keeps sends free for beats that nobody sends");
    }
}

static void frames(struct schema *s)
{
    struct plan *p = &s->shape->plan;
    struct frame_rules *r = &s->shape->rules;
    if (p->has_on_frame && r->inspect.count == 0) {
        schema__warn_at(s, "on_frame", "is never called: frames.inspect names no frame");
    }
    if (!p->has_on_frame && r->inspect.count > 0) {
        schema__warn_at(s, "frames.inspect", "nobody looks: there is no on_frame");
    }
    if (r->remember_count && !p->session.on) {
        schema__error_at(s, "frames.remember", NULL,
                         "needs the session table: it fills conn.session");
    }
    for (uint32_t i = 0; r->follows.on && i < r->remember_count; i++) {
        if (r->remember[i].field != r->follows.field) continue;
        memcpy(r->follows.key, r->remember[i].key, sizeof r->follows.key);
    }
    if (r->follows.on && !r->follows.key[0]) {
        schema__error_at(s, "frames.follows.by", NULL, "needs frames.remember to keep it: it is compared with what was remembered");
    }
    if (r->follows.on && p->overlap) {
        schema__error_at(s, "frames.follows", "overlap", "excludes overlap = 1: two links would count in one session");
    }
    if (has(s, "frames", "join") && r->codec != CODEC_PROTOBUF) {
        schema__error_at(s, "frames.join", NULL,
                         "belongs to codec = \"protobuf\": only messages of a layout come in parts");
    }
    acks(s);
}

/* "frames.ack.frame", or "frames.ack[2].frame" in a list. */
static const char *ack_path(const struct schema *s, uint32_t row, const char *key, char out[48])
{
    bool list = value_length(value_get(value_get(&s->tables, "frames"), "ack")) > 0;
    if (list) snprintf(out, 48, "frames.ack[%u]%s%s", row + 1, key ? "." : "", key ? key : "");
    else snprintf(out, 48, "frames.ack%s%s", key ? "." : "", key ? key : "");
    return out;
}

static void acks(struct schema *s)
{
    struct frame_rules *r = &s->shape->rules;
    char path[48];
    bool hook = value_get(&s->tables, "on_ack") != NULL, called = false, framed = false;
    for (uint32_t i = 0; i < r->ack_count; i++) {
        const struct ack_rule *a = &r->acks[i];
        bool made = a->frame || a->changes;
        framed = framed || made;
        called = called || (a->when != ACK_NONE && !made);
        if (a->when != ACK_NONE && !made && !hook) {
            schema__error_at(s, ack_path(s, i, NULL, path), NULL,
                             "needs `frame`, `echo` or the function on_ack");
        }
        if (a->frame && a->change_count) {
            schema__error_at(s, ack_path(s, i, "frame", path), NULL, "excludes `echo`");
        }
        if (a->reply && (!a->change_count || a->when != ACK_THROUGH)) {
            schema__error_at(s, ack_path(s, i, "reply", path), NULL,
                             "is for when = \"through\" with `echo`");
        }
        if (a->when != ACK_EARLY && a->at_risk) {
            schema__error_at(s, ack_path(s, i, "at_risk", path), NULL, "is for when = \"early\"");
        }
        if (a->when == ACK_THROUGH && !a->within_ms) {
            schema__error_at(s, ack_path(s, i, "when", path), NULL,
                             "\"through\" needs `within`, the platform's deadline");
        }
    }
    if (hook && framed && !called) {
        schema__error_at(s, ack_path(s, 0, "frame", path), NULL,
                         "excludes on_ack: one of them makes the frame");
    } else if (hook && !called) {
        schema__warn_at(s, "on_ack", "is never called: frames.ack.when is not set");
    }
}

static void backlog(struct schema *s)
{
    struct plan *p = &s->shape->plan;
    if (p->backlog.full != BACKLOG_HOLD) return;
    if (p->silence_ms && p->backlog.hold_ms >= p->silence_ms) {
        schema__error_at(s, "backlog.hold_for", "alive.silence",
                         "must be shorter than alive.silence, or holding looks like death");
    }
    if (p->beat.on && p->beat.every_ms && p->backlog.hold_ms >= p->beat.least_ms) {
        schema__error_at(s, "backlog.hold_for", "beat.every",
                         "must be shorter than the least beat interval, or beats go unanswered");
    }
}
