/* History: GET /v1/connections/NAME/history and GET /v1/history, the states of hours, for timelines. Reads marks that
 * the runtime keeps (history.h), keeps nothing.
 *
 *   ?from=6h           so far back, or Unix milliseconds; without it, all that is known, at most a week
 *   ?connection=...    of /v1/history: patterns, repeatable
 *
 *   /v1/connections/NAME/history  {"connection":NAME,"now":MS,"history":[MARK,...]}
 *   /v1/history                   {"now":MS,"connections":{NAME:[MARK,...],...}}
 *
 * A MARK is [MS,STATE] or [MS,STATE,CAUSE]: since that Unix millisecond it was in that state, because of that kind of
 * cause. The first may be older than `from`: it holds at `from`. Besides a connection's own states there are
 * `given_up` (stopped by a fatal cause) and `unknown` (no process was there that could know). States that lasted less
 * than two seconds on the way to another are left out, and what is long ago and had many is coarser. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/duration.h"
#include "base/text.h"
#include "ops/gather.h"

struct asked {
    uint64_t from_ms;
};

/* False: it is neither a span nor an instant. */
static bool from_read(struct client *c, uint64_t *from_ms)
{
    char item[256], *value;
    *from_ms = 0;
    for (int index = 0; api__query_next(c, &index, item, sizeof item, &value);) {
        uint64_t span_ms, now_ms = ops__wall_ms();
        const size_t len = strlen(value);
        if (strcmp(item, "from") != 0) continue;
        if (len && len < 16 && strspn(value, "0123456789") == len) *from_ms = strtoull(value, NULL, 10);
        else if (duration_parse(value, len, &span_ms)) *from_ms = now_ms > span_ms ? now_ms - span_ms : 0;
        else return false;
    }
    return true;
}

static bool marks_json(struct buffer *out, const struct history_mark *marks, uint32_t count, uint64_t from_ms)
{
    uint32_t first = 0;
    while (first + 1 < count && history_at_ms(&marks[first + 1]) <= from_ms) first++;
    bool ok = buffer_append_char(out, '[');
    for (uint32_t i = first; ok && i < count; i++) {
        const struct history_mark *m = &marks[i];
        ok = buffer_printf(out, "%s[%" PRIu64 ",\"%s\"", i > first ? "," : "", history_at_ms(m), history_state_name(m->state));
        if (ok && m->cause != CAUSE_NONE && m->state != CONN_UP) ok = buffer_printf(out, ",\"%s\"", cause_kind_name((enum cause_kind)m->cause));
        ok = ok && buffer_append_char(out, ']');
    }
    return ok && buffer_append_char(out, ']');
}

int history__one(struct client *c, const char *name)
{
    struct handle h = runtime_find(c->ops->rt, name);
    const struct history_mark *marks;
    struct buffer out;
    uint64_t from_ms;
    uint32_t count;
    if (handle_is_none(h) || !runtime_history(c->ops->rt, h, &marks, &count)) return api__answer_view(c, 200, HANDLE_NONE, NULL, NULL);
    if (!from_read(c, &from_ms)) return http__refuse(c, 400, "from is neither a span nor Unix milliseconds", "?from=6h");
    buffer_init(&out, 1 << 20);
    bool ok = buffer_append_text(&out, "{\"connection\":") && text_json_string(&out, name, strlen(name)) &&
              buffer_printf(&out, ",\"now\":%" PRIu64 ",\"history\":", ops__wall_ms()) &&
              marks_json(&out, marks, count, from_ms) && buffer_append_text(&out, "}\n");
    int result = ok ? http__answer(c, 200, "application/json", out.data, out.len) : -1;
    buffer_deinit(&out);
    return result;
}

static bool begin(struct client *c, struct gather *g)
{
    (void)c;
    return buffer_printf(&g->out, "{\"now\":%" PRIu64 ",\"connections\":{", ops__wall_ms());
}

static bool each(struct client *c, struct gather *g, struct handle conn, const struct connection_view *view)
{
    const struct history_mark *marks;
    uint32_t count;
    if (!runtime_history(c->ops->rt, conn, &marks, &count)) return true;
    return (g->count++ == 0 || buffer_append_char(&g->out, ',')) && text_json_string(&g->out, view->name, strlen(view->name)) &&
           buffer_append_char(&g->out, ':') && marks_json(&g->out, marks, count, ((struct asked *)g->state)->from_ms);
}

static bool end(struct client *c, struct gather *g)
{
    (void)c;
    return buffer_append_text(&g->out, "}}\n");
}

int history__get(struct client *c, const char *name)
{
    static const struct gather_ops history = { .type = "application/json", .patterns = true, .facts = true,
                                               .begin = begin, .each = each, .end = end };
    uint64_t from_ms;
    (void)name;
    if (!from_read(c, &from_ms)) return http__refuse(c, 400, "from is neither a span nor Unix milliseconds", "?from=6h");
    struct gather *g = gather_create(sizeof(struct asked), &history);
    if (g) ((struct asked *)g->state)->from_ms = from_ms;
    return gather_begin(c, g);
}
