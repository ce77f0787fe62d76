/* Table: hashed chains, grown to one entry per bucket. Never shrinks, never owns an entry. */
#include "net/table.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/rng.h"

#define TABLE_BUCKETS_MIN 64u

static void table_grow(struct table *t);

static struct table_entry **bucket_of(const struct table *t, uint64_t id)
{
    return &t->buckets[rng_mix(id) & (t->bucket_count - 1)];
}

bool table_init(struct table *t)
{
    t->buckets = calloc(TABLE_BUCKETS_MIN, sizeof *t->buckets);
    t->bucket_count = TABLE_BUCKETS_MIN;
    t->count = 0;
    return t->buckets != NULL;
}

void table_deinit(struct table *t)
{
    free(t->buckets);
    t->buckets = NULL;
    t->count = 0;
}

void table_put(struct table *t, struct table_entry *e)
{
    ASSERT(table_find(t, e->id) == NULL);
    if (t->count >= t->bucket_count) table_grow(t);
    struct table_entry **bucket = bucket_of(t, e->id);
    e->next = *bucket;
    *bucket = e;
    t->count++;
}

struct table_entry *table_find(const struct table *t, uint64_t id)
{
    struct table_entry *e = *bucket_of(t, id);
    while (e && e->id != id) e = e->next;
    return e;
}

void table_remove(struct table *t, struct table_entry *e)
{
    struct table_entry **at = bucket_of(t, e->id);
    while (*at && *at != e) at = &(*at)->next;
    ASSERT(*at == e);
    *at = e->next;
    e->next = NULL;
    t->count--;
}

struct table_entry *table_any(const struct table *t)
{
    if (t->count == 0) return NULL;
    for (uint32_t i = 0; i < t->bucket_count; i++) {
        if (t->buckets[i]) return t->buckets[i];
    }
    return NULL;
}

static void table_grow(struct table *t)
{
    struct table bigger = { NULL, t->bucket_count * 2, 0 };
    bigger.buckets = calloc(bigger.bucket_count, sizeof *bigger.buckets);
    if (!bigger.buckets) return;
    for (uint32_t i = 0; i < t->bucket_count; i++) {
        struct table_entry *e = t->buckets[i];
        while (e) {
            struct table_entry *next = e->next;
            struct table_entry **bucket = bucket_of(&bigger, e->id);
            e->next = *bucket;
            *bucket = e;
            e = next;
        }
    }
    bigger.count = t->count;
    free(t->buckets);
    *t = bigger;
}
