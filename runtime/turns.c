/* Turns: how many attempts are under way at once. Each costs this machine work: a policy's prepare, a handshake,
 * a greeting. Thousands of them begun in one instant would keep the loop from frames and beats, and would run into
 * their own limits while they wait for each other. So some are begun and the rest wait, first come, first served;
 * the engine knows it, and no limit of a stage runs meanwhile.
 *
 * Before that, those that were added take turns at being started: the first ones at once, the rest as the loop has time.
 *
 * A place is free when its link serves or its attempt is over; and after a second in any case, because a far end
 * that is silent costs nothing and must not keep others from theirs: unless it is this machine that is behind. */
#include "base/assert.h"
#include "runtime_internal.h"

/* Of one tick: prepare is Lua, and beats wait behind it. */
#define BEGUN_PER_TICK_MAX 16
/* A step of the engine each, with its entries in the journal. */
#define STARTED_PER_TICK_MAX 64

static void list_append(struct rt_turn_list *list, struct rt_conn *c)
{
    ASSERT(c->turn.in == NULL);
    c->turn.in = list;
    c->turn.next = NULL;
    c->turn.prev = list->last;
    if (list->last) list->last->turn.next = c;
    else list->first = c;
    list->last = c;
    list->count++;
}

static void list_remove(struct rt_conn *c)
{
    struct rt_turn_list *list = c->turn.in;
    if (c->turn.prev) c->turn.prev->turn.next = c->turn.next;
    else list->first = c->turn.next;
    if (c->turn.next) c->turn.next->turn.prev = c->turn.prev;
    else list->last = c->turn.prev;
    ASSERT(list->count > 0);
    list->count--;
    c->turn.in = NULL;
}

static void start(struct runtime *rt, struct rt_conn *c)
{
    struct event ev = rt_event(EV_START_REQUESTED, c->self, 0);
    rt_post(rt, &ev);
}

void rt_start_ask(struct runtime *rt, struct rt_conn *c)
{
    if (rt->turns.starting.count || rt->turns.started == STARTED_PER_TICK_MAX) {
        c->turn.number = ++rt->turns.start_later_total;
        list_append(&rt->turns.starting, c);
    } else {
        rt->turns.started++;
        start(rt, c);
    }
    rt->options.host.ops->wake(rt->options.host.self);
}

bool rt_start_is_due(const struct runtime *rt, const struct rt_conn *c)
{
    return c->turn.in == &rt->turns.starting;
}

void rt_start_first(struct runtime *rt, struct handle conn)
{
    struct rt_conn *c = rt_conn_get(rt, conn);
    if (!c || !rt_start_is_due(rt, c)) return;
    list_remove(c);
    start(rt, c);
}

void rt_starts_tick(struct runtime *rt, uint64_t until_ms)
{
    for (rt->turns.started = 0; rt->turns.starting.count && rt->turns.started < STARTED_PER_TICK_MAX; rt->turns.started++) {
        if (rt->turns.started && rt_clock(rt).mono_ms >= until_ms) break;
        rt_start_first(rt, rt->turns.starting.first->self);
        rt_pump(rt);
    }
}

static bool host_is_behind(const struct runtime *rt)
{
    const struct host *host = &rt->options.host;
    return host->ops->is_behind && host->ops->is_behind(host->self);
}

static bool has_place(const struct runtime *rt)
{
    return rt->turns.under_way.count < ENGINE_TURN_PLACES;
}

static void begin(struct runtime *rt, struct rt_conn *c)
{
    const uint64_t now_ms = rt_clock(rt).mono_ms;
    rt->turns.begun++;
    c->turn.since_ms = c->attempt_ms = now_ms;
    list_append(&rt->turns.under_way, c);
    rt_prepare(rt, c, c->turn.generation);
}

void rt_turn_ask(struct runtime *rt, struct rt_conn *c, uint32_t generation)
{
    rt_turn_gone(rt, c); /* of an attempt before this one, whose link is not closed yet */
    c->turn.generation = generation;
    c->turn.number = ++rt->turns.asked_total;
    if (!rt->turns.waiting.count && has_place(rt) && rt->turns.begun < BEGUN_PER_TICK_MAX) {
        begin(rt, c);
        return;
    }
    rt->turns.waited_total++;
    list_append(&rt->turns.waiting, c);
    struct event ev = rt_event(EV_TURN_AWAITED, c->self, generation);
    rt_post(rt, &ev);
}

void rt_turn_gone(struct runtime *rt, struct rt_conn *c)
{
    (void)rt;
    if (c->turn.in) list_remove(c);
}

void rt_turn_over(struct runtime *rt, struct rt_conn *c, uint32_t generation)
{
    if (c->turn.generation == generation) rt_turn_gone(rt, c);
}

/* Those that are silent for long give up their places. */
static void places_free(struct runtime *rt)
{
    const uint64_t now_ms = rt_clock(rt).mono_ms;
    if (has_place(rt) || host_is_behind(rt)) return;
    for (struct rt_conn *c; (c = rt->turns.under_way.first) && now_ms >= c->turn.since_ms + ENGINE_TURN_MS;) list_remove(c);
}

void rt_turns_tick(struct runtime *rt)
{
    const uint32_t most = rt->behind || host_is_behind(rt) ? 1 : BEGUN_PER_TICK_MAX;
    rt->turns.begun = 0;
    if (!rt->turns.waiting.count) return;
    places_free(rt);
    while (rt->turns.waiting.count && has_place(rt) && rt->turns.begun < most) {
        struct rt_conn *c = rt->turns.waiting.first;
        list_remove(c);
        /* First: what prepare answers comes after it. */
        struct event ev = rt_event(EV_TURN_GIVEN, c->self, c->turn.generation);
        rt_post(rt, &ev);
        begin(rt, c);
        rt_pump(rt);
    }
}

uint64_t rt_turns_due_ms(const struct runtime *rt)
{
    if (rt->turns.starting.count) return 0;
    if (!rt->turns.waiting.count) return ENGINE_NEVER;
    if (has_place(rt)) return 0;
    const uint64_t due_ms = rt->turns.under_way.first->turn.since_ms + ENGINE_TURN_MS;
    const uint64_t now_ms = rt_clock((struct runtime *)rt).mono_ms;
    /* Behind: it is looked at again when there was time for something. */
    return due_ms > now_ms ? due_ms : now_ms + 5;
}

uint64_t rt_turn_ahead(const struct runtime *rt, const struct rt_conn *c)
{
    if (rt_start_is_due(rt, c)) return c->turn.number - rt->turns.starting.first->turn.number + rt->turns.waiting.count;
    if (c->turn.in != &rt->turns.waiting) return 0;
    return c->turn.number - rt->turns.waiting.first->turn.number;
}

struct runtime_turns runtime_turns(const struct runtime *rt)
{
    return (struct runtime_turns){ .waiting = rt->turns.starting.count + rt->turns.waiting.count,
                                   .under_way = rt->turns.under_way.count,
                                   .waited_total = rt->turns.waited_total };
}
