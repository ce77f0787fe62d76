/* POST /v1/reload, and what became of the last one: whoever saved a bad file reads here that it was not taken, and why. */
#include <inttypes.h>
#include <string.h>

#include "base/duration.h"
#include "base/text.h"
#include "ops/ops_internal.h"

static int reload_answer(struct client *c, bool done, const struct buffer *problems);

static bool lines_json(struct buffer *out, const char *text)
{
    bool ok = buffer_append_char(out, '[');
    for (const char *at = text; ok && *at;) {
        size_t len = strcspn(at, "\n");
        ok = (at == text || buffer_append_char(out, ',')) && text_json_string(out, at, len);
        at += len + (at[len] != 0);
    }
    return ok && buffer_append_char(out, ']');
}

bool reload_view__get(const struct ops *ops, struct ops_reload_view *out)
{
    memset(out, 0, sizeof *out);
    return ops->options.reload_view && ops->options.reload_view(ops->options.self, out);
}

bool reload_view__json(const struct ops *ops, struct buffer *out)
{
    struct ops_reload_view v;
    char at[TIMESTAMP_TEXT_MAX];
    if (!reload_view__get(ops, &v)) return buffer_append_text(out, "{\"doing\":\"nothing\",\"refused\":false}");
    bool ok = buffer_printf(out, "{\"doing\":\"%s\"", v.doing);
    if (ok && v.of) ok = buffer_printf(out, ",\"done\":%" PRIu32 ",\"of\":%" PRIu32, v.done, v.of);
    ok = ok && buffer_printf(out, ",\"refused\":%s", v.refused ? "true" : "false");
    if (ok && v.ended_wall_ms) {
        timestamp_format(v.ended_wall_ms, at);
        ok = buffer_printf(out, ",\"at\":\"%s\",\"problems\":", at) && lines_json(out, v.text);
    }
    return ok && buffer_append_char(out, '}');
}

int reload_view__post(struct client *c, const char *name)
{
    (void)name;
    const struct ops_options *o = &c->ops->options;
    char policy[256];
    struct buffer problems;
    if (!o->reload) return http__refuse(c, 501, "there is nothing to reload here", "a daemon");
    bool one = api__query_get(c, "policy", policy, sizeof policy);
    char adopt[256], take_back[256];
    bool adopts = api__query_get(c, "adopt", adopt, sizeof adopt), takes_back = api__query_get(c, "take_back", take_back, sizeof take_back);
    if (adopts && takes_back) return http__refuse(c, 400, "both adopt and take_back", "one of them");
    struct ops_reload wish = { .policy = one ? policy : NULL,
                               .unproven = api__query_is_1(c, "unproven"),
                               .now = api__query_is_1(c, "now"),
                               .again = api__query_is_1(c, "again"),
                               .adopt = adopts ? adopt : NULL,
                               .take_back = takes_back ? take_back : NULL };
    buffer_init(&problems, 1 << 20);
    enum ops_reloaded result = o->reload(o->self, &wish, &problems);
    int answered = 0;
    if (result == OPS_RELOAD_LATER) {
        c->waits_reload = wish.ticket;
        lws_set_timeout(c->wsi, NO_PENDING_TIMEOUT, 0); /* or it ends the request after seconds */
    } else {
        answered = reload_answer(c, result == OPS_RELOAD_DONE, &problems);
    }
    buffer_deinit(&problems);
    return answered;
}

static int reload_answer(struct client *c, bool done, const struct buffer *problems)
{
    struct buffer out;
    buffer_init(&out, 4 << 20);
    bool ok = buffer_printf(&out, "{\"reloaded\":%s,\"problems\":[", done ? "true" : "false");
    const char *at = (const char *)problems->data;
    for (size_t left = problems->len; ok && left > 0;) {
        const char *end = memchr(at, '\n', left);
        size_t len = end ? (size_t)(end - at) : left;
        if (at != (const char *)problems->data) ok = buffer_append_char(&out, ',');
        ok = ok && text_json_string(&out, at, len);
        len += end ? 1 : 0;
        at += len;
        left -= len;
    }
    ok = ok && buffer_append_text(&out, "]}\n");
    int result = ok ? http__answer(c, done ? 200 : 409, "application/json", out.data, out.len) : -1;
    buffer_deinit(&out);
    return result;
}

void ops_reload_answer(struct ops *ops, uint64_t ticket, bool done, const struct buffer *problems)
{
    for (struct client *c = ops->clients; c; c = c->next) {
        if (!c->waits_reload || c->waits_reload > ticket) continue;
        c->waits_reload = 0;
        c->active_ms = uv_now(ops->loop);
        if (reload_answer(c, done, problems) == 0) continue;
        c->closing = true;
        client__touch(c);
    }
}
