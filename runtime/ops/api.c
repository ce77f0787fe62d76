/* API: routes and their answers. Owns no connection: reads views, gives orders. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/duration.h"
#include "base/text.h"
#include "deliver/envelope.h"
#include "frame/json.h"
#include "ops/gather.h"
#include "ops/journal.h"
#include "ops/ops_internal.h"

#define SEGMENTS_MAX 4
#define JOURNAL_DEFAULT 64u
#define SEND_BYTES_EXPECTED "a JSON frame, or any bytes as application/octet-stream"

struct route {
    const char *method;
    const char *path[SEGMENTS_MAX]; /* "*": a name of a connection or consumer, passed to run() */
    enum ops_scope scope;           /* 0: open */
    size_t body_bytes_max;          /* 0: BODY_BYTES_MAX */
    int (*run)(struct client *c, const char *name);
};

static int get_health(struct client *c, const char *name);
static int get_ready(struct client *c, const char *name);
static int get_connections(struct client *c, const char *name);
static int get_connection(struct client *c, const char *name);
static int get_journal(struct client *c, const char *name);
static int get_trace(struct client *c, const char *name);
static int post_order(struct client *c, const char *name);
static int post_send(struct client *c, const char *name);
static int post_ack(struct client *c, const char *name);
static int get_events(struct client *c, const char *name);
static int get_attach(struct client *c, const char *name);
static const struct route *route_find(struct client *c, char *name, size_t name_bytes, int *status);
static void methods_of(struct client *c, char *out, size_t out_bytes);
static bool segments_split(const char *target, char out[SEGMENTS_MAX + 1][256], int *count);
static bool attach_read(struct client *c, const char **why);
static void send_answered(void *to, const char *why, bool retry);

static const struct route routes[] = {
    { "GET", { NULL }, 0, 0, dashboard__file },
    { "GET", { "dashboard", "style.css" }, 0, 0, dashboard__file },
    { "GET", { "dashboard", "words.js" }, 0, 0, dashboard__file },
    { "GET", { "dashboard", "data.js" }, 0, 0, dashboard__file },
    { "GET", { "dashboard", "view.js" }, 0, 0, dashboard__file },
    { "GET", { "v1", "token" }, OPS_READ, 0, dashboard__token },
    { "GET", { "healthz" }, 0, 0, get_health },
    { "GET", { "readyz" }, 0, 0, get_ready },
    { "GET", { "v1", "watch" }, OPS_READ, 0, watch__get },
    { "GET", { "v1", "summary" }, OPS_READ, 0, summary__get },
    { "GET", { "metrics" }, OPS_READ, 0, metrics__get },
    { "GET", { "v1", "store" }, OPS_READ, 0, store_view__get },
    { "GET", { "v1", "connections" }, OPS_READ, 0, get_connections },
    { "GET", { "v1", "connections", "*" }, OPS_READ, 0, get_connection },
    { "GET", { "v1", "connections", "*", "journal" }, OPS_READ, 0, get_journal },
    { "GET", { "v1", "connections", "*", "history" }, OPS_READ, 0, history__one },
    /* Frames and answers of the platform are in it: more than who may only look should see. */
    { "GET", { "v1", "connections", "*", "trace" }, OPS_OPERATE, 0, get_trace },
    { "GET", { "v1", "history" }, OPS_READ, 0, history__get },
    { "PUT", { "v1", "connections", "*" }, OPS_OPERATE, PUT_BYTES_MAX, manage__put },
    { "DELETE", { "v1", "connections", "*" }, OPS_OPERATE, PUT_BYTES_MAX, manage__delete },
    { "POST", { "v1", "connections", "*", "stop" }, OPS_OPERATE, 0, post_order },
    { "POST", { "v1", "connections", "*", "start" }, OPS_OPERATE, 0, post_order },
    { "POST", { "v1", "connections", "*", "restart" }, OPS_OPERATE, 0, post_order },
    { "POST", { "v1", "connections", "*", "send" }, OPS_CONSUME, 0, post_send },
    { "POST", { "v1", "reload" }, OPS_OPERATE, 0, reload_view__post },
    { "POST", { "v1", "upgrade" }, OPS_OPERATE, PUT_BYTES_MAX, leave__post_upgrade },
    { "GET", { "v1", "consumers" }, OPS_READ, 0, consumers__list },
    { "GET", { "v1", "consumers", "*" }, OPS_READ, 0, consumers__one },
    { "DELETE", { "v1", "consumers", "*" }, OPS_OPERATE, 0, consumers__forget },
    { "POST", { "v1", "ack" }, OPS_CONSUME, 0, post_ack },
    { "GET", { "v1", "events" }, OPS_CONSUME, 0, get_events },
    { "GET", { "v1", "attach" }, OPS_CONSUME, 0, get_attach },
};

int api__request(struct client *c, uint64_t body_len)
{
    char name[256], allowed[48];
    int status, result;
    const char *what = "", *expected = "";
    const struct route *r = route_find(c, name, sizeof name, &status);
    /* Who may not ask learns nothing about what there is. */
    int refused = guard__check(c, r && !r->scope, &what, &expected);
    if (!refused && !r) {
        refused = status;
        what =
            status == 404 ? "there is nothing at this address" : "this address has another method";
        methods_of(c, allowed, sizeof allowed);
        expected = status == 404 ? "an address under /v1" : allowed;
    }
    if (!refused && c->scope < r->scope) {
        refused = 403;
        what = "this token may not do that";
        expected = r->scope == OPS_OPERATE ? "a token with the scope operate"
                                           : "a token with the scope consume";
    }
    if (!refused && body_len > (r->body_bytes_max ? r->body_bytes_max : BODY_BYTES_MAX)) {
        refused = 413;
        what = "the body is too long";
        expected = r->body_bytes_max == PUT_BYTES_MAX ? "at most 64 KiB" : "at most 1 MiB";
    }
    if (refused) {
        c->last = c->last || body_len > 0; /* what follows is not read */
        c->in_request = false;
        return http__refuse(c, refused, what, expected);
    }
    if (leave__refuses(c, r->scope <= OPS_READ, &result)) return result;
    if (body_len > 0) {
        c->waits_body = true; /* api__body_done() follows */
        return 0;
    }
    return r->run(c, name);
}

int api__body_done(struct client *c)
{
    char name[256];
    int status;
    const struct route *r = route_find(c, name, sizeof name, &status);
    ASSERT(r != NULL);
    return r->run(c, name);
}

bool api__upgrade(struct client *c)
{
    const char *what = "", *expected = "", *why = NULL;
    char name[256];
    int status;
    const struct route *r = route_find(c, name, sizeof name, &status);
    int refused = guard__check(c, false, &what, &expected);
    if (!refused && (!r || r->run != get_attach)) {
        refused = 404;
        what = "no WebSocket is served at this address";
        expected = "/v1/attach";
    }
    if (!refused && c->scope < OPS_CONSUME) {
        refused = 403;
        what = "this token may not do that";
        expected = "a token with the scope consume";
    }
    if (!refused && c->ops->suspended[0]) {
        refused = 503;
        what = c->ops->suspended;
        expected = "try again in a moment";
    }
    if (!refused && !attach_read(c, &why)) {
        refused = 400;
        what = why;
        expected = "connection, consumer, from, states, gaps";
    }
    if (!refused) return true;
    http__refuse(c, refused, what, expected);
    return false;
}

static int get_health(struct client *c, const char *name)
{
    (void)name;
    return http__answer(c, 200, "application/json", "{\"ok\":true}\n", 12);
}

static int get_ready(struct client *c, const char *name)
{
    (void)name;
    const struct ops_options *o = &c->ops->options;
    /* With an ill store it still serves, and what it may not do it does not do: whoever asks shall know. */
    static const char ill[] = "{\"ready\":true,\"store\":\"degraded\"}\n";
    if (!o->ready || o->ready(o->self)) {
        if (store_view__is_ill(c->ops)) return http__answer(c, 200, "application/json", ill, sizeof ill - 1);
        return http__answer(c, 200, "application/json", "{\"ready\":true}\n", 15);
    }
    return http__answer(c, 503, "application/json", "{\"ready\":false}\n", 16);
}

static bool list_begin(struct client *c, struct gather *g)
{
    (void)c;
    return buffer_append_text(&g->out, "{\"connections\":[");
}

static bool list_each(struct client *c, struct gather *g, struct handle conn, const struct connection_view *view)
{
    (void)c;
    (void)conn;
    return (g->count++ == 0 || buffer_append_char(&g->out, ',')) && runtime_view_json(view, &g->out);
}

static bool list_end(struct client *c, struct gather *g)
{
    return buffer_append_text(&g->out, "],\"store\":") && store_view__json(c->ops, &g->out) &&
           buffer_append_text(&g->out, ",\"reload\":") && reload_view__json(c->ops, &g->out) &&
           buffer_append_text(&g->out, ",\"puts\":") && manage__puts_json(c->ops, &g->out) &&
           buffer_append_text(&g->out, ",\"weather\":") && runtime_weather_json(c->ops->rt, &g->out) &&
           buffer_append_char(&g->out, ',') && trial_view__json(c->ops, &g->out) && buffer_append_text(&g->out, "}\n");
}

static int get_connections(struct client *c, const char *name)
{
    static const struct gather_ops list = { .type = "application/json", .patterns = true,
                                            .begin = list_begin, .each = list_each, .end = list_end };
    (void)name;
    return gather_begin(c, gather_create(0, &list));
}

static int get_connection(struct client *c, const char *name)
{
    return api__answer_view(c, 200, runtime_find(c->ops->rt, name), NULL, NULL);
}

static int get_journal(struct client *c, const char *name)
{
    struct handle h = runtime_find(c->ops->rt, name);
    struct journal_entry entry;
    struct buffer out;
    char text[16];
    uint32_t limit = JOURNAL_DEFAULT;
    if (handle_is_none(h)) return api__answer_view(c, 200, h, NULL, NULL);
    if (api__query_get(c, "limit", text, sizeof text)) limit = (uint32_t)strtoul(text, NULL, 10);
    buffer_init(&out, ANSWER_BYTES_MAX);
    bool ok = buffer_append_text(&out, "{\"connection\":") &&
              text_json_string(&out, name, strlen(name)) &&
              buffer_append_text(&out, ",\"journal\":[");
    for (uint32_t i = 0; ok && i < limit && runtime_journal(c->ops->rt, h, i, &entry); i++)
        ok = (i == 0 || buffer_append_char(&out, ',')) && journal__entry_json(&out, &entry);
    ok = ok && buffer_append_text(&out, "]}\n");
    int result = ok ? http__answer(c, 200, "application/json", out.data, out.len) : -1;
    buffer_deinit(&out);
    return result;
}

static int get_trace(struct client *c, const char *name)
{
    struct handle h = runtime_find(c->ops->rt, name);
    char text[32], why[200];
    uint64_t last_ms = 0;
    struct buffer out;
    if (handle_is_none(h)) return api__answer_view(c, 200, h, NULL, NULL);
    if (api__query_get(c, "last", text, sizeof text) && (!duration_parse(text, strlen(text), &last_ms) || !last_ms))
        return http__refuse(c, 400, "last is no duration", "a duration such as 1h");
    buffer_init(&out, 0);
    bool ok = runtime_trace(c->ops->rt, h, last_ms, c->ops->options.version, &out, why, sizeof why);
    if (ok) ops__log(c->ops, LOG_INFO, "%s: its trace was handed out over the local API", name);
    int result = ok ? http__answer(c, 200, "application/vnd.holdfast.trace", out.data, out.len)
                    : http__refuse(c, 409, why, "");
    buffer_deinit(&out);
    return result;
}

static int post_order(struct client *c, const char *name)
{
    struct handle h = runtime_find(c->ops->rt, name);
    const char *verb = strrchr(c->target, '/') + 1;
    char reserve[8] = "", why[256];
    if (handle_is_none(h)) return api__answer_view(c, 202, h, NULL, NULL);
    bool spend = strcmp(verb, "start") == 0 && api__query_get(c, "spend_reserve", reserve, sizeof reserve);
    if (spend && strcmp(reserve, "1") != 0)
        return http__refuse(c, 400, "spend_reserve is not 1", "POST /v1/connections/NAME/start?spend_reserve=1");
    if (spend) {
        if (!runtime_start_reserve(c->ops->rt, h, why, sizeof why))
            return http__refuse(c, 409, why, "");
        ops__log(c->ops, LOG_WARNING, "%s: the share of the budget that is kept for people may be spent, "
                 "asked for over the local API", name);
    } else if (strcmp(verb, "stop") == 0) runtime_stop(c->ops->rt, h);
    else if (strcmp(verb, "start") == 0) runtime_start(c->ops->rt, h);
    else runtime_restart(c->ops->rt, h);
    ops__log(c->ops, LOG_INFO, "%s: %s, asked for over the local API", name, verb);
    return api__answer_view(c, 202, h, NULL, NULL);
}

static int post_send(struct client *c, const char *name)
{
    char type[64] = "";
    const char *why;
    lws_hdr_copy(c->wsi, type, sizeof type, WSI_TOKEN_HTTP_CONTENT_TYPE);
    bool text = strncmp(type, "application/octet-stream", 24) != 0;
    if (c->body.len == 0) return http__refuse(c, 400, "there is no frame", SEND_BYTES_EXPECTED);
    if (text && json_scan(c->body.data, c->body.len, NULL, NULL, NULL) != JSON_OK)
        return http__refuse(c, 400, "the frame is not JSON", SEND_BYTES_EXPECTED);
    if (handle_is_none(runtime_find(c->ops->rt, name))) return api__answer_view(c, 200, HANDLE_NONE, NULL, NULL);
    /* The answer may come from inside, before the number is known here. */
    uint64_t id = deliver_send(c->ops->deliver, name, c->body.data, c->body.len, text,
                               send_answered, c, &why);
    if (id && c->in_request && !c->answering) c->send_id = id;
    if (!id) return http__refuse(c, 503, why, "try again later");
    return 0;
}

static int post_ack(struct client *c, const char *name)
{
    (void)name;
    char consumer[256] = "";
    struct buffer out;
    bool known;
    api__query_get(c, "consumer", consumer, sizeof consumer);
    if (!consumer[0]) return http__refuse(c, 400, "whose acknowledgement is it", "?consumer=NAME");
    if (c->own_consumer && strcmp(c->own_consumer, consumer) != 0)
        return http__refuse(c, 403, "this token belongs to another consumer", "its own name");
    buffer_init(&out, ANSWER_BYTES_MAX);
    uint32_t count =
        deliver_ack_lines(c->ops->deliver, consumer, c->body.data, c->body.len, &out, &known);
    int result;
    if (!known) {
        result = http__refuse(c, 404, "no such consumer", "one that attached before");
    } else if (out.len) {
        result = http__answer(c, 400, "application/x-ndjson", out.data, out.len);
    } else {
        buffer_printf(&out, "{\"acks\":%u}\n", (unsigned)count);
        result = http__answer(c, 200, "application/json", out.data, out.len);
    }
    buffer_deinit(&out);
    return result;
}

static int get_events(struct client *c, const char *name)
{
    (void)name;
    const char *why;
    if (!attach_read(c, &why))
        return http__refuse(c, 400, why, "connection, consumer, from, states, gaps");
    c->kind = CLIENT_EVENTS;
    if (!lines__attach(c, &why)) {
        c->kind = CLIENT_HTTP;
        return http__refuse(c, 409, why, "another query");
    }
    return http__stream(c, "application/x-ndjson");
}

static int get_attach(struct client *c, const char *name)
{
    (void)name;
    return http__refuse(c, 426, "this address speaks WebSocket", "Upgrade: websocket");
}

static const struct route *route_find(struct client *c, char *name, size_t name_bytes, int *status)
{
    char segments[SEGMENTS_MAX + 1][256];
    int count;
    *status = 404;
    name[0] = 0;
    if (!segments_split(c->target, segments, &count)) return NULL;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        const struct route *r = &routes[i];
        int k = 0;
        for (; k < SEGMENTS_MAX && r->path[k]; k++) {
            if (k >= count) break;
            if (strcmp(r->path[k], "*") != 0 && strcmp(r->path[k], segments[k]) != 0) break;
        }
        if (k != count || (k < SEGMENTS_MAX && r->path[k])) continue;
        const bool head = !r->scope && strcmp(c->method, "HEAD") == 0 && strcmp(r->method, "GET") == 0;
        if (strcmp(r->method, c->method) != 0 && !head) {
            *status = 405;
            continue;
        }
        if (count > 2) text_copy(name, name_bytes, segments[2], strlen(segments[2]));
        return r;
    }
    return NULL;
}

/* "GET, PUT": what the address of a request that has another method takes. */
static void methods_of(struct client *c, char *out, size_t out_bytes)
{
    static const char *const methods[] = { "GET", "PUT", "POST", "DELETE" };
    char asked[sizeof c->method], name[256];
    int status;
    size_t len = 0;
    memcpy(asked, c->method, sizeof asked);
    out[0] = 0;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        text_copy(c->method, sizeof c->method, methods[i], strlen(methods[i]));
        if (!route_find(c, name, sizeof name, &status)) continue;
        len += (size_t)snprintf(out + len, out_bytes - len, "%s%s", len ? ", " : "", methods[i]);
    }
    memcpy(c->method, asked, sizeof asked);
}

static bool segments_split(const char *target, char out[SEGMENTS_MAX + 1][256], int *count)
{
    *count = 0;
    if (strcmp(target, "/") == 0) return true;
    while (*target == '/') {
        target++;
        size_t len = strcspn(target, "/");
        if (len == 0 || len >= 256 || *count == SEGMENTS_MAX) return false;
        memcpy(out[*count], target, len);
        out[(*count)++][len] = 0;
        target += len;
    }
    return *count > 0 && *target == 0;
}

/* Items of the query, decoded by libwebsockets: "key=value" becomes key in `out` and its value. */
bool api__query_next(struct client *c, int *index, char *out, size_t out_bytes, char **value)
{
    int len = lws_hdr_copy_fragment(c->wsi, out, (int)out_bytes, WSI_TOKEN_HTTP_URI_ARGS, *index);
    if (len < 0) return false;
    (*index)++;
    char *equals = strchr(out, '=');
    if (equals) *equals = 0;
    *value = equals ? equals + 1 : out + strlen(out);
    return true;
}

bool api__query_get(struct client *c, const char *key, char *out, size_t out_bytes)
{
    char item[256], *value;
    for (int index = 0; api__query_next(c, &index, item, sizeof item, &value);) {
        if (strcmp(item, key) != 0) continue;
        text_copy(out, out_bytes, value, strlen(value));
        return true;
    }
    return false;
}

bool api__query_is_1(struct client *c, const char *key)
{
    char value[8] = "";
    return api__query_get(c, key, value, sizeof value) && strcmp(value, "1") == 0;
}

static bool attach_read(struct client *c, const char **why)
{
    char item[256], *value;
    attach_init(&c->attach);
    c->attach.can_send = true;
    buffer_clear(&c->query);
    /* All at once: what is borrowed must not move. */
    *why = "the query is too long";
    if (!buffer_reserve(&c->query, HEAD_BYTES_MAX)) return false;
    for (int index = 0; api__query_next(c, &index, item, sizeof item, &value);) {
        size_t len = strlen(value) + 1;
        *why = "the query is too long";
        if (c->query.len + len > HEAD_BYTES_MAX) return false;
        char *kept = (char *)c->query.data + c->query.len;
        memcpy(kept, value, len);
        c->query.len += len;
        if (!attach_set(&c->attach, item, kept, why)) return false;
    }
    return true;
}

static void send_answered(void *to, const char *why, bool retry)
{
    struct client *c = to;
    struct buffer out;
    c->send_id = 0;
    buffer_init(&out, 4096);
    bool ok = why ? buffer_append_text(&out, "{\"refused\":{\"why\":") &&
                        text_json_string(&out, why, strlen(why)) &&
                        buffer_printf(&out, ",\"retry\":%s}}\n", retry ? "true" : "false")
                  : buffer_append_text(&out, "{\"sent\":true}\n");
    if (!ok || http__answer(c, why ? retry ? 503 : 409 : 200, "application/json", out.data,
                            out.len) != 0) {
        c->closing = true;
        client__touch(c);
    }
    buffer_deinit(&out);
}

int api__answer_view(struct client *c, int status, struct handle conn, const char *kept, const char *proof)
{
    struct connection_view view;
    struct connection_outlook outlook;
    struct buffer out;
    if (handle_is_none(conn) || !runtime_view(c->ops->rt, conn, &view))
        return http__refuse(c, 404, "no such connection", "a name from /v1/connections");
    buffer_init(&out, 1 << 20);
    bool ok = runtime_view_json(&view, &out);
    if (ok) out.len--; /* the object goes on */
    if (ok && runtime_outlook(c->ops->rt, conn, &outlook)) ok = outlook__json(&out, &view, &outlook);
    if (ok && kept) ok = buffer_printf(&out, ",\"kept\":\"%s\"", kept);
    if (ok && proof && proof[0]) ok = buffer_printf(&out, ",\"proof\":\"%s\"", proof);
    ok = ok && buffer_append_text(&out, "}\n");
    int result = ok ? http__answer(c, status, "application/json", out.data, out.len) : -1;
    buffer_deinit(&out);
    return result;
}
