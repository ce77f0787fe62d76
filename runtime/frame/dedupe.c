/* Seen keys: entries in a list by age, found through a table with open addressing. Both grow by
 * doubling up to `most` and never again; when memory is out, the oldest key makes room instead.
 * Reads no clock; a clock that steps back makes keys younger, never unknown. */
#include "frame/dedupe.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "frame/json_internal.h"
#include "frame/siphash.h"

#define NONE UINT32_MAX
#define ENTRIES_FIRST 16
#define ENTRIES_MAX (UINT32_C(1) << 26) /* 4 GB: whoever wants more has made a mistake */

struct entry {
    struct dedupe_key key;
    uint64_t at_ms;
    uint64_t offset;
    uint32_t older, newer; /* NONE at the ends; `newer` also links the free ones */
};

struct dedupe {
    struct entry *entries; /* owned */
    uint32_t *table;       /* owned; index of an entry, NONE: free; twice the entries, a power of 2 */
    uint32_t capacity;     /* entries allocated, a power of 2, or 0 */
    uint32_t count;
    uint32_t free, oldest, newest;
    uint32_t most;
    uint64_t over_ms;
    uint64_t seed_0, seed_1;
};

static uint32_t find(const struct dedupe *d, struct dedupe_key key, uint32_t *place_out);
static void evict(struct dedupe *d, uint32_t index);
static void append(struct dedupe *d, uint32_t index);
static void unlink_entry(struct dedupe *d, uint32_t index);
static bool grow(struct dedupe *d);
static void hash_number(struct siphash *h, uint64_t number);
static void hash_string(struct siphash *h, const struct field_value *v);

struct dedupe *dedupe_create(uint32_t most, uint64_t over_ms, uint64_t seed)
{
    struct dedupe *d = calloc(1, sizeof *d);
    if (!d) return NULL;
    d->most = most < ENTRIES_MAX ? most : ENTRIES_MAX;
    d->over_ms = over_ms;
    d->seed_0 = seed;
    d->seed_1 = rng_mix(seed ^ 0x9e3779b97f4a7c15u);
    d->free = d->oldest = d->newest = NONE;
    return d;
}

void dedupe_destroy(struct dedupe *d)
{
    if (!d) return;
    free(d->entries);
    free(d->table);
    free(d);
}

bool dedupe_key_of(const struct dedupe *d, const struct frame_rules *rules,
                   const struct field_value *values, struct dedupe_key *key_out)
{
    struct siphash h;
    siphash_start(&h, d->seed_0, d->seed_1);
    if (rules->dedupe.by_count == 0) return false;
    for (uint32_t i = 0; i < rules->dedupe.by_count; i++) {
        ASSERT(rules->dedupe.by[i] < FIELDS_MAX);
        const struct field_value *v = &values[rules->dedupe.by[i]];
        uint8_t kind = (uint8_t)v->kind; /* so that 5 and "5" differ */
        uint64_t before = h.total;
        siphash_feed(&h, &kind, 1);
        switch (v->kind) {
        case FIELD_ABSENT:
        case FIELD_NULL:
            return false;
        case FIELD_BOOL:
            siphash_feed(&h, v->boolean ? "1" : "0", 1);
            break;
        case FIELD_INTEGER:
            hash_number(&h, (uint64_t)v->integer);
            break;
        case FIELD_STRING:
            hash_string(&h, v);
            break;
        case FIELD_NUMBER:
        case FIELD_OTHER:
            siphash_feed(&h, v->text, v->len);
            break;
        }
        hash_number(&h, h.total - before); /* so that "ab", "c" and "a", "bc" differ */
    }
    siphash_end(&h, &key_out->high, &key_out->low);
    return true;
}

bool dedupe_seen(struct dedupe *d, struct dedupe_key key, uint64_t now_ms, uint64_t *offset_out)
{
    uint32_t place, index = find(d, key, &place);
    if (index == NONE) return false;
    const struct entry *e = &d->entries[index];
    if (now_ms > e->at_ms && now_ms - e->at_ms > d->over_ms) return false;
    if (offset_out) *offset_out = e->offset;
    return true;
}

void dedupe_add(struct dedupe *d, struct dedupe_key key, uint64_t now_ms, uint64_t offset)
{
    if (d->most == 0) return;
    uint32_t place, index = find(d, key, &place);
    if (index != NONE) {
        unlink_entry(d, index);
    } else {
        while (d->oldest != NONE) {
            uint64_t at_ms = d->entries[d->oldest].at_ms;
            bool expired = now_ms > at_ms && now_ms - at_ms > d->over_ms;
            if (!expired && d->count < d->most) break;
            evict(d, d->oldest);
        }
        if (d->free == NONE && !grow(d)) {
            if (d->oldest == NONE) return; /* not even room for one: such frames are delivered again */
            evict(d, d->oldest);
        }
        index = d->free;
        d->free = d->entries[index].newer;
        find(d, key, &place); /* evicting and growing move places */
        d->table[place] = index;
        d->entries[index].key = key;
        d->count++;
    }
    d->entries[index].at_ms = now_ms;
    d->entries[index].offset = offset;
    append(d, index);
    ASSERT(d->count <= d->most);
}

void dedupe_forget(struct dedupe *d, struct dedupe_key key)
{
    uint32_t place, index = find(d, key, &place);
    if (index != NONE) evict(d, index);
}

uint32_t dedupe_count(const struct dedupe *d)
{
    return d->count;
}

/* The entry's index or NONE; *place_out: where it is in the table, or where it would go. */
static uint32_t find(const struct dedupe *d, struct dedupe_key key, uint32_t *place_out)
{
    *place_out = 0;
    if (d->capacity == 0) return NONE;
    uint32_t mask = d->capacity * 2 - 1;
    uint32_t place = (uint32_t)key.low & mask;
    while (d->table[place] != NONE) { /* ends: the table is at most half full */
        const struct entry *e = &d->entries[d->table[place]];
        if (e->key.low == key.low && e->key.high == key.high) break;
        place = (place + 1) & mask;
    }
    *place_out = place;
    return d->table[place];
}

/* Forgets an entry. What follows it in the table moves up, so that no search ends early. */
static void evict(struct dedupe *d, uint32_t index)
{
    uint32_t hole, mask = d->capacity * 2 - 1;
    uint32_t found = find(d, d->entries[index].key, &hole);
    ASSERT(found == index);
    for (uint32_t next = (hole + 1) & mask; d->table[next] != NONE; next = (next + 1) & mask) {
        uint32_t home = (uint32_t)d->entries[d->table[next]].key.low & mask;
        if (((next - home) & mask) < ((next - hole) & mask)) continue; /* the hole lies before home */
        d->table[hole] = d->table[next];
        hole = next;
    }
    d->table[hole] = NONE;
    unlink_entry(d, index);
    d->entries[index].newer = d->free;
    d->free = index;
    d->count--;
}

static void append(struct dedupe *d, uint32_t index)
{
    d->entries[index].older = d->newest;
    d->entries[index].newer = NONE;
    if (d->newest != NONE) d->entries[d->newest].newer = index;
    if (d->oldest == NONE) d->oldest = index;
    d->newest = index;
}

static void unlink_entry(struct dedupe *d, uint32_t index)
{
    const struct entry *e = &d->entries[index];
    if (e->older != NONE) d->entries[e->older].newer = e->newer;
    if (e->newer != NONE) d->entries[e->newer].older = e->older;
    if (d->oldest == index) d->oldest = e->newer;
    if (d->newest == index) d->newest = e->older;
}

/* Doubles the room; false when it is all there already or memory is out, and nothing changed. */
static bool grow(struct dedupe *d)
{
    uint32_t capacity = d->capacity ? d->capacity * 2 : ENTRIES_FIRST;
    if (d->capacity >= d->most) return false;
    uint32_t *table = malloc(sizeof *table * capacity * 2);
    struct entry *entries = table ? realloc(d->entries, sizeof *entries * capacity) : NULL;
    if (!entries) {
        free(table);
        return false;
    }
    free(d->table);
    d->table = table;
    d->entries = entries;
    uint32_t first = d->capacity;
    d->capacity = capacity;
    memset(table, 0xff, sizeof *table * capacity * 2);
    for (uint32_t i = d->oldest; i != NONE; i = entries[i].newer) {
        uint32_t place;
        find(d, entries[i].key, &place);
        table[place] = i;
    }
    for (uint32_t i = first; i < capacity; i++) entries[i].newer = i + 1 < capacity ? i + 1 : d->free;
    d->free = first;
    return true;
}

static void hash_number(struct siphash *h, uint64_t number)
{
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(number >> 8 * i);
    siphash_feed(h, bytes, sizeof bytes);
}

static void hash_string(struct siphash *h, const struct field_value *v)
{
    const uint8_t *at = v->text, *end = v->text + v->len;
    while (at < end) {
        const uint8_t *stop = v->escaped ? memchr(at, '\\', (size_t)(end - at)) : NULL;
        if (!stop) stop = end;
        siphash_feed(h, at, (size_t)(stop - at));
        at = stop;
        if (at == end) break;
        uint8_t bytes[4];
        size_t n = json__unescape(&at, end, bytes);
        siphash_feed(h, bytes, n);
    }
}
