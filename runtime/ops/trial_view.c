/* Trials as JSON: the versions of policies that run on a share of the connections, with the counts of both sides, and those
 * that were taken back while their text is still in its file. Pure: appends text. */
#include <inttypes.h>
#include <string.h>

#include "base/duration.h"
#include "base/text.h"
#include "ops/ops_internal.h"

static bool side_json(struct buffer *out, const char *name, const struct trial_side *s)
{
    bool ok = buffer_printf(out,
                            ",\"%s\":{\"connections\":%" PRIu32 ",\"hook_errors\":%" PRIu32 ",\"hook_errors_in\":%" PRIu32
                            ",\"reconnects\":%" PRIu32 ",\"reconnects_in\":%" PRIu32 ",\"stops\":%" PRIu32 ",\"slow\":%" PRIu32
                            ",\"ready\":%" PRIu32,
                            name, s->connections, s->hook_errors, s->hook_errors_in, s->endings, s->endings_in, s->stops, s->slows,
                            s->readies);
    if (ok && s->readies) ok = buffer_printf(out, ",\"ready_ms\":%" PRIu64, s->ready_ms);
    return ok && buffer_append_char(out, '}');
}

static bool trial_json(struct buffer *out, const struct runtime_trial *t)
{
    char since[TIMESTAMP_TEXT_MAX], until[TIMESTAMP_TEXT_MAX], text[200];
    bool ok = buffer_append_text(out, "{\"policy\":") && text_json_string(out, t->policy, strlen(t->policy)) &&
              buffer_printf(out, ",\"version\":%" PRIu32 ",\"serves\":%" PRIu32 ",\"watching\":%s,\"share\":%g,\"watch_ms\":%" PRIu64
                            ",\"since\":\"%s\",\"until\":\"%s\",\"weather\":%s",
                            t->after, t->before, t->watching ? "true" : "false", t->share, t->watch_ms,
                            timestamp_format(t->began_wall_ms, since), timestamp_format(t->until_wall_ms, until),
                            t->facts.weather ? "true" : "false") &&
              side_json(out, "tried", &t->facts.tried) && side_json(out, "others", &t->facts.others);
    trial_side_text(&t->facts.tried, text, sizeof text);
    ok = ok && buffer_append_text(out, ",\"tried_text\":") && text_json_string(out, text, strlen(text));
    trial_side_text(&t->facts.others, text, sizeof text);
    ok = ok && buffer_append_text(out, ",\"others_text\":") && text_json_string(out, text, strlen(text));
    if (ok && t->waits[0]) ok = buffer_append_text(out, ",\"waits\":") && text_json_string(out, t->waits, strlen(t->waits));
    return ok && buffer_append_char(out, '}');
}

bool trial_view__json(const struct ops *ops, struct buffer *out)
{
    struct runtime_trial t;
    const struct ops_options *o = &ops->options;
    bool ok = buffer_append_text(out, "\"trials\":[");
    for (uint32_t i = 0; ok && runtime_trial_next(ops->rt, &i, &t); i++)
        ok = (i == 0 || buffer_append_char(out, ',')) && trial_json(out, &t);
    ok = ok && buffer_append_text(out, "],\"taken_back\":");
    if (!ok || !o->taken_back) return ok && buffer_append_text(out, "[]");
    const size_t before = out->len;
    o->taken_back(o->self, out);
    return out->len > before && out->data[out->len - 1] == ']';
}
