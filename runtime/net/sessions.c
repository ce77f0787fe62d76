/* Sessions: the newest TLS session per host, port and trust, so that a reconnect costs half. Bounded;
 * the least recently used one goes. Owns its references. */
#include <stdlib.h>
#include <string.h>

#include "net/net_internal.h"

#define SESSIONS_MAX 256

struct session {
    char host[NET_HOST_BYTES_MAX];
    uint16_t port;
    uint64_t trust_id;
    uint64_t used;       /* larger: later */
    SSL_SESSION *session; /* owned; NULL: a free place */
};

struct sessions {
    uint64_t uses;
    uint32_t count;
    struct session items[SESSIONS_MAX];
};

static struct session *find(struct sessions *s, const char *host, uint16_t port, uint64_t trust_id)
{
    for (uint32_t i = 0; i < s->count; i++) {
        struct session *item = &s->items[i];
        if (item->session && item->port == port && item->trust_id == trust_id &&
            strcmp(item->host, host) == 0) {
            return item;
        }
    }
    return NULL;
}

struct sessions *sessions__create(void)
{
    return calloc(1, sizeof(struct sessions));
}

void sessions__destroy(struct sessions *s)
{
    for (uint32_t i = 0; i < s->count; i++) SSL_SESSION_free(s->items[i].session);
    free(s);
}

void sessions__put(struct sessions *s, const char *host, uint16_t port, uint64_t trust_id,
                   SSL_SESSION *session)
{
    struct session *item = find(s, host, port, trust_id);
    if (!item && s->count < SESSIONS_MAX) item = &s->items[s->count++];
    for (uint32_t i = 0; i < s->count && !item; i++) {
        if (!s->items[i].session) item = &s->items[i];
    }
    if (!item) {
        item = &s->items[0];
        for (uint32_t i = 1; i < s->count; i++) {
            if (s->items[i].used < item->used) item = &s->items[i];
        }
    }
    SSL_SESSION_free(item->session);
    strncpy(item->host, host, sizeof item->host - 1);
    item->host[sizeof item->host - 1] = '\0';
    item->port = port;
    item->trust_id = trust_id;
    item->used = ++s->uses;
    item->session = session;
}

SSL_SESSION *sessions__find(struct sessions *s, const char *host, uint16_t port, uint64_t trust_id)
{
    struct session *item = find(s, host, port, trust_id);
    if (!item) return NULL;
    if (!SSL_SESSION_is_resumable(item->session)) {
        SSL_SESSION_free(item->session);
        item->session = NULL;
        return NULL;
    }
    item->used = ++s->uses;
    return item->session;
}

void sessions__drop(struct sessions *s, const char *host, uint16_t port, uint64_t trust_id)
{
    struct session *item = find(s, host, port, trust_id);
    if (!item) return;
    SSL_SESSION_free(item->session);
    item->session = NULL;
}
