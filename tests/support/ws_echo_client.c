/* ws_echo_client URL [CA_FILE]: connects to a ws:// or wss:// address with the real host, the upgrade
 * and the codec of the daemon, and echoes every message as it came, so that public WebSocket suites can
 * judge them. Answers pings, does the close handshake, tells a protocol error by its close code.
 *
 * Exit: 0 after an upgraded connection has ended, 1 when it did not come to that (why is on standard
 * error), 2 for a wrong call, 3 when nothing moved for IDLE_MS. No other timer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/assert.h"
#include "base/buffer.h"
#include "frame/upgrade.h"
#include "frame/ws.h"
#include "net/net.h"

#define IDLE_MS 30000
#define LINK_ID 1
#define MESSAGE_BYTES_MAX ((size_t)64 << 20)
#define PENDING_BYTES_MAX ((size_t)256 << 20)
#define PENDING_BYTES_HIGH ((size_t)1 << 20) /* above it nothing is read until it is written */
#define WRITE_BYTES ((size_t)64 << 10)

struct url {
    char host[256];
    char authority[300]; /* for Host: */
    char target[4096];
    uint16_t port;
    bool tls;
};

struct echo {
    uv_loop_t loop;
    struct net *net;
    struct host host;
    struct url url;
    struct upgrade_reader reader;
    struct ws_decoder decoder;
    struct buffer pending; /* encoded, not yet taken by the link */
    bool upgraded, close_sent, reading_off;
    uint64_t active_ms;
    int status;
};

int main(int argc, char **argv);

static struct echo *echo_of(struct runtime *rt)
{
    return (struct echo *)(void *)rt;
}

static void stay_active(struct echo *e)
{
    struct clock now;
    e->host.ops->clock(e->host.self, &now);
    e->active_ms = now.mono_ms;
}

/* ---- writing ----------------------------------------------------------------------------------- */

static void push(struct echo *e)
{
    size_t at = 0;
    while (at < e->pending.len) {
        size_t n = e->pending.len - at < WRITE_BYTES ? e->pending.len - at : WRITE_BYTES;
        if (!e->host.ops->link_write(e->host.self, LINK_ID, e->pending.data + at, n)) break;
        at += n;
    }
    buffer_consume(&e->pending, at);
    if (e->reading_off && e->pending.len < PENDING_BYTES_HIGH) {
        e->reading_off = false;
        e->host.ops->link_read(e->host.self, LINK_ID, true);
    }
}

static void send_frame(struct echo *e, enum ws_opcode opcode, const void *bytes, size_t len)
{
    uint8_t mask[4];
    e->host.ops->random(e->host.self, mask, sizeof mask);
    if (e->close_sent) return;
    if (!ws_encode(&e->pending, opcode, true, bytes, len, mask)) {
        fprintf(stderr, "ws_echo_client: too much to echo\n");
        e->host.ops->link_abort(e->host.self, LINK_ID);
    }
}

static void send_close(struct echo *e, uint16_t code, const char *reason)
{
    uint8_t mask[4];
    e->host.ops->random(e->host.self, mask, sizeof mask);
    if (!e->close_sent) ws_encode_close(&e->pending, code, reason, mask);
    e->close_sent = true;
}

/* ---- the sink ---------------------------------------------------------------------------------- */

static void on_stage(struct runtime *rt, uint64_t link, enum stage stage)
{
    (void)rt;
    (void)link;
    (void)stage;
}

static void on_opened(struct runtime *rt, uint64_t link)
{
    struct echo *e = echo_of(rt);
    struct upgrade_request request = { .host = e->url.authority, .target = e->url.target };
    e->host.ops->random(e->host.self, request.nonce, sizeof request.nonce);
    upgrade_reader_init(&e->reader, request.nonce, NULL);
    stay_active(e);
    if (!upgrade_write_request(&e->pending, &request)) e->host.ops->link_abort(e->host.self, link);
    push(e);
}

static bool item(struct echo *e, enum ws_item_kind kind, const struct ws_item *i)
{
    switch (kind) {
    case WS_ITEM_MORE: return false;
    case WS_ITEM_MESSAGE: send_frame(e, i->text ? WS_TEXT : WS_BINARY, i->data, i->len); break;
    case WS_ITEM_PING: send_frame(e, WS_PONG, i->data, i->len); break;
    case WS_ITEM_PONG: break;
    case WS_ITEM_CLOSE: send_close(e, i->close_code, NULL); break;
    case WS_ITEM_ERROR: send_close(e, ws_error_close_code(i->error), ws_error_text(i->error)); break;
    }
    return true;
}

static size_t on_bytes(struct runtime *rt, uint64_t link, uint8_t *bytes, size_t len)
{
    struct echo *e = echo_of(rt);
    size_t at = 0;
    stay_active(e);
    if (!e->upgraded) {
        enum upgrade_state state = upgrade_read(&e->reader, bytes, len, &at);
        if (state == UPGRADE_MORE) return len;
        if (state != UPGRADE_DONE) {
            fprintf(stderr, "ws_echo_client: upgrade refused: status %d %s\n", e->reader.status,
                    e->reader.why ? e->reader.why : "");
            e->host.ops->link_abort(e->host.self, link);
            return len;
        }
        e->upgraded = true;
        e->status = 0;
    }
    for (bool more = true; more;) {
        if (e->pending.len > PENDING_BYTES_HIGH) push(e);
        if (e->pending.len > PENDING_BYTES_HIGH) {
            e->reading_off = true;
            e->host.ops->link_read(e->host.self, link, false);
            return at;
        }
        struct ws_item i;
        size_t used = 0;
        enum ws_item_kind kind = ws_decode(&e->decoder, bytes + at, len - at, &used, &i);
        at += used;
        more = item(e, kind, &i);
    }
    push(e);
    return len;
}

static void on_writable(struct runtime *rt, uint64_t link)
{
    (void)link;
    stay_active(echo_of(rt));
    push(echo_of(rt));
}

static void on_drained(struct runtime *rt, uint64_t link)
{
    (void)rt;
    (void)link;
}

static void on_ended(struct runtime *rt, uint64_t link, const struct cause *cause)
{
    (void)link;
    if (!echo_of(rt)->upgraded) fprintf(stderr, "ws_echo_client: %s\n", cause->reason);
}

static void on_closed(struct runtime *rt, uint64_t link)
{
    (void)link;
    net_close(echo_of(rt)->net, NULL, NULL);
}

static void on_http(struct runtime *rt, uint64_t call, const struct http_result *result)
{
    (void)rt;
    (void)call;
    (void)result;
}

static const struct host_sink echo_sink = {
    .link_stage = on_stage,
    .link_opened = on_opened,
    .link_bytes = on_bytes,
    .link_writable = on_writable,
    .link_drained = on_drained,
    .link_ended = on_ended,
    .link_closed = on_closed,
    .http_done = on_http,
};

static uint64_t deadline_ms(struct runtime *rt)
{
    return echo_of(rt)->active_ms + IDLE_MS;
}

static void tick(struct runtime *rt)
{
    struct echo *e = echo_of(rt);
    struct clock now;
    e->host.ops->clock(e->host.self, &now);
    if (now.mono_ms < e->active_ms + IDLE_MS) return;
    e->status = 3;
    e->active_ms = now.mono_ms; /* or the tick would be due again before the link is closed */
    e->host.ops->link_abort(e->host.self, LINK_ID);
}

/* ---- the call ---------------------------------------------------------------------------------- */

static bool url_parse(const char *text, struct url *out)
{
    memset(out, 0, sizeof *out);
    const char *rest;
    if (strncmp(text, "ws://", 5) == 0) rest = text + 5;
    else if (strncmp(text, "wss://", 6) == 0) rest = text + 6;
    else return false;
    out->tls = text[2] == 's';
    size_t authority_len = strcspn(rest, "/?#");
    if (authority_len == 0 || authority_len >= sizeof out->authority) return false;
    memcpy(out->authority, rest, authority_len);
    const char *target = rest + authority_len;
    size_t target_len = strcspn(target, "#");
    int wrote = snprintf(out->target, sizeof out->target, "%s%.*s", *target == '/' ? "" : "/",
                         (int)target_len, target);
    if (wrote < 0 || (size_t)wrote >= sizeof out->target) return false;

    const char *colon = strrchr(out->authority, ':');
    const char *bracket = strchr(out->authority, ']');
    if (colon && bracket && colon < bracket) colon = NULL;
    size_t host_len = colon ? (size_t)(colon - out->authority) : authority_len;
    if (host_len == 0 || host_len >= sizeof out->host) return false;
    memcpy(out->host, out->authority, host_len);
    long port = out->tls ? 443 : 80;
    if (colon) port = strtol(colon + 1, NULL, 10);
    if (port < 1 || port > 65535) return false;
    out->port = (uint16_t)port;
    return true;
}

int main(int argc, char **argv)
{
    static struct echo e;
    memset(&e, 0, sizeof e);
    if (argc < 2 || argc > 3 || !url_parse(argv[1], &e.url)) {
        fprintf(stderr, "usage: ws_echo_client ws[s]://HOST[:PORT][/PATH] [CA_FILE]\n");
        return 2;
    }
    e.status = 1;
    buffer_init(&e.pending, PENDING_BYTES_MAX);
    ws_decoder_init(&e.decoder, WS_CLIENT, MESSAGE_BYTES_MAX);
    uv_loop_init(&e.loop);
    e.net = net_create(&e.loop, &echo_sink, NULL);
    ASSERT(e.net != NULL);
    e.host = net_host(e.net);
    net_set_runtime(e.net, (struct runtime *)(void *)&e, tick, deadline_ms);
    stay_active(&e);
    struct link_target target = { .host = e.url.host, .port = e.url.port, .tls = e.url.tls,
                                  .ca_file = argc > 2 ? argv[2] : NULL };
    if (!e.host.ops->link_open(e.host.self, LINK_ID, &target)) return 1;
    e.host.ops->wake(e.host.self);
    uv_run(&e.loop, UV_RUN_DEFAULT);
    int left = uv_loop_close(&e.loop);
    ASSERT(left == 0);
    upgrade_reader_deinit(&e.reader);
    ws_decoder_deinit(&e.decoder);
    buffer_deinit(&e.pending);
    return e.status;
}
