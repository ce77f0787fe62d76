/* Net: owns the loop's turn (prepare, idle), the runtime's timer, the clocks and the table that the
 * runtime calls. Knows nothing of sockets: links, TLS, lookups and calls are in the other files. */
#include "net/net.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/assert.h"
#include "base/text.h"
#include "net/net_internal.h"

#define LAG_WINDOW_MS 10000
#define TURNS_NS_MAX 10000000u /* for turns that are queued; the others wait for the next */

static void on_prepare(uv_prepare_t *prepare);
static void on_check(uv_check_t *check);
static void on_idle(uv_idle_t *idle);
static void on_timer(uv_timer_t *timer);
static void on_attempt_timer(uv_timer_t *timer);
static void on_closed(uv_handle_t *handle);
static void run_turns(struct net *net);
static void run_tick(struct net *net);
static void arm(struct net *net);
static void run_flushes(struct net *net);
static void note_lag(struct net *net, uint64_t lag_us);
static const struct host_ops net_ops;

struct net *net_create(uv_loop_t *loop, const struct host_sink *sink,
                       const struct net_options *options)
{
    static const struct net_options defaults;
    if (!options) options = &defaults;
    ASSERT(loop != NULL);
    ASSERT(sink != NULL);

    char threads[16];
    uint32_t thread_count = options->pool_threads ? options->pool_threads : NET_POOL_THREADS;
    snprintf(threads, sizeof threads, "%u", (unsigned)thread_count);
    setenv("UV_THREADPOOL_SIZE", threads, 0);

    struct net *net = calloc(1, sizeof *net);
    if (!net) return NULL;
    net->loop = loop;
    net->sink = sink;
    net->armed_ms = NET_DEADLINE_NEVER;
    net->attempt_ms = options->attempt_ms ? options->attempt_ms : NET_ATTEMPT_MS;
    list_init(&net->turns);
    list_init(&net->flushes);
    list_init(&net->attempts);
    uint64_t ttl_ms = options->resolve_ttl_ms ? options->resolve_ttl_ms : NET_RESOLVE_TTL_MS;
    bool tables = table_init(&net->links) & table_init(&net->calls);
    net->read_buffer = malloc(NET_READ_BYTES);
    net->resolver = resolver__create(net, ttl_ms);
    uint64_t look_ms = options->ca_look_ms ? options->ca_look_ms : NET_CA_LOOK_MS;
    net->trusts = trusts__create(net, options->system_ca_file, look_ms);
    net->http = http__create(net);
    if (!tables || !net->read_buffer || !net->resolver || !net->trusts || !net->http) {
        /* Without memory for a few kilobytes at start nothing was started yet that needs closing,
         * the HTTP part excepted: it starts its handles with the first call. */
        if (net->http) http__destroy(net->http);
        if (net->trusts) trusts__destroy(net->trusts);
        if (net->resolver) resolver__destroy(net->resolver);
        free(net->read_buffer);
        table_deinit(&net->links);
        table_deinit(&net->calls);
        free(net);
        return NULL;
    }

    uv_prepare_init(loop, &net->prepare);
    uv_prepare_start(&net->prepare, on_prepare);
    uv_unref((uv_handle_t *)&net->prepare);
    uv_check_init(loop, &net->check);
    uv_check_start(&net->check, on_check);
    uv_unref((uv_handle_t *)&net->check);
    uv_idle_init(loop, &net->idle);
    uv_timer_init(loop, &net->timer);
    uv_timer_init(loop, &net->attempt_timer);
    net->check.data = net->prepare.data = net->idle.data = net->timer.data = net->attempt_timer.data = net;
    return net;
}

void net_trust_look(struct net *net)
{
    trusts__look(net->trusts);
}

struct host net_host(struct net *net)
{
    return (struct host){ &net_ops, net };
}

void net_set_runtime(struct net *net, struct runtime *rt, void (*tick)(struct runtime *rt),
                     uint64_t (*deadline_ms)(struct runtime *rt))
{
    net->rt = rt;
    net->tick = tick;
    net->deadline_ms = deadline_ms;
}

void net_close(struct net *net, void (*done)(void *data), void *data)
{
    ASSERT(!net->closing);
    net->closing = true;
    net->closed = done;
    net->closed_data = data;
    uv_handle_t *handles[] = { (uv_handle_t *)&net->prepare, (uv_handle_t *)&net->check, (uv_handle_t *)&net->idle,
                               (uv_handle_t *)&net->timer, (uv_handle_t *)&net->attempt_timer };
    for (size_t i = 0; i < sizeof handles / sizeof *handles; i++) {
        net__hold(net);
        uv_close(handles[i], on_closed);
    }
    /* Descriptors go now; memory goes in net__release(), because we may be inside a sink's call. */
    for (uint32_t i = 0; i < net->links.bucket_count; i++) {
        for (struct table_entry *e = net->links.buckets[i]; e; e = e->next) {
            link__abort(CONTAINER_OF(e, struct net_link, entry));
        }
    }
    http__close(net->http);
    resolver__close(net->resolver);
}

uint64_t net_lag_ms(const struct net *net)
{
    return net->lag_ms[0] > net->lag_ms[1] ? net->lag_ms[0] : net->lag_ms[1];
}

struct net_counts net_counts(const struct net *net)
{
    struct net_counts counts = net->counts;
    counts.links = net->links.count;
    counts.calls = net->calls.count;
    return counts;
}

/* ---- the host table ---------------------------------------------------------------------------- */

static uint64_t clock_ms(clockid_t id)
{
    struct timespec now;
    int failed = clock_gettime(id, &now);
    ASSERT(failed == 0);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void op_clock(void *self, struct clock *out)
{
    (void)self;
    out->mono_ms = clock_ms(CLOCK_MONOTONIC);
    out->boot_ms = clock_ms(CLOCK_BOOTTIME);
    out->wall_ms = clock_ms(CLOCK_REALTIME);
}

static void op_random(void *self, void *out, size_t len)
{
    (void)self;
    ASSERT(len <= 1 << 20);
    if (RAND_bytes(out, (int)len) == 1) return;
    for (size_t at = 0; at < len;) {
        ssize_t got = getrandom((uint8_t *)out + at, len - at, 0);
        ASSERT(got > 0 || errno == EINTR); /* a kernel without random numbers: nothing to go on with */
        if (got > 0) at += (size_t)got;
    }
}

static bool op_link_open(void *self, uint64_t link, const struct link_target *target)
{
    return link__open(self, link, target);
}

static bool op_link_write(void *self, uint64_t id, const void *bytes, size_t len)
{
    struct net_link *link = link__find(self, id);
    return link && stream__write(link, bytes, len);
}

static size_t op_link_queued(void *self, uint64_t id)
{
    struct net_link *link = link__find(self, id);
    return link ? link->out.len : 0;
}

static void op_link_read(void *self, uint64_t id, bool on)
{
    struct net_link *link = link__find(self, id);
    if (!link || link->reading == on) return;
    link->reading = on;
    if (link->at != AT_OPEN) return;
    if (on) {
        /* Bytes kept here or inside OpenSSL do not wake the poll. */
        link->work |= LINK_WORK_READ;
        net__queue(link->net, &link->turn);
    }
    link__poll(link);
}

static void op_link_drain(void *self, uint64_t id)
{
    struct net_link *link = link__find(self, id);
    if (!link || link->at == AT_OVER) return;
    link->work |= LINK_WORK_DRAIN;
    net__queue(link->net, &link->turn);
}

static void op_link_finish(void *self, uint64_t id)
{
    struct net_link *link = link__find(self, id);
    if (!link) return;
    if (link->at == AT_OPEN) stream__finish(link);
    else link__abort(link);
}

static void op_link_abort(void *self, uint64_t id)
{
    struct net_link *link = link__find(self, id);
    if (link) link__abort(link);
}

static bool op_http_start(void *self, uint64_t call, const struct http_request *request)
{
    return http__start(self, call, request);
}

static void op_http_cancel(void *self, uint64_t call)
{
    http__cancel(self, call);
}

static void op_wake(void *self)
{
    struct net *net = self;
    if (net->closing) return;
    net->wake = true;
    uv_idle_start(&net->idle, on_idle);
}

static bool op_link_info(void *self, uint64_t id, struct host_link_info *out)
{
    struct net_link *link = link__find(self, id);
    return link && link__info(link, out);
}

static void op_loop_delay(void *self, struct host_loop_delay *out)
{
    struct net *net = self;
    delay_get(&net->delay, uv_hrtime() / 1000, out);
}

static uint64_t op_ticks_us(void *self)
{
    (void)self;
    return uv_hrtime() / 1000;
}

static const struct host_ops net_ops = {
    .clock = op_clock,
    .random = op_random,
    .link_open = op_link_open,
    .link_write = op_link_write,
    .link_queued = op_link_queued,
    .link_read = op_link_read,
    .link_drain = op_link_drain,
    .link_finish = op_link_finish,
    .link_abort = op_link_abort,
    .http_start = op_http_start,
    .http_cancel = op_http_cancel,
    .wake = op_wake,
    .link_info = op_link_info,
    .loop_delay = op_loop_delay,
    .ticks_us = op_ticks_us,
};

/* ---- the turn ---------------------------------------------------------------------------------- */

static void on_idle(uv_idle_t *idle)
{
    (void)idle; /* only keeps the loop from sleeping */
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct net *net = prepare->data;
    run_turns(net);
    if (net->wake && !net->closing) run_tick(net);
    run_flushes(net);
    if (net->closing) return;
    arm(net);
    if (!net->wake && list_is_empty(&net->turns)) uv_idle_stop(&net->idle);

    uint64_t now_ns = uv_hrtime();
    net->turn_at_ns = now_ns;
    if (net->awake_ns) note_lag(net, (now_ns - net->awake_ns) / 1000);
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
    uint64_t until_ns = 0;
    list_take(&now, &net->turns);
    for (uint32_t n = 0; !list_is_empty(&now); n++) {
        struct turn *turn = CONTAINER_OF(now.next, struct turn, node);
        list_remove(&turn->node);
        if (net->closing) continue;
        turn->run(turn);
        /* A herd ends, or begins, in thousands of them. A look at the clock for each 16. */
        if (n % 16 != 15) continue;
        uint64_t now_ns = uv_hrtime();
        if (!until_ns) until_ns = now_ns + TURNS_NS_MAX;
        if (now_ns < until_ns) continue;
        while (!list_is_empty(&net->turns)) {
            struct node *later = net->turns.next;
            list_remove(later);
            list_append(&now, later);
        }
        list_take(&net->turns, &now);
        return;
    }
}

static void run_flushes(struct net *net)
{
    while (!list_is_empty(&net->flushes)) {
        struct net_link *link = CONTAINER_OF(net->flushes.next, struct net_link, flush);
        list_remove(&link->flush);
        if (!net->closing) stream__flush(link);
    }
}

static void run_tick(struct net *net)
{
    uint64_t now_ms = net__now_ms();
    /* 0 is "at once", not an instant that was missed by the machine's uptime. */
    if (net->armed_ms != NET_DEADLINE_NEVER && net->armed_ms && now_ms > net->armed_ms) {
        note_lag(net, (now_ms - net->armed_ms) * 1000);
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
    op_wake(timer->data);
}

static void on_attempt_timer(uv_timer_t *timer)
{
    link__attempts_due(timer->data);
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

static void note_lag(struct net *net, uint64_t lag_us)
{
    uint64_t now_ms = net->turn_at_ns / 1000000, lag_ms = lag_us / 1000;
    delay_note(&net->delay, uv_hrtime() / 1000, lag_us);
    if (now_ms - net->lag_window_ms >= LAG_WINDOW_MS) {
        net->lag_ms[1] = now_ms - net->lag_window_ms < 2 * LAG_WINDOW_MS ? net->lag_ms[0] : 0;
        net->lag_ms[0] = 0;
        net->lag_window_ms = now_ms;
    }
    if (lag_ms > net->lag_ms[0]) net->lag_ms[0] = lag_ms;
}

/* ---- for the other files ----------------------------------------------------------------------- */

uint64_t net__now_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC);
}

void net__queue(struct net *net, struct turn *turn)
{
    if (net->closing || list_is_linked(&turn->node)) return;
    list_append(&net->turns, &turn->node);
    uv_idle_start(&net->idle, on_idle);
}

void net__flush_soon(struct net *net, struct node *flush)
{
    if (!list_is_linked(flush)) list_append(&net->flushes, flush);
}

void net__hold(struct net *net)
{
    net->holds++;
}

static void on_closed(uv_handle_t *handle)
{
    net__release(handle->data);
}

void net__release(struct net *net)
{
    ASSERT(net->holds > 0);
    net->holds--;
    if (!net->closing || net->holds > 0) return;
    void (*closed)(void *data) = net->closed;
    void *data = net->closed_data;
    link__destroy_all(net);
    http__destroy(net->http);
    resolver__destroy(net->resolver);
    trusts__destroy(net->trusts);
    table_deinit(&net->links);
    table_deinit(&net->calls);
    free(net->read_buffer);
    free(net);
    if (closed) closed(data);
}

struct cause net__cause(enum stage stage, enum cause_kind kind, int64_t code, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct buffer clean;
    buffer_init(&clean, 4096);
    bool ok = text_printable(&clean, text, strlen(text)) && buffer_append_char(&clean, '\0');
    struct cause cause = cause_make(stage, kind, BY_NETWORK, ok ? (const char *)clean.data : NULL);
    buffer_deinit(&clean);
    cause.code = code;
    return cause;
}

enum cause_kind net__connect_kind(int error)
{
    switch (error) {
    case ECONNREFUSED: return CAUSE_REFUSED;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
    case EADDRNOTAVAIL:  /* no address of this family here to dial from */
    case EAFNOSUPPORT: return CAUSE_UNREACHABLE;
    case ECONNRESET: return CAUSE_RESET;
    default: return CAUSE_CONNECT;
    }
}

enum cause_kind net__stream_kind(int error)
{
    return error == ECONNRESET || error == EPIPE || error == ECONNABORTED ? CAUSE_RESET : CAUSE_IO;
}
