/* Records: what a trace consists of, as it lies in memory and in a file. The one description of it, for the
 * recorder in runtime/ and for replays.
 *
 * Glossary
 *   segment   a run of records that can be replayed by itself: it begins with the connection's whole state
 *   step      one event of the engine with its clocks, and a hash over all effects since the segment's begin
 *   hook      one run of a hook from entry to answer or wait: what it was given, what the port told it while it
 *             ran, and what it did, in words
 *   task      a hook that waits; its runs share a number
 *   build     policy and settings that hold from here on
 *   shared    what others did to the connection's account since its last step */
#ifndef HOLDFAST_TRACE_RECORD_H
#define HOLDFAST_TRACE_RECORD_H

#include "base/walk.h"
#include "policy/policy.h"

enum record_kind {
    RECORD_NONE,
    RECORD_BEGIN,  /* first of a segment */
    RECORD_STEP,
    RECORD_SHARED,
    RECORD_HOOK,
    RECORD_CANCEL, /* a task is over without an answer */
    RECORD_BUILD,  /* before POLICY_SWAPPED */
    RECORD_COUNT,
};

#define RECORD_INPUT_MAX ((size_t)64 << 10) /* of a frame or body that a hook was given; a longer one is left out */
#define RECORD_POLICIES_MAX 8               /* of one segment */
#define RECORD_TASKS_MAX 4096

/* All pointers: borrowed, when written until the record is, when read from what is read. */
struct record_begin {
    struct clock at;
    uint32_t policy;       /* index into the segment's policies */
    const void *settings;  /* JSON */
    size_t settings_len;
    int64_t lane;
    const void *own, *shared;
    size_t own_len, shared_len;
};

struct record_hook {
    uint32_t task;         /* 0: may not wait */
    bool resumed;
    enum hook hook;
    char name[PLAN_NAME_MAX];
    uint32_t generation;
    struct clock at;
    uint32_t links;
    bool older;            /* of the build before the present one */
    bool whole;            /* all that it was given is here; otherwise it cannot be run again */
    bool session_told, keep_told; /* they are not what they were after the last hook */
    const void *session, *kept;   /* JSON */
    size_t session_len, kept_len;
    bool has_frame, has_fields;
    const void *frame;
    size_t frame_len;
    bool has_cause;
    struct cause cause;
    /* resumed */
    enum wait_kind wait;
    bool answered;
    int32_t status;
    const void *head, *body;
    size_t head_len, body_len;
    uint64_t retry_after_ms;
    bool has_value;
    const void *value;     /* JSON */
    size_t value_len;
    /* what the port told it, in order of asking: see the ports of recorder.c and replay_hooks.c */
    const void *told;
    size_t told_len;
    enum call_result result;
    const void *said;      /* its lines: trace/said.h */
    size_t said_len;
};

struct record_build {
    uint32_t policy;
    const void *settings;
    size_t settings_len;
};

void record_begin_walk(struct walk *w, struct record_begin *b);
/* `near`: the clock of what was written before. */
void record_hook_walk(struct walk *w, struct record_hook *h, const struct clock *near);
void record_build_walk(struct walk *w, struct record_build *b);

#endif
