/* Gather: an answer that looks at every connection, made over as many turns of the loop as that takes, so that ten
 * thousand of them keep nobody waiting. Owns the half-made answer of a client. Connections may come and go between
 * two turns: each that is there all the while is looked at once. Whoever hangs up ends it. */
#include "ops/gather.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* Of one turn: time and connections; and so many between two looks at the clock. */
#define TURN_NS 1000000u
#define TURN_MAX 1000u
#define AT_ONCE 4u

static bool wanted(const struct client *c, const char *name);
static bool patterns_keep(struct client *c, struct gather *g);

struct gather *gather_create(size_t state_bytes, const struct gather_ops *ops)
{
    struct gather *g = calloc(1, sizeof *g + state_bytes);
    if (!g) return NULL;
    g->ops = ops;
    buffer_init(&g->out, ANSWER_BYTES_MAX);
    if (buffer_reserve(&g->out, LWS_PRE)) {
        memset(g->out.data, 0, LWS_PRE);
        g->out.len = LWS_PRE;
        return g;
    }
    free(g);
    return NULL;
}

int gather_begin(struct client *c, struct gather *g)
{
    ASSERT(c->gather == NULL);
    if (!g) return http__refuse(c, 503, "memory is out", "try again later");
    c->gather = g;
    buffer_clear(&c->query);
    if (!patterns_keep(c, g) || (g->ops->begin && !g->ops->begin(c, g))) {
        gather_gone(c);
        return -1;
    }
    return gather_turn(c);
}

int gather_turn(struct client *c)
{
    struct gather *g = c->gather;
    struct connection_view view;
    struct handle h;
    bool (*look)(const struct runtime *, struct handle, struct connection_view *) = g->ops->facts ? runtime_view_facts : runtime_view;
    const uint64_t end_ns = uv_hrtime() + TURN_NS;
    bool ok = true, more = false;
    for (uint32_t n = 0; ok && (more = runtime_next(c->ops->rt, &g->index, &h)); g->index++) {
        if (++n > TURN_MAX || (n % AT_ONCE == 0 && uv_hrtime() >= end_ns)) break;
        if (look(c->ops->rt, h, &view) && wanted(c, view.name)) ok = g->ops->each(c, g, h, &view);
    }
    if (ok && !more) ok = g->ops->end(c, g);
    if (g->again) {
        g->again = false;
        g->index = 0;
        more = true;
    }
    if (ok && more) {
        lws_set_timeout(c->wsi, NO_PENDING_TIMEOUT, 0); /* or it ends the request after seconds */
        lws_callback_on_writable(c->wsi);
        return 0;
    }
    struct buffer out = g->out;
    buffer_init(&g->out, 0);
    const char *type = g->ops->type;
    gather_gone(c);
    if (ok) return http__answer_own(c, 200, type, &out);
    buffer_deinit(&out);
    return -1;
}

void gather_gone(struct client *c)
{
    struct gather *g = c->gather;
    if (!g) return;
    c->gather = NULL;
    buffer_clear(&c->query);
    buffer_deinit(&g->out);
    free(g);
}

/* ?connection=PATTERN, repeatable: each with its NUL in c->query, because the head of the request does not stay. */
static bool patterns_keep(struct client *c, struct gather *g)
{
    char item[256], *value;
    if (!g->ops->patterns) return true;
    for (int index = 0; api__query_next(c, &index, item, sizeof item, &value);)
        if (strcmp(item, "connection") == 0 && !buffer_append(&c->query, value, strlen(value) + 1)) return false;
    return true;
}

static bool wanted(const struct client *c, const char *name)
{
    const char *at = (const char *)c->query.data, *end = at + c->query.len;
    if (!c->query.len) return true;
    for (; at < end; at += strlen(at) + 1)
        if (text_glob(at, name)) return true;
    return false;
}
