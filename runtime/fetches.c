/* Fetches: values that HTTP yields, cached here so that no policy has to: single flight, expiry, a stale
 * value while a renewal fails, shared by the connections of an account. A value is renewed when somebody asks
 * for it, or with `renew` some time before its end, while a connection that it belongs to is wanted. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/duration.h"
#include "base/rng.h"
#include "base/text.h"
#include "base/url.h"
#include "runtime_internal.h"

#define IDLE_MS       ((uint64_t)3600 * 1000)
#define IDLE_STALE_MS ((uint64_t)7 * 24 * 3600 * 1000) /* an old one may still serve */
#define SWEEP_AT_LEAST 64

/* A renewal that failed is tried again after 1, 2, 4 ... 30 s, or later where the policy's rules say so. One
 * that brought little time (the same value, say) is followed by the next after a quarter of it. */
#define RENEW_FIRST_MS ((uint64_t)1000)
#define RENEW_MOST_MS  ((uint64_t)30 * 1000)
#define RENEW_LEAST_MS ((uint64_t)2 * 1000)

/* A single-use value (keep 0) still serves those who waited for the same call. */
static void fetch_fail(struct runtime *rt, struct rt_fetch *f, const struct cause *cause);
static void waiters_serve(struct runtime *rt, struct rt_fetch *f);
static void run(struct runtime *rt, struct rt_fetch *f, struct rt_conn *c, struct rt_build *build,
                uint32_t generation);
static void renew_arm(struct runtime *rt, struct rt_fetch *f, uint64_t wait_ms);
static void renew_after(struct runtime *rt, struct rt_fetch *f, uint64_t keep_ms);
static void renew_failed(struct runtime *rt, struct rt_fetch *f, struct handle conn);

static const struct fetch_rule *rule_of(const struct policy_build *build, const char *name)
{
    for (uint32_t i = 0; i < build->fetch_count; i++) {
        if (strcmp(build->fetch[i].name, name) == 0) return &build->fetch[i];
    }
    return NULL;
}

/* Where an option leads to, port and path included: two servers of one host are two servers. */
static uint64_t addresses_into(uint64_t key, const struct value *options)
{
    struct url url;
    const char *bad;
    for (uint32_t i = 0; options->kind == VALUE_TABLE && i < options->table->count; i++) {
        const struct value *v = &options->table->pairs[i].value;
        if (v->kind == VALUE_TABLE) key = addresses_into(key, v);
        if (v->kind != VALUE_STRING || !url_parse(v->string.bytes, v->string.len, &url, &bad)) continue;
        key = rng_mix(key ^ hash_bytes(v->string.bytes, v->string.len));
    }
    return key;
}

/* Everything that makes two calls ask for the same thing: the account, and the options (two connections
 * with one token may still name different hosts). */
static uint64_t key_of(const struct policy_build *build, const struct fetch_rule *rule)
{
    uint64_t options = 0;
    if (!rule->by_account) {
        struct buffer text; /* secrets stand in it by name */
        buffer_init(&text, 0);
        ASSERT(value_to_json(&build->options, &text));
        options = hash_bytes(text.data, text.len);
        buffer_deinit(&text);
    }
    uint64_t key = rng_draw(build->account, options, rule->by_account ? 0 : build->identity, 1);
    for (uint32_t i = 0; i < build->host_count; i++) key = rng_mix(key ^ hash_text(build->hosts[i]));
    return addresses_into(key, &build->options);
}

/* A version on trial and the one that it may replace do not read each other's values: their shapes may differ. */
static uint64_t key_for(const struct runtime *rt, const struct policy_build *build, const struct fetch_rule *rule)
{
    return key_of(build, rule) ^ rt_trial_salt(rt, build->version);
}

/* What nobody asked for in a long time is of a connection that is gone, or may as well be fetched anew. */
static void sweep(struct runtime *rt, uint64_t now_ms)
{
    uint32_t kept = 0;
    for (struct rt_fetch **at = &rt->fetches, *f; (f = *at);) {
        bool in_use = f->running || f->calling || f->waiter_count || f->expires_ms > now_ms;
        uint64_t idle_ms = f->rule.stale ? IDLE_STALE_MS : IDLE_MS;
        if (in_use || now_ms < f->asked_ms + idle_ms) {
            at = &f->next;
            kept++;
            continue;
        }
        MARK("a fetched value that nobody asks for is let go");
        *at = f->next;
        value_clear(&f->value);
        free(f);
    }
    rt->fetch_count = kept;
    rt->fetch_sweep_at = kept * 2 + SWEEP_AT_LEAST;
}

static struct rt_fetch *fetch_find(const struct runtime *rt, const struct policy_build *build,
                                   const struct fetch_rule *rule, uint64_t key)
{
    const char *policy = policy_name(build->version);
    for (struct rt_fetch *f = rt->fetches; f; f = f->next) {
        if (f->key == key && strcmp(f->rule.name, rule->name) == 0 && strcmp(f->policy, policy) == 0) return f;
    }
    return NULL;
}

const struct value *rt_fetch_value(const struct runtime *rt, const struct policy_build *build,
                                   const struct fetch_rule *rule)
{
    struct rt_fetch *f = fetch_find(rt, build, rule, key_for(rt, build, rule));
    return f ? &f->value : NULL;
}

static struct rt_fetch *fetch_of(struct runtime *rt, const struct policy_build *build,
                                 const struct fetch_rule *rule)
{
    uint64_t now_ms = rt_clock(rt).boot_ms;
    uint64_t key = key_for(rt, build, rule);
    const char *policy = policy_name(build->version);
    struct rt_fetch *f = fetch_find(rt, build, rule, key);
    if (f) {
        f->rule = *rule;
        f->asked_ms = now_ms;
        return f;
    }
    if (rt->fetch_count >= rt->fetch_sweep_at) sweep(rt, now_ms);
    rt->fetch_count++;
    f = calloc(1, sizeof *f);
    ASSERT(f != NULL);
    text_copy(f->policy, sizeof f->policy, policy, strlen(policy));
    f->key = key;
    f->rule = *rule;
    f->number = ++rt->fetch_numbers;
    f->value = value_nil();
    f->asked_ms = now_ms;
    f->next = rt->fetches;
    rt->fetches = f;
    return f;
}

enum rt_fetch_state rt_fetch_get(struct runtime *rt, struct rt_task *waiter, const char *name,
                                 struct rt_fetch **fetch_out, struct cause *cause_out)
{
    const struct fetch_rule *rule = rule_of(waiter->build->build, name);
    if (!rule) {
        *cause_out = cause_make(STAGE_PREPARING, CAUSE_HOOK, BY_POLICY, "conn:get names no fetch");
        return RT_FETCH_FAILED;
    }
    struct rt_fetch *f = fetch_of(rt, waiter->build->build, rule);
    uint64_t now_ms = rt_clock(rt).boot_ms;
    *fetch_out = f;
    f->asker = waiter->conn;
    bool have = f->value.kind != VALUE_NIL;
    if (have && !f->old && now_ms < f->expires_ms) return RT_FETCH_HAVE;
    if (f->running || f->calling) return RT_FETCH_WAIT;
    /* The gap keeps successful calls apart; failing ones are paced by the pause, or, without one, by the
     * attempts' backoff. */
    uint64_t next_ms = have ? f->called_ms + f->rule.gap_ms : 0;
    if (f->failed_ms && f->failed_ms + f->rule.pause_ms > next_ms) next_ms = f->failed_ms + f->rule.pause_ms;
    if (now_ms < next_ms && have && f->rule.stale) return RT_FETCH_HAVE;
    if (now_ms < next_ms) {
        *cause_out = cause_make(STAGE_PREPARING, CAUSE_FAILED, BY_US,
                                "called again before the fetch's gap was over");
        cause_rename(cause_out, "fetch_gap");
        cause_out->retry_after_ms = next_ms - now_ms;
        return RT_FETCH_FAILED;
    }
    struct rt_conn *c = rt_conn_get(rt, waiter->conn);
    ASSERT(c != NULL);
    run(rt, f, c, waiter->build, waiter->generation);
    if (f->failed) {
        f->failed = false;
        f->failed_ms = rt_clock(rt).boot_ms;
        *cause_out = f->failure;
        if (have && f->rule.stale) {
            MARK("a stale fetched value serves while renewal fails");
            return RT_FETCH_HAVE;
        }
        return RT_FETCH_FAILED;
    }
    return f->running ? RT_FETCH_WAIT : RT_FETCH_HAVE;
}

/* Calls the hook. Afterwards: running (it waits), failed (with its cause), or neither: value is there. */
static void run(struct runtime *rt, struct rt_fetch *f, struct rt_conn *c, struct rt_build *build,
                uint32_t generation)
{
    struct rt_task *t = rt_task_create(rt, c, build, generation, HOOK_FETCH, f->rule.name);
    struct call_answer answer;
    f->failed = false;
    if (!t) {
        f->failed = true;
        f->failure = cause_make(STAGE_PREPARING, CAUSE_INTERNAL, BY_US, "too many tasks");
        return;
    }
    t->fills = f;
    struct policy_call call = rt_call_of(rt, c, build, generation, HOOK_FETCH, f->rule.name);
    call_answer_init(&answer);
    f->calling = true;
    enum call_result result = rt_enter(rt, build, &call, &answer, t);
    if (result == CALL_WAITING) f->running = t;
    rt_task_go_on(rt, t, result, &answer);
    f->calling = false;
}

void rt_fetch_done(struct runtime *rt, struct rt_fetch *f, struct rt_task *t,
                   enum call_result result, struct call_answer *answer)
{
    bool nested = f->calling; /* rt_fetch_get() is on the stack and serves its own waiter */
    struct clock now = rt_clock(rt);
    f->running = NULL;
    if (result == CALL_OK && !f->failed && answer->value.kind != VALUE_NIL) {
        value_clear(&f->value);
        f->value = answer->value;
        answer->value = value_nil();
        uint64_t keep_ms = f->rule.keep_ms;
        const struct value *keep = value_get(&answer->info, "keep");
        uint64_t told;
        if (keep && keep->kind == VALUE_NUMBER && keep->number >= 0) {
            keep_ms = (uint64_t)keep->number;
        } else if (value_text(keep) && duration_parse(keep->string.bytes, keep->string.len, &told)) {
            keep_ms = told;
        }
        if (keep_ms > DURATION_MS_MAX) keep_ms = DURATION_MS_MAX;
        f->called_ms = now.boot_ms;
        f->expires_ms = now.boot_ms + keep_ms;
        f->failed_ms = 0;
        f->old = false;
        renew_after(rt, f, keep_ms);
        const struct value *left = value_get(&answer->info, "left");
        const struct value *reset = value_get(&answer->info, "reset");
        if (left || reset || value_get(&answer->info, "lanes")) {
            struct event ev = rt_event(EV_BUDGET_TOLD, t->conn, 0);
            ev.budget_told.budget = BUDGET_START;
            ev.budget_told.left = left && left->kind == VALUE_NUMBER && left->number >= 0 &&
                                          left->number < 1e12
                                      ? (int64_t)left->number
                                      : -1;
            double reset_ms = value_get_number(&answer->info, "reset", 0);
            double lanes = value_get_number(&answer->info, "lanes", 0);
            if (reset_ms > 0 && reset_ms <= (double)DURATION_MS_MAX) {
                ev.budget_told.reset_ms = (uint64_t)reset_ms;
            }
            if (lanes >= 1 && lanes <= 4096) ev.budget_told.lanes = (uint32_t)lanes;
            rt_post(rt, &ev);
        }
        if (!nested) waiters_serve(rt, f);
        return;
    }
    if (!f->failed) {
        f->failed = true;
        f->failure = result == CALL_OK
                         ? cause_make(STAGE_PREPARING, CAUSE_HOOK, BY_POLICY, "fetch answered nothing")
                         : rt_hook_cause(HOOK_FETCH, answer);
    }
    if (result != CALL_OK && !answer->ended) {
        struct rt_conn *c = rt_conn_get(rt, t->conn);
        if (c) rt_hook_failed(rt, c, t->generation, HOOK_FETCH, result, answer);
    }
    if (nested) return;
    f->failed = false;
    f->failed_ms = now.boot_ms;
    struct cause cause = f->failure;
    renew_failed(rt, f, t->conn);
    if (f->value.kind != VALUE_NIL && f->rule.stale) {
        MARK("a stale fetched value serves while renewal fails");
        waiters_serve(rt, f);
        return;
    }
    fetch_fail(rt, f, &cause);
}

void rt_fetch_wait(struct rt_fetch *f, struct rt_task *t)
{
    ASSERT(t->fetch == NULL);
    t->fetch = f;
    t->waiter_next = NULL;
    t->waiter_prev = f->waiters_tail;
    if (f->waiters_tail) f->waiters_tail->waiter_next = t;
    else f->waiters = t;
    f->waiters_tail = t;
    f->waiter_count++;
}

void rt_fetch_leave(struct rt_task *t)
{
    struct rt_fetch *f = t->fetch;
    if (!f) return;
    ASSERT(f->waiter_count > 0);
    if (t->waiter_prev) t->waiter_prev->waiter_next = t->waiter_next;
    else f->waiters = t->waiter_next;
    if (t->waiter_next) t->waiter_next->waiter_prev = t->waiter_prev;
    else f->waiters_tail = t->waiter_prev;
    f->waiter_count--;
    t->fetch = NULL;
    t->waiter_next = t->waiter_prev = NULL;
}

/* Only those that wait now: who is served and asks again waits for the next call. */
static void waiters_serve(struct runtime *rt, struct rt_fetch *f)
{
    for (uint32_t n = f->waiter_count; n && f->waiters; n--) {
        struct rt_task *t = f->waiters;
        struct resume_with with = { .kind = WAIT_FETCH, .answered = true, .value = &f->value };
        struct call_answer answer;
        call_answer_init(&answer);
        rt_fetch_leave(t);
        enum call_result result = rt_resume(rt, t, &with, &answer);
        rt_task_go_on(rt, t, result, &answer);
    }
}

static void fetch_fail(struct runtime *rt, struct rt_fetch *f, const struct cause *cause)
{
    for (uint32_t n = f->waiter_count; n && f->waiters; n--) {
        struct rt_task *t = f->waiters;
        rt_fetch_leave(t);
        rt_task_fail(rt, t, cause);
    }
}

void rt_fetch_orphaned(struct runtime *rt, struct rt_fetch *f)
{
    f->running = NULL;
    struct rt_task *t = rt->destroying ? NULL : f->waiters;
    if (!t) {
        /* A renewal that went with the link it ran beside: another connection's turn, or this one's later. */
        if (!rt->destroying && f->rule.renew.high && f->value.kind != VALUE_NIL) {
            renew_arm(rt, f, RENEW_FIRST_MS);
        }
        return;
    }
    struct rt_conn *c = rt_conn_get(rt, t->conn);
    ASSERT(c != NULL);
    run(rt, f, c, t->build, t->generation);
    if (f->running) return;
    bool failed = f->failed;
    f->failed = false;
    if (failed) f->failed_ms = rt_clock(rt).boot_ms;
    struct cause cause = f->failure;
    if (failed && !(f->value.kind != VALUE_NIL && f->rule.stale)) {
        fetch_fail(rt, f, &cause);
    } else {
        waiters_serve(rt, f);
    }
}

void rt_fetch_drop(struct runtime *rt, struct rt_conn *c, const char *name)
{
    const struct policy_build *build = c->build->build;
    for (uint32_t i = 0; i < build->fetch_count; i++) {
        if (name[0] && strcmp(name, build->fetch[i].name) != 0) continue;
        struct rt_fetch *f = fetch_of(rt, build, &build->fetch[i]);
        f->old = true;
        f->expires_ms = 0;
    }
}

/* --- before it is asked for ---------------------------------------------------------------------------- */

static void renew_arm(struct runtime *rt, struct rt_fetch *f, uint64_t wait_ms)
{
    f->renew_due_ms = rt_clock(rt).mono_ms + wait_ms;
    timers_arm(&rt->timers, &f->renew_timer_ms,
               (struct timer){ .due_ms = f->renew_due_ms, .kind = TIMER_RENEW, .index = f->number });
}

static uint64_t renew_draw(struct runtime *rt, struct rt_fetch *f)
{
    return rng_draw(rt->options.seed, f->key, f->draws++, 3);
}

static void renew_after(struct runtime *rt, struct rt_fetch *f, uint64_t keep_ms)
{
    f->renew_failures = 0;
    f->renew_due_ms = 0;
    if (f->rule.renew.high == 0) return;
    uint64_t before = rng_range(renew_draw(rt, f), f->rule.renew.low, f->rule.renew.high);
    uint64_t wait = keep_ms > before ? keep_ms - before : 0;
    if (wait < keep_ms / 4) {
        MARK("a renewal brought little time");
        wait = keep_ms / 4;
    }
    renew_arm(rt, f, wait > RENEW_LEAST_MS ? wait : RENEW_LEAST_MS);
}

/* The old value serves until its own end. What the rules call fatal waits until somebody needs a new one,
 * and is judged then. */
static void renew_failed(struct runtime *rt, struct rt_fetch *f, struct handle conn)
{
    struct rt_conn *c = rt_conn_get(rt, conn);
    if (f->rule.renew.high == 0 || !c || f->value.kind == VALUE_NIL || f->waiter_count) return;
    char text[256];
    uint32_t rung = f->renew_failures < 5 ? f->renew_failures : 5;
    uint64_t wait = RENEW_FIRST_MS << rung;
    if (wait > RENEW_MOST_MS) wait = RENEW_MOST_MS;
    wait = rng_range(renew_draw(rt, f), wait / 2, wait);
    uint64_t told = engine_pause_ms(c->build->build->plan, &f->failure, renew_draw(rt, f));
    cause_text(&f->failure, text, sizeof text);
    if (told == ENGINE_NEVER) {
        MARK("a renewal met a fatal cause");
        rt_journal_note(rt, c, 0, JOURNAL_ALARM, "%s was not renewed: %s", f->rule.name, text);
        rt_log(rt, LOG_ALARM, c, "%s was not renewed, and will not be: %s", f->rule.name, text);
        return;
    }
    if (f->renew_failures++ == 0) {
        rt_journal_note(rt, c, 0, JOURNAL_HOOK, "%s was not renewed yet: %s", f->rule.name, text);
    }
    if (told > wait) wait = told;
    if (f->rule.pause_ms > wait) wait = f->rule.pause_ms;
    renew_arm(rt, f, wait);
}

static bool wants(const struct runtime *rt, const struct rt_conn *c, const struct rt_fetch *f)
{
    struct engine_brief view;
    const struct policy_build *build = c->build->build;
    if (strcmp(policy_name(build->version), f->policy) != 0) return false;
    const struct fetch_rule *rule = rule_of(build, f->rule.name);
    if (!rule || !engine_get_brief(rt->engine, c->self, &view) || !view.wanted || view.stop_is_fatal) return false;
    return view.generation != 0 && key_for(rt, build, rule) == f->key;
}

/* Who asked last, or any other that shares the value; NULL when nobody needs it any more. */
static struct rt_conn *renew_for(const struct runtime *rt, const struct rt_fetch *f)
{
    struct rt_conn *asker = rt_conn_get(rt, f->asker);
    uint32_t i = 0;
    struct handle h;
    if (asker && wants(rt, asker, f)) return asker;
    for (; runtime_next(rt, &i, &h); i++) {
        struct rt_conn *c = rt_conn_get(rt, h);
        if (c && wants(rt, c, f)) return c;
    }
    return NULL;
}

void rt_fetch_renew_passed(struct runtime *rt, uint32_t number, uint64_t due_ms)
{
    struct rt_fetch *f = rt->fetches;
    while (f && f->number != number) f = f->next;
    if (!f || f->renew_timer_ms != due_ms) return;
    f->renew_timer_ms = 0;
    if (f->renew_due_ms == 0 || rt->shutting_down || f->running || f->calling) return;
    uint64_t now_ms = rt_clock(rt).mono_ms;
    if (now_ms < f->renew_due_ms) {
        renew_arm(rt, f, f->renew_due_ms - now_ms);
        return;
    }
    f->renew_due_ms = 0;
    struct rt_conn *c = renew_for(rt, f);
    struct engine_brief view;
    if (!c || !engine_get_brief(rt->engine, c->self, &view)) return;
    f->asked_ms = rt_clock(rt).boot_ms;
    run(rt, f, c, c->build, view.generation);
    if (f->running || !f->failed) return;
    f->failed = false;
    f->failed_ms = rt_clock(rt).boot_ms;
    renew_failed(rt, f, c->self);
}

void rt_fetches_free(struct runtime *rt)
{
    while (rt->fetches) {
        struct rt_fetch *next = rt->fetches->next;
        value_clear(&rt->fetches->value);
        free(rt->fetches);
        rt->fetches = next;
    }
}
