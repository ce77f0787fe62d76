/* What the files of trials share: see trials.h. trials.c begins, looks and ends; trials_count.c counts both sides;
 * trials_walk.c swaps; trials_view.c shows. */
#ifndef HOLDFAST_TRIALS_INTERNAL_H
#define HOLDFAST_TRIALS_INTERNAL_H

#include "runtime_internal.h"
#include "trials.h"

enum side { SIDE_NONE, SIDE_TRIED, SIDE_OTHERS };
enum phase { PHASE_WATCHING, PHASE_ADOPTING, PHASE_TAKING_BACK };

#define SAMPLES_MAX 256

struct samples {
    uint32_t ms[SAMPLES_MAX]; /* a ring: the newest */
    uint32_t count;           /* that ever came */
};

struct rt_trial {
    struct rt_trial *next;
    char policy[64];
    struct trial_wish wish;   /* versions: references */
    enum phase phase;
    uint64_t began_ms, began_wall_ms;
    uint64_t looked_ms, fair_ms;
    uint64_t event_ms;        /* the first that was not looked at; 0 */
    bool weather;
    struct trial_side sides[3]; /* by enum side; `ms` up to counted_ms */
    uint32_t now[3];          /* members now */
    uint64_t counted_ms;
    struct trial_side past;
    struct samples ready[3];
    char error[200];
    char waits[TRIAL_WHY_MAX], why[TRIAL_WHY_MAX];
    bool walking, rehearsed;
    uint32_t walk;            /* index of the next connection */
};

struct rt_trial *trials__find(const struct runtime *rt, const char *policy);
uint64_t trials__mono_ms(struct runtime *rt);
/* Lets go of it, whatever its phase. */
void trials__drop(struct runtime *rt, struct rt_trial *t);

/* trials_count.c */
void trials__lately_add(struct rt_lately *p, uint64_t now_ms, struct trial_side *out);
void trials__time_counted(struct runtime *rt, struct rt_trial *t);
void trials__join(struct runtime *rt, struct rt_trial *t, struct rt_conn *c, enum side side);
bool trials__runs(const struct rt_conn *c, const struct policy_version *v);
bool trials__weather_is_shared(const struct runtime *rt, const struct rt_trial *t, const struct weather_front *f);
void trials__lost_count(const struct runtime *rt, struct rt_trial *t);
void trials__facts(const struct runtime *rt, const struct rt_trial *t, struct trial_facts *out);

/* trials_walk.c: one slice; the last one of a trial that is over drops it. */
void trials__walk(struct runtime *rt, struct rt_trial *t);

#endif
