/* Roster: what a configuration file asks for, ready to run: every policy that it names loaded once, every
 * connection built. Starts nothing; used by `check`, at start, and by a reload, which compares two. */
#ifndef HOLDFAST_OPS_ROSTER_H
#define HOLDFAST_OPS_ROSTER_H

#include "base/proxy.h"
#include "config/config.h"
#include "policy/policy.h"

struct roster {
    struct config config;
    struct policy_version **versions; /* owned references; one per policy in use */
    uint32_t version_count;
    struct policy_build **builds;     /* owned; by index of config.connections; NULL once taken */
};

struct roster_load {
    const char *path;            /* of the configuration */
    const struct roster *before; /* its versions go on where the text is the same; or NULL */
    const char *only;            /* read this policy again and keep `before`'s others; NULL: all */
    uint64_t seed;
};

/* False with every error in `problems`; `*out` is empty then. */
bool roster_load(const struct roster_load *load, struct roster *out, struct problems *problems);
void roster_deinit(struct roster *r);
/* Moved to the caller. */
struct policy_build *roster_take(struct roster *r, uint32_t index);

/* The policy called `name`, loaded again; `old` (may be NULL) when its text is the same. Owned reference, or
 * NULL: then *known tells a policy with errors, which were added, from one that is not there. */
struct policy_version *roster_policy_load(const struct config *config, const char *name,
                                          struct policy_version *old, uint64_t seed,
                                          struct problems *problems, bool *known);
/* Borrowed from the roster; NULL when none of its connections uses the policy. */
struct policy_version *roster_policy(const struct roster *r, const char *name);

/* The proxies that this process's environment names: for connections without `proxy`. False with a sentence
 * that names the variable; `*out` is empty then. For proxy_env_deinit(). */
bool roster_proxies_read(struct proxy_env *out, char *why, size_t why_bytes);

/* The file of the policy called `name`: in the configuration's folders, then among the shipped ones. False
 * with a sentence that says where it was looked for. */
bool roster_policy_find(const struct config *config, const char *name, char *path, size_t path_bytes,
                        char *why, size_t why_bytes);

#endif
