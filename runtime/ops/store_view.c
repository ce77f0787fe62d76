/* How the store is doing, for the API: a healthy one in numbers, an ill one in words as well. */
#include <inttypes.h>
#include <string.h>

#include "base/duration.h"
#include "base/text.h"
#include "ops/ops_internal.h"

bool store_view__is_ill(const struct ops *ops)
{
    struct store_health h;
    return ops->options.store && ops->options.store(ops->options.self, &h) && h.degraded;
}

bool store_view__json(const struct ops *ops, struct buffer *out)
{
    struct store_health h;
    char since[TIMESTAMP_TEXT_MAX];
    memset(&h, 0, sizeof h);
    if (!ops->options.store || !ops->options.store(ops->options.self, &h)) {
        return buffer_append_text(out, "{\"kind\":\"memory\",\"degraded\":false}");
    }
    bool ok = buffer_printf(out,
                            "{\"kind\":\"sqlite\",\"degraded\":%s,\"pending_bytes\":%" PRIu64
                            ",\"dropped\":%" PRIu64 ",\"failures\":%" PRIu64 ",\"commits\":%" PRIu64
                            ",\"requests\":%" PRIu64 ",\"commit_ms_last\":%" PRIu64
                            ",\"commit_ms_most\":%" PRIu64 ",\"file_bytes\":%" PRIu64
                            ",\"wal_bytes\":%" PRIu64,
                            h.degraded ? "true" : "false", h.pending_bytes, h.dropped, h.failures,
                            h.commits, h.requests, h.commit_ms_last, h.commit_ms_most, h.file_bytes,
                            h.wal_bytes);
    if (ok && h.since_wall_ms) {
        timestamp_format(h.since_wall_ms, since);
        ok = buffer_printf(out, ",\"since\":\"%s\"", since);
    }
    if (ok && h.degraded) {
        ok = buffer_append_text(out, ",\"why\":") && text_json_string(out, h.why, strlen(h.why));
    }
    return ok && buffer_append_char(out, '}');
}

int store_view__get(struct client *c, const char *name)
{
    struct buffer out;
    (void)name;
    buffer_init(&out, 4096);
    bool ok = store_view__json(c->ops, &out) && buffer_append_char(&out, '\n');
    int result = ok ? http__answer(c, 200, "application/json", out.data, out.len) : -1;
    buffer_deinit(&out);
    return result;
}
