/* What the files of a replay share. */
#ifndef HOLDFAST_TRACE_REPLAY_INTERNAL_H
#define HOLDFAST_TRACE_REPLAY_INTERNAL_H

#include "trace/mask.h"
#include "trace/replay.h"
#include "trace/said.h"

struct replay_build {
    uint32_t references;
    struct policy_build *build; /* owned */
};

struct replay_task {
    uint32_t number;
    struct policy_task *task;   /* owned */
    struct replay_build *build; /* reference */
    struct replay_task *next;
};

struct replayer {
    struct replay_options options;
    struct policy_version **versions; /* owned; by the trace's policies; NULL: not loaded yet */
    struct policy_version *other;     /* owned: of options.policy_path */
    bool other_library;
    uint32_t segment;
    uint64_t number;
    struct walk walk;                 /* in the segment */
    bool begun;                       /* a segment is under way */
    struct engine *engine;            /* owned */
    struct handle conn;
    struct replay_build *build, *before; /* references; `before`: until the last swap, or NULL */
    struct value session, keep;
    struct replay_task *tasks;        /* owned list */
    struct clock at;
    uint64_t hash;
    struct effect_list effects;
    struct event event;
    struct mask mask;
    struct buffer scratch, frame;
    /* The hook that runs now. */
    struct record_hook hook;
    struct said said;
    struct walk told;
    const struct policy_build *now;
    struct policy_port port;
};

void replay__build_unref(struct replay_build *b);
void replay__port(struct replayer *r);
/* Runs the recorded hook; false: it cannot be. */
bool replay__hook(struct replayer *r, enum call_result *result_out);
void replay__cancel(struct replayer *r, uint32_t number);
void replay__tasks_end(struct replayer *r);
/* JSON as a value, secrets as placeholders; false: it is none. Owned. */
bool replay__value(const void *json, size_t len, struct value *out);

#endif
