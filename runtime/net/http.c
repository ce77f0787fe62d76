/* HTTP: calls on libcurl's multi interface, in our loop. Owns the calls, the sockets it watches for
 * libcurl and their timer. The name is looked up by our resolver first, because libcurl's own lookup
 * blocks the loop when a call ends before it does; certificates are judged by our trusts, because
 * libcurl would parse a bundle per connection, on the loop.
 *
 * One timer per call bounds all of it, the lookup included. Redirects are never followed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "net/http_internal.h"

static void on_call_turn(struct turn *turn);
static void on_call_trust(struct wait *wait);
static void on_call_resolved(struct wait *wait);
static void on_call_timer(uv_timer_t *timer);
static void on_call_timer_closed(uv_handle_t *handle);
static void find_trust(struct http_call *call);
static void resolve(struct http_call *call);
static void resolved(struct http_call *call, enum resolve_result result, int status);
static void perform(struct http_call *call);
static void finish(struct http_call *call);
static void let_go(struct http_call *call);
static void collect(struct http *http);
static void reap(struct http *http, struct http_call *call, CURLcode code);
static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *socket_data);
static int on_curl_timer(CURLM *multi, long timeout_ms, void *data);
static void on_socket(uv_poll_t *poll, int status, int events);
static void on_socket_closed(uv_handle_t *handle);
static void on_timer(uv_timer_t *timer);
static void on_timer_closed(uv_handle_t *handle);

static struct http_call *call_of(struct table_entry *entry)
{
    return entry ? CONTAINER_OF(entry, struct http_call, entry) : NULL;
}

struct http *http__create(struct net *net)
{
    struct http *http = calloc(1, sizeof *http);
    if (!http) return NULL;
    http->net = net;
    /* Counted by libcurl, and safe to repeat. */
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(http);
        return NULL;
    }
    http->multi = curl_multi_init();
    if (!http->multi) {
        curl_global_cleanup();
        free(http);
        return NULL;
    }
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long)HTTP_IDLE_CONNECTIONS_MAX);
    return http;
}

void http__close(struct http *http)
{
    http->closing = true;
    for (uint32_t i = 0; i < http->net->calls.bucket_count; i++) {
        for (struct table_entry *e = http->net->calls.buckets[i]; e; e = e->next) let_go(call_of(e));
    }
    curl_multi_cleanup(http->multi); /* closes the idle connections; reports their sockets */
    http->multi = NULL;
    if (http->timer_made) uv_close((uv_handle_t *)&http->timer, on_timer_closed);
}

void http__destroy(struct http *http)
{
    if (http->multi) curl_multi_cleanup(http->multi);
    for (struct table_entry *e; (e = table_any(&http->net->calls)) != NULL;) {
        struct http_call *call = call_of(e);
        table_remove(&http->net->calls, e);
        if (list_is_linked(&call->turn.node)) list_remove(&call->turn.node);
        http_call__free(call);
    }
    curl_global_cleanup();
    free(http);
}

bool http__start(struct net *net, uint64_t id, const struct http_request *request)
{
    ASSERT(table_find(&net->calls, id) == NULL);
    if (net->closing) return false;
    struct http_call *call = calloc(1, sizeof *call);
    if (!call) return false;
    call->entry.id = id;
    call->net = net;
    call->stage = STAGE_PREPARING;
    call->turn.run = on_call_turn;
    call->trust_wait.done = on_call_trust;
    call->resolve_wait.wait.done = on_call_resolved;
    list_init(&call->turn.node);
    list_init(&call->trust_wait.node);
    list_init(&call->resolve_wait.wait.node);
    uint64_t body_max = request->body_bytes_max ? request->body_bytes_max : HTTP_BODY_BYTES_MAX;
    if (body_max > HTTP_BODY_BYTES_MAX) body_max = HTTP_BODY_BYTES_MAX;
    buffer_init(&call->head, HTTP_HEAD_BYTES_MAX);
    buffer_init(&call->body, (size_t)body_max);
    call->timer = malloc(sizeof *call->timer);
    if (!call->timer || !http_call__prepare(call, request)) {
        free(call->timer);
        call->timer = NULL;
        http_call__free(call);
        return false;
    }
    struct http *http = net->http;
    if (!http->timer_made) {
        uv_timer_init(net->loop, &http->timer);
        http->timer.data = http;
        http->timer_made = true;
        net__hold(net);
    }
    table_put(&net->calls, &call->entry);
    uv_timer_init(net->loop, call->timer);
    net__hold(net);
    call->timer->data = call;
    uv_update_time(net->loop);
    uint64_t timeout_ms = request->timeout_ms ? request->timeout_ms : HTTP_TIMEOUT_MS;
    uv_timer_start(call->timer, on_call_timer, timeout_ms, 0);
    net__queue(net, &call->turn);
    return true;
}

void http__cancel(struct net *net, uint64_t id)
{
    struct http_call *call = call_of(table_find(&net->calls, id));
    if (!call) return;
    let_go(call);
    table_remove(&net->calls, &call->entry);
    if (list_is_linked(&call->turn.node)) list_remove(&call->turn.node);
    http_call__free(call);
}

/* ---- a call's way ------------------------------------------------------------------------------ */

static void on_call_turn(struct turn *turn)
{
    struct http_call *call = CONTAINER_OF(turn, struct http_call, turn);
    if (call->over) {
        finish(call);
    } else if (call->cause.kind != CAUSE_NONE) { /* not a request that can be made */
        call->over = true;
        let_go(call);
        finish(call);
    } else if (call->tls) {
        find_trust(call);
    } else {
        resolve(call);
    }
}

static void fail(struct http_call *call, struct cause cause)
{
    call->cause = cause;
    call->over = true;
    let_go(call);
    net__queue(call->net, &call->turn);
}

static void find_trust(struct http_call *call)
{
    struct trust *trust = NULL;
    switch (trusts__get(call->net->trusts, call->ca_file, &call->trust_wait, &trust)) {
    case TRUST_READY:
        X509_STORE_free(call->store);
        call->store = trust__store(trust);
        X509_STORE_up_ref(call->store);
        resolve(call);
        break;
    case TRUST_WAITING: break;
    case TRUST_FAILED:
        fail(call, net__cause(call->stage, CAUSE_CERTIFICATE, 0, "%s", trust__error(trust)));
        call->cause.by = BY_US;
    }
}

static void on_call_trust(struct wait *wait)
{
    find_trust(CONTAINER_OF(wait, struct http_call, trust_wait));
}

static void resolve(struct http_call *call)
{
    int status = 0;
    call->stage = STAGE_RESOLVING;
    enum resolve_result result = resolver__get(call->net->resolver, call->lookup_host,
                                               &call->resolve_wait, &call->addresses, &status);
    if (result != RESOLVE_WAITING) resolved(call, result, status);
}

static void on_call_resolved(struct wait *wait)
{
    struct http_call *call = CONTAINER_OF(wait, struct http_call, resolve_wait.wait);
    int status;
    enum resolve_result result = resolver__take(&call->resolve_wait, &call->addresses, &status);
    resolved(call, result, status);
}

static void resolved(struct http_call *call, enum resolve_result result, int status)
{
    if (result == RESOLVE_FAILED) {
        fail(call, net__cause(STAGE_RESOLVING, call->proxied ? CAUSE_PROXY : CAUSE_RESOLVE, status,
                              "cannot resolve %s%s: %s", call->proxied ? "the proxy's name " : "",
                              call->lookup_host, uv_strerror(status)));
        return;
    }
    perform(call);
}

static void perform(struct http_call *call)
{
    call->stage = STAGE_CONNECTING;
    if (!http_call__set_addresses(call) ||
        curl_multi_add_handle(call->net->http->multi, call->easy) != CURLM_OK) {
        fail(call, net__cause(STAGE_CONNECTING, CAUSE_INTERNAL, ENOMEM, "out of memory"));
        call->cause.by = BY_US;
        return;
    }
    call->added = true;
}

static void on_call_timer(uv_timer_t *timer)
{
    struct http_call *call = timer->data;
    if (!call || call->net->closing || call->over) return;
    enum stage stage = http_call__stage(call);
    if (stage >= STAGE_CONNECTING && http_call__at_proxy(call)) {
        fail(call, http_call__proxy_cause(call, ETIMEDOUT, "gave no answer in time"));
        return;
    }
    fail(call, net__cause(stage, CAUSE_TIMEOUT, 0, "no answer in time"));
}

static void finish(struct http_call *call)
{
    struct net *net = call->net;
    struct http_result result = { .answered = call->cause.kind == CAUSE_NONE,
                                  .status = call->status,
                                  .cause = call->cause };
    if (result.answered) {
        /* Borrowed texts are never NULL, so that an empty body needs no care. */
        result.head = call->head.len ? (const char *)call->head.data : "";
        result.head_len = call->head.len;
        result.body = call->body.len ? (const char *)call->body.data : "";
        result.body_len = call->body.len;
    }
    uint64_t id = call->entry.id;
    table_remove(&net->calls, &call->entry);
    if (list_is_linked(&call->turn.node)) list_remove(&call->turn.node);
    net->sink->http_done(net->rt, id, &result);
    http_call__free(call);
}

/* Lets go of everything outside: libcurl, the resolver, the timer. The call's memory stays. */
static void let_go(struct http_call *call)
{
    if (list_is_linked(&call->trust_wait.node)) list_remove(&call->trust_wait.node);
    resolver__leave(&call->resolve_wait);
    if (call->added) curl_multi_remove_handle(call->net->http->multi, call->easy);
    call->added = false;
    if (call->timer) {
        call->timer->data = call->net;
        uv_timer_stop(call->timer);
        uv_close((uv_handle_t *)call->timer, on_call_timer_closed);
        call->timer = NULL;
    }
}

static void on_call_timer_closed(uv_handle_t *handle)
{
    struct net *net = handle->data;
    free(handle);
    net__release(net);
}

/* ---- libcurl and the loop ---------------------------------------------------------------------- */

static void act(struct http *http, curl_socket_t fd, int events)
{
    int running = 0;
    http->alert = 0;
    curl_multi_socket_action(http->multi, fd, events, &running);
    collect(http);
}

/* No sink here: we may be deep in libcurl's work for others. The calls' turns tell. */
static void collect(struct http *http)
{
    int left = 0;
    CURLMsg *message;
    while ((message = curl_multi_info_read(http->multi, &left)) != NULL) {
        if (message->msg != CURLMSG_DONE) continue;
        CURLcode code = message->data.result;
        char *private = NULL;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        reap(http, (struct http_call *)(void *)private, code);
    }
}

static void reap(struct http *http, struct http_call *call, CURLcode code)
{
    ASSERT(!call->over);
    if (code == CURLE_OK) {
        long status = 0;
        curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
        call->status = (int)status;
        /* Without a tunnel the answers come by the same road; this one is a proxy's alone. */
        bool refused = call->proxied && !call->tls && status == 407;
        call->cause = (struct cause){ .kind = CAUSE_NONE, .close_code = CLOSE_CODE_NONE,
                                      .retry_after_ms = RETRY_AFTER_NONE };
        if (refused) call->cause = http_call__proxy_cause(call, status, "refused the request: HTTP 407");
    } else {
        call->cause = http_call__cause(call, code, http->alert);
    }
    call->over = true;
    let_go(call);
    net__queue(call->net, &call->turn);
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *socket_data)
{
    struct http *http = data;
    struct http_socket *s = socket_data;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (!s) return 0;
        if (!http->closing) curl_multi_assign(http->multi, fd, NULL);
        s->http = NULL;
        uv_close((uv_handle_t *)&s->poll, on_socket_closed);
        return 0;
    }
    if (!s) {
        if (http->closing) return 0;
        s = calloc(1, sizeof *s);
        if (!s) return -1;
        if (uv_poll_init_socket(http->net->loop, &s->poll, fd) != 0) {
            free(s);
            return -1;
        }
        net__hold(http->net);
        s->net = http->net;
        s->http = http;
        s->fd = fd;
        s->poll.data = s;
        curl_multi_assign(http->multi, fd, s);
    }
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    s->events = events;
    uv_poll_start(&s->poll, events, on_socket);
    return 0;
}

static void on_socket(uv_poll_t *poll, int status, int events)
{
    struct http_socket *s = poll->data;
    if (!s->http || s->http->closing) return;
    int flags = (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
                (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
    /* POLLERR: libuv has stopped watching. libcurl finds out why by reading; told of an error, it
     * would not even look. */
    if (status < 0) flags = CURL_CSELECT_IN | CURL_CSELECT_OUT;
    act(s->http, s->fd, flags);
    if (status < 0 && s->http) uv_poll_start(&s->poll, s->events, on_socket);
}

static void on_socket_closed(uv_handle_t *handle)
{
    struct http_socket *s = handle->data;
    struct net *net = s->net;
    free(s);
    net__release(net);
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *data)
{
    struct http *http = data;
    (void)multi;
    if (!http->timer_made || http->closing) return 0;
    if (timeout_ms < 0) {
        uv_timer_stop(&http->timer);
        return 0;
    }
    uv_update_time(http->net->loop);
    uv_timer_start(&http->timer, on_timer, (uint64_t)timeout_ms, 0);
    return 0;
}

static void on_timer(uv_timer_t *timer)
{
    struct http *http = timer->data;
    if (!http->closing) act(http, CURL_SOCKET_TIMEOUT, 0);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct http *http = handle->data;
    net__release(http->net);
}
