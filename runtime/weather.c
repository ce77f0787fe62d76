/* Weather: keeps each connection's point for engine/weather.h, has them judged at most once a second and only
 * when something changed, and tells people when a front begins and ends. Also holds back attempts against a host
 * that answers nobody: a few go on trying, the rest wait for them, and all return spread out. How long one may be
 * held back is the engine's (engine/hold.c). */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/duration.h"
#include "base/text.h"
#include "runtime_internal.h"

#define JUDGE_EVERY_MS 1000
#define HOLD_FAILING_MIN 8  /* connections that failed at a host, and none that came up since: it answers nobody */
#define HOLD_SCOUTS 3       /* of them go on as they would, */
#define SCOUTS_AFTER_MS 2000 /* so long after the first failure: a host that starts again refuses nobody thrice */
#define RETURN_EACH_MS 100  /* so much for each that is let go: 10 a second; each may call twice, and one address may ask
                             * 20 of the strictest platform */
#define RETURN_MS_MAX 60000 /* thousands are no reason to be away for longer */
#define RETURN_MS_MIN 1000
#define RELEASE_SLICE 256

/* Where attempts go, or the platform whose preparation fails. */
struct rt_host {
    uint64_t key;
    char name[WEATHER_NAME_MAX];
    uint32_t users;
    uint32_t epoch;         /* counts successes */
    uint32_t failing;       /* connections that failed in this epoch */
    uint32_t scouts;
    uint64_t scouts_ms;     /* when they begin; 0: not known in this epoch */
    uint32_t held;
    bool releasing;
    uint32_t release_at;    /* index of the next connection to be told */
    uint64_t release_within_ms;
    struct rt_host *next;
};

static struct rt_host *host_get(struct runtime *rt, const char *name, uint16_t port);
static void host_leave(struct runtime *rt, struct rt_conn *c);
static void host_join(struct runtime *rt, struct rt_conn *c, struct rt_host *h);
static void host_failed(struct runtime *rt, struct rt_conn *c);
static void host_succeeded(struct runtime *rt, struct rt_host *h);
static void judge(struct runtime *rt);
static void tell_fronts(struct runtime *rt, const struct weather_front *before, uint32_t before_count);
static void note_front(struct runtime *rt, struct rt_conn *c, uint32_t generation);

/* --- points -------------------------------------------------------------------------------------------------- */

static void changed(struct runtime *rt)
{
    rt->weather.dirty = true;
}

void rt_weather_added(struct runtime *rt, struct rt_conn *c)
{
    struct engine_view view;
    if (!engine_get(rt->engine, c->self, &view)) return;
    memset(&c->point, 0, sizeof c->point);
    c->point.account = view.account;
    c->point.name = c->name;
    rt_weather_swapped(c);
}

void rt_weather_swapped(struct rt_conn *c)
{
    c->point.platform_name = c->build->build->plan->platform;
    c->point.platform = 0xcbf29ce484222325u;
    for (const char *at = c->point.platform_name; *at; at++)
        c->point.platform = (c->point.platform ^ (uint8_t)*at) * 0x100000001b3u;
}

void rt_weather_gone(struct runtime *rt, struct rt_conn *c)
{
    host_leave(rt, c);
    changed(rt);
}

static bool is_before_ready(enum stage stage)
{
    return stage >= STAGE_PREPARING && stage <= STAGE_GREETING;
}

void rt_weather_decided(struct runtime *rt, struct rt_conn *c, uint32_t generation, const struct decision *d)
{
    struct weather_point *p = &c->point;
    if (d->by == DECIDED_BY_OPERATOR || d->attempt == 0) return;
    if (!p->failing) p->since_wall_ms = rt_clock(rt).wall_ms;
    p->failing = true;
    p->stage = d->cause.stage;
    p->kind = d->cause.kind;
    p->by = d->cause.by;
    p->close_code = d->cause.close_code;
    p->http_status = d->cause.http_status;
    changed(rt);
    note_front(rt, c, generation);
    if (d->pace == PACE_STOP || !is_before_ready(d->cause.stage)) return;
    if (d->cause.stage == STAGE_PREPARING) host_join(rt, c, host_get(rt, p->platform_name, 0));
    if (c->host) host_failed(rt, c);
}

void rt_weather_state(struct runtime *rt, struct rt_conn *c, const struct effect *fx)
{
    struct weather_point *p = &c->point;
    const bool wished = fx->state.cause.kind == CAUSE_STOPPED || fx->state.cause.kind == CAUSE_SHUTDOWN;
    const bool wanted = !(fx->state.to == CONN_STOPPED && wished);
    if (wanted == p->wanted && wanted) return;
    p->wanted = wanted;
    if (!wanted) {
        p->failing = false;
        host_leave(rt, c);
    }
    changed(rt);
}

void rt_weather_dials(struct runtime *rt, struct rt_conn *c)
{
    if (c->host && c->host_prepares) host_succeeded(rt, c->host);
    host_join(rt, c, host_get(rt, c->address->host, c->address->port));
    c->point.host = c->host ? c->host->key : 0;
    c->point.host_name = c->host ? c->host->name : NULL;
}

void rt_weather_ready(struct runtime *rt, struct rt_conn *c)
{
    if (c->host) host_succeeded(rt, c->host);
    /* It came up by another way than the one that it tried for others: they can go that way, too. */
    for (struct rt_host *h = c->host_scouted ? rt->weather.hosts : NULL; h; h = h->next) {
        if (h->key == c->host_scouted) host_succeeded(rt, h);
    }
    c->host_scouted = 0;
    /* Who comes up and is thrown out again and again has not recovered by coming up. */
    if (c->point.failing && is_before_ready(c->point.stage)) rt_weather_settled(rt, c);
}

void rt_weather_settled(struct runtime *rt, struct rt_conn *c)
{
    if (!c->point.failing) return;
    c->point.failing = false;
    c->front_noted = 0;
    changed(rt);
}

/* --- hosts ---------------------------------------------------------------------------------------------------- */

static struct rt_host *host_get(struct runtime *rt, const char *name, uint16_t port)
{
    uint64_t key = 0xcbf29ce484222325u ^ port;
    for (const char *at = name; *at; at++) key = (key ^ (uint8_t)*at) * 0x100000001b3u;
    if (!key) key = 1;
    for (struct rt_host *h = rt->weather.hosts; h; h = h->next)
        if (h->key == key) return h;
    struct rt_host *h = calloc(1, sizeof *h);
    if (!h) return NULL; /* nothing is thinned then */
    h->key = key;
    h->epoch = 1;
    text_copy(h->name, sizeof h->name, name, strlen(name));
    h->next = rt->weather.hosts;
    rt->weather.hosts = h;
    return h;
}

static void unhold(struct rt_conn *c)
{
    if (c->host_scout && c->host_epoch == c->host->epoch && c->host->scouts) c->host->scouts--;
    if (c->host_held && c->host->held) c->host->held--;
    c->host_scout = c->host_held = false;
}

/* One of those that wait goes on trying: at the beginning, and when a scout tries elsewhere (the general address after
 * some failures) or not at all. Else those that wait would wait for nobody. False: nobody waits. */
static bool scout_send(struct runtime *rt, struct rt_host *h)
{
    struct handle conn;
    for (uint32_t i = 0; h->held && runtime_next(rt, &i, &conn); i++) {
        struct rt_conn *c = rt_conn_get(rt, conn);
        if (!c || c->host != h || !c->host_held || c->host_epoch != h->epoch) continue;
        c->host_held = false;
        c->host_scout = true;
        h->held--;
        h->scouts++;
        struct event ev = rt_event(EV_LET_GO, conn, 0);
        ev.let_go.within_ms = RETURN_MS_MIN;
        rt_post(rt, &ev);
        return true;
    }
    return false;
}

static void host_leave(struct runtime *rt, struct rt_conn *c)
{
    struct rt_host *h = c->host;
    if (!h) return;
    const bool scout = c->host_scout && c->host_epoch == h->epoch;
    unhold(c);
    if (scout) {
        c->host_scouted = h->key;
        scout_send(rt, h);
    }
    c->host = NULL;
    c->host_epoch = 0;
    c->point.host = 0;
    c->point.host_name = NULL;
    ASSERT(h->users > 0);
    if (--h->users) return;
    struct rt_host **at = &rt->weather.hosts;
    while (*at != h) at = &(*at)->next;
    *at = h->next;
    if (h->releasing) rt->weather.releasing--;
    free(h);
}

static void host_join(struct runtime *rt, struct rt_conn *c, struct rt_host *h)
{
    if (c->host == h) return;
    if (h) h->users++; /* first: it may be the same memory's last */
    host_leave(rt, c);
    c->host = h;
    c->host_prepares = h && strcmp(h->name, c->point.platform_name) == 0;
}

static void scouts_plan(struct runtime *rt, struct rt_host *h)
{
    h->scouts_ms = rt_clock(rt).mono_ms + SCOUTS_AFTER_MS;
    if (!rt->weather.scouts_ms || h->scouts_ms < rt->weather.scouts_ms) rt->weather.scouts_ms = h->scouts_ms;
}

/* Those whose time has come begin. */
static void scouts_begin(struct runtime *rt)
{
    const uint64_t now = rt_clock(rt).mono_ms;
    rt->weather.scouts_ms = 0;
    for (struct rt_host *h = rt->weather.hosts; h; h = h->next) {
        if (!h->failing) continue;
        if (h->scouts_ms > now) {
            if (!rt->weather.scouts_ms || h->scouts_ms < rt->weather.scouts_ms) rt->weather.scouts_ms = h->scouts_ms;
            continue;
        }
        while (h->failing >= HOLD_FAILING_MIN && h->scouts < HOLD_SCOUTS && scout_send(rt, h)) {}
    }
}

static void host_failed(struct runtime *rt, struct rt_conn *c)
{
    struct rt_host *h = c->host;
    if (c->host_epoch != h->epoch) {
        unhold(c);
        c->host_epoch = h->epoch;
        if (!h->failing++) scouts_plan(rt, h);
    }
    if (c->host_held && h->held) h->held--;
    c->host_held = false;
    if (h->failing < HOLD_FAILING_MIN || c->host_scout) return;
    if (h->scouts < HOLD_SCOUTS && rt_clock(rt).mono_ms >= h->scouts_ms) {
        h->scouts++;
        c->host_scout = true;
        return;
    }
    c->host_held = true;
    h->held++;
    rt->weather.held_total++;
    struct event ev = rt_event(EV_HELD_BACK, c->self, 0);
    rt_post(rt, &ev);
}

/* It answers again: those that were held back return, spread out. */
static void host_succeeded(struct runtime *rt, struct rt_host *h)
{
    if (!h->failing) return;
    h->epoch++;
    h->failing = h->scouts = 0;
    if (!h->held || h->releasing) return;
    h->releasing = true;
    h->release_at = 0;
    h->release_within_ms = (uint64_t)h->held * RETURN_EACH_MS;
    if (h->release_within_ms < RETURN_MS_MIN) h->release_within_ms = RETURN_MS_MIN;
    if (h->release_within_ms > RETURN_MS_MAX) h->release_within_ms = RETURN_MS_MAX;
    rt->weather.releasing++;
}

static void host_release(struct runtime *rt, struct rt_host *h)
{
    struct handle conn;
    for (uint32_t n = 0; n < RELEASE_SLICE && runtime_next(rt, &h->release_at, &conn); n++, h->release_at++) {
        struct rt_conn *c = rt_conn_get(rt, conn);
        if (!c || c->host != h || !c->host_held) continue;
        c->host_held = c->host_scout = false;
        if (h->held) h->held--;
        struct event ev = rt_event(EV_LET_GO, conn, 0);
        ev.let_go.within_ms = h->release_within_ms;
        rt_post(rt, &ev);
    }
    if (h->release_at < rt->conns_max) return;
    h->releasing = false;
    rt->weather.releasing--;
}

/* --- fronts --------------------------------------------------------------------------------------------------- */

void rt_weather_tick(struct runtime *rt)
{
    for (struct rt_host *h = rt->weather.hosts, *next; h && rt->weather.releasing; h = next) {
        next = h->next;
        if (h->releasing) host_release(rt, h);
    }
    if (rt->weather.scouts_ms && rt_clock(rt).mono_ms >= rt->weather.scouts_ms) scouts_begin(rt);
    if (rt->weather.dirty && rt_clock(rt).mono_ms >= rt->weather.judged_ms + JUDGE_EVERY_MS) judge(rt);
}

uint64_t rt_weather_due_ms(const struct runtime *rt)
{
    if (rt->weather.releasing) return 0;
    const uint64_t judged = rt->weather.dirty ? rt->weather.judged_ms + JUDGE_EVERY_MS : ENGINE_NEVER;
    return rt->weather.scouts_ms && rt->weather.scouts_ms < judged ? rt->weather.scouts_ms : judged;
}

/* What a platform announced, or a policy failed with, has a name of its own. */
static void name_causes(struct runtime *rt)
{
    struct handle conn;
    struct engine_view view;
    for (uint32_t i = 0; i < rt->weather.front_count; i++) {
        struct weather_front *f = &rt->weather.fronts[i];
        if (!f->one_cause || (f->kind != CAUSE_ENDED && f->kind != CAUSE_FAILED)) continue;
        for (uint32_t k = 0; !f->cause[0] && runtime_next(rt, &k, &conn); k++) {
            const struct rt_conn *c = rt_conn_get(rt, conn);
            if (weather_covers(f, &c->point) && engine_get(rt->engine, conn, &view) && view.decision.cause.kind == f->kind)
                text_copy(f->cause, sizeof f->cause, view.decision.cause.name, strlen(view.decision.cause.name));
        }
    }
}

static void judge(struct runtime *rt)
{
    struct weather_front before[WEATHER_FRONTS_MAX];
    const uint32_t before_count = rt->weather.front_count;
    struct weather_point *points = calloc(rt->conn_count + 1, sizeof *points);
    void *scratch = malloc(weather_scratch_bytes(rt->conn_count));
    uint32_t n = 0, failing = 0;
    struct handle conn;
    rt->weather.dirty = false;
    rt->weather.judged_ms = rt_clock(rt).mono_ms;
    for (uint32_t i = 0; points && n < rt->conn_count && runtime_next(rt, &i, &conn); i++) {
        points[n] = rt_conn_get(rt, conn)->point;
        failing += points[n++].failing;
    }
    memcpy(before, rt->weather.fronts, sizeof before);
    if (points && scratch) {
        rt->weather.front_count = !failing ? 0 : weather_judge(points, n, before, before_count, rt->weather.fronts, scratch);
        name_causes(rt);
        tell_fronts(rt, before, before_count);
    }
    free(points);
    free(scratch);
}

static const struct weather_front *front_find(const struct weather_front *fronts, uint32_t count,
                                              const struct weather_front *wanted)
{
    for (uint32_t i = 0; i < count; i++)
        if (fronts[i].scope == wanted->scope && fronts[i].key == wanted->key) return &fronts[i];
    return NULL;
}

static void tell_fronts(struct runtime *rt, const struct weather_front *before, uint32_t before_count)
{
    char text[WEATHER_TEXT_MAX], span[DURATION_TEXT_MAX];
    const uint64_t wall_ms = rt_clock(rt).wall_ms;
    for (uint32_t i = 0; i < rt->weather.front_count; i++) {
        const struct weather_front *f = &rt->weather.fronts[i];
        if (front_find(before, before_count, f)) continue;
        rt->weather.fronts_total++;
        rt_log(rt, LOG_WARNING, NULL, "weather: %s", weather_text(f, text));
    }
    for (uint32_t i = 0; i < before_count; i++) {
        const struct weather_front *f = &before[i];
        if (front_find(rt->weather.fronts, rt->weather.front_count, f)) continue;
        rt_log(rt, LOG_INFO, NULL, "weather: over after %s: %s",
               duration_span(wall_ms > f->since_wall_ms ? wall_ms - f->since_wall_ms : 0, span), weather_text(f, text));
    }
}

static const struct weather_front *front_of(const struct runtime *rt, const struct rt_conn *c)
{
    for (uint32_t i = 0; i < rt->weather.front_count; i++)
        if (weather_covers(&rt->weather.fronts[i], &c->point)) return &rt->weather.fronts[i];
    return NULL;
}

/* Once per front, with the next failure: its journal says that it is not alone. */
static void note_front(struct runtime *rt, struct rt_conn *c, uint32_t generation)
{
    char text[WEATHER_TEXT_MAX];
    const struct weather_front *f = front_of(rt, c);
    if (!f || c->front_noted == f->key + 1 + (uint64_t)f->scope) return;
    c->front_noted = f->key + 1 + (uint64_t)f->scope;
    rt_journal_note(rt, c, generation, JOURNAL_NOTE, "not alone: %s", weather_text(f, text));
}

uint32_t runtime_weather(const struct runtime *rt, struct weather_front out[WEATHER_FRONTS_MAX])
{
    memcpy(out, rt->weather.fronts, rt->weather.front_count * sizeof *out);
    return rt->weather.front_count;
}

const struct weather_front *rt_weather_front(const struct runtime *rt, const struct rt_conn *c)
{
    return front_of(rt, c);
}

struct runtime_held runtime_held(const struct runtime *rt)
{
    struct runtime_held held = { .total = rt->weather.held_total };
    for (const struct rt_host *h = rt->weather.hosts; h; h = h->next) {
        held.now += h->held;
        held.hosts += h->failing >= HOLD_FAILING_MIN;
    }
    return held;
}
