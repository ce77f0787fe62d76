/* Consumers over the API: who is registered, how far each has come, and whom to forget. Keeps
 * nothing: reads what deliver says at the moment. */
#include <inttypes.h>
#include <string.h>

#include "base/duration.h"
#include "base/text.h"
#include "ops/ops_internal.h"

static bool find(const struct client *c, const char *name, struct deliver_consumer_view *out);
static bool consumer_json(struct buffer *out, const struct deliver_consumer_view *v);
static bool positions_json(const struct client *c, struct buffer *out, const char *name);
static bool time_json(struct buffer *out, const char *key, uint64_t wall_ms);
static int unknown(struct client *c);

int consumers__list(struct client *c, const char *name)
{
    (void)name;
    struct deliver_consumer_view v;
    struct buffer out;
    bool first = true;
    buffer_init(&out, ANSWER_BYTES_MAX);
    bool ok = buffer_append_text(&out, "{\"consumers\":[");
    for (uint32_t i = 0; ok && deliver_consumer_next(c->ops->deliver, &i, &v); i++) {
        ok = (first || buffer_append_char(&out, ',')) && consumer_json(&out, &v) &&
             buffer_append_char(&out, '}');
        first = false;
    }
    ok = ok && buffer_append_text(&out, "]}\n");
    int result = ok ? http__answer(c, 200, "application/json", out.data, out.len) : -1;
    buffer_deinit(&out);
    return result;
}

int consumers__one(struct client *c, const char *name)
{
    struct deliver_consumer_view v;
    struct buffer out;
    if (!find(c, name, &v)) return unknown(c);
    buffer_init(&out, ANSWER_BYTES_MAX);
    bool ok = consumer_json(&out, &v) && buffer_append_text(&out, ",\"positions\":[") &&
              positions_json(c, &out, name) && buffer_append_text(&out, "]}\n");
    int result = ok ? http__answer(c, 200, "application/json", out.data, out.len) : -1;
    buffer_deinit(&out);
    return result;
}

int consumers__forget(struct client *c, const char *name)
{
    struct buffer out;
    if (!deliver_consumer_forget(c->ops->deliver, name)) return unknown(c);
    ops__log(c->ops, LOG_INFO, "consumer %s: forgotten, asked for over the local API", name);
    buffer_init(&out, 4096);
    bool ok = buffer_append_text(&out, "{\"forgotten\":") &&
              text_json_string(&out, name, strlen(name)) && buffer_append_text(&out, "}\n");
    int result = ok ? http__answer(c, 200, "application/json", out.data, out.len) : -1;
    buffer_deinit(&out);
    return result;
}

static bool find(const struct client *c, const char *name, struct deliver_consumer_view *out)
{
    for (uint32_t i = 0; name[0] && deliver_consumer_next(c->ops->deliver, &i, out); i++) {
        if (strcmp(out->name, name) == 0) return true;
    }
    return false;
}

/* Without the last brace. */
static bool consumer_json(struct buffer *out, const struct deliver_consumer_view *v)
{
    bool ok = buffer_append_text(out, "{\"name\":");
    ok = ok && (v->name[0] ? text_json_string(out, v->name, strlen(v->name))
                           : buffer_append_text(out, "null"));
    return ok && buffer_printf(out, ",\"attached\":%s", v->attached ? "true" : "false") &&
           time_json(out, "since", v->since_wall_ms) &&
           buffer_printf(out, ",\"connections\":%" PRIu32 ",\"lag\":%" PRIu64, v->connections,
                         v->lag) &&
           time_json(out, "oldest", v->oldest_wall_ms);
}

static bool positions_json(const struct client *c, struct buffer *out, const char *name)
{
    struct deliver_position_view p;
    const void *at = NULL;
    bool ok = true, first = true;
    while (ok && deliver_position_next(c->ops->deliver, name, &at, &p)) {
        ok = (first || buffer_append_char(out, ',')) && buffer_append_text(out, "{\"connection\":") &&
             text_json_string(out, p.connection, strlen(p.connection)) &&
             buffer_printf(out, ",\"configured\":%s,\"epoch\":%" PRIu64 ",\"offset\":%" PRIu64
                                ",\"last\":%" PRIu64 ",\"lag\":%" PRIu64,
                           p.configured ? "true" : "false", p.epoch, p.offset, p.last_offset,
                           p.lag) &&
             time_json(out, "oldest", p.oldest_wall_ms) && buffer_append_char(out, '}');
        first = false;
    }
    return ok;
}

static bool time_json(struct buffer *out, const char *key, uint64_t wall_ms)
{
    char text[TIMESTAMP_TEXT_MAX];
    if (wall_ms == 0) return buffer_printf(out, ",\"%s\":null", key);
    timestamp_format(wall_ms, text);
    return buffer_printf(out, ",\"%s\":\"%s\"", key, text);
}

static int unknown(struct client *c)
{
    return http__refuse(c, 404, "no such consumer", "a name from GET /v1/consumers");
}
