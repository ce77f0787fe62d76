/* Proxy: asks an HTTP proxy for a tunnel (CONNECT) before TLS or the upgrade. Owns nothing: the request
 * waits in link->out, the answer gathers in link->kept. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "net/net_internal.h"

#define PROXY_HEAD_BYTES_MAX ((size_t)16 << 10)

static void send_request(struct net_link *link);
static void read_answer(struct net_link *link);
static void judge(struct net_link *link, size_t head_len);

static void fail(struct net_link *link, int64_t code, int status, const char *text)
{
    struct cause cause = net__cause(STAGE_CONNECTING, CAUSE_PROXY, code, "%s", text);
    cause.http_status = status;
    buffer_clear(&link->out);
    buffer_clear(&link->kept);
    link__end(link, &cause);
}

void proxy__start(struct net_link *link)
{
    union address literal;
    bool v6 = address__parse(link->host, &literal) && literal.any.sa_family == AF_INET6;
    const char *open = v6 ? "[" : "", *close = v6 ? "]" : "";
    bool ok = buffer_printf(&link->out, "CONNECT %s%s%s:%u HTTP/1.1\r\nHost: %s%s%s:%u\r\n", open,
                            link->host, close, (unsigned)link->port, open, link->host, close,
                            (unsigned)link->port);
    if (link->proxy_authorization) {
        ok = ok && !strpbrk(link->proxy_authorization, "\r\n") &&
             buffer_printf(&link->out, "Proxy-Authorization: %s\r\n", link->proxy_authorization);
    }
    if (!ok || strpbrk(link->host, " \r\n/") || !buffer_append_text(&link->out, "\r\n")) {
        fail(link, 0, 0, "the proxy's request cannot be written");
        return;
    }
    send_request(link);
}

void proxy__on_poll(struct net_link *link)
{
    if (link->out.len) send_request(link);
    else read_answer(link);
}

static void send_request(struct net_link *link)
{
    ssize_t sent = send(link->fd, link->out.data, link->out.len, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        fail(link, errno, 0, "the proxy closed the connection");
        return;
    }
    if (sent > 0) buffer_consume(&link->out, (size_t)sent);
    link__poll(link);
}

static void read_answer(struct net_link *link)
{
    if (!buffer_reserve(&link->kept, 2048)) {
        fail(link, ENOMEM, 0, "out of memory");
        return;
    }
    ssize_t got = recv(link->fd, link->kept.data + link->kept.len, 2048, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR) && !link->poll_failed) return;
    if (got <= 0) {
        fail(link, got < 0 ? errno : 0, 0, "the proxy closed the connection");
        return;
    }
    link->kept.len += (size_t)got;
    const uint8_t *end = memmem(link->kept.data, link->kept.len, "\r\n\r\n", 4);
    if (end) judge(link, (size_t)(end - link->kept.data) + 4);
    else if (link->kept.len > PROXY_HEAD_BYTES_MAX) fail(link, 0, 0, "the proxy's answer is too long");
}

static void judge(struct net_link *link, size_t head_len)
{
    char text[120];
    const char *head = (const char *)link->kept.data;
    if (head_len < 13 || memcmp(head, "HTTP/1.", 7) != 0 || head[8] != ' ') {
        fail(link, 0, 0, "the proxy does not speak HTTP");
        return;
    }
    int status = atoi(head + 9);
    if (status / 100 != 2) {
        const char *line_end = memchr(head, '\r', head_len);
        snprintf(text, sizeof text, "the proxy answered: %.*s",
                 (int)(line_end - head < 80 ? line_end - head : 80), head);
        fail(link, 0, status, text);
        return;
    }
    buffer_consume(&link->kept, head_len); /* what follows is the target's, if it speaks first */
    if (link->kept.len == 0) buffer_trim(&link->kept, 0);
    if (link->tls && link->kept.len) {
        fail(link, 0, status, "the proxy sent data before TLS began");
        return;
    }
    buffer_trim(&link->out, 0);
    link__connected(link);
}
