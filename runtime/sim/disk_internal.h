/* What disk.c and disk_cut.c share. */
#ifndef HOLDFAST_SIM_DISK_INTERNAL_H
#define HOLDFAST_SIM_DISK_INTERNAL_H

#include "sim/disk.h"

/* A sector as it was before a write. */
struct saved {
    uint64_t sector;
    uint32_t order;
    uint32_t shrink;      /* 1 + the place in `sizes` of the size before the truncation that took it; 0: a write */
    bool forgotten;       /* a sync failed, and the kernel calls the sector clean: no later sync writes it */
    uint8_t bytes[DISK_SECTOR_BYTES];
};

struct inode {
    char name[128];       /* at its creation: for faults */
    uint8_t *bytes;       /* owned */
    uint64_t len, capacity;
    struct saved *saved;  /* owned: since the last sync, oldest first */
    uint32_t saved_count, saved_capacity, forgotten_count;
    uint64_t *sizes;      /* owned: likewise, each before it changed */
    uint32_t size_count, size_capacity;
    uint32_t open_count;
};

struct entry {
    char *name;           /* owned */
    uint32_t inode;       /* 0: there is none */
    uint32_t *past;       /* owned: since the folder's last sync, oldest first */
    uint32_t past_count, past_capacity;
};

struct disk {
    struct disk_options options;
    struct inode **inodes; /* owned, each too; NULL: free */
    uint32_t inode_count, inode_capacity;
    struct entry *entries; /* owned */
    uint32_t entry_count, entry_capacity;
    uint64_t wall_ms, room_bytes;
    uint64_t changes, die_after, draws;
    bool dead;
    struct disk_counts counts;
};

void *disk__grown(void *items, uint32_t count, uint32_t *capacity, size_t size);
/* Zeros behind the end. */
void disk__sector_read(const struct inode *f, uint64_t sector, uint8_t *out);
/* Without a trace in the past. */
void disk__resize(struct inode *f, uint64_t len);

#endif
