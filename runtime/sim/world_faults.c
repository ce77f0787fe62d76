/* Faults switched on and off: which open streams they strike, and which they let go. What a fault does
 * to a stream is in stream.c; which dial or call it meets, there. */
#include "sim/world_internal.h"

uint32_t world_fault(struct world *w, const struct fault *fault)
{
    uint32_t id = faults_add(&w->faults, fault);
    trace_line(&w->trace, w->now_ms, "fault %u %s on", id, fault_name(fault->kind));
    if (fault->kind == FAULT_DISK_CORRUPT) {
        world__store_corrupt(w, fault->bytes ? fault->bytes : 64);
        faults_off(&w->faults, id);
    }
    if (!fault_is_of_streams(fault->kind)) return id;
    struct handle h;
    struct stream *s;
    for (uint32_t i = 0; (s = slots_next(&w->streams, &i, &h)); i++) {
        struct fault *f = faults_get(&w->faults, id);
        if (!f->on) break;
        if (!s->descriptor || s->step == 0) continue;
        struct fault_subject about = world__subject(w, s->host, s->server, s->owner.connection,
                                                    FAULT_ON_LINKS, STAGE_NONE);
        if (f->stage != STAGE_NONE || !fault_matches(f, &about)) continue;
        if (fault_hits(&w->faults, f)) world__stream_strike(w, s, f);
    }
    /* What says "now" is over with the streams of now, unless a count or a place is left. */
    struct fault *f = faults_get(&w->faults, id);
    bool lasting = f->kind == FAULT_BLACK_HOLE || f->kind == FAULT_TRICKLE ||
                   f->kind == FAULT_SLOW || f->kind == FAULT_NO_CLOSE_ANSWER;
    if (!lasting && f->on && f->stage == STAGE_NONE && f->times == FAULT_TIMES_EVER && !f->bytes) {
        faults_off(&w->faults, id);
    }
    return id;
}

static void release(struct world *w, uint32_t id)
{
    struct handle h;
    struct stream *s;
    for (uint32_t i = 0; (s = slots_next(&w->streams, &i, &h)); i++) {
        for (int kind = 0; kind < FAULT_COUNT; kind++) {
            if (s->struck[kind] == 0 || (id != 0 && s->struck[kind] != id)) continue;
            world__stream_release(w, s, (enum fault_kind)kind);
        }
    }
}

bool world_fault_off(struct world *w, uint32_t id)
{
    struct fault *f = faults_get(&w->faults, id);
    if (!f) return false;
    bool was = faults_off(&w->faults, id);
    trace_line(&w->trace, w->now_ms, "fault %u %s off", id, fault_name(f->kind));
    release(w, id);
    return was;
}

uint64_t world_fault_hits(struct world *w, uint32_t id)
{
    struct fault *f = faults_get(&w->faults, id);
    return f ? f->hits : 0;
}

void world_heal(struct world *w)
{
    trace_line(&w->trace, w->now_ms, "the network heals");
    faults_off_all(&w->faults);
    release(w, 0);
}
