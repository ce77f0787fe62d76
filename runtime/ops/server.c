/* Server: creation and end of the local API, its clients, its one timer. Owns libwebsockets'
 * context. Deadlines of clients are judged here on our own clock: a timer of
 * libwebsockets that is set from outside its callbacks may never fire. */
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "ops/gather.h"
#include "ops/lws_end.h"
#include "ops/ops_internal.h"

#define CLIENTS_DEFAULT 1024u
#define HEAD_DEFAULT_MS 10000u
#define IDLE_DEFAULT_MS 60000u
#define QUEUE_DEFAULT ((size_t)256 << 10)
#define TICK_MS 250
#define CLOSE_TURNS_MAX 400u

/* libwebsockets has one emitter per process, without a pointer to anybody; the newest server has
 * it. */
static struct ops *emits_to;

static bool tokens_copy(struct ops *ops, const struct ops_options *options, char *why,
                        size_t why_bytes);
static bool lws_start(struct ops *ops, char *why, size_t why_bytes);
static void on_emit(int level, const char *line);
static void on_prepare(uv_prepare_t *handle);
static void on_tick(uv_timer_t *handle);
static void client_judge(struct client *c, uint64_t now_ms);
static bool peer_is_gone(const struct client *c);
static void client_end(struct client *c);
static void on_own_closed(uv_handle_t *handle);
static void on_closer(uv_timer_t *handle);
static void on_all_closed(uv_handle_t *handle);
static void on_poller_closed(uv_handle_t *handle);

struct ops *ops_create(uv_loop_t *loop, struct runtime *rt, struct deliver *d,
                       const struct ops_options *options, char *why, size_t why_bytes)
{
    struct ops *ops = calloc(1, sizeof *ops);
    snprintf(why, why_bytes, "memory is out");
    if (!ops) return NULL;
    ops->loop = loop;
    ops->began_ms = uv_now(loop);
    ops->rt = rt;
    ops->deliver = d;
    ops->options = *options;
    ops->lock_fd = ops->unix_listener.fd = ops->tcp_listener.fd = -1;
    ops->accepts = true;
    ops->adopted = options->adopted ? *options->adopted : OPS_LISTENERS_NONE;
    ops->options.adopted = NULL; /* ours is a copy */
    if (!ops->options.clients_max) ops->options.clients_max = CLIENTS_DEFAULT;
    if (!ops->options.head_ms) ops->options.head_ms = HEAD_DEFAULT_MS;
    if (!ops->options.idle_ms) ops->options.idle_ms = IDLE_DEFAULT_MS;
    if (!ops->options.watch_events_max || ops->options.watch_events_max > WATCH_EVENTS_MAX) {
        ops->options.watch_events_max = WATCH_EVENTS_MAX;
    }
    if (!ops->options.queue_bytes_max) ops->options.queue_bytes_max = QUEUE_DEFAULT;

    uv_prepare_init(loop, &ops->prepare);
    uv_timer_init(loop, &ops->tick);
    uv_timer_init(loop, &ops->closer);
    ops->prepare.data = ops->tick.data = ops->closer.data = ops;
    uv_prepare_start(&ops->prepare, on_prepare);
    uv_unref((uv_handle_t *)&ops->prepare);
    uv_unref((uv_handle_t *)&ops->tick);

    if (tokens_copy(ops, options, why, why_bytes) && lws_start(ops, why, why_bytes) &&
        (!options->unix_path || listen__unix(ops, options->unix_path, why, why_bytes)) &&
        (!options->http || listen__tcp(ops, options->http, why, why_bytes))) {
        why[0] = 0;
        listen__drop_adopted(ops); /* what is not listened on any more */
        return ops;
    }
    ops_close(ops, NULL, NULL);
    return NULL;
}

void ops_close(struct ops *ops, void (*closed)(void *to), void *to)
{
    ASSERT(!ops->closing);
    ops->closing = true;
    listen__drop_adopted(ops);
    ops->closed = closed;
    ops->closed_to = to;
    listen__close(ops);
    for (struct client *c = ops->clients, *next; c; c = next) {
        next = c->next;
        lines__detach(c);
        if (!c->wsi) ndjson__end(c);
    }
    uv_close((uv_handle_t *)&ops->prepare, on_own_closed);
    uv_close((uv_handle_t *)&ops->tick, on_own_closed);
    watch__close(ops);
    ops->handles += 2;
    if (ops->lws) {
        lws_end_begin(ops->lws);
        ops->lws_ends = true;
    }
    /* On a loop of ours the first call only begins; the second may come when its handles are gone,
     * which takes a turn or two of the loop. */
    uv_timer_start(&ops->closer, on_closer, 0, 1);
}

const char *ops_http_address(const struct ops *ops)
{
    return ops->http_address;
}

uint32_t ops_clients(const struct ops *ops)
{
    return ops->client_count;
}

uint64_t ops__wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void ops__log(struct ops *ops, enum log_level level, const char *format, ...)
{
    char text[512];
    va_list args;
    if (!ops->options.log) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ops->options.log(ops->options.self, level, text);
}

struct client *client__create(struct ops *ops, int fd, bool tcp)
{
    struct client *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->ops = ops;
    c->fd = fd;
    c->tcp = tcp;
    c->active_ms = uv_now(ops->loop);
    buffer_init(&c->body, BODY_BYTES_MAX);
    buffer_init(&c->out, 0);
    buffer_init(&c->query, HEAD_BYTES_MAX * 2);
    c->next = ops->clients;
    if (c->next) c->next->prev = c;
    ops->clients = c;
    ops->client_count++;
    server__tick_start(ops);
    return c;
}

void server__tick_start(struct ops *ops)
{
    uv_handle_t *tick = (uv_handle_t *)&ops->tick;
    if (!ops->closing && !uv_is_active(tick)) uv_timer_start(&ops->tick, on_tick, TICK_MS, TICK_MS);
}

void client__destroy(struct client *c)
{
    struct ops *ops = c->ops;
    ASSERT(c->poller == NULL);
    lines__detach(c);
    watch__gone(c);
    gather_gone(c);
    if (c->send_id) deliver_send_drop(ops->deliver, c->send_id);
    if (c->listed) {
        struct client **at = &ops->dirty;
        while (*at != c) at = &(*at)->dirty_next;
        *at = c->dirty_next;
    }
    if (c->prev) c->prev->next = c->next;
    else ops->clients = c->next;
    if (c->next) c->next->prev = c->prev;
    ASSERT(ops->client_count > 0);
    ops->client_count--;
    buffer_deinit(&c->body);
    buffer_deinit(&c->out);
    buffer_deinit(&c->query);
    free(c);
}

void client__touch(struct client *c)
{
    if (c->listed || c->ops->closing) return;
    c->listed = true;
    c->dirty_next = c->ops->dirty;
    c->ops->dirty = c;
}

struct poller *poller__open(struct ops *ops, int fd, void *owner, int events, uv_poll_cb on_ready)
{
    struct poller *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    if (uv_poll_init(ops->loop, &p->handle, fd) != 0) {
        free(p);
        return NULL;
    }
    p->owner = owner;
    p->handle.data = p;
    poller__events(p, events, on_ready);
    return p;
}

void poller__events(struct poller *p, int events, uv_poll_cb on_ready)
{
    if (p->events == events && p->on_ready == on_ready) return;
    p->events = events;
    p->on_ready = on_ready;
    uv_poll_start(&p->handle, events, on_ready);
}

void poller__close(struct poller *p)
{
    if (!p) return;
    p->owner = NULL;
    uv_poll_stop(&p->handle); /* at once: the descriptor may get another owner in this turn */
    uv_close((uv_handle_t *)&p->handle, on_poller_closed);
}

static bool tokens_copy(struct ops *ops, const struct ops_options *options, char *why,
                        size_t why_bytes)
{
    if (options->token_count > OPS_TOKENS_MAX) {
        snprintf(why, why_bytes, "more than %d tokens", OPS_TOKENS_MAX);
        return false;
    }
    for (uint32_t i = 0; i < options->token_count; i++) {
        const struct ops_token *from = &options->tokens[i];
        struct token *to = &ops->tokens[i];
        size_t len = 0;
        if (!from->secret || !secret_bytes(from->secret, &len) || len < 8) {
            snprintf(why, why_bytes, "a token of the local API has less than 8 bytes");
            return false;
        }
        to->secret = secret_ref(from->secret);
        to->scope = from->scope;
        if (from->consumer)
            text_copy(to->consumer, sizeof to->consumer, from->consumer, strlen(from->consumer));
        ops->token_count++;
    }
    ops->options.tokens = NULL; /* ours are copies */
    return true;
}

static bool lws_start(struct ops *ops, char *why, size_t why_bytes)
{
    void *loops[1] = { ops->loop };
    struct lws_context_creation_info info;
    memset(&info, 0, sizeof info);
    emits_to = ops;
    lws_set_log_level(LLL_ERR, on_emit);
    info.options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS;
    info.foreign_loops = loops;
    info.pcontext = &ops->lws;
    info.user = ops;
    info.server_string = "holdfast";
    info.max_http_header_data = HEAD_BYTES_MAX;
    info.protocols = http__protocols;
    info.port = CONTEXT_PORT_NO_LISTEN_SERVER;
    info.vhost_name = "holdfast";
    ops->lws = lws_create_context(&info);
    if (!ops->lws) {
        snprintf(why, why_bytes, "libwebsockets does not start: is its libuv plugin "
                                 "(libwebsockets-evlib-uv) installed?");
        return false;
    }
    lws_end_keep_plugin();
    ops->vhost = lws_create_vhost(ops->lws, &info);
    if (!ops->vhost) snprintf(why, why_bytes, "libwebsockets makes no virtual host");
    return ops->vhost != NULL;
}

static void on_emit(int level, const char *line)
{
    (void)level;
    size_t len = strlen(line);
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r')) len--;
    if (emits_to && len) ops__log(emits_to, LOG_WARNING, "libwebsockets: %.*s", (int)len, line);
}

/* Before the loop polls: frames to their readers, readers' bytes to their sockets, ends to their
 * end. */
static void on_prepare(uv_prepare_t *handle)
{
    struct ops *ops = handle->data;
    if (deliver_wants_pump(ops->deliver)) {
        runtime_clock_told(ops->rt);
        deliver_pump(ops->deliver);
    }
    while (ops->dirty) {
        struct client *c = ops->dirty;
        ops->dirty = c->dirty_next;
        c->listed = false;
        if (c->kind == CLIENT_NDJSON) {
            ndjson__flush(c); /* may end it */
        } else if (c->closing) {
            http__end(c);
        } else if (c->wsi) {
            lws_callback_on_writable(c->wsi);
        }
    }
}

static void on_tick(uv_timer_t *handle)
{
    struct ops *ops = handle->data;
    uint64_t now_ms = uv_now(ops->loop);
    for (struct client *c = ops->clients, *next; c; c = next) {
        next = c->next;
        client_judge(c, now_ms);
    }
    if (ops->listeners_paused) listen__go_on(ops);
    if (ops->client_count == 0) uv_timer_stop(handle); /* nobody to look after: no wake-ups */
}

static void client_judge(struct client *c, uint64_t now_ms)
{
    const struct ops_options *o = &c->ops->options;
    if (c->kill_ms) {
        if (now_ms >= c->kill_ms) client_end(c);
        return;
    }
    /* While an answer is under way libwebsockets does not look at what comes in, its end included.
     */
    if (c->wsi && (c->kind == CLIENT_EVENTS || c->kind == CLIENT_WATCH || c->send_id || c->waits_upgrade || c->waits_reload || c->waits_put || c->gather) && peer_is_gone(c)) {
        client_end(c);
        return;
    }
    if (c->kind == CLIENT_WATCH) {
        if (watch__judge(c, now_ms)) client_end(c);
        return;
    }
    if (!handle_is_none(c->consumer) || c->send_id || c->waits_upgrade || c->waits_reload || c->waits_put || c->gather) return;
    /* Until the first request is whole; after it, between requests and during one. */
    uint64_t limit_ms = c->served || c->in_request ? o->idle_ms : o->head_ms;
    if (now_ms - c->active_ms >= limit_ms) client_end(c);
}

static bool peer_is_gone(const struct client *c)
{
    struct pollfd at = { .fd = lws_get_socket_fd(c->wsi), .events = POLLRDHUP };
    return poll(&at, 1, 0) > 0 && (at.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

static void client_end(struct client *c)
{
    if (c->wsi) http__end(c);
    else ndjson__end(c);
}

static void on_own_closed(uv_handle_t *handle)
{
    struct ops *ops = handle->data;
    ASSERT(ops->handles > 0);
    ops->handles--;
}

static void on_closer(uv_timer_t *handle)
{
    struct ops *ops = handle->data;
    ops->close_turns++;
    if (ops->lws_ends && ops->close_turns >= 3) {
        lws_end_over();
        ops->lws_ends = false;
    }
    if (ops->handles > 0 || ops->close_turns < 3) return;
    if (ops->lws && ops->close_turns % 4 == 3) lws_context_destroy(ops->lws);
    if (ops->lws && ops->close_turns < CLOSE_TURNS_MAX) return;
    if (ops->close_turns < 6) return; /* what the last call closed is still on its way */
    if (ops->lws) ops__log(ops, LOG_WARNING, "libwebsockets did not let go of its context");
    uv_close((uv_handle_t *)handle, on_all_closed);
}

static void on_all_closed(uv_handle_t *handle)
{
    struct ops *ops = handle->data;
    void (*closed)(void *to) = ops->closed;
    void *to = ops->closed_to;
    ASSERT(ops->lws || ops->clients == NULL);
    for (uint32_t i = 0; i < ops->token_count; i++) secret_unref(ops->tokens[i].secret);
    if (emits_to == ops) emits_to = NULL;
    watch__free(ops);
    free(ops);
    if (closed) closed(to);
}

static void on_poller_closed(uv_handle_t *handle)
{
    free(handle->data);
}
