/* Replayed hooks: the policy's own code on recorded input. The port answers what the runtime answered then, in
 * the same order; a hook that asks for more gets what a connection that is gone gives. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/conceal.h"
#include "base/json_value.h"
#include "frame/path.h"
#include "trace/replay_internal.h"

void replay__build_unref(struct replay_build *b)
{
    if (!b || --b->references) return;
    policy_build_destroy(b->build);
    free(b);
}

bool replay__value(const void *json, size_t len, struct value *out)
{
    char error[80];
    if (len == 0) {
        *out = value_nil();
        return true;
    }
    if (!json_value_parse(json, len, out, error, sizeof error)) return false;
    conceal_reveal(out);
    return true;
}

/* --- the port ------------------------------------------------------------------------------------------ */

static bool facts(void *self, struct handle conn, struct conn_facts *out)
{
    struct replayer *r = self;
    struct engine_view view;
    (void)conn;
    if (!engine_get(r->engine, r->conn, &view)) return false;
    *out = (struct conn_facts){ .name = r->options.trace->connection,
                                .options = (struct value *)&r->now->options,
                                .session = &r->session,
                                .keep = &r->keep,
                                .generation = view.generation,
                                .attempt = view.failed + 1,
                                .failed = view.failed,
                                .links = r->hook.links,
                                .resuming = view.session_present && !view.start_permit,
                                .build = r->now,
                                .now = r->hook.at };
    return true;
}

static bool told_why(struct replayer *r, const char **why)
{
    static const char *const unknown = "it was not asked for then";
    char text[160];
    bool ok = false;
    if (r->told.at == r->told.end) {
        *why = unknown;
        return false;
    }
    walk_bool(&r->told, &ok);
    if (ok) return !r->told.bad;
    walk_text(&r->told, text, sizeof text);
    buffer_clear(&r->scratch);
    ASSERT(buffer_append(&r->scratch, text, strlen(text) + 1));
    *why = (const char *)r->scratch.data;
    return false;
}

static bool send(void *self, struct handle conn, uint32_t generation, enum hook by, const void *bytes,
                 size_t len, bool text, const char **why)
{
    struct replayer *r = self;
    (void)conn, (void)generation, (void)by;
    said_send(&r->said, bytes, len, text);
    return told_why(r, why);
}

static bool told_bool(struct replayer *r)
{
    bool ok = false;
    if (r->told.at != r->told.end) walk_bool(&r->told, &ok);
    return ok;
}

static bool set_beat(void *self, struct handle conn, uint32_t generation, uint64_t interval_ms)
{
    struct replayer *r = self;
    (void)conn, (void)generation;
    said_number(&r->said, "sets beat", interval_ms);
    return told_bool(r);
}

static bool set_retire(void *self, struct handle conn, uint32_t generation, uint64_t after_ms)
{
    struct replayer *r = self;
    (void)conn, (void)generation;
    said_number(&r->said, "sets retire", after_ms);
    return told_bool(r);
}

static bool set_codec(void *self, struct handle conn, uint32_t generation, const struct value *codec,
                      const char **why)
{
    struct replayer *r = self;
    (void)conn, (void)generation;
    said_value(&r->said, "sets codec", codec);
    return told_why(r, why);
}

static void end(void *self, struct handle conn, uint32_t generation, const struct cause *cause)
{
    struct replayer *r = self;
    (void)conn, (void)generation;
    said_end(&r->said, cause);
}

static void gap(void *self, struct handle conn, const char *why)
{
    struct replayer *r = self;
    (void)conn;
    said_text(&r->said, "tells of a gap:", why);
}

static void warn(void *self, struct handle conn, const char *text)
{
    struct replayer *r = self;
    (void)conn;
    said_text(&r->said, "warns:", text);
}

static void no_log(void *self, struct handle conn, const char *text)
{
    (void)self, (void)conn, (void)text;
}

static void budget(void *self, struct handle conn, enum budget_kind kind, int64_t left, uint64_t reset_ms,
                   uint32_t lanes)
{
    struct replayer *r = self;
    (void)conn;
    said_budget(&r->said, kind, left, reset_ms, lanes);
}

static void session_changed(void *self, struct handle conn)
{
    struct replayer *r = self;
    (void)conn;
    said_value(&r->said, "session is", &r->session);
}

static void keep_changed(void *self, struct handle conn)
{
    struct replayer *r = self;
    (void)conn;
    said_value(&r->said, "keeps", &r->keep);
}

static uint64_t draw(void *self, struct handle conn)
{
    struct replayer *r = self;
    uint64_t drawn = 0;
    (void)conn;
    if (r->told.at != r->told.end) walk_hash(&r->told, &drawn);
    return drawn;
}

static void secret_made(void *self, struct handle conn, const struct secret *made)
{
    struct replayer *r = self;
    size_t len;
    (void)conn;
    const char *bytes = secret_bytes(made, &len);
    mask_add(&r->mask, secret_name(made), bytes, len, true);
}

static void digest_made(void *self, struct handle conn, void *bytes, size_t len)
{
    (void)self, (void)conn;
    mask_digest(bytes, len);
}

void replay__port(struct replayer *r)
{
    r->port = (struct policy_port){ .self = r,
                                    .facts = facts,
                                    .send = send,
                                    .set_beat = set_beat,
                                    .set_retire = set_retire,
                                    .set_codec = set_codec,
                                    .end = end,
                                    .gap = gap,
                                    .warn = warn,
                                    .log = no_log,
                                    .budget = budget,
                                    .session_changed = session_changed,
                                    .keep_changed = keep_changed,
                                    .random = draw,
                                    .secret_made = secret_made,
                                    .digest_made = digest_made };
}

/* --- tasks ---------------------------------------------------------------------------------------------- */

static struct replay_task **task_place(struct replayer *r, uint32_t number)
{
    struct replay_task **at = &r->tasks;
    while (*at && (*at)->number != number) at = &(*at)->next;
    return at;
}

/* `over`: its policy_task is gone already. */
static void task_free(struct replay_task **at, bool over)
{
    struct replay_task *t = *at;
    *at = t->next;
    if (!over) policy_cancel(t->task);
    replay__build_unref(t->build);
    free(t);
}

void replay__cancel(struct replayer *r, uint32_t number)
{
    struct replay_task **at = task_place(r, number);
    if (*at) task_free(at, false);
}

void replay__tasks_end(struct replayer *r)
{
    while (r->tasks) task_free(&r->tasks, false);
}

/* --- runs ----------------------------------------------------------------------------------------------- */

static bool kept_take(struct value *to, bool told, const void *json, size_t len)
{
    if (!told) return true;
    value_clear(to);
    if (!replay__value(json, len, to)) *to = value_nil();
    if (to->kind == VALUE_TABLE) return true;
    value_clear(to);
    *to = value_table();
    return false;
}

/* The scanner may change what it reads; NULL: the frame has no fields. */
static const struct field_value *fields_take(struct replayer *r, struct field_value fields[FIELDS_MAX])
{
    const struct record_hook *h = &r->hook;
    if (!h->has_frame) return NULL;
    memset(fields, 0, FIELDS_MAX * sizeof *fields);
    buffer_clear(&r->frame);
    ASSERT(buffer_append(&r->frame, h->frame_len ? h->frame : "", h->frame_len));
    ASSERT(buffer_append_char(&r->frame, 0));
    struct frame_path path = { .rules = r->now->rules };
    if (h->has_fields) path_take(&path, r->frame.data, h->frame_len, fields);
    return fields;
}

static enum call_result enter(struct replayer *r, struct replay_build *b, struct call_answer *answer)
{
    const struct record_hook *h = &r->hook;
    struct field_value fields[FIELDS_MAX];
    struct policy_call call = { .version = b->build->version,
                                .port = &r->port,
                                .hook = h->hook,
                                .name = h->name[0] ? h->name : NULL,
                                .conn = r->conn,
                                .generation = h->generation,
                                .cause = h->has_cause ? &h->cause : NULL };
    call.fields = fields_take(r, fields);
    if (h->has_frame) {
        call.frame = r->frame.data;
        call.frame_len = h->frame_len;
    }
    struct policy_task *task = NULL;
    enum call_result result = policy_call(&call, answer, &task);
    if (!task) return result;
    struct replay_task *t = calloc(1, sizeof *t);
    ASSERT(t != NULL);
    *t = (struct replay_task){ .number = h->task, .task = task, .build = b, .next = r->tasks };
    b->references++;
    r->tasks = t;
    return result;
}

static enum call_result resume(struct replayer *r, struct replay_task **at, struct call_answer *answer)
{
    const struct record_hook *h = &r->hook;
    struct field_value fields[FIELDS_MAX];
    struct resume_with with = { .kind = h->wait,
                                .answered = h->answered,
                                .status = h->status,
                                .head = h->head ? h->head : "",
                                .head_len = h->head_len,
                                .body = h->body ? h->body : "",
                                .body_len = h->body_len,
                                .retry_after_ms = h->answered ? h->retry_after_ms : RETRY_AFTER_NONE,
                                .cause = h->has_cause ? &h->cause : NULL };
    struct value value = value_nil();
    with.fields = fields_take(r, fields);
    if (h->has_frame) {
        with.frame = r->frame.data;
        with.frame_len = h->frame_len;
    }
    if (h->has_value && replay__value(h->value, h->value_len, &value)) with.value = &value;
    enum call_result result = policy_resume((*at)->task, &with, answer);
    value_clear(&value);
    if (result != CALL_WAITING) task_free(task_place(r, h->task), true);
    return result;
}

bool replay__hook(struct replayer *r, enum call_result *result_out)
{
    const struct record_hook *h = &r->hook;
    struct replay_build *b = h->older ? r->before : r->build;
    struct replay_task **at = task_place(r, h->task);
    bool kept = kept_take(&r->session, h->session_told, h->session, h->session_len);
    kept = kept_take(&r->keep, h->keep_told, h->kept, h->kept_len) && kept;
    said_begin(&r->said);
    if (!kept || !h->whole || !b || (h->resumed && !*at) || (!h->resumed && h->task && *at)) {
        if (h->resumed && *at) task_free(at, false);
        return false;
    }
    /* What it waits for must be what came. */
    if (h->resumed) b = (*at)->build;
    r->now = b->build;
    r->told = walk_read(h->told, h->told_len);
    struct call_answer answer;
    call_answer_init(&answer);
    *result_out = h->resumed ? resume(r, at, &answer) : enter(r, b, &answer);
    said_answer(&r->said, *result_out, &answer);
    call_answer_deinit(&answer);
    return true;
}
