/* HTTP and WebSocket: libwebsockets' callbacks. Owns nothing of its own: a client hangs on its wsi
 * from adoption to LWS_CALLBACK_WSI_DESTROY. Only calls that libwebsockets allows at that moment
 * are made: a wrong one aborts the process. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "deliver/envelope.h"
#include "ops/gather.h"
#include "ops/ops_internal.h"

static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                  size_t len);
static int on_request(struct client *c);
static int on_writeable(struct client *c);
static int on_lines_writeable(struct client *c);
static void on_message(struct client *c, const void *bytes, size_t len);
static void on_established(struct client *c);
static bool request_read(struct client *c);
static bool page_head(struct lws *wsi, uint8_t **at, uint8_t *end);
static int head_write(struct client *c, int status, const char *type, uint64_t len);
static void request_over(struct client *c);
static void last_line(struct client *c);

const struct lws_protocols http__protocols[] = {
    { .name = "holdfast", .callback = on_lws, .rx_buffer_size = 4096, .tx_packet_size = 65536 },
    { .name = NULL }
};

void http__adopt(struct client *c)
{
    struct ops *ops = c->ops;
    lws_adopt_desc_t desc;
    memset(&desc, 0, sizeof desc);
    desc.vh = ops->vhost;
    desc.type = LWS_ADOPT_HTTP | LWS_ADOPT_SOCKET;
    desc.fd.sockfd = c->fd;
    desc.opaque = c;
    c->kind = CLIENT_HTTP;
    c->fd = -1;
    /* On failure the descriptor is closed, and the client may or may not be gone with a wsi. */
    ops->adopting = c;
    struct lws *wsi = lws_adopt_descriptor_vhost_via_info(&desc);
    if (ops->adopting && wsi) ops->adopting->wsi = wsi;
    if (ops->adopting && !wsi) client__destroy(ops->adopting);
    ops->adopting = NULL;
}

void http__end(struct client *c)
{
    struct lws *wsi = c->wsi;
    ASSERT(wsi != NULL);
    bool says_why = c->kind == CLIENT_WEBSOCKET && !c->kill_ms;
    c->closing = true;
    if (c->kind == CLIENT_EVENTS && c->why[0]) last_line(c);
    if (says_why) {
        c->kill_ms = uv_now(c->ops->loop) + CLOSE_WAIT_MS;
        lws_close_reason(wsi,
                         c->leaving ? LWS_CLOSE_STATUS_GOINGAWAY : LWS_CLOSE_STATUS_POLICY_VIOLATION,
                         (unsigned char *)c->why,
                         strlen(c->why));
    }
    lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
}

int http__answer(struct client *c, int status, const char *type, const void *body, size_t len)
{
    static const uint8_t room[LWS_PRE];
    const bool head_only = strcmp(c->method, "HEAD") == 0;
    buffer_clear(&c->out);
    c->sent = 0;
    if (!buffer_append(&c->out, room, sizeof room) || (!head_only && !buffer_append(&c->out, body, len))) return -1;
    if (head_write(c, status, type, len)) return -1;
    c->answering = true;
    if (c->at_once) return on_writeable(c);
    lws_callback_on_writable(c->wsi);
    return 0;
}

int http__answer_own(struct client *c, int status, const char *type, struct buffer *body)
{
    ASSERT(body->len >= LWS_PRE);
    if (strcmp(c->method, "HEAD") == 0) body->len = LWS_PRE;
    buffer_deinit(&c->out);
    c->out = *body;
    c->sent = 0;
    if (head_write(c, status, type, c->out.len - LWS_PRE)) return -1;
    c->answering = true;
    lws_callback_on_writable(c->wsi);
    return 0;
}

int http__refuse(struct client *c, int status, const char *what, const char *expected)
{
    struct buffer text;
    buffer_init(&text, 4096);
    envelope_error(&text, what, expected);
    int result = http__answer(c, status, "application/json", text.data, text.len);
    buffer_deinit(&text);
    return result;
}

int http__stream(struct client *c, const char *type)
{
    c->last = true;
    if (head_write(c, 200, type, LWS_ILLEGAL_HTTP_CONTENT_LEN)) return -1;
    lws_set_timeout(c->wsi, NO_PENDING_TIMEOUT, 0); /* or it ends a quiet stream after seconds */
    lws_callback_on_writable(c->wsi);
    return 0;
}

static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                  size_t len)
{
    struct client *c = NULL;
    (void)user;
    switch (reason) {
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
    case LWS_CALLBACK_ESTABLISHED:
    case LWS_CALLBACK_RECEIVE:
    case LWS_CALLBACK_SERVER_WRITEABLE:
    case LWS_CALLBACK_HTTP:
    case LWS_CALLBACK_HTTP_BODY:
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
    case LWS_CALLBACK_HTTP_WRITEABLE:
        c = lws_get_opaque_user_data(wsi);
        if (!c || c->closing)
            return -1; /* a stream that somebody upgraded to, or one on its way out */
        c->wsi = wsi;
        /* A body that trickles in does not count as life: a request has its time as a whole. */
        if (reason != LWS_CALLBACK_HTTP_BODY) c->active_ms = uv_now(c->ops->loop);
        break;
    case LWS_CALLBACK_CLOSED:
    case LWS_CALLBACK_CLOSED_HTTP:
        c = lws_get_opaque_user_data(wsi);
        if (c) lines__detach(c);
        return 0;
    case LWS_CALLBACK_WSI_DESTROY:
        c = lws_get_opaque_user_data(wsi);
        if (!c) return 0;
        lws_set_opaque_user_data(wsi, NULL);
        if (c->ops->adopting == c) c->ops->adopting = NULL;
        client__destroy(c);
        return 0;
    default: return 0;
    }

    switch (reason) {
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        if (strcmp(in, "websocket") != 0)
            return -1; /* h2c: our clients do not hang on its streams */
        c->at_once = true;
        c->attach_ok = request_read(c) && api__upgrade(c);
        c->at_once = false;
        return c->attach_ok ? 0 : 1;
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION: return c->attach_ok ? 0 : -1;
    case LWS_CALLBACK_ESTABLISHED: on_established(c); return 0;
    case LWS_CALLBACK_RECEIVE: on_message(c, in, len); return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE: return on_lines_writeable(c);
    case LWS_CALLBACK_HTTP: return on_request(c);
    case LWS_CALLBACK_HTTP_BODY:
        if (!c->waits_body) return 0; /* refused already */
        return buffer_append(&c->body, in, len) ? 0 : -1;
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
        if (!c->waits_body) return 0; /* it comes for a body of no bytes too */
        c->waits_body = false;
        return api__body_done(c);
    case LWS_CALLBACK_HTTP_WRITEABLE: return on_writeable(c);
    default: return 0;
    }
}

static int on_request(struct client *c)
{
    char text[24];
    uint64_t body_len = 0;
    if (c->in_request || c->answering) return -1;
    if (!request_read(c)) {
        c->last = true;
        return http__refuse(c, 405, "the method or the address is not understood", "GET or POST");
    }
    c->in_request = true;
    if (lws_hdr_total_length(c->wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0) {
        c->last = true;
        return http__refuse(c, 411, "a body without a length", "Content-Length");
    }
    if (lws_hdr_copy(c->wsi, text, sizeof text, WSI_TOKEN_HTTP_CONTENT_LENGTH) > 0) {
        if (strspn(text, "0123456789") != strlen(text) || strlen(text) > 9) {
            c->last = true;
            return http__refuse(c, 413, "the body is too long", "at most 1 MiB");
        }
        body_len = strtoull(text, NULL, 10);
    } else if (strcmp(c->method, "GET") != 0) {
        c->last = true; /* libwebsockets would take the next request for this one's body */
    }
    return api__request(c, body_len);
}

static int on_writeable(struct client *c)
{
    if (c->kind == CLIENT_EVENTS) return on_lines_writeable(c);
    if (c->kind == CLIENT_WATCH) return watch__writeable(c);
    if (c->gather) return gather_turn(c);
    if (!c->answering) return 0;
    size_t left = c->out.len - LWS_PRE - c->sent;
    size_t part = left < WRITE_BYTES_MAX ? left : WRITE_BYTES_MAX;
    bool final = part == left;
    if (left && lws_write(c->wsi, c->out.data + LWS_PRE + c->sent, part,
                  final ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) < 0)
        return -1;
    c->sent += part;
    if (!final) {
        lws_callback_on_writable(c->wsi);
        return 0;
    }
    bool last = c->last, by_caller = c->at_once;
    request_over(c);
    if (by_caller) return 0;
    if (lws_http_transaction_completed(c->wsi) || last) return -1;
    return 0;
}

/* One message, or one piece of an endless body, carries all lines that are here. */
static int on_lines_writeable(struct client *c)
{
    size_t len = lines__queued(c);
    if (len == 0) return 0;
    enum lws_write_protocol how = c->kind == CLIENT_EVENTS ? LWS_WRITE_HTTP : LWS_WRITE_TEXT;
    if (lws_write(c->wsi, c->out.data + LWS_PRE + c->sent, len, how) < 0) return -1;
    lws_set_timeout(c->wsi, NO_PENDING_TIMEOUT, 0);
    lines__drained(c);
    return 0;
}

static void on_message(struct client *c, const void *bytes, size_t len)
{
    if (handle_is_none(c->consumer)) return;
    if (len) {
        deliver_input(c->ops->deliver, c->consumer, bytes, len);
        c->mid_line = ((const char *)bytes)[len - 1] != '\n';
    }
    bool whole = lws_is_final_fragment(c->wsi) && lws_remaining_packet_payload(c->wsi) == 0;
    if (!whole) return;
    /* A message's end ends its last line too. */
    if (c->mid_line) deliver_input(c->ops->deliver, c->consumer, "\n", 1);
    c->mid_line = false;
}

static void on_established(struct client *c)
{
    const char *why;
    c->kind = CLIENT_WEBSOCKET;
    if (lines__attach(c, &why)) return;
    snprintf(c->why, sizeof c->why, "%s", why);
    c->closing = true;
    client__touch(c);
}

static bool request_read(struct client *c)
{
    static const struct {
        enum lws_token_indexes token;
        const char *method;
    } methods[] = {
        { WSI_TOKEN_GET_URI, "GET" },       { WSI_TOKEN_POST_URI, "POST" },
        { WSI_TOKEN_PUT_URI, "PUT" },       { WSI_TOKEN_DELETE_URI, "DELETE" },
        { WSI_TOKEN_PATCH_URI, "PATCH" },   { WSI_TOKEN_OPTIONS_URI, "OPTIONS" },
        { WSI_TOKEN_HEAD_URI, "HEAD" },
    };
    c->last = false;
    c->method[0] = 0;
    buffer_clear(&c->body);
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (lws_hdr_total_length(c->wsi, methods[i].token) <= 0) continue;
        snprintf(c->method, sizeof c->method, "%s", methods[i].method);
        return lws_hdr_copy(c->wsi, c->target, sizeof c->target, methods[i].token) > 0;
    }
    snprintf(c->method, sizeof c->method, "?");
    return false;
}

/* What a browser may do with the dashboard: run and style it from here, talk to here, and no more. */
static bool page_head(struct lws *wsi, uint8_t **at, uint8_t *end)
{
    static const char *const lines[][2] = {
        { "content-security-policy:", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                                      "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" },
        { "x-frame-options:", "DENY" },
        { "referrer-policy:", "same-origin" },
        { "cross-origin-opener-policy:", "same-origin" },
        { "cross-origin-resource-policy:", "same-origin" },
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (lws_add_http_header_by_name(wsi, (const uint8_t *)lines[i][0], (const uint8_t *)lines[i][1],
                                        (int)strlen(lines[i][1]), at, end))
            return true;
    return false;
}

static int head_write(struct client *c, int status, const char *type, uint64_t len)
{
    uint8_t head[LWS_PRE + 1024], *start = head + LWS_PRE, *at = start,
                                  *end = head + sizeof head - 1;
    if (lws_add_http_common_headers(c->wsi, (unsigned)status, type, len, &at, end) ||
        lws_add_http_header_by_name(
            c->wsi, (const uint8_t *)"cache-control:", (const uint8_t *)"no-store", 8, &at, end) ||
        lws_add_http_header_by_name(c->wsi, (const uint8_t *)"x-content-type-options:",
                                    (const uint8_t *)"nosniff", 7, &at, end) ||
        (c->page && page_head(c->wsi, &at, end)) ||
        (c->last && len != LWS_ILLEGAL_HTTP_CONTENT_LEN &&
         lws_add_http_header_by_token(c->wsi, WSI_TOKEN_CONNECTION, (const uint8_t *)"close", 5,
                                      &at, end)) ||
        (status == 401 && lws_add_http_header_by_name(c->wsi, (const uint8_t *)"www-authenticate:",
                                                      (const uint8_t *)"Bearer", 6, &at, end)))
        return -1;
    return lws_finalize_write_http_header(c->wsi, start, &at, end);
}

static void request_over(struct client *c)
{
    c->answering = false;
    c->in_request = false;
    c->waits_body = false;
    c->page = false;
    c->served = true;
    c->method[0] = 0;
    c->sent = 0;
    buffer_clear(&c->out);
    buffer_trim(&c->out, 4096);
    buffer_clear(&c->body);
    buffer_trim(&c->body, 4096);
}

/* Why the stream ends, where the socket takes it. */
static void last_line(struct client *c)
{
    struct buffer line;
    buffer_init(&line, 4096);
    if (!lws_send_pipe_choked(c->wsi) && buffer_reserve(&line, LWS_PRE)) {
        line.len = LWS_PRE;
        if (envelope_error(&line, c->why, "attach again"))
            lws_write(c->wsi, line.data + LWS_PRE, line.len - LWS_PRE, LWS_WRITE_HTTP);
    }
    buffer_deinit(&line);
}
