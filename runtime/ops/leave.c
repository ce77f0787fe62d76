/* Leave: what clients see of an end or an upgrade. Orders and attachments are refused with a sentence,
 * consumers get their last lines and the reason, who connects may have to wait. Whether and when is the
 * daemon's. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "deliver/envelope.h"
#include "ops/ops_internal.h"

#define EXPECTED_LATER "try again in a moment"

static void client_leave(struct client *c);
static bool wish_read(const cJSON *root, struct ops_upgrade *out, const char **what,
                      const char **expected);

void ops_suspend(struct ops *ops, const char *why, bool accept)
{
    text_copy(ops->suspended, sizeof ops->suspended, why, strlen(why));
    ops->accepts = accept;
    if (accept) return;
    if (ops->unix_listener.poller) uv_poll_stop(&ops->unix_listener.poller->handle);
    if (ops->tcp_listener.poller) uv_poll_stop(&ops->tcp_listener.poller->handle);
}

void ops_resume(struct ops *ops)
{
    ops->suspended[0] = 0;
    ops->accepts = true;
    listen__go_on(ops);
}

void ops_let_go(struct ops *ops)
{
    ASSERT(ops->suspended[0] != 0);
    if (deliver_wants_pump(ops->deliver)) deliver_pump(ops->deliver);
    for (struct client *c = ops->clients, *next; c; c = next) {
        next = c->next;
        if (!handle_is_none(c->consumer)) client_leave(c);
    }
}

bool ops_is_quiet(const struct ops *ops)
{
    for (const struct client *c = ops->clients; c; c = c->next) {
        if (c->answering || c->gather || c->leaving) return false;
    }
    return true;
}

struct ops_listeners ops_listeners(const struct ops *ops)
{
    return (struct ops_listeners){ .unix_fd = ops->unix_listener.fd,
                                   .unix_lock_fd = ops->lock_fd,
                                   .http_fd = ops->tcp_listener.fd };
}

void ops_leave_listeners(struct ops *ops)
{
    ops->unix_path[0] = 0; /* closing a descriptor unlocks nothing while the next process has it too */
}

static void client_leave(struct client *c)
{
    struct handle h = c->consumer;
    c->consumer = HANDLE_NONE;
    deliver_detach(c->ops->deliver, h);
    snprintf(c->why, sizeof c->why, "%s", c->ops->suspended);
    c->leaving = true;
    c->blocked = false;
    if (c->kind == CLIENT_NDJSON) {
        envelope_error(&c->out, c->why, "attach again");
        c->closing = true;
        client__touch(c); /* writes first, then ends */
        return;
    }
    if (lines__queued(c) == 0) leave__written(c);
    else lws_callback_on_writable(c->wsi);
}

void leave__written(struct client *c)
{
    ASSERT(c->leaving);
    c->closing = true;
    client__touch(c);
}

bool leave__refuses(struct client *c, bool reads_only, int *result)
{
    const struct ops *ops = c->ops;
    if (!ops->suspended[0] || reads_only) return false;
    size_t len = strlen(c->target);
    c->last = true; /* a body that follows is not read */
    if (len < 5 || strcmp(c->target + len - 5, "/send") != 0) {
        *result = http__refuse(c, 503, ops->suspended, EXPECTED_LATER);
        return true;
    }
    struct buffer out;
    buffer_init(&out, 4096);
    bool ok = buffer_append_text(&out, "{\"refused\":{\"why\":") &&
              text_json_string(&out, ops->suspended, strlen(ops->suspended)) &&
              buffer_append_text(&out, ",\"retry\":true}}\n");
    *result = ok ? http__answer(c, 503, "application/json", out.data, out.len) : -1;
    buffer_deinit(&out);
    return true;
}

/* --- POST /v1/upgrade ------------------------------------------------------------------------------ */

int leave__post_upgrade(struct client *c, const char *name)
{
    const struct ops_options *o = &c->ops->options;
    struct ops_problems problems = { 0 };
    struct ops_upgrade wish = { 0 };
    const char *what = "", *expected = "";
    (void)name;
    /* It runs a program: for those who may open the socket, which is the daemon's own user. */
    if (c->tcp) return http__refuse(c, 403, "an upgrade is asked for over the UNIX socket", "the UNIX socket");
    if (!o->upgrade) return http__refuse(c, 501, "nothing can be upgraded here", "a daemon");
    cJSON *root = c->body.len ? cJSON_ParseWithLength((const char *)c->body.data, c->body.len)
                              : cJSON_CreateObject();
    int result;
    if (!wish_read(root, &wish, &what, &expected)) {
        result = http__refuse(c, 400, what, expected);
    } else {
        /* The answer may come from inside. */
        c->waits_upgrade = true;
        int status = o->upgrade(o->self, &wish, &problems);
        if (status == 202) {
            lws_set_timeout(c->wsi, NO_PENDING_TIMEOUT, 0); /* or it ends the request after seconds */
            result = 0;
        } else {
            ASSERT(problems.count > 0);
            c->waits_upgrade = false;
            result = http__refuse(c, status, problems.items[0].what, problems.items[0].expected);
        }
    }
    cJSON_Delete(root);
    return result;
}

void ops_upgrade_answer(struct ops *ops, const char *why, long pid, const char *version)
{
    struct buffer out;
    for (struct client *c = ops->clients; c; c = c->next) {
        if (!c->waits_upgrade) continue;
        c->waits_upgrade = false;
        c->active_ms = uv_now(ops->loop);
        buffer_init(&out, 8192);
        bool ok = why ? envelope_error(&out, why, OPS_UPGRADE_GOES_ON)
                      : buffer_printf(&out, "{\"upgraded\":{\"pid\":%ld,\"version\":", pid) &&
                            text_json_string(&out, version, strlen(version)) &&
                            buffer_append_text(&out, "}}\n");
        if (!ok || http__answer(c, why ? 409 : 200, "application/json", out.data, out.len) != 0) {
            c->closing = true;
            client__touch(c);
        }
        buffer_deinit(&out);
        return;
    }
}

static bool wish_read(const cJSON *root, struct ops_upgrade *out, const char **what,
                      const char **expected)
{
    const cJSON *item;
    *what = "the body is not understood";
    *expected = "{\"binary\":\"/PATH\",\"cold\":false,\"within_ms\":30000}, each as needed";
    if (!cJSON_IsObject(root)) return false;
    cJSON_ArrayForEach(item, root)
    {
        if (strcmp(item->string, "binary") == 0 && cJSON_IsString(item)) {
            if (item->valuestring[0] != '/') {
                *what = "binary is not an absolute path";
                return false;
            }
            out->binary = item->valuestring;
        } else if (strcmp(item->string, "cold") == 0 && cJSON_IsBool(item)) {
            out->cold = cJSON_IsTrue(item);
        } else if (strcmp(item->string, "within_ms") == 0 && cJSON_IsNumber(item) &&
                   item->valuedouble >= 100 && item->valuedouble <= 600000) {
            out->within_ms = (uint64_t)item->valuedouble;
        } else {
            return false;
        }
    }
    return true;
}
