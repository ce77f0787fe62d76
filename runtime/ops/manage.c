/* Manage: connections that are put and deleted over the API. Only carries what was asked to whoever
 * runs them, and tells what is wrong: one JSON object, the first problem in front, the others in
 * `also`. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "ops/ops_internal.h"

static int answer(struct client *c, int status, const char *name, const char *proof,
                  const struct ops_problems *problems);

void ops_problem_add(struct ops_problems *p, const char *where, const char *expected,
                     const char *format, ...)
{
    va_list args;
    if (p->count++ >= OPS_PROBLEMS_MAX) return;
    struct ops_problem *one = &p->items[p->count - 1];
    va_start(args, format);
    vsnprintf(one->what, sizeof one->what, format, args);
    va_end(args);
    text_copy(one->where, sizeof one->where, where, strlen(where));
    text_copy(one->expected, sizeof one->expected, expected, strlen(expected));
}

int manage__put(struct client *c, const char *name)
{
    const struct ops_options *o = &c->ops->options;
    struct ops_problems problems = { 0 };
    if (!o->put) return http__refuse(c, 501, "connections cannot be added here", "a daemon");
    struct ops_put how = { .unproven = api__query_is_1(c, "unproven"), .proof = "" };
    int status = o->put(o->self, name, c->body.data, c->body.len, &how, &problems);
    if (status != OPS_PUT_LATER) return answer(c, status, name, how.proof, &problems);
    c->waits_put = how.ticket;
    lws_set_timeout(c->wsi, NO_PENDING_TIMEOUT, 0); /* or it ends the request after seconds */
    return 0;
}

void ops_put_answer(struct ops *ops, uint64_t ticket, const char *name, int status, const char *proof,
                    const struct ops_problems *problems)
{
    for (struct client *c = ops->clients; c; c = c->next) {
        if (c->waits_put != ticket) continue;
        c->waits_put = 0;
        c->active_ms = uv_now(ops->loop);
        if (answer(c, status, name, proof, problems) == 0) return;
        c->closing = true;
        client__touch(c);
        return;
    }
}

bool manage__puts_json(const struct ops *ops, struct buffer *out)
{
    const struct ops_options *o = &ops->options;
    if (!o->puts_view) return buffer_append_text(out, "{\"proving\":[],\"refused\":[]}");
    return o->puts_view(o->self, out);
}

int manage__delete(struct client *c, const char *name)
{
    const struct ops_options *o = &c->ops->options;
    struct ops_problems problems = { 0 };
    if (!o->remove) return http__refuse(c, 501, "connections cannot be removed here", "a daemon");
    int status = o->remove(o->self, name, &problems);
    return answer(c, status, name, "", &problems);
}

static bool problem_json(struct buffer *out, const struct ops_problem *p)
{
    return buffer_append_text(out, "\"what\":") &&
           text_json_string(out, p->what, strlen(p->what)) &&
           buffer_append_text(out, ",\"where\":") &&
           text_json_string(out, p->where, strlen(p->where)) &&
           buffer_append_text(out, ",\"expected\":") &&
           text_json_string(out, p->expected, strlen(p->expected));
}

static int answer(struct client *c, int status, const char *name, const char *proof,
                  const struct ops_problems *problems)
{
    if (status < 300) {
        ops__log(c->ops, LOG_INFO, "%s: %s, asked for over the local API", name,
                 strcmp(c->method, "DELETE") == 0 ? "removed"
                 : status == 200                  ? "changed"
                                                  : "added");
        return api__answer_view(c, status, runtime_find(c->ops->rt, name), runtime_store_kind(c->ops->rt), proof);
    }
    ASSERT(problems->count > 0);
    struct buffer out;
    buffer_init(&out, 1 << 20);
    bool ok = buffer_append_text(&out, "{\"error\":{") && problem_json(&out, &problems->items[0]);
    uint32_t shown = problems->count < OPS_PROBLEMS_MAX ? problems->count : OPS_PROBLEMS_MAX;
    for (uint32_t i = 1; ok && i < shown; i++) {
        ok = buffer_append_text(&out, i == 1 ? ",\"also\":[{" : ",{") &&
             problem_json(&out, &problems->items[i]) && buffer_append_char(&out, '}');
    }
    if (ok && shown > 1) ok = buffer_append_char(&out, ']');
    ok = ok && buffer_append_text(&out, "}}\n");
    int result = ok ? http__answer(c, status, "application/json", out.data, out.len) : -1;
    buffer_deinit(&out);
    return result;
}
