/* Turn: one turn of the loop, part by part, each with its share of time; the runtime's timer; and how long all of
 * that lasted. Knows nothing of sockets. */
#include <time.h>

#include "base/assert.h"
#include "net/net_internal.h"

#define LAG_WINDOW_MS 10000
/* Shares of one turn: of bytes that came, of what is queued, of dials. */
#define READS_NS_MAX 2000000u
#define TURNS_NS_MAX 2000000u
#define DIALS_NS_MAX 2000000u
#define PART_NS_MIN 200000u /* what is shorter is not worth a note, nor a look at the CPU's clock */

static void on_prepare(uv_prepare_t *prepare);
static void on_check(uv_check_t *check);
static void on_idle(uv_idle_t *idle);
static void on_timer(uv_timer_t *timer);
static void on_attempt_timer(uv_timer_t *timer);
static void on_rest_timer(uv_timer_t *timer);
static void run_turns(struct net *net);
static void run_dials(struct net *net);
static void run_tick(struct net *net);
static void arm(struct net *net);
static uint64_t cpu_clock_ns(void);
static void run_flushes(struct net *net);
static void note_lag(struct net *net, uint64_t lag_us, uint64_t busy_us);

void turn__init(struct net *net)
{
    uv_prepare_init(net->loop, &net->prepare);
    uv_prepare_start(&net->prepare, on_prepare);
    uv_unref((uv_handle_t *)&net->prepare);
    uv_check_init(net->loop, &net->check);
    uv_check_start(&net->check, on_check);
    uv_unref((uv_handle_t *)&net->check);
    uv_idle_init(net->loop, &net->idle);
    uv_timer_init(net->loop, &net->timer);
    uv_timer_init(net->loop, &net->attempt_timer);
    uv_timer_init(net->loop, &net->rest_timer);
    uv_unref((uv_handle_t *)&net->rest_timer);
    net->cpu_ns = cpu_clock_ns();
    net->check.data = net->prepare.data = net->idle.data = net->timer.data = net->attempt_timer.data = net->rest_timer.data = net;
}

void net__wake(struct net *net)
{
    if (net->closing) return;
    net->wake = true;
    uv_idle_start(&net->idle, on_idle);
}

void net__queue(struct net *net, struct turn *turn)
{
    if (net->closing || list_is_linked(&turn->node)) return;
    list_append(&net->turns, &turn->node);
    uv_idle_start(&net->idle, on_idle);
}

void net__dial_soon(struct net *net, struct node *dial)
{
    if (net->closing || list_is_linked(dial)) return;
    list_append(&net->dials, dial);
    uv_idle_start(&net->idle, on_idle);
}

uint64_t net__read_begins(struct net *net)
{
    const uint64_t now_ns = uv_hrtime();
    if (!net->awake_ns) net->awake_ns = now_ns;
    return now_ns - net->awake_ns < READS_NS_MAX ? now_ns : 0;
}

void net__read_ends(struct net *net, uint64_t began_ns)
{
    net->read_ns += uv_hrtime() - began_ns;
}

void net__flush_soon(struct net *net, struct node *flush)
{
    if (!list_is_linked(flush)) list_append(&net->flushes, flush);
}

uint64_t net_lag_ms(const struct net *net)
{
    return net->lag_ms[0] > net->lag_ms[1] ? net->lag_ms[0] : net->lag_ms[1];
}

static void on_idle(uv_idle_t *idle)
{
    (void)idle; /* only keeps the loop from sleeping */
}

static uint64_t cpu_clock_ns(void)
{
    struct timespec cpu;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    return (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec;
}

/* The CPU time of what lasted so long, or a little more of it: the clock is not read for what is short. */
static uint64_t busy_of(struct net *net, uint64_t lasted_ns)
{
    net->cpu_unread_ns += lasted_ns;
    if (net->cpu_unread_ns < PART_NS_MIN) return 0;
    const uint64_t now_ns = cpu_clock_ns();
    uint64_t busy_ns = now_ns - net->cpu_ns;
    if (busy_ns > lasted_ns) busy_ns = lasted_ns;
    net->cpu_ns = now_ns;
    net->cpu_unread_ns = 0;
    net->busy_ns += busy_ns;
    return busy_ns;
}

static void note_part(struct net *net, enum host_loop_part part, uint64_t lasted_ns, uint64_t busy_ns, uint64_t now_ns)
{
    if (lasted_ns < PART_NS_MIN) return;
    if (busy_ns > lasted_ns) busy_ns = lasted_ns;
    delay_note_part(&net->delay, now_ns / 1000, part, lasted_ns / 1000, busy_ns / 1000);
}

static uint64_t did_part(struct net *net, void (*run)(struct net *net), enum host_loop_part part, uint64_t from_ns)
{
    run(net);
    const uint64_t now_ns = uv_hrtime();
    note_part(net, part, now_ns - from_ns, busy_of(net, now_ns - from_ns), now_ns);
    return now_ns;
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct net *net = prepare->data;
    uint64_t at_ns = uv_hrtime();
    net->busy_ns = 0;
    if (net->awake_ns && at_ns > net->awake_ns) {
        /* Both were done by turns: where one was long, the CPU's time is most likely that one's. */
        const uint64_t lasted_ns = at_ns - net->awake_ns, busy_ns = busy_of(net, lasted_ns);
        note_part(net, HOST_LOOP_FRAMES, net->read_ns, busy_ns, at_ns);
        if (lasted_ns > net->read_ns) note_part(net, HOST_LOOP_OTHERS, lasted_ns - net->read_ns, busy_ns, at_ns);
    }
    net->read_ns = 0;
    if (!list_is_empty(&net->turns)) at_ns = did_part(net, run_turns, HOST_LOOP_QUEUED, at_ns);
    if (net->wake && !net->closing) at_ns = did_part(net, run_tick, HOST_LOOP_ENGINE, at_ns);
    net->behind = false;
    if (!list_is_empty(&net->dials)) at_ns = did_part(net, run_dials, HOST_LOOP_DIALS, at_ns);
    if (!list_is_empty(&net->flushes)) did_part(net, run_flushes, HOST_LOOP_WRITES, at_ns);
    if (net->closing) return;
    if (net_memory_is_full() && !uv_is_active((uv_handle_t *)&net->rest_timer)) on_rest_timer(&net->rest_timer);
    arm(net);
    if (!net->wake && list_is_empty(&net->turns) && list_is_empty(&net->dials)) uv_idle_stop(&net->idle);

    uint64_t now_ns = uv_hrtime();
    net->turn_at_ns = now_ns;
    if (net->awake_ns) note_lag(net, (now_ns - net->awake_ns) / 1000, net->busy_ns / 1000);
    net->awake_ns = 0;
}

/* After the poll and its callbacks. libuv would measure its sleep itself, for another epoll_wait() per turn.
 * The clock was read by the first link's callback; where others had the turn, libuv's own milliseconds tell
 * whether it was long. */
static void on_check(uv_check_t *check)
{
    struct net *net = check->data;
    if (net->awake_ns) return;
    uint64_t now_ns = uv_hrtime(), polled_ms = uv_now(net->loop);
    net->awake_ns = now_ns / 1000000 > polled_ms + 1 ? polled_ms * 1000000 : now_ns;
}

/* What is queued while these run waits for the next turn, so that sockets get theirs in between. */
static void run_turns(struct net *net)
{
    struct node now;
    const uint64_t until_ns = uv_hrtime() + TURNS_NS_MAX;
    list_take(&now, &net->turns);
    for (bool late = false; !late && !list_is_empty(&now);) {
        struct turn *turn = CONTAINER_OF(now.next, struct turn, node);
        list_remove(&turn->node);
        if (net->closing) continue;
        turn->run(turn);
        late = uv_hrtime() >= until_ns;
    }
    /* A herd ends in thousands of them: the rest goes first in the next turn. */
    while (!list_is_empty(&net->turns)) {
        struct node *later = net->turns.next;
        list_remove(later);
        list_append(&now, later);
    }
    if (!list_is_empty(&now)) list_take(&net->turns, &now);
}

/* A link whose step asks for another one goes to the end: all get theirs. */
static void run_dials(struct net *net)
{
    const uint64_t until_ns = uv_hrtime() + DIALS_NS_MAX;
    while (!list_is_empty(&net->dials) && !net->behind) {
        struct node *dial = net->dials.next;
        list_remove(dial);
        if (net->closing) continue;
        dial__step(dial);
        net->behind = !list_is_empty(&net->dials) && uv_hrtime() >= until_ns;
    }
}

static void run_flushes(struct net *net)
{
    while (!list_is_empty(&net->flushes)) {
        struct net_link *link = CONTAINER_OF(net->flushes.next, struct net_link, flush);
        list_remove(&link->flush);
        /* The next one's memory comes while this one's bytes go out. */
        if (!list_is_empty(&net->flushes)) tls__warm(CONTAINER_OF(net->flushes.next, struct net_link, flush));
        if (!net->closing) stream__flush(link);
    }
}

static void run_tick(struct net *net)
{
    uint64_t now_ms = net__now_ms();
    /* 0 is "at once", not an instant that was missed by the machine's uptime. */
    if (net->armed_ms != NET_DEADLINE_NEVER && net->armed_ms && now_ms > net->armed_ms) {
        note_lag(net, (now_ms - net->armed_ms) * 1000, 0);
    }
    net->armed_ms = NET_DEADLINE_NEVER;
    net->wake = false;
    if (!net->tick) return;
    net->tick(net->rt);
}

/* Each turn, because whatever the sink was told may have moved the deadline. */
static void arm(struct net *net)
{
    if (!net->deadline_ms) return;
    uint64_t deadline_ms = net->deadline_ms(net->rt);
    if (deadline_ms == NET_DEADLINE_NEVER) uv_timer_stop(&net->timer);
    if (deadline_ms == net->armed_ms) return;
    net->armed_ms = deadline_ms;
    if (deadline_ms == NET_DEADLINE_NEVER) return;
    uint64_t now_ms = net__now_ms();
    uv_update_time(net->loop);
    uv_timer_start(&net->timer, on_timer, deadline_ms > now_ms ? deadline_ms - now_ms : 0, 0);
}

static void on_timer(uv_timer_t *timer)
{
    net__wake(timer->data);
}

static void on_attempt_timer(uv_timer_t *timer)
{
    dial__attempts_due(timer->data);
}

static void on_rest_timer(uv_timer_t *timer)
{
    const uint32_t again_ms = net_memory_rest();
    if (again_ms) uv_timer_start(timer, on_rest_timer, again_ms, 0);
}

void net__arm_attempts(struct net *net)
{
    if (list_is_empty(&net->attempts)) {
        uv_timer_stop(&net->attempt_timer);
        return;
    }
    struct net_link *oldest = CONTAINER_OF(net->attempts.next, struct net_link, attempt);
    uint64_t now_ms = net__now_ms();
    uint64_t until_ms = oldest->attempt_until_ms;
    uv_update_time(net->loop);
    uv_timer_start(&net->attempt_timer, on_attempt_timer, until_ms > now_ms ? until_ms - now_ms : 0,
                   0);
}

static void note_lag(struct net *net, uint64_t lag_us, uint64_t busy_us)
{
    uint64_t now_ms = net->turn_at_ns / 1000000, lag_ms = lag_us / 1000;
    delay_note(&net->delay, uv_hrtime() / 1000, lag_us, busy_us);
    if (now_ms - net->lag_window_ms >= LAG_WINDOW_MS) {
        net->lag_ms[1] = now_ms - net->lag_window_ms < 2 * LAG_WINDOW_MS ? net->lag_ms[0] : 0;
        net->lag_ms[0] = 0;
        net->lag_window_ms = now_ms;
    }
    if (lag_ms > net->lag_ms[0]) net->lag_ms[0] = lag_ms;
}
