/* Lines: the sink of an attachment, the same for WebSocket, NDJSON over HTTP and NDJSON on the UNIX
 * socket. Owns the bounded queue of a client; a full one makes deliver wait, not grow. */
#include <stdio.h>
#include <string.h>

#include "deliver/envelope.h"
#include "ops/ops_internal.h"

#define DIRECT_BYTES_MIN (16u << 10) /* lines worth a system call of their own instead of a copy */
#define QUEUE_KEPT (16u << 10) /* memory of an idle attachment's queue */

static bool sink_write(void *self, const void *lines, size_t len);
static bool queue_rest(struct client *c, const void *rest, size_t len);
static void sink_detached(void *self, const char *why);

bool lines__attach(struct client *c, const char **why)
{
    struct deliver_sink sink = { .self = c, .write = sink_write, .detached = sink_detached };
    ASSERT(handle_is_none(c->consumer));
    *why = NULL;
    if (c->ops->suspended[0]) {
        *why = c->ops->suspended;
        return false;
    }
    if (c->own_consumer) {
        /* A token for one consumer is that consumer. */
        if (c->attach.consumer && strcmp(c->attach.consumer, c->own_consumer) != 0) {
            *why = "this token belongs to another consumer";
            return false;
        }
        c->attach.consumer = c->own_consumer;
    }
    c->consumer = deliver_attach(c->ops->deliver, &c->attach, &sink, why);
    return !handle_is_none(c->consumer);
}

void lines__detach(struct client *c)
{
    if (handle_is_none(c->consumer)) return;
    struct handle h = c->consumer;
    c->consumer = HANDLE_NONE;
    deliver_detach(c->ops->deliver, h);
}

void lines__drained(struct client *c)
{
    buffer_clear(&c->out);
    buffer_trim(&c->out, QUEUE_KEPT);
    c->sent = 0;
    if (c->leaving) leave__written(c);
    if (!c->blocked) return;
    c->blocked = false;
    deliver_resume(c->ops->deliver, c->consumer); /* the pump comes before the next poll */
}

size_t lines__queued(const struct client *c)
{
    size_t at = c->kind == CLIENT_NDJSON ? 0 : LWS_PRE;
    return c->out.len > at + c->sent ? c->out.len - at - c->sent : 0;
}

static bool sink_write(void *self, const void *lines, size_t len)
{
    static const uint8_t room[LWS_PRE];
    struct client *c = self;
    size_t queued = lines__queued(c);
    if (len >= DIRECT_BYTES_MIN && c->kind == CLIENT_NDJSON && !c->blocked && !c->closing) {
        size_t taken = ndjson__push(c, lines, len);
        if (taken) return queue_rest(c, (const uint8_t *)lines + taken, len - taken);
        queued = lines__queued(c);
    }
    if (queued > 0 && queued + len > c->ops->options.queue_bytes_max && !c->blocked && c->kind == CLIENT_NDJSON) {
        ndjson__push(c, NULL, 0);
        queued = lines__queued(c);
    }
    /* A line of any length passes when nothing is before it. */
    bool full = queued > 0 && queued + len > c->ops->options.queue_bytes_max;
    bool ok = !full && !c->closing;
    if (ok && c->out.len == 0 && c->kind != CLIENT_NDJSON)
        ok = buffer_append(&c->out, room, sizeof room);
    if (!ok || !buffer_append(&c->out, lines, len)) {
        c->blocked = true;
        return false;
    }
    client__touch(c);
    return true;
}

/* Of lines that the socket has begun to take. */
static bool queue_rest(struct client *c, const void *rest, size_t len)
{
    if (!buffer_append(&c->out, rest, len)) c->closing = true; /* half a line must not be followed by another */
    if (len) client__touch(c);
    return true;
}

static void sink_detached(void *self, const char *why)
{
    struct client *c = self;
    c->consumer = HANDLE_NONE;
    snprintf(c->why, sizeof c->why, "%s", why);
    if (c->kind == CLIENT_NDJSON) envelope_error(&c->out, why, "attach again");
    c->closing = true;
    client__touch(c);
}
