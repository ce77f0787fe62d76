/* Replay: reads records in order and does again what they tell. Owns an engine with one connection, and the
 * policies; reads nothing but the trace and the policy file that it was given. */
#include "trace/replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "engine/saved.h"
#include "trace/replay_internal.h"
#include "trace/step.h"

static void say_problems(const struct problems *p, char *why, size_t why_bytes)
{
    snprintf(why, why_bytes, "the policy does not load");
    for (uint32_t i = 0; i < p->count; i++) {
        if (p->items[i].warning) continue;
        problem_format(&p->items[i], why, why_bytes);
        return;
    }
}

/* The version that plays for the trace's policy `index`: the other one, or its own, loaded when it is needed. */
static struct policy_version *version_get(struct replayer *r, uint32_t index, char *why, size_t why_bytes)
{
    if (r->other) return r->other;
    if (r->versions[index]) return r->versions[index];
    const struct trace_policy *p = &r->options.trace->policies[index];
    struct problems problems;
    problems_init(&problems);
    struct policy_load load = { .name = p->name,
                                .path = p->path,
                                .lua_path = r->options.lua_path,
                                .version = p->version,
                                .seed = r->options.trace->seed,
                                .given = p->sources,
                                .given_count = p->source_count };
    struct policy_version *v = policy_load(&load, &problems);
    if (!v) say_problems(&problems, why, why_bytes);
    else if (policy_text_hash(v) != p->text_hash) r->other_library = true;
    problems_deinit(&problems);
    r->versions[index] = v;
    return v;
}

static bool other_load(struct replayer *r, char *why, size_t why_bytes)
{
    const char *path = r->options.policy_path, *base = strrchr(path, '/');
    char name[64];
    base = base ? base + 1 : path;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(base, "."), base);
    struct problems problems;
    problems_init(&problems);
    struct policy_load load = { .name = name,
                                .path = path,
                                .lua_path = r->options.lua_path,
                                .version = 1,
                                .seed = r->options.trace->seed };
    r->other = policy_load(&load, &problems);
    if (!r->other) say_problems(&problems, why, why_bytes);
    problems_deinit(&problems);
    return r->other != NULL;
}

static struct replay_build *build_make(struct replayer *r, uint32_t policy, const void *settings, size_t len,
                                       char *why, size_t why_bytes)
{
    const struct trace_segment *s = &r->options.trace->segments[r->segment];
    struct value v;
    if (policy >= s->policy_count || !replay__value(settings, len, &v)) {
        snprintf(why, why_bytes, "settings that are none");
        return NULL;
    }
    struct policy_version *version = version_get(r, s->policies[policy], why, why_bytes);
    struct policy_build *build = NULL;
    if (version) {
        struct problems problems;
        problems_init(&problems);
        build = policy_build_create(version, &v, "the trace", &problems);
        if (!build) say_problems(&problems, why, why_bytes);
        problems_deinit(&problems);
    }
    value_clear(&v);
    if (!build) return NULL;
    struct replay_build *b = calloc(1, sizeof *b);
    ASSERT(b != NULL);
    b->references = 1;
    b->build = build;
    mask_add_value(&r->mask, &build->options, "", false);
    return b;
}

struct replayer *replay_create(const struct replay_options *options, char *why, size_t why_bytes)
{
    struct replayer *r = calloc(1, sizeof *r);
    ASSERT(r != NULL);
    r->options = *options;
    r->versions = calloc(options->trace->policy_count + 1, sizeof *r->versions);
    ASSERT(r->versions != NULL);
    buffer_init(&r->scratch, 0);
    buffer_init(&r->frame, 0);
    mask_init(&r->mask);
    said_init(&r->said, &r->mask);
    r->session = value_table();
    r->keep = value_table();
    replay__port(r);
    if (!options->policy_path || other_load(r, why, why_bytes)) return r;
    replay_destroy(r);
    return NULL;
}

static void segment_end(struct replayer *r)
{
    replay__tasks_end(r);
    engine_destroy(r->engine);
    r->engine = NULL;
    replay__build_unref(r->build);
    replay__build_unref(r->before);
    r->build = r->before = NULL;
    value_clear(&r->session);
    value_clear(&r->keep);
    r->session = value_table();
    r->keep = value_table();
    r->begun = false;
}

void replay_destroy(struct replayer *r)
{
    if (!r) return;
    segment_end(r);
    for (uint32_t i = 0; i < r->options.trace->policy_count; i++) policy_unref(r->versions[i]);
    policy_unref(r->other);
    free(r->versions);
    value_clear(&r->session);
    value_clear(&r->keep);
    mask_deinit(&r->mask);
    said_deinit(&r->said);
    buffer_deinit(&r->scratch);
    buffer_deinit(&r->frame);
    free(r);
}

bool replay_other_library(const struct replayer *r)
{
    return r->other_library;
}

bool replay_engine_view(const struct replayer *r, struct engine_view *out)
{
    return r->engine && engine_get(r->engine, r->conn, out);
}

/* --- records -------------------------------------------------------------------------------------------- */

static bool begin(struct replayer *r, struct walk *w, char *why, size_t why_bytes)
{
    struct record_begin b = { .policy = 0 };
    record_begin_walk(w, &b);
    if (!walk_is_over(w)) {
        snprintf(why, why_bytes, "the begin of a segment that is none");
        return false;
    }
    r->build = build_make(r, b.policy, b.settings, b.settings_len, why, why_bytes);
    if (!r->build) return false;
    struct engine_options eo = { .seed = r->options.trace->seed,
                                 .connections_max = 1 + SAVED_PLACES_MAX,
                                 .sends_max = 4096,
                                 .sends_per_connection_max = 1024 };
    r->engine = engine_create(&eo);
    ASSERT(r->engine != NULL);
    struct engine_add add = { .name = r->options.trace->connection,
                              .identity = 1,
                              .account = 1,
                              .lane = b.lane,
                              .plan = r->build->build->plan,
                              .at = b.at };
    struct handle taken;
    const char *what = NULL;
    bool ok = engine_add(r->engine, &add, &r->conn, &taken) == ENGINE_ADDED &&
              engine_load(r->engine, r->conn, b.own, b.own_len, &what) &&
              engine_load_shared(r->engine, r->conn, b.shared, b.shared_len, &what);
    if (!ok) snprintf(why, why_bytes, "a state that is none: %s", what ? what : "no room");
    r->at = b.at;
    r->hash = 0;
    r->begun = ok;
    return ok;
}

static bool swap(struct replayer *r, struct walk *w, char *why, size_t why_bytes)
{
    struct record_build b = { .policy = 0 };
    record_build_walk(w, &b);
    if (!walk_is_over(w)) {
        snprintf(why, why_bytes, "a build that is none");
        return false;
    }
    struct replay_build *next = build_make(r, b.policy, b.settings, b.settings_len, why, why_bytes);
    if (!next) return false;
    replay__build_unref(r->before);
    r->before = r->build;
    r->build = next;
    return true;
}

static bool step(struct replayer *r, struct walk *w, struct replay_view *out, char *why, size_t why_bytes)
{
    bool ours = false;
    uint64_t hash = 0;
    memset(&r->event, 0, sizeof r->event);
    event_walk(w, &r->event, &r->at, &ours, &r->mask, &r->scratch);
    walk_hash(w, &hash);
    bool swapped = r->event.kind == EV_POLICY_SWAPPED;
    if (!walk_is_over(w) || (swapped && !r->before)) {
        snprintf(why, why_bytes, "a step that is none: %s", w->why ? w->why : "no policy to swap to");
        return false;
    }
    if (swapped) r->event.policy_swapped.plan = r->build->build->plan;
    if (r->event.kind == EV_STORED || r->event.kind == EV_STORE_FAILED) {
        r->event.store.ticket = ours ? engine_ticket(r->engine, r->conn) : UINT64_MAX - 1;
    }
    r->event.conn = r->conn;
    r->at = r->event.at;
    engine_step(r->engine, &r->event, &r->effects);
    r->hash = effects_hash(r->hash, &r->effects, &r->mask, &r->scratch);
    out->equal = r->hash == hash;
    out->event = &r->event;
    out->effects = &r->effects;
    out->number = ++r->number;
    return true;
}

static bool hook(struct replayer *r, struct walk *w, struct replay_view *out, char *why, size_t why_bytes)
{
    memset(&r->hook, 0, sizeof r->hook);
    record_hook_walk(w, &r->hook, &r->at);
    if (!walk_is_over(w)) {
        snprintf(why, why_bytes, "a hook that is none: %s", w->why ? w->why : "more than one");
        return false;
    }
    r->at = r->hook.at;
    out->number = r->number;
    out->hook = &r->hook;
    out->run = replay__hook(r, &out->result);
    out->equal = !out->run || (out->result == r->hook.result && r->said.lines.len == r->hook.said_len && r->hook.said_len &&
                               memcmp(r->said.lines.data, r->hook.said, r->hook.said_len) == 0);
    ASSERT(buffer_append_char(&r->said.lines, 0));
    out->said = (const char *)r->said.lines.data;
    return true;
}

/* One record; false with a sentence. `*shown`: there is something to see. */
static bool one(struct replayer *r, struct replay_view *out, bool *shown, char *why, size_t why_bytes)
{
    uint32_t kind = RECORD_NONE;
    const void *bytes = NULL;
    size_t len = 0;
    const char *what = NULL;
    walk_below(&r->walk, &kind, RECORD_COUNT);
    walk_bytes(&r->walk, &bytes, &len);
    if (r->walk.bad || kind == RECORD_NONE || (kind == RECORD_BEGIN) == r->begun) {
        snprintf(why, why_bytes, "no record: %s", r->walk.why ? r->walk.why : "out of order");
        return false;
    }
    struct walk w = walk_read(bytes, len);
    uint32_t task = 0;
    *shown = kind == RECORD_STEP || kind == RECORD_HOOK;
    out->kind = (enum record_kind)kind;
    switch (kind) {
    case RECORD_BEGIN: return begin(r, &w, why, why_bytes);
    case RECORD_STEP: return step(r, &w, out, why, why_bytes);
    case RECORD_HOOK: return hook(r, &w, out, why, why_bytes);
    case RECORD_BUILD: return swap(r, &w, why, why_bytes);
    case RECORD_SHARED:
        if (engine_load_shared(r->engine, r->conn, bytes, len, &what)) return true;
        snprintf(why, why_bytes, "an account that is none: %s", what);
        return false;
    default:
        walk_u32(&w, &task);
        replay__cancel(r, task);
        return walk_is_over(&w);
    }
}

enum replay_result replay_next(struct replayer *r, struct replay_view *out, char *why, size_t why_bytes)
{
    const struct trace_file *t = r->options.trace;
    char what[400] = "";
    for (;;) {
        memset(out, 0, sizeof *out);
        if (!r->begun) {
            if (r->segment == t->segment_count) return REPLAY_OVER;
            r->walk = walk_read(t->segments[r->segment].bytes, t->segments[r->segment].len);
        } else if (r->walk.at == r->walk.end) {
            segment_end(r);
            r->segment++;
            continue;
        }
        size_t at = (size_t)(r->walk.at - r->walk.begin);
        struct engine_view gone;
        bool shown = false, there = !r->begun || engine_get(r->engine, r->conn, &gone);
        if (!there) snprintf(what, sizeof what, "more than the connection's end");
        if (!there || !one(r, out, &shown, what, sizeof what)) {
            snprintf(why, why_bytes, "segment %u, byte %zu: %s", r->segment + 1, at, what);
            return REPLAY_BROKEN;
        }
        if (!shown) continue;
        out->segment = r->segment;
        out->at = r->at;
        out->policy = policy_path(r->build->build->version);
        return REPLAY_NEXT;
    }
}

/* The line in which two texts part. */
static void line_of(const char *text, size_t len, size_t at, char *out, size_t out_bytes)
{
    size_t from = at < len ? at : len, to = from;
    while (from && text[from - 1] != '\n') from--;
    while (to < len && text[to] != '\n') to++;
    text_copy(out, out_bytes, text + from, to - from);
}

static void other_note(struct replay_totals *t, const struct replay_view *view)
{
    const char *was = view->hook->said;
    size_t was_len = view->hook->said_len, is_len = strlen(view->said), at = 0;
    if (t->first_other_hook_ms) return;
    t->first_other_hook_ms = view->at.wall_ms;
    while (at < was_len && at < is_len && was[at] == view->said[at]) at++;
    line_of(was, was_len, at, t->was, sizeof t->was);
    line_of(view->said, is_len, at, t->is, sizeof t->is);
}

void replay_totals_add(struct replayer *r, const struct replay_view *view, struct replay_totals *t)
{
    if (view->kind == RECORD_STEP) {
        t->steps++;
        t->steps_equal += view->equal;
        if (!view->equal && !t->first_other_step) t->first_other_step = view->number;
        t->hash = effects_hash(t->hash, view->effects, &r->mask, &r->scratch);
        return;
    }
    t->hooks++;
    t->hooks_run += view->run;
    t->hooks_equal += view->run && view->equal;
    if (!view->equal) other_note(t, view);
}

bool replay_all(const struct replay_options *options, struct replay_totals *out, char *why, size_t why_bytes)
{
    struct replay_view view;
    enum replay_result result;
    memset(out, 0, sizeof *out);
    struct replayer *r = replay_create(options, why, why_bytes);
    if (!r) return false;
    while ((result = replay_next(r, &view, why, why_bytes)) == REPLAY_NEXT) {
        replay_totals_add(r, &view, out);
    }
    replay_destroy(r);
    return result == REPLAY_OVER;
}
