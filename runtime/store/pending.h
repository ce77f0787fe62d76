/* Pending: what is to become of a batch that could not be written. Requests that somebody waited for were
 * answered; the rest is kept for the next try, within a bound. Pure: bytes in, bytes out. */
#ifndef HOLDFAST_STORE_PENDING_H
#define HOLDFAST_STORE_PENDING_H

#include "store/core.h"

/* Told of each ticket whose request will not be on disk, in order. */
struct pending_answer {
    void (*failed)(void *to, uint64_t ticket);
    void *to;
};

/* The requests of `batch` from `from` on were not written: tickets are answered, and taken off what stays.
 * A permit goes; with `unsure` (it may be on disk after all) its return takes its place. */
void pending_settle(struct buffer *batch, size_t from, bool unsure, const struct pending_answer *answer);

/* Makes the batch at most `bytes_max` long if it can: of what replaces itself only the newest stays; then
 * events go, oldest first, then journal entries, then seen keys. Returns how many events went. */
uint64_t pending_shrink(struct buffer *batch, size_t bytes_max, const struct pending_answer *answer);

/* In batch.c: another operation or ticket for the request that begins at `at`. */
void batch__patch(struct buffer *batch, size_t at, enum store_op op, uint64_t ticket);

#endif
