/* Mute: the simplest server, in C. Accepts every upgrade and never speaks, or echoes; answers HTTP with
 * one address. For tests of the world, and for policies without a peer. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "sim/world_internal.h"

struct mute {
    struct peer_port port;
    bool echo;
    char *url; /* owned, or NULL */
};

static void on_http(void *self, const struct peer_request *request)
{
    struct mute *m = self;
    if (!m->url) {
        m->port.respond(m->port.self, request->id, 404, "", "", 0);
        return;
    }
    struct buffer body;
    buffer_init(&body, 0);
    buffer_append_text(&body, "{\"url\":");
    text_json_string(&body, m->url, strlen(m->url));
    buffer_append_char(&body, '}');
    m->port.respond(m->port.self, request->id, 200, "Content-Type: application/json\r\n", body.data,
                    body.len);
    buffer_deinit(&body);
}

static enum peer_upgrade on_upgrade(void *self, const struct peer_request *request)
{
    (void)self;
    (void)request;
    return PEER_ACCEPT;
}

static void on_message(void *self, uint64_t ws, bool text, const void *data, size_t len)
{
    struct mute *m = self;
    if (m->echo) m->port.ws_send(m->port.self, ws, text, data, len);
}

static const struct server_ops mute_ops = { .http = on_http,
                                            .upgrade = on_upgrade,
                                            .message = on_message };

void world_server_mute(struct world *w, uint32_t server, bool echo, const char *url)
{
    struct server *sv = world__server(w, server);
    ASSERT(sv != NULL);
    world__mute_destroy(sv->mute);
    struct mute *m = world__alloc(sizeof *m);
    m->port = world_server_port(w, server);
    m->echo = echo;
    m->url = url ? world__copy(url, strlen(url)) : NULL;
    sv->mute = m;
    world_server_ops(w, server, &mute_ops, m);
}

void world__mute_destroy(struct mute *m)
{
    if (!m) return;
    free(m->url);
    free(m);
}
