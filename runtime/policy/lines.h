/* Lines: where each key of a table constructor stands in a Lua file. Lua does not keep that; errors and
 * journal lines need it. A tolerant scanner of tokens, never an evaluator: where a table was not written
 * as a literal it simply knows nothing. */
#ifndef HOLDFAST_POLICY_LINES_H
#define HOLDFAST_POLICY_LINES_H

#include "base/value.h"

/* Annotates `v` (and all below it) with lines. `anchor`: text before the constructor, such as
 * "holdfast.policy", matched as tokens; `nth`: which occurrence, from 1. */
void lines_annotate(struct value *v, const char *text, size_t len, const char *anchor, uint32_t nth);
/* As above for the first constructor at or after `line`. */
void lines_annotate_at(struct value *v, const char *text, size_t len, uint32_t line);

#endif
