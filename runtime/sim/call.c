/* HTTP calls of the runtime: the same names, stages and faults as for links, then a request to the
 * server and its answer. Bytes are not simulated here: only the far side's words are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/text.h"
#include "sim/world_internal.h"

enum { STEP_RESOLVE, STEP_CONNECT, STEP_SECURE, STEP_ASK, STEP_WAIT };
enum { KIND_STEP, KIND_TIMEOUT };

static void put(struct world *w, struct call *c, uint64_t delay_ms, uint64_t kind)
{
    world__put(w, w->now_ms + delay_ms, HAPPENING_CALL, c->self, kind, 0);
}

struct call *world__call_get(const struct world *w, struct handle h)
{
    return handle_is_none(h) ? NULL : slots_get(&w->calls, h);
}

/* "https://host[:port]/path?query" into its parts. False for anything else. */
static bool split(struct call *c)
{
    const char *rest;
    if (strncmp(c->url, "https://", 8) == 0) c->tls = true, rest = c->url + 8;
    else if (strncmp(c->url, "http://", 7) == 0) c->tls = false, rest = c->url + 7;
    else return false;
    size_t authority = strcspn(rest, "/?#");
    size_t host = authority;
    const char *colon = memchr(rest, ':', authority);
    if (colon) host = (size_t)(colon - rest);
    if (host == 0) return false;
    c->host = world__copy(rest, host);
    const char *target = rest + authority;
    size_t len = strcspn(target, "#");
    if (*target == '/') {
        c->target = world__copy(target, len);
    } else {
        c->target = world__alloc(len + 2);
        c->target[0] = '/';
        memcpy(c->target + 1, target, len);
    }
    return true;
}

static char *header_lines(const struct http_request *request)
{
    struct buffer lines;
    buffer_init(&lines, 0);
    for (uint32_t i = 0; i < request->header_count; i++) {
        buffer_printf(&lines, "%s: %s\r\n", request->headers[i].name, request->headers[i].value);
    }
    char *text = world__copy((const char *)lines.data, lines.len);
    buffer_deinit(&lines);
    return text;
}

static void finish(struct world *w, struct call *c, uint64_t delay_ms)
{
    if (c->over) return;
    c->over = true;
    world__put(w, w->now_ms + delay_ms, HAPPENING_CALL_DONE, c->self, 0, 0);
}

static void fail(struct world *w, struct call *c, enum cause_kind kind, int64_t code,
                 const char *reason)
{
    if (c->over) return;
    c->cause = cause_make(c->stage, kind, BY_NETWORK, reason);
    c->cause.code = code;
    c->status = 0;
    finish(w, c, 0);
}

bool world__call_start(void *self, uint64_t id, const struct http_request *request)
{
    struct world *w = self;
    ASSERT(w->booted);
    ASSERT(idmap_find(&w->call_ids, id) == 0);
    struct handle h;
    struct call *c = slots_alloc(&w->calls, &h);
    if (!c) return false;
    c->self = h;
    c->id = id;
    c->serial = ++w->next_serial;
    c->method = world__copy(request->method, strlen(request->method));
    c->url = world__copy(request->url, strlen(request->url));
    c->headers = header_lines(request);
    c->body = world__copy(request->body, request->body ? request->body_len : 0);
    c->body_len = request->body ? request->body_len : 0;
    c->body_bytes_max = request->body_bytes_max;
    c->stage = STAGE_RESOLVING;
    buffer_init(&c->answer, 0);
    idmap_put(&w->call_ids, id, handle_pack(h));
    if (!split(c)) {
        c->host = world__copy("", 0);
        c->target = world__copy("/", 1);
        fail(w, c, CAUSE_ADDRESS, 0, "not an http address");
        return true;
    }
    c->server = world__resolve(w, c->host);
    trace_line(&w->trace, w->now_ms, "call %s %s", c->method, c->host);
    put(w, c, 0, KIND_STEP);
    if (request->timeout_ms) put(w, c, request->timeout_ms, KIND_TIMEOUT);
    return true;
}

void world__call_free(struct world *w, struct call *c)
{
    if (c->id) idmap_remove(&w->call_ids, c->id);
    free(c->method);
    free(c->url);
    free(c->host);
    free(c->target);
    free(c->headers);
    free(c->body);
    free(c->head);
    buffer_deinit(&c->answer);
    slots_free(&w->calls, c->self);
}

void world__call_cancel(void *self, uint64_t id)
{
    struct world *w = self;
    struct call *c = world__call_get(w, handle_unpack(idmap_find(&w->call_ids, id)));
    if (!c) return;
    trace_line(&w->trace, w->now_ms, "call to %s cancelled", c->host);
    world__call_free(w, c);
}

static const struct fault *strike(struct world *w, struct call *c, enum fault_kind kind)
{
    struct fault_subject about = world__subject(w, c->host, c->server, NULL, FAULT_ON_CALLS,
                                                c->stage);
    return faults_strike(&w->faults, kind, &about);
}

static const struct fault *strike_here(struct world *w, struct call *c, enum fault_kind kind)
{
    struct fault_subject about = world__subject(w, c->host, c->server, NULL, FAULT_ON_CALLS,
                                                c->stage);
    about.staged = true;
    return faults_strike(&w->faults, kind, &about);
}

static uint64_t way_ms(struct world *w, struct call *c, uint64_t n)
{
    const struct fault *slow = strike(w, c, FAULT_SLOW);
    return world__latency_ms(w, c->serial, 8, n) + (slow ? slow->ms : 0);
}

static void connect_or_not(struct world *w, struct call *c)
{
    if (strike(w, c, FAULT_REFUSE)) {
        fail(w, c, CAUSE_REFUSED, 111, "connection refused");
    } else if (strike(w, c, FAULT_UNREACHABLE)) {
        fail(w, c, CAUSE_UNREACHABLE, 113, "no route to host");
    } else if (strike_here(w, c, FAULT_RESET)) {
        fail(w, c, CAUSE_RESET, 104, "connection reset by peer");
    } else {
        c->step = STEP_SECURE;
        c->stage = c->tls ? STAGE_SECURING : STAGE_UPGRADING;
        put(w, c, c->tls ? 2 * way_ms(w, c, 2) : 0, KIND_STEP);
    }
}

static void secure_or_not(struct world *w, struct call *c)
{
    const struct server *sv = world__server(w, c->server);
    if (c->tls && strike_here(w, c, FAULT_RESET)) fail(w, c, CAUSE_RESET, 104, "connection reset");
    else if (c->tls && strike(w, c, FAULT_TLS_FAIL)) fail(w, c, CAUSE_TLS, 40, "handshake failure");
    else if (c->tls && strike(w, c, FAULT_CERT_WRONG_NAME))
        fail(w, c, CAUSE_CERTIFICATE, 62, "certificate is for another name");
    else if (c->tls && strike(w, c, FAULT_CERT_EXPIRED))
        fail(w, c, CAUSE_CERTIFICATE, 10, "certificate has expired");
    else if (c->tls && strike(w, c, FAULT_CERT_UNKNOWN_CA))
        fail(w, c, CAUSE_CERTIFICATE, 20, "unable to get local issuer certificate");
    else if (c->tls && (!sv->tls || strike(w, c, FAULT_PLAIN_ON_TLS)))
        fail(w, c, CAUSE_TLS, 0, "the other side does not speak TLS");
    else {
        c->step = STEP_ASK;
        c->stage = STAGE_UPGRADING;
        put(w, c, way_ms(w, c, 3), KIND_STEP);
    }
}

static void ask(struct world *w, struct call *c)
{
    struct server *sv = world__server(w, c->server);
    const struct fault *f;
    c->step = STEP_WAIT;
    if (strike(w, c, FAULT_BLACK_HOLE) || strike(w, c, FAULT_HALF_OPEN)) return;
    if (strike(w, c, FAULT_RESET)) {
        fail(w, c, CAUSE_RESET, 104, "connection reset by peer");
    } else if (strike(w, c, FAULT_TRUNCATE) || strike(w, c, FAULT_EOF_WITHOUT_CLOSE)) {
        fail(w, c, CAUSE_EOF, 0, "the stream ended");
    } else if (strike(w, c, FAULT_GARBAGE)) {
        fail(w, c, CAUSE_PROTOCOL, 0, "not an HTTP answer");
    } else if ((f = strike(w, c, FAULT_HTTP_STATUS))) {
        world__call_respond(w, c, f->status, f->headers, f->body, f->body ? strlen(f->body) : 0);
    } else {
        struct peer_request request = { .id = handle_pack(c->self) | WORLD_CALL_ID,
                                        .method = c->method,
                                        .target = c->target,
                                        .host = c->host,
                                        .headers = c->headers,
                                        .body = c->body,
                                        .body_len = c->body_len };
        c->asked = true;
        sv->requests_total++;
        if (sv->ops.http) sv->ops.http(sv->self, &request);
    }
}

void world__call_on_step(struct world *w, struct call *c, uint64_t kind)
{
    if (c->over) return;
    if (kind == KIND_TIMEOUT) {
        fail(w, c, CAUSE_TIMEOUT, 0, "the call took too long");
        return;
    }
    const struct fault *f;
    switch (c->step) {
    case STEP_RESOLVE:
        c->step = STEP_CONNECT;
        f = strike(w, c, FAULT_RESOLVE_SLOW);
        put(w, c, world__latency_ms(w, c->serial, 8, 0) + (f ? f->ms : 0), KIND_STEP);
        break;
    case STEP_CONNECT:
        if (c->stage == STAGE_RESOLVING) {
            if (!c->server || strike(w, c, FAULT_RESOLVE_FAIL)) {
                fail(w, c, CAUSE_RESOLVE, -3008, "cannot resolve the name");
                break;
            }
            c->stage = STAGE_CONNECTING;
            if (strike(w, c, FAULT_CONNECT_TIMEOUT) || strike(w, c, FAULT_BLACK_HOLE)) break;
            put(w, c, 2 * way_ms(w, c, 1), KIND_STEP);
        } else {
            connect_or_not(w, c);
        }
        break;
    case STEP_SECURE: secure_or_not(w, c); break;
    case STEP_ASK: ask(w, c); break;
    default: break;
    }
}

void world__call_respond(struct world *w, struct call *c, int status, const char *headers,
                   const void *body, size_t len)
{
    if (c->over) return;
    c->status = status;
    free(c->head);
    /* As curl hands it over: without the status line, with a blank line at its end. */
    c->head = world__copy(headers ? headers : "", headers ? strlen(headers) : 0);
    buffer_clear(&c->answer);
    if (len) buffer_append(&c->answer, body, len);
    if (c->body_bytes_max && len > c->body_bytes_max) {
        c->status = 0;
        c->cause = cause_make(c->stage, CAUSE_TOO_BIG, BY_PEER, "the answer is over its limit");
    }
    /* The answer's way back. What a black hole swallows ends by the timeout. */
    if (strike(w, c, FAULT_BLACK_HOLE)) return;
    finish(w, c, way_ms(w, c, 4));
}

void world__call_on_done(struct world *w, struct call *c)
{
    uint64_t id = c->id;
    struct http_result result = { .answered = c->status != 0,
                                  .status = c->status,
                                  .head = c->head ? c->head : "",
                                  .head_len = c->head ? strlen(c->head) : 0,
                                  .body = c->answer.data ? (const char *)c->answer.data : "",
                                  .body_len = c->answer.len,
                                  .cause = c->cause };
    if (!result.answered) {
        result.body = "";
        result.body_len = 0;
    } else {
        memset(&result.cause, 0, sizeof result.cause);
    }
    trace_line(&w->trace, w->now_ms, "call %s %s: %d %s", c->method, c->host, c->status,
               result.answered ? "" : cause_kind_name(c->cause.kind));
    if (w->machine.called) {
        w->machine.called(w->machine.self, c->method, c->host, c->target, c->status,
                          result.answered ? NULL : &c->cause);
    }
    idmap_remove(&w->call_ids, id); /* the id is free before the runtime hears of it */
    c->id = 0;
    struct handle self = c->self;
    w->wake = true;
    w->machine.sink->http_done(w->machine.rt, id, &result);
    c = world__call_get(w, self);
    if (c) world__call_free(w, c);
}
