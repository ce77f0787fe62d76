/* Sends: each {"send":...} has one place here until its one answer. The runtime knows it by a
 * number, its consumer by an id of its own. */
#include <string.h>

#include "base/text.h"
#include "deliver/deliver_internal.h"
#include "deliver/envelope.h"

static bool is_configured(const struct deliver *d, const char *connection);
static void send_unlink(struct send *send);
static void refuse(struct deliver *d, struct attachment *a, const char *id, const char *why,
                   bool retry);

uint64_t deliver_send(struct deliver *d, const char *connection, const void *frame, size_t len,
                      bool text, void (*answered)(void *to, const char *why, bool retry), void *to,
                      const char **why)
{
    struct handle h = HANDLE_NONE;
    *why = NULL;
    if (!is_configured(d, connection)) *why = "no such connection";
    else if (!d->port.send) *why = "not up";
    struct send *send = *why ? NULL : slots_alloc(&d->sends, &h);
    if (!send) {
        if (!*why) *why = "too many sends are under way";
        return 0;
    }
    send->self = h;
    send->answered = answered;
    send->to = to;
    d->port.send(d->port.self, connection, handle_pack(h), frame, len, text);
    return handle_pack(h);
}

void deliver_send_drop(struct deliver *d, uint64_t send_id)
{
    struct send *send = slots_get(&d->sends, handle_unpack(send_id));
    if (!send) return;
    send_unlink(send);
    slots_free(&d->sends, send->self);
    if (d->port.send_dropped) d->port.send_dropped(d->port.self, send_id);
}

void deliver_send_answer(struct deliver *d, uint64_t send_id, const char *why, bool retry)
{
    struct send *send = slots_get(&d->sends, handle_unpack(send_id));
    if (!send) return; /* taken back meanwhile */
    struct send answered = *send;
    send_unlink(send);
    slots_free(&d->sends, answered.self);
    if (!answered.by) {
        answered.answered(answered.to, why, retry);
    } else if (why) {
        refuse(d, answered.by, answered.id, why, retry);
    } else {
        buffer_clear(&d->scratch);
        if (envelope_sent(&d->scratch, answered.id))
            attachment__answer(d, answered.by, &d->scratch);
    }
}

void send__from_consumer(struct deliver *d, struct attachment *a, const char *id,
                         const char *connection, const void *frame, size_t len, bool text)
{
    struct handle h = HANDLE_NONE;
    if (!a->can_send) {
        refuse(d, a, id, "this attachment may not send", false);
        return;
    }
    if (!is_configured(d, connection)) {
        refuse(d, a, id, "no such connection", false);
        return;
    }
    struct send *send = NULL;
    if (a->send_count < SENDS_PER_CONSUMER_MAX && d->port.send) send = slots_alloc(&d->sends, &h);
    if (!send) {
        refuse(d, a, id, d->port.send ? "too many sends are under way" : "not up", true);
        return;
    }
    send->self = h;
    send->by = a;
    text_copy(send->id, sizeof send->id, id, strlen(id));
    send->next = a->sends;
    if (a->sends) a->sends->prev = send;
    a->sends = send;
    a->send_count++;
    d->port.send(d->port.self, connection, handle_pack(h), frame, len, text);
}

void send__drop_all(struct deliver *d, struct attachment *a)
{
    while (a->sends) deliver_send_drop(d, handle_pack(a->sends->self));
    ASSERT(a->send_count == 0);
}

static bool is_configured(const struct deliver *d, const char *connection)
{
    const struct stream *s = stream__find(d, connection);
    return s && s->configured;
}

static void send_unlink(struct send *send)
{
    struct attachment *a = send->by;
    if (!a) return;
    if (send->prev) send->prev->next = send->next;
    else a->sends = send->next;
    if (send->next) send->next->prev = send->prev;
    ASSERT(a->send_count > 0);
    a->send_count--;
}

static void refuse(struct deliver *d, struct attachment *a, const char *id, const char *why,
                   bool retry)
{
    buffer_clear(&d->scratch);
    if (envelope_refused(&d->scratch, id, why, retry)) attachment__answer(d, a, &d->scratch);
}
