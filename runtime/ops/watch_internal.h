/* What the two sides of a watch share: those who watch and the ring (watch.c), and the sweep (watch_sweep.c). */
#ifndef HOLDFAST_OPS_WATCH_INTERNAL_H
#define HOLDFAST_OPS_WATCH_INTERNAL_H

#include "ops/ops_internal.h"

/* One event: pieces, each of one connection or of none. A piece is its name, NUL, its JSON, NUL. */
struct event_kept {
    uint64_t id;
    const char *kind; /* static */
    bool joined;      /* pulse: pieces become members of one object */
    uint32_t pieces;
    size_t len;
    char bytes[];
};

struct seen {
    struct handle conn;
    char name[64];
    uint32_t round; /* of the sweep that saw it last */
    bool changed;   /* its state, and nobody was told */
    uint8_t life;
    uint64_t in, out, delivered, backlog, round_trip_ms;
};

struct watch {
    struct ops *ops;
    uv_timer_t sweep, soon;
    uint32_t watchers;
    uint64_t idle_since_ms; /* of the loop's clock; 0: somebody watches */
    uint64_t epoch;
    struct event_kept *ring[WATCH_EVENTS_MAX]; /* owned */
    uint64_t first_id, end_id;
    size_t ring_bytes;
    struct seen *seen;      /* owned; by index */
    uint32_t seen_count;
    uint32_t at, round;     /* of the sweep */
    bool priming;           /* the first sweep: who is there already is no news, and snapshots wait for its end */
    struct tally tally;     /* of the sweep so far */
    bool states_due;        /* some changed in this turn */
    uint64_t second, states_told, journal_told, journal_missed;
    struct buffer scratch, summary_told;
};

/* What scratch holds becomes an event. `kind`: static. */
void watch__push(struct watch *w, const char *kind, bool joined, uint32_t pieces);
/* The oldest goes. There is one. */
void watch__ring_drop(struct watch *w);
/* A state event of it. False: it is gone, or memory is out. */
bool watch__told_state(struct watch *w, struct handle conn);
/* All who watch are asked what they can take. */
void watch__wake(struct watch *w);
/* Of the timer `sweep`: a slice of the connections is looked at. */
void watch__on_sweep(uv_timer_t *handle);

#endif
