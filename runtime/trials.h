/* Trials: a new version of a policy runs on a share of the policy's connections first. The runtime chooses them, counts
 * both sides, swaps, and ends the trial by itself: adopted everywhere, or taken back (engine/trial.h says when). Links stay
 * open and sessions carry over, both ways, as with runtime_swap(). At most one trial of a policy at a time.
 *
 * Who is tried: a share of the connections that run, at least one, and at least one is left to compare with unless the
 * share is all. Those who like it come first, then those that are up and settled; among equals a hash of name and text
 * decides, so that neither order nor time does. Who was removed, stopped by a person or swapped by somebody else leaves.
 * The only connection of a policy is tried, and compared with its own past: that is less than a group to compare with, and
 * more than nothing. */
#ifndef HOLDFAST_TRIALS_H
#define HOLDFAST_TRIALS_H

#include "base/slots.h"
#include "engine/trial.h"
#include "policy/policy.h"

struct runtime;

enum trial_liking { TRIAL_NEVER = -1, TRIAL_ANY, TRIAL_FIRST };
enum trial_end { TRIAL_TAKEN_BACK, TRIAL_ADOPTED };

struct trial_over {
    const char *policy;                    /* all borrowed until return */
    struct policy_version *before, *after;
    enum trial_end end;
    enum trial_outcome outcome;            /* NO_VERDICT also when a person or a reload ended it */
    bool asked;                            /* runtime_trial_end() did */
    const char *why;
};

struct trial_wish {
    struct policy_version *before, *after; /* of one policy, in use and new; references are taken */
    double share;                          /* above 0, at most 1 */
    uint64_t watch_ms;
    bool rehearse;                         /* one tried link is replaced by plan, where the policy allows an overlap */
    void *self;
    /* A build of a version with the settings that the connection has now. Owned; NULL: leave it as it is. */
    struct policy_build *(*build)(void *self, struct handle conn, const char *name, struct policy_version *version);
    enum trial_liking (*liking)(void *self, const char *name); /* NULL: any */
    /* It ended; the swaps follow, in slices. Must not begin or end a trial, nor swap. */
    void (*over)(void *self, const struct trial_over *over);
};

/* Takes the place of a trial of this policy that runs: its tried ones go on with the new trial's, or with `before`. Where
 * there is nobody to try it on it is adopted at once, and `over` is called from inside. False then. */
bool runtime_trial_begin(struct runtime *rt, const struct trial_wish *wish);
/* Ends it now. False: none of this policy is being watched. */
bool runtime_trial_end(struct runtime *rt, const char *policy, enum trial_end end, const char *why);
/* Forgets it: whoever calls swaps all connections himself. `over` is not called. */
void runtime_trial_forget(struct runtime *rt, const char *policy);
/* True: none ends by itself, and none swaps, until false is told: somebody else has the versions in his hands. */
void runtime_trials_hold(struct runtime *rt, bool on);
/* Somebody swapped connections of this policy, or added some: each gets the version that it should have, soon. */
void runtime_trial_align(struct runtime *rt, const char *policy);

struct runtime_trial {
    char policy[64];
    uint32_t before, after;                /* numbers of versions */
    bool watching;                         /* false: it is over, and swaps are under way */
    double share;
    uint64_t watch_ms, began_wall_ms, until_wall_ms; /* until: the earliest end, as far as it is known now */
    struct trial_facts facts;              /* error: NULL */
    char waits[TRIAL_WHY_MAX];             /* what it waits for past its window, or "" */
};
/* Iteration: for (i = 0; runtime_trial_next(rt, &i, &t); i++) */
bool runtime_trial_next(const struct runtime *rt, uint32_t *index, struct runtime_trial *out);
/* The same by name. */
bool runtime_trial_find(const struct runtime *rt, const char *policy, struct runtime_trial *out);
/* The version that is being watched, borrowed until it ends; NULL: none. */
struct policy_version *runtime_trial_after(const struct runtime *rt, const char *policy);
/* Runs the new version, and is counted among the tried. */
bool runtime_trial_tries(const struct runtime *rt, struct handle conn);

#endif
