/* Calls: HTTP on behalf of hooks. Refuses what the policy may not reach before a byte leaves; hands the
 * answer to the hook that waits. Never follows a redirect: an address handed out is checked first. */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/url.h"
#include "runtime_internal.h"

#define HTTP_BODY_BYTES_MAX ((uint64_t)4 << 20)

/* False: more of them than a call may have. */
static bool headers_split(struct buffer *lines, struct http_header *out, uint32_t *count_out)
{
    uint32_t count = 0;
    char *p = (char *)lines->data;
    while (p && *p) {
        char *end = strstr(p, "\r\n"), *colon = strchr(p, ':');
        ASSERT(end && colon && colon < end); /* bind/ wrote the lines, value by value */
        if (count == RT_HEADERS_MAX) return false;
        *colon = 0;
        *end = 0;
        colon++;
        while (*colon == ' ') colon++;
        out[count++] = (struct http_header){ p, colon };
        p = end + 2;
    }
    *count_out = count;
    return true;
}

bool rt_http_begin(struct runtime *rt, struct rt_task *t, struct call_http *http,
                   struct resume_with *with, struct cause *cause)
{
    struct rt_conn *c = rt_conn_get(rt, t->conn);
    const struct policy_build *build = t->build->build;
    struct url u;
    const char *why = NULL;
    char text[200];
    ASSERT(buffer_append_char(&http->url, 0));
    ASSERT(buffer_append_char(&http->headers, 0));
    bool ok = url_parse((char *)http->url.data, http->url.len - 1, &u, &why);
    if (ok && u.websocket) {
        ok = false;
        why = "expected http:// or https://";
    }
    if (ok && !policy_host_allowed(build, u.host)) {
        ok = false;
        snprintf(text, sizeof text, "%.150s is not on the policy's hosts", u.host);
        why = text;
    }
    if (ok && !u.tls && !c->plain && !url_is_loopback(&u)) {
        ok = false;
        why = "plain http:// only towards loopback, or with plain = true";
    }
    struct http_header headers[RT_HEADERS_MAX];
    uint32_t header_count = 0;
    if (ok && !headers_split(&http->headers, headers, &header_count)) {
        ok = false;
        why = "more headers than a call may have";
    }
    uint64_t wait_ms = 0;
    bool spent = ok && !engine_call(rt->engine, t->conn, rt_clock(rt), &wait_ms);
    if (spent) {
        ok = false;
        snprintf(text, sizeof text, "budgets.call is spent, the next call may go in %llu s",
                 (unsigned long long)((wait_ms + 999) / 1000));
        why = text;
    }
    struct handle h = HANDLE_NONE;
    struct rt_call *call = ok ? slots_alloc(&rt->calls, &h) : NULL;
    if (call) {
        uint64_t limit = build->plan->limits_ms.call;
        call->self = h;
        call->task = t->self;
        struct http_request request = {
            .method = http->method,
            .url = (char *)http->url.data,
            .headers = headers,
            .header_count = header_count,
            .body = http->body.data,
            .body_len = http->body.len,
            .timeout_ms = http->timeout_ms && http->timeout_ms < limit ? http->timeout_ms : limit,
            .body_bytes_max = HTTP_BODY_BYTES_MAX,
            .ca_file = c->ca_file,
            .proxy = rt_conn_proxy(rt, c, u.tls, u.host, u.port),
        };
        if (rt->options.host.ops->http_start(rt->options.host.self, handle_pack(h), &request)) {
            t->call = h;
            return true;
        }
        slots_free(&rt->calls, h);
    }
    bool ours = ok || spent;
    *cause = cause_make(STAGE_NONE, ours ? CAUSE_CALL : CAUSE_ADDRESS, ours ? BY_US : BY_POLICY,
                        ok ? "the call could not be started" : why);
    if (spent) cause_rename(cause, "budget");
    with->answered = false;
    with->retry_after_ms = RETRY_AFTER_NONE;
    with->cause = cause;
    return false;
}

void rt_http_done(struct runtime *rt, struct handle id, const struct http_result *result)
{
    struct rt_call *call = slots_get(&rt->calls, id);
    if (!call) return;
    struct rt_task *t = slots_get(&rt->tasks, call->task);
    ASSERT(t != NULL);
    struct resume_with with = { .kind = WAIT_HTTP, .answered = result->answered };
    with.retry_after_ms = RETRY_AFTER_NONE;
    if (result->answered) {
        with.status = result->status;
        with.head = result->head;
        with.head_len = result->head_len;
        with.body = result->body;
        with.body_len = result->body_len;
        with.retry_after_ms =
            upgrade_retry_after_ms(result->head, result->head_len, rt_clock(rt).wall_ms);
    } else {
        with.cause = &result->cause;
    }
    rt_task_waits_over(rt, t);
    struct call_answer answer;
    call_answer_init(&answer);
    enum call_result outcome = rt_resume(rt, t, &with, &answer);
    rt_task_go_on(rt, t, outcome, &answer);
}
