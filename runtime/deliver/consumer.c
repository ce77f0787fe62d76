/* Consumers: who reads which streams, and how far each has acknowledged. Owns the registry of named
 * consumers, which outlive their attachments, and the subscriptions of all. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "deliver/deliver_internal.h"
#include "deliver/envelope.h"

static const char *attach_check(const struct attach *attach);
static bool consumer_join(struct deliver *d, struct consumer *c, const struct attach *attach);
static void sub_place(struct deliver *d, struct sub *sub, const struct attach *attach, bool is_new);
static void sub_register(struct deliver *d, struct sub *sub);
static void sub_owe_gap(struct sub *sub, const char *cause, bool certain, uint64_t to_wall_ms);
static void sub_start_reading(struct deliver *d, struct sub *sub);
static bool attachment_say_hello(struct deliver *d, struct attachment *a);

struct handle deliver_attach(struct deliver *d, const struct attach *attach,
                             const struct deliver_sink *sink, const char **why)
{
    struct handle h = HANDLE_NONE;
    *why = attach_check(attach);
    if (*why) return HANDLE_NONE;
    struct consumer *c = attach->consumer ? consumer__find(d, attach->consumer) : NULL;
    if (c && c->attachment) attachment__end(d, c->attachment, "replaced: attached again elsewhere");
    struct attachment *a = slots_alloc(&d->attachments, &h);
    bool is_new = !c;
    if (a && is_new) c = consumer__create(d, attach->consumer ? attach->consumer : "");
    if (!a || !c) {
        if (a) slots_free(&d->attachments, h);
        *why = "too many consumers";
        return HANDLE_NONE;
    }
    a->self = h;
    a->sink = *sink;
    a->states = attach->states;
    a->gaps = attach->gaps;
    a->can_send = attach->can_send;
    buffer_init(&a->answers, ANSWERS_BYTES_MAX);
    buffer_init(&a->input, DELIVER_LINE_BYTES_MAX);
    a->consumer = c;
    c->attachment = a;
    c->since_wall_ms = d->wall_ms;
    if (!attachment_say_hello(d, a)) {
        *why = "the attachment takes nothing";
    } else {
        bool ok = consumer__set_patterns(c, attach->patterns, attach->pattern_count);
        if (ok) keep__consumer(d, c); /* before the cursors that it gets now */
        if (ok && consumer_join(d, c, attach)) return h;
        *why = "memory is out";
    }
    attachment__end(d, a, NULL);
    if (is_new && attach->consumer) consumer__destroy(d, c);
    return HANDLE_NONE;
}

void deliver_detach(struct deliver *d, struct handle consumer)
{
    struct attachment *a = attachment__get(d, consumer);
    if (a) attachment__end(d, a, NULL);
}

bool deliver_consumer_forget(struct deliver *d, const char *name)
{
    struct consumer *c = name[0] ? consumer__find(d, name) : NULL;
    if (!c) return false;
    if (c->attachment) attachment__end(d, c->attachment, "forgotten by an operator");
    consumer__destroy(d, c);
    return true;
}

bool consumer__name_is_valid(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len >= NAME_BYTES) return false;
    for (size_t i = 0; i < len; i++) {
        char ch = name[i];
        bool letter = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z');
        if (!letter && !(ch >= '0' && ch <= '9') && ch != '.' && ch != '_' && ch != '-')
            return false;
    }
    return true;
}

struct consumer *consumer__find(const struct deliver *d, const char *name)
{
    struct handle h;
    struct consumer *c;
    for (uint32_t i = 0; (c = slots_next(&d->consumers, &i, &h)); i++) {
        if (c->name[0] && strcmp(c->name, name) == 0) return c;
    }
    return NULL;
}

struct attachment *attachment__get(const struct deliver *d, struct handle h)
{
    return slots_get(&d->attachments, h);
}

void attachment__end(struct deliver *d, struct attachment *a, const char *why)
{
    struct consumer *c = a->consumer;
    struct deliver_sink sink = a->sink;
    ASSERT(c->attachment == a);
    send__drop_all(d, a);
    attachment__unlist(d, a);
    for (struct sub *sub = c->subs; sub; sub = sub->consumer_next) {
        sub->ready = false;
        sub->state_due = false;
        sub->gap_due = false;
        if (!sub->reading) continue;
        sub->reading = false;
        ASSERT(sub->stream->reading > 0);
        sub->stream->reading--;
    }
    c->attachment = NULL;
    c->since_wall_ms = d->wall_ms;
    buffer_deinit(&a->answers);
    buffer_deinit(&a->input);
    slots_free(&d->attachments, a->self);
    if (c->name[0]) {
        if (c->kept) keep__consumer(d, c);
        for (struct sub *sub = c->subs; sub; sub = sub->consumer_next) stream__trim(d, sub->stream);
    } else {
        consumer__destroy(d, c);
    }
    if (why) sink.detached(sink.self, why);
}

void consumer__destroy(struct deliver *d, struct consumer *c)
{
    ASSERT(c->attachment == NULL);
    keep__consumer_gone(d, c);
    while (c->subs) {
        struct stream *s = c->subs->stream;
        sub__destroy(d, c->subs);
        stream__trim(d, s);
    }
    free(c->patterns);
    slots_free(&d->consumers, c->self);
}

bool consumer__join_stream(struct deliver *d, struct stream *s)
{
    struct handle h;
    struct consumer *c;
    for (uint32_t i = 0; (c = slots_next(&d->consumers, &i, &h)); i++) {
        if (!consumer__wants(c, s->name)) continue;
        struct sub *sub = sub__create(c, s);
        if (!sub) return false;
        sub_register(d, sub);
        if (c->attachment) sub_start_reading(d, sub);
    }
    return true;
}

void sub__destroy(struct deliver *d, struct sub *sub)
{
    struct stream *s = sub->stream;
    struct consumer *c = sub->consumer;
    if (c->attachment) sub__unready(sub);
    keep__sub_ends(d, sub);
    if (sub->reading) s->reading--;
    if (c->name[0]) s->named--;
    if (sub->stream_prev) sub->stream_prev->stream_next = sub->stream_next;
    else s->subs = sub->stream_next;
    if (sub->stream_next) sub->stream_next->stream_prev = sub->stream_prev;
    if (sub->consumer_prev) sub->consumer_prev->consumer_next = sub->consumer_next;
    else c->subs = sub->consumer_next;
    if (sub->consumer_next) sub->consumer_next->consumer_prev = sub->consumer_prev;
    free(sub);
}

struct sub *consumer__ack_find(struct deliver *d, struct consumer *c, const char *connection,
                               struct position at, uint64_t *offset_out, const char **why)
{
    *why = NULL;
    if (!c->name[0]) {
        *why = "an anonymous consumer has nothing to acknowledge";
        return NULL;
    }
    const struct stream *s = stream__find(d, connection);
    struct sub *sub = s ? sub__find(c, s) : NULL;
    if (!s) *why = "no such connection";
    else if (!sub) *why = "this consumer does not read that connection";
    else if (at.epoch > d->epoch) *why = "that epoch has not begun";
    if (*why || !stream__offset(d, s, at, offset_out)) return NULL;
    if (*offset_out <= sub->told_max) return sub;
    *why = "that frame was not delivered yet";
    return NULL;
}

void sub__ack(struct deliver *d, struct sub *sub, uint64_t offset)
{
    struct stream *s = sub->stream;
    ASSERT(offset <= s->last_offset);
    if (offset < sub->acked || (offset == sub->acked && !sub->acked_unknown)) return;
    uint64_t seq = stream__seq_after(s, offset);
    if (seq > s->first_seq && stream__record(s, seq - 1)->offset == offset)
        sub->acked_wall_ms = stream__record(s, seq - 1)->wall_ms;
    sub->acked = offset;
    sub->acked_unknown = false;
    keep__moved(d, sub);
    stream__trim(d, s);
    struct position at = stream__position(d, s, offset);
    if (d->port.acked)
        d->port.acked(d->port.self, s->name, sub->consumer->name, at.epoch, at.offset);
}

static const char *attach_check(const struct attach *attach)
{
    if (attach->consumer && !consumer__name_is_valid(attach->consumer))
        return "a consumer's name has 1 to 63 of A-Z a-z 0-9 . _ -";
    if (attach->pattern_count > ATTACH_PATTERNS_MAX) return "too many patterns";
    for (uint32_t i = 0; i < attach->pattern_count; i++) {
        size_t len = strlen(attach->patterns[i]);
        if (len == 0 || len >= PATTERN_BYTES) return "a pattern has 1 to 127 bytes";
    }
    if (!attach->has_from) return NULL;
    if (attach->from == ATTACH_CURSOR && !attach->consumer)
        return "only a named consumer has a cursor";
    if (attach->from == ATTACH_POSITION &&
        (attach->pattern_count != 1 || strpbrk(attach->patterns[0], "*?")))
        return "a position belongs to one connection: name exactly one";
    return NULL;
}

struct consumer *consumer__create(struct deliver *d, const char *name)
{
    struct handle h;
    struct consumer *c = slots_alloc(&d->consumers, &h);
    if (!c) return NULL;
    c->self = h;
    text_copy(c->name, sizeof c->name, name, strlen(name));
    return c;
}

bool consumer__set_patterns(struct consumer *c, const char *const *patterns, uint32_t count)
{
    char(*copies)[PATTERN_BYTES] = NULL;
    if (count) {
        copies = malloc(count * sizeof *copies);
        if (!copies) return false;
    }
    for (uint32_t i = 0; i < count; i++)
        text_copy(copies[i], PATTERN_BYTES, patterns[i], strlen(patterns[i]));
    free(c->patterns);
    c->patterns = copies;
    c->pattern_count = count;
    return true;
}

bool consumer__wants(const struct consumer *c, const char *connection)
{
    if (c->pattern_count == 0) return true;
    for (uint32_t i = 0; i < c->pattern_count; i++) {
        if (text_glob(c->patterns[i], connection)) return true;
    }
    return false;
}

/* Cursors of connections that the patterns no longer name are given up: nobody will ever move them.
 */
static bool consumer_join(struct deliver *d, struct consumer *c, const struct attach *attach)
{
    for (struct sub *sub = c->subs, *next; sub; sub = next) {
        next = sub->consumer_next;
        if (consumer__wants(c, sub->stream->name)) continue;
        struct stream *s = sub->stream;
        sub__destroy(d, sub);
        stream__trim(d, s);
    }
    struct handle h;
    struct stream *s;
    for (uint32_t i = 0; (s = slots_next(&d->streams, &i, &h)); i++) {
        if (!consumer__wants(c, s->name)) continue;
        struct sub *sub = sub__find(c, s);
        bool is_new = !sub;
        if (is_new) sub = sub__create(c, s);
        if (!sub) return false;
        sub_place(d, sub, attach, is_new);
        if (is_new) sub_register(d, sub);
        sub_start_reading(d, sub);
    }
    return true;
}

struct sub *sub__create(struct consumer *c, struct stream *s)
{
    struct sub *sub = calloc(1, sizeof *sub);
    if (!sub) return NULL;
    sub->consumer = c;
    sub->stream = s;
    sub->acked = sub->told = sub->told_max = stream__start(s);
    sub->next_seq = s->first_seq;
    sub->stream_next = s->subs;
    if (s->subs) s->subs->stream_prev = sub;
    s->subs = sub;
    sub->consumer_next = c->subs;
    if (c->subs) c->subs->consumer_prev = sub;
    c->subs = sub;
    if (c->name[0]) s->named++;
    return sub;
}

struct sub *sub__find(const struct consumer *c, const struct stream *s)
{
    struct sub *sub = s->subs;
    while (sub && sub->consumer != c) sub = sub->stream_next;
    return sub;
}

/* Where reading begins. A named consumer's cursor moves by its own acks alone, whatever it asks to
 * read; only a new one's cursor begins where its reading does. */
static void sub_place(struct deliver *d, struct sub *sub, const struct attach *attach, bool is_new)
{
    struct stream *s = sub->stream;
    enum attach_from from = attach->from;
    if (!attach->has_from) from = attach->consumer ? ATTACH_CURSOR : ATTACH_NOW;
    uint64_t start = stream__start(s), at = start;
    sub->gap_due = false;
    sub->told_wall_ms = 0;
    if (from == ATTACH_NOW) {
        at = s->last_offset;
        sub->told_wall_ms = s->last_wall_ms;
    } else if (from == ATTACH_CURSOR && !is_new) {
        at = sub->acked;
        sub->told_wall_ms = sub->acked_wall_ms;
    } else if (from == ATTACH_POSITION) {
        struct position asked = { attach->epoch, attach->offset };
        bool known = stream__offset(d, s, asked, &at);
        if (!known || at > s->last_offset) {
            at = start;
            sub_owe_gap(sub, known ? "unknown position" : "unknown epoch", false, d->wall_ms);
        }
    }
    bool goes_on = (from == ATTACH_CURSOR && !is_new) || from == ATTACH_POSITION;
    uint64_t begin = at > sub->acked ? at : sub->acked; /* a new one's cursor */
    sub->told = at;
    if (from == ATTACH_CURSOR && !is_new && sub->acked_unknown) {
        sub_owe_gap(sub, "unknown epoch", false, d->wall_ms);
    } else if (from == ATTACH_CURSOR && is_new && start > stream__oldest(s)) {
        /* Maybe it was here before, and was forgotten: nobody else will tell it what it misses. */
        sub_owe_gap(sub, "no cursor", false, 0);
        sub->told = stream__oldest(s);
        begin = sub->told; /* until it acknowledges something it is told again */
    } else if (goes_on && !sub->gap_due && s->drop_rank > at * 2) {
        sub_owe_gap(sub, s->drop_cause, true, s->drop_wall_ms);
    } else if (goes_on && !sub->gap_due && start > at) {
        sub_owe_gap(sub, "no longer held", true, s->last_wall_ms);
    }
    sub->gap_then = at > start ? at : start;
    if (at > sub->told_max) sub->told_max = at;
    if (is_new) sub->acked = begin;
    sub->next_seq = from == ATTACH_NOW ? s->end_seq : stream__seq_after(s, at);
    if (sub->next_seq < s->first_seq) sub->next_seq = s->first_seq;
}

/* A new cursor of a stream that has frames: without it a restart would begin at the oldest. */
static void sub_register(struct deliver *d, struct sub *sub)
{
    if (sub->stream->last_offset > 0) keep__cursor(d, sub);
}

static void sub_owe_gap(struct sub *sub, const char *cause, bool certain, uint64_t to_wall_ms)
{
    sub->gap_due = true;
    sub->gap_cause = cause;
    sub->gap_certain = certain;
    sub->gap_to_ms = to_wall_ms;
}

static void sub_start_reading(struct deliver *d, struct sub *sub)
{
    struct stream *s = sub->stream;
    ASSERT(!sub->reading);
    sub->reading = true;
    s->reading++;
    sub->states_from = s->end_seq;
    sub->state_due = s->state_line.len > 0;
    if (sub->state_due || sub->gap_due || sub->next_seq < s->end_seq) sub__make_ready(d, sub);
}

static bool attachment_say_hello(struct deliver *d, struct attachment *a)
{
    const char *name = a->consumer->name[0] ? a->consumer->name : NULL;
    buffer_clear(&d->scratch);
    return envelope_hello(&d->scratch, name, d->options.store) &&
           a->sink.write(a->sink.self, d->scratch.data, d->scratch.len);
}
