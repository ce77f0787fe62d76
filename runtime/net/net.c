/* Net: owns the host's memory and its end, the clocks, and the table that the runtime calls. The loop's turn is
 * in turn.c; links, TLS, lookups and calls are in the other files. */
#include "net/net.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/fetch_ahead.h"
#include "base/text.h"
#include "net/net_internal.h"

static void on_closed(uv_handle_t *handle);
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
    list_init(&net->dials);
    list_init(&net->attempts);
    uint64_t ttl_ms = options->resolve_ttl_ms ? options->resolve_ttl_ms : NET_RESOLVE_TTL_MS;
    bool tables = table_init(&net->links) & table_init(&net->calls);
    net->read_buffer = malloc(NET_READ_BYTES);
    net->records.bytes = malloc(NET_READ_BYTES);
    net->resolver = resolver__create(net, ttl_ms);
    uint64_t look_ms = options->ca_look_ms ? options->ca_look_ms : NET_CA_LOOK_MS;
    net->trusts = trusts__create(net, options->system_ca_file, look_ms);
    net->http = http__create(net);
    if (!tables || !net->read_buffer || !net->records.bytes || !net->resolver || !net->trusts || !net->http) {
        /* Without memory for a few kilobytes at start nothing was started yet that needs closing,
         * the HTTP part excepted: it starts its handles with the first call. */
        if (net->http) http__destroy(net->http);
        if (net->trusts) trusts__destroy(net->trusts);
        if (net->resolver) resolver__destroy(net->resolver);
        free(net->read_buffer);
        free(net->records.bytes);
        table_deinit(&net->links);
        table_deinit(&net->calls);
        free(net);
        return NULL;
    }

    turn__init(net);
    return net;
}

void net_trust_soon(struct net *net, const char *ca_file)
{
    struct trust *trust;
    trusts__get(net->trusts, ca_file, NULL, &trust);
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
                               (uv_handle_t *)&net->timer, (uv_handle_t *)&net->attempt_timer,
                               (uv_handle_t *)&net->rest_timer };
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
    net__random(self, out, len);
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
    net__wake(self);
}

static void op_link_warm(void *self, uint64_t id)
{
    const struct net_link *link = link__find(self, id);
    if (!link) return;
    fetch_ahead(link, LINK_FRAME_BYTES);
    if (link->out.data) fetch_ahead(link->out.data, FETCH_LINE);
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

static bool op_is_behind(void *self)
{
    const struct net *net = self;
    return net->behind;
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
    .link_warm = op_link_warm,
    .loop_delay = op_loop_delay,
    .is_behind = op_is_behind,
    .ticks_us = op_ticks_us,
};

/* ---- for the other files ----------------------------------------------------------------------- */

uint64_t net__now_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC);
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
    free(net->records.bytes);
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
