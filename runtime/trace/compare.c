/* Compare: two replays in step. What differs only in lines and notes of the two texts is equal. */
#include "trace/compare.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "trace/mask.h"
#include "trace/step.h"

/* A loop that was busy looks at its deadlines late. */
#define LATE_MS_MAX 2000

struct pair {
    struct replayer *own, *other;
    struct replay_view a, b;
    struct mask none;
    struct buffer scratch;
    struct comparison *out;
};

const char *decision_verdict(const struct decision *d)
{
    return d->pace != PACE_NORMAL ? pace_name(d->pace) : drop_name(d->drop);
}

const char *effect_words(const struct effect *fx, const char *file, char out[PARTED_TEXT_MAX])
{
    const size_t bytes = PARTED_TEXT_MAX;
    if (!fx) {
        snprintf(out, bytes, "nothing");
        return out;
    }
    const struct decision *d = &fx->journal;
    char line[16] = "";
    switch (fx->kind) {
    case FX_JOURNAL:
        if (d->line) snprintf(line, sizeof line, ":%u", d->line); /* 0: no rule of the file decided it */
        snprintf(out, bytes, "decides %s%s after %llu ms (%s%s%s%s), for %s at %s%s%s", decision_verdict(d),
                 d->planned ? ", planned," : "", (unsigned long long)d->delay_ms, file, line,
                 d->note[0] ? ": " : "", d->note, d->cause.name, stage_name(d->cause.stage),
                 d->cause.reason[0] ? ": " : "", d->cause.reason);
        break;
    case FX_STATE:
        snprintf(out, bytes, "goes from %s to %s", conn_state_name(fx->state.from), conn_state_name(fx->state.to));
        break;
    case FX_CLOSE: snprintf(out, bytes, "closes with %u %s", fx->close.code, fx->close.reason); break;
    case FX_ALARM: snprintf(out, bytes, "raises an alarm: %s", fx->alarm.text); break;
    case FX_GAP: snprintf(out, bytes, "tells of a gap: %s", fx->gap.cause); break;
    case FX_DROP_FETCHED: snprintf(out, bytes, "drops what was fetched: %s", fx->drop_fetched.name[0] ? fx->drop_fetched.name : "all"); break;
    case FX_REFUSE: snprintf(out, bytes, "refuses a send: %s", refuse_text(fx->refuse.why)); break;
    default: snprintf(out, bytes, "orders: %s", effect_name(fx->kind)); break;
    }
    return out;
}

static bool same(struct pair *p, const struct effect *a, const struct effect *b)
{
    return effect_hash(0, a, false, &p->none, &p->scratch) == effect_hash(0, b, false, &p->none, &p->scratch);
}

static void part(struct pair *p, enum parted how)
{
    p->out->parted = how;
    p->out->at = p->a.at;
    p->out->number = p->a.number;
    text_copy(p->out->was_file, sizeof p->out->was_file, p->a.policy, strlen(p->a.policy));
    text_copy(p->out->is_file, sizeof p->out->is_file, p->b.policy, strlen(p->b.policy));
}

/* NULL: past the end, or none. */
static const struct effect *nth(const struct effect_list *list, uint32_t i)
{
    return i < list->count ? &list->items[i] : NULL;
}

static const struct effect *decision_of(const struct effect_list *list)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->items[i].kind == FX_JOURNAL) return &list->items[i];
    }
    return NULL;
}

static bool differ(struct pair *p, const struct effect *a, const struct effect *b)
{
    return a && b ? !same(p, a, b) : a != b;
}

static bool effects_part(struct pair *p)
{
    const struct effect_list *a = p->a.effects, *b = p->b.effects;
    /* A decision says more than what follows from it. */
    const struct effect *was = decision_of(a), *is = decision_of(b);
    for (uint32_t i = 0; !differ(p, was, is); i++) {
        if (i >= a->count && i >= b->count) return false;
        was = nth(a, i);
        is = nth(b, i);
    }
    part(p, PARTED_EFFECT);
    p->out->event = p->a.event->kind;
    p->out->has_was = was != NULL;
    p->out->has_is = is != NULL;
    if (was) p->out->was_effect = *was;
    if (is) p->out->is_effect = *is;
    return true;
}

/* The line in which two texts part, of each. */
static void lines_part(const char *was, const char *is, struct comparison *out)
{
    size_t at = 0, from;
    while (was[at] && was[at] == is[at]) at++;
    for (from = at; from && was[from - 1] != '\n'; from--) {}
    text_copy(out->was, sizeof out->was, was + from, strcspn(was + from, "\n"));
    text_copy(out->is, sizeof out->is, is + from, strcspn(is + from, "\n"));
}

static bool hooks_part(struct pair *p)
{
    if (!p->a.run) return false;
    if (p->b.run && p->a.result == p->b.result && strcmp(p->a.said, p->b.said) == 0) return false;
    part(p, PARTED_HOOK);
    p->out->hook = p->a.hook->hook;
    memcpy(p->out->name, p->a.hook->name, sizeof p->out->name);
    if (p->b.run) lines_part(p->a.said, p->b.said, p->out);
    else snprintf(p->out->is, sizeof p->out->is, "it cannot be run on what was recorded");
    return true;
}

/* Before this step came, the other one wanted to act, and the own one did not. */
static bool earlier(struct pair *p, const struct engine_view *a, const struct engine_view *b)
{
    uint64_t now = p->a.at.mono_ms;
    if (b->deadline_ms == ENGINE_NEVER || b->deadline_ms >= a->deadline_ms) return false;
    if (now < b->deadline_ms + LATE_MS_MAX) return false;
    part(p, PARTED_EARLIER);
    p->out->earlier_ms = now - b->deadline_ms;
    text_copy(p->out->was, sizeof p->out->was, a->next, strlen(a->next));
    text_copy(p->out->is, sizeof p->out->is, b->next, strlen(b->next));
    return true;
}

static void tell(const struct replay_view *v, compare_decided *decided, void *self)
{
    for (uint32_t i = 0; decided && v->kind == RECORD_STEP && i < v->effects->count; i++) {
        const struct effect *fx = &v->effects->items[i];
        if (fx->kind == FX_JOURNAL) decided(self, &fx->journal, &v->at, v->policy);
    }
}

bool replay_compare(const struct trace_file *trace, const char *other, const char *lua_path,
                    compare_decided *decided, void *self, struct comparison *out, char *why, size_t why_bytes)
{
    struct pair p = { .out = out };
    memset(out, 0, sizeof *out);
    struct replay_options options = { .trace = trace, .lua_path = lua_path };
    p.own = replay_create(&options, why, why_bytes);
    options.policy_path = other;
    if (p.own && other) p.other = replay_create(&options, why, why_bytes);
    if (!p.own || (other && !p.other)) {
        replay_destroy(p.own);
        return false;
    }
    mask_init(&p.none);
    buffer_init(&p.scratch, 0);
    enum replay_result result = REPLAY_OVER;
    while (out->parted == PARTED_NEVER) {
        struct engine_view a, b;
        bool both = p.other && replay_engine_view(p.own, &a) && replay_engine_view(p.other, &b);
        result = replay_next(p.own, &p.a, why, why_bytes);
        if (result != REPLAY_NEXT) break;
        replay_totals_add(p.own, &p.a, &out->totals);
        if (!p.other) {
            tell(&p.a, decided, self);
            continue;
        }
        if (replay_next(p.other, &p.b, out->is, sizeof out->is) != REPLAY_NEXT) {
            p.b.policy = other;
            part(&p, PARTED_REFUSED);
            break;
        }
        if (p.a.kind == RECORD_STEP && both && earlier(&p, &a, &b)) break;
        tell(&p.b, decided, self);
        if (p.a.kind == RECORD_STEP ? effects_part(&p) : hooks_part(&p)) break;
    }
    buffer_deinit(&p.scratch);
    replay_destroy(p.own);
    replay_destroy(p.other);
    return result != REPLAY_BROKEN;
}
