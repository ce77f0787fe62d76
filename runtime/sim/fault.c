/* Fault table: owns the faults and their counters. What a fault does is up to whoever asked. */
#include "sim/fault.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/text.h"

static const struct {
    const char *name;
    bool streams;
} kinds[] = {
#define X(name, text, of_streams) [FAULT_##name] = { text, of_streams },
    FAULT_MAP(X)
#undef X
};

void faults_deinit(struct fault_table *t)
{
    for (uint32_t i = 0; i < t->count; i++) {
        free(t->items[i].headers);
        free(t->items[i].body);
    }
    free(t->items);
    memset(t, 0, sizeof *t);
}

uint32_t faults_add(struct fault_table *t, const struct fault *fault)
{
    if (t->count == t->capacity) {
        t->capacity = t->capacity ? t->capacity * 2 : 8;
        t->items = realloc(t->items, t->capacity * sizeof *t->items);
        ASSERT(t->items != NULL);
    }
    struct fault *f = &t->items[t->count++];
    *f = *fault;
    f->id = ++t->next_id;
    f->on = true;
    t->on_count[f->kind]++;
    return f->id;
}

struct fault *faults_get(struct fault_table *t, uint32_t id)
{
    return id >= 1 && id <= t->count ? &t->items[id - 1] : NULL;
}

static void switch_off(struct fault_table *t, struct fault *f)
{
    if (!f->on) return;
    f->on = false;
    ASSERT(t->on_count[f->kind] > 0);
    t->on_count[f->kind]--;
}

bool faults_off(struct fault_table *t, uint32_t id)
{
    struct fault *f = faults_get(t, id);
    if (!f || !f->on) return false;
    switch_off(t, f);
    return true;
}

void faults_off_all(struct fault_table *t)
{
    for (uint32_t i = 0; i < t->count; i++) switch_off(t, &t->items[i]);
}

bool fault_matches(const struct fault *f, const struct fault_subject *s)
{
    if (!(f->what & s->what)) return false;
    if (f->host[0] && !(s->host && text_glob(f->host, s->host))) return false;
    if (f->peer[0] && !(s->peer && strcmp(f->peer, s->peer) == 0)) return false;
    if (f->connection[0] && !(s->connection && text_glob(f->connection, s->connection))) {
        return false;
    }
    if (s->staged) return f->stage == s->stage;
    return f->stage == STAGE_NONE || f->stage == s->stage;
}

bool fault_hits(struct fault_table *t, struct fault *f)
{
    if (!f->on || f->times == 0) return false;
    if (f->probability < 1 &&
        rng_unit(rng_draw(t->seed, 0xfa017, f->id, f->draws++)) >= f->probability) {
        return false;
    }
    f->hits++;
    if (f->times != FAULT_TIMES_EVER && --f->times == 0) switch_off(t, f);
    return true;
}

const struct fault *faults_strike(struct fault_table *t, enum fault_kind kind,
                                  const struct fault_subject *subject)
{
    if (t->on_count[kind] == 0) return NULL;
    for (uint32_t i = 0; i < t->count; i++) {
        struct fault *f = &t->items[i];
        if (!f->on || f->kind != kind) continue;
        if (fault_matches(f, subject) && fault_hits(t, f)) return f;
    }
    return NULL;
}

const char *fault_name(enum fault_kind kind)
{
    ASSERT(kind < FAULT_COUNT);
    return kinds[kind].name;
}

bool fault_is_of_streams(enum fault_kind kind)
{
    ASSERT(kind < FAULT_COUNT);
    return kinds[kind].streams;
}

bool fault_parse(const char *name, enum fault_kind *kind_out)
{
    for (uint32_t i = 0; i < FAULT_COUNT; i++) {
        if (strcmp(kinds[i].name, name) != 0) continue;
        *kind_out = (enum fault_kind)i;
        return true;
    }
    return false;
}
