/* Trial: does a new version of a policy do worse than the one before it? Pure: counts of both sides in, a verdict and its
 * reason in words out. runtime/trials.c counts, chooses who is tried, and swaps.
 *
 * Glossary
 *   tried    connections that run the new version
 *   others   those that run the old one at the same time: the same outage meets both, so they are what tells weather
 *            from a bad version. None when all are tried.
 *   past     the tried ones themselves, under the old version, in the hour or two before. It tells a connection that
 *            always was in trouble from one that the new version brought into trouble.
 *   hit      an event that counts against a side: a hook's error, an unplanned ending or failed attempt (at most
 *            TRIAL_ENDINGS_EACH of one connection: one that flaps is one trouble, not fifty), a stop, a slow pace
 *
 * Worse is what is worse than the others AND worse than the past, as far as there are any. For a count of hits that means:
 * as many or more would fall to the tried ones by chance, by their part of the connection-time, less than once in
 * 1/TRIAL_CHANCE_MAX times. Without asking for chances:
 *   - a stop where neither others nor past have one;
 *   - TRIAL_ERRORS_AT_ONCE errors of hooks where neither have one; at the end of the window, one. A hook that raises is
 *     the text's fault and never the weather's;
 *   - TRIAL_SLOWS_AT_ONCE slow paces, likewise.
 * Time to ready is compared by medians of at least TRIAL_READIES_MIN: worse is more than twice as long, and 2 s more.
 * Good is a whole window, the weather's time not counted, without any of it, and nobody lost who was well before.
 * What is neither after TRIAL_WINDOWS_MAX windows has no verdict: an untested version is not adopted.
 *
 * To add a sign: a field of struct trial_side, a sentence in trial.c, rows in tests/unit/trial/trial_spec.lua. */
#ifndef HOLDFAST_ENGINE_TRIAL_H
#define HOLDFAST_ENGINE_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

#define TRIAL_ENDINGS_EACH 10
#define TRIAL_CHANCE_MAX 0.002
#define TRIAL_HITS_MIN 3          /* fewer prove nothing, whatever the chances */
#define TRIAL_ERRORS_AT_ONCE 3
#define TRIAL_SLOWS_AT_ONCE 2
#define TRIAL_READIES_MIN 3
#define TRIAL_READY_FACTOR 2
#define TRIAL_READY_MORE_MS 2000
#define TRIAL_PAST_MS_MIN 60000   /* connection-time: a shorter past says nothing */
#define TRIAL_WINDOWS_MAX 3
#define TRIAL_WHY_MAX 400

struct trial_side {
    uint32_t connections;              /* that were in it at any time; 0: there is no such side */
    uint64_t ms;                       /* connection-time */
    uint32_t hook_errors, hook_errors_in; /* and in how many connections */
    uint32_t endings, endings_in;
    uint32_t stops, slows;
    uint32_t readies;
    uint64_t ready_ms;                 /* median of them */
    uint32_t lost;                     /* were well when it began, and are not now */
};

struct trial_facts {
    struct trial_side tried, others, past;
    uint64_t fair_ms;                  /* since it began, less the weather's time */
    uint64_t all_ms;                   /* since it began */
    uint64_t watch_ms;                 /* the window */
    bool weather;                      /* both sides are failing, at this moment, for a reason that they share */
    const char *error;                 /* of the tried ones' last hook error, or NULL; borrowed until return */
};

enum trial_outcome { TRIAL_GOES_ON, TRIAL_WORSE, TRIAL_GOOD, TRIAL_NO_VERDICT };

/* `why`: a clause without a full stop; while it goes on: what it waits for past its window, or "". */
enum trial_outcome trial_judge(const struct trial_facts *f, char why[TRIAL_WHY_MAX]);
const char *trial_outcome_name(enum trial_outcome o);
/* The chance of `hits` or more of `all`, when each falls to this side with probability `part`. */
double trial_chance(uint64_t hits, uint64_t all, double part);
/* "4 connections, 0 hook errors, 2 reconnects": one side in words. */
void trial_side_text(const struct trial_side *s, char *out, uint32_t bytes);
/* How many of `eligible` are tried: their share, at least one, and at least one other unless share is all. */
uint32_t trial_count(uint32_t eligible, double share);

#endif
