/* A power cut: for each thing that was not synced one of its versions, by draw. What a kernel writes back
 * on its own is a sector as it was at some moment, so a later write to a sector never stays without the
 * earlier ones, but between two sectors there is no order at all. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "sim/disk_internal.h"

/* How a cut treats one file: much of what goes wrong needs most of a file to be old, or new. */
enum cut_mode { CUT_OLD, CUT_NEW, CUT_MIXED, CUT_TORN, CUT_MODE_COUNT };

struct cutter {
    uint64_t seed, cut, draws;
};

static uint64_t draw(struct cutter *c)
{
    return rng_draw(c->seed, 0xc07, c->cut, c->draws++);
}

static int by_sector(const void *a, const void *b)
{
    const struct saved *x = a, *y = b;
    if (x->sector != y->sector) return x->sector < y->sector ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Which of the versions from `low` to `high`; the last of all is what is there now. */
static uint32_t choose(struct cutter *c, enum cut_mode mode, uint32_t low, uint32_t high)
{
    if (mode == CUT_OLD) return low;
    if (mode == CUT_NEW) return high;
    return (uint32_t)rng_range(draw(c), low, high);
}

/* `size`: the place in f->sizes of the size that stays. */
static void cut_sector(struct cutter *c, enum cut_mode mode, struct inode *f, uint64_t sector, uint32_t size,
                       const struct saved *past, uint32_t count)
{
    uint8_t now[DISK_SECTOR_BYTES], out[DISK_SECTOR_BYTES];
    /* A truncation is one change of the file: all that it took is there again, or none of it is. */
    uint32_t low = 0, high = count;
    for (uint32_t i = 0; i < count; i++) {
        if (!past[i].shrink) continue;
        if (size >= past[i].shrink) low = i + 1;
        else if (i < high) high = i;
    }
    if (low > high) low = high;
    uint32_t k = choose(c, mode, low, high);
    disk__sector_read(f, sector, now);
    memcpy(out, k < count ? past[k].bytes : now, sizeof out);
    if (mode == CUT_TORN && k < high && draw(c) % 4 == 0) {
        size_t torn = (size_t)rng_range(draw(c), 0, DISK_SECTOR_BYTES);
        memcpy(out, k + 1 < count ? past[k + 1].bytes : now, torn);
    }
    uint64_t at = sector * DISK_SECTOR_BYTES;
    if (at + DISK_SECTOR_BYTES > f->len) disk__resize(f, at + DISK_SECTOR_BYTES);
    memcpy(f->bytes + at, out, sizeof out);
}

static void cut_file(struct cutter *c, struct inode *f)
{
    enum cut_mode mode = (enum cut_mode)(draw(c) % CUT_MODE_COUNT);
    uint32_t k = choose(c, mode, 0, f->size_count);
    uint64_t len = k < f->size_count ? f->sizes[k] : f->len;
    if (f->saved_count) qsort(f->saved, f->saved_count, sizeof *f->saved, by_sector);
    for (uint32_t i = 0, next; i < f->saved_count; i = next) {
        for (next = i; next < f->saved_count && f->saved[next].sector == f->saved[i].sector;) next++;
        cut_sector(c, mode, f, f->saved[i].sector, k, &f->saved[i], next - i);
    }
    disk__resize(f, len);
    f->saved_count = f->size_count = f->forgotten_count = 0;
}

void disk_revive(struct disk *d, bool power)
{
    for (uint32_t i = 0; i < d->inode_count; i++) {
        ASSERT(d->inodes[i] == NULL || d->inodes[i]->open_count == 0);
    }
    d->dead = false;
    d->die_after = UINT64_MAX;
    if (!power) return;
    struct cutter c = { .seed = d->options.seed, .cut = d->counts.cuts++ };
    for (uint32_t i = 0; i < d->inode_count; i++) {
        if (d->inodes[i]) cut_file(&c, d->inodes[i]);
    }
    for (uint32_t i = 0; i < d->entry_count; i++) {
        struct entry *e = &d->entries[i];
        uint32_t k = (uint32_t)rng_range(draw(&c), 0, e->past_count);
        if (k < e->past_count) e->inode = e->past[k];
        e->past_count = 0;
    }
}
