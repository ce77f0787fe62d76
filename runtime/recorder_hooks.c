/* Recorded hooks: what each run was given, what it was told, and a hash over what it did. A port that passes
 * everything on stands between bind/ and the runtime's own; nothing here changes what a hook sees. */
#include <string.h>

#include "base/conceal.h"
#include "base/rng.h"
#include "recorder_internal.h"

static uint64_t print_of(const struct value *v)
{
    return value_fingerprint(v) | 1; /* 0: it was not told yet */
}

/* Told again only when it is another one: most hooks find what the one before them left. */
static bool tell(const struct mask *mask, const struct value *v, uint64_t *told, struct buffer *out)
{
    const uint64_t print = print_of(v);
    buffer_clear(out);
    if (print == *told) return false;
    *told = print;
    if (!value_to_json(v, out)) buffer_clear(out);
    mask_apply(mask, out->data, out->len);
    return true;
}

/* False: this run is not recorded. */
static bool begins(struct runtime *rt, const struct rt_build *build, struct rt_conn *c, enum hook hook,
                   const char *name, uint32_t generation, uint32_t task)
{
    struct rt_recorder *rec = rt->recorder;
    /* One per frame, and nothing of it comes before the engine. */
    if (!rec || !c || hook == HOOK_ON_ACK || !rt_record__segment(c)) return false;
    struct rt_record *r = c->record;
    struct conn_facts facts;
    if (!rec->bare.facts(rt, c->self, &facts)) return false;
    rec->on = true;
    rec->conn = c;
    rec->masks = r->mask.ages;
    rec->said.mask = &r->mask;
    said_begin(&rec->said);
    buffer_clear(&rec->told);
    rec->telling = walk_write(&rec->told);
    memset(&rec->hook, 0, sizeof rec->hook);
    struct record_hook *h = &rec->hook;
    h->task = task;
    h->hook = hook;
    if (name) strncpy(h->name, name, sizeof h->name - 1);
    h->generation = generation;
    h->at = facts.now;
    h->links = facts.links;
    h->older = build != c->build;
    h->whole = true;
    h->session_told = tell(&r->mask, facts.session, &r->session_print, &rec->session);
    h->keep_told = tell(&r->mask, facts.keep, &r->keep_print, &rec->kept);
    h->session = rec->session.data;
    h->session_len = rec->session.len;
    h->kept = rec->kept.data;
    h->kept_len = rec->kept.len;
    return true;
}

/* Masked into a buffer of the recorder's; false: too long. */
static bool input(struct rt_recorder *rec, struct buffer *into, const void *bytes, size_t len, bool learn)
{
    struct mask *mask = &rec->conn->record->mask;
    buffer_clear(into);
    if (len > RECORD_INPUT_MAX) return false;
    if (learn) mask_learn(mask, bytes, len);
    return mask_append(mask, into, bytes, len);
}

static void frame(struct rt_recorder *rec, const void *bytes, size_t len, const struct field_value *fields,
                  bool json)
{
    struct record_hook *h = &rec->hook;
    if (!bytes) return;
    h->has_frame = true;
    h->has_fields = fields != NULL && json;
    h->whole = input(rec, &rec->input, bytes, len, true);
    h->frame = rec->input.data;
    h->frame_len = rec->input.len;
}

void rt_record_entered(struct runtime *rt, const struct rt_build *build, const struct policy_call *call,
                       struct rt_task *t)
{
    struct rt_conn *c = rt_conn_get(rt, call->conn);
    if (t && c && c->record) t->recorded = ++c->record->tasks;
    if (!begins(rt, build, c, call->hook, call->name, call->generation, t ? t->recorded : 0)) return;
    struct rt_recorder *rec = rt->recorder;
    frame(rec, call->frame, call->frame_len, call->fields, build->build->rules->codec != CODEC_BYTES);
    if (!call->cause) return;
    rec->hook.has_cause = true;
    rec->hook.cause = *call->cause;
    mask_apply(&c->record->mask, rec->hook.cause.reason, strlen(rec->hook.cause.reason));
    rec->hook.whole = rec->hook.whole && input(rec, &rec->input, call->cause->head, call->cause->head_len, true) &&
                      input(rec, &rec->value, call->cause->body, call->cause->body_len, true);
    rec->hook.cause.head = (const char *)rec->input.data;
    rec->hook.cause.head_len = rec->input.len;
    rec->hook.cause.body = (const char *)rec->value.data;
    rec->hook.cause.body_len = rec->value.len;
}

void rt_record_resumed(struct runtime *rt, const struct rt_task *t, const struct resume_with *with)
{
    struct rt_conn *c = rt_conn_get(rt, t->conn);
    if (!begins(rt, t->build, c, t->hook, t->name, t->generation, t->recorded)) return;
    struct rt_recorder *rec = rt->recorder;
    struct record_hook *h = &rec->hook;
    h->resumed = true;
    h->wait = with->kind;
    h->answered = with->answered;
    h->retry_after_ms = with->retry_after_ms;
    frame(rec, with->frame, with->frame_len, with->fields, t->build->build->rules->codec != CODEC_BYTES);
    if (with->kind == WAIT_HTTP && with->answered) {
        h->status = with->status;
        /* First what both tell, then both without it. */
        if (with->body_len <= RECORD_INPUT_MAX) mask_learn(&c->record->mask, with->body, with->body_len);
        h->whole = input(rec, &rec->input, with->head, with->head_len, true) &&
                   input(rec, &rec->value, with->body, with->body_len, true);
        h->head = rec->input.data;
        h->head_len = rec->input.len;
        h->body = rec->value.data;
        h->body_len = rec->value.len;
    }
    if (with->cause) {
        h->has_cause = true;
        h->cause = *with->cause;
        mask_apply(&c->record->mask, h->cause.reason, strlen(h->cause.reason));
        h->cause.head = h->cause.body = NULL;
        h->cause.head_len = h->cause.body_len = 0;
    }
    if (with->kind == WAIT_FETCH && with->value) {
        h->has_value = true;
        mask_add_value(&c->record->mask, with->value, t->name, true);
        buffer_clear(&rec->scratch);
        struct value shown = conceal_copy(with->value);
        h->whole = h->whole && value_to_json(&shown, &rec->scratch) &&
                   input(rec, &rec->value, rec->scratch.data, rec->scratch.len, false);
        value_clear(&shown);
        h->value = rec->value.data;
        h->value_len = rec->value.len;
    }
}

/* What a hook answers may be a secret, or lead to one. */
static void answer_know(struct mask *m, const struct record_hook *h, const struct call_answer *answer)
{
    if (h->hook == HOOK_FETCH) mask_add_value(m, &answer->value, h->name, true);
    if (h->hook != HOOK_PREPARE) return;
    mask_add_value(m, &answer->value, "", false);
    const char *url = value_get_text(&answer->value, "url"), *protocol = value_get_text(&answer->value, "protocol");
    if (url) mask_add_query(m, url, strlen(url));
    if (protocol && strlen(protocol) >= 16) mask_add(m, "protocol", protocol, strlen(protocol), true);
}

void rt_record_left(struct runtime *rt, enum call_result result, const struct call_answer *answer)
{
    struct rt_recorder *rec = rt->recorder;
    if (!rec || !rec->on) return;
    rec->on = false;
    struct rt_conn *c = rec->conn;
    struct rt_record *r = c->record;
    struct record_hook *h = &rec->hook;
    if (result == CALL_OK && !answer->ended) answer_know(&r->mask, h, answer);
    said_answer(&rec->said, result, answer);
    h->result = result;
    h->said = rec->said.lines.data;
    h->said_len = rec->said.lines.len;
    h->told = rec->told.data;
    h->told_len = rec->told.len;
    if (!h->whole) {
        h->frame_len = h->head_len = h->body_len = h->value_len = 0;
        h->cause.head_len = h->cause.body_len = 0;
    }
    buffer_clear(&rec->body);
    struct walk w = walk_write(&rec->body);
    record_hook_walk(&w, h, &r->at);
    r->at = h->at;
    rt_record__append(rt, r, RECORD_HOOK, &rec->body);
    if (r->mask.ages != rec->masks) rt_record__hide(r);
}

void rt_record_cancelled(struct runtime *rt, const struct rt_task *t)
{
    struct rt_conn *c = rt->recorder ? rt_conn_get(rt, t->conn) : NULL;
    if (!c || !rt_record__segment(c)) return;
    uint32_t task = t->recorded;
    buffer_clear(&rt->recorder->body);
    struct walk w = walk_write(&rt->recorder->body);
    walk_u32(&w, &task);
    rt_record__append(rt, c->record, RECORD_CANCEL, &rt->recorder->body);
}

/* --- the port ------------------------------------------------------------------------------------------ */

static void told_why(struct rt_recorder *rec, bool ok, const char *why)
{
    char text[160] = "";
    walk_bool(&rec->telling, &ok);
    if (ok) return;
    if (why) strncpy(text, why, sizeof text - 1);
    walk_text(&rec->telling, text, sizeof text);
}

static bool send(void *self, struct handle conn, uint32_t generation, enum hook by, const void *bytes,
                 size_t len, bool text, const char **why)
{
    struct rt_recorder *rec = ((struct runtime *)self)->recorder;
    bool ok = rec->bare.send(self, conn, generation, by, bytes, len, text, why);
    if (!rec->on) return ok;
    said_send(&rec->said, bytes, len, text);
    told_why(rec, ok, ok ? NULL : *why);
    return ok;
}

static bool set_beat(void *self, struct handle conn, uint32_t generation, uint64_t interval_ms)
{
    struct rt_recorder *rec = ((struct runtime *)self)->recorder;
    bool ok = rec->bare.set_beat(self, conn, generation, interval_ms);
    if (!rec->on) return ok;
    said_number(&rec->said, "sets beat", interval_ms);
    walk_bool(&rec->telling, &ok);
    return ok;
}

static bool set_retire(void *self, struct handle conn, uint32_t generation, uint64_t after_ms)
{
    struct rt_recorder *rec = ((struct runtime *)self)->recorder;
    bool ok = rec->bare.set_retire(self, conn, generation, after_ms);
    if (!rec->on) return ok;
    said_number(&rec->said, "sets retire", after_ms);
    walk_bool(&rec->telling, &ok);
    return ok;
}

static bool set_codec(void *self, struct handle conn, uint32_t generation, const struct value *codec,
                      const char **why)
{
    struct rt_recorder *rec = ((struct runtime *)self)->recorder;
    bool ok = rec->bare.set_codec(self, conn, generation, codec, why);
    if (!rec->on) return ok;
    mask_add_value(&rec->conn->record->mask, codec, "codec", true);
    said_value(&rec->said, "sets codec", codec);
    told_why(rec, ok, ok ? NULL : *why);
    return ok;
}

static void end(void *self, struct handle conn, uint32_t generation, const struct cause *cause)
{
    struct rt_recorder *rec = ((struct runtime *)self)->recorder;
    if (rec->on) said_end(&rec->said, cause);
    rec->bare.end(self, conn, generation, cause);
}

static void gap(void *self, struct handle conn, const char *why)
{
    struct rt_recorder *rec = ((struct runtime *)self)->recorder;
    if (rec->on) said_text(&rec->said, "tells of a gap:", why);
    rec->bare.gap(self, conn, why);
}

static void warn(void *self, struct handle conn, const char *text)
{
    struct rt_recorder *rec = ((struct runtime *)self)->recorder;
    if (rec->on) said_text(&rec->said, "warns:", text);
    rec->bare.warn(self, conn, text);
}

static void budget(void *self, struct handle conn, enum budget_kind kind, int64_t left, uint64_t reset_ms,
                   uint32_t lanes)
{
    struct rt_recorder *rec = ((struct runtime *)self)->recorder;
    if (rec->on) said_budget(&rec->said, kind, left, reset_ms, lanes);
    rec->bare.budget(self, conn, kind, left, reset_ms, lanes);
}

static void session_changed(void *self, struct handle conn)
{
    struct rt_recorder *rec = ((struct runtime *)self)->recorder;
    struct conn_facts now;
    /* As the hook left it: the runtime may put something into it. */
    if (rec->on && rec->bare.facts(self, conn, &now)) {
        said_value(&rec->said, "session is", now.session);
        rec->conn->record->session_print = print_of(now.session);
    }
    rec->bare.session_changed(self, conn);
}

static void keep_changed(void *self, struct handle conn)
{
    struct rt_recorder *rec = ((struct runtime *)self)->recorder;
    struct conn_facts now;
    if (rec->on && rec->bare.facts(self, conn, &now)) {
        said_value(&rec->said, "keeps", now.keep);
        rec->conn->record->keep_print = print_of(now.keep);
    }
    rec->bare.keep_changed(self, conn);
}

static uint64_t draw(void *self, struct handle conn)
{
    struct rt_recorder *rec = ((struct runtime *)self)->recorder;
    uint64_t drawn = rec->bare.random(self, conn);
    if (rec->on) walk_hash(&rec->telling, &drawn);
    return drawn;
}

static void secret_made(void *self, struct handle conn, const struct secret *made)
{
    struct rt_recorder *rec = ((struct runtime *)self)->recorder;
    size_t len;
    (void)conn;
    if (!rec->on) return;
    const char *bytes = secret_bytes(made, &len);
    mask_add(&rec->conn->record->mask, secret_name(made), bytes, len, true);
}

static void digest_made(void *self, struct handle conn, void *bytes, size_t len)
{
    struct rt_recorder *rec = ((struct runtime *)self)->recorder;
    (void)conn;
    if (rec->on) mask_add_digest(&rec->conn->record->mask, bytes, len);
}

void rt_record__port(struct runtime *rt)
{
    rt->recorder->bare = rt->port;
    rt->port.send = send;
    rt->port.set_beat = set_beat;
    rt->port.set_retire = set_retire;
    rt->port.set_codec = set_codec;
    rt->port.end = end;
    rt->port.gap = gap;
    rt->port.warn = warn;
    rt->port.budget = budget;
    rt->port.session_changed = session_changed;
    rt->port.keep_changed = keep_changed;
    rt->port.random = draw;
    rt->port.secret_made = secret_made;
    rt->port.digest_made = digest_made;
}
