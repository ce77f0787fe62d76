/* Weather: see weather.h. Groups are counted in one pass in a table of the caller's; then the widest are taken
 * first, and what they explain is not explained again. */
#include "engine/weather.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/duration.h"
#include "base/text.h"

struct weather_group {
    enum weather_scope scope;
    bool one_cause, one_stage;
    uint64_t key;
    uint32_t total, failing;
    uint64_t since_wall_ms;
    const struct weather_point *first; /* of those that fail */
    uint32_t stages[STAGE_COUNT];
};

/* Groups side by side in the order of their finding, and where each is by its key: thousands of connections are
 * judged each second of an outage, and most places of a sparse table would be empty. */
struct table {
    struct weather_group *groups;
    uint32_t count;
    uint32_t *places;  /* 1 + index of a group; 0: nobody's */
    uint32_t capacity; /* of places: a power of two */
};

static void count_in(struct table *t, enum weather_scope scope, uint64_t key, const struct weather_point *p);
static bool is_local(const struct weather_point *p);
static bool is_network(const struct weather_point *p);
static bool is_front(const struct weather_group *g, const struct weather_front *before, uint32_t before_count);
static void take(const struct weather_group *g, struct weather_front *out);

/* This machine, this network, and for each its platform, host and account. */
static size_t groups_most(uint32_t points)
{
    return (size_t)points * 3 + 2;
}

static uint32_t capacity_of(uint32_t points)
{
    uint32_t capacity = 16;
    while (capacity < groups_most(points) * 2) capacity *= 2;
    return capacity;
}

size_t weather_scratch_bytes(uint32_t points)
{
    return groups_most(points) * sizeof(struct weather_group) + capacity_of(points) * sizeof(uint32_t);
}

uint32_t weather_judge(const struct weather_point *points, uint32_t count, const struct weather_front *before,
                       uint32_t before_count, struct weather_front out[WEATHER_FRONTS_MAX], void *scratch)
{
    struct table t = { .groups = scratch, .capacity = capacity_of(count) };
    t.places = (uint32_t *)(void *)(t.groups + groups_most(count));
    struct weather_front known[WEATHER_FRONTS_MAX], found[WEATHER_FRONTS_MAX];
    uint32_t n = 0, hosts = 0;
    uint64_t host = 0;
    ASSERT(before_count <= WEATHER_FRONTS_MAX);
    if (before_count) memcpy(known, before, before_count * sizeof *known);
    memset(t.places, 0, t.capacity * sizeof *t.places);
    for (uint32_t i = 0; i < count; i++) {
        const struct weather_point *p = &points[i];
        if (!p->wanted) continue;
        /* Of the widest two only what fails their way counts as failing. */
        struct weather_point local = *p, network = *p;
        local.failing = p->failing && is_local(p);
        network.failing = p->failing && is_network(p);
        count_in(&t, WEATHER_MACHINE, 0, local.failing ? p : p->failing ? NULL : p);
        count_in(&t, WEATHER_NETWORK, 0, network.failing ? p : p->failing ? NULL : p);
        if (network.failing && p->host != host) {
            host = p->host;
            hosts++;
        }
        if (p->platform) count_in(&t, WEATHER_PLATFORM, p->platform, p);
        if (p->host) count_in(&t, WEATHER_HOST, p->host, p);
        if (p->account) count_in(&t, WEATHER_ACCOUNT, p->account, p);
    }
    for (int scope = 0; scope < WEATHER_SCOPES; scope++) {
        for (uint32_t i = 0; i < t.count; i++) {
            const struct weather_group *g = &t.groups[i];
            if (g->scope != (enum weather_scope)scope || !g->first) continue;
            /* One host that is away is no network. */
            if (g->scope == WEATHER_NETWORK && hosts < 2) continue;
            if (!is_front(g, known, before_count)) continue;
            bool explained = false;
            for (uint32_t k = 0; k < n && !explained; k++)
                explained = found[k].scope < g->scope && weather_covers(&found[k], g->first);
            if (explained) continue;
            /* The most failing first, and of too many the least go. What is narrower than one that went is no larger,
             * so it comes in for it only where it would have been before. */
            if (n == WEATHER_FRONTS_MAX && g->failing <= found[n - 1].failing) continue;
            if (n < WEATHER_FRONTS_MAX) n++;
            uint32_t k = n - 1;
            for (; k > 0 && found[k - 1].failing < g->failing; k--) found[k] = found[k - 1];
            take(g, &found[k]);
        }
    }
    if (n) memcpy(out, found, n * sizeof *found);
    return n;
}

bool weather_covers(const struct weather_front *f, const struct weather_point *p)
{
    if (!p->wanted || !p->failing) return false;
    switch (f->scope) {
    case WEATHER_MACHINE: return is_local(p);
    case WEATHER_NETWORK: return is_network(p);
    case WEATHER_PLATFORM: return p->platform == f->key;
    case WEATHER_HOST: return p->host == f->key;
    case WEATHER_ACCOUNT: return p->account == f->key;
    case WEATHER_SCOPES: break;
    }
    ASSERT(!"scope");
    return false;
}

const char *weather_text(const struct weather_front *f, char out[WEATHER_TEXT_MAX])
{
    char at[TIMESTAMP_TEXT_MAX], who[WEATHER_NAME_MAX + 24], code[32] = "";
    /* "HTTP 503" says more than that a policy could not go on. */
    const bool named = !f->http_status || f->kind != CAUSE_FAILED;
    if (f->one_cause && f->http_status) snprintf(code, sizeof code, "%sHTTP %d", named ? ", " : "", f->http_status);
    else if (f->one_cause && f->close_code > 0) snprintf(code, sizeof code, " with %d", f->close_code);
    timestamp_format(f->since_wall_ms, at);
    switch (f->scope) {
    case WEATHER_MACHINE: snprintf(who, sizeof who, "this machine"); break;
    case WEATHER_NETWORK: snprintf(who, sizeof who, "this network"); break;
    case WEATHER_HOST: snprintf(who, sizeof who, "host %s", f->name); break;
    case WEATHER_ACCOUNT: snprintf(who, sizeof who, "the account of %s", f->name); break;
    default: snprintf(who, sizeof who, "%s", f->name); break;
    }
    snprintf(out, WEATHER_TEXT_MAX, "%s: %u of %u connections failing %s%s since %.5s UTC, %s%s%s", who, f->failing,
             f->total, f->one_stage ? "at " : "mostly at ", stage_name(f->stage), at + 11,
             f->one_cause ? "one cause: " : "several causes", !f->one_cause || !named ? "" : f->cause[0] ? f->cause : cause_kind_name(f->kind), code);
    return out;
}

const char *weather_scope_name(enum weather_scope s)
{
    static const char *const names[] = {
#define X(name, text) text,
        WEATHER_SCOPE_MAP(X)
#undef X
    };
    ASSERT(s < WEATHER_SCOPES);
    return names[s];
}

/* --- counting ------------------------------------------------------------------------------------------------ */

static bool same_cause(const struct weather_point *a, const struct weather_point *b)
{
    return a->kind == b->kind && a->close_code == b->close_code && a->http_status == b->http_status;
}

/* `p` NULL: one of those that the group could have, which fails another way. */
static void count_in(struct table *t, enum weather_scope scope, uint64_t key, const struct weather_point *p)
{
    uint32_t at = (uint32_t)((key * 0x9e3779b97f4a7c15u + (uint64_t)scope * 0x2545f491u) >> 32) & (t->capacity - 1);
    struct weather_group *g = NULL;
    for (; t->places[at]; at = (at + 1) & (t->capacity - 1)) {
        g = &t->groups[t->places[at] - 1];
        if (g->scope == scope && g->key == key) break;
    }
    if (!t->places[at]) {
        g = &t->groups[t->count++];
        t->places[at] = t->count;
        *g = (struct weather_group){ .scope = scope, .key = key, .one_cause = true, .one_stage = true };
    }
    g->total++;
    if (!p || !p->failing) return;
    g->failing++;
    g->stages[p->stage]++;
    if (!g->since_wall_ms || p->since_wall_ms < g->since_wall_ms) g->since_wall_ms = p->since_wall_ms;
    if (!g->first) {
        g->first = p;
        return;
    }
    if (!same_cause(g->first, p)) g->one_cause = false;
    if (g->first->stage != p->stage) g->one_stage = false;
}

/* Nobody else's doing. */
static bool is_local(const struct weather_point *p)
{
    if (p->kind == CAUSE_STORE || p->kind == CAUSE_INTERNAL) return true;
    return p->kind == CAUSE_IO && p->by == BY_US;
}

/* On the way to a host, before it said a word. */
static bool is_network(const struct weather_point *p)
{
    if (p->stage > STAGE_SECURING) return p->kind == CAUSE_SILENCE;
    switch (p->kind) {
    case CAUSE_RESOLVE:
    case CAUSE_UNREACHABLE:
    case CAUSE_CONNECT:
    case CAUSE_TIMEOUT:
    case CAUSE_PROXY:
    case CAUSE_CALL: return true;
    default: return false;
    }
}

static bool is_front(const struct weather_group *g, const struct weather_front *before, uint32_t before_count)
{
    uint32_t percent = WEATHER_BEGINS_PERCENT;
    for (uint32_t i = 0; i < before_count; i++)
        if (before[i].scope == g->scope && before[i].key == g->key) percent = WEATHER_ENDS_PERCENT;
    return g->failing >= WEATHER_FAILING_MIN && (uint64_t)g->failing * 100 >= (uint64_t)g->total * percent;
}

static void take(const struct weather_group *g, struct weather_front *out)
{
    const char *name = g->scope == WEATHER_PLATFORM ? g->first->platform_name
                       : g->scope == WEATHER_HOST   ? g->first->host_name
                       : g->scope == WEATHER_ACCOUNT ? g->first->name : "";
    *out = (struct weather_front){ .scope = g->scope,
                                   .key = g->key,
                                   .failing = g->failing,
                                   .total = g->total,
                                   .since_wall_ms = g->since_wall_ms,
                                   .kind = g->first->kind,
                                   .one_cause = g->one_cause,
                                   .one_stage = g->one_stage,
                                   .close_code = g->one_cause ? g->first->close_code : CLOSE_CODE_NONE,
                                   .http_status = g->one_cause ? g->first->http_status : 0 };
    for (int i = 0; i < STAGE_COUNT; i++)
        if (g->stages[i] > g->stages[out->stage]) out->stage = (enum stage)i;
    if (name) text_copy(out->name, sizeof out->name, name, strlen(name));
}
