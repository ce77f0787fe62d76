/* Resolver: one lookup per name for all who wait, in libuv's pool, with a brief cache. Owns the
 * lookups; never blocks the loop. A lookup that runs cannot be stopped: who leaves is only forgotten. */
#include <arpa/inet.h>
#include <ctype.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "net/net_internal.h"

#define RESOLVE_BUCKETS 256u
#define RESOLVE_KEPT_MAX 1024u
/* So that a storm of dials during an outage of the name server does not become a storm of lookups. */
#define RESOLVE_FAILED_TTL_MS 1000

struct lookup {
    uv_getaddrinfo_t request;
    struct net *net;
    struct lookup *next;     /* in its bucket */
    char *host;              /* owned */
    uint64_t hash;
    bool running;
    uint64_t fresh_until_ms;
    int status;
    struct address_list addresses;
    struct node waits;       /* struct resolve_wait.wait.node */
};

struct resolver {
    struct net *net;
    uint64_t ttl_ms;
    struct lookup *buckets[RESOLVE_BUCKETS];
    uint32_t count;
};

static struct lookup *lookup_find(struct resolver *r, const char *host, uint64_t hash);
static struct lookup *lookup_create(struct resolver *r, const char *host, uint64_t hash);
static void lookup_free(struct lookup *l);
static void on_addresses(uv_getaddrinfo_t *request, int status, struct addrinfo *found);
static void interleave(const struct addrinfo *found, struct address_list *out);
static void forget_old(struct resolver *r);

struct resolver *resolver__create(struct net *net, uint64_t ttl_ms)
{
    struct resolver *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->net = net;
    r->ttl_ms = ttl_ms;
    return r;
}

void resolver__close(struct resolver *r)
{
    for (uint32_t i = 0; i < RESOLVE_BUCKETS; i++) {
        for (struct lookup *l = r->buckets[i]; l; l = l->next) {
            if (l->running) uv_cancel((uv_req_t *)&l->request);
        }
    }
}

void resolver__destroy(struct resolver *r)
{
    for (uint32_t i = 0; i < RESOLVE_BUCKETS; i++) {
        struct lookup *l = r->buckets[i];
        while (l) {
            struct lookup *next = l->next;
            ASSERT(!l->running);
            lookup_free(l);
            l = next;
        }
    }
    free(r);
}

enum resolve_result resolver__get(struct resolver *r, const char *host, struct resolve_wait *wait,
                                  struct address_list *out, int *status_out)
{
    if (address__parse(host, &out->items[0])) {
        out->count = 1;
        return RESOLVE_READY;
    }
    uint64_t hash = hash_text(host);
    uint64_t now_ms = net__now_ms();
    struct lookup *l = lookup_find(r, host, hash);
    if (l && !l->running && l->fresh_until_ms > now_ms) {
        r->net->counts.lookups_shared++;
        wait->lookup = l;
        return resolver__take(wait, out, status_out);
    }
    *status_out = UV_EAI_MEMORY;
    if (!l) l = lookup_create(r, host, hash);
    if (!l) return RESOLVE_FAILED;
    if (l->running) {
        r->net->counts.lookups_shared++;
    } else {
        struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
        l->request.data = l;
        int status = uv_getaddrinfo(r->net->loop, &l->request, on_addresses, host, NULL, &hints);
        if (status < 0) {
            *status_out = status;
            return RESOLVE_FAILED;
        }
        l->running = true;
        net__hold(r->net);
        r->net->counts.lookups++;
    }
    wait->lookup = l;
    list_append(&l->waits, &wait->wait.node);
    return RESOLVE_WAITING;
}

enum resolve_result resolver__take(struct resolve_wait *wait, struct address_list *out,
                                   int *status_out)
{
    struct lookup *l = wait->lookup;
    ASSERT(l != NULL);
    ASSERT(!l->running);
    wait->lookup = NULL;
    *status_out = l->status;
    if (l->status < 0) return RESOLVE_FAILED;
    *out = l->addresses;
    return RESOLVE_READY;
}

void resolver__leave(struct resolve_wait *wait)
{
    if (list_is_linked(&wait->wait.node)) list_remove(&wait->wait.node);
    wait->lookup = NULL;
}

bool address__parse(const char *host, union address *out)
{
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, host, &out->v4.sin_addr) == 1) {
        out->any.sa_family = AF_INET;
        return true;
    }
    if (inet_pton(AF_INET6, host, &out->v6.sin6_addr) == 1) {
        out->any.sa_family = AF_INET6;
        return true;
    }
    return false;
}

const char *address__text(const union address *a, char out[INET6_ADDRSTRLEN])
{
    const void *bytes = a->any.sa_family == AF_INET ? (const void *)&a->v4.sin_addr
                                                    : (const void *)&a->v6.sin6_addr;
    if (!inet_ntop(a->any.sa_family, bytes, out, INET6_ADDRSTRLEN)) strcpy(out, "?");
    return out;
}

void address__set_port(union address *a, uint16_t port)
{
    if (a->any.sa_family == AF_INET) a->v4.sin_port = htons(port);
    else a->v6.sin6_port = htons(port);
}

socklen_t address__len(const union address *a)
{
    return a->any.sa_family == AF_INET ? sizeof a->v4 : sizeof a->v6;
}

#ifdef HOLDFAST_TEST
void net_pretend_addresses(struct net *net, const char *name, const char *const *addresses,
                           uint32_t count)
{
    struct addrinfo found[NET_ADDRESSES_MAX];
    union address parsed[NET_ADDRESSES_MAX];
    ASSERT(count <= NET_ADDRESSES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        bool literal = address__parse(addresses[i], &parsed[i]);
        ASSERT(literal);
        found[i] = (struct addrinfo){ .ai_family = parsed[i].any.sa_family,
                                      .ai_addr = &parsed[i].any,
                                      .ai_addrlen = address__len(&parsed[i]),
                                      .ai_next = i + 1 < count ? &found[i + 1] : NULL };
    }
    struct lookup *l = lookup_create(net->resolver, name, hash_text(name));
    ASSERT(l != NULL);
    interleave(count ? found : NULL, &l->addresses);
    l->fresh_until_ms = UINT64_MAX;
}
#endif

static struct lookup *lookup_find(struct resolver *r, const char *host, uint64_t hash)
{
    struct lookup *l = r->buckets[hash % RESOLVE_BUCKETS];
    while (l && (l->hash != hash || strcmp(l->host, host) != 0)) l = l->next;
    return l;
}

static struct lookup *lookup_create(struct resolver *r, const char *host, uint64_t hash)
{
    if (r->count >= RESOLVE_KEPT_MAX) forget_old(r);
    struct lookup *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    l->host = strdup(host);
    if (!l->host) {
        free(l);
        return NULL;
    }
    l->net = r->net;
    l->hash = hash;
    list_init(&l->waits);
    l->next = r->buckets[hash % RESOLVE_BUCKETS];
    r->buckets[hash % RESOLVE_BUCKETS] = l;
    r->count++;
    return l;
}

static void lookup_free(struct lookup *l)
{
    free(l->host);
    free(l);
}

static void forget_old(struct resolver *r)
{
    uint64_t now_ms = net__now_ms();
    for (uint32_t i = 0; i < RESOLVE_BUCKETS; i++) {
        for (struct lookup **at = &r->buckets[i]; *at;) {
            struct lookup *l = *at;
            if (l->running || l->fresh_until_ms > now_ms) {
                at = &l->next;
                continue;
            }
            *at = l->next;
            lookup_free(l);
            r->count--;
        }
    }
}

static void on_addresses(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct lookup *l = request->data;
    struct net *net = l->net;
    l->running = false;
    l->status = status;
    if (status == 0) interleave(found, &l->addresses);
    if (status == 0 && l->addresses.count == 0) l->status = UV_EAI_NODATA;
    uv_freeaddrinfo(found);
    uint64_t ttl_ms = net->resolver->ttl_ms;
    if (l->status < 0 && ttl_ms > RESOLVE_FAILED_TTL_MS) ttl_ms = RESOLVE_FAILED_TTL_MS;
    l->fresh_until_ms = net__now_ms() + ttl_ms;

    /* One at a time from the head: whoever is told may make another one leave, or ask again. */
    struct node waits;
    list_take(&waits, &l->waits);
    while (!list_is_empty(&waits)) {
        struct wait *wait = CONTAINER_OF(waits.next, struct wait, node);
        list_remove(&wait->node);
        if (!net->closing) wait->done(wait);
    }
    net__release(net);
}

/* The system's order within a family, its first choice first, the families by turns: a broken IPv6
 * costs one attempt, not all of them. */
static void interleave(const struct addrinfo *found, struct address_list *out)
{
    const struct addrinfo *next[2] = { found, found };
    int families[2] = { AF_INET6, AF_INET };
    if (found && found->ai_family == AF_INET) {
        families[0] = AF_INET;
        families[1] = AF_INET6;
    }
    out->count = 0;
    for (int turn = 0; out->count < NET_ADDRESSES_MAX; turn ^= 1) {
        for (int i = 0; i < 2; i++) {
            while (next[i] && next[i]->ai_family != families[i]) next[i] = next[i]->ai_next;
        }
        int from = next[turn] ? turn : turn ^ 1;
        if (!next[from]) break;
        memcpy(&out->items[out->count++], next[from]->ai_addr, next[from]->ai_addrlen);
        next[from] = next[from]->ai_next;
    }
}
