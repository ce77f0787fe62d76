/* Link: from link_open() to the socket that stands, and its end. Owns the link's life: which stage it
 * is in, its one descriptor, what is told to the sink and when. Bytes are in stream.c, TLS in tls.c.
 *
 * A link has at most one descriptor at any moment: an address that failed is closed before the next
 * is tried. Whatever ends a link goes through let_go(), and link_closed is told from the turn alone. */
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "net/net_internal.h"

/* The second line behind the engine's probes: a forgotten socket ends by itself within minutes. */
#define KEEPALIVE_IDLE_S 60
#define KEEPALIVE_EVERY_S 20
#define KEEPALIVE_PROBES 3

static char *host_copy(const char *host);
static void on_turn(struct turn *turn);
static void on_trust(struct wait *wait);
static void on_resolved(struct wait *wait);
static void on_poll(uv_poll_t *poll, int status, int events);
static void on_watch_closed(uv_handle_t *handle);
static void start(struct net_link *link);
static void find_trust(struct net_link *link);
static void resolve(struct net_link *link);
static void resolved(struct net_link *link, enum resolve_result result, int status);
static void try_addresses(struct net_link *link);
static bool try_address(struct net_link *link, union address *address);
static void address_failed(struct net_link *link, int error);
static void address_stands(struct net_link *link);
static void secure(struct net_link *link);
static void let_go_of_socket(struct net_link *link);
static void let_go(struct net_link *link);
static void link_free(struct net_link *link);
static void tell_stage(struct net_link *link, enum stage stage);

bool link__info(const struct net_link *link, struct host_link_info *out)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    memset(&info, 0, sizeof info);
    if (link->fd < 0 || link->at < AT_PROXY || link->at > AT_OPEN) return false;
    if (getsockopt(link->fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0) return false;
    *out = (struct host_link_info){ .round_trip_us = info.tcpi_rtt,
                                    .round_trip_var_us = info.tcpi_rttvar,
                                    .unacked = info.tcpi_unacked,
                                    .repeats = info.tcpi_retransmits,
                                    .repeats_total = info.tcpi_total_retrans,
                                    .last_data_ms = info.tcpi_last_data_recv,
                                    .last_sent_ms = info.tcpi_last_data_sent,
                                    .last_ack_ms = info.tcpi_last_ack_recv };
    return true;
}

static struct net_link *link_of(struct table_entry *entry)
{
    return entry ? CONTAINER_OF(entry, struct net_link, entry) : NULL;
}

bool link__open(struct net *net, uint64_t id, const struct link_target *target)
{
    ASSERT(net->rt != NULL);
    ASSERT(table_find(&net->links, id) == NULL);
    if (net->closing) return false;
    struct net_link *link = calloc(1, sizeof *link);
    if (!link) return false;
    link->net = net;
    link->entry.id = id;
    link->fd = -1;
    link->reading = true;
    link->at = AT_NEW;
    link->turn.run = on_turn;
    link->trust_wait.done = on_trust;
    link->resolve_wait.wait.done = on_resolved;
    list_init(&link->turn.node);
    list_init(&link->flush);
    list_init(&link->attempt);
    list_init(&link->trust_wait.node);
    list_init(&link->resolve_wait.wait.node);
    buffer_init(&link->out, LINK_WRITE_QUEUE_MAX);
    buffer_init(&link->kept, 0);
    link->port = target->port;
    link->proxy_port = target->proxy.port;
    link->tls = target->tls;
    link->host = host_copy(target->host);
    bool copied = link->host != NULL;
    if (target->ca_file) copied &= (link->ca_file = strdup(target->ca_file)) != NULL;
    if (target->proxy.host) {
        copied &= (link->proxy_host = host_copy(target->proxy.host)) != NULL;
        if (target->proxy.authorization) {
            link->proxy_authorization = strdup(target->proxy.authorization);
            copied &= link->proxy_authorization != NULL;
        }
    }
    if (!copied) {
        link_free(link);
        return false;
    }
    table_put(&net->links, &link->entry);
    net__queue(net, &link->turn);
    return true;
}

struct net_link *link__find(struct net *net, uint64_t id)
{
    return link_of(table_find(&net->links, id));
}

void link__abort(struct net_link *link)
{
    link->ended = false; /* our own wish: nothing is told but link_closed */
    if (link->at == AT_OVER) return;
    let_go(link);
}

void link__end(struct net_link *link, const struct cause *cause)
{
    ASSERT(link->at != AT_OVER);
    link->cause = *cause;
    link->ended = true;
    let_go(link);
}

void link__destroy_all(struct net *net)
{
    for (struct table_entry *e; (e = table_any(&net->links)) != NULL;) {
        struct net_link *link = link_of(e);
        ASSERT(link->at == AT_OVER);
        if (list_is_linked(&link->turn.node)) list_remove(&link->turn.node);
        table_remove(&net->links, e);
        link_free(link);
    }
}

void link__attempts_due(struct net *net)
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

void link__opened(struct net_link *link)
{
    struct net *net = link->net;
    link->at = AT_OPEN;
    free(link->addresses);
    link->addresses = NULL;
    net->sink->link_opened(net->rt, link->entry.id);
    if (link->at != AT_OPEN) return;
    /* OpenSSL may hold bytes that came with the end of the handshake. */
    link->work |= LINK_WORK_READ;
    net__queue(net, &link->turn);
    link__poll(link);
}

void link__connected(struct net_link *link)
{
    if (link->tls) secure(link);
    else link__opened(link);
}

void link__poll(struct net_link *link)
{
    if (link->fd < 0) return;
    int events = 0;
    switch (link->at) {
    case AT_CONNECT: events = UV_WRITABLE; break;
    case AT_PROXY: events = link->out.len ? UV_WRITABLE : UV_READABLE; break;
    case AT_SECURE: events = link->want_read_to_write ? UV_READABLE : UV_WRITABLE; break;
    case AT_OPEN: events = stream__wanted(link); break;
    default: ASSERT(!"a descriptor in a stage without one");
    }
    if (events == link->events) return;
    link->events = events;
    if (events == 0) uv_poll_stop(&link->watch->poll);
    else uv_poll_start(&link->watch->poll, events, on_poll);
}

/* ---- stages ------------------------------------------------------------------------------------ */

static void on_turn(struct turn *turn)
{
    struct net_link *link = CONTAINER_OF(turn, struct net_link, turn);
    struct net *net = link->net;
    if (link->at == AT_NEW) start(link);
    if (link->at == AT_OPEN && (link->work & LINK_WORK_WRITABLE)) {
        link->work &= ~LINK_WORK_WRITABLE;
        /* More may have been written since; then it is told later. */
        if (!link->above_low) net->sink->link_writable(net->rt, link->entry.id);
    }
    if (link->work & LINK_WORK_DRAIN) {
        link->work &= ~(LINK_WORK_DRAIN | LINK_WORK_READ);
        if (link->at == AT_OPEN) stream__read(link, NET_DRAIN_BYTES_MAX);
        if (link->at != AT_OVER) net->sink->link_drained(net->rt, link->entry.id);
    }
    if (link->at == AT_OPEN && (link->work & LINK_WORK_READ)) {
        link->work &= ~LINK_WORK_READ;
        stream__read(link, NET_READ_BYTES);
    }
    if (link->at != AT_OVER || net->closing) return;

    if (link->ended) {
        net->sink->link_ended(net->rt, link->entry.id, &link->cause);
        if (net->closing) return;
    }
    uint64_t id = link->entry.id;
    if (list_is_linked(&link->turn.node)) list_remove(&link->turn.node);
    table_remove(&net->links, &link->entry);
    link_free(link);
    net->sink->link_closed(net->rt, id);
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
    try_addresses(link);
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
    int on = 1, idle = KEEPALIVE_IDLE_S, every = KEEPALIVE_EVERY_S, probes = KEEPALIVE_PROBES;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
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
    let_go_of_socket(link);
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
        link__connected(link);
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

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    struct net_link *link = watch->link;
    if (!watch->net->awake_ns) watch->net->awake_ns = uv_hrtime();
    if (!link || watch->net->closing) return;
    if (status < 0) {
        /* POLLERR: libuv has stopped watching. The calls below find out why. */
        link->events = 0;
        link->poll_failed = true;
        events = UV_READABLE | UV_WRITABLE;
    }
    switch (link->at) {
    case AT_CONNECT: {
        int error = 0;
        socklen_t len = sizeof error;
        if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) error = errno;
        if (error == 0 && status < 0) error = ECONNABORTED;
        if (error == 0) {
            address_stands(link);
        } else {
            address_failed(link, error);
            try_addresses(link);
        }
        break;
    }
    case AT_PROXY: proxy__on_poll(link); break;
    case AT_SECURE: tls__handshake(link); break;
    case AT_OPEN: stream__on_poll(link, events); break;
    default: ASSERT(!"an event for a link without a descriptor");
    }
}

/* ---- the end ----------------------------------------------------------------------------------- */

static void let_go_of_socket(struct net_link *link)
{
    if (list_is_linked(&link->attempt)) list_remove(&link->attempt);
    if (link->fd < 0) return;
    struct watch *watch = link->watch;
    link->watch = NULL;
    watch->link = NULL;
    uv_close((uv_handle_t *)&watch->poll, on_watch_closed); /* stops the poll before the close */
    close(link->fd);
    link->fd = -1;
    link->events = 0;
}

static void on_watch_closed(uv_handle_t *handle)
{
    struct watch *watch = handle->data;
    struct net *net = watch->net;
    free(watch);
    net__release(net);
}

static void let_go(struct net_link *link)
{
    bool session_is_bad = link->ended && (link->cause.kind == CAUSE_TLS ||
                                          link->cause.kind == CAUSE_CERTIFICATE);
    tls__free(link, session_is_bad);
    let_go_of_socket(link);
    if (list_is_linked(&link->trust_wait.node)) list_remove(&link->trust_wait.node);
    if (list_is_linked(&link->flush)) list_remove(&link->flush);
    resolver__leave(&link->resolve_wait);
    link->at = AT_OVER;
    net__queue(link->net, &link->turn);
}

static void link_free(struct net_link *link)
{
    ASSERT(link->fd < 0);
    ASSERT(link->ssl == NULL);
    ASSERT(!list_is_linked(&link->turn.node));
    free(link->host);
    free(link->ca_file);
    free(link->proxy_host);
    if (link->proxy_authorization) {
        OPENSSL_cleanse(link->proxy_authorization, strlen(link->proxy_authorization));
        free(link->proxy_authorization);
    }
    free(link->addresses);
    free(link->peer_name);
    buffer_deinit(&link->out);
    buffer_deinit(&link->kept);
    free(link);
}

static void tell_stage(struct net_link *link, enum stage stage)
{
    link->net->sink->link_stage(link->net->rt, link->entry.id, stage);
}

/* Brackets of an IPv6 literal and the final dot of a full name are spelling, not part of the name. */
static char *host_copy(const char *host)
{
    size_t len = strlen(host);
    if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
        host++;
        len -= 2;
    } else if (len > 1 && host[len - 1] == '.') {
        len--;
    }
    char *copy = malloc(len + 1);
    if (!copy) return NULL;
    memcpy(copy, host, len);
    copy[len] = '\0';
    return copy;
}
