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

const char *proxy__shown(const char *host, uint16_t port, char out[PROXY_SHOWN_BYTES])
{
    snprintf(out, PROXY_SHOWN_BYTES, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, (unsigned)port);
    return out;
}

/* The status is the proxy's, so it is in `code`: http_status is the target's, and rules about it must not
 * take a proxy's 403 for a blocked account. */
struct cause proxy__refused(const char *shown, int status, const char *line, size_t len)
{
    while (len && (*line == ' ' || *line == '\t')) line++, len--;
    return net__cause(STAGE_CONNECTING, CAUSE_PROXY, status,
                      "the proxy at %.60s refused the tunnel: HTTP %d%s%.*s", shown, status,
                      len ? " " : "", (int)(len < 40 ? len : 40), len ? line : "");
}

static void end(struct net_link *link, const struct cause *cause)
{
    buffer_clear(&link->out);
    buffer_clear(&link->kept);
    link__end(link, cause);
}

/* "the proxy at H:P " and what it did. */
static void fail(struct net_link *link, int64_t code, const char *what)
{
    char shown[PROXY_SHOWN_BYTES];
    struct cause cause = net__cause(STAGE_CONNECTING, CAUSE_PROXY, code, "the proxy at %.80s %s",
                                    proxy__shown(link->proxy_host, link->proxy_port, shown), what);
    end(link, &cause);
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
        fail(link, 0, "cannot be asked: this target or authorization does not fit a request");
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
        fail(link, errno, "closed the connection during CONNECT");
        return;
    }
    if (sent > 0) buffer_consume(&link->out, (size_t)sent);
    link__poll(link);
}

static void read_answer(struct net_link *link)
{
    if (!buffer_reserve(&link->kept, 2048)) {
        fail(link, ENOMEM, "cannot be read: out of memory");
        return;
    }
    ssize_t got = recv(link->fd, link->kept.data + link->kept.len, 2048, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR) && !link->poll_failed) return;
    if (got <= 0) {
        fail(link, got < 0 ? errno : 0, "closed the connection during CONNECT");
        return;
    }
    link->kept.len += (size_t)got;
    const uint8_t *end = memmem(link->kept.data, link->kept.len, "\r\n\r\n", 4);
    if (end) judge(link, (size_t)(end - link->kept.data) + 4);
    else if (link->kept.len > PROXY_HEAD_BYTES_MAX) fail(link, 0, "gave an answer that is too long");
}

static void judge(struct net_link *link, size_t head_len)
{
    char shown[PROXY_SHOWN_BYTES];
    const char *head = (const char *)link->kept.data;
    int status = 0;
    bool good = head_len >= 16 && memcmp(head, "HTTP/1.", 7) == 0 && head[8] == ' ';
    for (int i = 9; good && i < 12; i++) {
        good = head[i] >= '0' && head[i] <= '9';
        status = status * 10 + head[i] - '0';
    }
    if (!good || status < 100) {
        fail(link, 0, "does not speak HTTP");
        return;
    }
    if (status / 100 != 2) {
        const char *line = head + 12, *line_end = memchr(line, '\r', head_len - 12);
        proxy__shown(link->proxy_host, link->proxy_port, shown);
        struct cause cause = proxy__refused(shown, status, line, (size_t)(line_end - line));
        end(link, &cause);
        return;
    }
    buffer_consume(&link->kept, head_len); /* what follows is the target's, if it speaks first */
    if (link->kept.len == 0) buffer_trim(&link->kept, 0);
    if (link->tls && link->kept.len) {
        fail(link, 0, "sent data before TLS began");
        return;
    }
    buffer_trim(&link->out, 0);
    dial__connected(link);
}
