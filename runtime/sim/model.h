/* Model: what the store must hold, kept by the meaning of its requests alone. Two uses: it judges what the
 * real store brings back after a crash, and it is the store of worlds that need no disk. Forgets nothing
 * by age, except the journal, of which it keeps the newest entries. */
#ifndef HOLDFAST_SIM_MODEL_H
#define HOLDFAST_SIM_MODEL_H

#include "store/core.h"

struct model; /* opaque */

struct model *model_create(void); /* owned; ends on lack of memory */
void model_destroy(struct model *m);
struct model *model_copy(const struct model *m); /* owned */
void model_apply(struct model *m, const struct store_request *request);
void model_apply_batch(struct model *m, const struct buffer *batch);

/* The machine booted: boot times from before it say nothing any more. */
void model_reboot(struct model *m);

/* Fills an empty model with what a store visits. */
struct store_visitor model_visitor(struct model *m);
/* As store_core_visit(). */
void model_visit(const struct model *m, const struct store_visitor *visitor);
/* Both hold the same, the journal and expired keys aside; `found` may also have permits of `doubtful`
 * (NULL: none). False with the first difference in words. */
bool model_equal(const struct model *found, const struct model *expected, const struct model *doubtful,
                 uint64_t wall_ms, char *why, size_t why_bytes);

/* Borrowed until the next request. SESSION or KEEP. False: there is none. */
struct model_record {
    const void *bytes;
    size_t len;
    uint64_t wall_ms, account;
};
bool model_record_get(const struct model *m, enum store_op op, const char *connection,
                      struct model_record *out);
/* The newest frame of the connection: 0, 0 for none. It may be trimmed meanwhile. */
void model_last_frame(const struct model *m, const char *connection, uint64_t *epoch_out,
                      uint64_t *offset_out);
struct model_counts {
    uint32_t events, permits, consumers, cursors, seen, sessions;
};
void model_counts(const struct model *m, struct model_counts *out);

#endif
