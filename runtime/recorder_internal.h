/* What the files of the recorder share. A connection's record is a list of segments, each of which can be
 * replayed by itself; what is quiet is let go of first, the oldest next. */
#ifndef HOLDFAST_RECORDER_INTERNAL_H
#define HOLDFAST_RECORDER_INTERNAL_H

#include "runtime_internal.h"
#include "trace/mask.h"
#include "trace/record.h"
#include "trace/said.h"

/* A policy that something was recorded under; shared by all segments that need it. */
struct rt_traced {
    uint32_t references;
    char name[64], path[256];
    uint32_t version;
    uint64_t text_hash;
    char **names;                  /* owned */
    struct policy_source *sources; /* owned, texts too */
    uint32_t source_count;
    struct rt_traced *next;
};

struct rt_segment {
    struct rt_segment *next;
    struct buffer bytes;           /* owned */
    struct rt_traced *policies[RECORD_POLICIES_MAX]; /* references */
    uint32_t policy_count;
    uint64_t from_wall_ms, to_wall_ms;
    uint32_t step_count;
    size_t begin_bytes;            /* what it begins with: enough to be replayed by itself */
    size_t matter_at;              /* bytes up to the last thing of note; 0: nothing was */
};

struct rt_record {
    struct rt_segment *first, *last; /* owned; oldest first */
    size_t bytes;                  /* of all */
    uint64_t dropped;              /* steps */
    struct mask mask;
    uint64_t hash;                 /* of the effects since the segment began */
    uint64_t touched;              /* engine_shared_touched() after its last step */
    uint64_t shared;               /* engine_shared_print() then; 0: nobody shares the account, or did */
    uint64_t session_print, keep_print; /* of what was told last; 0: nothing was */
    struct clock at;               /* what was written last */
    uint32_t tasks;                /* numbers given */
    bool ends;                     /* the next step begins a segment */
};

struct rt_recorder {
    struct policy_port bare;       /* what the recording port asks */
    size_t bytes_max;
    struct rt_traced *policies;    /* owned list */
    struct buffer scratch, json;
    /* The hook that runs now. */
    bool on;
    struct rt_conn *conn;
    struct said said;
    struct record_hook hook;
    struct buffer told, session, kept, input, body, value;
    struct walk telling;
    uint64_t masks;                /* known when it began */
};

/* A segment to write to, or NULL. */
struct rt_segment *rt_record__segment(struct rt_conn *c);
/* Appends one record of `kind` whose fields stand in `body`. */
void rt_record__append(struct runtime *rt, struct rt_record *r, enum record_kind kind, const struct buffer *body);
/* Index in the segment's policies; RECORD_POLICIES_MAX: no room. */
uint32_t rt_record__policy(struct runtime *rt, struct rt_segment *s, const struct policy_build *build);
/* New secrets are known: hides them in what was written before. */
void rt_record__hide(struct rt_record *r);
void rt_record__port(struct runtime *rt);

#endif
