/* Daemon: puts the parts together, in order, and takes them apart in the reverse order. Decides nothing
 * about any connection. */
#include "ops/daemon_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/url.h"

#define DESCRIPTORS_MAX ((rlim_t)1 << 20) /* far above it libwebsockets assumes a small table */
#define TELL_STATUS_MS 5000

#define TRUSTS_BEGUN_MAX 64u   /* connections whose CA files are read while the store is opened */

static uint64_t deadline_of(struct runtime *rt);
static void proxies_start(struct daemon *d);
static void limits_raise(struct daemon *d);
static bool ops_start(struct daemon *d, char *why, size_t why_bytes);
static void on_prepare(uv_prepare_t *handle);
static void trusts_begin(struct daemon *d);
static void on_store_wake(uv_async_t *handle);
static void on_store_flush(uv_prepare_t *handle);
static void store_handles_close(struct daemon *d);
static void on_again(uv_idle_t *handle);
static void on_signal(uv_signal_t *handle, int number);
static void on_telling(uv_timer_t *handle);
static void on_runtime_log(void *self, enum log_level level, const char *connection, const char *text);
static uint64_t on_ops_log_left_out(void *self);
static void on_runtime_journal(void *self, struct handle conn, const char *connection,
                               const struct journal_entry *entry);

struct daemon *daemon_create(struct roster *roster, const struct daemon_options *options, char *why,
                             size_t why_bytes)
{
    static const int signal_numbers[] = { SIGTERM, SIGINT, SIGHUP };
    struct daemon *d = calloc(1, sizeof *d);
    ASSERT(d != NULL);
    d->options = *options;
    d->roster = *roster;
    memset(roster, 0, sizeof *roster);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGIO, SIG_IGN);   /* a lease that file_look.c has for an instant is wanted by a writer */
    signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files is a full disk, not an end */
    limits_raise(d);
    proxies_start(d);
    if (getrandom(&d->seed, sizeof d->seed, 0) != sizeof d->seed) d->seed = (uint64_t)time(NULL);

    int failed = uv_loop_init(&d->loop);
    ASSERT(failed == 0);
    d->store_lock = STORE_LOCK_NONE;
    /* libuv runs what was started first last: after net's turn and ours. */
    uv_prepare_init(&d->loop, &d->store_flush);
    uv_async_init(&d->loop, &d->store_wake, on_store_wake);
    d->store_flush.data = d->store_wake.data = d;
    uv_prepare_start(&d->store_flush, on_store_flush);
    d->net = net_create(&d->loop, &runtime_host_sink, NULL);
    struct clock now;
    struct host host = net_host(d->net);
    if (d->net) host.ops->clock(host.self, &now);
    if (!d->net) {
        snprintf(why, why_bytes, "out of memory");
        goto fail_parts;
    }
    trusts_begin(d);
    const struct handover_message *taken = options->taken;
    int lock_fd = taken ? taken->fds[HANDOVER_FD_STORE_LOCK] : -1;
    d->adopted = OPS_LISTENERS_NONE;
    if (taken) {
        d->adopted = (struct ops_listeners){ .unix_fd = taken->fds[HANDOVER_FD_UNIX],
                                             .unix_lock_fd = taken->fds[HANDOVER_FD_UNIX_LOCK],
                                             .http_fd = taken->fds[HANDOVER_FD_HTTP] };
    }
    if (!daemon__store_open(d, lock_fd, why, why_bytes)) goto fail_parts;
    struct store store = daemon__store(d);
    struct deliver_options delivering = { .epoch = daemon__store_epoch(d, now.wall_ms),
                                          .wall_ms = now.wall_ms,
                                          .store = store.ops->kind(store.self) };
    d->deliver = deliver_create(&delivering);
    if (!d->deliver) {
        snprintf(why, why_bytes, "out of memory");
        goto fail_parts;
    }
    struct runtime_options ro = { .seed = d->seed,
                                  .host = host,
                                  .store = store,
                                  .dedupe_seed = daemon__store_seed(d),
                                  .deliver = d->deliver,
                                  .proxies = &d->proxies,
                                  .observer = { .self = d, .log = on_runtime_log, .journal = on_runtime_journal,
                                                .log_about = daemon__log_about, .logs = daemon__logs },
                                  .connections_max = d->roster.config.connection_count * 2 + 1024 };
    d->rt = runtime_create(&ro);
    if (!d->rt) {
        snprintf(why, why_bytes, "out of memory");
        goto fail_parts;
    }
    net_set_runtime(d->net, d->rt, runtime_tick, deadline_of);
    uv_prepare_init(&d->loop, &d->prepare);
    uv_idle_init(&d->loop, &d->again);
    uv_timer_init(&d->loop, &d->grace);
    uv_timer_init(&d->loop, &d->leave);
    uv_timer_init(&d->loop, &d->telling);
    daemon__log_init(d);
    daemon__reload_init(d);
    d->prepare.data = d->again.data = d->grace.data = d->leave.data = d->telling.data = d;
    daemon__upgrade_init(d);
    bool told = notify_open(&d->notify, options->log);
    uv_prepare_start(&d->prepare, on_prepare);
    for (int i = 0; i < 3; i++) {
        uv_signal_init(&d->loop, &d->signals[i]);
        d->signals[i].data = d;
        uv_signal_start(&d->signals[i], on_signal, signal_numbers[i]);
    }
    if (!daemon__store_read(d, why, why_bytes)) goto fail_started;
    /* The API first: a second daemon for the same socket must not dial anything. */
    if (!ops_start(d, why, why_bytes)) goto fail_started;
    if (taken && !daemon__takeover_finish(d, why, why_bytes)) goto fail_started;
    daemon__trials_restore(d);
    for (uint32_t i = 0; i < d->roster.config.connection_count; i++) {
        /* One that took over has nobody to go back to: the others go on. */
        if (daemon__add(d, i, roster_take(&d->roster, i)) || taken) continue;
        snprintf(why, why_bytes, "connection %s cannot be added", d->roster.config.connections[i].name);
        goto fail_started;
    }
    daemon__added_start(d);
    daemon__trials_started(d);
    daemon__watch(d);
    const struct config *c = &d->roster.config;
    log_printf(options->log, LOG_INFO, NULL,
               "holdfast %s runs %u connection%s by %u polic%s; socket %s%s%s; backlog and sessions are "
               "kept in %s",
               options->version, c->connection_count, c->connection_count == 1 ? "" : "s",
               d->roster.version_count, d->roster.version_count == 1 ? "y" : "ies",
               c->listen.unix_path ? c->listen.unix_path : "none",
               c->listen.http ? ", http " : "", c->listen.http ? ops_http_address(d->ops) : "",
               daemon__store_is_durable(d) ? c->store_path : "memory, and end with this process");
    if (told) {
        if (taken) notify_main_pid(&d->notify, (long)getpid());
        notify_ready(&d->notify);
        on_telling(&d->telling);
    }
    return d;

fail_started:
    daemon_destroy(d);
    return NULL;
fail_parts:
    daemon__store_close(d);
    store_handles_close(d);
    if (d->net) net_close(d->net, NULL, NULL);
    uv_run(&d->loop, UV_RUN_DEFAULT);
    uv_loop_close(&d->loop);
    if (d->deliver) deliver_destroy(d->deliver);
    daemon__store_end(d, false);
    roster_deinit(&d->roster);
    proxy_env_deinit(&d->proxies);
    free(d);
    return NULL;
}

/* The system's CAs take some milliseconds to read, in libuv's pool: while the store is opened here. */
static void trusts_begin(struct daemon *d)
{
    const struct config *c = &d->roster.config;
    for (uint32_t i = 0; i < c->connection_count && i < TRUSTS_BEGUN_MAX; i++)
        net_trust_soon(d->net, c->connections[i].ca_file);
}

static void on_store_wake(uv_async_t *handle)
{
    (void)handle; /* the answers are told before the loop sleeps again */
}

static void on_store_flush(uv_prepare_t *handle)
{
    daemon__store_flush(handle->data);
}

static void store_handles_close(struct daemon *d)
{
    uv_close((uv_handle_t *)&d->store_flush, NULL);
    uv_close((uv_handle_t *)&d->store_wake, NULL);
}

bool daemon_run(struct daemon *d)
{
    while (!d->down) uv_run(&d->loop, UV_RUN_ONCE);
    return d->in_order;
}

static void on_ops_closed(void *to)
{
    *(bool *)to = true;
}

void daemon_destroy(struct daemon *d)
{
    bool ops_closed = d->ops == NULL;
    /* While the lock on the socket is still ours; after a handover it is the next one's. */
    if (d->token_path[0] && !d->handed_over) unlink(d->token_path);
    if (d->ops) ops_close(d->ops, on_ops_closed, &ops_closed);
    while (!ops_closed) uv_run(&d->loop, UV_RUN_ONCE);
    runtime_destroy(d->rt);
    d->rt = NULL;
    daemon__store_close(d);
    store_handles_close(d);
    for (int i = 0; i < 3; i++) uv_close((uv_handle_t *)&d->signals[i], NULL);
    uv_close((uv_handle_t *)&d->prepare, NULL);
    uv_close((uv_handle_t *)&d->again, NULL);
    uv_close((uv_handle_t *)&d->grace, NULL);
    uv_close((uv_handle_t *)&d->leave, NULL);
    uv_close((uv_handle_t *)&d->telling, NULL);
    daemon__log_deinit(d);
    daemon__upgrade_deinit(d);
    daemon__reload_deinit(d);
    notify_close(&d->notify);
    net_close(d->net, NULL, NULL);
    uv_run(&d->loop, UV_RUN_DEFAULT);
    int failed = uv_loop_close(&d->loop);
    ASSERT(failed == 0);
    deliver_destroy(d->deliver);
    daemon__store_end(d, d->handed_over);
    daemon__reload_free(d);
    roster_deinit(&d->roster);
    free(d->to_add);
    daemon__added_deinit(d);
    daemon__trials_deinit(d);
    proxy_env_deinit(&d->proxies);
    free(d);
}

/* --- parts ------------------------------------------------------------------------------------------------- */

static void proxy_tell(struct daemon *d, const char *what, const struct proxy *p)
{
    const struct proxy_env *e = &d->proxies;
    bool v6 = strchr(p->host, ':') != NULL;
    char except[96] = "";
    if (!p->host[0]) return;
    if (e->rule_count) {
        snprintf(except, sizeof except, " and what %s names (%u entr%s)", e->rules_from, e->rule_count,
                 e->rule_count == 1 ? "y" : "ies");
    }
    log_printf(d->options.log, LOG_INFO, NULL,
               "connections without `proxy` go to %s through the proxy at %s%s%s:%u (%s), except to loopback%s",
               what, v6 ? "[" : "", p->host, v6 ? "]" : "", p->port, p->variable, except);
}

/* Said aloud: whoever did not know that the variable is set must be able to find out. */
static void proxies_start(struct daemon *d)
{
    const struct config *c = &d->roster.config;
    roster_proxies_read(&d->proxies, d->proxies_wrong, sizeof d->proxies_wrong);
    for (uint32_t i = 0; i < c->connection_count; i++) {
        if (c->connections[i].proxy) continue;
        proxy_tell(d, "https and wss", &d->proxies.https);
        proxy_tell(d, "http and ws", &d->proxies.http);
        return;
    }
}

static void limits_raise(struct daemon *d)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) != 0) return;
    rlim_t wanted = l.rlim_max < DESCRIPTORS_MAX ? l.rlim_max : DESCRIPTORS_MAX;
    if (l.rlim_cur != RLIM_INFINITY && l.rlim_cur < wanted) l.rlim_cur = wanted;
    if (l.rlim_cur == RLIM_INFINITY || l.rlim_cur > DESCRIPTORS_MAX) l.rlim_cur = wanted;
    if (setrlimit(RLIMIT_NOFILE, &l) != 0) {
        log_printf(d->options.log, LOG_WARNING, NULL, "the limit of open files stays at %llu: %s",
                   (unsigned long long)l.rlim_cur, strerror(errno));
    }
}

bool daemon__add(struct daemon *d, uint32_t index, struct policy_build *build)
{
    const struct config_connection *c = &d->roster.config.connections[index];
    char why[256];
    if (daemon__add_connection(d, c, build, why, sizeof why)) return true;
    log_printf(d->options.log, LOG_ALARM, c->name, "not added: %s", why);
    return false;
}

bool daemon__add_connection(struct daemon *d, const struct config_connection *c,
                            struct policy_build *build, char *why, size_t why_bytes)
{
    struct url proxy;
    const char *bad;
    struct connection_spec spec = { .name = c->name,
                                    .build = build,
                                    .ca_file = c->ca_file,
                                    .owner = c->owner[0] ? c->owner : NULL,
                                    .plain = c->plain };
    if (c->proxy && c->proxy[0] && url_parse(c->proxy, strlen(c->proxy), &proxy, &bad)) {
        spec.proxy.host = proxy.host;
        spec.proxy.port = proxy.port;
        spec.proxy.authorization = c->proxy_authorization;
    }
    spec.proxy_of_environment = c->proxy == NULL;
    return !handle_is_none(runtime_add(d->rt, &spec, why, why_bytes));
}

static void on_runtime_log(void *self, enum log_level level, const char *connection, const char *text)
{
    struct daemon *d = self;
    log_line(d->options.log, level, connection, text);
}

static void on_runtime_journal(void *self, struct handle conn, const char *connection,
                               const struct journal_entry *entry)
{
    struct daemon *d = self;
    if (d->ops) ops_journaled(d->ops, conn, connection, entry);
}

static uint64_t on_ops_log_left_out(void *self)
{
    const struct daemon *d = self;
    return d->limit.left_out_total;
}

static void on_ops_log(void *self, enum log_level level, const char *text)
{
    struct daemon *d = self;
    log_line(d->options.log, level, NULL, text);
}


static bool on_ops_ready(void *self)
{
    return !((struct daemon *)self)->stopping;
}

static bool on_ops_store(void *self, struct store_health *out)
{
    return daemon__store_health(self, out);
}

static enum ops_scope scope_of(unsigned scopes)
{
    if (scopes & SCOPE_OPERATE) return OPS_OPERATE;
    return scopes & SCOPE_CONSUME ? OPS_CONSUME : OPS_READ;
}

static bool ops_start(struct daemon *d, char *why, size_t why_bytes)
{
    const struct config_listen *listen = &d->roster.config.listen;
    struct ops_token tokens[OPS_TOKENS_MAX];
    char address[96];
    struct secret *generated = NULL;
    uint32_t count = 0;
    if (listen->token_count > OPS_TOKENS_MAX) {
        snprintf(why, why_bytes, "listen.tokens has %u entries; at most %d are possible",
                 listen->token_count, OPS_TOKENS_MAX);
        return false;
    }
    for (; count < listen->token_count; count++) {
        const struct config_token *t = &listen->tokens[count];
        tokens[count] = (struct ops_token){ .secret = t->secret,
                                            .scope = scope_of(t->scopes),
                                            .consumer = t->consumer[0] ? t->consumer : NULL };
    }
    if (listen->http && count == 0) {
        generated = d->options.taken ? daemon__token_read(d) : NULL; /* clients know it */
        if (!generated) generated = daemon__token_generate(why, why_bytes);
        if (!generated) return false;
        tokens[count++] = (struct ops_token){ .secret = generated, .scope = OPS_OPERATE };
    }
    bool v6 = strchr(listen->http_host, ':') != NULL;
    snprintf(address, sizeof address, "%s%s%s:%u", v6 ? "[" : "", listen->http_host, v6 ? "]" : "",
             listen->http_port);
    struct ops_options oo = { .version = d->options.version,
                              .unix_path = listen->unix_path,
                              .http = listen->http ? address : NULL,
                              .tokens = tokens,
                              .token_count = count,
                              .self = d,
                              .log = on_ops_log,
                              .reload = daemon__reload,
                              .reload_view = daemon__reload_view,
                              .store = on_ops_store,
                              .taken_back = daemon__taken_back,
                              .put = daemon__put,
                              .puts_view = daemon__puts_view,
                              .remove = daemon__remove,
                              .upgrade = daemon__upgrade,
                              .ready = on_ops_ready,
                              .log_left_out = on_ops_log_left_out,
                              .adopted = &d->adopted };
    d->ops = ops_create(&d->loop, d->rt, d->deliver, &oo, why, why_bytes);
    d->adopted = OPS_LISTENERS_NONE;
    bool ok = d->ops && (!generated || daemon__token_write(d, generated, why, why_bytes));
    secret_unref(generated);
    if (d->token_path[0]) {
        log_printf(d->options.log, LOG_INFO, NULL, "the token for http is in %s", d->token_path);
    }
    return ok;
}

/* --- the loop ------------------------------------------------------------------------------------------------ */

static uint64_t deadline_of(struct runtime *rt)
{
    return runtime_deadline_ms(rt);
}

static void on_prepare(uv_prepare_t *handle)
{
    struct daemon *d = handle->data;
    if (!d->rt) return;
    if (daemon__store_poll(d)) uv_idle_start(&d->again, on_again);
    else uv_idle_stop(&d->again);
    if (!d->stopping && (d->to_add_count || d->added_waiting)) {
        uint64_t until_ns = uv_hrtime() + d->reloading.slice_ns;
        bool done = daemon__add_pending(d, until_ns) && daemon__added_pending(d, until_ns);
        if (!done) daemon__swap_wake(d);
    }
    daemon__end_step(d);
}

static void on_again(uv_idle_t *handle)
{
    (void)handle;
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct daemon *d = handle->data;
    if (number != SIGHUP) daemon__end(d, number);
    else if (!d->stopping) daemon__reload_all(d, "SIGHUP");
}

static void on_telling(uv_timer_t *handle)
{
    struct daemon *d = handle->data;
    char text[320];
    struct store_health store;
    bool ill = daemon__store_health(d, &store) && store.degraded;
    snprintf(text, sizeof text, "%u of %u connections are up%s%s", runtime_count_up(d->rt), runtime_count(d->rt),
             ill ? "; the store cannot write: " : "", ill ? store.why : "");
    if (!d->stopping) notify_status(&d->notify, text);
    notify_watchdog(&d->notify);
    uint64_t next_ms = notify_next_ms(&d->notify);
    if (!next_ms || next_ms > TELL_STATUS_MS) next_ms = TELL_STATUS_MS;
    uv_timer_start(&d->telling, on_telling, next_ms, 0);
}
