/* Trace files: segments of one connection, the policies that they ran under, packed into one run of bytes that
 * can be kept, sent and opened again elsewhere. Opening trusts nothing: a file that is cut off, changed or made
 * up is one sentence with its place, within bounded memory. */
#ifndef HOLDFAST_TRACE_FILE_H
#define HOLDFAST_TRACE_FILE_H

#include "base/walk.h"
#include "policy/policy.h"
#include "trace/record.h"

#define TRACE_FILE_PACKED_MAX ((size_t)16 << 20)
#define TRACE_FILE_BYTES_MAX ((size_t)64 << 20) /* unpacked */
#define TRACE_FILE_POLICIES_MAX 64
#define TRACE_FILE_SOURCES_MAX 64
#define TRACE_FILE_SEGMENTS_MAX 4096

struct trace_policy {
    char name[64];
    char path[256];      /* as it was shown */
    uint32_t version;
    uint64_t text_hash;  /* policy_text_hash(): of lua/'s files too */
    struct policy_source *sources; /* owned; texts borrowed from the file's bytes */
    uint32_t source_count;
};

struct trace_segment {
    uint32_t policies[RECORD_POLICIES_MAX]; /* indexes into the trace's */
    uint32_t policy_count;
    uint64_t from_wall_ms, to_wall_ms;
    uint32_t step_count;
    const void *bytes;   /* records */
    size_t len;
};

struct trace_file {
    char connection[64];
    char recorded_by[32]; /* version of holdfast */
    uint64_t seed;
    uint64_t exported_wall_ms;
    uint64_t dropped;     /* steps that were let go: quiet ones, and the oldest */
    struct trace_policy *policies; /* owned */
    uint32_t policy_count;
    struct trace_segment *segments; /* owned; oldest first */
    uint32_t segment_count;
    struct buffer bytes;  /* owned: unpacked */
};

/* Texts and bytes of `t` are borrowed until return. False: too large, or memory is out. */
bool trace_file_pack(const struct trace_file *t, struct buffer *out);
/* False with a sentence. */
bool trace_file_open(struct trace_file *t, const void *bytes, size_t len, char *why, size_t why_bytes);
void trace_file_deinit(struct trace_file *t);

#endif
