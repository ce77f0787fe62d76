/* Link: from link_open() to its end. Owns the link's life: its one descriptor, what is told to the sink and when.
 * The way to a socket that stands is in dial.c, bytes are in stream.c, TLS in tls.c.
 *
 * Whatever ends a link goes through let_go(), and link_closed is told from the turn alone. */
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "net/net_internal.h"

static char *host_copy(const char *host);
static void on_turn(struct turn *turn);
static void on_poll(uv_poll_t *poll, int status, int events);
static void on_watch_closed(uv_handle_t *handle);
static void let_go(struct net_link *link);
static void link_free(struct net_link *link);

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
    dial__init(link);
    list_init(&link->turn.node);
    list_init(&link->flush);
    buffer_init(&link->out, LINK_WRITE_QUEUE_MAX);
    buffer_init(&link->kept, 0);
    buffer_init(&link->sealed, 0);
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
    net__dial_soon(net, &link->dial);
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

void link__opened(struct net_link *link)
{
    struct net *net = link->net;
    link->at = AT_OPEN;
    free(link->addresses);
    link->addresses = NULL;
    net->sink->link_opened(net->rt, link->entry.id);
    if (link->at != AT_OPEN) return;
    /* Bytes that came with the end of the handshake, or with a proxy's answer; the poll tells of all others. */
    if (link->kept.len || (link->ssl && SSL_has_pending(link->ssl))) {
        link->work |= LINK_WORK_READ;
        net__queue(net, &link->turn);
    }
    link__poll(link);
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

/* ---- the turn ---------------------------------------------------------------------------------- */

static void on_turn(struct turn *turn)
{
    struct net_link *link = CONTAINER_OF(turn, struct net_link, turn);
    struct net *net = link->net;
    if (link->work & LINK_WORK_POLLED) {
        int events = link->late;
        link->work &= ~LINK_WORK_POLLED;
        link->late = 0;
        if (link->at == AT_OPEN) stream__on_poll(link, events);
    }
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

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    struct net_link *link = watch->link;
    if (!link || watch->net->closing) return;
    if (status < 0) {
        /* POLLERR: libuv has stopped watching. The calls below find out why. */
        link->events = 0;
        link->poll_failed = true;
        events = UV_READABLE | UV_WRITABLE;
    }
    if (link->at < AT_OPEN) {
        net__dial_soon(watch->net, &link->dial);
        return;
    }
    ASSERT(link->at == AT_OPEN);
    struct net *net = watch->net;
    const uint64_t began_ns = link->work & LINK_WORK_POLLED ? 0 : net__read_begins(net);
    if (began_ns) {
        stream__on_poll(link, events);
        net__read_ends(net, began_ns);
        return;
    }
    /* Not watched meanwhile: it would only say so again. */
    link->late |= events;
    link->work |= LINK_WORK_POLLED;
    if (link->events) uv_poll_stop(&watch->poll);
    link->events = 0;
    net__queue(watch->net, &link->turn);
}

/* ---- the end ----------------------------------------------------------------------------------- */

void link__let_go_of_socket(struct net_link *link)
{
    if (list_is_linked(&link->attempt)) list_remove(&link->attempt);
    /* What waits for its turn is a step on this socket, not on the next. */
    if (list_is_linked(&link->dial)) list_remove(&link->dial);
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
    link__let_go_of_socket(link);
    if (list_is_linked(&link->flush)) list_remove(&link->flush);
    dial__leave(link);
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
    buffer_deinit(&link->sealed);
    free(link);
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
