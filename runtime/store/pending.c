/* Pending: batches that wait for a disk to be well. Rewrites them
 * where they lie, so that it cannot fail for want of memory. */
#include "store/pending.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"

/* Where the newest request of a key stands; open addressing. */
struct newest {
    uint64_t key; /* 0: free */
    size_t at;
};

struct totals {
    size_t count, bytes, events, journal, seen; /* bytes of each kind */
};

static uint64_t key_of(const struct store_request *r);
static size_t slot_of(const struct newest *table, size_t mask, uint64_t key);
static struct newest *newest_of(const struct buffer *batch, size_t count, size_t *mask);
static bool take(size_t *excess, size_t size);

void pending_settle(struct buffer *batch, size_t from, bool unsure,
                    const struct pending_answer *answer)
{
    struct store_request r;
    size_t kept = from;
    ASSERT(from <= batch->len);
    for (size_t at = from, begun = from; store_batch_next(batch, &at, &r); begun = at) {
        size_t size = at - begun;
        bool gone = r.op == STORE_OP_FRAMES || (r.op == STORE_OP_PERMIT && !unsure);
        if (r.ticket) answer->failed(answer->to, r.ticket);
        if (gone) continue;
        memmove(batch->data + kept, batch->data + begun, size);
        batch__patch(batch, kept, r.op == STORE_OP_PERMIT ? STORE_OP_PERMIT_RETURN : r.op, 0);
        kept += size;
    }
    batch->len = kept;
}

uint64_t pending_shrink(struct buffer *batch, size_t bytes_max, const struct pending_answer *answer)
{
    struct store_request r;
    struct totals t = { 0 };
    size_t mask = 0, kept = 0;
    uint64_t dropped = 0;
    for (size_t at = 0; store_batch_next(batch, &at, &r);) t.count++;
    struct newest *table = newest_of(batch, t.count, &mask);
    for (size_t at = 0, begun = 0; store_batch_next(batch, &at, &r); begun = at) {
        uint64_t key = table && !r.ticket ? key_of(&r) : 0;
        if (key && table[slot_of(table, mask, key)].at != begun) continue;
        kept += at - begun;
        if (r.op == STORE_OP_EVENT) t.events += at - begun;
        if (r.op == STORE_OP_JOURNAL) t.journal += at - begun;
        if (r.op == STORE_OP_SEEN) t.seen += at - begun;
    }
    size_t excess = kept > bytes_max ? kept - bytes_max : 0;
    size_t events = excess, journal = excess > t.events ? excess - t.events : 0;
    size_t seen = journal > t.journal ? journal - t.journal : 0;

    kept = 0;
    for (size_t at = 0, begun = 0; store_batch_next(batch, &at, &r); begun = at) {
        uint64_t key = table && !r.ticket ? key_of(&r) : 0;
        size_t size = at - begun;
        bool gone = key && table[slot_of(table, mask, key)].at != begun;
        if (r.op == STORE_OP_EVENT && take(&events, size)) {
            gone = true;
            dropped++;
        }
        if (r.op == STORE_OP_JOURNAL && take(&journal, size)) gone = true;
        if (r.op == STORE_OP_SEEN && take(&seen, size)) gone = true;
        /* Not all before it will be safe. */
        if (r.op == STORE_OP_FRAMES && dropped) gone = true;
        if (gone && r.ticket) answer->failed(answer->to, r.ticket);
        if (gone) continue;
        memmove(batch->data + kept, batch->data + begun, size);
        kept += size;
    }
    free(table);
    batch->len = kept;
    return dropped;
}

/* The same for requests of which a later one makes an earlier one needless; 0: there is none such. */
static uint64_t key_of(const struct store_request *r)
{
    uint64_t key = rng_mix((uint64_t)r->op + 1);
    switch (r->op) {
    case STORE_OP_SESSION:
    case STORE_OP_KEEP:
    case STORE_OP_WISH:
    case STORE_OP_CONNECTION:
    case STORE_OP_TRIM:
        return rng_mix(key ^ hash_text(r->connection)) | 1;
    case STORE_OP_CURSOR:
        key = rng_mix(key ^ hash_text(r->consumer));
        return rng_mix(key ^ hash_text(r->connection)) | 1;
    case STORE_OP_CONSUMER:
        return rng_mix(key ^ hash_text(r->consumer)) | 1;
    case STORE_OP_TOLD:
        return rng_mix(rng_mix(key ^ r->account) ^ (uint64_t)r->budget) | 1;
    default:
        return 0;
    }
}

static size_t slot_of(const struct newest *table, size_t mask, uint64_t key)
{
    size_t i = key >> 1 & mask;
    while (table[i].key && table[i].key != key) i = (i + 1) & mask;
    return i;
}

/* NULL when memory is out: then nothing is joined. */
static struct newest *newest_of(const struct buffer *batch, size_t count, size_t *mask)
{
    struct store_request r;
    size_t size = 64;
    while (size < count * 2) size *= 2;
    struct newest *table = calloc(size, sizeof *table);
    if (!table) return NULL;
    *mask = size - 1;
    for (size_t at = 0, begun = 0; store_batch_next(batch, &at, &r); begun = at) {
        uint64_t key = key_of(&r);
        if (!key) continue;
        size_t i = slot_of(table, *mask, key);
        table[i] = (struct newest){ key, begun };
    }
    return table;
}

static bool take(size_t *excess, size_t size)
{
    if (*excess == 0) return false;
    *excess -= *excess < size ? *excess : size;
    return true;
}
