/* holdfast's client: the daemon's host, upgrade and codec, without the parts above them. Echoes a
 * close code as the daemon does and answers every ping. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "facts.h"
#include "frame/upgrade.h"
#include "frame/ws.h"
#include "net/net.h"

#define MESSAGE_BYTES_MAX ((size_t)1 << 20)
#define TICK_MS           5

struct our_side {
    uv_loop_t loop;
    uv_timer_t tick;
    struct net *net;
    struct host host;
    const char *ca_file;
    uint64_t link;
    struct call *call;
    struct upgrade_reader reader;
    struct ws_decoder decoder;
    struct buffer out;
    uint64_t ticked_ns, first_message_ns;
    bool dialled, close_sent;
};

static struct our_side *side_of(struct runtime *rt)
{
    return (struct our_side *)(void *)rt;
}

/* --- frames -------------------------------------------------------------------------------------
 */

static void flush(struct our_side *s)
{
    if (s->out.len) s->host.ops->link_write(s->host.self, s->link, s->out.data, s->out.len);
    buffer_clear(&s->out);
}

static void send_close(struct our_side *s, uint16_t code)
{
    uint8_t mask[4];
    if (s->close_sent) return;
    s->close_sent = true;
    s->host.ops->random(s->host.self, mask, sizeof mask);
    ws_encode_close(&s->out, code, NULL, mask);
}

static void on_item(struct our_side *s, const struct ws_item *i)
{
    struct call *c = s->call;
    uint8_t mask[4];
    switch (i->kind) {
    case WS_ITEM_MESSAGE:
        c->messages++;
        c->bytes += i->len;
        if (!s->first_message_ns) s->first_message_ns = now_ns();
        break;
    case WS_ITEM_PING:
        s->host.ops->random(s->host.self, mask, sizeof mask);
        ws_encode(&s->out, WS_PONG, true, i->data, i->len, mask);
        break;
    case WS_ITEM_CLOSE:
        c->by_peer = true;
        c->close_code = i->close_code;
        send_close(s, i->close_code);
        break;
    case WS_ITEM_ERROR:
        snprintf(c->words, sizeof c->words, "%s", ws_error_text(i->error));
        send_close(s, ws_error_close_code(i->error));
        break;
    case WS_ITEM_PONG:
    case WS_ITEM_MORE: break;
    }
}

/* --- the host's sink ----------------------------------------------------------------------------
 */

static void on_stage(struct runtime *rt, uint64_t link, enum stage stage)
{
    (void)rt;
    (void)link;
    (void)stage;
}

static void on_opened(struct runtime *rt, uint64_t link)
{
    struct our_side *s = side_of(rt);
    struct upgrade_request request = { .host = "localhost", .target = "/" };
    (void)link;
    s->host.ops->random(s->host.self, request.nonce, sizeof request.nonce);
    upgrade_reader_init(&s->reader, request.nonce, NULL);
    upgrade_write_request(&s->out, &request);
    flush(s);
}

static void on_refused(struct our_side *s)
{
    struct call *c = s->call;
    c->status = s->reader.status;
    c->body_len = s->reader.body.len < sizeof c->body ? s->reader.body.len : sizeof c->body;
    memcpy(c->body, s->reader.body.data, c->body_len);
    if (s->reader.why) snprintf(c->words, sizeof c->words, "%s", s->reader.why);
    s->host.ops->link_abort(s->host.self, s->link);
}

static size_t on_bytes(struct runtime *rt, uint64_t link, uint8_t *bytes, size_t len)
{
    struct our_side *s = side_of(rt);
    size_t at = 0;
    (void)link;
    if (!s->call->opened) {
        enum upgrade_state state = upgrade_read(&s->reader, bytes, len, &at);
        if (state == UPGRADE_MORE) return len;
        if (state != UPGRADE_DONE) {
            if (!s->call->status) on_refused(s);
            return len;
        }
        s->call->opened = true;
    }
    struct ws_item item;
    do {
        size_t used = 0;
        ws_decode(&s->decoder, bytes + at, len - at, &used, &item);
        at += used;
        on_item(s, &item);
    } while (item.kind != WS_ITEM_MORE);
    flush(s);
    return len;
}

static void on_link(struct runtime *rt, uint64_t link)
{
    (void)rt;
    (void)link;
}

static void on_ended(struct runtime *rt, uint64_t link, const struct cause *cause)
{
    struct call *c = side_of(rt)->call;
    (void)link;
    if (c && !c->opened && !c->words[0]) snprintf(c->words, sizeof c->words, "%s", cause->reason);
}

static void on_closed(struct runtime *rt, uint64_t link)
{
    struct our_side *s = side_of(rt);
    if (s->call && link == s->link) s->call->over = true;
}

static void on_http(struct runtime *rt, uint64_t call, const struct http_result *result)
{
    (void)rt;
    (void)call;
    (void)result;
}

static const struct host_sink sink = {
    .link_stage = on_stage,
    .link_opened = on_opened,
    .link_bytes = on_bytes,
    .link_writable = on_link,
    .link_drained = on_link,
    .link_ended = on_ended,
    .link_closed = on_closed,
    .http_done = on_http,
};

static uint64_t no_deadline(struct runtime *rt)
{
    (void)rt;
    return NET_DEADLINE_NEVER;
}

static void no_tick(struct runtime *rt)
{
    (void)rt;
}

/* --- the side -----------------------------------------------------------------------------------
 */

struct our_side *our_side_create(const char *ca_file)
{
    struct our_side *s = calloc(1, sizeof *s);
    uv_loop_init(&s->loop);
    s->net = net_create(&s->loop, &sink, NULL);
    s->host = net_host(s->net);
    s->ca_file = ca_file;
    net_set_runtime(s->net, (struct runtime *)(void *)s, no_tick, no_deadline);
    uv_timer_init(&s->loop, &s->tick);
    s->tick.data = s;
    buffer_init(&s->out, 0);
    return s;
}

void our_side_destroy(struct our_side *s)
{
    uv_close((uv_handle_t *)&s->tick, NULL);
    net_close(s->net, NULL, NULL);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    uv_loop_close(&s->loop);
    buffer_deinit(&s->out);
    free(s);
}

static void on_tick(uv_timer_t *timer)
{
    struct our_side *s = timer->data;
    uint64_t now = now_ns();
    if (s->ticked_ns && (now - s->ticked_ns) / 1000000 > s->call->stall_ms) {
        s->call->stall_ms = (now - s->ticked_ns) / 1000000;
    }
    s->ticked_ns = now;
    if (!s->dialled) {
        struct link_target target = { .host = s->call->name,
                                      .port = s->call->port,
                                      .tls = s->call->tls,
                                      .ca_file = s->call->tls ? s->ca_file : NULL };
        s->dialled = true;
        if (!s->host.ops->link_open(s->host.self, s->link, &target)) s->call->over = true;
    } else if (s->call->linger_ms && s->first_message_ns && !s->close_sent &&
               now - s->first_message_ns > s->call->linger_ms * 1000000) {
        send_close(s, 1000);
        flush(s);
    }
}

void our_side_call(struct our_side *s, struct call *call)
{
    uint64_t start_ns = now_ns();
    s->call = call;
    s->link++;
    s->dialled = s->close_sent = false;
    s->ticked_ns = s->first_message_ns = 0;
    memset(&s->reader, 0, sizeof s->reader);
    ws_decoder_init(&s->decoder, WS_CLIENT, MESSAGE_BYTES_MAX);
    uv_timer_start(&s->tick, on_tick, 0, TICK_MS);
    while (!call->over && now_ns() - start_ns < CALL_MS_MAX * 1000000ull)
        uv_run(&s->loop, UV_RUN_ONCE);
    if (!call->over) {
        snprintf(call->words, sizeof call->words, "not over after %d ms", CALL_MS_MAX);
        s->host.ops->link_abort(s->host.self, s->link);
        while (!call->over) uv_run(&s->loop, UV_RUN_ONCE);
    }
    uv_timer_stop(&s->tick);
    upgrade_reader_deinit(&s->reader);
    ws_decoder_deinit(&s->decoder);
    buffer_clear(&s->out);
    s->call = NULL;
}
