/* Recorder: keeps the last steps of each connection, so that an incident is there when somebody asks. Owns a
 * record per connection, bounded in bytes each and over all; quiet hours cost nothing that grows. Decides
 * nothing, and nothing of the runtime depends on it. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/fetch_ahead.h"
#include "base/rng.h"
#include "base/text.h"
#include "engine/saved.h"
#include "recorder_internal.h"
#include "trace/step.h"

#define BYTES_DEFAULT ((size_t)64 << 20)
#define CONN_BYTES_MAX ((size_t)256 << 10)
#define CONN_BYTES_MIN ((size_t)8 << 10)
/* Beats and pings of a settled link that are kept before they are let go again. */
#define QUIET_BYTES_MAX ((size_t)1536)
#define QUIET_BYTES_MORE ((size_t)256) /* the last of them may begin just below that */
#define RECORD_HEAD_MAX ((size_t)16)   /* kind and length */

static void begin(struct runtime *rt, struct rt_conn *c, struct clock now);
static void shared_known(struct runtime *rt, struct rt_conn *c);
static void resize(struct buffer *b, size_t capacity);

void rt_recorder_init(struct runtime *rt)
{
    if (rt->options.trace_bytes_max == 1) return;
    struct rt_recorder *rec = calloc(1, sizeof *rec);
    ASSERT(rec != NULL);
    rec->bytes_max = rt->options.trace_bytes_max ? rt->options.trace_bytes_max : BYTES_DEFAULT;
    buffer_init(&rec->scratch, 0);
    buffer_init(&rec->json, 0);
    buffer_init(&rec->told, 0);
    buffer_init(&rec->session, 0);
    buffer_init(&rec->kept, 0);
    buffer_init(&rec->input, 0);
    buffer_init(&rec->body, 0);
    buffer_init(&rec->value, 0);
    said_init(&rec->said, NULL);
    rt->recorder = rec;
    rt_record__port(rt);
}

void rt_recorder_free(struct runtime *rt)
{
    struct rt_recorder *rec = rt->recorder;
    if (!rec) return;
    ASSERT(rec->policies == NULL);
    buffer_deinit(&rec->scratch);
    buffer_deinit(&rec->json);
    buffer_deinit(&rec->told);
    buffer_deinit(&rec->session);
    buffer_deinit(&rec->kept);
    buffer_deinit(&rec->input);
    buffer_deinit(&rec->body);
    buffer_deinit(&rec->value);
    said_deinit(&rec->said);
    free(rec);
    rt->recorder = NULL;
}

/* --- policies ------------------------------------------------------------------------------------------ */

static void traced_unref(struct runtime *rt, struct rt_traced *p)
{
    if (--p->references) return;
    struct rt_traced **at = &rt->recorder->policies;
    while (*at != p) at = &(*at)->next;
    *at = p->next;
    for (uint32_t i = 0; i < p->source_count; i++) {
        free(p->names[i]);
        free((void *)p->sources[i].text);
    }
    free(p->names);
    free(p->sources);
    free(p);
}

static struct rt_traced *traced(struct runtime *rt, const struct policy_version *v)
{
    struct policy_source source;
    struct rt_traced *p = rt->recorder->policies;
    for (; p; p = p->next) {
        if (p->text_hash == policy_text_hash(v) && p->version == policy_version_number(v) &&
            strcmp(p->path, policy_path(v)) == 0) {
            p->references++;
            return p;
        }
    }
    p = calloc(1, sizeof *p);
    ASSERT(p != NULL);
    p->references = 1;
    text_copy(p->name, sizeof p->name, policy_name(v), strlen(policy_name(v)));
    text_copy(p->path, sizeof p->path, policy_path(v), strlen(policy_path(v)));
    p->version = policy_version_number(v);
    p->text_hash = policy_text_hash(v);
    while (policy_source(v, p->source_count, &source)) p->source_count++;
    p->names = calloc(p->source_count, sizeof *p->names);
    p->sources = calloc(p->source_count, sizeof *p->sources);
    ASSERT(p->names && p->sources);
    for (uint32_t i = 0; i < p->source_count && policy_source(v, i, &source); i++) {
        char *text = malloc(source.len + 1);
        p->names[i] = strdup(source.name);
        ASSERT(text && p->names[i]);
        memcpy(text, source.text, source.len);
        p->sources[i] = (struct policy_source){ .name = p->names[i], .text = text, .len = source.len };
    }
    p->next = rt->recorder->policies;
    rt->recorder->policies = p;
    return p;
}

uint32_t rt_record__policy(struct runtime *rt, struct rt_segment *s, const struct policy_build *build)
{
    struct rt_traced *p = traced(rt, build->version);
    for (uint32_t i = 0; i < s->policy_count; i++) {
        if (s->policies[i] != p) continue;
        traced_unref(rt, p);
        return i;
    }
    if (s->policy_count == RECORD_POLICIES_MAX) {
        traced_unref(rt, p);
        return RECORD_POLICIES_MAX;
    }
    s->policies[s->policy_count] = p;
    return s->policy_count++;
}

/* --- segments ------------------------------------------------------------------------------------------ */

static size_t bytes_most(const struct runtime *rt)
{
    size_t each = rt->recorder->bytes_max / (rt->conn_count ? rt->conn_count : 1);
    if (each > CONN_BYTES_MAX) return CONN_BYTES_MAX;
    return each < CONN_BYTES_MIN ? CONN_BYTES_MIN : each;
}

static void segment_empty(struct runtime *rt, struct rt_record *r, struct rt_segment *s)
{
    for (uint32_t i = 0; i < s->policy_count; i++) traced_unref(rt, s->policies[i]);
    r->bytes -= s->bytes.len;
    struct buffer bytes = s->bytes;
    buffer_clear(&bytes);
    buffer_trim(&bytes, 2 * QUIET_BYTES_MAX);
    *s = (struct rt_segment){ .bytes = bytes };
}

static void segment_free(struct runtime *rt, struct rt_record *r, struct rt_segment *s)
{
    segment_empty(rt, r, s);
    buffer_deinit(&s->bytes);
    free(s);
}

static void first_drop(struct runtime *rt, struct rt_record *r)
{
    struct rt_segment *s = r->first;
    r->first = s->next;
    if (!r->first) r->last = NULL;
    r->dropped += s->step_count;
    segment_free(rt, r, s);
}

void rt_record_free(struct runtime *rt, struct rt_conn *c)
{
    struct rt_record *r = c->record;
    if (!r) return;
    while (r->first) first_drop(rt, r);
    mask_deinit(&r->mask);
    free(r);
    c->record = NULL;
}

struct rt_segment *rt_record__segment(struct rt_conn *c)
{
    return c->record && !c->record->ends ? c->record->last : NULL;
}

void rt_record_warm(const struct rt_conn *c, int level)
{
    const struct rt_record *r = c->record;
    if (!r) return;
    if (level == 0) fetch_ahead(r, sizeof *r);
    else if (!r->last) return;
    else if (level == 1) fetch_ahead(r->last, sizeof *r->last);
    else if (r->last->bytes.data) fetch_ahead(r->last->bytes.data + r->last->bytes.len, 2 * FETCH_LINE);
}

static void resize(struct buffer *b, size_t capacity)
{
    uint8_t *bytes = realloc(b->data, capacity);
    if (!bytes) return;
    b->data = bytes;
    b->capacity = capacity;
}

/* How a segment begins, and then at once what it takes while all is quiet: a segment that grew by doubling was moved
 * several times, and gave all of it back each time that it was let go of. What is not quiet grows as a buffer does. */
static void make_room(struct rt_segment *s, size_t more)
{
    const size_t need = s->bytes.len + more, quiet = s->begin_bytes + QUIET_BYTES_MAX + QUIET_BYTES_MORE;
    if (need <= s->bytes.capacity || need > (s->begin_bytes ? quiet : need)) return;
    resize(&s->bytes, s->begin_bytes ? quiet : need);
}

void rt_record__append(struct runtime *rt, struct rt_record *r, enum record_kind kind, const struct buffer *body)
{
    struct rt_segment *s = r->last;
    size_t before = s->bytes.len;
    make_room(s, body->len + RECORD_HEAD_MAX);
    struct walk w = walk_write(&s->bytes);
    uint32_t number = kind;
    const void *bytes = body->data;
    size_t len = body->len;
    walk_u32(&w, &number);
    walk_bytes(&w, &bytes, &len);
    if (w.bad) s->bytes.len = before; /* no memory: the replay says where it breaks off */
    r->bytes += s->bytes.len - before;
    while (r->bytes > bytes_most(rt) && r->first != r->last) first_drop(rt, r);
}

void rt_record__hide(struct rt_record *r)
{
    for (struct rt_segment *s = r->first; s; s = s->next) mask_apply(&r->mask, s->bytes.data, s->bytes.len);
}

/* Settings, proxies, what was fetched, the address under way. */
static void secrets_know(struct runtime *rt, struct rt_conn *c)
{
    struct mask *m = &c->record->mask;
    const struct policy_build *build = c->build->build;
    mask_add_value(m, &build->options, "", false);
    if (c->proxy.authorization) {
        mask_add(m, "proxy", c->proxy.authorization, strlen(c->proxy.authorization), false);
    }
    for (uint32_t i = 0; i < build->fetch_count; i++) {
        const struct value *v = rt_fetch_value(rt, build, &build->fetch[i]);
        if (v) mask_add_value(m, v, build->fetch[i].name, true);
    }
    if (c->address && c->address->target) mask_add_query(m, c->address->target, strlen(c->address->target));
}

static bool settled(struct runtime *rt, struct rt_conn *c)
{
    struct engine_brief view;
    return !c->tasks && engine_get_brief(rt->engine, c->self, &view) && view.state == CONN_UP && view.settled;
}

/* The segment under way is over: is it kept? */
static void turn(struct runtime *rt, struct rt_conn *c)
{
    struct rt_record *r = c->record;
    struct rt_segment *s = r->last;
    if (r->ends || !s) {
        r->ends = true;
        return;
    }
    size_t most = bytes_most(rt), quiet = s->bytes.len - s->matter_at;
    if (s->bytes.len >= most / 2 || (s->bytes.len >= most / 4 && !c->tasks)) {
        r->ends = true;
    } else if (quiet >= QUIET_BYTES_MAX && settled(rt, c)) {
        r->ends = true;
        if (s->matter_at) return;
        /* All is well and was: nobody will ask for it. */
        r->dropped += s->step_count;
        segment_empty(rt, r, s);
    }
}

/* What of its account is as it was when it was looked at last. Alone in it, only its own steps change that. */
static void shared_known(struct runtime *rt, struct rt_conn *c)
{
    c->record->touched = engine_shared_touched(rt->engine, c->self);
    c->record->shared = engine_shares(rt->engine, c->self) ? engine_shared_print(rt->engine, c->self) : 0;
}

static void begin(struct runtime *rt, struct rt_conn *c, struct clock now)
{
    struct rt_record *r = c->record;
    struct rt_recorder *rec = rt->recorder;
    struct rt_segment *s = r->last && r->last->bytes.len == 0 ? r->last : NULL;
    if (!s) {
        if (r->last && r->last->bytes.capacity > r->last->bytes.len) resize(&r->last->bytes, r->last->bytes.len);
        s = calloc(1, sizeof *s);
        ASSERT(s != NULL);
        buffer_init(&s->bytes, 0);
        if (r->last) r->last->next = s;
        else r->first = s;
        r->last = s;
    }
    const struct policy_build *build = c->build->build;
    struct record_begin b = { .at = now, .lane = build->lane, .policy = rt_record__policy(rt, s, build) };
    buffer_clear(&rec->json);
    secrets_know(rt, c);
    mask_append(&r->mask, &rec->json, build->settings, strlen(build->settings));
    b.settings = rec->json.data;
    b.settings_len = rec->json.len;
    buffer_clear(&rec->session);
    buffer_clear(&rec->kept);
    bool ok = engine_save(rt->engine, c->self, &rec->session) && engine_save_shared(rt->engine, c->self, &rec->kept);
    ASSERT(ok);
    mask_apply(&r->mask, rec->session.data, rec->session.len);
    b.own = rec->session.data;
    b.own_len = rec->session.len;
    b.shared = rec->kept.data;
    b.shared_len = rec->kept.len;
    buffer_clear(&rec->body);
    struct walk w = walk_write(&rec->body);
    record_begin_walk(&w, &b);
    s->from_wall_ms = s->to_wall_ms = now.wall_ms;
    r->at = now;
    r->hash = 0;
    r->session_print = r->keep_print = 0;
    shared_known(rt, c);
    r->ends = false;
    s->begin_bytes = 0;
    rt_record__append(rt, r, RECORD_BEGIN, &rec->body);
    s->begin_bytes = s->bytes.len;
}

/* --- steps --------------------------------------------------------------------------------------------- */

void rt_record_before(struct runtime *rt, const struct event *ev)
{
    struct rt_recorder *rec = rt->recorder;
    struct rt_conn *c = rec ? rt_conn_get(rt, ev->conn) : NULL;
    if (!c) return;
    if (!c->record) {
        c->record = calloc(1, sizeof *c->record);
        ASSERT(c->record != NULL);
        mask_init(&c->record->mask);
        c->record->ends = true;
    }
    struct rt_record *r = c->record;
    if (ev->kind == EV_POLICY_SWAPPED) {
        /* The engine still holds the old plan: a segment cannot begin here. */
        struct rt_segment *s = rt_record__segment(c);
        struct record_build b = { .policy = s ? rt_record__policy(rt, s, c->build->build) : RECORD_POLICIES_MAX };
        r->ends = b.policy == RECORD_POLICIES_MAX;
        if (r->ends) return;
        secrets_know(rt, c);
        rt_record__hide(r);
        buffer_clear(&rec->json);
        mask_append(&r->mask, &rec->json, c->build->build->settings, strlen(c->build->build->settings));
        b.settings = rec->json.data;
        b.settings_len = rec->json.len;
        buffer_clear(&rec->body);
        struct walk w = walk_write(&rec->body);
        record_build_walk(&w, &b);
        rt_record__append(rt, r, RECORD_BUILD, &rec->body);
    } else {
        turn(rt, c);
        if (r->ends) begin(rt, c, ev->at);
    }
    if (engine_shared_touched(rt->engine, c->self) == r->touched) return; /* by nobody since its last step */
    if (r->shared && engine_shared_print(rt->engine, c->self) == r->shared) return;
    buffer_clear(&rec->body);
    if (engine_save_shared(rt->engine, c->self, &rec->body)) rt_record__append(rt, r, RECORD_SHARED, &rec->body);
}

void rt_record_after(struct runtime *rt, const struct event *original, const struct effect_list *effects)
{
    struct rt_recorder *rec = rt->recorder;
    struct rt_conn *c = rec ? rt_conn_get(rt, original->conn) : NULL;
    struct rt_segment *s = c ? rt_record__segment(c) : NULL;
    if (!s) return;
    struct rt_record *r = c->record;
    struct event ev = *original;
    bool ours = ev.store.ticket == engine_ticket(rt->engine, c->self);
    r->hash = effects_hash(r->hash, effects, &r->mask, &rec->scratch);
    buffer_clear(&rec->body);
    struct walk w = walk_write(&rec->body);
    event_walk(&w, &ev, &r->at, &ours, &r->mask, &rec->scratch);
    walk_hash(&w, &r->hash);
    r->at = ev.at;
    shared_known(rt, c);
    s->step_count++;
    s->to_wall_ms = ev.at.wall_ms;
    rt_record__append(rt, r, RECORD_STEP, &rec->body);
    if (effects_matter(effects)) r->last->matter_at = r->last->bytes.len;
}
