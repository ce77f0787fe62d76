/* Dial: a link's way from its first step to bytes that can flow: the trusted certificates, the name, one address
 * after the other, a proxy's tunnel, the handshake. Each step is one that waits for nothing, and is taken when its
 * turn comes (net.c), so that thousands of dials do not keep the loop from its frames.
 *
 * A link has at most one descriptor at any moment: an address that failed is closed before the next
 * is tried. */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/rng.h"
#include "net/net_internal.h"

/* The second line behind the engine's probes: a forgotten socket ends by itself within minutes. Each link has
 * numbers of its own: the kernel's timers are as coarse as seconds at such lengths, so that links which fell
 * silent together would be probed in one burst, from one interrupt. Over loopback that was seen to overflow the
 * queue of packets received (net.core.netdev_max_backlog), each time with the same links last: three
 * lost probes in a row killed 978 of 10,000 links that were well. */
#define KEEPALIVE_IDLE_S 60
#define KEEPALIVE_IDLE_SPREAD_S 60
#define KEEPALIVE_EVERY_S 15
#define KEEPALIVE_EVERY_SPREAD_S 15
#define KEEPALIVE_PROBES 5

static void keep_alive(const struct net_link *link, int fd);
static void on_trust(struct wait *wait);
static void on_resolved(struct wait *wait);
static void start(struct net_link *link);
static void find_trust(struct net_link *link);
static void resolve(struct net_link *link);
static void resolved(struct net_link *link, enum resolve_result result, int status);
static void try_addresses(struct net_link *link);
static bool try_address(struct net_link *link, union address *address);
static void connect_over(struct net_link *link);
static void address_failed(struct net_link *link, int error);
static void address_stands(struct net_link *link);
static void secure(struct net_link *link);
static void tell_stage(struct net_link *link, enum stage stage);

void dial__init(struct net_link *link)
{
    list_init(&link->dial);
    list_init(&link->attempt);
    list_init(&link->trust_wait.node);
    list_init(&link->resolve_wait.wait.node);
    link->trust_wait.done = on_trust;
    link->resolve_wait.wait.done = on_resolved;
}

void dial__leave(struct net_link *link)
{
    if (list_is_linked(&link->dial)) list_remove(&link->dial);
    if (list_is_linked(&link->trust_wait.node)) list_remove(&link->trust_wait.node);
    resolver__leave(&link->resolve_wait);
}

void dial__step(struct node *dial)
{
    struct net_link *link = CONTAINER_OF(dial, struct net_link, dial);
    switch (link->at) {
    case AT_NEW: start(link); break;
    case AT_CONNECT:
        if (link->fd < 0) try_addresses(link);
        else connect_over(link);
        break;
    case AT_PROXY: proxy__on_poll(link); break;
    case AT_SECURE: tls__handshake(link); break;
    case AT_TRUST:
    case AT_RESOLVE:
    case AT_OPEN:
    case AT_OVER: ASSERT(!"a step of a dial that takes none");
    }
}

void dial__attempts_due(struct net *net)
{
    uint64_t now_ms = net__now_ms();
    while (!list_is_empty(&net->attempts)) {
        struct net_link *link = CONTAINER_OF(net->attempts.next, struct net_link, attempt);
        if (link->attempt_until_ms > now_ms) break;
        MARK("a silent address gives way to the next");
        address_failed(link, ETIMEDOUT);
        if (link->at == AT_CONNECT) try_addresses(link);
    }
    net__arm_attempts(net);
}

void dial__connected(struct net_link *link)
{
    if (link->tls) secure(link);
    else link__opened(link);
}

static void start(struct net_link *link)
{
    size_t len = strlen(link->host);
    if (len == 0 || len >= NET_HOST_BYTES_MAX || link->port == 0) {
        struct cause cause = net__cause(STAGE_RESOLVING, CAUSE_ADDRESS, 0, "%s is no address",
                                        len ? link->host : "an empty host");
        link__end(link, &cause);
        return;
    }
    tell_stage(link, STAGE_RESOLVING);
    if (link->at != AT_NEW) return;
    if (link->tls) find_trust(link);
    else resolve(link);
}

/* First of all, so that nobody dials who could not verify. Only the first link of a trust waits. */
static void find_trust(struct net_link *link)
{
    struct trust *trust = NULL;
    link->at = AT_TRUST;
    switch (trusts__get(link->net->trusts, link->ca_file, &link->trust_wait, &trust)) {
    case TRUST_READY: resolve(link); break;
    case TRUST_WAITING: break;
    case TRUST_FAILED: {
        struct cause cause = net__cause(STAGE_RESOLVING, CAUSE_CERTIFICATE, 0, "%s",
                                        trust__error(trust));
        cause.by = BY_US;
        link__end(link, &cause);
    }
    }
}

static void on_trust(struct wait *wait)
{
    find_trust(CONTAINER_OF(wait, struct net_link, trust_wait));
}

static void resolve(struct net_link *link)
{
    link->at = AT_RESOLVE;
    link->addresses = calloc(1, sizeof *link->addresses);
    int status = UV_ENOMEM;
    enum resolve_result result = RESOLVE_FAILED;
    if (link->addresses) {
        result = resolver__get(link->net->resolver, link->proxy_host ? link->proxy_host : link->host,
                               &link->resolve_wait, link->addresses, &status);
    }
    if (result != RESOLVE_WAITING) resolved(link, result, status);
}

static void on_resolved(struct wait *wait)
{
    struct net_link *link = CONTAINER_OF(wait, struct net_link, resolve_wait.wait);
    int status;
    enum resolve_result result = resolver__take(&link->resolve_wait, link->addresses, &status);
    resolved(link, result, status);
}

static void resolved(struct net_link *link, enum resolve_result result, int status)
{
    if (result == RESOLVE_FAILED) {
        bool proxy = link->proxy_host != NULL;
        struct cause cause = net__cause(STAGE_RESOLVING, proxy ? CAUSE_PROXY : CAUSE_RESOLVE, status,
                                        "cannot resolve %s%s: %s", proxy ? "the proxy's name " : "",
                                        proxy ? link->proxy_host : link->host, uv_strerror(status));
        link__end(link, &cause);
        return;
    }
    tell_stage(link, STAGE_CONNECTING);
    if (link->at != AT_RESOLVE) return;
    link->at = AT_CONNECT;
    link->address_at = 0;
    net__dial_soon(link->net, &link->dial);
}

static void try_addresses(struct net_link *link)
{
    ASSERT(link->at == AT_CONNECT);
    ASSERT(link->fd < 0);
    while (link->address_at < link->addresses->count) {
        if (try_address(link, &link->addresses->items[link->address_at])) return;
    }
    struct cause cause = link->dial_cause;
    link__end(link, &cause);
}

/* False: failed at once, and the next is to be tried. */
static bool try_address(struct net_link *link, union address *address)
{
    struct net *net = link->net;
    address__set_port(address, link->proxy_host ? link->proxy_port : link->port);
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd < 0) {
        address_failed(link, errno);
        return false;
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    keep_alive(link, fd);
    struct watch *watch = calloc(1, sizeof *watch);
    int failed = watch ? uv_poll_init(net->loop, &watch->poll, fd) : UV_ENOMEM;
    if (failed) {
        free(watch);
        close(fd);
        address_failed(link, -failed);
        return false;
    }
    net__hold(net);
    watch->poll.data = watch;
    watch->link = link;
    watch->net = net;
    link->watch = watch;
    link->fd = fd;
    link->events = 0;
    link->poll_failed = false;
    if (connect(fd, &address->any, address__len(address)) != 0 && errno != EINPROGRESS) {
        address_failed(link, errno);
        return false;
    }
    if (link->address_at + 1 < link->addresses->count) {
        link->attempt_until_ms = net__now_ms() + net->attempt_ms;
        bool first = list_is_empty(&net->attempts);
        list_append(&net->attempts, &link->attempt);
        if (first) net__arm_attempts(net);
    }
    link__poll(link); /* also when it stands already: the poll says so */
    return true;
}

static void keep_alive(const struct net_link *link, int fd)
{
    const uint64_t draw = rng_mix(link->entry.id);
    int on = 1, probes = KEEPALIVE_PROBES;
    int idle = KEEPALIVE_IDLE_S + (int)(draw % (KEEPALIVE_IDLE_SPREAD_S + 1));
    int every = KEEPALIVE_EVERY_S + (int)((draw >> 32) % (KEEPALIVE_EVERY_SPREAD_S + 1));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

static void connect_over(struct net_link *link)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) error = errno;
    if (error == 0 && link->poll_failed) error = ECONNABORTED;
    if (error == 0) {
        address_stands(link);
    } else {
        address_failed(link, error);
        try_addresses(link);
    }
}

/* An address that refused tells more than one that was silent, and that more than one without a
 * route: of equals, the later one. */
static int telling(enum cause_kind kind)
{
    return kind == CAUSE_UNREACHABLE ? 1 : kind == CAUSE_CONNECT ? 2 : 3;
}

static void address_failed(struct net_link *link, int error)
{
    char text[INET6_ADDRSTRLEN];
    const union address *address = &link->addresses->items[link->address_at];
    const char *more = link->addresses->count > 1 ? " (and other addresses failed)" : "";
    link__let_go_of_socket(link);
    struct cause cause = net__cause(STAGE_CONNECTING, net__connect_kind(error), error,
                                    "%s port %u: %s%s", address__text(address, text),
                                    (unsigned)(link->proxy_host ? link->proxy_port : link->port),
                                    uv_strerror(-error), more);
    if (link->proxy_host) {
        cause = net__cause(STAGE_CONNECTING, CAUSE_PROXY, error, "cannot reach the proxy: %s", cause.reason);
    }
    if (link->dial_failed == 0 || telling(cause.kind) >= telling(link->dial_cause.kind)) {
        link->dial_cause = cause;
    }
    link->dial_failed++;
    link->address_at++;
}

static void address_stands(struct net_link *link)
{
    if (list_is_linked(&link->attempt)) list_remove(&link->attempt);
    if (link->proxy_host) {
        link->at = AT_PROXY;
        proxy__start(link);
    } else {
        dial__connected(link);
    }
}

static void secure(struct net_link *link)
{
    struct trust *trust = NULL;
    tell_stage(link, STAGE_SECURING);
    if (link->at == AT_OVER) return;
    link->at = AT_SECURE;
    /* Trusted sets are reloaded aside, so what was ready at the start of the dial still is; only one
     * that was thrown out meanwhile, by very many others, is not. */
    enum trust_result result = trusts__get(link->net->trusts, link->ca_file, NULL, &trust);
    if (result != TRUST_READY || !tls__start(link, trust)) {
        struct cause cause = net__cause(STAGE_SECURING, CAUSE_TLS, 0, "cannot start TLS: %s",
                                        result == TRUST_FAILED ? trust__error(trust)
                                                               : "out of memory");
        cause.by = BY_US;
        link__end(link, &cause);
        return;
    }
    tls__handshake(link);
}

static void tell_stage(struct net_link *link, enum stage stage)
{
    link->net->sink->link_stage(link->net->rt, link->entry.id, stage);
}
