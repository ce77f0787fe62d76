/* The far side of a stream: reads the upgrade, speaks WebSocket as a server, and hands all of it to the
 * server's ops, usually a peer. Port functions that a peer calls never call back into it: what follows
 * comes from the queue. */
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/text.h"
#include "sim/world_internal.h"

#define SERVER_MESSAGE_BYTES_MAX ((size_t)64 << 20)

static void read_request(struct world *w, struct stream *s);
static void read_frames(struct world *w, struct stream *s);

bool world__server_write(struct world *w, struct stream *s, const struct buffer *bytes)
{
    if (s->server_state == SERVER_NONE || s->deaf || s->down.fin_wanted || s->down.fin_sent) {
        return false;
    }
    bool ok = buffer_append(&s->down.out, bytes->data, bytes->len);
    ASSERT(ok);
    world__stream_pump(w, s, false);
    return true;
}

static void server_fin(struct world *w, struct stream *s)
{
    if (s->down.fin_wanted) return;
    s->down.fin_wanted = true;
    world__stream_pump(w, s, false);
}

void world__server_accept(struct world *w, struct stream *s)
{
    ASSERT(s->server_state == SERVER_NONE);
    s->server_state = SERVER_HEAD;
    request_reader_init(&s->request);
    s->request_ready = true;
    (void)w;
}

/* The stream is over for the server: nothing of it is read or written any more. */
void world__server_over(struct world *w, struct stream *s, uint16_t code)
{
    if (s->server_state == SERVER_NONE) return;
    s->server_state = SERVER_NONE;
    s->close_code = code;
    if (s->over_queued) return;
    s->over_queued = true;
    world__put(w, w->now_ms, HAPPENING_SERVER_OVER, s->self, 0, 0);
}

void world__server_on_over(struct world *w, struct stream *s)
{
    s->over_queued = false;
    buffer_clear(&s->up.in); /* not in world__server_over(): its caller may be reading from there */
    struct server *sv = world__server(w, s->server);
    if (s->was_open) {
        s->was_open = false;
        trace_line(&w->trace, w->now_ms, "%s: socket of %s#%u over, %u", sv->name,
                   s->owner.connection, s->owner.generation, (unsigned)s->close_code);
        if (sv->ops.closed) sv->ops.closed(sv->self, handle_pack(s->self), s->close_code);
    }
    world__stream_free_if_over(w, s);
}

void world__server_on_limit(struct world *w, struct stream *s)
{
    if (s->server_state != SERVER_CLOSING && s->server_state != SERVER_ENDING) return;
    MARK("a server does not wait for ever for a close");
    if (!s->down.fin_sent) world__stream_reset(w, s, false);
    world__server_over(w, s, 1006);
}

void world__server_on_bytes(struct world *w, struct stream *s)
{
    if (s->deaf || s->far_gone) return;
    if (s->server_state == SERVER_HEAD) read_request(w, s);
    if (s->server_state == SERVER_OPEN || s->server_state == SERVER_CLOSING) read_frames(w, s);
    if (s->server_state == SERVER_ASKED) return; /* pipelined bytes wait for the answer */
    if (s->server_state == SERVER_ENDING || s->server_state == SERVER_NONE) {
        buffer_clear(&s->up.in);
    }
    world__stream_pump(w, s, true);
}

void world__server_on_end(struct world *w, struct stream *s)
{
    if (s->server_state == SERVER_NONE || s->far_gone) return;
    if (s->up.fin_arrived && !s->up.reset_arrived) {
        if (s->deaf || s->struck[FAULT_NO_CLOSE_ANSWER]) return;
        server_fin(w, s);
    }
    if (s->server_state == SERVER_ENDING) world__server_over(w, s, s->close_code);
    else world__server_over(w, s, 1006);
}

/* ---- the request ------------------------------------------------------------------------------------ */

static const struct fault *strike(struct world *w, struct stream *s, enum fault_kind kind,
                                  enum stage stage, bool staged)
{
    struct fault_subject about = world__subject(w, s->host, s->server, s->owner.connection,
                                                FAULT_ON_LINKS, stage);
    about.staged = staged;
    return faults_strike(&w->faults, kind, &about);
}

static void drop(struct world *w, struct stream *s)
{
    world__stream_reset(w, s, false);
    world__server_over(w, s, 1006);
}

static void accept_upgrade(struct world *w, struct stream *s)
{
    struct server *sv = world__server(w, s->server);
    struct buffer answer;
    char protocol[64];
    buffer_init(&answer, 0);
    bool has = upgrade_header_get((const char *)s->request.head.data, s->request.head.len,
                                  "Sec-WebSocket-Protocol", protocol, sizeof protocol);
    char *comma = has ? strchr(protocol, ',') : NULL;
    if (comma) *comma = 0; /* the first one offered */
    bool ok = upgrade_write_accept(&answer, s->request.key, has ? protocol : NULL);
    ASSERT(ok);
    ws_decoder_init(&s->ws, WS_SERVER, SERVER_MESSAGE_BYTES_MAX);
    s->ws_ready = true;
    s->server_state = SERVER_OPEN;
    s->was_open = true;
    sv->upgrades_total++;
    trace_line(&w->trace, w->now_ms, "%s: upgrade of %s#%u accepted", sv->name,
               s->owner.connection, s->owner.generation);
    if (strike(w, s, FAULT_RESET, STAGE_GREETING, true)) {
        s->down.cut_left = answer.len;
        s->down.cut_resets = true;
    }
    world__server_write(w, s, &answer);
    buffer_deinit(&answer);
    if (s->server_state == SERVER_OPEN && sv->ops.opened) {
        sv->ops.opened(sv->self, handle_pack(s->self));
    }
}

static void ask_peer(struct world *w, struct stream *s)
{
    struct server *sv = world__server(w, s->server);
    char host[256];
    const char *head = (const char *)s->request.head.data;
    if (!upgrade_header_get(head, s->request.head.len, "Host", host, sizeof host)) host[0] = 0;
    /* The raw lines without the request line. */
    const char *lines = strstr(head, "\r\n");
    lines = lines ? lines + 2 : "";
    struct peer_request request = { .id = handle_pack(s->self),
                                    .method = s->request.method,
                                    .target = s->request.target,
                                    .host = host,
                                    .headers = lines,
                                    .body = s->request.body.data,
                                    .body_len = s->request.body.len };
    s->server_state = SERVER_ASKED;
    if (!s->request.is_upgrade) {
        sv->requests_total++;
        if (sv->ops.http) sv->ops.http(sv->self, &request);
        return;
    }
    enum peer_upgrade answer =
        sv->ops.upgrade ? sv->ops.upgrade(sv->self, &request) : PEER_ACCEPT;
    if (answer == PEER_ACCEPT && s->server_state == SERVER_ASKED) accept_upgrade(w, s);
}

static void read_request(struct world *w, struct stream *s)
{
    size_t used = 0;
    if (!s->tls && world__server(w, s->server)->tls) {
        world__server_respond(w, s, 400, "", "plain HTTP to a TLS port", 24);
        return;
    }
    enum upgrade_state state = request_read(&s->request, s->up.in.data, s->up.in.len, &used);
    buffer_consume(&s->up.in, used);
    if (state == UPGRADE_MORE) return;
    const struct fault *f;
    if (state != UPGRADE_DONE) {
        trace_line(&w->trace, w->now_ms, "%s#%u bad request: %s", s->owner.connection,
                   s->owner.generation, s->request.why ? s->request.why : "");
        world__server_respond(w, s, 400, "", s->request.why, s->request.why ? strlen(s->request.why) : 0);
    } else if (strike(w, s, FAULT_RESET, STAGE_UPGRADING, true)) {
        drop(w, s);
    } else if ((f = strike(w, s, FAULT_GARBAGE, STAGE_UPGRADING, true))) {
        world__server_garbage(w, s, f->bytes ? f->bytes : 64);
        server_fin(w, s);
        s->server_state = SERVER_ENDING;
    } else if ((f = strike(w, s, FAULT_HTTP_STATUS, STAGE_UPGRADING, false))) {
        world__server_respond(w, s, f->status, f->headers ? f->headers : "", f->body,
                        f->body ? strlen(f->body) : 0);
    } else {
        ask_peer(w, s);
    }
}

void world__server_respond(struct world *w, struct stream *s, int status, const char *headers,
                     const void *body, size_t len)
{
    if (s->server_state != SERVER_ASKED && s->server_state != SERVER_HEAD) return;
    struct buffer answer;
    buffer_init(&answer, 0);
    bool ok = upgrade_write_response(&answer, status, headers ? headers : "", body, len);
    ASSERT(ok);
    world__server_write(w, s, &answer);
    buffer_deinit(&answer);
    server_fin(w, s);
    s->server_state = SERVER_ENDING;
    s->close_code = 1006;
    world__put(w, w->now_ms + WORLD_SERVER_CLOSE_MS, HAPPENING_SERVER_LIMIT, s->self, 0, 0);
}

void world__server_garbage(struct world *w, struct stream *s, uint64_t bytes)
{
    struct buffer noise;
    buffer_init(&noise, 0);
    for (uint64_t i = 0; i < bytes; i++) {
        uint64_t draw = rng_draw(w->options.seed, 0x6a7ba9e, s->serial, s->down.segments * 4096 + i);
        /* The first byte has reserved bits set: never a frame by chance. */
        buffer_append_char(&noise, (char)(i == 0 ? 0x70 | (draw & 0x8f) : draw & 0xff));
    }
    world__server_write(w, s, &noise);
    buffer_deinit(&noise);
}

/* ---- frames ---------------------------------------------------------------------------------------- */

static void send_frame(struct world *w, struct stream *s, enum ws_opcode opcode, const void *data,
                       size_t len)
{
    buffer_clear(&w->scratch);
    bool ok = ws_encode(&w->scratch, opcode, true, data, len, NULL);
    ASSERT(ok);
    world__server_write(w, s, &w->scratch);
}

static void send_close(struct world *w, struct stream *s, uint16_t code, const char *reason)
{
    buffer_clear(&w->scratch);
    bool ok = ws_encode_close(&w->scratch, code, reason, NULL);
    ASSERT(ok);
    world__server_write(w, s, &w->scratch);
}

static void on_close_frame(struct world *w, struct stream *s, uint16_t code)
{
    if (s->struck[FAULT_NO_CLOSE_ANSWER]) {
        MARK("a server that never answers a close");
        return;
    }
    if (s->server_state == SERVER_OPEN) send_close(w, s, code, NULL);
    server_fin(w, s);
    s->server_state = SERVER_ENDING;
    s->close_code = code ? code : 1005;
    world__put(w, w->now_ms + WORLD_SERVER_CLOSE_MS, HAPPENING_SERVER_LIMIT, s->self, 0, 0);
}

static void read_frames(struct world *w, struct stream *s)
{
    struct server *sv = world__server(w, s->server);
    struct handle self = s->self;
    for (;;) {
        struct ws_item item;
        size_t used = 0;
        enum ws_item_kind kind = ws_decode(&s->ws, s->up.in.data, s->up.in.len, &used, &item);
        switch (kind) {
        case WS_ITEM_MORE: buffer_consume(&s->up.in, used); return;
        case WS_ITEM_PING:
            send_frame(w, s, WS_PONG, item.data, item.len);
            break;
        case WS_ITEM_PONG: break;
        case WS_ITEM_CLOSE: on_close_frame(w, s, item.close_code); break;
        case WS_ITEM_ERROR:
            trace_line(&w->trace, w->now_ms, "%s: %s#%u broke the protocol: %s", sv->name,
                       s->owner.connection, s->owner.generation, ws_error_text(item.error));
            send_close(w, s, ws_error_close_code(item.error), ws_error_text(item.error));
            server_fin(w, s);
            s->server_state = SERVER_ENDING;
            s->close_code = 1006;
            world__put(w, w->now_ms + WORLD_SERVER_CLOSE_MS, HAPPENING_SERVER_LIMIT, s->self, 0, 0);
            break;
        case WS_ITEM_MESSAGE:
            if (s->server_state != SERVER_OPEN) break;
            sv->messages_total++;
            if (sv->ops.message) {
                sv->ops.message(sv->self, handle_pack(self), item.text, item.data, item.len);
            }
            break;
        }
        buffer_consume(&s->up.in, used);
        if (s->server_state != SERVER_OPEN && s->server_state != SERVER_CLOSING) return;
        if (s->deaf) return;
    }
}

/* ---- the port ----------------------------------------------------------------------------------------- */

static struct stream *socket_of(struct world *w, uint64_t ws)
{
    return world__stream_get(w, handle_unpack(ws));
}

static uint64_t port_now_ms(void *self)
{
    struct server *sv = self;
    return sv->world->now_ms;
}

static uint64_t port_wall_ms(void *self)
{
    struct server *sv = self;
    return sv->world->options.wall_ms + sv->world->now_ms; /* its clock does not jump with ours */
}

static void port_respond(void *self, uint64_t request, int status, const char *headers,
                         const void *body, size_t len)
{
    struct server *sv = self;
    if (request & WORLD_CALL_ID) {
        struct call *c = world__call_get(sv->world, handle_unpack(request & ~WORLD_CALL_ID));
        if (c) world__call_respond(sv->world, c, status, headers, body, len);
        return;
    }
    struct stream *s = socket_of(sv->world, request);
    if (s) world__server_respond(sv->world, s, status, headers, body, len);
}

static void port_ws_send(void *self, uint64_t ws, bool text, const void *data, size_t len)
{
    struct server *sv = self;
    struct stream *s = socket_of(sv->world, ws);
    if (!s || s->server_state != SERVER_OPEN) return;
    send_frame(sv->world, s, text ? WS_TEXT : WS_BINARY, data, len);
}

static void port_ws_ping(void *self, uint64_t ws)
{
    struct server *sv = self;
    struct stream *s = socket_of(sv->world, ws);
    if (s && s->server_state == SERVER_OPEN) send_frame(sv->world, s, WS_PING, "", 0);
}

static void port_ws_close(void *self, uint64_t ws, uint16_t code, const char *reason)
{
    struct server *sv = self;
    struct world *w = sv->world;
    struct stream *s = socket_of(w, ws);
    if (!s || s->server_state != SERVER_OPEN) return;
    send_close(w, s, code, reason);
    s->server_state = SERVER_CLOSING;
    world__put(w, w->now_ms + WORLD_SERVER_CLOSE_MS, HAPPENING_SERVER_LIMIT, s->self, 0, 0);
}

static void port_ws_abort(void *self, uint64_t ws)
{
    struct server *sv = self;
    struct stream *s = socket_of(sv->world, ws);
    if (!s || s->server_state == SERVER_NONE) return;
    server_fin(sv->world, s);
    world__server_over(sv->world, s, 1006);
}

static void port_ws_deaf(void *self, uint64_t ws, bool on)
{
    struct server *sv = self;
    struct stream *s = socket_of(sv->world, ws);
    if (!s || s->deaf == on) return;
    s->deaf = on;
    if (on) {
        world__stream_set_dead(sv->world, s);
        return;
    }
    if (!s->up.hole) s->dead_ms = 0;
    /* What waited is read now, but not from inside the peer. */
    world__put(sv->world, sv->world->now_ms, HAPPENING_ARRIVE_UP, s->self, 0, 0);
}

static void port_timer(void *self, uint64_t timer, uint64_t delay_ms)
{
    struct server *sv = self;
    struct world *w = sv->world;
    uint64_t order = world__put(w, w->now_ms + delay_ms, HAPPENING_PEER_TIMER, HANDLE_NONE, timer,
                                sv->number);
    idmap_put(&sv->timers, timer + 1, order);
}

static void port_timer_stop(void *self, uint64_t timer)
{
    struct server *sv = self;
    idmap_remove(&sv->timers, timer + 1);
}

static void port_log(void *self, const char *text)
{
    struct server *sv = self;
    trace_line(&sv->world->trace, sv->world->now_ms, "%s: %s", sv->name, text);
}

void world__server_on_timer(struct world *w, struct server *sv, uint64_t timer, uint64_t order)
{
    (void)w;
    if (!sv || idmap_find(&sv->timers, timer + 1) != order) return; /* stopped, or armed anew */
    idmap_remove(&sv->timers, timer + 1);
    if (sv->ops.timer) sv->ops.timer(sv->self, timer);
}

struct peer_port world_server_port(struct world *w, uint32_t server)
{
    struct server *sv = world__server(w, server);
    ASSERT(sv != NULL);
    return (struct peer_port){ .self = sv,
                               .now_ms = port_now_ms,
                               .wall_ms = port_wall_ms,
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
