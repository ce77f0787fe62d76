/* Sessions: the newest TLS session per host, port and trust, so that a reconnect costs half; and one that the
 * links there have in common once they stand: what OpenSSL keeps in a session of a link's own (the peer's chain
 * of certificates, parsed, is most of it) is 7 KB that nobody asks for again. Bounded; the least recently used
 * place goes. Owns its references. */
#include <stdlib.h>
#include <string.h>

#include "net/net_internal.h"

#define SESSIONS_MAX 256

struct session {
    char host[NET_HOST_BYTES_MAX];
    uint16_t port;
    uint64_t trust_id;
    uint64_t used;       /* larger: later */
    SSL_SESSION *session; /* owned: the newest, for the next dial; NULL: none */
    SSL_SESSION *common;  /* owned: of links that stand; NULL: none. Both NULL: a free place */
};

/* A context of just the protocol version that a link came to speak. */
struct spoken {
    const SSL_METHOD *method;
    SSL_CTX *context; /* owned */
};

#define SPOKEN_MAX 2

struct sessions {
    struct spoken spoken[SPOKEN_MAX];
    uint64_t uses;
    uint32_t count;
    struct session items[SESSIONS_MAX];
};

static struct session *find(struct sessions *s, const char *host, uint16_t port, uint64_t trust_id)
{
    for (uint32_t i = 0; i < s->count; i++) {
        struct session *item = &s->items[i];
        if ((item->session || item->common) && item->port == port && item->trust_id == trust_id &&
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
    for (uint32_t i = 0; i < s->count; i++) {
        SSL_SESSION_free(s->items[i].session);
        SSL_SESSION_free(s->items[i].common);
    }
    for (int i = 0; i < SPOKEN_MAX; i++) SSL_CTX_free(s->spoken[i].context);
    free(s);
}

static struct session *place(struct sessions *s, const char *host, uint16_t port, uint64_t trust_id)
{
    struct session *item = find(s, host, port, trust_id);
    if (item) return item;
    if (s->count < SESSIONS_MAX) item = &s->items[s->count++];
    for (uint32_t i = 0; i < s->count && !item; i++) {
        if (!s->items[i].session && !s->items[i].common) item = &s->items[i];
    }
    if (!item) {
        item = &s->items[0];
        for (uint32_t i = 1; i < s->count; i++) {
            if (s->items[i].used < item->used) item = &s->items[i];
        }
    }
    SSL_SESSION_free(item->session);
    SSL_SESSION_free(item->common);
    *item = (struct session){ .port = port, .trust_id = trust_id };
    strncpy(item->host, host, sizeof item->host - 1);
    return item;
}

void sessions__put(struct sessions *s, const char *host, uint16_t port, uint64_t trust_id,
                   SSL_SESSION *session)
{
    struct session *item = place(s, host, port, trust_id);
    SSL_SESSION_free(item->session);
    item->used = ++s->uses;
    item->session = session;
}

/* Nothing of a session is used while a link stands but its cipher, and tickets begin as copies of it. */
static bool alike(const SSL_SESSION *a, const SSL_SESSION *b)
{
    return SSL_SESSION_get_protocol_version(a) == SSL_SESSION_get_protocol_version(b) &&
           SSL_SESSION_get0_cipher(a) == SSL_SESSION_get0_cipher(b);
}

static SSL_CTX *context_of(struct sessions *s, const SSL_METHOD *method)
{
    for (int i = 0; i < SPOKEN_MAX; i++) {
        struct spoken *at = &s->spoken[i];
        if (!at->method) *at = (struct spoken){ method, SSL_CTX_new(method) };
        if (at->method == method) return at->context;
    }
    return NULL;
}

/* OpenSSL sets a link's protocol back to its context's, all versions, when it is given a session: right for one
 * that will shake hands, the end of one that stands. So its context is one of the version spoken meanwhile.
 * Newer OpenSSL compares with something else: there each link keeps its own. */
static bool replaceable(void)
{
    return OpenSSL_version_num() >> 20 <= 0x301; /* 3.0 and 3.1 */
}

void sessions__share(struct sessions *s, const char *host, uint16_t port, uint64_t trust_id, SSL *ssl)
{
    SSL_SESSION *own = SSL_get0_session(ssl);
    if (!own || SSL_get_verify_result(ssl) != X509_V_OK || !replaceable()) return;
    struct session *item = place(s, host, port, trust_id);
    item->used = ++s->uses;
    if (!item->common) item->common = SSL_get1_session(ssl);
    if (item->common == own || !alike(item->common, own)) return;
    SSL_CTX *context = SSL_get_SSL_CTX(ssl), *spoken = context_of(s, SSL_get_ssl_method(ssl));
    if (!spoken || SSL_set_SSL_CTX(ssl, spoken) != spoken) return;
    SSL_set_session(ssl, item->common);
    SSL_set_SSL_CTX(ssl, context);
}

SSL_SESSION *sessions__find(struct sessions *s, const char *host, uint16_t port, uint64_t trust_id)
{
    struct session *item = find(s, host, port, trust_id);
    if (!item || !item->session) return NULL;
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
