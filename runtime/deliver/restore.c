/* Restore: what an earlier process left, put back before any connection is added. Every value
 * comes from a file and is hostile: what does not fit its place is left out, and the hole that
 * it leaves is told. */
#include <cjson/cJSON.h>
#include <string.h>

#include "deliver/deliver_internal.h"

/* Far beyond any count of frames, and safe to double. */
#define OFFSET_MAX ((uint64_t)1 << 61)

static struct stream *stream_of(struct deliver *d, const char *connection);
static void settle(struct deliver *d);
static void settle_stream(struct deliver *d, struct stream *s);
static void go_to(struct deliver *d, struct stream *s, uint64_t offset, uint64_t wall_ms);
static bool line_is_whole(const void *line, size_t len);
static bool patterns_take(struct deliver *d, struct consumer *c, const void *json, size_t len);
static bool join_all(struct deliver *d, struct stream *s, uint32_t mark);

void deliver_restore_epoch(struct deliver *d, const char *connection, uint64_t epoch,
                           uint64_t after, uint64_t last)
{
    d->restoring = true;
    if (epoch > d->epoch || d->settled || last > OFFSET_MAX) return;
    struct stream *s = stream_of(d, connection);
    if (s) stream__stretch(s, epoch, after, last);
}

void deliver_restore_event(struct deliver *d, const char *connection, bool gap, uint64_t epoch,
                           uint64_t offset, uint64_t wall_ms, const void *line, size_t len)
{
    d->restoring = true;
    if (epoch > d->epoch || d->settled || offset > OFFSET_MAX || !line_is_whole(line, len)) return;
    if (!gap && offset == 0) return;
    struct stream *s = stream_of(d, connection);
    if (!s) return;
    bool first = s->first_seq == s->end_seq;
    uint64_t before = gap ? offset : offset - 1;
    if (!first && before < s->last_offset) return;
    bool newest = s->older_count == 0 || epoch >= s->older[s->older_count - 1].epoch;
    if (newest && !stream__stretch(s, epoch, before, offset)) return;
    if (first) s->last_offset = before;
    else go_to(d, s, before, wall_ms);
    s->last_offset = offset;
    enum record_kind kind = gap ? RECORD_GAP : RECORD_FRAME;
    if (!stream__store(d, s, kind, wall_ms, line, len)) {
        s->last_offset = before; /* a hole, told with the next */
        return;
    }
    if (!gap) s->last_wall_ms = wall_ms;
}

void deliver_restore_consumer(struct deliver *d, const char *name, const void *patterns, size_t len,
                              uint64_t wall_ms)
{
    settle(d);
    if (!consumer__name_is_valid(name) || consumer__find(d, name)) return;
    /* Whoever was registered stays, also under a limit that became smaller. */
    if (d->consumers.count == d->consumers.count_max) d->consumers.count_max++;
    struct consumer *c = consumer__create(d, name);
    if (!c) return;
    c->since_wall_ms = c->kept_wall_ms = wall_ms;
    c->kept = true;
    if (!patterns_take(d, c, patterns, len)) consumer__set_patterns(c, NULL, 0);
}

void deliver_restore_cursor(struct deliver *d, const char *consumer, const char *connection,
                            uint64_t epoch, uint64_t offset, uint64_t wall_ms)
{
    (void)wall_ms; /* when it moved; a gap would need the time of its frame */
    settle(d);
    struct consumer *c = consumer__find(d, consumer);
    if (!c || !c->name[0] || !consumer__wants(c, connection)) return;
    struct stream *s = offset <= OFFSET_MAX ? stream_of(d, connection) : NULL;
    if (!s || sub__find(c, s)) return;
    struct sub *sub = sub__create(c, s);
    if (!sub) return;
    uint64_t at;
    if (stream__offset(d, s, (struct position){ epoch, offset }, &at)) {
        /* Frames that the store dropped, while it had room for the cursor. */
        if (at > s->last_offset) {
            bool bare = s->first_seq == s->end_seq && s->last_offset == s->epoch_after;
            go_to(d, s, at, 0);
            if (bare && s->older_count == 0) s->epoch_after = at;
        }
        sub->acked = at;
    } else {
        sub->acked_unknown = true;
    }
}

void deliver_restore_done(struct deliver *d, bool clean)
{
    struct handle h;
    struct stream *s;
    settle(d);
    d->restoring = false;
    uint32_t mark = 0;
    for (uint32_t i = 0; (s = slots_next(&d->streams, &i, &h)); i++) {
        if (s->configured) continue;
        join_all(d, s, ++mark);
        s->unclean = !clean;
        for (struct sub *sub = s->subs; sub; sub = sub->stream_next) {
            /* What was told before the restart may be acknowledged after it. */
            sub->told_max = s->last_offset;
        }
        stream__trim(d, s);
    }
}

static struct stream *stream_of(struct deliver *d, const char *connection)
{
    if (!connection[0] || strlen(connection) >= NAME_BYTES) return NULL;
    struct stream *s = stream__find(d, connection);
    if (s && s->configured) return NULL;
    return s ? s : stream__create(d, connection, 0);
}

/* All events are in: from here on offsets of positions are final. */
static void settle(struct deliver *d)
{
    struct handle h;
    struct stream *s;
    d->restoring = true;
    if (d->settled) return;
    d->settled = true;
    for (uint32_t i = 0; (s = slots_next(&d->streams, &i, &h)); i++) {
        if (!s->configured) settle_stream(d, s);
    }
}

static void settle_stream(struct deliver *d, struct stream *s)
{
    if (s->older_count == 0) return;
    struct stretch newest = s->older[s->older_count - 1];
    go_to(d, s, newest.last, 0);
    s->epoch_after = s->last_offset;
    if (newest.epoch != d->epoch) return;
    s->epoch_after = newest.after;
    s->older_count--;
}

/* What lies between was accepted once, and is not here. */
static void go_to(struct deliver *d, struct stream *s, uint64_t offset, uint64_t wall_ms)
{
    if (offset <= s->last_offset) return;
    if (s->first_seq < s->end_seq) {
        struct position after = stream__position(d, s, s->last_offset);
        struct envelope_gap gap = { .connection = s->name, .epoch = after.epoch,
                                    .after = after.offset, .from_wall_ms = s->last_wall_ms,
                                    .to_wall_ms = wall_ms, .cause = "not stored",
                                    .certain = true };
        buffer_clear(&d->scratch);
        if (envelope_gap(&d->scratch, &gap) &&
            stream__store(d, s, RECORD_GAP, wall_ms ? wall_ms : s->last_wall_ms, d->scratch.data,
                          d->scratch.len))
            s->gaps_total++;
    }
    s->last_offset = offset;
}

static bool line_is_whole(const void *line, size_t len)
{
    return len > 1 && memchr(line, '\n', len) == (const char *)line + len - 1;
}

static bool patterns_take(struct deliver *d, struct consumer *c, const void *json, size_t len)
{
    const char *patterns[ATTACH_PATTERNS_MAX];
    uint32_t count = 0;
    buffer_clear(&d->scratch);
    bool ok = len > 0 && buffer_append(&d->scratch, json, len) &&
              json_scan(d->scratch.data, len, NULL, NULL, NULL) == JSON_OK;
    cJSON *root = ok ? cJSON_ParseWithLength((const char *)d->scratch.data, len) : NULL;
    ok = cJSON_IsArray(root);
    for (const cJSON *at = ok ? root->child : NULL; ok && at; at = at->next) {
        ok = cJSON_IsString(at) && count < ATTACH_PATTERNS_MAX && at->valuestring[0] &&
             strlen(at->valuestring) < PATTERN_BYTES;
        if (ok) patterns[count++] = at->valuestring;
    }
    ok = ok && consumer__set_patterns(c, patterns, count);
    cJSON_Delete(root);
    return ok;
}

/* A registered consumer without a cursor was there before the first frame: whoever joins a
 * stream that has some is told to the keeper with a cursor at once. */
static bool join_all(struct deliver *d, struct stream *s, uint32_t mark)
{
    struct handle h;
    struct consumer *c;
    for (struct sub *sub = s->subs; sub; sub = sub->stream_next) sub->consumer->mark = mark;
    for (uint32_t i = 0; (c = slots_next(&d->consumers, &i, &h)); i++) {
        if (c->mark == mark || !c->name[0] || !consumer__wants(c, s->name)) continue;
        struct sub *sub = sub__create(c, s);
        if (!sub) return false;
        uint64_t oldest = stream__oldest(s);
        if (sub->acked > oldest) sub->acked = oldest;
    }
    return true;
}
