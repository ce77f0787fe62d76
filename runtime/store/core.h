/* Store core: one SQLite database, synchronous. It owns the file and its schema, applies batches, and hands
 * out at the start what an earlier process left. The thread (store/thread.h) runs it on the real disk, the
 * simulator runs it inline over a VFS of its own. It never keeps a clock, a thread or a timer, and it reads
 * no environment.
 *
 * Glossary
 *   batch      requests in order of submission, encoded into one buffer; applied as one transaction
 *   epoch      names a run of offsets: a start that does not follow a clean end begins a new one, and so
 *              does a new file; max(stored + 1, wall milliseconds), so that a deleted file repeats none */
#ifndef HOLDFAST_STORE_CORE_H
#define HOLDFAST_STORE_CORE_H

#include "base/buffer.h"
#include "store/store.h"

struct store_core; /* opaque */

#define STORE_SCHEMA_VERSION 1
#define STORE_REQUEST_BYTES_MAX ((size_t)256 << 20) /* of `bytes` in one request */
#define STORE_BOOT_ID_BYTES 40 /* NUL included; the kernel's boot id, or any text that changes with the boot */

struct store_core_options {
    const char *path;
    const char *vfs;          /* name of a registered SQLite VFS; NULL: the default */
    const char *boot_id;
    uint64_t wall_ms;         /* now */
    uint64_t boot_ms;
    uint64_t seed;            /* for a new database: keys of hashes that outlive the process */
    bool read_only;           /* info, export: nothing is changed, not even a migration */
    bool offline;             /* compact: the file's form may change, but this is no start: its epoch, whether
                               * its end was clean and its boot stay as they are */
    /* This process closed it clean in this epoch, let another one open it that accepted nothing, and has it
     * back: a clean end, whatever that one left. 0: not so. */
    uint64_t back_in_epoch;
    /* Retention of what nobody trims; 0: the default (journal 30 days and 100,000 entries, events of
     * connections that never came back 7 days, permits 32 days). */
    uint64_t journal_age_ms, journal_entries, event_age_ms, permit_age_ms;
};

enum store_open {
    STORE_OPENED,
    STORE_OPEN_MISSING_FOLDER, STORE_OPEN_DENIED, STORE_OPEN_CORRUPT, STORE_OPEN_NEWER_SCHEMA,
    STORE_OPEN_NOT_A_STORE, STORE_OPEN_FULL, STORE_OPEN_FAILED,
};

/* `why`: one sentence that names the path and the way out. NULL unless STORE_OPENED. Checks integrity
 * (quick_check), migrates an older schema in one transaction. */
struct store_core *store_core_open(const struct store_core_options *options, enum store_open *result,
                                   char *why, size_t why_bytes);
/* `clean`: all that was submitted is in: the next start goes on in this epoch. False: it could not be
 * noted (or nobody knows), and the next start counts as unclean unless the note is there after all. */
bool store_core_close(struct store_core *c, bool clean);

uint64_t store_core_epoch(const struct store_core *c);
uint64_t store_core_seed(const struct store_core *c);
bool store_core_was_clean(const struct store_core *c); /* the end before this start; true for a new file */
bool store_core_is_new(const struct store_core *c);

/* --- reading, at the start ------------------------------------------------------------------------------ */

/* Each called for every row, in this order of members; events by connection, then by acceptance. Pointers
 * are borrowed until return. A member may be NULL. */
struct store_visitor {
    void *self;
    void (*connection)(void *self, const char *name, const void *json, size_t len);
    void (*wish)(void *self, const char *connection, bool stopped);
    void (*session)(void *self, const char *connection, uint64_t session_of, uint64_t saved_wall_ms,
                    const void *json, size_t len);
    void (*keep)(void *self, const char *connection, const void *json, size_t len);
    /* `same_boot`: boot_ms is of this boot and to be believed; otherwise only wall_ms is known. */
    void (*permit)(void *self, uint64_t account, enum budget_kind budget, int64_t lane, bool same_boot,
                   uint64_t wall_ms, uint64_t boot_ms);
    void (*told)(void *self, uint64_t account, enum budget_kind budget, int64_t left, uint32_t lanes,
                 bool same_boot, uint64_t until_wall_ms, uint64_t until_boot_ms);
    /* A stretch of a stream: `epoch` began after the offset `after` (0: with the first). */
    void (*epoch)(void *self, const char *connection, uint64_t epoch, uint64_t after, uint64_t last);
    void (*event)(void *self, const char *connection, enum store_event_kind kind, uint64_t epoch,
                  uint64_t offset, uint64_t wall_ms, const void *line, size_t len);
    void (*consumer)(void *self, const char *name, const void *patterns, size_t len, uint64_t wall_ms);
    void (*cursor)(void *self, const char *consumer, const char *connection, uint64_t epoch,
                   uint64_t offset, uint64_t wall_ms);
    void (*seen)(void *self, const char *connection, uint64_t key_high, uint64_t key_low, uint64_t offset,
                 uint64_t wall_ms);
    void (*journal)(void *self, const char *connection, uint64_t wall_ms, const void *json, size_t len);
};
/* False with a sentence: the file could not be read to its end. */
bool store_core_visit(struct store_core *c, const struct store_visitor *visitor, char *why,
                      size_t why_bytes);

/* --- writing -------------------------------------------------------------------------------------------- */

/* Appends the encoded request. False: memory is out, nothing was appended. */
bool store_batch_add(struct buffer *batch, const struct store_request *request);
/* The next request of a batch; strings and bytes borrow from it. False at the end. */
bool store_batch_next(const struct buffer *batch, size_t *at, struct store_request *out);

enum store_applied {
    STORE_APPLIED,       /* on disk */
    STORE_FAILED_FULL,   /* no room: nothing of the batch is in */
    STORE_FAILED_IO,     /* nothing of it is in, or all of it (the answer of a sync was lost): applying
                          * the same batch again is safe, every operation is idempotent */
    STORE_FAILED_CORRUPT,
};
/* All of the batch in one transaction, synced. `why` is set unless APPLIED. */
enum store_applied store_core_apply(struct store_core *c, const struct buffer *batch, char *why,
                                    size_t why_bytes);
/* Small bounded pieces of retention and WAL checkpointing; the caller calls it when idle, and at least
 * once a minute. */
enum store_applied store_core_tidy(struct store_core *c, uint64_t wall_ms, char *why, size_t why_bytes);
/* The last piece was not the last: tidy again soon. */
bool store_core_wants_tidy(const struct store_core *c);
/* Rewrites the file without its holes, for a command: takes as long as the file is large, and as much
 * room again. */
enum store_applied store_core_compact(struct store_core *c, char *why, size_t why_bytes);

struct store_core_info {
    uint64_t file_bytes, wal_bytes, free_bytes; /* free: pages inside the file */
    uint64_t epoch, events, event_bytes, sessions, permits, consumers, cursors, seen, journal_entries;
    uint32_t schema_version;
};
/* Counts: reads the whole file's indexes, for a command and not for a loop. */
bool store_core_info(struct store_core *c, struct store_core_info *out, char *why, size_t why_bytes);
/* The sizes alone, at once. */
bool store_core_sizes(struct store_core *c, uint64_t *file_bytes, uint64_t *wal_bytes);

struct store_stream_info {
    const char *name; /* borrowed until return */
    uint64_t events, event_bytes, oldest_wall_ms, newest_wall_ms; /* times: 0 without events */
    uint64_t last_epoch, last_offset; /* of the newest stretch */
    uint64_t cursors;
};
/* By name; every connection that has events, a position or a cursor. */
bool store_core_each_stream(struct store_core *c,
                            void (*stream)(void *self, const struct store_stream_info *info),
                            void *self, char *why, size_t why_bytes);

#endif
