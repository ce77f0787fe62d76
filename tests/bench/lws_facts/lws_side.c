/* The libwebsockets client, on a foreign libuv loop, as a daemon would have to use it. Keeps what
 * its callbacks say and decides nothing. */
#include <libwebsockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "facts.h"

#define BUFFER_BYTES (64 * 1024) /* what net reads at once: the default of 4 KiB would be unfair   \
                                  */
#define TICK_MS 5

struct lws_side {
    uv_loop_t loop;
    uv_timer_t tick;
    uv_prepare_t prepare;
    struct lws_context *context; /* NULL again when it is really freed */
    struct lws_vhost *vhost;
    struct lws *wsi;
    struct call *call;
    uint64_t ticked_ns, first_message_ns;
    bool dialled, closing;
};

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len);
static void on_tick(uv_timer_t *timer);
static void on_prepare(uv_prepare_t *prepare);

static const struct lws_protocols protocols[] = {
    { .name = "facts", .callback = on_event, .rx_buffer_size = BUFFER_BYTES },
    { .name = NULL },
};

struct lws_side *lws_side_create(const char *ca_file)
{
    struct lws_side *s = calloc(1, sizeof *s);
    void *loops[1] = { &s->loop };
    struct lws_context_creation_info info = { 0 };
    uv_loop_init(&s->loop);
    uv_timer_init(&s->loop, &s->tick);
    uv_prepare_init(&s->loop, &s->prepare);
    s->tick.data = s->prepare.data = s;
    uv_prepare_start(&s->prepare, on_prepare);
    lws_set_log_level(0, NULL);
    info.port = CONTEXT_PORT_NO_LISTEN;
    info.options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT |
                   LWS_SERVER_OPTION_EXPLICIT_VHOSTS;
    info.foreign_loops = loops;
    info.user = s;
    info.pcontext = &s->context;
    info.pt_serv_buf_size = BUFFER_BYTES;
    info.protocols = protocols;
    info.client_ssl_ca_filepath = ca_file;
    s->context = lws_create_context(&info);
    if (s->context) s->vhost = lws_create_vhost(s->context, &info);
    if (s->vhost) return s;
    lws_side_destroy(s);
    return NULL;
}

void lws_side_destroy(struct lws_side *s)
{
    uv_close((uv_handle_t *)&s->tick, NULL);
    uv_close((uv_handle_t *)&s->prepare, NULL);
    for (int i = 0; i < 4 && s->context; i++) {
        lws_context_destroy(s->context);
        uv_run(&s->loop, UV_RUN_DEFAULT);
    }
    uv_run(&s->loop, UV_RUN_DEFAULT);
    uv_loop_close(&s->loop);
    free(s);
}

const char *lws_side_version(void)
{
    return lws_get_library_version();
}

void lws_side_call(struct lws_side *s, struct call *call)
{
    uint64_t start_ns = now_ns();
    s->call = call;
    s->wsi = NULL;
    s->dialled = s->closing = false;
    s->first_message_ns = 0;
    s->ticked_ns = 0;
    uv_timer_start(&s->tick, on_tick, 0, TICK_MS);
    while (!call->over && now_ns() - start_ns < CALL_MS_MAX * 1000000ull)
        uv_run(&s->loop, UV_RUN_ONCE);
    if (!call->over && s->wsi) {
        snprintf(call->words, sizeof call->words, "not over after %d ms", CALL_MS_MAX);
        lws_set_timeout(s->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
    }
    uv_timer_stop(&s->tick);
    uv_run(&s->loop, UV_RUN_NOWAIT);
    s->call = NULL;
}

static void dial(struct lws_side *s)
{
    struct lws_client_connect_info i = { 0 };
    i.context = s->context;
    i.vhost = s->vhost;
    i.address = i.host = s->call->name;
    i.port = s->call->port;
    i.path = "/";
    i.ssl_connection = s->call->tls ? LCCSCF_USE_SSL : 0;
    i.local_protocol_name = "facts";
    i.pwsi = &s->wsi;
    if (!lws_client_connect_via_info(&i)) s->call->over = true;
}

static void on_tick(uv_timer_t *timer)
{
    struct lws_side *s = timer->data;
    uint64_t now = now_ns();
    if (s->ticked_ns && (now - s->ticked_ns) / 1000000 > s->call->stall_ms) {
        s->call->stall_ms = (now - s->ticked_ns) / 1000000;
    }
    s->ticked_ns = now;
    if (!s->dialled) {
        s->dialled = true;
        dial(s); /* its time is told by the next tick */
    } else if (s->call->linger_ms && s->first_message_ns && !s->closing && s->wsi &&
               now - s->first_message_ns > s->call->linger_ms * 1000000) {
        s->closing = true;
        lws_close_reason(s->wsi, LWS_CLOSE_STATUS_NORMAL, NULL, 0);
        lws_set_timeout(s->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
    }
}

static void on_prepare(uv_prepare_t *prepare)
{
    (void)prepare;
    stand_in_meter_pause();
}

/* The only moment at which a refusal's body can be asked for: the error comes next, and is the end.
 */
static void on_answer(struct call *c, struct lws *wsi)
{
    char buffer[LWS_PRE + 1024], *at = buffer + LWS_PRE;
    int len = sizeof buffer - LWS_PRE;
    c->status = (int)lws_http_client_http_response(wsi);
    if (c->status >= 300) lws_http_client_read(wsi, &at, &len);
}

static void on_refused(struct call *c, const void *in, size_t len)
{
    c->over = true;
    if (in) snprintf(c->words, sizeof c->words, "%.*s", (int)len, (const char *)in);
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len)
{
    struct lws_context *context = lws_get_context(wsi);
    struct lws_side *s = context ? lws_context_user(context) : NULL;
    struct call *c = s ? s->call : NULL;
    const unsigned char *code = in;
    (void)user;
    if (!c) return 0;
    switch (reason) {
    case LWS_CALLBACK_CLIENT_ESTABLISHED: c->opened = true; return 0;
    case LWS_CALLBACK_CLIENT_RECEIVE:
        c->bytes += len;
        if (lws_is_final_fragment(wsi) && !lws_remaining_packet_payload(wsi)) c->messages++;
        if (!s->first_message_ns) s->first_message_ns = now_ns();
        return 0;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        c->by_peer = true;
        if (len >= 2) c->close_code = code[0] << 8 | code[1];
        return 0;
    case LWS_CALLBACK_ESTABLISHED_CLIENT_HTTP: /* also for a refusal: its headers are complete */
        on_answer(c, wsi);
        return 0;
    case LWS_CALLBACK_RECEIVE_CLIENT_HTTP_READ:
        if (c->body_len + len < sizeof c->body) {
            memcpy(c->body + c->body_len, in, len);
            c->body_len += len;
        }
        return 0;
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        on_refused(c, in, len);
        s->wsi = NULL;
        return 0;
    case LWS_CALLBACK_CLIENT_CLOSED:
        c->over = true;
        s->wsi = NULL;
        return 0;
    default: return 0;
    }
}
