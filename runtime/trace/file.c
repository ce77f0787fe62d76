/* Trace files: a line that says what this is, the length and a hash of what follows, then one compressed run. */
#include "trace/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "frame/inflate.h"

static const char magic[] = "holdfast trace 1\n";
#define MAGIC_BYTES (sizeof magic - 1)
#define HEAD_BYTES (MAGIC_BYTES + 16)

static void policy_walk(struct walk *w, struct trace_policy *p)
{
    walk_text(w, p->name, sizeof p->name);
    walk_text(w, p->path, sizeof p->path);
    walk_u32(w, &p->version);
    walk_hash(w, &p->text_hash);
    uint32_t count = p->source_count;
    walk_count(w, &count, TRACE_FILE_SOURCES_MAX);
    if (walk_reads(w)) {
        p->sources = calloc(count ? count : 1, sizeof *p->sources);
        ASSERT(p->sources != NULL);
        p->source_count = count;
        if (count == 0) walk_fail(w, "a policy without a text");
    }
    for (uint32_t i = 0; i < count && !w->bad; i++) {
        const void *name = p->sources[i].name;
        size_t len = name ? strlen(name) + 1 : 0;
        walk_bytes(w, &name, &len);
        walk_bytes(w, &p->sources[i].text, &p->sources[i].len);
        if (!walk_reads(w)) continue;
        const char *text = name;
        if (w->bad || !len || memchr(text, 0, len) != text + len - 1 || (i == 0) != (len == 1)) {
            walk_fail(w, "a policy's text without its name");
        }
        p->sources[i].name = text;
    }
}

static void segment_walk(struct walk *w, struct trace_segment *s, uint32_t policy_count)
{
    walk_count(w, &s->policy_count, RECORD_POLICIES_MAX);
    for (uint32_t i = 0; i < s->policy_count; i++) walk_below(w, &s->policies[i], policy_count);
    walk_u64(w, &s->from_wall_ms);
    walk_u64(w, &s->to_wall_ms);
    walk_u32(w, &s->step_count);
    walk_bytes(w, &s->bytes, &s->len);
}

static void trace_file_walk(struct walk *w, struct trace_file *t)
{
    walk_text(w, t->connection, sizeof t->connection);
    walk_text(w, t->recorded_by, sizeof t->recorded_by);
    walk_hash(w, &t->seed);
    walk_u64(w, &t->exported_wall_ms);
    walk_u64(w, &t->dropped);
    walk_count(w, &t->policy_count, TRACE_FILE_POLICIES_MAX);
    if (walk_reads(w)) {
        t->policies = calloc(t->policy_count + 1, sizeof *t->policies);
        ASSERT(t->policies != NULL);
    }
    for (uint32_t i = 0; i < t->policy_count && !w->bad; i++) policy_walk(w, &t->policies[i]);
    walk_count(w, &t->segment_count, TRACE_FILE_SEGMENTS_MAX);
    if (walk_reads(w)) {
        t->segments = calloc(t->segment_count + 1, sizeof *t->segments);
        ASSERT(t->segments != NULL);
    }
    for (uint32_t i = 0; i < t->segment_count && !w->bad; i++) {
        segment_walk(w, &t->segments[i], t->policy_count);
    }
}

bool trace_file_pack(const struct trace_file *t, struct buffer *out)
{
    struct buffer raw;
    buffer_init(&raw, TRACE_FILE_BYTES_MAX);
    struct walk w = walk_write(&raw);
    trace_file_walk(&w, (struct trace_file *)t);
    bool ok = !w.bad && buffer_append(out, magic, MAGIC_BYTES);
    if (ok) {
        uint64_t len = raw.len, hash = hash_bytes(raw.data, raw.len);
        struct walk head = walk_write(out);
        walk_hash(&head, &len);
        walk_hash(&head, &hash);
        struct deflate *d = deflate_create(INFLATE_ZLIB_STREAM);
        ok = !head.bad && d && deflate_message(d, raw.data, raw.len, out);
        deflate_destroy(d);
    }
    buffer_deinit(&raw);
    return ok;
}

static bool unpack(struct trace_file *t, const uint8_t *bytes, size_t len, char *why, size_t why_bytes)
{
    uint64_t want = 0, hash = 0;
    struct walk head = walk_read(bytes + MAGIC_BYTES, 16);
    walk_hash(&head, &want);
    walk_hash(&head, &hash);
    if (want > TRACE_FILE_BYTES_MAX) {
        snprintf(why, why_bytes, "at byte %zu: it says that it is larger than a trace may be", MAGIC_BYTES);
        return false;
    }
    struct inflate *i = inflate_create(INFLATE_ZLIB_STREAM, TRACE_FILE_BYTES_MAX);
    uint8_t *data = NULL;
    size_t got = 0;
    enum inflate_result result = i ? inflate_feed(i, bytes + HEAD_BYTES, len - HEAD_BYTES, &data, &got) : INFLATE_BAD;
    bool ok = result == INFLATE_MESSAGE && got == want && hash_bytes(data, got) == hash;
    if (ok) ok = buffer_append(&t->bytes, data, got);
    else if (result == INFLATE_TOO_BIG) snprintf(why, why_bytes, "it unpacks to more than a trace may have");
    else if (result == INFLATE_MORE) snprintf(why, why_bytes, "it is cut off after %zu bytes", len);
    else if (result == INFLATE_BAD) snprintf(why, why_bytes, "behind byte %zu: damaged, it does not unpack", HEAD_BYTES);
    else if (got != want) snprintf(why, why_bytes, "it is cut off, or damaged: %zu bytes of %llu", got, (unsigned long long)want);
    else snprintf(why, why_bytes, "behind byte %zu: damaged, its contents are not what was written", HEAD_BYTES);
    inflate_destroy(i);
    return ok;
}

bool trace_file_open(struct trace_file *t, const void *bytes, size_t len, char *why, size_t why_bytes)
{
    memset(t, 0, sizeof *t);
    buffer_init(&t->bytes, TRACE_FILE_BYTES_MAX);
    size_t same = 0;
    while (same < len && same < MAGIC_BYTES && ((const char *)bytes)[same] == magic[same]) same++;
    bool ok = false;
    if (len > TRACE_FILE_PACKED_MAX) {
        snprintf(why, why_bytes, "%zu bytes are more than a trace has", len);
    } else if (same < MAGIC_BYTES && (same < len || len == 0)) {
        snprintf(why, why_bytes, "at byte %zu: not a trace of holdfast", same);
    } else if (len < HEAD_BYTES + 1) {
        snprintf(why, why_bytes, "it is cut off after %zu bytes", len);
    } else {
        ok = unpack(t, bytes, len, why, why_bytes);
    }
    if (ok) {
        struct walk w = walk_read(t->bytes.data, t->bytes.len);
        trace_file_walk(&w, t);
        ok = walk_is_over(&w);
        if (!ok) {
            snprintf(why, why_bytes, "at unpacked byte %zu: %s", (size_t)(w.at - w.begin),
                     w.why ? w.why : "more than a trace has");
        }
    }
    if (!ok) trace_file_deinit(t);
    return ok;
}

void trace_file_deinit(struct trace_file *t)
{
    for (uint32_t i = 0; t->policies && i < t->policy_count; i++) free(t->policies[i].sources);
    free(t->policies);
    free(t->segments);
    buffer_deinit(&t->bytes);
    memset(t, 0, sizeof *t);
}
