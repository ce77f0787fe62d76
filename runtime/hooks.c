/* Hooks: when each one runs and what its answer becomes. Whatever a hook does wrong, the tables decide and
 * the journal says so. */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/duration.h"
#include "base/rng.h"
#include "base/text.h"
#include "runtime_internal.h"

#define EVERY_MS_MIN 100

/* All tasks of the process are in use: this one connection tries again later. */
static void start_failed(struct runtime *rt, struct rt_conn *c, uint32_t generation, enum hook hook)
{
    struct cause cause = cause_make(STAGE_NONE, CAUSE_INTERNAL, BY_US, "too many hooks are waiting");
    struct event ev = rt_event(hook == HOOK_PREPARE ? EV_ATTEMPT_FAILED : EV_ENDING_ANNOUNCED,
                               c->self, generation);
    rt_journal_note(rt, c, generation, JOURNAL_HOOK, "%s: %s", hook_name(hook), cause.reason);
    if (hook == HOOK_PREPARE) ev.cause = cause;
    else ev.ending.cause = cause;
    if (hook != HOOK_EVERY) rt_post(rt, &ev);
}

static void start(struct runtime *rt, struct rt_conn *c, struct rt_build *build, uint32_t generation,
                  enum hook hook, const char *name)
{
    struct rt_task *t = rt_task_create(rt, c, build, generation, hook, name);
    struct call_answer answer;
    call_answer_init(&answer);
    if (!t) {
        start_failed(rt, c, generation, hook);
        return;
    }
    struct policy_call call = rt_call_of(rt, c, build, generation, hook, name);
    enum call_result result = rt_enter(rt, build, &call, &answer, t);
    rt_task_go_on(rt, t, result, &answer);
}

void rt_prepare(struct runtime *rt, struct rt_conn *c, uint32_t generation)
{
    start(rt, c, c->build, generation, HOOK_PREPARE, NULL);
}

void rt_greet(struct runtime *rt, struct rt_conn *c, uint32_t generation)
{
    struct rt_link *l = rt_link_find(c, generation);
    if (!l) return;
    if (!policy_has_hook(l->build->build->version, HOOK_GREET)) {
        struct event ev = rt_event(EV_GREETED, c->self, generation);
        rt_post(rt, &ev);
        return;
    }
    start(rt, c, l->build, generation, HOOK_GREET, NULL);
}

bool rt_greet_frame(struct runtime *rt, struct rt_conn *c, struct rt_link *l,
                    const struct path_item *item)
{
    for (struct rt_task *t = c->tasks; t; t = t->next) {
        if (t->generation != l->generation || t->hook != HOOK_GREET || t->wait != WAIT_FRAME) continue;
        if (t->frame.count == 0 && t->progress.count == 0) return false;
        if (item->malformed) return false;
        if (!frame_match_any(&t->frame, item->fields)) {
            if (!frame_match_any(&t->progress, item->fields)) return false;
            struct event ev = rt_event(EV_GREETING_PROGRESSED, l->conn, l->generation);
            rt_post(rt, &ev);
            t->within_due_ms = rt_clock(rt).mono_ms + t->within_ms;
            return false;
        }
        struct resume_with with = { .kind = WAIT_FRAME, .answered = true, .frame = item->data,
                                    .frame_len = item->len, .fields = item->fields };
        struct call_answer answer;
        call_answer_init(&answer);
        rt_task_waits_over(rt, t);
        enum call_result result = rt_resume(rt, t, &with, &answer);
        rt_task_go_on(rt, t, result, &answer);
        return true;
    }
    return false;
}

void rt_task_within_passed(struct runtime *rt, struct handle task, uint64_t due_ms)
{
    struct rt_task *t = slots_get(&rt->tasks, task);
    if (!t || t->within_timer_ms != due_ms) return;
    t->within_timer_ms = 0;
    if (t->wait != WAIT_FRAME || !t->within_ms) return;
    if (rt_clock(rt).mono_ms < t->within_due_ms) {
        MARK("progress moves the end of an await");
        timers_arm(&rt->timers, &t->within_timer_ms, (struct timer){ .due_ms = t->within_due_ms,
                                                                     .kind = TIMER_TASK_WITHIN,
                                                                     .object = t->self });
        return;
    }
    struct resume_with with = { .kind = WAIT_FRAME };
    struct call_answer answer;
    call_answer_init(&answer);
    rt_task_waits_over(rt, t);
    enum call_result result = rt_resume(rt, t, &with, &answer);
    rt_task_go_on(rt, t, result, &answer);
}

void rt_beat(struct runtime *rt, struct rt_conn *c, uint32_t generation)
{
    struct rt_link *l = rt_link_find(c, generation);
    if (!l) return;
    struct policy_call call = rt_call_of(rt, c, c->build, generation, HOOK_ON_BEAT, NULL);
    struct call_answer answer;
    call_answer_init(&answer);
    enum call_result result = rt_enter(rt, c->build, &call, &answer, NULL);
    if (result != CALL_OK && !answer.ended) {
        rt_hook_failed(rt, c, generation, HOOK_ON_BEAT, result, &answer);
        struct event ev = rt_event(EV_ENDING_ANNOUNCED, c->self, generation);
        ev.ending.cause = rt_hook_cause(HOOK_ON_BEAT, &answer);
        rt_post(rt, &ev);
    } else if (answer.frame.len) {
        rt_link_send(rt, l, answer.frame.data, answer.frame.len, answer.frame_text);
    }
    call_answer_deinit(&answer);
}

void rt_on_frame(struct runtime *rt, struct rt_conn *c, struct rt_link *l, struct rt_build *build,
                 const struct path_item *item)
{
    if (!policy_has_hook(build->build->version, HOOK_ON_FRAME)) return;
    struct policy_call call = rt_call_of(rt, c, build, l->generation, HOOK_ON_FRAME, NULL);
    struct call_answer answer;
    call.frame = item->data;
    call.frame_len = item->len;
    call.fields = item->fields;
    call_answer_init(&answer);
    enum call_result result = rt_enter(rt, build, &call, &answer, NULL);
    if (result != CALL_OK && !answer.ended) {
        rt_hook_failed(rt, c, l->generation, HOOK_ON_FRAME, result, &answer);
    }
    call_answer_deinit(&answer);
}

static bool ended_word(struct event *ev, const char *word)
{
    if (strcmp(word, "resume") == 0) return true;
    if (strcmp(word, "fresh") == 0) {
        ev->verdict.drop = DROP_FRESH;
    } else if (strcmp(word, "renew") == 0) {
        ev->verdict.drop = DROP_RENEW;
    } else if (strcmp(word, "slow") == 0) {
        ev->verdict.pace = PACE_SLOW;
    } else if (strcmp(word, "stop") == 0) {
        ev->verdict.pace = PACE_STOP;
    } else {
        return false;
    }
    return true;
}

static bool ended_delay(const struct value *v, uint64_t *ms)
{
    if (v->kind == VALUE_NUMBER && v->number >= 0 && v->number <= (double)DURATION_MS_MAX) {
        *ms = (uint64_t)v->number;
        return true;
    }
    return v->kind == VALUE_STRING && duration_parse(v->string.bytes, v->string.len, ms);
}

/* False: not an answer that on_ended may give. */
static bool ended_verdict(struct event *ev, const struct value *v)
{
    if (v->kind == VALUE_NIL) return true;
    const struct value *word = v->kind == VALUE_TABLE ? value_get(v, "verdict") : v;
    ev->verdict.given = true;
    if (word && (!value_text(word) || !ended_word(ev, word->string.bytes))) return false;
    if (v->kind != VALUE_TABLE) return word != NULL;
    const char *note = value_get_text(v, "note");
    if (note) text_copy(ev->verdict.note, sizeof ev->verdict.note, note, strlen(note));
    const struct value *delay = value_get(v, "delay");
    if (!delay) return true;
    ev->verdict.has_delay = true;
    const struct value *low = delay, *high = delay;
    if (delay->kind == VALUE_TABLE) {
        low = value_at(delay, 1);
        high = value_at(delay, 2);
    }
    return low && high && ended_delay(low, &ev->verdict.delay.low) &&
           ended_delay(high, &ev->verdict.delay.high) &&
           ev->verdict.delay.low <= ev->verdict.delay.high;
}

void rt_ask_ended(struct runtime *rt, struct rt_conn *c, uint32_t generation,
                  const struct cause *cause)
{
    struct policy_call call = rt_call_of(rt, c, c->build, generation, HOOK_ON_ENDED, NULL);
    struct call_answer answer;
    call.cause = cause;
    call_answer_init(&answer);
    enum call_result result = rt_enter(rt, c->build, &call, &answer, NULL);
    struct event ev = rt_event(EV_VERDICT_GIVEN, c->self, generation);
    ev.verdict.line = answer.line;
    if (result == CALL_OK && !ended_verdict(&ev, &answer.value)) {
        result = CALL_BAD_ANSWER;
        snprintf(answer.error, sizeof answer.error,
                 "expected nothing, a verdict word, or { verdict, delay, note }");
    }
    if (result != CALL_OK) {
        rt_hook_failed(rt, c, generation, HOOK_ON_ENDED, result, &answer);
        memset(&ev.verdict, 0, sizeof ev.verdict);
        ev.verdict.failed = true;
    }
    rt_post(rt, &ev);
    call_answer_deinit(&answer);
}

/* --- every ------------------------------------------------------------------------------------------- */

static void every_arm(struct runtime *rt, struct rt_conn *c, uint32_t index)
{
    timers_arm(&rt->timers, &c->every[index].timer_ms,
               (struct timer){ .due_ms = c->every[index].due_ms,
                               .kind = TIMER_EVERY,
                               .object = c->self,
                               .index = index });
}

static uint64_t every_random(struct runtime *rt, struct rt_conn *c, uint32_t index, uint64_t low, uint64_t high)
{
    uint64_t draw = rng_draw(rt->options.seed, c->name_hash,
                             rng_mix(c->every_generation ^ (uint64_t)index << 32),
                             c->random_count++);
    return rng_range(draw, low, high);
}

/* Counted from `from_ms`. What would be over by then comes within a period: a shorter one, reloaded for thousands of
 * connections, must not have them all run at once. */
static void every_draw(struct runtime *rt, struct rt_conn *c, uint32_t index, uint64_t from_ms)
{
    const struct every_task *e = &c->build->build->every[index];
    const uint64_t now_ms = rt_clock(rt).mono_ms;
    uint64_t wait_ms = every_random(rt, c, index, e->every.low, e->every.high);
    if (wait_ms < EVERY_MS_MIN) wait_ms = EVERY_MS_MIN;
    c->every[index].from_ms = from_ms;
    c->every[index].due_ms = from_ms + wait_ms;
    if (c->every[index].due_ms < now_ms) c->every[index].due_ms = now_ms + every_random(rt, c, index, 0, wait_ms);
    every_arm(rt, c, index);
}

void rt_every_start(struct runtime *rt, struct rt_conn *c, uint32_t generation)
{
    c->every_generation = generation;
    for (uint32_t i = 0; i < POLICY_EVERY_MAX; i++) {
        c->every[i].due_ms = 0;
        if (i < c->build->build->every_count) every_draw(rt, c, i, rt_clock(rt).mono_ms);
    }
}

void rt_every_swap(struct runtime *rt, struct rt_conn *c, const struct policy_build *before)
{
    const struct policy_build *now = c->build->build;
    uint64_t due_ms[POLICY_EVERY_MAX] = { 0 }, from_ms[POLICY_EVERY_MAX] = { 0 };
    const struct rt_link *l = rt_link_find(c, c->every_generation);
    bool runs = l && l->ready;
    for (uint32_t i = 0; runs && i < now->every_count; i++) {
        from_ms[i] = rt_clock(rt).mono_ms;
        for (uint32_t k = 0; k < before->every_count; k++) {
            if (strcmp(now->every[i].name, before->every[k].name) != 0 || !c->every[k].due_ms) continue;
            from_ms[i] = c->every[k].from_ms;
            bool same = now->every[i].every.low == before->every[k].every.low &&
                        now->every[i].every.high == before->every[k].every.high;
            if (same) due_ms[i] = c->every[k].due_ms;
        }
    }
    for (uint32_t i = 0; i < POLICY_EVERY_MAX; i++) {
        c->every[i].due_ms = due_ms[i];
        if (due_ms[i]) {
            c->every[i].from_ms = from_ms[i];
            every_arm(rt, c, i);
        } else if (runs && i < now->every_count) {
            every_draw(rt, c, i, from_ms[i]);
        }
    }
}

void rt_every_passed(struct runtime *rt, struct rt_conn *c, uint32_t index, uint64_t due_ms)
{
    if (c->every[index].timer_ms != due_ms) return;
    c->every[index].timer_ms = 0;
    if (!c->every[index].due_ms || index >= c->build->build->every_count) return;
    if (rt_clock(rt).mono_ms < c->every[index].due_ms) {
        every_arm(rt, c, index);
        return;
    }
    c->every[index].due_ms = 0;
    uint32_t generation = c->every_generation;
    struct rt_link *l = rt_link_find(c, generation);
    if (!l || !l->ready || l->phase != RT_LINK_OPEN) return;
    if (l->close_sent || l->close_received) {
        MARK("a task of a link that closes is not begun");
        return;
    }
    const char *name = c->build->build->every[index].name;
    bool running = false;
    for (const struct rt_task *t = c->tasks; t; t = t->next) {
        if (t->hook == HOOK_EVERY && t->generation == generation && strcmp(t->name, name) == 0) {
            running = true;
        }
    }
    if (!running) start(rt, c, c->build, generation, HOOK_EVERY, name);
    every_draw(rt, c, index, rt_clock(rt).mono_ms);
}
