/* Schema: what a policy's tables may hold. One description serves the check at load, the build,
 * `tune`, and the documentation's check. Pure on values: no Lua here. */
#ifndef HOLDFAST_POLICY_SCHEMA_H
#define HOLDFAST_POLICY_SCHEMA_H

#include "policy/policy.h"

/* Checks the whole table of a policy file (functions are VALUE_FUNCTION), lines annotated. True
 * when no error was added. */
bool schema_check(const struct value *policy, const char *file, struct problems *problems);
/* Checks a connection's own keys (options and tune) against the policy's. */
bool schema_check_settings(const struct value *policy, const struct value *settings,
                           const char *file, struct problems *problems);
/* Compiles plan, rules, options, hosts, fingerprints, fetch and every rules from checked tables.
 * `shared`: of one version, where builds with equal overlays find what they have in common; NULL: nothing is
 * shared. `out` is overwritten, its `version` kept. False: nothing in `out` is owned. */
bool schema_build(const struct value *policy, const char *policy_file, const struct value *settings,
                  const char *settings_file, uint32_t version, struct policy_shape **shared,
                  struct policy_build *out, struct problems *problems);
/* Frees what `out` owns, `version` excepted. */
void schema_build_deinit(struct policy_build *b);
/* A matcher table over take fields, as conn:await takes it: `{ op = 10 }`. Owned by the caller. */
bool schema_frame_matchers(const struct value *table, const struct frame_rules *rules,
                           struct frame_matchers *out, char *error, size_t error_bytes);
void frame_matchers_deinit(struct frame_matchers *m);
/* Visits every key that a policy may set, in the order of the tables: "backoff.first",
 * "classify[].close", "fetch.*.keep", "options.*.type". All: borrowed until `visit` returns.
 * For the reference's and the editor types' checks. */
struct schema_key {
    const char *path, *about;
    const char *standard; /* the default in words, or NULL */
    const char *type;     /* "duration", "boolean|table"; words as in "\"none\"|\"full\""; "custom": a reader of its own */
};
void schema_each_key(void (*visit)(void *context, const struct schema_key *key), void *context);

#endif
