/* Store core, inside: what its files share. Nobody else includes it. */
#ifndef HOLDFAST_STORE_CORE_INTERNAL_H
#define HOLDFAST_STORE_CORE_INTERNAL_H

#include <sqlite3.h>

#include "store/core.h"
#include "store/wal_gather.h"

#define CORE_EPOCHS_MAX     64
#define CORE_WAL_PAGES_MAX  1024 /* 4 MiB: then the next batch checkpoints first */
#define CORE_WAL_PAGES_IDLE 256  /* worth a checkpoint when it is quiet */
#define CORE_WAL_BYTES_KEPT "33554432" /* of the log's file, once it begins anew */

/* Prepared when first used, kept until the connection to the file goes. */
#define CORE_STATEMENT_MAP(X)                                                                       \
    X(BEGIN, "BEGIN IMMEDIATE")                                                                     \
    X(COMMIT, "COMMIT")                                                                             \
    X(META_SET, "INSERT OR REPLACE INTO meta VALUES (?1, ?2)")                                      \
    X(META_GET, "SELECT value FROM meta WHERE name = ?1")                                           \
    X(PERMIT, "INSERT INTO permit VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING")      \
    X(PERMIT_RETURN,                                                                                \
      "DELETE FROM permit WHERE (account, budget, connection, wall_ms, boot_ms, lane) ="            \
      " (SELECT account, budget, connection, wall_ms, boot_ms, lane FROM permit WHERE account = ?1" \
      "  AND budget = ?2 AND wall_ms = ?3 AND boot_ms = ?4 AND (?5 IS NULL OR connection = ?5)"     \
      "  LIMIT 1)")                                                                                 \
    X(TOLD, "INSERT OR REPLACE INTO told VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")                  \
    X(SESSION, "INSERT OR REPLACE INTO session VALUES (?1, ?2, ?3, ?4)")                            \
    X(SESSION_GONE, "DELETE FROM session WHERE connection = ?1")                                    \
    X(KEEP, "INSERT OR REPLACE INTO keep VALUES (?1, ?2)")                                          \
    X(KEEP_GONE, "DELETE FROM keep WHERE connection = ?1")                                          \
    X(WISH, "INSERT OR REPLACE INTO wish VALUES (?1, ?2)")                                          \
    X(WISH_GONE, "DELETE FROM wish WHERE connection = ?1")                                          \
    X(CONNECTION, "INSERT OR REPLACE INTO connection VALUES (?1, ?2)")                              \
    X(CONNECTION_GONE, "DELETE FROM connection WHERE name = ?1")                                    \
    X(STREAM_GET, "SELECT id, run, EXISTS (SELECT 1 FROM event WHERE event.stream = stream.id)"     \
      " FROM stream WHERE name = ?1")                                                               \
    X(STREAM_HAS, "SELECT 1 FROM event WHERE stream = ?1 LIMIT 1")                                  \
    X(STREAM_NEW, "INSERT INTO stream (name, run) VALUES (?1, ?2)")                                 \
    X(STREAM_RUN, "UPDATE stream SET run = ?2 WHERE id = ?1")                                       \
    X(STREAM_TRIM, "UPDATE stream SET trim_epoch = ?2, trim_offset = ?3, trim_kind = ?4"            \
      " WHERE id = ?1 AND (trim_epoch IS NULL OR"                                                   \
      "  (trim_epoch, trim_offset, trim_kind) < (?2, ?3, ?4))")                                     \
    X(STREAM_TRIMMED, "UPDATE stream SET trim_epoch = NULL WHERE id = ?1")                          \
    X(EPOCH, "INSERT INTO epoch VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE"                      \
      " SET after = min(after, excluded.after), last = max(last, excluded.last)")                   \
    X(EVENT, "INSERT INTO event (stream, epoch, offset, kind, tie, wall_ms, line)"                  \
      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (stream, epoch, offset, kind, tie)"         \
      " DO UPDATE SET wall_ms = excluded.wall_ms, line = excluded.line")                            \
    /* Of one epoch, so that the index ends the search where the trim ends; then those before it. */\
    X(TRIM, "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE stream = ?1 AND epoch = ?2"  \
      " AND offset <= ?3 AND (offset < ?3 OR kind <= ?4) ORDER BY offset, kind LIMIT ?5)")          \
    X(TRIM_FEW, "DELETE FROM event WHERE stream = ?1 AND epoch = ?2 AND offset <= ?3"               \
      " AND (offset < ?3 OR kind <= ?4)")                                                           \
    X(TRIM_OLDER, "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE stream = ?1"           \
      " AND epoch < ?2 ORDER BY epoch, offset, kind LIMIT ?3)")                                     \
    X(SEEN, "INSERT OR REPLACE INTO seen VALUES (?1, ?2, ?3, ?4, ?5, ?6)")                          \
    X(SEEN_GONE, "DELETE FROM seen WHERE stream = ?1")                                              \
    X(CONSUMER, "INSERT OR REPLACE INTO consumer VALUES (?1, ?2, ?3)")                              \
    X(CONSUMER_GONE, "DELETE FROM consumer WHERE name = ?1")                                        \
    X(CURSOR, "INSERT OR REPLACE INTO cursor VALUES (?1, ?2, ?3, ?4, ?5)")                          \
    /* An index holds the epoch, which seldom changes. */                                           \
    X(CURSOR_ON, "UPDATE cursor SET offset = ?4, wall_ms = ?5"                                      \
      " WHERE consumer = ?1 AND stream = ?2 AND epoch = ?3")                                        \
    X(CURSORS_GONE, "DELETE FROM cursor WHERE consumer = ?1")                                       \
    X(JOURNAL, "INSERT INTO journal (connection, wall_ms, tie, json) VALUES (?1, ?2, ?3, ?4)"       \
      " ON CONFLICT DO NOTHING")                                                                    \
    /* --- tidy: each takes a small piece --- */                                                    \
    X(OLD_JOURNAL, "DELETE FROM journal WHERE id IN"                                                \
      " (SELECT id FROM journal WHERE wall_ms < ?1 ORDER BY wall_ms LIMIT ?2)")                     \
    X(MANY_JOURNAL, "DELETE FROM journal WHERE id IN (SELECT id FROM journal"                       \
      " WHERE id <= (SELECT max(id) FROM journal) - ?1 ORDER BY id LIMIT ?2)")                      \
    X(OLD_PERMITS, "DELETE FROM permit WHERE (account, budget, connection, wall_ms, boot_ms, lane)" \
      " IN (SELECT account, budget, connection, wall_ms, boot_ms, lane FROM permit"                 \
      "  WHERE wall_ms < ?1 AND (boot <> ?3 OR boot_ms < ?4) ORDER BY wall_ms LIMIT ?2)")           \
    X(OLD_SEEN, "DELETE FROM seen WHERE (stream, key_high, key_low) IN"                             \
      " (SELECT stream, key_high, key_low FROM seen WHERE until_wall_ms < ?1"                       \
      "  ORDER BY until_wall_ms LIMIT ?2)")                                                         \
    X(TRIMMED_STREAMS, "SELECT id, trim_epoch, trim_offset, trim_kind FROM stream"                  \
      " WHERE trim_epoch IS NOT NULL ORDER BY id LIMIT ?1")                                         \
    X(SOME_STREAMS, "SELECT id, run FROM stream WHERE id > ?1 ORDER BY id LIMIT ?2")                \
    X(OLD_EVENTS, "DELETE FROM event WHERE id IN (SELECT id FROM (SELECT id, wall_ms FROM event"    \
      " WHERE stream = ?1 ORDER BY epoch, offset, kind, tie LIMIT ?3) WHERE wall_ms < ?2)")         \
    X(MANY_EPOCHS, "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE stream = ?1"          \
      " AND epoch <= (SELECT epoch FROM epoch WHERE stream = ?1"                                    \
      "  ORDER BY epoch DESC LIMIT 1 OFFSET ?2) LIMIT ?3)")                                         \
    X(OLD_EPOCHS, "DELETE FROM epoch WHERE stream = ?1 AND epoch < ?2"                              \
      " AND NOT EXISTS (SELECT 1 FROM event e WHERE e.stream = ?1 AND e.epoch = epoch.epoch)"       \
      " AND (epoch <= (SELECT epoch FROM epoch n WHERE n.stream = ?1"                               \
      "   ORDER BY n.epoch DESC LIMIT 1 OFFSET ?4)"                                                 \
      "  OR (NOT EXISTS (SELECT 1 FROM cursor k WHERE k.stream = ?1 AND k.epoch = epoch.epoch)"     \
      "   AND (epoch < ?3 OR epoch < (SELECT max(n.epoch) FROM epoch n WHERE n.stream = ?1))))")    \
    X(OLD_CURSORS, "DELETE FROM cursor WHERE stream = ?1 AND wall_ms < ?2"                          \
      " AND NOT EXISTS (SELECT 1 FROM consumer c WHERE c.name = cursor.consumer)")                  \
    X(OLD_STREAM, "DELETE FROM stream WHERE id = ?1"                                                \
      " AND NOT EXISTS (SELECT 1 FROM event WHERE stream = ?1)"                                     \
      " AND NOT EXISTS (SELECT 1 FROM epoch WHERE stream = ?1)"                                     \
      " AND NOT EXISTS (SELECT 1 FROM cursor WHERE stream = ?1)"                                    \
      " AND NOT EXISTS (SELECT 1 FROM seen WHERE stream = ?1)")                                     \
    X(PROBE, "INSERT INTO meta VALUES ('probe', 1)"                                                 \
      " ON CONFLICT DO UPDATE SET value = value + 1")

enum core_statement {
#define X(name, sql) CORE_##name,
    CORE_STATEMENT_MAP(X)
#undef X
    CORE_STATEMENT_COUNT
};

/* Where an event stands among those of its stream. */
struct core_place {
    int64_t epoch, offset, kind;
};

/* What is known of a connection's stream. */
struct core_stream {
    struct core_stream *next, *next_dirty;
    uint64_t hash;
    int64_t id;      /* 0: it has no row */
    bool loaded;     /* `id` and what follows are as on disk */
    bool has_rows;   /* `event` may have some of it */
    bool rows_known; /* how many at most, from which epoch on, to which place: `rows`, `first_epoch`, `top` */
    int rows;
    int64_t first_epoch;
    bool dirty;      /* epoch, after, last: to be written before the commit */
    bool trims;      /* the batch `batch` does, last to `trim`, by its request `trim_index` */
    struct core_place top, trim;
    int64_t epoch, after, last;
    uint64_t batch;
    uint32_t trim_index, cursor_index; /* cursor_index: the batch's last request for `cursor_of` */
    const char *cursor_of;             /* borrowed from the batch; NULL: none */
    char name[];
};

struct core_streams {
    struct core_stream **buckets; /* owned, with what is in them */
    uint32_t bucket_count, count;
    struct core_stream *dirty;
    uint64_t batch; /* counts batches */
    uint32_t index; /* of the request that is applied */
};

struct store_core {
    sqlite3 *db; /* owned; NULL while it could not be opened again */
    sqlite3_stmt *statements[CORE_STATEMENT_COUNT]; /* owned */
    char *path, *vfs; /* owned */
    struct wal_gather *gather; /* owned */
    char boot_id[STORE_BOOT_ID_BYTES];
    struct store_core_options options;
    bool read_only, was_clean, is_new;
    bool broken; /* the disk failed: the connection is opened anew before anything else */
    int os_errno; /* of the last failure, where SQLite's connection does not know it (any more) */
    bool failed; /* the last write failed: tidying proves with one of its own that they work again */
    uint64_t epoch, seed;
    int64_t run, boot;      /* numbers of this start and of this boot */
    uint64_t boot_ms_most;  /* the newest boot time heard of */
    int64_t tidied_stream;  /* where the next piece of streams begins */
    uint32_t rounds_put_off; /* pieces since the last that looked at streams */
    bool tidy_more;
    int log_pages;          /* in the log and not in the file */
    int rows_left;          /* that this transaction may still delete: it stands before others */
    struct core_streams streams;
};

/* Reset and without bindings; NULL with *rc set. */
sqlite3_stmt *core__statement(struct store_core *c, enum core_statement which, int *rc);
/* Steps once and resets: SQLITE_OK for a finished statement. */
int core__run(struct store_core *c, enum core_statement which, sqlite3_stmt *s);
int core__meta_set(struct store_core *c, const char *name, int64_t value);
int core__meta_get(struct store_core *c, const char *name, int64_t *value);
/* Compared numbers: exact up to 2^63 - 2; above is `the most`, and read as UINT64_MAX. */
int64_t core__ordered(uint64_t value);
uint64_t core__unordered(int64_t value);

int core__begin(struct store_core *c);
int core__commit(struct store_core *c);
/* Runs a statement that deletes at most as many rows as its parameter `limit_at` says, out of what the
 * transaction may still delete; *full_out: it found as many as it was let, or was not run. */
int core__delete(struct store_core *c, enum core_statement which, sqlite3_stmt *s, int limit_at, int most,
                 bool *full_out);
/* Ends a transaction that failed with `rc`: all back, statements reset, caches forgotten; says what it was. */
enum store_applied core__fail(struct store_core *c, int rc, char *why, size_t why_bytes);
/* The connection works, or was opened anew. */
int core__heal(struct store_core *c);
void core__forget_streams(struct store_core *c);
/* `id` 0: it has no row, and none was wanted. */
int core__stream_find(struct store_core *c, const char *name, bool create, struct core_stream **out);
struct core_place core__place(const struct store_request *r);
/* Before a batch is applied: notes what its later requests make of its earlier ones. */
int core__streams_look(struct store_core *c, const struct buffer *batch);
/* A later request of the batch takes the event at that place away; another one moves the cursor on. */
bool core__trim_follows(const struct store_core *c, const struct core_stream *s, const struct core_place *place);
bool core__cursor_follows(const struct store_core *c, const struct core_stream *s, const char *consumer);
void core__stream_written(struct core_stream *s, const struct core_place *place);
/* Deletes its events up to there; *more_out: some are left, because it was `most`. */
int core__stream_trim(struct store_core *c, struct core_stream *s, const struct core_place *upto, int most, bool *more_out);
/* The same for whom nothing is known of. */
int core__trim(struct store_core *c, int64_t stream, const struct core_place *upto, int most, bool *more_out);
/* The stream reaches from behind `after` to `last`, so far as this says. */
int core__stream_stretch(struct store_core *c, struct core_stream *s, int64_t epoch, int64_t after, int64_t last);
int core__streams_flush(struct store_core *c);
int core__connect(struct store_core *c, int flags);
void core__disconnect(struct store_core *c);
/* "cannot write the store PATH: ..." for a result code. */
enum store_applied core__explain(struct store_core *c, int rc, const char *doing, char *why,
                                 size_t why_bytes);
int core__checkpoint(struct store_core *c, int pages_min, int mode);
int64_t core__wal_bytes(struct store_core *c);

#endif
