/* NDJSON on the UNIX socket: the first byte decides whether a client speaks it or HTTP. Owns the
 * descriptor of those that do: reads lines, writes what is queued. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "deliver/envelope.h"
#include "ops/ops_internal.h"

#define FIRST_LINE_BYTES_MAX ((size_t)64 << 10)
#define READ_BYTES (64u << 10)
#define READS_PER_TURN 4

static void on_first_byte(uv_poll_t *handle, int status, int events);
static void on_ready(uv_poll_t *handle, int status, int events);
static bool take(struct client *c, const char *bytes, size_t len);
static bool take_first_line(struct client *c, const char *bytes, size_t len, size_t *used);
static void refuse(struct client *c, const char *what, const char *expected);

void ndjson__peek(struct client *c)
{
    c->kind = CLIENT_PEEKED;
    c->poller = poller__open(c->ops, c->fd, c, UV_READABLE, on_first_byte);
    if (!c->poller) ndjson__end(c);
}

void ndjson__end(struct client *c)
{
    poller__close(c->poller);
    c->poller = NULL;
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    client__destroy(c);
}

void ndjson__flush(struct client *c)
{
    while (c->sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            poller__events(c->poller, UV_READABLE | UV_WRITABLE, on_ready);
            if (c->closing && !c->kill_ms) c->kill_ms = uv_now(c->ops->loop) + CLOSE_WAIT_MS;
            return;
        }
        if (n < 0) {
            ndjson__end(c);
            return;
        }
        c->sent += (size_t)n;
    }
    if (c->closing) {
        ndjson__end(c);
        return;
    }
    poller__events(c->poller, UV_READABLE, on_ready);
    lines__drained(c);
}

size_t ndjson__push(struct client *c, const void *lines, size_t len)
{
    size_t taken = 0;
    while (c->sent < c->out.len || taken < len) {
        size_t queued = c->out.len - c->sent;
        struct iovec parts[] = { { c->out.data + c->sent, queued }, { (uint8_t *)lines + taken, len - taken } };
        struct msghdr both = { .msg_iov = queued ? parts : parts + 1, .msg_iovlen = queued && taken < len ? 2 : 1 };
        ssize_t n = sendmsg(c->fd, &both, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break;
        size_t of_queue = (size_t)n < queued ? (size_t)n : queued;
        c->sent += of_queue;
        taken += (size_t)n - of_queue;
    }
    buffer_consume(&c->out, c->sent);
    c->sent = 0;
    return taken;
}

static void on_first_byte(uv_poll_t *handle, int status, int events)
{
    struct poller *p = handle->data;
    struct client *c = p->owner;
    char byte;
    (void)status;
    (void)events;
    if (!c) return;
    ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        ndjson__end(c);
        return;
    }
    if (byte != '{') {
        poller__close(c->poller);
        c->poller = NULL;
        http__adopt(c);
        return;
    }
    c->kind = CLIENT_NDJSON;
    c->scope = OPS_OPERATE; /* who may open the socket may do all */
    poller__events(c->poller, UV_READABLE, on_ready);
}

static void on_ready(uv_poll_t *handle, int status, int events)
{
    struct poller *p = handle->data;
    struct client *c = p->owner;
    char bytes[READ_BYTES];
    if (status < 0) p->events = 0; /* libuv has stopped watching */
    if (!c) return;
    if (status == 0 && (events & UV_WRITABLE)) {
        ndjson__flush(c);
        if (!p->owner) return; /* it ended */
    }
    if (status == 0 && !(events & UV_READABLE)) return;
    for (int i = 0; i < READS_PER_TURN; i++) {
        ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        if (n <= 0) {
            ndjson__end(c);
            return;
        }
        if (!take(c, bytes, (size_t)n)) return;
        if ((size_t)n < sizeof bytes) return;
    }
}

/* False: stop reading, it is being closed. */
static bool take(struct client *c, const char *bytes, size_t len)
{
    if (c->closing) return false;
    size_t used = 0;
    if (handle_is_none(c->consumer) && !take_first_line(c, bytes, len, &used)) return !c->closing;
    if (used < len) deliver_input(c->ops->deliver, c->consumer, bytes + used, len - used);
    return !c->closing;
}

/* True once attached; `used` bytes were its line. */
static bool take_first_line(struct client *c, const char *bytes, size_t len, size_t *used)
{
    const char *end = memchr(bytes, '\n', len), *why;
    size_t part = end ? (size_t)(end - bytes) + 1 : len;
    if (c->body.len + part > FIRST_LINE_BYTES_MAX || !buffer_append(&c->body, bytes, part)) {
        refuse(c, "the first line is too long", "at most 64 KiB");
        return false;
    }
    if (!end) return false;
    *used = part;
    bool ok =
        attach_parse_json((const char *)c->body.data, c->body.len, &c->attach, &c->query, &why);
    c->attach.can_send = true;
    if (ok) ok = lines__attach(c, &why);
    buffer_clear(&c->body);
    buffer_trim(&c->body, 0);
    if (!ok)
        refuse(c, why,
               "{\"attach\":{\"consumer\":\"NAME\",\"connections\":[\"PATTERN\"],\"from\":"
               "\"cursor\"}}");
    return ok;
}

static void refuse(struct client *c, const char *what, const char *expected)
{
    envelope_error(&c->out, what, expected);
    c->closing = true;
    client__touch(c);
}
