/* What may be looked at in the world: streams, servers, counts. Changes nothing. */
#include <string.h>

#include "base/text.h"
#include "sim/world_internal.h"

bool world_stream_of(const struct world *w, uint64_t link, struct stream_view *out)
{
    struct stream *s = world__stream_get(w, handle_unpack(idmap_find(&w->links, link)));
    if (!s) return false;
    world__stream_view(s, out);
    return true;
}

bool world_stream_next(const struct world *w, uint32_t *index, struct stream_view *out)
{
    struct handle h;
    struct stream *s = slots_next(&w->streams, index, &h);
    if (!s) return false;
    world__stream_view(s, out);
    return true;
}

void world_on_dead(struct world *w, void (*tell)(void *self, const struct stream_view *stream),
                   void *self)
{
    w->on_dead = tell;
    w->on_dead_self = self;
}

uint32_t world_descriptors(const struct world *w, uint64_t identity, uint32_t *most_out)
{
    uint64_t at = idmap_find(&w->identities, identity);
    if (most_out) *most_out = at ? w->identity_counts[at - 1].most : 0;
    return at ? w->identity_counts[at - 1].open : 0;
}

void world_counts(const struct world *w, struct world_counts *out)
{
    *out = (struct world_counts){ .streams = w->streams.count,
                                  .descriptors = w->descriptors,
                                  .calls = w->calls.count,
                                  .steps = w->steps,
                                  .happenings = w->queue.next_order };
    struct handle h;
    struct stream *s;
    for (uint32_t i = 0; (s = slots_next(&w->streams, &i, &h)); i++) {
        if (!s->descriptor && s->server_state != SERVER_NONE) out->ghosts++;
    }
}

bool world_server_get(const struct world *w, uint32_t server, struct server_view *out)
{
    struct server *sv = world__server(w, server);
    if (!sv) return false;
    memset(out, 0, sizeof *out);
    text_copy(out->name, sizeof out->name, sv->name, strlen(sv->name));
    out->upgrades_total = sv->upgrades_total;
    out->requests_total = sv->requests_total;
    out->messages_total = sv->messages_total;
    struct handle h;
    struct stream *s;
    for (uint32_t i = 0; (s = slots_next(&w->streams, &i, &h)); i++) {
        if (s->server != server) continue;
        if (s->server_state == SERVER_OPEN) out->streams++;
        if (!s->descriptor && s->server_state != SERVER_NONE) out->ghosts++;
    }
    return true;
}
