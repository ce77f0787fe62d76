/* What the files of deliver/ share; nobody else includes it. */
#ifndef HOLDFAST_DELIVER_INTERNAL_H
#define HOLDFAST_DELIVER_INTERNAL_H

#include "base/assert.h"
#include "deliver/deliver.h"
#include "deliver/envelope.h"
#include "frame/json.h"

#define NAME_BYTES 64                 /* of connections and consumers, NUL included */
#define PATTERN_BYTES 128
#define SEND_ID_BYTES 129             /* a consumer's own id, NUL included */
#define SENDS_PER_CONSUMER_MAX 256u
#define SENDS_MAX 16384u
#define STREAMS_MAX (1u << 20)
#define ANSWERS_BYTES_MAX ((size_t)256 << 10) /* unread answers of one attachment */
#define BATCH_BYTES_MAX ((size_t)64 << 10)    /* lines handed to a sink at once, one line apart */
/* Without a named consumer nobody holds the backlog; the newest part stays for one who comes late. Of one stream
 * so much, of all so much, and of thousands nothing. */
#define UNCLAIMED_BYTES_MAX ((uint64_t)1 << 20)
#define UNCLAIMED_BYTES_ALL ((uint64_t)32 << 20)
#define UNCLAIMED_BYTES_MIN ((uint64_t)8 << 10)
#define BACKLOG_BYTES_DEFAULT ((uint64_t)64 << 20)
#define STRETCHES_MAX 64u /* of one stream, the current one included */

/* --- memory of lines: segments.c -------------------------------------------------------------- */

#define SEGMENT_CLASSES 4 /* 1, 4, 16 and 64 KiB */
#define SEGMENT_ALONE 0xff /* made for one long line */
#define SEGMENTS_IDLE_BYTES_MAX ((size_t)1 << 20)    /* a while after the last */

struct chunk; /* segments.c */

struct segment {
    struct segment *next; /* owned by the stream, or by the pool */
    struct chunk *chunk; /* of which it is a piece; not of SEGMENT_ALONE */
    uint32_t capacity, used;
    uint32_t records;     /* lines in it that are held */
    uint8_t class;
    uint8_t bytes[];
};
struct segment_pool {
    struct chunk *chunks[SEGMENT_CLASSES]; /* owned; those that have a free one */
    size_t bytes;                          /* free ones */
    size_t spare;                          /* the least of `bytes` since it last rested */
    uint8_t rests_due;                     /* until all that was given back can be with the system */
};
/* Of the next segment of a stream that holds `bytes`: at most as much again. */
uint8_t segment__class_for(uint64_t bytes);
/* At least `len` bytes, of `class` when that is enough. NULL: memory is out. */
struct segment *segment__take(struct segment_pool *p, uint8_t class, size_t len);
void segment__give(struct segment_pool *p, struct segment *s);
/* Once in a while: what nobody needed since the last time goes back to the system. True: some of it, and the rest is
 * for the next call, soon. */
bool segment_pool__rest(struct segment_pool *p);
bool segment_pool__wants_rest(const struct segment_pool *p);
void segment_pool__deinit(struct segment_pool *p);

/* --- streams: stream.c ------------------------------------------------------------------------ */

enum record_kind { RECORD_FRAME, RECORD_GAP, RECORD_STATE };

struct record {
    struct segment *segment;
    uint32_t at, len;     /* the line, \n included */
    uint64_t offset;      /* of the frame; of the last frame before a gap or state */
    uint64_t wall_ms;
    enum record_kind kind;
};

/* One consumer's place in one stream. Of a named consumer it outlives the attachment. */
struct sub {
    struct consumer *consumer;
    struct stream *stream;
    struct sub *stream_next, *stream_prev;
    struct sub *consumer_next, *consumer_prev;
    struct sub *ready_next; /* in the attachment's list */
    bool ready;
    bool reading;           /* attached: next_seq means something */
    uint64_t next_seq;      /* record to be written next */
    uint64_t states_from;   /* state records before it are older than the attachment */
    uint64_t acked;         /* cursor: an offset; its epoch follows from the stream's stretches */
    uint64_t acked_wall_ms; /* 0: not known */
    bool acked_unknown;     /* restored from an epoch that the stream does not know */
    bool moved;             /* listed in deliver.moved_first: the keeper has not heard yet */
    struct sub *moved_next, *moved_prev;
    uint64_t told_max;      /* highest offset ever told or skipped: what may be acknowledged */
    uint64_t told;          /* on this attachment, for gaps */
    uint64_t told_wall_ms;
    bool state_due;         /* the current state comes first */
    bool gap_due;           /* then this gap */
    bool gap_certain;
    uint64_t gap_to_ms;
    uint64_t gap_then;      /* `told` after it */
    const char *gap_cause;  /* static */
};

/* The offsets of one stream in one epoch: those after `after`, up to and with `last`. */
struct stretch {
    uint64_t epoch, after, last;
};
struct position {
    uint64_t epoch, offset;
};

struct stream {
    struct handle self;
    /* deliver_expire() looks at all of them every ten seconds, and at no more than this of one that holds nothing. */
    uint64_t first_seq, end_seq;
    uint64_t capacity;      /* of records */
    struct deliver_limits limits;
    /* False: restored and not added yet, or removed while somebody still needs what it holds. Then
     * it can be read and acknowledged, and its handle names nothing. */
    bool configured;
    bool removed;
    bool unclean;           /* restored after an unclean end, which nobody has told yet */
    char name[NAME_BYTES];
    uint64_t idle_wall_ms;  /* not configured since; 0: the next deliver_expire() says */
    struct stream *hash_next;
    char *event_head;       /* owned: {"event":{"connection":"...","epoch":N,"offset": */
    size_t event_head_len;
    struct segment *head, *tail; /* owned */
    struct record *records; /* owned; a ring, index = seq & (capacity - 1) */
    uint64_t bytes, frames; /* held */
    /* Offsets count on over epochs. The current epoch began after `epoch_after`. */
    uint64_t last_offset, last_wall_ms, epoch_after;
    struct stretch *older;  /* owned; earlier epochs, oldest first. NULL: none is known */
    uint32_t older_count;
    struct sub *subs;
    uint32_t named, reading; /* subs of named consumers; of attached ones */
    bool trim_due;          /* listed in deliver.trim_first, during a pump only */
    struct stream *trim_next;
    /* What fell out before everybody had it. */
    uint64_t drop_seq;      /* one past the last such record */
    uint64_t drop_rank;
    uint64_t drop_wall_ms;
    const char *drop_cause; /* static */
    struct buffer state_line;
    uint64_t appended_total, dropped_total, gaps_total;
    /* What was released since the keeper heard of it. */
    bool released_listed;
    struct stream *released_next, *released_prev;
    uint32_t released_records;
    uint64_t released_bytes;
    uint64_t trimmed;       /* offset of the last trim that was told */
};

struct stream *stream__get(const struct deliver *d, struct handle h);
struct stream *stream__find(const struct deliver *d, const char *name);
/* A record's place in the order of positions: frame N is 2N, what follows it 2N + 1. */
uint64_t record__rank(const struct record *r);
struct record *stream__record(const struct stream *s, uint64_t seq);
/* First record that comes after the frame `offset`; end_seq when there is none. */
uint64_t stream__seq_after(const struct stream *s, uint64_t offset);
/* Offset before the oldest frame held (last_offset when none is). */
uint64_t stream__start(const struct stream *s);
/* A new one, not configured. NULL: memory is out. */
struct stream *stream__create(struct deliver *d, const char *name, uint64_t last_offset);
/* Appends a line at last_offset. False: memory is out. */
bool stream__store(struct deliver *d, struct stream *s, enum record_kind kind, uint64_t wall_ms,
                   const void *line, size_t len);
/* The same in parts. The ring has a place for one more: */
bool stream__records_grow(struct stream *s);
/* A line that was written behind the last one counts from now on. */
void stream__commit(struct deliver *d, struct stream *s, enum record_kind kind, uint64_t wall_ms, size_t len);
/* What a line of `len` bytes counts for; false: the backlog holds, and has no room for so much. */
uint64_t record__bytes(size_t len);
bool stream__make_room(struct deliver *d, struct stream *s, uint64_t bytes);
void stream__gap(struct deliver *d, struct stream *s, const char *cause, bool certain,
                 uint64_t wall_ms);
/* Releases what nobody needs any more. */
void stream__trim(struct deliver *d, struct stream *s);
/* Somebody reads it, or a named consumer has not acknowledged all of it. */
bool stream__is_needed(const struct stream *s);
void stream__destroy(struct deliver *d, struct stream *s);
/* *most: how many frames may be dropped, and are left to be. False: more of this stream are too old. */
bool stream__expire(struct deliver *d, struct stream *s, uint64_t wall_ms, uint32_t *most);

/* --- positions: positions.c ------------------------------------------------------------------- */

/* Before the first offset that this stream knows of, in any epoch. */
uint64_t stream__oldest(const struct stream *s);
/* Where a cursor at `offset` stands. */
struct position stream__position(const struct deliver *d, const struct stream *s, uint64_t offset);
/* The offset of a position. That of an earlier epoch ends with its epoch; one of the current
 * epoch may lie beyond last_offset. False: the stream does not know the epoch. */
bool stream__offset(const struct deliver *d, const struct stream *s, struct position at,
                    uint64_t *offset_out);
/* Adds or prolongs the stretch of an earlier or the current epoch, newest last, while restoring.
 * False: it does not follow the one before, or memory is out. */
bool stream__stretch(struct stream *s, uint64_t epoch, uint64_t after, uint64_t last);

/* --- what must outlive the process: keep.c ---------------------------------------------------- */

/* All do nothing without a keeper. */
void keep__event(struct deliver *d, const struct stream *s, bool gap, uint64_t wall_ms,
                 const void *line, size_t len);
void keep__released(struct deliver *d, struct stream *s, size_t bytes);
void keep__moved(struct deliver *d, struct sub *sub);
void keep__cursor(struct deliver *d, struct sub *sub);
void keep__consumer(struct deliver *d, struct consumer *c);
void keep__consumer_gone(struct deliver *d, struct consumer *c);
/* Cursors that moved, then the trims that rest on them: large ones, or all. At most so many; false: there may be more. */
bool keep__flush(struct deliver *d, bool all, uint32_t most);
bool keep__wants_flush(const struct deliver *d);
/* Tells all of a stream that goes, and forgets it. */
void keep__stream_ends(struct deliver *d, struct stream *s);
void keep__sub_ends(struct deliver *d, struct sub *sub);

/* --- consumers: consumer.c, pump.c ------------------------------------------------------------ */

struct consumer {
    struct handle self;
    char name[NAME_BYTES]; /* "": anonymous, lives with its attachment */
    struct attachment *attachment;
    char (*patterns)[PATTERN_BYTES]; /* owned */
    uint32_t pattern_count;
    struct sub *subs;      /* owned */
    uint64_t since_wall_ms; /* attached or detached since; 0: not known yet */
    bool kept;              /* the keeper knows it */
    uint64_t kept_wall_ms;
    uint32_t mark;          /* scratch of deliver_restore_done() */
};

struct attachment {
    struct handle self;
    struct consumer *consumer;
    struct deliver_sink sink;
    bool states, gaps, can_send;
    bool blocked;               /* the sink took no more */
    bool flooded;               /* its answers do not fit any more */
    bool listed;                /* in deliver.ready */
    struct attachment *ready_next;
    struct sub *ready_first, *ready_last;
    uint64_t queued_bytes;      /* arrived and not written, while it could not keep up */
    struct buffer answers;      /* lines before any other */
    struct buffer input;        /* an unfinished line */
    bool input_skips;           /* the line under way was too long */
    struct send *sends;
    uint32_t send_count;
};

bool consumer__name_is_valid(const char *name);
/* NULL: too many, or memory is out. `name` "": anonymous. */
struct consumer *consumer__create(struct deliver *d, const char *name);
bool consumer__set_patterns(struct consumer *c, const char *const *patterns, uint32_t count);
bool consumer__wants(const struct consumer *c, const char *connection);
struct consumer *consumer__find(const struct deliver *d, const char *name);
struct attachment *attachment__get(const struct deliver *d, struct handle h);
/* `why` NULL: the sink is not told. */
void attachment__end(struct deliver *d, struct attachment *a, const char *why);
void consumer__destroy(struct deliver *d, struct consumer *c);
/* Subscriptions of all consumers whose patterns match a new stream. */
bool consumer__join_stream(struct deliver *d, struct stream *s);
/* Its cursor is at the oldest frame held. NULL: memory is out. */
struct sub *sub__create(struct consumer *c, struct stream *s);
struct sub *sub__find(const struct consumer *c, const struct stream *s);
void sub__destroy(struct deliver *d, struct sub *sub);
/* An ack's place and offset: NULL with what is wrong (static); NULL without when it is of an older
 * epoch that is not known, which is no mistake and changes nothing. */
struct sub *consumer__ack_find(struct deliver *d, struct consumer *c, const char *connection,
                               struct position at, uint64_t *offset_out, const char **why);
void sub__ack(struct deliver *d, struct sub *sub, uint64_t offset);

void attachment__list(struct deliver *d, struct attachment *a);
void attachment__unlist(struct deliver *d, struct attachment *a);
void sub__make_ready(struct deliver *d, struct sub *sub);
void sub__unready(struct sub *sub);
/* New bytes for all readers of `s`. */
void stream__wake(struct deliver *d, struct stream *s, uint64_t bytes);
/* Queues one line; marks the attachment as flooded when it does not fit. */
void attachment__answer(struct deliver *d, struct attachment *a, const struct buffer *line);

/* --- sends: send.c ---------------------------------------------------------------------------- */

struct send {
    struct handle self;
    struct attachment *by;  /* NULL: deliver_send() */
    struct send *next, *prev;
    char id[SEND_ID_BYTES];
    void (*answered)(void *to, const char *why, bool retry);
    void *to;
};
void send__from_consumer(struct deliver *d, struct attachment *a, const char *id,
                         const char *connection, const void *frame, size_t len, bool text);
void send__drop_all(struct deliver *d, struct attachment *a);

/* --- lines from consumers: input.c ------------------------------------------------------------ */

bool input__init(struct deliver *d);

/* --------------------------------------------------------------------------------------------- */

struct deliver {
    uint64_t epoch, wall_ms;        /* wall: the newest that was told */
    uint64_t clock_wall_ms;         /* by deliver_clock(); 0: never */
    struct histogram delay;
    /* Streams that are added count on from here: a name that comes back must not use an offset
     * again. */
    uint64_t offset_floor;
    struct deliver_options options;
    struct deliver_port port;
    struct deliver_keeper keeper;
    bool keeps;
    bool restoring, settled;        /* between the first deliver_restore_*() and _done() */
    struct buffer kept;             /* a consumer's patterns, for the keeper */
    struct sub *moved_first;
    uint32_t expire_at; /* the next stream that deliver_expire() looks at; 0: a round begins */
    struct stream *released_first, *released_last; /* those with much to tell come first */
    struct slots streams, consumers, attachments, sends;
    struct stream **buckets;        /* owned; by hash of the name */
    uint32_t bucket_count;          /* a power of two */
    struct segment_pool pool;
    struct buffer scratch;          /* the line being built */
    struct envelope_clock clock;
    struct buffer decoded;          /* base64 of a send */
    struct json_paths input_paths;
    struct attachment *ready_first, *ready_last;
    uint64_t woken_bytes;           /* stored for readers since the last pump */
    struct stream *trim_first;
    bool pumping;
};

#endif
