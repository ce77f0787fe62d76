/* Disk: a file system in memory that forgets. Holds for each file what a program sees, and what a power
 * cut may bring back: everything since the last sync, sector by sector. Knows no store and no world: whoever
 * has it gives it the time, and says at each call whether it fails.
 *
 * Glossary
 *   dead     the process or the machine is over: every call fails and changes nothing until disk_revive()
 *   unsynced a sector, a size or an entry of the folder that a power cut may take back to any of its
 *            versions since the last sync, each by its own draw; a sector may also be torn, half of one
 *            version and half of the next */
#ifndef HOLDFAST_SIM_DISK_H
#define HOLDFAST_SIM_DISK_H

#include "store/vfs.h"

#define DISK_SECTOR_BYTES 512u

struct disk; /* opaque */

enum disk_call { DISK_OPEN, DISK_READ, DISK_WRITE, DISK_TRUNCATE, DISK_SYNC, DISK_REMOVE };

struct disk_options {
    uint64_t seed;
    /* Asked before each call; anything but OK is its answer. A write that FAILED may have left a part of
     * itself; a sync that FAILED may have synced, or forgotten what it should have written. NULL: nothing fails. */
    enum store_disk_result (*fails)(void *self, enum disk_call call, const char *name);
    void *self;
    bool lies; /* a sync says yes and does nothing: whoever rests on it must be found out */
};

struct disk *disk_create(const struct disk_options *options); /* owned; ends on lack of memory */
void disk_destroy(struct disk *d);
/* Borrowed until disk_destroy(). */
struct store_disk disk_table(struct disk *d);
void disk_set_wall_ms(struct disk *d, uint64_t wall_ms);
/* So many bytes may be added to its files from now on; UINT64_MAX: as many as you like. */
void disk_set_room(struct disk *d, uint64_t bytes);

/* Calls that change something, so far. */
uint64_t disk_changes(const struct disk *d);
/* After so many more of them it is dead. */
void disk_die_after(struct disk *d, uint64_t changes);
void disk_die(struct disk *d);
bool disk_is_dead(const struct disk *d);
/* Another process opens it. `power`: the machine was off, and what was not synced is drawn. No file may be
 * open: whoever died still closes what it had. */
void disk_revive(struct disk *d, bool power);

struct disk_file_view {
    char name[128];
    uint64_t bytes;
    uint32_t unsynced;  /* versions of sectors that a power cut may bring back */
};
/* Index from 0, by name. */
bool disk_file_get(const struct disk *d, uint32_t index, struct disk_file_view *out);
struct disk_counts {
    uint64_t writes, written_bytes, syncs, failures, cuts;
};
void disk_counts(const struct disk *d, struct disk_counts *out);
/* Overwrites bytes behind everybody's back, synced. False: no such file, or it is shorter. */
bool disk_scribble(struct disk *d, const char *name, uint64_t at, const void *bytes, size_t len);
/* Hash over all files: names, sizes, bytes as a program sees them. */
uint64_t disk_hash(const struct disk *d);

#endif
