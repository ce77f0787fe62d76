/* A fault relay for the wire specs: a TCP listener on loopback in front of a peer, which forwards bytes
 * and does to them what networks do. Knows neither TLS nor WebSocket. All on the test's loop.
 *
 * Faults are set for connections accepted from then on, and for those open now with `live`:
 *   refuse       the listener is closed
 *   mute         accepted and never spoken to
 *   reset        reset at once after the accept
 *   reset_up=N, reset_down=N   both sides are reset once N bytes went that way, counted from the order
 *   fin_down=N   N bytes more go down, then FIN
 *   corrupt_up, corrupt_down   one bit of each piece is turned over
 *   drop_up, drop_down         half-open: bytes of one direction vanish
 *   black_hole   both vanish, and the ends of streams as well
 *   trickle      one byte per turn of the loop goes down
 *   delay=ms     each piece waits so long, both ways
 *   times=N      for so many accepted connections, then none of it
 *
 * As an HTTP proxy it first reads a CONNECT, and forwards to that port of this machine, whatever the
 * name; faults are counted from the tunnel on. With `answer` it says that instead, and hangs up. */
#ifndef HOLDFAST_TESTS_WIRE_RELAY_H
#define HOLDFAST_TESTS_WIRE_RELAY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/assert.h"
#include "base/buffer.h"

#define RELAY_NEVER (-1)
#define RELAY_QUEUE_MAX ((size_t)1 << 20)

enum relay_way { RELAY_UP, RELAY_DOWN }; /* from the client; from the server */

struct relay_faults {
    bool mute, reset, black_hole, trickle;
    bool drop[2], corrupt[2];
    int64_t reset_after[2], fin_after_down;
    uint64_t delay_ms;
    int64_t times;
};

struct relay_conn;

struct relay_side {
    uv_tcp_t tcp;
    struct relay_conn *conn;
    enum relay_way way;  /* of the bytes that are read here */
    bool open, closing, reading, ended;
};

struct relay_conn {
    struct relay *relay;
    struct relay_conn *next;
    struct relay_side side[2]; /* UP: the client's socket, DOWN: the server's */
    uv_connect_t connect;
    uv_idle_t drip;
    struct buffer dripping;    /* owned; bytes that wait to trickle down */
    size_t dripped;
    bool drip_on;
    struct relay_faults faults;
    bool asking;               /* a proxy's: the CONNECT is not read yet */
    struct buffer asked;       /* owned */
    int handles;
};

struct relay_proxy {
    bool on;
    char authorization[256];   /* asked for; "": none */
    char answer[1024];         /* instead of a tunnel; "": none */
    uint32_t asked, tunnels;
    char targets[1024];        /* "host:port " of each CONNECT, in order */
    char said[256];            /* Proxy-Authorization of the last one */
};

struct relay {
    uv_loop_t *loop;
    uv_tcp_t *listener;        /* owned by its close callback; NULL while refusing */
    uint16_t port, target;
    struct relay_faults faults;
    struct relay_conn *conns;
    int pending;               /* handles and requests that are not over */
    uint32_t accepted, open, open_most;
    struct relay_proxy proxy;
    uint64_t bytes[2];
    bool closed;
};

struct relay_piece {
    uv_write_t write;
    uv_timer_t timer;
    struct relay_side *to;
    bool fin;
    size_t len;
    char bytes[];
};

static void relay_side_close(struct relay_side *s, bool reset);
static void relay_read_on(struct relay_side *s);

static struct relay_faults relay_no_faults(void)
{
    return (struct relay_faults){ .reset_after = { RELAY_NEVER, RELAY_NEVER },
                                  .fin_after_down = RELAY_NEVER, .times = RELAY_NEVER };
}

static struct relay_side *relay_other(struct relay_side *s)
{
    return &s->conn->side[s->way == RELAY_UP ? RELAY_DOWN : RELAY_UP];
}

static void relay_conn_done(struct relay_conn *c)
{
    if (c->handles) return;
    struct relay_conn **at = &c->relay->conns;
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    buffer_deinit(&c->dripping);
    buffer_deinit(&c->asked);
    free(c);
}

static void relay_on_side_closed(uv_handle_t *h)
{
    struct relay_side *s = h->data;
    s->conn->relay->pending--;
    s->conn->handles--;
    relay_conn_done(s->conn);
}

static void relay_on_drip_closed(uv_handle_t *h)
{
    struct relay_conn *c = h->data;
    c->relay->pending--;
    c->handles--;
    relay_conn_done(c);
}

static void relay_side_close(struct relay_side *s, bool reset)
{
    if (s->closing) return;
    s->closing = true;
    if (s->open && s->way == RELAY_UP) s->conn->relay->open--;
    s->open = false;
    /* libuv refuses a reset after a shutdown was asked for. */
    if (!reset || uv_tcp_close_reset(&s->tcp, relay_on_side_closed) != 0) {
        uv_close((uv_handle_t *)&s->tcp, relay_on_side_closed);
    }
    struct relay_conn *c = s->conn;
    if (c->side[RELAY_UP].closing && c->side[RELAY_DOWN].closing && !uv_is_closing((uv_handle_t *)&c->drip)) {
        uv_close((uv_handle_t *)&c->drip, relay_on_drip_closed);
    }
}

static void relay_conn_close(struct relay_conn *c, bool reset)
{
    relay_side_close(&c->side[RELAY_UP], reset);
    relay_side_close(&c->side[RELAY_DOWN], reset);
}

static void relay_on_shutdown(uv_shutdown_t *req, int status)
{
    struct relay_side *s = req->data;
    (void)status;
    s->conn->relay->pending--;
    free(req);
}

static void relay_fin(struct relay_side *to)
{
    if (!to->open || to->ended) return;
    to->ended = true;
    uv_shutdown_t *req = malloc(sizeof *req);
    ASSERT(req != NULL);
    req->data = to;
    to->conn->relay->pending++;
    if (uv_shutdown(req, (uv_stream_t *)&to->tcp, relay_on_shutdown) != 0) {
        to->conn->relay->pending--;
        free(req);
    }
}

static void relay_on_written(uv_write_t *req, int status)
{
    struct relay_piece *p = req->data;
    struct relay_side *to = p->to;
    (void)status;
    to->conn->relay->pending--;
    free(p);
    struct relay_side *from = relay_other(to);
    if (to->open && from->open && !from->reading &&
        uv_stream_get_write_queue_size((uv_stream_t *)&to->tcp) < RELAY_QUEUE_MAX / 2) {
        relay_read_on(from);
    }
}

static struct relay_piece *relay_piece(struct relay_side *to, const char *bytes, size_t len)
{
    struct relay_piece *p = malloc(sizeof *p + len);
    ASSERT(p != NULL);
    p->to = to;
    p->len = len;
    p->fin = false;
    p->write.data = p->timer.data = p;
    if (len) memcpy(p->bytes, bytes, len);
    return p;
}

/* `p`: moved. */
static void relay_write(struct relay_piece *p)
{
    struct relay_side *to = p->to;
    uv_buf_t buf = uv_buf_init(p->bytes, (unsigned)p->len);
    if (!to->open || to->ended) {
        free(p);
        return;
    }
    to->conn->relay->pending++;
    if (uv_write(&p->write, (uv_stream_t *)&to->tcp, &buf, 1, relay_on_written) != 0) {
        to->conn->relay->pending--;
        free(p);
    }
}

static void relay_on_drip(uv_idle_t *idle)
{
    struct relay_conn *c = idle->data;
    if (c->dripped < c->dripping.len) {
        relay_write(relay_piece(&c->side[RELAY_UP], (const char *)c->dripping.data + c->dripped++, 1));
    }
    if (c->dripped < c->dripping.len) return;
    buffer_clear(&c->dripping);
    c->dripped = 0;
    c->drip_on = false;
    uv_idle_stop(idle);
}

static void relay_on_timer_closed(uv_handle_t *h)
{
    struct relay_piece *p = h->data;
    struct relay_conn *c = p->to->conn;
    c->relay->pending--;
    c->handles--;
    free(p);
    relay_conn_done(c);
}

/* Written here and not when the timer is closed: close callbacks come in no order. */
static void relay_on_timer(uv_timer_t *t)
{
    struct relay_piece *p = t->data;
    if (p->fin) relay_fin(p->to);
    else relay_write(relay_piece(p->to, p->bytes, p->len));
    uv_close((uv_handle_t *)t, relay_on_timer_closed);
}

static void relay_later(struct relay_piece *p, uint64_t delay_ms)
{
    struct relay_conn *c = p->to->conn;
    uv_timer_init(c->relay->loop, &p->timer);
    p->timer.data = p;
    c->relay->pending++;
    c->handles++;
    uv_timer_start(&p->timer, relay_on_timer, delay_ms, 0);
}

static void relay_forward(struct relay_side *from, const char *bytes, size_t len)
{
    struct relay_conn *c = from->conn;
    struct relay_side *to = relay_other(from);
    if (len == 0) return;
    if (c->faults.trickle && from->way == RELAY_DOWN) {
        if (!buffer_append(&c->dripping, bytes, len)) abort();
        if (!c->drip_on) uv_idle_start(&c->drip, relay_on_drip);
        c->drip_on = true;
        return;
    }
    struct relay_piece *p = relay_piece(to, bytes, len);
    if (c->faults.delay_ms) relay_later(p, c->faults.delay_ms);
    else relay_write(p);
    if (to->open && uv_stream_get_write_queue_size((uv_stream_t *)&to->tcp) > RELAY_QUEUE_MAX) {
        uv_read_stop((uv_stream_t *)&from->tcp);
        from->reading = false;
    }
}

static void relay_on_connect(uv_connect_t *req, int status);

static bool relay_connect(struct relay_conn *c, uint16_t port)
{
    struct sockaddr_in to;
    uv_ip4_addr("127.0.0.1", port, &to);
    c->connect.data = c;
    c->relay->pending++;
    if (uv_tcp_connect(&c->connect, &c->side[RELAY_DOWN].tcp, (struct sockaddr *)&to,
                       relay_on_connect) == 0) {
        return true;
    }
    c->relay->pending--;
    relay_conn_close(c, true);
    return false;
}

/* The bytes of a CONNECT, as they come. */
static void relay_asked(struct relay_conn *c, const char *bytes, size_t len)
{
    static const char unauthorized[] = "HTTP/1.1 407 Proxy Authentication Required\r\n"
                                       "Proxy-Authenticate: Basic realm=\"p\"\r\nContent-Length: 0\r\n\r\n";
    struct relay_proxy *p = &c->relay->proxy;
    struct relay_side *client = &c->side[RELAY_UP];
    char target[300] = "", *said, *port;
    if (!buffer_append(&c->asked, bytes, len) || !buffer_append_char(&c->asked, 0)) abort();
    c->asked.len--;
    char *head = (char *)c->asked.data;
    if (!strstr(head, "\r\n\r\n")) return;
    c->asking = false;
    p->asked++;
    sscanf(head, "CONNECT %255s", target);
    size_t used = strlen(p->targets);
    snprintf(p->targets + used, sizeof p->targets - used, "%s%s", used ? " " : "", target);
    p->said[0] = 0;
    if ((said = strstr(head, "\r\nProxy-Authorization: ")) != NULL) {
        sscanf(said + 23, "%255[^\r]", p->said);
    }
    port = strrchr(target, ':');
    const char *answer = p->answer[0] ? p->answer : NULL;
    if (!answer && p->authorization[0] && strcmp(p->said, p->authorization) != 0) answer = unauthorized;
    if (answer || !port) {
        if (answer) relay_write(relay_piece(client, answer, strlen(answer)));
        relay_fin(client);
        return;
    }
    relay_connect(c, (uint16_t)atoi(port + 1));
}

static void relay_bytes(struct relay_side *from, char *bytes, size_t len)
{
    struct relay_conn *c = from->conn;
    enum relay_way way = from->way;
    struct relay_faults *f = &c->faults;
    c->relay->bytes[way] += len;
    if (c->asking) {
        relay_asked(c, bytes, len);
        return;
    }
    if (f->black_hole || f->drop[way]) return;
    if (f->corrupt[way]) bytes[len - 1] ^= 1;
    if (f->reset_after[way] != RELAY_NEVER) {
        bool over = len >= (size_t)f->reset_after[way];
        size_t n = over ? (size_t)f->reset_after[way] : len;
        f->reset_after[way] -= (int64_t)n;
        relay_forward(from, bytes, n);
        if (over) relay_conn_close(c, true);
        return;
    }
    if (way == RELAY_DOWN && f->fin_after_down != RELAY_NEVER) {
        bool over = len >= (size_t)f->fin_after_down;
        size_t n = over ? (size_t)f->fin_after_down : len;
        f->fin_after_down -= (int64_t)n;
        relay_forward(from, bytes, n);
        if (!over) return;
        f->drop[RELAY_DOWN] = true;
        relay_fin(relay_other(from));
        return;
    }
    relay_forward(from, bytes, len);
}

static void relay_on_end(struct relay_side *from, bool reset)
{
    struct relay_conn *c = from->conn;
    struct relay_side *to = relay_other(from);
    if (c->faults.black_hole || c->faults.drop[from->way]) {
        /* The far side hears nothing of it. What it believes is a ghost, until the relay is closed. */
        if (reset || from->way == RELAY_UP) relay_side_close(from, false);
        return;
    }
    if (reset) {
        relay_conn_close(c, true);
    } else if (c->faults.delay_ms) {
        struct relay_piece *p = relay_piece(to, NULL, 0);
        p->fin = true;
        relay_later(p, c->faults.delay_ms);
    } else if (to->ended || !to->open) {
        relay_conn_close(c, false);
    } else {
        relay_fin(to);
        if (from->ended) relay_conn_close(c, false);
    }
}

static void relay_on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    (void)h;
    buf->base = malloc(suggested);
    buf->len = buf->base ? suggested : 0;
}

static void relay_on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct relay_side *s = stream->data;
    if (n > 0) relay_bytes(s, buf->base, (size_t)n);
    if (n < 0) {
        uv_read_stop(stream);
        s->reading = false;
        relay_on_end(s, n != UV_EOF);
    }
    free(buf->base);
}

static void relay_read_on(struct relay_side *s)
{
    s->reading = uv_read_start((uv_stream_t *)&s->tcp, relay_on_alloc, relay_on_read) == 0;
}

static void relay_on_connect(uv_connect_t *req, int status)
{
    struct relay_conn *c = req->data;
    c->relay->pending--;
    if (status != 0) {
        relay_conn_close(c, true);
        return;
    }
    if (c->side[RELAY_UP].closing || c->side[RELAY_DOWN].closing) return;
    c->side[RELAY_DOWN].open = true;
    uv_tcp_nodelay(&c->side[RELAY_DOWN].tcp, 1);
    if (c->relay->proxy.on) {
        static const char yes[] = "HTTP/1.1 200 Connection established\r\n\r\n";
        c->relay->proxy.tunnels++;
        relay_write(relay_piece(&c->side[RELAY_UP], yes, sizeof yes - 1));
    }
    relay_read_on(&c->side[RELAY_UP]);
    relay_read_on(&c->side[RELAY_DOWN]);
}

static void relay_on_accept(uv_stream_t *listener, int status)
{
    struct relay *r = listener->data;
    if (status != 0) return;
    struct relay_conn *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    c->relay = r;
    c->next = r->conns;
    r->conns = c;
    c->faults = r->faults;
    buffer_init(&c->dripping, 0);
    buffer_init(&c->asked, 0);
    for (int i = 0; i < 2; i++) {
        struct relay_side *s = &c->side[i];
        s->conn = c;
        s->way = (enum relay_way)i;
        uv_tcp_init(r->loop, &s->tcp);
        s->tcp.data = s;
    }
    uv_idle_init(r->loop, &c->drip);
    c->drip.data = c;
    c->handles = 3;
    r->pending += 3;
    if (uv_accept(listener, (uv_stream_t *)&c->side[RELAY_UP].tcp) != 0) {
        relay_conn_close(c, false);
        return;
    }
    c->side[RELAY_UP].open = true;
    uv_tcp_nodelay(&c->side[RELAY_UP].tcp, 1);
    r->accepted++;
    if (++r->open > r->open_most) r->open_most = r->open;
    if (r->faults.times != RELAY_NEVER && --r->faults.times <= 0) r->faults = relay_no_faults();
    if (c->faults.reset) {
        relay_conn_close(c, true);
        return;
    }
    if (c->faults.mute) return;
    c->asking = r->proxy.on;
    if (c->asking) relay_read_on(&c->side[RELAY_UP]);
    else relay_connect(c, r->target);
}

static bool relay_listen(struct relay *r)
{
    struct sockaddr_in at;
    int len = sizeof at;
    uv_tcp_t *tcp = malloc(sizeof *tcp);
    ASSERT(tcp != NULL);
    uv_tcp_init(r->loop, tcp);
    tcp->data = r;
    r->listener = tcp;
    r->pending++;
    uv_ip4_addr("127.0.0.1", r->port, &at);
    if (uv_tcp_bind(tcp, (struct sockaddr *)&at, 0) != 0) return false;
    if (uv_listen((uv_stream_t *)tcp, 64, relay_on_accept) != 0) return false;
    uv_tcp_getsockname(tcp, (struct sockaddr *)&at, &len);
    r->port = ntohs(at.sin_port);
    return true;
}

static void relay_on_listener_closed(uv_handle_t *h)
{
    struct relay *r = h->data;
    r->pending--;
    free(h);
}

static void relay_refuse(struct relay *r)
{
    if (r->listener) uv_close((uv_handle_t *)r->listener, relay_on_listener_closed);
    r->listener = NULL;
}

static struct relay *relay_create(uv_loop_t *loop, uint16_t target, uint16_t port)
{
    struct relay *r = calloc(1, sizeof *r);
    ASSERT(r != NULL);
    r->loop = loop;
    r->target = target;
    r->port = port;
    r->faults = relay_no_faults();
    if (!relay_listen(r)) abort();
    return r;
}

/* Every open connection: reset, or FIN both ways. */
static void relay_end_all(struct relay *r, bool reset)
{
    for (struct relay_conn *c = r->conns, *next; c; c = next) {
        next = c->next;
        if (reset) {
            relay_conn_close(c, true);
        } else {
            relay_fin(&c->side[RELAY_UP]);
            relay_fin(&c->side[RELAY_DOWN]);
        }
    }
}

static void relay_close(struct relay *r)
{
    if (r->closed) return;
    r->closed = true;
    relay_refuse(r);
    relay_end_all(r, true);
}

#endif
