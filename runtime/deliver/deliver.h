/* Deliver: frames on their way to consumers. Keeps one stream per connection (the backlog, in
 * memory here, and told to a keeper), consumers with cursors, and speaks the NDJSON of design.md
 * section 9. Knows no socket: a consumer writes through its sink. Loop thread only.
 *
 * Glossary
 *   stream    one connection's frames, states and gaps in acceptance order
 *   position  (epoch, offset); offsets count a stream's frames from 1 and go on over epochs; one of
 *             an earlier epoch never reaches beyond its end. A connection added after another was
 *             removed counts on from the highest so far, so that none is used twice
 *   stretch   the offsets of a stream within one epoch; it knows the newest 64
 *   consumer  an attached reader; a named one has a cursor and holds the backlog, an anonymous one
 *             holds nothing */
#ifndef HOLDFAST_DELIVER_DELIVER_H
#define HOLDFAST_DELIVER_DELIVER_H

#include "base/buffer.h"
#include "base/histogram.h"
#include "base/slots.h"
#include "engine/effect.h"
#include "frame/rules.h"

struct deliver; /* opaque */

struct deliver_options {
    uint64_t epoch;
    size_t consumer_bytes_max;  /* queued for one consumer before it is detached; 0: 64 MiB */
    uint32_t consumers_max;     /* 0: 1024 */
    uint64_t named_age_ms; /* a named consumer not attached for so long is forgotten; 0: 7 days */
    uint64_t wall_ms;      /* now; 0: not known before the first event */
    const char *store;     /* hello's "backlog", static: "memory", "sqlite"; NULL: memory */
};

/* Orders from consumers to the runtime. */
struct deliver_port {
    void *self;
    /* {"send":...}. Exactly one deliver_send_answer() follows, maybe from inside. `frame`: JSON
     * text, or raw bytes when `text` is false (frame_base64). */
    void (*send)(void *self, const char *connection, uint64_t send_id, const void *frame,
                 size_t len, bool text);
    /* The consumer that waited for it is gone. */
    void (*send_dropped)(void *self, uint64_t send_id);
    /* An ack moved this consumer's cursor: for platform acknowledgements (`through`, by the owner),
     * and a held upstream may have room again (deliver_has_room). Must not call deliver_append()
     * from inside. */
    void (*acked)(void *self, const char *connection, const char *consumer, uint64_t epoch,
                  uint64_t offset);
    /* {"ack":{...,"frame":...}}: a reply, told before its acked(). NULL: such acks are answered
     * with an error and do not count. */
    void (*reply)(void *self, const char *connection, const char *consumer, uint64_t epoch,
                  uint64_t offset, const void *frame, size_t len, bool text);
};

/* Where goes what must outlive the process; all pointers are borrowed until return. Called in the
 * order in which things happen, a cursor before the trim that rests on it; must not call back.
 * Without a keeper all is kept in memory alone. Cursors come with deliver_pump(), trims with it or
 * with deliver_expire(). */
struct deliver_keeper {
    void *self;
    /* A frame's or a gap's finished line, \n included. A frame counts as safe once the store says
     * so. */
    void (*event)(void *self, const char *connection, bool gap, uint64_t epoch, uint64_t offset,
                  uint64_t wall_ms, const void *line, size_t len);
    /* Nobody needs frames up to this position any more. Told now and then, not per frame. */
    void (*trim)(void *self, const char *connection, uint64_t epoch, uint64_t offset);
    /* Registered, attached or detached. `patterns`: a JSON list of strings. */
    void (*consumer)(void *self, const char *name, const void *patterns, size_t len,
                     uint64_t wall_ms);
    void (*consumer_gone)(void *self, const char *name);
    void (*cursor)(void *self, const char *consumer, const char *connection, uint64_t epoch,
                   uint64_t offset, uint64_t wall_ms);
};
/* NULL, or one without functions: nothing is told any more. At the end: detach the consumers,
 * deliver_pump(), then NULL, and only then let connections go, or their removal is taken for the
 * operator's and their frames are given up. */
void deliver_set_keeper(struct deliver *d, const struct deliver_keeper *keeper);

/* What an earlier process left, before any stream is added, in the order of these functions; events
 * of one connection in order of acceptance. A stream that is restored and not added yet can be read
 * by consumers, and deliver_stream_add() goes on with it, so that no position is used twice. What
 * cannot be is left out; the hole that this leaves is told. */
void deliver_restore_epoch(struct deliver *d, const char *connection, uint64_t epoch,
                           uint64_t after, uint64_t last);
void deliver_restore_event(struct deliver *d, const char *connection, bool gap, uint64_t epoch,
                           uint64_t offset, uint64_t wall_ms, const void *line, size_t len);
void deliver_restore_consumer(struct deliver *d, const char *name, const void *patterns, size_t len,
                              uint64_t wall_ms);
void deliver_restore_cursor(struct deliver *d, const char *consumer, const char *connection,
                            uint64_t epoch, uint64_t offset, uint64_t wall_ms);
/* After the last of them. `clean`: the process before ended in order, so nothing was accepted that
 * is not here, and its epoch goes on. Otherwise the epoch is a new one, and who adds a connection
 * tells what may be missing (its policy knows); for those that nobody adds, it is told here. */
void deliver_restore_done(struct deliver *d, bool clean);

struct deliver *deliver_create(const struct deliver_options *options); /* owned */
void deliver_destroy(struct deliver *d);
void deliver_set_port(struct deliver *d, const struct deliver_port *port);
uint64_t deliver_epoch(const struct deliver *d);

/* --- from dispatch ---------------------------------------------------------------------------- */

struct deliver_limits {
    uint64_t bytes_max, age_ms;
    enum backlog_full full;
};
/* HANDLE_NONE when the name is taken. Goes on with what was restored, or removed and is still held.
 */
struct handle deliver_stream_add(struct deliver *d, const char *connection,
                                 const struct deliver_limits *limits);
void deliver_stream_set_limits(struct deliver *d, struct handle stream,
                               const struct deliver_limits *limits);
/* The handle ends. What named consumers have not acknowledged stays for them, within its age. */
void deliver_stream_remove(struct deliver *d, struct handle stream);

struct deliver_frame {
    const uint8_t *data;         /* borrowed until return */
    size_t len;
    bool json;                   /* valid JSON, safe for one NDJSON line: handed over verbatim */
    bool malformed;
    const struct frame_rules *rules;    /* names of the fields, for "take" */
    const struct field_value *fields;   /* NULL: none */
    uint64_t wall_ms;
};
/* FULL: backlog_full = hold, or memory is out: stop reading upstream, nothing was taken. */
enum deliver_result { DELIVER_OK, DELIVER_FULL };
/* *offset_out: the frame's offset, also when an older one had to be dropped (a gap is told). */
enum deliver_result deliver_append(struct deliver *d, struct handle stream,
                                   const struct deliver_frame *frame, uint64_t *offset_out);
/* True when an append of `len` more bytes would not be FULL; for what was held. */
bool deliver_has_room(const struct deliver *d, struct handle stream, size_t len);
uint64_t deliver_last_offset(const struct deliver *d, struct handle stream);
void deliver_gap(struct deliver *d, struct handle stream, const char *cause, bool certain,
                 uint64_t wall_ms);

struct deliver_state {
    enum conn_state state;
    uint64_t since_wall_ms;
    const struct cause *cause;  /* NULL or kind NONE: none */
    uint64_t next_wall_ms;      /* 0: nothing is due */
    const char *next;           /* what, "" */
    uint32_t attempt;
    const char *budget;       /* queued for it, or NULL; borrowed until return */
    const char *held_by;      /* "window" "gap" "told" */
    uint32_t left;            /* UINT32_MAX: it has no windows */
};
void deliver_state(struct deliver *d, struct handle stream, const struct deliver_state *state);
/* `why` NULL: sent. */
void deliver_send_answer(struct deliver *d, uint64_t send_id, const char *why, bool retry);

/* --- from attachments ------------------------------------------------------------------------- */

struct deliver_sink {
    void *self;
    /* One or more whole lines, each ending in \n. Borrowed until return. False: cannot take more
     * now (nothing was taken); deliver_resume() when it can. Neither of the two may call back into
     * deliver: a sink that finds itself dead says so later, from the loop, with deliver_detach().
     */
    bool (*write)(void *self, const void *lines, size_t len);
    /* Deliver let go of the consumer (replaced, too slow, removed). Comes at most once, never after
     * deliver_detach(). */
    void (*detached)(void *self, const char *why);
};

enum attach_from { ATTACH_CURSOR, ATTACH_NOW, ATTACH_START, ATTACH_POSITION };

#define ATTACH_PATTERNS_MAX 32
#define DELIVER_LINE_BYTES_MAX ((size_t)1 << 20) /* one line from a consumer */
struct attach {
    const char *consumer;        /* NULL: anonymous; [A-Za-z0-9._-], at most 63 bytes */
    const char *patterns[ATTACH_PATTERNS_MAX]; /* of connection names; none: all */
    uint32_t pattern_count;
    enum attach_from from;       /* a named consumer's default is CURSOR, an anonymous one's NOW */
    bool has_from;
    uint64_t epoch, offset;      /* POSITION: deliver what comes after it */
    bool states, gaps;           /* also those lines; attach_init() makes them true */
    bool can_send;
};
/* Everything, from the default, states and gaps told, may not send. */
void attach_init(struct attach *a);
/* Writes the hello line at once and what the cursor asks for soon after (deliver_pump). HANDLE_NONE
 * with a sentence when refused. */
struct handle deliver_attach(struct deliver *d, const struct attach *attach,
                             const struct deliver_sink *sink, const char **why);
/* Parses {"attach":{"consumer","connections","from","states","gaps"}}. False with a sentence
 * (static). Strings in `out` borrow from `scratch`, until it changes. */
bool attach_parse_json(const char *line, size_t len, struct attach *out, struct buffer *scratch,
                       const char **why);
/* One item of the query of /v1/attach and /v1/events: connection (repeatable), consumer, from,
 * states, gaps. `value`: borrowed until deliver_attach() returns. False with a sentence (static).
 */
bool attach_set(struct attach *a, const char *key, const char *value, const char **why);
/* Lines from a consumer: {"ack":...}, {"send":...}. Bad ones are answered with {"error":...}. A
 * line may arrive in pieces; it ends with \n. Answers come with the next deliver_pump(). */
void deliver_input(struct deliver *d, struct handle consumer, const void *bytes, size_t len);
/* {"ack":...} lines for a named consumer, attached or not; the last may lack its \n. {"error":...}
 * lines go to `errors`. Returns how many acks were accepted. False in *known: no such consumer. */
uint32_t deliver_ack_lines(struct deliver *d, const char *consumer, const void *bytes, size_t len,
                           struct buffer *errors, bool *known);
/* A send by who is no consumer (HTTP). `answered` is called exactly once, maybe from inside, unless
 * deliver_send_drop() comes first. 0 with a sentence when refused at once. */
uint64_t deliver_send(struct deliver *d, const char *connection, const void *frame, size_t len,
                      bool text, void (*answered)(void *to, const char *why, bool retry), void *to,
                      const char **why);
void deliver_send_drop(struct deliver *d, uint64_t send_id);
void deliver_resume(struct deliver *d, struct handle consumer);
void deliver_detach(struct deliver *d, struct handle consumer);
/* Moves queued frames to consumers whose sinks take them; the driver calls it after each batch of
 * appends, once per loop turn. */
void deliver_pump(struct deliver *d);
/* What time it is, for how long frames waited; before deliver_pump(). Without it none is measured. */
void deliver_clock(struct deliver *d, uint64_t wall_ms);
/* From acceptance to the writing to a consumer, per frame and consumer. Borrowed. */
const struct histogram *deliver_delay(const struct deliver *d);
/* True when deliver_pump() has something to do. */
/* So much waits for readers that it is better written now, while it is in the processor's cache. */
bool deliver_pump_is_due(const struct deliver *d);
bool deliver_wants_pump(const struct deliver *d);
/* Drops what is over its age; consumers over theirs: once every ten seconds or so. True: that was a piece of it, and the
 * next call may come at once. */
bool deliver_expire(struct deliver *d, uint64_t wall_ms);
/* Memory of frames that are gone: what nobody needed since the last call goes back to the system. Once a second while it is
 * wanted; true: a piece of it was given back, and the next call may come at once. */
bool deliver_rest(struct deliver *d);
bool deliver_wants_rest(const struct deliver *d);

struct deliver_stream_view {
    uint64_t frames, bytes;        /* held */
    uint64_t first_offset, last_offset;
    uint64_t appended_total, dropped_total, gaps_total;
    uint32_t consumers;            /* attached now */
};
bool deliver_stream_get(const struct deliver *d, struct handle stream,
                        struct deliver_stream_view *out);
struct deliver_consumer_view {
    char name[64];                 /* "" anonymous */
    bool attached;
    uint32_t connections;
    uint64_t lag;                  /* frames that wait for it or for its ack */
    uint64_t oldest_wall_ms;       /* when the oldest of them was accepted; 0: none */
    uint64_t since_wall_ms;        /* attached or detached since */
};
/* Iteration as slots_next(). */
bool deliver_consumer_next(const struct deliver *d, uint32_t *index,
                           struct deliver_consumer_view *out);
struct deliver_position_view {
    char connection[64];
    bool configured;               /* false: restored or removed, and still held for it */
    uint64_t epoch, offset;        /* its cursor */
    uint64_t last_offset;          /* of the newest frame */
    uint64_t lag, oldest_wall_ms;  /* as above, of this connection */
};
/* A named consumer's connections. *at: NULL at first; valid until anything else of deliver is
 * called. */
bool deliver_position_next(const struct deliver *d, const char *consumer, const void **at,
                           struct deliver_position_view *out);
/* How far a named consumer has acknowledged a stream. False: it does not read it. For `through`:
 * whether the owner has answered a frame that comes again. */
bool deliver_cursor(const struct deliver *d, struct handle stream, const char *consumer,
                    uint64_t *epoch, uint64_t *offset);
bool deliver_consumer_forget(struct deliver *d, const char *name);

#endif
