/* Disk: files, their unsynced past, and what a power cut makes of it. A write saves the sectors that it
 * is about to change; a sync forgets what was saved; a cut chooses among what was saved and what is. */
#include "sim/disk.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/text.h"
#include "sim/disk_internal.h"

#define PIECE_BYTES 2048u /* of a long write, each of which may be the last */

static void *alloc(size_t bytes)
{
    void *p = calloc(1, bytes ? bytes : 1);
    ASSERT(p != NULL); /* a test tool: out of memory is out of luck */
    return p;
}

void *disk__grown(void *items, uint32_t count, uint32_t *capacity, size_t size)
{
    if (count < *capacity) return items;
    *capacity = *capacity ? *capacity * 2 : 16;
    items = realloc(items, *capacity * size);
    ASSERT(items != NULL);
    return items;
}

struct disk *disk_create(const struct disk_options *options)
{
    struct disk *d = alloc(sizeof *d);
    d->options = *options;
    d->room_bytes = UINT64_MAX;
    d->die_after = UINT64_MAX;
    return d;
}

static void inode_free(struct inode *f)
{
    if (!f) return;
    free(f->bytes);
    free(f->saved);
    free(f->sizes);
    free(f);
}

void disk_destroy(struct disk *d)
{
    if (!d) return;
    for (uint32_t i = 0; i < d->inode_count; i++) inode_free(d->inodes[i]);
    for (uint32_t i = 0; i < d->entry_count; i++) {
        free(d->entries[i].name);
        free(d->entries[i].past);
    }
    free(d->inodes);
    free(d->entries);
    free(d);
}

void disk_set_wall_ms(struct disk *d, uint64_t wall_ms)
{
    d->wall_ms = wall_ms;
}

void disk_set_room(struct disk *d, uint64_t bytes)
{
    d->room_bytes = bytes;
}

uint64_t disk_changes(const struct disk *d)
{
    return d->changes;
}

void disk_die_after(struct disk *d, uint64_t changes)
{
    d->die_after = changes == UINT64_MAX ? UINT64_MAX : d->changes + changes;
}

void disk_die(struct disk *d)
{
    d->dead = true;
}

bool disk_is_dead(const struct disk *d)
{
    return d->dead;
}

/* ---- entries and inodes ----------------------------------------------------------------------------------- */

static struct entry *entry_find(const struct disk *d, const char *name)
{
    for (uint32_t i = 0; i < d->entry_count; i++) {
        if (strcmp(d->entries[i].name, name) == 0) return &d->entries[i];
    }
    return NULL;
}

static struct inode *inode_of(const struct disk *d, uint32_t number)
{
    return number >= 1 && number <= d->inode_count ? d->inodes[number - 1] : NULL;
}

static struct inode *file_of(const struct disk *d, const char *name)
{
    const struct entry *e = entry_find(d, name);
    return e ? inode_of(d, e->inode) : NULL;
}

static void entry_set(struct entry *e, uint32_t inode)
{
    e->past = disk__grown(e->past, e->past_count, &e->past_capacity, sizeof *e->past);
    e->past[e->past_count++] = e->inode;
    e->inode = inode;
}

static uint32_t inode_new(struct disk *d, const char *name)
{
    struct inode *f = alloc(sizeof *f);
    text_copy(f->name, sizeof f->name, name, strlen(name));
    for (uint32_t i = 0; i < d->inode_count; i++) {
        if (d->inodes[i]) continue;
        d->inodes[i] = f;
        return i + 1;
    }
    d->inodes = disk__grown(d->inodes, d->inode_count, &d->inode_capacity, sizeof *d->inodes);
    d->inodes[d->inode_count++] = f;
    return d->inode_count;
}

/* What no entry names any more, not even in what a cut may bring back, and nobody has open. */
static void sweep(struct disk *d)
{
    for (uint32_t i = 0; i < d->inode_count; i++) {
        struct inode *f = d->inodes[i];
        bool wanted = f && f->open_count > 0;
        for (uint32_t j = 0; f && !wanted && j < d->entry_count; j++) {
            const struct entry *e = &d->entries[j];
            wanted = e->inode == i + 1;
            for (uint32_t k = 0; !wanted && k < e->past_count; k++) wanted = e->past[k] == i + 1;
        }
        if (!f || wanted) continue;
        inode_free(f);
        d->inodes[i] = NULL;
    }
}

/* ---- calls -------------------------------------------------------------------------------------------------- */

static enum store_disk_result begin(struct disk *d, enum disk_call call, const char *name)
{
    if (d->dead) return STORE_DISK_FAILED;
    enum store_disk_result r = STORE_DISK_OK;
    if (d->options.fails) r = d->options.fails(d->options.self, call, name);
    if (r != STORE_DISK_OK) d->counts.failures++;
    return r;
}

/* A call that changes something: it may be the one that is not made any more. */
static bool lives(struct disk *d)
{
    if (d->dead) return false;
    if (d->changes >= d->die_after) {
        d->dead = true;
        return false;
    }
    d->changes++;
    return true;
}

static uint64_t draw(struct disk *d)
{
    return rng_draw(d->options.seed, 0xd15c, d->draws++, 0);
}

static enum store_disk_result on_open(void *self, const char *name, bool writes, bool create,
                                      uint32_t *file_out)
{
    struct disk *d = self;
    struct entry *e = entry_find(d, name);
    bool there = e && e->inode;
    if (d->dead) return STORE_DISK_FAILED;
    if (!there && !create) return STORE_DISK_MISSING;
    if (writes) {
        enum store_disk_result r = begin(d, DISK_OPEN, name);
        if (r != STORE_DISK_OK) return r;
    }
    if (!there) {
        if (!lives(d)) return STORE_DISK_FAILED;
        if (!e) {
            d->entries = disk__grown(d->entries, d->entry_count, &d->entry_capacity, sizeof *e);
            e = &d->entries[d->entry_count++];
            *e = (struct entry){ .name = strdup(name) };
            ASSERT(e->name != NULL);
        }
        entry_set(e, inode_new(d, name));
    }
    *file_out = e->inode;
    inode_of(d, e->inode)->open_count++;
    return STORE_DISK_OK;
}

static void on_close(void *self, uint32_t file)
{
    struct disk *d = self;
    struct inode *f = inode_of(d, file);
    ASSERT(f != NULL && f->open_count > 0);
    if (--f->open_count == 0) sweep(d);
}

static enum store_disk_result on_read(void *self, uint32_t file, uint64_t at, void *out, size_t len,
                                      size_t *got_out)
{
    struct disk *d = self;
    struct inode *f = inode_of(d, file);
    enum store_disk_result r = begin(d, DISK_READ, f->name);
    if (r != STORE_DISK_OK) return r;
    size_t got = at < f->len ? (f->len - at < len ? (size_t)(f->len - at) : len) : 0;
    if (got) memcpy(out, f->bytes + at, got);
    *got_out = got;
    return STORE_DISK_OK;
}

/* A write makes all of its sector dirty again. */
static void remember(struct inode *f, uint64_t sector)
{
    for (uint32_t i = 0; i < f->saved_count && f->forgotten_count; i++) {
        if (!f->saved[i].forgotten || f->saved[i].sector != sector) continue;
        f->saved[i].forgotten = false;
        f->forgotten_count--;
    }
}

static void save(struct inode *f, uint64_t from, uint64_t to, uint32_t shrink)
{
    for (uint64_t sector = from / DISK_SECTOR_BYTES; sector * DISK_SECTOR_BYTES < to; sector++) {
        f->saved = disk__grown(f->saved, f->saved_count, &f->saved_capacity, sizeof *f->saved);
        struct saved *s = &f->saved[f->saved_count];
        remember(f, sector);
        s->sector = sector;
        s->forgotten = false;
        s->shrink = shrink;
        s->order = f->saved_count++;
        disk__sector_read(f, sector, s->bytes);
    }
}

void disk__sector_read(const struct inode *f, uint64_t sector, uint8_t *out)
{
    uint64_t at = sector * DISK_SECTOR_BYTES;
    size_t got = 0;
    if (at < f->len) got = f->len - at < DISK_SECTOR_BYTES ? (size_t)(f->len - at) : DISK_SECTOR_BYTES;
    if (got) memcpy(out, f->bytes + at, got);
    memset(out + got, 0, DISK_SECTOR_BYTES - got);
}

void disk__resize(struct inode *f, uint64_t len)
{
    if (len > f->capacity) {
        uint64_t capacity = f->capacity ? f->capacity : 4096;
        while (capacity < len) capacity *= 2;
        f->bytes = realloc(f->bytes, capacity);
        ASSERT(f->bytes != NULL);
        f->capacity = capacity;
    }
    if (len > f->len) memset(f->bytes + f->len, 0, (size_t)(len - f->len));
    f->len = len;
}

static void resize(struct inode *f, uint64_t len)
{
    if (len == f->len) return;
    f->sizes = disk__grown(f->sizes, f->size_count, &f->size_capacity, sizeof *f->sizes);
    f->sizes[f->size_count++] = f->len;
    disk__resize(f, len);
}

static void put(struct disk *d, struct inode *f, uint64_t at, const void *bytes, size_t len)
{
    if (len == 0) return;
    save(f, at, at + len, 0);
    if (at + len > f->len) resize(f, at + len);
    memcpy(f->bytes + at, bytes, len);
    d->counts.writes++;
    d->counts.written_bytes += len;
}

static enum store_disk_result on_write(void *self, uint32_t file, uint64_t at, const void *bytes,
                                       size_t len)
{
    struct disk *d = self;
    struct inode *f = inode_of(d, file);
    enum store_disk_result r = begin(d, DISK_WRITE, f->name);
    uint64_t more = at + len > f->len ? at + len - f->len : 0;
    if (r == STORE_DISK_OK && more > d->room_bytes) {
        d->counts.failures++;
        r = STORE_DISK_FULL;
    }
    if (r == STORE_DISK_FULL || r == STORE_DISK_READ_ONLY) return r;
    if (r != STORE_DISK_OK) {
        if (!lives(d)) return STORE_DISK_FAILED;
        size_t part = (size_t)rng_range(draw(d), 0, len / DISK_SECTOR_BYTES + 1) * DISK_SECTOR_BYTES;
        put(d, f, at, bytes, part < len ? part : len);
        return r;
    }
    /* A kernel carries a long one out piece by piece, and whoever dies may die between two of them. */
    for (size_t done = 0; done < len; done += PIECE_BYTES) {
        if (!lives(d)) return STORE_DISK_FAILED;
        put(d, f, at + done, (const uint8_t *)bytes + done, len - done < PIECE_BYTES ? len - done : PIECE_BYTES);
    }
    if (d->room_bytes != UINT64_MAX) d->room_bytes -= more;
    return STORE_DISK_OK;
}

static enum store_disk_result on_truncate(void *self, uint32_t file, uint64_t len)
{
    struct disk *d = self;
    struct inode *f = inode_of(d, file);
    enum store_disk_result r = begin(d, DISK_TRUNCATE, f->name);
    if (r != STORE_DISK_OK) return r;
    if (!lives(d)) return STORE_DISK_FAILED;
    if (len < f->len) {
        save(f, len, f->len, f->size_count + 1); /* resize() notes the size at this place */
        if (d->room_bytes != UINT64_MAX) d->room_bytes += f->len - len;
    }
    resize(f, len);
    return STORE_DISK_OK;
}

static void synced(struct inode *f)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < f->saved_count && f->forgotten_count; i++) {
        if (!f->saved[i].forgotten) continue;
        f->saved[kept] = f->saved[i];
        f->saved[kept].order = kept;
        f->saved[kept].shrink = 0;
        kept++;
    }
    f->saved_count = kept;
    f->size_count = 0;
}

/* What a kernel makes of a sync that failed: it was written after all, it is still to be written, or it is
 * forgotten and the next sync says that all is well. */
static void sync_failed(struct disk *d, struct inode *f)
{
    switch (draw(d) % 3) {
    case 0: synced(f); break;
    case 1: break;
    default:
        for (uint32_t i = 0; i < f->saved_count; i++) f->saved[i].forgotten = true;
        f->forgotten_count = f->saved_count;
    }
}

static enum store_disk_result on_sync(void *self, uint32_t file)
{
    struct disk *d = self;
    struct inode *f = inode_of(d, file);
    enum store_disk_result r = begin(d, DISK_SYNC, f->name);
    if (!lives(d)) return STORE_DISK_FAILED;
    d->counts.syncs++;
    if (d->options.lies) return r;
    if (r == STORE_DISK_OK) synced(f);
    else sync_failed(d, f);
    return r;
}

static enum store_disk_result on_size(void *self, uint32_t file, uint64_t *bytes_out)
{
    struct disk *d = self;
    if (d->dead) return STORE_DISK_FAILED;
    *bytes_out = inode_of(d, file)->len;
    return STORE_DISK_OK;
}

static enum store_disk_result on_remove(void *self, const char *name)
{
    struct disk *d = self;
    struct entry *e = entry_find(d, name);
    enum store_disk_result r = begin(d, DISK_REMOVE, name);
    if (r != STORE_DISK_OK) return r;
    if (!e || !e->inode) return STORE_DISK_MISSING;
    if (!lives(d)) return STORE_DISK_FAILED;
    entry_set(e, 0);
    return STORE_DISK_OK;
}

static bool on_exists(void *self, const char *name)
{
    struct disk *d = self;
    return !d->dead && file_of(d, name) != NULL;
}

static enum store_disk_result on_sync_folder(void *self)
{
    struct disk *d = self;
    enum store_disk_result r = begin(d, DISK_SYNC, "/");
    if (!lives(d)) return STORE_DISK_FAILED;
    d->counts.syncs++;
    if (r != STORE_DISK_OK && !(draw(d) & 1)) return r;
    for (uint32_t i = 0; i < d->entry_count; i++) d->entries[i].past_count = 0;
    sweep(d);
    return r;
}

static uint64_t on_wall_ms(void *self)
{
    struct disk *d = self;
    return d->wall_ms;
}

struct store_disk disk_table(struct disk *d)
{
    return (struct store_disk){ .self = d,
                                .open = on_open,
                                .close = on_close,
                                .read = on_read,
                                .write = on_write,
                                .truncate = on_truncate,
                                .sync = on_sync,
                                .size = on_size,
                                .remove = on_remove,
                                .exists = on_exists,
                                .sync_folder = on_sync_folder,
                                .wall_ms = on_wall_ms };
}

/* ---- looking -------------------------------------------------------------------------------------------------- */

bool disk_file_get(const struct disk *d, uint32_t index, struct disk_file_view *out)
{
    for (uint32_t i = 0; i < d->entry_count; i++) {
        const struct inode *f = inode_of(d, d->entries[i].inode);
        uint32_t before = 0;
        for (uint32_t j = 0; f && j < d->entry_count; j++) {
            if (d->entries[j].inode && strcmp(d->entries[j].name, d->entries[i].name) < 0) before++;
        }
        if (!f || before != index) continue;
        *out = (struct disk_file_view){ .bytes = f->len, .unsynced = f->saved_count };
        text_copy(out->name, sizeof out->name, d->entries[i].name, strlen(d->entries[i].name));
        return true;
    }
    return false;
}

void disk_counts(const struct disk *d, struct disk_counts *out)
{
    *out = d->counts;
}

bool disk_scribble(struct disk *d, const char *name, uint64_t at, const void *bytes, size_t len)
{
    struct inode *f = file_of(d, name);
    if (!f || at + len > f->len) return false;
    memcpy(f->bytes + at, bytes, len);
    return true;
}

uint64_t disk_hash(const struct disk *d)
{
    struct disk_file_view v;
    uint64_t hash = 0;
    for (uint32_t i = 0; disk_file_get(d, i, &v); i++) {
        const struct inode *f = file_of(d, v.name);
        hash = rng_draw(hash, hash_text(v.name), f->len, hash_bytes(f->bytes, (size_t)f->len));
    }
    return hash;
}
