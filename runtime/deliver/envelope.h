/* Envelope: the NDJSON lines that consumers read (design.md section 9), one function per line.
 * Pure: appends to a buffer, knows no stream and no consumer. All return false over the buffer's
 * limit. */
#ifndef HOLDFAST_DELIVER_ENVELOPE_H
#define HOLDFAST_DELIVER_ENVELOPE_H

#include "deliver/deliver.h"

/* {"event":{"connection":"...","epoch":N,"offset": */
bool envelope_event_head(struct buffer *out, const char *connection, uint64_t epoch);
/* The text of the newest second: frames come many a second, and a calendar costs more than the rest
 * of a line. Zeroed at first. */
struct envelope_clock {
    uint64_t second; /* of Unix time */
    char text[32];   /* "2026-11-22T10:00:00.", without NUL */
    size_t len;
};
/* The whole line, from a head made before. */
#define ENVELOPE_BYTES_MIN 256u /* of a line, besides its head, the frame and what was taken of it */
bool envelope_event(struct buffer *out, struct envelope_clock *clock, const char *head,
                    size_t head_len, uint64_t offset, const struct deliver_frame *frame);
struct envelope_gap {
    const char *connection;
    uint64_t epoch, after;
    uint64_t from_wall_ms; /* 0: not known, null */
    uint64_t to_wall_ms;   /* likewise */
    const char *cause;
    bool certain;
};
bool envelope_gap(struct buffer *out, const struct envelope_gap *gap);
bool envelope_state(struct buffer *out, const char *connection, const struct deliver_state *state);
/* `consumer` NULL: anonymous. */
bool envelope_hello(struct buffer *out, const char *consumer, const char *backlog);
bool envelope_sent(struct buffer *out, const char *id);
bool envelope_refused(struct buffer *out, const char *id, const char *why, bool retry);
bool envelope_error(struct buffer *out, const char *what, const char *expected);
/* A cause as a JSON object, `null` for NULL or kind NONE; without a line's end. Also for status. */
bool envelope_cause(struct buffer *out, const struct cause *cause);

#endif
