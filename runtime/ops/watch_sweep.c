/* Watch, the sweep: all connections are looked at once a second, a slice in each go. Tells whose numbers changed, who
 * is new, changed its state without being told, or is gone, and the summary. Owns nothing of its own. */
#include "ops/watch_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define RING_KEPT_MS 30000u    /* after the last watcher left: a page that reloads goes on */
#define SLICE 96u              /* connections looked at in one go: a millisecond or two */
#define SWEEP_MS 1000u

static bool seen_grow(struct watch *w, uint32_t index)
{
    if (index < w->seen_count) return true;
    uint32_t count = w->seen_count ? w->seen_count * 2 : 64;
    while (count <= index) count *= 2;
    struct seen *more = realloc(w->seen, count * sizeof *more);
    if (!more) return false;
    memset(more + w->seen_count, 0, (count - w->seen_count) * sizeof *more);
    w->seen = more;
    w->seen_count = count;
    return true;
}

static void look(struct seen *s, const struct connection_view *v)
{
    s->life = (uint8_t)v->life.verdict;
    s->in = v->total.frames_in;
    s->out = v->total.frames_out;
    s->delivered = v->frames_delivered;
    s->backlog = v->backlog.frames;
    s->round_trip_ms = v->round_trip_ms;
}

static bool same(const struct seen *a, const struct seen *b)
{
    return a->life == b->life && a->in == b->in && a->out == b->out && a->delivered == b->delivered &&
           a->backlog == b->backlog && a->round_trip_ms == b->round_trip_ms;
}

static void meet(struct seen *s, struct handle h, const struct connection_view *v)
{
    *s = (struct seen){ .conn = h };
    memcpy(s->name, v->name, sizeof s->name);
    look(s, v);
}

static void told_gone(struct watch *w, const struct seen *s)
{
    buffer_clear(&w->scratch);
    if (buffer_append(&w->scratch, s->name, strlen(s->name) + 1) && buffer_append_text(&w->scratch, "{\"connection\":") &&
        text_json_string(&w->scratch, s->name, strlen(s->name)) && buffer_append(&w->scratch, "}", 2))
        watch__push(w, "gone", false, 1);
}

/* A slice: whose numbers changed goes into one pulse. What is gone is found by its place being empty. */
static void sweep_slice(struct watch *w)
{
    struct connection_view view;
    struct handle h;
    uint32_t pieces = 0, n = 0, before = w->at;
    struct buffer pulse;
    buffer_init(&pulse, 0);
    for (; n < SLICE && runtime_next(w->ops->rt, &w->at, &h); w->at++, n++) {
        if (!runtime_view(w->ops->rt, h, &view) || !seen_grow(w, h.index)) continue;
        struct seen *s = &w->seen[h.index];
        summary__count(&w->tally, &view);
        if (!handle_equal(s->conn, h)) {
            if (!handle_is_none(s->conn)) told_gone(w, s);
            meet(s, h, &view);
            s->changed = !w->priming;
        }
        s->round = w->round;
        if (w->priming) continue;
        if (s->changed) watch__told_state(w, h);
        struct seen now = *s;
        look(&now, &view);
        if (same(&now, s)) continue;
        const size_t whole = pulse.len;
        if (!buffer_append(&pulse, view.name, strlen(view.name) + 1) ||
            !buffer_printf(&pulse, "{\"life\":\"%s\",\"in\":%" PRIu64 ",\"out\":%" PRIu64 ",\"delivered\":%" PRIu64 ",\"backlog\":%" PRIu64,
                           life_name(view.life.verdict), now.in, now.out, now.delivered, now.backlog) ||
            (view.round_trip_known && !buffer_printf(&pulse, ",\"round_trip_ms\":%" PRIu64, now.round_trip_ms)) ||
            !buffer_append(&pulse, "}", 2)) {
            pulse.len = whole; /* no memory: a later sweep tells it; to stop here would tell the rest as gone */
            continue;
        }
        *s = now;
        pieces++;
    }
    const bool end = n < SLICE;
    for (uint32_t i = before; i < w->seen_count && (end || i < w->at); i++) {
        struct seen *s = &w->seen[i];
        if (handle_is_none(s->conn) || s->round == w->round) continue;
        told_gone(w, s);
        *s = (struct seen){ 0 };
    }
    if (pieces) {
        struct buffer swap = w->scratch;
        w->scratch = pulse;
        watch__push(w, "pulse", true, pieces);
        pulse = w->scratch;
        w->scratch = swap;
    }
    buffer_deinit(&pulse);
    if (!end) return;
    w->at = 0;
    w->round++;
}

static void sweep_ends(struct watch *w)
{
    buffer_clear(&w->scratch);
    const bool counted = buffer_append_char(&w->scratch, 0) && summary__json(w->ops, &w->tally, &w->scratch);
    w->tally = (struct tally){ 0 };
    if (!counted || !buffer_append_char(&w->scratch, 0)) return;
    if (w->scratch.len != w->summary_told.len || memcmp(w->scratch.data, w->summary_told.data, w->scratch.len) != 0) {
        buffer_clear(&w->summary_told);
        if (buffer_append(&w->summary_told, w->scratch.data, w->scratch.len)) watch__push(w, "summary", false, 1);
    }
    if (!w->journal_missed) return;
    buffer_clear(&w->scratch);
    if (!buffer_append_char(&w->scratch, 0) || !buffer_printf(&w->scratch, "{\"journal\":%" PRIu64 "}", w->journal_missed) ||
        !buffer_append_char(&w->scratch, 0))
        return;
    w->journal_missed = 0;
    watch__push(w, "missed", false, 1);
}

void watch__on_sweep(uv_timer_t *handle)
{
    struct watch *w = handle->data;
    if (!w->watchers && uv_now(w->ops->loop) - w->idle_since_ms >= RING_KEPT_MS) {
        while (w->first_id < w->end_id) watch__ring_drop(w);
        free(w->seen);
        w->seen = NULL;
        w->seen_count = w->at = 0;
        w->idle_since_ms = 0;
        w->priming = false;
        w->epoch++; /* who comes back later has missed something */
        return;
    }
    sweep_slice(w);
    const bool primed = w->priming && w->at == 0;
    if (primed) {
        w->priming = false;
        watch__wake(w);
    }
    if (w->at == 0) sweep_ends(w);
    const uint32_t slices = runtime_count(w->ops->rt) / SLICE + 1;
    uv_timer_start(&w->sweep, watch__on_sweep, w->priming ? 0 : SWEEP_MS / slices, 0);
}
