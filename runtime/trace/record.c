/* Records: their fields, one description for both directions. */
#include "trace/record.h"

#include "engine/saved.h"

void record_begin_walk(struct walk *w, struct record_begin *b)
{
    const struct clock zero = { 0, 0, 0 };
    clock_walk(w, &b->at, &zero);
    walk_below(w, &b->policy, RECORD_POLICIES_MAX);
    walk_bytes(w, &b->settings, &b->settings_len);
    walk_i64(w, &b->lane);
    walk_bytes(w, &b->own, &b->own_len);
    walk_bytes(w, &b->shared, &b->shared_len);
}

void record_build_walk(struct walk *w, struct record_build *b)
{
    walk_below(w, &b->policy, RECORD_POLICIES_MAX);
    walk_bytes(w, &b->settings, &b->settings_len);
}

static void resumed_walk(struct walk *w, struct record_hook *h)
{
    WALK_ENUM(w, h->wait, WAIT_FETCH + 1);
    walk_bool(w, &h->answered);
    if (h->wait == WAIT_HTTP && h->answered) {
        walk_i32(w, &h->status);
        walk_bytes(w, &h->head, &h->head_len);
        walk_bytes(w, &h->body, &h->body_len);
        h->retry_after_ms++;
        walk_u64(w, &h->retry_after_ms);
        h->retry_after_ms--;
    }
    walk_bool(w, &h->has_value);
    if (h->has_value) walk_bytes(w, &h->value, &h->value_len);
}

void record_hook_walk(struct walk *w, struct record_hook *h, const struct clock *near)
{
    walk_u32(w, &h->task);
    walk_bool(w, &h->resumed);
    WALK_ENUM(w, h->hook, HOOK_EVERY + 1);
    walk_text(w, h->name, sizeof h->name);
    walk_u32(w, &h->generation);
    clock_walk(w, &h->at, near);
    walk_u32(w, &h->links);
    walk_bool(w, &h->older);
    walk_bool(w, &h->whole);
    walk_bool(w, &h->session_told);
    if (h->session_told) walk_bytes(w, &h->session, &h->session_len);
    walk_bool(w, &h->keep_told);
    if (h->keep_told) walk_bytes(w, &h->kept, &h->kept_len);
    walk_bool(w, &h->has_frame);
    if (h->has_frame) {
        walk_bool(w, &h->has_fields);
        walk_bytes(w, &h->frame, &h->frame_len);
    }
    walk_bool(w, &h->has_cause);
    if (h->has_cause) {
        cause_walk(w, &h->cause);
        const void *head = h->cause.head, *body = h->cause.body;
        walk_bytes(w, &head, &h->cause.head_len);
        walk_bytes(w, &body, &h->cause.body_len);
        h->cause.head = head;
        h->cause.body = body;
    }
    if (h->resumed) resumed_walk(w, h);
    walk_bytes(w, &h->told, &h->told_len);
    WALK_ENUM(w, h->result, CALL_BAD_ANSWER + 1);
    walk_bytes(w, &h->said, &h->said_len);
}
