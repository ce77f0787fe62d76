/* Checkers of I7, the way of frames: from acceptance to the disk and to each consumer, over attachments,
 * crashes and power cuts. Knows positions only, not what is in a frame. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "sim/checkers_internal.h"

/* Whoever was away longer may have been forgotten: 7 days, by deliver's default. */
#define FORGOTTEN_AFTER_MS ((uint64_t)6 * 24 * 3600 * 1000)

typedef unsigned long long ull;

void checkers__frames_free(struct checkers *k)
{
    for (uint32_t i = 0; i < k->reader_count; i++) free(k->readers[i].connection);
    for (uint32_t i = 0; i < k->stream_count; i++) free(k->streams[i].stretches);
    free(k->readers);
    free(k->streams);
}

static struct checked_stream *stream_of(struct checkers *k, const char *name)
{
    for (uint32_t i = 0; i < k->stream_count; i++) {
        if (strcmp(k->streams[i].name, name) == 0) return &k->streams[i];
    }
    k->streams = realloc(k->streams, (k->stream_count + 1) * sizeof *k->streams);
    ASSERT(k->streams != NULL);
    struct checked_stream *s = &k->streams[k->stream_count++];
    memset(s, 0, sizeof *s);
    text_copy(s->name, sizeof s->name, name, strlen(name));
    return s;
}

/* NULL when nothing was accepted in it. */
static struct stretch *stretch_of(const struct checked_stream *s, uint64_t epoch)
{
    for (uint32_t i = s->count; i > 0; i--) {
        if (s->stretches[i - 1].epoch == epoch) return &s->stretches[i - 1];
    }
    return NULL;
}

/* ---- accepted, safe, acknowledged ----------------------------------------------------------------------- */

void checkers_delivered(struct checkers *k, struct handle conn, uint64_t offset)
{
    struct checked *c = checkers__find(k, conn);
    if (!c) return;
    struct checked_stream *s = stream_of(k, c->name);
    struct stretch *t = stretch_of(s, k->epoch);
    /* One process counts without a hole; the next goes on behind all that is safe. */
    uint64_t before = c->last_offset ? c->last_offset : t ? t->last : 0;
    if (c->last_offset ? offset != before + 1 : offset <= before) {
        checkers__violated(k, "I7", c, "frame %llu was accepted after frame %llu", (ull)offset,
                           (ull)before);
    }
    if (!t) {
        if (s->count && offset <= s->stretches[s->count - 1].safe) {
            checkers__violated(k, "I7", c, "frame %llu was accepted, and frame %llu of an earlier"
                               " process is safe", (ull)offset, (ull)s->stretches[s->count - 1].safe);
        }
        if (s->count == s->capacity) {
            s->capacity = s->capacity ? s->capacity * 2 : 8;
            s->stretches = realloc(s->stretches, s->capacity * sizeof *s->stretches);
            ASSERT(s->stretches != NULL);
        }
        t = &s->stretches[s->count++];
        *t = (struct stretch){ .epoch = k->epoch, .first = offset };
    }
    t->last = offset;
    c->last_offset = offset;
    c->counts.delivered++;
}

void checkers_acked(struct checkers *k, struct handle conn, uint64_t offset)
{
    struct checked *c = checkers__find(k, conn);
    if (!c || world_disk_safe(k->world, c->name) >= offset) return;
    checkers__violated(k, "I7", c, "frame %llu is acknowledged to the platform before it is safe",
                       (ull)offset);
}

void checkers_safe(struct checkers *k, const char *connection, uint64_t epoch, uint64_t offset)
{
    struct stretch *t = stretch_of(stream_of(k, connection), epoch);
    if (t && offset > t->safe && offset >= t->first) t->safe = offset;
}

void checkers_restarted(struct checkers *k, uint64_t epoch, const char *lost)
{
    if (lost) checkers__violated(k, "I7", NULL, "%s", lost);
    if (epoch < k->epoch) {
        checkers__violated(k, "I7", NULL, "epoch %llu begins after epoch %llu", (ull)epoch,
                           (ull)k->epoch);
    }
    k->epoch = epoch;
}

/* ---- consumed -------------------------------------------------------------------------------------------- */

static struct reader *reader_of(struct checkers *k, uint64_t consumer, const char *connection)
{
    const struct reader *other = NULL;
    for (uint32_t i = 0; i < k->reader_count; i++) {
        if (k->readers[i].consumer != consumer) continue;
        if (strcmp(k->readers[i].connection, connection) == 0) return &k->readers[i];
        if (!k->readers[i].connection[0]) other = &k->readers[i];
    }
    struct reader made = { .consumer = consumer, .gap = true, .heard_ms = world_now_ms(k->world) };
    if (other) {
        made.attachment = other->attachment;
        made.named = other->named;
    }
    k->readers = realloc(k->readers, (k->reader_count + 1) * sizeof *k->readers);
    ASSERT(k->readers != NULL);
    struct reader *r = &k->readers[k->reader_count++];
    *r = made;
    r->connection = strdup(connection);
    ASSERT(r->connection != NULL);
    return r;
}

void checkers_attached(struct checkers *k, uint64_t consumer, uint64_t attachment, bool named)
{
    reader_of(k, consumer, ""); /* what those of connections that it meets later begin with */
    for (uint32_t i = 0; i < k->reader_count; i++) {
        struct reader *r = &k->readers[i];
        if (r->consumer != consumer) continue;
        bool forgotten = world_now_ms(k->world) - r->heard_ms > FORGOTTEN_AFTER_MS;
        r->attachment = attachment;
        r->epoch = r->offset = 0; /* a new attachment may begin with what it had before */
        r->gap = true;
        r->named = named;
        r->heard_ms = world_now_ms(k->world);
        if (!named || forgotten) r->most_epoch = r->most_offset = 0;
    }
}

/* The first safe frame behind the reader's newest and before (epoch, offset). False: there is none. */
static bool lacks(const struct checked_stream *s, const struct reader *r, uint64_t epoch,
                  uint64_t offset, uint64_t *epoch_out, uint64_t *offset_out)
{
    for (uint32_t i = 0; i < s->count; i++) {
        const struct stretch *t = &s->stretches[i];
        if (t->epoch < r->most_epoch || t->epoch > epoch || t->safe == 0) continue;
        uint64_t from = t->epoch == r->most_epoch ? r->most_offset + 1 : t->first;
        uint64_t to = t->epoch == epoch && offset <= t->safe ? offset - 1 : t->safe;
        if (from < t->first) from = t->first;
        if (from > to) continue;
        *epoch_out = t->epoch;
        *offset_out = from;
        return true;
    }
    return false;
}

static void on_event(struct checkers *k, struct reader *r, const struct checked *about,
                     uint64_t epoch, uint64_t offset)
{
    uint64_t lost_epoch, lost_offset;
    if (r->epoch == 0) {
        /* The first of this attachment. */
    } else if (epoch < r->epoch) {
        checkers__violated(k, "I7", about, "a consumer got epoch %llu after %llu", (ull)epoch,
                           (ull)r->epoch);
    } else if (epoch == r->epoch && offset <= r->offset) {
        checkers__violated(k, "I7", about, "a consumer got frame %llu after %llu", (ull)offset,
                           (ull)r->offset);
    } else if (epoch == r->epoch && offset > r->offset + 1 && !r->gap) {
        checkers__violated(k, "I7", about, "a consumer lost frames %llu to %llu without a gap",
                           (ull)r->offset + 1, (ull)offset - 1);
    }
    bool newer = epoch > r->most_epoch || (epoch == r->most_epoch && offset > r->most_offset);
    if (newer && r->named && r->most_epoch && !r->dropped &&
        lacks(stream_of(k, r->connection), r, epoch, offset, &lost_epoch, &lost_offset)) {
        checkers__violated(k, "I7", about, "a consumer got frame %llu.%llu, and %llu.%llu, which is safe,"
                           " never came", (ull)epoch, (ull)offset, (ull)lost_epoch, (ull)lost_offset);
    }
    r->epoch = epoch;
    r->offset = offset;
    r->gap = false;
    if (!newer) return;
    r->most_epoch = epoch;
    r->most_offset = offset;
    r->dropped = false;
}

void checkers_consumed(struct checkers *k, const char *connection, uint64_t consumer, uint64_t epoch,
                       uint64_t offset, const char *gap)
{
    struct reader *r = reader_of(k, consumer, connection);
    r->heard_ms = world_now_ms(k->world);
    if (gap) {
        r->gap = true;
        /* The only gaps that a safe frame may fall into. */
        if (strcmp(gap, "overflow") == 0 || strcmp(gap, "too old") == 0) r->dropped = true;
        return;
    }
    struct checked about = { 0 };
    text_copy(about.name, sizeof about.name, connection, strlen(connection));
    on_event(k, r, &about, epoch, offset);
}

void checkers_caught_up(struct checkers *k, uint64_t consumer)
{
    for (uint32_t i = 0; i < k->reader_count; i++) {
        struct reader *r = &k->readers[i];
        uint64_t epoch, offset;
        if (r->consumer != consumer || !r->named || !r->most_epoch || r->dropped) continue;
        if (!lacks(stream_of(k, r->connection), r, UINT64_MAX, UINT64_MAX, &epoch, &offset)) continue;
        struct checked about = { 0 };
        text_copy(about.name, sizeof about.name, r->connection, strlen(r->connection));
        checkers__violated(k, "I7", &about, "frame %llu.%llu is safe, and never came to a consumer",
                           (ull)epoch, (ull)offset);
    }
}
