/* Roster: what a configuration file asks for, ready to run: every policy that it names loaded once, every
 * connection built. Starts nothing; used by `check`, at start, and by a reload, which compares two. */
#ifndef HOLDFAST_OPS_ROSTER_H
#define HOLDFAST_OPS_ROSTER_H

#include <stdatomic.h>

#include "base/proxy.h"
#include "config/config.h"
#include "policy/policy.h"

/* Of one connection: what must be known of it whether or not there is a build. */
struct roster_who {
    uint64_t identity, account;
    uint64_t overlay; /* hash of what it lays over its policy's tables; 0: nothing */
    bool same; /* as before: nothing was built, and nothing is to be done */
};

/* What the file of a policy holds, compared with what runs. */
enum roster_text {
    ROSTER_TEXT_NEW,        /* versions[k] is of it */
    ROSTER_TEXT_AS_BEFORE,
    ROSTER_TEXT_UNREAD,     /* nobody asked for it */
    ROSTER_TEXT_TO_TRY,     /* candidates[k] is of it: it is or will be on trial, and what runs goes on */
    ROSTER_TEXT_TAKEN_BACK, /* it was on trial before, and what runs goes on */
};

/* What changed connections lay over a policy's tables, each once. */
struct roster_overlay {
    uint32_t version;    /* index of versions */
    uint32_t connection; /* the first one that has it; index of config.connections */
    uint64_t hash;       /* 0: nothing: the policy as it is */
    char *json;          /* owned; NULL with hash 0 */
};

struct roster {
    struct config config;
    struct policy_version **versions; /* owned references; NULL: as before, until roster_adopt() */
    char (*names)[CONFIG_NAME_MAX];   /* owned: of those */
    struct policy_version **candidates; /* owned references, by the same index; NULL: none */
    enum roster_text *texts;          /* owned: by the same index */
    uint32_t version_count;
    struct policy_build **builds;     /* owned; by index of config.connections; NULL once taken */
    struct roster_who *who;           /* owned; likewise by index */
    struct roster_overlay *overlays;  /* owned */
    uint32_t overlay_count, overlay_room;
    uint32_t *claims;                 /* owned: by the identity's hash, indices + 1; 0: nobody */
    uint32_t claims_mask;
    uint32_t claimed;                 /* so many of config.connections are in there */
};

/* A version that runs, as a thread may know it. */
struct roster_running {
    char name[CONFIG_NAME_MAX];
    uint32_t number;  /* the highest given to any version of it */
    uint64_t hash;
    uint64_t trying;  /* of the text that is on trial; 0: none */
    uint64_t refused; /* of the text that was taken back, and is not tried again; 0: none */
};

/* A policy that a connection uses which is not of the file. */
struct roster_also {
    char policy[CONFIG_NAME_MAX], connection[CONFIG_NAME_MAX];
};

/* The first three are all that a start needs; the others are for a reload, whose loading may be done by another
 * thread: what is handed in is only read, and what comes out is bound to nothing that runs. */
struct roster_load {
    const char *path;            /* of the configuration */
    uint64_t seed;
    const atomic_bool *cancel;   /* may be NULL; true: an empty answer, soon */
    bool now;                    /* no trials: a new text runs on all */
    const char *only;            /* read this policy again and keep the others that run; NULL: all */
    const struct roster *before; /* what did not change since is not built again; must not change meanwhile */
    const struct roster_running *running;
    uint32_t running_count;
    const struct roster_also *also; /* policies to load as well, unless the file has the connection */
    uint32_t also_count;
};

/* False with every error in `problems`; `*out` is empty then. */
bool roster_load(const struct roster_load *load, struct roster *out, struct problems *problems);
void roster_deinit(struct roster *r);
/* The same in pieces: frees one connection, or all of the rest, and says whether something is left. */
bool roster_drop(struct roster *r);
/* Moved to the caller. */
struct policy_build *roster_take(struct roster *r, uint32_t index);

/* --- what is left to be done by whoever owns the versions that run ---------------------------------------- */

/* The version called names[k] is as before: takes this one, which runs. Its own reference. */
void roster_adopt(struct roster *r, uint32_t k, struct policy_version *running);
/* Has the connection its build, or need it none? Else roster_build() makes it. */
bool roster_is_built(const struct roster *r, uint32_t index);
/* Only once its version is there. False with problems. */
bool roster_build(struct roster *r, uint32_t index, struct problems *problems);
/* All are built: enters the next one into `claims`, with an error when another has its identity. False: all are there. */
bool roster_claim_next(struct roster *r, struct problems *problems);
void roster__claims_init(struct roster *r); /* by index of config.connections, which are all there */
/* Who has that identity. NULL: nobody. */
const char *roster_claimant(const struct roster *r, uint64_t identity);

/* Of what the connection lays over the version's tables: 0 nothing; then *json (owned; may be NULL: not wanted) is NULL. */
uint64_t roster_overlay_of(const struct policy_version *v, const struct value *settings, char **json);

/* The policy called `name`, from its file; `number`: of the version. Owned reference, or NULL: then *known
 * tells a policy with errors, which were added, from one that is not there. */
struct policy_version *roster_policy_load(const struct config *config, const char *name, uint32_t number,
                                          uint64_t seed, struct problems *problems, bool *known);
/* Borrowed from the roster; NULL when it has no such policy. */
struct policy_version *roster_policy(const struct roster *r, const char *name);
/* The same for a version that is to be tried; NULL: there is none. */
struct policy_version *roster_candidate(const struct roster *r, const char *name);

/* The proxies that this process's environment names: for connections without `proxy`. False with a sentence
 * that names the variable; `*out` is empty then. For proxy_env_deinit(). */
bool roster_proxies_read(struct proxy_env *out, char *why, size_t why_bytes);

/* The file of the policy called `name`: in the configuration's folders, then among the shipped ones. False
 * with a sentence that says where it was looked for. */
bool roster_policy_find(const struct config *config, const char *name, char *path, size_t path_bytes,
                        char *why, size_t why_bytes);

#endif
