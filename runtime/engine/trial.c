/* Trial: see trial.h. Every sentence here is for an operator at three in the morning: it tells numbers of both sides. */
#include "engine/trial.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/duration.h"

/* Terms of a tail below it no longer change the sum. */
#define TERM_MIN 1e-12

struct words {
    char *at;
    uint32_t left;
};

static void say(struct words *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct words *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(w->at, w->left, format, args);
    va_end(args);
    uint32_t used = n < 0 ? 0 : (uint32_t)n < w->left ? (uint32_t)n : w->left - 1;
    w->at += used;
    w->left -= used;
}

static const char *s_of(uint64_t n)
{
    return n == 1 ? "" : "s";
}

const char *trial_outcome_name(enum trial_outcome o)
{
    switch (o) {
    case TRIAL_GOES_ON: return "goes_on";
    case TRIAL_WORSE: return "worse";
    case TRIAL_GOOD: return "good";
    case TRIAL_NO_VERDICT: return "no_verdict";
    }
    return "";
}

double trial_chance(uint64_t hits, uint64_t all, double part)
{
    ASSERT(hits <= all);
    if (hits == 0 || part >= 1) return 1;
    if (part <= 0) return 0;
    const double odds = part / (1 - part), n = (double)all;
    int sign; /* of gammas, all positive here */
    double term = exp(lgamma_r(n + 1, &sign) - lgamma_r((double)hits + 1, &sign) - lgamma_r(n - (double)hits + 1, &sign) +
                      (double)hits * log(part) + (n - (double)hits) * log1p(-part));
    double sum = 0;
    for (uint64_t k = hits; k <= all; k++) {
        sum += term;
        const double next = term * (n - (double)k) / ((double)k + 1) * odds;
        if (next < TERM_MIN && next < term) break;
        term = next;
    }
    return sum < 1 ? sum : 1;
}

uint32_t trial_count(uint32_t eligible, double share)
{
    if (eligible == 0) return 0;
    /* A share such as 0.1 is not exact: 10 % of 40 are 4. */
    double wished = ceil(share * eligible - 1e-9);
    uint32_t n = wished < 1 ? 1 : wished > eligible ? eligible : (uint32_t)wished;
    if (share < 1 && n == eligible && eligible > 1) n--;
    return n;
}

static bool past_is_known(const struct trial_facts *f)
{
    return f->past.connections && f->past.ms >= TRIAL_PAST_MS_MIN;
}

static bool unlikely(uint32_t tried, uint64_t tried_ms, uint32_t reference, uint64_t reference_ms)
{
    if (tried_ms + reference_ms == 0) return false;
    const double part = (double)tried_ms / (double)(tried_ms + reference_ms);
    return trial_chance(tried, (uint64_t)tried + reference, part) <= TRIAL_CHANCE_MAX;
}

/* Worse than each reference that there is; `alone`: so many prove it when there is none. */
static bool count_is_worse(const struct trial_facts *f, uint32_t tried, uint32_t others, uint32_t past, uint32_t alone)
{
    const bool have_others = f->others.connections > 0, have_past = past_is_known(f);
    if (tried < TRIAL_HITS_MIN) return false;
    if (!have_others && !have_past) return tried >= alone;
    if (have_others && !unlikely(tried, f->tried.ms, others, f->others.ms)) return false;
    return !have_past || unlikely(tried, f->tried.ms, past, f->past.ms);
}

static double predicted(const struct trial_side *reference, uint32_t hits, uint64_t ms)
{
    return reference->ms ? (double)hits * (double)ms / (double)reference->ms : 0;
}

static void say_references(struct words *w, const struct trial_facts *f, uint32_t others, uint32_t past)
{
    const bool have_others = f->others.connections > 0, have_past = past_is_known(f);
    if (have_others) {
        if (others) say(w, "; %u in the other %u, which predicts %.1f", others, f->others.connections,
                        predicted(&f->others, others, f->tried.ms));
        else say(w, "; none in the other %u", f->others.connections);
    }
    if (have_past) {
        if (past) say(w, "%s their own past predicts %.1f", have_others ? "," : ";", predicted(&f->past, past, f->tried.ms));
        else say(w, "%s none in their own past", have_others ? "," : ";");
    }
    if (!have_others && !have_past) say(w, "; there is nothing to compare with");
}

static bool errors_are_worse(const struct trial_facts *f, bool at_end, struct words *w)
{
    const struct trial_side *t = &f->tried;
    const bool new_ones = !f->others.hook_errors && !(f->past.connections && f->past.hook_errors);
    const bool worse = new_ones ? t->hook_errors >= (at_end ? 1 : TRIAL_ERRORS_AT_ONCE)
                                : count_is_worse(f, t->hook_errors, f->others.hook_errors, f->past.hook_errors, UINT32_MAX);
    if (!worse) return false;
    say(w, "%u hook error%s in %u of %u connection%s", t->hook_errors, s_of(t->hook_errors), t->hook_errors_in, t->connections,
        s_of(t->connections));
    say_references(w, f, f->others.hook_errors, f->past.hook_errors);
    if (f->error && f->error[0]) say(w, "; the last: %.160s", f->error);
    return true;
}

static bool pace_is_worse(const struct trial_facts *f, struct words *w)
{
    const struct trial_side *t = &f->tried;
    if (t->stops && !f->others.stops) {
        say(w, "%u of %u connection%s stopped for good", t->stops, t->connections, s_of(t->connections));
        say_references(w, f, 0, 0);
        return true;
    }
    if (t->slows >= TRIAL_SLOWS_AT_ONCE && !f->others.slows && !f->past.slows) {
        say(w, "%u slow paces in %u connection%s", t->slows, t->connections, s_of(t->connections));
        say_references(w, f, 0, 0);
        return true;
    }
    return false;
}

static bool endings_are_worse(const struct trial_facts *f, struct words *w)
{
    const struct trial_side *t = &f->tried;
    if (f->weather) return false;
    if (!count_is_worse(f, t->endings, f->others.endings, f->past.endings, TRIAL_ENDINGS_EACH)) return false;
    say(w, "%u reconnect%s in %u of %u connection%s", t->endings, s_of(t->endings), t->endings_in, t->connections,
        s_of(t->connections));
    say_references(w, f, f->others.endings, f->past.endings);
    return true;
}

static bool is_slower(const struct trial_facts *f, const struct trial_side *reference)
{
    return f->tried.ready_ms > reference->ready_ms * TRIAL_READY_FACTOR + TRIAL_READY_MORE_MS;
}

/* Of the same hour when the others came up as well; otherwise the tried ones' own last times. */
static bool ready_is_worse(const struct trial_facts *f, struct words *w)
{
    char now[DURATION_TEXT_MAX], before[DURATION_TEXT_MAX];
    const bool others = f->others.readies >= TRIAL_READIES_MIN;
    const bool past = f->past.readies >= TRIAL_READIES_MIN || (f->past.readies && f->past.readies >= f->tried.connections);
    const struct trial_side *reference = others ? &f->others : &f->past;
    if (f->weather || f->tried.readies < TRIAL_READIES_MIN || !(others || past) || !is_slower(f, reference)) return false;
    say(w, "ready after %s (median of %u)", duration_span(f->tried.ready_ms, now), f->tried.readies);
    say(w, "; %s after %s (of %u)", others ? "the others" : "before", duration_span(reference->ready_ms, before), reference->readies);
    return true;
}

/* Those lost on the other side are the share that chance, or the platform, takes. */
static bool too_many_lost(const struct trial_facts *f)
{
    const struct trial_side *t = &f->tried, *o = &f->others;
    if (!t->lost) return false;
    return !o->connections || (uint64_t)t->lost * o->connections > (uint64_t)o->lost * t->connections;
}

void trial_side_text(const struct trial_side *s, char *out, uint32_t bytes)
{
    char ready[DURATION_TEXT_MAX];
    struct words w = { out, bytes };
    say(&w, "%u connection%s, %u hook error%s, %u reconnect%s", s->connections, s_of(s->connections), s->hook_errors,
        s_of(s->hook_errors), s->endings, s_of(s->endings));
    if (s->stops) say(&w, ", %u stopped", s->stops);
    if (s->slows) say(&w, ", %u slow pace%s", s->slows, s_of(s->slows));
    if (s->readies) say(&w, ", ready after %s", duration_span(s->ready_ms, ready));
}

static void say_good(struct words *w, const struct trial_facts *f)
{
    char text[160], span[DURATION_TEXT_MAX];
    trial_side_text(&f->tried, text, sizeof text);
    say(w, "after %s: %s", duration_span(f->all_ms, span), text);
    if (f->others.connections) {
        trial_side_text(&f->others, text, sizeof text);
        say(w, "; the others: %s", text);
    }
    if (!f->tried.readies) say(w, "; none of them connected anew, so prepare and greet were not put to the test");
}

enum trial_outcome trial_judge(const struct trial_facts *f, char why[TRIAL_WHY_MAX])
{
    struct words w = { why, TRIAL_WHY_MAX };
    const bool at_end = f->fair_ms >= f->watch_ms, last = f->all_ms >= f->watch_ms * TRIAL_WINDOWS_MAX;
    why[0] = 0;
    ASSERT(f->fair_ms <= f->all_ms);
    if (errors_are_worse(f, at_end || last, &w) || pace_is_worse(f, &w) || endings_are_worse(f, &w) || ready_is_worse(f, &w))
        return TRIAL_WORSE;
    if (at_end && !f->weather && !too_many_lost(f)) {
        say_good(&w, f);
        return TRIAL_GOOD;
    }
    if (f->weather) say(&w, "both sides are failing together: that says nothing of the version");
    else if (too_many_lost(f)) say(&w, "%u of %u connection%s that were well are not", f->tried.lost, f->tried.connections,
                                   s_of(f->tried.connections));
    else if (f->all_ms >= f->watch_ms) say(&w, "too much of its time went by while both sides were failing together");
    if (!last) {
        if (f->all_ms < f->watch_ms) why[0] = 0;
        return TRIAL_GOES_ON;
    }
    return TRIAL_NO_VERDICT;
}
