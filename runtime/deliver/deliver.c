/* Deliver: creation and the end of everything; the age of what is held. The rest is in stream.c
 * (what is held), consumer.c (who reads), pump.c (how it gets there), input.c and send.c (what
 * comes back). */
#include "deliver/deliver_internal.h"

#include <stdlib.h>
#include <string.h>

#define CONSUMERS_DEFAULT 1024u
/* The lines lie in the backlog anyway, whose own bound this is. Less would detach a consumer that is not
 * slow at all: some thousand links can bring megabytes in one turn of the loop. */
#define CONSUMER_BYTES_DEFAULT ((size_t)64 << 20)
#define NAMED_AGE_DEFAULT_MS ((uint64_t)7 * 24 * 3600 * 1000)
/* How old the keeper's word of an attached consumer may become: after a crash its age counts
 * from there. */
#define KEPT_REFRESH_MS ((uint64_t)3600 * 1000)

/* Time for a connection to be added after a start, before its backlog is taken for left behind. */
#define LEFT_BEHIND_MS 60000u
/* Of one piece of deliver_expire(): less than a millisecond's work. */
#define EXPIRE_STREAMS_MAX 512u
#define EXPIRE_FRAMES_MAX 2048u

static bool stream_is_over(struct deliver *d, struct stream *s);

struct deliver *deliver_create(const struct deliver_options *options)
{
    struct deliver *d = calloc(1, sizeof *d);
    if (!d) return NULL;
    d->options = *options;
    if (!d->options.consumers_max) d->options.consumers_max = CONSUMERS_DEFAULT;
    if (!d->options.consumer_bytes_max) d->options.consumer_bytes_max = CONSUMER_BYTES_DEFAULT;
    if (!d->options.named_age_ms) d->options.named_age_ms = NAMED_AGE_DEFAULT_MS;
    if (!d->options.store) d->options.store = "memory";
    d->epoch = options->epoch;
    d->wall_ms = options->wall_ms;
    d->delay.scale = HISTOGRAM_LONG;
    slots_init(&d->streams, sizeof(struct stream), STREAMS_MAX);
    slots_init(&d->consumers, sizeof(struct consumer), d->options.consumers_max);
    slots_init(&d->attachments, sizeof(struct attachment), d->options.consumers_max);
    slots_init(&d->sends, sizeof(struct send), SENDS_MAX);
    buffer_init(&d->scratch, 0);
    buffer_init(&d->decoded, 0);
    buffer_init(&d->kept, 0);
    if (input__init(d)) return d;
    deliver_destroy(d);
    return NULL;
}

void deliver_destroy(struct deliver *d)
{
    if (!d) return;
    deliver_set_keeper(d, NULL); /* an end is no detachment, and nobody is forgotten by it */
    struct handle h;
    struct attachment *a;
    struct consumer *c;
    struct stream *s;
    for (uint32_t i = 0; (a = slots_next(&d->attachments, &i, &h)); i++)
        attachment__end(d, a, NULL);
    for (uint32_t i = 0; (c = slots_next(&d->consumers, &i, &h)); i++) consumer__destroy(d, c);
    for (uint32_t i = 0; (s = slots_next(&d->streams, &i, &h)); i++) stream__destroy(d, s);
    slots_deinit(&d->streams);
    slots_deinit(&d->consumers);
    slots_deinit(&d->attachments);
    slots_deinit(&d->sends);
    segment_pool__deinit(&d->pool);
    buffer_deinit(&d->scratch);
    buffer_deinit(&d->decoded);
    buffer_deinit(&d->kept);
    free(d->buckets);
    free(d);
}

void deliver_set_port(struct deliver *d, const struct deliver_port *port)
{
    d->port = *port;
}

void deliver_clock(struct deliver *d, uint64_t wall_ms)
{
    d->clock_wall_ms = wall_ms;
}

const struct histogram *deliver_delay(const struct deliver *d)
{
    return &d->delay;
}

uint64_t deliver_epoch(const struct deliver *d)
{
    return d->epoch;
}

/* Streams, then what the keeper has not heard, then consumers: a piece of it, so that ten thousand connections, or a
 * consumer that stayed away, hold nobody up. */
bool deliver_expire(struct deliver *d, uint64_t wall_ms)
{
    struct handle h;
    struct stream *s;
    struct consumer *c;
    uint32_t frames = EXPIRE_FRAMES_MAX;
    d->wall_ms = wall_ms;
    for (uint32_t n = 0; (s = slots_next(&d->streams, &d->expire_at, &h)); n++) {
        if (n == EXPIRE_STREAMS_MAX || !stream__expire(d, s, wall_ms, &frames)) return true;
        d->expire_at++;
        if (!s->configured && stream_is_over(d, s)) stream__destroy(d, s);
    }
    if (!keep__flush(d, true, EXPIRE_STREAMS_MAX)) return true;
    for (uint32_t i = 0; (c = slots_next(&d->consumers, &i, &h)); i++) {
        if (c->since_wall_ms == 0) c->since_wall_ms = wall_ms;
        if (c->attachment) {
            if (c->kept && wall_ms - c->kept_wall_ms > KEPT_REFRESH_MS) keep__consumer(d, c);
        } else if (wall_ms > c->since_wall_ms &&
                   wall_ms - c->since_wall_ms > d->options.named_age_ms) {
            consumer__destroy(d, c);
        }
    }
    d->expire_at = 0;
    return false;
}

bool deliver_wants_rest(const struct deliver *d)
{
    return segment_pool__wants_rest(&d->pool);
}

bool deliver_rest(struct deliver *d)
{
    return segment_pool__rest(&d->pool);
}

/* What was removed goes with its last frame. What was restored may still be added: its positions
 * stay. */
static bool stream_is_over(struct deliver *d, struct stream *s)
{
    if (s->removed) return !stream__is_needed(s);
    if (s->idle_wall_ms == 0 || s->idle_wall_ms > d->wall_ms) s->idle_wall_ms = d->wall_ms;
    if (s->unclean && s->named > 0 && d->wall_ms - s->idle_wall_ms > LEFT_BEHIND_MS) {
        s->unclean = false;
        stream__gap(d, s, "unclean start", false, d->wall_ms);
    }
    if (stream__is_needed(s)) return false;
    return d->wall_ms - s->idle_wall_ms > d->options.named_age_ms;
}
