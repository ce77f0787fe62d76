/* Runtime: owns all objects of one loop, the queue of events, and the order in which things happen: one
 * event, one engine step, its effects, then the next. Decides nothing: the engine does. */
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/text.h"
#include "runtime_internal.h"

#define CONNECTIONS_DEFAULT 16384
/* Prepare, greet, fetches and `every` tasks, on the average; slots are taken as they are used. */
#define TASKS_PER_CONNECTION 12
#define JOURNAL_DEFAULT 64
/* A tick does at most so many steps, so that a herd cannot keep the loop from its sockets. */
#define STEPS_PER_TICK_MAX 4096
/* Nor for so long: a step may call a policy. What is due and was not done is done in the next tick. */
#define TICK_MS_MAX 2
/* A growth of boot minus mono above it was a suspend, not a clock read in two instants. */
#define SUSPEND_MS_MIN 1000
#define WALL_STEP_MS_MIN 2000
#define DELIVER_EXPIRE_EVERY_MS 10000
#define DELIVER_REST_EVERY_MS 500
/* Connections that are told of a jump of the clocks in one tick. */
#define JUMP_SLICE 64
/* Events that the queue keeps room for after a herd. */
#define QUEUE_KEPT 1024

static bool step_due(struct runtime *rt, uint64_t now_ms);
static bool timers_run(struct runtime *rt, uint64_t until_ms);
static void clocks_look(struct runtime *rt);
static void jump_tell(struct runtime *rt, uint32_t most);

struct runtime *runtime_create(const struct runtime_options *options)
{
    struct runtime *rt = calloc(1, sizeof *rt);
    if (!rt) return NULL;
    rt->options = *options;
    if (!rt->options.connections_max) rt->options.connections_max = CONNECTIONS_DEFAULT;
    if (!rt->options.journal_entries) rt->options.journal_entries = JOURNAL_DEFAULT;
    if (!rt->options.dedupe_seed) rt->options.dedupe_seed = options->seed;
    rt->conns_max = rt->options.connections_max;
    struct engine_options eo = { .seed = options->seed,
                                 .connections_max = rt->conns_max,
                                 .sends_max = 65536,
                                 .sends_per_connection_max = 1024 };
    uint32_t buckets = 64;
    while (buckets < rt->conns_max && buckets < 1u << 20) buckets *= 2;
    rt->bucket_mask = buckets - 1;
    rt->conns = calloc(rt->conns_max, sizeof *rt->conns);
    rt->buckets = calloc(buckets, sizeof *rt->buckets);
    rt->engine = engine_create(&eo);
    if (!rt->engine || !rt->conns || !rt->buckets) {
        if (rt->engine) engine_destroy(rt->engine);
        free(rt->conns);
        free(rt->buckets);
        free(rt);
        return NULL;
    }
    slots_init(&rt->links, sizeof(struct rt_link), rt->conns_max * 2 + 16);
    slots_init(&rt->tasks, sizeof(struct rt_task), rt->conns_max * TASKS_PER_CONNECTION + 16);
    slots_init(&rt->calls, sizeof(struct rt_call), rt->conns_max * TASKS_PER_CONNECTION + 16);
    slots_init(&rt->sends, sizeof(struct rt_send), eo.sends_max + 1024);
    slots_init(&rt->stores, sizeof(struct rt_store), rt->conns_max * 4 + 1024);
    timers_init(&rt->timers);
    rt_counts_init(rt);
    buffer_init(&rt->scratch, 0);
    buffer_init(&rt->scratch_text, 0);
    buffer_init(&rt->scratch_note, 0);
    buffer_init(&rt->scratch_line, 0);
    buffer_init(&rt->scratch_packet, 0);
    buffer_init(&rt->scratch_json, 0);
    buffer_init(&rt->joined.packets, 0);
    rt_port_init(rt);
    rt_recorder_init(rt);
    if (options->deliver) rt_consumers_init(rt);
    if (options->deliver) rt_keep_init(rt);
    return rt;
}

void runtime_destroy(struct runtime *rt)
{
    if (!rt) return;
    rt->destroying = true;
    /* Consumers outlive the runtime: what they take back from now on finds nobody. */
    if (rt->options.deliver) deliver_set_port(rt->options.deliver, &(struct deliver_port){ 0 });
    /* And what goes with the process is not gone for the next one. */
    if (rt->options.deliver) {
        deliver_pump(rt->options.deliver);
        deliver_set_keeper(rt->options.deliver, NULL);
    }
    uint32_t i = 0;
    struct handle h;
    for (i = 0; i < rt->conns_max; i++) {
        if (rt->conns[i]) rt_conn_free(rt, rt->conns[i]);
    }
    rt_trials_free(rt);
    struct rt_send *s;
    for (i = 0; (s = slots_next(&rt->sends, &i, &h)); i++) rt_send_free(rt, s);
    rt_fetches_free(rt);
    rt_recorder_free(rt);
    rt_parked_free(rt);
    while (rt->acks_pooled) {
        struct rt_ack *next = rt->acks_pooled->next;
        free(rt->acks_pooled);
        rt->acks_pooled = next;
    }
    if (rt->options.deliver) {
        /* It outlives the runtime, and what consumers do then must find nobody here. */
        struct deliver_port none;
        memset(&none, 0, sizeof none);
        deliver_set_port(rt->options.deliver, &none);
    }
    engine_destroy(rt->engine);
    slots_deinit(&rt->links);
    slots_deinit(&rt->tasks);
    slots_deinit(&rt->calls);
    slots_deinit(&rt->sends);
    slots_deinit(&rt->stores);
    timers_deinit(&rt->timers);
    buffer_deinit(&rt->scratch);
    buffer_deinit(&rt->scratch_text);
    buffer_deinit(&rt->scratch_note);
    buffer_deinit(&rt->scratch_line);
    buffer_deinit(&rt->scratch_packet);
    buffer_deinit(&rt->scratch_json);
    buffer_deinit(&rt->joined.packets);
    for (uint32_t n = 0; n < rt->queue_count; n++) {
        free(rt->queue[(rt->queue_head + n) % rt->queue_capacity].text);
    }
    free(rt->queue);
    free(rt->conns);
    free(rt->buckets);
    free(rt);
}

/* --- events ---------------------------------------------------------------------------------------- */

struct clock rt_clock(const struct runtime *rt)
{
    struct clock now;
    if (rt->stepping) return rt->step_at;
    rt->options.host.ops->clock(rt->options.host.self, &now);
    return now;
}

struct event rt_event(enum event_kind kind, struct handle conn, uint32_t generation)
{
    struct event ev;
    memset(&ev, 0, sizeof ev);
    ev.kind = kind;
    ev.conn = conn;
    ev.generation = generation;
    return ev;
}

static struct cause *cause_of(struct event *ev)
{
    switch (ev->kind) {
    case EV_ATTEMPT_FAILED:
    case EV_DIAL_FAILED:
    case EV_LIMIT_CROSSED:
    case EV_PEER_CLOSED:
    case EV_LINK_CLOSED:
        return &ev->cause;
    case EV_ENDING_ANNOUNCED:
        return &ev->ending.cause;
    default:
        return NULL;
    }
}

static void queue_grow(struct runtime *rt)
{
    uint32_t capacity = rt->queue_capacity ? rt->queue_capacity * 2 : 32;
    struct rt_queued *queue = malloc(capacity * sizeof *queue);
    ASSERT(queue != NULL);
    for (uint32_t i = 0; i < rt->queue_count; i++) {
        queue[i] = rt->queue[(rt->queue_head + i) % rt->queue_capacity];
    }
    free(rt->queue);
    rt->queue = queue;
    rt->queue_head = 0;
    rt->queue_capacity = capacity;
}

void rt_post(struct runtime *rt, const struct event *ev)
{
    if (rt->turns.starting.count) rt_start_first(rt, ev->conn);
    if (rt->queue_count == rt->queue_capacity) queue_grow(rt);
    struct rt_queued *q = &rt->queue[(rt->queue_head + rt->queue_count) % rt->queue_capacity];
    rt->queue_count++;
    q->ev = *ev;
    q->text = NULL;
    struct cause *cause = cause_of(&q->ev);
    /* The one door for all causes that are not the engine's own, a policy's words among them. */
    struct rt_conn *c = cause && cause->reason[0] ? rt_conn_get(rt, ev->conn) : NULL;
    if (c) rt_hide(rt, c, cause->reason, sizeof cause->reason);
    if (!cause || (!cause->head && !cause->body)) return;
    size_t head_len = cause->head ? cause->head_len : 0;
    size_t body_len = cause->body ? cause->body_len : 0;
    q->text = malloc(head_len + body_len + 2);
    ASSERT(q->text != NULL);
    if (head_len) memcpy(q->text, cause->head, head_len);
    q->text[head_len] = 0;
    if (body_len) memcpy(q->text + head_len + 1, cause->body, body_len);
    q->text[head_len + 1 + body_len] = 0;
    cause->head = q->text;
    cause->body = q->text + head_len + 1;
    cause->head_len = head_len;
    cause->body_len = body_len;
}

void rt_step(struct runtime *rt, const struct event *original)
{
    struct event ev = *original;
    ASSERT(!rt->stepping);
    ev.at = rt->step_at = rt_clock(rt);
    rt->stepping = true;
    rt_record_before(rt, &ev);
    engine_step(rt->engine, &ev, &rt->effects);
    rt_record_after(rt, &ev, &rt->effects);
    if (rt->options.observer.step) {
        rt->options.observer.step(rt->options.observer.self, &ev, &rt->effects);
    }
    /* Effects post events and never step, so the list stays as it is. */
    uint32_t count = rt->effects.count;
    for (uint32_t i = 0; i < count; i++) rt_dispatch(rt, &rt->effects.items[i]);
    ASSERT(rt->effects.count == count);
    rt->stepping = false;
}

void rt_pump(struct runtime *rt)
{
    if (rt->pumping) return;
    rt->pumping = true;
    while (rt->queue_count) {
        struct rt_queued q = rt->queue[rt->queue_head];
        rt->queue_count--;
        /* The next one into the place that is in the caches still, not on through all of it. */
        rt->queue_head = rt->queue_count ? (rt->queue_head + 1) % rt->queue_capacity : 0;
        rt_step(rt, &q.ev);
        free(q.text);
    }
    if (rt->queue_capacity > QUEUE_KEPT) {
        free(rt->queue);
        rt->queue = NULL;
        rt->queue_head = rt->queue_capacity = 0;
    }
    rt->pumping = false;
}

/* --- time ------------------------------------------------------------------------------------------ */

static bool step_due(struct runtime *rt, uint64_t now_ms)
{
    struct handle conn = engine_due(rt->engine, now_ms);
    if (handle_is_none(conn)) return false;
    struct event ev = rt_event(EV_DEADLINE_PASSED, conn, 0);
    const struct rt_conn *c = rt_conn_get(rt, conn);
    ASSERT(c != NULL);
    uint32_t n = 0;
    for (const struct rt_link *l = c->links; l && n < 2; l = l->next) {
        ev.deadline.generation[n] = l->generation;
        ev.deadline.pulse[n] = l->pulse;
        n++;
    }
    rt_post(rt, &ev);
    rt_pump(rt);
    return true;
}

/* False: some are left. One is taken in any case, so that nothing keeps them waiting for ever. */
static bool timers_run(struct runtime *rt, uint64_t until_ms)
{
    struct timer t;
    for (uint32_t n = 0; n < STEPS_PER_TICK_MAX; n++) {
        const uint64_t now_ms = rt_clock(rt).mono_ms;
        if (n && now_ms >= until_ms) return false;
        if (!timers_take(&rt->timers, now_ms, &t)) return true;
        struct rt_conn *c;
        switch (t.kind) {
        case TIMER_TASK_WITHIN:
            rt_task_within_passed(rt, t.object, t.due_ms);
            break;
        case TIMER_EVERY:
            c = rt_conn_get(rt, t.object);
            if (c) rt_every_passed(rt, c, t.index, t.due_ms);
            break;
        case TIMER_BACKLOG_HOLD: {
            c = rt_conn_get(rt, t.object);
            struct rt_link *l = c ? rt_link_find(c, t.generation) : NULL;
            if (l) rt_hold_passed(rt, l, t.due_ms);
            break;
        }
        case TIMER_THROUGH:
            c = rt_conn_get(rt, t.object);
            if (c) rt_through_passed(rt, c, t.due_ms);
            break;
        case TIMER_RENEW:
            rt_fetch_renew_passed(rt, t.index, t.due_ms);
            break;
        }
        rt_pump(rt);
    }
    return false;
}

static void clocks_look(struct runtime *rt)
{
    struct clock now = rt_clock(rt);
    uint64_t offset = now.boot_ms - now.mono_ms;
    int64_t wall_offset = (int64_t)(now.wall_ms - now.boot_ms);
    uint64_t suspended = rt->clocks_known && offset > rt->jump_offset ? offset - rt->jump_offset : 0;
    int64_t stepped = rt->clocks_known ? wall_offset - rt->wall_offset : 0;
    bool suspend = suspended >= SUSPEND_MS_MIN;
    bool wall = stepped >= WALL_STEP_MS_MIN || stepped <= -WALL_STEP_MS_MIN;
    bool first = !rt->clocks_known;
    rt->clocks_known = true;
    /* From look to look: a clock that is slewed, or a nap of an instant, must not add up to a jump. */
    rt->jump_offset = offset;
    rt->wall_offset = wall_offset;
    if (first || (!suspend && !wall)) return;
    if (suspend) {
        rt_log(rt, LOG_WARNING, NULL, "the machine slept for %llu ms",
               (unsigned long long)suspended);
    } else {
        rt_log(rt, LOG_WARNING, NULL, "wall time stepped by %lld ms", (long long)stepped);
    }
    if (rt->jump.on) jump_tell(rt, UINT32_MAX);
    rt->jump.on = true;
    rt->jump.index = 0;
    rt->jump.suspended_ms = suspend ? suspended : 0;
    rt->jump.wall_step_ms = wall ? stepped : 0;
}

static void jump_tell(struct runtime *rt, uint32_t most)
{
    struct handle conn;
    for (; most && runtime_next(rt, &rt->jump.index, &conn); most--, rt->jump.index++) {
        struct event ev = rt_event(EV_CLOCK_JUMPED, conn, 0);
        ev.clock_jumped.suspended_ms = rt->jump.suspended_ms;
        ev.clock_jumped.wall_step_ms = rt->jump.wall_step_ms;
        rt_post(rt, &ev);
    }
    rt->jump.on = rt->jump.index < rt->conns_max;
    rt_pump(rt);
}

void runtime_tick(struct runtime *rt)
{
    clocks_look(rt);
    if (rt->jump.on) jump_tell(rt, JUMP_SLICE);
    rt_pump(rt);
    uint64_t until_ms = rt_clock(rt).mono_ms + TICK_MS_MAX;
    rt_starts_tick(rt, until_ms);
    rt->behind = true;
    for (uint32_t n = 0; n < STEPS_PER_TICK_MAX && rt->behind; n++) {
        const uint64_t now_ms = rt_clock(rt).mono_ms;
        if (n && now_ms >= until_ms) break;
        if (n % ENGINE_WARM_MAX == 0) rt_warm(rt, now_ms);
        rt->behind = step_due(rt, now_ms);
    }
    rt->behind = !timers_run(rt, until_ms) || rt->behind;
    rt_turns_tick(rt);
    rt_weather_tick(rt);
    rt_trials_tick(rt);
    if (rt->held) rt_backlog_check(rt);
    rt_pump(rt);
    if (rt->options.deliver) {
        deliver_clock(rt->options.deliver, rt_clock(rt).wall_ms);
        deliver_pump(rt->options.deliver);
        rt_pump(rt);
        uint64_t now_ms = rt_clock(rt).mono_ms;
        if (now_ms >= rt->deliver_expire_ms) {
            rt->deliver_expires = deliver_expire(rt->options.deliver, rt_clock(rt).wall_ms);
            rt->deliver_expire_ms = now_ms + (rt->deliver_expires ? 1 : DELIVER_EXPIRE_EVERY_MS);
        }
        if (now_ms >= rt->deliver_rest_ms && deliver_wants_rest(rt->options.deliver)) {
            rt->deliver_rest_ms = now_ms + (deliver_rest(rt->options.deliver) ? 1 : DELIVER_REST_EVERY_MS);
        }
    }
}

uint64_t runtime_deadline_ms(const struct runtime *rt)
{
    if (rt->queue_count || rt->jump.on) return 0;
    if (rt->options.deliver && deliver_wants_pump(rt->options.deliver)) return 0;
    uint64_t deadline = engine_deadline_ms(rt->engine);
    uint64_t timer = timers_next_ms(&rt->timers), weather = rt_weather_due_ms(rt), trial = rt_trials_due_ms(rt);
    uint64_t turn = rt_turns_due_ms(rt);
    if (rt->options.deliver && deliver_wants_rest(rt->options.deliver) && rt->deliver_rest_ms < deadline) {
        /* It may have been due before anybody wanted it: that is no instant that was missed. */
        deadline = rt->deliver_rest_ms > rt_clock(rt).mono_ms ? rt->deliver_rest_ms : 0;
    }
    if (rt->deliver_expires && rt->deliver_expire_ms < deadline) deadline = rt->deliver_expire_ms;
    if (turn < deadline) deadline = turn;
    if (weather < deadline) deadline = weather;
    if (trial < deadline) deadline = trial;
    return timer < deadline ? timer : deadline;
}

/* --- views ---------------------------------------------------------------------------------------- */

const struct engine *runtime_engine(const struct runtime *rt)
{
    return rt->engine;
}

#ifdef HOLDFAST_TEST
void runtime_plant(struct runtime *rt, enum engine_plant plant)
{
    engine_plant(rt->engine, plant);
}
#endif
