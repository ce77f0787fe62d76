/* What version.c shows to the other files of policy/. */
#ifndef HOLDFAST_POLICY_VERSION_INTERNAL_H
#define HOLDFAST_POLICY_VERSION_INTERNAL_H

#include "policy/policy.h"

/* The policy file's table, checked and annotated with lines. Borrowed while a reference is held.
 * Implemented in version.c, used by build.c. */
const struct value *policy__tables(const struct policy_version *v);
/* What its builds have in common. */
struct policy_shape **policy__shapes(struct policy_version *v);

#endif
