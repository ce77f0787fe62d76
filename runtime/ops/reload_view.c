/* What became of the last reload, for the API: whoever saved a bad file reads here that it was not taken, and why. */
#include <inttypes.h>
#include <string.h>

#include "base/duration.h"
#include "base/text.h"
#include "ops/ops_internal.h"

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
