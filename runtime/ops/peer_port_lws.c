/* libwebsockets' side of a peer port: requests and messages in, answers and messages out. Never closes a
 * socket from inside a callback of the same socket: that is a use after free in this library. */
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "ops/peer_port_internal.h"

#define HEAD_BYTES_MAX 8192

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len);

const struct lws_protocols peer_port__protocols[] = {
    { .name = "peer", .callback = callback, .rx_buffer_size = 65536, .tx_packet_size = 65536 },
    { .name = NULL },
};

/* Kept in the socket's own pointer: per-session memory is not there yet when an upgrade is asked for. */
_Static_assert(sizeof(void *) >= sizeof(uint64_t), "a packed handle fits a pointer");

static struct peer_conn *conn_of(struct peer_server *s, struct lws *wsi)
{
    return slots_get(&s->conns, handle_unpack((uint64_t)(uintptr_t)lws_get_opaque_user_data(wsi)));
}

static struct peer_conn *conn_new(struct peer_server *s, struct lws *wsi)
{
    struct handle h;
    struct peer_conn *c = slots_alloc(&s->conns, &h);
    if (!c) return NULL;
    c->self = h;
    c->server = s;
    c->wsi = wsi;
    buffer_init(&c->in, 0);
    buffer_init(&c->target, 0);
    buffer_init(&c->headers, 0);
    buffer_init(&c->host, 0);
    buffer_init(&c->answer_headers, 0);
    buffer_init(&c->answer_body, 0);
    lws_set_opaque_user_data(wsi, (void *)(uintptr_t)handle_pack(h));
    return c;
}

static void copy_headers(struct peer_conn *c, struct lws *wsi)
{
    char value[HEAD_BYTES_MAX];
    for (int n = 0; n < WSI_TOKEN_COUNT; n++) {
        const unsigned char *name = lws_token_to_string((enum lws_token_indexes)n);
        if (!name || !name[0] || name[0] == ':' || !strchr((const char *)name, ':')) continue;
        if (lws_hdr_copy(wsi, value, sizeof value, (enum lws_token_indexes)n) <= 0) continue;
        if (n == WSI_TOKEN_HOST) buffer_append_text(&c->host, value);
        buffer_printf(&c->headers, "%s %s\r\n", (const char *)name, value);
    }
    buffer_append_char(&c->headers, 0);
    buffer_append_char(&c->host, 0);
}

static bool copy_request(struct peer_conn *c, struct lws *wsi, const char *path)
{
    static const struct {
        enum lws_token_indexes token;
        const char *method;
    } methods[] = { { WSI_TOKEN_GET_URI, "GET" },       { WSI_TOKEN_POST_URI, "POST" },
                    { WSI_TOKEN_PUT_URI, "PUT" },       { WSI_TOKEN_PATCH_URI, "PATCH" },
                    { WSI_TOKEN_DELETE_URI, "DELETE" } };
    char text[HEAD_BYTES_MAX];
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (lws_hdr_total_length(wsi, methods[i].token) <= 0) continue;
        text_copy(c->method, sizeof c->method, methods[i].method, strlen(methods[i].method));
        if (!path && lws_hdr_copy(wsi, text, sizeof text, methods[i].token) > 0) path = text;
    }
    if (!path) return false;
    if (path[0] != '/') buffer_append_char(&c->target, '/');
    buffer_append_text(&c->target, path);
    for (int n = 0; lws_hdr_copy_fragment(wsi, text, sizeof text, WSI_TOKEN_HTTP_URI_ARGS, n) >= 0 &&
                    lws_hdr_fragment_length(wsi, WSI_TOKEN_HTTP_URI_ARGS, n) > 0;
         n++) {
        buffer_append_char(&c->target, n ? '&' : '?');
        buffer_append_text(&c->target, text);
    }
    buffer_append_char(&c->target, 0);
    copy_headers(c, wsi);
    return true;
}

static struct peer_request request_of(const struct peer_conn *c)
{
    return (struct peer_request){ .id = handle_pack(c->self),
                                  .method = c->method,
                                  .target = (const char *)c->target.data,
                                  .host = (const char *)c->host.data,
                                  .headers = (const char *)c->headers.data,
                                  .body = c->in.data,
                                  .body_len = c->in.len };
}

static int on_http(struct peer_server *s, struct lws *wsi, const char *path)
{
    struct peer_conn *old = conn_of(s, wsi);
    if (old) peer_port__conn_free(old); /* keep-alive: the same session data again */
    struct peer_conn *c = conn_new(s, wsi);
    if (!c || !copy_request(c, wsi, path)) return -1;
    char text[32];
    bool body = lws_hdr_copy(wsi, text, sizeof text, WSI_TOKEN_HTTP_CONTENT_LENGTH) > 0 &&
                strcmp(text, "0") != 0;
    if (body) return 0;
    /* The library reports a completed body also for a Content-Length of 0. */
    c->handed = true;
    struct peer_request request = request_of(c);
    peer_http(s->peer, &request);
    return 0;
}

static int on_upgrade(struct peer_server *s, struct lws *wsi)
{
    struct peer_conn *c = conn_new(s, wsi);
    if (!c || !copy_request(c, wsi, NULL)) return -1;
    struct peer_request request = request_of(c);
    c->deciding = true;
    enum peer_upgrade decided = peer_upgrade(s->peer, &request);
    c->deciding = false;
    if (decided == PEER_ACCEPT) {
        c->websocket = true;
        return 0;
    }
    /* Answered: head and body are written. Silent: nothing is, and the client waits in vain. */
    if (decided == PEER_ANSWERED && c->answered) peer_port__write_answer(c);
    return 1;
}

bool peer_port__write_answer(struct peer_conn *c)
{
    unsigned char head[LWS_PRE + HEAD_BYTES_MAX], *start = head + LWS_PRE, *p = start;
    unsigned char *end = head + sizeof head - 1;
    if (lws_add_http_header_status(c->wsi, (unsigned)c->status, &p, end)) return false;
    char *line = (char *)c->answer_headers.data;
    while (line && *line) {
        char *colon = strchr(line, ':'), *stop = strstr(line, "\r\n");
        char name[128];
        if (!colon || !stop || colon > stop) break;
        text_copy(name, sizeof name, line, (size_t)(colon - line) + 1);
        char *value = colon + 1;
        while (*value == ' ') value++;
        if (lws_add_http_header_by_name(c->wsi, (unsigned char *)name, (unsigned char *)value,
                                        (int)(stop - value), &p, end)) {
            return false;
        }
        line = stop + 2;
    }
    if (lws_add_http_header_content_length(c->wsi, c->answer_body.len, &p, end)) return false;
    if (lws_finalize_write_http_header(c->wsi, start, &p, end)) return false;
    if (c->answer_body.len == 0) return true;
    struct buffer body;
    buffer_init(&body, 0);
    bool ok = buffer_reserve(&body, LWS_PRE + c->answer_body.len);
    if (ok) {
        memcpy(body.data + LWS_PRE, c->answer_body.data, c->answer_body.len);
        ok = lws_write(c->wsi, body.data + LWS_PRE, c->answer_body.len, LWS_WRITE_HTTP_FINAL) >= 0;
    }
    buffer_deinit(&body);
    return ok;
}

static int on_receive(struct peer_conn *c, struct lws *wsi, const void *in, size_t len)
{
    if (lws_is_first_fragment(wsi)) {
        buffer_clear(&c->in);
        c->in_text = !lws_frame_is_binary(wsi);
    }
    if (!buffer_append(&c->in, in, len)) return -1;
    if (!lws_is_final_fragment(wsi) || lws_remaining_packet_payload(wsi)) return 0;
    peer_message(c->server->peer, handle_pack(c->self), c->in_text, c->in.data, c->in.len);
    return 0;
}

static int on_writable(struct peer_conn *c, struct lws *wsi)
{
    struct peer_message_out *m = c->out;
    if (c->deaf) return 0;
    if (m) {
        c->out = m->next;
        if (!c->out) c->out_tail = NULL;
        int n = lws_write(wsi, m->bytes + LWS_PRE, m->len, m->kind);
        free(m);
        if (n < 0) return -1;
    }
    if (c->out) {
        lws_callback_on_writable(wsi);
    } else if (c->close) {
        peer_port__later(c->server);
    }
    return 0;
}

static void on_closed(struct peer_conn *c)
{
    struct peer_server *s = c->server;
    uint64_t id = handle_pack(c->self);
    uint16_t code = c->peer_code ? c->peer_code : c->closing ? c->close_code : 1006;
    bool websocket = c->websocket;
    peer_port__conn_free(c);
    if (websocket && s->peer && !s->closed) peer_closed(s->peer, id, code);
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len)
{
    struct lws_context *context = lws_get_context(wsi);
    struct peer_server *s = context ? lws_context_user(context) : NULL;
    struct peer_conn *c;
    (void)user;
    if (!s) return 0;
    switch (reason) {
    case LWS_CALLBACK_HTTP:
        return on_http(s, wsi, in);
    case LWS_CALLBACK_HTTP_BODY:
        c = conn_of(s, wsi);
        return c && buffer_append(&c->in, in, len) ? 0 : -1;
    case LWS_CALLBACK_HTTP_BODY_COMPLETION: {
        c = conn_of(s, wsi);
        if (!c || c->handed) return 0;
        c->handed = true;
        struct peer_request request = request_of(c);
        peer_http(s->peer, &request);
        return 0;
    }
    case LWS_CALLBACK_HTTP_WRITEABLE:
        c = conn_of(s, wsi);
        if (!c || !c->answered || c->written_head) return 0;
        c->written_head = true;
        if (!peer_port__write_answer(c)) return -1;
        peer_port__conn_free(c);
        return lws_http_transaction_completed(wsi) ? -1 : 0;
    case LWS_CALLBACK_CLOSED_HTTP:
        c = conn_of(s, wsi);
        if (c && !c->websocket) peer_port__conn_free(c);
        return 0;
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return on_upgrade(s, wsi);
    case LWS_CALLBACK_ESTABLISHED:
        c = conn_of(s, wsi);
        if (!c) return -1;
        c->wsi = wsi;
        peer_opened(s->peer, handle_pack(c->self));
        return 0;
    case LWS_CALLBACK_RECEIVE:
        c = conn_of(s, wsi);
        return c ? on_receive(c, wsi, in, len) : -1;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        c = conn_of(s, wsi);
        return c ? on_writable(c, wsi) : -1;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        c = conn_of(s, wsi);
        if (c) {
            const unsigned char *code = in;
            c->peer_code = len >= 2 ? (uint16_t)(code[0] << 8 | code[1]) : 1005;
        }
        return 0;
    case LWS_CALLBACK_CLOSED:
        c = conn_of(s, wsi);
        if (c) on_closed(c);
        return 0;
    default:
        return 0;
    }
}
