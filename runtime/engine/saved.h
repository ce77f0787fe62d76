/* Saved: all that the engine knows of one connection, written down and taken up again in another engine, so
 * that a recorded run can be repeated from any instant on, step by step and draw by draw.
 *
 * Glossary
 *   own      the connection's states, links, counters, attempt, permit and waiting sends
 *   shared   what its account shares with others: ledgers, who waits, who has claimed, told figures. Others
 *            change it between two steps of the connection; a hash says whether they did.
 *
 * Nothing in it is a secret or a fingerprint of one. To add a field to a struct of engine_internal.h: a line in
 * saved.c; tests/sim/replay_random_spec.lua fails without it. */
#ifndef HOLDFAST_ENGINE_SAVED_H
#define HOLDFAST_ENGINE_SAVED_H

#include "base/walk.h"
#include "engine/engine.h"

/* Foreign places in an account's queue that are kept; an engine for engine_load() needs room for so many
 * connections more. */
#define SAVED_PLACES_MAX 4096

/* False: the handle is stale, or memory is out. */
bool engine_save(const struct engine *e, struct handle conn, struct buffer *out);
bool engine_save_shared(const struct engine *e, struct handle conn, struct buffer *out);
/* Into a connection that was just added, with the plan that it had. False: not what engine_save() wrote; the
 * connection is of no use then. `why`: static. */
bool engine_load(struct engine *e, struct handle conn, const void *bytes, size_t len, const char **why);
bool engine_load_shared(struct engine *e, struct handle conn, const void *bytes, size_t len,
                        const char **why);
/* Differs when the shared part does. Cheap. 0: the handle is stale. */
uint64_t engine_shared_print(const struct engine *e, struct handle conn);
/* Differs when the shared part may have: the last step of any connection of the account, or what was restored into it.
 * Cheaper still. 0: the handle is stale. */
uint64_t engine_shared_touched(const struct engine *e, struct handle conn);
/* Others have the same account. */
bool engine_shares(const struct engine *e, struct handle conn);
/* Whose answer a connection waits for, or waited for last; tickets of two engines differ. */
uint64_t engine_ticket(const struct engine *e, struct handle conn);

/* Parts that events have as well. `near`: a clock of the same time. Head and body of a cause stay out. */
void cause_walk(struct walk *w, struct cause *c);
void clock_walk(struct walk *w, struct clock *c, const struct clock *near);
void pulse_walk(struct walk *w, struct pulse *p, uint64_t near_ms);

#endif
