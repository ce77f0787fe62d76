/* A record as a file: its segments, the policies that they ran under, and nothing that is secret. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "recorder_internal.h"
#include "trace/file.h"

static uint32_t policy_put(struct trace_file *t, const struct rt_traced **known, const struct rt_traced *p)
{
    for (uint32_t i = 0; i < t->policy_count; i++) {
        if (known[i] == p) return i;
    }
    if (t->policy_count == TRACE_FILE_POLICIES_MAX) return TRACE_FILE_POLICIES_MAX;
    known[t->policy_count] = p;
    struct trace_policy *to = &t->policies[t->policy_count];
    memcpy(to->name, p->name, sizeof to->name);
    memcpy(to->path, p->path, sizeof to->path);
    to->version = p->version;
    to->text_hash = p->text_hash;
    to->sources = p->sources;
    to->source_count = p->source_count < TRACE_FILE_SOURCES_MAX ? p->source_count : TRACE_FILE_SOURCES_MAX;
    return t->policy_count++;
}

bool runtime_trace(struct runtime *rt, struct handle conn, uint64_t last_ms, const char *recorded_by,
                   struct buffer *out, char *why, size_t why_bytes)
{
    struct rt_conn *c = rt_conn_get(rt, conn);
    if (!rt->recorder) {
        snprintf(why, why_bytes, "nothing is recorded here");
        return false;
    }
    if (!c || !c->record || !c->record->last || c->record->last->bytes.len == 0) {
        snprintf(why, why_bytes, "nothing has happened to it yet");
        return false;
    }
    struct rt_record *r = c->record;
    const struct rt_traced *known[TRACE_FILE_POLICIES_MAX];
    struct trace_policy policies[TRACE_FILE_POLICIES_MAX];
    struct trace_file t = { .seed = rt->options.seed,
                       .exported_wall_ms = rt_clock(rt).wall_ms,
                       .dropped = r->dropped,
                       .policies = policies };
    memcpy(t.connection, c->name, sizeof t.connection);
    text_copy(t.recorded_by, sizeof t.recorded_by, recorded_by, strlen(recorded_by));
    uint32_t most = 0;
    for (struct rt_segment *s = r->first; s; s = s->next) most++;
    t.segments = calloc(most, sizeof *t.segments);
    ASSERT(t.segments != NULL);
    rt_record__hide(r);
    uint64_t from = last_ms && last_ms < t.exported_wall_ms ? t.exported_wall_ms - last_ms : 0;
    for (struct rt_segment *s = r->first; s && t.segment_count < TRACE_FILE_SEGMENTS_MAX; s = s->next) {
        if (s->bytes.len == 0 || (s->to_wall_ms < from && s->next)) continue;
        struct trace_segment *to = &t.segments[t.segment_count];
        bool room = true;
        for (uint32_t i = 0; i < s->policy_count; i++) {
            to->policies[i] = policy_put(&t, known, s->policies[i]);
            room = room && to->policies[i] < TRACE_FILE_POLICIES_MAX;
        }
        if (!room) continue;
        to->policy_count = s->policy_count;
        to->from_wall_ms = s->from_wall_ms;
        to->to_wall_ms = s->to_wall_ms;
        to->step_count = s->step_count;
        to->bytes = s->bytes.data;
        to->len = s->bytes.len;
        t.segment_count++;
    }
    bool ok = trace_file_pack(&t, out);
    if (!ok) snprintf(why, why_bytes, "no memory for it");
    free(t.segments);
    return ok;
}
