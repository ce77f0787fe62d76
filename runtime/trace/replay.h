/* Replay: a trace played again, record by record: the engine's very steps with the recorded clocks and draws,
 * and the hooks of a policy on what hooks were given then. With the trace's own policies each step must have
 * the effects that it had; another policy goes along until it does something else.
 *
 * Two replays of one trace, one of them with another policy, go side by side: replay_compare(). */
#ifndef HOLDFAST_TRACE_REPLAY_H
#define HOLDFAST_TRACE_REPLAY_H

#include "engine/engine.h"
#include "trace/file.h"

struct replayer; /* opaque */

struct replay_options {
    const struct trace_file *trace;  /* borrowed while it lasts */
    const char *policy_path;    /* instead of the trace's own; NULL */
    const char *lua_path;       /* of lua/; NULL: built-in search */
};

/* What was played. All borrowed until the next one. */
struct replay_view {
    enum record_kind kind;          /* RECORD_STEP or RECORD_HOOK */
    uint32_t segment;               /* from 0 */
    uint64_t number;                /* of steps so far, this one included */
    struct clock at;
    bool equal;                     /* to what was recorded */
    const struct event *event;      /* STEP */
    const struct effect_list *effects;
    const struct record_hook *hook; /* HOOK */
    bool run;                       /* it could be run again */
    enum call_result result;
    const char *said;               /* its lines, as now */
    const char *policy;             /* path of the policy that it ran under */
};

enum replay_result { REPLAY_NEXT, REPLAY_OVER, REPLAY_BROKEN };

/* NULL with a sentence: a policy that does not load, or settings that it refuses. */
struct replayer *replay_create(const struct replay_options *options, char *why, size_t why_bytes);
void replay_destroy(struct replayer *r);
/* BROKEN: `why` says what is wrong with the trace, and where. */
enum replay_result replay_next(struct replayer *r, struct replay_view *out, char *why, size_t why_bytes);
/* The policies that are loaded differ from what was recorded, because lua/ does. */
bool replay_other_library(const struct replayer *r);
/* Of the connection as it is now; false: it is gone. */
bool replay_engine_view(const struct replayer *r, struct engine_view *out);

struct replay_totals {
    uint64_t steps, steps_equal;
    uint64_t hooks, hooks_run, hooks_equal;
    uint64_t first_other_step; /* 0: none */
    uint64_t first_other_hook_ms; /* wall; 0: none */
    char was[400], is[400];    /* of it: the first line that differs, then and now */
    uint64_t hash;             /* over the effects of all steps, as now */
};
void replay_totals_add(struct replayer *r, const struct replay_view *view, struct replay_totals *t);
/* Plays all of it. False: broken, with a sentence. */
bool replay_all(const struct replay_options *options, struct replay_totals *out, char *why, size_t why_bytes);

#endif
