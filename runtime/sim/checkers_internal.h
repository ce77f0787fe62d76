/* What the files of the checkers share. */
#ifndef HOLDFAST_SIM_CHECKERS_INTERNAL_H
#define HOLDFAST_SIM_CHECKERS_INTERNAL_H

#include "sim/checkers.h"
#include "sim/idmap.h"

enum { CHECK_HEAL = 1, CHECK_DEAD = 2 };

/* One connection as seen from outside. */
struct checked {
    struct handle conn;
    char name[64];
    bool gone;
    bool asked_to_run, asked_to_stop;
    bool operator_spoke;          /* since the last attempt */
    bool settled;                 /* likewise */
    uint32_t attempt_generation;
    uint64_t attempt_ms;          /* mono */
    uint32_t handover_from;
    bool decided;
    uint64_t not_before_ms;       /* mono, by the engine's own decision */
    uint64_t judged_ms;           /* mono: when the ending of that generation was first judged */
    uint32_t judged_generation;
    uint64_t decided_ms;          /* mono; 0: another policy's shorter backoff does not shorten it */
    struct {
        uint32_t generation;
        uint64_t link;
        uint64_t answer_ms;       /* mono: the last answered beat */
    } links[2];                   /* newest first */
    bool up_since_heal;
    uint64_t heal, heal_frozen_ms;
    uint64_t last_offset;
    struct checker_view counts;
};

/* A session start as the platform saw it. After another boot of the machine only wall time says how old
 * it is: what the wall clock was set forward since then makes it look that much older. */
struct checked_start {
    uint64_t world_ms, boot;
    int64_t wall_shift_ms;
    uint64_t aged_ms;
};

struct checked_account {
    uint64_t account;
    struct checked_start *starts; /* owned, oldest first */
    uint32_t count, capacity;
};

struct death {
    uint64_t link, dead_ms, due_ms, frozen_ms;
    struct handle conn;
    uint32_t generation;
    bool drained;                 /* the drain limit was granted */
    char why[64];
};

/* The frames of a connection that were accepted in one epoch. */
struct stretch {
    uint64_t epoch, first, last;
    uint64_t safe;                /* the highest one known to be on disk; 0: none */
};

struct checked_stream {
    char name[64];
    struct stretch *stretches;    /* owned, oldest first */
    uint32_t count, capacity;
};

/* A consumer and one of the connections that it reads. Lives over attachments and crashes. */
struct reader {
    uint64_t consumer, attachment;
    char *connection;             /* owned */
    uint64_t epoch, offset;       /* of the last event */
    uint64_t most_epoch, most_offset; /* of the newest one ever */
    uint64_t heard_ms;
    bool gap;                     /* one was told since the last event */
    bool dropped;                 /* since the newest: one that says that the backlog had no room */
    bool named;                   /* the backlog waits for it */
};

struct checkers {
    struct world *world;
    const struct engine *engine;
    struct checked **items;       /* owned, each too */
    uint32_t count, living_from;  /* those before it went with an earlier process */
    struct idmap by_handle;       /* to index + 1 */
    struct checked_account *accounts;
    uint32_t account_count;
    struct death *deaths;
    uint32_t death_count, death_capacity;
    struct reader *readers;
    uint32_t reader_count;
    struct checked_stream *streams; /* owned */
    uint32_t stream_count;
    uint64_t epoch;
    uint64_t heals, crashes, moves;
    char violation[512];
    char violation_of[64];
};

struct checked *checkers__find(const struct checkers *k, struct handle conn);
void checkers__violated(struct checkers *k, const char *which, const struct checked *c,
                        const char *format, ...) __attribute__((format(printf, 4, 5)));
void checkers__on_ending(struct checkers *k, struct checked *c, const struct effect *fx);
/* A process begins with what the disk holds. */
void checkers__starts_restored(struct checkers *k);
void checkers__on_dead(void *self, const struct stream_view *stream);
void checkers__check_dead(struct checkers *k, uint64_t index);
void checkers__frames_free(struct checkers *k);

#endif
