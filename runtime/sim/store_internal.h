/* What store.c and store_disk.c share. */
#ifndef HOLDFAST_SIM_STORE_INTERNAL_H
#define HOLDFAST_SIM_STORE_INTERNAL_H

#include "sim/disk.h"
#include "sim/model.h"
#include "sim/world_internal.h"

#define STORE_PATH "/holdfast.db"
#define STORE_WAITING_BYTES_MAX ((size_t)64 << 20)
#define STORE_RETRY_FIRST_MS 100
#define STORE_RETRY_MOST_MS 5000
#define STORE_TIDY_MS 60000
#define STORE_TRIES_MAX 64

struct world_store {
    struct world *world;
    bool is_open, in_memory;
    uint64_t boot; /* of the machine, at the last opening */
    /* the queue */
    struct buffer open;     /* submitted since the last flush */
    struct buffer waiting;  /* flushed */
    struct buffer taken;    /* at the disk; its first part may have failed before */
    uint32_t open_count, waiting_count, taken_count; /* requests */
    size_t from;            /* where in `taken` what was not tried yet begins */
    bool busy;
    bool degraded;          /* the last write failed */
    uint64_t retry_at_ms, retry_pause_ms;
    uint64_t number;        /* of the transaction */
    uint64_t tidied_ms;
    /* Where in `taken` earlier tries ended: each may be on disk although it was said to have failed. */
    size_t tries[STORE_TRIES_MAX];
    uint32_t try_count;
    struct model *written;  /* owned: all that was applied */
    struct model *doubtful; /* owned: permits whose failure may have been none */
    struct model *scratch;  /* owned, or NULL */
    /* the disk */
    struct disk *disk;      /* owned; NULL in memory */
    struct store_vfs *vfs;  /* owned */
    struct store_core *core; /* owned; NULL while nothing runs */
    uint64_t epoch;
    bool clean, was_clean;  /* of a store in memory; of the last start */
    uint64_t changes_last;  /* calls of the last transaction */
    uint32_t full_fault;    /* the one that the disk's room is of */
    char lost[400];
    struct world_store_counts counts;
#ifdef HOLDFAST_TEST
    bool plant_early_answer;
#endif
};

/* store_disk.c */
void world__disk_create(struct world_store *s);
void world__disk_destroy(struct world_store *s);
/* Before each use of the core: time, room, random numbers. */
void world__disk_prepare(struct world_store *s);
/* The process ends without a word, with a write under way or not. */
void world__disk_kill(struct world_store *s, bool power);

/* store.c */
void world__store_applied(struct world_store *s, const struct buffer *batch);

#endif
