/* Acks: what the platform hears of accepted frames, and when. `early`: once the frame is safe. `through`: once
 * it is safe and the connection's owner, a consumer, acknowledged it, maybe with a reply, within the
 * platform's deadline; after that the platform sends it again, and it is delivered again. A connection that
 * names no owner has nobody who could reply: there `through` is `early`. Only answers of the store let an
 * acknowledgement go. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/failpoint.h"
#include "base/text.h"
#include "runtime_internal.h"

#define ACK_BYTES_MAX 16384
#define ACKS_MAX 16384 /* of one connection, waiting; over it the platform sends again */
#define UNSAFE_TELL_MS 60000
/* Freed acknowledgements are kept for the next, so that a frame costs no allocation. */
#define ACK_POOLED_BYTES 512
#define ACKS_POOLED_MAX 4096

static void list_push(struct rt_ack_list *list, struct rt_ack *a);
static void list_put_by_due(struct rt_ack_list *list, struct rt_ack *a);
static struct rt_ack *list_take(struct rt_ack_list *list);
static void safe_wait(struct runtime *rt, struct rt_conn *c, struct rt_ack *a);
static void through_arm(struct runtime *rt, struct rt_conn *c);

static struct rt_ack *ack_new(struct runtime *rt, size_t len)
{
    struct rt_ack *a = rt->acks_pooled;
    size_t capacity = len > ACK_POOLED_BYTES ? len : ACK_POOLED_BYTES;
    if (a && len <= ACK_POOLED_BYTES) {
        rt->acks_pooled = a->next;
        rt->acks_pooled_count--;
    } else {
        a = malloc(sizeof *a + capacity);
        ASSERT(a != NULL);
    }
    *a = (struct rt_ack){ .len = len, .pooled = capacity == ACK_POOLED_BYTES };
    return a;
}

static void ack_free(struct runtime *rt, struct rt_ack *a)
{
    if (!a->pooled || rt->acks_pooled_count >= ACKS_POOLED_MAX) {
        free(a);
        return;
    }
    a->next = rt->acks_pooled;
    rt->acks_pooled = a;
    rt->acks_pooled_count++;
}

void rt_acks_drop(struct runtime *rt, struct rt_conn *c)
{
    struct rt_ack *a;
    while ((a = list_take(&c->acks))) ack_free(rt, a);
    while ((a = list_take(&c->through))) ack_free(rt, a);
}

static void list_push(struct rt_ack_list *list, struct rt_ack *a)
{
    a->next = NULL;
    if (list->last) list->last->next = a;
    else list->first = a;
    list->last = a;
    list->count++;
}

/* Rows may have deadlines of their own: the first to pass stays in front. */
static void list_put_by_due(struct rt_ack_list *list, struct rt_ack *a)
{
    if (!list->last || list->last->due_ms <= a->due_ms) {
        list_push(list, a);
        return;
    }
    struct rt_ack **at = &list->first;
    while ((*at)->due_ms <= a->due_ms) at = &(*at)->next;
    a->next = *at;
    *at = a;
    list->count++;
}

static struct rt_ack *list_take(struct rt_ack_list *list)
{
    struct rt_ack *a = list->first;
    if (!a) return NULL;
    list->first = a->next;
    if (!list->first) list->last = NULL;
    list->count--;
    a->next = NULL;
    return a;
}

/* The newest link that the platform has greeted. */
static struct rt_link *link_ready(const struct rt_conn *c)
{
    for (struct rt_link *l = c->links; l; l = l->next) {
        if (l->ready && l->phase == RT_LINK_OPEN && !l->close_sent && !l->close_received) return l;
    }
    return NULL;
}

static void ack_send(struct runtime *rt, struct rt_conn *c, struct rt_ack *a)
{
    struct rt_link *l = rt_link_find(c, a->generation);
    if (a->anywhere && !(l && l->phase == RT_LINK_OPEN && !l->close_sent && !l->close_received)) {
        l = link_ready(c);
    }
    FAILPOINT("ack");
    if (l) rt_link_send_joined(rt, l, a->bytes, a->len, a->text);
    FAILPOINT("acked");
}

/* What the platform wants to hear for this frame, in rt->scratch_text; false: nothing. */
static bool ack_make(struct runtime *rt, struct rt_conn *c, struct rt_link *l, struct rt_build *build,
                     const struct ack_rule *rule, const struct path_item *item, bool *text)
{
    const struct frame_rules *rules = build->build->rules;
    struct buffer *out = &rt->scratch_text;
    buffer_clear(out);
    *text = rule->change_count == 0;
    if (rule->frame || rule->change_count) {
        return path_ack_make(rules, rule, item->fields, item->raw, item->raw_len, out);
    }
    if (!policy_has_hook(build->build->version, HOOK_ON_ACK)) return false;
    struct policy_call call = rt_call_of(rt, c, build, l->generation, HOOK_ON_ACK, NULL);
    call.frame = item->data;
    call.frame_len = item->len;
    call.fields = item->fields;
    struct call_answer answer;
    call_answer_init(&answer);
    bool have = false;
    enum call_result result = rt_enter(rt, build, &call, &answer, NULL);
    buffer_clear(out); /* the hook may have changed the session, which is written by way of it */
    if (result == CALL_OK) {
        have = answer.frame.len > 0 && buffer_append(out, answer.frame.data, answer.frame.len);
        *text = answer.frame_text;
    } else {
        rt_hook_failed(rt, c, l->generation, HOOK_ON_ACK, result, &answer);
    }
    call_answer_deinit(&answer);
    return have;
}

/* Offsets go on over epochs, so they alone tell. */
static bool owner_has(const struct runtime *rt, const struct rt_conn *c, uint64_t offset)
{
    uint64_t epoch, acked;
    return deliver_cursor(rt->options.deliver, c->stream, c->owner, &epoch, &acked) && offset <= acked;
}

void rt_ack_queue(struct runtime *rt, struct rt_conn *c, struct rt_link *l, struct rt_build *build,
                  const struct path_item *item, const struct dedupe_key *key, uint64_t offset)
{
    const struct ack_rule *rule = frame_rules_ack(build->build->rules, item->fields);
    bool text;
    if (!rule) return;
    if (c->acks.count + c->through.count >= ACKS_MAX) return;
    if (!ack_make(rt, c, l, build, rule, item, &text) || rt->scratch_text.len > ACK_BYTES_MAX) return;
    struct rt_ack *a = ack_new(rt, rt->scratch_text.len);
    a->offset = offset;
    a->generation = l->generation;
    a->text = text;
    a->at_risk = rule->at_risk;
    a->anywhere = rule->anywhere;
    a->row = rule->reply ? (uint8_t)(rule - build->build->rules->acks + 1) : 0;
    memcpy(a->bytes, rt->scratch_text.data, a->len);
    if (rule->when == ACK_THROUGH && c->owner[0] && !owner_has(rt, c, offset)) {
        a->keyed = key != NULL;
        if (key) a->key = *key;
        a->due_ms = rt_clock(rt).mono_ms + rule->within_ms;
        list_put_by_due(&c->through, a);
        through_arm(rt, c);
        return;
    }
    safe_wait(rt, c, a);
}

/* `a`: moved. */
static void safe_wait(struct runtime *rt, struct rt_conn *c, struct rt_ack *a)
{
    if (a->offset && a->offset <= c->acks_safe) {
        MARK("a duplicate of what is safe is acknowledged at once");
        ack_send(rt, c, a);
        ack_free(rt, a);
        return;
    }
#ifdef HOLDFAST_TEST
    if (engine_planted(rt->engine) == PLANT_I7_ACK_BEFORE_SAFE) ack_send(rt, c, a);
#endif
    if (a->offset > c->acks_newest) c->acks_newest = a->offset;
    list_push(&c->acks, a);
}

/* One write at a time: what comes while it is under way shares the next. What may go now goes out together. */
void rt_acks_flush(struct runtime *rt, struct rt_conn *c)
{
    rt_joined_flush(rt);
    if (!c->acks.first || c->acks_writing) return;
    struct store_request request = { .op = STORE_OP_FRAMES, .offset = c->acks_newest };
    c->acks_writing = true;
    if (!rt_store_submit(rt, c, 0, 0, c->acks_newest, &request)) {
        rt_acks_stored(rt, c, c->acks_newest, false);
    }
}

void rt_acks_stored(struct runtime *rt, struct rt_conn *c, uint64_t offset, bool ok)
{
    struct rt_ack_list waited = c->acks;
    struct rt_ack *a;
    ASSERT(c->acks_writing);
    c->acks_writing = false;
    if (ok && offset > c->acks_safe) c->acks_safe = offset;
    c->acks = (struct rt_ack_list){ 0 };
    c->acks_newest = 0;
    uint64_t at_risk = 0, withheld = 0;
    while ((a = list_take(&waited))) {
        if (a->offset <= offset) {
            if (ok || a->at_risk) ack_send(rt, c, a);
            if (!ok) *(a->at_risk ? &at_risk : &withheld) += 1;
            ack_free(rt, a);
            continue;
        }
        if (a->offset > c->acks_newest) c->acks_newest = a->offset;
        list_push(&c->acks, a);
    }
    /* Now and then for all that an ill disk holds back: a log that grew by the frame would fill it for good. */
    uint64_t now_ms = rt_clock(rt).mono_ms;
    if (!ok && (c->acks_told_ms == 0 || now_ms - c->acks_told_ms >= UNSAFE_TELL_MS)) {
        c->acks_told_ms = now_ms;
        rt_log(rt, LOG_WARNING, c, "frames up to %llu are not safe, nor may be those that follow: %s",
               (unsigned long long)offset,
               !at_risk   ? "not acknowledged"
               : withheld ? "those that the policy says acknowledged all the same (at_risk), the others not"
                          : "acknowledged all the same, as the policy says (at_risk)");
    }
    rt_acks_flush(rt, c);
}

/* --- through: by the owner ------------------------------------------------------------------------------ */

void rt_ack_owner(struct runtime *rt, struct rt_conn *c, uint64_t offset)
{
    struct rt_ack_list waited = c->through;
    struct rt_ack *a;
    c->through = (struct rt_ack_list){ 0 };
    while ((a = list_take(&waited))) {
        if (a->offset <= offset) safe_wait(rt, c, a);
        else list_push(&c->through, a);
    }
    rt_acks_flush(rt, c);
}

/* The echo with the answer in it, in rt->scratch_text. False: it cannot carry it. */
static bool reply_make(struct runtime *rt, struct rt_conn *c, const struct rt_ack *a, const void *answer,
                       size_t len)
{
    const struct frame_rules *rules = c->build->build->rules;
    buffer_clear(&rt->scratch_text);
    /* A reload may have brought other rows. */
    if (a->row > rules->ack_count) return false;
    return path_reply_expand(rules, &rules->acks[a->row - 1], a->bytes, a->len, answer, len,
                             &rt->scratch_text);
}

/* The same acknowledgement with other bytes; `a`: moved. */
static struct rt_ack *ack_with(struct runtime *rt, struct rt_ack *a, const void *bytes, size_t len, bool text)
{
    struct rt_ack *with = ack_new(rt, len);
    bool pooled = with->pooled;
    memcpy(with, a, sizeof *with);
    with->next = NULL;
    with->pooled = pooled;
    with->len = len;
    with->text = text;
    memcpy(with->bytes, bytes, len);
    ack_free(rt, a);
    return with;
}

void rt_ack_reply(struct runtime *rt, struct rt_conn *c, uint64_t offset, const void *frame, size_t len,
                  bool text)
{
    const struct frame_rules *rules = c->build->build->rules;
    struct rt_ack_list waited = c->through;
    struct rt_ack *a;
    bool used = false;
    if (len > rules->send_bytes_max) {
        rt_journal_note(rt, c, 0, JOURNAL_NOTE, "a reply of %zu bytes is longer than sizes.send: the plain "
                        "acknowledgement goes out instead", len);
        return;
    }
    c->through = (struct rt_ack_list){ 0 };
    while ((a = list_take(&waited))) {
        if (a->offset == offset) {
            used = true;
            if (!a->row) {
                a = ack_with(rt, a, frame, len, text);
            } else if (text && reply_make(rt, c, a, frame, len)) {
                a = ack_with(rt, a, rt->scratch_text.data, rt->scratch_text.len, false);
            } else {
                rt_journal_note(rt, c, 0, JOURNAL_NOTE, "a reply to frame %llu is no JSON, or longer than "
                                "sizes.send: the plain acknowledgement goes out instead",
                                (unsigned long long)offset);
            }
        }
        list_push(&c->through, a);
    }
    if (!used) {
        rt_journal_note(rt, c, 0, JOURNAL_NOTE, "a reply to frame %llu came too late: the platform's "
                        "deadline has passed", (unsigned long long)offset);
    }
}

static void through_arm(struct runtime *rt, struct rt_conn *c)
{
    if (!c->through.first) return;
    timers_arm(&rt->timers, &c->through_timer_ms, (struct timer){ .due_ms = c->through.first->due_ms,
                                                                  .kind = TIMER_THROUGH,
                                                                  .object = c->self });
}

/* The platform gives up on them and sends them again: they must not look like duplicates then. */
void rt_through_passed(struct runtime *rt, struct rt_conn *c, uint64_t due_ms)
{
    uint64_t now_ms = rt_clock(rt).mono_ms, late = 0;
    if (c->through_timer_ms != due_ms) return;
    c->through_timer_ms = 0;
    while (c->through.first && c->through.first->due_ms <= now_ms) {
        struct rt_ack *a = list_take(&c->through);
        if (a->keyed && c->dedupe) dedupe_forget(c->dedupe, a->key);
        ack_free(rt, a);
        late++;
    }
    c->acks_late += late;
    if (late) {
        rt_journal_note(rt, c, 0, JOURNAL_NOTE, "consumer %s did not acknowledge %llu frame%s within the "
                        "platform's deadline: sent again, delivered again", c->owner,
                        (unsigned long long)late, late == 1 ? "" : "s");
        rt_log(rt, LOG_WARNING, c, "consumer %s did not acknowledge %llu frame%s within the platform's deadline",
               c->owner, (unsigned long long)late, late == 1 ? "" : "s");
    }
    through_arm(rt, c);
}
