/* Checkers: the promises I1 to I8 of the design, judged from outside the engine where possible: from
 * descriptors, bytes and clocks of the world, from frames on the wire, and from the list of effects.
 * Incremental: a step costs a look at one connection.
 *
 *   I1  descriptors per identity, counted by the world at link_open()
 *   I2  session starts seen on the wire per account, against the plan's windows, in world time
 *   I3  attempt starts (FX_PREPARE, FX_DIAL) against the floor and against the engine's own decision
 *   I4  a stream that died without a word against silence, beat, stage and close limits
 *   I5  an ending by silence or beat against what arrived in the kernel; unplanned endings are counted
 *   I6  after a heal: up within engine_recovery_bound_ms(); STOPPED only where somebody said so
 *   I7  offsets without a hole; consumers in order, holes named by a gap; acknowledgements after safe; over
 *       crashes and power cuts the store has what it said it has, and what is safe reaches each named
 *       consumer, unless a gap says that the backlog had no room for it
 *   I8  since, cause, next and a deadline in every view
 *
 * To add a check: one function here, called from where the fact is seen, and a planted bug in
 * tests/sim/invariants_spec.lua that it catches. */
#ifndef HOLDFAST_SIM_CHECKERS_H
#define HOLDFAST_SIM_CHECKERS_H

#include "engine/engine.h"
#include "sim/world.h"

struct checkers; /* opaque */

struct checkers *checkers_create(struct world *w); /* owned */
void checkers_destroy(struct checkers *k);
/* A new engine: at first, and after a crash. NULL: there is none now. Budgets live on. */
void checkers_engine(struct checkers *k, const struct engine *e);

/* After each engine step. `name`: of the connection, borrowed until return. */
void checkers_step(struct checkers *k, const char *name, const struct event *ev,
                   const struct effect_list *effects);
/* From the host, before the descriptor counts. */
void checkers_link_open(struct checkers *k, struct handle conn, uint32_t generation, uint64_t link,
                        uint64_t identity);
/* A frame that starts a session left for the wire. */
void checkers_start_sent(struct checkers *k, struct handle conn);
/* The peer's answer to a beat was read. */
void checkers_beat_answer(struct checkers *k, struct handle conn, uint32_t generation);
void checkers_delivered(struct checkers *k, struct handle conn, uint64_t offset);
/* A platform acknowledgement of the frame at `offset` left for the wire. */
void checkers_acked(struct checkers *k, struct handle conn, uint64_t offset);
/* A process starts: its epoch, and what its store lacks of all that was written (NULL: nothing). */
void checkers_restarted(struct checkers *k, uint64_t epoch, const char *lost);
/* The frame is on disk, or somebody was told so. */
void checkers_safe(struct checkers *k, const char *connection, uint64_t epoch, uint64_t offset);
/* `named`: it goes on from its cursor, and what is safe waits for it. False: it may begin anywhere. */
void checkers_attached(struct checkers *k, uint64_t consumer, uint64_t attachment, bool named);
/* A consumer was given an event, or a gap after `offset`, for the cause `gap` (NULL: an event). */
void checkers_consumed(struct checkers *k, const char *connection, uint64_t consumer, uint64_t epoch,
                       uint64_t offset, const char *gap);
/* All is quiet: every safe frame has come to this consumer by now, if it ever had one before it. */
void checkers_caught_up(struct checkers *k, uint64_t consumer);
/* The network is well and credentials are good from now on: I6 is due. The latest bound. */
uint64_t checkers_heal(struct checkers *k);
/* A fault again: what the heal promised is off. */
void checkers_fault(struct checkers *k);
/* A happening of kind CHECK. */
void checkers_due(struct checkers *k, uint64_t a, uint64_t b);

/* The first violation, one line: "I3 12.345 a: ...". NULL: none. Borrowed until cleared. */
const char *checkers_violation(const struct checkers *k);
/* Name of the connection it is about, "" for none. */
const char *checkers_violation_of(const struct checkers *k);
void checkers_clear(struct checkers *k);

struct checker_view {
    uint64_t attempts, endings, planned_endings, starts, delivered, handovers;
    uint64_t recovery_bound_ms; /* of the last heal */
};
bool checkers_get(const struct checkers *k, struct handle conn, struct checker_view *out);
/* Legal moves of connections that were taken so far: bit from * CONN_STATE_COUNT + to. */
uint64_t checkers_moves(const struct checkers *k);

#endif
