/* Port: what hooks ask of the runtime while they run. Nothing here enters Lua or steps the engine: what a
 * hook causes becomes an event and takes effect after it returned. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/text.h"
#include "runtime_internal.h"

/* A hook of a link whose session was dropped sees an empty one, and what it writes goes nowhere: a dropped
 * session must not come back in pieces. */
static bool session_is_lost(const struct runtime *rt, const struct rt_conn *c)
{
    const struct rt_link *l = rt->now.on ? rt_link_find(c, rt->now.generation) : NULL;
    return l && l->session_epoch != c->session_epoch;
}

static bool port_facts(void *self, struct handle conn, struct conn_facts *out)
{
    struct runtime *rt = self;
    struct rt_conn *c = rt_conn_get(rt, conn);
    struct engine_brief view;
    if (!c || !engine_get_brief(rt->engine, conn, &view)) return false;
    /* A hook that began before a reload goes on with the build that its Lua and its frames are of. */
    const struct rt_build *build = rt->now.on ? rt->now.build : c->build;
    uint32_t links = 0;
    for (const struct rt_link *l = c->links; l; l = l->next) links++;
    *out = (struct conn_facts){ .name = c->name,
                                .options = &build->build->options,
                                .session = session_is_lost(rt, c) ? &rt->now.lost : &c->session,
                                .keep = &c->keep,
                                .generation = view.generation,
                                .attempt = view.failed + 1,
                                .failed = view.failed,
                                .links = links,
                                .resuming = view.session_present && !view.start_permit,
                                .build = build->build,
                                .now = rt->now.on ? rt->now.at : rt_clock(rt) };
    return true;
}

/* The scanner may change what it reads. Owned by the caller, who wipes it. */
static uint8_t *scan_copy(const void *bytes, size_t len)
{
    uint8_t *copy = malloc(len + 1);
    ASSERT(copy != NULL);
    if (len) memcpy(copy, bytes, len);
    return copy;
}

static bool port_send(void *self, struct handle conn, uint32_t generation, enum hook by,
                      const void *bytes, size_t len, bool text, const char **why)
{
    struct runtime *rt = self;
    struct rt_conn *c = rt_conn_get(rt, conn);
    struct rt_link *l = c ? rt_link_find(c, generation) : NULL;
    if (!l || l->phase != RT_LINK_OPEN || l->close_sent) {
        *why = "the link is not open";
        return false;
    }
    const struct frame_rules *rules = l->build->build->rules;
    if (len > rules->send_bytes_max) {
        *why = "longer than sizes.send";
        return false;
    }
    uint8_t *scan = NULL;
    if (text && path_encodes(&l->path)) {
        scan = scan_copy(bytes, len);
        bool ok = path_encodable(rules, scan, len, rt->refused, sizeof rt->refused);
        explicit_bzero(scan, len);
        free(scan);
        *why = rt->refused;
        if (!ok) return false;
    }
    struct handle h;
    struct rt_send *s = slots_alloc(&rt->sends, &h);
    if (!s) {
        *why = "too many sends are waiting";
        return false;
    }
    uint8_t *copy = malloc(len + 1);
    ASSERT(copy != NULL);
    if (len) memcpy(copy, bytes, len);
    *s = (struct rt_send){ .self = h, .conn = conn, .text = text, .len = len, .bytes = copy };
    c->send_count++;
    struct event ev = rt_event(EV_SEND_REQUESTED, conn, generation);
    ev.send.send_id = handle_pack(h);
    ev.send.bytes = (uint32_t)len;
    ev.send.by = by == HOOK_GREET ? SEND_GREETING : SEND_HOOK;
    /* Also in a binary message: what starts a session is for the platform to say. */
    if (rules->codec != CODEC_BYTES && rules->start.count) {
        struct field_value fields[FIELDS_MAX];
        scan = scan_copy(bytes, len);
        struct frame_path path = { .rules = rules };
        if (path_take(&path, scan, len, fields) == JSON_OK) {
            ev.send.starts_session = frame_match_any(&rules->start, fields);
        }
        explicit_bzero(scan, len);
        free(scan);
    }
    rt_post(rt, &ev);
    return true;
}

void rt_send_free(struct runtime *rt, struct rt_send *s)
{
    /* A greeting's bytes may hold a token. */
    struct rt_conn *c = rt_conn_get(rt, s->conn);
    explicit_bzero(s->bytes, s->len);
    free(s->bytes);
    if (c) c->send_count--;
    slots_free(&rt->sends, s->self);
}

static bool port_set_beat(void *self, struct handle conn, uint32_t generation, uint64_t interval_ms)
{
    struct runtime *rt = self;
    struct rt_conn *c = rt_conn_get(rt, conn);
    if (!c || !rt_link_find(c, generation)) return false;
    struct event ev = rt_event(EV_BEAT_SET, conn, generation);
    ev.beat_set.interval_ms = interval_ms;
    rt_post(rt, &ev);
    return true;
}

static bool port_set_retire(void *self, struct handle conn, uint32_t generation, uint64_t after_ms)
{
    struct runtime *rt = self;
    struct rt_conn *c = rt_conn_get(rt, conn);
    if (!c || !rt_link_find(c, generation)) return false;
    struct event ev = rt_event(EV_RETIRE_SET, conn, generation);
    ev.retire_set.after_ms = after_ms;
    rt_post(rt, &ev);
    return true;
}

static bool port_set_codec(void *self, struct handle conn, uint32_t generation,
                           const struct value *settings, const char **why)
{
    struct runtime *rt = self;
    struct rt_conn *c = rt_conn_get(rt, conn);
    struct rt_link *l = c ? rt_link_find(c, generation) : NULL;
    if (!l || !l->path_on) {
        *why = "the link is not open";
        return false;
    }
    if (!path_encodes(&l->path) || !l->path.codec->ops->set) {
        *why = "the codec has nothing to set";
        return false;
    }
    return l->path.codec->ops->set(l->path.codec, settings, why);
}

static void port_end(void *self, struct handle conn, uint32_t generation, const struct cause *cause)
{
    struct runtime *rt = self;
    struct rt_conn *c = rt_conn_get(rt, conn);
    if (!c) return;
    ASSERT(rt->now.on);
    struct event ev;
    switch (rt->now.hook) {
    case HOOK_FETCH:
        ASSERT(rt->now.fetch != NULL);
        rt->now.fetch->failed = true;
        rt->now.fetch->failure = *cause;
        /* Head and body are the answer's, gone before the waiters are told. */
        rt->now.fetch->failure.head = NULL;
        rt->now.fetch->failure.head_len = 0;
        rt->now.fetch->failure.body = NULL;
        rt->now.fetch->failure.body_len = 0;
        return;
    case HOOK_PREPARE:
        ev = rt_event(EV_ATTEMPT_FAILED, conn, generation);
        ev.cause = *cause;
        ev.cause.stage = STAGE_PREPARING;
        rt_post(rt, &ev);
        return;
    default: {
        const struct rt_link *l = rt_link_find(c, generation);
        ev = rt_event(EV_ENDING_ANNOUNCED, conn, generation);
        ev.ending.cause = *cause;
        ev.ending.cause.stage = l && l->ready ? STAGE_READY : STAGE_GREETING;
        rt_post(rt, &ev);
        return;
    }
    }
}

static void port_gap(void *self, struct handle conn, const char *why)
{
    struct runtime *rt = self;
    struct rt_conn *c = rt_conn_get(rt, conn);
    if (!c) return;
    char shown[PLAN_NOTE_MAX];
    text_copy(shown, sizeof shown, why, strlen(why));
    rt_hide(rt, c, shown, sizeof shown);
    rt_journal_note(rt, c, 0, JOURNAL_NOTE, "gap: %s", shown);
    if (rt->options.deliver) {
        deliver_gap(rt->options.deliver, c->stream, shown, true, rt_clock(rt).wall_ms);
    }
}

static void port_warn(void *self, struct handle conn, const char *text)
{
    struct runtime *rt = self;
    struct rt_conn *c = rt_conn_get(rt, conn);
    if (!c) return;
    text_copy(c->warning, sizeof c->warning, text, strlen(text));
    c->warning_of = rt->now.on ? rt->now.generation : 0;
    rt_hide(rt, c, c->warning, sizeof c->warning);
    rt_journal_note(rt, c, 0, JOURNAL_NOTE, "warning: %s", text);
    rt_log(rt, LOG_WARNING, c, "%s", text);
}

static void port_log(void *self, struct handle conn, const char *text)
{
    struct runtime *rt = self;
    rt_log(rt, LOG_INFO, rt_conn_get(rt, conn), "%s", text);
}

static void port_budget(void *self, struct handle conn, enum budget_kind budget, int64_t left,
                        uint64_t reset_ms, uint32_t lanes)
{
    struct runtime *rt = self;
    struct event ev = rt_event(EV_BUDGET_TOLD, conn, 0);
    ev.budget_told.budget = budget;
    ev.budget_told.left = left;
    ev.budget_told.reset_ms = reset_ms;
    ev.budget_told.lanes = lanes;
    rt_post(rt, &ev);
}

static void port_session_changed(void *self, struct handle conn)
{
    struct runtime *rt = self;
    struct rt_conn *c = rt_conn_get(rt, conn);
    if (!c || session_is_lost(rt, c)) return;
    c->session_dirty = true;
    rt_session_flush(rt, c);
}

static void port_keep_changed(void *self, struct handle conn)
{
    struct runtime *rt = self;
    struct rt_conn *c = rt_conn_get(rt, conn);
    if (!c) return;
    c->keep_dirty = true;
    rt_session_flush(rt, c);
}

static uint64_t port_random(void *self, struct handle conn)
{
    struct runtime *rt = self;
    struct rt_conn *c = rt_conn_get(rt, conn);
    if (!c) return rng_draw(rt->options.seed, 0, 0, 2);
    return rng_draw(rt->options.seed, c->name_hash, c->random_count++, 2);
}

void rt_port_init(struct runtime *rt)
{
    rt->port = (struct policy_port){ .self = rt,
                                     .facts = port_facts,
                                     .send = port_send,
                                     .set_beat = port_set_beat,
                                     .set_retire = port_set_retire,
                                     .set_codec = port_set_codec,
                                     .end = port_end,
                                     .gap = port_gap,
                                     .warn = port_warn,
                                     .log = port_log,
                                     .budget = port_budget,
                                     .session_changed = port_session_changed,
                                     .keep_changed = port_keep_changed,
                                     .random = port_random };
}
