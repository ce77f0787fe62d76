/* Steps: events of the engine written down and read back, and its effects in one number. */
#ifndef HOLDFAST_TRACE_STEP_H
#define HOLDFAST_TRACE_STEP_H

#include "base/walk.h"
#include "engine/effect.h"
#include "engine/event.h"
#include "trace/mask.h"

#define STEP_TEXT_MAX ((size_t)16 << 10) /* of a cause's head, and of its body */

/* Reading: texts are borrowed from what is read; `conn` and the plan of POLICY_SWAPPED are the caller's.
 * `near`: the clock of what was written before. `ticket_is_ours`: the store answers what the connection
 * waits for. Writing: `mask` hides what a cause says; `scratch` is for that. */
void event_walk(struct walk *w, struct event *ev, const struct clock *near, bool *ticket_is_ours,
                const struct mask *mask, struct buffer *scratch);

/* Continues `hash` over all that the effects order: every field, no padding, no handle, no ticket, no
 * fingerprint of an account. */
uint64_t effects_hash(uint64_t hash, const struct effect_list *effects, const struct mask *mask,
                      struct buffer *scratch);
/* One effect alone; `lines`: with the lines and notes of the policy, which two texts of it may differ in. */
uint64_t effect_hash(uint64_t hash, const struct effect *fx, bool lines, const struct mask *mask,
                     struct buffer *scratch);
/* A decision, a state of a connection's, an alarm or a gap: what a quiet hour has none of. */
bool effects_matter(const struct effect_list *effects);

#endif
