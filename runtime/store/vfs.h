/* VFS: a disk for SQLite that is a table of functions of its user. What runs over it is the same store
 * core as over files; the simulator gives it a disk that fails, fills up and forgets. Deterministic: the
 * same calls give the same bytes. Several can be registered, each under a name of its own.
 *
 * No shared memory and no locks: the core has its file for itself (locking_mode=EXCLUSIVE). A
 * journal's or WAL's folder is synced with its first sync, as SQLite's own VFS for Unix does it. */
#ifndef HOLDFAST_STORE_VFS_H
#define HOLDFAST_STORE_VFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum store_disk_result {
    STORE_DISK_OK,
    STORE_DISK_MISSING,   /* open without create, remove: there is no such file */
    STORE_DISK_READ_ONLY, /* may be read, not changed */
    STORE_DISK_FULL,
    STORE_DISK_FAILED,
};

/* Files are numbers from 1, given out by open(). Names are borrowed until return. All are called on the
 * thread that uses the database. */
struct store_disk {
    void *self;
    enum store_disk_result (*open)(void *self, const char *name, bool writes, bool create,
                                   uint32_t *file_out);
    void (*close)(void *self, uint32_t file);
    /* Fewer than `len` only at the end of the file. */
    enum store_disk_result (*read)(void *self, uint32_t file, uint64_t at, void *out, size_t len,
                                   size_t *got_out);
    enum store_disk_result (*write)(void *self, uint32_t file, uint64_t at, const void *bytes,
                                    size_t len);
    enum store_disk_result (*truncate)(void *self, uint32_t file, uint64_t bytes);
    enum store_disk_result (*sync)(void *self, uint32_t file);
    enum store_disk_result (*size)(void *self, uint32_t file, uint64_t *bytes_out);
    enum store_disk_result (*remove)(void *self, const char *name);
    bool (*exists)(void *self, const char *name);
    /* Entries of the folder: what was created and removed. */
    enum store_disk_result (*sync_folder)(void *self);
    uint64_t (*wall_ms)(void *self);
};

struct store_vfs; /* opaque */

/* `name`: for store_core_options.vfs; copied. `disk`: copied. NULL: memory is out, or the name is taken. */
struct store_vfs *store_vfs_register(const char *name, const struct store_disk *disk, uint64_t seed);
/* No file of it may be open. */
void store_vfs_unregister(struct store_vfs *v);
/* SQLite has one generator of random numbers in the whole process: this sets it by the seed and by how
 * often it was called. Before each use of a database, where runs must repeat. Never in a daemon. */
void store_vfs_reseed(struct store_vfs *v);

#endif
