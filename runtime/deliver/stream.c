/* Streams: one connection's frames and gaps in acceptance order, kept as finished NDJSON lines in
 * segments, so that a frame is built once and written to every consumer from where it lies. Owns
 * the bounds by size and age. States pass through it only for readers that are attached. */
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/text.h"
#include "deliver/deliver_internal.h"
#include "deliver/envelope.h"

#define BUCKETS_MIN 64u
#define RECORDS_KEPT 2u /* capacity of an idle stream's ring */

static bool hash_insert(struct deliver *d, struct stream *s);
static void hash_remove(struct deliver *d, struct stream *s);
static void release_head(struct deliver *d, struct stream *s);
static void drop_head(struct deliver *d, struct stream *s, const char *cause);
static void take_back_state(struct stream *s);
static uint64_t slowest_reader(const struct stream *s);
static uint64_t slowest_cursor(const struct stream *s);

struct handle deliver_stream_add(struct deliver *d, const char *connection,
                                 const struct deliver_limits *limits)
{
    if (!connection[0] || strlen(connection) >= NAME_BYTES) return HANDLE_NONE;
    struct stream *s = stream__find(d, connection);
    if (s && s->configured) return HANDLE_NONE;
    if (!s) {
        s = stream__create(d, connection, d->offset_floor);
        if (!s) return HANDLE_NONE;
        if (!consumer__join_stream(d, s)) {
            stream__destroy(d, s);
            return HANDLE_NONE;
        }
    }
    s->configured = true;
    s->removed = s->unclean = false;
    s->idle_wall_ms = 0;
    deliver_stream_set_limits(d, s->self, limits);
    return s->self;
}

void deliver_stream_set_limits(struct deliver *d, struct handle stream,
                               const struct deliver_limits *limits)
{
    struct stream *s = stream__get(d, stream);
    if (!s) return;
    s->limits = *limits;
    if (s->limits.bytes_max == 0) s->limits.bytes_max = BACKLOG_BYTES_DEFAULT;
}

void deliver_stream_remove(struct deliver *d, struct handle stream)
{
    struct stream *s = stream__get(d, stream);
    if (!s) return;
    deliver_pump(d); /* what was accepted before the removal still goes out */
    s->configured = false;
    s->removed = true;
    buffer_clear(&s->state_line);
    if (!stream__is_needed(s)) stream__destroy(d, s);
}

bool deliver_has_room(const struct deliver *d, struct handle stream, size_t len)
{
    const struct stream *s = stream__get(d, stream);
    if (!s) return false;
    if (s->limits.full != BACKLOG_HOLD || s->named == 0 || s->frames == 0) return true;
    /* As envelope_event() will make it, roughly: text around the frame, base64 at worst. */
    return s->bytes + record__bytes(s->event_head_len + 256 + len) <= s->limits.bytes_max;
}

uint64_t deliver_last_offset(const struct deliver *d, struct handle stream)
{
    const struct stream *s = stream__get(d, stream);
    return s ? s->last_offset : 0;
}

void deliver_gap(struct deliver *d, struct handle stream, const char *cause, bool certain,
                 uint64_t wall_ms)
{
    struct stream *s = stream__get(d, stream);
    ASSERT(s != NULL);
    d->wall_ms = wall_ms;
    stream__gap(d, s, cause, certain, wall_ms);
}

void deliver_state(struct deliver *d, struct handle stream, const struct deliver_state *state)
{
    struct stream *s = stream__get(d, stream);
    ASSERT(s != NULL);
    if (state->since_wall_ms) d->wall_ms = state->since_wall_ms;
    buffer_clear(&s->state_line);
    if (!envelope_state(&s->state_line, s->name, state)) {
        buffer_clear(&s->state_line);
        return;
    }
    if (s->reading == 0) return; /* whoever attaches is told the current state first */
    take_back_state(s);
    stream__store(d, s, RECORD_STATE, d->wall_ms, s->state_line.data, s->state_line.len);
}

bool deliver_stream_get(const struct deliver *d, struct handle stream,
                        struct deliver_stream_view *out)
{
    const struct stream *s = stream__get(d, stream);
    if (!s) return false;
    *out = (struct deliver_stream_view){
        .frames = s->frames,
        .bytes = s->bytes,
        .first_offset = s->frames ? stream__start(s) + 1 : 0,
        .last_offset = s->last_offset,
        .appended_total = s->appended_total,
        .dropped_total = s->dropped_total,
        .gaps_total = s->gaps_total,
        .consumers = s->reading,
    };
    return true;
}

struct stream *stream__get(const struct deliver *d, struct handle h)
{
    struct stream *s = slots_get(&d->streams, h);
    return s && s->configured ? s : NULL;
}

struct stream *stream__create(struct deliver *d, const char *name, uint64_t last_offset)
{
    struct handle h;
    struct stream *s = slots_alloc(&d->streams, &h);
    if (!s) return NULL;
    s->self = h;
    text_copy(s->name, sizeof s->name, name, strlen(name));
    s->drop_cause = "";
    s->last_offset = s->epoch_after = last_offset;
    s->limits = (struct deliver_limits){ .bytes_max = BACKLOG_BYTES_DEFAULT,
                                         .age_ms = d->options.named_age_ms };
    buffer_init(&s->state_line, 0);
    buffer_clear(&d->scratch);
    bool ok = envelope_event_head(&d->scratch, name, d->epoch);
    if (ok) s->event_head = malloc(d->scratch.len);
    if (ok && s->event_head) {
        memcpy(s->event_head, d->scratch.data, d->scratch.len);
        s->event_head_len = d->scratch.len;
        if (hash_insert(d, s)) return s;
    }
    free(s->event_head);
    slots_free(&d->streams, h);
    return NULL;
}

struct stream *stream__find(const struct deliver *d, const char *name)
{
    if (d->bucket_count == 0) return NULL;
    struct stream *s = d->buckets[hash_text(name) & (d->bucket_count - 1)];
    while (s && strcmp(s->name, name) != 0) s = s->hash_next;
    return s;
}

uint64_t record__rank(const struct record *r)
{
    return r->offset * 2 + (r->kind == RECORD_FRAME ? 0 : 1);
}

struct record *stream__record(const struct stream *s, uint64_t seq)
{
    ASSERT(seq >= s->first_seq);
    ASSERT(seq < s->end_seq);
    return &s->records[seq & (s->capacity - 1)];
}

uint64_t stream__seq_after(const struct stream *s, uint64_t offset)
{
    uint64_t low = s->first_seq, high = s->end_seq;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (record__rank(stream__record(s, middle)) > offset * 2) high = middle;
        else low = middle + 1;
    }
    return low;
}

uint64_t stream__start(const struct stream *s)
{
    for (uint64_t seq = s->first_seq; seq < s->end_seq; seq++) {
        const struct record *r = stream__record(s, seq);
        if (r->kind == RECORD_FRAME) return r->offset - 1;
        if (r->kind == RECORD_GAP) return r->offset;
    }
    return s->last_offset;
}

bool stream__store(struct deliver *d, struct stream *s, enum record_kind kind,
                   uint64_t wall_ms, const void *line, size_t len)
{
    ASSERT(len > 0);
    ASSERT(kind != RECORD_STATE || s->configured);
    if (s->end_seq - s->first_seq == s->capacity && !stream__records_grow(s)) return false;
    struct segment *tail = s->tail;
    if (!tail || tail->capacity - tail->used < len) {
        tail = segment__take(&d->pool, segment__class_for(s->bytes), len);
        if (!tail) return false;
        if (s->tail) s->tail->next = tail;
        else s->head = tail;
        s->tail = tail;
    }
    memcpy(tail->bytes + tail->used, line, len);
    stream__commit(d, s, kind, wall_ms, len);
    return true;
}

void stream__commit(struct deliver *d, struct stream *s, enum record_kind kind, uint64_t wall_ms, size_t len)
{
    struct segment *tail = s->tail;
    ASSERT(tail->capacity - tail->used >= len);
    s->records[s->end_seq & (s->capacity - 1)] = (struct record){
        .segment = tail, .at = tail->used, .len = (uint32_t)len,
        .offset = s->last_offset, .wall_ms = wall_ms, .kind = kind };
    tail->used += (uint32_t)len;
    tail->records++;
    if (kind == RECORD_FRAME) s->frames++;
    s->end_seq++;
    s->bytes += record__bytes(len);
    if (s->reading) stream__wake(d, s, len);
    else if (s->named == 0 && !d->restoring) stream__trim(d, s);
}

void stream__gap(struct deliver *d, struct stream *s, const char *cause, bool certain,
                 uint64_t wall_ms)
{
    buffer_clear(&d->scratch);
    struct envelope_gap gap = { .connection = s->name, .epoch = d->epoch, .after = s->last_offset,
                                .from_wall_ms = s->last_wall_ms, .to_wall_ms = wall_ms,
                                .cause = cause, .certain = certain };
    if (!envelope_gap(&d->scratch, &gap)) return;
    s->gaps_total++;
    /* A stream that holds takes gaps over its limit: they are few and small, and must be told. */
    stream__make_room(d, s, record__bytes(d->scratch.len));
    if (stream__store(d, s, RECORD_GAP, wall_ms, d->scratch.data, d->scratch.len))
        keep__event(d, s, true, wall_ms, d->scratch.data, d->scratch.len);
}

void stream__trim(struct deliver *d, struct stream *s)
{
    if (s->first_seq == s->end_seq) return;
    uint64_t read_to = slowest_reader(s);
    uint64_t acked = slowest_cursor(s);
    uint64_t unclaimed_max = UNCLAIMED_BYTES_ALL / d->streams.count;
    if (unclaimed_max > UNCLAIMED_BYTES_MAX) unclaimed_max = UNCLAIMED_BYTES_MAX;
    if (unclaimed_max > s->limits.bytes_max) unclaimed_max = s->limits.bytes_max;
    uint64_t unclaimed_frames = unclaimed_max < UNCLAIMED_BYTES_MIN ? 0 : 1;
    while (s->first_seq < s->end_seq) {
        const struct record *r = stream__record(s, s->first_seq);
        if (s->first_seq >= read_to) return;
        if (r->kind == RECORD_STATE || s->named == 0) {
            if (r->kind != RECORD_STATE && ((unclaimed_frames && s->bytes <= unclaimed_max) || s->frames <= unclaimed_frames)) return;
        } else if (r->kind == RECORD_FRAME ? r->offset > acked : r->offset >= acked) {
            return;
        }
        release_head(d, s);
    }
}

bool stream__is_needed(const struct stream *s)
{
    for (const struct sub *sub = s->subs; sub; sub = sub->stream_next) {
        if (sub->reading && sub->next_seq < s->end_seq) return true;
    }
    return s->named > 0 && s->first_seq < s->end_seq;
}

/* Whoever gets its name again must not count from 1. */
void stream__destroy(struct deliver *d, struct stream *s)
{
    if (s->last_offset > d->offset_floor) d->offset_floor = s->last_offset;
    for (struct sub *sub = s->subs; sub; sub = sub->stream_next) {
        if (sub->moved) keep__cursor(d, sub);
    }
    while (s->subs) sub__destroy(d, s->subs);
    while (s->first_seq < s->end_seq) release_head(d, s);
    ASSERT(s->head == NULL);
    keep__stream_ends(d, s);
    hash_remove(d, s);
    free(s->records);
    free(s->older);
    free(s->event_head);
    buffer_deinit(&s->state_line);
    slots_free(&d->streams, s->self);
}

bool stream__expire(struct deliver *d, struct stream *s, uint64_t wall_ms, uint32_t *most)
{
    stream__trim(d, s);
    while (s->limits.age_ms && s->first_seq < s->end_seq) {
        const struct record *r = stream__record(s, s->first_seq);
        if (r->wall_ms >= wall_ms || wall_ms - r->wall_ms <= s->limits.age_ms) break;
        if (*most == 0) return false;
        --*most;
        drop_head(d, s, "too old");
    }
    if (s->first_seq == s->end_seq && s->capacity > RECORDS_KEPT) {
        free(s->records);
        s->records = NULL;
        s->capacity = 0;
    }
    return true;
}

static bool hash_insert(struct deliver *d, struct stream *s)
{
    if (d->streams.count > d->bucket_count) {
        uint32_t count = d->bucket_count ? d->bucket_count * 2 : BUCKETS_MIN;
        struct stream **buckets = calloc(count, sizeof(struct stream *));
        if (!buckets) return false;
        for (uint32_t i = 0; i < d->bucket_count; i++) {
            for (struct stream *at = d->buckets[i], *next; at; at = next) {
                next = at->hash_next;
                struct stream **to = &buckets[hash_text(at->name) & (count - 1)];
                at->hash_next = *to;
                *to = at;
            }
        }
        free(d->buckets);
        d->buckets = buckets;
        d->bucket_count = count;
    }
    struct stream **to = &d->buckets[hash_text(s->name) & (d->bucket_count - 1)];
    s->hash_next = *to;
    *to = s;
    return true;
}

static void hash_remove(struct deliver *d, struct stream *s)
{
    struct stream **at = &d->buckets[hash_text(s->name) & (d->bucket_count - 1)];
    while (*at && *at != s) at = &(*at)->hash_next;
    ASSERT(*at == s);
    *at = s->hash_next;
}

bool stream__records_grow(struct stream *s)
{
    uint64_t capacity = s->capacity ? s->capacity * 2 : RECORDS_KEPT;
    struct record *records = malloc(capacity * sizeof *records);
    if (!records) return false;
    for (uint64_t seq = s->first_seq; seq < s->end_seq; seq++)
        records[seq & (capacity - 1)] = s->records[seq & (s->capacity - 1)];
    free(s->records);
    s->records = records;
    s->capacity = capacity;
    return true;
}

static void release_head(struct deliver *d, struct stream *s)
{
    struct record *r = stream__record(s, s->first_seq);
    ASSERT(s->bytes >= record__bytes(r->len));
    ASSERT(r->segment->records > 0);
    s->bytes -= record__bytes(r->len);
    if (r->kind == RECORD_FRAME) s->frames--;
    if (r->kind != RECORD_STATE) keep__released(d, s, r->len);
    r->segment->records--;
    s->first_seq++;
    bool empty = s->first_seq == s->end_seq;
    while (s->head && s->head->records == 0 && (empty || s->head != s->tail)) {
        struct segment *gone = s->head;
        s->head = gone->next;
        if (!s->head) s->tail = NULL;
        segment__give(&d->pool, gone);
    }
}

/* As release_head(), of something that somebody may still have wanted. */
static void drop_head(struct deliver *d, struct stream *s, const char *cause)
{
    const struct record *r = stream__record(s, s->first_seq);
    if (r->kind != RECORD_STATE) {
        bool wanted = s->named > 0 || slowest_reader(s) <= s->first_seq;
        if (wanted && r->kind == RECORD_FRAME) s->dropped_total++;
        s->drop_seq = s->first_seq + 1;
        s->drop_rank = record__rank(r);
        s->drop_wall_ms = r->wall_ms;
        s->drop_cause = cause;
    }
    release_head(d, s);
}

bool stream__make_room(struct deliver *d, struct stream *s, uint64_t bytes)
{
    if (s->bytes + bytes <= s->limits.bytes_max) return true;
    stream__trim(d, s);
    while (s->first_seq < s->end_seq && s->bytes + bytes > s->limits.bytes_max) {
        if (s->limits.full == BACKLOG_HOLD && s->named > 0 && s->frames > 0) return false;
        drop_head(d, s, "overflow");
    }
    return true;
}

/* A connection that flaps while nobody acknowledges would fill the backlog with states: the newest
 * record makes place when it is a state that every reader has. */
static void take_back_state(struct stream *s)
{
    if (s->first_seq == s->end_seq) return;
    struct record *r = stream__record(s, s->end_seq - 1);
    if (r->kind != RECORD_STATE || slowest_reader(s) < s->end_seq) return;
    if (s->first_seq + 1 == s->end_seq) return; /* alone: stream__trim() has it */
    struct segment *segment = r->segment;
    ASSERT(segment == s->tail);
    ASSERT(segment->records > 0);
    s->end_seq--;
    segment->records--;
    segment->used = r->at;
    s->bytes -= record__bytes(r->len);
    for (struct sub *sub = s->subs; sub; sub = sub->stream_next) {
        if (!sub->reading) continue;
        sub->next_seq = s->end_seq;
        if (sub->states_from > s->end_seq) sub->states_from = s->end_seq;
    }
}

static uint64_t slowest_reader(const struct stream *s)
{
    uint64_t slowest = UINT64_MAX;
    for (const struct sub *sub = s->reading ? s->subs : NULL; sub; sub = sub->stream_next) {
        if (sub->reading && sub->next_seq < slowest) slowest = sub->next_seq;
    }
    return slowest;
}

static uint64_t slowest_cursor(const struct stream *s)
{
    uint64_t slowest = UINT64_MAX;
    for (const struct sub *sub = s->named ? s->subs : NULL; sub; sub = sub->stream_next) {
        if (sub->consumer->name[0] && sub->acked < slowest) slowest = sub->acked;
    }
    return slowest;
}

uint64_t record__bytes(size_t len)
{
    return len + sizeof(struct record);
}
