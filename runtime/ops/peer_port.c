/* A peer on a real port: owns the libwebsockets context, the certificates, the peer's timers. The library's
 * callbacks are in peer_port_lws.c. */
#include "ops/peer_port.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "ops/lws_end.h"
#include "ops/peer_port_internal.h"

#define CONNS_MAX 65536
#define CLOSE_ROUNDS_MAX 10000
/* A close frame, by a number that the library keeps to itself. */
#define WRITE_CLOSE ((enum lws_write_protocol)4)

static void on_later(uv_idle_t *idle);
static struct peer_port port_of(struct peer_server *s);
static struct peer_conn *conn_get(void *self, uint64_t id);

static void quiet_log(int level, const char *line)
{
    (void)level;
    (void)line;
}

struct peer_server *peer_server_create(uv_loop_t *loop, const struct peer_port_options *options,
                                       char *why, size_t why_bytes)
{
    static const struct lws_http_mount mount = { .mountpoint = "/",
                                                 .mountpoint_len = 1,
                                                 .origin = "http://localhost",
                                                 .origin_protocol = LWSMPRO_CALLBACK,
                                                 .protocol = "peer" };
    struct peer_server *s = calloc(1, sizeof *s);
    void *loops[1] = { loop };
    if (!s) {
        snprintf(why, why_bytes, "out of memory");
        return NULL;
    }
    s->loop = loop;
    s->log = options->log;
    s->log_self = options->log_self;
    slots_init(&s->conns, sizeof(struct peer_conn), CONNS_MAX);
    uv_idle_init(loop, &s->later);
    s->later.data = s;
    s->handles = 1;

    if (options->tls && !certs_create(&s->certs, &options->certs)) {
        snprintf(why, why_bytes, "cannot make a certificate");
        goto fail_server;
    }
    lws_set_log_level(LLL_ERR | LLL_WARN, quiet_log);
    struct lws_context_creation_info info;
    memset(&info, 0, sizeof info);
    info.options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                   LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
    info.foreign_loops = loops;
    info.pcontext = &s->context;
    info.user = s;
    s->context = lws_create_context(&info);
    if (!s->context) {
        snprintf(why, why_bytes, "libwebsockets has no libuv support: install libwebsockets-evlib-uv");
        goto fail_server;
    }
    lws_end_keep_plugin();
    memset(&info, 0, sizeof info);
    info.port = options->port;
    info.iface = "127.0.0.1";
    info.protocols = peer_port__protocols;
    info.mounts = &mount;
    info.options = LWS_SERVER_OPTION_DISABLE_IPV6;
    info.vhost_name = "peer";
    info.user = s;
    if (options->tls) {
        info.options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
        info.server_ssl_cert_mem = s->certs.cert_pem.data;
        info.server_ssl_cert_mem_len = (unsigned)s->certs.cert_pem.len;
        info.server_ssl_private_key_mem = s->certs.key_pem.data;
        info.server_ssl_private_key_mem_len = (unsigned)s->certs.key_pem.len;
        /* Never used. Without one the library makes its own, loads all CAs of the system into it, and
         * loses it when a process has two contexts. */
        s->unused = SSL_CTX_new(TLS_client_method());
        info.provided_client_ssl_ctx = s->unused;
    }
    s->vhost = lws_create_vhost(s->context, &info);
    int port = s->vhost ? lws_get_vhost_listen_port(s->vhost) : -1;
    if (port <= 0) {
        snprintf(why, why_bytes, "cannot listen on 127.0.0.1:%d (in use?)", options->port);
        goto fail_server;
    }
    snprintf(s->url, sizeof s->url, "%s://127.0.0.1:%d", options->tls ? "https" : "http", port);

    struct peer_options po = { .name = options->peer,
                               .lua_path = options->lua_path,
                               .base_url = s->url,
                               .options = options->options,
                               .seed = options->seed,
                               .port = port_of(s) };
    s->peer = peer_create(&po, why, why_bytes);
    if (!s->peer) goto fail_server;
    return s;

fail_server:
    peer_server_close(s);
    peer_server_free(s);
    return NULL;
}

const char *peer_server_url(const struct peer_server *s)
{
    return s->url;
}

const struct buffer *peer_server_ca(const struct peer_server *s)
{
    return &s->certs.ca_pem;
}

struct peer *peer_server_peer(struct peer_server *s)
{
    return s->peer;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct peer_server *s = handle->data;
    s->handles--;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct peer_timer_slot *t = handle->data;
    t->server->handles--;
    free(t);
}

void peer_server_close(struct peer_server *s)
{
    if (s->closed) return;
    s->closed = true;
    while (s->timers) {
        struct peer_timer_slot *t = s->timers;
        s->timers = t->next;
        uv_close((uv_handle_t *)&t->uv, on_timer_closed);
    }
    uv_close((uv_handle_t *)&s->later, on_handle_closed);
    s->lws_ends = s->context != NULL;
    if (s->lws_ends) lws_end_begin(s->context);
}

void peer_server_free(struct peer_server *s)
{
    if (!s) return;
    ASSERT(s->closed);
    /* The library closes its own handles over several turns, and needs a second destroy after them. */
    for (int i = 0; i < CLOSE_ROUNDS_MAX && s->handles; i++) uv_run(s->loop, UV_RUN_NOWAIT);
    for (int i = 0; i < 50; i++) uv_run(s->loop, UV_RUN_NOWAIT);
    if (s->lws_ends) lws_end_over();
    s->lws_ends = false;
    if (s->context) lws_context_destroy(s->context);
    for (int i = 0; i < 50; i++) uv_run(s->loop, UV_RUN_NOWAIT);
    ASSERT(s->handles == 0);
    uint32_t i = 0;
    struct handle h;
    struct peer_conn *c;
    for (; (c = slots_next(&s->conns, &i, &h)); i++) peer_port__conn_free(c);
    slots_deinit(&s->conns);
    peer_destroy(s->peer);
    certs_deinit(&s->certs);
    SSL_CTX_free(s->unused);
    free(s);
}

void peer_port__conn_free(struct peer_conn *c)
{
    while (c->out) {
        struct peer_message_out *next = c->out->next;
        free(c->out);
        c->out = next;
    }
    buffer_deinit(&c->in);
    buffer_deinit(&c->target);
    buffer_deinit(&c->headers);
    buffer_deinit(&c->host);
    buffer_deinit(&c->answer_headers);
    buffer_deinit(&c->answer_body);
    slots_free(&c->server->conns, c->self);
}

void peer_port__later(struct peer_server *s)
{
    if (s->later_on || s->closed) return;
    s->later_on = true;
    uv_idle_start(&s->later, on_later);
}

static void on_later(uv_idle_t *idle)
{
    struct peer_server *s = idle->data;
    uint32_t i = 0;
    struct handle h;
    struct peer_conn *c;
    uv_idle_stop(idle);
    s->later_on = false;
    for (; (c = slots_next(&s->conns, &i, &h)); i++) {
        if (!c->wsi || !c->websocket || c->closing) continue;
        if (c->abort) {
            c->closing = true;
            c->close_code = 1006;
            lws_set_timeout(c->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
        } else if (c->close && !c->out) {
            c->closing = true;
            if (!c->close_code) {
                /* The library would put 1005 on the wire. The client's own close frame ends it then. */
                unsigned char empty[LWS_PRE + 1] = { 0 };
                lws_write(c->wsi, empty + LWS_PRE, 0, WRITE_CLOSE);
                continue;
            }
            lws_close_reason(c->wsi, (enum lws_close_status)c->close_code,
                             (unsigned char *)c->close_reason, strlen(c->close_reason));
            lws_set_timeout(c->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
        }
    }
}

/* --- what the peer asks of its host ------------------------------------------------------------------ */

static struct peer_conn *conn_get(void *self, uint64_t id)
{
    struct peer_server *s = self;
    return slots_get(&s->conns, handle_unpack(id));
}

static uint64_t port_now(void *self)
{
    struct peer_server *s = self;
    uv_update_time(s->loop);
    return uv_now(s->loop);
}

static uint64_t port_wall(void *self)
{
    (void)self;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void port_respond(void *self, uint64_t id, int status, const char *headers, const void *body,
                         size_t len)
{
    struct peer_conn *c = conn_get(self, id);
    if (!c || c->answered || c->websocket) return;
    c->answered = true;
    c->status = status;
    buffer_append_text(&c->answer_headers, headers);
    buffer_append_char(&c->answer_headers, 0);
    buffer_append(&c->answer_body, body, len);
    if (!c->deciding) lws_callback_on_writable(c->wsi);
}

static void queue(struct peer_conn *c, enum lws_write_protocol kind, const void *data, size_t len)
{
    if (c->close || c->abort) return;
    struct peer_message_out *m = malloc(sizeof *m + LWS_PRE + len + 1);
    ASSERT(m != NULL);
    m->next = NULL;
    m->kind = kind;
    m->len = len;
    if (len) memcpy(m->bytes + LWS_PRE, data, len);
    if (c->out_tail) c->out_tail->next = m;
    if (!c->out) c->out = m;
    c->out_tail = m;
    lws_callback_on_writable(c->wsi);
}

static void port_ws_send(void *self, uint64_t id, bool text, const void *data, size_t len)
{
    struct peer_conn *c = conn_get(self, id);
    if (c) queue(c, text ? LWS_WRITE_TEXT : LWS_WRITE_BINARY, data, len);
}

static void port_ws_ping(void *self, uint64_t id)
{
    struct peer_conn *c = conn_get(self, id);
    if (c) queue(c, LWS_WRITE_PING, "peer", 4);
}

static void port_ws_close(void *self, uint64_t id, uint16_t code, const char *reason)
{
    struct peer_conn *c = conn_get(self, id);
    if (!c || c->close) return;
    c->close = true;
    c->close_code = code;
    text_copy(c->close_reason, sizeof c->close_reason, reason, strlen(reason));
    if (!c->out) peer_port__later(self);
}

static void port_ws_abort(void *self, uint64_t id)
{
    struct peer_conn *c = conn_get(self, id);
    if (!c) return;
    c->abort = true;
    peer_port__later(self);
}

static void port_ws_deaf(void *self, uint64_t id, bool on)
{
    struct peer_conn *c = conn_get(self, id);
    if (!c) return;
    c->deaf = on;
    lws_rx_flow_control(c->wsi, !on);
    if (!on && c->out) lws_callback_on_writable(c->wsi);
}

static struct peer_timer_slot *timer_take(struct peer_server *s, uint64_t id)
{
    for (struct peer_timer_slot **at = &s->timers; *at; at = &(*at)->next) {
        if ((*at)->id != id) continue;
        struct peer_timer_slot *t = *at;
        *at = t->next;
        return t;
    }
    return NULL;
}

static void on_timer(uv_timer_t *uv)
{
    struct peer_timer_slot *t = uv->data;
    struct peer_server *s = t->server;
    uint64_t id = t->id;
    timer_take(s, id);
    uv_close((uv_handle_t *)uv, on_timer_closed);
    peer_timer(s->peer, id);
}

static void port_timer(void *self, uint64_t id, uint64_t delay_ms)
{
    struct peer_server *s = self;
    struct peer_timer_slot *t = calloc(1, sizeof *t);
    ASSERT(t != NULL);
    t->server = s;
    t->id = id;
    t->next = s->timers;
    s->timers = t;
    uv_timer_init(s->loop, &t->uv);
    t->uv.data = t;
    s->handles++;
    uv_timer_start(&t->uv, on_timer, delay_ms, 0);
}

static void port_timer_stop(void *self, uint64_t id)
{
    struct peer_server *s = self;
    struct peer_timer_slot *t = timer_take(s, id);
    if (t) uv_close((uv_handle_t *)&t->uv, on_timer_closed);
}

static void port_log(void *self, const char *text)
{
    struct peer_server *s = self;
    if (s->log) s->log(s->log_self, text);
}

static struct peer_port port_of(struct peer_server *s)
{
    return (struct peer_port){ .self = s,
                               .now_ms = port_now,
                               .wall_ms = port_wall,
                               .respond = port_respond,
                               .ws_send = port_ws_send,
                               .ws_ping = port_ws_ping,
                               .ws_close = port_ws_close,
                               .ws_abort = port_ws_abort,
                               .ws_deaf = port_ws_deaf,
                               .timer = port_timer,
                               .timer_stop = port_timer_stop,
                               .log = port_log };
}
