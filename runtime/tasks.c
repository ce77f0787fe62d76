/* Tasks: hooks that run, and hooks that wait. Starts calls, hands out what they waited for, and turns their
 * outcome into events. A task belongs to one generation; when that is over it is cancelled. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "runtime_internal.h"

/* Resumes of one task without a real wait between them. */
#define TASK_ROUNDS_MAX 32

static void finish(struct runtime *rt, struct rt_task *t, enum call_result result,
                   struct call_answer *answer);

struct policy_call rt_call_of(struct runtime *rt, struct rt_conn *c, struct rt_build *build,
                              uint32_t generation, enum hook hook, const char *name)
{
    return (struct policy_call){ .version = build->build->version,
                                 .port = &rt->port,
                                 .hook = hook,
                                 .name = name,
                                 .conn = c->self,
                                 .generation = generation };
}

static void hook_begins(struct runtime *rt, const struct rt_build *build, enum hook hook,
                        uint32_t generation, struct rt_fetch *fetch)
{
    ASSERT(!rt->now.on);
    rt->now.on = true;
    rt->now.hook = hook;
    rt->now.at = rt_clock(rt);
    rt->now.generation = generation;
    rt->now.build = build;
    rt->now.fetch = fetch;
    rt->now.lost = value_nil();
}

static void hook_ends(struct runtime *rt)
{
    rt->now.on = false;
    rt->now.ran = rt->now.build->build->version;
    rt->now.build = NULL;
    rt->now.fetch = NULL;
    value_clear(&rt->now.lost);
}

enum call_result rt_enter(struct runtime *rt, const struct rt_build *build,
                          const struct policy_call *call, struct call_answer *answer, struct rt_task *t)
{
    struct policy_task *none = NULL;
    hook_begins(rt, build, call->hook, call->generation, t ? t->fills : NULL);
    rt_record_entered(rt, build, call, t);
    const uint64_t since_us = rt_ticks_us(rt);
    enum call_result result = policy_call(call, answer, t ? &t->task : &none);
    rt_count_hook(rt, call->hook, since_us);
    rt_record_left(rt, result, answer);
    hook_ends(rt);
    ASSERT(none == NULL);
    return result;
}

enum call_result rt_resume(struct runtime *rt, struct rt_task *t, const struct resume_with *with,
                           struct call_answer *answer)
{
    ASSERT(t->task != NULL);
    hook_begins(rt, t->build, t->hook, t->generation, t->fills);
    rt_record_resumed(rt, t, with);
    const uint64_t since_us = rt_ticks_us(rt);
    enum call_result result = policy_resume(t->task, with, answer);
    rt_count_hook(rt, t->hook, since_us);
    rt_record_left(rt, result, answer);
    hook_ends(rt);
    if (result != CALL_WAITING) t->task = NULL;
    return result;
}

struct rt_task *rt_task_create(struct runtime *rt, struct rt_conn *c, struct rt_build *build,
                               uint32_t generation, enum hook hook, const char *name)
{
    struct handle h;
    struct rt_task *t = slots_alloc(&rt->tasks, &h);
    if (!t) return NULL;
    t->self = h;
    t->conn = c->self;
    t->generation = generation;
    t->hook = hook;
    if (name) text_copy(t->name, sizeof t->name, name, strlen(name));
    t->build = rt_build_ref(build);
    t->next = c->tasks;
    c->tasks = t;
    return t;
}

static void matchers_free(struct frame_matchers *m)
{
    for (uint32_t i = 0; i < m->count; i++) {
        for (uint32_t f = 0; f < m->items[i].field_count; f++) {
            struct field_match *fm = &m->items[i].fields[f];
            for (uint32_t w = 0; w < fm->want_count; w++) free(fm->wants[w].text);
            free(fm->wants);
        }
        free(m->items[i].fields);
    }
    free(m->items);
    memset(m, 0, sizeof *m);
}

void rt_task_waits_over(struct runtime *rt, struct rt_task *t)
{
    t->within_ms = 0;
    matchers_free(&t->frame);
    matchers_free(&t->progress);
    struct rt_call *call = slots_get(&rt->calls, t->call);
    if (call) slots_free(&rt->calls, call->self);
    t->call = HANDLE_NONE;
}

void rt_task_free(struct runtime *rt, struct rt_task *t)
{
    struct rt_conn *c = rt_conn_get(rt, t->conn);
    ASSERT(c != NULL);
    struct rt_task **at = &c->tasks;
    while (*at != t) {
        ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = t->next;
    if (slots_get(&rt->calls, t->call)) {
        rt->options.host.ops->http_cancel(rt->options.host.self, handle_pack(t->call));
    }
    rt_task_waits_over(rt, t);
    rt_fetch_leave(t);
    if (t->task) rt_record_cancelled(rt, t);
    if (t->task) policy_cancel(t->task);
    rt_build_unref(t->build);
    slots_free(&rt->tasks, t->self);
}

static struct rt_task *cancellable(const struct rt_conn *c, uint32_t generation, bool all, bool fetch)
{
    for (struct rt_task *t = c->tasks; t; t = t->next) {
        if ((all || t->generation == generation) && (t->hook == HOOK_FETCH) == fetch) return t;
    }
    return NULL;
}

void rt_cancel(struct runtime *rt, struct rt_conn *c, uint32_t generation, bool all)
{
    struct rt_task *t;
    /* A fetch that loses its task is begun again for whoever still waits: none of those that go now may
     * be found waiting then, fetches that wait for a fetch included. */
    for (t = c->tasks; t; t = t->next) {
        if (all || t->generation == generation) rt_fetch_leave(t);
    }
    while ((t = cancellable(c, generation, all, false))) rt_task_free(rt, t);
    while ((t = cancellable(c, generation, all, true))) {
        struct rt_fetch *f = t->fills;
        rt_task_free(rt, t);
        rt_fetch_orphaned(rt, f);
    }
    /* A greeting that was busy elsewhere held the input back; the peer's close may be what comes next. */
    struct rt_link *l = all ? NULL : rt_link_find(c, generation);
    if (l) rt_link_pause(rt, l, RT_PAUSE_HOOK, false);
    if (c->address && (all || c->address_generation == generation)) {
        rt_address_free(c->address);
        c->address = NULL;
    }
}

/* --- outcomes -------------------------------------------------------------------------------------- */

struct cause rt_hook_cause(enum hook hook, const struct call_answer *answer)
{
    struct cause cause = cause_make(STAGE_NONE, CAUSE_HOOK, BY_POLICY, answer->error);
    cause.line = answer->line;
    if (!answer->error[0]) {
        text_copy(cause.reason, sizeof cause.reason, hook_name(hook), strlen(hook_name(hook)));
    }
    return cause;
}

void rt_hook_failed(struct runtime *rt, struct rt_conn *c, uint32_t generation, enum hook hook,
                    enum call_result result, const struct call_answer *answer)
{
    static const char *const how[] = { [CALL_OK] = "answered nothing",
                                       [CALL_WAITING] = "waits where it may not",
                                       [CALL_RAISED] = "raised",
                                       [CALL_OVER_BUDGET] = "went over its budget",
                                       [CALL_BAD_ANSWER] = "gave a bad answer" };
    c->hook_failures++;
    rt->counts.hook_failures[hook]++;
    rt_trial_hook_failed(rt, c, rt->now.ran, answer->error);
    rt_journal_note(rt, c, generation, JOURNAL_HOOK, "%s %s: %s", hook_name(hook), how[result],
                    answer->error);
    rt_log(rt, LOG_WARNING, c, "%s %s: %s", hook_name(hook), how[result], answer->error);
}

static void attempt_failed(struct runtime *rt, const struct rt_task *t, const struct cause *cause)
{
    struct event ev = rt_event(EV_ATTEMPT_FAILED, t->conn, t->generation);
    ev.cause = *cause;
    rt_post(rt, &ev);
}

static void prepared(struct runtime *rt, struct rt_conn *c, const struct rt_task *t,
                     struct call_answer *answer)
{
    char why[200];
    struct rt_address *a =
        rt_address_create(c, t->build->build, &answer->value, why, sizeof why);
    if (!a) {
        struct cause cause = cause_make(STAGE_PREPARING, CAUSE_ADDRESS, BY_POLICY, why);
        attempt_failed(rt, t, &cause);
        return;
    }
    rt_address_free(c->address);
    c->address = a;
    c->address_generation = t->generation;
    struct event ev = rt_event(EV_PREPARED, c->self, t->generation);
    rt_post(rt, &ev);
}

static void finish(struct runtime *rt, struct rt_task *t, enum call_result result,
                   struct call_answer *answer)
{
    struct rt_conn *c = rt_conn_get(rt, t->conn);
    ASSERT(c != NULL);
    bool failed = result != CALL_OK && !answer->ended;
    if (t->hook == HOOK_FETCH) {
        /* Its waiters may start other fetches: this task must be gone by then. */
        struct rt_fetch *f = t->fills;
        struct rt_task copy = *t;
        rt_task_free(rt, t);
        rt_fetch_done(rt, f, &copy, result, answer);
        return;
    }
    if (failed) rt_hook_failed(rt, c, t->generation, t->hook, result, answer);
    if (t->hook == HOOK_PREPARE && failed) {
        struct cause cause = rt_hook_cause(t->hook, answer);
        attempt_failed(rt, t, &cause);
    } else if (t->hook == HOOK_PREPARE && !answer->ended) {
        prepared(rt, c, t, answer);
    } else if (t->hook == HOOK_GREET) {
        struct rt_link *l = rt_link_find(c, t->generation);
        if (l) rt_link_pause(rt, l, RT_PAUSE_HOOK, false);
        if (failed) {
            struct event ev = rt_event(EV_ENDING_ANNOUNCED, t->conn, t->generation);
            ev.ending.cause = rt_hook_cause(t->hook, answer);
            rt_post(rt, &ev);
        } else if (!answer->ended) {
            struct event ev = rt_event(EV_GREETED, t->conn, t->generation);
            rt_post(rt, &ev);
        }
    }
    uint32_t generation = t->generation;
    rt_task_free(rt, t);
    struct rt_link *l = rt_link_find(c, generation);
    if (l) rt_link_adopt_build(rt, l);
}

void rt_task_fail(struct runtime *rt, struct rt_task *t, const struct cause *cause)
{
    struct rt_conn *c = rt_conn_get(rt, t->conn);
    ASSERT(c != NULL);
    if (t->hook == HOOK_FETCH) {
        struct call_answer none;
        call_answer_init(&none);
        none.ended = true;
        t->fills->failed = true;
        t->fills->failure = *cause;
        finish(rt, t, CALL_RAISED, &none);
        call_answer_deinit(&none);
        return;
    }
    if (t->hook == HOOK_PREPARE) {
        attempt_failed(rt, t, cause);
    } else if (t->hook == HOOK_GREET) {
        struct event ev = rt_event(EV_ENDING_ANNOUNCED, t->conn, t->generation);
        ev.ending.cause = *cause;
        rt_post(rt, &ev);
    } else {
        char text[256];
        rt_journal_note(rt, c, t->generation, JOURNAL_HOOK, "%s: %s", hook_name(t->hook),
                        cause_text(cause, text, sizeof text));
    }
    rt_task_free(rt, t);
}

/* What the task waits for is begun. True: it really waits; false: `with` has the answer already. */
static bool wait_begin(struct runtime *rt, struct rt_task *t, struct call_answer *answer,
                       struct resume_with *with, struct cause *cause, bool *dead)
{
    struct rt_conn *c = rt_conn_get(rt, t->conn);
    struct rt_link *l = rt_link_find(c, t->generation);
    t->wait = answer->wait.kind;
    memset(with, 0, sizeof *with);
    with->kind = t->wait;
    switch (t->wait) {
    case WAIT_HTTP:
        /* Frames that come while a greeting is busy elsewhere must find it awaiting again. */
        if (t->hook == HOOK_GREET && l) rt_link_pause(rt, l, RT_PAUSE_HOOK, true);
        return rt_http_begin(rt, t, &answer->wait.http, with, cause);
    case WAIT_FRAME:
        t->frame = answer->wait.frame;
        t->progress = answer->wait.progress;
        memset(&answer->wait.frame, 0, sizeof answer->wait.frame);
        memset(&answer->wait.progress, 0, sizeof answer->wait.progress);
        t->within_ms = answer->wait.within_ms;
        t->within_due_ms = rt_clock(rt).mono_ms + t->within_ms;
        if (t->within_ms) {
            timers_arm(&rt->timers, &t->within_timer_ms,
                       (struct timer){ .due_ms = t->within_due_ms,
                                       .kind = TIMER_TASK_WITHIN,
                                       .object = t->self });
        }
        if (l) rt_link_pause(rt, l, RT_PAUSE_HOOK, false);
        return true;
    case WAIT_FETCH: {
        struct rt_fetch *f = NULL;
        if (t->hook == HOOK_GREET && l) rt_link_pause(rt, l, RT_PAUSE_HOOK, true);
        enum rt_fetch_state state = rt_fetch_get(rt, t, answer->wait.fetch, &f, cause);
        if (state == RT_FETCH_WAIT) {
            rt_fetch_wait(f, t);
            return true;
        }
        if (state == RT_FETCH_FAILED) {
            *dead = true;
            return true;
        }
        with->answered = true;
        with->value = &f->value;
        return false;
    }
    }
    return true;
}

void rt_task_go_on(struct runtime *rt, struct rt_task *t, enum call_result result,
                   struct call_answer *answer)
{
    /* A hook that asks again and again for what is there at once is stopped by its own instruction budget
     * only per resume: so bound the rounds as well. */
    for (int rounds = 0; result == CALL_WAITING; rounds++) {
        struct resume_with with;
        struct cause cause;
        bool dead = rounds >= TASK_ROUNDS_MAX;
        if (dead) cause = cause_make(STAGE_NONE, CAUSE_HOOK, BY_POLICY, "asks without end");
        if (!dead && wait_begin(rt, t, answer, &with, &cause, &dead) && !dead) {
            call_answer_deinit(answer);
            return;
        }
        if (dead) {
            call_answer_deinit(answer);
            rt_task_fail(rt, t, &cause);
            return;
        }
        call_answer_deinit(answer);
        call_answer_init(answer);
        rt_task_waits_over(rt, t);
        result = rt_resume(rt, t, &with, answer);
    }
    finish(rt, t, result, answer);
    call_answer_deinit(answer);
}
