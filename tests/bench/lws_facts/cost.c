/* Facts about time: the resolver, TLS sessions, the parser. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "facts.h"
#include "frame/ws.h"

/* --- the resolver -------------------------------------------------------------------------------
 */

#define SLOW_MS 300

static void serve_hello(struct conn *c, void *data)
{
    uint8_t frame[16], payload[126];
    size_t len;
    (void)data;
    if (!conn_upgrade(c) || !conn_write(c, frame, frame_write(frame, 1, "hello", 5))) return;
    for (int opcode; (opcode = conn_frame(c, payload, &len)) >= 0 && opcode != 8;) {
    }
}

bool fact_resolver(struct bench *b, struct fact *f)
{
    struct server s;
    f->what = "looking up a name blocks the loop";
    f->where =
        "one dial with a slow name server stops every other connection's heartbeats on that loop";
    if (!server_start(&s, serve_hello, NULL, NULL)) return false;
    struct call lws = { .name = "localhost", .port = s.port, .linger_ms = 20 }, ours = lws;
    stand_in_resolver_slow(SLOW_MS);
    stand_in_resolver_calls();
    lws_side_call(b->lws, &lws);
    unsigned lws_lookups = stand_in_resolver_calls();
    our_side_call(b->ours, &ours);
    unsigned our_lookups = stand_in_resolver_calls();
    stand_in_resolver_slow(0);
    server_stop(&s);
    if (!lws.opened || !ours.opened || !our_lookups) {
        snprintf(f->lws, sizeof f->lws, "the experiment failed: %s %s", lws.words, ours.words);
        return false;
    }
    f->reproduced = lws_lookups && lws.stall_ms >= SLOW_MS - 10;
    f->ours_is_right = ours.stall_ms < SLOW_MS / 2;
    snprintf(f->lws, sizeof f->lws,
             "a lookup of %d ms: the loop stood still for %llu ms (getaddrinfo calls: %u)", SLOW_MS,
             (unsigned long long)lws.stall_ms, lws_lookups);
    snprintf(f->ours, sizeof f->ours,
             "the same lookup in libuv's pool: at most %llu ms between two turns "
             "(a timer of 5 ms)",
             (unsigned long long)ours.stall_ms);
    return true;
}

/* --- TLS sessions -------------------------------------------------------------------------------
 */

#define DIALS 4

struct reuse {
    unsigned handshakes, resumed;
};

static void serve_reuse(struct conn *c, void *data)
{
    struct reuse *r = data;
    r->handshakes++;
    if (SSL_session_reused(c->ssl)) r->resumed++;
    serve_hello(c, NULL);
}

static bool redial(struct bench *b, bool lws, struct reuse *r, char *why, size_t why_bytes)
{
    struct server s;
    if (!server_start(&s, serve_reuse, r, b->tls)) return false;
    for (int i = 0; i < DIALS; i++) {
        struct call c = { .name = "localhost", .port = s.port, .tls = true, .linger_ms = 20 };
        if (lws)
            lws_side_call(b->lws, &c);
        else
            our_side_call(b->ours, &c);
        if (!c.opened) snprintf(why, why_bytes, "the experiment failed: %s", c.words);
    }
    server_stop(&s);
    return r->handshakes == DIALS;
}

bool fact_resumption(struct bench *b, struct fact *f)
{
    struct reuse lws = { 0 }, ours = { 0 };
    f->what = "no TLS session is resumed on a reconnect";
    f->where = "after a platform's restart all bots come back at once, each with a full handshake";
    if (!redial(b, true, &lws, f->lws, sizeof f->lws) ||
        !redial(b, false, &ours, f->lws, sizeof f->lws))
        return false;
    f->reproduced = lws.resumed == 0;
    f->ours_is_right = ours.resumed == DIALS - 1;
    snprintf(f->lws, sizeof f->lws, "%u dials, the server saw %u resumed sessions", lws.handshakes,
             lws.resumed);
    snprintf(f->ours, sizeof f->ours, "%u dials, the server saw %u resumed sessions",
             ours.handshakes, ours.resumed);
    return true;
}

/* --- the parser ---------------------------------------------------------------------------------
 */

#define STREAM_BYTES ((size_t)8 << 20)
#define ROUNDS       3
#define TIMES_MIN    2 /* below it a difference is no reason for a client of our own */

struct stream {
    uint8_t *bytes; /* owned: frames of one size, then nothing */
    size_t len, messages, payload;
};

static bool stream_make(struct stream *s, size_t frame_bytes)
{
    uint8_t payload[4096];
    memset(s, 0, sizeof *s);
    s->bytes = malloc(STREAM_BYTES + 8192);
    for (size_t i = 0; i < frame_bytes; i++) payload[i] = (uint8_t)(' ' + i % 90);
    while (s->bytes && s->len < STREAM_BYTES) {
        s->len += frame_write(s->bytes + s->len, 1, payload, frame_bytes);
        s->messages++;
        s->payload += frame_bytes;
    }
    return s->bytes != NULL;
}

static void serve_stream(struct conn *c, void *data)
{
    struct stream *s = data;
    uint8_t frame[16], code[2] = { 1000 >> 8, 1000 & 255 }, payload[126];
    size_t len;
    if (!conn_upgrade(c) || !conn_write(c, s->bytes, s->len)) return;
    if (!conn_write(c, frame, frame_write(frame, 8, code, 2))) return;
    for (int opcode; (opcode = conn_frame(c, payload, &len)) >= 0 && opcode != 8;) {
    }
}

/* The same bytes in reads of the same sizes through ws_decode(), timed in the same way. */
static uint64_t decode_ns(const struct stream *s, const struct meter *sizes, size_t *messages)
{
    static uint8_t read_buffer[1 << 20];
    struct ws_decoder d;
    struct ws_item item;
    uint64_t ns = 0;
    size_t at = 0;
    ws_decoder_init(&d, WS_CLIENT, 1 << 20);
    *messages = 0;
    for (uint32_t i = 0; at < s->len; i++) {
        size_t n = i < sizes->reads ? sizes->sizes[i] : sizeof read_buffer, used;
        if (n > s->len - at) n = s->len - at;
        memcpy(read_buffer, s->bytes + at, n); /* the kernel's part */
        at += n;
        uint64_t start = cpu_ns();
        for (size_t done = 0;; done += used) {
            if (ws_decode(&d, read_buffer + done, n - done, &used, &item) == WS_ITEM_MORE) break;
            if (item.kind == WS_ITEM_MESSAGE) ++*messages;
        }
        ns += cpu_ns() - start;
    }
    ws_decoder_deinit(&d);
    return ns;
}

static bool cost(struct bench *b, struct fact *f, size_t frame_bytes)
{
    static struct meter meter;
    uint64_t lws_ns = UINT64_MAX, our_ns = UINT64_MAX;
    struct stream stream;
    uint32_t reads = 0;
    if (!stream_make(&stream, frame_bytes)) return false;
    for (int round = 0; round < ROUNDS; round++) {
        struct server s;
        size_t messages = 0;
        if (!server_start(&s, serve_stream, &stream, NULL)) break;
        struct call c = { .name = "127.0.0.1", .port = s.port };
        stand_in_meter_start(&meter);
        lws_side_call(b->lws, &c);
        stand_in_meter_stop();
        server_stop(&s);
        uint64_t ns = decode_ns(&stream, &meter, &messages);
        if (c.messages != stream.messages || messages != stream.messages || meter.reads < 2) {
            snprintf(f->lws, sizeof f->lws,
                     "the experiment failed: %llu and %zu of %zu messages, %u reads",
                     (unsigned long long)c.messages, messages, stream.messages, meter.reads);
            lws_ns = UINT64_MAX;
            break;
        }
        /* The best of each: what the machine does besides can only add. */
        if (meter.ns < lws_ns) lws_ns = meter.ns;
        if (ns < our_ns) our_ns = ns;
        reads = meter.reads;
    }
    free(stream.bytes);
    if (lws_ns == UINT64_MAX) return false;
    double lws_byte = (double)lws_ns / (double)stream.payload,
           our_byte = (double)our_ns / (double)stream.payload;
    f->reproduced = lws_byte > TIMES_MIN * our_byte;
    f->ours_is_right = true;
    snprintf(f->lws, sizeof f->lws, "%.2f ns a byte, %.0f ns a frame: %.1f times the codec's",
             lws_byte, lws_byte * (double)frame_bytes, lws_byte / our_byte);
    snprintf(
        f->ours, sizeof f->ours,
        "%.2f ns a byte, %.0f ns a frame, UTF-8 checked (%.1f MB of ASCII in %u reads of the same "
        "sizes; best of %d)",
        our_byte, our_byte * (double)frame_bytes, (double)stream.payload / 1e6, reads, ROUNDS);
    f->where = "the cost of every frame of every bot on the one loop thread";
    return true;
}

bool fact_cost_small(struct bench *b, struct fact *f)
{
    f->what = "the parser costs a multiple of the codec, for frames of 200 bytes";
    return cost(b, f, 200);
}

bool fact_cost_large(struct bench *b, struct fact *f)
{
    f->what = "the parser costs a multiple of the codec, for frames of 2 KB";
    return cost(b, f, 2048);
}
