/* Steps: one description per event; effects field by field, so that no padding and no pointer is ever part of
 * what two runs are compared by. */
#include "trace/step.h"

#include <string.h>

#include "base/rng.h"
#include "engine/saved.h"

static void text_walk(struct walk *w, const char **text, size_t *len, const struct mask *mask,
                      struct buffer *scratch)
{
    const void *bytes = *text;
    size_t n = *len < STEP_TEXT_MAX ? *len : STEP_TEXT_MAX;
    if (!walk_reads(w) && n) {
        buffer_clear(scratch);
        if (!mask_append(mask, scratch, bytes, n)) n = 0;
        bytes = scratch->data;
    }
    walk_bytes(w, &bytes, &n);
    if (!walk_reads(w)) return;
    *text = bytes;
    *len = n;
}

/* With what the far end said. */
static void said_walk(struct walk *w, struct cause *c, const struct mask *mask, struct buffer *scratch)
{
    struct cause copy = *c;
    if (!walk_reads(w)) mask_apply(mask, copy.reason, strlen(copy.reason));
    cause_walk(w, &copy);
    text_walk(w, &copy.head, &copy.head_len, mask, scratch);
    text_walk(w, &copy.body, &copy.body_len, mask, scratch);
    if (walk_reads(w)) *c = copy;
}

static void deadline_walk(struct walk *w, struct event *ev)
{
    for (int i = 0; i < 2; i++) {
        walk_u32(w, &ev->deadline.generation[i]);
        if (ev->deadline.generation[i] == 0) break;
        pulse_walk(w, &ev->deadline.pulse[i], ev->at.mono_ms);
    }
}

static void verdict_walk(struct walk *w, struct event *ev, const struct mask *mask)
{
    if (!walk_reads(w)) mask_apply(mask, ev->verdict.note, strlen(ev->verdict.note));
    walk_bool(w, &ev->verdict.given);
    WALK_ENUM(w, ev->verdict.drop, DROP_RENEW + 1);
    WALK_ENUM(w, ev->verdict.pace, PACE_STOP + 1);
    walk_bool(w, &ev->verdict.has_delay);
    walk_u64(w, &ev->verdict.delay.low);
    walk_u64(w, &ev->verdict.delay.high);
    walk_text(w, ev->verdict.note, sizeof ev->verdict.note);
    walk_u32(w, &ev->verdict.line);
    walk_bool(w, &ev->verdict.failed);
}

void event_walk(struct walk *w, struct event *ev, const struct clock *near, bool *ticket_is_ours,
                const struct mask *mask, struct buffer *scratch)
{
    WALK_ENUM(w, ev->kind, EVENT_KIND_COUNT);
    walk_u32(w, &ev->generation);
    clock_walk(w, &ev->at, near);
    switch (ev->kind) {
    case EV_START_REQUESTED: walk_bool(w, &ev->start.spend_reserve); break;
    case EV_STOP_REQUESTED:
    case EV_RESTART_REQUESTED:
    case EV_REMOVE_REQUESTED:
    case EV_SHUTDOWN_REQUESTED:
    case EV_POLICY_SWAPPED:
    case EV_HELD_BACK:
    case EV_TURN_AWAITED:
    case EV_TURN_GIVEN:
    case EV_PREPARED:
    case EV_UPGRADED:
    case EV_GREETING_PROGRESSED:
    case EV_GREETED:
    case EV_BEAT_ASKED:
    case EV_BEAT_ANSWERED: break;
    case EV_SESSION_CHANGED:
        walk_bool(w, &ev->session_changed.present);
        walk_u64(w, &ev->session_changed.saved_wall_ms);
        walk_u64(w, &ev->session_changed.begun_wall_ms);
        break;
    case EV_BUDGET_TOLD:
        /* Calls and sends have no ledger that is told: only what the engine takes comes back. */
        WALK_ENUM(w, ev->budget_told.budget, BUDGET_COUNT);
        walk_i64(w, &ev->budget_told.left);
        walk_u64(w, &ev->budget_told.reset_ms);
        walk_u32(w, &ev->budget_told.lanes);
        break;
    case EV_CLOCK_JUMPED:
        walk_u64(w, &ev->clock_jumped.suspended_ms);
        walk_i64(w, &ev->clock_jumped.wall_step_ms);
        break;
    case EV_LET_GO: walk_u64(w, &ev->let_go.within_ms); break;
    case EV_DEADLINE_PASSED: deadline_walk(w, ev); break;
    case EV_SEND_REQUESTED:
    case EV_SEND_DROPPED:
        walk_u64(w, &ev->send.send_id);
        walk_u32(w, &ev->send.bytes);
        WALK_ENUM(w, ev->send.by, SEND_CONSUMER + 1);
        walk_bool(w, &ev->send.starts_session);
        break;
    case EV_STORED:
    case EV_STORE_FAILED: walk_bool(w, ticket_is_ours); break;
    case EV_STAGE_REACHED: WALK_ENUM(w, ev->stage.stage, STAGE_COUNT); break;
    case EV_BEAT_SET: walk_u64(w, &ev->beat_set.interval_ms); break;
    case EV_RETIRE_SET: walk_u64(w, &ev->retire_set.after_ms); break;
    case EV_ATTEMPT_FAILED:
    case EV_DIAL_FAILED:
    case EV_LIMIT_CROSSED:
    case EV_PEER_CLOSED:
    case EV_LINK_CLOSED: said_walk(w, &ev->cause, mask, scratch); break;
    case EV_ENDING_ANNOUNCED:
        said_walk(w, &ev->ending.cause, mask, scratch);
        walk_u64(w, &ev->ending.wait_ms);
        break;
    case EV_DRAINED: pulse_walk(w, &ev->drained.pulse, ev->at.mono_ms); break;
    case EV_VERDICT_GIVEN: verdict_walk(w, ev, mask); break;
    case EVENT_KIND_COUNT: walk_fail(w, "an event that is none"); break;
    }
}

/* --- effects -------------------------------------------------------------------------------------------- */

static void cause_write(struct walk *w, const struct cause *c, bool lines, const struct mask *mask)
{
    struct cause copy = *c;
    mask_apply(mask, copy.reason, strlen(copy.reason));
    if (!lines) copy.line = 0;
    cause_walk(w, &copy);
}

static void text_write(struct walk *w, const char *text, size_t bytes, const struct mask *mask)
{
    char copy[256];
    size_t len = strnlen(text, bytes < sizeof copy ? bytes : sizeof copy - 1);
    memcpy(copy, text, len);
    copy[len] = 0;
    mask_apply(mask, copy, len);
    walk_text(w, copy, sizeof copy);
}

static void decision_write(struct walk *w, const struct decision *d, bool lines, const struct mask *mask)
{
    struct decision copy = *d;
    if (!lines) {
        copy.line = 0;
        copy.note[0] = 0;
    }
    cause_write(w, &copy.cause, lines, mask);
    WALK_ENUM(w, copy.drop, UINT32_MAX);
    WALK_ENUM(w, copy.pace, UINT32_MAX);
    walk_bool(w, &copy.planned);
    walk_u32(w, &copy.attempt);
    walk_u64(w, &copy.wish_low_ms);
    walk_u64(w, &copy.wish_high_ms);
    walk_u64(w, &copy.backoff_ms);
    walk_u64(w, &copy.delay_ms);
    walk_bool(w, &copy.clamped);
    WALK_ENUM(w, copy.by, UINT32_MAX);
    walk_u32(w, &copy.line);
    text_write(w, copy.note, sizeof copy.note, mask);
}

static void store_write(struct walk *w, const struct effect *fx)
{
    struct effect copy = *fx;
    WALK_ENUM(w, copy.store.kind, UINT32_MAX);
    WALK_ENUM(w, copy.store.budget, UINT32_MAX);
    walk_i64(w, &copy.store.lane);
    walk_u64(w, &copy.store.wall_ms);
    walk_u64(w, &copy.store.boot_ms);
    walk_bool(w, &copy.store.no_answer);
    walk_bool(w, &copy.store.reserve);
    walk_i64(w, &copy.store.left);
    walk_u32(w, &copy.store.lanes);
    walk_u64(w, &copy.store.until_wall_ms);
    walk_u64(w, &copy.store.until_boot_ms);
}

static void effect_write(struct walk *w, const struct effect *fx, bool lines, const struct mask *mask)
{
    struct effect copy = *fx;
    WALK_ENUM(w, copy.kind, UINT32_MAX);
    walk_u32(w, &copy.generation);
    switch (fx->kind) {
    case FX_DIAL:
    case FX_GREET:
    case FX_READY:
    case FX_SETTLED:
    case FX_PING:
    case FX_DRAIN:
    case FX_ABORT:
    case FX_CANCEL:
    case FX_DROP_SESSION:
    case FX_REMOVED: break;
    case FX_PREPARE: walk_bool(w, &copy.prepare.needs_start); break;
    case FX_BEAT: walk_bool(w, &copy.beat.asked); break;
    case FX_SEND: walk_u64(w, &copy.send.send_id); break;
    case FX_REFUSE:
        walk_u64(w, &copy.refuse.send_id);
        WALK_ENUM(w, copy.refuse.why, UINT32_MAX);
        walk_bool(w, &copy.refuse.retry);
        break;
    case FX_CLOSE:
        walk_u16(w, &copy.close.code);
        text_write(w, copy.close.reason, sizeof copy.close.reason, mask);
        break;
    case FX_ASK_ENDED: cause_write(w, &copy.ask_ended, lines, mask); break;
    case FX_DROP_FETCHED: walk_text(w, copy.drop_fetched.name, sizeof copy.drop_fetched.name); break;
    case FX_STORE: store_write(w, fx); break;
    case FX_GAP:
        walk_text(w, copy.gap.cause, sizeof copy.gap.cause);
        walk_bool(w, &copy.gap.certain);
        break;
    case FX_STATE:
        WALK_ENUM(w, copy.state.from, UINT32_MAX);
        WALK_ENUM(w, copy.state.to, UINT32_MAX);
        cause_write(w, &copy.state.cause, lines, mask);
        walk_u64(w, &copy.state.next_ms);
        break;
    case FX_JOURNAL: decision_write(w, &fx->journal, lines, mask); break;
    case FX_ALARM: text_write(w, copy.alarm.text, sizeof copy.alarm.text, mask); break;
    case EFFECT_KIND_COUNT: break;
    }
}

uint64_t effect_hash(uint64_t hash, const struct effect *fx, bool lines, const struct mask *mask,
                     struct buffer *scratch)
{
    buffer_clear(scratch);
    struct walk w = walk_write(scratch);
    effect_write(&w, fx, lines, mask);
    return rng_mix(hash ^ hash_bytes(scratch->data, scratch->len));
}

uint64_t effects_hash(uint64_t hash, const struct effect_list *effects, const struct mask *mask,
                      struct buffer *scratch)
{
    hash = rng_mix(hash ^ effects->count);
    for (uint32_t i = 0; i < effects->count; i++) {
        hash = effect_hash(hash, &effects->items[i], true, mask, scratch);
    }
    return hash;
}

bool effects_matter(const struct effect_list *effects)
{
    for (uint32_t i = 0; i < effects->count; i++) {
        switch (effects->items[i].kind) {
        case FX_JOURNAL:
        case FX_ALARM:
        case FX_GAP: return true;
        default: break;
        }
    }
    return false;
}
